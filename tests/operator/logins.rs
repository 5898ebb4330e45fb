//! Users who are not written in the configuration, against a served gateway: a key set by HTTP, and
//! a web application that is asked.

use crate::server::Server;
use crate::shop::Shop;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::time::SystemTime;

#[test]
fn a_token_is_verified_with_a_key_set_read_over_http() {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &aws_lc_rs::rand::SystemRandom::new(),
    )
    .expect("a key");
    let key = EncodingKey::from_ec_der(pkcs8.as_ref());
    let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("a public key");
    let shop = Shop::open();
    shop.answer_with(&serde_json::to_string(&JwkSet { keys: vec![jwk] }).expect("JSON"));
    let server = Server::start(&format!(
        "[auth.jwt]\njwks = \"http://{}/jwks.json\"\nallow_private = true\naudience = \"webtrunk\"\n",
        shop.at
    ));
    let unix =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let token = |audience: &str, grant: Value| {
        encode(
            &Header::new(Algorithm::ES256),
            &json!({ "sub": "visitor", "aud": audience, "exp": unix + 300, "webtrunk": grant }),
            &key,
        )
        .expect("a token")
    };
    let call = |token: &str| {
        server
            .run(&["call", "9196", "--as", "visitor", "--jwt", token, "--for", "1s", "-o", "json"])
    };
    let fine = call(&token("webtrunk", json!({ "context": "in", "tags": { "cart": "A-1042" } })));
    assert_eq!(fine.code, 0, "{fine:?}");
    server.until(|| server.control("GET", "/api/v1/calls/last", "").contains("A-1042"));
    let wrong = call(&token("another", json!({ "context": "in" })));
    assert!(
        wrong.code != 0 && server.log().contains("its aud does not name \"webtrunk\""),
        "{wrong:?}\n{}",
        server.log()
    );
    assert!(
        server.log().contains("WT-1004") && !server.log().contains("eyJ"),
        "no part of a token in the log"
    );
    let barred = call(&token("webtrunk", json!({ "context": "in", "callees": ["+1NXXNXXXXXX"] })));
    assert!(barred.code == 5 && barred.out.contains("\"sip_code\": 403"), "{barred:?}");
}

#[test]
fn a_web_application_says_who_may_log_in() {
    let shop = Shop::open();
    let server = Server::start(&format!(
        "[auth.webhook]\nurl = \"http://{}/voice/auth\"\nallow_private = true\nsecret = \"0123456789abcdef0123\"\n",
        shop.at
    ));
    let ws = format!("ws://127.0.0.1:{}/sip", server.web);
    let call = |user: &str, password: &str| {
        server.run(&[
            "call",
            "9196",
            "--ws",
            &ws,
            "--as",
            user,
            "--password",
            password,
            "--for",
            "1s",
            "-o",
            "json",
        ])
    };
    shop.answer_with(
        "{\"password\": \"for-this-visit\", \"ttl\": \"1m\", \"grant\": {\"context\": \"in\"}}",
    );
    assert_eq!(call("visitor", "for-this-visit").code, 0, "{}", server.log());
    assert_eq!(call("visitor", "for-this-visit").code, 0);
    let got = shop.got();
    assert_eq!(got.len(), 1, "it is believed for a minute");
    let body = got[0].split_once("\r\n\r\n").expect("a body").1;
    let value: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(
        (value["type"].as_str(), value["data"]["user"].as_str(), value["data"]["remote"].as_str()),
        (Some("auth.user"), Some("visitor"), Some("127.0.0.1"))
    );
    let schema: Value =
        serde_json::from_str(&Server::offline(&["schema", "auth-request"]).out).expect("JSON");
    assert!(jsonschema::is_valid(&schema, &value), "{value}");
    let header = |name: &str| {
        got[0]
            .lines()
            .find_map(|l| l.strip_prefix(&format!("{name}: ")))
            .expect("a header")
            .to_owned()
    };
    assert_eq!(
        header("webhook-signature"),
        webtrunk::webhook::signature(
            "0123456789abcdef0123",
            &header("webhook-id"),
            header("webhook-timestamp").parse().expect("seconds"),
            body
        )
    );
    assert_ne!(call("visitor", "guess").code, 0);
    assert_eq!(call("alice", "secret-a").code, 0, "who is written here is not asked for");
    assert_eq!(shop.got().len(), 1);
    shop.answer_with("nonsense");
    assert_ne!(call("other", "x").code, 0);
    server.logs("WT-1005");
    drop(shop);
    assert_ne!(call("third", "x").code, 0);
}
