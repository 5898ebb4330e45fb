//! A page that is reloaded, or crashes and is opened again: it takes its call up by an INVITE with
//! Replaces of its own former dialog, and the other side gets no message.

use crate::lab::*;
use crate::recovery::{called, close};
use crate::resuming::trunk_hangs_up_only;
use std::time::Duration;
use webtrunk::errors::Code;
use webtrunk::gateway::Input;
use webtrunk::sip::transaction::Flow;
use webtrunk::sip::{HeaderName, Message};
use webtrunk::worker::WorkerCommand;

/// A page of alice's, by the WebSocket it has; no page knows another's instance.
pub(crate) fn page(flow: u64) -> Peer {
    Peer::Browser("alice", flow)
}

pub(crate) fn opens(lab: &mut Lab, page: Peer) {
    let Peer::Browser(name, flow) = page else { panic!("a page") };
    let password = if name == "bob" { "secret-b" } else { "secret-a" };
    lab.log_in(page, password, &format!("page-{flow}"));
}

/// The browser leaves its page: it announces that, and closes the WebSocket.
pub(crate) fn leaves(lab: &mut Lab, page: Peer) {
    let Peer::Browser(_, flow) = page else { panic!("a page") };
    lab.handle(Input::PageLeft { flow: Flow(flow) });
    close(lab, page);
}

/// The dialog of a page as a Replaces header: of the 200 it got, or of the INVITE it answered.
pub(crate) fn replaces(seen: &Message) -> String {
    let tag = |address: Option<&str>| {
        address.and_then(|a| Some(a.split_once(";tag=")?.1.to_owned())).unwrap_or("peer".into())
    };
    let (to, from) = (tag(seen.header(HeaderName::To)), tag(seen.header(HeaderName::From)));
    let (ours, theirs) = if seen.is_request() { (from, to) } else { (to, from) };
    format!("Replaces: {};to-tag={ours};from-tag={theirs}\r\n", seen.call_id())
}

/// INVITE of a page with this Replaces.
pub(crate) fn invite(lab: &mut Lab, page: Peer, header: &str, sdp: &str) {
    let text = lab.request(page, "INVITE", "sip:resume@wt.test", header, sdp);
    lab.says(page, &text);
}

/// The page takes the call up: its 200, acknowledged.
pub(crate) fn takes_up(lab: &mut Lab, page: Peer, seen: &Message) -> Message {
    let header = replaces(seen);
    invite(lab, page, &header, OFFER);
    let (at, name) = (lab.seconds(), lab.name_of(page.hop()));
    lab.plays(&format!(
        "{at}s {name} → INVITE resume sdp
         {at}s {name} ← 200 INVITE sdp
         {at}s {name} → ACK"
    ));
    lab.last(page, "200 INVITE")
}

/// As [`takes_up`], from `old`, which is still open and says goodbye.
fn takes_over(lab: &mut Lab, page: Peer, old: Peer, seen: &Message) -> Message {
    let header = replaces(seen);
    invite(lab, page, &header, OFFER);
    let (at, name) = (lab.seconds(), lab.name_of(page.hop()));
    let before = lab.name_of(old.hop());
    lab.plays(&format!(
        "{at}s {name} → INVITE resume sdp
         {at}s {before} ← BYE
         {at}s {name} ← 200 INVITE sdp
         {at}s {name} → ACK
         {at}s {before} → 200 BYE"
    ));
    lab.last(page, "200 INVITE")
}

/// The page is refused with this status.
pub(crate) fn is_refused(lab: &mut Lab, page: Peer, header: &str, status: u16) {
    invite(lab, page, header, OFFER);
    let (at, name) = (lab.seconds(), lab.name_of(page.hop()));
    lab.plays(&format!(
        "{at}s {name} → INVITE resume sdp
         {at}s {name} ← {status} INVITE"
    ));
}

/// The page is reloaded, and its successor takes the call up: its 200, acknowledged.
fn reloads(lab: &mut Lab, page: Peer, next: Peer, seen: &Message) -> Message {
    leaves(lab, page);
    opens(lab, next);
    takes_up(lab, next, seen)
}

/// The trunk hangs up: the page gets a BYE, and the one call has one record.
pub(crate) fn trunk_hangs_up(lab: &mut Lab, page: Peer) {
    trunk_hangs_up_only(lab, page);
    let records = lab.ended();
    assert_eq!(records.len(), 1, "one call is one record");
    assert_eq!(records[0].code, Code::FINE);
}

/// A call of alice's page 1 to the trunk, or of the trunk to it; what she saw of it.
pub(crate) fn begun(dialled: bool) -> (Lab, Message) {
    let mut lab = Lab::with_phones();
    let (seen, _) = if dialled { lab.talk("+12065550123") } else { called(&mut lab) };
    lab.inbox.clear();
    lab.media.clear();
    (lab, seen)
}

#[test]
fn a_reloaded_page_resumes_its_call_without_a_message_to_the_trunk() {
    let (mut lab, ok) = begun(true);
    leaves(&mut lab, ALICE);
    lab.plays("1.0s");
    let before = lab.gateway.gauges();
    opens(&mut lab, page(7));
    takes_up(&mut lab, page(7), &ok);
    assert_eq!(lab.gateway.gauges().calls, before.calls, "it is the same call");
    lab.plays("301.0s");
    trunk_hangs_up(&mut lab, page(7));
}

#[test]
fn reload_after_reload_takes_the_call_up_each_time() {
    for dialled in [true, false] {
        let (mut lab, mut seen) = begun(dialled);
        leaves(&mut lab, ALICE);
        for flow in 7..27 {
            lab.advance(Duration::from_secs(2));
            opens(&mut lab, page(flow));
            seen = takes_up(&mut lab, page(flow), &seen);
            lab.advance(Duration::from_secs(3));
            leaves(&mut lab, page(flow));
        }
        opens(&mut lab, page(30));
        takes_up(&mut lab, page(30), &seen);
        lab.plays("220.0s");
        trunk_hangs_up(&mut lab, page(30));
    }
}

#[test]
fn media_of_the_leg_begins_anew_where_it_is_and_the_other_leg_is_left_alone() {
    let (mut lab, ok) = begun(true);
    reloads(&mut lab, ALICE, page(7), &ok);
    let statuses: Vec<(&str, u16)> = lab
        .media
        .iter()
        .map(|command| match command {
            WorkerCommand::Away { end, away: true, .. } => ("away", end.0),
            WorkerCommand::Renew { end, .. } => ("renew", end.0),
            WorkerCommand::Configure { end, .. } => ("configure", end.0),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(statuses, [("away", 0), ("renew", 0), ("configure", 0)]);
    trunk_hangs_up(&mut lab, page(7));
}

#[test]
fn a_page_that_never_learned_of_its_newest_dialog_is_found_by_an_older_one() {
    for dialled in [true, false] {
        let (mut lab, seen) = begun(dialled);
        leaves(&mut lab, ALICE);
        // Reloaded again before the 200 was there, twice.
        for flow in [7, 8] {
            opens(&mut lab, page(flow));
            invite(&mut lab, page(flow), &replaces(&seen), OFFER);
            lab.plays(&format!(
                "0.0s alice-{flow} → INVITE resume sdp
                 0.0s alice-{flow} ← 200 INVITE sdp"
            ));
            leaves(&mut lab, page(flow));
        }
        opens(&mut lab, page(9));
        takes_up(&mut lab, page(9), &seen);
        lab.plays("60.0s");
        trunk_hangs_up(&mut lab, page(9));
    }
}

#[test]
fn what_may_still_be_named_has_an_end() {
    let (mut lab, first) = begun(true);
    let mut seen = first.clone();
    for flow in 7..16 {
        opens(&mut lab, page(flow));
        let of = if flow == 7 { ALICE } else { page(flow - 1) };
        seen = takes_over(&mut lab, page(flow), of, &seen);
        leaves(&mut lab, of);
        lab.advance(Duration::from_secs(40));
        // The trunk's dialog, the page's own, and four of those before.
        assert_eq!(lab.gateway.gauges().dialogs, 6.min(flow as usize - 4), "{flow}");
    }
    opens(&mut lab, page(20));
    is_refused(&mut lab, page(20), &replaces(&first), 481);
    takes_over(&mut lab, page(20), page(15), &seen);
    trunk_hangs_up_only(&mut lab, page(20));
}

#[test]
fn a_replaced_page_that_is_still_open_gets_a_bye_and_its_own_bye_ends_nothing() {
    for dialled in [true, false] {
        let (mut lab, seen) = begun(dialled);
        opens(&mut lab, page(7));
        invite(&mut lab, page(7), &replaces(&seen), OFFER);
        lab.plays(
            "0.0s alice-7 → INVITE resume sdp
             0.0s alice ← BYE
             0.0s alice-7 ← 200 INVITE sdp
             0.0s alice-7 → ACK",
        );
        assert_eq!(lab.last(ALICE, "BYE").call_id(), seen.call_id());
        // Its own BYE has crossed ours.
        let own = lab.in_dialog(ALICE, &seen, "BYE", 90, "peer", "");
        lab.says(ALICE, &own);
        lab.plays(
            "0.0s alice → BYE
             0.0s alice ← 481 BYE
             0.0s alice → 481 BYE
             60.0s",
        );
        assert_eq!(lab.gateway.gauges().calls, 1, "{dialled}\n{}", lab.picture());
        trunk_hangs_up(&mut lab, page(7));
    }
}

#[test]
fn a_page_that_hangs_up_while_it_unloads_ends_its_call() {
    let (mut lab, ok) = begun(true);
    lab.plays("0.0s alice hangs up on t1");
    leaves(&mut lab, ALICE);
    opens(&mut lab, page(7));
    is_refused(&mut lab, page(7), &replaces(&ok), 481);
    lab.expect_idle();
}

#[test]
fn the_call_ends_under_a_page_that_takes_it_up() {
    let (mut lab, ok) = begun(true);
    leaves(&mut lab, ALICE);
    opens(&mut lab, page(7));
    lab.plays(
        "0.0s t1 → BYE
         0.0s t1 ← 200 BYE",
    );
    is_refused(&mut lab, page(7), &replaces(&ok), 481);
    assert_eq!(lab.ended().len(), 1);
    lab.expect_idle();
}

#[test]
fn a_call_on_hold_can_be_resumed_by_either_side() {
    // The page had put the trunk on hold.
    let (mut lab, ok) = begun(true);
    lab.plays(
        "0.0s alice → INVITE sdp sendonly
         0.0s alice ← 100 INVITE
         0.0s alice ← 200 INVITE sdp recvonly
         0.0s alice → ACK",
    );
    leaves(&mut lab, ALICE);
    opens(&mut lab, page(7));
    takes_up(&mut lab, page(7), &ok);
    lab.plays(
        "0.0s alice-7 → INVITE sdp sendonly
         0.0s alice-7 ← 100 INVITE
         0.0s alice-7 ← 200 INVITE sdp recvonly
         0.0s alice-7 → ACK",
    );
    trunk_hangs_up(&mut lab, page(7));
    // The trunk had put the page on hold.
    let (mut lab, ok) = begun(true);
    lab.plays(
        "0.0s t1 → INVITE sdp sendonly
         0.0s t1 ← 100 INVITE
         0.0s t1 ← 200 INVITE sdp recvonly
         0.0s t1 → ACK",
    );
    leaves(&mut lab, ALICE);
    opens(&mut lab, page(7));
    takes_up(&mut lab, page(7), &ok);
    lab.plays("5.0s");
    trunk_hangs_up(&mut lab, page(7));
}

#[test]
fn a_page_that_speaks_another_codec_is_answered_and_the_trunk_is_not_asked() {
    let (mut lab, ok) = begun(true);
    leaves(&mut lab, ALICE);
    opens(&mut lab, page(7));
    let other: String = OFFER
        .replace("SAVPF 111 63 9 0 8 13 110 126", "SAVPF 8 126")
        .replace("UDP/TLS/RTP/SAVPF 111 63 9 0 8 110 126", "UDP/TLS/RTP/SAVPF 8 126");
    invite(&mut lab, page(7), &replaces(&ok), &other);
    lab.plays(
        "0.0s alice-7 → INVITE resume sdp
         0.0s alice-7 ← 200 INVITE sdp
         0.0s alice-7 → ACK",
    );
    trunk_hangs_up(&mut lab, page(7));
}

#[test]
fn an_offer_that_cannot_be_answered_leaves_the_call_as_it_was() {
    let (mut lab, ok) = begun(true);
    opens(&mut lab, page(7));
    invite(&mut lab, page(7), &replaces(&ok), "v=0\r\n");
    lab.plays(
        "0.0s alice-7 → INVITE resume sdp
         0.0s alice-7 ← 488 INVITE",
    );
    let refused = lab.last(page(7), "488 INVITE");
    assert!(refused.to().is_some_and(|to| to.tag().is_some_and(|tag| !tag.is_empty())));
    lab.plays(
        "0.0s alice → INFO
         0.0s alice ← 200 INFO",
    );
    trunk_hangs_up(&mut lab, ALICE);
}

#[test]
fn an_invite_without_an_offer_is_offered_what_the_page_then_answers() {
    let (mut lab, ok) = begun(true);
    leaves(&mut lab, ALICE);
    opens(&mut lab, page(7));
    invite(&mut lab, page(7), &replaces(&ok), "");
    lab.plays(
        "0.0s alice-7 → INVITE resume
         0.0s alice-7 ← 200 INVITE sdp
         0.0s alice-7 → ACK sdp recvonly
         60.0s",
    );
    trunk_hangs_up(&mut lab, page(7));
}

#[test]
fn both_browsers_of_a_call_reload() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls 201 at bob
         0.0s bob answers alice",
    );
    let ringing = lab.last(BOB, "INVITE");
    let ok = lab.last(ALICE, "200 INVITE");
    leaves(&mut lab, ALICE);
    leaves(&mut lab, BOB);
    let bob = Peer::Browser("bob", 8);
    opens(&mut lab, bob);
    takes_up(&mut lab, bob, &ringing);
    opens(&mut lab, page(7));
    takes_up(&mut lab, page(7), &ok);
    lab.plays("60.0s bob-8 hangs up on alice-7");
    assert_eq!(lab.ended().len(), 1);
    lab.expect_idle();
}

#[test]
fn a_call_that_is_waiting_or_hears_an_announcement_is_resumed_too() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice → INVITE 300 sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 200 INVITE sdp
         0.0s t1 ← INVITE sdp
         0.0s alice → ACK
         0.0s t1 → 180 INVITE",
    );
    let ok = lab.last(ALICE, "200 INVITE");
    leaves(&mut lab, ALICE);
    opens(&mut lab, page(7));
    takes_up(&mut lab, page(7), &ok);
    lab.plays(
        "0.0s t1 → 200 INVITE sdp
         0.0s t1 ← ACK",
    );
    trunk_hangs_up(&mut lab, page(7));
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice → INVITE 9196 sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 200 INVITE sdp
         0.0s alice → ACK",
    );
    let ok = lab.last(ALICE, "200 INVITE");
    leaves(&mut lab, ALICE);
    opens(&mut lab, page(7));
    takes_up(&mut lab, page(7), &ok);
    lab.plays(
        "0.0s alice-7 → BYE
         0.0s alice-7 ← 200 BYE",
    );
    assert_eq!(lab.ended().len(), 1);
    lab.expect_idle();
}

#[test]
fn a_page_closed_for_good_ends_its_call_after_the_grace_and_the_verdict_says_so() {
    for (says_so, code) in [(true, Code::PAGE_LEFT), (false, Code::FLOW_LOST)] {
        let (mut lab, _) = begun(true);
        if says_so {
            leaves(&mut lab, ALICE)
        } else {
            close(&mut lab, ALICE)
        }
        lab.plays(
            "30.0s t1 ← BYE
             30.0s t1 → 200 BYE",
        );
        let record = lab.ended()[0];
        assert_eq!(record.code, code);
        let verdict = record.verdict.as_ref().expect("a verdict");
        assert_eq!(
            verdict.sentence.contains("the page was closed"),
            says_so,
            "{}",
            verdict.sentence
        );
        lab.expect_idle();
    }
}

#[test]
fn a_request_to_the_previous_page_says_nothing_about_the_next() {
    // It was asked whether it lives when it went.
    for dialled in [true, false] {
        let (mut lab, seen) = begun(dialled);
        let flow = Peer::Browser("alice", 9);
        lab.log_in(flow, "secret-a", "uuid-a");
        lab.plays("0.0s alice ← OPTIONS");
        opens(&mut lab, page(7));
        invite(&mut lab, page(7), &replaces(&seen), OFFER);
        lab.plays(
            "0.0s alice-7 → INVITE resume sdp
             0.0s alice ← BYE
             0.0s alice-7 ← 200 INVITE sdp
             0.0s alice-7 → ACK
             0.0s alice → 481 OPTIONS
             0.0s alice → 200 BYE
             60.0s",
        );
        assert_eq!(lab.gateway.gauges().calls, 1, "{}", lab.picture());
        trunk_hangs_up(&mut lab, page(7));
    }
}

#[test]
fn a_resumed_call_outlives_the_process_and_is_resumed_again() {
    for dialled in [true, false] {
        let (mut lab, seen) = begun(dialled);
        let newer = reloads(&mut lab, ALICE, page(7), &seen);
        lab.plays("1.0s");
        let before = lab.on_disk();
        lab.start_again(Duration::ZERO, Ok(()));
        assert_eq!(lab.on_disk(), before);
        lab.restart(Duration::from_millis(400));
        // The page was reloaded too, and remembers either dialog.
        opens(&mut lab, page(17));
        takes_up(&mut lab, page(17), &newer);
        opens(&mut lab, page(18));
        takes_over(&mut lab, page(18), page(17), &seen);
        trunk_hangs_up(&mut lab, page(18));
    }
}

#[test]
fn a_page_may_transfer_after_it_resumed_its_call() {
    let (mut lab, ok) = begun(true);
    let ok = reloads(&mut lab, ALICE, page(7), &ok);
    lab.plays("0.0s alice-7 transfers to 201 at bob");
    // Reloaded while the call is handed over: once that is done there is nothing to take up.
    leaves(&mut lab, page(7));
    opens(&mut lab, page(8));
    is_refused(&mut lab, page(8), &replaces(&ok), 491);
    lab.plays(
        "0.0s bob → 200 INVITE sdp recvonly
         0.0s bob ← ACK
         10.0s",
    );
    is_refused(&mut lab, page(8), &replaces(&ok), 481);
    lab.handle(Input::HangUpAll);
    lab.plays(
        "10.0s t1 ← BYE
         10.0s bob ← BYE",
    );
    lab.expect_idle();
}
