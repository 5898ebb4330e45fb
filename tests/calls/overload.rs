//! When too little capacity is left, new work is refused at once, and active calls continue.

use crate::lab::*;
use crate::recovery::{close, open};
use std::collections::BTreeSet;
use std::time::Duration;
use webtrunk::errors::Code;
use webtrunk::event::Event;
use webtrunk::gateway::overload::{Overloaded, QueueKind};
use webtrunk::sip::{HeaderName, Message};

const EMERGENCY: &str = "[[route]]\nname = \"Emergency\"\nmatch = \"911\"\n\
                         ignore_limits = true\ndo = [{ dial = [\"trunk:t1\"] }]\n";

/// What waits for the core waits too long, for as long as it must to be believed.
fn overload(lab: &mut Lab) {
    calm(lab);
    lab.gateway.waited(lab.now, QueueKind::Arrivals, Duration::from_millis(200), 100);
    lab.now += Duration::from_millis(100);
    lab.gateway.waited(lab.now, QueueKind::Arrivals, Duration::from_millis(200), 100);
    lab.handle(webtrunk::gateway::Input::Tick);
    assert_eq!(lab.gateway.overloaded(), Some(Overloaded::Queue));
    assert_eq!(lab.gateway.calls_left(), 0);
}

fn calm(lab: &mut Lab) {
    lab.gateway.waited(lab.now, QueueKind::Arrivals, Duration::ZERO, 0);
    assert_eq!(lab.gateway.overloaded(), None);
}

fn again_in(refusal: &Message) -> u32 {
    Lab::header(refusal, HeaderName::RetryAfter).parse().expect("seconds")
}

fn register(lab: &mut Lab, peer: Peer, name: &str) -> String {
    let contact = format!(
        "Contact: <sip:{name}@x.invalid;transport=ws>;reg-id=1;\
         +sip.instance=\"<urn:uuid-{name}>\";expires=600\r\nSupported: outbound, path\r\n"
    );
    lab.register_of(peer, name, &contact)
}

#[test]
fn new_calls_are_refused_at_once_with_a_random_time_and_a_few_with_a_record() {
    let mut lab = Lab::with_phones();
    overload(&mut lab);
    let mut times = BTreeSet::new();
    for _ in 0..40 {
        lab.invite(ALICE, "+12065550123", OFFER);
        let refusal = lab.take(ALICE, "503");
        assert!(Lab::header(&refusal, HeaderName::Reason).contains("overloaded"));
        times.insert(again_in(&refusal));
        // The ACK of a refusal without a transaction is nobody's.
        lab.ack(ALICE, &refusal);
    }
    assert!(times.len() > 10 && times.iter().all(|t| (5..=30).contains(t)), "{times:?}");
    let code = |n: &Event| matches!(n, Event::CallRefused { code: Code::OVERLOADED, .. });
    assert_eq!(lab.notes.iter().filter(|n| code(n)).count(), 5, "in one second");
    assert!(lab.media.is_empty() && !lab.got(T1, "INVITE"));
    assert!(lab.gateway.gauges().transactions <= 5, "the others left nothing");
    calm(&mut lab);
    let invite = lab.invite(ALICE, "+12065550123", OFFER);
    lab.take(T1, "INVITE");
    lab.cancel(ALICE, &invite);
    lab.expect_idle();
}

#[test]
fn a_login_and_a_text_are_refused_and_who_is_logged_in_stays_so() {
    let mut lab = Lab::with_phones();
    overload(&mut lab);
    let stranger = Peer::Browser("alice", 9);
    open(&mut lab, stranger);
    let text = register(&mut lab, stranger, "alice");
    lab.says(stranger, &text);
    again_in(&lab.take(stranger, "503"));
    let text = lab.request(ALICE, "MESSAGE", "sip:bob@wt.test", "", "hello");
    lab.says(ALICE, &text);
    again_in(&lab.take(ALICE, "503"));
    lab.plays(
        "0.1s alice → MESSAGE sdp
         0.1s alice ← 503 MESSAGE",
    );
    let text = register(&mut lab, ALICE, "alice");
    lab.says(ALICE, &text);
    let challenge = lab.last(ALICE, "401");
    let answer = lab.answer_challenge(&challenge, &text, "alice", "secret-a");
    lab.says(ALICE, &answer);
    lab.expect_idle();
}

#[test]
fn a_call_in_progress_its_browser_that_comes_back_and_its_transfer_are_never_refused() {
    let mut lab = Lab::with_phones();
    let (ok, _trunk) = lab.talk("+12065550123");
    overload(&mut lab);
    let hold = lab.in_dialog_with(
        ALICE,
        &ok,
        "INVITE",
        90,
        "Contact: <sip:alice@x.invalid;transport=ws>\r\n",
        OFFER,
    );
    lab.says(ALICE, &hold);
    lab.plays(
        "0.1s alice → INVITE sdp
         0.1s alice ← 100 INVITE
         0.1s alice ← 200 INVITE sdp
         0.1s alice → ACK",
    );
    // Its connection is lost, and its browser logs in again.
    close(&mut lab, ALICE);
    let back = Peer::Browser("alice", 7);
    overload(&mut lab);
    lab.log_in(back, "secret-a", "uuid-a");
    // Bob takes the place of the trunk's side (RFC 3891).
    overload(&mut lab);
    let tag = |value: &str| value.split("tag=").nth(1).expect("a tag").to_owned();
    let (to, from) =
        (tag(Lab::header(&ok, HeaderName::To)), tag(Lab::header(&ok, HeaderName::From)));
    let replaces = format!(
        "Replaces: {};to-tag={to};from-tag={from}\r\n",
        Lab::header(&ok, HeaderName::CallId)
    );
    let invite = lab.request(BOB, "INVITE", "sip:alice@wt.test", &replaces, OFFER);
    lab.says(BOB, &invite);
    assert!(!lab.got(BOB, "503"), "{}", lab.picture());
    lab.plays(
        "0.2s alice-7 ← OPTIONS
         0.3s bob → INVITE alice sdp
         0.3s bob ← 403 INVITE
         0.3s t1 hangs up on alice-7",
    );
    lab.gateway_hangs_up();
    lab.expect_idle();
}

#[test]
fn an_emergency_call_is_taken() {
    let mut lab = Lab::changed(&[], EMERGENCY);
    overload(&mut lab);
    lab.plays(
        "0.1s alice calls 911 at t1
         0.1s alice → CANCEL
         0.1s alice ← 200 CANCEL
         0.1s alice ← 487 INVITE",
    );
    lab.expect_idle();
}
