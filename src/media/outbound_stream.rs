//! What leaves one end: its own continuous SSRC, sequence numbers and timestamps.
//!
//! A change of source (hold, restart, prompt, codec change) is smoothed over here, so the far
//! side's SRTP context and jitter buffer never see a jump backwards.

use super::snapshot::{Resumed, StreamSnapshot};
use crate::rtp::packet::{Packet, time_of};
use crate::rtp::report::SenderStats;
use std::time::{Duration, Instant};

/// Sequence distance beyond which a source has restarted: its gap is not passed on, for that takes
/// of what is reserved for packets.
const RESTART: i16 = 250;
/// How far timestamps may have run ahead of the time that passed when a process ended.
const LEAD: Duration = Duration::from_millis(100);
/// A new source that begins this near to where the last one ended continues it: timers are a little
/// late, and packets a little early.
const NEAR: Duration = Duration::from_millis(40);

#[derive(Clone, Copy, Debug)]
struct Mapping {
    origin: u64,
    ssrc: u32,
    /// First input sequence number, until the newest has left it behind: packets before it are
    /// dropped rather than renumbered.
    first: Option<u16>,
    newest: u16,
    sequence_offset: u16,
    timestamp_offset: u32,
}

/// Numbering of one outgoing stream.
#[derive(Debug)]
pub(crate) struct OutboundStream {
    /// What was sent, for reports.
    pub sent: SenderStats,
    next: u16,
    /// A timestamp of the stream, and when it was.
    timestamp: u32,
    last_at: Option<Instant>,
    /// Where what we made ourselves ends.
    until: Option<u32>,
    /// How far the stream runs ahead of the time that passed, timestamp units: what was made in a
    /// silence and then was not needed. The next silence gives it back.
    ahead: u32,
    mapping: Option<Mapping>,
}

/// The numbers one packet leaves with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RtpNumbers {
    /// The sequence number.
    pub sequence: u16,
    /// The timestamp, in units of the format's clock.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
}

impl StreamSnapshot {
    /// The stream's source.
    pub(crate) fn ssrc(&self) -> u32 {
        self.ssrc
    }
}

impl OutboundStream {
    /// A stream that starts at `sequence` and `timestamp` (both random, RFC 3550 §5.1).
    pub(crate) fn new(ssrc: u32, sequence: u16, timestamp: u32) -> OutboundStream {
        // The upper half is left free so that SRTP's first rollover does not meet early reordering.
        let next = sequence & 0x7fff;
        OutboundStream {
            sent: SenderStats { ssrc, ..SenderStats::default() },
            next,
            timestamp,
            last_at: None,
            until: None,
            ahead: 0,
            mapping: None,
        }
    }

    /// As a value; `next` is a successor's first number.
    pub(super) fn snapshot(&self, taken: Instant, clock: u32, next: u16) -> StreamSnapshot {
        StreamSnapshot {
            ssrc: self.sent.ssrc,
            next,
            timestamp: self.timestamp_at(taken, clock),
            begun: self.last_at.is_some(),
            packets: self.sent.packets,
            octets: self.sent.octets,
        }
    }

    /// From a value: the numbers continue where it says, and time has passed.
    pub(super) fn resume(from: StreamSnapshot, times: Resumed, clock: u32) -> OutboundStream {
        let lead = if from.begun { clock / 1_000 * LEAD.as_millis() as u32 } else { 0 };
        let StreamSnapshot { ssrc, packets, octets, .. } = from;
        OutboundStream {
            sent: SenderStats { ssrc, packets, octets, ..SenderStats::default() },
            next: from.next,
            timestamp: from.timestamp.wrapping_add(lead),
            last_at: from.begun.then_some(times.taken),
            until: None,
            ahead: 0,
            mapping: None,
        }
    }

    /// The number of the next packet.
    pub(super) fn next(&self) -> u16 {
        self.next
    }

    /// The timestamp of `now` on this stream.
    fn timestamp_at(&self, now: Instant, clock: u32) -> u32 {
        let elapsed =
            self.last_at.map_or(0, |at| now.saturating_duration_since(at).as_micros() as u64);
        self.timestamp.wrapping_add((elapsed * u64::from(clock) / 1_000_000) as u32)
    }

    /// Returns the numbers for a relayed packet of `origin`, or `None` for a packet from before the
    /// mapping began. Gaps and reordering pass through.
    pub(crate) fn relay(
        &mut self,
        now: Instant,
        origin: u64,
        packet: &Packet,
        clock: u32,
    ) -> Option<RtpNumbers> {
        let known = self.mapping.filter(|m| {
            let step = packet.sequence.wrapping_sub(m.newest) as i16;
            m.origin == origin
                && m.ssrc == packet.ssrc
                && step.unsigned_abs() < RESTART.unsigned_abs()
        });
        let fresh = known.is_none();
        let mapping = known.unwrap_or_else(|| Mapping {
            origin,
            ssrc: packet.ssrc,
            first: Some(packet.sequence),
            newest: packet.sequence,
            sequence_offset: self.next.wrapping_sub(packet.sequence),
            timestamp_offset: self.resume_timestamp(now, clock).wrapping_sub(packet.timestamp),
        });
        let ahead = packet.sequence.wrapping_sub(mapping.newest) as i16 >= 0;
        if mapping.first.is_some_and(|first| (packet.sequence.wrapping_sub(first) as i16) < 0) {
            return None;
        }
        if fresh {
            let start = packet.timestamp.wrapping_add(mapping.timestamp_offset);
            self.note_lead(start, self.timestamp_at(now, clock));
        }
        let mapping = self.mapping.insert(mapping);
        let sequence = packet.sequence.wrapping_add(mapping.sequence_offset);
        let timestamp = packet.timestamp.wrapping_add(mapping.timestamp_offset);
        if ahead {
            mapping.newest = packet.sequence;
            mapping.first = mapping
                .first
                .filter(|first| packet.sequence.wrapping_sub(*first) < RESTART.unsigned_abs());
            self.next = sequence.wrapping_add(1);
            (self.timestamp, self.last_at, self.until) = (timestamp, Some(now), None);
        }
        Some(RtpNumbers { sequence, timestamp, marker: packet.marker || fresh })
    }

    /// Numbers for a packet of our own making at `timestamp`, which lasts `step`.
    pub(crate) fn generate(
        &mut self,
        now: Instant,
        timestamp: u32,
        step: u32,
        marker: bool,
    ) -> RtpNumbers {
        self.mapping = None;
        let sequence = self.next;
        self.next = self.next.wrapping_add(1);
        (self.timestamp, self.last_at, self.until) =
            (timestamp, Some(now), Some(timestamp.wrapping_add(step)));
        RtpNumbers { sequence, timestamp, marker }
    }

    /// When something was sent last.
    pub(crate) fn last_at(&self) -> Option<Instant> {
        self.last_at
    }

    /// Leaves out what the source sends meanwhile: the next packet relayed continues the numbers,
    /// without a gap.
    pub(crate) fn restart_mapping(&mut self) {
        self.mapping = None;
    }

    /// Leaves out one packet of the source, which is no sound: what follows it is numbered as if it
    /// had not been there, so that the peer counts no loss.
    pub(crate) fn leave_out(&mut self, origin: u64, packet: &Packet) {
        let known = |m: &&mut Mapping| m.origin == origin && m.ssrc == packet.ssrc;
        let Some(mapping) = self.mapping.as_mut().filter(known) else { return };
        if packet.sequence.wrapping_sub(mapping.newest) as i16 > 0 {
            mapping.newest = packet.sequence;
            mapping.first = Some(packet.sequence.wrapping_add(1));
            mapping.sequence_offset = mapping.sequence_offset.wrapping_sub(1);
        }
    }

    /// Where a new source starts so that it continues what was sent before, and no earlier.
    pub(crate) fn resume_timestamp(&self, now: Instant, clock: u32) -> u32 {
        let at = self.timestamp_at(now, clock);
        let near = NEAR.as_millis() as u32 * clock / 1_000;
        match self.until {
            Some(until) if (at.wrapping_sub(until) as i32) < near as i32 => until,
            _ => at,
        }
    }

    /// Where a frame starts that its source's own time, kept without our lead, has at `wanted`: no
    /// earlier than what was sent ends.
    pub(crate) fn resume_at(&mut self, wanted: u32) -> u32 {
        let wanted = wanted.wrapping_add(self.ahead);
        let start = self.not_before_end(wanted);
        self.note_lead(start, wanted);
        start
    }

    /// `timestamp`, or where what we made ourselves ends, whichever is later.
    fn not_before_end(&self, timestamp: u32) -> u32 {
        self.until.filter(|until| (until.wrapping_sub(timestamp) as i32) > 0).unwrap_or(timestamp)
    }

    /// The source's own time if one begins now, for [`resume_at`](Self::resume_at).
    pub(crate) fn source_timestamp(&self, now: Instant, clock: u32) -> u32 {
        self.resume_timestamp(now, clock).wrapping_sub(self.ahead)
    }

    fn note_lead(&mut self, start: u32, wanted: u32) {
        let ahead = start.wrapping_sub(wanted) as i32;
        self.ahead = self.ahead.saturating_add(ahead.max(0) as u32);
    }

    /// How long a silence waits before we fill it, so that what was made too much is given back.
    pub(crate) fn ahead(&self, clock: u32) -> Duration {
        time_of(self.ahead, clock)
    }

    /// The start of what fills a silence from `now` on.
    pub(crate) fn begin_filling(&mut self, now: Instant, clock: u32) -> u32 {
        let at = self.timestamp_at(now, clock).wrapping_sub(std::mem::take(&mut self.ahead));
        self.not_before_end(at)
    }

    /// Counts a packet that went out.
    pub(crate) fn count(&mut self, payload: usize) {
        self.sent.packets = self.sent.packets.wrapping_add(1);
        self.sent.octets = self.sent.octets.wrapping_add(payload as u32);
    }

    /// The report's view of the stream at `now`.
    pub(crate) fn report(&self, now: Instant, clock: u32) -> SenderStats {
        SenderStats { timestamp: self.timestamp_at(now, clock), ..self.sent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn packet(ssrc: u32, sequence: u16, timestamp: u32) -> Packet {
        Packet {
            marker: false,
            payload_type: 0,
            sequence,
            timestamp,
            ssrc,
            header_len: 12,
            padding: 0,
        }
    }

    #[test]
    fn an_hour_of_packets_is_relayed_without_a_gap() {
        let start = Instant::now();
        let mut outbound = OutboundStream::new(1, 0x7ff0, 0);
        let mut last = None;
        for n in 0..180_000u32 {
            let numbers = outbound
                .relay(start, 1, &packet(9, n as u16, n * 160), 8_000)
                .expect("every packet");
            assert!(last.is_none_or(|l: u16| numbers.sequence == l.wrapping_add(1)), "packet {n}");
            last = Some(numbers.sequence);
        }
    }

    #[test]
    fn a_restarted_source_continues_the_stream_and_time_passes() {
        let start = Instant::now();
        let mut outbound = OutboundStream::new(1, 100, 5_000);
        let first = outbound.relay(start, 1, &packet(9, 65_535, 77), 8_000).expect("first");
        assert_eq!(first, RtpNumbers { sequence: 100, timestamp: 5_000, marker: true });
        let gap = outbound.relay(start, 1, &packet(9, 1, 77 + 320), 8_000).expect("gap is kept");
        assert_eq!(gap, RtpNumbers { sequence: 102, timestamp: 5_320, marker: false });
        let late = outbound.relay(start, 1, &packet(9, 0, 77 + 160), 8_000).expect("late passes");
        assert_eq!(late.sequence, 101);
        assert_eq!(
            outbound.relay(start, 1, &packet(9, 65_534, 0), 8_000),
            None,
            "older than the start"
        );
        let later = start + Duration::from_secs(1);
        let other = outbound.relay(later, 2, &packet(8, 4_000, 1), 8_000).expect("other source");
        assert_eq!(other, RtpNumbers { sequence: 103, timestamp: 13_320, marker: true });
        let made = outbound.generate(later, 13_480, 160, false);
        assert_eq!(made.sequence, 104);
        let back = outbound.relay(later, 2, &packet(8, 4_001, 161), 8_000).expect("again");
        assert_eq!(back.sequence, 105);
    }

    #[test]
    fn silences_filled_a_little_too_far_do_not_add_up() {
        // Talk for a second, then 200 ms filled; the next talk always comes 15 ms before the filled
        // end.
        let start = Instant::now();
        let ms = |n: u64| start + Duration::from_millis(n);
        let (mut outbound, mut at, mut last) = (OutboundStream::new(1, 0, 0), 0, 0);
        for round in 0..300u32 {
            for n in 0..50 {
                let numbers = outbound
                    .relay(ms(at), 1, &packet(9, (round * 50 + n) as u16, at as u32 * 8), 8_000)
                    .expect("in order");
                assert!(n == 0 || numbers.timestamp == last + 160);
                last = numbers.timestamp;
                at += 20;
            }
            let end = at + 185;
            at += outbound.ahead(8_000).as_millis() as u64;
            let mut timestamp = outbound.begin_filling(ms(at), 8_000);
            while at < end {
                assert!(
                    timestamp >= last + 160 && timestamp < last + 600,
                    "round {round}: {last} then {timestamp}"
                );
                last = outbound.generate(ms(at), timestamp, 160, false).timestamp;
                timestamp += 160;
                at += 20;
            }
            at = end;
        }
        let ahead = i64::from(last) - at as i64 * 8;
        assert!(ahead.abs() < 400, "{ahead} units ahead after {at} ms");
    }
}
