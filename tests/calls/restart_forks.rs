//! A gateway that is killed while more than one party has to do with an INVITE of its: forks that
//! answered both, phones that another's answer silenced, trunks that were given up.

use crate::lab::*;
use crate::restart::{AWAY, BACK, comes_back, knows_its_call};
use crate::restart_routes::ends_well;
use std::time::Duration;
use webtrunk::errors::Code;
use webtrunk::gateway::Input;
use webtrunk::sip::transaction::Flow;

/// A proxy behind the trunk forked, and two phones were picked up at once.
#[test]
fn a_goodbye_to_one_fork_does_not_end_the_call_with_the_other() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    lab.reply_as(T1, &invite, 200, TRUNK_SDP, "one");
    lab.take(T1, "ACK");
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    lab.reply_as(T1, &invite, 200, TRUNK_SDP, "two");
    lab.take(T1, "ACK");
    let first = lab.take(T1, "BYE");
    assert_eq!(first.to().and_then(|to| to.tag()), Some("two"));
    lab.inbox.clear();
    lab.restart(AWAY);
    let again = lab.take(T1, "BYE");
    assert_eq!(again.to_bytes(), first.to_bytes(), "{}", lab.picture());
    lab.reply(T1, &again, 200, "");
    assert!(lab.ended().is_empty(), "{}", lab.picture());
    ends_well(&mut lab, &ok, T1);
}

/// Its connection was lost while it rang, so it does not know that another was picked up.
#[test]
fn a_phone_that_was_away_when_another_answered_stops_ringing_after_a_restart() {
    for back in [true, false] {
        let mut lab = Lab::with_phones();
        let contact = "Contact: <sip:bob5@x.invalid;transport=ws>;reg-id=1;\
            +sip.instance=\"<urn:uuid-5>\"\r\nSupported: outbound, path\r\n";
        let other = Peer::Browser("bob", 5);
        lab.log_in_with(other, "secret-b", contact);
        lab.invite(ALICE, "201", OFFER);
        let rang = lab.take(other, "INVITE");
        lab.reply(other, &rang, 180, "");
        lab.handle(Input::FlowClosed { flow: Flow(5) });
        let invite = lab.take(BOB, "INVITE");
        lab.reply(BOB, &invite, 200, ANSWER);
        lab.take(BOB, "ACK");
        let ok = lab.take(ALICE, "200");
        lab.ack(ALICE, &ok);
        lab.inbox.clear();
        lab.restart(AWAY);
        let again = Peer::Browser("bob", 6);
        if back {
            lab.log_in_with(again, "secret-b", contact);
            let cancel = lab.take(again, "CANCEL");
            assert_eq!(cancel.call_id(), rang.call_id());
            lab.reply(again, &cancel, 200, "");
            lab.reply(again, &rang, 487, "");
        }
        lab.advance(Duration::from_secs(40));
        // Nothing is left of it that another restart would end the call for.
        assert!(lab.on_disk()[0].is_settled());
        lab.inbox.clear();
        lab.restart(AWAY);
        assert!(lab.ended().is_empty(), "{}", lab.picture());
        let bob = Peer::Browser("bob", 8);
        lab.log_in(bob, "secret-b", "uuid-b");
        knows_its_call(&mut lab, bob);
        ends_well(&mut lab, &ok, bob);
    }
}

/// t2 never said that it was cancelled; the trunk after it rings.
#[test]
fn what_was_given_up_before_a_restart_stands_once_in_the_record() {
    let route = "[[route]]\nname = \"Answered, then bob\"\nmatch = \"301\"\ndo = [{ answer = true }, \
        { dial = [\"trunk:t2\"], timeout = \"5s\" }, { dial = [\"trunk:t1\"], to = \"+1777\" }]\n";
    let mut lab = Lab::changed(&[], route);
    lab.invite(ALICE, "301", OFFER);
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    let given_up = lab.take(T2, "INVITE");
    lab.reply(T2, &given_up, 180, "");
    lab.advance(Duration::from_secs(5));
    lab.take(T2, "CANCEL");
    let rang = lab.take(T1, "INVITE");
    lab.reply(T1, &rang, 180, "");
    lab.inbox.clear();
    lab.restart(AWAY);
    assert_eq!(lab.take(T2, "CANCEL").call_id(), given_up.call_id());
    lab.reply(T2, &given_up, 487, "");
    lab.take(T1, "CANCEL");
    lab.reply(T1, &rang, 487, "");
    lab.inbox.clear();
    lab.advance(Duration::from_secs(1));
    let again = lab.take(T1, "INVITE");
    lab.reply(T1, &again, 200, TRUNK_SDP);
    lab.take(T1, "ACK");
    ends_well(&mut lab, &ok, T1);
    let tried: Vec<_> =
        lab.ended()[0].tried.iter().map(|t| (t.target.to_string(), t.status)).collect();
    let (one, two) = ("trunk t1".to_owned(), "trunk t2".to_owned());
    assert_eq!(tried, [(two, None), (one.clone(), None), (one, Some(200))]);
}

/// It is waited for as long as its step lasts; nobody talks to it.
#[test]
fn a_browser_that_rang_before_a_restart_and_stays_away_ends_no_call() {
    let route = "[[route]]\nname = \"Answered, then bob\"\nmatch = \"301\"\ndo = [{ answer = true }, \
        { ring = [\"user:bob\"] }, { dial = [\"trunk:t1\"], to = \"+1777\" }]\n";
    let mut lab = Lab::changed(&[], route);
    lab.invite(ALICE, "301", OFFER);
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    let rang = lab.take(BOB, "INVITE");
    lab.reply(BOB, &rang, 180, "");
    lab.inbox.clear();
    lab.restart(AWAY);
    comes_back(&mut lab);
    knows_its_call(&mut lab, BACK);
    lab.advance(Duration::from_secs(11));
    let next = lab.take(T1, "INVITE");
    lab.reply(T1, &next, 200, TRUNK_SDP);
    lab.take(T1, "ACK");
    lab.advance(Duration::from_secs(600));
    assert!(lab.ended().is_empty(), "{}", lab.picture());
    let bye = lab.in_dialog(BACK, &ok, "BYE", 9_000, "", "");
    lab.says(BACK, &bye);
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 200, "");
    assert_eq!(lab.ended().iter().map(|r| r.code).collect::<Vec<_>>(), [Code::FINE]);
    lab.expect_idle();
}
