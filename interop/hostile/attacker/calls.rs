//! A trunk that calls at a rate, whatever comes of it, and talks.

use crate::far::grow;
use crate::{spread, texts};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

#[derive(clap::Args, Clone)]
pub(crate) struct Calls {
    /// Where this trunk is; its media is ten ports above
    #[arg(long)]
    pub(crate) at: SocketAddr,
    /// The gateway's SIP
    #[arg(long)]
    pub(crate) gateway: SocketAddr,
    /// The number that is called
    #[arg(long, default_value = "7000")]
    pub(crate) number: String,
    /// New calls a second
    #[arg(long, default_value_t = 0.0)]
    pub(crate) rate: f64,
    /// Calls before all others, which last as long as this does
    #[arg(long, default_value_t = 0)]
    pub(crate) steady: u32,
    /// How long calls are made, s
    #[arg(long)]
    pub(crate) seconds: f64,
    /// How long each talks, s
    #[arg(long, default_value_t = 1.0)]
    pub(crate) hold: f64,
    /// Only signalling
    #[arg(long)]
    pub(crate) silent: bool,
}

/// When a request is sent again, and when it is given up.
const AGAIN: [u64; 4] = [500, 1_500, 3_500, 8_000];
/// Between two calls that stay: a gateway that has yet to learn what calls cost takes 187 in its
/// first second.
const STEADY_PACE: Duration = Duration::from_millis(10);
const FRAME: Duration = Duration::from_millis(20);
/// The four phases of 20 ms that calls talk in.
const PHASES: u32 = 4;
const MAGIC: [u8; 4] = *b"wtHT";
/// The first of what a call is told by in a payload, after the header.
const MARK: usize = 12;

struct Call {
    steady: bool,
    began: Instant,
    /// When the request that waits was sent first, and how often again.
    asked: Instant,
    again: usize,
    stage: Stage,
    /// The To of the answer, with its tag, and its Contact.
    dialog: (String, String),
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Inviting,
    Talking,
    Leaving,
}

#[derive(Default)]
struct Found {
    offered: u64,
    answered: u64,
    unanswered: u64,
    cut: u64,
    byes: u64,
    lost_byes: u64,
    setup: Vec<Duration>,
    refused: BTreeMap<u16, u64>,
    refusals: Vec<Duration>,
}

/// What the media of the calls in progress is.
#[derive(Default)]
struct Talk {
    /// The gateway's address of each call that talks.
    calls: Mutex<BTreeMap<u32, SocketAddr>>,
    heard: Mutex<Heard>,
    over: AtomicBool,
}

#[derive(Default)]
struct Heard {
    sent: u64,
    strange: u64,
    delays: Vec<Duration>,
    gap: Duration,
    /// When each call that talks was heard last.
    last: HashMap<u32, Instant>,
    /// When the others ended.
    over: HashMap<u32, Instant>,
}

impl Heard {
    /// Counts the silence from what was heard last of a call to its end.
    fn settle(&mut self) {
        for (call, over) in &self.over {
            if let Some(last) = self.last.get(call) {
                self.gap = self.gap.max(over.saturating_duration_since(*last));
            }
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Calls {
    pub(crate) fn run(&self) -> anyhow::Result<Value> {
        let talk = Arc::new(Talk::default());
        let media = SocketAddr::new(self.at.ip(), self.at.port() + 10);
        let socket = UdpSocket::bind(media)?;
        grow(&socket);
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let epoch = Instant::now();
        let threads = [
            thread::spawn({
                let (talk, socket) = (talk.clone(), socket.try_clone()?);
                move || speak(&talk, &socket, epoch)
            }),
            thread::spawn({
                let talk = talk.clone();
                move || listen(&talk, &socket, epoch)
            }),
        ];
        let mut caller = Caller::new(self, &talk, media)?;
        caller.run()?;
        talk.over.store(true, Relaxed);
        for thread in threads {
            let _ = thread.join();
        }
        let mut heard = std::mem::take(&mut *lock(&talk.heard));
        heard.settle();
        let found = caller.found;
        let came = heard.delays.len() as u64;
        Ok(json!({
            "offered": found.offered, "answered": found.answered,
            "unanswered": found.unanswered, "cut": found.cut,
            "byes": found.byes, "lost_byes": found.lost_byes,
            "setup": spread(found.setup),
            "refused": found.refused, "refusal": spread(found.refusals),
            "sent": heard.sent, "lost": heard.sent.saturating_sub(came), "strange": heard.strange,
            "loss": heard.sent.saturating_sub(came) as f64 / heard.sent.max(1) as f64,
            "gap": crate::ms(heard.gap), "delay": spread(heard.delays),
        }))
    }
}

/// Sends the packets of every call each 20 ms, a quarter of the calls each 5 ms.
fn speak(talk: &Talk, socket: &UdpSocket, epoch: Instant) {
    let mut packet = [0xd5; 172];
    let mut turn = 0_u32;
    while !talk.over.load(Relaxed) {
        let due = epoch + turn * FRAME / PHASES;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let calls = lock(&talk.calls);
        let mut sent = 0;
        for (call, to) in calls.iter().filter(|(call, _)| *call % PHASES == turn % PHASES) {
            let frame = turn / PHASES;
            packet[..2].copy_from_slice(&[0x80, 0]);
            packet[2..4].copy_from_slice(&(frame as u16).to_be_bytes());
            packet[4..8].copy_from_slice(&(frame * 160).to_be_bytes());
            packet[8..12].copy_from_slice(&call.to_be_bytes());
            packet[MARK..16].copy_from_slice(&MAGIC);
            packet[16..20].copy_from_slice(&call.to_be_bytes());
            let now = epoch.elapsed().as_nanos() as u64;
            packet[20..28].copy_from_slice(&now.to_be_bytes());
            sent += u64::from(socket.send_to(&packet, to).is_ok());
        }
        drop(calls);
        lock(&talk.heard).sent += sent;
        turn += 1;
    }
}

/// Takes the echoes.
fn listen(talk: &Talk, socket: &UdpSocket, epoch: Instant) {
    let mut buf = [0; 2_048];
    while !talk.over.load(Relaxed) {
        let Ok((n, _)) = socket.recv_from(&mut buf) else { continue };
        let now = Instant::now();
        let mut heard = lock(&talk.heard);
        // RTCP comes to the same port where no other was named.
        if n == 172 && buf[MARK..16] == MAGIC {
            let number = |at: usize, n: usize| {
                buf[at..at + n].iter().fold(0, |sum: u64, b| sum << 8 | u64::from(*b))
            };
            heard.delays.push(now.duration_since(epoch + Duration::from_nanos(number(20, 8))));
            if let Some(last) = heard.last.insert(number(16, 4) as u32, now) {
                heard.gap = heard.gap.max(now.duration_since(last));
            }
        } else if !(192..224).contains(&buf[1]) {
            heard.strange += 1;
        }
    }
}

struct Caller<'a> {
    args: &'a Calls,
    talk: &'a Talk,
    media: SocketAddr,
    socket: UdpSocket,
    calls: HashMap<u32, Call>,
    timers: BinaryHeap<Reverse<(Instant, u32)>>,
    found: Found,
    /// What tells the calls of this run from those of another.
    run: u32,
}

impl<'a> Caller<'a> {
    fn new(args: &'a Calls, talk: &'a Talk, media: SocketAddr) -> anyhow::Result<Caller<'a>> {
        let socket = UdpSocket::bind(args.at)?;
        grow(&socket);
        socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        Ok(Caller {
            args,
            talk,
            media,
            socket,
            calls: HashMap::new(),
            timers: BinaryHeap::new(),
            found: Found::default(),
            run: std::process::id(),
        })
    }

    fn run(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let end = began + Duration::from_secs_f64(self.args.seconds);
        let mut next = 0;
        for n in 1..=self.args.steady {
            self.invite(next, true);
            next += 1;
            // As fast as any machine sets them up: it is not their number that is tried here.
            while began.elapsed() < STEADY_PACE * n {
                self.work()?;
            }
        }
        let paced = next;
        while Instant::now() < end {
            let due = began.elapsed().as_secs_f64() * self.args.rate;
            while f64::from(next - paced) < due {
                self.invite(next, false);
                next += 1;
            }
            self.work()?;
        }
        // The echoes of the last packets come, then everybody leaves.
        let talking: Vec<u32> = self.calls.keys().copied().collect();
        let over = Instant::now();
        for call in std::mem::take(&mut *lock(&self.talk.calls)).into_keys() {
            lock(&self.talk.heard).over.insert(call, over);
        }
        thread::sleep(Duration::from_millis(300));
        for call in talking {
            if self.calls.get(&call).is_some_and(|c| c.stage == Stage::Talking) {
                self.leave(call);
            }
        }
        let patience = Instant::now() + Duration::from_millis(AGAIN[3] + 500);
        while !self.calls.is_empty() && Instant::now() < patience {
            self.work()?;
        }
        Ok(())
    }

    /// Reads what came, and does what is due.
    fn work(&mut self) -> anyhow::Result<()> {
        let mut buf = [0; 65_536];
        for _ in 0..64 {
            let Ok((n, _)) = self.socket.recv_from(&mut buf) else { break };
            if let Ok(text) = std::str::from_utf8(&buf[..n]) {
                self.read(text);
            }
        }
        while let Some(Reverse((due, call))) = self.timers.peek().copied() {
            if due > Instant::now() {
                break;
            }
            self.timers.pop();
            self.due(call);
        }
        Ok(())
    }

    fn request(&self, method: &str, call: u32, extra: &str, body: &str) -> String {
        let (at, number, run) = (self.args.at, &self.args.number, self.run);
        let known = self.calls.get(&call).map(|c| c.dialog.clone()).unwrap_or_default();
        let (to, target) = known;
        let uri = format!("sip:{number}@{}", self.args.gateway.ip());
        let to = if to.is_empty() { format!("<{uri}>") } else { to };
        let target = if target.is_empty() { uri } else { target };
        let (cseq, branch) = match method {
            "BYE" => (2, "b"),
            "ACK" if !extra.is_empty() => (1, "i"),
            "ACK" => (1, "a"),
            _ => (1, "i"),
        };
        let length = body.len();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{branch}{run}-{call}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:caller@{at}>;tag={run}{call}\r\nTo: {to}\r\n\
             Call-ID: {call}-{run}@calls\r\nCSeq: {cseq} {method}\r\nContact: <sip:caller@{at}>\r\n\
             {kind}Content-Length: {length}\r\n\r\n{body}"
        )
    }

    fn put(&self, text: &str) {
        let _ = self.socket.send_to(text.as_bytes(), self.args.gateway);
    }

    fn invite(&mut self, id: u32, steady: bool) {
        let now = Instant::now();
        self.found.offered += 1;
        let call = Call {
            steady,
            began: now,
            asked: now,
            again: 0,
            stage: Stage::Inviting,
            dialog: Default::default(),
        };
        self.calls.insert(id, call);
        self.timers.push(Reverse((now + Duration::from_millis(AGAIN[0]), id)));
        self.put(&self.request("INVITE", id, "", &texts::pcmu(self.media)));
    }

    fn leave(&mut self, id: u32) {
        lock(&self.talk.calls).remove(&id);
        let now = Instant::now();
        let Some(call) = self.calls.get_mut(&id) else { return };
        (call.stage, call.asked, call.again) = (Stage::Leaving, now, 0);
        self.timers.push(Reverse((now + Duration::from_millis(AGAIN[0]), id)));
        self.put(&self.request("BYE", id, "", ""));
    }

    /// A call's timer: it has talked, or an answer is missing.
    fn due(&mut self, id: u32) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let stage = call.stage;
        if stage == Stage::Talking {
            if !call.steady {
                self.leave(id);
            }
            return;
        }
        if call.asked + Duration::from_millis(AGAIN[call.again]) > Instant::now() {
            return;
        }
        call.again += 1;
        let Some(after) = AGAIN.get(call.again) else {
            self.calls.remove(&id);
            match stage {
                Stage::Inviting => self.found.unanswered += 1,
                _ => self.found.lost_byes += 1,
            }
            return;
        };
        self.timers.push(Reverse((call.asked + Duration::from_millis(*after), id)));
        match stage {
            Stage::Inviting => {
                self.put(&self.request("INVITE", id, "", &texts::pcmu(self.media)));
            }
            _ => self.put(&self.request("BYE", id, "", "")),
        }
    }

    fn read(&mut self, text: &str) {
        let call = texts::header(text, "Call-ID").and_then(|c| c.split_once('-'));
        let Some(id) = call.and_then(|(id, run)| {
            run.starts_with(&format!("{}@", self.run)).then(|| id.parse::<u32>().ok())?
        }) else {
            return;
        };
        let Some(status) = texts::status(text) else {
            return self.asked(text, id);
        };
        match (texts::method(text), status) {
            ("INVITE", 200..=299) => self.answered(text, id),
            ("INVITE", 300..) => self.refused(text, id, status),
            ("BYE", 200..=299) => {
                self.found.byes += u64::from(self.calls.remove(&id).is_some());
            }
            _ => {}
        }
    }

    /// A request of the gateway's within a dialog.
    fn asked(&mut self, text: &str, id: u32) {
        if text.starts_with("ACK") {
            return;
        }
        self.put(&texts::ok(text, self.args.at, self.media));
        if text.starts_with("BYE") && self.calls.remove(&id).is_some() {
            lock(&self.talk.calls).remove(&id);
            self.found.cut += 1;
        }
    }

    fn answered(&mut self, text: &str, id: u32) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.stage == Stage::Inviting {
            let contact = texts::header(text, "Contact").unwrap_or_default();
            let target = contact.split(['<', '>']).nth(1).unwrap_or(contact);
            let to = texts::header(text, "To").unwrap_or_default();
            call.dialog = (to.to_owned(), target.to_owned());
            call.stage = Stage::Talking;
            self.found.answered += 1;
            self.found.setup.push(call.began.elapsed());
            let over = Instant::now() + Duration::from_secs_f64(self.args.hold);
            self.timers.push(Reverse((over, id)));
            if let Some(to) = texts::audio(text).filter(|_| !self.args.silent) {
                lock(&self.talk.calls).insert(id, to);
            }
        }
        self.put(&self.request("ACK", id, "", ""));
    }

    fn refused(&mut self, text: &str, id: u32, status: u16) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let to = texts::header(text, "To").unwrap_or_default();
        call.dialog = (to.to_owned(), String::new());
        let took = call.began.elapsed();
        self.put(&self.request("ACK", id, "refused", ""));
        self.calls.remove(&id);
        *self.found.refused.entry(status).or_default() += 1;
        self.found.refusals.push(took);
    }
}
