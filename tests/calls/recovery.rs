//! A browser that lost its WebSocket and returns over another: the account identifies it.

use crate::lab::*;
use std::time::Duration;
use webtrunk::gateway::{FlowKind, Input};
use webtrunk::sip::transaction::Flow;
use webtrunk::sip::{HeaderName, Message};

const BACK: Peer = Peer::Browser("alice", 7);

pub(crate) fn open(lab: &mut Lab, peer: Peer) {
    let Peer::Browser(_, flow) = peer else { panic!("only browsers have flows") };
    let remote = std::net::SocketAddr::from(([127, 0, 0, 20], 40_000));
    lab.handle(Input::FlowOpened { flow: Flow(flow), kind: FlowKind::WebSocket, remote });
}

pub(crate) fn close(lab: &mut Lab, peer: Peer) {
    let Peer::Browser(_, flow) = peer else { panic!("only browsers have flows") };
    lab.handle(Input::FlowClosed { flow: Flow(flow) });
}

/// Sends a request, and again with credentials where it is challenged; the response.
pub(crate) fn prove(
    lab: &mut Lab,
    peer: Peer,
    text: &str,
    (user, password): (&str, &str),
) -> Message {
    lab.says(peer, text);
    if lab.got(peer, "401") {
        let before = lab.gateway.gauges().transactions;
        let challenge = lab.take(peer, "401");
        let again = lab.answer_challenge(&challenge, text, user, password);
        assert_eq!(lab.gateway.gauges().transactions, before, "a challenge makes no state");
        lab.says(peer, &again);
    }
    let at = lab.inbox.iter().position(|(hop, m)| *hop == peer.hop() && m.status() > 100);
    let at = at.unwrap_or_else(|| panic!("no response\n{}", lab.picture()));
    lab.inbox.remove(at).expect("it is there").1
}

fn trunk_hangs_up(lab: &mut Lab, browser: Peer) {
    let (at, name) = (lab.seconds(), lab.name_of(browser.hop()));
    lab.plays(&format!("{at}s t1 hangs up on {name}"));
    lab.expect_idle();
}

/// A call to alice from the trunk, answered: the INVITE she got.
pub(crate) fn called(lab: &mut Lab) -> (Message, Message) {
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice answers t1",
    );
    (lab.last(ALICE, "INVITE"), lab.last(T1, "200 INVITE"))
}

#[test]
fn any_request_of_the_same_account_resumes_the_call_without_register() {
    for (method, extra, body, status) in [
        ("INVITE", "Contact: <sip:alice@y.invalid;transport=ws>\r\n", OFFER, 200),
        ("UPDATE", "Contact: <sip:alice@y.invalid;transport=ws>\r\n", "", 200),
        ("INFO", "", "", 200),
        ("OPTIONS", "", "", 200),
        ("REFER", "", "", 400),
        ("MESSAGE", "", "", 405),
    ] {
        for dialled in [true, false] {
            let mut lab = Lab::with_phones();
            let (seen, _) = if dialled { lab.talk("+12065550123") } else { called(&mut lab) };
            close(&mut lab, ALICE);
            lab.plays("5.0s");
            open(&mut lab, BACK);
            let text = lab.in_dialog_with(BACK, &seen, method, 700, extra, body);
            let answer = prove(&mut lab, BACK, &text, ("alice", "secret-a"));
            let sdp = if body.is_empty() { "" } else { " sdp" };
            let (offered, answered) = (format!("{method}{sdp}"), format!("{status} {method}{sdp}"));
            let (mut trying, mut acknowledged) = ("", "");
            if method == "INVITE" {
                lab.ack(BACK, &answer);
                (trying, acknowledged) = ("5.0s flow-7 ← 100 INVITE", "5.0s flow-7 → ACK");
            }
            lab.plays(&format!(
                "5.0s flow-7 → {offered}
                 5.0s flow-7 ← 401 {method}
                 5.0s flow-7 → {offered}
                 {trying}
                 5.0s flow-7 ← {answered}
                 {acknowledged}
                 65.0s"
            ));
            assert_eq!(lab.gateway.gauges().calls, 1, "{method}: the grace timer was stopped");
            trunk_hangs_up(&mut lab, BACK);
            if !dialled {
                let bye = lab.last(BACK, "BYE");
                let target = bye.request_uri().contains("y.invalid");
                assert_eq!(target, !extra.is_empty(), "{method}: its Contact");
            }
        }
    }
}

#[test]
fn a_bye_over_a_new_flow_ends_the_call_at_once_on_both_sides() {
    for dialled in [true, false] {
        let mut lab = Lab::with_phones();
        let (seen, _) = if dialled { lab.talk("+12065550123") } else { called(&mut lab) };
        close(&mut lab, ALICE);
        open(&mut lab, BACK);
        let bye = lab.in_dialog(BACK, &seen, "BYE", 700, "peer", "");
        prove(&mut lab, BACK, &bye, ("alice", "secret-a"));
        lab.plays(
            "0.0s flow-7 → BYE
             0.0s flow-7 ← 401 BYE
             0.0s flow-7 → BYE
             0.0s flow-7 ← 200 BYE
             0.0s t1 ← BYE
             0.0s t1 → 200 BYE",
        );
        lab.expect_idle();
    }
}

#[test]
fn nobody_else_takes_a_call_up_and_learns_of_it_only_by_proof() {
    let third = Peer::Browser("alice", 8);
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    close(&mut lab, ALICE);
    // Bob has proved to be Bob.
    let before = lab.gateway.gauges();
    let bye = lab.in_dialog(BOB, &ok, "BYE", 700, "peer", "");
    lab.says(BOB, &bye);
    lab.plays(
        "0.0s bob → BYE
         0.0s bob ← 481 BYE",
    );
    open(&mut lab, BACK);
    let bye = lab.in_dialog(BACK, &ok, "BYE", 701, "peer", "");
    assert_eq!(prove(&mut lab, BACK, &bye, ("bob", "secret-b")).status(), 403);
    let ack = lab.in_dialog(BACK, &ok, "ACK", 702, "", "");
    lab.says(BACK, &ack);
    assert_eq!(lab.gateway.gauges().transactions, before.transactions);
    lab.log_in(third, "secret-a", "uuid-a");
    lab.plays(
        "0.0s flow-7 → BYE
         0.0s flow-7 ← 401 BYE
         0.0s flow-7 → BYE
         0.0s flow-7 ← 403 BYE
         0.0s flow-7 → ACK
         0.0s alice-8 ← OPTIONS
         0.0s alice-8 → 200 OPTIONS
         0.0s t1 hangs up on alice-8",
    );
    lab.expect_idle();
}

#[test]
fn a_client_without_instance_that_registers_the_same_contact_again_is_back() {
    let contact = "Contact: <sip:x7@alice.invalid;transport=ws>;expires=600\r\n";
    for (again, found) in [(contact.to_owned(), true), (contact.replace("x7", "x8"), false)] {
        let mut lab = Lab::with_phones();
        let caller = Peer::Browser("alice", 30);
        lab.log_in_with(caller, "secret-a", contact);
        let text = lab
            .request(caller, "INVITE", "sip:+12065550123@wt.test", contact, OFFER)
            .replace(";expires=600", "");
        lab.says(caller, &text);
        lab.plays(
            "0.0s alice-30 calls +12065550123 at t1
             0.0s t1 answers alice-30",
        );
        close(&mut lab, caller);
        lab.log_in_with(BACK, "secret-a", &again);
        if found {
            lab.plays(
                "0.0s alice-7 ← OPTIONS
                 0.0s alice-7 → 200 OPTIONS
                 0.0s t1 hangs up on alice-7",
            );
        } else {
            // Another device of hers is left alone.
            lab.plays(
                "30.0s t1 ← BYE
                 30.0s t1 → 200 BYE",
            );
        }
        lab.expect_idle();
    }
}

#[test]
fn a_200_retransmitted_while_the_browser_is_away_is_acknowledged_over_its_new_flow() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 → 200 INVITE sdp
         0.0s t1 ← ACK
         0.0s alice ← 200 INVITE sdp",
    );
    close(&mut lab, ALICE);
    lab.plays("3.0s");
    lab.log_in(BACK, "secret-a", "uuid-a");
    lab.plays(
        "3.0s alice-7 ← 200 INVITE sdp
         3.0s alice-7 ← OPTIONS
         3.0s alice-7 → ACK
         3.0s alice-7 → 200 OPTIONS
         63.0s",
    );
    assert_eq!(lab.gateway.gauges().calls, 1);
    trunk_hangs_up(&mut lab, BACK);
}

#[test]
fn two_tabs_of_one_instance_leave_each_other_and_their_calls_alone() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    for at in ["0.0", "20.0", "40.0"] {
        lab.log_in(Peer::Browser("alice", 8), "secret-a", "uuid-a");
        lab.plays(&format!(
            "{at}s alice ← OPTIONS
             {at}s alice → 200 OPTIONS"
        ));
        lab.advance(Duration::from_secs(20));
        // Its call is where it was: it is not asked.
        lab.log_in(ALICE, "secret-a", "uuid-a");
    }
    lab.plays("60.0s");
    assert!(lab.closed_flows.is_empty(), "{:?}", lab.closed_flows);
    assert_eq!(lab.gateway.gauges().bindings, 2, "one of alice's, one of bob's");
    trunk_hangs_up(&mut lab, ALICE);
}

#[test]
fn a_ringing_browser_that_is_back_in_time_keeps_ringing_over_its_new_flow() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice rings t1",
    );
    let ringing = lab.last(ALICE, "INVITE");
    close(&mut lab, ALICE);
    lab.plays("4.0s");
    assert!(!lab.got(T1, "480") && !lab.got(T1, "500"), "{}", lab.picture());
    lab.log_in(BACK, "secret-a", "uuid-a");
    lab.plays(
        "4.0s alice-7 ← INVITE sdp
         4.0s alice-7 answers t1
         4.0s t1 hangs up on alice-7",
    );
    let again = lab.last(BACK, "INVITE");
    assert_eq!(again.to_bytes(), ringing.to_bytes(), "the same INVITE: no second ringing");
    lab.expect_idle();
}

#[test]
fn a_browser_that_rang_and_comes_back_too_late_gets_its_cancel() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice rings t1",
    );
    close(&mut lab, ALICE);
    lab.plays(
        "0.0s t1 → CANCEL
         0.0s t1 ← 200 CANCEL
         0.0s t1 ← 487 INVITE
         0.0s alice ← CANCEL",
    );
    lab.log_in(BACK, "secret-a", "uuid-a");
    lab.plays(
        "0.0s alice-7 ← CANCEL    // no ghost rings
         0.0s alice-7 → 200 CANCEL
         0.0s alice-7 → 487 INVITE
         0.0s alice-7 ← ACK",
    );
    lab.expect_idle();
}

#[test]
fn a_browser_that_never_comes_back_to_its_ringing_is_unanswered_after_the_ring_time() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice rings t1",
    );
    close(&mut lab, ALICE);
    lab.plays(
        "14.9s
         15.0s alice ← CANCEL
         15.0s t1 ← 480 INVITE
         15.1s",
    );
    lab.expect_idle();
}

#[test]
fn a_caller_who_is_away_while_it_rings_hears_the_answer_when_it_is_back() {
    for answered_first in [true, false] {
        let mut lab = Lab::with_phones();
        lab.plays(
            "0.0s alice calls +12065550123 at t1
             0.0s t1 rings alice",
        );
        close(&mut lab, ALICE);
        lab.plays("3.0s");
        if answered_first {
            lab.plays(
                "3.0s t1 → 200 INVITE sdp
                 3.0s t1 ← ACK",
            );
            lab.log_in(BACK, "secret-a", "uuid-a");
            lab.plays(
                "3.0s alice-7 ← 200 INVITE sdp
                 3.0s alice-7 ← OPTIONS
                 3.0s alice-7 → ACK
                 3.0s alice-7 → 200 OPTIONS",
            );
        } else {
            lab.log_in(BACK, "secret-a", "uuid-a");
            lab.plays(
                "3.0s alice-7 ← 180 INVITE
                 3.0s t1 answers alice-7",
            );
        }
        lab.plays("43.0s");
        assert_eq!(lab.gateway.gauges().calls, 1, "{}", lab.picture());
        trunk_hangs_up(&mut lab, BACK);
    }
}

/// Some clients wait on for as long as nobody says anything.
#[test]
fn a_caller_who_is_away_hears_that_it_was_refused_when_it_is_back() {
    for rings in [false, true] {
        let mut lab = Lab::with_phones();
        lab.plays("0.0s alice calls +12065550123 at t1");
        if rings {
            lab.plays("0.0s t1 rings alice");
        }
        let invited = lab.last(ALICE, "100").call_id().to_owned();
        close(&mut lab, ALICE);
        lab.plays(if rings {
            "3.0s t1 → 486 INVITE
             3.0s t1 ← ACK"
        } else {
            "0.5s t1 ← INVITE sdp
             1.5s t1 ← INVITE sdp
             3.0s t1 → 486 INVITE
             3.0s t1 ← ACK"
        });
        assert_eq!(lab.ended().len(), 1, "its record waits for nobody");
        lab.plays("23.0s");
        lab.log_in(BACK, "secret-a", "uuid-a");
        // There is no dialog of which it could be asked.
        lab.plays("23.0s alice-7 ← 486 INVITE");
        let refused = lab.last(BACK, "486");
        assert_eq!((refused.call_id(), lab.ended().len()), (invited.as_str(), 1));
        lab.expect_idle();
    }
}

#[test]
fn a_caller_who_never_comes_back_for_its_refusal_leaves_nothing() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    close(&mut lab, ALICE);
    lab.plays(
        "0.0s t1 → 486 INVITE
         0.0s t1 ← ACK
         33.0s",
    );
    lab.log_in(BACK, "secret-a", "uuid-a");
    lab.plays("33.0s");
    lab.expect_idle();
}

#[test]
fn an_invite_that_comes_again_by_another_flow_is_answered_there_and_to_its_account_only() {
    let mut lab = Lab::with_phones();
    let invited = lab.invite(ALICE, "+12065550123", OFFER);
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 rings alice",
    );
    close(&mut lab, ALICE);
    // Nobody else learns anything by it.
    let before = lab.gateway.gauges().transactions;
    lab.says(BOB, &invited);
    let stranger = Peer::Browser("alice", 9);
    open(&mut lab, stranger);
    lab.says(stranger, &invited);
    lab.plays(
        "0.0s bob → INVITE +12065550123 sdp
         0.0s bob ← 401 INVITE
         0.0s flow-9 → INVITE +12065550123 sdp
         0.0s flow-9 ← 401 INVITE",
    );
    assert_eq!(lab.gateway.gauges().transactions, before);
    lab.log_in(BACK, "secret-a", "uuid-z");
    lab.says(BACK, &invited);
    lab.plays(
        "0.0s alice-7 → INVITE +12065550123 sdp
         0.0s alice-7 ← 180 INVITE
         0.0s t1 answers alice-7
         40.0s",
    );
    trunk_hangs_up(&mut lab, BACK);
}

#[test]
fn a_caller_who_stays_away_ends_the_ringing_after_the_grace_time() {
    let mut lab = Lab::changed(&[("[sip]\n", "[sip]\nflow_grace = \"5s\"\n")], "");
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 rings alice",
    );
    close(&mut lab, ALICE);
    lab.plays(
        "5.0s t1 ← CANCEL
         5.1s t1 → 200 CANCEL
         5.1s t1 → 487 INVITE
         5.1s t1 ← ACK",
    );
    lab.expect_idle();
}

#[test]
fn a_to_tag_or_a_cancel_that_names_nothing_of_ours_makes_no_state() {
    let mut lab = Lab::with_phones();
    let before = lab.gateway.gauges().transactions;
    let stranger = Peer::Browser("nobody", 9);
    open(&mut lab, stranger);
    for peer in [stranger, ALICE, T1] {
        for method in ["INVITE", "BYE", "OPTIONS", "INFO", "CANCEL"] {
            let text = lab.request(peer, method, "sip:x@wt.test", "", "");
            let text = text.replace("To: <sip:x@wt.test>", "To: <sip:x@wt.test>;tag=none");
            lab.says(peer, &text);
            let answer = lab.take(peer, "481");
            assert!(Lab::header(&answer, HeaderName::To).ends_with(";tag=none"));
        }
    }
    assert!(lab.gateway.gauges().transactions <= before);
}

#[test]
fn a_cancel_counts_only_from_the_account_of_its_invite() {
    let mut lab = Lab::with_phones();
    let invited = lab.invite(ALICE, "+12065550123", OFFER);
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 rings alice",
    );
    let stranger = Peer::Browser("alice", 9);
    open(&mut lab, stranger);
    for peer in [stranger, BOB] {
        lab.cancel(peer, &invited);
        lab.take(peer, "481");
    }
    lab.plays(
        "0.0s flow-9 → CANCEL
         0.0s flow-9 ← 481 CANCEL
         0.0s bob → CANCEL
         0.0s bob ← 481 CANCEL
         0.0s alice gives up on t1",
    );
    lab.expect_idle();
}

/// A call dialled by alice, whose browser agrees to a session of 90 s.
fn refreshed_call(lab: &mut Lab, allow: &str) {
    let timer = format!("Supported: timer\r\nAllow: {allow}\r\nSession-Expires: 90\r\n");
    lab.adds(ALICE, "INVITE", &timer);
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice",
    );
    let ok = lab.last(ALICE, "200 INVITE");
    assert_eq!(Lab::header(&ok, HeaderName::SessionExpires), "90;refresher=uas");
}

/// The session's refreshes are ours wherever RFC 4028 lets them be, so there is no second of a call
/// at which a drop of the WebSocket ends it: what was due meanwhile waits for the next flow, and
/// what was open is asked again there.
#[test]
fn a_drop_at_any_second_of_a_session_is_harmless() {
    for allow in ["INVITE, ACK, BYE, UPDATE", "INVITE, ACK, BYE"] {
        for second in 0..=180 {
            for unanswered in [false, true] {
                let mut lab = Lab::with_phones();
                refreshed_call(&mut lab, allow);
                // The refresh of the last second is still on its way when the connection dies.
                refreshes(&mut lab, ALICE, second - u64::from(unanswered && second > 0));
                lab.advance(Duration::from_secs(u64::from(unanswered && second > 0)));
                close(&mut lab, ALICE);
                lab.inbox.clear();
                lab.advance(Duration::from_secs(25));
                lab.log_in(BACK, "secret-a", "uuid-a");
                let probe = lab.take(BACK, "OPTIONS");
                lab.reply(BACK, &probe, 200, "");
                let seen = refreshes(&mut lab, BACK, 225);
                assert!(seen >= 5, "{allow}, after {second} s: {seen} refreshes");
                assert_eq!(lab.gateway.gauges().calls, 1, "{allow}, after {second} s");
                assert!(lab.inbox.iter().all(|(hop, _)| *hop != T1.hop()), "the trunk hears of it");
                let bye = lab.in_dialog(T1, &lab.last(T1, "INVITE"), "BYE", 900, "peer", "");
                lab.says(T1, &bye);
                let bye = lab.take(BACK, "BYE");
                lab.reply(BACK, &bye, 200, "");
                lab.expect_idle();
            }
        }
    }
}

/// Answers session refreshes for so many seconds; how many there were.
fn refreshes(lab: &mut Lab, peer: Peer, seconds: u64) -> usize {
    let mut seen = 0;
    for _ in 0..seconds {
        lab.advance(Duration::from_secs(1));
        for method in ["UPDATE", "INVITE"] {
            while lab.got(peer, method) {
                let refresh = lab.take(peer, method);
                let granted = "Supported: timer\r\nSession-Expires: 90;refresher=uac\r\n";
                let body = if method == "INVITE" { ANSWER } else { "" };
                lab.reply_with(peer, &refresh, 200, body, "peer", granted);
                if method == "INVITE" {
                    lab.take(peer, "ACK");
                }
                seen += 1;
            }
        }
    }
    seen
}
