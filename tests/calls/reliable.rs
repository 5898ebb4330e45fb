//! Reliable provisional responses (RFC 3262), both ways and across: one leg reliable, the other
//! not.

use crate::lab::*;
use webtrunk::sip::HeaderName;
use webtrunk::worker::WorkerCommand;

const REQUIRED: &str = "Require: 100rel\r\nSupported: 100rel\r\n";

fn rseq(message: &webtrunk::sip::Message) -> u32 {
    assert!(message.lists(HeaderName::Require, "100rel"), "not reliable: {message}");
    Lab::header(message, HeaderName::RSeq).parse().expect("a number")
}

/// A trunk's INVITE to alice with these extra lines; its text.
fn from_trunk(lab: &mut Lab, extra: &str, body: &str) -> String {
    let text = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", extra, body);
    lab.says(T1, &text);
    text
}

fn prack(lab: &mut Lab, seen: &webtrunk::sip::Message, cseq: u32, rack: &str, body: &str) {
    let text = lab.in_dialog_with(T1, seen, "PRACK", cseq, &format!("RAck: {rack}\r\n"), body);
    lab.says(T1, &text);
}

#[test]
fn a_trunks_reliable_183_is_acknowledged_in_order_and_the_browser_hears_early_media() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    assert!(invite.lists(HeaderName::Supported, "100rel"));
    lab.reply_with(T1, &invite, 183, TRUNK_SDP, "far", "Require: 100rel\r\nRSeq: 70\r\n");
    lab.plays(
        "0.0s t1 → 183 INVITE sdp
         0.0s t1 ← PRACK
         0.0s alice ← 183 INVITE sdp
         0.0s t1 → 200 PRACK",
    );
    let first = lab.last(T1, "PRACK");
    assert_eq!(
        Lab::header(&first, HeaderName::RAck),
        format!("70 {} INVITE", invite.cseq().unwrap().number)
    );
    // The same again, and one too early: neither is acknowledged.
    lab.reply_with(T1, &invite, 183, TRUNK_SDP, "far", "Require: 100rel\r\nRSeq: 70\r\n");
    lab.reply_with(T1, &invite, 180, "", "far", "Require: 100rel\r\nRSeq: 72\r\n");
    lab.plays(
        "0.0s t1 → 183 INVITE sdp
         0.0s t1 → 180 INVITE",
    );
    lab.reply_with(T1, &invite, 180, "", "far", "Require: 100rel\r\nRSeq: 71\r\n");
    lab.plays(
        "0.0s t1 → 180 INVITE
         0.0s t1 ← PRACK
         0.0s alice ← 180 INVITE
         0.0s t1 → 200 PRACK",
    );
    let second = lab.last(T1, "PRACK");
    assert_eq!(second.cseq().unwrap().number, first.cseq().unwrap().number + 1);
    lab.reply_with(T1, &invite, 200, TRUNK_SDP, "far", "");
    lab.plays(
        "0.0s t1 answers alice
         0.0s alice hangs up on t1",
    );
    let ack = lab.last(T1, "ACK");
    assert_eq!(
        ack.cseq().unwrap().number,
        invite.cseq().unwrap().number,
        "the ACK has the INVITE's number"
    );
    let bye = lab.last(T1, "BYE");
    assert!(
        bye.cseq().unwrap().number > second.cseq().unwrap().number,
        "the dialog's sequence continues"
    );
    lab.expect_idle();
}

#[test]
fn an_answer_in_a_reliable_183_is_enough_for_a_200_without_sdp() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    lab.reply_with(T1, &invite, 183, TRUNK_SDP, "far", "Require: 100rel\r\nRSeq: 1\r\n");
    lab.reply_with(T1, &invite, 200, "", "far", "");
    lab.plays(
        "0.0s t1 → 183 INVITE sdp
         0.0s t1 ← PRACK
         0.0s alice ← 183 INVITE sdp
         0.0s t1 → 200 INVITE
         0.0s t1 ← ACK
         0.0s alice ← 200 INVITE sdp
         0.0s alice → ACK",
    );
    assert_eq!(lab.gateway.gauges().calls, 1);
    lab.plays("0.0s alice hangs up on t1");
    lab.expect_idle();
}

#[test]
fn a_caller_that_requires_100rel_gets_reliable_responses_and_the_200_waits_for_its_prack() {
    let mut lab = Lab::with_phones();
    let text = from_trunk(&mut lab, REQUIRED, TRUNK_SDP);
    let number =
        text.lines().find_map(|l| l.strip_prefix("CSeq: ")).unwrap().replace(" INVITE", "");
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice rings t1",
    );
    let ringing = lab.last(ALICE, "INVITE");
    assert!(
        !ringing.lists(HeaderName::Supported, "100rel"),
        "a browser is not asked for what it has not"
    );
    let r180 = lab.last(T1, "180 INVITE");
    let first = rseq(&r180);
    lab.plays(
        "0.0s alice → 183 INVITE sdp recvonly    // one reliable response at a time
         0.5s t1 ← 180 INVITE
         1.5s t1 ← 180 INVITE
         1.6s",
    );
    assert_eq!(
        lab.picture().matches("t1 ← 180").count(),
        3,
        "repeated at 0.5 and 1.5 s: {}",
        lab.picture()
    );
    prack(&mut lab, &r180, 900, &format!("{} {number} INVITE", first + 9), "");
    lab.plays(
        "1.6s t1 → PRACK
         1.6s t1 ← 481 PRACK",
    );
    prack(&mut lab, &r180, 901, &format!("{first} {number} INVITE"), "");
    lab.plays(
        "1.6s t1 → PRACK
         1.6s t1 ← 200 PRACK
         1.6s t1 ← 183 INVITE sdp
         1.6s alice → 200 INVITE sdp recvonly
         1.6s alice ← ACK    // RFC 3262 section 3: the 200 waits",
    );
    let r183 = lab.last(T1, "183 INVITE");
    assert_eq!(rseq(&r183), first + 1);
    prack(&mut lab, &r183, 902, &format!("{} {number} INVITE", first + 1), "");
    lab.plays(
        "1.6s t1 → PRACK
         1.6s t1 ← 200 PRACK
         1.6s t1 ← 200 INVITE
         1.6s t1 → ACK
         1.6s t1 hangs up on alice",
    );
    let ok = lab.last(T1, "200 INVITE");
    assert!(ok.body().is_empty(), "the exchange was done in the 183");
    lab.expect_idle();
}

#[test]
fn a_reliable_response_nobody_acknowledges_ends_the_call_with_504() {
    let mut lab = Lab::with_phones();
    from_trunk(&mut lab, REQUIRED, TRUNK_SDP);
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice rings t1
         0.5s t1 ← 180 INVITE
         1.5s t1 ← 180 INVITE
         3.5s t1 ← 180 INVITE
         7.5s t1 ← 180 INVITE
         10.0s
         15.0s alice ← CANCEL
         15.0s t1 ← 480 INVITE
         15.5s t1 ← 480 INVITE
         16.5s t1 ← 480 INVITE
         18.5s t1 ← 480 INVITE
         22.5s t1 ← 480 INVITE
         26.5s t1 ← 480 INVITE
         30.5s t1 ← 480 INVITE
         33.0s",
    );
    lab.expect_idle();
    let mut lab = Lab::changed(&[], "");
    let long = lab.request(T1, "INVITE", "sip:+12065550112@127.0.0.1", REQUIRED, TRUNK_SDP);
    lab.says(T1, &long);
    lab.plays(
        "0.0s t1 calls +12065550112 at bob
         0.0s bob → 183 INVITE sdp recvonly
         0.0s t1 ← 183 INVITE sdp
         0.0s bob → 200 INVITE sdp recvonly
         0.0s bob ← ACK
         0.5s t1 ← 183 INVITE sdp
         1.5s t1 ← 183 INVITE sdp
         3.5s t1 ← 183 INVITE sdp
         7.5s t1 ← 183 INVITE sdp
         15.5s t1 ← 183 INVITE sdp
         31.5s t1 ← 183 INVITE sdp
         32.0s t1 ← 504 INVITE
         32.0s bob ← BYE
         32.5s t1 ← 504 INVITE
         33.0s",
    );
    lab.expect_idle();
}

#[test]
fn a_choice_of_reliability_is_made_for_what_carries_sdp_only() {
    let mut lab = Lab::with_phones();
    from_trunk(&mut lab, "Supported: 100rel\r\n", TRUNK_SDP);
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice rings t1",
    );
    assert!(lab.take(T1, "180").header(HeaderName::RSeq).is_none());
    lab.plays(
        "0.0s alice → 183 INVITE sdp recvonly
         0.0s t1 ← 183 INVITE sdp",
    );
    rseq(&lab.take(T1, "183"));
    lab.plays("0.0s alice refuses t1 with 486");
    lab.expect_idle();
    let mut lab =
        Lab::changed(&[("realm = \"carrier\"", "realm = \"carrier\"\n100rel = \"off\"")], "");
    from_trunk(&mut lab, "Supported: 100rel\r\n", TRUNK_SDP);
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice → 183 INVITE sdp recvonly
         0.0s t1 ← 183 INVITE sdp",
    );
    assert!(lab.take(T1, "183").header(HeaderName::RSeq).is_none(), "switched off for this trunk");
    lab.plays("0.0s alice refuses t1 with 486");
    lab.expect_idle();
}

#[test]
fn a_caller_without_an_offer_hears_early_media_by_an_offer_in_the_183_and_an_answer_in_the_prack() {
    let mut lab = Lab::with_phones();
    let text = from_trunk(&mut lab, "Supported: 100rel\r\n", "");
    let number =
        text.lines().find_map(|l| l.strip_prefix("CSeq: ")).unwrap().replace(" INVITE", "");
    lab.plays(
        "0.0s t1 → INVITE +12065550111
         0.0s t1 ← 100 INVITE
         0.0s alice ← INVITE sdp
         0.0s alice → 183 INVITE sdp recvonly
         0.0s t1 ← 183 INVITE sdp",
    );
    let r183 = lab.last(T1, "183 INVITE");
    assert!(r183.body_of("application/sdp").is_some(), "our offer");
    let rack = format!("{} {number} INVITE", rseq(&r183));
    prack(&mut lab, &r183, 900, &rack, TRUNK_SDP);
    lab.plays(
        "0.0s t1 → PRACK sdp
         0.0s t1 ← 200 PRACK",
    );
    assert!(
        matches!(lab.media.last(), Some(WorkerCommand::Bridge { .. })),
        "{:?}",
        lab.media.last()
    );
    lab.plays(
        "0.0s alice → 200 INVITE sdp recvonly
         0.0s alice ← ACK
         0.0s t1 ← 200 INVITE
         0.0s t1 → ACK",
    );
    let ok = lab.last(T1, "200 INVITE");
    assert!(ok.body().is_empty());
    assert_eq!(lab.gateway.gauges().calls, 1);
    lab.plays("0.0s t1 hangs up on alice");
    lab.expect_idle();
}

#[test]
fn a_prack_may_bring_a_new_offer_and_its_200_the_answer() {
    let mut lab = Lab::with_phones();
    let text = from_trunk(&mut lab, REQUIRED, TRUNK_SDP);
    let number =
        text.lines().find_map(|l| l.strip_prefix("CSeq: ")).unwrap().replace(" INVITE", "");
    lab.plays(
        "0.0s t1 calls +12065550111 at alice
         0.0s alice → 183 INVITE sdp recvonly
         0.0s t1 ← 183 INVITE sdp",
    );
    let r183 = lab.last(T1, "183 INVITE");
    let moved = TRUNK_SDP.replace("o=- 1 1", "o=- 1 2").replace("audio 4000", "audio 4002");
    let rack = format!("{} {number} INVITE", rseq(&r183));
    prack(&mut lab, &r183, 900, &rack, &moved);
    assert!(lab.take(T1, "200 PRACK").body_of("application/sdp").is_some());
    let _cancel = text.clone();
    lab.plays(
        "0.0s t1 → PRACK sdp
         0.0s t1 ← 200 PRACK sdp
         0.0s t1 → CANCEL
         0.0s t1 ← 200 CANCEL
         0.0s t1 ← 487 INVITE
         0.0s alice ← CANCEL",
    );
    lab.expect_idle();
}

#[test]
fn a_trunk_that_wants_delayed_offers_gets_its_answer_in_the_ack_or_in_the_prack() {
    let changes = [("realm = \"carrier\"", "realm = \"carrier\"\ndelayed_offer = true")];
    for reliable in [false, true] {
        let mut lab = Lab::changed(&changes, "");
        lab.plays(
            "0.0s alice → INVITE +12065550123 sdp
             0.0s alice ← 100 INVITE
             0.0s t1 ← INVITE",
        );
        let invite = lab.last(T1, "INVITE");
        assert!(invite.body().is_empty(), "no offer");
        if reliable {
            lab.reply_with(T1, &invite, 183, TRUNK_SDP, "far", "Require: 100rel\r\nRSeq: 5\r\n");
            let prack = lab.take(T1, "PRACK");
            assert!(prack.body_of("application/sdp").is_some(), "the answer");
            lab.reply(T1, &prack, 200, "");
            lab.take(ALICE, "183");
        }
        lab.reply_with(T1, &invite, 200, if reliable { "" } else { TRUNK_SDP }, "far", "");
        let ack = lab.take(T1, "ACK");
        assert_eq!(ack.body_of("application/sdp").is_some(), !reliable);
        let ok = lab.take(ALICE, "200");
        lab.ack(ALICE, &ok);
        assert!(lab.media.iter().any(|c| matches!(c, WorkerCommand::Bridge { .. })));
        let bye = lab.in_dialog(ALICE, &ok, "BYE", 90, "", "");
        lab.says(ALICE, &bye);
        lab.expect_idle();
    }
}
