//! What comes back for a branch's INVITE: ringing, early media, an answer, a challenge, a
//! redirection, or nothing.
//!
//! A branch sees to its own dialogs, acknowledgements and negotiation; what is left for its call to
//! decide is the [`BranchOutcome`].

use super::branch::{
    Branch, BranchState, BranchTarget, EarlyDialog, MAX_EARLY_DIALOGS, MAX_RELIABLE,
};
use super::call_media::CallMedia;
use super::challenge::repeated;
use super::context::{InDialogRequest, TransactionUser};
use super::leg::Leg;
use super::packages::passed;
use super::retries::Retry;
use super::{CallContext, CallId, CallTimer, codec_policy};
use crate::errors::Code;
use crate::sdp::Direction;
use crate::sdp::offer_answer::Negotiated;
use crate::sip::capabilities::Capabilities;
use crate::sip::cause::{reasons, status_of};
use crate::sip::dialog::Dialog;
use crate::sip::header::{NameAddr, delta_seconds};
use crate::sip::message::Message;
use crate::sip::parse::{Framing, HeaderName};
use crate::sip::session_timer::{SessionTimer, min_se};
use crate::sip::status::{Method, Reason, Refusal};
use crate::sip::transaction::Hop;
use std::time::Duration;

/// Most targets of one redirection that are looked at.
const MAX_TARGETS: usize = 5;
/// Answers of one branch that are acknowledged, and but for the first hung up: each is a request of
/// ours, and whoever answers writes as many tags as it likes.
const MAX_ANSWERS: usize = 16;
/// Provisional responses to one INVITE that are told in a second: each costs its caller a message,
/// and the worker a change of its media.
const MOST_TOLD: u32 = 20;

/// What a branch sees of its call while it takes a response.
pub(super) struct CallSide<'a> {
    /// The call.
    pub(super) call: CallId,
    /// The leg of the party that waits.
    pub(super) caller: &'a mut Leg,
    /// The media of the call.
    pub(super) media: &'a mut CallMedia,
    /// The route is being taken, and nobody has answered.
    pub(super) awaits_answer: bool,
    /// The route is being taken: ringing is reported to the caller.
    pub(super) routes: bool,
    /// The caller can hear something before the answer.
    pub(super) takes_early_media: bool,
    /// A redirection would be followed.
    pub(super) follows: bool,
    /// Somebody rang.
    pub(super) rang: bool,
}

/// What a response, or its absence, means to the call.
#[must_use]
#[derive(PartialEq, Debug)]
pub(super) enum BranchOutcome {
    /// Nothing yet.
    Pending,
    /// The callee is alerted. `early` is there if it has early media for the caller: whether that
    /// can be used.
    Progress { status: u16, tag: String, early: Option<Result<(), Refusal>> },
    /// Both can talk.
    Answered,
    /// An answer nobody waits for any more was hung up, and its media end is of no use.
    Late,
    /// The INVITE is to be sent again: with credentials, a longer session, or without keys.
    SendAgain,
    /// The next address is to be tried.
    NextHop,
    /// The callee names others, the best first. `otherwise` is the refusal that is if none of them
    /// can be called.
    Redirected { status: u16, numbers: Vec<String>, otherwise: Refusal },
    /// The callee, or our side of the branch, refused.
    Failed(Refusal),
    /// It was given up: its time is over.
    GivenUp(Refusal),
}

fn tag_of(message: &Message) -> String {
    message.to().and_then(|t| t.tag()).unwrap_or_default().to_owned()
}

impl Branch {
    /// Takes a response to its INVITE.
    pub(super) fn on_response(
        &mut self,
        cx: &mut CallContext<'_>,
        side: CallSide<'_>,
        message: &Message,
    ) -> BranchOutcome {
        // Any response is a sign that its hop lives.
        cx.services.locator.alive(self.leg.hop);
        if (180..200).contains(&message.status()) {
            self.rang.get_or_insert(cx.now);
        }
        self.refused |= message.status() >= 300;
        match message.status() {
            100 => {
                self.on_alive(cx, side.call);
                BranchOutcome::Pending
            }
            101..=199 => self.on_provisional(cx, side, message),
            200..=299 => self.on_success(cx, side, message),
            300..=399 if side.follows && self.is_trying() => self.on_redirect(message),
            401 | 407 if self.take_challenge(cx, message) => BranchOutcome::SendAgain,
            422 if self.take_longer_session(message) => BranchOutcome::SendAgain,
            415 | 488 | 606 if self.withhold_keys(cx, side.caller) => BranchOutcome::SendAgain,
            _ => self.on_refusal(cx, side.rang, message),
        }
    }

    /// Its INVITE's transaction timed out, or its transport failed.
    pub(super) fn on_timeout(
        &mut self,
        cx: &mut CallContext<'_>,
        call: CallId,
        rang: bool,
    ) -> BranchOutcome {
        cx.services.locator.failed(cx.now, self.leg.hop);
        match self.state {
            BranchState::Calling if !self.hops.is_empty() => BranchOutcome::NextHop,
            BranchState::Early
                if self.client.is_some_and(|c| cx.services.transactions.awaits_final(c)) =>
            {
                // Timer C: alive but never final.
                let (code, why) = if rang {
                    (Code::NO_ANSWER, "the callee never answered")
                } else {
                    (Code::NOT_AVAILABLE, "the callee took the call and never rang")
                };
                self.give_up(cx, call, Refusal::new(408, why).code(code))
            }
            _ => {
                let dead = match self.target {
                    BranchTarget::User { .. } if matches!(self.leg.hop, Hop::Node(_)) => {
                        Code::NODE_AWAY
                    }
                    BranchTarget::User { .. } => Code::FLOW_DEAD,
                    BranchTarget::Trunk { .. } | BranchTarget::Joined => Code::UNREACHABLE,
                };
                let (code, why) = cx.services.locator.why(self.leg.hop).unwrap_or_else(|| {
                    (dead, "did not respond: is it reachable from here?".to_owned())
                });
                let why = format!("{} {why}", self.target);
                BranchOutcome::Failed(Refusal::new(408, why).code(code))
            }
        }
    }

    /// Its hop gave no sign of life in the time it had.
    pub(super) fn on_silence(&mut self, cx: &mut CallContext<'_>, call: CallId) -> BranchOutcome {
        if self.state != BranchState::Calling {
            return BranchOutcome::Pending;
        }
        cx.services.locator.failed(cx.now, self.leg.hop);
        if !self.hops.is_empty() {
            return BranchOutcome::NextHop;
        }
        let (code, why) = match self.leg.hop {
            Hop::Node(at) => (Code::NODE_AWAY, format!("the node of {} at {at}", self.target)),
            _ => (Code::UNREACHABLE, self.target.to_string()),
        };
        let why = format!("{why} gave no sign of life");
        self.give_up(cx, call, Refusal::new(408, why).code(code))
    }

    fn give_up(&mut self, cx: &mut CallContext<'_>, call: CallId, why: Refusal) -> BranchOutcome {
        self.abandon(cx, call, &why.reason());
        BranchOutcome::GivenUp(why)
    }

    fn on_alive(&mut self, cx: &mut CallContext<'_>, call: CallId) {
        if self.state == BranchState::Calling {
            self.state = BranchState::Early;
        }
        // Even a 100, a sign of life from the next hop only, stops the clock.
        cx.disarm(call, CallTimer::Silent(self.id));
        if self.state == BranchState::Cancelling && std::mem::take(&mut self.cancel_when_possible) {
            self.cancel(cx, &Reason::new(487, "given up before the answer"));
        }
    }

    fn on_provisional(
        &mut self,
        cx: &mut CallContext<'_>,
        mut side: CallSide<'_>,
        message: &Message,
    ) -> BranchOutcome {
        self.on_alive(cx, side.call);
        if !self.take_early_dialog(message) {
            return BranchOutcome::Pending;
        }
        let wanted = side.routes
            && self.state == BranchState::Early
            && self.told.take(cx.now, Some(MOST_TOLD));
        let tag = tag_of(message);
        let mut early = None;
        // The first early dialog with media is heard; what others say is kept for their answer
        // (RFC 3261 §13.2.2.4).
        if let Some(body) = message.body_of("application/sdp").map(<[u8]>::to_vec)
            && wanted
            && side.takes_early_media
            && side.media.may_hear(self.id, &tag)
        {
            early = Some(self.settle(cx, &mut side, &body));
        }
        self.acknowledge_reliable(cx, side.call, message);
        if !wanted {
            return BranchOutcome::Pending;
        }
        BranchOutcome::Progress { status: message.status(), tag, early }
    }

    /// Finds or makes the early dialog of a provisional response. Returns false if the response is
    /// to be ignored: a reliable one out of order (RFC 3262 §4), or one dialog too many.
    fn take_early_dialog(&mut self, message: &Message) -> bool {
        let tag = tag_of(message);
        if tag.is_empty() {
            return true;
        }
        if self.early_dialog_mut(&tag).is_none() {
            let Some(dialog) =
                dialog_of(self, message).filter(|_| self.early_dialogs.len() < MAX_EARLY_DIALOGS)
            else {
                return false;
            };
            self.early_dialogs.push(EarlyDialog {
                dialog,
                rseq: None,
                reliable: 0,
                body: None,
                peer: Capabilities::default(),
            });
        }
        let Some(early) = self.early_dialog_mut(&tag) else { return false };
        if let Some(rseq) = reliable_number(message) {
            let expected = early.rseq.is_none_or(|last| rseq == last.wrapping_add(1));
            if !expected || early.reliable == MAX_RELIABLE {
                return false;
            }
            early.reliable += 1;
            early.rseq = Some(rseq);
        }
        early.peer.learn(message);
        early.dialog.refresh_target(message);
        if let Some(body) = message.body_of("application/sdp") {
            early.body = Some(body.to_vec());
        }
        true
    }

    /// PRACK for a reliable provisional response (RFC 3262 §4); it carries our answer to a delayed
    /// offer.
    fn acknowledge_reliable(&mut self, cx: &mut CallContext<'_>, call: CallId, message: &Message) {
        let Some(rseq) = reliable_number(message) else { return };
        let (hop, cseq, end) = (self.leg.hop, self.cseq, self.leg.end);
        let answer =
            self.late_answer.clone().filter(|_| message.body_of("application/sdp").is_some());
        let (via_branch, via) = cx.via(hop);
        let Some(early) = self.early_dialog_mut(&tag_of(message)) else { return };
        let mut prack = early.dialog.request(Method::Prack, &via);
        prack.put(HeaderName::RAck, format_args!("{rseq} {cseq} INVITE"));
        let bytes = prack.end_described(answer.as_deref());
        let client = cx.request(Method::Prack, &via_branch, hop, bytes);
        let user = TransactionUser::Leg(call, end, InDialogRequest::Prack);
        cx.services.transaction_users.insert(client, user);
    }

    /// Takes the callee's SDP, an answer or a delayed offer, and joins its end to the caller's.
    /// What cannot be used leaves what was settled before.
    fn settle(
        &mut self,
        cx: &mut CallContext<'_>,
        side: &mut CallSide<'_>,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let before = self.leg.negotiation.clone();
        let negotiated = match self.agree(cx, side.caller, body) {
            Ok(negotiated) => negotiated,
            Err(why) => {
                self.leg.negotiation = before;
                return Err(why);
            }
        };
        let is_heard = side.media.early_branch() == Some(self.id);
        if is_heard && before.negotiated() == Some(&negotiated) {
            return Ok(());
        }
        self.leg.configure(cx, side.call, side.media.worker(), &negotiated);
        side.media.bridge(cx, side.caller.end, self.leg.end);
        Ok(())
    }

    /// What the callee's SDP settles.
    fn agree(
        &mut self,
        cx: &CallContext<'_>,
        caller: &Leg,
        body: &[u8],
    ) -> Result<Negotiated, Refusal> {
        let why = |e: crate::sdp::SdpError| {
            Refusal::new(488, format!("the callee's SDP: {}", e.why))
                .code(e.code.unwrap_or(Code::NO_CODEC))
        };
        let negotiated = if self.offer.is_empty() {
            self.leg.negotiation.receive_offer(body).map_err(why)?;
            let known = caller.negotiation.offered_codecs();
            let codecs = codec_policy::offer(cx.config, &caller.party, &self.leg.party, &known);
            let (text, negotiated) =
                self.leg.negotiation.answer(&codecs, Direction::SendRecv).map_err(why)?;
            self.late_answer = Some(text);
            negotiated
        } else {
            self.leg.negotiation.receive_answer(body).map_err(why)?.clone()
        };
        cx.media_policy().check(&self.leg, &negotiated)?;
        Ok(negotiated)
    }

    fn on_success(
        &mut self,
        cx: &mut CallContext<'_>,
        mut side: CallSide<'_>,
        message: &Message,
    ) -> BranchOutcome {
        let (call, tag) = (side.call, tag_of(message));
        cx.disarm(call, CallTimer::Silent(self.id));
        self.answering.accepted();
        if let Some(ack) = self.acks.get(&tag) {
            cx.send(self.leg.hop, ack.clone());
            return BranchOutcome::Pending;
        }
        if self.acks.len() >= MAX_ANSWERS {
            return BranchOutcome::Pending;
        }
        let Some(dialog) = confirmed(self, message, &tag) else { return BranchOutcome::Pending };
        let first = self.leg.dialog.is_none();
        let tries = matches!(self.state, BranchState::Calling | BranchState::Early);
        if !first || !tries || !side.awaits_answer {
            self.acknowledge(cx, &dialog, &tag, None);
            return self.hang_up_late(cx, dialog, first);
        }
        let early = self.early_dialog_mut(&tag).and_then(|f| f.body.clone());
        self.leg.peer = self.early_dialog_mut(&tag).map(|f| f.peer.clone()).unwrap_or_default();
        self.leg.peer.learn(message);
        // The packages each side takes, now that both are known, are what the other may send.
        self.leg.passes = passed(&side.caller.peer.info_packages);
        side.caller.passes = passed(&self.leg.peer.info_packages);
        let said = message.body_of("application/sdp").map(<[u8]>::to_vec);
        // The newest description of the dialog counts: many send another one with the answer.
        let settled = match (said, early, side.media.hears(self.id, &tag)) {
            _ if message.to().is_none() => Err(self.unusable(message)),
            (Some(body), _, _) | (None, Some(body), false) => self.settle(cx, &mut side, &body),
            (None, _, true) => Ok(()),
            (None, None, false) => {
                Err(Refusal::new(488, "the callee answered without SDP").code(Code::NO_CODEC))
            }
        };
        // The answer to an offer of a 2xx goes in its ACK; to one of a reliable 183 it went in the
        // PRACK.
        let in_prack = self.early_dialog_mut(&tag).is_some_and(|f| f.rseq.is_some());
        let answer = self.late_answer.clone().filter(|_| !in_prack);
        self.acknowledge(cx, &dialog, &tag, answer.as_deref());
        self.leg.enter(cx, call, dialog);
        self.leg.answered(cx, call, side.media.worker());
        self.state = BranchState::Answered;
        self.early_dialogs.clear();
        self.leg.run_session(cx, call, SessionTimer::from_response(message));
        match settled {
            Ok(()) => BranchOutcome::Answered,
            Err(why) => BranchOutcome::Failed(why),
        }
    }

    /// The refusal for an answer that identifies no dialog: it is acknowledged and hung up.
    fn unusable(&self, message: &Message) -> Refusal {
        let what = message.check().map_or_else(|e| e.what, |()| "it is malformed");
        let (target, status) = (&self.target, message.status());
        Refusal::new(502, format!("{target} said {status}, which cannot be used: {what}"))
            .code(Code::UNREADABLE)
    }

    fn acknowledge(
        &mut self,
        cx: &mut CallContext<'_>,
        dialog: &Dialog,
        tag: &str,
        answer: Option<&str>,
    ) {
        let (_, via) = cx.via(self.leg.hop);
        let mut ack = dialog.request_with(Method::Ack, self.cseq, &via);
        repeated(cx, self.client, &self.leg)
            .into_iter()
            .for_each(|(name, value)| ack.put(name, value));
        let ack = ack.end_described(answer);
        cx.send(self.leg.hop, ack.clone());
        self.leg.last_ack = Some((self.cseq, ack.clone()));
        self.acks.insert(tag.to_owned(), ack);
    }

    /// Whether an INVITE with an answer to this challenge is to be sent. Only this trunk's
    /// challenge, for its realm, to an INVITE we sent it.
    fn take_challenge(&mut self, cx: &CallContext<'_>, message: &Message) -> bool {
        let BranchTarget::Trunk { name, .. } = &self.target else { return false };
        let known = cx
            .config
            .trunks
            .get(name)
            .is_some_and(|t| t.username.is_some() && t.password.is_some());
        let trying = matches!(self.state, BranchState::Calling | BranchState::Early);
        if !known || !trying || !self.answering.take(message) {
            return false;
        }
        self.leg.proved_realms = self.answering.realms();
        self.early_dialogs.clear();
        true
    }

    /// 422: the callee wants a longer session (RFC 4028 §7.4). Whether it gets one.
    fn take_longer_session(&mut self, message: &Message) -> bool {
        let asked = min_se(message);
        let trying = matches!(self.state, BranchState::Calling | BranchState::Early);
        let may = trying
            && message.header(HeaderName::MinSe).is_some()
            && self.session_wish.is_none_or(|w| asked > w)
            && asked <= 86_400
            && self.retries.allow(Retry::TooBrief);
        if may {
            self.session_wish = Some(asked);
            self.early_dialogs.clear();
        }
        may
    }

    /// A trunk that will have no SRTP keys within AVP is offered plain RTP, if that may be (`srtp =
    /// "optional"`). Returns false if it was offered none.
    fn withhold_keys(&mut self, cx: &CallContext<'_>, caller: &Leg) -> bool {
        let trying = matches!(self.state, BranchState::Calling | BranchState::Early);
        if !trying || self.offer.is_empty() || !self.leg.negotiation.withhold_keys() {
            return false;
        }
        let known = caller.negotiation.offered_codecs();
        let codecs = codec_policy::offer(cx.config, &caller.party, &self.leg.party, &known);
        self.offer = self.leg.negotiation.offer(&codecs);
        self.early_dialogs.clear();
        true
    }

    fn on_redirect(&self, message: &Message) -> BranchOutcome {
        let q = |c: &NameAddr<'_>| {
            let q = c.params.get("q").and_then(|q| q.parse::<f32>().ok());
            q.map_or(1_000, |q| (q.clamp(0.0, 1.0) * 1_000.0) as u32)
        };
        let mut targets: Vec<(u32, String)> = message
            .values(HeaderName::Contact)
            .filter_map(|v| NameAddr::parse_lenient(v).ok())
            .map(|c| (q(&c), c.uri.number()))
            .filter(|(_, number)| !number.is_empty())
            .take(MAX_TARGETS)
            .collect();
        targets.sort_by_key(|(q, _)| std::cmp::Reverse(*q));
        let numbers = targets.into_iter().map(|(_, number)| number).collect();
        let otherwise = self.refusal(message, false);
        BranchOutcome::Redirected { status: message.status(), numbers, otherwise }
    }

    fn on_refusal(
        &mut self,
        cx: &mut CallContext<'_>,
        rang: bool,
        message: &Message,
    ) -> BranchOutcome {
        if message.status() == 503 {
            cx.services.locator.failed(cx.now, self.leg.hop);
            self.rest(cx, message);
            if self.is_trying() && !self.hops.is_empty() {
                return BranchOutcome::NextHop;
            }
        }
        BranchOutcome::Failed(self.refusal(message, rang))
    }

    /// What a final response says; it says another thing if somebody `rang`.
    fn refusal(&self, message: &Message, rang: bool) -> Refusal {
        let status = message.status();
        let said = reasons(message);
        let phrase = said.text.clone().unwrap_or_else(|| message.reason_phrase().to_owned());
        let trunk = !matches!(self.target, BranchTarget::User { .. });
        let proved = self.answering.has_answered();
        let why = match status {
            401 | 407 => {
                format!(
                    "{} wants credentials it did not accept, or that are not configured",
                    self.target
                )
            }
            403 if proved => format!("{} said 403 {phrase} after digest", self.target),
            _ => format!("{} said {status} {phrase}", self.target),
        };
        // Many gateways say 500 or 503 though Q.850 says what it was.
        let status = match said.q850 {
            Some(cause) if matches!(status, 480 | 500 | 503) && status_of(cause) != 503 => {
                status_of(cause)
            }
            _ => status,
        };
        let code = match code_of(status, trunk, proved) {
            // It reports its failure itself, and has not rung.
            Code::NO_ANSWER if !rang => Code::NOT_AVAILABLE,
            code => code,
        };
        Refusal::new(status, why).q850(said.q850).code(code)
    }

    /// A trunk that says 503 with Retry-After is left alone for so long (RFC 3261 §21.5.4).
    fn rest(&self, cx: &mut CallContext<'_>, message: &Message) {
        let BranchTarget::Trunk { name, .. } = &self.target else { return };
        let seconds = message.header(HeaderName::RetryAfter).and_then(delta_seconds);
        let until = seconds.map(|s| cx.now + Duration::from_secs(u64::from(s.min(300))));
        if let (Some(until), Some(trunk)) = (until, cx.services.trunks.get_mut(name)) {
            trunk.paused_until = Some(until);
        }
    }
}

/// The RSeq of a reliable provisional response.
fn reliable_number(message: &Message) -> Option<u32> {
    let rseq = message.header(HeaderName::RSeq)?.trim().parse::<u32>().ok()?;
    (message.lists(HeaderName::Require, "100rel") && (101..200).contains(&message.status()))
        .then_some(rseq)
}

/// The dialog a response makes; what it does not echo is known from our INVITE.
fn dialog_of(branch: &Branch, message: &Message) -> Option<Dialog> {
    Dialog::uac(message, branch.leg.hop).or_else(|| {
        let invite = Message::parse(branch.invite.to_vec(), Framing::WebSocket).ok()?;
        Dialog::uac_by_invite(&invite, message, branch.leg.hop)
    })
}

/// The confirmed dialog of a 2xx: the early one's, so that its sequence continues, with the 2xx's
/// route set.
fn confirmed(branch: &mut Branch, message: &Message, tag: &str) -> Option<Dialog> {
    let mut dialog = dialog_of(branch, message)?;
    if let Some(early) = branch.early_dialog_mut(tag) {
        dialog.local_cseq = dialog.local_cseq.max(early.dialog.local_cseq);
        dialog.remote_cseq = early.dialog.remote_cseq;
    }
    Some(dialog)
}

/// What a callee's final status says, by the registry of errors; `proved` if it had our
/// credentials.
fn code_of(status: u16, trunk: bool, proved: bool) -> Code {
    match status {
        401 | 407 => Code::CREDENTIALS,
        403 if trunk && proved => Code::CREDENTIALS,
        403 if trunk => Code::FORBIDDEN,
        404 | 410 | 484 | 604 => Code::NO_SUCH_NUMBER,
        408 | 480 => Code::NO_ANSWER,
        415 | 488 | 606 => Code::NO_CODEC,
        430 => Code::FLOW_DEAD,
        482 | 483 => Code::LOOP,
        486 | 600 => Code::BUSY,
        403 | 603 => Code::DECLINED,
        500..=599 if trunk => Code::TRUNK_FAILED,
        _ => Code::TARGET_FAILED,
    }
}

#[cfg(test)]
mod tests;
