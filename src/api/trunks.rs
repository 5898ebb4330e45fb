//! `/registrations` and `/trunks`.

use super::calls::Asked;
use super::{ApiResult, ApiState, Problem, slices, view};
use crate::gateway::Input;
use crate::gateway::operate::OperatorCommand;
use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// How long the answer to a probe is waited for.
const PROBE: Duration = Duration::from_secs(4);

/// GET /registrations
pub(crate) async fn registrations(State(api): State<ApiState>) -> ApiResult<Json<Value>> {
    let users = slices::users(&api, |gateway, turn, user| {
        let bindings = gateway.registrar().bindings(turn.now, user);
        bindings.iter().map(|b| view::binding(gateway, user, b, turn.now)).collect::<Vec<_>>()
    });
    Ok(Json(users.await?.into_iter().flatten().collect()))
}

/// Entries of the log of logins of one answer: the default, and the most.
const LOGINS: usize = 100;
const MOST_LOGINS: usize = 2_500;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LoginQuery {
    user: Option<String>,
    limit: Option<usize>,
}

/// GET /logins
pub(crate) async fn logins(
    State(api): State<ApiState>,
    query: Asked<LoginQuery>,
) -> ApiResult<Json<Value>> {
    let Query(query) = query.map_err(|e| Problem::of_query(&e))?;
    let most = query.limit.unwrap_or(LOGINS).min(MOST_LOGINS);
    let user = query.user.as_deref().filter(|user| !user.is_empty());
    Ok(Json(Value::Array(api.feed.logins(user, most))))
}

/// DELETE /registrations/{user}
pub(crate) async fn disconnect(
    State(api): State<ApiState>,
    Path(user): Path<String>,
) -> ApiResult<Json<Value>> {
    let shown = user.clone();
    let bindings = api
        .ask(move |gateway, turn| {
            let bindings = gateway.registrar().bindings(turn.now, &user).len();
            gateway.handle(
                turn.now,
                Input::Operate(OperatorCommand::Disconnect { user }),
                turn.out,
            );
            bindings
        })
        .await?;
    if bindings == 0 {
        return Err(Problem::missing("registration of", &shown)
            .fix("`webtrunk registrations` shows who is there"));
    }
    Ok(Json(json!({ "user": shown, "closed": bindings })))
}

/// GET /trunks
pub(crate) async fn trunks(State(api): State<ApiState>) -> ApiResult<Json<Value>> {
    let metrics = api.metrics.clone();
    let mut list: Vec<Value> = slices::trunks(&api, |gateway, turn, (name, state, calls)| {
        view::trunk(name, state, calls, gateway, (turn.now, turn.clock))
    })
    .await?;
    list.iter_mut().for_each(|t| metrics.describe(t));
    Ok(Json(Value::Array(list)))
}

async fn look(api: &ApiState, name: &str) -> ApiResult<Value> {
    let wanted = name.to_owned();
    let found = api
        .ask(move |gateway, turn| {
            let (state, calls) = (gateway.trunks().get(&wanted)?, gateway.calls_of(&wanted));
            Some(view::trunk(&wanted, state, calls, gateway, (turn.now, turn.clock)))
        })
        .await?;
    let mut value =
        found.ok_or_else(|| Problem::missing("trunk", name).fix("`webtrunk trunks` lists them"))?;
    api.metrics.describe(&mut value);
    Ok(value)
}

/// GET /trunks/{name}
pub(crate) async fn trunk(
    State(api): State<ApiState>,
    Path(name): Path<String>,
) -> ApiResult<Json<Value>> {
    Ok(Json(look(&api, &name).await?))
}

/// POST /trunks/{name}/probe: OPTIONS now; answers once it was answered, or has not been for a
/// while.
pub(crate) async fn probe(
    State(api): State<ApiState>,
    Path(name): Path<String>,
) -> ApiResult<Json<Value>> {
    look(&api, &name).await?;
    let trunk = name.clone();
    let seen = api
        .ask(move |gateway, turn| {
            gateway.handle(
                turn.now,
                Input::Operate(OperatorCommand::Probe { trunk: trunk.clone() }),
                turn.out,
            );
            gateway.trunks().get(&trunk).map_or(0, |t| t.probes_ended)
        })
        .await?;
    let deadline = tokio::time::Instant::now() + PROBE;
    loop {
        let wanted = name.clone();
        let ended = api
            .ask(move |gateway, _| gateway.trunks().get(&wanted).map_or(0, |t| t.probes_ended))
            .await?;
        if ended > seen || tokio::time::Instant::now() >= deadline {
            let mut value = look(&api, &name).await?;
            value["answered"] = json!(ended > seen && value["probes_missed"] == json!(0));
            return Ok(Json(value));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn switch(api: ApiState, name: String, enabled: bool) -> ApiResult<Json<Value>> {
    look(&api, &name).await?;
    let trunk = name.clone();
    api.ask(move |gateway, turn| {
        gateway.handle(
            turn.now,
            Input::Operate(OperatorCommand::Switch { trunk, enabled }),
            turn.out,
        )
    })
    .await?;
    Ok(Json(look(&api, &name).await?))
}

/// POST /trunks/{name}/enable
pub(crate) async fn enable(
    State(api): State<ApiState>,
    Path(name): Path<String>,
) -> ApiResult<Json<Value>> {
    switch(api, name, true).await
}

/// POST /trunks/{name}/disable
pub(crate) async fn disable(
    State(api): State<ApiState>,
    Path(name): Path<String>,
) -> ApiResult<Json<Value>> {
    switch(api, name, false).await
}
