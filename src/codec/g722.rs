//! G.722 at 64 kbit/s: two sub-bands, each coded by adaptive differences (ITU-T G.722).
//!
//! One byte holds two samples at 16 kHz. At 8 kHz only the lower sub-band is coded or heard, which
//! spares a narrowband bridge the filter bank and a resampler. Names of the blocks are the
//! standard's.

/// Coefficients of the quadrature mirror filters, the first of each mirrored pair (table 11).
const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];
/// Decision levels of the 6-bit lower quantizer (table 14).
const LEVELS: [i32; 30] = [
    0, 35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940,
    1023, 1121, 1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];
/// Decision level of the 2-bit higher quantizer.
const HIGH_LEVEL: i32 = 564;
/// Output of the 6-bit inverse quantizer, for the decoder's ear.
const INVERSE_6: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232,
    -9360, -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776,
    -2400, -2032, -1688, -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280,
    11192, 10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776,
    2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];
/// Output of the 4-bit inverse quantizer, for the predictors of both sides.
const INVERSE_4: [i32; 16] = [
    0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584,
    1200, 0,
];
/// Output of the 2-bit inverse quantizer.
const INVERSE_2: [i32; 4] = [-7408, -1616, 7408, 1616];
/// What a lower code does to the logarithmic scale factor, by its upper four bits.
const LOW_SCALE: [i32; 16] =
    [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];
/// What a higher code does to it.
const HIGH_SCALE: [i32; 4] = [798, -214, 798, -214];
/// Antilogarithms of the scale factor.
const ANTILOG: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834,
    2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

fn saturate(value: i32) -> i32 {
    value.clamp(i32::from(i16::MIN), i32::from(i16::MAX))
}

fn scaled(factor: i32, value: i32) -> i32 {
    (factor * value) >> 15
}

/// The adaptive predictor of one sub-band (block 4): two poles, six zeros.
#[derive(Clone, Debug)]
struct Band {
    /// Logarithmic and linear scale factor.
    log: i32,
    scale: i32,
    /// The predicted sample, and the zeros' share of it.
    predicted: i32,
    zeros: i32,
    poles: [i32; 2],
    coefficients: [i32; 6],
    differences: [i32; 6],
    reconstructed: [i32; 2],
    partial: [i32; 2],
}

impl Band {
    fn new(scale: i32) -> Band {
        Band {
            log: 0,
            scale,
            predicted: 0,
            zeros: 0,
            poles: [0; 2],
            coefficients: [0; 6],
            differences: [0; 6],
            reconstructed: [0; 2],
            partial: [0; 2],
        }
    }

    /// Blocks 3 (LOGSCL or LOGSCH, SCALEL or SCALEH).
    fn rescale(&mut self, step: i32, most: i32, shift: i32) {
        self.log = (((self.log * 127) >> 7) + step).clamp(0, most);
        let antilog = ANTILOG[(self.log >> 6 & 31) as usize];
        let shift = shift - (self.log >> 11);
        self.scale = (if shift < 0 { antilog << -shift } else { antilog >> shift }) << 2;
    }

    /// Block 4: takes the quantized difference, moves the filters, predicts the next sample.
    fn adapt(&mut self, difference: i32) {
        let same = |a: i32, b: i32| a >> 15 == b >> 15;
        let reconstructed = saturate(self.predicted + difference);
        let partial = saturate(self.zeros + difference);
        // UPPOL2, UPPOL1.
        let first = saturate(self.poles[0] << 2);
        let first = if same(partial, self.partial[0]) { -first } else { first }.min(32_767);
        let second = if same(partial, self.partial[1]) { 128 } else { -128 };
        let second = ((first >> 7) + second + scaled(self.poles[1], 32_512)).clamp(-12_288, 12_288);
        let first = if same(partial, self.partial[0]) { 192 } else { -192 };
        let limit = saturate(15_360 - second);
        let first = saturate(first + scaled(self.poles[0], 32_640)).clamp(-limit, limit);
        // UPZERO.
        let step = if difference == 0 { 0 } else { 128 };
        for (coefficient, old) in self.coefficients.iter_mut().zip(self.differences) {
            let step = if same(old, difference) { step } else { -step };
            *coefficient = saturate(step + scaled(*coefficient, 32_640));
        }
        // DELAYA.
        self.differences.copy_within(0..5, 1);
        self.differences[0] = difference;
        self.reconstructed = [reconstructed, self.reconstructed[0]];
        self.partial = [partial, self.partial[0]];
        self.poles = [first, second];
        // FILTEP, FILTEZ, PREDIC.
        let twice = |value: i32| saturate(2 * value);
        let poles: i32 =
            self.poles.iter().zip(self.reconstructed).map(|(a, r)| scaled(*a, twice(r))).sum();
        let zeros: i32 =
            self.coefficients.iter().zip(self.differences).map(|(b, d)| scaled(*b, twice(d))).sum();
        self.zeros = saturate(zeros);
        self.predicted = saturate(saturate(poles) + self.zeros);
    }

    /// The decoder's sample for a lower code; the state moves on.
    fn low(&mut self, code: u8) -> i32 {
        let heard = (self.predicted + scaled(self.scale, INVERSE_6[usize::from(code & 0x3f)]))
            .clamp(-16_384, 16_383);
        self.follow_low(code);
        heard
    }

    fn follow_low(&mut self, code: u8) {
        let code = usize::from(code & 0x3f) >> 2;
        let difference = scaled(self.scale, INVERSE_4[code]);
        self.rescale(LOW_SCALE[code], 18_432, 8);
        self.adapt(difference);
    }

    /// As [`low`](Self::low), for a higher code.
    fn high(&mut self, code: u8) -> i32 {
        let difference = scaled(self.scale, INVERSE_2[usize::from(code & 3)]);
        let heard = (self.predicted + difference).clamp(-16_384, 16_383);
        self.rescale(HIGH_SCALE[usize::from(code & 3)], 22_528, 10);
        self.adapt(difference);
        heard
    }

    /// What was not predicted of `sample`: whether it is below zero, and how much it is.
    fn error(&self, sample: i32) -> (bool, i32) {
        let error = saturate(sample - self.predicted);
        if error < 0 { (true, -(error + 1)) } else { (false, error) }
    }

    /// Blocks 1L to 4L: the encoder's lower code for a sample.
    fn quantize_low(&mut self, sample: i32) -> u8 {
        let (below, magnitude) = self.error(sample);
        // The last level at or below the magnitude: 0 to 29.
        let level =
            LEVELS[1..].partition_point(|level| (level * self.scale) >> 12 <= magnitude) as u8;
        let code = match (below, level) {
            (true, 0..=1) => 63 - level,
            (true, _) => 33 - level,
            (false, _) => 61 - level,
        };
        self.follow_low(code);
        code
    }

    /// Blocks 1H to 4H: its higher code.
    fn quantize_high(&mut self, sample: i32) -> u8 {
        let (below, magnitude) = self.error(sample);
        let large = magnitude >= (HIGH_LEVEL * self.scale) >> 12;
        let code = match (below, large) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        self.high(code);
        code
    }
}

/// Splits two samples into sub-bands, or joins two sub-bands' samples: 24 taps of history.
#[derive(Clone, Debug, Default)]
struct FilterBank([i32; 24]);

impl FilterBank {
    fn push(&mut self, pair: [i32; 2]) -> (i32, i32) {
        self.0.copy_within(2.., 0);
        self.0[22..].copy_from_slice(&pair);
        let (mut even, mut odd) = (0, 0);
        for (n, taps) in self.0.chunks_exact(2).enumerate() {
            even += taps[0] * QMF[n];
            odd += taps[1] * QMF[11 - n];
        }
        (even, odd)
    }
}

/// What either way remembers.
#[derive(Clone, Debug)]
struct G722State {
    low: Band,
    high: Band,
    filters: FilterBank,
    /// Samples of one code.
    per_code: usize,
}

impl G722State {
    fn new(wide: bool) -> G722State {
        let per_code = if wide { 2 } else { 1 };
        G722State {
            low: Band::new(32),
            high: Band::new(8),
            filters: FilterBank::default(),
            per_code,
        }
    }
}

/// G.722 to PCM.
#[derive(Clone, Debug)]
pub struct G722Decoder(G722State);

impl G722Decoder {
    /// A fresh decoder, to 16 kHz if `wide`, else to 8 kHz.
    pub fn new(wide: bool) -> G722Decoder {
        G722Decoder(G722State::new(wide))
    }

    /// Decodes `codes` into `pcm`, which holds one sample a code, or two if wide. Returns the
    /// samples.
    pub fn decode(&mut self, codes: &[u8], pcm: &mut [i16]) -> usize {
        let G722State { low, high, filters, per_code } = &mut self.0;
        for (code, out) in codes.iter().zip(pcm.chunks_exact_mut(*per_code)) {
            let low = low.low(*code);
            if let [first, second] = out {
                let high = high.high(code >> 6);
                let (even, odd) = filters.push([low + high, low - high]);
                (*first, *second) = (saturate(odd >> 11) as i16, saturate(even >> 11) as i16);
            } else {
                out[0] = saturate(low << 1) as i16;
            }
        }
        codes.len().min(pcm.len() / *per_code) * *per_code
    }
}

/// PCM to G.722.
#[derive(Clone, Debug)]
pub struct G722Encoder(G722State);

impl G722Encoder {
    /// A fresh encoder, from 16 kHz if `wide`, else from 8 kHz.
    pub fn new(wide: bool) -> G722Encoder {
        G722Encoder(G722State::new(wide))
    }

    /// Encodes `pcm` into `codes`, one of one sample, or of two if wide. Returns the bytes.
    pub fn encode(&mut self, pcm: &[i16], codes: &mut [u8]) -> usize {
        let G722State { low, high, filters, per_code } = &mut self.0;
        for (samples, code) in pcm.chunks_exact(*per_code).zip(codes.iter_mut()) {
            *code = match samples {
                [first, second] => {
                    let (even, odd) = filters.push([i32::from(*first), i32::from(*second)]);
                    low.quantize_low((even + odd) >> 14)
                        | high.quantize_high((odd - even) >> 14) << 6
                }
                // A high sub-band of nothing: the smallest positive step.
                _ => 0xc0 | low.quantize_low(i32::from(samples[0]) >> 1),
            };
        }
        (pcm.len() / *per_code).min(codes.len())
    }
}
