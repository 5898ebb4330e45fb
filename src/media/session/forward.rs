//! From one end to the other: relayed if the codecs agree, else transcoded.

use super::{MAX_DATAGRAM, Session, Sink};
use crate::codec::Codec;
use crate::codec::tones::ToneEvent;
use crate::media::endpoint::{AudioSource, ECHO_LINE, Path};
use crate::media::outbound_stream::RtpNumbers;
use crate::media::reorder::Ordered;
use crate::media::transcoder::{Frames, Said};
use crate::rtp::packet::{HEADER, Packet, write_header};
use crate::sdp::offer_answer::{Content, Negotiated};
use std::net::SocketAddr;
use std::time::Instant;

/// Longest payload of our own making: an Opus frame of 60 ms at the bit rates we encode stays far
/// below.
const MAX_PAYLOAD: usize = 1_000;

/// Room that most packets need, with what protects them: 40 ms of G.711. To clear the room of the
/// longest one takes a good part of the time in which a packet is relayed.
const USUAL_DATAGRAM: usize = 384;

/// Longest tag that protection adds to a packet.
const TAG: usize = 16;

/// Where frames of one direction go.
struct Outlet<'a, S> {
    session: &'a mut Session,
    sink: &'a mut S,
    now: Instant,
    from: usize,
    to: usize,
    rate: u32,
    next: &'a mut Option<u32>,
}

impl<S: Sink> Frames for Outlet<'_, S> {
    fn frame(&mut self, silence: u32, pcm: &[i16]) {
        let source = &mut self.session.ends[self.from];
        if source.settings.as_ref().is_some_and(|s| s.negotiated.codec == Codec::Opus) {
            source.non_silent_packets += u64::from(pcm.iter().any(|s| s.unsigned_abs() > FAINT));
        }
        let end = &mut self.session.ends[self.to];
        let Some(encoder) = end.encoder(Some(self.rate)) else { return };
        let (clock, silent, step) =
            (encoder.codec.clock(), encoder.units(silence as usize), encoder.units(pcm.len()));
        let wanted = match *self.next {
            Some(next) => next.wrapping_add(silent),
            None => end.outbound.source_timestamp(self.now, clock),
        };
        let marker = self.next.is_none() || silence > 0;
        *self.next = Some(wanted.wrapping_add(step));
        end.comfort_noise = None;
        if end.is_dialling() {
            return;
        }
        let timestamp = end.outbound.resume_at(wanted);
        self.session.say(self.now, self.to, Some(timestamp), marker, pcm, self.sink);
    }

    fn heard(&mut self, pcm: &[i16]) {
        self.session.ends[self.from].loudness.pcm(pcm);
    }

    fn digit(&mut self, heard: ToneEvent) {
        self.session.hear_tone(self.now, self.from, heard, self.sink);
    }
}

/// The payload types that hold sound, one bit each.
fn audio_types(negotiated: &Negotiated) -> u128 {
    negotiated.receive.iter().fold(0, |all, (payload_type, _)| all | 1 << (payload_type & 0x7f))
}

/// Loudest sample of what passes for silence, -60 dBFS: Opus of nothing decodes to little more.
const FAINT: u16 = 32;

impl Session {
    pub(super) fn forward(
        &mut self,
        now: Instant,
        at: usize,
        packet: &Packet,
        datagram: &[u8],
        content: Content,
        sink: &mut impl Sink,
    ) {
        let audio = matches!(content, Content::Audio(_));
        if let AudioSource::Bridge(peer) = self.ends[at].join {
            let Some(to) = self.index(peer) else { return };
            return match &self.ends[at].path {
                // Packets of other content have no gap behind them either.
                Path::Transcode(_) => self.transcode(now, at, to, *packet, datagram, sink),
                Path::Relay if audio => self.relay(now, at, to, packet, datagram, sink),
                Path::Relay => self.leave_out(at, to, packet),
            };
        }
        match &mut self.ends[at].join {
            AudioSource::Echo { delay, line } if !delay.is_zero() => {
                if line.len() < ECHO_LINE {
                    line.push_back((now + *delay, datagram.to_vec()));
                }
            }
            AudioSource::Echo { .. } if audio => self.relay(now, at, at, packet, datagram, sink),
            AudioSource::Echo { .. } => self.leave_out(at, at, packet),
            AudioSource::Nothing | AudioSource::Bridge(_) | AudioSource::Play { .. } => {}
        }
    }

    /// A packet of end `from` that is no sound leaves no gap in what end `to` is sent.
    pub(super) fn leave_out(&mut self, from: usize, to: usize, packet: &Packet) {
        let origin = self.ends[from].origin();
        self.ends[to].outbound.leave_out(origin, packet);
    }

    /// Nothing of end `at` is passed on for now: what follows has no gap before it either.
    pub(super) fn break_off(&mut self, at: usize) {
        let end = &mut self.ends[at];
        if let Path::Transcode(path) = &mut end.path
            && path.next.is_some()
        {
            path.restart();
        }
        match end.join {
            AudioSource::Bridge(peer) => {
                if let Some(to) = self.index(peer) {
                    self.ends[to].outbound.restart_mapping();
                }
            }
            AudioSource::Echo { .. } => end.outbound.restart_mapping(),
            AudioSource::Nothing | AudioSource::Play { .. } => {}
        }
    }

    pub(super) fn relay(
        &mut self,
        now: Instant,
        from: usize,
        to: usize,
        packet: &Packet,
        datagram: &[u8],
        sink: &mut impl Sink,
    ) {
        let origin = self.ends[from].origin();
        let end = &mut self.ends[to];
        let Some(negotiated) = end.settings.as_ref().map(|s| &s.negotiated) else { return };
        let (clock, payload_type) = (negotiated.codec.clock(), negotiated.send);
        end.comfort_noise = None;
        let Some(target) = end.peer_address().filter(|_| !end.is_dialling()) else {
            return end.outbound.restart_mapping();
        };
        if let Some(numbers) = end.outbound.relay(now, origin, packet, clock) {
            let payload = packet.payload(datagram);
            self.send_to(target, to, (payload_type, numbers), payload, sink);
        }
    }

    fn transcode(
        &mut self,
        now: Instant,
        from: usize,
        to: usize,
        packet: Packet,
        datagram: &[u8],
        sink: &mut impl Sink,
    ) {
        let Some(settings) = &self.ends[from].settings else { return };
        let audio = audio_types(&settings.negotiated);
        let Path::Transcode(mut path) = std::mem::replace(&mut self.ends[from].path, Path::Relay)
        else {
            return;
        };
        let rate = path.transcoder.rate;
        let (transcoder, next) = (&mut path.transcoder, &mut path.next);
        path.reorder.push(packet, datagram, |ordered| match ordered {
            Ordered::Gap(packets) => transcoder.note_gap(packets),
            // Heard already, when it came; what is missing before it was not of the sound.
            Ordered::Packet(packet, _) if audio & 1 << packet.payload_type == 0 => {
                transcoder.note_gap(0)
            }
            Ordered::Packet(packet, bytes) => {
                let mut out = Outlet { session: self, sink, now, from, to, rate, next };
                if let Said::Silence(level) =
                    transcoder.packet(packet.timestamp, packet.payload(bytes), &mut out)
                {
                    self.start_comfort_noise(now, to, &[level], sink);
                }
            }
        });
        self.ends[from].path = Path::Transcode(path);
    }

    /// Encodes a frame and sends it out of end `to`, at `timestamp` or where the last one ended.
    pub(super) fn say(
        &mut self,
        now: Instant,
        to: usize,
        timestamp: Option<u32>,
        marker: bool,
        pcm: &[i16],
        sink: &mut impl Sink,
    ) {
        let end = &mut self.ends[to];
        if !end.reaches_peer() {
            return;
        }
        let Some(payload_type) = end.settings.as_ref().map(|s| s.negotiated.send) else { return };
        let Some(encoder) = end.encoder(None) else { return };
        let mut payload = [0u8; MAX_PAYLOAD];
        let n = encoder.encode(pcm, &mut payload);
        let (clock, step) = (encoder.codec.clock(), encoder.units(pcm.len()));
        if n == 0 {
            return;
        }
        let timestamp = timestamp.unwrap_or_else(|| end.outbound.resume_timestamp(now, clock));
        let numbers = end.outbound.generate(now, timestamp, step, marker);
        self.send(to, payload_type, numbers, &payload[..n], sink);
    }

    /// Sends one packet out of end `to`, if something can go out now.
    pub(super) fn send(
        &mut self,
        to: usize,
        payload_type: u8,
        numbers: RtpNumbers,
        payload: &[u8],
        sink: &mut impl Sink,
    ) {
        if let Some(target) = self.ends[to].peer_address() {
            self.send_to(target, to, (payload_type, numbers), payload, sink);
        }
    }

    /// Sends one packet out of end `to` to its peer at `target`, protected if it must be.
    fn send_to(
        &mut self,
        target: SocketAddr,
        to: usize,
        (payload_type, numbers): (u8, RtpNumbers),
        payload: &[u8],
        sink: &mut impl Sink,
    ) {
        let end = &mut self.ends[to];
        let len = HEADER + payload.len();
        let (mut usual, mut longest);
        let buf: &mut [u8] = if len + TAG <= USUAL_DATAGRAM {
            usual = [0u8; USUAL_DATAGRAM];
            &mut usual
        } else {
            longest = [0u8; MAX_DATAGRAM];
            &mut longest
        };
        let Some(body) = buf.get_mut(HEADER..len) else { return };
        body.copy_from_slice(payload);
        let head = buf.first_chunk_mut::<HEADER>().expect("buffer is longer");
        write_header(
            head,
            numbers.marker,
            payload_type,
            numbers.sequence,
            numbers.timestamp,
            end.outbound.sent.ssrc,
        );
        let port = end.transport.port(end.id);
        let Some(len) = end.transport.srtp().map_or(Some(len), |srtp| srtp.protect.rtp(buf, len))
        else {
            return;
        };
        end.outbound.count(payload.len());
        end.transport.on_sent();
        sink.send(port, target, &buf[..len]);
        self.note_reserve(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Encoder, NARROW};

    #[test]
    fn what_is_made_here_fits_its_payload_and_a_datagram() {
        for codec in Codec::ALL {
            // Sixty milliseconds: no end is sent longer frames.
            let pcm: Vec<i16> =
                (0..480).map(|n| if n % 7 < 3 { 20_000 } else { -20_000 }).collect();
            let mut payload = [0; 2 * MAX_PAYLOAD];
            let n = Encoder::new(codec, NARROW, 0).encode(&pcm, &mut payload);
            assert!((1..=MAX_PAYLOAD).contains(&n), "{codec:?}: {n}");
        }
        // With the longest tag, and a master key identifier as long as any that is read.
        const { assert!(HEADER + MAX_PAYLOAD + TAG + 128 <= MAX_DATAGRAM) }
    }
}
