//! The audio level a browser says (RFC 6464): agreed with a browser by the number it has, and never
//! with a trunk.

use super::{local, strict};
use webtrunk::codec::Codec;
use webtrunk::sdp::Direction;
use webtrunk::sdp::offer_answer::{LegKind, Negotiated, Negotiation};

const URI: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const BROWSER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=rtpmap:111 opus/48000/2\r\n\
    a=sendrecv\r\na=rtcp-mux\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
    a=fingerprint:sha-256 \
    00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\
    \r\na=setup:actpass\r\n";
const TRUNK: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";

fn lines(sdp: &str) -> Vec<&str> {
    sdp.lines().filter(|line| line.starts_with("a=extmap")).collect()
}

fn answered(leg: &mut Negotiation, offer: &str) -> (String, Negotiated) {
    leg.receive_offer(offer.as_bytes()).expect("an offer");
    let (text, negotiated) = leg.answer(&Codec::ALL, Direction::SendRecv).expect("an answer");
    strict::check(&text);
    (text, negotiated)
}

fn browser() -> Negotiation {
    Negotiation::new(local(LegKind::Browser))
}

#[test]
fn a_browsers_audio_level_extension_keeps_its_id_and_its_others_are_dropped() {
    let offer = format!(
        "{BROWSER}a=extmap:2/recvonly urn:ietf:params:rtp-hdrext:csrc-audio-level\r\n\
         a=extmap:5 {URI} vad=on\r\na=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid\r\n"
    );
    let (text, negotiated) = answered(&mut browser(), &offer);
    assert_eq!(negotiated.audio_level, Some(5));
    assert_eq!(lines(&text), [format!("a=extmap:5 {URI}")]);
    for not_ours in [
        format!("a=extmap:5/recvonly {URI}"),
        format!("a=extmap:5/inactive {URI}"),
        format!("a=extmap:0 {URI}"),
        format!("a=extmap:15 {URI}"),
        format!("a=extmap:300 {URI}"),
        format!("a=extmap:x {URI}"),
        format!("a=extmap:5 urn:ietf:params:rtp-hdrext:encrypt {URI}"),
        "a=extmap:5".to_owned(),
        "a=extmap".to_owned(),
    ] {
        let (text, negotiated) = answered(&mut browser(), &format!("{BROWSER}{not_ours}\r\n"));
        assert_eq!((negotiated.audio_level, lines(&text).len()), (None, 0), "{not_ours}");
    }
}

#[test]
fn a_trunk_is_neither_offered_nor_answered_an_audio_level() {
    let mut trunk = Negotiation::new(local(LegKind::Trunk));
    assert!(lines(&trunk.offer(&[Codec::Opus, Codec::Pcmu])).is_empty());
    let answer = format!("{TRUNK}a=extmap:1 {URI}\r\n");
    let negotiated = trunk.receive_answer(answer.as_bytes()).expect("an answer");
    assert_eq!(negotiated.audio_level, None);
    let (text, negotiated) = answered(&mut Negotiation::new(local(LegKind::Trunk)), &answer);
    assert_eq!((negotiated.audio_level, lines(&text).len()), (None, 0));
}

#[test]
fn our_offer_to_a_browser_asks_for_it_and_the_number_agreed_stays() {
    let plain = BROWSER.replace("actpass", "active");
    let agreed = |answer: &str| {
        let mut leg = browser();
        let offer = leg.offer(&[Codec::Opus]);
        strict::check(&offer);
        assert_eq!(lines(&offer), [format!("a=extmap:1 {URI}")]);
        let number = leg.receive_answer(answer.as_bytes()).expect("an answer").audio_level;
        (leg, number)
    };
    let (mut leg, number) = agreed(&format!("{plain}a=extmap:1 {URI}\r\n"));
    assert_eq!(number, Some(1));
    assert_eq!(lines(&leg.reoffer(&[Codec::Opus])), [format!("a=extmap:1 {URI}")]);
    // Left out, or by a number that is not ours.
    for answer in [plain.clone(), format!("{plain}a=extmap:4 {URI}\r\n")] {
        let (mut leg, number) = agreed(&answer);
        assert_eq!(number, None);
        assert!(lines(&leg.reoffer(&[Codec::Opus])).is_empty(), "it is not asked again");
    }
    let mut leg = browser();
    answered(&mut leg, &format!("{BROWSER}a=extmap:9 {URI}\r\n"));
    assert_eq!(lines(&leg.reoffer(&[Codec::Opus])), [format!("a=extmap:9 {URI}")]);
}
