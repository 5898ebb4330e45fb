//! Hosts as they are: a gateway with two addresses on two interfaces, in network namespaces of the
//! test's own. That needs root; elsewhere each test says that it was skipped.

mod compose;
mod discovery;
mod pasted;
mod world;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;
use world::{World, in_namespace};

fn peer(from: &str) -> UdpSocket {
    let socket = UdpSocket::bind(from).expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    socket
}

fn request(method: &str, n: u32, to: SocketAddr, from: SocketAddr, more: &str) -> String {
    let (head, body) = more.split_once("\n\n").unwrap_or((more, ""));
    let head = head.replace('\n', "\r\n");
    let body = body.replace('\n', "\r\n");
    format!(
        "{method} sip:9196@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{n}{method};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:pbx@{from}>;tag=pbx\r\nCall-ID: two-addresses-{}\r\n\
         CSeq: {n} {method}\r\nContact: <sip:pbx@{from}>\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}",
        from.port(),
        body.len()
    )
}

/// The next message that begins like that, and where it came from.
fn answer(socket: &UdpSocket, begins: &str) -> (String, SocketAddr) {
    let mut buf = [0; 4_000];
    for _ in 0..20 {
        let (n, from) = socket.recv_from(&mut buf).expect("an answer");
        let text = String::from_utf8_lossy(&buf[..n]).into_owned();
        if text.starts_with(begins) {
            return (text, from);
        }
    }
    panic!("no {begins}");
}

fn line<'a>(text: &'a str, begins: &str) -> &'a str {
    text.lines().find(|l| l.starts_with(begins)).unwrap_or_else(|| panic!("{begins} in\n{text}"))
}

/// Calls the echo at `host` and hears itself; everything comes from `host`, and names it.
fn calls_the_echo(host: &str, own: &str) {
    let sip = peer(&format!("{own}:0"));
    let rtp = peer(&format!("{own}:0"));
    let (from, media) = (sip.local_addr().expect("bound"), rtp.local_addr().expect("bound"));
    let to: SocketAddr = format!("{host}:5060").parse().expect("an address");
    let send = |text: String| assert!(sip.send_to(text.as_bytes(), to).expect("sent") > 0);
    send(request("OPTIONS", 1, to, from, &format!("To: <sip:9196@{to}>\n\n")));
    assert_eq!(answer(&sip, "SIP/2.0 200").1, to, "OPTIONS");
    let family = if to.is_ipv4() { "IP4" } else { "IP6" };
    let sdp = format!(
        "v=0\no=- 1 1 IN {family} {0}\ns=-\nc=IN {family} {0}\nt=0 0\nm=audio {1} RTP/AVP 0\n",
        media.ip(),
        media.port()
    );
    let body = format!("To: <sip:9196@{to}>\nContent-Type: application/sdp\n\n{sdp}");
    send(request("INVITE", 2, to, from, &body));
    let (ok, at) = answer(&sip, "SIP/2.0 200");
    assert_eq!(at, to, "the 200");
    assert!(line(&ok, "Contact:").contains(&to.to_string()), "{ok}");
    assert_eq!(line(&ok, "c="), format!("c=IN {family} {}", to.ip()), "{ok}");
    let remote = line(&ok, "To:").trim_start_matches("To:").trim().to_owned();
    send(request("ACK", 2, to, from, &format!("To: {remote}\n\n")));
    let port = line(&ok, "m=audio").split(' ').nth(1).and_then(|p| p.parse().ok());
    let theirs = SocketAddr::new(to.ip(), port.expect("a port"));
    let mut heard = Vec::new();
    for n in 0..50u16 {
        let mut packet = vec![0x80, 0];
        packet.extend(n.to_be_bytes());
        packet.extend((u32::from(n) * 160).to_be_bytes());
        packet.extend([0, 0, 0, 9]);
        packet.extend((0..160).map(|s| (s * 7 + n) as u8));
        rtp.send_to(&packet, theirs).expect("sent");
        std::thread::sleep(Duration::from_millis(20));
        rtp.set_read_timeout(Some(Duration::from_millis(1))).expect("set");
        let mut buf = [0; 500];
        while let Ok((_, from)) = rtp.recv_from(&mut buf) {
            heard.push(from);
        }
    }
    assert!(heard.len() > 20, "{} packets of the echo came", heard.len());
    assert!(heard.iter().all(|from| *from == theirs), "{heard:?}");
    send(request("BYE", 3, to, from, &format!("To: {remote}\n\n")));
    assert_eq!(answer(&sip, "SIP/2.0 200").1, to, "BYE");
}

#[test]
fn a_trunk_is_answered_from_the_address_it_reached() {
    in_namespace("a_trunk_is_answered_from_the_address_it_reached", || {
        let world = World::new("");
        let _gateway = world.serve();
        calls_the_echo("10.9.1.1", "10.9.1.2");
        calls_the_echo("10.9.2.1", "10.9.1.2");
        calls_the_echo("[fd00:9:1::1]", "[fd00:9:1::2]");
        calls_the_echo("[fd00:9:2::1]", "[fd00:9:1::2]");
    });
}

/// The page is at one address, and media's first candidate is another: heard over UDP all the same.
#[test]
fn browsers_hear_at_every_address() {
    in_namespace("browsers_hear_at_every_address", || {
        for public in ["10.9.1.1", "10.9.2.1", "auto"] {
            let world = World::new(&format!("public_ip = \"{public}\"\n"));
            let gateway = world.serve();
            for host in ["10.9.1.1", "10.9.2.1"] {
                for own in [false, true] {
                    let call = world.call(host, own);
                    let heard = call.contains("MOS") && !call.contains("nothing was heard");
                    assert!(heard, "{public}, page at {host}, on its host: {own}\n{call}");
                }
            }
            drop(gateway);
        }
    });
}

#[test]
fn the_demo_binds_loopback_and_nothing_else() {
    in_namespace("the_demo_binds_loopback_and_nothing_else", || {
        let world = World::new("");
        let demo = world.demo(&[]);
        let bound = demo.sockets();
        assert!(bound.len() >= 6, "page, API, SIP and media of two nodes: {bound:?}");
        assert!(bound.iter().all(IpAddr::is_loopback), "{bound:?}");
        drop(demo);
        let demo = world.demo(&["--listen", "0.0.0.0"]);
        assert!(demo.sockets().iter().any(IpAddr::is_unspecified));
    });
}
