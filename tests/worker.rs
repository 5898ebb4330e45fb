//! The worker over real sockets: ports taken and given back, exhaustion told, quarantine kept.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use webtrunk::media::LegId;
use webtrunk::media::dtls::Identity;
use webtrunk::media::stun::binding_request;
use webtrunk::sdp::offer_answer::Ice;
use webtrunk::worker::ports::{PortRange, QUARANTINE};
use webtrunk::worker::{Command, Notice, OpenKind, Setup, Streamed, Worker};

const ANY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn start(ports: &Arc<PortRange>) -> (Worker, Receiver<(u64, Notice)>) {
    let (tell, told) = channel();
    let identity = Arc::new(Identity::generate().expect("a certificate"));
    let tell = std::sync::Mutex::new(tell);
    let browser = SocketAddr::new(ANY, 0);
    let setup = Setup::new("test", browser, Streamed::Own, ports.clone(), identity);
    let worker = Worker::start(setup, move |session, notice| {
        let _ = tell.lock().expect("sound").send((session, notice));
    });
    (worker.expect("it starts"), told)
}

fn open(session: u64) -> Command {
    Command::Open {
        session,
        end: LegId(1),
        kind: OpenKind::Trunk { nat: false },
        ssrc: 1,
        cname: "c".into(),
        seed: 1,
    }
}

fn next(told: &Receiver<(u64, Notice)>) -> (u64, Notice) {
    told.recv_timeout(Duration::from_secs(10)).expect("a notice")
}

#[test]
fn every_port_comes_back_and_a_full_range_is_told() {
    let ports = Arc::new(PortRange::new(ANY, 24_000..=24_019, 7));
    let all = ports.free();
    assert_eq!(all, 10);
    let (worker, told) = start(&ports);
    let mut taken = Vec::new();
    for session in 0..10 {
        match worker.command(open(session)).expect("it keeps up") {
            Some(Notice::Opened { address, .. }) => taken.push(address.port()),
            other => panic!("{other:?}"),
        }
    }
    assert!(
        taken.iter().all(|p| p % 2 == 0) && taken.windows(2).any(|w| w[1] != w[0] + 2),
        "even, and not in order: {taken:?}"
    );
    assert!(
        matches!(worker.command(open(99)), Ok(Some(Notice::OpenFailed { .. }))),
        "the eleventh is refused"
    );
    for session in 0..10 {
        assert!(matches!(worker.command(Command::Close { session }), Ok(None)));
        worker.wake_for_all();
        assert!(matches!(next(&told), (_, Notice::Closed { .. })));
    }
    assert_eq!(ports.free(), all, "all ports are back");
    assert!(
        ports.take(Instant::now()).is_err(),
        "but they rest first, so that no stale packet is heard in the next call"
    );
}

#[test]
fn a_rested_pair_serves_again_and_has_forgotten_its_last_call() {
    let ports = PortRange::new(ANY, 24_100..=24_101, 7);
    let pair = ports.take(Instant::now()).expect("free");
    let (port, now) = (pair.port, Instant::now());
    let old_peer = UdpSocket::bind((ANY, 0)).expect("a port");
    old_peer.send_to(b"stale", (ANY, port)).expect("sent");
    ports.give_back(pair, now);
    assert!(ports.take(now).is_err(), "it rests");
    let pair = ports.take(now + QUARANTINE).expect("rested");
    assert_eq!(pair.port, port);
    assert!(pair.rtp.recv_from(&mut [0; 8]).is_err(), "nothing of the last call is left in it");
    drop(pair);
    UdpSocket::bind((ANY, port)).expect("a pair that is dropped is closed");
}

#[test]
fn a_pair_whose_old_peer_does_not_stop_is_bound_anew() {
    let ports = PortRange::new(ANY, 24_200..=24_201, 7);
    let pair = ports.take(Instant::now()).expect("free");
    let (port, now) = (pair.port, Instant::now());
    let old_peer = UdpSocket::bind((ANY, 0)).expect("a port");
    (0..100).for_each(|_| drop(old_peer.send_to(b"stale", (ANY, port))));
    ports.give_back(pair, now);
    let pair = ports.take(now + QUARANTINE).expect("bound anew");
    assert_eq!((pair.port, pair.rtp.recv_from(&mut [0; 8]).is_err()), (port, true));
}

fn framed(datagram: &[u8]) -> Vec<u8> {
    [&(datagram.len() as u16).to_be_bytes()[..], datagram].concat()
}

/// RFC 6544 and RFC 4571: whose network lets no UDP out comes to the same number over TCP.
#[test]
fn a_browser_comes_over_tcp_and_a_stranger_is_shown_the_door() {
    let ports = Arc::new(PortRange::new(ANY, 24_300..=24_319, 7));
    let ice = Ice { ufrag: "ours".into(), pwd: "ours-password-of-22-chars".into() };
    // The number is the system's choice for UDP; over TCP somebody may have it.
    let (_worker, address) = std::iter::repeat_with(|| start(&ports).0)
        .take(10)
        .find_map(|worker| {
            let opened = worker.command(Command::Open {
                session: 1,
                end: LegId(0),
                kind: OpenKind::Browser { ice: ice.clone() },
                ssrc: 1,
                cname: "c".into(),
                seed: 1,
            });
            let Ok(Some(Notice::Opened { address, tcp, .. })) = opened else {
                panic!("{opened:?}")
            };
            tcp.then_some((worker, address))
        })
        .expect("a number that is free over TCP");
    let to = SocketAddr::from(([127, 0, 0, 1], address.port()));
    let connect = || {
        let stream = TcpStream::connect(to).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        stream
    };
    let check = framed(&binding_request([7; 12], "ours:theirs", &ice.pwd, true));
    let mut browser = connect();
    // In pieces, and two at once.
    browser
        .write_all(&check[..1])
        .and_then(|()| browser.write_all(&check[1..9]))
        .and_then(|()| browser.write_all(&[&check[9..], &check[..]].concat()))
        .expect("sent");
    for _ in 0..2 {
        let mut length = [0; 2];
        browser.read_exact(&mut length).expect("an answer");
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        browser.read_exact(&mut answer).expect("all of it");
        assert_eq!(answer[..2], [1, 1], "a success response");
    }
    for wrong in [
        framed(&binding_request([7; 12], "nobody:theirs", &ice.pwd, true)),
        framed(b"GET / HTTP/1.1\r\n\r\n"),
        vec![0xff, 0xff, 1],
        framed(&[]),
    ] {
        let mut stranger = connect();
        stranger.write_all(&wrong).expect("sent");
        let mut byte = [0];
        assert!(matches!(stranger.read(&mut byte), Ok(0) | Err(_)), "it is closed: {wrong:?}");
    }
    let mut length = [0; 2];
    browser
        .write_all(&check)
        .and_then(|()| browser.read_exact(&mut length))
        .expect("the browser is still heard");
}

/// Binds everywhere, and is reached at an address that is not the one the kernel answers from.
#[test]
fn a_check_is_answered_from_the_address_it_was_sent_to() {
    let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let ports = Arc::new(PortRange::new(everywhere, 24_400..=24_419, 7));
    let identity = Arc::new(Identity::generate().expect("a certificate"));
    let at = SocketAddr::new(everywhere, 0);
    let setup = Setup::new("test", at, Streamed::No, ports.clone(), identity);
    let (tell, told) = channel();
    let tell = std::sync::Mutex::new(tell);
    let worker = Worker::start(setup, move |session, notice| {
        let _ = tell.lock().expect("sound").send((session, notice));
    })
    .expect("it starts");
    let ice = Ice { ufrag: "ours".into(), pwd: "ours-password-of-22-chars".into() };
    let (kind, cname) = (OpenKind::Browser { ice: ice.clone() }, "c".to_owned());
    let open = Command::Open { session: 1, end: LegId(0), kind, ssrc: 1, cname, seed: 1 };
    assert!(matches!(worker.command(open), Ok(Some(Notice::Opened { .. }))));
    let browser = UdpSocket::bind("127.0.0.1:0").expect("a port");
    browser.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let mut buf = [0; 500];
    // The second address, the first, and the second again.
    for ip in [[127, 0, 0, 9], [127, 0, 0, 1], [127, 0, 0, 9]] {
        let to = SocketAddr::from((ip, worker.browser_address.port()));
        let check = binding_request([7; 12], "ours:theirs", &ice.pwd, true);
        browser.send_to(&check, to).expect("sent");
        assert_eq!(browser.recv_from(&mut buf).expect("an answer").1, to);
    }
    // A trunk's end, told where from.
    let kind = OpenKind::Trunk { nat: false };
    let open =
        Command::Open { session: 2, end: LegId(1), kind, ssrc: 1, cname: "c".into(), seed: 1 };
    assert!(matches!(worker.command(open), Ok(Some(Notice::Opened { .. }))));
    let local = Some(IpAddr::from([127, 0, 0, 9]));
    let source = Command::Source { session: 2, end: LegId(1), local };
    assert!(matches!(worker.command(source), Ok(None)));
    for session in [1, 2] {
        assert!(matches!(worker.command(Command::Close { session }), Ok(None)));
        worker.wake_for_all();
        while !matches!(next(&told), (_, Notice::Closed { .. })) {}
    }
}
