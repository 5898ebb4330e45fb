//! Places for accepted connections, counted by source, so that one source's connections are not
//! another's outage.

use crate::address::network_of;
use crate::errors::Code;
use crate::log_limit::{self, Class, Level};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Places kept for this machine itself: probes and a proxy in front must get in when strangers
/// have taken all the others.
const RESERVED: usize = 256;

/// Why a connection was not let in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Full {
    /// All places are taken.
    Everywhere,
    /// This source holds as many as one source may.
    OfSource,
}

/// All places of one port.
#[derive(Debug)]
pub(crate) struct Seats {
    most: usize,
    per_source: usize,
    held: Mutex<Held>,
}

#[derive(Default, Debug)]
struct Held {
    all: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// A place; it is given back when the last holder drops it.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    source: IpAddr,
}

impl Seats {
    /// Places for `most` connections, of which one source (an IPv4 address, an IPv6 /64) may hold
    /// `per_source`. This machine itself has no share of its own: a proxy in front of us is one
    /// address.
    pub(crate) fn new(most: usize, per_source: usize) -> Arc<Seats> {
        Arc::new(Seats { most, per_source, held: Mutex::default() })
    }

    /// Takes a place for a connection from `address`, whose share does not count if it is shared by
    /// many (`is_proxy`).
    ///
    /// # Errors
    /// Which bound was reached; nothing is taken then.
    pub(crate) fn take(self: &Arc<Seats>, address: IpAddr, is_proxy: bool) -> Result<Seat, Full> {
        let source = network_of(address);
        let mut held = self.lock();
        let own = held.by_source.get(&source).copied().unwrap_or(0);
        let most = self.most + if source.is_loopback() { RESERVED } else { 0 };
        if held.all >= most {
            return Err(Full::Everywhere);
        }
        if own >= self.per_source && !source.is_loopback() && !is_proxy {
            return Err(Full::OfSource);
        }
        held.by_source.insert(source, own + 1);
        held.all += 1;
        Ok(Seat { seats: self.clone(), source })
    }

    /// As [`take`](Self::take); a refusal is told in the log, as one to `port`.
    pub(crate) fn take_or_tell(
        self: &Arc<Seats>,
        address: IpAddr,
        is_proxy: bool,
        port: &'static str,
    ) -> Option<Seat> {
        let refused = match self.take(address, is_proxy) {
            Ok(seat) => return Some(seat),
            Err(refused) => refused,
        };
        let class = Class::new("connections refused", Code::CONNECTIONS);
        log_limit::tell(Level::Warn, class, || match refused {
            Full::Everywhere => format!(
                "{port}: a connection from {address} is refused, for all {} places are taken",
                self.most
            ),
            Full::OfSource => format!(
                "{port}: a connection from {address} is refused, for it holds {} already",
                self.per_source
            ),
        });
        None
    }

    /// Connections that hold a place.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        // The counts are sound after every statement, so a panic elsewhere does not spoil them.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.seats.lock();
        held.all -= 1;
        match held.by_source.get_mut(&self.source) {
            Some(n) if *n > 1 => *n -= 1,
            _ => drop(held.by_source.remove(&self.source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(interface: u16, network: u16) -> IpAddr {
        IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, interface])
    }

    #[test]
    fn a_source_holds_its_share_and_gives_it_back() {
        let seats = Seats::new(1_000, 100);
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let held: Vec<Seat> = (0..150).filter_map(|_| seats.take(one, false).ok()).collect();
        assert_eq!(held.len(), 100);
        assert_eq!(seats.take(one, false).err(), Some(Full::OfSource));
        assert!(seats.take(other, false).is_ok());
        drop(held);
        assert_eq!(seats.taken(), 0);
        assert!(seats.lock().by_source.is_empty());
    }

    #[test]
    fn a_64_is_one_source() {
        let seats = Seats::new(1_000, 2);
        let held: Vec<Seat> = (0..9).filter_map(|n| seats.take(v6(n, 1), false).ok()).collect();
        assert_eq!(held.len(), 2);
        assert!(seats.take(v6(0, 2), false).is_ok(), "the next network has its own share");
    }

    #[test]
    fn probes_of_this_machine_get_in_when_all_else_is_full() {
        let seats = Seats::new(2, 2);
        let _held: Vec<Seat> =
            (1..4).filter_map(|n| seats.take(IpAddr::from([192, 0, 2, n]), false).ok()).collect();
        assert_eq!(seats.take(IpAddr::from([192, 0, 2, 9]), false).err(), Some(Full::Everywhere));
        let own: Vec<Seat> =
            (0..500).filter_map(|_| seats.take(IpAddr::from([127, 0, 0, 1]), false).ok()).collect();
        assert_eq!(own.len(), RESERVED);
    }
}
