//! How busy a worker is, and what its encoders may spend for it.

use crate::media::session::COMPLEXITY;
use std::time::{Duration, Instant};

/// How often the load is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// What encoders may spend, step by step, the share of its time a worker works above which they are
/// to spend less than that, and the share below which they may spend more again. libopus encodes a
/// frame of 8 kHz speech in 136 µs at 10, 74 at 5, 34 at 1 and 31 at 0; by PESQ, with 3 % of
/// packets lost, it is worth 4.29, 4.29, 4.24 and 4.23.
const STEPS: [(u8, f32, f32); 3] = [(COMPLEXITY, 0.6, 0.0), (1, 0.6, 0.4), (0, f32::MAX, 0.4)];

/// The meter.
#[derive(Debug)]
pub(super) struct Load {
    since: Instant,
    busy: Duration,
    step: usize,
}

impl Load {
    pub(super) fn new(now: Instant) -> Load {
        Load { since: now, busy: Duration::ZERO, step: 0 }
    }

    /// What encoders may spend now.
    pub(super) fn complexity(&self) -> u8 {
        STEPS[self.step].0
    }

    /// Work was done for `busy` until `now`. True: what encoders may spend has changed.
    pub(super) fn worked(&mut self, now: Instant, busy: Duration) -> bool {
        self.busy += busy;
        let passed = now.saturating_duration_since(self.since);
        if passed < EVERY {
            return false;
        }
        let share = self.busy.as_secs_f32() / passed.as_secs_f32();
        (self.since, self.busy) = (now, Duration::ZERO);
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
        let mut load = Load::new(now);
        let mut second = |load: &mut Load, share: f32| {
            for _ in 0..100 {
                now += Duration::from_millis(10);
                load.worked(now, Duration::from_millis(10).mul_f32(share));
            }
            load.complexity()
        };
        assert_eq!(
            [0.3, 0.7, 0.7, 0.9, 0.5, 0.5, 0.3, 0.5, 0.7, 0.3, 0.3, 0.3]
                .map(|s| second(&mut load, s)),
            [10, 1, 0, 0, 0, 0, 1, 1, 0, 1, 10, 10]
        );
    }
}
