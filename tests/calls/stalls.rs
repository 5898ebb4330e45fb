//! A process that is suspended: what arrived in that time is read before any peer is judged, and
//! what is owed is sent once.

use crate::lab::*;
use std::time::Duration;
use webtrunk::errors::Code;
use webtrunk::gateway::{FlowKind, Input};
use webtrunk::sip::transaction::Flow;

const STALLS: [u64; 4] = [1, 5, 20, 60];
/// Half of the shortest session there is: when it is refreshed.
const REFRESH: u64 = 45;
const BY_THEM: &str = "Session-Expires: 90;refresher=uas\r\nRequire: timer\r\n";
const BY_US: &str = "Session-Expires: 90;refresher=uac\r\nRequire: timer\r\nAllow: UPDATE\r\n";

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A call of alice over t1 in a session of 90 s, whose 200 has these lines.
fn talk(extra: &str) -> Lab {
    let short = ("realm = \"carrier\"", "realm = \"carrier\"\nsession_timer = \"90s\"");
    let mut lab = Lab::changed(&[short], "");
    lab.adds(T1, "200 INVITE", extra);
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice",
    );
    lab
}

/// The trunk refreshes the session.
fn refreshes(lab: &mut Lab) {
    lab.adds(T1, "UPDATE", "Session-Expires: 90;refresher=uac\r\nSupported: timer\r\n");
    let at = lab.seconds();
    lab.plays(&format!(
        "{at}s t1 → UPDATE
         {at}s t1 ← 200 UPDATE"
    ));
}

fn hang_up(mut lab: Lab) {
    let at = lab.seconds();
    lab.plays(&format!("{at}s alice hangs up on t1"));
    assert_eq!(lab.ended()[0].code, Code::FINE, "{}", lab.picture());
    lab.expect_idle();
}

#[test]
fn a_peer_that_refreshed_meanwhile_keeps_its_session_whenever_it_was() {
    for stall in STALLS {
        for second in 0..=REFRESH + 5 {
            let mut lab = talk(BY_THEM);
            lab.advance(secs(second.min(REFRESH)));
            if second > REFRESH {
                refreshes(&mut lab);
                lab.advance(secs(second - REFRESH));
            }
            lab.stall(secs(stall));
            // Something else is read first.
            lab.log_in(BOB, "secret-b", "uuid-b");
            if (second..=second + stall).contains(&REFRESH) {
                refreshes(&mut lab);
            }
            lab.advance(Duration::from_millis(900));
            assert_eq!(lab.gateway.gauges().calls, 1, "{stall} s at {second}: {}", lab.picture());
            hang_up(lab);
        }
    }
}

#[test]
fn a_missed_refresh_of_ours_is_sent_at_once_and_only_once() {
    for stall in STALLS {
        for second in 0..REFRESH {
            let mut lab = talk(BY_US);
            lab.advance(secs(second));
            lab.stall(secs(stall));
            let at = second + stall;
            if at >= REFRESH {
                lab.adds(T1, "200 UPDATE", BY_US);
                lab.plays(&format!(
                    "{at}.0s t1 ← UPDATE
                     {at}.0s t1 → 200 UPDATE"
                ));
            }
            hang_up(lab);
        }
    }
}

#[test]
fn an_answer_that_came_meanwhile_counts_whatever_was_open() {
    for stall in STALLS {
        let mut lab = talk(BY_US);
        lab.plays("45.0s t1 ← UPDATE");
        lab.stall(secs(stall));
        lab.adds(T1, "200 UPDATE", BY_US);
        let at = REFRESH + stall;
        lab.plays(&format!(
            "{at}.0s t1 ← UPDATE          // once for all times that were missed
             {at}.0s t1 → 200 UPDATE
             {}.0s",
            at + 3
        ));
        assert_eq!(lab.gateway.gauges().calls, 1, "{stall} s: {}", lab.picture());
        hang_up(lab);
    }
}

#[test]
fn a_phone_that_was_picked_up_meanwhile_is_connected() {
    for stall in STALLS {
        let mut lab = Lab::with_phones();
        lab.plays(
            "0.0s alice calls 201 at bob
             0.0s bob rings alice
             5.0s",
        );
        lab.stall(secs(stall));
        let at = 5 + stall;
        lab.plays(&format!(
            "{at}.0s bob answers alice
             {at}.0s alice hangs up on bob"
        ));
        assert_eq!(lab.ended()[0].code, Code::FINE, "{}", lab.picture());
        lab.expect_idle();
    }
}

#[test]
fn a_browser_that_came_back_meanwhile_finds_its_call() {
    for stall in STALLS {
        let mut lab = Lab::with_phones();
        lab.plays(
            "0.0s alice calls +12065550123 at t1
             0.0s t1 answers alice",
        );
        lab.handle(Input::FlowClosed { flow: Flow(1) });
        lab.plays("25.0s");
        lab.stall(secs(stall));
        lab.log_in(Peer::Browser("alice", 7), "secret-a", "uuid-a");
        let at = 25 + stall;
        lab.plays(&format!(
            "{at}.0s alice-7 ← OPTIONS
             {at}.0s alice-7 → 200 OPTIONS
             {}.0s alice-7 hangs up on t1",
            at + 10
        ));
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
    for (set, status) in [(CLOCK + HOUR, 486), (CLOCK - HOUR, 603), (0, 603)] {
        let plan = "hours.late = { tz = \"UTC\", open = [\"daily 23:00-23:59\"] }\n\
                    [[route]]\nname = \"Late\"\nmatch = \"400\"\nwhen = \"late\"\n\
                    do = [{ hangup = 486 }]\n\
                    [[route]]\nname = \"Else\"\nmatch = \"400\"\ndo = [{ hangup = 603 }]\n";
        let short = ("realm = \"carrier\"", "realm = \"carrier\"\nsession_timer = \"90s\"");
        let mut lab = Lab::changed(&[short], plan);
        lab.plays(
            "0.0s alice calls +12065550123 at t1
             0.0s t1 answers alice
             10.0s",
        );
        lab.gateway.set_clock(lab.now, set);
        lab.handle(Input::Tick);
        lab.plays(&format!(
            "30.0s bob → INVITE 400 sdp
             30.0s bob ← 100 INVITE
             30.0s bob ← {status} INVITE
             30.0s alice hangs up on t1"
        ));
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
