//! Calls nobody dialled: a web application asks for two parties to be connected (click to call).
//!
//! The first is rung as if somebody called it; once it has answered it is the caller, and its call
//! takes the route any call of its own would. Until then the caller is a leg without a peer, and
//! without media.

use super::{Call, CallContext, CallPhase};
use crate::config::User;
use crate::dialplan::Route;
use std::sync::Arc;

/// Such a call, until its first party has answered.
#[derive(Debug)]
pub(crate) struct ThirdPartyCall {
    /// The route that is taken then.
    pub route: Box<Route>,
    /// The number it is taken by.
    pub number: String,
}

impl Call {
    /// The first party is rung by this route and number, on behalf of `user` if it is one. Towards
    /// a trunk it is known by its number; it itself sees who it is connected with.
    pub(crate) fn ring_first(
        &mut self,
        (route, number): (Route, String),
        user: Option<Arc<User>>,
        then: ThirdPartyCall,
    ) {
        let presented_number = user.is_none().then(|| number.clone());
        self.transfer.on_behalf_of(user, presented_number);
        self.route.begin(route, number);
        self.third_party = Some(then);
    }

    /// Begins to ring the first party.
    pub(crate) fn originate(&mut self, cx: &mut CallContext<'_>) {
        self.state = CallPhase::Routing;
        cx.arm(self.id, super::CallTimer::MaxDuration, cx.config.limits.max_duration);
        self.next_step(cx);
    }

    /// A branch has answered. Returns true if it is the first party, and its call continues from
    /// here.
    pub(super) fn first_answered(&mut self, cx: &mut CallContext<'_>) -> bool {
        let Some(ThirdPartyCall { route, number }) = self.third_party.take() else {
            return false;
        };
        let Some(branch) = self.branches.take_answered() else { return false };
        self.branches.retire([branch.call_id.clone()]);
        self.cdr.caller_call_id.clone_from(&branch.call_id);
        self.cdr.caller_end = branch.leg.end;
        self.cdr.remotes[0] = cx.remote_ip(branch.leg.hop);
        (self.cdr.answered_by, self.cdr.callee_call_id, self.cdr.callee_end, self.cdr.remotes[1]) =
            (None, None, None, None);
        self.caller = branch.leg;
        self.media.begin_anew();
        self.cdr.ringing = None;
        self.cdr.route = Some(route.name.clone());
        self.cdr.tags.extend(route.tags.clone());
        self.route.begin(*route, number);
        self.state = CallPhase::Routing;
        self.next_step(cx);
        true
    }
}
