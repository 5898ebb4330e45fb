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
    let worker = Worker::start("test", SocketAddr::new(ANY, 0), ports.clone(), identity, move |session, notice| {
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
        assert!(worker.command(open(session)));
        match next(&told) {
            (s, Notice::Opened { address, .. }) if s == session => taken.push(address.port()),
            other => panic!("{other:?}"),
        }
    }
    assert!(taken.iter().all(|p| p % 2 == 0) && taken.windows(2).any(|w| w[1] != w[0] + 2), "even, and not in order: {taken:?}");
    assert!(worker.command(open(99)));
    assert!(matches!(next(&told), (99, Notice::OpenFailed { .. })), "the eleventh is refused");
    for session in 0..10 {
        assert!(worker.command(Command::Close { session }));
        assert!(matches!(next(&told), (_, Notice::Closed { .. })));
    }
    assert_eq!(ports.free(), all, "all ports are back");
    for port in taken {
        UdpSocket::bind(SocketAddr::new(ANY, port)).expect("the socket is closed");
    }
    assert!(ports.take().is_err(), "but they rest first, so that no stale packet is heard in the next call");
}

#[test]
fn a_resting_port_serves_again_after_its_quarantine() {
    let ports = PortRange::new(ANY, (24_100, 24_101), 7);
    let (port, rtp, rtcp) = ports.take().expect("free");
    drop((rtp, rtcp));
    ports.give_back(port, Instant::now() - QUARANTINE);
    assert_eq!(ports.take().expect("rested").0, port);
}
