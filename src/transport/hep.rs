//! HEP3 to Homer: every SIP message as it is sent and received, decoded from WebSockets and TLS,
//! secrets masked.
//!
//! One datagram a message, never waited for: a collector that is gone costs nothing and loses
//! copies only. It keeps what it gets, so strangers do not decide how much that is.

use crate::journal::WallClock;
use crate::pace::Pace;
use crate::recorder::mask::{readable, readable_message, wire};
use crate::sip::message::Message;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

/// Our number among capture agents.
const AGENT: u32 = 2_026;
/// Longest message copied; a datagram holds no more.
const LONGEST: usize = 60_000;
/// Messages from strangers and to them that are copied in a second.
const MOST_OF_STRANGERS: u32 = 500;

/// A way to a collector.
pub(crate) struct Hep {
    socket: UdpSocket,
    own: SocketAddr,
    clock: WallClock,
    /// What was copied of strangers in this second.
    strangers: Pace,
}

impl Hep {
    /// Sends to `collector`; `own` is what we are called in the copies.
    ///
    /// # Errors
    /// No socket, or no way there.
    pub(crate) fn new(collector: SocketAddr, own: SocketAddr, clock: WallClock) -> io::Result<Hep> {
        let any: SocketAddr = if collector.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(collector)?;
        socket.set_nonblocking(true)?;
        Ok(Hep { socket, own, clock, strangers: Pace::default() })
    }

    /// A message came in: `of_stranger` if nobody known sent it.
    pub(crate) fn received(
        &mut self,
        now: Instant,
        from: SocketAddr,
        of_stranger: bool,
        message: &Message,
    ) {
        if self.copies(now, of_stranger) {
            self.copy(now, from, self.own, message.call_id(), &wire(&readable_message(message)));
        }
    }

    /// A message went out: `to_stranger` if to nobody known.
    pub(crate) fn sent(&mut self, now: Instant, to: SocketAddr, to_stranger: bool, bytes: &[u8]) {
        if !self.copies(now, to_stranger) {
            return;
        }
        let text = wire(&readable(bytes));
        let call_id =
            text.lines().find_map(|l| l.strip_prefix("Call-ID: ")).unwrap_or_default().to_owned();
        self.copy(now, self.own, to, &call_id, &text);
    }

    fn copies(&mut self, now: Instant, of_stranger: bool) -> bool {
        !of_stranger || self.strangers.take(now, Some(MOST_OF_STRANGERS))
    }

    fn copy(&self, now: Instant, from: SocketAddr, to: SocketAddr, call_id: &str, text: &str) {
        if text.len() <= LONGEST {
            let since = self.clock.since_epoch(now);
            let _ = self.socket.send(&packet(
                from,
                to,
                (since.as_secs() as u32, since.subsec_micros()),
                call_id,
                text,
            ));
        }
    }
}

fn chunk(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend([0, 0]);
    out.extend(kind.to_be_bytes());
    out.extend((value.len() as u16 + 6).to_be_bytes());
    out.extend(value);
}

/// One HEP3 packet (draft of the HEP/EEP specification, rev. 36).
fn packet(
    from: SocketAddr,
    to: SocketAddr,
    time: (u32, u32),
    call_id: &str,
    text: &str,
) -> Vec<u8> {
    let mut out = b"HEP3\0\0".to_vec();
    let (source, target) = (from.ip().to_canonical(), to.ip().to_canonical());
    let v4 = source.is_ipv4() && target.is_ipv4();
    chunk(&mut out, 1, &[if v4 { 2 } else { 10 }]);
    chunk(&mut out, 2, &[17]);
    for (n, ip) in [source, target].into_iter().enumerate() {
        match ip {
            IpAddr::V4(ip) if v4 => chunk(&mut out, 3 + n as u16, &ip.octets()),
            IpAddr::V4(ip) => chunk(&mut out, 5 + n as u16, &ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => chunk(&mut out, 5 + n as u16, &ip.octets()),
        }
    }
    chunk(&mut out, 7, &from.port().to_be_bytes());
    chunk(&mut out, 8, &to.port().to_be_bytes());
    chunk(&mut out, 9, &time.0.to_be_bytes());
    chunk(&mut out, 10, &time.1.to_be_bytes());
    chunk(&mut out, 11, &[1]);
    chunk(&mut out, 12, &AGENT.to_be_bytes());
    chunk(&mut out, 17, call_id.as_bytes());
    chunk(&mut out, 15, text.as_bytes());
    let length = (out.len() as u16).to_be_bytes();
    out[4..6].copy_from_slice(&length);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_packet_is_what_the_specification_draws() {
        let (from, to) =
            (SocketAddr::from(([192, 0, 2, 1], 5060)), SocketAddr::from(([192, 0, 2, 2], 5080)));
        let packet = packet(from, to, (1, 2), "id", "BYE");
        assert_eq!(&packet[..6], [b'H', b'E', b'P', b'3', 0, packet.len() as u8]);
        let mut chunks = Vec::new();
        let mut rest = &packet[6..];
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([rest[4], rest[5]]));
            chunks.push((rest[3], rest[6..length].to_vec()));
            rest = &rest[length..];
        }
        let expected: [(u8, &[u8]); 12] = [
            (1, &[2]),
            (2, &[17]),
            (3, &[192, 0, 2, 1]),
            (4, &[192, 0, 2, 2]),
            (7, &[0x13, 0xc4]),
            (8, &[0x13, 0xd8]),
            (9, &[0, 0, 0, 1]),
            (10, &[0, 0, 0, 2]),
            (11, &[1]),
            (12, &[0, 0, 7, 0xea]),
            (17, b"id"),
            (15, b"BYE"),
        ];
        assert_eq!(chunks, expected.map(|(kind, value)| (kind, value.to_vec())));
    }

    #[test]
    fn strangers_do_not_fill_what_is_kept_of_others() {
        let collector = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let at = collector.local_addr().expect("bound");
        let now = Instant::now();
        let mut hep = Hep::new(at, at, WallClock::now()).expect("a way there");
        collector.set_nonblocking(true).expect("set");
        let mut copied = |now: Instant, strange: bool| {
            let one = || {
                hep.sent(now, at, strange, b"BYE sip:a SIP/2.0\r\nCall-ID: 1\r\n\r\n");
                collector.recv(&mut [0; 2_000]).is_ok()
            };
            std::iter::repeat_with(one).take(2_000).filter(|copied| *copied).count()
        };
        assert_eq!(copied(now, true), MOST_OF_STRANGERS as usize);
        assert_eq!(copied(now, false), 2_000);
        assert_eq!(copied(now + Duration::from_secs(1), true), MOST_OF_STRANGERS as usize);
    }

    #[test]
    fn a_message_too_long_for_a_datagram_is_not_copied() {
        let collector = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let at = collector.local_addr().expect("bound");
        let now = Instant::now();
        let hep = Hep::new(at, at, WallClock::now()).expect("a way there");
        for length in [LONGEST + 1, LONGEST] {
            hep.copy(now, at, at, "id", &"x".repeat(length));
        }
        let mut packet = vec![0; 65_536];
        let n = collector.recv(&mut packet).expect("a copy");
        assert!((LONGEST..LONGEST + 200).contains(&n), "{n}");
        collector.set_nonblocking(true).expect("set");
        assert!(collector.recv(&mut packet).is_err(), "the other one was left out");
    }
}
