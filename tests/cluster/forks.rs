//! A user with phones at several nodes: all ring, one has the call, and the others are told.

use crate::SECOND;
use crate::world::{Fault, World};

/// A user with a phone at each of two nodes, and a caller at the third.
fn two_phones(seed: u64) -> (World, usize, [usize; 2]) {
    let mut world = World::new(seed);
    world.settle();
    let (from, to) = world.strangers();
    let nodes = [world.node_of(from), world.node_of(to)];
    let third = (0..3).find(|n| !nodes.contains(n)).expect("there are three");
    let second = world.add_phone(to, third);
    (world, from, [to, second])
}

#[test]
fn phones_of_one_user_at_two_nodes_ring_together_and_one_has_the_call() {
    let (mut world, from, both) = two_phones(57);
    for picks_up in both {
        both.iter().for_each(|phone| world.phone(*phone).lets_ring = *phone != picks_up);
        world.call(from, both[0]);
        world.run(2 * SECOND);
        assert!(world.talks(from) && world.talks(picks_up), "{}", world.story());
        for other in both.into_iter().filter(|phone| *phone != picks_up) {
            assert!(world.phone(other).rung() > 0 && !world.phone(other).rings());
        }
        world.hang_up(picks_up);
        world.run(SECOND);
        assert!(!world.talks(from));
    }
    world.expect_idle();
}

#[test]
fn two_phones_that_pick_up_at_once_are_one_call() {
    for seed in 60..75 {
        let (mut world, from, both) = two_phones(seed);
        world.call(from, both[0]);
        world.run(3 * SECOND);
        let talking = both.iter().filter(|phone| world.talks(**phone)).count();
        assert!(talking == 1 && world.talks(from), "seed {seed}\n{}", world.story());
        world.hang_up(from);
        world.run(SECOND);
        assert!(!both.iter().any(|phone| world.talks(*phone)), "seed {seed}");
        world.expect_idle();
    }
}

#[test]
fn a_caller_that_gives_up_stops_the_ringing_at_every_node() {
    let (mut world, _, both) = two_phones(58);
    both.iter().for_each(|phone| world.phone(*phone).lets_ring = true);
    let (owner, wrong) = (0, 1);
    let user = both[0];
    let request = |method: &str, body: &str| {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} sip:10{user}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.77;branch=z9hG4bKf\r\n\
             Max-Forwards: 70\r\nFrom: <sip:55@127.0.0.77>;tag=far\r\nTo: <sip:10{user}@127.0.0.1>\r\n\
             Call-ID: fork\r\nCSeq: 1 {method}\r\nContact: <sip:far@127.0.0.77>\r\n{kind}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    world.trunk_says(owner, request("INVITE", crate::TRUNK_SDP));
    world.run(SECOND);
    assert!(both.iter().all(|phone| world.phone(*phone).rings()), "{}", world.story());
    world.trunk_says(wrong, request("CANCEL", ""));
    world.run(SECOND);
    assert!(!both.iter().any(|phone| world.phone(*phone).rings()), "{}", world.story());
    let (by, refused) = world.trunk_got("487");
    assert_eq!(by, owner);
    let tag = refused.to().and_then(|to| to.tag().map(str::to_owned)).expect("a tag");
    let to = format!("To: <sip:10{user}@127.0.0.1>");
    let ack = request("ACK", "").replace(&to, &format!("{to};tag={tag}"));
    world.trunk_says(wrong, ack);
    world.expect_idle();
}

#[test]
fn a_phone_at_a_node_that_cannot_be_reached_keeps_nobody_from_the_other() {
    let (mut world, from, [here, there]) = two_phones(59);
    let (caller, away) = (world.node_of(from), world.node_of(there));
    world.phone(here).lets_ring = true;
    world.fault(Fault::Cut(caller, away));
    world.call(from, here);
    // By then the other node was given up.
    world.run(10 * SECOND);
    assert!(world.phone(here).rings(), "{}", world.story());
    assert_eq!(world.phone(there).rung(), 0);
    assert_eq!(world.phone(from).status, None, "it still rings");
    world.run(15 * SECOND);
    assert_eq!(world.phone(from).status, Some(480), "nobody has picked up");
    world.fault(Fault::Heal(caller, away));
    world.run(SECOND);
    world.phone(here).lets_ring = false;
    world.phone(there).lets_ring = true;
    world.expect_call(from, here);
    world.expect_idle();
}
