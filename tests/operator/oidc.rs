//! People who log in to the page at an OpenID provider: a small one of this test's own, which says
//! what each case has it say.

use crate::server::Server;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

fn unix() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

fn key(kid: &str) -> (EncodingKey, Jwk) {
    let random = aws_lc_rs::rand::SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
    let key = EncodingKey::from_ec_der(pkcs8.expect("a key").as_ref());
    let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("a public key");
    jwk.common.key_id = Some(kid.to_owned());
    (key, jwk)
}

/// What a login at the provider is about to give.
struct Grant {
    challenge: String,
    claims: Value,
}

struct Inside {
    at: SocketAddr,
    kid: String,
    signer: EncodingKey,
    published: Vec<Jwk>,
    grants: HashMap<String, Grant>,
    asked: Vec<String>,
    /// What it says of itself besides.
    metadata: Value,
}

/// A provider.
struct Provider(Arc<Mutex<Inside>>);

impl Provider {
    fn open() -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let (signer, jwk) = key("first");
        let inside = Arc::new(Mutex::new(Inside {
            at,
            kid: "first".to_owned(),
            signer,
            published: vec![jwk],
            grants: HashMap::new(),
            asked: Vec::new(),
            metadata: json!({}),
        }));
        let shared = inside.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Provider(inside)
    }

    fn inside<T>(&self, work: impl FnOnce(&mut Inside) -> T) -> T {
        work(&mut self.0.lock().expect("sound"))
    }

    fn issuer(&self) -> String {
        self.inside(|p| format!("http://{}", p.at))
    }

    fn settings(&self) -> String {
        format!(
            "[api.oidc]\nissuer = \"{}\"\nclient_id = \"webtrunk\"\nclient_secret = \"s3cret & more\"\n\
             allow_private = true\nlabel = \"Example\"\n\
             roles = {{ read = [\"staff\"], write = [\"desk\"], admin = [\"voice-admins\"] }}\n",
            self.issuer()
        )
    }

    /// Signs with another key from now on, which it publishes or does not.
    fn rotate(&self, kid: &str, publish: bool) {
        let (signer, jwk) = key(kid);
        self.inside(|p| {
            (p.kid, p.signer) = (kid.to_owned(), signer);
            if publish {
                p.published = vec![jwk];
            }
        });
    }
}

fn serve(mut stream: TcpStream, provider: &Mutex<Inside>) {
    let mut bytes = Vec::new();
    let mut buf = [0; 4_096];
    let text = loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let length = text.lines().find_map(|l| l.strip_prefix("content-length: "));
        let length = length.and_then(|n| n.trim().parse().ok()).unwrap_or(0);
        if text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length) {
            break text;
        }
        match stream.read(&mut buf) {
            Ok(n) if n > 0 => bytes.extend_from_slice(&buf[..n]),
            _ => return,
        }
    };
    let (status, answer) = answer(&text, &mut provider.lock().expect("sound"));
    let answer = answer.to_string();
    let head = "Content-Type: application/json\r\nConnection: close";
    let length = answer.len();
    let _ =
        write!(stream, "HTTP/1.1 {status} x\r\n{head}\r\nContent-Length: {length}\r\n\r\n{answer}");
}

fn answer(text: &str, provider: &mut Inside) -> (u16, Value) {
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    provider.asked.push(path.clone());
    let at = format!("http://{}", provider.at);
    match path.as_str() {
        "/.well-known/openid-configuration" => {
            let mut said = json!({
                "issuer": at,
                "authorization_endpoint": format!("{at}/authorize?tenant=1"),
                "token_endpoint": format!("{at}/token"),
                "jwks_uri": format!("{at}/keys"),
            });
            let more = provider.metadata.as_object().cloned().unwrap_or_default();
            said.as_object_mut().expect("an object").extend(more);
            (200, said)
        }
        "/keys" => (200, json!(JwkSet { keys: provider.published.clone() })),
        "/token" => token(text, provider),
        _ => (404, json!({})),
    }
}

/// RFC 6749 §4.1.3 with RFC 7636 §4.5: who asks, for which code, and with which verifier.
fn token(text: &str, provider: &mut Inside) -> (u16, Value) {
    let body = text.split_once("\r\n\r\n").expect("a body").1;
    let form: HashMap<_, _> = reqwest::Url::parse(&format!("http://x/?{body}"))
        .expect("a form")
        .query_pairs()
        .into_owned()
        .collect();
    let basic = STANDARD.encode("webtrunk:s3cret+%26+more");
    let known =
        text.lines().any(|l| l.eq_ignore_ascii_case(&format!("authorization: Basic {basic}")));
    let grant = form.get("code").and_then(|code| provider.grants.remove(code));
    let (true, Some(grant)) = (known, grant) else {
        return (400, json!({ "error": "invalid_grant" }));
    };
    let verifier = form.get("code_verifier").map_or("", String::as_str);
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
    if challenge != grant.challenge
        || form.get("grant_type").map(String::as_str) != Some("authorization_code")
        || form.get("redirect_uri").map(String::as_str)
            != Some("http://localhost/api/v1/session/oidc/callback")
    {
        return (400, json!({ "error": "invalid_grant" }));
    }
    let header = Header { kid: Some(provider.kid.clone()), ..Header::new(Algorithm::ES256) };
    let token = match &grant.claims {
        Value::String(made) => made.clone(),
        claims => encode(&header, claims, &provider.signer).expect("a token"),
    };
    (200, json!({ "access_token": "a", "token_type": "Bearer", "id_token": token }))
}

/// A login that somebody's browser has begun.
struct Login {
    cookie: String,
    query: HashMap<String, String>,
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|l| l.strip_prefix(&format!("{name}: ")))
}

impl Login {
    fn begin(server: &Server) -> Login {
        let answer = server.web_with("GET", "/api/v1/session/oidc", "", "");
        assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
        let set = header(&answer, "set-cookie").expect("a cookie");
        assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=600"), "{set}");
        let to = reqwest::Url::parse(header(&answer, "location").expect("a place")).expect("a URL");
        assert_eq!(to.path(), "/authorize");
        let cookie = set.split(';').next().expect("a pair").to_owned();
        Login { cookie, query: to.query_pairs().into_owned().collect() }
    }

    fn claims(&self, provider: &Provider, groups: &[&str]) -> Value {
        json!({
            "iss": provider.issuer(), "aud": "webtrunk", "sub": "7", "exp": unix() + 300,
            "iat": unix(), "nonce": self.query["nonce"], "preferred_username": "ada",
            "groups": groups,
        })
    }

    /// The person agrees, and the provider sends them back; what came of it, and the new cookie.
    fn end(&self, server: &Server, provider: &Provider, claims: Value) -> (String, Option<String>) {
        let grant = Grant { challenge: self.query["code_challenge"].clone(), claims };
        let code = format!("code-{}", self.query["state"]);
        provider.inside(|p| p.grants.insert(code.clone(), grant));
        self.back(server, &format!("code={code}&state={}", self.query["state"]))
    }

    fn back(&self, server: &Server, query: &str) -> (String, Option<String>) {
        let path = format!("/api/v1/session/oidc/callback?{query}");
        let cookie = format!("Cookie: x=y; {}\r\n", self.cookie);
        came_of(&server.web_with("GET", &path, &cookie, ""))
    }
}

fn came_of(answer: &str) -> (String, Option<String>) {
    let to = header(answer, "location").unwrap_or_else(|| panic!("{answer}"));
    let came = to.strip_prefix("http://localhost/?login=").expect("the page");
    let session = answer
        .lines()
        .filter_map(|l| l.strip_prefix("set-cookie: webtrunk="))
        .map(|value| format!("webtrunk={}", value.split(';').next().expect("a pair")))
        .next();
    (came.trim_end_matches("#/calls").to_owned(), session)
}

fn status(server: &Server, cookie: &str, method: &str, path: &str) -> u16 {
    let origin = if method == "GET" { "" } else { "Origin: http://localhost\r\n" };
    let headers = format!("Cookie: {cookie}\r\n{origin}");
    let answer = server.web_with(method, &format!("/api/v1{path}"), &headers, "");
    answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status")
}

#[test]
fn somebody_logs_in_at_a_provider_and_their_groups_grant_their_scopes() {
    let provider = Provider::open();
    let server = Server::start_public(&provider.settings());
    let page = server.web_with("GET", "/settings.json", "", "");
    assert!(page.contains("\"oidc\":\"Example\""), "{page}");
    let login = Login::begin(&server);
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "webtrunk"),
        ("scope", "openid profile email"),
        ("code_challenge_method", "S256"),
        ("redirect_uri", "http://localhost/api/v1/session/oidc/callback"),
        ("tenant", "1"),
    ] {
        assert_eq!(login.query.get(name).map(String::as_str), Some(value), "{name}");
    }
    let (came, session) = login.end(&server, &provider, login.claims(&provider, &["staff", "x"]));
    assert_eq!(came, "done", "{}", server.log());
    let session = session.expect("a session");
    assert_eq!(status(&server, &session, "GET", "/calls"), 200);
    assert_eq!(status(&server, &session, "POST", "/drain"), 403, "who reads drains nothing");
    let who = server.web_with("GET", "/api/v1/session", &format!("Cookie: {session}\r\n"), "");
    assert!(who.contains("\"user\":\"ada\"") && who.contains("\"scope\":\"read\""), "{who}");
    server.logs("ada has logged in to the console at http://");

    let admin = Login::begin(&server);
    let claims = admin.claims(&provider, &["staff", "voice-admins"]);
    let admin = admin.end(&server, &provider, claims).1.expect("a session");
    assert_eq!(status(&server, &admin, "GET", "/config"), 200);
    assert!(!server.log().contains("eyJ"), "no part of a token in the log");
    let asked = provider.inside(|p| p.asked.clone());
    let known = |path: &str| asked.iter().filter(|a| *a == path).count();
    assert_eq!((known("/keys"), known("/token")), (1, 2), "what is known is not asked for again");

    // Another provider's word does not count, nor does that of one that is gone.
    server.edit("webtrunk.toml", "admin = [\"voice-admins\"]", "admin = [\"others\"]");
    assert_eq!(server.run(&["reload"]).code, 0, "{}", server.log());
    assert_eq!(status(&server, &admin, "GET", "/calls"), 401);
}

#[test]
fn a_token_that_is_not_for_this_login_lets_nobody_in() {
    let provider = Provider::open();
    type Change = fn(&mut Value);
    let wrong: [(&str, Change, &str); 9] = [
        ("nonce", |c| c["nonce"] = json!("another"), "its nonce is not the one of this login"),
        ("no nonce", |c| c["nonce"] = Value::Null, "its nonce is not the one of this login"),
        ("aud", |c| c["aud"] = json!("another"), "its aud does not name \"webtrunk\""),
        ("iss", |c| c["iss"] = json!("https://other.example"), "its iss is not"),
        ("exp", |c| c["exp"] = json!(unix() - 120), "it expired 1"),
        ("nbf", |c| c["nbf"] = json!(unix() + 600), "it is valid in"),
        ("azp", |c| c["azp"] = json!("another"), "issued to another client"),
        ("aud of two", |c| c["aud"] = json!(["webtrunk", "x"]), "issued to another client"),
        ("no sub", |c| c["sub"] = Value::Null, "sub"),
    ];
    for (name, change, said) in wrong {
        // Each has a log of its own: of many failures in a moment one is told whole.
        let server = Server::start_public(&provider.settings());
        let login = Login::begin(&server);
        let mut claims = login.claims(&provider, &["staff"]);
        change(&mut claims);
        claims.as_object_mut().expect("claims").retain(|_, value| !value.is_null());
        let (came, session) = login.end(&server, &provider, claims);
        assert_eq!((came.as_str(), session), ("token", None), "{name}\n{}", server.log());
        // A login that succeeds at last is not delayed by earlier failures.
        let fine = Login::begin(&server);
        let claims = fine.claims(&provider, &["staff"]);
        assert_eq!(fine.end(&server, &provider, claims).0, "done");
        server.logs(said);
    }
    // Another gateway, which has not seen as many wrong ones in this minute.
    let server = Server::start_public(&provider.settings());
    for (name, made) in unsigned(&provider) {
        let login = Login::begin(&server);
        let mut claims = login.claims(&provider, &["voice-admins"]);
        claims["nonce"] = json!(login.query["nonce"]);
        let (came, session) = login.end(&server, &provider, json!(made(&claims)));
        assert_eq!((came.as_str(), session), ("token", None), "{name}");
    }
}

/// Makes a token of these claims.
type Forgery = Box<dyn Fn(&Value) -> String>;

/// Tokens that nobody signed who may.
fn unsigned(provider: &Provider) -> Vec<(&'static str, Forgery)> {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let public = provider.inside(|p| json!(p.published[0]).to_string());
    vec![
        (
            "alg none",
            Box::new(move |c| format!("{}.{}.", part(&json!({ "alg": "none" })), part(c))),
        ),
        (
            "by the public key",
            Box::new(move |c| {
                let key = EncodingKey::from_secret(public.as_bytes());
                encode(&Header::new(Algorithm::HS256), c, &key).expect("a token")
            }),
        ),
        (
            "by another key",
            Box::new(|c| encode(&Header::new(Algorithm::ES256), c, &key("x").0).expect("a token")),
        ),
    ]
}

#[test]
fn a_login_is_of_one_browser_and_one_time() {
    let provider = Provider::open();
    let server = Server::start_public(&provider.settings());
    let (one, other) = (Login::begin(&server), Login::begin(&server));
    let state = &one.query["state"];
    for (cookie, query) in [
        (&other.cookie, format!("code=x&state={state}")),
        (&one.cookie, "code=x&state=unknown".to_owned()),
        (&one.cookie, "code=x".to_owned()),
        (&"x=y".to_owned(), format!("code=x&state={state}")),
    ] {
        let login = Login { cookie: cookie.clone(), query: HashMap::new() };
        assert_eq!(login.back(&server, &query), ("unknown".to_owned(), None), "{query}");
    }
    let claims = one.claims(&provider, &["staff"]);
    assert_eq!(one.end(&server, &provider, claims.clone()).0, "done", "it still waited");
    assert_eq!(one.end(&server, &provider, claims), ("unknown".to_owned(), None), "again");

    let query = format!("error=access_denied&state={}", other.query["state"]);
    assert_eq!(other.back(&server, &query), ("declined".to_owned(), None));
    let nobody = Login::begin(&server);
    let claims = nobody.claims(&provider, &["guests"]);
    assert_eq!(nobody.end(&server, &provider, claims), ("no-role".to_owned(), None));
    let late = Login::begin(&server);
    let query = format!("code=never-given&state={}", late.query["state"]);
    assert_eq!(late.back(&server, &query), ("provider".to_owned(), None));
    let mixed = Login::begin(&server);
    let query = format!("code=x&iss=https://evil.example&state={}", mixed.query["state"]);
    assert_eq!(mixed.back(&server, &query), ("provider".to_owned(), None));
}

#[test]
fn keys_that_are_rotated_are_read_again_and_not_for_every_stranger() {
    let provider = Provider::open();
    let server = Server::start_public(&provider.settings());
    let log_in = || {
        let login = Login::begin(&server);
        let claims = login.claims(&provider, &["staff"]);
        login.end(&server, &provider, claims).0
    };
    assert_eq!(log_in(), "done");
    provider.rotate("second", true);
    assert_eq!(log_in(), "done", "{}", server.log());
    provider.rotate("third", false);
    assert_eq!((log_in(), log_in()), ("token".to_owned(), "token".to_owned()));
    let asked = provider.inside(|p| p.asked.iter().filter(|a| *a == "/keys").count());
    assert_eq!(asked, 2, "unknown keys are asked for once in ten seconds");
}

#[test]
fn a_wrong_or_unreachable_provider_is_reported_by_the_page_and_by_doctor() {
    let provider = Provider::open();
    provider.inside(|p| p.metadata = json!({ "issuer": "https://other.example" }));
    let server = Server::start_public(&provider.settings());
    let answer = server.web_with("GET", "/api/v1/session/oidc", "", "");
    assert_eq!(came_of(&answer), ("provider".to_owned(), None));
    server.logs("is of another issuer");
    let config = server.config();
    let doctor = || Server::offline(&["doctor", "-c", config.to_str().expect("UTF-8")]).out;
    let said = doctor();
    assert!(said.contains("doctor::oidc") && said.contains("another issuer"), "{said}");
    provider.inside(|p| p.metadata = json!({}));
    let said = doctor();
    assert!(said.contains("is an OpenID provider"), "{said}");
    // Where none is configured, there is nothing to log in at.
    let without = Server::start("");
    let answer = without.web_with("GET", "/api/v1/session/oidc", "", "");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(without.web_with("GET", "/settings.json", "", "").contains("\"oidc\":null"));
}
