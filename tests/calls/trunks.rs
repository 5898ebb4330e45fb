//! Trunks: failover, digest, silence, retransmission.

use crate::lab::*;
use std::time::Duration;
use webtrunk::sip::HeaderName;

const CHALLENGE: &str =
    "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"\r\n";

#[test]
fn a_503_moves_on_to_the_next_trunk() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +22065550123 at t1
         0.0s t1 → 503 INVITE
         0.0s t1 ← ACK
         0.0s t2 ← INVITE sdp
         0.0s t2 answers alice
         0.0s alice hangs up on t2",
    );
    let tried: Vec<(String, Option<u16>)> =
        lab.ended()[0].tried.iter().map(|t| (t.target.as_callee(), t.status)).collect();
    assert_eq!(tried, [("trunk:t1".to_owned(), Some(503)), ("trunk:t2".to_owned(), Some(200))]);
    lab.expect_idle();
}

#[test]
fn silence_moves_on_after_six_seconds_and_a_late_answer_is_hung_up() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +22065550123 at t1
         0.5s t1 ← INVITE sdp
         1.5s t1 ← INVITE sdp
         3.5s t1 ← INVITE sdp
         6.0s t2 ← INVITE sdp
         6.5s t2 ← INVITE sdp
         7.0s t2 rings alice
         7.0s t1 → 200 INVITE sdp
         7.0s t1 ← ACK
         7.0s t1 ← BYE
         7.0s t1 → 200 BYE
         7.0s t2 refuses alice with 486",
    );
    lab.expect_idle();
}

#[test]
fn all_trunks_silent_gives_the_caller_480() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +22065550123 at t1
         0.5s t1 ← INVITE sdp
         1.5s t1 ← INVITE sdp
         3.5s t1 ← INVITE sdp
         6.0s t2 ← INVITE sdp
         6.5s t2 ← INVITE sdp
         7.5s t1 ← INVITE sdp
         7.5s t2 ← INVITE sdp
         9.5s t2 ← INVITE sdp
         12.0s alice ← 480 INVITE
         13.0s",
    );
    let refused = lab.last(ALICE, "480 INVITE");
    assert!(refused.header(HeaderName::Reason).unwrap().contains("no sign of life"));
    lab.expect_idle();
}

/// What of a call is held against whom (RFC 6076): the try's own word, and whether it rang.
#[test]
fn an_attempt_is_judged_by_its_trunks_response_and_not_by_our_timeout() {
    type Script = fn(&mut Lab, &webtrunk::sip::Message);
    let cases: [(Script, u16, bool, bool); 6] = [
        (|lab, _| lab.advance(Duration::from_secs(21)), 408, false, false),
        (|lab, invite| lab.reply(T1, invite, 486, ""), 486, false, true),
        (
            |lab, invite| {
                lab.advance(Duration::from_secs(1));
                lab.rings(T1);
                lab.advance(Duration::from_secs(21));
                lab.take(T1, "CANCEL");
                lab.reply(T1, invite, 487, "");
            },
            0,
            true,
            true,
        ),
        (
            |lab, invite| {
                lab.reply(T1, invite, 100, "");
                lab.advance(Duration::from_secs(21));
                lab.take(T1, "CANCEL");
                lab.reply(T1, invite, 487, "");
            },
            0,
            false,
            false,
        ),
        (
            |lab, invite| {
                lab.rings(T1);
                lab.handle(webtrunk::gateway::Input::HangUpAll);
                lab.take(T1, "CANCEL");
                lab.reply(T1, invite, 487, "");
            },
            487,
            true,
            true,
        ),
        (|lab, invite| lab.reply(T1, invite, 500, ""), 500, false, false),
    ];
    for (n, (script, status, rang, effective)) in cases.into_iter().enumerate() {
        let mut lab = Lab::with_phones();
        lab.plays("0.0s alice calls +12065550123 at t1");
        let invite = lab.last(T1, "INVITE");
        script(&mut lab, &invite);
        let cdr = lab.ended()[0];
        let [tried] = &cdr.tried[..] else { panic!("{n}: {:?}", cdr.tried) };
        assert_eq!((tried.status.unwrap_or(0), tried.rang.is_some()), (status, rang), "{n}");
        assert_eq!(tried.is_effective(), effective, "{n}");
        assert_eq!(tried.target.as_callee(), "trunk:t1", "{n}");
    }
}

#[test]
fn busy_never_moves_on() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +22065550123 at t1
         0.0s t1 refuses alice with 486",
    );
    lab.expect_idle();
}

#[test]
fn the_trunks_challenge_is_answered_once() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let first = lab.last(T1, "INVITE");
    lab.adds(T1, "401 INVITE", CHALLENGE);
    lab.plays(
        "0.0s t1 → 401 INVITE
         0.0s t1 ← ACK
         0.0s t1 ← INVITE sdp",
    );
    let second = lab.last(T1, "INVITE");
    let credentials = second.header(HeaderName::Authorization).expect("credentials");
    assert!(
        credentials.contains("username=\"acme\"") && credentials.contains("nc=00000001"),
        "{credentials}"
    );
    assert!(!credentials.contains("trunk-secret"));
    assert!(second.cseq().unwrap().number > first.cseq().unwrap().number);
    assert_eq!(second.call_id(), first.call_id());
    lab.adds(T1, "401 INVITE", CHALLENGE);
    lab.plays(
        "0.0s t1 → 401 INVITE
         0.0s t1 ← ACK
         0.0s alice ← 502 INVITE    // no third try",
    );
    lab.expect_idle();
}

#[test]
fn digest_leak_another_realm_and_other_requests_get_no_credentials() {
    let mut lab = Lab::with_phones();
    let evil = "Proxy-Authenticate: Digest realm=\"evil\", nonce=\"n\", qop=\"auth\"\r\n";
    lab.adds(T1, "407 INVITE", evil);
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 → 407 INVITE
         0.0s t1 ← ACK
         0.0s alice ← 502 INVITE",
    );
    lab.talk("+12065550124");
    lab.plays("0.0s alice hangs up on t1");
    let bye = lab.last(T1, "BYE");
    lab.reply_with(T1, &bye, 401, "", "peer", CHALLENGE);
    let leaked = lab.inbox.iter().any(|(_, m)| m.header(HeaderName::Authorization).is_some());
    assert!(!leaked, "a challenge to BYE is not answered");
    lab.plays("0.0s t1 → 401 BYE");
    lab.expect_idle();
}

#[test]
fn a_browser_that_challenges_us_gets_nothing() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls 201 at bob");
    let invite = lab.last(BOB, "INVITE");
    lab.reply_with(BOB, &invite, 401, "", "x", CHALLENGE);
    lab.plays(
        "0.0s bob → 401 INVITE
         0.0s bob ← ACK
         0.0s alice ← 502 INVITE",
    );
    lab.expect_idle();
}

#[test]
fn a_repeated_invite_over_udp_is_one_call() {
    let mut lab = Lab::with_phones();
    let text = lab.invite(T1, "+12065550111", TRUNK_SDP);
    lab.says(T1, &text);
    lab.says(T1, &text);
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s t1 → INVITE +12065550111 sdp
         0.0s t1 ← 100 INVITE
         0.0s t1 → INVITE +12065550111 sdp
         0.0s t1 ← 100 INVITE
         0.0s alice rings t1
         0.0s t1 gives up on alice
         0.0s t1 → ACK",
    );
    lab.expect_idle();
}

#[test]
fn a_refusal_over_udp_is_retransmitted_until_acked() {
    let mut lab = Lab::with_phones();
    let text = lab.invite(T1, "+15550000", TRUNK_SDP);
    let refused = lab.take(T1, "404");
    lab.advance(Duration::from_millis(3_600));
    assert_eq!(lab.picture().matches("← 404").count(), 4, "0, 0.5, 1.5, 3.5 s");
    let ack = text
        .split("Content-Type")
        .next()
        .unwrap()
        .replacen("INVITE", "ACK", 1)
        .replace(" INVITE", " ACK");
    let ack = ack.replace(
        "To: <sip:+15550000@127.0.0.1>",
        &format!("To: {}", refused.header(HeaderName::To).unwrap()),
    );
    lab.says(T1, &format!("{ack}Content-Length: 0\r\n\r\n"));
    lab.advance(Duration::from_secs(20));
    assert_eq!(lab.picture().matches("← 404").count(), 4);
    assert_eq!(lab.gateway.gauges().repeated, [3, 0, 0, 0], "counted as sent once more");
    lab.expect_idle();
}

#[test]
fn a_trunk_at_its_limit_is_skipped() {
    let mut lab = Lab::with_phones();
    for n in 0..3 {
        lab.invite(ALICE, &format!("+1206555012{n}"), OFFER);
        lab.take(T1, "INVITE");
    }
    lab.plays(
        "0.0s alice calls +12065550120 at t1
         0.0s alice calls +12065550121 at t1
         0.0s alice calls +12065550122 at t1
         0.0s bob → INVITE +12065550129 sdp
         0.0s bob ← 100 INVITE
         0.0s bob ← 500 INVITE
         0.5s t1 ← INVITE sdp
         0.5s t1 ← INVITE sdp
         0.5s t1 ← INVITE sdp
         1.5s t1 ← INVITE sdp
         1.5s t1 ← INVITE sdp
         1.5s t1 ← INVITE sdp
         3.5s t1 ← INVITE sdp
         3.5s t1 ← INVITE sdp
         3.5s t1 ← INVITE sdp
         6.0s alice ← 480 INVITE
         6.0s alice ← 480 INVITE
         6.0s alice ← 480 INVITE
         7.5s t1 ← INVITE sdp
         7.5s t1 ← INVITE sdp
         7.5s t1 ← INVITE sdp
         15.5s t1 ← INVITE sdp
         15.5s t1 ← INVITE sdp
         15.5s t1 ← INVITE sdp
         31.5s t1 ← INVITE sdp
         31.5s t1 ← INVITE sdp
         31.5s t1 ← INVITE sdp
         40.0s",
    );
    let refused = lab.last(BOB, "500 INVITE");
    assert!(refused.header(HeaderName::Reason).unwrap().contains("has its 3 calls"));
    lab.expect_idle();
}

#[test]
fn an_unreachable_trunk_fails_at_once_and_the_next_is_tried() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +32065550123 at 127.0.0.12");
    let hop = lab.heard.last().expect("the INVITE").0;
    lab.handle(webtrunk::gateway::Input::Unreachable {
        hop,
        code: Default::default(),
        why: String::new(),
    });
    lab.plays("0.0s alice ← 480 INVITE");
    lab.expect_idle();
}

#[test]
fn the_callers_number_and_name_are_ours_not_the_browsers() {
    let mut lab = Lab::with_phones();
    let text = lab.request(
        ALICE,
        "INVITE",
        "sip:+12065550123@wt.test",
        "P-Asserted-Identity: <sip:president@evil>\r\nX-Evil: 1\r\n",
        OFFER,
    );
    lab.says(ALICE, &text.replace("From: <", "From: \"Pres\\\"ident\" <"));
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 refuses alice with 486",
    );
    let invite = lab.last(T1, "INVITE");
    assert_eq!(invite.from().unwrap().uri.user, Some("+12065550111"));
    assert_eq!(invite.from().unwrap().display, "");
    let names: Vec<&str> = invite.headers().map(|(_, n, _)| n).collect();
    assert!(!names.iter().any(|n| n.starts_with("X-")), "{names:?}");
    let asserted = invite.header(HeaderName::PAssertedIdentity).expect("ours");
    assert!(asserted.contains("+12065550111") && !asserted.contains("president"), "{asserted}");
    lab.expect_idle();
}

#[test]
fn forged_in_dialog_requests_from_elsewhere_change_nothing() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice",
    );
    let (ok, invite) = (lab.last(ALICE, "200 INVITE"), lab.last(T1, "INVITE"));
    let bye = lab.in_dialog(T1, &invite, "BYE", 2, "peer", "");
    lab.says(Peer::Trunk("stranger", 66), &bye);
    lab.says(T2, &bye);
    let foreign = lab.in_dialog(BOB, &ok, "BYE", 90, "", "");
    lab.says(BOB, &foreign);
    lab.plays(
        "0.0s 127.0.0.66 → BYE         // a stranger gets no answer at all
         0.0s t2 → BYE
         0.0s t2 ← 481 BYE
         0.0s bob → BYE
         0.0s bob ← 481 BYE
         60.0s t1 hangs up on alice",
    );
    lab.expect_idle();
}

#[test]
fn a_response_over_udp_says_where_the_request_came_from() {
    let mut lab = Lab::with_phones();
    for (via, expected) in [
        ("127.0.0.10:5060;branch=z9hG4bK-a;rport", ";rport=5060;received=127.0.0.10"),
        ("pbx.internal;branch=z9hG4bK-b", ";received=127.0.0.10"),
        ("127.0.0.10;branch=z9hG4bK-c", "z9hG4bK-c"),
        (
            "10.1.1.1;rport;received=9.9.9.9;branch=z9hG4bK-d",
            "branch=z9hG4bK-d;rport=5060;received=127.0.0.10",
        ),
    ] {
        let text = lab.request(T1, "OPTIONS", "sip:wt.test", "", "");
        let own = text.lines().find(|l| l.starts_with("Via:")).expect("a Via").to_owned();
        lab.says(T1, &text.replace(&own, &format!("Via: SIP/2.0/UDP {via}")));
        let ok = lab.take(T1, "200");
        let answered = ok.header(HeaderName::Via).expect("a Via");
        assert!(answered.ends_with(expected), "{via}: {answered}");
    }
}

#[test]
fn a_trunk_that_closes_its_tcp_connection_in_mid_call_is_called_back_for_the_bye() {
    use webtrunk::gateway::{FlowKind, Input};
    use webtrunk::sip::transaction::{Flow, Hop};
    let mut lab = Lab::with_phones();
    let remote = std::net::SocketAddr::from(([127, 0, 0, 10], 41_000));
    lab.handle(Input::FlowOpened { flow: Flow(9), kind: FlowKind::Tcp, remote });
    let hop = Hop::Flow(Flow(9));
    let receive = |lab: &mut Lab, text: String| {
        let message = webtrunk::sip::Message::parse(
            text.into_bytes(),
            webtrunk::sip::parse::Framing::WebSocket,
        )
        .expect("sound");
        lab.handle(Input::Received { hop, remote, message });
    };
    let invite = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", "", TRUNK_SDP);
    receive(&mut lab, invite);
    let ringing = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &ringing, 200, ANSWER);
    let at = lab.inbox.iter().position(|(h, m)| *h == hop && m.status() == 200).expect("the 200");
    let ok = lab.inbox.remove(at).expect("valid").1;
    let ack = lab.in_dialog(T1, &ok, "ACK", ok.cseq().unwrap().number, "", "");
    receive(&mut lab, ack);
    lab.handle(Input::FlowClosed { flow: Flow(9) });
    lab.advance(Duration::from_secs(60));
    assert_eq!(lab.gateway.gauges().calls, 1, "the call continues");
    let bye = lab.in_dialog(ALICE, &ringing, "BYE", 5, "peer", "");
    lab.says(ALICE, &bye);
    let bye = lab.inbox.iter().find(|(_, m)| m.method_token() == "BYE").expect("a BYE");
    assert_eq!(bye.0, Hop::Tcp(std::net::SocketAddr::from(([127, 0, 0, 10], 5060))));
    lab.expect_idle();
}
