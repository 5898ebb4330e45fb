//! A node: it binds the ports, runs the core, and carries its outputs out. Start, drain, stop.

mod core;
pub mod demo;
mod hosts;
mod kept;
mod reload;
#[cfg(test)]
mod survival;
mod take_over;
mod upgrade;
mod watchdog;

use self::core::{ClusterLinks, Core, Told};
use self::upgrade::Upgrader;
use crate::api::access::Access;
use crate::api::metrics::NodeMetrics;
use crate::api::server::Changes;
use crate::api::{self, ApiState, socket};
use crate::call::context::NodeIdentity;
use crate::call::reach::Reach;
use crate::config::{ApiToken, Config, Scope, WebTls};
use crate::datagrams::local::{KernelRoutes, tell_local};
use crate::gateway::{Gateway, Gauges, Input};
use crate::handover::sockets::{RTCP, RTP, Sockets};
use crate::ids::IdMap;
use crate::journal::search::RecordPlace;
use crate::journal::{Journal, WallClock};
use crate::media::dtls::{self, DtlsIdentity};
use crate::sip::transaction::TrunkNumber;
use crate::sip::uri::UriTransport;
use crate::state::State;
use crate::store::Store;
use crate::supervisor;
use crate::telemetry::Exporter;
use crate::transport::certificate::Certificates;
use crate::transport::dns::Dns;
use crate::transport::hep::Hep;
use crate::transport::nodes::{self, NodeTls};
use crate::transport::tcp::Secure;
use crate::transport::{Arrival, Inbox, acme, certificate, tcp, tls};
use crate::web::{self, WebPort};
use crate::webhook::{self, Hook};
use crate::worker::ports::{Pair, PortRange};
use crate::worker::pulse::Pulse;
use crate::worker::{self, Notice, RECEIVE_BUFFER, Streamed, Worker, WorkerSetup};
use anyhow::Context;
pub use core::CoreEnd;
use rand_core::{OsRng, TryRngCore};
use socket2::SockRef;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
pub use take_over::Predecessor;
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::sync::{mpsc, watch};
pub use upgrade::{GUARDED, Successor};
pub(crate) use watchdog::Watchdog;

/// Inputs that may wait for the core; shells wait when it is full.
const CORE_QUEUE: usize = 8_192;

/// The version of the checkpoints of calls.
const RECORDS: u16 = 3;

/// A running node.
pub struct Node {
    watched: watchdog::Watched,
    inbox: Inbox,
    gauges: watch::Receiver<Gauges>,
    api: ApiState,
    core: tokio::task::JoinHandle<CoreEnd>,
    upgrader: Option<Arc<Upgrader>>,
    telling: Option<webhook::Telling>,
    store: Option<Store>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    /// Page, API and SIP over WebSocket.
    pub web: SocketAddr,
    /// SIP over UDP.
    pub udp: Option<SocketAddr>,
    /// SIP over TCP.
    pub tcp: Option<SocketAddr>,
    /// SIP over TLS.
    pub tls: Option<SocketAddr>,
    /// OpenMetrics.
    pub metrics: Option<SocketAddr>,
    /// Where other nodes connect.
    pub cluster: Option<SocketAddr>,
    /// The control socket, where one could be made.
    pub control: Option<PathBuf>,
}

/// Where a control socket is wanted.
#[derive(Clone, Debug, Default)]
pub enum Control {
    /// Nobody commands it but its own web port.
    #[default]
    None,
    /// Here, unless the configuration says; nothing: the usual place.
    Wanted(Option<PathBuf>),
    /// Likewise, but not where another gateway has it already.
    IfFree(Option<PathBuf>),
}

/// Where a node's configuration comes from, and how it is steered.
#[derive(Default)]
pub struct Origin {
    /// Read again at reload.
    pub file: Option<PathBuf>,
    /// Where commands come from.
    pub control: Control,
    /// A running gateway whose place is taken.
    pub predecessor: Option<Predecessor>,
    /// What a supervisor has kept open.
    pub sockets: Sockets,
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

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).context("the system gives no random bytes")?;
    Ok(bytes)
}

impl Node {
    /// Binds everything `config` names and starts serving.
    ///
    /// # Errors
    /// A port that cannot be bound, a certificate that cannot be read: what, and which.
    pub async fn start(config: Config) -> anyhow::Result<Node> {
        Node::start_from(config, Origin::default()).await
    }

    /// As [`start`](Self::start), with what a served file brings: it can be read again, and there
    /// is a control socket.
    ///
    /// # Errors
    /// As [`start`](Self::start). A predecessor is told then, and goes on.
    pub async fn start_from(config: Config, origin: Origin) -> anyhow::Result<Node> {
        let Origin { file, control: wanted, mut predecessor, sockets } = origin;
        let place = (file, wanted, sockets);
        let started = Node::start_after(config, place, predecessor.as_mut()).await;
        match (&started, predecessor) {
            (Err(why), Some(predecessor)) => predecessor.refuse(&format!("{why:#}")),
            (Ok(_), Some(predecessor)) => predecessor.say_serving(),
            (_, None) => {}
        }
        started
    }

    #[allow(clippy::too_many_lines, reason = "one part after the other, each used by a later one")]
    async fn start_after(
        config: Config,
        (file, wanted, kept_open): (Option<PathBuf>, Control, Sockets),
        mut predecessor: Option<&mut Predecessor>,
    ) -> anyhow::Result<Node> {
        // Another part of the process may have installed it already; either way it is in place.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (core, arrivals) = mpsc::channel(CORE_QUEUE);
        let inbox = Inbox::new(core);
        let metrics = Arc::new(NodeMetrics::new());
        let failed = metrics.checkpoints_failed.clone();
        let open_state = || State::open(config.state_dir.as_deref(), RECORDS, failed.clone());
        // A predecessor has it, and the certificate, until its place is taken.
        let (early, dtls) = match &predecessor {
            Some(predecessor) => (None, DtlsIdentity::from_pem(predecessor.certificate())?),
            None => {
                let state = open_state();
                let dtls = state.certificate()?;
                (Some(state), dtls)
            }
        };
        let dtls = Arc::new(dtls);
        let sockets = predecessor.as_ref().map_or(&kept_open, |p| &p.sockets);
        let certificates = Certificates::open(&config)?;
        let bound = Bound::bind(&config, &certificates, sockets).await?;
        let tls_trunks = tls_trunks(&config)?;
        let starter = Starter::new(&config, &dtls, &inbox, &metrics, sockets)?;
        let control = control(&config, &wanted, sockets).await?;
        let hep = hep(&config, bound.at.udp, WallClock::now())?;
        let telemetry = config.otlp.as_deref().map(Exporter::start).transpose()?;
        let ports = starter.setups[0].ports.clone();
        let mut taken = match &mut predecessor {
            Some(predecessor) => {
                can_record(&config, &metrics)?;
                Some(predecessor.take_calls(&ports)?)
            }
            None => None,
        };
        let before = early.as_ref().map(State::ports).unwrap_or_default();
        let workers = starter.start_all(&before)?;
        let draining = taken.as_ref().is_some_and(|taken| taken.draining);
        let late = taken.as_mut().map(|taken| std::mem::take(&mut taken.late)).unwrap_or_default();
        let resumed = taken.map(|taken| kept::resume(taken.calls, taken.streams, &workers));
        let mut state = match early {
            Some(state) => state,
            None => {
                predecessor.iter().for_each(|p| p.wait_until_released());
                open_state()
            }
        };
        let ports_now: Vec<u16> = workers.iter().map(|w| w.browser_address.port()).collect();
        if config.media.browser_port == 0 {
            state.keep_ports(&ports_now);
        }
        let pulse = Arc::new(Pulse::new(Instant::now()));
        let mut watched = vec![("core".to_owned(), pulse.clone())];
        watched.extend(starter.setups.iter().map(|s| (s.name.clone(), s.pulse.clone())));
        let journal = journal(&config, &state, &metrics)?;
        let links = links(&config, &inbox)?;
        let identity = NodeIdentity {
            fingerprint: dtls.fingerprint.clone(),
            workers: workers.len(),
            ..bound.identity(&config)?
        };
        let config = Arc::new(config);
        let stun = config.stun.clone();
        let gateway = Gateway::new(Instant::now(), config.clone(), identity, random()?);
        let (tell_gauges, gauges) = watch::channel(gateway.gauges());
        let clock = WallClock::now();
        let mut api = api_of(&config, &inbox, metrics, ports, &certificates);
        api.file = file.clone();
        api.written = journal.as_ref().and_then(Journal::progress);
        api.metrics.reloaded(clock.since_epoch(Instant::now()));
        let telling = told(&config, &api, &state)?;
        let origins = Arc::new(OnceLock::new());
        api.reload = file.clone().map(|file| reload::reloader(file, api.clone(), origins.clone()));
        let mut web_port = WebPort::new(
            inbox.clone(),
            &config,
            certificates.web.as_ref().map(tls::acceptor).transpose()?,
            gauges.clone(),
            api::router(api.clone()),
            page_token(&config, &api)?,
            api.metrics.refused_connections.clone(),
        );
        // The first worker has the browsers' port itself; the others count up from it.
        web_port.streams = workers.first().filter(|w| w.shares(bound.at.web)).map(Worker::streams);
        let web_port = Arc::new(web_port);
        let _ = origins.set(web_port.clone());
        let found = std::mem::take(&mut state.found);
        let mut core = Core {
            gateway,
            inbox: inbox.clone(),
            workers,
            starter,
            pulse,
            udp: bound.udp.clone(),
            udp_is_ipv6: bound.at.udp.is_some_and(|a| a.is_ipv6()),
            routes: KernelRoutes::default(),
            flows: IdMap::default(),
            connections: HashMap::new(),
            tls_trunks,
            dns: Dns::new(),
            links: links.clone(),
            journal,
            state,
            kept: kept::KeptCalls::new(),
            clock,
            feed: api.feed.clone(),
            metrics: api.metrics.clone(),
            drained: true,
            hooks: HashMap::new(),
            hep,
            telemetry,
            tell_gauges,
            malformed: 0,
            standing: None,
            shed: Told::default(),
            awaited: web_port.awaited.clone(),
            web: web_port.clone(),
            asked: None,
        };
        match resumed {
            Some(given) => core.take_over(given, found, late),
            None => core.take_up(found),
        }
        let at = bound.at;
        let (control_listener, control_at) =
            control.map_or((None, None), |(listener, path)| (Some(listener), Some(path)));
        let upgrader = control_at.clone().filter(|_| file.is_some()).map(|control| {
            let workers = core.starter.setups.iter().map(|s| (s.name.clone(), s.kept.clone()));
            let listening = bound.sockets(&control, control_listener.as_ref());
            let (workers, pem) = (workers.collect(), dtls.pem().to_owned());
            Arc::new(Upgrader::new(api.clone(), control, listening, workers, pem))
        });
        let doors = upgrade::door(upgrader.clone());
        for name in kept_open.left() {
            supervisor::forget(&name);
        }
        let tls = links.as_ref().map(|links| links.tls.clone());
        let mut tasks = bound.serve(web_port, tls, &api);
        tasks.push(tokio::spawn(hosts::watch(stun, inbox.clone())));
        tasks.push(tokio::spawn(certificate::watch(certificates.clone())));
        tasks.extend(certificates.web.map(|shown| tokio::spawn(acme::run(config, shown))));
        tasks.extend(control_listener.map(|c| tokio::spawn(socket::serve(c, api.clone(), doors))));
        let core = tokio::spawn(core.run(arrivals));
        if draining {
            inbox.input(Input::Drain).await;
        }
        Ok(Node {
            watched,
            inbox,
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
        })
    }

    /// Watches the core and the workers until the result is dropped: `alive` is called again and
    /// again while they live, `still` once with the name of one that stands still.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn watch(
        &self,
        alive: impl Fn() + Send + 'static,
        still: impl FnOnce(&str) + Send + 'static,
    ) -> std::io::Result<Watchdog> {
        Watchdog::start(self.watched.clone(), alive, still)
    }

    /// Has the supervisor keep what is listened on open for the next process.
    pub fn keep_sockets(&self) {
        let Some(upgrader) = &self.upgrader else { return };
        for (name, socket) in upgrader.sockets() {
            // A path is no name for systemd, and the next process makes its own.
            if !name.contains(':') {
                supervisor::keep(&name, socket.as_fd());
            }
        }
    }

    /// Waits until the core has ended. `None`: of a bug.
    pub async fn core_ended(&mut self) -> Option<CoreEnd> {
        (&mut self.core).await.ok()
    }

    /// After [`CoreEnd::HandedOver`]: lets go of everything else, once `before` knows who has the
    /// place, and waits until that process serves. Returns who it is.
    ///
    /// # Errors
    /// It does not serve, and why.
    pub async fn leave(mut self, before: impl FnOnce(&Successor)) -> Result<Successor, String> {
        let Some(upgrader) = self.upgrader.take() else { return Err("nobody asked".to_owned()) };
        let Some(successor) = upgrader.gone().await else { return Err("nobody asked".to_owned()) };
        before(&successor);
        // The successor's too.
        self.control = None;
        self.stop().await;
        upgrader.released().await.map(|()| successor)
    }

    /// Waits until `wanted` holds of the gauges.
    pub async fn until(&mut self, wanted: impl FnMut(&Gauges) -> bool) {
        let _ = self.gauges.wait_for(wanted).await;
    }

    /// New calls get 503 from now on.
    pub async fn drain(&self) {
        self.inbox.input(Input::Drain).await;
    }

    /// Reads the configuration file again and puts it in force.
    ///
    /// # Errors
    /// It has mistakes, or there is no file; nothing is changed then.
    pub async fn reload(&self) -> Result<Changes, String> {
        match &self.api.reload {
            Some(reload) => reload().await,
            None => Err("this gateway was started without a configuration file".to_owned()),
        }
    }

    /// Ends every call with BYE.
    pub async fn hang_up_all(&self) {
        self.inbox.input(Input::HangUpAll).await;
    }

    /// Stops at once; records and events already handed over are on disk, or told, when this
    /// returns.
    pub async fn stop(self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        if !self.core.is_finished() {
            self.core.abort();
            let _ = self.core.await;
        }
        if let Some(store) = self.store {
            store.leave().await;
        }
        if let Some(telling) = self.telling {
            telling.stop().await;
        }
        if let Some(path) = &self.control {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Everything a configuration has us bind but media.
struct Bound {
    web: TcpListener,
    udp: Option<Arc<UdpSocket>>,
    tcp: Option<TcpListener>,
    tls: Option<(TcpListener, tokio_rustls::TlsAcceptor)>,
    metrics: Option<TcpListener>,
    cluster: Option<TcpListener>,
    at: Places,
}

/// Where it was bound: port 0 asks the system for one.
#[derive(Clone, Copy)]
struct Places {
    web: SocketAddr,
    udp: Option<SocketAddr>,
    tcp: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    cluster: Option<SocketAddr>,
}

impl Bound {
    /// Binds what is not among `sockets`.
    async fn bind(
        config: &Config,
        certificates: &Certificates,
        sockets: &Sockets,
    ) -> anyhow::Result<Bound> {
        let web = listen_tcp(config.web_listen, "web.listen", sockets).await?;
        let udp = match config.udp {
            Some(at) => {
                let bound = match sockets.udp("sip.udp", at) {
                    Some(socket) => UdpSocket::from_std(socket),
                    None => UdpSocket::bind(at).await,
                };
                let bound = bound.with_context(|| format!("sip.udp = {at} cannot be bound"))?;
                Some(Arc::new(bound))
            }
            None => None,
        };
        if let Some(socket) = &udp {
            // What belongs to calls must not be lost behind a burst of others.
            let _ = SockRef::from(&**socket).set_recv_buffer_size(RECEIVE_BUFFER);
            tell_local(&**socket, socket.local_addr()?)?;
        }
        let tcp = listen_if(config.tcp, "sip.tcp", sockets).await?;
        let tls = listen_tls(config, certificates, sockets).await?;
        let metrics = listen_if(config.api.metrics, "metrics.listen", sockets).await?;
        let cluster = config.cluster.as_ref().map(|c| c.listen);
        let cluster = listen_if(cluster, "cluster.listen", sockets).await?;
        let of = |listener: Option<&TcpListener>| listener.map(TcpListener::local_addr).transpose();
        let at = Places {
            web: web.local_addr()?,
            udp: udp.as_ref().map(|s| s.local_addr()).transpose()?,
            tcp: of(tcp.as_ref())?,
            tls: of(tls.as_ref().map(|(l, _)| l))?,
            metrics: of(metrics.as_ref())?,
            cluster: of(cluster.as_ref())?,
        };
        Ok(Bound { web, udp, tcp, tls, metrics, cluster, at })
    }

    /// All of it once more, by name, and the control socket.
    fn sockets(&self, control: &Path, listener: Option<&UnixListener>) -> Vec<(String, OwnedFd)> {
        let tls = self.tls.as_ref().map(|(listener, _)| listener);
        let tcp = [
            ("web.listen", Some(&self.web)),
            ("sip.tcp", self.tcp.as_ref()),
            ("sip.tls", tls),
            ("metrics.listen", self.metrics.as_ref()),
            ("cluster.listen", self.cluster.as_ref()),
        ];
        let tcp = tcp.into_iter().filter_map(|(name, l)| Some((name.to_owned(), l?.as_fd())));
        let udp = self.udp.as_ref().map(|socket| ("sip.udp".to_owned(), socket.as_fd()));
        let control = listener.map(|l| (control_name(control), l.as_fd()));
        let all = tcp.chain(udp).chain(control);
        all.filter_map(|(name, fd)| Some((name, fd.try_clone_to_owned().ok()?))).collect()
    }

    /// Accepts on every listener, until the tasks are aborted.
    fn serve(
        self,
        web_port: Arc<WebPort>,
        nodes: Option<NodeTls>,
        api: &ApiState,
    ) -> Vec<tokio::task::JoinHandle<()>> {
        let (inbox, proved) = (|| api.inbox.clone(), web_port.proved.clone());
        let mut tasks = vec![tokio::spawn(web::serve(self.web, web_port))];
        tasks.extend(self.metrics.map(|l| tokio::spawn(socket::serve_metrics(l, api.clone()))));
        let refused = || api.metrics.refused_connections.clone();
        tasks.extend(
            self.tcp.map(|l| tokio::spawn(tcp::serve(l, None, inbox(), refused(), proved.clone()))),
        );
        let nodes = self.cluster.zip(nodes);
        tasks.extend(nodes.map(|(l, tls)| tokio::spawn(nodes::serve(l, tls, inbox(), refused()))));
        let tls =
            self.tls.map(|(l, acceptor)| tcp::serve(l, Some(acceptor), inbox(), refused(), proved));
        tasks.extend(tls.map(tokio::spawn));
        tasks
    }

    /// What signalling says of us; without the certificate's fingerprint and the workers.
    fn identity(&self, config: &Config) -> anyhow::Result<NodeIdentity> {
        Ok(NodeIdentity {
            fingerprint: String::new(),
            udp_port: self.at.udp.map_or(5060, |a| a.port()),
            tcp_port: self.at.tcp.map_or(5060, |a| a.port()),
            tls_port: self.at.tls.map_or(5061, |a| a.port()),
            web_secure: config.web_tls != WebTls::Off,
            workers: 0,
            reach: Reach(Some(Arc::new(hosts::System::new(config, media_ip(config))))),
            unix: WallClock::now().since_epoch(Instant::now()).as_secs(),
        })
    }
}

/// What leads to the rest of the cluster, if the node is part of one.
fn links(config: &Config, inbox: &Inbox) -> anyhow::Result<Option<ClusterLinks>> {
    let Some(settings) = &config.cluster else { return Ok(None) };
    let store = Store::start(settings, &config.domain, inbox.clone())?;
    Ok(Some(ClusterLinks { store, tls: NodeTls::new(settings)? }))
}

/// Starts telling the events' web application.
fn told(
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
fn api_of(
    config: &Config,
    inbox: &Inbox,
    metrics: Arc<NodeMetrics>,
    ports: Arc<PortRange>,
    certificates: &Certificates,
) -> ApiState {
    ApiState {
        inbox: inbox.clone(),
        feed: Arc::default(),
        metrics,
        access: Arc::new(Access::new(&config.api)),
        passwords: Arc::default(),
        reload: None,
        file: None,
        begun: Arc::default(),
        records: records(config),
        written: None,
        ports,
        certificates: certificates.clone(),
    }
}

/// What the control socket at `path` is called among the sockets of a process.
fn control_name(path: &Path) -> String {
    format!("control:{}", path.display())
}

/// Whether records could be written, before there is no way back.
fn can_record(config: &Config, metrics: &NodeMetrics) -> anyhow::Result<()> {
    journal(config, &State::open(None, RECORDS, metrics.checkpoints_failed.clone()), metrics)
        .map(drop)
}

/// The control socket, where one is wanted and can be made.
async fn control(
    config: &Config,
    wanted: &Control,
    sockets: &Sockets,
) -> anyhow::Result<Option<(UnixListener, PathBuf)>> {
    let (Control::Wanted(path) | Control::IfFree(path)) = wanted else { return Ok(None) };
    let named = config.api.control.clone().or_else(|| path.clone());
    // Two gateways on one machine are fine; only a place somebody chose must be had.
    let must = named.is_some() && matches!(wanted, Control::Wanted(_));
    let (path, ours) = match named {
        Some(path) => (path, Ok(())),
        None => {
            let path = socket::default_path();
            let ours = socket::trusted(&path);
            (path, ours)
        }
    };
    let bound = match ours {
        Ok(()) => match sockets.unix(&control_name(&path)) {
            Some(listener) => UnixListener::from_std(listener).map_err(Into::into),
            None => socket::bind(&path).await,
        },
        Err(e) => Err(e),
    };
    match (bound, must) {
        (Ok(listener), _) => Ok(Some((listener, path))),
        (Err(e), false) => {
            tracing::warn!(
                "no control socket, so `webtrunk calls` and its like will not find this gateway: {e:#}"
            );
            Ok(None)
        }
        (Err(e), true) => Err(e),
    }
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

async fn listen_if(
    at: Option<SocketAddr>,
    key: &str,
    sockets: &Sockets,
) -> anyhow::Result<Option<TcpListener>> {
    match at {
        Some(at) => listen_tcp(at, key, sockets).await.map(Some),
        None => Ok(None),
    }
}

async fn listen_tcp(at: SocketAddr, key: &str, sockets: &Sockets) -> anyhow::Result<TcpListener> {
    let bound = match sockets.tcp(key, at) {
        Some(listener) => TcpListener::from_std(listener),
        None => TcpListener::bind(at).await,
    };
    bound.with_context(|| format!("{key} = {at} cannot be bound: is another program using it?"))
}

/// The listener of `sip.tls` and what it shows.
async fn listen_tls(
    config: &Config,
    certificates: &Certificates,
    sockets: &Sockets,
) -> anyhow::Result<Option<(TcpListener, tokio_rustls::TlsAcceptor)>> {
    let (Some(at), Some(shown)) = (config.sip.tls, &certificates.sip) else { return Ok(None) };
    let acceptor = tls::sip_acceptor(shown, config.sip.client_ca.as_deref())?;
    Ok(Some((listen_tcp(at, "sip.tls", sockets).await?, acceptor)))
}

/// What each trunk that may be reached over TLS is verified by.
fn tls_trunks(config: &Config) -> anyhow::Result<HashMap<TrunkNumber, Secure>> {
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

/// Where media's sockets are bound. Where IPv6 is spoken, one socket serves both families.
fn media_ip(config: &Config) -> IpAddr {
    if let Some(ip) = config.media.bind {
        return ip;
    }
    let listeners = [config.udp, config.tcp, config.sip.tls, Some(config.web_listen)];
    let told = config.public_ips.iter().chain(config.browser_ips()).chain(&config.sip.public_ip);
    let trunks = config.trunks.values().filter_map(|t| t.public_ip.as_ref());
    if listeners.into_iter().flatten().any(|a| a.is_ipv6())
        || told.chain(trunks).any(IpAddr::is_ipv6)
    {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    }
}

/// Has the supervisor keep a pair of media sockets, or forget it.
fn keep_pair(port: u16, pair: Option<&Pair>) {
    let names = [format!("{RTP}{port}"), format!("{RTCP}{port}")];
    match pair {
        Some(pair) => {
            supervisor::keep(&names[0], pair.rtp.as_fd());
            supervisor::keep(&names[1], pair.rtcp.as_fd());
        }
        None => names.iter().for_each(|name| supervisor::forget(name)),
    }
}

/// Starts media workers, and starts them again.
struct Starter {
    setups: Vec<WorkerSetup>,
    inbox: Inbox,
}

impl Starter {
    fn new(
        config: &Config,
        dtls: &Arc<dtls::DtlsIdentity>,
        inbox: &Inbox,
        metrics: &NodeMetrics,
        sockets: &Sockets,
    ) -> anyhow::Result<Starter> {
        let any = media_ip(config);
        let seed = u64::from_le_bytes(random()?);
        let (first, last) = config.media.ports;
        let ports = Arc::new(PortRange::new(any, first..=last, seed).telling(Box::new(keep_pair)));
        let now = Instant::now();
        for (port, rtp, rtcp) in sockets.pairs() {
            ports.adopt(Pair { port, rtp, rtcp }, now);
        }
        let setup = |n: usize| {
            // Port 0 asks the system for any; otherwise the workers take consecutive ports.
            let first = config.media.browser_port;
            let port = if first == 0 { 0 } else { first + n as u16 };
            let streamed = match config.media.ice_tcp {
                false => Streamed::No,
                true if port != 0 && port == config.web_listen.port() => Streamed::ByWeb,
                true => Streamed::Own,
            };
            let (name, at) = (format!("media-{n}"), SocketAddr::new(any, port));
            let (late, refused) = (metrics.late.clone(), metrics.refused_connections.clone());
            let setup = WorkerSetup {
                late,
                refused,
                ..WorkerSetup::new(name, at, streamed, ports.clone(), dtls.clone())
            };
            if let Some(socket) = sockets.udp(&setup.name, at) {
                let there = socket.local_addr().unwrap_or(at);
                setup.kept.keep_browsers(&socket);
                let listener = sockets.tcp(&format!("{}-tcp", setup.name), there);
                listener.iter().for_each(|listener| setup.kept.keep_listener(listener));
            }
            setup
        };
        let setups = (0..config.media.workers).map(setup).collect();
        Ok(Starter { setups, inbox: inbox.clone() })
    }

    /// Starts the worker of this number.
    ///
    /// # Errors
    /// Its port cannot be bound.
    fn start(&self, n: usize) -> anyhow::Result<Worker> {
        let setup = self.setups[n].clone();
        let (inbox, at) = (self.inbox.clone(), setup.browser);
        let tell = move |session: u64, notice: Notice| {
            inbox.give_blocking(Arrival::Input(Input::Media { session, notice }));
        };
        Worker::start(setup, tell)
            .with_context(|| format!("media.browser_port: UDP or TCP {at} cannot be bound"))
    }

    /// Starts all; where the system chooses their ports, those of `before` are tried first, to which
    /// browsers of calls that go on still send.
    fn start_all(&self, before: &[u16]) -> anyhow::Result<Vec<Worker>> {
        for (setup, port) in self.setups.iter().zip(before) {
            let there = SocketAddr::new(setup.browser.ip(), *port);
            if setup.browser.port() == 0
                && setup.kept.browsers().is_none()
                && let Ok(socket) = worker::bind(there)
            {
                setup.kept.keep_browsers(&socket);
            }
        }
        (0..self.setups.len()).map(|n| self.start(n)).collect()
    }
}
