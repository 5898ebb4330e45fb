//! What is said and heard: a tone, and the silences of the one that is listened for.

use std::time::{Duration, Instant};

/// Samples of a frame, 20 ms.
pub(crate) const FRAME: usize = 160;
pub(crate) const TICK: Duration = Duration::from_millis(20);
/// What browsers say: a frame holds whole periods, so each is like the last.
pub(crate) const FROM_BROWSER: f32 = 450.0;
/// What trunks say.
pub(crate) const FROM_TRUNK: f32 = 850.0;
/// A frame whose tone has less of its energy is something else: noise, or another tone.
const SHARE: f32 = 0.6;
/// Root mean square below which a frame is silent.
const FLOOR: f32 = 500.0;

/// A frame of a tone.
pub(crate) fn tone(hz: f32) -> [i16; FRAME] {
    std::array::from_fn(|n| {
        (8_000.0 * (std::f32::consts::TAU * hz * n as f32 / 8_000.0).sin()) as i16
    })
}

/// Listens for one tone.
pub(crate) struct Ear {
    /// Cosine and sine of it at each sample of a frame: five hundred ears share two processors.
    wave: [(f32, f32); FRAME],
    last: Option<Instant>,
    longest: Duration,
}

impl Ear {
    pub(crate) fn new(hz: f32) -> Ear {
        let wave = std::array::from_fn(|n| {
            let angle = std::f32::consts::TAU * hz * n as f32 / 8_000.0;
            (angle.cos(), angle.sin())
        });
        Ear { wave, last: None, longest: Duration::ZERO }
    }

    /// Whether this is the tone, give or take the 25 Hz that a frame tells apart.
    fn is_tone(&self, pcm: &[i16]) -> bool {
        let n = pcm.len().max(1) as f32;
        let (mut energy, mut re, mut im) = (0.0, 0.0, 0.0);
        for (sample, (cos, sin)) in pcm.iter().map(|s| f32::from(*s)).zip(&self.wave) {
            energy += sample * sample;
            re += sample * cos;
            im += sample * sin;
        }
        (energy / n).sqrt() >= FLOOR && (re * re + im * im) * 2.0 / n / energy > SHARE
    }

    pub(crate) fn hear(&mut self, now: Instant, pcm: &[i16]) {
        if self.is_tone(pcm) {
            let silence = self.last.map_or(Duration::ZERO, |last| now - last);
            self.longest = self.longest.max(silence);
            self.last = Some(now);
        }
    }

    /// The longest time without the tone since the last call of this, the present one included;
    /// `None` if it was never heard.
    pub(crate) fn gap(&mut self, now: Instant) -> Option<Duration> {
        let silence = now.saturating_duration_since(self.last?);
        Some(std::mem::take(&mut self.longest).max(silence))
    }

    pub(crate) fn has_heard(&self) -> bool {
        self.last.is_some()
    }
}
