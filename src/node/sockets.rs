//! Every socket a configuration names but media's: bound, or taken over, and served.

use super::Control;
use super::own_addresses;
use super::workers::media_ip;
use crate::api::{ApiState, across, socket};
use crate::call::context::NodeIdentity;
use crate::call::reach::Reach;
use crate::config::{Config, WebTls};
use crate::datagrams::local::tell_local;
use crate::handover::sockets::Sockets;
use crate::journal::WallClock;
use crate::transport::certificate::Certificates;
use crate::transport::nodes::{self, NodeTls};
use crate::transport::{tcp, tls};
use crate::web::{self, WebPort};
use crate::worker::RECEIVE_BUFFER;
use anyhow::Context;
use socket2::SockRef;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokio::net::{TcpListener, UdpSocket, UnixListener};

/// Everything a configuration has us bind but media.
pub(super) struct Bound {
    web: TcpListener,
    /// The UDP socket of SIP.
    pub(super) udp: Option<Arc<UdpSocket>>,
    tcp: Option<TcpListener>,
    tls: Option<(TcpListener, tokio_rustls::TlsAcceptor)>,
    metrics: Option<TcpListener>,
    cluster: Option<TcpListener>,
    /// The addresses.
    pub(super) at: Places,
}

/// Where it was bound: port 0 asks the system for one.
#[derive(Clone, Copy)]
pub(super) struct Places {
    /// The web port.
    pub(super) web: SocketAddr,
    /// SIP over UDP.
    pub(super) udp: Option<SocketAddr>,
    /// SIP over TCP.
    pub(super) tcp: Option<SocketAddr>,
    /// SIP over TLS.
    pub(super) tls: Option<SocketAddr>,
    /// The metrics' own port.
    pub(super) metrics: Option<SocketAddr>,
    /// The link between the nodes of a cluster.
    pub(super) cluster: Option<SocketAddr>,
}

impl Bound {
    /// Binds what is not among `sockets`.
    ///
    /// # Errors
    /// A port that cannot be bound, a certificate that cannot be read.
    pub(super) async fn bind(
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
    pub(super) fn sockets(
        &self,
        control: &Path,
        listener: Option<&UnixListener>,
    ) -> Vec<(String, OwnedFd)> {
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
    pub(super) fn serve(
        self,
        web_port: Arc<WebPort>,
        nodes: Option<NodeTls>,
        api: &ApiState,
    ) -> Vec<tokio::task::JoinHandle<()>> {
        let (inbox, proved) = (|| api.inbox.clone(), web_port.proved.clone());
        let mut tasks = vec![tokio::spawn(web::serve(self.web, web_port))];
        let metrics = |l| socket::serve_metrics(l, api.clone(), proved.clone());
        tasks.extend(self.metrics.map(metrics).map(tokio::spawn));
        let refused = || api.metrics.refused_connections.clone();
        tasks.extend(
            self.tcp.map(|l| tokio::spawn(tcp::serve(l, None, inbox(), refused(), proved.clone()))),
        );
        let nodes = self.cluster.zip(nodes);
        let asked = api.clone();
        let asking: nodes::AskingDoor =
            Arc::new(move |stream| Box::pin(across::serve(stream, asked.clone())));
        let nodes = nodes.map(|(l, tls)| nodes::serve(l, tls, inbox(), refused(), asking));
        tasks.extend(nodes.map(tokio::spawn));
        let tls =
            self.tls.map(|(l, acceptor)| tcp::serve(l, Some(acceptor), inbox(), refused(), proved));
        tasks.extend(tls.map(tokio::spawn));
        tasks
    }

    /// What signalling says of us; without the certificate's fingerprint and the workers.
    pub(super) fn identity(&self, config: &Config) -> NodeIdentity {
        NodeIdentity {
            fingerprint: String::new(),
            udp_port: self.at.udp.map_or(5060, |a| a.port()),
            tcp_port: self.at.tcp.map_or(5060, |a| a.port()),
            tls_port: self.at.tls.map_or(5061, |a| a.port()),
            web_secure: config.web_tls != WebTls::Off,
            workers: 0,
            reach: Reach(Some(Arc::new(own_addresses::System::new(config, media_ip(config))))),
            unix: WallClock::now().since_epoch(Instant::now()).as_secs(),
        }
    }
}

/// What the control socket at `path` is called among the sockets of a process.
fn control_name(path: &Path) -> String {
    format!("control:{}", path.display())
}

/// The control socket, if one is wanted and can be made.
///
/// # Errors
/// Another gateway has it, or it cannot be made.
pub(super) async fn control(
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
                "no control socket, so `webtrunk calls` and its like will not find this gateway: \
                    {e:#}"
            );
            Ok(None)
        }
        (Err(e), true) => Err(e),
    }
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
