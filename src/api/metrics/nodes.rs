//! What is known of the rest of a cluster; all zero if there is none.

use crate::gateway::Gateway;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: Gauge,
    store_up: Gauge,
    view_age: Gauge<f64, AtomicU64>,
    waiting: Gauge,
}

impl Nodes {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register(
            "cluster_nodes",
            "Nodes of the cluster that live, this one included",
            self.nodes.clone(),
        );
        r.register(
            "cluster_store_up",
            "Whether this node has its lease and the store answers",
            self.store_up.clone(),
        );
        r.register_with_unit(
            "cluster_view_age",
            "Since the store last confirmed the lease and listed the nodes",
            Unit::Seconds,
            self.view_age.clone(),
        );
        r.register(
            "cluster_users_waiting",
            "Users whose pointers wait to be written into the store",
            self.waiting.clone(),
        );
    }

    pub(super) fn read(&self, gateway: &Gateway, now: Instant) {
        let Some(cluster) = gateway.cluster() else { return };
        self.nodes.set(cluster.members().count() as i64);
        self.store_up.set(i64::from(cluster.cannot_ask(now).is_none()));
        self.view_age.set(cluster.view_age(now).map_or(0.0, |age| age.as_secs_f64()));
        self.waiting.set(cluster.waiting() as i64);
    }
}
