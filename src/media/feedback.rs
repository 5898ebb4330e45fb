//! What a peer's reports say of the stream it hears. Not all that it misses was lost on the way:
//! the successor of a process that died leaves a gap in the numbers.

use crate::rtp::report::RemoteReport;

/// A peer's reports, without what is missing by our own doing.
#[derive(Debug, Default)]
pub(super) struct PeerFeedback {
    newest: Option<RemoteReport>,
    /// Packets that its last report counted as lost, those of our own gaps among them.
    counted: u32,
    /// The first number after a gap of ours, until a report has counted the gap.
    gap_ends: Option<u16>,
}

impl PeerFeedback {
    /// Goes on from what was known; the stream's next number is `next`, after a gap.
    pub(super) fn resume(newest: Option<RemoteReport>, next: u16) -> PeerFeedback {
        PeerFeedback { newest, counted: 0, gap_ends: Some(next) }
    }

    /// Takes a report. One that reaches beyond a gap of ours is about the gap, and the network's
    /// share in it is not known.
    pub(super) fn take(&mut self, report: RemoteReport) {
        let before = self.newest.as_ref();
        let (fraction, lost) = before.map_or((0.0, 0), |r| (r.fraction_lost, r.total_lost));
        let (fraction_lost, more) = match self.gap_ends {
            None => (report.fraction_lost, report.total_lost.saturating_sub(self.counted)),
            Some(_) => (fraction, 0),
        };
        self.gap_ends = self.gap_ends.filter(|first| {
            let ahead = (report.highest as u16).wrapping_sub(*first);
            ahead.cast_signed() < 0
        });
        self.counted = report.total_lost;
        self.newest = Some(RemoteReport { fraction_lost, total_lost: lost + more, ..report });
    }

    /// The newest report.
    pub(super) fn newest(&self) -> Option<&RemoteReport> {
        self.newest.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report of a stream up to this number.
    fn report(highest: u32, fraction_lost: f32, total_lost: u32) -> RemoteReport {
        RemoteReport { fraction_lost, total_lost, jitter: 0, round_trip: None, highest }
    }

    fn figures(feedback: &PeerFeedback) -> (f32, u32) {
        let newest = feedback.newest().expect("a report came");
        (newest.fraction_lost, newest.total_lost)
    }

    #[test]
    fn what_the_network_lost_is_taken_as_the_peer_says_it() {
        let mut feedback = PeerFeedback::default();
        assert_eq!(feedback.newest(), None);
        for (highest, fraction, total) in [(100, 0.1, 10), (200, 0.0, 10), (300, 0.5, 60)] {
            feedback.take(report(highest, fraction, total));
            assert_eq!(figures(&feedback), (fraction, total));
        }
        // A copy that came late is no less lost than before.
        feedback.take(report(400, 0.0, 59));
        assert_eq!(figures(&feedback), (0.0, 60));
    }

    #[test]
    fn the_gap_of_a_restart_is_not_the_networks_and_what_is_lost_afterwards_is() {
        let mut feedback = PeerFeedback::default();
        feedback.take(report(1_000, 0.02, 20));
        // Twice, as a process may be killed again and again; the numbers go round in between.
        for (first, total) in [(65_000_u16, 1_200), (500, 2_300)] {
            feedback = PeerFeedback::resume(feedback.newest().copied(), first);
            // Sent before anything after the gap had come.
            let before = u32::from(first.wrapping_sub(1_100));
            feedback.take(report(before, 0.0, total - 1_100));
            assert_eq!(figures(&feedback), (0.02, 20));
            feedback.take(report(u32::from(first) + 65_536, 0.92, total));
            assert_eq!(figures(&feedback), (0.02, 20));
        }
        feedback.take(report(700 + 65_536, 0.25, 2_350));
        assert_eq!(figures(&feedback), (0.25, 70));
    }
}
