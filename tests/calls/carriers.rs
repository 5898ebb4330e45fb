//! Trunks between calls and around them: probes, registration both ways, DNS, failover, identity,
//! limits, DTMF.

use crate::lab::*;
use std::net::SocketAddr;
use std::time::Duration;
use webtrunk::event::Event;
use webtrunk::gateway::{FlowKind, Input};
use webtrunk::media::session::SessionEvent;
use webtrunk::resolver::{DnsAnswer, DnsQuery, Records, Srv};
use webtrunk::sip::transaction::{Flow, Hop};
use webtrunk::sip::{HeaderName, Message};
use webtrunk::worker::{Notice, WorkerCommand};

const REALM: &str = "realm = \"carrier\"";

fn says(lab: &Lab, what: &str) -> usize {
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

const REGISTERING: &str = "realm = \"carrier\"\nregister = true";

fn challenge(nonce: &str, more: &str) -> String {
    format!(
        "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"{nonce}\", algorithm=SHA-256, qop=\"auth\"{more}\r\n"
    )
}

#[test]
fn we_register_with_a_carrier_answer_its_digest_refresh_in_time_and_use_its_service_route() {
    let mut lab = Lab::changed(&[(REALM, REGISTERING)], "");
    let first = lab.last(T1, "REGISTER");
    assert_eq!(first.request_uri(), "sip:127.0.0.10");
    assert!(Lab::header(&first, HeaderName::To).contains("sip:acme@127.0.0.10"));
    lab.reply_with(T1, &first, 401, "", "x", &challenge("n1", ""));
    let second = lab.last(T1, "REGISTER");
    let credentials = Lab::header(&second, HeaderName::Authorization).to_owned();
    assert!(
        credentials.contains("nc=00000001") && credentials.contains("algorithm=SHA-256"),
        "{credentials}"
    );
    assert_eq!((second.call_id(), second.cseq().unwrap().number), (first.call_id(), 2));
    lab.reply_with(
        T1,
        &second,
        200,
        "",
        "x",
        "Expires: 100\r\nService-Route: <sip:edge.carrier;lr>\r\n",
    );
    assert_eq!(says(&lab, "TrunkRegistered"), 1);
    lab.plays(
        "79.0s
         91.0s",
    );
    let third = lab.last(T1, "REGISTER");
    lab.inbox.clear();
    assert!(
        Lab::header(&third, HeaderName::Authorization).contains("nc=00000002"),
        "the nonce is used on"
    );
    // The nonce is too old: stale is no refusal.
    lab.reply_with(T1, &third, 401, "", "x", &challenge("n2", ", stale=true"));
    let fourth = lab.last(T1, "REGISTER");
    let credentials = Lab::header(&fourth, HeaderName::Authorization);
    assert!(
        credentials.contains("nonce=\"n2\"") && credentials.contains("nc=00000001"),
        "{credentials}"
    );
    lab.reply_with(
        T1,
        &fourth,
        200,
        "",
        "x",
        "Expires: 100\r\nService-Route: <sip:edge.carrier;lr>\r\n",
    );
    lab.plays(
        "91.0s alice calls +12065550123 at t1
         91.0s t1 refuses alice with 486",
    );
    let invite = lab.last(T1, "INVITE");
    assert_eq!(Lab::header(&invite, HeaderName::Route), "<sip:edge.carrier;lr>");
}

#[test]
fn a_carrier_that_refuses_our_credentials_is_not_hammered_and_one_that_is_silent_is_tried_ever_slower()
 {
    let mut lab = Lab::changed(&[(REALM, REGISTERING)], "");
    let first = lab.take(T1, "REGISTER");
    lab.reply_with(T1, &first, 401, "", "x", &challenge("n1", ""));
    let second = lab.take(T1, "REGISTER");
    lab.reply_with(T1, &second, 401, "", "x", &challenge("n2", ""));
    assert!(!lab.got(T1, "REGISTER"));
    assert_eq!(says(&lab, "refuses our credentials"), 1);
    lab.advance(Duration::from_secs(590));
    assert!(!lab.got(T1, "REGISTER"), "an account is not locked by us");
    lab.advance(Duration::from_secs(20));
    lab.take(T1, "REGISTER");
    let mut tries = Vec::new();
    let began = lab.now;
    for _ in 0..400 {
        lab.advance(Duration::from_secs(30));
        if lab.inbox.iter().any(|(_, m)| m.method_token() == "REGISTER") {
            tries.push((lab.now - began).as_secs());
            lab.inbox.clear();
        }
    }
    let gaps: Vec<u64> = tries.windows(2).map(|w| w[1] - w[0]).filter(|g| *g > 60).collect();
    assert!(gaps.iter().max() > Some(&900) && gaps.iter().all(|g| *g < 1_900), "{gaps:?}");
}

#[test]
fn a_423_a_retry_after_and_several_registrars_are_each_followed() {
    let mut lab = Lab::changed(
        &[(
            REALM,
            "realm = \"carrier\"\nregister = [\"sip:127.0.0.10\", \"sip:127.0.0.11\"]\nregister_expires = \"60s\"",
        )],
        "",
    );
    let one = lab.take(T1, "REGISTER");
    let two = lab.take(T2, "REGISTER");
    assert_ne!(one.call_id(), two.call_id());
    lab.reply_with(T1, &one, 423, "", "x", "Min-Expires: 900\r\n");
    assert_eq!(Lab::header(&lab.take(T1, "REGISTER"), HeaderName::Expires), "900");
    lab.reply_with(T2, &two, 503, "", "x", "Retry-After: 45\r\n");
    lab.advance(Duration::from_secs(44));
    assert!(!lab.got(T2, "REGISTER"));
    lab.advance(Duration::from_secs(2));
    lab.take(T2, "REGISTER");
}

const ARRIVING: &str = "[trunk.office]\naccepts_registration = true\nusername = \"office\"\npassword = \"office-secret\"\ncontext = \"incoming\"\n[trunk.t2]\n";

/// The PBX at 127.0.0.77 registers.
fn arrive(lab: &mut Lab, expires: u32, password: &str) -> Message {
    let pbx = Peer::Trunk("office", 77);
    let n = lab.token();
    let text = format!(
        "REGISTER sip:wt.test SIP/2.0\r\nVia: SIP/2.0/UDP 10.9.9.9:5060;branch=z9hG4bK-{n};rport\r\nMax-Forwards: 70\r\nFrom: <sip:office@wt.test>;tag=f{n}\r\n\
         To: <sip:office@wt.test>\r\nCall-ID: reg{n}\r\nCSeq: {n} REGISTER\r\nContact: <sip:office@10.9.9.9:5060>\r\nExpires: {expires}\r\nContent-Length: 0\r\n\r\n"
    );
    lab.says(pbx, &text);
    let challenge = lab.take(pbx, "401");
    let answer = lab.answer_challenge(&challenge, &text, "office", password);
    lab.says(pbx, &answer);
    lab.inbox.pop_back().expect("an answer").1
}

#[test]
fn a_pbx_registers_from_anywhere_with_digest_and_is_called_where_it_came_from() {
    let pbx = Peer::Trunk("office", 77);
    let route =
        "[[route]]\nname = \"Office\"\nmatch = \"8XXX\"\ndo = [{ dial = [\"trunk:office\"] }]\n";
    let mut lab = Lab::changed(&[("[trunk.t2]\n", ARRIVING)], route);
    lab.plays(
        "0.0s alice → INVITE 8001 sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 500 INVITE",
    );
    assert!(Lab::header(&lab.take(ALICE, "500"), HeaderName::Reason).contains("not registered"));
    let stranger = lab.request(pbx, "INVITE", "sip:+12065550111@127.0.0.1", "", TRUNK_SDP);
    lab.says(pbx, &stranger);
    assert!(
        !lab.inbox.iter().any(|(h, _)| *h == pbx.hop()),
        "a stranger may register, nothing else"
    );
    assert_eq!(arrive(&mut lab, 300, "wrong").status(), 403);
    let ok = arrive(&mut lab, 300, "office-secret");
    assert_eq!(ok.status(), 200);
    assert!(ok.contact().unwrap().params.get("expires").is_some());
    lab.plays(
        "0.0s 127.0.0.77 → INVITE +12065550111 sdp
         0.0s alice calls 8001 at 127.0.0.77
         0.0s 127.0.0.77 refuses alice with 486",
    );
    let invite = lab.last(pbx, "INVITE");
    assert_eq!(
        invite.request_uri(),
        "sip:8001@10.9.9.9:5060",
        "asked for at its Contact, sent to where it came from"
    );
    let again = lab.request(
        pbx,
        "INVITE",
        "sip:+12065550111@127.0.0.1",
        "",
        TRUNK_SDP.replace("127.0.0.10", "127.0.0.77").as_str(),
    );
    lab.says(pbx, &again);
    lab.plays(
        "0.0s 127.0.0.77 calls +12065550111 at alice
         0.0s 127.0.0.77 → CANCEL
         0.0s 127.0.0.77 ← 200 CANCEL
         0.0s 127.0.0.77 ← 487 INVITE
         0.5s 127.0.0.77 ← 487 INVITE
         1.5s 127.0.0.77 ← 487 INVITE
         3.5s 127.0.0.77 ← 487 INVITE
         7.5s 127.0.0.77 ← 487 INVITE
         11.5s 127.0.0.77 ← 487 INVITE
         15.5s 127.0.0.77 ← 487 INVITE
         19.5s 127.0.0.77 ← 487 INVITE
         23.5s 127.0.0.77 ← 487 INVITE
         27.5s 127.0.0.77 ← 487 INVITE
         31.5s 127.0.0.77 ← 487 INVITE
         301.0s",
    );
    lab.inbox.clear();
    lab.says(pbx, &stranger.replace("z9hG4bK-", "z9hG4bK-late"));
    assert!(lab.inbox.is_empty(), "its registration ran out");
    arrive(&mut lab, 300, "office-secret");
    assert!(arrive(&mut lab, 0, "office-secret").contact().is_none());
    assert_eq!(says(&lab, "TrunkGone"), 1);
    lab.plays("301.0s 127.0.0.77 → INVITE +12065550111 sdp");
}

fn zone(query: &DnsQuery) -> DnsAnswer {
    let srv =
        |priority, port, target: &str| Srv { priority, weight: 1, port, target: target.into() };
    Ok(match query {
        DnsQuery::Naptr(_) => (Records::Naptr(Vec::new()), 60),
        DnsQuery::Srv(name) if name == "_sip._udp.carrier.example" => (
            Records::Srv(vec![
                srv(1, 5060, "a.carrier.example"),
                srv(2, 5060, "b.carrier.example"),
                srv(3, 5060, "c.carrier.example"),
            ]),
            60,
        ),
        DnsQuery::Srv(_) => (Records::Srv(Vec::new()), 60),
        DnsQuery::Address(name) => {
            let last = match name.as_str() {
                "a.carrier.example" => 10,
                "b.carrier.example" => 11,
                _ => 12,
            };
            (Records::Address(vec![[127, 0, 0, last].into()]), 60)
        }
    })
}

const BY_NAME: (&str, &str) =
    ("uri = \"sip:127.0.0.10\"", "uri = \"sip:carrier.example\"\nallow = [\"127.0.0.0/28\"]");
const T3: Peer = Peer::Trunk("t3", 12);

#[test]
fn a_dead_server_is_passed_over_within_one_transactions_time_and_remembered_as_dead() {
    let mut lab = Lab::changed(&[BY_NAME], "");
    lab.zone = Some(zone);
    lab.invite(ALICE, "+12065550123", OFFER);
    lab.take(T1, "INVITE");
    lab.advance(Duration::from_millis(6_100));
    let second = lab.take(T2, "INVITE");
    lab.reply_with(T2, &second, 503, "", "x", "");
    let third = lab.take(T3, "INVITE");
    lab.reply(T3, &third, 180, "");
    lab.reply(T3, &third, 200, TRUNK_SDP);
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 90, "", "");
    lab.says(ALICE, &bye);
    lab.take(T3, "BYE");
    // The next call begins with the one that answered.
    lab.invite(ALICE, "+12065550124", OFFER);
    let next = lab.take(T3, "INVITE");
    lab.reply(T3, &next, 486, "");
    assert!(!lab.got(T1, "INVITE") || !lab.got(T2, "INVITE"));
    lab.advance(Duration::from_secs(40));
    lab.invite(ALICE, "+12065550125", OFFER);
    let probed = lab.take(T1, "INVITE");
    lab.reply(T1, &probed, 486, "");
    lab.expect_idle();
}

#[test]
fn dns_that_answers_late_never_or_with_nothing_fails_the_call_with_a_reason() {
    let mut lab = Lab::changed(&[BY_NAME], "");
    lab.invite(ALICE, "+12065550123", OFFER);
    assert_eq!(lab.asked, [DnsQuery::Naptr("carrier.example".into())]);
    lab.invite(ALICE, "+12065550124", OFFER);
    assert_eq!(lab.asked.len(), 1, "one question for both calls");
    while let Some(query) = lab.asked.pop() {
        let answer = match &query {
            DnsQuery::Address(name) => Err(format!("{name} cannot be resolved: SERVFAIL")),
            _ => Err("timeout".to_owned()),
        };
        lab.handle(Input::Dns { query, answer });
    }
    for _ in 0..2 {
        assert!(Lab::header(&lab.take(ALICE, "500"), HeaderName::Reason).contains("SERVFAIL"));
    }
    lab.handle(Input::Dns {
        query: DnsQuery::Naptr("nobody.asked".into()),
        answer: Ok((Records::Naptr(Vec::new()), 1)),
    });
    lab.expect_idle();
}

#[test]
fn a_caller_who_hangs_up_during_a_dns_query_leaves_nothing_behind() {
    let mut lab = Lab::changed(&[BY_NAME], "");
    lab.plays(
        "0.0s alice → INVITE +12065550123 sdp
         0.0s alice ← 100 INVITE
         0.0s alice → CANCEL
         0.0s alice ← 200 CANCEL
         0.0s alice ← 487 INVITE",
    );
    lab.handle(Input::Dns {
        query: DnsQuery::Naptr("carrier.example".into()),
        answer: Err("late".into()),
    });
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
fn identity_is_written_by_us_and_privacy_is_kept_outside_the_trust_domain() {
    let numbers = (
        "password = \"secret-a\"",
        "password = \"secret-a\"\nnumbers = [\"+12065550199\"]\ndisplay_name = \"Alice\"",
    );
    for trusted in [true, false] {
        let trust = format!("realm = \"carrier\"\ntrusted = {trusted}");
        let mut lab = Lab::changed(&[numbers, (REALM, &trust)], "");
        for (extra, from, asserted, privacy) in [
            ("", "\"Alice\" <sip:+12065550111@127.0.0.1>", Some("+12065550111"), None),
            (
                "P-Preferred-Identity: <sip:+12065550199@x>\r\n",
                "\"Alice\" <sip:+12065550199@127.0.0.1>",
                Some("+12065550199"),
                None,
            ),
            (
                "P-Preferred-Identity: <sip:+1900@x>\r\n",
                "\"Alice\" <sip:+12065550111@127.0.0.1>",
                Some("+12065550111"),
                None,
            ),
            (
                "Privacy: id\r\n",
                "\"Anonymous\" <sip:anonymous@anonymous.invalid>",
                trusted.then_some("+12065550111"),
                Some("id"),
            ),
        ] {
            let text = lab.request(ALICE, "INVITE", "sip:+12065550123@wt.test", extra, OFFER);
            lab.says(ALICE, &text);
            let invite = lab.take(T1, "INVITE");
            assert!(
                Lab::header(&invite, HeaderName::From).starts_with(from),
                "{extra}: {:?}",
                invite.header(HeaderName::From)
            );
            let pai = invite.header(HeaderName::PAssertedIdentity);
            assert_eq!(
                pai.map(|p| asserted.is_some_and(|a| p.contains(a))),
                asserted.map(|_| true),
                "{extra} {trusted}: {pai:?}"
            );
            assert_eq!(invite.header(HeaderName::Privacy), privacy);
            lab.reply(T1, &invite, 486, "");
            lab.take(ALICE, "486");
        }
        lab.expect_idle();
    }
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

#[test]
fn a_trunks_from_rules_are_followed() {
    let rules = "realm = \"carrier\"\nfrom_user = \"acme\"\nfrom_domain = \"acme.example\"\ndisplay_name = \"Acme\"\nasserted_identity = false";
    let mut lab = Lab::changed(&[(REALM, rules)], "");
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 refuses alice with 486",
    );
    let invite = lab.last(T1, "INVITE");
    assert!(Lab::header(&invite, HeaderName::From).starts_with("\"Acme\" <sip:acme@acme.example>"));
    assert!(invite.header(HeaderName::PAssertedIdentity).is_none());
    lab.expect_idle();
}

#[test]
fn a_trusted_trunks_caller_identity_counts_and_reaches_only_trusted_trunks() {
    let extra = "P-Asserted-Identity: \"Carl\" <sip:+4989111@x>\r\nDiversion: <sip:+4930555@x>;reason=user-busy\r\nHistory-Info: <sip:+4930555@x>;index=1\r\n";
    for trusted in [true, false] {
        let trust = format!("realm = \"carrier\"\ntrusted = {trusted}");
        let mut lab = Lab::changed(&[(REALM, &trust)], "");
        let text = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", extra, TRUNK_SDP);
        lab.says(T1, &text);
        let ringing = lab.take(ALICE, "INVITE");
        assert_eq!(
            ringing.from().unwrap().uri.user,
            Some(if trusted { "+4989111" } else { "+4930123456" })
        );
        assert!(
            ringing.header(HeaderName::Diversion).is_none()
                && ringing.header(HeaderName::PAssertedIdentity).is_none()
        );
        lab.reply(ALICE, &ringing, 486, "");
        let hidden = lab.request(
            T1,
            "INVITE",
            "sip:+12065550111@127.0.0.1",
            &format!("{extra}Privacy: id\r\n"),
            TRUNK_SDP,
        );
        lab.says(T1, &hidden);
        assert!(
            Lab::header(&lab.take(ALICE, "INVITE"), HeaderName::From).contains("anonymous.invalid")
        );
        lab.cancel(T1, &hidden);
        lab.expect_idle();
    }
    for (to_trusted, shown) in [("true", true), ("false", false)] {
        let second = format!("uri = \"sip:127.0.0.11\"\ntrusted = {to_trusted}");
        let route =
            "[[route]]\nname = \"On\"\nmatch = \"+1206\"\ndo = [{ dial = [\"trunk:t2\"] }]\n";
        let mut lab = Lab::changed(
            &[
                ("context = \"incoming\"", "context = \"phones\""),
                (REALM, "realm = \"carrier\"\ntrusted = true"),
                ("uri = \"sip:127.0.0.11\"", &second),
            ],
            route,
        );
        let text = lab.request(T1, "INVITE", "sip:+1206@127.0.0.1", extra, TRUNK_SDP);
        lab.says(T1, &text);
        let invite = lab.take(T2, "INVITE");
        assert_eq!(
            (
                invite.header(HeaderName::Diversion).is_some(),
                invite.header(HeaderName::HistoryInfo).is_some()
            ),
            (shown, shown)
        );
        lab.reply(T2, &invite, 486, "");
        lab.expect_idle();
    }
}

#[test]
fn digits_by_info_from_a_browser_become_tones_where_the_trunk_has_no_other_way() {
    let mut lab = Lab::changed(&[(REALM, "realm = \"carrier\"\ndtmf = \"inband\"")], "");
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice",
    );
    let ok = lab.last(ALICE, "200 INVITE");
    let tones = lab.media.iter().any(|c| matches!(c, WorkerCommand::Configure { settings, .. } if settings.digits == webtrunk::media::Digits::Tones));
    assert!(tones, "media sends tones, and listens for them");
    let text = lab
        .in_dialog_with(ALICE, &ok, "INFO", 100, "", "Signal=5\r\nDuration=100\r\n")
        .replace("application/sdp", "application/dtmf-relay");
    lab.says(ALICE, &text);
    lab.plays(
        "0.0s alice → INFO
         0.0s alice ← 200 INFO",
    );
    assert!(lab.media.iter().any(|c| matches!(c, WorkerCommand::Digit { event: 5, .. })));
    assert!(!lab.inbox.iter().any(|(h, m)| *h == T1.hop() && m.method_token() == "INFO"));
    lab.plays("0.0s alice hangs up on t1");
    lab.expect_idle();
}

/// INFOs within a dialog, as headers, kind and body, and how each is answered.
const INFOS: [(&str, &str, &str, &str); 9] = [
    ("", "application/dtmf-relay", "Signal=5\r\nDuration=100\r\n", "200"),
    ("", "application/dtmf", "7", "200"),
    ("", "application/x-odd", "?", "415"),
    ("", "application/dtmf-relay", "Nothing=1\r\n", "400"),
    ("Info-Package: weather\r\n", "text/plain", "sunny", "200"),
    ("Info-Package: bogus\r\n", "text/plain", "x", "469"),
    (
        "Info-Package: trickle-ice\r\n",
        "application/trickle-ice-sdpfrag",
        "a=mid:0\r\na=candidate:1 1 udp 1 192.0.2.9 5000 typ host\r\n",
        "200",
    ),
    ("Info-Package: trickle-ice\r\n", "text/plain", "x", "415"),
    ("", "", "", "200"),
];

#[test]
fn digits_go_by_info_where_the_trunk_wants_them_so_and_other_infos_by_agreement_only() {
    let mut lab = Lab::changed(&[(REALM, "realm = \"carrier\"\ndtmf = \"info\"")], "");
    let text = lab.request(
        ALICE,
        "INVITE",
        "sip:+12065550123@wt.test",
        "Recv-Info: tides, trickle-ice\r\nRequire: trickle-ice\r\n",
        OFFER,
    );
    lab.says(ALICE, &text);
    let invite = lab.take(T1, "INVITE");
    assert_eq!(
        invite.header(HeaderName::RecvInfo),
        Some("tides"),
        "the INFO packages the browser takes are announced; trickle ICE is ours"
    );
    lab.reply_with(T1, &invite, 200, TRUNK_SDP, "peer", "Recv-Info: weather\r\n");
    let ok = lab.take(ALICE, "200");
    assert_eq!(ok.header(HeaderName::RecvInfo), Some("weather, trickle-ice"));
    assert!(ok.lists(HeaderName::Supported, "trickle-ice"));
    lab.ack(ALICE, &ok);
    let signalled = |c: &WorkerCommand| {
        matches!(c, WorkerCommand::Configure { settings, .. }
            if settings.digits == webtrunk::media::Digits::Signalled)
    };
    let announced = lab.media.iter().any(signalled);
    assert!(announced, "media reports digits instead of sending them");
    let session = lab
        .media
        .iter()
        .find_map(
            |c| if let WorkerCommand::Open { session, .. } = c { Some(*session) } else { None },
        )
        .unwrap();
    let event = SessionEvent::Digit {
        end: webtrunk::media::LegId(1),
        event: 11,
        length: Duration::from_millis(120),
    };
    lab.handle(Input::Media { session, notice: Notice::Media(event) });
    let info = lab.take(T1, "INFO");
    assert_eq!(String::from_utf8_lossy(info.body()), "Signal=#\r\nDuration=120\r\n");
    lab.reply(T1, &info, 200, "");
    for (n, (extra, kind, body, status)) in INFOS.into_iter().enumerate() {
        let text = lab
            .in_dialog_with(ALICE, &ok, "INFO", 100 + n as u32, extra, body)
            .replace("application/sdp", kind)
            .replace(";tag=peer", "");
        lab.says(ALICE, &text);
        let answer = lab.take(ALICE, &format!("{status} INFO"));
        if status == "469" {
            assert_eq!(answer.header(HeaderName::RecvInfo), Some("weather"));
        }
    }
    let infos: Vec<String> = lab
        .inbox
        .iter()
        .filter(|(h, m)| *h == T1.hop() && m.method_token() == "INFO")
        .map(|(_, m)| String::from_utf8_lossy(m.body()).into_owned())
        .collect();
    assert_eq!(infos, ["Signal=5\r\nDuration=100\r\n", "Signal=7\r\nDuration=160\r\n", "sunny"]);
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 200, "", "");
    lab.says(ALICE, &bye);
    lab.expect_idle();
    assert!(!lab.notes.iter().any(|n| matches!(n, Event::CallPanicked { .. })));
}
