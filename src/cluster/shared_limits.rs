//! Limits that hold for all nodes together: so many calls by a trunk, one registration of a
//! carrier.
//!
//! With each renewal of its lease a node says how much of a limit it uses, and the store, which
//! knows what the others claim, answers how much it may: what it uses and its part of what is free.
//! So nobody asks the store for a call. A node may go one beyond its claim where the store counts
//! less in use than the limit: no limit is reached while it is not, and what all have together is
//! more than it by about one for each node at most. While the store is away, the last claim holds.

use super::store::{ShareGrant, ShareWish};
use std::collections::HashMap;

/// What the calls of a trunk are counted by in the store.
pub(crate) fn calls_of(trunk: &str) -> String {
    format!("calls {trunk}")
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
