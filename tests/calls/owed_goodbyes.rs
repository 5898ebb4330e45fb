//! Browsers that are away when their call ends, or whose connection is dead by then: they are told
//! once they are back, by whatever process is there.

use crate::lab::*;
use crate::recovery::open;
use crate::restart::{AWAY, BACK, comes_back, restarts_with};
use crate::transfers::{notified, refer};
use std::time::Duration;
use webtrunk::errors::Code;
use webtrunk::gateway::Input;
use webtrunk::sip::transaction::Flow;
use webtrunk::sip::{HeaderName, Message};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// alice's browser goes away, and then t1 hangs up: what alice got last in her dialog.
fn ended_while_alice_is_away(lab: &mut Lab) -> Message {
    let (ok, invite) = lab.talk("+12065550123");
    lab.handle(Input::FlowClosed { flow: Flow(1) });
    lab.advance(secs(1));
    let bye = lab.in_dialog(T1, &invite, "BYE", 900, "peer", "");
    lab.says(T1, &bye);
    lab.take(T1, "200 BYE");
    lab.inbox.clear();
    ok
}

/// alice is told now, and nothing else; she knows, and nobody says it again.
fn is_told(mut lab: Lab, peer: Peer, ok: &Message) {
    let bye = lab.take(peer, "BYE");
    assert_eq!(bye.call_id(), ok.call_id());
    assert!(Lab::header(&bye, HeaderName::Reason).contains("normal call clearing"));
    assert!(!lab.got(peer, "OPTIONS") && !lab.got(peer, "BYE"), "{}", lab.picture());
    lab.reply(peer, &bye, 200, "");
    lab.restart(AWAY);
    lab.inbox.clear();
    lab.log_in(Peer::Browser("alice", 8), "secret-a", "uuid-a");
    assert!(!lab.got(Peer::Browser("alice", 8), "BYE"), "{}", lab.picture());
    lab.expect_idle();
}

#[test]
fn a_browser_that_is_back_after_a_restart_is_told_that_its_call_is_over() {
    for restarts in 1..=2 {
        let mut lab = Lab::with_phones();
        let ok = ended_while_alice_is_away(&mut lab);
        assert_eq!(lab.ended()[0].code, Code::FINE);
        for _ in 0..restarts {
            lab.restart(AWAY);
            assert!(lab.inbox.is_empty(), "{}", lab.picture());
        }
        comes_back(&mut lab);
        is_told(lab, BACK, &ok);
    }
}

#[test]
fn after_32_s_nobody_waits_for_it() {
    let mut lab = Lab::with_phones();
    ended_while_alice_is_away(&mut lab);
    lab.restart(secs(20));
    lab.restart(secs(12));
    comes_back(&mut lab);
    assert!(!lab.got(BACK, "BYE"), "{}", lab.picture());
    lab.expect_idle();
}

/// A page that does not register, or is another one, and asks for its call.
#[test]
fn a_browser_that_asks_for_a_call_that_ended_is_told_that_it_has() {
    for (restarts, method) in [(true, "INVITE"), (false, "UPDATE"), (true, "INFO")] {
        let mut lab = Lab::with_phones();
        let ok = ended_while_alice_is_away(&mut lab);
        if restarts {
            lab.restart(AWAY);
        }
        lab.log_in(BACK, "secret-a", "uuid-z");
        assert!(!lab.got(BACK, "BYE"), "another phone of hers: {}", lab.picture());
        let asks = lab.in_dialog(BACK, &ok, method, 900, "", "");
        lab.says(BACK, &asks);
        let refused = lab.take(BACK, "481");
        let why = Lab::header(&refused, HeaderName::Reason);
        assert!(why.contains("the call has ended: normal call clearing"), "{why}");
        is_told(lab, BACK, &ok);
    }
}

#[test]
fn who_hangs_up_what_has_ended_is_told_no_more() {
    let mut lab = Lab::with_phones();
    let ok = ended_while_alice_is_away(&mut lab);
    lab.restart(AWAY);
    lab.log_in(BACK, "secret-a", "uuid-z");
    let bye = lab.in_dialog(BACK, &ok, "BYE", 900, "", "");
    lab.says(BACK, &bye);
    lab.take(BACK, "200 BYE");
    comes_back(&mut lab);
    assert!(!lab.got(BACK, "BYE"), "{}", lab.picture());
    lab.expect_idle();
}

#[test]
fn nobody_else_is_told() {
    let mut lab = Lab::with_phones();
    let ok = ended_while_alice_is_away(&mut lab);
    lab.restart(AWAY);
    let bob = Peer::Browser("bob", 8);
    // Another account, with the instance of hers.
    lab.log_in(bob, "secret-b", "uuid-a");
    let asks = lab.in_dialog(bob, &ok, "INVITE", 900, "", OFFER);
    lab.says(bob, &asks);
    let refused = lab.take(bob, "481");
    let why = String::from_utf8_lossy(&refused.to_bytes()).into_owned();
    assert!(!why.contains("has ended") && !lab.got(bob, "BYE"), "{why}");
    // Nobody knows who this is.
    let somebody = Peer::Browser("alice", 9);
    open(&mut lab, somebody);
    let asks = lab.in_dialog(somebody, &ok, "INVITE", 901, "", OFFER);
    lab.says(somebody, &asks);
    lab.take(somebody, "401");
    assert!(!lab.got(somebody, "BYE"), "{}", lab.picture());
    comes_back(&mut lab);
    is_told(lab, BACK, &ok);
}

/// Its connection was dead when the BYE was sent, and nobody knew.
#[test]
fn a_bye_that_went_by_a_dead_connection_is_said_by_the_next() {
    for restarts in [false, true] {
        let mut lab = Lab::with_phones();
        let (ok, invite) = lab.talk("+12065550123");
        let bye = lab.in_dialog(T1, &invite, "BYE", 900, "peer", "");
        lab.says(T1, &bye);
        lab.take(T1, "200 BYE");
        lab.take(ALICE, "BYE");
        lab.advance(secs(4));
        if restarts {
            lab.restart(AWAY);
        } else {
            lab.handle(Input::FlowClosed { flow: Flow(1) });
        }
        comes_back(&mut lab);
        is_told(lab, BACK, &ok);
    }
}

/// It has registered by another connection before the one it had is given up.
#[test]
fn a_bye_that_went_by_a_connection_that_was_replaced_is_said_by_the_new_one() {
    let mut lab = Lab::with_phones();
    let (ok, invite) = lab.talk("+12065550123");
    comes_back(&mut lab);
    let bye = lab.in_dialog(T1, &invite, "BYE", 900, "peer", "");
    lab.says(T1, &bye);
    lab.take(ALICE, "BYE");
    assert!(!lab.got(BACK, "BYE"));
    lab.inbox.clear();
    lab.handle(Input::FlowClosed { flow: Flow(1) });
    is_told(lab, BACK, &ok);
}

#[test]
fn a_transferor_that_is_away_when_it_is_let_go_is_told_when_it_is_back() {
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    refer(&mut lab, ALICE, &ok, 90, "<sip:201@wt.test>", "");
    lab.take(ALICE, "202");
    notified(&mut lab, ALICE);
    let rings = lab.take(BOB, "INVITE");
    lab.handle(Input::FlowClosed { flow: Flow(1) });
    lab.reply(BOB, &rings, 200, ANSWER);
    lab.take(BOB, "ACK");
    lab.advance(secs(6));
    comes_back(&mut lab);
    let bye = lab.take(BACK, "BYE");
    assert_eq!(bye.call_id(), ok.call_id());
    lab.reply(BACK, &bye, 200, "");
    assert_eq!(lab.gateway.gauges().calls, 1, "the others talk on");
    lab.handle(Input::HangUpAll);
    lab.expect_idle();
}

/// The process died between the end of the call and that of its checkpoint.
#[test]
fn a_call_whose_end_a_browser_was_owed_is_not_continued() {
    let mut lab = Lab::with_phones();
    let (ok, invite) = lab.talk("+12065550123");
    lab.handle(Input::FlowClosed { flow: Flow(1) });
    lab.flush();
    let call = lab.kept.clone();
    let bye = lab.in_dialog(T1, &invite, "BYE", 900, "peer", "");
    lab.says(T1, &bye);
    for session in restarts_with(&mut lab, call) {
        let notice = webtrunk::worker::Notice::Restored { age: AWAY };
        lab.handle(Input::Media { session, notice });
    }
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 481, "");
    let records = lab.ended();
    assert_eq!(records.iter().map(|r| r.code).collect::<Vec<_>>(), [Code::FINE]);
    assert_eq!(records[0].by, Some(webtrunk::call::HangupBy::Callee));
    comes_back(&mut lab);
    is_told(lab, BACK, &ok);
}
