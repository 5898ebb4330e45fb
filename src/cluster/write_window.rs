//! The moment after a write to the store that failed: the next one would fail as well, at once, and
//! so on.

use std::time::{Duration, Instant};

/// How long nothing is written then.
const AGAIN: Duration = Duration::from_millis(100);

/// Whether something may be written.
#[derive(Default)]
pub(super) struct Pause(Option<Instant>);

impl Pause {
    /// A write has failed.
    pub(super) fn begin(&mut self, now: Instant) {
        self.0 = Some(now + AGAIN);
    }

    /// The store is another one.
    pub(super) fn end(&mut self) {
        self.0 = None;
    }

    /// Ends it if its time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        self.0 = self.0.filter(|until| now < *until);
    }

    pub(super) fn lasts(&self) -> bool {
        self.0.is_some()
    }

    /// When something may be written again.
    pub(super) fn until(&self) -> Option<Instant> {
        self.0
    }
}
