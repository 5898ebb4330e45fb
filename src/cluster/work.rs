//! What a turn of the cluster is given, and what it leaves to do.

use super::lease::LeaseEvent;
use super::store::StoreCommand;
use super::succession::{Probe, TakenCalls};
use std::time::Instant;

/// What is asked of the cluster at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The time of this turn.
    pub now: Instant,
    /// The wall clock, seconds since 1970.
    pub unix: u64,
}

/// What [`Cluster::turn`](super::Cluster::turn) leaves to its user.
#[derive(Debug, Default)]
pub(crate) struct ClusterWork {
    /// What the store is asked.
    pub commands: Vec<StoreCommand>,
    /// What became of leases.
    pub events: Vec<LeaseEvent>,
    /// Nodes to be asked whether they live.
    pub probes: Vec<Probe>,
}

/// What an answer of the store leaves to its user.
#[derive(Debug, Default)]
pub(crate) struct AnswerWork {
    /// What became of leases.
    pub events: Vec<LeaseEvent>,
    /// Calls of a node that is gone, to be gone on with.
    pub taken: Option<TakenCalls>,
    /// Values of these names are another node's now.
    pub deposed: Option<(String, Vec<String>)>,
    /// A question for a token: its number, and whether the token is ours, if that is known.
    pub spent: Option<(u64, Option<bool>)>,
}

impl AnswerWork {
    /// Another node has calls of these names.
    pub(super) fn part(&mut self, parted: Option<(String, Vec<String>)>) {
        if let Some((by, _)) = &parted {
            self.events.push(LeaseEvent::Deposed { by: by.clone() });
            self.deposed = parted;
        }
    }
}
