//! How busy a worker is, and what its encoders may spend for it.

use crate::media::session::COMPLEXITY;
use std::time::{Duration, Instant};

/// How often the load is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Share of its time a worker spends on work, above which encoders are to spend less, and below which more again.
const BUSY: f32 = 0.6;
const CALM: f32 = 0.4;
/// What encoders may spend, step by step. libopus encodes a frame of 8 kHz speech in 39 µs at 5, 29 at 3, 17 at 1;
/// below that the speech suffers more than the load gains.
const STEPS: [u8; 4] = [COMPLEXITY, 5, 3, 1];

/// The meter.
#[derive(Debug)]
pub(super) struct Load {
    since: Instant,
    busy: Duration,
    step: usize,
}

impl Load {
    pub fn new(now: Instant) -> Load {
        Load { since: now, busy: Duration::ZERO, step: 0 }
    }

    /// What encoders may spend now.
    pub fn complexity(&self) -> u8 {
        STEPS[self.step]
    }

    /// Work was done for `busy` until `now`. True: what encoders may spend has changed.
    pub fn worked(&mut self, now: Instant, busy: Duration) -> bool {
        self.busy += busy;
        let passed = now.saturating_duration_since(self.since);
        if passed < EVERY {
            return false;
        }
        let share = self.busy.as_secs_f32() / passed.as_secs_f32();
        (self.since, self.busy) = (now, Duration::ZERO);
        let step = match share {
            s if s > BUSY => (self.step + 1).min(STEPS.len() - 1),
            s if s < CALM => self.step.saturating_sub(1),
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
        assert_eq!([0.3, 0.7, 0.7, 0.7, 0.7, 0.5, 0.3, 0.3, 0.3, 0.3].map(|s| second(&mut load, s)), [10, 5, 3, 1, 1, 1, 3, 5, 10, 10]);
    }
}
