//! A media worker: a plain thread with its own sockets and the sessions that live on them.
//!
//! One UDP port serves all its browsers (found by validated address, else by the ufrag of a STUN check);
//! each trunk leg has a port pair. No packet crosses threads, and a bug costs one session.

pub mod ports;

use crate::media::dtls::Identity;
use crate::media::end::Kind;
use crate::media::player::Source;
use crate::media::session::Event as MediaEvent;
use crate::media::stun::BindingRequest;
use crate::media::{EndId, Port, Session, Settings, Sink, Statistics};
use crate::rtp::packet::Kind as PacketKind;
use crate::sdp::offer_answer::Ice;
use crate::timers::Timers;
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use ports::PortRange;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

/// How an end is opened.
#[derive(Clone, Debug)]
pub enum OpenKind {
    Browser { ice: Ice },
    Trunk { nat: bool },
}

/// What a call asks of its session. `session` is the call's number.
#[derive(Debug)]
pub enum Command {
    Open { session: u64, end: EndId, kind: OpenKind, ssrc: u32, cname: String, seed: u64 },
    Configure { session: u64, end: EndId, settings: Box<Settings> },
    Bridge { session: u64, a: EndId, b: EndId },
    /// Nothing goes to this end, and nothing of it anywhere.
    Part { session: u64, end: EndId },
    Play { session: u64, end: EndId, source: Source },
    Echo { session: u64, end: EndId, delay: Duration },
    Digit { session: u64, end: EndId, event: u8, length: Duration },
    CloseEnd { session: u64, end: EndId },
    Close { session: u64 },
    Stop,
}

/// What a session tells its call.
#[derive(Debug)]
pub enum Notice {
    /// The end's own address; only the port is meaningful.
    Opened { end: EndId, address: SocketAddr },
    OpenFailed { end: EndId, why: String },
    Media(MediaEvent),
    EndClosed { end: EndId, statistics: Statistics },
    Closed { statistics: Vec<(EndId, Statistics)> },
    Panicked,
}

/// The way to a running worker.
pub struct Worker {
    commands: SyncSender<Command>,
    waker: Arc<Waker>,
    thread: Option<std::thread::JoinHandle<()>>,
    pub browser_address: SocketAddr,
}

/// Commands that may wait for a worker.
const QUEUE: usize = 4_096;
const WAKE: Token = Token(0);
const BROWSER: Token = Token(1);

impl Worker {
    /// Binds the browsers' port and starts the thread; `tell` takes its notices and must not block for long.
    ///
    /// # Errors
    /// The port cannot be bound.
    pub fn start(
        name: &str, browser: SocketAddr, ports: Arc<PortRange>, identity: Arc<Identity>, tell: impl Fn(u64, Notice) + Send + 'static,
    ) -> io::Result<Worker> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let mut socket = UdpSocket::from_std(bind(browser)?);
        let browser_address = socket.local_addr()?;
        poll.registry().register(&mut socket, BROWSER, Interest::READABLE)?;
        let (commands, inbox) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut worker = Running {
                poll,
                inbox,
                io: Io { browser: socket, ipv6: browser_address.is_ipv6(), trunks: HashMap::new(), events: Vec::new() },
                browser_address,
                tokens: HashMap::new(),
                next_token: 2,
                sessions: HashMap::new(),
                by_address: HashMap::new(),
                by_ufrag: HashMap::new(),
                timers: Timers::default(),
                ports,
                identity,
                tell: Box::new(tell),
            };
            worker.run();
        })?;
        Ok(Worker { commands, waker, thread: Some(thread), browser_address })
    }

    /// Hands a command over; false where the worker is so far behind that it cannot take it.
    pub fn command(&self, command: Command) -> bool {
        let taken = !matches!(self.commands.try_send(command), Err(TrySendError::Full(_)));
        taken && self.waker.wake().is_ok()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
    // Room for a burst while the thread is busy; the kernel caps it at its own limit.
    let _ = socket.set_recv_buffer_size(1 << 20);
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

struct TrunkSockets {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    tokens: (Token, Token),
    port: u16,
}

/// The sockets, as the sessions' sink.
struct Io {
    browser: UdpSocket,
    /// Its sockets serve both families: IPv4 addresses are told to them as mapped ones.
    ipv6: bool,
    trunks: HashMap<(u64, EndId), TrunkSockets>,
    events: Vec<MediaEvent>,
}

struct SessionSink<'a> {
    io: &'a mut Io,
    session: u64,
}

impl Sink for SessionSink<'_> {
    fn send(&mut self, port: Port, to: SocketAddr, datagram: &[u8]) {
        let to = match to {
            SocketAddr::V4(v4) if self.io.ipv6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            other => other,
        };
        // A full socket buffer or an ICMP error costs this packet, as the network would.
        let _ = match port {
            Port::Browser => self.io.browser.send_to(datagram, to),
            Port::Rtp(end) => self.io.trunks.get(&(self.session, end)).map_or(Ok(0), |t| t.rtp.send_to(datagram, to)),
            Port::Rtcp(end) => self.io.trunks.get(&(self.session, end)).map_or(Ok(0), |t| t.rtcp.send_to(datagram, to)),
        };
    }

    fn event(&mut self, event: MediaEvent) {
        self.io.events.push(event);
    }
}

struct Running {
    poll: Poll,
    inbox: Receiver<Command>,
    io: Io,
    browser_address: SocketAddr,
    tokens: HashMap<Token, (u64, Port)>,
    next_token: usize,
    sessions: HashMap<u64, Session>,
    by_address: HashMap<SocketAddr, (u64, EndId)>,
    by_ufrag: HashMap<String, (u64, EndId)>,
    timers: Timers<u64>,
    ports: Arc<PortRange>,
    identity: Arc<Identity>,
    tell: Box<dyn Fn(u64, Notice) + Send>,
}

impl Running {
    fn run(&mut self) {
        let mut events = Events::with_capacity(256);
        let mut buf = vec![0u8; 65_536];
        loop {
            let wait = self.timers.next_timeout().map(|at| at.saturating_duration_since(Instant::now()));
            if let Err(e) = self.poll.poll(&mut events, wait)
                && e.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(code = "WT-9002", "media worker cannot poll: {e}");
                return;
            }
            for event in &events {
                match event.token() {
                    WAKE => {
                        if self.commands() {
                            return;
                        }
                    }
                    BROWSER => self.read_browser(&mut buf),
                    token => self.read_trunk(token, &mut buf),
                }
            }
            let now = Instant::now();
            while let Some(session) = self.timers.pop(now) {
                self.on_session(session, now, |session, now, sink| session.fire(now, sink));
            }
        }
    }

    /// True: stop.
    fn commands(&mut self) -> bool {
        while let Ok(command) = self.inbox.try_recv() {
            let now = Instant::now();
            match command {
                Command::Stop => return true,
                Command::Open { session, end, kind, ssrc, cname, seed } => self.open(now, session, end, kind, ssrc, &cname, seed),
                Command::Configure { session, end, settings } => {
                    self.on_session(session, now, |s, now, sink| s.configure(now, end, *settings, sink));
                    self.refresh_routes(session, end);
                }
                Command::Bridge { session, a, b } => self.on_session(session, now, |s, _, _| s.bridge(a, b)),
                Command::Part { session, end } => self.on_session(session, now, |s, _, _| s.part(end)),
                Command::Play { session, end, source } => self.on_session(session, now, |s, now, _| s.play(now, end, source)),
                Command::Echo { session, end, delay } => self.on_session(session, now, |s, _, _| s.echo(end, delay)),
                Command::Digit { session, end, event, length } => {
                    self.on_session(session, now, |s, _, _| s.digit(end, event, length));
                }
                Command::CloseEnd { session, end } => self.close_end(session, end),
                Command::Close { session } => self.close(session),
            }
        }
        false
    }

    #[allow(clippy::too_many_arguments)]
    fn open(&mut self, now: Instant, id: u64, end: EndId, kind: OpenKind, ssrc: u32, cname: &str, seed: u64) {
        let address = match &kind {
            OpenKind::Browser { .. } => Ok(self.browser_address),
            OpenKind::Trunk { .. } => self.open_trunk(id, end),
        };
        let address = match address {
            Ok(address) => address,
            Err(e) => return (self.tell)(id, Notice::OpenFailed { end, why: format!("no media port: {e}") }),
        };
        let kind = match kind {
            OpenKind::Browser { ice } => Kind::Browser { identity: self.identity.clone(), ice },
            OpenKind::Trunk { nat } => Kind::Trunk { nat },
        };
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let session = self.sessions.entry(id).or_insert_with(|| Session::new(now, unix));
        session.open(end, kind, ssrc, cname, seed);
        self.refresh_routes(id, end);
        (self.tell)(id, Notice::Opened { end, address });
    }

    fn open_trunk(&mut self, id: u64, end: EndId) -> io::Result<SocketAddr> {
        let (port, rtp, rtcp) = self.ports.take()?;
        let (mut rtp, mut rtcp) = (UdpSocket::from_std(rtp), UdpSocket::from_std(rtcp));
        let tokens = (Token(self.next_token), Token(self.next_token + 1));
        self.next_token += 2;
        self.poll.registry().register(&mut rtp, tokens.0, Interest::READABLE)?;
        self.poll.registry().register(&mut rtcp, tokens.1, Interest::READABLE)?;
        self.tokens.insert(tokens.0, (id, Port::Rtp(end)));
        self.tokens.insert(tokens.1, (id, Port::Rtcp(end)));
        let address = rtp.local_addr()?;
        self.io.trunks.insert((id, end), TrunkSockets { rtp, rtcp, tokens, port });
        Ok(address)
    }

    /// Runs `work` on a session; a panic in it ends that session only.
    fn on_session(&mut self, id: u64, now: Instant, work: impl FnOnce(&mut Session, Instant, &mut SessionSink<'_>)) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let mut sink = SessionSink { io: &mut self.io, session: id };
        let sound = catch_unwind(AssertUnwindSafe(|| work(session, now, &mut sink))).is_ok();
        if !sound {
            self.forget(id);
            (self.tell)(id, Notice::Panicked);
            return (self.tell)(id, Notice::Closed { statistics: Vec::new() });
        }
        match session.next_timeout() {
            Some(at) => self.timers.set_if_earlier(id, at),
            None => self.timers.clear(&id),
        }
        for event in std::mem::take(&mut self.io.events) {
            (self.tell)(id, Notice::Media(event));
        }
    }

    fn refresh_routes(&mut self, id: u64, end: EndId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let (ufrags, addresses) = session.routes(end);
        for ufrag in ufrags {
            self.by_ufrag.insert(ufrag, (id, end));
        }
        for address in addresses {
            self.by_address.insert(address, (id, end));
        }
    }

    fn close_end(&mut self, id: u64, end: EndId) {
        let statistics = self.sessions.get_mut(&id).and_then(|s| s.close_end(end));
        self.drop_routes(|(s, e)| (s, e) == (id, end));
        if let Some(statistics) = statistics {
            (self.tell)(id, Notice::EndClosed { end, statistics });
        }
    }

    fn close(&mut self, id: u64) {
        let statistics = self.sessions.get(&id).map(|s| s.ends().iter().map(|e| (e.id, e.statistics())).collect());
        self.forget(id);
        (self.tell)(id, Notice::Closed { statistics: statistics.unwrap_or_default() });
    }

    fn forget(&mut self, id: u64) {
        self.sessions.remove(&id);
        self.timers.clear(&id);
        self.drop_routes(|(s, _)| s == id);
    }

    fn drop_routes(&mut self, dead: impl Fn((u64, EndId)) -> bool) {
        self.by_address.retain(|_, to| !dead(*to));
        self.by_ufrag.retain(|_, to| !dead(*to));
        let gone: Vec<(u64, EndId)> = self.io.trunks.keys().copied().filter(|k| dead(*k)).collect();
        for key in gone {
            if let Some(mut sockets) = self.io.trunks.remove(&key) {
                let _ = self.poll.registry().deregister(&mut sockets.rtp);
                let _ = self.poll.registry().deregister(&mut sockets.rtcp);
                self.tokens.remove(&sockets.tokens.0);
                self.tokens.remove(&sockets.tokens.1);
                self.ports.give_back(sockets.port, Instant::now());
            }
        }
    }

    fn read_browser(&mut self, buf: &mut [u8]) {
        while let Ok((len, from)) = self.io.browser.recv_from(buf) {
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            let datagram = &mut buf[..len];
            let is_stun = PacketKind::of(datagram) == PacketKind::Stun;
            let route = if is_stun {
                BindingRequest::parse(datagram).and_then(|r| self.by_ufrag.get(r.local_ufrag()).copied())
            } else {
                self.by_address.get(&from).copied()
            };
            let Some((id, end)) = route else { continue };
            self.on_session(id, Instant::now(), |s, now, sink| s.receive(now, Port::Browser, end, from, datagram, sink));
            if is_stun && self.by_address.get(&from) != Some(&(id, end)) {
                self.refresh_routes(id, end);
            }
        }
    }

    fn read_trunk(&mut self, token: Token, buf: &mut [u8]) {
        let Some(&(id, port)) = self.tokens.get(&token) else { return };
        let end = match port {
            Port::Rtp(end) | Port::Rtcp(end) => end,
            Port::Browser => return,
        };
        loop {
            let Some(sockets) = self.io.trunks.get(&(id, end)) else { return };
            let socket = if matches!(port, Port::Rtp(_)) { &sockets.rtp } else { &sockets.rtcp };
            match socket.recv_from(buf) {
                Ok((len, from)) => {
                    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                    let datagram = &mut buf[..len];
                    self.on_session(id, Instant::now(), |s, now, sink| s.receive(now, port, end, from, datagram, sink));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error of an earlier send is reported here once; the socket is fine.
                Err(_) => {}
            }
        }
    }
}
