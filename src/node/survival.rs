//! What is left when a thread of the node dies.

use super::checkpoint::ended;
use super::*;
use crate::call::Output;
use crate::config::check::parse_embedded;
use crate::state::State;
use crate::state::checkpoints::{CheckpointEntry, Record};
use crate::state::tests::Scratch;
use crate::transport::{Arrival, Work};
use crate::worker::WorkerCommand;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::UdpSocket;
use tokio::time::timeout;

const BOUND: Duration = Duration::from_secs(10);

const ECHO: &str = "[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n\
    [web]\nlisten = \"127.0.0.1:0\"\n[sip]\nudp = \"127.0.0.1:0\"\n\
    [media]\nbrowser_port = 0\nworkers = 1\nports = \"25000-25099\"\n\
    [trunk.t]\nuri = \"sip:127.0.0.1:5099\"\nallow = [\"127.0.0.1\"]\ncontext = \"in\"\n";

/// A node whose trunk is this machine and hears itself.
async fn echo() -> Node {
    Node::start(echo_config()).await.expect("it starts")
}

fn echo_config() -> Config {
    let plan = "[[route]]\nname = \"e\"\nmatch = \".\"\ndo = [{ echo = true }]\n";
    parse_embedded(ECHO, &[("in", plan)]).unwrap_or_else(|p| panic!("{p}")).0
}

/// What browsers know the gateway by, twice: a node that stops lets go of its state directory.
#[tokio::test]
async fn the_next_start_shows_the_same_certificate() {
    let scratch = Scratch::new("same-certificate");
    let config = || Config { state_dir: Some(scratch.0.join("state")), ..echo_config() };
    let kept = || std::fs::read(scratch.0.join("state/dtls")).expect("a certificate");
    Node::start(config()).await.expect("it starts").stop().await;
    let first = kept();
    let node = Node::start(config()).await.expect("it starts");
    assert!(
        State::open(config().state_dir.as_deref(), RECORDS, Default::default()).directory.is_none()
    );
    node.stop().await;
    assert!(kept() == first, "it was taken up, not made again");
}

/// A process that was killed between the end of a call and the writing of its record; and what it
/// left that cannot be read.
#[tokio::test]
async fn a_record_that_waited_is_written_once_and_what_is_unreadable_is_forgotten() {
    let scratch = Scratch::new("left-record");
    let (folder, file) = (scratch.0.join("state"), scratch.0.join("cdr.jsonl"));
    let config = || Config {
        state_dir: Some(folder.clone()),
        cdr_file: Some(file.clone()),
        ..echo_config()
    };
    let state = || State::open(Some(&folder), RECORDS, Default::default());
    let left = state();
    let record = ended("{\"call\":\"00000007\"}".to_owned());
    left.checkpoints.slot("00000007").put(record, BOUND);
    left.checkpoints.slot("00000009").put(b"junk".to_vec(), BOUND);
    left.checkpoints.slot("00000009.media").put(b"junk".to_vec(), BOUND);
    drop(left);
    for _ in 0..2 {
        Node::start(config()).await.expect("it starts").stop().await;
        let records = std::fs::read_to_string(&file).expect("a file");
        assert_eq!(records, "{\"call\":\"00000007\"}\n");
        assert_eq!(state().found, []);
    }
}

/// A process that comes too late: more may have been sent under a call's keys than was reserved.
#[tokio::test]
async fn media_older_than_its_lease_is_not_resumed() {
    for stale in [false, true] {
        let scratch = Scratch::new(if stale { "stale-media" } else { "fresh-media" });
        let folder = scratch.0.join("state");
        let config = || Config { state_dir: Some(folder.clone()), ..echo_config() };
        let config = |udp| Config { udp, ..config() };
        let node = Node::start(config(Some(SocketAddr::from(([127, 0, 0, 1], 0))))).await;
        let node = node.expect("it starts");
        let (socket, media) = (
            UdpSocket::bind("127.0.0.1:0").await.expect("a socket"),
            UdpSocket::bind("127.0.0.1:0").await.expect("a socket"),
        );
        let port = media.local_addr().expect("bound").port();
        let at = media_of(&call(&socket, node.udp.expect("UDP"), 1, port).await);
        let mut sequence = 0;
        is_echoed(&media, at, &mut sequence).await;
        // Its media is on disk a moment after it was answered.
        let (udp, answered) = (node.udp, tokio::time::Instant::now());
        while answered.elapsed() < Duration::from_millis(500) {
            is_echoed(&media, at, &mut sequence).await;
        }
        node.stop().await;
        let left = State::open(Some(&folder), RECORDS, Default::default());
        let of_media = |e: &&CheckpointEntry| e.name.ends_with(".media");
        let kept = left.found.iter().find(of_media).expect("its media is kept");
        let Record::Fresh(bytes) = &kept.record else { panic!("{kept:?}") };
        if stale {
            left.checkpoints.slot(&kept.name).put(bytes.clone(), Duration::ZERO);
        }
        drop(left);
        let node = Node::start(config(udp)).await.expect("it starts again");
        if stale {
            until(&socket, "BYE ").await;
        } else {
            is_echoed(&media, at, &mut sequence).await;
        }
        node.stop().await;
    }
}

/// As another version would have left the one call there is: its own words follow the stable ones.
fn as_another_version_left_it(folder: &Path) {
    let ours = State::open(Some(folder), RECORDS, Default::default());
    let of_call = |e: &&CheckpointEntry| !e.name.ends_with(".media");
    let kept = ours.found.iter().find(of_call).expect("its signalling is kept").clone();
    let Record::Fresh(mut bytes) = kept.record else { panic!("{:?}", kept.record) };
    drop(ours);
    bytes.truncate(bytes.len() - 200);
    bytes.extend_from_slice(&[0xff; 99]);
    let theirs = State::open(Some(folder), RECORDS + 1, Default::default());
    theirs.checkpoints.slot(&kept.name).put(bytes, BOUND);
}

/// A version that kept more of calls than this one knows, or less: they are ended, not left.
#[tokio::test]
async fn calls_that_another_version_kept_are_ended_with_a_record() {
    let scratch = Scratch::new("other-version");
    let (folder, file) = (scratch.0.join("state"), scratch.0.join("cdr.jsonl"));
    let config = |udp| Config {
        state_dir: Some(folder.clone()),
        cdr_file: Some(file.clone()),
        udp: Some(udp),
        ..echo_config()
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let node = Node::start(config(any)).await.expect("it starts");
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let at = node.udp.expect("UDP");
    call(&socket, at, 1, 4_000).await;
    tokio::time::timeout(BOUND, async {
        while node.gauges.borrow().calls == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it talks");
    node.stop().await;
    as_another_version_left_it(&folder);
    let node = Node::start(config(at)).await.expect("it starts again");
    let bye = until(&socket, "BYE ").await;
    assert!(bye.contains("Call-ID: 1\r\n") && bye.contains("another version kept it"), "{bye}");
    let own = socket.local_addr().expect("bound");
    let ok = bye.replacen(bye.lines().next().expect("a line"), "SIP/2.0 200 OK", 1);
    socket.send_to(ok.as_bytes(), at).await.expect("sent");
    assert!(bye.contains(&format!("sip:a@{own}")), "{bye}");
    node.stop().await;
    let records = std::fs::read_to_string(&file).expect("a file");
    assert_eq!(records.lines().count(), 1, "{records}");
    assert!(records.contains("WT-5006") && records.contains("\"answer\":\"2"), "{records}");
    assert_eq!(State::open(Some(&folder), RECORDS, Default::default()).found, []);
}

/// One of them still rang: the caller and the telephone both learn that it is over.
#[tokio::test]
async fn a_call_that_rang_when_another_version_kept_it_rings_nowhere_any_more() {
    let scratch = Scratch::new("other-version-ringing");
    let (folder, file) = (scratch.0.join("state"), scratch.0.join("cdr.jsonl"));
    let far = UdpSocket::bind("127.0.0.2:0").await.expect("a socket");
    let of_far = format!(
        "{ECHO}[trunk.far]\nuri = \"sip:{}\"\nallow = [\"127.0.0.2\"]\n",
        far.local_addr().expect("bound")
    );
    let plan = "[[route]]\nname = \"f\"\nmatch = \".\"\ndo = [{ dial = [\"trunk:far\"] }]\n";
    let config = |udp| Config {
        state_dir: Some(folder.clone()),
        cdr_file: Some(file.clone()),
        udp: Some(udp),
        ..parse_embedded(&of_far, &[("in", plan)]).unwrap_or_else(|p| panic!("{p}")).0
    };
    let node = Node::start(config(SocketAddr::from(([127, 0, 0, 1], 0)))).await;
    let (node, socket) = (node.expect("it starts"), UdpSocket::bind("127.0.0.1:0").await);
    let (at, socket) = (node.udp.expect("UDP"), socket.expect("a socket"));
    socket.send_to(invite(&socket, 1, 4_000).as_bytes(), at).await.expect("sent");
    let there = until(&far, "INVITE ").await;
    let named = |text: &str, name: &str| {
        text.lines().find(|line| line.starts_with(name)).expect(name).to_owned()
    };
    let kept = ["Via:", "From:", "Call-ID:", "CSeq:"].map(|name| named(&there, name)).join("\r\n");
    let to = named(&there, "To:");
    let rings = format!(
        "SIP/2.0 180 Ringing\r\n{kept}\r\n{to};tag=far\r\nContact: <sip:f@{}>\r\n\
         Content-Length: 0\r\n\r\n",
        far.local_addr().expect("bound")
    );
    far.send_to(rings.as_bytes(), at).await.expect("sent");
    until(&socket, "SIP/2.0 180").await;
    // It is on disk a moment later; nobody hears anything of that.
    let more = timeout(Duration::from_millis(300), far.recv(&mut [0; 4_096])).await;
    assert!(more.is_err(), "the INVITE was answered");
    node.stop().await;
    as_another_version_left_it(&folder);
    let node = Node::start(config(at)).await.expect("it starts again");
    let refusal = until(&socket, "SIP/2.0 5").await;
    assert!(refusal.contains("Call-ID: 1\r\n"), "{refusal}");
    let cancel = until(&far, "CANCEL ").await;
    for name in ["Via:", "From:", "Call-ID:"] {
        assert_eq!(named(&cancel, name), named(&there, name), "of the INVITE (RFC 3261 9.1)");
    }
    node.stop().await;
    let records = std::fs::read_to_string(&file).expect("a file");
    assert_eq!(records.lines().count(), 1, "{records}");
    assert!(records.contains("WT-5006") && records.contains("\"answer\":null"), "{records}");
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_used_costs_no_start() {
    let config = Config { state_dir: Some("/proc/self/state".into()), ..echo_config() };
    let node = Node::start(config).await.expect("it starts");
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    call(&socket, node.udp.expect("UDP"), 1, 4_000).await;
    node.stop().await;
}

/// Receives until something begins like this.
async fn until(socket: &UdpSocket, wanted: &str) -> String {
    let mut buf = [0; 4_096];
    loop {
        let n = timeout(BOUND, socket.recv(&mut buf)).await.expect(wanted).expect("received");
        let text = String::from_utf8_lossy(&buf[..n]);
        if text.starts_with(wanted) {
            return text.into_owned();
        }
    }
}

/// A request of the call of this number.
fn request(socket: &UdpSocket, n: u8, (method, body): (&str, &str), tag: &str) -> String {
    let own = socket.local_addr().expect("bound");
    format!(
        "{method} sip:1@x SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{method}{n}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@{own}>;tag={n}\r\nTo: <sip:1@x>{tag}\r\n\
         Call-ID: {n}\r\nCSeq: 1 {method}\r\nContact: <sip:a@{own}>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn invite(socket: &UdpSocket, n: u8, media: u16) -> String {
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio {media} RTP/AVP 0\r\n"
    );
    request(socket, n, ("INVITE", &sdp), "")
}

async fn call(socket: &UdpSocket, to: SocketAddr, n: u8, media: u16) -> String {
    socket.send_to(invite(socket, n, media).as_bytes(), to).await.expect("sent");
    let ok = until(socket, "SIP/2.0 200").await;
    let tag = ok.split_once("\r\nTo: <sip:1@x>;tag=").expect("a tag").1;
    let tag = format!(";tag={}", tag.split(['\r', ';']).next().unwrap_or_default());
    let ack = request(socket, n, ("ACK", ""), &tag);
    socket.send_to(ack.as_bytes(), to).await.expect("sent");
    ok
}

/// Where media of a call goes.
fn media_of(ok: &str) -> SocketAddr {
    let port = ok.split_once("m=audio ").and_then(|(_, rest)| rest.split_once(' '));
    let port = port.and_then(|(port, _)| port.parse().ok()).expect("a port");
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Speaks until it is heard back.
async fn is_echoed(media: &UdpSocket, to: SocketAddr, sequence: &mut u16) {
    let mut buf = [0; 2_048];
    let end = tokio::time::Instant::now() + BOUND;
    while tokio::time::Instant::now() < end {
        let mut packet = [0x80u8; 172];
        packet[1] = 0;
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&(u32::from(*sequence) * 160).to_be_bytes());
        *sequence += 1;
        media.send_to(&packet, to).await.expect("sent");
        let wait = timeout(Duration::from_millis(20), media.recv(&mut buf)).await;
        if wait.is_ok_and(|n| n.is_ok_and(|n| n == 172)) {
            return;
        }
    }
    panic!("nothing is heard");
}

async fn kill_worker(node: &Node) {
    let kill = Work(Box::new(|_, turn| {
        turn.out.push(Output::Media { worker: 0, command: WorkerCommand::Panic });
    }));
    node.inbox.give(Arrival::Work(kill)).await;
}

#[tokio::test]
async fn a_worker_that_dies_is_replaced_and_its_calls_continue() {
    let node = echo().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let media = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let port = media.local_addr().expect("bound").port();
    let to = node.udp.expect("UDP");
    let at = media_of(&call(&socket, to, 1, port).await);
    let mut sequence = 0;
    // Longer than it takes until the next thread would know of it.
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_millis(1_500) {
        is_echoed(&media, at, &mut sequence).await;
    }
    kill_worker(&node).await;
    // What the dead thread had still sent.
    while timeout(Duration::from_millis(200), media.recv(&mut [0; 172])).await.is_ok() {}
    is_echoed(&media, at, &mut sequence).await;
    call(&socket, to, 2, port).await;
    // Dying again at once, it may be a call that kills it.
    kill_worker(&node).await;
    until(&socket, "BYE ").await;
    call(&socket, to, 3, port).await;
    node.stop().await;
}

#[tokio::test]
async fn a_core_that_dies_is_no_live_process() {
    let mut node = echo().await;
    node.inbox.give(Arrival::Work(Work(Box::new(|_, _| panic!("a bug"))))).await;
    timeout(BOUND, node.core_ended()).await.expect("it is noticed");
    let mut probe = TcpStream::connect(node.web).await.expect("it listens");
    probe.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    let mut answer = [0; 12];
    probe.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 503");
    node.stop().await;
}
