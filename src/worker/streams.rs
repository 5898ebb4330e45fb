//! Browsers whose network lets no UDP out: connections to the UDP port's number over TCP (RFC 6544,
//! passive), each datagram in a frame of its own (RFC 4571).
//!
//! A connection whose first frame is no STUN check for one of our ufrags ends at once. It is
//! somebody's once a check was authentic, so that its address leads to a call, with which it ends;
//! until then it has ten seconds. What a peer does not read in time is lost, as a network would
//! lose it: nothing is queued for it.

mod waiting;

use super::HandedStream;
use crate::address::network_of;
use crate::refused::{Full, RefusedConnections, RefusedPort};
use crate::timers::Timers;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
#[cfg(any(test, fuzzing))]
pub(crate) use waiting::datagrams;
use waiting::{StreamState, WaitingStream};

/// Tokens of streams begin here; those of trunk ends are far below.
pub(super) const FIRST: usize = usize::MAX / 2;
/// Connections of one worker, and those of them that one source (an IPv4 address, an IPv6 /64) may
/// hold: an office whose network lets no UDP out is one source.
const MOST: usize = 4_096;
const MOST_OF_SOURCE: usize = 1_024;
/// Connections that are nobody's yet, of all sources and of one. Beyond the first bound the oldest
/// makes room.
const MOST_UNPROVED: usize = 512;
const MOST_UNPROVED_OF_SOURCE: usize = 32;
/// A connection nobody has proved to be theirs is closed after this.
const PROVE: Duration = Duration::from_secs(10);
/// A connection that brings nothing for this long is closed: a browser checks its consent every
/// few seconds (RFC 7675).
const IDLE: Duration = Duration::from_secs(60);
/// Bytes that may wait to be written: a frame that was begun must be ended.
const PENDING: usize = 64 * 1_024;
/// Bytes of one connection taken in one turn; then the others have theirs.
const BYTES: usize = 8_192;

struct MediaStream {
    socket: TcpStream,
    remote: SocketAddr,
    inbound: Vec<u8>,
    outbound: Vec<u8>,
    heard: Instant,
    /// It has named one of our ufrags.
    named: bool,
    proved: bool,
    /// It waits for its next turn.
    queued: bool,
}

/// What one source holds.
#[derive(Default)]
struct Share {
    all: usize,
    unproved: usize,
}

/// Whether there is no place for one more, beside `all` of everybody and a source's share.
fn full(all: usize, share: Option<&Share>) -> Option<Full> {
    let own = |s: &Share| s.all >= MOST_OF_SOURCE || s.unproved >= MOST_UNPROVED_OF_SOURCE;
    let of_source = share.is_some_and(own).then_some(Full::OfSource);
    of_source.or((all >= MOST).then_some(Full::Everywhere))
}

/// All connections of a worker.
#[derive(Default)]
pub(super) struct StreamTable {
    all: Slab<MediaStream>,
    by_address: HashMap<SocketAddr, usize, foldhash::quality::RandomState>,
    by_source: HashMap<IpAddr, Share, foldhash::quality::RandomState>,
    /// Unproved connections, oldest first; some have been proved or closed since.
    unproved: VecDeque<(SocketAddr, usize)>,
    unproved_now: usize,
    timers: Timers<usize>,
    /// Those with more to read than a turn takes.
    queue: VecDeque<usize>,
    refused: Arc<RefusedConnections>,
}

impl StreamTable {
    /// None yet; whoever is refused is counted there.
    pub(super) fn new(refused: Arc<RefusedConnections>) -> StreamTable {
        StreamTable { refused, ..StreamTable::default() }
    }

    /// Takes a connection over, unless its source or everybody together holds too many.
    pub(super) fn open(&mut self, registry: &Registry, mut socket: TcpStream, now: Instant) {
        let Ok(remote) = socket.peer_addr() else { return };
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let share = self.by_source.get(&network_of(remote.ip()));
        let full = full(self.all.len(), share);
        if let Some(full) = full {
            return self.refused.tell(RefusedPort::Media, full, remote.ip());
        }
        if self.unproved_now >= MOST_UNPROVED {
            self.close_oldest_unproved(registry);
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
        entry.insert(MediaStream {
            socket,
            remote,
            inbound: Vec::new(),
            outbound: Vec::new(),
            heard: now,
            named: false,
            proved: false,
            queued: false,
        });
        let share = self.by_source.entry(network_of(remote.ip())).or_default();
        share.all += 1;
        share.unproved += 1;
        self.unproved_now += 1;
        self.unproved.push_back((remote, key));
        self.timers.set(key, now + PROVE);
        if let Some(old) = self.by_address.insert(remote, key) {
            self.close(registry, old);
            self.by_address.insert(remote, key);
        }
    }

    fn close_oldest_unproved(&mut self, registry: &Registry) {
        while let Some((remote, key)) = self.unproved.pop_front() {
            let is_it = self.all.get(key).is_some_and(|s| s.remote == remote && !s.proved);
            if is_it {
                return self.close(registry, key);
            }
        }
    }

    /// The earliest moment [`expire`](Self::expire) must be called.
    pub(super) fn next_timeout(&mut self) -> Option<Instant> {
        self.timers.next_timeout()
    }

    /// Closes what has proved nothing, or brought nothing, in its time.
    pub(super) fn expire(&mut self, registry: &Registry, now: Instant) {
        while let Some(key) = self.timers.pop(now) {
            let Some(stream) = self.all.get(key) else { continue };
            let until = stream.heard + IDLE;
            if stream.proved && until > now {
                self.timers.set(key, until);
            } else {
                self.close(registry, key);
            }
        }
    }

    /// Nobody was heard for `stall`: everybody has that much longer.
    pub(super) fn overslept(&mut self, now: Instant, stall: Duration) {
        self.timers.put_off(stall, |_| true);
        self.all.iter_mut().for_each(|(_, stream)| stream.heard = now.min(stream.heard + stall));
    }

    /// All that are somebody's, once more, for a successor of the process: what has come of a frame
    /// and what is left of one goes with them.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(super) fn hand_over(&self) -> io::Result<Vec<(HandedStream, OwnedFd)>> {
        let proved = self.all.iter().filter(|(_, stream)| stream.proved);
        let handed = proved.map(|(_, stream)| {
            let (inbound, outbound) = (stream.inbound.clone(), stream.outbound.clone());
            let socket = stream.socket.as_fd().try_clone_to_owned()?;
            Ok((HandedStream { worker: 0, inbound, outbound }, socket))
        });
        handed.collect()
    }

    /// Goes on with a connection of a process whose place was taken.
    pub(super) fn adopt(
        &mut self,
        registry: &Registry,
        (socket, from): (TcpStream, HandedStream),
        now: Instant,
    ) {
        let Ok(remote) = socket.peer_addr() else { return };
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        self.open(registry, socket, now);
        let Some(key) = self.by_address.get(&remote).copied() else { return };
        self.prove(key);
        let Some(stream) = self.all.get_mut(key) else { return };
        (stream.inbound, stream.outbound) = (from.inbound, from.outbound);
        if !std::mem::replace(&mut stream.queued, true) {
            self.queue.push_back(key);
        }
    }

    /// Closes the connection of a far end whose call has ended.
    pub(super) fn end(&mut self, registry: &Registry, remote: SocketAddr) {
        if let Some(key) = self.by_address.get(&remote).copied() {
            self.close(registry, key);
        }
    }

    /// Whether a connection waits for its next turn.
    pub(super) fn has_more(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The tokens of those that wait, each once.
    pub(super) fn take_queue(&mut self) -> VecDeque<usize> {
        for key in &self.queue {
            if let Some(stream) = self.all.get_mut(*key) {
                stream.queued = false;
            }
        }
        std::mem::take(&mut self.queue)
    }

    /// Each has its turn, whether something was said to have come or not.
    pub(super) fn queue_all(&mut self) {
        for (key, stream) in &mut self.all {
            if !std::mem::replace(&mut stream.queued, true) {
                self.queue.push_back(key);
            }
        }
    }

    fn close(&mut self, registry: &Registry, key: usize) {
        let Some(mut stream) = self.all.try_remove(key) else { return };
        let _ = registry.deregister(&mut stream.socket);
        self.timers.clear(&key);
        if self.by_address.get(&stream.remote) == Some(&key) {
            self.by_address.remove(&stream.remote);
        }
        let source = network_of(stream.remote.ip());
        if let Some(share) = self.by_source.get_mut(&source) {
            share.all -= 1;
            share.unproved -= usize::from(!stream.proved);
            if share.all == 0 {
                self.by_source.remove(&source);
            }
        }
        self.unproved_now -= usize::from(!stream.proved);
        if self.unproved_now == 0 {
            self.unproved.clear();
        }
    }

    /// A connection is somebody's from now on.
    fn prove(&mut self, key: usize) {
        let Some(stream) = self.all.get_mut(key).filter(|s| !s.proved) else { return };
        stream.proved = true;
        self.unproved_now -= 1;
        if let Some(share) = self.by_source.get_mut(&network_of(stream.remote.ip())) {
            share.unproved -= 1;
        }
    }

    /// Sends a datagram in a frame, if `to` is the far end of one of these. Returns false if it is
    /// not.
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

    /// Takes a turn's worth of what waits on a connection, to be looked through and given back.
    pub(super) fn take(&mut self, key: usize, now: Instant) -> Option<WaitingStream> {
        let stream = self.all.get_mut(key)?;
        stream.flush();
        let state = stream.fill();
        stream.heard = now;
        Some(WaitingStream {
            remote: stream.remote,
            bytes: std::mem::take(&mut stream.inbound),
            at: 0,
            frames: 0,
            named: stream.named,
            proved: stream.proved,
            state,
        })
    }

    /// Gives back what was not looked through, and queues the connection if it has more; closes it
    /// if it is over, or nobody's.
    pub(super) fn give_back(
        &mut self,
        registry: &Registry,
        key: usize,
        mut waiting: WaitingStream,
    ) {
        waiting.bytes.drain(..waiting.at);
        if waiting.proved {
            self.prove(key);
        }
        let Some(stream) = self.all.get_mut(key).filter(|_| waiting.state != StreamState::Over)
        else {
            return self.close(registry, key);
        };
        (stream.inbound, stream.named) = (waiting.bytes, waiting.named);
        if waiting.state == StreamState::More && !std::mem::replace(&mut stream.queued, true) {
            self.queue.push_back(key);
        }
    }
}

impl MediaStream {
    /// Reads a turn's worth. What an earlier turn has left is looked through first.
    fn fill(&mut self) -> StreamState {
        if self.inbound.len() >= BYTES {
            return StreamState::More;
        }
        let mut buf = [0; BYTES];
        loop {
            return match self.socket.read(&mut buf) {
                Ok(0) => StreamState::Over,
                Ok(n) => {
                    self.inbound.extend_from_slice(&buf[..n]);
                    StreamState::More
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => StreamState::Empty,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => StreamState::Over,
            };
        }
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

#[cfg(test)]
mod tests {
    use super::waiting::FRAMES;
    use super::*;
    use mio::Poll;
    use std::net::TcpListener;

    /// Connects from `source` and hands the accepted side over; returns the connecting side.
    fn connect(
        streams: &mut StreamTable,
        poll: &Poll,
        listener: &TcpListener,
        source: [u8; 4],
        now: Instant,
    ) -> std::net::TcpStream {
        let to = listener.local_addr().expect("bound");
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("bound");
        socket.connect(&to.into()).expect("it listens");
        let (accepted, _) = listener.accept().expect("a connection");
        accepted.set_nonblocking(true).expect("set");
        streams.open(poll.registry(), TcpStream::from_std(accepted), now);
        socket.into()
    }

    fn world() -> (StreamTable, Poll, TcpListener, Instant) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        (StreamTable::default(), Poll::new().expect("a poll"), listener, Instant::now())
    }

    #[test]
    fn a_source_and_everybody_hold_so_many_proved_connections_and_no_more() {
        let outcome =
            |all, of_source, unproved| full(all, Some(&Share { all: of_source, unproved }));
        assert!(matches!(outcome(MOST_OF_SOURCE, MOST_OF_SOURCE, 0), Some(Full::OfSource)));
        assert!(outcome(MOST_OF_SOURCE, MOST_OF_SOURCE - 1, MOST_UNPROVED_OF_SOURCE - 1).is_none());
        assert!(matches!(outcome(40, 40, MOST_UNPROVED_OF_SOURCE), Some(Full::OfSource)));
        assert!(matches!(outcome(MOST, 1, 0), Some(Full::Everywhere)));
        assert!(matches!(full(MOST, None), Some(Full::Everywhere)));
        assert!(full(MOST - 1, None).is_none());
    }

    #[test]
    fn a_stranger_holds_his_share_for_ten_seconds_and_no_more() {
        let (mut streams, poll, listener, now) = world();
        let stranger: Vec<_> = (0..40)
            .map(|_| connect(&mut streams, &poll, &listener, [127, 0, 0, 66], now))
            .collect();
        assert_eq!(streams.all.len(), MOST_UNPROVED_OF_SOURCE);
        let _other = connect(&mut streams, &poll, &listener, [127, 0, 0, 67], now);
        assert_eq!(streams.all.len(), MOST_UNPROVED_OF_SOURCE + 1);
        streams.expire(poll.registry(), now + PROVE);
        assert!(streams.all.is_empty() && streams.by_source.is_empty());
        assert_eq!(streams.unproved_now, 0);
        drop(stranger);
    }

    /// A frame of which one half came to each process.
    #[test]
    fn a_connection_continues_in_another_process_in_the_middle_of_a_frame() {
        let (mut streams, poll, listener, now) = world();
        let mut browser = connect(&mut streams, &poll, &listener, [127, 0, 0, 66], now);
        let _stranger = connect(&mut streams, &poll, &listener, [127, 0, 0, 67], now);
        streams.prove(0);
        browser.write_all(&[0, 6, b'a', b'b', b'c']).expect("sent");
        let mut waiting = loop {
            let waiting = streams.take(0, now).expect("it is there");
            if !waiting.bytes.is_empty() {
                break waiting;
            }
            streams.give_back(poll.registry(), 0, waiting);
        };
        assert_eq!(waiting.next(), None, "not whole yet");
        streams.give_back(poll.registry(), 0, waiting);
        let handed = streams.hand_over().expect("descriptors");
        assert_eq!(handed.len(), 1, "strangers are not taken along");
        drop(streams);
        let (mut next, poll, ..) = world();
        for (from, socket) in handed {
            let socket = TcpStream::from_std(socket.into());
            next.adopt(poll.registry(), (socket, from), now);
        }
        browser.write_all(b"def").expect("sent");
        let whole = loop {
            let mut waiting = next.take(0, now).expect("it is there");
            if let Some(datagram) = waiting.next() {
                break datagram.to_vec();
            }
            next.give_back(poll.registry(), 0, waiting);
        };
        assert_eq!(whole, b"abcdef");
        let remote = browser.local_addr().expect("bound");
        assert!(next.send(remote, b"xyz"));
        let mut frame = [0; 5];
        browser.read_exact(&mut frame).expect("it comes");
        assert_eq!(&frame, b"\0\x03xyz");
        next.expire(poll.registry(), now + PROVE);
        assert_eq!(next.all.len(), 1, "it need not prove anything again");
    }

    #[test]
    fn beyond_the_bound_of_all_the_oldest_stranger_makes_room() {
        let (mut streams, poll, listener, now) = world();
        let strangers: Vec<_> = (0..=MOST_UNPROVED)
            .map(|n| {
                let source = [127, 0, 1, (n / 8) as u8];
                connect(&mut streams, &poll, &listener, source, now)
            })
            .collect();
        assert_eq!(streams.all.len(), MOST_UNPROVED);
        let first = strangers[0].local_addr().expect("bound");
        assert!(!streams.by_address.contains_key(&first));
    }

    #[test]
    fn a_flood_of_empty_frames_takes_a_turn_at_a_time() {
        let (mut streams, poll, listener, now) = world();
        let mut browser = connect(&mut streams, &poll, &listener, [127, 0, 0, 66], now);
        browser.write_all(&[0; 2 * 100]).expect("room");
        let (mut turns, mut frames) = (0, 0);
        while frames < 100 {
            let mut waiting = streams.take(0, now).expect("it is there");
            let mut taken = 0;
            while let Some(datagram) = waiting.next() {
                assert!(datagram.is_empty());
                assert!(waiting.judge(true, true));
                taken += 1;
            }
            assert!(taken <= FRAMES);
            streams.give_back(poll.registry(), 0, waiting);
            streams.take_queue();
            (turns, frames) = (turns + 1, frames + taken);
            assert!(turns < 1_000_000);
        }
        assert!(turns >= 4);
    }

    /// A check by somebody who knows the ufrag, but not the password.
    #[test]
    fn who_names_a_call_and_proves_nothing_is_a_stranger() {
        let (mut streams, poll, listener, now) = world();
        let mut browser = connect(&mut streams, &poll, &listener, [127, 0, 0, 66], now);
        for (valid, after) in [(false, 1), (false, 9), (true, 9)] {
            browser.write_all(&[0, 1, 0]).expect("room");
            let at = now + Duration::from_secs(after);
            loop {
                let mut waiting = streams.take(0, at).expect("it is there");
                let came = waiting.next().is_some();
                assert!(!came || waiting.judge(true, valid), "it may be too early");
                streams.give_back(poll.registry(), 0, waiting);
                if came {
                    break;
                }
            }
            assert_eq!(streams.unproved_now, usize::from(!valid));
            streams.expire(poll.registry(), at);
            assert_eq!(streams.all.len(), 1);
        }
        let mut stranger = connect(&mut streams, &poll, &listener, [127, 0, 0, 67], now);
        stranger.write_all(&[0, 1, 0]).expect("room");
        streams.expire(poll.registry(), now + PROVE);
        assert_eq!(streams.all.len(), 1, "the browser's");
    }

    #[test]
    fn one_that_brings_nothing_more_ends() {
        let (mut streams, poll, listener, now) = world();
        let browser = connect(&mut streams, &poll, &listener, [127, 0, 0, 66], now);
        streams.prove(0);
        streams.expire(poll.registry(), now + PROVE);
        assert_eq!(streams.all.len(), 1, "a proved one outlives the strangers' ten seconds");
        streams.expire(poll.registry(), now + IDLE + PROVE);
        assert!(streams.all.is_empty());
        drop(browser);
    }
}
