//! A PBX that registers here: it does not notice that the process is another one.

use crate::server::Server;
use crate::trunk::{Trunk, reply};
use std::net::UdpSocket;
use std::time::Duration;
use webtrunk::sip::Message;
use webtrunk::sip::digest;
use webtrunk::sip::parse::Framing;
use webtrunk::sip::status::Method;

const BRANCH: &str = "[trunk.branch]\naccepts_registration = true\nusername = \"branch\"\n\
    password = \"secret-of-the-branch\"\ncontext = \"in\"\n";
const OUT: &str =
    "[[route]]\nname = \"Branch\"\nmatch = \"8XX\"\ndo = [{ dial = [\"trunk:branch\"] }]\n";

/// From an address that no other trunk has.
struct Pbx {
    socket: UdpSocket,
    sip: u16,
    sent: u32,
}

impl Pbx {
    fn new(server: &Server) -> Pbx {
        let socket = UdpSocket::bind("127.0.0.7:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        Pbx { socket, sip: server.sip, sent: 0 }
    }

    fn send(&self, text: &str) {
        self.socket.send_to(text.as_bytes(), ("127.0.0.1", self.sip)).expect("sent");
    }

    /// The next message that begins so.
    fn expect(&self, start: &str) -> String {
        let (mut buf, mut others) = ([0; 65_536], Vec::new());
        loop {
            let Ok(n) = self.socket.recv(&mut buf) else { panic!("no {start}: {others:#?}") };
            let text = String::from_utf8_lossy(&buf[..n]).into_owned();
            if text.starts_with(start) {
                return text;
            }
            others.push(text);
        }
    }

    /// A request of its own, with these lines and this body.
    fn request(&mut self, method: &str, to: &str, lines: &str, body: &str) -> String {
        self.sent += 1;
        let (n, own) = (self.sent, self.socket.local_addr().expect("bound"));
        format!(
            "{method} {to} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK-b{n}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:branch@wt.test>;tag=b\r\nTo: <{to}>\r\n\
             Call-ID: branch-{n}\r\nCSeq: {n} {method}\r\nContact: <sip:branch@{own}>\r\n\
             {lines}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn registers(&mut self) {
        // No answer to a stranger is longer than its request.
        let long = format!("Expires: 600\r\nUser-Agent: {}\r\n", "x".repeat(900));
        let to = "sip:branch@wt.test";
        let first = self.request("REGISTER", to, &long, "");
        self.send(&first);
        let challenge = self.expect("SIP/2.0 401").into_bytes();
        let challenge = Message::parse(challenge, Framing::Datagram).expect("sound");
        let password = "secret-of-the-branch";
        let answer =
            digest::answer(&challenge, "branch", password, to, Method::Register, "a nonce");
        let (name, value) = answer.expect("a challenge");
        let lines = format!("{long}{name}: {value}\r\n");
        let second = self.request("REGISTER", to, &lines, "");
        self.send(&second);
        self.expect("SIP/2.0 200");
    }

    /// Is known where it is, and called there.
    fn is_reached(&mut self, trunk: &mut Trunk) {
        let asks = self.request("OPTIONS", "sip:127.0.0.1", "", "");
        self.send(&asks);
        self.expect("SIP/2.0 200");
        trunk.ring("800");
        let invite = self.expect("INVITE");
        self.send(&reply(&invite).replacen("200 OK", "486 Busy Here", 1));
        trunk.expect("SIP/2.0 486");
    }
}

#[test]
fn a_pbx_stays_registered_when_the_process_is_killed_and_when_it_is_replaced() {
    let mut server = Server::start_with_more(BRANCH, OUT);
    let (mut pbx, mut trunk) = (Pbx::new(&server), Trunk::new(&server));
    let log = server.folder.join("state/checkpoints.db-wal");
    let length = || log.metadata().map_or(0, |of| of.len());
    let before = length();
    pbx.registers();
    server.until(|| length() > before);
    server.kill();
    server.start_again();
    pbx.is_reached(&mut trunk);
    let said = server.upgrade(&[]);
    assert_eq!(said.code, 0, "{said:?}\n{}", server.log());
    pbx.is_reached(&mut trunk);
    let log = server.log();
    assert_eq!(log.matches("1 trunk(s) stay registered").count(), 2, "{log}");
}
