//! The worker over real sockets: ports taken and returned, exhaustion reported, quarantine kept.

#[path = "media/agreed.rs"]
mod agreed;

use agreed::agreed;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use webtrunk::codec::Codec;
use webtrunk::media::dtls::{DtlsIdentity, Handshake};
use webtrunk::media::stun::{BindingRequest, binding_request};
use webtrunk::media::{EndpointSettings, LegId, SessionSnapshot};
use webtrunk::rtp::Packet;
use webtrunk::rtp::packet::write_header;
use webtrunk::rtp::srtp::{Profile, Protect, Unprotect};
use webtrunk::sdp::crypto::{CryptoKeys, LONGEST, Sdes};
use webtrunk::sdp::offer_answer::{Ice, Remote};
use webtrunk::worker::ports::{PortRange, QUARANTINE};
use webtrunk::worker::{
    MediaSnapshot, NotResumed, Notice, OpenKind, Streamed, Worker, WorkerCommand, WorkerSetup,
};

const ANY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn start(ports: &Arc<PortRange>) -> (Worker, Receiver<(u64, Notice)>) {
    let (tell, notices) = channel();
    let identity = Arc::new(DtlsIdentity::generate().expect("a certificate"));
    let tell = std::sync::Mutex::new(tell);
    let browser = SocketAddr::new(ANY, 0);
    let setup = WorkerSetup::new("test", browser, Streamed::Own, ports.clone(), identity);
    let worker = Worker::start(setup, move |session, notice| {
        let _ = tell.lock().expect("sound").send((session, notice));
    });
    (worker.expect("it starts"), notices)
}

fn open(session: u64) -> WorkerCommand {
    WorkerCommand::Open {
        session,
        end: LegId(1),
        kind: OpenKind::Trunk { nat: false },
        ssrc: 1,
        cname: "c".into(),
        seed: 1,
    }
}

fn next(notices: &Receiver<(u64, Notice)>) -> (u64, Notice) {
    notices.recv_timeout(Duration::from_secs(10)).expect("a notice")
}

#[test]
fn every_port_is_returned_and_an_exhausted_range_is_reported() {
    let ports = Arc::new(PortRange::new(ANY, 24_000..=24_019, 7));
    let all = ports.free();
    assert_eq!(all, 10);
    let (worker, notices) = start(&ports);
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
        assert!(matches!(worker.command(WorkerCommand::Close { session }), Ok(None)));
        worker.wake_for_all();
        assert!(matches!(next(&notices), (_, Notice::Closed { .. })));
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

/// The next datagram in a stream, if one comes.
fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut datagram = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut datagram).ok().map(|()| datagram)
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
            let opened = worker.command(WorkerCommand::Open {
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
    let identity = Arc::new(DtlsIdentity::generate().expect("a certificate"));
    let at = SocketAddr::new(everywhere, 0);
    let setup = WorkerSetup::new("test", at, Streamed::No, ports.clone(), identity);
    let (tell, notices) = channel();
    let tell = std::sync::Mutex::new(tell);
    let worker = Worker::start(setup, move |session, notice| {
        let _ = tell.lock().expect("sound").send((session, notice));
    })
    .expect("it starts");
    let ice = Ice { ufrag: "ours".into(), pwd: "ours-password-of-22-chars".into() };
    let (kind, cname) = (OpenKind::Browser { ice: ice.clone() }, "c".to_owned());
    let open = WorkerCommand::Open { session: 1, end: LegId(0), kind, ssrc: 1, cname, seed: 1 };
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
    // A trunk's leg, with its expected source.
    let kind = OpenKind::Trunk { nat: false };
    let open = WorkerCommand::Open {
        session: 2,
        end: LegId(1),
        kind,
        ssrc: 1,
        cname: "c".into(),
        seed: 1,
    };
    assert!(matches!(worker.command(open), Ok(Some(Notice::Opened { .. }))));
    let local = Some(IpAddr::from([127, 0, 0, 9]));
    let source = WorkerCommand::Source { session: 2, end: LegId(1), local };
    assert!(matches!(worker.command(source), Ok(None)));
    for session in [1, 2] {
        assert!(matches!(worker.command(WorkerCommand::Close { session }), Ok(None)));
        worker.wake_for_all();
        while !matches!(next(&notices), (_, Notice::Closed { .. })) {}
    }
}

fn keys(of: u8) -> CryptoKeys {
    CryptoKeys::new(Profile::AeadAes128Gcm, &[of; LONGEST])
}

/// What was agreed with a peer of PCMU.
fn plain(remote: Remote) -> EndpointSettings {
    agreed(Codec::Pcmu, remote, 0)
}

/// A trunk's end with keys, that hears itself.
fn echoes(worker: &Worker, peer: SocketAddr) -> u16 {
    let port = match worker.command(open(7)) {
        Ok(Some(Notice::Opened { address, .. })) => address.port(),
        other => panic!("{other:?}"),
    };
    let sdes = Some(Box::new(Sdes { ours: keys(1), theirs: keys(2) }));
    let settings = plain(Remote::Rtp { rtp: peer, rtcp: peer, sdes });
    for command in [
        WorkerCommand::Configure { session: 7, end: LegId(1), settings: Box::new(settings) },
        WorkerCommand::Echo { session: 7, end: LegId(1), delay: Duration::ZERO },
        WorkerCommand::Journal { session: 7 },
    ] {
        worker.command(command).expect("it keeps up");
    }
    worker.wake();
    port
}

/// The newest snapshot, confirmed.
fn snapshot(worker: &Worker, notices: &Receiver<(u64, Notice)>) -> MediaSnapshot {
    let mut newest = loop {
        if let (7, Notice::Snapshot(snapshot)) = next(notices) {
            break snapshot;
        }
    };
    while let Ok((_, notice)) = notices.recv_timeout(Duration::from_millis(100)) {
        if let Notice::Snapshot(snapshot) = notice {
            newest = snapshot;
        }
    }
    let number = newest.session.number;
    worker.command(WorkerCommand::Confirm { session: 7, number }).expect("it keeps up");
    worker.wake();
    newest.as_ref().clone()
}

/// A peer with keys.
struct Peer {
    socket: UdpSocket,
    protect: Protect,
    unprotect: Unprotect,
    sequence: u16,
}

impl Peer {
    fn new() -> Peer {
        let socket = UdpSocket::bind((ANY, 0)).expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
        let (ours, theirs, profile) = (keys(1), keys(2), Profile::AeadAes128Gcm);
        Peer {
            socket,
            protect: Protect::new(profile, theirs.key(), theirs.salt()),
            unprotect: Unprotect::new(profile, ours.key(), ours.salt()),
            sequence: 0,
        }
    }

    /// The next packet it speaks.
    fn speaks(&mut self) -> Vec<u8> {
        let mut packet = vec![0u8; 200];
        let head = packet.first_chunk_mut().expect("room");
        write_header(head, false, 0, self.sequence, u32::from(self.sequence) * 160, 9);
        self.sequence += 1;
        let len = self.protect.rtp(&mut packet, 172).expect("room");
        packet.truncate(len);
        packet
    }

    fn send(&mut self, to: SocketAddr) {
        let packet = self.speaks();
        self.socket.send_to(&packet, to).expect("sent");
    }

    /// Comes by a connection, and speaks there until it hears itself: the connection, and the
    /// number of the packet it heard.
    fn comes_over_tcp(&mut self, to: SocketAddr, check: &[u8]) -> (TcpStream, u16) {
        let mut stream = TcpStream::connect(to).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        stream.write_all(&framed(check)).expect("sent");
        assert_eq!(frame(&mut stream).expect("an answer")[..2], [1, 1], "a success response");
        for _ in 0..50 {
            let packet = framed(&self.speaks());
            stream.write_all(&packet).expect("sent");
            let Some(mut heard) = frame(&mut stream) else { continue };
            // Reports come too, and checks.
            if heard[0] >= 128 && heard[1] & 0x7f == 0 {
                let len = self.unprotect.rtp(&mut heard).expect("new, and authentic");
                let packet = Packet::parse(&heard[..len], true).expect("RTP");
                return (stream, packet.sequence);
            }
        }
        panic!("it hears itself");
    }

    /// The next packet of ours that is heard, or that none is: its SSRC and sequence number.
    fn hears(&mut self) -> Option<(u32, u16)> {
        let mut buf = [0; 1_500];
        loop {
            let n = self.socket.recv(&mut buf).ok()?;
            // Reports come too.
            if buf[1] & 0x7f == 0 {
                let len = self.unprotect.rtp(&mut buf[..n]).expect("new, and authentic");
                let packet = Packet::parse(&buf[..len], true).expect("RTP");
                return Some((packet.ssrc, packet.sequence));
            }
        }
    }

    /// Speaks until it hears itself.
    fn is_echoed(&mut self, to: SocketAddr) -> (u32, u16) {
        let mut tries = (0..200).filter_map(|_| {
            self.send(to);
            self.hears()
        });
        tries.next().expect("it hears itself")
    }
}

#[test]
fn a_session_continues_in_another_process_at_its_port_once_it_has_its_own_record() {
    let mut peer = Peer::new();
    let (range, address) = (24_200..=24_203, peer.socket.local_addr().expect("bound"));
    let ports = Arc::new(PortRange::new(ANY, range.clone(), 7));
    let (worker, notices) = start(&ports);
    let at = SocketAddr::new(ANY, echoes(&worker, address));
    let (ssrc, _) = peer.is_echoed(at);
    let kept = snapshot(&worker, &notices);
    let (_, last) = peer.is_echoed(at);
    drop((worker, ports));
    let bytes = kept.session.to_bytes();
    let session = SessionSnapshot::from_bytes(&bytes).expect("whole");
    let ports = Arc::new(PortRange::new(ANY, range, 8));
    let (worker, notices) = start(&ports);
    let restored = worker.restore(7, MediaSnapshot { session, ..kept.clone() }, true);
    assert!(matches!(restored, Ok(None)), "{restored:?}");
    worker.wake();
    assert!(
        matches!(next(&notices), (7, Notice::Restored { age }) if age < Duration::from_secs(5))
    );
    assert_eq!(ports.free(), 1, "at its own port");
    for _ in 0..5 {
        peer.send(at);
    }
    assert_eq!(peer.hears(), None, "the next process could still find the old record");
    snapshot(&worker, &notices);
    let (same, first) = peer.is_echoed(at);
    let jump = first.wrapping_sub(last);
    assert!(same == ssrc && 0 < jump && jump < 3_000, "{last}, and then {first}");
    // Its port is its own.
    assert!(matches!(
        worker.restore(8, kept.clone(), true),
        Ok(Some(Notice::NotRestored(NotResumed::TrunkPort { .. })))
    ));
    worker.command(WorkerCommand::Close { session: 7 }).expect("it keeps up");
    worker.wake_for_all();
    while !matches!(next(&notices), (7, Notice::Closed { .. })) {}
    assert_eq!(ports.free(), 2);
}

#[test]
fn sockets_of_another_process_are_its_calls_for_a_while() {
    let ports = PortRange::new(ANY, 24_300..=24_303, 7);
    let elsewhere = PortRange::new(ANY, 24_300..=24_301, 7);
    let now = Instant::now();
    let pair = elsewhere.claim(24_300).expect("free");
    let socket = pair.rtp.try_clone().expect("cloned");
    assert!(ports.claim(24_300).is_err(), "bound by somebody else");
    ports.adopt(pair, now);
    assert_eq!(ports.free(), 2);
    assert!(ports.take(now).is_ok_and(|pair| pair.port == 24_302), "the other one");
    let claimed = ports.claim(24_300).expect("adopted");
    assert_eq!(claimed.rtp.local_addr().expect("bound"), socket.local_addr().expect("bound"));
    assert!(ports.claim(24_300).is_err(), "once");
    assert!(ports.claim(24_301).is_err(), "no pair begins there");
    // One of another node's range serves the call that had it there, and no other.
    let free = ports.free();
    let theirs = ports.claim(24_400).expect("free");
    assert!(ports.claim(24_400).is_err(), "once");
    ports.give_back(theirs, now);
    assert_eq!(ports.free(), free);
    assert!(ports.claim(24_400).is_ok(), "closed at once");
}

/// A browser's end that is reached at an address the kernel would not answer from.
struct Distant {
    peer: Peer,
    at: SocketAddr,
}

impl Distant {
    /// The browser checks, shakes hands, and hears itself.
    fn connect(worker: &Worker, ours: &DtlsIdentity) -> Distant {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
        let at = SocketAddr::from(([127, 0, 0, 9], worker.browser_address.port()));
        let fingerprint = |of: &DtlsIdentity| {
            let digits = of.fingerprint.split(':');
            let bytes: Vec<u8> =
                digits.map(|d| u8::from_str_radix(d, 16).expect("hexadecimal")).collect();
            <[u8; 32]>::try_from(bytes).expect("SHA-256")
        };
        let theirs = Arc::new(DtlsIdentity::generate().expect("a certificate"));
        let ice = Ice { ufrag: "ours".into(), pwd: "ours-password-of-22-chars".into() };
        let settings = plain(Remote::Dtls {
            ice: Ice { ufrag: "theirs".into(), pwd: "their-password-of-22-char".into() },
            local_ice: ice.clone(),
            fingerprints: vec![fingerprint(&theirs)],
            active: false,
            tls_id: None,
        });
        let (end, cname) = (LegId(1), "c".to_owned());
        let kind = OpenKind::Browser { ice: ice.clone() };
        for command in [
            WorkerCommand::Open { session: 7, end, kind, ssrc: 1, cname, seed: 1 },
            WorkerCommand::Configure { session: 7, end, settings: Box::new(settings) },
            WorkerCommand::Echo { session: 7, end, delay: Duration::ZERO },
            WorkerCommand::Journal { session: 7 },
        ] {
            worker.command(command).expect("it keeps up");
        }
        worker.wake();
        let check = binding_request([7; 12], "ours:theirs", &ice.pwd, true);
        socket.send_to(&check, at).expect("sent");
        let mut buf = [0; 2_048];
        assert_eq!(socket.recv_from(&mut buf).expect("an answer").1, at);
        let mut handshake = Handshake::new(theirs, vec![fingerprint(ours)]);
        let mut send = |bytes: &[u8]| {
            socket.send_to(bytes, at).expect("sent");
        };
        handshake.start(Instant::now(), &mut send);
        let keys = loop {
            let (n, from) = socket.recv_from(&mut buf).expect("the handshake continues");
            assert_eq!(from, at);
            let now = Instant::now();
            if let Some(keys) = handshake.receive(now, &buf[..n], &mut send).expect("sound") {
                break keys;
            }
        };
        let (protect, unprotect) = (keys.protect, keys.unprotect);
        Distant { peer: Peer { socket, protect, unprotect, sequence: 0 }, at }
    }

    /// Speaks until it hears itself; returns where from.
    fn hears_from(&mut self) -> SocketAddr {
        let mut buf = [0; 2_048];
        for _ in 0..200 {
            self.peer.send(self.at);
            match self.peer.socket.recv_from(&mut buf) {
                Ok((_, from)) if buf[0] >= 128 && buf[1] & 0x7f == 0 => return from,
                _ => {}
            }
        }
        panic!("it hears itself");
    }
}

#[test]
fn a_browser_is_answered_from_the_address_it_chose_by_the_next_process_too() {
    let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let identity = Arc::new(DtlsIdentity::generate().expect("a certificate"));
    let start = |port: u16| {
        let ports = Arc::new(PortRange::new(everywhere, 24_440..=24_443, 7));
        let at = SocketAddr::new(everywhere, port);
        let setup = WorkerSetup::new("test", at, Streamed::No, ports, identity.clone());
        let (tell, notices) = channel();
        let tell = std::sync::Mutex::new(tell);
        let worker = Worker::start(setup, move |session, notice| {
            let _ = tell.lock().expect("sound").send((session, notice));
        });
        (worker.expect("it starts"), notices)
    };
    let (worker, notices) = start(0);
    let mut browser = Distant::connect(&worker, &identity);
    let kept = snapshot(&worker, &notices);
    assert_eq!(browser.hears_from(), browser.at);
    let port = worker.browser_address.port();
    drop(worker);
    let (worker, notices) = start(port);
    assert!(matches!(worker.restore(7, kept, true), Ok(None)));
    worker.wake();
    assert!(matches!(next(&notices), (7, Notice::Restored { .. })));
    snapshot(&worker, &notices);
    assert_eq!(browser.hears_from(), browser.at);
}

/// Its connection ended with the process. A browser makes another at once, and checks it.
#[test]
fn a_browser_over_tcp_is_heard_by_its_next_connection_to_the_next_process() {
    let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let identity = Arc::new(DtlsIdentity::generate().expect("a certificate"));
    // Free for datagrams and for connections.
    let both = || {
        let listener = TcpListener::bind((everywhere, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        UdpSocket::bind((everywhere, port)).ok().map(|_| port)
    };
    let port = std::iter::repeat_with(both).take(100).flatten().next().expect("a number");
    let start = || {
        let ports = Arc::new(PortRange::new(everywhere, 24_460..=24_463, 7));
        let at = SocketAddr::new(everywhere, port);
        let setup = WorkerSetup::new("test", at, Streamed::Own, ports, identity.clone());
        let (tell, notices) = channel();
        let tell = std::sync::Mutex::new(tell);
        let worker = Worker::start(setup, move |session, notice| {
            let _ = tell.lock().expect("sound").send((session, notice));
        });
        (worker.expect("it starts"), notices)
    };
    let check = binding_request([8; 12], "ours:theirs", "ours-password-of-22-chars", true);
    let (mut worker, mut notices) = start();
    let Distant { mut peer, at } = Distant::connect(&worker, &identity);
    let (mut stream, mut last) = peer.comes_over_tcp(at, &check);
    for _ in 0..3 {
        let kept = snapshot(&worker, &notices);
        drop(worker);
        assert!(matches!(stream.read(&mut [0; 4_096]), Ok(0) | Err(_)), "it ends with the process");
        (worker, notices) = start();
        assert!(matches!(worker.restore(7, kept, true), Ok(None)));
        worker.wake();
        assert!(matches!(next(&notices), (7, Notice::Restored { .. })));
        snapshot(&worker, &notices);
        let heard;
        (stream, heard) = peer.comes_over_tcp(at, &check);
        let jump = heard.wrapping_sub(last);
        assert!(0 < jump && jump < 3_000, "{last}, and then {heard}");
        last = heard;
    }
}

#[test]
fn so_many_commands_wait_for_a_worker_and_no_more() {
    const QUEUE: usize = 4_096;
    let ports = Arc::new(PortRange::new(ANY, 24_900..=24_919, 7));
    let (worker, notices) = start(&ports);
    let free = ports.free();
    // It sleeps until it is woken, or something is due.
    let full = (0..100 * QUEUE as u64)
        .find(|n| worker.command(WorkerCommand::Close { session: 1_000 + n }).is_err());
    assert!(full.is_some_and(|n| n >= QUEUE as u64), "{full:?}");
    let began = Instant::now();
    while worker.command(open(1)).is_err() {
        assert_eq!(ports.free(), free, "a call that is refused holds no port");
        assert!(began.elapsed() < Duration::from_secs(10));
        worker.wake_for_all();
        std::thread::yield_now();
    }
    // It may have taken one command only.
    while worker.command(WorkerCommand::Close { session: 1 }).is_err() {
        assert!(began.elapsed() < Duration::from_secs(10));
        worker.wake_for_all();
        std::thread::yield_now();
    }
    worker.wake_for_all();
    while !matches!(next(&notices), (1, Notice::Closed { .. })) {}
}

#[test]
fn a_browser_whose_nat_gives_it_another_port_hears_again_within_a_round_trip() {
    let identity = Arc::new(DtlsIdentity::generate().expect("a certificate"));
    let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let ports = Arc::new(PortRange::new(everywhere, 24_450..=24_453, 7));
    let at = SocketAddr::new(everywhere, 0);
    let setup = WorkerSetup::new("test", at, Streamed::No, ports, identity.clone());
    let worker = Worker::start(setup, |_, _| {}).expect("it starts");
    let mut browser = Distant::connect(&worker, &identity);
    browser.hears_from();
    for _ in 0..20 {
        let moved = UdpSocket::bind("127.0.0.1:0").expect("a port");
        moved.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        browser.peer.socket = moved;
        // Its next packet is not heard, and asked back from the address that it was sent to.
        browser.peer.send(browser.at);
        let mut buf = [0; 2_048];
        let (n, from) = browser.peer.socket.recv_from(&mut buf).expect("a check");
        assert_eq!(from, browser.at);
        let check = BindingRequest::parse(&buf[..n]).expect("a check");
        assert!(check.is_authentic("their-password-of-22-char"));
        let response = check.success(from, "their-password-of-22-char");
        browser.peer.socket.send_to(&response, browser.at).expect("sent");
        assert_eq!(browser.hears_from(), browser.at);
    }
}
