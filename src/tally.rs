//! How many there are of each: of a source, a sender, a trunk. What there is none of takes no room.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// A count by key.
#[derive(Clone, Debug)]
pub(crate) struct Tally<K>(HashMap<K, usize>);

impl<K> Default for Tally<K> {
    fn default() -> Tally<K> {
        Tally(HashMap::new())
    }
}

impl<K: Eq + Hash> Tally<K> {
    /// Returns how many there are of it.
    pub(crate) fn of<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.0.get(key).copied().unwrap_or(0)
    }

    /// Returns the key itself if there is one of it, for who wants to share it.
    pub(crate) fn key<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&K>
    where
        K: Borrow<Q>,
    {
        self.0.get_key_value(key).map(|(key, _)| key)
    }

    /// There is one more.
    pub(crate) fn add(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    /// There is one less.
    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        match self.0.get_mut(key) {
            Some(n) if *n > 1 => *n -= 1,
            _ => drop(self.0.remove(key)),
        }
    }

    /// What there is something of, and how many.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, usize)> {
        self.0.iter().map(|(key, n)| (key, *n))
    }

    /// Returns of how many keys there is something.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing at all.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_none_of_takes_no_room() {
        let mut tally = Tally::<String>::default();
        tally.add("ada".to_owned());
        tally.add("ada".to_owned());
        tally.remove("bob");
        assert_eq!((tally.of("ada"), tally.of("bob"), tally.len()), (2, 0, 1));
        tally.remove("ada");
        assert_eq!((tally.of("ada"), tally.key("ada").is_some()), (1, true));
        tally.remove("ada");
        assert!(tally.is_empty());
        tally.remove("ada");
        assert_eq!(tally.of("ada"), 0);
    }
}
