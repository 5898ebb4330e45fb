//! Connections that take and do not give: each is closed on its own, with a reason if possible.

use crate::{far_end, phone, phone_with};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use webtrunk::node::Node;

/// Longest a misuse may last: the bounds are 5 and 10 s.
const BOUND: Duration = Duration::from_secs(20);

async fn with_node<T>(test: impl AsyncFnOnce(SocketAddr) -> T) -> T {
    let far = far_end().await;
    let node: Node = phone(far.udp.expect("UDP")).await;
    let result = test(node.web).await;
    node.stop().await;
    far.stop().await;
    result
}

/// A WebSocket's connection after its upgrade.
async fn websocket(web: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(web).await.expect("it listens");
    let upgrade = format!(
        "GET /sip HTTP/1.1\r\nHost: {web}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: sip\r\n\r\n"
    );
    stream.write_all(upgrade.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// A client's frame, masked with nought (RFC 6455 §5.3).
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        n if n < 126 => bytes.push(0x80 | n as u8),
        n if n < 65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((n as u16).to_be_bytes());
        }
        n => {
            bytes.push(0x80 | 127);
            bytes.extend((n as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// The code of the close frame that ends the connection, or 0 if it ends without one.
async fn close_code(stream: &mut TcpStream) -> u16 {
    let mut all = Vec::new();
    let _ = timeout(BOUND, stream.read_to_end(&mut all)).await.expect("it ends");
    let close = all.windows(4).find(|w| w[0] == 0x88);
    close.map_or(0, |w| u16::from_be_bytes([w[2], w[3]]))
}

#[tokio::test]
async fn a_broken_frame_and_a_close_are_answered_with_a_close_code() {
    with_node(async |web| {
        for (what, bytes, code) in [
            ("no mask", vec![0x81, 1, b'x'], 1002),
            ("a reserved opcode", frame(0x83, b"x"), 1002),
            ("a reserved bit", frame(0xc1, b"x"), 1002),
            ("a ping of 126 bytes", frame(0x89, &[0; 126]), 1002),
            ("a fragmented ping", frame(0x09, b"x"), 1002),
            ("a continuation of nothing", frame(0x80, b"x"), 1002),
            ("text that is no UTF-8", frame(0x81, &[0xff, 0xfe]), 1007),
            ("a message of 65,537 bytes", frame(0x81, &[b'x'; 65_537]), 1009),
            ("a close", frame(0x88, &1000_u16.to_be_bytes()), 1000),
            ("a close with a reason", frame(0x88, b"\x0f\xa0bye"), 4000),
            ("a close with a code nobody may send", frame(0x88, &1006_u16.to_be_bytes()), 1002),
            ("a close of one byte", frame(0x88, b"x"), 1002),
        ] {
            let mut stream = websocket(web).await;
            stream.write_all(&bytes).await.expect("sent");
            assert_eq!(close_code(&mut stream).await, code, "{what}");
        }
    })
    .await;
}

#[tokio::test]
async fn fragments_without_end_and_pings_without_end_are_a_breach_of_policy() {
    with_node(async |web| {
        let mut fragments = websocket(web).await;
        let mut all = frame(0x01, b"x");
        (0..40_000).for_each(|_| all.extend(frame(0x00, b"")));
        let _ = fragments.write_all(&all).await;
        let mut pings = websocket(web).await;
        let all: Vec<u8> = (0..200).flat_map(|_| frame(0x89, b"")).collect();
        let _ = pings.write_all(&all).await;
        assert!(matches!(close_code(&mut fragments).await, 0 | 1008), "a reset may overtake it");
        assert!(matches!(close_code(&mut pings).await, 0 | 1008));
        // Another browser is served meanwhile.
        let mut other = websocket(web).await;
        other.write_all(&frame(0x81, b"\r\n\r\n")).await.expect("sent");
        let mut answer = [0; 4];
        other.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(answer, [0x81, 2, b'\r', b'\n']);
    })
    .await;
}

#[tokio::test]
async fn half_a_head_has_ten_seconds() {
    with_node(async |web| {
        for said in ["", "GET / HTTP/1.1\r\nHost: "] {
            let mut stream = TcpStream::connect(web).await.expect("it listens");
            stream.write_all(said.as_bytes()).await.expect("sent");
            let mut answer = Vec::new();
            let ended = timeout(BOUND, stream.read_to_end(&mut answer)).await;
            ended.expect("in time").expect("without a reset");
        }
    })
    .await;
}

/// What comes of half a body at this path.
async fn half_a_body(web: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(web).await.expect("it listens");
    let head = format!(
        "POST /api/v1/{path} HTTP/1.1\r\nHost: {web}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 1_024];
    let n = timeout(BOUND, stream.read(&mut answer)).await.expect("in time").expect("read");
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

#[tokio::test]
async fn half_a_body_has_ten_seconds() {
    with_node(async |web| {
        let answer = half_a_body(web, "session").await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn the_body_of_a_stranger_is_not_awaited() {
    with_node(async |web| {
        let answer = half_a_body(web, "calls").await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn an_answer_nobody_reads_is_given_up() {
    with_node(async |web| {
        // A small window, and many times what it and the sender's buffer hold.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("set");
        let mut stream = socket.connect(web).await.expect("it listens");
        let ask = format!("GET /jssip.js HTTP/1.1\r\nHost: {web}\r\n\r\n").repeat(100);
        // The gateway stops reading questions whose answers nobody takes; then it lets go.
        let ended = timeout(BOUND, async {
            loop {
                if stream.write_all(ask.as_bytes()).await.is_err() {
                    break;
                }
            }
        });
        ended.await.expect("the connection is closed from the other side");
    })
    .await;
}

/// What a connection hears that asks for this, until it is closed.
async fn hears(web: SocketAddr, ask: &str) -> String {
    let mut stream = TcpStream::connect(web).await.expect("it listens");
    stream.write_all(ask.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let read = timeout(BOUND, stream.read_to_end(&mut answer)).await.expect("it ends");
    read.expect("no reset");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn at_the_connection_limit_a_browser_gets_503_and_a_probe_is_answered() {
    let far = far_end().await;
    let node = phone_with(far.udp.expect("UDP"), "connections = 1\n").await;
    let web = node.web;
    // With the places that are kept for this machine.
    let mut seated = Vec::new();
    for _ in 0..257 {
        seated.push(TcpStream::connect(web).await.expect("it listens"));
    }
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {web}\r\n\r\n");
    let upgrade = format!(
        "GET /sip HTTP/1.1\r\nHost: {web}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: sip\r\n\r\n"
    );
    // Many, as when an office comes back; none hears a reset.
    for _ in 0..50 {
        let answer = hears(web, &upgrade).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: "), "{answer}");
    }
    for probe in ["/livez", "/readyz"] {
        assert!(hears(web, &ask(probe)).await.starts_with("HTTP/1.1 200"), "{probe}");
    }
    // A silent client does not wait there for long.
    let mut silent = TcpStream::connect(web).await.expect("it listens");
    let mut byte = [0];
    let ended = timeout(Duration::from_secs(5), silent.read(&mut byte)).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    drop(seated);
    node.stop().await;
    far.stop().await;
}

/// Datagrams without a pause, as a flood is: the tasks of connections have their turns between
/// them.
#[tokio::test]
async fn a_flood_of_datagrams_leaves_connections_their_turns() {
    let far = far_end().await;
    let udp = far.udp.expect("UDP");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_nonblocking(true).expect("a socket");
    let own = socket.local_addr().expect("an address");
    let sent = 150;
    for n in 0..sent {
        let options = format!(
            "OPTIONS sip:x@{udp} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKf{n};rport\r\n\
             From: <sip:f@{own}>;tag=f\r\nTo: <sip:x@{udp}>\r\nCall-ID: f{n}\r\n\
             CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        socket.send_to(options.as_bytes(), udp).expect("there is room for it");
    }
    let (mut answered, mut most) = (0, 0);
    let all = async {
        while answered < sent {
            tokio::task::yield_now().await;
            let now = std::iter::from_fn(|| socket.recv(&mut [0; 2_000]).ok()).count();
            (answered, most) = (answered + now, most.max(now));
        }
    };
    let in_time = timeout(BOUND, all).await;
    assert!(in_time.is_ok() && most <= 64, "{answered} answered, {most} in one turn");
    far.stop().await;
}
