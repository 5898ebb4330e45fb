//! Calls nobody dialled, and an operator's actions on active calls.

use crate::lab::*;
use std::collections::BTreeMap;
use webtrunk::call::CallId;
use webtrunk::call::operator::PartyRole;
use webtrunk::errors::Code;
use webtrunk::gateway::Input;
use webtrunk::gateway::operate::CallAction;
use webtrunk::gateway::originate::OriginateRequest;
use webtrunk::sip::status::Refusal;
use webtrunk::sip::{HeaderName, Message};
use webtrunk::worker::WorkerCommand;

fn wish(from: &str, to: &str) -> OriginateRequest {
    OriginateRequest {
        from: from.into(),
        to: to.into(),
        context: None,
        tags: BTreeMap::from([("cart".into(), "A-1".into())]),
    }
}

fn plan(lab: &mut Lab, wish: &OriginateRequest) -> Result<CallId, Refusal> {
    let plan = lab.gateway.plan_call(lab.now, wish)?;
    let call = plan.call;
    lab.handle(Input::Originate(Box::new(plan)));
    Ok(call)
}

fn bridges(lab: &Lab) -> Vec<(u16, u16)> {
    lab.media
        .iter()
        .filter_map(|c| {
            if let WorkerCommand::Bridge { a, b, .. } = c { Some((a.0, b.0)) } else { None }
        })
        .collect()
}

/// Alice is rung first, then the trunk; both talk. The INVITEs they got.
fn connected(lab: &mut Lab) -> (CallId, Message, Message) {
    let (call, first) = alice_answers(lab, "+12065550123");
    lab.take(ALICE, "ACK");
    let second = lab.take(T1, "INVITE");
    lab.reply(T1, &second, 200, TRUNK_SDP);
    lab.take(T1, "ACK");
    (call, first, second)
}

/// Alice is rung to be connected with `to`, and answers; the call and her INVITE.
fn alice_answers(lab: &mut Lab, to: &str) -> (CallId, Message) {
    let call = plan(lab, &wish("alice", to)).expect("it may begin");
    let first = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &first, 200, ANSWER);
    (call, first)
}

#[test]
fn the_first_party_is_rung_then_the_second_is_called_as_the_first_would() {
    let mut lab = Lab::with_phones();
    let call = plan(&mut lab, &wish("user:alice", "+12065550123")).expect("it may begin");
    lab.plays("0.0s alice ← INVITE sdp");
    let first = lab.last(ALICE, "INVITE");
    assert!(Lab::header(&first, HeaderName::From).contains("+12065550123"), "alice sees with whom");
    lab.plays(
        "0.0s alice → 180 INVITE    // one after the other
         0.0s alice → 200 INVITE sdp recvonly
         0.0s alice ← ACK
         0.0s t1 ← INVITE sdp
         0.0s t1 → 180 INVITE",
    );
    let second = lab.last(T1, "INVITE");
    assert!(
        Lab::header(&second, HeaderName::From).contains("+12065550111"),
        "by alice's own number"
    );
    assert!(
        matches!(lab.media.last(), Some(WorkerCommand::Play { end, .. }) if end.0 == 1),
        "alice hears ringing: {:?}",
        lab.media.last()
    );
    // The 200 whose ACK was lost comes again.
    lab.plays(
        "0.0s alice → 200 INVITE sdp recvonly
         0.0s alice ← ACK
         0.0s t1 → 200 INVITE sdp
         0.0s t1 ← ACK",
    );
    assert_eq!(bridges(&lab).last(), Some(&(1, 2)));
    lab.plays("10.0s t1 hangs up on alice");
    let cdr = lab.ended()[0].clone();
    assert_eq!(
        (cdr.call, cdr.from.as_caller().as_str(), cdr.number.as_str(), cdr.route.as_deref()),
        (call, "alice", "+12065550123", Some("One"))
    );
    assert!(
        cdr.answered.is_some()
            && cdr.answered_by == Some(webtrunk::cdr::Party::Trunk("t1".into()))
            && cdr.tags["cart"] == "A-1"
    );
    assert_eq!(
        cdr.end.expect("over").saturating_duration_since(cdr.answered.expect("answered")).as_secs(),
        10,
        "the first's waiting is not billed"
    );
    lab.expect_idle();
}

#[test]
fn a_party_that_hangs_up_or_does_not_answer_ends_the_call_for_both() {
    let mut lab = Lab::with_phones();
    plan(&mut lab, &wish("alice", "+12065550123")).expect("it may begin");
    lab.plays(
        "0.0s alice ← INVITE sdp
         0.0s alice → 180 INVITE
         30.0s alice ← CANCEL",
    );
    assert!(lab.ended()[0].answered.is_none());
    lab.expect_idle();

    let mut lab = Lab::with_phones();
    plan(&mut lab, &wish("alice", "+12065550123")).expect("it may begin");
    lab.plays(
        "0.0s alice ← INVITE sdp
         0.0s alice → 486 INVITE
         0.0s alice ← ACK",
    );
    assert!(lab.ended()[0].status == 486, "{:?}", lab.ended()[0]);
    lab.expect_idle();

    let mut lab = Lab::with_phones();
    plan(&mut lab, &wish("alice", "+12065550123")).expect("it may begin");
    lab.plays(
        "0.0s alice ← INVITE sdp
         0.0s alice → 200 INVITE sdp recvonly
         0.0s alice ← ACK
         0.0s t1 ← INVITE sdp
         0.0s t1 → 486 INVITE
         0.0s t1 ← ACK
         0.0s alice ← BYE
         0.0s alice → 200 BYE",
    );
    let bye = lab.last(ALICE, "BYE");
    assert!(Lab::header(&bye, HeaderName::Reason).contains("486"), "the first gets the reason");
    assert!(lab.ended()[0].answered.is_none() && lab.ended()[0].status == 486);
    lab.expect_idle();

    let mut lab = Lab::with_phones();
    plan(&mut lab, &wish("alice", "+12065550123")).expect("it may begin");
    lab.plays(
        "0.0s alice ← INVITE sdp
         0.0s alice → 200 INVITE sdp recvonly
         0.0s alice ← ACK
         0.0s t1 ← INVITE sdp
         0.0s t1 → 180 INVITE
         0.0s alice → BYE
         0.0s alice ← 200 BYE
         0.0s t1 ← CANCEL",
    );
    lab.expect_idle();
}

#[test]
fn a_built_in_far_end_a_number_first_and_a_busy_phone_work_too() {
    let mut lab = Lab::with_phones();
    alice_answers(&mut lab, "9196");
    assert!(
        lab.media.iter().any(|c| matches!(c, WorkerCommand::Echo { end, .. } if end.0 == 1)),
        "{:?}",
        lab.media
    );
    lab.plays(
        "0.0s alice ← INVITE sdp
         0.0s alice → 200 INVITE sdp recvonly
         0.0s alice ← ACK
         0.0s alice → BYE
         0.0s alice ← 200 BYE",
    );
    assert!(lab.ended()[0].answered.is_some());
    lab.expect_idle();

    let mut lab = Lab::with_phones();
    let by_number =
        OriginateRequest { context: Some("phones".into()), ..wish("+12065550100", "201") };
    plan(&mut lab, &by_number).expect("it may begin");
    lab.plays(
        "0.0s t1 ← INVITE sdp
         0.0s t1 → 200 INVITE sdp
         0.0s t1 ← ACK
         0.0s bob ← INVITE sdp
         0.0s bob → 200 INVITE sdp recvonly
         0.0s bob ← ACK",
    );
    let second = lab.last(BOB, "INVITE");
    assert!(
        Lab::header(&second, HeaderName::From).contains("+12065550100"),
        "bob sees who was rung first"
    );
    assert_eq!(bridges(&lab).last(), Some(&(1, 2)));
    lab.plays("0.0s bob hangs up on t1");
    lab.expect_idle();
}

#[test]
fn what_no_caller_may_do_nobody_may_have_done() {
    let mut lab = Lab::with_phones();
    for (from, to, context, status, code) in [
        ("alice", "5555", None, 404, Code::NO_ROUTE),
        ("nobody", "9196", None, 404, Code::NO_ROUTE),
        ("+12065550100", "9196", Some("nowhere"), 404, Code::NO_ROUTE),
        ("+12065550100", "9196", Some("@t1"), 404, Code::NO_ROUTE),
        ("5555", "9196", Some("phones"), 404, Code::NO_ROUTE),
    ] {
        let why = plan(
            &mut lab,
            &OriginateRequest { context: context.map(str::to_owned), ..wish(from, to) },
        )
        .expect_err(from);
        assert_eq!((why.status, why.code), (status, code), "{from} {to}: {why:?}");
    }
    for _ in 0..4 {
        plan(&mut lab, &wish("alice", "9196")).expect("it may begin");
    }
    let why = plan(&mut lab, &wish("alice", "9196")).expect_err("calls_per_user is 4");
    assert_eq!((why.status, why.code), (486, Code::LIMIT));
    lab.handle(Input::Drain);
    assert_eq!(plan(&mut lab, &wish("bob", "9196")).expect_err("it drains").code, Code::DRAINING);
    lab.expect_idle();
}

#[test]
fn an_operator_presses_digits_parts_the_two_and_hands_one_over() {
    let mut lab = Lab::with_phones();
    let (call, first, _) = connected(&mut lab);
    let action = |lab: &mut Lab, action: CallAction| {
        let mut out = Vec::new();
        let done = lab.gateway.act_on_call(lab.now, call, &action, &mut out);
        lab.perform(out);
        done.expect("it lives")
    };
    action(&mut lab, CallAction::Press { side: PartyRole::Callee, digits: "12#".into() })
        .expect("pressed");
    let digits: Vec<u8> = lab
        .media
        .iter()
        .filter_map(|c| {
            if let WorkerCommand::Digit { end, event, .. } = c {
                (end.0 == 2).then_some(*event)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(digits, [1, 2, 11]);
    assert_eq!(
        action(&mut lab, CallAction::Press { side: PartyRole::Callee, digits: "1x".into() })
            .expect_err("no digit")
            .status,
        400
    );
    action(&mut lab, CallAction::Separate(true)).expect("separated");
    let playing = lab.media.iter().filter(|c| matches!(c, WorkerCommand::Play { .. })).count();
    assert_eq!(playing, 2, "both hear a tune");
    action(&mut lab, CallAction::Separate(false)).expect("joined");
    assert_eq!(bridges(&lab).last(), Some(&(1, 2)));
    assert_eq!(
        action(&mut lab, CallAction::HandOver { side: PartyRole::Callee, to: "5555".into() })
            .expect_err("no route")
            .status,
        404
    );
    action(&mut lab, CallAction::HandOver { side: PartyRole::Callee, to: "201".into() })
        .expect("under way");
    assert_eq!(
        action(&mut lab, CallAction::Separate(true)).expect_err("a transfer is under way").status,
        409
    );
    lab.plays(
        "0.0s alice ← INVITE sdp
         0.0s alice → 200 INVITE sdp recvonly
         0.0s alice ← ACK
         0.0s t1 ← INVITE sdp
         0.0s t1 → 200 INVITE sdp
         0.0s t1 ← ACK
         0.0s bob ← INVITE sdp
         0.0s bob → 200 INVITE sdp recvonly
         0.0s bob ← ACK
         5.0s alice ← BYE
         6.0s",
    );
    assert_eq!(bridges(&lab).last(), Some(&(2, 3)), "the trunk and bob");
    lab.plays("6.0s bob hangs up on t1");
    assert_eq!(lab.ended()[0].transfers, ["201"]);
    drop(first);
    lab.expect_idle();
}
