//! A peer that sends BYE, CANCEL or ACK has gone, and gets no refusal: whatever else stands
//! in a BYE, CANCEL or ACK, it does what it is for.

use crate::lab::*;
use std::time::Duration;

/// A change of a request without a body, as text.
type Change = fn(&str) -> String;

fn with(line: &str, text: &str) -> String {
    text.replace("Content-Length: 0\r\n", &format!("{line}\r\nContent-Length: 0\r\n"))
}

fn to_uri(uri: &str, text: &str) -> String {
    let (method, rest) = text.split_once(' ').expect("a start line");
    let (_, rest) = rest.split_once(' ').expect("a start line");
    format!("{method} {uri} {rest}")
}

fn described(head: &str, body: &str, text: &str) -> String {
    let length = format!("{head}\r\nContent-Length: {}\r\n", body.len());
    text.replace("Content-Length: 0\r\n", &length) + body
}

/// What a peer may write beside what it means.
const CHANGES: &[(&str, Change)] = &[
    ("nothing", |text| text.to_owned()),
    ("an unknown extension", |text| with("Require: teleport", text)),
    ("more extensions than are read", |text| with(&format!("Require: {}x", "x,".repeat(70)), text)),
    ("one for proxies", |text| with("Proxy-Require: teleport", text)),
    ("no hop left", |text| text.replace("Max-Forwards: 70", "Max-Forwards: 0")),
    ("odd hops", |text| text.replace("Max-Forwards: 70", "Max-Forwards: many")),
    ("an encoded body", |text| {
        described("Content-Type: application/sdp\r\nContent-Encoding: gzip", "\u{1f}x", text)
    }),
    ("a body of an unknown type", |text| described("Content-Type: model/mesh", "x", text)),
    ("a body without a type", |text| described("X-Y: z", "x", text)),
    ("a part that must be read", |text| {
        let part = "--b\r\nContent-Type: model/mesh\r\nContent-Disposition: x;handling=required\r\n\r\nx\r\n--b--\r\n";
        described("Content-Type: multipart/mixed;boundary=b", part, text)
    }),
    ("a body that is cut off", |text| text.replace("Content-Length: 0", "Content-Length: 9")),
    ("a negative length", |text| text.replace("Content-Length: 0", "Content-Length: -1")),
    ("no number as length", |text| text.replace("Content-Length: 0", "Content-Length: none")),
    ("two lengths", |text| with("Content-Length: 7", text)),
    ("no blank line at its end", |text| text.trim_end().to_owned() + "\r\n"),
    ("another host", |text| to_uri("sip:x@elsewhere.example", text)),
    ("a telephone's URI", |text| to_uri("tel:+12065550100", text)),
    ("a foreign scheme", |text| to_uri("h323:x", text)),
    ("no scheme", |text| to_uri("nobody", text)),
    ("a URI without host", |text| to_uri("sip:@", text)),
    ("a URI in brackets", |text| to_uri("<sip:x@127.0.0.1>", text)),
    ("a URI with a broken escape", |text| to_uri("sip:x%zz@127.0.0.1", text)),
    ("an invalid contact", |text| with("Contact: <<>>", text)),
    ("a session of no length", |text| with("Session-Expires: 1;refresher=uac", text)),
];

#[test]
fn whatever_a_bye_says_the_call_ends() {
    for (what, change) in CHANGES {
        for by_trunk in [true, false] {
            let mut lab = Lab::with_phones();
            let (ok, invite) = lab.talk("+12065550123");
            let bye = if by_trunk {
                lab.in_dialog(T1, &invite, "BYE", 90, "peer", "")
            } else {
                lab.in_dialog(ALICE, &ok, "BYE", 90, "", "")
            };
            let (from, other) = if by_trunk { (T1, ALICE) } else { (ALICE, T1) };
            lab.says(from, &change(&bye));
            assert!(lab.got(from, "200"), "{what}\n{}", lab.picture());
            let bye = lab.take(other, "BYE");
            lab.reply(other, &bye, 200, "");
            lab.expect_idle();
        }
    }
}

#[test]
fn a_bye_that_comes_late_in_its_dialog_ends_the_call() {
    let mut lab = Lab::with_phones();
    let (_, invite) = lab.talk("+12065550123");
    for (method, cseq) in [("OPTIONS", 90), ("OPTIONS", 89), ("BYE", 88)] {
        let text = lab.in_dialog(T1, &invite, method, cseq, "peer", "");
        lab.says(T1, &text);
    }
    lab.plays(
        "0.0s t1 → OPTIONS
         0.0s t1 ← 200 OPTIONS
         0.0s t1 → OPTIONS
         0.0s t1 ← 500 OPTIONS
         0.0s t1 → BYE
         0.0s t1 ← 200 BYE
         0.0s alice ← BYE
         0.0s alice → 200 BYE",
    );
    lab.expect_idle();
}

#[test]
fn whatever_a_cancel_says_the_attempt_ends() {
    for (what, change) in CHANGES {
        let mut lab = Lab::with_phones();
        let text = lab.invite(T1, "+12065550111", TRUNK_SDP);
        let invite = lab.take(ALICE, "INVITE");
        lab.reply(ALICE, &invite, 180, "");
        lab.cancel_as(T1, &text, change);
        assert!(lab.got(T1, "200") && lab.got(T1, "487"), "{what}\n{}", lab.picture());
        let cancel = lab.take(ALICE, "CANCEL");
        lab.reply(ALICE, &cancel, 200, "");
        lab.reply(ALICE, &invite, 487, "");
        lab.expect_idle();
    }
}

#[test]
fn whatever_an_ack_says_the_call_is_acknowledged() {
    for (what, change) in CHANGES {
        let mut lab = Lab::with_phones();
        lab.plays("0.0s t1 calls +12065550111 at alice");
        let invite = lab.last(ALICE, "INVITE");
        lab.reply(ALICE, &invite, 200, ANSWER);
        let ok = lab.take(T1, "200");
        let cseq = ok.cseq().expect("a CSeq").number;
        let ack = lab.in_dialog(T1, &ok, "ACK", cseq, "", "");
        lab.says(T1, &change(&ack));
        lab.clear();
        lab.advance(Duration::from_secs(10));
        assert!(!lab.got(T1, "200"), "{what}\n{}", lab.picture());
        let bye = lab.in_dialog(T1, &ok, "BYE", 90, "", "");
        lab.says(T1, &bye);
        let bye = lab.take(ALICE, "BYE");
        lab.reply(ALICE, &bye, 200, "");
        lab.expect_idle();
    }
}
