//! A branch that did not lead to an answer: the next address, trunk, phone or step, or the caller's
//! refusal.

use super::branch::{BranchState, BranchTarget};
use super::route_cursor::AfterTrunk;
use super::{Call, CallContext, CallTimer, HangupBy, State};
use crate::cdr::Tried;
use crate::dialplan::Outcome;
use crate::errors::Code;
use crate::event::Event;
use crate::sip::status::Refusal;

impl Call {
    /// The INVITE's transaction timed out, or its transport failed.
    pub fn branch_timeout(&mut self, cx: &mut CallContext<'_>, id: u16) {
        let call = self.id;
        let Some(branch) = self.branches.get_mut(id) else { return };
        cx.services.locator.failed(cx.now, branch.leg.hop);
        match branch.state {
            BranchState::Calling if !branch.hops.is_empty() => self.try_next_hop(cx, id),
            BranchState::Early
                if branch.client.is_some_and(|c| cx.services.transactions.awaits_final(c)) =>
            {
                // Timer C: alive but never final.
                let why = match self.cdr.ringing {
                    Some(_) => Refusal::new(408, "the callee never answered").code(Code::NO_ANSWER),
                    None => Refusal::new(408, "the callee took the call and never rang")
                        .code(Code::NOT_AVAILABLE),
                };
                branch.abandon(cx, call, &why);
                self.step_failed(cx, id, why);
            }
            _ => {
                let target = branch.target.to_string();
                let dead = if matches!(branch.target, BranchTarget::User { .. }) {
                    Code::FLOW_DEAD
                } else {
                    Code::UNREACHABLE
                };
                let (code, why) = cx.services.locator.why(branch.leg.hop).unwrap_or_else(|| {
                    (dead, "did not respond: is it reachable from here?".to_owned())
                });
                self.branch_failed(cx, id, Refusal::new(408, format!("{target} {why}")).code(code));
            }
        }
    }

    pub(super) fn silent_timeout(&mut self, cx: &mut CallContext<'_>, id: u16) {
        let call = self.id;
        let Some(branch) = self.branch_mut(id).filter(|b| b.state == BranchState::Calling) else {
            return;
        };
        cx.services.locator.failed(cx.now, branch.leg.hop);
        if !branch.hops.is_empty() {
            return self.try_next_hop(cx, id);
        }
        let why = Refusal::new(408, format!("{} gave no sign of life", branch.target))
            .code(Code::UNREACHABLE);
        branch.abandon(cx, call, &why);
        self.step_failed(cx, id, why);
    }

    /// A branch ended without an answer: what was tried is noted, then the next trunk, step, or the
    /// end.
    pub(super) fn branch_failed(&mut self, cx: &mut CallContext<'_>, id: u16, why: Refusal) {
        let call = self.id;
        let Some(branch) = self.branches.get_mut(id) else { return };
        let counts = branch.is_trying() || branch.state == BranchState::Answered;
        let pending = branch.client.is_some_and(|c| cx.services.transactions.awaits_final(c));
        match branch.state {
            BranchState::Answered => {
                branch.leg.bye(cx, call, &why);
                branch.over();
            }
            // It failed on our side (its media did): the callee must be told to stop ringing.
            _ if pending => branch.abandon(cx, call, &why),
            _ => branch.over(),
        }
        if counts {
            self.step_failed(cx, id, why);
        }
    }

    pub(super) fn step_failed(&mut self, cx: &mut CallContext<'_>, id: u16, why: Refusal) {
        let call = self.id;
        cx.disarm(call, CallTimer::Silent(id));
        let Some(branch) = self.branches.get(id) else { return };
        let ms = cx.now.saturating_duration_since(branch.started).as_millis() as u64;
        let target = branch.target.clone();
        self.cdr.tried.push(Tried { target: target.to_string(), status: why.status, ms });
        self.media.unhear(id);
        self.close_branch_end(cx, id);
        if self.state == State::Routing {
            cx.note(Event::BranchFailed {
                call,
                target: target.to_string(),
                status: why.status,
                code: why.code,
                why: why.why.clone(),
            });
            self.after_failure(cx, id, &target, why);
        }
    }

    fn after_failure(
        &mut self,
        cx: &mut CallContext<'_>,
        id: u16,
        target: &BranchTarget,
        why: Refusal,
    ) {
        if let BranchTarget::User { name, .. } = target
            && matches!(why.status, 408 | 430 | 503)
        {
            // RFC 5626 §5.3: this flow is dead; the same phone may have another.
            let Some(branch) = self.branch_mut(id) else { return };
            let (others, breadth) = (std::mem::take(&mut branch.alternates), branch.breadth);
            if !others.is_empty() {
                return self.ring_flow(cx, name, &others, breadth);
            }
        }
        let outcome = match target {
            // Nothing came back from the phone: its connection is gone.
            BranchTarget::User { .. } if why.code == Code::FLOW_DEAD => Outcome::Unregistered,
            _ => Outcome::of_status(why.status),
        };
        self.route.refused(outcome, why.clone());
        if self.branches.is_any_trying() {
            return;
        }
        let is_trunk = matches!(target, BranchTarget::Trunk { .. });
        if !is_trunk || self.route.is_redirected(why.status) {
            return self.next_round(cx);
        }
        match self.route.after_trunk(why) {
            AfterTrunk::Trunk => self.next_trunk(cx),
            AfterTrunk::Step => self.next_step(cx),
            AfterTrunk::End(why) => self.route_failed(cx, HangupBy::Callee, why),
        }
    }

    /// Nobody can be reached: the caller is refused, or a transfer has failed and the old call goes
    /// on.
    pub(super) fn route_failed(&mut self, cx: &mut CallContext<'_>, by: HangupBy, why: Refusal) {
        if self.transfer.is_under_way() {
            return self.transfer_failed(cx, why);
        }
        self.finish(cx, by, why);
    }
}
