//! Writes to the store that are under way: a few at a time, each answered in time or taken for
//! lost. After one that failed there is a pause: the next would fail as well, at once, and so on.

use super::lease::LeaseEvent;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long nothing is written after a failure.
const AGAIN: Duration = Duration::from_millis(100);
/// Writes under way.
pub(super) const MAX_WRITES: usize = 4;
/// How long the store has for a write.
pub(super) const ANSWER: Duration = Duration::from_secs(1);

/// A store that refuses what is written for this long, while it renews leases, is told of.
const REFUSING: Duration = Duration::from_secs(2);

/// What the store refuses to be told, though it renews leases: one that is full does, and one where
/// this node may not run a command.
#[derive(Default)]
pub(super) struct WriteRefusals {
    /// The first refusal since it took something.
    since: Option<Instant>,
    told: bool,
}

impl WriteRefusals {
    /// The store has taken a write, or has refused it (`why`), while the lease lives.
    pub(super) fn heard(&mut self, now: Instant, why: Option<&str>) -> Option<LeaseEvent> {
        let Some(why) = why else {
            let since = self.since.take();
            let told = std::mem::take(&mut self.told);
            let away = now.saturating_duration_since(since?);
            return told.then_some(LeaseEvent::StoreBack { away });
        };
        let since = *self.since.get_or_insert(now);
        if self.told || now < since + REFUSING {
            return None;
        }
        self.told = true;
        Some(LeaseEvent::StoreAway { why: format!("it refuses what this node writes: {why}") })
    }

    /// The lease does not live: what is refused now is told with that.
    pub(super) fn forget(&mut self) {
        *self = WriteRefusals::default();
    }
}

/// The writes, each of some items.
pub(super) struct WriteWindow<T> {
    /// By the number of the write: until when, and of what.
    writes: BTreeMap<u64, (Instant, Vec<T>)>,
    /// Nothing is written until then.
    pause: Option<Instant>,
}

impl<T> Default for WriteWindow<T> {
    fn default() -> WriteWindow<T> {
        WriteWindow { writes: BTreeMap::new(), pause: None }
    }
}

impl<T> WriteWindow<T> {
    /// Returns whether one more write may begin.
    pub(super) fn has_room(&self) -> bool {
        self.writes.len() < MAX_WRITES && self.pause.is_none()
    }

    /// A write begins.
    pub(super) fn begin(&mut self, now: Instant, id: u64, items: Vec<T>) {
        self.writes.insert(id, (now + ANSWER, items));
    }

    /// A write is answered, or will not be: returns its items, or `None` if it is not under way.
    pub(super) fn take(&mut self, id: u64) -> Option<Vec<T>> {
        self.writes.remove(&id).map(|(_, items)| items)
    }

    /// Returns whether an item is in a write under way.
    pub(super) fn has(&self, item: &T) -> bool
    where
        T: PartialEq,
    {
        self.writes.values().any(|(_, items)| items.contains(item))
    }

    /// Returns how many items are in writes under way.
    pub(super) fn items(&self) -> usize {
        self.writes.values().map(|(_, items)| items.len()).sum()
    }

    /// A write has failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.pause = Some(now + AGAIN);
    }

    /// The store is another one: it may be written to at once.
    pub(super) fn end_pause(&mut self) {
        self.pause = None;
    }

    /// When there is something to do.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.writes.values().map(|(until, _)| *until).chain(self.pause).min()
    }

    /// Ends a pause whose time is over. Returns the writes that were not answered in time.
    pub(super) fn late(&mut self, now: Instant) -> Vec<u64> {
        self.pause = self.pause.filter(|until| now < *until);
        self.writes.iter().filter(|(_, write)| write.0 <= now).map(|(id, _)| *id).collect()
    }
}
