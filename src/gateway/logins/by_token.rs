//! Logins by a token: it is checked against the key set, and against its use elsewhere.

use super::super::token::{CLOCK_SKEW, Claims, TokenError, TokenId};
use super::super::turn::Screening;
use super::super::used_tokens::{Spending, TokenLogin};
use super::super::{Gateway, Turn};
use super::{Awaited, HeldRequest, Proved, unchecked};
use crate::call::context::Output;
use crate::config::JwtSettings;
use crate::config::grant::Grant;
use crate::errors::Code;
use crate::event::Event;
use crate::gateway::credential::Credential;
use crate::sip::digest::Secret;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::transaction::{Flow, Hop, Transmit};
use std::net::SocketAddr;

/// A token, who its sender claims to be, and what tokens are judged by.
pub(super) struct Bearer<'a> {
    /// Who the sender claims to be.
    pub(super) claimed: &'a str,
    /// The token.
    pub(super) token: &'a str,
    /// What it is judged by.
    pub(super) settings: &'a JwtSettings,
}

/// Why somebody is not let in by a token.
enum NoLogin {
    Wrong(String),
    /// The store is asked whether this token was used.
    Waits(TokenId),
    /// That cannot be said just now.
    Unchecked,
}

/// The token of an Authorization header of the Bearer scheme (RFC 8898 section 2.1.2).
pub(super) fn bearer(message: &Message) -> Option<&str> {
    message.all(HeaderName::Authorization).find_map(|value| {
        let (scheme, token) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
    })
}

impl Gateway {
    /// Proves the sender of a request by the token it brings.
    pub(super) fn admit_token(
        &mut self,
        turn: &mut Turn<'_>,
        flow: Flow,
        remote: SocketAddr,
        message: &Message,
        bearer: Bearer<'_>,
    ) -> Screening {
        let Bearer { claimed, token, settings } = bearer;
        // As with a password: a flow that has proved it is never braked, and where somebody has
        // logged in before, others' guesses do not lock it out.
        let proved = self.has_proved(turn.now, flow, claimed);
        let braked = || self.admission.braked(turn.now, remote.ip(), claimed);
        if let Some(braked) = (!proved).then(braked).flatten() {
            turn.push(Output::Event(Event::LoginRefused {
                user: claimed.chars().take(64).collect(),
                remote,
                code: braked.code,
                why: braked.why.clone(),
            }));
            return Screening::Refuse(braked);
        }
        let held = || HeldRequest { flow, remote, message: message.clone() };
        let Some(keys) = self.logins.keys.clone() else {
            return if self.logins.keys_due.is_some() && !self.logins.may_ask_keys(turn.now) {
                Screening::Refuse(unchecked())
            } else {
                self.hold_for_keys(turn, held())
            };
        };
        let why = match keys.verify(token, settings, self.unix(turn.now)) {
            Ok(claims) => match self.token_login(turn, flow, &claims, &bearer) {
                Ok(proved) => {
                    self.admission.right(turn.now, remote.ip(), &proved.user);
                    return self.prove(flow, claimed, proved);
                }
                Err(NoLogin::Waits(token)) => {
                    return self.hold(Awaited::Token(token), None, held(), turn.out);
                }
                Err(NoLogin::Unchecked) => return Screening::Refuse(unchecked()),
                Err(NoLogin::Wrong(why)) => why,
            },
            Err(TokenError::UnknownKey(_)) if self.logins.may_ask_keys(turn.now) => {
                return self.hold_for_keys(turn, held());
            }
            Err(TokenError::UnknownKey(why) | TokenError::Wrong(why)) => why,
        };
        self.admission.wrong(remote.ip(), claimed);
        let user = claimed.chars().take(64).collect();
        turn.push(Output::Event(Event::LoginRefused {
            user,
            remote,
            code: Code::TOKEN,
            why: format!("token: {why}"),
        }));
        let bytes = self.token_challenge(message, &why);
        turn.push(Output::Send(Transmit { hop: Hop::Flow(flow), bytes }));
        Screening::Handled
    }

    /// The account of a valid token.
    fn token_login(
        &mut self,
        turn: &mut Turn<'_>,
        flow: Flow,
        claims: &Claims,
        &Bearer { claimed, settings, .. }: &Bearer<'_>,
    ) -> Result<Proved, NoLogin> {
        if !Credential::is_name(&claims.sub) {
            return Err(NoLogin::Wrong("its sub is no name of a user".to_owned()));
        }
        let repeats =
            claims.webtrunk == Grant::default() && self.config.users.contains_key(&claims.sub);
        let (secret, context) = (Secret::new(""), settings.context.as_deref());
        let account =
            || claims.webtrunk.granted_user(&claims.sub, secret, context, &self.config).map(Some);
        let account = if repeats { None } else { account().map_err(NoLogin::Wrong)? };
        let until = claims.exp.saturating_add(CLOCK_SKEW);
        let mut proved =
            Proved { user: claims.sub.clone(), account, until: Some(until), token: None };
        // One for somebody else is refused, and not used by that.
        if settings.single_use && claims.sub == claimed {
            let token = claims.single(self.unix(turn.now)).map_err(NoLogin::Wrong)?;
            proved.token = Some(token);
            match self.spend_token(turn, TokenLogin { token, flow, until }) {
                Spending::Ours => {}
                Spending::Waits => return Err(NoLogin::Waits(token)),
                Spending::Full => return Err(NoLogin::Unchecked),
                Spending::Used => {
                    let why = "it was used before, and is good for one login";
                    return Err(NoLogin::Wrong(why.to_owned()));
                }
            }
        }
        Ok(proved)
    }
}
