//! Nodes of two versions side by side: what one writes of its calls, the other may not know.

use crate::SECOND;
use crate::takeover::{Talk, talking};
use crate::world::{Fault, World};
use std::time::Duration;

/// A world with a call on each node.
fn with_calls(mut world: World) -> World {
    world.settle();
    (0..3).for_each(|from| world.call(from, from + 3));
    world.run(3 * SECOND);
    assert!((0..6).all(|phone| world.talks(phone)), "{}", world.story());
    world
}

#[test]
fn nodes_are_updated_one_after_the_other_under_calls_and_none_is_lost() {
    for seed in 0..40 {
        let floats = seed % 2 == 0;
        let world = World::either(500 + seed, floats);
        let mut world = with_calls(world);
        for node in 0..3 {
            // Sooner than its lease is gone, and later.
            world.update(node, (1 + seed as u32 % 10) * SECOND);
            world.run(20 * SECOND);
            for phone in 0..6 {
                let story = world.story();
                assert!(world.talks(phone), "seed {seed}, n{node} updated: u{phone}\n{story}");
            }
        }
        assert_eq!(world.calls.unread, 0, "seed {seed}");
        world.hang_up_all();
        world.media_stops();
        assert_eq!(world.calls.records(), 3, "seed {seed}: each call once");
        (0..6).for_each(|from| world.expect_call(from, (from + 1) % 6));
        world.expect_idle();
    }
}

#[test]
fn a_call_that_one_node_alone_can_read_is_left_to_it() {
    for seed in 0..20 {
        let floats = seed % 2 == 0;
        let mut world = World::either(600 + seed, floats);
        world.settle();
        for node in [1, 2] {
            world.update(node, SECOND);
            world.run(10 * SECOND);
        }
        let from = (0..6).find(|phone| world.node_of(*phone) == 2);
        let from = from.unwrap_or_else(|| {
            world.reconnect_at(0, 2);
            0
        });
        // The newer of the two that are left has more to do, and goes on with the call.
        let to = (from + 1) % 6;
        world.call(from, to);
        world.run(3 * SECOND);
        assert!(world.talks(from) && world.talks(to), "{}", world.story());
        world.fault(Fault::Kill(2));
        world.run(25 * SECOND);
        let takers: Vec<usize> = world.calls.taken.iter().map(|(n, _)| *n).collect();
        assert_eq!((takers, world.calls.unread), (vec![1], 0), "seed {seed}");
        assert!(world.talks(from) && world.talks(to), "seed {seed}\n{}", world.story());
        world.hang_up_all();
        world.heal_all();
        world.run(5 * SECOND);
        world.media_stops();
        world.expect_idle();
    }
}

#[test]
fn what_nobody_can_read_waits_for_its_node_and_is_ended_properly_without_it() {
    for comes_back in [true, false] {
        let mut world = World::floating(640);
        world.settle();
        world.update(2, SECOND);
        world.run(10 * SECOND);
        world.reconnect_at(0, 2);
        world.run(3 * SECOND);
        world.call(0, 1);
        world.run(3 * SECOND);
        assert!(world.talks(0) && world.talks(1), "{}", world.story());
        world.fault(Fault::Kill(2));
        world.run(8 * SECOND);
        assert_eq!(world.calls.taken, [], "nobody ends what its node may go on with");
        if comes_back {
            world.fault(Fault::Start(2));
        }
        world.run(25 * SECOND);
        assert_eq!(world.talks(0) && world.talks(1), comes_back, "{}", world.story());
        assert_eq!(world.calls.unread, usize::from(!comes_back));
        world.hang_up_all();
        world.media_stops();
        assert_eq!(world.calls.records(), 1, "and its record is written once");
        world.heal_all();
        world.run(5 * SECOND);
        world.expect_idle();
    }
}

/// A process that begins when the lease of the one before has just run out never saw that lease,
/// and the others leave the calls to it.
#[test]
fn a_node_that_is_started_again_goes_on_with_its_calls_however_long_it_was_away() {
    for away in 1..40 {
        let mut world = with_calls(World::floating(660 + away));
        let away = Duration::from_millis(away * 250);
        world.fault(Fault::Kill(1));
        world.run(away);
        world.fault(Fault::Start(1));
        world.run(20 * SECOND);
        let story = world.story();
        assert!((0..6).all(|phone| world.talks(phone)), "{away:?}\n{story}");
        assert_eq!(world.calls.taken.len(), 1, "{away:?}: once\n{story}");
        world.hang_up_all();
        world.media_stops();
        assert_eq!(world.calls.records(), 3, "{away:?}");
        world.expect_idle();
    }
}

/// What the process before had told the store of a call is there for a minute, and its node is the
/// first to look for it: the call is over by then.
#[test]
fn a_call_that_ends_right_after_an_upgrade_does_not_come_back_from_the_store() {
    for seed in 0..12 {
        let (mut world, Talk { from, to, owner }) =
            talking(World::either(700 + seed, seed % 2 == 0));
        world.upgrade(owner);
        world.run(Duration::from_millis(1_600 + 100 * seed));
        world.hang_up(from);
        world.run(2 * SECOND);
        assert!(!world.talks(to), "seed {seed}\n{}", world.story());
        world.run(20 * SECOND);
        assert_eq!(world.calls.taken, [], "seed {seed}: nobody looks for it\n{}", world.story());
        world.ends_idle();
        assert_eq!(world.calls.records(), 1, "seed {seed}");
    }
}

/// A process that was just given its node's calls reaches nobody any more, and another node takes
/// what the process before it had told the store: it learns of that by the name of that one.
#[test]
fn an_upgraded_node_that_is_cut_off_at_once_learns_who_has_its_calls() {
    for step in 0..12u64 {
        let (mut world, Talk { owner, .. }) = talking(World::either(720 + step, step % 2 == 0));
        world.upgrade(owner);
        world.run(Duration::from_micros(500) * step as u32);
        world.fault(Fault::CutStore(owner));
        (0..3).filter(|n| *n != owner).for_each(|n| world.fault(Fault::Cut(owner, n)));
        world.run(20 * SECOND);
        world.heal_all();
        world.run(5 * SECOND);
        world.expect_one_owner();
        world.ends_recorded_once(step);
    }
}

/// The store is upgraded after the nodes, say: that what the process before had told it is closed
/// was said long enough ago to be lost by no failover.
#[test]
fn a_store_that_goes_away_soon_after_an_upgrade_costs_no_sound() {
    for step in 0..12u32 {
        let (mut world, Talk { from, to, owner }) =
            talking(World::either(760 + u64::from(step), step % 2 == 0));
        world.upgrade(owner);
        world.run(8 * SECOND + step * SECOND / 2);
        world.fault(Fault::StoreDown);
        for _ in 0..12 {
            world.run(10 * SECOND);
            assert!(world.talks(from) && world.talks(to), "step {step}\n{}", world.story());
        }
        assert_eq!(world.held_back(), 0, "step {step}\n{}", world.story());
        world.fault(Fault::StoreUp);
        world.run(8 * SECOND);
        world.ends_recorded_once(step);
    }
}

/// What a process is given before it has met the store is told to that all the same, and not only
/// once it changes.
#[test]
fn a_call_outlives_an_upgrade_of_its_node_and_then_the_node() {
    for step in 0..12u32 {
        let (mut world, Talk { from, to, owner }) = talking(World::floating(740 + u64::from(step)));
        world.upgrade(owner);
        world.run(SECOND + step * 6 * SECOND);
        world.fault(Fault::Kill(owner));
        world.run(12 * SECOND);
        assert_eq!(world.calls.taken.len(), 1, "step {step}\n{}", world.story());
        assert!(world.talks(from) && world.talks(to), "step {step}\n{}", world.story());
        world.heal_all();
        world.run(5 * SECOND);
        world.ends_recorded_once(step);
    }
}
