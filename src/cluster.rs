//! Several gateways as one: who the other nodes are, and which users are at them.
//!
//! Each node has a lease in a store and owns what it writes there; what it knows itself it never
//! asks for. Nothing waits for the store: commands go out, answers come in or never do, and a node
//! that cannot reach it serves its own users as before.
//! Not here: the store's protocol, and the connections between nodes.

pub(crate) mod keys;
pub mod lease;
pub(crate) mod location;
pub mod store;
pub(crate) mod token;

use crate::config::ClusterSettings;
use crate::registrar::{Registrar, Way};
use keys::ClusterKeys;
use lease::{Lease, LeaseEvent, Load, Member};
use location::Location;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use store::{FoundPointers, StoreAnswer, StoreCommand};
use token::EdgeToken;

/// How long a call waits for the store to say where a user is.
pub(crate) const LOCATE: Duration = Duration::from_millis(50);

/// What is asked of the cluster at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub now: Instant,
    /// The wall clock, seconds since 1970.
    pub unix: u64,
}

/// This node's part of a cluster.
pub struct Cluster {
    keys: ClusterKeys,
    lease: Lease,
    location: Location,
    next: u64,
}

/// What [`Cluster::turn`] leaves to its user.
#[derive(Debug, Default)]
pub(crate) struct ClusterWork {
    pub commands: Vec<StoreCommand>,
    pub events: Vec<LeaseEvent>,
}

impl Cluster {
    /// A node that joins now; `epoch` tells it from an earlier process of the same name.
    pub(crate) fn new(now: Instant, settings: &ClusterSettings, epoch: u64) -> Cluster {
        Cluster {
            keys: ClusterKeys::new(settings.key.reveal()),
            lease: Lease::new(now, settings, epoch),
            location: Location::default(),
            next: 0,
        }
    }

    /// Where the other nodes reach this one.
    pub(crate) fn advertise(&self) -> SocketAddr {
        self.lease.advertise()
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        self.lease.node()
    }

    /// The bindings of `user` have changed.
    pub(crate) fn touch(&mut self, user: &str) {
        self.location.touch(user);
    }

    /// Does what is due.
    pub(crate) fn turn(
        &mut self,
        at: Moment,
        load: impl FnOnce() -> Load,
        registrar: &Registrar,
    ) -> ClusterWork {
        let mut work = ClusterWork::default();
        self.lease.turn(at, &mut self.next, &self.keys, load, &mut work);
        self.location.expire(at.now);
        if self.lease.take_resync() {
            self.location.write_all_again();
        }
        if self.lease.may_write(at.now) {
            let (lease, keys) = (&self.lease, &self.keys);
            let value = |user: &str| {
                let bindings = registrar.bindings(at.now, user);
                location::record(lease, keys, at, user, &bindings)
            };
            let commands = &mut work.commands;
            self.location.write(at.now, &mut self.next, lease.node(), registrar, value, commands);
        }
        work
    }

    /// Takes an answer of the store; one that comes late or twice is none.
    pub(crate) fn answered(&mut self, at: Moment, answer: StoreAnswer) -> Vec<LeaseEvent> {
        match answer {
            StoreAnswer::Beat { id, answer } => self.lease.answered(at, &self.keys, id, answer),
            StoreAnswer::Written { id, answer } => {
                self.location.written(id, answer.is_ok());
                Vec::new()
            }
        }
    }

    /// When [`turn`](Self::turn) is to be called next.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.lease.next_timeout().into_iter().chain(self.location.next_timeout()).min()
    }

    /// Why nobody can be asked for users of other nodes now; `None` if somebody can.
    pub(crate) fn cannot_ask(&self, now: Instant) -> Option<String> {
        self.lease.cannot_ask(now)
    }

    /// Ways to the phones of `user` at other nodes that live.
    pub(crate) fn ways(&self, at: Moment, user: &str, found: &FoundPointers) -> Vec<Way> {
        location::ways(&self.lease, &self.keys, at, user, found)
    }

    /// Seals what names `user`'s flow, for requests that come by way of `peer`.
    pub(crate) fn edge_token(&self, binding: &EdgeToken) -> String {
        token::seal(&self.keys, binding)
    }

    /// What a token of this node names.
    pub(crate) fn open_edge_token(&self, text: &str) -> Option<EdgeToken> {
        token::open(&self.keys, text).filter(|t: &EdgeToken| t.node == self.lease.node())
    }

    /// Signs what a response must bring back.
    pub(crate) fn sign(&self, text: &str) -> String {
        self.keys.mac("via", text.as_bytes())
    }

    /// Whether the epoch is this process's: its flows are still what they were.
    pub(crate) fn is_own_epoch(&self, epoch: u64) -> bool {
        self.lease.epoch() == epoch
    }

    /// This process's epoch.
    pub(crate) fn epoch(&self) -> u64 {
        self.lease.epoch()
    }

    /// The nodes as they were last seen, this one included.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.lease.members()
    }

    /// How old that view is; `None` if there never was one.
    pub fn view_age(&self, now: Instant) -> Option<Duration> {
        self.lease.view_age(now)
    }

    /// Users whose pointers wait to be written.
    pub fn waiting(&self) -> usize {
        self.location.waiting()
    }
}
