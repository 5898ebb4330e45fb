//! SIP over WebSocket (RFC 7118): one message a frame, keep-alives answered here, never by the
//! core.

use super::metered::{Controls, Metered, TooMuch};
use super::{Arrival, FlowTask, Inbox, TurnShare, WRITE_STALL};
use crate::flow::FlowKind;
use crate::gateway::Input;
use crate::sip::message::Message;
use crate::sip::parse::Framing;
use crate::sip::salvage::salvage;
use crate::sip::transaction::{Flow, Hop};
use crate::worker::heartbeat::STALL;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message as Frame, Utf8Bytes};

/// Interval of our pings; neither JsSIP nor SIP.js sends any.
const PING: Duration = Duration::from_secs(25);
/// A connection silent for this long after a ping is dead.
const SILENCE: Duration = Duration::from_secs(60);
/// While a call goes by it: the interval, in which a ping must be answered. A browser's network
/// process answers, whatever its page does; and a connection that is given up though it lives costs
/// a call nothing.
const PING_IN_CALL: Duration = Duration::from_secs(4);

/// When a peer is to be asked whether it is there, and whether it has answered.
struct Pings {
    in_call: watch::Receiver<bool>,
    next: Instant,
    heard: Instant,
    /// The ping that nothing has come since.
    asked: Option<Instant>,
}

impl Pings {
    fn new(in_call: watch::Receiver<bool>) -> Pings {
        let now = Instant::now();
        Pings { in_call, next: now + PING, heard: now, asked: None }
    }

    /// The peer lives.
    fn heard(&mut self) {
        (self.heard, self.asked) = (Instant::now(), None);
    }

    /// Waits until the peer is to be asked. Returns false if it is gone.
    async fn due(&mut self) -> bool {
        loop {
            tokio::select! {
                () = sleep_until(self.next) => break,
                // What the core has dropped it need not watch any more.
                Ok(()) = self.in_call.changed() => {
                    let soon = Instant::now() + PING_IN_CALL;
                    if *self.in_call.borrow_and_update() {
                        self.next = self.next.min(soon);
                    }
                }
            }
        }
        let now = Instant::now();
        let stall = now.saturating_duration_since(self.next);
        if stall >= STALL {
            // Nobody could be heard meanwhile; what came is read before the next ping.
            self.heard = now.min(self.heard + stall);
            self.asked = self.asked.map(|_| now);
        }
        let in_call = *self.in_call.borrow();
        let late = |at: Instant| in_call && now >= at + PING_IN_CALL;
        if self.asked.is_some_and(late) || now >= self.heard + SILENCE {
            return false;
        }
        self.asked.get_or_insert(now);
        self.next = now + if in_call { PING_IN_CALL } else { PING };
        true
    }
}

/// Small buffers: an idle browser costs a few kilobytes, not a quarter of a megabyte.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(1_024)
        .write_buffer_size(0)
        .max_write_buffer_size(256 * 1024)
        .max_message_size(Some(64 * 1024))
        .max_frame_size(Some(64 * 1024))
}

/// Serves one upgraded connection until it ends.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    remote: SocketAddr,
    inbox: Inbox,
) {
    let flow = inbox.flow();
    let (task, outbox, in_call) = FlowTask::new();
    if !inbox.give(Arrival::Flow { flow, kind: FlowKind::WebSocket, remote, task }).await {
        return;
    }
    let stream = Metered::new(stream);
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await;
    run(socket, (flow, remote), outbox, Pings::new(in_call), &inbox).await;
    inbox.input(Input::FlowClosed { flow }).await;
}

async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<Metered<S>>,
    (flow, remote): (Flow, SocketAddr),
    mut outbox: mpsc::Receiver<Bytes>,
    mut pings: Pings,
    inbox: &Inbox,
) {
    let (mut controls, mut share) = (Controls::default(), TurnShare::default());
    loop {
        let outgoing = tokio::select! {
            message = outbox.recv() => match message {
                Some(bytes) => frame(bytes),
                None if inbox.is_leaving() => {
                    return close(&mut socket, Some(CloseCode::Restart)).await;
                }
                None => {
                    let _ = timeout(WRITE_STALL, socket.close(None)).await;
                    return;
                }
            },
            alive = pings.due() => {
                if !alive {
                    return;
                }
                Frame::Ping(Bytes::new())
            }
            incoming = socket.next() => {
                let incoming = match incoming {
                    Some(Ok(incoming)) => incoming,
                    Some(Err(e)) => return close(&mut socket, code_of(&e)).await,
                    None => return,
                };
                pings.heard();
                share.took().await;
                socket.get_mut().message_ended();
                if incoming.is_ping() && controls.is_too_many(pings.heard) {
                    return close(&mut socket, Some(CloseCode::Policy)).await;
                }
                match receive(incoming, flow, remote, inbox).await {
                    NextFrame::Nothing => continue,
                    NextFrame::Reply(frame) => frame,
                    NextFrame::Farewell => {
                        // tungstenite has the answer ready (RFC 6455 §5.5.1).
                        let _ = timeout(WRITE_STALL, socket.flush()).await;
                        return;
                    }
                    NextFrame::Stop => return,
                }
            }
        };
        if !matches!(timeout(WRITE_STALL, socket.send(outgoing)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// Tells the peer why (RFC 6455 §7.4.1), as far as it still listens.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    code: Option<CloseCode>,
) {
    let Some(code) = code else { return };
    let reason = match code {
        CloseCode::Restart => Utf8Bytes::from_static("service restart"),
        _ => Utf8Bytes::default(),
    };
    let frame = CloseFrame { code, reason };
    let _ = timeout(WRITE_STALL, socket.send(Frame::Close(Some(frame)))).await;
}

/// Returns the close code for a peer's mistake, or `None` if the connection itself is gone.
fn code_of(error: &Error) -> Option<CloseCode> {
    match error {
        Error::Utf8(_) => Some(CloseCode::Invalid),
        Error::Capacity(_) => Some(CloseCode::Size),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(CloseCode::Protocol),
        Error::Io(e) if e.get_ref().is_some_and(|e| e.is::<TooMuch>()) => Some(CloseCode::Policy),
        _ => None,
    }
}

/// The messages of a connection that brings `bytes` and then ends.
#[cfg(any(test, fuzzing))]
pub(crate) fn messages(bytes: &[u8]) -> Vec<Message> {
    use futures_util::FutureExt;
    let connection = tokio::io::join(std::io::Cursor::new(bytes.to_vec()), tokio::io::sink());
    let stream = Metered::new(connection);
    let all = async {
        let mut all = Vec::new();
        let mut socket =
            WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await;
        while let Some(Ok(incoming)) = socket.next().await {
            socket.get_mut().message_ended();
            all.extend(Message::parse(incoming.into_data().to_vec(), Framing::WebSocket).ok());
        }
        all
    };
    all.now_or_never().expect("it waits for nobody")
}

enum NextFrame {
    Nothing,
    Reply(Frame),
    /// The peer closes, and gets its close frame back.
    Farewell,
    Stop,
}

async fn receive(incoming: Frame, flow: Flow, remote: SocketAddr, inbox: &Inbox) -> NextFrame {
    let bytes = match &incoming {
        Frame::Text(text) => text.as_bytes(),
        Frame::Binary(bytes) => bytes,
        Frame::Close(frame) => {
            if frame.as_ref().is_some_and(|frame| frame.code == CloseCode::Away) {
                inbox.input(Input::PageLeft { flow }).await;
            }
            return NextFrame::Farewell;
        }
        // tungstenite answers pings on its own.
        _ => return NextFrame::Nothing,
    };
    match bytes {
        // RFC 5626 §3.5.1 over WebSocket (RFC 7118 §6): a double CRLF asks, a single one answers.
        b"\r\n\r\n" => return NextFrame::Reply(Frame::text("\r\n")),
        keep_alive if keep_alive.iter().all(|b| matches!(b, b'\r' | b'\n' | 0)) => {
            return NextFrame::Nothing;
        }
        _ => {}
    }
    let arrival = match Message::parse(bytes.to_vec(), Framing::WebSocket) {
        Ok(message) => Arrival::Input(Input::Received { hop: Hop::Flow(flow), remote, message }),
        // A bad message costs itself, not the connection.
        Err(why) => Arrival::Malformed { remote, why, rest: salvage(bytes) },
    };
    if inbox.give(arrival).await { NextFrame::Nothing } else { NextFrame::Stop }
}

/// Text if it is UTF-8, as browsers expect; else binary.
fn frame(bytes: Bytes) -> Frame {
    match String::from_utf8(bytes.to_vec()) {
        Ok(text) => Frame::text(text),
        Err(_) => Frame::Binary(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says yes for `answered` pings, and then nothing; returns after how long the peer was found
    /// gone, from the last answer. A call begins `call` after the first.
    async fn noticed(answered: u32, call: Option<Duration>) -> Duration {
        let (core, in_call) = watch::channel(false);
        let mut pings = Pings::new(in_call);
        let began = Instant::now();
        if let Some(after) = call {
            tokio::spawn(async move {
                sleep_until(began + after).await;
                let _ = core.send(true);
                core.closed().await;
            });
        }
        let mut seen = 0;
        while pings.due().await {
            seen += 1;
            if seen <= answered {
                pings.heard();
            }
        }
        pings.heard.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_dead_without_a_reset_is_noticed_in_time() {
        for call in [None, Some(Duration::ZERO), Some(Duration::from_secs(26))] {
            for answered in 0..5 {
                let after = noticed(answered, call).await;
                let in_call = call.is_some_and(|at| at.is_zero() || answered > 1);
                let most = Duration::from_secs(if in_call { 10 } else { 75 });
                assert!(after <= most, "{call:?}, {answered} answers: after {after:?}");
                assert!(after >= PING_IN_CALL, "a ping has time to be answered");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_not_given_up_by_a_process_that_stood_still() {
        for in_call in [false, true] {
            for stall in [5, 20, 60, 600] {
                let (_core, in_call) = watch::channel(in_call);
                let mut pings = Pings::new(in_call);
                assert!(pings.due().await, "it is asked");
                // Its answer waits in the socket, and the timer of the next ping is read first.
                tokio::time::advance(Duration::from_secs(stall) + PING).await;
                assert!(pings.due().await, "{stall} s");
                pings.heard();
                assert!(pings.due().await);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_answers_is_never_given_up() {
        let (core, in_call) = watch::channel(true);
        let mut pings = Pings::new(in_call);
        for n in 0..1_000 {
            assert!(pings.due().await, "ping {n}");
            if n % 3 == 0 {
                core.send_replace(n % 2 == 0);
            }
            // It is nearly late each time.
            tokio::time::advance(PING_IN_CALL - Duration::from_millis(10)).await;
            pings.heard();
        }
    }
}
