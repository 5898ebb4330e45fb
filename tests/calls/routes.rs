//! What a dialplan can say of a route besides its pattern: where the number lies, when, how often,
//! and go there.

use crate::lab::*;
use webtrunk::errors::Code;
use webtrunk::event::Event;

const ROUTES: &str = r#"
hours.day = { tz = "UTC", open = ["daily 00:00-23:00"] }
[[route]]
name = "By day"
match = "700"
when = "day"
do = [{ hangup = 486 }]
[[route]]
name = "By night"
match = "700"
do = [{ hangup = 603 }]
[[route]]
name = "To its owner"
match = "+12065550112"
do = [{ goto = "incoming" }]
[[route]]
name = "US alone"
match = "+1NXXNXXXXXX"
region = ["US"]
limit = { per_user_per_hour = 2 }
tags = { cost = "low" }
do = [{ dial = ["trunk:t2"] }]
[[route]]
name = "On"
match = "800"
do = [{ goto = "incoming" }]
[[route]]
name = "Round"
match = "801"
do = [{ goto = "incoming" }]
"#;

/// 22:13:20 on 14 November 2023 is where the lab's clock stands.
fn lab() -> Lab {
    Lab::changed(&[], ROUTES)
}

#[test]
fn a_number_in_another_country_is_refused_with_an_explanation() {
    // Another route may still take it.
    lab().plays("0.0s alice calls +18765550123 at t1");
    let mut strict = Lab::with_plans(&[], ROUTES);
    strict.plays(
        "0.0s alice → INVITE +18765550123 sdp
         0.0s alice ← 403 INVITE",
    );
    let refused = strict.last(ALICE, "403");
    let why = refused.header(webtrunk::sip::HeaderName::Reason).expect("a reason");
    assert!(
        why.contains("+18765550123 may not be called: it lies in JM, and region allows US"),
        "{why}"
    );
    strict.plays("0.0s alice calls +12065550123 at t2");
}

const DEAR: &str = r#"
country = "US"
[[route]]
name = "Hotline"
match = "+19005550123"
allow = ["premium"]
do = [{ dial = ["trunk:t2"] }]
[[route]]
name = "World"
match = "+ZX."
do = [{ dial = ["trunk:t1"] }]
[[route]]
name = "Anything"
match = "."
do = [{ dial = ["trunk:t1"] }]
"#;

#[test]
fn a_dear_number_reaches_a_trunk_only_where_a_route_allows_it() {
    let mut lab = Lab::with_plans(&[], DEAR);
    for number in [
        "1-900-555-0199",
        "+19005550199",
        "011-979-1234-56789",
        "+447012345678",
        "+881612345678",
        "+448451234567",
        "1900555019999",
        "0019005550199",
    ] {
        lab.plays(&format!(
            "0.0s alice → INVITE {number} sdp
             0.0s alice ← 403 INVITE"
        ));
        assert!(lab.notes.iter().any(|n| n.code() == Code::DEAR), "{number}");
        lab.clear();
    }
    lab.plays(
        "0.0s alice calls +19005550123 at t2    // the route allows it
         0.0s alice calls +12065550123 at t1    // like any other",
    );
}

#[test]
fn hours_follow_the_clock() {
    let mut lab = lab();
    lab.plays(
        "0.0s alice → INVITE 700 sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 486 INVITE
         3600.0s alice → INVITE 700 sdp
         3600.0s alice ← 100 INVITE
         3600.0s alice ← 603 INVITE",
    );
}

#[test]
fn a_route_brakes_what_one_user_spends_in_an_hour() {
    let mut lab = lab();
    lab.plays(
        "0.0s alice calls +12065550123 at t2
         0.0s t2 refuses alice with 486
         40.0s alice calls +12065550123 at t2
         40.0s t2 refuses alice with 486
         80.0s alice → INVITE +12065550123 sdp    // the third within the hour
         80.0s alice ← 503 INVITE
         80.0s bob calls +12065550123 at t2       // bob has his own
         80.0s t2 refuses bob with 486
         3680.0s alice calls +12065550123 at t2   // an hour later",
    );
    assert_eq!(lab.ended()[0].tags["cost"], "low");
    let refused = lab.last(ALICE, "503");
    assert!(refused.header(webtrunk::sip::HeaderName::RetryAfter).is_some());
    assert!(lab.notes.iter().any(
        |n| matches!(n, Event::CallRefused { why, .. } if why.contains("2 calls of this hour"))
    ));
}

#[test]
fn goto_continues_in_another_dialplan_and_never_in_a_circle() {
    lab().plays(
        "0.0s alice calls +12065550112 at bob    // the owner of the number rings
         0.0s alice → INVITE 801 sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 482 INVITE
         0.0s alice → INVITE 800 sdp
         0.0s alice ← 100 INVITE
         0.0s alice ← 404 INVITE",
    );
}

const ASKED: &str = r#"
[[route]]
name = "Ask the shop"
match = "sales"
do = [{ webhook = "https://shop.example/route", secret = "0123456789abcdef" }, { hangup = 503 }]
"#;

/// Gives the newest question this answer, as the shell would.
fn answers(lab: &mut Lab, text: Result<&str, &str>) {
    let (call, _) = lab.routes_asked.pop().expect("it was asked");
    let config = lab.gateway.config().clone();
    let answer = text
        .map_err(str::to_owned)
        .and_then(|t| webtrunk::config::check::steps_of(t, &config))
        .map(Box::new);
    lab.handle(webtrunk::gateway::Input::Routed { call, answer });
}

#[test]
fn a_web_application_decides_and_its_answer_is_checked_like_a_dialplan() {
    let mut lab = Lab::changed(&[], ASKED);
    lab.plays(
        "0.0s alice → INVITE sales sdp
         0.0s alice ← 100 INVITE",
    );
    let asked: serde_json::Value = serde_json::from_str(&lab.routes_asked[0].1).expect("JSON");
    assert_eq!(
        (
            asked["type"].as_str(),
            asked["data"]["number"].as_str(),
            asked["data"]["from"]["user"].as_str()
        ),
        (Some("call.route"), Some("sales"), Some("alice"))
    );
    answers(
        &mut lab,
        Ok(
            r#"{ "do": [ { "ring": ["user:bob"], "timeout": "20s" } ], "tags": { "cart": "A-1042" } }"#,
        ),
    );
    lab.plays(
        "0.0s bob ← INVITE sdp
         0.0s bob refuses alice with 486",
    );
    assert_eq!(lab.ended()[0].tags["cart"], "A-1042");
    lab.expect_idle();
}

#[test]
fn an_answer_that_is_late_missing_or_wrong_leaves_the_call_to_the_next_step() {
    for (answer, why) in [
        (Err("no answer in time"), "no answer in time"),
        (Ok("<html>"), "not JSON"),
        (Ok("[]"), "not a JSON object"),
        (Ok("{}"), "missing field `do`"),
        (Ok(r#"{ "do": [{ "dial": ["trunk:nowhere"] }] }"#), "names a trunk that does not exist"),
        (Ok(r#"{ "do": [{ "ring": ["user:bob"], "wait": 5 }] }"#), "unknown key `wait`"),
        (Ok(r#"{ "do": [{ "play": "/etc/passwd" }] }"#), "plays a file"),
        (
            Ok(
                r#"{ "do": [{ "webhook": "https://evil.example", "secret": { "file": "/etc/shadow" } }] }"#,
            ),
            "another webhook",
        ),
        (Ok(r#"{ "do": [{ "goto": "nowhere" }] }"#), "no dialplan context"),
    ] {
        let mut lab = Lab::changed(&[], ASKED);
        lab.plays(
            "0.0s alice → INVITE sales sdp
             0.0s alice ← 100 INVITE",
        );
        answers(&mut lab, answer);
        lab.plays("0.0s alice ← 503 INVITE");
        let reported = lab.notes.iter().any(
            |n| matches!(n, Event::WebhookFailed { why: reported, .. } if reported.contains(why)),
        );
        assert!(reported, "{why}: {:?}", lab.notes);
        lab.expect_idle();
    }
}

#[test]
fn a_caller_who_hangs_up_during_a_webhook_is_gone_when_it_answers() {
    let mut lab = Lab::changed(&[], ASKED);
    lab.plays(
        "0.0s alice → INVITE sales sdp
         0.0s alice ← 100 INVITE
         0.0s alice → CANCEL
         0.0s alice ← 200 CANCEL
         0.0s alice ← 487 INVITE",
    );
    answers(&mut lab, Ok(r#"{ "do": [ { "ring": ["user:bob"] } ] }"#));
    lab.expect_idle();
}
