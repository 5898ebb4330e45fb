//! How a call sounds, estimated from what the network did to it (ITU-T G.107's E-model at its
//! defaults).
//!
//! An estimate, never a measurement: nobody has listened. It knows loss and how it clusters, delay
//! and the codec; it knows nothing of microphones, echo or noise.

use std::time::Duration;

/// R of a line without any impairment (G.107 table 1's defaults).
const BEST: f32 = 93.2;
/// What a packet and the least jitter buffer take, beside the network.
const ENDS: Duration = Duration::from_millis(40);

/// Packets before a direction has a score, about a second of sound: less says nothing of it.
pub const ENOUGH: u64 = 50;

/// What the network did to one direction.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Impairment {
    /// Share of packets lost, 0 to 1.
    pub loss: f32,
    /// Mean length of runs of lost packets against that of losses at random, 1 and up (G.107's
    /// BurstR).
    pub burst_ratio: f32,
    /// Interarrival jitter (RFC 3550); a buffer of twice that is assumed.
    pub jitter: Duration,
    /// Network and both ends' buffers.
    pub round_trip: Duration,
}

/// Robustness to loss (G.113 appendix I, Bpl) of G.711 with concealment, which has no impairment of
/// its own (Ie of 0). For Opus and G.722 the ITU-T gives no figures on this scale: they are taken
/// as G.711 is, which Opus with its FEC at least deserves.
const ROBUSTNESS: f32 = 25.1;
/// What loss can take (G.107 §7.5, 95 - Ie).
const MOST: f32 = 95.0;

/// Impairment by absolute delay (G.107 §7.4, Idd).
fn delay_impairment(delay: Duration) -> f32 {
    let ms = delay.as_secs_f32() * 1_000.0;
    if ms <= 100.0 {
        return 0.0;
    }
    let x = (ms / 100.0).log2();
    25.0 * ((1.0 + x.powi(6)).powf(1.0 / 6.0) - 3.0 * (1.0 + (x / 3.0).powi(6)).powf(1.0 / 6.0)
        + 2.0)
}

impl Impairment {
    /// One way, from mouth to ear.
    pub(crate) fn delay(&self) -> Duration {
        self.round_trip / 2 + 2 * self.jitter + ENDS
    }

    /// The transmission rating, 0 to 93.2.
    pub(crate) fn r_factor(&self) -> f32 {
        let percent = 100.0 * self.loss.clamp(0.0, 1.0);
        // G.107 §7.5.
        let lossy = MOST * percent / (percent / self.burst_ratio.max(1.0) + ROBUSTNESS);
        (BEST - delay_impairment(self.delay()) - lossy).clamp(0.0, BEST)
    }

    /// The mean opinion score that belongs to it (G.107 annex B), 1 to 4.41.
    pub fn mos(&self) -> f32 {
        let r = self.r_factor();
        (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(loss: f32, burst_ratio: f32, round_trip: u64) -> Impairment {
        Impairment {
            loss,
            burst_ratio,
            jitter: Duration::ZERO,
            round_trip: Duration::from_millis(round_trip),
        }
    }

    #[test]
    fn the_scale_is_g107s() {
        // Annex B: R of 93.2, 80, 70, 60 and 50 are 4.41, 4.03, 3.60, 3.10 and 2.58. Loss that
        // leads to those R:
        for (r, mos) in [(93.2f32, 4.41), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)] {
            let gone = BEST - r;
            let percent = gone * 25.1 / (95.0 - gone);
            let line = line(percent / 100.0, 1.0, 0);
            assert!(
                (line.r_factor() - r).abs() < 0.05 && (line.mos() - mos).abs() < 0.01,
                "{r}: {} {}",
                line.r_factor(),
                line.mos()
            );
        }
        // Idd of 200, 300 and 400 ms (G.107, by its formula): 3.0, 14.3 and 24.4.
        for (ms, off) in [(100, 0.0), (150, 0.2), (200, 3.0), (300, 15.0), (400, 24.5)] {
            let found = delay_impairment(Duration::from_millis(ms));
            assert!((found - off).abs() < 1.0, "{ms} ms: {found}");
        }
    }

    #[test]
    fn worse_is_never_better() {
        let mut last = f32::MAX;
        for percent in 0..=100 {
            let mos = line(percent as f32 / 100.0, 1.0, 50).mos();
            assert!(mos <= last && (1.0..=4.41).contains(&mos));
            assert!(line(percent as f32 / 100.0, 3.0, 50).mos() <= mos, "bursts are worse");
            last = mos;
        }
        assert!(line(0.0, 1.0, 800).mos() < line(0.0, 1.0, 100).mos());
    }
}
