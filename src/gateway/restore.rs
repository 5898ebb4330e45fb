//! Calls that outlive the process: their values, for whoever keeps them, and calls from values.

use super::{Gateway, Input, Turn};
use crate::call::call_snapshot::{CallSnapshot, Resumption, SettledOf, SnapshotTaken};
use crate::call::relocation::PortsOf;
use crate::call::{Call, CallId, CallPhase, Output};
use crate::cdr::{NodeChange, Party};
use crate::event::Event;
use crate::flow::{FlowKind, FlowState};
use crate::sip::message::Message;
use crate::sip::parse::Framing;
use crate::sip::transaction::{Flow, Hop};
use crate::trunk::{TrunkBinding, TrunkBindingSnapshot};
use crate::worker::WorkerCommand;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// A call of an earlier process.
pub struct FoundCall<'a> {
    /// Its signalling.
    pub call: CallSnapshot,
    /// How long ago the value was taken.
    pub age: Duration,
    /// Since when nobody had its media.
    pub silent_since: Instant,
    /// Its media, if its worker continues with it; else why it cannot.
    pub media: Result<SettledOf<'a>, String>,
    /// The node it was taken from; `None`: an earlier process of this one had it.
    pub from: Option<NodeChange>,
    /// Where its media is received, if not where it was.
    pub ports: Option<PortsOf<'a>>,
}

/// A request within a call that was read from a connection while this process gave its calls to
/// another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LateRequest {
    /// Its sender.
    pub from: LateSender,
    /// The other end of its connection.
    pub remote: SocketAddr,
    /// It.
    pub bytes: Vec<u8>,
}

/// The authenticated sender of a [`LateRequest`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LateSender {
    /// This user, by a WebSocket.
    User(String),
    /// A trunk, by a connection that we opened.
    Tcp(SocketAddr),
}

impl Gateway {
    /// Has [`changed_calls`](Self::changed_calls) tell of calls from now on.
    pub fn keep_calls(&mut self) {
        self.calls.keep();
        self.services.farewells.keep();
        self.services.owed_goodbyes.keep();
    }

    /// Tells the other nodes in which form calls are kept here, and which forms can be read.
    pub fn keep_calls_as(&mut self, form: u16, reads: &[u16]) {
        self.services.cluster.iter_mut().for_each(|cluster| cluster.say_forms(form, reads));
    }

    /// Whether [`changed_calls`](Self::changed_calls) has something to tell.
    pub(crate) fn has_changed_calls(&self) -> bool {
        self.calls.has_changed()
    }

    /// Whether there is such a call.
    pub(crate) fn knows_call(&self, id: CallId) -> bool {
        self.calls.get(id).is_some()
    }

    /// Returns the calls that changed since the last time, as values; `None` for one that is over.
    pub fn changed_calls(&mut self, now: Instant) -> Vec<(CallId, Option<CallSnapshot>)> {
        let changed = self.calls.take_changed();
        let (timers, taken) = (&self.services.timers, self.taken(now));
        let value = |id: CallId| {
            let left = |timer| timers.left(&(id, timer), now);
            let call = self.calls.get(id).and_then(|call| call.snapshot(taken, left));
            (id, call)
        };
        changed.into_iter().map(value).collect()
    }

    /// Returns trunks that have registered here since the last time, as values; `None` for one that
    /// is not, or whose connection ends with the process.
    pub fn changed_trunks(&mut self, now: Instant) -> Vec<(String, Option<TrunkBindingSnapshot>)> {
        let changed = self.services.trunks.take_rebound();
        let trunks = &self.services.trunks;
        let bound = |name: &str| trunks.get(name)?.bound.as_ref()?.snapshot(now);
        let value = |name: String| {
            let bound = bound(&name);
            (name, bound)
        };
        changed.into_iter().map(value).collect()
    }

    /// A trunk was registered with an earlier process, by a value that was taken `age` ago. Returns
    /// whether it still is.
    pub fn restore_trunk(
        &mut self,
        now: Instant,
        name: &str,
        (value, age): (TrunkBindingSnapshot, Duration),
    ) -> bool {
        let accepts = self.config.trunks.get(name).is_some_and(|trunk| trunk.accepts_registration);
        let bound = TrunkBinding::restore(value, now, age).filter(|_| accepts);
        bound.map(|bound| self.services.trunks.bind(name, bound)).is_some()
    }

    fn taken(&self, now: Instant) -> SnapshotTaken<'_> {
        SnapshotTaken { now, config: &self.config, flows: &self.services.flows }
    }

    /// Returns all calls as values. Those that have not changed since `before` was taken, moments
    /// ago, are taken from there.
    pub fn all_calls(&self, now: Instant, before: Vec<CallSnapshot>) -> Vec<CallSnapshot> {
        let (timers, taken) = (&self.services.timers, self.taken(now));
        let mut before: HashMap<CallId, CallSnapshot> =
            before.into_iter().map(|call| (call.id(), call)).collect();
        let value = |call: &Call| {
            let id = call.id();
            before
                .remove(&id)
                .filter(|_| self.calls.is_known_unchanged(id))
                .or_else(|| call.snapshot(taken, |timer| timers.left(&(id, timer), now)))
        };
        self.calls.iter().filter_map(value).collect()
    }

    /// How many calls another process could only end.
    pub fn unsettled(&self) -> usize {
        self.calls.iter().filter(|call| call.is_unsettled()).count()
    }

    /// Whether new calls are refused because another process is about to take over.
    pub fn refuse_for_upgrade(&mut self, refuse: bool) {
        self.upgrading = refuse;
    }

    /// Whether this process had the call since a value that was taken `age` ago: there may be
    /// several of those, of each process that had it once.
    pub fn has_newer(&self, now: Instant, id: CallId, age: Duration) -> bool {
        let since = self.calls.since(id);
        since.is_some_and(|since| now.checked_sub(age).is_none_or(|taken| taken <= since))
    }

    /// Takes a call of an earlier process up again, or ends it for everybody in it.
    pub fn restore(&mut self, now: Instant, found: FoundCall<'_>, out: &mut Vec<Output>) {
        let turn = &mut Turn::new(now, out);
        let (id, before) = (found.call.id(), turn.out.len());
        if self.has_newer(now, id, found.age) {
            return;
        }
        self.give_way(turn, &found);
        let (settled, transferring) = (found.call.is_settled(), found.call.is_transferring());
        let connecting = found.call.is_connecting();
        let with = Resumption {
            age: found.age,
            silent_since: found.silent_since,
            media: found.media.as_ref().ok().copied(),
            from: found.from,
            ports: found.ports,
        };
        let (moved, taken) = (found.ports.is_some(), with.from.is_some());
        let mut cx = self.context(turn);
        // What was written by a process that had a bug ends no start.
        let restored = catch_unwind(AssertUnwindSafe(|| Call::restore(&mut cx, found.call, &with)));
        let Ok(restored) = restored else {
            return turn.push(Output::Event(Event::CallPanicked { call: id }));
        };
        let Some(call) = restored else { return };
        self.remember(&call);
        let user = match &call.cdr().from {
            Party::User { name, .. } => Some(name.clone()),
            Party::Trunk(_) | Party::Number(_) | Party::Internal(_) => None,
        };
        self.calls.insert_received(call, user);
        self.calls.touch(id).into_iter().for_each(|live| live.since = now);
        self.find_browsers(turn, id);
        self.with_call(turn, id, |call, cx| match &found.media {
            Ok(_) if call.has_lost_trunk() => {
                call.cut_off(cx, "its trunk is not configured any more");
            }
            Ok(_) if transferring => call.take_transfer_back(cx),
            Ok(_) if connecting => call.take_route_again(cx),
            Ok(_) if settled => {}
            Ok(_) => call.cut_off(cx, "it was not yet answered, or was being handed over"),
            Err(why) => call.cut_off(cx, why),
        });
        self.with_call(turn, id, |call, cx| {
            if moved && found.media.is_ok() {
                call.tell_relocated(cx);
            }
            if taken && found.media.is_ok() {
                call.ask_where(cx);
            }
        });
        if taken {
            self.reunite(turn, id);
        }
        self.follow_up(turn);
        self.sweep(turn.out);
        self.record_turn(now, None, &turn.out[before.min(turn.out.len())..]);
    }

    /// A node may get back a call that it did not yet know it had lost: the newer value counts. Its
    /// worker ends the media it had on its own if it continues with newer.
    fn give_way(&mut self, turn: &mut Turn<'_>, found: &FoundCall<'_>) {
        let id = found.call.id();
        self.held.forget(|call| call == id);
        let Some(worker) = self.part_with(turn.now, id) else { return };
        if found.media.is_err() || worker != found.call.worker() {
            turn.push(Output::Media { worker, command: WorkerCommand::Close { session: id.0 } });
        }
    }

    /// Browsers that came to this node before their call did.
    fn find_browsers(&mut self, turn: &mut Turn<'_>, id: CallId) {
        let Some(call) = self.calls.get(id) else { return };
        let lost = call.lost_users();
        for user in lost {
            for binding in self.services.registrar.bindings(turn.now, &user) {
                self.browser_back(turn, &user, &binding, &[]);
            }
        }
    }

    /// All calls of an earlier process of this node were taken up: one that was joined with a call
    /// that was not is ended. Those of a lost node come a few at a time, and
    /// [wait](Call::await_other_half).
    pub fn all_restored(&mut self, now: Instant, calls: &[CallId], out: &mut Vec<Output>) {
        let turn = &mut Turn::new(now, out);
        let half = |id: &CallId| {
            let other = self.calls.get(*id)?.other_half()?;
            let back = self
                .calls
                .get(other)
                .filter(|o| o.state() != CallPhase::Over && o.other_half() == Some(*id));
            back.is_none().then_some(*id)
        };
        let alone: Vec<CallId> = calls.iter().filter_map(half).collect();
        for id in alone {
            self.with_call(turn, id, |call, cx| call.other_half_missing(cx));
        }
        self.follow_up(turn);
        self.sweep(turn.out);
    }

    /// Returns a request for a successor of the process, or `None` unless it is within a call and
    /// its sender is proved.
    pub(crate) fn late_request(
        &self,
        hop: Hop,
        remote: SocketAddr,
        message: &Message,
    ) -> Option<LateRequest> {
        let within = message.is_request() && message.to().is_some_and(|to| to.tag().is_some());
        let from = match hop {
            Hop::Flow(flow) => LateSender::User(self.services.flows.get(&flow)?.user.clone()?),
            Hop::Tcp(to) => LateSender::Tcp(to),
            // Datagrams wait in the socket; the rest comes by a connection to be proved anew.
            _ => return None,
        };
        within.then(|| LateRequest { from, remote, bytes: message.to_bytes().to_vec() })
    }

    /// Takes a request that came to the process whose place was taken. `flow`: a number no
    /// connection has. What answers it finds no connection; what it asks for is done.
    pub fn hear_late(
        &mut self,
        now: Instant,
        (flow, late): (Flow, LateRequest),
        out: &mut Vec<Output>,
    ) {
        let Ok(message) = Message::parse(late.bytes, Framing::WebSocket) else { return };
        let remote = late.remote;
        let hop = match late.from {
            LateSender::Tcp(to) => Hop::Tcp(to),
            LateSender::User(name) => {
                let mut state = FlowState::opened(FlowKind::WebSocket, remote);
                state.user = Some(name);
                self.services.flows.insert(flow, state);
                Hop::Flow(flow)
            }
        };
        self.handle(now, Input::Received { hop, remote, message }, out);
        if hop == Hop::Flow(flow) {
            self.handle(now, Input::FlowClosed { flow }, out);
        }
    }

    /// The recorder knows it by its parties' Call-IDs.
    fn remember(&mut self, call: &Call) {
        let cdr = call.cdr();
        let from = cdr.from.to_string();
        self.recorder.open(cdr.start, call.id(), &from, &cdr.dialled, &cdr.caller_call_id);
        cdr.callee_call_id.iter().for_each(|name| self.recorder.name(call.id(), name));
    }
}
