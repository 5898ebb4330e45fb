//! Silence: what a source says of it (comfort noise, RFC 3389; Opus DTX), and what the other side
//! hears meanwhile.
//!
//! A peer that knows comfort noise gets its level; any other gets a stream without a pause.

use super::{Session, Sink, following};
use crate::codec::noise::{FAINT, Noise};
use crate::media::endpoint::{AudioSource, ComfortNoise, Endpoint, LegId};
use crate::media::transcoder::frame_ms;
use crate::rtp::packet::Packet;
use std::time::{Duration, Instant};

/// A source that was to send, and has sent nothing for this long, is filled in for.
const STOPPED: Duration = Duration::from_millis(200);

impl Session {
    /// Takes a comfort noise packet of end `at`.
    pub(super) fn on_comfort_noise(
        &mut self,
        now: Instant,
        at: usize,
        packet: &Packet,
        datagram: &[u8],
        sink: &mut impl Sink,
    ) {
        if let AudioSource::Bridge(peer) = self.ends[at].join
            && let Some(to) = self.index(peer)
        {
            self.start_comfort_noise(now, to, packet.payload(datagram), sink);
        }
    }

    /// The source of end `to` is silent from now on, as `described` (RFC 3389 §3).
    pub(super) fn start_comfort_noise(
        &mut self,
        now: Instant,
        to: usize,
        described: &[u8],
        sink: &mut impl Sink,
    ) {
        let end = &mut self.ends[to];
        let Some(negotiated) = end.settings.as_ref().map(|s| &s.negotiated) else { return };
        let (payload_type, clock) = (negotiated.noise, negotiated.codec.clock());
        let Some(noise) = Noise::read(described).filter(|_| !end.is_dialling()) else { return };
        if !end.reaches_peer() {
            return end.outbound.restart_mapping();
        }
        if let Some(payload_type) = payload_type {
            let timestamp = end.outbound.resume_timestamp(now, clock);
            let numbers = end.outbound.generate(now, timestamp, 0, false);
            return self.send(to, payload_type, numbers, described, sink);
        }
        if let Some(noise_stream) = &mut end.comfort_noise {
            return noise_stream.noise.become_like(&noise);
        }
        end.outbound.restart_mapping();
        end.comfort_noise =
            Some(ComfortNoise { noise, due: now + end.outbound.ahead(clock), begun: false });
        self.send_comfort_noise(now, to, sink);
    }

    /// Sends the noise that is due at end `at`.
    pub(super) fn send_comfort_noise(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        let end = &mut self.ends[at];
        if end.comfort_noise.is_none() && Session::stops(end).is_some_and(|at| now >= at) {
            end.comfort_noise =
                Some(ComfortNoise { noise: Noise::white(FAINT), due: now, begun: false });
        }
        while let Some(noise_stream) = self.ends[at].comfort_noise.as_ref().filter(|q| now >= q.due)
        {
            let (due, begun) = (noise_stream.due, noise_stream.begun);
            let Some(negotiated) = self.ends[at].settings.as_ref().map(|s| &s.negotiated) else {
                return;
            };
            let (ms, clock) =
                (frame_ms(negotiated.codec, negotiated.ptime), negotiated.codec.clock());
            let Some(rate) = self.ends[at].encoder(None).map(|e| e.rate) else { return };
            let frame = Duration::from_millis(u64::from(ms));
            let mut pcm = [0i16; 960];
            let pcm = &mut pcm[..(rate / 1_000 * ms) as usize];
            let end = &mut self.ends[at];
            if let Some(noise_stream) = &mut end.comfort_noise {
                noise_stream.noise.fill(pcm);
                (noise_stream.due, noise_stream.begun) = (following(now, due, frame), true);
            }
            let timestamp = (!begun).then(|| end.outbound.begin_filling(now, clock));
            self.say(now, at, timestamp, false, pcm, sink);
        }
    }

    /// A leg's source is away for a while, or is back: its peer hears that the call continues.
    pub fn set_away(&mut self, id: LegId, away: bool) {
        let hears = |end: &&mut Endpoint| matches!(end.join, AudioSource::Bridge(of) if of == id);
        self.ends.iter_mut().filter(hears).for_each(|end| end.source_away = away);
    }

    /// When the silence of end `end`'s source is filled in for, though it said nothing of it.
    fn stops(end: &Endpoint) -> Option<Instant> {
        let filled = end.source_away || end.settings.as_ref().is_some_and(|s| s.continuous);
        let wants = filled && matches!(end.join, AudioSource::Bridge(_));
        let ready = wants && end.may_send() && !end.is_dialling() && end.rtp_target().is_some();
        end.outbound.last_at().filter(|_| ready).map(|at| at + STOPPED)
    }

    /// When [`send_comfort_noise`](Self::send_comfort_noise) has something to do for `end`.
    pub(super) fn comfort_noise_due(end: &Endpoint) -> Option<Instant> {
        match &end.comfort_noise {
            Some(noise_stream) => Some(noise_stream.due),
            None => Session::stops(end),
        }
    }
}
