//! A node that is lost: another goes on with its calls, and nobody has them twice.

use crate::world::{Fault, World};
use std::time::Duration;
use webtrunk::errors::Code;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_call_of_a_lost_node_goes_on_where_its_address_is() {
    let mut world = World::floating(100);
    world.settle();
    let (from, to) = world.strangers();
    let owner = world.node_of(from);
    world.call(from, to);
    world.run(3 * SECOND);
    assert!(world.talks(from) && world.talks(to));
    world.fault(Fault::Kill(owner));
    world.run(10 * SECOND);
    assert_eq!(world.calls.taken.len(), 1, "one call, once");
    let (taker, _) = world.calls.taken[0];
    assert!(world.said(taker, "CallInterrupted"), "it goes on");
    assert!(world.talks(from) && world.talks(to), "nobody was told");
    world.hang_up(from);
    world.run(2 * SECOND);
    assert!(!world.talks(to), "the other side heard of it\n{}", world.story());
    assert_eq!(world.calls.records(), 1);
    world.fault(Fault::Start(owner));
    world.expect_idle();
}

#[test]
fn a_value_that_is_older_than_the_call_a_node_has_changes_nothing() {
    let mut world = World::floating(104);
    world.settle();
    let (from, to) = world.strangers();
    let owner = world.node_of(from);
    world.call(from, to);
    world.run(3 * SECOND);
    world.fault(Fault::Kill(owner));
    world.run(10 * SECOND);
    assert_eq!(world.calls.taken.len(), 1);
    // Its media would be sent once more under indices that were used.
    world.read_again(4 * SECOND);
    world.run(SECOND);
    assert_eq!(world.calls.taken.len(), 1, "not again");
    assert!(world.talks(from) && world.talks(to));
    world.hang_up(from);
    world.run(2 * SECOND);
    assert_eq!(world.calls.records(), 1);
    world.fault(Fault::Start(owner));
    world.expect_idle();
}

#[test]
fn without_its_address_browsers_are_asked_for_an_ice_restart_wherever_they_come_back() {
    for seed in 110..120 {
        let mut world = World::new(seed);
        world.settle();
        let (from, to) = world.strangers();
        let owner = world.node_of(from);
        world.call(from, to);
        world.run(3 * SECOND);
        assert!(world.talks(from) && world.talks(to));
        let before = [world.moved(from), world.moved(to)];
        world.fault(Fault::Kill(owner));
        world.run(12 * SECOND);
        assert_eq!(world.calls.taken.len(), 1, "one call, once");
        assert!(world.talks(from) && world.talks(to), "{}", world.story());
        let after = [world.moved(from), world.moved(to)];
        assert!(after[0] > before[0] && after[1] > before[1], "{after:?}\n{}", world.story());
        world.hang_up(from);
        world.run(2 * SECOND);
        assert!(!world.talks(to), "the other side heard of it\n{}", world.story());
        assert_eq!(world.calls.records(), 1);
        world.fault(Fault::Start(owner));
        world.expect_idle();
    }
}

#[test]
fn a_deposed_owner_says_nothing_of_the_calls_it_lost() {
    let mut world = World::floating(101);
    world.settle();
    let (from, to) = world.strangers();
    let owner = world.node_of(from);
    world.call(from, to);
    world.run(3 * SECOND);
    world.fault(Fault::Pause(owner));
    world.run(15 * SECOND);
    assert_eq!(world.calls.taken.len(), 1);
    world.hang_up(from);
    world.run(SECOND);
    world.fault(Fault::Wake(owner));
    world.run(3 * SECOND);
    assert!(world.said(owner, "NodeDeposed"), "it knows");
    assert!(world.talks(to), "the owner said nothing");
    assert_eq!(world.calls.records(), 0);
    world.hang_up(to);
    world.run(3 * SECOND);
    assert_eq!(world.calls.records(), 1);
    world.expect_idle();
}

#[test]
fn a_node_that_answers_its_peers_keeps_its_calls_though_the_store_does_not_hear_of_it() {
    let mut world = World::floating(102);
    world.settle();
    let (from, to) = world.strangers();
    let owner = world.node_of(from);
    world.call(from, to);
    world.run(3 * SECOND);
    world.fault(Fault::CutStore(owner));
    world.run(30 * SECOND);
    assert_eq!(world.calls.taken, []);
    // It knows that nobody took its calls: a BYE does not wait.
    world.hang_up(from);
    world.run(SECOND);
    assert!(!world.talks(to));
    // Its record does: the store still has the call, for whoever takes it before it expires there.
    assert_eq!(world.calls.records(), 0);
    world.run(35 * SECOND);
    assert_eq!(world.calls.records(), 1);
    world.fault(Fault::HealStore(owner));
    world.expect_idle();
}

/// The store loses what it had of a node that sleeps, so who claims its calls finds none of them.
#[test]
fn a_node_whose_calls_nobody_found_keeps_them() {
    let mut world = World::floating(105);
    world.settle();
    let (from, to) = world.strangers();
    let owner = world.node_of(from);
    world.call(from, to);
    world.run(3 * SECOND);
    world.fault(Fault::Pause(owner));
    world.fault(Fault::StoreEmpty);
    world.run(12 * SECOND);
    assert!(world.claims() > 0, "they were claimed");
    assert_eq!(world.calls.taken, [], "and not found");
    world.fault(Fault::Wake(owner));
    world.run(5 * SECOND);
    assert!(world.said(owner, "NodeDeposed"), "it goes on as another process");
    assert!(world.talks(from) && world.talks(to), "with its call\n{}", world.story());
    world.hang_up(to);
    world.run(3 * SECOND);
    assert!(!world.talks(from), "{}", world.story());
    assert_eq!(world.calls.records(), 1);
    world.expect_idle();
}

#[test]
fn a_call_that_still_rang_is_ended_properly() {
    let mut world = World::floating(103);
    world.settle();
    let (from, _) = world.strangers();
    let owner = world.node_of(from);
    world.dial(from, 9_123);
    let (_, invite) = world.trunk_got("INVITE");
    world.trunk_says(owner, crate::of_trunk(&invite, "SIP/2.0 180 Ringing", "INVITE", "", ""));
    world.run(SECOND);
    world.fault(Fault::Kill(owner));
    world.run(10 * SECOND);
    world.trunk_got("CANCEL");
    world.run(60 * SECOND);
    assert_eq!(world.calls.records(), 1);
    let (taker, _) = world.calls.taken[0];
    assert_eq!(world.last_code(taker), Code::NODE_LOST);
    world.fault(Fault::Start(owner));
    world.expect_idle();
}

/// At each step of a call its node is killed; whatever is left is ended or goes on, and is idle in
/// the end.
#[test]
fn a_node_is_killed_at_each_step_of_a_call() {
    for floats in [true, false] {
        for step in 0..60 {
            let mut world =
                if floats { World::floating(200 + step) } else { World::new(200 + step) };
            world.settle();
            let (from, to) = world.strangers();
            let owner = world.node_of(from);
            world.call(from, to);
            world.run(Duration::from_millis(step * 20));
            world.fault(Fault::Kill(owner));
            world.run(15 * SECOND);
            world.fault(Fault::Start(owner));
            world.run(5 * SECOND);
            world.hang_up_all();
            world.expect_call(from, to);
            world.expect_idle();
        }
    }
}

/// All eight ways to part three nodes and the store, with calls on each node: the nodes that are on
/// the other side see one another, or nobody.
#[test]
fn whatever_is_cut_a_call_has_one_owner_once_it_heals() {
    for cut in 0..8u64 {
        for alone in [true, false] {
            for heal in [2, 8, 30] {
                part((cut, alone), heal);
            }
        }
    }
}

fn part((cut, alone): (u64, bool), heal: u64) {
    let mut world = World::floating(300 + cut * 10 + heal + u64::from(alone) * 1_000);
    world.settle();
    for from in 0..3 {
        world.call(from, from + 3);
    }
    world.run(3 * SECOND);
    let beyond = |n: &usize| cut & (1 << n) != 0;
    for n in (0..3).filter(beyond) {
        world.fault(Fault::CutStore(n));
        let others = (0..3).filter(|o| *o != n && (alone || !beyond(o)));
        others.for_each(|other| world.fault(Fault::Cut(n, other)));
    }
    world.run(heal as u32 * SECOND);
    let story = format!("cut {cut:03b}, alone {alone}, for {heal} s");
    for phone in 0..6 {
        assert!(world.talks(phone), "{story}: u{phone} is told nothing\n{}", world.story());
    }
    world.heal_all();
    world.run(5 * SECOND);
    world.expect_one_owner();
    world.hang_up_all();
    world.expect_idle();
    assert_eq!(world.calls.records(), 3, "{story}");
    assert_eq!(world.calls.excused(), 0, "{story}");
}

#[test]
fn two_takers_at_once_are_one_taker_and_one_that_is_told_so() {
    for seed in 120..130 {
        let mut world = World::new(seed);
        world.settle();
        let (from, to) = world.strangers();
        let owner = world.node_of(from);
        world.call(from, to);
        world.run(3 * SECOND);
        assert!(world.talks(from) && world.talks(to));
        world.fault(Fault::Kill(owner));
        // The second claims before the first has its answer.
        world.hold_claims(2);
        world.run(12 * SECOND);
        assert_eq!(world.claims(), 2, "both claimed, seed {seed}\n{}", world.story());
        assert_eq!(world.calls.taken.len(), 1, "one call, once");
        assert!(world.talks(from) && world.talks(to), "{}", world.story());
        assert_eq!(world.calls.indices.gone_on_with(), 1, "its media goes on at the taker");
        world.hang_up(from);
        world.run(2 * SECOND);
        assert_eq!(world.calls.records(), 1);
        world.fault(Fault::Start(owner));
        world.expect_idle();
    }
}

/// Its taker dies at each moment: the third goes on with the call, or it is over for everybody,
/// with one record at most.
#[test]
fn takers_that_die_in_the_middle_leave_a_call_to_the_next_or_to_nobody() {
    let mut gone_on = 0;
    for step in 0..60u64 {
        let mut world = World::new(1_400 + step);
        world.settle();
        let (from, to) = world.strangers();
        let owner = world.node_of(from);
        world.call(from, to);
        world.run(3 * SECOND);
        world.fault(Fault::Kill(owner));
        while world.claims() == 0 {
            world.run(Duration::from_millis(5));
        }
        world.run(Duration::from_millis(step * 2));
        let taker = world.claimed_last();
        world.fault(Fault::Kill(taker));
        world.run(12 * SECOND);
        let third = (0..3).find(|n| ![owner, taker].contains(n)).expect("there are three");
        gone_on += usize::from(world.calls.taken.iter().any(|(by, _)| *by == third));
        world.fault(Fault::Start(owner));
        world.fault(Fault::Start(taker));
        world.run(8 * SECOND);
        world.expect_one_owner();
        world.hang_up_all();
        world.media_stops();
        world.expect_idle();
        assert!(world.calls.records() + world.calls.excused() >= 1, "step {step}");
    }
    assert!(gone_on >= 20, "{gone_on} of 60 calls reached the third node");
}

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

/// The node whose call another took is back, and a phone of it is at the third: what it says there
/// reaches the taker, though the call's name says that it is the node's that is back.
#[test]
fn a_lost_node_that_is_back_does_not_hide_who_has_its_calls() {
    let mut world = World::floating(150);
    world.settle();
    let (from, to) = world.strangers();
    let owner = world.node_of(from);
    world.call(from, to);
    world.run(3 * SECOND);
    world.fault(Fault::Kill(owner));
    world.run(10 * SECOND);
    let taker = world.calls.taken[0].0;
    world.fault(Fault::Start(owner));
    world.run(5 * SECOND);
    let third = (0..3).find(|n| ![owner, taker].contains(n)).expect("there are three");
    for at in [third, owner] {
        world.reconnect_at(from, at);
        assert_eq!(world.asks(from), Some(200), "by n{at}\n{}", world.story());
    }
    world.hang_up(from);
    world.run(2 * SECOND);
    assert!(!world.talks(to), "the other side heard of it\n{}", world.story());
    assert_eq!(world.calls.records(), 1);
    world.expect_idle();
}

/// The store forgets that the calls of a node that sleeps were taken, and the third node, which was
/// cut off meanwhile, claims them once more and finds none. The node that has them says so when it
/// wakes.
#[test]
fn who_claims_calls_and_finds_none_does_not_hide_who_has_them() {
    for late in [0, 1, 10] {
        let mut world = World::floating(151);
        world.settle();
        let (from, to) = world.strangers();
        let owner = world.node_of(from);
        world.call(from, to);
        world.run(3 * SECOND);
        let third = (owner + 2) % 3;
        world.fault(Fault::CutStore(third));
        world.fault(Fault::Pause(owner));
        world.run(14 * SECOND);
        assert_eq!(world.calls.taken.len(), 1, "{}", world.story());
        let taker = world.calls.taken[0].0;
        assert_ne!(taker, third);
        world.fault(Fault::Pause(taker));
        world.fault(Fault::StoreEmpty);
        let before = world.claims();
        world.fault(Fault::HealStore(third));
        world.run(8 * SECOND);
        assert!(world.claims() > before, "the third claims\n{}", world.story());
        world.fault(Fault::Wake(owner));
        world.run(late * SECOND);
        world.fault(Fault::Wake(taker));
        world.run(5 * SECOND);
        assert_eq!(world.calls.taken.len(), 1, "the third found none");
        world.expect_one_owner();
        world.hang_up_all();
        world.media_stops();
        world.expect_idle();
        assert_eq!((world.calls.records(), world.calls.excused()), (1, 0), "after {late} s");
    }
}

/// The store forgets that the calls of a lost node were taken before the taker has said so, and the
/// taker reaches the store no more: it tells the node that is back, and the third, as it asks them.
#[test]
fn a_node_that_is_back_leaves_its_calls_to_who_took_them_though_the_store_forgot_that() {
    for (seed, floats) in [(152, true), (153, true), (154, false), (155, false)] {
        let mut world = if floats { World::floating(seed) } else { World::new(seed) };
        world.settle();
        let (from, to) = world.strangers();
        let owner = world.node_of(from);
        world.call(from, to);
        world.run(3 * SECOND);
        world.fault(Fault::Kill(owner));
        while world.calls.taken.is_empty() {
            world.run(Duration::from_millis(5));
        }
        let taker = world.calls.taken[0].0;
        world.fault(Fault::CutStore(taker));
        world.lose_claims();
        world.fault(Fault::Start(owner));
        world.run(20 * SECOND);
        assert_eq!(world.calls.taken.len(), 1, "nobody takes it again\n{}", world.story());
        world.fault(Fault::HealStore(taker));
        world.run(5 * SECOND);
        world.expect_one_owner();
        assert!(world.talks(from) && world.talks(to), "{}", world.story());
        world.hang_up_all();
        world.media_stops();
        world.expect_idle();
        assert_eq!((world.calls.records(), world.calls.excused()), (1, 0), "seed {seed}");
    }
}

/// A node that slept is back at a store that has lost who took its calls. The taker was started
/// again, and learns only from the store whose calls it had: what it says before does not clear
/// anybody.
#[test]
fn the_next_process_of_a_taker_clears_nobody_before_it_knows_what_was_taken() {
    for seed in 156..160 {
        let mut world = World::floating(seed);
        world.settle();
        let (from, to) = world.strangers();
        let owner = world.node_of(from);
        let third = (owner + 2) % 3;
        world.call(from, to);
        world.run(3 * SECOND);
        world.fault(Fault::CutStore(third));
        world.fault(Fault::Pause(owner));
        world.run(14 * SECOND);
        assert_eq!(world.calls.taken.len(), 1, "{}", world.story());
        let taker = world.calls.taken[0].0;
        world.fault(Fault::StoreEmpty);
        world.run(3 * SECOND);
        world.fault(Fault::Kill(taker));
        world.run(5 * SECOND);
        // Somebody hangs up at the node that sleeps.
        world.hang_up(from);
        world.run(SECOND);
        world.fault(Fault::Start(taker));
        world.fault(Fault::Wake(owner));
        world.run(8 * SECOND);
        assert!(world.said(owner, "NodeDeposed"), "{}", world.story());
        world.fault(Fault::HealStore(third));
        world.run(5 * SECOND);
        world.expect_one_owner();
        world.hang_up_all();
        world.media_stops();
        world.expect_idle();
        assert_eq!((world.calls.records(), world.calls.excused()), (1, 0), "seed {seed}");
    }
}

/// The taker is away from the store for longer than anybody waits for its lease: it tells the first
/// owner itself.
#[test]
fn an_owner_believes_who_says_that_it_has_its_calls_however_long_the_store_knows_nothing_of_it() {
    for late in [0, 70] {
        let mut world = World::floating(160 + late);
        world.settle();
        let (from, to) = world.strangers();
        let owner = world.node_of(from);
        world.call(from, to);
        world.run(3 * SECOND);
        world.fault(Fault::Pause(owner));
        world.run(14 * SECOND);
        assert_eq!(world.calls.taken.len(), 1, "{}", world.story());
        let taker = world.calls.taken[0].0;
        world.fault(Fault::CutStore(taker));
        world.lose_claims();
        world.run(late as u32 * SECOND);
        world.fault(Fault::Wake(owner));
        world.run(5 * SECOND);
        assert!(world.said(owner, "NodeDeposed"), "after {late} s\n{}", world.story());
        world.expect_one_owner();
        // After so long the taker has given its browser up.
        assert!(late > 0 || world.calls.records() == 0, "it goes on\n{}", world.story());
        world.run(70 * SECOND);
        world.fault(Fault::HealStore(taker));
        world.run(5 * SECOND);
        world.expect_one_owner();
        world.hang_up_all();
        world.media_stops();
        world.expect_idle();
        assert_eq!((world.calls.records(), world.calls.excused()), (1, 0), "after {late} s");
    }
}

/// A node's calls are looked for by those who knew of it. If these sleep, and die of it, the store
/// has the calls for nobody; if one of them wakes it takes them.
#[test]
fn a_call_is_lost_where_all_who_knew_of_its_node_die_and_only_there() {
    for wakes in [true, false] {
        let mut world = World::floating(152);
        world.settle();
        let (from, to) = world.strangers();
        let owner = world.node_of(from);
        world.call(from, to);
        world.run(3 * SECOND);
        let others = [(owner + 1) % 3, (owner + 2) % 3];
        others.iter().for_each(|other| world.fault(Fault::Pause(*other)));
        world.fault(Fault::Kill(owner));
        world.run(4 * SECOND);
        world.fault(Fault::Kill(others[0]));
        match wakes {
            true => world.fault(Fault::Wake(others[1])),
            false => world.fault(Fault::Kill(others[1])),
        }
        world.run(12 * SECOND);
        (0..3).for_each(|node| world.fault(Fault::Start(node)));
        world.run(5 * SECOND);
        world.hang_up_all();
        world.media_stops();
        world.expect_idle();
        let lost = usize::from(!wakes);
        assert_eq!((world.calls.records(), world.calls.excused()), (1 - lost, lost));
    }
}

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
            let mut world = if floats { World::floating(seed) } else { World::new(seed) };
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
        let mut world = if floats { World::floating(171) } else { World::new(171) };
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
