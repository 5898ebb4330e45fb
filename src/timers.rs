//! A timer queue in virtual time: keys fire at instants handed in by the caller.
//!
//! Not here: a clock. `now` is always an argument, so tests run hours in microseconds.

use crate::ids::IdMap;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Timers by key; setting a key again replaces its deadline.
#[derive(Debug)]
pub struct Timers<K> {
    heap: BinaryHeap<TimerEntry<K>>,
    /// The entry of the heap that counts, by its serial number.
    armed: IdMap<K, (Instant, u64)>,
    next: u64,
}

#[derive(Debug)]
struct TimerEntry<K> {
    at: Instant,
    serial: u64,
    key: K,
}

impl<K> Ord for TimerEntry<K> {
    /// The heap's top is its greatest: the earliest, and of those at one time the first that was
    /// armed.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.serial).cmp(&(self.at, self.serial))
    }
}

impl<K> PartialOrd for TimerEntry<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> PartialEq for TimerEntry<K> {
    fn eq(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}

impl<K> Eq for TimerEntry<K> {}

impl<K: Hash + Eq> TimerEntry<K> {
    /// Whether this is the one its key was last armed with.
    fn counts(&self, armed: &IdMap<K, (Instant, u64)>) -> bool {
        armed.get(&self.key).is_some_and(|(_, serial)| *serial == self.serial)
    }
}

impl<K: Hash + Eq + Clone> Default for Timers<K> {
    fn default() -> Self {
        Timers { heap: BinaryHeap::new(), armed: IdMap::default(), next: 0 }
    }
}

impl<K: Hash + Eq + Clone> Timers<K> {
    /// Arms `key` for `at`, replacing an earlier deadline of the same key.
    pub(crate) fn set(&mut self, key: K, at: Instant) {
        let serial = self.next;
        self.next += 1;
        self.heap.push(TimerEntry { at, serial, key: key.clone() });
        self.armed.insert(key, (at, serial));
        self.compact();
    }

    /// Arms `key` for `at` unless it fires earlier already; saves work if deadlines only move
    /// later. What should have happened before `now` is due now: a timer is late only from when it
    /// was armed.
    pub(crate) fn set_if_earlier(&mut self, key: K, now: Instant, at: Instant) {
        let at = at.max(now);
        if self.armed.get(&key).is_none_or(|(armed, _)| at < *armed) {
            self.set(key, at);
        }
    }

    /// Disarms `key`; nothing happens if it was not armed.
    pub(crate) fn clear(&mut self, key: &K) {
        if self.armed.remove(key).is_some() {
            self.compact();
        }
    }

    /// The heap keeps an entry whose timer was disarmed or moved; too many of them are swept out.
    fn compact(&mut self) {
        if self.heap.len() > 64 && self.heap.len() > 4 * self.armed.len() {
            let armed = &self.armed;
            self.heap.retain(|entry| entry.counts(armed));
        }
    }

    /// Takes one key whose deadline is at or before `now`, earliest first.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<K> {
        while self.heap.peek().is_some_and(|entry| entry.at <= now) {
            let entry = self.heap.pop()?;
            if entry.counts(&self.armed) {
                self.armed.remove(&entry.key);
                return Some(entry.key);
            }
        }
        None
    }

    /// The earliest armed deadline.
    pub(crate) fn next_timeout(&mut self) -> Option<Instant> {
        while let Some(entry) = self.heap.peek() {
            if entry.counts(&self.armed) {
                return Some(entry.at);
            }
            self.heap.pop();
        }
        None
    }

    /// When `key` fires; `None` if it is not armed.
    pub(crate) fn deadline(&self, key: &K) -> Option<Instant> {
        self.armed.get(key).map(|(at, _)| *at)
    }

    /// How long until `key` fires; `None` if it is not armed.
    pub(crate) fn left(&self, key: &K, now: Instant) -> Option<Duration> {
        self.deadline(key).map(|at| at.saturating_duration_since(now))
    }

    /// Puts the deadlines of such keys off by `by`, in their order: nobody could be heard
    /// meanwhile.
    pub(crate) fn put_off(&mut self, by: Duration, which: impl Fn(&K) -> bool) {
        let entries = std::mem::take(&mut self.heap).into_iter().filter_map(|mut entry| {
            let (at, serial) = self.armed.get_mut(&entry.key)?;
            if *serial != entry.serial {
                return None;
            }
            if which(&entry.key) {
                *at += by;
                entry.at = *at;
            }
            Some(entry)
        });
        self.heap = entries.collect();
    }

    /// How many keys are armed.
    pub(crate) fn len(&self) -> usize {
        self.armed.len()
    }

    /// Whether no key is armed.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timers_fire_in_order_and_a_reset_replaces() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut timers = Timers::default();
        timers.set("b", at(2));
        timers.set("a", at(1));
        timers.set("b", at(5));
        timers.set("c", at(3));
        timers.clear(&"c");
        assert_eq!(timers.next_timeout(), Some(at(1)));
        assert_eq!(timers.pop(at(4)), Some("a"));
        assert_eq!(timers.pop(at(4)), None);
        assert_eq!(timers.pop(at(5)), Some("b"));
        assert!(timers.is_empty() && timers.next_timeout().is_none());
    }

    #[test]
    fn nobody_is_late_for_what_is_asked_of_the_past() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut timers = Timers::default();
        timers.set_if_earlier("a", at(5), at(9));
        timers.set_if_earlier("a", at(5), at(2));
        assert_eq!(timers.next_timeout(), Some(at(5)));
        timers.set_if_earlier("a", at(7), at(3));
        assert_eq!(timers.next_timeout(), Some(at(5)), "it has waited since then");
        assert_eq!(timers.pop(at(5)), Some("a"));
    }

    #[test]
    fn what_is_put_off_keeps_its_order_and_the_rest_its_time() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut timers = Timers::default();
        for (key, due) in [("a", 1), ("owed", 2), ("b", 2), ("c", 2), ("b", 3)] {
            timers.set(key, at(due));
        }
        timers.put_off(Duration::from_secs(60), |key| *key != "owed");
        assert_eq!(timers.left(&"a", at(0)), Some(Duration::from_secs(61)));
        assert_eq!(timers.pop(at(60)), Some("owed"));
        assert_eq!(timers.pop(at(60)), None);
        let rest: Vec<_> = std::iter::from_fn(|| timers.pop(at(63))).collect();
        assert_eq!(rest, ["a", "c", "b"]);
    }

    #[test]
    fn cleared_timers_do_not_grow_the_heap() {
        let now = Instant::now();
        let mut timers = Timers::default();
        for n in 0..10_000u32 {
            timers.set(n % 3, now + Duration::from_secs(60));
        }
        assert_eq!(timers.len(), 3);
        assert!(timers.heap.len() < 100);
    }
}
