//! The world: nodes, links, the store and the phones, one event after the other.

mod configs;
mod faults;
mod links;
mod machinery;
mod script;
mod upgrades;
mod worse;

use crate::media::Stream;
use crate::phone::Phone;
use crate::shell::{Addresses, Calls};
use crate::store::StoreModel;
use configs::{CARRIER, CONFIGS, FLOATING, address, config};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use webtrunk::call::CallId;
use webtrunk::call::context::NodeIdentity;
use webtrunk::call::reach::Reach;
use webtrunk::cluster::store::StoreCommand;
use webtrunk::config::Config;
use webtrunk::errors::Code;
use webtrunk::gateway::token::TokenKeys;
use webtrunk::gateway::{Gateway, Input};
use webtrunk::sip::Message;
use worse::Parted;

const NODES: usize = 3;
const PHONES: usize = 6;
const UNIX: u64 = 1_700_000_000;
const TRUNK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 77)), 5060);
const MS: Duration = Duration::from_millis(1);

/// What happens to the world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    Cut(usize, usize),
    Heal(usize, usize),
    /// The first reaches the second no more, and hears it all the same.
    CutOneWay(usize, usize),
    CutStore(usize),
    HealStore(usize),
    /// The store does what a node says, and the node hears nothing of it.
    StoreMute(usize),
    StoreDown,
    StoreUp,
    /// The store is started again without its data.
    StoreEmpty,
    /// A replica takes over, which has not all that was confirmed.
    StoreFailsOver,
    /// The store answers, so much later than usual.
    StoreSlow(Duration),
    /// The store is started again with what it held a while ago, or so is its whole machine, with
    /// the clock of then.
    StoreOfBefore(usize, bool),
    /// The network parts: a node is left alone with the primary of then, and the others have a
    /// replica for one. `needs`: a primary of which no replica hears takes no writes.
    StoreParts {
        alone: usize,
        needs: bool,
    },
    /// There is one primary again: the one the most nodes have.
    StoreMeets,
    /// The store's clock is set, by so many milliseconds.
    StoreClock(i64),
    /// A node's clock is so many seconds ahead when it is started next.
    NodeClock(usize, i64),
    /// Questions for users get no answer.
    LocateUnanswered,
    Kill(usize),
    Start(usize),
    /// A phone's connection is reset.
    Drop(usize),
    /// A node sleeps: nothing is done there, and what comes waits.
    Pause(usize),
    Wake(usize),
    /// An operator upgrades a node: it waits for calls that ring, and may refuse.
    Upgrade(usize),
}

/// Something on its way.
enum Delivery {
    Node {
        to: usize,
        process: u64,
        input: Input,
    },
    Store {
        node: usize,
        process: u64,
        command: StoreCommand,
    },
    Phone {
        phone: usize,
        attempt: u64,
        bytes: Vec<u8>,
    },
    FromPhone {
        phone: usize,
        attempt: u64,
        text: String,
    },
    Connect {
        phone: usize,
        attempt: u64,
    },
    /// A node's address is another's from now on.
    Address {
        of: usize,
        process: u64,
    },
    /// A node looks whether it can give its calls to its next process; it waits for those that ring
    /// until then.
    HandOver {
        node: usize,
        process: u64,
        until: Instant,
    },
}

pub(crate) struct NodeState {
    pub(crate) gateway: Option<Gateway>,
    config: Arc<Config>,
    address: SocketAddr,
    /// Grows with each start.
    pub(crate) process: u64,
    /// What its clock is ahead by, seconds.
    clock: i64,
    /// Asleep, and what waits for it.
    paused: Option<Vec<Input>>,
    /// An upgrade of it is under way.
    upgrading: bool,
    /// The form in which it keeps calls; it reads those up to it.
    pub(crate) form: u16,
    pub(crate) kept_at: Option<Instant>,
    /// It has just learned that it was deposed.
    pub(crate) deposed_now: bool,
    /// The store could not say which of its calls another has.
    pub(crate) names_unknown: bool,
    /// What the store said last of who has its calls, and which.
    owner_said: Option<(String, Option<Vec<String>>)>,
    store_cut: bool,
    /// It does not hear what the store answers.
    store_mute: bool,
    connection: u64,
    generation: u64,
    /// Nodes it has a connection to, and the time by which it is known to be broken.
    links: BTreeMap<usize, bool>,
    said: Vec<String>,
    pub(crate) ends: BTreeSet<(u64, webtrunk::media::LegId)>,
    /// Its media, and how far it may go on.
    pub(crate) streams: BTreeMap<CallId, Stream>,
    pub(crate) vouched: Option<Instant>,
    codes: Vec<Code>,
}

pub(crate) struct World {
    start: Instant,
    seed: u64,
    now: Instant,
    random: ChaCha20Rng,
    pub(crate) nodes: Vec<NodeState>,
    pub(crate) calls: Calls,
    addresses: Addresses,
    floats: bool,
    /// How many nodes there are, twins aside.
    size: usize,
    phones: Vec<Phone>,
    store: StoreModel,
    store_down: bool,
    store_slow: Duration,
    /// The primary that one node has for itself.
    parted: Option<Parted>,
    locate_unanswered: bool,
    /// How much later than usual it is noted that a token was used.
    pub(crate) tokens_late: Duration,
    /// Claims that are held back until so many are there.
    held_claims: (usize, Vec<(usize, u64, StoreCommand)>),
    /// By whom each claim of another's calls was made.
    claims: Vec<usize>,
    /// How much later than usual the next question is answered.
    pub(crate) locate_late: Duration,
    cuts: BTreeSet<(usize, usize)>,
    /// From which to which nothing comes.
    one_way: BTreeSet<(usize, usize)>,
    queue: BTreeMap<(Instant, u64), Delivery>,
    next: u64,
    /// The last arrival on each link, so that TCP keeps the order.
    last: BTreeMap<(usize, usize), Instant>,
    ports: u16,
    /// A node that the trunk does not hear.
    pub(crate) unheard: Option<usize>,
    /// What the trunk was sent, and by which node.
    trunk: Vec<(usize, Message)>,
    located: usize,
    /// Users of the last question.
    pub(crate) last_asked: usize,
    picture: Vec<String>,
    /// Phones come back by themselves.
    roams: bool,
    /// Second processes of nodes' names begin and end, too.
    pub(crate) twins: bool,
    /// Upgrades that came about.
    pub(crate) upgrades: usize,
}

/// A test that fails tells its story.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {}:\n{}", self.seed, self.picture.join("\n"));
        }
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        World::of(seed, &CONFIGS)
    }

    /// One in which a node's address moves when it is gone.
    pub(crate) fn floating(seed: u64) -> World {
        World::made(seed, &FLOATING, true)
    }

    /// One in which it does, or stays.
    pub(crate) fn either(seed: u64, floats: bool) -> World {
        if floats { World::floating(seed) } else { World::new(seed) }
    }

    /// One of so many nodes.
    pub(crate) fn of_nodes(nodes: usize, seed: u64, floats: bool) -> World {
        if nodes == NODES {
            return World::either(seed, floats);
        }
        let configs: Vec<_> = (0..nodes).map(|n| config(n, &format!("n{n}"), "", floats)).collect();
        World::made(seed, &configs, floats)
    }

    /// One whose trunk is a carrier that takes one registration.
    pub(crate) fn with_carrier(seed: u64) -> World {
        let configs: Vec<_> =
            (0..NODES).map(|n| config(n, &format!("n{n}"), CARRIER, false)).collect();
        World::of(seed, &configs)
    }

    /// One that takes tokens, each for one login.
    pub(crate) fn with_tokens(seed: u64) -> World {
        let jwt = "[auth.jwt]\njwks = \"http://keys.test/jwks\"\nallow_private = true\n\
                   audience = \"webtrunk\"\nsingle_use = true\n";
        let configs: Vec<_> = (0..NODES).map(|n| config(n, &format!("n{n}"), jwt, false)).collect();
        World::of(seed, &configs)
    }

    /// Everybody knows by which keys tokens are signed.
    pub(crate) fn give_keys(&mut self, keys: &Arc<TokenKeys>) {
        for n in 0..self.nodes.len() {
            self.handle(n, Input::Keys(Ok(keys.clone())));
        }
    }

    /// One with so many trunks more, each with a limit of calls, at once and in a second.
    pub(crate) fn with_trunks(seed: u64, trunks: usize) -> World {
        let more: String = (0..trunks)
            .map(|n| {
                let (a, b) = (n >> 8, n & 255);
                let limits = "max_calls = 5\ncalls_per_second = 5\n";
                format!("[trunk.t{n}]\nuri = \"sip:127.3.{a}.{b}\"\n{limits}")
            })
            .collect();
        let configs: Vec<_> =
            (0..NODES).map(|n| config(n, &format!("n{n}"), &more, false)).collect();
        World::of(seed, &configs)
    }

    /// One whose trunk may do what these lines say.
    pub(crate) fn with_trunk(seed: u64, lines: &str) -> World {
        let configs: Vec<_> =
            (0..NODES).map(|n| config(n, &format!("n{n}"), lines, false)).collect();
        World::of(seed, &configs)
    }

    /// One whose trunk has SRTP.
    pub(crate) fn with_srtp(seed: u64, floats: bool) -> World {
        let srtp = "srtp = \"required\"\n";
        let configs: Vec<_> =
            (0..NODES).map(|n| config(n, &format!("n{n}"), srtp, floats)).collect();
        World::made(seed, &configs, floats)
    }

    /// Claims of the calls of others reach the store once there are so many.
    pub(crate) fn hold_claims(&mut self, count: usize) {
        self.held_claims.0 = count;
    }

    /// How many claims of the calls of others reached the store.
    pub(crate) fn claims(&self) -> usize {
        self.claims.len()
    }

    /// Who made the last of them.
    pub(crate) fn claimed_last(&self) -> usize {
        *self.claims.last().expect("somebody claimed")
    }

    /// Limits that a node asked the store for at most.
    pub(crate) fn most_wishes(&self) -> usize {
        self.store.most_wishes
    }

    fn of(seed: u64, configs: &[Arc<Config>]) -> World {
        World::made(seed, configs, false)
    }

    fn made(seed: u64, configs: &[Arc<Config>], floats: bool) -> World {
        let start = Instant::now();
        let mut world = World {
            start,
            seed,
            now: start,
            random: ChaCha20Rng::seed_from_u64(seed),
            nodes: Vec::new(),
            calls: Calls::default(),
            addresses: Addresses::default(),
            floats,
            size: configs.len(),
            phones: (0..PHONES).map(|n| Phone::new(format!("u{n}"))).collect(),
            store: StoreModel::default(),
            store_down: false,
            store_slow: Duration::ZERO,
            parted: None,
            locate_unanswered: false,
            tokens_late: Duration::ZERO,
            locate_late: Duration::ZERO,
            held_claims: (0, Vec::new()),
            claims: Vec::new(),
            cuts: BTreeSet::new(),
            one_way: BTreeSet::new(),
            queue: BTreeMap::new(),
            next: 0,
            last: BTreeMap::new(),
            ports: 20_000,
            unheard: None,
            trunk: Vec::new(),
            located: 0,
            last_asked: 0,
            picture: Vec::new(),
            roams: true,
            twins: false,
            upgrades: 0,
        };
        for (n, config) in configs.iter().enumerate() {
            world.add_node(config.clone(), address(n));
        }
        world
    }

    fn add_node(&mut self, config: Arc<Config>, address: SocketAddr) -> usize {
        let n = self.nodes.len();
        self.nodes.push(NodeState {
            gateway: None,
            config,
            address,
            process: 0,
            clock: 0,
            paused: None,
            upgrading: false,
            form: 1,
            kept_at: None,
            deposed_now: false,
            names_unknown: false,
            owner_said: None,
            store_cut: false,
            store_mute: false,
            connection: 0,
            generation: 0,
            links: BTreeMap::new(),
            said: Vec::new(),
            ends: BTreeSet::new(),
            streams: BTreeMap::new(),
            vouched: None,
            codes: Vec::new(),
        });
        self.start_node(n);
        n
    }

    fn start_node(&mut self, n: usize) {
        self.begin_process(n);
        self.handle(n, Input::Tick);
    }

    /// The next process of a node.
    fn begin_process(&mut self, n: usize) {
        let identity = NodeIdentity {
            fingerprint: "AB:CD".into(),
            udp_port: 5060,
            tcp_port: 5060,
            tls_port: 5061,
            web_secure: true,
            workers: 1,
            reach: Reach(Some(self.addresses.seen_by(n))),
            unix: self.unix().saturating_add_signed(self.nodes[n].clock),
        };
        let mut seed = [0; 32];
        self.random.fill_bytes(&mut seed);
        let node = &mut self.nodes[n];
        node.process += 1;
        (node.names_unknown, node.owner_said) = (false, None);
        (node.upgrading, node.vouched) = (false, None);
        node.connection += 1;
        let mut gateway = Gateway::new(self.now, node.config.clone(), identity, seed);
        gateway.keep_calls();
        gateway.keep_calls_as(node.form, &(1..=node.form).collect::<Vec<_>>());
        node.gateway = Some(gateway);
        if self.floats && n < self.size {
            self.addresses.give(n, n);
        }
    }

    fn unix(&self) -> u64 {
        UNIX + (self.now - self.start).as_secs()
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random.next_u64() % n
    }

    fn between(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from + self.below(to - from))
    }

    fn push(&mut self, after: Duration, delivery: Delivery) {
        self.next += 1;
        self.queue.insert((self.now + after, self.next), delivery);
    }
}
