//! What came and went over time: one sample a second at first, coarser as a call grows long.
//!
//! A fixed number of samples: when they are full, each two become one and the step doubles. Taken
//! when a packet comes, so that a session needs no timer for it; a silence is one long sample.

use super::loudness::{level_of, power_of};
use crate::rtp::quality::Impairment;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Samples kept.
const MOST: usize = 120;
/// Samples of an outline.
const OUTLINE: usize = 8;
/// Fewest packets of a sample that allow a score: half a second of 20 ms.
const FEW: u64 = 25;
const STEP: Duration = Duration::from_secs(1);

/// Counts since the sample before.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// When it ended, milliseconds since the end's first packet.
    pub at: u32,
    /// Packets that came.
    pub received: u32,
    /// Packets that did not come, by their numbers.
    pub lost: u32,
    /// Packets that were sent.
    pub sent: u32,
    /// Interarrival jitter, milliseconds.
    pub jitter: u16,
    /// Milliseconds; 0 if unknown.
    pub round_trip: u16,
    /// Loss of what we sent, by the peer's newest report, percent.
    pub reported_loss: u8,
    /// How loud what came was, -dBov: 0 is the loudest square wave, 127 is nothing (RFC 6464).
    /// `None` where nothing came, or it was not decoded and its sender did not say.
    pub level: Option<u8>,
    /// Jitter of what we sent, by the peer's newest report, milliseconds; `None` before the first.
    pub reported_jitter: Option<u16>,
    /// How loud what we played was, -dBov; `None` where nothing was played.
    pub played_level: Option<u8>,
}

impl Sample {
    /// The estimated opinion score of what was received, 1 to 4.41; none of too few packets.
    pub(crate) fn mos(&self) -> Option<f32> {
        let expected = self.received.saturating_add(self.lost);
        let loss = self.lost as f32 / expected as f32;
        (u64::from(expected) >= FEW).then(|| self.score(loss, self.jitter))
    }

    /// The estimated opinion score of what was sent, by the peer's newest report; none before it,
    /// and of too few packets.
    pub(crate) fn reported_mos(&self) -> Option<f32> {
        let jitter = self.reported_jitter.filter(|_| u64::from(self.sent) >= FEW)?;
        Some(self.score(f32::from(self.reported_loss) / 100.0, jitter))
    }

    /// `loss`: of all packets, 0 to 1. `jitter`: milliseconds.
    fn score(&self, loss: f32, jitter: u16) -> f32 {
        Impairment {
            loss,
            burst_ratio: 1.0,
            jitter: Duration::from_millis(jitter.into()),
            round_trip: Duration::from_millis(self.round_trip.into()),
        }
        .mos()
    }

    /// This and the next as one.
    fn and(self, next: Sample) -> Sample {
        Sample {
            received: self.received.saturating_add(next.received),
            lost: self.lost.saturating_add(next.lost),
            sent: self.sent.saturating_add(next.sent),
            jitter: self.jitter.max(next.jitter),
            round_trip: self.round_trip.max(next.round_trip),
            reported_loss: self.reported_loss.max(next.reported_loss),
            level: together((self.level, self.received), (next.level, next.received)),
            reported_jitter: self.reported_jitter.max(next.reported_jitter),
            played_level: together((self.played_level, self.sent), (next.played_level, next.sent)),
            ..next
        }
    }
}

/// Two levels, each with its packets, as one: their mean power by the packets. A pause between
/// words so lowers it little, and silence stays silence.
fn together(this: (Option<u8>, u32), next: (Option<u8>, u32)) -> Option<u8> {
    let ((Some(ours), here), (Some(theirs), there)) = (this, next) else {
        return this.0.or(next.0);
    };
    let (here, there) = (f64::from(here.max(1)), f64::from(there.max(1)));
    let power = power_of(ours) * here + power_of(theirs) * there;
    Some(level_of(power / (here + there)))
}

/// How loud both directions were since the sample before, -dBov, as far as it was measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Levels {
    /// What came.
    pub came: Option<u8>,
    /// What was played.
    pub played: Option<u8>,
}

/// An end's figures so far, as counted elsewhere.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Packets that came.
    pub received: u64,
    /// Packets that did not come, by their numbers.
    pub lost: u64,
    /// Packets that were sent, modulo 2^32.
    pub sent: u32,
    /// Interarrival jitter.
    pub jitter: Duration,
    /// Round trip by RTCP; zero if unknown.
    pub round_trip: Duration,
    /// Loss the peer reports, percent.
    pub reported_loss: u8,
    /// Jitter the peer reports; `None` before its first report.
    pub reported_jitter: Option<Duration>,
}

fn millis(duration: Duration) -> u16 {
    duration.as_millis().min(u128::from(u16::MAX)) as u16
}

/// The samples of one end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    began: Option<Instant>,
    next: Option<Instant>,
    step: Duration,
    before: Totals,
    samples: Vec<Sample>,
}

impl Series {
    /// Whether a sample is to be taken at `now`.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// Takes a sample; the first call only notes the beginning.
    pub(crate) fn take(&mut self, now: Instant, totals: Totals, levels: Levels) {
        let Some(began) = self.began else {
            self.step = STEP;
            (self.began, self.next) = (Some(now), Some(now + STEP));
            self.samples.reserve_exact(MOST);
            return;
        };
        self.samples.push(Sample {
            at: now.saturating_duration_since(began).as_millis() as u32,
            received: totals.received.saturating_sub(self.before.received) as u32,
            lost: totals.lost.saturating_sub(self.before.lost) as u32,
            sent: totals.sent.wrapping_sub(self.before.sent),
            jitter: millis(totals.jitter),
            round_trip: millis(totals.round_trip),
            reported_loss: totals.reported_loss,
            level: levels.came,
            reported_jitter: totals.reported_jitter.map(millis),
            played_level: levels.played,
        });
        self.before = totals;
        if self.samples.len() == MOST {
            self.halve();
        }
        self.next = Some(now + self.step);
    }

    fn halve(&mut self) {
        for n in 0..MOST / 2 {
            self.samples[n] = self.samples[2 * n].and(self.samples[2 * n + 1]);
        }
        self.samples.truncate(MOST / 2);
        self.step *= 2;
    }

    /// The whole in few samples, with when it began and what was counted before the next.
    pub(super) fn outline(&self) -> Option<(Instant, Totals, Vec<Sample>)> {
        let together = self.samples.len().div_ceil(OUTLINE).max(1);
        let merge = |few: &[Sample]| few.iter().copied().reduce(Sample::and);
        let samples = self.samples.chunks(together).filter_map(merge).collect();
        self.began.map(|began| (began, self.before, samples))
    }

    /// Goes on from an outline, with the step a call of its length has.
    pub(super) fn resume(
        now: Instant,
        began: Instant,
        before: Totals,
        outline: Vec<Sample>,
    ) -> Series {
        let mut samples = Vec::with_capacity(MOST);
        samples.extend(outline.into_iter().take(OUTLINE));
        let seconds = now.saturating_duration_since(began).as_secs();
        // A week is as good as any longer time.
        let full = (0..12).find(|n| seconds < (MOST as u64) << n).unwrap_or(12);
        let step = STEP * (1 << full);
        Series { began: Some(began), next: Some(now + step), step, before, samples }
    }

    /// All samples, the oldest first.
    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came(level: u8) -> Levels {
        Levels { came: Some(level), played: None }
    }

    #[test]
    fn a_day_is_a_hundred_samples_and_nothing_is_lost_in_them() {
        let mut series = Series::default();
        let start = Instant::now();
        let mut totals = Totals::default();
        for n in 0..86_400u64 {
            totals.received += 50;
            totals.lost += n % 2;
            totals.sent += 50;
            let now = start + Duration::from_secs(n);
            if series.is_due(now) {
                series.take(now, totals, came(if n % 2 == 0 { 20 } else { 127 }));
            }
        }
        let samples = series.samples();
        assert!((MOST / 4..MOST).contains(&samples.len()), "{}", samples.len());
        let received: u64 = samples.iter().map(|s| u64::from(s.received)).sum();
        assert!(received > 86_400 * 50 * 95 / 100, "{received}");
        assert!(samples.windows(2).all(|w| w[0].at < w[1].at));
    }

    #[test]
    fn samples_put_together_have_their_mean_power() {
        let of = |received, level| Sample { received, level, ..Sample::default() };
        let both = |one: Sample, next: Sample| one.and(next).level;
        assert_eq!(both(of(50, Some(20)), of(50, Some(20))), Some(20));
        assert_eq!(both(of(50, Some(20)), of(50, Some(127))), Some(23), "half of it is a pause");
        assert_eq!(both(of(150, Some(20)), of(50, Some(127))), Some(21), "less of it is");
        assert_eq!(both(of(50, Some(127)), of(50, Some(127))), Some(127), "silence stays silence");
        assert_eq!(both(of(0, None), of(50, Some(30))), Some(30));
        assert_eq!(both(of(50, Some(30)), of(0, None)), Some(30));
        assert_eq!(both(of(50, None), of(50, None)), None, "nobody knows");
        // However often: an hour in eight samples is as loud as each second of it.
        let mut series = Series::default();
        let start = Instant::now();
        for n in 0..3_600 {
            let totals = Totals { received: n * 50, ..Totals::default() };
            let now = start + Duration::from_secs(n);
            if series.is_due(now) {
                series.take(now, totals, came(if n % 2 == 0 { 20 } else { 24 }));
            }
        }
        let (_, _, outline) = series.outline().expect("begun");
        assert!(outline.len() <= OUTLINE);
        assert!(outline.iter().all(|s| s.level.is_some_and(|l| (20..=23).contains(&l))));
    }

    #[test]
    fn a_sample_is_scored_by_what_came_in_it() {
        let sample = |received, lost| Sample { received, lost, ..Sample::default() };
        assert_eq!(sample(20, 4).mos(), None, "too few to say");
        let score = |received, lost| sample(received, lost).mos().expect("enough");
        assert!(score(50, 0) > 4.3 && score(45, 5) < 3.6 && score(0, 50) < 1.5);
    }

    #[test]
    fn what_was_sent_is_scored_by_what_the_peer_reports_of_it() {
        let sent = |reported_loss, reported_jitter| Sample {
            sent: 50,
            reported_loss,
            reported_jitter,
            ..Sample::default()
        };
        assert_eq!(sent(0, None).reported_mos(), None, "it has reported nothing");
        assert_eq!(Sample { sent: 20, ..sent(0, Some(0)) }.reported_mos(), None, "too few to say");
        let score = |loss, jitter| sent(loss, Some(jitter)).reported_mos().expect("reported");
        assert!(score(0, 0) > 4.3 && score(10, 0) < 3.6 && score(0, 200) < 3.9);
        let both = sent(0, None).and(sent(0, Some(7)));
        assert_eq!(both.reported_jitter, Some(7), "the worse of two, and what is known");
    }
}
