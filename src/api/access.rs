//! Who may do what: bearer tokens for programs, sessions for people, and the control socket, whose
//! file is its own guard.

use super::guesses::{Guesses, PasswordGuesses};
use super::sessions::{Key, LoggedIn, Sessions};
use super::{ApiState, Problem};
use crate::config::{self, ApiToken, Scope};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

/// Marks a request of the control socket: whoever may open the file may do anything.
#[derive(Clone, Copy)]
pub(crate) struct ByControlSocket;

/// How a request came to the web port.
#[derive(Clone, Copy)]
pub(crate) struct Visit {
    /// The address of the client, behind trusted proxies.
    pub source: IpAddr,
    /// The browser's own connection is encrypted.
    pub secure: bool,
    /// The page that makes it, if a browser names it.
    pub page: PageOrigin,
}

/// The page that makes a request, by its `Origin`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PageOrigin {
    Own,
    Other,
    /// No browser's page, or one that only reads.
    Unnamed,
}

/// By what a request is let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    Control,
    Token(ApiToken),
    Session(Key, LoggedIn),
    /// It only wants to log in.
    Stranger,
}

impl Standing {
    /// What it may do; `None`: nothing.
    pub(crate) fn scope(&self) -> Option<Scope> {
        match self {
            Standing::Control => Some(Scope::Admin),
            Standing::Token(token) => Some(token.scope),
            Standing::Session(_, who) => Some(who.scope),
            Standing::Stranger => None,
        }
    }
}

#[derive(Default)]
struct Held {
    tokens: Vec<ApiToken>,
    guesses: Guesses,
    sessions: Sessions,
    passwords: PasswordGuesses,
    oidc: Option<Arc<config::OidcSettings>>,
}

/// Tokens, users and sessions of a node.
pub(crate) struct Access {
    held: Mutex<Held>,
    /// Notified whenever a reader may have lost the right to continue.
    changed: watch::Sender<()>,
}

impl Access {
    /// Lets in whom the configuration names.
    pub(crate) fn new(config: &config::Api) -> Access {
        let access = Access { held: Mutex::default(), changed: watch::Sender::new(()) };
        access.set(config);
        access
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes other tokens and users from now on.
    pub(crate) fn set(&self, config: &config::Api) {
        let mut held = self.held();
        held.tokens.clone_from(&config.tokens);
        held.sessions.set(config);
        held.oidc.clone_from(&config.oidc);
        drop(held);
        self.changed.send_replace(());
    }

    /// Where people log in besides, as the configuration says.
    pub(crate) fn oidc(&self) -> Option<Arc<config::OidcSettings>> {
        self.held().oidc.clone()
    }

    /// One more token, until the next [`set`](Self::set).
    pub(crate) fn add(&self, token: ApiToken) {
        self.held().tokens.push(token);
    }

    /// Works with the sessions; whoever reads in a session that it ends is notified.
    pub(crate) fn sessions<T>(&self, work: impl FnOnce(&mut Sessions) -> T) -> T {
        let done = work(&mut self.held().sessions);
        self.changed.send_replace(());
        done
    }

    /// Works with the passwords tried.
    pub(crate) fn passwords<T>(&self, work: impl FnOnce(&mut PasswordGuesses) -> T) -> T {
        work(&mut self.held().passwords)
    }

    /// Waits until whoever was let in by `standing` would not be any more.
    pub(crate) async fn lost(&self, standing: &Standing) {
        let mut changed = self.changed.subscribe();
        loop {
            let until = match standing {
                Standing::Token(token) if self.held().tokens.contains(token) => None,
                Standing::Session(key, _) => {
                    match self.held().sessions.find(Instant::now(), *key) {
                        Some(who) => Some(who.until),
                        None => return,
                    }
                }
                Standing::Control => None,
                Standing::Token(_) | Standing::Stranger => return,
            };
            let end = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = end => {}
                change = changed.changed() => if change.is_err() {
                    return;
                },
            }
        }
    }

    /// The seconds a source must wait that has guessed too many tokens.
    fn braked(&self, source: IpAddr) -> Option<u64> {
        self.held().guesses.braked(Instant::now(), source)
    }

    /// The token that `text` is. Every known one is compared, each in constant time.
    fn token(&self, text: &str, source: Option<IpAddr>) -> Option<ApiToken> {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let fits = |t: &ApiToken| verify_slices_are_equal(hash.as_ref(), &t.sha256[..]).is_ok();
        let mut held = self.held();
        let found = held.tokens.iter().fold(None, |found, t| if fits(t) { Some(t) } else { found });
        let found = found.cloned();
        if let Some(source) = source {
            if found.is_some() {
                held.guesses.right(Instant::now(), source);
            } else if held.guesses.wrong(source) {
                tracing::warn!(%source, "a wrong API token; after 20 in a minute the source must \
                    wait");
            }
        }
        found
    }

    /// By what a request of the web port is let in.
    fn identify(&self, visit: Option<Visit>, request: &Request) -> Result<Standing, AccessRefusal> {
        let headers = request.headers();
        let source = visit.map(|v| v.source);
        if headers.contains_key(header::AUTHORIZATION) {
            let bearer = headers[header::AUTHORIZATION].to_str().ok();
            let bearer =
                bearer.and_then(|v| v.strip_prefix("Bearer ")).ok_or(AccessRefusal::Unknown)?;
            if let Some(seconds) = source.and_then(|s| self.braked(s)) {
                return Err(AccessRefusal::Braked(seconds));
            }
            let token = self.token(bearer.trim(), source).ok_or(AccessRefusal::Unknown)?;
            return Ok(Standing::Token(token));
        }
        if is_session(request) && request.method() == Method::POST {
            return Ok(Standing::Stranger);
        }
        let keys: Vec<Key> = cookies(headers, visit.is_some_and(|v| v.secure)).collect();
        let now = Instant::now();
        let mut held = self.held();
        let found = keys.iter().find_map(|key| Some((*key, held.sessions.touch(now, *key)?)));
        let Some((key, who)) = found else {
            return Err(if keys.is_empty() { AccessRefusal::Unknown } else { AccessRefusal::Over });
        };
        // A page of a neighbour's would send the cookie along.
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let own = visit
            .is_some_and(|v| v.page == PageOrigin::Own || (reads && v.page != PageOrigin::Other));
        if own { Ok(Standing::Session(key, who)) } else { Err(AccessRefusal::OtherPage) }
    }
}

/// The name of the cookie. Its prefix has browsers take it by TLS from this very host only (RFC
/// 6265bis §4.1.3.2), so no neighbour can put one of its own in its place.
pub(crate) fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-webtrunk" } else { "webtrunk" }
}

/// A request's cookies, by name and value.
pub(super) fn cookie_pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    all.flat_map(|v| v.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

/// What a request's cookies of ours say. More than one may be there: somebody in a domain above can
/// add others. Whether something in front adds TLS, a request that only reads does not say.
fn cookies(headers: &HeaderMap, secure: bool) -> impl Iterator<Item = Key> {
    let ours =
        move |name: &str| name == cookie_name(true) || (!secure && name == cookie_name(false));
    cookie_pairs(headers)
        .filter(move |(name, _)| ours(name))
        .map(|(_, value)| Key::of(value))
        .take(4)
}

/// The path below `/api/v1`, as the routes have it.
fn path_of(request: &Request) -> &str {
    let path = request.uri().path();
    path.strip_prefix("/api/v1").unwrap_or(path)
}

fn is_session(request: &Request) -> bool {
    path_of(request) == "/session"
}

/// Why a request is not let in.
enum AccessRefusal {
    /// Too many wrong tokens: the seconds to wait.
    Braked(u64),
    /// Neither a token nor a session of ours.
    Unknown,
    /// A session that has ended.
    Over,
    /// A cookie of ours, sent by a page of somebody else.
    OtherPage,
}

impl IntoResponse for AccessRefusal {
    fn into_response(self) -> Response {
        let (detail, fix) = match self {
            AccessRefusal::Braked(seconds) => {
                let detail = format!("too many wrong tokens from this address: wait {seconds} s");
                let fix = "use the right token; `webtrunk api-token NAME` makes one";
                return wait(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).fix(fix), seconds);
            }
            AccessRefusal::OtherPage => {
                let detail =
                    "a session is for the gateway's own page; this request came from elsewhere";
                return Problem::new(StatusCode::FORBIDDEN, detail)
                    .fix("programs and other pages use a token: `webtrunk api-token NAME`")
                    .into_response();
            }
            AccessRefusal::Unknown => (
                "a login or a bearer token is needed here",
                "log in on the page, or make a token with `webtrunk api-token NAME` and send it as \
                 Authorization: Bearer …",
            ),
            AccessRefusal::Over => ("this session has ended", "log in again"),
        };
        let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).fix(fix).into_response();
        let scheme = HeaderValue::from_static("Bearer realm=\"webtrunk\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        response
    }
}

/// The refusal, with the time after which to ask again.
pub(crate) fn wait(problem: Problem, seconds: u64) -> Response {
    let mut response = problem.into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The scope a request needs; `None`: any. Names that people chose stand in paths, so nothing is
/// looked for within them.
fn needed(request: &Request) -> Option<Scope> {
    let path = path_of(request);
    let is_below = |root: &str| {
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let steers = ["/drain", "/reload", "/trunks", "/registrations", "/config"];
    Some(match *request.method() {
        _ if is_session(request) => return None,
        Method::GET | Method::HEAD if is_below("/config") => Scope::Admin,
        Method::GET | Method::HEAD => Scope::Read,
        _ if path == "/dialplan/test" => Scope::Read,
        _ if steers.iter().any(|root| is_below(root)) => Scope::Admin,
        _ => Scope::Write,
    })
}

fn may_not(standing: &Standing, needed: Scope) -> Problem {
    let may = standing.scope().map_or("nothing", Scope::as_str);
    let needed = needed.as_str();
    let (who, fix) = match standing {
        Standing::Session(_, who) => {
            (who.user.as_str(), "log in as somebody who may, or raise the scope in [api.user.…]")
        }
        _ => ("this token", "use another token, or raise its scope in [api.token.…]"),
    };
    let detail = format!("{who} may {may}, and this needs {needed}");
    Problem::new(StatusCode::FORBIDDEN, detail).fix(fix)
}

/// Lets a request in, or not.
pub(crate) async fn guard(
    State(api): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Response {
    let visit = request.extensions().get::<Visit>().copied();
    let standing = match request.extensions().get::<ByControlSocket>() {
        Some(_) => Standing::Control,
        None => match api.access.identify(visit, &request) {
            Ok(standing) => standing,
            Err(refusal) => return refusal.into_response(),
        },
    };
    if let Some(needed) = needed(&request)
        && standing.scope().is_none_or(|scope| scope < needed)
    {
        return may_not(&standing, needed).into_response();
    }
    request.extensions_mut().insert(standing);
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    /// What is asked of a request, by its method and path.
    fn asked(method: &str, path: &str) -> Option<Scope> {
        let request = Request::builder().method(method).uri(path).body(Body::empty());
        needed(&request.expect("a request"))
    }

    #[test]
    fn a_scope_is_asked_by_the_route_and_not_by_the_names_in_it() {
        for (method, path, scope) in [
            ("GET", "/session", None),
            ("POST", "/session", None),
            ("DELETE", "/session", None),
            ("DELETE", "/registrations/session", Some(Scope::Admin)),
            ("POST", "/trunks/x/session", Some(Scope::Admin)),
            ("POST", "/calls/session", Some(Scope::Write)),
            ("DELETE", "/calls/session", Some(Scope::Write)),
            ("GET", "/calls/session", Some(Scope::Read)),
            ("POST", "/x/dialplan/test", Some(Scope::Write)),
            ("POST", "/dialplan/test", Some(Scope::Read)),
            ("GET", "/config", Some(Scope::Admin)),
            ("HEAD", "/config", Some(Scope::Admin)),
            ("GET", "/config/sources", Some(Scope::Admin)),
            ("POST", "/config/check", Some(Scope::Admin)),
            ("GET", "/schemas/config", Some(Scope::Read)),
            ("GET", "/trunks/config", Some(Scope::Read)),
            ("POST", "/drain", Some(Scope::Admin)),
            ("DELETE", "/drain", Some(Scope::Admin)),
            ("POST", "/reload", Some(Scope::Admin)),
            ("POST", "/trunks/x/disable", Some(Scope::Admin)),
            ("DELETE", "/registrations/alice", Some(Scope::Admin)),
            ("POST", "/calls", Some(Scope::Write)),
            ("POST", "/calls/drain/hold", Some(Scope::Write)),
            ("POST", "/credentials", Some(Scope::Write)),
            ("POST", "/webhooks/session/resend", Some(Scope::Write)),
        ] {
            assert_eq!(asked(method, path), scope, "{method} {path}");
            assert_eq!(asked(method, &format!("/api/v1{path}")), scope, "{method} {path}");
        }
    }

    #[test]
    fn only_who_logs_in_is_a_stranger_that_may_ask() {
        let access = Access::new(&config::Api::default());
        for (method, path, may) in [
            ("POST", "/session", true),
            ("GET", "/session", false),
            ("POST", "/registrations/session", false),
            ("POST", "/calls/session", false),
        ] {
            let request = Request::builder().method(method).uri(path).body(Body::empty());
            let standing = access.identify(None, &request.expect("a request"));
            assert_eq!(matches!(standing, Ok(Standing::Stranger)), may, "{method} {path}");
        }
    }
}
