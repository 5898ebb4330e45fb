//! The caller's responses before and at the answer: 180, 183, reliably if it asks for that (RFC
//! 3262), 200.
//!
//! One reliable response is open at a time; what comes after it waits for its PRACK, and so does a
//! 200 while an open one carries SDP (§3).

use super::bodies::description;
use super::invite_server::SdpRole;
use super::leg::Acceptance;
use super::reinvite::no_codec;
use super::{Call, CallContext, CallPhase, EndReason, HangupBy};
use crate::cdr::Party;
use crate::codec::Codec;
use crate::event::Event;
use crate::media::LegId;
use crate::sdp::Direction;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::session_timer::{Granted, MIN_SE, TooBrief, grant};
use crate::sip::status::Refusal;
use crate::sip::transaction::ServerId;

impl Call {
    /// Passes a ringing indication on.
    pub(super) fn tell_ringing(&mut self, cx: &mut CallContext<'_>, status: u16) {
        let status = if status == 183 { 180 } else { status };
        self.provisional_to_caller(cx, status, None);
    }

    pub(super) fn provisional_to_caller(
        &mut self,
        cx: &mut CallContext<'_>,
        status: u16,
        sdp: Option<&str>,
    ) {
        self.uas.provisional(cx, self.id, &mut self.caller, (status, sdp));
    }

    /// A reliable response was not acknowledged: again, or the call has failed.
    pub(super) fn on_prack_missing(&mut self, cx: &mut CallContext<'_>) {
        if let Err(why) = self.uas.reliable_timeout(cx, self.id) {
            self.finish(cx, EndReason::refused(HangupBy::Us, why));
        }
    }

    /// PRACK of the caller.
    pub(super) fn prack(&mut self, cx: &mut CallContext<'_>, server: ServerId, message: &Message) {
        if !self.uas.awaits(message) {
            return cx.refuse(
                server,
                message,
                &Refusal::new(481, "PRACK for no reliable response of ours"),
            );
        }
        let body = match description(message) {
            Ok(body) => body.map(<[u8]>::to_vec),
            Err(why) => return cx.refuse_with(server, message, &why),
        };
        let answered = match (body, self.uas.take_offered()) {
            (Some(body), true) => self.answer_of_caller(cx, &body).map(|()| None),
            (None, true) => Err(Refusal::new(488, "the PRACK brings no answer to our offer")),
            (Some(body), false) => self.renegotiate(cx, self.caller.end, &body).map(Some),
            (None, false) => Ok(None),
        };
        let sdp = match answered {
            Ok(sdp) => sdp,
            Err(why) => return cx.refuse(server, message, &why),
        };
        self.uas.on_ack(cx, self.id);
        let response = self.caller.success(cx, message, None);
        cx.respond(server, 200, response.end_described(sdp.as_deref()));
        if let Some((status, sdp)) = self.uas.take_waiting() {
            self.provisional_to_caller(cx, status, sdp.as_deref());
        }
        if let Some(branch) = self.uas.take_deferred() {
            self.answer_caller(cx, branch);
        }
    }

    /// The answer to the caller's offer; given once, the same on every later response.
    ///
    /// # Errors
    /// 488: no codec in common, or an address that may not be used.
    pub(super) fn answer_caller_sdp(
        &mut self,
        cx: &mut CallContext<'_>,
        other: Option<(Party, Codec)>,
    ) -> Result<String, Refusal> {
        let codecs = self.caller.codecs_beside(cx, other);
        let (sdp, negotiated) =
            self.caller.negotiation.answer(&codecs, Direction::SendRecv).map_err(no_codec)?;
        cx.media_policy().check(&self.caller, &negotiated)?;
        self.caller.configure(cx, self.id, self.media.worker(), &negotiated);
        Ok(sdp)
    }

    /// Our offer to a caller whose INVITE had none, in a reliable 183: made once.
    pub(super) fn offer_to_caller(
        &mut self,
        cx: &mut CallContext<'_>,
        other: Option<(Party, Codec)>,
    ) -> String {
        let codecs = self.caller.codecs_beside(cx, other);
        self.uas.note_offered();
        self.caller.negotiation.offer(&codecs)
    }

    /// The caller's answer to our offer, from its ACK or PRACK.
    ///
    /// # Errors
    /// 488: it does not answer our offer, or names an address that may not be used.
    pub(super) fn answer_of_caller(
        &mut self,
        cx: &mut CallContext<'_>,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let negotiated = self.caller.negotiation.receive_answer(body).map_err(no_codec)?.clone();
        cx.media_policy().check(&self.caller, &negotiated)?;
        self.caller.configure(cx, self.id, self.media.worker(), &negotiated);
        self.uas.note_settled();
        if let Some(branch) = self.media.early_branch() {
            self.media.bridge(cx, self.caller.end, LegId(branch));
        }
        Ok(())
    }

    /// The session timer of a 2xx to `request`.
    ///
    /// # Errors
    /// 422 (RFC 4028 §9).
    pub(super) fn grant(
        &self,
        cx: &CallContext<'_>,
        leg: &super::Leg,
        request: &Message,
    ) -> Result<Option<Granted>, Refusal> {
        let wish = leg.session_wish(cx).filter(|_| {
            matches!(leg.party, Party::Trunk(_)) || request.lists(HeaderName::Supported, "timer")
        });
        // A browser whose refresh meets a lost connection ends its call; ours waits for it.
        let refreshes = matches!(leg.party, Party::User { .. });
        grant(request, wish, refreshes).map_err(|TooBrief| {
            Refusal::new(422, format!("sessions last at least {MIN_SE} s here"))
        })
    }

    /// Whether the first INVITE's session timer can be granted; asked before anything is spent on
    /// it.
    ///
    /// # Errors
    /// 422.
    pub(crate) fn check_session(&self) -> Result<(), Refusal> {
        self.uas.check_session()
    }

    /// 200 to the caller: with the answer, or with our offer if the INVITE had none.
    pub(super) fn answer_caller(&mut self, cx: &mut CallContext<'_>, branch: Option<u16>) {
        if branch.is_some() {
            self.state = CallPhase::Talking;
        }
        if self.uas.is_finished() {
            // The first callee has answered long ago, and the transferee already talks; now
            // there is somebody to talk to.
            if self.cdr.answered.is_none() {
                self.note_answered(cx);
            }
            return self.tell_other_half(cx);
        }
        let Some(description) = self.uas.may_accept(branch) else { return };
        let other = branch.and_then(|id| self.settled_with(id));
        let sdp = match description {
            SdpRole::Offer => {
                let codecs = self.caller.codecs_beside(cx, other);
                Ok(Some(self.caller.negotiation.offer(&codecs)))
            }
            SdpRole::Settled => Ok(None),
            SdpRole::Answer => self.answer_caller_sdp(cx, other).map(Some),
        };
        let sdp = match sdp {
            Ok(sdp) => sdp,
            Err(why) => return self.finish(cx, EndReason::refused(HangupBy::Us, why)),
        };
        self.uas.enter_dialog(cx, self.id, &mut self.caller);
        self.caller.answered(cx, self.id, self.media.worker());
        self.uas.finish(cx, self.id);
        let Some(server) = self.uas.transaction() else { return };
        let (invite, call) = (self.uas.invite().clone(), self.id);
        // The interval was judged when the call was placed.
        let granted = self.grant(cx, &self.caller, &invite).unwrap_or_default();
        let with = Acceptance {
            sdp: sdp.as_deref(),
            expects_answer: description == SdpRole::Offer,
            granted,
        };
        self.caller.accept(cx, call, server, &invite, with);
        self.note_answered(cx);
    }

    /// Both sides can talk from now on.
    fn note_answered(&mut self, cx: &mut CallContext<'_>) {
        let call = self.id;
        self.cdr.answered = Some(cx.now);
        let by = self.cdr.answered_by.clone();
        let inner = self.joined.map_or("?", |joined| joined.codec.name());
        let codec = |l: &super::Leg| l.negotiation.negotiated().map_or(inner, |a| a.codec.name());
        let leg = self.branches.answered().map(|b| &b.leg);
        let formats = |l: &super::Leg| l.negotiation.peer_formats().to_vec();
        self.cdr.formats = [formats(&self.caller), leg.map(formats).unwrap_or_default()];
        let b = leg.map_or("-", codec);
        let after = cx.now.saturating_duration_since(self.cdr.start);
        cx.note(Event::CallAnswered { call, by, after, codecs: (codec(&self.caller), b) });
    }
}
