//! A browser that is back: whose dialog a message belongs to, and by which flow its leg continues.
//!
//! A dialog is not a flow (RFC 5626 §3.1), and who comes back is the account: a request within a
//! dialog takes its leg up again by any flow that has proved, or proves now, to be the leg's
//! account, whether it registers or not. Nobody else learns that there is such a dialog.

use super::dispatch::same_source;
use super::edge_proxy::{PassedFor, passed_for};
use super::turn::{Incoming, RequestSource, Screening};
use super::{Gateway, Turn};
use crate::call::leg::Leg;
use crate::call::replacement::Replacement;
use crate::call::transfer_state::Replaces;
use crate::call::{CALLER_LEG, CallId};
use crate::cdr::Party;
use crate::config::User;
use crate::errors::Code;
use crate::flow::{FlowKind, FlowState, Transport};
use crate::media::LegId;
use crate::registrar::Binding;
use crate::sip::message::Message;
use crate::sip::status::{Method, Refusal};
use crate::sip::transaction::{Flow, Hop, ServerId};
use std::net::SocketAddr;
use std::time::Instant;

/// Whose dialog a message belongs to.
enum Owner {
    /// It came the way that dialog's messages come.
    Here(CallId, LegId),
    /// It came by another flow, and counts if that is this user's.
    Account(CallId, LegId, String),
    /// Its browser came back to another node, to which this route leads.
    Elsewhere(CallId, LegId, String),
    /// It has ended, which this user has still to hear.
    Past(String),
    Nobody,
}

fn no_such_call() -> Refusal {
    Refusal::new(481, "there is no such call")
}

impl Gateway {
    fn owner_of(&self, hop: Hop, message: &Message) -> Owner {
        match self.owner_now(hop, message) {
            Owner::Nobody => self.past_owner(hop, message),
            owner => owner,
        }
    }

    fn past_owner(&self, hop: Hop, message: &Message) -> Owner {
        let Some(owed) = self.services.owed_goodbyes.named_by(message) else {
            return Owner::Nobody;
        };
        let theirs = match (hop, self.kind_of(hop)) {
            (Hop::Node(_), _) => match passed_for(message) {
                Some(PassedFor::User { user, .. }) => {
                    let written = self.config.users.get(&user).map(|user| user.place());
                    user == owed.to.user && written.is_some() && written == owed.to.place
                }
                _ => false,
            },
            (_, kind) => kind == Some(FlowKind::WebSocket),
        };
        if theirs { Owner::Past(owed.to.user.clone()) } else { Owner::Nobody }
    }

    fn owner_now(&self, hop: Hop, message: &Message) -> Owner {
        let found = message.to().and_then(|t| self.services.dialogs.get(t.tag()?).copied());
        let Some((id, end)) = found else { return Owner::Nobody };
        let Some((call, remote)) = self.calls.get(id).zip(self.remote_of(hop)) else {
            return Owner::Nobody;
        };
        let Some(dialog) = call.dialog_for(end, message) else { return Owner::Nobody };
        if let Hop::Node(_) = hop {
            let passed = passed_for(message);
            return passed.map_or(Owner::Nobody, |passed| self.owner_at(hop, id, end, &passed));
        }
        match (call.party_of(end), self.kind_of(hop)) {
            _ if same_source(dialog.hop, hop, remote) => Owner::Here(id, end),
            (Some(Party::Trunk(name)), _) if self.trunk_of(remote).as_ref() == Some(name) => {
                Owner::Here(id, end)
            }
            (Some(Party::User { name, .. }), Some(FlowKind::WebSocket)) => {
                Owner::Account(id, end, name.clone())
            }
            _ => Owner::Nobody,
        }
    }

    /// The owner of a message that another node got and passed on: it says whose it is.
    fn owner_at(&self, hop: Hop, id: CallId, end: LegId, passed: &PassedFor) -> Owner {
        let leg = self.calls.get(id).and_then(|call| call.leg_of(end));
        match (leg.map(|leg| (&leg.party, leg.account.as_deref())), passed) {
            (Some((Party::Trunk(own), _)), PassedFor::Trunk(name)) if own == name => {
                Owner::Here(id, end)
            }
            (Some((Party::User { name, .. }, account)), PassedFor::User { user, route })
                if name == user =>
            {
                if self.calls.get(id).and_then(|call| call.hop_of(end)) == Some(hop) {
                    return Owner::Here(id, end);
                }
                // A login by token is of its node alone.
                let written = self.config.users.get(user).map(|user| user.place());
                if written.is_some() && written == account.map(User::place) {
                    Owner::Elsewhere(id, end, route.clone())
                } else {
                    Owner::Nobody
                }
            }
            _ => Owner::Nobody,
        }
    }

    /// Whether the caller of `call` is who another node says a message is of.
    pub(super) fn is_caller(&self, hop: Hop, call: CallId, passed: &PassedFor) -> bool {
        let owner = self.owner_at(hop, call, CALLER_LEG, passed);
        matches!(owner, Owner::Here(..) | Owner::Elsewhere(..))
    }

    /// Returns what the flow proved to be, while that holds.
    pub(super) fn identity_of(&self, now: Instant, flow: Flow) -> Option<&FlowState> {
        let unix = self.unix(now);
        let holds = |f: &&FlowState| f.user.is_some() && f.until.is_none_or(|until| unix < until);
        self.services.flows.get(&flow).filter(holds)
    }

    /// Judges a request with a To tag before it becomes a transaction: a dialog of nobody's gets a
    /// stateless 481, one of an account whose flow this is not proved to be a challenge.
    pub(super) fn screen_in_dialog(
        &mut self,
        turn: &mut Turn<'_>,
        hop: Hop,
        remote: SocketAddr,
        message: &Message,
    ) -> Screening {
        if let Some(refused) = self.screen_share(hop, message) {
            return Screening::Refuse(refused);
        }
        match (self.owner_of(hop, message), hop) {
            (Owner::Here(id, end), _) if self.is_in_the_clear(hop, id, end, message) => {
                let why = "the call goes over TLS, and nothing of it in the clear";
                Screening::Refuse(Refusal::new(403, why))
            }
            (Owner::Here(..) | Owner::Elsewhere(..), _) => Screening::Proceed,
            (Owner::Account(_, _, user) | Owner::Past(user), Hop::Flow(flow)) => {
                let other = |f: &FlowState| f.user.as_ref() != Some(&user);
                if self.identity_of(turn.now, flow).is_some_and(other) {
                    return Screening::Refuse(no_such_call());
                }
                self.admit_as(turn, flow, remote, message, &user)
            }
            (Owner::Past(_), _) => Screening::Proceed,
            _ if self.is_subscription(hop, message) => Screening::Proceed,
            _ => Screening::Refuse(no_such_call()),
        }
    }

    /// Whether a trunk asks for something in the clear within a dialog that goes over TLS: the
    /// answer would tell what that hides. Whoever hangs up so has gone all the same.
    fn is_in_the_clear(&self, hop: Hop, id: CallId, end: LegId, message: &Message) -> bool {
        let leg = self.calls.get(id).and_then(|call| call.leg_of(end));
        let flows = &self.services.flows;
        message.method() != Method::Bye
            && matches!(Transport::of(hop, flows), Transport::Udp | Transport::Tcp)
            && leg.is_some_and(|leg| Transport::of(leg.hop, flows) == Transport::Tls)
    }

    /// Judges an INVITE that came before by a flow that was lost. Who sends it again by another has
    /// not heard the answer: that goes there from now on, if the flow is its account's.
    pub(super) fn screen_repeated(
        &mut self,
        turn: &mut Turn<'_>,
        (flow, remote): (Flow, SocketAddr),
        server: ServerId,
        message: &Message,
    ) -> Screening {
        match self.admit(turn, flow, remote, message) {
            Screening::Proceed => {}
            judged => return judged,
        }
        let Some(call) = self.calls.of_transaction(server) else {
            // Its call ended without anybody hearing of it: this INVITE begins another.
            self.services.transactions.forget_server(server);
            return Screening::Proceed;
        };
        if self.take_up(turn, call, CALLER_LEG, flow) {
            return Screening::Handled;
        }
        let why = "this INVITE came before, from somebody else";
        Screening::Refuse(Refusal::new(482, why).code(Code::LOOP))
    }

    /// A CANCEL counts by the way its INVITE came, or by another flow of its account; it cannot be
    /// challenged (RFC 3261 §22.1), and any other makes no state.
    pub(super) fn screen_cancel(
        &self,
        now: Instant,
        hop: Hop,
        remote: SocketAddr,
        message: &Message,
    ) -> Screening {
        let none = || Screening::Refuse(Refusal::new(481, "there is no INVITE to cancel"));
        let Some(target) = self.services.transactions.cancelled_by(message) else { return none() };
        let call = self.calls.of_transaction(target).and_then(|id| self.calls.get(id));
        let Some(call) = call else { return Screening::Proceed };
        let counts = match (hop, &call.caller().party) {
            _ if same_source(call.caller().hop, hop, remote) => true,
            (Hop::Flow(flow), Party::User { .. }) => {
                self.is_account_of(now, call.id(), call.caller().end, flow)
            }
            (_, Party::Trunk(name)) => self.trunk_of(remote).as_ref() == Some(name),
            _ => false,
        };
        if counts { Screening::Proceed } else { none() }
    }

    /// Whether a flow proved to be the account of a leg. Tokens and credentials may give one name
    /// to several people: the dialplan and the number must be the same too.
    fn is_account_of(&self, now: Instant, id: CallId, end: LegId, flow: Flow) -> bool {
        let leg = self.calls.get(id).and_then(|call| call.leg_of(end));
        leg.is_some_and(|leg| match &leg.party {
            Party::User { name, .. } => {
                self.is_account(now, flow, name, &leg.account.as_deref().map(User::place))
            }
            Party::Trunk(_) | Party::Number(_) | Party::Internal(_) => false,
        })
    }

    /// Whether a flow proved to be this user, with the dialplan and the number of this account.
    pub(super) fn is_account(
        &self,
        now: Instant,
        flow: Flow,
        user: &str,
        account: &Option<(String, Option<String>)>,
    ) -> bool {
        let proved = self.identity_of(now, flow).and_then(|state| state.user.as_deref());
        proved == Some(user) && self.user(user, flow).as_deref().map(User::place) == *account
    }

    /// The leg continues by `flow`, which must have proved to be its account.
    pub(super) fn take_up(
        &mut self,
        turn: &mut Turn<'_>,
        id: CallId,
        end: LegId,
        flow: Flow,
    ) -> bool {
        let here = self.calls.get(id).and_then(|call| call.hop_of(end)) == Some(Hop::Flow(flow));
        if !here && self.is_account_of(turn.now, id, end, flow) {
            self.with_call(turn, id, |call, cx| call.take_up(cx, end, Hop::Flow(flow)));
            return true;
        }
        here
    }

    /// An INVITE whose Replaces names a leg of its sender's own account: the leg.
    ///
    /// # Errors
    /// It names a leg of somebody else, or nothing that continues.
    pub(super) fn replaced(
        &self,
        now: Instant,
        message: &Message,
        sender: &RequestSource,
    ) -> Result<Option<(CallId, LegId, Replaces)>, Refusal> {
        self.replaced_by(message, |id, leg| match (sender, &leg.party) {
            (RequestSource::User(_, flow), _) => self.is_account_of(now, id, leg.end, *flow),
            (RequestSource::Trunk(name), Party::Trunk(owner)) => name == owner,
            (RequestSource::Trunk(_), _) => false,
        })
    }

    /// Likewise, of a sender for whom `is_own` says whether a leg is its own.
    fn replaced_by(
        &self,
        message: &Message,
        is_own: impl FnOnce(CallId, &Leg) -> bool,
    ) -> Result<Option<(CallId, LegId, Replaces)>, Refusal> {
        let Some(replaces) = Replaces::of(message)? else { return Ok(None) };
        let gone = || Refusal::new(481, "Replaces names no active call");
        let found = [&replaces.to_tag, &replaces.from_tag]
            .into_iter()
            .find_map(|t| self.services.dialogs.get(t).copied());
        let (id, end) = found.ok_or_else(gone)?;
        let leg = self.calls.get(id).and_then(|call| call.leg_of(end)).ok_or_else(gone)?;
        if !leg.is_named_by(&replaces) {
            return Err(gone());
        }
        if !is_own(id, leg) {
            let why = "a call may be replaced by who is in it, and by nobody else";
            return Err(Refusal::new(403, why));
        }
        Ok(Some((id, end, replaces)))
    }

    /// A user's INVITE that takes the place of a leg of its own call is that call's, and no new
    /// one. Returns false if it is not one.
    pub(super) fn replace_own_leg(
        &mut self,
        turn: &mut Turn<'_>,
        incoming: &Incoming<'_>,
        sender: &RequestSource,
        party: &Party,
    ) -> bool {
        let replaced = self.replaced(turn.now, incoming.message, sender);
        let (RequestSource::User(..), Ok(Some(replaced))) = (sender, replaced) else {
            return false;
        };
        if incoming.message.max_forwards() == 0 {
            return false;
        }
        let pace = self.account_of(sender).and_then(|user| user.calls_per_second);
        self.take_place(turn, incoming, party, pace, &replaced);
        true
    }

    /// An INVITE takes the place of a leg of its sender's.
    fn take_place(
        &mut self,
        turn: &mut Turn<'_>,
        incoming: &Incoming<'_>,
        party: &Party,
        pace: Option<u32>,
        replaced: &(CallId, LegId, Replaces),
    ) {
        let Incoming { id: server, hop, message: invite } = *incoming;
        let (call, end, replaces) = (replaced.0, replaced.1, &replaced.2);
        let pace = pace.unwrap_or(self.config.limits.new_calls_per_second_per_user);
        if let Party::User { name, .. } = party
            && let Err(why) = self.services.brakes.call(turn.now, name, pace)
        {
            return self.refuse(turn, server, invite, &why);
        }
        let before = self.calls.get(call).and_then(|call| call.dialog_of(end));
        if let Some(before) = before.map(|dialog| dialog.id.call_id.clone()) {
            self.recorder.succeed(call, &before, invite.call_id());
        }
        let party = party.clone();
        let by = Replacement { server, hop, invite, replaces, party };
        self.with_call(turn, call, |call, cx| call.replace(cx, end, by));
    }

    /// An INVITE with Replaces that another node passed on, since the dialog it names is here: a
    /// trunk's begins a call, a user's takes the place of a leg.
    pub(super) fn replacement_of_node(
        &mut self,
        turn: &mut Turn<'_>,
        id: ServerId,
        hop: Hop,
        message: Message,
    ) {
        let gone = || Refusal::new(481, "Replaces names no active call");
        let refused = match passed_for(&message) {
            Some(PassedFor::Trunk(name)) => match self.trunk_behind(&message, &name) {
                // Its dialog goes the way its messages come, and only this INVITE by the node.
                Some(by) => {
                    return self.invite(turn, id, by, message, RequestSource::Trunk(name));
                }
                None => gone(),
            },
            Some(passed) => match self.replaced_by(&message, |call, leg| {
                let owner = self.owner_at(hop, call, leg.end, &passed);
                matches!(owner, Owner::Here(..) | Owner::Elsewhere(..))
            }) {
                Ok(Some(replaced)) if message.max_forwards() > 0 => {
                    let PassedFor::User { user: name, .. } = passed else { return };
                    let pace = self.config.users.get(&name).and_then(|u| u.calls_per_second);
                    let party = Party::User { name, instance: None };
                    let incoming = Incoming { id, hop, message: &message };
                    return self.take_place(turn, &incoming, &party, pace, &replaced);
                }
                Ok(Some(_)) => Refusal::new(483, "Max-Forwards is used up: a loop?"),
                Ok(None) => gone(),
                Err(why) => why,
            },
            None => Refusal::new(403, "nodes begin nothing at one another"),
        };
        self.refuse(turn, id, &message, &refused);
    }

    /// Returns the dialog a message belongs to, if it came the way that dialog's messages come, or
    /// from its account: then they go by that way from now on.
    pub(super) fn find_dialog(
        &mut self,
        turn: &mut Turn<'_>,
        hop: Hop,
        message: &Message,
    ) -> Option<(CallId, LegId)> {
        match (self.owner_of(hop, message), hop) {
            (Owner::Here(call, end), _) => {
                let by_flow = matches!(hop, Hop::Flow(_)).then_some(call);
                let party = by_flow.and_then(|id| self.calls.get(id)?.party_of(end).cloned());
                if let Some(Party::Trunk(name)) = party {
                    self.trunk_came_by(turn, (&name, hop), [call]);
                }
                Some((call, end))
            }
            (Owner::Account(call, end, _), Hop::Flow(flow)) => {
                self.take_up(turn, call, end, flow).then_some((call, end))
            }
            (Owner::Elsewhere(call, end, route), _) => {
                self.with_call(turn, call, |call, cx| call.take_up_there(cx, end, hop, &route));
                Some((call, end))
            }
            _ => None,
        }
    }

    /// A browser has registered: its legs that had lost their flow continue by this one. Those on
    /// flows it `replaced` do so if nobody answers there: another tab may share its instance.
    pub(super) fn browser_back(
        &mut self,
        turn: &mut Turn<'_>,
        user: &str,
        binding: &Binding,
        replaced: &[Flow],
    ) {
        let flow = binding.flow;
        let legs: Vec<(CallId, LegId, bool)> = self
            .calls
            .with_user(user)
            .flat_map(|call| {
                let legs = call.legs_of_browser(user, binding, replaced).into_iter();
                legs.map(move |(end, lost)| (call.id(), end, lost))
            })
            .filter(|(id, end, _)| self.is_account_of(turn.now, *id, *end, flow))
            .collect();
        for (id, end, lost) in legs {
            self.with_call(turn, id, |call, cx| {
                if lost {
                    if call.ring_anew(cx, end, binding) {
                        return;
                    }
                    call.take_up(cx, end, Hop::Flow(flow));
                    call.probe(cx, end);
                } else {
                    call.supersede(cx, end, flow);
                }
            });
        }
        self.pay_browser(turn, user, binding);
    }
}
