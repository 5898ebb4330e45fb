//! What all calls of a node share and change: transactions, timers, who is reachable, chance.

use super::CallId;
use super::context::{CallTimer, DnsWaiter, TransactionUser};
use super::farewells::Farewells;
use super::owed_goodbyes::OwedGoodbyes;
use super::reach::Reach;
use crate::brakes::Brakes;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::flow::FlowState;
use crate::flow::aliases::Aliases;
use crate::ids::IdMap;
use crate::media::LegId;
use crate::registrar::Registrar;
use crate::resolver::{DnsQuery, Resolver};
use crate::sip::transaction::{ClientId, Flow, Transactions};
use crate::tally::Tally;
use crate::timers::Timers;
use crate::trunk::Trunks;
use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;
use std::collections::HashMap;
use std::time::Instant;

/// What the node is called and where it can be reached.
#[derive(Clone, Debug)]
pub struct NodeIdentity {
    /// `AB:CD:…` of the DTLS certificate.
    pub fingerprint: String,
    /// Port of our UDP and TCP SIP listeners.
    pub udp_port: u16,
    /// 0 if there is none.
    pub tcp_port: u16,
    /// 0 if there is none.
    pub tls_port: u16,
    /// The page is by `https`.
    pub web_secure: bool,
    /// Media threads.
    pub workers: usize,
    /// The wall clock at the start, seconds since 1970.
    pub unix: u64,
    /// The system's addresses and routes.
    pub reach: Reach,
}

impl NodeIdentity {
    /// A node of one worker that is reached at SIP's own ports, of which nothing is the host's: for
    /// machines that run without one.
    pub fn without_a_host() -> NodeIdentity {
        NodeIdentity {
            fingerprint: "AB".into(),
            udp_port: 5060,
            tcp_port: 5060,
            tls_port: 5061,
            web_secure: false,
            workers: 1,
            unix: 1_700_000_000,
            reach: Reach::default(),
        }
    }
}

/// The node's parts that a call asks things of.
pub struct Services {
    /// What never changes while the node runs.
    pub identity: NodeIdentity,
    /// When the node started, by the clock of inputs.
    pub started: Instant,
    /// The wall clock, in seconds since 1970, at some moment.
    pub wall: (Instant, u64),
    /// SIP's (RFC 3261 §17).
    pub transactions: Transactions,
    /// The transaction user of each request of ours.
    pub transaction_users: IdMap<ClientId, TransactionUser>,
    /// Requests of ours that end something, until they are answered.
    pub(crate) farewells: Farewells,
    /// BYEs that browsers have still to get.
    pub(crate) owed_goodbyes: OwedGoodbyes,
    /// Of calls.
    pub timers: Timers<(CallId, CallTimer)>,
    /// The registrar.
    pub registrar: Registrar,
    /// The other nodes, if there is a cluster.
    pub cluster: Option<Cluster>,
    /// How often each user and source may do what reaches others.
    pub brakes: Brakes,
    /// The state of each.
    pub trunks: Trunks,
    /// Calls that each trunk carries or is tried for.
    pub(crate) trunk_calls: Tally<String>,
    /// Open connections.
    pub flows: IdMap<Flow, FlowState>,
    /// Connections a trunk offered for our requests too, by the address it listens at (RFC 5923).
    pub(crate) aliases: Aliases,
    /// What DNS said.
    pub locator: Resolver,
    /// Questions to DNS that are open, and who waits for each.
    pub pending_queries: HashMap<DnsQuery, Vec<DnsWaiter>>,
    /// Local tag of every dialog, to its call and leg.
    pub dialogs: HashMap<String, (CallId, LegId)>,
    /// Call-IDs of our own INVITEs, to know one that comes back (RFC 5393).
    pub own_call_ids: HashMap<String, CallId>,
    /// All the chance there is; seeded once.
    pub random: ChaCha20Rng,
}

impl Services {
    /// The parts of a node that begins now, with all the chance it will have.
    pub fn new(
        now: Instant,
        config: &Config,
        identity: NodeIdentity,
        mut random: ChaCha20Rng,
    ) -> Services {
        // Later processes have greater ones.
        let epoch = identity.unix << 24 | u64::from(random.next_u32() >> 8);
        let cluster = config.cluster.as_ref().map(|c| Cluster::new(now, c, epoch));
        let unix = identity.unix;
        Services {
            cluster,
            identity,
            started: now,
            wall: (now, unix),
            transactions: Transactions::default(),
            transaction_users: IdMap::default(),
            farewells: Farewells::default(),
            owed_goodbyes: OwedGoodbyes::default(),
            timers: Timers::default(),
            registrar: Registrar::default(),
            brakes: Brakes::default(),
            trunks: Trunks::new(now, config),
            trunk_calls: Tally::default(),
            flows: IdMap::default(),
            aliases: Aliases::default(),
            locator: Resolver::new(config.udp.is_some_and(|a| a.is_ipv6())),
            pending_queries: HashMap::new(),
            dialogs: HashMap::new(),
            own_call_ids: HashMap::new(),
            random,
        }
    }

    /// Whether one more call by a trunk that may have `limit` is let in, counting all nodes if
    /// there are several.
    pub(crate) fn trunk_has_room(&self, now: Instant, trunk: &str, limit: usize) -> bool {
        let used = self.trunk_calls.of(trunk);
        let all = self.cluster.as_ref();
        used < limit && all.is_none_or(|cluster| cluster.has_room(now, trunk, limit, used))
    }

    /// Whether one more call to or from a trunk that may have `limit` a second may begin now,
    /// counting all nodes if there are several.
    pub(crate) fn take_trunk_call(
        &mut self,
        now: Instant,
        trunk: &str,
        limit: Option<u32>,
    ) -> bool {
        let cluster = self.cluster.as_ref();
        let here = |limit| cluster.map_or(limit, |cluster| cluster.pace(now, trunk, limit));
        self.trunks.take_call(now, trunk, limit.map(here))
    }

    /// Returns the wall clock at `now`, in seconds since 1970.
    pub(crate) fn unix(&self, now: Instant) -> u64 {
        let (at, unix) = self.wall;
        unix + now.saturating_duration_since(at).as_secs()
    }

    /// Returns the same as if nobody had set the clock since the start.
    pub(crate) fn unix_of_start(&self, now: Instant) -> u64 {
        self.identity.unix + now.saturating_duration_since(self.started).as_secs()
    }
}
