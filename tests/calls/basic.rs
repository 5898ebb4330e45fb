//! Calls that work, and the ways they end.

use crate::lab::*;
use std::time::Duration;
use webtrunk::call::HangupBy;

#[test]
fn a_browser_calls_a_trunk_and_hangs_up() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 180, "");
    lab.reply(T1, &invite, 200, TRUNK_SDP);
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    lab.advance(Duration::from_secs(10));
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 90, "", "");
    lab.says(ALICE, &bye);
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 200, "");
    lab.ladder(
        "0.0s alice → INVITE sdp
         0.0s alice ← 100 INVITE
         0.0s t1 ← INVITE sdp
         0.0s t1 → 180 INVITE
         0.0s alice ← 180 INVITE
         0.0s t1 → 200 INVITE sdp
         0.0s t1 ← ACK
         0.0s alice ← 200 INVITE sdp
         0.0s alice → ACK
         10.0s alice → BYE
         10.0s alice ← 200 BYE
         10.0s t1 ← BYE
         10.0s t1 → 200 BYE",
    );
    let cdr = lab.ended()[0];
    assert_eq!((cdr.by, cdr.status, cdr.outcome()), (Some(HangupBy::Caller), 200, "success"));
    assert_eq!(cdr.end.unwrap() - cdr.answered.unwrap(), Duration::from_secs(10));
    lab.expect_idle();
}

#[test]
fn the_trunk_hangs_up() {
    let mut lab = Lab::with_phones();
    let (_, invite) = lab.talk("+12065550123");
    let bye = lab.in_dialog(T1, &invite, "BYE", 2, "peer", "");
    lab.says(T1, &bye);
    lab.take(T1, "200 BYE");
    let bye = lab.take(ALICE, "BYE");
    assert!(bye.header(webtrunk::sip::HeaderName::Reason).is_some());
    lab.reply(ALICE, &bye, 200, "");
    assert_eq!(lab.ended()[0].by, Some(HangupBy::Callee));
    lab.expect_idle();
}

#[test]
fn busy_is_passed_on_and_acknowledged() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 486, "");
    lab.ladder(
        "0.0s alice → INVITE sdp
         0.0s alice ← 100 INVITE
         0.0s t1 ← INVITE sdp
         0.0s t1 → 486 INVITE
         0.0s t1 ← ACK
         0.0s alice ← 486 INVITE",
    );
    let busy = lab.take(ALICE, "486");
    assert!(busy.header(webtrunk::sip::HeaderName::Reason).unwrap().contains("trunk:t1 said 486"));
    lab.expect_idle();
}

#[test]
fn cancel_before_the_answer_reaches_the_trunk() {
    let mut lab = Lab::with_phones();
    let text = lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 180, "");
    lab.cancel(ALICE, &text);
    let cancel = lab.take(T1, "CANCEL");
    lab.reply(T1, &cancel, 200, "");
    lab.reply(T1, &invite, 487, "");
    lab.ladder(
        "0.0s alice → INVITE sdp
         0.0s alice ← 100 INVITE
         0.0s t1 ← INVITE sdp
         0.0s t1 → 180 INVITE
         0.0s alice ← 180 INVITE
         0.0s alice → CANCEL
         0.0s alice ← 200 CANCEL
         0.0s alice ← 487 INVITE
         0.0s t1 ← CANCEL
         0.0s t1 → 200 CANCEL
         0.0s t1 → 487 INVITE
         0.0s t1 ← ACK",
    );
    assert_eq!(
        invite.via().unwrap().branch(),
        cancel.via().unwrap().branch(),
        "CANCEL has the INVITE's branch"
    );
    lab.expect_idle();
}

#[test]
fn cancel_waits_for_the_first_provisional_response() {
    let mut lab = Lab::with_phones();
    let text = lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.cancel(ALICE, &text);
    assert!(!lab.got(T1, "CANCEL"), "RFC 3261 section 9.1");
    lab.reply(T1, &invite, 100, "");
    let cancel = lab.take(T1, "CANCEL");
    lab.reply(T1, &cancel, 200, "");
    lab.reply(T1, &invite, 487, "");
    lab.expect_idle();
}

#[test]
fn a_200_that_crosses_our_cancel_is_acknowledged_and_hung_up() {
    let mut lab = Lab::with_phones();
    let text = lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 180, "");
    lab.cancel(ALICE, &text);
    let cancel = lab.take(T1, "CANCEL");
    lab.reply(T1, &invite, 200, TRUNK_SDP);
    lab.take(T1, "ACK");
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 200, "");
    lab.reply(T1, &cancel, 200, "");
    assert_eq!(lab.ended()[0].status, 487);
    lab.expect_idle();
}

#[test]
fn a_second_fork_that_answers_too_is_acknowledged_and_hung_up() {
    let mut lab = Lab::with_phones();
    let (_, invite) = lab.talk("+12065550123");
    lab.reply_as(T1, &invite, 200, TRUNK_SDP, "other-fork");
    lab.take(T1, "ACK");
    let bye = lab.take(T1, "BYE");
    assert_eq!(bye.to().unwrap().tag(), Some("other-fork"));
    lab.reply(T1, &bye, 200, "");
    assert_eq!(lab.gateway.gauges().calls, 1, "the first fork talks on");
    let bye = lab.in_dialog(T1, &invite, "BYE", 2, "peer", "");
    lab.says(T1, &bye);
    lab.expect_idle();
}

#[test]
fn a_repeated_200_gets_its_ack_again_and_the_caller_hears_nothing_of_it() {
    let mut lab = Lab::with_phones();
    let (ok, invite) = lab.talk("+12065550123");
    lab.reply(T1, &invite, 200, TRUNK_SDP);
    lab.take(T1, "ACK");
    assert!(!lab.got(ALICE, "200"));
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 90, "", "");
    lab.says(ALICE, &bye);
    lab.expect_idle();
}

#[test]
fn a_200_that_is_never_acknowledged_is_repeated_and_ends_in_bye_to_both() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "9196", OFFER);
    lab.take(ALICE, "200");
    lab.advance(Duration::from_secs(31));
    let repeats = lab.inbox.iter().filter(|(h, m)| *h == ALICE.hop() && m.status() == 200).count();
    assert_eq!(repeats, 9, "0.5, 1.5, 3.5, 7.5, then every 4 s");
    lab.advance(Duration::from_secs(3));
    let bye = lab.take(ALICE, "BYE");
    lab.reply(ALICE, &bye, 200, "");
    assert!(lab.ended()[0].why.contains("no ACK"));
    lab.expect_idle();
}

#[test]
fn early_media_is_passed_before_the_answer_and_the_answer_repeats_its_sdp() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 183, TRUNK_SDP);
    let early = lab.take(ALICE, "183");
    lab.reply(T1, &invite, 200, TRUNK_SDP);
    let ok = lab.take(ALICE, "200");
    assert_eq!(early.body(), ok.body(), "one stable answer");
    lab.ack(ALICE, &ok);
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 90, "", "");
    lab.says(ALICE, &bye);
    lab.expect_idle();
}

#[test]
fn a_trunk_rings_every_flow_of_the_owner_and_the_first_answer_wins() {
    let mut lab = Lab::with_phones();
    let second = Peer::Browser("alice", 3);
    lab.log_in(second, "secret-a", "uuid-a2");
    lab.clear();
    lab.invite(T1, "+12065550111", TRUNK_SDP);
    let (one, two) = (lab.take(ALICE, "INVITE"), lab.take(second, "INVITE"));
    assert!(
        String::from_utf8_lossy(one.body()).contains("UDP/TLS/RTP/SAVPF"),
        "a browser is offered WebRTC"
    );
    lab.reply(ALICE, &one, 180, "");
    lab.reply(second, &two, 180, "");
    lab.reply(second, &two, 200, ANSWER);
    lab.take(second, "ACK");
    let cancel = lab.take(ALICE, "CANCEL");
    assert!(
        cancel.header(webtrunk::sip::HeaderName::Reason).unwrap().contains("cause=200"),
        "answered elsewhere"
    );
    lab.reply(ALICE, &cancel, 200, "");
    lab.reply(ALICE, &one, 487, "");
    let ok = lab.take(T1, "200");
    lab.ack(T1, &ok);
    let bye = lab.in_dialog(second, &two, "BYE", 5, "peer", "");
    lab.says(second, &bye);
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 200, "");
    lab.expect_idle();
}

#[test]
fn nobody_registered_goes_to_the_next_step() {
    let mut lab = Lab::with_phones();
    lab.handle(webtrunk::gateway::Input::FlowClosed { flow: webtrunk::sip::transaction::Flow(2) });
    lab.invite(ALICE, "200", OFFER);
    let invite = lab.take(T2, "INVITE");
    assert!(invite.request_uri().starts_with("sip:+4999@127.0.0.11"), "{}", invite.request_uri());
    lab.reply(T2, &invite, 404, "");
    lab.take(ALICE, "404");
    lab.expect_idle();
}

#[test]
fn an_unanswered_ring_is_cancelled_and_the_route_goes_on() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "200", OFFER);
    let ringing = lab.take(BOB, "INVITE");
    lab.reply(BOB, &ringing, 180, "");
    lab.advance(Duration::from_secs(10));
    let cancel = lab.take(BOB, "CANCEL");
    lab.reply(BOB, &cancel, 200, "");
    lab.reply(BOB, &ringing, 487, "");
    let invite = lab.take(T2, "INVITE");
    lab.reply(T2, &invite, 486, "");
    lab.take(ALICE, "486");
    lab.expect_idle();
}

#[test]
fn two_browsers_talk_and_a_bye_while_ringing_ends_the_call() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "201", OFFER);
    let invite = lab.take(BOB, "INVITE");
    lab.reply(BOB, &invite, 180, "");
    let ringing = lab.take(ALICE, "180");
    let bye = lab.in_dialog(ALICE, &ringing, "BYE", 99, "", "");
    lab.says(ALICE, &bye);
    lab.take(ALICE, "200 BYE");
    lab.take(ALICE, "487");
    let cancel = lab.take(BOB, "CANCEL");
    lab.reply(BOB, &cancel, 200, "");
    lab.reply(BOB, &invite, 487, "");
    lab.expect_idle();
}

#[test]
fn a_lost_websocket_does_not_end_the_call_and_the_same_browser_takes_it_up_again() {
    let mut lab = Lab::with_phones();
    let (_, invite) = lab.talk("+12065550123");
    lab.handle(webtrunk::gateway::Input::FlowClosed { flow: webtrunk::sip::transaction::Flow(1) });
    lab.advance(Duration::from_secs(5));
    assert_eq!(lab.gateway.gauges().calls, 1);
    let again = Peer::Browser("alice", 7);
    lab.log_in(again, "secret-a", "uuid-a");
    let probe = lab.take(again, "OPTIONS");
    lab.reply(again, &probe, 200, "");
    lab.advance(Duration::from_secs(60));
    assert_eq!(lab.gateway.gauges().calls, 1, "the grace timer was stopped");
    let bye = lab.in_dialog(T1, &invite, "BYE", 2, "peer", "");
    lab.says(T1, &bye);
    let bye = lab.take(again, "BYE");
    lab.reply(again, &bye, 200, "");
    lab.expect_idle();
}

#[test]
fn a_browser_back_before_its_old_flow_is_noticed_dead_keeps_its_call() {
    let mut lab = Lab::with_phones();
    let (_, invite) = lab.talk("+12065550123");
    let again = Peer::Browser("alice", 7);
    lab.log_in(again, "secret-a", "uuid-a");
    lab.take(ALICE, "OPTIONS");
    lab.advance(std::time::Duration::from_secs(2));
    let probe = lab.take(again, "OPTIONS");
    lab.reply(again, &probe, 200, "");
    assert_eq!(lab.closed_flows, [webtrunk::sip::transaction::Flow(1)]);
    lab.handle(webtrunk::gateway::Input::FlowClosed { flow: webtrunk::sip::transaction::Flow(1) });
    lab.advance(Duration::from_secs(60));
    assert_eq!(lab.gateway.gauges().calls, 1);
    let bye = lab.in_dialog(T1, &invite, "BYE", 2, "peer", "");
    lab.says(T1, &bye);
    let bye = lab.take(again, "BYE");
    lab.reply(again, &bye, 200, "");
    lab.expect_idle();
}

#[test]
fn a_browser_that_never_comes_back_loses_its_call_after_the_grace_time() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.handle(webtrunk::gateway::Input::FlowClosed { flow: webtrunk::sip::transaction::Flow(1) });
    lab.advance(Duration::from_secs(31));
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 200, "");
    lab.expect_idle();
}

#[test]
fn an_announcement_is_early_media_and_then_the_route_hangs_up() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "9198", OFFER);
    lab.take(ALICE, "183");
    let session = lab.media.iter().find_map(|c| {
        if let webtrunk::worker::WorkerCommand::Play { session, .. } = c {
            Some(*session)
        } else {
            None
        }
    });
    let end = webtrunk::call::CALLER_LEG;
    let played = webtrunk::worker::Notice::Media(webtrunk::media::SessionEvent::Played { end });
    lab.handle(webtrunk::gateway::Input::Media {
        session: session.expect("it plays"),
        notice: played,
    });
    lab.take(ALICE, "603");
    lab.expect_idle();
}

#[test]
fn a_bug_in_media_costs_this_call_only() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.invite(BOB, "9196", OFFER);
    let ok = lab.take(BOB, "200");
    lab.ack(BOB, &ok);
    let session = lab.media.iter().find_map(|c| {
        if let webtrunk::worker::WorkerCommand::Open { session, .. } = c {
            Some(*session)
        } else {
            None
        }
    });
    let session = session.expect("alice's call came first");
    lab.handle(webtrunk::gateway::Input::Media {
        session,
        notice: webtrunk::worker::Notice::Panicked,
    });
    lab.handle(webtrunk::gateway::Input::Media {
        session,
        notice: webtrunk::worker::Notice::Closed { statistics: vec![] },
    });
    lab.take(ALICE, "BYE");
    lab.take(T1, "BYE");
    assert_eq!(lab.gateway.gauges().calls, 1);
    let bye = lab.in_dialog(BOB, &ok, "BYE", 90, "", "");
    lab.says(BOB, &bye);
    lab.expect_idle();
}

#[test]
fn a_caller_answered_first_is_bridged_when_the_trunk_answers() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "300", OFFER);
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 180, "");
    lab.reply(T1, &invite, 200, TRUNK_SDP);
    lab.take(T1, "ACK");
    assert!(!lab.got(T1, "BYE") && !lab.got(ALICE, "200"), "{}", lab.picture());
    assert!(lab.media.iter().any(|c| matches!(c, webtrunk::worker::WorkerCommand::Bridge { .. })));
    let hold = OFFER.replace("a=sendrecv", "a=sendonly").replacen(" 2 IN IP4", " 3 IN IP4", 1);
    let text = lab.in_dialog(ALICE, &ok, "INVITE", 91, "", &hold);
    lab.says(ALICE, &text);
    let held = lab.take(ALICE, "200");
    lab.ack(ALICE, &held);
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 92, "", "");
    lab.says(ALICE, &bye);
    lab.take(T1, "BYE");
    lab.expect_idle();
}

#[test]
fn a_caller_answered_first_hears_goodbye_when_the_trunk_refuses() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "300", OFFER);
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 486, "");
    let bye = lab.take(ALICE, "BYE");
    assert!(bye.header(webtrunk::sip::HeaderName::Reason).unwrap().contains("486"));
    lab.reply(ALICE, &bye, 200, "");
    lab.expect_idle();
}

#[test]
fn a_prompt_whose_media_never_comes_up_ends_by_itself() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "9198", OFFER);
    lab.take(ALICE, "183");
    lab.advance(Duration::from_secs(181));
    lab.take(ALICE, "603");
    lab.expect_idle();
}
