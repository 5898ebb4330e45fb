//! What is refused, with which status, and that it leaves nothing behind.

use crate::lab::*;
use webtrunk::gateway::Input;
use webtrunk::sip::HeaderName;

fn refused(lab: &mut Lab, peer: Peer, text: &str, status: &str) -> webtrunk::sip::Message {
    lab.says(peer, text);
    let response = lab.take(peer, status);
    assert!(response.header(HeaderName::Reason).is_some(), "a refusal of ours has its Reason");
    assert!(response.to().expect("a To").tag().is_some());
    response
}

#[test]
fn each_unfit_invite_gets_its_own_status() {
    let mut lab = Lab::with_phones();
    let invite = lab.request(ALICE, "INVITE", "sip:+12065550123@wt.test", "", OFFER);
    let fresh = |lab: &mut Lab| {
        let n = lab.token();
        invite
            .replace("z9hG4bK-", &format!("z9hG4bK-{n}-"))
            .replace("Call-ID: ", &format!("Call-ID: {n}"))
    };
    for (from, to, status) in [
        ("Max-Forwards: 70", "Max-Forwards: 0", "483"),
        ("Content-Type: application/sdp", "Content-Type: text/plain", "415"),
        (
            "Content-Type: application/sdp",
            "Content-Type: application/sdp\r\nContent-Encoding: gzip",
            "415",
        ),
        ("Max-Forwards: 70", "Max-Forwards: 70\r\nRequire: 100rel, magic, wand", "420"),
        ("INVITE sip:+12065550123@wt.test", "INVITE sip:7777@wt.test", "404"),
        ("INVITE sip:+12065550123@wt.test", "INVITE mailto:a@b", "416"),
        ("SIP/2.0\r\nVia", "SIP/3.0\r\nVia", "505"),
        ("From: <sip:alice@wt.test>", "From: <sip:bob@wt.test>", "401"),
        ("Contact: <sip:alice@x.invalid;transport=ws>\r\n", "", "400"),
    ] {
        let text = fresh(&mut lab);
        let text = text.replace(from, to);
        lab.says(ALICE, &text);
        let response = lab.take(ALICE, status);
        match status {
            "420" => assert_eq!(response.header(HeaderName::Unsupported), Some("magic, wand")),
            "415" => {
                let accepted = Some(webtrunk::sip::status::ACCEPT);
                assert_eq!(response.header(HeaderName::Accept), accepted);
                assert_eq!(response.header(HeaderName::AcceptEncoding), Some("identity"));
            }
            _ => {}
        }
    }
    lab.expect_idle();
}

#[test]
fn an_offer_we_cannot_use_is_488_with_a_warning_that_says_why() {
    for (from, to, warning) in [
        ("UDP/TLS/RTP/SAVPF", "RTP/AVP", "302"),
        ("a=fingerprint:sha-256", "a=fingerprint:sha-1", "399"),
        ("a=ice-pwd", "a=x-pwd", "399"),
        ("a=rtcp-mux", "a=x-mux", "399"),
        ("m=audio", "m=image", "304"),
        ("v=0", "v=1", "399"),
    ] {
        let mut lab = Lab::with_phones();
        let offer = OFFER.replace(from, to);
        let offer = if warning == "302" { offer.replace("a=fingerprint", "a=x") } else { offer };
        lab.invite(ALICE, "9196", &offer);
        let response = lab.take(ALICE, "488");
        let said = response.header(HeaderName::Warning).unwrap_or_default();
        assert!(said.starts_with(warning), "{from}: {said}");
        lab.expect_idle();
    }
}

#[test]
fn methods_we_do_not_know_are_501_with_allow_and_strangers_dialogs_481() {
    let mut lab = Lab::with_phones();
    let text = lab.request(ALICE, "NEWMETHOD", "sip:bob@wt.test", "", "");
    let response = refused(&mut lab, ALICE, &text, "501");
    assert!(response.header(HeaderName::Allow).unwrap().contains("INVITE"));
    for (method, status) in [
        ("SUBSCRIBE", "489"),
        ("PUBLISH", "489"),
        ("REFER", "403"),
        ("NOTIFY", "481"),
        ("PRACK", "481"),
    ] {
        let text = lab.request(ALICE, method, "sip:bob@wt.test", "", "");
        refused(&mut lab, ALICE, &text, status);
    }
    for method in ["BYE", "INFO", "UPDATE"] {
        let text = lab.request(ALICE, method, "sip:bob@wt.test", "", "");
        refused(
            &mut lab,
            ALICE,
            &text.replace("To: <sip:bob@wt.test>", "To: <sip:bob@wt.test>;tag=none"),
            "481",
        );
    }
    let cancel = lab.request(ALICE, "CANCEL", "sip:bob@wt.test", "", "");
    refused(&mut lab, ALICE, &cancel, "481");
    let options = lab.request(ALICE, "OPTIONS", "sip:wt.test", "", "");
    lab.says(ALICE, &options);
    assert!(lab.take(ALICE, "200").header(HeaderName::Accept).is_some());
    lab.expect_idle();
}

#[test]
fn the_same_invite_by_two_paths_is_482() {
    let mut lab = Lab::with_phones();
    let text = lab.invite(ALICE, "+12065550123", OFFER);
    refused(&mut lab, ALICE, &text.replace("branch=z9hG4bK-", "branch=z9hG4bK-other-path-"), "482");
    assert_eq!(lab.gateway.gauges().calls, 1);
    lab.cancel(ALICE, &text);
    lab.expect_idle();
}

#[test]
fn sip_from_an_address_of_no_trunk_gets_silence_and_leaves_no_state() {
    let mut lab = Lab::with_phones();
    let stranger = Peer::Trunk("stranger", 66);
    for method in ["INVITE", "OPTIONS", "REGISTER", "MESSAGE"] {
        for _ in 0..200 {
            let text = lab.request(stranger, method, "sip:+12065550111@127.0.0.1", "", "");
            lab.says(stranger, &text);
        }
    }
    assert!(lab.inbox.is_empty());
    assert!(lab.gateway.gauges().is_idle());
    assert_eq!(lab.gateway.gauges().dropped, 800);
}

#[test]
fn unauthenticated_requests_on_a_websocket_get_401_and_leave_no_state() {
    let mut lab = Lab::new();
    lab.connects(ALICE);
    for method in ["INVITE", "OPTIONS", "REGISTER", "MESSAGE", "SUBSCRIBE", "REFER", "PUBLISH"] {
        let text = lab.request(ALICE, method, "sip:bob@wt.test", "", "");
        lab.says(ALICE, &text);
        let challenge = lab.take(ALICE, "401");
        let algorithms: Vec<bool> =
            challenge.all(HeaderName::WwwAuthenticate).map(|c| c.contains("SHA-256")).collect();
        assert_eq!(algorithms, [true, false], "SHA-256 first, MD5 for those who know no better");
    }
    assert!(lab.gateway.gauges().is_idle());
}

#[test]
fn a_call_beyond_a_limit_is_refused_with_a_reason_and_the_drain_with_retry_after() {
    let mut lab = Lab::with_phones();
    for _ in 0..4 {
        lab.plays(
            "0.0s alice → INVITE 9196 sdp
             0.0s alice ← 100 INVITE
             0.0s alice ← 200 INVITE sdp
             0.0s alice → ACK",
        );
    }
    lab.plays(
        "0.0s alice → INVITE 9196 sdp
         0.0s alice ← 486 INVITE",
    );
    let busy = lab.last(ALICE, "486 INVITE");
    assert!(busy.header(HeaderName::Reason).unwrap().contains("calls_per_user = 4"));
    lab.handle(Input::Drain);
    lab.plays(
        "0.0s bob → INVITE 9196 sdp
         0.0s bob ← 503 INVITE
         5.0s",
    );
    assert!(lab.last(BOB, "503 INVITE").header(HeaderName::RetryAfter).is_some());
    assert_eq!(lab.gateway.gauges().calls, 4, "active calls continue");
    lab.handle(Input::HangUpAll);
    lab.plays(
        "5.0s alice ← BYE
         5.0s alice ← BYE
         5.0s alice ← BYE
         5.0s alice ← BYE
         5.0s alice → 200 BYE
         5.0s alice → 200 BYE
         5.0s alice → 200 BYE
         5.0s alice → 200 BYE",
    );
    lab.expect_idle();
}

#[test]
fn credentials_for_another_request_uri_are_400() {
    for (uri, status) in [
        ("sip:wt.test", "200"),
        ("sip:WT.test", "200"),
        ("sip:wt.test;transport=ws", "200"),
        ("sip:192.0.2.7:5060", "200"),
        ("sip:[2001:db8::7]", "200"),
        ("sips:192.0.2.7", "400"),
        ("sip:bob@wt.test", "400"),
        ("sips:wt.test", "400"),
        ("sip:other.test", "400"),
        ("sip:wt.test:5070", "400"),
        ("", "400"),
    ] {
        let mut lab = Lab::with_phones();
        let peer = Peer::Browser("alice", 9);
        lab.connects(peer);
        let text = lab.register_of(peer, "alice", "");
        lab.says(peer, &text);
        let challenge = lab.take(peer, "401");
        // As a client would that computes for `uri`, and asks for another.
        let other = text.replacen("REGISTER sip:wt.test ", &format!("REGISTER {uri} "), 1);
        let answer = lab.answer_challenge(&challenge, &other, "alice", "secret-a");
        let asked = format!("REGISTER {uri} ");
        lab.says(peer, &answer.replacen(&asked, "REGISTER sip:wt.test ", 1));
        lab.take(peer, status);
    }
}

#[test]
fn a_list_of_more_values_than_anybody_needs_is_513_where_it_must_be_obeyed() {
    for (name, bounded) in
        [("Require", true), ("Record-Route", true), ("Route", false), ("Accept", false)]
    {
        let mut lab = Lab::with_phones();
        let value = if name == "Require" || name == "Accept" { "a" } else { "<sip:a@b;lr>" };
        let many = vec![value; 100].join(",");
        let text = lab.request(ALICE, "OPTIONS", "sip:wt.test", &format!("{name}: {many}\r\n"), "");
        lab.says(ALICE, &text);
        lab.take(ALICE, if bounded { "513" } else { "200" });
    }
}

#[test]
fn media_that_names_our_own_or_forbidden_addresses_is_488() {
    for (address, port, what) in [
        ("127.0.0.99", "4000", "neither public nor"),
        ("169.254.169.254", "4000", "neither public nor"),
        ("10.1.2.3", "4000", "neither public nor"),
        ("224.0.0.1", "4000", "neither public nor"),
        ("127.0.0.10", "80", "below 1024"),
    ] {
        let mut lab = Lab::with_phones();
        let sdp = TRUNK_SDP
            .replace("c=IN IP4 127.0.0.10", &format!("c=IN IP4 {address}"))
            .replace("audio 4000", &format!("audio {port}"));
        lab.invite(T1, "+12065550111", &sdp);
        let response = lab.take(T1, "488");
        assert!(response.header(HeaderName::Warning).unwrap().contains(what), "{address}");
        lab.expect_idle();
    }
}

#[test]
fn a_callee_whose_answer_is_unusable_is_acknowledged_and_hung_up() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    lab.reply(T1, &invite, 200, &TRUNK_SDP.replace("c=IN IP4 127.0.0.10", "c=IN IP4 10.1.2.3"));
    lab.plays(
        "0.0s t1 → 200 INVITE sdp
         0.0s t1 ← ACK
         0.0s t1 ← BYE
         0.0s alice ← 488 INVITE
         0.0s t1 → 200 BYE",
    );
    assert!(lab.take(ALICE, "488").header(HeaderName::Reason).unwrap().contains("10.1.2.3"));
    lab.plays("1.0s");
    lab.expect_idle();
}
