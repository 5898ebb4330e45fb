//! A gateway that is killed and started again: a call that was answered goes on and nobody is told,
//! any other is ended for everybody in it.

use crate::lab::*;
use std::time::Duration;
use webtrunk::cdr::Blame;
use webtrunk::errors::Code;
use webtrunk::event::Event;

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
