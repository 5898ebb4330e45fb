//! Connections: opened, lost, come back, and hops that cannot be reached.

use super::{FIRST_AUTHENTICATION, FlowKind, Gateway, Turn};
use crate::call::{Call, CallId, Output};
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
        self.services.flows.insert(flow, FlowState::opened(kind, remote));
        if kind == FlowKind::WebSocket || self.trunk_of(remote).is_none() {
            self.unproved.set(flow, turn.now + FIRST_AUTHENTICATION);
        }
    }

    pub(super) fn flow_closed(&mut self, turn: &mut Turn<'_>, flow: Flow) {
        let state = self.services.flows.remove(&flow);
        self.unproved.clear(&flow);
        self.end_subscriptions_on(turn, flow);
        for user in self.services.registrar.flow_closed(flow) {
            self.registration_changed(turn, &user);
            turn.push(Output::Event(Event::Unregistered {
                user,
                why: crate::event::UnregisterReason::Closed,
            }));
        }
        let who = state.as_ref().and_then(|s| Some((s.user.clone()?, s.remote.ip())));
        let page_left = state.as_ref().is_some_and(|s| s.page_left);
        let trunk =
            state.filter(|s| s.kind != FlowKind::WebSocket).map(|s| (s.remote.ip(), s.kind));
        if trunk.is_some() {
            self.services.aliases.forget(flow);
            self.trunk_flow_closed(flow, turn.out);
        }
        let legs = self.legs_on(flow);
        if trunk.is_none() {
            self.expect_back(turn.now, who.filter(|_| !legs.is_empty()));
            // What rings, or waits for its answer, waits for its browser to come back.
            for (id, end) in &legs {
                self.with_call(turn, *id, |call, cx| call.suspend(cx, *end));
            }
        }
        let mut events = Vec::new();
        self.services.transactions.hop_failed(Hop::Flow(flow), &mut events);
        self.dispatch(turn, events);
        for (id, end) in legs {
            self.with_call(turn, id, |call, cx| match trunk {
                Some(back) => call.reconnect_trunk(cx, end, back),
                None => call.flow_lost(cx, end, page_left),
            });
        }
    }

    /// Connections of browsers that calls go by are watched more closely, from now on or no more.
    pub(super) fn watch_flows(&mut self, out: &mut Vec<Output>) {
        for (flow, in_call) in self.calls.take_refiled() {
            let state = self.services.flows.get_mut(&flow);
            let state = state.filter(|s| s.kind == FlowKind::WebSocket && s.in_call != in_call);
            if let Some(state) = state {
                state.in_call = in_call;
                out.push(Output::FlowInCall { flow, in_call });
            }
        }
    }

    /// A browser says that its page is closed or reloaded: its connection ends next.
    pub(super) fn page_left(&mut self, flow: Flow) {
        if let Some(state) = self.services.flows.get_mut(&flow) {
            state.page_left = true;
        }
    }

    fn legs_on(&self, flow: Flow) -> Vec<(CallId, LegId)> {
        let ends = |call: &Call| call.ends_on(Hop::Flow(flow));
        let calls = self.calls.on_flow(flow);
        calls.flat_map(|call| ends(call).into_iter().map(|end| (call.id(), end))).collect()
    }

    pub(super) fn unreachable(&mut self, turn: &mut Turn<'_>, hop: Hop, code: Code, why: String) {
        let reason = (!why.is_empty()).then_some((code, why));
        self.services.locator.failed_because(turn.now, hop, reason);
        if let (Hop::Node(at), Some(cluster)) = (hop, &mut self.services.cluster) {
            cluster.node_unreachable(turn.now, at);
        }
        let mut events = Vec::new();
        self.services.transactions.hop_failed(hop, &mut events);
        self.dispatch(turn, events);
    }
}
