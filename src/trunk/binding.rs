//! Where a trunk registered from, and that as a value: a PBX does not notice a restart of ours, and
//! is reached by datagrams as before.

use crate::sip::dialog::HopSnapshot;
use crate::sip::transaction::Hop;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Where a trunk registered from, until when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TrunkBinding {
    /// Where its requests are sent.
    pub hop: Hop,
    /// Where the REGISTER came from.
    pub remote: SocketAddr,
    /// The Contact URI.
    pub contact: String,
    /// When it is forgotten.
    pub expires: Instant,
}

/// A registration of a trunk that outlives the process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrunkBindingSnapshot {
    hop: HopSnapshot,
    remote: SocketAddr,
    contact: String,
    left: Duration,
}

impl TrunkBindingSnapshot {
    /// How long it is good for.
    pub(crate) fn left(&self) -> Duration {
        self.left
    }
}

impl TrunkBinding {
    /// The binding as a value; nothing of one that goes by a connection, which ends with the
    /// process: its trunk notices, connects and registers again.
    pub(crate) fn snapshot(&self, now: Instant) -> Option<TrunkBindingSnapshot> {
        self.hop.is_udp().then(|| TrunkBindingSnapshot {
            hop: HopSnapshot::of(self.hop),
            remote: self.remote,
            contact: self.contact.clone(),
            left: self.expires.saturating_duration_since(now),
        })
    }

    /// The binding of a value that was taken `age` ago, or nothing if it has run out.
    pub(crate) fn restore(
        from: TrunkBindingSnapshot,
        now: Instant,
        age: Duration,
    ) -> Option<TrunkBinding> {
        let left = from.left.checked_sub(age).filter(|left| !left.is_zero())?;
        let hop = from.hop.restore(None);
        let (remote, contact, expires) = (from.remote, from.contact, now + left);
        hop.is_udp().then_some(TrunkBinding { hop, remote, contact, expires })
    }
}
