//! How much of the processors' time TLS handshakes may take: as much as does no harm to calls in
//! progress. A machine; the shell that answers handshakes asks it, and tells it what they cost.

use std::time::{Duration, Instant};

/// The share of all processors at the start, at most, and at least: returning clients are served,
/// however slowly.
const FIRST: f32 = 0.5;
const HIGHEST: f32 = 0.75;
const LOWEST: f32 = 0.05;
/// What it grows by in a second without harm; with harm it is halved.
const STEP: f32 = 0.02;
/// Time that may be spent in advance of the share.
const BURST: f32 = 0.1;

/// The budget.
#[derive(Debug)]
pub(super) struct Budget {
    processors: f32,
    share: f32,
    /// Seconds of a processor that may be spent now; negative: owed.
    credit: f32,
    at: Option<Instant>,
}

impl Budget {
    /// For so many processors.
    pub(super) fn new(processors: usize) -> Budget {
        Budget { processors: processors as f32, share: FIRST, credit: BURST, at: None }
    }

    fn rate(&self) -> f32 {
        self.share * self.processors
    }

    fn earn(&mut self, now: Instant) {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.credit = (self.credit + self.rate() * passed.as_secs_f32()).min(BURST);
        self.at = Some(now);
    }

    /// How long the next handshake has to wait.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        self.earn(now);
        Duration::from_secs_f32((-self.credit / self.rate()).max(0.0))
    }

    /// A handshake has taken so long of a processor.
    pub(super) fn spent(&mut self, cost: Duration) {
        self.credit -= cost.as_secs_f32();
    }

    /// A second is over, with or without harm to calls in progress.
    pub(super) fn judge(&mut self, now: Instant, harmed: bool) {
        self.earn(now);
        self.share = match harmed {
            true => (self.share / 2.0).max(LOWEST),
            false => (self.share + STEP).min(HIGHEST),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Duration = Duration::from_millis(1);

    /// Handshakes of a second in which as many are wanted as can be.
    fn second(budget: &mut Budget, now: &mut Instant) -> u32 {
        let (end, mut done) = (*now + Duration::from_secs(1), 0);
        while *now < end {
            let wait = budget.wait(*now);
            if wait.is_zero() {
                budget.spent(COST);
                done += 1;
                *now += Duration::from_micros(100);
            } else {
                *now += wait.max(Duration::from_micros(1));
            }
        }
        done
    }

    #[test]
    fn ten_thousand_that_come_back_are_let_in_as_fast_as_calls_bear() {
        let (mut budget, mut now) = (Budget::new(2), Instant::now());
        let (mut rates, mut harm) = (Vec::new(), 0);
        // Calls are harmed if handshakes take more than 40 % of the processors.
        for _ in 0..60 {
            let done = second(&mut budget, &mut now);
            let harmed = done > 800;
            harm += u32::from(harmed);
            budget.judge(now, harmed);
            rates.push(done);
        }
        let settled = &rates[10..];
        let mean = settled.iter().sum::<u32>() / settled.len() as u32;
        assert!((500..800).contains(&mean), "{mean}: {rates:?}");
        assert!(harm <= 7, "harm in {harm} of 60 s");
    }

    #[test]
    fn with_harm_it_falls_and_never_to_nothing_and_without_it_grows_again() {
        let (mut budget, mut now) = (Budget::new(2), Instant::now());
        for _ in 0..20 {
            second(&mut budget, &mut now);
            budget.judge(now, true);
        }
        let least = second(&mut budget, &mut now);
        assert!((90..=110).contains(&least), "{least}");
        for _ in 0..40 {
            second(&mut budget, &mut now);
            budget.judge(now, false);
        }
        let most = second(&mut budget, &mut now);
        assert!((1_480..=1_520).contains(&most), "{most}");
    }
}
