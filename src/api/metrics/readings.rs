//! What is read from the machine whenever the metrics are.

use super::NodeMetrics;
use crate::codec::Codec;
use crate::flow::Transport;
use crate::gateway::overload::NewWork;
use crate::gateway::{Gateway, Gauges};
use crate::log_queue;
use crate::trunk::{Health, TrunkState};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A trunk as it is when somebody scrapes.
pub(crate) struct TrunkReading {
    name: String,
    up: bool,
    calls: usize,
    limit: Option<usize>,
    round_trip: Option<Duration>,
}

impl TrunkReading {
    pub(crate) fn of(gateway: &Gateway, name: &str, state: &TrunkState, calls: usize) -> Self {
        TrunkReading {
            name: name.to_owned(),
            up: state.health != Health::Down && !state.disabled,
            calls,
            limit: gateway.config().trunks.get(name).and_then(|t| t.max_calls),
            round_trip: state.round_trip,
        }
    }
}

impl NodeMetrics {
    /// Adds ASR, NER, post-dial delay and the last failure to a trunk of the API.
    pub(crate) fn describe(&self, trunk: &mut Value) {
        self.fates.describe(trunk);
    }

    /// The configuration was taken at this moment of the wall clock.
    pub(crate) fn reloaded(&self, since_epoch: Duration) {
        self.reloaded.set(since_epoch.as_secs_f64());
    }

    /// Reads what is a state rather than an event; in the core's task, when somebody scrapes.
    pub(crate) fn read(&self, gateway: &Gateway, now: Instant) {
        self.nodes.read(gateway, now);
        let gauges: Gauges = gateway.gauges();
        self.calls.set(gauges.calls as i64);
        self.draining.set(i64::from(gauges.draining));
        self.calls_left.set(gauges.calls_left as i64);
        for (what, count) in NewWork::NAMES.into_iter().zip(gateway.shed()) {
            let counter =
                self.overload_refused.get_or_create(&vec![("what", what.to_owned())]).clone();
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        self.registrations
            .get_or_create(&vec![("transport", Transport::Ws.to_string())])
            .set(gauges.bindings as i64);
        for (transport, repeated) in Transport::ALL.into_iter().zip(gauges.repeated) {
            let counter =
                self.repeated.get_or_create(&vec![("transport", transport.to_string())]).clone();
            counter.inc_by(repeated.saturating_sub(counter.get()));
        }
        self.flows.set(gauges.flows as i64);
        self.transactions.set(gauges.transactions as i64);
        self.dropped.set(gauges.dropped as i64);
        let (calls, bytes) = gateway.recorder.size();
        self.recorder_calls.set(calls as i64);
        self.recorder_bytes.set(bytes as i64);
    }

    /// Reads the codecs that calls that live are transcoded between.
    pub(crate) fn read_calls(&self, codecs: impl Iterator<Item = (Codec, Codec)>) {
        self.transcodes.clear();
        for (from, to) in codecs.filter(|(a, b)| a != b) {
            self.transcodes
                .get_or_create(&vec![
                    ("from", from.name().to_owned()),
                    ("to", to.name().to_owned()),
                ])
                .inc();
        }
    }

    /// Reads the trunks as they are.
    pub(crate) fn read_trunks(&self, trunks: Vec<TrunkReading>) {
        // Trunks a reload took away must not stay.
        [&self.trunk_up, &self.trunk_calls, &self.trunk_limit].iter().for_each(|f| f.clear());
        self.trunk_rtt.clear();
        for trunk in trunks {
            let label = vec![("trunk", trunk.name)];
            self.trunk_up.get_or_create(&label).set(i64::from(trunk.up));
            self.trunk_calls.get_or_create(&label).set(trunk.calls as i64);
            if let Some(limit) = trunk.limit {
                self.trunk_limit.get_or_create(&label).set(limit as i64);
            }
            if let Some(round_trip) = trunk.round_trip {
                self.trunk_rtt.get_or_create(&label).set(round_trip.as_secs_f64());
            }
        }
    }

    /// Pairs of ports a call has, that are free, and that rest after a call; when the certificate
    /// ends; and what the log lost.
    pub(crate) fn read_shell(&self, pairs: [usize; 3], certificate: Option<u64>) {
        for (state, n) in ["used", "free", "draining"].into_iter().zip(pairs) {
            self.ports.get_or_create(&vec![("state", state.to_owned())]).set(n as i64);
        }
        for (port, why, count) in self.refused_connections.read() {
            let labels = vec![("port", port.to_owned()), ("why", why.to_owned())];
            let counter = self.connections_refused.get_or_create(&labels).clone();
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        self.certificate.set(certificate.unwrap_or(0) as f64);
        self.log_lost.inc_by(log_queue::lost().saturating_sub(self.log_lost.get()));
    }
}
