//! A gateway that is killed at a moment when something is open within a call.

use crate::lab::*;
use crate::restart::{AWAY, BACK, comes_back};
use std::time::Duration;
use webtrunk::errors::Code;
use webtrunk::sip::{HeaderName, Message};

const BY_THEM: &str = "Session-Expires: 90;refresher=uas\r\nRequire: timer\r\n";
const BY_US: &str = "Session-Expires: 90;refresher=uac\r\nRequire: timer\r\n";
const BY_UPDATE: &str = "Session-Expires: 90;refresher=uac\r\nRequire: timer\r\nAllow: UPDATE\r\n";

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A call of alice over t1 in a session of 90 s, whose 200 has these lines.
fn talk(extra: &str) -> Lab {
    let short = ("realm = \"carrier\"", "realm = \"carrier\"\nsession_timer = \"90s\"");
    let mut lab = Lab::changed(&[short], "");
    lab.adds(T1, "200 INVITE", extra);
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice",
    );
    lab
}

/// alice is back and hangs up. The call was fine to its end.
fn ends_well(mut lab: Lab) {
    comes_back(&mut lab);
    let at = lab.seconds();
    lab.plays(&format!(
        "{at}s alice-7 ← OPTIONS
         {at}s alice-7 → 200 OPTIONS
         {at}s alice-7 hangs up on t1"
    ));
    let records = lab.ended();
    assert_eq!(records.iter().map(|r| r.code).collect::<Vec<_>>(), [Code::FINE]);
    lab.expect_idle();
}

/// UDP repeats at intervals that double, a re-INVITE without a limit.
#[test]
fn a_peer_that_refreshed_while_nobody_was_there_keeps_its_session() {
    for away in [2, 9, 19] {
        for second in [41, 50, 59] {
            let mut lab = talk(BY_THEM);
            lab.advance(secs(second));
            lab.restart(secs(away));
            // Sent just as the gateway died.
            lab.advance(secs(away));
            let asks = "Session-Expires: 90;refresher=uac\r\nSupported: timer\r\n";
            lab.adds(T1, "UPDATE", asks);
            let at = lab.seconds();
            lab.plays(&format!(
                "{at}s t1 → UPDATE
                 {at}s t1 ← 200 UPDATE"
            ));
            ends_well(lab);
        }
    }
}

#[test]
fn a_peer_that_never_refreshes_loses_its_session_after_a_restart_too() {
    let mut lab = talk(BY_THEM);
    lab.plays("50.0s");
    lab.restart(secs(5));
    lab.advance(secs(30));
    assert_eq!(lab.ended()[0].code, Code::SESSION_TIMER);
}

#[test]
fn a_refresh_of_ours_that_fell_due_meanwhile_is_sent_at_once() {
    for (second, away) in [(40, 6), (44, 19), (30, 19)] {
        let mut lab = talk(BY_UPDATE);
        lab.advance(secs(second));
        lab.restart(secs(away));
        let granted = "Session-Expires: 90;refresher=uac\r\n";
        lab.adds(T1, "200 UPDATE", granted);
        let at = lab.seconds();
        lab.plays(&format!(
            "{at}s t1 ← UPDATE
             {at}s t1 → 200 UPDATE"
        ));
        ends_well(lab);
    }
}

/// Until it has its ACK, it takes no other INVITE, and hangs up after 32 s.
#[test]
fn a_peer_that_answers_a_refresh_of_the_process_before_gets_its_ack() {
    let mut lab = talk(BY_US);
    lab.plays("45.0s t1 ← INVITE sdp");
    let refresh = lab.last(T1, "INVITE");
    lab.restart(AWAY);
    // Ours was due and unanswered: it is sent again, by a number that was never used.
    lab.plays("45.4s t1 ← INVITE sdp");
    let number = |m: &Message| m.cseq().map(|c| c.number);
    assert!(number(&lab.last(T1, "INVITE")) > number(&refresh));
    lab.reply(T1, &refresh, 200, TRUNK_SDP);
    lab.plays(
        "45.4s t1 → 200 INVITE sdp
         45.4s t1 ← ACK",
    );
    assert_eq!(number(&lab.last(T1, "ACK")), number(&refresh));
    lab.adds(T1, "200 INVITE", "Session-Expires: 90;refresher=uac\r\n");
    lab.plays(
        "45.4s t1 → 200 INVITE sdp
         45.4s t1 ← ACK",
    );
    ends_well(lab);
}

/// What it holds is its own to know; the gateway goes on with what was settled.
#[test]
fn a_reinvite_whose_200_had_no_ack_yet_is_answered_again() {
    let mut lab = talk("");
    let invite = lab.last(T1, "INVITE");
    let hold = TRUNK_SDP.replace("o=- 1 1", "o=- 1 2") + "a=sendonly\r\n";
    let reinvite = lab.in_dialog(T1, &invite, "INVITE", 7, "peer", &hold);
    lab.says(T1, &reinvite);
    lab.plays(
        "0.0s t1 → INVITE sdp sendonly
         0.0s t1 ← 100 INVITE
         0.0s t1 ← 200 INVITE sdp recvonly",
    );
    lab.restart(AWAY);
    // It has not heard the answer.
    lab.says(T1, &reinvite);
    lab.plays(
        "0.4s t1 → INVITE sdp sendonly
         0.4s t1 ← 100 INVITE
         0.4s t1 ← 200 INVITE sdp recvonly
         0.4s t1 → ACK",
    );
    ends_well(lab);
}

/// Its ACK would have brought its description; what was agreed before stays.
#[test]
fn a_reinvite_without_a_description_that_was_open_costs_no_call() {
    for call in [
        "0.0s t1 calls +12065550111 at alice
         0.0s alice answers t1",
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice",
    ] {
        let mut lab = Lab::with_phones();
        lab.plays(call);
        lab.plays(
            "0.0s t1 → INVITE
             0.0s t1 ← 100 INVITE
             0.0s t1 ← 200 INVITE sdp",
        );
        lab.restart(AWAY);
        lab.plays(
            "0.4s t1 → ACK sdp
             40.4s",
        );
        ends_well(lab);
    }
}

/// The keys that a description gives for its own media, by suite.
fn keys_of(message: &Message) -> Vec<(String, String)> {
    let body = String::from_utf8_lossy(message.body()).into_owned();
    let lines = body.lines().filter_map(|line| line.strip_prefix("a=crypto:"));
    let parts = lines.map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    parts.map(|parts| (parts[..2].join(" "), parts[2].clone())).collect()
}

/// Its keys are those of the process before, whose indices were reserved.
#[test]
fn a_trunk_with_srtp_is_shown_the_same_key_by_the_next_process() {
    let srtp = ("max_calls = 3\n", "max_calls = 3\nsrtp = \"required\"\n");
    let mut lab = Lab::changed(&[srtp], "");
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    let offered = keys_of(&invite);
    let (suite, ours) =
        offered.iter().find(|(suite, _)| suite.ends_with("_128_HMAC_SHA1_80")).expect("offered");
    let theirs = "inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
    let sdp = TRUNK_SDP.replace("RTP/AVP", "RTP/SAVP");
    let sdp = format!("{sdp}a=crypto:{suite} {theirs}\r\n");
    lab.reply(T1, &invite, 200, &sdp);
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    lab.inbox.clear();
    for version in [2u32, 3] {
        lab.restart(AWAY);
        let again = sdp.replace("o=- 1 1", &format!("o=- 1 {version}"));
        let reinvite = lab.in_dialog(T1, &invite, "INVITE", 5 + version, "peer", &again);
        lab.says(T1, &reinvite);
        let answer = lab.take(T1, "200 INVITE");
        assert_eq!(keys_of(&answer), [(suite.clone(), ours.clone())]);
        lab.ack(T1, &answer);
    }
    comes_back(&mut lab);
    let bye = lab.in_dialog(BACK, &ok, "BYE", 9_000, "", "");
    lab.inbox.clear();
    lab.says(BACK, &bye);
    let at_trunk = lab.take(T1, "BYE");
    lab.reply(T1, &at_trunk, 200, "");
    assert_eq!(lab.ended().iter().map(|r| r.code).collect::<Vec<_>>(), [Code::FINE]);
    lab.expect_idle();
}

#[test]
fn a_call_on_hold_stays_on_hold_and_is_taken_back_by_its_browser() {
    let mut lab = talk("");
    lab.plays(
        "0.0s alice → INVITE sdp sendonly
         0.0s alice ← 100 INVITE
         0.0s alice ← 200 INVITE sdp recvonly
         0.0s alice → ACK",
    );
    lab.restart(AWAY);
    comes_back(&mut lab);
    lab.plays(
        "0.4s alice-7 ← OPTIONS
         0.4s alice-7 → 200 OPTIONS
         0.4s alice-7 → INVITE sdp
         0.4s alice-7 ← 100 INVITE
         0.4s alice-7 ← 200 INVITE sdp
         0.4s alice-7 → ACK
         0.4s alice-7 hangs up on t1",
    );
    assert_eq!(lab.ended()[0].code, Code::FINE);
    lab.expect_idle();
}

#[test]
fn a_call_between_two_browsers_continues_whoever_is_back_first() {
    for bob_first in [false, true] {
        let mut lab = Lab::with_phones();
        lab.plays(
            "0.0s alice calls 201 at bob
             0.0s bob answers alice",
        );
        lab.restart(AWAY);
        let bob = Peer::Browser("bob", 8);
        let mut back = [(BACK, "secret-a", "uuid-a"), (bob, "secret-b", "uuid-b")];
        if bob_first {
            back.reverse();
        }
        for (peer, password, instance) in back {
            lab.log_in(peer, password, instance);
            let (at, name) = (lab.seconds(), lab.name_of(peer.hop()));
            lab.plays(&format!(
                "{at}s {name} ← OPTIONS
                 {at}s {name} → 200 OPTIONS"
            ));
            lab.advance(secs(20));
        }
        lab.plays("40.4s bob-8 hangs up on alice-7");
        assert_eq!(lab.ended()[0].code, Code::FINE);
        lab.expect_idle();
    }
}

/// As many as there may be were there before.
#[test]
fn calls_of_the_process_before_count_for_the_limits_of_their_trunk() {
    let mut lab = Lab::with_phones();
    for _ in 0..3 {
        lab.plays(
            "0.0s alice calls +12065550123 at t1
             0.0s t1 answers alice",
        );
    }
    lab.restart(AWAY);
    lab.log_in(BACK, "secret-a", "uuid-a");
    lab.plays(
        "0.4s alice-7 ← OPTIONS
         0.4s alice-7 ← OPTIONS
         0.4s alice-7 ← OPTIONS
         0.4s alice-7 → INVITE +12065550123 sdp
         0.4s alice-7 ← 100 INVITE
         0.4s alice-7 ← 500 INVITE           // t1 takes three
         0.4s alice-7 hangs up on t1
         0.4s alice-7 calls +12065550123 at t1",
    );
}

/// Nobody can log in by that name any more.
#[test]
fn a_call_of_a_user_who_is_not_configured_any_more_ends_after_the_grace_time() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice",
    );
    lab.configure_next(&[("user.alice", "user.alicia")]);
    lab.restart(AWAY);
    lab.plays(
        "300.4s t1 ← BYE
         300.4s t1 → 200 BYE",
    );
    assert_eq!(lab.ended()[0].code, Code::FLOW_LOST);
    lab.expect_idle();
}

/// A proxy behind the trunk forked: each of its phones has a dialog of its own.
#[test]
fn early_dialogs_of_a_fork_are_all_ended() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    for tag in ["one", "two"] {
        lab.reply_as(T1, &invite, 183, TRUNK_SDP, tag);
    }
    lab.plays(
        "0.0s t1 → 183 INVITE sdp
         0.0s alice ← 183 INVITE sdp
         0.0s t1 → 183 INVITE sdp
         0.0s alice ← 180 INVITE",
    );
    lab.restart(AWAY);
    lab.plays(
        "0.4s t1 ← INVITE sdp
         0.4s t1 ← CANCEL
         0.4s t1 → 200 CANCEL",
    );
    let branch = |m: &Message| m.via().and_then(|v| v.branch().map(str::to_owned));
    assert_eq!(branch(&lab.last(T1, "INVITE")), branch(&invite));
    // Both were picked up before that came.
    for tag in ["one", "two"] {
        lab.reply_as(T1, &invite, 200, TRUNK_SDP, tag);
        lab.plays(
            "0.4s t1 → 200 INVITE sdp
             0.4s t1 ← ACK
             0.4s t1 ← BYE
             0.4s t1 → 200 BYE",
        );
        let bye = lab.last(T1, "BYE");
        assert!(Lab::header(&bye, HeaderName::To).contains(&format!("tag={tag}")));
    }
    comes_back(&mut lab);
    lab.plays("0.4s alice-7 ← 503 INVITE");
    assert_eq!(lab.ended().iter().map(|r| r.code).collect::<Vec<_>>(), [Code::RESTARTED]);
    lab.expect_idle();
}
