//! How losses cluster: bursts, and the gaps between them (RFC 3611 §4.7.2).

/// Packets that come between two lost ones if these are not of one burst (Gmin, §4.7.1).
pub(crate) const GMIN: u8 = 16;

/// Counts packets in the order of their numbers, as received or lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Bursts {
    /// Bursts that are over, their packets, and those lost of them.
    bursts: u32,
    in_bursts: u32,
    lost_in_bursts: u32,
    /// Packets of gaps, and those lost of them: each alone.
    in_gaps: u32,
    lost_in_gaps: u32,
    /// What may be a burst, from its first loss to its last: packets, and those lost of them.
    open: u32,
    lost: u32,
    /// Received since.
    since: u32,
}

/// What a report says of it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Clusters {
    /// Share of packets lost within bursts, 0 to 1.
    pub burst_density: f32,
    /// Share of packets lost within gaps, 0 to 1.
    pub gap_density: f32,
    /// Mean length of a burst, packets.
    pub burst: f32,
    /// Mean length of a gap, packets.
    pub gap: f32,
}

impl Bursts {
    /// A packet came.
    pub(crate) fn received(&mut self) {
        if self.lost == 0 {
            self.in_gaps = self.in_gaps.saturating_add(1);
            return;
        }
        self.since += 1;
        if self.since >= u32::from(GMIN) {
            self.close();
        }
    }

    /// `count` packets in a row did not.
    pub(crate) fn lost(&mut self, count: u32) {
        self.open = self.open.saturating_add(self.since).saturating_add(count);
        self.lost = self.lost.saturating_add(count);
        self.since = 0;
    }

    fn close(&mut self) {
        // A loss alone is no burst.
        if self.lost == 1 {
            self.lost_in_gaps += 1;
            self.in_gaps = self.in_gaps.saturating_add(1);
        } else {
            self.bursts += 1;
            self.in_bursts = self.in_bursts.saturating_add(self.open);
            self.lost_in_bursts = self.lost_in_bursts.saturating_add(self.lost);
        }
        self.in_gaps = self.in_gaps.saturating_add(self.since);
        (self.open, self.lost, self.since) = (0, 0, 0);
    }

    /// So far; what is open counts as over.
    pub(crate) fn clusters(&self) -> Clusters {
        let mut all = *self;
        if all.lost > 0 {
            all.close();
        }
        let share = |part: u32, whole: u32| part as f32 / whole.max(1) as f32;
        Clusters {
            burst_density: share(all.lost_in_bursts, all.in_bursts),
            gap_density: share(all.lost_in_gaps, all.in_gaps),
            burst: share(all.in_bursts, all.bursts),
            // Before the first burst and after each is a gap.
            gap: share(all.in_gaps, all.bursts + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &[(u32, u32)]) -> Clusters {
        let mut bursts = Bursts::default();
        for (received, lost) in pattern {
            (0..*received).for_each(|_| bursts.received());
            if *lost > 0 {
                bursts.lost(*lost);
            }
        }
        bursts.clusters()
    }

    #[test]
    fn bursts_and_gaps_are_separated_by_sixteen_packets() {
        let clusters = |burst_density, gap_density, burst, gap| Clusters {
            burst_density,
            gap_density,
            burst,
            gap,
        };
        assert_eq!(of(&[]), clusters(0.0, 0.0, 0.0, 0.0));
        assert_eq!(of(&[(100, 0)]), clusters(0.0, 0.0, 0.0, 100.0));
        // Losses alone: gaps have them.
        assert_eq!(of(&[(16, 1), (16, 1), (16, 0)]), clusters(0.0, 2.0 / 50.0, 0.0, 50.0));
        // Fifteen between them: one burst of seventeen.
        assert_eq!(of(&[(20, 1), (15, 1), (20, 0)]), clusters(2.0 / 17.0, 0.0, 17.0, 20.0));
        // Lost, came, lost, came, lost within a hundred on either side, and one alone.
        assert_eq!(
            of(&[(100, 1), (1, 1), (1, 1), (100, 1), (100, 0)]),
            clusters(3.0 / 5.0, 1.0 / 301.0, 5.0, 150.5)
        );
        // A burst that is not over yet.
        assert_eq!(of(&[(40, 3), (4, 2)]), clusters(5.0 / 9.0, 0.0, 9.0, 20.0));
        assert_eq!(of(&[(40, 3), (2, 0)]), clusters(1.0, 0.0, 3.0, 21.0));
    }
}
