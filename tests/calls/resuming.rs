//! Which reloaded pages may resume a call, and which may not.

use crate::lab::*;
use crate::recovery::prove;
use crate::reload::{
    begun, invite, is_refused, leaves, opens, page, replaces, takes_up, trunk_hangs_up,
};

#[test]
fn nobody_else_takes_a_call_over_though_he_knows_its_dialog() {
    let (mut lab, ok) = begun(true);
    let header = replaces(&ok);
    let wrong = |n: usize| {
        let mut parts: Vec<String> = header.trim_end().split(';').map(str::to_owned).collect();
        parts[n].push('x');
        format!("{}\r\n", parts.join(";"))
    };
    is_refused(&mut lab, BOB, &header, 403);
    let from_trunk = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", &header, TRUNK_SDP);
    lab.says(T1, &from_trunk);
    lab.plays(
        "0.0s t1 → INVITE +12065550111 sdp
         0.0s t1 ← 403 INVITE",
    );
    opens(&mut lab, page(7));
    for (header, status) in [
        (wrong(0), 481),
        (wrong(1), 481),
        (wrong(2), 481),
        (format!("{header}{header}"), 400),
        ("Replaces: unreadable\r\n".to_owned(), 400),
        (header.replace("\r\n", ";early-only\r\n"), 486),
    ] {
        is_refused(&mut lab, page(7), &header, status);
    }
    assert!(lab.media.is_empty(), "{:?}", lab.media);
    lab.plays(
        "0.5s t1 ← 403 INVITE
         1.5s t1 ← 403 INVITE
         3.5s t1 ← 403 INVITE
         7.5s t1 ← 403 INVITE
         11.5s t1 ← 403 INVITE
         15.5s t1 ← 403 INVITE
         19.5s t1 ← 403 INVITE
         23.5s t1 ← 403 INVITE
         27.5s t1 ← 403 INVITE
         31.5s t1 ← 403 INVITE
         60.0s",
    );
    trunk_hangs_up_only(&mut lab, ALICE);
}

/// As [`trunk_hangs_up`], where others were refused meanwhile.
pub(crate) fn trunk_hangs_up_only(lab: &mut Lab, page: Peer) {
    let (at, name) = (lab.seconds(), lab.name_of(page.hop()));
    lab.plays(&format!("{at}s t1 hangs up on {name}"));
    lab.expect_idle();
}

#[test]
fn a_page_proves_who_it_is_before_it_learns_anything() {
    let (mut lab, ok) = begun(true);
    leaves(&mut lab, ALICE);
    crate::recovery::open(&mut lab, page(7));
    let text = lab.request(page(7), "INVITE", "sip:resume@wt.test", &replaces(&ok), OFFER);
    // Bob's password, then none of them registers: the INVITE itself is proved.
    let as_bob = text.replace("sip:alice@wt.test", "sip:bob@wt.test");
    prove(&mut lab, page(7), &as_bob, ("bob", "secret-b"));
    crate::recovery::open(&mut lab, page(8));
    let text = lab.request(page(8), "INVITE", "sip:resume@wt.test", &replaces(&ok), OFFER);
    prove(&mut lab, page(8), &text, ("alice", "secret-a"));
    lab.plays(
        "0.0s flow-7 → INVITE resume sdp
         0.0s flow-7 ← 401 INVITE
         0.0s flow-7 → INVITE resume sdp
         0.0s flow-7 ← 403 INVITE
         0.0s flow-8 → INVITE resume sdp
         0.0s flow-8 ← 401 INVITE
         0.0s flow-8 → INVITE resume sdp
         0.0s flow-8 ← 200 INVITE sdp",
    );
    lab.ack(page(8), &lab.last(page(8), "200 INVITE"));
    lab.plays("0.0s flow-8 → ACK");
    trunk_hangs_up_only(&mut lab, page(8));
}

#[test]
fn an_unanswered_call_is_not_resumed() {
    // Early dialogs are the initiator's to replace (RFC 3891 §3).
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 rings alice",
    );
    let ringing = lab.last(ALICE, "180 INVITE");
    opens(&mut lab, page(7));
    is_refused(&mut lab, page(7), &replaces(&ringing), 481);
    lab.plays("0.0s t1 answers alice");
    trunk_hangs_up_only(&mut lab, ALICE);
}

#[test]
fn a_page_that_reloads_without_end_is_slowed_down() {
    let (mut lab, ok) = begun(true);
    opens(&mut lab, page(7));
    let mut refused = 0;
    let mut seen = ok;
    for _ in 0..50 {
        invite(&mut lab, page(7), &replaces(&seen), OFFER);
        if lab.got(page(7), "503") {
            lab.take(page(7), "503");
            refused += 1;
        } else {
            seen = lab.take(page(7), "200 INVITE");
            lab.ack(page(7), &seen);
        }
    }
    assert!(refused > 0, "a user begins so many calls a second, and takes as many up");
    assert!(!lab.inbox.iter().any(|(hop, _)| *hop == T1.hop()), "{}", lab.picture());
    lab.gateway_hangs_up();
    lab.expect_idle();
}

#[test]
fn a_name_that_is_given_to_several_people_takes_over_nobody_elses_call() {
    // A web application names two visitors alike, and lets them call by different dialplans.
    let mut lab = crate::visitors::lab();
    let visitor = |flow| Peer::Browser("visitor-8c1", flow);
    for (flow, plan) in [(7, "phones"), (8, "incoming"), (9, "phones")] {
        let (name, password) = crate::visitors::for_a_while("visitor-8c1", plan);
        assert_eq!(crate::visitors::log_in(&mut lab, visitor(flow), &name, &password), 200);
    }
    lab.invite(visitor(7), "+12065550123", OFFER);
    lab.plays(
        "0.0s flow-7 calls +12065550123 at t1
         0.0s t1 → 200 INVITE sdp
         0.0s t1 ← ACK
         0.0s flow-7 ← 200 INVITE sdp",
    );
    let ok = lab.last(visitor(7), "200 INVITE");
    lab.ack(visitor(7), &ok);
    lab.plays("0.0s flow-7 → ACK");
    leaves(&mut lab, visitor(7));
    is_refused(&mut lab, visitor(8), &replaces(&ok), 403);
    takes_up(&mut lab, visitor(9), &ok);
    trunk_hangs_up_only(&mut lab, visitor(9));
}

#[test]
fn a_page_that_registers_first_may_still_resume_its_call() {
    for dialled in [true, false] {
        let (mut lab, seen) = begun(dialled);
        leaves(&mut lab, ALICE);
        // Its instance is the one it had, so the gateway looks whether it knows the call.
        lab.log_in(page(7), "secret-a", "uuid-a");
        lab.plays(
            "0.0s alice-7 ← OPTIONS
             0.0s alice-7 → 481 OPTIONS
             4.0s",
        );
        takes_up(&mut lab, page(7), &seen);
        lab.plays("64.0s");
        trunk_hangs_up(&mut lab, page(7));
    }
}

#[test]
fn a_page_reloaded_while_it_rings_is_rung_again_at_its_new_contact() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice rings t1",
    );
    let ringing = lab.last(ALICE, "INVITE");
    leaves(&mut lab, ALICE);
    lab.plays("1.0s");
    let contact = "Contact: <sip:x7@y.invalid;transport=ws>;reg-id=1;\
                   +sip.instance=\"<urn:uuid-a>\";expires=600\r\nSupported: outbound, path\r\n";
    lab.log_in_with(page(7), "secret-a", contact);
    let again = lab.take(page(7), "INVITE");
    assert!(again.request_uri().contains("x7@y.invalid"), "{}", again.request_uri());
    assert_eq!(again.call_id(), ringing.call_id());
    lab.reply_as(page(7), &again, 180, "", "page");
    // What the page before said late says nothing.
    lab.plays(
        "1.0s alice-7 ← INVITE sdp
         1.0s alice-7 rings t1
         1.0s alice → 480 INVITE",
    );
    lab.reply_as(page(7), &again, 200, ANSWER, "page");
    lab.take(page(7), "ACK");
    lab.plays(
        "1.0s alice-7 answers t1
         61.0s",
    );
    assert_eq!(lab.gateway.gauges().calls, 1, "{}", lab.picture());
    lab.plays("61.0s t1 hangs up on alice-7");
    let bye = lab.take(page(7), "BYE");
    lab.reply(page(7), &bye, 200, "");
    lab.plays("61.0s alice-7 → 200 BYE");
    lab.expect_idle();
}
