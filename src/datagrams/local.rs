//! Which of this machine's addresses a datagram came to, and which one it leaves by.
//!
//! A socket on the wildcard address lets the kernel choose the source by the route to the peer. A
//! peer that came to another address of ours drops what comes from there. So the exceptions, and
//! only these, are sent with a source of their own (`IP_PKTINFO`, `IPV6_PKTINFO`).

use nix::libc;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{ControlMessageOwned, setsockopt};
use socket2::{MsgHdr, SockAddr, SockRef};
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Room for the control message of either family.
pub(super) const CONTROL: usize = HEADER + size_of::<libc::in6_pktinfo>().next_multiple_of(WORD);
const HEADER: usize = size_of::<libc::cmsghdr>().next_multiple_of(WORD);
const WORD: usize = size_of::<usize>();

/// Has the kernel say of each datagram which of our addresses it came to. A socket on one address
/// needs nothing of that.
///
/// # Errors
/// As `setsockopt(2)`.
pub(crate) fn tell_local(socket: &impl AsFd, bound: SocketAddr) -> io::Result<()> {
    match bound.ip() {
        ip if !ip.is_unspecified() => Ok(()),
        IpAddr::V4(_) => setsockopt(socket, Ipv4PacketInfo, &true).map_err(io::Error::from),
        IpAddr::V6(_) => setsockopt(socket, Ipv6RecvPacketInfo, &true).map_err(io::Error::from),
    }
}

/// The address of ours that a control message names.
pub(super) fn named(message: &ControlMessageOwned) -> Option<IpAddr> {
    match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).to_canonical())
        }
        _ => None,
    }
}

/// An address of ours to send from, as the kernel takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalSource {
    control: [u8; CONTROL],
    length: usize,
}

impl LocalSource {
    /// `local` as the source of what a wildcard socket sends; `ipv6`: the socket is of that family
    /// and serves both.
    pub(crate) fn new(local: IpAddr, ipv6: bool) -> LocalSource {
        let (level, kind, mut info, size) = match local {
            IpAddr::V4(v4) if !ipv6 => {
                let mut info = [0; 20];
                info[4..8].copy_from_slice(&v4.octets());
                (libc::IPPROTO_IP, libc::IP_PKTINFO, info, size_of::<libc::in_pktinfo>())
            }
            other => {
                let octets = match other {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                    IpAddr::V6(v6) => v6.octets(),
                };
                let mut info = [0; 20];
                info[..16].copy_from_slice(&octets);
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info, size_of::<libc::in6_pktinfo>())
            }
        };
        let (mut control, info) = ([0; CONTROL], &mut info[..size]);
        control[..WORD].copy_from_slice(&(HEADER + size).to_ne_bytes());
        control[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
        control[WORD + 4..WORD + 8].copy_from_slice(&kind.to_ne_bytes());
        control[HEADER..HEADER + size].copy_from_slice(info);
        LocalSource { control, length: HEADER + size.next_multiple_of(WORD) }
    }

    /// Sends a datagram from this address; `to` is of the socket's family.
    ///
    /// # Errors
    /// As `sendmsg(2)`; also if the address is not ours any more.
    pub(crate) fn send(
        &self,
        socket: &impl AsFd,
        bytes: &[u8],
        to: SocketAddr,
    ) -> io::Result<usize> {
        let (to, bytes) = (SockAddr::from(to), [IoSlice::new(bytes)]);
        let message = MsgHdr::new()
            .with_addr(&to)
            .with_buffers(&bytes)
            .with_control(&self.control[..self.length]);
        SockRef::from(socket).sendmsg(&message, 0)
    }
}

/// The address the kernel sends from towards `remote`; no packet is sent to find it.
pub(crate) fn source_towards(remote: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match remote {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((remote, 9)).ok()?;
    socket.local_addr().ok().map(|at| at.ip())
}

/// The addresses of this machine's interfaces that are up, in the order the system lists them.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    let mut found = Vec::new();
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        if !interface.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP) {
            continue;
        }
        let address = interface.address.as_ref().and_then(super::address_of).map(|a| a.ip());
        found.extend(address.filter(|ip| !found.contains(ip)));
    }
    found
}

/// How long an answer of the kernel's about routes and addresses is taken for true.
const FRESH: Duration = Duration::from_secs(10);
/// Peers whose routes are remembered; when full, the table starts over.
const REMEMBERED: usize = 1_024;

/// What the kernel would choose, remembered for a while.
pub(crate) struct KernelRoutes {
    own: Vec<IpAddr>,
    looked: Option<Instant>,
    towards: HashMap<IpAddr, (Option<IpAddr>, Instant), foldhash::quality::RandomState>,
    addresses: fn() -> Vec<IpAddr>,
    source: fn(IpAddr) -> Option<IpAddr>,
}

impl Default for KernelRoutes {
    fn default() -> KernelRoutes {
        KernelRoutes::new(own_addresses, source_towards)
    }
}

impl KernelRoutes {
    /// Routes as these functions tell them.
    pub(crate) fn new(
        addresses: fn() -> Vec<IpAddr>,
        source: fn(IpAddr) -> Option<IpAddr>,
    ) -> KernelRoutes {
        KernelRoutes {
            own: Vec::new(),
            looked: None,
            towards: HashMap::default(),
            addresses,
            source,
        }
    }

    /// The addresses of this machine.
    pub(crate) fn own(&mut self, now: Instant) -> &[IpAddr] {
        self.look(now);
        &self.own
    }

    /// Whether `ip` is an address of this machine.
    pub(crate) fn is_own(&mut self, now: Instant, ip: IpAddr) -> bool {
        self.look(now);
        self.own.contains(&ip)
    }

    fn look(&mut self, now: Instant) {
        if self.looked.is_none_or(|at| now.saturating_duration_since(at) >= FRESH) {
            (self.own, self.looked) = ((self.addresses)(), Some(now));
        }
    }

    /// The address datagrams for `remote` leave by unless they name another.
    pub(crate) fn towards(&mut self, now: Instant, remote: IpAddr) -> Option<IpAddr> {
        let known = self.towards.get(&remote);
        if let Some((source, _)) =
            known.filter(|(_, at)| now.saturating_duration_since(*at) < FRESH)
        {
            return *source;
        }
        let source = (self.source)(remote);
        if self.towards.len() >= REMEMBERED && !self.towards.contains_key(&remote) {
            self.towards.clear();
        }
        self.towards.insert(remote, (source, now));
        source
    }

    /// Returns `local` if a datagram from there to `remote` must name its source.
    pub(crate) fn exception(
        &mut self,
        now: Instant,
        remote: IpAddr,
        local: IpAddr,
    ) -> Option<IpAddr> {
        self.look(now);
        let alike = |ip: &&IpAddr| ip.is_ipv4() == local.is_ipv4() && !ip.is_loopback();
        // With one address there is nothing to choose, and strangers cost no question.
        let only = !local.is_loopback()
            && self.own.contains(&local)
            && self.own.iter().filter(alike).count() < 2;
        let special = local.is_unspecified() || local.is_multicast();
        if only || special || self.towards(now, remote) == Some(local) {
            return None;
        }
        Some(local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagrams::{BATCH, Inbound, MEDIA};

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// A wildcard socket, answering one datagram that came to `local` from there.
    fn answers_from(any: &str, local: &str) {
        let ours = UdpSocket::bind((ip(any), 0)).expect("a port");
        ours.set_nonblocking(true).expect("set");
        let bound = ours.local_addr().expect("bound");
        tell_local(&ours, bound).expect("set");
        let peer_any = if ip(local).is_ipv4() { "0.0.0.0" } else { "::" };
        let peer = UdpSocket::bind((ip(peer_any), 0)).expect("a port");
        peer.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        let to = SocketAddr::new(ip(local), bound.port());
        let mut inbound = Inbound::new(MEDIA);
        // More than a batch, so that each header serves more than once.
        for _ in 0..2 {
            (0..BATCH).for_each(|_| assert_eq!(peer.send_to(b"to", to).expect("sent"), 2));
            assert_eq!(inbound.receive::<BATCH>(&ours), BATCH);
            assert!((0..BATCH).all(|n| inbound.local(n) == Some(ip(local))));
        }
        let (_, from) = inbound.datagram(0).expect("a datagram");
        let from = if bound.is_ipv6() && from.is_ipv4() {
            let IpAddr::V4(v4) = from.ip() else { unreachable!() };
            SocketAddr::new(v4.to_ipv6_mapped().into(), from.port())
        } else {
            from
        };
        let sent = LocalSource::new(ip(local), bound.is_ipv6()).send(&ours, b"back", from);
        assert_eq!(sent.expect("sent"), 4);
        assert_eq!(peer.recv_from(&mut [0; 8]).expect("an answer"), (4, to));
    }

    #[test]
    fn an_answer_leaves_by_the_address_that_was_asked() {
        answers_from("0.0.0.0", "127.0.0.9");
        if UdpSocket::bind("[::1]:0").is_ok() {
            answers_from("::", "127.0.0.9");
            answers_from("::", "::1");
        }
    }

    #[test]
    fn a_socket_on_one_address_is_told_nothing() {
        let ours = UdpSocket::bind("127.0.0.9:0").expect("a port");
        ours.set_nonblocking(true).expect("set");
        let bound = ours.local_addr().expect("bound");
        tell_local(&ours, bound).expect("nothing to do");
        UdpSocket::bind("127.0.0.1:0").and_then(|s| s.send_to(b"x", bound)).expect("sent");
        let mut inbound = Inbound::new(MEDIA);
        assert_eq!((inbound.receive::<BATCH>(&ours), inbound.local(0)), (1, None));
    }

    #[test]
    fn only_what_the_kernel_would_send_otherwise_is_an_exception() {
        fn towards(remote: IpAddr) -> Option<IpAddr> {
            Some(if remote == ip("10.0.0.20") { ip("10.0.0.2") } else { ip("203.0.113.7") })
        }
        fn two() -> Vec<IpAddr> {
            vec![ip("127.0.0.1"), ip("203.0.113.7"), ip("10.0.0.2"), ip("::1")]
        }
        fn one() -> Vec<IpAddr> {
            vec![ip("127.0.0.1"), ip("203.0.113.7"), ip("::1"), ip("2001:db8::7")]
        }
        fn unasked(_: IpAddr) -> Option<IpAddr> {
            panic!("the kernel is asked although there is nothing to choose")
        }
        let now = Instant::now();
        let mut routes = KernelRoutes::new(two, towards);
        let mut of = |remote: &str, local: &str| routes.exception(now, ip(remote), ip(local));
        assert_eq!(of("10.0.0.20", "10.0.0.2"), None);
        assert_eq!(of("10.0.0.20", "203.0.113.7"), Some(ip("203.0.113.7")));
        assert_eq!(of("198.51.100.1", "203.0.113.7"), None);
        assert_eq!(of("198.51.100.1", "10.0.0.2"), Some(ip("10.0.0.2")));
        let mut routes = KernelRoutes::new(one, unasked);
        assert_eq!(routes.exception(now, ip("198.51.100.1"), ip("203.0.113.7")), None);
    }

    #[test]
    fn routes_are_asked_for_again_and_bounded() {
        fn towards(_: IpAddr) -> Option<IpAddr> {
            use std::sync::atomic::{AtomicU8, Ordering};
            static ASKED: AtomicU8 = AtomicU8::new(0);
            Some(IpAddr::from([10, 0, 0, ASKED.fetch_add(1, Ordering::Relaxed)]))
        }
        let (now, mut routes) = (Instant::now(), KernelRoutes::new(Vec::new, towards));
        let first = routes.towards(now, ip("192.0.2.1"));
        assert_eq!(routes.towards(now, ip("192.0.2.1")), first);
        assert_ne!(routes.towards(now + FRESH, ip("192.0.2.1")), first, "routes change");
        for n in 0..5_000u32 {
            routes.towards(now, Ipv4Addr::from(n).into());
            assert!(routes.towards.len() <= REMEMBERED);
        }
    }
}
