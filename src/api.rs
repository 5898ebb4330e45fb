//! The API: one router behind two doors, the local control socket (no token) and the web port
//! (bearer tokens).
//!
//! A handler never shares state with the core: it hands it a piece of work and awaits what that
//! returns. Errors are RFC 9457 problems with the code and the fix of the registry.

pub(crate) mod calls;
pub(crate) mod events;
pub(crate) mod guesses;
mod idempotency;
pub(crate) mod listing;
pub mod metrics;
pub mod openapi;
pub(crate) mod pcap;
pub mod schemas;
pub(crate) mod server;
pub mod socket;
pub(crate) mod trunks;
pub(crate) mod view;

use crate::config::{ApiToken, Config, Scope};
use crate::errors::Code;
use crate::gateway::Gateway;
use crate::transport::{Arrival, Inbox, Turn, Work};
use crate::worker::ports::PortRange;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use events::Feed;
use idempotency::Begun;
use metrics::Metrics;
use serde_json::json;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::oneshot;

/// What handlers share.
#[derive(Clone)]
pub(crate) struct Api {
    pub inbox: Inbox,
    pub feed: Arc<Feed>,
    pub metrics: Arc<Metrics>,
    pub tokens: Arc<Mutex<Vec<ApiToken>>>,
    pub guesses: Arc<Mutex<guesses::Guesses>>,
    pub reload: Option<server::Reload>,
    /// The configuration file, where there is one.
    pub file: Option<std::path::PathBuf>,
    /// Calls begun by a request that may come again.
    pub begun: Arc<Mutex<Begun>>,
    /// Where records are searched.
    pub records: Option<crate::journal::search::Place>,
    /// How far their writing has come.
    pub written: Option<Arc<crate::journal::keeper::Progress>>,
    /// The trunk side's ports.
    pub ports: Arc<PortRange>,
    /// When the web port's certificate ends, seconds since 1970.
    pub certificate_ends: Option<u64>,
}

/// Marks a request of the control socket: whoever may open the file may do anything.
#[derive(Clone, Copy)]
pub(crate) struct ByControlSocket;

/// A refusal of the API.
#[derive(Debug)]
pub(crate) struct Problem {
    pub status: StatusCode,
    pub code: Code,
    pub detail: String,
    pub fix: Option<String>,
}

impl Problem {
    /// A refusal with a sentence.
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem { status, code: Code::FINE, detail: detail.into(), fix: None }
    }

    /// Nothing of this name.
    pub(crate) fn missing(what: &str, name: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, format!("there is no {what} {name:?}"))
    }

    /// What to do about it.
    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Problem {
        self.fix = Some(fix.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let entry = self.code.entry();
        let body = json!({
            "type": entry.map_or_else(|| "about:blank".to_owned(), |_| format!("/api/v1/errors/{}", self.code)),
            "title": entry.map_or_else(|| self.status.canonical_reason().unwrap_or("refused").to_owned(), |e| e.title.clone()),
            "status": self.status.as_u16(), "detail": self.detail,
            "code": self.code.is_fault().then(|| self.code.to_string()),
            "fix": self.fix.or_else(|| entry.map(|e| e.fix.clone())),
        });
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string())
            .into_response()
    }
}

/// What handlers answer.
pub(crate) type Answer<T> = Result<T, Problem>;

impl Api {
    /// Has the core do `work`, and returns what came of it.
    ///
    /// # Errors
    /// The core has stopped.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Gateway, &mut Turn<'_>) -> T + Send + 'static,
    ) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        let work = Work(Box::new(move |gateway, turn| drop(reply.send(work(gateway, turn)))));
        self.inbox.give(Arrival::Work(work)).await;
        answer
            .await
            .map_err(|_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping"))
    }

    /// Takes other tokens from now on.
    pub(crate) fn set_tokens(&self, config: &Config) {
        *self.tokens.lock().unwrap_or_else(PoisonError::into_inner) = config.api.tokens.clone();
    }

    /// The seconds a source must wait that has guessed too many tokens.
    fn braked(&self, source: IpAddr) -> Option<u64> {
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        guesses.braked(Instant::now(), source)
    }

    fn note_token(&self, source: IpAddr, right: bool) {
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        if right {
            guesses.right(Instant::now(), source);
        } else if guesses.wrong(source) {
            tracing::warn!(%source, "a wrong API token; after 20 in a minute the source must wait");
        }
    }

    /// What the bearer of `token` may do. Every known token is compared, each in constant time.
    fn scope_of(&self, token: &str) -> Option<Scope> {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |t: &ApiToken| {
            bool::from(subtle::ConstantTimeEq::ct_eq(hash.as_ref(), t.sha256.as_slice()))
        };
        tokens.iter().fold(None, |found, t| if fits(t) { Some(t.scope) } else { found })
    }
}

/// The scope a request needs.
fn needed(method: &Method, path: &str) -> Scope {
    let steers = ["/drain", "/reload", "/trunks/", "/registrations/", "/config"];
    match *method {
        Method::GET if path.contains("/config") => Scope::Admin,
        Method::GET | Method::HEAD => Scope::Read,
        _ if path.ends_with("/dialplan/test") => Scope::Read,
        _ if steers.iter().any(|s| path.contains(s)) => Scope::Admin,
        _ => Scope::Write,
    }
}

async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let local = request.extensions().get::<ByControlSocket>().is_some();
    let mut granted = Scope::Admin;
    if !local {
        let bearer = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.strip_prefix("Bearer "));
        let needed = needed(request.method(), request.uri().path());
        let source = request.extensions().get::<guesses::Source>().map(|from| from.0);
        if let Some(seconds) = source.filter(|_| bearer.is_some()).and_then(|s| api.braked(s)) {
            let mut response = Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                format!("too many wrong tokens from this address: wait {seconds} s"),
            )
            .fix("use the right token; `webtrunk api-token NAME` makes one")
            .into_response();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            return response;
        }
        let scope = bearer.map(|token| api.scope_of(token.trim()));
        if let (Some(source), Some(scope)) = (source, scope) {
            api.note_token(source, scope.is_some());
        }
        match scope.flatten() {
            Some(scope) if scope >= needed => granted = scope,
            Some(scope) => {
                let detail =
                    format!("this token may {scope:?}, and this needs {needed:?}").to_lowercase();
                return Problem::new(StatusCode::FORBIDDEN, detail)
                    .fix("use another token, or raise its scope in [api.token.…]")
                    .into_response();
            }
            None => {
                let mut response = Problem::new(
                    StatusCode::UNAUTHORIZED,
                    "a bearer token is needed here",
                )
                .fix("`webtrunk api-token NAME` makes one; send it as Authorization: Bearer …")
                .into_response();
                response.headers_mut().insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer realm=\"webtrunk\""),
                );
                return response;
            }
        }
    }
    request.extensions_mut().insert(granted);
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// All routes under `/api/v1`.
pub(crate) fn router(api: Api) -> Router {
    let v1 = Router::new()
        .route("/calls", get(calls::list).post(calls::originate))
        .route("/calls/{id}", get(calls::show).delete(calls::hang_up))
        .route("/calls/{id}/dtmf", post(calls::dtmf))
        .route("/calls/{id}/transfer", post(calls::transfer))
        .route("/calls/{id}/hold", post(calls::hold).delete(calls::resume))
        .route("/calls/{id}/ladder", get(calls::ladder))
        .route("/calls/{id}/quality", get(calls::quality))
        .route("/calls/{id}/pcap", get(calls::pcap))
        .route("/credentials", post(server::credentials))
        .route("/registrations", get(trunks::registrations))
        .route("/registrations/{user}", delete(trunks::disconnect))
        .route("/trunks", get(trunks::trunks))
        .route("/trunks/{name}", get(trunks::trunk))
        .route("/trunks/{name}/probe", post(trunks::probe))
        .route("/trunks/{name}/enable", post(trunks::enable))
        .route("/trunks/{name}/disable", post(trunks::disable))
        .route("/status", get(server::status))
        .route("/drain", post(server::drain).delete(server::end_drain))
        .route("/reload", post(server::reload))
        .route("/config", get(server::config))
        .route("/config/dialplans", get(server::dialplan_files))
        .route("/config/check", post(server::check))
        .route("/dialplan", get(server::dialplan))
        .route("/dialplan/test", post(server::dialplan_test))
        .route("/errors", get(server::errors))
        .route("/errors/{code}", get(server::error))
        .route("/cdr", get(server::cdr))
        .route("/webhooks", get(server::webhooks))
        .route("/webhooks/{id}/resend", post(server::resend))
        .route("/events", get(events::stream))
        .route("/schemas", get(server::schemas))
        .route("/schemas/{name}", get(server::schema))
        .route("/openapi.json", get(openapi::document))
        .fallback(|request: Request| async move {
            Problem::new(StatusCode::NOT_FOUND, format!("there is no {}", request.uri().path()))
                .fix("GET /api/v1/openapi.json lists everything there is")
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path takes other methods")
        })
        .layer(axum::middleware::from_fn_with_state(api.clone(), guard));
    Router::new().nest("/api/v1", v1).with_state(api)
}
