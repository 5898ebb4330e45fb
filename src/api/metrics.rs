//! OpenMetrics: counters kept as events happen, gauges read when somebody scrapes.
//!
//! Labels are bounded: directions, outcomes, transports, and trunks of the configuration; never a
//! user, a number or a call.

mod fates;
mod late;
mod legs;
mod messages;
mod nodes;
pub mod plain;

use crate::call::Cdr;
use crate::codec::Codec;
use crate::errors::Code;
use crate::event::{Counted, Event, LostBy};
use crate::flow::Transport;
use crate::gateway::overload::NewWork;
use crate::gateway::{Gateway, Gauges};
use crate::media::Statistics;
use crate::refused::RefusedConnections;
use crate::trunk::{Health, TrunkState};
use crate::webhook::{Counts, EVENT};
use crate::worker::lateness::Lateness;
use fates::Fates;
use late::Late;
use legs::Legs;
use messages::Messages;
use nodes::Nodes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

type Label = Vec<(&'static str, String)>;
type Times = Family<Label, Histogram, fn() -> Histogram>;
/// With the newest call of each bucket: from a graph to its ladder.
type Traced = Family<Label, HistogramWithExemplars<Label>, fn() -> HistogramWithExemplars<Label>>;

const SECONDS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 45.0];

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn traced_seconds() -> HistogramWithExemplars<Label> {
    HistogramWithExemplars::new(SECONDS.into_iter())
}

fn durations() -> Histogram {
    Histogram::new([1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0])
}

fn scores() -> HistogramWithExemplars<Label> {
    HistogramWithExemplars::new(
        [1.0, 2.0, 2.5, 3.0, 3.1, 3.6, 3.7, 4.0, 4.1, 4.2, 4.3, 4.4].into_iter(),
    )
}

fn small_times() -> Histogram {
    Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0])
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

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

/// All counters of a node.
pub struct NodeMetrics {
    /// Held by whoever reads: families are emptied and filled again, and half of one is none.
    pub(crate) scrape: tokio::sync::Mutex<()>,
    registry: Registry,
    calls_total: Family<Label, Counter>,
    refused_total: Family<Label, Counter>,
    setup: Traced,
    delay: Times,
    duration: Times,
    mos: Traced,
    ice: Histogram,
    ice_failed: Family<Label, Counter>,
    dtls: Histogram,
    dtls_failed: Counter,
    transcodes: Family<Label, Gauge>,
    ports: Family<Label, Gauge>,
    certificate: Gauge<f64, AtomicU64>,
    /// Records that did not reach a place they were meant for.
    pub cdr_dropped: Family<Label, Counter>,
    /// By place.
    pub cdr_waiting: Family<Label, Gauge>,
    /// Batches of checkpoints.
    pub checkpoints_failed: Counter,
    /// Counted by the workers.
    pub late: Arc<Lateness>,
    /// Counted where they are refused.
    pub refused_connections: Arc<RefusedConnections>,
    connections_refused: Family<Label, Counter>,
    legs: Legs,
    silent: Counter,
    one_way: Family<Label, Counter>,
    faults: Family<Label, Counter>,
    flow_lost: Family<Label, Counter>,
    login_refused: Counter,
    calls: Gauge,
    draining: Gauge,
    calls_left: Gauge,
    nodes: Nodes,
    overload_refused: Family<Label, Counter>,
    registrations: Family<Label, Gauge>,
    flows: Gauge,
    transactions: Gauge,
    dropped: Gauge,
    recorder_calls: Gauge,
    recorder_bytes: Gauge,
    trunk_up: Family<Label, Gauge>,
    trunk_calls: Family<Label, Gauge>,
    trunk_limit: Family<Label, Gauge>,
    trunk_rtt: Family<Label, Gauge<f64, AtomicU64>>,
    reloaded: Gauge<f64, AtomicU64>,
    /// What webhooks came to, counted where they are sent.
    pub webhook_counts: Arc<Counts>,
    /// By method or status, and direction.
    pub messages: Messages,
    /// A counter of the core's, read as it stands.
    repeated: Family<Label, Counter>,
    fates: Fates,
}

impl Default for NodeMetrics {
    fn default() -> NodeMetrics {
        NodeMetrics::new()
    }
}

impl NodeMetrics {
    /// All at nothing.
    pub(crate) fn new() -> NodeMetrics {
        let mut metrics = NodeMetrics {
            scrape: tokio::sync::Mutex::default(),
            registry: Registry::with_prefix("webtrunk"),
            calls_total: Family::default(),
            refused_total: Family::default(),
            setup: Traced::new_with_constructor(traced_seconds),
            delay: Times::new_with_constructor(seconds),
            duration: Times::new_with_constructor(durations),
            mos: Traced::new_with_constructor(scores),
            ice: seconds(),
            ice_failed: Family::default(),
            dtls: seconds(),
            dtls_failed: Counter::default(),
            transcodes: Family::default(),
            ports: Family::default(),
            certificate: Gauge::default(),
            cdr_dropped: Family::default(),
            cdr_waiting: Family::default(),
            checkpoints_failed: Counter::default(),
            late: Arc::default(),
            refused_connections: Arc::default(),
            connections_refused: Family::default(),
            legs: Legs::default(),
            silent: Counter::default(),
            one_way: Family::default(),
            faults: Family::default(),
            flow_lost: Family::default(),
            login_refused: Counter::default(),
            calls: Gauge::default(),
            draining: Gauge::default(),
            calls_left: Gauge::default(),
            nodes: Nodes::default(),
            overload_refused: Family::default(),
            registrations: Family::default(),
            flows: Gauge::default(),
            transactions: Gauge::default(),
            dropped: Gauge::default(),
            recorder_calls: Gauge::default(),
            recorder_bytes: Gauge::default(),
            trunk_up: Family::default(),
            trunk_calls: Family::default(),
            trunk_limit: Family::default(),
            trunk_rtt: Family::default(),
            reloaded: Gauge::default(),
            webhook_counts: Arc::default(),
            messages: Messages::default(),
            repeated: Family::default(),
            fates: Fates::default(),
        };
        metrics.register();
        metrics
    }

    /// In the order of the reference.
    fn register(&mut self) {
        self.register_node();
        self.register_calls();
        self.register_media();
        self.register_browsers();
        self.nodes.register(&mut self.registry);
        self.register_recorder();
        self.register_webhooks();
        self.register_sip();
        self.register_trunks();
    }

    fn register_node(&mut self) {
        let r = &mut self.registry;
        let build: Family<Build, Gauge> = Family::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        r.register("build_info", "The version that runs", build);
        let up: Gauge = Gauge::default();
        up.set(1);
        r.register("up", "1 while the gateway serves", up);
        r.register("draining", "1 while new calls are refused", self.draining.clone());
        r.register(
            "calls_left",
            "Calls that would be taken now, by limits.calls and by what this machine has left",
            self.calls_left.clone(),
        );
        r.register(
            "overload_refused",
            "Requests refused for overload: calls, logins and texts",
            self.overload_refused.clone(),
        );
    }

    fn register_calls(&mut self) {
        let r = &mut self.registry;
        // `calls` is the family of `calls_total`: no family may have two types.
        r.register("active_calls", "Active calls", self.calls.clone());
        r.register(
            "calls",
            "Ended calls, by direction, trunk and outcome",
            self.calls_total.clone(),
        );
        r.register(
            "calls_refused",
            "INVITEs refused before they became a call, by code",
            self.refused_total.clone(),
        );
        r.register(
            "call_faults",
            "Calls whose verdict names a fault, by code",
            self.faults.clone(),
        );
        r.register_with_unit(
            "call_setup",
            "Time from INVITE to answer",
            Unit::Seconds,
            self.setup.clone(),
        );
        r.register_with_unit(
            "post_dial_delay",
            "Time from INVITE to ringing (RFC 6076, SRD)",
            Unit::Seconds,
            self.delay.clone(),
        );
        r.register_with_unit(
            "call_duration",
            "Time from answer to end",
            Unit::Seconds,
            self.duration.clone(),
        );
        r.register(
            "call_mos",
            "Estimated opinion score of what the peer of a leg sends (G.107)",
            self.mos.clone(),
        );
    }

    fn register_media(&mut self) {
        let r = &mut self.registry;
        self.legs.register(r);
        r.register(
            "media_silent_calls",
            "Calls ended because neither side sent media",
            self.silent.clone(),
        );
        r.register("one_way_calls", "Calls with one side silent for 5 s", self.one_way.clone());
        r.register_with_unit(
            "ice_connect",
            "Time from a browser's description to its selected address",
            Unit::Seconds,
            self.ice.clone(),
        );
        r.register(
            "ice_failed",
            "Browser legs of ended calls whose media never got through, by reason",
            self.ice_failed.clone(),
        );
        r.register_with_unit(
            "dtls_handshake",
            "Time from the selected address to keys",
            Unit::Seconds,
            self.dtls.clone(),
        );
        r.register(
            "dtls_failed",
            "Calls ended by a failed DTLS handshake",
            self.dtls_failed.clone(),
        );
        r.register(
            "transcodes",
            "Active calls whose legs speak different codecs",
            self.transcodes.clone(),
        );
        r.register("media_ports", "Port pairs of the trunk side, by state", self.ports.clone());
        r.register(
            "cdr_dropped",
            "Call records that could not be written, by place",
            self.cdr_dropped.clone(),
        );
        r.register(
            "cdr_waiting",
            "Call records that wait to be written, by place",
            self.cdr_waiting.clone(),
        );
        r.register(
            "checkpoints_failed",
            "Attempts to write checkpoints of calls that failed",
            self.checkpoints_failed.clone(),
        );
        r.register(
            "certificate_expiry_timestamp_seconds",
            "When the certificate of the web port expires; 0 without one",
            self.certificate.clone(),
        );
        r.register_collector(Box::new(Late(self.late.clone())));
    }

    fn register_browsers(&mut self) {
        let r = &mut self.registry;
        r.register("registrations", "Registered browsers", self.registrations.clone());
        r.register(
            "connections_refused",
            "Connections refused for want of a place, by port and by what was used up",
            self.connections_refused.clone(),
        );
        r.register("flows", "Connections of browsers and trunks", self.flows.clone());
        r.register(
            "flow_lost",
            "Registrations that ended without an unregistration, by reason",
            self.flow_lost.clone(),
        );
        r.register("login_refused", "Logins refused", self.login_refused.clone());
        r.register("sip_transactions", "Live SIP transactions", self.transactions.clone());
        r.register(
            "sip_dropped",
            "Messages dropped without an answer: from strangers, or of no transaction",
            self.dropped.clone(),
        );
    }

    fn register_recorder(&mut self) {
        let r = &mut self.registry;
        r.register(
            "recorder_calls",
            "Calls the flight recorder remembers",
            self.recorder_calls.clone(),
        );
        r.register_with_unit(
            "recorder_memory",
            "Memory of the flight recorder",
            Unit::Bytes,
            self.recorder_bytes.clone(),
        );
    }

    fn register_webhooks(&mut self) {
        let r = &mut self.registry;
        let webhooks = &self.webhook_counts;
        r.register("webhook_delivered", "Webhook requests delivered", webhooks.delivered.clone());
        r.register(
            "webhook_failed",
            "Webhook requests that failed, each attempt, by purpose",
            webhooks.failed.clone(),
        );
        r.register_with_unit(
            "webhook",
            "Duration of webhook requests, failed ones included",
            Unit::Seconds,
            webhooks.took.clone(),
        );
        r.register(
            "webhook_dead",
            "Events not delivered within an hour, now in the dead-letter file",
            webhooks.dead.clone(),
        );
        r.register(
            "webhook_lost",
            "Events neither delivered nor kept in the dead-letter file",
            webhooks.lost.clone(),
        );
    }

    fn register_sip(&mut self) {
        let r = &mut self.registry;
        r.register(
            "sip_requests",
            "Requests by direction and transport, retransmissions included; \
             ws is WebSocket, with or without TLS",
            self.messages.requests.clone(),
        );
        r.register(
            "sip_responses",
            "Responses by direction and status code",
            self.messages.responses.clone(),
        );
        r.register(
            "sip_retransmissions",
            "Messages sent again because no answer came",
            self.repeated.clone(),
        );
    }

    fn register_trunks(&mut self) {
        let r = &mut self.registry;
        r.register("trunk_up", "1 if the trunk is up", self.trunk_up.clone());
        r.register("trunk_calls", "Active calls of the trunk", self.trunk_calls.clone());
        r.register("trunk_calls_limit", "The max_calls of the trunk", self.trunk_limit.clone());
        r.register_with_unit(
            "trunk_rtt",
            "Time of the trunk's answer to OPTIONS",
            Unit::Seconds,
            self.trunk_rtt.clone(),
        );
        r.register(
            "config_last_reload_success_timestamp_seconds",
            "When the active configuration was read",
            self.reloaded.clone(),
        );
    }

    /// Counts an event.
    pub(crate) fn count(&self, event: &Event, now: Instant) {
        match event.counted() {
            Counted::Nothing => {}
            Counted::CallEnded(cdr) => self.ended(cdr, now),
            Counted::CallRefused(code) => {
                self.refused_total.get_or_create(&vec![("code", code.to_string())]).inc();
            }
            Counted::OneWay { trunk } => {
                let side = if trunk { "trunk" } else { "browser" };
                self.one_way.get_or_create(&vec![("silent_leg", side.to_owned())]).inc();
            }
            Counted::FlowLost(by) => {
                let reason = match by {
                    LostBy::Closed => "closed",
                    LostBy::Expired => "expired",
                };
                self.flow_lost.get_or_create(&vec![("reason", reason.to_owned())]).inc();
            }
            Counted::LoginRefused => drop(self.login_refused.inc()),
        }
    }

    fn ended(&self, cdr: &Cdr, now: Instant) {
        let direction = if cdr.inbound { "inbound" } else { "outbound" };
        let trunk = cdr.trunk().unwrap_or("none").to_owned();
        let labels = vec![
            ("direction", direction.to_owned()),
            ("trunk", trunk.clone()),
            ("outcome", cdr.outcome().to_owned()),
        ];
        self.calls_total.get_or_create(&labels).inc();
        if matches!(cdr.code, Code::DTLS | Code::FINGERPRINT) {
            self.dtls_failed.inc();
        }
        self.silent.inc_by(u64::from(cdr.code == Code::MEDIA_STOPPED));
        if let Some(verdict) = cdr.fault() {
            self.faults.get_or_create(&vec![("code", verdict.code.to_string())]).inc();
        }
        let example = || Some(vec![("call", cdr.call.to_string())]);
        let by_trunk = vec![("trunk", trunk)];
        let since = |at: Instant| at.saturating_duration_since(cdr.start).as_secs_f64();
        if let Some(ringing) = cdr.ringing.or(cdr.answered) {
            self.delay.get_or_create(&by_trunk).observe(since(ringing));
        }
        if let (Some(answered), Some(talked)) = (cdr.answered, cdr.talked()) {
            self.setup.get_or_create(&by_trunk).observe(since(answered), example(), None);
            self.duration
                .get_or_create(&vec![("direction", direction.to_owned())])
                .observe(talked.as_secs_f64());
        }
        self.legs.count(cdr);
        for (leg, figures) in [("a", &cdr.a), ("b", &cdr.b)] {
            let Some(figures) = figures else { continue };
            if let (Some(mos), Some(codec)) = (figures.mos.0, figures.codec) {
                self.mos
                    .get_or_create(&vec![("leg", leg.to_owned()), ("codec", codec.to_owned())])
                    .observe(f64::from(mos), example(), None);
            }
            self.paths(figures);
        }
        self.fates.count(cdr, now);
    }

    /// How a browser's path came to be, or that it did not.
    fn paths(&self, figures: &Statistics) {
        figures.ice.iter().for_each(|time| self.ice.observe(time.as_secs_f64()));
        figures.dtls.iter().for_each(|time| self.dtls.observe(time.as_secs_f64()));
        // An end nobody agreed on anything for was never meant to connect.
        if figures.browser && figures.codec.is_some() && figures.ice.is_none() {
            let reason = if figures.checks == 0 { "no_checks" } else { "not_nominated" };
            self.ice_failed.get_or_create(&vec![("reason", reason.to_owned())]).inc();
        }
    }

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
    /// ends.
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
    }

    /// With one series of every family that has none yet, for the reference.
    pub fn touched() -> NodeMetrics {
        let metrics = NodeMetrics::new();
        let label = vec![("example", String::new())];
        let counters = [
            &metrics.calls_total,
            &metrics.refused_total,
            &metrics.flow_lost,
            &metrics.overload_refused,
            &metrics.connections_refused,
            &metrics.repeated,
            &metrics.messages.requests,
            &metrics.messages.responses,
            &metrics.one_way,
            &metrics.faults,
            &metrics.ice_failed,
            &metrics.cdr_dropped,
        ];
        counters.into_iter().for_each(|f| drop(f.get_or_create(&label)));
        [
            &metrics.trunk_up,
            &metrics.trunk_calls,
            &metrics.trunk_limit,
            &metrics.transcodes,
            &metrics.ports,
            &metrics.registrations,
            &metrics.cdr_waiting,
        ]
        .into_iter()
        .for_each(|f| drop(f.get_or_create(&label)));
        [&metrics.delay, &metrics.duration].into_iter().for_each(|f| drop(f.get_or_create(&label)));
        [&metrics.setup, &metrics.mos].into_iter().for_each(|f| drop(f.get_or_create(&label)));
        drop(metrics.trunk_rtt.get_or_create(&label));
        drop(metrics.webhook_counts.failed.get_or_create(&EVENT));
        drop(metrics.webhook_counts.took.get_or_create(&EVENT));
        metrics
    }

    /// The exposition, as OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = encode(&mut text, &self.registry);
        text
    }
}
