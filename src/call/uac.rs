//! What comes back for a branch's INVITE: ringing, early media, an answer, a challenge, a
//! redirection.

use super::branch::{Branch, BranchState, BranchTarget, EarlyDialog, MAX_EARLY, MAX_RELIABLE};
use super::context::Asked;
use super::leg::Party;
use super::retries::Retry;
use super::route_cursor::{Diversion, PlannedStep};
use super::{Call, CallContext, CallTimer, State, codec_policy, media_policy};
use crate::cdr::Tried;
use crate::codec::Codec;
use crate::dialplan::Attempt;
use crate::errors::Code;
use crate::event::Event;
use crate::media::LegId;
use crate::sdp::Direction;
use crate::sdp::offer_answer::Negotiated;
use crate::sip::capabilities::Capabilities;
use crate::sip::cause::{reasons, status_of};
use crate::sip::dialog::Dialog;
use crate::sip::header::{NameAddr, delta_seconds};
use crate::sip::message::Message;
use crate::sip::parse::{Framing, HeaderName};
use crate::sip::session_timer::{SessionTimer, min_se};
use crate::sip::status::{Method, Refusal};
use std::time::Duration;

fn tag_of(message: &Message) -> String {
    message.to().and_then(|t| t.tag()).unwrap_or_default().to_owned()
}

impl Call {
    /// A response to a branch's INVITE.
    pub fn response(&mut self, cx: &mut CallContext<'_>, id: u16, message: &Message) {
        if self.branch_mut(id).is_none() {
            // Its leg has moved on in a transfer; a 2xx that comes again still wants its ACK.
            return self.acknowledge_again(cx, LegId(id), message);
        }
        self.heard_from(cx, id);
        match message.status() {
            100 => self.alive(cx, id),
            101..=199 => self.provisional(cx, id, message),
            200..=299 => self.accepted(cx, id, message),
            300..=399 => self.redirected(cx, id, message),
            401 | 407 => self.challenged(cx, id, message),
            422 => self.too_brief(cx, id, message),
            415 | 488 | 606 if self.offer_without_keys(cx, id) => {}
            _ => self.refused(cx, id, message),
        }
    }

    /// Any response is a sign that its hop lives.
    fn heard_from(&mut self, cx: &mut CallContext<'_>, id: u16) {
        if let Some(branch) = self.branch_mut(id) {
            cx.services.locator.alive(branch.leg.hop);
        }
    }

    fn alive(&mut self, cx: &mut CallContext<'_>, id: u16) {
        let call = self.id;
        let Some(branch) = self.branch_mut(id) else { return };
        if branch.state == BranchState::Calling {
            branch.state = BranchState::Early;
        }
        // Even a 100, a sign of life from the next hop only, stops the clock.
        cx.disarm(call, CallTimer::Silent(id));
        if branch.state == BranchState::Cancelling
            && std::mem::take(&mut branch.cancel_when_possible)
        {
            branch.cancel(cx, &Refusal::new(487, "given up before the answer"));
        }
    }

    fn provisional(&mut self, cx: &mut CallContext<'_>, id: u16, message: &Message) {
        self.alive(cx, id);
        if !self.fork(id, message) {
            return;
        }
        let wanted = self.state == State::Routing
            && self.branch_mut(id).is_some_and(|b| b.state == BranchState::Early);
        let tag = tag_of(message);
        let body = message.body_of("application/sdp").map(<[u8]>::to_vec);
        let mut settled = None;
        if let (true, Some(body)) = (wanted, &body) {
            // The first fork with media is heard; what others say is kept for their answer (RFC
            // 3261 §13.2.2.4).
            if self.media.may_hear(id, &tag) && self.uas.takes_early_media() {
                settled = Some(self.settle(cx, id, body));
            }
        }
        self.acknowledge_reliable(cx, id, message);
        if !wanted {
            return;
        }
        if self.cdr.ringing.is_none() {
            self.cdr.ringing = Some(cx.now);
            cx.note(Event::CallRinging { call: self.id });
        }
        if self.uas.is_finished() {
            self.transfer_progress(cx, message.status());
            if matches!(settled, Some(Ok(()))) {
                self.media.hear(id, tag);
            }
            return self.media.ringback(cx, self.caller.end);
        }
        match settled {
            None => self.tell_ringing(cx, message.status()),
            Some(Err(why)) => {
                cx.note(Event::EarlyMediaUnusable { call: self.id, why: why.why });
                self.tell_ringing(cx, 180);
            }
            Some(Ok(())) => {
                self.media.hear(id, tag);
                self.tell_early_media(cx, id);
            }
        }
    }

    fn tell_early_media(&mut self, cx: &mut CallContext<'_>, id: u16) {
        let other = self.settled_with(id);
        let sdp = if self.uas.is_offerless() {
            Ok(self.offer_to_caller(cx, other))
        } else {
            self.answer_caller_sdp(cx, other)
        };
        match sdp {
            Ok(sdp) => self.provisional_to_caller(cx, 183, Some(&sdp)),
            Err(why) => cx.note(Event::EarlyMediaUnusable { call: self.id, why: why.why }),
        }
    }

    /// Finds or makes the early dialog of a provisional response. False: it is to be ignored, being
    /// an old or an early reliable one (RFC 3262 §4), or one fork too many.
    fn fork(&mut self, id: u16, message: &Message) -> bool {
        let tag = tag_of(message);
        let Some(branch) = self.branch_mut(id) else { return false };
        if tag.is_empty() {
            return true;
        }
        if branch.fork_mut(&tag).is_none() {
            let Some(dialog) =
                dialog_of(branch, message).filter(|_| branch.forks.len() < MAX_EARLY)
            else {
                return false;
            };
            branch.forks.push(EarlyDialog {
                dialog,
                rseq: None,
                reliable: 0,
                body: None,
                peer: Capabilities::default(),
            });
        }
        let Some(fork) = branch.fork_mut(&tag) else { return false };
        if let Some(rseq) = reliable_number(message) {
            let expected = fork.rseq.is_none_or(|last| rseq == last.wrapping_add(1));
            if !expected || fork.reliable == MAX_RELIABLE {
                return false;
            }
            fork.reliable += 1;
            fork.rseq = Some(rseq);
        }
        fork.peer.learn(message);
        fork.dialog.refresh_target(message);
        if let Some(body) = message.body_of("application/sdp") {
            fork.body = Some(body.to_vec());
        }
        true
    }

    /// PRACK for a reliable provisional response (RFC 3262 §4); it carries our answer to a delayed
    /// offer.
    fn acknowledge_reliable(&mut self, cx: &mut CallContext<'_>, id: u16, message: &Message) {
        let Some(rseq) = reliable_number(message) else { return };
        let (call, tag) = (self.id, tag_of(message));
        let Some(branch) = self.branch_mut(id) else { return };
        let (hop, cseq, end) = (branch.leg.hop, branch.cseq, branch.leg.end);
        let answer =
            branch.late_answer.clone().filter(|_| message.body_of("application/sdp").is_some());
        let (via_branch, via) = cx.via(hop);
        let Some(fork) = branch.fork_mut(&tag) else { return };
        let mut prack = fork.dialog.request(Method::Prack, &via);
        prack.put(HeaderName::RAck, format_args!("{rseq} {cseq} INVITE"));
        let bytes = prack.end_described(answer.as_deref());
        let client = cx.request(Method::Prack, &via_branch, hop, bytes);
        cx.services
            .transaction_users
            .insert(client, super::context::TransactionUser::Leg(call, end, Asked::Prack));
    }

    /// Takes the callee's SDP, an answer or a delayed offer, and joins its end to the caller's. What
    /// cannot be used leaves what was settled before.
    pub(super) fn settle(
        &mut self,
        cx: &mut CallContext<'_>,
        id: u16,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let (call, caller_end) = (self.id, self.caller.end);
        let is_heard = self.media.early_branch() == Some(id);
        let Some(branch) = self.branch_mut(id) else { return Ok(()) };
        let before = branch.leg.negotiation.clone();
        let negotiated = match self.agree(cx, id, body) {
            Ok(negotiated) => negotiated,
            Err(why) => {
                if let Some(branch) = self.branch_mut(id) {
                    branch.leg.negotiation = before;
                }
                return Err(why);
            }
        };
        if is_heard && before.negotiated() == Some(&negotiated) {
            return Ok(());
        }
        let Some(branch) = self.branches.get_mut(id) else { return Ok(()) };
        branch.leg.configure(cx, call, self.media.worker(), &negotiated);
        self.media.bridge(cx, caller_end, branch.leg.end);
        Ok(())
    }

    /// What the callee's SDP settles.
    fn agree(&mut self, cx: &CallContext<'_>, id: u16, body: &[u8]) -> Result<Negotiated, Refusal> {
        let caller = (self.caller.party.clone(), self.caller.negotiation.offered_codecs());
        let branch = self.branches.get_mut(id);
        let branch = branch.ok_or_else(|| Refusal::new(481, "there is no such leg"))?;
        let why = |e: crate::sdp::SdpError| {
            Refusal::new(488, format!("the callee's SDP: {}", e.why)).code(Code::NO_CODEC)
        };
        let negotiated = if branch.offer.is_empty() {
            branch.leg.negotiation.receive_offer(body).map_err(why)?;
            let codecs = codec_policy::offer(cx.config, &caller.0, &branch.leg.party, &caller.1);
            let (text, negotiated) =
                branch.leg.negotiation.answer(&codecs, Direction::SendRecv).map_err(why)?;
            branch.late_answer = Some(text);
            negotiated
        } else {
            branch.leg.negotiation.receive_answer(body).map_err(why)?.clone()
        };
        media_policy::check_media_address(cx.config, &branch.leg, &negotiated)?;
        Ok(negotiated)
    }

    /// Who a branch reached, and the codec settled with it.
    pub(super) fn settled_with(&self, id: u16) -> Option<(Party, Codec)> {
        let branch = self.branches.get(id)?;
        Some((branch.leg.party.clone(), branch.leg.negotiation.negotiated()?.codec))
    }

    fn accepted(&mut self, cx: &mut CallContext<'_>, id: u16, message: &Message) {
        let call = self.id;
        let tag = tag_of(message);
        let awaited = self.state == State::Routing && self.branches.answered().is_none();
        let Some(branch) = self.branches.get_mut(id) else { return };
        cx.disarm(call, CallTimer::Silent(id));
        branch.answering.accepted();
        if let Some(ack) = branch.acks.get(&tag) {
            let (hop, ack) = (branch.leg.hop, ack.clone());
            return cx.send(hop, ack);
        }
        let Some(dialog) = confirmed(branch, message, &tag) else { return };
        let first = branch.leg.dialog.is_none();
        let wanted =
            first && matches!(branch.state, BranchState::Calling | BranchState::Early) && awaited;
        if !wanted {
            self.acknowledge(cx, id, &dialog, &tag, None);
            return self.hang_up_late(cx, id, dialog, first);
        }
        let said = message.body_of("application/sdp").map(<[u8]>::to_vec);
        let early = branch.fork_mut(&tag).and_then(|f| f.body.clone());
        branch.leg.peer = branch.fork_mut(&tag).map(|f| f.peer.clone()).unwrap_or_default();
        branch.leg.peer.learn(message);
        self.exchange_packages(id);
        // The newest description of the dialog counts: many send another one with the answer.
        let settled = match (said, early, self.media.hears(id, &tag)) {
            _ if message.to().is_none() => Err(self.unusable(id, message)),
            (Some(body), _, _) | (None, Some(body), false) => self.settle(cx, id, &body),
            (None, _, true) => Ok(()),
            (None, None, false) => {
                Err(Refusal::new(488, "the callee answered without SDP").code(Code::NO_CODEC))
            }
        };
        let Some(branch) = self.branch_mut(id) else { return };
        // The answer to an offer of a 2xx goes in its ACK; to one of a reliable 183 it went in the
        // PRACK.
        let answer = branch
            .late_answer
            .clone()
            .filter(|_| branch.fork_mut(&tag).is_none_or(|f| f.rseq.is_none()));
        self.acknowledge(cx, id, &dialog, &tag, answer.as_deref());
        let Some(branch) = self.branch_mut(id) else { return };
        branch.leg.enter(cx, call, dialog);
        branch.state = BranchState::Answered;
        branch.forks.clear();
        branch.leg.run_session(cx, call, SessionTimer::from_response(message));
        match settled {
            Ok(()) => self.answered(cx, id),
            Err(why) => self.branch_failed(cx, id, why),
        }
    }

    /// The refusal for an answer in which no dialog can be told: it is acknowledged and hung up.
    fn unusable(&self, id: u16, message: &Message) -> Refusal {
        let target = self.branches.get(id).map(|b| b.target.to_string());
        let what = message.check().map_or_else(|e| e.what, |()| "it is malformed");
        let target = target.unwrap_or_default();
        let status = message.status();
        Refusal::new(502, format!("{target} said {status}, which cannot be used: {what}"))
            .code(Code::UNREADABLE)
    }

    fn acknowledge(
        &mut self,
        cx: &mut CallContext<'_>,
        id: u16,
        dialog: &Dialog,
        tag: &str,
        answer: Option<&str>,
    ) {
        let Some(branch) = self.branch_mut(id) else { return };
        let (_, via) = cx.via(branch.leg.hop);
        let ack = dialog.request_with(Method::Ack, branch.cseq, &via);
        let ack = ack.end_described(answer);
        cx.send(branch.leg.hop, ack.clone());
        branch.leg.last_ack = Some((branch.cseq, ack.clone()));
        branch.acks.insert(tag.to_owned(), ack);
    }

    /// A 200 nobody waits for any more, or a second fork's: acknowledged already, now hung up.
    fn hang_up_late(&mut self, cx: &mut CallContext<'_>, id: u16, mut dialog: Dialog, first: bool) {
        let Some(branch) = self.branch_mut(id) else { return };
        let (via_branch, via) = cx.via(branch.leg.hop);
        let bye = dialog.request(Method::Bye, &via);
        let why = Refusal::new(200, "answered elsewhere, or given up before the answer");
        branch.leg.say_goodbye(cx, bye, &via_branch, &why);
        if first {
            branch.over();
            self.close_branch_end(cx, id);
        }
    }

    pub(super) fn close_branch_end(&mut self, cx: &mut CallContext<'_>, id: u16) {
        if self.state != State::Over {
            let end = self.branches.get(id).map_or(LegId(id), |b| b.leg.end);
            self.media.close_end(cx, end);
        }
    }

    fn answered(&mut self, cx: &mut CallContext<'_>, id: u16) {
        let call = self.id;
        cx.disarm(call, CallTimer::Ring);
        self.branches.set_answered(id);
        self.route.answered();
        let why = Refusal::new(200, "Call completed elsewhere");
        for lost in self.branches.abandon_trying(cx, call, Some(id), &why) {
            self.media.close_end(cx, lost.leg.end);
        }
        if self.first_answered(cx) {
            return;
        }
        if let Some(branch) = self.branches.get(id) {
            let ms = cx.now.saturating_duration_since(branch.started).as_millis() as u64;
            self.cdr.tried.push(Tried { target: branch.target.to_string(), status: 200, ms });
            self.cdr.answered_by = Some(branch.target.to_string());
            self.cdr.b_call_id = Some(branch.call_id.clone());
            self.cdr.b_end = Some(branch.leg.end);
            self.cdr.remotes[1] = cx.remote_ip(branch.leg.hop);
        }
        self.answer_caller(cx, Some(id));
        self.transfer_answered(cx);
    }

    fn challenged(&mut self, cx: &mut CallContext<'_>, id: u16, message: &Message) {
        let Some(branch) = self.branches.get_mut(id) else { return };
        let trying = matches!(branch.state, BranchState::Calling | BranchState::Early);
        // Rule A1: only this trunk's challenge, for its realm, to an INVITE we sent it.
        let BranchTarget::Trunk { name, .. } = &branch.target else {
            return self.refused(cx, id, message);
        };
        let known = cx
            .config
            .trunks
            .get(name)
            .is_some_and(|t| t.username.is_some() && t.password.is_some());
        if known && trying && branch.answering.take(message) {
            branch.leg.proved_realms = branch.answering.realms();
            branch.forks.clear();
            return self.send_invite(cx, id);
        }
        self.refused(cx, id, message);
    }

    /// 422: the callee wants a longer session (RFC 4028 §7.4).
    fn too_brief(&mut self, cx: &mut CallContext<'_>, id: u16, message: &Message) {
        let asked = min_se(message);
        let Some(branch) = self.branch_mut(id) else { return };
        let trying = matches!(branch.state, BranchState::Calling | BranchState::Early);
        if trying
            && message.header(HeaderName::MinSe).is_some()
            && branch.session_wish.is_none_or(|w| asked > w)
            && asked <= 86_400
            && branch.retries.allow(Retry::TooBrief)
        {
            branch.session_wish = Some(asked);
            branch.forks.clear();
            return self.send_invite(cx, id);
        }
        self.refused(cx, id, message);
    }

    fn redirected(&mut self, cx: &mut CallContext<'_>, id: u16, message: &Message) {
        let trying = self.branch_mut(id).is_some_and(|b| b.is_trying());
        if !self.route.may_redirect() || !trying || self.state != State::Routing {
            return self.refused(cx, id, message);
        }
        let mut targets: Vec<(u32, String)> = message
            .values(HeaderName::Contact)
            .filter_map(|v| NameAddr::parse(v).ok())
            .map(|c| {
                (
                    c.params
                        .get("q")
                        .and_then(|q| q.parse::<f32>().ok())
                        .map_or(1_000, |q| (q.clamp(0.0, 1.0) * 1_000.0) as u32),
                    c.uri.number(),
                )
            })
            .filter(|(_, number)| !number.is_empty())
            .take(5)
            .collect();
        targets.sort_by_key(|(q, _)| std::cmp::Reverse(*q));
        let mut steps: Vec<PlannedStep> = Vec::new();
        for (_, number) in &targets {
            // The number alone is taken, and routed as if the caller had dialled it: never to a
            // host a callee names.
            let verdict = cx.config.plan.route(&Attempt {
                context: &self.cdr.context,
                dialled: number,
                unix: cx.unix(),
                permits: self.caller.permits(),
            });
            let Some((route, number)) = verdict.and_then(|v| v.decide(&self.cdr.context).ok())
            else {
                continue;
            };
            steps.extend(route.steps.into_iter().map(|s| (s, Some(number.clone()))));
        }
        let Some(branch) = self.branches.get(id).filter(|_| !steps.is_empty()) else {
            return self.refused(cx, id, message);
        };
        let reason = if message.status() == 302 { "unconditional" } else { "unknown" };
        let from = match &branch.target {
            BranchTarget::Trunk { number, .. } => number.clone(),
            BranchTarget::User { name, .. } => branch.leg.number().unwrap_or_else(|| name.clone()),
            BranchTarget::Joined => String::new(),
        };
        let to = targets.into_iter().map(|t| t.1).collect::<Vec<_>>().join(", ");
        cx.note(Event::Redirected { call: self.id, by: branch.target.to_string(), to });
        self.route.redirect(Diversion { number: from, reason }, steps);
        let why = Refusal::new(message.status(), format!("{} redirected the call", branch.target));
        self.branch_failed(cx, id, why);
    }

    /// A trunk that will have no SRTP keys within AVP is offered plain RTP, where that may be
    /// (`srtp = "optional"`). False: it was offered none.
    fn offer_without_keys(&mut self, cx: &mut CallContext<'_>, id: u16) -> bool {
        let known = self.caller.negotiation.offered_codecs();
        let caller = self.caller.party.clone();
        let Some(branch) = self.branch_mut(id) else { return false };
        let trying = matches!(branch.state, BranchState::Calling | BranchState::Early);
        if !trying || branch.offer.is_empty() || !branch.leg.negotiation.withhold_keys() {
            return false;
        }
        let codecs = codec_policy::offer(cx.config, &caller, &branch.leg.party, &known);
        branch.offer = branch.leg.negotiation.offer(&codecs);
        branch.forks.clear();
        self.send_invite(cx, id);
        true
    }

    fn refused(&mut self, cx: &mut CallContext<'_>, id: u16, message: &Message) {
        let status = message.status();
        let said = reasons(message);
        let phrase = said.text.clone().unwrap_or_else(|| message.reason_phrase().to_owned());
        let Some(branch) = self.branch_mut(id) else { return };
        let hop = branch.leg.hop;
        let trunk = !matches!(branch.target, BranchTarget::User { .. });
        let proved = branch.answering.has_answered();
        let why = match status {
            401 | 407 => Refusal::new(
                status,
                format!(
                    "{} wants credentials it did not accept, or that are not configured",
                    branch.target
                ),
            ),
            403 if proved => {
                Refusal::new(status, format!("{} said 403 {phrase} after digest", branch.target))
            }
            _ => Refusal::new(status, format!("{} said {status} {phrase}", branch.target)),
        };
        // Many gateways say 500 or 503 where Q.850 says what it was.
        let why = match said.q850 {
            Some(cause) if matches!(status, 480 | 500 | 503) && status_of(cause) != 503 => {
                Refusal { status: status_of(cause), ..why }
            }
            _ => why,
        };
        if status == 503 {
            cx.services.locator.failed(cx.now, hop);
            self.rest(cx, id, message);
            if self.branch_mut(id).is_some_and(|b| b.is_trying() && !b.hops.is_empty()) {
                return self.try_next_hop(cx, id);
            }
        }
        let code = match code_of(why.status, trunk, proved) {
            // It says so by itself, and has not rung.
            Code::NO_ANSWER if self.cdr.ringing.is_none() => Code::NOT_AVAILABLE,
            code => code,
        };
        self.branch_failed(cx, id, why.q850(said.q850).code(code));
    }

    /// A trunk that says 503 with Retry-After is left alone for so long (RFC 3261 §21.5.4).
    fn rest(&mut self, cx: &mut CallContext<'_>, id: u16, message: &Message) {
        let Some(seconds) = message.header(HeaderName::RetryAfter).and_then(delta_seconds) else {
            return;
        };
        let Some(BranchTarget::Trunk { name, .. }) =
            self.branches.get(id).map(|b| b.target.clone())
        else {
            return;
        };
        let until = cx.now + Duration::from_secs(u64::from(seconds.min(300)));
        if let Some(trunk) = cx.services.trunks.get_mut(&name) {
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

/// The confirmed dialog of a 2xx: the fork's, so that its sequence goes on, with the 2xx's route
/// set.
fn confirmed(branch: &mut Branch, message: &Message, tag: &str) -> Option<Dialog> {
    let mut dialog = dialog_of(branch, message)?;
    if let Some(fork) = branch.fork_mut(tag) {
        dialog.local_cseq = dialog.local_cseq.max(fork.dialog.local_cseq);
        dialog.remote_cseq = fork.dialog.remote_cseq;
    }
    Some(dialog)
}

/// What a callee's final status says, by the registry of errors; `proved` where it had our
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
