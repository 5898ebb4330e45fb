//! How many calls are left on each media worker, in units of what a call costs there.
//!
//! A call costs nothing while it rings, and all at once when it is answered. So the young ones are
//! counted at what they will cost, by the share of older ones that turned out to carry media.

use crate::worker::load::WorkerLoad;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The share of its time that a worker's calls may take: beyond it packets wait for each other.
const RATED: f32 = 0.75;
/// The share that one call takes if nothing is known yet: Opus to G.711, 239 on a core.
const PRIOR: f32 = 0.004;
/// What is known counts once there are about so many calls.
const WEIGHT: f32 = 10.0;
/// Packets of a call in a second: 20 ms each, both legs.
const PACKETS: f32 = 100.0;
/// A call is young for so many seconds: it may ring, and does not show in the load.
const YOUNG: usize = 20;
/// A worker whose timers fire this late on average has nothing left, whatever its load: it does
/// not get the processor.
const STARVED: Duration = Duration::from_millis(50);

/// Calls by the second they began in, for the last [`YOUNG`] seconds.
#[derive(Clone, Debug, Default)]
struct Young {
    /// The newest second first.
    by_second: VecDeque<u32>,
    newest: u64,
    all: u32,
}

impl Young {
    fn at(&mut self, second: u64) {
        while self.newest < second {
            self.newest += 1;
            self.by_second.push_front(0);
            if self.by_second.len() > YOUNG {
                self.all -= self.by_second.pop_back().unwrap_or(0);
            }
            if self.all == 0 && self.newest < second {
                self.newest = second - 1;
            }
        }
    }

    fn began(&mut self, second: u64) {
        self.at(second);
        if let Some(count) = self.by_second.front_mut() {
            *count += 1;
            self.all += 1;
        }
    }

    fn ended(&mut self, began: u64) {
        let age = self.newest.saturating_sub(began) as usize;
        if let Some(count) = self.by_second.get_mut(age).filter(|count| **count > 0) {
            *count -= 1;
            self.all -= 1;
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Unit {
    load: WorkerLoad,
    young: Young,
    /// Calls given to the worker since it last reported.
    unreported: u32,
}

impl Unit {
    /// The share that one call takes which carries media.
    fn cost(&self) -> f32 {
        (self.load.share + WEIGHT * PRIOR) / (self.active() + WEIGHT)
    }

    /// Calls that carry media, by the packets there were.
    fn active(&self) -> f32 {
        self.load.datagrams as f32 / PACKETS
    }

    /// The share of calls that carry media once they are no longer young.
    fn carries(&self) -> f32 {
        let old = (self.load.sessions as f32 - self.young.all as f32).max(0.0);
        ((self.active() + WEIGHT) / (old + WEIGHT)).min(1.0)
    }

    /// Young calls that carry no media yet. Those that do are in the load already: counted twice, a
    /// gateway that has just started would refuse half of the calls it has room for.
    fn waiting(&self) -> f32 {
        let silent = (self.load.sessions as f32 - self.active()).max(0.0);
        (silent + self.unreported as f32).min(self.young.all as f32)
    }

    /// The share its calls will take once all of them talk.
    fn expected(&self) -> f32 {
        self.load.share + self.waiting() * self.carries() * self.cost()
    }

    fn left(&self) -> usize {
        if self.load.late >= STARVED {
            return 0;
        }
        ((RATED - self.expected()) / self.cost()).max(0.0) as usize
    }
}

/// All workers.
#[derive(Debug)]
pub(in crate::gateway) struct Units {
    all: Vec<Unit>,
    origin: Option<Instant>,
    next: usize,
}

impl Units {
    /// Nothing is known of any; there is at least one.
    pub(super) fn new(workers: usize) -> Units {
        Units { all: vec![Unit::default(); workers.max(1)], origin: None, next: 0 }
    }

    fn second(&mut self, at: Instant) -> u64 {
        let origin = *self.origin.get_or_insert(at);
        // From one on, so that the first second is newer than none.
        at.saturating_duration_since(origin).as_secs() + 1
    }

    /// What a worker says of its last second.
    pub(in crate::gateway) fn report(&mut self, now: Instant, worker: usize, load: WorkerLoad) {
        let second = self.second(now);
        if let Some(unit) = self.all.get_mut(worker) {
            unit.young.at(second);
            (unit.load, unit.unreported) = (load, 0);
        }
    }

    /// The worker of the next call: the one with the least to do; of equals, each in turn.
    pub(in crate::gateway) fn take(&mut self, now: Instant) -> usize {
        let (second, count) = (self.second(now), self.all.len());
        let in_turn = (0..count).map(|n| (self.next + n) % count);
        let least = in_turn.min_by(|a, b| {
            let expected = |n: &usize| self.all[*n].expected();
            expected(a).total_cmp(&expected(b))
        });
        let worker = least.unwrap_or(0);
        self.next = (worker + 1) % count;
        self.all[worker].young.began(second);
        self.all[worker].unreported += 1;
        worker
    }

    /// A call that began then has ended.
    pub(in crate::gateway) fn ended(&mut self, worker: usize, began: Instant) {
        let second = self.second(began);
        if let Some(unit) = self.all.get_mut(worker) {
            unit.young.ended(second);
        }
    }

    /// Calls that can be taken.
    pub(in crate::gateway) fn left(&self) -> usize {
        self.all.iter().map(Unit::left).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn load(share: f32, talking: usize, sessions: usize) -> WorkerLoad {
        WorkerLoad { share, datagrams: talking as u32 * 100, sessions, late: Duration::ZERO }
    }

    #[test]
    fn calls_go_in_turn_and_then_to_the_worker_with_the_least_to_do() {
        let now = Instant::now();
        let mut units = Units::new(3);
        assert_eq!((0..6).map(|_| units.take(now)).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
        units.report(now, 0, load(0.5, 100, 100));
        units.report(now, 2, load(0.5, 100, 100));
        assert_eq!((0..3).map(|_| units.take(now)).collect::<Vec<_>>(), [1, 1, 1]);
    }

    #[test]
    fn what_a_call_costs_is_learned_and_says_how_many_are_left() {
        let now = Instant::now();
        let mut units = Units::new(1);
        assert_eq!(units.left(), 187, "by what is known of such calls");
        // Relayed calls: a sixth of the cost.
        units.report(now, 0, load(0.07, 100, 100));
        let relayed = units.left();
        assert!((600..700).contains(&relayed), "{relayed}");
        // Transcoded on a slow machine.
        units.report(now, 0, load(0.6, 100, 100));
        let slow = units.left();
        assert!((20..30).contains(&slow), "{slow}");
        units.report(now, 0, load(0.9, 130, 130));
        assert_eq!(units.left(), 0);
        let starved = WorkerLoad { late: STARVED, ..load(0.2, 30, 30) };
        units.report(now, 0, starved);
        assert_eq!(units.left(), 0, "it does not get the processor");
    }

    #[test]
    fn calls_that_ring_are_counted_before_they_cost_anything() {
        let now = Instant::now();
        let mut units = Units::new(1);
        units.report(now, 0, load(0.4, 100, 100));
        let before = units.left();
        (0..50).for_each(|_| assert_eq!(units.take(now), 0));
        assert!(before - units.left() >= 45, "{before} and then {}", units.left());
        (0..20).for_each(|_| units.ended(0, now));
        assert!(before - units.left() <= 31, "the ones that ended are not");
        // Twenty seconds later they show in the load, or do not.
        units.report(now + 21 * SECOND, 0, load(0.52, 130, 130));
        let talking = units.left();
        assert!((55..60).contains(&talking), "{talking}");
    }

    #[test]
    fn calls_that_carry_media_are_not_counted_twice() {
        let mut now = Instant::now();
        let (mut units, mut taken) = (Units::new(1), 0);
        for _ in 0..5 {
            for _ in 0..100 {
                assert!(units.left() > 0, "refused after {taken} calls of a thousandth each");
                units.take(now);
                taken += 1;
            }
            now += SECOND;
            // Those of this second have talked for half of it.
            let talking = taken - 50;
            units.report(now, 0, load(talking as f32 * 0.001, talking, taken));
        }
    }

    #[test]
    fn calls_without_media_do_not_use_a_worker_up() {
        let mut now = Instant::now();
        let (mut units, mut taken) = (Units::new(1), 0);
        for _ in 0..60 {
            now += SECOND;
            units.report(now, 0, load(0.01, 0, taken));
            for _ in 0..100 {
                if units.left() > 0 {
                    units.take(now);
                    taken += 1;
                }
            }
        }
        assert!(taken > 3_000, "{taken}");
    }
}
