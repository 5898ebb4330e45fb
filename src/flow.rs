//! Flows: the connections peers opened to this node, and what is known of who is behind each
//! (RFC 5626).

pub(crate) mod aliases;

use crate::config::{Config, User};
use crate::ids::IdMap;
use crate::sip::transaction::{Flow, Hop};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// What kind of association a flow is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowKind {
    /// A browser.
    WebSocket,
    /// An accepted TCP connection, which must come from a trunk.
    Tcp,
    /// An accepted TLS connection, likewise.
    Tls,
}

/// What is known of a flow.
#[derive(Clone, Debug)]
pub struct FlowState {
    /// Which transport.
    pub kind: FlowKind,
    /// Of the peer, behind trusted proxies the one they name.
    pub remote: SocketAddr,
    /// The user this flow has proved to be (RFC 5626: the flow carries the identity from then on).
    pub user: Option<String>,
    /// What that user may do, if a grant beyond the configuration decides it.
    pub account: Option<Arc<User>>,
    /// When that ceases to hold, seconds since 1970; `None`: never.
    pub until: Option<u64>,
    /// The token it proved that by, if that is good for one login only.
    pub(crate) token: Option<u128>,
    /// A leg goes by it.
    pub in_call: bool,
    /// Its browser said that the page is closed or reloaded.
    pub page_left: bool,
}

impl FlowState {
    /// A flow nobody is known to be behind.
    pub(crate) fn opened(kind: FlowKind, remote: SocketAddr) -> FlowState {
        FlowState {
            kind,
            remote,
            user: None,
            account: None,
            until: None,
            token: None,
            in_call: false,
            page_left: false,
        }
    }
}

/// What a user may do: as its login on this flow said, else as it is configured.
pub(crate) fn account(
    flows: &IdMap<Flow, FlowState>,
    config: &Config,
    user: &str,
    flow: Option<Flow>,
) -> Option<Arc<User>> {
    let own = flow.and_then(|flow| flows.get(&flow)?.account.clone());
    own.or_else(|| config.users.get(user).cloned())
}

/// What carries a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    Udp,
    Tcp,
    Tls,
    Ws,
}

impl Transport {
    pub(crate) const ALL: [Transport; 4] =
        [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws];

    /// Of `hop`; a flow that is gone was most likely a browser's.
    pub(crate) fn of(hop: Hop, flows: &IdMap<Flow, FlowState>) -> Transport {
        match hop {
            Hop::Udp(_) | Hop::UdpFrom(..) => Transport::Udp,
            Hop::Tcp(_) => Transport::Tcp,
            Hop::Tls(..) | Hop::Node(_) => Transport::Tls,
            Hop::Suspended => Transport::Ws,
            Hop::Flow(flow) => match flows.get(&flow).map(|f| f.kind) {
                Some(FlowKind::Tcp) => Transport::Tcp,
                Some(FlowKind::Tls) => Transport::Tls,
                Some(FlowKind::WebSocket) | None => Transport::Ws,
            },
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["udp", "tcp", "tls", "ws"][*self as usize])
    }
}
