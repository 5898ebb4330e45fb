//! Whatever is written: nothing panics, and what we answer is to the letter, with as many sections
//! as the offer.

use super::{corpus, local, strict, with_keys};
use proptest::prelude::*;
use std::sync::OnceLock;
use webtrunk::codec::Codec;
use webtrunk::sdp::crypto::Policy;
use webtrunk::sdp::offer_answer::{LegKind, Negotiation};
use webtrunk::sdp::{Description, Direction};

fn legs() -> [Negotiation; 4] {
    [
        Negotiation::new(local(LegKind::Browser)),
        Negotiation::new(local(LegKind::Trunk)),
        with_keys(Policy::Optional),
        with_keys(Policy::Required),
    ]
}

/// Puts a body to every kind of leg: as an offer, as another one, and as an answer.
fn put(body: &[u8]) {
    for fresh in legs() {
        let mut leg = fresh.clone();
        for _ in 0..2 {
            let Ok(()) = leg.receive_offer(body).map(drop) else { continue };
            let (text, _) = leg.answer(&Codec::ALL, Direction::SendRecv).expect("it was checked");
            strict::check(&text);
            let sections = |text: &[u8]| Description::parse(text).expect("sound").media.len();
            assert_eq!(sections(text.as_bytes()), sections(body));
            strict::check(&leg.reoffer(&Codec::ALL));
            leg.withdraw_offer();
        }
        let mut leg = fresh;
        strict::check(&leg.offer(&Codec::ALL));
        let _ = leg.receive_answer(body);
    }
}

fn bodies() -> &'static [String] {
    static ALL: OnceLock<Vec<String>> = OnceLock::new();
    ALL.get_or_init(|| {
        let folders = ["chromium", "cases", "trunk-asterisk-out", "trunk-asterisk-out-sdes-100rel"];
        let files = folders.into_iter().flat_map(corpus);
        files.map(|f| std::fs::read_to_string(f).expect("readable")).collect()
    })
}

/// Lines nobody needs, and lines that make little sense.
const ODD: &[&str] = &[
    "b=AS:64.5",
    "b=",
    "b=X-YZ:-1",
    "o=",
    "o=- x y",
    "u=not a uri",
    "t=",
    "t=0",
    "t=3724394400 -1",
    "s=",
    "s=\u{fffd}",
    "k=prompt",
    "k=",
    "z=0 0 0",
    "r=7d 1h 0 25h",
    "c=IN IP4",
    "c=",
    "c=ATM x",
    "c=IN IP4 media.example.com",
    "c=IN IP6 ::1/3",
    "no line",
    "=",
    "x",
    "m=",
    "m=audio",
    "m=audio 0",
    "m=video 0 RTP/AVP",
    "m=control 0 udp x",
    "m=\u{e9} 1 \u{e9} \u{e9}",
    "m=audio 70000 RTP/AVP 0",
    "m=audio 4000/2 RTP/AVP 0 0 0",
    "m=audio 9 NEW/PROTO 0",
    "m=audio 4000 rtp/avp 0",
    "m=audio 4000 RTP/AVP 128 -1 x 0",
    "m=image 0 udptl t38",
    "a=",
    "a=:",
    "a=rtpmap:",
    "a=rtpmap:0",
    "a=rtpmap:0 /",
    "a=rtpmap:0 PCMU/0",
    "a=rtpmap:96 telephone-event/0",
    "a=rtpmap:0 telephone-event/8000",
    "a=fmtp:0",
    "a=mid:a b",
    "a=mid:",
    "a=group:BUNDLE",
    "a=group:BUNDLE 0 0 0",
    "a=bundle-only",
    "a=setup:holdconn",
    "a=ptime:-1",
    "a=ptime:4294967296",
    "a=maxptime:1",
    "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:",
    "a=crypto:x",
    "a=sendrecv x",
    "a=inactive",
    "a=candidate:",
    "a=rtcp:",
    "a=rtcp:1 IN IP4 x",
    "a=fingerprint:sha-256 zz",
    "a=ice-ufrag:",
    "a=ssrc:x",
    "\u{feff}v=0",
    "v=1",
];

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.20\r\ns=-\r\nc=IN IP4 192.0.2.20\r\nt=0 0\r\n";

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(400)
    })]

    #[test]
    fn any_text_is_answered_to_the_letter_or_refused(
        body in concat!(
            "(v=0\r\n)?([a-z]=[ -~]{0,20}\r?\n|",
            "m=(audio|video|x) [0-9]{0,6} [A-Z/]{0,12}( [0-9]{1,3}){0,4}\n|[^a]{0,6}\n){0,20}"
        )
    ) {
        put(body.as_bytes());
    }

    #[test]
    fn any_bytes_are_answered_to_the_letter_or_refused(
        body in proptest::collection::vec(any::<u8>(), 0..200)
    ) {
        put(&[b"v=0\r\n", &body[..]].concat());
    }

    #[test]
    fn a_bent_real_description_is_answered_to_the_letter_or_refused(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec(
            (0..4u8, any::<prop::sample::Index>(), any::<prop::sample::Index>()),
            1..6,
        ),
    ) {
        let all = bodies();
        let mut lines: Vec<&str> = all[which.index(all.len())].lines().collect();
        for (how, at, with) in &changes {
            let at = at.index(lines.len());
            match how {
                0 => lines[at] = ODD[with.index(ODD.len())],
                1 => lines.insert(at, ODD[with.index(ODD.len())]),
                2 if lines.len() > 1 => drop(lines.remove(at)),
                _ => { let with = with.index(lines.len()); lines.swap(at, with) }
            }
        }
        put(lines.join("\r\n").as_bytes());
    }
}

#[test]
fn no_odd_line_makes_a_description_unreadable() {
    let plain = format!("{HEAD}m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n");
    let lines: Vec<&str> = plain.lines().collect();
    for odd in ODD {
        // Anywhere behind the first line; what would be another first section, connection or
        // mapping only where it is not.
        let first = if ["m=", "c=", "a="].iter().any(|l| odd.starts_with(l)) { 7 } else { 1 };
        for at in first..=lines.len() {
            let mut bent = lines.clone();
            bent.insert(at, odd);
            let body = bent.join("\r\n");
            put(body.as_bytes());
            let mut leg = Negotiation::new(local(LegKind::Trunk));
            let read = leg.receive_offer(body.as_bytes()).map(|m| m.port);
            assert_eq!(read, Ok(4_000), "{odd:?} as line {at}");
        }
    }
}

#[test]
fn a_meeting_page_with_many_sections_is_answered() {
    let mut offer = HEAD.to_owned();
    for n in 0..63 {
        offer.push_str(&format!("m=video {} RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n", 5_000 + n));
    }
    offer.push_str("m=audio 4000 RTP/AVP 0\r\n");
    let mut leg = Negotiation::new(local(LegKind::Trunk));
    leg.receive_offer(offer.as_bytes()).expect("64 sections");
    let (text, _) = leg.answer(&Codec::ALL, Direction::SendRecv).expect("an answer");
    assert_eq!(text.matches(" 0 RTP/AVP 96").count(), 63);
    assert!(text.contains("m=audio 20000 RTP/AVP 0\r\n"));
    put(offer.as_bytes());
}

/// A page with a dozen videos, each as long as Chromium writes it.
#[test]
fn a_page_with_a_dozen_videos_is_heard() {
    let chromium = std::str::from_utf8(include_bytes!("../corpus/chromium/loop_audio_full.sdp"));
    let mut offer = chromium.expect("text").to_owned();
    for n in 1..=12 {
        offer.push_str("m=video 9 UDP/TLS/RTP/SAVPF");
        (35..60).for_each(|pt| offer.push_str(&format!(" {pt}")));
        offer.push_str(&format!(
            "\r\nc=IN IP4 0.0.0.0\r\na=mid:v{n}\r\na=recvonly\r\na=rtcp-mux\r\n"
        ));
        for pt in 35..60 {
            offer.push_str(&format!("a=rtpmap:{pt} VP9/90000\r\n"));
            for feedback in ["goog-remb", "transport-cc", "nack pli"] {
                offer.push_str(&format!("a=rtcp-fb:{pt} {feedback}\r\n"));
            }
        }
    }
    assert!(offer.lines().count() > 1_200 && offer.len() < 65_000, "{}", offer.len());
    let mut leg = Negotiation::new(local(LegKind::Browser));
    leg.receive_offer(offer.as_bytes()).unwrap_or_else(|why| panic!("{why}"));
    let (text, _) = leg.answer(&Codec::ALL, Direction::SendRecv).expect("an answer");
    strict::check(&text);
    assert_eq!(text.matches("m=video 0 ").count(), 12);
    put(offer.as_bytes());
}
