//! A gateway that is killed and started again: a call that was answered goes on and nobody is told,
//! any other is ended for everybody in it.

use crate::lab::*;
use std::time::Duration;
use webtrunk::cdr::Blame;
use webtrunk::errors::Code;
use webtrunk::event::Event;
use webtrunk::sip::Message;

const AWAY: Duration = Duration::from_millis(400);
/// Alice, by the WebSocket she comes back with.
const BACK: Peer = Peer::Browser("alice", 7);

fn comes_back(lab: &mut Lab) {
    lab.log_in(BACK, "secret-a", "uuid-a");
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
fn an_answered_call_goes_on_after_a_restart_and_the_trunk_is_told_nothing() {
    let mut lab = Lab::with_phones();
    let (_, invite) = lab.talk("+12065550123");
    lab.advance(Duration::from_secs(10));
    lab.inbox.clear();
    lab.restart(AWAY);
    lab.advance(Duration::from_secs(3));
    assert!(lab.inbox.is_empty(), "{}", lab.picture());
    let lines: Vec<String> = lab.notes.iter().map(ToString::to_string).collect();
    assert!(lines.contains(&"gateway restarted; 0.4 s without media".to_owned()), "{lines:?}");
    comes_back(&mut lab);
    let probe = lab.take(BACK, "OPTIONS");
    lab.reply(BACK, &probe, 200, "");
    let bye = lab.in_dialog(T1, &invite, "BYE", 900, "peer", "");
    lab.says(T1, &bye);
    lab.take(T1, "200");
    let bye = lab.take(BACK, "BYE");
    lab.reply(BACK, &bye, 200, "");
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
    // Its media goes on, so it is waited for as long as `sip.flow_grace_media` says.
    lab.advance(Duration::from_secs(290));
    assert!(lab.ended().is_empty());
    lab.advance(Duration::from_secs(20));
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 200, "");
    assert_eq!(lab.ended()[0].code, Code::FLOW_LOST);
    lab.expect_idle();
}

#[test]
fn a_browser_may_speak_in_its_dialog_by_a_new_flow_after_a_restart() {
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    lab.inbox.clear();
    lab.restart(AWAY);
    comes_back(&mut lab);
    let bye = lab.in_dialog(BACK, &ok, "BYE", 900, "", "");
    lab.says(BACK, &bye);
    lab.take(BACK, "200");
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 200, "");
    lab.expect_idle();
}

#[test]
fn a_call_that_rang_a_trunk_is_cancelled_there_after_a_restart() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 180, "");
    lab.inbox.clear();
    lab.restart(AWAY);
    let cancel = lab.take(T1, "CANCEL");
    assert_eq!(cancel.via().and_then(|v| v.branch()), invite.via().and_then(|v| v.branch()));
    lab.reply(T1, &cancel, 200, "");
    lab.reply(T1, &invite, 487, "");
    lab.take(T1, "ACK");
    assert_eq!(lab.ended().iter().map(|r| r.code).collect::<Vec<_>>(), [Code::RESTARTED]);
    lab.expect_idle();
}

#[test]
fn a_trunk_that_answered_while_nobody_listened_is_hung_up() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 180, "");
    lab.restart(AWAY);
    lab.reply(T1, &invite, 200, TRUNK_SDP);
    lab.take(T1, "ACK");
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 200, "");
    lab.expect_idle();
}

#[test]
fn a_call_that_rang_a_browser_is_refused_to_its_trunk_after_a_restart() {
    let mut lab = Lab::with_phones();
    let invite = lab.invite(T1, "+12065550111", TRUNK_SDP);
    let ringing = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &ringing, 180, "");
    lab.inbox.clear();
    lab.restart(AWAY);
    let refused = lab.take(T1, "503");
    let acknowledgement = lab.in_dialog(T1, &refused, "ACK", 0, "", "");
    let via =
        |m: &str| m.split("branch=").nth(1).and_then(|b| b.split("\r\n").next().map(str::to_owned));
    let (own, of_invite) = (via(&acknowledgement), via(&invite));
    let acknowledgement = acknowledgement.replace(&own.expect("a Via"), &of_invite.expect("a Via"));
    lab.says(T1, &acknowledgement);
    comes_back(&mut lab);
    let cancel = lab.take(BACK, "CANCEL");
    lab.reply(BACK, &cancel, 200, "");
    lab.reply(BACK, &ringing, 487, "");
    let records = lab.ended();
    assert_eq!(records.iter().map(|r| r.code).collect::<Vec<_>>(), [Code::RESTARTED]);
    let side = records[0].verdict.as_ref().map(|v| v.side);
    assert_eq!(side, Some(Blame::Gateway), "no party is to blame");
    assert!(!lab.notes.iter().any(|n| matches!(n, Event::CallInterrupted { .. })));
    lab.expect_idle();
}

#[test]
fn a_call_whose_media_cannot_go_on_is_hung_up_on_both_sides() {
    let mut lab = Lab::with_phones();
    lab.invite(T1, "9196", TRUNK_SDP);
    lab.talk("+12065550123");
    lab.inbox.clear();
    lab.start_again(AWAY, Err("its media port is taken".into()));
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 200, "");
    assert!(lab.ended().iter().all(|r| r.code == Code::RESTARTED));
    lab.expect_idle();
}

/// bob, by the WebSocket he comes back with.
const BOB_BACK: Peer = Peer::Browser("bob", 8);

/// A browser that is back is asked whether it still knows its call.
fn knows_its_call(lab: &mut Lab, peer: Peer) {
    let probe = lab.take(peer, "OPTIONS");
    lab.reply(peer, &probe, 200, "");
}

#[test]
fn a_200_whose_ack_had_not_come_is_said_again_and_its_ack_is_taken() {
    let mut lab = Lab::with_phones();
    let invite = lab.invite(T1, "+12065550111", TRUNK_SDP);
    let ringing = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &ringing, 200, ANSWER);
    lab.take(ALICE, "ACK");
    let first = lab.take(T1, "200");
    lab.inbox.clear();
    lab.restart(AWAY);
    let again = lab.take(T1, "200");
    assert_eq!(again.to_bytes(), first.to_bytes());
    // Its INVITE crossed that: it is no other call.
    lab.says(T1, &invite);
    lab.advance(Duration::from_millis(600));
    assert!(lab.got(T1, "200") && lab.inbox.iter().all(|(_, m)| m.status() == 200));
    lab.ack(T1, &again);
    comes_back(&mut lab);
    knows_its_call(&mut lab, BACK);
    lab.inbox.clear();
    lab.advance(Duration::from_secs(40));
    assert!(lab.inbox.is_empty(), "{}", lab.picture());
    let bye = lab.in_dialog(T1, &again, "BYE", 900, "", "");
    lab.says(T1, &bye);
    let bye = lab.take(BACK, "BYE");
    lab.reply(BACK, &bye, 200, "");
    lab.expect_idle();
}

#[test]
fn a_200_that_is_never_acknowledged_ends_the_call_after_a_restart_too() {
    let mut lab = Lab::with_phones();
    lab.invite(T1, "+12065550111", TRUNK_SDP);
    let ringing = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &ringing, 200, ANSWER);
    lab.restart(AWAY);
    comes_back(&mut lab);
    knows_its_call(&mut lab, BACK);
    lab.advance(Duration::from_secs(33));
    for peer in [T1, BACK] {
        let bye = lab.take(peer, "BYE");
        lab.reply(peer, &bye, 200, "");
    }
    assert_eq!(lab.ended()[0].code, Code::NO_ACK);
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
fn two_calls_that_were_joined_go_on_and_end_together() {
    let mut lab = Lab::with_phones();
    let (invite1, _) = joined(&mut lab);
    assert!(lab.on_disk().iter().all(|call| call.is_settled()));
    lab.restart(AWAY);
    lab.advance(Duration::from_secs(3));
    assert!(lab.inbox.is_empty(), "{}", lab.picture());
    lab.log_in(BOB_BACK, "secret-b", "uuid-b");
    knows_its_call(&mut lab, BOB_BACK);
    let bye = lab.in_dialog(T1, &invite1, "BYE", 900, "peer", "");
    lab.says(T1, &bye);
    let bye = lab.take(BOB_BACK, "BYE");
    lab.reply(BOB_BACK, &bye, 200, "");
    assert_eq!(lab.ended().len(), 2);
    lab.expect_idle();
}

#[test]
fn half_of_two_joined_calls_does_not_go_on_alone() {
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
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 200, "");
    assert_eq!(lab.ended()[0].code, Code::RESTARTED);
    lab.advance(Duration::from_secs(40));
    assert_eq!(lab.gateway.gauges().calls, 0);
}

#[test]
fn a_call_that_was_being_handed_over_is_what_it_was_before() {
    let mut lab = Lab::with_phones();
    let (ok, first) = lab.talk("+12065550123");
    let refer_to = "Refer-To: <sip:+12065550177@wt.test>\r\n";
    let refer = lab.in_dialog_with(ALICE, &ok, "REFER", 90, refer_to, "");
    lab.says(ALICE, &refer);
    let notify = lab.take(ALICE, "NOTIFY");
    lab.reply(ALICE, &notify, 200, "");
    let rings = lab.take(T1, "INVITE");
    lab.reply(T1, &rings, 180, "");
    lab.inbox.clear();
    lab.media.clear();
    // What media knows was told before.
    lab.restart(AWAY);
    lab.take(T1, "INVITE");
    lab.reply(T1, &rings, 180, "");
    let cancel = lab.take(T1, "CANCEL");
    assert_eq!(cancel.call_id(), rings.call_id());
    lab.reply(T1, &cancel, 200, "");
    lab.reply(T1, &rings, 487, "");
    comes_back(&mut lab);
    knows_its_call(&mut lab, BACK);
    lab.advance(Duration::from_secs(10));
    assert!(!lab.got(T1, "BYE") && !lab.got(BACK, "BYE"), "{}", lab.picture());
    assert_eq!(lab.gateway.gauges().calls, 1);
    let bye = lab.in_dialog(T1, &first, "BYE", 900, "peer", "");
    lab.says(T1, &bye);
    let bye = lab.take(BACK, "BYE");
    lab.reply(BACK, &bye, 200, "");
    lab.expect_idle();
}

#[test]
fn who_has_handed_a_call_over_and_stays_is_helped_off_after_a_restart() {
    let mut lab = Lab::with_phones();
    let invite = lab.invite(T1, "+12065550111", TRUNK_SDP);
    assert!(!invite.is_empty());
    let ringing = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &ringing, 200, ANSWER);
    let ok = lab.take(T1, "200");
    lab.ack(T1, &ok);
    let refer_to = "Refer-To: <sip:201@wt.test>\r\n";
    let refer = lab.in_dialog_with(ALICE, &ringing, "REFER", 5, refer_to, "");
    lab.says(ALICE, &refer);
    let rings = lab.take(BOB, "INVITE");
    lab.reply(BOB, &rings, 200, ANSWER);
    lab.take(BOB, "ACK");
    lab.inbox.clear();
    lab.restart(AWAY);
    comes_back(&mut lab);
    lab.log_in(BOB_BACK, "secret-b", "uuid-b");
    lab.advance(Duration::from_secs(6));
    let bye = lab.take(BACK, "BYE");
    lab.reply(BACK, &bye, 200, "");
    assert!(!lab.got(T1, "BYE") && !lab.got(BOB_BACK, "BYE"), "{}", lab.picture());
    let bye = lab.in_dialog(T1, &ok, "BYE", 900, "", "");
    lab.says(T1, &bye);
    let bye = lab.take(BOB_BACK, "BYE");
    lab.reply(BOB_BACK, &bye, 200, "");
    lab.expect_idle();
}

#[test]
fn a_request_that_came_while_calls_were_handed_over_is_done() {
    use webtrunk::gateway::restore::{LateRequest, LateSender};
    use webtrunk::sip::transaction::Flow;
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
