//! What is done for one looks at nobody else: the work for a call, a browser and a lost connection
//! is the same among n and ten n calls, users and trunks.

#![cfg(test)]

use super::*;
use crate::config::check::parse_embedded;
use crate::ids::LOOKED_AT;
use crate::sip::digest;
use crate::sip::parse::Framing;
use crate::sip::status::Method;
use crate::worker::WorkerCommand;

struct World {
    gateway: Gateway,
    now: Instant,
    n: usize,
}

impl World {
    /// `n` trunks of which one has `n` calls, and `n` users who are bound.
    fn with(n: usize) -> World {
        let users: String = (0..=n)
            .map(|n| format!("[user.u{n}]\npassword = \"p{n}\"\ndid = \"+1206{n:07}\"\n"))
            .collect();
        let trunks: String = (0..n)
            .map(|n| {
                format!(
                    "[trunk.r{n}]\nuri = \"sip:127.2.{}.{}\"\nprobe = \"1h\"\n",
                    n >> 8,
                    n & 255
                )
            })
            .collect();
        let config = format!(
            "[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n[sip]\nudp = \":5060\"\n\
             [limits]\nnew_calls_per_second = 100000\ncalls = 5000\n\
             [trunk.t]\nuri = \"sip:127.0.0.10\"\ncontext = \"in\"\n{users}{trunks}"
        );
        let plan = "[[route]]\nname = \"e\"\nmatch = \".\"\ndo = [{ echo = true }]\n";
        let (config, _) =
            parse_embedded(&config, &[("in", plan)]).unwrap_or_else(|p| panic!("{p}"));
        let identity = NodeIdentity {
            // Enough for calls that begin all at once.
            workers: 64,
            ..NodeIdentity::without_a_host()
        };
        let now = Instant::now();
        let gateway = Gateway::new(now, Arc::new(config), identity, [3; 32]);
        let mut world = World { gateway, now, n: 0 };
        (0..n).for_each(|n| world.log_in(n));
        (0..n).for_each(|_| drop(world.begin_call()));
        // What was sent is answered by nobody, and forgotten.
        for _ in 0..80 {
            world.now += Duration::from_secs(1);
            world.handle(Input::Tick);
        }
        let gauges = world.gateway.gauges();
        assert_eq!((gauges.calls, gauges.bindings, gauges.transactions), (n, n, 0));
        world
    }

    fn handle(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.gateway.handle(self.now, input, &mut out);
        let answers: Vec<(u64, Notice)> = out
            .iter()
            .filter_map(|output| match output {
                Output::Media { command: WorkerCommand::Open { session, end, .. }, .. } => {
                    let address = SocketAddr::from(([0, 0, 0, 0], 20_000));
                    Some((*session, Notice::Opened { end: *end, address, tcp: false }))
                }
                Output::Media { command: WorkerCommand::Close { session }, .. } => {
                    Some((*session, Notice::Closed { statistics: Vec::new() }))
                }
                _ => None,
            })
            .collect();
        for (session, notice) in answers {
            out.extend(self.handle(Input::Media { session, notice }));
        }
        let _ = (self.gateway.next_timeout(), self.gateway.gauges());
        out
    }

    fn says(&mut self, hop: Hop, remote: [u8; 4], text: String) -> Vec<Output> {
        let framing = if hop.is_udp() { Framing::Datagram } else { Framing::WebSocket };
        let message = Message::parse(text.into_bytes(), framing).expect("sound");
        self.handle(Input::Received { hop, remote: SocketAddr::from((remote, 5060)), message })
    }

    fn trunk_says(&mut self, method: &str, tag: &str, body: &str) -> Vec<Output> {
        let (n, hop) = (self.n, Hop::Udp(SocketAddr::from(([127, 0, 0, 10], 5060))));
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let cseq = if method == "BYE" { 2 } else { 1 };
        let text = format!(
            "{method} sip:1@x SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.10;branch=z9hG4bK{n}{method}\r\n\
             From: <sip:a@b>;tag={n}\r\nTo: <sip:1@x>{tag}\r\nCall-ID: {n}@growth\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:a@127.0.0.10>\r\n{kind}Content-Length: {}\r\n\
             \r\n{body}",
            body.len()
        );
        self.says(hop, [127, 0, 0, 10], text)
    }

    fn begin_call(&mut self) -> String {
        self.n += 1;
        let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.10\r\ns=-\r\nc=IN IP4 127.0.0.10\r\nt=0 \
            0\r\nm=audio 4000 RTP/AVP 0\r\n";
        let out = self.trunk_says("INVITE", "", sdp);
        let ok = said(&out, "SIP/2.0 200").expect("a 200");
        let tag = ok.to().and_then(|t| t.tag().map(str::to_owned)).expect("a tag");
        let tag = format!(";tag={tag}");
        self.trunk_says("ACK", &tag, "");
        tag
    }

    fn register(&mut self, n: usize, cseq: u32, authorization: &str) -> Vec<Output> {
        let text = format!(
            "REGISTER sip:x SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bKr{n}-{cseq}\r\n\
             From: <sip:u{n}@x>;tag=f\r\nTo: <sip:u{n}@x>\r\nCall-ID: r{n}\r\n\
             CSeq: {cseq} REGISTER\r\nSupported: path, gruu, outbound\r\nExpires: 3600\r\n\
             Contact: <sip:u{n}@a.invalid;transport=ws>;+sip.instance=\"<urn:uuid:{n}>\";reg-id=1\r\n\
             {authorization}Content-Length: 0\r\n\r\n"
        );
        self.says(Hop::Flow(Flow(n as u64 + 1)), [127, 0, 0, 20], text)
    }

    fn log_in(&mut self, n: usize) {
        let (flow, kind) = (Flow(n as u64 + 1), FlowKind::WebSocket);
        let remote = SocketAddr::from(([127, 0, 0, 20], 5060));
        self.handle(Input::FlowOpened { flow, kind, remote });
        let out = self.register(n, 1, "");
        let challenge = said(&out, "SIP/2.0 401").expect("a challenge");
        let (user, password) = (format!("u{n}"), format!("p{n}"));
        let (_, value) =
            digest::answer(&challenge, &user, &password, "sip:x", Method::Register, "c")
                .expect("a challenge that can be answered");
        let out = self.register(n, 2, &format!("Authorization: {value}\r\n"));
        assert!(said(&out, "SIP/2.0 200").is_some(), "u{n} is registered");
    }

    /// Entries of tables looked at by `work`.
    fn looks(&mut self, work: impl FnOnce(&mut World)) -> usize {
        let before = LOOKED_AT.get();
        work(self);
        LOOKED_AT.get() - before
    }
}

fn said(out: &[Output], start: &str) -> Option<Message> {
    out.iter().rev().find_map(|output| match output {
        Output::Send(sent) if sent.bytes.starts_with(start.as_bytes()) => {
            Message::parse(sent.bytes.to_vec(), Framing::WebSocket).ok()
        }
        _ => None,
    })
}

#[test]
fn the_work_for_one_is_the_same_among_ten_times_as_many() {
    let work = |n: usize| {
        let mut world = World::with(n);
        let call = world.looks(|world| {
            let tag = world.begin_call();
            world.trunk_says("BYE", &tag, "");
        });
        let browser = world.looks(|world| world.log_in(n));
        let lost = world.looks(|world| drop(world.handle(Input::FlowClosed { flow: Flow(1) })));
        let hop = Hop::Udp(SocketAddr::from(([127, 2, 0, 3], 5060)));
        let (code, why) = (Code::FINE, "refused".to_owned());
        let unreachable =
            world.looks(|world| drop(world.handle(Input::Unreachable { hop, code, why })));
        [call, browser, lost, unreachable]
    };
    let (few, many) = (work(20), work(200));
    assert_eq!(few, many, "entries looked at: a call, a browser, a lost connection, a dead hop");
    assert!(few.iter().sum::<usize>() > 0, "it is counted");
}

#[test]
fn what_a_call_and_a_user_are_found_by_is_forgotten_with_them() {
    let mut world = World::with(20);
    assert_eq!(world.gateway.calls.with_user("u0").count(), 0);
    assert_eq!(world.gateway.calls.of_trunk("t").len(), 20);
    world.handle(Input::HangUpAll);
    for flow in 1..=20 {
        world.handle(Input::FlowClosed { flow: Flow(flow) });
    }
    for _ in 0..80 {
        world.now += Duration::from_secs(1);
        world.handle(Input::Tick);
    }
    let gauges = world.gateway.gauges();
    assert!(gauges.is_idle() && gauges.bindings == 0, "{gauges:?}");
    assert_eq!(world.gateway.services.registrar.users_after(None).count(), 0);
}
