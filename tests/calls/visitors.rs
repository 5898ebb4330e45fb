//! Visitors: credentials with a time in them, and what they let in.

use crate::lab::*;
use crate::recovery::{close, open, prove};
use std::time::Duration;
use webtrunk::event::Event;
use webtrunk::gateway::credential::Credential;
use webtrunk::sip::HeaderName;
use webtrunk::sip::digest::Secret;

const SECRET: &str = "a-secret-of-the-web-application";
const NOW: u64 = 1_700_000_000;

pub(crate) fn lab() -> Lab {
    let routes = "[[route]]\nname = \"Echo for all\"\nmatch = \"9190\"\ndo = [{ echo = true }]\n";
    Lab::changed(
        &[(
            "[limits]",
            &format!("[credentials]\nsecret = \"{SECRET}\"\nlongest = \"1h\"\n[limits]"),
        )],
        routes,
    )
}

fn credential(expires: u64, user: &str, context: Option<&str>) -> (String, String) {
    let credential = Credential { expires, user: user.into(), context: context.map(str::to_owned) };
    (credential.to_string(), credential.password(&Secret::new(SECRET)).reveal().to_owned())
}

/// Name and password of a visitor for ten minutes.
pub(crate) fn for_a_while(user: &str, context: &str) -> (String, String) {
    credential(NOW + 600, user, Some(context))
}

/// REGISTER of `peer` with this name and password; the final status.
pub(crate) fn log_in(lab: &mut Lab, peer: Peer, name: &str, password: &str) -> u16 {
    let Peer::Browser(user, _) = peer else { panic!("a browser") };
    lab.connects(peer);
    let first = lab.register_of(peer, user, "Expires: 600\r\n");
    lab.proves(peer, &first, name, password);
    let (_, response) = lab
        .inbox
        .iter()
        .rev()
        .find(|(hop, m)| *hop == peer.hop() && m.status() >= 200)
        .expect("a final response")
        .clone();
    response.status()
}

const VISITOR: Peer = Peer::Browser("visitor-8c1", 7);

#[test]
fn a_visitor_calls_what_its_dialplan_allows_and_nothing_else() {
    let mut lab = lab();
    let (name, password) = credential(NOW + 600, "visitor-8c1", Some("phones"));
    assert_eq!(log_in(&mut lab, VISITOR, &name, &password), 200);
    let known = lab.gateway.gauges().remembered;
    lab.invite(VISITOR, "9190", OFFER);
    assert_eq!(lab.gateway.gauges().remembered, known, "names of visitors have no end");
    let ok = lab.take(VISITOR, "200 INVITE");
    lab.ack(VISITOR, &ok);
    let refer =
        lab.in_dialog_with(VISITOR, &ok, "REFER", 50, "Refer-To: <sip:+1777@wt.test>\r\n", "");
    lab.says(VISITOR, &refer);
    let refused = lab.inbox.iter().any(|(_, m)| {
        m.status() >= 400 && m.header(HeaderName::CSeq).is_some_and(|c| c.ends_with("REFER"))
    });
    assert!(refused, "a visitor transfers nothing");
    lab.invite(VISITOR, "5555", OFFER);
    lab.take(VISITOR, "404");
    let bye = lab.in_dialog(VISITOR, &ok, "BYE", 90, "", "");
    lab.says(VISITOR, &bye);
    assert_eq!(lab.ended()[0].from.as_caller(), "visitor-8c1");
}

#[test]
fn a_configured_user_may_log_in_with_them_too_and_only_as_itself() {
    let mut lab = lab();
    let (name, password) = credential(NOW + 600, "alice", None);
    assert_eq!(log_in(&mut lab, Peer::Browser("alice", 8), &name, &password), 200);
    assert_eq!(
        log_in(&mut lab, Peer::Browser("bob", 9), &name, &password),
        403,
        "alice's do not make a bob"
    );
    let (nobody, password) = credential(NOW + 600, "nobody", None);
    assert_eq!(
        log_in(&mut lab, Peer::Browser("nobody", 10), &nobody, &password),
        403,
        "a visitor needs a dialplan"
    );
    let (lost, password) = credential(NOW + 600, "visitor-8c1", Some("no-such-plan"));
    assert_eq!(log_in(&mut lab, VISITOR, &lost, &password), 403);
}

#[test]
fn old_long_and_tampered_snapshots_are_refused_for_different_reasons() {
    let mut lab = lab();
    let why = |lab: &Lab| match lab.notes.last() {
        Some(Event::LoginRefused { code, why, .. }) => (code.0, why.clone()),
        other => panic!("{other:?}"),
    };
    let (old, password) = credential(NOW - 10, "alice", None);
    assert_eq!(log_in(&mut lab, Peer::Browser("alice", 20), &old, &password), 403);
    assert!(why(&lab).0 == 1002 && why(&lab).1.contains("expired 1"), "{:?}", why(&lab));
    let (ahead, password) = credential(NOW + 7_200, "alice", None);
    assert_eq!(log_in(&mut lab, Peer::Browser("alice", 21), &ahead, &password), 403);
    assert!(
        why(&lab).0 == 1002 && why(&lab).1.contains("do the clocks differ?"),
        "{:?}",
        why(&lab)
    );
    let (name, password) = credential(NOW + 600, "alice", None);
    let stretched = name.replace(&(NOW + 600).to_string(), &(NOW + 3_000).to_string());
    assert_eq!(log_in(&mut lab, Peer::Browser("alice", 22), &stretched, &password), 403);
    assert_eq!(why(&lab).0, 1001);
    lab.advance(Duration::from_secs(700));
    assert_eq!(
        log_in(&mut lab, Peer::Browser("alice", 23), &name, &password),
        403,
        "its time is over"
    );
    assert_eq!(why(&lab).0, 1002);
}

#[test]
fn without_a_secret_such_names_are_nobody() {
    let mut lab = Lab::with_phones();
    let (name, password) = credential(NOW + 600, "alice", None);
    assert_eq!(log_in(&mut lab, Peer::Browser("alice", 20), &name, &password), 403);
}

const AGAIN: Peer = Peer::Browser("visitor-8c1", 8);

/// A visitor's call to the trunk, whose WebSocket is gone.
fn lost(lab: &mut Lab, (name, password): &(String, String)) -> webtrunk::sip::Message {
    assert_eq!(log_in(lab, VISITOR, name, password), 200);
    lab.invite(VISITOR, "+12065550123", OFFER);
    let invite = lab.take(T1, "INVITE");
    lab.reply(T1, &invite, 200, TRUNK_SDP);
    let ok = lab.take(VISITOR, "200 INVITE");
    lab.ack(VISITOR, &ok);
    lab.take(T1, "ACK");
    close(lab, VISITOR);
    ok
}

#[test]
fn a_visitor_resumes_its_call_with_its_credential_or_a_newer_one() {
    for expires in [NOW + 600, NOW + 900] {
        let mut lab = lab();
        let ok = lost(&mut lab, &credential(NOW + 600, "visitor-8c1", Some("phones")));
        lab.advance(Duration::from_secs(5));
        open(&mut lab, AGAIN);
        let (name, password) = credential(expires, "visitor-8c1", Some("phones"));
        let contact = "Contact: <sip:v@y.invalid;transport=ws>\r\n";
        let text = lab.in_dialog_with(AGAIN, &ok, "INVITE", 700, contact, OFFER);
        let answer = prove(&mut lab, AGAIN, &text, (&name, &password));
        assert_eq!(answer.status(), 200, "{}", lab.picture());
        lab.ack(AGAIN, &answer);
        lab.advance(Duration::from_secs(60));
        assert_eq!(lab.gateway.gauges().calls, 1, "the grace timer was stopped");
        let bye = lab.in_dialog(AGAIN, &answer, "BYE", 710, "", "");
        lab.says(AGAIN, &bye);
        let bye = lab.take(T1, "BYE");
        lab.reply(T1, &bye, 200, "");
        lab.expect_idle();
    }
}

/// Credentials give a name to whom the web application pleases, also to two.
#[test]
fn another_visitor_of_the_same_name_takes_no_call_up() {
    let mine = credential(NOW + 600, "visitor-8c1", Some("phones"));
    for (theirs, status) in [
        // Of another dialplan, and so not the same.
        (credential(NOW + 600, "visitor-8c1", Some("incoming")), 481),
        // Of a name that is configured, of another name, and of no time.
        (credential(NOW + 600, "alice", None), 403),
        (credential(NOW + 600, "visitor-9d2", Some("phones")), 403),
        (credential(NOW - 10, "visitor-8c1", Some("phones")), 403),
    ] {
        let mut lab = lab();
        let ok = lost(&mut lab, &mine);
        open(&mut lab, AGAIN);
        let bye = lab.in_dialog(AGAIN, &ok, "BYE", 700, "", "");
        let answer = prove(&mut lab, AGAIN, &bye, (&theirs.0, &theirs.1));
        assert_eq!(answer.status(), status, "{theirs:?}\n{}", lab.picture());
        assert!(!lab.got(T1, "BYE"), "{theirs:?}");
        // Nor by a REGISTER, with the Contact and instance of the first.
        log_in(&mut lab, Peer::Browser("visitor-8c1", 9), &theirs.0, &theirs.1);
        let bye = lab.in_dialog(Peer::Browser("visitor-8c1", 9), &ok, "BYE", 701, "", "");
        lab.says(Peer::Browser("visitor-8c1", 9), &bye);
        assert!(!lab.got(T1, "BYE"), "{theirs:?}");
        assert_eq!(lab.gateway.gauges().calls, 1);
        lab.advance(Duration::from_secs(40));
        let bye = lab.take(T1, "BYE");
        lab.reply(T1, &bye, 200, "");
        lab.expect_idle();
    }
}

/// With these lines in the configuration, and routes that cost something.
fn shop(settings: &str) -> Lab {
    let routes = "[[route]]\nname = \"Echo\"\nmatch = \"9190\"\ndo = [{ echo = true }]\n\
         [[route]]\nname = \"Shop\"\nmatch = \"+4930X.\"\nlimit = { per_user_per_hour = 1 }\n\
         do = [{ dial = [\"trunk:t2\"] }]\n\
         [[route]]\nname = \"World\"\nmatch = \"+4X.\"\ndo = [{ dial = [\"trunk:t2\"] }]\n";
    let credentials = format!("[credentials]\nsecret = \"{SECRET}\"\nlongest = \"1h\"\n");
    Lab::changed(&[("[limits]", &format!("{credentials}{settings}[limits]"))], routes)
}

/// A visitor that nobody has seen before calls a number; whether that goes anywhere.
fn calls_anew(lab: &mut Lab, n: u64, number: &str) -> bool {
    let user: &'static str = String::leak(format!("visitor-{n}"));
    let visitor = Peer::Browser(user, n);
    let (name, password) = for_a_while(user, "phones");
    assert_eq!(log_in(lab, visitor, &name, &password), 200);
    lab.advance(Duration::from_secs(1));
    lab.inbox.clear();
    lab.invite(visitor, number, OFFER);
    if lab.got(T2, "INVITE") {
        let invite = lab.take(T2, "INVITE");
        lab.reply(T2, &invite, 486, "");
        return true;
    }
    if !lab.got(visitor, "200") {
        return false;
    }
    let ok = lab.take(visitor, "200 INVITE");
    lab.ack(visitor, &ok);
    true
}

/// Names cost a visitor nothing: a page hands them out. Those of one network are counted together,
/// however many they are, and leave the rest to others.
#[test]
fn who_takes_one_name_after_the_other_is_one_crowd() {
    let mut lab = shop("[fraud]\ncalls_per_hour = 5\n");
    let reached = (110..130).filter(|n| calls_anew(&mut lab, *n, "+4940123456")).count();
    assert_eq!(reached, 5, "what one user may spend in an hour");
    assert!(calls_anew(&mut lab, 50, "+4940123456"), "from elsewhere");

    let mut lab = shop("");
    let reached = (110..130).filter(|n| calls_anew(&mut lab, *n, "+4930123456")).count();
    assert_eq!(reached, 10, "ten times what the route lets one user do");
    assert!(calls_anew(&mut lab, 50, "+4930123456"), "from elsewhere");

    let mut lab = shop("");
    let reached = (110..140).filter(|n| calls_anew(&mut lab, *n, "9190")).count();
    assert_eq!(reached, 13, "a quarter of limits.calls");
    assert!(calls_anew(&mut lab, 50, "9190"), "from elsewhere");
    assert!(lab.gateway.gauges().indexed > 0);
    lab.gateway_hangs_up();
    lab.expect_idle();
}
