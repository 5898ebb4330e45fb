//! The brake on guessing API tokens: who guesses pays, and the log has a line of it a minute.

use crate::address::network_of;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Wrong tokens a source may give in a minute.
const MOST: u32 = 20;
const MINUTE: Duration = Duration::from_secs(60);
/// Sources remembered; when full, those that guessed least make room.
const MAX_SOURCES: usize = 10_000;

/// Where a request to the API comes from.
#[derive(Clone, Copy)]
pub(crate) struct Source(pub IpAddr);

/// Wrong tokens of this minute by source, and the sources that gave a right one.
#[derive(Default)]
pub(crate) struct Guesses {
    began: Option<Instant>,
    wrong: HashMap<IpAddr, u32>,
    right: HashMap<IpAddr, Instant>,
}

impl Guesses {
    /// The seconds a source must wait, if it has guessed too often and has never been right.
    pub(crate) fn braked(&mut self, now: Instant, source: IpAddr) -> Option<u64> {
        let began = *self.began.get_or_insert(now);
        if now.saturating_duration_since(began) >= MINUTE {
            (self.began, self.wrong) = (Some(now), HashMap::new());
            return None;
        }
        let source = network_of(source);
        let braked = self.wrong.get(&source).is_some_and(|n| *n >= MOST);
        let left = MINUTE.saturating_sub(now.saturating_duration_since(began)).as_secs() + 1;
        (braked && !self.right.contains_key(&source)).then_some(left)
    }

    /// A wrong token; returns whether it is worth a line of the log: a source's first of a minute,
    /// and the last before the brake.
    pub(crate) fn wrong(&mut self, source: IpAddr) -> bool {
        let source = network_of(source);
        if self.wrong.len() >= MAX_SOURCES && !self.wrong.contains_key(&source) {
            let least = self.wrong.values().copied().min().unwrap_or(0);
            self.wrong.retain(|_, n| *n > least);
        }
        let wrong = self.wrong.entry(source).or_default();
        *wrong = wrong.saturating_add(1);
        *wrong == MOST || (*wrong == 1 && self.wrong.len() <= 6)
    }

    /// A right token.
    pub(crate) fn right(&mut self, now: Instant, source: IpAddr) {
        if self.right.len() >= MAX_SOURCES {
            self.right.clear();
        }
        self.right.insert(network_of(source), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        // A dashboard at a shared address goes on.
        guesses.right(now, owner);
        for _ in 0..100 {
            guesses.wrong(owner);
        }
        assert!(guesses.braked(now, owner).is_none());
        assert!(guesses.braked(now + MINUTE, guesser).is_none(), "a minute later");
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
        assert!(guesses.wrong.len() <= MAX_SOURCES && guesses.right.len() <= MAX_SOURCES);
        assert!(lines < 50, "{lines} lines");
    }
}
