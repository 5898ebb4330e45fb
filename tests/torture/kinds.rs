//! The kinds of oddity that real peers write, for `world` here and for `tests/node/wire`, where the
//! same go over sockets.

/// Bytes in the place of `@@` in a base message, and whether the ladder remarks on them.
pub(crate) struct Kind(pub &'static str, pub &'static [u8], pub bool);

/// Lines nobody needs, each of them in its own words.
pub(crate) const UNNEEDED: &[Kind] = &[
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
pub(crate) const WRITTEN: &[(&str, &str, &str)] = &[
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
    ("an invalid To URI", "<sip:x@b>", "<x>"),
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

pub(crate) const REQUEST: &str = "INVITE sip:x@wt.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.10;branch=z9hG4bKworld\r\nFrom: <sip:a@b>;tag=1\r\n\
    To: <sip:x@b>\r\nCall-ID: world\r\nCSeq: 1 INVITE\r\nContact: <sip:a@127.0.0.10>\r\n@@Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n";

/// `base` with `bytes` at its place.
pub(crate) fn with(base: &str, bytes: &[u8]) -> Vec<u8> {
    let (head, tail) = base.split_once("@@").expect("a place");
    [head.as_bytes(), bytes, tail.as_bytes()].concat()
}

/// Lines that are long, or many: a name, the lines, and whether the ladder remarks on them.
pub(crate) fn long() -> [(&'static str, String, bool); 3] {
    [
        ("a line of 20 kB", ["X-Long: ", &"x".repeat(20_000), "\r\n"].concat(), true),
        ("400 lines of a name nobody knows", "X-Many: 1\r\n".repeat(400), true),
        ("120 lines of Allow", "Allow: INVITE\r\n".repeat(120), false),
    ]
}
