//! What time brings: handshakes repeated, consent lost, reports, played frames, echoes, digits.

use super::{Event, REPORT, SILENCE, Session, Sink, TICK};
use crate::codec::Encoder;
use crate::media::end::{End, Join, Port, Started, Transport};
use crate::media::player::FRAME;
use crate::rtp::event::TelephoneEvent;
use crate::rtp::packet::Packet;
use crate::rtp::report::compose;
use std::time::Instant;

impl Session {
    /// Does what is due at `now`.
    pub fn fire(&mut self, now: Instant, sink: &mut impl Sink) {
        for at in 0..self.ends.len() {
            self.fire_handshake(now, at, sink);
            self.fire_consent(now, at, sink);
            self.fire_report(now, at, sink);
            self.fire_join(now, at, sink);
            self.fire_digit(now, at, sink);
        }
        let talking = self.ends.iter().any(|e| e.settings.is_some());
        if talking && now >= self.silent_since + SILENCE {
            self.silent_since = now;
            sink.event(Event::NoMedia);
        }
    }

    fn fire_handshake(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        let end = &mut self.ends[at];
        let Transport::Browser { ice, dtls, .. } = &mut end.transport else { return };
        let to = ice.selected();
        let result = dtls.fire(now, &mut |bytes| {
            if let Some(to) = to {
                sink.send(Port::Browser, to, bytes);
            }
        });
        if let Err(why) = result {
            sink.event(Event::DtlsFailed { end: end.id, why: why.to_string() });
        }
    }

    fn fire_consent(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        let end = &mut self.ends[at];
        let Transport::Browser { ice, .. } = &mut end.transport else { return };
        if end.connected && ice.consent_ends().is_some_and(|ends| now >= ends) {
            end.connected = false;
            sink.event(Event::ConsentLost { end: end.id });
        }
    }

    fn fire_report(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        let ntp = self.ntp(now);
        let end = &mut self.ends[at];
        if end.next_report.is_none_or(|due| now < due) {
            return;
        }
        end.next_report = Some(now + REPORT);
        let clock = end.settings.as_ref().map_or(8_000, |s| s.agreed.codec.clock());
        let bytes = compose(now, ntp, end.egress.report(now, clock), &end.cname, end.reception.as_mut());
        match &mut end.transport {
            Transport::Browser { ice, srtp: Some(srtp), .. } => {
                if let Some(to) = ice.selected() {
                    let sealed = srtp.protect.rtcp(&bytes);
                    sink.send(Port::Browser, to, &sealed);
                }
            }
            Transport::Browser { .. } => {}
            Transport::Trunk { rtcp, .. } => {
                if let Some(to) = rtcp.filter(|a| a.port() != 0 && !a.ip().is_unspecified()) {
                    sink.send(Port::Rtcp(end.id), to, &bytes);
                }
            }
        }
    }

    fn fire_join(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        loop {
            match &mut self.ends[at].join {
                Join::Echo { line, .. } if line.front().is_some_and(|(due, _)| now >= *due) => {
                    let Some((_, bytes)) = line.pop_front() else { return };
                    if let Some(packet) = Packet::parse(&bytes, true) {
                        let events = self.ends[at].settings.as_ref().and_then(|s| s.agreed.events);
                        let is_event = events.is_some_and(|e| e.receive == packet.payload_type);
                        self.relay(now, at, at, packet, &bytes, is_event, sink);
                    }
                }
                Join::Play { next, .. } if now >= *next => {
                    // After a stall, time is skipped rather than sent as a burst.
                    *next = if now > *next + 5 * TICK { now + TICK } else { *next + TICK };
                    if !self.play_frame(now, at, sink) {
                        self.ends[at].join = Join::Nothing;
                        sink.event(Event::Played { end: self.ends[at].id });
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    fn play_frame(&mut self, now: Instant, at: usize, sink: &mut impl Sink) -> bool {
        let Some(settings) = self.ends[at].settings.clone() else { return true };
        if self.ends[at].rtp_target().is_none() {
            return true;
        }
        let codec = settings.agreed.codec;
        if self.encoders[at].as_ref().is_none_or(|(c, _)| *c != codec) {
            self.encoders[at] = Some((codec, Encoder::new(codec, settings.complexity)));
        }
        let Join::Play { player, timestamp: continued, .. } = &mut self.ends[at].join else { return true };
        let continued = continued.take();
        let mut pcm = [0i16; FRAME];
        let more = player.fill(&mut pcm);
        let mut payload = [0u8; 400];
        let n = self.encoders[at].as_mut().map_or(0, |(_, e)| e.encode(&pcm, &mut payload));
        let first = self.ends[at].egress.sent.packets == 0;
        let timestamp = continued.unwrap_or_else(|| self.ends[at].egress.resume_timestamp(now, codec.clock()));
        if let Join::Play { timestamp: slot, .. } = &mut self.ends[at].join {
            *slot = Some(timestamp.wrapping_add(codec.clock() / 50));
        }
        let numbers = self.ends[at].egress.generate(now, timestamp, first);
        self.send(at, settings.agreed.send, numbers, &payload[..n], sink);
        more
    }

    fn fire_digit(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        let Some(settings) = &self.ends[at].settings else { return };
        let (Some(events), clock) = (settings.agreed.events, settings.agreed.codec.clock()) else {
            self.ends[at].digits.clear();
            return;
        };
        let Some(mut digit) = self.ends[at].digits.front().copied() else { return };
        let started = digit.started.unwrap_or(Started {
            at: now,
            timestamp: self.ends[at].egress.resume_timestamp(now, clock),
            ends_sent: 0,
            next: now,
        });
        if now < started.next {
            digit.started = Some(started);
            self.ends[at].digits[0] = digit;
            return;
        }
        let elapsed = now.saturating_duration_since(started.at) + TICK;
        let end = elapsed >= digit.length;
        let duration = (elapsed.min(digit.length).as_micros() as u64 * u64::from(events.clock) / 1_000_000).min(0xffff) as u16;
        let report = TelephoneEvent { event: digit.event, end, volume: 10, duration };
        let numbers = self.ends[at].egress.generate(now, started.timestamp, digit.started.is_none());
        self.send(at, events.send, numbers, &report.to_bytes(), sink);
        // RFC 4733 §2.5.1.4: the end is sent three times.
        let ends_sent = started.ends_sent + u8::from(end);
        digit.started = Some(Started { ends_sent, next: now + TICK, ..started });
        if ends_sent >= 3 {
            self.ends[at].digits.pop_front();
        } else {
            self.ends[at].digits[0] = digit;
        }
    }

    /// When [`fire`](Self::fire) is next due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let of_end = |end: &End| {
            let (handshake, consent) = match &end.transport {
                Transport::Browser { ice, dtls, .. } => (dtls.next_timeout(), ice.consent_ends().filter(|_| end.connected)),
                Transport::Trunk { .. } => (None, None),
            };
            let join = match &end.join {
                Join::Echo { line, .. } => line.front().map(|(due, _)| *due),
                Join::Play { next, .. } => Some(*next),
                _ => None,
            };
            let digit = end.digits.front().map(|d| d.started.map_or(self.started, |s| s.next));
            [handshake, consent, end.next_report, join, digit].into_iter().flatten().min()
        };
        let silence = self.ends.iter().any(|e| e.settings.is_some()).then(|| self.silent_since + SILENCE);
        self.ends.iter().filter_map(of_end).chain(silence).min()
    }
}
