//! A gateway that is killed at a moment when something is open within a call.

use crate::lab::*;
use crate::restart::{AWAY, BACK, comes_back, knows_its_call};
use std::time::Duration;
use webtrunk::errors::Code;
use webtrunk::sip::{HeaderName, Message};

const BY_THEM: &str = "Session-Expires: 90;refresher=uas\r\nRequire: timer\r\n";
const BY_US: &str = "Session-Expires: 90;refresher=uac\r\nRequire: timer\r\n";
const BY_UPDATE: &str = "Session-Expires: 90;refresher=uac\r\nRequire: timer\r\nAllow: UPDATE\r\n";

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A call of alice over t1 in a session of 90 s: the trunk's INVITE, and alice's 200.
fn talk(extra: &str) -> (Lab, Message, Message) {
    let short = ("realm = \"carrier\"", "realm = \"carrier\"\nsession_timer = \"90s\"");
    let mut lab = Lab::changed(&[short], "");
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply_with(T1, &invite, 200, TRUNK_SDP, "peer", extra);
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    lab.take(T1, "ACK");
    lab.inbox.clear();
    (lab, invite, ok)
}

/// alice is back and hangs up; `seen`: her 200. The call was fine to its end.
fn ends_well(mut lab: Lab, seen: &Message) {
    comes_back(&mut lab);
    knows_its_call(&mut lab, BACK);
    let bye = lab.in_dialog(BACK, seen, "BYE", 9_000, "", "");
    lab.says(BACK, &bye);
    let at_trunk = lab.take(T1, "BYE");
    lab.reply(T1, &at_trunk, 200, "");
    let records = lab.ended();
    assert_eq!(records.iter().map(|r| r.code).collect::<Vec<_>>(), [Code::FINE]);
    lab.expect_idle();
}

/// UDP repeats at intervals that double, a re-INVITE without a limit.
#[test]
fn a_peer_that_refreshed_while_nobody_was_there_keeps_its_session() {
    for away in [2, 9, 19] {
        for second in [41, 50, 59] {
            let (mut lab, invite, ok) = talk(BY_THEM);
            lab.advance(secs(second));
            lab.restart(secs(away));
            // Sent just as the gateway died.
            lab.advance(secs(away));
            let asks = "Session-Expires: 90;refresher=uac\r\nSupported: timer\r\n";
            let update = lab.in_dialog_with(T1, &invite, "UPDATE", 2, asks, "");
            lab.says(T1, &update);
            lab.take(T1, "200 UPDATE");
            ends_well(lab, &ok);
        }
    }
}

#[test]
fn a_peer_that_never_refreshes_loses_its_session_after_a_restart_too() {
    let (mut lab, _, _) = talk(BY_THEM);
    lab.advance(secs(50));
    lab.restart(secs(5));
    lab.advance(secs(30));
    assert_eq!(lab.ended()[0].code, Code::SESSION_TIMER);
}

#[test]
fn a_refresh_of_ours_that_fell_due_meanwhile_is_sent_at_once() {
    for (second, away) in [(40, 6), (44, 19), (30, 19)] {
        let (mut lab, _, ok) = talk(BY_UPDATE);
        lab.advance(secs(second));
        lab.inbox.clear();
        lab.restart(secs(away));
        lab.advance(Duration::from_millis(100));
        let update = lab.take(T1, "UPDATE");
        let granted = "Session-Expires: 90;refresher=uac\r\n";
        lab.reply_with(T1, &update, 200, "", "peer", granted);
        assert!(!lab.got(T1, "BYE"), "{second} s and {away}: {}", lab.picture());
        ends_well(lab, &ok);
    }
}

/// Until it has its ACK, it takes no other INVITE, and hangs up after 32 s.
#[test]
fn a_peer_that_answers_a_refresh_of_the_process_before_gets_its_ack() {
    let (mut lab, _, ok) = talk(BY_US);
    lab.advance(secs(45));
    let refresh = lab.take(T1, "INVITE");
    lab.inbox.clear();
    lab.restart(AWAY);
    lab.reply(T1, &refresh, 200, TRUNK_SDP);
    let ack = lab.take(T1, "ACK");
    assert_eq!(ack.cseq().map(|c| c.number), refresh.cseq().map(|c| c.number));
    // Ours was due and unanswered: it is sent again, by a number that was never used.
    lab.advance(secs(1));
    let again = lab.take(T1, "INVITE");
    assert!(again.cseq().map(|c| c.number) > refresh.cseq().map(|c| c.number));
    let granted = "Session-Expires: 90;refresher=uac\r\n";
    lab.reply_with(T1, &again, 200, TRUNK_SDP, "peer", granted);
    lab.take(T1, "ACK");
    ends_well(lab, &ok);
}

/// What it holds is its own to know; the gateway goes on with what was settled.
#[test]
fn a_reinvite_whose_200_had_no_ack_yet_is_answered_again() {
    let (mut lab, invite, ok) = talk("");
    let hold = TRUNK_SDP.replace("o=- 1 1", "o=- 1 2") + "a=sendonly\r\n";
    let reinvite = lab.in_dialog(T1, &invite, "INVITE", 7, "peer", &hold);
    lab.says(T1, &reinvite);
    lab.take(T1, "200");
    lab.inbox.clear();
    lab.restart(AWAY);
    // It has not heard the answer.
    lab.says(T1, &reinvite);
    let answer = lab.take(T1, "200 INVITE");
    let body = String::from_utf8_lossy(answer.body()).into_owned();
    assert!(body.contains("a=recvonly"), "{body}");
    let number = answer.cseq().map_or(0, |c| c.number);
    let ack = lab.in_dialog(T1, &invite, "ACK", number, "peer", "");
    lab.says(T1, &ack);
    lab.inbox.clear();
    ends_well(lab, &ok);
}

/// Its ACK would have brought its description; what was agreed before stays.
#[test]
fn a_reinvite_without_a_description_that_was_open_costs_no_call() {
    for caller in [true, false] {
        let mut lab = Lab::with_phones();
        let (seen, other) = if caller {
            lab.invite(T1, "+12065550111", TRUNK_SDP);
            let ringing = lab.take(ALICE, "INVITE");
            lab.reply(ALICE, &ringing, 200, ANSWER);
            lab.take(ALICE, "ACK");
            let ok = lab.take(T1, "200");
            lab.ack(T1, &ok);
            (ok, ringing)
        } else {
            let (ok, invite) = lab.talk("+12065550123");
            (invite, ok)
        };
        let reinvite = lab.in_dialog(T1, &seen, "INVITE", 700, "peer", "");
        lab.says(T1, &reinvite);
        lab.take(T1, "200");
        lab.inbox.clear();
        lab.restart(AWAY);
        assert!(!lab.got(T1, "BYE"), "caller {caller}: {}", lab.picture());
        let ack = lab.in_dialog(T1, &seen, "ACK", 700, "peer", TRUNK_SDP);
        lab.says(T1, &ack);
        lab.advance(secs(40));
        assert!(!lab.got(T1, "BYE"), "caller {caller}: {}", lab.picture());
        comes_back(&mut lab);
        knows_its_call(&mut lab, BACK);
        let bye = lab.in_dialog(BACK, &other, "BYE", 900, "peer", "");
        lab.says(BACK, &bye);
        let at_trunk = lab.take(T1, "BYE");
        lab.reply(T1, &at_trunk, 200, "");
        assert_eq!(lab.ended()[0].code, Code::FINE);
        lab.expect_idle();
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
    ends_well(lab, &ok);
}

/// The media of bob's description in a direction.
fn held(of: &str, direction: &str) -> String {
    of.replace("a=sendrecv", &format!("a={direction}"))
}

#[test]
fn a_call_on_hold_stays_on_hold_and_is_taken_back_by_its_browser() {
    let (mut lab, _, ok) = talk("");
    let hold = lab.in_dialog(ALICE, &ok, "INVITE", 700, "", &held(OFFER, "sendonly"));
    lab.says(ALICE, &hold);
    let answer = lab.take(ALICE, "200");
    lab.ack(ALICE, &answer);
    lab.inbox.clear();
    lab.restart(AWAY);
    comes_back(&mut lab);
    knows_its_call(&mut lab, BACK);
    let back = lab.in_dialog(BACK, &ok, "INVITE", 701, "", OFFER);
    lab.says(BACK, &back);
    let answer = lab.take(BACK, "200 INVITE");
    let body = String::from_utf8_lossy(answer.body()).into_owned();
    assert!(body.contains("a=sendrecv"), "{body}");
    lab.ack(BACK, &answer);
    let bye = lab.in_dialog(BACK, &ok, "BYE", 702, "", "");
    lab.says(BACK, &bye);
    let at_trunk = lab.take(T1, "BYE");
    lab.reply(T1, &at_trunk, 200, "");
    assert_eq!(lab.ended()[0].code, Code::FINE);
    lab.expect_idle();
}

#[test]
fn a_call_between_two_browsers_continues_whoever_is_back_first() {
    for bob_first in [false, true] {
        let mut lab = Lab::with_phones();
        lab.invite(ALICE, "201", OFFER);
        let ringing = lab.take(BOB, "INVITE");
        lab.reply(BOB, &ringing, 200, ANSWER);
        let ok = lab.take(ALICE, "200");
        lab.ack(ALICE, &ok);
        lab.take(BOB, "ACK");
        lab.inbox.clear();
        lab.restart(AWAY);
        let bob = Peer::Browser("bob", 8);
        let mut back = [(BACK, "secret-a", "uuid-a"), (bob, "secret-b", "uuid-b")];
        if bob_first {
            back.reverse();
        }
        for (peer, password, instance) in back {
            lab.log_in(peer, password, instance);
            knows_its_call(&mut lab, peer);
            lab.advance(secs(20));
        }
        let bye = lab.in_dialog(bob, &ringing, "BYE", 5, "peer", "");
        lab.says(bob, &bye);
        let at_alice = lab.take(BACK, "BYE");
        lab.reply(BACK, &at_alice, 200, "");
        assert_eq!(lab.ended()[0].code, Code::FINE);
        lab.expect_idle();
    }
}

/// As many as there may be were there before.
#[test]
fn calls_of_the_process_before_count_for_the_limits_of_their_trunk() {
    let mut lab = Lab::with_phones();
    let calls: Vec<Message> = (0..3).map(|_| lab.talk("+12065550123").0).collect();
    lab.restart(AWAY);
    lab.log_in(BACK, "secret-a", "uuid-a");
    lab.inbox.clear();
    lab.invite(BACK, "+12065550123", OFFER);
    assert!(!lab.got(T1, "INVITE"), "t1 takes three: {}", lab.picture());
    lab.inbox.clear();
    let bye = lab.in_dialog(BACK, &calls[0], "BYE", 900, "", "");
    lab.says(BACK, &bye);
    let at_trunk = lab.take(T1, "BYE");
    lab.reply(T1, &at_trunk, 200, "");
    lab.invite(BACK, "+12065550123", OFFER);
    assert!(lab.got(T1, "INVITE"), "there is room for one: {}", lab.picture());
}

/// Nobody can log in by that name any more.
#[test]
fn a_call_of_a_user_who_is_not_configured_any_more_ends_after_the_grace_time() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.inbox.clear();
    lab.configure_next(&[("user.alice", "user.alicia")]);
    lab.restart(AWAY);
    lab.advance(secs(301));
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 200, "");
    assert_eq!(lab.ended()[0].code, Code::FLOW_LOST);
    lab.expect_idle();
}

/// A proxy behind the trunk forked: each of its phones has a dialog of its own.
#[test]
fn early_dialogs_of_a_fork_are_all_ended() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    for tag in ["one", "two"] {
        lab.reply_as(T1, &invite, 183, TRUNK_SDP, tag);
    }
    lab.inbox.clear();
    lab.restart(AWAY);
    let again = lab.take(T1, "INVITE");
    assert_eq!(again.via().and_then(|v| v.branch()), invite.via().and_then(|v| v.branch()));
    let cancel = lab.take(T1, "CANCEL");
    lab.reply(T1, &cancel, 200, "");
    // Both were picked up before that came.
    for tag in ["one", "two"] {
        lab.inbox.clear();
        lab.reply_as(T1, &invite, 200, TRUNK_SDP, tag);
        lab.take(T1, "ACK");
        let bye = lab.take(T1, "BYE");
        assert!(Lab::header(&bye, HeaderName::To).contains(&format!("tag={tag}")));
        lab.reply(T1, &bye, 200, "");
    }
    comes_back(&mut lab);
    lab.take(BACK, "503");
    assert_eq!(lab.ended().iter().map(|r| r.code).collect::<Vec<_>>(), [Code::RESTARTED]);
    lab.expect_idle();
}
