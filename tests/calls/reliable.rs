//! Reliable provisional responses (RFC 3262), both ways and across: one leg reliable, the other
//! not.

use crate::lab::*;
use std::time::Duration;
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
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    assert!(invite.lists(HeaderName::Supported, "100rel"));
    lab.reply_with(T1, &invite, 183, TRUNK_SDP, "far", "Require: 100rel\r\nRSeq: 70\r\n");
    let first = lab.take(T1, "PRACK");
    assert_eq!(
        Lab::header(&first, HeaderName::RAck),
        format!("70 {} INVITE", invite.cseq().unwrap().number)
    );
    lab.reply(T1, &first, 200, "");
    lab.take(ALICE, "183");
    // The same again, and one too early: neither is acknowledged.
    lab.reply_with(T1, &invite, 183, TRUNK_SDP, "far", "Require: 100rel\r\nRSeq: 70\r\n");
    lab.reply_with(T1, &invite, 180, "", "far", "Require: 100rel\r\nRSeq: 72\r\n");
    assert!(!lab.got(T1, "PRACK") && !lab.got(ALICE, "180"));
    lab.reply_with(T1, &invite, 180, "", "far", "Require: 100rel\r\nRSeq: 71\r\n");
    let second = lab.take(T1, "PRACK");
    assert_eq!(second.cseq().unwrap().number, first.cseq().unwrap().number + 1);
    lab.reply(T1, &second, 200, "");
    lab.reply_with(T1, &invite, 200, TRUNK_SDP, "far", "");
    let ack = lab.take(T1, "ACK");
    assert_eq!(
        ack.cseq().unwrap().number,
        invite.cseq().unwrap().number,
        "the ACK has the INVITE's number"
    );
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 90, "", "");
    lab.says(ALICE, &bye);
    let bye = lab.take(T1, "BYE");
    assert!(
        bye.cseq().unwrap().number > second.cseq().unwrap().number,
        "the dialog's sequence goes on"
    );
    lab.expect_idle();
}

#[test]
fn an_answer_in_a_reliable_183_is_enough_for_a_200_without_sdp() {
    let mut lab = Lab::with_phones();
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply_with(T1, &invite, 183, TRUNK_SDP, "far", "Require: 100rel\r\nRSeq: 1\r\n");
    lab.reply_with(T1, &invite, 200, "", "far", "");
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    assert_eq!(lab.gateway.gauges().calls, 1);
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 90, "", "");
    lab.says(ALICE, &bye);
    lab.expect_idle();
}

#[test]
fn a_caller_that_requires_100rel_gets_reliable_responses_and_the_200_waits_for_its_prack() {
    let mut lab = Lab::with_phones();
    let text = from_trunk(&mut lab, REQUIRED, TRUNK_SDP);
    let number =
        text.lines().find_map(|l| l.strip_prefix("CSeq: ")).unwrap().replace(" INVITE", "");
    let ringing = lab.take(ALICE, "INVITE");
    assert!(
        !ringing.lists(HeaderName::Supported, "100rel"),
        "a browser is not asked for what it has not"
    );
    lab.reply(ALICE, &ringing, 180, "");
    let r180 = lab.take(T1, "180");
    let first = rseq(&r180);
    lab.reply(ALICE, &ringing, 183, ANSWER);
    assert!(!lab.got(T1, "183"), "one reliable response at a time");
    lab.advance(Duration::from_millis(1_600));
    assert_eq!(
        lab.picture().matches("t1 ← 180").count(),
        3,
        "repeated at 0.5 and 1.5 s: {}",
        lab.picture()
    );
    prack(&mut lab, &r180, 900, &format!("{} {number} INVITE", first + 9), "");
    lab.take(T1, "481 PRACK");
    prack(&mut lab, &r180, 901, &format!("{first} {number} INVITE"), "");
    lab.take(T1, "200 PRACK");
    let r183 = lab.take(T1, "183");
    assert_eq!(rseq(&r183), first + 1);
    lab.reply(ALICE, &ringing, 200, ANSWER);
    assert!(!lab.got(T1, "200"), "RFC 3262 section 3: the 200 waits");
    prack(&mut lab, &r183, 902, &format!("{} {number} INVITE", first + 1), "");
    lab.take(T1, "200 PRACK");
    let ok = lab.take(T1, "200 INVITE");
    assert!(ok.body().is_empty(), "the exchange was done in the 183");
    lab.ack(T1, &ok);
    let bye = lab.in_dialog(T1, &ok, "BYE", 950, "", "");
    lab.says(T1, &bye);
    lab.expect_idle();
}

#[test]
fn a_reliable_response_nobody_acknowledges_ends_the_call_with_504() {
    let mut lab = Lab::with_phones();
    from_trunk(&mut lab, REQUIRED, TRUNK_SDP);
    let ringing = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &ringing, 180, "");
    lab.advance(Duration::from_secs(10));
    assert!(!lab.got(T1, "504"));
    lab.advance(Duration::from_secs(23));
    lab.take(T1, "480");
    lab.expect_idle();
    let mut lab = Lab::changed(&[], "");
    let long = lab.request(T1, "INVITE", "sip:+12065550112@127.0.0.1", REQUIRED, TRUNK_SDP);
    lab.says(T1, &long);
    let ringing = lab.take(BOB, "INVITE");
    lab.reply(BOB, &ringing, 183, ANSWER);
    lab.take(T1, "183");
    lab.reply(BOB, &ringing, 200, ANSWER);
    lab.advance(Duration::from_secs(33));
    lab.take(T1, "504");
    lab.take(BOB, "BYE");
    lab.expect_idle();
}

#[test]
fn a_choice_of_reliability_is_made_for_what_carries_sdp_only() {
    let mut lab = Lab::with_phones();
    from_trunk(&mut lab, "Supported: 100rel\r\n", TRUNK_SDP);
    let ringing = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &ringing, 180, "");
    assert!(lab.take(T1, "180").header(HeaderName::RSeq).is_none());
    lab.reply(ALICE, &ringing, 183, ANSWER);
    rseq(&lab.take(T1, "183"));
    lab.reply(ALICE, &ringing, 486, "");
    lab.take(T1, "486");
    lab.expect_idle();
    let mut lab =
        Lab::changed(&[("realm = \"carrier\"", "realm = \"carrier\"\n100rel = \"off\"")], "");
    from_trunk(&mut lab, "Supported: 100rel\r\n", TRUNK_SDP);
    let ringing = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &ringing, 183, ANSWER);
    assert!(lab.take(T1, "183").header(HeaderName::RSeq).is_none(), "switched off for this trunk");
    lab.reply(ALICE, &ringing, 486, "");
    lab.expect_idle();
}

#[test]
fn a_caller_without_an_offer_hears_early_media_by_an_offer_in_the_183_and_an_answer_in_the_prack() {
    let mut lab = Lab::with_phones();
    let text = from_trunk(&mut lab, "Supported: 100rel\r\n", "");
    let number =
        text.lines().find_map(|l| l.strip_prefix("CSeq: ")).unwrap().replace(" INVITE", "");
    let ringing = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &ringing, 183, ANSWER);
    let r183 = lab.take(T1, "183");
    assert!(r183.body_of("application/sdp").is_some(), "our offer");
    let rack = format!("{} {number} INVITE", rseq(&r183));
    prack(&mut lab, &r183, 900, &rack, TRUNK_SDP);
    lab.take(T1, "200 PRACK");
    assert!(
        matches!(lab.media.last(), Some(WorkerCommand::Bridge { .. })),
        "{:?}",
        lab.media.last()
    );
    lab.reply(ALICE, &ringing, 200, ANSWER);
    let ok = lab.take(T1, "200 INVITE");
    assert!(ok.body().is_empty());
    lab.ack(T1, &ok);
    assert_eq!(lab.gateway.gauges().calls, 1);
    let bye = lab.in_dialog(T1, &ok, "BYE", 950, "", "");
    lab.says(T1, &bye);
    lab.expect_idle();
}

#[test]
fn a_prack_may_bring_a_new_offer_and_its_200_the_answer() {
    let mut lab = Lab::with_phones();
    let text = from_trunk(&mut lab, REQUIRED, TRUNK_SDP);
    let number =
        text.lines().find_map(|l| l.strip_prefix("CSeq: ")).unwrap().replace(" INVITE", "");
    let ringing = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &ringing, 183, ANSWER);
    let r183 = lab.take(T1, "183");
    let moved = TRUNK_SDP.replace("o=- 1 1", "o=- 1 2").replace("audio 4000", "audio 4002");
    let rack = format!("{} {number} INVITE", rseq(&r183));
    prack(&mut lab, &r183, 900, &rack, &moved);
    assert!(lab.take(T1, "200 PRACK").body_of("application/sdp").is_some());
    let cancel = text.clone();
    lab.cancel(T1, &cancel);
    lab.take(T1, "487");
    lab.expect_idle();
}

#[test]
fn a_trunk_that_wants_delayed_offers_gets_its_answer_in_the_ack_or_in_the_prack() {
    let changes = [("realm = \"carrier\"", "realm = \"carrier\"\ndelayed_offer = true")];
    for reliable in [false, true] {
        let mut lab = Lab::changed(&changes, "");
        lab.invite(ALICE, "+12065550123", OFFER);
        let invite = lab.take(T1, "INVITE");
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
