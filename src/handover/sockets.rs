//! Sockets that are open already when a process starts, by name.

use socket2::{Socket, Type};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::{Mutex, PoisonError};

/// Before the port of a pair of media sockets.
pub(crate) const RTP: &str = "rtp-";
pub(crate) const RTCP: &str = "rtcp-";

/// Sockets that somebody had open for us, to be taken instead of binding new ones.
#[derive(Debug, Default)]
pub struct Sockets(Mutex<Vec<(String, Socket)>>);

/// Whether a socket bound at `is` serves where `wanted` is wanted: port 0 is any.
fn serves(is: SocketAddr, wanted: SocketAddr) -> bool {
    is.ip() == wanted.ip() && (wanted.port() == 0 || is.port() == wanted.port())
}

impl Sockets {
    /// These.
    pub fn new(sockets: impl IntoIterator<Item = (String, OwnedFd)>) -> Sockets {
        let sockets = sockets.into_iter().map(|(name, fd)| (name, Socket::from(fd)));
        Sockets(Mutex::new(sockets.collect()))
    }

    fn take(&self, name: &str, kind: Type, fits: impl Fn(&Socket) -> bool) -> Option<Socket> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |socket: &Socket| socket.r#type().is_ok_and(|is| is == kind) && fits(socket);
        let at = held.iter().position(|(of, socket)| of == name && is(socket))?;
        let socket = held.swap_remove(at).1;
        socket.set_nonblocking(true).is_ok().then_some(socket)
    }

    fn bound(&self, name: &str, kind: Type, wanted: SocketAddr) -> Option<Socket> {
        self.take(name, kind, |socket| {
            let at = socket.local_addr().ok().and_then(|at| at.as_socket());
            at.is_some_and(|at| serves(at, wanted))
        })
    }

    /// The TCP listener of this name, if it is bound where it is wanted.
    pub fn tcp(&self, name: &str, wanted: SocketAddr) -> Option<TcpListener> {
        self.bound(name, Type::STREAM, wanted).map(TcpListener::from)
    }

    /// The UDP socket of this name, if it is bound where it is wanted.
    pub fn udp(&self, name: &str, wanted: SocketAddr) -> Option<UdpSocket> {
        self.bound(name, Type::DGRAM, wanted).map(UdpSocket::from)
    }

    /// The pairs of media sockets within: their ports, RTP's and RTCP's.
    pub(crate) fn pairs(&self) -> Vec<(u16, UdpSocket, UdpSocket)> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let port = |(name, _): &(String, Socket)| name.strip_prefix(RTP)?.parse::<u16>().ok();
        let ports: Vec<u16> = held.iter().filter_map(port).collect();
        drop(held);
        let all = |_: &Socket| true;
        let of = |port: u16| {
            let rtp = self.take(&format!("{RTP}{port}"), Type::DGRAM, all)?;
            let rtcp = self.take(&format!("{RTCP}{port}"), Type::DGRAM, all)?;
            Some((port, rtp.into(), rtcp.into()))
        };
        ports.into_iter().filter_map(of).collect()
    }

    /// The names of those that nobody took; they are closed.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.drain(..).map(|(name, _)| name).collect()
    }

    /// The UNIX listener of this name.
    pub fn unix(&self, name: &str) -> Option<UnixListener> {
        let socket =
            self.take(name, Type::STREAM, |s| s.local_addr().is_ok_and(|a| a.is_unix()))?;
        Some(UnixListener::from(OwnedFd::from(socket)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_taken_once_by_its_name_kind_and_address() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = tcp.local_addr().expect("bound");
        let sockets = Sockets::new([("web".to_owned(), OwnedFd::from(tcp))]);
        let elsewhere = SocketAddr::new([127, 0, 0, 2].into(), at.port());
        assert!(sockets.tcp("metrics", at).is_none(), "of another name");
        assert!(sockets.udp("web", at).is_none(), "of another kind");
        assert!(sockets.tcp("web", elsewhere).is_none(), "bound elsewhere");
        assert!(sockets.unix("web").is_none());
        let any = SocketAddr::new(at.ip(), 0);
        let taken = sockets.tcp("web", any).expect("any port will do");
        assert_eq!(taken.local_addr().expect("bound"), at);
        assert!(sockets.tcp("web", at).is_none(), "it is gone");
    }
}
