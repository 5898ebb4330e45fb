//! A CANCEL of ours (RFC 3261 §9.1), and the 200 that crosses it: a peer that answers while it is
//! being cancelled is acknowledged and hung up.

use super::branch::{Branch, BranchState};
use super::uac::BranchOutcome;
use super::{CallContext, CallId, CallTimer};
use crate::sip::build::MessageWriter;
use crate::sip::dialog::Dialog;
use crate::sip::message::Message;
use crate::sip::parse::{Framing, HeaderName};
use crate::sip::status::{Method, Reason};

impl Branch {
    /// Gives up on it, in the way its state asks for.
    pub(crate) fn abandon(&mut self, cx: &mut CallContext<'_>, call: CallId, why: &Reason) {
        cx.disarm(call, CallTimer::Silent(self.id));
        match self.state {
            BranchState::Opening | BranchState::Resolving => self.over(),
            BranchState::Calling => {
                // RFC 3261 §9.1: no CANCEL before a provisional response.
                self.cancel_when_possible = true;
                self.state = BranchState::Cancelling;
            }
            BranchState::Early => {
                self.state = BranchState::Cancelling;
                self.cancel(cx, why);
            }
            BranchState::Answered => {
                self.leg.hang_up(cx, call, why);
                self.over();
            }
            BranchState::Cancelling | BranchState::Over => {}
        }
    }

    /// CANCEL carries the INVITE's own branch, route and numbers (RFC 3261 §9.1).
    pub(super) fn cancel(&self, cx: &mut CallContext<'_>, why: &Reason) {
        let Ok(invite) = Message::parse(self.invite.to_vec(), Framing::WebSocket) else { return };
        let mut cancel = MessageWriter::request(Method::Cancel, invite.request_uri());
        let via = invite.values(HeaderName::Via).next().unwrap_or_default();
        cancel.put(HeaderName::Via, via);
        invite.all(HeaderName::Route).for_each(|r| cancel.put(HeaderName::Route, r));
        cancel.put(HeaderName::MaxForwards, 70);
        for name in [HeaderName::From, HeaderName::To, HeaderName::CallId] {
            cancel.put(name, invite.header(name).unwrap_or_default());
        }
        cancel.put(HeaderName::CSeq, format_args!("{} CANCEL", self.cseq));
        cancel.reason(why);
        let branch = invite.via().and_then(|v| v.branch().map(str::to_owned)).unwrap_or_default();
        cx.request(Method::Cancel, &branch, self.leg.hop, cancel.end());
        if let Some(client) = self.client {
            cx.services.transactions.cancelled(cx.now, client);
        }
    }

    /// A 200 nobody waits for any more, or a second early dialog's: acknowledged already, now hung
    /// up.
    pub(super) fn hang_up_late(
        &mut self,
        cx: &mut CallContext<'_>,
        mut dialog: Dialog,
        first: bool,
    ) -> BranchOutcome {
        let (via_branch, via) = cx.via(self.leg.hop);
        let bye = dialog.request(Method::Bye, &via);
        let why = Reason::new(200, "answered elsewhere, or given up before the answer");
        self.leg.say_goodbye(cx, bye, &via_branch, &why);
        if !first {
            return BranchOutcome::Pending;
        }
        self.over();
        BranchOutcome::Late
    }
}
