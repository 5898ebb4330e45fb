use super::*;
use serde_json::json;

fn settings() -> OidcSettings {
    OidcSettings {
        issuer: "https://id.example.com".into(),
        client_id: "webtrunk".into(),
        client_secret: None,
        scopes: vec!["openid".into()],
        roles_claim: "realm_access.roles".into(),
        roles: vec![("voice".into(), Scope::Read), ("voice-admins".into(), Scope::Admin)],
        label: "Example".into(),
        page: "https://calls.example.com".into(),
        allow_private: false,
    }
}

#[test]
fn the_most_that_any_role_allows_counts_and_a_dot_leads_into_the_claim() {
    let role = |claims: Value| role_of(&claims, &settings());
    let nested = |roles: Value| json!({ "realm_access": { "roles": roles } });
    assert_eq!(role(nested(json!(["voice", "voice-admins", "x"]))), Some(Scope::Admin));
    assert_eq!(role(nested(json!("voice"))), Some(Scope::Read));
    assert_eq!(role(json!({ "realm_access.roles": ["voice"] })), Some(Scope::Read));
    for nothing in
        [nested(json!([])), nested(json!(["Voice", 7])), json!({}), json!({ "realm_access": 1 })]
    {
        assert_eq!(role(nothing.clone()), None, "{nothing}");
    }
}

#[test]
fn a_name_is_one_line_and_not_long() {
    let name = |claims: Value| name_of(&claims);
    assert_eq!(name(json!({ "sub": "7", "email": "ada@x.example" })), "ada@x.example");
    assert_eq!(name(json!({ "sub": "a\r\nb", "preferred_username": " " })), "ab");
    assert_eq!(name(json!({ "sub": "x".repeat(1_000) })).len(), LONGEST_NAME);
}

#[test]
fn logins_under_way_are_bounded_and_each_is_taken_once_by_its_browser() {
    let provider = Provider::default();
    let begin = |n: usize, source: [u8; 4]| {
        let login = WaitingLogin {
            began: Instant::now(),
            source: source.into(),
            browser: Key::of(&n.to_string()),
            nonce: String::new(),
            verifier: PkceCodeVerifier::new("v".repeat(43)),
            of: Arc::new(settings()),
        };
        provider.wait_for(n.to_string(), login);
    };
    (0..50).for_each(|n| begin(n, [198, 51, 100, 7]));
    let open = || provider.waiting.lock().expect("no panic").len();
    assert_eq!(open(), MOST_OF_SOURCE);
    assert!(provider.take("49", Some(Key::of("48"))).is_none(), "another browser");
    assert!(provider.take("49", None).is_none(), "no cookie");
    assert!(provider.take("49", Some(Key::of("49"))).is_some());
    assert!(provider.take("49", Some(Key::of("49"))).is_none(), "a second time");
    assert!(provider.take("0", Some(Key::of("0"))).is_none(), "it made room");
    (100..2_000).for_each(|n| begin(n, [10, (n >> 8) as u8, n as u8, 1]));
    assert_eq!(open(), MOST_LOGINS);
}

#[test]
fn the_cookie_of_a_login_comes_back_from_the_provider_and_no_script_sees_it() {
    assert_eq!(
        cookie(true, "x"),
        "__Host-webtrunk-login=x; Path=/; HttpOnly; SameSite=Lax; Max-Age=600; Secure"
    );
    let mut headers = HeaderMap::new();
    headers.insert(header::COOKIE, HeaderValue::from_static("a=b; webtrunk-login=x"));
    assert_eq!(browser_of(&headers, false), Some(Key::of("x")));
    assert_eq!(browser_of(&headers, true), None, "set without TLS");
}

/// Nobody has to log in to begin a login, so a crowd of them asks a provider that is away once.
#[tokio::test]
async fn a_provider_that_is_away_is_asked_once_in_a_while_whoever_wants_to_log_in() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = asked.clone();
    let away = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            drop(stream);
        }
    });
    let own = OidcSettings { issuer: format!("http://{at}"), allow_private: true, ..settings() };
    let (own, provider) = (Arc::new(own), Provider::default());
    for _ in 0..200 {
        provider.known(&own).await.expect_err("it is away");
    }
    // One try may be of two connections; a second may fall into a slow run.
    let asked = asked.load(std::sync::atomic::Ordering::Relaxed);
    assert!((1..=8).contains(&asked), "{asked}");
    // Another one, of a changed configuration, is asked at once.
    let other = OidcSettings { issuer: "http://127.0.0.1:1".into(), ..(*own).clone() };
    let why = provider.known(&Arc::new(other)).await.expect_err("nobody is there");
    assert!(why.contains("127.0.0.1:1"), "{why}");
    away.abort();
}
