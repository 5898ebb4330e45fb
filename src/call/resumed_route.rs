//! The route of a caller who was answered and not connected yet, continued by another process: whom
//! it rang is cancelled, and the step that was under way is taken again.
//!
//! Whoever is cancelled is waited for: a phone with one line is busy until then, and a browser
//! needs a moment to connect again. The caller hears ringing in the meantime.

use super::branch::{Branch, BranchState};
use super::{Call, CallContext, CallPhase, CallTimer};
use crate::dialplan::Step;
use crate::event::Event;
use crate::sip::status::Reason;
use std::time::Duration;

/// More branches than begin between two checkpoints: media may know ends of theirs.
const UNKNOWN: u16 = 10;
/// How long it waits at least: what media reports of a prompt from before comes first.
const LEAST: Duration = Duration::from_millis(500);
/// How long a peer that was cancelled has to say so.
const CANCELLED: Duration = Duration::from_secs(2);
/// How long a browser that rang has to connect again.
const RECONNECTED: Duration = Duration::from_secs(10);

impl Call {
    /// Ends what rang for the caller, and takes the step again that rang it.
    pub(crate) fn take_route_again(&mut self, cx: &mut CallContext<'_>) {
        let why = Reason::new(503, self.inherited.why_interrupted().0);
        for branch in self.branches.abandon_trying(cx, self.id, None, &why) {
            self.cdr.tried.push(branch.tried(cx.now, None));
        }
        // Media may know those again that were given up just before.
        for branch in self.branches.iter().filter(|b| b.state == BranchState::Cancelling) {
            self.media.close_end(cx, branch.leg.end);
        }
        if matches!(self.route.upcoming(), Some(Step::Dial { .. } | Step::Ring { .. })) {
            self.media.ringback(cx, self.caller.end);
        }
        self.branches.skip_ids(UNKNOWN);
        self.inherited.step_waits = Some(cx.now);
        cx.arm(self.id, CallTimer::Again, LEAST);
    }

    /// Takes the step again, once nobody is waited for any more.
    pub(super) fn take_step_again(&mut self, cx: &mut CallContext<'_>) {
        let Some(since) = self.inherited.step_waits else { return };
        let waited = cx.now.saturating_duration_since(since);
        if self.state != CallPhase::Routing || waited < LEAST {
            return;
        }
        let limit = |branch: &Branch| if branch.leg.flow_lost { RECONNECTED } else { CANCELLED };
        let open = self.branches.iter().filter(|branch| branch.state == BranchState::Cancelling);
        let soonest = open.map(limit).filter(|limit| waited < *limit).min();
        if let Some(limit) = soonest {
            return cx.arm(self.id, CallTimer::Again, limit - waited);
        }
        if self.inherited.silent_since.is_some() {
            // Its media has not said yet whether it continues.
            return;
        }
        self.inherited.step_waits = None;
        cx.disarm(self.id, CallTimer::Again);
        if let Some(step) = self.route.upcoming() {
            cx.note(Event::StepRepeated { call: self.id, step: step.to_string() });
        }
        self.next_step(cx);
    }
}
