//! What of a peer's words is kept, passed on or done, and no more: bounds of calls that no other
//! test holds.

use crate::lab::*;
use std::time::Duration;
use webtrunk::sip::Message;
use webtrunk::sip::parse::HeaderName;
use webtrunk::sip::transaction::Hop;

#[test]
fn ten_diversions_are_passed_on() {
    let route = "[[route]]\nname = \"On\"\nmatch = \"+1206\"\ndo = [{ dial = [\"trunk:t2\"] }]\n";
    for name in [HeaderName::Diversion, HeaderName::HistoryInfo] {
        let mut lab = Lab::changed(
            &[
                ("context = \"incoming\"", "context = \"phones\""),
                ("realm = \"carrier\"", "realm = \"carrier\"\ntrusted = true"),
                (
                    "uri = \"sip:127.0.0.11\"",
                    "uri = \"sip:127.0.0.11\"\ntrusted = true\ncodecs = [\"pcmu\"]",
                ),
            ],
            route,
        );
        let extra: String = (0..30).map(|n| format!("{name}: <sip:{n}@x>\r\n")).collect();
        let text = lab.request(T1, "INVITE", "sip:+1206@127.0.0.1", &extra, TRUNK_SDP);
        lab.says(T1, &text);
        // By UDP or by TCP, as its length has it (RFC 3261 18.1.1).
        let to_t2 = |(_, m): &&(Hop, Message)| m.is_request() && m.method_token() == "INVITE";
        let (_, invite) = lab.inbox.iter().find(to_t2).expect("an INVITE").clone();
        let passed: usize = invite.all(name).map(|v| v.split(',').count()).sum();
        assert_eq!(passed, 10, "{name}");
        lab.cancel(T1, &text);
        lab.expect_idle();
    }
}

#[test]
fn a_call_is_transferred_twenty_times_at_most() {
    let mut lab =
        Lab::changed(&[("password = \"secret-a\"", "password = \"secret-a\"\nrefer = true")], "");
    let (ok, invite) = lab.talk("+12065550123");
    for n in 0..=20 {
        // Nobody's calls come faster than a user may make them.
        lab.advance(Duration::from_secs(1));
        let refer = format!("Refer-To: <sip:+1206555{:04}@wt.test>\r\n", 100 + n);
        let refer = lab.in_dialog_with(ALICE, &ok, "REFER", 100 + n, &refer, "");
        lab.says(ALICE, &refer);
        if n == 20 {
            lab.take(ALICE, "403 REFER");
            break;
        }
        lab.take(ALICE, "202 REFER");
        let second = lab.take(T1, "INVITE");
        lab.reply_as(T1, &second, 486, "", "busy");
        while lab.got(ALICE, "NOTIFY") {
            let notify = lab.take(ALICE, "NOTIFY");
            lab.reply(ALICE, &notify, 200, "");
        }
    }
    let bye = lab.in_dialog(T1, &invite, "BYE", 7, "peer", "");
    lab.says(T1, &bye);
    let bye = lab.take(ALICE, "BYE");
    lab.reply(ALICE, &bye, 200, "");
    lab.expect_idle();
}

#[test]
fn a_user_has_twenty_subscriptions_at_most() {
    let mut lab = Lab::with_phones();
    for n in 0..=20 {
        let event = format!("Event: message-summary;id={n}\r\nExpires: 60\r\n");
        let watch = lab.request(ALICE, "SUBSCRIBE", "sip:alice@wt.test", &event, "");
        lab.says(ALICE, &watch);
        if n == 20 {
            lab.take(ALICE, "403 SUBSCRIBE");
            break;
        }
        lab.take(ALICE, "200 SUBSCRIBE");
        let notify = lab.take(ALICE, "NOTIFY");
        lab.reply(ALICE, &notify, 200, "");
    }
    assert_eq!(lab.gateway.gauges().subscriptions, 20);
}

#[test]
fn a_location_of_more_than_four_kilobytes_is_not_carried() {
    for (length, carried) in [(4_096, true), (4_097, false)] {
        let setting = "realm = \"carrier\"\nlocation = true";
        let mut lab = Lab::changed(&[("realm = \"carrier\"", setting)], "");
        let body = format!(
            "--b\r\nContent-Type: application/sdp\r\n\r\n{OFFER}\r\n--b\r\n\
             Content-Type: application/pidf+xml\r\n\r\n{}\r\n--b--\r\n",
            "x".repeat(length)
        );
        let text = lab.request(ALICE, "INVITE", "sip:+12065550123@wt.test", "", &body);
        let mixed = "Content-Type: multipart/mixed;boundary=b";
        lab.says(
            ALICE,
            &text.replace(
                "Content-Type: application/sdp\r\nContent-Length",
                &format!("{mixed}\r\nContent-Length"),
            ),
        );
        let invite = lab
            .inbox
            .iter()
            .find(|(_, m)| m.method_token() == "INVITE")
            .map(|(_, m)| m.clone())
            .expect("the call continues");
        assert_eq!(invite.body_of("application/pidf+xml").is_some(), carried, "{length}");
        lab.gateway_hangs_up();
    }
}
