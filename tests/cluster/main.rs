//! Three whole gateways, a store and their users in virtual time. A seed is a run: which links and
//! which node fail when, what is lost, late or doubled. Whatever happened, five seconds after the
//! last fault everybody reaches everybody, nobody was hung up on twice, and nothing is left.

mod phone;
mod store;
mod world;

use std::time::Duration;
use webtrunk::errors::Code;
use world::{Fault, World};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_browser_on_any_node_reaches_any_other() {
    let mut world = World::new(1);
    world.settle();
    for from in 0..world.phones() {
        for to in (0..world.phones()).filter(|to| *to != from) {
            world.expect_call(from, to);
        }
    }
    world.expect_idle();
}

#[test]
fn a_user_of_this_node_is_rung_without_the_store() {
    let mut world = World::new(2);
    world.settle();
    let (from, to) = world.neighbours();
    let asked = world.located();
    world.fault(Fault::StoreDown);
    world.run(10 * SECOND);
    world.expect_call(from, to);
    assert_eq!(world.located(), asked, "a local hit asks nobody");
    world.fault(Fault::StoreUp);
    world.run(5 * SECOND);
    world.expect_idle();
}

#[test]
fn while_the_store_is_away_users_elsewhere_are_480_with_a_verdict_and_back_after_it() {
    let mut world = World::new(3);
    world.settle();
    let (from, to) = world.strangers();
    world.fault(Fault::StoreDown);
    world.run(10 * SECOND);
    let (status, code) = world.expect_refused(from, to);
    assert_eq!((status, code), (480, Code::STORE_AWAY));
    world.fault(Fault::StoreUp);
    world.run(5 * SECOND);
    world.expect_call(from, to);
    // It may come back without anything it held.
    world.fault(Fault::StoreEmpty);
    world.run(5 * SECOND);
    world.expect_call(from, to);
    world.expect_idle();
}

#[test]
fn a_question_that_is_never_answered_costs_50_ms() {
    let mut world = World::new(4);
    world.settle();
    let (from, to) = world.strangers();
    world.fault(Fault::LocateUnanswered);
    let began = world.now();
    let (status, code) = world.expect_refused(from, to);
    assert_eq!((status, code), (480, Code::STORE_AWAY));
    let waited = world.now() - began;
    assert!(waited >= Duration::from_millis(50), "{waited:?}");
    assert!(waited < Duration::from_millis(100), "{waited:?}");
    world.fault(Fault::StoreUp);
    world.expect_call(from, to);
    world.expect_idle();
}

#[test]
fn a_node_that_does_not_answer_is_480_with_a_verdict() {
    let mut world = World::new(5);
    world.settle();
    let (from, to) = world.strangers();
    let (a, b) = (world.node_of(from), world.node_of(to));
    world.fault(Fault::Cut(a, b));
    let (status, code) = world.expect_refused(from, to);
    assert_eq!((status, code), (480, Code::NODE_AWAY));
    world.fault(Fault::Heal(a, b));
    world.run(SECOND);
    world.expect_call(from, to);
    world.expect_idle();
}

#[test]
fn a_second_node_of_one_name_does_not_join_and_the_first_goes_on() {
    let mut world = World::new(6);
    world.settle();
    let (from, to) = world.strangers();
    let twin = world.add_twin(world.node_of(to));
    world.run(8 * SECOND);
    assert!(world.said(twin, "NodeNameTaken"), "the second says so");
    assert!(!world.said(world.node_of(to), "NodeNameTaken"), "the first does not");
    world.expect_call(from, to);
    world.expect_idle();
}

#[test]
fn a_node_that_is_killed_and_started_again_joins_without_a_complaint() {
    let mut world = World::new(7);
    world.settle();
    let (from, to) = world.strangers();
    let node = world.node_of(to);
    world.fault(Fault::Kill(node));
    world.run(SECOND);
    world.fault(Fault::Start(node));
    world.run(5 * SECOND);
    assert!(!world.said(node, "NodeNameTaken"));
    world.expect_call(from, to);
    world.expect_idle();
}

#[test]
fn a_register_costs_two_operations_of_the_store_at_most() {
    let mut world = World::new(8);
    world.settle();
    let (before, registered) = (world.operations(), world.registered());
    for phone in 0..world.phones() {
        world.register_again(phone);
    }
    world.run(SECOND);
    let (operations, registered) = (world.operations() - before, world.registered() - registered);
    assert_eq!(registered, world.phones());
    assert!(operations <= 2 * registered, "{operations} for {registered}");
    world.expect_idle();
}

#[test]
fn a_phone_in_a_call_of_another_node_goes_on_by_another_connection() {
    let mut world = World::new(9);
    world.settle();
    let (from, to) = world.strangers();
    world.call(from, to);
    world.run(2 * SECOND);
    assert!(world.talks(from) && world.talks(to));
    world.reconnect_there(to);
    world.run(3 * SECOND);
    world.hang_up(to);
    world.run(SECOND);
    assert!(!world.talks(from), "the caller heard of it");
    world.call(from, to);
    world.run(2 * SECOND);
    world.reconnect_there(to);
    world.run(3 * SECOND);
    world.hang_up(from);
    world.run(SECOND);
    assert!(!world.talks(to), "and the callee");
    world.expect_idle();
}

#[test]
fn a_step_asks_for_so_many_users_and_no_more() {
    let mut world = World::new(10);
    world.settle();
    let (status, code) = world.expect_refused(0, 99);
    assert_eq!((status, code, world.last_asked), (480, Code::NOT_REGISTERED, 10));
    world.expect_idle();
}

fn run_of(seed: u64) {
    let mut world = World::new(seed);
    world.settle();
    world.stir(45 * SECOND);
    world.heal_all();
    world.run(5 * SECOND);
    world.hang_up_all();
    for from in 0..world.phones() {
        let to = (from + 1 + (seed as usize % (world.phones() - 1))) % world.phones();
        world.expect_call(from, to);
    }
    world.expect_idle();
}

#[test]
fn whatever_fails_everybody_is_reached_five_seconds_later() {
    let seeds: u64 = std::env::var("WEBTRUNK_SEEDS").map_or(200, |n| n.parse().expect("a number"));
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || {
                (0..seeds).filter(|n| n % 2 == half).for_each(|n| run_of(1_000 + n));
            });
        }
    });
}

#[test]
fn a_seed_repeats_a_run() {
    let picture = |seed| {
        let mut world = World::new(seed);
        world.settle();
        world.stir(20 * SECOND);
        world.picture()
    };
    assert_eq!(picture(77), picture(77));
    assert_ne!(picture(77), picture(78));
}
