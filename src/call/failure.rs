//! A branch that did not lead to an answer: the next address, trunk, phone or step, or the caller's
//! refusal.

use super::branch::{BranchState, BranchTarget};
use super::route_cursor::AfterTrunk;
use super::{Call, CallContext, CallPhase, CallTimer, EndReason, HangupBy};
use crate::dialplan::Outcome;
use crate::errors::Code;
use crate::event::Event;
use crate::sip::status::Refusal;

impl Call {
    /// A branch ended without an answer: what was tried is noted, then the next trunk, step, or the
    /// end.
    pub(super) fn branch_failed(&mut self, cx: &mut CallContext<'_>, id: u16, why: Refusal) {
        let call = self.id;
        let Some(branch) = self.branches.get_mut(id) else { return };
        let counts = branch.is_trying() || branch.state == BranchState::Answered;
        let pending = branch.client.is_some_and(|c| cx.services.transactions.awaits_final(c));
        match branch.state {
            BranchState::Answered => {
                branch.leg.hang_up(cx, call, &why.reason());
                branch.over();
            }
            // It failed on our side (its media did): the callee must stop ringing.
            _ if pending => branch.abandon(cx, call, &why.reason()),
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
        let (target, tried) = (branch.target.clone(), branch.tried(cx.now, Some(why.status)));
        let party = tried.target.clone();
        self.cdr.tried.push(tried);
        self.media.unhear(id);
        self.close_branch_end(cx, id);
        if self.state == CallPhase::Routing {
            cx.note(Event::BranchFailed {
                call,
                target: party,
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
                return self.ring_phone(cx, name, &others, breadth);
            }
        }
        let outcome = match target {
            // Nothing came back from the phone: its connection is gone.
            BranchTarget::User { .. } if matches!(why.code, Code::FLOW_DEAD | Code::NODE_AWAY) => {
                Outcome::Unregistered
            }
            _ => Outcome::of_status(why.status),
        };
        self.route.on_refused(outcome, why.clone());
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

    /// Nobody can be reached: the caller is refused, or a transfer has failed and the old call
    /// continues.
    pub(super) fn route_failed(&mut self, cx: &mut CallContext<'_>, by: HangupBy, why: Refusal) {
        if self.transfer.is_under_way() {
            return self.transfer_failed(cx, why);
        }
        self.finish(cx, EndReason::refused(by, why));
    }
}
