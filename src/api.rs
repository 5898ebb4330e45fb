//! The API: one router behind two doors, the local control socket (no token) and the web port
//! (bearer tokens, and sessions of people who logged in).
//!
//! A handler never shares state with the core: it hands it a piece of work and awaits what that
//! returns. Errors are RFC 9457 problems with the code and the fix of the registry.

pub(crate) mod access;
pub(crate) mod across;
mod body;
pub(crate) mod calls;
pub(crate) mod events;
pub(crate) mod guesses;
mod idempotency;
pub(crate) mod listing;
pub(crate) mod login;
pub mod metrics;
mod nodes;
pub mod oidc;
pub mod openapi;
pub(crate) mod pcap;
pub(crate) mod reload;
pub mod schemas;
pub(crate) mod server;
pub(crate) mod sessions;
mod settings;
pub(crate) mod slices;
pub mod socket;
mod sources;
pub(crate) mod trunks;
pub(crate) mod view;

use crate::errors::Code;
use crate::gateway::Gateway;
use crate::transport::certificate::Certificates;
use crate::transport::nodes::NodeTls;
use crate::transport::{Arrival, Inbox, Work, WorkTurn};
use crate::worker::ports::PortRange;
use axum::Router;
use axum::extract::Request;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use events::Feed;
use idempotency::Begun;
use metrics::NodeMetrics;
use serde_json::json;
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// What handlers share.
#[derive(Clone)]
pub(crate) struct ApiState {
    /// Inputs of the core.
    pub inbox: Inbox,
    /// The events that clients listen to.
    pub feed: Arc<Feed>,
    /// The metrics of the node.
    pub metrics: Arc<NodeMetrics>,
    /// Who may do what.
    pub access: Arc<access::Access>,
    /// Checks the operators' passwords.
    pub passwords: Arc<login::Passwords>,
    /// Logs operators in by OpenID Connect.
    pub provider: Arc<oidc::Provider>,
    /// Reads the configuration again; `None` if it was not read from a file.
    pub reload: Option<reload::Reload>,
    /// The configuration file, if there is one.
    pub file: Option<std::path::PathBuf>,
    /// Calls begun by a request that may come again.
    pub begun: Arc<Mutex<Begun>>,
    /// Where records are searched.
    pub records: Option<crate::journal::search::RecordPlace>,
    /// How far their writing has come.
    pub written: Option<Arc<crate::journal::keeper::Progress>>,
    /// The trunk side's ports.
    pub ports: Arc<PortRange>,
    /// The certificates the listeners present.
    pub(crate) certificates: Certificates,
    /// What proves this gateway to the other nodes of its cluster.
    pub(crate) nodes: Option<NodeTls>,
}

/// A refusal of the API.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The status of the response.
    pub status: StatusCode,
    /// The error code, as in `errors.toml`.
    pub code: Code,
    /// What is wrong, as text.
    pub detail: String,
    /// What mends it, if that is not the code's own advice.
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

    /// A body that cannot be read.
    pub(crate) fn of_body(why: &JsonRejection) -> Problem {
        let status = match why {
            JsonRejection::MissingJsonContentType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            _ => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, body::fault(&why.body_text()))
    }

    /// A query that cannot be read.
    pub(crate) fn of_query(why: &QueryRejection) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, body::fault(&why.body_text()))
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
        let page = format!("/api/v1/errors/{}", self.code);
        let reason = self.status.canonical_reason().unwrap_or("refused");
        let body = json!({
            "type": entry.map_or("about:blank".to_owned(), |_| page),
            "title": entry.map_or(reason, |e| &e.title),
            "status": self.status.as_u16(), "detail": self.detail,
            "code": self.code.is_fault().then(|| self.code.to_string()),
            "fix": self.fix.or_else(|| entry.map(|e| e.fix.clone())),
        });
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string())
            .into_response()
    }
}

/// What handlers answer.
pub(crate) type ApiResult<T> = Result<T, Problem>;

impl ApiState {
    /// Has the core do `work`, and returns what came of it.
    ///
    /// # Errors
    /// The core has stopped.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Gateway, &mut WorkTurn<'_>) -> T + Send + 'static,
    ) -> ApiResult<T> {
        let (reply, answer) = oneshot::channel();
        let work = Work(Box::new(move |gateway, turn| drop(reply.send(work(gateway, turn)))));
        self.inbox.give(Arrival::Work(work)).await;
        answer
            .await
            .map_err(|_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping"))
    }
}

/// All routes under `/api/v1`.
pub(crate) fn router(api: ApiState) -> Router {
    let v1 = Router::new()
        .route("/calls", get(calls::list).post(calls::originate))
        .route("/calls/{id}", get(calls::show).delete(calls::hang_up))
        .route("/calls/{id}/dtmf", post(calls::dtmf))
        .route("/calls/{id}/transfer", post(calls::transfer))
        .route("/calls/{id}/hold", post(calls::hold).delete(calls::resume))
        .route("/calls/{id}/ladder", get(calls::ladder))
        .route("/calls/{id}/quality", get(calls::quality))
        .route("/calls/{id}/pcap", get(calls::pcap))
        .route("/session", get(login::show).post(login::log_in).delete(login::log_out))
        .route("/credentials", post(server::credentials))
        .route("/registrations", get(trunks::registrations))
        .route("/logins", get(trunks::logins))
        .route("/registrations/{user}", delete(trunks::disconnect))
        .route("/trunks", get(trunks::trunks))
        .route("/trunks/{name}", get(trunks::trunk))
        .route("/trunks/{name}/probe", post(trunks::probe))
        .route("/trunks/{name}/enable", post(trunks::enable))
        .route("/trunks/{name}/disable", post(trunks::disable))
        .route("/nodes", get(nodes::nodes))
        .route("/status", get(server::status))
        .route("/drain", post(server::drain).delete(server::end_drain))
        .route("/reload", post(reload::reload))
        .route("/config", get(server::config))
        .route("/config/sources", get(sources::sources))
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
        .layer(axum::middleware::from_fn(body::whole))
        .layer(axum::middleware::map_response(body::as_problem))
        .layer(axum::middleware::from_fn_with_state(api.clone(), across::answer))
        .layer(axum::middleware::from_fn_with_state(api.clone(), access::guard))
        // For browsers that nobody knows yet: what is below is not guarded.
        .route("/session/oidc", get(oidc::begin))
        .route("/session/oidc/callback", get(oidc::callback));
    Router::new().nest("/api/v1", v1).with_state(api)
}
