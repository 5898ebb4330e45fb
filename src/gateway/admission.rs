//! Who may ask for what. Unauthenticated requests get a stateless answer or silence, and leave
//! nothing behind.

use crate::address::network_of;
use crate::errors::Code;
use crate::sip::digest::{Algorithm, Authenticator, DigestError, Fresh, Secret};
use crate::sip::message::Message;
use crate::sip::status::Refusal;
use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Guesses a source may make per minute.
const GUESSES_PER_SOURCE: u32 = 20;
/// Guesses a source that is locked out may still make per minute at a name that logged in there.
const GUESSES_AT_KNOWN: u32 = 5;
/// Sources remembered; when full, those that guessed least make room.
const MAX_REMEMBERED: usize = 10_000;
/// Names that logged in at one source which are remembered: whoever is handed one name after the
/// other makes nobody else's forgotten.
const MOST_KNOWN_OF_SOURCE: usize = 500;
/// A name is remembered for at least this long after its last login, and for twice as long at most.
const KNOWN: Duration = Duration::from_secs(24 * 3_600);
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

/// Where credentials come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoginSource {
    /// The address.
    pub(crate) ip: IpAddr,
    /// The way they came has proved to be of that name, which is never braked there.
    pub(crate) proved: bool,
    /// The address may be forged: only credentials for a challenge that was sent there count.
    pub(crate) forgeable: bool,
}

/// Names that logged in, by source, each with its wrong guesses of this minute. What has not logged
/// in for long is forgotten with the older half.
#[derive(Debug, Default)]
struct ProvedNames {
    since: Option<Instant>,
    young: HashMap<IpAddr, HashMap<String, u32>>,
    old: HashMap<IpAddr, HashMap<String, u32>>,
    /// Names in the younger half.
    count: usize,
}

impl ProvedNames {
    /// Wrong guesses of this minute at a name that logged in there.
    fn wrong(&mut self, source: IpAddr, user: &str) -> Option<&mut u32> {
        match self.young.get_mut(&source).and_then(|names| names.get_mut(user)) {
            Some(wrong) => Some(wrong),
            None => self.old.get_mut(&source)?.get_mut(user),
        }
    }

    fn note(&mut self, now: Instant, source: IpAddr, user: &str) {
        let aged = |since: Instant| now.saturating_duration_since(since) >= KNOWN;
        if self.since.is_none_or(aged) || self.count >= MAX_REMEMBERED {
            self.old = std::mem::take(&mut self.young);
            (self.since, self.count) = (Some(now), 0);
        }
        let wrong = self.wrong(source, user).map_or(0, |wrong| *wrong);
        let names = self.young.entry(source).or_default();
        if !names.contains_key(user) && names.len() < MOST_KNOWN_OF_SOURCE {
            names.insert(user.to_owned(), wrong);
            self.count += 1;
        }
    }

    /// Another minute begins.
    fn pardon(&mut self) {
        let all = self.young.values_mut().chain(self.old.values_mut());
        all.flat_map(HashMap::values_mut).for_each(|wrong| *wrong = 0);
    }

    fn len(&self) -> usize {
        self.young.values().chain(self.old.values()).map(HashMap::len).sum()
    }
}

/// Digest, and the brakes on it.
pub(crate) struct Admission {
    authenticator: Authenticator,
    started: Instant,
    minute: u64,
    /// Wrong guesses of this minute by source: the guesser pays, not the name that was guessed.
    by_source: HashMap<IpAddr, u32>,
    /// Names that logged in: others at a shared address cannot lock them out.
    known: ProvedNames,
}

impl Admission {
    /// Fresh brakes round `authenticator`.
    pub(crate) fn new(now: Instant, authenticator: Authenticator) -> Admission {
        Admission {
            authenticator,
            started: now,
            minute: 0,
            by_source: HashMap::new(),
            known: ProvedNames::default(),
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
    pub(crate) fn challenges(&self, now: Instant, fresh: Fresh) -> Vec<(Algorithm, String)> {
        self.authenticator.challenges(self.seconds(now), fresh)
    }

    /// As [`challenges`](Self::challenges), in as few bytes as can be.
    pub(crate) fn short_challenge(&self, now: Instant, fresh: Fresh) -> String {
        self.authenticator.short_challenge(self.seconds(now), fresh)
    }

    /// Returns the refusal for a source that has guessed too often in this minute, unless `user`
    /// has logged in there before.
    pub(crate) fn braked(&mut self, now: Instant, source: IpAddr, user: &str) -> Option<Refusal> {
        let (seconds, source) = (self.seconds(now), network_of(source));
        if seconds / 60 != self.minute {
            self.minute = seconds / 60;
            self.by_source.clear();
            self.known.pardon();
        }
        if self.by_source.get(&source).is_none_or(|n| *n < GUESSES_PER_SOURCE)
            || self.known.wrong(source, user).is_some_and(|wrong| *wrong < GUESSES_AT_KNOWN)
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
        if let Some(wrong) = self.known.wrong(source, user) {
            *wrong = wrong.saturating_add(1);
        }
    }

    /// `user` logged in at `source`.
    pub(crate) fn right(&mut self, now: Instant, source: IpAddr, user: &str) {
        self.known.note(now, network_of(source), user);
    }

    /// Judges a request's credentials; `known` finds the password of a name.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        from: LoginSource,
        request: &Message,
        known: impl Fn(&str) -> KnownCredentials,
    ) -> Admitted {
        let LoginSource { ip: source, proved, forgeable } = from;
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
        let only_for = forgeable.then_some(source);
        match self.authenticator.verify(seconds, request, only_for, secret_of) {
            // Nobody else: who proves one name may write others beside it.
            Ok(proved) => {
                self.right(now, source, proved);
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
        for n in 0..3 * MAX_REMEMBERED {
            admission.right(now, source(n), "alice");
            assert!(admission.known.len() <= 2 * MAX_REMEMBERED);
        }
        assert!(admission.remembered() <= 3 * MAX_REMEMBERED);
    }

    #[test]
    fn who_is_handed_one_name_after_the_other_makes_nobody_forgotten() {
        let now = Instant::now();
        let mut admission = Admission::new(now, Authenticator::new("x", 1, &[7; 32], &[]));
        let (office, page) = (source(1), source(2));
        admission.right(now, office, "bob");
        for n in 0..3 * MAX_REMEMBERED {
            admission.right(now, page, &format!("visitor{n}"));
        }
        assert_eq!(admission.known.len(), 1 + MOST_KNOWN_OF_SOURCE);
        assert!(admission.braked(now, office, "carl").is_none());
        for n in 0..GUESSES_PER_SOURCE {
            admission.wrong(office, &format!("user{n}"));
        }
        assert!(admission.braked(now, office, "carl").is_some());
        assert!(admission.braked(now, office, "bob").is_none(), "he has logged in there");
        // Once in a day is enough, and whoever never comes again is forgotten.
        let (mut now, mut days) = (now, 0);
        while days < 4 {
            now += KNOWN;
            days += 1;
            admission.right(now, page, "eve");
            admission.right(now, office, "bob");
        }
        assert_eq!(admission.known.len(), 4);
    }
}
