//! Passwords of the console's users, known by their argon2id hashes only (RFC 9106).

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use std::fmt;

/// Bytes of a password; more is nobody's, and costs time to hash.
pub const MAX_PASSWORD: usize = 1_024;
/// A password of fewer characters is guessed.
pub const MIN_PASSWORD: usize = 8;
/// The most memory that checking one password may take, KiB.
const MAX_MEMORY: u32 = 64 * 1_024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 4;
/// The length of names, bytes.
const MAX_NAME: usize = 64;

/// Whether a text may be the name of a console's user.
pub fn is_user_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+' | b'@'))
}

/// An argon2id hash with its salt and its costs.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(phc::PasswordHash);

impl PasswordHash {
    /// Reads `$argon2id$v=19$m=…,t=…,p=…$SALT$HASH`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<PasswordHash, String> {
        let hash = phc::PasswordHash::new(text).map_err(|_| "it is no hash".to_owned())?;
        if hash.algorithm != Algorithm::Argon2id.ident() {
            return Err(format!("it is made by {}, not by argon2id", hash.algorithm.as_str()));
        }
        if hash.version != Some(Version::V0x13.into()) {
            return Err("it is of another version of argon2 than 19".to_owned());
        }
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err("it has no salt, or no hash".to_owned());
        }
        let costs = Params::try_from(&hash).map_err(|e| e.to_string())?;
        let sound = costs.m_cost() <= MAX_MEMORY
            && costs.t_cost() <= MAX_PASSES
            && costs.p_cost() <= MAX_LANES;
        if !sound {
            return Err(format!(
                "it costs more than {MAX_MEMORY} KiB, {MAX_PASSES} passes or {MAX_LANES} lanes"
            ));
        }
        Ok(PasswordHash(hash))
    }

    /// The hash of `password`, with a salt that nobody else has.
    ///
    /// # Errors
    /// The password is too long, or there is no memory.
    pub fn make(password: &str, salt: [u8; 16]) -> Result<PasswordHash, String> {
        if password.len() > MAX_PASSWORD {
            return Err(format!("a password has at most {MAX_PASSWORD} bytes"));
        }
        let made = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
        made.map(PasswordHash).map_err(|e| e.to_string())
    }

    /// Whether this is the hash of `password`. Takes tens of milliseconds and megabytes.
    pub(crate) fn fits(&self, password: &str) -> bool {
        password.len() <= MAX_PASSWORD
            && Argon2::default().verify_password(password.as_bytes(), &self.0).is_ok()
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_fits_its_password_and_no_other() {
        let made = PasswordHash::make("correct horse", [7; 16]).expect("made");
        assert!(made.to_string().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let read = PasswordHash::parse(&made.to_string()).expect("our own");
        assert_eq!(read, made);
        assert!(read.fits("correct horse"));
        assert!(!read.fits("correct horsf") && !read.fits(""));
        assert!(!format!("{read:?}").contains("argon2id"));
        assert_ne!(PasswordHash::make("correct horse", [8; 16]).expect("made"), made);
    }

    #[test]
    fn a_password_hash_that_is_invalid_or_too_costly_is_reported() {
        let salt_and_hash = "$BwcHBwcHBwcHBwcHBwcHBw$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        for (text, why) in [
            ("secret", "no hash"),
            ("$argon2i$v=19$m=19456,t=2,p=1", "by argon2i,"),
            ("$argon2id$v=16$m=19456,t=2,p=1", "version"),
            ("$argon2id$v=19$m=4194304,t=2,p=1", "costs"),
            ("$argon2id$v=19$m=19456,t=99,p=1", "costs"),
        ] {
            let text =
                if text.contains('$') { format!("{text}{salt_and_hash}") } else { text.into() };
            let said = PasswordHash::parse(&text).expect_err(&text);
            assert!(said.contains(why), "{text}: {said}");
        }
        assert!(PasswordHash::make(&"x".repeat(MAX_PASSWORD + 1), [0; 16]).is_err());
        let made = PasswordHash::make("x", [0; 16]).expect("made");
        assert!(!made.fits(&"x".repeat(1 << 20)));
    }
}
