//! What time brings: handshakes repeated, consent lost, reports, played frames, echoes, digits.

use super::{Session, SessionEvent, Sink, TICK, following};
use crate::codec::NARROW;
use crate::media::dtls::Failed;
use crate::media::endpoint::{AudioSource, Endpoint, MediaTransport, Port, is_usable};
use crate::media::player::FRAME;
use crate::rtp::packet::Packet;
use crate::rtp::report::compose;
use crate::sdp::offer_answer::Content;
use std::time::Instant;

impl Session {
    /// Does what is due at `now`.
    pub fn fire(&mut self, now: Instant, sink: &mut impl Sink) {
        for at in 0..self.ends.len() {
            self.fire_handshake(now, at, sink);
            self.fire_faded(now, at, sink);
            self.fire_consent(now, at, sink);
            self.fire_report(now, at, sink);
            self.fire_join(now, at, sink);
            self.fire_pressed(now, at, sink);
            self.fire_digit(now, at, sink);
            self.send_comfort_noise(now, at, sink);
            self.fire_stopped(now, at, sink);
        }
        self.fire_one_way(now, sink);
        self.fire_journal(now, sink);
        if self.silence_due().is_some_and(|due| now >= due) {
            self.silence_told = Some(now);
            let since = now.saturating_duration_since(self.silent_since);
            sink.event(SessionEvent::NoMedia { since });
        }
    }

    /// When it is reported to the call that there is no sign of anybody.
    fn silence_due(&self) -> Option<Instant> {
        let watches = self.ends.iter().filter_map(|e| e.settings.as_ref()?.watch.silent);
        Some(self.silence_told.unwrap_or(self.silent_since) + watches.min()?)
    }

    /// An end that sends is joined to one that does not yet: somebody will look at that in a while.
    pub(super) fn watch_silence(&mut self, now: Instant) {
        if self.ends.iter().any(|end| self.unheard_peer(end).is_some()) {
            self.one_way_due.get_or_insert(now + self.one_way_again);
        }
    }

    /// The end joined to one that sends, of which no sign has ever come though it may send.
    fn unheard_peer(&self, end: &Endpoint) -> Option<&Endpoint> {
        let AudioSource::Bridge(peer) = end.join else { return None };
        let silent = |e: &&Endpoint| {
            let watched = e
                .settings
                .as_ref()
                .is_some_and(|s| s.negotiated.direction.receives() && s.watch.stopped.is_some());
            e.id == peer && watched && !e.flowing && e.reports == 0
        };
        self.ends.iter().find(silent).filter(|_| end.flowing)
    }

    fn fire_one_way(&mut self, now: Instant, sink: &mut impl Sink) {
        if self.one_way_due.is_none_or(|due| now < due) {
            return;
        }
        self.one_way_due = None;
        for end in &self.ends {
            if let Some(silent) = self.unheard_peer(end) {
                sink.event(SessionEvent::Silent { end: silent.id });
            }
        }
        self.watch_silence(now);
        self.one_way_again *= 2;
    }

    fn fire_handshake(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        let end = &mut self.ends[at];
        let MediaTransport::Browser { ice, dtls, .. } = &mut end.transport else { return };
        let to = ice.selected();
        let result = dtls.fire(now, &mut |bytes| {
            if let Some(to) = to {
                sink.send(Port::Browser, to, bytes);
            }
        });
        if let Err(why) = result {
            if why == Failed::TimedOut && dtls.is_dispensable() {
                return;
            }
            sink.event(SessionEvent::DtlsFailed { end: end.id, why });
        }
    }

    fn fire_consent(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        let end = &mut self.ends[at];
        let MediaTransport::Browser { ice, .. } = &mut end.transport else { return };
        if end.connected && ice.consent_ends().is_some_and(|ends| now >= ends) {
            ice.lapse();
            end.faded = true;
            sink.event(SessionEvent::ConsentLost { end: end.id });
        }
    }

    fn fire_report(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        let ntp = self.ntp(now);
        let end = &mut self.ends[at];
        if end.next_report.is_none_or(|due| now < due) {
            return;
        }
        end.next_report = Some(now + end.report_interval());
        if end.settings.is_some() {
            sink.event(SessionEvent::Quality { end: end.id, figures: Box::new(end.statistics()) });
        }
        let clock = end.clock();
        let metrics = end.settings.as_ref().is_some_and(|s| s.negotiated.voip_metrics);
        let heard = end.inbound_impairment().filter(|_| metrics).map(|heard| (heard, clock));
        let bytes = compose(
            now,
            ntp,
            end.outbound.report(now, clock),
            &end.cname,
            end.reception.as_mut(),
            heard,
        );
        match &mut end.transport {
            MediaTransport::Browser { ice, srtp: Some(srtp), .. } => {
                if let Some((to, sealed)) = ice.selected().zip(srtp.protect.rtcp(&bytes)) {
                    sink.send(Port::Browser, to, &sealed);
                }
            }
            MediaTransport::Browser { .. } => {}
            MediaTransport::Trunk { rtp, rtcp, sdes, latching } => {
                if let Some(to) = rtcp.filter(is_usable).filter(|_| latching.may_send()) {
                    let sealed = match sdes {
                        Some(sdes) => sdes.srtp.protect.rtcp(&bytes),
                        None => Some(bytes),
                    };
                    let Some(bytes) = sealed else { return };
                    latching.on_sent();
                    // One port for both if the peer wanted that (RFC 5761).
                    let port =
                        if *rtp == Some(to) { Port::Rtp(end.id) } else { Port::Rtcp(end.id) };
                    sink.send(port, to, &bytes);
                }
            }
        }
    }

    fn fire_join(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        loop {
            match &mut self.ends[at].join {
                AudioSource::Echo { line, .. }
                    if line.front().is_some_and(|(due, _)| now >= *due) =>
                {
                    let Some((_, bytes)) = line.pop_front() else { return };
                    let Some(packet) = Packet::parse(&bytes, true) else { continue };
                    let settings = self.ends[at].settings.as_ref();
                    let content = settings.and_then(|s| s.negotiated.content(packet.payload_type));
                    if matches!(content, Some(Content::Audio(_))) {
                        self.relay(now, at, at, &packet, &bytes, sink);
                    } else {
                        self.leave_out(at, at, &packet);
                    }
                }
                AudioSource::Play { next, .. } if now >= *next => {
                    *next = following(now, *next, TICK);
                    if !self.play_frame(now, at, sink) {
                        self.ends[at].join = AudioSource::Nothing;
                        self.mark_changed();
                        sink.event(SessionEvent::Played { end: self.ends[at].id });
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    fn play_frame(&mut self, now: Instant, at: usize, sink: &mut impl Sink) -> bool {
        let end = &mut self.ends[at];
        // What is played waits while a digit goes out, or nobody can hear it.
        if end.rtp_target().is_none() || end.is_dialling() || end.encoder(Some(NARROW)).is_none() {
            return true;
        }
        let AudioSource::Play { player, .. } = &mut end.join else { return true };
        let mut pcm = [0i16; FRAME];
        let more = player.fill(&mut pcm);
        end.played.pcm(&pcm);
        let first = end.outbound.sent.packets == 0;
        self.say(now, at, None, first, &pcm, sink);
        more
    }

    /// When [`fire`](Self::fire) is next due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let of_end = |end: &Endpoint| {
            let (handshake, consent) = match &end.transport {
                MediaTransport::Browser { ice, dtls, .. } => {
                    (dtls.next_timeout(), ice.consent_ends().filter(|_| end.connected))
                }
                MediaTransport::Trunk { .. } => (None, None),
            };
            let join = match &end.join {
                AudioSource::Echo { line, .. } => line.front().map(|(due, _)| *due),
                AudioSource::Play { next, .. } => Some(*next),
                _ => None,
            };
            let digit = end.digits.front().map(|d| d.started.map_or(self.started, |s| s.next));
            let pressed = end.inbound_event.and_then(|p| p.lost_end());
            let (noise, stopped) = (Session::comfort_noise_due(end), Session::stopped_due(end));
            let faded = end.fade_due();
            [handshake, consent, faded, end.next_report, join, digit, pressed, noise, stopped]
                .into_iter()
                .flatten()
                .min()
        };
        let of_all = [self.silence_due(), self.one_way_due, self.journal_due()];
        self.ends.iter().filter_map(of_end).chain(of_all.into_iter().flatten()).min()
    }
}
