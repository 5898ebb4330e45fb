//! What the caller is told before and at the answer: 180, 183, reliably where it wants (RFC 3262),
//! 200.
//!
//! One reliable response is open at a time; what comes after it waits for its PRACK, and so does a
//! 200 while an open one carries SDP (§3).

use super::bodies::description;
use super::leg::Acceptance;
use super::{Call, CallContext, CallTimer, HangupBy, State, media_policy};
use crate::cdr::Party;
use crate::codec::Codec;
use crate::config::Reliable as Policy;
use crate::errors::Code;
use crate::event::Event;
use crate::sdp::Direction;
use crate::sip::build::Writer;
use crate::sip::dialog::Dialog;
use crate::sip::header::NameAddr;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::session_timer::{Granted, MIN_SE, TooBrief, grant};
use crate::sip::status::{ACCEPT, ALLOW, Refusal};
use crate::sip::transaction::{ServerId, T1, T1X64};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

struct Unacknowledged {
    rseq: u32,
    status: u16,
    bytes: Bytes,
    has_sdp: bool,
    interval: Duration,
    deadline: Instant,
}

/// Reliable provisional responses towards the caller.
#[derive(Default)]
pub struct Reliable {
    pub policy: Option<Policy>,
    last: u32,
    open: Option<Unacknowledged>,
    waiting: VecDeque<(u16, Option<String>)>,
    /// The answer waits for a PRACK: the branch that answered.
    answer_waits: Option<Option<u16>>,
    /// Our offer went out in a reliable response: its PRACK brings the answer.
    offered: bool,
    /// An answer to the offer of a PRACK.
    pub settled: bool,
}

impl Reliable {
    /// Whether the caller's INVITE lets, or makes, us send them.
    pub(crate) fn is_wanted(&self, invite: &Message) -> bool {
        invite.lists(HeaderName::Require, "100rel")
            || (self.policy != Some(Policy::Off) && invite.lists(HeaderName::Supported, "100rel"))
    }
}

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
        if self.final_response_sent {
            return;
        }
        self.enter_caller_dialog(cx);
        let required = self.invite.lists(HeaderName::Require, "100rel");
        // Where it is a matter of choice, what carries SDP is worth a PRACK.
        let reliably = required || (sdp.is_some() && self.reliable.is_wanted(&self.invite));
        if reliably && self.reliable.open.is_some() {
            let same =
                self.reliable.waiting.back().is_some_and(|(s, _)| *s == status && sdp.is_none());
            if !same && self.reliable.waiting.len() < 8 {
                self.reliable.waiting.push_back((status, sdp.map(str::to_owned)));
            }
            return;
        }
        let mut response = Writer::response(&self.invite, status, Some(&self.caller.local_tag));
        self.invite
            .values(HeaderName::RecordRoute)
            .filter(|r| NameAddr::parse(r).is_ok())
            .for_each(|r| response.put(HeaderName::RecordRoute, r));
        response.put(HeaderName::Contact, cx.contact(self.caller.hop, "call"));
        response.put(HeaderName::Allow, ALLOW);
        self.caller.invite_packages(&mut response);
        if reliably {
            if self.reliable.last == 0 {
                // §3: the first is chosen below 2^31.
                self.reliable.last = (cx.random_u64() as u32 >> 2).max(1);
            } else {
                self.reliable.last += 1;
            }
            response.put(HeaderName::Require, "100rel");
            response.put(HeaderName::RSeq, self.reliable.last);
        }
        let bytes = match sdp {
            Some(sdp) => response.end_with("application/sdp", sdp.as_bytes()),
            None => response.end(),
        };
        cx.respond(self.server, status, bytes.clone());
        if reliably {
            let (rseq, deadline) = (self.reliable.last, cx.now + T1X64);
            self.reliable.open = Some(Unacknowledged {
                rseq,
                status,
                bytes,
                has_sdp: sdp.is_some(),
                interval: T1,
                deadline,
            });
            cx.arm(self.id, CallTimer::Reliable, T1);
        }
    }

    /// A reliable response was not acknowledged: again, or the call has failed (§3).
    pub(super) fn reliable_timeout(&mut self, cx: &mut CallContext<'_>) {
        let Some(open) = &mut self.reliable.open else { return };
        if cx.now >= open.deadline {
            self.reliable.open = None;
            return self.finish(
                cx,
                HangupBy::Us,
                Refusal::new(
                    504,
                    "a reliable provisional response was never acknowledged (no PRACK for 32 s)",
                )
                .code(Code::NO_PRACK),
            );
        }
        open.interval *= 2;
        let (status, bytes, interval) = (open.status, open.bytes.clone(), open.interval);
        let left = open.deadline.saturating_duration_since(cx.now);
        cx.respond(self.server, status, bytes);
        cx.arm(self.id, CallTimer::Reliable, interval.min(left));
    }

    /// PRACK of the caller.
    pub(super) fn prack(&mut self, cx: &mut CallContext<'_>, server: ServerId, message: &Message) {
        let acknowledged = rack(message);
        let expected = self
            .reliable
            .open
            .as_ref()
            .map(|o| (o.rseq, self.invite.cseq().map_or(0, |c| c.number)));
        if acknowledged.is_none() || acknowledged != expected {
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
        let answered = match (body, std::mem::take(&mut self.reliable.offered)) {
            (Some(body), true) => self.answer_of_caller(cx, &body).map(|()| None),
            (None, true) => Err(Refusal::new(488, "the PRACK brings no answer to our offer")),
            (Some(body), false) => self.renegotiate(cx, self.caller.end, &body).map(Some),
            (None, false) => Ok(None),
        };
        let sdp = match answered {
            Ok(sdp) => sdp,
            Err(why) => return cx.refuse(server, message, &why),
        };
        // RFC 3261 §13.2.1: an exchange that is done is not repeated in the 2xx.
        self.reliable.settled |= self.reliable.open.take().is_some_and(|o| o.has_sdp);
        cx.disarm(self.id, CallTimer::Reliable);
        let response = self.caller.success(cx, message, None);
        let response = match sdp {
            Some(sdp) => response.end_with("application/sdp", sdp.as_bytes()),
            None => response.end(),
        };
        cx.respond(server, 200, response);
        if let Some((status, sdp)) = self.reliable.waiting.pop_front() {
            self.provisional_to_caller(cx, status, sdp.as_deref());
        }
        if self.may_answer()
            && let Some(branch) = self.reliable.answer_waits.take()
        {
            self.answer_caller(cx, branch);
        }
    }

    fn may_answer(&self) -> bool {
        self.reliable.open.as_ref().is_none_or(|o| !o.has_sdp)
            && self.reliable.waiting.iter().all(|(_, sdp)| sdp.is_none())
    }

    fn enter_caller_dialog(&mut self, cx: &mut CallContext<'_>) {
        if self.caller.dialog.is_none() {
            let first = (cx.random_u64() as u32 >> 8).max(1);
            if let Some(dialog) =
                Dialog::uas(&self.invite, &self.caller.local_tag, self.caller.hop, first)
            {
                self.caller.enter(cx, self.id, dialog);
            }
        }
    }

    /// The answer to the caller's offer; given once, the same on every later response.
    pub(super) fn answer_caller_sdp(
        &mut self,
        cx: &mut CallContext<'_>,
        other: Option<(Party, Codec)>,
    ) -> Result<String, Refusal> {
        let codecs = self.caller.codecs_beside(cx, other);
        let (sdp, negotiated) =
            self.caller.negotiation.answer(&codecs, Direction::SendRecv).map_err(|e| {
                Refusal::new(488, e.why.clone()).warning(e.warning, e.why).code(Code::NO_CODEC)
            })?;
        media_policy::check_media_address(cx.config, &self.caller, &negotiated)?;
        self.caller.configure(cx, self.id, self.worker, &negotiated);
        Ok(sdp)
    }

    /// Our offer to a caller whose INVITE had none, in a reliable 183: made once.
    pub(super) fn offer_to_caller(
        &mut self,
        cx: &mut CallContext<'_>,
        other: Option<(Party, Codec)>,
    ) -> String {
        let codecs = self.caller.codecs_beside(cx, other);
        self.reliable.offered = true;
        self.caller.negotiation.offer(&codecs)
    }

    /// The caller's answer to our offer, from its ACK or PRACK.
    pub(super) fn answer_of_caller(
        &mut self,
        cx: &mut CallContext<'_>,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let refused = |e: crate::sdp::SdpError| {
            Refusal::new(488, e.why.clone()).warning(e.warning, e.why).code(Code::NO_CODEC)
        };
        let negotiated = self.caller.negotiation.receive_answer(body).map_err(refused)?.clone();
        media_policy::check_media_address(cx.config, &self.caller, &negotiated)?;
        self.caller.configure(cx, self.id, self.worker, &negotiated);
        self.reliable.settled = true;
        if let Some((branch, _)) = self.heard.clone() {
            let b = crate::media::LegId(branch);
            cx.media(
                self.worker,
                crate::worker::Command::Bridge { session: self.id.0, a: self.caller.end, b },
            );
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
    pub(crate) fn grant_first(&self) -> Result<(), Refusal> {
        grant(&self.invite, None, false).map(drop).map_err(|TooBrief| {
            Refusal::new(422, format!("sessions last at least {MIN_SE} s here"))
        })
    }

    /// 200 to the caller: with the answer, or with our offer where the INVITE had none.
    pub(super) fn answer_caller(&mut self, cx: &mut CallContext<'_>, branch: Option<u16>) {
        if branch.is_some() {
            self.state = State::Talking;
        }
        if self.final_response_sent {
            // Who was rung first has answered long ago; now there is somebody to talk to.
            if self.origin.is_some() && self.cdr.answered.is_none() {
                self.note_answered(cx);
            }
            return;
        }
        if !self.may_answer() {
            self.reliable.answer_waits = Some(branch);
            return;
        }
        let other = branch.and_then(|id| self.settled_with(id));
        let offers = self.offerless && !self.reliable.settled;
        let sdp = match (offers, self.reliable.settled) {
            (true, _) => {
                let codecs = self.caller.codecs_beside(cx, other);
                Ok(Some(self.caller.negotiation.offer(&codecs)))
            }
            // The exchange is done already, in a reliable 183 and its PRACK: the 200 carries
            // nothing.
            (false, true) => Ok(None),
            (false, false) => self.answer_caller_sdp(cx, other).map(Some),
        };
        let sdp = match sdp {
            Ok(sdp) => sdp,
            Err(why) => return self.finish(cx, HangupBy::Us, why),
        };
        self.enter_caller_dialog(cx);
        self.final_response_sent = true;
        self.reliable.open = None;
        self.reliable.waiting.clear();
        cx.disarm(self.id, CallTimer::Reliable);
        let (invite, server, call) = (self.invite.clone(), self.server, self.id);
        // The interval was judged when the call was placed.
        let granted = self.grant(cx, &self.caller, &invite).unwrap_or_default();
        let with = Acceptance { sdp: sdp.as_deref(), expects_answer: offers, granted };
        self.caller.accept(cx, call, server, &invite, with);
        self.note_answered(cx);
    }

    /// Both sides can talk from now on.
    fn note_answered(&mut self, cx: &mut CallContext<'_>) {
        let call = self.id;
        self.cdr.answered = Some(cx.now);
        let by = self.cdr.answered_by.clone();
        let codec = |l: &super::Leg| l.negotiation.negotiated().map_or("?", |a| a.codec.name());
        let leg =
            self.callee.and_then(|id| self.branches.iter().find(|b| b.id == id)).map(|b| &b.leg);
        let formats = |l: &super::Leg| l.negotiation.peer_formats().to_vec();
        self.cdr.formats = [formats(&self.caller), leg.map(formats).unwrap_or_default()];
        let b = leg.map_or("-", codec);
        let after = cx.now.saturating_duration_since(self.cdr.start);
        cx.note(Event::CallAnswered { call, by, after, codecs: (codec(&self.caller), b) });
    }

    pub(super) fn refuse_caller(&mut self, cx: &mut CallContext<'_>, why: &Refusal) {
        self.final_response_sent = true;
        cx.disarm(self.id, CallTimer::Reliable);
        let host = cx.config.domain.clone();
        let mut response = Writer::refusal(&self.invite, why, &self.caller.local_tag, &host);
        match why.status {
            415 => response.put(HeaderName::Accept, ACCEPT),
            422 => response.put(HeaderName::MinSe, MIN_SE),
            _ => {}
        }
        response.put(HeaderName::Supported, self.caller.supported());
        cx.respond(self.server, why.status, response.end());
    }
}

/// RAck: RSeq and CSeq of what is acknowledged, where it was an INVITE's (RFC 3262 §7.2).
fn rack(message: &Message) -> Option<(u32, u32)> {
    let mut parts = message.header(HeaderName::RAck)?.split_ascii_whitespace();
    let numbers = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (parts.next()? == "INVITE" && parts.next().is_none()).then_some(numbers)
}
