//! Leases that nobody renews any more, by this node's own time.
//!
//! The store ends a lease by its clock. Where that is put back, by an administrator or because a
//! replica or a machine of yesterday goes on in the store's place, the lease of a node that is gone
//! lasts for as much longer: its calls would wait for so long, its trunks stay without a
//! registration, and its next process without a lease. So a lease is over, too, once a node has
//! seen by its own time that it was not renewed for as long as one lasts. The store removes it with
//! the next renewal, if it is still the same by then: so it is over for all at once, also for those
//! that do not look themselves.

use super::store::{LEASE, MAX_NODES, Process, UnrenewedLease, is_of_epoch};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A lease that was not seen to be renewed for this long may have missed a renewal.
const MISSED: Duration = Duration::from_millis(1_500);
/// After this long it is gone, or the store does not remove it: nobody need hurry any more.
const HURRY: Duration = Duration::from_secs(5);

/// Leases as a node has read them.
#[derive(Debug, Default)]
pub(super) struct LeaseWatch {
    connection: Option<u64>,
    /// By node: the value, and when that had been there first, at the latest.
    seen: BTreeMap<String, (String, Instant)>,
    unrenewed: Vec<UnrenewedLease>,
}

impl LeaseWatch {
    /// The store has these leases: it was asked at `sent`, and answered by now. Those of `own` are
    /// this process's to renew.
    pub(super) fn look(
        &mut self,
        (sent, now): (Instant, Instant),
        connection: u64,
        own: &Process,
        leases: &[(String, String)],
    ) {
        // Another store may show earlier leases again, though they were renewed since.
        if self.connection.replace(connection) != Some(connection) {
            self.seen.clear();
        }
        let mut before = std::mem::take(&mut self.seen);
        self.unrenewed.clear();
        for (node, value) in leases.iter().take(MAX_NODES) {
            if *node == own.node && is_of_epoch(value, own.epoch) {
                continue;
            }
            let known = before.remove(node).filter(|(known, _)| known == value);
            let since = known.map_or(now, |(_, since)| since);
            if sent.saturating_duration_since(since) >= LEASE {
                let (node, value) = (node.clone(), value.clone());
                self.unrenewed.push(UnrenewedLease { node, value });
            }
            self.seen.insert(node.clone(), (value.clone(), since));
        }
    }

    /// Those that the store is to remove.
    pub(super) fn unrenewed(&self) -> Vec<UnrenewedLease> {
        self.unrenewed.clone()
    }

    /// Whether one of them may have missed a renewal.
    pub(super) fn may_be_late(&self, now: Instant) -> bool {
        let late = MISSED..HURRY;
        self.seen.values().any(|(_, since)| late.contains(&now.saturating_duration_since(*since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn own() -> Process {
        Process { node: "a".into(), epoch: 1 }
    }

    fn lease(node: &str, value: &str) -> (String, String) {
        (node.to_owned(), format!("{:016x}{value}", 1))
    }

    fn unrenewed(watch: &LeaseWatch) -> Vec<String> {
        watch.unrenewed().into_iter().map(|lease| lease.node).collect()
    }

    #[test]
    fn a_lease_is_over_once_nobody_has_renewed_it_for_so_long_between_two_answers() {
        let (start, mut watch) = (Instant::now(), LeaseWatch::default());
        let at = |ms: u32| start + ms * MS;
        let mut look = |sent, answered, leases: &[(String, String)]| {
            watch.look((at(sent), at(answered)), 1, &own(), leases);
            (unrenewed(&watch), watch.may_be_late(at(answered)))
        };
        let none: Vec<String> = Vec::new();
        let mine = lease("a", "never renewed");
        let all = |b: &str, c: &str| [mine.clone(), lease("b", b), lease("c", c)];
        assert_eq!(look(0, 10, &all("1", "1")), (none.clone(), false));
        assert_eq!(look(1_000, 1_010, &all("1", "2")), (none.clone(), false));
        // It was there when the first answer was on its way, and when the last was asked for.
        assert_eq!(look(2_500, 2_900, &all("1", "3")), (none.clone(), true));
        assert_eq!(look(2_510, 3_000, &all("1", "3")), (vec!["b".to_owned()], true));
        assert_eq!(look(3_100, 3_110, &all("2", "4")), (none.clone(), false), "it lives");
        assert_eq!(look(9_000, 9_010, &[mine]), (none, false));
    }

    #[test]
    fn what_another_store_shows_is_as_new_as_that_and_nobody_hurries_for_ever() {
        let (start, mut watch) = (Instant::now(), LeaseWatch::default());
        let at = |ms: u32| start + ms * MS;
        let leases = [lease("b", "1"), ("a".to_owned(), format!("{:016x}before", 7))];
        watch.look((start, start), 1, &own(), &leases);
        watch.look((at(2_500), at(2_500)), 2, &own(), &leases);
        assert!(unrenewed(&watch).is_empty() && !watch.may_be_late(at(2_500)));
        watch.look((at(5_000), at(5_000)), 2, &own(), &leases);
        assert_eq!(unrenewed(&watch), ["b", "a"], "one of this node's name, too");
        assert!(watch.may_be_late(at(7_000)) && !watch.may_be_late(at(7_500)));
        let many: Vec<_> = (0..200).map(|n| lease(&format!("x{n:03}"), "")).collect();
        watch.look((at(6_000), at(6_000)), 2, &own(), &many);
        assert_eq!(watch.seen.len(), MAX_NODES);
    }
}
