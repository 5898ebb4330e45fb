//! How busy a worker is, what its encoders may spend for it, and what the core learns of it.

use crate::media::session::COMPLEXITY;
use nix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the load is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Timers that must have fired in a second for their lateness to count.
const ENOUGH: u32 = 20;
/// What encoders may spend, step by step, the share of its time a worker works above which they are
/// to spend less than that, and the share below which they may spend more again. libopus encodes a
/// frame of 8 kHz speech in 136 µs at 10, 74 at 5, 34 at 1 and 31 at 0; by PESQ, with 3 % of
/// packets lost, it is worth 4.29, 4.29, 4.24 and 4.23.
const STEPS: [(u8, f32, f32); 3] = [(COMPLEXITY, 0.6, 0.0), (1, 0.6, 0.4), (0, f32::MAX, 0.4)];

/// What a worker did in its last second.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct WorkerLoad {
    /// The part of a processor it used, 0 to 1.
    pub(crate) share: f32,
    /// Datagrams it took.
    pub(crate) datagrams: u32,
    /// Sessions it has.
    pub(crate) sessions: usize,
    /// How late its timers fired on average.
    pub(crate) late: Duration,
}

/// What this thread has used of a processor so far. Nothing on a system that does not say.
pub(crate) fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// The newest [`WorkerLoad`], from a worker's thread to whoever asks; no lock between them.
#[derive(Debug, Default)]
pub struct LoadGauge {
    /// Millionths, and datagrams.
    work: AtomicU64,
    /// Sessions, and microseconds.
    rest: AtomicU64,
}

impl LoadGauge {
    fn publish(&self, load: WorkerLoad) {
        let pair = |high: u64, low: u64| high << 32 | low.min(u64::from(u32::MAX));
        let share = (f64::from(load.share) * 1e6) as u64;
        self.work.store(pair(share, u64::from(load.datagrams)), Ordering::Relaxed);
        let late = u64::try_from(load.late.as_micros()).unwrap_or(u64::MAX);
        self.rest.store(pair(load.sessions as u64, late), Ordering::Relaxed);
    }

    /// The newest.
    pub(crate) fn read(&self) -> WorkerLoad {
        let (work, rest) = (self.work.load(Ordering::Relaxed), self.rest.load(Ordering::Relaxed));
        WorkerLoad {
            share: (work >> 32) as f32 / 1e6,
            datagrams: work as u32,
            sessions: (rest >> 32) as usize,
            late: Duration::from_micros(u64::from(rest as u32)),
        }
    }
}

/// The meter.
#[derive(Debug)]
pub(super) struct Load {
    since: Instant,
    busy: Duration,
    datagrams: u32,
    /// Timers that fired, and how late all of them together.
    fired: (u32, Duration),
    /// What the thread had used when this second began.
    used: Duration,
    step: usize,
}

impl Load {
    pub(super) fn new(now: Instant) -> Load {
        let fired = (0, Duration::ZERO);
        Load {
            since: now,
            busy: Duration::ZERO,
            datagrams: 0,
            fired,
            used: Duration::ZERO,
            step: 0,
        }
    }

    /// A timer fired late.
    pub(super) fn late(&mut self, late: Duration) {
        self.fired = (self.fired.0 + 1, self.fired.1 + late);
    }

    /// What encoders may spend now.
    pub(super) fn complexity(&self) -> u8 {
        STEPS[self.step].0
    }

    /// Work was done for `busy` until `now`, with so many datagrams. Returns true if what encoders
    /// may spend has changed.
    pub(super) fn on_work(
        &mut self,
        now: Instant,
        (busy, datagrams): (Duration, u32),
        sessions: usize,
        (gauge, used): (&LoadGauge, impl Fn() -> Duration),
    ) -> bool {
        self.busy += busy;
        self.datagrams += datagrams;
        let passed = now.saturating_duration_since(self.since);
        if passed < EVERY {
            return false;
        }
        // Encoders spend less if the worker does not get along, for whatever reason; what is left
        // for calls depends on what it uses.
        let share = self.busy.as_secs_f32() / passed.as_secs_f32();
        let used = used();
        let of_processor = used.saturating_sub(self.used).as_secs_f32() / passed.as_secs_f32();
        let datagrams = (self.datagrams as f32 / passed.as_secs_f32()) as u32;
        // A few timers say nothing.
        let enough = self.fired.0 >= ENOUGH;
        let late = self.fired.1.checked_div(self.fired.0).filter(|_| enough).unwrap_or_default();
        gauge.publish(WorkerLoad { share: of_processor, datagrams, sessions, late });
        *self = Load { step: self.step, used, ..Load::new(now) };
        let (_, busy, calm) = STEPS[self.step];
        let step = match share {
            s if s > busy => self.step + 1,
            s if s < calm => self.step - 1,
            _ => self.step,
        };
        std::mem::replace(&mut self.step, step) != step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_worker_asks_for_less_step_by_step_and_a_calm_one_gives_back() {
        let mut now = Instant::now();
        let (mut load, gauge) = (Load::new(now), LoadGauge::default());
        let mut second = |load: &mut Load, share: f32| {
            for _ in 0..100 {
                now += Duration::from_millis(10);
                let busy = Duration::from_millis(10).mul_f32(share);
                load.on_work(now, (busy, 3), 7, (&gauge, || Duration::ZERO));
            }
            load.complexity()
        };
        assert_eq!(
            [0.3, 0.7, 0.7, 0.9, 0.5, 0.5, 0.3, 0.5, 0.7, 0.3, 0.3, 0.3]
                .map(|s| second(&mut load, s)),
            [10, 1, 0, 0, 0, 0, 1, 1, 0, 1, 10, 10]
        );
        for _ in 0..ENOUGH {
            load.late(Duration::from_millis(3));
            load.late(Duration::from_millis(9));
        }
        load.on_work(now + EVERY, (EVERY, 200), 9, (&gauge, || EVERY / 4));
        let last =
            WorkerLoad { share: 0.25, datagrams: 200, sessions: 9, late: Duration::from_millis(6) };
        assert_eq!(gauge.read(), last);
    }
}
