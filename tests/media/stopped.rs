//! An end that stops sending in mid-call is reported, and one that has a reason to is not.

use crate::lab::*;
use std::time::Duration;
use webtrunk::codec::Codec;
use webtrunk::media::{MediaWatch, Port, SessionEvent};
use webtrunk::sdp::Direction;

const FRAME: Duration = Duration::from_millis(20);

/// Reports of media that stopped and resumed, in order: true for a stop.
fn stop_reports(call: &Call) -> Vec<bool> {
    let of = |e: &SessionEvent| match e {
        SessionEvent::Stopped { end: TRUNK } => Some(true),
        SessionEvent::Resumed { end: TRUNK } => Some(false),
        _ => None,
    };
    call.log.events.iter().filter_map(of).collect()
}

fn spoken(call: &mut Call, first: u16, packets: u16) {
    for n in 0..packets {
        call.trunk_sends(addr(10, 4_000), first + n, &[0x30; 160]);
        call.pass(FRAME);
    }
}

#[test]
fn a_stop_is_reported_every_thirty_seconds_until_the_leg_is_heard_again() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    call.pass(Duration::from_secs(20));
    assert!(stop_reports(&call).is_empty(), "it never sent: that is another report");
    spoken(&mut call, 0, 50);
    call.pass(Duration::from_millis(4_800));
    assert!(stop_reports(&call).is_empty());
    call.pass(Duration::from_millis(400));
    assert_eq!(stop_reports(&call), [true]);
    call.pass(Duration::from_secs(29));
    assert_eq!(stop_reports(&call), [true]);
    call.pass(Duration::from_secs(2));
    assert_eq!(stop_reports(&call), [true, true]);
    spoken(&mut call, 50, 50);
    assert_eq!(stop_reports(&call), [true, true, false]);
    call.pass(Duration::from_secs(6));
    assert_eq!(stop_reports(&call), [true, true, false, true]);
}

#[test]
fn a_time_in_which_nobody_listened_is_nobodys_silence() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    spoken(&mut call, 0, 50);
    call.log.events.clear();
    let stall = Duration::from_secs(60);
    call.now += stall;
    call.session.overslept(call.now, stall);
    call.pass(Duration::from_millis(4_800));
    let judged = |e: &SessionEvent| {
        matches!(
            e,
            SessionEvent::Stopped { .. }
                | SessionEvent::ConsentLost { .. }
                | SessionEvent::NoMedia { .. }
        )
    };
    assert!(!call.log.events.iter().any(judged), "{:?}", call.log.events);
    // From now on it is.
    call.pass(Duration::from_millis(400));
    assert_eq!(stop_reports(&call), [true]);
}

#[test]
fn rtcp_alone_is_a_sign_of_life_of_both_and_a_hold_is_no_stop() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    spoken(&mut call, 0, 50);
    for _ in 0..30 {
        call.pass(Duration::from_secs(2));
        // An empty receiver report (RFC 3550 section 6.4.2).
        let mut report = [0x80, 201, 0, 1, 0, 0, 0, 88];
        let from = addr(10, 4_001);
        call.session.receive(call.now, Port::Rtcp(TRUNK), TRUNK, from, &mut report, &mut call.log);
    }
    assert!(stop_reports(&call).is_empty());
    let gone = |e: &SessionEvent| matches!(e, SessionEvent::NoMedia { .. });
    assert!(!call.log.events.iter().any(gone), "two muted parties are not gone");
    let mut held = settings(Codec::Pcmu, trunk_remote());
    held.negotiated.direction = Direction::SendOnly;
    call.session.configure(call.now, TRUNK, held.clone(), &mut call.log);
    call.pass(Duration::from_secs(20));
    assert!(stop_reports(&call).is_empty());
    held.negotiated.direction = Direction::SendRecv;
    call.session.configure(call.now, TRUNK, held, &mut call.log);
    call.pass(Duration::from_secs(4));
    assert!(stop_reports(&call).is_empty(), "it is given its time to begin");
    call.pass(Duration::from_secs(2));
    assert_eq!(stop_reports(&call), [true]);
}

/// Changes what is watched of both ends.
fn watch(call: &mut Call, watch: MediaWatch) {
    for (end, remote) in [(BROWSER, dtls_remote()), (TRUNK, trunk_remote())] {
        let settings = webtrunk::media::EndpointSettings { watch, ..settings(Codec::Pcmu, remote) };
        call.session.configure(call.now, end, settings, &mut call.log);
    }
}

fn silences(call: &Call) -> Vec<u64> {
    let of = |e: &SessionEvent| match e {
        SessionEvent::NoMedia { since } => Some(since.as_secs()),
        _ => None,
    };
    call.log.events.iter().filter_map(of).collect()
}

#[test]
fn how_long_silence_may_last_is_a_setting() {
    let secs = Duration::from_secs;
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    watch(&mut call, MediaWatch { stopped: Some(secs(2)), again: secs(7), silent: Some(secs(11)) });
    spoken(&mut call, 0, 50);
    call.pass(Duration::from_millis(1_900));
    assert!(stop_reports(&call).is_empty());
    call.pass(Duration::from_millis(200));
    assert_eq!(stop_reports(&call), [true]);
    call.pass(secs(7));
    assert_eq!(stop_reports(&call), [true, true]);
    assert!(silences(&call).is_empty());
    call.pass(secs(20));
    assert_eq!(silences(&call), [11, 22]);

    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    watch(&mut call, MediaWatch { stopped: None, again: secs(7), silent: None });
    spoken(&mut call, 0, 50);
    call.pass(secs(3_600));
    assert!(stop_reports(&call).is_empty() && silences(&call).is_empty());
}

/// Two who are silent and alive are not gone; and the one who never said anything is asked.
#[test]
fn ice_checks_are_signs_of_life_and_a_trunk_that_never_sent_is_asked_in_time() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    for _ in 0..14 {
        call.pass(Duration::from_secs(2));
        call.check(call.browser, false);
    }
    assert!(stop_reports(&call).is_empty());
    for _ in 0..30 {
        call.pass(Duration::from_secs(2));
        call.check(call.browser, false);
    }
    assert!(silences(&call).is_empty(), "the browser consents: {:?}", silences(&call));
    assert_eq!(stop_reports(&call), [true, true]);
    // An unsigned check does not count.
    call.pass(Duration::from_secs(25));
    let mut forged = webtrunk::media::stun::binding_request([3; 12], "ours:theirs", "wrong", false);
    let (now, from) = (call.now, call.browser);
    call.session.receive(now, Port::Browser, BROWSER, from, &mut forged, &mut call.log);
    call.pass(Duration::from_secs(6));
    assert_eq!(silences(&call), [30]);
}

fn unheard(call: &Call) -> usize {
    let silent = |e: &&SessionEvent| matches!(e, SessionEvent::Silent { end: TRUNK });
    call.log.events.iter().filter(silent).count()
}

fn talks(call: &mut Call, seconds: u32) {
    for n in 0..50 * seconds {
        call.browser_sends(0, n * 160, &[0x31; 160]);
        call.pass(FRAME);
    }
}

#[test]
fn one_way_audio_is_reported_of_a_silent_party_at_growing_intervals() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    talks(&mut call, 4);
    assert_eq!(unheard(&call), 0);
    talks(&mut call, 60);
    assert_eq!(unheard(&call), 4, "after 5, 10, 20 and 40 s");
    // Who listens and says so by RTCP has the path; whose pauses are set as right is not judged;
    // nor is one that may not speak.
    for silence in [0, 1, 2] {
        let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
        let mut quiet = settings(Codec::Pcmu, trunk_remote());
        match silence {
            0 => {}
            1 => quiet.watch.stopped = None,
            _ => quiet.negotiated.direction = Direction::SendOnly,
        }
        call.session.configure(call.now, TRUNK, quiet, &mut call.log);
        if silence == 0 {
            let mut report = [0x80, 201, 0, 1, 0, 0, 0, 88];
            let (now, from) = (call.now, addr(10, 4_001));
            call.session.receive(now, Port::Rtcp(TRUNK), TRUNK, from, &mut report, &mut call.log);
        }
        talks(&mut call, 30);
        assert_eq!(unheard(&call), 0, "case {silence}");
    }
}

/// Media that comes before the two are joined, as that of a caller while it rings.
#[test]
fn an_end_that_sent_before_it_was_joined_is_watched_from_then_on() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    call.session.unbridge(BROWSER);
    talks(&mut call, 20);
    assert_eq!(unheard(&call), 0);
    call.session.bridge(call.now, BROWSER, TRUNK);
    talks(&mut call, 6);
    assert_eq!(unheard(&call), 1);
}
