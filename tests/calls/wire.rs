//! Two gateways joined by a bad network: datagrams are lost, doubled and overtaken, and still every
//! call ends on both sides, and an answered one is answered on both.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use webtrunk::call::context::{NodeIdentity, Output};
use webtrunk::config::check::parse_embedded;
use webtrunk::event::Event;
use webtrunk::gateway::{Gateway, Input};
use webtrunk::sip::Message;
use webtrunk::sip::parse::Framing;
use webtrunk::sip::transaction::Hop;
use webtrunk::worker::{Notice, WorkerCommand};

/// `west` takes calls from a silent PBX at .1 and dials `east` at .3; `east` echoes, rings nobody,
/// or hangs up.
const WEST: &str = "[server]\ndomain = \"west\"\npublic_ip = \"127.0.0.2\"\n[sip]\nudp = \"127.0.0.2:5060\"\n[media]\nports = \"20000-29999\"\n[trunk.pbx]\nuri = \"sip:127.0.0.1\"\ncontext = \"in\"\n\
                    [trunk.east]\nuri = \"sip:127.0.0.3\"\nmedia = [\"127.0.0.0/8\"]\nsession_timer = \"90s\"\n100rel = \"required\"\n";
const EAST: &str = "[server]\ndomain = \"east\"\npublic_ip = \"127.0.0.3\"\n[sip]\nudp = \"127.0.0.3:5060\"\n[media]\nports = \"40000-49999\"\n[trunk.west]\nuri = \"sip:127.0.0.2\"\nmedia = [\"127.0.0.0/8\"]\ncontext = \"in\"\n";
const TO_EAST: &str = "[[route]]\nname = \"east\"\nmatch = \".\"\ntimeout = \"40s\"\nnext_on = [\"408\"]\ndo = [{ dial = [\"trunk:east\"] }]\n";
const AT_EAST: &str = "[[route]]\nname = \"early\"\nmatch = \"1\"\ndo = [{ play = \"builtin:chime\" }, { echo = true }]\n[[route]]\nname = \"echo\"\nmatch = \"2\"\ndo = [{ echo = true }]\n\
                       [[route]]\nname = \"no\"\nmatch = \"3\"\ndo = [{ hangup = 603 }]\n";
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

struct Node {
    gateway: Gateway,
    address: SocketAddr,
    notes: Vec<Event>,
    ends: usize,
    ports: u16,
}

/// What is on its way: when it arrives, its turn among those of one instant, who gets it, its
/// bytes.
type CallTrace = Reverse<(Instant, u64, usize, Vec<u8>)>;

struct Wire {
    now: Instant,
    nodes: [Node; 2],
    /// Due time, order, to which node, bytes.
    flying: BinaryHeap<CallTrace>,
    /// What reached the PBX.
    pbx: Vec<Message>,
    chance: u64,
    order: u64,
    loss: u64,
}

fn at(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 5060))
}

impl Wire {
    fn new(seed: u64, loss: u64) -> Wire {
        let now = Instant::now();
        let node = |config: &str, plan: &str, last: u8| {
            let (config, _) =
                parse_embedded(config, &[("in", plan)]).unwrap_or_else(|p| panic!("{p}"));
            let identity = NodeIdentity::without_a_host();
            let mut random = [last; 32];
            random[..8].copy_from_slice(&seed.to_le_bytes());
            Node {
                gateway: Gateway::new(now, Arc::new(config), identity, random),
                address: at(last),
                notes: Vec::new(),
                ends: 0,
                ports: u16::from(last - 1) * 20_000,
            }
        };
        let nodes = [node(WEST, TO_EAST, 2), node(EAST, AT_EAST, 3)];
        Wire {
            now,
            nodes,
            flying: BinaryHeap::new(),
            pbx: Vec::new(),
            chance: seed | 1,
            order: 0,
            loss,
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % limit
    }

    fn handle(&mut self, n: usize, input: Input) {
        let mut out = Vec::new();
        self.nodes[n].gateway.handle(self.now, input, &mut out);
        for output in out {
            match output {
                Output::Send(t) => self.send(n, t.hop, t.bytes.to_vec()),
                Output::Media { command, .. } => self.media(n, command),
                Output::Event(note) => self.nodes[n].notes.push(note),
                _ => {}
            }
        }
    }

    fn media(&mut self, n: usize, command: WorkerCommand) {
        let node = &mut self.nodes[n];
        let (session, notice) = match command {
            WorkerCommand::Open { session, end, .. } => {
                (node.ports, node.ends) = (node.ports + 2, node.ends + 1);
                (
                    session,
                    Notice::Opened {
                        end,
                        address: SocketAddr::from(([0, 0, 0, 0], node.ports)),
                        tcp: false,
                    },
                )
            }
            WorkerCommand::CloseEnd { session, end } => {
                (session, Notice::EndClosed { end, statistics: Default::default() })
            }
            WorkerCommand::Close { session } => {
                (session, Notice::Closed { statistics: Vec::new() })
            }
            WorkerCommand::Play { session, end, .. } => {
                (session, Notice::Media(webtrunk::media::session::SessionEvent::Played { end }))
            }
            _ => return,
        };
        self.handle(n, Input::Media { session, notice });
    }

    fn send(&mut self, from: usize, hop: Hop, bytes: Vec<u8>) {
        let to = hop.address().expect("UDP only");
        if to == at(1) {
            // The PBX's own line is good; it answers what it must.
            let message =
                Message::parse(bytes, Framing::Datagram).expect("what we send can be read");
            return self.pbx.push(message);
        }
        let copies =
            if self.below(100) < self.loss { 0 } else { 1 + u64::from(self.below(100) < 10) };
        for _ in 0..copies {
            let delay =
                Duration::from_millis(if self.below(100) < 20 { self.below(900) } else { 5 });
            self.order += 1;
            self.flying.push(Reverse((self.now + delay, self.order, 1 - from, bytes.clone())));
        }
    }

    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            let due: Vec<Option<Instant>> =
                self.nodes.iter_mut().map(|n| n.gateway.next_timeout()).collect();
            let arrival = self.flying.peek().map(|Reverse(f)| f.0);
            let Some(next) =
                due.iter().copied().flatten().chain(arrival).min().filter(|t| *t <= end)
            else {
                break;
            };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let Reverse((_, _, to, bytes)) = self.flying.pop().expect("peeked");
                let remote = self.nodes[1 - to].address;
                let message = Message::parse(bytes, Framing::Datagram)
                    .expect("what we send can be read")
                    .with_source(remote);
                self.handle(to, Input::Received { hop: Hop::Udp(remote), remote, message });
            } else {
                (0..2).for_each(|n| self.handle(n, Input::Tick));
            }
            self.play_pbx();
        }
        self.now = end;
    }

    /// The PBX acknowledges answers and refusals, and says 200 to a BYE.
    fn play_pbx(&mut self) {
        for message in std::mem::take(&mut self.pbx) {
            let head = |name| message.header(name).unwrap_or_default().to_owned();
            use webtrunk::sip::HeaderName::{CSeq, CallId, From, To, Via};
            let dialog = || {
                let (from, to, call_id) = (head(From), head(To), head(CallId));
                format!("From: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n")
            };
            if message.is_request() {
                if message.method_token() != "ACK" {
                    let (via, dialog, cseq) = (head(Via), dialog(), head(CSeq));
                    self.pbx_says(&format!(
                        "SIP/2.0 200 OK\r\nVia: {via}\r\n{dialog}CSeq: {cseq}\r\n\
                         Content-Length: 0\r\n\r\n"
                    ));
                }
            } else if message.status() >= 200 && head(CSeq).ends_with("INVITE") {
                let cseq = head(CSeq).replace("INVITE", "ACK");
                let via = if message.status() < 300 {
                    "SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKack".to_owned()
                } else {
                    head(Via)
                };
                let dialog = dialog();
                self.pbx_says(&format!(
                    "ACK sip:x@west SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\n{dialog}\
                     CSeq: {cseq}\r\nContent-Length: 0\r\n\r\n"
                ));
            }
        }
    }

    fn pbx_says(&mut self, text: &str) {
        let message =
            Message::parse(text.as_bytes().to_vec(), Framing::Datagram).expect("own text");
        let remote = at(1);
        self.handle(0, Input::Received { hop: Hop::Udp(remote), remote, message });
    }

    fn invite(&mut self, number: u64, name: u64) -> String {
        let text = format!(
            "INVITE sip:{number}@west SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK{name}\r\nMax-Forwards: 70\r\nFrom: <sip:p@pbx>;tag={name}\r\nTo: <sip:{number}@west>\r\n\
             Call-ID: {name}\r\nCSeq: 1 INVITE\r\nContact: <sip:p@127.0.0.1>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
            SDP.len()
        );
        self.pbx_says(&text);
        text
    }

    fn cancel(&mut self, invite: &str) {
        let head = invite
            .split("Contact")
            .next()
            .expect("a head")
            .replacen("INVITE", "CANCEL", 1)
            .replace("1 INVITE", "1 CANCEL");
        self.pbx_says(&format!("{head}Content-Length: 0\r\n\r\n"));
    }
}

fn live(seed: u64, loss: u64) -> (usize, usize) {
    let mut wire = Wire::new(seed, loss);
    for name in 0..6 {
        let number = 1 + wire.below(3);
        let text = wire.invite(number, name);
        let pause = wire.below(3_000);
        wire.advance(Duration::from_millis(pause));
        if wire.below(4) == 0 {
            wire.cancel(&text);
        }
    }
    // Long enough for sessions to be refreshed several times.
    wire.advance(Duration::from_secs(300));
    (0..2).for_each(|n| wire.handle(n, Input::HangUpAll));
    wire.advance(Duration::from_secs(300));
    for node in &wire.nodes {
        let gauges = node.gateway.gauges();
        assert!(gauges.is_idle(), "seed {seed}: {gauges:?} {:?}", node.gateway.snapshot());
        assert!(!node.notes.iter().any(|n| matches!(n, Event::CallPanicked { .. })), "seed {seed}");
    }
    let answered = |n: usize| {
        wire.nodes[n].notes.iter().filter(|n| matches!(n, Event::CallAnswered { .. })).count()
    };
    (answered(0), answered(1))
}

#[test]
fn without_loss_every_answer_is_an_answer_on_both_sides() {
    for seed in 1..40 {
        let (west, east) = live(seed, 0);
        assert!(west == east && west > 0, "seed {seed}: {west} {east}");
    }
}

#[test]
fn loss_doubling_and_overtaking_leave_nothing_behind() {
    let lives = std::env::var("WEBTRUNK_LIVES").ok().and_then(|n| n.parse().ok()).unwrap_or(300u64);
    let mut answered = 0;
    for seed in 1..=lives {
        answered += live(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), 10 + seed % 4 * 15).0;
    }
    assert!(answered as u64 > lives, "calls still succeed: {answered} of {}", lives * 6);
}
