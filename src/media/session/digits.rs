//! Digits: received as events, as tones or by signalling, and sent as any of them.
//!
//! A digit is not translated packet by packet but heard as pressed and released, and made anew for
//! the other side, so what is lost on one leg is not lost on the other, and each side has its own
//! clock.

use super::{Session, SessionEvent, Sink, TICK, following, units_of};
use crate::codec::tones::{self, ToneEvent};
use crate::media::endpoint::{AudioSource, Digits, OutboundEvent, Started};
use crate::media::inbound_event::{InboundEvent, Relation, SEGMENT};
use crate::rtp::event::TelephoneEvent;
use crate::rtp::packet::{Packet, time_of};
use std::time::{Duration, Instant};

/// Digits that wait at most; what is dialled faster than it can be sent is a flood.
const MOST: usize = 64;
/// Digits in a second that an end's call is asked to signal: each is a request, made of a packet.
const MOST_SIGNALLED: u32 = 50;
/// Shortest digit sent as an event, and as a tone: receivers ask for 40 ms (Q.24), and some for
/// more.
const SHORTEST: Duration = Duration::from_millis(40);
const SHORTEST_TONE: Duration = Duration::from_millis(80);
/// Longest digit.
const LONGEST: Duration = Duration::from_secs(6);
/// Frames of silence after a tone.
const PAUSE: u8 = 3;
/// The highest event that is a key: flash.
const FLASH: u8 = 16;
/// Packets that say an event has ended (RFC 4733 §2.5.1.4).
const ENDS: u8 = 3;
impl Session {
    /// Sends a digit out of an end.
    pub fn digit(&mut self, id: crate::media::LegId, event: u8, length: Duration) {
        if let Some(at) = self.index(id) {
            self.queue_digit(at, event, Some(length));
        }
    }

    fn queue_digit(&mut self, at: usize, event: u8, length: Option<Duration>) {
        let end = &mut self.ends[at];
        if end.digits.len() < MOST {
            end.comfort_noise = None;
            end.digits.push_back(OutboundEvent {
                event,
                length: length.map(|l| l.clamp(SHORTEST, LONGEST)),
                started: None,
            });
        }
    }

    /// The end that digits of end `at` go to.
    fn digits_to(&self, at: usize) -> Option<usize> {
        match self.ends[at].join {
            AudioSource::Bridge(peer) => self.index(peer),
            AudioSource::Echo { .. } => Some(at),
            AudioSource::Nothing | AudioSource::Play { .. } => None,
        }
    }

    /// Takes a telephone-event packet of end `at`, whose durations count in `clock`, in whatever
    /// order it came.
    pub(super) fn on_telephone_event(
        &mut self,
        now: Instant,
        at: usize,
        packet: &Packet,
        clock: u32,
        datagram: &[u8],
        sink: &mut impl Sink,
    ) {
        let event = TelephoneEvent::parse(packet.payload(datagram));
        let Some(event) = event.filter(|e| e.event <= FLASH) else { return };
        let before = self.ends[at].inbound_event;
        let passed_on = before.is_none() && self.is_passed_on(now, at, &event, clock);
        let mut pressed = match before.map(|p| (p, p.relation(now, packet, &event))) {
            Some((_, Relation::Late)) => return,
            Some((same, Relation::Same)) => same,
            Some((_, Relation::New)) | None => {
                if let Some(old) = before.filter(|p| !p.ended) {
                    self.release(now, at, old, sink);
                }
                if !passed_on {
                    self.press(now, at, event.event, sink);
                }
                InboundEvent::begin(now, packet, &event, clock)
            }
        };
        // An end that comes first has come before, most likely.
        if pressed.take(now, packet, &event) && !passed_on {
            self.release(now, at, pressed, sink);
        }
        self.ends[at].inbound_event = Some(pressed);
    }

    /// Whether a press began while another process had the session: that has passed it on, and once
    /// more it would be another digit. Of a tone it may have made too little.
    fn is_passed_on(&self, now: Instant, at: usize, event: &TelephoneEvent, clock: u32) -> bool {
        let settings = self.digits_to(at).and_then(|to| self.ends[to].settings.as_ref());
        let began = now.checked_sub(time_of(u32::from(event.duration), clock));
        settings.is_some_and(|settings| settings.sends_digits() != Digits::Tones)
            && self.inherited.zip(began).is_some_and(|(until, began)| began < until)
    }

    /// Takes a digit heard as a tone of end `at`.
    pub(super) fn hear_tone(
        &mut self,
        now: Instant,
        at: usize,
        heard: ToneEvent,
        sink: &mut impl Sink,
    ) {
        match heard {
            ToneEvent::Pressed(event) => {
                let pressed = InboundEvent::heard(now, event);
                self.ends[at].inbound_event = Some(pressed);
                self.press(now, at, event, sink);
            }
            ToneEvent::Released(_) => {
                if let Some(pressed) = self.ends[at].inbound_event {
                    self.released(
                        now,
                        at,
                        pressed.event,
                        now.saturating_duration_since(pressed.seen),
                        sink,
                    );
                }
            }
        }
    }

    fn press(&mut self, now: Instant, from: usize, event: u8, sink: &mut impl Sink) {
        let Some(to) = self.digits_to(from) else { return };
        // Its packets are not relayed: what follows them is not to look as if some were lost.
        self.ends[to].outbound.restart_mapping();
        if self.ends[to].settings.as_ref().is_some_and(|s| s.sends_digits() != Digits::Signalled) {
            self.queue_digit(to, event, None);
            self.fire_digit(now, to, sink);
        }
    }

    fn release(&mut self, now: Instant, from: usize, pressed: InboundEvent, sink: &mut impl Sink) {
        let clock = pressed.clock;
        self.released(now, from, pressed.event, time_of(pressed.duration, clock), sink);
    }

    fn released(
        &mut self,
        now: Instant,
        from: usize,
        event: u8,
        length: Duration,
        sink: &mut impl Sink,
    ) {
        let Some(to) = self.digits_to(from) else { return };
        let end = &mut self.ends[to];
        if end.settings.as_ref().is_some_and(|s| s.sends_digits() == Digits::Signalled) {
            if end.signalled.take(now, Some(MOST_SIGNALLED)) {
                let length = length.clamp(SHORTEST, LONGEST);
                sink.event(SessionEvent::Digit { end: end.id, event, length });
            }
            return;
        }
        if let Some(digit) = end.digits.iter_mut().rev().find(|d| d.length.is_none()) {
            let sent =
                digit.started.map_or(Duration::ZERO, |s| now.saturating_duration_since(s.at));
            digit.length = Some(length.max(sent).clamp(SHORTEST, LONGEST));
        }
    }

    /// A press whose end was lost is released.
    pub(super) fn fire_pressed(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        if let Some(pressed) =
            self.ends[at].inbound_event.filter(|p| p.lost_end().is_some_and(|due| now >= due))
        {
            self.ends[at].inbound_event = Some(pressed.released());
            self.release(now, at, pressed, sink);
        }
    }

    /// Sends what is due of the digit that is on its way out of end `at`.
    pub(super) fn fire_digit(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        let end = &mut self.ends[at];
        let Some(mut digit) = end.digits.front().copied() else { return };
        let Some(settings) = &end.settings else { return end.digits.clear() };
        let (clock, way) = (settings.negotiated.codec.clock(), settings.sends_digits());
        let started = digit.started.unwrap_or_else(|| Started {
            at: now,
            next: now,
            timestamp: end.outbound.resume_timestamp(now, clock),
            earlier: 0,
            after: 0,
        });
        let first = digit.started.is_none();
        digit.started = Some(started);
        // A key held for ever, or whose release we missed, is let go.
        if digit.length.is_none() && now >= started.at + LONGEST {
            digit.length = Some(LONGEST);
        }
        end.digits[0] = digit;
        if now < started.next {
            return;
        }
        let after = match way {
            Digits::Events => self.send_event(now, at, digit, started, first, sink),
            Digits::Tones => self.send_tone(now, at, digit, started, sink),
            Digits::Signalled => return self.ends[at].digits.clear(),
        };
        if after >= if way == Digits::Events { ENDS } else { PAUSE } {
            self.ends[at].digits.pop_front();
        }
    }

    /// Sends one packet of an event; returns how many have said that it ended.
    fn send_event(
        &mut self,
        now: Instant,
        at: usize,
        digit: OutboundEvent,
        started: Started,
        first: bool,
        sink: &mut impl Sink,
    ) -> u8 {
        let Some(negotiated) = self.ends[at].settings.as_ref().map(|s| &s.negotiated) else {
            return ENDS;
        };
        let (Some(format), audio) = (negotiated.events.send, negotiated.codec.clock()) else {
            return ENDS;
        };
        let elapsed = now.saturating_duration_since(started.at) + TICK;
        let most = longest_event(format.clock, audio);
        let ended = digit.length.is_some_and(|length| elapsed >= length) || elapsed >= most;
        let lasted = if ended { digit.length.unwrap_or(elapsed) } else { elapsed }.min(most);
        let units = units_of(lasted, format.clock).saturating_sub(started.earlier);
        let full = units > SEGMENT;
        let report = TelephoneEvent {
            event: digit.event,
            end: ended && !full,
            volume: 10,
            duration: units.min(SEGMENT) as u16,
        };
        // What follows counts in the clock of the codec, as the timestamps of the stream do.
        let step =
            (u64::from(units.min(SEGMENT)) * u64::from(audio) / u64::from(format.clock)) as u32;
        if self.ends[at].reaches_peer() {
            let numbers = self.ends[at].outbound.generate(now, started.timestamp, step, first);
            self.send(at, format.payload_type, numbers, &report.to_bytes(), sink);
        }
        let after = started.after + u8::from(report.end);
        let next = if full {
            // What is more goes into the next segment, at once.
            Started {
                timestamp: started.timestamp.wrapping_add(SEGMENT),
                earlier: started.earlier + SEGMENT,
                ..started
            }
        } else {
            Started { next: now + TICK, after, ..started }
        };
        if let Some(front) = self.ends[at].digits.front_mut() {
            front.started = Some(next);
        }
        after
    }

    /// Sends one frame of a tone, or of the pause after it; returns how many of those.
    fn send_tone(
        &mut self,
        now: Instant,
        at: usize,
        digit: OutboundEvent,
        started: Started,
        sink: &mut impl Sink,
    ) -> u8 {
        let sounded = started.next.saturating_duration_since(started.at);
        let over = digit.length.is_some_and(|length| sounded >= length.max(SHORTEST_TONE));
        let Some(rate) = self.ends[at].encoder(None).map(|e| e.rate) else { return PAUSE };
        let mut pcm = [0i16; 320];
        let pcm = &mut pcm[..rate as usize / 50];
        if !over {
            tones::make(
                digit.event,
                (sounded.as_millis() as usize) * rate as usize / 1_000,
                rate,
                pcm,
            );
        }
        self.say(now, at, None, false, pcm, sink);
        let after = started.after + u8::from(over);
        if let Some(front) = self.ends[at].digits.front_mut() {
            front.started =
                Some(Started { next: following(now, started.next, TICK), after, ..started });
        }
        after
    }
}

/// How long an event may be said to last: in a clock that is not the codec's a second segment would
/// begin at a time the stream does not have.
fn longest_event(clock: u32, audio: u32) -> Duration {
    if clock == audio { LONGEST } else { time_of(SEGMENT, clock).min(LONGEST) }
}
