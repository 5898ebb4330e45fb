//! SIP over TCP and TLS: accepted connections are flows, opened ones are named by their address
//! (RFC 3261 §18).

use super::handshakes::Handshakes;
use super::proved::ProvedSources;
use super::seats::Seats;
use super::{Arrival, FlowTask, Inbox, TurnShare, WRITE_STALL, tune};
use crate::errors::Code;
use crate::flow::FlowKind;
use crate::gateway::Input;
use crate::log_limit::{self, Level, LineClass};
use crate::refused::{RefusedConnections, RefusedPort};
use crate::sip::build::MessageWriter;
use crate::sip::parse::HeaderName;
use crate::sip::salvage::salvage;
use crate::sip::stream::{Frame, Framer};
use crate::sip::transaction::{Flow, Hop};
use bytes::Bytes;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A message must be whole this long after its first byte.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(10);
/// An idle connection is closed after this long; trunks open a new one when they need it.
const IDLE: Duration = Duration::from_secs(900);
/// A connection is given up after this long.
const CONNECT: Duration = Duration::from_secs(5);
/// Accepted connections at once; if trunks may register from anywhere, strangers hold one for 30 s.
const MAX_CONNECTIONS: usize = 4_096;
/// Accepted connections of one source: a proxy may have many, a stranger not all.
const MAX_PER_SOURCE: usize = 256;

/// Accepts until the core stops; with `tls`, connections are TLS.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    inbox: Inbox,
    refused: Arc<RefusedConnections>,
    proved: Arc<ProvedSources>,
) {
    let handshakes =
        Handshakes::new(RefusedPort::Sip, MAX_PER_SOURCE, refused.clone(), proved.clone());
    let handshakes = Arc::new(handshakes);
    let seats = Seats::new(RefusedPort::Sip, (MAX_CONNECTIONS, MAX_PER_SOURCE), refused, proved);
    loop {
        let (stream, remote, seat) = seats.accept(&listener).await;
        let (inbox, tls, handshakes) = (inbox.clone(), tls.clone(), handshakes.clone());
        tokio::spawn(async move {
            let _seat = seat;
            match tls {
                None => accepted(stream, remote, &inbox).await,
                Some(tls) => secured(stream, remote, &inbox, &tls, &handshakes).await,
            }
        });
    }
}

async fn accepted(stream: TcpStream, remote: SocketAddr, inbox: &Inbox) {
    let Some((flow, outbox)) = open(FlowKind::Tcp, remote, inbox).await else { return };
    run(stream, Hop::Flow(flow), remote, outbox, inbox).await;
    inbox.input(Input::FlowClosed { flow }).await;
}

/// The core is asked before the handshake: it closes the flow of an address that no trunk has, and
/// a stranger gets no certificate to check.
async fn secured(
    stream: TcpStream,
    remote: SocketAddr,
    inbox: &Inbox,
    tls: &TlsAcceptor,
    handshakes: &Handshakes,
) {
    let Some((flow, mut outbox)) = open(FlowKind::Tls, remote, inbox).await else { return };
    let first = tokio::select! {
        biased;
        refused = outbox.recv() => Err(refused),
        stream = handshakes.accept(tls, stream, remote.ip()) => Ok(stream),
    };
    match first {
        Ok(Ok(stream)) => run(stream, Hop::Flow(flow), remote, outbox, inbox).await,
        Ok(Err(e)) => tracing::debug!("TLS with {remote} failed: {e}"),
        // Nothing is sent on a flow that nothing has come over.
        Err(_) => {}
    }
    inbox.input(Input::FlowClosed { flow }).await;
}

/// Tells the core of a connection; `None` if the core has stopped.
async fn open(
    kind: FlowKind,
    remote: SocketAddr,
    inbox: &Inbox,
) -> Option<(Flow, mpsc::Receiver<Bytes>)> {
    let flow = inbox.flow();
    let (task, outbox, _) = FlowTask::new();
    inbox.give(Arrival::Flow { flow, kind, remote, task }).await.then_some((flow, outbox))
}

/// How a TLS connection of ours proves the peer.
#[derive(Clone)]
pub(crate) struct Secure {
    /// Makes the handshake.
    pub connector: TlsConnector,
    /// The name its certificate must have.
    pub name: ServerName<'static>,
}

/// Opens the connection of `hop`; what waits in `outbox` is sent once it stands.
pub(crate) fn connect(
    hop: Hop,
    to: SocketAddr,
    secure: Option<Secure>,
    outbox: mpsc::Receiver<Bytes>,
    inbox: Inbox,
) {
    tokio::spawn(async move {
        let opened = timeout(CONNECT, async {
            let stream = TcpStream::connect(to).await?;
            tune(&stream);
            Ok::<_, std::io::Error>(stream)
        });
        let failed = match (opened.await, secure) {
            (Ok(Ok(stream)), None) => {
                run(stream, hop, to, outbox, &inbox).await;
                None
            }
            (Ok(Ok(stream)), Some(secure)) => {
                match timeout(CONNECT, secure.connector.connect(secure.name.clone(), stream)).await
                {
                    Ok(Ok(stream)) => {
                        run(stream, hop, to, outbox, &inbox).await;
                        None
                    }
                    Ok(Err(e)) => Some((Code::CERTIFICATE, format!("TLS with {to} failed: {e}"))),
                    Err(_) => {
                        Some((Code::UNREACHABLE, format!("TLS with {to} was not done within 5 s")))
                    }
                }
            }
            (Ok(Err(e)), _) => Some((Code::UNREACHABLE, format!("no connection to {to}: {e}"))),
            (Err(_), _) => Some((Code::UNREACHABLE, format!("no connection to {to} within 5 s"))),
        };
        if let Some((code, why)) = &failed {
            let class = LineClass::new("connections to trunks that failed", *code);
            log_limit::tell(Level::Warn, class, || why.clone());
        }
        let (code, why) = failed.unwrap_or_default();
        inbox.give(Arrival::Disconnected { hop }).await;
        inbox.input(Input::Unreachable { hop, code, why }).await;
    });
}

pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    hop: Hop,
    remote: SocketAddr,
    mut outbox: mpsc::Receiver<Bytes>,
    inbox: &Inbox,
) {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut framer = Framer::default();
    let mut buf = vec![0u8; 8_192];
    let (mut deadline, mut share) = (Instant::now() + IDLE, TurnShare::default());
    loop {
        let bytes = tokio::select! {
            outgoing = outbox.recv() => match outgoing {
                Some(bytes) if wrote(&mut write, &bytes).await => continue,
                Some(_) => return,
                None => {
                    let _ = timeout(WRITE_STALL, write.shutdown()).await;
                    return;
                }
            },
            read = timeout_at(deadline, read.read(&mut buf)) => match read {
                Ok(Ok(n)) if n > 0 => n,
                _ => return,
            },
        };
        framer.push(&buf[..bytes]);
        loop {
            share.took().await;
            match framer.next_frame() {
                Ok(Some(Frame::Message(message))) => {
                    if !inbox.input(Input::Received { hop, remote, message }).await {
                        return;
                    }
                }
                Ok(Some(Frame::Ping)) => {
                    wrote(&mut write, b"\r\n").await;
                }
                Ok(Some(Frame::Unreadable(why, rest))) => {
                    inbox.give(Arrival::Malformed { remote, why, rest }).await;
                }
                Ok(Some(Frame::Pong)) => {}
                Ok(None) => break,
                Err((why, head)) => {
                    // Framing is lost: answer what can be answered, then close (P2).
                    if let Some(head) = head
                        .as_ref()
                        .filter(|h| h.is_request() && h.header(HeaderName::Via).is_some())
                    {
                        let reject = crate::sip::Refusal::new(why.status, why.to_string());
                        let response =
                            MessageWriter::refusal(head, &reject, "framing", "webtrunk").end();
                        wrote(&mut write, &response).await;
                    }
                    let rest = head.as_ref().and_then(|h| salvage(&h.to_bytes()));
                    inbox.give(Arrival::Malformed { remote, why, rest }).await;
                    return;
                }
            }
        }
        deadline = Instant::now() + if framer.is_partial() { MESSAGE_DEADLINE } else { IDLE };
    }
}

/// Writes all of `bytes` within [`WRITE_STALL`]; false if the peer does not take them.
async fn wrote<W: AsyncWrite + Unpin>(write: &mut W, bytes: &[u8]) -> bool {
    let written = timeout(WRITE_STALL, async {
        write.write_all(bytes).await?;
        write.flush().await
    });
    matches!(written.await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::super::{CONNECTION_QUEUE, MAX_IN_TURN};
    use super::*;

    /// A connection whose other end a test holds, with what is to be written to it.
    fn connection(
        room: usize,
    ) -> (tokio::io::DuplexStream, mpsc::Sender<Bytes>, tokio::task::JoinHandle<()>) {
        let (ours, theirs) = tokio::io::duplex(room);
        let (send, outbox) = mpsc::channel(CONNECTION_QUEUE);
        let (core, arrivals) = mpsc::channel(8);
        let served = tokio::spawn(async move {
            let (remote, _arrivals) = (SocketAddr::from(([127, 0, 0, 1], 4_000)), arrivals);
            run(ours, Hop::Flow(Flow(1)), remote, outbox, &Inbox::new(core)).await;
        });
        (theirs, send, served)
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_is_begun_is_whole_in_ten_seconds() {
        let (mut theirs, _send, served) = connection(4_096);
        let began = Instant::now();
        theirs.write_all(b"OPTIONS sip:a@b SIP/2.0\r\nVia: ").await.expect("sent");
        served.await.expect("it ends");
        assert_eq!(began.elapsed(), MESSAGE_DEADLINE);
    }

    #[tokio::test]
    async fn who_brings_messages_without_a_pause_has_a_share_of_each_turn() {
        let (mut far, near) = tokio::io::duplex(1 << 20);
        let (_keep, outbox) = mpsc::channel(1);
        let (core, arrivals) = mpsc::channel(1_000);
        let inbox = Inbox::new(core);
        let from = SocketAddr::from(([127, 0, 0, 1], 5060));
        let message = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n";
        far.write_all(&message.repeat(500)).await.expect("room");
        let task =
            tokio::spawn(async move { run(near, Hop::Tcp(from), from, outbox, &inbox).await });
        for turns in 1..=20 {
            tokio::task::yield_now().await;
            assert!(arrivals.len() <= turns * MAX_IN_TURN as usize, "{} arrived", arrivals.len());
        }
        assert!(arrivals.len() > 20, "{} arrived", arrivals.len());
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_stalls_ends_its_connection() {
        let (_theirs, send, served) = connection(64);
        let began = Instant::now();
        send.send(Bytes::from_static(&[b'x'; 1_000])).await.expect("it waits");
        served.await.expect("it ends");
        assert_eq!(began.elapsed(), WRITE_STALL);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_messages_wait_for_a_connection_and_no_more() {
        let (task, _outbox, _watched) = FlowTask::new();
        for n in 0..=CONNECTION_QUEUE {
            let waits = task.send.try_send(Bytes::from_static(b"x")).is_ok();
            assert_eq!(waits, n < CONNECTION_QUEUE, "{n}");
        }
    }
}
