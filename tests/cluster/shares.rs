//! Limits that hold for all nodes together, and what one node does for all.

use crate::SECOND;
use crate::world::{Fault, World};
use crate::wrong_node::request;
use std::ops::Range;
use std::time::Duration;

/// What the trunk of the world may have at once.
const TRUNK_CALLS: usize = 4;

#[test]
fn a_trunk_has_its_calls_at_all_nodes_together_and_about_one_more_for_each_node_at_most() {
    let mut world = World::new(31);
    world.settle();
    world.run(5 * SECOND);
    // All at once, more than it may have.
    for n in 0..24 {
        world.dial_at_once(n % 6, 9_100 + n);
    }
    world.run(3 * SECOND);
    let begun = world.calls_of_trunk();
    assert!(begun >= TRUNK_CALLS, "{begun}: no limit is reached while it is not");
    assert!(begun <= TRUNK_CALLS + 3, "{begun}: one for each node more");
    // What the store counts is known by now.
    (0..6).for_each(|phone| world.dial_at_once(phone, 9_200 + phone));
    world.run(SECOND);
    for phone in 0..6 {
        assert!(world.phone(phone).status.is_some_and(|status| status >= 400), "u{phone}");
    }
    assert_eq!(world.calls_of_trunk(), begun);
    world.run(200 * SECOND);
    world.expect_idle();
}

#[test]
fn one_node_may_have_all_of_a_trunk_and_what_is_given_back_is_had_elsewhere() {
    let mut world = World::new(32);
    world.settle();
    world.run(5 * SECOND);
    for n in 0..TRUNK_CALLS {
        world.dial(0, 9_100 + n);
        world.run(1_100 * Duration::from_millis(1));
    }
    assert_eq!(world.calls_of_trunk(), TRUNK_CALLS, "by one node, one after the other");
    // Both have renewed their leases, one after the other; the trunk still has the first call.
    world.run(Duration::from_millis(1_100));
    world.dial(1, 9_150);
    world.run(SECOND);
    assert!(world.phone(1).status.is_some(), "nothing is left for another");
    // Some of its calls are over by then.
    world.run(Duration::from_millis(900));
    world.fault(Fault::Kill(world.node_of(0)));
    // Who takes its other calls ends them, and asks the trunk for as long as a transaction lasts.
    world.run(40 * SECOND);
    world.forget_trunk();
    for n in 0..TRUNK_CALLS {
        world.dial(1, 9_160 + n);
        world.run(1_100 * Duration::from_millis(1));
    }
    let begun = world.calls_of_trunk_by(world.node_of(1));
    assert_eq!(begun, TRUNK_CALLS, "a dead node has nothing");
    world.heal_all();
    world.run(200 * SECOND);
    world.expect_idle();
}

#[test]
fn while_the_store_is_away_each_node_goes_on_with_its_part_of_a_trunk() {
    let mut world = World::new(33);
    world.settle();
    world.run(5 * SECOND);
    world.fault(Fault::StoreDown);
    world.run(30 * SECOND);
    for n in 0..24 {
        world.dial_at_once(n % 6, 9_100 + n);
    }
    world.run(3 * SECOND);
    let begun = world.calls_of_trunk();
    assert!((1..=TRUNK_CALLS).contains(&begun), "{begun}");
    world.fault(Fault::StoreUp);
    world.run(200 * SECOND);
    world.expect_idle();
}

/// What a trunk may begin in a second, of all nodes together.
const PACE: usize = 9;

fn with_pace(seed: u64) -> World {
    let mut world = World::with_trunk(seed, "calls_per_second = 9\nmax_calls = 150\n");
    world.settle();
    world.run(5 * SECOND);
    world
}

/// The trunk offers each of these nodes ten calls a second, in these seconds; returns how many each
/// of all let in.
fn offer(world: &mut World, nodes: &[usize], seconds: Range<usize>) -> Vec<[usize; 3]> {
    for second in seconds.clone() {
        for tenth in 0..10 {
            for node in nodes {
                let call = format!("pace{node}-{second}-{tenth}");
                let text = request("INVITE", 9, &call, &format!("z9hG4bK{call}"), "", "");
                world.trunk_says_now(*node, &text);
            }
            world.run(100 * Duration::from_millis(1));
        }
    }
    let by = |second, node| world.let_in(&format!("pace{node}-{second}-"));
    seconds.map(|second| std::array::from_fn(|node| by(second, node))).collect()
}

#[test]
fn one_busy_node_has_a_trunk_s_calls_of_a_second_and_one_that_begins_beside_it_its_part() {
    let mut world = with_pace(61);
    let alone = offer(&mut world, &[0], 0..8);
    assert_eq!(alone[0][0], PACE / 3, "its part at once: {alone:?}");
    assert!(alone[6..].iter().all(|each| each[0] == PACE), "what the others leave: {alone:?}");
    let both = offer(&mut world, &[0, 1], 8..14);
    assert!(both.iter().all(|each| each[1] >= PACE / 3), "its part at once: {both:?}");
    let sums: Vec<usize> = both.iter().map(|each| each.iter().sum()).collect();
    assert!(sums.iter().all(|sum| *sum < 2 * PACE), "{both:?}");
    assert_eq!(sums[3..], [PACE; 3], "{both:?}");
    // The first has nothing more to do.
    let other = offer(&mut world, &[1], 14..22);
    assert!(other[6..].iter().all(|each| each[1] == PACE), "{other:?}");
    world.run(200 * SECOND);
    world.expect_idle();
}

#[test]
fn where_all_nodes_are_busy_each_has_its_part_of_a_trunk_s_calls_of_a_second() {
    let mut world = with_pace(62);
    let all = offer(&mut world, &[0, 1, 2], 0..12);
    assert!(all.iter().flatten().all(|each| *each >= PACE / 3), "{all:?}");
    let sums: Vec<usize> = all.iter().map(|each| each.iter().sum()).collect();
    assert!(sums.iter().all(|sum| *sum < 2 * PACE), "{all:?}");
    assert_eq!(sums[3..], [PACE; 9], "{all:?}");
    world.run(200 * SECOND);
    world.expect_idle();
}

#[test]
fn while_the_store_is_away_each_node_has_its_part_of_a_trunk_s_calls_of_a_second() {
    let mut world = with_pace(63);
    let alone = offer(&mut world, &[0], 0..8);
    assert_eq!(alone[7][0], PACE, "{alone:?}");
    world.fault(Fault::StoreDown);
    let away = offer(&mut world, &[0], 8..16);
    // While its lease lasts, the others know of what it has.
    assert_eq!(away[0][0], PACE, "{away:?}");
    assert!(away[4..].iter().all(|each| each[0] == PACE / 3), "{away:?}");
    let all = offer(&mut world, &[0, 1, 2], 16..19);
    assert_eq!(all, [[PACE / 3; 3]; 3]);
    world.fault(Fault::StoreUp);
    let back = offer(&mut world, &[0], 19..29);
    assert_eq!(back[9][0], PACE, "{back:?}");
    world.run(200 * SECOND);
    world.expect_idle();
}

#[test]
fn a_user_has_its_calls_at_all_nodes_together() {
    let mut world = World::new(34);
    world.settle();
    let there = (world.node_of(5) + 1) % 3;
    let second = world.add_phone(5, there);
    (0..5).for_each(|n| world.phone(n).lets_ring = true);
    for to in [0, 1] {
        world.call(5, to);
        world.run(SECOND);
    }
    // The limit is 3: the other phone may have one more.
    world.run(2 * SECOND);
    world.call(second, 2);
    world.run(SECOND);
    assert!(world.phone(2).rings());
    world.call(second, 3);
    world.run(SECOND);
    assert_eq!(world.phone(second).status, Some(486));
    world.run(60 * SECOND);
    world.call(second, 3);
    world.run(SECOND);
    assert!(world.phone(3).rings(), "they are over");
    world.run(60 * SECOND);
    world.expect_idle();
}

#[test]
fn one_node_registers_with_a_carrier_that_takes_one_and_another_when_it_is_gone() {
    let mut world = World::with_carrier(35);
    world.settle();
    world.run(10 * SECOND);
    let registering = |world: &mut World, time: Duration| {
        world.forget_trunk();
        world.run(time);
        world.nodes_that_registered()
    };
    let first = registering(&mut world, 120 * SECOND);
    assert_eq!(first.len(), 1, "{first:?}");
    let told: Vec<Vec<usize>> = (0..3).map(|n| world.registers_by(n)).collect();
    assert_eq!(told, vec![first.clone(); 3], "each knows which");
    // The store may be away for as long as it likes.
    world.fault(Fault::StoreDown);
    assert_eq!(registering(&mut world, 300 * SECOND), first);
    world.fault(Fault::StoreUp);
    // The first to renew its lease then has it.
    world.run(5 * SECOND);
    let first = registering(&mut world, 120 * SECOND);
    assert_eq!(first.len(), 1, "{first:?}");
    world.fault(Fault::Kill(first[0]));
    world.run(2 * SECOND);
    let second = registering(&mut world, 8 * SECOND);
    assert_eq!(second.len(), 1, "{second:?}");
    assert_ne!(second, first);
    world.fault(Fault::Start(first[0]));
    world.run(5 * SECOND);
    assert_eq!(registering(&mut world, 120 * SECOND), second, "it stays where it is");
    // Whoever cannot reach the store has lost it.
    world.fault(Fault::CutStore(second[0]));
    world.run(10 * SECOND);
    world.fault(Fault::HealStore(second[0]));
    world.run(10 * SECOND);
    let third = registering(&mut world, 120 * SECOND);
    assert_eq!(third.len(), 1, "{third:?}: and one alone has it");
}

/// By a store's clock that is put back, the node that registered has its share for an hour more.
#[test]
fn a_carrier_is_registered_with_though_its_node_is_gone_and_the_store_s_clock_was_put_back() {
    let mut world = World::with_carrier(38);
    world.settle();
    world.run(130 * SECOND);
    let first = world.nodes_that_registered();
    assert_eq!(first.len(), 1, "{first:?}");
    world.fault(Fault::StoreClock(-3_600_000));
    world.fault(Fault::Kill(first[0]));
    world.run(SECOND);
    world.forget_trunk();
    world.run(9 * SECOND);
    let second = world.nodes_that_registered();
    assert!(second.len() == 1 && second != first, "{second:?}");
}

#[test]
fn a_node_that_drains_or_does_not_reach_the_carrier_leaves_its_registration_to_another() {
    let mut world = World::with_carrier(37);
    world.settle();
    world.run(10 * SECOND);
    let registering = |world: &mut World, time: Duration| {
        world.forget_trunk();
        world.run(time);
        let found = world.nodes_that_registered();
        assert_eq!(found.len(), 1, "{found:?}");
        found[0]
    };
    let first = registering(&mut world, 120 * SECOND);
    // It is noticed when the registration is to be refreshed, and 32 s later it is given up.
    world.unheard = Some(first);
    world.run(95 * SECOND);
    let second = registering(&mut world, 120 * SECOND);
    assert_ne!(second, first);
    world.unheard = None;
    assert_eq!(registering(&mut world, 200 * SECOND), second, "it stays where it is");
    world.drain(second);
    assert_ne!(registering(&mut world, 5 * SECOND), second, "at once: it takes no calls");
    let third = registering(&mut world, 120 * SECOND);
    assert_ne!(third, second);
    // All fail: each tries now and then, and one has it as soon as it is heard.
    world.unheard = Some(third);
    world.fault(Fault::Kill(3 - second - third));
    world.run(150 * SECOND);
    world.unheard = None;
    world.run(300 * SECOND);
    assert_eq!(registering(&mut world, 120 * SECOND), third);
}

#[test]
fn a_node_asks_for_so_many_limits_and_no_more() {
    let mut world = World::with_trunks(36, 300);
    world.settle();
    assert!((100..=256).contains(&world.most_wishes()), "{}", world.most_wishes());
    world.expect_idle();
}
