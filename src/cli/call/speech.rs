//! What `--speech` says, and what hearing it again reveals: a sweep every two seconds, with bursts
//! shaped like syllables between. Against an echo, its delay is the way there and back, ear to
//! mouth.

use std::time::Duration;

const RATE: usize = 8_000;
/// A round of it.
const ROUND: usize = 2 * RATE;
/// The sweep at its beginning: 300 to 3,000 Hz, what a telephone line carries.
const SWEEP: usize = RATE / 4;
const FROM: f32 = 300.0;
const TO: f32 = 3_000.0;
/// The longest way there and back that can be measured: beyond it a sweep is mistaken for the next
/// one.
const LONGEST: usize = ROUND - SWEEP;
/// Likeness below which nothing was heard again.
const LIKE: f64 = 0.3;

/// The sample at `at` since the beginning.
pub(super) fn sample(at: usize) -> i16 {
    let n = at % ROUND;
    if n < SWEEP {
        let t = n as f32 / RATE as f32;
        let rise = (TO - FROM) / (SWEEP as f32 / RATE as f32);
        return (9_000.0 * (std::f32::consts::TAU * (FROM * t + rise * t * t / 2.0)).sin()) as i16;
    }
    // Vowels of three harmonics under an envelope of four syllables a second, quiet at the end of a
    // round.
    let (t, since) = (at as f32 / RATE as f32, (n - SWEEP) as f32 / RATE as f32);
    if since > 1.2 {
        return 0;
    }
    let envelope = (std::f32::consts::PI * 4.0 * since).sin().powi(2);
    let voice: f32 = [(140.0, 0.5), (700.0, 0.35), (1_200.0, 0.15)]
        .iter()
        .map(|(hz, share)| share * (std::f32::consts::TAU * hz * t).sin())
        .sum();
    (7_000.0 * envelope * voice) as i16
}

/// What was heard of our own speech.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct SpeechEcho {
    /// From mouth to ear and back.
    pub delay: Duration,
    /// How like it is to what was said, 0 to 1.
    pub likeness: f64,
    /// Sweeps that came back, of those that could.
    pub came_back: usize,
    /// Sweeps that were said early enough to come back.
    pub said: usize,
}

/// Looks for what was said in what was heard. Returns `None` if it is not there. `heard_late`: how
/// much later than the first sample of `said` the first of `heard` came.
pub(super) fn echo(said: usize, heard: &[i16], heard_late: Duration) -> Option<SpeechEcho> {
    let offset = (heard_late.as_secs_f64() * RATE as f64) as usize;
    let sweep: Vec<f64> = (0..SWEEP).map(|n| f64::from(sample(n))).collect();
    let energy: f64 = sweep.iter().map(|s| s * s).sum();
    let rounds = said.saturating_sub(SWEEP) / ROUND + 1;
    let mut found: Vec<(f64, usize)> = Vec::new();
    let mut could = 0;
    for round in 0..rounds {
        // Where this sweep would be heard if it took no time; earlier is another one's.
        let begin = (round * ROUND) as isize - offset as isize;
        let lags = 0..LONGEST as isize;
        let fits =
            |lag: &isize| begin + lag >= 0 && ((begin + lag) as usize + SWEEP) <= heard.len();
        if !lags.clone().any(|lag| fits(&lag)) {
            continue;
        }
        could += 1;
        let like = |lag: isize| {
            let part = &heard[(begin + lag) as usize..][..SWEEP];
            let (product, power) = part.iter().zip(&sweep).fold((0.0, 0.0), |(x, p), (h, s)| {
                (x + f64::from(*h) * s, p + f64::from(*h).powi(2))
            });
            if power < 1e4 { 0.0 } else { (product / (power * energy).sqrt()).abs() }
        };
        let best = lags
            .filter(fits)
            .map(|lag| (like(lag), lag as usize))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        found.extend(best.filter(|(likeness, _)| *likeness >= LIKE));
    }
    // The way is the one most of them agree on, within 20 ms.
    found.sort_by_key(|(_, lag)| *lag);
    let median = found.get(found.len() / 2)?.1;
    let agreeing: Vec<&(f64, usize)> =
        found.iter().filter(|(_, lag)| lag.abs_diff(median) < RATE / 50).collect();
    let likeness = agreeing.iter().map(|(l, _)| l).sum::<f64>() / agreeing.len().max(1) as f64;
    Some(SpeechEcho {
        delay: Duration::from_secs_f64(median as f64 / RATE as f64),
        likeness,
        came_back: agreeing.len(),
        said: could,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(samples: usize) -> Vec<i16> {
        (0..samples).map(sample).collect()
    }

    #[test]
    fn an_echo_is_found_with_its_delay_and_what_is_missing_of_it() {
        let speech = said(10 * RATE);
        let mut heard = vec![0i16; RATE / 8];
        heard.extend(&speech);
        let found = echo(speech.len(), &heard, Duration::ZERO).expect("it is there");
        assert!(
            (found.delay.as_secs_f64() - 0.125).abs() < 0.002 && found.likeness > 0.95,
            "{found:?}"
        );
        assert_eq!((found.came_back, found.said), (5, 5));
        // Half as loud, a sweep lost, and heard from 50 ms later on.
        let mut worse: Vec<i16> = heard.iter().map(|s| s / 2).collect();
        worse[RATE / 8 + 2 * ROUND..][..SWEEP].fill(0);
        let found = echo(speech.len(), &worse[RATE / 20..], Duration::from_millis(50))
            .expect("it is there");
        assert!((found.delay.as_secs_f64() - 0.125).abs() < 0.002, "{found:?}");
        assert_eq!((found.came_back, found.said), (4, 5));
    }

    #[test]
    fn what_is_no_echo_is_none() {
        assert_eq!(echo(5 * RATE, &vec![0; 5 * RATE], Duration::ZERO), None);
        let tone: Vec<i16> =
            (0..5 * RATE).map(|n| (5_000.0 * (n as f32 * 0.75).sin()) as i16).collect();
        assert_eq!(echo(5 * RATE, &tone, Duration::ZERO), None);
        assert_eq!(echo(0, &[], Duration::ZERO), None);
    }
}
