use super::super::OpenedSockets;
use super::*;
use std::sync::mpsc::sync_channel;

/// A worker without a thread.
fn running(ports: &Arc<PortRange>) -> Running {
    let poll = Poll::new().expect("a poll");
    let browsers = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let parts = WorkerParts {
        browsers,
        listener: None,
        ports: ports.clone(),
        identity: Arc::new(DtlsIdentity::generate().expect("a certificate")),
        late: Arc::default(),
        load: Arc::default(),
        refused: Arc::default(),
        pulse: Arc::new(Pulse::new(Instant::now())),
        kept: Kept::default(),
        held: false,
    };
    let tell = Box::new(|_, _| {});
    Running::new(poll, sync_channel(8), parts, tell)
}

#[test]
fn who_sends_to_a_trunks_port_without_a_pause_has_a_share_of_each_turn() {
    let here = IpAddr::from([127, 0, 0, 1]);
    let ports = Arc::new(PortRange::new(here, 24_900..=24_903, 7));
    let mut running = running(&ports);
    let mut to = Vec::new();
    for session in [1, 2] {
        let pair = ports.take(Instant::now()).expect("free");
        to.push(SocketAddr::new(here, pair.port));
        let kind = OpenedSockets::Trunk { nat: false, pair };
        running.open(session, LegId(1), kind, 1, "c", 1);
    }
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let turn = (LINE_ROUNDS * LINE_BATCH) as u32;
    for _ in 0..2 * turn + 1 {
        stranger.send_to(b"x", to[0]).expect("room");
    }
    let (mut inbound, none) = (Inbound::new(datagrams::MEDIA), Events::with_capacity(1));
    running.read_line(0, &mut inbound);
    assert_eq!(running.datagrams, turn, "others are next");
    stranger.send_to(b"x", to[1]).expect("room");
    running.read_line(2, &mut inbound);
    assert_eq!(running.datagrams, turn + 1);
    for (left, read) in [(1, 2 * turn + 1), (0, 2 * turn + 2)] {
        assert_eq!(running.wait(Instant::now(), false), Duration::ZERO, "it has more to read");
        running.read_ready(&none, &mut inbound);
        assert_eq!((running.busy_lines.len(), running.datagrams), (left, read));
    }
}
