//! Digits as tones: recognised by Goertzel's filter, and generated (ITU-T Q.23, Q.24).

const ROWS: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS: [f32; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];
/// Event numbers (RFC 4733 table 3) by row and column.
const KEYS: [[u8; 4]; 4] = [[1, 2, 3, 12], [4, 5, 6, 13], [7, 8, 9, 14], [10, 0, 11, 15]];
/// Samples of a block at 8 kHz, 12.75 ms: a bin as wide as the tones' tolerance of 1.5 % asks for.
const BLOCK: usize = 102;
/// Mean square a tone has at least: -40 dBov.
const QUIETEST: f32 = 32_768.0 * 32_768.0 * 1e-4;
/// How much stronger the column may be than the row (twist, 8 dB), and the row than the column (4
/// dB).
const TWIST: f32 = 6.3;
const REVERSE_TWIST: f32 = 2.5;
/// How much a tone is above the others of its group, 8 dB.
const ABOVE: f32 = 6.3;
/// Share of the block's energy that is in the two tones: speech has its energy elsewhere too.
const PURE: f32 = 0.82;
/// Blocks in a row that begin a digit, and that end one: 25 ms of 40 a tone lasts at least, 25 ms
/// of a pause.
const BEGINS: u8 = 2;
const ENDS: u8 = 2;

/// One frequency of one block.
#[derive(Clone, Copy, Debug)]
struct Goertzel {
    coefficient: f32,
    last: f32,
    before: f32,
}

impl Goertzel {
    fn new(hz: f32, rate: u32) -> Goertzel {
        Goertzel {
            coefficient: 2.0 * (std::f32::consts::TAU * hz / rate as f32).cos(),
            last: 0.0,
            before: 0.0,
        }
    }

    fn push(&mut self, sample: f32) {
        let next = self.coefficient * self.last - self.before + sample;
        (self.before, self.last) = (self.last, next);
    }

    /// The block's energy at this frequency; starts the next block.
    fn take(&mut self) -> f32 {
        let energy = self.last * self.last + self.before * self.before
            - self.coefficient * self.last * self.before;
        (self.last, self.before) = (0.0, 0.0);
        energy
    }
}

/// What a detector has heard begin or end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToneEvent {
    /// A digit's event number.
    Pressed(u8),
    /// The digit ended.
    Released(u8),
}

/// Listens for digits in a stream of PCM.
#[derive(Clone, Debug)]
pub struct Detector {
    filters: [Goertzel; 8],
    energy: f32,
    samples: usize,
    block: usize,
    /// The digit of the newest blocks, and how many they are.
    candidate: Option<u8>,
    run: u8,
    pressed: Option<u8>,
}

impl Detector {
    /// For PCM of `rate` samples a second.
    pub fn new(rate: u32) -> Detector {
        let hz = |n: usize| if n < 4 { ROWS[n] } else { COLUMNS[n - 4] };
        Detector {
            filters: std::array::from_fn(|n| Goertzel::new(hz(n), rate)),
            energy: 0.0,
            samples: 0,
            block: BLOCK * rate as usize / 8_000,
            candidate: None,
            run: 0,
            pressed: None,
        }
    }

    /// Whether a digit is held, or may be beginning: what is heard now is better not passed on.
    pub(crate) fn is_tone(&self) -> bool {
        self.pressed.is_some() || self.candidate.is_some()
    }

    /// Takes samples, and calls `heard` with each beginning and end of a tone.
    pub fn push(&mut self, pcm: &[i16], mut heard: impl FnMut(ToneEvent)) {
        let mut rest = pcm;
        while !rest.is_empty() {
            let (now, later) = rest.split_at((self.block - self.samples).min(rest.len()));
            rest = later;
            for sample in now {
                let sample = f32::from(*sample);
                self.energy += sample * sample;
                self.filters.iter_mut().for_each(|f| f.push(sample));
            }
            self.samples += now.len();
            if self.samples == self.block {
                let digit = self.judge();
                self.step(digit, &mut heard);
            }
        }
    }

    /// The digit of the block that is full.
    fn judge(&mut self) -> Option<u8> {
        let energies = std::array::from_fn::<f32, 8, _>(|n| self.filters[n].take());
        let energy = std::mem::take(&mut self.energy);
        let samples = std::mem::take(&mut self.samples) as f32;
        if energy < QUIETEST * samples {
            return None;
        }
        let (row, column) = (strongest(&energies[..4])?, strongest(&energies[4..])?);
        let (low, high) = (energies[row], energies[4 + column]);
        // A sine of energy E over N samples shows as E·N/2.
        let pure = (low + high) >= PURE * energy * samples / 2.0;
        (pure && high <= low * TWIST && low <= high * REVERSE_TWIST).then_some(KEYS[row][column])
    }

    fn step(&mut self, digit: Option<u8>, heard: &mut impl FnMut(ToneEvent)) {
        self.run = if digit == self.candidate { self.run.saturating_add(1) } else { 1 };
        self.candidate = digit;
        if digit == self.pressed {
            return;
        }
        if self.run >= if digit.is_some() { BEGINS } else { ENDS } {
            if let Some(old) = self.pressed.take() {
                heard(ToneEvent::Released(old));
            }
            self.pressed = digit;
            if let Some(new) = digit {
                heard(ToneEvent::Pressed(new));
            }
        }
    }
}

/// The one that stands out of its group.
fn strongest(group: &[f32]) -> Option<usize> {
    let best = (0..group.len()).max_by(|a, b| group[*a].total_cmp(&group[*b]))?;
    let alone = group.iter().enumerate().all(|(n, e)| n == best || *e * ABOVE <= group[best]);
    alone.then_some(best)
}

/// Fills `pcm` with the tones of `event` from sample `from` of them on; silence for what is no
/// digit. Each tone is at -9 dBov less 2 dB for the row (Q.23's levels at a quiet line).
pub fn make(event: u8, from: usize, rate: u32, pcm: &mut [i16]) {
    let key = KEYS
        .iter()
        .enumerate()
        .find_map(|(row, keys)| Some((row, keys.iter().position(|k| *k == event)?)));
    let Some((row, column)) = key else { return pcm.fill(0) };
    let rise = rate as usize / 500;
    for (n, out) in pcm.iter_mut().enumerate() {
        let at = from + n;
        // Whole seconds repeat: every frequency is a whole number of Hz.
        let phase = (at % rate as usize) as f32 / rate as f32 * std::f32::consts::TAU;
        let edge = (at.min(rise)) as f32 / rise as f32;
        *out = (edge
            * (5_200.0 * (phase * ROWS[row]).sin() + 6_500.0 * (phase * COLUMNS[column]).sin()))
            as i16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(rate: u32, pcm: &[i16]) -> Vec<ToneEvent> {
        let (mut detector, mut heard) = (Detector::new(rate), Vec::new());
        pcm.chunks(rate as usize / 50).for_each(|frame| detector.push(frame, |h| heard.push(h)));
        heard
    }

    fn pair(low: (f32, f32), high: (f32, f32), samples: usize) -> Vec<i16> {
        let sine = |n: usize, (hz, level): (f32, f32)| {
            level * (n as f32 * hz * std::f32::consts::TAU / 8_000.0).sin()
        };
        (0..samples).map(|n| (sine(n, low) + sine(n, high)) as i16).collect()
    }

    #[test]
    fn every_digit_is_heard_once_at_its_shortest_and_with_the_shortest_pause() {
        for rate in [8_000, 16_000] {
            for offset in 0..60 {
                let mut pcm = vec![0i16; offset * 3];
                for event in 0..16 {
                    let mut tone = vec![0; rate as usize * 45 / 1_000];
                    make(event, 0, rate, &mut tone);
                    pcm.extend_from_slice(&tone);
                    pcm.resize(pcm.len() + rate as usize * 45 / 1_000, 0);
                }
                let wanted: Vec<ToneEvent> =
                    (0..16).flat_map(|e| [ToneEvent::Pressed(e), ToneEvent::Released(e)]).collect();
                assert_eq!(detect(rate, &pcm), wanted, "{rate} Hz, {offset}");
            }
        }
    }

    #[test]
    fn tolerances_are_those_of_q24() {
        let digit = |low, high| detect(8_000, &[pair(low, high, 800), vec![0; 400]].concat());
        let one = vec![ToneEvent::Pressed(1), ToneEvent::Released(1)];
        for off in [-0.015, 0.015] {
            assert_eq!(
                digit((697.0 * (1.0 + off), 4_000.0), (1_209.0 * (1.0 - off), 4_000.0)),
                one,
                "off by {off}"
            );
        }
        for off in [-0.035, 0.035] {
            assert_eq!(
                digit((697.0 * (1.0 + off), 4_000.0), (1_209.0 * (1.0 + off), 4_000.0)),
                [],
                "off by {off}"
            );
        }
        assert_eq!(digit((697.0, 2_000.0), (1_209.0, 4_500.0)), one, "a twist of 7 dB");
        assert_eq!(digit((697.0, 4_000.0), (1_209.0, 2_700.0)), one, "a reverse twist of 3.4 dB");
        assert_eq!(digit((697.0, 1_000.0), (1_209.0, 4_000.0)), [], "a twist of 12 dB");
        assert_eq!(digit((697.0, 4_000.0), (1_209.0, 1_500.0)), [], "a reverse twist of 8.5 dB");
        assert_eq!(digit((697.0, 200.0), (1_209.0, 200.0)), [], "too quiet");
        assert_eq!(digit((697.0, 4_000.0), (1_209.0, 0.0)), [], "one tone");
        assert_eq!(
            detect(
                8_000,
                &[pair((697.0, 4_000.0), (1_209.0, 4_000.0), 160), vec![0; 400]].concat()
            ),
            [],
            "20 ms"
        );
    }
}
