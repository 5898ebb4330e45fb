//! Responses and in-dialog requests as odd peers write them.

use crate::lab::*;
use std::time::Duration;

/// The answer of alice's call: her 200, after `responses` (status, SDP, tag, header lines) of the
/// trunk; it is hung up by `hangs_up`.
fn goes_out(what: &str, responses: &[(u16, &str, &str, &str)], hangs_up: Peer) -> Lab {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    for (status, sdp, tag, extra) in responses {
        lab.reply_with(T1, &invite, *status, sdp, tag, extra);
        while lab.got(T1, "PRACK") {
            let prack = lab.take(T1, "PRACK");
            lab.reply_as(T1, &prack, 200, "", tag);
        }
    }
    assert!(lab.got(ALICE, "200"), "{what}: {}", lab.picture());
    let ok = lab.take(ALICE, "200");
    assert!(ok.body_of("application/sdp").is_some(), "{what}");
    lab.ack(ALICE, &ok);
    lab.take(T1, "ACK");
    let tag = responses.last().map_or("", |r| r.2);
    if hangs_up == ALICE {
        let bye = lab.in_dialog(ALICE, &ok, "BYE", 90, "", "");
        lab.says(ALICE, &bye);
        let bye = lab.inbox.iter().rev().find(|(h, m)| *h == T1.hop() && m.method_token() == "BYE");
        let bye = bye.unwrap_or_else(|| panic!("{what}: {}", lab.picture())).1.clone();
        lab.reply_as(T1, &bye, 200, "", tag);
    } else {
        let bye = lab.in_dialog(T1, &invite, "BYE", 7, tag, "");
        lab.says(T1, &bye);
        lab.take(T1, "200 BYE");
    }
    lab
}

#[test]
fn an_answer_is_one_whatever_came_before_it() {
    let other = &TRUNK_SDP.replace("audio 4000", "audio 4100");
    let reliable = "Require: 100rel\r\nRSeq: 1\r\n";
    let second = "Require: 100rel\r\nRSeq: 2\r\n";
    for (what, responses) in [
        ("no 100", &[(200, TRUNK_SDP, "a", "")][..]),
        ("100 with a tag", &[(100, "", "a", ""), (200, TRUNK_SDP, "a", "")]),
        (
            "180 after 183",
            &[(183, TRUNK_SDP, "a", ""), (180, "", "a", ""), (200, TRUNK_SDP, "a", "")],
        ),
        (
            "the 183's description stands for the 200's",
            &[(183, TRUNK_SDP, "a", ""), (200, "", "a", "")],
        ),
        (
            "183 after 183 without SDP",
            &[
                (183, TRUNK_SDP, "a", ""),
                (183, "", "a", ""),
                (183, other, "a", ""),
                (200, "", "a", ""),
            ],
        ),
        (
            "forks of different descriptions",
            &[
                (183, TRUNK_SDP, "a", ""),
                (183, other, "b", ""),
                (180, "", "c", ""),
                (200, other, "b", ""),
            ],
        ),
        ("a fork that did not ring answers", &[(183, TRUNK_SDP, "a", ""), (200, other, "z", "")]),
        (
            "199 ends a fork",
            &[
                (183, TRUNK_SDP, "a", ""),
                (199, "", "a", "Reason: SIP;cause=486\r\n"),
                (200, TRUNK_SDP, "b", ""),
            ],
        ),
        (
            "provisional statuses nobody knows",
            &[
                (101, "", "a", ""),
                (170, "", "a", ""),
                (181, "", "a", ""),
                (182, "", "a", ""),
                (200, TRUNK_SDP, "a", ""),
            ],
        ),
        (
            "a reliable 180, and a 200 with SDP",
            &[(180, "", "a", reliable), (200, TRUNK_SDP, "a", "")],
        ),
        (
            "a reliable 183, and a 200 without",
            &[(183, TRUNK_SDP, "a", reliable), (180, "", "a", second), (200, "", "a", "")],
        ),
        (
            "RSeq that begins anew in another fork",
            &[(183, TRUNK_SDP, "a", reliable), (183, other, "b", reliable), (200, other, "b", "")],
        ),
        ("202 Accepted", &[(180, "", "a", ""), (202, TRUNK_SDP, "a", "")]),
        ("204", &[(183, TRUNK_SDP, "a", ""), (204, "", "a", "")]),
    ] {
        for hangs_up in [ALICE, T1] {
            goes_out(what, responses, hangs_up).expect_idle();
        }
    }
}

#[test]
fn a_prack_that_is_refused_or_not_answered_ends_no_call() {
    for status in [200, 400, 405, 481, 500, 0] {
        let mut lab = Lab::with_phones();
        lab.plays("0.0s alice calls +12065550123 at t1");
        let invite = lab.last(T1, "INVITE");
        lab.reply_with(T1, &invite, 183, TRUNK_SDP, "a", "Require: 100rel\r\nRSeq: 9\r\n");
        let prack = lab.take(T1, "PRACK");
        if status > 0 {
            lab.reply_as(T1, &prack, status, "", "a");
        }
        lab.reply_as(T1, &invite, 200, TRUNK_SDP, "a");
        let ok = lab.take(ALICE, "200");
        lab.ack(ALICE, &ok);
        lab.advance(Duration::from_secs(40));
        assert_eq!(lab.gateway.gauges().calls, 1, "{status}");
        lab.gateway_hangs_up();
        lab.expect_idle();
    }
}

#[test]
fn each_final_refusal_is_passed_on_and_leaves_nothing_behind() {
    for status in [
        300, 302, 305, 380, 400, 402, 405, 406, 409, 410, 411, 413, 414, 415, 416, 417, 420, 421,
        423, 424, 428, 429, 430, 433, 436, 437, 438, 439, 440, 469, 470, 480, 481, 482, 483, 484,
        485, 486, 487, 488, 489, 491, 493, 494, 499, 500, 501, 502, 503, 504, 505, 513, 555, 580,
        599, 600, 603, 604, 606, 607, 608, 699,
    ] {
        let mut lab = Lab::with_phones();
        lab.plays("0.0s alice calls +12065550123 at t1");
        let invite = lab.last(T1, "INVITE");
        let extra = "Warning: 370 x \"a, b\", 399\r\nRetry-After: 5;duration=60 (a, b)\r\n\
                     Contact: *\r\nContact: <tel:+1>;q=x, <sip:+2@x;lr>;q=0.7;expires=\"x\"\r\n\
                     Reason: Q.850;cause=16;text=Normal call clearing, really\r\n\
                     Alert-Info: <\r\nUnsupported: ,\r\nMin-SE: x\r\n";
        lab.reply_with(T1, &invite, status, "", "a", extra);
        lab.take(T1, "ACK");
        let final_ones = lab.inbox.iter().filter(|(h, m)| *h == ALICE.hop() && m.status() >= 300);
        assert_eq!(final_ones.count(), 1, "{status}: {}", lab.picture());
        lab.expect_idle();
    }
}

#[test]
fn in_dialog_requests_of_a_trunk_are_answered_and_end_nothing() {
    let mut lab = Lab::with_phones();
    let (_, invite) = lab.talk("+12065550123");
    for (cseq, (method, extra, kind, body, status)) in (10..).zip([
        ("OPTIONS", "", "", "", 200),
        ("INFO", "", "", "", 200),
        ("INFO", "", "application/media_control+xml", "<media_control/>", 415),
        ("INFO", "Info-Package: nobody-asked\r\n", "text/plain", "x", 469),
        ("NOTIFY", "Event: refer\r\nSubscription-State: active\r\n", "message/sipfrag", "x", 481),
        ("NOTIFY", "Event: keep-alive\r\n", "", "", 489),
        ("SUBSCRIBE", "Event: dialog\r\nExpires: 60\r\n", "", "", 489),
        ("PUBLISH", "Event: presence\r\n", "", "", 405),
        ("PRACK", "RAck: 1 1 INVITE\r\n", "", "", 481),
        ("MESSAGE", "", "text/plain", "x", 405),
        ("REFER", "Refer-To: <sip:+1@x>\r\n", "", "", 403),
        ("UPDATE", "", "", "", 200),
        ("UPDATE", "", "application/sdp", TRUNK_SDP, 200),
        ("FOO", "", "", "", 501),
    ]) {
        let text = lab.in_dialog_with(T1, &invite, method, cseq, extra, body);
        lab.says(T1, &text.replace("application/sdp", kind));
        let answer = lab.inbox.iter().rev().find(|(h, m)| {
            *h == T1.hop() && m.cseq().is_some_and(|c| c.number == cseq && c.method == method)
        });
        let answer = answer.unwrap_or_else(|| panic!("{method} {extra}")).1.status();
        assert_eq!(answer, status, "{method} {extra}");
    }
    // One that is older than what came is refused, and one that jumps is not.
    for (cseq, status) in [(5, 500), (70_000, 200)] {
        let text = lab.in_dialog(T1, &invite, "OPTIONS", cseq, "peer", "");
        lab.says(T1, &text);
        lab.take(T1, &format!("{status} OPTIONS"));
    }
    assert_eq!(lab.gateway.gauges().calls, 1);
    lab.gateway_hangs_up();
    lab.expect_idle();
}

/// What our BYE and our refresh meet in dialogs that are gone, or half gone.
#[test]
fn a_bye_ends_the_call_whatever_it_meets() {
    for status in [200, 202, 400, 405, 408, 481, 486, 500, 503] {
        let mut lab = Lab::with_phones();
        lab.plays(&format!(
            "0.0s alice calls +12065550123 at t1
             0.0s t1 answers alice
             5.0s alice → BYE
             5.0s alice ← 200 BYE
             5.0s t1 ← BYE
             5.0s t1 → {status} BYE"
        ));
        lab.expect_idle();
    }
    let mut lab = Lab::with_phones();
    lab.plays(
        "0.0s alice calls +12065550123 at t1
         0.0s t1 answers alice
         5.0s alice → BYE
         5.0s alice ← 200 BYE
         5.0s t1 ← BYE               // and nothing comes of it",
    );
    lab.expect_idle();
}

/// Both hang up at once, and both change their session at once.
#[test]
fn glare_of_byes_and_of_reinvites_is_borne() {
    let mut lab = Lab::with_phones();
    let (_, invite) = lab.talk("+12065550123");
    lab.plays(
        "0.0s alice → BYE
         0.0s alice ← 200 BYE
         0.0s t1 ← BYE
         0.0s t1 → BYE
         0.0s t1 ← 481 BYE
         0.0s t1 → 481 BYE",
    );
    let answer = lab.last(T1, "481 BYE");
    assert_eq!(answer.call_id(), invite.call_id());
    lab.expect_idle();
}
