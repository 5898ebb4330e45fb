//! Renegotiation within a leg (RFC 3261 §14, RFC 3264 §8, RFC 3311, RFC 6337): hold, resume,
//! refresh, ICE restart.
//!
//! It stays on its leg. A hold on one side is answered here and never renegotiates the other side.

use super::bodies::description;
use super::leg::Acceptance;
use super::media_policy::MediaPolicy;
use super::{Call, CallContext, CallPhase, HangupBy, codec_policy};
use crate::errors::Code;
use crate::media::LegId;
use crate::sdp::offer_answer::{Ice, SignalingState};
use crate::sdp::{Direction, SdpError};
use crate::sip::message::Message;
use crate::sip::status::{Method, Refusal};
use crate::sip::transaction::ServerId;

pub(super) fn not_acceptable(e: SdpError) -> Refusal {
    let why = Refusal::new(488, e.why.clone()).warning(e.warning, e.why);
    match e.code {
        Some(code) => why.code(code),
        None => why,
    }
}

/// The same for what begins a call: if nothing else is known, there is no codec in common.
pub(super) fn no_codec(e: SdpError) -> Refusal {
    let code = e.code.unwrap_or(Code::NO_CODEC);
    not_acceptable(e).code(code)
}

impl Call {
    /// A re-INVITE.
    pub(super) fn reinvite(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        server: ServerId,
        message: &Message,
    ) {
        let trying = crate::sip::build::MessageWriter::response(message, 100, None).end();
        cx.respond(server, 100, trying);
        if let Err(why) = self.take_reinvite(cx, end, server, message) {
            cx.refuse_with(server, message, &why);
        }
    }

    fn take_reinvite(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        server: ServerId,
        message: &Message,
    ) -> Result<(), Refusal> {
        let first_open = if end == self.caller.end {
            !self.uas.is_finished()
        } else {
            self.leg_of(end).is_none_or(|l| l.dialog.is_none())
        };
        if first_open || self.state == CallPhase::Over {
            // RFC 3261 §14.2: an offer of ours, or the first INVITE, is still open.
            return Err(Refusal::new(491, "the call's first INVITE is still open"));
        }
        let waits = self.leg_of(end).and_then(|leg| leg.ack_wait.as_ref());
        match waits.map(|wait| wait.expects_answer) {
            Some(true) => {
                let why = "the answer to the previous INVITE is awaited";
                return Err(Refusal::new(500, why).retry_after(2));
            }
            // Nobody begins another before the 2xx of the last has come (RFC 3261 §14.1): its ACK
            // was lost, or overtaken on another way.
            Some(false) => self.acknowledged(cx, end),
            None => {}
        }
        let Some(leg) = self.leg_of(end) else { return Ok(()) };
        if leg.open.is_some_and(|o| o.method == Method::Invite) {
            return Err(Refusal::new(491, "a re-INVITE of ours is open"));
        }
        let granted = self.grant(cx, leg, message)?;
        let call = self.id;
        let Some(body) = description(message)?.map(<[u8]>::to_vec) else {
            let codecs = self.codecs_for(cx, end);
            let Some(leg) = self.leg_mut(end) else { return Ok(()) };
            let sdp = leg.negotiation.reoffer(&codecs);
            leg.refresh_target(message);
            let with = Acceptance { sdp: Some(&sdp), expects_answer: true, granted };
            leg.accept(cx, call, server, message, with);
            return Ok(());
        };
        let sdp = self.renegotiate(cx, end, &body)?;
        let Some(leg) = self.leg_mut(end) else { return Ok(()) };
        leg.refresh_target(message);
        let with = Acceptance { sdp: Some(&sdp), expects_answer: false, granted };
        leg.accept(cx, call, server, message, with);
        Ok(())
    }

    /// The codecs to describe `end` with: the current one leads.
    pub(super) fn codecs_for(
        &mut self,
        cx: &CallContext<'_>,
        end: LegId,
    ) -> Vec<crate::codec::Codec> {
        let other = self.opposite(end).and_then(|o| {
            let leg = self.leg_of(o)?;
            Some((leg.party.clone(), leg.negotiation.negotiated()?.codec))
        });
        let Some(leg) = self.leg_mut(end) else { return Vec::new() };
        let current = leg.negotiation.negotiated().map(|a| a.codec);
        let mut codecs = leg.codecs_beside(cx, other);
        codecs.sort_by_key(|c| Some(*c) != current);
        codecs
    }

    /// Answers an offer of a re-INVITE, UPDATE or PRACK.
    ///
    /// # Errors
    /// The refusal; what was agreed before stays.
    pub(super) fn renegotiate(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        body: &[u8],
    ) -> Result<String, Refusal> {
        let (call, worker) = (self.id, self.media.worker());
        let codecs = self.codecs_for(cx, end);
        let fresh = Ice { ufrag: cx.token()[..8].to_owned(), pwd: cx.token()[..24].to_owned() };
        let Some(leg) = self.leg_mut(end) else {
            return Err(Refusal::new(481, "there is no such leg"));
        };
        match leg.negotiation.state() {
            SignalingState::Stable => {}
            // RFC 3311 §5.2: our offer is open, or theirs is.
            SignalingState::HaveLocalOffer => {
                return Err(Refusal::new(491, "an offer of ours is open"));
            }
            SignalingState::HaveRemoteOffer => {
                return Err(
                    Refusal::new(500, "the previous offer is not answered yet").retry_after(2)
                );
            }
        }
        let before = leg.negotiation.clone();
        let answered = leg.answer_offer(cx, body, &codecs, fresh);
        let Some(leg) = self.leg_mut(end) else {
            return Err(Refusal::new(481, "there is no such leg"));
        };
        match answered {
            Ok((sdp, negotiated, refresh)) => {
                // A session refresh is answered without touching media.
                if !refresh {
                    leg.configure(cx, call, worker, &negotiated);
                }
                Ok(sdp)
            }
            Err(why) => {
                leg.negotiation = before;
                Err(why)
            }
        }
    }

    /// The 2xx of ours at this end has come; nothing more is awaited of its ACK.
    fn acknowledged(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        if let Some(leg) = self.leg_mut(end) {
            leg.ack_wait = None;
        }
        cx.disarm(self.id, super::CallTimer::Ack(end));
    }

    /// The ACK for a 2xx of ours; it may bring the answer to our offer.
    pub(crate) fn on_reinvite_ack(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        message: &Message,
    ) {
        let call = self.id;
        let worker = self.media.worker();
        let Some(leg) = self.leg_mut(end) else { return };
        let cseq = message.cseq().map_or(0, |c| c.number);
        if leg.ack_wait.as_ref().is_none_or(|w| w.cseq != cseq) {
            return;
        }
        let expects_answer = leg.ack_wait.as_ref().is_some_and(|w| w.expects_answer);
        self.acknowledged(cx, end);
        let Some(leg) = self.leg_mut(end).filter(|_| expects_answer) else { return };
        let body = message.body_of("application/sdp").unwrap_or_default().to_vec();
        let before = leg.negotiation.negotiated().cloned();
        let settled = leg.negotiation.receive_answer(&body).cloned().map_err(not_acceptable);
        match settled
            .and_then(|negotiated| cx.media_policy().check(leg, &negotiated).map(|()| negotiated))
        {
            Ok(negotiated) => {
                if before.as_ref() != Some(&negotiated) {
                    leg.configure(cx, call, worker, &negotiated);
                }
                if let Some(other) = self.opposite(self.caller.end) {
                    self.media.bridge(cx, self.caller.end, other);
                }
            }
            // RFC 6337 §3.1: a bad answer in a mid-call ACK leaves the session as it was.
            Err(why) if before.is_some() => {
                if let Some(leg) = self.leg_mut(end) {
                    leg.negotiation.withdraw_offer();
                }
                cx.note(crate::event::Event::EarlyMediaUnusable { call, why: why.why });
            }
            Err(why) => self.leg_failed(cx, end, (HangupBy::Us, why)),
        }
    }
}

impl super::Leg {
    /// RFC 3261 §12.2.2: a target refresh request moves the remote target.
    pub(super) fn refresh_target(&mut self, message: &Message) {
        if let Some(dialog) = &mut self.dialog {
            dialog.refresh_target(message);
        }
    }

    fn answer_offer(
        &mut self,
        cx: &CallContext<'_>,
        body: &[u8],
        codecs: &[crate::codec::Codec],
        fresh: Ice,
    ) -> Result<(String, crate::sdp::offer_answer::Negotiated, bool), Refusal> {
        self.negotiation.receive_offer(body).map_err(not_acceptable)?;
        if self.negotiation.restarts_ice() {
            self.negotiation.local.ice = Some(fresh);
        }
        let refresh = self.negotiation.is_refresh();
        let (sdp, negotiated) =
            self.negotiation.answer(codecs, Direction::SendRecv).map_err(not_acceptable)?;
        cx.media_policy().check(self, &negotiated)?;
        Ok((sdp, negotiated, refresh))
    }
}

impl Call {
    /// The caller's offer is read and checked before anything else is spent on the call.
    ///
    /// # Errors
    /// The refusal to send.
    pub(crate) fn take_offer(
        &mut self,
        config: &crate::config::Config,
        reach: &super::reach::Reach,
    ) -> Result<(), Refusal> {
        let Some(body) = description(self.uas.invite())?.map(<[u8]>::to_vec) else {
            self.uas.note_offerless();
            return Ok(());
        };
        self.caller.negotiation.receive_offer(&body).map_err(not_acceptable)?;
        // A dry run on a copy finds what the answer would refuse: codecs, and the address named.
        let codecs = codec_policy::answer(config, &self.caller.party, None);
        let (_, negotiated) = self
            .caller
            .negotiation
            .clone()
            .answer(&codecs, Direction::SendRecv)
            .map_err(not_acceptable)?;
        MediaPolicy { config, reach }.check(&self.caller, &negotiated)
    }
}
