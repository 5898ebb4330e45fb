//! A start, part after part, each made of what came before it.

use super::core::{ClusterLinks, Core, ReportedRefusals};
use super::sockets::{Bound, control};
use super::upgrade::{self, Upgrader};
use super::workers::Starter;
use super::{
    Control, Node, Predecessor, RECORDS, call_storage, dtls_certificate, own_addresses, random,
    reload,
};
use crate::api::access::Access;
use crate::api::events::Feed;
use crate::api::metrics::NodeMetrics;
use crate::api::{self, ApiState, socket};
use crate::boot;
use crate::call::CallId;
use crate::call::context::NodeIdentity;
use crate::cluster::store::Process;
use crate::config::{ApiToken, Config, Scope};
use crate::datagrams::local::KernelRoutes;
use crate::gateway::restore::LateRequest;
use crate::gateway::{Gateway, Gauges, Input};
use crate::handover::sockets::Sockets;
use crate::ids::IdMap;
use crate::journal::search::RecordPlace;
use crate::journal::{Journal, WallClock};
use crate::media::dtls::DtlsIdentity;
use crate::sip::transaction::TrunkNumber;
use crate::sip::uri::UriTransport;
use crate::state::State;
use crate::state::checkpoints::CheckpointEntry;
use crate::store::Store;
use crate::supervisor;
use crate::telemetry::Exporter;
use crate::transport::certificate::Certificates;
use crate::transport::dns::Dns;
use crate::transport::hep::Hep;
use crate::transport::nodes::NodeTls;
use crate::transport::tcp::Secure;
use crate::transport::{Inbox, Queued, acme, certificate, tls};
use crate::web::WebPort;
use crate::webhook::{self, Hook};
use crate::worker::Worker;
use crate::worker::heartbeat::Pulse;
use anyhow::Context;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

/// Inputs that may wait for the core; shells wait when it is full.
pub(super) const CORE_QUEUE: usize = 8_192;

/// Where what is started comes from: a file that can be read again, a place for commands, and
/// sockets that a supervisor has kept open.
pub(super) struct StartPlace {
    /// The configuration file.
    pub(super) file: Option<PathBuf>,
    /// Where commands come in.
    pub(super) control: Control,
    /// Sockets of the predecessor, or of systemd.
    pub(super) kept_open: Sockets,
}

/// Starts a node, in the place of a predecessor if there is one.
///
/// # Errors
/// As [`Node::start_from`].
pub(super) async fn start(
    config: Config,
    place: StartPlace,
    predecessor: Option<&mut Predecessor>,
) -> anyhow::Result<Node> {
    // Another part of the process may have installed it already; either way it is in place.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    predecessor.as_ref().map_or(Ok(()), |predecessor| predecessor.is_this_node(&config))?;
    let (core, arrivals) = mpsc::channel(CORE_QUEUE);
    let (base, state) = Base::new(&config, Inbox::new(core), predecessor.as_deref()).await?;
    let sockets = predecessor.as_ref().map_or(&place.kept_open, |p| &p.sockets);
    let opened = Opened::open(&config, &base, &place.control, sockets).await?;
    let succession = Succession::begin(&config, &base, state, &opened, predecessor)?;
    let shells = Shells::start(config, &base, &opened, &succession, place.file)?;
    let node = serve(base, opened, succession, shells, arrivals).await;
    for name in place.kept_open.left() {
        supervisor::forget(&name);
    }
    Ok(node)
}

/// What every part shares.
struct Base {
    inbox: Inbox,
    metrics: Arc<NodeMetrics>,
    feed: Arc<Feed>,
    pulse: Arc<Pulse>,
    dtls: Arc<DtlsIdentity>,
}

impl Base {
    /// With what was kept, unless a predecessor has it until its place is taken.
    async fn new(
        config: &Config,
        inbox: Inbox,
        predecessor: Option<&Predecessor>,
    ) -> anyhow::Result<(Base, Option<State>)> {
        let metrics = Arc::new(NodeMetrics::new());
        let (state, dtls) = match predecessor {
            Some(predecessor) => (None, DtlsIdentity::from_pem(predecessor.certificate())?),
            None => {
                let mut state = open_state(config, &metrics);
                call_storage::leave_taken(config, &mut state).await;
                let dtls = dtls_certificate::certificate(config, &state).await?;
                (Some(state), dtls)
            }
        };
        let (feed, pulse) = (Arc::default(), Arc::new(Pulse::new(Instant::now())));
        Ok((Base { inbox, metrics, feed, pulse, dtls: Arc::new(dtls) }, state))
    }
}

/// All that can fail while a predecessor may still continue: files are read, sockets are bound.
struct Opened {
    certificates: Certificates,
    bound: Bound,
    control: Option<(UnixListener, PathBuf)>,
    engine: Engine,
}

/// What the core works with.
struct Engine {
    tls_trunks: HashMap<TrunkNumber, Secure>,
    starter: Starter,
    hep: Option<Hep>,
    telemetry: Option<Exporter>,
}

impl Opened {
    async fn open(
        config: &Config,
        base: &Base,
        wanted: &Control,
        sockets: &Sockets,
    ) -> anyhow::Result<Opened> {
        let certificates = Certificates::open(config)?;
        let bound = Bound::bind(config, &certificates, sockets).await?;
        let starter = Starter::new(config, &base.dtls, &base.inbox, &base.metrics, sockets)?;
        let engine = Engine {
            tls_trunks: tls_trunks(config)?,
            hep: hep(config, bound.at.udp, WallClock::now())?,
            telemetry: config.otlp.as_deref().map(Exporter::start).transpose()?,
            starter,
        };
        let control = control(config, wanted, sockets).await?;
        Ok(Opened { certificates, bound, control, engine })
    }
}

/// The calls there were, and the workers that continue with them.
struct Succession {
    state: State,
    workers: Vec<Worker>,
    /// The calls of a predecessor; else those that were found are taken up.
    resumed: Option<Vec<call_storage::TakenUp>>,
    /// What was said within them while they were taken.
    late: Vec<LateRequest>,
    found: Vec<CheckpointEntry>,
    /// New calls are refused, as an operator ordered the predecessor.
    draining: bool,
    /// The processes whose calls that one took over from other nodes.
    taken: Vec<Process>,
    /// What that one was in its cluster.
    former: Vec<Process>,
}

impl Succession {
    /// Takes the calls of a predecessor, which ends there, and starts the workers.
    fn begin(
        config: &Config,
        base: &Base,
        state: Option<State>,
        opened: &Opened,
        predecessor: Option<&mut Predecessor>,
    ) -> anyhow::Result<Succession> {
        let starter = &opened.engine.starter;
        let mut succession = match (predecessor, state) {
            (Some(predecessor), _) => Succession::take(config, base, starter, predecessor)?,
            (None, state) => {
                let state = state.unwrap_or_else(|| open_state(config, &base.metrics));
                let workers = starter.start_all(&state.ports(), false)?;
                let (late, found, taken) = (Vec::new(), Vec::new(), Vec::new());
                let (resumed, draining, former) = (None, false, Vec::new());
                Succession { state, workers, resumed, late, found, draining, taken, former }
            }
        };
        let Succession { state, workers, .. } = &mut succession;
        if config.media.browser_port == 0 {
            let ports: Vec<_> = workers.iter().map(|w| w.browser_address.port()).collect();
            state.keep_ports(&ports);
        }
        succession.found = std::mem::take(&mut succession.state.found);
        Ok(succession)
    }

    /// All is made ready while the predecessor has the calls still, so that they are silent for as
    /// short as can be: the workers have their sessions, and hold them until they are theirs.
    fn take(
        config: &Config,
        base: &Base,
        starter: &Starter,
        predecessor: &mut Predecessor,
    ) -> anyhow::Result<Succession> {
        can_record(config, &base.metrics)?;
        let read = predecessor.read_calls(starter.ports())?;
        let since = read.calls.still_since();
        let workers = starter.start_all(&[], true)?;
        predecessor.say_taken()?;
        let resumed = call_storage::resume(read.calls, read.streams, &workers);
        let late = predecessor.take()?;
        call_storage::let_go(&workers);
        let stood = boot::uptime().saturating_sub(since);
        tracing::info!(
            "{} calls are taken over; media was interrupted for {stood:.1?}",
            resumed.len()
        );
        predecessor.wait_until_released();
        let state = open_state(config, &base.metrics);
        let (resumed, found) = (Some(resumed), Vec::new());
        let (draining, taken, former) = (read.draining, read.taken, read.former);
        Ok(Succession { state, workers, resumed, late, found, draining, taken, former })
    }
}

/// What surrounds the core: records, the API, the page's port, and who receives events.
struct Shells {
    config: Arc<Config>,
    links: Option<ClusterLinks>,
    api: ApiState,
    telling: Option<webhook::Telling>,
    web_port: Arc<WebPort>,
    gauges: watch::Receiver<Gauges>,
    inner: CoreParts,
}

/// What the core gets of what serves it.
struct CoreParts {
    gateway: Gateway,
    links: Option<ClusterLinks>,
    web_port: Arc<WebPort>,
    tell_gauges: watch::Sender<Gauges>,
    clock: WallClock,
    journal: Option<Journal>,
}

impl Shells {
    fn start(
        config: Config,
        base: &Base,
        opened: &Opened,
        succession: &Succession,
        file: Option<PathBuf>,
    ) -> anyhow::Result<Shells> {
        let (state, workers) = (&succession.state, &succession.workers);
        let journal = journal(&config, state, &base.metrics)?;
        let links = links(&config, &base.inbox)?;
        let identity = NodeIdentity {
            fingerprint: base.dtls.fingerprint.clone(),
            workers: workers.len(),
            ..opened.bound.identity(&config)
        };
        let config = Arc::new(config);
        let now = Instant::now();
        let mut gateway = Gateway::new(now, config.clone(), identity, random()?);
        gateway.knows_taken(succession.taken.clone());
        let given: Vec<CallId> =
            succession.resumed.iter().flatten().map(|(_, call, _)| call.id()).collect();
        gateway.follow(now, succession.former.clone(), &given);
        let (tell_gauges, gauges) = watch::channel(gateway.gauges());
        let clock = WallClock::now();
        let mut api = api_of(&config, base, opened);
        api.file = file.clone();
        api.nodes = links.as_ref().map(|links| links.tls.clone());
        api.written = journal.as_ref().and_then(Journal::progress);
        api.metrics.reloaded(clock.since_epoch(Instant::now()));
        let telling = start_webhook(&config, &api, state)?;
        let origins = Arc::new(OnceLock::new());
        api.reload = file.clone().map(|file| reload::reloader(file, api.clone(), origins.clone()));
        let web_port = web_port(&config, opened, &api, &gauges, workers)?;
        let _ = origins.set(web_port.clone());
        let inner = CoreParts {
            gateway,
            links: links.clone(),
            web_port: web_port.clone(),
            tell_gauges,
            clock,
            journal,
        };
        Ok(Shells { config, links, api, telling, web_port, gauges, inner })
    }
}

fn web_port(
    config: &Config,
    opened: &Opened,
    api: &ApiState,
    gauges: &watch::Receiver<Gauges>,
    workers: &[Worker],
) -> anyhow::Result<Arc<WebPort>> {
    let web = opened.certificates.web.as_ref();
    let acceptor = web.map(|shown| tls::acceptor(shown, config.cluster.as_ref())).transpose()?;
    let mut web_port = WebPort::new(
        api.inbox.clone(),
        config,
        acceptor,
        gauges.clone(),
        api::router(api.clone()),
        api.metrics.refused_connections.clone(),
    );
    web_port.page_token = page_token(config, api)?;
    web_port.access = Some(api.access.clone());
    // The first worker has the browsers' port itself; the others count up from it.
    let at = opened.bound.at.web;
    web_port.streams = workers.first().filter(|w| w.shares(at)).map(Worker::streams);
    Ok(Arc::new(web_port))
}

/// The core, which has taken up the calls there were.
fn core(
    base: &Base,
    bound: &Bound,
    engine: Engine,
    succession: Succession,
    inner: CoreParts,
) -> Core {
    let on_disk = succession.state.directory.is_some();
    let mut core = Core {
        gateway: inner.gateway,
        inbox: base.inbox.clone(),
        workers: succession.workers,
        starter: engine.starter,
        pulse: base.pulse.clone(),
        udp: bound.udp.clone(),
        udp_is_ipv6: bound.at.udp.is_some_and(|a| a.is_ipv6()),
        routes: KernelRoutes::default(),
        flows: IdMap::default(),
        connections: HashMap::new(),
        tls_trunks: engine.tls_trunks,
        dns: Dns::new(),
        links: inner.links,
        journal: inner.journal,
        state: succession.state,
        kept: call_storage::KeptCalls::new(on_disk),
        process: None,
        taking: HashMap::new(),
        clock: inner.clock,
        feed: base.feed.clone(),
        metrics: base.metrics.clone(),
        drained: true,
        hooks: HashMap::new(),
        hep: engine.hep,
        telemetry: engine.telemetry,
        tell_gauges: inner.tell_gauges,
        malformed: 0,
        standing: None,
        shed: ReportedRefusals::default(),
        awaited: inner.web_port.awaited.clone(),
        web: inner.web_port,
        asked: None,
    };
    match succession.resumed {
        Some(given) => core.take_over(given, succession.found, succession.late),
        None => core.take_up(succession.found),
    }
    core
}

/// The node of all these parts: the core runs, and everything is served.
async fn serve(
    base: Base,
    opened: Opened,
    succession: Succession,
    shells: Shells,
    arrivals: mpsc::Receiver<Queued>,
) -> Node {
    let Opened { certificates, bound, control, engine } = opened;
    let Shells { config, links, api, telling, web_port, gauges, inner } = shells;
    let at = bound.at;
    let mut watched = vec![("core".to_owned(), base.pulse.clone())];
    watched.extend(engine.starter.pulses());
    let (control, control_at) = control.map_or((None, None), |(c, path)| (Some(c), Some(path)));
    let upgrader = control_at.clone().filter(|_| api.file.is_some()).map(|path| {
        let listening = bound.sockets(&path, control.as_ref());
        let (workers, pem) = (engine.starter.kept(), base.dtls.pem().to_owned());
        Arc::new(Upgrader::new(api.clone(), path, listening, workers, pem))
    });
    let draining = succession.draining;
    let core = core(&base, &bound, engine, succession, inner);
    let tls = links.as_ref().map(|links| links.tls.clone());
    let mut tasks = bound.serve(web_port, tls, &api);
    tasks.push(tokio::spawn(own_addresses::watch(config.stun.clone(), base.inbox.clone())));
    tasks.push(tokio::spawn(certificate::watch(certificates.clone())));
    tasks.extend(certificates.web.map(|shown| tokio::spawn(acme::run(config, shown))));
    let doors = upgrade::door(upgrader.clone());
    tasks.extend(control.map(|c| tokio::spawn(socket::serve(c, api.clone(), doors))));
    let core = tokio::spawn(core.run(arrivals));
    if draining {
        base.inbox.input(Input::Drain).await;
    }
    Node {
        watched,
        inbox: base.inbox,
        gauges,
        api,
        core,
        upgrader,
        telling,
        store: links.map(|links| links.store),
        tasks,
        web: at.web,
        udp: at.udp,
        tcp: at.tcp,
        tls: at.tls,
        metrics: at.metrics,
        cluster: at.cluster,
        control: control_at,
    }
}

/// What was kept by an earlier process.
fn open_state(config: &Config, metrics: &NodeMetrics) -> State {
    State::open(config.state_dir.as_deref(), RECORDS, metrics.checkpoints_failed.clone())
}

/// What leads to the rest of the cluster, if the node is part of one.
fn links(config: &Config, inbox: &Inbox) -> anyhow::Result<Option<ClusterLinks>> {
    let Some(settings) = &config.cluster else { return Ok(None) };
    let store = Store::start(settings, &config.domain, inbox.clone())?;
    Ok(Some(ClusterLinks { store, tls: NodeTls::new(settings)? }))
}

/// Starts delivering events to the web application.
fn start_webhook(
    config: &Config,
    api: &ApiState,
    state: &State,
) -> anyhow::Result<Option<webhook::Telling>> {
    let Some(settings) = &config.webhook else { return Ok(None) };
    let hook = Arc::new(Hook::new(settings, api.metrics.webhook_counts.clone())?);
    let dead = config.cdr_file.as_ref().or(config.cdr_sqlite.as_ref()).map_or_else(
        || PathBuf::from("webhook-dead.jsonl"),
        |f| f.with_file_name("webhook-dead.jsonl"),
    );
    let (salt, spool) = (u64::from_le_bytes(random()?), state.spool.clone());
    let (outbox, telling) = webhook::start(hook, dead, salt, spool)?;
    api.feed.tell_too(outbox);
    Ok(Some(telling))
}

/// What the API's handlers share; nothing can be reloaded yet.
fn api_of(config: &Config, base: &Base, opened: &Opened) -> ApiState {
    ApiState {
        inbox: base.inbox.clone(),
        feed: base.feed.clone(),
        metrics: base.metrics.clone(),
        access: Arc::new(Access::new(&config.api)),
        passwords: Arc::default(),
        provider: Arc::default(),
        reload: None,
        file: None,
        begun: Arc::default(),
        records: records(config),
        written: None,
        ports: opened.engine.starter.ports().clone(),
        certificates: opened.certificates.clone(),
        nodes: None,
    }
}

/// Whether records could be written, before there is no way back.
fn can_record(config: &Config, metrics: &NodeMetrics) -> anyhow::Result<()> {
    journal(config, &State::open(None, RECORDS, metrics.checkpoints_failed.clone()), metrics)
        .map(drop)
}

fn journal(
    config: &Config,
    state: &State,
    metrics: &NodeMetrics,
) -> anyhow::Result<Option<Journal>> {
    if config.cdr_file.is_none() && config.cdr_sqlite.is_none() {
        return Ok(None);
    }
    let (file, database) = (config.cdr_file.as_deref(), config.cdr_sqlite.as_deref());
    Journal::open(file, database, state.spool.as_ref(), metrics).map(Some)
}

/// Where records are searched: the database, which has indices, or the file.
fn records(config: &Config) -> Option<RecordPlace> {
    config
        .cdr_sqlite
        .clone()
        .map(RecordPlace::Database)
        .or_else(|| config.cdr_file.clone().map(RecordPlace::Lines))
}

fn hep(config: &Config, udp: Option<SocketAddr>, clock: WallClock) -> anyhow::Result<Option<Hep>> {
    let Some(to) = config.hep else { return Ok(None) };
    let named = SocketAddr::new(
        config.public_ips.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        udp.map_or(5060, |a| a.port()),
    );
    Hep::new(to, named, clock)
        .with_context(|| format!("events.hep: {to} cannot be sent to"))
        .map(Some)
}

/// What each trunk that may be reached over TLS is verified by.
///
/// # Errors
/// Files that cannot be read, an invalid name.
pub(super) fn tls_trunks(config: &Config) -> anyhow::Result<HashMap<TrunkNumber, Secure>> {
    let (mut found, mut connectors) = (HashMap::new(), tls::TrunkConnectors::default());
    for trunk in config.trunks.values() {
        let uris = trunk.uri.iter().chain(&trunk.registrars);
        let Some(host) = uris
            .filter(|u| matches!(u.transport, None | Some(UriTransport::Tls)))
            .map(|u| &u.host)
            .next()
        else {
            continue;
        };
        found.insert(
            trunk.number,
            connectors.secure(&trunk.tls, host).with_context(|| format!("trunk {}", trunk.name))?,
        );
    }
    Ok(found)
}

/// A token for the demo's page, which is opened on this machine only.
fn page_token(config: &Config, api: &ApiState) -> anyhow::Result<Option<String>> {
    if config.page_login.is_none() {
        return Ok(None);
    }
    let token = format!("{:032x}", u128::from_le_bytes(random()?));
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    let sha256 = hash.as_ref().try_into().context("a SHA-256 has 32 bytes")?;
    api.access.add(ApiToken { name: "page".into(), sha256, scope: Scope::Admin });
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_speaks_waits_while_the_core_is_behind() {
        let (core, mut arrivals) = mpsc::channel(CORE_QUEUE);
        let inbox = Inbox::new(core);
        for _ in 0..CORE_QUEUE {
            assert!(inbox.input(Input::Tick).await);
        }
        let mut more = Box::pin(inbox.input(Input::Tick));
        assert!(futures_util::poll!(more.as_mut()).is_pending());
        arrivals.recv().await.expect("the first");
        assert!(more.await, "there is room again");
    }
}
