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
    fn a_window_lets_its_number_through_and_says_how_long_to_wait() {
        let (start, mut window) = (Instant::now(), Pace::default());
        assert!((0..3).all(|_| window.take_within(start, MINUTE, 3).is_ok()));
        let later = start + Duration::from_secs(40);
        assert_eq!(window.take_within(later, MINUTE, 3), Err(Duration::from_secs(20)));
        assert_eq!(window.take_within(start + MINUTE, MINUTE, 3), Ok(()));
    }
}
