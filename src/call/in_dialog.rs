//! Requests within the call's dialogs: every one gets an answer.

use super::bodies::{check_parts, description};
use super::branch::BranchState;
use super::context::InDialogRequest;
use super::leg::Composed;
use super::{Call, CallContext, CallPhase, EndReason, HangupBy, dtmf_info};
use crate::media::{Digits, LegId};
use crate::sip::build::MessageWriter;
use crate::sip::cause::reason_of;
use crate::sip::dialog::Dialog;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::{ACCEPT, ALLOW, Method, Reason, Refusal, SUPPORTED};
use crate::sip::transaction::ServerId;
use std::time::Duration;

impl Call {
    /// The dialog of `end` that `message` names: the leg's own, or an early one of its branch.
    pub(crate) fn dialog_for(&self, end: LegId, message: &Message) -> Option<&Dialog> {
        let own = self.dialog_of(end).filter(|d| d.matches(message));
        own.or_else(|| {
            self.branches
                .of_end(end)?
                .early_dialogs
                .iter()
                .map(|f| &f.dialog)
                .find(|d| d.matches(message))
        })
    }

    fn dialog_for_mut(&mut self, end: LegId, message: &Message) -> Option<&mut Dialog> {
        if self.dialog_of(end).is_some_and(|d| d.matches(message)) {
            return self.leg_mut(end)?.dialog.as_mut();
        }
        let branch = self.branches.of_end_mut(end)?;
        branch.early_dialogs.iter_mut().map(|f| &mut f.dialog).find(|d| d.matches(message))
    }

    /// Whether an earlier process has done what this request asks for, if it was fit to be done.
    /// What was passed on then is not passed on again.
    pub(super) fn was_taken_before(&self, end: LegId, message: &Message) -> bool {
        self.dialog_of(end).is_some_and(|dialog| dialog.was_taken_before(message))
    }

    /// Whether the dialog of a request continues. A branch that was given up, or hung up, is in
    /// none any more, and one that has answered in no other than that.
    fn continues(&self, end: LegId, message: &Message) -> bool {
        let own = self.dialog_of(end).is_some_and(|dialog| dialog.matches(message));
        match self.branches.of_end(end) {
            Some(branch) if own => branch.state == BranchState::Answered,
            Some(branch) => branch.is_trying(),
            None => true,
        }
    }

    /// A request within one of the call's dialogs.
    pub(crate) fn on_request(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        server: ServerId,
        message: &Message,
    ) {
        let Some(dialog) = self.dialog_for_mut(end, message) else {
            return cx.refuse(server, message, &Refusal::new(481, "there is no such dialog"));
        };
        // A BYE that is late in its dialog is one all the same: its sender has gone.
        if dialog.accept(message).is_err() && message.method() != Method::Bye {
            return cx.refuse(
                server,
                message,
                &Refusal::new(500, "CSeq is lower than one already seen"),
            );
        }
        if message.method() != Method::Bye && !self.continues(end, message) {
            return cx.refuse(server, message, &Refusal::new(481, "the dialog has ended"));
        }
        if let Some(leg) = self.leg_mut(end) {
            leg.peer.learn(message);
            if message.method() != Method::Bye
                && let Err(why) = leg.take_request(cx.now)
            {
                return cx.refuse_with(server, message, &why);
            }
        }
        match message.method() {
            Method::Bye => self.bye_received(cx, end, server, message),
            _ if self.state == CallPhase::Over => {
                cx.refuse(server, message, &Refusal::new(481, "the call has ended"))
            }
            Method::Invite => self.reinvite(cx, end, server, message),
            Method::Update => self.update(cx, end, server, message),
            Method::Prack if end == self.caller.end && !self.uas.is_finished() => {
                self.prack(cx, server, message)
            }
            Method::Prack => cx.refuse(
                server,
                message,
                &Refusal::new(481, "PRACK for no reliable response of ours"),
            ),
            Method::Info => self.info(cx, end, server, message),
            Method::Refer => self.refer(cx, end, server, message),
            Method::Notify => self.notified(cx, end, server, message),
            Method::Message => self.message(cx, end, server, message),
            Method::Subscribe => cx.refuse(
                server,
                message,
                &Refusal::new(489, "no event package is served within a call"),
            ),
            Method::Options => {
                let mut response = MessageWriter::response(message, 200, None);
                response.put(HeaderName::Allow, ALLOW);
                response.put(
                    HeaderName::Supported,
                    self.leg_of(end).map_or(SUPPORTED.to_owned(), super::Leg::supported),
                );
                response.put(HeaderName::Accept, ACCEPT);
                cx.respond(server, 200, response.end());
            }
            _ => cx.refuse(
                server,
                message,
                &Refusal::new(405, format!("{} is not served in a call", message.method_token())),
            ),
        }
    }

    fn bye_received(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        server: ServerId,
        message: &Message,
    ) {
        cx.respond(server, 200, MessageWriter::response(message, 200, None).end());
        if self.on_transferor_gone(cx, end) {
            return;
        }
        let by = self.hangup_by(end);
        if end != self.caller.end && self.opposite(self.caller.end) != Some(end) {
            // A branch that lost the race says goodbye after our BYE crossed it, or an early fork
            // of it ends (RFC 3261 §15: allowed to a caller only, survived all the same).
            if let Some(branch) = self
                .branches
                .iter_mut()
                .find(|b| b.leg.end == end && b.state != BranchState::Answered)
            {
                branch.early_dialogs.retain(|f| !f.dialog.matches(message));
            }
            return;
        }
        if end == self.caller.end && !self.uas.is_finished() {
            // RFC 3261 §15.1.2: a BYE on an early dialog also ends the pending INVITE.
            return self.finish(
                cx,
                EndReason::refused(
                    by,
                    Refusal::new(487, "the caller hung up before the answer")
                        .code(crate::errors::Code::CANCELLED),
                ),
            );
        }
        if let Some(leg) = self.leg_mut(end) {
            leg.dialog = None;
        }
        self.finish(cx, EndReason::said(by, reason_of(message)));
    }

    /// Whether somebody talks to the other party at this end, in the dialog with these tags: of
    /// several answers to one INVITE, all but the first were hung up on.
    pub(crate) fn talks_in(&self, end: LegId, (local, remote): (&str, &str)) -> bool {
        let talks = end == self.caller.end || self.opposite(self.caller.end) == Some(end);
        let dialog = self.leg_of(end).and_then(|leg| leg.dialog.as_ref());
        let own = |d: &Dialog| d.id.local_tag == local && d.id.remote_tag == remote;
        talks && self.state != CallPhase::Over && dialog.is_some_and(own)
    }

    /// The process before said goodbye to `end`, for this reason: the other side had hung up by
    /// then.
    pub(crate) fn was_left(&mut self, cx: &mut CallContext<'_>, end: LegId, why: Reason) {
        let by = if end == self.cdr.caller_end { HangupBy::Callee } else { HangupBy::Caller };
        self.finish(cx, EndReason::said(by, why));
    }

    /// UPDATE (RFC 3311): a new offer, a new target, or a session refresh; answered at once.
    fn update(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        server: ServerId,
        message: &Message,
    ) {
        let granted = match self.leg_of(end).map(|leg| self.grant(cx, leg, message)) {
            Some(Ok(granted)) => granted,
            Some(Err(why)) => return cx.refuse_with(server, message, &why),
            None => return,
        };
        let body = match description(message) {
            Ok(body) => body.map(<[u8]>::to_vec),
            Err(why) => return cx.refuse_with(server, message, &why),
        };
        if let Some(dialog) = self.dialog_for_mut(end, message) {
            dialog.refresh_target(message);
        }
        let sdp = match body.map(|body| self.renegotiate(cx, end, &body)).transpose() {
            Ok(sdp) => sdp,
            Err(why) => return cx.refuse_with(server, message, &why),
        };
        let call = self.id;
        let Some(leg) = self.leg_mut(end) else { return };
        let response = leg.success(cx, message, granted.as_ref());
        cx.respond(server, 200, response.end_described(sdp.as_deref()));
        if granted.is_some() && leg.dialog.is_some() {
            leg.run_session(cx, call, granted.map(|g| g.timer));
        }
    }

    /// INFO: digits become digits on the other side; a negotiated package is passed on (RFC 6086);
    /// the rest is refused in the words its RFC asks for.
    fn info(&mut self, cx: &mut CallContext<'_>, end: LegId, server: ServerId, message: &Message) {
        let package = message.header(HeaderName::InfoPackage).unwrap_or_default();
        let package = package.split(';').next().unwrap_or_default().trim();
        if !package.is_empty() {
            return self.info_package(cx, end, server, message, package);
        }
        if message.body().is_empty() {
            // RFC 2976: an empty INFO is a keep-alive.
            return cx.respond(server, 200, MessageWriter::response(message, 200, None).end());
        }
        let why = || "INFO is taken for digits, or a package the other side asked for";
        let read = check_parts(message, &dtmf_info::READ)
            .and_then(|()| dtmf_info::read(message).ok_or_else(|| Refusal::new(415, why())));
        let digit = match read {
            Ok(digit) => digit,
            Err(why) => {
                let mut response = MessageWriter::refusal(message, &why, "", &cx.config.domain);
                response.put(HeaderName::Accept, dtmf_info::ACCEPTED);
                return cx.respond(server, 415, response.end());
            }
        };
        let Some((event, length)) = digit else {
            return cx.refuse(server, message, &Refusal::new(400, "no digit in the INFO body"));
        };
        if self.was_taken_before(end, message) {
            return cx.respond(server, 200, MessageWriter::response(message, 200, None).end());
        }
        let to = self.opposite(end);
        if let Some(Err(why)) = to.and_then(|to| self.leg_of(to)).map(super::Leg::takes_more) {
            return cx.refuse_with(server, message, &why);
        }
        cx.respond(server, 200, MessageWriter::response(message, 200, None).end());
        if let Some(to) = to {
            self.send_digit(cx, to, event, length);
        }
    }

    /// Sends a digit to an end in the way its peer wants it.
    pub(super) fn send_digit(
        &mut self,
        cx: &mut CallContext<'_>,
        to: LegId,
        event: u8,
        length: Duration,
    ) {
        let call = self.id;
        let Some(leg) = self.leg_mut(to) else { return };
        if leg.dtmf(cx) != Digits::Signalled {
            return self.media.digit(cx, to, (event, length));
        }
        if leg.takes_more().is_err() {
            return;
        }
        let Some((info, branch, _)) = leg.begin(cx, Method::Info) else { return };
        let bytes = info.end_with(dtmf_info::WRITTEN, dtmf_info::write(event, length).as_bytes());
        leg.ask(
            cx,
            call,
            Composed { method: Method::Info, branch: &branch, bytes },
            InDialogRequest::Info,
        );
    }
}
