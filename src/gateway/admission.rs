//! Who may ask for what. Unauthenticated requests get a stateless answer or silence, and leave
//! nothing behind.

use crate::errors::Code;
use crate::sip::digest::{Authenticator, Refused, Secret};
use crate::sip::message::Message;
use crate::sip::status::Refusal;
use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

/// Guesses a source may make per minute, and all sources may make at one user.
const GUESSES_PER_SOURCE: u32 = 20;
const GUESSES_PER_USER: u32 = 5;
/// Sources and users remembered; when full, the table starts over.
const MAX_REMEMBERED: usize = 10_000;

/// The outcome for a request from a browser.
#[derive(Debug)]
pub enum Admitted {
    User(String),
    /// Ask for credentials.
    Challenge {
        stale: bool,
    },
    Refused(Refusal),
    /// Somebody else knows whether there is such a user.
    Unasked(String),
}

/// What is known of a name.
#[derive(Debug)]
pub enum Known {
    Password(Secret),
    Nobody,
    /// It must be asked for.
    Unasked,
}

/// Digest, and the brakes on it.
pub struct Admission {
    authenticator: Authenticator,
    started: Instant,
    minute: u64,
    by_source: HashMap<IpAddr, u32>,
    by_user: HashMap<String, u32>,
    second: u64,
    new_calls: u32,
}

impl Admission {
    /// Fresh brakes round `authenticator`.
    pub fn new(now: Instant, authenticator: Authenticator) -> Admission {
        Admission {
            authenticator,
            started: now,
            minute: 0,
            by_source: HashMap::new(),
            by_user: HashMap::new(),
            second: 0,
            new_calls: 0,
        }
    }

    /// Seconds of the nonce clock: monotonic, one hour ahead so that it never underflows.
    fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs() + 3_600
    }

    /// The WWW-Authenticate values of one challenge.
    pub fn challenges(&self, now: Instant, random: u64, stale: bool) -> Vec<String> {
        self.authenticator.challenges(self.seconds(now), random, stale)
    }

    /// The refusal for a source that has guessed too often this minute.
    pub fn braked(&mut self, now: Instant, source: IpAddr) -> Option<Refusal> {
        let seconds = self.seconds(now);
        if seconds / 60 != self.minute
            || self.by_source.len() > MAX_REMEMBERED
            || self.by_user.len() > MAX_REMEMBERED
        {
            self.minute = seconds / 60;
            self.by_source.clear();
            self.by_user.clear();
        }
        let locked = self.by_source.get(&source).is_some_and(|n| *n >= GUESSES_PER_SOURCE);
        locked.then(|| {
            Refusal::new(403, "too many wrong passwords from this address")
                .code(Code::LOCKED_OUT)
                .retry_after(60)
        })
    }

    /// Somebody at `source` guessed wrong.
    pub fn wrong(&mut self, source: IpAddr, user: &str) {
        *self.by_source.entry(source).or_default() += 1;
        *self.by_user.entry(user.to_owned()).or_default() += 1;
    }

    /// Judges a request's credentials; `known` finds the password of a name.
    pub fn judge(
        &mut self,
        now: Instant,
        source: IpAddr,
        request: &Message,
        known: impl Fn(&str) -> Known,
    ) -> Admitted {
        if let Some(braked) = self.braked(now, source) {
            return Admitted::Refused(braked);
        }
        let seconds = self.seconds(now);
        let (by_user, unasked) = (&self.by_user, Cell::new(false));
        let secret_of = |name: &str| {
            if by_user.get(name).is_some_and(|n| *n >= GUESSES_PER_USER) {
                return None;
            }
            match known(name) {
                Known::Password(secret) => Some(secret),
                Known::Nobody => None,
                Known::Unasked => {
                    unasked.set(true);
                    None
                }
            }
        };
        match self.authenticator.verify(seconds, request, secret_of) {
            Ok(user) => Admitted::User(user.to_owned()),
            Err(Refused::Missing) => Admitted::Challenge { stale: false },
            Err(Refused::Stale) => Admitted::Challenge { stale: true },
            // The nonce is ours and fresh, so this is somebody who listens to us.
            Err(Refused::Wrong) if unasked.get() => Admitted::Unasked(claimed_user(request)),
            Err(Refused::Wrong) => {
                self.wrong(source, &claimed_user(request));
                Admitted::Refused(
                    Refusal::new(403, "wrong user or password").code(Code::LOGIN_REFUSED),
                )
            }
        }
    }

    /// Whether one more call may start this second.
    pub fn take_call(&mut self, now: Instant, limit: u32) -> bool {
        let second = self.seconds(now);
        if second != self.second {
            (self.second, self.new_calls) = (second, 0);
        }
        self.new_calls += 1;
        self.new_calls <= limit
    }
}

/// The user a request's credentials claim; cut, because it is a stranger's text.
pub fn claimed_user(request: &Message) -> String {
    let credentials = request.header(crate::sip::HeaderName::Authorization);
    let user = credentials
        .and_then(crate::sip::header::DigestParams::parse)
        .and_then(|d| d.get("username"));
    user.unwrap_or("?").chars().take(64).collect()
}
