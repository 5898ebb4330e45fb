//! SIP as real peers write it, on real sockets: every kind is served, and the connection it came by
//! stays open.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use webtrunk::config::check::load;
use webtrunk::node::Node;
use webtrunk::sip::Message;
use webtrunk::sip::parse::Framing;
use webtrunk::sip::stream::{Frame, Framer};

const BOUND: Duration = Duration::from_secs(10);

const CONFIG: &str = r#"
[server]
domain = "wt.test"
public_ip = "127.0.0.1"
[web]
listen = "127.0.0.1:0"
[sip]
udp = "127.0.0.1:0"
tcp = "127.0.0.1:0"
tls = "127.0.0.1:0"
certificate = { cert = "cert.pem", key = "key.pem" }
[media]
browser_port = 0
workers = 1
ports = "24000-24999"
[limits]
new_calls_per_second = 1000
[trunk.t]
uri = "sip:127.0.0.1:5060"
allow = ["127.0.0.1"]
media = ["127.0.0.0/8"]
context = "in"
"#;
const PLAN: &str =
    "[[route]]\nname = \"echo\"\nmatch = [\".\", \"echo\"]\ndo = [{ echo = true }]\n";

/// What each transport is sent besides the cases: the kind, where, and what stands there instead.
const KINDS: [(&str, &str, &[u8]); 6] = [
    ("a line without colon", "Max-Forwards", b"no header at all\r\nMax-Forwards"),
    ("Latin-1 in a display name", "From: <", b"From: B\xf6b <"),
    ("; ends Via", "branch=z9hG4bKq1", b"branch=z9hG4bKq1;"),
    ("an @ in a display name", "To: <", b"To: bob@x <"),
    ("a control character", "Max-Forwards", b"X-Bell: \x07\r\nMax-Forwards"),
    ("a 3 kB tag", "tag=t1", &[b'x'; 3_072]),
];

/// All requests, each with a name, a transaction and a call of its own.
fn requests(transport: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let read = |name: &str| std::fs::read(folder.join(format!("{name}.sip"))).expect("a case");
    let mut all: Vec<(String, Vec<u8>)> = ["latin1", "odd-date", "multipart", "user-parameters"]
        .map(|name| (name.to_owned(), read(name)))
        .into();
    let plain = replaced(&read("odd-date"), "Thu, 26 Nov 2026 10:00:00 +0100", b"");
    for (name, from, to) in KINDS {
        let tag = [b"tag=", to].concat();
        let to = if name.ends_with("tag") { &tag } else { to };
        all.push((name.to_owned(), replaced(&plain, from, to)));
    }
    for (n, (_, bytes)) in all.iter_mut().enumerate() {
        for (from, to) in [
            ("SIP/2.0/UDP", format!("SIP/2.0/{transport}")),
            ("z9hG4bKq1", format!("z9hG4bKq1{transport}{n}")),
            ("Call-ID: c1", format!("Call-ID: {transport}{n}")),
        ] {
            *bytes = replaced(bytes, from, to.as_bytes());
        }
    }
    all
}

fn replaced(bytes: &[u8], from: &str, to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("{from} in {}", String::from_utf8_lossy(bytes)));
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

/// Waits for the answer to the INVITE, acknowledges it and hangs up, by whatever carries both.
fn goodbye(ok: &Message, transport: &str) -> [String; 2] {
    use webtrunk::sip::HeaderName::{CallId, From, To};
    let header = |name| ok.header(name).unwrap_or_default();
    let (from, to, call_id) = (header(From), header(To), header(CallId));
    ["ACK", "BYE"].map(|method| {
        let cseq = if method == "ACK" { 1 } else { 2 };
        format!(
            "{method} sip:call@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/{transport} 127.0.0.1:5060;branch=z9hG4bK{method}{call_id}\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n"
        )
    })
}

struct Stream<S> {
    stream: S,
    framer: Framer,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("still open");
    }

    async fn answer(&mut self, status: u16) -> Message {
        let mut buf = vec![0; 4_096];
        loop {
            if let Some(Frame::Message(message)) = self.framer.next_frame().expect("framed") {
                if message.status() == status {
                    return message;
                }
                assert!(message.status() < 200, "{message}");
                continue;
            }
            let n = timeout(BOUND, self.stream.read(&mut buf)).await.expect("in time");
            let n = n.expect("still open");
            assert!(n > 0, "the connection was closed");
            self.framer.push(&buf[..n]);
        }
    }

    /// Every kind over one connection, with keep-alives between them.
    async fn all_kinds(stream: S, transport: &str) {
        let mut peer = Stream { stream, framer: Framer::default() };
        for (name, bytes) in requests(transport) {
            peer.send(b"\r\n").await;
            peer.send(&bytes).await;
            let ok = peer.answer(200).await;
            assert!(ok.body_of("application/sdp").is_some(), "{transport}: {name}");
            for text in goodbye(&ok, transport) {
                peer.send(text.as_bytes()).await;
            }
            peer.answer(200).await;
        }
        // What is needed and broken is refused, and costs itself only.
        let broken = replaced(&requests(transport)[1].1, "CSeq: 1", b"CSeq: x");
        peer.send(&broken).await;
        peer.answer(400).await;
        let unreadable = b"SIP/2.0 9999 ?\r\nContent-Length: 0\r\n\r\n";
        peer.send(unreadable).await;
        let options = "OPTIONS sip:wt.test SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bKlast\r\nFrom: <sip:a@b>;tag=1\r\n\
                       To: <sip:wt.test>\r\nCall-ID: last\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
        peer.send(options.as_bytes()).await;
        peer.answer(200).await;
    }
}

async fn datagrams(to: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let mut buf = vec![0; 65_535];
    let mut answer = async |status: u16, name: &str| loop {
        let (n, _) = timeout(BOUND, socket.recv_from(&mut buf)).await.expect(name).expect("read");
        let message = Message::parse(buf[..n].to_vec(), Framing::Datagram).expect("ours");
        if message.status() == status {
            return message;
        }
        assert!(message.status() < 200 || !message.is_request(), "{name}: {message}");
    };
    for (name, bytes) in requests("UDP") {
        socket.send_to(&[b"\r\n", &bytes[..], b"\r\n\r\n"].concat(), to).await.expect("sent");
        let ok = answer(200, &name).await;
        for text in goodbye(&ok, "UDP") {
            socket.send_to(text.as_bytes(), to).await.expect("sent");
        }
        loop {
            let done = answer(200, &name).await;
            if done.cseq().is_some_and(|c| c.method == "BYE") {
                break;
            }
        }
    }
    let broken = replaced(&requests("UDP")[1].1, "CSeq: 1", b"CSeq: x");
    socket.send_to(&broken, to).await.expect("sent");
    answer(400, "broken").await;
}

/// A browser's connection stays open too, whatever the frame holds beside its message.
async fn websocket(web: SocketAddr) {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message as Frame;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let mut request = format!("ws://{web}/sip").into_client_request().expect("a URL");
    request.headers_mut().insert("Sec-WebSocket-Protocol", "sip".parse().expect("a token"));
    let stream = TcpStream::connect(web).await.expect("it listens");
    let (mut socket, _) =
        tokio_tungstenite::client_async(request, stream).await.expect("the upgrade");
    for (n, (name, bytes)) in requests("WS").into_iter().enumerate() {
        let frame = match n % 3 {
            0 => bytes,
            1 => [b"\r\n\r\n", &bytes[..]].concat(),
            _ => [&bytes[..], b"\r\n\r\n"].concat(),
        };
        socket.send(Frame::Binary(frame.into())).await.expect("still open");
        let answer = timeout(BOUND, socket.next()).await.expect("in time");
        let answer = answer.expect("still open").expect("sound").into_data();
        assert!(answer.starts_with(b"SIP/2.0 401"), "{name}: who is not logged in is asked");
    }
    for junk in ["\r\n\r\n\r\n", "HELLO\r\n\r\n", "\r\n"] {
        socket.send(Frame::text(junk)).await.expect("still open");
    }
    socket.send(Frame::text("\r\n\r\n")).await.expect("still open");
    let pong = timeout(BOUND, socket.next()).await.expect("in time");
    assert_eq!(&pong.expect("still open").expect("sound").into_data()[..], b"\r\n");
}

#[tokio::test]
async fn every_kind_is_served_over_udp_tcp_and_tls_and_no_connection_is_closed() {
    let folder = std::env::temp_dir().join(format!("webtrunk-wire-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("dialplans")).expect("a folder");
    let own = rcgen::generate_simple_self_signed(["wt.test".into()]).expect("a certificate");
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    for (name, text) in [
        ("webtrunk.toml", CONFIG),
        ("dialplans/in.toml", PLAN),
        ("cert.pem", &certificate),
        ("key.pem", &key),
    ] {
        std::fs::write(folder.join(name), text).expect("written");
    }
    let (config, _) = load(&folder.join("webtrunk.toml")).unwrap_or_else(|p| panic!("{p}"));
    let node = Node::start(config).await.expect("it starts");
    datagrams(node.udp.expect("UDP")).await;
    let tcp = TcpStream::connect(node.tcp.expect("TCP")).await.expect("it listens");
    Stream::all_kinds(tcp, "TCP").await;
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
    roots.add(certificate).expect("a root");
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let tls = TcpStream::connect(node.tls.expect("TLS")).await.expect("it listens");
    let name = ServerName::try_from("wt.test").expect("a name");
    let tls = TlsConnector::from(Arc::new(client)).connect(name, tls).await.expect("TLS");
    Stream::all_kinds(tls, "TLS").await;
    websocket(node.web).await;
    node.stop().await;
    std::fs::remove_dir_all(&folder).expect("removed");
}
