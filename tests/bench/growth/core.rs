//! The core alone, in virtual time, turned as its task turns it.

use super::cluster::StoreMap;
use super::{Figure, middle, timed};
use crate::trunk;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use webtrunk::call::Output;
use webtrunk::call::context::NodeIdentity;
use webtrunk::cluster::store::StoreCommand;
use webtrunk::config::check::parse_embedded;
use webtrunk::gateway::{FlowKind, Gateway, Input};
use webtrunk::sip::parse::Framing;
use webtrunk::sip::transaction::{Flow, Hop};
use webtrunk::sip::{Message, Method, digest};
use webtrunk::worker::{Notice, WorkerCommand};

pub(super) const SERVER: &str = "[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n[sip]\nudp = \":5060\"\n\
     [limits]\nnew_calls_per_second = 100000\ncalls = 20000\n[media]\nports = \"10000-60000\"\n[recorder]\ncalls = 0\n\
     [trunk.t]\nuri = \"sip:127.0.0.10\"\ncontext = \"in\"\n";
pub(super) const PLAN: &str = "[[route]]\nname = \"e\"\nmatch = \".\"\ndo = [{ echo = true }]\n";
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.10\r\ns=-\r\nc=IN IP4 127.0.0.10\r\nt=0 0\r\n\
     m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";

/// Users u0, u1…, each with a number.
pub(super) fn user_text(n: usize) -> String {
    (0..n).fold(String::new(), |mut text, n| {
        let _ = write!(
            text,
            "[user.u{n}]\npassword = \"a word of u{n}\"\ndid = \"+1206{n:07}\"\ncontext = \"in\"\n"
        );
        text
    })
}

/// Trunks r0, r1…, each with an address, probed now and then.
pub(super) fn trunk_text(n: usize) -> String {
    (0..n).fold(String::new(), |mut text, n| {
        let (a, b) = (n >> 8, n & 255);
        let _ = write!(
            text,
            "[trunk.r{n}]\nuri = \"sip:127.2.{a}.{b}:5070\"\ncontext = \"in\"\nprobe = \"1h\"\n"
        );
        text
    })
}

/// `check-config` of a plan with `n` routes, each for a number of its own.
pub(super) fn check(n: usize) -> Vec<Figure> {
    let routes = (0..n).fold(String::new(), |mut text, n| {
        let _ = write!(
            text,
            "[[route]]\nname = \"r{n}\"\nmatch = \"+1206{n:07}\"\ndo = [{{ dial = [\"trunk:t\"] }}]\n"
        );
        text
    });
    let routes = format!("{routes}{PLAN}");
    let (time, read) = timed(|| parse_embedded(SERVER, &[("in", &routes)]));
    read.unwrap_or_else(|p| panic!("{p}"));
    vec![Figure::all("check-config", time)]
}

/// The core, and what comes out of it in one turn.
pub(super) struct World {
    gateway: Gateway,
    pub(super) now: Instant,
    out: Vec<Output>,
    n: u64,
    store: Option<Rc<RefCell<StoreMap>>>,
}

impl World {
    fn new(rest: &str) -> World {
        let (config, _) = parse_embedded(&format!("{SERVER}{rest}"), &[("in", PLAN)])
            .unwrap_or_else(|p| panic!("{p}"));
        let identity = NodeIdentity { workers: 200, ..NodeIdentity::without_a_host() };
        let now = Instant::now();
        let gateway = Gateway::new(now, Arc::new(config), identity, [3; 32]);
        World { gateway, now, out: Vec::new(), n: 0, store: None }
    }

    /// A node, and the store of its cluster.
    pub(super) fn with_store(rest: &str, store: Rc<RefCell<StoreMap>>) -> World {
        World { store: Some(store), ..World::new(rest) }
    }

    /// One turn: the input, what media answers, and what the task does at the end of each.
    pub(super) fn handle(&mut self, input: Input) {
        let from = self.out.len();
        self.gateway.handle(self.now, input, &mut self.out);
        if let Some(store) = self.store.clone() {
            let asked: Vec<StoreCommand> = self.out[from..].iter().filter_map(command).collect();
            for command in asked {
                let answer = store.borrow_mut().carry_out(command);
                self.gateway.handle(self.now, Input::Store(answer), &mut self.out);
            }
        }
        let answers: Vec<(u64, Notice)> = self.out[from..].iter().filter_map(answer).collect();
        for (session, notice) in answers {
            self.handle(Input::Media { session, notice });
        }
        let _ = (self.gateway.next_timeout(), self.gateway.gauges());
    }

    /// What a trunk says.
    fn trunk_says(&mut self, method: &str, tag: &str, cseq: u32, body: &str) {
        let (n, remote) = (self.n, SocketAddr::from(([127, 0, 0, 10], 5060)));
        let message = trunk::request(n, method, tag, cseq, body);
        self.handle(Input::Received { hop: Hop::Udp(remote), remote, message });
    }

    /// The newest message that begins so.
    fn said(&self, start: &str) -> Option<Message> {
        self.out.iter().rev().find_map(|o| match o {
            Output::Send(t) if t.bytes.starts_with(start.as_bytes()) => {
                Message::parse(t.bytes.to_vec(), Framing::WebSocket).ok()
            }
            _ => None,
        })
    }

    /// A call of the trunk, up to its ACK; its tag.
    fn begin_call(&mut self) -> String {
        self.n += 1;
        self.now += Duration::from_millis(20);
        self.out.clear();
        self.trunk_says("INVITE", "", 1, SDP);
        let ok = self.said("SIP/2.0 200").expect("a 200");
        let tag = ok.to().and_then(|t| t.tag().map(str::to_owned)).expect("a tag");
        let tag = format!(";tag={tag}");
        self.trunk_says("ACK", &tag, 1, "");
        tag
    }

    /// A whole call of the trunk.
    fn call(&mut self) {
        let tag = self.begin_call();
        self.trunk_says("BYE", &tag, 2, "");
    }

    /// A REGISTER of user `n` on its flow, with the answer to the challenge it was given.
    fn register_once(&mut self, n: usize, cseq: u32, authorization: &str) {
        let remote = SocketAddr::from(([127, 0, 0, 20], 40_000));
        let text = format!(
            "REGISTER sip:x SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bKr{n}-{}-{cseq}\r\nMax-Forwards: 70\r\nFrom: <sip:u{n}@x>;tag=f\r\nTo: <sip:u{n}@x>\r\n\
             Call-ID: r{n}\r\nCSeq: {cseq} REGISTER\r\nSupported: path, gruu, outbound\r\nExpires: 3600\r\n\
             Contact: <sip:u{n}@a.invalid;transport=ws>;+sip.instance=\"<urn:uuid:{n}>\";reg-id=1\r\n{authorization}Content-Length: 0\r\n\r\n",
            self.n
        );
        let message = Message::parse(text.into_bytes(), Framing::WebSocket).expect("sound");
        self.handle(Input::Received { hop: Hop::Flow(Flow(n as u64 + 1)), remote, message });
    }

    /// A REGISTER, and the answers to its challenges.
    fn prove(&mut self, n: usize, cseq: u32) {
        let (user, password) = (format!("u{n}"), format!("a word of u{n}"));
        self.register_once(n, cseq, "");
        // Two nonces that happen to have one number: the second is stale, and another is given.
        for cseq in cseq + 1..cseq + 4 {
            let Some(challenge) = self.said("SIP/2.0 401") else { break };
            let (_, value) =
                digest::answer(&challenge, &user, &password, "sip:x", Method::Register, "c")
                    .expect("a challenge that can be answered");
            self.out.clear();
            self.register_once(n, cseq, &format!("Authorization: {value}\r\n"));
        }
    }

    /// A browser connects and registers as user `n`.
    pub(super) fn log_in(&mut self, n: usize) {
        let flow = Flow(n as u64 + 1);
        let remote = SocketAddr::from(([127, 0, 0, 20], 40_000));
        self.n += 1;
        self.out.clear();
        self.handle(Input::FlowOpened { flow, kind: FlowKind::WebSocket, remote });
        self.prove(n, 1);
        assert!(self.said("SIP/2.0 200").is_some(), "u{n} is registered");
    }

    /// A registered browser registers again.
    pub(super) fn refresh(&mut self, n: usize) {
        self.n += 1;
        self.out.clear();
        self.prove(n, 9);
        assert!(self.said("SIP/2.0 200").is_some(), "u{n} is registered still");
    }

    fn log_in_all(&mut self, n: usize) {
        (0..n).for_each(|n| {
            // A fleet that comes over a quarter of an hour.
            self.now += Duration::from_millis(5);
            self.log_in(n);
        });
        assert_eq!(self.gateway.gauges().bindings, n);
    }

    /// The middle of seven rounds of `each`, by one.
    fn cost(&mut self, each: impl Fn(&mut World)) -> Duration {
        const ROUND: u32 = 200;
        let round = |world: &mut World| timed(|| (0..ROUND).for_each(|_| each(world))).0 / ROUND;
        round(self);
        middle((0..7).map(|_| round(self)).collect())
    }
}

/// What the store is asked.
fn command(output: &Output) -> Option<StoreCommand> {
    match output {
        Output::Store(command) => Some(command.clone()),
        _ => None,
    }
}

/// What a media worker answers.
fn answer(output: &Output) -> Option<(u64, Notice)> {
    let Output::Media { command, .. } = output else { return None };
    match command {
        WorkerCommand::Open { session, end, .. } => {
            let address = SocketAddr::from(([0, 0, 0, 0], 20_000));
            Some((*session, Notice::Opened { end: *end, address, tcp: false }))
        }
        WorkerCommand::Close { session } => {
            Some((*session, Notice::Closed { statistics: Vec::new() }))
        }
        _ => None,
    }
}

/// `n` browsers register, and all their connections are lost.
pub(super) fn bindings(n: usize) -> Vec<Figure> {
    let mut world = World::new(&user_text(n));
    let (bound, ()) = timed(|| world.log_in_all(n));
    let (dropped, ()) = timed(|| {
        for n in 0..n {
            world.out.clear();
            world.handle(Input::FlowClosed { flow: Flow(n as u64 + 1) });
        }
    });
    assert_eq!(world.gateway.gauges().bindings, 0);
    vec![
        Figure::all("browsers connect and register, all", bound),
        Figure::all("their connections are lost, all", dropped),
    ]
}

/// One call and one browser among `n` calls that are held.
pub(super) fn among_calls(n: usize) -> Vec<Figure> {
    let mut world = World::new(&user_text(1));
    (0..n).for_each(|_| drop(world.begin_call()));
    assert_eq!(world.gateway.gauges().calls, n);
    let call = world.cost(World::call);
    let browser = world.cost(|world| {
        world.now += Duration::from_millis(20);
        world.log_in(0);
        world.handle(Input::FlowClosed { flow: Flow(1) });
    });
    vec![
        Figure::one("a call while others are held", call),
        Figure::one("a browser comes and goes while calls are held", browser),
    ]
}

/// One call among `n` users who are bound.
pub(super) fn among_bound(n: usize) -> Vec<Figure> {
    let mut world = World::new(&user_text(n + 1));
    world.log_in_all(n);
    let call = world.cost(World::call);
    let browser = world.cost(|world| {
        world.now += Duration::from_millis(20);
        world.log_in(n);
        world.handle(Input::FlowClosed { flow: Flow(n as u64 + 1) });
    });
    vec![
        Figure::one("a call while users are bound", call),
        Figure::one("a browser comes and goes while users are bound", browser),
    ]
}

/// One call of a trunk among `n` trunks.
pub(super) fn among_trunks(n: usize) -> Vec<Figure> {
    let mut world = World::new(&trunk_text(n));
    // Their probes are sent, and time out.
    for _ in 0..400 {
        world.now += Duration::from_millis(250);
        world.out.clear();
        world.handle(Input::Tick);
    }
    vec![Figure::one("a call of one trunk among others", world.cost(World::call))]
}
