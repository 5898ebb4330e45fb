//! Audio of our own making: tones, a tune, prompts; 20 ms of 8 kHz PCM at a time.

use crate::codec::NARROW;
use std::sync::Arc;

/// Samples of one frame.
pub(crate) const FRAME: usize = 160;

/// What to play.
#[derive(Clone, Debug)]
pub enum PlaySource {
    /// A sine of this frequency at -10 dBFS, without end.
    Tone(u32),
    /// A short melody, again and again.
    Tune,
    /// Samples at 8 kHz, once.
    Clip(Arc<[i16]>),
    /// The ringing tone of country code 1: 440 and 480 Hz, 2 s on, 4 s off.
    Ringback,
    /// Comfort noise, or nothing.
    Silence,
}

/// A source being played.
#[derive(Clone, Debug)]
pub(crate) struct Player {
    source: PlaySource,
    at: usize,
}

/// Frequency in Hz and length in eighths of a second: the opening of Beethoven's "Ode to Joy".
const TUNE: [(u32, usize); 16] = [
    (659, 2),
    (659, 2),
    (698, 2),
    (784, 2),
    (784, 2),
    (698, 2),
    (659, 2),
    (587, 2),
    (523, 2),
    (523, 2),
    (587, 2),
    (659, 2),
    (659, 3),
    (587, 1),
    (587, 4),
    (0, 4),
];

fn sine(hz: u32, at: usize, amplitude: f32) -> i16 {
    // Whole periods repeat within a second, so the phase stays exact for ever.
    let phase = (at % NARROW as usize) as f32 * hz as f32 / NARROW as f32;
    (amplitude * (std::f32::consts::TAU * phase.fract()).sin()) as i16
}

impl Player {
    /// Starts `source`.
    pub(crate) fn new(source: PlaySource) -> Player {
        Player { source, at: 0 }
    }

    /// What is played, and the sample it has come to.
    pub(super) fn position(&self) -> (&PlaySource, usize) {
        (&self.source, self.at)
    }

    /// Goes on from a sample.
    pub(super) fn resume(source: PlaySource, at: usize) -> Player {
        Player { source, at }
    }

    /// Fills one frame; false when the source has ended.
    pub(crate) fn fill(&mut self, pcm: &mut [i16; FRAME]) -> bool {
        for (n, out) in pcm.iter_mut().enumerate() {
            *out = self.sample(self.at + n);
        }
        self.at += FRAME;
        match &self.source {
            PlaySource::Clip(samples) => self.at < samples.len() + FRAME,
            _ => true,
        }
    }

    fn sample(&self, at: usize) -> i16 {
        match &self.source {
            PlaySource::Tone(hz) => sine(*hz, at, 10_362.0),
            PlaySource::Clip(samples) => samples.get(at).copied().unwrap_or(0),
            PlaySource::Silence => 0,
            PlaySource::Ringback if at % 48_000 < 16_000 => {
                sine(440, at, 3_000.0) + sine(480, at, 3_000.0)
            }
            PlaySource::Ringback => 0,
            PlaySource::Tune => {
                let eighth = NARROW as usize / 8;
                let total: usize = TUNE.iter().map(|(_, n)| n * eighth).sum();
                let mut within = at % total;
                for (hz, eighths) in TUNE {
                    if within < eighths * eighth {
                        // A short rise and fall at each note's ends, so that nothing clicks.
                        let edge = within.min(eighths * eighth - within).min(160) as f32 / 160.0;
                        return if hz == 0 { 0 } else { sine(hz, within, 8_000.0 * edge) };
                    }
                    within -= eighths * eighth;
                }
                0
            }
        }
    }
}

/// The tune's first four bars, once.
pub(crate) fn chime() -> Arc<[i16]> {
    let mut player = Player::new(PlaySource::Tune);
    let mut samples = Vec::new();
    let mut frame = [0; FRAME];
    for _ in 0..4 * 50 {
        player.fill(&mut frame);
        samples.extend_from_slice(&frame);
    }
    samples.into()
}
