//! How late media's timers fire: what a listener would hear first of a worker that has too much to
//! do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, milliseconds; what is later counts in one more.
pub(crate) const BOUNDS_MS: [u64; 8] = [1, 2, 5, 10, 20, 50, 100, 200];

/// Counted by the workers, read by whoever scrapes; no lock between them.
#[derive(Debug, Default)]
pub struct Lateness {
    counts: [AtomicU64; BOUNDS_MS.len() + 1],
    micros: AtomicU64,
}

impl Lateness {
    /// A timer fired `late`.
    pub(crate) fn count(&self, late: Duration) {
        let ms = late.as_millis() as u64;
        // A bucket holds its bound, so a part of a millisecond more is in the next.
        let exact = late.as_micros().is_multiple_of(1_000);
        let at = BOUNDS_MS
            .iter()
            .position(|bound| ms < *bound || (ms == *bound && exact))
            .unwrap_or(BOUNDS_MS.len());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(late.as_micros() as u64, Ordering::Relaxed);
    }

    /// How many fell into each bucket, and the sum of all, seconds.
    pub(crate) fn read(&self) -> ([u64; BOUNDS_MS.len() + 1], f64) {
        (
            std::array::from_fn(|n| self.counts[n].load(Ordering::Relaxed)),
            self.micros.load(Ordering::Relaxed) as f64 / 1e6,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lateness_falls_into_the_bucket_that_holds_it() {
        let late = Lateness::default();
        for micros in [0, 1_000, 1_001, 2_000, 4_999, 200_000, 200_001, 9_000_000] {
            late.count(Duration::from_micros(micros));
        }
        let (counts, sum) = late.read();
        assert_eq!(counts, [2, 2, 1, 0, 0, 0, 0, 1, 2]);
        assert!((sum - 9.409_001).abs() < 1e-9, "{sum}");
    }
}
