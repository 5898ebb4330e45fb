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

/// Whether this is that tone, give or take the 25 Hz that a frame tells apart.
fn is_tone(pcm: &[i16], hz: f32) -> bool {
    let n = pcm.len().max(1) as f32;
    let energy: f32 = pcm.iter().map(|s| f32::from(*s).powi(2)).sum();
    if (energy / n).sqrt() < FLOOR {
        return false;
    }
    let (mut re, mut im) = (0.0, 0.0);
    for (at, sample) in pcm.iter().enumerate() {
        let angle = std::f32::consts::TAU * hz * at as f32 / 8_000.0;
        re += f32::from(*sample) * angle.cos();
        im += f32::from(*sample) * angle.sin();
    }
    (re * re + im * im) * 2.0 / n / energy > SHARE
}

/// Listens for one tone.
pub(crate) struct Ear {
    hz: f32,
    last: Option<Instant>,
    longest: Duration,
}

impl Ear {
    pub(crate) fn new(hz: f32) -> Ear {
        Ear { hz, last: None, longest: Duration::ZERO }
    }

    pub(crate) fn hear(&mut self, now: Instant, pcm: &[i16]) {
        if is_tone(pcm, self.hz) {
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
