//! The cluster's part of each turn: what is due goes to the store, and what it found is told.

use super::{Gateway, Turn};
use crate::call::Output;
use crate::cluster::lease::{LeaseEvent, NodeLoad};
use crate::cluster::store::StoreAnswer;
use crate::cluster::{Cluster, Moment};
use crate::event::Event;
use std::time::Instant;

impl Gateway {
    /// The time by both clocks.
    pub(super) fn moment(&self, now: Instant) -> Moment {
        Moment { now, unix: self.services.unix_of_start(now) }
    }

    /// Does what is due towards the store.
    pub(super) fn cluster_turn(&mut self, turn: &mut Turn<'_>) {
        let Some(mut cluster) = self.services.cluster.take() else { return };
        let load = || NodeLoad {
            calls: self.calls.counts().0,
            registrations: self.services.registrar.len(),
            calls_left: self.calls_left(),
            draining: self.draining,
        };
        let work = cluster.turn(self.moment(turn.now), load, &self.services.registrar);
        self.services.cluster = Some(cluster);
        turn.out.extend(work.commands.into_iter().map(Output::Store));
        turn.out.extend(work.events.into_iter().map(|event| Output::Event(told(event))));
    }

    pub(super) fn store_answered(&mut self, turn: &mut Turn<'_>, answer: StoreAnswer) {
        let at = self.moment(turn.now);
        let Some(cluster) = &mut self.services.cluster else { return };
        let events = cluster.answered(at, answer);
        turn.out.extend(events.into_iter().map(|event| Output::Event(told(event))));
    }

    /// The cluster this node is part of, if it is.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.services.cluster.as_ref()
    }
}

fn told(event: LeaseEvent) -> Event {
    match event {
        LeaseEvent::NodeUp { node } => Event::NodeUp { node },
        LeaseEvent::NodeDown { node } => Event::NodeDown { node },
        LeaseEvent::StoreAway { why } => Event::StoreAway { why },
        LeaseEvent::StoreBack { away } => Event::StoreBack { away },
        LeaseEvent::NameTaken { node, by } => Event::NodeNameTaken { node, by },
        LeaseEvent::ClockSkew { seconds } => Event::ClockSkew { seconds },
        LeaseEvent::OtherKey { node } => Event::OtherClusterKey { node },
    }
}
