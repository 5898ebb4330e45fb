//! The brakes on guessing tokens and passwords: the source of guesses pays, and the log has a line
//! about it a minute.

use crate::address::network_of;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Wrong tokens a source may give in a minute.
const MAX_TOKENS: u32 = 20;
/// Wrong passwords a source may give in a minute.
const MAX_PASSWORDS: u32 = 10;
/// Wrong passwords that all sources together may give for one name in a minute.
const MAX_OF_NAME: u32 = 60;
/// Passwords that a source which must wait may still try in a minute for a name that has logged in
/// there: who shares an address with a guesser is not locked out.
const MAX_AT_KNOWN: u32 = 5;
/// Lines of the log in a minute: one in ten seconds, as of everything.
const LINES: u32 = 6;
const MINUTE: Duration = Duration::from_secs(60);
/// Sources remembered; when full, those that guessed least make room.
const MAX_SOURCES: usize = 10_000;

/// Wrong guesses of this minute.
#[derive(Debug)]
struct Brake<K> {
    /// More than these are too many.
    most: u32,
    began: Option<Instant>,
    wrong: HashMap<K, u32>,
    /// Lines of the log that these were worth.
    lines: u32,
}

impl<K: Hash + Eq> Brake<K> {
    fn new(most: u32) -> Brake<K> {
        Brake { most, began: None, wrong: HashMap::new(), lines: 0 }
    }

    /// The seconds that are left of the minute, if there were too many.
    fn braked<Q: Hash + Eq + ?Sized>(&mut self, now: Instant, of: &Q) -> Option<u64>
    where
        K: Borrow<Q>,
    {
        let began = *self.began.get_or_insert(now);
        if now.saturating_duration_since(began) >= MINUTE {
            (self.began, self.wrong, self.lines) = (Some(now), HashMap::new(), 0);
            return None;
        }
        let left = MINUTE.saturating_sub(now.saturating_duration_since(began)).as_secs() + 1;
        self.wrong.get(of).is_some_and(|n| *n >= self.most).then_some(left)
    }

    /// Counts a wrong guess; returns whether it is worth a line of the log: the first of a minute,
    /// and the last before the brake, as long as there are few of them.
    fn wrong(&mut self, of: K) -> bool {
        if self.wrong.len() >= MAX_SOURCES && !self.wrong.contains_key(&of) {
            let least = self.wrong.values().copied().min().unwrap_or(0);
            self.wrong.retain(|_, n| *n > least);
        }
        let few = self.wrong.len() < 6;
        let wrong = self.wrong.entry(of).or_default();
        *wrong = wrong.saturating_add(1);
        let tells = (*wrong == self.most || (*wrong == 1 && few)) && self.lines < LINES;
        self.lines += u32::from(tells);
        tells
    }

    /// Takes one back that was counted before it was known to be right.
    fn forgive<Q: Hash + Eq + ?Sized>(&mut self, of: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some(wrong) = self.wrong.get_mut(of) {
            *wrong = wrong.saturating_sub(1);
        }
    }
}

/// Wrong tokens of this minute by source, and the sources that gave a right one.
#[derive(Debug)]
pub(crate) struct Guesses {
    wrong: Brake<IpAddr>,
    right: HashMap<IpAddr, Instant>,
}

impl Default for Guesses {
    fn default() -> Guesses {
        Guesses { wrong: Brake::new(MAX_TOKENS), right: HashMap::new() }
    }
}

impl Guesses {
    /// The seconds a source must wait, if it has guessed too often and has never been right.
    pub(crate) fn braked(&mut self, now: Instant, source: IpAddr) -> Option<u64> {
        let source = network_of(source);
        let braked = self.wrong.braked(now, &source);
        braked.filter(|_| !self.right.contains_key(&source))
    }

    /// A wrong token; returns whether it is worth a line of the log.
    pub(crate) fn wrong(&mut self, source: IpAddr) -> bool {
        self.wrong.wrong(network_of(source))
    }

    /// A right token.
    pub(crate) fn right(&mut self, now: Instant, source: IpAddr) {
        if self.right.len() >= MAX_SOURCES {
            self.right.clear();
        }
        self.right.insert(network_of(source), now);
    }
}

/// Passwords tried for the console's users.
///
/// Unlike a token a password can be guessed: nothing exempts a source. A name is braked as well,
/// for guesses may come from many sources, but never where its owner has logged in from; and there
/// its owner has a few tries whatever others guess.
#[derive(Debug)]
pub(crate) struct PasswordGuesses {
    by_source: Brake<IpAddr>,
    at_known: Brake<(String, IpAddr)>,
    by_name: Brake<String>,
    right: HashMap<(String, IpAddr), Instant>,
}

impl Default for PasswordGuesses {
    fn default() -> PasswordGuesses {
        let (by_source, by_name) = (Brake::new(MAX_PASSWORDS), Brake::new(MAX_OF_NAME));
        let at_known = Brake::new(MAX_AT_KNOWN);
        PasswordGuesses { by_source, at_known, by_name, right: HashMap::new() }
    }
}

impl PasswordGuesses {
    /// The seconds `source` must wait before it may try a password of `name`. Otherwise the guess
    /// is counted as wrong: many at once must not all pass before the first is known to be.
    ///
    /// # Errors
    /// The seconds until `source` may try again.
    pub(crate) fn try_one(
        &mut self,
        now: Instant,
        name: &str,
        source: IpAddr,
    ) -> Result<bool, u64> {
        let known = self.is_known(name, source);
        let source = network_of(source);
        let of_name = self.by_name.braked(now, name).filter(|_| !known);
        let of_source = self.by_source.braked(now, &source);
        if known && of_source.is_some() {
            let own = (name.to_owned(), source);
            if let Some(seconds) = self.at_known.braked(now, &own) {
                return Err(seconds);
            }
            self.at_known.wrong(own);
            self.by_source.wrong(source);
            return Ok(false);
        }
        if let Some(seconds) = of_source.or(of_name) {
            return Err(seconds);
        }
        let report = self.by_source.wrong(source);
        if !known {
            self.by_name.wrong(name.to_owned());
        }
        Ok(report)
    }

    /// The guess that was counted last was right.
    pub(crate) fn right(&mut self, now: Instant, name: &str, source: IpAddr) {
        let source = network_of(source);
        self.by_source.forgive(&source);
        self.by_name.forgive(name);
        self.at_known.forgive(&(name.to_owned(), source));
        if self.right.len() >= MAX_SOURCES {
            self.right.clear();
        }
        self.right.insert((name.to_owned(), source), now);
    }

    /// Whether somebody has logged in as `name` from there.
    pub(crate) fn is_known(&self, name: &str, source: IpAddr) -> bool {
        self.right.contains_key(&(name.to_owned(), network_of(source)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_of_many_sources_are_a_few_lines_of_the_log() {
        let (now, mut guesses) = (Instant::now(), Guesses::default());
        let source = |n: u32| IpAddr::from([0x2001, 0xdb8, n as u16, 0, 0, 0, 0, 1]);
        let lines = |guesses: &mut Guesses, now: Instant| {
            let mut lines = 0;
            for n in 0..500 {
                for _ in 0..=MAX_TOKENS {
                    guesses.braked(now, source(n));
                    lines += u32::from(guesses.wrong(source(n)));
                }
            }
            lines
        };
        assert_eq!(lines(&mut guesses, now), LINES);
        assert_eq!(lines(&mut guesses, now + Duration::from_secs(61)), LINES, "a minute later");
    }

    #[test]
    fn who_guesses_pays_and_nobody_else_does() {
        let now = Instant::now();
        let [guesser, neighbour, owner] =
            ["2001:db8::1", "2001:db8::2", "192.0.2.7"].map(|t| t.parse().expect("an address"));
        let mut guesses = Guesses::default();
        let mut lines = 0;
        for _ in 0..1_000 {
            if guesses.braked(now, guesser).is_none() {
                lines += u32::from(guesses.wrong(guesser));
            }
        }
        assert_eq!(lines, 2);
        assert!(guesses.braked(now, neighbour).is_some(), "a /64 is one source");
        assert!(guesses.braked(now, owner).is_none());
        // A dashboard at a shared address continues.
        guesses.right(now, owner);
        for _ in 0..100 {
            guesses.wrong(owner);
        }
        assert!(guesses.braked(now, owner).is_none());
        assert!(guesses.braked(now + MINUTE, guesser).is_none(), "a minute later");
    }

    #[test]
    fn a_password_is_guessed_by_nobody_and_a_name_from_many_places_neither() {
        let now = Instant::now();
        let source = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(n << 8));
        let mut guesses = PasswordGuesses::default();
        let home = source(1);
        assert!(guesses.try_one(now, "anna", home).is_ok());
        guesses.right(now, "anna", home);
        // Unlike with a token, having been right exempts nobody.
        let tries = (0..100).filter(|_| guesses.try_one(now, "bert", home).is_ok()).count();
        assert_eq!(tries, MAX_PASSWORDS as usize);
        // Who has logged in there is not locked out by that, and is guessed by nobody either.
        for _ in 0..100 {
            assert!(guesses.try_one(now, "anna", home).is_ok());
            guesses.right(now, "anna", home);
        }
        let tries = (0..100).filter(|_| guesses.try_one(now, "anna", home).is_ok()).count();
        assert_eq!(tries, MAX_AT_KNOWN as usize);
        let later = now + MINUTE;
        let mut tries = 0;
        for n in 2..500 {
            tries += (0..3).filter(|_| guesses.try_one(later, "anna", source(n)).is_ok()).count();
        }
        assert_eq!(tries, MAX_OF_NAME as usize, "all sources together");
        assert!(guesses.try_one(later, "anna", home).is_ok(), "where she has logged in from");
        assert!(guesses.try_one(later, "carl", source(9)).is_ok(), "another name");
        for n in 0..50_000 {
            let _ = guesses.try_one(later, &format!("u{n}"), source(n));
        }
        assert!(guesses.by_source.wrong.len() <= MAX_SOURCES);
        assert!(guesses.by_name.wrong.len() <= MAX_SOURCES);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut guesses = Guesses::default();
        let mut lines = 0;
        for n in 0..50_000u32 {
            let source = IpAddr::from(std::net::Ipv4Addr::from(n));
            lines += u32::from(guesses.wrong(source));
            guesses.right(Instant::now(), source);
        }
        assert!(guesses.wrong.wrong.len() <= MAX_SOURCES && guesses.right.len() <= MAX_SOURCES);
        assert!(lines < 50, "{lines} lines");
    }
}
