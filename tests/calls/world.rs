//! SIP as real peers write it, in whole calls: what is not needed never decides, and what a peer's
//! numbers cost us is bounded.

use crate::challenges::digest;
use crate::lab::*;
use crate::trunk_health::REALM;
use std::time::Duration;
use webtrunk::errors::Code;
use webtrunk::sip::Message;
use webtrunk::sip::parse::{Framing, HeaderName};
use webtrunk::worker::WorkerCommand;

impl Lab {
    /// Bytes from `peer`, as they are.
    pub(crate) fn sends(&mut self, peer: Peer, bytes: &[u8]) {
        let message = Message::parse(bytes.to_vec(), Framing::Datagram)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(bytes)));
        let hop = peer.hop();
        let remote = hop.address().expect("a trunk");
        let message = message.with_source(remote);
        self.handle(webtrunk::gateway::Input::Received { hop, remote, message });
    }

    /// The ACK of this INVITE's answer.
    pub(crate) fn ack_of(&self, invite: &Message) -> Message {
        let number = |m: &Message| m.cseq().map(|c| c.number);
        let found = self.inbox.iter().find(|(hop, m)| {
            *hop == T1.hop() && m.method_token() == "ACK" && number(m) == number(invite)
        });
        found.expect("it is acknowledged").1.clone()
    }

    pub(crate) fn said(&self, what: &str) -> bool {
        self.notes.iter().any(|n| format!("{n:?}").contains(what))
    }
}

/// A 200 of the trunk to `invite`, with `from` replaced by `to`.
pub(crate) fn answer(invite: &Message, from: &str, to: &[u8]) -> Vec<u8> {
    let text = ok_of_trunk(invite);
    let (before, after) = text.split_once(from).expect("its place");
    [before.as_bytes(), to, after.as_bytes()].concat()
}

#[test]
fn an_answer_with_what_nobody_needs_is_an_answer() {
    for (from, to) in [
        ("Contact", &b"a line without colon\r\nContact"[..]),
        ("Contact", b"Server: T\xe9l\xe9com\r\nContact"),
        ("200 OK", b"200 D'accord \xe9"),
        ("tag=peer", b"tag=peer;"),
        ("SIP/2.0/UDP", b"SIP/2.0/UDP"),
        ("Content-Type", b"Content-Type: application/sdp\r\nContent-Type"),
        ("To: <", b"To: bob@example.com <"),
        ("Contact: <", b"Contact: B\xf6b, Jr. @ home <"),
        ("Contact", b"Date: yesterday\r\nRecord-Route: <>\r\nContact"),
        ("Contact", b"From: <sip:other@b>;tag=9\r\nContact"),
        ("Call-ID", b"X-Call-ID"),
        ("CSeq", b"X-CSeq"),
        ("From:", b"X-From:"),
        ("From: ", b"From: \"unbalanced "),
        ("To: ", b"To: \"unbalanced "),
        ("Contact: ", b"Contact: 24\" screen "),
        ("Contact:", b"X-Contact:"),
        ("Contact: <sip:far@127.0.0.10>", b"Contact: <>"),
        ("Contact: <sip:far@127.0.0.10>", b"Contact: nobody here"),
        ("Content-Type: application/sdp\r\n", b""),
        ("Content-Type: application/sdp", b"Content-Type: Application/SDP ; charset=\"utf-8\""),
        ("Content-Type: application/sdp", b"Content-Type:"),
        ("Content-Type", b"Content-Encoding:\r\nContent-Type"),
        ("Content-Type", b"Content-Disposition: render\r\nContent-Type"),
        ("Content-Type", b"Content-Language: d\xe9\r\nMIME-Version: x\r\nContent-Type"),
        ("Contact", b"Require: 100rel, \xff\r\nContact"),
        ("Contact", b"Session-Expires: soon\r\nMin-SE: -1\r\nRSeq: x\r\nContact"),
        ("Contact", b"WWW-Authenticate: nonsense\r\nContact"),
    ] {
        let mut lab = Lab::with_phones();
        lab.plays("0.0s alice calls +12065550123 at t1");
        let invite = lab.last(T1, "INVITE");
        let bytes = answer(&invite, from, to);
        lab.sends(T1, &bytes);
        let what = String::from_utf8_lossy(to).into_owned();
        let ok = lab.take(ALICE, "200");
        let ack = lab.take(T1, "ACK");
        assert_eq!(ack.call_id(), invite.call_id(), "{what}");
        assert_eq!(ack.to().and_then(|t| t.tag()), Some("peer"), "{what}");
        lab.ack(ALICE, &ok);
        // It comes again, as it does where an ACK was lost.
        lab.sends(T1, &bytes);
        lab.take(T1, "ACK");
        let bye = lab.in_dialog(ALICE, &ok, "BYE", 90, "", "");
        lab.says(ALICE, &bye);
        let bye = lab.take(T1, "BYE");
        assert_eq!(bye.call_id(), invite.call_id(), "{what}");
        lab.reply(T1, &bye, 200, "");
        lab.expect_idle();
    }
}

#[test]
fn an_answer_that_cannot_be_used_is_seen_and_ends_the_call_on_both_sides() {
    for (from, to) in [("To: <", &b"To: \"unbalanced "[..]), ("To: ", b"X-To: ")] {
        let mut lab = Lab::with_phones();
        lab.plays("0.0s alice calls +12065550123 at t1");
        let invite = lab.last(T1, "INVITE");
        let bytes = answer(&invite, from, to);
        lab.sends(T1, &bytes);
        lab.take(T1, "ACK");
        let bye = lab.take(T1, "BYE");
        lab.take(ALICE, "502");
        let cdr = lab.ended()[0];
        assert_eq!(cdr.code, Code::UNREADABLE);
        let verdict = cdr.verdict.as_ref().expect("a verdict");
        assert!(verdict.sentence.contains("cannot be used"), "{}", verdict.sentence);
        let call = cdr.call;
        let rows = lab.gateway.recorder.get(call).map(webtrunk::recorder::ladder::rows);
        let rows = format!("{:?}", rows.expect("kept"));
        assert!(rows.contains("summary: \"200 OK"), "the response is in the ladder: {rows}");
        assert!(rows.contains("in that message: "), "and what is wrong with it: {rows}");
        let bye = [
            "SIP/2.0 200 OK\r\nVia: ",
            Lab::header(&bye, HeaderName::Via),
            "\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n",
        ]
        .concat();
        lab.sends(T1, bye.as_bytes());
        lab.expect_idle();
    }
}

#[test]
fn a_refusal_that_echoes_too_little_is_still_a_refusal() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    let text = format!("SIP/2.0 486\r\nv: {}\r\n\r\n", Lab::header(&invite, HeaderName::Via));
    lab.sends(T1, text.as_bytes());
    lab.plays(
        "0.0s t1 ← ACK
         0.0s alice ← 486 INVITE",
    );
    let ack = lab.last(T1, "ACK");
    assert_eq!(ack.header(HeaderName::To), invite.header(HeaderName::To));
    lab.expect_idle();
}

#[test]
fn the_small_cases_ring_a_phone_and_are_answered() {
    for name in ["latin1", "odd-date", "multipart", "user-parameters"] {
        let path = format!("{}/tests/cases/{name}.sip", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).expect("a case");
        // Its number and its host's addresses are the laboratory's.
        let change = |bytes: Vec<u8>, from: &str, to: &str| {
            let at = bytes.windows(from.len()).position(|w| w == from.as_bytes());
            let at = at.unwrap_or_else(|| panic!("{name} has {from}"));
            [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
        };
        let bytes = if name == "user-parameters" {
            change(bytes, "INVITE sip:+12065550100", "INVITE sip:+1-206-555-0111")
        } else {
            change(bytes, "INVITE sip:echo", "INVITE sip:+12065550111")
        };
        let mut lab =
            Lab::changed(&[(REALM, "realm = \"carrier\"\nmedia = [\"127.0.0.0/8\"]")], "");
        lab.sends(T1, &bytes);
        let invite = lab.take(ALICE, "INVITE");
        lab.reply(ALICE, &invite, 200, ANSWER);
        let ok = lab.take(T1, "200");
        assert!(ok.body_of("application/sdp").is_some(), "{name}");
        lab.ack(T1, &ok);
        let bye = lab.in_dialog(T1, &ok, "BYE", 90, "", "");
        lab.says(T1, &bye);
        let bye = lab.take(ALICE, "BYE");
        lab.reply(ALICE, &bye, 200, "");
        assert_eq!(lab.ended()[0].number, "+12065550111", "{name}");
        lab.expect_idle();
    }
}

/// Body headers that are not needed to read it do not matter in a request either.
#[test]
fn a_call_with_unneeded_body_headers_is_accepted() {
    for (from, to) in [
        ("Content-Type: application/sdp\r\n", ""),
        ("Content-Type: application/sdp", "Content-Type: APPLICATION/SDP;;charset=x"),
        ("Content-Type", "Content-Encoding:\r\nContent-Type"),
        ("Content-Type", "Content-Encoding: Identity\r\nContent-Type"),
        ("Content-Type", "Content-Disposition: ;;handling\r\nContent-Type"),
        ("Content-Type", "Content-Disposition: session; handling=\r\nContent-Type"),
        ("Content-Type", "Accept: text/plain\r\nAccept-Encoding: gzip\r\nContent-Type"),
        ("Content-Type", "MIME-Version: 0\r\nContent-Language: ?\r\nContent-Type"),
        ("Content-Type", "Priority: ?\r\nIn-Reply-To: <>\r\nReply-To: <<\r\nContent-Type"),
        ("Content-Type", "Geolocation: x\r\nPolicy-Reference: y\r\nContent-Type"),
        ("Content-Type", "Proxy-Require:\r\nContent-Type"),
        ("Content-Type", "Timestamp: now\r\nContent-Type"),
    ] {
        let mut lab = Lab::with_phones();
        let text = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", "", TRUNK_SDP);
        assert!(text.contains(from), "{text}");
        lab.says(T1, &text.replacen(from, to, 1));
        assert!(lab.got(ALICE, "INVITE"), "{to:?}: {:?}", lab.inbox.back());
        lab.gateway_hangs_up();
        lab.expect_idle();
    }
}

#[test]
fn parameters_of_a_number_are_no_part_of_it_wherever_one_is_read() {
    let trusted = [(REALM, "realm = \"carrier\"\ntrusted = true\nmessages = true")];
    // Request-URI, From, P-Asserted-Identity.
    for (identity, shown) in [
        ("", "+4930123456"),
        ("P-Asserted-Identity: <tel:123456;phone-context=+4930>\r\n", "+4930123456"),
        ("P-Asserted-Identity: <sip:+49-30-77;cpc=ordinary@x;user=phone>\r\n", "+493077"),
        ("Remote-Party-ID: \"A\" <sip:+493088;isup-oli=0@x>;party=calling\r\n", "+493088"),
    ] {
        let mut lab = Lab::changed(&trusted, "");
        let text = lab
            .request(
                T1,
                "INVITE",
                "sip:5550111;phone-context=+1206;npdi;rn=+12065550199@127.0.0.1",
                identity,
                TRUNK_SDP,
            )
            .replace("<sip:+4930123456@", "<sip:+4930123456;tgrp=x;trunk-context=y@");
        lab.says(T1, &text);
        let invite = lab.take(ALICE, "INVITE");
        assert_eq!(invite.from().expect("a From").uri.user, Some(shown), "{identity}");
        lab.reply(ALICE, &invite, 486, "");
        lab.take(T1, "486");
        assert_eq!(lab.ended()[0].number, "+12065550111");
        lab.expect_idle();
    }
    // A text.
    let mut lab = Lab::changed(&trusted, "");
    let text = lab
        .request(T1, "MESSAGE", "sip:+1(206)555-0111;ext=1@127.0.0.1", "", "hello")
        .replace("<sip:+4930123456@", "<sip:+4930123456;ext=7@")
        .replace("application/sdp", "text/plain");
    lab.says(T1, &text);
    let text = lab.take(ALICE, "MESSAGE");
    assert_eq!(text.from().expect("a From").uri.user, Some("+4930123456"));
    lab.reply(ALICE, &text, 200, "");
    lab.take(T1, "200 MESSAGE");
    // Refer-To.
    let (ok, _) = lab.talk("+12065550123");
    let refer = lab.in_dialog_with(
        ALICE,
        &ok,
        "REFER",
        90,
        "Refer-To: <sip:+1-206-555-0124;npdi@wt.test>\r\n",
        "",
    );
    lab.says(ALICE, &refer);
    lab.take(ALICE, "202");
    let invite = lab.take(T1, "INVITE");
    assert!(invite.request_uri().starts_with("sip:+12065550124@"), "{}", invite.request_uri());
    lab.gateway_hangs_up();
    lab.expect_idle();
    // A redirection.
    let route = "[[route]]\nname = \"moved\"\nmatch = \"+77\"\nredirect = true\ndo = [{ dial = [\"trunk:t1\"] }]\n";
    let mut lab = Lab::changed(&[], route);
    lab.plays("0.0s alice calls +77 at t1");
    let invite = lab.last(T1, "INVITE");
    let contact = "Contact: <sip:+1-206-555-0125;rn=+1206;npdi@elsewhere.example>\r\n";
    let text = format!(
        "SIP/2.0 302 x\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=r\r\nCall-ID: {}\r\nCSeq: {}\r\n{contact}Content-Length: 0\r\n\r\n",
        Lab::header(&invite, HeaderName::Via),
        Lab::header(&invite, HeaderName::From),
        Lab::header(&invite, HeaderName::To),
        invite.call_id(),
        Lab::header(&invite, HeaderName::CSeq)
    );
    lab.says(T1, &text);
    lab.take(T1, "ACK");
    let invite = lab.take(T1, "INVITE");
    assert!(invite.request_uri().starts_with("sip:+12065550125@"), "{}", invite.request_uri());
    lab.gateway_hangs_up();
    lab.expect_idle();
}

/// The original target of a call.
#[test]
fn parameters_of_a_number_are_no_part_of_it_in_a_diversion() {
    let route =
        "[[route]]\nname = \"on\"\nmatch = \"+12065550199\"\ndo = [{ dial = [\"trunk:t2\"] }]\n";
    let passes = [
        ("context = \"incoming\"", "context = \"phones\""),
        (REALM, "realm = \"carrier\"\ntrusted = true"),
        ("uri = \"sip:127.0.0.11\"", "uri = \"sip:127.0.0.11\"\ntrusted = true"),
    ];
    let mut lab = Lab::changed(&passes, route);
    let diverted =
        "Diversion: <sip:5550111;phone-context=+1206;cpc=ordinary@x>;reason=no-answer\r\n";
    let text =
        lab.request(T1, "INVITE", "sip:+12065550199;rn=+1206@127.0.0.1", diverted, TRUNK_SDP);
    lab.says(T1, &text);
    let invite = lab.take(T2, "INVITE");
    let said = Lab::header(&invite, HeaderName::Diversion);
    assert!(said.starts_with("<sip:+12065550111@"), "{said}");
    lab.gateway_hangs_up();
}

#[test]
fn a_session_of_a_second_costs_no_more_than_one_of_ninety() {
    for seconds in ["1", "2", "0"] {
        let mut lab = Lab::with_phones();
        lab.plays("0.0s alice calls +12065550123 at t1");
        let invite = lab.last(T1, "INVITE");
        let timer = format!(
            "Allow: UPDATE\r\nRequire: timer\r\nSession-Expires: {seconds};refresher=uac\r\n"
        );
        lab.reply_with(T1, &invite, 200, TRUNK_SDP, "far", &timer);
        let ok = lab.take(ALICE, "200");
        lab.ack(ALICE, &ok);
        let mut refreshes = 0;
        for _ in 0..90 {
            lab.advance(Duration::from_secs(1));
            if lab.got(T1, "UPDATE") {
                let update = lab.take(T1, "UPDATE");
                lab.reply_with(T1, &update, 200, "", "far", &timer);
                refreshes += 1;
            }
        }
        assert!(refreshes <= 2, "{seconds}: {refreshes} in 90 s");
        assert_eq!(lab.gateway.gauges().calls, 1, "the call continues");
        lab.gateway_hangs_up();
        lab.expect_idle();
    }
}

#[test]
fn a_minimum_that_always_rises_is_followed_three_times() {
    let mut lab = Lab::changed(&[(REALM, "realm = \"carrier\"\nsession_timer = \"90s\"")], "");
    lab.plays("0.0s alice calls +12065550123 at t1");
    for least in [101, 102, 103] {
        lab.adds(T1, "422 INVITE", &format!("Min-SE: {least}\r\n"));
        lab.plays(
            "0.0s t1 → 422 INVITE
             0.0s t1 ← ACK
             0.0s t1 ← INVITE sdp",
        );
    }
    lab.adds(T1, "422 INVITE", "Min-SE: 104\r\n");
    lab.plays("0.0s t1 refuses alice with 422");
    lab.expect_idle();
}

#[test]
fn refreshes_that_always_meet_491_422_or_500_are_counted() {
    for (status, extra, most) in [(491, "", 6), (500, "", 9), (422, "Min-SE: ", 4), (401, "", 9)] {
        let mut lab = Lab::with_phones();
        lab.plays("0.0s alice calls +12065550123 at t1");
        let invite = lab.last(T1, "INVITE");
        let timer = "Require: timer\r\nSession-Expires: 1800;refresher=uac\r\n";
        lab.reply_with(T1, &invite, 200, TRUNK_SDP, "far", timer);
        let ok = lab.take(ALICE, "200");
        lab.ack(ALICE, &ok);
        lab.take(T1, "ACK");
        let mut seen = std::collections::BTreeSet::new();
        for second in 0..1_700 {
            lab.advance(Duration::from_secs(1));
            if lab.inbox.iter().any(|(h, m)| *h == T1.hop() && m.method_token() == "INVITE") {
                let refresh = lab.take(T1, "INVITE");
                seen.insert(refresh.cseq().expect("a CSeq").number);
                let minimum = format!("{extra}{}\r\n", 2_000 + second);
                let extra = if extra.is_empty() { "" } else { &minimum };
                lab.reply_with(T1, &refresh, status, "", "far", extra);
            }
        }
        let count = seen.len();
        assert!(count > 0 && count <= most, "{status}: {count}");
        lab.gateway_hangs_up();
        lab.expect_idle();
    }
}

#[test]
fn a_registrar_that_grants_a_second_or_asks_for_ever_longer_is_asked_seldom() {
    let registering = [(REALM, "realm = \"carrier\"\nregister = true")];
    let count = |status: u16, extra: &dyn Fn(u32) -> String| {
        let mut lab = Lab::changed(&registering, "");
        let mut seen = 0;
        for _ in 0..120 {
            while lab.got(T1, "REGISTER") {
                let register = lab.take(T1, "REGISTER");
                seen += 1;
                lab.reply_with(T1, &register, status, "", "x", &extra(seen));
                assert!(seen < 200, "it ends");
            }
            lab.advance(Duration::from_secs(1));
        }
        seen
    };
    assert!(count(200, &|_| "Expires: 1\r\n".into()) <= 9, "once in 15 s");
    assert!(count(503, &|_| "Retry-After: 0\r\n".into()) <= 9, "the pause grows");
    assert!(count(423, &|n| format!("Min-Expires: {}\r\n", 4_000 + n)) <= 12);
    assert!(
        count(401, &|n| digest("WWW", "carrier", &n.to_string()).replace("qop", "stale=true, qop"))
            <= 4
    );
}

#[test]
fn reliable_responses_without_end_are_acknowledged_a_hundred_times() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    let mut acknowledged = 0;
    for n in 1..=150 {
        let reliable = format!("Require: 100rel\r\nRSeq: {n}\r\n");
        lab.reply_with(T1, &invite, 180, "", "far", &reliable);
        while lab.got(T1, "PRACK") {
            let prack = lab.take(T1, "PRACK");
            lab.reply_as(T1, &prack, 200, "", "far");
            acknowledged += 1;
        }
    }
    assert_eq!(acknowledged, 100);
    // One that jumps is not acknowledged (RFC 3262 section 4).
    lab.reply_with(T1, &invite, 180, "", "other", "Require: 100rel\r\nRSeq: 1\r\n");
    lab.take(T1, "PRACK");
    lab.reply_with(T1, &invite, 180, "", "other", "Require: 100rel\r\nRSeq: 9\r\n");
    assert!(!lab.got(T1, "PRACK"));
    lab.reply(T1, &invite, 486, "");
    lab.take(ALICE, "486");
    lab.expect_idle();
}

const FALLBACK: &str = r#"
[[route]]
name = "shipped"
match = "71"
do = [{ ring = ["user:bob"], timeout = "10s" }, { hangup = 480 }]
[[route]]
name = "by reason"
match = "72"
do = [{ ring = ["user:bob"], timeout = "10s" }, { hangup = 404, on = ["unregistered"] }, { hangup = 410, on = ["timeout", "declined"] }, { dial = ["trunk:t2"], on = ["busy"] }]
[[route]]
name = "voicemail"
match = "73"
do = [{ ring = ["user:bob"], timeout = "10s" }, { answer = true }, { play = "builtin:chime" }]
[[route]]
name = "trunk"
match = "74"
do = [{ dial = ["trunk:t2"] }, { dial = ["trunk:t1"] }, { hangup = 480 }]
[[route]]
name = "trunk by reason"
match = "75"
do = [{ dial = ["trunk:t2"] }, { echo = true, on = ["busy"] }, { hangup = 480 }]
"#;

/// alice calls `number`, and bob's phone says `status`; 0 is silence. What follows is `hears`.
fn heard(number: &str, status: u16, hears: &str) -> Lab {
    let mut lab = Lab::changed(&[], FALLBACK);
    lab.plays(&format!("0.0s alice calls {number} at bob"));
    if status == 0 {
        lab.plays(&format!(
            "0.0s bob rings alice
             10.0s bob ← CANCEL
             10.0s {hears}
             10.0s bob → 200 CANCEL
             10.0s bob → 487 INVITE
             10.0s bob ← ACK"
        ));
    } else {
        lab.plays(&format!(
            "0.0s bob → {status} INVITE
             0.0s bob ← ACK
             0.0s {hears}"
        ));
    }
    lab
}

#[test]
fn busy_and_declined_outrank_a_hangup_step_for_unanswered_calls() {
    for (status, expected) in [(486, 486), (600, 600), (603, 603), (0, 480), (480, 480), (500, 480)]
    {
        let mut lab = heard("71", status, &format!("alice ← {expected} INVITE"));
        let skipped = lab.said("StepSkipped");
        assert_eq!(skipped, matches!(status, 486 | 600 | 603), "{status}");
        lab.expect_idle();
    }
    // Nobody to ring: the hangup is for that.
    let mut lab = Lab::changed(&[], FALLBACK);
    lab.handle(webtrunk::gateway::Input::FlowClosed { flow: webtrunk::sip::transaction::Flow(2) });
    lab.plays(
        "60.0s alice → INVITE 71 sdp
         60.0s alice ← 100 INVITE
         60.0s alice ← 480 INVITE",
    );
    lab.expect_idle();
}

#[test]
fn a_step_after_ring_runs_for_its_reason() {
    for (status, expected) in [(0, 410), (603, 410), (480, 410), (500, 500)] {
        heard("72", status, &format!("alice ← {expected} INVITE")).expect_idle();
    }
    let mut lab = heard("72", 486, "t2 ← INVITE sdp");
    lab.plays("0.0s t2 refuses alice with 486");
    lab.expect_idle();
}

#[test]
fn a_fallback_that_is_no_hangup_runs_whatever_came_before() {
    for status in [486, 603, 0, 480] {
        let mut lab = heard("73", status, "alice ← 200 INVITE sdp");
        let at = lab.seconds();
        lab.plays(&format!("{at}s alice → ACK"));
        lab.gateway_hangs_up();
        lab.expect_idle();
    }
}

#[test]
fn a_trunks_refusal_runs_the_steps_that_name_it() {
    for (status, number) in [(486, "74"), (603, "75"), (404, "75")] {
        let mut lab = Lab::changed(&[], FALLBACK);
        lab.plays(&format!(
            "0.0s alice calls {number} at t2
             0.0s t2 refuses alice with {status}"
        ));
        lab.expect_idle();
    }
    let mut lab = Lab::changed(&[], FALLBACK);
    lab.plays(
        "0.0s alice calls 75 at t2
         0.0s t2 → 486 INVITE
         0.0s t2 ← ACK
         0.0s alice ← 200 INVITE sdp
         0.0s alice → ACK",
    );
    lab.gateway_hangs_up();
    lab.expect_idle();
}

#[test]
fn digits_by_info_are_read_in_every_format() {
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    for (cseq, (kind, body, event)) in (100..).zip([
        ("application/dtmf-relay", "Signal=10\r\nDuration=100\r\n", 10),
        ("application/dtmf-relay", "signal = #\r\n", 11),
        ("application/dtmf-relay", "Signal=16\r\n", 16),
        ("application/dtmf", "Signal=d\r\n", 15),
        ("application/dtmf", "12", 12),
    ]) {
        lab.media.clear();
        let text =
            lab.in_dialog_with(ALICE, &ok, "INFO", cseq, "", body).replace("application/sdp", kind);
        lab.says(ALICE, &text);
        lab.take(ALICE, "200 INFO");
        let pressed = lab
            .media
            .iter()
            .any(|c| matches!(c, WorkerCommand::Digit { event: e, .. } if *e == event));
        assert!(pressed, "{kind} {body:?}");
    }
    lab.gateway_hangs_up();
    lab.expect_idle();
}
