//! Faults of a store that is not away: it is slow, has what it held a while ago, goes by another
//! clock. And nodes whose clocks are wrong.

use crate::store::StoreModel;
use crate::world::{Fault, World};
use std::time::{Duration, Instant};

/// How long a primary goes on by itself that needs a replica: `min-replicas-max-lag 2`, in whole
/// seconds, and looked at once a second.
const LAG: Duration = Duration::from_secs(4);

/// A primary that one node has for itself.
pub(super) struct Parted {
    /// The node.
    pub(super) alone: usize,
    pub(super) store: StoreModel,
    needs: bool,
    since: Instant,
}

impl Parted {
    /// Whether it takes no writes of the node any more.
    pub(super) fn refuses(&self, node: usize, now: Instant) -> bool {
        self.alone == node && self.needs && now >= self.since + LAG
    }
}

impl World {
    /// A node keeps the primary, and nobody else does.
    pub(super) fn part_store(&mut self, alone: usize, needs: bool) {
        let others: Vec<usize> = (0..self.size).filter(|n| *n != alone).collect();
        others.into_iter().for_each(|other| self.fault(Fault::Cut(alone, other)));
        self.parted = Some(Parted { alone, store: self.store.clone(), needs, since: self.now });
        self.fault(Fault::StoreFailsOver);
    }

    /// The store's clock is set. What it holds for a minute may expire by that, which nobody has to
    /// tell anyone.
    pub(super) fn set_store_clock(&mut self, by: i64) {
        self.store.set_clock(self.now, by);
        if by > 0 {
            self.calls.store_lost(self.now);
        }
    }

    /// As [`stir`](Self::stir), and what else may be wrong with a store and with clocks.
    pub(crate) fn stir_worse(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.stir(Duration::from_millis(1_500));
            let n = self.below(self.size as u64) as usize;
            let sign = if self.below(2) == 0 { 1 } else { -1 };
            match self.below(18) {
                0 => self.fault(Fault::StoreSlow(Duration::from_secs(2))),
                1 => {
                    // A renewal comes through now and then, and a lease just so.
                    let by = self.between(300_000, 1_900_000);
                    self.fault(Fault::StoreSlow(by));
                }
                2 | 3 => self.fault(Fault::StoreSlow(Duration::ZERO)),
                4 => {
                    let back = self.below(8) as usize;
                    self.fault(Fault::StoreOfBefore(back, false));
                }
                5 => {
                    let back = self.below(8) as usize;
                    self.fault(Fault::StoreOfBefore(back, true));
                }
                6 => {
                    let all = [-3_600_000, -60_000, -400, 400, 20_000, 90_000];
                    let by = all[self.below(6) as usize];
                    self.fault(Fault::StoreClock(by));
                }
                7 => {
                    let ahead = [0, 2, 60, 100_000][self.below(4) as usize];
                    self.fault(Fault::NodeClock(n, sign * ahead));
                }
                8 if self.twins => self.toggle_twin(n),
                9 => {
                    let other = (n + 1 + self.below(self.size as u64 - 1) as usize) % self.size;
                    self.fault(Fault::CutOneWay(n, other));
                }
                10 => self.fault(Fault::StoreMute(n)),
                11 | 12 => self.fault(Fault::Upgrade(n)),
                _ => {}
            }
        }
    }

    /// A second process of a node's name begins on another machine, or ends.
    fn toggle_twin(&mut self, of: usize) {
        match self.nodes.get(self.size).map(|twin| twin.gateway.is_some()) {
            None => drop(self.add_twin(of)),
            Some(true) => self.fault(Fault::Kill(self.size)),
            Some(false) => self.fault(Fault::Start(self.size)),
        }
    }
}
