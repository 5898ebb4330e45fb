//! Descriptions and other parts in multipart bodies, wherever a body is read.

use crate::challenges::digest;
use crate::lab::*;
use crate::trunk_health::REALM;
use webtrunk::sip::parse::HeaderName;
use webtrunk::worker::WorkerCommand;

fn multipart(parts: &[(&str, &str, &str)]) -> String {
    let mut body = "preamble\r\n".to_owned();
    for (kind, more, text) in parts {
        body.push_str(&format!("--b\r\nContent-Type: {kind}\r\n{more}\r\n{text}\r\n"));
    }
    body + "--b--\r\nepilogue"
}

const MIXED: &str = "multipart/mixed;boundary=\"b\"";

#[test]
fn the_description_in_a_multipart_body_counts_wherever_a_body_is_read() {
    let sdp = |text: &str| {
        multipart(&[
            ("application/isup", "Content-Disposition: signal;handling=optional\r\n", "\u{1}\u{2}"),
            ("application/sdp", "", text),
        ])
    };
    let mixed = |text: String| {
        text.replace("Content-Type: application/sdp\r\n\r\n", "@@")
            .replacen(
                "Content-Type: application/sdp\r\nContent-Length",
                &format!("Content-Type: {MIXED}\r\nContent-Length"),
                1,
            )
            .replace("@@", "Content-Type: application/sdp\r\n\r\n")
    };
    let mut lab = Lab::with_phones();
    let text = lab.request(
        T1,
        "INVITE",
        "sip:+12065550111@127.0.0.1",
        "Supported: 100rel\r\n",
        &sdp(TRUNK_SDP),
    );
    lab.says(T1, &mixed(text));
    let invite = lab.take(ALICE, "INVITE");
    lab.reply(ALICE, &invite, 200, ANSWER);
    let ok = lab.take(T1, "200");
    lab.ack(T1, &ok);
    for (n, method) in ["INVITE", "UPDATE"].into_iter().enumerate() {
        let held = TRUNK_SDP.replace("c=IN", "a=sendonly\r\nc=IN").replace("a=sendonly\r\n", "")
            + "a=sendonly\r\n";
        let held = held.replace("o=- 1 1", &format!("o=- 1 {}", n + 2));
        let text = lab.in_dialog(T1, &ok, method, 90 + n as u32, "", &sdp(&held));
        lab.says(T1, &mixed(text));
        let answered = lab.take(T1, &format!("200 {method}"));
        let answer = String::from_utf8_lossy(answered.body()).into_owned();
        assert!(answer.contains("a=recvonly"), "{method}: {answer}");
        if method == "INVITE" {
            lab.ack(T1, &answered);
        }
    }
    let bye = lab.in_dialog(T1, &ok, "BYE", 99, "", "");
    lab.says(T1, &bye);
    lab.expect_idle();
    // And of a trunk that answers: early, and finally.
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    for status in [183, 200] {
        let body = sdp(TRUNK_SDP);
        let before = lab.inbox.len();
        let header = |name| invite.header(name).unwrap_or_default().to_owned();
        let text = format!(
            "SIP/2.0 {status} x\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=p\r\nCall-ID: {}\r\nCSeq: {}\r\nContact: <sip:far@127.0.0.10>\r\n\
             Content-Type: {MIXED}\r\nContent-Length: {}\r\n\r\n{body}",
            header(HeaderName::Via),
            header(HeaderName::From),
            header(HeaderName::To),
            header(HeaderName::CallId),
            header(HeaderName::CSeq),
            body.len()
        );
        lab.says(T1, &text);
        assert!(lab.inbox.len() > before);
        assert!(lab.take(ALICE, &status.to_string()).body_of("application/sdp").is_some());
    }
    assert!(lab.media.iter().any(|c| matches!(c, WorkerCommand::Bridge { .. })));
    lab.take(T1, "ACK");
    lab.gateway_hangs_up();
    lab.expect_idle();
}

impl Lab {
    pub(crate) fn gateway_hangs_up(&mut self) {
        self.handle(webtrunk::gateway::Input::HangUpAll);
    }
}

#[test]
fn a_part_that_is_required_and_not_read_is_415_and_others_are_left_out() {
    for (more, status) in [
        ("Content-Disposition: signal;handling=required\r\n", "415"),
        ("Content-Disposition: signal;handling=optional\r\n", "180"),
        ("", "180"),
    ] {
        let body =
            multipart(&[("application/sdp", "", TRUNK_SDP), ("application/isup", more, "x")]);
        let mut lab = Lab::with_phones();
        let text = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", "", &body).replacen(
            "Content-Type: application/sdp\r\nContent-Length",
            &format!("Content-Type: {MIXED}\r\nContent-Length"),
            1,
        );
        lab.says(T1, &text);
        if status == "180" {
            let invite = lab.take(ALICE, "INVITE");
            lab.reply(ALICE, &invite, 180, "");
        }
        let response = lab.take(T1, status);
        if status == "415" {
            assert_eq!(response.header(HeaderName::Accept), Some(webtrunk::sip::status::ACCEPT));
        } else {
            lab.gateway_hangs_up();
        }
        lab.expect_idle();
    }
}

/// Puts a description into a multipart body beside ISUP and a location, whatever the request.
fn in_parts(text: &str) -> String {
    let (head, sdp) = text.split_once("\r\n\r\n").expect("a body");
    let body = multipart(&[
        ("application/isup", "Content-Disposition: signal;handling=optional\r\n", "\u{1}\u{2}"),
        ("application/sdp", "", sdp),
        ("application/pidf+xml", "Content-ID: <here@a>\r\n", PLACE),
        ("application/rs-metadata+xml", "Content-Disposition: recording-session\r\n", "<r/>"),
    ]);
    let kept = |l: &&str| !l.starts_with("Content-Type") && !l.starts_with("Content-Length");
    let head: Vec<&str> = head.split("\r\n").filter(kept).collect();
    format!(
        "{}\r\nContent-Type: {MIXED}\r\nContent-Length: {}\r\n\r\n{body}",
        head.join("\r\n"),
        body.len()
    )
}

const PLACE: &str = "<presence>47.6 -122.3</presence>";

#[test]
fn a_location_goes_only_to_trunks_that_want_it_and_no_other_part_crosses() {
    for (setting, sent) in [("location = true", true), ("location = false", false)] {
        let mut lab = Lab::changed(&[(REALM, &format!("{REALM}\n{setting}"))], "");
        let text = lab.request(ALICE, "INVITE", "sip:+12065550123@wt.test", "", OFFER);
        lab.says(ALICE, &in_parts(&text));
        let invite = lab.take(T1, "INVITE");
        lab.reply_with(T1, &invite, 401, "", "x", &digest("WWW", "carrier", "n0"));
        // With credentials it is too long for a datagram where the place is in it.
        let again = lab.inbox.iter().find(|(_, m)| m.method_token() == "INVITE");
        let again = again.expect("the challenge is answered").1.clone();
        for invite in [invite, again] {
            assert!(invite.body_of("application/sdp").is_some_and(|b| b.starts_with(b"v=0")));
            let place = sent.then_some(PLACE.as_bytes());
            assert_eq!(invite.body_of("application/pidf+xml"), place);
            assert!(invite.body_of("application/isup").is_none());
            assert!(invite.body_of("application/rs-metadata+xml").is_none());
            let text = String::from_utf8_lossy(&invite.to_bytes()).into_owned();
            assert_eq!(text.contains("Geolocation: <cid:location@wt.test>"), sent, "{text}");
            assert_eq!(text.contains("Content-ID: <location@wt.test>"), sent, "{text}");
            assert!(!text.contains("here@a"), "nothing of theirs is copied: {text}");
        }
        lab.gateway_hangs_up();
    }
}

/// A location alone is not carried for somebody who is handed over, nor from a trunk to a browser.
#[test]
fn a_location_reaches_no_browser() {
    let mut lab = Lab::with_phones();
    let text = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", "", TRUNK_SDP);
    lab.says(T1, &in_parts(&text));
    let invite = lab.take(ALICE, "INVITE");
    assert_eq!(invite.header(HeaderName::ContentType), Some("application/sdp"));
    lab.gateway_hangs_up();
}

#[test]
fn multipart_is_read_in_the_prack_the_ack_and_the_info() {
    // An offerless caller: our offer in a reliable 183, its answer in the PRACK; or in the ACK.
    for reliable in [true, false] {
        let mut lab = Lab::with_phones();
        let extra = if reliable { "Supported: 100rel\r\n" } else { "" };
        let text = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", extra, "");
        lab.says(T1, &text);
        let ringing = lab.take(ALICE, "INVITE");
        let bridged =
            |lab: &Lab| lab.media.iter().any(|c| matches!(c, WorkerCommand::Bridge { .. }));
        if reliable {
            lab.reply(ALICE, &ringing, 183, ANSWER);
            let r183 = lab.take(T1, "183");
            let rseq = Lab::header(&r183, HeaderName::RSeq).to_owned();
            let rack = format!("RAck: {rseq} {}\r\n", Lab::header(&r183, HeaderName::CSeq));
            let prack = lab.in_dialog_with(T1, &r183, "PRACK", 900, &rack, TRUNK_SDP);
            lab.says(T1, &in_parts(&prack));
            lab.take(T1, "200 PRACK");
            assert!(bridged(&lab), "by the answer in the PRACK");
        }
        lab.reply(ALICE, &ringing, 200, ANSWER);
        let ok = lab.take(T1, "200 INVITE");
        let number = ok.cseq().map_or(0, |c| c.number);
        let body = if reliable { "" } else { TRUNK_SDP };
        let ack = lab.in_dialog(T1, &ok, "ACK", number, "", body);
        lab.media.clear();
        lab.says(T1, &if reliable { ack } else { in_parts(&ack) });
        let settled = lab.media.iter().any(|c| matches!(c, WorkerCommand::Configure { .. }));
        assert_eq!(settled, !reliable, "by the answer in the ACK");
        // A digit in one part of several.
        let info = lab.in_dialog(T1, &ok, "INFO", 930, "", "Signal=5\r\nDuration=160\r\n");
        let info = in_parts(&info).replace("application/sdp", "application/dtmf-relay");
        lab.media.clear();
        lab.says(T1, &info);
        lab.take(T1, "200 INFO");
        let digit = |c: &WorkerCommand| matches!(c, WorkerCommand::Digit { event: 5, .. });
        assert!(lab.media.iter().any(digit), "{:?}", lab.media);
        let bye = lab.in_dialog(T1, &ok, "BYE", 950, "", "");
        lab.says(T1, &bye);
        lab.expect_idle();
    }
}

/// A body whose type names no boundary, and one that is written for mail: read as it is meant.
#[test]
fn a_body_of_parts_is_read_though_its_type_says_less_than_it_should() {
    let plain = multipart(&[("application/isup", "", "x"), ("application/sdp", "", TRUNK_SDP)]);
    let plain = plain.strip_prefix("preamble\r\n").expect("it begins so").to_owned();
    let encoding = "Content-Transfer-Encoding: quoted-printable\r\n";
    let quoted = TRUNK_SDP.replace('=', "=3D").replace("a=3Drtpmap:101", "a=3Drtp=\r\nmap:101");
    let quoted = multipart(&[("application/sdp", encoding, &quoted)]);
    for (kind, body) in [
        ("multipart/mixed", plain.as_str()),
        ("Multipart/Mixed ;", &plain),
        ("multipart/mixed;boundary=", &plain),
        ("multipart/mixed;boundary=\"b\"", &quoted),
        ("multipart/related;type=\"application/sdp\";boundary=b", &quoted),
    ] {
        let mut lab = Lab::with_phones();
        let text = lab.request(T1, "INVITE", "sip:+12065550111@127.0.0.1", "", body);
        lab.says(T1, &text.replacen("application/sdp", kind, 1));
        assert!(lab.got(ALICE, "INVITE"), "{kind}\n{}", lab.picture());
        let invite = lab.take(ALICE, "INVITE");
        lab.reply(ALICE, &invite, 200, ANSWER);
        let ok = lab.take(T1, "200");
        assert!(ok.body_of("application/sdp").is_some_and(|b| !b.is_empty()), "{kind}");
        let digits = String::from_utf8_lossy(ok.body()).contains("telephone-event/8000");
        assert!(digits, "{kind}: {}", String::from_utf8_lossy(ok.body()));
        lab.ack(T1, &ok);
        lab.gateway_hangs_up();
        lab.expect_idle();
    }
}
