//! Datagrams many at a time: one system call takes what waits on a socket, and says that it is
//! empty.
//!
//! `recvmmsg` by the `nix` crate; buffers and headers are made once and used again. Sending stays
//! one by one: its `sendmmsg` reads memory nobody wrote to say how many went, and gains a fifteenth
//! at best.

pub(crate) mod local;

use local::{CONTROL, named};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
use std::array;
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

/// Datagrams of one call.
pub(crate) const BATCH: usize = 32;
/// Longest media datagram: media keeps below an Ethernet frame, and no path here carries more.
pub(crate) const MEDIA: usize = 2_048;
/// Longest datagram there is, which a SIP message may be.
pub(crate) const ANY: usize = 65_536;

fn address_of(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|a| SocketAddr::new(a.ip().into(), a.port()));
    let v6 = || storage.as_sockaddr_in6().map(|a| SocketAddr::new(a.ip().to_canonical(), a.port()));
    v4.or_else(v6)
}

/// What a call brought.
pub(crate) struct Inbound {
    buffers: Vec<u8>,
    /// Bytes of each buffer.
    longest: usize,
    /// All sockets read with these are of one address family, and all of them or none say where a
    /// datagram came to: the kernel shortens the space for an address, and for what it says
    /// besides, to the one it wrote last.
    headers: MultiHeaders<SockaddrStorage>,
    arrived: [Option<(usize, SocketAddr)>; BATCH],
    /// Which of our addresses each came to, if the socket reports it.
    locals: [Option<IpAddr>; BATCH],
}

impl Inbound {
    /// Room for datagrams of up to `longest` bytes; longer ones are dropped.
    pub(crate) fn new(longest: usize) -> Inbound {
        Inbound {
            buffers: vec![0; BATCH * longest],
            longest,
            headers: MultiHeaders::preallocate(BATCH, Some(Vec::with_capacity(CONTROL))),
            arrived: [None; BATCH],
            locals: [None; BATCH],
        }
    }

    /// Takes up to `MOST` datagrams; how many there were. Fewer than `MOST`: the socket is empty
    /// now.
    pub(crate) fn receive<const MOST: usize>(&mut self, socket: &impl AsRawFd) -> usize {
        const { assert!(MOST <= BATCH) };
        loop {
            match self.attempt::<MOST>(socket) {
                Ok(count) => return count,
                // An ICMP error of an earlier send is reported here once; the socket is fine.
                Err(
                    Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EINTR,
                ) => {}
                Err(_) => return 0,
            }
        }
    }

    fn attempt<const MOST: usize>(&mut self, socket: &impl AsRawFd) -> nix::Result<usize> {
        let mut chunks = self.buffers.chunks_exact_mut(self.longest);
        let mut slices: [[IoSliceMut<'_>; 1]; MOST] =
            array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let results = recvmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        let mut count = 0;
        let slots = self.arrived.iter_mut().zip(&mut self.locals);
        for ((slot, local), result) in slots.zip(results) {
            // A truncated datagram is dropped: half a packet is worth nothing.
            let whole = !result.flags.contains(MsgFlags::MSG_TRUNC);
            *slot = result
                .address
                .as_ref()
                .filter(|_| whole)
                .and_then(address_of)
                .map(|from| (result.bytes, from));
            *local = result.cmsgs().ok().and_then(|mut all| all.find_map(|m| named(&m)));
            count += 1;
        }
        Ok(count)
    }

    /// Which of our addresses the datagram at `n` came to, if its socket reports it.
    pub(crate) fn local(&self, n: usize) -> Option<IpAddr> {
        self.locals.get(n).copied().flatten()
    }

    /// The datagram at `n` and its sender, if it is whole.
    pub(crate) fn datagram(&mut self, n: usize) -> Option<(&mut [u8], SocketAddr)> {
        let (len, from) = (*self.arrived.get(n)?)?;
        let at = n * self.longest;
        Some((self.buffers.get_mut(at..at + len)?, from))
    }
}
