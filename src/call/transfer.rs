//! Transfers (RFC 3515, RFC 3892, RFC 4488, RFC 3891, RFC 5589): one party hands the other over.
//!
//! ```text
//!   Talking --REFER--> Routing: the other party is connected by the referrer's own dialplan
//!      ^                  | answered: NOTIFY 200, the referrer leaves
//!      +------ failed: NOTIFY 4xx, the old call continues
//! ```
//! The gateway makes the new call itself, under the rules of one the referrer makes; the party
//! handed over notices nothing but another voice. While it is under way the referrer's leg is
//! *set aside*. A trunk with `refer = "pass"` is asked to do it instead. Two calls of the
//! referrer are joined by `joined.rs`, whether the second was answered or rings.

use super::branch::{BranchState, BranchTarget};
use super::context::{Followup, InDialogRequest, Join};
use super::leg::{Composed, Leg};
use super::transfer_state::{LEAVE, ReferSubscription, Replaces, Transfer};
use super::{Call, CallContext, CallId, CallPhase, CallTimer, EndReason, HangupBy};
use crate::cdr::Party;
use crate::config::Refer;
use crate::dialplan::{Attempt, Permits};
use crate::errors::Code;
use crate::event::Event;
use crate::fraud::DialledNumber;
use crate::media::LegId;
use crate::sip::build::{MessageWriter, name_addr};
use crate::sip::header::{NameAddr, delta_seconds};
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::{Method, Reason, Refusal, reason_phrase};
use crate::sip::transaction::ServerId;
use crate::sip::uri::{Scheme, escape_user, unescape};

/// Transfers of one call.
const MAX_TRANSFERS: usize = 20;
/// What one party was not told yet of its transfers, because it does not answer the NOTIFY before;
/// until it does it transfers nothing more.
const MAX_UNTOLD: usize = 8;

impl Call {
    /// A REFER within the call.
    pub(super) fn refer(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        server: ServerId,
        message: &Message,
    ) {
        match self.judge_refer(cx, end, message) {
            Err(why) => cx.refuse_with(server, message, &why),
            // Whoever sent it was told that the transfer is over.
            Ok(_) if self.was_taken_before(end, message) => {
                self.accept_refer(cx, server, message, is_watched(message));
            }
            Ok(wish) => self.take_refer(cx, end, server, message, wish),
        }
    }

    fn judge_refer(
        &self,
        cx: &CallContext<'_>,
        end: LegId,
        message: &Message,
    ) -> Result<TransferRequest, Refusal> {
        let other = self.opposite(end).filter(|_| {
            self.state == CallPhase::Talking
                && self.uas.is_finished()
                && !self.transfer.is_under_way()
        });
        let Some(other) = other else {
            return Err(Refusal::new(
                491,
                "there are no two parties that talk, or a transfer is under way",
            ));
        };
        let leg = self.leg_of(end).ok_or_else(|| Refusal::new(481, "there is no such leg"))?;
        let party = &leg.party;
        let allowed = match party {
            Party::User { .. } => leg.account.as_ref().is_some_and(|u| u.refer),
            Party::Trunk(name) => {
                cx.config.trunks.get(name).is_some_and(|t| t.refer == Refer::Execute)
            }
            Party::Number(_) | Party::Internal(_) => false,
        };
        if !allowed {
            return Err(Refusal::new(
                403,
                format!("{party} may not transfer calls: refer = … decides"),
            ));
        }
        if leg.to_tell.len() >= MAX_UNTOLD {
            let why = format!("{party} has not answered what it was told of its transfers");
            return Err(Refusal::new(503, why).code(Code::LIMIT).retry_after(10));
        }
        if self.cdr.transfers.len() >= MAX_TRANSFERS {
            return Err(Refusal::new(
                403,
                format!("this call was transferred {MAX_TRANSFERS} times already"),
            ));
        }
        let (number, replaces) = refer_to(message)?;
        let trunk = self.leg_of(other).and_then(|l| cx.config.trunks.get(l.party.trunk()?));
        let passes = trunk.is_some_and(|t| t.refer == Refer::Pass);
        Ok(TransferRequest { number, replaces, passes })
    }

    fn take_refer(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        server: ServerId,
        message: &Message,
        wish: TransferRequest,
    ) {
        let wanted = is_watched(message);
        let id = (!self.cdr.transfers.is_empty()).then(|| message.cseq().map_or(0, |c| c.number));
        let watcher = ReferSubscription { end, id, wanted };
        let transfer = if wish.passes { Transfer::passed(watcher) } else { Transfer::new(watcher) };
        // Another node has the call that is meant: who is in it is called anew from here, and rings
        // once more.
        let elsewhere = wish.replaces.as_ref().is_some_and(|replaces| is_elsewhere(cx, replaces));
        if let Some(replaces) = wish.replaces.filter(|_| !elsewhere) {
            let ends = [&replaces.to_tag, &replaces.from_tag]
                .into_iter()
                .find_map(|t| cx.services.dialogs.get(t).copied());
            let Some((there, drop_there)) = ends.filter(|(call, _)| *call != self.id) else {
                return cx.refuse_with(
                    server,
                    message,
                    &Refusal::new(481, "Replaces names no dialog of this gateway"),
                );
            };
            self.accept_refer(cx, server, message, wanted);
            self.transfer.begin(transfer);
            let join = Join { here: self.id, drop_here: Some(end), there, drop_there, replaces };
            return cx.follow_up(Followup::Join(join));
        }
        // Whoever makes the call: it is one of who asks for it.
        let account = self.leg_of(end).and_then(|leg| leg.account.clone());
        let found = self.route_for(cx, end, &wish.number).and_then(|found| {
            self.may_transfer(cx, account.as_deref(), &found.1)?;
            if let Some(account) = account.as_deref().filter(|_| wish.passes) {
                cx.may_spend(None, account, DialledNumber::of(Some(&found.1), &found.2))?;
            }
            Ok(found)
        });
        let (context, route, number) = match found {
            Ok(found) => found,
            Err(why) => return cx.refuse_with(server, message, &why),
        };
        self.accept_refer(cx, server, message, wanted);
        if wish.passes {
            self.transfer.begin(transfer);
            return self.pass_refer(cx, end, &wish.number, None);
        }
        self.hand_to(cx, transfer, context, route, number);
    }

    /// Puts who leaves aside, and takes the route of the new party: context, route and number.
    pub(super) fn hand_to(
        &mut self,
        cx: &mut CallContext<'_>,
        transfer: Transfer,
        context: String,
        route: crate::dialplan::Route,
        number: String,
    ) {
        let end = transfer.by();
        self.media.forget_hold();
        if let Some(by) = self.leg_of(end).map(|l| l.party.clone()) {
            cx.note(Event::Transferring { call: self.id, by, to: number.clone() });
        }
        self.cdr.transfers.push(number.clone());
        let by_caller = self.set_aside(cx, end);
        self.transfer.begin(transfer.of_caller(by_caller));
        self.notify_transferor(cx, 100);
        self.cdr.context = context;
        self.route.forward(route, number);
        self.state = CallPhase::Routing;
        self.next_step(cx);
    }

    fn accept_refer(
        &self,
        cx: &mut CallContext<'_>,
        server: ServerId,
        message: &Message,
        wanted: bool,
    ) {
        let mut response = MessageWriter::response(message, 202, None);
        if !wanted {
            response.put(HeaderName::ReferSub, "false");
        }
        cx.respond(server, 202, response.end());
    }

    /// The same policy as for a new call of the referrer.
    ///
    /// # Errors
    /// The refusal a new call would get.
    pub(super) fn route_for(
        &self,
        cx: &CallContext<'_>,
        end: LegId,
        dialled: &str,
    ) -> Result<(String, crate::dialplan::Route, String), Refusal> {
        let leg = self.leg_of(end);
        let context = match leg.map(|l| &l.party) {
            Some(Party::User { .. }) => {
                leg.and_then(|l| l.account.as_ref()).map(|u| u.context.clone())
            }
            Some(Party::Trunk(name)) => cx.config.trunks.get(name).and_then(|t| t.context.clone()),
            _ => None,
        };
        let context = context.ok_or_else(|| Refusal::new(403, "who transfers has no dialplan"))?;
        let permits = leg.map_or(Permits::NONE, Leg::permits);
        let verdict = cx
            .config
            .plan
            .route(&Attempt { context: &context, dialled, unix: cx.unix(), permits })
            .ok_or_else(|| Refusal::new(500, "the dialplan does not exist"))?;
        let (route, number) = verdict.decide(&context)?;
        Ok((context, route, number))
    }

    /// Puts the leg of `end` aside; the other party becomes the one who is connected. Returns true
    /// if it was the caller's, whose place the other party has taken.
    pub(super) fn set_aside(&mut self, cx: &mut CallContext<'_>, end: LegId) -> bool {
        self.release_transferor(cx);
        let Some(mut branch) = self.branches.take_answered() else { return false };
        let user = self.leg_of(end).unwrap_or(&branch.leg).account.clone();
        let by_caller = branch.leg.end != end;
        let mut presented_number = None;
        if by_caller {
            // The caller hands over: its callee is now the party to connect.
            std::mem::swap(&mut self.caller, &mut branch.leg);
            presented_number = Some(match &branch.target {
                BranchTarget::Trunk { number, .. } => number.clone(),
                BranchTarget::User { name, .. } => name.clone(),
                BranchTarget::Joined => String::new(),
            });
        }
        self.media.begin_anew();
        for end in [self.caller.end, branch.leg.end] {
            self.media.unbridge(cx, end);
        }
        self.transfer.set_aside(branch, user, presented_number);
        by_caller
    }

    /// Says goodbye to whose leg is still set aside.
    pub(super) fn release_transferor(&mut self, cx: &mut CallContext<'_>) {
        cx.disarm(self.id, CallTimer::Transferred);
        if let Some(mut transferor) = self.transfer.take_transferor() {
            transferor.leg.hang_up(cx, self.id, &Reason::new(200, "the call was transferred"));
            self.branches.retire(transferor.names());
            self.close_end(cx, transferor.leg.end);
        }
    }

    fn close_end(&self, cx: &mut CallContext<'_>, end: LegId) {
        if self.state != CallPhase::Over {
            self.media.close_end(cx, end);
        }
    }

    /// A leg that was set aside is gone. Returns false if the end is not one.
    pub(super) fn on_transferor_gone(&mut self, cx: &mut CallContext<'_>, end: LegId) -> bool {
        let Some(mut transferor) = self.transfer.take_transferor_at(end) else { return false };
        transferor.leg.stop_timers(cx, self.id);
        self.branches.retire(transferor.names());
        cx.disarm(self.id, CallTimer::Transferred);
        self.close_end(cx, end);
        true
    }

    /// The leg of an end has failed, and its peer may not know: the call is over, unless the leg
    /// was set aside, which then goes alone.
    pub(super) fn leg_failed(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        (by, why): (HangupBy, Refusal),
    ) {
        match self.transfer.transferor_mut().filter(|transferor| transferor.leg.end == end) {
            Some(transferor) => {
                transferor.leg.hang_up(cx, self.id, &why.reason());
                self.on_transferor_gone(cx, end);
            }
            None => self.finish(cx, EndReason::refused(by, why)),
        }
    }

    /// NOTIFY with the state of the transfer as a sipfrag (RFC 3515 §2.4.5); a final status ends
    /// the subscription.
    fn notify_transferor(&mut self, cx: &mut CallContext<'_>, status: u16) {
        let call = self.id;
        let Some(watcher) = self.transfer.progress(status) else { return };
        if let Some(leg) = self.leg_mut(watcher.end) {
            // Of what has not ended only the newest is told, however often the target rings.
            let supersedes = |(of, last): &(ReferSubscription, u16)| *of == watcher && *last < 200;
            if status < 200 && leg.to_tell.back().is_some_and(supersedes) {
                leg.to_tell.pop_back();
            }
            leg.to_tell.push_back((watcher, status));
            leg.notify(cx, call);
        }
    }

    /// A NOTIFY was answered: the next may go.
    pub(super) fn notify_done(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        let call = self.id;
        if let Some(leg) = self.leg_mut(end) {
            leg.notifying = false;
            leg.notify(cx, call);
        }
    }

    /// The new party rings.
    pub(super) fn transfer_progress(&mut self, cx: &mut CallContext<'_>, status: u16) {
        self.notify_transferor(cx, status);
    }

    /// The new party answered: the referrer is done.
    pub(super) fn transfer_answered(&mut self, cx: &mut CallContext<'_>) {
        if !self.transfer.is_under_way() || self.state == CallPhase::Over {
            return;
        }
        self.notify_transferor(cx, 200);
        self.transfer.end();
        self.cdr.transfer_failed = None;
        if self.transfer.transferor().is_some() {
            // RFC 5589 §6.1: the referrer hangs up itself; one that does not is helped.
            cx.arm(self.id, CallTimer::Transferred, LEAVE);
        }
    }

    /// The new party cannot be had: the old call continues, if the referrer is still there.
    pub(super) fn transfer_failed(&mut self, cx: &mut CallContext<'_>, why: Refusal) {
        self.notify_transferor(cx, why.status.max(400));
        if self.awaits_other_half() {
            self.part_with_other_half(cx);
        }
        let by_caller = self.transfer.end();
        let Some(mut transferor) = self.transfer.bring_back() else {
            return self.finish(cx, EndReason::refused(HangupBy::Us, why));
        };
        let target = self.cdr.transfers.last().map_or("the target", String::as_str);
        self.cdr.transfer_failed = Some(format!(
            "the transfer to {target} failed with {}, and the call continued: {}",
            why.status, why.why
        ));
        cx.note(Event::TransferFailed { call: self.id, status: why.status, why: why.why });
        if by_caller {
            // Each party is again who it was: a BYE of the caller's is the caller's.
            std::mem::swap(&mut self.caller, &mut transferor.leg);
        }
        transferor.state = BranchState::Answered;
        let end = transferor.leg.end;
        self.branches.push_answered(transferor);
        self.state = CallPhase::Talking;
        self.media.step_over();
        self.media.bridge(cx, self.caller.end, end);
    }

    /// Hands the transfer on to the trunk opposite to the referrer.
    pub(crate) fn pass_refer(
        &mut self,
        cx: &mut CallContext<'_>,
        referrer: LegId,
        number: &str,
        replaces: Option<&Replaces>,
    ) {
        let call = self.id;
        let by = self.leg_of(referrer).and_then(Leg::number).unwrap_or_else(|| "anonymous".into());
        let domain = cx.config.domain.clone();
        let Some(leg) = self.opposite(referrer).and_then(|e| self.leg_mut(e)) else { return };
        let Party::Trunk(name) = &leg.party else { return };
        let host = cx
            .config
            .trunks
            .get(name)
            .and_then(|t| t.uri.as_ref())
            .map_or(domain.clone(), |u| u.address());
        let embedded = replaces.map(|r| {
            format!(
                "?Replaces={}",
                escape_header(&format!(
                    "{};to-tag={};from-tag={}",
                    r.call_id, r.to_tag, r.from_tag
                ))
            )
        });
        let target = format!("sip:{}@{host}{}", escape_user(number), embedded.unwrap_or_default());
        let hop = leg.hop;
        let Some((mut refer, branch, _)) = leg.begin(cx, Method::Refer) else { return };
        refer.put(HeaderName::Contact, cx.contact(hop, "call"));
        refer.put(HeaderName::ReferTo, name_addr("", &target));
        refer.put(
            HeaderName::ReferredBy,
            name_addr("", &format!("sip:{}@{domain}", escape_user(&by))),
        );
        leg.ask(
            cx,
            call,
            Composed { method: Method::Refer, branch: &branch, bytes: refer.end() },
            InDialogRequest::Refer,
        );
        self.notify_transferor(cx, 100);
    }

    /// The trunk took, or refused, the transfer.
    pub(super) fn pass_answered(
        &mut self,
        cx: &mut CallContext<'_>,
        _end: LegId,
        status: u16,
        _message: Option<&Message>,
    ) {
        if status >= 300 {
            self.notify_transferor(cx, status);
            self.transfer.end();
        }
    }

    /// NOTIFY of a trunk that executes a transfer: its progress is passed on to the referrer.
    pub(super) fn notified(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        server: ServerId,
        message: &Message,
    ) {
        let event = message
            .header(HeaderName::Event)
            .map(|e| e.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        let ours = event.as_deref() == Some("refer") && self.transfer.is_executed_by(end);
        if !ours {
            let status = if event.as_deref() == Some("refer") { 481 } else { 489 };
            return cx.refuse(
                server,
                message,
                &Refusal::new(status, "there is no such subscription"),
            );
        }
        cx.respond(server, 200, MessageWriter::response(message, 200, None).end());
        let said = message.body_of("message/sipfrag").and_then(sipfrag_status);
        let ended = message
            .header(HeaderName::SubscriptionState)
            .and_then(|s| s.split(';').next())
            .is_some_and(|state| state.trim().eq_ignore_ascii_case("terminated"));
        let Some(status) = said.or(ended.then_some(200)) else { return };
        self.notify_transferor(cx, status);
        if (200..300).contains(&status) {
            self.transfer.end();
            self.cdr.transfers.push("by the trunk".into());
            self.finish(cx, EndReason::normal(HangupBy::Us, "the trunk has taken the call over"));
        } else if status >= 300 {
            self.transfer.end();
        }
    }

    /// The gateway joined this call with another, or could not.
    pub(crate) fn on_joined(&mut self, cx: &mut CallContext<'_>, outcome: Result<CallId, Refusal>) {
        match outcome {
            Ok(other) => {
                self.cdr.transfers.push(format!("joined with call {other}"));
                self.notify_transferor(cx, 200);
            }
            Err(why) => self.notify_transferor(cx, why.status),
        }
        self.transfer.end();
        if self.transfer.transferor().is_some() {
            cx.arm(self.id, CallTimer::Transferred, LEAVE);
        }
    }
}

/// Whether the sender of a REFER is to be told how the transfer goes (RFC 4488).
fn is_watched(refer: &Message) -> bool {
    let watches = refer.header(HeaderName::ReferSub);
    !watches.is_some_and(|value| value.trim().eq_ignore_ascii_case("false"))
}

/// The number of a REFER's target, and the dialog that its INVITE is to replace.
fn refer_to(message: &Message) -> Result<(String, Option<Replaces>), Refusal> {
    let mut targets = message.values(HeaderName::ReferTo);
    let (Some(target), None) = (targets.next(), targets.next()) else {
        return Err(Refusal::new(400, "REFER needs exactly one Refer-To"));
    };
    let target =
        NameAddr::parse_bare(target).map_err(|e| Refusal::new(400, format!("Refer-To: {e}")))?;
    if target.uri.scheme == Scheme::Other {
        return Err(Refusal::new(416, "only sip, sips and tel can be called"));
    }
    if target.uri.params.get("method").is_some_and(|m| !m.eq_ignore_ascii_case("INVITE")) {
        return Err(Refusal::new(403, "only INVITE is done on someone's behalf"));
    }
    // Of the URI's headers only Replaces counts; anything else embedded there is ignored.
    let mut embedded =
        target.uri.headers.into_iter().flat_map(|h| h.split('&')).filter_map(|h| h.split_once('='));
    let replaces = embedded.find(|(n, _)| n.eq_ignore_ascii_case("Replaces"));
    let replaces = replaces.map(|(_, value)| {
        Replaces::parse(&unescape(value))
            .ok_or_else(|| Refusal::new(400, "Replaces in Refer-To cannot be read"))
    });
    Ok((target.uri.number(), replaces.transpose()?))
}

impl super::Leg {
    /// Sends the next NOTIFY of a transfer, unless one is open.
    fn notify(&mut self, cx: &mut CallContext<'_>, call: CallId) {
        if self.notifying {
            return;
        }
        let Some((watcher, status)) = self.to_tell.pop_front() else { return };
        let hop = self.hop;
        let Some((mut notify, branch, _)) = self.begin(cx, Method::Notify) else { return };
        notify.put(HeaderName::Contact, cx.contact(hop, "call"));
        match watcher.id {
            Some(id) => notify.put(HeaderName::Event, format_args!("refer;id={id}")),
            None => notify.put(HeaderName::Event, "refer"),
        }
        let state = if status < 200 { "active;expires=60" } else { "terminated;reason=noresource" };
        notify.put(HeaderName::SubscriptionState, state);
        let body = format!("SIP/2.0 {status} {}\r\n", reason_phrase(status));
        self.ask(
            cx,
            call,
            Composed {
                method: Method::Notify,
                branch: &branch,
                bytes: notify.end_with("message/sipfrag;version=2.0", body.as_bytes()),
            },
            InDialogRequest::Notify,
        );
        self.notifying = true;
    }
}

/// What a REFER asks for.
struct TransferRequest {
    number: String,
    replaces: Option<Replaces>,
    passes: bool,
}

/// Whether the dialog that is named may be another node's, and is none of this one.
fn is_elsewhere(cx: &CallContext<'_>, replaces: &Replaces) -> bool {
    let tags = [&replaces.to_tag, &replaces.from_tag];
    let here = tags.iter().any(|tag| cx.services.dialogs.contains_key(*tag));
    let cluster = cx.services.cluster.as_ref().filter(|_| !here);
    cluster.is_some_and(|cluster| tags.iter().any(|tag| !cluster.bearers(tag).is_empty()))
}

/// The status of a sipfrag's start line (RFC 3420).
fn sipfrag_status(body: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(body).ok()?;
    let rest = text.trim_start().strip_prefix("SIP/2.0 ")?;
    rest.get(..3).and_then(delta_seconds).map(|n| n as u16).filter(|n| (100..700).contains(n))
}

/// Escapes a text for a header within a URI (RFC 3261 §19.1.1 `hvalue`).
fn escape_header(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"-_.!~*'()[]/?:+$".contains(&b) {
            out.push(b as char);
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sipfrag_is_its_status() {
        assert_eq!(sipfrag_status(b"SIP/2.0 180 Ringing\r\n"), Some(180));
        for bad in ["", "SIP/2.0", "SIP/2.0 99x", "HTTP/1.1 200 OK", "SIP/2.0 999 No"] {
            assert_eq!(sipfrag_status(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn replaces_is_read_and_escaped() {
        let text = "a@b;to-tag=1&x=\";from-tag=2;early-only";
        let read = unescape(&escape_header(text)).into_owned();
        assert_eq!((read.as_str(), Replaces::parse(&read)), (text, Replaces::parse(text)));
        assert!(Replaces::parse("a@b;to-tag=1;from-tag=2").is_some_and(|r| r.to_tag == "1"));
    }
}
