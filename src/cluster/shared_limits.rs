//! Limits that hold for all nodes together: so many calls by a trunk, one registration of a
//! carrier.
//!
//! With each renewal of its lease a node says how much of a limit it uses, and the store, which
//! knows what the others claim, answers how much it may: what it uses and its part of what is free.
//! So nobody asks the store for a call. A node may go one beyond its claim where the store counts
//! less in use than the limit: no limit is reached while it is not, and what all have together is
//! more than it by about one for each node at most. While the store is away, the last claim holds.
//!
//! Of calls a second each node has an equal part at any time, asked or not. Beyond it, a node has
//! its claim as far as the others leave it: whoever begins beside a busy one is counted once it has
//! renewed its lease, and the busy one gives way once it has. Only those who use up their part wish
//! for what is free, so that nodes that do nothing keep nothing of it.

use super::store::{ShareGrant, ShareWish};
use std::collections::HashMap;

/// What the calls of a trunk are counted by in the store.
pub(crate) fn calls_of(trunk: &str) -> String {
    format!("calls {trunk}")
}

/// What a trunk's calls of a second are counted by there.
pub(crate) fn pace_of(trunk: &str) -> String {
    format!("pace {trunk}")
}

/// What the registration with a trunk is called there.
pub(crate) fn registration_of(trunk: &str) -> String {
    format!("registration {trunk}")
}

/// Limits that are shared at most; further ones count on each node.
pub(crate) const MAX_SHARES: usize = 256;

/// What this node was granted of each limit.
#[derive(Default)]
pub(super) struct Shares {
    /// What the renewal under way asks for.
    asked: Vec<String>,
    granted: HashMap<String, ShareGrant>,
}

impl Shares {
    pub(super) fn ask(&mut self, wishes: &[ShareWish]) {
        self.asked = wishes.iter().map(|wish| wish.name.clone()).collect();
    }

    pub(super) fn granted(&mut self, grants: Vec<ShareGrant>) {
        self.granted = std::mem::take(&mut self.asked).into_iter().zip(grants).collect();
    }

    /// Whether one more may be had of a limit of which `used` are had here.
    pub(super) fn has_room(&self, name: &str, limit: u64, used: u64, at: NodeCount) -> bool {
        let Some(grant) = self.granted.get(name) else {
            return used < limit.div_ceil(at.count.max(1));
        };
        let counted = !at.away && used <= grant.claim && used + grant.others < limit;
        used < grant.claim.min(limit) || counted
    }

    /// What may begin here in a second, of a limit of all nodes; `lapsed`: the leases are over, so
    /// that others may count this node no more.
    pub(super) fn pace(&self, name: &str, limit: u64, nodes: u64, lapsed: bool) -> u64 {
        let part = limit.div_ceil(nodes.max(1));
        let granted = self.granted.get(name).filter(|_| !lapsed);
        let left = granted.map(|grant| grant.claim.min(limit.saturating_sub(grant.others)));
        part.max(left.unwrap_or_default())
    }

    /// What this node says of a limit a second, of which it `wanted` so much and `may` have so
    /// much.
    pub(super) fn pace_wish(
        trunk: &str,
        limit: u64,
        nodes: u64,
        may: u64,
        wanted: u64,
    ) -> ShareWish {
        let all = wanted >= limit.div_ceil(nodes.max(1));
        let used = wanted.min(may);
        ShareWish { name: pace_of(trunk), limit: if all { limit } else { used }, used }
    }

    /// Whether this node has all there is of a limit of one.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.granted.get(name).is_some_and(|grant| grant.claim > 0)
    }
}

/// The nodes there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeCount {
    /// This one included.
    pub count: u64,
    /// The store does not answer.
    pub away: bool,
}

#[cfg(test)]
mod tests {
    use super::super::store::grant;
    use super::*;

    const NAME: &str = "calls far";

    fn granted(claim: u64, others: u64) -> Shares {
        let mut shares = Shares::default();
        shares.ask(&[ShareWish { name: NAME.into(), limit: 10, used: 0 }]);
        shares.granted(vec![ShareGrant { claim, others }]);
        shares
    }

    #[test]
    fn a_claim_may_be_used_up_and_one_more_where_the_limit_is_not_reached() {
        let (here, away) =
            (NodeCount { count: 3, away: false }, NodeCount { count: 3, away: true });
        let shares = granted(4, 2);
        let room = |used, at| shares.has_room(NAME, 10, used, at);
        assert!(room(3, here) && room(4, here), "the claim and one more");
        assert!(!room(5, here), "no two more");
        assert!(room(3, away) && !room(4, away), "the last claim while the store is away");
        assert!(!granted(4, 6).has_room(NAME, 10, 4, here), "ten are in use");
        assert!(!granted(20, 0).has_room(NAME, 10, 10, here), "a claim is no more than the limit");
        assert!(Shares::default().has_room(NAME, 10, 3, here), "its part before it was answered");
        assert!(!Shares::default().has_room(NAME, 10, 4, here));
    }

    /// Nodes that renew their leases in turn, each wanting so much, and what each may have then.
    fn paces<const N: usize>(limit: u64, rounds: &[[u64; N]]) -> Vec<[u64; N]> {
        let (name, nodes) = (pace_of("far"), N as u64);
        let mut shares: [Shares; N] = std::array::from_fn(|_| Shares::default());
        let mut stored = [(0, 0); N];
        let mut round = |wanted: &[u64; N]| {
            for n in 0..N {
                let may = shares[n].pace(&name, limit, nodes, false);
                let wish = Shares::pace_wish("far", limit, nodes, may, wanted[n]);
                let others = stored.iter().enumerate().filter(|(other, _)| *other != n);
                let (claim, used) =
                    others.fold((0, 0), |sum, (_, of)| (sum.0 + of.0, sum.1 + of.1));
                let granted = grant(&wish, used, claim, nodes);
                stored[n] = (granted.claim, wish.used);
                shares[n].ask(&[wish]);
                shares[n].granted(vec![granted]);
            }
            std::array::from_fn(|n| shares[n].pace(&name, limit, nodes, false).min(wanted[n]))
        };
        rounds.iter().map(&mut round).collect()
    }

    #[test]
    fn of_calls_a_second_one_has_what_the_others_leave_and_each_its_part() {
        let alone = paces(90, &[[200, 0, 0]; 6]);
        assert!(alone[3][0] >= 78 && alone[5][0] >= 84, "{alone:?}");
        assert_eq!(paces(9, &[[20, 0, 0]; 5])[4], [9, 0, 0], "all of it");
        // A second one begins beside it, and the first gives way when it has heard of it.
        let beside = paces(9, &[[[20, 0, 0]; 5].as_slice(), &[[20, 20, 0]; 3]].concat());
        assert_eq!(beside[5], [9, 3, 0], "it has its part at once");
        assert_eq!(beside[6..], [[6, 3, 0]; 2]);
        // It has enough, and the first has the rest.
        let rest = paces(9, &[[[20, 20, 0]; 5].as_slice(), &[[20, 1, 0]; 6]].concat());
        assert_eq!(rest[10], [8, 1, 0]);
        for wanted in [[20, 20, 0], [20, 20, 20], [20, 4, 4], [5, 5, 5], [20, 2, 6]] {
            let all = paces(9, &[wanted; 12]);
            let sums: Vec<u64> = all.iter().map(|each| each.iter().sum()).collect();
            assert!(sums.iter().all(|sum| *sum < 18), "{all:?}");
            assert!(sums[3..].iter().all(|sum| *sum == 9), "{wanted:?}: {all:?}");
        }
    }

    #[test]
    fn of_calls_a_second_an_equal_part_is_left_without_a_grant_or_a_lease() {
        let name = pace_of("far");
        let pace = |shares: &Shares, lapsed| shares.pace(&name, 10, 3, lapsed);
        assert_eq!(pace(&Shares::default(), false), 4);
        let mut shares = Shares::default();
        shares.ask(&[Shares::pace_wish("far", 10, 3, 4, 20)]);
        shares.granted(vec![ShareGrant { claim: 10, others: 0 }]);
        assert_eq!((pace(&shares, false), pace(&shares, true)), (10, 4));
        let wish = |wanted, may| {
            let wish = Shares::pace_wish("far", 10, 3, may, wanted);
            (wish.limit, wish.used)
        };
        assert_eq!(wish(3, 10), (3, 3), "within its part it keeps nothing more");
        assert_eq!(wish(4, 10), (10, 4));
        assert_eq!(wish(20, 7), (10, 7), "no more than it may");
    }

    #[test]
    fn what_is_not_answered_is_not_held() {
        let mut shares = granted(1, 0);
        assert!(shares.holds(NAME));
        shares.ask(&[ShareWish { name: NAME.into(), limit: 1, used: 0 }]);
        assert!(shares.holds(NAME), "while it asks");
        shares.granted(Vec::new());
        assert!(!shares.holds(NAME));
    }
}
