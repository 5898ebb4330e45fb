//! Properties: no input panics, what we write can be read, nothing is injected, and the crates we
//! measure ourselves against agree.

use proptest::prelude::*;
use std::fs;
use std::path::Path;
use webtrunk::media::stun::BindingRequest;
use webtrunk::recorder::{ladder, mask};
use webtrunk::rtp::Packet;
use webtrunk::sdp::Description;
use webtrunk::sip::build::{MessageWriter, name_addr};
use webtrunk::sip::parse::{Framing, HeaderName, Index};
use webtrunk::sip::stream::{Frame, Framer};
use webtrunk::sip::{Message, Method, Uri};

fn exercise(message: &Message) {
    // What the flight recorder shows of it: nothing a terminal or a page could run, and a message
    // again where it was one.
    let shown = mask::readable_message(message);
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    assert!(!ladder::summary(message).chars().any(char::is_control));
    let _ = Message::parse(mask::wire(&shown).into_bytes(), Framing::WebSocket);

    let _ = (
        message.check(),
        message.via().map(|v| v.branch().map(str::to_owned)),
        message.from().map(|f| f.display_name().into_owned()),
    );
    let _ = (
        message.to().map(|t| t.tag().map(str::to_owned)),
        message.contact().is_some(),
        message.cseq(),
        message.max_forwards(),
        message.body().len(),
    );
    let _ = message.headers().count();
}

fn corpus() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut all = Vec::new();
    for folder in fs::read_dir(root).expect("the corpus") {
        let folder = folder.expect("a folder").path();
        if folder.is_dir() {
            let files = fs::read_dir(folder).expect("readable").map(|e| e.expect("a file").path());
            let messages = files
                .filter(|p| p.extension().is_some_and(|e| e == "sip"))
                .map(|p| fs::read(p).expect("readable"));
            // Keep-alives were captured too; they are no messages.
            all.extend(messages.filter(|m| m.len() > 4));
        }
    }
    assert!(all.len() > 250, "{}", all.len());
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::parse(bytes.clone(), Framing::Datagram) {
            exercise(&message);
        }
        let _ = Description::parse(&bytes);
        let _ = BindingRequest::parse(&bytes).map(|r| r.is_authentic("x"));
        let _ = Packet::parse(&bytes, true).map(|p| p.payload(&bytes).len());
        let mut framer = Framer::default();
        framer.push(&bytes);
        while let Ok(Some(_)) = framer.next_frame() {}
    }

    #[test]
    fn a_bent_real_message_is_read_or_refused(
        at in any::<prop::sample::Index>(),
        where_ in any::<prop::sample::Index>(),
        with in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let all = corpus();
        let mut bytes = all[at.index(all.len())].clone();
        let n = where_.index(bytes.len());
        bytes[n] = with;
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(message) = Message::parse(bytes, Framing::WebSocket) {
            exercise(&message);
        }
    }

    #[test]
    fn nothing_is_injected_through_any_field(
        value in "[\\x00-\\x7f]{0,40}|.{0,20}(\\r\\n|\\n|\\r|\\x00)Evil: 1(\\r\\n)?.{0,10}",
    ) {
        let mut writer = MessageWriter::request(Method::Options, &format!("sip:{value}@x"));
        writer.put(HeaderName::Via, "SIP/2.0/UDP a;branch=z9hG4bK1");
        writer.put(HeaderName::From, name_addr(&value, &format!("sip:{value}@x")));
        writer.put(HeaderName::Subject, &value);
        writer.reason(&webtrunk::sip::Refusal::new(480, value.clone()).reason());
        let bytes = writer.end_with("text/plain", value.as_bytes());
        if let Ok(message) = Message::parse(bytes.to_vec(), Framing::WebSocket) {
            let names: Vec<String> = message.headers().map(|(_, n, _)| n.to_owned()).collect();
            let mut expected = vec!["Via", "From", "Subject", "Reason", "Reason"];
            if !value.is_empty() {
                expected.push("Content-Type");
            }
            expected.push("Content-Length");
            prop_assert_eq!(names, expected);
            prop_assert_eq!(message.body(), value.as_bytes());
        }
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_frames(
        cuts in proptest::collection::vec(1usize..400, 1..20),
    ) {
        let is_length = |bytes: &[u8]| bytes.eq_ignore_ascii_case(b"Content-Length:");
        let framed = |message: &Vec<u8>| message.windows(15).any(is_length);
        let all: Vec<Vec<u8>> = corpus().into_iter().filter(framed).take(20).collect();
        let stream = all.concat();
        let (mut framer, mut at, mut turn, mut seen) = (Framer::default(), 0, 0, 0);
        while at < stream.len() {
            let n = cuts[turn % cuts.len()].min(stream.len() - at);
            framer.push(&stream[at..at + n]);
            (at, turn) = (at + n, turn + 1);
            while let Some(frame) = framer.next_frame().expect("sound") {
                if let Frame::Message(message) = frame {
                    prop_assert_eq!(message.to_bytes(), &all[seen][..]);
                    seen += 1;
                }
            }
        }
        prop_assert_eq!(seen, all.len());
    }

    #[test]
    fn rtp_headers_are_read_as_the_rtp_crate_reads_them(
        head in proptest::collection::vec(any::<u8>(), 12..80),
    ) {
        use rtc_shared::marshal::Unmarshal;
        let mut bytes = head;
        bytes[0] = 0x80 | (bytes[0] & 0x2f);
        let theirs = rtp::header::Header::unmarshal(&mut &bytes[..]);
        if let (Ok(theirs), Some(ours)) = (theirs, Packet::parse(&bytes, false)) {
            prop_assert_eq!((ours.marker, ours.payload_type), (theirs.marker, theirs.payload_type));
            prop_assert_eq!(ours.sequence, theirs.sequence_number);
            prop_assert_eq!((ours.timestamp, ours.ssrc), (theirs.timestamp, theirs.ssrc));
        }
    }
}

#[test]
fn every_real_message_is_sound_and_survives_reading_and_writing_its_parts() {
    for bytes in corpus() {
        let message = Message::parse(bytes.clone(), Framing::Datagram)
            .unwrap_or_else(|e| panic!("{e}\n{}", String::from_utf8_lossy(&bytes)));
        message.check().unwrap_or_else(|e| panic!("{e}\n{}", String::from_utf8_lossy(&bytes)));
        if message.is_request() {
            let ok = MessageWriter::response(&message, 200, Some("t")).end();
            let ok = Message::parse(ok.to_vec(), Framing::WebSocket).expect("our response");
            ok.check().expect("sound");
            assert_eq!((ok.call_id(), ok.cseq()), (message.call_id(), message.cseq()));
            assert_eq!(
                ok.via().map(|v| v.branch().map(str::to_owned)),
                message.via().map(|v| v.branch().map(str::to_owned))
            );
            assert!(Uri::parse(message.request_uri()).is_ok());
        }
    }
}

#[test]
fn reading_a_head_allocates_nothing_and_spans_stay_inside() {
    for mut bytes in corpus() {
        let index = Index::parse(&mut bytes).expect("sound");
        for field in index.fields() {
            assert!(
                field.value.start <= field.value.end
                    && usize::from(field.value.end) <= index.body_start
            );
        }
    }
}

/// If rsip reads a real message at all, it and we must agree; how often it does not is the
/// evidence in src/docs/explanation/parser.md.
#[test]
fn rsip_agrees_wherever_it_can_read() {
    use rsip::headers::UntypedHeader;
    use rsip::message::HeadersExt;
    let (mut read, mut refused) = (0, 0);
    for bytes in corpus() {
        let ours = Message::parse(bytes.clone(), Framing::Datagram).expect("sound");
        let Ok(theirs) = rsip::SipMessage::try_from(bytes) else {
            refused += 1;
            continue;
        };
        read += 1;
        let call_id = match &theirs {
            rsip::SipMessage::Request(r) => r.call_id_header().map(|h| h.value().to_owned()),
            rsip::SipMessage::Response(r) => r.call_id_header().map(|h| h.value().to_owned()),
        };
        assert_eq!(call_id.ok().as_deref(), Some(ours.call_id()));
        if let rsip::SipMessage::Request(request) = &theirs {
            assert_eq!(request.method.to_string(), ours.method().to_string());
        }
    }
    println!("rsip reads {read} of {} real messages", read + refused);
    assert!(read > 0);
}

/// The limits of the security catalogue, one below, at, and one above each.
#[test]
fn every_limit_holds_at_its_boundary() {
    use webtrunk::sip::parse::{MAX_HEADER_LINE, MAX_HEADERS, MAX_START_LINE};
    let message = |uri: &str, extra: &str| {
        format!(
            "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:x>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n{extra}Content-Length: 0\r\n\r\n"
        )
    };
    let verdict = |text: String| match Message::parse(text.into_bytes(), Framing::Datagram) {
        Err(e) => e.status,
        Ok(m) => m.check().map_or_else(|e| e.status, |()| 200),
    };
    let fill = |n: usize| "x".repeat(n);
    for over in [0usize, 1] {
        let refused = |status: u16| if over == 0 { 200 } else { status };
        let uri = |n: usize| format!("sip:{}@b", fill(n - 6));
        assert_eq!(verdict(message(&uri(1_024 + over), "")), refused(414), "URI");
        // What nobody needs never decides, however long or many; what is needed does.
        for (name, long) in [("X-A", 200), ("Server", 200), ("Require", refused(513))] {
            let value = fill(MAX_HEADER_LINE - name.len() - 2 + over);
            let header = format!("{name}: {value}\r\n");
            assert_eq!(verdict(message("sip:x", &header)), long, "header line {name}");
        }
        let many = |line: &str| line.repeat(MAX_HEADERS - 6 + over);
        assert_eq!(verdict(message("sip:x", &many("X-A: 1\r\n"))), 200, "unknown lines");
        let known = many("Allow: A\r\n");
        assert_eq!(verdict(message("sip:x", &known)), refused(513), "known lines before a needed");
        let vias = "Via: SIP/2.0/UDP a;branch=z9hG4bK2\r\n".repeat(63 + over);
        assert_eq!(verdict(message("sip:x", &vias)), refused(400), "Via values");
        let contacts = "Contact: <sip:a@b>\r\n".repeat(32 + over);
        let register = message("sip:x", &contacts).replace("OPTIONS", "REGISTER");
        assert_eq!(verdict(register), refused(400), "Contact values");
    }
    // Bounds are on what is kept: what upstream wrote is as long as it likes.
    let routes = "Route: <sip:a>\r\n".repeat(100);
    assert_eq!(verdict(message("sip:x", &routes)), 200, "Route values");
    let params: String = (0..100).map(|n| format!(";p{n}")).collect();
    let contact = format!("Contact: <sip:a@b>{params}\r\n");
    assert_eq!(verdict(message("sip:x", &contact)), 200, "parameters");
    for (name, from) in [("branch", "z9hG4bK1"), ("tag", "tag=1"), ("Call-ID", "Call-ID: 1")] {
        let bare = from.rsplit(['=', ' ']).next().expect("a word");
        let long = from.replace(bare, &fill(3_000));
        assert_eq!(verdict(message("sip:x", "").replace(from, &long)), 200, "{name}");
    }
    assert_eq!(verdict(message(&format!("sip:{}", fill(MAX_START_LINE)), "")), 414, "start line");
    assert_eq!(verdict(message("sip:x", &format!("X: {}\r\n", fill(66_000)))), 513, "message");
}

/// STUN, beside the rtc-stun crate: it accepts what we answer, and we accept what it asks.
#[test]
fn stun_agrees_with_rtc_stun() {
    let request = webtrunk::media::stun::binding_request(
        [5; 12],
        "ours:theirs",
        "a-password-of-22-chars",
        true,
    );
    let mut theirs = rtc_stun::message::Message::new();
    theirs.raw = request.clone();
    theirs.decode().expect("they read our request");
    rtc_stun::fingerprint::FINGERPRINT.check(&theirs).expect("fingerprint");
    let parsed = BindingRequest::parse(&request).expect("we read it too");
    assert!(parsed.is_authentic("a-password-of-22-chars") && !parsed.is_authentic("another"));
    let mut answer = rtc_stun::message::Message::new();
    answer.raw = parsed.success("192.0.2.9:4321".parse().unwrap(), "a-password-of-22-chars");
    answer.decode().expect("they read our answer");
    rtc_stun::fingerprint::FINGERPRINT.check(&answer).expect("fingerprint");
    let mut mapped = rtc_stun::xoraddr::XorMappedAddress::default();
    rtc_stun::message::Getter::get_from(&mut mapped, &answer).expect("an address");
    assert_eq!((mapped.ip.to_string(), mapped.port), ("192.0.2.9".to_owned(), 4321));
}
