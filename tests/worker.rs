//! The worker over real sockets: ports taken and given back, exhaustion told, quarantine kept.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use webtrunk::media::EndId;
use webtrunk::media::dtls::Identity;
use webtrunk::worker::ports::{PortRange, QUARANTINE};
use webtrunk::worker::{Command, Notice, OpenKind, Worker};

const ANY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn start(ports: &Arc<PortRange>) -> (Worker, Receiver<(u64, Notice)>) {
    let (tell, told) = channel();
    let identity = Arc::new(Identity::generate().expect("a certificate"));
    let tell = std::sync::Mutex::new(tell);
    let worker = Worker::start("test", SocketAddr::new(ANY, 0), ports.clone(), identity, Arc::default(), move |session, notice| {
        let _ = tell.lock().expect("sound").send((session, notice));
    });
    (worker.expect("it starts"), told)
}

fn open(session: u64) -> Command {
    Command::Open { session, end: EndId(1), kind: OpenKind::Trunk { nat: false }, ssrc: 1, cname: "c".into(), seed: 1 }
}

fn next(told: &Receiver<(u64, Notice)>) -> (u64, Notice) {
    told.recv_timeout(Duration::from_secs(10)).expect("a notice")
}

#[test]
fn every_port_comes_back_and_a_full_range_is_told() {
    let ports = Arc::new(PortRange::new(ANY, (24_000, 24_019), 7));
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
    assert!(taken.iter().all(|p| p % 2 == 0) && taken.windows(2).any(|w| w[1] != w[0] + 2), "even, and not in order: {taken:?}");
    assert!(matches!(worker.command(open(99)), Ok(Some(Notice::OpenFailed { .. }))), "the eleventh is refused");
    for session in 0..10 {
        assert!(matches!(worker.command(Command::Close { session }), Ok(None)));
        worker.wake();
        assert!(matches!(next(&told), (_, Notice::Closed { .. })));
    }
    assert_eq!(ports.free(), all, "all ports are back");
    assert!(ports.take(Instant::now()).is_err(), "but they rest first, so that no stale packet is heard in the next call");
}

#[test]
fn a_rested_pair_serves_again_and_has_forgotten_its_last_call() {
    let ports = PortRange::new(ANY, (24_100, 24_101), 7);
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
    let ports = PortRange::new(ANY, (24_200, 24_201), 7);
    let pair = ports.take(Instant::now()).expect("free");
    let (port, now) = (pair.port, Instant::now());
    let old_peer = UdpSocket::bind((ANY, 0)).expect("a port");
    (0..100).for_each(|_| drop(old_peer.send_to(b"stale", (ANY, port))));
    ports.give_back(pair, now);
    let pair = ports.take(now + QUARANTINE).expect("bound anew");
    assert_eq!((pair.port, pair.rtp.recv_from(&mut [0; 8]).is_err()), (port, true));
}
