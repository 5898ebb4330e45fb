//! Credentials a web application hands to its visitors: a name that says until when, and a password
//! only we can make again (HMAC, as coturn's REST scheme). Nothing of them is stored.
//!
//! The name is `EXPIRES:USER` or `EXPIRES:USER:CONTEXT`, EXPIRES being seconds since 1970. With a
//! context the user need not be configured: a visitor, who may call what that dialplan allows and
//! transfer nothing.

use super::token::CLOCK_SKEW;
use crate::config::{Config, Credentials};
use crate::errors::Code;
use crate::sip::digest::Secret;
use crate::sip::status::Refusal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use std::fmt;
use std::time::Duration;

/// What such a name says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credential {
    /// Seconds since 1970.
    pub expires: u64,
    /// The user that it logs in.
    pub user: String,
    /// The dialplan's; the configured one if `None`.
    pub context: Option<String>,
}

/// Credentials of test calls last at most this long.
pub(crate) const DIRECT_LONGEST: Duration = Duration::from_secs(3_600);
/// Longest user of a credential, bytes.
const MAX_USER: usize = 64;

impl Credential {
    /// Reads a name; `None` if it is an ordinary one.
    pub(crate) fn parse(name: &str) -> Option<Credential> {
        let mut parts = name.split(':');
        let expires = parts
            .next()
            .filter(|e| e.len() <= 12 && e.bytes().all(|b| b.is_ascii_digit()))?
            .parse()
            .ok()?;
        let user = parts.next().filter(|u| Credential::is_name(u))?.to_owned();
        let context = parts.next().map(str::to_owned);
        (parts.next().is_none() && context.as_deref().is_none_or(Credential::is_name))
            .then_some(Credential { expires, user, context })
    }

    /// Whether a text may be a user or a context.
    pub(crate) fn is_name(text: &str) -> bool {
        (1..=MAX_USER).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+' | b'@'))
    }

    /// Whether it leads past every dialplan, straight to a trunk: only we make such, for test
    /// calls.
    pub(crate) fn is_direct_to_trunk(&self) -> bool {
        self.context.as_ref().is_some_and(|c| c.starts_with('@'))
    }

    /// What its password is made of: `trunk_test_secret` for those that lead past the dialplans,
    /// else what the web application knows too. `None` if such are not taken.
    pub(crate) fn secret(
        &self,
        trunk_test_secret: &Secret,
        settings: Option<&Credentials>,
    ) -> Option<Secret> {
        if self.is_direct_to_trunk() {
            Some(trunk_test_secret.clone())
        } else {
            settings.map(|s| s.secret.clone())
        }
    }

    /// The password that goes with it.
    pub fn password(&self, secret: &Secret) -> Secret {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
        Secret::new(URL_SAFE_NO_PAD.encode(hmac::sign(&key, self.to_string().as_bytes())))
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.expires, self.user)?;
        self.context.iter().try_for_each(|c| write!(f, ":{c}"))
    }
}

/// A TURN server's user name and password (coturn's `use-auth-secret`).
pub(crate) fn turn(secret: &Secret, expires: u64, user: &str) -> (String, String) {
    let name = format!("{expires}:{user}");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.reveal().as_bytes());
    let password = STANDARD.encode(hmac::sign(&key, name.as_bytes()));
    (name, password)
}

/// Whether credentials with a time in them may be used now: not too late, not for longer than
/// allowed, and for somebody there is.
///
/// # Errors
/// Why not.
pub(super) fn credential_fits(
    config: &Config,
    credential: &Credential,
    unix: u64,
) -> Result<(), Refusal> {
    let longest = match &config.credentials {
        _ if credential.is_direct_to_trunk() => DIRECT_LONGEST,
        Some(settings) => settings.longest,
        None => {
            return Err(Refusal::new(403, "no credentials with a time are taken here")
                .code(Code::LOGIN_REFUSED));
        }
    };
    let refused = |why: String| Err(Refusal::new(403, why).code(Code::CREDENTIALS_EXPIRED));
    if unix >= credential.expires {
        return refused(format!(
            "the credentials of {} expired {} s ago",
            credential.user,
            unix - credential.expires
        ));
    }
    let left = credential.expires - unix;
    if left > longest.as_secs() + CLOCK_SKEW {
        return refused(format!(
            "the credentials of {} would last {left} s, and {} s are allowed: do the clocks \
                differ?",
            credential.user,
            longest.as_secs()
        ));
    }
    let known = match &credential.context {
        Some(context) => config.plan.context(context).is_some(),
        None => config.users.contains_key(&credential.user),
    };
    if known {
        Ok(())
    } else {
        Err(Refusal::new(403, "wrong user or password").code(Code::LOGIN_REFUSED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_strictly_and_passwords_depend_on_every_part() {
        let secret = Secret::new("s3cret");
        let one = Credential::parse("1732200000:visitor-8c1:click-to-call").expect("a credential");
        assert_eq!(
            (one.expires, one.user.as_str(), one.context.as_deref()),
            (1_732_200_000, "visitor-8c1", Some("click-to-call"))
        );
        assert_eq!(one.to_string(), "1732200000:visitor-8c1:click-to-call");
        for other in [
            "1732200001:visitor-8c1:click-to-call",
            "1732200000:visitor-8c2:click-to-call",
            "1732200000:visitor-8c1",
        ] {
            let other = Credential::parse(other).expect("a credential");
            assert_ne!(other.password(&secret).reveal(), one.password(&secret).reveal());
        }
        assert_ne!(one.password(&Secret::new("another")).reveal(), one.password(&secret).reveal());
        for wrong in [
            "alice",
            ":alice",
            "12:",
            "12:a:b:c",
            "1 2:a",
            "12:a b",
            "9999999999999:a",
            "12:a:",
            "-1:a",
            "12:\u{e9}",
        ] {
            assert_eq!(Credential::parse(wrong), None, "{wrong}");
        }
    }

    /// The value coturn's documentation scheme gives: base64(HMAC-SHA1(secret, "1433895918:user")).
    #[test]
    fn turn_passwords_are_coturns() {
        let (name, password) = turn(&Secret::new("logen"), 1_433_895_918, "ninefingers");
        assert_eq!(name, "1433895918:ninefingers");
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"logen");
        assert!(
            hmac::verify(&key, name.as_bytes(), &STANDARD.decode(password).expect("base64"))
                .is_ok()
        );
    }
}
