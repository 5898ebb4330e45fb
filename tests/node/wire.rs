//! SIP as real peers write it, on real sockets: every kind is served, and the connection it came by
//! stays open.

#[allow(dead_code)]
#[path = "../torture/kinds.rs"]
mod kinds;

use futures_util::{SinkExt, StreamExt};
use kinds::{Kind, REQUEST, UNNEEDED, WRITTEN, long, with};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as WebFrame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use webtrunk::config::check::load;
use webtrunk::node::Node;
use webtrunk::sip::Message;
use webtrunk::sip::digest;
use webtrunk::sip::parse::Framing;
use webtrunk::sip::stream::{Frame, Framer};

const BOUND: Duration = Duration::from_secs(30);

const CONFIG: &str = r#"
[server]
domain = "wt.test"
public_ip = "127.0.0.9"
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
new_calls_per_second_per_user = 1000
calls_per_user = 100
[user.alice]
password = "secret-a"
context = "in"
[trunk.t]
uri = "sip:127.0.0.1:5060"
allow = ["127.0.0.1"]
media = ["127.0.0.0/8"]
context = "in"
"#;
const PLAN: &str =
    "[[route]]\nname = \"echo\"\nmatch = [\".\", \"echo\"]\ndo = [{ echo = true }]\n";

/// What a browser offers; what a trunk does.
const OFFER: &str = include_str!("../corpus/chromium/loop_audio_full.sdp");
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                   m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n";
/// Calls that are open at once.
const AT_ONCE: usize = 16;

/// All kinds as calls of the echo, each with a name, a transaction and a call of its own.
fn requests(transport: &str, sdp: &str) -> Vec<(String, Vec<u8>)> {
    let body = format!("Content-Length: {}\r\n\r\n{sdp}", sdp.len());
    let base = REQUEST
        .replace("INVITE sip:x@", "INVITE sip:echo@")
        .replace("Content-Length: 5\r\n\r\nv=0\r\n", &body);
    let mut all: Vec<(String, Vec<u8>)> = vec![("nothing odd".into(), with(&base, b""))];
    let named = |(name, bytes): (&str, Vec<u8>)| (name.to_owned(), bytes);
    all.extend(UNNEEDED.iter().map(|Kind(name, line, _)| named((name, with(&base, line)))));
    all.extend(long().map(|(name, lines, _)| named((name, with(&base, lines.as_bytes())))));
    let plain = base.replace("@@", "");
    let written = WRITTEN.iter().map(|(name, from, to)| (*name, plain.replacen(from, to, 1)));
    all.extend(written.map(|(name, text)| named((name, text.into_bytes()))));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    for name in ["latin1", "odd-date", "multipart", "user-parameters"] {
        let bytes = std::fs::read(folder.join(format!("{name}.sip"))).expect("a case");
        let bytes = replaced(&bytes, "z9hG4bKq1", b"z9hG4bKworld");
        all.push(named((name, replaced(&bytes, "Call-ID: c1", b"Call-ID: world"))));
    }
    for (n, (_, bytes)) in all.iter_mut().enumerate() {
        let own = format!("{transport}-{n}");
        *bytes = replaced(bytes, "SIP/2.0/UDP", format!("SIP/2.0/{transport}").as_bytes());
        while holds(bytes, "world").is_some() {
            *bytes = replaced(bytes, "world", own.as_bytes());
        }
        // A browser calls as who it has proved to be.
        while transport == "WS" && holds(bytes, "<sip:a@b").is_some() {
            *bytes = replaced(bytes, "<sip:a@b", b"<sip:alice@wt.test");
        }
        while transport == "WS" && holds(bytes, "<sip:a@[").is_some() {
            *bytes = replaced(bytes, "<sip:a@[", b"<sip:alice@[");
        }
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> Option<usize> {
    bytes.windows(text.len()).position(|w| w == text.as_bytes())
}

fn replaced(bytes: &[u8], from: &str, to: &[u8]) -> Vec<u8> {
    let at = holds(bytes, from);
    let at = at.unwrap_or_else(|| panic!("{from} in {}", String::from_utf8_lossy(bytes)));
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

/// The ACK of an answer, and the BYE.
fn goodbye(ok: &Message, transport: &str) -> String {
    use webtrunk::sip::HeaderName::{CallId, From, To};
    let header = |name| ok.header(name).unwrap_or_default();
    let (from, to, call_id) = (header(From), header(To), header(CallId));
    let request = |method: &str, cseq| {
        format!(
            "{method} sip:call@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/{transport} 127.0.0.1:5060;branch=z9hG4bK{method}{call_id}\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n"
        )
    };
    [request("ACK", 1), "@@".into(), request("BYE", 2)].concat()
}

/// Something that carries messages, which the gateway must not close.
trait Carrier {
    const NAME: &'static str;
    async fn send(&mut self, bytes: &[u8]);
    async fn next(&mut self) -> Message;

    /// The next final response, or who waits for one.
    async fn answer(&mut self, who: impl Fn() -> String) -> Message {
        loop {
            let message = timeout(BOUND, self.next()).await;
            let message =
                message.unwrap_or_else(|_| panic!("{}: no answer to {}", Self::NAME, who()));
            if message.status() >= 200 {
                return message;
            }
        }
    }
}

struct Stream<S> {
    stream: S,
    framer: Framer,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    fn new(stream: S) -> Stream<S> {
        Stream { stream, framer: Framer::default() }
    }

    async fn message(&mut self) -> Message {
        let mut buf = vec![0; 4_096];
        loop {
            match self.framer.next_frame().expect("framed") {
                Some(Frame::Message(message)) => return message,
                // A keep-alive is answered, and more may have come with that.
                Some(_) => continue,
                None => {}
            }
            let n = self.stream.read(&mut buf).await.expect("still open");
            assert!(n > 0, "the connection was closed");
            self.framer.push(&buf[..n]);
        }
    }
}

impl Carrier for Stream<TcpStream> {
    const NAME: &'static str = "TCP";
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(&[b"\r\n", bytes].concat()).await.expect("still open");
    }
    async fn next(&mut self) -> Message {
        self.message().await
    }
}

impl Carrier for Stream<TlsStream<TcpStream>> {
    const NAME: &'static str = "TLS";
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(&[bytes, b"\r\n\r\n"].concat()).await.expect("still open");
        self.stream.flush().await.expect("still open");
    }
    async fn next(&mut self) -> Message {
        self.message().await
    }
}

struct Datagrams(UdpSocket);

impl Carrier for Datagrams {
    const NAME: &'static str = "UDP";
    async fn send(&mut self, bytes: &[u8]) {
        self.0.send(&[b"\r\n", bytes, b"\r\n\r\n"].concat()).await.expect("sent");
    }
    async fn next(&mut self) -> Message {
        let mut buf = vec![0; 65_535];
        let n = self.0.recv(&mut buf).await.expect("read");
        Message::parse(buf[..n].to_vec(), Framing::Datagram).expect("ours")
    }
}

struct Web {
    socket: WebSocketStream<TcpStream>,
    sent: usize,
}

impl Carrier for Web {
    const NAME: &'static str = "WS";
    /// Whatever the frame holds beside its message.
    async fn send(&mut self, bytes: &[u8]) {
        self.sent += 1;
        let frame = match self.sent % 3 {
            0 => bytes.to_vec(),
            1 => [b"\r\n\r\n", bytes].concat(),
            _ => [bytes, b"\r\n\r\n"].concat(),
        };
        self.socket.send(WebFrame::Binary(frame.into())).await.expect("still open");
    }
    async fn next(&mut self) -> Message {
        loop {
            let frame = self.socket.next().await.expect("still open").expect("sound");
            // A connection that carries a call is pinged every 4 s.
            if !frame.is_ping() {
                return Message::parse(frame.into_data().to_vec(), Framing::WebSocket)
                    .expect("ours");
            }
        }
    }
}

/// Every kind by one carrier, a few calls at once.
async fn all_kinds<C: Carrier>(by: &mut C, sdp: &str) {
    let requests = requests(C::NAME, sdp);
    assert!(requests.len() > 112, "{}", requests.len());
    for some in requests.chunks(AT_ONCE) {
        for (_, bytes) in some {
            by.send(bytes).await;
        }
        let mut open: BTreeSet<usize> = (0..some.len()).collect();
        while !open.is_empty() {
            let names = || format!("{:?}", open.iter().map(|n| &some[*n].0).collect::<Vec<_>>());
            let ok = by.answer(names).await;
            let own = |(_, bytes): &(String, Vec<u8>)| {
                holds(bytes, &format!("{}\r\n", ok.call_id())).is_some()
            };
            // A datagram of an earlier call may come again.
            let Some(n) = some.iter().position(own) else { continue };
            let name = &some[n].0;
            if C::NAME == "WS" && holds(&some[n].1, "sip:alice@").is_none() {
                assert_eq!(ok.status(), 401, "{name}: another name is to be proved");
                open.remove(&n);
                continue;
            }
            assert_eq!(ok.status(), 200, "{}: {name}: {ok}", C::NAME);
            if ok.cseq().is_some_and(|c| c.method == "BYE") {
                open.remove(&n);
            } else if ok.body_of("application/sdp").is_some() {
                // An answer that is repeated is acknowledged again.
                for text in goodbye(&ok, C::NAME).split("@@") {
                    by.send(text.as_bytes()).await;
                }
            } else {
                panic!("{}: {name} has no description", C::NAME);
            }
        }
    }
}

/// What is needed and broken is refused, and costs itself only.
async fn broken<C: Carrier>(by: &mut C, sdp: &str) {
    let (_, plain) = &requests(C::NAME, sdp)[0];
    let plain = replaced(plain, "CSeq: 1", b"CSeq: x");
    by.send(&plain).await;
    assert_eq!(by.answer(|| "one".into()).await.status(), 400, "{}", C::NAME);
    by.send(b"SIP/2.0 9999 ?\r\nContent-Length: 0\r\n\r\n").await;
    let options = format!(
        "OPTIONS sip:wt.test SIP/2.0\r\nVia: SIP/2.0/{} 127.0.0.1;branch=z9hG4bKlast\r\nFrom: <sip:alice@wt.test>;tag=1\r\n\
         To: <sip:wt.test>\r\nCall-ID: last\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
        C::NAME
    );
    by.send(options.as_bytes()).await;
    assert_eq!(by.answer(|| "one".into()).await.status(), 200, "{}", C::NAME);
}

/// A browser's connection, which has logged in.
async fn browser(web: SocketAddr) -> Web {
    let mut request = format!("ws://{web}/sip").into_client_request().expect("a URL");
    request.headers_mut().insert("Sec-WebSocket-Protocol", "sip".parse().expect("a token"));
    let stream = TcpStream::connect(web).await.expect("it listens");
    let (socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("the upgrade");
    let mut by = Web { socket, sent: 0 };
    let register = |n: u32, credentials: &str| {
        format!(
            "REGISTER sip:wt.test SIP/2.0\r\nVia: SIP/2.0/WS x.invalid;branch=z9hG4bKr{n}\r\nMax-Forwards: 70\r\nFrom: <sip:alice@wt.test>;tag=r\r\n\
             To: <sip:alice@wt.test>\r\nCall-ID: register\r\nCSeq: {n} REGISTER\r\nContact: <sip:alice@x.invalid;transport=ws>\r\n{credentials}Content-Length: 0\r\n\r\n"
        )
    };
    by.send(register(1, "").as_bytes()).await;
    let challenge = by.answer(|| "one".into()).await;
    let method = webtrunk::sip::Method::Register;
    let answer = digest::answer(&challenge, "alice", "secret-a", "sip:wt.test", method, "cn0");
    let (name, value) = answer.expect("a challenge we can answer");
    by.send(register(2, &format!("{name}: {value}\r\n")).as_bytes()).await;
    assert_eq!(by.answer(|| "one".into()).await.status(), 200);
    by
}

/// What is no message at all is read past, and a keep-alive is answered.
async fn junk(by: &mut Web) {
    for junk in ["\r\n\r\n\r\n", "HELLO\r\n\r\n", "\r\n"] {
        by.socket.send(WebFrame::text(junk)).await.expect("still open");
    }
    by.socket.send(WebFrame::text("\r\n\r\n")).await.expect("still open");
    let pong = timeout(BOUND, by.socket.next()).await.expect("in time");
    assert_eq!(&pong.expect("still open").expect("sound").into_data()[..], b"\r\n");
}

#[tokio::test]
async fn every_kind_is_served_over_udp_tcp_tls_and_websocket_and_no_connection_is_closed() {
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path();
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
    let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    udp.connect(node.udp.expect("UDP")).await.expect("it is there");
    let mut udp = Datagrams(udp);
    all_kinds(&mut udp, SDP).await;
    broken(&mut udp, SDP).await;
    let mut tcp = Stream::new(TcpStream::connect(node.tcp.expect("TCP")).await.expect("TCP"));
    all_kinds(&mut tcp, SDP).await;
    broken(&mut tcp, SDP).await;
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
    roots.add(certificate).expect("a root");
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let tls = TcpStream::connect(node.tls.expect("TLS")).await.expect("it listens");
    let name = ServerName::try_from("wt.test").expect("a name");
    let tls = TlsConnector::from(Arc::new(client)).connect(name, tls).await.expect("TLS");
    let mut tls = Stream::new(tls);
    all_kinds(&mut tls, SDP).await;
    broken(&mut tls, SDP).await;
    let mut web = browser(node.web).await;
    all_kinds(&mut web, OFFER).await;
    broken(&mut web, OFFER).await;
    junk(&mut web).await;
    node.stop().await;
}
