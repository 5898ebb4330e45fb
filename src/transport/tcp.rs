//! SIP over TCP: accepted connections are flows, opened ones are named by their address (RFC 3261 §18).

use super::{Arrival, CONNECTION_QUEUE, Inbox, WRITE_STALL};
use crate::gateway::{FlowKind, Input};
use crate::sip::build::Writer;
use crate::sip::stream::{Frame, Framer};
use crate::sip::transaction::Hop;
use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

/// A message must be whole this long after its first byte.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(10);
/// An idle connection is closed after this long; trunks open a new one when they need it.
const IDLE: Duration = Duration::from_secs(900);
/// A connection is given up after this long.
const CONNECT: Duration = Duration::from_secs(5);

/// Accepts until the core stops.
pub async fn serve(listener: TcpListener, inbox: Inbox) {
    loop {
        let Ok((stream, remote)) = listener.accept().await else {
            // Out of descriptors: wait for some to come back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let flow = inbox.flow();
        let (send, outbox) = mpsc::channel(CONNECTION_QUEUE);
        if !inbox.give(Arrival::Flow { flow, kind: FlowKind::Tcp, remote, send }).await {
            return;
        }
        let inbox = inbox.clone();
        tokio::spawn(async move {
            run(stream, Hop::Flow(flow), remote, outbox, &inbox).await;
            inbox.input(Input::FlowClosed { flow }).await;
        });
    }
}

/// Opens a connection to `to`; what waits in `outbox` is sent once it stands.
pub fn connect(to: SocketAddr, outbox: mpsc::Receiver<Bytes>, inbox: Inbox) {
    tokio::spawn(async move {
        if let Ok(Ok(stream)) = timeout(CONNECT, TcpStream::connect(to)).await {
            run(stream, Hop::Tcp(to), to, outbox, &inbox).await;
        }
        inbox.give(Arrival::Disconnected { to }).await;
        inbox.input(Input::Unreachable { hop: Hop::Tcp(to) }).await;
    });
}

async fn run(stream: TcpStream, hop: Hop, remote: SocketAddr, mut outbox: mpsc::Receiver<Bytes>, inbox: &Inbox) {
    let _ = stream.set_nodelay(true);
    let (mut read, mut write) = stream.into_split();
    let mut framer = Framer::default();
    let mut buf = vec![0u8; 8_192];
    let mut deadline = Instant::now() + IDLE;
    loop {
        let bytes = tokio::select! {
            outgoing = outbox.recv() => match outgoing {
                Some(bytes) => match timeout(WRITE_STALL, write.write_all(&bytes)).await {
                    Ok(Ok(())) => continue,
                    _ => return,
                },
                None => return,
            },
            read = timeout_at(deadline, read.read(&mut buf)) => match read {
                Ok(Ok(n)) if n > 0 => n,
                _ => return,
            },
        };
        framer.push(&buf[..bytes]);
        loop {
            match framer.next_frame() {
                Ok(Some(Frame::Message(message))) => {
                    if !inbox.input(Input::Received { hop, remote, message }).await {
                        return;
                    }
                }
                Ok(Some(Frame::Ping)) => drop(timeout(WRITE_STALL, write.write_all(b"\r\n")).await),
                Ok(Some(Frame::Pong)) => {}
                Ok(None) => break,
                Err((why, head)) => {
                    // Framing is lost: answer what can be answered, then close (P2).
                    if let Some(head) = head.filter(|h| h.is_request() && h.via().is_some()) {
                        let reject = crate::sip::Reject::new(why.status, why.to_string());
                        let response = Writer::refusal(&head, &reject, "framing", "webtrunk").end();
                        let _ = timeout(WRITE_STALL, write.write_all(&response)).await;
                    }
                    inbox.give(Arrival::Malformed { remote, why }).await;
                    return;
                }
            }
        }
        deadline = Instant::now() + if framer.is_partial() { MESSAGE_DEADLINE } else { IDLE };
    }
}
