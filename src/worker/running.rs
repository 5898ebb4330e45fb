//! The worker's thread: what waits on its sockets goes to the sessions, what is due is done, orders
//! are taken.

mod commands;
mod routes;
mod survival;
#[cfg(test)]
mod tests;

use super::heartbeat::{BEAT, CATCH_UP, Pulse, STALL, StallWatch};
use super::kept::{Kept, Orders};
use super::lateness::Lateness;
use super::load::{Load, LoadGauge, thread_time};
use super::ports::{Pair, PortRange};
use super::source_addresses::Sources;
use super::streams::{self, StreamTable};
use super::{Notice, WorkerMessage, WorkerParts};
use crate::datagrams::local::{KernelRoutes as LocalRoutes, LocalSource};
use crate::datagrams::{self, BATCH, Inbound};
use crate::errors::Code;
use crate::ids::IdMap;
use crate::log_limit::{self, Level, LineClass};
use crate::media::dtls::DtlsIdentity;
use crate::media::session::SessionEvent;
use crate::media::{LegId, Port, Session, Sink};
use crate::timers::Timers;
use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use routes::{OwnRoutes, RouteTable};
use slab::Slab;
use std::cmp::min;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Orders wait.
pub(super) const WAKE: Token = Token(usize::MAX - 1);
/// Browsers have sent something.
pub(super) const BROWSER: Token = Token(usize::MAX - 2);
/// A browser connects over TCP.
pub(super) const LISTENER: Token = Token(usize::MAX - 3);
/// Batches read from the browsers' socket before others have their turn.
const ROUNDS: usize = 8;
/// Turns of packets that are only relayed begin at most this often: waking up costs more than such
/// a packet, so from twenty calls on it is paid for several at once. With fewer calls turns are
/// further apart anyway.
const PACE: Duration = Duration::from_micros(500);
/// Work on one datagram below which it was only relayed; to transcode it takes several times as
/// long.
const LIGHT: Duration = Duration::from_micros(20);
/// Datagrams taken at once from a trunk end's socket: it has one every 20 ms, and now and then a
/// few.
const LINE_BATCH: usize = 4;
/// Batches read from a trunk end's socket before others have their turn: anybody may send to it.
const LINE_ROUNDS: usize = 16;

/// A trunk end's sockets and their tokens.
struct TrunkSockets {
    end: LegId,
    pair: Pair,
    tokens: [usize; 2],
    /// What it sends leaves by this address; `None`: the kernel's choice.
    source: Option<LocalSource>,
    local: Option<IpAddr>,
}

/// A session with all that leads to it.
struct LiveSession {
    session: Session,
    lines: Vec<TrunkSockets>,
    routes: OwnRoutes,
    /// Its snapshots are reported to its call.
    journalled: bool,
}

pub(super) struct Running {
    poll: Poll,
    /// Nothing once it was handed to the next thread.
    orders: Option<Orders>,
    /// One socket for all browsers.
    browsers: UdpSocket,
    /// The same port over TCP, if it is ours, and who came by it.
    listener: Option<TcpListener>,
    streams: StreamTable,
    /// Where browsers reached us at another address than we would answer from.
    sources: Sources,
    /// The peer being answered, and from which address.
    answering: Option<(SocketAddr, LocalSource)>,
    /// That one was sent something: what came from there was authentic.
    answered: bool,
    /// Our sockets serve both families: IPv4 addresses are given to them as mapped ones.
    ipv6: bool,
    /// Whose socket a token names.
    tokens: Slab<(u64, Port)>,
    /// Trunk ends' sockets with more to read than a turn takes.
    busy_lines: Vec<usize>,
    sessions: IdMap<u64, LiveSession>,
    routes: RouteTable,
    timers: Timers<u64>,
    ports: Arc<PortRange>,
    identity: Arc<DtlsIdentity>,
    late: Arc<Lateness>,
    pulse: Arc<Pulse>,
    kept: Kept,
    events: Vec<SessionEvent>,
    /// Nothing is read, sent or due: a successor of this process is about to continue with all of
    /// it, or this is a successor whose predecessor still has all of it.
    frozen: bool,
    /// Until when it is certain that no other node has taken sessions over; `None`: always.
    vouched: Option<Instant>,
    /// Sessions that were taken up meanwhile.
    taken_up: Vec<u64>,
    /// What else was ordered meanwhile.
    postponed: VecDeque<WorkerMessage>,
    /// Datagrams of this turn.
    datagrams: u32,
    /// When this turn last looked at the clock.
    looked: Instant,
    load: Load,
    load_gauge: Arc<LoadGauge>,
    tell: Box<dyn Fn(u64, Notice) + Send>,
}

struct SessionSink<'a> {
    browsers: &'a UdpSocket,
    streams: &'a mut StreamTable,
    sources: &'a Sources,
    answering: Option<(SocketAddr, LocalSource)>,
    answered: bool,
    ipv6: bool,
    lines: &'a [TrunkSockets],
    events: &'a mut Vec<SessionEvent>,
}

impl Sink for SessionSink<'_> {
    fn send(&mut self, port: Port, to: SocketAddr, datagram: &[u8]) {
        if port == Port::Browser && self.streams.send(to, datagram) {
            return;
        }
        let answer = self.answering.filter(|(remote, _)| port == Port::Browser && *remote == to);
        self.answered |= answer.is_some();
        let kept = || self.sources.of(to).copied();
        let source = answer.map(|(_, source)| source).or_else(kept);
        let to = match to {
            SocketAddr::V4(v4) if self.ipv6 => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            other => other,
        };
        let line = |end| self.lines.iter().find(|l| l.end == end);
        // A full socket buffer or an ICMP error costs this packet, as the network would.
        let _ = match port {
            Port::Browser => send(self.browsers, source.as_ref(), datagram, to),
            Port::Rtp(end) => {
                line(end).map_or(Ok(0), |l| send(&l.pair.rtp, l.source.as_ref(), datagram, to))
            }
            Port::Rtcp(end) => {
                line(end).map_or(Ok(0), |l| send(&l.pair.rtcp, l.source.as_ref(), datagram, to))
            }
        };
    }

    fn event(&mut self, event: SessionEvent) {
        self.events.push(event);
    }
}

fn send(
    socket: &UdpSocket,
    source: Option<&LocalSource>,
    datagram: &[u8],
    to: SocketAddr,
) -> io::Result<usize> {
    match source {
        Some(source) => source.send(socket, datagram, to),
        None => socket.send_to(datagram, to),
    }
}

/// Has the poll say when something waits on `socket`.
///
/// # Errors
/// The poll does not take it.
pub(super) fn listen(registry: &Registry, socket: &UdpSocket, token: Token) -> io::Result<()> {
    registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)
}

impl LiveSession {
    fn new(session: Session) -> LiveSession {
        LiveSession { session, lines: Vec::new(), routes: OwnRoutes::default(), journalled: false }
    }
}

/// Has the poll say when something comes to an end's ports.
fn hear(
    registry: &Registry,
    tokens: &mut Slab<(u64, Port)>,
    (id, end): (u64, LegId),
    pair: &Pair,
) -> [usize; 2] {
    let tokens = [Port::Rtp(end), Port::Rtcp(end)].map(|port| tokens.insert((id, port)));
    for (socket, token) in [&pair.rtp, &pair.rtcp].into_iter().zip(tokens) {
        if let Err(e) = listen(registry, socket, Token(token)) {
            let class = LineClass::new("ports of media not polled", Code::SESSION_BUG);
            log_limit::tell(Level::Error, class, || {
                format!("media worker cannot poll a port of its own: {e}")
            });
        }
    }
    tokens
}

impl Running {
    pub(super) fn new(
        poll: Poll,
        orders: Orders,
        parts: WorkerParts,
        tell: Box<dyn Fn(u64, Notice) + Send>,
    ) -> Running {
        let WorkerParts { browsers, listener, ports, identity, late, load, .. } = parts;
        let WorkerParts { refused, pulse, kept, held, .. } = parts;
        let ipv6 = browsers.local_addr().is_ok_and(|a| a.is_ipv6());
        Running {
            poll,
            orders: Some(orders),
            browsers,
            listener,
            streams: StreamTable::new(refused),
            sources: Sources::new(ipv6, LocalRoutes::default()),
            answering: None,
            answered: false,
            ipv6,
            tokens: Slab::new(),
            busy_lines: Vec::new(),
            sessions: IdMap::default(),
            routes: RouteTable::default(),
            timers: Timers::default(),
            ports,
            identity,
            late,
            pulse,
            kept,
            events: Vec::new(),
            frozen: held,
            vouched: None,
            taken_up: Vec::new(),
            postponed: VecDeque::new(),
            datagrams: 0,
            looked: Instant::now(),
            load: Load::new(Instant::now()),
            load_gauge: load,
            tell,
        }
    }

    pub(super) fn run(&mut self) {
        // Browsers' socket says where a datagram came to, trunks' sockets do not.
        let mut browsers_inbound = Inbound::new(datagrams::MEDIA);
        let mut inbound = Inbound::new(datagrams::MEDIA);
        let mut events = Events::with_capacity(1_024);
        self.resume();
        let (mut more, mut catching_up, mut woken) = (false, false, Instant::now());
        let (mut watch, mut froze) = (StallWatch::new(woken), None::<Instant>);
        loop {
            let mut now = Instant::now();
            let mut stall = watch.runs(now);
            let worked = now.saturating_duration_since(woken);
            let datagrams = std::mem::take(&mut self.datagrams);
            self.note_work(now, (worked, datagrams));
            let light = worked < LIGHT * datagrams;
            if let Some(rest) = PACE.checked_sub(worked).filter(|_| light && !more && !self.frozen)
            {
                watch.rests_until(now + rest);
                std::thread::sleep(rest);
                now = Instant::now();
                stall += watch.runs(now);
            }
            if self.frozen {
                // What comes waits in the sockets.
                (more, froze) = (false, froze.or(Some(now)));
                watch.rests_until(now + BEAT);
                if self.stand_still() {
                    return;
                }
                continue;
            }
            let wait = self.wait(now, more || froze.is_some());
            watch.rests_until(now + wait);
            if let Err(e) = self.poll.poll(&mut events, Some(wait))
                && e.kind() != io::ErrorKind::Interrupted
            {
                return tracing::error!(code = "WT-9002", "media worker cannot poll: {e}");
            }
            woken = Instant::now();
            self.looked = woken;
            stall += watch.runs(woken);
            self.pulse.beat(woken);
            // Orders first: what waits on the sockets may be for an end that was just opened.
            if self.orders() {
                return;
            }
            if self.frozen {
                continue;
            }
            if let Some(since) = froze.take() {
                stall += woken.saturating_duration_since(since);
                self.read_all(&mut inbound);
                more = true;
            }
            self.note_stall(stall);
            let waits = self.read_ready(&events, &mut inbound);
            if std::mem::take(&mut more) || waits {
                more = self.read_browsers(&mut browsers_inbound);
            }
            let now = Instant::now();
            stall += watch.runs(now);
            // Once: a worker that is always late has timers, too.
            catching_up = stall >= STALL && !catching_up;
            if catching_up {
                woken = self.catch_up(now, stall, &mut watch);
                continue;
            }
            self.fire_due(now);
        }
    }

    /// Lets what waits come in before the timers that are late fire; returns when it has.
    fn catch_up(&mut self, now: Instant, stall: Duration, watch: &mut StallWatch) -> Instant {
        self.overslept(now, stall);
        watch.rests_until(now + CATCH_UP);
        std::thread::sleep(CATCH_UP);
        Instant::now()
    }

    fn fire_due(&mut self, now: Instant) {
        self.streams.expire(self.poll.registry(), now);
        if let Some(due) = self.timers.next_timeout().filter(|due| *due <= now) {
            let late = now.saturating_duration_since(due);
            self.late.count(late);
            self.load.late(late);
        }
        while let Some(session) = self.timers.pop(now) {
            self.on_session(session, now, |session, now, sink| session.fire(now, sink));
        }
    }

    /// The time of what was just read. The process may be stopped in the middle of a turn: what
    /// comes after the gap is in the very next packets.
    fn look(&mut self) -> Instant {
        let now = Instant::now();
        let before = std::mem::replace(&mut self.looked, now);
        self.note_stall(now.saturating_duration_since(before));
        now
    }

    /// What is missing in what comes after a stall was not lost by the network.
    fn note_stall(&mut self, stall: Duration) {
        if stall >= STALL {
            self.sessions.values_mut().for_each(|live| live.session.unheard(stall));
        }
    }

    /// Nobody was heard for `stall`, and nobody is judged by it.
    fn overslept(&mut self, now: Instant, stall: Duration) {
        self.sessions.values_mut().for_each(|live| live.session.overslept(now, stall));
        self.streams.overslept(now, stall);
    }

    /// Reads all that is ready but browsers' datagrams; returns whether there are some.
    fn read_ready(&mut self, events: &Events, inbound: &mut Inbound) -> bool {
        let mut browsers = false;
        for stream in self.streams.take_queue() {
            self.read_stream(stream);
        }
        for line in std::mem::take(&mut self.busy_lines) {
            self.read_line(line, inbound);
        }
        for event in events {
            match event.token() {
                WAKE => {}
                BROWSER => browsers = true,
                LISTENER => self.accept(),
                Token(stream) if stream >= streams::FIRST => {
                    self.read_stream(stream - streams::FIRST);
                }
                Token(line) => self.read_line(line, inbound),
            }
        }
        browsers
    }

    fn note_work(&mut self, now: Instant, work: (Duration, u32)) {
        if self.load.on_work(now, work, self.sessions.len(), (&self.load_gauge, thread_time)) {
            let complexity = self.load.complexity();
            let sessions = self.sessions.values_mut();
            sessions.for_each(|live| live.session.limit_complexity(complexity));
        }
    }

    /// How long it may wait for something to come.
    fn wait(&mut self, now: Instant, more: bool) -> Duration {
        if more || self.streams.has_more() || !self.busy_lines.is_empty() {
            return Duration::ZERO;
        }
        let timeouts = [self.timers.next_timeout(), self.streams.next_timeout()];
        let wait = timeouts.into_iter().flatten().fold(now + BEAT, min);
        wait.saturating_duration_since(now)
    }

    /// Takes orders only, and shows that it lives. Returns true if the thread is to stop.
    fn stand_still(&mut self) -> bool {
        self.pulse.beat(Instant::now());
        let next = self.orders.as_ref().map(|(_, inbox)| inbox.recv_timeout(BEAT));
        let stop = next.and_then(Result::ok).is_some_and(|order| self.take(order));
        stop || self.orders()
    }

    /// Runs `work` on a session; a panic in it ends that session only.
    fn on_session(
        &mut self,
        id: u64,
        now: Instant,
        work: impl FnOnce(&mut Session, Instant, &mut SessionSink<'_>),
    ) {
        let Some(live) = self.sessions.get_mut(&id) else { return };
        let mut sink = SessionSink {
            browsers: &self.browsers,
            streams: &mut self.streams,
            sources: &self.sources,
            answering: self.answering,
            answered: false,
            ipv6: self.ipv6,
            lines: &live.lines,
            events: &mut self.events,
        };
        let done = catch_unwind(AssertUnwindSafe(|| work(&mut live.session, now, &mut sink)));
        self.answered = sink.answered;
        if done.is_err() {
            return self.lose(id);
        }
        if self.events.is_empty() {
            // Nearly every packet: its session is looked up once.
            let next = live.session.next_timeout();
            return self.set_timer(id, now, next);
        }
        let (mut checkpoint, mut begun) = (false, None);
        for event in self.events.drain(..) {
            if let SessionEvent::Flowing { end } = event {
                begun = Some(end);
            }
            match event {
                SessionEvent::Checkpoint => checkpoint = true,
                event => (self.tell)(id, Notice::Media(event)),
            }
        }
        if let Some(end) = begun {
            self.refresh_routes(now, id, end);
        }
        if checkpoint && catch_unwind(AssertUnwindSafe(|| self.checkpoint(id))).is_err() {
            return self.lose(id);
        }
        let next = self.sessions.get(&id).and_then(|live| live.session.next_timeout());
        self.set_timer(id, now, next);
    }

    fn set_timer(&mut self, id: u64, now: Instant, next: Option<Instant>) {
        match next {
            Some(at) => self.timers.set_if_earlier(id, now, at),
            None => self.timers.clear(&id),
        }
    }

    /// A bug ends a session.
    fn lose(&mut self, id: u64) {
        self.events.clear();
        self.forget(id);
        (self.tell)(id, Notice::Panicked);
        (self.tell)(id, Notice::Closed { statistics: Vec::new() });
    }

    fn close_end(&mut self, id: u64, end: LegId) {
        let Some(live) = self.sessions.get_mut(&id) else { return };
        let statistics = live.session.close_end(end);
        let lines: Vec<TrunkSockets> = live.lines.extract_if(.., |l| l.end == end).collect();
        let routes = live.routes.take_of(end);
        self.drop_routes(id, routes);
        self.release(lines);
        if let Some(statistics) = statistics {
            (self.tell)(id, Notice::EndClosed { end, statistics: Box::new(statistics) });
        }
    }

    fn close(&mut self, id: u64) {
        let statistics = self
            .sessions
            .get(&id)
            .map(|l| l.session.ends().iter().map(|e| (e.id, e.statistics())).collect());
        self.forget(id);
        (self.tell)(id, Notice::Closed { statistics: statistics.unwrap_or_default() });
    }

    fn forget(&mut self, id: u64) {
        self.timers.clear(&id);
        self.kept.forget(id);
        if let Some(live) = self.sessions.remove(&id) {
            self.drop_routes(id, live.routes);
            self.release(live.lines);
        }
    }

    /// Returns true if more waits.
    fn read_browsers(&mut self, inbound: &mut Inbound) -> bool {
        for _ in 0..ROUNDS {
            let count = inbound.receive::<BATCH>(&self.browsers);
            self.datagrams += count as u32;
            let now = self.look();
            for n in 0..count {
                let local = inbound.local(n);
                if let Some((datagram, from)) = inbound.datagram(n)
                    && !self.browser_sent(now, from, local, datagram)
                {
                    self.strayed(now, from, local, datagram);
                }
            }
            if count < BATCH {
                return false;
            }
        }
        true
    }

    fn release(&mut self, lines: Vec<TrunkSockets>) {
        for TrunkSockets { pair, tokens, .. } in lines {
            for socket in [&pair.rtp, &pair.rtcp] {
                let _ = self.poll.registry().deregister(&mut SourceFd(&socket.as_raw_fd()));
            }
            for token in tokens {
                self.tokens.try_remove(token);
            }
            self.ports.give_back(pair, Instant::now());
        }
    }

    fn accept(&mut self) {
        while let Some(Ok((socket, _))) = self.listener.as_ref().map(TcpListener::accept) {
            self.streams.open(self.poll.registry(), socket, Instant::now());
        }
    }

    /// Takes one turn's worth of a browser's frames.
    fn read_stream(&mut self, key: usize) {
        let now = Instant::now();
        let Some(mut waiting) = self.streams.take(key, now) else { return };
        let from = waiting.remote;
        while let Some(datagram) = waiting.next() {
            self.datagrams += 1;
            let known = self.browser_sent(now, from, None, datagram);
            if !waiting.judge(known, self.routes.of(from).is_some()) {
                break;
            }
        }
        self.streams.give_back(self.poll.registry(), key, waiting);
    }

    /// Takes one turn's worth of what came to a trunk end's socket.
    fn read_line(&mut self, token: usize, inbound: &mut Inbound) {
        let Some(&(id, port)) = self.tokens.get(token) else { return };
        for _ in 0..LINE_ROUNDS {
            let Some(live) = self.sessions.get(&id) else { return };
            let line = |end| live.lines.iter().find(|l| l.end == end);
            let socket = match port {
                Port::Rtp(end) => line(end).map(|l| (end, &l.pair.rtp)),
                Port::Rtcp(end) => line(end).map(|l| (end, &l.pair.rtcp)),
                Port::Browser => None,
            };
            let Some((end, socket)) = socket else { return };
            let count = inbound.receive::<LINE_BATCH>(socket);
            self.datagrams += count as u32;
            let now = self.look();
            for n in 0..count {
                if let Some((datagram, from)) = inbound.datagram(n) {
                    self.on_session(id, now, |s, now, sink| {
                        s.receive(now, port, end, from, datagram, sink)
                    });
                }
            }
            if count < LINE_BATCH {
                return;
            }
        }
        if !self.busy_lines.contains(&token) {
            self.busy_lines.push(token);
        }
    }
}
