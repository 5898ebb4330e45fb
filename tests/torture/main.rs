//! Torture messages after RFC 4475 and RFC 5118: every case of both, written from their text, each
//! with the verdict we reach and why. After each one the gateway must still answer an OPTIONS.

mod rfc4475;
mod rfc5118;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use webtrunk::call::context::{Identity, Output};
use webtrunk::config::check::parse_embedded;
use webtrunk::gateway::{Gateway, Input};
use webtrunk::sip::Message;
use webtrunk::sip::parse::Framing;
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

pub fn crlf(text: &str) -> Vec<u8> {
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

fn check(cases: Vec<Case>, expected: usize) {
    assert_eq!(cases.len(), expected, "every case of the RFC");
    let config = "[server]\ndomain = \"wt.test\"\npublic_ip = \"127.0.0.1\"\n[sip]\nudp = \"127.0.0.1:5060\"\n\
                  [trunk.t]\nuri = \"sip:127.0.0.10\"\ncontext = \"in\"\n";
    let plan = "[[route]]\nname = \"all\"\nmatch = \".\"\ndo = [{ echo = true }]\n";
    let (config, _) = parse_embedded(config, &[("in", plan)]).unwrap_or_else(|p| panic!("{p}"));
    let identity = Identity {
        fingerprint: "AB".into(),
        udp_port: 5060,
        tcp_port: 5060,
        tls_port: 5061,
        web_secure: false,
        workers: 1,
        reach: Default::default(),
        unix: 1_700_000_000,
    };
    let now = Instant::now();
    let mut gateway = Gateway::new(now, Arc::new(config), identity, [1; 32]);
    let remote = SocketAddr::from(([127, 0, 0, 10], 5060));
    let mut wrong = Vec::new();
    for (n, Case(name, bytes, verdict, why)) in cases.into_iter().enumerate() {
        let (got, said) = judge(&bytes);
        if got != verdict {
            wrong.push(format!("{name}: {got:?} ({said}), expected {verdict:?}: {why}"));
        }
        let mut out = Vec::new();
        if let Ok(message) = Message::parse(bytes, Framing::Datagram) {
            gateway.handle(
                now,
                Input::Received { hop: Hop::Udp(remote), remote, message },
                &mut out,
            );
        }
        let options = format!(
            "OPTIONS sip:wt.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.10;branch=z9hG4bK-o{n}\r\nMax-Forwards: 70\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:wt.test>\r\nCall-ID: o{n}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        let message = Message::parse(options.into_bytes(), Framing::Datagram).expect("sound");
        out.clear();
        gateway.handle(now, Input::Received { hop: Hop::Udp(remote), remote, message }, &mut out);
        let answered =
            out.iter().any(|o| matches!(o, Output::Send(t) if t.bytes.starts_with(b"SIP/2.0 200")));
        assert!(answered, "after {name} OPTIONS is not answered");
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn all_49_cases_of_rfc_4475() {
    check(rfc4475::cases(), 49);
}

#[test]
fn all_cases_of_rfc_5118() {
    check(rfc5118::cases(), 13);
}
