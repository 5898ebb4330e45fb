//! `/status`, `/drain`, `/reload`, `/config`, `/dialplan`, `/errors`, `/cdr`: the gateway itself.

use super::access::Standing;
use super::calls::Asked;
use super::listing::{self, Listing};
use super::schemas::{NAMES, named};
use super::settings::effective_settings;
use super::{ApiResult, ApiState, Problem, slices};
use crate::config::check::{Inspected, inspect};
use crate::config::{Config, Scope, WebTls};
use crate::dialplan::{Attempt, Route};
use crate::errors::Code;
use crate::gateway::Input;
use crate::gateway::credential::DIRECT_LONGEST;
use crate::gateway::credential::{Credential, turn as turn_credentials};
use crate::gateway::operate::OperatorCommand;
use crate::gateway::overload::Overloaded;
use crate::journal::search::{self, BadCursor, Search};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::{Extension, Json};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// GET /schemas
pub(crate) async fn schemas() -> Json<Value> {
    Json(NAMES.iter().map(|(name, what)| json!({ "name": name, "of": what })).collect())
}

/// GET /schemas/{name}
pub(crate) async fn schema(Path(name): Path<String>) -> ApiResult<Json<Value>> {
    named(&name)
        .map(Json)
        .ok_or_else(|| Problem::missing("schema", &name).fix("GET /api/v1/schemas lists them"))
}

/// GET /status
pub(crate) async fn status(State(api): State<ApiState>) -> ApiResult<Json<Value>> {
    let trunks = slices::trunks(&api, |_, turn, (name, state, _)| {
        (name.clone(), json!(state.usable(turn.now).is_ok()))
    });
    let trunks: serde_json::Map<_, _> = trunks.await?.into_iter().collect();
    api.ask(move |gateway, turn| {
        let (g, (calls, bytes)) = (gateway.gauges(), gateway.recorder.size());
        let age = |start| turn.now.saturating_duration_since(start);
        Json(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "domain": gateway.config().domain,
            "draining": g.draining,
            "calls": g.calls,
            "calls_left": g.calls_left,
            "overloaded": g.overloaded.map(Overloaded::as_str),
            "longest_call_s": gateway.oldest_live().map(|start| age(start).as_secs()),
            "registrations": g.bindings,
            "flows": g.flows,
            "transactions": g.transactions,
            "subscriptions": g.subscriptions,
            "dropped": g.dropped,
            "refused": gateway.refused(),
            "limits": { "calls": gateway.config().limits.calls },
            "recorder": { "calls": calls, "bytes": bytes },
            "trunks": trunks,
        }))
    })
    .await
}

/// POST /drain
pub(crate) async fn drain(State(api): State<ApiState>) -> ApiResult<Json<Value>> {
    api.ask(|gateway, turn| gateway.handle(turn.now, Input::Drain, turn.out)).await?;
    status(State(api)).await
}

/// DELETE /drain
pub(crate) async fn end_drain(State(api): State<ApiState>) -> ApiResult<Json<Value>> {
    api.ask(|gateway, turn| {
        gateway.handle(turn.now, Input::Operate(OperatorCommand::EndDrain), turn.out)
    })
    .await?;
    status(State(api)).await
}

/// GET /config: what is in force, without secrets.
pub(crate) async fn config(State(api): State<ApiState>) -> ApiResult<Json<Value>> {
    api.ask(|gateway, _| Json(effective_settings(gateway.config()))).await
}

fn mark(problem: &crate::config::ConfigProblem) -> Value {
    let file = problem.source.as_ref().map(|s| &s.name);
    json!({
        "file": file,
        "line": problem.line(),
        "warning": problem.warning,
        "code": problem.code,
        "message": problem.message,
        "fix": problem.help
    })
}

/// A dialplan may hold the secrets of webhooks, several in a line, in any quotes of TOML, and in
/// several lines. What stands behind the key is masked also where it is no sound text.
fn masked(text: &str) -> String {
    const KEY: &str = "secret";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(KEY) {
        let (before, found) = rest.split_at(at + KEY.len());
        out.push_str(before);
        let value = found.trim_start_matches(['"', '\'', ' ', '\t']).strip_prefix('=');
        let Some(value) = value.map(|v| v.trim_start_matches([' ', '\t'])) else {
            rest = found;
            continue;
        };
        out.push_str(&found[..found.len() - value.len()]);
        let quotes = ["\"\"\"", "'''", "\"", "'"];
        rest = match quotes.into_iter().find(|quote| value.starts_with(quote)) {
            Some(quote) => after_string(&value[quote.len()..], quote),
            // The name of a file or of a variable.
            None if value.starts_with('{') => {
                rest = value;
                continue;
            }
            None => &value[value.find([',', '}', '\n']).unwrap_or(value.len())..],
        };
        out.push_str("\"***\"");
    }
    out.push_str(rest);
    out
}

/// What follows the end of a string of TOML.
fn after_string<'a>(text: &'a str, quote: &str) -> &'a str {
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some(after) = rest.strip_prefix(quote) {
            return after;
        }
        // A string of one line that does not end ends with it.
        if quote.len() == 1 && rest.starts_with('\n') {
            return rest;
        }
        let escapes = quote.starts_with('"') && rest.starts_with('\\');
        let mut characters = rest.chars();
        at += characters.next().map_or(0, char::len_utf8);
        at += characters.next().filter(|_| escapes).map_or(0, char::len_utf8);
    }
    ""
}

async fn inspected(
    api: &ApiState,
) -> ApiResult<(Vec<Inspected>, Vec<crate::config::ConfigProblem>)> {
    let Some(file) = api.file.clone() else {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "this gateway was started without a configuration file",
        )
        .fix("the demo's dialplans are built in; GET /dialplan shows their routes"));
    };
    tokio::task::spawn_blocking(move || inspect(&file))
        .await
        .map_err(|e| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

/// GET /config/dialplans
pub(crate) async fn dialplan_files(State(api): State<ApiState>) -> ApiResult<Json<Value>> {
    let (files, elsewhere) = inspected(&api).await?;
    let file = |f: &Inspected| {
        json!({
            "file": f.name,
            "text": masked(&f.text),
            "marks": f.problems.iter().map(mark).collect::<Vec<_>>()
        })
    };
    Ok(Json(json!({
        "files": files.iter().map(file).collect::<Vec<_>>(),
        "elsewhere": elsewhere.iter().map(mark).collect::<Vec<_>>()
    })))
}

/// POST /config/check
pub(crate) async fn check(State(api): State<ApiState>) -> ApiResult<Json<Value>> {
    let (files, elsewhere) = inspected(&api).await?;
    let all: Vec<&crate::config::ConfigProblem> =
        files.iter().flat_map(|f| &f.problems).chain(&elsewhere).collect();
    Ok(Json(json!({
        "sound": all.iter().all(|p| p.warning),
        "marks": all.into_iter().map(mark).collect::<Vec<_>>()
    })))
}

/// GET /dialplan
pub(crate) async fn dialplan(State(api): State<ApiState>) -> ApiResult<Json<Value>> {
    api.ask(|gateway, _| {
        let contexts = gateway.config().plan.written().map(|c| {
            json!({
                "context": c.name,
                "routes": c.routes.iter().map(|r| json!({
                    "route": r.name,
                    "steps": r.steps.iter().map(ToString::to_string).collect::<Vec<_>>()
                })).collect::<Vec<_>>(),
            })
        });
        Json(contexts.collect())
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Test {
    /// The number as it would be dialled.
    pub number: String,
    /// `user:NAME` or `trunk:NAME`; or `context`.
    #[serde(rename = "as")]
    pub caller: Option<String>,
    /// The dialplan to begin in.
    pub context: Option<String>,
}

/// POST /dialplan/test
pub(crate) async fn dialplan_test(
    State(api): State<ApiState>,
    test: Result<Json<Test>, axum::extract::rejection::JsonRejection>,
) -> ApiResult<Json<Value>> {
    let Json(test) = test.map_err(|e| {
        Problem::of_body(&e).fix("send {\"number\": \"+1…\", \"as\": \"user:alice\"}")
    })?;
    api.ask(move |gateway, turn| {
        let config = gateway.config();
        let by_caller = test.caller.as_deref().and_then(|c| match c.split_once(':')? {
            ("user", name) => config.users.get(name).map(|u| u.context.clone()),
            ("trunk", name) => config.trunks.get(name).and_then(|t| t.context.clone()),
            _ => None,
        });
        let caller = test.caller.as_deref();
        let user = caller.and_then(|c| config.users.get(c.strip_prefix("user:")?));
        let permits = user.map(|u| u.permits.clone()).unwrap_or_default();
        let context = test.context.or(by_caller).ok_or_else(|| {
            let why = format!("{} has no dialplan", caller.unwrap_or("nobody"));
            Problem::new(StatusCode::NOT_FOUND, why)
                .fix("name a caller by \"as\": \"user:NAME\" or \"trunk:NAME\", or a \"context\"")
        })?;
        let verdict = config.plan.route(&Attempt {
            context: &context,
            dialled: &test.number,
            unix: gateway.unix(turn.now),
            permits: &permits,
        });
        let verdict = verdict.ok_or_else(|| Problem::missing("context", &context))?;
        let considered = verdict
            .trace
            .iter()
            .map(|c| json!({ "route": c.route, "pattern": c.pattern, "why_not": c.why_not }))
            .collect::<Vec<_>>();
        let steps = |r: &Route| r.steps.iter().map(ToString::to_string).collect::<Vec<_>>();
        Ok(Json(json!({
            "dialled": test.number,
            "number": verdict.number,
            "context": context,
            "considered": considered,
            "route": verdict.route.as_ref().map(|r| &r.name),
            "steps": verdict.route.as_ref().map(steps),
        })))
    })
    .await?
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialWish {
    /// The user or visitor the credential is for.
    pub user: String,
    /// Such as `10m`.
    pub ttl: Option<String>,
    /// The dialplan of a visitor who is no configured user.
    pub context: Option<String>,
}

/// How many of the bodies that are taken here `bytes` can be.
#[cfg(any(test, fuzzing))]
pub(crate) fn bodies(bytes: &[u8]) -> usize {
    usize::from(serde_json::from_slice::<Test>(bytes).is_ok())
        + usize::from(serde_json::from_slice::<CredentialWish>(bytes).is_ok())
}

/// Where browsers register.
fn web_socket_of(config: &Config) -> String {
    if let Some(url) = &config.public_url {
        // http becomes ws, and https wss.
        return format!("ws{}/sip", url.trim_start_matches("http"));
    }
    let (scheme, usual) = if config.web_tls == WebTls::Off { ("ws", 80) } else { ("wss", 443) };
    match config.web_listen.port() {
        port if port == usual => format!("{scheme}://{}/sip", config.domain),
        port => format!("{scheme}://{}:{port}/sip", config.domain),
    }
}

/// The TURN servers of a credential, as `RTCPeerConnection` takes them.
fn turn_servers(config: &Config, expires: u64, user: &str) -> Vec<Value> {
    let servers = config.credentials.iter().flat_map(|s| &s.turn);
    let server = servers.map(|t| {
        let (username, password) = turn_credentials(&t.secret, expires, user);
        json!({ "urls": t.uris, "username": username, "credential": password })
    });
    server.collect()
}

/// POST /credentials: for a web application's own server, which hands them to its page.
pub(crate) async fn credentials(
    State(api): State<ApiState>,
    Extension(standing): Extension<Standing>,
    wanted: Result<Json<CredentialWish>, axum::extract::rejection::JsonRejection>,
) -> ApiResult<Json<Value>> {
    let Json(wanted) = wanted
        .map_err(|e| Problem::of_body(&e).fix("send {\"user\": \"alice\", \"ttl\": \"10m\"}"))?;
    let bad = |why: String| Problem::new(StatusCode::BAD_REQUEST, why);
    let ttl = match wanted.ttl.as_deref().map(humantime::parse_duration) {
        None => Duration::from_secs(600),
        Some(Ok(ttl)) => ttl,
        Some(Err(e)) => return Err(bad(format!("ttl: {e}")).fix("write \"10m\"")),
    };
    let names = [Some(&wanted.user), wanted.context.as_ref()];
    if let Some(odd) = names.into_iter().flatten().find(|n| !Credential::is_name(n)) {
        return Err(bad(format!("{odd:?} cannot be a name here"))
            .fix("use letters, digits and - _ . + @, at most 64"));
    }
    // Past every dialplan: for those who could write one.
    if wanted.context.as_ref().is_some_and(|c| c.starts_with('@'))
        && standing.scope() != Some(Scope::Admin)
    {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "straight to a trunk is for the scope admin",
        )
        .fix("name a context of dialplans/"));
    }
    api.ask(move |gateway, turn| {
        let config = gateway.config();
        let trunk_test_secret = wanted.context.as_ref().is_some_and(|c| c.starts_with('@'));
        let settings = config.credentials.as_ref();
        let longest = match settings {
            _ if trunk_test_secret => DIRECT_LONGEST,
            Some(settings) => settings.longest,
            None => {
                return Err(Problem::new(StatusCode::CONFLICT, "no credentials are made here")
                    .fix("set [credentials] secret = { env = \"…\" }"));
            }
        };
        if ttl > longest || ttl.as_secs() == 0 {
            return Err(bad(format!("ttl is more than {} s, or nothing", longest.as_secs()))
                .fix("ask for less, or raise credentials.longest"));
        }
        match &wanted.context {
            Some(context) if config.plan.context(context).is_none() => {
                return Err(Problem::missing("dialplan", context));
            }
            None if !config.users.contains_key(&wanted.user) => {
                return Err(Problem::missing("user", &wanted.user)
                    .fix("name a \"context\" for a visitor who is no configured user"));
            }
            _ => {}
        }
        let expires = gateway.unix(turn.now) + ttl.as_secs();
        let credential = Credential { expires, user: wanted.user, context: wanted.context };
        let secret = gateway
            .secret_of(&credential)
            .ok_or_else(|| Problem::new(StatusCode::CONFLICT, "no credentials are made here"))?;
        let ice = turn_servers(config, expires, &credential.user);
        Ok(Json(json!({
            "uri": format!("sip:{}@{}", credential.user, config.domain),
            "username": credential.to_string(),
            "password": credential.password(&secret).reveal(), "expires": expires,
            "ws": web_socket_of(config), "ice_servers": ice,
        })))
    })
    .await?
}

/// GET /webhooks: the newest deliveries, the newest first.
pub(crate) async fn webhooks(State(api): State<ApiState>) -> Json<Value> {
    let deliveries = api.feed.outbox().map(crate::webhook::Outbox::deliveries).unwrap_or_default();
    let show = |d: crate::webhook::Delivery| {
        let began = jiff::Timestamp::try_from(d.began);
        let state = match &d.outcome {
            None => "trying",
            Some(Ok(())) => "delivered",
            Some(Err(_)) => "dead",
        };
        json!({
            "id": d.id, "type": d.event.kind.as_str(), "call": d.event.call(), "tries": d.tries,
            "began": began.map(|t| format!("{t:.3}")).unwrap_or_default(), "state": state,
            "why": d.outcome.and_then(Result::err), "body": d.event.body(),
        })
    };
    Json(deliveries.into_iter().map(show).collect())
}

/// POST /webhooks/{id}/resend
pub(crate) async fn resend(
    State(api): State<ApiState>,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let Some(outbox) = api.feed.outbox() else {
        return Err(Problem::new(StatusCode::CONFLICT, "no webhook receives events")
            .fix("set [events] webhook = { url = \"…\", secret = … }"));
    };
    if outbox.again(&id) {
        Ok(Json(json!({ "id": id, "sent": true })))
    } else {
        Err(Problem::missing("delivery", &id))
    }
}

fn error_json(code: Code) -> Option<Value> {
    let entry = code.entry()?;
    Some(json!({
        "code": code.to_string(),
        "title": entry.title,
        "likely": entry.likely,
        "fix": entry.fix
    }))
}

/// GET /errors
pub(crate) async fn errors() -> Json<Value> {
    Json(Code::all().filter_map(|(code, _)| error_json(code)).collect())
}

/// GET /errors/{code}
pub(crate) async fn error(Path(code): Path<String>) -> ApiResult<Json<Value>> {
    code.parse()
        .ok()
        .and_then(error_json)
        .map(Json)
        .ok_or_else(|| Problem::missing("error", &code).fix("GET /api/v1/errors lists them"))
}

/// How long a search waits for the record of a call that has just ended.
const CATCH_UP: Duration = Duration::from_millis(250);

/// GET /cdr: records, the newest first; of the database if there is one, else of the file.
pub(crate) async fn cdr(
    State(api): State<ApiState>,
    uri: Uri,
    query: Asked<listing::ListQuery>,
) -> ApiResult<Response> {
    let Query(query) = query.map_err(|e| Problem::of_query(&e))?;
    if query.state.is_some() {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "records are of calls that have ended")
            .fix("leave state out; GET /calls takes it"));
    }
    let Some(place) = api.records else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no call records are written")
            .fix("set [events] cdr = { file = \"cdr.jsonl\" }, or { sqlite = \"cdr.db\" }"));
    };
    let Listing { wanted, since, until, limit, cursor } = query.understood(Timestamp::now())?;
    let search = Search { wanted, since, until, limit, cursor };
    let written = api.written;
    let found = tokio::task::spawn_blocking(move || {
        written.iter().for_each(|w| w.catch_up(CATCH_UP));
        (search::page(&place, &search), search)
    });
    match found.await {
        Ok((Ok(page), _)) => Ok(listing::page(&uri, page.records, page.next.as_deref())),
        Ok((Err(why), search)) if why.downcast_ref::<BadCursor>().is_some() => {
            Err(listing::bad_cursor(&search.cursor.unwrap_or_default()))
        }
        Ok((Err(why), _)) => Err(Problem {
            code: Code::RECORDS,
            ..Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{why:#}"))
        }),
        Err(e) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_a_dialplan_is_shown_however_it_is_written() {
        for (text, shown) in [
            ("secret = \"hidden\"", "secret = \"***\""),
            ("secret='hidden' }", "secret=\"***\" }"),
            ("secret = \"hid\\\"hidden\", x = 1", "secret = \"***\", x = 1"),
            ("secret = \"\"\"hidden\nhidden\"\"\"\nx = 1", "secret = \"***\"\nx = 1"),
            ("secret = '''hidden'hidden'''\nx", "secret = \"***\"\nx"),
            ("\"secret\" = \"hidden\"", "\"secret\" = \"***\""),
            (
                "do = [{ secret = \"hidden\" }, { secret = 'hidden' }]",
                "do = [{ secret = \"***\" }, { secret = \"***\" }]",
            ),
            ("secret\t=\t\"hidden", "secret\t=\t\"***\""),
            ("secret = hidden }\nx", "secret = \"***\"}\nx"),
            ("secret =", "secret =\"***\""),
            ("secret = { env = \"HOOK\" }", "secret = { env = \"HOOK\" }"),
            ("name = \"the secret route\"", "name = \"the secret route\""),
            ("a secret", "a secret"),
            ("", ""),
        ] {
            assert_eq!(masked(text), shown);
        }
    }
}
