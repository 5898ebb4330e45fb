//! Logging in to the console at an OpenID provider: the Authorization Code Flow with PKCE (OpenID
//! Connect Core §3.1, RFC 7636, RFC 9700).
//!
//! What a login waits for is kept here, bounded and for minutes, and a cookie binds it to the
//! browser that began it. What comes of it is a session like any other.

use super::access::{Visit, cookie_name, cookie_pairs};
use super::login::{session_cookie, source_of, unguessable};
use super::sessions::Key;
use super::{ApiState, Problem};
use crate::address::network_of;
use crate::config::{OidcSettings, Scope};
use crate::errors::Code;
use crate::gateway::token::{TokenError, TokenKeys};
use crate::log_limit::{self, Level, LineClass};
use crate::printable::brief;
use crate::sip::digest::Secret;
use crate::webhook::client::{allowed, client, send};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use oauth2::basic::{BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenType};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EmptyExtraTokenFields,
    EndpointNotSet, EndpointSet, ExtraTokenFields, HttpRequest, HttpResponse, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RequestTokenError, StandardRevocableToken,
    StandardTokenIntrospectionResponse, StandardTokenResponse, TokenUrl,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long somebody may take to log in at the provider.
const PATIENCE: Duration = Duration::from_secs(600);
/// Logins under way, in all and of one network; the oldest makes room.
const MOST_LOGINS: usize = 1_000;
const MOST_OF_SOURCE: usize = 20;
/// How long an answer of the provider is waited for.
const LIMIT: Duration = Duration::from_secs(5);
/// How long its description and its keys are believed, and after which time keys are read again for
/// one that is unknown.
const FRESH: Duration = Duration::from_secs(600);
const KEYS_AGAIN: Duration = Duration::from_secs(10);
/// A provider that was not to be had is not asked again so soon: anybody can begin a login.
const AWAY: Duration = Duration::from_secs(3);
/// Longest name that is shown.
const LONGEST_NAME: usize = 64;
/// Where the provider sends people back to, below `web.public_url`.
const CALLBACK: &str = "/api/v1/session/oidc/callback";

/// What the provider says of itself (OpenID Connect Discovery §3).
#[derive(Deserialize, Debug)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

#[derive(Debug)]
struct KnownProvider {
    of: Arc<OidcSettings>,
    metadata: Arc<Metadata>,
    keys: Arc<TokenKeys>,
    at: Instant,
    /// When the keys were read again last for one that was unknown.
    again: Option<Instant>,
}

/// A login that waits for the provider.
#[derive(Debug)]
struct WaitingLogin {
    began: Instant,
    source: IpAddr,
    /// What the cookie of the browser that began it hashes to.
    browser: Key,
    nonce: String,
    verifier: PkceCodeVerifier,
    of: Arc<OidcSettings>,
}

/// What was found out of a provider last.
#[derive(Default)]
struct LastLook {
    known: Option<KnownProvider>,
    /// Why nothing was, and when.
    failed: Option<(Arc<OidcSettings>, String, Instant)>,
}

/// The provider as it is known, and who logs in there.
#[derive(Default)]
pub(crate) struct Provider {
    asked: tokio::sync::Mutex<LastLook>,
    waiting: Mutex<HashMap<String, WaitingLogin>>,
}

/// Why a login failed: a name for the page, a text for the log.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// Nothing is known of this login, or another browser began it.
    Unknown,
    /// The person or the provider did not want it.
    Declined(String),
    /// The provider does not answer, or not as it should.
    Provider(String),
    /// The token is not one to believe.
    Token(String),
    /// The user has no role here.
    NoRole(String),
}

impl Refused {
    fn name(&self) -> &'static str {
        match self {
            Refused::Unknown => "unknown",
            Refused::Declined(_) => "declined",
            Refused::Provider(_) => "provider",
            Refused::Token(_) => "token",
            Refused::NoRole(_) => "no-role",
        }
    }

    fn why(&self) -> &str {
        match self {
            Refused::Unknown => "nobody waits for it",
            Refused::Declined(why)
            | Refused::Provider(why)
            | Refused::Token(why)
            | Refused::NoRole(why) => why,
        }
    }
}

#[derive(Deserialize, Serialize, Debug)]
struct IdToken {
    id_token: String,
}
impl ExtraTokenFields for IdToken {}

type TokenResponse = StandardTokenResponse<IdToken, BasicTokenType>;
type OidcClient = oauth2::Client<
    BasicErrorResponse,
    TokenResponse,
    StandardTokenIntrospectionResponse<EmptyExtraTokenFields, BasicTokenType>,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

async fn read(url: &str, settings: &OidcSettings) -> Result<String, String> {
    let reason = |e: crate::webhook::client::Failure| e.why;
    let target = allowed(url, settings.allow_private).map_err(reason)?;
    let client = client(settings.allow_private).map_err(|e| format!("{e:#}"))?;
    send(client.get(target).timeout(LIMIT).header("accept", "application/json"))
        .await
        .map_err(|e| format!("{url}: {e}"))
}

/// Reads what a provider says of itself; its name must be the one that was asked for (§4.3).
///
/// # Errors
/// It is not to be had, or is not one.
async fn discover(settings: &OidcSettings) -> Result<Metadata, String> {
    let issuer = settings.issuer.trim_end_matches('/');
    let url = format!("{issuer}/.well-known/openid-configuration");
    let text = read(&url, settings).await?;
    let metadata: Metadata = serde_json::from_str(&text)
        .map_err(|e| format!("{url} is no description of a provider: {e}"))?;
    if metadata.issuer.trim_end_matches('/') != issuer {
        return Err(format!("{url} is of another issuer, {:?}", metadata.issuer));
    }
    let named = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
    for url in named {
        if !url.starts_with("https://") && !settings.allow_private {
            return Err(format!("{url} is no https URL"));
        }
    }
    Ok(metadata)
}

async fn keys(metadata: &Metadata, settings: &OidcSettings) -> Result<Arc<TokenKeys>, String> {
    let text = read(&metadata.jwks_uri, settings).await?;
    TokenKeys::parse(&text).map(Arc::new).map_err(|why| format!("{}: {why}", metadata.jwks_uri))
}

async fn look(settings: &OidcSettings) -> Result<(Arc<Metadata>, Arc<TokenKeys>), String> {
    let metadata = Arc::new(discover(settings).await?);
    let keys = keys(&metadata, settings).await?;
    Ok((metadata, keys))
}

/// Looks at a provider as a login would: what it says of itself, and its keys.
///
/// # Errors
/// Why nobody can log in.
pub async fn probe(settings: &OidcSettings) -> Result<(), String> {
    look(settings).await.map(drop)
}

impl Provider {
    /// What is known of the provider, read again after a while.
    async fn known(
        &self,
        settings: &Arc<OidcSettings>,
    ) -> Result<(Arc<Metadata>, Arc<TokenKeys>), String> {
        let mut asked = self.asked.lock().await;
        let fresh = |k: &&KnownProvider| k.of == *settings && k.at.elapsed() < FRESH;
        if let Some(known) = asked.known.as_ref().filter(fresh) {
            return Ok((known.metadata.clone(), known.keys.clone()));
        }
        let lately =
            |f: &&(Arc<OidcSettings>, String, Instant)| f.0 == *settings && f.2.elapsed() < AWAY;
        if let Some((_, why, _)) = asked.failed.as_ref().filter(lately) {
            return Err(why.clone());
        }
        match look(settings).await {
            Ok((metadata, keys)) => {
                let (of, at) = (settings.clone(), Instant::now());
                let (metadata_of, keys_of) = (metadata.clone(), keys.clone());
                asked.known = Some(KnownProvider { of, metadata, keys, at, again: None });
                asked.failed = None;
                Ok((metadata_of, keys_of))
            }
            Err(why) => {
                asked.failed = Some((settings.clone(), why.clone(), Instant::now()));
                Err(why)
            }
        }
    }

    /// The keys, read anew for one that was unknown, unless that was done a moment ago.
    async fn newer_keys(&self) -> Result<Option<Arc<TokenKeys>>, String> {
        let mut asked = self.asked.lock().await;
        let lately = |k: &KnownProvider| k.again.is_some_and(|again| again.elapsed() < KEYS_AGAIN);
        let Some(known) = asked.known.as_mut().filter(|k| !lately(k)) else { return Ok(None) };
        known.again = Some(Instant::now());
        known.keys = keys(&known.metadata, &known.of).await?;
        Ok(Some(known.keys.clone()))
    }

    fn wait_for(&self, state: String, login: WaitingLogin) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, w| w.began.elapsed() < PATIENCE);
        make_room(&mut waiting, |w| w.source == login.source, MOST_OF_SOURCE);
        make_room(&mut waiting, |_| true, MOST_LOGINS);
        waiting.insert(state, login);
    }

    /// The login of this state, which nobody can ask for again.
    fn take(&self, state: &str, browser: Option<Key>) -> Option<WaitingLogin> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.get(state).filter(|w| browser == Some(w.browser))?;
        waiting.remove(state).filter(|w| w.began.elapsed() < PATIENCE)
    }
}

fn make_room(
    waiting: &mut HashMap<String, WaitingLogin>,
    of: impl Fn(&WaitingLogin) -> bool,
    most: usize,
) {
    while waiting.values().filter(|w| of(w)).count() >= most {
        let oldest = waiting.iter().filter(|(_, w)| of(w)).min_by_key(|(_, w)| w.began);
        let Some(state) = oldest.map(|(state, _)| state.clone()) else { return };
        waiting.remove(&state);
    }
}

fn oauth(settings: &OidcSettings, metadata: &Metadata) -> Result<OidcClient, String> {
    let bad = |e: oauth2::url::ParseError| e.to_string();
    let made = oauth2::Client::new(ClientId::new(settings.client_id.clone()))
        .set_auth_uri(AuthUrl::new(metadata.authorization_endpoint.clone()).map_err(bad)?)
        .set_token_uri(TokenUrl::new(metadata.token_endpoint.clone()).map_err(bad)?)
        .set_redirect_uri(RedirectUrl::new(format!("{}{CALLBACK}", settings.page)).map_err(bad)?);
    let methods = &metadata.token_endpoint_auth_methods_supported;
    let takes = |method: &str| methods.iter().any(|m| m == method);
    // Basic by default (OpenID Connect Discovery §3).
    let body = !takes("client_secret_basic") && takes("client_secret_post");
    let made = made.set_auth_type(if body { AuthType::RequestBody } else { AuthType::BasicAuth });
    Ok(match &settings.client_secret {
        Some(secret) => made.set_client_secret(ClientSecret::new(secret.reveal().to_owned())),
        None => made,
    })
}

/// The cookie that binds a login to its browser; it comes along when the provider sends people
/// back.
fn cookie(secure: bool, value: &str) -> String {
    let only = if secure { "; Secure" } else { "" };
    let age = if value.is_empty() { 0 } else { PATIENCE.as_secs() };
    let name = cookie_name(secure);
    format!("{name}-login={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}{only}")
}

fn browser_of(headers: &HeaderMap, secure: bool) -> Option<Key> {
    let wanted = format!("{}-login", cookie_name(secure));
    cookie_pairs(headers).find(|(name, _)| *name == wanted).map(|(_, value)| Key::of(value))
}

fn led_to(to: &str, cookies: &[String]) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    if let Ok(to) = HeaderValue::from_str(to) {
        headers.insert(header::LOCATION, to);
    }
    for cookie in cookies.iter().filter_map(|c| HeaderValue::from_str(c).ok()) {
        headers.append(header::SET_COOKIE, cookie);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Back to the page, which says what came of it.
fn back(settings: &OidcSettings, came: &str, cookies: &[String]) -> Response {
    led_to(&format!("{}/?login={came}#/calls", settings.page), cookies)
}

/// GET /session/oidc
///
/// # Errors
/// The refusal to send.
pub(crate) async fn begin(
    State(api): State<ApiState>,
    visit: Option<Extension<Visit>>,
) -> Result<Response, Problem> {
    let Some(settings) = api.access.oidc() else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "there is no provider to log in at")
            .fix("[api.oidc] names one"));
    };
    let visit = visit.map(|v| v.0);
    let known = api.provider.known(&settings).await;
    let client = known.and_then(|(metadata, _)| oauth(&settings, &metadata));
    let client = match client {
        Ok(client) => client,
        Err(why) => {
            let class = LineClass::new("logins that the provider was not there for", Code::FINE);
            log_limit::tell(Level::Warn, class, || {
                format!("nobody can log in at {}: {why}", settings.issuer)
            });
            return Ok(back(&settings, "provider", &[]));
        }
    };
    let (state, nonce, browser) = (unguessable()?, unguessable()?, unguessable()?);
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let csrf = CsrfToken::new(state.clone());
    let mut request = client.authorize_url(|| csrf).set_pkce_challenge(challenge);
    for scope in &settings.scopes {
        request = request.add_scope(oauth2::Scope::new(scope.clone()));
    }
    let (url, _) = request.add_extra_param("nonce", nonce.clone()).url();
    let (browser_key, source) = (Key::of(&browser), network_of(source_of(visit)));
    let began = Instant::now();
    let login = WaitingLogin { began, source, browser: browser_key, nonce, verifier, of: settings };
    api.provider.wait_for(state, login);
    Ok(led_to(url.as_str(), &[cookie(visit.is_some_and(|v| v.secure), &browser)]))
}

/// What the provider sends people back with.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(crate) struct Returned {
    state: String,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

/// GET /session/oidc/callback
///
/// # Errors
/// The refusal to send.
pub(crate) async fn callback(
    State(api): State<ApiState>,
    visit: Option<Extension<Visit>>,
    Query(returned): Query<Returned>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Some(settings) = api.access.oidc() else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "there is no provider to log in at"));
    };
    let visit = visit.map(|v| v.0);
    let (secure, source) = (visit.is_some_and(|v| v.secure), source_of(visit));
    let over = cookie(secure, "");
    // A guess costs a request to the provider, so guesses are braked as passwords are.
    let who = format!("at the provider, from {source}");
    let tried = api.access.passwords(|p| p.try_one(Instant::now(), &who, source));
    let Ok(tell) = tried else { return Ok(back(&settings, "unknown", &[over])) };
    let login = api.provider.take(&returned.state, browser_of(&headers, secure));
    let login = login.filter(|login| login.of == settings).ok_or(Refused::Unknown);
    let known = match login {
        Ok(login) => known_person(&api, &settings, login, returned).await,
        Err(refused) => Err(refused),
    };
    match known {
        Ok((name, scope)) => {
            api.access.passwords(|p| p.right(Instant::now(), &who, source));
            let value = unguessable()?;
            let key = Key::of(&value);
            api.access.sessions(|s| s.begin_named(Instant::now(), &name, scope, key));
            tracing::info!(%source, "{name} has logged in to the console at {}", settings.issuer);
            Ok(back(&settings, "done", &[over, session_cookie(secure, &value)]))
        }
        Err(refused) => {
            // A request that matches nothing known is logged once; others come from many sources.
            if tell || refused != Refused::Unknown {
                let class = LineClass::new("logins at the provider that failed", Code::FINE);
                log_limit::tell(Level::Warn, class, || {
                    let why = brief(refused.why());
                    format!("no login at {} from {source}: {why}", settings.issuer)
                });
            }
            Ok(back(&settings, refused.name(), &[over]))
        }
    }
}

async fn known_person(
    api: &ApiState,
    settings: &Arc<OidcSettings>,
    login: WaitingLogin,
    returned: Returned,
) -> Result<(String, Scope), Refused> {
    if let Some(error) = returned.error {
        let error: String = error.chars().filter(|c| !c.is_control()).take(80).collect();
        return Err(Refused::Declined(format!("the provider said {error}")));
    }
    let code = returned.code.ok_or_else(|| Refused::Provider("it sent no code".to_owned()))?;
    let (metadata, keys) = api.provider.known(settings).await.map_err(Refused::Provider)?;
    // RFC 9207: the answer of one provider is not taken for another's.
    let named = returned.iss.as_deref().is_some_and(|iss| iss == metadata.issuer);
    if !named && (returned.iss.is_some() || metadata.authorization_response_iss_parameter_supported)
    {
        return Err(Refused::Provider("the answer is of another issuer".to_owned()));
    }
    let token = exchange(settings, &metadata, code, login.verifier).await?;
    let expected = ExpectedClaims { settings, issuer: &metadata.issuer, nonce: &login.nonce };
    let claims = match expected.claims(&token, &keys, Timestamp::now()) {
        Err(TokenError::UnknownKey(why)) => {
            let newer = api.provider.newer_keys().await.map_err(Refused::Provider)?;
            let Some(newer) = newer else { return Err(Refused::Token(why)) };
            expected.claims(&token, &newer, Timestamp::now())
        }
        other => other,
    };
    let claims = claims.map_err(|e| match e {
        TokenError::UnknownKey(why) | TokenError::Wrong(why) => Refused::Token(why),
    })?;
    let name = name_of(&claims);
    match role_of(&claims, settings) {
        Some(scope) => Ok((name, scope)),
        None => {
            let claim = &settings.roles_claim;
            Err(Refused::NoRole(format!("{name:?} has no role here by its claim {claim:?}")))
        }
    }
}

/// Changes the code into an ID token.
async fn exchange(
    settings: &OidcSettings,
    metadata: &Metadata,
    code: String,
    verifier: PkceCodeVerifier,
) -> Result<Secret, Refused> {
    let oauth = oauth(settings, metadata).map_err(Refused::Provider)?;
    let asked = oauth
        .exchange_code(AuthorizationCode::new(code))
        .set_pkce_verifier(verifier)
        .request_async(&|request: HttpRequest| carry(request, settings.allow_private))
        .await;
    let response = asked.map_err(|e| {
        Refused::Provider(match e {
            RequestTokenError::ServerResponse(error) => format!("it refused the code: {error}"),
            RequestTokenError::Request(Unreachable(why)) => why,
            // Neither shows what it could not read, which may hold a token.
            RequestTokenError::Parse(e, _) => format!("its answer has no ID token: {e}"),
            RequestTokenError::Other(why) => why,
        })
    })?;
    Ok(Secret::new(response.extra_fields().id_token.clone()))
}

#[derive(Debug)]
struct Unreachable(String);
impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for Unreachable {}

/// Carries a request of the `oauth2` crate to where it may go.
async fn carry(request: HttpRequest, allow_private: bool) -> Result<HttpResponse, Unreachable> {
    let (parts, body) = request.into_parts();
    let url = allowed(&parts.uri.to_string(), allow_private).map_err(|e| Unreachable(e.why))?;
    let client = client(allow_private).map_err(|e| Unreachable(format!("{e:#}")))?;
    let asked = client.request(parts.method, url).headers(parts.headers).body(body).timeout(LIMIT);
    let (status, answer) = match send(asked).await {
        Ok(answer) => (StatusCode::OK, answer),
        Err(failure) => match failure.status {
            Some(status) => (status, format!("{{\"error\": \"it answered {status}\"}}")),
            None => return Err(Unreachable(failure.why)),
        },
    };
    let mut response = HttpResponse::new(answer.into_bytes());
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

/// What an ID token must say (OpenID Connect Core §3.1.3.7).
struct ExpectedClaims<'a> {
    settings: &'a OidcSettings,
    issuer: &'a str,
    nonce: &'a str,
}

impl ExpectedClaims<'_> {
    fn claims(
        &self,
        token: &Secret,
        keys: &TokenKeys,
        now: Timestamp,
    ) -> Result<Value, TokenError> {
        let wrong = |why: &str| Err(TokenError::Wrong(why.to_owned()));
        let id = self.settings.client_id.as_str();
        let unix = now.as_second().unsigned_abs();
        let claims = keys.claims(token.reveal(), id, Some(self.issuer), unix)?;
        let nonce = claims["nonce"].as_str().unwrap_or_default();
        if verify_slices_are_equal(nonce.as_bytes(), self.nonce.as_bytes()).is_err() {
            return wrong("its nonce is not the one of this login");
        }
        let several = claims["aud"].as_array().is_some_and(|aud| aud.len() > 1);
        if (several || !claims["azp"].is_null()) && claims["azp"].as_str() != Some(id) {
            return wrong("it was issued to another client (azp)");
        }
        Ok(claims)
    }
}

/// The user's name, as the console and the log show it.
fn name_of(claims: &Value) -> String {
    let said = ["preferred_username", "email", "name", "sub"].iter().find_map(|claim| {
        let said = claims[claim].as_str()?.trim();
        (!said.is_empty()).then_some(said)
    });
    let shown = said.unwrap_or("somebody").chars().filter(|c| !c.is_control());
    shown.take(LONGEST_NAME).collect()
}

/// The most that one of the claim's values allows. A dot in the claim's name leads into an object.
fn role_of(claims: &Value, settings: &OidcSettings) -> Option<Scope> {
    let whole = claims.get(&settings.roles_claim);
    let found = whole.or_else(|| {
        settings.roles_claim.split('.').try_fold(claims, |value, part| value.get(part))
    })?;
    let one = std::slice::from_ref(found);
    let values = found.as_array().map_or(one, Vec::as_slice);
    let scope = |value: &Value| {
        let named = settings.roles.iter().filter(|(role, _)| value.as_str() == Some(role));
        named.map(|(_, scope)| *scope).max()
    };
    values.iter().filter_map(scope).max()
}

#[cfg(test)]
mod tests;
