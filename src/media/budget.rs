//! What one end may send: twice what the shortest packets of a call come to, so that no peer has
//! its others wait, or its partner's link filled, by packets that are authentic and far too many.

use std::time::{Duration, Instant};

/// A packet's share of time, of 200 a second: packets of 10 ms each, and as many again for digits
/// and repetitions.
const SHARE: Duration = Duration::from_millis(5);
/// Shares at once: what a network holds back for two seconds comes in a moment.
const BURST: Duration = Duration::from_secs(2);

/// A bucket of packets that runs empty with time; kept as the time when it is (the virtual
/// scheduling algorithm of ITU-T I.371).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PacketBudget {
    empty: Option<Instant>,
}

impl PacketBudget {
    /// Takes a packet's share; false if nothing is left, and the packet is one too many.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let empty = self.empty.map_or(now, |at| at.max(now)) + SHARE;
        let passes = empty <= now + BURST;
        if passes {
            self.empty = Some(empty);
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_call_has_what_it_needs_and_a_flood_its_share() {
        let (mut budget, start) = (PacketBudget::default(), Instant::now());
        // 10 ms packets with a digit's packets beside them, for a minute.
        let steady = (0..60_000u64).step_by(5).map(|ms| start + Duration::from_millis(ms));
        assert_eq!(steady.filter(|at| !budget.take(*at)).count(), 0);
        // 15,000 a second for ten seconds.
        let start = start + Duration::from_secs(60);
        let flood = (0..150_000u64).map(|n| start + Duration::from_micros(n * 67));
        let passed = flood.filter(|at| budget.take(*at)).count();
        assert!((2_000..2_500).contains(&passed), "{passed}");
    }

    #[test]
    fn what_a_network_held_back_passes() {
        let (mut budget, start) = (PacketBudget::default(), Instant::now());
        assert_eq!((0..200).filter(|_| !budget.take(start)).count(), 0);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..200).filter(|_| !budget.take(later)).count(), 0);
    }
}
