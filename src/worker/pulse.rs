//! A thread's sign of life, for whoever watches it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longest a watched thread waits for something to do: then it says that it lives.
pub(crate) const BEAT: Duration = Duration::from_secs(1);
/// A thread that is woken this much later than it asked for did not run, and could hear nobody: the
/// process was stopped, or its host.
pub(crate) const STALL: Duration = Duration::from_millis(500);
/// What came meanwhile is read for so long before anybody is judged by silence.
pub(crate) const CATCH_UP: Duration = Duration::from_millis(50);

/// When a thread last began a round of its loop.
#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    /// Milliseconds after `origin`.
    beat: AtomicU64,
}

impl Pulse {
    /// One that has just beaten.
    pub(crate) fn new(now: Instant) -> Pulse {
        Pulse { origin: now, beat: AtomicU64::new(0) }
    }

    /// The thread lives.
    pub(crate) fn beat(&self, now: Instant) {
        let at = now.saturating_duration_since(self.origin).as_millis();
        self.beat.store(u64::try_from(at).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When it last said so.
    pub(crate) fn last(&self) -> Instant {
        self.origin + Duration::from_millis(self.beat.load(Ordering::Relaxed))
    }
}
