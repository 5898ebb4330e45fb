//! Texts, and every other method that might reach somebody: the rules of calls hold for them.

use crate::lab::*;
use crate::out_of_dialog::text;
use std::time::Duration;
use webtrunk::sip::HeaderName;

/// Everybody may dial 201, which is bob; carol may dial nothing else.
const CAROL: Peer = Peer::Browser("carol", 3);
const ROUTES: &str = r#"
[[route]]
name = "Bob, elsewhere"
match = "202"
do = [{ goto = "incoming" }]
[[route]]
name = "Nobody's"
match = "203"
do = [{ hangup = 603 }]
[[route]]
name = "Asked first"
match = "204"
do = [{ webhook = "https://shop.example/route", secret = "0123456789abcdef" }, { ring = ["user:bob"] }]
[[route]]
name = "Many"
match = "206"
do = [{ ring = ["user:bob", "user:dave"] }]
[[route]]
name = "Round"
match = "801"
do = [{ goto = "incoming" }]
[[route]]
name = "Alice is not there, then bob"
match = "205"
do = [{ ring = ["user:dave"] }, { ring = ["user:bob"], on = ["busy"] }, { ring = ["user:bob"], on = ["unregistered"] }]
"#;

fn lab() -> Lab {
    let users = "[user.carol]\npassword = \"secret-c\"\ncontext = \"phones\"\ncallees = [\"9196\"]\n\
                 [user.dave]\npassword = \"secret-d\"\ncontext = \"phones\"\n[trunk.t1]";
    let mut lab = Lab::changed(&[("[trunk.t1]", users)], ROUTES);
    lab.log_in(CAROL, "secret-c", "uuid-c");
    lab.inbox.clear();
    lab
}

#[test]
fn a_text_goes_where_a_call_would_and_no_further() {
    let mut lab = lab();
    for (from, number, status) in [
        // A name that no route has is nobody, though a user is called so.
        (ALICE, "bob", "404"),
        // Neither a user whose account names whom it may call, nor a trunk's number by it.
        (CAROL, "201", "403"),
        (CAROL, "+12065550123", "403"),
        (ALICE, "203", "603"),
        // A web application would decide: it is not asked for a text.
        (ALICE, "204", "405"),
        (ALICE, "9196", "405"),
        (ALICE, "+19005550123", "403"),
        // Dialled by nobody: the trunk's calls do not go there.
        (ALICE, "202", "404"),
        (ALICE, "801", "482"),
    ] {
        text(&mut lab, from, &format!("sip:{number}@wt.test"), "", "x");
        lab.take(from, status);
        assert!(!lab.got(BOB, "MESSAGE") && !lab.got(T1, "MESSAGE"), "{number}");
    }
    for number in ["201", "205"] {
        text(&mut lab, ALICE, &format!("sip:{number}@wt.test"), "", "x");
        let copy = lab.take(BOB, "MESSAGE");
        lab.reply(BOB, &copy, 200, "");
        lab.take(ALICE, "200");
    }
    lab.expect_idle();
}

#[test]
fn a_text_goes_to_ten_phones_at_most() {
    let mut lab = lab();
    let phones: Vec<Peer> =
        (0..12).map(|n| Peer::Browser(if n % 2 == 0 { "bob" } else { "dave" }, 20 + n)).collect();
    for (n, phone) in phones.iter().enumerate() {
        let secret = if n % 2 == 0 { "secret-b" } else { "secret-d" };
        lab.log_in(*phone, secret, &format!("uuid-{n}"));
    }
    lab.inbox.clear();
    text(&mut lab, ALICE, "sip:206@wt.test", "", "x");
    let copies = lab.inbox.iter().filter(|(_, m)| m.is_request()).count();
    assert_eq!(copies, 10);
    lab.advance(Duration::from_secs(40));
    lab.take(ALICE, "480");
}

#[test]
fn texts_have_a_pace_per_user_and_per_source() {
    let mut lab = Lab::changed(
        &[("[limits]", "[limits]\ntexts_per_minute = 3\ntexts_per_minute_of_source = 5")],
        "",
    );
    let send = |lab: &mut Lab, from: Peer, to: Peer, number: &str| {
        text(lab, from, &format!("sip:{number}@wt.test"), "", "x");
        if !lab.got(to, "MESSAGE") {
            let refused = lab.take(from, "503");
            assert!(refused.header(HeaderName::RetryAfter).is_some());
            return false;
        }
        let copy = lab.take(to, "MESSAGE");
        lab.reply(to, &copy, 200, "");
        lab.take(from, "200");
        true
    };
    assert!((0..3).all(|_| send(&mut lab, ALICE, BOB, "201")));
    assert!(!send(&mut lab, ALICE, BOB, "201"), "the fourth of hers");
    // Bob is at the same address.
    assert!((0..2).all(|_| send(&mut lab, BOB, BOB, "201")));
    assert!(!send(&mut lab, BOB, BOB, "201"), "the sixth of the address");
    lab.advance(Duration::from_secs(61));
    lab.inbox.clear();
    assert!(send(&mut lab, ALICE, BOB, "201"), "a minute later");
    // Within a call it is the same pace.
    lab.invite(ALICE, "201", OFFER);
    let invite = lab.take(BOB, "INVITE");
    lab.reply_with(BOB, &invite, 200, ANSWER, "peer", "Allow: INVITE, ACK, BYE, MESSAGE\r\n");
    let ok = lab.take(ALICE, "200");
    lab.ack(ALICE, &ok);
    for (n, status) in ["202", "202", "503"].iter().enumerate() {
        let message = lab.in_dialog(ALICE, &ok, "MESSAGE", 90 + n as u32, "", "hi");
        lab.says(ALICE, &message.replace("application/sdp", "text/plain"));
        lab.take(ALICE, status);
    }
    assert!(lab.got(BOB, "MESSAGE"));
    let bye = lab.in_dialog(ALICE, &ok, "BYE", 99, "", "");
    lab.says(ALICE, &bye);
    lab.expect_idle();
}

#[test]
fn ten_thousand_long_texts_leave_twenty_on_their_way() {
    let mut lab = Lab::changed(
        &[("[limits]", "[limits]\ntexts_per_minute = 100000\ntexts_per_minute_of_source = 100000")],
        "",
    );
    let long = "x".repeat(7_900);
    text(&mut lab, ALICE, "sip:201@wt.test", "", &"x".repeat(8_001));
    lab.take(ALICE, "513");
    let mut on_their_way = 0;
    for _ in 0..2_000 {
        text(&mut lab, ALICE, "sip:201@wt.test", "", &long);
        on_their_way += usize::from(lab.got(BOB, "MESSAGE"));
        lab.inbox.clear();
    }
    assert_eq!(on_their_way, 20, "bob answers none of them");
    lab.advance(Duration::from_secs(40));
    lab.inbox.clear();
    text(&mut lab, ALICE, "sip:201@wt.test", "", "again");
    assert!(lab.got(BOB, "MESSAGE"), "once they have ended, others go");
    let copy = lab.take(BOB, "MESSAGE");
    lab.reply(BOB, &copy, 200, "");
    lab.take(ALICE, "200");
    lab.expect_idle();
}

#[test]
fn no_other_method_reaches_whom_a_call_would_not() {
    let mut lab = lab();
    for (method, extra, status) in [
        ("OPTIONS", "", "200"),
        ("SUBSCRIBE", "Event: reg\r\n", "403"),
        ("SUBSCRIBE", "Event: presence\r\n", "489"),
        ("NOTIFY", "Event: reg\r\nSubscription-State: active\r\n", "481"),
        ("INFO", "", "481"),
        ("UPDATE", "", "481"),
        ("PRACK", "RAck: 1 1 INVITE\r\n", "481"),
        ("BYE", "", "481"),
        ("REFER", "Refer-To: <sip:bob@wt.test>\r\n", "403"),
        ("PUBLISH", "Event: presence\r\n", "489"),
        ("INVITE", "", "403"),
        ("MESSAGE", "", "403"),
    ] {
        for uri in ["sip:201@wt.test", "sip:bob@wt.test"] {
            let text = lab.request(CAROL, method, uri, extra, "");
            lab.says(CAROL, &text);
            lab.take(CAROL, status);
            let reached = lab.inbox.iter().find(|(_, message)| message.is_request());
            assert!(reached.is_none(), "{method} {uri}: {reached:?}");
        }
    }
    lab.expect_idle();
}

/// A body that is passed on says how it is to be read, as it came.
#[test]
fn a_text_crosses_with_its_type_and_its_encoding() {
    let usual = "Content-Type: text/plain\r\n";
    for (kind, shown, encoding) in [
        (usual, "text/plain", None),
        ("", "text/plain", None),
        (
            "Content-Type: application/im-iscomposing+xml\r\n",
            "application/im-iscomposing+xml",
            None,
        ),
        (
            "c: text/html;charset=\"UTF-8\"\r\ne: gzip\r\n",
            "text/html;charset=\"UTF-8\"",
            Some("gzip"),
        ),
        (
            "Content-Type: text/plain\r\nContent-Encoding: gzip, Identity, br\r\n",
            "text/plain",
            Some("gzip, br"),
        ),
        ("Content-Type: text/plain\r\nContent-Encoding: ;x\r\n", "text/plain", None),
    ] {
        let within = |text: String| text.replacen("Content-Type: application/sdp\r\n", kind, 1);
        let is_so = |copy: &webtrunk::sip::Message, place: &str| {
            assert_eq!(copy.header(HeaderName::ContentType), Some(shown), "{place} {kind}");
            assert_eq!(copy.header(HeaderName::ContentEncoding), encoding, "{place} {kind}");
            assert_eq!(copy.body(), b"x", "{place} {kind}");
        };
        let mut lab = lab();
        let text = lab.request(ALICE, "MESSAGE", "sip:201@wt.test", "", "x");
        lab.says(ALICE, &within(text));
        let copy = lab.take(BOB, "MESSAGE");
        is_so(&copy, "outside");
        lab.reply(BOB, &copy, 200, "");
        lab.invite(ALICE, "201", OFFER);
        let invite = lab.take(BOB, "INVITE");
        lab.reply_with(BOB, &invite, 200, ANSWER, "peer", "Allow: INVITE, MESSAGE\r\n");
        let ok = lab.take(ALICE, "200 INVITE");
        lab.ack(ALICE, &ok);
        let text = lab.in_dialog(ALICE, &ok, "MESSAGE", 90, "", "x");
        lab.says(ALICE, &within(text));
        let copy = lab.take(BOB, "MESSAGE");
        is_so(&copy, "within");
    }
}
