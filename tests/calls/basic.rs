//! Calls that work, and the ways they end.

use crate::lab::*;
use std::time::Duration;
use webtrunk::call::HangupBy;

#[test]
fn a_browser_calls_a_trunk_and_hangs_up() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice → INVITE +12065550123 sdp
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
    lab.talk("+12065550123");
    lab.plays("0.0s t1 hangs up on alice");
    let bye = lab.last(ALICE, "BYE");
    assert!(bye.header(webtrunk::sip::HeaderName::Reason).is_some());
    assert_eq!(lab.ended()[0].by, Some(HangupBy::Callee));
    lab.expect_idle();
}

#[test]
fn busy_is_passed_on_and_acknowledged() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 refuses alice with 486",
    );
    let busy = lab.last(ALICE, "486 INVITE");
    assert!(busy.header(webtrunk::sip::HeaderName::Reason).unwrap().contains("trunk:t1 said 486"));
    lab.expect_idle();
}

#[test]
fn cancel_before_the_answer_reaches_the_trunk() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 rings alice
         0.0s alice gives up on t1",
    );
    let invite = lab.last(T1, "INVITE");
    let cancel = lab.last(T1, "CANCEL");
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
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s alice → CANCEL
         0.0s alice ← 200 CANCEL
         0.0s alice ← 487 INVITE    // RFC 3261 section 9.1
         0.0s t1 → 100 INVITE
         0.0s t1 ← CANCEL
         0.0s t1 → 200 CANCEL
         0.0s t1 → 487 INVITE
         0.0s t1 ← ACK",
    );
    lab.expect_idle();
}

#[test]
fn a_200_that_crosses_our_cancel_is_acknowledged_and_hung_up() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 rings alice
         0.0s alice → CANCEL
         0.0s alice ← 200 CANCEL
         0.0s alice ← 487 INVITE
         0.0s t1 ← CANCEL
         0.0s t1 → 200 INVITE sdp
         0.0s t1 ← ACK
         0.0s t1 ← BYE
         0.0s t1 → 200 BYE
         0.0s t1 → 200 CANCEL",
    );
    assert_eq!(lab.ended()[0].status, 487);
    lab.expect_idle();
}

#[test]
fn a_second_fork_that_answers_too_is_acknowledged_and_hung_up() {
    let mut lab = Lab::with_phones();
    let (_, invite) = lab.talk("+12065550123");
    lab.reply_as(T1, &invite, 200, TRUNK_SDP, "other-fork");
    lab.plays(
        "0.0s t1 → 200 INVITE sdp
         0.0s t1 ← ACK
         0.0s t1 ← BYE
         0.0s t1 → 200 BYE",
    );
    let bye = lab.last(T1, "BYE");
    assert_eq!(bye.to().unwrap().tag(), Some("other-fork"));
    assert_eq!(lab.gateway.gauges().calls, 1, "the first fork talks on");
    lab.plays("0.0s t1 hangs up on alice");
    lab.expect_idle();
}

#[test]
fn a_repeated_200_gets_its_ack_again_and_the_caller_hears_nothing_of_it() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.plays(
        "0.0s t1 → 200 INVITE sdp
         0.0s t1 ← ACK
         0.0s alice hangs up on t1",
    );
    lab.expect_idle();
}

#[test]
fn a_200_that_is_never_acknowledged_is_repeated_and_ends_in_bye_to_both() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice → INVITE 9196 sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 200 INVITE sdp
         0.5s alice ← 200 INVITE sdp
         1.5s alice ← 200 INVITE sdp
         3.5s alice ← 200 INVITE sdp
         7.5s alice ← 200 INVITE sdp
         11.5s alice ← 200 INVITE sdp
         15.5s alice ← 200 INVITE sdp
         19.5s alice ← 200 INVITE sdp
         23.5s alice ← 200 INVITE sdp
         27.5s alice ← 200 INVITE sdp
         31.5s alice ← 200 INVITE sdp
         32.0s alice ← BYE
         32.0s alice → 200 BYE",
    );
    assert!(lab.ended()[0].why.contains("no ACK"));
    lab.expect_idle();
}

#[test]
fn early_media_is_passed_before_the_answer_and_the_answer_repeats_its_sdp() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 → 183 INVITE sdp
         0.0s alice ← 183 INVITE sdp
         0.0s t1 answers alice
         0.0s alice hangs up on t1",
    );
    let early = lab.last(ALICE, "183 INVITE");
    let ok = lab.last(ALICE, "200 INVITE");
    assert_eq!(early.body(), ok.body(), "one stable answer");
    lab.expect_idle();
}

#[test]
fn a_trunk_rings_every_flow_of_the_owner_and_the_first_answer_wins() {
    let mut lab = Lab::with_phones();
    let second = Peer::Browser("alice", 3);
    lab.log_in(second, "secret-a", "uuid-a2");
    lab.clear();
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice-3 ← INVITE sdp",
    );
    let one = lab.last(ALICE, "INVITE");
    assert!(
        String::from_utf8_lossy(one.body()).contains("UDP/TLS/RTP/SAVPF"),
        "a browser is offered WebRTC"
    );
    lab.plays(
        "0.0s alice rings t1
         0.0s alice-3 rings t1
         0.0s alice-3 → 200 INVITE sdp recvonly
         0.0s alice-3 ← ACK
         0.0s alice ← CANCEL
         0.0s t1 ← 200 INVITE sdp
         0.0s alice → 200 CANCEL
         0.0s alice → 487 INVITE
         0.0s alice ← ACK
         0.0s t1 → ACK
         0.0s alice-3 hangs up on t1",
    );
    let cancel = lab.last(ALICE, "CANCEL");
    assert!(
        cancel.header(webtrunk::sip::HeaderName::Reason).unwrap().contains("cause=200"),
        "answered elsewhere"
    );
    lab.expect_idle();
}

#[test]
fn nobody_registered_goes_to_the_next_step() {
    let mut lab = Lab::with_phones();
    lab.handle(webtrunk::gateway::Input::FlowClosed { flow: webtrunk::sip::transaction::Flow(2) });
    lab.plays(
        "0.0s alice calls 200 at t2
         0.0s t2 refuses alice with 404",
    );
    let invite = lab.last(T2, "INVITE");
    assert!(invite.request_uri().starts_with("sip:+4999@127.0.0.11"), "{}", invite.request_uri());
    lab.expect_idle();
}

#[test]
fn an_unanswered_ring_is_cancelled_and_the_route_continues() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls 200 at bob
         0.0s bob rings alice
         10.0s bob ← CANCEL
         10.0s t2 ← INVITE sdp
         10.0s bob → 200 CANCEL
         10.0s bob → 487 INVITE
         10.0s bob ← ACK
         10.0s t2 refuses alice with 486",
    );
    lab.expect_idle();
}

#[test]
fn two_browsers_talk_and_a_bye_while_ringing_ends_the_call() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls 201 at bob
         0.0s bob rings alice
         0.0s alice → BYE
         0.0s alice ← 200 BYE
         0.0s alice ← 487 INVITE
         0.0s bob ← CANCEL
         0.0s bob → 200 CANCEL
         0.0s bob → 487 INVITE
         0.0s bob ← ACK",
    );
    lab.expect_idle();
}

#[test]
fn a_lost_websocket_does_not_end_the_call_and_the_same_browser_resumes_it() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.handle(webtrunk::gateway::Input::FlowClosed { flow: webtrunk::sip::transaction::Flow(1) });
    lab.plays("5.0s");
    assert_eq!(lab.gateway.gauges().calls, 1);
    let again = Peer::Browser("alice", 7);
    lab.log_in(again, "secret-a", "uuid-a");
    lab.plays(
        "5.0s alice-7 ← OPTIONS
         5.0s alice-7 → 200 OPTIONS
         65.0s",
    );
    assert_eq!(lab.gateway.gauges().calls, 1, "the grace timer was stopped");
    lab.plays("65.0s t1 hangs up on alice-7");
    lab.expect_idle();
}

#[test]
fn a_browser_back_before_its_old_flow_is_noticed_dead_keeps_its_call() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    let again = Peer::Browser("alice", 7);
    lab.log_in(again, "secret-a", "uuid-a");
    lab.plays(
        "0.0s alice ← OPTIONS
         2.0s alice-7 ← OPTIONS
         2.0s alice-7 → 200 OPTIONS",
    );
    assert_eq!(lab.closed_flows, [webtrunk::sip::transaction::Flow(1)]);
    lab.handle(webtrunk::gateway::Input::FlowClosed { flow: webtrunk::sip::transaction::Flow(1) });
    lab.plays("62.0s");
    assert_eq!(lab.gateway.gauges().calls, 1);
    lab.plays("62.0s t1 hangs up on alice-7");
    lab.expect_idle();
}

#[test]
fn a_browser_that_never_comes_back_loses_its_call_after_the_grace_time() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.handle(webtrunk::gateway::Input::FlowClosed { flow: webtrunk::sip::transaction::Flow(1) });
    lab.plays(
        "30.0s t1 ← BYE
         30.5s t1 ← BYE
         31.0s t1 → 200 BYE",
    );
    lab.expect_idle();
}

#[test]
fn an_announcement_is_early_media_and_then_the_route_hangs_up() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice → INVITE 9198 sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 183 INVITE sdp",
    );
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
    lab.plays("0.0s alice ← 603 INVITE");
    lab.expect_idle();
}

#[test]
fn a_bug_in_media_costs_this_call_only() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.plays(
        "0.0s bob → INVITE 9196 sdp
         0.0s bob ← 100 INVITE
         0.0s bob ← 200 INVITE sdp
         0.0s bob → ACK",
    );
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
    lab.plays(
        "0.0s alice ← BYE
         0.0s t1 ← BYE",
    );
    assert_eq!(lab.gateway.gauges().calls, 1);
    lab.plays(
        "0.0s bob → BYE
         0.0s bob ← 200 BYE",
    );
    lab.expect_idle();
}

#[test]
fn a_caller_answered_first_is_bridged_when_the_trunk_answers() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice → INVITE 300 sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 200 INVITE sdp
         0.0s t1 ← INVITE sdp
         0.0s alice → ACK
         0.0s t1 → 180 INVITE
         0.0s t1 → 200 INVITE sdp
         0.0s t1 ← ACK",
    );
    let ok = lab.last(ALICE, "200 INVITE");
    assert!(!lab.got(T1, "BYE") && !lab.got(ALICE, "200"), "{}", lab.picture());
    assert!(lab.media.iter().any(|c| matches!(c, webtrunk::worker::WorkerCommand::Bridge { .. })));
    let hold = OFFER.replace("a=sendrecv", "a=sendonly").replacen(" 2 IN IP4", " 3 IN IP4", 1);
    let text = lab.in_dialog(ALICE, &ok, "INVITE", 91, "", &hold);
    lab.says(ALICE, &text);
    lab.plays(
        "0.0s alice → INVITE sdp sendonly
         0.0s alice ← 100 INVITE
         0.0s alice ← 200 INVITE sdp recvonly
         0.0s alice → ACK
         0.0s alice hangs up on t1",
    );
    lab.expect_idle();
}

#[test]
fn a_caller_answered_first_hears_goodbye_when_the_trunk_refuses() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice → INVITE 300 sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 200 INVITE sdp
         0.0s t1 ← INVITE sdp
         0.0s alice → ACK
         0.0s t1 → 486 INVITE
         0.0s t1 ← ACK
         0.0s alice ← BYE
         0.0s alice → 200 BYE",
    );
    let bye = lab.last(ALICE, "BYE");
    assert!(bye.header(webtrunk::sip::HeaderName::Reason).unwrap().contains("486"));
    lab.expect_idle();
}

#[test]
fn a_prompt_whose_media_never_comes_up_ends_on_its_own() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice → INVITE 9198 sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 183 INVITE sdp
         180.0s alice ← 603 INVITE
         181.0s",
    );
    lab.expect_idle();
}
