//! Records of a session on their way to where its successor would look: a disk, a cluster's store,
//! or both.
//!
//! The store vouches for a record seconds after it has it, and meanwhile newer ones are put. So not
//! only the newest is remembered: whoever waited for that alone would wait for ever where something
//! changes every few seconds.

use std::collections::VecDeque;

/// Records remembered; where there are more, the newest takes the place of the last.
const MOST: usize = 8;

/// A record that was put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PutRecord {
    /// Its own number, by which the session knows it.
    pub number: u64,
    /// Its number on the disk; `None`: there is no disk.
    pub disk: Option<u64>,
    /// Its number in the store; `None`: it was not put there.
    pub stored: Option<u64>,
}

/// Those of one session that are not confirmed, oldest first.
#[derive(Debug, Default)]
pub struct RecordsUnderway(VecDeque<PutRecord>);

impl RecordsUnderway {
    /// None is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One was put.
    pub fn put(&mut self, record: PutRecord) {
        if self.0.len() == MOST {
            self.0.pop_back();
        }
        self.0.push_back(record);
    }

    /// Returns the number of the newest record that is everywhere it was put. The disk has all up
    /// to `written` (`None`: there is nothing to wait for), the store all up to `stored`.
    pub fn confirmed(&self, written: Option<u64>, stored: u64) -> Option<u64> {
        let there = |record: &&PutRecord| {
            let on_disk = written.zip(record.disk).is_none_or(|(written, disk)| written >= disk);
            on_disk && record.stored.is_none_or(|number| stored >= number)
        };
        self.0.iter().rev().find(there).map(|record| record.number)
    }

    /// The session knows that this one is confirmed, and with it those before.
    pub fn forget(&mut self, number: u64) {
        self.0.retain(|record| record.number > number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(number: u64) -> PutRecord {
        PutRecord { number, disk: Some(number + 100), stored: Some(number + 200) }
    }

    #[test]
    fn an_older_record_is_confirmed_while_newer_ones_are_on_their_way() {
        let mut underway = RecordsUnderway::default();
        (1..=3).for_each(|number| underway.put(put(number)));
        assert_eq!(underway.confirmed(Some(103), 200), None, "the store has none");
        assert_eq!(underway.confirmed(Some(101), 203), Some(1), "the disk has the first");
        assert_eq!(underway.confirmed(Some(103), 202), Some(2));
        assert_eq!(underway.confirmed(None, 202), Some(2), "no disk to wait for");
        underway.forget(2);
        assert_eq!(underway.confirmed(Some(103), 202), None);
        assert_eq!(underway.confirmed(Some(103), 203), Some(3));
        underway.forget(3);
        assert!(underway.is_empty());
        underway.put(PutRecord { number: 4, disk: None, stored: None });
        assert_eq!(underway.confirmed(Some(0), 0), Some(4), "nobody finds it");
    }

    #[test]
    fn of_records_that_are_never_confirmed_a_few_are_remembered() {
        let mut underway = RecordsUnderway::default();
        (1..=1_000).for_each(|number| underway.put(put(number)));
        assert_eq!(underway.0.len(), MOST);
        assert_eq!(underway.confirmed(Some(101), 201), Some(1), "the oldest first");
        assert_eq!(underway.confirmed(Some(1_100), 1_200), Some(1_000));
    }
}
