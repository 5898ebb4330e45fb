//! Who writes several names into one request is who it proved to be, and nobody else.

use crate::lab::*;
use crate::visitors;
use webtrunk::gateway::{FlowKind, Input};
use webtrunk::sip::HeaderName;
use webtrunk::sip::transaction::Flow;

/// Credentials of somebody else, as they may stand before those that are sound.
const OTHERS: &[&str] = &[
    "Digest username=\"alice\", realm=\"elsewhere\"",
    "Digest username=\"alice\"",
    "Digest username=\"alice\", realm=\"elsewhere\", nonce=\"n\", uri=\"sip:wt.test\", \
     response=\"00\", qop=auth, nc=00000001, cnonce=\"c\", algorithm=SHA-256",
    "Digest username=\"alice\", realm=\"WT.TEST\"",
    "Digest username=\"alice\", realm=\"wt.test\"",
    "Basic YWxpY2U6c2VjcmV0LWE=",
    "Digest realm=\"elsewhere\", username=\"alice\", username=\"bob\"",
];

fn connect(lab: &mut Lab, flow: u64) {
    let remote = ([127, 0, 0, 20], 40_000).into();
    lab.handle(Input::FlowOpened { flow: Flow(flow), kind: FlowKind::WebSocket, remote });
}

/// A REGISTER for `claimed` on its flow, answered with the password of `who` behind `others`.
fn answer(lab: &mut Lab, peer: Peer, (claimed, who, password): (&str, &str, &str), others: &str) {
    let first = lab.request(peer, "REGISTER", "sip:wt.test", "Expires: 600\r\n", "");
    let first = first.replace("To: <sip:wt.test>", &format!("To: <sip:{claimed}@wt.test>"));
    lab.says(peer, &first);
    let challenge = lab.take(peer, "401");
    let text = lab.answer_challenge(&challenge, &first, who, password);
    lab.says(peer, &text.replacen("Authorization:", &format!("{others}Authorization:"), 1));
}

#[test]
fn a_password_proves_its_own_name_and_none_that_stands_beside_it() {
    for others in OTHERS {
        for times in [1, 3] {
            let lines = format!("Authorization: {others}\r\n").repeat(times);
            let mut lab = Lab::with_phones();
            let thief = Peer::Browser("alice", 9);
            connect(&mut lab, 9);
            answer(&mut lab, thief, ("alice", "bob", "secret-b"), &lines);
            assert!(!lab.got(thief, "200"), "{others}\n{}", lab.picture());
            lab.inbox.clear();
            lab.invite(thief, "+12065550123", OFFER);
            assert!(!lab.got(T1, "INVITE"), "{others}\n{}", lab.picture());
            lab.invite(T1, "+12065550111", TRUNK_SDP);
            assert!(lab.got(ALICE, "INVITE") && !lab.got(thief, "INVITE"), "{others}");
        }
    }
}

#[test]
fn credentials_for_somebody_else_in_front_do_no_harm_to_ones_own() {
    for others in OTHERS.iter().filter(|o| !o.contains("realm=\"wt.test\"")) {
        let mut lab = Lab::with_phones();
        let bob = Peer::Browser("bob", 9);
        connect(&mut lab, 9);
        let lines = format!("Authorization: {others}\r\n");
        answer(&mut lab, bob, ("bob", "bob", "secret-b"), &lines);
        assert!(lab.got(bob, "200"), "{others}\n{}", lab.picture());
    }
}

/// Of two PBXs that register here, each is itself.
#[test]
fn a_pbx_registers_by_its_own_name_only() {
    let registers = |name: &str| {
        format!("accepts_registration = true\nusername = \"{name}\"\npassword = \"secret-{name}\"")
    };
    let (one, two) = (registers("pbx-a"), registers("pbx-b"));
    let changes = [
        ("uri = \"sip:127.0.0.11\"", one.as_str()),
        ("uri = \"sip:127.0.0.12;transport=tcp\"", two.as_str()),
    ];
    for (claimed, before, status) in [
        ("pbx-b", "", 200),
        ("pbx-a", "", 403),
        ("pbx-a", "Authorization: Digest username=\"pbx-a\", realm=\"elsewhere\"\r\n", 403),
        ("pbx-b", "Authorization: Digest username=\"pbx-a\", realm=\"elsewhere\"\r\n", 200),
    ] {
        let mut lab = Lab::changed(&changes, "");
        let pbx = Peer::Trunk("pbx", 30);
        // Long enough for an answer to somebody nobody has proved.
        let filler = format!("{before}Subject: {}\r\n", "x".repeat(600));
        answer(&mut lab, pbx, (claimed, "pbx-b", "secret-pbx-b"), &filler);
        let (_, last) = lab.inbox.back().expect("an answer");
        assert_eq!(last.status(), status, "{claimed} {before}\n{}", lab.picture());
    }
}

/// Sends as many answers to this challenge as lock a source out, each with another password.
fn guess(lab: &mut Lab, as_if: Peer, challenge: &webtrunk::sip::Message, request: &str) {
    for n in 0..40 {
        let guess = lab.answer_challenge(challenge, request, "pbx", &format!("guess{n}"));
        lab.says(as_if, &guess);
    }
    lab.inbox.clear();
}

/// The source of a datagram may be anybody's: guesses in a PBX's name from where it is cost it
/// nothing, unless the guesser sees what is sent there.
#[test]
fn who_forges_the_address_of_a_pbx_does_not_lock_it_out() {
    let registers = "accepts_registration = true\nusername = \"pbx\"\npassword = \"secret-pbx\"";
    let mut lab = Lab::changed(&[("uri = \"sip:127.0.0.11\"", registers)], "");
    let (pbx, stranger) = (Peer::Trunk("pbx", 30), Peer::Trunk("stranger", 66));
    // Long enough for an answer to somebody nobody has proved.
    let filler = format!("Subject: {}\r\n", "x".repeat(600));
    let ask = |lab: &mut Lab, peer: Peer| {
        let wish = format!("Expires: 600\r\n{filler}");
        let text = lab.request(peer, "REGISTER", "sip:wt.test", &wish, "");
        let text = text.replace("To: <sip:wt.test>", "To: <sip:pbx@wt.test>");
        lab.says(peer, &text);
        (lab.take(peer, "401"), text)
    };
    let (challenge, request) = ask(&mut lab, stranger);
    guess(&mut lab, pbx, &challenge, &request);
    answer(&mut lab, pbx, ("pbx", "pbx", "secret-pbx"), &filler);
    assert!(lab.got(pbx, "200"), "{}", lab.picture());
    lab.inbox.clear();
    // Where it is registered it is not locked out by what somebody there guesses either.
    let (challenge, request) = ask(&mut lab, pbx);
    guess(&mut lab, pbx, &challenge, &request);
    answer(&mut lab, pbx, ("pbx", "pbx", "secret-pbx"), &filler);
    assert!(lab.got(pbx, "200"), "{}", lab.picture());
}

/// A name with a time in it may be longer than any user's.
#[test]
fn a_visitor_whose_credentials_are_long_is_who_they_say_in_the_context_they_say() {
    for length in [1, 40, 50, 52, 53, 54, 64] {
        let mut lab = visitors::lab();
        let user: &'static str = String::leak("v".repeat(length));
        let visitor = Peer::Browser(user, 7);
        let (name, password) = visitors::for_a_while(user, "phones");
        assert_eq!(visitors::log_in(&mut lab, visitor, &name, &password), 200, "{length}");
        lab.invite(visitor, "9190", OFFER);
        let ok = lab.take(visitor, "200 INVITE");
        assert!(ok.header(HeaderName::Contact).is_some());
    }
}
