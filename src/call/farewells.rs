//! Goodbyes that were not answered yet: BYE and CANCEL, which the next process sends again, so that
//! no peer stays in a call, or rings, that has no other end.
//!
//! Those to browsers are none of them, for their connection ends with the process: see
//! [`owed_goodbyes`](super::owed_goodbyes).

use super::owed_goodbyes::OwedSnapshot;
use crate::ids::IdMap;
use crate::sip::dialog::HopSnapshot;
use crate::sip::status::Method;
use crate::sip::transaction::{ClientId, Hop};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A goodbye as a value that outlives the process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time, on its way to the disk")]
pub enum FarewellSnapshot {
    /// It was sent, and not answered.
    Sent(SentFarewell),
    /// Its browser has still to get it.
    Owed(OwedSnapshot),
}

/// A goodbye that was sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SentFarewell {
    /// Where it was sent.
    pub(crate) hop: HopSnapshot,
    /// The trunk it was sent to, if that is over TLS or had challenged our INVITE.
    pub(crate) trunk: Option<String>,
    /// The realms of such a trunk, whose challenges are answered.
    pub(crate) realms: Vec<String>,
    /// It, as it was sent.
    pub(crate) bytes: Vec<u8>,
}

struct OpenFarewell {
    name: String,
    /// Its value was asked for.
    taken: bool,
}

/// All that are open.
#[derive(Default)]
pub(crate) struct Farewells {
    /// Somebody asks for them.
    kept: bool,
    open: IdMap<ClientId, OpenFarewell>,
    /// Those whose value nobody has asked for.
    fresh: BTreeSet<ClientId>,
    /// Names of those whose value was asked for, and is not needed any more.
    gone: Vec<String>,
}

impl Farewells {
    /// Somebody asks for them from now on.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }

    /// A request of ours was sent.
    pub(crate) fn sent(&mut self, client: ClientId, method: Method, branch: &str, hop: Hop) {
        let ends = matches!(method, Method::Bye | Method::Cancel);
        let lasts = matches!(hop, Hop::Udp(_) | Hop::UdpFrom(..) | Hop::Tcp(_) | Hop::Tls(..));
        if self.kept && ends && lasts {
            let name = [method.as_str(), " ", branch].concat();
            self.open.insert(client, OpenFarewell { name, taken: false });
            self.fresh.insert(client);
        }
    }

    /// Nothing more is expected of a request.
    pub(crate) fn over(&mut self, client: ClientId) {
        let Some(farewell) = self.open.remove(&client) else { return };
        self.fresh.remove(&client);
        self.gone.extend(farewell.taken.then_some(farewell.name));
    }

    /// The next process finds its value already.
    pub(crate) fn note_taken(&mut self, client: ClientId) {
        self.fresh.remove(&client);
        self.open.get_mut(&client).into_iter().for_each(|farewell| farewell.taken = true);
    }

    /// Whether [`take_changed`](Self::take_changed) has something to tell.
    pub(crate) fn has_changed(&self) -> bool {
        !self.fresh.is_empty() || !self.gone.is_empty()
    }

    /// Names of those that changed since the last time, and the requests of those that are open.
    pub(crate) fn take_changed(&mut self) -> Vec<(String, Option<ClientId>)> {
        let gone = std::mem::take(&mut self.gone).into_iter().map(|name| (name, None));
        let mut changed: Vec<_> = gone.collect();
        for client in std::mem::take(&mut self.fresh) {
            let Some(farewell) = self.open.get_mut(&client) else { continue };
            farewell.taken = true;
            changed.push((farewell.name.clone(), Some(client)));
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn udp() -> Hop {
        Hop::Udp(SocketAddr::from(([10, 0, 0, 1], 5_060)))
    }

    #[test]
    fn what_is_answered_before_anybody_asks_is_never_told() {
        let mut farewells = Farewells::default();
        farewells.sent(ClientId(0), Method::Bye, "z", udp());
        assert!(!farewells.has_changed(), "nobody asks");
        farewells.keep();
        farewells.sent(ClientId(1), Method::Bye, "a", udp());
        farewells.sent(ClientId(2), Method::Cancel, "a", udp());
        farewells.over(ClientId(1));
        assert_eq!(farewells.take_changed(), [("CANCEL a".to_owned(), Some(ClientId(2)))]);
        assert!(!farewells.has_changed());
        farewells.over(ClientId(2));
        assert_eq!(farewells.take_changed(), [("CANCEL a".to_owned(), None)]);
    }

    #[test]
    fn only_what_ends_something_at_a_lasting_place_is_kept() {
        let mut farewells = Farewells::default();
        farewells.keep();
        farewells.sent(ClientId(1), Method::Info, "a", udp());
        let flow = Hop::Flow(crate::sip::transaction::Flow(1));
        farewells.sent(ClientId(2), Method::Bye, "b", flow);
        farewells.sent(ClientId(3), Method::Bye, "c", Hop::Suspended);
        assert!(!farewells.has_changed());
    }
}
