//! Places for accepted connections, counted by source, so that one source's connections are not
//! another's outage.

use super::proved::ProvedSources;
use crate::address::network_of;
use crate::refused::{Full, RefusedConnections, RefusedPort};
use crate::tally::Tally;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Places kept for this machine itself: probes and a proxy in front must get in when strangers
/// have taken all the others.
const RESERVED: usize = 256;
/// Places kept for users who registered lately, whatever strangers have taken: so many, and an
/// eighth of the others at most.
const RESERVED_FOR_PROVED: usize = 1_024;
/// Connections that stand at the door because there is no place for them: they get a refusal, and
/// probes are answered. Those of one source, too.
const MOST_STANDING: usize = 256;
const MOST_STANDING_OF_SOURCE: usize = 32;

/// All places of one port.
#[derive(Debug)]
pub(crate) struct Seats {
    most: AtomicUsize,
    per_source: AtomicUsize,
    port: RefusedPort,
    refused: Arc<RefusedConnections>,
    proved: Arc<ProvedSources>,
    /// Seated, and standing.
    held: [Mutex<HeldSeats>; 2],
}

#[derive(Default, Debug)]
struct HeldSeats {
    all: usize,
    by_source: Tally<IpAddr>,
}

/// A place; it is given back when the last holder drops it.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    source: IpAddr,
    /// Why it is only one to stand at.
    pub(crate) stands: Option<Full>,
}

impl HeldSeats {
    fn take(&mut self, source: IpAddr, most: usize, per_source: usize) -> Result<(), Full> {
        if self.all >= most {
            return Err(Full::Everywhere);
        }
        if self.by_source.of(&source) >= per_source {
            return Err(Full::OfSource);
        }
        self.by_source.add(source);
        self.all += 1;
        Ok(())
    }
}

impl Seats {
    /// Places for `most` connections to `port`, of which one source (an IPv4 address, an IPv6 /64)
    /// may hold `per_source`. This machine itself has no share of its own: a proxy in front of us
    /// is one address.
    pub(crate) fn new(
        port: RefusedPort,
        (most, per_source): (usize, usize),
        refused: Arc<RefusedConnections>,
        proved: Arc<ProvedSources>,
    ) -> Arc<Seats> {
        let (most, per_source) = (AtomicUsize::new(most), AtomicUsize::new(per_source));
        Arc::new(Seats { most, per_source, port, refused, proved, held: Default::default() })
    }

    /// Sets new bounds; existing connections stay.
    pub(crate) fn limit(&self, most: usize, per_source: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.per_source.store(per_source, Ordering::Relaxed);
    }

    /// Takes a place for a connection from `address`, whose share does not count if it is shared by
    /// many (`is_proxy`).
    ///
    /// # Errors
    /// Which bound was reached; nothing is taken then.
    pub(crate) fn take(self: &Arc<Seats>, address: IpAddr, is_proxy: bool) -> Result<Seat, Full> {
        let source = network_of(address);
        let own = source.is_loopback();
        let most = self.most.load(Ordering::Relaxed);
        let for_proved = RESERVED_FOR_PROVED.min(most / 8);
        let most = match own {
            true => most + for_proved + RESERVED,
            false if self.proved.has(address) => most + for_proved,
            false => most,
        };
        let shared = own || is_proxy;
        let per_source = if shared { usize::MAX } else { self.per_source.load(Ordering::Relaxed) };
        self.lock(false).take(source, most, per_source)?;
        Ok(Seat { seats: self.clone(), source, stands: None })
    }

    /// As [`take`](Self::take); a refusal is logged and counted.
    pub(crate) fn take_or_tell(self: &Arc<Seats>, address: IpAddr) -> Option<Seat> {
        let taken = self.take(address, false);
        taken.map_err(|full| self.refused.tell(self.port, full, address)).ok()
    }

    /// The next connection of the listener that has a place, and who opened it.
    pub(crate) async fn accept(
        self: &Arc<Seats>,
        listener: &TcpListener,
    ) -> (TcpStream, SocketAddr, Seat) {
        loop {
            let Ok((stream, remote)) = listener.accept().await else {
                // Out of descriptors: wait for some to come back.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let remote = super::canonical(remote);
            let Some(seat) = self.take_or_tell(remote.ip()) else { continue };
            super::tune(&stream);
            return (stream, remote, seat);
        }
    }

    /// As [`take`](Self::take); a refusal is logged and counted, and whoever is refused may stand
    /// at the door for as long as it takes to say why, if there is room for that.
    pub(crate) fn take_or_stand(
        self: &Arc<Seats>,
        address: IpAddr,
        is_proxy: bool,
    ) -> Option<Seat> {
        let full = match self.take(address, is_proxy) {
            Ok(seat) => return Some(seat),
            Err(full) => full,
        };
        self.refused.tell(self.port, full, address);
        let source = network_of(address);
        let room = self.lock(true).take(source, MOST_STANDING, MOST_STANDING_OF_SOURCE);
        room.ok().map(|()| Seat { seats: self.clone(), source, stands: Some(full) })
    }

    /// Connections that hold a place.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.lock(false).all
    }

    fn lock(&self, standing: bool) -> std::sync::MutexGuard<'_, HeldSeats> {
        // The counts are sound after every statement, so a panic elsewhere does not spoil them.
        self.held[usize::from(standing)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.seats.lock(self.stands.is_some());
        held.all -= 1;
        held.by_source.remove(&self.source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn seats(most: usize, per_source: usize) -> Arc<Seats> {
        let proved = Arc::new(ProvedSources::new(Instant::now()));
        Seats::new(RefusedPort::Web, (most, per_source), Arc::default(), proved)
    }

    fn v6(interface: u16, network: u16) -> IpAddr {
        IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, interface])
    }

    #[test]
    fn a_source_holds_its_share_and_gives_it_back() {
        let seats = seats(1_000, 100);
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let held: Vec<Seat> = (0..150).filter_map(|_| seats.take(one, false).ok()).collect();
        assert_eq!(held.len(), 100);
        assert_eq!(seats.take(one, false).err(), Some(Full::OfSource));
        assert!(seats.take(other, false).is_ok());
        drop(held);
        assert_eq!(seats.taken(), 0);
        assert!(seats.lock(false).by_source.is_empty());
    }

    #[test]
    fn a_64_is_one_source() {
        let seats = seats(1_000, 2);
        let held: Vec<Seat> = (0..9).filter_map(|n| seats.take(v6(n, 1), false).ok()).collect();
        assert_eq!(held.len(), 2);
        assert!(seats.take(v6(0, 2), false).is_ok(), "the next network has its own share");
    }

    #[test]
    fn probes_of_this_machine_get_in_when_all_else_is_full() {
        let seats = seats(2, 2);
        let _held: Vec<Seat> =
            (1..4).filter_map(|n| seats.take(IpAddr::from([192, 0, 2, n]), false).ok()).collect();
        assert_eq!(seats.take(IpAddr::from([192, 0, 2, 9]), false).err(), Some(Full::Everywhere));
        let own: Vec<Seat> = (0..2_000)
            .filter_map(|_| seats.take(IpAddr::from([127, 0, 0, 1]), false).ok())
            .collect();
        assert_eq!(own.len(), RESERVED);
    }

    #[test]
    fn users_get_in_when_strangers_have_taken_all_places() {
        let seats = seats(16, 16);
        let _held: Vec<Seat> =
            (1..40).filter_map(|n| seats.take(IpAddr::from([192, 0, 2, n]), false).ok()).collect();
        let user = IpAddr::from([198, 51, 100, 1]);
        assert_eq!(seats.take(user, false).err(), Some(Full::Everywhere));
        seats.proved.prove(Instant::now(), user);
        let own: Vec<Seat> = (0..5).filter_map(|_| seats.take(user, false).ok()).collect();
        assert_eq!(own.len(), 2, "an eighth of the others");
    }

    #[test]
    fn connections_over_the_limit_wait_and_get_a_reason() {
        let seats = seats(100, 10);
        let one = IpAddr::from([192, 0, 2, 1]);
        let all: Vec<Seat> = (0..100).filter_map(|_| seats.take_or_stand(one, false)).collect();
        let standing = all.iter().filter(|s| s.stands == Some(Full::OfSource)).count();
        assert_eq!((all.len(), standing), (10 + MOST_STANDING_OF_SOURCE, MOST_STANDING_OF_SOURCE));
        let counted_refusal =
            seats.refused.read().find(|(port, why, _)| (*port, *why) == ("web", "source"));
        assert_eq!(counted_refusal, Some(("web", "source", 90)));
        seats.limit(5, 10);
        let other = seats.take_or_stand([192, 0, 2, 2].into(), false).expect("it may stand");
        assert_eq!(other.stands, Some(Full::Everywhere), "a bound holds once it is set");
        drop((all, other));
        assert!(seats.lock(true).by_source.is_empty() && seats.lock(false).by_source.is_empty());
    }
}
