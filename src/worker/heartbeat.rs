//! A thread's sign of life, for whoever watches it.

use nix::unistd::gettid;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longest a watched thread waits for something to do: then it says that it lives.
pub(crate) const BEAT: Duration = Duration::from_secs(1);
/// A thread that is woken this much later than it asked for did not run, and could hear nobody: the
/// process was stopped, or its host.
pub(crate) const STALL: Duration = Duration::from_millis(500);
/// What came meanwhile is read for so long before anybody is judged by silence.
pub(crate) const CATCH_UP: Duration = Duration::from_millis(50);

/// Notices time in which a thread did not run though it wanted to.
#[derive(Debug)]
pub(crate) struct StallWatch {
    /// From when on it wants to run.
    due: Instant,
}

impl StallWatch {
    /// Of a thread that runs now.
    pub(crate) fn new(now: Instant) -> StallWatch {
        StallWatch { due: now }
    }

    /// The thread runs now, and returns for how long it did not.
    pub(crate) fn runs(&mut self, now: Instant) -> Duration {
        let stall = now.saturating_duration_since(self.due);
        self.due = now;
        stall
    }

    /// The thread rests until `at` at the latest.
    pub(crate) fn rests_until(&mut self, at: Instant) {
        self.due = self.due.max(at);
    }
}

thread_local! {
    /// The system's number of this thread.
    static THREAD: i32 = gettid().as_raw();
}

/// When a thread last began a round of its loop.
#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    /// Milliseconds after `origin`.
    beat: AtomicU64,
    /// The system's number of the thread that did; 0: none yet.
    thread: AtomicI32,
}

impl Pulse {
    /// One that has just beaten.
    pub(crate) fn new(now: Instant) -> Pulse {
        Pulse { origin: now, beat: AtomicU64::new(0), thread: AtomicI32::new(0) }
    }

    /// The thread lives.
    pub(crate) fn beat(&self, now: Instant) {
        let at = now.saturating_duration_since(self.origin).as_millis();
        self.beat.store(u64::try_from(at).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.thread.store(THREAD.with(|own| *own), Ordering::Relaxed);
    }

    /// When it was last set.
    pub(crate) fn last(&self) -> Instant {
        self.origin + Duration::from_millis(self.beat.load(Ordering::Relaxed))
    }

    /// The system's number of the thread that last set it.
    pub(crate) fn thread(&self) -> Option<i32> {
        Some(self.thread.load(Ordering::Relaxed)).filter(|number| *number != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_no_stall_and_all_beyond_it_is() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut watch = StallWatch::new(start);
        watch.rests_until(at(1_000));
        assert_eq!(watch.runs(at(300)), Duration::ZERO, "it was woken");
        watch.rests_until(at(800));
        assert_eq!(watch.runs(at(5_800)), Duration::from_secs(5));
        // In the middle of its work, too.
        assert_eq!(watch.runs(at(65_800)), Duration::from_secs(60));
        watch.rests_until(at(1));
        assert_eq!(watch.runs(at(65_801)), Duration::from_millis(1));
    }
}
