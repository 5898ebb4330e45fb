//! A session as a value, with the ports it is reached at.

use super::ports::{Pair, PortRange};
use crate::boot;
use crate::media::{Clocks, LegId, NotRestored, SessionSnapshot};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// A session, and where its ends are reached.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MediaSnapshot {
    /// The worker's UDP port for browsers.
    pub browser_port: u16,
    /// Which sockets to open again.
    pub trunks: Vec<TrunkPorts>,
    /// Browsers' addresses, and ours they came to, if the kernel would answer from another.
    pub sources: Vec<(SocketAddr, IpAddr)>,
    /// All else.
    pub session: SessionSnapshot,
}

/// The ports of a trunk's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrunkPorts {
    /// Whose.
    pub end: LegId,
    /// Of RTP; RTCP's is one above.
    pub port: u16,
    /// What it sends leaves by this address; `None`: the kernel's choice.
    pub local: Option<IpAddr>,
}

/// Why a session cannot be continued.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "in its error's text")]
pub enum NotResumed {
    #[error("its browsers came to port {was}, and this worker's is {is}")]
    BrowserPort { was: u16, is: u16 },
    #[error("its media port {port} cannot be had: {why}")]
    TrunkPort { port: u16, why: io::Error },
    #[error("no ports are on record for end {}", .0.0)]
    NoPorts(LegId),
    #[error(transparent)]
    Session(#[from] NotRestored),
    #[error("a bug in making it")]
    Panicked,
}

impl MediaSnapshot {
    /// The port at which an end is reached.
    pub(crate) fn port_of(&self, end: LegId) -> u16 {
        let trunk = self.trunks.iter().find(|trunk| trunk.end == end);
        trunk.map_or(self.browser_port, |trunk| trunk.port)
    }

    /// The sockets of its trunks' ends, in their order.
    ///
    /// # Errors
    /// One of them cannot be had; the others are given back.
    pub(super) fn claim(&self, ports: &PortRange) -> Result<Vec<Pair>, NotResumed> {
        let mut pairs = Vec::new();
        for trunk in &self.trunks {
            match ports.claim(trunk.port) {
                Ok(pair) => pairs.push(pair),
                Err(why) => {
                    pairs.into_iter().for_each(|pair| ports.give_back(pair, Instant::now()));
                    return Err(NotResumed::TrunkPort { port: trunk.port, why });
                }
            }
        }
        Ok(pairs)
    }

    /// An end that neither is a browser's nor has ports.
    pub(super) fn unreached(&self) -> Option<LegId> {
        let reached = |id: &LegId| {
            self.trunks.iter().any(|t| t.end == *id)
                || self.session.browsers().any(|browser| browser == *id)
        };
        self.session.legs().find(|id| !reached(id))
    }
}

/// The clocks now.
pub(super) fn clocks() -> Clocks {
    Clocks { boot: boot::id(), uptime: boot::uptime() }
}
