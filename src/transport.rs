//! Shells between sockets and the core: bytes in, inputs out. No policy here.

pub mod acme;
mod budget;
pub(crate) mod certificate;
pub mod dns;
pub(crate) mod handshakes;
pub(crate) mod hep;
mod metered;
pub(crate) mod nodes;
pub(crate) mod proved;
pub(crate) mod seats;
pub(crate) mod sip_certificate;
pub mod stun;
pub(crate) mod tcp;
mod tickets;
pub mod tls;
pub mod udp;
pub(crate) mod ws;

use crate::call::Output;
use crate::flow::FlowKind;
use crate::gateway::operate::Revised;
use crate::gateway::{Gateway, Input};
use crate::handover::HandOver;
use crate::journal::WallClock;
use crate::sip::transaction::{Flow, Hop, TrunkNumber};
use bytes::Bytes;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tcp::Secure;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio_io_timeout::TimeoutStream;

/// Messages that may wait for one connection; beyond it the connection is closed, others continue.
pub(crate) const CONNECTION_QUEUE: usize = 128;
/// A write that makes no progress for this long closes its connection.
pub(crate) const WRITE_STALL: Duration = Duration::from_secs(5);

/// Sent data that is not acknowledged for this long ends a connection: its peer is gone, or does
/// not read.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// Bytes the kernel keeps for a peer that has yet to take them. It doubles this for what it adds
/// itself. Left to itself it keeps 4 MB, which a peer that reads nothing has encrypted in one turn:
/// a hundred of them held everybody's calls up by 240 ms.
const MAX_UNSENT: usize = 128 * 1024;

/// Messages that a connection brings in one turn of its task: one that has always more must not
/// keep the thread from the others.
const MAX_IN_TURN: u32 = 8;

/// How much a connection has brought in its turn.
#[derive(Debug, Default)]
pub(crate) struct TurnShare(u32);

impl TurnShare {
    /// Counts a message; after a turn's share, all others have theirs first.
    pub(crate) async fn took(&mut self) {
        self.0 = (self.0 + 1) % MAX_IN_TURN;
        if self.0 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Sets what every connection has: no delay for small messages, an end for a peer that is gone, and
/// a bound on what waits for one.
pub(crate) fn tune(stream: &tokio::net::TcpStream) {
    let _ = stream.set_nodelay(true);
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let _ = socket.set_send_buffer_size(MAX_UNSENT);
}

/// Ends a connection of HTTP whose writes make no progress for [`WRITE_STALL`]: a client that does
/// not read its answer keeps neither the answer nor the place.
pub(crate) fn with_write_deadline<S: AsyncRead + AsyncWrite>(stream: S) -> TimeoutStream<S> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_STALL));
    stream
}

/// The core's task while it does a piece of [`Work`].
pub struct WorkTurn<'a> {
    /// When it began.
    pub now: Instant,
    /// For timestamps in text.
    pub clock: &'a WallClock,
    /// What is carried out after it.
    pub out: &'a mut Vec<Output>,
}

/// What the core runs for a shell.
pub(crate) type Job = dyn FnOnce(&mut Gateway, &mut WorkTurn<'_>) + Send;

/// Something the core is to do or to look up for a shell, in its own task.
pub struct Work(pub Box<Job>);

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Work")
    }
}

/// Another configuration, and what secures connections to its trunks; `None` if that could not be
/// read.
pub struct Reloaded {
    /// The configuration, with what it changes.
    pub(crate) revised: Revised,
    /// How TLS connections to each trunk are secured.
    pub(crate) tls: Option<HashMap<TrunkNumber, Secure>>,
}

impl fmt::Debug for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reloaded")
    }
}

/// What shells send to the core's task.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
#[allow(missing_docs, reason = "what its type says")]
pub enum Arrival {
    Input(Input),
    Work(Work),
    /// Another configuration, checked; all that takes time is made already.
    Reload(Box<Reloaded>),
    /// A successor of the process asks for all calls.
    HandOver(HandOver),
    /// A connection was accepted.
    Flow {
        flow: Flow,
        kind: FlowKind,
        remote: SocketAddr,
        task: FlowTask,
    },
    /// A connection we opened is gone.
    Disconnected {
        hop: Hop,
    },
    /// A message could not even be framed.
    Malformed {
        remote: SocketAddr,
        why: crate::sip::ParseError,
        /// What it says of itself all the same.
        rest: Option<crate::sip::salvage::Salvaged>,
    },
}

/// An arrival, and since when it waits for the core.
#[derive(Debug)]
pub(crate) struct Queued {
    /// When it came.
    pub(crate) since: Instant,
    /// What came.
    pub(crate) arrival: Arrival,
}

/// What the core has of the task of a connection that was accepted. Dropped, it ends the task once
/// what waits is written.
#[derive(Debug)]
pub struct FlowTask {
    /// Bytes to write.
    pub(crate) send: mpsc::Sender<Bytes>,
    /// Whether a call goes by it: then a peer that is gone is noticed sooner.
    pub(crate) in_call: watch::Sender<bool>,
}

impl FlowTask {
    /// It, and what its task hears.
    pub(crate) fn new() -> (FlowTask, mpsc::Receiver<Bytes>, watch::Receiver<bool>) {
        let (send, outbox) = mpsc::channel(CONNECTION_QUEUE);
        let (in_call, watched) = watch::channel(false);
        (FlowTask { send, in_call }, outbox, watched)
    }
}

/// An IPv4 address that came in by an IPv6 socket, as itself.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Returns `to` in the form that a socket of this family takes.
pub(crate) fn for_socket(own_is_ipv6: bool, to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(v4) if own_is_ipv6 => {
            SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
        }
        other => other,
    }
}

/// The way to the core, and the source of flow numbers.
#[derive(Clone)]
pub(crate) struct Inbox {
    core: mpsc::Sender<Queued>,
    next_flow: Arc<AtomicU64>,
    leaving: Arc<AtomicBool>,
}

impl Inbox {
    /// The inbox of the core; all transports share it.
    pub(crate) fn new(core: mpsc::Sender<Queued>) -> Inbox {
        Inbox { core, next_flow: Arc::new(AtomicU64::new(1)), leaving: Arc::default() }
    }

    /// A number no flow of this node has had.
    pub(crate) fn flow(&self) -> Flow {
        Flow(self.next_flow.fetch_add(1, Ordering::Relaxed))
    }

    /// Connections end from now on because another process takes the place of this one.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether another process takes the place of this one.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Hands something to the core; waits while it is busy. Returns false if the core has stopped.
    pub(crate) async fn give(&self, arrival: Arrival) -> bool {
        self.core.send(Queued { since: Instant::now(), arrival }).await.is_ok()
    }

    /// As [`give`](Self::give), from a thread that may stand still meanwhile.
    pub(crate) fn give_blocking(&self, arrival: Arrival) {
        let _ = self.core.blocking_send(Queued { since: Instant::now(), arrival });
    }

    /// Hands an input to the core.
    pub(crate) async fn input(&self, input: Input) -> bool {
        self.give(Arrival::Input(input)).await
    }
}
