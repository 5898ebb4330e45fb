//! The brake on toll fraud: what the calls of one user to trunks may come to, whatever leads them
//! there.

use crate::lab::*;
use crate::out_of_dialog::text;
use std::time::Duration;
use webtrunk::errors::Code;
use webtrunk::event::Event;

const ROUTES: &str = r#"
[[route]]
name = "The shop"
match = "+33142345678"
do = [{ dial = ["trunk:t2"] }]
[[route]]
name = "Emergency"
match = "911"
ignore_limits = true
do = [{ dial = ["trunk:t2"] }]
[[route]]
name = "World"
match = "+ZX."
do = [{ dial = ["trunk:t2"] }]
"#;

fn lab(fraud: &str) -> Lab {
    Lab::changed(&[("[limits]", &format!("[fraud]\n{fraud}\n[limits]"))], ROUTES)
}

/// A call that reaches the trunk and is busy there; false: it was refused.
fn dial(lab: &mut Lab, from: Peer, number: &str) -> bool {
    lab.inbox.clear();
    lab.advance(Duration::from_secs(1));
    lab.invite(from, number, OFFER);
    if !lab.got(T2, "INVITE") {
        lab.take(from, "403");
        return false;
    }
    let invite = lab.take(T2, "INVITE");
    lab.reply(T2, &invite, 486, "");
    lab.take(from, "486");
    true
}

fn braked_events(lab: &Lab) -> usize {
    lab.notes.iter().filter(|n| matches!(n, Event::FraudBraked { .. })).count()
}

#[test]
fn calls_are_counted_per_hour_and_the_brake_is_reported_once() {
    let mut lab = lab("calls_per_hour = 3");
    assert!((0..3).all(|_| dial(&mut lab, ALICE, "+12065550123")));
    assert!((0..5).all(|_| !dial(&mut lab, ALICE, "+12065550123")));
    assert_eq!(braked_events(&lab), 1);
    let refused = lab.ended().pop().expect("a record").clone();
    assert_eq!(refused.verdict.map(|v| v.code), Some(Code::FRAUD));
    assert!(dial(&mut lab, ALICE, "911"), "an emergency call does not count");
    assert!(dial(&mut lab, BOB, "+12065550123"), "bob has his own");
    lab.advance(Duration::from_secs(3_600));
    assert!(dial(&mut lab, ALICE, "+12065550123"), "an hour later");
    lab.advance(Duration::from_secs(40));
    lab.expect_idle();
}

#[test]
fn minutes_of_an_hour_count_during_a_call_and_after_it() {
    let mut lab = lab("minutes_per_hour = 2");
    lab.plays(
        "0.0s alice calls +12065550123 at t2
         0.0s t2 answers alice
         100.0s",
    );
    assert!(dial(&mut lab, ALICE, "+12065550124"), "less than two minutes so far");
    lab.plays(
        "101.0s alice calls +12065550124 at t2
         101.0s t2 refuses alice with 486
         131.0s",
    );
    assert!(!dial(&mut lab, ALICE, "+12065550124"), "the call is still active");
    lab.plays(
        "132.0s alice → INVITE +12065550124 sdp
         132.0s alice ← 100 INVITE
         132.0s alice ← 403 INVITE
         132.0s alice hangs up on t2",
    );
    assert!(!dial(&mut lab, ALICE, "+12065550124"), "it has ended");
    lab.plays(
        "133.0s alice → INVITE +12065550124 sdp
         133.0s alice ← 100 INVITE
         133.0s alice ← 403 INVITE
         3733.0s",
    );
    assert!(dial(&mut lab, ALICE, "+12065550124"), "an hour later");
    lab.plays(
        "3734.0s alice calls +12065550124 at t2
         3734.0s t2 refuses alice with 486
         3774.0s",
    );
    lab.expect_idle();
}

#[test]
fn countries_abroad_are_counted_and_home_is_none() {
    let mut lab = lab("countries_per_hour = 2\nhome = [\"FR\"]");
    assert!(dial(&mut lab, ALICE, "+4930123456") && dial(&mut lab, ALICE, "+442079460018"));
    assert!(!dial(&mut lab, ALICE, "+34912345678"), "the third");
    assert!(dial(&mut lab, ALICE, "+4930123456"), "one of the two");
    assert!(dial(&mut lab, ALICE, "+33142345678"), "home by the settings");
    assert!(dial(&mut lab, ALICE, "+12065550123"), "home by her number");
    lab.advance(Duration::from_secs(3_700));
    assert!(dial(&mut lab, ALICE, "+34912345678"), "an hour later");
}

#[test]
fn at_night_only_usual_destinations_are_called() {
    // The lab's clock stands at 22:13 on 14 November 2023.
    let mut lab = lab("hours = { tz = \"UTC\", open = [\"daily 06:00-22:00\"] }");
    assert!(!dial(&mut lab, ALICE, "+4930123456"), "never called before");
    assert!(dial(&mut lab, ALICE, "+12065550123"), "at home");
    lab.advance(Duration::from_secs(12 * 3_600));
    assert!(dial(&mut lab, ALICE, "+4930123456"), "by day");
    lab.advance(Duration::from_secs(12 * 3_600));
    lab.notes.clear();
    assert!(dial(&mut lab, ALICE, "+4930123456"), "as by day");
    assert!(!dial(&mut lab, ALICE, "+442079460018"), "another");
    assert_eq!(braked_events(&lab), 1);
    assert!(!dial(&mut lab, BOB, "+4930123456"), "unusual for bob");
}

#[test]
fn a_number_that_the_dialplan_spells_is_reached_at_night() {
    let mut lab =
        lab("countries_per_hour = 0\nhours = { tz = \"UTC\", open = [\"daily 06:00-22:00\"] }");
    assert!(!dial(&mut lab, BOB, "+33142345679"), "another in its country");
    assert!(dial(&mut lab, BOB, "+33142345678"), "by who has no past");
    assert!(dial(&mut lab, ALICE, "+33142345678"));
    assert!(!dial(&mut lab, BOB, "+33142345679"), "it makes nothing usual");
}

#[test]
fn a_transfer_a_text_and_a_step_after_another_are_braked_too() {
    let config = "calls_per_hour = 1";
    let mut lab = lab(config);
    assert!(dial(&mut lab, ALICE, "+12065550123"));
    lab.clear();
    // After bob is busy the route goes to a trunk, which the brake refuses likewise.
    lab.plays(
        "1.0s alice calls 201 at bob
         1.0s bob answers alice
         1.0s alice → REFER +12065550123
         1.0s alice ← 202 REFER
         1.0s alice ← NOTIFY 100
         1.0s alice → 200 NOTIFY
         1.0s alice ← NOTIFY 403
         1.0s alice → 200 NOTIFY
         1.0s alice → REFER +19005550123
         1.0s alice ← 403 REFER
         1.0s alice hangs up on bob
         1.0s alice calls 200 at bob
         1.0s bob → 480 INVITE
         1.0s bob ← ACK
         1.0s alice ← 403 INVITE
         1.0s alice → ACK",
    );

    let changes = [
        ("[limits]", "[fraud]\ncalls_per_hour = 1\n[limits]"),
        ("[trunk.t2]", "[trunk.t2]\nmessages = true"),
    ];
    let mut lab = Lab::changed(&changes, ROUTES);
    text(&mut lab, ALICE, "sip:+12065550123@wt.test", "", "x");
    let out = lab.take(T2, "MESSAGE");
    lab.reply(T2, &out, 200, "");
    lab.take(ALICE, "200");
    text(&mut lab, ALICE, "sip:+12065550123@wt.test", "", "x");
    lab.take(ALICE, "403");
    assert_eq!(braked_events(&lab), 1);
}

#[test]
fn a_transfer_that_a_trunk_makes_goes_where_the_dialplan_lets_its_user() {
    let mut lab =
        Lab::changed(&[("realm = \"carrier\"", "realm = \"carrier\"\nrefer = \"pass\"")], "");
    let (ok, _) = lab.talk("+12065550123");
    for (n, (number, status)) in
        [("+19005550123", "403"), ("7777", "404"), ("+1777", "202")].iter().enumerate()
    {
        let to = format!("Refer-To: <sip:{number}@wt.test>\r\n");
        let refer = lab.in_dialog_with(ALICE, &ok, "REFER", 90 + n as u32, &to, "");
        lab.says(ALICE, &refer);
        lab.take(ALICE, status);
        assert_eq!(lab.got(T1, "REFER"), *status == "202", "{number}");
    }
}

#[test]
fn an_account_may_be_let_off_the_brake() {
    let changes = [
        ("[limits]", "[fraud]\ncalls_per_hour = 1\n[limits]"),
        ("password = \"secret-a\"", "password = \"secret-a\"\nfraud_brake = false"),
    ];
    let mut lab = Lab::changed(&changes, ROUTES);
    assert!((0..5).all(|_| dial(&mut lab, ALICE, "+12065550123")));
    assert!(dial(&mut lab, BOB, "+12065550123") && !dial(&mut lab, BOB, "+12065550123"));
}

const FORWARDED: &str = r#"
[[route]]
name = "To bob, wherever he is"
match = "+12065550112"
redirect = true
do = [{ ring = ["user:bob"] }]
[[route]]
name = "Costly"
match = "+4930X."
limit = { per_user_per_hour = 1 }
do = [{ dial = ["trunk:t2"] }]
[[route]]
name = "World"
match = "+4X."
do = [{ dial = ["trunk:t2"] }]
"#;

/// A call to bob, whose phone sends it on; whether it reaches the trunk.
fn sent_on(lab: &mut Lab, from: Peer, to: &str) -> bool {
    lab.inbox.clear();
    lab.advance(Duration::from_secs(40));
    lab.inbox.clear();
    lab.invite(from, "+12065550112", if from == T1 { TRUNK_SDP } else { OFFER });
    let ringing = lab.take(BOB, "INVITE");
    lab.reply_with(BOB, &ringing, 302, "", "x", &format!("Contact: <sip:{to}@x>\r\n"));
    let reaches = lab.got(T2, "INVITE");
    if reaches {
        let invite = lab.take(T2, "INVITE");
        lab.reply(T2, &invite, 486, "");
    }
    reaches
}

#[test]
fn a_redirection_is_braked_as_a_call_of_who_began_it_or_else_sent_it_on() {
    let incoming = ("context = \"incoming\"", "context = \"phones\"");
    // A route's own limit holds for who is led there, too.
    let mut lab = Lab::changed(&[incoming], FORWARDED);
    assert!(sent_on(&mut lab, ALICE, "+4930123456"));
    assert!(!sent_on(&mut lab, ALICE, "+4930123456"), "alice has had hers");
    assert!(sent_on(&mut lab, T1, "+4930123456"));
    assert!(!sent_on(&mut lab, T1, "+4930123456"), "bob's phone has had his");
    assert!(sent_on(&mut lab, T1, "+4940123456"), "another route");
    // A trunk's call is paid for by nobody here; who sends it on pays.
    let limits = ("[limits]", "[fraud]\ncalls_per_hour = 2\n[limits]");
    let mut lab = Lab::changed(&[incoming, limits], FORWARDED);
    assert!(sent_on(&mut lab, T1, "+4940123456") && sent_on(&mut lab, T1, "+4940123457"));
    assert!(!sent_on(&mut lab, T1, "+4940123458"));
    assert_eq!(braked_events(&lab), 1);
    let braked = |n: &Event| matches!(n, Event::FraudBraked { user, .. } if user == "bob");
    assert!(lab.notes.iter().any(braked), "{:?}", lab.notes);
}
