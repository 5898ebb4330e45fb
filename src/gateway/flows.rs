//! Connections: opened, lost, come back, and hops that cannot be reached.

use super::{FIRST_AUTHENTICATION, FlowKind, Gateway, Turn};
use crate::call::{CallId, Output};
use crate::errors::Code;
use crate::event::Event;
use crate::flow::FlowState;
use crate::media::LegId;
use crate::sip::transaction::{Flow, Hop};
use std::net::SocketAddr;

impl Gateway {
    pub(super) fn flow_opened(
        &mut self,
        turn: &mut Turn<'_>,
        flow: Flow,
        kind: FlowKind,
        remote: SocketAddr,
    ) {
        if kind != FlowKind::WebSocket
            && self.trunk_of(remote).is_none()
            && !self.accepts_strangers()
        {
            self.dropped += 1;
            turn.push(Output::Event(Event::Dropped {
                why: "a connection from an address of no trunk",
                remote: Some(remote),
            }));
            turn.push(Output::CloseFlow(flow));
            return;
        }
        self.services
            .flows
            .insert(flow, FlowState { kind, remote, user: None, account: None, until: None });
        if kind == FlowKind::WebSocket || self.trunk_of(remote).is_none() {
            self.unproved.set(flow, turn.now + FIRST_AUTHENTICATION);
        }
    }

    pub(super) fn flow_closed(&mut self, turn: &mut Turn<'_>, flow: Flow) {
        let state = self.services.flows.remove(&flow);
        self.unproved.clear(&flow);
        self.services.aliases.retain(|_, f| *f != flow);
        for user in self.services.registrar.flow_closed(flow) {
            self.registration_changed(turn, &user);
            turn.push(Output::Event(Event::Unregistered {
                user,
                why: crate::event::UnregisterReason::Closed,
            }));
        }
        self.trunk_flow_closed(flow, turn.out);
        let mut events = Vec::new();
        self.services.transactions.hop_failed(Hop::Flow(flow), &mut events);
        self.dispatch(turn, events);
        let trunk = state
            .filter(|s| s.kind != FlowKind::WebSocket)
            .map(|s| (s.remote, s.kind == FlowKind::Tls));
        let grace = self.config.sip.flow_grace;
        for (id, end) in self.legs_on(Hop::Flow(flow)) {
            self.with_call(turn, id, |call, cx| {
                if let Some((remote, secure)) = trunk {
                    return call.reconnect_trunk(cx, end, remote, secure);
                }
                if let Some(leg) = call.leg_mut(end) {
                    leg.flow_lost = true;
                }
                call.flow_changed(cx, end, Some(grace));
            });
        }
    }

    /// A browser is back on a new flow: its calls go on over it (a dialog is not a flow), whether
    /// the old flow is known to be dead or was `replaced` before anyone noticed.
    pub(super) fn flow_resumed(
        &mut self,
        turn: &mut Turn<'_>,
        user: &str,
        instance: &str,
        flow: Flow,
        replaced: &[Flow],
    ) {
        let lost: Vec<(CallId, LegId)> = self
            .calls
            .iter()
            .flat_map(|call| {
                let id = call.id;
                call.lost_legs(user, instance, replaced).into_iter().map(move |e| (id, e))
            })
            .collect();
        for (id, end) in lost {
            self.with_call(turn, id, |call, cx| {
                if let Some(leg) = call.leg_mut(end) {
                    leg.flow_lost = false;
                    leg.hop = Hop::Flow(flow);
                    if let Some(dialog) = &mut leg.dialog {
                        dialog.hop = Hop::Flow(flow);
                    }
                }
                call.flow_changed(cx, end, None);
            });
        }
    }

    pub(super) fn legs_on(&self, hop: Hop) -> Vec<(CallId, LegId)> {
        self.calls
            .iter()
            .flat_map(|call| call.ends_on(hop).into_iter().map(|e| (call.id, e)))
            .collect()
    }

    pub(super) fn unreachable(&mut self, turn: &mut Turn<'_>, hop: Hop, why: (Code, String)) {
        self.services.locator.failed_because(turn.now, hop, (!why.1.is_empty()).then_some(why));
        let mut events = Vec::new();
        self.services.transactions.hop_failed(hop, &mut events);
        self.dispatch(turn, events);
    }
}
