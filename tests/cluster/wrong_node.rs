//! What reaches a node that has not what it is of, and does not say which node has: a CANCEL of
//! nothing, an INVITE or a text that comes again, an INVITE that names the dialog of another node.
//! It is answered as the node that has it would answer, once.

use crate::world::{Fault, World};
use crate::{SECOND, TRUNK_SDP};
use std::time::Duration;
use webtrunk::sip::Message;

pub(crate) const MS: Duration = Duration::from_millis(1);

/// A request of the trunk outside any dialog of its Call-ID.
pub(crate) fn request(
    method: &str,
    to: usize,
    call_id: &str,
    branch: &str,
    more: &str,
    body: &str,
) -> String {
    let kind = match (method, body) {
        (_, "") => "",
        ("MESSAGE", _) => "Content-Type: text/plain\r\n",
        _ => "Content-Type: application/sdp\r\n",
    };
    format!(
        "{method} sip:10{to}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.77;branch={branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:55@127.0.0.77>;tag=far\r\nTo: <sip:10{to}@127.0.0.1>\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:far@127.0.0.77>\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) fn tag_of(response: &Message) -> String {
    response.to().and_then(|to| to.tag().map(str::to_owned)).expect("a tag")
}

/// The same request within the dialog that a response makes.
pub(crate) fn within(
    text: &str,
    method: &str,
    response: &Message,
    branch: &str,
    number: u32,
) -> String {
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let lines = head.split("\r\n").map(|line| match line.split_once(": ") {
        Some(("Via", _)) => format!("Via: SIP/2.0/UDP 127.0.0.77;branch={branch}"),
        Some(("To", to)) => format!("To: {to};tag={}", tag_of(response)),
        Some(("CSeq", _)) => format!("CSeq: {number} {method}"),
        _ => line.to_owned(),
    });
    let lines: Vec<String> = lines.collect();
    format!("{}\r\n\r\n{body}", lines.join("\r\n"))
}

/// A call of the trunk to a phone, answered, at a node: the INVITE's 200.
pub(crate) fn call_of_trunk(world: &mut World, node: usize, to: usize, call_id: &str) -> Message {
    let branch = format!("z9hG4bKi{call_id}");
    world.trunk_says(node, request("INVITE", to, call_id, &branch, "", TRUNK_SDP));
    world.run(SECOND);
    let (by, ok) = world.trunk_got("200");
    assert_eq!(by, node);
    let ack = request("ACK", to, call_id, "z9hG4bKa", "", "");
    world.trunk_says(node, within(&ack, "ACK", &ok, &format!("z9hG4bKa{call_id}"), 1));
    assert!(world.talks(to));
    ok
}

fn third(world: &World, a: usize, b: usize) -> usize {
    (0..3).find(|n| ![a, b].contains(n)).unwrap_or_else(|| panic!("{}", world.story()))
}

#[test]
fn a_cancel_of_nothing_is_481_once_all_have_said_so_or_after_five_seconds() {
    let mut world = World::new(41);
    world.settle();
    let cancel = |branch: &str| request("CANCEL", 2, "none", branch, "", "");
    world.trunk_says(0, cancel("z9hG4bKn1"));
    assert_eq!(world.trunk_got("481").0, 0);
    assert!(!world.trunk_heard("481"), "once");
    assert_eq!(world.passed("CANCEL"), 2, "each other node is asked once");
    // One that cannot be asked may have it.
    world.fault(Fault::Cut(0, 1));
    world.trunk_says(0, cancel("z9hG4bKn2"));
    world.run(4_700 * MS);
    assert!(!world.trunk_heard("481"));
    world.run(300 * MS);
    assert_eq!(world.trunk_got("481").0, 0);
    world.run(10 * SECOND);
    assert!(!world.trunk_heard("481"), "once");
    // Nobody else says that there is none while one has it.
    world.phone(2).lets_ring = true;
    world.trunk_says(2, request("INVITE", 2, "some", "z9hG4bKs", "", TRUNK_SDP));
    world.run(SECOND);
    assert!(world.phone(2).rings());
    let cancel = request("CANCEL", 2, "some", "z9hG4bKs", "", "");
    world.trunk_says(0, cancel.clone());
    assert_eq!(world.trunk_got("200").0, 0);
    assert!(!world.phone(2).rings());
    world.trunk_says(0, cancel);
    world.run(10 * SECOND);
    assert!(!world.trunk_heard("481"));
    world.fault(Fault::Heal(0, 1));
    let (by, refused) = world.trunk_got("487");
    let ack = request("ACK", 2, "some", "z9hG4bKs", "", "");
    world.trunk_says(by, within(&ack, "ACK", &refused, "z9hG4bKs", 1));
    world.expect_idle();
}

/// What a user may have passed on in a second is the user's, and not each connection's.
#[test]
fn a_users_connections_share_what_is_passed_on_for_it() {
    let mut world = World::new(57);
    world.settle();
    let node = world.node_of(0);
    let phones = [0, world.add_phone(0, node)];
    let before = world.passed("CANCEL");
    for _ in 0..60 {
        for phone in phones {
            let cancel = world.phone(phone).outside("CANCEL", "sip:101@wt.test", "", "");
            world.says(phone, cancel);
        }
    }
    world.run(300 * MS);
    assert_eq!(world.passed("CANCEL") - before, 2 * 50, "fifty to each other node");
    world.run(10 * SECOND);
    world.expect_idle();
}

#[test]
fn a_cancel_reaches_a_call_whose_node_was_lost_a_moment_ago() {
    let mut world = World::new(42);
    world.settle();
    world.roam(false);
    world.phone(1).lets_ring = true;
    world.trunk_says(0, request("INVITE", 1, "lost", "z9hG4bKl", "", TRUNK_SDP));
    world.run(3 * SECOND);
    assert!(world.phone(1).rings());
    world.fault(Fault::Kill(0));
    world.forget_trunk();
    world.trunk_says(2, request("CANCEL", 1, "lost", "z9hG4bKl", "", ""));
    world.run(6 * SECOND);
    assert!(!world.trunk_heard("481"), "it is not over before somebody has it");
    assert_eq!(world.trunk_got("200").0, 2);
    assert!(!world.phone(1).rings());
    // Who took it over has ended it meanwhile: what rings for a trunk is not gone on with.
    let (by, refused) = world.trunk_answered("z9hG4bKl");
    assert!(refused.status() >= 400 && refused.method() == webtrunk::sip::Method::Invite);
    let ack = request("ACK", 1, "lost", "z9hG4bKl", "", "");
    world.trunk_says(by, within(&ack, "ACK", &refused, "z9hG4bKl", 1));
    world.fault(Fault::Start(0));
    world.run(60 * SECOND);
    world.expect_idle();
}

#[test]
fn a_bye_within_the_call_of_a_lost_node_waits_until_somebody_has_it() {
    let mut world = World::new(52);
    world.settle();
    world.roam(false);
    let ok = call_of_trunk(&mut world, 0, 1, "lost");
    world.run(2 * SECOND);
    world.fault(Fault::Kill(0));
    // Its lease is gone, and nobody has its calls yet.
    while !world.said(2, "NodeDown") {
        world.run(10 * MS);
    }
    world.forget_trunk();
    let bye = request("BYE", 1, "lost", "", "", "");
    world.trunk_says(2, within(&bye, "BYE", &ok, "z9hG4bKb", 2));
    world.run(5 * SECOND);
    assert!(!world.trunk_heard("481"), "{}", world.story());
    assert_eq!(world.trunk_got("200").0, 2);
    assert!(!world.talks(1));
    world.fault(Fault::Start(0));
    world.run(60 * SECOND);
    world.expect_idle();
}

#[test]
fn an_invite_that_comes_again_to_another_node_is_one_call() {
    let mut world = World::new(43);
    world.settle();
    for (n, store) in [Fault::StoreUp, Fault::StoreDown].into_iter().enumerate() {
        world.fault(store);
        world.run(10 * SECOND);
        let call_id = format!("again{n}");
        let invite = request("INVITE", 0, &call_id, &format!("z9hG4bK{n}"), "", TRUNK_SDP);
        let before = world.phone(0).rung();
        world.phone(0).lets_ring = true;
        world.trunk_says(0, invite.clone());
        for node in [1, 2, 1, 0] {
            world.run(400 * MS);
            world.forget_trunk();
            world.trunk_says(node, invite.clone());
            assert_eq!(world.trunk_got("180").0, 0, "by the way it came first");
        }
        assert_eq!(world.phone(0).rung(), before + 1, "{store:?}");
        let cancel = request("CANCEL", 0, &call_id, &format!("z9hG4bK{n}"), "", "");
        world.trunk_says(1, cancel);
        let (by, refused) = world.trunk_got("487");
        assert_eq!(by, 0);
        // What comes once more is no new call either.
        world.trunk_says(2, invite);
        assert_eq!(world.trunk_got("487").0, 0);
        let ack = request("ACK", 0, &call_id, "", "", "");
        world.trunk_says(2, within(&ack, "ACK", &refused, &format!("z9hG4bK{n}"), 1));
        world.forget_trunk();
        world.run(10 * SECOND);
        assert!(!world.trunk_heard("487"), "the ACK arrived");
        assert_eq!(world.phone(0).rung(), before + 1, "{store:?}");
    }
    world.fault(Fault::StoreUp);
    world.run(5 * SECOND);
    world.expect_idle();
}

#[test]
fn a_refusal_of_an_invite_that_comes_again_is_that_of_the_first_node_and_its_ack_finds_it() {
    let mut world = World::new(44);
    world.settle();
    let invite = request("INVITE", 77, "nobody", "z9hG4bKr", "", TRUNK_SDP);
    world.trunk_says(0, invite.clone());
    let (_, refused) = world.trunk_got("404");
    for node in [1, 2] {
        world.forget_trunk();
        world.trunk_says(node, invite.clone());
        let (by, again) = world.trunk_got("404");
        assert_eq!((by, tag_of(&again)), (0, tag_of(&refused)));
        assert!(!world.trunk_heard("404"), "once");
    }
    let ack = request("ACK", 77, "nobody", "", "", "");
    world.trunk_says(1, within(&ack, "ACK", &refused, "z9hG4bKr", 1));
    world.forget_trunk();
    world.run(10 * SECOND);
    assert!(!world.trunk_heard("404"), "the ACK arrived");
    world.expect_idle();
}

#[test]
fn of_two_nodes_that_get_an_invite_at_once_one_has_the_call_and_its_caller_hears_of_one() {
    let mut world = World::new(45);
    world.settle();
    world.phone(2).lets_ring = true;
    let invite = request("INVITE", 2, "both", "z9hG4bKb", "", TRUNK_SDP);
    world.trunk_says_to_all(&[0, 1, 2], &invite);
    world.run(SECOND);
    assert_eq!(world.phone(2).incoming(), 1, "{}", world.story());
    for status in ["482", "487"] {
        assert!(!world.trunk_heard(status), "the INVITE is one, and not over");
    }
    world.trunk_says(0, request("CANCEL", 2, "both", "z9hG4bKb", "", ""));
    world.run(SECOND);
    assert_eq!(world.phone(2).incoming(), 0);
    let (_, refused) = world.trunk_got("487");
    let ack = request("ACK", 2, "both", "", "", "");
    world.trunk_says(1, within(&ack, "ACK", &refused, "z9hG4bKb", 1));
    // By two branches it is two, of which one is told so (RFC 3261 §8.2.2.2).
    world.forget_trunk();
    let one = request("INVITE", 2, "forked", "z9hG4bKf1", "", TRUNK_SDP);
    world.trunk_says(0, one.clone());
    world.trunk_says(1, one.replace("z9hG4bKf1", "z9hG4bKf2"));
    assert_eq!(world.trunk_got("482").0, 1);
    assert_eq!(world.phone(2).incoming(), 1);
    world.trunk_says(2, request("CANCEL", 2, "forked", "z9hG4bKf1", "", ""));
    let (_, refused) = world.trunk_got("487");
    let ack = request("ACK", 2, "forked", "", "", "");
    world.trunk_says(2, within(&ack, "ACK", &refused, "z9hG4bKf1", 1));
    world.expect_idle();
}

#[test]
fn a_proxy_that_tries_another_node_after_the_refusal_of_the_first_is_served() {
    let mut world = World::new(46);
    world.settle();
    world.drain(0);
    let invite = request("INVITE", 1, "next", "z9hG4bKp1", "", TRUNK_SDP);
    world.trunk_says(0, invite.clone());
    let (_, refused) = world.trunk_got("503");
    let ack = request("ACK", 1, "next", "", "", "");
    world.trunk_says(0, within(&ack, "ACK", &refused, "z9hG4bKp1", 1));
    world.phone(1).lets_ring = true;
    world.trunk_says(1, invite.replace("z9hG4bKp1", "z9hG4bKp2"));
    assert!(world.phone(1).rings());
    // A node that cannot be asked holds nobody up for long.
    let other = request("INVITE", 1, "other", "z9hG4bKp3", "", TRUNK_SDP);
    world.trunk_says(0, other.clone());
    world.trunk_got("503");
    world.fault(Fault::Cut(0, 2));
    world.trunk_says(2, other.replace("z9hG4bKp3", "z9hG4bKp4"));
    assert_eq!(world.phone(1).incoming(), 1);
    world.run(6 * SECOND);
    assert_eq!(world.phone(1).incoming(), 2);
    world.fault(Fault::Heal(0, 2));
    for (call_id, branch) in [("next", "z9hG4bKp2"), ("other", "z9hG4bKp4")] {
        world.trunk_says(0, request("CANCEL", 1, call_id, branch, "", ""));
        let (_, refused) = world.trunk_got("487");
        let ack = request("ACK", 1, call_id, "", "", "");
        world.trunk_says(0, within(&ack, "ACK", &refused, branch, 1));
    }
    world.expect_idle();
}

/// The node that had the first transaction would otherwise take that for its own, long over.
#[test]
fn what_is_over_at_one_node_and_begins_anew_at_another_is_asked_of_that_one() {
    let mut world = World::new(49);
    world.settle();
    world.phone(1).lets_ring = true;
    let hangs_up = |world: &mut World, node, branch: &str| {
        world.trunk_says(node, request("CANCEL", 1, "anew", branch, "", ""));
        let (by, refused) = world.trunk_got("487");
        let ack = request("ACK", 1, "anew", "", "", "");
        world.trunk_says(node, within(&ack, "ACK", &refused, branch, 1));
        world.forget_trunk();
        by
    };
    for (round, node) in [0, 1, 2, 0].into_iter().enumerate() {
        let branch = format!("z9hG4bKn{round}");
        let invite = request("INVITE", 1, "anew", &branch, "", TRUNK_SDP);
        let before = world.phone(1).rung();
        world.trunk_says(node, invite.clone());
        assert!(world.phone(1).rings(), "{}", world.story());
        for again in [1, 2, 0] {
            world.run(400 * MS);
            world.trunk_says(again, invite.clone());
        }
        assert_eq!(world.phone(1).rung(), before + 1, "round {round}: {}", world.story());
        assert_eq!(hangs_up(&mut world, (node + 1) % 3, &branch), node);
    }
    world.expect_idle();
}

/// Which of two nodes that both began it a third heard of last is chance.
#[test]
fn an_invite_of_two_nodes_at_once_that_comes_again_to_the_third_is_one_call() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.settle();
        world.phone(2).lets_ring = true;
        let invite = request("INVITE", 2, "third", "z9hG4bK3", "", TRUNK_SDP);
        world.trunk_says_to_all(&[0, 2], &invite);
        world.run(400 * MS);
        let before = world.phone(2).rung();
        world.trunk_says(1, invite);
        world.run(SECOND);
        assert_eq!(world.phone(2).incoming(), 1, "seed {seed}: {}", world.story());
        assert_eq!(world.phone(2).rung(), before, "seed {seed}: {}", world.story());
        world.trunk_says(1, request("CANCEL", 2, "third", "z9hG4bK3", "", ""));
        let (by, refused) = world.trunk_got("487");
        let ack = request("ACK", 2, "third", "", "", "");
        world.trunk_says(by, within(&ack, "ACK", &refused, "z9hG4bK3", 1));
        world.expect_idle();
    }
}

#[test]
fn a_text_of_a_trunk_that_comes_again_to_another_node_is_one_text() {
    let mut world = World::with_trunk(47, "messages = true\n");
    world.settle();
    let text = request("MESSAGE", 1, "text", "z9hG4bKt", "", "good day");
    world.trunk_says(0, text.clone());
    assert_eq!(world.phone(1).got.len(), 1);
    for node in [2, 1] {
        world.run(400 * MS);
        world.forget_trunk();
        world.trunk_says(node, text.clone());
        assert_eq!(world.trunk_got("200").0, 0, "by the way it came first");
    }
    assert_eq!(world.phone(1).got.len(), 1);
    world.expect_idle();
}

#[test]
fn an_invite_with_replaces_reaches_the_node_of_the_dialog_it_names() {
    let mut world = World::new(48);
    world.settle();
    let (owner, to) = (0, 2);
    let ok = call_of_trunk(&mut world, owner, to, "first");
    let replaces = format!("Replaces: first;to-tag={};from-tag=far\r\n", tag_of(&ok));
    let invite = request("INVITE", to, "second", "z9hG4bKi2", &replaces, TRUNK_SDP);
    // A guess gets no further than it would there.
    let guess = invite.replace("Replaces: first", "Replaces: guess").replace("second", "guess");
    world.trunk_says(1, guess.replace("z9hG4bKi2", "z9hG4bKg"));
    let (by, refused) = world.trunk_got("481");
    assert_eq!(by, 1);
    let ack = request("ACK", to, "guess", "", "", "");
    world.trunk_says(2, within(&ack, "ACK", &refused, "z9hG4bKg", 1));
    world.forget_trunk();
    world.trunk_says(1, invite.clone());
    // It comes again, to each.
    world.trunk_says(2, invite.clone());
    world.trunk_says(1, invite);
    world.run(SECOND);
    let (by, ok) = world.trunk_got("200");
    assert_eq!(by, 1, "by the way it came");
    let ack = request("ACK", to, "second", "", "", "");
    world.trunk_says(2, within(&ack, "ACK", &ok, "z9hG4bKa2", 1));
    world.run(SECOND);
    let (by, bye) = world.trunk_got("BYE");
    assert_eq!((by, bye.call_id()), (owner, "first"));
    let answer = crate::of_trunk(&bye, "SIP/2.0 200 OK", "BYE", "", "");
    world.trunk_says(1, answer.replace(";tag=far;tag=far", ";tag=far"));
    assert!(world.talks(to));
    let bye = request("BYE", to, "second", "", "", "");
    world.forget_trunk();
    world.trunk_says(2, within(&bye, "BYE", &ok, "z9hG4bKb2", 2));
    assert_eq!(world.trunk_got("200").0, 2);
    world.run(SECOND);
    assert!(!world.talks(to));
    world.expect_idle();
}

#[test]
fn a_page_that_is_reloaded_and_comes_back_to_another_node_takes_its_call_up() {
    let mut world = World::new(49);
    world.settle();
    let (from, to) = world.strangers();
    let (a, b) = (world.node_of(from), world.node_of(to));
    let c = third(&world, a, b);
    for reloads in [from, to] {
        for hangs_up in [from, to] {
            world.call(from, to);
            world.run(2 * SECOND);
            assert!(world.talks(from) && world.talks(to));
            for node in [c, if reloads == from { b } else { a }] {
                world.reconnect_at(reloads, node);
                let invite = world.phone(reloads).replace();
                world.says(reloads, invite);
                world.run(2 * SECOND);
                assert_eq!(world.phone(reloads).status, Some(200), "u{reloads} at n{node}");
                assert!(world.talks(from) && world.talks(to));
                assert_eq!(world.asks(reloads), Some(200));
            }
            // Its connection is lost, and it comes back elsewhere in the dialog it has now.
            world.reconnect_at(reloads, c);
            assert_eq!(world.asks(reloads), Some(200));
            world.hang_up(hangs_up);
            world.run(SECOND);
            assert!(!world.talks(from) && !world.talks(to), "u{hangs_up} hung up");
        }
    }
    world.expect_idle();
}

#[test]
fn nobody_else_takes_the_place_of_a_page_by_way_of_another_node() {
    let mut world = World::new(50);
    world.settle();
    let (from, to) = world.strangers();
    let there = third(&world, world.node_of(from), world.node_of(to));
    let other = (0..world.phones()).find(|p| world.node_of(*p) == there).expect("two");
    world.call(from, to);
    world.run(2 * SECOND);
    let invite = world.phone(from).replace();
    let (own, name) = (format!("sip:u{from}@"), format!("sip:u{other}@"));
    world.says(other, invite.replace(&own, &name));
    world.run(SECOND);
    assert!(world.talks(to), "its call goes on");
    assert_eq!(world.phone(from).status, None, "it is not the page's INVITE");
    assert_eq!(world.phone(other).status, Some(403));
    world.hang_up(to);
    world.run(SECOND);
    world.expect_idle();
}

#[test]
fn a_call_costs_a_few_writes_of_the_store_and_a_trunk_s_one_message_for_each_other_node() {
    let mut world = World::new(60);
    world.settle();
    let (from, to) = world.neighbours();
    let (kept, asked) = (world.kept(), world.located());
    world.expect_call(from, to);
    world.run(2 * SECOND);
    let writes = world.kept() - kept;
    assert!((2..=MOST_OF_A_CALL).contains(&writes), "{writes} writes");
    assert_eq!((world.located(), world.passed("")), (asked, 0), "it is this node's alone");
    let kept = world.kept();
    call_of_trunk(&mut world, 0, 0, "call");
    assert_eq!(world.passed("OPTIONS"), 2, "that it has begun");
    assert_eq!(world.passed(""), 2, "and nothing else");
    world.hang_up(0);
    world.run(2 * SECOND);
    let writes = world.kept() - kept;
    assert!((2..=MOST_OF_A_CALL).contains(&writes), "{writes} writes");
    world.expect_idle();
}

/// What a node tells the others costs by the time, not by the call; and of each that began at one
/// every other node knows.
#[test]
fn what_trunks_begin_together_is_told_together_and_each_comes_again_elsewhere_as_one() {
    let mut world = World::new(61);
    world.settle();
    let invite = |n: usize| {
        let branch = format!("z9hG4bKm{n}");
        request("INVITE", n % 6, &format!("many{n}"), &branch, "", TRUNK_SDP)
    };
    let invites: Vec<String> = (0..100).map(invite).collect();
    world.trunk_says_all(0, &invites);
    assert_eq!(world.passed("OPTIONS"), 4, "the first alone, and the rest with one message");
    world.run(SECOND);
    let (before, phones) = (world.passed("INVITE"), 0..6);
    let rung: Vec<usize> = phones.clone().map(|phone| world.phone(phone).rung()).collect();
    for node in [1, 2] {
        world.trunk_says_all(node, &invites);
        world.run(SECOND);
        let begins = ["CallStarted", "CallRefused"].map(|what| world.said(node, what));
        assert_eq!(begins, [false; 2], "n{node} has heard of all of them");
    }
    let again: Vec<usize> = phones.map(|phone| world.phone(phone).rung()).collect();
    assert_eq!(rung, again, "nobody is rung twice");
    assert_eq!(
        world.passed("INVITE") - before,
        200,
        "they were asked of the node where they began"
    );
    world.run(40 * SECOND);
    world.ends_idle();
}

/// A process writes at most once in 20 ms, and several calls together; here each change is one.
const MOST_OF_A_CALL: usize = 10;
