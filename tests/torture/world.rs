//! What real peers write, beside the RFCs' own torture: a header that is not needed never decides,
//! in a request or a response, as a datagram, on a stream, or in a WebSocket frame.

use webtrunk::sip::Message;
use webtrunk::sip::parse::Framing;
use webtrunk::sip::remarks::remarks;
use webtrunk::sip::stream::{Frame, Framer};

/// Bytes at the place of `@@` in a base message, and whether somebody who looks is told of them.
struct Kind(&'static str, &'static [u8], bool);

/// Lines nobody needs, each of them in its own words.
const UNNEEDED: &[Kind] = &[
    Kind("a line without colon", b"this is no header\r\n", true),
    Kind("a line of one colon", b":\r\n", true),
    Kind("a name with a space", b"X Y: 1\r\n", true),
    Kind("a name beyond ASCII", b"X-\xf6: 1\r\n", true),
    Kind("Latin-1 in Subject", b"Subject: K\xf6ln\r\n", true),
    Kind("Latin-1 in Server", b"Server: T\xe9l\xe9com\r\n", true),
    Kind("Latin-1 in User-Agent", b"User-Agent: Ger\xe4t\r\n", true),
    Kind("Latin-1 in Organization", b"Organization: \xc4\xd6\xdc\r\n", true),
    Kind("broken UTF-8", b"Subject: \xc3(\r\n", true),
    Kind("a control character", b"X-Bell: \x07\r\n", true),
    Kind("NUL", b"X-Nul: a\x00b\r\n", true),
    Kind("a bare CR", b"X-Cr: a\rb\r\n", true),
    Kind("a Date that is not GMT", b"Date: Thu, 26 Nov 2026 10:00:00 +0100\r\n", true),
    Kind("an empty Date", b"Date:\r\n", true),
    Kind("an Expires of words", b"Expires: Thu, 01 Dec 2026 16:00:00 GMT\r\n", true),
    Kind("a Retry-After of words", b"Retry-After: soon (maybe)\r\n", true),
    Kind("a Session-Expires of words", b"Session-Expires: never;refresher=me\r\n", true),
    Kind("a Min-SE below nought", b"Min-SE: -1\r\n", true),
    Kind("a Max-Forwards of words", b"Max-Forwards: many\r\n", true),
    Kind("an empty Allow", b"Allow:\r\n", false),
    Kind("an Allow of commas", b"Allow: ,,INVITE,,ACK,\r\n", false),
    Kind("an empty Supported", b"Supported: \r\n", false),
    Kind("a Supported of blanks", b"Supported:\t timer\t,\t\r\n", false),
    Kind("Content-Type twice", b"Content-Type: application/sdp\r\n", false),
    Kind("another Content-Type", b"Content-Type: nonsense\r\n", true),
    Kind("Max-Forwards twice", b"Max-Forwards: 69\r\n", false),
    Kind("User-Agent twice", b"User-Agent: a\r\nUser-Agent: b\r\n", false),
    Kind("a P-Asserted-Identity of noise", b"P-Asserted-Identity: <<>>\r\n", true),
    Kind("an unquoted P-A-I", b"P-Asserted-Identity: a@b, Jr. <tel:+1206>\r\n", true),
    Kind("a Record-Route of noise", b"Record-Route: <>\r\n", true),
    Kind("a Route of noise", b"Route: nobody\r\n", true),
    Kind("a Diversion of noise", b"Diversion: \"x <sip:1@b>\r\n", true),
    Kind("a History-Info of noise", b"History-Info: <1>\r\n", true),
    Kind("a Reason of noise", b"Reason: ;;;===\r\n", false),
    Kind("a Warning of noise", b"Warning: 399\r\n", false),
    Kind("an Alert-Info of a foreign scheme", b"Alert-Info: <intercom://x y>\r\n", false),
    Kind("a Call-Info of a foreign scheme", b"Call-Info: <weird:\\\\x>;purpose\r\n", false),
    Kind("a Require of nothing", b"Require:\r\n", false),
    Kind("an Identity without end", b"Identity: \"abc\r\n", false),
    Kind("an RSeq of words", b"RSeq: one\r\n", true),
    Kind("a second readable Contact", b"Contact: nonsense\r\n", true),
    Kind("a folded line", b"X-Folded: a\r\n \tb\r\n  c\r\n", false),
    Kind("a folded blank line", b"X-Folded: a\r\n \r\n", false),
    Kind("a From that says the same again", b"From: <sip:a@b>;tag=1\r\n", false),
    Kind("a Call-ID that says the same again", b"i: world\r\n", false),
    Kind(
        "a Record-Route of odd parameters",
        b"Record-Route: <sip:p;lr=on;ftag=1;x=>;;y=;\r\n",
        false,
    ),
    Kind(
        "routes joined by commas",
        b"Record-Route: <sip:p;lr>,<sip:q;lr> ,\t<sip:r;lr>,\r\n",
        false,
    ),
    Kind("an empty Record-Route", b"Record-Route:\r\n", false),
    Kind("a Route of an IPv6 zone", b"Route: <sip:[fe80::1%eth0]:5060;lr>\r\n", false),
    Kind("an asterisk beside a Contact", b"Contact: *\r\n", false),
    Kind("a second Contact by telephone", b"Contact: <tel:+12065550100>\r\n", false),
    Kind("a Require of commas", b"Require: ,\t,\r\n", false),
    Kind("a Supported of noise", b"Supported: \"a, b;c=<d>\r\nk: \xff\xfe\r\n", true),
    Kind("a Server of noise", b"Server: ((((/1.0 <>\";;\r\n", false),
    Kind("an empty User-Agent", b"User-Agent:\r\n", false),
    Kind("a Warning of many words", b"Warning: 399 x \"a, b, c\r\n", false),
    Kind("an Allow in small letters", b"Allow: invite, ack; bye\r\n", false),
    Kind("an Accept of noise", b"Accept: */*;q=2;;, ,text\r\n", false),
    Kind("bare LF", b"X-Lf: 1\nX-Lf2: 2\r\n", false),
];

/// Where a base message has one of its needed lines, one as real peers write it.
const WRITTEN: &[(&str, &str, &str)] = &[
    ("; ends Via", "branch=z9hG4bKworld", "branch=z9hG4bKworld;"),
    ("; ends To", "To: <sip:x@b>", "To: <sip:x@b>;"),
    ("; ends From", ">;tag=1", ">;tag=1;;"),
    ("; ends Contact", "<sip:a@127.0.0.10>", "<sip:a@127.0.0.10>; ;"),
    ("blanks before ;", ">;tag=1", "> \t; tag = 1"),
    ("an @ in a display name", "From: <", "From: bob@example.com <"),
    ("a comma in a display name", "From: <", "From: Bell, Alexander <"),
    ("brackets in a display name", "From: <", "From: (Büro) [2. Stock] #7 <"),
    ("a colon in a display name", "To: <", "To: Tel: 7 <"),
    ("a quote that does not end in From", "From: <", "From: \"Bell <"),
    ("a quote that does not end in To", "To: <", "To: Bell\" <"),
    ("a quote that ends escaped", "From: <", "From: \"C:\\\" <"),
    ("a quote within a name that is quoted", "From: <", "From: \"24\" screen\" <"),
    ("brackets within a quote that does not end", "From: <", "From: \"Bell <x> <"),
    ("a quote that does not end in Contact", "Contact: <", "Contact: \"Bell <"),
    ("a quote that does not end behind a tag", ">;tag=1", ">;tag=1;x=\"y"),
    (
        "a quote that does not end behind a branch",
        "branch=z9hG4bKworld",
        "branch=z9hG4bKworld;x=\"y",
    ),
    ("a control character in a display name", "From: <", "From: \"a\u{1b}[31mb\" <"),
    ("blanks in a To URI", "<sip:x@b>", "< sip:+1 206 555 0100@b >"),
    ("a To URI of a foreign scheme", "<sip:x@b>", "<urn:service:sos>"),
    ("a To URI that is none", "<sip:x@b>", "<x>"),
    ("text after a bracket", "<sip:x@b>", "<sip:x@b> x"),
    ("a port out of range in From", "<sip:a@b>", "<sip:a@b:99999>"),
    ("received twice", ";branch", ";received=1.2.3.4;received=x;branch"),
    ("an rport of words", ";branch", ";rport=x;branch"),
    ("a quoted Via parameter", ";branch", ";x=\"a;b\";branch"),
    ("tabs in Via", "SIP/2.0/UDP ", "SIP/2.0/UDP\t "),
    ("a second Via of noise", "\r\nFrom", ", nonsense\r\nFrom"),
    ("tabs in CSeq", "CSeq: 1 ", "CSeq:\t1\t "),
    ("blanks before a colon", "CSeq:", "CSeq \t:"),
    ("an IPv6 zone in Via", "UDP 127.0.0.10", "UDP [fe80::1%25eth0]:5060"),
    ("an IPv6 zone in From", "<sip:a@b>", "<sip:a@[fe80::1%eth0]>"),
    ("port 0 in Via", "127.0.0.10;", "127.0.0.10:0;"),
    ("a port of six digits in Via", "127.0.0.10;", "127.0.0.10:506000;"),
    ("empty Via parameters", ";branch", ";received=;rport=;ttl;branch"),
    ("a branch in capitals", ";branch=", ";BRANCH="),
    ("a method in small letters in CSeq", "1 INVITE", "1 invite"),
    ("leading zeros in CSeq", "CSeq: 1 ", "CSeq: 0001 "),
    ("headers in a From URI", "<sip:a@b>", "<sip:a@b?Replaces=x%3Bto-tag%3D1&y>"),
    ("an empty user in To", "<sip:x@b>", "<sip:@b>"),
    ("a password in To", "<sip:x@b>", "<sip:x:secret@b>"),
    ("an empty display name", "From: <", "From: \"\" <"),
    ("compact forms", "\r\nFrom: <sip:a@b>;tag=1\r\nTo:", "\r\nf:<sip:a@b>;tag=1\r\nT :"),
    ("a Contact without brackets", "<sip:a@127.0.0.10>", "sip:a@127.0.0.10 ;expires=60"),
    ("two Contacts joined", "<sip:a@127.0.0.10>", "<sip:a@127.0.0.10>,<sip:z@y>;q=0.1"),
    ("a folded Contact", "Contact: <", "Contact:\r\n\t<"),
    ("a padded Content-Length", "Content-Length: ", "Content-Length:    "),
];

const REQUEST: &str = "INVITE sip:x@wt.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.10;branch=z9hG4bKworld\r\nFrom: <sip:a@b>;tag=1\r\n\
    To: <sip:x@b>\r\nCall-ID: world\r\nCSeq: 1 INVITE\r\nContact: <sip:a@127.0.0.10>\r\n@@Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n";
const RESPONSE: &str = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.10;branch=z9hG4bKworld\r\nFrom: <sip:a@b>;tag=1\r\n\
    To: <sip:x@b>;tag=2\r\nCall-ID: world\r\nCSeq: 1 INVITE\r\nContact: <sip:a@127.0.0.10>\r\n@@Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n";

fn with(base: &str, bytes: &[u8]) -> Vec<u8> {
    let (head, tail) = base.split_once("@@").expect("a place");
    [head.as_bytes(), bytes, tail.as_bytes()].concat()
}

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
    assert_eq!(streamed, 2, "{name}: the stream goes on");
    all
}

fn holds(name: &str, bytes: &[u8], told: Option<bool>) {
    for message in read(name, bytes) {
        message.check().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(message.body(), b"v=0\r\n", "{name}");
        assert_eq!(message.body_of("application/sdp"), Some(&b"v=0\r\n"[..]), "{name}");
        assert_eq!(message.call_id(), "world", "{name}");
        assert_eq!(message.from().and_then(|f| f.tag()), Some("1"), "{name}");
        let contact = message.contact().map(|c| c.uri.text);
        assert_eq!(contact, Some("sip:a@127.0.0.10"), "{name}");
        if let Some(told) = told {
            assert_eq!(!remarks(&message).is_empty(), told, "{name}: {:?}", remarks(&message));
        }
    }
}

#[test]
fn a_header_that_is_not_needed_never_decides() {
    for base in [REQUEST, RESPONSE] {
        holds("nothing odd", &with(base, b""), Some(false));
        for Kind(name, line, told) in UNNEEDED {
            holds(name, &with(base, line), Some(*told));
        }
        let long = ["X-Long: ", &"x".repeat(20_000), "\r\n"].concat();
        holds("a line of 20 kB", &with(base, long.as_bytes()), Some(true));
        let many = "X-Many: 1\r\n".repeat(400);
        holds("400 lines of a name nobody knows", &with(base, many.as_bytes()), Some(true));
        let many = "Allow: INVITE\r\n".repeat(120);
        holds("120 lines of Allow", &with(base, many.as_bytes()), Some(false));
    }
}

#[test]
fn what_is_needed_is_read_as_real_peers_write_it() {
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
fn what_is_needed_and_broken_is_refused_and_the_stream_goes_on() {
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

/// What a proxy in front of us may take for the length, and we do not (SECURITY P2, A9).
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
