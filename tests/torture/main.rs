//! Torture messages: the 49 of RFC 4475, byte for byte, and the cases of RFC 5118 after its text,
//! each with the verdict we reach and why. After each one the gateway must still answer an OPTIONS.

mod bounds;
mod kinds;
mod rfc4475;
mod rfc5118;
mod world;

use aws_lc_rs::digest::{SHA256, digest};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use webtrunk::call::context::{NodeIdentity, Output};
use webtrunk::config::check::parse_embedded;
use webtrunk::gateway::{Gateway, Input};
use webtrunk::sip::Message;
use webtrunk::sip::parse::Framing;
use webtrunk::sip::stream::Framer;
use webtrunk::sip::transaction::Hop;

/// What a message deserves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Read without a defect.
    Sound,
    /// A request that can be answered: refused with this status by the parser's check.
    Refused(u16),
    /// A response with a defect, or bytes that cannot be answered: dropped.
    Dropped,
}
use Verdict::*;

/// One case: name in the RFC, bytes, verdict, and why.
pub struct Case(pub &'static str, pub Vec<u8>, pub Verdict, pub &'static str);

pub(crate) fn crlf(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

fn judge(bytes: &[u8]) -> (Verdict, String) {
    match Message::parse(bytes.to_vec(), Framing::Datagram) {
        Err(e) => (Dropped, e.to_string()),
        Ok(message) => match message.check() {
            Ok(()) => (Sound, String::new()),
            Err(e) if message.is_request() => (Refused(e.status), e.to_string()),
            Err(e) => (Dropped, e.to_string()),
        },
    }
}

/// A gateway with a trunk at `TRUNK` whose calls are echoed.
struct Peer {
    gateway: Gateway,
    now: Instant,
    probes: u32,
}

const TRUNK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 10)), 5060);

impl Peer {
    fn new() -> Self {
        let config = "[server]\ndomain = \"wt.test\"\npublic_ip = \"127.0.0.1\"\n[sip]\nudp = \"127.0.0.1:5060\"\n\
                      [trunk.t]\nuri = \"sip:127.0.0.10\"\ncontext = \"in\"\nmedia = [\"192.0.2.0/24\"]\n";
        let plan = "[[route]]\nname = \"all\"\nmatch = [\".\", \"user\"]\ndo = [{ echo = true }]\n";
        let (config, _) = parse_embedded(config, &[("in", plan)]).unwrap_or_else(|p| panic!("{p}"));
        let identity = NodeIdentity::without_a_host();
        let now = Instant::now();
        Self { gateway: Gateway::new(now, Arc::new(config), identity, [1; 32]), now, probes: 0 }
    }

    /// The status of the first answer to `message`, if it gets one.
    fn receive(&mut self, message: Message) -> Option<u16> {
        let (hop, mut out) = (Hop::Udp(TRUNK), Vec::new());
        self.gateway.handle(self.now, Input::Received { hop, remote: TRUNK, message }, &mut out);
        out.iter().find_map(|output| match output {
            Output::Send(sent) => {
                let line = std::str::from_utf8(&sent.bytes[..11]).ok()?;
                line.strip_prefix("SIP/2.0 ")?.parse().ok()
            }
            _ => None,
        })
    }

    /// Whatever came before, an OPTIONS is answered.
    fn must_live(&mut self, after: &str) {
        self.probes += 1;
        let n = self.probes;
        let options = format!(
            "OPTIONS sip:wt.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.10;branch=z9hG4bK-o{n}\r\nMax-Forwards: 70\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:wt.test>\r\nCall-ID: o{n}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        let message = Message::parse(options.into_bytes(), Framing::Datagram).expect("sound");
        assert_eq!(self.receive(message), Some(200), "after {after} OPTIONS is not answered");
    }
}

#[test]
fn all_49_messages_of_rfc_4475() {
    assert_eq!(rfc4475::MESSAGES.len(), 49, "every message of the RFC");
    let (mut peer, mut wrong) = (Peer::new(), Vec::new());
    for message in rfc4475::MESSAGES {
        let rfc4475::Torture { section, file, bytes, verdict, answer, why } = *message;
        let (got, said) = judge(bytes);
        let status =
            Message::parse(bytes.to_vec(), Framing::Datagram).ok().and_then(|m| peer.receive(m));
        if (got, status) != (verdict, answer) {
            wrong.push(format!(
                "{section} {file}: {got:?} ({said}), answered {status:?}, \
                 expected {verdict:?}, {answer:?}: {why}"
            ));
        }
        peer.must_live(file);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn baddn_with_its_blank_line() {
    let torture = rfc4475::MESSAGES.iter().find(|m| m.file == "baddn").expect("in the table");
    let (verdict, said) = judge(&[torture.bytes, b"\r\n"].concat());
    assert_eq!(verdict, Sound, "the RFC lets an element infer the quotes of a name: {said}");
}

/// Each message as the other transports read it: none stops what follows.
#[test]
fn the_49_messages_stop_no_stream() {
    for message in rfc4475::MESSAGES {
        let _ = Message::parse(message.bytes.to_vec(), Framing::WebSocket).map(|m| m.check());
        let mut framer = Framer::default();
        for piece in message.bytes.chunks(7) {
            framer.push(piece);
            let mut frames = 0;
            while let Ok(Some(_)) = framer.next_frame() {
                frames += 1;
                assert!(frames < 100, "{}: a stream without end", message.file);
            }
        }
    }
}

#[test]
fn the_bytes_are_those_of_the_rfc() {
    let sums: Vec<(&str, &str)> = include_str!("rfc4475/SHA256SUMS")
        .lines()
        .map(|line| line.split_once("  ").expect("a digest and a name"))
        .collect();
    assert_eq!(sums.len(), rfc4475::MESSAGES.len());
    for message in rfc4475::MESSAGES {
        let digest = digest(&SHA256, message.bytes);
        let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let name = format!("{}.dat", message.file);
        assert!(sums.contains(&(&*hex, &*name)), "{name} was edited");
    }
}

#[test]
fn all_cases_of_rfc_5118() {
    let cases = rfc5118::cases();
    assert_eq!(cases.len(), 13, "every case of the RFC");
    let (mut peer, mut wrong) = (Peer::new(), Vec::new());
    for Case(name, bytes, verdict, why) in cases {
        let (got, said) = judge(&bytes);
        if got != verdict {
            wrong.push(format!("{name}: {got:?} ({said}), expected {verdict:?}: {why}"));
        }
        if let Ok(message) = Message::parse(bytes, Framing::Datagram) {
            peer.receive(message);
        }
        peer.must_live(name);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
