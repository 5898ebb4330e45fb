//! Which packet indices were seen: each serves once (RFC 3711 §3.3.2).

/// Packets remembered; the oldest word is cleared whole, so all but 64 of them may still arrive
/// late.
const WINDOW: u64 = 1024;

#[derive(Clone)]
pub(super) struct ReplayWindow {
    highest: Option<u64>,
    bits: [u64; (WINDOW / 64) as usize],
    /// What came between the highest and the next one is not known, so it counts as seen.
    blind: bool,
}

impl ReplayWindow {
    pub(super) fn new() -> ReplayWindow {
        ReplayWindow { highest: None, bits: [0; (WINDOW / 64) as usize], blind: false }
    }

    /// Everything up to `highest` was seen, and then it is not known what.
    pub(super) fn used_up_to(highest: u64) -> ReplayWindow {
        ReplayWindow {
            highest: Some(highest),
            bits: [u64::MAX; (WINDOW / 64) as usize],
            blind: true,
        }
    }

    /// The highest index seen.
    pub(super) fn highest(&self) -> Option<u64> {
        self.highest
    }

    pub(super) fn is_new(&self, index: u64) -> bool {
        let Some(highest) = self.highest else { return true };
        index > highest
            || (highest - index < WINDOW - 64
                && self.bits[(index / 64 % (WINDOW / 64)) as usize] & (1 << (index % 64)) == 0)
    }

    pub(super) fn record(&mut self, index: u64) {
        let highest = self.highest.unwrap_or(0);
        if index > highest {
            if std::mem::take(&mut self.blind) {
                *self = ReplayWindow { blind: false, ..ReplayWindow::used_up_to(index) };
                // Those after it in its word are still to come.
                self.bits[(index / 64 % (WINDOW / 64)) as usize] = u64::MAX >> (63 - index % 64);
                return;
            }
            let (from, to) = (highest / 64 + 1, index / 64);
            for word in from..=to.min(from + WINDOW / 64 - 1) {
                self.bits[(word % (WINDOW / 64)) as usize] = 0;
            }
        }
        self.highest = Some(highest.max(index));
        self.bits[(index / 64 % (WINDOW / 64)) as usize] |= 1 << (index % 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_while_nobody_looked_counts_as_seen() {
        for (highest, first) in [(100, 101), (100, 164), (127, 128), (70_000, 90_000), (0, 1)] {
            let mut window = ReplayWindow::used_up_to(highest);
            assert!(!window.is_new(highest) && window.is_new(highest + 1));
            window.record(first);
            assert!((first.saturating_sub(2_000)..=first).all(|n| !window.is_new(n)));
            for n in first + 1..first + 3_000 {
                assert!(window.is_new(n), "{n} after {first}");
                window.record(n);
                assert!(!window.is_new(n));
            }
        }
    }

    #[test]
    fn a_restored_window_accepts_late_packets_after_the_first() {
        let mut window = ReplayWindow::used_up_to(500);
        window.record(700);
        window.record(703);
        assert!(window.is_new(701) && window.is_new(702) && !window.is_new(700));
    }
}
