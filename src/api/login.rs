//! Logging in to the console and out again: a password for a session, kept by a cookie.

use super::access::{PageOrigin, Standing, Visit, cookie_name, wait};
use super::sessions::{Key, LoggedIn};
use super::{ApiResult, ApiState, Problem};
use crate::config::ApiUser;
use crate::config::password::{MAX_PASSWORD, PasswordHash, is_user_name};
use crate::sip::digest::Secret;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Json, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand_core::{OsRng, TryRngCore};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use std::time::Instant;
use tokio::sync::Semaphore;

/// Passwords checked at once, each in 19 MiB; besides those, one of somebody who has logged in from
/// the same address before, so that guesses of strangers do not keep people out.
const MAX_AT_ONCE: usize = 2;
/// Passwords of either kind that may wait for it.
const MAX_WAITING: usize = 16;

/// Checks passwords, on threads of their own, never more than a few at once.
pub(crate) struct Passwords {
    strangers: Lane,
    known: Lane,
}

/// Those who wait together: nobody in one takes a place in the other.
struct Lane {
    checked: Semaphore,
    waiting: Semaphore,
}

impl Lane {
    fn of(at_once: usize) -> Lane {
        Lane { checked: Semaphore::new(at_once), waiting: Semaphore::new(MAX_WAITING) }
    }
}

impl Default for Passwords {
    fn default() -> Passwords {
        Passwords { strangers: Lane::of(MAX_AT_ONCE), known: Lane::of(1) }
    }
}

/// Checked for a name that nobody has, so that the time tells nothing.
static NOBODY: LazyLock<Option<PasswordHash>> =
    LazyLock::new(|| PasswordHash::make("nobody's", *b"nobody's own sal").ok());

impl Passwords {
    /// Whether `password` is that of `hash`; `None` if too many are waiting already.
    async fn fits(
        &self,
        hash: Option<PasswordHash>,
        password: Secret,
        is_known: bool,
    ) -> Option<bool> {
        let lane = if is_known { &self.known } else { &self.strangers };
        let _waits = lane.waiting.try_acquire().ok()?;
        let _turn = lane.checked.acquire().await.ok()?;
        let check = tokio::task::spawn_blocking(move || {
            let exists = hash.is_some();
            let fits = hash.as_ref().or(NOBODY.as_ref()).map(|h| h.fits(password.reveal()));
            exists && fits == Some(true)
        });
        check.await.ok()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginBody {
    user: String,
    password: String,
}

fn shown(standing: &Standing, now: Instant) -> Value {
    let left = |who: &LoggedIn| who.until.saturating_duration_since(now).as_secs();
    let (by, user, ends) = match standing {
        Standing::Control => ("control", None, None),
        Standing::Token(token) => ("token", Some(&token.name), None),
        Standing::Session(_, who) => ("session", Some(&who.user), Some(left(who))),
        Standing::Stranger => ("nothing", None, None),
    };
    let scope = standing.scope().map(crate::config::Scope::as_str);
    json!({ "by": by, "user": user, "scope": scope, "ends_in_s": ends })
}

/// The cookie of a session, or what takes it away.
pub(super) fn session_cookie(secure: bool, value: &str) -> String {
    let only = if secure { "; Secure" } else { "" };
    let age = if value.is_empty() { "; Max-Age=0" } else { "" };
    format!("{}={value}; Path=/; HttpOnly; SameSite=Strict{only}{age}", cookie_name(secure))
}

fn with_cookie(secure: bool, value: &str, answer: Value) -> Response {
    let mut response = Json(answer).into_response();
    if let Ok(cookie) = HeaderValue::from_str(&session_cookie(secure, value)) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// POST /session
///
/// # Errors
/// The refusal to send.
pub(crate) async fn log_in(
    State(api): State<ApiState>,
    visit: Option<Extension<Visit>>,
    login: Result<Json<LoginBody>, JsonRejection>,
) -> Result<Response, Response> {
    let Json(LoginBody { user: name, password }) = login.map_err(|e| {
        Problem::of_body(&e).fix("send {\"user\": \"…\", \"password\": \"…\"}").into_response()
    })?;
    let password = Secret::new(password);
    let visit = visit.map(|v| v.0);
    if visit.is_some_and(|v| v.page == PageOrigin::Other) {
        let detail = "a page of another origin cannot log anybody in here";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail).into_response());
    }
    let wrong = || {
        Problem::new(StatusCode::UNAUTHORIZED, "no such user, or another password")
            .fix("`webtrunk user list` names who may log in, `webtrunk user password NAME` helps")
            .into_response()
    };
    if !is_user_name(&name) || password.reveal().len() > MAX_PASSWORD {
        return Err(wrong());
    }
    let source = source_of(visit);
    let tried = api.access.passwords(|p| p.try_one(Instant::now(), &name, source));
    let tell = tried.map_err(|seconds| {
        let detail = format!("too many wrong passwords: wait {seconds} s");
        wait(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail), seconds)
    })?;
    let (user, is_known) = (
        api.access.sessions(|s| s.user(&name).cloned()),
        api.access.passwords(|p| p.is_known(&name, source)),
    );
    let hash = user.as_ref().map(|u| u.hash.clone());
    let Some(fits) = api.passwords.fits(hash, password, is_known).await else {
        let detail = "too many passwords are being checked";
        return Err(wait(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail), 2));
    };
    let Some(user) = user.filter(|_| fits) else {
        if tell {
            tracing::warn!(
                %source,
                "a wrong password for the console; after 10 in a minute the source must wait"
            );
        }
        return Err(wrong());
    };
    let (standing, value) =
        begin(&api, &user).map_err(IntoResponse::into_response)?.ok_or_else(wrong)?;
    api.access.passwords(|p| p.right(Instant::now(), &name, source));
    tracing::info!(%source, "{name} has logged in to the console");
    let secure = visit.is_some_and(|v| v.secure);
    Ok(with_cookie(secure, &value, shown(&standing, Instant::now())))
}

/// What nobody guesses: of a session, or of a login at a provider.
pub(super) fn unguessable() -> ApiResult<String> {
    let mut bytes = [0; 32];
    OsRng.try_fill_bytes(&mut bytes).map_err(|_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the system gives no random bytes")
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Where somebody logs in from. Whoever may open the control socket may guess there.
pub(super) fn source_of(visit: Option<Visit>) -> IpAddr {
    visit.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |v| v.source)
}

/// A session of `user`, and what its cookie says; `None` if the password has changed meanwhile.
fn begin(api: &ApiState, user: &ApiUser) -> ApiResult<Option<(Standing, String)>> {
    let value = unguessable()?;
    let key = Key::of(&value);
    let who = api.access.sessions(|s| s.begin(Instant::now(), user, key));
    Ok(who.map(|who| (Standing::Session(key, who), value)))
}

/// GET /session
pub(crate) async fn show(Extension(standing): Extension<Standing>) -> Json<Value> {
    Json(shown(&standing, Instant::now()))
}

/// DELETE /session
pub(crate) async fn log_out(
    State(api): State<ApiState>,
    Extension(standing): Extension<Standing>,
    visit: Option<Extension<Visit>>,
) -> Response {
    let ended = match &standing {
        Standing::Session(key, who) => {
            tracing::info!("{} has logged out of the console", who.user);
            api.access.sessions(|s| s.end(*key))
        }
        _ => false,
    };
    with_cookie(visit.is_some_and(|v| v.secure), "", json!({ "ended": ended }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_for_the_page_alone() {
        assert_eq!(
            session_cookie(true, "x"),
            "__Host-webtrunk=x; Path=/; HttpOnly; SameSite=Strict; Secure"
        );
        assert_eq!(
            session_cookie(false, ""),
            "webtrunk=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
        );
    }

    #[tokio::test]
    async fn passwords_are_checked_a_few_at_once_and_the_rest_must_wait() {
        let passwords = Passwords::default();
        let hash = PasswordHash::make("right", [1; 16]).ok();
        let waiting = &passwords.strangers.waiting;
        let taken: Vec<_> =
            (0..MAX_WAITING).map(|_| waiting.try_acquire().expect("free")).collect();
        assert!(passwords.fits(None, Secret::new("x"), false).await.is_none());
        let known = passwords.fits(hash.clone(), Secret::new("right"), true).await;
        assert_eq!(known, Some(true), "who was here before waits for no stranger");
        drop(taken);
        assert_eq!(passwords.fits(hash.clone(), Secret::new("right"), false).await, Some(true));
        assert_eq!(passwords.fits(hash.clone(), Secret::new("wrong"), false).await, Some(false));
        assert_eq!(passwords.fits(None, Secret::new("nobody's"), false).await, Some(false));
        // Strangers who fill their lane keep nobody out who was here before.
        let busy = passwords.strangers.checked.acquire_many(MAX_AT_ONCE as u32).await;
        assert_eq!(passwords.fits(hash, Secret::new("right"), true).await, Some(true));
        drop(busy);
    }
}
