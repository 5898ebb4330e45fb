//! Where a message goes, or came from.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// One transport association (RFC 5626): a WebSocket or an accepted TCP connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Flow(pub u64);

/// Where a message goes to, or came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hop {
    /// An open connection.
    Flow(Flow),
    /// A datagram to this address.
    Udp(SocketAddr),
    /// UDP by an address of ours that the kernel would not choose: the one the peer reached.
    UdpFrom(SocketAddr, IpAddr),
    /// A TCP connection to be opened, or reused, to this address.
    Tcp(SocketAddr),
    /// A TLS connection, likewise; its certificate must be this trunk's (by its place in the
    /// configuration).
    Tls(SocketAddr, TrunkNumber),
    /// The node of the cluster that is reached there, by whatever connection there is.
    Node(SocketAddr),
    /// Nowhere: the flow of a transaction was lost. What it would send is sent when its peer is
    /// back.
    Suspended,
}

/// A trunk by its place among the configured ones, in order of names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TrunkNumber(pub u32);

impl Hop {
    /// Returns the peer's address, or `None` for a flow, whose address is the transport's matter.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Hop::Udp(address)
            | Hop::UdpFrom(address, _)
            | Hop::Tcp(address)
            | Hop::Tls(address, _)
            | Hop::Node(address) => Some(address),
            Hop::Flow(_) | Hop::Suspended => None,
        }
    }

    /// Whether the transport retransmits for us.
    pub(crate) fn is_reliable(self) -> bool {
        !self.is_udp()
    }

    /// Whether messages are datagrams.
    pub(crate) fn is_udp(self) -> bool {
        matches!(self, Hop::Udp(_) | Hop::UdpFrom(..))
    }

    /// It without the address of ours.
    pub(crate) fn plain(self) -> Hop {
        if let Hop::UdpFrom(to, _) = self { Hop::Udp(to) } else { self }
    }

    /// The address of ours that the peer reached, if it is not the one we would choose.
    pub(crate) fn local(self) -> Option<IpAddr> {
        if let Hop::UdpFrom(_, local) = self { Some(local) } else { None }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hop::Flow(flow) => write!(f, "flow {}", flow.0),
            Hop::Udp(addr) => write!(f, "udp {addr}"),
            Hop::UdpFrom(addr, local) => write!(f, "udp {addr} from {local}"),
            Hop::Tcp(addr) => write!(f, "tcp {addr}"),
            Hop::Tls(addr, _) => write!(f, "tls {addr}"),
            Hop::Node(addr) => write!(f, "node {addr}"),
            Hop::Suspended => f.write_str("a lost flow"),
        }
    }
}
