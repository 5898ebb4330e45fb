//! The small inputs of `tests/corpus/cases`, each as an offer and as an answer.

use super::{local, strict, with_keys};
use std::fs;
use webtrunk::codec::Codec;
use webtrunk::sdp::crypto::Policy;
use webtrunk::sdp::offer_answer::{EventFormat, LegKind, Negotiated, Negotiation, Remote};
use webtrunk::sdp::{Description, Direction};

fn case(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/cases");
    fs::read(format!("{folder}/{name}.sdp")).expect("readable")
}

fn leg(name: &str) -> Negotiation {
    match name {
        "firefox" => Negotiation::new(local(LegKind::Browser)),
        "unpadded-key" => with_keys(Policy::Optional),
        _ => Negotiation::new(local(LegKind::Trunk)),
    }
}

fn answer(leg: &mut Negotiation, offer: &[u8]) -> (Description, Negotiated) {
    leg.receive_offer(offer).expect("it can be read");
    let (text, negotiated) = leg.answer(&Codec::ALL, Direction::SendRecv).expect("an answer");
    strict::check(&text);
    (Description::parse(text.as_bytes()).expect("ours"), negotiated)
}

const CASES: [&str; 8] = [
    "firefox",
    "hold-same-version",
    "odd-bandwidth",
    "odd-no-format",
    "odd-origin",
    "odd-unknown-media",
    "savp-then-avp",
    "unpadded-key",
];

#[test]
fn each_is_accepted_as_a_second_offer_during_a_call_and_as_an_answer() {
    for name in CASES {
        let (body, mut offered) = (case(name), leg(name));
        let (text, first) = answer(&mut offered, &body);
        let sections = Description::parse(&body).expect("sound").media.len();
        assert_eq!(text.media.len(), sections, "{name}");
        assert_eq!(text.audio().count(), 1, "{name}");
        assert_eq!(answer(&mut offered, &body), (text, first.clone()), "{name} again");
        let mut answered = leg(name);
        answered.offer(&Codec::ALL);
        let taken = if name == "unpadded-key" {
            // An answer repeats the tag of what it chose: our AEAD_AES_128_GCM is the first.
            assert!(answered.local.srtp_keys.offer()[0].to_string().contains("AEAD_AES_128_GCM"));
            answered.receive_answer(&body)
        } else {
            let text = String::from_utf8(body).expect("text").replace(":actpass", ":active");
            answered.receive_answer(text.as_bytes())
        };
        let taken = taken.unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(taken.codec, first.codec, "{name}");
        assert_eq!(taken.events.send, first.events.send, "{name}");
    }
}

#[test]
fn each_means_what_it_says() {
    let (_, firefox) = answer(&mut leg("firefox"), &case("firefox"));
    assert_eq!(firefox.events.send, Some(EventFormat { payload_type: 101, clock: 8_000 }));
    let (text, chosen) = answer(&mut leg("savp-then-avp"), &case("savp-then-avp"));
    assert_eq!((text.media[0].port, text.media[0].proto.as_str()), (0, "RTP/SAVP"));
    assert_eq!((text.media[1].port, text.media[1].proto.as_str()), (20_000, "RTP/AVP"));
    assert!(matches!(chosen.remote, Remote::Rtp { sdes: None, .. }));
    let (_, keyed) = answer(&mut leg("unpadded-key"), &case("unpadded-key"));
    assert!(matches!(keyed.remote, Remote::Rtp { sdes: Some(_), .. }));
    for name in ["odd-no-format", "odd-unknown-media"] {
        let (text, _) = answer(&mut leg(name), &case(name));
        assert_eq!((text.media[0].port, text.media[1].port), (20_000, 0), "{name}");
    }
}

#[test]
fn a_change_under_an_unchanged_version_counts() {
    let hold = String::from_utf8(case("hold-same-version")).expect("text");
    let talk = hold.replace("a=sendonly", "a=sendrecv");
    let mut leg = leg("hold-same-version");
    let (text, first) = answer(&mut leg, talk.as_bytes());
    leg.receive_offer(talk.as_bytes()).expect("sound");
    assert!(leg.is_refresh(), "the same once more");
    assert_eq!(answer(&mut leg, talk.as_bytes()), (text.clone(), first.clone()));
    for (from, to) in [
        ("a=sendrecv", "a=sendonly"),
        ("m=audio 6000", "m=audio 6002"),
        ("c=IN IP4 127.41.0.1", "c=IN IP4 127.41.0.2"),
        ("RTP/AVP 0 101", "RTP/AVP 8 101"),
        ("a=fmtp:101 0-16\r\n", "a=fmtp:101 0-16\r\na=ptime:40\r\n"),
    ] {
        let changed = talk.replace(from, to);
        leg.receive_offer(changed.as_bytes()).expect("sound");
        assert!(!leg.is_refresh(), "{to}");
        let (newer, negotiated) = answer(&mut leg, changed.as_bytes());
        assert_ne!(negotiated, first, "{to}");
        assert!(newer.version > text.version, "{to}");
        answer(&mut leg, talk.as_bytes());
    }
    let (text, negotiated) = answer(&mut leg, hold.as_bytes());
    assert_eq!(negotiated.direction, Direction::RecvOnly);
    assert_eq!(text.media[0].direction, Direction::RecvOnly);
}
