//! SIP over UDP (RFC 3261 §18): one socket, one datagram a message.
//!
//! The core's own task reads it: a datagram is answered in the turn that brought it, with no other
//! thread woken.

use super::Arrival;
use crate::datagrams::{BATCH, Inbound};
use crate::gateway::Input;
use crate::sip::message::Message;
use crate::sip::parse::Framing;
use crate::sip::salvage::salvage;
use crate::sip::transaction::Hop;
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Takes up to a batch of datagrams; how many there were. With fewer, the socket is empty, and
/// `readable` waits again.
pub(crate) fn receive(socket: &UdpSocket, inbound: &mut Inbound) -> usize {
    let mut count = 0;
    // The runtime forgets that the socket was readable if the attempt says that it would block.
    let _ = socket.try_io(Interest::READABLE, || {
        count = inbound.receive::<BATCH>(socket);
        if count < BATCH { Err(io::Error::from(io::ErrorKind::WouldBlock)) } else { Ok(()) }
    });
    count
}

/// What a datagram is; `local`: the address of ours that it came to, if an answer would leave by
/// another one. Keep-alives (a lone CRLF, or zeros some NAT-minded devices send) are nothing.
pub fn arrival(datagram: &[u8], remote: SocketAddr, local: Option<IpAddr>) -> Option<Arrival> {
    if datagram.iter().all(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return None;
    }
    Some(match Message::parse(datagram.to_vec(), Framing::Datagram) {
        Ok(message) => Arrival::Input(Input::Received {
            hop: local.map_or(Hop::Udp(remote), |local| Hop::UdpFrom(remote, local)),
            remote,
            message: message.with_source(remote),
        }),
        Err(why) => Arrival::Malformed { remote, why, rest: salvage(datagram) },
    })
}
