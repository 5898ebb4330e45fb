//! Media workers: where their sockets are, how they are started, and started again.

use super::random;
use crate::api::metrics::NodeMetrics;
use crate::config::Config;
use crate::gateway::Input;
use crate::handover::sockets::{RTCP, RTP, Sockets};
use crate::media::dtls::DtlsIdentity;
use crate::supervisor;
use crate::transport::{Arrival, Inbox};
use crate::worker::heartbeat::Pulse;
use crate::worker::load::WorkerLoad;
use crate::worker::ports::{Pair, PortRange};
use crate::worker::{self, Kept, Notice, Streamed, Worker, WorkerSetup};
use anyhow::Context;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

/// Where media's sockets are bound. Where IPv6 is spoken, one socket serves both families.
pub(super) fn media_ip(config: &Config) -> IpAddr {
    if let Some(ip) = config.media.bind {
        return ip;
    }
    let listeners = [config.udp, config.tcp, config.sip.tls, Some(config.web_listen)];
    let configured =
        config.public_ips.iter().chain(config.browser_ips()).chain(&config.sip.public_ip);
    let trunks = config.trunks.values().filter_map(|t| t.public_ip.as_ref());
    if listeners.into_iter().flatten().any(|a| a.is_ipv6())
        || configured.chain(trunks).any(IpAddr::is_ipv6)
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
pub(super) struct Starter {
    setups: Vec<WorkerSetup>,
    inbox: Inbox,
}

impl Starter {
    /// Gathers what workers are started with.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(super) fn new(
        config: &Config,
        dtls: &Arc<DtlsIdentity>,
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

    /// Where media of trunks may be.
    pub(super) fn ports(&self) -> &Arc<PortRange> {
        &self.setups[0].ports
    }

    /// Each worker's name, and whether it is alive.
    pub(super) fn pulses(&self) -> impl Iterator<Item = (String, Arc<Pulse>)> {
        self.setups.iter().map(|s| (s.name.clone(), s.pulse.clone()))
    }

    /// Each worker's name, and the sockets it has.
    pub(super) fn kept(&self) -> Vec<(String, Kept)> {
        self.setups.iter().map(|s| (s.name.clone(), s.kept.clone())).collect()
    }

    /// What each worker did in its last second.
    pub(super) fn loads(&self) -> impl Iterator<Item = WorkerLoad> {
        self.setups.iter().map(|s| s.load.read())
    }

    /// Starts the worker of this number.
    ///
    /// # Errors
    /// Its port cannot be bound.
    pub(super) fn start(&self, n: usize) -> anyhow::Result<Worker> {
        self.start_with(self.setups[n].clone())
    }

    fn start_with(&self, setup: WorkerSetup) -> anyhow::Result<Worker> {
        let (inbox, at) = (self.inbox.clone(), setup.browser);
        let tell = move |session: u64, notice: Notice| {
            inbox.give_blocking(Arrival::Input(Input::Media { session, notice }));
        };
        Worker::start(setup, tell)
            .with_context(|| format!("media.browser_port: UDP or TCP {at} cannot be bound"))
    }

    /// Starts all; if the system chooses their ports, those of `before` are tried first, to which
    /// browsers of calls that continue still send. `held`: a predecessor still has those calls.
    ///
    /// # Errors
    /// A port cannot be bound.
    pub(super) fn start_all(&self, before: &[u16], held: bool) -> anyhow::Result<Vec<Worker>> {
        for (setup, port) in self.setups.iter().zip(before) {
            let there = SocketAddr::new(setup.browser.ip(), *port);
            if setup.browser.port() == 0
                && setup.kept.browsers().is_none()
                && let Ok(socket) = worker::bind(there)
            {
                setup.kept.keep_browsers(&socket);
            }
        }
        self.setups
            .iter()
            .map(|setup| self.start_with(WorkerSetup { held, ..setup.clone() }))
            .collect()
    }
}
