//! Goodbyes around a death of the process: whoever hung up is answered, whoever was hung up on is
//! told, and nobody is left alone in a call.

use crate::challenges::digest;
use crate::lab::*;
use crate::restart::{AWAY, BACK, comes_back, knows_its_call, restarts_with};
use std::time::Duration;
use webtrunk::errors::Code;
use webtrunk::gateway::Input;
use webtrunk::sip::transaction::Flow;
use webtrunk::sip::{HeaderName, Message};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The codes of all records.
fn codes(lab: &Lab) -> Vec<Code> {
    lab.ended().iter().map(|record| record.code).collect()
}

/// It comes again until it is answered, for 32 s; the browser needs two seconds to connect again.
#[test]
fn a_bye_of_the_trunk_that_no_process_had_read_ends_the_call_on_both_sides() {
    for browser_first in [false, true] {
        let mut lab = Lab::with_phones();
        let (_, invite) = lab.talk("+12065550123");
        lab.inbox.clear();
        lab.restart(AWAY);
        if browser_first {
            comes_back(&mut lab);
            knows_its_call(&mut lab, BACK);
        }
        let bye = lab.in_dialog(T1, &invite, "BYE", 900, "peer", "");
        lab.says(T1, &bye);
        lab.take(T1, "200 BYE");
        assert_eq!(codes(&lab), [Code::FINE], "first {browser_first}");
        if !browser_first {
            lab.advance(secs(3));
            comes_back(&mut lab);
        }
        let bye = lab.take(BACK, "BYE");
        lab.reply(BACK, &bye, 200, "");
        lab.expect_idle();
    }
}

#[test]
fn a_bye_of_the_browser_over_its_next_connection_ends_the_call_on_both_sides() {
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    lab.inbox.clear();
    lab.restart(AWAY);
    comes_back(&mut lab);
    knows_its_call(&mut lab, BACK);
    let bye = lab.in_dialog(BACK, &ok, "BYE", 900, "", "");
    lab.says(BACK, &bye);
    lab.take(BACK, "200 BYE");
    let at_trunk = lab.take(T1, "BYE");
    lab.reply(T1, &at_trunk, 200, "");
    assert_eq!(codes(&lab), [Code::FINE]);
    lab.expect_idle();
}

/// Without a restart, too.
#[test]
fn a_browser_that_was_away_when_the_call_ended_is_told_when_it_is_back() {
    for (away, told) in [(2, true), (31, true), (33, false)] {
        let mut lab = Lab::with_phones();
        let (_, invite) = lab.talk("+12065550123");
        lab.handle(Input::FlowClosed { flow: Flow(1) });
        lab.advance(secs(1));
        let bye = lab.in_dialog(T1, &invite, "BYE", 900, "peer", "");
        lab.says(T1, &bye);
        lab.take(T1, "200 BYE");
        assert_eq!(codes(&lab), [Code::FINE], "its record does not wait");
        lab.advance(secs(away));
        lab.inbox.clear();
        comes_back(&mut lab);
        assert_eq!(lab.got(BACK, "BYE"), told, "{away} s: {}", lab.picture());
        if told {
            let bye = lab.take(BACK, "BYE");
            lab.reply(BACK, &bye, 200, "");
        }
        assert!(!lab.got(BACK, "OPTIONS"), "{}", lab.picture());
        lab.expect_idle();
    }
}

/// What the process before sent as `what`, and that before.
fn sent_again(lab: &mut Lab, peer: Peer, what: &str, first: &Message) {
    let again = lab.take(peer, what);
    assert_eq!(again.to_bytes(), first.to_bytes());
}

#[test]
fn a_bye_that_was_not_answered_is_sent_by_the_next_process_until_it_is() {
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 900, "", "");
    lab.says(ALICE, &bye);
    let first = lab.take(T1, "BYE");
    lab.flush();
    assert!(lab.kept.is_empty(), "the call is over, and its record written");
    for _ in 0..2 {
        lab.advance(Duration::from_millis(200));
        lab.inbox.clear();
        lab.restart(AWAY);
        sent_again(&mut lab, T1, "BYE", &first);
    }
    lab.advance(Duration::from_millis(600));
    sent_again(&mut lab, T1, "BYE", &first);
    lab.reply(T1, &first, 200, "");
    lab.inbox.clear();
    lab.restart(AWAY);
    assert!(!lab.got(T1, "BYE"), "{}", lab.picture());
    lab.expect_idle();
}

#[test]
fn a_goodbye_that_is_older_than_its_transaction_is_not_said_again() {
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 900, "", "");
    lab.says(ALICE, &bye);
    lab.take(T1, "BYE");
    lab.flush();
    lab.inbox.clear();
    lab.restart(secs(32));
    assert!(!lab.got(T1, "BYE"), "{}", lab.picture());
    lab.expect_idle();
}

#[test]
fn a_goodbye_that_was_answered_at_once_is_never_kept() {
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    lab.flush();
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 900, "", "");
    lab.says(ALICE, &bye);
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 200, "");
    assert!(lab.gateway.changed_farewells(lab.now).is_empty());
    lab.expect_idle();
}

/// Some carriers challenge each request, and keep the call until they know who ends it.
#[test]
fn a_goodbye_that_is_challenged_after_a_restart_is_said_with_credentials() {
    let mut lab = Lab::with_phones();
    let asks = |nonce: &str| digest("WWW", "carrier", nonce);
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply_with(T1, &invite, 401, "", "peer", &asks("invite"));
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 200, TRUNK_SDP);
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 900, "", "");
    lab.says(ALICE, &bye);
    let first = lab.take(T1, "BYE");
    lab.inbox.clear();
    lab.restart(AWAY);
    sent_again(&mut lab, T1, "BYE", &first);
    lab.reply_with(T1, &first, 401, "", "peer", &asks("bye"));
    let proved = lab.take(T1, "BYE");
    assert!(Lab::header(&proved, HeaderName::Authorization).contains("nonce=\"bye\""));
    // That one outlives its process, too.
    lab.inbox.clear();
    lab.restart(AWAY);
    sent_again(&mut lab, T1, "BYE", &proved);
    lab.reply_with(T1, &proved, 401, "", "peer", &asks("later"));
    let proved = lab.take(T1, "BYE");
    assert!(Lab::header(&proved, HeaderName::Authorization).contains("nonce=\"later\""));
    lab.reply(T1, &proved, 200, "");
    lab.expect_idle();
}

/// The process died between the BYE and the end of the call on disk: whoever sent it is gone.
#[test]
fn a_call_that_was_being_hung_up_is_not_continued() {
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    lab.flush();
    let call = lab.kept.clone();
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 900, "", "");
    lab.says(ALICE, &bye);
    lab.take(T1, "BYE");
    for session in restarts_with(&mut lab, call) {
        let notice = webtrunk::worker::Notice::Restored { age: AWAY };
        lab.handle(Input::Media { session, notice });
    }
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 481, "");
    let records = lab.ended();
    assert_eq!(records.iter().map(|r| r.code).collect::<Vec<_>>(), [Code::FINE]);
    assert_eq!(records[0].by, Some(webtrunk::call::HangupBy::Caller));
    comes_back(&mut lab);
    let bye = lab.take(BACK, "BYE");
    lab.reply(BACK, &bye, 481, "");
    lab.expect_idle();
}

/// Else a phone rings that nobody calls.
#[test]
fn a_cancel_that_was_lost_is_sent_by_the_next_process() {
    let mut lab = Lab::with_phones();
    let invite = lab.invite(ALICE, "+12065550123", OFFER);
    let rings = lab.take(T1, "INVITE");
    lab.reply(T1, &rings, 180, "");
    lab.cancel(ALICE, &invite);
    let first = lab.take(T1, "CANCEL");
    lab.inbox.clear();
    lab.restart(AWAY);
    let again: Vec<_> =
        lab.inbox.iter().filter(|(_, m)| m.method_token() == "CANCEL").cloned().collect();
    let [(_, again)] = &*again else { panic!("once: {}", lab.picture()) };
    assert_eq!(again.to_bytes(), first.to_bytes());
    lab.reply(T1, &first, 200, "");
    lab.reply(T1, &rings, 487, "");
    lab.expect_idle();
}

/// A call that was ringing is restored to be cancelled, and cancels itself.
#[test]
fn a_cancel_is_not_sent_by_its_call_and_for_itself() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "200", OFFER);
    let rings = lab.take(BOB, "INVITE");
    lab.reply(BOB, &rings, 480, "");
    let rings = lab.take(T2, "INVITE");
    lab.reply(T2, &rings, 180, "");
    lab.flush();
    let call = lab.kept.clone();
    lab.handle(Input::HangUpAll);
    let first = lab.take(T2, "CANCEL");
    restarts_with(&mut lab, call);
    let cancels = |lab: &Lab| {
        let to = lab.inbox.iter().filter(|(_, m)| m.method_token() == "CANCEL");
        to.map(|(_, m)| m.via().and_then(|v| v.branch().map(str::to_owned))).collect::<Vec<_>>()
    };
    assert_eq!(cancels(&lab), [first.via().and_then(|v| v.branch().map(str::to_owned))]);
    lab.reply(T2, &first, 200, "");
    lab.reply(T2, &rings, 487, "");
    lab.inbox.clear();
    lab.advance(secs(20));
    assert_eq!(cancels(&lab).len(), 0, "{}", lab.picture());
    lab.expect_idle();
}
