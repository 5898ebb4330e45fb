//! `/nodes`: the cluster as this node sees it.

use super::{ApiResult, ApiState};
use crate::cluster::Cluster;
use crate::cluster::member::Member;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::time::Instant;

/// A node, as its last renewal said; `age` is of the view.
fn node(cluster: &Cluster, member: &Member, common: u64, now: Instant) -> Value {
    let own = member.node == cluster.node();
    let standing = if own { cluster.standing(now) } else { "joined" };
    json!({
        "node": member.node,
        "this": own,
        "state": standing,
        "lease_s": cluster.lease_left(now).map(|left| left.as_secs_f32()),
        "address": member.advertise,
        "version": member.version,
        "calls": member.load.calls,
        "registrations": member.load.registrations,
        "calls_left": member.load.calls_left,
        "draining": member.load.draining,
        "took": member.taken.iter().map(|taken| taken.node.as_str()).collect::<Vec<_>>(),
        "beats": member.beat,
        "config_differs": !own && member.differs(common),
    })
}

/// GET /nodes
pub(crate) async fn nodes(State(api): State<ApiState>) -> ApiResult<Json<Value>> {
    api.ask(|gateway, turn| {
        let common = gateway.config().common;
        let list = |cluster: &Cluster| {
            cluster.members().map(|member| node(cluster, member, common, turn.now)).collect()
        };
        Json(Value::Array(gateway.cluster().map_or_else(Vec::new, list)))
    })
    .await
}
