//! Requests within a dialog, or about one, that reach a node which has not the dialog: each is
//! answered as the node that has it would answer, and done once.

use crate::world::World;
use crate::wrong_node::{MS, call_of_trunk, request, tag_of, within};
use crate::{SECOND, TRUNK_SDP};
use std::collections::BTreeMap;
use webtrunk::sip::Message;
use webtrunk::sip::parse::HeaderName;

#[test]
fn whatever_refers_to_a_dialog_is_answered_alike_by_every_node() {
    let mut world = World::new(51);
    world.settle();
    let (owner, to) = (0, 1);
    let ok = call_of_trunk(&mut world, owner, to, "call");
    let target = format!(
        "Target-Dialog: call;remote-tag={tag};local-tag=far\r\nJoin: call;to-tag={tag};from-tag=far\r\n",
        tag = tag_of(&ok)
    );
    let mut number = 1;
    let mut check = |world: &mut World, method: &str, more: &str, body: &str, inside: bool| {
        let mut heard = Vec::new();
        for node in [owner, 1, 2] {
            number += 1;
            let id = if inside { "call".to_owned() } else { format!("x{number}") };
            let branch = format!("z9hG4bKx{number}");
            let text = request(method, to, &id, &branch, more, body);
            let text = if inside { within(&text, method, &ok, &branch, number) } else { text };
            world.forget_trunk();
            world.trunk_says(node, text);
            world.run(SECOND);
            let (by, answer) = world.trunk_answered(&branch);
            assert_eq!(by, node, "{method}");
            heard.push(answer.status());
        }
        assert!(heard.iter().all(|status| *status == heard[0]), "{method} {more}: {heard:?}");
        heard[0]
    };
    let event = |package: &str| format!("{target}Event: {package}\r\n");
    for (method, more, status) in [
        ("REFER", format!("{target}Refer-To: <sip:102@x>\r\n"), 403),
        ("REFER", format!("{target}Require: tdialog\r\nRefer-To: <sip:102@x>\r\n"), 420),
        ("SUBSCRIBE", event("dialog"), 403),
        ("NOTIFY", event("refer"), 489),
        ("INFO", target.clone(), 481),
        ("UPDATE", target.clone(), 481),
        ("PRACK", format!("{target}RAck: 1 1 INVITE\r\n"), 481),
        ("BYE", target.clone(), 481),
        ("PUBLISH", event("dialog"), 489),
    ] {
        assert_eq!(check(&mut world, method, &more, "", false), status, "{method} outside");
    }
    let join = format!("{target}Require: join\r\n");
    assert_eq!(check(&mut world, "INVITE", &join, TRUNK_SDP, false), 420);
    for (method, more, body, status) in [
        ("INFO", "", "", 200),
        ("OPTIONS", "", "", 200),
        ("UPDATE", "", "", 200),
        ("PRACK", "RAck: 1 1 INVITE\r\n", "", 481),
        ("NOTIFY", "Event: refer\r\nSubscription-State: active\r\n", "", 481),
        ("SUBSCRIBE", "Event: dialog\r\n", "", 489),
        ("PUBLISH", "Event: dialog\r\n", "", 405),
        ("INVITE", "", "no description", 488),
    ] {
        assert_eq!(check(&mut world, method, more, body, true), status, "{method} inside");
    }
    assert!(world.talks(to));
    world.hang_up(to);
    world.run(SECOND);
    world.expect_idle();
}

/// The 200 for a request that the trunk was sent.
fn accepted(request: &Message) -> String {
    let header = |name| request.header(name).unwrap_or_default().to_owned();
    format!(
        "SIP/2.0 200 OK\r\nVia: {}\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {}\r\nContent-Length: 0\r\n\r\n",
        header(HeaderName::Via),
        header(HeaderName::From),
        header(HeaderName::To),
        request.call_id(),
        header(HeaderName::CSeq),
    )
}

#[test]
fn a_refer_that_comes_again_to_another_node_is_one_transfer() {
    let mut world = World::with_trunk(53, "refer = \"execute\"\n");
    world.settle();
    let (owner, to, target) = (0, 1, 2);
    let ok = call_of_trunk(&mut world, owner, to, "call");
    let refer_to = format!("Refer-To: <sip:10{target}@wt.test>\r\n");
    let refer = request("REFER", to, "call", "", &refer_to, "");
    let refer = within(&refer, "REFER", &ok, "z9hG4bKr", 2);
    let mut told = BTreeMap::new();
    for node in [1, 2, owner, 1, 2] {
        world.trunk_says(node, refer.clone());
        let (by, answer) = world.trunk_answered("z9hG4bKr");
        assert_eq!((by, answer.status()), (1, 202), "by the way it came first");
        for notify in world.trunk_requests("NOTIFY") {
            let body = String::from_utf8_lossy(notify.body()).into_owned();
            told.insert(notify.cseq().expect("one").number, body);
            world.trunk_says(node, accepted(&notify));
        }
        world.run(400 * MS);
    }
    let last = told.values().filter(|told| told.starts_with("SIP/2.0 200")).count();
    assert_eq!(last, 1, "{told:?}\n{}", world.story());
    assert_eq!(world.phone(target).rung(), 1, "once");
    assert!(world.talks(to) && world.talks(target));
    let bye = request("BYE", to, "call", "", "", "");
    world.trunk_says(2, within(&bye, "BYE", &ok, "z9hG4bKb", 3));
    world.run(SECOND);
    assert_eq!(world.trunk_answered("z9hG4bKb").1.status(), 200);
    assert!(world.talks(to) && world.talks(target), "the transferor has left");
    world.hang_up(target);
    world.run(SECOND);
    assert!(!world.talks(to));
    world.expect_idle();
}

#[test]
fn a_prack_that_comes_to_other_nodes_is_taken_once_and_answered_each_time() {
    let mut world = World::new(54);
    world.settle();
    world.phone(1).lets_ring = true;
    let required = "Require: 100rel\r\n";
    world.trunk_says(0, request("INVITE", 1, "call", "z9hG4bKi", required, TRUNK_SDP));
    world.run(200 * MS);
    let (_, ringing) = world.trunk_got("180");
    let number = ringing.header(HeaderName::RSeq).expect("it is reliable").to_owned();
    let prack = request("PRACK", 1, "call", "", &format!("RAck: {number} 1 INVITE\r\n"), "");
    let prack = within(&prack, "PRACK", &ringing, "z9hG4bKp", 2);
    for node in [1, 2, 0, 1] {
        world.trunk_says(node, prack.clone());
        let (by, answer) = world.trunk_answered("z9hG4bKp");
        assert_eq!((by, answer.status()), (1, 200), "by the way it came first");
    }
    world.forget_trunk();
    world.run(10 * SECOND);
    assert!(!world.trunk_heard("180"), "it is not said again");
    world.trunk_says(2, request("CANCEL", 1, "call", "z9hG4bKi", "", ""));
    let (_, refused) = world.trunk_got("487");
    let ack = request("ACK", 1, "call", "", "", "");
    world.trunk_says(1, within(&ack, "ACK", &refused, "z9hG4bKi", 1));
    world.expect_idle();
}

#[test]
fn a_reinvite_that_overtakes_the_ack_by_another_node_is_answered() {
    let mut world = World::new(55);
    world.settle();
    let (owner, to) = (0, 1);
    world.trunk_says(owner, request("INVITE", to, "call", "z9hG4bKi", "", TRUNK_SDP));
    world.run(SECOND);
    let (_, ok) = world.trunk_got("200");
    let hold = TRUNK_SDP.replace("o=- 1 1", "o=- 1 2");
    let hold = request("INVITE", to, "call", "", "", &hold);
    let hold = within(&hold, "INVITE", &ok, "z9hG4bKh", 2);
    for node in [1, 2] {
        world.trunk_says(node, hold.clone());
        let (by, held) = world.trunk_answered("z9hG4bKh");
        assert_eq!((by, held.status()), (1, 200), "{}", world.story());
    }
    let ack = request("ACK", to, "call", "", "", "");
    for (node, number) in [(2, 1), (1, 2)] {
        world.trunk_says(node, within(&ack, "ACK", &ok, &format!("z9hG4bKa{number}"), number));
    }
    world.forget_trunk();
    world.run(40 * SECOND);
    assert!(!world.trunk_heard("200"), "both are acknowledged");
    assert!(world.talks(to));
    let update = TRUNK_SDP.replace("o=- 1 1", "o=- 1 3");
    let update = request("UPDATE", to, "call", "", "", &update);
    let update = within(&update, "UPDATE", &ok, "z9hG4bKu", 3);
    let mut answers = Vec::new();
    for node in [2, 1, owner] {
        world.trunk_says(node, update.clone());
        let (by, answer) = world.trunk_answered("z9hG4bKu");
        assert_eq!((by, answer.status()), (2, 200));
        answers.push(answer.body().to_vec());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "one offer has one answer");
    let bye = request("BYE", to, "call", "", "", "");
    world.trunk_says(1, within(&bye, "BYE", &ok, "z9hG4bKb", 4));
    world.run(SECOND);
    assert!(!world.talks(to));
    world.expect_idle();
}
