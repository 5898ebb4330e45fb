//! The world: nodes, links, the store and the phones, one event after the other.

use crate::media::Stream;
use crate::phone::Phone;
use crate::shell::{Addresses, Calls};
use crate::store::StoreModel;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use webtrunk::call::context::{NodeIdentity, Output};
use webtrunk::call::reach::Reach;
use webtrunk::call::{CallId, Question};
use webtrunk::cluster::store::{Claim, LocatedUsers, StoreAnswer, StoreCommand};
use webtrunk::config::Config;
use webtrunk::config::check::parse_embedded;
use webtrunk::errors::Code;
use webtrunk::event::Event;
use webtrunk::gateway::token::TokenKeys;
use webtrunk::gateway::{FlowKind, Gateway, Input};
use webtrunk::media::SessionEvent;
use webtrunk::sip::Message;
use webtrunk::sip::parse::{Framing, HeaderName};
use webtrunk::sip::transaction::{Flow, Hop};
use webtrunk::worker::{Notice, WorkerCommand};

const NODES: usize = 3;
const PHONES: usize = 6;
const UNIX: u64 = 1_700_000_000;
const TRUNK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 77)), 5060);
const MS: Duration = Duration::from_millis(1);

/// What a carrier is that takes one registration.
const CARRIER: &str = "register = true\nregister_once = true\nregister_expires = \"60s\"\n\
                       username = \"us\"\npassword = \"secret\"\n";

fn config(node: usize, name: &str, trunk: &str, floats: bool) -> Arc<Config> {
    let address =
        if floats { format!("address = \"{}\"\n", Addresses::of(node)) } else { String::new() };
    let limit = |n| if n == 5 { "max_calls = 3\n" } else { "" };
    let user =
        |n| format!("[user.u{n}]\npassword = \"secret\"\ncontext = \"phones\"\n{}", limit(n));
    let users: String = (0..PHONES).map(user).collect();
    let text = format!(
        "[server]\ndomain = \"wt.test\"\npublic_ip = \"127.0.0.9\"\n[cluster]\nnode = \"{name}\"\n\
         store = \"redis://127.0.0.1\"\nkey = \"the key of the cluster, long enough\"\n\
         advertise = \"127.0.1.{node}:5071\"\n{address}[limits]\ncalls = 200\ncalls_per_user = 50\nnew_calls_per_second_per_user = 50\n{users}"
    );
    let plan: String = (0..PHONES)
        .map(|n| {
            format!(
                "[[route]]\nname = \"{n}\"\nmatch = \"10{n}\"\ndo = [{{ ring = [\"user:u{n}\"], timeout = \"20s\" }}]\n\
                 [[route]]\nname = \"u{n}\"\nmatch = \"u{n}\"\ndo = [{{ ring = [\"user:u{n}\"] }}]\n"
            )
        })
        .collect();
    let crowd: String = (0..12)
        .map(|n| format!("[user.x{n}]\npassword = \"secret\"\ncontext = \"phones\"\n"))
        .collect();
    let all: Vec<String> = (0..12).map(|n| format!("\"user:x{n}\"")).collect();
    let plan = format!(
        "{plan}[[route]]\nname = \"all\"\nmatch = \"199\"\ndo = [{{ ring = [{}] }}]\n",
        all.join(", ")
    );
    let plan = format!(
        "{plan}[[route]]\nname = \"out\"\nmatch = \"9X.\"\ndo = [{{ dial = [\"trunk:far\"] }}]\n"
    );
    let second: String = (0..PHONES)
        .map(|n| {
            format!(
                "[[route]]\nname = \"second {n}\"\nmatch = \"18{n}\"\ndo = [{{ ring = [\"user:x0\"] }}, {{ ring = [\"user:u{n}\"] }}]\n"
            )
        })
        .collect();
    let plan = format!("{plan}{second}");
    let trunk_base = "[sip]\nudp = \"127.0.0.1:5060\"\n[trunk.far]\nuri = \"sip:127.0.0.77\"\ncontext = \"phones\"\nmax_calls = 4\n";
    let text = format!("{text}{crowd}{trunk_base}{trunk}");
    let (config, _) = parse_embedded(&text, &[("phones", &plan)]).unwrap_or_else(|p| panic!("{p}"));
    Arc::new(config)
}

static CONFIGS: LazyLock<Vec<Arc<Config>>> =
    LazyLock::new(|| (0..NODES).map(|n| config(n, &format!("n{n}"), "", false)).collect());
static FLOATING: LazyLock<Vec<Arc<Config>>> =
    LazyLock::new(|| (0..NODES).map(|n| config(n, &format!("n{n}"), "", true)).collect());

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 1, node as u8], 5071))
}

/// What happens to the world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    Cut(usize, usize),
    Heal(usize, usize),
    CutStore(usize),
    HealStore(usize),
    StoreDown,
    StoreUp,
    /// The store is started again without its data.
    StoreEmpty,
    /// A replica takes over, which has not all that was confirmed.
    StoreFailsOver,
    /// Questions for users get no answer.
    LocateUnanswered,
    Kill(usize),
    Start(usize),
    /// A phone's connection is reset.
    Drop(usize),
    /// A node sleeps: nothing is done there, and what comes waits.
    Pause(usize),
    Wake(usize),
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
}

pub(crate) struct NodeState {
    pub(crate) gateway: Option<Gateway>,
    config: Arc<Config>,
    address: SocketAddr,
    /// Grows with each start.
    pub(crate) process: u64,
    /// Asleep, and what waits for it.
    paused: Option<Vec<Input>>,
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
    phones: Vec<Phone>,
    store: StoreModel,
    store_down: bool,
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
    queue: BTreeMap<(Instant, u64), Delivery>,
    next: u64,
    /// The last arrival on each link, so that TCP keeps the order.
    last: BTreeMap<(usize, usize), Instant>,
    ports: u16,
    /// What the trunk was sent, and by which node.
    trunk: Vec<(usize, Message)>,
    located: usize,
    /// Users of the last question.
    pub(crate) last_asked: usize,
    picture: Vec<String>,
    /// Phones come back by themselves.
    roams: bool,
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

    /// One with so many trunks more, each with a limit of calls.
    pub(crate) fn with_trunks(seed: u64, trunks: usize) -> World {
        let more: String = (0..trunks)
            .map(|n| {
                let (a, b) = (n >> 8, n & 255);
                format!("[trunk.t{n}]\nuri = \"sip:127.3.{a}.{b}\"\nmax_calls = 5\n")
            })
            .collect();
        let configs: Vec<_> =
            (0..NODES).map(|n| config(n, &format!("n{n}"), &more, false)).collect();
        World::of(seed, &configs)
    }

    /// One whose trunk sends texts.
    pub(crate) fn with_texts(seed: u64) -> World {
        let texts = "messages = true\n";
        let configs: Vec<_> =
            (0..NODES).map(|n| config(n, &format!("n{n}"), texts, false)).collect();
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
            phones: (0..PHONES).map(|n| Phone::new(format!("u{n}"))).collect(),
            store: StoreModel::default(),
            store_down: false,
            locate_unanswered: false,
            tokens_late: Duration::ZERO,
            locate_late: Duration::ZERO,
            held_claims: (0, Vec::new()),
            claims: Vec::new(),
            cuts: BTreeSet::new(),
            queue: BTreeMap::new(),
            next: 0,
            last: BTreeMap::new(),
            ports: 20_000,
            trunk: Vec::new(),
            located: 0,
            last_asked: 0,
            picture: Vec::new(),
            roams: true,
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
            paused: None,
            form: 1,
            kept_at: None,
            deposed_now: false,
            names_unknown: false,
            owner_said: None,
            store_cut: false,
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
        let identity = NodeIdentity {
            fingerprint: "AB:CD".into(),
            udp_port: 5060,
            tcp_port: 5060,
            tls_port: 5061,
            web_secure: true,
            workers: 1,
            reach: Reach(Some(self.addresses.seen_by(n))),
            unix: self.unix(),
        };
        let mut seed = [0; 32];
        self.random.fill_bytes(&mut seed);
        let node = &mut self.nodes[n];
        node.process += 1;
        (node.names_unknown, node.owner_said) = (false, None);
        node.connection += 1;
        let mut gateway = Gateway::new(self.now, node.config.clone(), identity, seed);
        gateway.keep_calls();
        gateway.keep_calls_as(node.form, &(1..=node.form).collect::<Vec<_>>());
        node.gateway = Some(gateway);
        if self.floats && n < NODES {
            self.addresses.give(n, n);
        }
        self.handle(n, Input::Tick);
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

    // ---- what a test says and asks

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn phones(&self) -> usize {
        self.phones.len()
    }

    pub(crate) fn node_of(&self, phone: usize) -> usize {
        self.phones[phone].at.expect("it is connected").0
    }

    /// The store loses what it has of the call that was taken by the newest name.
    pub(crate) fn lose_last_call(&mut self) {
        self.store.lose_last_call();
    }

    pub(crate) fn located(&self) -> usize {
        self.located
    }

    pub(crate) fn operations(&self) -> usize {
        self.store.operations
    }

    pub(crate) fn registered(&self) -> usize {
        self.phones.iter().map(|p| p.registered).sum()
    }

    pub(crate) fn said(&self, node: usize, what: &str) -> bool {
        self.nodes[node].said.iter().any(|s| s.contains(what))
    }

    pub(crate) fn talks(&self, phone: usize) -> bool {
        self.phones[phone].talks()
    }

    pub(crate) fn picture(&self) -> Vec<String> {
        self.picture.clone()
    }

    /// Two phones of one node.
    pub(crate) fn neighbours(&self) -> (usize, usize) {
        self.pair(true)
    }

    /// Two phones of different nodes.
    pub(crate) fn strangers(&self) -> (usize, usize) {
        self.pair(false)
    }

    fn pair(&self, same: bool) -> (usize, usize) {
        let all = (0..PHONES).flat_map(|a| (0..PHONES).map(move |b| (a, b)));
        let mut fit = all.filter(|(a, b)| a != b && (self.node_of(*a) == self.node_of(*b)) == same);
        fit.next().expect("there is such a pair")
    }

    /// Everybody registers, two on each node, and pointers are written.
    pub(crate) fn settle(&mut self) {
        for phone in 0..PHONES {
            self.connect(phone, phone % NODES);
        }
        self.run(Duration::from_secs(3));
        let there = (0..NODES).map(|n| self.nodes[n].gateway.as_ref().expect("it runs"));
        for gateway in there {
            assert_eq!(gateway.gauges().bindings, PHONES / NODES);
            assert_eq!(gateway.cluster().expect("one").members().count(), NODES);
        }
    }

    pub(crate) fn register_again(&mut self, phone: usize) {
        let text = self.phones[phone].register();
        self.phone_says(phone, text, Duration::ZERO);
    }

    pub(crate) fn call(&mut self, from: usize, to: usize) {
        let text = self.phones[from].invite(100 + to);
        self.picture.push(format!("u{from} calls u{to}"));
        self.phone_says(from, text, Duration::ZERO);
    }

    pub(crate) fn hang_up(&mut self, phone: usize) {
        for text in self.phones[phone].hang_up() {
            self.phone_says(phone, text, Duration::ZERO);
        }
    }

    /// A phone joins the others of its two newest calls, and leaves.
    pub(crate) fn join(&mut self, phone: usize) {
        let text = self.phones[phone].refer();
        self.phone_says(phone, text, Duration::ZERO);
    }

    /// What a phone would hang up with is sent by another one.
    pub(crate) fn hang_up_by(&mut self, phone: usize, by: usize) {
        for text in self.phones[phone].hang_up() {
            self.phone_says(by, text, Duration::ZERO);
        }
        self.run(Duration::from_secs(1));
    }

    pub(crate) fn hang_up_all(&mut self) {
        // From one side only: both at once is not what is tested.
        for phone in 0..PHONES {
            self.hang_up(phone);
            self.run(300 * MS);
        }
        self.run(Duration::from_secs(2));
    }

    /// A call that must be answered, and ends.
    pub(crate) fn expect_call(&mut self, from: usize, to: usize) {
        self.call(from, to);
        let mut left = 100;
        while self.phones[from].status.is_none() && left > 0 {
            self.run(50 * MS);
            left -= 1;
        }
        let status = self.phones[from].status;
        assert_eq!(status, Some(200), "u{from} to u{to}\n{}", self.story());
        self.run(500 * MS);
        assert!(self.talks(to), "u{to} is in it too");
        self.hang_up(if left % 2 == 0 { from } else { to });
        self.run(500 * MS);
        assert!(!self.talks(from) && !self.talks(to), "it is over on both sides\n{}", self.story());
    }

    /// A call that must be refused: with which status and verdict.
    pub(crate) fn expect_refused(&mut self, from: usize, to: usize) -> (u16, Code) {
        let node = self.node_of(from);
        let before = self.nodes[node].codes.len();
        self.call(from, to);
        let until = self.now + Duration::from_secs(25);
        while self.phones[from].status.is_none() && self.now < until {
            self.run(5 * MS);
        }
        // A record waits until the store has forgotten the call.
        let waits = self.now + 500 * MS;
        while self.nodes[node].codes.len() == before && self.now < waits {
            self.run(MS);
        }
        let status = self.phones[from].status.unwrap_or_else(|| panic!("{}", self.story()));
        (status, *self.nodes[node].codes.last().expect("a record"))
    }

    /// The trunk sends a message to a node.
    pub(crate) fn trunk_says(&mut self, node: usize, text: String) {
        self.trunk_says_to_all(&[node], &text);
    }

    /// The trunk's message comes to each of these nodes at the same moment.
    pub(crate) fn trunk_says_to_all(&mut self, nodes: &[usize], text: &str) {
        for node in nodes {
            let bytes = text.as_bytes().to_vec();
            let message = Message::parse(bytes, Framing::Datagram).expect("sound");
            let message = message.with_source(TRUNK);
            self.handle(*node, Input::Received { hop: Hop::Udp(TRUNK), remote: TRUNK, message });
        }
        self.run(100 * MS);
    }

    /// A node takes no new calls from now on.
    pub(crate) fn drain(&mut self, node: usize) {
        self.handle(node, Input::Drain);
    }

    /// The final response that the trunk was sent last to the request of this branch, and by which
    /// node.
    pub(crate) fn trunk_answered(&mut self, branch: &str) -> (usize, Message) {
        let fits = |(_, m): &&(usize, Message)| {
            let own = m.via().is_some_and(|via| via.branch() == Some(branch));
            !m.is_request() && m.status() >= 200 && own
        };
        let last = self.trunk.iter().rev().find(fits).cloned();
        last.unwrap_or_else(|| panic!("{branch} was not answered\n{}", self.story()))
    }

    /// What the trunk was sent last that is a `what`, and by which node.
    pub(crate) fn trunk_got(&mut self, what: &str) -> (usize, Message) {
        let fits = |m: &Message| {
            if m.is_request() { m.method_token() == what } else { m.status().to_string() == what }
        };
        let at = self.trunk.iter().rposition(|(_, m)| fits(m));
        let at = at.unwrap_or_else(|| panic!("the trunk never got {what}\n{}", self.story()));
        self.trunk.remove(at)
    }

    pub(crate) fn dial_at_once(&mut self, phone: usize, number: usize) {
        let text = self.phones[phone].invite(number);
        self.phone_says(phone, text, Duration::ZERO);
    }

    /// How many calls the trunk was sent.
    pub(crate) fn calls_of_trunk(&self) -> usize {
        (0..self.nodes.len()).map(|n| self.calls_of_trunk_by(n)).sum()
    }

    /// How many calls the trunk was sent by a node.
    pub(crate) fn calls_of_trunk_by(&self, node: usize) -> usize {
        let by_it = self.trunk.iter().filter(|(n, _)| *n == node);
        let invites = by_it.filter(|(_, m)| m.method_token() == "INVITE");
        invites.map(|(_, m)| m.call_id().to_owned()).collect::<BTreeSet<_>>().len()
    }

    /// The nodes that registered with the trunk.
    pub(crate) fn nodes_that_registered(&self) -> Vec<usize> {
        let registers = self.trunk.iter().filter(|(_, m)| m.method_token() == "REGISTER");
        registers.map(|(n, _)| *n).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The nodes that register with the trunk, as node `n` sees it.
    pub(crate) fn registers_by(&self, n: usize) -> Vec<usize> {
        let cluster = self.nodes[n].gateway.as_ref().and_then(Gateway::cluster).expect("one");
        let does = cluster.members().filter(|m| m.registers.iter().any(|t| t == "far"));
        does.map(|m| m.node[1..].parse().expect("a number")).collect()
    }

    pub(crate) fn dial(&mut self, phone: usize, number: usize) {
        let text = self.phones[phone].invite(number);
        self.phone_says(phone, text, Duration::ZERO);
        self.run(100 * MS);
    }

    /// A phone's connection is reset, and it comes back to that node.
    pub(crate) fn reconnect_at(&mut self, phone: usize, node: usize) {
        self.roams = false;
        self.fault(Fault::Drop(phone));
        self.connect(phone, node);
        self.roams = true;
        self.run(Duration::from_secs(1));
    }

    /// A phone asks its peer within its call something that is answered.
    pub(crate) fn asks(&mut self, phone: usize) -> Option<u16> {
        for text in self.phones[phone].options() {
            self.phone_says(phone, text, Duration::ZERO);
        }
        self.run(200 * MS);
        self.phones[phone].asked
    }

    /// One more phone of a user, at a node.
    pub(crate) fn add_phone(&mut self, of: usize, node: usize) -> usize {
        let phone = self.phones.len();
        self.phones.push(Phone::of(format!("u{of}"), format!("u{of}-{phone}")));
        self.connect(phone, node);
        self.run(Duration::from_secs(2));
        phone
    }

    /// A phone's connection is reset, and it stays away.
    pub(crate) fn lose_phone(&mut self, phone: usize) {
        self.roams = false;
        self.fault(Fault::Drop(phone));
        self.roams = true;
    }

    /// A phone, to be looked at or told how to behave.
    pub(crate) fn phone(&mut self, phone: usize) -> &mut Phone {
        &mut self.phones[phone]
    }

    /// A phone sends a text.
    pub(crate) fn says(&mut self, phone: usize, text: String) {
        self.phone_says(phone, text, Duration::ZERO);
    }

    /// Whether phones whose connection is gone come back by themselves.
    pub(crate) fn roam(&mut self, roams: bool) {
        self.roams = roams;
    }

    /// A node is killed, and comes back after a while as a newer version, which keeps calls in a form
    /// that the others do not know.
    pub(crate) fn update(&mut self, node: usize, away: Duration) {
        self.fault(Fault::Kill(node));
        self.run(away);
        self.nodes[node].form += 1;
        self.fault(Fault::Start(node));
    }

    /// What the trunk was sent so far is of no interest.
    pub(crate) fn forget_trunk(&mut self) {
        self.trunk.clear();
    }

    pub(crate) fn trunk_heard(&self, status: &str) -> bool {
        self.trunk.iter().any(|(_, m)| !m.is_request() && m.status().to_string() == status)
    }

    /// How many messages of this kind went between nodes.
    pub(crate) fn passed(&self, kind: &str) -> usize {
        let between =
            |line: &&String| line.contains(" to n") && line.contains(&format!(": {kind}"));
        self.picture.iter().filter(between).count()
    }

    /// Another process of a node's name, at another address.
    pub(crate) fn add_twin(&mut self, of: usize) -> usize {
        self.add_node(config(9, &format!("n{of}"), "", false), address(9))
    }

    /// A phone's connection is reset, and it comes back to the same node.
    pub(crate) fn reconnect_there(&mut self, phone: usize) {
        let node = self.node_of(phone);
        self.roams = false;
        self.fault(Fault::Drop(phone));
        self.connect(phone, node);
        self.roams = true;
    }

    /// Re-INVITEs a phone was sent.
    pub(crate) fn moved(&self, phone: usize) -> usize {
        self.phones[phone].moved
    }

    pub(crate) fn last_code(&self, node: usize) -> Code {
        *self.nodes[node].codes.last().expect("a record")
    }

    /// Adds to the story.
    pub(crate) fn tell(&mut self, what: String) {
        self.picture.push(format!("{:?} {what}", self.now - self.start));
    }

    /// Each call has one owner.
    pub(crate) fn expect_one_owner(&self) {
        assert_eq!(self.calls.shared(), [], "one call has one owner\n{}", self.story());
    }

    pub(crate) fn story(&self) -> String {
        let last = self.picture.len().saturating_sub(60);
        self.picture[last..].join("\n")
    }

    /// Nobody talks any more: what still has media hears nothing from then on. A phone that hung up
    /// at a node that had lost the call, or by a connection that was reset, says so by that only.
    pub(crate) fn media_stops(&mut self) {
        let talks = |phone: &Phone| phone.talks();
        assert!(!self.phones.iter().any(talks), "somebody talks\n{}", self.story());
        for n in 0..self.nodes.len() {
            let process = self.nodes[n].process;
            for (session, end) in self.nodes[n].ends.clone() {
                let notice = Notice::Media(SessionEvent::ConsentLost { end });
                self.push_to_node(n, process, Input::Media { session, notice });
            }
        }
        self.run(Duration::from_secs(1));
    }

    pub(crate) fn expect_idle(&mut self) {
        self.run(Duration::from_secs(200));
        self.expect_one_owner();
        // A call that is taken over though it was over is hung up once more, in each of its legs.
        let twice: usize = self.phones.iter().map(|phone| phone.hung_up_twice).sum();
        let late = self.calls.taken_late;
        assert!(twice <= 2 * late, "{twice} were hung up on twice\n{}", self.story());
        assert_eq!(self.calls.without_record(), [], "records are lost\n{}", self.story());
        for (n, node) in self.nodes.iter().enumerate() {
            let Some(gateway) = &node.gateway else { continue };
            let gauges = gateway.gauges();
            assert!(gauges.is_idle(), "node {n}: {gauges:?} {:?}", gateway.snapshot());
            assert!(node.ends.is_empty(), "node {n}: media ends left");
            assert_eq!(gateway.cluster().map_or(0, |c| c.waiting()), 0, "node {n} writes");
        }
    }

    // ---- faults

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cuts.contains(&(a.min(b), a.max(b)))
    }

    /// Whether a node can tell another nothing, neither by the store nor by itself.
    pub(crate) fn cannot_tell(&self, from: usize, to: usize) -> bool {
        let node = &self.nodes[from];
        let away = node.gateway.is_none() || node.paused.is_some();
        away || from != to && node.store_cut && self.is_cut(from, to)
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.picture.push(format!("{:?} {fault:?}", self.now - self.start));
        match fault {
            Fault::Cut(a, b) => {
                self.cuts.insert((a.min(b), a.max(b)));
                // What is under way is lost, and the connections stand for a while.
                for (from, to) in [(a, b), (b, a)] {
                    let at = self.nodes[from].address;
                    let lost = |d: &Delivery| matches!(d, Delivery::Node { to: n, input: Input::Received { hop: Hop::Node(h), .. }, .. } if *n == to && *h == at);
                    self.queue.retain(|_, d| !lost(d));
                    if let Some(broken) = self.nodes[from].links.get_mut(&to) {
                        *broken = true;
                        let after = self.between(1_000_000, 20_000_000);
                        self.break_link(from, to, after);
                    }
                }
            }
            Fault::Heal(a, b) => {
                self.cuts.remove(&(a.min(b), a.max(b)));
                for (from, to) in [(a, b), (b, a)] {
                    if self.nodes[from].links.get(&to) == Some(&true) {
                        self.break_link(from, to, Duration::ZERO);
                    }
                }
            }
            Fault::CutStore(n) => self.nodes[n].store_cut = true,
            Fault::HealStore(n) => {
                if std::mem::take(&mut self.nodes[n].store_cut) {
                    self.nodes[n].connection += 1;
                }
            }
            Fault::StoreDown => self.store_down = true,
            Fault::StoreUp => {
                self.locate_unanswered = false;
                if std::mem::take(&mut self.store_down) {
                    self.store.generation += 1;
                }
            }
            Fault::StoreEmpty => {
                self.store.forget();
                self.calls.store_lost(self.now);
            }
            Fault::StoreFailsOver => {
                self.store.fail_over();
                self.calls.store_lost(self.now);
            }
            Fault::LocateUnanswered => self.locate_unanswered = true,
            Fault::Kill(n) => self.kill(n),
            Fault::Start(n) => {
                if self.nodes[n].gateway.is_none() {
                    self.start_node(n);
                }
            }
            Fault::Drop(phone) => self.drop_phone(phone),
            Fault::Pause(n) => {
                if self.nodes[n].paused.is_none() {
                    self.send_media(n);
                }
                if self.nodes[n].gateway.is_some() {
                    self.nodes[n].paused.get_or_insert_default();
                }
            }
            Fault::Wake(n) => {
                if self.nodes[n].paused.is_some() {
                    self.overslept(n);
                }
                for input in self.nodes[n].paused.take().into_iter().flatten() {
                    self.handle(n, input);
                }
            }
        }
    }

    /// A connection from one node to another is found to be broken after a while.
    fn break_link(&mut self, from: usize, to: usize, after: Duration) {
        let (hop, process) = (Hop::Node(self.nodes[to].address), self.nodes[from].process);
        // What was to be found later is found now.
        let same = |d: &Delivery| matches!(d, Delivery::Node { to: n, input: Input::Unreachable { hop: h, .. }, .. } if *n == from && *h == hop);
        self.queue.retain(|_, d| !same(d));
        let input = Input::Unreachable { hop, code: Code::NODE_AWAY, why: "cut".into() };
        self.push(after, Delivery::Node { to: from, process, input });
    }

    fn kill(&mut self, n: usize) {
        if self.nodes[n].paused.is_none() {
            self.send_media(n);
        }
        let mark =
            self.nodes[n].gateway.as_ref().map(|g| g.cluster().expect("one").mark_of_process());
        let claimed = mark.as_ref().map_or(Vec::new(), |mark| self.store.claimed_by(mark));
        let knows = |node: &NodeState| {
            let cluster = node.gateway.as_ref().and_then(Gateway::cluster);
            let mut members = cluster.into_iter().flat_map(|cluster| cluster.members());
            members.any(|member| Some(member.process().mark()) == mark)
        };
        let others =
            self.nodes.iter().enumerate().filter(|(other, node)| *other != n && knows(node));
        let heirs = others.map(|(other, node)| (other, node.process)).collect();
        let node = &mut self.nodes[n];
        if node.gateway.take().is_none() {
            return;
        }
        node.links.clear();
        node.ends.clear();
        node.streams.clear();
        (node.paused, node.vouched) = (None, None);
        self.calls.gone((n, self.nodes[n].process), &claimed, heirs);
        if self.floats {
            for of in self.addresses.held_by(n) {
                let (after, process) = (self.between(300_000, 3_000_000), self.nodes[of].process);
                self.push(after, Delivery::Address { of, process });
            }
        }
        // Its connections are reset, and its browsers look for another node.
        for other in (0..self.nodes.len()).filter(|o| *o != n) {
            if self.nodes[other].links.contains_key(&n) && !self.is_cut(n, other) {
                self.break_link(other, n, MS);
            }
        }
        for phone in 0..PHONES {
            if self.phones[phone].at.is_some_and(|(node, _)| node == n) {
                self.phone_gone(phone);
            }
        }
    }

    fn drop_phone(&mut self, phone: usize) {
        let Some((node, flow)) = self.phones[phone].at else { return };
        self.handle(node, Input::FlowClosed { flow: Flow(flow) });
        self.phone_gone(phone);
    }

    fn phone_gone(&mut self, phone: usize) {
        self.phones[phone].at = None;
        self.phones[phone].attempts += 1;
        if self.roams {
            let attempt = self.phones[phone].attempts;
            let after = self.between(100_000, 1_500_000);
            self.push(after, Delivery::Connect { phone, attempt });
        }
    }

    fn connect(&mut self, phone: usize, node: usize) {
        if self.nodes[node].gateway.is_none() {
            return self.phone_gone(phone);
        }
        self.connect_silently(phone, node);
        self.register_again(phone);
    }

    /// A phone has a connection to a node, and says nothing.
    pub(crate) fn connect_silently(&mut self, phone: usize, node: usize) {
        self.next += 1;
        let flow = self.next;
        self.phones[phone].attempts += 1;
        self.phones[phone].at = Some((node, flow));
        self.picture.push(format!("{:?} u{phone} at n{node}", self.now - self.start));
        let remote = SocketAddr::from(([127, 0, 0, 20], 40_000));
        self.handle(
            node,
            Input::FlowOpened { flow: Flow(flow), kind: FlowKind::WebSocket, remote },
        );
    }

    /// Lets things fail at random, and people call one another.
    pub(crate) fn stir(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let step = self.between(50_000, 1_500_000);
            self.run(step);
            let (n, phone) =
                (self.below(NODES as u64) as usize, self.below(PHONES as u64) as usize);
            let other = (n + 1 + self.below(2) as usize) % NODES;
            match self.below(27) {
                0 | 1 => self.fault(Fault::Cut(n, other)),
                2 | 3 => self.fault(Fault::Heal(n, other)),
                4 => self.fault(Fault::CutStore(n)),
                5 | 6 => self.fault(Fault::HealStore(n)),
                7 => self.fault(Fault::StoreDown),
                8 | 9 => self.fault(Fault::StoreUp),
                10 => self.fault(Fault::StoreFailsOver),
                11 => self.fault(Fault::StoreEmpty),
                12 => self.fault(Fault::Kill(n)),
                13..=15 => self.fault(Fault::Start(n)),
                16 => self.fault(Fault::Drop(phone)),
                17 => self.fault(Fault::LocateUnanswered),
                18 => self.hang_up(phone),
                24 => self.fault(Fault::Pause(n)),
                25 | 26 => self.fault(Fault::Wake(n)),
                _ => {
                    let to = (phone + 1 + self.below(PHONES as u64 - 1) as usize) % PHONES;
                    if self.phones[phone].at.is_some() {
                        self.call(phone, to);
                    }
                }
            }
        }
    }

    /// The last faults: everything works again from now on.
    pub(crate) fn heal_all(&mut self) {
        for n in 0..NODES {
            self.fault(Fault::Wake(n));
            self.fault(Fault::Start(n));
            self.fault(Fault::HealStore(n));
            (0..n).for_each(|other| self.fault(Fault::Heal(n, other)));
        }
        self.fault(Fault::StoreUp);
    }

    // ---- the machinery

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let awake = self.nodes.iter_mut().enumerate().filter(|(_, node)| node.paused.is_none());
            let timer = awake
                .filter_map(|(n, node)| Some((node.gateway.as_mut()?.next_timeout()?, n)))
                .min();
            let arrival = self.queue.keys().next().copied();
            let due = timer.map(|(at, _)| at).into_iter().chain(arrival.map(|(at, _)| at)).min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            match (arrival, timer) {
                (Some(key), timer) if timer.is_none_or(|(at, _)| key.0 <= at) => {
                    let delivery = self.queue.remove(&key).expect("it is the first");
                    self.deliver(delivery);
                }
                (_, Some((_, n))) => self.handle(n, Input::Tick),
                (_, None) => unreachable!("one of them is due"),
            }
        }
        self.now = end;
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Node { to, process, input } => {
                if self.nodes[to].process != process || self.nodes[to].gateway.is_none() {
                    return;
                }
                if let Input::Unreachable { hop: Hop::Node(at), .. } = &input {
                    let broken = self.nodes.iter().position(|n| n.address == *at);
                    if let Some(broken) = broken {
                        self.nodes[to].links.remove(&broken);
                    }
                }
                self.handle(to, input);
            }
            Delivery::Store { node, process, command } => self.at_store(node, process, command),
            Delivery::Phone { phone, attempt, bytes } => {
                if self.phones[phone].attempts != attempt {
                    return;
                }
                let message = Message::parse(bytes, Framing::WebSocket).expect("it can be read");
                message.check().unwrap_or_else(|e| panic!("{e}: {message:?}"));
                let reaction = self.phones[phone].takes(&message);
                reaction.now.into_iter().for_each(|t| self.phone_says(phone, t, Duration::ZERO));
                for text in reaction.later {
                    let after = self.between(50_000, 600_000);
                    self.phone_says(phone, text, after);
                }
            }
            Delivery::FromPhone { phone, attempt, text } => {
                let Some((node, flow)) = self.phones[phone].at else { return };
                let answers = text.starts_with("SIP/2.0 200") && text.contains("INVITE\r\n");
                if self.phones[phone].attempts != attempt
                    || answers && self.phones[phone].gave_up(&text)
                {
                    return;
                }
                let message = Message::parse(text.into_bytes(), Framing::WebSocket).expect("sound");
                let remote = SocketAddr::from(([127, 0, 0, 20], 40_000));
                self.handle(node, Input::Received { hop: Hop::Flow(Flow(flow)), remote, message });
            }
            Delivery::Address { of, process } => {
                let next = (1..NODES).map(|n| (of + n) % NODES);
                let alive = |n: &usize| self.nodes[*n].gateway.is_some();
                if self.nodes[of].process == process
                    && self.nodes[of].gateway.is_none()
                    && let Some(to) = next.clone().find(alive)
                {
                    self.addresses.give(of, to);
                }
            }
            Delivery::Connect { phone, attempt } => {
                if self.phones[phone].attempts == attempt {
                    let node = self.below(NODES as u64) as usize;
                    self.connect(phone, node);
                }
            }
        }
    }

    fn phone_says(&mut self, phone: usize, text: String, after: Duration) {
        let attempt = self.phones[phone].attempts;
        let after = after + self.between(100, 5_000);
        // A WebSocket keeps the order.
        let last = self.last.entry((100 + phone, 0)).or_insert(self.now);
        let at = (self.now + after).max(*last + Duration::from_micros(1));
        *last = at;
        let after = at - self.now;
        self.push(after, Delivery::FromPhone { phone, attempt, text });
    }

    fn at_store(&mut self, node: usize, process: u64, command: StoreCommand) {
        if self.store_down || self.nodes[node].store_cut {
            return;
        }
        if let StoreCommand::Claim { of, by, .. } = &command
            && of != by
        {
            self.claims.push(node);
            if self.held_claims.0 > 0 {
                self.held_claims.1.push((node, process, command));
                if self.held_claims.1.len() == self.held_claims.0 {
                    let (_, held) = std::mem::take(&mut self.held_claims);
                    held.into_iter().for_each(|(n, p, c)| self.carried_out(n, p, c));
                }
                return;
            }
        }
        self.carried_out(node, process, command);
    }

    fn carried_out(&mut self, node: usize, process: u64, command: StoreCommand) {
        if self.nodes[node].generation != self.store.generation {
            self.nodes[node].generation = self.store.generation;
            self.nodes[node].connection += 1;
        }
        let (unix, connection) = (self.unix(), self.nodes[node].connection);
        let asks_for_own = matches!(&command, StoreCommand::Claim { of, by, .. } if of == by);
        let answer = self.store.carry_out(self.now, unix, connection, command);
        if asks_for_own && let StoreAnswer::Claimed { answer: Ok(claim), .. } = &answer {
            self.nodes[node].owner_said = match claim {
                Claim::Taken { by, names } => Some((by[16..].to_owned(), names.clone())),
                Claim::Granted { .. } | Claim::Lives => None,
            };
        }
        let copies = 1 + usize::from(self.below(10) == 0);
        for _ in 0..copies {
            let after = self.store_delay();
            let input = Input::Store(answer.clone());
            self.push(after, Delivery::Node { to: node, process, input });
        }
    }

    /// Mostly quick, sometimes late: later ones overtake.
    fn store_delay(&mut self) -> Duration {
        if self.below(20) == 0 { self.between(1_000, 200_000) } else { self.between(200, 3_000) }
    }

    fn handle(&mut self, n: usize, input: Input) {
        let mut out = Vec::new();
        if let Some(waiting) = &mut self.nodes[n].paused {
            return waiting.push(input);
        }
        self.send_media(n);
        let Some(gateway) = &mut self.nodes[n].gateway else { return };
        gateway.handle(self.now, input, &mut out);
        for output in out {
            self.perform(n, output);
        }
        self.keep(n);
    }

    pub(crate) fn push_to_node(&mut self, to: usize, process: u64, input: Input) {
        self.push(Duration::ZERO, Delivery::Node { to, process, input });
    }

    pub(crate) fn perform(&mut self, n: usize, output: Output) {
        let process = self.nodes[n].process;
        match output {
            Output::Send(t) => self.send(n, t.hop, t.bytes.to_vec()),
            Output::Media { command, .. } => {
                if let Some((session, notice)) = self.media(n, &command) {
                    let input = Input::Media { session, notice };
                    self.push(Duration::ZERO, Delivery::Node { to: n, process, input });
                }
            }
            Output::Store(command) => self.send_to_store(n, command),
            Output::TakeUp(taken) => self.take_up(n, *taken),
            Output::Ask(Question::Locate { seeker, ask, users, .. }) => {
                self.located += 1;
                self.last_asked = users.len();
                if self.locate_unanswered {
                    return;
                }
                let late = std::mem::take(&mut self.locate_late);
                let answer: LocatedUsers = if self.store_down || self.nodes[n].store_cut {
                    Err("the store is away".into())
                } else {
                    Ok(users.iter().map(|u| (u.clone(), self.store.find(u))).collect())
                };
                for _ in 0..1 + usize::from(self.below(10) == 0) {
                    let after = self.between(200, 20_000) + late;
                    let input = Input::Located { seeker, ask, answer: answer.clone() };
                    self.push(after, Delivery::Node { to: n, process, input });
                }
            }
            Output::Event(event) => self.note(n, &event),
            Output::CloseFlow(flow) => {
                let phone = self.phones.iter().position(|p| p.at == Some((n, flow.0)));
                if let Some(phone) = phone {
                    self.phone_gone(phone);
                    self.push(
                        Duration::ZERO,
                        Delivery::Node { to: n, process, input: Input::FlowClosed { flow } },
                    );
                }
            }
            Output::Ask(_) | Output::Disconnect(_) | Output::FlowInCall { .. } => {}
        }
    }

    fn note(&mut self, n: usize, event: &Event) {
        if let Event::NodeDeposed { by } = event {
            self.nodes[n].deposed_now = true;
            // What it lets go of is known if the store says so of the node that has it.
            let said = self.nodes[n].owner_said.take().filter(|(owner, _)| owner == by);
            let names = said.and_then(|(_, names)| names);
            self.nodes[n].names_unknown = names.is_none();
            self.calls.lets_go((n, self.nodes[n].process), names.as_deref());
        }
        let text = format!("{event:?}");
        if let Event::CallStarted { call, .. } = event {
            self.calls.began(*call);
        }
        if let Event::CallEnded { cdr } = event {
            let verdict = cdr.verdict.as_ref().expect("a verdict");
            self.nodes[n].codes.push(verdict.code);
            let at = self.now - self.start;
            self.picture
                .push(format!("{at:?} n{n}: {} {} {}", cdr.call, verdict.code, verdict.sentence));
            self.calls.recorded(cdr.call, (n, self.nodes[n].process));
        } else if !text.contains("uality") {
            let line: String = text.chars().take(160).collect();
            self.picture.push(format!("{:?} n{n}: {line}", self.now - self.start));
        }
        self.nodes[n].said.push(text);
    }

    fn media(&mut self, n: usize, command: &WorkerCommand) -> Option<(u64, Notice)> {
        self.calls.configured(command);
        match command {
            WorkerCommand::Vouch { until } => self.nodes[n].vouched = *until,
            WorkerCommand::Close { session } => {
                self.nodes[n].streams.remove(&CallId(*session));
            }
            _ => {}
        }
        let ends = &mut self.nodes[n].ends;
        match command {
            WorkerCommand::Open { session, end, .. } => {
                ends.insert((*session, *end));
                let port = self.free_port();
                self.calls.received_at(n, (*session, *end), port);
                let address = SocketAddr::from(([0, 0, 0, 0], port));
                Some((*session, Notice::Opened { end: *end, address, tcp: false }))
            }
            WorkerCommand::CloseEnd { session, end } => {
                ends.remove(&(*session, *end));
                Some((*session, Notice::EndClosed { end: *end, statistics: Box::default() }))
            }
            WorkerCommand::Close { session } => {
                ends.retain(|e| e.0 != *session);
                Some((*session, Notice::Closed { statistics: Vec::new() }))
            }
            _ => None,
        }
    }

    /// A port that no other end has had of late.
    pub(crate) fn free_port(&mut self) -> u16 {
        self.ports = self.ports.wrapping_add(2).max(20_000);
        self.ports
    }

    fn send_to_store(&mut self, n: usize, command: StoreCommand) {
        let process = self.nodes[n].process;
        if self.store_down || self.nodes[n].store_cut {
            // Refused at once, or never answered.
            if self.below(2) == 0 {
                let answer = command.refused("no connection");
                let after = self.between(100, 400_000);
                let input = Input::Store(answer);
                self.push(after, Delivery::Node { to: n, process, input });
            }
            return;
        }
        if matches!(command, StoreCommand::Spend { .. }) && !self.tokens_late.is_zero() {
            return self.push(self.tokens_late, Delivery::Store { node: n, process, command });
        }
        // A connection keeps its order; a late one overtakes nobody.
        let after = self.store_delay();
        let last = self.last.entry((n, 99)).or_insert(self.now);
        let at = (self.now + after).max(*last + Duration::from_micros(1));
        *last = at;
        let after = at - self.now;
        self.push(after, Delivery::Store { node: n, process, command });
    }

    fn send(&mut self, n: usize, hop: Hop, bytes: Vec<u8>) {
        match hop {
            Hop::Flow(flow) => {
                let phone = self.phones.iter().position(|p| p.at == Some((n, flow.0)));
                let Some(phone) = phone else { return };
                let attempt = self.phones[phone].attempts;
                let after = self.between(100, 5_000);
                let last = self.last.entry((100 + phone, 1)).or_insert(self.now);
                let at = (self.now + after).max(*last + Duration::from_micros(1));
                *last = at;
                let after = at - self.now;
                self.push(after, Delivery::Phone { phone, attempt, bytes });
            }
            Hop::Node(at) => {
                let to = self.nodes.iter().position(|node| node.address == at);
                let to = to.expect("a node of this world");
                self.send_to_node(n, to, bytes);
            }
            Hop::Udp(to) if to == TRUNK => {
                let message = Message::parse(bytes, Framing::Datagram).expect("it can be read");
                if message.is_request() && message.method_token() == "REGISTER" {
                    self.trunk_registers(n, &message);
                }
                self.trunk.push((n, message));
            }
            other => panic!("nothing is sent to {other}"),
        }
    }

    /// The trunk lets a node register.
    fn trunk_registers(&mut self, n: usize, register: &Message) {
        let header = |name| register.header(name).unwrap_or_default().to_owned();
        let ok = format!(
            "SIP/2.0 200 OK\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=t\r\nCall-ID: {}\r\nCSeq: {}\r\n\
             Contact: {};expires=60\r\nContent-Length: 0\r\n\r\n",
            header(HeaderName::Via),
            header(HeaderName::From),
            header(HeaderName::To),
            register.call_id(),
            header(HeaderName::CSeq),
            header(HeaderName::Contact),
        );
        let message = Message::parse(ok.into_bytes(), Framing::Datagram).expect("sound");
        let (hop, process) = (Hop::Udp(TRUNK), self.nodes[n].process);
        let input = Input::Received { hop, remote: TRUNK, message };
        self.push(5 * MS, Delivery::Node { to: n, process, input });
    }

    fn send_to_node(&mut self, n: usize, to: usize, bytes: Vec<u8>) {
        let message = Message::parse(bytes, Framing::WebSocket).expect("it can be read");
        message.check().unwrap_or_else(|e| panic!("{e}: {message:?}"));
        let first = message.request_uri().to_owned();
        let line = if message.is_request() {
            format!("{} {first}", message.method_token())
        } else {
            format!("{} {:?}", message.status(), message.method())
        };
        self.picture.push(format!("{:?} n{n} to n{to}: {line}", self.now - self.start));
        if self.nodes[n].links.get(&to) == Some(&true) {
            return;
        }
        if self.is_cut(n, to) || self.nodes[to].gateway.is_none() {
            let after = if self.is_cut(n, to) { 2_000 * MS } else { MS };
            return self.break_link(n, to, after);
        }
        self.nodes[n].links.insert(to, false);
        let (hop, process) = (Hop::Node(self.nodes[n].address), self.nodes[to].process);
        let remote = SocketAddr::from(([127, 0, 1, n as u8], 50_000));
        let input = Input::Received { hop, remote, message };
        // TCP keeps the order.
        let after = self.between(100, 10_000);
        let last = self.last.entry((n, to)).or_insert(self.now);
        let at = (self.now + after).max(*last + Duration::from_micros(1));
        *last = at;
        let after = at - self.now;
        self.push(after, Delivery::Node { to, process, input });
    }
}
