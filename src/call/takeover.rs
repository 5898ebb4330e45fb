//! A leg whose flow is lost, or whose browser came back by another (RFC 5626 §3.1: a dialog is not
//! a flow).

use super::branch::{Branch, BranchState, BranchTarget};
use super::leg::Leg;
use super::{Call, CallContext, CallPhase, CallTimer, EndReason, HangupBy};
use crate::cdr::Party;
use crate::errors::Code;
use crate::media::LegId;
use crate::registrar::Binding;
use crate::sip::session_timer::Refresher;
use crate::sip::status::{Reason, Refusal};
use crate::sip::transaction::{ClientId, Flow, Hop};
use crate::sip::uri::same_contact;
use std::time::Duration;

/// How long a flow has to answer that another one of the same browser seems to replace.
const REPLACED_ANSWERS: Duration = Duration::from_secs(2);

/// How long a page that is back, and does not know its call, has to take it up by Replaces.
const RELOADED: Duration = Duration::from_secs(10);

/// How soon after a browser is back its session is refreshed.
const OVERDUE_REFRESH: Duration = Duration::from_secs(2);

impl Call {
    /// Returns the ends whose messages go by `hop`: in a dialog, or while they wait for one.
    pub(crate) fn ends_on(&self, hop: Hop) -> Vec<LegId> {
        let waits = |l: &Leg| {
            let calls = l.end == self.caller.end && !self.uas.is_finished();
            calls || self.branches.of_end(l.end).is_some_and(Branch::is_trying)
        };
        let of = |l: &&Leg| l.hop == hop && (l.dialog.is_some() || waits(l));
        self.legs().filter(of).map(|l| l.end).collect()
    }

    /// Returns the ends of this browser, known by its instance or else by its Contact, whose flow
    /// is lost (true) or among the `replaced` (false).
    pub(crate) fn legs_of_browser(
        &self,
        user: &str,
        binding: &Binding,
        replaced: &[Flow],
    ) -> Vec<(LegId, bool)> {
        let same = |l: &&Leg| match (&l.party, &binding.instance) {
            (Party::User { name, instance: Some(own) }, Some((instance, _))) => {
                name == user && own == instance
            }
            (Party::User { name, instance: None }, None) => {
                name == user
                    && self.contact_of(l).is_some_and(|c| same_contact(&c, &binding.contact))
            }
            _ => false,
        };
        let gone = |l: &Leg| {
            let there = matches!(l.hop, Hop::Flow(f) if replaced.contains(&f));
            (l.flow_lost || there).then_some((l.end, l.flow_lost))
        };
        self.legs().filter(same).filter_map(gone).collect()
    }

    /// The Contact a leg's peer gave last.
    fn contact_of(&self, leg: &Leg) -> Option<String> {
        if let Some(dialog) = &leg.dialog {
            return Some(dialog.remote_target.clone());
        }
        if leg.end == self.caller.end {
            return self.uas.invite().contact().map(|c| c.uri.text.to_owned());
        }
        let branch = self.branches.of_end(leg.end)?;
        match &branch.target {
            BranchTarget::User { contact, .. } => Some(contact.clone()),
            _ => None,
        }
    }

    /// The flow of an end is about to be forgotten: transactions that its browser can still finish
    /// when it is back outlive it. A phone with another flow is tried there instead.
    pub(crate) fn suspend(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        let nowhere = Hop::Suspended;
        if end == self.caller.end {
            self.uas.suspend(cx, nowhere);
        }
        if let Some(wait) = self.leg_of(end).and_then(|l| l.ack_wait.as_ref()) {
            cx.services.transactions.move_server(wait.server, nowhere);
        }
        if let Some(open) = self.leg_of(end).and_then(|l| l.open) {
            cx.services.transactions.move_client(open.client, nowhere);
        }
        let Some(branch) = self.branches.of_end_mut(end) else { return };
        if branch.is_trying()
            && branch.alternates.is_empty()
            && let Some(client) = branch.client
        {
            cx.services.transactions.move_client(client, nowhere);
        }
    }

    /// The flow of an end is gone: what is in a dialog waits for its browser for the grace time,
    /// what rings until it has rung long enough.
    /// `page_left`: its browser said that the page is closed or reloaded.
    pub(crate) fn flow_lost(&mut self, cx: &mut CallContext<'_>, end: LegId, page_left: bool) {
        let (call, now, grace) = (self.id, cx.now, cx.config.sip.flow_grace);
        let rings = self.branches.of_end(end).is_some_and(Branch::is_trying);
        let gone = |leg: &&mut Leg| match leg.hop {
            // One that rang goes by another flow of its phone meanwhile.
            Hop::Flow(flow) => !cx.services.flows.contains_key(&flow),
            _ => true,
        };
        let Some(leg) = self.leg_mut(end).filter(gone) else { return };
        (leg.flow_lost, leg.page_left) = (true, page_left);
        leg.path.flow_lost_at = Some(now);
        if let Some(flow) = leg.successor.filter(|f| cx.services.flows.contains_key(f)) {
            self.take_up(cx, end, Hop::Flow(flow));
            return self.probe(cx, end);
        }
        if rings {
            return;
        }
        if page_left {
            // Its media went with it.
            cx.arm(call, CallTimer::FlowGrace(end), grace);
        } else {
            self.await_back(cx, end);
        }
        self.media.away(cx, end, true);
    }

    /// Its browser has registered by `flow`, and the leg's own flow is still open: the leg goes
    /// over if nobody answers there.
    pub(crate) fn supersede(&mut self, cx: &mut CallContext<'_>, end: LegId, flow: Flow) {
        let call = self.id;
        let Some(leg) = self.leg_mut(end).filter(|l| l.hop != Hop::Flow(flow)) else { return };
        if leg.path.is_silent() {
            // Its media is gone too: it has moved.
            self.take_up(cx, end, Hop::Flow(flow));
            return self.probe(cx, end);
        }
        (leg.successor, leg.probe) = (Some(flow), None);
        self.probe(cx, end);
        if self.leg_of(end).is_some_and(|l| l.probe.is_some()) {
            cx.arm(call, CallTimer::FlowGrace(end), REPLACED_ANSWERS);
        }
    }

    /// Nobody came back in time, or nobody answered by the flow that was replaced.
    pub(super) fn flow_grace_over(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        if self.state == CallPhase::Over {
            // Who called is not back to hear that it was refused.
            return self.uas.give_up_telling();
        }
        let Some(leg) = self.leg_of(end) else { return };
        match leg.successor.filter(|f| !leg.flow_lost && cx.services.flows.contains_key(f)) {
            Some(flow) => {
                if let Hop::Flow(dead) = leg.hop {
                    cx.close_flow(dead);
                }
                self.take_up(cx, end, Hop::Flow(flow));
                self.probe(cx, end);
            }
            None if leg.flow_lost => {
                let page_left = leg.page_left;
                let branch = self.branches.of_end(end);
                if branch.is_some_and(|branch| branch.state != BranchState::Answered) {
                    // It rang, or was hung up on, and nobody talks to it.
                    return;
                }
                if self.on_transferor_gone(cx, end) {
                    return;
                }
                let by = if end == self.caller.end { HangupBy::Caller } else { HangupBy::Callee };
                let (why, code) = if page_left {
                    ("the page was closed or reloaded, and did not come back", Code::PAGE_LEFT)
                } else {
                    ("the browser's connection was lost and did not come back", Code::FLOW_LOST)
                };
                self.finish(cx, EndReason::refused(by, Refusal::new(480, why).code(code)));
            }
            None => {}
        }
    }

    /// A probe was answered, or not (`answered` is false). Returns whether that says anything of
    /// the dialog: a probe by a flow that was left since says nothing.
    pub(super) fn probe_answered(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        client: ClientId,
        answered: bool,
    ) -> bool {
        let call = self.id;
        let Some(leg) = self.leg_mut(end).filter(|l| l.probe == Some(client)) else {
            return false;
        };
        leg.probe = None;
        if leg.flow_lost {
            return false;
        }
        if answered && leg.successor.take().is_some() {
            cx.disarm(call, CallTimer::FlowGrace(end));
        }
        true
    }

    /// The browser that is back does not know the call: its page was reloaded, and may be about to
    /// announce itself. Returns false if there is no page at this end, or it has left the call.
    pub(super) fn page_forgot(&mut self, cx: &mut CallContext<'_>, end: LegId) -> bool {
        let (call, now) = (self.id, cx.now);
        let talks = end == self.caller.end || self.opposite(end).is_some();
        let Some(leg) = self.leg_mut(end).filter(|_| talks) else { return false };
        if !matches!(leg.party, Party::User { .. }) {
            return false;
        }
        (leg.flow_lost, leg.page_left) = (true, true);
        leg.path.flow_lost_at = Some(now);
        cx.arm(call, CallTimer::FlowGrace(end), RELOADED);
        self.media.away(cx, end, true);
        true
    }

    /// The leg continues by another flow of its account. What waits for its browser is sent there
    /// once more: the INVITE it rings for, the answer to the one it made.
    pub(crate) fn take_up(&mut self, cx: &mut CallContext<'_>, end: LegId, hop: Hop) {
        self.take_up_by(cx, end, hop, None);
    }

    fn take_up_by(&mut self, cx: &mut CallContext<'_>, end: LegId, hop: Hop, route: Option<&str>) {
        let (call, over) = (self.id, self.state == CallPhase::Over);
        cx.disarm(call, CallTimer::FlowGrace(end));
        let signalling = cx.remote_ip(hop);
        let Some(leg) = self.leg_mut(end) else { return };
        (leg.flow_lost, leg.page_left, leg.successor, leg.probe) = (false, false, None, None);
        let talks = leg.dialog.is_some() && !over;
        if matches!(leg.hop, Hop::Node(_)) && leg.hop != hop {
            // By way of the node it was at.
            leg.dialog.iter_mut().for_each(|d| d.route_set.clear());
        }
        if let (Some(route), Some(dialog)) = (route, &mut leg.dialog) {
            dialog.route_set = vec![route.to_owned()];
        }
        leg.hop = hop;
        leg.signalling = signalling.or(leg.signalling);
        leg.dialog.iter_mut().for_each(|d| d.hop = hop);
        if let Some(open) = leg.open {
            // Asked once more: an answer that was lost with the flow comes again.
            cx.ask_again(open.client, hop);
        }
        if let (Some(timer), true) = (leg.session, talks) {
            // Its session begins anew: a refresh that was due meanwhile could not be sent.
            leg.run_session(cx, call, Some(timer));
            if timer.refresher == Refresher::Us {
                cx.arm(call, CallTimer::Session(end), OVERDUE_REFRESH);
            }
        }
        if talks {
            self.media.away(cx, end, false);
        }
        let Some(leg) = self.leg_mut(end) else { return };
        let accepted = leg.ack_wait.as_ref().map(|w| (w.server, w.bytes.clone()));
        if let Some((server, ok)) = accepted {
            cx.services.transactions.move_server(server, hop);
            cx.respond(server, 200, ok);
        }
        if end == self.caller.end {
            self.uas.move_to(cx, hop);
        }
        self.ring_again(cx, end, hop);
        if !over {
            self.on_new_flow(cx, end);
            self.take_step_again(cx);
        }
    }

    /// A browser that rang is back as another page, with a Contact of its own, which knows nothing
    /// of the INVITE: it is rung anew. Returns false if it is the same page, or it does not ring.
    pub(crate) fn ring_anew(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        binding: &Binding,
    ) -> bool {
        let rings = |b: &&mut Branch| matches!(b.state, BranchState::Calling | BranchState::Early);
        let Some(branch) = self.branches.of_end_mut(end).filter(rings) else { return false };
        let BranchTarget::User { contact, path, .. } = &mut branch.target else { return false };
        if same_contact(contact, &binding.contact) {
            return false;
        }
        contact.clone_from(&binding.contact);
        path.clone_from(&binding.path);
        branch.early_dialogs.clear();
        if let Some(client) = branch.client {
            cx.services.transactions.cancelled(cx.now, client);
        }
        let (id, hop) = (branch.id, Hop::Flow(binding.flow));
        branch.leg.hop = hop;
        branch.leg.signalling = cx.remote_ip(hop).or(branch.leg.signalling);
        (branch.leg.flow_lost, branch.leg.page_left, branch.leg.successor) = (false, false, None);
        self.send_invite(cx, id);
        true
    }

    /// The leg continues by another node: `route` leads there.
    pub(crate) fn take_up_there(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        hop: Hop,
        route: &str,
    ) {
        self.take_up_by(cx, end, hop, Some(route));
    }

    /// A browser that rang is back: it rings on, or gets the CANCEL it missed.
    fn ring_again(&mut self, cx: &mut CallContext<'_>, end: LegId, hop: Hop) {
        let over = self.state == CallPhase::Over;
        let Some(branch) = self.branches.of_end_mut(end) else { return };
        branch.early_dialogs.iter_mut().for_each(|f| f.dialog.hop = hop);
        let Some(client) = branch.client.filter(|c| cx.services.transactions.awaits_final(*c))
        else {
            return;
        };
        cx.services.transactions.move_client(client, hop);
        match branch.state {
            BranchState::Calling | BranchState::Early if !over => {
                let invite = branch.invite.clone();
                cx.send(hop, invite);
            }
            BranchState::Cancelling if !branch.cancel_when_possible => {
                branch.cancel(cx, &Reason::new(487, "given up before the answer"));
            }
            _ => {}
        }
    }
}
