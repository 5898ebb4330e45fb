//! How loud what an end sends is: its mean power since the last sample of its series, in dBov as
//! RFC 6464 counts it, where 0 is the loudest square wave and 127 below it is nothing.
//!
//! Measured where the sound is in hand: G.711 and L16 by their bytes, one packet of five; what is
//! decoded for the other side, all of it. What passes undecoded is as loud as its sender says (RFC
//! 6464), if it does.

use crate::codec::Codec;
use crate::codec::g711::Law;

/// One packet of so many is measured: ten a second of 20 ms.
pub(super) const EVERY: u64 = 5;
/// The power of the loudest square wave.
const FULL: f64 = 32_768.0 * 32_768.0;
/// Samples that a level read from a packet stands for: 20 ms at 8 kHz.
const REPORTED_SAMPLES: f64 = 160.0;

/// The level of a mean power, where the loudest square wave has 1; 0 to 127 below that, dB.
pub(super) fn level_of(power: f64) -> u8 {
    (-10.0 * power.max(1e-13).log10()).round().clamp(0.0, 127.0) as u8
}

/// The mean power of a level.
pub(super) fn power_of(level: u8) -> f64 {
    10f64.powf(-f64::from(level) / 10.0)
}

/// Whether a packet of this codec shows how loud it is without being decoded.
pub(super) fn shows(codec: Codec) -> bool {
    match codec {
        Codec::Pcmu | Codec::Pcma | Codec::L16 => true,
        Codec::Opus | Codec::G722 => false,
    }
}

/// Power of what was heard, and of how much.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loudness {
    /// Sum of the squares of its samples, the loudest square wave having 1.
    power: f64,
    samples: f64,
}

impl Loudness {
    /// Takes sound of a codec that [`shows`] it.
    pub(super) fn payload(&mut self, codec: Codec, payload: &[u8]) {
        match codec {
            Codec::Pcmu => self.add(Law::Mu.power(payload), payload.len()),
            Codec::Pcma => self.add(Law::A.power(payload), payload.len()),
            Codec::L16 => {
                let (samples, _) = payload.as_chunks::<2>();
                let square = |bytes: &[u8; 2]| square(i16::from_be_bytes(*bytes));
                self.add(samples.iter().map(square).sum(), samples.len());
            }
            Codec::Opus | Codec::G722 => {}
        }
    }

    /// Takes decoded sound.
    pub(super) fn pcm(&mut self, pcm: &[i16]) {
        self.add(pcm.iter().map(|sample| square(*sample)).sum(), pcm.len());
    }

    /// Takes what a sender says of its level, 0 to 127 below the loudest.
    pub(super) fn reported(&mut self, level: u8) {
        self.power += REPORTED_SAMPLES * power_of(level);
        self.samples += REPORTED_SAMPLES;
    }

    fn add(&mut self, squares: u64, samples: usize) {
        self.power += squares as f64 / FULL;
        self.samples += samples as f64;
    }

    /// The level since this was asked last; `None` if nothing was measured.
    pub(super) fn take(&mut self) -> Option<u8> {
        let Loudness { power, samples } = std::mem::take(self);
        (samples > 0.0).then(|| level_of(power / samples))
    }
}

fn square(sample: i16) -> u64 {
    u64::from(sample.unsigned_abs()).pow(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Encoder, NARROW};

    #[test]
    fn a_square_wave_has_the_level_it_has_whatever_it_is_coded_as() {
        for below in [1, 6, 20, 40, 60] {
            let loud = (32_767.0 * 10f64.powf(-f64::from(below) / 20.0)) as i16;
            let pcm: Vec<i16> = (0..160).map(|n| if n % 8 < 4 { loud } else { -loud }).collect();
            for codec in Codec::ALL.into_iter().filter(|codec| shows(*codec)) {
                let mut payload = [0; 320];
                let n = Encoder::new(codec, NARROW, 0).encode(&pcm, &mut payload);
                let mut loudness = Loudness::default();
                loudness.payload(codec, &payload[..n]);
                let level = loudness.take().expect("measured");
                assert!(level.abs_diff(below) <= 1, "{codec} at -{below}: -{level}");
                assert_eq!(loudness.take(), None, "it begins anew");
            }
            let mut loudness = Loudness::default();
            loudness.pcm(&pcm);
            assert_eq!(loudness.take(), Some(below));
        }
    }

    #[test]
    fn silence_is_127_and_reported_levels_count_like_measured_ones() {
        let mut loudness = Loudness::default();
        loudness.pcm(&[0; 160]);
        assert_eq!(loudness.take(), Some(127));
        loudness.reported(30);
        loudness.reported(30);
        assert_eq!(loudness.take(), Some(30));
        // As long silent as not: half the power.
        loudness.reported(127);
        loudness.payload(Codec::Pcmu, &[0x80; 160]);
        assert_eq!(loudness.take(), Some(3));
        loudness.payload(Codec::L16, &[0x7f]);
        assert_eq!(loudness.take(), None, "half a sample does not count");
        loudness.pcm(&[i16::MIN; 4]);
        assert_eq!(loudness.take(), Some(0));
    }
}
