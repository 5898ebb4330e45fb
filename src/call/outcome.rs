//! What the outcomes of its branches mean to a call.

use super::branch::BranchTarget;
use super::route_cursor::{Diversion, PlannedStep, UNCONDITIONAL, UNKNOWN};
use super::uac::{BranchOutcome, CallSide};
use super::{Call, CallContext, CallPhase, CallTimer};
use crate::cdr::Party;
use crate::codec::Codec;
use crate::dialplan::Attempt;
use crate::event::Event;
use crate::media::LegId;
use crate::sip::message::Message;
use crate::sip::status::{Reason, Refusal};

impl Call {
    /// A response to a branch's INVITE.
    pub(crate) fn on_response(&mut self, cx: &mut CallContext<'_>, id: u16, message: &Message) {
        let routes = self.state == CallPhase::Routing;
        let awaits_answer = routes && self.branches.answered().is_none();
        let Some(branch) = self.branches.get_mut(id) else {
            // Its leg has moved on in a transfer; a 2xx that comes again still wants its ACK.
            return self.acknowledge_again(cx, LegId(id), message);
        };
        let side = CallSide {
            call: self.id,
            caller: &mut self.caller,
            media: &mut self.media,
            awaits_answer,
            routes,
            takes_early_media: self.uas.takes_early_media(),
            follows: routes && self.route.may_redirect(),
            rang: self.cdr.ringing.is_some(),
        };
        let outcome = branch.on_response(cx, side, message);
        self.on_branch_outcome(cx, id, outcome);
    }

    /// The transaction of a branch's INVITE timed out, or its transport failed.
    pub(crate) fn on_branch_timeout(&mut self, cx: &mut CallContext<'_>, id: u16) {
        let (call, rang) = (self.id, self.cdr.ringing.is_some());
        if let Some(branch) = self.branches.get_mut(id) {
            let outcome = branch.on_timeout(cx, call, rang);
            self.on_branch_outcome(cx, id, outcome);
        }
    }

    /// A branch's hop gave no sign of life.
    pub(super) fn silent_timeout(&mut self, cx: &mut CallContext<'_>, id: u16) {
        let call = self.id;
        if let Some(branch) = self.branches.get_mut(id) {
            let outcome = branch.on_silence(cx, call);
            self.on_branch_outcome(cx, id, outcome);
        }
    }

    fn on_branch_outcome(&mut self, cx: &mut CallContext<'_>, id: u16, outcome: BranchOutcome) {
        match outcome {
            BranchOutcome::Pending => {}
            BranchOutcome::Progress { status, tag, early } => {
                self.on_progress(cx, (id, tag), status, early);
            }
            BranchOutcome::Answered => self.on_answer(cx, id),
            BranchOutcome::Late => self.close_branch_end(cx, id),
            BranchOutcome::SendAgain => self.send_invite(cx, id),
            BranchOutcome::NextHop => self.try_next_hop(cx, id),
            BranchOutcome::Redirected { status, numbers, otherwise } => {
                let why = self.follow(cx, id, status, &numbers).unwrap_or(otherwise);
                self.branch_failed(cx, id, why);
            }
            BranchOutcome::Failed(why) => self.branch_failed(cx, id, why),
            BranchOutcome::GivenUp(why) => self.step_failed(cx, id, why),
        }
        self.take_step_again(cx);
    }

    /// A callee is alerted, or has something for the caller to hear.
    fn on_progress(
        &mut self,
        cx: &mut CallContext<'_>,
        (id, tag): (u16, String),
        status: u16,
        early: Option<Result<(), Refusal>>,
    ) {
        if self.cdr.ringing.is_none() {
            self.cdr.ringing = Some(cx.now);
            cx.note(Event::CallRinging { call: self.id });
        }
        if self.uas.is_finished() {
            self.transfer_progress(cx, status);
            if matches!(early, Some(Ok(()))) {
                self.media.hear(id, tag);
            }
            // A caller who was answered already (by the dialplan, or before a transfer) is played
            // the ringing.
            return self.media.ringback(cx, self.caller.end);
        }
        match early {
            None => self.tell_ringing(cx, status),
            Some(Err(why)) => {
                cx.note(Event::EarlyMediaUnusable { call: self.id, why: why.why });
                self.tell_ringing(cx, 180);
            }
            Some(Ok(())) => {
                self.media.hear(id, tag);
                self.tell_early_media(cx, id);
            }
        }
    }

    fn tell_early_media(&mut self, cx: &mut CallContext<'_>, id: u16) {
        let other = self.settled_with(id);
        let sdp = if self.uas.is_offerless() {
            Ok(self.offer_to_caller(cx, other))
        } else {
            self.answer_caller_sdp(cx, other)
        };
        match sdp {
            Ok(sdp) => self.provisional_to_caller(cx, 183, Some(&sdp)),
            Err(why) => cx.note(Event::EarlyMediaUnusable { call: self.id, why: why.why }),
        }
    }

    /// The party that a branch reached, and the negotiated codec.
    pub(super) fn settled_with(&self, id: u16) -> Option<(Party, Codec)> {
        let branch = self.branches.get(id)?;
        Some((branch.leg.party.clone(), branch.leg.negotiation.negotiated()?.codec))
    }

    pub(super) fn close_branch_end(&mut self, cx: &mut CallContext<'_>, id: u16) {
        if self.state != CallPhase::Over {
            let end = self.branches.get(id).map_or(LegId(id), |b| b.leg.end);
            self.media.close_end(cx, end);
        }
    }

    fn on_answer(&mut self, cx: &mut CallContext<'_>, id: u16) {
        let call = self.id;
        cx.disarm(call, CallTimer::Ring);
        self.branches.set_answered(id);
        self.route.on_answered();
        let why = Reason::new(200, "Call completed elsewhere");
        for lost in self.branches.abandon_trying(cx, call, Some(id), &why) {
            self.media.close_end(cx, lost.leg.end);
        }
        if self.first_answered(cx) {
            return;
        }
        if let Some(branch) = self.branches.get(id) {
            self.cdr.tried.push(branch.tried(cx.now, Some(200)));
            self.cdr.answered_by = Some(branch.leg.party.clone());
            self.cdr.callee_call_id = Some(branch.call_id.clone());
            self.cdr.callee_end = Some(branch.leg.end);
            self.cdr.remotes[1] = cx.remote_ip(branch.leg.hop);
        }
        self.answer_caller(cx, Some(id));
        self.transfer_answered(cx);
    }

    /// Follows a redirection, if one of the numbers can be called: the refusal that is noted then.
    fn follow(
        &mut self,
        cx: &mut CallContext<'_>,
        id: u16,
        status: u16,
        numbers: &[String],
    ) -> Option<Refusal> {
        let mut steps: Vec<PlannedStep> = Vec::new();
        let user = self.branches.get(id).and_then(|branch| branch.leg.account.clone());
        // Whoever began the call pays for where it goes; of a trunk's, whose phone sends it on.
        let began = self.transfer.referred_by().or(self.caller.account.as_ref());
        let payer = began.or(user.as_ref()).cloned();
        for number in numbers {
            // The number alone is taken, and routed as if the caller had dialled it: never to a
            // host a callee names.
            let verdict = cx.config.plan.route(&Attempt {
                context: &self.cdr.context,
                dialled: number,
                unix: cx.unix(),
                permits: self.caller.permits(),
            });
            let Some((route, number)) = verdict.and_then(|v| v.decide(&self.cdr.context).ok())
            else {
                continue;
            };
            if let Some(payer) = &payer
                && cx.services.brakes.route(cx.now, payer, &route).is_err()
            {
                continue;
            }
            steps.extend(route.steps.into_iter().map(|s| (s, Some(number.clone()))));
        }
        let branch = self.branches.get(id).filter(|_| !steps.is_empty())?;
        let reason = if status == 302 { UNCONDITIONAL } else { UNKNOWN };
        let number = match &branch.target {
            BranchTarget::Trunk { number, .. } => number.clone(),
            BranchTarget::User { name, .. } => branch.leg.number().unwrap_or_else(|| name.clone()),
            BranchTarget::Joined => String::new(),
        };
        let (by, to) = (branch.leg.party.clone(), numbers.join(", "));
        let why = Refusal::new(status, format!("{} redirected the call", branch.target));
        cx.note(Event::Redirected { call: self.id, by, to });
        self.route.redirect(Diversion { number, reason }, user, steps);
        Some(why)
    }
}
