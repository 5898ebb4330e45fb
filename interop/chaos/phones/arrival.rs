//! When a datagram came, by the kernel's clock. Five hundred telephones share one thread: that one
//! of them reads late is no silence of the gateway's.

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt,
    sockopt::ReceiveTimestampns,
};
use nix::sys::time::TimeSpec;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A socket whose datagrams are stamped; it holds half a minute of a call.
pub(crate) async fn bind(at: SocketAddr) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind(at).await?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(1 << 20)?;
    setsockopt(&socket, ReceiveTimestampns, &true)?;
    Ok(socket)
}

/// Two sockets at ports that follow each other: one for RTP, at an even port, and one that holds
/// the place of its RTCP, so that no other telephone is sent that (RFC 3550 section 11).
pub(crate) async fn bind_pair(at: IpAddr) -> anyhow::Result<(UdpSocket, UdpSocket)> {
    for _ in 0..100 {
        let rtp = bind(SocketAddr::new(at, 0)).await?;
        let port = rtp.local_addr()?.port();
        if port.is_multiple_of(2)
            && let Ok(rtcp) = UdpSocket::bind(SocketAddr::new(at, port + 1)).await
        {
            return Ok((rtp, rtcp));
        }
    }
    anyhow::bail!("no two ports at {at} that follow each other are free")
}

/// The next datagram: its length, who sent it, and when it came.
pub(crate) async fn receive(
    socket: &UdpSocket,
    buf: &mut [u8],
) -> io::Result<(usize, SocketAddr, Instant)> {
    loop {
        socket.readable().await?;
        match socket.try_io(Interest::READABLE, || receive_now(socket, buf)) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            came => return came,
        }
    }
}

fn receive_now(socket: &UdpSocket, buf: &mut [u8]) -> io::Result<(usize, SocketAddr, Instant)> {
    let mut space = nix::cmsg_space!(TimeSpec);
    let mut into = [IoSliceMut::new(buf)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let came = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut into, Some(&mut space), flags)?;
    let stamp = came.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
        _ => None,
    });
    let from = came.address.as_ref().and_then(SockaddrStorage::as_sockaddr_in);
    let from = from.map_or((Ipv4Addr::UNSPECIFIED, 0), |from| (from.ip(), from.port()));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let waited = stamp.map_or(Duration::ZERO, |stamp| now.saturating_sub(stamp));
    Ok((came.bytes, SocketAddr::from(from), Instant::now() - waited))
}
