//! Browsers whose network lets no UDP out: connections to the UDP port's number over TCP (RFC 6544,
//! passive), each datagram in a frame of its own (RFC 4571).
//!
//! A connection is somebody's once its first frame is a STUN check for one of our ufrags; until
//! then it has ten seconds. What a peer does not read in time is lost, as a network would lose it:
//! nothing is queued for it.

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use slab::Slab;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Tokens of streams begin here; those of trunk ends are far below.
pub(super) const FIRST: usize = usize::MAX / 2;
/// Connections of one worker.
const MOST: usize = 4_096;
/// A connection nobody has proved to be theirs is closed after this.
const PROVE: Duration = Duration::from_secs(10);
/// Longest frame taken: more is no RTP, DTLS or STUN of a browser's.
const LONGEST: usize = 4_096;
/// Bytes that may wait to be written: a frame that was begun must be ended.
const PENDING: usize = 64 * 1_024;

struct Stream {
    socket: TcpStream,
    remote: SocketAddr,
    inbound: Vec<u8>,
    outbound: Vec<u8>,
    opened: Instant,
    proved: bool,
}

/// All connections of a worker.
#[derive(Default)]
pub(super) struct Streams {
    all: Slab<Stream>,
    by_address: HashMap<SocketAddr, usize, foldhash::quality::RandomState>,
}

impl Streams {
    /// Takes a connection over.
    pub(super) fn open(&mut self, registry: &Registry, mut socket: TcpStream, now: Instant) {
        let Ok(remote) = socket.peer_addr() else { return };
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        self.forget_unproved(registry, now);
        if self.all.len() >= MOST {
            return;
        }
        let _ = socket.set_nodelay(true);
        let entry = self.all.vacant_entry();
        let key = entry.key();
        if registry
            .register(&mut socket, Token(FIRST + key), Interest::READABLE | Interest::WRITABLE)
            .is_err()
        {
            return;
        }
        entry.insert(Stream {
            socket,
            remote,
            inbound: Vec::new(),
            outbound: Vec::new(),
            opened: now,
            proved: false,
        });
        if let Some(old) = self.by_address.insert(remote, key) {
            self.close(registry, old);
            self.by_address.insert(remote, key);
        }
    }

    fn forget_unproved(&mut self, registry: &Registry, now: Instant) {
        let late = |s: &Stream| !s.proved && now.saturating_duration_since(s.opened) > PROVE;
        let old: Vec<usize> =
            self.all.iter().filter(|(_, s)| late(s)).map(|(key, _)| key).collect();
        old.into_iter().for_each(|key| self.close(registry, key));
    }

    fn close(&mut self, registry: &Registry, key: usize) {
        let Some(mut stream) = self.all.try_remove(key) else { return };
        let _ = registry.deregister(&mut stream.socket);
        if self.by_address.get(&stream.remote) == Some(&key) {
            self.by_address.remove(&stream.remote);
        }
    }

    /// Sends a datagram in a frame, if `to` is the far end of one of these. False: it is not.
    pub(super) fn send(&mut self, to: SocketAddr, datagram: &[u8]) -> bool {
        if self.by_address.is_empty() {
            return false;
        }
        let Some(stream) = self.by_address.get(&to).and_then(|key| self.all.get_mut(*key)) else {
            return false;
        };
        let Ok(length) = u16::try_from(datagram.len()) else { return true };
        // A peer that does not read loses packets, not others their time.
        if stream.outbound.len() + datagram.len() < PENDING {
            stream.outbound.extend(length.to_be_bytes());
            stream.outbound.extend_from_slice(datagram);
            stream.flush();
        }
        true
    }

    /// Takes what waits on a connection, to be looked through and given back.
    pub(super) fn take(&mut self, token: usize) -> Option<Waiting> {
        let stream = self.all.get_mut(token - FIRST)?;
        stream.flush();
        let state = stream.fill();
        Some(Waiting {
            remote: stream.remote,
            bytes: std::mem::take(&mut stream.inbound),
            at: 0,
            proved: stream.proved,
            state,
        })
    }

    /// Gives back what was not looked through; closes the connection where it is over, or nobody's.
    /// True: more waits.
    pub(super) fn give_back(
        &mut self,
        registry: &Registry,
        token: usize,
        mut waiting: Waiting,
    ) -> bool {
        let key = token - FIRST;
        waiting.bytes.drain(..waiting.at);
        let more = waiting.state == State::More;
        match self.all.get_mut(key).filter(|_| waiting.state != State::Over) {
            Some(stream) => {
                (stream.inbound, stream.proved) = (waiting.bytes, waiting.proved);
                more
            }
            None => {
                self.close(registry, key);
                false
            }
        }
    }
}

/// How reading a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing more is there now.
    Empty,
    More,
    /// Closed, or to be.
    Over,
}

/// What a connection has sent.
pub(super) struct Waiting {
    pub remote: SocketAddr,
    bytes: Vec<u8>,
    at: usize,
    proved: bool,
    state: State,
}

impl Waiting {
    /// The next whole frame's datagram.
    pub(super) fn next(&mut self) -> Option<&mut [u8]> {
        let length = frame(self.bytes.get(self.at..)?)?;
        if length > LONGEST {
            self.state = State::Over;
            return None;
        }
        let from = self.at + 2;
        let datagram = self.bytes.get_mut(from..from + length)?;
        self.at = from + length;
        Some(datagram)
    }

    /// Whether that datagram was for somebody: a first one that is not ends the connection.
    pub(super) fn judge(&mut self, known: bool) -> bool {
        self.proved |= known;
        if !self.proved {
            self.state = State::Over;
        }
        self.proved
    }
}

/// The length of the frame that begins here, once it can be read.
fn frame(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|head| usize::from(u16::from_be_bytes(*head)))
}

impl Stream {
    fn fill(&mut self) -> State {
        let mut buf = [0; 8_192];
        while self.inbound.len() < PENDING {
            match self.socket.read(&mut buf) {
                Ok(0) => return State::Over,
                Ok(n) => self.inbound.extend_from_slice(&buf[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return State::Empty,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return State::Over,
            }
        }
        State::More
    }

    fn flush(&mut self) {
        while !self.outbound.is_empty() {
            match self.socket.write(&self.outbound) {
                Ok(n) if n > 0 => drop(self.outbound.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }
}
