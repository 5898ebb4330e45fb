//! One press of a key as its telephone-events tell it (RFC 4733 §2.5), however a device numbers
//! them.
//!
//! By the standard the packets of a press share one timestamp. Devices exist whose timestamp grows
//! within a press, whose repeated end has a new one each time, and whose next press has that of the
//! last one. So a press is recognised by what it is: a key that goes down, is held without a pause,
//! and comes up. Sequence numbers say what is late.

use crate::rtp::event::TelephoneEvent;
use crate::rtp::packet::Packet;
use std::time::{Duration, Instant};

/// An event whose packets stop for this long was released: its end was lost.
const LOST_END: Duration = Duration::from_millis(160);
/// What one key says within this time is of one press: nobody is faster.
const PAUSE: Duration = Duration::from_millis(80);
/// Longest a segment of an event can say it lasts (RFC 4733 §2.5.1.3).
pub(super) const SEGMENT: u32 = 0xffff;
/// Packets by which one may be late; what is further back is of a source that started again.
const LATE: i16 = 64;
/// A duration that was above the first and is below the second has wrapped.
const WRAPPED: (u16, u16) = (0xf000, 0x1000);

/// A telephone-event that is being received.
#[derive(Clone, Copy, Debug)]
pub(super) struct InboundEvent {
    ssrc: u32,
    sequence: u16,
    /// Of its newest packet, and where its count began.
    timestamp: u32,
    first: u32,
    /// What its newest packet said it lasts, the timestamp units before that count, and of all.
    said: u16,
    earlier: u32,
    /// How long it has lasted, timestamp units.
    pub duration: u32,
    /// The event, 0 to 16 (RFC 4733 §3.2).
    pub event: u8,
    /// Units a second of its durations.
    pub clock: u32,
    /// A packet has said that it is over.
    pub ended: bool,
    /// When its newest packet came.
    pub seen: Instant,
}

/// How a packet stands to the press before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Relation {
    /// It says more of the same press.
    Same,
    /// It says nothing new.
    Late,
    /// A key was pressed since.
    New,
}

impl InboundEvent {
    /// A press that begins with `packet`.
    pub(super) fn begin(now: Instant, packet: &Packet, event: &TelephoneEvent, clock: u32) -> Self {
        InboundEvent {
            ssrc: packet.ssrc,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            first: packet.timestamp,
            said: 0,
            earlier: 0,
            duration: 0,
            event: event.event,
            clock,
            ended: false,
            seen: now,
        }
    }

    /// A press heard as a tone: nobody says when it ends but the ear.
    pub(super) fn heard(now: Instant, event: u8) -> Self {
        InboundEvent {
            ssrc: 0,
            sequence: 0,
            timestamp: 0,
            first: 0,
            said: 0,
            earlier: 0,
            duration: 0,
            event,
            clock: 8_000,
            ended: true,
            seen: now,
        }
    }

    /// The same press, over.
    pub(super) fn released(self) -> Self {
        InboundEvent { ended: true, ..self }
    }

    /// When it was released although no packet announced it.
    pub(super) fn lost_end(&self) -> Option<Instant> {
        (!self.ended).then(|| self.seen + LOST_END)
    }

    /// How the next packet stands to this press.
    pub(super) fn relation(
        &self,
        now: Instant,
        packet: &Packet,
        event: &TelephoneEvent,
    ) -> Relation {
        let one_source = packet.ssrc == self.ssrc;
        let step = packet.sequence.wrapping_sub(self.sequence) as i16;
        if one_source && (-LATE..=0).contains(&step) {
            return Relation::Late;
        }
        if event.event != self.event {
            return Relation::New;
        }
        let same_time = one_source && packet.timestamp == self.timestamp;
        let counts_on = event.duration > self.said;
        let again = match (self.ended, same_time) {
            (false, true) => false,
            // Packets that follow without a pause are one press; a new one is marked, and begins
            // to count anew after one.
            (false, false) => {
                let paused = now.saturating_duration_since(self.seen) > PAUSE;
                packet.marker && !counts_on && paused && !self.is_next_segment(packet)
            }
            (true, true) => !event.end && (packet.marker || !counts_on),
            (true, false) => !self.is_end_again(now, packet, event),
        };
        if again { Relation::New } else { Relation::Same }
    }

    fn is_next_segment(&self, packet: &Packet) -> bool {
        packet.timestamp.wrapping_sub(self.timestamp) == SEGMENT
    }

    fn is_end_again(&self, now: Instant, packet: &Packet, event: &TelephoneEvent) -> bool {
        event.end
            && now.saturating_duration_since(self.seen) <= PAUSE
            && (!packet.marker || event.duration == self.said)
    }

    /// Takes a packet of this press. Returns true if it has ended with it.
    pub(super) fn take(&mut self, now: Instant, packet: &Packet, event: &TelephoneEvent) -> bool {
        let step = packet.timestamp.wrapping_sub(self.timestamp);
        if packet.ssrc != self.ssrc || step > 2 * SEGMENT {
            // The source began anew while the key was down: what it says is added.
            self.earlier = self.duration;
            self.first = packet.timestamp.wrapping_sub(self.duration);
        } else if step > 0 && event.duration <= self.said {
            // Another segment, whose durations begin again; or a peer that counts each packet's
            // own.
            self.earlier = packet.timestamp.wrapping_sub(self.first);
        } else if step == 0 && self.said > WRAPPED.0 && event.duration < WRAPPED.1 {
            self.earlier = self.earlier.saturating_add(SEGMENT + 1);
        }
        (self.ssrc, self.sequence) = (packet.ssrc, packet.sequence);
        (self.timestamp, self.said, self.seen) = (packet.timestamp, event.duration, now);
        let lasted = self.earlier.saturating_add(u32::from(event.duration));
        self.duration = self.duration.max(lasted);
        let ends = event.end && !self.ended;
        self.ended |= event.end;
        ends
    }
}
