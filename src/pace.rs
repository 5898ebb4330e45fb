//! How fast something may continue: the one counter of windows of time, for users, sources, trunks
//! and the node.

use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Counts what began within the current window of time, which begins with the first of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    since: Option<Instant>,
    taken: u32,
}

impl Pace {
    /// Returns `true`, and counts one more, if fewer than `limit` have begun in this second.
    pub(crate) fn take(&mut self, now: Instant, limit: Option<u32>) -> bool {
        self.take_within(now, SECOND, limit.unwrap_or(u32::MAX)).is_ok()
    }

    /// Counts one more, or returns how long until one more may come if `most` have begun in this
    /// window of `length`.
    ///
    /// # Errors
    /// The time until one more may begin.
    pub(crate) fn take_within(
        &mut self,
        now: Instant,
        length: Duration,
        most: u32,
    ) -> Result<(), Duration> {
        let end = self.since.map(|since| since + length).filter(|end| *end > now);
        if end.is_none() {
            *self = Pace { since: Some(now), taken: 0 };
        }
        if self.taken >= most {
            return Err(end.map_or(length, |end| end - now));
        }
        self.taken += 1;
        Ok(())
    }
}

/// Counts what was to begin in a second, let in or not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Demand {
    since: Option<Instant>,
    now: u32,
    /// Of the second before, if this one followed it.
    before: u32,
}

impl Demand {
    /// One more was to begin.
    pub(crate) fn note(&mut self, now: Instant) {
        if self.since.is_none_or(|since| now >= since + SECOND) {
            let before = self.of_last_second(now);
            *self = Demand { since: Some(now), now: 0, before };
        }
        self.now = self.now.saturating_add(1);
    }

    /// How many were to begin in a second of late; one that has just begun tells little.
    pub(crate) fn of_last_second(&self, now: Instant) -> u32 {
        match self.since.map(|since| now.saturating_duration_since(since)) {
            Some(age) if age < SECOND => self.now.max(self.before),
            Some(age) if age < 2 * SECOND => self.now,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_second_has_its_number_and_the_next_one_its_own() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let taken = |pace: &mut Pace, at| (0..5).filter(|_| pace.take(at, Some(3))).count();
        assert_eq!(taken(&mut pace, now), 3);
        assert_eq!(taken(&mut pace, now + Duration::from_millis(999)), 0);
        assert_eq!(taken(&mut pace, now + SECOND), 3);
        assert!((0..100).all(|_| pace.take(now, None)), "no limit");
    }

    #[test]
    fn what_was_to_begin_is_known_for_a_second_more() {
        let (start, mut demand) = (Instant::now(), Demand::default());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(demand.of_last_second(start), 0);
        (0..5).for_each(|_| demand.note(at(0)));
        assert_eq!(demand.of_last_second(at(1_999)), 5);
        assert_eq!(demand.of_last_second(at(2_000)), 0);
        demand.note(at(1_500));
        assert_eq!(demand.of_last_second(at(1_600)), 5, "a second has just begun");
        assert_eq!(demand.of_last_second(at(2_500)), 1, "and is over");
        demand.note(at(9_000));
        assert_eq!(demand.of_last_second(at(9_000)), 1, "what was long ago is forgotten");
    }

    #[test]
    fn a_window_lets_its_number_through_and_says_how_long_to_wait() {
        let (start, mut window) = (Instant::now(), Pace::default());
        assert!((0..3).all(|_| window.take_within(start, MINUTE, 3).is_ok()));
        let later = start + Duration::from_secs(40);
        assert_eq!(window.take_within(later, MINUTE, 3), Err(Duration::from_secs(20)));
        assert_eq!(window.take_within(start + MINUTE, MINUTE, 3), Ok(()));
    }
}
