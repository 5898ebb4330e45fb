//! A timer queue in virtual time: keys fire at instants handed in by the caller.
//!
//! Not here: a clock. `now` is always an argument, so tests run hours in microseconds.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// Timers by key; setting a key again replaces its deadline.
#[derive(Debug)]
pub struct Timers<K> {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
    armed: HashMap<K, (Instant, u64)>,
    keys: HashMap<u64, K>,
    next: u64,
}

impl<K: Hash + Eq + Clone> Default for Timers<K> {
    fn default() -> Self {
        Timers { heap: BinaryHeap::new(), armed: HashMap::new(), keys: HashMap::new(), next: 0 }
    }
}

impl<K: Hash + Eq + Clone> Timers<K> {
    /// Arms `key` for `at`, replacing an earlier deadline of the same key.
    pub fn set(&mut self, key: K, at: Instant) {
        self.clear(&key);
        let serial = self.next;
        self.next += 1;
        self.heap.push(Reverse((at, serial)));
        self.keys.insert(serial, key.clone());
        self.armed.insert(key, (at, serial));
    }

    /// Arms `key` for `at` unless it fires earlier already; saves work where deadlines only move later.
    pub fn set_if_earlier(&mut self, key: K, at: Instant) {
        if self.armed.get(&key).is_none_or(|(armed, _)| at < *armed) {
            self.set(key, at);
        }
    }

    /// Disarms `key`; nothing happens where it was not armed.
    pub fn clear(&mut self, key: &K) {
        if let Some((_, serial)) = self.armed.remove(key) {
            self.keys.remove(&serial);
        }
        // The heap keeps a dead entry; compact before dead ones outnumber the living.
        if self.heap.len() > 64 && self.heap.len() > 4 * self.keys.len() {
            let keys = &self.keys;
            self.heap.retain(|Reverse((_, serial))| keys.contains_key(serial));
        }
    }

    /// Disarms every key for which `dead` holds.
    pub fn clear_where(&mut self, dead: impl Fn(&K) -> bool) {
        let doomed: Vec<K> = self.armed.keys().filter(|k| dead(k)).cloned().collect();
        doomed.iter().for_each(|k| self.clear(k));
    }

    /// Takes one key whose deadline is at or before `now`, earliest first.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        while let Some(Reverse((at, serial))) = self.heap.peek().copied() {
            if at > now {
                return None;
            }
            self.heap.pop();
            if let Some(key) = self.keys.remove(&serial) {
                self.armed.remove(&key);
                return Some(key);
            }
        }
        None
    }

    /// The earliest armed deadline.
    pub fn next_timeout(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, serial))) = self.heap.peek().copied() {
            if self.keys.contains_key(&serial) {
                return Some(at);
            }
            self.heap.pop();
        }
        None
    }

    /// How many keys are armed.
    pub fn len(&self) -> usize {
        self.armed.len()
    }

    /// Whether no key is armed.
    pub fn is_empty(&self) -> bool {
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
