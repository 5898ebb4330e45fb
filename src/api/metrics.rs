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
mod readings;

pub(crate) use self::readings::TrunkReading;
use crate::call::Cdr;
use crate::errors::Code;
use crate::event::{Counted, Event, LostBy};
use crate::media::Statistics;
use crate::refused::RefusedConnections;
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
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

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

/// All counters of a node.
pub struct NodeMetrics {
    /// Held by the reader: families are emptied and filled again, and must not be read half full.
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
    log_lost: Counter,
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
            log_lost: Counter::default(),
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
            "log_lines_lost",
            "Lines of the log that nobody read in time",
            self.log_lost.clone(),
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
        for (leg, figures) in [("a", &cdr.caller_media), ("b", &cdr.callee_media)] {
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
