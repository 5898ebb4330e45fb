//! Connections that were refused because there was no place for them: logged once in ten seconds,
//! and counted for the metrics. Shells write, whoever scrapes reads.

use crate::errors::Code;
use crate::log_limit::{self, Level, LineClass};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where somebody connected to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RefusedPort {
    Web,
    Sip,
    Media,
    Metrics,
}

/// What was used up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Full {
    /// All places.
    Everywhere,
    /// Those of one source.
    OfSource,
    /// The time of handshakes.
    Handshakes,
    /// What the gateway can do: no browser is let in that would log in only to be refused.
    Overload,
}

impl RefusedPort {
    /// For a label of a metric.
    pub(crate) const NAMES: [&str; 4] = ["web", "sip", "media", "metrics"];
}

impl Full {
    /// For a label of a metric.
    pub(crate) const NAMES: [&str; 4] = ["all", "source", "handshakes", "overload"];

    /// For a reader.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Full::Everywhere => "all places are taken",
            Full::OfSource => "its address holds as many as one may",
            Full::Handshakes => "too many handshakes wait",
            Full::Overload => "the gateway is overloaded",
        }
    }
}

/// How many, by port and cause.
#[derive(Debug, Default)]
pub struct RefusedConnections([[AtomicU64; Full::NAMES.len()]; RefusedPort::NAMES.len()]);

impl RefusedConnections {
    /// Counts one in, and tells of it.
    pub(crate) fn tell(&self, port: RefusedPort, full: Full, address: IpAddr) {
        self.0[port as usize][full as usize].fetch_add(1, Ordering::Relaxed);
        let code = if full == Full::Overload { Code::OVERLOADED } else { Code::CONNECTIONS };
        log_limit::tell(Level::Warn, LineClass::new("connections refused", code), || {
            let port =
                ["web port", "SIP over TCP or TLS", "media over TCP", "metrics"][port as usize];
            format!("{port}: a connection from {address} is refused: {}", full.as_str())
        });
    }

    /// All of them: port, cause, how many.
    pub(crate) fn read(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let of = |(port, counts): (&'static str, &[AtomicU64; Full::NAMES.len()])| {
            let counts: Vec<u64> = counts.iter().map(|n| n.load(Ordering::Relaxed)).collect();
            Full::NAMES.into_iter().zip(counts).map(move |(full, n)| (port, full, n))
        };
        RefusedPort::NAMES.into_iter().zip(&self.0).flat_map(of)
    }
}
