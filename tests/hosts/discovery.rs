//! The public address is what a STUN server sees, and changes while the gateway runs.

use crate::world::{Gateway, World, in_namespace, run};
use crate::{answer, line, peer, request};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// A STUN server that returns the address it is given (RFC 8489 section 14.2); it lives as long as
/// the test's process.
fn stun_server(at: &str, seen: Arc<Mutex<Ipv4Addr>>) {
    let socket = UdpSocket::bind(at).expect("a port");
    std::thread::spawn(move || {
        let mut buf = [0; 1_500];
        while let Ok((n, from)) = socket.recv_from(&mut buf) {
            if n < 20 || buf[..2] != [0, 1] || buf[4..8] != COOKIE {
                continue;
            }
            let ip = seen.lock().expect("nobody panics").octets();
            let mut response = vec![1, 1, 0, 12];
            response.extend_from_slice(&buf[4..20]);
            response.extend([0, 0x20, 0, 8, 0, 1]);
            response.extend((from.port() ^ 0x2112).to_be_bytes());
            response.extend(ip.iter().zip(COOKIE).map(|(a, b)| a ^ b));
            let _ = socket.send_to(&response, from);
        }
    });
}

/// A caller in the internet, and its call.
struct Caller {
    sip: UdpSocket,
    to: SocketAddr,
    remote: String,
}

impl Caller {
    /// Calls the echo; the addresses that SIP and SDP name.
    fn call() -> (Caller, String, String) {
        let sip = peer("198.51.100.9:0");
        let from = sip.local_addr().expect("bound");
        let to = SocketAddr::from(([10, 9, 1, 1], 5060));
        let sdp = "v=0\no=- 1 1 IN IP4 198.51.100.9\ns=-\nc=IN IP4 198.51.100.9\nt=0 0\n\
                   m=audio 7000 RTP/AVP 0\n";
        let body = format!("To: <sip:9196@{to}>\nContent-Type: application/sdp\n\n{sdp}");
        sip.send_to(request("INVITE", 1, to, from, &body).as_bytes(), to).expect("sent");
        let (ok, _) = answer(&sip, "SIP/2.0 200");
        let remote = line(&ok, "To:").trim_start_matches("To:").trim().to_owned();
        let ack = request("ACK", 1, to, from, &format!("To: {remote}\n\n"));
        sip.send_to(ack.as_bytes(), to).expect("sent");
        let contact = line(&ok, "Contact:").to_owned();
        let media = line(&ok, "c=").trim_start_matches("c=IN IP4 ").to_owned();
        (Caller { sip, to, remote }, contact, media)
    }

    fn hang_up(self) {
        let from = self.sip.local_addr().expect("bound");
        let bye = request("BYE", 2, self.to, from, &format!("To: {}\n\n", self.remote));
        self.sip.send_to(bye.as_bytes(), self.to).expect("sent");
        answer(&self.sip, "SIP/2.0 200");
    }
}

/// Waits until the events name `address` as the new one.
fn changed(events: &mut Gateway, address: &str) {
    let begun = Instant::now();
    loop {
        let said = events.next_line().expect("more events");
        if said.contains("addresses.changed") && said.contains(address) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{said}");
    }
}

#[test]
fn a_changed_public_address_serves_new_calls_and_is_reported() {
    in_namespace("discovery::a_changed_public_address_serves_new_calls_and_is_reported", || {
        let [first, second] = [[203, 0, 113, 7], [203, 0, 113, 8]].map(Ipv4Addr::from);
        let world = World::new(
            "public_ip = \"auto\"\nstun = \"10.9.1.2:3478\"\n[trunk.far]\n\
             uri = \"sip:198.51.100.9\"\ncontext = \"default\"\n",
        );
        run("ip addr add 198.51.100.9/32 dev p1");
        let seen = Arc::new(Mutex::new(first));
        stun_server("10.9.1.2:3478", seen.clone());
        let _gateway = world.serve();
        let mut events = world.events();
        let begun = Instant::now();
        let (before, contact) = loop {
            let (caller, contact, media) = Caller::call();
            if media == first.to_string() {
                break (caller, contact);
            }
            caller.hang_up();
            assert!(begun.elapsed() < Duration::from_secs(20), "it learns {media}");
            // Slower than limits.new_calls_per_second.
            std::thread::sleep(Duration::from_millis(100));
        };
        assert!(contact.contains("203.0.113.7"), "{contact}");
        *seen.lock().expect("nobody panics") = second;
        changed(&mut events, "203.0.113.8");
        let (after, contact, media) = Caller::call();
        assert_eq!(media, "203.0.113.8");
        assert!(contact.contains("203.0.113.8"), "{contact}");
        after.hang_up();
        before.hang_up();
    });
}
