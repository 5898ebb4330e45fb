//! Session timers (RFC 4028), UPDATE (RFC 3311), and re-INVITEs of ours: refresh, glare, challenge.

use crate::lab::*;
use webtrunk::call::HangupBy;
use webtrunk::sip::HeaderName;

const CHALLENGE: &str =
    "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", algorithm=SHA-256, qop=\"auth\"\r\n";

/// A call of alice over t1, whose 200 has these lines.
fn talk_with(lab: &mut Lab, extra: &str) {
    lab.adds(T1, "200 INVITE", extra);
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice",
    );
}

#[test]
fn we_ask_for_a_session_timer_and_refresh_by_update_at_half_of_it() {
    let mut lab = Lab::with_phones();
    talk_with(
        &mut lab,
        "Session-Expires: 1800;refresher=uac\r\nRequire: timer\r\nAllow: INVITE, ACK, BYE, UPDATE\r\n",
    );
    let invite = lab.last(T1, "INVITE");
    assert_eq!(
        (Lab::header(&invite, HeaderName::SessionExpires), Lab::header(&invite, HeaderName::MinSe)),
        ("1800", "90")
    );
    assert!(invite.lists(HeaderName::Supported, "timer"));
    for at in [900, 1_800, 2_700] {
        lab.adds(T1, "200 UPDATE", "Session-Expires: 1800;refresher=uac\r\n");
        lab.plays(&format!(
            "{at}.0s t1 ← UPDATE
             {at}.0s t1 → 200 UPDATE"
        ));
        let update = lab.last(T1, "UPDATE");
        assert_eq!(Lab::header(&update, HeaderName::SessionExpires), "1800;refresher=uac");
    }
    lab.plays("2700.0s alice hangs up on t1");
    lab.expect_idle();
}

#[test]
fn without_update_the_refresh_is_a_reinvite_with_the_same_description() {
    let mut lab = Lab::with_phones();
    let granted = "Session-Expires: 1800;refresher=uac\r\n";
    let first = format!("{granted}Require: timer\r\nAllow: INVITE, ACK, BYE\r\n");
    lab.adds(T1, "200 INVITE", &first);
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice",
    );
    let (invite, configured) = (lab.last(T1, "INVITE"), lab.media.len());
    lab.plays("900.0s t1 ← INVITE sdp");
    let again = lab.last(T1, "INVITE");
    assert_eq!(
        again.body(),
        invite.body(),
        "o= keeps its version: a refresh, not a change (RFC 4028 section 7.4)"
    );
    for _ in 0..2 {
        // The second time its ACK was lost.
        lab.adds(T1, "200 INVITE", granted);
        lab.plays(
            "900.0s t1 → 200 INVITE sdp
             900.0s t1 ← ACK",
        );
        assert_eq!(lab.last(T1, "ACK").cseq().unwrap().number, again.cseq().unwrap().number);
    }
    assert_eq!(lab.media.len(), configured, "media is not touched");
    lab.plays("900.0s alice hangs up on t1");
    lab.expect_idle();
}

#[test]
fn a_peer_that_forgets_its_refresh_loses_the_session_before_it_expires() {
    let mut lab = Lab::with_phones();
    talk_with(&mut lab, "Session-Expires: 300;refresher=uas\r\nRequire: timer\r\n");
    lab.plays("267.0s");
    assert_eq!(lab.gateway.gauges().calls, 1);
    lab.plays(
        "268.0s alice ← BYE
         268.0s t1 ← BYE
         268.5s t1 ← BYE
         269.0s",
    );
    assert!(
        lab.ended()[0].why.contains("let the session of 300 s expire"),
        "{}",
        lab.ended()[0].why
    );
    lab.expect_idle();
}

#[test]
fn a_peers_refreshes_keep_the_session_by_reinvite_and_by_update() {
    let mut lab = Lab::with_phones();
    talk_with(&mut lab, "Session-Expires: 300;refresher=uas\r\nRequire: timer\r\n");
    for (at, method) in [(200, "UPDATE"), (400, "INVITE"), (600, "UPDATE"), (800, "INVITE")] {
        let refresh = "Session-Expires: 300;refresher=uac\r\nSupported: timer\r\n";
        lab.adds(T1, method, refresh);
        lab.plays(&if method == "UPDATE" {
            format!(
                "{at}.0s t1 → UPDATE
                 {at}.0s t1 ← 200 UPDATE"
            )
        } else {
            format!(
                "{at}.0s t1 → INVITE sdp
                 {at}.0s t1 ← 100 INVITE
                 {at}.0s t1 ← 200 INVITE sdp
                 {at}.0s t1 → ACK"
            )
        });
        let granted = lab.last(T1, &format!("200 {method}"));
        assert_eq!(Lab::header(&granted, HeaderName::SessionExpires), "300;refresher=uac");
        assert!(granted.lists(HeaderName::Require, "timer"));
    }
    lab.plays("800.0s alice hangs up on t1");
    lab.expect_idle();
}

#[test]
fn a_422_is_answered_with_the_longer_interval_the_callee_wants() {
    let mut lab = Lab::changed(
        &[("realm = \"carrier\"", "realm = \"carrier\"\nsession_timer = \"90s\"")],
        "",
    );
    lab.plays("0.0s alice calls +12065550123 at t1");
    let first = lab.last(T1, "INVITE");
    assert_eq!(Lab::header(&first, HeaderName::SessionExpires), "90");
    lab.reply_with(T1, &first, 422, "", "x", "Min-SE: 600\r\n");
    lab.plays(
        "0.0s t1 → 422 INVITE
         0.0s t1 ← ACK
         0.0s t1 ← INVITE sdp",
    );
    let second = lab.last(T1, "INVITE");
    assert_eq!(Lab::header(&second, HeaderName::SessionExpires), "600");
    assert_eq!(
        (second.call_id(), second.cseq().unwrap().number),
        (first.call_id(), first.cseq().unwrap().number + 1)
    );
    lab.reply_with(T1, &second, 422, "", "x", "Min-SE: 600\r\n");
    lab.plays("0.0s t1 refuses alice with 422");
    lab.expect_idle();
}

#[test]
fn our_own_422_names_the_least_and_an_absent_wish_gets_ours() {
    let mut lab = Lab::with_phones();
    let text = lab.request(
        T1,
        "INVITE",
        "sip:+12065550111@127.0.0.1",
        "Supported: timer\r\nSession-Expires: 60\r\n",
        TRUNK_SDP,
    );
    lab.says(T1, &text);
    assert_eq!(Lab::header(&lab.take(T1, "422"), HeaderName::MinSe), "90");
    lab.plays(
        "0.0s t1 → INVITE +12065550111 sdp
         0.0s t1 ← 422 INVITE
         0.0s t1 calls +12065550111 at alice
         0.0s alice answers t1
         0.5s t1 ← 422 INVITE
         1.5s t1 ← 422 INVITE
         3.5s t1 ← 422 INVITE
         7.5s t1 ← 422 INVITE
         11.5s t1 ← 422 INVITE
         15.5s t1 ← 422 INVITE
         19.5s t1 ← 422 INVITE
         23.5s t1 ← 422 INVITE
         27.5s t1 ← 422 INVITE
         31.5s t1 ← 422 INVITE
         900.0s t1 ← INVITE sdp
         900.0s t1 → 200 INVITE sdp
         900.0s t1 ← ACK
         900.0s t1 hangs up on alice",
    );
    let ok = lab.last(T1, "200 INVITE");
    assert_eq!(
        Lab::header(&ok, HeaderName::SessionExpires),
        "1800;refresher=uas",
        "we refresh for a peer that knows no timers"
    );
    assert!(!ok.lists(HeaderName::Require, "timer"));
    lab.expect_idle();
}

#[test]
fn a_browser_without_timers_is_not_bothered_with_them() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls 201 at bob
         0.0s bob answers alice
         3600.0s",
    );
    let ok = lab.last(ALICE, "200 INVITE");
    assert!(ok.header(HeaderName::SessionExpires).is_none());
    lab.plays("3600.0s alice hangs up on bob");
    lab.expect_idle();
}

#[test]
fn glare_491_is_waited_out_and_the_refresh_tried_again() {
    let session = "Session-Expires: 1800;refresher=uac\r\nRequire: timer\r\n";
    let mut lab = Lab::with_phones();
    lab.adds(T1, "200 INVITE", session);
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice
         900.0s t1 ← INVITE sdp
         900.0s t1 → INVITE sdp       // theirs crosses ours: 491 each way
         900.0s t1 ← 100 INVITE
         900.0s t1 ← 491 INVITE
         900.0s t1 → ACK
         900.0s t1 → 491 INVITE
         900.0s t1 ← ACK
         902.0s                       // the owner of the Call-ID waits at least 2.1 s",
    );
    lab.adds(T1, "200 INVITE", session);
    lab.plays(
        "902.4s t1 ← INVITE sdp
         902.4s t1 → 200 INVITE sdp
         902.4s t1 ← ACK
         902.4s alice hangs up on t1",
    );
    lab.expect_idle();
}

#[test]
fn a_challenge_to_our_reinvite_is_answered_only_where_the_first_invite_was_challenged_too() {
    let session = "Session-Expires: 1800;refresher=uac\r\nRequire: timer\r\n";
    for proved in [true, false] {
        let mut lab = Lab::with_phones();
        lab.plays("0.0s alice calls +12065550123 at t1");
        if proved {
            lab.adds(T1, "401 INVITE", CHALLENGE);
            lab.plays(
                "0.0s t1 → 401 INVITE
                 0.0s t1 ← ACK
                 0.0s t1 ← INVITE sdp",
            );
        }
        lab.adds(T1, "200 INVITE", session);
        lab.plays(
            "0.0s t1 answers alice
             900.0s t1 ← INVITE sdp",
        );
        assert!(lab.last(T1, "INVITE").header(HeaderName::Authorization).is_none());
        lab.adds(T1, "401 INVITE", &CHALLENGE.replace("n1", "n2"));
        if proved {
            lab.plays(
                "900.0s t1 → 401 INVITE
                 900.0s t1 ← ACK
                 900.0s t1 ← INVITE sdp",
            );
            let again = lab.last(T1, "INVITE");
            assert!(Lab::header(&again, HeaderName::Authorization).contains("nonce=\"n2\""));
            lab.adds(T1, "401 INVITE", &CHALLENGE.replace("n1", "n3"));
        }
        // A callee that challenges us out of the blue learns nothing, nor does one that asks again.
        lab.plays(
            "900.0s t1 → 401 INVITE
             900.0s t1 ← ACK
             900.0s alice hangs up on t1",
        );
        lab.expect_idle();
    }
}

#[test]
fn a_refresh_that_finds_no_dialog_ends_the_call_on_both_sides() {
    let refreshed = || {
        let mut lab = Lab::with_phones();
        let timer = "Session-Expires: 1800;refresher=uac\r\nRequire: timer\r\n";
        lab.adds(T1, "200 INVITE", timer);
        lab.plays(
            "0.0s alice calls +12065550123 at t1
             0.0s t1 answers alice
             900.0s t1 ← INVITE sdp",
        );
        lab
    };
    for status in [481, 408] {
        let mut lab = refreshed();
        lab.plays(&format!(
            "900.0s t1 → {status} INVITE
             900.0s t1 ← ACK
             900.0s alice ← BYE
             900.0s t1 ← BYE
             900.0s alice → 200 BYE
             900.0s t1 → 481 BYE"
        ));
        assert_eq!(lab.ended()[0].by, Some(HangupBy::Callee));
        lab.expect_idle();
    }
    let mut lab = refreshed();
    lab.plays(
        "900.5s t1 ← INVITE sdp
         901.5s t1 ← INVITE sdp
         903.5s t1 ← INVITE sdp
         907.5s t1 ← INVITE sdp
         915.5s t1 ← INVITE sdp
         931.5s t1 ← INVITE sdp
         932.0s alice ← BYE
         932.0s t1 ← BYE
         932.0s alice → 200 BYE
         932.0s t1 → 481 BYE",
    );
    assert!(
        lab.ended()[0].why.contains("does not know the call any more"),
        "{}",
        lab.ended()[0].why
    );
    lab.expect_idle();
}

#[test]
fn a_refresh_refused_otherwise_is_tried_again_until_the_session_ends() {
    let mut lab = Lab::with_phones();
    talk_with(&mut lab, "Session-Expires: 200;refresher=uac\r\nRequire: timer\r\n");
    lab.plays(
        "100.0s t1 ← INVITE sdp
         100.0s t1 → 500 INVITE
         100.0s t1 ← ACK
         110.0s t1 ← INVITE sdp
         110.0s t1 → 500 INVITE
         110.0s t1 ← ACK
         120.0s t1 ← INVITE sdp
         120.0s t1 → 500 INVITE
         120.0s t1 ← ACK
         130.0s t1 ← INVITE sdp
         130.0s t1 → 500 INVITE
         130.0s t1 ← ACK
         140.0s t1 ← INVITE sdp
         140.0s t1 → 500 INVITE
         140.0s t1 ← ACK
         150.0s t1 ← INVITE sdp
         150.0s t1 → 500 INVITE
         150.0s t1 ← ACK
         160.0s t1 ← INVITE sdp
         160.5s t1 ← INVITE sdp
         161.5s t1 ← INVITE sdp
         163.5s t1 ← INVITE sdp
         167.5s t1 ← INVITE sdp
         168.0s alice ← BYE
         168.0s t1 ← BYE
         168.5s t1 ← BYE
         169.5s t1 ← BYE
         171.5s t1 ← BYE
         175.5s t1 ← INVITE sdp
         175.5s t1 ← BYE
         179.5s t1 ← BYE
         180.0s",
    );
    lab.expect_idle();
}

#[test]
fn an_update_with_an_offer_renegotiates_its_leg_and_one_with_a_bad_offer_changes_nothing() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice
         0.0s t1 → UPDATE sdp sendonly
         0.0s t1 ← 200 UPDATE sdp recvonly",
    );
    let bad = TRUNK_SDP
        .replace("o=- 1 1", "o=- 1 99")
        .replace("RTP/AVP 0 101", "RTP/AVP 18")
        .replace("PCMU", "G729")
        .replace("rtpmap:0", "rtpmap:18");
    let invite = lab.last(T1, "INVITE");
    let update = lab.in_dialog(T1, &invite, "UPDATE", 3_000, "peer", &bad);
    lab.says(T1, &update);
    lab.plays(
        "0.0s t1 → UPDATE sdp
         0.0s t1 ← 488 UPDATE
         0.0s alice hangs up on t1",
    );
    lab.expect_idle();
}

#[test]
fn an_update_in_an_early_dialog_is_served_on_either_side() {
    // The callee's: its early media moves.
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    lab.reply_with(T1, &invite, 183, TRUNK_SDP, "far", "Require: 100rel\r\nRSeq: 1\r\n");
    lab.plays(
        "0.0s t1 → 183 INVITE sdp
         0.0s t1 ← PRACK
         0.0s alice ← 183 INVITE sdp
         0.0s t1 → 200 PRACK",
    );
    let moved = TRUNK_SDP.replace("o=- 1 1", "o=- 1 2").replace("audio 4000", "audio 4010");
    let update = lab.in_dialog(T1, &invite, "UPDATE", 2, "far", &moved);
    lab.says(T1, &update);
    assert!(lab.take(T1, "200 UPDATE").body_of("application/sdp").is_some());
    // The caller's: before its first offer is answered it must wait, afterwards it is served.
    lab.plays(
        "0.0s t1 → UPDATE sdp
         0.0s t1 ← 200 UPDATE sdp",
    );
    lab.reply_with(T1, &invite, 486, "", "far", "");
    lab.plays("0.0s t1 refuses alice with 486");
    lab.expect_idle();
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls 201 at bob
         0.0s bob rings alice",
    );
    let ringing = lab.last(ALICE, "180 INVITE");
    let update = lab.in_dialog(ALICE, &ringing, "UPDATE", 90, "", OFFER);
    lab.says(ALICE, &update);
    assert!(
        lab.take(ALICE, "500").header(HeaderName::RetryAfter).is_some(),
        "RFC 3311 section 5.2"
    );
    lab.plays(
        "0.0s alice → UPDATE sdp
         0.0s alice ← 500 UPDATE
         0.0s bob → 183 INVITE sdp recvonly
         0.0s alice ← 183 INVITE sdp",
    );
    let early = lab.last(ALICE, "183 INVITE");
    let offer = OFFER.replacen(" 2 IN IP4", " 3 IN IP4", 1);
    let update = lab.in_dialog(ALICE, &early, "UPDATE", 91, "", &offer);
    lab.says(ALICE, &update);
    assert!(lab.take(ALICE, "200 UPDATE").body_of("application/sdp").is_some());
    lab.plays(
        "0.0s alice → UPDATE sdp
         0.0s alice ← 200 UPDATE sdp
         0.0s bob refuses alice with 486",
    );
    lab.expect_idle();
}

#[test]
fn a_reinvite_without_an_offer_gets_ours_and_a_bad_answer_leaves_the_session_as_it_was() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice
         0.0s t1 → INVITE
         0.0s t1 ← 100 INVITE
         0.0s t1 ← 200 INVITE sdp
         0.0s t1 → ACK sdp
         0.0s t1 → INVITE
         0.0s t1 ← 100 INVITE
         0.0s t1 ← 200 INVITE sdp
         0.0s t1 → ACK               // without the answer
         0.0s alice hangs up on t1",
    );
    lab.expect_idle();
}

#[test]
fn the_route_set_of_a_trunk_is_followed_loose_and_strict() {
    for (record_route, uri, routes) in [
        (
            "<sip:p1.carrier;lr>, <sip:p2.carrier;lr>",
            "sip:far@127.0.0.10",
            vec!["<sip:p2.carrier;lr>", "<sip:p1.carrier;lr>"],
        ),
        // RFC 3261 section 12.2.1.1: a strict router is asked itself, and the target goes last.
        (
            "<sip:p1.carrier;lr>, <sip:p2.carrier>",
            "sip:p2.carrier",
            vec!["<sip:p1.carrier;lr>", "<sip:far@127.0.0.10>"],
        ),
    ] {
        let mut lab = Lab::with_phones();
        talk_with(&mut lab, &format!("Record-Route: {record_route}\r\n"));
        lab.plays("0.0s alice hangs up on t1");
        let bye = lab.last(T1, "BYE");
        assert_eq!(
            (bye.request_uri(), bye.all(HeaderName::Route).collect::<Vec<_>>()),
            (uri, routes)
        );
        lab.expect_idle();
    }
}
