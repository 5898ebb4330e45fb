//! The store's clock, by which the age of what others wrote is told.
//!
//! A clock may be put back: by an administrator, or because a replica or the machine of yesterday
//! goes on in the store's place. What was written before that would look younger than it is, and
//! media would continue from a record of which it is no longer known what was sent after it. So an
//! age counts by whichever clock says more, for as long as something of then may be read.

use super::store::CALLS;
use std::time::{Duration, Instant};

/// A clock that says less by more than this was put back: answers take different times.
const PUT_BACK: u64 = 1_000;
/// How long what was written by the clock before may be read: it is kept so long, and so long is it
/// looked for.
const READ: Duration = Duration::from_secs(2 * CALLS.as_secs());

/// Clocks that differ by more seconds than this are reported.
const SKEW: u64 = 5;

/// What it said between two moments of ours: milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Reading {
    millis: u64,
    sent: Instant,
    received: Instant,
}

impl Reading {
    fn earliest(&self, now: Instant) -> u64 {
        self.millis + now.saturating_duration_since(self.received).as_millis() as u64
    }

    fn latest(&self, now: Instant) -> u64 {
        self.millis + now.saturating_duration_since(self.sent).as_millis() as u64
    }
}

/// The store's clock as a node knows it.
#[derive(Debug, Default)]
pub(super) struct StoreClock {
    last: Option<Reading>,
    /// What it was before it was put back, and until when that counts.
    before: Option<(Reading, Instant)>,
    /// It less ours, seconds, and whether that was reported.
    offset: i64,
    skewed: bool,
}

impl StoreClock {
    /// It says `store` when ours says `unix`, seconds since 1970. Returns by how many they differ,
    /// if that is to be reported: once, until they agree again.
    pub(super) fn compare(&mut self, unix: u64, store: u64) -> Option<u64> {
        let seconds = store.abs_diff(unix);
        self.offset = store as i64 - unix as i64;
        let before = std::mem::replace(&mut self.skewed, seconds > SKEW);
        (self.skewed && !before).then_some(seconds)
    }

    /// What it says when ours says `unix`, seconds since 1970.
    pub(super) fn unix(&self, unix: u64) -> u64 {
        unix.saturating_add_signed(self.offset)
    }

    /// It said `millis` to what was sent then.
    pub(super) fn said(&mut self, now: Instant, sent: Instant, millis: u64) {
        let reading = Reading { millis, sent, received: now };
        let newest = reading.latest(now);
        self.before = self.before.filter(|(_, until)| now < *until);
        let ahead = |before: &Reading| before.latest(now) > newest + PUT_BACK;
        if let Some(last) = self.last.filter(ahead)
            && self.before.is_none_or(|(before, _)| before.latest(now) <= last.latest(now))
        {
            self.before = Some((last, now + READ));
        }
        self.last = Some(reading);
    }

    /// Not later than it is, and not earlier; `None` before it was heard of.
    pub(super) fn millis(&self, now: Instant) -> Option<(u64, u64)> {
        self.last.map(|last| (last.earliest(now), last.latest(now)))
    }

    /// Not earlier than it is, nor than it was before it was put back: what bears an earlier time
    /// is as old as that at least.
    pub(super) fn oldest(&self, now: Instant) -> u64 {
        let before = self.before.filter(|(_, until)| now < *until).map(|(before, _)| before);
        self.last.iter().chain(&before).map(|reading| reading.latest(now)).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_was_written_before_the_clock_was_put_back_is_as_old_as_it_is() {
        let (start, mut clock) = (Instant::now(), StoreClock::default());
        assert_eq!((clock.millis(start), clock.oldest(start)), (None, 0));
        clock.said(start, start, 1_000_000);
        let taken = 1_000_000;
        // A minute back, and once more.
        for (after, millis) in [(5, 945_000), (6, 946_000), (8, 900_000), (9, 901_000)] {
            let now = start + after * SECOND;
            clock.said(now, now, millis);
            assert_eq!(clock.millis(now), Some((millis, millis)), "new things have the new time");
            assert_eq!(clock.oldest(now) - taken, u64::from(after) * 1_000);
        }
        // Nothing of then is read any more.
        let later = start + 8 * SECOND + READ;
        clock.said(later, later, 1_100_000);
        assert_eq!(clock.oldest(later), 1_100_000);
    }

    #[test]
    fn answers_that_take_different_times_and_a_clock_that_is_put_forward_change_no_age() {
        let (start, mut clock) = (Instant::now(), StoreClock::default());
        let mut now = start;
        for round in 0..100u32 {
            let sent = now;
            now += Duration::from_millis(u64::from(round % 9) * 100);
            let millis = 5_000 + (sent - start).as_millis() as u64;
            clock.said(now, sent, millis);
            let (earliest, latest) = clock.millis(now).expect("it said something");
            assert!(earliest == millis && latest == clock.oldest(now), "{round}");
            now = sent + SECOND;
        }
        clock.said(now, now, 10_000_000);
        assert_eq!(clock.oldest(now), 10_000_000);
    }
}
