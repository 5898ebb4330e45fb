//! RTCP sender and receiver reports (RFC 3550 §6), through the `rtc-rtcp` crate, and the statistics
//! behind them.

use super::bursts::{Bursts, GMIN};
use super::packet::{Packet, Unwrapper, is_longer, time_of};
use super::quality::Impairment;
use rtc_rtcp::extended_report::{ExtendedReport, VoIPMetricsReportBlock};
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::source_description::{
    SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem,
};
use serde::{Deserialize, Serialize};
use std::ops::Add;
use std::time::{Duration, Instant};

/// Packets that may overtake one before it is given up if it is decoded.
pub(crate) const WINDOW: usize = 3;

/// Packets that did not come once, and in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SequenceStats {
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Packets among those that came after more than [`WINDOW`] later ones.
    pub late: u64,
    /// Packets that came twice.
    pub duplicate: u64,
}

impl Add for SequenceStats {
    type Output = SequenceStats;

    fn add(self, other: SequenceStats) -> SequenceStats {
        let (lost, reordered) = (self.lost + other.lost, self.reordered + other.reordered);
        SequenceStats {
            lost,
            reordered,
            late: self.late + other.late,
            duplicate: self.duplicate + other.duplicate,
        }
    }
}

/// Statistics of one received source (RFC 3550 appendix A.1, A.3, A.8).
#[derive(Clone, Copy, Debug, Default)]
pub struct ReceiverStats {
    /// The source it is about.
    pub ssrc: u32,
    /// Packets that were received, without copies.
    pub packets: u64,
    first: u64,
    highest: u64,
    /// Which of the 64 packets up to the highest have come.
    seen: u64,
    disorder: SequenceStats,
    /// Of those that cannot come any more.
    bursts: Bursts,
    /// The newest packet's timestamp, and how much it was past the packet's before it.
    timestamp: u32,
    step: u32,
    unwrapper: Unwrapper,
    /// Timestamp units, scaled by 16.
    jitter: u32,
    transit: Option<i32>,
    /// The peer is not to send now; and it was not until its next packet.
    paused: bool,
    resuming: bool,
    /// Packets within which gaps are of a time in which we did not listen.
    deaf: u32,
    /// Runs of packets that were missing when the next one came.
    runs: u64,
    expected_prior: u64,
    received_prior: u64,
    /// Middle 32 bits of the peer's last SR, and when it came.
    last_sr: Option<(u32, Instant)>,
}

/// Packets in a second of a stream of short ones.
const IN_A_SECOND: u64 = 100;

impl ReceiverStats {
    /// Statistics of a new source.
    pub fn new(ssrc: u32) -> ReceiverStats {
        ReceiverStats { ssrc, ..ReceiverStats::default() }
    }

    /// Statistics of a source that takes the place of `before`: that we did not listen is as true
    /// of it.
    pub(crate) fn after(before: &ReceiverStats, ssrc: u32) -> ReceiverStats {
        ReceiverStats { deaf: before.deaf, ..ReceiverStats::new(ssrc) }
    }

    /// The peer is not to send for now, or may again: what it numbers in a pause is not lost.
    pub fn pause(&mut self, paused: bool) {
        self.resuming |= self.paused && !paused;
        self.paused = paused;
    }

    /// Nobody listened for `stall`: what was buffered comes now, and what there was no room for is
    /// no loss of the network's.
    pub(crate) fn overslept(&mut self, stall: Duration) {
        let buffered = IN_A_SECOND * (stall.as_secs() + 3);
        // A short one after a long one: what the long one left may still be in the buffers.
        self.deaf = self.deaf.max(u32::try_from(buffered).unwrap_or(u32::MAX));
    }

    /// Takes one packet; `arrived` is when, by the clock of what it holds, and that clock's rate.
    /// There is none for a packet whose timestamp does not say when it was sent, as those of one
    /// press share theirs (RFC 4733 §2.2). Returns the extended sequence number.
    pub fn receive(&mut self, packet: &Packet, arrived: Option<(u32, u32)>) -> u64 {
        let extended = self.unwrapper.extend(packet.sequence);
        if self.packets == 0 {
            self.first = extended;
        }
        self.deaf = self.deaf.saturating_sub(1);
        let missed = extended > self.highest + 1 && self.deaf > 0;
        let resumes = std::mem::take(&mut self.resuming) || self.paused || missed;
        if resumes && self.packets > 0 {
            self.resume(extended);
        }
        self.runs += u64::from(self.packets > 0 && extended > self.highest + 1);
        if arrived.is_some() && self.packets > 0 && extended == self.highest + 1 {
            self.step = packet.timestamp.wrapping_sub(self.timestamp);
        }
        self.note_order(extended);
        if extended >= self.highest {
            self.timestamp = packet.timestamp;
        }
        self.packets += 1;
        self.highest = self.highest.max(extended);
        if let Some((arrival, clock)) = arrived {
            self.note_transit(packet, arrival, clock);
        }
        extended
    }

    fn note_transit(&mut self, packet: &Packet, arrival: u32, clock: u32) {
        let transit = arrival.wrapping_sub(packet.timestamp) as i32;
        let Some(last) = self.transit.replace(transit) else { return };
        let d = transit.wrapping_sub(last).unsigned_abs();
        // A sender whose timestamps stand still in a pause, or jump, has not been late by it.
        let most = if packet.marker { LONGEST_PACKET } else { LONGEST_DELAY };
        if !is_longer(d, clock, most) {
            self.jitter = self.jitter.wrapping_add(d).wrapping_sub((self.jitter + 8) >> 4);
        }
    }

    /// Packets between the highest and `extended` are of a pause: nobody waited for them.
    fn resume(&mut self, extended: u64) {
        let gap = extended.saturating_sub(self.highest + 1);
        // Numbers before the pause move up to those after it, and so does what is known of them.
        self.first += gap;
        self.highest += gap;
        self.transit = None;
    }

    fn note_order(&mut self, extended: u64) {
        if self.packets == 0 || extended > self.highest {
            let ahead = if self.packets == 0 { 64 } else { extended - self.highest };
            self.note_gone(ahead);
            self.seen =
                u32::try_from(ahead).ok().and_then(|n| self.seen.checked_shl(n)).unwrap_or(0) | 1;
            return;
        }
        let behind = self.highest - extended;
        let bit = u32::try_from(behind).ok().and_then(|n| 1u64.checked_shl(n));
        if bit.is_some_and(|bit| self.seen & bit != 0) {
            self.disorder.duplicate += 1;
            return;
        }
        self.seen |= bit.unwrap_or(0);
        self.disorder.reordered += 1;
        self.disorder.late += u64::from(behind > WINDOW as u64);
    }

    /// What leaves the memory of 64 packets when the highest number grows by `ahead` is lost if it
    /// has not come.
    fn note_gone(&mut self, ahead: u64) {
        if self.packets == 0 {
            return;
        }
        for n in (0..ahead.min(64)).filter(|n| self.highest + n >= self.first + 63) {
            if self.seen & 1 << (63 - n) == 0 {
                self.bursts.lost(1);
            } else {
                self.bursts.received();
            }
        }
        if ahead > 64 {
            self.bursts.lost(u32::try_from(ahead - 64).unwrap_or(u32::MAX));
        }
    }

    /// Packets that should have come so far.
    pub fn expected(&self) -> u64 {
        if self.packets == 0 { 0 } else { self.highest.saturating_sub(self.first) + 1 }
    }

    /// Packets lost so far; duplicates never make it negative.
    pub(crate) fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.packets)
    }

    /// What did not come once, and in order, so far.
    pub(crate) fn disorder(&self) -> SequenceStats {
        SequenceStats { lost: self.lost(), ..self.disorder }
    }

    /// Share of packets lost so far, 0 to 1.
    pub fn loss(&self) -> f32 {
        self.lost() as f32 / self.expected().max(1) as f32
    }

    /// Packets of a run of lost ones, on average.
    fn mean_run(&self) -> f32 {
        self.lost() as f32 / self.runs.max(1) as f32
    }

    /// Mean length of a run of lost packets against that of losses at random, 1 and up (G.107's
    /// BurstR).
    pub fn burst_ratio(&self) -> f32 {
        (self.mean_run() * (1.0 - self.loss())).max(1.0)
    }

    /// Interarrival jitter, in seconds of `clock`.
    pub fn jitter(&self, clock: u32) -> Duration {
        time_of(self.jitter >> 4, clock)
    }

    fn report(&mut self, now: Instant) -> ReceptionReport {
        let (expected, received) = (self.expected(), self.packets);
        let expected_interval = expected - self.expected_prior.min(expected);
        let lost_interval = expected_interval.saturating_sub(received - self.received_prior);
        (self.expected_prior, self.received_prior) = (expected, received);
        let fraction = (lost_interval << 8).checked_div(expected_interval).unwrap_or(0);
        let delay = self.last_sr.map_or(0, |(_, at)| {
            (now.saturating_duration_since(at).as_micros() * 65_536 / 1_000_000) as u32
        });
        ReceptionReport {
            ssrc: self.ssrc,
            fraction_lost: fraction.min(255) as u8,
            total_lost: self.lost().min(0x7f_ffff) as u32,
            last_sequence_number: self.highest as u32,
            jitter: self.jitter >> 4,
            last_sender_report: self.last_sr.map_or(0, |(middle, _)| middle),
            delay: if self.last_sr.is_some() { delay } else { 0 },
        }
    }
}

/// What we sent, for a sender report.
#[derive(Clone, Copy, Debug, Default)]
pub struct SenderStats {
    /// Our source.
    pub ssrc: u32,
    /// Packets that were sent, modulo 2^32.
    pub packets: u32,
    /// Octets of payload that were sent, modulo 2^32.
    pub octets: u32,
    /// RTP timestamp that corresponds to the report's time.
    pub timestamp: u32,
}

/// What a peer's report says of our stream.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct RemoteReport {
    /// Share of packets lost since the report before, 0 to 1.
    pub fraction_lost: f32,
    /// Packets lost since the beginning.
    pub total_lost: u32,
    /// Interarrival jitter, timestamp units.
    pub jitter: u32,
    /// Round trip, from its answer to our last report.
    pub round_trip: Option<Duration>,
    /// The highest number that came, extended; of the moment only.
    #[serde(skip)]
    pub highest: u32,
}

/// No packet of sound is longer (RFC 7587 §4.2 has the longest): a step beyond is a pause.
const LONGEST_PACKET: Duration = Duration::from_millis(120);

/// A packet is no later than this by what the network does: a longer difference is the sender's.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// What we say of how a peer's stream sounds here, to peers that want it (RFC 3611 §4.7).
fn voip_metrics(
    reception: &ReceiverStats,
    heard: &Impairment,
    clock: u32,
) -> VoIPMetricsReportBlock {
    let ms = |d: Duration| d.as_millis().min(0xffff) as u16;
    let (of_256, clusters) = (|share: f32| (share * 256.0) as u8, reception.bursts.clusters());
    let packet = time_of(reception.step, clock).min(LONGEST_PACKET).as_secs_f32() * 1_000.0;
    let tenths = (heard.mos() * 10.0).round() as u8;
    VoIPMetricsReportBlock {
        ssrc: reception.ssrc,
        loss_rate: of_256(heard.loss),
        burst_density: of_256(clusters.burst_density),
        gap_density: of_256(clusters.gap_density),
        burst_duration: (clusters.burst * packet) as u16,
        gap_duration: (clusters.gap * packet) as u16,
        round_trip_delay: ms(heard.round_trip),
        end_system_delay: ms(heard.delay().saturating_sub(heard.round_trip / 2)),
        // 127: not known (§4.7.4).
        signal_level: 127,
        noise_level: 127,
        rerl: 127,
        gmin: GMIN,
        rfactor: heard.r_factor().round() as u8,
        ext_rfactor: 127,
        mos_lq: tenths,
        mos_cq: tenths,
        // Standard concealment; the buffer is the other leg's, of whatever kind (§4.7.6).
        rx_config: 0b1100_0000,
        jb_nominal: ms(2 * heard.jitter),
        jb_maximum: ms(2 * heard.jitter),
        jb_abs_max: 0xffff,
        ..VoIPMetricsReportBlock::default()
    }
}

/// An SR (or RR if nothing was sent) with SDES, as one compound packet; with VoIP metrics if
/// `heard` is given, by the clock of what was heard.
pub fn compose(
    now: Instant,
    ntp: u64,
    sent: SenderStats,
    cname: &str,
    received: Option<&mut ReceiverStats>,
    heard: Option<(Impairment, u32)>,
) -> Vec<u8> {
    let metrics = received
        .as_deref()
        .zip(heard)
        .map(|(reception, (heard, clock))| voip_metrics(reception, &heard, clock));
    let extended = metrics
        .map(|block| ExtendedReport { sender_ssrc: sent.ssrc, reports: vec![Box::new(block)] });
    let reports: Vec<ReceptionReport> = received.map(|r| r.report(now)).into_iter().collect();
    let report: Box<dyn rtc_rtcp::packet::Packet> = if sent.packets > 0 {
        Box::new(SenderReport {
            ssrc: sent.ssrc,
            ntp_time: ntp,
            rtp_time: sent.timestamp,
            packet_count: sent.packets,
            octet_count: sent.octets,
            reports,
            ..SenderReport::default()
        })
    } else {
        Box::new(ReceiverReport { ssrc: sent.ssrc, reports, ..ReceiverReport::default() })
    };
    let item =
        SourceDescriptionItem { sdes_type: SdesType::SdesCname, text: cname.to_owned().into() };
    let names = SourceDescription {
        chunks: vec![SourceDescriptionChunk { source: sent.ssrc, items: vec![item] }],
    };
    let mut packets: Vec<Box<dyn rtc_rtcp::packet::Packet>> = vec![report, Box::new(names)];
    packets.extend(extended.map(|x| Box::new(x) as Box<dyn rtc_rtcp::packet::Packet>));
    rtc_rtcp::packet::marshal(&packets).map(|b| b.to_vec()).unwrap_or_default()
}

/// Reads a compound packet: remembers the peer's SR in `reception`, returns what it says of `ssrc`.
/// Malformed input says nothing.
pub fn read(
    now: Instant,
    ntp: u64,
    bytes: &[u8],
    ssrc: u32,
    reception: Option<&mut ReceiverStats>,
) -> Option<RemoteReport> {
    let packets = rtc_rtcp::packet::unmarshal(&mut &bytes[..]).ok()?;
    let (mut feedback, mut sender) = (None, None);
    for packet in &packets {
        let any = packet.as_any();
        let reports = if let Some(sr) = any.downcast_ref::<SenderReport>() {
            sender = Some((sr.ssrc, (sr.ntp_time >> 16) as u32));
            &sr.reports
        } else if let Some(rr) = any.downcast_ref::<ReceiverReport>() {
            &rr.reports
        } else {
            continue;
        };
        if let Some(r) = reports.iter().find(|r| r.ssrc == ssrc) {
            // RFC 3550 §6.4.1: A - LSR - DLSR, in units of 1/65536 s; meaningless without an LSR.
            let units =
                ((ntp >> 16) as u32).wrapping_sub(r.last_sender_report).wrapping_sub(r.delay);
            let round_trip = (r.last_sender_report != 0 && units < 10 * 65_536)
                .then(|| Duration::from_micros(u64::from(units) * 1_000_000 / 65_536));
            feedback = Some(RemoteReport {
                fraction_lost: f32::from(r.fraction_lost) / 256.0,
                total_lost: not_below_nought(r.total_lost),
                jitter: r.jitter,
                round_trip,
                highest: r.last_sequence_number,
            });
        }
    }
    if let (Some(reception), Some((from, middle))) = (reception, sender)
        && reception.ssrc == from
    {
        reception.last_sr = Some((middle, now));
    }
    feedback
}

/// The count of lost packets is 24 bits with a sign: doubles make it negative (RFC 3550 §6.4.1).
fn not_below_nought(total_lost: u32) -> u32 {
    if total_lost < 1 << 23 { total_lost } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(reception: &mut ReceiverStats, sequence: &[u16]) {
        for (n, sequence) in sequence.iter().enumerate() {
            let mut bytes = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];
            bytes[2..4].copy_from_slice(&sequence.to_be_bytes());
            let packet = Packet::parse(&bytes, false).expect("a packet");
            reception.receive(&packet, Some((160 * n as u32, 8_000)));
        }
    }

    fn disorder_of(sequence: &[u16]) -> SequenceStats {
        let mut reception = ReceiverStats::new(1);
        hear(&mut reception, sequence);
        reception.disorder()
    }

    #[test]
    fn what_nobody_listened_to_is_not_lost_and_what_is_lost_afterwards_is() {
        let mut reception = ReceiverStats::new(1);
        hear(&mut reception, &[1, 2, 3]);
        reception.overslept(Duration::ZERO);
        // Some were buffered, and of those some were too many at once.
        hear(&mut reception, &[4, 5, 1_006, 1_007, 1_020]);
        assert_eq!(reception.disorder().lost, 0);
        hear(&mut reception, &(1_021..1_321).collect::<Vec<_>>());
        hear(&mut reception, &[1_324]);
        assert_eq!(reception.disorder().lost, 3);
    }

    #[test]
    fn a_moment_of_stillness_after_a_minute_shortens_nothing() {
        let mut reception = ReceiverStats::new(1);
        hear(&mut reception, &[1, 2, 3]);
        reception.overslept(Duration::from_secs(60));
        // Reading what was buffered takes a moment.
        reception.overslept(Duration::from_millis(600));
        hear(&mut reception, &(4..600).collect::<Vec<_>>());
        hear(&mut reception, &[3_000]);
        assert_eq!(reception.disorder().lost, 0);
        // So long a gap looks as if the source had begun anew; the buffers are full meanwhile, too.
        let mut anew = ReceiverStats::after(&reception, 1);
        hear(&mut anew, &[3_001, 3_310]);
        assert_eq!(anew.disorder().lost, 0);
    }

    #[test]
    fn late_duplicate_and_lost_packets_are_distinguished() {
        let figures =
            |lost, reordered, late, duplicate| SequenceStats { lost, reordered, late, duplicate };
        assert_eq!(disorder_of(&[65_534, 65_535, 0, 1]), figures(0, 0, 0, 0));
        assert_eq!(disorder_of(&[65_534, 0, 65_535, 1]), figures(0, 1, 0, 0), "across the wrap");
        assert_eq!(disorder_of(&[1, 3, 4, 5, 6, 2]), figures(0, 1, 1, 0), "overtaken by four");
        assert_eq!(disorder_of(&[1, 2, 2, 3, 1]), figures(0, 0, 0, 2));
        assert_eq!(disorder_of(&[1, 2, 5]), figures(2, 0, 0, 0));
        assert_eq!(
            disorder_of(&[1, 100, 36]),
            figures(97, 1, 1, 0),
            "older than the memory of 64: not known to be a double"
        );
    }
}
