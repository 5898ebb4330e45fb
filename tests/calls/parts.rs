//! Parts of a body that their sender requires to be read (RFC 5621 §4), and that nobody here reads:
//! a request is refused with 415; where nothing can be refused, what is read counts.

use crate::lab::*;
use std::time::Duration;
use webtrunk::sip::Message;
use webtrunk::sip::parse::HeaderName;
use webtrunk::worker::WorkerCommand;

/// The body of `text` beside ISUP that says how it is to be handled.
fn beside_isup(text: &str, handling: &str) -> String {
    let (head, body) = text.split_once("\r\n\r\n").expect("a body");
    let kind = head.lines().find(|l| l.starts_with("Content-Type")).expect("its type");
    let body = format!(
        "--b\r\n{kind}\r\n\r\n{body}\r\n--b\r\nContent-Type: application/isup;version=itu-t92+\r\n\
         Content-Disposition: signal;handling={handling}\r\n\r\n\u{1}\u{2}\r\n--b--\r\n"
    );
    let head: Vec<&str> = head.lines().filter(|l| !l.starts_with("Content-")).collect();
    format!(
        "{}\r\nContent-Type: multipart/mixed;boundary=b\r\nContent-Length: {}\r\n\r\n{body}",
        head.join("\r\n"),
        body.len()
    )
}

fn bridged(lab: &Lab) -> bool {
    lab.media.iter().any(|c| matches!(c, WorkerCommand::Bridge { .. }))
}

/// Whether `text` of the trunk is refused with 415, and says what is read.
fn is_refused(lab: &mut Lab, text: &str, method: &str) {
    lab.says(T1, &beside_isup(text, "required"));
    let refused = lab.take(T1, &format!("415 {method}"));
    let accepted = Lab::header(&refused, HeaderName::Accept);
    assert!(accepted.contains("application/"), "{method}: {accepted}");
}

#[test]
fn a_required_part_that_is_not_supported_is_415_in_each_request_and_the_call_continues() {
    let with_messages = [("realm = \"carrier\"", "realm = \"carrier\"\nmessages = true")];
    let mut lab = Lab::changed(&with_messages, "");
    let uri = "sip:+12065550111@127.0.0.1";
    let text = lab.request(T1, "INVITE", uri, "", TRUNK_SDP);
    is_refused(&mut lab, &text, "INVITE");
    let text = lab.request(T1, "INVITE", uri, "Supported: 100rel\r\n", TRUNK_SDP);
    lab.says(T1, &beside_isup(&text, "optional"));
    let ringing = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &ringing, 183, ANSWER);
    let r183 = lab.take(T1, "183");
    let (rseq, cseq) = (Lab::header(&r183, HeaderName::RSeq), Lab::header(&r183, HeaderName::CSeq));
    let rack = format!("RAck: {rseq} {cseq}\r\n");
    let prack = |lab: &mut Lab, n| lab.in_dialog_with(T1, &r183, "PRACK", n, &rack, TRUNK_SDP);
    let refused = prack(&mut lab, 900);
    is_refused(&mut lab, &refused, "PRACK");
    let taken = prack(&mut lab, 901);
    lab.says(T1, &beside_isup(&taken, "optional"));
    lab.take(T1, "200 PRACK");
    lab.reply_with(ALICE, &ringing, 200, ANSWER, "peer", "Allow: MESSAGE\r\n");
    let ok = lab.take(T1, "200 INVITE");
    lab.ack(T1, &ok);
    for (n, (method, kind, body, taken)) in (910..).step_by(2).zip([
        ("UPDATE", "application/sdp", TRUNK_SDP, "200"),
        ("INVITE", "application/sdp", TRUNK_SDP, "200"),
        ("INFO", "application/dtmf-relay", "Signal=5\r\n", "200"),
    ]) {
        let text = |lab: &mut Lab, n| {
            lab.in_dialog_with(T1, &ok, method, n, "", body).replace("application/sdp", kind)
        };
        lab.media.clear();
        let refused = text(&mut lab, n);
        is_refused(&mut lab, &refused, method);
        assert!(lab.media.is_empty(), "{method}: {:?}", lab.media);
        let asked = text(&mut lab, n + 1);
        lab.says(T1, &beside_isup(&asked, "optional"));
        let answered = lab.take(T1, &format!("{taken} {method}"));
        if method == "INVITE" {
            lab.ack(T1, &answered);
        }
    }
    // A text is for who reads it: all of it crosses.
    let text = lab.in_dialog(T1, &ok, "MESSAGE", 930, "", "hello");
    let text = beside_isup(&text.replace("application/sdp", "text/plain"), "required");
    lab.says(T1, &text);
    lab.take(T1, "202 MESSAGE");
    let passed = lab.take(ALICE, "MESSAGE");
    assert!(text.as_bytes().ends_with(passed.body()) && !passed.body().is_empty());
    assert!(Lab::header(&passed, HeaderName::ContentType).starts_with("multipart/mixed"));
    lab.reply(ALICE, &passed, 200, "");
    let bye = lab.in_dialog(T1, &ok, "BYE", 940, "", "");
    lab.says(T1, &bye.replace("Content-Length", "Content-Type: application/sdp\r\nContent-Length"));
    lab.take(T1, "200 BYE");
    lab.expect_idle();
}

/// A BYE with what a switch says beside it ends the call whatever that requires.
#[test]
fn a_bye_ends_the_call_whatever_its_body_requires() {
    let mut lab = Lab::with_phones();
    let (_, invite) = lab.talk("+12065550123");
    let bye = lab.in_dialog(T1, &invite, "BYE", 7, "peer", "x");
    lab.says(T1, &beside_isup(&bye.replace("application/sdp", "application/isup"), "required"));
    lab.take(T1, "200 BYE");
    lab.take(ALICE, "BYE");
    lab.expect_idle();
}

#[test]
fn a_required_part_of_a_response_or_an_ack_is_noted_in_the_ladder_and_ends_nothing() {
    let mut lab = Lab::with_phones();
    let response = |lab: &mut Lab, request: &Message, status: u16, extra: &str| {
        let header = |name| request.header(name).unwrap_or_default();
        let to = header(HeaderName::To);
        let to = if to.contains("tag=") { to.to_owned() } else { format!("{to};tag=far") };
        let text = format!(
            "SIP/2.0 {status} x\r\nVia: {}\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\n\
             Contact: <sip:far@127.0.0.10>\r\n{extra}Content-Type: application/sdp\r\n\
             Content-Length: 0\r\n\r\n{TRUNK_SDP}",
            header(HeaderName::Via),
            header(HeaderName::From),
            header(HeaderName::CallId),
            header(HeaderName::CSeq),
        );
        lab.says(T1, &beside_isup(&text, "required"));
    };
    lab.invite(ALICE, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    response(&mut lab, &invite, 183, "");
    assert!(lab.take(ALICE, "183").body_of("application/sdp").is_some() && bridged(&lab));
    let timer = "Supported: timer\r\nSession-Expires: 180;refresher=uac\r\n";
    response(&mut lab, &invite, 200, timer);
    lab.take(T1, "ACK");
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    lab.advance(Duration::from_secs(91));
    let refresh = lab.take(T1, "INVITE");
    response(&mut lab, &refresh, 200, timer);
    lab.take(T1, "ACK");
    let flight = lab.gateway.recorder.find("last").expect("it is recorded");
    let rows = format!("{:?}", webtrunk::recorder::ladder::rows(flight));
    assert!(rows.contains("a part of application/isup is left out"), "{rows}");
    lab.gateway_hangs_up();
    lab.expect_idle();
    // An ACK that brings the answer to our offer.
    let mut lab = Lab::with_phones();
    let text = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", "", "");
    lab.says(T1, &text);
    let ringing = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &ringing, 200, ANSWER);
    let ok = lab.take(T1, "200 INVITE");
    let number = ok.cseq().map_or(0, |c| c.number);
    let ack = lab.in_dialog(T1, &ok, "ACK", number, "", TRUNK_SDP);
    lab.media.clear();
    lab.says(T1, &beside_isup(&ack, "required"));
    assert!(lab.media.iter().any(|c| matches!(c, WorkerCommand::Configure { .. })));
    lab.gateway_hangs_up();
    lab.expect_idle();
}
