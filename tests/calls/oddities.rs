//! What carriers, PBXs and phones are known to write, and to do: each is a call that works, or an
//! answer that says the right thing.

use crate::lab::*;
use crate::trunk_health::REALM;
use std::time::Duration;
use webtrunk::sip::Message;
use webtrunk::sip::parse::{Framing, HeaderName};

fn change(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in {text}");
        text.replacen(from, to, 1)
    })
}

/// A call of the trunk to alice, its INVITE and what follows changed so: it is answered, changed,
/// and hung up by alice.
fn comes_in(what: &str, changes: &[(&str, &str)], everywhere: &[(&str, &str)]) -> Message {
    let mut lab = Lab::with_phones();
    let both: Vec<(&str, &str)> = [changes, everywhere].concat();
    let text = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", "", TRUNK_SDP);
    lab.says(T1, &change(&text, &both));
    assert!(lab.got(ALICE, "INVITE"), "{what}: {}", lab.picture());
    let ringing = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &ringing, 180, "");
    lab.take(T1, "180");
    lab.reply(ALICE, &ringing, 200, ANSWER);
    let ok = lab.take(T1, "200 INVITE");
    let number = ok.cseq().expect("a CSeq").number;
    let ack = lab.in_dialog(T1, &ok, "ACK", number, "", "");
    lab.says(T1, &change(&ack, everywhere));
    let again = lab.in_dialog(T1, &ok, "INVITE", number.max(900) + 1, "", TRUNK_SDP);
    lab.says(T1, &change(&again, everywhere));
    let again = lab.take(T1, "200 INVITE");
    let ack = lab.in_dialog(T1, &again, "ACK", number.max(900) + 1, "", "");
    lab.says(T1, &change(&ack, everywhere));
    let bye = lab.in_dialog(ALICE, &ringing, "BYE", 950, "peer", "");
    lab.says(ALICE, &bye);
    let bye = lab.take(T1, "BYE");
    assert_eq!(bye.call_id(), ok.call_id(), "{what}");
    lab.reply(T1, &bye, 200, "");
    assert_eq!(lab.ended()[0].number, "+12065550111", "{what}");
    lab.expect_idle();
    bye
}

#[test]
fn a_request_is_understood_as_its_sender_writes_it() {
    let uri = "INVITE sip:+12065550111@127.0.0.1 SIP/2.0";
    for other in [
        "sip:+12065550111@127.0.0.1:5060;user=phone;transport=UDP;lr=on;maddr=192.0.2.9;ttl=1",
        "sip:+12065550111;npdi;rn=+12065550199;cic=+10288@127.0.0.1;user=phone",
        "sip:+12065550111:secret@127.0.0.1",
        "sip:%2B12065550111@wt.test",
        "sip:+1-206-555-0111@sbc_1.example.",
        "sip:+12065550111@[::1]",
        "sip:+12065550111@[fe80::1%25eth0]:5060",
        "sip:+12065550111@wt.test:0",
        "sip:+12065550111@wt.test:",
        "sip:+12065550111@wt.test;",
        "sip:+12065550111@wt.test?Subject=x&Priority=urgent",
        "sips:+12065550111@wt.test",
        "SIP:+12065550111@WT.TEST",
        "tel:+12065550111",
        "tel:+1-206-555-0111;phone-context=example.com",
        "tel:5550111;phone-context=+1206",
        "TEL:+1.206.555.0111;isub=1411",
    ] {
        comes_in(other, &[(uri, &format!("INVITE {other} SIP/2.0"))], &[]);
    }
    let from = "From: \"Anna\" <sip:+4930123456@carrier>";
    for other in [
        "From: sip:+4930123456@carrier",
        "From: tel:+4930123456",
        "From: <tel:+4930123456;phone-context=x>",
        "From: <sip:carrier>",
        "From: <sip:anna@example.com@carrier>",
        "From: <sip:anonymous@anonymous.invalid>",
        "From: \"Anonymous\" <sip:Restricted@carrier;user=phone>",
        "From: <sips:+49@[2001:db8::1]:5061>",
        "From: \"\\\"A\\\" <b>\" <sip:+49@carrier>",
        "From:\r\n \"Anna\"\r\n\t<sip:+49@carrier>",
        "f : \"Anna\"<sip:+49@carrier>",
    ] {
        comes_in(other, &[(from, other)], &[]);
    }
    let contact = "Contact: <sip:trunk@127.0.0.10>";
    for other in [
        "Contact: <sip:trunk@10.1.2.3:5060;transport=udp>;expires=60;q=0,5;+sip.instance=\"<x>\"",
        "Contact: \"Anna, B.\" <sip:trunk@127.0.0.10>, <sip:b@c>",
        "Contact: sip:127.0.0.10",
        "Contact: <sip:trunk@127.0.0.10:>",
        "Contact: <sip:trunk@127.0.0.10:0>",
        "Contact: <sip:@127.0.0.10>",
        "Contact: <sip:trunk@sbc_1.example:5060;x=y>",
        "Contact: <sip:trunk@[fe80::1%eth0]>",
        "Contact: <tel:+4930123456>",
        "Contact: <sip:anna@example.com@127.0.0.10;x=a@b?y=a@b>",
        "m: *, <sip:trunk@127.0.0.10>",
    ] {
        comes_in(other, &[(contact, other)], &[]);
    }
}

/// The Via of the trunk, as far as its branch.
const VIA: &str = "Via: SIP/2.0/UDP 127.0.0.10:5060;branch=";

/// What is changed in an INVITE: a name, and what stands where something else stood.
const WRITTEN: &[(&str, &[(&str, &str)])] = &[
    ("no Max-Forwards", &[("Max-Forwards: 70\r\n", "")]),
    (
        "compact forms",
        &[
            ("Via:", "v:"),
            ("From:", "f:"),
            ("To:", "t:"),
            ("Call-ID:", "i:"),
            ("Contact:", "m:"),
            ("Content-Type:", "c:"),
            ("Content-Length:", "l:"),
        ],
    ),
    ("names in capitals", &[("Via:", "VIA:"), ("Call-ID:", "CALL-ID:"), ("CSeq:", "CSEQ:")]),
    ("no Content-Length in a datagram", &[("Content-Length:", "X-Length:")]),
    ("rport before the branch", &[(VIA, "Via: SIP/2.0/UDP 127.0.0.10:5060;rport;x=y;branch=")]),
    ("maddr and ttl", &[(VIA, "Via: SIP/2.0/UDP 127.0.0.10;maddr=224.2.0.1;ttl=16;branch=")]),
    ("an invalid name", &[(VIA, "Via: SIP/2.0/UDP host_1.internal:5060;branch=")]),
    ("another transport's name", &[(VIA, "Via: SIP/2.0/TLS 127.0.0.10:5060;branch=")]),
    ("blanks in Via", &[(VIA, "Via: SIP / 2.0 / UDP 127.0.0.10 : 5060 ; branch = ")]),
    ("a folded Via", &[(VIA, "Via: SIP/2.0/UDP\r\n 127.0.0.10:5060;branch=")]),
    (
        "routes of Kamailio",
        &[(
            "Contact:",
            "Record-Route: <sip:192.0.2.3;r2=on;lr=on;ftag=x;did=1.2;nat=yes>,\r\n <sip:10.0.0.3:5060;transport=tcp;r2=on;lr>\r\nContact:",
        )],
    ),
    (
        "a route of ours behind theirs",
        &[("Contact:", "Route: <sip:127.0.0.1;lr>, <sip:wt.test;lr>\r\nContact:")],
    ),
    ("a Call-ID of any characters", &[("Call-ID: c", "Call-ID: <{\"(c)\"}>[1]\\/?")]),
    (
        "an address of two kinds",
        &[(
            "Contact:",
            "P-Asserted-Identity: <sip:+49@x>, <tel:+49>\r\nPrivacy: none;;\r\nContact:",
        )],
    ),
    (
        "a timer in capitals",
        &[(
            "Contact:",
            "Supported: TIMER, 100REL\r\nSession-Expires: 1800;Refresher=UAC\r\nMin-SE: 90;x\r\nContact:",
        )],
    ),
    (
        "a timer that is required",
        &[("Contact:", "Require: timer\r\nSession-Expires: 1800\r\nContact:")],
    ),
    (
        "an SDP type with parameters",
        &[("application/sdp", "Application/SDP;version=0 ; charset=\"x\"")],
    ),
    (
        "a long list of headers",
        &[(
            "Contact:",
            "P-Charging-Vector: icid-value=\"x;y\";orig-ioi=a\r\nP-Access-Network-Info: 3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=1\r\nFeature-Caps: *;+x=\"<y>\"\r\nSession-ID: ab;remote=0\r\nUser-to-User: 00;encoding=hex\r\nX-\u{fc}: \u{fc}\r\nContact:",
        )],
    ),
];

/// It is compared with others, and says nothing of itself but whether it has the magic cookie.
#[test]
fn a_branch_may_have_any_characters() {
    for branch in ["ééééé", "z9hG4bé", "z9hG4bKé", "z9hG4bK", "z9"] {
        let mut lab = Lab::with_phones();
        let invites = |lab: &mut Lab, peer: Peer| {
            let text = lab.request(peer, "INVITE", "sip:+12065550111@127.0.0.1", "", TRUNK_SDP);
            let (before, after) = text.split_once("z9hG4bK-").expect("a branch");
            let (_, after) = after.split_once('\r').expect("its end");
            lab.says(peer, &format!("{before}{branch}\r{after}"));
        };
        let stranger = Peer::Browser("nobody", 9);
        lab.connects(stranger);
        invites(&mut lab, stranger);
        lab.take(stranger, "401");
        invites(&mut lab, T1);
        let rings = lab.take(ALICE, "INVITE");
        lab.reply(ALICE, &rings, 486, "");
        let refused = lab.take(T1, "486");
        assert_eq!(
            refused.via().and_then(|via| via.branch().map(str::to_owned)),
            Some(branch.into())
        );
        lab.expect_idle();
    }
}

#[test]
fn headers_are_found_in_any_form_order_and_number() {
    for (what, changes) in WRITTEN {
        comes_in(what, changes, &[]);
    }
    let route = [("Contact:", "Record-Route: sip:127.0.0.10;lr\r\nContact:")];
    let bye = comes_in("a route without brackets", &route, &[]);
    assert_eq!(bye.request_uri(), "sip:trunk@127.0.0.10", "it is no strict router");
    assert_eq!(bye.header(HeaderName::Route), Some("<sip:127.0.0.10;lr>"));
    // Of a peer from before RFC 3261: no branch, and no tag.
    comes_in("RFC 2543", &[], &[("branch=z9hG4bK", "x=")]);
    let without_tag = |text: &str| {
        let at = text.find(";tag=f").expect("a tag");
        let end = text[at..].find('\r').expect("a line") + at;
        [&text[..at], &text[end..]].concat()
    };
    let mut lab = Lab::with_phones();
    let text = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", "", TRUNK_SDP);
    let text = without_tag(&text);
    lab.says(T1, &text);
    let ringing = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &ringing, 200, ANSWER);
    let ok = lab.take(T1, "200 INVITE");
    lab.ack(T1, &ok);
    let bye = lab.in_dialog(T1, &ok, "BYE", 950, "", "");
    lab.says(T1, &bye);
    lab.take(T1, "200 BYE");
    lab.take(ALICE, "BYE");
    lab.expect_idle();
}

/// A CANCEL is found whoever wrote it.
#[test]
fn a_cancel_of_a_peer_without_branches_ends_the_ringing() {
    let mut lab = Lab::with_phones();
    let text = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", "", TRUNK_SDP);
    let text = text.replace("branch=z9hG4bK", "x=");
    lab.says(T1, &text);
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice rings t1
         0.0s t1 → CANCEL
         0.0s t1 ← 200 CANCEL
         0.0s t1 ← 487 INVITE
         0.0s alice ← CANCEL
         0.0s alice → 487 INVITE
         0.0s alice ← ACK",
    );
    lab.expect_idle();
}

/// What a challenge says, and is answered with a digest of that algorithm: the first that is known
/// (RFC 8760 §2.4).
#[test]
fn a_challenge_is_understood_as_registrars_write_it() {
    for (challenge, algorithm) in [
        ("Digest realm=\"carrier\",nonce=\"n\"", "MD5"),
        ("digest Realm=\"carrier\" , NONCE=\"n\"", "MD5"),
        ("DIGEST realm=carrier, nonce=n, algorithm=md5", "MD5"),
        ("Digest realm=\"carrier\", nonce=\"n\", algorithm=\"MD5\"", "MD5"),
        ("Digest realm=\"carrier\", nonce=\"n\", qop=auth", "MD5"),
        ("Digest realm=\"carrier\", nonce=\"n\", qop=\"auth-int,auth\"", "MD5"),
        ("Digest realm=\"carrier\", nonce=\"n\", qop=\"auth, auth-int\", stale=FALSE", "MD5"),
        (
            "Digest realm=\"carrier\", domain=\"sip:a sip:b\", nonce=\"n\", opaque=\"a,b=\\\"c\"",
            "MD5",
        ),
        ("Digest\trealm=\"carrier\",\r\n nonce=\"n\",,algorithm=SHA-256", "SHA-256"),
        (
            "Digest realm=\"carrier\", nonce=\"n\", algorithm=AKAv1-MD5\r\nWWW-Authenticate: Digest realm=\"carrier\", nonce=\"n\"",
            "MD5",
        ),
        (
            "Basic realm=\"carrier\"\r\nWWW-Authenticate: Digest realm=\"carrier\", nonce=\"n\"",
            "MD5",
        ),
        (
            "Digest realm=\"carrier\", nonce=\"n\", algorithm=MD5\r\nWWW-Authenticate: Digest realm=\"carrier\", nonce=\"m\", algorithm=SHA-256",
            "MD5",
        ),
        (
            "Digest realm=\"carrier\", nonce=\"n\", algorithm=SHA-256\r\nWWW-Authenticate: Digest realm=\"carrier\", nonce=\"m\", algorithm=MD5",
            "SHA-256",
        ),
        (
            "Digest realm=\"other\", nonce=\"o\"\r\nWWW-Authenticate: Digest realm=\"carrier\", nonce=\"n\"",
            "MD5",
        ),
    ] {
        let mut lab = Lab::with_phones();
        lab.plays("0.0s alice calls +12065550123 at t1");
        let invite = lab.last(T1, "INVITE");
        let header = format!("WWW-Authenticate: {challenge}\r\n");
        lab.reply_with(T1, &invite, 401, "", "a", &header);
        assert!(lab.got(T1, "INVITE"), "{challenge}");
        let again = lab.take(T1, "INVITE");
        let answer = Lab::header(&again, HeaderName::Authorization);
        let wanted = if algorithm == "MD5" { "algorithm=SHA" } else { "algorithm=SHA-256" };
        assert_eq!(answer.contains(wanted), algorithm != "MD5", "{challenge}: {answer}");
        lab.reply(T1, &again, 486, "");
        lab.take(ALICE, "486");
        lab.expect_idle();
    }
}

/// Sent by a peer whose Refer-To has no brackets, its Replaces among them.
#[test]
fn a_refer_to_is_read_with_and_without_brackets() {
    for target in [
        "<sip:+12065550177@wt.test>",
        "sip:+12065550177@wt.test",
        "sip:+12065550177@wt.test;user=phone",
        "sip:+12065550177@wt.test?X=y",
        "\"Anna, \\\"B\\\"\" <sip:+12065550177@wt.test;method=INVITE>",
        "\"Anna <sip:+12065550177@wt.test>",
        "<tel:+1-206-555-0177>",
        "tel:+12065550177",
        "<sips:+12065550177@wt.test?X=y&Z>;x=y",
        " < sip:+12065550177@wt.test > ",
    ] {
        let mut lab = Lab::with_phones();
        let (ok, _) = lab.talk("+12065550123");
        let refer = format!("Refer-To: {target}\r\n");
        let refer = lab.in_dialog_with(ALICE, &ok, "REFER", 90, &refer, "");
        lab.says(ALICE, &refer);
        assert!(lab.got(ALICE, "202"), "{target}: {}", lab.picture());
        let invite = lab.take(T1, "INVITE");
        assert!(invite.request_uri().starts_with("sip:+12065550177@"), "{target}");
        lab.gateway_hangs_up();
        lab.expect_idle();
    }
}

/// How a registrar names our binding, and for how long.
#[test]
fn a_registration_lasts_as_long_as_its_registrar_grants() {
    for (said, seconds) in [
        ("Expires: 60\r\n", 60),
        ("Expires: 60, 600\r\n", 600),
        ("Contact: <sip:acme@203.0.113.9:1024;x=y>;expires=60\r\nExpires: 600\r\n", 60),
        ("Contact: \"acme <sip:acme@203.0.113.9>;expires=\"60\"\r\n", 60),
        (
            "Contact: <sip:acme@203.0.113.9>;expires=60;q=1, <sip:b@c>;expires=10\r\nExpires: 90\r\n",
            90,
        ),
        ("Contact: <>;expires=9\r\nExpires: 90\r\n", 90),
        ("Service-Route: nobody, <sip:127.0.0.10;lr>, <>\r\nExpires: 90\r\n", 90),
    ] {
        let mut lab = Lab::changed(&[(REALM, "realm = \"carrier\"\nregister = true")], "");
        let register = lab.take(T1, "REGISTER");
        let header = |name| register.header(name).unwrap_or_default();
        let text = format!(
            "SIP/2.0 200 OK\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=r\r\nCall-ID: {}\r\nCSeq: {}\r\n{said}Content-Length: 0\r\n\r\n",
            header(HeaderName::Via),
            header(HeaderName::From),
            header(HeaderName::To),
            header(HeaderName::CallId),
            header(HeaderName::CSeq)
        );
        lab.says(T1, &text);
        let mut after = 0;
        while !lab.got(T1, "REGISTER") && after < 700 {
            lab.advance(Duration::from_secs(1));
            after += 1;
        }
        let due = seconds * 7 / 10..=seconds * 95 / 100;
        assert!(due.contains(&after), "{said}: again after {after} s");
        if said.starts_with("Service") {
            lab.invite(ALICE, "+12065550123", OFFER);
            let invite = lab.take(T1, "INVITE");
            let routes: Vec<&str> = invite.all(HeaderName::Route).collect();
            assert_eq!(routes, ["<sip:127.0.0.10;lr>"]);
        }
    }
}

/// The credentials of browsers' libraries and of phones.
#[test]
fn a_login_is_understood_as_its_client_writes_it() {
    type Change = fn(&str) -> String;
    let cases: [(&str, Change); 8] = [
        ("names in capitals", |a| a.replace("realm=", "REALM=").replace("nonce=", "Nonce=")),
        ("the scheme in small letters", |a| a.replace("Digest ", "digest ")),
        ("no blanks", |a| a.replace(", ", ",")),
        ("many blanks", |a| a.replace(", ", "  ,\t ").replace("Digest ", "Digest   ")),
        ("empty pieces", |a| a.replace(", ", ",, ")),
        ("a quoted qop", |a| a.replace("qop=auth", "qop=\"auth\"")),
        ("a quoted count", |a| a.replace("nc=00000001", "nc=\"00000001\"")),
        ("parameters nobody knows", |a| format!("{a}, auth-param=\"a, b\", x=y")),
    ];
    for (what, change) in cases {
        let mut lab = Lab::with_phones();
        let peer = Peer::Browser("alice", 9);
        lab.connects(peer);
        let first = lab.register_of(peer, "alice", "");
        lab.says(peer, &first);
        let challenge = lab.take(peer, "401");
        let answer = lab.answer_challenge(&challenge, &first, "alice", "secret-a");
        let parsed = Message::parse(answer.clone().into_bytes(), Framing::WebSocket).expect("ours");
        let value = Lab::header(&parsed, HeaderName::Authorization);
        lab.says(peer, &answer.replace(value, &change(value)));
        assert!(lab.got(peer, "200"), "{what}: {}", change(value));
    }
}
