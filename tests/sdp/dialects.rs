//! A table of device dialects (`dialects.txt`): browsers, PBXs, SBCs, carriers, phones. Beside each
//! stands what follows from it; `WEBTRUNK_BLESS=1` rewrites that: read the difference.

use super::{local, strict, with_keys};
use std::fmt::Write as _;
use std::path::Path;
use webtrunk::codec::Codec;
use webtrunk::sdp::crypto::Policy;
use webtrunk::sdp::offer_answer::{LegKind, Negotiated, Negotiation, Remote};
use webtrunk::sdp::{Description, Direction, SdpError};

fn leg(name: &str) -> Negotiation {
    match name {
        "browser" => Negotiation::new(local(LegKind::Browser)),
        "trunk" => Negotiation::new(local(LegKind::Trunk)),
        "optional" => with_keys(Policy::Optional),
        "required" => with_keys(Policy::Required),
        other => panic!("no such leg: {other}"),
    }
}

/// What a test looks at, in one line.
fn facts(n: &Negotiated, sections: &str) -> String {
    let mut out = format!("{sections}; {} as {}; {}", n.codec, n.send, n.direction.as_str());
    match n.events.send {
        Some(f) => {
            let _ = write!(out, "; digits as {}/{}, from", f.payload_type, f.clock);
            for f in &n.events.receive {
                let _ = write!(out, " {}/{}", f.payload_type, f.clock);
            }
        }
        None => out.push_str("; no digits"),
    }
    if let Some(noise) = n.noise {
        let _ = write!(out, "; noise as {noise}");
    }
    match &n.remote {
        Remote::Rtp { rtp, rtcp, sdes } => {
            let keys = sdes.as_ref().map_or("plain".into(), |s| s.theirs.profile().to_string());
            let _ = write!(out, "; {keys} {rtp}, RTCP {}", if rtp == rtcp { "there" } else { "" });
            if rtp != rtcp {
                let _ = write!(out, "{rtcp}");
            }
        }
        Remote::Dtls { active, .. } => {
            let role = if *active { "client" } else { "server" };
            let _ = write!(out, "; DTLS {role}");
        }
    }
    let asked = if n.ptime_asked { " asked" } else { "" };
    let _ = write!(out, "; {} ms{asked}", n.ptime);
    if let Some(most) = n.max_ptime {
        let _ = write!(out, ", {most} at most");
    }
    out
}

/// Which of the sections of our answer are used.
fn used(text: &str) -> String {
    strict::check(text);
    let answer = Description::parse(text.as_bytes()).expect("ours");
    let used: Vec<String> = answer.audio().map(|(n, _)| (n + 1).to_string()).collect();
    format!("section {} of {}", used.join(","), answer.media.len())
}

fn outcome(name: &str, role: &str, body: &[u8]) -> Result<String, SdpError> {
    let mut leg = leg(name);
    if role == "answer" {
        leg.offer(&Codec::ALL);
        return leg.receive_answer(body).map(|n| facts(n, "answered"));
    }
    leg.receive_offer(body)?;
    let (text, negotiated) = leg.answer(&Codec::ALL, Direction::SendRecv)?;
    let offered = Description::parse(body)?.media.len();
    assert!(used(&text).ends_with(&format!(" of {offered}")), "{text}");
    Ok(facts(&negotiated, &used(&text)))
}

#[test]
fn every_dialect_is_understood_as_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdp/dialects.txt");
    let table = std::fs::read_to_string(&path).expect("the table");
    let mut blocks = table.split("\n== ");
    let mut found = blocks.next().expect("its head").to_owned();
    let mut count = 0;
    for block in blocks {
        let mut lines = block.splitn(4, '\n');
        let mut line = || lines.next().expect("four parts");
        let (name, who, _, body) = (line(), line(), line(), line());
        let (side, role) = who.split_once(' ').expect("a leg and a role");
        let body = body.trim_end();
        let wire = format!("{}\r\n", body.replace('\n', "\r\n"));
        let said = outcome(side, role, wire.as_bytes());
        let said = said.unwrap_or_else(|why| format!("{} {why}", why.warning));
        let _ = write!(found, "\n== {name}\n{who}\n{said}\n{body}\n");
        count += 1;
    }
    assert!(count >= 60, "{count} dialects");
    if std::env::var_os("WEBTRUNK_BLESS").is_some() {
        std::fs::write(&path, &found).expect("written");
    }
    let written = std::fs::read_to_string(&path).expect("the table");
    for (said, expected) in found.lines().zip(written.lines()) {
        assert_eq!(said, expected);
    }
    assert_eq!(found, written);
}
