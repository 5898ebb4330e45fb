//! What leaves one end: its own continuous SSRC, sequence numbers and timestamps.
//!
//! A change of source (hold, restart, prompt, codec change) is smoothed over here, so the far side's
//! SRTP context and jitter buffer never see a jump backwards.

use crate::rtp::packet::Packet;
use crate::rtp::report::Sent;
use std::time::Instant;

/// Sequence distance beyond which a source has restarted.
const RESTART: i16 = 1_000;

#[derive(Clone, Copy, Debug)]
struct Mapping {
    origin: u64,
    ssrc: u32,
    /// First input sequence number, until the newest has left it behind: packets before it are dropped
    /// rather than renumbered.
    first: Option<u16>,
    newest: u16,
    sequence_offset: u16,
    timestamp_offset: u32,
}

/// Numbering of one outgoing stream.
#[derive(Debug)]
pub struct Egress {
    pub sent: Sent,
    next: u16,
    timestamp: u32,
    last_at: Option<Instant>,
    mapping: Option<Mapping>,
}

/// The numbers one packet leaves with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Numbers {
    pub sequence: u16,
    pub timestamp: u32,
    pub marker: bool,
}

impl Egress {
    /// A stream that starts at `sequence` and `timestamp` (both random, RFC 3550 §5.1).
    pub fn new(ssrc: u32, sequence: u16, timestamp: u32) -> Egress {
        // The upper half is left free so that SRTP's first rollover does not meet early reordering.
        let next = sequence & 0x7fff;
        Egress { sent: Sent { ssrc, ..Sent::default() }, next, timestamp, last_at: None, mapping: None }
    }

    /// The timestamp of `now` on this stream.
    fn timestamp_at(&self, now: Instant, clock: u32) -> u32 {
        let elapsed = self.last_at.map_or(0, |at| now.saturating_duration_since(at).as_micros() as u64);
        self.timestamp.wrapping_add((elapsed * u64::from(clock) / 1_000_000) as u32)
    }

    /// Numbers for a relayed packet of `origin`; gaps and reordering pass through. Nothing for a
    /// packet from before the mapping began.
    pub fn relay(&mut self, now: Instant, origin: u64, packet: &Packet, clock: u32) -> Option<Numbers> {
        let known = self.mapping.filter(|m| {
            let step = packet.sequence.wrapping_sub(m.newest) as i16;
            m.origin == origin && m.ssrc == packet.ssrc && step.unsigned_abs() < RESTART.unsigned_abs()
        });
        let fresh = known.is_none();
        let mapping = known.unwrap_or_else(|| Mapping {
            origin,
            ssrc: packet.ssrc,
            first: Some(packet.sequence),
            newest: packet.sequence,
            sequence_offset: self.next.wrapping_sub(packet.sequence),
            timestamp_offset: self.timestamp_at(now, clock).wrapping_sub(packet.timestamp),
        });
        let ahead = packet.sequence.wrapping_sub(mapping.newest) as i16 >= 0;
        if mapping.first.is_some_and(|first| (packet.sequence.wrapping_sub(first) as i16) < 0) {
            return None;
        }
        let mapping = self.mapping.insert(mapping);
        let sequence = packet.sequence.wrapping_add(mapping.sequence_offset);
        let timestamp = packet.timestamp.wrapping_add(mapping.timestamp_offset);
        if ahead {
            mapping.newest = packet.sequence;
            mapping.first = mapping.first.filter(|first| packet.sequence.wrapping_sub(*first) < RESTART.unsigned_abs());
            self.next = sequence.wrapping_add(1);
            self.timestamp = timestamp;
            self.last_at = Some(now);
        }
        Some(Numbers { sequence, timestamp, marker: packet.marker || fresh })
    }

    /// Numbers for a packet of our own making at `timestamp`.
    pub fn generate(&mut self, now: Instant, timestamp: u32, marker: bool) -> Numbers {
        self.mapping = None;
        let sequence = self.next;
        self.next = self.next.wrapping_add(1);
        self.timestamp = timestamp;
        self.last_at = Some(now);
        Numbers { sequence, timestamp, marker }
    }

    /// Where a generated stream starts so that it continues what was sent before.
    pub fn resume_timestamp(&self, now: Instant, clock: u32) -> u32 {
        self.timestamp_at(now, clock)
    }

    /// Counts a packet that went out.
    pub fn count(&mut self, payload: usize) {
        self.sent.packets = self.sent.packets.wrapping_add(1);
        self.sent.octets = self.sent.octets.wrapping_add(payload as u32);
    }

    /// The report's view of the stream at `now`.
    pub fn report(&self, now: Instant, clock: u32) -> Sent {
        Sent { timestamp: self.timestamp_at(now, clock), ..self.sent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn packet(ssrc: u32, sequence: u16, timestamp: u32) -> Packet {
        Packet { marker: false, payload_type: 0, sequence, timestamp, ssrc, header_len: 12, padding: 0 }
    }

    #[test]
    fn an_hour_of_packets_is_relayed_without_a_gap() {
        let start = Instant::now();
        let mut egress = Egress::new(1, 0x7ff0, 0);
        let mut last = None;
        for n in 0..180_000u32 {
            let numbers = egress.relay(start, 1, &packet(9, n as u16, n * 160), 8_000).expect("every packet");
            assert!(last.is_none_or(|l: u16| numbers.sequence == l.wrapping_add(1)), "packet {n}");
            last = Some(numbers.sequence);
        }
    }

    #[test]
    fn a_restarted_source_continues_the_stream_and_time_passes() {
        let start = Instant::now();
        let mut egress = Egress::new(1, 100, 5_000);
        let first = egress.relay(start, 1, &packet(9, 65_535, 77), 8_000).expect("first");
        assert_eq!(first, Numbers { sequence: 100, timestamp: 5_000, marker: true });
        let gap = egress.relay(start, 1, &packet(9, 1, 77 + 320), 8_000).expect("gap is kept");
        assert_eq!(gap, Numbers { sequence: 102, timestamp: 5_320, marker: false });
        let late = egress.relay(start, 1, &packet(9, 0, 77 + 160), 8_000).expect("late passes");
        assert_eq!(late.sequence, 101);
        assert_eq!(egress.relay(start, 1, &packet(9, 65_534, 0), 8_000), None, "older than the start");
        let later = start + Duration::from_secs(1);
        let other = egress.relay(later, 2, &packet(8, 4_000, 1), 8_000).expect("other source");
        assert_eq!(other, Numbers { sequence: 103, timestamp: 13_320, marker: true });
        let made = egress.generate(later, 13_480, false);
        assert_eq!(made.sequence, 104);
        let back = egress.relay(later, 2, &packet(8, 4_001, 161), 8_000).expect("again");
        assert_eq!(back.sequence, 105);
    }
}
