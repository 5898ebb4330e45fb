//! The laboratory: a gateway in virtual time, scripted peers, and the ladder of all that was said.

use crate::script::{Extra, is_called};
pub(crate) use crate::setup::{ANSWER, OFFER, TRUNK_SDP, ok_of_trunk};
use crate::setup::{CONFIG, INCOMING, PHONES};
use crate::{plain, readable};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use webtrunk::call::CallId;
use webtrunk::call::call_snapshot::CallSnapshot;
use webtrunk::call::context::{NodeIdentity, Output};
use webtrunk::config::Config;
use webtrunk::config::check::parse_embedded;
use webtrunk::errors::Code;
use webtrunk::event::Event;
use webtrunk::gateway::restore::FoundCall;
use webtrunk::gateway::{Gateway, Gauges, Input};
use webtrunk::media::LegId;
use webtrunk::resolver::{DnsAnswer, DnsQuery};
use webtrunk::sdp::offer_answer::{Remote, Settled};
use webtrunk::sip::Message;
use webtrunk::sip::parse::{Framing, HeaderName};
use webtrunk::sip::transaction::{Flow, Hop};
use webtrunk::worker::{Notice, OpenKind, WorkerCommand};

/// A peer of the gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    Browser(&'static str, u64),
    Trunk(&'static str, u8),
}

impl Peer {
    pub(crate) fn hop(self) -> Hop {
        match self {
            Peer::Browser(_, flow) => Hop::Flow(Flow(flow)),
            Peer::Trunk(_, n) => Hop::Udp(SocketAddr::from(([127, 0, 0, n], 5060))),
        }
    }
    pub(crate) fn remote(self) -> SocketAddr {
        match self {
            // A browser out in the world.
            Peer::Browser(_, 100..) => SocketAddr::from(([198, 51, 100, 23], 40_000)),
            Peer::Browser(..) => SocketAddr::from(([127, 0, 0, 20], 40_000)),
            Peer::Trunk(_, n) => SocketAddr::from(([127, 0, 0, n], 5060)),
        }
    }
}

pub(crate) const T1: Peer = Peer::Trunk("t1", 10);

pub(crate) const T2: Peer = Peer::Trunk("t2", 11);

pub(crate) const ALICE: Peer = Peer::Browser("alice", 1);

pub(crate) const BOB: Peer = Peer::Browser("bob", 2);

pub(crate) struct Lab {
    pub gateway: Gateway,
    pub start: Instant,
    pub now: Instant,
    pub ladder: String,
    /// How many lines of the ladder scripts have seen.
    pub played: usize,
    /// What scripts have shown and nobody took.
    pub shown: Vec<(Hop, Message)>,
    /// All that peers got and said while the ladder was drawn; what was said also as it was.
    pub heard: Vec<(Hop, Message)>,
    pub said: Vec<(Peer, Message, String)>,
    /// What messages of scripts have besides the usual.
    pub extras: Vec<Extra>,
    /// Browsers that logged in.
    pub phones: Vec<Peer>,
    /// Sent by the gateway and not yet taken by a script.
    pub inbox: VecDeque<(Hop, Message)>,
    pub media: Vec<WorkerCommand>,
    pub notes: Vec<Event>,
    pub closed_flows: Vec<Flow>,
    /// Connections that are watched closely.
    pub in_call: Vec<Flow>,
    /// Questions to DNS nobody has answered, where there is no zone.
    pub asked: Vec<DnsQuery>,
    pub zone: Option<fn(&DnsQuery) -> DnsAnswer>,
    /// What web applications were asked.
    pub keys_asked: usize,
    pub logins_asked: Vec<(String, String)>,
    pub routes_asked: Vec<(webtrunk::call::CallId, String)>,
    pub disconnected: Vec<Hop>,
    /// Media answers at once, as a worker would.
    pub media_answers: bool,
    /// Whether trunks get no port.
    pub no_ports: bool,
    ports: u16,
    pub ends: Vec<(u64, webtrunk::media::LegId)>,
    pub next: u64,
    pub(crate) quiet: bool,
    /// Header lines at the end of every message that peers send.
    pub odd: String,
    config: Arc<Config>,
    /// What of each call is on disk.
    pub kept: BTreeMap<CallId, Vec<u8>>,
    /// What of each trunk that registered, and when it was put there.
    kept_trunks: BTreeMap<String, (Instant, Vec<u8>)>,
    /// What of goodbyes that were not answered.
    kept_farewells: BTreeMap<String, (Instant, Vec<u8>)>,
}

fn identity() -> NodeIdentity {
    NodeIdentity { fingerprint: "AB:CD".into(), ..NodeIdentity::without_a_host() }
}

impl Lab {
    pub(crate) fn new() -> Lab {
        Lab::with(CONFIG)
    }

    pub(crate) fn with(config: &str) -> Lab {
        Lab::started(config, PHONES)
    }

    fn started(config: &str, phones: &str) -> Lab {
        let (config, _) = parse_embedded(config, &[("phones", phones), ("incoming", INCOMING)])
            .unwrap_or_else(|p| panic!("{p}"));
        let now = Instant::now();
        let config = Arc::new(config);
        let mut gateway = Gateway::new(now, config.clone(), identity(), [7; 32]);
        gateway.keep_calls();
        let mut lab = Lab {
            gateway,
            start: now,
            now,
            ladder: String::new(),
            played: 0,
            shown: Vec::new(),
            heard: Vec::new(),
            said: Vec::new(),
            extras: Vec::new(),
            phones: Vec::new(),
            inbox: VecDeque::new(),
            media: Vec::new(),
            notes: Vec::new(),
            closed_flows: Vec::new(),
            in_call: Vec::new(),
            asked: Vec::new(),
            zone: None,
            keys_asked: 0,
            logins_asked: Vec::new(),
            routes_asked: Vec::new(),
            disconnected: Vec::new(),
            media_answers: true,
            no_ports: false,
            ports: 20_000,
            ends: Vec::new(),
            next: 0,
            quiet: false,
            odd: String::new(),
            config,
            kept: BTreeMap::new(),
            kept_trunks: BTreeMap::new(),
            kept_farewells: BTreeMap::new(),
        };
        // Past the first second, so that counters of "this second" start clean.
        lab.advance(Duration::from_secs(2));
        lab.start = lab.now;
        lab
    }

    /// With alice and bob registered, and the configuration and dialplan changed: texts replaced,
    /// routes added.
    pub(crate) fn changed(changes: &[(&str, &str)], routes: &str) -> Lab {
        let config = changes.iter().fold(CONFIG.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from} is not in the configuration");
            text.replacen(from, to, 1)
        });
        Lab::started(&config, &format!("{routes}{PHONES}")).logged_in()
    }

    /// As [`changed`](Self::changed), with these routes and no others.
    pub(crate) fn with_plans(changes: &[(&str, &str)], routes: &str) -> Lab {
        let config =
            changes.iter().fold(CONFIG.to_owned(), |text, (from, to)| text.replacen(from, to, 1));
        Lab::started(&config, routes).logged_in()
    }

    /// With alice and bob registered on flows 1 and 2.
    pub(crate) fn with_phones() -> Lab {
        Lab::new().logged_in()
    }

    fn logged_in(self) -> Lab {
        let mut lab = self;
        lab.log_in(ALICE, "secret-a", "uuid-a");
        lab.log_in(BOB, "secret-b", "uuid-b");
        // What was repeated while the lab came up counts once.
        let mut seen = std::collections::HashSet::new();
        lab.inbox.retain(|(_, m)| seen.insert(m.to_bytes()));
        lab.clear();
        lab
    }

    pub(crate) fn clear(&mut self) {
        self.ladder.clear();
        self.played = 0;
        self.notes.clear();
        self.start = self.now;
    }

    pub(crate) fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.gateway.handle(self.now, input, &mut out);
        self.perform(out);
    }

    /// Carries out what the gateway asked for.
    pub(crate) fn perform(&mut self, out: Vec<Output>) {
        let (mut answers, mut lookups) = (Vec::new(), Vec::new());
        for output in out {
            match output {
                Output::Send(t) => {
                    let message = Message::parse(t.bytes.to_vec(), Framing::WebSocket)
                        .expect("what we send can be read");
                    message.check().unwrap_or_else(|e| {
                        panic!("what we send is sound: {e}\n{}", String::from_utf8_lossy(&t.bytes))
                    });
                    self.draw(t.hop, &message, false);
                    if !self.quiet {
                        self.heard.push((t.hop, message.clone()));
                    }
                    self.inbox.push_back((t.hop, message));
                }
                Output::Media { command, .. } => {
                    if self.media_answers {
                        answers.extend(self.media_answer(&command));
                    }
                    self.media.push(command);
                }
                Output::CloseFlow(flow) => self.closed_flows.push(flow),
                Output::FlowInCall { flow, in_call } => {
                    self.in_call.retain(|f| *f != flow);
                    self.in_call.extend(in_call.then_some(flow));
                }
                Output::Event(note) => self.notes.push(note),
                Output::Ask(webtrunk::call::Question::Dns(query)) => {
                    if let Some(zone) = &self.zone {
                        let answer = zone(&query);
                        lookups.push((query, answer));
                    } else {
                        self.asked.push(query);
                    }
                }
                Output::Ask(webtrunk::call::Question::Keys(_)) => self.keys_asked += 1,
                Output::Ask(webtrunk::call::Question::Login { name, body, .. }) => {
                    self.logins_asked.push((name, body))
                }
                Output::Ask(webtrunk::call::Question::Route { call, body, .. }) => {
                    self.routes_asked.push((call, body))
                }
                Output::Disconnect(hop) => self.disconnected.push(hop),
                Output::Store(_)
                | Output::TakeUp(_)
                | Output::Ask(webtrunk::call::Question::Locate { .. }) => {
                    unreachable!("there is no cluster")
                }
            }
        }
        for (session, notice) in answers {
            self.handle(Input::Media { session, notice });
        }
        for (query, answer) in lookups {
            self.handle(Input::Dns { query, answer });
        }
    }

    fn media_answer(&mut self, command: &WorkerCommand) -> Vec<(u64, Notice)> {
        match command {
            WorkerCommand::Open { session, end, kind: OpenKind::Trunk { .. }, .. }
                if self.no_ports =>
            {
                let why = "no media port: all of media.ports are in use".to_owned();
                vec![(*session, Notice::OpenFailed { end: *end, code: Code::PORTS, why })]
            }
            WorkerCommand::Open { session, end, .. } => {
                self.ports += 2;
                self.ends.push((*session, *end));
                let address = SocketAddr::from(([0, 0, 0, 0], self.ports));
                vec![(*session, Notice::Opened { end: *end, address, tcp: false })]
            }
            WorkerCommand::CloseEnd { session, end } => {
                self.ends.retain(|e| *e != (*session, *end));
                vec![(*session, Notice::EndClosed { end: *end, statistics: Box::default() })]
            }
            WorkerCommand::Close { session } => {
                self.ends.retain(|e| e.0 != *session);
                vec![(*session, Notice::Closed { statistics: Vec::new() })]
            }
            _ => Vec::new(),
        }
    }

    fn draw(&mut self, hop: Hop, message: &Message, received: bool) {
        if self.quiet {
            return;
        }
        let (name, what) = (self.name_of(hop), Lab::what_of(message, received));
        let at = self.now.duration_since(self.start).as_secs_f32();
        let arrow = if received { "→" } else { "←" };
        let _ = writeln!(self.ladder, "{at:5.1}s {name} {arrow} {what}");
    }

    /// What the ladder calls a peer.
    pub(crate) fn name_of(&self, hop: Hop) -> String {
        match hop {
            Hop::Flow(Flow(1)) => "alice".to_owned(),
            Hop::Flow(Flow(2)) => "bob".to_owned(),
            Hop::Flow(Flow(n)) => {
                let known = self.phones.iter().rev().find(|p| p.hop() == hop);
                let name = if let Some(Peer::Browser(name, _)) = known { name } else { "flow" };
                format!("{name}-{n}")
            }
            Hop::Node(_) => unreachable!("there is no cluster"),
            Hop::Suspended => unreachable!("what nobody can get does not leave the gateway"),
            Hop::Udp(a) | Hop::UdpFrom(a, _) | Hop::Tcp(a) | Hop::Tls(a, _) => {
                match a.ip().to_string().as_str() {
                    "127.0.0.10" => "t1".to_owned(),
                    "127.0.0.11" => "t2".to_owned(),
                    other => other.to_owned(),
                }
            }
        }
    }

    /// What the ladder says of a message: the number that a peer dials or refers to, what a NOTIFY
    /// tells of a transfer, and the direction of media unless both ways.
    fn what_of(message: &Message, received: bool) -> String {
        if !message.is_request() {
            return format!("{} {}{}", message.status(), message.method(), Lab::sdp_of(message));
        }
        let method = message.method_token();
        let first = message.to().is_none_or(|to| to.tag().is_none());
        let user = |uri: &str| uri.split(['@', '?', '>']).next().unwrap_or_default().to_owned();
        let about = match method {
            "INVITE" if first && received => {
                message.request_uri().split_once(':').map(|u| user(u.1))
            }
            "REFER" => message
                .header(HeaderName::ReferTo)
                .and_then(|to| to.split_once("sip:"))
                .map(|u| user(u.1)),
            "NOTIFY"
                if message.header(HeaderName::Event).is_some_and(|e| e.starts_with("refer")) =>
            {
                std::str::from_utf8(message.body())
                    .ok()
                    .and_then(|body| body.strip_prefix("SIP/2.0 "))
                    .and_then(|line| Some(line.split_once(' ')?.0.to_owned()))
            }
            _ => None,
        };
        let about = about.map(|a| format!(" {a}")).unwrap_or_default();
        format!("{method}{about}{}", Lab::sdp_of(message))
    }

    fn sdp_of(message: &Message) -> &'static str {
        let Some(body) = message.body_of("application/sdp") else { return "" };
        let has = |line: &str| body.windows(line.len()).any(|w| w == line.as_bytes());
        match () {
            () if has("a=sendonly") => " sdp sendonly",
            () if has("a=recvonly") => " sdp recvonly",
            () if has("a=inactive") => " sdp inactive",
            () => " sdp",
        }
    }

    /// Puts what changed on disk.
    pub(crate) fn flush(&mut self) {
        for (name, bound) in self.gateway.changed_trunks(self.now) {
            match bound {
                Some(bound) => {
                    let bytes = postcard::to_stdvec(&bound).expect("a value");
                    self.kept_trunks.insert(name, (self.now, bytes));
                }
                None => drop(self.kept_trunks.remove(&name)),
            }
        }
        for (name, farewell) in self.gateway.changed_farewells(self.now) {
            match farewell {
                Some(farewell) => {
                    let bytes = postcard::to_stdvec(&farewell).expect("a value");
                    self.kept_farewells.insert(name, (self.now, bytes));
                }
                None => drop(self.kept_farewells.remove(&name)),
            }
        }
        for (id, call) in self.gateway.changed_calls(self.now) {
            match call {
                Some(call) => {
                    self.kept.insert(id, postcard::to_stdvec(&call).expect("a value"));
                }
                None => drop(self.kept.remove(&id)),
            }
        }
    }

    /// The calls that are on disk.
    pub(crate) fn on_disk(&mut self) -> Vec<CallSnapshot> {
        self.flush();
        self.kept.values().map(|bytes| postcard::from_bytes(bytes).expect("the value")).collect()
    }

    /// What media knows of a leg: what it was last given.
    fn settled(&self, call: CallId, end: LegId) -> Option<Settled> {
        let latest = self.media.iter().rev().find_map(|command| match command {
            WorkerCommand::Configure { session, end: at, settings }
                if (*session, *at) == (call.0, end) =>
            {
                Some(settings.negotiated.clone())
            }
            _ => None,
        })?;
        let ice = match &latest.remote {
            Remote::Dtls { local_ice, .. } => Some(local_ice.clone()),
            Remote::Rtp { .. } => None,
        };
        Some(Settled { negotiated: Some(latest), ice, ssrc: 1, cname: "c".into() })
    }

    /// What the next process is configured by: as the first was, with these texts replaced.
    pub(crate) fn configure_next(&mut self, changes: &[(&str, &str)]) {
        let changed = |text: &str| {
            changes.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
        };
        let (config, phones) = (changed(CONFIG), changed(PHONES));
        let (config, _) = parse_embedded(&config, &[("phones", &phones), ("incoming", INCOMING)])
            .unwrap_or_else(|p| panic!("{p}"));
        self.config = Arc::new(config);
    }

    /// The process is killed, and started again after a while; its media continues.
    pub(crate) fn restart(&mut self, away: Duration) {
        for session in self.start_again(away, Ok(())) {
            self.handle(Input::Media { session, notice: Notice::Restored { age: away } });
        }
    }

    /// The process is killed, and started again after a while. Returns the sessions that media, if
    /// there is any, continues with.
    pub(crate) fn start_again(&mut self, away: Duration, media: Result<(), String>) -> Vec<u64> {
        self.flush();
        self.start_from_disk(away, media)
    }

    /// As [`start_again`](Self::start_again), with what was on disk when it was last flushed.
    pub(crate) fn start_from_disk(
        &mut self,
        away: Duration,
        media: Result<(), String>,
    ) -> Vec<u64> {
        let calls = self.kept.values().map(|bytes| postcard::from_bytes(bytes).expect("the value"));
        let (calls, died): (Vec<CallSnapshot>, _) = (calls.collect(), self.now);
        self.now += away;
        // Chance of its own, as each process has it.
        let mut seed = [8; 32];
        seed[..8].copy_from_slice(&self.token().to_be_bytes());
        self.gateway = Gateway::new(self.now, self.config.clone(), identity(), seed);
        self.gateway.keep_calls();
        for (name, (taken, bytes)) in &self.kept_trunks {
            let bound = postcard::from_bytes(bytes).expect("the value");
            self.gateway.restore_trunk(self.now, name, (bound, self.now - *taken));
        }
        let settled: Vec<u64> = calls.iter().filter(|c| c.is_settled()).map(|c| c.id().0).collect();
        let ids: Vec<CallId> = calls.iter().map(|call| call.id()).collect();
        for call in calls {
            let id = call.id();
            let ends = (0..100).map(LegId);
            let known: Vec<(LegId, Settled)> =
                ends.filter_map(|end| Some((end, self.settled(id, end)?))).collect();
            let of = |end| known.iter().find(|(at, _)| *at == end).map(|(_, s)| s.clone());
            let media = media.clone().map(|()| &of as _);
            let found =
                FoundCall { call, age: away, silent_since: died, media, from: None, ports: None };
            let mut out = Vec::new();
            self.gateway.restore(self.now, found, &mut out);
            self.perform(out);
        }
        let mut out = Vec::new();
        self.gateway.all_restored(self.now, &ids, &mut out);
        for (name, (taken, bytes)) in std::mem::take(&mut self.kept_farewells) {
            let farewell = postcard::from_bytes(&bytes).expect("the value");
            if self.gateway.say_farewell(self.now, (farewell, self.now - taken), &mut out) {
                self.kept_farewells.insert(name, (taken, bytes));
            }
        }
        self.perform(out);
        settled
    }

    /// Lets virtual time pass, timer by timer.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(due) = self.gateway.next_timeout().filter(|d| *d <= end) {
            self.now = due.max(self.now);
            self.handle(Input::Tick);
        }
        self.now = end;
        self.handle(Input::Tick);
    }

    /// The process is suspended. Timers come first when it resumes; what arrived in between is
    /// still to be read.
    pub(crate) fn stall(&mut self, by: Duration) {
        self.now += by;
        self.gateway.overslept(self.now, by);
        self.handle(Input::Tick);
    }

    pub(crate) fn says(&mut self, peer: Peer, text: &str) {
        let as_said = text.to_owned();
        let odd = ["\r\n", &self.odd, "\r\n"].concat();
        let text = text.replacen("\r\n\r\n", &odd, 1);
        let message = Message::parse(text.as_bytes().to_vec(), Framing::WebSocket)
            .unwrap_or_else(|e| panic!("{e}: {text}"));
        self.draw(peer.hop(), &message, true);
        if !self.quiet {
            self.said.push((peer, message.clone(), as_said));
        }
        let message = if matches!(peer.hop(), Hop::Udp(_)) {
            message.with_source(peer.remote())
        } else {
            message
        };
        self.handle(Input::Received { hop: peer.hop(), remote: peer.remote(), message });
    }

    /// The next message for `peer` of which a ladder says `what`; others for it are skipped. One
    /// that a script has shown can still be taken, once.
    pub(crate) fn take(&mut self, peer: Peer, what: &str) -> Message {
        let fits = |(hop, m): &(Hop, Message)| *hop == peer.hop() && is_called(m, what);
        if let Some(at) = self.inbox.iter().position(fits) {
            return self.inbox.remove(at).expect("position is valid").1;
        }
        let at = self.shown.iter().rposition(fits);
        let at = at.unwrap_or_else(|| panic!("{peer:?} never got {what}\n{}", self.ladder));
        self.shown.remove(at).1
    }

    /// The header of a message, which must have it.
    pub(crate) fn header(message: &Message, name: HeaderName) -> &str {
        message.header(name).unwrap_or_else(|| {
            panic!("{name} is missing in {}", String::from_utf8_lossy(&message.to_bytes()))
        })
    }

    /// As [`in_dialog`](Self::in_dialog), with more header lines.
    pub(crate) fn in_dialog_with(
        &mut self,
        peer: Peer,
        seen: &Message,
        method: &str,
        cseq: u32,
        extra: &str,
        body: &str,
    ) -> String {
        let text = self.in_dialog(peer, seen, method, cseq, "peer", body);
        text.replacen("Max-Forwards", &format!("{extra}Max-Forwards"), 1)
    }

    pub(crate) fn got(&self, peer: Peer, what: &str) -> bool {
        self.inbox.iter().any(|(hop, m)| {
            *hop == peer.hop() && (m.method_token() == what || m.status().to_string() == what)
        })
    }

    pub(crate) fn token(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn picture(&self) -> &str {
        &self.ladder
    }

    pub(crate) fn ended(&self) -> Vec<&webtrunk::call::Cdr> {
        self.notes
            .iter()
            .filter_map(|n| if let Event::CallEnded { cdr } = n { Some(&**cdr) } else { None })
            .collect()
    }

    /// After every timer has run out nothing is left: no call, transaction, timer, dialog, end.
    pub(crate) fn expect_idle(&mut self) {
        self.quiet = true;
        self.advance(Duration::from_secs(200));
        let gauges: Gauges = self.gateway.gauges();
        assert!(gauges.is_idle(), "{gauges:?} {:?}\n{}", self.gateway.snapshot(), self.ladder);
        assert!(self.ends.is_empty(), "media ends left: {:?}\n{}", self.ends, self.ladder);
        for text in readable::read_of(self) {
            assert_eq!(plain::type_name(&text), None, "in what people read: {text}");
        }
    }
}
