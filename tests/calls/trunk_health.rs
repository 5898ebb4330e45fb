//! Trunks between calls and around them: probes, registration both ways, DNS, failover, identity,
//! limits, DTMF.

use crate::lab::*;
use std::net::SocketAddr;
use std::time::Duration;
use webtrunk::gateway::{FlowKind, Input};
use webtrunk::sip::transaction::{Flow, Hop};
use webtrunk::sip::{HeaderName, Message};

/// A line of the first trunk's settings, in the place of which a test has more.
pub(crate) const REALM: &str = "realm = \"carrier\"";

pub(crate) fn says(lab: &Lab, what: &str) -> usize {
    lab.notes.iter().filter(|n| format!("{n:?}").contains(what)).count()
}

#[test]
fn a_trunk_that_misses_three_probes_is_skipped_and_reported_once_until_it_answers_twice() {
    let mut lab = Lab::changed(&[(REALM, "realm = \"carrier\"\nprobe = \"30s\"")], "");
    let answer = |lab: &mut Lab| {
        let probe = lab.take(T1, "OPTIONS");
        lab.reply(T1, &probe, 200, "");
    };
    answer(&mut lab);
    lab.notes.clear();
    lab.advance(Duration::from_secs(30));
    answer(&mut lab);
    lab.advance(Duration::from_secs(30 * 4 + 33));
    assert_eq!(says(&lab, "TrunkDown"), 1);
    lab.inbox.clear();
    lab.invite(ALICE, "+22065550123", OFFER);
    assert!(!lab.got(T1, "INVITE"));
    let second = lab.take(T2, "INVITE");
    lab.reply(T2, &second, 486, "");
    lab.take(ALICE, "486");
    for up in [0, 1] {
        assert_eq!(says(&lab, "TrunkUp { trunk: \"t1\""), 0, "after {up} answers");
        lab.inbox.clear();
        lab.advance(Duration::from_secs(11));
        answer(&mut lab);
    }
    assert_eq!(says(&lab, "TrunkUp { trunk: \"t1\""), 1);
    lab.invite(ALICE, "+22065550123", OFFER);
    let first = lab.take(T1, "INVITE");
    lab.reply(T1, &first, 486, "");
}

#[test]
fn any_answer_to_a_probe_is_life_but_a_503_or_408_is_not() {
    for (status, down) in [(404, 0), (405, 0), (200, 0), (503, 1), (408, 1)] {
        let mut lab = Lab::changed(&[(REALM, "realm = \"carrier\"\nprobe = \"10s\"")], "");
        for _ in 0..4 {
            let probe = lab.take(T1, "OPTIONS");
            lab.inbox.clear();
            lab.reply(T1, &probe, status, "");
            lab.advance(Duration::from_secs(10));
        }
        assert_eq!(says(&lab, "TrunkDown"), down, "{status}");
    }
}

#[test]
fn a_503_with_retry_after_gives_a_trunk_its_rest_and_then_it_is_tried_again() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +22065550123 at t1");
    let first = lab.last(T1, "INVITE");
    lab.reply_with(T1, &first, 503, "", "x", "Retry-After: 20\r\n");
    lab.plays(
        "0.0s t1 → 503 INVITE
         0.0s t1 ← ACK
         0.0s t2 ← INVITE sdp
         0.0s t2 refuses alice with 486
         0.0s alice calls +22065550123 at t2
         0.0s t2 refuses alice with 486
         21.0s alice calls +22065550123 at t1
         21.0s t1 refuses alice with 486",
    );
    lab.expect_idle();
}

#[test]
fn a_connection_that_stands_but_answers_nothing_is_replaced() {
    let mut lab = Lab::changed(
        &[(
            "uri = \"sip:127.0.0.12;transport=tcp\"",
            "uri = \"sip:127.0.0.12;transport=tcp\"\nprobe = \"60s\"",
        )],
        "",
    );
    lab.advance(Duration::from_secs(60 + 33));
    assert_eq!(lab.disconnected, [Hop::Tcp(SocketAddr::from(([127, 0, 0, 12], 5060)))]);
    assert_eq!(says(&lab, "Wedged"), 1);
}

#[test]
fn an_invite_too_long_for_a_datagram_goes_over_tcp_or_over_udp_if_tcp_is_refused() {
    let long = "x".repeat(700);
    let mut lab = Lab::changed(
        &[(
            "password = \"secret-a\"",
            &format!("password = \"secret-a\"\ndisplay_name = \"{long}\""),
        )],
        "",
    );
    lab.invite(ALICE, "+12065550123", OFFER);
    let tcp = Hop::Tcp(SocketAddr::from(([127, 0, 0, 10], 5060)));
    let (hop, invite) =
        lab.inbox.iter().find(|(_, m)| m.method_token() == "INVITE").cloned().expect("an INVITE");
    assert_eq!(hop, tcp);
    assert!(invite.to_bytes().len() > 1_300 && invite.via().unwrap().transport == "TCP");
    lab.handle(Input::Unreachable { hop: tcp, code: Default::default(), why: String::new() });
    let invite = lab.take(T1, "INVITE");
    assert!(
        invite.to_bytes().len() > 1_300 && invite.via().unwrap().transport == "UDP",
        "the datagram after all"
    );
    lab.reply(T1, &invite, 486, "");
    lab.expect_idle();
    let fixed = [
        ("password = \"secret-a\"", format!("password = \"secret-a\"\ndisplay_name = \"{long}\"")),
        ("uri = \"sip:127.0.0.10\"", "uri = \"sip:127.0.0.10;transport=udp\"".to_owned()),
    ];
    let mut lab =
        Lab::changed(&fixed.iter().map(|(a, b)| (*a, b.as_str())).collect::<Vec<_>>(), "");
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 486, "");
    lab.expect_idle();
}

#[test]
fn a_connection_with_an_alias_from_a_trunk_carries_our_requests_too() {
    let mut lab = Lab::with_phones();
    let remote = SocketAddr::from(([127, 0, 0, 12], 41_000));
    lab.handle(Input::FlowOpened { flow: Flow(30), kind: FlowKind::Tcp, remote });
    let hop = Hop::Flow(Flow(30));
    let n = lab.token();
    let options = format!(
        "OPTIONS sip:wt.test SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.12:5060;alias;branch=z9hG4bK-{n}\r\nMax-Forwards: 70\r\nFrom: <sip:x@y>;tag=1\r\nTo: <sip:wt.test>\r\n\
         Call-ID: {n}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    let message = Message::parse(options.into_bytes(), webtrunk::sip::parse::Framing::WebSocket)
        .expect("sound");
    lab.handle(Input::Received { hop, remote, message });
    lab.inbox.clear();
    lab.invite(ALICE, "+32065550123", OFFER);
    let (over, invite) =
        lab.inbox.iter().find(|(_, m)| m.method_token() == "INVITE").cloned().expect("an INVITE");
    assert_eq!(over, hop);
    assert!(
        invite.via().unwrap().params.has("alias") && invite.via().unwrap().transport == "TCP",
        "{:?}",
        invite.header(HeaderName::Via)
    );
    assert!(Lab::header(&invite, HeaderName::Contact).contains("transport=tcp"));
    lab.handle(Input::FlowClosed { flow: Flow(30) });
    lab.take(ALICE, "480");
    lab.inbox.clear();
    lab.invite(ALICE, "+32065550123", OFFER);
    let (over, _) =
        lab.inbox.iter().find(|(_, m)| m.method_token() == "INVITE").cloned().expect("an INVITE");
    assert_eq!(
        over,
        Hop::Tcp(SocketAddr::from(([127, 0, 0, 12], 5060))),
        "the alias died with its connection"
    );
    lab.handle(Input::Unreachable { hop: over, code: Default::default(), why: String::new() });
    lab.expect_idle();
}

#[test]
fn limits_per_user_trunk_and_second_refuse_with_a_reason_and_blame_no_trunk() {
    let changes = [
        ("password = \"secret-a\"", "password = \"secret-a\"\nmax_calls = 1"),
        ("password = \"secret-b\"", "password = \"secret-b\"\ncalls_per_second = 2"),
        (REALM, "realm = \"carrier\"\ncalls_per_second = 3"),
    ];
    let mut lab = Lab::changed(&changes, "");
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s alice → INVITE +12065550124 sdp
         0.0s alice ← 486 INVITE
         0.0s bob calls +12065550125 at t1
         0.0s bob calls +12065550125 at t1
         0.0s bob → INVITE +12065550125 sdp
         0.0s bob ← 503 INVITE
         0.0s t1 → INVITE +12065550111 sdp
         0.0s t1 ← 503 INVITE",
    );
    let reason = |peer, what| Lab::header(&lab.last(peer, what), HeaderName::Reason).to_owned();
    assert!(reason(ALICE, "486 INVITE").contains("max_calls = 1"));
    assert!(reason(BOB, "503 INVITE").contains("of this second"));
    assert!(lab.last(BOB, "503 INVITE").header(HeaderName::RetryAfter).is_some());
    assert!(reason(T1, "503 INVITE").contains("trunk t1 has"));
    assert_eq!(says(&lab, "TrunkDown") + says(&lab, "BranchFailed"), 0);
    lab.advance(Duration::from_secs(100));
    lab.expect_idle();
}

#[test]
fn a_trunk_at_an_ipv6_address_is_called_with_brackets_everywhere() {
    let mut lab = Lab::changed(
        &[
            ("uri = \"sip:127.0.0.11\"", "uri = \"sip:[::1]:5062\"\nprobe = \"30s\""),
            ("udp = \"127.0.0.1:5060\"", "udp = \"[::]:5060\""),
        ],
        "[[route]]\nname = \"Six\"\nmatch = \"+6X.\"\ndo = [{ dial = [\"trunk:t2\"] }]\n",
    );
    lab.invite(ALICE, "+612", OFFER);
    let six = Hop::Udp("[::1]:5062".parse().expect("an address"));
    let sent: Vec<Message> =
        lab.inbox.iter().filter(|(h, _)| *h == six).map(|(_, m)| m.clone()).collect();
    // The lab has checked that each can be read.
    assert!(sent.iter().any(|m| m.method_token() == "OPTIONS"), "{sent:?}");
    let invite = sent.iter().find(|m| m.method_token() == "INVITE").expect("an INVITE");
    assert_eq!(invite.from().expect("a From").uri.host, "::1");
    assert!(String::from_utf8_lossy(invite.body()).contains("c=IN IP6 ::1"));
    lab.handle(Input::Unreachable { hop: six, code: Default::default(), why: String::new() });
    lab.take(ALICE, "480");
}
