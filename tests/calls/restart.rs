//! A gateway that is killed and started again: an answered call continues and no peer gets a
//! message, any other is ended for everybody in it.

use crate::lab::*;
use std::collections::BTreeMap;
use std::time::Duration;
use webtrunk::call::CallId;
use webtrunk::cdr::Blame;
use webtrunk::errors::Code;
use webtrunk::event::Event;
use webtrunk::sip::Message;
use webtrunk::sip::transaction::Flow;

pub(crate) const AWAY: Duration = Duration::from_millis(400);
/// Alice, by the WebSocket she comes back with.
pub(crate) const BACK: Peer = Peer::Browser("alice", 7);

pub(crate) fn comes_back(lab: &mut Lab) {
    lab.log_in(BACK, "secret-a", "uuid-a");
}

/// The process is killed before what it put last is on disk: the next one finds these calls, and
/// nobody has heard anything of it. Returns the sessions that media continues with.
pub(crate) fn restarts_with(lab: &mut Lab, calls: BTreeMap<CallId, Vec<u8>>) -> Vec<u64> {
    lab.flush();
    lab.kept = calls;
    (lab.notes, lab.ends) = (Vec::new(), Vec::new());
    lab.inbox.clear();
    lab.start_from_disk(AWAY, Ok(()))
}

#[test]
fn a_call_is_the_same_after_a_restart() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.advance(Duration::from_secs(10));
    let before = lab.on_disk();
    assert_eq!(before.len(), 1);
    assert!(before[0].is_settled());
    // Signalling is the smaller part of what is kept: at most 2 kB in all.
    let length = lab.kept.values().map(Vec::len).sum::<usize>();
    assert!(length < 1_300, "{length} bytes");
    lab.start_again(Duration::ZERO, Ok(()));
    assert_eq!(lab.on_disk(), before);
}

#[test]
fn an_answered_call_continues_after_a_restart_without_a_message_to_the_trunk() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.plays("10.0s");
    lab.inbox.clear();
    lab.restart(AWAY);
    lab.plays("13.4s");
    assert!(lab.inbox.is_empty(), "{}", lab.picture());
    let lines: Vec<String> = lab.notes.iter().map(ToString::to_string).collect();
    assert!(lines.contains(&"gateway restarted; 0.4 s without media".to_owned()), "{lines:?}");
    comes_back(&mut lab);
    lab.plays(
        "13.4s alice-7 ← OPTIONS
         13.4s alice-7 → 200 OPTIONS
         13.4s t1 hangs up on alice-7",
    );
    let records = lab.ended();
    let [record] = &*records else { panic!("one call is one record: {records:?}") };
    assert_eq!(record.interruptions.iter().map(|i| i.gap).collect::<Vec<_>>(), [AWAY]);
    let talked = record.end.zip(record.answered).map(|(end, answered)| end - answered);
    assert_eq!(talked, Some(Duration::from_millis(13_400)), "{record:?}");
    let verdict = record.verdict.as_ref().expect("a verdict");
    assert_eq!((verdict.code, verdict.side), (Code::FINE, Blame::Nobody));
    lab.flush();
    assert!(lab.kept.is_empty());
    lab.expect_idle();
}

#[test]
fn a_browser_that_does_not_come_back_loses_its_call_after_the_grace_time() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.inbox.clear();
    lab.restart(AWAY);
    // Its media continues, so the call waits for it for `sip.flow_grace_media`.
    lab.plays("290.4s");
    assert!(lab.ended().is_empty());
    lab.plays(
        "300.4s t1 ← BYE
         300.9s t1 ← BYE
         301.9s t1 ← BYE
         303.9s t1 ← BYE
         307.9s t1 ← BYE
         310.4s t1 → 200 BYE",
    );
    assert_eq!(lab.ended()[0].code, Code::FLOW_LOST);
    lab.expect_idle();
}

#[test]
fn a_browser_may_send_in_its_dialog_over_a_new_flow_after_a_restart() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.inbox.clear();
    lab.restart(AWAY);
    comes_back(&mut lab);
    lab.plays(
        "0.4s alice-7 ← OPTIONS
         0.4s alice-7 hangs up on t1",
    );
    lab.expect_idle();
}

#[test]
fn a_call_that_rang_a_trunk_is_cancelled_there_after_a_restart() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 rings alice",
    );
    let invite = lab.last(T1, "INVITE");
    lab.inbox.clear();
    lab.restart(AWAY);
    lab.plays(
        "0.4s t1 ← INVITE sdp
         0.4s t1 ← CANCEL
         0.4s t1 → 200 CANCEL
         0.4s t1 → 487 INVITE
         0.4s t1 ← ACK",
    );
    let cancel = lab.last(T1, "CANCEL");
    assert_eq!(cancel.via().and_then(|v| v.branch()), invite.via().and_then(|v| v.branch()));
    assert_eq!(lab.ended().iter().map(|r| r.code).collect::<Vec<_>>(), [Code::RESTARTED]);
    lab.expect_idle();
}

#[test]
fn a_trunk_that_answered_while_nobody_listened_is_hung_up() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 rings alice",
    );
    lab.restart(AWAY);
    lab.plays(
        "0.4s t1 ← INVITE sdp
         0.4s t1 ← CANCEL
         0.4s t1 → 200 INVITE sdp
         0.4s t1 ← ACK
         0.4s t1 ← BYE
         0.4s t1 → 200 BYE",
    );
    lab.expect_idle();
}

#[test]
fn a_call_that_rang_a_browser_is_refused_to_its_trunk_after_a_restart() {
    let mut lab = Lab::with_phones();
    let invite = lab.invite(T1, "+12065550111", TRUNK_SDP);
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice rings t1",
    );
    lab.inbox.clear();
    lab.restart(AWAY);
    lab.plays("0.4s t1 ← 503 INVITE");
    let refused = lab.last(T1, "503 INVITE");
    let acknowledgement = lab.in_dialog(T1, &refused, "ACK", 0, "", "");
    let via =
        |m: &str| m.split("branch=").nth(1).and_then(|b| b.split("\r\n").next().map(str::to_owned));
    let (own, of_invite) = (via(&acknowledgement), via(&invite));
    let acknowledgement = acknowledgement.replace(&own.expect("a Via"), &of_invite.expect("a Via"));
    lab.says(T1, &acknowledgement);
    comes_back(&mut lab);
    lab.plays(
        "0.4s t1 → ACK
         0.4s alice-7 ← CANCEL
         0.4s alice-7 → 200 CANCEL
         0.4s alice-7 → 487 INVITE
         0.4s alice-7 ← ACK",
    );
    let records = lab.ended();
    assert_eq!(records.iter().map(|r| r.code).collect::<Vec<_>>(), [Code::RESTARTED]);
    let side = records[0].verdict.as_ref().map(|v| v.side);
    assert_eq!(side, Some(Blame::Gateway), "no party is to blame");
    assert!(!lab.notes.iter().any(|n| matches!(n, Event::CallInterrupted { .. })));
    lab.expect_idle();
}

/// A restart while t1 rings for alice, which it stops: her INVITE.
fn restarted_while_alice_calls() -> (Lab, String) {
    let mut lab = Lab::with_phones();
    let invite = lab.invite(ALICE, "+12065550123", OFFER);
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 rings alice",
    );
    lab.inbox.clear();
    lab.restart(AWAY);
    lab.plays(
        "0.4s t1 ← INVITE sdp
         0.4s t1 ← CANCEL
         0.4s t1 → 200 CANCEL
         0.4s t1 → 487 INVITE
         0.4s t1 ← ACK",
    );
    (lab, invite)
}

/// It may not know yet that its connection was lost, or wait for an answer all the same.
#[test]
fn a_browser_that_called_hears_of_the_restart_when_it_is_back() {
    let (mut lab, invite) = restarted_while_alice_calls();
    comes_back(&mut lab);
    lab.plays("0.4s alice-7 ← 503 INVITE");
    let refused = lab.last(BACK, "503 INVITE");
    let branch = refused.via().and_then(|via| via.branch()).expect("a Via").to_owned();
    assert!(invite.contains(&branch), "{branch}");
    lab.expect_idle();
}

/// A client that begins with the same numbers each time is another one's echo to us.
#[test]
fn an_invite_that_an_earlier_process_had_is_answered_where_it_comes_again() {
    let (mut lab, invite) = restarted_while_alice_calls();
    // Another phone of hers, by its instance.
    lab.log_in(BACK, "secret-a", "uuid-z");
    assert!(!lab.got(BACK, "503"), "{}", lab.picture());
    lab.says(BACK, &invite);
    lab.take(BACK, "503");
    lab.expect_idle();
}

#[test]
fn an_invite_whose_call_is_over_without_a_word_begins_another() {
    let mut lab = Lab::with_phones();
    let invite = lab.invite(ALICE, "+12065550123", OFFER);
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 → 200 INVITE sdp
         0.0s t1 ← ACK
         0.0s alice ← 200 INVITE sdp     // never acknowledged",
    );
    let at_trunk = lab.last(T1, "INVITE");
    lab.start_again(AWAY, Err("its media port is taken".into()));
    lab.log_in(BACK, "secret-a", "uuid-z");
    lab.says(BACK, &invite);
    lab.plays(
        "0.4s t1 ← BYE
         0.4s alice-7 calls +12065550123 at t1
         0.4s t1 → 200 BYE
         0.4s t1 refuses alice-7 with 486
         0.4s alice-7 → ACK",
    );
    assert_ne!(lab.last(T1, "INVITE").call_id(), at_trunk.call_id());
    lab.expect_idle();
}

#[test]
fn a_call_whose_media_cannot_continue_is_hung_up_on_both_sides() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s t1 → INVITE 9196 sdp
         0.0s t1 ← 404 INVITE",
    );
    lab.talk("+12065550123");
    lab.inbox.clear();
    lab.start_again(AWAY, Err("its media port is taken".into()));
    lab.plays(
        "0.4s t1 ← BYE
         0.4s t1 → 200 BYE",
    );
    assert!(lab.ended().iter().all(|r| r.code == Code::RESTARTED));
    lab.expect_idle();
}

/// bob, by the WebSocket he comes back with.
const BOB_BACK: Peer = Peer::Browser("bob", 8);

/// A browser that is back is asked whether it still knows its call.
pub(crate) fn knows_its_call(lab: &mut Lab, peer: Peer) {
    let probe = lab.take(peer, "OPTIONS");
    lab.reply(peer, &probe, 200, "");
}

#[test]
fn a_200_that_was_never_acknowledged_is_retransmitted_and_its_ack_is_accepted() {
    let mut lab = Lab::with_phones();
    let invite = lab.invite(T1, "+12065550111", TRUNK_SDP);
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice → 200 INVITE sdp recvonly
         0.0s alice ← ACK
         0.0s t1 ← 200 INVITE sdp",
    );
    let first = lab.last(T1, "200 INVITE");
    lab.restart(AWAY);
    // Its INVITE crossed that: it is no other call.
    lab.says(T1, &invite);
    lab.plays(
        "0.4s t1 ← 200 INVITE sdp
         0.4s t1 → INVITE +12065550111 sdp
         0.9s t1 ← 200 INVITE sdp
         1.0s t1 → ACK",
    );
    assert_eq!(lab.last(T1, "200 INVITE").to_bytes(), first.to_bytes());
    comes_back(&mut lab);
    lab.plays(
        "1.0s alice-7 ← OPTIONS
         1.0s alice-7 → 200 OPTIONS
         41.0s t1 hangs up on alice-7",
    );
    lab.expect_idle();
}

#[test]
fn a_200_that_is_never_acknowledged_ends_the_call_after_a_restart_too() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice → 200 INVITE sdp recvonly
         0.0s alice ← ACK
         0.0s t1 ← 200 INVITE sdp",
    );
    lab.restart(AWAY);
    comes_back(&mut lab);
    knows_its_call(&mut lab, BACK);
    lab.plays(
        "0.4s t1 ← 200 INVITE sdp
         0.4s alice-7 ← OPTIONS
         0.4s alice-7 → 200 OPTIONS
         0.9s t1 ← 200 INVITE sdp
         1.9s t1 ← 200 INVITE sdp
         3.9s t1 ← 200 INVITE sdp
         7.9s t1 ← 200 INVITE sdp
         11.9s t1 ← 200 INVITE sdp
         15.9s t1 ← 200 INVITE sdp
         19.9s t1 ← 200 INVITE sdp
         23.9s t1 ← 200 INVITE sdp
         27.9s t1 ← 200 INVITE sdp
         31.9s t1 ← 200 INVITE sdp
         32.4s t1 ← BYE
         32.4s alice-7 ← BYE
         32.9s t1 ← BYE
         33.4s",
    );
    for peer in [T1, BACK] {
        let bye = lab.take(peer, "BYE");
        lab.reply(peer, &bye, 200, "");
    }
    assert_eq!(lab.ended()[0].code, Code::NO_ACK);
    lab.plays(
        "33.4s t1 → 200 BYE
         33.4s alice-7 → 200 BYE",
    );
    lab.expect_idle();
}

/// alice joins t1 with bob and leaves: two calls that are one. The INVITE t1 got, and bob's.
fn joined(lab: &mut Lab) -> (Message, Message) {
    let (ok1, invite1) = lab.talk("+12065550123");
    lab.invite(ALICE, "200", OFFER);
    let invite2 = lab.take(BOB, "INVITE");
    lab.reply(BOB, &invite2, 200, ANSWER);
    let ok2 = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok2);
    lab.take(BOB, "ACK");
    let (to, from) = (ok2.to().expect("a To"), ok2.from().expect("a From"));
    let tag =
        |header: &webtrunk::sip::header::NameAddr<'_>| header.tag().expect("a tag").to_owned();
    let (to, from) = (tag(&to), tag(&from));
    let replaces = format!("{}%3Bto-tag%3D{to}%3Bfrom-tag%3D{from}", ok2.call_id());
    let refer_to = format!("Refer-To: <sip:200@wt.test?Replaces={replaces}>\r\n");
    let refer = lab.in_dialog_with(ALICE, &ok1, "REFER", 90, &refer_to, "");
    lab.says(ALICE, &refer);
    let notify = lab.take(ALICE, "NOTIFY");
    lab.reply(ALICE, &notify, 200, "");
    let bye = lab.take(ALICE, "BYE");
    lab.reply(ALICE, &bye, 200, "");
    let bye = lab.in_dialog(ALICE, &ok1, "BYE", 91, "", "");
    lab.says(ALICE, &bye);
    lab.advance(Duration::from_secs(1));
    lab.inbox.clear();
    (invite1, invite2)
}

#[test]
fn two_joined_calls_continue_and_end_together() {
    let mut lab = Lab::with_phones();
    let (_invite1, _) = joined(&mut lab);
    assert!(lab.on_disk().iter().all(|call| call.is_settled()));
    lab.restart(AWAY);
    lab.plays(
        "0.0s alice calls 200 at bob
         0.0s bob answers alice
         0.0s alice → REFER 200
         0.0s alice ← 202 REFER
         0.0s alice ← BYE
         0.0s alice ← NOTIFY 200
         0.0s alice → 200 NOTIFY
         0.0s alice → 200 BYE
         0.0s alice → BYE
         0.0s alice ← 200 BYE
         4.4s",
    );
    assert!(lab.inbox.is_empty(), "{}", lab.picture());
    lab.log_in(BOB_BACK, "secret-b", "uuid-b");
    knows_its_call(&mut lab, BOB_BACK);
    lab.plays(
        "4.4s bob-8 ← OPTIONS
         4.4s bob-8 → 200 OPTIONS
         4.4s t1 hangs up on bob-8",
    );
    assert_eq!(lab.ended().len(), 2);
    lab.expect_idle();
}

#[test]
fn half_of_two_joined_calls_does_not_continue_alone() {
    let mut lab = Lab::with_phones();
    let (_, invite2) = joined(&mut lab);
    lab.flush();
    // What bob is in was lost.
    let name = lab.kept.iter().find_map(|(name, bytes)| {
        let id = invite2.call_id().as_bytes();
        bytes.windows(id.len()).any(|w| w == id).then_some(*name)
    });
    lab.kept.remove(&name.expect("a checkpoint"));
    lab.restart(AWAY);
    lab.plays(
        "0.0s alice calls 200 at bob
         0.0s bob answers alice
         0.0s alice → REFER 200
         0.0s alice ← 202 REFER
         0.0s alice ← BYE
         0.0s alice ← NOTIFY 200
         0.0s alice → 200 NOTIFY
         0.0s alice → 200 BYE
         0.0s alice → BYE
         0.0s alice ← 200 BYE
         1.4s t1 ← BYE
         1.4s t1 → 200 BYE",
    );
    assert_eq!(lab.ended()[0].code, Code::RESTARTED);
    lab.plays("41.4s");
    assert_eq!(lab.gateway.gauges().calls, 0);
}

#[test]
fn a_call_that_was_being_transferred_is_restored() {
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    let refer_to = "Refer-To: <sip:+12065550177@wt.test>\r\n";
    let refer = lab.in_dialog_with(ALICE, &ok, "REFER", 90, refer_to, "");
    lab.says(ALICE, &refer);
    lab.plays(
        "0.0s alice transfers to +12065550177 at t1
         0.0s alice → 200 NOTIFY
         0.0s t1 → 180 INVITE
         0.0s alice ← NOTIFY 180",
    );
    let rings = lab.last(T1, "INVITE");
    lab.inbox.clear();
    lab.media.clear();
    // Media already has this.
    lab.restart(AWAY);
    lab.plays(
        "0.4s t1 ← INVITE sdp
         0.4s t1 ← CANCEL
         0.4s t1 → 180 INVITE
         0.4s t1 → 200 CANCEL
         0.4s t1 → 487 INVITE
         0.4s t1 ← ACK",
    );
    let cancel = lab.last(T1, "CANCEL");
    assert_eq!(cancel.call_id(), rings.call_id());
    comes_back(&mut lab);
    knows_its_call(&mut lab, BACK);
    lab.plays(
        "0.4s alice-7 ← OPTIONS
         0.4s alice-7 → 200 OPTIONS
         10.4s",
    );
    assert!(!lab.got(T1, "BYE") && !lab.got(BACK, "BYE"), "{}", lab.picture());
    assert_eq!(lab.gateway.gauges().calls, 1);
    lab.plays("10.4s t1 hangs up on alice-7");
    lab.expect_idle();
}

#[test]
fn a_restart_during_a_transfer_while_ringing_restores_the_call_and_ends_the_ringing() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice",
    );
    let ok = lab.last(ALICE, "200 INVITE");
    lab.plays(
        "0.0s alice calls +12065550177 at t1
         0.0s t1 rings alice",
    );
    let rings = lab.last(T1, "INVITE");
    let heard = lab.last(ALICE, "180 INVITE");
    let to = heard.to().expect("a To").tag().expect("a tag").to_owned();
    let from = heard.from().expect("a From").tag().expect("a tag").to_owned();
    let replaces = format!("{}%3Bto-tag%3D{to}%3Bfrom-tag%3D{from}", heard.call_id());
    let refer_to = format!("Refer-To: <sip:+12065550177@wt.test?Replaces={replaces}>\r\n");
    let refer = lab.in_dialog_with(ALICE, &ok, "REFER", 90, &refer_to, "");
    lab.says(ALICE, &refer);
    lab.plays(
        "0.0s alice → REFER +12065550177
         0.0s alice ← 202 REFER
         0.0s alice ← 487 INVITE
         0.0s alice ← NOTIFY 180
         0.0s alice → 200 NOTIFY",
    );
    assert_eq!(lab.on_disk().iter().filter(|call| call.is_settled()).count(), 1);
    lab.restart(AWAY);
    comes_back(&mut lab);
    lab.plays(
        "0.4s t1 ← INVITE sdp
         0.4s t1 ← CANCEL
         0.4s alice-7 ← OPTIONS
         0.4s t1 → 200 CANCEL
         0.4s t1 → 487 INVITE
         0.4s t1 ← ACK
         0.4s alice-7 → 200 OPTIONS
         10.4s",
    );
    assert_eq!(lab.last(T1, "CANCEL").call_id(), rings.call_id());
    assert_eq!(lab.gateway.gauges().calls, 1);
    lab.handle(webtrunk::gateway::Input::HangUpAll);
    lab.expect_idle();
}

#[test]
fn a_transferor_that_stays_is_released_after_a_restart() {
    let mut lab = Lab::with_phones();
    let invite = lab.invite(T1, "+12065550111", TRUNK_SDP);
    assert!(!invite.is_empty());
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice answers t1",
    );
    let ringing = lab.last(ALICE, "INVITE");
    let refer_to = "Refer-To: <sip:201@wt.test>\r\n";
    let refer = lab.in_dialog_with(ALICE, &ringing, "REFER", 5, refer_to, "");
    lab.says(ALICE, &refer);
    lab.plays(
        "0.0s alice transfers to 201 at bob
         0.0s bob → 200 INVITE sdp recvonly
         0.0s bob ← ACK",
    );
    lab.inbox.clear();
    lab.restart(AWAY);
    comes_back(&mut lab);
    lab.log_in(BOB_BACK, "secret-b", "uuid-b");
    lab.plays(
        "0.4s alice-7 ← OPTIONS
         0.4s bob-8 ← OPTIONS
         5.4s alice-7 ← BYE
         6.4s alice-7 → 200 BYE",
    );
    assert!(!lab.got(T1, "BYE") && !lab.got(BOB_BACK, "BYE"), "{}", lab.picture());
    lab.plays("6.4s t1 hangs up on bob-8");
    lab.expect_idle();
}

#[test]
fn a_request_that_came_while_calls_were_handed_over_is_done() {
    use webtrunk::gateway::restore::{LateRequest, LateSender};
    for by in [ALICE, T1] {
        let mut lab = Lab::with_phones();
        let (ok, invite) = lab.talk("+12065550123");
        lab.advance(Duration::from_secs(3));
        lab.inbox.clear();
        let (seen, from) = match by {
            Peer::Browser(name, _) => (ok, LateSender::User(name.into())),
            Peer::Trunk(..) => (invite, LateSender::Tcp(by.remote())),
        };
        let bytes = lab.in_dialog(by, &seen, "BYE", 900, "peer", "").into_bytes();
        lab.restart(Duration::from_millis(20));
        let mut out = Vec::new();
        let late = LateRequest { from, remote: by.remote(), bytes };
        lab.gateway.hear_late(lab.now, (Flow(99), late), &mut out);
        lab.perform(out);
        let records = lab.ended();
        let verdicts: Vec<Code> = records.iter().map(|r| r.code).collect();
        assert_eq!(verdicts, [Code::FINE], "{by:?}: {}", lab.picture());
        if by == ALICE {
            let bye = lab.take(T1, "BYE");
            lab.reply(T1, &bye, 200, "");
        }
        lab.expect_idle();
    }
}
