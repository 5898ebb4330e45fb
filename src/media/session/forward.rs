//! From one end to the other: relayed where the codecs agree, else transcoded; events translated either way.

use super::{Event, MAX_DATAGRAM, Session, Sink};
use crate::media::egress::Numbers;
use crate::media::end::{ECHO_LINE, Join, Path, Port, Pressed, Transport};
use crate::media::ingress::Ordered;
use crate::rtp::event::TelephoneEvent;
use crate::rtp::packet::{HEADER, Packet, write_header};
use std::time::{Duration, Instant};

impl Session {
    pub(super) fn forward(&mut self, now: Instant, at: usize, packet: Packet, datagram: &[u8], is_event: bool, sink: &mut impl Sink) {
        if let Join::Bridge(peer) = self.ends[at].join {
            let Some(to) = self.index(peer) else { return };
            return if matches!(self.ends[at].path, Path::Relay) {
                self.relay(now, at, to, packet, datagram, is_event, sink)
            } else {
                self.transcode(now, at, to, packet, datagram, sink)
            };
        }
        match &mut self.ends[at].join {
            Join::Echo { delay, line } if !delay.is_zero() => {
                if line.len() < ECHO_LINE {
                    line.push_back((now + *delay, datagram.to_vec()));
                }
            }
            Join::Echo { .. } => self.relay(now, at, at, packet, datagram, is_event, sink),
            Join::Nothing | Join::Bridge(_) | Join::Play { .. } => {}
        }
    }

    /// Digits for a peer that takes them by signalling: told once each, when the event ends, or when the
    /// next packet shows that its end was lost. True: this packet was one of them and is done with.
    pub(super) fn tells_digits(&mut self, at: usize, packet: &Packet, datagram: &[u8], is_event: bool, sink: &mut impl Sink) -> bool {
        let Join::Bridge(peer) = self.ends[at].join else { return false };
        if !self.index(peer).and_then(|p| self.ends[p].settings.as_ref()).is_some_and(|s| s.digits) {
            return false;
        }
        let clock = self.ends[at].settings.as_ref().and_then(|s| s.agreed.events).map_or(8_000, |e| e.clock);
        let event = is_event.then(|| TelephoneEvent::parse(packet.payload(datagram))).flatten();
        let mut tell = |pressed: &mut Pressed| {
            if !std::mem::replace(&mut pressed.told, true) {
                let length = Duration::from_millis(u64::from(pressed.duration) * 1_000 / u64::from(clock)).max(Duration::from_millis(40));
                sink.event(Event::Digit { end: peer, event: pressed.event, length });
            }
        };
        let pressed = &mut self.ends[at].pressed;
        // Late packets of an event that was told already change nothing.
        if let Some(old) = pressed.as_mut().filter(|p| p.timestamp != packet.timestamp && packet.timestamp.wrapping_sub(p.timestamp) < 1 << 31) {
            tell(old);
        }
        let Some(event) = event else { return is_event };
        if pressed.is_none_or(|p| packet.timestamp != p.timestamp && packet.timestamp.wrapping_sub(p.timestamp) < 1 << 31) {
            *pressed = Some(Pressed { timestamp: packet.timestamp, event: event.event, duration: 0, told: false });
        }
        if let Some(pressed) = pressed.as_mut().filter(|p| p.timestamp == packet.timestamp) {
            pressed.duration = pressed.duration.max(event.duration);
            if event.end {
                tell(pressed);
            }
        }
        true
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn relay(&mut self, now: Instant, from: usize, to: usize, packet: Packet, datagram: &[u8], is_event: bool, sink: &mut impl Sink) {
        let source = self.ends[from].settings.as_ref().and_then(|s| s.agreed.events);
        let origin = u64::from(self.ends[from].id.0);
        let Some(target) = self.ends[to].settings.as_ref().map(|s| &s.agreed) else { return };
        let (clock, events, codec_pt) = (target.codec.clock(), target.events, target.send);
        let payload = packet.payload(datagram);
        let Some(numbers) = self.ends[to].egress.relay(now, origin, &packet, clock) else { return };
        if !is_event {
            return self.send(to, codec_pt, numbers, payload, sink);
        }
        let (Some(source), Some(events)) = (source, events) else { return };
        if let Some(event) = TelephoneEvent::parse(payload) {
            self.send(to, events.send, numbers, &event.rescaled(source.clock, events.clock).to_bytes(), sink);
        }
    }

    fn transcode(&mut self, now: Instant, from: usize, to: usize, packet: Packet, datagram: &[u8], sink: &mut impl Sink) {
        let Path::Transcode(mut path) = std::mem::replace(&mut self.ends[from].path, Path::Relay) else { return };
        let source = self.ends[from].settings.as_ref().and_then(|s| s.agreed.events);
        let (reorder, transcoder, next) = &mut *path;
        reorder.push(packet, datagram, |ordered| match ordered {
            Ordered::Gap(packets) => transcoder.note_gap(packets),
            Ordered::Packet(packet, bytes) if source.is_some_and(|e| e.receive == packet.payload_type) => {
                let ends = source.map(|s| (s.clock, transcoder.to.clock()));
                if let (Some(event), Some(clocks)) = (TelephoneEvent::parse(packet.payload(bytes)), ends) {
                    self.translate_event(now, to, packet, event, clocks, next, sink);
                }
            }
            Ordered::Packet(packet, bytes) => {
                let clock = transcoder.to.clock();
                transcoder.packet(packet.timestamp, packet.payload(bytes), |silence, frame, payload| {
                    let fresh = next.is_none();
                    let at = next.unwrap_or_else(|| self.ends[to].egress.resume_timestamp(now, clock));
                    let timestamp = if fresh { at } else { at.wrapping_add(silence) };
                    *next = Some(timestamp.wrapping_add(frame));
                    let Some(pt) = self.ends[to].settings.as_ref().map(|s| s.agreed.send) else { return };
                    let numbers = self.ends[to].egress.generate(now, timestamp, fresh || silence > 0);
                    self.send(to, pt, numbers, payload, sink);
                });
            }
        });
        self.ends[from].path = Path::Transcode(path);
    }

    #[allow(clippy::too_many_arguments)]
    fn translate_event(
        &mut self, now: Instant, to: usize, packet: Packet, event: TelephoneEvent, clocks: (u32, u32), next: &mut Option<u32>,
        sink: &mut impl Sink,
    ) {
        let Some(events) = self.ends[to].settings.as_ref().and_then(|s| s.agreed.events) else { return };
        let start = match self.ends[to].event {
            Some((input, output)) if input == packet.timestamp => output,
            _ => {
                let start = next.unwrap_or_else(|| self.ends[to].egress.resume_timestamp(now, clocks.1));
                self.ends[to].event = Some((packet.timestamp, start));
                start
            }
        };
        let translated = event.rescaled(clocks.0, events.clock);
        let numbers = self.ends[to].egress.generate(now, start, packet.marker);
        self.send(to, events.send, numbers, &translated.to_bytes(), sink);
    }

    /// Sends one packet out of end `to`, protected where it must be.
    pub(super) fn send(&mut self, to: usize, payload_type: u8, numbers: Numbers, payload: &[u8], sink: &mut impl Sink) {
        let end = &mut self.ends[to];
        let Some(target) = end.rtp_target().filter(|_| end.may_send()) else { return };
        let mut buf = [0u8; MAX_DATAGRAM];
        let len = HEADER + payload.len();
        let Some(body) = buf.get_mut(HEADER..len) else { return };
        body.copy_from_slice(payload);
        let head = buf.first_chunk_mut::<HEADER>().expect("buffer is longer");
        write_header(head, numbers.marker, payload_type, numbers.sequence, numbers.timestamp, end.egress.sent.ssrc);
        let (port, len) = match &mut end.transport {
            Transport::Browser { srtp: Some(srtp), .. } => match srtp.protect.rtp(&mut buf, len) {
                Some(len) => (Port::Browser, len),
                None => return,
            },
            Transport::Browser { .. } => return,
            Transport::Trunk { .. } => (Port::Rtp(end.id), len),
        };
        end.egress.count(payload.len());
        sink.send(port, target, &buf[..len]);
    }
}
