//! Users who are not written in the configuration: tokens, and a web application that is asked.

use crate::lab::*;
use crate::recovery::{close, open};
use crate::visitors::log_in;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use webtrunk::errors::Code;
use webtrunk::event::Event;
use webtrunk::gateway::Input;
use webtrunk::gateway::logins::Answered;
use webtrunk::gateway::token::TokenKeys;
use webtrunk::sip::HeaderName;
use webtrunk::sip::transaction::Flow;

const NOW: u64 = 1_700_000_000;
const VISITOR: Peer = Peer::Browser("visitor-8c1", 7);
const JWT: &str = "[auth.jwt]\njwks = \"http://keys.test/jwks\"\nallow_private = true\naudience = \"webtrunk\"\nissuer = \"https://shop.test\"\ncontext = \"phones\"\n[limits]";
const WEBHOOK: &str =
    "[auth.webhook]\nurl = \"https://shop.test/auth\"\nsecret = \"0123456789abcdef\"\n[limits]";

static OURS: LazyLock<EncodingKey> = LazyLock::new(key);
static ANOTHER: LazyLock<EncodingKey> = LazyLock::new(key);

fn key() -> EncodingKey {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &aws_lc_rs::rand::SystemRandom::new(),
    )
    .expect("a key");
    EncodingKey::from_ec_der(pkcs8.as_ref())
}

fn keys(named: &str, key: &EncodingKey) -> Arc<TokenKeys> {
    let mut jwk = Jwk::from_encoding_key(key, Algorithm::ES256).expect("a public key");
    jwk.common.key_id = Some(named.to_owned());
    let set = serde_json::to_string(&JwkSet { keys: vec![jwk] }).expect("JSON");
    Arc::new(TokenKeys::parse(&set).expect("a key set"))
}

fn token(kid: &str, key: &EncodingKey, changes: &Value) -> String {
    let mut claims = json!({
        "sub": "visitor-8c1", "aud": ["webtrunk", "another"], "iss": "https://shop.test",
        "exp": NOW + 600, "iat": NOW,
    });
    changes
        .as_object()
        .into_iter()
        .flatten()
        .for_each(|(name, value)| claims[name] = value.clone());
    claims.as_object_mut().expect("an object").retain(|_, v| !v.is_null());
    encode(&Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::ES256) }, &claims, key)
        .expect("a token")
}

fn ours(changes: &Value) -> String {
    token("k1", &OURS, changes)
}

/// `token` with these members added to its header, signed by a key that may.
fn with_header(add: &Value) -> String {
    let text = ours(&json!({}));
    let mut parts = text.split('.');
    let head = URL_SAFE_NO_PAD.decode(parts.next().expect("a header")).expect("base64");
    let mut head: Value = serde_json::from_slice(&head).expect("JSON");
    add.as_object().into_iter().flatten().for_each(|(k, v)| head[k] = v.clone());
    let said =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(head.to_string()), parts.next().expect("claims"));
    let signature = jsonwebtoken::crypto::sign(said.as_bytes(), &OURS, Algorithm::ES256);
    format!("{said}.{}", signature.expect("signed"))
}

#[test]
fn a_token_whose_header_names_critical_extensions_is_refused() {
    for (header, taken) in [
        (json!({ "x": 1 }), true),
        (json!({ "crit": ["b64"], "b64": false }), false),
        (json!({ "crit": ["exp"] }), false),
        (json!({ "crit": [] }), false),
    ] {
        let mut lab = with_tokens();
        let peer = Peer::Browser("visitor-8c1", 9);
        lab.connects(peer);
        let extra = format!("Authorization: Bearer {}\r\n", with_header(&header));
        let text = lab.register_of(peer, "visitor-8c1", &extra);
        lab.says(peer, &text);
        assert_eq!(lab.got(peer, "200"), taken, "{header}\n{}", lab.picture());
    }
}

fn lab(changes: &[(&str, &str)], routes: &str) -> Lab {
    let mut lab = Lab::changed(changes, routes);
    if lab.keys_asked > 0 {
        lab.handle(Input::Keys(Ok(keys("k1", &OURS))));
    }
    lab
}

fn with_tokens() -> Lab {
    let routes = "[[route]]\nname = \"World\"\nmatch = \"+4X.\"\nrequire = \"user.international\"\ndo = [{ dial = [\"trunk:t1\"] }]\n";
    lab(&[("[limits]", JWT)], routes)
}

fn register(lab: &mut Lab, peer: Peer, token: &str) {
    let Peer::Browser(user, _) = peer else { panic!("a browser") };
    let lines = format!("Expires: 3600\r\nAuthorization: Bearer {token}\r\n");
    let register = lab.register_of(peer, user, &lines);
    lab.says(peer, &register);
}

fn last_refusal(lab: &Lab) -> (Code, String) {
    match lab.notes.iter().rev().find(|n| matches!(n, Event::LoginRefused { .. })) {
        Some(Event::LoginRefused { code, why, .. }) => (*code, why.clone()),
        _ => panic!("nothing was refused: {:?}", lab.notes),
    }
}

#[test]
fn a_token_lets_its_user_in_and_do_what_it_grants_and_nothing_else() {
    let mut lab = with_tokens();
    lab.connects(VISITOR);
    let grant = json!({ "webtrunk": {
        "did": "+12065550177", "claims": ["international"], "callees": ["+44X.", "9196"],
        "tags": { "cart": "A-1042" }, "max_calls": 1,
    } });
    register(&mut lab, VISITOR, &ours(&grant));
    let ok = lab.take(VISITOR, "200 REGISTER");
    let expires: u32 = Lab::header(&ok, HeaderName::Contact)
        .split("expires=")
        .nth(1)
        .and_then(|e| e.split(';').next()?.parse().ok())
        .expect("a time");
    assert!(expires <= 660, "no longer than the token: {expires}");
    lab.invite(VISITOR, "+1777", OFFER);
    lab.take(VISITOR, "403");
    lab.invite(VISITOR, "+447946001", OFFER);
    let invite = lab.take(T1, "INVITE");
    assert!(
        Lab::header(&invite, HeaderName::From).contains("+12065550177"),
        "the caller id of the token"
    );
    lab.invite(VISITOR, "9196", OFFER);
    lab.take(VISITOR, "486");
    let cancelled = lab.ended().len();
    lab.reply(T1, &invite, 486, "");
    lab.take(VISITOR, "486");
    let cdr = lab.ended()[cancelled];
    assert_eq!(cdr.tags.get("cart").map(String::as_str), Some("A-1042"));
}

/// A time may have a fraction (RFC 7519 §2): `Date.now() / 1000 + 600`.
#[test]
fn the_times_of_a_token_may_have_fractions() {
    let (soon, late) = (NOW as f64 + 600.25, NOW as f64 - 100.5);
    for (changes, taken) in [
        (json!({ "exp": soon }), true),
        (json!({ "exp": soon, "nbf": NOW as f64 - 0.75, "iat": NOW as f64 - 0.5 }), true),
        (json!({ "exp": late }), false),
        (json!({ "exp": soon, "nbf": soon }), false),
        (json!({ "exp": -1.5 }), false),
        (json!({ "exp": 1e300 }), false),
        (json!({ "exp": "1700000600" }), false),
        (json!({ "nbf": "soon" }), false),
        (json!({ "nbf": null }), true),
    ] {
        let mut lab = with_tokens();
        lab.connects(VISITOR);
        register(&mut lab, VISITOR, &ours(&changes));
        assert_eq!(lab.got(VISITOR, "200"), taken, "{changes}\n{}", lab.picture());
    }
}

/// A brake on guesses is no way to keep others at a shared address out.
#[test]
fn wrong_tokens_lock_out_neither_a_proved_flow_nor_who_logged_in_there() {
    let mut lab = with_tokens();
    lab.connects(VISITOR);
    register(&mut lab, VISITOR, &ours(&json!({})));
    lab.take(VISITOR, "200 REGISTER");
    let guesser = Peer::Browser("mallory", 70);
    lab.connects(guesser);
    for _ in 0..30 {
        register(&mut lab, guesser, &token("k1", &ANOTHER, &json!({ "sub": "mallory" })));
    }
    lab.take(guesser, "403 REGISTER");
    register(&mut lab, VISITOR, &ours(&json!({})));
    lab.take(VISITOR, "200 REGISTER");
    let again = Peer::Browser("visitor-8c1", 71);
    lab.connects(again);
    register(&mut lab, again, &ours(&json!({})));
    lab.take(again, "200 REGISTER");
    // Guesses at that very name use up what it has for itself, and lock out no proved flow.
    let other = Peer::Browser("visitor-8c1", 72);
    lab.connects(other);
    for _ in 0..30 {
        register(&mut lab, other, &token("k1", &ANOTHER, &json!({})));
    }
    lab.take(other, "403 REGISTER");
    register(&mut lab, VISITOR, &ours(&json!({})));
    lab.take(VISITOR, "200 REGISTER");
}

#[test]
fn a_configured_user_needs_no_grant_and_a_route_may_require_a_claim() {
    let mut lab = with_tokens();
    let alice = Peer::Browser("alice", 8);
    lab.connects(alice);
    register(&mut lab, alice, &ours(&json!({ "sub": "alice" })));
    lab.take(alice, "200 REGISTER");
    lab.invite(alice, "+447946001", OFFER);
    let refused = lab.take(alice, "403");
    assert!(
        Lab::header(&refused, HeaderName::Reason).contains("international"),
        "{}",
        Lab::header(&refused, HeaderName::Reason)
    );
    lab.invite(alice, "+1777", OFFER);
    let invite = lab.take(T1, "INVITE");
    assert!(Lab::header(&invite, HeaderName::From).contains("+12065550111"), "as configured");
    // A token that only adds a claim leaves the rest as it is.
    let alice = Peer::Browser("alice", 9);
    lab.connects(alice);
    register(
        &mut lab,
        alice,
        &ours(&json!({ "sub": "alice", "webtrunk": { "claims": ["international"] } })),
    );
    lab.take(alice, "200 REGISTER");
    lab.invite(alice, "+447946001", OFFER);
    let invite = lab.take(T1, "INVITE");
    assert!(Lab::header(&invite, HeaderName::From).contains("+12065550111"));
}

#[test]
fn a_wrong_token_is_refused_with_what_is_wrong_and_no_part_of_it() {
    let none = {
        let t = ours(&json!({}));
        let parts: Vec<&str> = t.split('.').collect();
        format!("{}.{}.", "eyJhbGciOiJub25lIn0", parts[1])
    };
    let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::HS256) };
    let claims = json!({
        "sub": "visitor-8c1", "aud": "webtrunk", "iss": "https://shop.test", "exp": NOW + 600,
    });
    let symmetric = encode(&header, &claims, &EncodingKey::from_secret(b"public"));
    let symmetric = symmetric.expect("a token");
    for (token, why) in [
        (ours(&json!({ "aud": "somebody" })), "aud"),
        (ours(&json!({ "aud": null })), "aud"),
        (ours(&json!({ "iss": "https://evil.test" })), "iss"),
        (ours(&json!({ "exp": NOW - 100 })), "it expired 10"),
        (ours(&json!({ "exp": null })), "exp"),
        (ours(&json!({ "nbf": NOW + 300 })), "do the clocks differ?"),
        (ours(&json!({ "sub": "a b" })), "no name"),
        (ours(&json!({ "webtrunk": { "calees": ["+1."] } })), "calees"),
        (ours(&json!({ "webtrunk": { "callees": [] } })), "empty list"),
        (ours(&json!({ "webtrunk": { "context": "nowhere" } })), "does not exist"),
        (ours(&json!({ "webtrunk": { "callees": ["+1.X"] } })), "callees"),
        (token("k1", &ANOTHER, &json!({})), "its signature is wrong"),
        (token("k2", &OURS, &json!({})), "no key"),
        (symmetric, "no key"),
        (none, "no JSON Web Token"),
        ("x.y.z".to_owned(), "no JSON Web Token"),
    ] {
        let mut lab = with_tokens();
        lab.connects(VISITOR);
        register(&mut lab, VISITOR, &token);
        if lab.keys_asked > 1 {
            panic!("asked again at once");
        }
        let refused = lab.take(VISITOR, "401");
        let challenge = Lab::header(&refused, HeaderName::WwwAuthenticate);
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        let (code, said) = last_refusal(&lab);
        assert!(code == Code::TOKEN && said.contains(why), "{why}: {said}");
        assert!(!said.contains(token.get(..20).unwrap_or("nothing")));
        lab.invite(VISITOR, "9196", OFFER);
        lab.take(VISITOR, "401");
    }
    let mut lab = with_tokens();
    let bob = Peer::Browser("bob", 9);
    lab.connects(bob);
    register(&mut lab, bob, &ours(&json!({})));
    lab.take(bob, "403");
    for _ in 0..20 {
        register(&mut lab, bob, &ours(&json!({ "aud": "x" })));
    }
    register(&mut lab, bob, &ours(&json!({ "sub": "bob" })));
    assert!(
        lab.inbox
            .back()
            .is_some_and(|(_, m)| m.status() == 403
                && Lab::header(m, HeaderName::Reason).contains("too many")),
        "guessing is braked"
    );
}

#[test]
fn a_token_is_good_for_its_time_only_and_calls_outlive_it() {
    let mut lab = with_tokens();
    lab.connects(VISITOR);
    register(&mut lab, VISITOR, &ours(&json!({ "exp": NOW + 120 })));
    lab.take(VISITOR, "200 REGISTER");
    lab.invite(VISITOR, "9196", OFFER);
    let ok = lab.take(VISITOR, "200 INVITE");
    lab.ack(VISITOR, &ok);
    lab.advance(Duration::from_secs(181));
    lab.invite(VISITOR, "9196", OFFER);
    let challenge = lab.take(VISITOR, "401");
    assert!(
        challenge.all(HeaderName::WwwAuthenticate).any(|c| c.starts_with("Bearer ")),
        "it is asked for another"
    );
    let bye = lab.in_dialog(VISITOR, &ok, "BYE", 90, "", "");
    lab.says(VISITOR, &bye);
    lab.take(VISITOR, "200 BYE");
}

fn with_single_tokens() -> Lab {
    let jwt = JWT.replace("[limits]", "single_use = true\n[limits]");
    lab(&[("[limits]", &jwt)], "")
}

#[test]
fn a_token_for_one_login_is_good_for_its_connection_and_for_no_other() {
    let mut lab = with_single_tokens();
    lab.connects(VISITOR);
    let token = ours(&json!({ "jti": "a" }));
    // Said for somebody else, it is refused, and not used by that.
    let other = Peer::Browser("bob", 8);
    lab.connects(other);
    register(&mut lab, other, &token);
    lab.take(other, "403");
    for _ in 0..2 {
        register(&mut lab, VISITOR, &token);
        lab.take(VISITOR, "200 REGISTER");
    }
    let again = Peer::Browser("visitor-8c1", 9);
    lab.connects(again);
    register(&mut lab, again, &token);
    let refused = lab.take(again, "401");
    let challenge = Lab::header(&refused, HeaderName::WwwAuthenticate);
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    let (code, why) = last_refusal(&lab);
    assert!(code == Code::TOKEN && why.contains("used before"), "{why}");
    // Its connection is gone, and the token stays used.
    close(&mut lab, VISITOR);
    register(&mut lab, again, &token);
    lab.take(again, "401");
    register(&mut lab, again, &ours(&json!({ "jti": "b" })));
    lab.take(again, "200 REGISTER");
    // A newer one, on the same connection; the older is used up, but this connection's own.
    register(&mut lab, again, &ours(&json!({ "jti": "c" })));
    lab.take(again, "200 REGISTER");
    register(&mut lab, again, &ours(&json!({ "jti": "b" })));
    lab.take(again, "200 REGISTER");
}

#[test]
fn a_token_for_one_login_must_have_a_name_and_an_end() {
    for (changes, why) in [
        (json!({}), "it has no jti"),
        (json!({ "jti": 7 }), "it has no jti"),
        (json!({ "jti": "a", "exp": NOW + 86_461 }), "for a single login for 86400 s"),
    ] {
        let mut lab = with_single_tokens();
        lab.connects(VISITOR);
        register(&mut lab, VISITOR, &ours(&changes));
        lab.take(VISITOR, "401");
        assert!(last_refusal(&lab).1.contains(why), "{why}: {}", last_refusal(&lab).1);
    }
}

#[test]
fn who_comes_before_the_keys_waits_for_them_and_rotated_keys_are_read_once() {
    let mut lab = Lab::changed(&[("[limits]", JWT)], "");
    assert_eq!(lab.keys_asked, 1, "they are read at the start");
    lab.connects(VISITOR);
    register(&mut lab, VISITOR, &ours(&json!({})));
    assert!(!lab.got(VISITOR, "200") && !lab.got(VISITOR, "401"));
    lab.handle(Input::Keys(Ok(keys("k1", &OURS))));
    lab.take(VISITOR, "200 REGISTER");
    lab.advance(Duration::from_secs(31));
    let late = Peer::Browser("late", 9);
    lab.connects(late);
    let rotated = token("k2", &ANOTHER, &json!({ "sub": "late" }));
    register(&mut lab, late, &rotated);
    assert_eq!(lab.keys_asked, 2, "a key nobody knows: they are read again");
    lab.handle(Input::Keys(Ok(keys("k2", &ANOTHER))));
    lab.take(late, "200 REGISTER");
    register(&mut lab, late, &token("k3", &OURS, &json!({ "sub": "late" })));
    lab.take(late, "401");
    assert_eq!(lab.keys_asked, 2, "not for every one that guesses");
    lab.advance(Duration::from_secs(601));
    assert_eq!(lab.keys_asked, 3, "and every ten minutes");
    lab.handle(Input::Keys(Err("it answered 500".into())));
    register(&mut lab, late, &token("k2", &ANOTHER, &json!({ "sub": "late", "exp": NOW + 6_000 })));
    lab.take(late, "200 REGISTER");
}

#[test]
fn without_keys_there_is_a_503_that_says_why() {
    let mut lab = Lab::changed(&[("[limits]", JWT)], "");
    lab.handle(Input::Keys(Err("no answer in time".into())));
    assert!(
        lab.notes
            .iter()
            .any(|n| n.code() == Code::LOGIN_UNCHECKED
                && n.to_string().contains("no answer in time"))
    );
    lab.connects(VISITOR);
    register(&mut lab, VISITOR, &ours(&json!({})));
    let refused = lab.take(VISITOR, "503");
    assert_eq!(Lab::header(&refused, HeaderName::RetryAfter), "5");
    lab.advance(Duration::from_secs(31));
    lab.handle(Input::Keys(Ok(keys("k1", &OURS))));
    register(&mut lab, VISITOR, &ours(&json!({})));
    lab.take(VISITOR, "200 REGISTER");
}

fn answered(value: Value) -> Result<Option<Box<Answered>>, String> {
    Ok(Some(Box::new(serde_json::from_value(value).expect("an answer"))))
}

/// REGISTER of a user nobody has heard of, up to the question.
fn ask(lab: &mut Lab, peer: Peer, password: &str) {
    let Peer::Browser(user, _) = peer else { panic!("a browser") };
    lab.connects(peer);
    let first = lab.register_of(peer, user, "Expires: 600\r\n");
    lab.proves(peer, &first, user, password);
}

#[test]
fn a_web_application_says_who_a_user_is_and_is_believed_for_a_while() {
    let mut lab = lab(&[("[limits]", WEBHOOK)], "");
    ask(&mut lab, VISITOR, "made-for-the-visit");
    let (name, body) = lab.logins_asked.last().expect("it is asked").clone();
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        (name.as_str(), body["type"].as_str(), body["data"]["user"].as_str()),
        ("visitor-8c1", Some("auth.user"), Some("visitor-8c1"))
    );
    assert!(!lab.got(VISITOR, "200") && !lab.got(VISITOR, "403"), "it waits");
    let grant = json!({ "context": "phones", "callees": ["9196"] });
    let login = json!({ "password": "made-for-the-visit", "ttl": "5m", "grant": grant });
    lab.handle(Input::Login { name, answer: answered(login) });
    lab.take(VISITOR, "200 REGISTER");
    lab.invite(VISITOR, "+1777", OFFER);
    lab.take(VISITOR, "403");
    lab.invite(VISITOR, "9196", OFFER);
    lab.take(VISITOR, "200 INVITE");
    let again = Peer::Browser("visitor-8c1", 8);
    ask(&mut lab, again, "made-for-the-visit");
    lab.take(again, "200 REGISTER");
    assert_eq!(lab.logins_asked.len(), 1, "it was believed");
    assert_eq!(log_in(&mut lab, Peer::Browser("visitor-8c1", 9), "visitor-8c1", "wrong"), 403);
    assert_eq!(log_in(&mut lab, Peer::Browser("alice", 10), "alice", "secret-a"), 200);
    assert_eq!(lab.logins_asked.len(), 1, "who is written here is not asked for");
    lab.advance(Duration::from_secs(301));
    ask(&mut lab, Peer::Browser("visitor-8c1", 11), "made-for-the-visit");
    assert_eq!(lab.logins_asked.len(), 2, "its time was over");
}

#[test]
fn an_answer_that_is_valid_for_no_time_is_good_for_the_login_it_was_asked_for() {
    let mut lab = lab(&[("[limits]", WEBHOOK)], "");
    ask(&mut lab, VISITOR, "made-for-the-visit");
    let login =
        json!({ "password": "made-for-the-visit", "ttl": "0s", "grant": { "context": "phones" } });
    lab.handle(Input::Login { name: "visitor-8c1".into(), answer: answered(login) });
    assert_eq!(lab.logins_asked.len(), 1, "it is not asked again and again");
    lab.take(VISITOR, "200 REGISTER");
    lab.advance(Duration::from_secs(2));
    ask(&mut lab, Peer::Browser("visitor-8c1", 8), "made-for-the-visit");
    assert_eq!(lab.logins_asked.len(), 2, "it was believed for a moment only");
}

#[test]
fn whom_it_does_not_know_is_refused_and_when_it_is_silent_all_are_told_so() {
    let mut lab = lab(&[("[limits]", WEBHOOK)], "");
    ask(&mut lab, VISITOR, "guess");
    lab.handle(Input::Login { name: "visitor-8c1".into(), answer: Ok(None) });
    lab.take(VISITOR, "403");
    assert_eq!(last_refusal(&lab).0, Code::LOGIN_REFUSED);
    let other = Peer::Browser("other", 8);
    ask(&mut lab, other, "guess");
    lab.handle(Input::Login { name: "other".into(), answer: Err("no answer in time".into()) });
    lab.take(other, "503");
    ask(&mut lab, Peer::Browser("third", 9), "guess");
    lab.handle(Input::Login {
        name: "third".into(),
        answer: answered(json!({ "password": "guess", "grant": { "context": "nowhere" } })),
    });
    lab.take(Peer::Browser("third", 9), "503");
    assert!(
        lab.notes
            .iter()
            .any(|n| n.code() == Code::LOGIN_UNCHECKED && n.to_string().contains("nowhere"))
    );
    ask(&mut lab, Peer::Browser("fourth", 10), "guess");
    lab.handle(Input::FlowClosed { flow: Flow(10) });
    lab.handle(Input::Login {
        name: "fourth".into(),
        answer: answered(json!({ "password": "guess", "grant": { "context": "phones" } })),
    });
    assert!(!lab.got(Peer::Browser("fourth", 10), "200"), "a browser that has left gets nothing");
}

/// A token's call is its subject's, with the dialplan and number the token gives.
#[test]
fn a_call_is_resumed_with_a_token_of_the_same_account_and_no_other() {
    let grant = |context: &str, did: &str, jti: &str| {
        ours(&json!({ "webtrunk": { "context": context, "did": did }, "jti": jti }))
    };
    let mine = grant("phones", "+12065550100", "1");
    for (token, taken) in [
        (mine.clone(), true),
        (grant("phones", "+12065550100", "2"), true),
        (grant("phones", "+12065550177", "3"), false),
        (grant("incoming", "+12065550100", "4"), false),
        (ours(&json!({ "sub": "bob" })), false),
    ] {
        let mut lab = with_tokens();
        let (first, again) = (Peer::Browser("visitor-8c1", 30), Peer::Browser("visitor-8c1", 31));
        lab.connects(first);
        register(&mut lab, first, &mine);
        lab.take(first, "200 REGISTER");
        lab.invite(first, "+12065550123", OFFER);
        let invite = lab.take(T1, "INVITE");
        lab.reply(T1, &invite, 200, TRUNK_SDP);
        let ok = lab.take(first, "200 INVITE");
        lab.ack(first, &ok);
        close(&mut lab, first);
        open(&mut lab, again);
        let bearer = format!("Authorization: Bearer {token}\r\n");
        let bye = lab.in_dialog_with(again, &ok, "BYE", 700, &bearer, "");
        lab.says(again, &bye);
        assert_eq!(lab.got(again, "200"), taken, "{}", lab.picture());
        assert_eq!(lab.got(T1, "BYE"), taken, "{}", lab.picture());
    }
}
