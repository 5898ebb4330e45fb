//! A process that is suspended: what arrived in that time is read before any peer is judged, and
//! what is owed is sent once.

use crate::lab::*;
use std::time::Duration;
use webtrunk::errors::Code;
use webtrunk::gateway::{FlowKind, Input};
use webtrunk::sip::Message;
use webtrunk::sip::transaction::Flow;

const STALLS: [u64; 4] = [1, 5, 20, 60];
/// Half of the shortest session there is: when it is refreshed.
const REFRESH: u64 = 45;
const BY_THEM: &str = "Session-Expires: 90;refresher=uas\r\nRequire: timer\r\n";
const BY_US: &str = "Session-Expires: 90;refresher=uac\r\nRequire: timer\r\nAllow: UPDATE\r\n";

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A call of alice over t1 in a session of 90 s: the trunk's INVITE, and alice's 200.
fn talk(extra: &str) -> (Lab, Message, Message) {
    let short = ("realm = \"carrier\"", "realm = \"carrier\"\nsession_timer = \"90s\"");
    let mut lab = Lab::changed(&[short], "");
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    lab.reply_with(T1, &invite, 200, TRUNK_SDP, "far", extra);
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    lab.take(T1, "ACK");
    lab.inbox.clear();
    (lab, invite, ok)
}

/// The trunk refreshes the session; `cseq`: which time.
fn refreshes(lab: &mut Lab, invite: &Message, cseq: u32) {
    let asks = "Session-Expires: 90;refresher=uac\r\nSupported: timer\r\n";
    let text = lab.in_dialog_with(T1, invite, "UPDATE", cseq, asks, "");
    lab.says(T1, &text.replace(";tag=peer", ";tag=far"));
    lab.take(T1, "200 UPDATE");
}

fn hang_up(mut lab: Lab, ok: &Message) {
    let bye = lab.in_dialog(ALICE, ok, "BYE", 9_000, "", "");
    lab.says(ALICE, &bye);
    let record = lab.ended();
    assert_eq!(record[0].code, Code::FINE, "{}", lab.picture());
    lab.expect_idle();
}

#[test]
fn a_peer_that_refreshed_meanwhile_keeps_its_session_whenever_it_was() {
    for stall in STALLS {
        for second in 0..=REFRESH + 5 {
            let (mut lab, invite, ok) = talk(BY_THEM);
            lab.advance(secs(second.min(REFRESH)));
            if second > REFRESH {
                refreshes(&mut lab, &invite, 2);
                lab.advance(secs(second - REFRESH));
            }
            lab.stall(secs(stall));
            // Something else is read first.
            lab.log_in(BOB, "secret-b", "uuid-b");
            if (second..=second + stall).contains(&REFRESH) {
                refreshes(&mut lab, &invite, 3);
            }
            lab.advance(Duration::from_millis(900));
            assert_eq!(lab.gateway.gauges().calls, 1, "{stall} s at {second}: {}", lab.picture());
            hang_up(lab, &ok);
        }
    }
}

#[test]
fn a_missed_refresh_of_ours_is_sent_at_once_and_only_once() {
    for stall in STALLS {
        for second in 0..REFRESH {
            let (mut lab, _, ok) = talk(BY_US);
            lab.advance(secs(second));
            lab.stall(secs(stall));
            let due = second + stall >= REFRESH;
            let asked = lab.inbox.iter().filter(|(_, m)| m.method_token() == "UPDATE").count();
            assert_eq!(asked, usize::from(due), "{stall} s at {second}: {}", lab.picture());
            if due {
                let update = lab.take(T1, "UPDATE");
                lab.reply_with(T1, &update, 200, "", "far", BY_US);
            }
            assert!(lab.inbox.is_empty(), "{}", lab.picture());
            hang_up(lab, &ok);
        }
    }
}

#[test]
fn an_answer_that_came_meanwhile_counts_whatever_was_open() {
    for stall in STALLS {
        let (mut lab, _, ok) = talk(BY_US);
        lab.advance(secs(REFRESH));
        let update = lab.take(T1, "UPDATE");
        lab.stall(secs(stall));
        let again = lab.inbox.iter().filter(|(_, m)| m.method_token() == "UPDATE").count();
        assert_eq!(again, 1, "it is repeated once for all times that were missed");
        lab.reply_with(T1, &update, 200, "", "far", BY_US);
        lab.advance(secs(3));
        assert_eq!(lab.gateway.gauges().calls, 1, "{stall} s: {}", lab.picture());
        hang_up(lab, &ok);
    }
}

#[test]
fn a_phone_that_was_picked_up_meanwhile_is_connected() {
    for stall in STALLS {
        let mut lab = Lab::with_phones();
        lab.plays(
            "0.0s alice calls 201 at bob
             0.0s bob rings alice",
        );
        let invite = lab.last(BOB, "INVITE");
        lab.advance(secs(5));
        lab.stall(secs(stall));
        lab.reply(BOB, &invite, 200, ANSWER);
        let ok = lab.take(ALICE, "200");
        lab.ack(ALICE, &ok);
        lab.take(BOB, "ACK");
        hang_up(lab, &ok);
    }
}

#[test]
fn a_browser_that_came_back_meanwhile_finds_its_call() {
    for stall in STALLS {
        let mut lab = Lab::with_phones();
        let (ok, _) = lab.talk("+12065550123");
        lab.handle(Input::FlowClosed { flow: Flow(1) });
        lab.advance(secs(25));
        lab.stall(secs(stall));
        let back = Peer::Browser("alice", 7);
        lab.log_in(back, "secret-a", "uuid-a");
        let probe = lab.take(back, "OPTIONS");
        lab.reply(back, &probe, 200, "");
        lab.advance(secs(10));
        assert_eq!(lab.gateway.gauges().calls, 1, "{stall} s: {}", lab.picture());
        let bye = lab.in_dialog(back, &ok, "BYE", 9_000, "", "");
        lab.says(back, &bye);
        lab.expect_idle();
    }
}

/// A 200 whose ACK came meanwhile, and a phone whose registration ran out meanwhile.
#[test]
fn an_ack_and_a_registration_that_came_meanwhile_count() {
    let mut lab = Lab::with_phones();
    lab.plays(
        "450.0s alice calls +12065550123 at t1
         450.0s t1 → 200 INVITE sdp
         450.0s t1 ← ACK
         450.0s alice ← 200 INVITE sdp",
    );
    lab.stall(secs(160));
    // The call that waits in the socket is read before her REGISTER.
    lab.plays(
        "610.0s alice ← 200 INVITE sdp
         610.0s t1 calls +12065550111 at alice
         610.0s alice → ACK
         611.0s",
    );
    assert_eq!(lab.gateway.gauges().calls, 2, "{}", lab.picture());
    lab.handle(Input::HangUpAll);
    lab.expect_idle();
}

/// The lab's clock stands at 22:13:20 on 14 November 2023.
const CLOCK: u64 = 1_700_000_000;

#[test]
fn a_clock_set_by_an_hour_changes_only_the_time_of_day() {
    const HOUR: u64 = 3_600;
    for (set, open) in [(CLOCK + HOUR, true), (CLOCK - HOUR, false), (0, false)] {
        let plan = "hours.late = { tz = \"UTC\", open = [\"daily 23:00-23:59\"] }\n\
                    [[route]]\nname = \"Late\"\nmatch = \"400\"\nwhen = \"late\"\n\
                    do = [{ hangup = 486 }]\n\
                    [[route]]\nname = \"Else\"\nmatch = \"400\"\ndo = [{ hangup = 603 }]\n";
        let short = ("realm = \"carrier\"", "realm = \"carrier\"\nsession_timer = \"90s\"");
        let mut lab = Lab::changed(&[short], plan);
        let (ok, _) = lab.talk("+12065550123");
        lab.advance(secs(10));
        lab.inbox.clear();
        lab.gateway.set_clock(lab.now, set);
        lab.handle(Input::Tick);
        lab.advance(secs(20));
        assert!(lab.inbox.is_empty(), "no message is sent: {}", lab.picture());
        lab.invite(BOB, "400", OFFER);
        lab.take(BOB, if open { "486" } else { "603" });
        let bye = lab.in_dialog(ALICE, &ok, "BYE", 9_000, "", "");
        lab.says(ALICE, &bye);
        let records = lab.ended();
        let talked = records.iter().find(|r| r.code == Code::FINE && r.answered.is_some());
        let talked = talked.and_then(|r| r.end.zip(r.answered)).map(|(end, at)| end - at);
        assert_eq!(talked, Some(secs(30)), "{}", lab.picture());
        lab.expect_idle();
    }
}

#[test]
fn a_stranger_that_proved_itself_meanwhile_is_not_closed() {
    let mut lab = Lab::new();
    let (flow, remote) = (Flow(30), ALICE.remote());
    lab.handle(Input::FlowOpened { flow, kind: FlowKind::WebSocket, remote });
    lab.stall(secs(60));
    assert!(lab.closed_flows.is_empty());
    lab.advance(secs(40));
    assert_eq!(lab.closed_flows, [flow], "from now on it has its time");
    lab.expect_idle();
}
