//! Tokens that are good for one login, at whichever node.

use crate::SECOND;
use crate::world::{Fault, World};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use webtrunk::gateway::token::TokenKeys;

/// By the world's clock.
const EXPIRES: u64 = 1_700_000_000 + 3_600;
const MS: Duration = Duration::from_millis(1);

static KEY: LazyLock<EncodingKey> = LazyLock::new(|| {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &aws_lc_rs::rand::SystemRandom::new(),
    );
    EncodingKey::from_ec_der(pkcs8.expect("a key").as_ref())
});

fn world(seed: u64) -> World {
    let mut world = World::with_tokens(seed);
    let jwk = Jwk::from_encoding_key(&KEY, Algorithm::ES256).expect("a public key");
    let set = serde_json::to_string(&JwkSet { keys: vec![jwk] }).expect("JSON");
    world.give_keys(&Arc::new(TokenKeys::parse(&set).expect("a key set")));
    world.settle();
    world.roam(false);
    world
}

fn token(user: usize, jti: &str) -> String {
    let claims =
        json!({ "sub": format!("u{user}"), "aud": "webtrunk", "exp": EXPIRES, "jti": jti });
    encode(&Header::new(Algorithm::ES256), &claims, &KEY).expect("a token")
}

/// A new connection of a phone to a node, and a REGISTER by a token there.
fn come(world: &mut World, phone: usize, node: usize, token: &str) {
    world.lose_phone(phone);
    world.connect_silently(phone, node);
    world.roam(false);
    world.phone(phone).answers.clear();
    again(world, phone, token);
}

fn again(world: &mut World, phone: usize, token: &str) {
    let text = world.phone(phone).register_by(token);
    world.says(phone, text);
}

fn status(world: &mut World, phone: usize) -> Option<u16> {
    world.run(2 * SECOND);
    world.phone(phone).answered()
}

#[test]
fn a_token_for_one_login_is_good_at_one_node() {
    let mut world = world(41);
    let once = token(0, "a");
    come(&mut world, 0, 1, &once);
    assert_eq!(status(&mut world, 0), Some(200));
    again(&mut world, 0, &once);
    assert_eq!(status(&mut world, 0), Some(200), "its connection goes on by it");
    for node in [0, 2, 1] {
        come(&mut world, 0, node, &once);
        assert_eq!(status(&mut world, 0), Some(401), "n{node}");
    }
    come(&mut world, 0, 2, &token(0, "b"));
    assert_eq!(status(&mut world, 0), Some(200));
    // A store that has lost what it confirmed is told again.
    world.fault(Fault::StoreEmpty);
    world.run(5 * SECOND);
    for used in ["a", "b"] {
        come(&mut world, 0, 0, &token(0, used));
        assert_eq!(status(&mut world, 0), Some(401), "{used}");
    }
    world.expect_idle();
}

#[test]
fn two_browsers_come_at_once_by_one_token_and_one_is_let_in() {
    for seed in 0..20 {
        let mut world = world(4_200 + seed);
        let second = world.add_phone(0, 2);
        let once = token(0, "a");
        come(&mut world, 0, 0, &once);
        come(&mut world, second, 1, &once);
        let mut told = [status(&mut world, 0), status(&mut world, second)];
        told.sort_unstable();
        assert_eq!(told, [Some(200), Some(401)]);
    }
}

#[test]
fn a_login_by_a_token_waits_half_a_second_for_the_store_and_goes_by_what_the_node_knows() {
    let mut world = world(43);
    world.tokens_late = 10 * SECOND;
    come(&mut world, 0, 1, &token(0, "a"));
    world.run(450 * MS);
    assert_eq!(world.phone(0).answered(), None, "it waits");
    world.run(100 * MS);
    assert_eq!(world.phone(0).answered(), Some(200), "it is not known to be used");
    world.tokens_late = Duration::ZERO;
    // The store is told, and tells the others.
    world.run(15 * SECOND);
    come(&mut world, 0, 2, &token(0, "a"));
    assert_eq!(status(&mut world, 0), Some(401));
    world.expect_idle();
}

#[test]
fn while_the_store_is_away_a_token_is_good_once_at_each_node_and_that_is_told() {
    let mut world = world(44);
    world.fault(Fault::StoreDown);
    world.run(10 * SECOND);
    let second = world.add_phone(0, 2);
    let once = token(0, "a");
    for (phone, node) in [(0, 0), (second, 1)] {
        come(&mut world, phone, node, &once);
        assert_eq!(status(&mut world, phone), Some(200), "n{node}");
    }
    let third = world.add_phone(0, 2);
    come(&mut world, third, 1, &once);
    assert_eq!(status(&mut world, third), Some(401), "not twice at one");
    world.fault(Fault::StoreUp);
    world.run(10 * SECOND);
    let told = (0..2).filter(|n| world.said(*n, "TokenUsedTwice")).count();
    assert_eq!(told, 1, "the second of them says so");
    for node in 0..3 {
        come(&mut world, third, node, &once);
        assert_eq!(status(&mut world, third), Some(401), "n{node}");
    }
    assert_eq!(world.phone(0).answered(), Some(200), "who was let in stays");
    world.expect_idle();
}
