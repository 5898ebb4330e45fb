//! What happens outside calls, or on their way, where a user has another node: texts, what a user
//! watches of itself, temporary GRUUs, nonces, and what a trunk sends to the wrong node: a CANCEL,
//! and whatever comes again.

use crate::SECOND;
use crate::world::{Fault, World};
use std::time::Duration;
use webtrunk::sip::Message;
use webtrunk::sip::parse::HeaderName;

const MS: Duration = Duration::from_millis(1);

fn text(world: &mut World, from: usize, to: usize, words: &str) {
    let uri = format!("sip:10{to}@wt.test");
    let text = world.phone(from).outside("MESSAGE", &uri, "Content-Type: text/plain\r\n", words);
    world.says(from, text);
}

#[test]
fn a_text_reaches_a_user_of_another_node() {
    let mut world = World::new(21);
    world.settle();
    let (from, to) = world.strangers();
    text(&mut world, from, to, "good day");
    world.run(SECOND);
    assert_eq!(world.phone(from).answered(), Some(200));
    let got: Vec<Vec<u8>> = world.phone(to).got.iter().map(|m| m.body().to_vec()).collect();
    assert_eq!(got, [b"good day".to_vec()], "once");
    let asked = world.located();
    let (from, to) = world.neighbours();
    text(&mut world, from, to, "and here");
    world.run(SECOND);
    assert_eq!(world.phone(from).answered(), Some(200));
    assert_eq!(world.located(), asked, "a local hit asks nobody");
    world.expect_idle();
}

#[test]
fn a_text_to_another_node_is_480_while_it_is_not_known_where_to() {
    let mut world = World::new(22);
    world.settle();
    let (from, to) = world.strangers();
    world.fault(Fault::LocateUnanswered);
    text(&mut world, from, to, "good day");
    world.run(40 * MS);
    assert_ne!(world.phone(from).answered(), Some(480), "it waits for 50 ms");
    world.run(60 * MS);
    assert_eq!(world.phone(from).answered(), Some(480));
    let (a, b) = (world.node_of(from), world.node_of(to));
    world.fault(Fault::StoreUp);
    world.fault(Fault::Cut(a, b));
    text(&mut world, from, to, "good day");
    world.run(40 * SECOND);
    assert_eq!(world.phone(from).answered(), Some(480), "its node is away");
    assert!(world.phone(to).got.is_empty());
    world.fault(Fault::Heal(a, b));
    world.run(SECOND);
    text(&mut world, from, to, "at last");
    world.run(SECOND);
    assert_eq!(world.phone(from).answered(), Some(200));
    world.expect_idle();
}

fn subscribe(world: &mut World, phone: usize, package: &str) {
    let uri = format!("sip:{}@wt.test", world.phone(phone).name);
    let more = format!("Event: {package}\r\nExpires: 300\r\n");
    let text = world.phone(phone).outside("SUBSCRIBE", &uri, &more, "");
    world.says(phone, text);
    world.run(SECOND);
    assert_eq!(world.phone(phone).answered(), Some(200));
}

fn last_told(world: &mut World, phone: usize) -> String {
    let notify = world.phone(phone).got.last().expect("it was told something");
    String::from_utf8(notify.body().to_vec()).expect("text")
}

#[test]
fn who_watches_itself_is_told_of_its_phones_at_other_nodes_and_that_they_are_gone() {
    let mut world = World::new(23);
    world.settle();
    let there = world.node_of(1);
    let second = world.add_phone(0, there);
    subscribe(&mut world, 0, "reg");
    let contacts = |world: &mut World| last_told(world, 0).matches("<contact ").count();
    assert_eq!(contacts(&mut world), 2, "both, at once");
    world.lose_phone(second);
    world.run(40 * SECOND);
    assert_eq!(contacts(&mut world), 1, "it went");
    let third = world.add_phone(0, there);
    world.run(40 * SECOND);
    assert_eq!(contacts(&mut world), 2, "and another one came");
    // Its node dies: its lease says so.
    world.lose_phone(third);
    let fourth = world.add_phone(0, there);
    world.run(40 * SECOND);
    assert_eq!(contacts(&mut world), 2);
    world.roam(false);
    world.fault(Fault::Kill(there));
    world.run(40 * SECOND);
    assert_eq!(contacts(&mut world), 1, "u{fourth}'s node is dead");
    let told = world.phone(0).got.len();
    world.run(60 * SECOND);
    assert_eq!(world.phone(0).got.len(), told, "nothing new, nothing told");
    world.fault(Fault::Start(there));
    world.run(120 * SECOND);
    world.expect_idle();
}

#[test]
fn waiting_messages_are_told_at_every_node() {
    let mut world = World::new(24);
    world.settle();
    let (first, second) = (0, 1);
    for phone in [first, second] {
        subscribe(&mut world, phone, "message-summary");
    }
    let body = "Messages-Waiting: yes\r\nVoice-Message: 2/0\r\n";
    let wrong = world.node_of(second);
    for user in ["u0", "u1"] {
        world.trunk_says(
            wrong,
            format!(
                "NOTIFY sip:{user}@wt.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.77;branch=z9hG4bKw{user}\r\nMax-Forwards: 70\r\n\
                 From: <sip:vm@127.0.0.77>;tag=v\r\nTo: <sip:{user}@wt.test>\r\nCall-ID: vm{user}\r\nCSeq: 1 NOTIFY\r\n\
                 Event: message-summary\r\nSubscription-State: active\r\nContact: <sip:vm@127.0.0.77>\r\n\
                 Content-Type: application/simple-message-summary\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
        assert_eq!(world.trunk_got("200").0, wrong);
    }
    world.run(SECOND);
    for phone in [first, second] {
        assert!(last_told(&mut world, phone).contains("Voice-Message: 2/0"), "u{phone}");
    }
    assert_eq!(world.passed("NOTIFY"), 4, "each node once, and no node passes it on");
    world.run(310 * SECOND);
    world.expect_idle();
}

#[test]
fn a_temporary_gruu_leads_to_its_phone_from_every_node_until_the_phone_begins_anew() {
    let mut world = World::new(25);
    world.settle();
    let (from, to) = world.strangers();
    // The user's other phone is where the caller is, and is not meant.
    let here = world.node_of(from);
    let other = world.add_phone(to, here);
    let gruu = world.phone(to).temporary_gruu();
    assert!(!gruu.contains(&format!("u{to}")), "it does not say whose it is: {gruu}");
    let invite = world.phone(from).invite_to(&gruu);
    world.says(from, invite);
    world.run(2 * SECOND);
    assert!(world.talks(from) && world.talks(to) && !world.talks(other));
    world.hang_up(from);
    world.run(SECOND);
    world.reconnect_there(to);
    world.run(2 * SECOND);
    let invite = world.phone(from).invite_to(&gruu);
    world.says(from, invite);
    world.run(2 * SECOND);
    let status = world.phone(from).status;
    assert!(matches!(status, Some(404 | 480)), "it has registered by another Call-ID: {status:?}");
    world.expect_idle();
}

#[test]
fn a_nonce_of_another_node_is_answered_as_stale_so_that_nobody_is_asked_for_a_password() {
    let mut world = World::new(26);
    world.settle();
    let there = world.node_of(1);
    world.lose_phone(0);
    world.connect_silently(0, there);
    let credentials = world.phone(0).credentials.clone();
    let register = world.phone(0).register();
    let register = register.replacen("Content-Length", &format!("{credentials}Content-Length"), 1);
    let before = world.registered();
    world.says(0, register);
    world.run(SECOND);
    let challenge = world.phone(0).answers.iter().rev().find(|m| m.status() == 401);
    let challenge: &Message = challenge.expect("it is challenged");
    let value = challenge.header(HeaderName::WwwAuthenticate).unwrap_or_default();
    assert!(value.contains("stale=true"), "{value}");
    assert_eq!(world.registered(), before + 1, "and lets the next answer in");
    world.expect_idle();
}

#[test]
fn a_cancel_that_reaches_the_wrong_node_ends_the_ringing_once() {
    let mut world = World::new(27);
    world.settle();
    let to = 2;
    let (owner, wrong) = (world.node_of(0), world.node_of(1));
    world.phone(to).lets_ring = true;
    let offer = crate::TRUNK_SDP;
    let request = |method: &str, branch: &str, body: &str| {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} sip:10{to}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.77;branch={branch}\r\nMax-Forwards: 70\r\n\
             From: <sip:55@127.0.0.77>;tag=far\r\nTo: <sip:10{to}@127.0.0.1>\r\nCall-ID: wrong\r\nCSeq: 1 {method}\r\n\
             Contact: <sip:far@127.0.0.77>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    world.trunk_says(owner, request("INVITE", "z9hG4bKi", offer));
    world.run(SECOND);
    assert!(world.phone(to).rings(), "it rings");
    // A guess cancels nothing, and no node passes on what another one passed to it.
    world.trunk_says(wrong, request("CANCEL", "z9hG4bKguess", ""));
    world.run(SECOND);
    assert!(world.phone(to).rings());
    assert_eq!(world.passed("CANCEL"), 2, "each other node is asked once");
    world.trunk_says(wrong, request("CANCEL", "z9hG4bKi", ""));
    world.run(SECOND);
    assert_eq!(world.trunk_got("200").0, wrong);
    let (by, refused) = world.trunk_got("487");
    assert_eq!(by, owner);
    assert!(!world.phone(to).rings());
    // The ACK of the 487 takes the wrong way too.
    let tag = refused.to().and_then(|to| to.tag().map(str::to_owned)).expect("a tag");
    let ack = request("ACK", "z9hG4bKi", "").replace(
        &format!("To: <sip:10{to}@127.0.0.1>"),
        &format!("To: <sip:10{to}@127.0.0.1>;tag={tag}"),
    );
    world.trunk_says(wrong, ack);
    world.forget_trunk();
    world.run(10 * SECOND);
    assert!(!world.trunk_heard("487"), "the ACK arrived");
    world.expect_idle();
}

#[test]
fn what_a_trunk_sends_again_to_another_node_is_neither_refused_nor_done_twice() {
    let mut world = World::new(31);
    world.settle();
    let [owner, first, second] = [0, 1, 2].map(|phone| world.node_of(phone));
    world.dial(0, 9_123);
    let (by, invite) = world.trunk_got("INVITE");
    assert_eq!(by, owner);
    world.trunk_says(
        owner,
        crate::of_trunk(&invite, "SIP/2.0 200 OK", "INVITE", "", crate::TRUNK_SDP),
    );
    world.run(SECOND);
    assert!(world.talks(0));
    let uri = invite.contact().expect("one").uri.text.to_owned();
    let within = |method: &str, branch: &str, number: u32, body: &str| {
        let text =
            crate::of_trunk(&invite, &format!("{method} {uri} SIP/2.0"), method, branch, body);
        let own = invite.cseq().expect("one").number;
        text.replace(&format!("CSeq: {own} "), &format!("CSeq: {} ", own + number))
    };
    // A refused re-INVITE, and its ACK by another way.
    world.trunk_says(first, within("INVITE", "z9hG4bKr", 1, "no description"));
    let (by, refused) = world.trunk_got("488");
    assert_eq!(by, first);
    world.trunk_says(second, within("INVITE", "z9hG4bKr", 1, "no description"));
    world.run(SECOND);
    assert_eq!(world.trunk_got("488").0, first, "what was lost comes again");
    let tag = refused.to().and_then(|to| to.tag().map(str::to_owned)).expect("a tag");
    assert!(within("ACK", "z9hG4bKr", 1, "").contains(&tag), "it is the dialog's");
    world.trunk_says(second, within("ACK", "z9hG4bKr", 1, ""));
    world.forget_trunk();
    world.run(10 * SECOND);
    assert!(!world.trunk_heard("488"), "the ACK arrived");
    // A BYE, by each of the nodes, and once more after a while.
    for node in [first, second, owner, first] {
        world.trunk_says(node, within("BYE", "z9hG4bKb", 2, ""));
        assert_eq!(world.trunk_got("200").0, first, "by the way of the first");
        assert!(!world.trunk_heard("481"));
        world.run(4 * SECOND);
    }
    assert!(!world.talks(0));
    world.expect_idle();
}

#[test]
fn a_session_that_cannot_be_refreshed_while_nodes_are_cut_off_outlives_it() {
    let mut world = World::new(28);
    world.settle();
    let (from, to) = world.strangers();
    let (a, b) = (world.node_of(from), world.node_of(to));
    for refresher in ["uac", "uas"] {
        world.phone(to).session = match refresher {
            "uac" => "Session-Expires: 90;refresher=uac\r\nRequire: timer\r\n",
            _ => "Session-Expires: 90;refresher=uas\r\nRequire: timer\r\n",
        };
        world.call(from, to);
        world.run(2 * SECOND);
        assert!(world.talks(from) && world.talks(to));
        world.fault(Fault::Cut(a, b));
        world.run(240 * SECOND);
        assert!(world.talks(from) && world.talks(to), "{refresher}: their media lives");
        world.fault(Fault::Heal(a, b));
        world.run(60 * SECOND);
        assert!(world.talks(from) && world.talks(to), "{refresher}");
        world.hang_up(from);
        world.run(2 * SECOND);
        assert!(!world.talks(from) && !world.talks(to), "{refresher}");
    }
    world.expect_idle();
}
