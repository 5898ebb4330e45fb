//! What one user may take of what is there for all.

use crate::lab::*;
use crate::recovery::prove;
use std::time::Duration;
use webtrunk::errors::Code;
use webtrunk::event::Event;
use webtrunk::sip::HeaderName;

const ROUTES: &str = r#"
[[route]]
name = "Refused"
match = "700"
do = [{ hangup = 603 }]
[[route]]
name = "Emergency"
match = "911"
ignore_limits = true
do = [{ dial = ["trunk:t2"] }]
[[route]]
name = "Emergency, nobody there"
match = "912"
ignore_limits = true
do = [{ hangup = 603 }]
"#;

#[test]
fn one_user_cannot_use_up_the_new_calls_of_all() {
    let mut lab = Lab::changed(&[], ROUTES);
    let mut begun = 0;
    for _ in 0..40 {
        lab.invite(ALICE, "700", OFFER);
        if lab.got(ALICE, "603") {
            begun += 1;
        } else {
            let refused = lab.take(ALICE, "503");
            assert!(refused.header(HeaderName::RetryAfter).is_some());
        }
        lab.inbox.clear();
    }
    assert_eq!(begun, 4, "a fifth of the 20 of all");
    lab.invite(BOB, "700", OFFER);
    lab.take(BOB, "603");
    lab.advance(Duration::from_secs(1));
    lab.invite(ALICE, "700", OFFER);
    lab.take(ALICE, "603");
}

#[test]
fn an_emergency_route_keeps_a_cap_per_user() {
    let mut lab = Lab::changed(&[], ROUTES);
    let mut reached = 0;
    for _ in 0..30 {
        lab.invite(ALICE, "911", OFFER);
        reached += usize::from(lab.got(T2, "INVITE"));
        lab.inbox.clear();
        lab.advance(Duration::from_millis(100));
        lab.inbox.clear();
    }
    assert_eq!(reached, 8, "her four, and four more");
    lab.invite(ALICE, "911", OFFER);
    lab.take(ALICE, "486");
    lab.invite(BOB, "911", OFFER);
    assert!(lab.got(T2, "INVITE"), "his own emergency goes");
    let mut begun = 0;
    for _ in 0..30 {
        lab.invite(BOB, "912", OFFER);
        begun += usize::from(lab.got(BOB, "603"));
        lab.inbox.clear();
    }
    assert_eq!(begun, 9, "ten in a minute, with the active one");
}

#[test]
fn an_emergency_route_keeps_a_cap_per_trunk() {
    let emergency =
        "[trunk.t4]\nuri = \"sip:127.0.0.13\"\ncontext = \"phones\"\nmax_calls = 0\n[trunk.t1]";
    let mut lab = Lab::changed(&[("[trunk.t1]", emergency)], ROUTES);
    let (t4, mut reached) = (Peer::Trunk("t4", 13), 0);
    for _ in 0..40 {
        lab.invite(t4, "911", &TRUNK_SDP.replace("127.0.0.10", "127.0.0.13"));
        if lab.got(T2, "INVITE") {
            reached += 1;
            let invite = lab.take(T2, "INVITE");
            lab.reply(T2, &invite, 200, &TRUNK_SDP.replace("127.0.0.10", "127.0.0.11"));
            let ok = lab.take(t4, "200");
            lab.ack(t4, &ok);
        }
        lab.inbox.clear();
        lab.advance(Duration::from_secs(7));
    }
    assert_eq!(reached, 20);
}

#[test]
fn ports_that_are_used_up_are_503_with_a_time_and_a_verdict() {
    let mut lab = Lab::with_phones();
    lab.no_ports = true;
    // Out, with one trunk and with two, and in.
    for number in ["+12065550123", "+2345"] {
        lab.invite(ALICE, number, OFFER);
        let refused = lab.take(ALICE, "503");
        assert_eq!(refused.header(HeaderName::RetryAfter), Some("5"));
        let record = lab.ended().pop().expect("a record");
        assert_eq!(record.verdict.as_ref().map(|v| v.code), Some(Code::PORTS), "{number}");
    }
    lab.invite(T1, "+12065550112", TRUNK_SDP);
    let refused = lab.take(T1, "503");
    assert_eq!(refused.header(HeaderName::RetryAfter), Some("5"));
    lab.no_ports = false;
    lab.invite(ALICE, "+12065550123", OFFER);
    assert!(lab.got(T1, "INVITE"), "once there are some again");
}

/// Each registration is an event, a NOTIFY for each who watches, and a write to the store.
#[test]
fn a_user_registers_so_often_in_a_minute_and_nobody_is_told_of_more() {
    let mut lab = Lab::with_phones();
    lab.advance(Duration::from_secs(61));
    let contact = "Contact: <sip:alice@x.invalid;transport=ws>;reg-id=1;\
        +sip.instance=\"<urn:uuid-a>\";expires=600\r\n";
    let again = |lab: &mut Lab| {
        let text = lab.request(ALICE, "REGISTER", "sip:wt.test", contact, "");
        let text = text.replace("To: <sip:wt.test>", "To: <sip:alice@wt.test>");
        prove(lab, ALICE, &text, ("alice", "secret-a"))
    };
    lab.notes.clear();
    let statuses: Vec<u16> = (0..150).map(|_| again(&mut lab).status()).collect();
    assert_eq!(statuses.iter().filter(|s| **s == 200).count(), 120);
    assert!(statuses[120..].iter().all(|s| *s == 503), "{statuses:?}");
    let told = lab.notes.iter().filter(|n| matches!(n, Event::Registered { .. })).count();
    assert_eq!(told, 120);
    assert!(again(&mut lab).header(HeaderName::RetryAfter).is_some());
    lab.advance(Duration::from_secs(60));
    assert_eq!(again(&mut lab).status(), 200);
}

#[test]
fn of_one_users_refused_calls_the_first_of_a_minute_are_told() {
    let mut lab = Lab::changed(&[], ROUTES);
    let told = |lab: &Lab| {
        let told = |n: &&Event| matches!(n, Event::CallRefused { told: true, .. });
        (lab.notes.iter().filter(told).count(), lab.notes.len())
    };
    lab.notes.clear();
    for _ in 0..100 {
        lab.invite(ALICE, "no-such-number", OFFER);
        lab.take(ALICE, "404");
    }
    assert_eq!(told(&lab), (30, 100), "the rest is counted");
    lab.invite(BOB, "no-such-number", OFFER);
    assert_eq!(told(&lab).0, 31);
    lab.advance(Duration::from_secs(60));
    lab.invite(ALICE, "no-such-number", OFFER);
    assert_eq!(told(&lab).0, 32);
}
