//! SIP over UDP (RFC 3261 §18): one socket, one datagram a message.

use super::{Arrival, Inbox};
use crate::gateway::Input;
use crate::sip::message::Message;
use crate::sip::parse::Framing;
use crate::sip::transaction::Hop;
use std::sync::Arc;
use tokio::net::UdpSocket;

/// Reads until the core stops.
pub async fn serve(socket: Arc<UdpSocket>, inbox: Inbox) {
    let mut buf = vec![0u8; 65_536];
    loop {
        let Ok((len, remote)) = socket.recv_from(&mut buf).await else { continue };
        let remote = super::canonical(remote);
        // Keep-alives: a lone CRLF, or zeros some NAT-minded devices send.
        if buf[..len].iter().all(|b| matches!(b, b'\r' | b'\n' | 0)) {
            continue;
        }
        let arrival = match Message::parse(buf[..len].to_vec(), Framing::Datagram) {
            Ok(message) => {
                let message = message.with_source(remote);
                Arrival::Input(Input::Received { hop: Hop::Udp(remote), remote, message })
            }
            Err(why) => Arrival::Malformed { remote, why },
        };
        if !inbox.give(arrival).await {
            return;
        }
    }
}
