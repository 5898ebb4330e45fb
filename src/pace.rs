//! How fast something may go on: the one counter for users, trunks and the node.

use std::time::{Duration, Instant};

/// What a limit counts by.
const PERIOD: Duration = Duration::from_secs(1);

/// Counts what began within the current second, which begins with the first of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    since: Option<Instant>,
    taken: u32,
}

impl Pace {
    /// Returns `true`, and counts one more, if fewer than `limit` have begun in this second.
    pub(crate) fn take(&mut self, now: Instant, limit: Option<u32>) -> bool {
        if !self.is_current(now) {
            *self = Pace { since: Some(now), taken: 0 };
        }
        if limit.is_some_and(|limit| self.taken >= limit) {
            return false;
        }
        self.taken += 1;
        true
    }

    /// Returns whether its second goes on: after that it need not be kept.
    pub(crate) fn is_current(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) < PERIOD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_number_and_the_next_one_its_own() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let taken = |pace: &mut Pace, at| (0..5).filter(|_| pace.take(at, Some(3))).count();
        assert_eq!(taken(&mut pace, now), 3);
        assert_eq!(taken(&mut pace, now + Duration::from_millis(999)), 0);
        assert_eq!(taken(&mut pace, now + PERIOD), 3);
        assert!((0..100).all(|_| pace.take(now, None)), "no limit");
    }
}
