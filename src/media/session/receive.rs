//! What comes to a session: checks, handshakes, RTP and RTCP, each from where it may.

use super::super::endpoint::{
    AudioSource, Dropped, Endpoint, LegId, MediaTransport, Path, Port, open,
};
use super::super::ice::Checked;
use super::super::loudness;
use super::super::stun::{BindingRequest, BindingResponse};
use super::{Session, SessionEvent, Sink, units_of};
use crate::codec::Codec;
use crate::rtp::packet::{DatagramKind as PacketKind, Packet};
use crate::rtp::report::read;
use crate::rtp::srtp::{SrtpError, Unprotect};
use crate::sdp::offer_answer::{Content, Remote};
use std::net::SocketAddr;
use std::time::Instant;

/// Milliseconds of sound in a packet, if that shows: G.711 has eight bytes of them (other lengths
/// than multiples of ten end an utterance), Opus has it in its first byte (RFC 6716
/// §3.1).
fn packet_ms(codec: Codec, payload: &[u8]) -> Option<u32> {
    match codec {
        Codec::Pcmu | Codec::Pcma => {
            let bytes = payload.len() as u32;
            Some(bytes / 8).filter(|_| bytes > 0 && bytes.is_multiple_of(80))
        }
        Codec::Opus => {
            let toc = *payload.first()?;
            let (config, place) = (toc >> 3, usize::from(toc >> 3));
            // Tenths of a millisecond of one frame.
            let frame = match config {
                0..=11 => [100, 200, 400, 600][place % 4],
                12..=15 => [100, 200][place % 2],
                _ => [25, 50, 100, 200][place % 4],
            };
            let frames = match toc & 3 {
                0 => 1,
                1 | 2 => 2,
                _ => u32::from(payload.get(1)? & 0x3f),
            };
            Some(frame * frames / 10).filter(|ms| *ms > 0)
        }
        Codec::G722 | Codec::L16 => None,
    }
}

/// Whether a packet may hold more than digital silence: G.711, G.722 and L16 of nothing is one
/// value over and over. For Opus this cannot be known (Chromium's muted track is 35 bytes a frame).
fn is_sounding(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Opus => true,
        Codec::Pcmu | Codec::Pcma => {
            payload.first().is_some_and(|first| payload.iter().any(|b| (b ^ first) & 0x7e != 0))
        }
        Codec::L16 => payload.chunks(2).any(|sample| !payload.starts_with(sample)),
        Codec::G722 => payload.first().is_some_and(|first| payload.iter().any(|b| b != first)),
    }
}

fn count(dropped: &mut Dropped, why: SrtpError) {
    match why {
        SrtpError::Malformed => dropped.malformed += 1,
        SrtpError::BadTag | SrtpError::TooManySources => dropped.bad_tag += 1,
        SrtpError::Replayed => dropped.replayed += 1,
    }
}

impl Endpoint {
    /// Notes whether a packet holds sound, and how loud that is, as far as it shows before it is
    /// decoded.
    fn listen(&mut self, content: Content, packet: &Packet, datagram: &[u8]) {
        let Some(negotiated) = self.settings.as_ref().map(|s| &s.negotiated) else { return };
        let (receives, level_id) = (negotiated.direction.receives(), negotiated.audio_level);
        let payload = packet.payload(datagram);
        let Content::Audio(codec) = content else {
            if content == Content::Noise && receives {
                payload.first().into_iter().for_each(|level| self.loudness.reported(level & 0x7f));
            }
            return;
        };
        let decoded = matches!(self.path, Path::Transcode(_));
        // What Opus holds shows only once it is decoded; relayed, it gets the benefit of the doubt.
        self.non_silent_packets +=
            u64::from(!(decoded && codec == Codec::Opus) && is_sounding(codec, payload));
        if !receives || !self.received.is_multiple_of(loudness::EVERY) {
            return;
        }
        if loudness::shows(codec) {
            self.loudness.payload(codec, payload);
        } else if !(decoded && matches!(self.join, AudioSource::Bridge(_)))
            && let Some(level) = level_id.and_then(|number| packet.audio_level(datagram, number))
        {
            self.loudness.reported(level);
        }
    }
}

impl Session {
    /// Takes a datagram that came in by `port`. `datagram` is decrypted in place.
    pub fn receive(
        &mut self,
        now: Instant,
        port: Port,
        end: LegId,
        from: SocketAddr,
        datagram: &mut [u8],
        sink: &mut impl Sink,
    ) {
        let Some(at) = self.index(end) else { return };
        match (port, PacketKind::of(datagram)) {
            (Port::Browser, PacketKind::Stun) => self.stun(now, at, from, datagram, sink),
            (Port::Browser, kind) => self.browser(now, at, from, kind, datagram, sink),
            (Port::Rtp(_), PacketKind::Rtp) => self.trunk_rtp(now, at, from, datagram, sink),
            (Port::Rtcp(_) | Port::Rtp(_), PacketKind::Rtcp) => {
                self.trunk_rtcp(now, at, from, datagram, sink)
            }
            _ => self.ends[at].dropped.malformed += 1,
        }
    }

    pub(super) fn stun(
        &mut self,
        now: Instant,
        at: usize,
        from: SocketAddr,
        datagram: &[u8],
        sink: &mut impl Sink,
    ) {
        let end = &mut self.ends[at];
        let MediaTransport::Browser { ice, srtp, .. } = &mut end.transport else { return };
        let Some(request) = BindingRequest::parse(datagram) else {
            return self.stun_response(now, at, from, datagram, sink);
        };
        let Checked::Reply { bytes, selected } = ice.check(now, from, &request, srtp.is_some())
        else {
            end.dropped.unknown_source += 1;
            return;
        };
        end.checks += 1;
        sink.send(Port::Browser, from, &bytes);
        self.alive(now);
        self.heard(now, at, sink);
        let end = &mut self.ends[at];
        let MediaTransport::Browser { dtls, .. } = &mut end.transport else { return };
        if !selected {
            return;
        }
        if !std::mem::replace(&mut end.connected, true) {
            end.path_times[1].get_or_insert(now);
            sink.event(SessionEvent::Connected { end: end.id, address: from });
        }
        let active = end
            .settings
            .as_ref()
            .is_some_and(|s| matches!(s.negotiated.remote, Remote::Dtls { active: true, .. }));
        if active {
            dtls.start(now, &mut |bytes| sink.send(Port::Browser, from, bytes));
        }
        self.mark_changed();
    }

    /// What answers a check of ours: the browser is there by now.
    pub(super) fn stun_response(
        &mut self,
        now: Instant,
        at: usize,
        from: SocketAddr,
        datagram: &[u8],
        sink: &mut impl Sink,
    ) {
        let end = &mut self.ends[at];
        let MediaTransport::Browser { ice, .. } = &mut end.transport else { return };
        let Some(response) = BindingResponse::parse(datagram) else {
            end.dropped.malformed += 1;
            return;
        };
        if !ice.on_response(now, from, &response) {
            end.dropped.unknown_source += 1;
            return;
        }
        end.checks += 1;
        self.alive(now);
        self.heard(now, at, sink);
        self.mark_changed();
    }

    /// SRTP from an address that is not validated, and not heard. If it is authentic and new, a NAT
    /// has moved the browser: it is asked whether it is there.
    pub(super) fn stray(
        &mut self,
        now: Instant,
        at: usize,
        from: SocketAddr,
        datagram: &mut [u8],
        sink: &mut impl Sink,
    ) {
        let end = &mut self.ends[at];
        end.dropped.unknown_source += 1;
        let MediaTransport::Browser { ice, srtp: Some(srtp), before, .. } = &mut end.transport
        else {
            return;
        };
        let authentic = open(now, srtp, before, datagram, Unprotect::rtp).is_ok();
        if let Some(check) = authentic.then(|| ice.ask_back(now, from)).flatten() {
            sink.send(Port::Browser, from, &check);
        }
    }

    pub(super) fn browser(
        &mut self,
        now: Instant,
        at: usize,
        from: SocketAddr,
        kind: PacketKind,
        datagram: &mut [u8],
        sink: &mut impl Sink,
    ) {
        let end = &mut self.ends[at];
        let MediaTransport::Browser { ice, dtls, srtp, before } = &mut end.transport else {
            return;
        };
        if !ice.is_validated(from) {
            if kind == PacketKind::Rtp {
                return self.stray(now, at, from, datagram, sink);
            }
            end.dropped.unknown_source += 1;
            return;
        }
        match kind {
            PacketKind::Dtls => match dtls
                .receive(now, datagram, &mut |bytes| sink.send(Port::Browser, from, bytes))
            {
                Ok(Some(keys)) => {
                    let profile = keys.profile;
                    end.transport.on_keys(now, keys);
                    end.path_times[2].get_or_insert(now);
                    sink.event(SessionEvent::Secured { end: end.id, profile });
                    self.mark_changed();
                }
                Ok(None) => {}
                Err(why) => sink.event(SessionEvent::DtlsFailed { end: end.id, why }),
            },
            PacketKind::Rtp => {
                let Some(srtp) = srtp else { return };
                match open(now, srtp, before, datagram, Unprotect::rtp) {
                    Ok(len) => {
                        let moved = ice.on_media(now, from);
                        if let Some(check) = ice.ask_back(now, from) {
                            sink.send(Port::Browser, from, &check);
                        }
                        if moved {
                            self.mark_changed();
                        }
                        let datagram = &datagram[..len];
                        match Packet::parse(datagram, true) {
                            Some(packet) => self.rtp(now, at, &packet, datagram, sink),
                            None => self.ends[at].dropped.malformed += 1,
                        }
                    }
                    Err(why) => count(&mut end.dropped, why),
                }
            }
            PacketKind::Rtcp => {
                let Some(srtp) = srtp else { return };
                match open(now, srtp, before, datagram, Unprotect::rtcp) {
                    Ok(len) => {
                        if ice.on_media(now, from) {
                            self.mark_changed();
                        }
                        self.rtcp(now, at, &datagram[..len], sink);
                    }
                    Err(why) => count(&mut end.dropped, why),
                }
            }
            PacketKind::Stun | PacketKind::Unknown => end.dropped.malformed += 1,
        }
    }

    pub(super) fn trunk_rtp(
        &mut self,
        now: Instant,
        at: usize,
        from: SocketAddr,
        datagram: &mut [u8],
        sink: &mut impl Sink,
    ) {
        let end = &mut self.ends[at];
        let MediaTransport::Trunk { rtp, rtcp, latching, sdes } = &mut end.transport else {
            return;
        };
        // Whole addresses are compared once a packet: nearly all come from where media goes.
        let same = *rtp == Some(from);
        let Some(target) = rtp.filter(|target| same || latching.admits(now, *target, from)) else {
            end.dropped.unknown_source += 1;
            end.unexpected_source = Some(from);
            return;
        };
        let opened = sdes.as_mut().map_or(Ok(datagram.len()), |s| s.srtp.unprotect.rtp(datagram));
        let datagram = match opened {
            Ok(len) => &datagram[..len],
            Err(why) => return count(&mut end.dropped, why),
        };
        let Some(packet) = Packet::parse(datagram, true) else {
            end.dropped.malformed += 1;
            return;
        };
        if same {
            latching.confirm();
        } else {
            if !latching.observe(from, &packet) {
                end.dropped.unknown_source += 1;
                return;
            }
            if from.ip() != target.ip() {
                // Where its RTCP is, nobody knows: it goes with RTP, or nowhere.
                *rtcp = rtcp.filter(|rtcp| *rtcp == target).map(|_| from);
            }
            *rtp = Some(from);
            self.mark_changed();
        }
        self.rtp(now, at, &packet, datagram, sink);
    }

    pub(super) fn trunk_rtcp(
        &mut self,
        now: Instant,
        at: usize,
        from: SocketAddr,
        datagram: &mut [u8],
        sink: &mut impl Sink,
    ) {
        let end = &mut self.ends[at];
        let MediaTransport::Trunk { rtp, rtcp, sdes, latching } = &mut end.transport else {
            return;
        };
        if ![*rtp, *rtcp].into_iter().flatten().any(|a| a.ip() == from.ip()) {
            end.dropped.unknown_source += 1;
            return;
        }
        match sdes.as_mut().map_or(Ok(datagram.len()), |s| s.srtp.unprotect.rtcp(datagram)) {
            Ok(len) => {
                if [*rtp, *rtcp].contains(&Some(from)) {
                    latching.prove();
                }
                self.rtcp(now, at, &datagram[..len], sink);
            }
            Err(why) => count(&mut end.dropped, why),
        }
    }

    pub(super) fn rtcp(&mut self, now: Instant, at: usize, datagram: &[u8], sink: &mut impl Sink) {
        self.sign_of_life(now, at, sink);
        let ntp = self.ntp(now);
        let end = &mut self.ends[at];
        end.reports += 1;
        let Some(feedback) =
            read(now, ntp, datagram, end.outbound.sent.ssrc, end.reception.as_mut())
        else {
            return;
        };
        end.feedback.take(feedback);
        // The loss our peer sees steers the encoder that feeds it.
        if let Some(encoder) = &mut end.encoder {
            encoder.expect_loss((feedback.fraction_lost * 100.0) as u8);
        }
    }

    /// A verified RTP packet of end `at`.
    pub(super) fn rtp(
        &mut self,
        now: Instant,
        at: usize,
        packet: &Packet,
        datagram: &[u8],
        sink: &mut impl Sink,
    ) {
        let end = &mut self.ends[at];
        if !end.budget.take(now) {
            end.dropped.excess += 1;
            return;
        }
        self.sign_of_life(now, at, sink);
        let end = &mut self.ends[at];
        let Some(settings) = &end.settings else { return };
        let Some(content) = settings.negotiated.content(packet.payload_type) else {
            end.dropped.unknown_payload += 1;
            end.unexpected_payload_type = Some(packet.payload_type);
            return;
        };
        end.follow(now, packet, content);
        let Some(negotiated) = end.settings.as_ref().map(|s| &s.negotiated) else { return };
        let clock = match content {
            Content::Audio(codec) => Some(codec.clock()),
            Content::Noise => Some(negotiated.codec.clock()),
            Content::Event(_) => None,
        };
        let running = now.saturating_duration_since(self.started);
        if let Some(reception) = &mut end.reception {
            reception.receive(packet, clock.map(|clock| (units_of(running, clock), clock)));
        }
        end.received += 1;
        end.last_received = Some(now);
        let receives = negotiated.direction.receives();
        end.listen(content, packet, datagram);
        end.take_sample(now);
        if !receives {
            end.dropped.not_expected += 1;
        }
        if !std::mem::replace(&mut end.flowing, true) {
            sink.event(SessionEvent::Flowing { end: end.id });
            self.mark_changed();
            self.watch_silence(now);
        }
        if !receives {
            return self.break_off(at);
        }
        match content {
            Content::Audio(codec) => {
                self.plan_from(at, codec, packet_ms(codec, packet.payload(datagram)));
            }
            Content::Event(clock) => {
                self.on_telephone_event(now, at, packet, clock, datagram, sink)
            }
            Content::Noise => self.on_comfort_noise(now, at, packet, datagram, sink),
        }
        self.forward(now, at, packet, datagram, content, sink);
    }
}
