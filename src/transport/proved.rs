//! Where people are known to be: networks that a user has registered from lately. What strangers
//! crowd at the door is not in their way.

use crate::address::network_of;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Networks that are remembered, in each of two halves.
const MAX_NETWORKS: usize = 65_536;
/// A network is remembered for as long as this, and up to twice as long.
const REMEMBERED: Duration = Duration::from_secs(3_600);

/// The networks of users that have registered.
#[derive(Debug)]
pub(crate) struct ProvedSources(Mutex<Halves>);

/// Whoever registers again is in the newer half: the older one is forgotten as a whole.
#[derive(Debug)]
struct Halves {
    newer: HashSet<IpAddr>,
    older: HashSet<IpAddr>,
    since: Instant,
}

impl ProvedSources {
    pub(crate) fn new(now: Instant) -> ProvedSources {
        let halves = Halves { newer: HashSet::new(), older: HashSet::new(), since: now };
        ProvedSources(Mutex::new(halves))
    }

    /// A user has registered from there.
    pub(crate) fn prove(&self, now: Instant, address: IpAddr) {
        let mut halves = self.halves();
        let is_old = now.saturating_duration_since(halves.since) >= REMEMBERED;
        if is_old || halves.newer.len() >= MAX_NETWORKS {
            halves.older = std::mem::take(&mut halves.newer);
            halves.since = now;
        }
        halves.newer.insert(network_of(address));
    }

    /// Whether a user has registered from there lately.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        let (halves, network) = (self.halves(), network_of(address));
        halves.newer.contains(&network) || halves.older.contains(&network)
    }

    fn halves(&self) -> std::sync::MutexGuard<'_, Halves> {
        // Sets are sound after every statement, so a panic elsewhere does not spoil them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_registers_again_is_remembered_and_others_are_forgotten() {
        let start = Instant::now();
        let (stays, leaves) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let proved = ProvedSources::new(start);
        proved.prove(start, leaves);
        for hour in 0..4 {
            proved.prove(start + REMEMBERED * hour, stays);
        }
        assert!(proved.has(stays) && !proved.has(leaves));
    }

    #[test]
    fn a_crowd_takes_bounded_room_and_an_ipv6_network_is_one() {
        let start = Instant::now();
        let proved = ProvedSources::new(start);
        for n in 0..4 * MAX_NETWORKS as u32 {
            proved.prove(start, IpAddr::from(n.to_be_bytes()));
        }
        let halves = proved.halves();
        assert!(halves.newer.len() + halves.older.len() <= 2 * MAX_NETWORKS);
        drop(halves);
        let of = |interface| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, interface]);
        proved.prove(start, of(1));
        assert!(proved.has(of(2)));
    }
}
