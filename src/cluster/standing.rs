//! Whether this process has the lease of its node's name, and who has it otherwise.
//!
//! ```text
//!   Joining --has the lease--> Joined --another process of the name has it--> Joining
//!      |                                                                         |
//!      +--that one goes on renewing--> Refused --its lease is gone--> Joined <---+
//! ```
//!
//! A process that was killed leaves its lease behind, and maybe a renewal on its way; only one that
//! lives goes on renewing it.

use super::keys::ClusterKeys;
use super::lease::LeaseEvent;
use super::member::{Member, read};
use super::store::is_of_epoch;
use std::time::Instant;

/// Renewals by another process that show that it lives.
const RENEWALS: u32 = 2;

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LeaseState {
    Joining,
    Joined,
    Refused,
}

/// Another process of this node's name.
#[derive(Debug)]
struct Rival {
    epoch: u64,
    /// Its renewals when it was seen first, and how often there were others since.
    beat: u64,
    renewed: u32,
}

/// Where this process stands with its node's name.
#[derive(Debug)]
pub(super) struct LeaseStanding {
    state: LeaseState,
    rival: Option<Rival>,
    /// The process of our name before this one, and when its lease was first seen.
    before: Option<(Member, Instant)>,
    /// Another process of this name has the lease that this one had: whoever claims what this one
    /// told the store gets it.
    displaced: bool,
    /// The epoch whose lease this process goes on with: what it was before it was deposed, or the
    /// process before it that gave it its calls.
    instead: Option<u64>,
}

/// What came of a look at the lease.
#[derive(Debug, Default)]
pub(super) struct HolderNews {
    /// It is this process's from now on.
    pub joined: bool,
    /// A process of this name is gone that was there when this one began, and when it was seen.
    pub gone: Option<(Member, Instant)>,
}

impl LeaseStanding {
    pub(super) fn new() -> LeaseStanding {
        let (rival, before, instead) = (None, None, None);
        LeaseStanding { state: LeaseState::Joining, rival, before, displaced: false, instead }
    }

    pub(super) fn is_joined(&self) -> bool {
        self.state == LeaseState::Joined
    }

    /// Whether another process has the name.
    pub(super) fn is_refused(&self) -> bool {
        self.state == LeaseState::Refused
    }

    /// Whether another process of this name has the lease that this one had.
    pub(super) fn is_displaced(&self) -> bool {
        self.displaced
    }

    /// The epoch whose lease this process goes on with.
    pub(super) fn instead(&self) -> Option<u64> {
        self.instead
    }

    /// This process is another from now on, and goes on with the lease of what it was.
    pub(super) fn begin_anew(&mut self, before: u64) {
        self.instead.get_or_insert(before);
        self.displaced = false;
    }

    /// This process goes on with the lease of the one before it.
    pub(super) fn follow(&mut self, before: u64) {
        self.instead = Some(before);
    }

    /// The store says who `held` the lease when `own` renewed it.
    pub(super) fn look(
        &mut self,
        now: Instant,
        own: &Member,
        (held, keys): (Option<&str>, &ClusterKeys),
        events: &mut Vec<LeaseEvent>,
    ) -> HolderNews {
        if held.is_some_and(|held| is_of_epoch(held, own.epoch)) {
            self.instead = None;
        }
        let ours = |held: &&str| {
            is_of_epoch(held, own.epoch) || self.instead.is_some_and(|e| is_of_epoch(held, e))
        };
        let Some(held) = held.filter(|held| !ours(held)) else { return self.joins() };
        let rival = read(keys, &own.node, held)
            .unwrap_or_else(|_| Member { node: own.node.clone(), ..own.clone() });
        self.meets(now, rival, events);
        HolderNews::default()
    }

    /// The lease is this process's.
    fn joins(&mut self) -> HolderNews {
        let gone = self.before.take().filter(|_| self.rival.is_some());
        (self.rival, self.displaced) = (None, false);
        let before = std::mem::replace(&mut self.state, LeaseState::Joined);
        HolderNews { joined: before != LeaseState::Joined, gone }
    }

    /// The lease is another's.
    fn meets(&mut self, now: Instant, rival: Member, events: &mut Vec<LeaseEvent>) {
        self.displaced |= self.is_joined();
        let seen = self.rival.take();
        let (epoch, beat) = (rival.epoch, rival.beat);
        let seen = seen.unwrap_or(Rival { epoch, beat, renewed: 0 });
        let more = u32::from((seen.epoch, seen.beat) != (epoch, beat));
        let renewed = seen.renewed.saturating_add(more);
        self.rival = Some(Rival { epoch, beat, renewed });
        if renewed >= RENEWALS {
            self.before = None;
            if !self.is_refused() {
                let (node, by) = (rival.node, rival.advertise.to_string());
                events.push(LeaseEvent::NameTaken { node, by });
            }
            self.state = LeaseState::Refused;
        } else {
            self.before.get_or_insert((rival, now));
            if self.is_joined() {
                self.state = LeaseState::Joining;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);

    fn process(epoch: u64, beat: u64) -> Member {
        let at = SocketAddr::from(([127, 0, 0, 1], epoch as u16));
        Member { beat, ..Member::named("a", epoch, at) }
    }

    /// What a lease is like.
    fn lease(keys: &ClusterKeys, of: &Member) -> String {
        let text = serde_json::to_string(of).expect("JSON");
        format!("{:016x}{}", of.epoch, keys.seal(&super::super::member::name_of("a"), &text))
    }

    #[test]
    fn who_goes_on_renewing_has_the_name_and_who_is_gone_leaves_it_with_its_calls() {
        let (start, keys) = (Instant::now(), ClusterKeys::new("the key of a cluster, for a test"));
        let (own, mut standing, mut events) = (process(2, 1), LeaseStanding::new(), Vec::new());
        let mut look = |standing: &mut LeaseStanding, ms: u32, held: Option<&Member>| {
            let held = held.map(|held| lease(&keys, held));
            let news = standing.look(start + ms * MS, &own, (held.as_deref(), &keys), &mut events);
            (news.joined, news.gone.map(|(before, at)| (before.epoch, at)), events.len())
        };
        // One that was killed, with a renewal on its way.
        assert_eq!(look(&mut standing, 0, Some(&process(1, 7))), (false, None, 0));
        assert_eq!(look(&mut standing, 9, Some(&process(1, 8))), (false, None, 0));
        assert_eq!(look(&mut standing, 20, None), (true, Some((1, start)), 0));
        assert_eq!(look(&mut standing, 30, Some(&own)), (false, None, 0));
        assert!(standing.is_joined() && !standing.is_displaced());
        // One that lives.
        for (beat, said) in [(1, 0), (2, 0), (3, 1), (4, 1)] {
            assert_eq!(look(&mut standing, 40, Some(&process(3, beat))), (false, None, said));
            assert!(standing.is_displaced() && standing.is_refused() == (said > 0));
        }
        assert_eq!(look(&mut standing, 50, None), (true, None, 1));
        // What this process was is no other.
        standing.begin_anew(2);
        assert!(!standing.is_displaced());
        standing.follow(3);
        assert_eq!(look(&mut standing, 60, Some(&process(3, 5))), (false, None, 1));
        assert!(standing.is_joined() && standing.instead() == Some(3));
    }
}
