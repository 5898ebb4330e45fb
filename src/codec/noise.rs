//! Comfort noise (RFC 3389): a level and a spectrum instead of silence.

use crate::chance::Chance;

/// Reflection coefficients used at most; RFC 3389 leaves the order open.
const ORDER: usize = 12;
/// A level nobody hears as a dead line, and nobody is disturbed by, -dBov: for silence we know
/// nothing of.
pub(crate) const FAINT: u8 = 70;

/// Noise of one level and spectrum.
#[derive(Clone, Debug)]
pub(crate) struct Noise {
    amplitude: f32,
    /// Reflection coefficients and the lattice's memory.
    reflections: [f32; ORDER],
    memory: [f32; ORDER + 1],
    order: usize,
    chance: Chance,
}

impl Noise {
    /// White noise at `level`, 0 to 127 dB below the loudest square wave.
    pub(crate) fn white(level: u8) -> Noise {
        Noise::described(level, &[])
    }

    /// What a payload describes; `None` if it is empty.
    pub(crate) fn read(payload: &[u8]) -> Option<Noise> {
        payload.split_first().map(|(level, spectrum)| Noise::described(*level, spectrum))
    }

    fn described(level: u8, spectrum: &[u8]) -> Noise {
        let mut reflections = [0f32; ORDER];
        let order = spectrum.len().min(ORDER);
        let mut gain = 1f32;
        for (k, n) in reflections.iter_mut().zip(spectrum) {
            // §3.2: -1 to 1 in steps of 1/128.
            *k = (f32::from(*n) - 127.0).clamp(-126.0, 126.0) / 128.0;
            gain *= 1.0 - *k * *k;
        }
        let rms = 32_768.0 * 10f32.powf(-f32::from(level & 0x7f) / 20.0);
        // A uniform excitation's peak is √3 times its RMS; the filter gives back what the gain
        // takes.
        let amplitude = rms * gain.sqrt() * 3f32.sqrt();
        Noise {
            amplitude,
            reflections,
            memory: [0.0; ORDER + 1],
            order,
            chance: Chance::new(0x2545_f491),
        }
    }

    /// Takes a newer description's level and spectrum without a break in the noise.
    pub(crate) fn become_like(&mut self, other: &Noise) {
        (self.amplitude, self.reflections, self.order) =
            (other.amplitude, other.reflections, other.order);
    }

    /// Fills `pcm`.
    pub(crate) fn fill(&mut self, pcm: &mut [i16]) {
        for out in pcm {
            let mut value = (self.chance.share() * 2.0 - 1.0) * self.amplitude;
            for n in (0..self.order).rev() {
                value -= self.reflections[n] * self.memory[n];
                self.memory[n + 1] = self.memory[n] + self.reflections[n] * value;
            }
            self.memory[0] = value;
            *out = value as i16;
        }
    }
}

/// The level of `pcm` as a payload says it, -dBov.
pub fn level(pcm: &[i16]) -> u8 {
    let energy =
        pcm.iter().map(|s| f32::from(*s) * f32::from(*s)).sum::<f32>() / pcm.len().max(1) as f32;
    (-10.0 * (energy / (32_768.0 * 32_768.0)).max(1e-13).log10()).clamp(0.0, 127.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_the_level_it_is_described_with_whatever_its_spectrum() {
        for spectrum in [
            &[][..],
            &[127 + 90],
            &[127 - 60, 127 + 40],
            &[255, 0, 200, 3, 127, 1, 250, 9, 9, 9, 9, 9, 9, 9],
        ] {
            for wanted in [20u8, 45, 60] {
                let mut noise = Noise::read(&[&[wanted], spectrum].concat()).expect("a level");
                let mut pcm = vec![0i16; 80_000];
                noise.fill(&mut pcm);
                let heard = level(&pcm[8_000..]);
                // A spectrum of resonances only never settles, but is no louder than it says.
                let near = if spectrum.len() > 2 { 127 } else { 1 };
                assert!(
                    heard + 1 >= wanted && heard <= wanted + near,
                    "{spectrum:?}: {heard} instead of {wanted}"
                );
            }
        }
        assert!(Noise::read(&[]).is_none());
        assert_eq!((level(&[0; 160]), level(&[i16::MIN; 160])), (127, 0));
    }

    #[test]
    fn a_coefficient_colours_the_noise() {
        let rough = |payload: &[u8]| {
            let mut pcm = vec![0i16; 8_000];
            Noise::read(payload).expect("a level").fill(&mut pcm);
            let steps: f32 =
                pcm.windows(2).map(|w| (f32::from(w[1]) - f32::from(w[0])).powi(2)).sum();
            steps / pcm.iter().map(|s| f32::from(*s).powi(2)).sum::<f32>()
        };
        // Neighbouring samples of white noise differ by twice its energy; a first coefficient below
        // zero makes it duller.
        assert!((1.8..2.2).contains(&rough(&[40])));
        assert!(rough(&[40, 127 - 100]) < 0.8);
        assert!(rough(&[40, 127 + 100]) > 3.0);
    }
}
