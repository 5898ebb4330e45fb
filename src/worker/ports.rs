//! The trunk side's port range: pairs taken in random order, quarantined after use, and kept open
//! meanwhile.
//!
//! Quarantine keeps a peer that still sends from being heard in the next call on the same port. A
//! pair that has rested is served again with the sockets it has: binding and closing them would
//! cost thirty system calls a call.

use super::bind;
use crate::chance::Chance;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a pair rests.
pub const QUARANTINE: Duration = Duration::from_secs(3);
/// Open pairs kept for the next calls; what exceeds them is closed and bound again when needed.
const MAX_OPEN: usize = 2_048;
/// Datagrams read off a rested socket before it serves. More than these, and its old peer has not
/// stopped.
const MAX_STALE: usize = 64;

/// Two bound sockets: an even RTP port and the odd one above it for RTCP.
#[derive(Debug)]
pub struct Pair {
    /// The even port of RTP; RTCP has the next one.
    pub port: u16,
    /// Bound.
    pub rtp: UdpSocket,
    /// Bound.
    pub rtcp: UdpSocket,
}

impl Pair {
    /// The same sockets once more.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(crate) fn try_clone(&self) -> io::Result<Pair> {
        let Pair { port, rtp, rtcp } = self;
        Ok(Pair { port: *port, rtp: rtp.try_clone()?, rtcp: rtcp.try_clone()? })
    }
}

struct PortState {
    /// Ports with no socket.
    closed: Vec<u16>,
    /// Rested pairs with their sockets.
    open: Vec<Pair>,
    resting: VecDeque<(Instant, Pair)>,
    /// Ports another program had when we tried them.
    shunned: VecDeque<(Instant, u16)>,
    /// The order of ports need not be secret, only not sequential.
    chance: Chance,
}

/// A range of port pairs, shared by all workers, touched twice a call.
pub struct PortRange {
    ip: IpAddr,
    range: RangeInclusive<u16>,
    pairs: usize,
    state: Mutex<PortState>,
    changed: Option<PairChanged>,
}

/// Notified of each pair that is bound, and of the port of each that is closed.
pub type PairChanged = Box<dyn Fn(u16, Option<&Pair>) + Send + Sync>;

impl PortRange {
    /// The pairs within `ports`; `seed` orders them.
    pub fn new(ip: IpAddr, ports: RangeInclusive<u16>, seed: u64) -> PortRange {
        let closed: Vec<u16> =
            (ports.start().next_multiple_of(2)..*ports.end()).step_by(2).collect();
        let pairs = closed.len();
        let state = PortState {
            closed,
            open: Vec::new(),
            resting: VecDeque::new(),
            shunned: VecDeque::new(),
            chance: Chance::new(seed),
        };
        PortRange { ip, range: ports, pairs, state: Mutex::new(state), changed: None }
    }

    /// Tells of pairs that are bound or closed from now on.
    pub fn telling(self, changed: PairChanged) -> PortRange {
        PortRange { changed: Some(changed), ..self }
    }

    fn tell(&self, port: u16, pair: Option<&Pair>) {
        self.changed.iter().for_each(|changed| changed(port, pair));
    }

    fn state(&self) -> std::sync::MutexGuard<'_, PortState> {
        // The state is sound after every statement, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes a pair, bound and with nothing waiting in it.
    ///
    /// # Errors
    /// None is free, or the ones tried are taken by other programs.
    pub fn take(&self, now: Instant) -> io::Result<Pair> {
        for _ in 0..16 {
            let (picked, closed) = self.state().pick(now);
            closed.into_iter().for_each(|port| self.tell(port, None));
            match picked {
                Some(Picked::Open(pair)) if is_quiet(&pair.rtp) && is_quiet(&pair.rtcp) => {
                    return Ok(pair);
                }
                Some(Picked::Open(pair)) => {
                    self.state().closed.push(pair.port);
                    self.tell(pair.port, None);
                }
                Some(Picked::Closed(port)) => match self.bind(port) {
                    Ok(pair) => return Ok(pair),
                    Err(_) => self.state().shunned.push_back((now + QUARANTINE, port)),
                },
                None => break,
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "all of media.ports are in use"))
    }

    /// Takes the pair of this port, for a call that had it before: it does not rest first, and what
    /// waits in it is the call's. One of another node's range serves that call and no other.
    ///
    /// # Errors
    /// Another call has it, or another program.
    pub fn claim(&self, port: u16) -> io::Result<Pair> {
        if !self.range.contains(&port) {
            return self.bind(port);
        }
        match self.state().find(port) {
            Some(Picked::Open(pair)) => return Ok(pair),
            Some(Picked::Closed(_)) => {}
            None => return Err(io::Error::from(io::ErrorKind::AddrInUse)),
        }
        let bound = self.bind(port);
        if bound.is_err() {
            self.state().closed.push(port);
        }
        bound
    }

    /// Sockets that another process had open for this range: a call of its [claims](Self::claim)
    /// them within the time a pair rests, or any call has them after that.
    pub fn adopt(&self, pair: Pair, now: Instant) {
        let mut state = self.state();
        if state.find(pair.port).is_some() {
            state.resting.push_back((now + QUARANTINE, pair));
        }
    }

    fn bind(&self, port: u16) -> io::Result<Pair> {
        let at = |port| bind(SocketAddr::new(self.ip, port));
        let pair = Pair { port, rtp: at(port)?, rtcp: at(port + 1)? };
        self.tell(port, Some(&pair));
        Ok(pair)
    }

    /// The address media is received at on `port`.
    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }

    /// Returns a pair; it rests before it serves again.
    pub fn give_back(&self, pair: Pair, now: Instant) {
        if !self.range.contains(&pair.port) {
            return self.tell(pair.port, None);
        }
        self.state().resting.push_back((now + QUARANTINE, pair));
    }

    /// Pairs in all.
    pub(crate) fn all(&self) -> usize {
        self.pairs
    }

    /// Pairs that rest after a call: some of them may be ready to be served again, which shows when
    /// one is wanted.
    pub(crate) fn resting(&self) -> usize {
        self.state().resting.len()
    }

    /// Pairs no call has, resting ones among them.
    pub fn free(&self) -> usize {
        let state = self.state();
        state.closed.len() + state.open.len() + state.resting.len() + state.shunned.len()
    }
}

/// Takes away what a former peer sent; false if it does not end.
fn is_quiet(socket: &UdpSocket) -> bool {
    let mut buf = [0u8; 1];
    (0..MAX_STALE).any(
        |_| matches!(socket.recv_from(&mut buf), Err(e) if e.kind() == io::ErrorKind::WouldBlock),
    )
}

enum Picked {
    Open(Pair),
    Closed(u16),
}

impl PortState {
    /// Takes the pair of this port out, unless a call has it.
    fn find(&mut self, port: u16) -> Option<Picked> {
        if let Some(at) = self.open.iter().position(|pair| pair.port == port) {
            return Some(Picked::Open(self.open.swap_remove(at)));
        }
        if let Some(at) = self.resting.iter().position(|(_, pair)| pair.port == port) {
            return self.resting.remove(at).map(|(_, pair)| Picked::Open(pair));
        }
        if let Some(at) = self.shunned.iter().position(|(_, shunned)| *shunned == port) {
            return self.shunned.remove(at).map(|(_, port)| Picked::Closed(port));
        }
        let at = self.closed.iter().position(|closed| *closed == port)?;
        Some(Picked::Closed(self.closed.swap_remove(at)))
    }

    /// A pair, and the ports of those that were closed because enough are open.
    fn pick(&mut self, now: Instant) -> (Option<Picked>, Vec<u16>) {
        let closed = self.rested(now);
        if !self.open.is_empty() {
            let at = self.chance.below(self.open.len() as u64) as usize;
            return (Some(Picked::Open(self.open.swap_remove(at))), closed);
        }
        if self.closed.is_empty() {
            return (None, closed);
        }
        let at = self.chance.below(self.closed.len() as u64) as usize;
        (Some(Picked::Closed(self.closed.swap_remove(at))), closed)
    }

    fn rested(&mut self, now: Instant) -> Vec<u16> {
        let mut closed = Vec::new();
        while self.resting.front().is_some_and(|(at, _)| now >= *at) {
            let Some((_, pair)) = self.resting.pop_front() else { break };
            if self.open.len() < MAX_OPEN {
                self.open.push(pair);
            } else {
                self.closed.push(pair.port);
                closed.push(pair.port);
            }
        }
        while self.shunned.front().is_some_and(|(at, _)| now >= *at) {
            self.closed.extend(self.shunned.pop_front().map(|(_, port)| port));
        }
        closed
    }
}
