//! What comes to the web port, from web applications, and from files.

use crate::api;
use crate::config::check::{parse_embedded, steps_of};
use crate::config::grant::Grant;
use crate::config::{Config, JwtSettings, KeySet};
use crate::dialplan::Pattern;
use crate::gateway::token::TokenKeys;
use crate::sip::digest::Secret;
use std::hint::black_box;
use std::sync::LazyLock;

/// WebSocket frames, and the SIP in them.
pub(super) fn websocket(bytes: &[u8]) {
    let messages = crate::transport::ws::messages(bytes);
    assert!(messages.len() <= bytes.len(), "more messages than bytes");
}

/// Two patterns, one a line, and a number.
pub(super) fn pattern(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let (Some(Ok(one)), Some(Ok(other))) =
        (lines.next().map(Pattern::parse), lines.next().map(Pattern::parse))
    else {
        return;
    };
    let number = lines.next().unwrap_or_default();
    let both = one.mismatch(number).is_none() && other.mismatch(number).is_none();
    assert!(!both || one.meets(&other), "{number:?} is of both");
    if let Some(escaped) = one.escapes(&[&other]) {
        assert_eq!(one.mismatch(&escaped), None, "it is one of its numbers");
        assert!(other.mismatch(&escaped).is_some(), "it is none of the other's");
    }
}

const BASE: &str = "[server]\ndomain = \"wt.test\"\npublic_ip = \"192.0.2.1\"\n\
    [sip]\nudp = \"127.0.0.1:5060\"\n[user.alice]\npassword = \"secret\"\ncontext = \"in\"\n\
    [trunk.t]\nuri = \"sip:192.0.2.9\"\ncontext = \"in\"\n";
const PLAN: &str = "[[route]]\nname = \"all\"\nmatch = \".\"\ndo = [{ echo = true }]\n";

static CONFIG: LazyLock<Config> =
    LazyLock::new(|| parse_embedded(BASE, &[("in", PLAN)]).unwrap_or_else(|p| panic!("{p}")).0);

/// A configuration, and behind a NUL its dialplan. What is refused says where.
pub(super) fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (settings, plan) = text.split_once('\0').unwrap_or((&text, PLAN));
    match parse_embedded(settings, &[("in", plan)]) {
        Ok((read, _)) => drop(black_box(read)),
        Err(problems) => assert!(!problems.to_string().is_empty(), "refused without a word"),
    }
    if text.contains('\0') {
        black_box(parse_embedded(BASE, &[("in", plan)]).is_ok());
    }
}

/// A key set on the first line, a token on the second.
pub(super) fn token(bytes: &[u8]) {
    // RFC 8037 appendix A.2: its private key is public, so the text of A.4 is all it signed.
    const KEY: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519",
        "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let text = String::from_utf8_lossy(bytes);
    let (set, token) = text.split_once('\n').unwrap_or((KEY, &text));
    let settings = JwtSettings {
        jwks: KeySet::Url(String::new()),
        audience: "wt".to_owned(),
        issuer: None,
        context: None,
        single_use: true,
        allow_private: false,
    };
    for set in [set, KEY] {
        if let Ok(keys) = TokenKeys::parse(set) {
            let claims = keys.verify(token, &settings, 1_700_000_000);
            black_box(claims.is_ok_and(|claims| claims.single(1_700_000_000).is_ok()));
        }
    }
}

/// What a web application answers: who a user is, or what is done with a call.
pub(super) fn grant(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(route) = steps_of(&text, &CONFIG) {
        black_box(route);
    }
    if let Ok(grant) = serde_json::from_str::<Grant>(&text)
        && let Ok(user) = grant.granted_user("alice", Secret::new("secret"), Some("in"), &CONFIG)
    {
        assert_eq!(user.context, "in", "there is no other");
    }
}

/// Bodies and queries of the API.
pub(super) fn api(bytes: &[u8]) {
    black_box(api::calls::bodies(bytes));
    black_box(api::server::bodies(bytes));
    let text = String::from_utf8_lossy(bytes);
    black_box(api::listing::listed(&text));
}

/// A sealed checkpoint: nothing that was not sealed here is opened.
pub(super) fn checkpoint(bytes: &[u8]) {
    crate::state::checkpoints::read_foreign(bytes);
}

/// What other nodes wrote into the store, or who else has it.
pub(super) fn store(bytes: &[u8]) {
    crate::cluster::read_foreign(&String::from_utf8_lossy(bytes));
}
