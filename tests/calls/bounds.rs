//! What of a peer's words is kept, passed on or done, and no more: bounds of calls that no other
//! test holds.

use crate::lab::*;
use crate::recovery::{close, open, prove};
use crate::script::is_called;
use crate::transfers::{notified, refer, replaces};
use std::time::Duration;
use webtrunk::gateway::Input;
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

/// Whoever logs in by name after name would leave twenty behind each time.
#[test]
fn subscriptions_end_with_their_connection_though_it_never_registered() {
    let mut lab = Lab::new();
    let watch = "Event: reg\r\nExpires: 600\r\n";
    for (n, user) in ["alice", "bob", "alice"].into_iter().enumerate() {
        let phone = Peer::Browser(user, 40 + n as u64);
        let password = format!("secret-{}", &user[..1]);
        open(&mut lab, phone);
        let watch = lab.request(phone, "SUBSCRIBE", &format!("sip:{user}@wt.test"), watch, "");
        assert_eq!(prove(&mut lab, phone, &watch, (user, password.as_str())).status(), 200);
        assert_eq!(lab.gateway.gauges().subscriptions, 1);
        close(&mut lab, phone);
        assert_eq!(lab.gateway.gauges().subscriptions, 0, "{user}");
    }
    lab.expect_idle();
}

#[test]
fn who_answers_no_notify_gets_four_and_then_what_changed_last() {
    let mut lab = Lab::with_phones();
    let watch = "Event: message-summary\r\nExpires: 600\r\n";
    let first = lab.request(ALICE, "SUBSCRIBE", "sip:alice@wt.test", watch, "");
    lab.says(ALICE, &first);
    let ok = lab.take(ALICE, "200 SUBSCRIBE");
    for cseq in 100..300 {
        let again = lab.in_dialog_with(ALICE, &ok, "SUBSCRIBE", cseq, watch, "");
        lab.says(ALICE, &again);
        lab.take(ALICE, "200 SUBSCRIBE");
    }
    let told = |lab: &Lab| {
        let notify = |m: &Message| m.is_request() && m.method_token() == "NOTIFY";
        lab.inbox.iter().filter(|(hop, m)| *hop == ALICE.hop() && notify(m)).count()
    };
    assert_eq!(told(&lab), 4);
    let notify = lab.take(ALICE, "NOTIFY");
    lab.reply(ALICE, &notify, 200, "");
    assert_eq!(told(&lab), 4, "one more, of how it is now");
    for _ in 0..4 {
        let notify = lab.take(ALICE, "NOTIFY");
        lab.reply(ALICE, &notify, 200, "");
    }
    assert_eq!(told(&lab), 0);
}

/// INFOs of alice with a digit: how many were taken, and how many refused.
fn digits(lab: &mut Lab, ok: &Message, cseqs: std::ops::Range<u32>) -> (usize, usize) {
    let (mut taken, mut refused) = (0, 0);
    for cseq in cseqs {
        let digit = lab.in_dialog_with(ALICE, ok, "INFO", cseq, "", "Signal=5\r\n");
        lab.says(ALICE, &digit.replace("application/sdp", "application/dtmf-relay"));
        if lab.got(ALICE, "503") {
            lab.take(ALICE, "503 INFO");
            refused += 1;
        } else {
            lab.take(ALICE, "200 INFO");
            taken += 1;
        }
    }
    (taken, refused)
}

#[test]
fn what_a_party_sends_within_a_call_is_paced_and_what_the_other_leaves_unanswered_bounded() {
    let info = ("realm = \"carrier\"", "realm = \"carrier\"\ndtmf = \"info\"");
    let mut lab = Lab::changed(&[info], "");
    let (ok, _) = lab.talk("+12065550123");
    lab.advance(Duration::from_secs(1));
    assert_eq!(digits(&mut lab, &ok, 100..300), (50, 150), "fifty in a second");
    lab.advance(Duration::from_secs(1));
    assert_eq!(digits(&mut lab, &ok, 300..400), (14, 86), "sixty-four without an answer");
    lab.advance(Duration::from_secs(1));
    // Who answers is asked again.
    let asked: Vec<Message> = lab
        .inbox
        .iter()
        .filter(|(hop, m)| *hop == T1.hop() && m.is_request() && m.method_token() == "INFO")
        .map(|(_, m)| m.clone())
        .collect();
    let branch = |m: &Message| Some(m.via()?.branch()?.to_owned());
    let mut branches: Vec<String> = asked.iter().filter_map(branch).collect();
    branches.sort_unstable();
    branches.dedup();
    assert_eq!(branches.len(), 64, "sent again and again, but no more of them");
    lab.reply(T1, &asked[0], 200, "");
    assert_eq!(digits(&mut lab, &ok, 400..410), (1, 9));
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 999, "", "");
    lab.says(ALICE, &bye);
    lab.take(ALICE, "200 BYE");
    assert!(lab.got(T1, "BYE"), "whoever hangs up has gone");
    let bye = lab.take(T1, "BYE");
    lab.reply(T1, &bye, 200, "");
    lab.expect_idle();
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

/// How many messages like "180 INVITE" a peer has got.
fn got(lab: &Lab, peer: Peer, what: &str) -> usize {
    lab.inbox.iter().filter(|(hop, m)| *hop == peer.hop() && is_called(m, what)).count()
}

#[test]
fn a_callee_that_rings_without_end_is_told_at_a_pace() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls +12065550123 at t1");
    let invite = lab.last(T1, "INVITE");
    for second in 1..=3 {
        (0..200).for_each(|_| lab.reply(T1, &invite, 180, ""));
        assert_eq!(got(&lab, ALICE, "180 INVITE"), 20 * second);
        lab.advance(Duration::from_secs(1));
    }
    lab.reply(T1, &invite, 486, "");
    assert_eq!(got(&lab, ALICE, "486 INVITE"), 1);
    lab.expect_idle();
}

#[test]
fn who_answers_no_notify_of_its_transfers_begins_no_more_of_them() {
    let mut lab = Lab::with_phones();
    let (ok, _) = lab.talk("+12065550123");
    lab.plays(
        "0.0s bob calls +12065550124 at t1
         0.0s t1 rings bob",
    );
    // A call that is not hers: each is taken, and told to have failed.
    let to = format!("<sip:200@wt.test?Replaces={}>", replaces(&lab.last(BOB, "180 INVITE")));
    (0..20).for_each(|n| refer(&mut lab, ALICE, &ok, 90 + n, &to, ""));
    let taken = |lab: &Lab| ["202 REFER", "503 REFER"].map(|what| got(lab, ALICE, what));
    assert_eq!(taken(&lab), [9, 11], "one is told, and eight wait");
    let mut told = 0;
    while lab.got(ALICE, "NOTIFY") {
        assert!(notified(&mut lab, ALICE).starts_with("SIP/2.0 403"));
        told += 1;
    }
    assert_eq!(told, 9);
    refer(&mut lab, ALICE, &ok, 110, &to, "");
    assert_eq!(taken(&lab), [10, 11]);
    lab.handle(Input::HangUpAll);
    lab.expect_idle();
}

#[test]
fn of_the_answers_to_one_invite_sixteen_are_taken() {
    let mut lab = Lab::with_phones();
    let (_, invite) = lab.talk("+12065550123");
    (0..1_000).for_each(|n| lab.reply_as(T1, &invite, 200, "", &format!("f{n}")));
    assert_eq!([got(&lab, T1, "BYE"), got(&lab, T1, "ACK")], [15, 15], "one was taken already");
    while lab.got(T1, "BYE") {
        let bye = lab.take(T1, "BYE");
        lab.reply(T1, &bye, 200, "");
    }
    lab.gateway_hangs_up();
}

#[test]
fn what_waits_for_a_user_is_told_at_a_pace() {
    let mut lab = Lab::with_phones();
    let mut says = |number: &str| {
        let (to, event) = (format!("sip:{number}@127.0.0.1"), "Event: message-summary\r\n");
        let text = lab.request(T1, "NOTIFY", &to, event, "Messages-Waiting: yes\r\n");
        lab.says(T1, &text.replace("application/sdp", "application/simple-message-summary"));
        lab.inbox.pop_back().expect("an answer").1.status()
    };
    let taken = (0..200).filter(|_| says("+12065550111") == 200).count();
    assert_eq!(taken, 60);
    assert_eq!(says("+12065550111"), 503);
    assert_eq!(says("+12065550112"), 200, "bob's");
}
