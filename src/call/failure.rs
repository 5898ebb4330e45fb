//! A branch that did not lead to an answer: the next address, trunk, phone or step, or the caller's
//! refusal.

use super::branch::{Branch, BranchState, BranchTarget};
use super::{Call, CallContext, CallTimer, HangupBy, State};
use crate::dialplan::{Outcome, Step};
use crate::errors::Code;
use crate::event::Event;
use crate::sip::status::Refusal;

impl Call {
    /// The INVITE's transaction timed out, or its transport failed.
    pub(crate) fn branch_timeout(&mut self, cx: &mut CallContext<'_>, id: u16) {
        let call = self.id;
        let Some(branch) = self.branches.iter_mut().find(|b| b.id == id) else { return };
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
        let Some(branch) = self.branches.iter_mut().find(|b| b.id == id) else { return };
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
        let Some(branch) = self.branches.iter().find(|b| b.id == id) else { return };
        let (target, tried) = (branch.target.clone(), branch.tried(cx.now, why.status));
        self.cdr.tried.push(tried);
        if self.heard.as_ref().is_some_and(|h| h.0 == id) {
            self.heard = None;
        }
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
        self.keep_best(why.clone());
        self.outcomes.add(match target {
            // Nothing came back from the phone: its connection is gone.
            BranchTarget::User { .. } if why.code == Code::FLOW_DEAD => Outcome::Unregistered,
            _ => Outcome::of_status(why.status),
        });
        if self.branches.iter().any(Branch::is_trying) {
            return;
        }
        let redirected = (300..400).contains(&why.status) && !self.steps.is_empty();
        if matches!(target, BranchTarget::Trunk { .. }) && !redirected {
            let moves_on = self.route.as_ref().is_some_and(|r| r.moves_on(why.status))
                || why.status == 401
                || why.status == 407;
            if !moves_on {
                // What follows is for the trunks' own failures, unless it names this outcome.
                let outcomes = self.outcomes;
                self.steps
                    .retain(|(step, _)| matches!(step, Step::On { .. }) && outcomes.admit(step));
                if !self.steps.is_empty() {
                    self.trunks_left.clear();
                    return self.next_step(cx);
                }
                let why = self.refusal.take().unwrap_or(why);
                return self.route_failed(cx, HangupBy::Callee, translate_refusal(why));
            }
            return self.next_trunk(cx);
        }
        self.next_round(cx);
    }

    /// Nobody can be reached: the caller is refused, or a transfer has failed and the old call goes
    /// on.
    pub(super) fn route_failed(&mut self, cx: &mut CallContext<'_>, by: HangupBy, why: Refusal) {
        if self.transfer.is_some() {
            return self.transfer_failed(cx, why);
        }
        self.finish(cx, by, why);
    }

    /// RFC 3261 §16.7 step 6, briefly: 6xx wins, then what says most to the caller.
    fn keep_best(&mut self, why: Refusal) {
        let rank = |s: u16| match s {
            600..=699 => 0,
            486 => 1,
            400..=407 | 409..=479 | 481..=499 => 2,
            480 | 408 => 3,
            _ => 4,
        };
        if self.refusal.as_ref().is_none_or(|best| rank(why.status) < rank(best.status)) {
            self.refusal = Some(why);
        }
    }
}

/// What the caller is told: a trunk's own troubles are not the caller's (503 would stop its client
/// for good).
pub(super) fn translate_refusal(mut why: Refusal) -> Refusal {
    why.status = match why.status {
        300..=399 => 480,
        401 | 407 => 502,
        408 | 430 => 480,
        // Of ours, with the time after which it may be tried again.
        503 if matches!(why.code, Code::PORTS | Code::WORKER_BEHIND) => 503,
        503 => 500,
        s => s,
    };
    why
}
