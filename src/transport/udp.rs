//! SIP over UDP (RFC 3261 §18): one socket, one datagram a message.
//!
//! The core's own task reads it: a datagram is answered in the turn that brought it, with no other thread woken.

use super::{Arrival, canonical};
use crate::gateway::Input;
use crate::sip::message::Message;
use crate::sip::parse::Framing;
use crate::sip::transaction::Hop;
use std::io;
use tokio::net::UdpSocket;

/// Takes the next datagram, if one is there. Keep-alives (a lone CRLF, or zeros some NAT-minded devices send)
/// are taken and are nothing.
///
/// # Errors
/// `WouldBlock`: there is none. Others are of an earlier send, and of no matter.
pub fn take(socket: &UdpSocket, buf: &mut [u8]) -> io::Result<Option<Arrival>> {
    let (len, remote) = socket.try_recv_from(buf)?;
    let remote = canonical(remote);
    let datagram = &buf[..len];
    if datagram.iter().all(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Ok(None);
    }
    Ok(Some(match Message::parse(datagram.to_vec(), Framing::Datagram) {
        Ok(message) => Arrival::Input(Input::Received { hop: Hop::Udp(remote), remote, message: message.with_source(remote) }),
        Err(why) => Arrival::Malformed { remote, why },
    }))
}
