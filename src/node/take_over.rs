//! The successor's side of an upgrade: it takes the sockets and the calls of a running gateway.

use super::RECORDS;
use crate::cluster::store::Process;
use crate::config::Config;
use crate::gateway::restore::LateRequest;
use crate::handover::sockets::Sockets;
use crate::handover::{HandedCalls, Link, LinkFrame, LinkMessage, PROTOCOL};
use crate::worker::ports::{Pair, PortRange};
use anyhow::{Context, bail};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The formats of calls that this version continues with.
pub(super) const READS: [u16; 1] = [RECORDS];
/// For what the predecessor does at once.
const SOON: Duration = Duration::from_secs(10);
/// For its calls: it waits until those that ring have been answered.
const CALLS: Duration = Duration::from_secs(15 * 60);
/// For it to let go of its files. It may have to wait for a slow disk.
const RELEASE: Duration = Duration::from_secs(10);

/// A running gateway whose place is to be taken.
pub struct Predecessor {
    link: Link,
    /// What it listens on.
    pub(super) sockets: Sockets,
    certificate: String,
    /// What it is called in its cluster, if it says so.
    node: Option<String>,
    /// Its calls are ours: it cannot continue any more.
    gone: bool,
}

/// The calls that are to be taken over, as they were read.
pub(super) struct ReadCalls {
    /// The calls.
    pub calls: HandedCalls,
    /// New calls were refused by an operator's wish.
    pub draining: bool,
    /// The processes whose calls it took over from other nodes.
    pub taken: Vec<Process>,
    /// What it was in its cluster, the last name last.
    pub former: Vec<Process>,
    /// The sockets of [`HandedCalls::streams`].
    pub streams: Vec<TcpStream>,
}

impl Predecessor {
    /// Meets the gateway whose control socket is at `path`.
    ///
    /// # Errors
    /// It is not there, or refuses, and why.
    pub fn meet(path: &Path) -> anyhow::Result<Predecessor> {
        let at = || format!("no gateway can be taken over at {}", path.display());
        let link = Link::new(UnixStream::connect(path).with_context(at)?).with_context(at)?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let hello = LinkMessage::Hello { protocol: PROTOCOL, version, reads: READS.to_vec() };
        link.say(&hello).with_context(at)?;
        let LinkFrame { message, bytes, sockets } = link.receive(SOON).with_context(at)?;
        match message {
            LinkMessage::Sockets { names, node, .. } => Ok(Predecessor {
                link,
                sockets: Sockets::new(names.into_iter().zip(sockets)),
                certificate: String::from_utf8(bytes).context("its certificate is unreadable")?,
                node,
                gone: false,
            }),
            LinkMessage::Refused { why } => bail!("the running gateway refuses an upgrade: {why}"),
            other => bail!("the running gateway says {other}, which is not expected"),
        }
    }

    /// Whether this is the same node of a cluster: the others would look for its calls by its name,
    /// and another one does not answer for it.
    ///
    /// # Errors
    /// It is called otherwise now.
    pub(super) fn is_this_node(&self, config: &Config) -> anyhow::Result<()> {
        let own = config.cluster.as_ref().map(|cluster| cluster.node.as_str());
        match self.node.as_deref() {
            Some(node) if Some(node) != own => {
                bail!("the running gateway is node {node}: to rename it, drain it and restart it")
            }
            _ => Ok(()),
        }
    }

    /// Tells it why there will be no successor; it continues then.
    pub fn refuse(&self, why: &str) {
        if !self.gone {
            self.link.refuse(why);
        }
    }

    /// The DTLS certificate with its key, as PEM.
    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Says that all is ready, and reads the calls; their trunks' sockets go into `ports`. The
    /// predecessor is stopped from then on, and continues unless they are [taken](Self::take).
    ///
    /// # Errors
    /// It refuses, or is gone, or its calls cannot be read.
    pub(super) fn read_calls(&mut self, ports: &PortRange) -> anyhow::Result<ReadCalls> {
        self.link.say(&LinkMessage::Ready).context("the running gateway is gone")?;
        let LinkFrame { message, bytes, sockets } =
            self.link.receive(CALLS).context("the running gateway is gone")?;
        let (draining, numbers, taken, former) = match message {
            LinkMessage::Calls { draining, ports, taken, former } => {
                (draining, ports, taken, former)
            }
            LinkMessage::Refused { why } => bail!("the running gateway continues: {why}"),
            other => bail!("the running gateway says {other}, which is not expected"),
        };
        let calls: HandedCalls =
            postcard::from_bytes(&bytes).context("its calls are unreadable")?;
        let (pairs, browsers) = (numbers.len(), calls.streams.len());
        if sockets.len() != 2 * pairs + browsers {
            bail!("{} sockets came for {pairs} ports and {browsers} browsers", sockets.len());
        }
        let mut sockets = sockets.into_iter();
        let now = Instant::now();
        for port in numbers {
            let (Some(rtp), Some(rtcp)) = (sockets.next(), sockets.next()) else { break };
            ports.adopt(Pair { port, rtp: rtp.into(), rtcp: rtcp.into() }, now);
        }
        let streams = sockets.map(TcpStream::from).collect();
        Ok(ReadCalls { calls, draining, taken, former, streams })
    }

    /// Says that the calls can be taken. What the predecessor has to do for that it does while
    /// [`take`](Self::take) is on its way.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn say_taken(&self) -> anyhow::Result<()> {
        self.link.say(&LinkMessage::Taken).context("the running gateway is gone")
    }

    /// Takes the calls: there is no way back from then on. Returns what was said within them while
    /// they were handed over.
    ///
    /// # Errors
    /// It has them still, and continues.
    pub(super) fn take(&mut self) -> anyhow::Result<Vec<LateRequest>> {
        let go = self.link.receive(SOON).context("the running gateway continues")?;
        match go.message {
            LinkMessage::Go => {}
            LinkMessage::Refused { why } => bail!("the running gateway continues: {why}"),
            other => bail!("the running gateway says {other}, which is not expected"),
        }
        self.gone = true;
        // None from a version that does not tell.
        Ok(postcard::from_bytes(&go.bytes).unwrap_or_default())
    }

    /// Waits until it has let go of its files.
    pub(super) fn wait_until_released(&self) {
        match self.link.receive(RELEASE).map(|delivery| delivery.message) {
            Ok(LinkMessage::Released) => {}
            Ok(other) => {
                tracing::warn!("the earlier process has not let go of its files: it says {other}")
            }
            Err(why) => {
                tracing::warn!("the earlier process has not let go of its files: {why}");
            }
        }
    }

    /// Tells it that all is served.
    pub(super) fn say_serving(&self) {
        let _ = self.link.say(&LinkMessage::Serving);
    }
}
