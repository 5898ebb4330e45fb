//! Requests outside calls: texts, subscriptions, GRUUs, Path.

use crate::lab::*;
use std::time::Duration;
use webtrunk::gateway::Input;
use webtrunk::sip::transaction::Flow;
use webtrunk::sip::{HeaderName, Message};

pub(crate) fn text(lab: &mut Lab, from: Peer, uri: &str, extra: &str, body: &str) {
    let text =
        lab.request(from, "MESSAGE", uri, extra, body).replace("application/sdp", "text/plain");
    lab.says(from, &text);
}

#[test]
fn a_text_reaches_every_phone_of_a_user_and_the_first_success_is_returned() {
    let mut lab = Lab::with_phones();
    let second = Peer::Browser("bob", 5);
    lab.log_in(second, "secret-b", "uuid-b2");
    text(&mut lab, ALICE, "sip:201@wt.test", "X-Evil: 1\r\n", "hello");
    let one = lab.last(BOB, "MESSAGE");
    assert_eq!(
        (one.body(), one.from().unwrap().uri.user, one.header(HeaderName::ContentType)),
        (b"hello".as_slice(), Some("alice"), Some("text/plain"))
    );
    assert!(!one.headers().any(|(_, n, _)| n.starts_with("X-")));
    lab.plays(
        "0.0s alice → MESSAGE
         0.0s bob ← MESSAGE
         0.0s bob-5 ← MESSAGE
         0.0s bob → 480 MESSAGE
         0.0s bob-5 → 200 MESSAGE
         0.0s alice ← 200 MESSAGE",
    );
    lab.expect_idle();
}

#[test]
fn a_text_nobody_takes_is_refused_and_one_to_a_trunk_needs_its_leave() {
    let mut lab = Lab::with_phones();
    text(&mut lab, ALICE, "sip:201@wt.test", "", "hello");
    lab.plays(
        "0.0s alice → MESSAGE
         0.0s bob ← MESSAGE
         0.0s bob → 415 MESSAGE
         0.0s alice ← 415 MESSAGE",
    );
    text(&mut lab, ALICE, "sip:201@wt.test", "", "hello");
    lab.plays(
        "0.0s alice → MESSAGE
         0.0s bob ← MESSAGE
         32.0s alice ← 480 MESSAGE
         33.0s",
    );
    text(&mut lab, ALICE, "sip:nobody@wt.test", "", "x");
    lab.plays(
        "33.0s alice → MESSAGE
         33.0s alice ← 404 MESSAGE",
    );
    text(&mut lab, ALICE, "sip:+12065550123@wt.test", "", "x");
    lab.plays(
        "33.0s alice → MESSAGE
         33.0s alice ← 405 MESSAGE",
    );
    text(&mut lab, T1, "sip:+12065550111@127.0.0.1", "", "x");
    lab.plays(
        "33.0s t1 → MESSAGE
         33.0s t1 ← 405 MESSAGE",
    );
    lab.handle(Input::FlowClosed { flow: Flow(2) });
    text(&mut lab, ALICE, "sip:201@wt.test", "", "x");
    lab.plays(
        "33.0s alice → MESSAGE
         33.0s alice ← 480 MESSAGE",
    );
    lab.expect_idle();
    let mut lab =
        Lab::changed(&[("realm = \"carrier\"", "realm = \"carrier\"\nmessages = true")], "");
    text(&mut lab, ALICE, "sip:+12065550123@wt.test", "", "x");
    lab.plays(
        "0.0s alice → MESSAGE
         0.0s t1 ← MESSAGE
         0.0s t1 → 202 MESSAGE
         0.0s alice ← 200 MESSAGE",
    );
    let out = lab.last(T1, "MESSAGE");
    assert_eq!(
        (out.request_uri(), out.from().unwrap().uri.user),
        ("sip:+12065550123@127.0.0.10", Some("+12065550111"))
    );
    text(&mut lab, T1, "sip:+12065550111@127.0.0.1", "", "back");
    lab.plays(
        "0.0s t1 → MESSAGE
         0.0s alice ← MESSAGE
         0.0s alice → 200 MESSAGE
         0.0s t1 ← 200 MESSAGE",
    );
    let back = lab.last(ALICE, "MESSAGE");
    assert_eq!(
        (back.body(), back.from().unwrap().uri.user),
        (b"back".as_slice(), Some("+4930123456"))
    );
    text(&mut lab, ALICE, "sip:+12065550123@wt.test", "", &"x".repeat(1_400));
    lab.plays(
        "0.0s alice → MESSAGE
         0.0s alice ← 513 MESSAGE",
    );
    lab.expect_idle();
}

#[test]
fn a_text_within_a_call_reaches_the_other_side() {
    let mut lab = Lab::with_phones();
    lab.plays("0.0s alice calls 201 at bob");
    let invite = lab.last(BOB, "INVITE");
    lab.reply_with(BOB, &invite, 200, ANSWER, "peer", "Allow: INVITE, ACK, BYE, MESSAGE\r\n");
    lab.plays("0.0s bob answers alice");
    let ok = lab.last(ALICE, "200 INVITE");
    let message =
        lab.in_dialog(ALICE, &ok, "MESSAGE", 90, "", "hi").replace("application/sdp", "text/plain");
    lab.says(ALICE, &message);
    lab.plays(
        "0.0s alice → MESSAGE
         0.0s alice ← 202 MESSAGE
         0.0s bob ← MESSAGE",
    );
    assert_eq!(lab.take(BOB, "MESSAGE").body(), b"hi");
    lab.plays("0.0s alice hangs up on bob");
    lab.expect_idle();
}

fn subscribe(lab: &mut Lab, peer: Peer, uri: &str, event: &str, expires: u32) {
    let text = lab.request(
        peer,
        "SUBSCRIBE",
        uri,
        &format!("Event: {event}\r\nExpires: {expires}\r\n"),
        "",
    );
    lab.says(peer, &text);
}

fn notified(lab: &mut Lab, peer: Peer) -> (Message, String) {
    let notify = lab.take(peer, "NOTIFY");
    lab.reply(peer, &notify, 200, "");
    let body = String::from_utf8_lossy(notify.body()).into_owned();
    (notify, body)
}

#[test]
fn a_user_watches_its_own_registration() {
    let mut lab = Lab::with_phones();
    subscribe(&mut lab, ALICE, "sip:alice@wt.test", "reg;id=7", 600);
    lab.plays(
        "0.0s alice → SUBSCRIBE
         0.0s alice ← 200 SUBSCRIBE
         0.0s alice ← NOTIFY",
    );
    let ok = lab.last(ALICE, "200");
    assert_eq!(Lab::header(&ok, HeaderName::Expires), "600");
    let (first, body) = notified(&mut lab, ALICE);
    assert_eq!(Lab::header(&first, HeaderName::Event), "reg;id=7");
    assert!(Lab::header(&first, HeaderName::SubscriptionState).starts_with("active;expires="));
    assert!(
        body.contains("version=\"0\"")
            && body.contains("state=\"active\"")
            && body.contains("sip:alice@x.invalid"),
        "{body}"
    );
    let second = Peer::Browser("alice", 9);
    lab.log_in(second, "secret-a", "uuid-a2");
    let (_, body) = notified(&mut lab, ALICE);
    assert!(body.contains("version=\"1\"") && body.matches("<contact ").count() == 2, "{body}");
    // Refreshed, then ended.
    let again =
        lab.in_dialog_with(ALICE, &ok, "SUBSCRIBE", 90, "Event: reg;id=7\r\nExpires: 100\r\n", "");
    lab.says(ALICE, &again);
    lab.plays(
        "0.0s alice → 200 NOTIFY
         0.0s alice ← NOTIFY
         0.0s alice → 200 NOTIFY
         0.0s alice → SUBSCRIBE
         0.0s alice ← 200 SUBSCRIBE
         0.0s alice ← NOTIFY",
    );
    notified(&mut lab, ALICE);
    let stale =
        lab.in_dialog_with(ALICE, &ok, "SUBSCRIBE", 50, "Event: reg;id=7\r\nExpires: 100\r\n", "");
    lab.says(ALICE, &stale);
    lab.plays(
        "0.0s alice → 200 NOTIFY
         0.0s alice → SUBSCRIBE
         0.0s alice ← 500 SUBSCRIBE
         100.0s alice ← NOTIFY
         101.0s",
    );
    let (last, _) = notified(&mut lab, ALICE);
    assert!(
        Lab::header(&last, HeaderName::SubscriptionState).starts_with("terminated;reason=timeout")
    );
    assert_eq!(lab.gateway.gauges().subscriptions, 0);
    lab.plays("101.0s alice → 200 NOTIFY");
    lab.expect_idle();
}

#[test]
fn a_fetch_a_dead_watcher_and_a_lost_flow_leave_no_subscription() {
    let mut lab = Lab::with_phones();
    subscribe(&mut lab, ALICE, "sip:alice@wt.test", "reg", 0);
    lab.take(ALICE, "200");
    assert!(
        Lab::header(&notified(&mut lab, ALICE).0, HeaderName::SubscriptionState)
            .starts_with("terminated")
    );
    for end in ["481", "silence", "closed"] {
        subscribe(&mut lab, ALICE, "sip:alice@wt.test", "reg", 600);
        lab.take(ALICE, "200");
        let notify = lab.take(ALICE, "NOTIFY");
        assert_eq!(lab.gateway.gauges().subscriptions, 1);
        match end {
            "481" => lab.reply(ALICE, &notify, 481, ""),
            "silence" => lab.advance(Duration::from_secs(33)),
            _ => lab.handle(Input::FlowClosed { flow: Flow(1) }),
        }
        assert_eq!(lab.gateway.gauges().subscriptions, 0, "{end}");
    }
    lab.expect_idle();
}

#[test]
fn a_subscription_that_cannot_be_served_says_why() {
    let mut lab = Lab::with_phones();
    for (uri, event, expires, status) in [
        ("sip:alice@wt.test", "presence", 600, "489"),
        ("sip:201@wt.test", "reg", 600, "403"),
        ("sip:alice@wt.test", "reg", 5, "423"),
    ] {
        subscribe(&mut lab, ALICE, uri, event, expires);
        let refused = lab.take(ALICE, status);
        assert_eq!(refused.header(HeaderName::Allowed).is_some(), status == "489");
    }
    for _ in 0..21 {
        subscribe(&mut lab, ALICE, "sip:alice@wt.test", "message-summary", 600);
    }
    lab.take(ALICE, "403");
    assert_eq!(lab.gateway.gauges().subscriptions, 20);
}

#[test]
fn waiting_messages_from_the_pbx_reach_their_subscribers() {
    let mut lab = Lab::with_phones();
    subscribe(&mut lab, ALICE, "sip:alice@wt.test", "message-summary", 600);
    lab.plays(
        "0.0s alice → SUBSCRIBE
         0.0s alice ← 200 SUBSCRIBE
         0.0s alice ← NOTIFY",
    );
    assert!(notified(&mut lab, ALICE).1.starts_with("Messages-Waiting: no"));
    let mwi = lab.request(
        T1,
        "NOTIFY",
        "sip:+12065550111@127.0.0.1",
        "Event: message-summary\r\nSubscription-State: active\r\n",
        "Messages-Waiting: yes\r\nVoice-Message: 2/0\r\n",
    );
    lab.says(T1, &mwi.replace("application/sdp", "application/simple-message-summary"));
    lab.plays(
        "0.0s alice → 200 NOTIFY
         0.0s t1 → NOTIFY
         0.0s t1 ← 200 NOTIFY
         0.0s alice ← NOTIFY",
    );
    let (notify, body) = notified(&mut lab, ALICE);
    assert!(body.contains("Voice-Message: 2/0"), "{body}");
    assert_eq!(Lab::header(&notify, HeaderName::ContentType), "application/simple-message-summary");
    let unknown = lab
        .request(T1, "NOTIFY", "sip:+99@127.0.0.1", "Event: message-summary\r\n", "x")
        .replace("application/sdp", "application/simple-message-summary");
    lab.says(T1, &unknown);
    lab.plays(
        "0.0s alice → 200 NOTIFY
         0.0s t1 → NOTIFY
         0.0s t1 ← 404 NOTIFY",
    );
    let other = lab.request(T1, "NOTIFY", "sip:+12065550111@127.0.0.1", "Event: dialog\r\n", "x");
    lab.says(T1, &other);
    lab.plays(
        "0.0s t1 → NOTIFY sdp
         0.0s t1 ← 489 NOTIFY",
    );
}

fn gruus(ok: &Message, instance: &str) -> (String, String) {
    let contact =
        ok.all(HeaderName::Contact).find(|c| c.contains(instance)).expect("its contact").to_owned();
    let param = |name: &str| {
        contact
            .split(&format!("{name}=\""))
            .nth(1)
            .and_then(|r| r.split('"').next())
            .unwrap_or_else(|| panic!("{contact}"))
            .to_owned()
    };
    (param("pub-gruu"), param("temp-gruu"))
}

fn register_gruu(lab: &mut Lab, peer: Peer, instance: &str) -> Message {
    lab.log_in_with(peer, "secret-b", &format!("Contact: <sip:b@x.invalid;transport=ws>;reg-id=1;+sip.instance=\"<urn:{instance}>\"\r\nSupported: outbound, path, gruu\r\n"))
}

#[test]
fn a_gruu_public_or_temporary_rings_the_one_phone_it_names() {
    let mut lab = Lab::with_phones();
    let phone = Peer::Browser("bob", 5);
    let ok = register_gruu(&mut lab, phone, "uuid-g");
    let (public, temporary) = gruus(&ok, "uuid-g");
    assert_eq!(public, "sip:bob@wt.test;gr=urn:uuid-g");
    assert!(
        temporary.starts_with("sip:tgruu.")
            && temporary.ends_with("@wt.test;gr")
            && !temporary.contains("bob"),
        "{temporary}"
    );
    let route =
        "[[route]]\nname = \"By name\"\nmatch = \"bob\"\ndo = [{ ring = [\"user:bob\"] }]\n";
    let mut lab = Lab::changed(&[], route);
    let ok = register_gruu(&mut lab, phone, "uuid-g");
    let (public, temporary) = gruus(&ok, "uuid-g");
    for gruu in [&public, &temporary] {
        let text = lab.request(ALICE, "INVITE", gruu, "", OFFER);
        lab.says(ALICE, &text);
        lab.take(phone, "INVITE");
        assert!(!lab.got(BOB, "INVITE"), "{gruu}");
        lab.cancel(ALICE, &text);
        lab.advance(Duration::from_secs(40));
    }
    // A new registration brings a new one and leaves the old one valid; the phone's end ends both.
    let again = register_gruu(&mut lab, phone, "uuid-g");
    assert_ne!(gruus(&again, "uuid-g").1, temporary);
    lab.handle(Input::FlowClosed { flow: Flow(5) });
    let text = lab.request(ALICE, "INVITE", &temporary, "", OFFER);
    lab.says(ALICE, &text);
    lab.take(ALICE, "404");
    let text = lab.request(ALICE, "INVITE", &public, "", OFFER);
    lab.says(ALICE, &text);
    lab.take(ALICE, "480");
    lab.expect_idle();
}

#[test]
fn temporary_gruus_are_bounded() {
    let mut lab = Lab::with_phones();
    let phone = Peer::Browser("bob", 5);
    let mut first = String::new();
    for n in 0..70 {
        let ok = register_gruu(&mut lab, phone, "uuid-g");
        if n == 0 {
            first = gruus(&ok, "uuid-g").1;
        }
    }
    let text = lab.request(ALICE, "INVITE", &first, "", OFFER);
    lab.says(ALICE, &text);
    lab.take(ALICE, "404");
}

#[test]
fn a_path_is_kept_echoed_and_used_as_the_route() {
    let mut lab = Lab::with_phones();
    let phone = Peer::Browser("bob", 5);
    let ok = lab.log_in_with(phone, "secret-b", "Contact: <sip:b@x.invalid;transport=ws>\r\nPath: <sip:edge1.example;lr>, <sip:edge2.example;lr;ob>\r\nSupported: path\r\n");
    assert_eq!(
        ok.all(HeaderName::Path).collect::<Vec<_>>(),
        ["<sip:edge1.example;lr>", "<sip:edge2.example;lr;ob>"]
    );
    lab.plays(
        "0.0s alice calls 201 at bob
         0.0s bob-5 ← INVITE sdp
         0.0s bob-5 rings alice
         0.0s alice → CANCEL
         0.0s alice ← 200 CANCEL
         0.0s alice ← 487 INVITE
         0.0s bob-5 ← CANCEL",
    );
    let invite = lab.last(phone, "INVITE");
    assert_eq!(
        invite.all(HeaderName::Route).collect::<Vec<_>>(),
        ["<sip:edge1.example;lr>", "<sip:edge2.example;lr;ob>"]
    );
    assert_eq!(lab.take(phone, "CANCEL").all(HeaderName::Route).count(), 2);
    lab.plays(
        "0.0s bob-5 → 487 INVITE
         0.0s bob-5 ← ACK",
    );
    let bad = lab.request(BOB, "REGISTER", "sip:wt.test", "Path: <broken\r\n", "");
    lab.says(BOB, &bad);
    lab.expect_idle();
}

#[test]
fn subscribers_learn_of_a_registration_that_expires() {
    let mut lab = Lab::with_phones();
    subscribe(&mut lab, ALICE, "sip:alice@wt.test", "reg", 3_600);
    lab.take(ALICE, "200");
    notified(&mut lab, ALICE);
    lab.advance(Duration::from_secs(601));
    assert!(notified(&mut lab, ALICE).1.contains("state=\"terminated\""));
}

#[test]
fn a_browser_that_was_reloaded_leaves_no_ghost_of_its_call() {
    let mut lab = Lab::with_phones();
    lab.talk("+12065550123");
    lab.handle(Input::FlowClosed { flow: Flow(1) });
    let again = Peer::Browser("alice", 7);
    lab.log_in(again, "secret-a", "uuid-a");
    lab.plays(
        "0.0s alice-7 ← OPTIONS
         0.0s alice-7 → 481 OPTIONS
         9.9s    // it may be about to take the call up
         10.0s t1 ← BYE
         10.1s",
    );
    assert_eq!(lab.ended()[0].code, webtrunk::errors::Code::PAGE_LEFT);
    lab.expect_idle();
}

#[test]
fn the_grace_time_is_the_configured_one() {
    let mut lab = Lab::changed(
        &[("tcp = \"127.0.0.1:5060\"", "tcp = \"127.0.0.1:5060\"\nflow_grace = \"5s\"")],
        "",
    );
    lab.talk("+12065550123");
    lab.handle(Input::FlowClosed { flow: Flow(1) });
    lab.plays(
        "4.9s
         5.0s t1 ← BYE
         5.1s",
    );
    lab.expect_idle();
}
