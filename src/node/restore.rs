//! What somebody else left goes on here: calls, trunks and goodbyes of an earlier process on this
//! disk, of the process whose place is taken, or of a node that is gone.

use super::call_storage::TakenUp;
use super::core::Core;
use super::take_over::READS;
use super::{RECORDS, farewells};
use crate::call::CallId;
use crate::call::call_snapshot::SettledOf;
use crate::call::relocation::PortsOf;
use crate::cdr::NodeChange;
use crate::cluster::Cluster;
use crate::cluster::succession::TakenCalls;
use crate::event::Event;
use crate::gateway::restore::{FoundCall, LateRequest};
use crate::state::checkpoints::CheckpointEntry;
use crate::worker::WorkerCommand;
use std::time::Instant;

/// Where calls come from that another node had.
struct TakenFrom {
    change: NodeChange,
    /// Its address is this node's now.
    here: bool,
}
impl Core {
    /// Keeps which process of the cluster this is: another, once it was deposed.
    pub(super) fn keep_process(&mut self) {
        let epoch = self.gateway.cluster().map(Cluster::epoch);
        if let Some(epoch) = epoch.filter(|_| self.process != epoch) {
            self.process = Some(epoch);
            self.state.keep_process(epoch);
        }
    }

    /// Calls are kept where somebody may find them: on disk, or in the cluster's store.
    fn keep_calls(&mut self) {
        if self.state.directory.is_some() || self.links.is_some() {
            self.gateway.keep_calls();
            self.gateway.keep_calls_as(RECORDS, &READS);
        }
    }

    /// Takes up the calls an earlier process left, before anything arrives.
    pub(super) fn take_up(&mut self, found: Vec<CheckpointEntry>) {
        self.keep_calls();
        if self.state.directory.is_none() {
            return;
        }
        self.restore_trunks();
        let (checkpoints, journal) = (&self.state.checkpoints, self.journal.as_ref());
        let left = self.kept.take_up(checkpoints, found, &self.workers, journal);
        let died = self.state.checkpoints.died();
        let died = died.and_then(|ago| Instant::now().checked_sub(ago));
        let (goes_on, all) = self.restore(left, died, None);
        self.say_farewells();
        if all > 0 {
            tracing::info!("restarted: {goes_on} of {all} calls continue");
        }
    }

    /// Trunks that had registered are reached where they were.
    fn restore_trunks(&mut self) {
        let found = std::mem::take(&mut self.state.trunks);
        let places = (&self.state.checkpoints, &mut self.gateway);
        let stay = self.kept.restore_trunks(places, found);
        if stay > 0 {
            tracing::info!("restarted: {stay} trunk(s) stay registered");
        }
    }

    /// Goodbyes that nobody has answered are said again.
    fn say_farewells(&mut self) {
        let found = std::mem::take(&mut self.state.farewells);
        let mut out = Vec::new();
        let places = (&self.state.checkpoints, &mut self.gateway);
        farewells::say_again(places, found, &mut out);
        self.perform_all(&mut out);
    }

    /// Goes on with the calls of a process whose place was taken; their media continues already.
    pub(super) fn take_over(
        &mut self,
        given: Vec<TakenUp>,
        found: Vec<CheckpointEntry>,
        late: Vec<LateRequest>,
    ) {
        self.keep_calls();
        if self.state.directory.is_some() {
            self.restore_trunks();
            let (checkpoints, journal) = (&self.state.checkpoints, self.journal.as_ref());
            self.kept.take_over(checkpoints, found, &given, journal);
        }
        let (goes_on, all) = self.restore(given, None, None);
        self.say_farewells();
        tracing::info!("upgraded: {goes_on} of {all} calls continue");
        let (now, mut out) = (Instant::now(), Vec::new());
        for request in late {
            self.gateway.hear_late(now, (self.inbox.flow(), request), &mut out);
            self.perform_all(&mut out);
        }
    }

    /// Goes on with calls of a node that is gone.
    pub(super) fn take_lost(&mut self, taken: TakenCalls) {
        let (lost, seen) = (taken.of.node.clone(), taken.seen);
        let (here, last) = (taken.here, taken.last);
        let by = self.gateway.cluster().map(|c| c.node().to_owned()).unwrap_or_default();
        let left =
            self.kept.take_lost((&self.state.checkpoints, &self.gateway), taken, &self.workers);
        let change = NodeChange { lost: lost.clone(), by };
        let origin = TakenFrom { change, here };
        let (goes_on, all) = self.restore(left, Some(seen), Some(origin));
        let so_far = self.taking.entry(lost.clone()).or_default();
        (so_far.0, so_far.1) = (so_far.0 + goes_on, so_far.1 + all - goes_on);
        if last && let Some((calls, ended)) = self.taking.remove(&lost) {
            self.tell_event(Event::NodeTakenOver { node: lost, calls, ended });
        }
    }

    /// Makes calls of values; `died`: when the earlier process lived last, if it is known better
    /// than by the calls' age. Returns how many continue, and of how many.
    fn restore(
        &mut self,
        left: Vec<TakenUp>,
        died: Option<Instant>,
        origin: Option<TakenFrom>,
    ) -> (usize, usize) {
        let now = Instant::now();
        let mut out = Vec::new();
        for (age, call, media) in &left {
            let since = died.or_else(|| now.checked_sub(*age)).unwrap_or(now);
            let settled = |end| media.as_ref().ok()?.session.settled(end);
            let port = |end| media.as_ref().ok().map(|media| media.port_of(end));
            let moved = origin.as_ref().is_some_and(|origin| !origin.here);
            let media = media.as_ref().map(|_| &settled as SettledOf<'_>).map_err(String::clone);
            let found = FoundCall {
                call: call.clone(),
                age: *age,
                silent_since: since,
                media,
                from: origin.as_ref().map(|origin| origin.change.clone()),
                ports: moved.then_some(&port as PortsOf<'_>),
            };
            let (id, worker) = (call.id(), call.worker());
            self.gateway.restore(now, found, &mut out);
            self.perform_all(&mut out);
            if !self.gateway.knows_call(id) {
                self.kept.forget(&mut self.gateway, id);
                let command = WorkerCommand::Close { session: id.0 };
                let _ = self.workers.get(worker).map(|w| w.command(command));
            }
        }
        if origin.is_none() {
            let ids: Vec<CallId> = left.iter().map(|(_, call, _)| call.id()).collect();
            self.gateway.all_restored(now, &ids, &mut out);
            self.perform_all(&mut out);
        }
        (left.iter().filter(|(.., media)| media.is_ok()).count(), left.len())
    }
}
