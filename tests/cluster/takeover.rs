//! A node that is lost: another goes on with its calls, and nobody has them twice.

use crate::SECOND;
use crate::world::{Fault, World};
use std::time::Duration;
use webtrunk::errors::Code;

/// A call of a phone of one node to one of another.
pub(crate) struct Talk {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// The node that has it.
    pub(crate) owner: usize,
}

/// A world in which two talk, and have for three seconds.
pub(crate) fn talking(mut world: World) -> (World, Talk) {
    world.settle();
    let (from, to) = world.strangers();
    let owner = world.node_of(from);
    world.call(from, to);
    world.run(3 * SECOND);
    assert!(world.talks(from) && world.talks(to), "{}", world.story());
    (world, Talk { from, to, owner })
}

#[test]
fn a_call_of_a_lost_node_goes_on_where_its_address_is() {
    let (mut world, Talk { from, to, owner }) = talking(World::floating(100));
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

/// Each change asks for a record, and each record but the first counts only once no failover loses
/// it: what is reserved outlasts that, however the two meet, and however late the store is.
#[test]
fn a_taker_that_sends_is_not_held_back_by_records_that_may_be_lost_still() {
    for late in [0, 200, 400] {
        for change in [100, 700, 1_900, 3_100, 4_500, 60_000] {
            let (mut world, Talk { owner, .. }) = talking(World::new(108));
            world.fault(Fault::Kill(owner));
            while world.calls.taken.is_empty() {
                world.run(Duration::from_millis(100));
            }
            let (taker, _) = world.calls.taken[0];
            world.fault(Fault::StoreSlow(Duration::from_millis(late)));
            for _ in 0..60_000 / change {
                world.run(Duration::from_millis(change));
                world.change_media(taker);
            }
            let what = format!("a change each {change} ms, the store {late} ms late");
            assert_eq!(world.held_back(), 0, "{what}\n{}", world.story());
            world.fault(Fault::StoreSlow(Duration::ZERO));
            world.ends_idle();
        }
    }
}

#[test]
fn a_value_that_is_older_than_the_call_a_node_has_changes_nothing() {
    let (mut world, Talk { from, to, owner }) = talking(World::floating(104));
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
        let (mut world, Talk { from, to, owner }) = talking(World::new(seed));
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
    let (mut world, Talk { from, to, owner }) = talking(World::floating(101));
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
    let (mut world, Talk { from, to, owner }) = talking(World::floating(102));
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
    let (mut world, Talk { from, to, owner }) = talking(World::floating(105));
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
            let mut world = World::either(200 + step, floats);
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
