//! A node: it binds the ports, runs the core, and carries its outputs out. Start, drain, stop.

mod call_storage;
mod checkpoint;
mod core;
pub mod demo;
mod dtls_certificate;
mod farewells;
mod own_addresses;
mod perform;
mod reload;
mod restore;
mod sockets;
mod start;
#[cfg(test)]
mod survival;
mod take_over;
mod upgrade;
mod watchdog;
mod workers;

use self::start::StartPlace;
use self::upgrade::Upgrader;
use crate::api::ApiState;
use crate::api::reload::Changes;
use crate::config::Config;
use crate::gateway::{Gauges, Input};
use crate::handover::sockets::Sockets;
use crate::store::Store;
use crate::supervisor;
use crate::transport::Inbox;
use crate::webhook;
use anyhow::Context;
pub use core::CoreEnd;
use rand_core::{OsRng, TryRngCore};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
pub use take_over::Predecessor;
use tokio::sync::watch;
pub use upgrade::{GUARDED, Successor};
pub(crate) use watchdog::Watchdog;

/// The version of the checkpoints of calls.
const RECORDS: u16 = 6;
/// How long a stop waits for what the core says last.
const LAST: Duration = Duration::from_secs(1);

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
    /// The control socket, if one could be made.
    pub control: Option<PathBuf>,
}

/// Where a control socket is wanted.
#[derive(Clone, Debug, Default)]
pub enum Control {
    /// Nobody commands it but its own web port.
    #[default]
    None,
    /// Here, unless the configuration says; `None`: the usual place.
    Wanted(Option<PathBuf>),
    /// Likewise, but not if another gateway has it already.
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
    /// As [`start`](Self::start). A predecessor then gets an error, and continues.
    pub async fn start_from(config: Config, origin: Origin) -> anyhow::Result<Node> {
        let Origin { file, control, mut predecessor, sockets } = origin;
        let place = StartPlace { file, control, kept_open: sockets };
        let started = start::start(config, place, predecessor.as_mut()).await;
        match (&started, predecessor) {
            (Err(why), Some(predecessor)) => predecessor.refuse(&format!("{why:#}")),
            (Ok(_), Some(predecessor)) => predecessor.say_serving(),
            (_, None) => {}
        }
        started
    }

    /// Watches the core and the workers until the result is dropped: `alive` is called again and
    /// again while they live, `still` once with the name of one that hangs.
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

    /// Stops at once; records and events already handed over are on disk or delivered when this
    /// returns.
    pub async fn stop(self) {
        // Nobody else does once it is gone: not even the next process, if there is no disk.
        let last = self.api.ask(|gateway, turn| gateway.let_go_of_all(turn.out));
        let _ = tokio::time::timeout(LAST, last).await;
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
