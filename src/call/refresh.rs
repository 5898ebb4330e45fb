//! Requests of ours within a dialog and what came of them: session refreshes (RFC 4028), glare (RFC
//! 3261 §14.1), probes, and the end of a call whose peer has forgotten it.

use super::challenge::repeated;
use super::context::InDialogRequest;
use super::leg::{Composed, PendingOffer, RefreshKind};
use super::retries::{Retries, Retry};
use super::{Call, CallContext, CallPhase, CallTimer, EndReason, HangupBy, Party};
use crate::errors::Code;
use crate::media::LegId;
use crate::sip::dialog::Dialog;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::session_timer::{MIN_SE, Refresher, SessionExpires, SessionTimer, min_se};
use crate::sip::status::{ALLOW, Method, Refusal};
use crate::sip::transaction::{ClientId, Hop};
use std::time::Duration;

/// How soon a browser of another node is asked again that did not answer.
const ELSEWHERE_AGAIN: Duration = Duration::from_secs(20);

impl Call {
    /// Whose leg it is in the record, which a transfer does not turn round: who called is the
    /// caller.
    pub(super) fn hangup_by(&self, end: LegId) -> HangupBy {
        if end == self.cdr.caller_end { HangupBy::Caller } else { HangupBy::Callee }
    }

    /// The session timer of a leg fired: our refresh is due, or the peer forgot its own.
    pub(super) fn session_due(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        let by = self.hangup_by(end);
        let Some(leg) = self.leg_of(end) else { return };
        let Some(timer) = leg.session else { return };
        let over = leg.session_ends.is_some_and(|ends| cx.now >= ends);
        if over && leg.is_elsewhere() {
            // Its node may be cut off while its media lives, and that tells when it does not.
            if timer.refresher == Refresher::Us {
                self.refresh(cx, end, RefreshKind::KeepAlive);
            }
            return cx.arm(self.id, CallTimer::Session(end), ELSEWHERE_AGAIN);
        }
        if over && leg.flow_lost {
            // Nothing can be heard of it; how long that may last is the grace's to say.
            let left = leg.grace_left(cx.config, cx.now).max(Duration::from_secs(1));
            return cx.arm(self.id, CallTimer::Session(end), left);
        }
        if over {
            let why =
                format!("{} let the session of {} s expire (RFC 4028)", leg.party, timer.interval);
            let why = Refusal::new(408, why).q850(Some(102)).code(Code::SESSION_TIMER);
            return self.leg_failed(cx, end, (by, why));
        }
        if timer.refresher == Refresher::Us {
            self.refresh(cx, end, RefreshKind::KeepAlive);
        }
        if let Some(leg) = self.leg_of(end)
            && let Some(ends) = leg.session_ends
        {
            cx.arm(self.id, CallTimer::Session(end), ends.saturating_duration_since(cx.now));
        }
    }

    /// Sends a session refresh: UPDATE if the peer takes it, else a re-INVITE with what is agreed;
    /// one that restarts ICE is a re-INVITE.
    pub(super) fn refresh(&mut self, cx: &mut CallContext<'_>, end: LegId, kind: RefreshKind) {
        let call = self.id;
        let codecs = self.codecs_for(cx, end);
        let Some(leg) = self.leg_mut(end) else { return };
        if !leg.is_between_exchanges() {
            // Something is being settled: that refreshes the session too, or we come back soon.
            return cx.arm(call, CallTimer::Glare(end), Duration::from_secs(2));
        }
        let keeps = kind == RefreshKind::KeepAlive;
        let method = if leg.peer.update && keeps { Method::Update } else { Method::Invite };
        let hop = leg.hop;
        let Some((mut request, branch, cseq)) = leg.begin(cx, method) else { return };
        request.put(HeaderName::Contact, cx.contact(hop, "call"));
        request.put(HeaderName::Allow, ALLOW);
        request.put(HeaderName::Supported, "timer, 100rel, replaces");
        if let Some(timer) = leg.session {
            let value = SessionExpires {
                seconds: timer.interval,
                refresher_uac: Some(timer.refresher == Refresher::Us),
            };
            request.put(HeaderName::SessionExpires, value);
            request.put(HeaderName::MinSe, MIN_SE);
        }
        let offers = method == Method::Invite;
        let bytes = if offers {
            let sdp = leg.negotiation.reoffer(&codecs);
            request.end_with("application/sdp", sdp.as_bytes())
        } else {
            request.end()
        };
        let client = leg.ask(
            cx,
            call,
            Composed { method, branch: &branch, bytes },
            InDialogRequest::Refresh,
        );
        leg.open = Some(PendingOffer { method, cseq, offers, kind, client });
    }

    /// The pause after a 491 is over (RFC 3261 §14.1).
    pub(super) fn glare_over(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        self.refresh(cx, end, RefreshKind::KeepAlive);
    }

    /// Asks the peer of `end` whether it still knows the dialog: a browser that came back may have
    /// been reloaded, and then nobody is there.
    pub(crate) fn probe(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        let call = self.id;
        let answered = end != self.caller.end || self.uas.is_finished();
        let asks = answered && self.state != CallPhase::Over;
        let Some(leg) = self.leg_mut(end).filter(|_| asks) else { return };
        if let Some((request, branch, _)) = leg.begin(cx, Method::Options) {
            let asked = leg.ask(
                cx,
                call,
                Composed { method: Method::Options, branch: &branch, bytes: request.end() },
                InDialogRequest::Probe,
            );
            leg.probe = Some(asked);
        }
    }

    /// A response, or none (`message` is missing: time is over), to a request of ours within a
    /// dialog.
    pub(crate) fn on_in_dialog_response(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        asked: InDialogRequest,
        client: ClientId,
        message: Option<&Message>,
    ) {
        let status = message.map_or(408, Message::status);
        if status < 200 {
            return;
        }
        if self.leg_of(end).is_some_and(|leg| !leg.asked_within(client)) {
            return;
        }
        if let (InDialogRequest::Info, Some(leg)) = (asked, self.leg_mut(end)) {
            leg.answered_one();
        }
        if self.state == CallPhase::Over {
            if let (200..=299, InDialogRequest::Refresh, Some(message)) = (status, asked, message) {
                self.acknowledge_refresh(cx, end, message);
            }
            return;
        }
        if asked == InDialogRequest::Probe
            && !self.probe_answered(cx, end, client, message.is_some())
        {
            return;
        }
        if asked == InDialogRequest::Probe && matches!(self.party_of(end), Some(Party::Trunk(_))) {
            return self.trunk_answered_probe(cx, end, message.map(Message::status));
        }
        if asked == InDialogRequest::Refresh && self.refreshed(cx, end, client, message) {
            return;
        }
        if asked == InDialogRequest::Notify {
            return self.notify_done(cx, end);
        }
        if asked == InDialogRequest::Info && status >= 300 {
            self.cdr.digits_refused[usize::from(end != self.caller.end)] += 1;
        }
        if asked == InDialogRequest::Refer {
            return self.pass_answered(cx, end, status, message);
        }
        // RFC 5057 §5.1: these say that the dialog, not only the request, is gone.
        let gone = match asked {
            InDialogRequest::Prack => false,
            _ => {
                matches!(status, 404 | 410 | 416 | 480 | 481 | 482 | 483 | 484 | 485 | 502 | 604)
                    || (status == 408 && asked != InDialogRequest::Info)
            }
        };
        let gone = gone && !(message.is_none() && self.is_away(cx, end));
        let reloaded = gone && asked == InDialogRequest::Probe && message.is_some();
        if reloaded && self.page_forgot(cx, end) {
            return;
        }
        if gone && !self.on_transferor_gone(cx, end) {
            self.dialog_gone(cx, end, message.map(Message::status));
        }
    }

    /// The peer of an end does not know the call any more, by this status, or says nothing.
    fn dialog_gone(&mut self, cx: &mut CallContext<'_>, end: LegId, status: Option<u16>) {
        let by = self.hangup_by(end);
        let Some(leg) = self.leg_of(end) else { return };
        let unreachable = cx.services.locator.why(leg.hop).filter(|_| status.is_none());
        let why = if let Some((code, why)) = unreachable {
            let why = format!("{} cannot be reached any more: {why}", leg.party);
            Refusal::new(408, why).code(code)
        } else {
            let status = status.unwrap_or(408);
            let why = format!("{} does not know the call any more ({status})", leg.party);
            Refusal::new(481, why)
        };
        self.finish(cx, EndReason::refused(by, why));
    }

    /// Whether a browser's flow is gone, or is another node's that may be cut off, so that its
    /// silence says nothing.
    fn is_away(&self, cx: &CallContext<'_>, end: LegId) -> bool {
        self.leg_of(end).is_some_and(|leg| match (&leg.party, leg.hop) {
            (Party::User { .. }, Hop::Flow(flow)) => !cx.services.flows.contains_key(&flow),
            (Party::User { .. }, Hop::Node(_)) => true,
            (Party::User { .. }, _) => leg.flow_lost,
            _ => false,
        })
    }

    /// Whether a refusal says no more than that ICE is not restarted: noted.
    fn is_restart_refused(&mut self, end: LegId, open: PendingOffer) -> bool {
        if open.restarts_ice() {
            self.restart_refused(end);
        }
        open.restarts_ice()
    }

    /// What a final response to a refresh asks for. Returns false if the general rules decide.
    fn refreshed(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        client: ClientId,
        message: Option<&Message>,
    ) -> bool {
        let Some(message) = message else {
            let Some(leg) = self.leg_mut(end) else { return false };
            let open = leg.open.take();
            leg.negotiation.withdraw_offer();
            if open.is_some_and(|open| open.kind == RefreshKind::Relocate) {
                self.relocation_refused(cx, end, "it does not answer");
                return true;
            }
            if leg.is_elsewhere() {
                let call = self.id;
                cx.arm(call, CallTimer::Glare(end), ELSEWHERE_AGAIN);
            }
            return open.is_some_and(|open| self.is_restart_refused(end, open));
        };
        let call = self.id;
        let wait = self.glare_wait(cx, end);
        if (200..300).contains(&message.status()) {
            self.acknowledge_refresh(cx, end, message);
        }
        let Some(leg) = self.leg_mut(end) else { return true };
        // The 2xx of an INVITE comes again and again; only its first matters.
        let Some(open) = leg.open.filter(|o| o.client == client) else { return true };
        leg.open = None;
        match message.status() {
            200..=299 => self.refresh_accepted(cx, end, open, message),
            422 => {
                leg.negotiation.withdraw_offer();
                let asked = min_se(message);
                let longer = leg.session.filter(|t| asked > t.interval && asked <= 86_400);
                if let Some(timer) = longer.filter(|_| leg.retries.allow(Retry::TooBrief)) {
                    leg.session = Some(SessionTimer { interval: asked, ..timer });
                    self.refresh(cx, end, RefreshKind::KeepAlive);
                }
            }
            491 => {
                leg.negotiation.withdraw_offer();
                if leg.retries.allow(Retry::Glare) {
                    let timer =
                        if open.restarts_ice() { CallTimer::Path } else { CallTimer::Glare };
                    cx.arm(call, timer(end), wait);
                }
            }
            status => {
                leg.negotiation.withdraw_offer();
                if open.kind == RefreshKind::Relocate {
                    self.relocation_refused(cx, end, &format!("it answers {status}"));
                    return true;
                }
                if matches!(status, 408 | 481) {
                    return self.is_restart_refused(end, open);
                }
                if open.restarts_ice() {
                    return true;
                }
                // RFC 4028 §10: the session continues until it expires; a retry may still save it.
                if leg.retries.allow(Retry::Refused) {
                    cx.arm(call, CallTimer::Glare(end), Duration::from_secs(10));
                }
            }
        }
        true
    }

    /// RFC 3261 §14.1: the owner of the Call-ID waits 2.1 to 4 s, the other 0 to 2 s.
    fn glare_wait(&mut self, cx: &mut CallContext<'_>, end: LegId) -> Duration {
        let owner = self.leg_of(end).is_some_and(|l| l.owns_call_id);
        let ms = Duration::from_millis;
        if owner { cx.between(ms(2_100), ms(4_000)) } else { cx.between(ms(10), ms(2_000)) }
    }

    fn acknowledge_refresh(&mut self, cx: &mut CallContext<'_>, end: LegId, message: &Message) {
        let Some(leg) = self.leg_mut(end) else { return };
        let number = match message.cseq() {
            Some(cseq) if cseq.method == "INVITE" => cseq.number,
            Some(_) => return,
            // Matched by its branch; which INVITE of ours is open is known here.
            None => match leg.open {
                Some(open) if open.method == Method::Invite => open.cseq,
                _ => return,
            },
        };
        let hop = leg.hop;
        if let Some((last, ack)) = &leg.last_ack
            && *last == number
        {
            let ack = ack.clone();
            return cx.send(hop, ack);
        }
        leg.refresh_target(message);
        let (_, via) = cx.via(hop);
        let Some(dialog) = &leg.dialog else { return };
        let mut ack = dialog.request_with(Method::Ack, number, &via);
        repeated(cx, leg.open.as_ref().map(|open| open.client), leg)
            .into_iter()
            .for_each(|(name, value)| ack.put(name, value));
        let ack = ack.end();
        leg.last_ack = Some((number, ack.clone()));
        cx.send(hop, ack);
    }

    /// A 2xx to an INVITE within a dialog whose transaction is over. Its sender is let go; what it
    /// answered was withdrawn, and is asked anew if it still matters.
    pub(crate) fn late_success(&mut self, cx: &mut CallContext<'_>, end: LegId, message: &Message) {
        let Some(number) = message.cseq().map(|cseq| cseq.number) else { return };
        let Some(leg) = self.leg_of(end) else { return };
        let hop = leg.hop;
        let ours = |dialog: &&Dialog| dialog.is_answered_by(message) && number <= dialog.local_cseq;
        if let Some(dialog) = leg.dialog.as_ref().filter(ours) {
            let (_, via) = cx.via(hop);
            cx.send(hop, dialog.request_with(Method::Ack, number, &via).end());
        }
    }

    /// A 2xx that was acknowledged before came again.
    pub(super) fn acknowledge_again(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        message: &Message,
    ) {
        let known = |l: &super::Leg| {
            l.last_ack
                .as_ref()
                .is_some_and(|(number, _)| message.cseq().is_some_and(|c| c.number == *number))
        };
        if (200..300).contains(&message.status()) && self.leg_of(end).is_some_and(known) {
            self.acknowledge_refresh(cx, end, message);
        }
    }

    fn refresh_accepted(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        open: PendingOffer,
        message: &Message,
    ) {
        let (call, worker) = (self.id, self.media.worker());
        let Some(leg) = self.leg_mut(end) else { return };
        leg.retries = Retries::default();
        if open.offers {
            let before = leg.negotiation.clone();
            let body = message.body_of("application/sdp").unwrap_or_default().to_vec();
            let negotiated = leg.negotiation.receive_answer(&body).cloned();
            match negotiated {
                Ok(negotiated) if before.negotiated() == Some(&negotiated) => {}
                Ok(negotiated) if cx.media_policy().check(leg, &negotiated).is_ok() => {
                    leg.configure(cx, call, worker, &negotiated);
                }
                // What was agreed before stays, as the media does.
                Ok(_) => {
                    leg.negotiation = before;
                    leg.negotiation.withdraw_offer();
                }
                Err(_) => leg.negotiation.withdraw_offer(),
            }
        }
        self.restart_answered(end);
        let Some(leg) = self.leg_mut(end) else { return };
        let timer = SessionTimer::from_response(message)
            .or(leg.session.filter(|t| t.refresher == Refresher::Us));
        leg.run_session(cx, call, timer);
    }
}
