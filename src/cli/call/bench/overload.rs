//! `webtrunk bench --overload`: what a gateway does when ten times of what it can do is asked of
//! it.
//!
//! A trunk calls a gateway of its own over UDP, and hangs up once it is answered. First more and
//! more often, until calls are refused: that is the capacity. Then ten times as often. What counts
//! is how many calls a second are answered and ended properly, and how long their messages take.

use super::{Served, free_port};
use crate::cli::print;
use anyhow::anyhow;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Each load runs for this long, and its first part does not count.
const RUN: Duration = Duration::from_secs(6);
const SETTLE: Duration = Duration::from_secs(2);
/// Nothing came: it is sent again (RFC 3261 T1), so many times.
const AGAIN: Duration = Duration::from_millis(500);
const TRIES: u8 = 6;
/// The first load, new calls a second; each further one is a half more.
const FIRST: f64 = 100.0;
const TIMES: f64 = 10.0;
/// Goodput under ten times the capacity that is asked for, of the capacity.
const WANTED: f64 = 0.95;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    Answer,
    Bye,
}

/// An active call.
struct Open {
    began: Instant,
    asked: Instant,
    waits: Waits,
    tries: u8,
    /// What was sent last.
    sent: String,
}

#[derive(Default)]
struct LoadCounts {
    offered: f64,
    begun: usize,
    ended: usize,
    refused: usize,
    lost: usize,
    setup: Vec<Duration>,
    bye: Vec<Duration>,
}

impl LoadCounts {
    fn seconds() -> f64 {
        (RUN - SETTLE).as_secs_f64()
    }

    fn goodput(&self) -> f64 {
        self.ended as f64 / LoadCounts::seconds()
    }

    fn p99(times: &[Duration]) -> f64 {
        let at = (times.len() * 99 / 100).min(times.len().saturating_sub(1));
        times.get(at).map_or(0.0, |t| t.as_secs_f64() * 1e3)
    }

    fn json(&self) -> Value {
        json!({
            "offered_per_s": self.offered, "goodput_per_s": self.goodput(),
            "begun": self.begun, "refused": self.refused, "lost": self.lost,
            "setup_ms_p99": LoadCounts::p99(&self.setup), "bye_ms_p99": LoadCounts::p99(&self.bye),
        })
    }

    fn line(&self) -> String {
        format!(
            "{:>9.0}  {:>9.1}  {:>8}  {:>6}  {:>11.1}  {:>9.1}",
            self.offered,
            self.goodput(),
            self.refused,
            self.lost,
            LoadCounts::p99(&self.setup),
            LoadCounts::p99(&self.bye)
        )
    }
}

/// The caller.
struct LoadTrunk {
    socket: UdpSocket,
    to: SocketAddr,
    own: SocketAddr,
    next: u64,
    open: HashMap<u64, Open>,
    /// When to look whether an answer has come.
    due: VecDeque<(Instant, u64, Waits)>,
}

/// The value of the first header line of this name.
fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
}

impl LoadTrunk {
    fn new(to: SocketAddr) -> io::Result<LoadTrunk> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20);
        socket.set_nonblocking(true)?;
        let own = socket.local_addr()?;
        Ok(LoadTrunk { socket, to, own, next: 0, open: HashMap::new(), due: VecDeque::new() })
    }

    fn send(&self, text: &str) {
        // What the kernel has no room for is lost, as in a network.
        let _ = self.socket.send_to(text.as_bytes(), self.to);
    }

    fn head(&self, method: &str, uri: &str, n: u64, to: &str) -> String {
        let own = self.own;
        let cseq = if method == "BYE" { 2 } else { 1 };
        let branch = if method == "INVITE" { n } else { n + (1 << 40) };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{branch}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:bench@{own}>;tag={n}\r\nTo: {to}\r\n\
             Call-ID: {n}\r\nCSeq: {cseq} {method}\r\n"
        )
    }

    fn invite(&mut self, now: Instant) {
        self.next += 1;
        let (n, own) = (self.next, self.own);
        let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                   m=audio 6000 RTP/AVP 0\r\n";
        let uri = format!("sip:9196@{}", self.to);
        let mut text = self.head("INVITE", &uri, n, &format!("<{uri}>"));
        let _ = write!(
            text,
            "Contact: <sip:bench@{own}>\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        self.send(&text);
        let open = Open { began: now, asked: now, waits: Waits::Answer, tries: 1, sent: text };
        self.open.insert(n, open);
        self.due.push_back((now + AGAIN, n, Waits::Answer));
    }

    /// Takes a message of the gateway; `counts`: whether what it ends is to be counted.
    fn hear(
        &mut self,
        now: Instant,
        text: &str,
        load: &mut LoadCounts,
        counts: impl Fn(Instant) -> bool,
    ) {
        let Some(n) = header(text, "Call-ID").and_then(|v| v.trim().parse::<u64>().ok()) else {
            return;
        };
        let status = text.get(8..11).and_then(|s| s.parse::<u16>().ok()).unwrap_or(0);
        let Some(to) = header(text, "To").map(str::to_owned) else { return };
        let of_bye = header(text, "CSeq").is_some_and(|v| v.ends_with("BYE"));
        let Some(open) = self.open.get_mut(&n) else { return };
        match (open.waits, status) {
            (_, ..200) => {}
            (Waits::Answer, 200..300) if !of_bye => {
                let target = header(text, "Contact").unwrap_or_default();
                let target = target.trim_matches(['<', '>']).to_owned();
                if counts(open.began) {
                    load.setup.push(now - open.began);
                }
                let ack = self.head("ACK", &target, n, &to) + "Content-Length: 0\r\n\r\n";
                let bye = self.head("BYE", &target, n, &to) + "Content-Length: 0\r\n\r\n";
                self.send(&ack);
                self.send(&bye);
                if let Some(open) = self.open.get_mut(&n) {
                    (open.waits, open.tries, open.asked, open.sent) = (Waits::Bye, 1, now, bye);
                }
                self.due.push_back((now + AGAIN, n, Waits::Bye));
            }
            (Waits::Answer, _) => {
                let uri = format!("sip:9196@{}", self.to);
                let ack = self.head("ACK", &uri, n, &to).replacen(
                    &format!("z9hG4bK{}", n + (1 << 40)),
                    &format!("z9hG4bK{n}"),
                    1,
                );
                self.send(&(ack + "Content-Length: 0\r\n\r\n"));
                load.refused += usize::from(counts(now));
                self.open.remove(&n);
            }
            (Waits::Bye, _) if of_bye => {
                if counts(now) {
                    load.ended += 1;
                    load.bye.push(now - open.asked);
                }
                self.open.remove(&n);
            }
            (Waits::Bye, _) => {}
        }
    }

    fn repeat(&mut self, now: Instant, load: &mut LoadCounts) {
        while self.due.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, n, waits)) = self.due.pop_front() else { break };
            let Some(open) = self.open.get_mut(&n).filter(|open| open.waits == waits) else {
                continue;
            };
            if open.tries == TRIES {
                load.lost += 1;
                self.open.remove(&n);
                continue;
            }
            open.tries += 1;
            let sent = std::mem::take(&mut open.sent);
            self.send(&sent);
            if let Some(open) = self.open.get_mut(&n) {
                open.sent = sent;
            }
            self.due.push_back((now + AGAIN, n, waits));
        }
    }

    /// `offered` new calls a second.
    fn run(&mut self, offered: f64) -> LoadCounts {
        let mut load = LoadCounts { offered, ..LoadCounts::default() };
        let (start, between) = (Instant::now(), Duration::from_secs_f64(1.0 / offered));
        let counts = |at: Instant| at >= start + SETTLE && at < start + RUN;
        let (mut next, mut buffer) = (start, [0; 8_192]);
        loop {
            let now = Instant::now();
            if now >= start + RUN {
                break;
            }
            // Some at a time, so that answers are read in between.
            for _ in 0..32 {
                if next > now {
                    break;
                }
                next += between;
                load.begun += usize::from(counts(now));
                self.invite(now);
            }
            let mut heard = 0;
            while let Ok(n) = self.socket.recv(&mut buffer) {
                if let Ok(text) = std::str::from_utf8(&buffer[..n]) {
                    self.hear(Instant::now(), text, &mut load, counts);
                }
                heard += 1;
                if heard == 64 {
                    break;
                }
            }
            self.repeat(now, &mut load);
            if heard == 0 {
                let wait = next.saturating_duration_since(Instant::now());
                std::thread::sleep(wait.min(Duration::from_micros(500)));
            }
        }
        load.setup.sort_unstable();
        load.bye.sort_unstable();
        load
    }
}

async fn gateway() -> anyhow::Result<(Served, SocketAddr)> {
    let (web, sip) = (free_port()?, free_port()?);
    let config = format!(
        "[server]\ndomain = \"bench.invalid\"\npublic_ip = \"127.0.0.1\"\n[web]\n\
         listen = \"127.0.0.1:{web}\"\n[sip]\nudp = \"127.0.0.1:{sip}\"\n[media]\n\
         browser_port = 0\nports = \"10000-32767\"\n[limits]\ncalls = 20000\n\
         new_calls_per_second = 100000\n[api]\ncontrol = \"control.sock\"\n[trunk.near]\n\
         uri = \"sip:127.0.0.1\"\nallow = [\"127.0.0.1\"]\ncontext = \"in\"\n"
    );
    let plan = "[[route]]\nname = \"Echo\"\nmatch = \".\"\ndo = [{ echo = true }]\n";
    let served = Served::start("gateway", &config, plan).await?;
    Ok((served, SocketAddr::from(([127, 0, 0, 1], sip))))
}

/// Finds the capacity, and asks for ten times that.
///
/// # Errors
/// The gateway cannot be started or reached.
pub(super) async fn overload(output: print::OutputFormat) -> anyhow::Result<ExitCode> {
    let table = output == print::OutputFormat::Table;
    let (_gateway, at) = gateway().await?;
    let mut trunk = LoadTrunk::new(at)?;
    if table {
        print::line("offered/s  goodput/s   refused    lost  setup p99 ms  BYE p99 ms");
    }
    let (mut loads, mut offered) = (Vec::<LoadCounts>::new(), FIRST);
    let capacity = loop {
        let load = trunk.run(offered);
        if table {
            print::line(&load.line());
        }
        let enough = load.refused * 20 > load.begun || load.goodput() < 0.8 * offered;
        loads.push(load);
        let most = loads.iter().map(LoadCounts::goodput).fold(0.0, f64::max);
        if enough || offered > 50_000.0 {
            break most;
        }
        offered *= 1.5;
    };
    if capacity < 1.0 {
        return Err(anyhow!("no call was answered and ended within {} s", RUN.as_secs()));
    }
    let flood = trunk.run(TIMES * capacity);
    let calm = trunk.run(capacity / 2.0);
    let ratio = flood.goodput() / capacity;
    if table {
        print::line(&flood.line());
        print::line(&calm.line());
        print::line(&format!(
            "\ncapacity {capacity:.0} calls/s; at ten times that {:.0}, which is {ratio:.2} of it",
            flood.goodput()
        ));
    } else {
        let steps: Vec<Value> = loads.iter().map(LoadCounts::json).collect();
        print::object(&json!({
            "steps": steps, "capacity_per_s": capacity, "flood": flood.json(),
            "afterwards": calm.json(), "ratio": ratio,
        }));
    }
    Ok(if ratio >= WANTED { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
