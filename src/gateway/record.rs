//! What the recorder gets of each turn: the message that came, those that went, media's news,
//! events.

use super::challenges::opened;
use super::{FlowKind, Gateway, Input};
use crate::call::branch::BranchTarget;
use crate::call::context::TransactionUser;
use crate::call::{CallId, Output};
use crate::event::Event;
use crate::media::session::SessionEvent;
use crate::recorder::TraceEvent;
use crate::sip::message::Message;
use crate::sip::salvage::Salvaged;
use crate::sip::status::Method;
use crate::sip::transaction::Hop;
use crate::worker::Notice;
use memchr::memmem;
use std::net::SocketAddr;
use std::time::Instant;

/// What of an input may belong to a call's story.
pub(super) enum RecordedInput {
    Message(Hop, Message),
    Media(CallId, SessionEvent),
}

/// Copies the reference of what is worth telling; a REGISTER or a probe belongs to no call.
pub(super) fn recorded_input(input: &Input) -> Option<RecordedInput> {
    match input {
        Input::Received { hop, message, .. } => {
            let outside = matches!(
                message.method(),
                Method::Register
                    | Method::Options
                    | Method::Message
                    | Method::Subscribe
                    | Method::Publish
            );
            (!outside).then(|| RecordedInput::Message(*hop, message.clone()))
        }
        Input::Media { notice: Notice::Media(SessionEvent::Quality { .. }), .. } => None,
        Input::Media { session, notice: Notice::Media(event) } => {
            Some(RecordedInput::Media(CallId(*session), event.clone()))
        }
        _ => None,
    }
}

/// The Call-ID of a message of ours; `Writer` spells the name one way only.
fn call_id_of(bytes: &[u8]) -> Option<&str> {
    const NAME: &[u8] = b"\r\nCall-ID: ";
    if bytes.starts_with(b"REGISTER") || bytes.starts_with(b"OPTIONS") {
        return None;
    }
    let value = &bytes[memmem::find(bytes, NAME)? + NAME.len()..];
    std::str::from_utf8(&value[..memchr::memchr(b'\r', value)?]).ok()
}

impl Gateway {
    /// A message that came in, for the call it is of.
    pub(super) fn record_received(&mut self, now: Instant, hop: Hop, message: &Message) {
        let call = self.recorder.call_of(message.call_id());
        if let Some(call) = call.or_else(|| self.call_by_branch(message))
            && let Some(lane) = self.lane(call, message.call_id(), hop)
        {
            self.recorder.received(now, call, lane, message);
        }
    }

    /// The call a response belongs to whose Call-ID says nothing.
    fn call_by_branch(&self, message: &Message) -> Option<CallId> {
        if message.is_request() {
            return None;
        }
        let user =
            self.services.transaction_users.get(&self.services.transactions.client_of(message)?)?;
        match opened(user.clone()).0 {
            TransactionUser::Branch(call, _) | TransactionUser::Leg(call, ..) => Some(call),
            _ => None,
        }
    }

    pub(super) fn record_turn(
        &mut self,
        now: Instant,
        received: Option<RecordedInput>,
        out: &[Output],
    ) {
        match received {
            Some(RecordedInput::Message(hop, message)) => self.record_received(now, hop, &message),
            Some(RecordedInput::Media(call, event)) => {
                self.recorder.add(now, call, TraceEvent::Media(event))
            }
            None => {}
        }
        for (call, considered) in std::mem::take(&mut self.routed) {
            self.recorder.add(now, call, TraceEvent::Routed(considered));
        }
        for output in out {
            match output {
                Output::Send(transmit) => self.record_sent(now, transmit.hop, &transmit.bytes),
                Output::Event(event) => self.record_event(now, event),
                _ => {}
            }
        }
    }

    /// A message of a call could not be read, or not used: it becomes part of the call's trace if a
    /// peer of the call sent it, and is remembered for the verdict.
    pub(super) fn unreadable(
        &mut self,
        remote: SocketAddr,
        rest: &Salvaged,
        why: &str,
        out: &mut Vec<Output>,
    ) {
        let found = self.recorder.call_of(&rest.call_id);
        let Some(call) = found.or_else(|| self.services.own_call_ids.get(&rest.call_id).copied())
        else {
            return;
        };
        let known = self.trunk_of(remote).or_else(|| {
            let lanes = &self.recorder.get(call)?.lanes;
            let lane = lanes.iter().find(|l| self.remote_of(l.hop) == Some(remote))?;
            Some(lane.name.clone())
        });
        let Some(peer) = known else { return };
        let why = format!("{peer} sent what cannot be used ({why}): {}", rest.start_line);
        if let Some(live) = self.calls.touch(call) {
            live.call.cdr_mut().unreadable.get_or_insert_with(|| why.clone());
        }
        out.push(Output::Event(Event::Unreadable { call, why }));
    }

    fn record_sent(&mut self, now: Instant, hop: Hop, bytes: &[u8]) {
        let Some(call_id) = call_id_of(bytes) else { return };
        let known = self.recorder.call_of(call_id);
        let Some(call) = known.or_else(|| self.services.own_call_ids.get(call_id).copied()) else {
            return;
        };
        if known.is_none() {
            self.recorder.name(call, call_id);
        }
        if let Some(lane) = self.lane(call, call_id, hop) {
            self.recorder.sent(now, call, lane, bytes);
        }
    }

    fn record_event(&mut self, now: Instant, event: &Event) {
        if let Event::CallEnded { cdr } = event {
            self.recorder.ended(cdr.call, cdr.clone());
        }
        if matches!(event, Event::Quality { .. } | Event::CallRinging { .. }) {
            return;
        }
        if let Some(call) = event.call() {
            self.recorder.record_event(now, call, event);
        }
    }

    /// Returns the lane of a leg, or `None` for a call that is not kept; its peer is named once.
    fn lane(&mut self, call: CallId, sip_call_id: &str, hop: Hop) -> Option<usize> {
        // With the recorder off nobody is to be named.
        self.recorder.get(call)?;
        self.recorder.lane(call, sip_call_id).or_else(|| {
            let name = self.peer_name(call, sip_call_id, hop);
            self.recorder.add_lane(call, sip_call_id, hop, name)
        })
    }

    /// The party at the other end of a leg, for a reader: a trunk we call is the one we mean,
    /// whoever else is at its address.
    fn peer_name(&self, call: CallId, sip_call_id: &str, hop: Hop) -> String {
        if let Some(trunk) = self.trunk_called(call, sip_call_id) {
            return trunk;
        }
        if let Hop::Flow(flow) = hop
            && let Some(state) =
                self.services.flows.get(&flow).filter(|s| s.kind == FlowKind::WebSocket)
        {
            return format!("browser {}", state.user.as_deref().unwrap_or("?"));
        }
        let remote = self.remote_of(hop);
        remote
            .and_then(|r| self.trunk_of(r))
            .unwrap_or_else(|| remote.map_or(hop.to_string(), |r| r.to_string()))
    }

    /// The trunk a leg of ours goes to.
    fn trunk_called(&self, call: CallId, sip_call_id: &str) -> Option<String> {
        let branch = self.calls.get(call)?.branch_called(sip_call_id)?;
        match &branch.target {
            BranchTarget::Trunk { name, .. } => Some(name.clone()),
            BranchTarget::User { .. } | BranchTarget::Joined => None,
        }
    }
}
