//! Renegotiation within a leg (RFC 3261 §14, RFC 3264 §8): hold, resume, refresh, ICE restart.
//!
//! It stays on its leg. A hold on one side is answered here and never renegotiates the other side.

use super::{CALLER_END, Call, Desk, HangupBy, State, translate};
use crate::media::EndId;
use crate::sdp::offer_answer::{Ice, SignalingState};
use crate::sdp::{Direction, SdpError};
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::Reject;
use crate::sip::transaction::ServerId;
use crate::worker::Command;

fn not_acceptable(e: SdpError) -> Reject {
    Reject::new(488, e.why.clone()).warning(e.warning, e.why)
}

impl Call {
    /// A re-INVITE.
    pub(super) fn reinvite(&mut self, desk: &mut Desk<'_>, end: EndId, server: ServerId, message: &Message) {
        let trying = crate::sip::build::Writer::response(message, 100, None).end();
        desk.respond(server, 100, trying);
        if let Err(why) = self.take_reinvite(desk, end, server, message) {
            // Before the caller is answered, the offer that waits is the first INVITE's own: it must survive.
            let answered = self.a_final;
            if let Some(leg) = self.leg_mut(end).filter(|_| answered) {
                leg.negotiation.reject_offer();
            }
            desk.refuse(server, message, &why);
        }
    }

    fn take_reinvite(&mut self, desk: &mut Desk<'_>, end: EndId, server: ServerId, message: &Message) -> Result<(), Reject> {
        if !self.a_final || self.state == State::Over {
            // RFC 3261 §14.2: an offer of ours, or the first INVITE, is still open.
            return Err(Reject::new(491, "the call's first INVITE is still open"));
        }
        let (call, worker) = (self.id, self.worker);
        let other = self.opposite(end).and_then(|o| {
            let leg = self.leg_mut(o)?;
            Some((leg.party.clone(), leg.negotiation.agreed()?.codec))
        });
        let fresh = Ice { ufrag: desk.token()[..8].to_owned(), pwd: desk.token()[..24].to_owned() };
        let Some(leg) = self.leg_mut(end) else { return Ok(()) };
        if leg.ack_wait.is_some() {
            // RFC 3261 §14.2: the previous 2xx is not acknowledged yet.
            return Err(Reject::new(500, "the previous INVITE is not acknowledged yet").retry_after(2));
        }
        if leg.negotiation.state() != SignalingState::Stable {
            return Err(Reject::new(491, "another offer is open"));
        }
        if let Some(dialog) = &mut leg.dialog {
            dialog.refresh_target(message);
        }
        let current = leg.negotiation.agreed().map(|a| a.codec);
        let mut codecs = translate::answer(desk.config, &leg.party, other.as_ref().map(|(p, c)| (p, *c)));
        codecs.sort_by_key(|c| Some(*c) != current);
        if message.body().is_empty() {
            let sdp = leg.negotiation.offer(&codecs);
            leg.accept(desk, call, server, message, &sdp, true);
            return Ok(());
        }
        let body = message.body_of("application/sdp").ok_or_else(|| Reject::new(415, "only application/sdp is read"))?;
        leg.negotiation.receive_offer(body).map_err(not_acceptable)?;
        if leg.negotiation.restarts_ice() {
            leg.negotiation.local.ice = Some(fresh);
        }
        let refresh = leg.negotiation.is_refresh();
        let before = leg.negotiation.clone();
        let (sdp, agreed) = leg.negotiation.answer(&codecs, Direction::SendRecv).map_err(not_acceptable)?;
        if let Err(why) = translate::check_media_address(desk.config, leg, &agreed) {
            leg.negotiation = before;
            return Err(why);
        }
        // A session refresh is answered without touching media.
        if !refresh {
            leg.configure(desk, call, worker, &agreed);
        }
        leg.accept(desk, call, server, message, &sdp, false);
        Ok(())
    }

    /// The ACK for a 2xx of ours; it may bring the answer to our offer.
    pub fn acknowledged(&mut self, desk: &mut Desk<'_>, end: EndId, message: &Message) {
        let (call, worker) = (self.id, self.worker);
        let Some(leg) = self.leg_mut(end) else { return };
        let cseq = message.cseq().map_or(0, |c| c.number);
        if leg.ack_wait.as_ref().is_none_or(|w| w.cseq != cseq) {
            return;
        }
        let expects_answer = leg.ack_wait.take().is_some_and(|w| w.expects_answer);
        desk.disarm(call, super::CallTimer::Ack(end));
        if !expects_answer {
            return;
        }
        let body = message.body_of("application/sdp").unwrap_or_default().to_vec();
        let settled = leg.negotiation.receive_answer(&body).cloned().map_err(not_acceptable);
        match settled.and_then(|agreed| translate::check_media_address(desk.config, leg, &agreed).map(|()| agreed)) {
            Ok(agreed) => {
                leg.configure(desk, call, worker, &agreed);
                if let Some(other) = self.opposite(CALLER_END) {
                    desk.media(worker, Command::Bridge { session: call.0, a: CALLER_END, b: other });
                }
            }
            Err(why) => self.finish(desk, HangupBy::Us, why),
        }
    }
}

impl Call {
    /// The caller's offer is read and checked before anything else is spent on the call.
    ///
    /// # Errors
    /// The refusal to send.
    pub fn take_offer(&mut self, config: &crate::config::Config) -> Result<(), Reject> {
        if self.invite.body().is_empty() {
            self.offerless = true;
            return Ok(());
        }
        if self.invite.header(HeaderName::ContentType).is_none() {
            return Err(Reject::new(400, "a body without Content-Type"));
        }
        let encoded = self.invite.header(HeaderName::ContentEncoding).is_some_and(|e| !e.eq_ignore_ascii_case("identity"));
        let body = self.invite.body_of("application/sdp").filter(|_| !encoded);
        let body = body.ok_or_else(|| Reject::new(415, "only plain application/sdp is read"))?.to_vec();
        self.a.negotiation.receive_offer(&body).map_err(not_acceptable)?;
        // A dry run on a copy finds what the answer would refuse: codecs, and the address named.
        let codecs = translate::answer(config, &self.a.party, None);
        let (_, agreed) = self.a.negotiation.clone().answer(&codecs, Direction::SendRecv).map_err(not_acceptable)?;
        translate::check_media_address(config, &self.a, &agreed)
    }
}
