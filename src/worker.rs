//! A media worker: a plain thread with its own sockets and the sessions that live on them.
//!
//! One UDP port serves all its browsers (found by validated address, else by the ufrag of a STUN
//! check); each trunk leg has a port pair. No packet crosses threads, and a bug costs one session.

mod command;
pub(crate) mod heartbeat;
mod kept;
pub(crate) mod lateness;
pub(crate) mod load;
pub mod ports;
mod running;
mod snapshot;
mod source_addresses;
pub(crate) mod streams;

pub use self::command::{Notice, OpenKind, QueueFull, WorkerCommand};
use crate::datagrams::local::tell_local;
use crate::errors::Code;
use crate::media::LegId;
use crate::media::dtls::DtlsIdentity;
use crate::refused::RefusedConnections;
use crate::sdp::offer_answer::Ice;
use heartbeat::Pulse;
pub use kept::Kept;
use lateness::Lateness;
use load::LoadGauge;
use mio::{Poll, Waker};
use ports::{Pair, PortRange};
use running::Running;
use serde::{Deserialize, Serialize};
pub use snapshot::{MediaSnapshot, NotResumed, TrunkPorts};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A command as the thread takes it: with the sockets of the end it opens.
enum WorkerMessage {
    Command(WorkerCommand),
    Open {
        session: u64,
        end: LegId,
        kind: OpenedSockets,
        ssrc: u32,
        cname: String,
        seed: u64,
    },
    Restore(Box<Restored>),
    /// A browser's connection, taken by the web port.
    Stream(std::net::TcpStream),
    /// Likewise, of a process whose place was taken.
    Adopt(std::net::TcpStream, HandedStream),
    /// Nothing is read or sent from now on; a successor of the process continues with all of it.
    Freeze(SyncSender<io::Result<FrozenSessions>>),
    /// There is no successor, or the predecessor is gone: all continues.
    Thaw,
    /// What was ordered before this is done.
    Done(SyncSender<()>),
    Stop,
}

/// All sessions of a stopped worker, and the sockets of their trunks' ends.
#[derive(Debug, Default)]
pub struct FrozenSessions {
    /// By the numbers of their calls.
    pub sessions: Vec<(u64, MediaSnapshot)>,
    /// In no order: each has its port.
    pub pairs: Vec<Pair>,
    /// Browsers' connections.
    pub streams: Vec<(HandedStream, OwnedFd)>,
}

/// A browser's connection for media, as it goes to a successor of the process.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct HandedStream {
    /// The number of the worker.
    pub worker: u16,
    /// What has come of a frame that is not whole.
    pub inbound: Vec<u8>,
    /// What is left to be sent of frames that were begun.
    pub outbound: Vec<u8>,
}

/// Whether browsers may come over TCP, to the number of their UDP port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "one word each")]
pub enum Streamed {
    No,
    /// The port is ours, or the system has given it to somebody else meanwhile.
    Own,
    /// The web port has that number, and hands over who speaks no HTTP.
    ByWeb,
}

/// A session to continue with, and its trunks' sockets.
struct Restored {
    id: u64,
    snapshot: Arc<MediaSnapshot>,
    pairs: Vec<Pair>,
    journalled: bool,
}

enum OpenedSockets {
    Browser { ice: Ice },
    Trunk { nat: bool, pair: Pair },
}

/// The way to a running worker.
pub struct Worker {
    orders: SyncSender<WorkerMessage>,
    waker: Arc<Waker>,
    ports: Arc<PortRange>,
    /// Something was handed over since the last wake that cannot wait; that can, for a moment.
    behind: Cell<bool>,
    wake_deferred: Cell<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Where browsers' media arrives.
    pub browser_address: SocketAddr,
    tcp: bool,
    door: Streams,
}

/// What a worker is started with, and started again with.
#[derive(Clone)]
pub struct WorkerSetup {
    /// The thread's name.
    pub name: String,
    /// The browsers' UDP port; port 0 asks the system for one.
    pub browser: SocketAddr,
    /// By TCP, too.
    pub streamed: Streamed,
    /// Of trunks' media; shared by all workers.
    pub ports: Arc<PortRange>,
    /// The certificate browsers see.
    pub identity: Arc<DtlsIdentity>,
    /// How late workers wake.
    pub late: Arc<Lateness>,
    /// What its packets cost.
    pub load: Arc<LoadGauge>,
    /// Connections for media that were refused.
    pub(crate) refused: Arc<RefusedConnections>,
    /// Watched by the node.
    pub pulse: Arc<Pulse>,
    /// The way for browsers' connections; it leads to the newest thread.
    pub door: Streams,
    /// What goes from a thread that died to the next.
    pub kept: Kept,
    /// It takes sessions up, and neither reads nor sends before it is [let go](Worker::thaw).
    pub held: bool,
}

impl WorkerSetup {
    /// A worker whose lateness and life nobody looks at.
    pub fn new(
        name: impl Into<String>,
        browser: SocketAddr,
        streamed: Streamed,
        ports: Arc<PortRange>,
        identity: Arc<DtlsIdentity>,
    ) -> WorkerSetup {
        WorkerSetup {
            name: name.into(),
            browser,
            streamed,
            ports,
            identity,
            late: Arc::default(),
            load: Arc::default(),
            refused: Arc::default(),
            pulse: Arc::new(Pulse::new(Instant::now())),
            door: Streams::default(),
            kept: Kept::default(),
            held: false,
        }
    }
}

/// What the thread gets: the browsers' sockets, and what it shares with others.
struct WorkerParts {
    browsers: std::net::UdpSocket,
    listener: Option<mio::net::TcpListener>,
    ports: Arc<PortRange>,
    identity: Arc<DtlsIdentity>,
    late: Arc<Lateness>,
    load: Arc<LoadGauge>,
    refused: Arc<RefusedConnections>,
    pulse: Arc<Pulse>,
    kept: Kept,
    held: bool,
}

/// Commands that may wait for a worker.
const QUEUE: usize = 4_096;

impl Worker {
    /// Binds the browsers' port and starts the thread; `tell` takes its notices and must not block
    /// for long. After a thread that died it continues with its sessions, its port and its queue.
    ///
    /// # Errors
    /// The port cannot be bound.
    pub fn start(
        setup: WorkerSetup,
        tell: impl Fn(u64, Notice) + Send + 'static,
    ) -> io::Result<Worker> {
        let WorkerSetup { name, browser, streamed, ports, identity, late, load, refused, .. } =
            setup.clone();
        let WorkerSetup { pulse, door, kept, held, .. } = setup;
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), running::WAKE)?);
        let socket = match kept.browsers() {
            Some(socket) => socket,
            None => bind(browser)?,
        };
        kept.keep_browsers(&socket);
        running::listen(poll.registry(), &socket, running::BROWSER)?;
        let browser_address = socket.local_addr()?;
        tell_local(&socket, browser_address)?;
        let listener = match kept.listener() {
            Some(listener) if streamed == Streamed::Own => Some(listener),
            _ => listener(browser, browser_address, streamed)?,
        };
        listener.iter().for_each(|listener| kept.keep_listener(listener));
        let tcp = streamed == Streamed::ByWeb || listener.is_some();
        let listener = listener
            .map(mio::net::TcpListener::from_std)
            .map(|mut l| {
                poll.registry()
                    .register(&mut l, running::LISTENER, mio::Interest::READABLE)
                    .map(|()| l)
            })
            .transpose()?;
        let (orders, inbox) = kept.orders().unwrap_or_else(|| sync_channel(QUEUE));
        door.open(orders.clone(), waker.clone());
        let parts = WorkerParts {
            browsers: socket,
            listener,
            ports: ports.clone(),
            identity,
            late,
            load,
            refused,
            pulse,
            kept,
            held,
        };
        let inbox = (orders.clone(), inbox);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let tell = Box::new(tell);
            Running::new(poll, inbox, parts, tell).run();
        })?;
        Ok(Worker {
            orders,
            waker,
            ports,
            thread: Some(thread),
            behind: Cell::new(false),
            wake_deferred: Cell::new(false),
            browser_address,
            tcp,
            door,
        })
    }

    /// Whether its thread has ended on its own, which only a bug makes it do.
    pub(crate) fn is_dead(&self) -> bool {
        self.thread.as_ref().is_none_or(std::thread::JoinHandle::is_finished)
    }

    /// Hands a command over; the thread sees it after [`wake`](Self::wake). An end is opened here
    /// and now, so that its address needs no way there and back: the notice comes as the result.
    ///
    /// # Errors
    /// The worker is so far behind that it cannot take it.
    pub fn command(&self, command: WorkerCommand) -> Result<Option<Notice>, QueueFull> {
        let WorkerCommand::Open { session, end, kind, ssrc, cname, seed } = command else {
            // To wake a thread costs as much as closing a session: it is done with what comes next.
            let waits = if matches!(command, WorkerCommand::Close { .. }) {
                &self.wake_deferred
            } else {
                &self.behind
            };
            self.order(WorkerMessage::Command(command))?;
            waits.set(true);
            return Ok(None);
        };
        let (kind, address) = match kind {
            OpenKind::Browser { ice } => (OpenedSockets::Browser { ice }, self.browser_address),
            OpenKind::Trunk { nat } => match self.ports.take(Instant::now()) {
                Ok(pair) => {
                    let address = self.ports.address(pair.port);
                    (OpenedSockets::Trunk { nat, pair }, address)
                }
                Err(e) => {
                    return Ok(Some(Notice::OpenFailed {
                        end,
                        code: Code::PORTS,
                        why: format!("no media port: {e}"),
                    }));
                }
            },
        };
        // No wake for this: until the end is configured nobody is heard on it, and what a browser
        // sends wakes.
        self.order(WorkerMessage::Open { session, end, kind, ssrc, cname, seed })?;
        Ok(Some(Notice::Opened { end, address, tcp: self.tcp && address == self.browser_address }))
    }

    /// Goes on with a session of a process before this one, at the ports it had; the notice comes
    /// from the thread, or as the result. `journalled`: as after [`Command::Journal`].
    ///
    /// # Errors
    /// The worker is so far behind that it cannot take it.
    pub fn restore(
        &self,
        session: u64,
        snapshot: MediaSnapshot,
        journalled: bool,
    ) -> Result<Option<Notice>, QueueFull> {
        let restored = self.claim(session, Arc::new(snapshot), journalled);
        match restored {
            Ok(restored) => {
                self.order(WorkerMessage::Restore(Box::new(restored)))?;
                self.behind.set(true);
                Ok(None)
            }
            Err(why) => Ok(Some(Notice::NotRestored(why))),
        }
    }

    /// Has a session of another node received here: by this worker's browsers' port, and by ports
    /// of its own for trunks.
    ///
    /// # Errors
    /// No ports are free.
    pub(crate) fn relocate(&self, snapshot: &mut MediaSnapshot) -> std::io::Result<()> {
        let now = std::time::Instant::now();
        snapshot.browser_port = self.browser_address.port();
        snapshot.sources.clear();
        for trunk in &mut snapshot.trunks {
            let pair = self.ports.take(now)?;
            (trunk.port, trunk.local) = (pair.port, None);
            // It is claimed next.
            self.ports.give_back(pair, now);
        }
        Ok(())
    }

    fn claim(
        &self,
        id: u64,
        snapshot: Arc<MediaSnapshot>,
        journalled: bool,
    ) -> Result<Restored, NotResumed> {
        let (was, is) = (snapshot.browser_port, self.browser_address.port());
        if was != is && snapshot.session.browsers().next().is_some() {
            return Err(NotResumed::BrowserPort { was, is });
        }
        let pairs = snapshot.claim(&self.ports)?;
        Ok(Restored { id, snapshot, pairs, journalled })
    }

    /// Has it stand still. All that a successor of the process needs is received.
    ///
    /// # Errors
    /// It does not keep up; what is received says whether it is out of descriptors. It may stand
    /// still all the same.
    pub(crate) fn freeze(&self) -> io::Result<Receiver<io::Result<FrozenSessions>>> {
        let (tell, frozen) = sync_channel(1);
        let behind = |_| io::Error::other("a media worker does not keep up");
        self.order(WorkerMessage::Freeze(tell)).map_err(behind)?;
        let _ = self.waker.wake();
        Ok(frozen)
    }

    /// A message arrives once it has carried out all earlier commands; none if it is behind.
    pub(crate) fn done(&self) -> Receiver<()> {
        let (tell, done) = sync_channel(1);
        let _ = self.order(WorkerMessage::Done(tell));
        let _ = self.waker.wake();
        done
    }

    /// Has it continue with a browser's connection, which is closed if it is too far behind.
    pub(crate) fn adopt(&self, socket: std::net::TcpStream, from: HandedStream) {
        if self.order(WorkerMessage::Adopt(socket, from)).is_ok() {
            self.behind.set(true);
        }
    }

    /// Lets it continue after [`freeze`](Self::freeze), or begin if it was held.
    pub(crate) fn thaw(&self) {
        let began = Instant::now();
        while self.order(WorkerMessage::Thaw).is_err() && began.elapsed() < Duration::from_secs(1) {
            let _ = self.waker.wake();
            std::thread::yield_now();
        }
        let _ = self.waker.wake();
    }

    fn order(&self, order: WorkerMessage) -> Result<(), QueueFull> {
        self.orders.try_send(order).map_err(|refused| {
            let pairs = match refused {
                TrySendError::Full(WorkerMessage::Open {
                    kind: OpenedSockets::Trunk { pair, .. },
                    ..
                }) => vec![pair],
                TrySendError::Full(WorkerMessage::Restore(restored)) => restored.pairs,
                _ => Vec::new(),
            };
            pairs.into_iter().for_each(|pair| self.ports.give_back(pair, Instant::now()));
            QueueFull
        })
    }

    /// Lets the thread see what was handed over; once for all of it.
    pub fn wake(&self) {
        if self.behind.replace(false) {
            self.wake_deferred.set(false);
            let _ = self.waker.wake();
        }
    }

    /// Whether something was handed over that [`wake`](Self::wake) did not wake it for.
    pub(crate) fn is_patient(&self) -> bool {
        self.wake_deferred.get()
    }

    /// Lets the thread see that too.
    pub fn wake_for_all(&self) {
        self.behind.set(self.behind.get() || self.wake_deferred.get());
        self.wake();
    }
}

/// How a worker gets commands: its queue, and what wakes it.
type WorkerHandle = (SyncSender<WorkerMessage>, Arc<Waker>);

/// Takes browsers' connections over; one is closed if the worker is too far behind.
#[derive(Clone, Default)]
pub struct Streams(Arc<Mutex<Option<WorkerHandle>>>);

impl Streams {
    /// Hands a connection over.
    pub(crate) fn give(&self, socket: std::net::TcpStream) {
        let way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((orders, waker)) = way.as_ref()
            && orders.try_send(WorkerMessage::Stream(socket)).is_ok()
        {
            let _ = waker.wake();
        }
    }

    fn open(&self, orders: SyncSender<WorkerMessage>, waker: Arc<Waker>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((orders, waker));
    }
}

impl Worker {
    /// Whether it waits for connections that the port at `web` takes.
    pub(crate) fn shares(&self, web: SocketAddr) -> bool {
        self.tcp && self.browser_address.port() == web.port()
    }

    /// The way for connections the web port has taken.
    pub(crate) fn streams(&self) -> Streams {
        self.door.clone()
    }
}

/// TCP at the number of the browsers' UDP port. Where that number was the system's to choose, it
/// may be taken.
fn listener(
    wanted: SocketAddr,
    at: SocketAddr,
    streamed: Streamed,
) -> io::Result<Option<std::net::TcpListener>> {
    if streamed != Streamed::Own {
        return Ok(None);
    }
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(at), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if at.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    match socket.bind(&at.into()).and_then(|()| socket.listen(128)) {
        Ok(()) => Ok(Some(socket.into())),
        Err(_) if wanted.port() == 0 => Ok(None),
        Err(e) => Err(e),
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The queue of a thread that died is its successor's.
        while !self.is_dead() {
            match self.orders.try_send(WorkerMessage::Stop) {
                Err(TrySendError::Full(_)) => std::thread::sleep(Duration::from_millis(1)),
                Ok(()) | Err(TrySendError::Disconnected(_)) => break,
            }
        }
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Bytes the kernel may keep of a socket while the thread does not run: of a thousand browsers on
/// one port some 100 ms, more than the stalls of a busy host. The kernel caps it at its own limit
/// (`net.core.rmem_max`).
pub const RECEIVE_BUFFER: usize = 4 << 20;

/// Binds a socket for media.
///
/// # Errors
/// It cannot be bound.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}
