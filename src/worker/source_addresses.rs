//! Which of our addresses a browser reached us at, if the kernel would answer from another.

use crate::datagrams::local::{KernelRoutes, LocalSource};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// Browsers that are answered from another of our addresses than the kernel would choose; at most
/// one entry for each route of a session.
pub(super) struct Sources {
    ipv6: bool,
    routes: KernelRoutes,
    by_remote: HashMap<SocketAddr, (IpAddr, LocalSource), foldhash::quality::RandomState>,
}

impl Sources {
    /// None yet. `ipv6`: the socket is of that family and serves both.
    pub(super) fn new(ipv6: bool, routes: KernelRoutes) -> Sources {
        Sources { ipv6, routes, by_remote: HashMap::default() }
    }

    /// `local` as the source of an answer.
    pub(super) fn answer(&self, local: IpAddr) -> LocalSource {
        LocalSource::new(local, self.ipv6)
    }

    /// What is sent to `remote` leaves by `local` from now on. Returns whether it did not before.
    pub(super) fn learn(&mut self, now: Instant, remote: SocketAddr, local: IpAddr) -> bool {
        let before = match self.routes.exception(now, remote.ip(), local) {
            Some(local) => {
                self.by_remote.insert(remote, (local, LocalSource::new(local, self.ipv6)))
            }
            None => self.by_remote.remove(&remote),
        };
        before.map(|(before, _)| before) != self.exception(remote)
    }

    /// The address that what is sent to `remote` leaves by; `None` if the kernel chooses it.
    pub(super) fn exception(&self, remote: SocketAddr) -> Option<IpAddr> {
        self.by_remote.get(&remote).map(|(local, _)| *local)
    }

    /// The source of what is sent to `remote`; `None` if the kernel chooses it.
    pub(super) fn of(&self, remote: SocketAddr) -> Option<&LocalSource> {
        if self.by_remote.is_empty() {
            return None;
        }
        self.by_remote.get(&remote).map(|(_, source)| source)
    }

    /// No session has this far end any more.
    pub(super) fn forget(&mut self, remote: SocketAddr) {
        self.by_remote.remove(&remote);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    #[test]
    fn a_source_is_kept_where_the_kernel_would_choose_another() {
        let routes = KernelRoutes::new(|| vec![ip(1), ip(2)], |_| Some(ip(1)));
        let (mut sources, now) = (Sources::new(false, routes), Instant::now());
        let browser = SocketAddr::new(ip(9), 4_000);
        assert!(!sources.learn(now, browser, ip(1)));
        assert_eq!(sources.of(browser), None);
        assert!(sources.learn(now, browser, ip(2)) && !sources.learn(now, browser, ip(2)));
        assert_eq!(sources.of(browser), Some(&LocalSource::new(ip(2), false)));
        assert_eq!(sources.exception(browser), Some(ip(2)));
        sources.learn(now, browser, ip(1));
        assert_eq!(sources.of(browser), None, "it nominated the other path");
        sources.learn(now, browser, ip(2));
        sources.forget(browser);
        assert!(sources.by_remote.is_empty(), "nothing is left of an ended call");
    }
}
