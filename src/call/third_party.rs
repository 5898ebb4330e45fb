//! Calls nobody dialled: a web application asks for two parties to be connected (click to call).
//!
//! The first is rung as if somebody called it; once it has answered it is the caller, and its call
//! takes the route any call of its own would. Until then the caller is a leg without a peer, and
//! without media.

use super::{Call, CallContext, State};
use crate::dialplan::Route;

/// How far such a call has come.
#[derive(Debug)]
pub enum Origin {
    /// The first party is rung; then this route is taken, by this number.
    Ringing { route: Box<Route>, number: String },
    /// It has answered, and is the caller.
    Connecting,
}

impl Call {
    /// Begins to ring the first party.
    pub fn originate(&mut self, cx: &mut CallContext<'_>) {
        self.state = State::Routing;
        cx.arm(self.id, super::CallTimer::MaxDuration, cx.config.limits.max_duration);
        self.next_step(cx);
    }

    /// A branch has answered. True: it is the first party, and its call goes on from here.
    pub(super) fn first_answered(&mut self, cx: &mut CallContext<'_>, id: u16) -> bool {
        let Some(Origin::Ringing { route, number }) =
            self.origin.take_if(|o| matches!(o, Origin::Ringing { .. }))
        else {
            return false;
        };
        let Some(at) = self.branches.iter().position(|b| b.id == id) else { return false };
        let branch = self.branches.remove(at);
        self.retired_dialog_keys.push(branch.call_id.clone());
        self.cdr.a_call_id.clone_from(&branch.call_id);
        self.cdr.a_end = branch.leg.end;
        self.cdr.remotes[0] = cx.remote_ip(branch.leg.hop);
        (self.cdr.answered_by, self.cdr.b_call_id, self.cdr.b_end, self.cdr.remotes[1]) =
            (None, None, None, None);
        self.caller = branch.leg;
        (self.callee, self.heard, self.ringback) = (None, None, false);
        self.cdr.ringing = None;
        self.origin = Some(Origin::Connecting);
        self.cdr.route = Some(route.name.clone());
        self.cdr.tags.extend(route.tags.clone());
        self.route.begin(*route, number);
        self.state = State::Routing;
        self.next_step(cx);
        true
    }
}
