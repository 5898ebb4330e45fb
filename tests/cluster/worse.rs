//! A store that is slow, is put back to what it held before, goes by another clock, or is heard by
//! nobody; nodes with wrong clocks; nodes that sleep in the middle of a takeover; networks that
//! part in one direction; two processes of one name.

use crate::SECOND;
use crate::takeover::{Talk, talking};
use crate::world::{Fault, World};
use std::time::Duration;

fn run_of(seed: u64) {
    let mut world = World::either(seed, seed % 4 >= 2);
    world.twins = seed.is_multiple_of(3);
    crate::live(world, seed, |world| {
        world.stir_worse(45 * SECOND);
        if world.twins {
            // A second process ends for good. What it may have taken while a node was away is asked
            // of it for a minute, and nobody answers for it.
            world.heal_all();
            world.run(65 * SECOND);
        }
    });
}

#[test]
fn whatever_is_wrong_with_a_store_or_a_clock_everybody_is_reached_five_seconds_later() {
    crate::seeds(&|n| run_of(10_000 + n), "100");
}

#[test]
fn upgrades_come_about_in_the_midst_of_faults() {
    let upgrades = |seed| {
        let mut world = World::either(seed, seed % 2 == 0);
        world.settle();
        world.stir_worse(45 * SECOND);
        world.upgrades
    };
    let all: usize = (19_000..19_008).map(upgrades).sum();
    assert!(all >= 4, "{all} upgrades in 8 runs");
}

/// A primary that is cut off with one node, at any moment between two records of the call's media,
/// while the others have a new one: the call has one owner, and no index is used twice.
#[test]
fn a_primary_that_needs_a_replica_leaves_no_call_to_two_nodes() {
    for step in 0..52 {
        let (mut world, talk) = parted(step, true, false);
        world.heal_all();
        world.run(5 * SECOND);
        world.expect_one_owner();
        assert!(world.said(talk.owner, "NodeDeposed"), "step {step}\n{}", world.story());
        world.ends_idle();
        assert_eq!((world.calls.records(), world.calls.indices.repeated), (1, 0), "step {step}");
    }
}

/// Without that, `min-replicas-to-write`, the node that is cut off knows of nothing: it sends on
/// under the keys of a call that another has. This is why the book asks for it.
#[test]
fn a_primary_that_needs_no_replica_has_two_nodes_send_under_the_same_keys() {
    let (world, _) = parted(0, false, true);
    assert!(world.calls.indices.repeated > 0, "{}", world.story());
}

/// A call whose owner is left alone with the primary for half a minute.
fn parted(step: u32, needs: bool, may_repeat: bool) -> (World, Talk) {
    let (mut world, talk) =
        talking(World::either(11_000 + u64::from(step), step.is_multiple_of(2)));
    world.calls.indices.may_repeat = may_repeat;
    world.run(10 * SECOND + step * Duration::from_millis(200));
    world.fault(Fault::StoreParts { alone: talk.owner, needs });
    world.run(40 * SECOND);
    assert_eq!(world.calls.taken.len(), 1, "another goes on with it\n{}", world.story());
    (world, talk)
}

/// The node that takes a call sleeps, at each moment of that, until long after its lease is gone.
#[test]
fn takers_that_sleep_in_the_middle_leave_a_call_to_the_next_or_go_on_with_it() {
    for step in 0..60u64 {
        let (mut world, Talk { owner, .. }) =
            talking(World::either(12_000 + step, step.is_multiple_of(2)));
        world.fault(Fault::Kill(owner));
        while world.claims() == 0 {
            world.run(Duration::from_millis(5));
        }
        world.run(Duration::from_millis(step * 2));
        let taker = world.claimed_last();
        world.fault(Fault::Pause(taker));
        world.run(Duration::from_millis(500 + step * 250));
        if step % 3 == 0 {
            world.fault(Fault::Start(owner));
            world.run(SECOND);
        }
        world.fault(Fault::Wake(taker));
        world.run(12 * SECOND);
        world.expect_one_owner();
        world.heal_all();
        world.run(5 * SECOND);
        world.ends_recorded_once(step);
    }
}

/// A second process of a node's name begins on another machine while the first sleeps, or is cut
/// off from the store: the name is the second's, and so are the calls, or they stay with the first.
#[test]
fn a_second_process_of_a_sleeping_node_s_name_and_the_first_have_no_call_in_common() {
    for step in 0..40u32 {
        let floats = step % 2 == 0;
        let (mut world, Talk { owner, .. }) =
            talking(World::either(13_000 + u64::from(step), floats));
        let cut = step % 4 >= 2;
        world.fault(if cut { Fault::CutStore(owner) } else { Fault::Pause(owner) });
        world.run(step * Duration::from_millis(100));
        let twin = world.add_twin(owner);
        world.run(step * Duration::from_millis(300));
        world.fault(if cut { Fault::HealStore(owner) } else { Fault::Wake(owner) });
        world.run(12 * SECOND);
        // The first one has asked which of its calls are another's, though the name is not its any
        // more, and keeps the rest.
        world.expect_one_owner();
        let taken = !world.calls.taken.is_empty();
        assert_eq!(world.said(owner, "NodeDeposed"), taken, "step {step}\n{}", world.story());
        world.hang_up_all();
        world.media_stops();
        world.run(5 * SECOND);
        // Whoever has the call writes its record, and does not wait until there is one process.
        let ended = (world.calls.records(), world.calls.excused());
        assert_eq!(ended.0 + ended.1, 1, "step {step}\n{}", world.story());
        // The operator stops the one that was a mistake.
        world.fault(Fault::Kill(twin));
        world.run(12 * SECOND);
        world.expect_idle();
    }
}

/// The first one has had its calls closed, and the store loses that, while the others do not reach
/// it, nor it the store at times: it tells that again, or learns whose they are by then.
#[test]
fn a_store_that_lost_that_calls_were_closed_is_told_again_or_says_who_took_them() {
    let (mut closed, mut taken) = (0, 0);
    for step in 0..24u32 {
        let (mut world, Talk { owner, .. }) =
            talking(World::either(18_000 + u64::from(step), step % 4 >= 2));
        world.fault(Fault::CutStore(owner));
        world.run(Duration::from_millis(2_000 + 50 * u64::from(step)));
        let twin = world.add_twin(owner);
        world.run(2 * SECOND);
        world.fault(Fault::HealStore(owner));
        world.run(6 * SECOND);
        if !world.calls.taken.is_empty() {
            continue;
        }
        closed += 1;
        (0..=twin).filter(|n| *n != owner).for_each(|n| world.fault(Fault::Cut(owner, n)));
        let cut = step % 2 == 0;
        if cut {
            world.fault(Fault::CutStore(owner));
        }
        world.lose_claims();
        world.run(15 * SECOND);
        let others = world.calls.taken.len();
        assert!(cut || others == 0, "step {step}\n{}", world.story());
        taken += others;
        world.fault(Fault::HealStore(owner));
        world.run(5 * SECOND);
        world.expect_one_owner();
        world.heal_all();
        world.run(5 * SECOND);
        world.expect_one_owner();
        world.ends_recorded_once(step);
    }
    assert!(closed > 8 && taken > 4, "{closed} were closed, {taken} taken by others");
}

/// The store's clock is put back by an hour, and the lease of a node that is gone would last for as
/// much longer: the others see by their own time that nobody renews it.
#[test]
fn a_node_is_gone_after_its_time_though_the_store_s_clock_was_put_back() {
    for step in 0..24u32 {
        let (mut world, Talk { from, to, owner }) =
            talking(World::either(16_000 + u64::from(step), step % 2 == 0));
        let ahead = step % 3 == 0;
        if ahead {
            world.fault(Fault::StoreClock(-3_600_000));
            world.run(step * Duration::from_millis(70));
        }
        world.fault(Fault::Kill(owner));
        if !ahead {
            world.run(step * Duration::from_millis(70));
            world.fault(Fault::StoreClock(-3_600_000));
        }
        let gone = world.now();
        while world.calls.taken.is_empty() && world.now() < gone + 20 * SECOND {
            world.run(Duration::from_millis(50));
        }
        let (waited, story) = (world.now() - gone, world.story());
        // Where the address moves, whoever gets it has its time for that.
        assert!(waited < 10 * SECOND, "step {step}: {waited:?}\n{story}");
        world.run(5 * SECOND);
        assert!(world.talks(from) && world.talks(to), "step {step}\n{}", world.story());
        world.fault(Fault::Start(owner));
        world.run(5 * SECOND);
        assert!(world.all_see(3), "step {step}\n{}", world.story());
        world.ends_recorded_once(step);
    }
}

/// Likewise of a node that is started again at once, on a machine without a disk: the lease of its
/// process before does not keep it out for an hour.
#[test]
fn the_next_process_of_a_node_joins_though_the_store_s_clock_was_put_back() {
    for step in 0..12u32 {
        let mut world = World::new(17_000 + u64::from(step));
        world.settle();
        let (from, to) = world.strangers();
        let node = world.node_of(to);
        world.fault(Fault::Kill(node));
        world.fault(Fault::StoreClock(-3_600_000));
        world.run(step * Duration::from_millis(300));
        world.fault(Fault::Start(node));
        world.run(5 * SECOND);
        assert!(!world.said(node, "NodeNameTaken") && world.all_see(3), "{}", world.story());
        world.expect_call(from, to);
        world.expect_idle();
    }
}

/// A process begins with a clock that is behind that of the one before, and without its disk.
#[test]
fn a_node_whose_clock_was_put_back_goes_on_with_its_calls() {
    for step in 0..20u32 {
        for ahead in [0, -100_000] {
            let (mut world, Talk { from, to, owner }) =
                talking(World::floating(14_000 + u64::from(step)));
            world.fault(Fault::Kill(owner));
            world.run(step * Duration::from_millis(500));
            world.fault(Fault::NodeClock(owner, ahead));
            world.fault(Fault::Start(owner));
            world.run(20 * SECOND);
            let story = world.story();
            assert!(world.talks(from) && world.talks(to), "{ahead} s, step {step}\n{story}");
            assert_eq!(world.calls.taken.len(), 1, "{ahead} s, step {step}: once\n{story}");
            world.ends_idle();
            assert_eq!(world.calls.records(), 1, "{ahead} s, step {step}");
        }
    }
}

/// Every answer of the store comes two seconds late: for the nodes it is away, and in the store
/// their leases live.
#[test]
fn a_store_that_answers_two_seconds_late_costs_no_call_and_no_registration() {
    for seed in 0..6 {
        let (mut world, Talk { from, to, .. }) =
            talking(World::either(15_000 + seed, seed % 2 == 0));
        world.fault(Fault::StoreSlow(2 * SECOND));
        world.run(60 * SECOND);
        assert_eq!(world.calls.taken, [], "nobody is lost\n{}", world.story());
        assert!(world.talks(from) && world.talks(to), "{}", world.story());
        let before = world.registered();
        (0..world.phones()).for_each(|phone| world.register_again(phone));
        world.run(SECOND);
        assert_eq!(world.registered() - before, world.phones(), "each is taken at once");
        assert!(world.node_of(2) == world.node_of(5) && ![from, to].contains(&2));
        world.expect_call(2, 5);
        world.fault(Fault::StoreSlow(Duration::ZERO));
        world.run(5 * SECOND);
        world.hang_up_all();
        world.expect_call(from, to);
        world.expect_idle();
        assert_eq!(world.calls.excused(), 0);
    }
}
