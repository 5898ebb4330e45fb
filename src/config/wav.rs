//! Prompts: WAV files brought to 8 kHz mono once, when the configuration is read.

use crate::codec::NARROW;
use std::path::Path;
use std::sync::Arc;

/// Longest prompt, seconds.
const MAX_SECONDS: u32 = 600;

/// Reads a PCM WAV of 8, 16, 24, 32 or 48 kHz.
///
/// # Errors
/// A sentence for the author of the dialplan.
pub fn read(path: &Path) -> Result<Arc<[i16]>, String> {
    let mut reader = hound::WavReader::open(path).map_err(|e| format!("cannot read it: {e}"))?;
    let spec = reader.spec();
    if spec.sample_format != hound::SampleFormat::Int || spec.bits_per_sample != 16 {
        return Err(format!(
            "it holds {}-bit {}, 16-bit integers are needed",
            spec.bits_per_sample,
            match spec.sample_format {
                hound::SampleFormat::Int => "integers",
                hound::SampleFormat::Float => "floating-point samples",
            }
        ));
    }
    if !spec.sample_rate.is_multiple_of(NARROW) || spec.sample_rate > 48_000 {
        return Err(format!(
            "its rate is {} Hz; 8000, 16000, 24000, 32000 or 48000 are read",
            spec.sample_rate
        ));
    }
    if reader.duration() > MAX_SECONDS * spec.sample_rate {
        return Err("it is longer than ten minutes".into());
    }
    let samples: Vec<i16> = reader
        .samples::<i16>()
        .collect::<Result<_, _>>()
        .map_err(|e| format!("cannot read it: {e}"))?;
    let channels = usize::from(spec.channels).max(1);
    let mono: Vec<f32> = samples
        .chunks(channels)
        .map(|c| c.iter().map(|s| f32::from(*s)).sum::<f32>() / channels as f32)
        .collect();
    Ok(decimate(&mono, (spec.sample_rate / NARROW) as usize).into())
}

/// Low-pass by a windowed sinc of 8 lobes, then every `factor`-th sample.
fn decimate(samples: &[f32], factor: usize) -> Vec<i16> {
    if factor == 1 {
        return samples.iter().map(|s| *s as i16).collect();
    }
    let half = 8 * factor as isize;
    let cut = 0.9 / factor as f32;
    let tap = |n: isize| {
        let x = std::f32::consts::PI * n as f32;
        let sinc = if n == 0 { cut } else { (x * cut).sin() / x };
        sinc * (0.5 + 0.5 * (x / (half + 1) as f32).cos())
    };
    let taps: Vec<f32> = (-half..=half).map(tap).collect();
    let gain: f32 = taps.iter().sum();
    let at =
        |n: isize| usize::try_from(n).ok().and_then(|n| samples.get(n)).copied().unwrap_or(0.0);
    (0..samples.len())
        .step_by(factor)
        .map(|centre| {
            let sum: f32 = taps
                .iter()
                .enumerate()
                .map(|(n, t)| t * at(centre as isize + n as isize - half))
                .sum();
            (sum / gain).clamp(-32_768.0, 32_767.0) as i16
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_lasts_ten_minutes_at_most() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("prompt.wav");
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: NARROW,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        for (samples, read_well) in
            [(MAX_SECONDS * NARROW, true), (MAX_SECONDS * NARROW + 1, false)]
        {
            let mut writer = hound::WavWriter::create(&path, spec).expect("a file");
            (0..samples).for_each(|_| writer.write_sample(0i16).expect("written"));
            writer.finalize().expect("written");
            assert_eq!(read(&path).is_ok(), read_well, "{samples}");
        }
    }
}
