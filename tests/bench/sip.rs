//! Reading the JsSIP REGISTER, beside rsip; and what the flight recorder costs a call. Each pair in
//! one run.

#![allow(missing_docs, reason = "what criterion makes")]

mod trunk;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use webtrunk::call::Output;
use webtrunk::call::context::NodeIdentity;
use webtrunk::config::check::parse_embedded;
use webtrunk::gateway::{Gateway, Input};
use webtrunk::sip::Message;
use webtrunk::sip::parse::{Framing, Index};
use webtrunk::sip::transaction::Hop;
use webtrunk::worker::{Notice, WorkerCommand};

const REGISTER: &[u8] = include_bytes!("../corpus/jssip-asterisk/003_c2s_REGISTER.sip");

fn sip(c: &mut Criterion) {
    let mut group = c.benchmark_group("JsSIP REGISTER");
    group.throughput(Throughput::Elements(1));
    let mut buf = REGISTER.to_vec();
    group.bench_function("webtrunk: head, no allocation", |b| {
        b.iter(|| Index::parse(black_box(&mut buf)).map(|i| i.fields().len()))
    });
    group.bench_function("webtrunk: message, checked, every value typed", |b| {
        b.iter(|| {
            let message =
                Message::parse(black_box(REGISTER).to_vec(), Framing::WebSocket).expect("sound");
            message.check().map(|()| message.contact().is_some())
        })
    });
    group.bench_function("rsip: message, values not yet typed", |b| {
        b.iter(|| rsip::SipMessage::try_from(black_box(REGISTER).to_vec()).is_ok())
    });
    group.finish();
}

/// One call of a trunk to a built-in echo, message by message, through the whole core in virtual
/// time.
struct Calls {
    gateway: Gateway,
    now: Instant,
    n: u64,
    out: Vec<Output>,
}

impl Calls {
    fn new(recorder: &str) -> Calls {
        let config = format!(
            "[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n[sip]\nudp = \":5060\"\n[limits]\nnew_calls_per_second = 100000\ncalls = 4000\n{recorder}\n\
             [trunk.t]\nuri = \"sip:127.0.0.10\"\ncontext = \"in\"\n"
        );
        let plan = "[[route]]\nname = \"e\"\nmatch = \".\"\ndo = [{ echo = true }]\n";
        let (config, _) =
            parse_embedded(&config, &[("in", plan)]).unwrap_or_else(|p| panic!("{p}"));
        let identity = NodeIdentity::without_a_host();
        let now = Instant::now();
        Calls {
            gateway: Gateway::new(now, Arc::new(config), identity, [3; 32]),
            now,
            n: 0,
            out: Vec::new(),
        }
    }

    fn says(&mut self, method: &str, tag: &str, cseq: u32, body: &str) {
        let (n, remote) = (self.n, SocketAddr::from(([127, 0, 0, 10], 5060)));
        let message = trunk::request(n, method, tag, cseq, body);
        self.handle(Input::Received { hop: Hop::Udp(remote), remote, message });
    }

    fn handle(&mut self, input: Input) {
        let from = self.out.len();
        self.gateway.handle(self.now, input, &mut self.out);
        let answers: Vec<(u64, Notice)> = self.out[from..]
            .iter()
            .filter_map(|o| match o {
                Output::Media { command: WorkerCommand::Open { session, end, .. }, .. } => Some((
                    *session,
                    Notice::Opened {
                        end: *end,
                        address: SocketAddr::from(([0, 0, 0, 0], 20_000)),
                        tcp: false,
                    },
                )),
                Output::Media { command: WorkerCommand::Close { session }, .. } => {
                    Some((*session, Notice::Closed { statistics: Vec::new() }))
                }
                _ => None,
            })
            .collect();
        answers
            .into_iter()
            .for_each(|(session, notice)| self.handle(Input::Media { session, notice }));
    }

    fn call(&mut self) {
        self.n += 1;
        self.now += Duration::from_millis(20);
        self.out.clear();
        self.says("INVITE", "", 1, "v=0\r\no=- 1 1 IN IP4 127.0.0.10\r\ns=-\r\nc=IN IP4 127.0.0.10\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n");
        let tag = self
            .out
            .iter()
            .rev()
            .find_map(|o| match o {
                Output::Send(t) => {
                    let text = std::str::from_utf8(&t.bytes).ok()?;
                    let to = text.lines().find(|l| l.starts_with("To:"))?;
                    text.starts_with("SIP/2.0 200")
                        .then(|| format!(";tag={}", to.split(";tag=").nth(1).unwrap_or_default()))
                }
                _ => None,
            })
            .expect("a 200");
        self.says("ACK", &tag, 1, "");
        self.says("BYE", &tag, 2, "");
    }
}

/// What the flight recorder costs: a whole call through the core with it, and with it switched off.
fn recorder(c: &mut Criterion) {
    let mut group = c.benchmark_group("a call through the core");
    for (name, settings) in [("with the flight recorder", ""), ("without", "[recorder]\ncalls = 0")]
    {
        let mut calls = Calls::new(settings);
        group.bench_function(name, |b| b.iter(|| calls.call()));
    }
    group.finish();
}

criterion_group!(benches, sip, recorder);
criterion_main!(benches);
