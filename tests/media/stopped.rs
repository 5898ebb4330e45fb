//! An end that stops sending in mid-call is reported, and one that has a reason to is not.

use crate::lab::*;
use std::time::Duration;
use webtrunk::codec::Codec;
use webtrunk::media::{Port, SessionEvent};
use webtrunk::sdp::Direction;

const FRAME: Duration = Duration::from_millis(20);

/// What was told of stopping and starting again, in order: true for a stop.
fn told(call: &Call) -> Vec<bool> {
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
fn a_stop_is_told_once_in_thirty_seconds_until_the_end_is_heard_again() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    call.pass(Duration::from_secs(20));
    assert!(told(&call).is_empty(), "it never sent: that is another report");
    spoken(&mut call, 0, 50);
    call.pass(Duration::from_millis(4_800));
    assert!(told(&call).is_empty());
    call.pass(Duration::from_millis(400));
    assert_eq!(told(&call), [true]);
    call.pass(Duration::from_secs(29));
    assert_eq!(told(&call), [true]);
    call.pass(Duration::from_secs(2));
    assert_eq!(told(&call), [true, true]);
    spoken(&mut call, 50, 50);
    assert_eq!(told(&call), [true, true, false]);
    call.pass(Duration::from_secs(6));
    assert_eq!(told(&call), [true, true, false, true]);
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
    assert!(told(&call).is_empty());
    assert!(!call.log.events.contains(&SessionEvent::NoMedia), "two muted parties are not gone");
    let mut held = settings(Codec::Pcmu, trunk_remote());
    held.negotiated.direction = Direction::SendOnly;
    call.session.configure(call.now, TRUNK, held.clone(), &mut call.log);
    call.pass(Duration::from_secs(20));
    assert!(told(&call).is_empty());
    held.negotiated.direction = Direction::SendRecv;
    call.session.configure(call.now, TRUNK, held, &mut call.log);
    call.pass(Duration::from_secs(4));
    assert!(told(&call).is_empty(), "it is given its time to begin");
    call.pass(Duration::from_secs(2));
    assert_eq!(told(&call), [true]);
}
