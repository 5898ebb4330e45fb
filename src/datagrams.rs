//! Datagrams many at a time: one system call takes what waits on a socket, and says that it is empty.
//!
//! `recvmmsg` and `sendmmsg` by the `nix` crate. Buffers and headers are made once and used again.

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use std::array;
use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// Datagrams of one call.
pub const BATCH: usize = 32;
/// Longest media datagram: media keeps below an Ethernet frame, and no path here carries more.
pub const MEDIA: usize = 2_048;
/// Longest datagram there is, which a SIP message may be.
pub const ANY: usize = 65_536;

fn address_of(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|a| SocketAddr::new(a.ip().into(), a.port()));
    let v6 = || storage.as_sockaddr_in6().map(|a| SocketAddr::new(a.ip().to_canonical(), a.port()));
    v4.or_else(v6)
}

/// What a call brought.
pub struct Inbound {
    buffers: Vec<u8>,
    /// Bytes of each buffer.
    longest: usize,
    /// All sockets read with these are of one address family: the kernel shortens the space for an address
    /// to the one it wrote last.
    headers: MultiHeaders<SockaddrStorage>,
    arrived: [Option<(usize, SocketAddr)>; BATCH],
}

impl Inbound {
    /// Room for datagrams of up to `longest` bytes; longer ones are dropped.
    pub fn new(longest: usize) -> Inbound {
        Inbound { buffers: vec![0; BATCH * longest], longest, headers: MultiHeaders::preallocate(BATCH, None), arrived: [None; BATCH] }
    }

    /// Takes up to `most` datagrams; how many there were. Fewer than `most`: the socket is empty now.
    pub fn receive(&mut self, socket: &impl AsRawFd, most: usize) -> usize {
        loop {
            match self.attempt(socket, most) {
                Ok(count) => return count,
                // An ICMP error of an earlier send is reported here once; the socket is fine.
                Err(Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EINTR) => {}
                Err(_) => return 0,
            }
        }
    }

    fn attempt(&mut self, socket: &impl AsRawFd, most: usize) -> nix::Result<usize> {
        let mut chunks = self.buffers.chunks_exact_mut(self.longest);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let results = recvmmsg(socket.as_raw_fd(), &mut self.headers, slices.iter_mut().take(most), MsgFlags::MSG_DONTWAIT, None)?;
        let mut count = 0;
        for (slot, result) in self.arrived.iter_mut().zip(results) {
            // A datagram cut short is none: half a packet is worth nothing.
            let whole = !result.flags.contains(MsgFlags::MSG_TRUNC);
            *slot = result.address.as_ref().filter(|_| whole).and_then(address_of).map(|from| (result.bytes, from));
            count += 1;
        }
        Ok(count)
    }

    /// The datagram at `n` and its sender, if it is whole.
    pub fn datagram(&mut self, n: usize) -> Option<(&mut [u8], SocketAddr)> {
        let (len, from) = (*self.arrived.get(n)?)?;
        let at = n * self.longest;
        Some((self.buffers.get_mut(at..at + len)?, from))
    }
}

/// Datagrams that wait to be sent from one socket.
pub struct Outbound {
    buffers: Vec<u8>,
    headers: MultiHeaders<SockaddrStorage>,
    lengths: [usize; BATCH],
    to: [Option<SockaddrStorage>; BATCH],
    count: usize,
}

impl Outbound {
    /// Room for media.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Outbound {
        Outbound {
            buffers: vec![0; BATCH * MEDIA],
            headers: MultiHeaders::preallocate(BATCH, None),
            lengths: [0; BATCH],
            to: [None; BATCH],
            count: 0,
        }
    }

    /// Adds a datagram; what no longer fits is sent first.
    pub fn push(&mut self, socket: &UdpSocket, to: SocketAddr, datagram: &[u8]) {
        if self.count == BATCH {
            self.flush(socket);
        }
        let at = self.count * MEDIA;
        let Some(slot) = self.buffers.get_mut(at..at + datagram.len()).filter(|s| s.len() <= MEDIA) else { return };
        slot.copy_from_slice(datagram);
        self.lengths[self.count] = datagram.len();
        self.to[self.count] = Some(to.into());
        self.count += 1;
    }

    /// Sends what waits. A full socket buffer or an ICMP error costs a packet, as the network would.
    pub fn flush(&mut self, socket: &UdpSocket) {
        let mut from = 0;
        while from < self.count {
            let (buffers, lengths) = (&self.buffers, &self.lengths);
            let slices: [[IoSlice<'_>; 1]; BATCH] = array::from_fn(|n| [IoSlice::new(&buffers[n * MEDIA..n * MEDIA + lengths[n]])]);
            let sent = sendmmsg(socket.as_raw_fd(), &mut self.headers, &slices[from..self.count], &self.to[from..self.count], [], MsgFlags::MSG_DONTWAIT);
            from += sent.map_or(1, |results| results.count().max(1));
        }
        self.count = 0;
    }
}
