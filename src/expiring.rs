//! Tables whose entries end by themselves: each has a time of its own, and there is room for so
//! many. What is over is taken out as others come in, so that nothing walks the table.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// Values by key, each until its time.
#[derive(Debug)]
pub(crate) struct Expiring<K, V> {
    entries: HashMap<K, (Instant, V)>,
    /// The keys by their end.
    ends: BTreeSet<(Instant, K)>,
    most: usize,
}

impl<K: Clone + Eq + Hash + Ord, V> Expiring<K, V> {
    /// A table with room for `most`.
    pub(crate) fn new(most: usize) -> Expiring<K, V> {
        Expiring { entries: HashMap::new(), ends: BTreeSet::new(), most }
    }

    /// Returns what is there, unless its time is over.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, now: Instant, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key).filter(|(until, _)| *until > now).map(|(_, value)| value)
    }

    /// Returns whether one more key fits, once those whose time is over have gone.
    pub(crate) fn has_room(&mut self, now: Instant) -> bool {
        while self.ends.first().is_some_and(|(until, _)| *until <= now) {
            self.drop_first();
        }
        self.entries.len() < self.most
    }

    /// Puts a value in. If there is no room, the one that ends first makes some.
    pub(crate) fn insert(&mut self, now: Instant, key: K, value: V, until: Instant) {
        self.remove(&key);
        if !self.has_room(now) {
            self.drop_first();
        }
        self.ends.insert((until, key.clone()));
        self.entries.insert(key, (until, value));
    }

    /// Takes a value out, whether or not its time is over.
    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (key, (until, value)) = self.entries.remove_entry(key)?;
        self.ends.remove(&(until, key));
        Some(value)
    }

    /// Returns how many there are, those whose time is over included.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn drop_first(&mut self) {
        if let Some((_, key)) = self.ends.pop_first() {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_has_its_time_and_who_ends_first_makes_room() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut table = Expiring::new(3);
        for (key, until) in [("a", 30), ("b", 10), ("c", 20)] {
            table.insert(now, key, until, at(until));
        }
        assert!(!table.has_room(now) && table.get(at(9), "b") == Some(&10));
        assert_eq!(table.get(at(10), "b"), None, "it is over before anybody takes it out");
        table.insert(now, "d", 40, at(40));
        assert_eq!((table.get(now, "b"), table.get(now, "c"), table.len()), (None, Some(&20), 3));
        // Once more is another end, and no other place.
        table.insert(now, "c", 50, at(50));
        table.insert(now, "e", 60, at(60));
        assert_eq!((table.get(now, "a"), table.get(now, "c"), table.len()), (None, Some(&50), 3));
        assert_eq!((table.remove("c"), table.remove("c"), table.len()), (Some(50), None, 2));
        assert!(table.has_room(at(60)) && table.len() == 0 && table.ends.is_empty());
    }
}
