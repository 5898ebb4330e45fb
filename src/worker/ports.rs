//! The trunk side's port range: pairs taken in random order, quarantined after use.
//!
//! Quarantine keeps a peer that still sends from being heard in the next call on the same port.

use super::bind;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a pair rests.
pub const QUARANTINE: Duration = Duration::from_secs(3);

struct State {
    free: Vec<u16>,
    resting: VecDeque<(Instant, u16)>,
    random: u64,
}

/// A range of even RTP ports, each with its odd RTCP port; shared by all workers, touched twice a call.
pub struct PortRange {
    ip: IpAddr,
    state: Mutex<State>,
}

impl PortRange {
    /// The pairs within `low..=high`; `seed` orders them.
    pub fn new(ip: IpAddr, (low, high): (u16, u16), seed: u64) -> PortRange {
        let free = (low.next_multiple_of(2)..high).step_by(2).collect();
        PortRange { ip, state: Mutex::new(State { free, resting: VecDeque::new(), random: seed | 1 }) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is sound after every statement, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Binds a pair.
    ///
    /// # Errors
    /// None is free, or the ones tried are taken by other programs.
    pub fn take(&self) -> io::Result<(u16, UdpSocket, UdpSocket)> {
        let now = Instant::now();
        for _ in 0..16 {
            let Some(port) = self.state().pick(now) else { break };
            let pair = bind(SocketAddr::new(self.ip, port)).and_then(|rtp| Ok((rtp, bind(SocketAddr::new(self.ip, port + 1))?)));
            match pair {
                Ok((rtp, rtcp)) => return Ok((port, rtp, rtcp)),
                Err(_) => self.give_back(port, now),
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "all of media.ports are in use"))
    }

    /// Returns a pair; it rests before it serves again.
    pub fn give_back(&self, port: u16, now: Instant) {
        self.state().resting.push_back((now + QUARANTINE, port));
    }

    /// Pairs in use, given how many there are.
    pub fn free(&self) -> usize {
        let state = self.state();
        state.free.len() + state.resting.len()
    }
}

impl State {
    fn pick(&mut self, now: Instant) -> Option<u16> {
        while self.resting.front().is_some_and(|(at, _)| now >= *at) {
            if let Some((_, port)) = self.resting.pop_front() {
                self.free.push(port);
            }
        }
        if self.free.is_empty() {
            return None;
        }
        // xorshift: the order need not be secret, only not sequential.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let at = (self.random % self.free.len() as u64) as usize;
        Some(self.free.swap_remove(at))
    }
}
