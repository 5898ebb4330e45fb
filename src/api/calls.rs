//! `/calls`: what continues, what continued, and ending it.

use super::{ApiResult, ApiState, Problem, listing, pcap, view};
use crate::call::operator::PartyRole;
use crate::gateway::Input;
use crate::gateway::operate::{CallAction, OperatorCommand};
use crate::gateway::originate::OriginateRequest;
use crate::recorder::{draw, ladder};
use crate::sip::status::Refusal;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::PoisonError;

/// What may be wrong with a query string.
pub(crate) type Asked<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

/// GET /calls
pub(crate) async fn list(
    State(api): State<ApiState>,
    uri: Uri,
    query: Asked<listing::ListQuery>,
) -> ApiResult<Response> {
    let Query(query) = query.map_err(|e| Problem::of_query(&e))?;
    let (calls, cursor) = listing::calls(&api, query).await?;
    Ok(listing::page(&uri, calls, cursor.as_deref()))
}

/// GET /calls/{id}
pub(crate) async fn show(
    State(api): State<ApiState>,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let shown = id.clone();
    let found = api
        .ask(move |gateway, turn| {
            let flight = gateway.recorder.find(&id)?;
            view::detail(flight, gateway.live_call(flight.call), turn.now, turn.clock)
        })
        .await?;
    found.map(Json).ok_or_else(|| missing(&shown))
}

fn missing(id: &str) -> Problem {
    Problem::missing("call", id).fix(
        "`webtrunk calls` lists those that are remembered; ids may be shortened to four \
         characters; \"last\" is the newest",
    )
}

type Body<T> = Result<Json<T>, axum::extract::rejection::JsonRejection>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OriginateBody {
    /// A user, or a number with a context.
    pub from: String,
    /// The number that is dialled once `from` has answered.
    pub to: String,
    /// The dialplan that routes `to`; the user's own by default.
    pub context: Option<String>,
    /// Written to the record and sent with its events.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// How many of the bodies that are taken here `bytes` can be.
#[cfg(any(test, fuzzing))]
pub(crate) fn bodies(bytes: &[u8]) -> usize {
    [
        serde_json::from_slice::<OriginateBody>(bytes).is_ok(),
        serde_json::from_slice::<DigitsBody>(bytes).is_ok(),
        serde_json::from_slice::<Handover>(bytes).is_ok(),
    ]
    .iter()
    .filter(|read| **read)
    .count()
}

fn refused(why: &Refusal) -> Problem {
    let status = StatusCode::from_u16(why.status)
        .ok()
        .filter(|s| s.is_client_error() || s.is_server_error())
        .unwrap_or(StatusCode::CONFLICT);
    Problem { code: why.code, ..Problem::new(status, why.why.clone()) }
}

/// POST /calls
pub(crate) async fn originate(
    State(api): State<ApiState>,
    headers: HeaderMap,
    wanted: Body<OriginateBody>,
) -> ApiResult<Response> {
    let Json(wanted) = wanted.map_err(|e| {
        Problem::of_body(&e).fix("send {\"from\": \"alice\", \"to\": \"+12065550123\"}")
    })?;
    if [&wanted.from, &wanted.to]
        .iter()
        .any(|t| t.is_empty() || t.len() > 128 || t.chars().any(char::is_control))
    {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "from and to are names or numbers of 1 to 128 characters",
        ));
    }
    let key = headers
        .get("idempotency-key")
        .and_then(|v| v.to_str().ok())
        .filter(|k| k.len() <= 256)
        .map(str::to_owned);
    let begun = api.begun.clone();
    // The core runs one piece of work at a time, so two requests of one key cannot both find
    // nothing.
    let call = api
        .ask(move |gateway, turn| {
            let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(call) = key.as_ref().and_then(|k| begun.find(turn.now, k)) {
                return Ok(call);
            }
            let wish = OriginateRequest {
                from: wanted.from,
                to: wanted.to,
                context: wanted.context,
                tags: wanted.tags,
            };
            let plan = gateway.plan_call(turn.now, &wish).map_err(|why| refused(&why))?;
            let call = plan.call.to_string();
            gateway.handle(turn.now, Input::Originate(Box::new(plan)), turn.out);
            key.into_iter().for_each(|k| begun.keep(turn.now, k, call.clone()));
            Ok(call)
        })
        .await??;
    Ok((StatusCode::ACCEPTED, Json(serde_json::json!({ "call": call }))).into_response())
}

/// Which side of a call; the callee if omitted.
#[derive(Clone, Copy, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Whom {
    Caller,
    #[default]
    Callee,
}

impl From<Whom> for PartyRole {
    fn from(whom: Whom) -> PartyRole {
        match whom {
            Whom::Caller => PartyRole::Caller,
            Whom::Callee => PartyRole::Callee,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DigitsBody {
    /// Keys to send: 0 to 9, `*`, `#`, A to D.
    pub digits: String,
    /// The party that is to hear them.
    #[serde(default)]
    pub side: Whom,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Handover {
    /// The number of the new party.
    pub to: String,
    /// The party that is handed over.
    #[serde(default)]
    pub side: Whom,
}

async fn action(api: &ApiState, id: String, action: CallAction) -> ApiResult<Json<Value>> {
    let shown = id.clone();
    let done = api
        .ask(move |gateway, turn| {
            let call = gateway.recorder.find(&id)?.call;
            let done = gateway
                .is_active(call)
                .then(|| gateway.act_on_call(turn.now, call, &action, turn.out))
                .flatten();
            Some((call, done))
        })
        .await?;
    match done {
        Some((call, Some(Ok(())))) => {
            Ok(Json(serde_json::json!({ "call": call.to_string(), "done": true })))
        }
        Some((_, Some(Err(why)))) => Err(refused(&why)),
        Some((call, None)) => {
            Err(Problem::new(StatusCode::CONFLICT, format!("call {call} has ended already")))
        }
        None => Err(missing(&shown)),
    }
}

/// POST /calls/{id}/dtmf
pub(crate) async fn dtmf(
    State(api): State<ApiState>,
    Path(id): Path<String>,
    body: Body<DigitsBody>,
) -> ApiResult<Json<Value>> {
    let Json(body) = body.map_err(|e| Problem::of_body(&e).fix("send {\"digits\": \"1234#\"}"))?;
    action(&api, id, CallAction::Press { side: body.side.into(), digits: body.digits }).await
}

/// POST /calls/{id}/transfer
pub(crate) async fn transfer(
    State(api): State<ApiState>,
    Path(id): Path<String>,
    body: Body<Handover>,
) -> ApiResult<Json<Value>> {
    let Json(body) =
        body.map_err(|e| Problem::of_body(&e).fix("send {\"to\": \"+12065550123\"}"))?;
    action(&api, id, CallAction::HandOver { side: body.side.into(), to: body.to }).await
}

/// POST /calls/{id}/hold
pub(crate) async fn hold(
    State(api): State<ApiState>,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    action(&api, id, CallAction::Separate(true)).await
}

/// DELETE /calls/{id}/hold
pub(crate) async fn resume(
    State(api): State<ApiState>,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    action(&api, id, CallAction::Separate(false)).await
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KickQuery {
    /// The status the caller is sent while the call is not answered.
    pub code: Option<u16>,
    /// The reason, as text, for the record and the Reason header.
    pub reason: Option<String>,
}

/// DELETE /calls/{id}
pub(crate) async fn hang_up(
    State(api): State<ApiState>,
    Path(id): Path<String>,
    kick: Asked<KickQuery>,
) -> ApiResult<Json<Value>> {
    let Query(kick) = kick.map_err(|e| Problem::of_query(&e))?;
    let status = kick.code.unwrap_or(480);
    if !(400..700).contains(&status) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("code={status} refuses no call"),
        )
        .fix("use 400 to 699, such as 480 or 603"));
    }
    let why: String = kick
        .reason
        .unwrap_or_else(|| "ended by an operator".into())
        .chars()
        .filter(|c| !c.is_control())
        .take(120)
        .collect();
    let shown = id.clone();
    let ended = api
        .ask(move |gateway, turn| {
            let call = gateway.recorder.find(&id)?.call;
            let lives = gateway.is_active(call);
            if lives {
                gateway.handle(
                    turn.now,
                    Input::Operate(OperatorCommand::Kick { call, status, why }),
                    turn.out,
                );
            }
            Some((call, lives))
        })
        .await?;
    match ended {
        Some((call, true)) => {
            Ok(Json(serde_json::json!({ "call": call.to_string(), "ended": true })))
        }
        Some((call, false)) => {
            Err(Problem::new(StatusCode::CONFLICT, format!("call {call} has ended already")))
        }
        None => Err(missing(&shown)),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct LadderQuery {
    /// `text`, `json`, `svg`, `mermaid`; else by Accept.
    pub format: Option<String>,
    /// Whole messages in the text.
    pub full: bool,
}

/// GET /calls/{id}/ladder
pub(crate) async fn ladder(
    State(api): State<ApiState>,
    Path(id): Path<String>,
    query: Asked<LadderQuery>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let Query(query) = query.map_err(|e| Problem::of_query(&e))?;
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let format = match query.format.as_deref() {
        Some(known @ ("text" | "json" | "svg" | "mermaid")) => known.to_owned(),
        Some(other) => {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                format!("format={other} is not known"),
            )
            .fix("use text, json, svg or mermaid"));
        }
        None if accept.contains("image/svg") => "svg".to_owned(),
        None if accept.contains("mermaid") => "mermaid".to_owned(),
        None if accept.contains("text/plain") => "text".to_owned(),
        None => "json".to_owned(),
    };
    let shown = id.clone();
    let found = api
        .ask(move |gateway, turn| {
            let flight = gateway.recorder.find(&id)?;
            let detail =
                view::detail(flight, gateway.live_call(flight.call), turn.now, turn.clock)?;
            // References only: what takes time is done here, not in the core's task.
            Some((detail, flight.clone()))
        })
        .await?;
    let (detail, flight) = found.ok_or_else(|| missing(&shown))?;
    let lanes: Vec<String> = flight.lanes.iter().map(|l| l.name.clone()).collect();
    let rows = ladder::rows(&flight);
    Ok(match format.as_str() {
        "svg" => {
            ([(header::CONTENT_TYPE, "image/svg+xml")], draw::svg(&lanes, &rows)).into_response()
        }
        "mermaid" => (
            [(header::CONTENT_TYPE, "text/vnd.mermaid; charset=utf-8")],
            draw::mermaid(&lanes, &rows),
        )
            .into_response(),
        "text" => {
            let text = format!(
                "{}\n{}{}",
                view::headline(&detail),
                draw::text(&lanes, &rows, query.full),
                view::conclusion(&detail)
            );
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
        }
        _ => Json(view::ladder(&detail, &lanes, &rows)).into_response(),
    })
}

/// GET /calls/{id}/quality
pub(crate) async fn quality(
    State(api): State<ApiState>,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let shown = id.clone();
    let found = api
        .ask(move |gateway, _| {
            let flight = gateway.recorder.find(&id)?;
            let cdr = flight
                .cdr
                .as_deref()
                .or_else(|| gateway.live_call(flight.call).map(|c| c.cdr()))?;
            Some(view::quality(flight, cdr))
        })
        .await?;
    found.map(Json).ok_or_else(|| missing(&shown))
}

/// GET /calls/{id}/pcap
pub(crate) async fn pcap(
    State(api): State<ApiState>,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let shown = id.clone();
    let found = api
        .ask(move |gateway, turn| Some((gateway.recorder.find(&id)?.clone(), *turn.clock)))
        .await?;
    let (flight, clock) = found.ok_or_else(|| missing(&shown))?;
    let call = flight.call;
    let bytes = pcap::write(&flight, &clock).map_err(|e| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the capture cannot be written: {e}"),
        )
    })?;
    let name = format!("attachment; filename=\"{call}.pcap\"");
    Ok((
        [
            (header::CONTENT_TYPE, "application/vnd.tcpdump.pcap".to_owned()),
            (header::CONTENT_DISPOSITION, name),
        ],
        bytes,
    )
        .into_response())
}
