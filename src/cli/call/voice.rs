//! What a phone without a person says: a tone, speech, or a file.

use super::media::SAMPLES;
use super::speech;
use std::sync::Arc;

/// The sound it sends.
pub(super) enum Voice {
    Tone(f32),
    Speech,
    File { pcm: Arc<[i16]>, at: usize },
}

impl Voice {
    /// Fills a frame with the samples from number `from` on.
    pub(super) fn fill(&mut self, from: usize, pcm: &mut [i16; SAMPLES]) {
        match self {
            Voice::Tone(hz) => {
                for (n, s) in pcm.iter_mut().enumerate() {
                    *s = (8_000.0
                        * (std::f32::consts::TAU * *hz * (from + n) as f32 / 8_000.0).sin())
                        as i16;
                }
            }
            Voice::Speech => {
                pcm.iter_mut().enumerate().for_each(|(n, s)| *s = speech::sample(from + n))
            }
            Voice::File { pcm: file, at } => {
                pcm.fill(0);
                let part = &file[(*at).min(file.len())..(*at + SAMPLES).min(file.len())];
                pcm[..part.len()].copy_from_slice(part);
                *at += SAMPLES;
            }
        }
    }
}
