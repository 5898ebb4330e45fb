//! Who took the calls of a lost node, as far as anybody knows: takers that are several, die, sleep,
//! or are cut off, and a store that has lost what it was told of them.

use crate::SECOND;
use crate::takeover::{Talk, talking};
use crate::world::{Fault, World};
use std::time::Duration;

#[test]
fn two_takers_at_once_are_one_taker_and_one_that_is_told_so() {
    for seed in 120..130 {
        let (mut world, Talk { from, to, owner }) = talking(World::new(seed));
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
        let (mut world, Talk { owner, .. }) = talking(World::new(1_400 + step));
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
        world.ends_idle();
        assert!(world.calls.records() + world.calls.excused() >= 1, "step {step}");
    }
    assert!(gone_on >= 20, "{gone_on} of 60 calls reached the third node");
}

/// The node whose call another took is back, and a phone of it is at the third: what it says there
/// reaches the taker, though the call's name says that it is the node's that is back.
#[test]
fn a_lost_node_that_is_back_does_not_hide_who_has_its_calls() {
    let (mut world, Talk { from, to, owner }) = talking(World::floating(150));
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
        let (mut world, Talk { owner, .. }) = talking(World::floating(151));
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
        assert_eq!(world.claims(), before, "the taker may have them, and has not told so");
        world.run(45 * SECOND);
        assert!(world.claims() > before, "the third claims\n{}", world.story());
        world.fault(Fault::Wake(owner));
        world.run(late * SECOND);
        world.fault(Fault::Wake(taker));
        world.run(5 * SECOND);
        assert_eq!(world.calls.taken.len(), 1, "the third found none");
        world.expect_one_owner();
        world.ends_idle();
        assert_eq!((world.calls.records(), world.calls.excused()), (1, 0), "after {late} s");
    }
}

/// The store forgets that the calls of a lost node were taken before the taker has said so, and the
/// taker reaches the store no more: it tells the node that is back, and the third, as it asks them.
#[test]
fn a_node_that_is_back_leaves_its_calls_to_who_took_them_though_the_store_forgot_that() {
    for (seed, floats) in [(152, true), (153, true), (154, false), (155, false)] {
        let (mut world, Talk { from, to, owner }) = talking(World::either(seed, floats));
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
        world.ends_idle();
        assert_eq!((world.calls.records(), world.calls.excused()), (1, 0), "seed {seed}");
    }
}

/// A node that slept is back at a store that has lost who took its calls. The taker was started
/// again, and learns only from the store whose calls it had: what it says before does not clear
/// anybody.
#[test]
fn the_next_process_of_a_taker_clears_nobody_before_it_knows_what_was_taken() {
    for seed in 156..160 {
        let (mut world, Talk { from, owner, .. }) = talking(World::floating(seed));
        let third = (owner + 2) % 3;
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
        world.ends_idle();
        assert_eq!((world.calls.records(), world.calls.excused()), (1, 0), "seed {seed}");
    }
}

/// The taker is away from the store for longer than anybody waits for its lease: it tells the first
/// owner itself.
#[test]
fn an_owner_believes_who_says_that_it_has_its_calls_however_long_the_store_knows_nothing_of_it() {
    for late in [0, 70] {
        let (mut world, Talk { owner, .. }) = talking(World::floating(160 + late));
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
        world.ends_idle();
        assert_eq!((world.calls.records(), world.calls.excused()), (1, 0), "after {late} s");
    }
}

/// A node's calls are looked for by those who knew of it. If these sleep, and die of it, the store
/// has the calls for nobody; if one of them wakes it takes them.
#[test]
fn a_call_is_lost_where_all_who_knew_of_its_node_die_and_only_there() {
    for wakes in [true, false] {
        let (mut world, Talk { owner, .. }) = talking(World::floating(152));
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
        world.ends_idle();
        let lost = usize::from(!wakes);
        assert_eq!((world.calls.records(), world.calls.excused()), (1 - lost, lost));
    }
}

/// The store's clock is put back once it has forgotten which calls of a node that sleeps were
/// taken, because that is long ago or because the taker had to tell it again. The node wakes while
/// the taker cannot say that it has them: that they are forgotten does not say that there were
/// none.
#[test]
fn calls_that_are_forgotten_are_not_none_by_a_clock_that_was_put_back() {
    for (seed, again) in [(196, false), (197, false), (198, true), (199, true)] {
        let (mut world, Talk { from, owner, .. }) = talking(World::either(seed, seed % 2 == 0));
        world.fault(Fault::Pause(owner));
        world.run(14 * SECOND);
        assert_eq!(world.calls.taken.len(), 1, "{}", world.story());
        let taker = world.calls.taken[0].0;
        world.reconnect_at(from, taker);
        if again {
            world.lose_claims();
        }
        world.run(if again { 5 } else { 65 } * SECOND);
        world.fault(Fault::StoreClock(-3_600_000));
        world.fault(Fault::CutStore(taker));
        world.fault(Fault::Cut(owner, taker));
        world.run(8 * SECOND);
        world.fault(Fault::Wake(owner));
        // At a store that may have lost something it waits for others for a minute.
        world.run(if again { 65 } else { 5 } * SECOND);
        assert!(world.said(owner, "NodeDeposed"), "seed {seed}\n{}", world.story());
        world.heal_all();
        world.run(5 * SECOND);
        world.expect_one_owner();
        world.ends_idle();
        let ended = (world.calls.records(), world.calls.excused());
        assert_eq!(ended, (1, 0), "seed {seed}\n{}", world.story());
    }
}

/// The store fails over to a replica that knows nothing of a taker and of what that wrote, and the
/// taker reaches neither it nor the third node, which knows that it may have the calls of the one
/// that is lost: it leaves them to the taker, or for so long that nobody goes on with their media.
#[test]
fn what_a_node_may_have_taken_that_cannot_say_so_is_left_to_it() {
    let mut left = 0;
    for seed in 174..186 {
        let (floats, dies) = (seed % 2 == 0, seed % 4 >= 2);
        let (mut world, Talk { owner, .. }) = talking(World::either(seed, floats));
        world.fault(Fault::Kill(owner));
        while world.calls.taken.is_empty() {
            world.run(Duration::from_millis(1));
        }
        let taker = world.calls.taken[0].0;
        let third = (0..3).find(|n| ![owner, taker].contains(n)).expect("there are three");
        // It sends under the call's keys.
        world.run(Duration::from_millis(40));
        world.fault(Fault::StoreFailsOver);
        world.fault(Fault::CutStore(taker));
        world.fault(Fault::Cut(taker, third));
        world.run(15 * SECOND);
        left += usize::from(world.calls.taken.len() == 1);
        if dies {
            world.fault(Fault::Kill(taker));
            world.run(40 * SECOND);
        }
        world.heal_all();
        world.run(5 * SECOND);
        world.expect_one_owner();
        world.ends_idle();
        assert_eq!((world.calls.records(), world.calls.excused()), (1, 0), "seed {seed}");
        assert_eq!(world.calls.indices.repeated, 0, "seed {seed}");
    }
    // Else what the taker wrote has reached the replica: it is lost as any node that is cut off.
    assert!(left >= 6, "{left} of 12 were left to the taker");
}

/// A store that is started again without its data gets a value of a call before it is told whose
/// calls the taker has, and loses all that comes after: the next process of the taker would find a
/// call of which it does not know that a node that sleeps has it, too.
#[test]
fn a_store_that_has_lost_whose_a_call_is_gets_no_value_of_it() {
    let mut recorded = 0;
    for step in 0..10 {
        let (mut world, Talk { from, to, owner }) = talking(World::floating(180 + step));
        let third = (owner + 2) % 3;
        world.fault(Fault::CutStore(third));
        world.fault(Fault::Pause(owner));
        world.run(14 * SECOND + Duration::from_millis(100) * step as u32);
        assert_eq!(world.calls.taken.len(), 1, "{}", world.story());
        let taker = world.calls.taken[0].0;
        assert_eq!(world.node_of(to), taker);
        world.fault(Fault::StoreEmpty);
        world.asks(to);
        world.fault(Fault::Kill(taker));
        world.run(5 * SECOND);
        world.hang_up(from);
        world.run(SECOND);
        world.fault(Fault::Start(taker));
        world.run(SECOND);
        world.fault(Fault::Wake(owner));
        world.run(8 * SECOND);
        world.fault(Fault::HealStore(third));
        world.run(5 * SECOND);
        world.expect_one_owner();
        world.ends_idle();
        // It may be told whose calls they are, and die before it is told of the call.
        assert_eq!(world.calls.records() + world.calls.excused(), 1, "step {step}");
        recorded += world.calls.records();
    }
    assert!(recorded >= 8, "{recorded} of 10");
}

/// The taker is upgraded while nobody reaches the store, so that this cannot say whose calls it
/// has: the process before says that with the calls.
#[test]
fn an_upgraded_taker_knows_whose_calls_it_has_though_the_store_is_away() {
    for seed in 190..194 {
        let (mut world, Talk { from, owner, .. }) = talking(World::floating(seed));
        let third = (owner + 2) % 3;
        world.fault(Fault::CutStore(third));
        world.fault(Fault::Pause(owner));
        world.run(14 * SECOND);
        assert_eq!(world.calls.taken.len(), 1, "{}", world.story());
        let taker = world.calls.taken[0].0;
        // Somebody hangs up at the node that sleeps.
        world.hang_up(from);
        world.run(SECOND);
        world.fault(Fault::StoreDown);
        world.upgrade(taker);
        world.run(SECOND);
        world.fault(Fault::Wake(owner));
        // By then nobody would look for these calls any more.
        world.run(75 * SECOND);
        world.lose_claims();
        world.heal_all();
        world.run(8 * SECOND);
        world.expect_one_owner();
        world.ends_idle();
        assert_eq!((world.calls.records(), world.calls.excused()), (1, 0), "seed {seed}");
    }
}

#[test]
fn a_node_that_stops_while_the_store_is_away_writes_the_records_that_wait_for_it() {
    let (mut world, Talk { from, to, owner }) = talking(World::new(195));
    world.fault(Fault::StoreDown);
    world.run(5 * SECOND);
    world.hang_up(from);
    world.run(SECOND);
    assert!(!world.talks(to));
    assert_eq!(world.calls.records(), 0, "the store still has the call");
    world.stop(owner);
    assert_eq!(world.calls.records(), 1);
    // Whoever finds it there within a minute writes one, too.
    world.run(70 * SECOND);
    world.heal_all();
    world.run(5 * SECOND);
    world.ends_idle();
    assert_eq!(world.calls.records(), 1);
}
