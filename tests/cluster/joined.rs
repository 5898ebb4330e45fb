//! What more there is to a call that is taken over: the keys of its trunk, and a call it is joined
//! with.

use crate::SECOND;
use crate::world::{Fault, World};
use webtrunk::errors::Code;

/// A call to a trunk by SRTP, whose node is lost: the taker offers the same keys, for the stream
/// goes on under them, and its indices are new.
#[test]
fn srtp_on_the_trunk_goes_on_under_its_keys() {
    for floats in [true, false] {
        let mut world = World::with_srtp(140, floats);
        world.settle();
        let owner = world.node_of(0);
        world.dial(0, 9_123);
        let (_, invite) = world.trunk_got("INVITE");
        let crypto = |m: &webtrunk::sip::Message| {
            let body = String::from_utf8_lossy(m.body()).into_owned();
            let suite = " AES_CM_128_HMAC_SHA1_80 ";
            let fits = |l: &&str| l.starts_with("a=crypto:") && l.contains(suite);
            let line = body.lines().find(fits).map(str::to_owned);
            line.unwrap_or_else(|| panic!("no key in {body}"))
        };
        let ours = crypto(&invite);
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.77\r\ns=-\r\nc=IN IP4 127.0.0.77\r\nt=0 0\r\n\
             m=audio 4000 RTP/SAVP 0\r\na=crypto:{} {} inline:{}\r\n",
            ours.split([':', ' ']).nth(1).expect("a tag"),
            ours.split(' ').nth(1).expect("a suite"),
            THEIR_KEY
        );
        world.trunk_says(owner, crate::of_trunk(&invite, "SIP/2.0 200 OK", "INVITE", "", &sdp));
        world.run(3 * SECOND);
        assert!(world.talks(0));
        world.forget_trunk();
        world.fault(Fault::Kill(owner));
        world.run(12 * SECOND);
        assert_eq!(world.calls.taken.len(), 1, "one call, once");
        assert_eq!(world.calls.indices.gone_on_with(), 1, "its media goes on at the taker");
        let taker = world.calls.taken[0].0;
        if floats {
            assert_eq!(world.calls_of_trunk(), 0, "the trunk is told nothing");
        } else {
            let (by, again) = world.trunk_got("INVITE");
            assert_eq!(by, taker);
            assert_eq!(crypto(&again), ours, "under another key its packets would be noise");
            assert_ne!(again.body(), invite.body(), "but elsewhere");
            let ok = crate::of_trunk(&again, "SIP/2.0 200 OK", "INVITE", "", &sdp);
            world.trunk_says(taker, ok);
            world.trunk_got("ACK");
        }
        assert!(world.talks(0), "{}", world.story());
        world.hang_up(0);
        world.run(SECOND);
        let (_, bye) = world.trunk_got("BYE");
        let ok = crate::of_trunk(&bye, "SIP/2.0 200 OK", "BYE", "", "");
        world.trunk_says(taker, ok);
        assert_eq!(world.calls.records(), 1);
        world.fault(Fault::Start(owner));
        world.expect_idle();
    }
}

/// 30 bytes, for AES_CM_128_HMAC_SHA1_80.
const THEIR_KEY: &str = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw";

/// One calls two others, and leaves them to one another. Returns them, once that is done.
fn joined(world: &mut World, referrer: usize, others: [usize; 2]) {
    for other in others {
        world.call(referrer, other);
        world.run(2 * SECOND);
    }
    world.join(referrer);
    // Who leaves does not hang up, and is helped.
    world.run(7 * SECOND);
    assert!(!world.talks(referrer), "it has left\n{}", world.story());
    assert!(others.iter().all(|other| world.talks(*other)), "{}", world.story());
}

#[test]
fn two_calls_that_were_joined_go_on_at_the_taker_and_end_together() {
    for floats in [true, false] {
        for seed in 160..170 {
            let mut world = World::either(seed, floats);
            world.settle();
            joined(&mut world, 0, [1, 2]);
            let owner = world.node_of(0);
            assert_eq!(world.calls.inner_ends(), [(owner, true); 2]);
            let before = [world.moved(1), world.moved(2)];
            world.fault(Fault::Kill(owner));
            world.run(12 * SECOND);
            assert_eq!(world.calls.taken.len(), 2, "both halves");
            let (taker, _) = world.calls.taken[0];
            assert!(world.talks(1) && world.talks(2), "{}", world.story());
            assert_eq!(world.calls.inner_ends(), [(taker, true); 2], "they hear each other");
            assert_eq!(world.calls.indices.gone_on_with(), 2, "the media of both goes on");
            let asked = [world.moved(1) > before[0], world.moved(2) > before[1]];
            assert_eq!(asked, [!floats; 2], "for an ICE restart");
            world.hang_up(1);
            world.run(2 * SECOND);
            assert!(!world.talks(2), "the other side heard of it\n{}", world.story());
            assert_eq!(world.calls.records(), 2);
            world.fault(Fault::Start(owner));
            world.expect_idle();
        }
    }
}

/// A node's calls are read a few at a time: the halves of some joined calls come one after the
/// other.
#[test]
fn halves_that_are_taken_one_after_the_other_meet() {
    for floats in [true, false] {
        let mut world = World::either(171, floats);
        world.settle();
        for _ in 0..12 {
            joined(&mut world, 0, [1, 2]);
        }
        let owner = world.node_of(0);
        assert_eq!(world.calls.inner_ends(), [(owner, true); 24]);
        world.fault(Fault::Kill(owner));
        world.run(12 * SECOND);
        assert_eq!(world.calls.taken.len(), 24);
        let (taker, _) = world.calls.taken[0];
        assert_eq!(world.calls.inner_ends(), [(taker, true); 24]);
        assert_eq!(world.calls.records(), 0, "none is over\n{}", world.story());
        world.hang_up(2);
        world.run(5 * SECOND);
        assert!(!world.talks(1), "{}", world.story());
        world.fault(Fault::Start(owner));
        world.expect_idle();
    }
}

/// The store has lost one of the halves: nobody talks to an end that nobody is at.
#[test]
fn half_a_joined_call_is_ended_when_the_other_half_does_not_come() {
    let mut world = World::floating(172);
    world.settle();
    joined(&mut world, 0, [1, 2]);
    let owner = world.node_of(0);
    world.fault(Fault::Kill(owner));
    world.lose_last_call();
    world.run(12 * SECOND);
    assert_eq!(world.calls.taken.len(), 1, "the other is lost");
    let (taker, _) = world.calls.taken[0];
    world.run(10 * SECOND);
    assert_eq!(world.calls.records(), 1, "{}", world.story());
    assert_eq!(world.last_code(taker), Code::NODE_LOST);
    assert!(!(world.talks(1) && world.talks(2)), "one of them was told");
}

/// Who has two calls, of two nodes, and leaves them to one another: the one that is called anew
/// rings once more, for neither node has both.
#[test]
fn an_attended_transfer_of_calls_of_two_nodes_calls_one_of_them_anew() {
    for (seed, in_incoming, anew, waits) in [(196, true, 2, 1), (197, false, 1, 2)] {
        let mut world = World::new(seed);
        world.settle();
        for (from, to) in [(1, 0), (0, 2)] {
            world.call(from, to);
            world.run(2 * SECOND);
        }
        let refer = world.phone(0).refer_across(in_incoming, &format!("10{anew}"));
        world.says(0, refer);
        world.run(2 * SECOND);
        assert_eq!(world.phone(anew).rung(), 1 + usize::from(anew == 2), "{}", world.story());
        let told: Vec<String> = (world.phone(0).got.iter())
            .map(|notify| String::from_utf8_lossy(notify.body()).into_owned())
            .collect();
        assert!(told.last().is_some_and(|last| last.starts_with("SIP/2.0 200")), "{told:?}");
        world.hang_up(0);
        world.run(SECOND);
        assert!(world.talks(anew) && world.talks(waits) && !world.talks(0));
        world.hang_up(waits);
        world.run(SECOND);
        assert!(!world.talks(anew), "they were in one call\n{}", world.story());
        world.expect_idle();
    }
}
