//! Concealment for waveform codecs, after G.711 appendix I: the last pitch periods are repeated and
//! faded.
//!
//! The appendix holds back 3.75 ms of what was heard, to blend into the repetition once a loss is
//! known. In a packet-driven path that would hold back a whole frame, so nothing is held back here:
//! the step from the last sample to its repetition is faded out over a quarter period instead. The
//! way back is blended as there.

/// Pitch searched, Hz (appendix I: 66 to 200).
const HIGHEST: u32 = 200;
const LOWEST: u32 = 66;
/// Samples a second of the search; offsets found at it are refined.
const COARSE: u32 = 4_000;

/// What is needed to fill gaps of one stream.
#[derive(Clone, Debug)]
pub(crate) struct Concealment {
    rate: usize,
    /// The newest samples, 48.75 ms.
    history: Vec<i16>,
    /// A gap being filled.
    gap: Option<Gap>,
}

#[derive(Clone, Copy, Debug)]
struct Gap {
    /// Samples of one pitch period.
    pitch: usize,
    /// Samples filled so far.
    filled: usize,
    /// The step where the repetition begins.
    step: i32,
}

impl Concealment {
    /// For PCM of `rate` samples a second, 8000 or 16,000.
    pub(crate) fn new(rate: u32) -> Concealment {
        let rate = rate as usize;
        Concealment { rate, history: vec![0; rate * 39 / 800], gap: None }
    }

    fn ms(&self, ms: usize) -> usize {
        self.rate * ms / 1_000
    }

    /// Takes what was decoded; after a gap its start is blended with the repetition.
    pub(crate) fn heard(&mut self, pcm: &mut [i16]) {
        if let Some(gap) = self.gap.take() {
            // Appendix I §I.2.7: a quarter period, and 4 ms more for each further 10 ms lost.
            let more = gap.filled.saturating_sub(self.ms(10)) * 4 / 10;
            let blend = (gap.pitch / 4 + more).min(self.ms(10)).min(pcm.len());
            for (n, sample) in pcm[..blend].iter_mut().enumerate() {
                let old = i64::from(self.synthesize(gap, gap.filled + n));
                let new = i64::from(*sample);
                *sample = ((old * (blend - n) as i64 + new * n as i64) / blend as i64) as i16;
            }
        }
        self.remember(pcm);
    }

    /// Fills `pcm`.
    pub(crate) fn fill(&mut self, pcm: &mut [i16]) {
        let mut gap = self.gap.unwrap_or_else(|| self.begin());
        for (n, sample) in pcm.iter_mut().enumerate() {
            *sample = self.synthesize(gap, gap.filled + n);
        }
        gap.filled += pcm.len();
        self.gap = Some(gap);
    }

    fn remember(&mut self, pcm: &[i16]) {
        let keep = self.history.len();
        let new = &pcm[pcm.len().saturating_sub(keep)..];
        self.history.copy_within(new.len().., 0);
        self.history[keep - new.len()..].copy_from_slice(new);
    }

    fn begin(&self) -> Gap {
        let pitch = self.pitch();
        let last = self.history.len() - 1;
        let step = i32::from(self.history[last]) - i32::from(self.history[last - pitch]);
        Gap { pitch, filled: 0, step }
    }

    /// The lag at which the last 20 ms resemble what was before them most (§I.2.4).
    fn pitch(&self) -> usize {
        let (least, most) = (self.rate / HIGHEST as usize, self.rate / LOWEST as usize);
        let coarse = self.rate / COARSE as usize;
        let best = |lags: &mut dyn Iterator<Item = usize>, step: usize| {
            let scored = lags.map(|lag| (self.likeness(lag, step), lag));
            scored.max_by(|a, b| a.0.total_cmp(&b.0)).map_or(least, |(_, lag)| lag)
        };
        let rough = best(&mut (least..=most).step_by(coarse), coarse);
        best(&mut (rough.saturating_sub(coarse - 1).max(least)..=(rough + coarse - 1).min(most)), 1)
    }

    /// Normalised cross-correlation of the last 20 ms with those `lag` samples before.
    fn likeness(&self, lag: usize, step: usize) -> f32 {
        let end = self.history.len();
        let window = self.ms(20).min(end - lag);
        let (mut both, mut energy) = (0f32, 0f32);
        for n in (end - window..end).step_by(step) {
            let (now, then) = (f32::from(self.history[n]), f32::from(self.history[n - lag]));
            both += now * then;
            energy += then * then;
        }
        both / energy.max(f32::from(self.history.len() as u16)).sqrt()
    }

    /// Sample `at` of a gap.
    fn synthesize(&self, gap: Gap, at: usize) -> i16 {
        let end = self.ms(60);
        if at >= end {
            return 0;
        }
        // §I.2.6: one period in the first 10 ms, then two, then three, so that nothing buzzes.
        let periods = (1 + at / self.ms(10)).min(3).min(self.history.len() / gap.pitch - 1);
        let quarter = gap.pitch / 4;
        let mut value = self.repeated(gap.pitch, periods, at);
        let since = at % self.ms(10);
        if periods > 1 && at < self.ms(30) && since < quarter {
            let before = self.repeated(gap.pitch, periods - 1, at);
            value = (before * (quarter - since) as i32 + value * since as i32) / quarter as i32;
        }
        if at < quarter {
            value += gap.step * (quarter - at) as i32 / quarter as i32;
        }
        // §I.2.7: a fifth quieter for each 10 ms after the first, silent from 60 ms.
        let faded = at.saturating_sub(self.ms(10)) as i32;
        let span = (end - self.ms(10)) as i32;
        (value.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) * (span - faded) / span) as i16
    }

    /// Sample `at` of the last `periods` pitch periods repeated; their end leads over into their
    /// start.
    fn repeated(&self, pitch: usize, periods: usize, at: usize) -> i32 {
        let length = pitch * periods;
        let start = self.history.len() - length;
        let within = at % length;
        let quarter = pitch / 4;
        let value = i32::from(self.history[start + within]);
        let from_end = length - within;
        if from_end > quarter || start < length {
            return value;
        }
        let lead = i32::from(self.history[start + within - length]);
        (value * from_end as i32 + lead * (quarter - from_end) as i32) / quarter as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(rate: u32, hz: f32, from: usize, samples: usize) -> Vec<i16> {
        let at = |n: usize| (from + n) as f32 * hz * std::f32::consts::TAU / rate as f32;
        (0..samples).map(|n| (8_000.0 * at(n).sin()) as i16).collect()
    }

    #[test]
    fn a_lost_frame_of_a_tone_is_concealed_without_a_click() {
        for (rate, hz) in
            [(8_000, 100.0), (8_000, 170.0), (8_000, 131.0), (16_000, 100.0), (16_000, 187.0)]
        {
            let frame = rate as usize / 50;
            let mut concealment = Concealment::new(rate);
            let mut out = Vec::new();
            for n in 0..6 {
                let mut pcm = sine(rate, hz, n * frame, frame);
                if n == 4 {
                    concealment.fill(&mut pcm);
                } else {
                    concealment.heard(&mut pcm);
                }
                out.extend_from_slice(&pcm);
            }
            let steps = |pcm: &[i16]| {
                pcm.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max()
            };
            let (whole, good) = (steps(&out), steps(&out[..4 * frame]));
            assert!(whole <= good.map(|g| g * 3 / 2), "{rate} {hz}: {whole:?} against {good:?}");
            let level = |pcm: &[i16]| {
                pcm.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / pcm.len() as f64
            };
            let kept = level(&out[4 * frame..5 * frame]) / level(&out[..4 * frame]);
            assert!((0.6..1.1).contains(&kept), "{rate} {hz}: level {kept}");
        }
    }

    #[test]
    fn a_long_gap_fades_to_silence_and_the_way_back_is_blended() {
        let mut concealment = Concealment::new(8_000);
        concealment.heard(&mut sine(8_000, 150.0, 0, 800));
        let mut pcm = [1i16; 640];
        concealment.fill(&mut pcm);
        assert!(pcm[..160].iter().any(|s| s.abs() > 4_000));
        assert!(pcm[480..].iter().all(|s| *s == 0), "silent from 60 ms");
        let mut back = [8_000i16; 160];
        concealment.heard(&mut back);
        assert!(
            back[0] == 0 && back[40] < 8_000 && back[100] == 8_000,
            "{} {} {}",
            back[0],
            back[40],
            back[100]
        );
    }

    #[test]
    fn silence_and_extremes_are_filled_too() {
        for level in [0i16, 1, i16::MAX, i16::MIN] {
            let mut concealment = Concealment::new(8_000);
            let mut pcm = [level; 960];
            concealment.fill(&mut pcm);
            concealment.heard(&mut [level; 10]);
            concealment.fill(&mut pcm[..7]);
            concealment.heard(&mut [level; 960]);
            concealment.fill(&mut pcm);
        }
    }
}
