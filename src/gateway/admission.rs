//! Who may ask for what. Unauthenticated requests get a stateless answer or silence, and leave
//! nothing behind.

use crate::address::network_of;
use crate::errors::Code;
use crate::sip::digest::{Algorithm, Authenticator, DigestError, Secret};
use crate::sip::message::Message;
use crate::sip::status::Refusal;
use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

/// Guesses a source may make per minute.
const GUESSES_PER_SOURCE: u32 = 20;
/// Guesses a source that is locked out may still make per minute at a name that logged in there.
const GUESSES_AT_KNOWN: u32 = 5;
/// Sources remembered; when full, those that guessed least make room.
const MAX_REMEMBERED: usize = 10_000;
/// Characters of a name nobody has proved that are shown.
const SHOWN: usize = 64;

/// The outcome for a request from a browser.
#[derive(Debug)]
pub(crate) enum Admitted {
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
pub(crate) enum KnownCredentials {
    Password(Secret),
    Nobody,
    /// It must be asked for.
    Unasked,
}

/// Digest, and the brakes on it.
pub(crate) struct Admission {
    authenticator: Authenticator,
    started: Instant,
    minute: u64,
    /// Wrong guesses of this minute by source: the guesser pays, not the name that was guessed.
    by_source: HashMap<IpAddr, u32>,
    /// Names that gave the right password, by source, with the wrong ones of this minute: others
    /// at a shared address cannot lock them out.
    known: HashMap<(IpAddr, String), u32>,
}

impl Admission {
    /// Fresh brakes round `authenticator`.
    pub(crate) fn new(now: Instant, authenticator: Authenticator) -> Admission {
        Admission {
            authenticator,
            started: now,
            minute: 0,
            by_source: HashMap::new(),
            known: HashMap::new(),
        }
    }

    /// Sources and names that are counted.
    pub(crate) fn remembered(&self) -> usize {
        self.by_source.len() + self.known.len()
    }

    /// Seconds of the nonce clock: monotonic, one hour ahead so that it never underflows.
    fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs() + 3_600
    }

    /// The WWW-Authenticate values of one challenge.
    pub(crate) fn challenges(
        &self,
        now: Instant,
        random: u64,
        stale: bool,
    ) -> Vec<(Algorithm, String)> {
        self.authenticator.challenges(self.seconds(now), random, stale)
    }

    /// As [`challenges`](Self::challenges), in as few bytes as can be.
    pub(crate) fn short_challenge(&self, now: Instant, random: u64, stale: bool) -> String {
        self.authenticator.short_challenge(self.seconds(now), random, stale)
    }

    /// Returns the refusal for a source that has guessed too often in this minute, unless `user`
    /// has given the right password there before.
    pub(crate) fn braked(&mut self, now: Instant, source: IpAddr, user: &str) -> Option<Refusal> {
        let (seconds, source) = (self.seconds(now), network_of(source));
        if seconds / 60 != self.minute {
            self.minute = seconds / 60;
            self.by_source.clear();
            self.known.values_mut().for_each(|wrong| *wrong = 0);
        }
        if self.by_source.get(&source).is_none_or(|n| *n < GUESSES_PER_SOURCE)
            || self
                .known
                .get(&(source, user.to_owned()))
                .is_some_and(|wrong| *wrong < GUESSES_AT_KNOWN)
        {
            return None;
        }
        let left = 60 - seconds % 60;
        let why = format!("too many wrong passwords from this address: locked out for {left} s");
        Some(Refusal::new(403, why).code(Code::LOCKED_OUT).retry_after(left as u32))
    }

    /// Who a request says it is of, by the credentials that are judged: a stranger's text.
    pub(crate) fn claimed<'m>(&self, request: &'m Message) -> &'m str {
        self.authenticator.named(request).unwrap_or("?")
    }

    /// As [`claimed`](Self::claimed), cut for those who are told of it.
    pub(crate) fn claimed_briefly(&self, request: &Message) -> String {
        self.claimed(request).chars().take(SHOWN).collect()
    }

    /// Somebody at `source` guessed wrong.
    pub(crate) fn wrong(&mut self, source: IpAddr, user: &str) {
        let source = network_of(source);
        if self.by_source.len() >= MAX_REMEMBERED && !self.by_source.contains_key(&source) {
            let least = self.by_source.values().copied().min().unwrap_or(0);
            self.by_source.retain(|_, n| *n > least);
        }
        let guesses = self.by_source.entry(source).or_default();
        *guesses = guesses.saturating_add(1);
        if let Some(wrong) = self.known.get_mut(&(source, user.to_owned())) {
            *wrong = wrong.saturating_add(1);
        }
    }

    /// `user` gave the right password at `source`.
    fn right(&mut self, source: IpAddr, user: &str) {
        if self.known.len() >= MAX_REMEMBERED {
            self.known.clear();
        }
        self.known.entry((network_of(source), user.to_owned())).or_default();
    }

    /// Judges a request's credentials; `known` finds the password of a name. `proved`: the
    /// sender's connection has proved to be that name, and is never braked.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        source: IpAddr,
        proved: bool,
        request: &Message,
        known: impl Fn(&str) -> KnownCredentials,
    ) -> Admitted {
        let user = self.claimed(request).to_owned();
        // A request without a password guesses none: it gets a challenge.
        let gives = request.header(crate::sip::HeaderName::Authorization).is_some() && !proved;
        if let Some(braked) = gives.then(|| self.braked(now, source, &user)).flatten() {
            return Admitted::Refused(braked);
        }
        let (seconds, unasked) = (self.seconds(now), Cell::new(false));
        let secret_of = |name: &str| match known(name) {
            KnownCredentials::Password(secret) => Some(secret),
            KnownCredentials::Nobody => None,
            KnownCredentials::Unasked => {
                unasked.set(true);
                None
            }
        };
        match self.authenticator.verify(seconds, request, secret_of) {
            // Nobody else: who proves one name may write others beside it.
            Ok(proved) => {
                self.right(source, proved);
                Admitted::User(proved.to_owned())
            }
            Err(DigestError::Missing) => Admitted::Challenge { stale: false },
            Err(DigestError::Stale) => Admitted::Challenge { stale: true },
            // The nonce is ours and fresh, so this is somebody who listens to us.
            Err(DigestError::Wrong) if unasked.get() => Admitted::Unasked(user),
            Err(DigestError::OtherUri) => Admitted::Refused(
                Refusal::new(400, "the uri of the credentials is not the Request-URI")
                    .code(Code::LOGIN_REFUSED),
            ),
            Err(DigestError::Wrong) => {
                self.wrong(source, &user);
                Admitted::Refused(
                    Refusal::new(403, "wrong user or password").code(Code::LOGIN_REFUSED),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: usize) -> IpAddr {
        IpAddr::from((n as u32).to_be_bytes())
    }

    #[test]
    fn who_guessed_least_makes_room_and_who_is_locked_out_stays_so() {
        let now = Instant::now();
        let mut admission = Admission::new(now, Authenticator::new("x", 1, &[7; 32], &[]));
        let attacker = source(1);
        assert!(admission.braked(now, attacker, "bob").is_none());
        for n in 0..GUESSES_PER_SOURCE {
            admission.wrong(attacker, &format!("user{n}"));
        }
        let is_out = |admission: &mut Admission| admission.braked(now, attacker, "bob").is_some();
        assert!(is_out(&mut admission));
        for n in 2..3 * MAX_REMEMBERED {
            admission.wrong(source(n), "alice");
            assert!(admission.by_source.len() <= MAX_REMEMBERED);
        }
        assert!(is_out(&mut admission), "a crowd of others frees nobody");
        for n in 0..2 * MAX_REMEMBERED {
            admission.right(source(n), "alice");
            assert!(admission.known.len() <= MAX_REMEMBERED);
        }
        assert!(admission.remembered() <= 2 * MAX_REMEMBERED);
    }
}
