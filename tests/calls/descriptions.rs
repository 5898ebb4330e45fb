//! Descriptions as peers send them: the newest one of a dialog is followed, and what is not needed
//! decides nothing.

use crate::lab::*;
use webtrunk::sdp::Direction;
use webtrunk::sdp::offer_answer::{Negotiated, Remote};
use webtrunk::sip::HeaderName;
use webtrunk::worker::WorkerCommand;

fn body(message: &webtrunk::sip::Message) -> String {
    String::from_utf8_lossy(message.body()).into_owned()
}

fn case(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/cases");
    let text = std::fs::read_to_string(format!("{folder}/{name}.sdp")).expect("readable");
    // The trunks of this world are hosts of another network.
    text.replace("127.41.0.1", "127.0.0.10")
}

const CASES: [&str; 7] = [
    "hold-same-version",
    "odd-bandwidth",
    "odd-no-format",
    "odd-origin",
    "odd-unknown-media",
    "savp-then-avp",
    "unpadded-key",
];

fn lab(name: &str) -> Lab {
    let srtp = if name == "unpadded-key" { "srtp = \"optional\"\n" } else { "" };
    let changed = format!("max_calls = 3\n{srtp}");
    Lab::changed(&[("max_calls = 3\n", &changed)], "")
}

/// What media was given for trunk legs, in order.
fn settled(lab: &Lab) -> Vec<Negotiated> {
    let updates = lab.media.iter().filter_map(|c| match c {
        WorkerCommand::Configure { settings, .. } => Some(settings.negotiated.clone()),
        _ => None,
    });
    updates.filter(|n| matches!(n.remote, Remote::Rtp { .. })).collect()
}

fn ports(lab: &Lab) -> Vec<u16> {
    let port = |n: Negotiated| match n.remote {
        Remote::Rtp { rtp, .. } => rtp.port(),
        Remote::Dtls { .. } => 0,
    };
    settled(lab).into_iter().map(port).collect()
}

fn hang_up(lab: &mut Lab, seen: &webtrunk::sip::Message, tag: &str) {
    let bye = lab.in_dialog(T1, seen, "BYE", 95, tag, "");
    lab.says(T1, &bye);
    lab.expect_idle();
}

#[test]
fn each_case_is_taken_as_the_body_of_an_invite() {
    for name in CASES {
        let mut lab = lab(name);
        lab.invite(T1, "+12065550111", &case(name));
        let invite = lab.take(ALICE, "INVITE");
        lab.reply(ALICE, &invite, 200, ANSWER);
        let ok = lab.take(T1, "200 INVITE");
        let sections = |text: &str| text.matches("m=").count();
        assert_eq!(sections(&body(&ok)), sections(&case(name)), "{name}: {}", body(&ok));
        assert_eq!(ports(&lab), [6_000], "{name}");
        lab.ack(T1, &ok);
        hang_up(&mut lab, &ok, "");
    }
}

#[test]
fn each_case_is_taken_as_a_reinvite_and_the_trunks_media_follows() {
    for name in CASES {
        let mut lab = lab(name);
        let (_, invite) = lab.talk("+12065550123");
        let text = lab.in_dialog(T1, &invite, "INVITE", 2, "peer", &case(name));
        lab.says(T1, &text);
        let ok = lab.take(T1, "200 INVITE");
        assert_eq!(ports(&lab), [4_000, 6_000], "{name}");
        lab.ack(T1, &ok);
        hang_up(&mut lab, &invite, "peer");
    }
}

#[test]
fn each_case_is_taken_as_the_answer_in_a_200() {
    for name in CASES {
        let mut lab = lab(name);
        lab.plays("0.0s alice calls +12065550123 at t1");
        let invite = lab.last(T1, "INVITE");
        lab.reply(T1, &invite, 200, &case(name));
        let ok = lab.take(ALICE, "200 INVITE");
        lab.ack(ALICE, &ok);
        assert_eq!(ports(&lab), [6_000], "{name}");
        hang_up(&mut lab, &invite, "peer");
    }
}

#[test]
fn firefox_has_digits_in_its_own_clock() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "9196", &case("firefox"));
    lab.plays(
        "0.0s alice → INVITE 9196 sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 200 INVITE sdp
         0.0s alice → ACK
         0.0s alice → BYE
         0.0s alice ← 200 BYE",
    );
    let ok = lab.last(ALICE, "200 INVITE");
    assert!(body(&ok).contains("a=rtpmap:101 telephone-event/8000\r\n"), "{}", body(&ok));
    lab.expect_idle();
}

#[test]
fn a_hold_under_an_unchanged_version_is_a_hold_and_a_resume_is_one_too() {
    let mut lab = Lab::with_phones();
    let talk = case("hold-same-version").replace("sendonly", "sendrecv");
    lab.invite(T1, "+12065550111", &talk);
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice answers t1",
    );
    let ok = lab.last(T1, "200 INVITE");
    for (cseq, sdp, direction) in
        [(70, case("hold-same-version"), Direction::RecvOnly), (71, talk, Direction::SendRecv)]
    {
        let text = lab.in_dialog(T1, &ok, "INVITE", cseq, "", &sdp);
        lab.says(T1, &text);
        let answered = lab.take(T1, "200 INVITE");
        assert!(body(&answered).contains(&format!("a={}\r\n", direction.as_str())));
        assert_eq!(settled(&lab).last().map(|n| n.direction), Some(direction));
        lab.ack(T1, &answered);
    }
    lab.plays(
        "0.0s t1 → INVITE sdp sendonly
         0.0s t1 ← 100 INVITE
         0.0s t1 ← 200 INVITE sdp recvonly
         0.0s t1 → ACK
         0.0s t1 → INVITE sdp
         0.0s t1 ← 100 INVITE
         0.0s t1 ← 200 INVITE sdp
         0.0s t1 → ACK
         0.0s t1 hangs up on alice",
    );
    lab.expect_idle();
}

#[test]
fn the_answers_own_description_is_followed_after_early_media_of_the_same_tag() {
    let moved = TRUNK_SDP.replace("audio 4000", "audio 4444").replace("RTP/AVP 0", "RTP/AVP 8");
    let moved = moved.replace("a=rtpmap:0 PCMU", "a=rtpmap:8 PCMA");
    for early in [vec![TRUNK_SDP], vec![TRUNK_SDP, &moved], vec![&moved, TRUNK_SDP, TRUNK_SDP]] {
        let mut lab = Lab::with_phones();
        lab.plays("0.0s alice calls +12065550123 at t1");
        let invite = lab.last(T1, "INVITE");
        for sdp in &early {
            lab.reply(T1, &invite, 183, sdp);
        }
        let configured = settled(&lab).len();
        assert_eq!(configured, early.iter().collect::<std::collections::HashSet<_>>().len());
        lab.reply(T1, &invite, 200, &moved);
        let ok = lab.take(ALICE, "200 INVITE");
        lab.ack(ALICE, &ok);
        assert_eq!(ports(&lab).last(), Some(&4_444));
        assert_eq!(settled(&lab).last().map(|n| n.send), Some(8));
        hang_up(&mut lab, &invite, "peer");
    }
}

#[test]
fn an_answer_without_a_description_or_with_the_early_one_changes_nothing() {
    for answer in ["", TRUNK_SDP] {
        let mut lab = Lab::with_phones();
        lab.plays("0.0s alice calls +12065550123 at t1");
        let invite = lab.last(T1, "INVITE");
        lab.reply(T1, &invite, 183, TRUNK_SDP);
        lab.reply(T1, &invite, 200, answer);
        let ok = lab.take(ALICE, "200 INVITE");
        lab.ack(ALICE, &ok);
        assert_eq!(ports(&lab), [4_000]);
        hang_up(&mut lab, &invite, "peer");
    }
}

#[test]
fn a_trunk_that_refuses_keys_is_offered_none_where_they_are_optional() {
    for status in [415, 488, 606] {
        let mut lab = lab("unpadded-key");
        lab.plays("0.0s alice calls +12065550123 at t1");
        let invite = lab.last(T1, "INVITE");
        assert!(body(&invite).contains("a=crypto:"));
        lab.reply(T1, &invite, status, "");
        lab.take(T1, "ACK");
        let again = lab.take(T1, "INVITE");
        assert!(!body(&again).contains("a=crypto:") && body(&again).contains("RTP/AVP"));
        lab.reply(T1, &again, 200, TRUNK_SDP);
        let ok = lab.take(ALICE, "200 INVITE");
        lab.ack(ALICE, &ok);
        hang_up(&mut lab, &again, "peer");
    }
    // Refused once more, the call has failed; where keys are required it fails at once.
    for (srtp, tries) in [("optional", 2), ("required", 1)] {
        let changed = format!("max_calls = 3\nsrtp = \"{srtp}\"\n");
        let mut lab = Lab::changed(&[("max_calls = 3\n", &changed)], "");
        lab.invite(ALICE, "+12065550123", OFFER);
        for _ in 0..tries {
            let invite = lab.take(T1, "INVITE");
            lab.reply(T1, &invite, 488, "");
        }
        lab.take(ALICE, "488");
        lab.expect_idle();
    }
}

#[test]
fn two_legs_of_this_gateway_may_be_joined_and_none_with_itself() {
    // The trunk passes media by: its second call names the first one's address of ours.
    let mut lab = Lab::with_phones();
    let (_, invite) = lab.talk("+12065550123");
    let ours = |lab: &Lab, port: u16| {
        assert!((20_000..20_100).contains(&port), "{}", lab.picture());
        TRUNK_SDP.replace("127.0.0.10", "192.0.2.1").replace("4000", &port.to_string())
    };
    let port = |text: &str| -> u16 {
        let port = text.split("m=audio ").nth(1).and_then(|m| m.split(' ').next());
        port.expect("a port").parse().expect("a number")
    };
    let first = port(&body(&invite));
    let sdp = ours(&lab, first);
    lab.invite(T1, "+12065550112", &sdp);
    lab.plays(
        "0.0s t1 calls +12065550112 at bob
         0.0s bob answers t1",
    );
    let ok = lab.last(T1, "200 INVITE");
    assert_eq!(ports(&lab).last(), Some(&first));
    // Its own address is a loop.
    let itself = ours(&lab, port(&body(&ok)));
    let text = lab.in_dialog(T1, &ok, "INVITE", 71, "", &itself);
    lab.says(T1, &text);
    lab.plays(
        "0.0s t1 → INVITE sdp
         0.0s t1 ← 100 INVITE
         0.0s t1 ← 488 INVITE
         0.0s t1 hangs up on bob",
    );
    let refused = lab.last(T1, "488 INVITE");
    assert!(refused.header(HeaderName::Warning).is_some_and(|w| w.contains("media loop")));
    lab.plays("0.0s t1 hangs up on alice");
    lab.expect_idle();
}

#[test]
fn a_caller_that_guesses_its_own_port_is_refused() {
    let mut lab = Lab::with_phones();
    let itself = TRUNK_SDP.replace("127.0.0.10", "192.0.2.1").replace("4000", "20002");
    lab.invite(T1, "+12065550111", &itself);
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice → 200 INVITE sdp recvonly
         0.0s alice ← ACK
         0.0s t1 ← 488 INVITE
         0.0s alice ← BYE
         0.0s alice → 200 BYE",
    );
    let refused = lab.last(T1, "488 INVITE");
    assert!(refused.header(HeaderName::Warning).is_some_and(|w| w.contains("media loop")));
    lab.expect_idle();
}
