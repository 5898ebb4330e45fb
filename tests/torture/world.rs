//! What real peers write, beside the RFCs' own torture: a header that is not needed never decides,
//! in a request or a response, as a datagram, on a stream, or in a WebSocket frame.

use crate::kinds::{Kind, REQUEST, UNNEEDED, WRITTEN, long, with};
use webtrunk::sip::Message;
use webtrunk::sip::parse::Framing;
use webtrunk::sip::remarks::remarks;
use webtrunk::sip::stream::{Frame, Framer};

const RESPONSE: &str = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.10;branch=z9hG4bKworld\r\nFrom: <sip:a@b>;tag=1\r\n\
    To: <sip:x@b>;tag=2\r\nCall-ID: world\r\nCSeq: 1 INVITE\r\nContact: <sip:a@127.0.0.10>\r\n@@Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n";

/// The message as each transport reads it. On a stream another one follows, which must be found.
fn read(name: &str, bytes: &[u8]) -> Vec<Message> {
    let mut all = Vec::new();
    for framing in [Framing::Datagram, Framing::WebSocket] {
        // Keep-alives before, and whatever the packet holds after it, are no part of the message.
        for packet in [
            bytes.to_vec(),
            [b"\r\n\r\n", bytes].concat(),
            [bytes, b"\r\n\r\n"].concat(),
            [bytes, b"BYE sip:x SIP/2.0\r\n\r\n"].concat(),
        ] {
            let message = Message::parse(packet, framing);
            all.push(message.unwrap_or_else(|e| panic!("{name}: {e}")));
        }
    }
    let mut framer = Framer::default();
    framer.push(&[b"\r\n\r\n\r\n", bytes, b"\r\n\r\n", bytes].concat());
    let mut streamed = 0;
    while let Some(frame) = framer.next_frame().unwrap_or_else(|(e, _)| panic!("{name}: {e}")) {
        if let Frame::Message(message) = frame {
            all.push(message);
            streamed += 1;
        }
    }
    assert_eq!(streamed, 2, "{name}: the stream continues");
    all
}

fn holds(name: &str, bytes: &[u8], remarked: Option<bool>) {
    for message in read(name, bytes) {
        message.check().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(message.body(), b"v=0\r\n", "{name}");
        assert_eq!(message.body_of("application/sdp"), Some(&b"v=0\r\n"[..]), "{name}");
        assert_eq!(message.call_id(), "world", "{name}");
        assert_eq!(message.from().and_then(|f| f.tag()), Some("1"), "{name}");
        let contact = message.contact().map(|c| c.uri.text);
        assert_eq!(contact, Some("sip:a@127.0.0.10"), "{name}");
        if let Some(remarked) = remarked {
            assert_eq!(!remarks(&message).is_empty(), remarked, "{name}: {:?}", remarks(&message));
        }
    }
}

#[test]
fn a_header_that_is_not_needed_never_decides() {
    for base in [REQUEST, RESPONSE] {
        holds("nothing odd", &with(base, b""), Some(false));
        for Kind(name, line, remarked) in UNNEEDED {
            holds(name, &with(base, line), Some(*remarked));
        }
        for (name, lines, remarked) in long() {
            holds(name, &with(base, lines.as_bytes()), Some(remarked));
        }
    }
}

#[test]
fn required_headers_are_read_as_real_peers_write_them() {
    for base in [REQUEST, RESPONSE] {
        for (name, from, to) in WRITTEN {
            let text = base.replace("@@", "");
            let bent = text.replacen(from, to, 1);
            assert_ne!(bent, text, "{name} changes something");
            holds(name, bent.as_bytes(), None);
        }
        for (name, from) in [("tag", ">;tag=1"), ("Via parameter", ";branch")] {
            let fill = "x".repeat(3_000);
            let to = if name == "tag" {
                format!(">;x={fill};tag=1")
            } else {
                format!(";x={fill};branch")
            };
            holds(name, base.replace("@@", "").replacen(from, &to, 1).as_bytes(), Some(false));
        }
    }
    let names = [&b"From: J\xf6rg <"[..], b"From: \"J\xf6rg\" <"];
    for name in names {
        let bytes = with(REQUEST, b"");
        let at = bytes.windows(7).position(|w| w == b"From: <").expect("a From");
        let bytes = [&bytes[..at], name, &bytes[at + 7..]].concat();
        holds("Latin-1 in a display name", &bytes, Some(true));
        let message = Message::parse(bytes, Framing::Datagram).expect("read");
        assert_eq!(message.from().expect("a From").display_name(), "Jörg");
    }
    let reason = [&b"SIP/2.0 200 D'accord \xe9\x01"[..], &with(RESPONSE, b"")[14..]].concat();
    holds("Latin-1 and a control character in a reason phrase", &reason, Some(true));
    let bare = with(RESPONSE, b"");
    let long = ["SIP/2.0 200 ", &"x".repeat(3_000), &RESPONSE.replace("@@", "")[14..]].concat();
    holds("a reason phrase of 3 kB", long.as_bytes(), None);
    holds("no reason phrase", &[&b"SIP/2.0 200"[..], &bare[14..]].concat(), Some(false));
    holds("two spaces", &[&b"SIP/2.0  200 OK"[..], &bare[14..]].concat(), Some(false));
}

#[test]
fn a_broken_required_header_is_refused_and_the_stream_continues() {
    let needed: &[(&str, &str, &str)] = &[
        ("no Via", "Via:", "X-Via:"),
        ("a Via without host", "UDP 127.0.0.10", "UDP"),
        ("a Via with a control character", "127.0.0.10;", "127.0.0.10\u{1};"),
        ("no From", "From:", "X-From:"),
        ("a From without end", "From: <sip:a@b>", "From: \"a <sip:a@b"),
        ("a From of a name that does not end", "From: <sip:a@b>", "From: \"a sip:a@b"),
        ("two Froms", "To: <", "From: <sip:other@b>;tag=7\r\nTo: <"),
        ("a From name with a control character", "From:", "Fr\u{1}om: <sip:c@d>\r\nFrom:"),
        ("no To", "To:", "X-To:"),
        ("no Call-ID", "Call-ID: world\r\n", ""),
        ("two Call-IDs", "Call-ID: world\r\n", "Call-ID: world\r\nCall-ID: other\r\n"),
        ("no CSeq", "CSeq: 1 INVITE\r\n", ""),
        ("a CSeq of words", "CSeq: 1", "CSeq: one"),
        ("a CSeq of another method", "CSeq: 1 INVITE", "CSeq: 1 BYE"),
        ("a Contact that cannot be read", "Contact: <sip:a@127.0.0.10>", "Contact: nobody"),
        ("a Require with a control character", "Contact:", "Require: a\u{1}b\r\nContact:"),
    ];
    for (name, from, to) in needed {
        let bytes = REQUEST.replace("@@", "").replacen(from, to, 1).into_bytes();
        for message in read(name, &bytes) {
            let error = message.check().expect_err(name);
            assert_eq!(error.status, 400, "{name}");
        }
    }
}

/// What a proxy in front of us may take for the length, and we do not.
#[test]
fn no_second_length_is_left_out() {
    for line in [
        "Content-Length\u{1}: 0",
        "Content-Length\u{b}: 0",
        "Content\u{1}-Length: 0",
        "Content-Length 0",
        "\u{1}Content-Length: 0",
        "Content-Length: 0x5",
        "Content-Length: 5, 5",
        "Content-Length:",
        "l\u{1}: 0",
        "l: 6",
        "CONTENT-LENGTH: +5",
        "Content-Length: 5\u{1}",
    ] {
        let bytes = with(REQUEST, format!("{line}\r\n").as_bytes());
        for framing in [Framing::Datagram, Framing::WebSocket] {
            let message = Message::parse(bytes.clone(), framing).expect("answered");
            assert_eq!(message.check().map_err(|e| e.status), Err(400), "{line:?}");
        }
        let mut framer = Framer::default();
        framer.push(&bytes);
        let refused = match framer.next_frame() {
            Ok(Some(Frame::Message(message))) => message.check().is_err(),
            Ok(_) => false,
            Err(_) => true,
        };
        assert!(refused, "{line:?}");
    }
}

#[test]
fn a_packet_shorter_than_its_length_is_refused_as_a_request_and_has_no_body_as_a_response() {
    for framing in [Framing::Datagram, Framing::WebSocket] {
        let cut = |base: &str| {
            let bytes = with(base, b"");
            Message::parse(bytes[..bytes.len() - 2].to_vec(), framing).expect("read")
        };
        assert_eq!(cut(REQUEST).check().map_err(|e| e.status), Err(400));
        assert!(cut(RESPONSE).body().is_empty());
        let head = REQUEST.split("@@").next().expect("a head").as_bytes().to_vec();
        let endless = Message::parse(head, framing).expect("answered as far as it goes");
        assert_eq!(endless.check().map_err(|e| e.status), Err(400));
        assert_eq!(endless.call_id(), "world");
    }
}

/// The inputs of `tests/cases`, as they are.
#[test]
fn the_small_cases_are_read_by_every_transport() {
    for name in ["latin1", "multipart", "user-parameters", "odd-date"] {
        let path = format!("{}/tests/cases/{name}.sip", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).expect("a case");
        for message in read(name, &bytes) {
            message.check().unwrap_or_else(|e| panic!("{name}: {e}"));
            let sdp = message.body_of("application/sdp").unwrap_or_default();
            assert!(sdp.starts_with(b"v=0\r\n") && sdp.ends_with(b"a=sendrecv\r\n"), "{name}");
            assert!(message.request_uri().ends_with("@wt.test"), "{name}");
        }
    }
}
