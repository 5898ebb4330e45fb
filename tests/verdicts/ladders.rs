//! What a ladder shows of a call, and what it hides.

use crate::lab::{ALICE, BOB, Lab, OFFER, Peer, T1};
use crate::scenarios::{CHALLENGE, offline, secs};
use crate::world::{Behaviour, World};
use std::time::Duration;
use webtrunk::call::HangupBy;

/// What the ladder of the newest call says of things that are no message.
fn drawn(lab: &Lab) -> String {
    let flight = lab.gateway.recorder.find("last").expect("it is recorded");
    let lanes: Vec<String> = flight.lanes.iter().map(|l| l.name.clone()).collect();
    webtrunk::recorder::draw::text(&lanes, &webtrunk::recorder::ladder::rows(flight), false)
}

#[test]
fn a_ring_step_that_finds_nobody_is_in_the_ladder() {
    let text = drawn(&offline(", { hangup = 480 }"));
    assert!(text.contains("ring: nobody is registered for user:carol"), "{text}");
    assert!(text.contains("WT-1310"), "{text}");
}

/// Two trunks at one address are two parties.
#[test]
fn both_trunks_of_a_failover_have_lanes_of_their_own() {
    let changes = [("uri = \"sip:127.0.0.11\"", "uri = \"sip:127.0.0.10\"")];
    let mut lab = Lab::changed(&changes, "");
    lab.invite(ALICE, "+22065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 503, "");
    let again = lab.take(T1, "INVITE");
    lab.reply(T1, &again, 486, "");
    let flight = lab.gateway.recorder.find("last").expect("it is recorded");
    let lanes: Vec<&str> = flight.lanes.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(lanes, ["browser alice", "t1", "t2"], "{}", drawn(&lab));
}

/// The original caller is the caller again once a transfer has failed.
#[test]
fn a_bye_after_a_failed_transfer_is_attributed_to_its_sender() {
    for (who, by) in [(ALICE, HangupBy::Caller), (T1, HangupBy::Callee)] {
        let mut lab = Lab::with_phones();
        let (ok, invite) = lab.talk("+12065550123");
        let refer = "Refer-To: <sip:201@wt.test>\r\n";
        let text = lab.in_dialog_with(ALICE, &ok, "REFER", 80, refer, "");
        lab.says(ALICE, &text);
        lab.take(ALICE, "202");
        lab.clear();
        let phone = lab.take(BOB, "INVITE");
        lab.reply(BOB, &phone, 486, "");
        let bye = match who {
            Peer::Browser(..) => lab.in_dialog(ALICE, &ok, "BYE", 90, "", ""),
            Peer::Trunk(..) => lab.in_dialog(T1, &invite, "BYE", 90, "peer", ""),
        };
        lab.says(who, &bye);
        let flight = lab.gateway.recorder.find("last").expect("it is recorded");
        let cdr = flight.cdr.as_ref().unwrap_or_else(|| panic!("not over\n{}", lab.picture()));
        assert_eq!(cdr.by, Some(by), "{}", lab.picture());
    }
}

#[test]
fn a_ladder_shows_both_legs_and_hides_what_is_secret() {
    let mut world = World::usual(Behaviour::default());
    let (ok, _) = world.talk();
    world.pass(secs(2));
    world.hang_up(&ok);
    world.pump();
    let flight = world.lab.gateway.recorder.find("last").expect("it is recorded");
    let rows = webtrunk::recorder::ladder::rows(flight);
    let lanes: Vec<String> = flight.lanes.iter().map(|l| l.name.clone()).collect();
    let text = webtrunk::recorder::draw::text(&lanes, &rows, true);
    for wanted in [
        "browser alice",
        "webtrunk",
        " t1",
        "INVITE (opus",
        "200 OK (pcmu)",
        "200 OK (opus",
        "ICE connected",
        "DTLS done",
        "first packet of media",
        "BYE",
        "a=ice-pwd:***",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    for secret in ["theirs-password-of-22-chars", "secret-a"] {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }
    let svg = webtrunk::recorder::draw::svg(&lanes, &rows);
    assert!(
        svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && !svg.contains("<script")
    );
    assert!(webtrunk::recorder::draw::mermaid(&lanes, &rows).starts_with("sequenceDiagram\n"));
}

#[test]
fn what_a_peer_writes_gets_into_no_picture() {
    let mut lab = Lab::with_phones();
    let text = lab.request(
        ALICE,
        "INVITE",
        "sip:1@wt.test",
        "User-Agent: <img src=x onerror=alert(1)>\r\n",
        OFFER,
    );
    lab.says(ALICE, &text);
    let flight = lab.gateway.recorder.find("last").expect("it is recorded");
    let rows = webtrunk::recorder::ladder::rows(flight);
    let lanes = vec!["<b>alice</b>".to_owned()];
    let svg = webtrunk::recorder::draw::svg(&lanes, &rows);
    assert!(!svg.contains("<b>") && !svg.contains("<img"), "{svg}");
    let text = webtrunk::recorder::draw::text(&lanes, &rows, true);
    assert!(text.contains("User-Agent: <img src=x"), "a terminal shows it as it is: {text}");
}

/// The example in the book is what is really printed, times and numbers aside.
#[test]
fn the_trace_in_the_book_is_a_real_one() {
    let mut lab = Lab::with_plans(
        &[("[trunk.t1]", "[trunk.carrier]")],
        "[[route]]\nname = \"Out\"\nmatch = \"+12065550123\"\ndo = [{ dial = [\"trunk:carrier\"] }]\n",
    );
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.advance(Duration::from_millis(31));
    lab.reply_with(T1, &invite, 407, "", "x", CHALLENGE);
    lab.take(T1, "ACK");
    let again = lab.take(T1, "INVITE");
    lab.advance(Duration::from_millis(32));
    lab.reply_with(T1, &again, 403, "", "y", "");
    let flight = lab.gateway.recorder.find("last").expect("it is recorded");
    let lanes: Vec<String> = flight.lanes.iter().map(|l| l.name.clone()).collect();
    let drawn =
        webtrunk::recorder::draw::text(&lanes, &webtrunk::recorder::ladder::rows(flight), false);
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/how-to/find-out.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let shown: String = drawn.lines().map(|l| format!("{}\n", l.trim_end())).collect();
    let block = page
        .split("$ webtrunk trace --last\n")
        .nth(1)
        .and_then(|b| b.split("```").next())
        .expect("the example");
    for line in shown.lines() {
        assert!(
            block.lines().any(|b| b.trim_end() == line),
            "the book lacks {line:?}; the whole:\n{shown}"
        );
    }
}
