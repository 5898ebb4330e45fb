//! telephone-events: what we offered and the peer accepted is received, what it offered and we can
//! use is accepted, each direction on its own.

use super::local;
use webtrunk::codec::Codec;
use webtrunk::sdp::Direction;
use webtrunk::sdp::offer_answer::{
    Content, EventFormat, LegKind, Negotiated, Negotiation, TelephoneEvents,
};

/// A browser's description of these formats.
fn browser(formats: &str, maps: &[&str]) -> String {
    let fingerprint = vec!["AB"; 32].join(":");
    let mut text = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF {formats}\r\n\
         c=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\na=setup:active\r\na=mid:0\r\na=rtcp-mux\r\n"
    );
    maps.iter().for_each(|map| text.push_str(&format!("a=rtpmap:{map}\r\n")));
    text
}

/// A payload type, and its clock.
type Pair = (u8, u32);

fn pairs(events: &TelephoneEvents) -> (Option<Pair>, Vec<Pair>) {
    let pair = |f: &EventFormat| (f.payload_type, f.clock);
    (events.send.as_ref().map(pair), events.receive.iter().map(pair).collect())
}

fn answered(formats: &str, maps: &[&str]) -> Negotiated {
    let mut leg = Negotiation::new(local(LegKind::Browser));
    leg.offer(&Codec::BROWSERS);
    let answer = browser(formats, maps).replace("setup:actpass", "setup:active");
    leg.receive_answer(answer.as_bytes()).expect("an answer").clone()
}

#[test]
fn a_browser_that_is_called_may_send_its_digits_in_any_clock_it_accepted() {
    // Chromium accepts both, and sends its digits at 8000 beside Opus.
    let both = ["111 opus/48000/2", "101 telephone-event/8000", "110 telephone-event/48000"];
    let chromium = answered("111 101 110", &both);
    assert_eq!(pairs(&chromium.events), (Some((110, 48_000)), vec![(101, 8_000), (110, 48_000)]));
    assert_eq!(chromium.content(101), Some(Content::Event(8_000)));
    assert_eq!(chromium.content(110), Some(Content::Event(48_000)));
    // Firefox has one at 8000.
    let one = ["111 opus/48000/2", "101 telephone-event/8000/1"];
    let firefox = answered("111 101", &one);
    assert_eq!(firefox.events.send, Some(EventFormat { payload_type: 101, clock: 8_000 }));
    assert_eq!(firefox.content(101), Some(Content::Event(8_000)));
    // Beside G.711 the one at 8000 is sent.
    let narrow = answered("0 110 101", &["110 telephone-event/48000", "101 telephone-event/8000"]);
    assert_eq!(narrow.events.send, Some(EventFormat { payload_type: 101, clock: 8_000 }));
    let without = answered("0", &[]);
    assert_eq!(without.events, TelephoneEvents::default());
}

#[test]
fn a_peer_that_renumbers_is_heard_by_its_numbers_and_by_ours() {
    let maps = ["96 opus/48000/2", "97 telephone-event/8000", "98 telephone-event/48000"];
    let peer = answered("96 97 98", &maps);
    assert_eq!(peer.send, 96);
    assert_eq!(peer.events.send, Some(EventFormat { payload_type: 98, clock: 48_000 }));
    for (payload_type, content) in [
        (96, Content::Audio(Codec::Opus)),
        (111, Content::Audio(Codec::Opus)),
        (97, Content::Event(8_000)),
        (101, Content::Event(8_000)),
        (98, Content::Event(48_000)),
        (110, Content::Event(48_000)),
    ] {
        assert_eq!(peer.content(payload_type), Some(content), "{payload_type}");
    }
    // A number of ours it did not accept means what it says.
    let peer = answered("0 110", &["110 telephone-event/8000"]);
    assert_eq!(peer.content(110), Some(Content::Event(8_000)));
}

#[test]
fn all_events_a_browser_offers_are_accepted_and_one_fits_the_codec() {
    let maps = [
        "109 opus/48000/2",
        "101 telephone-event/8000",
        "110 telephone-event/48000",
        "113 telephone-event/16000",
    ];
    let offer = browser("109 0 101 110 113", &maps).replace("setup:active", "setup:actpass");
    for (codec, send) in [(Codec::Opus, 110), (Codec::Pcmu, 101)] {
        let mut leg = Negotiation::new(local(LegKind::Browser));
        leg.receive_offer(offer.as_bytes()).expect("an offer");
        let (text, negotiated) = leg.answer(&[codec], Direction::SendRecv).expect("an answer");
        assert_eq!(negotiated.events.send.map(|f| f.payload_type), Some(send));
        let receive = pairs(&negotiated.events).1;
        assert_eq!(receive, [(101, 8_000), (110, 48_000), (113, 16_000)]);
        for map in &maps[1..] {
            assert!(text.contains(&format!("a=rtpmap:{map}\r\n")), "{text}");
        }
    }
}
