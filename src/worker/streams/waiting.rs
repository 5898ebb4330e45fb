//! What a connection has sent and is still to be looked through: frames of datagrams (RFC 4571), a
//! turn's worth at a time.

use std::net::SocketAddr;

/// Longest frame taken: more is no RTP, DTLS or STUN of a browser's.
const LONGEST: usize = 4_096;
/// Frames of one connection taken in one turn; then the others have theirs.
pub(super) const FRAMES: usize = 32;

/// How reading a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StreamState {
    /// Nothing more is there now.
    Empty,
    More,
    /// Closed, or to be.
    Over,
}

/// What a connection has sent.
pub(in crate::worker) struct WaitingStream {
    /// Where it came from.
    pub(in crate::worker) remote: SocketAddr,
    /// What came and was not looked through before.
    pub(super) bytes: Vec<u8>,
    /// How many of them were looked through.
    pub(super) at: usize,
    /// Frames looked at in this turn.
    pub(super) frames: usize,
    /// It has named one of our ufrags.
    pub(super) named: bool,
    /// It is somebody's.
    pub(super) proved: bool,
    /// How reading it ended.
    pub(super) state: StreamState,
}

impl WaitingStream {
    /// The next whole frame's datagram, as long as this turn lasts.
    pub(in crate::worker) fn next(&mut self) -> Option<&mut [u8]> {
        let length = frame(self.bytes.get(self.at..)?)?;
        if self.frames == FRAMES {
            if self.state == StreamState::Empty {
                self.state = StreamState::More;
            }
            return None;
        }
        self.frames += 1;
        if length > LONGEST {
            self.state = StreamState::Over;
            return None;
        }
        let from = self.at + 2;
        let datagram = self.bytes.get_mut(from..from + length)?;
        self.at = from + length;
        Some(datagram)
    }

    /// Whether that datagram was for somebody: a first one that is not ends the connection.
    /// `valid`: a check from there was authentic; a name alone proves nothing, for it is no secret.
    pub(in crate::worker) fn judge(&mut self, known: bool, valid: bool) -> bool {
        self.proved |= valid;
        self.named |= known || self.proved;
        if !self.named {
            self.state = StreamState::Over;
        }
        self.named
    }
}

/// The length of the frame that begins here, once it can be read.
fn frame(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|head| usize::from(u16::from_be_bytes(*head)))
}

/// The datagrams of a connection that brings `bytes`, turn by turn, and then ends.
#[cfg(any(test, fuzzing))]
pub(crate) fn datagrams(bytes: &[u8]) -> Vec<Vec<u8>> {
    let remote = SocketAddr::from(([192, 0, 2, 1], 1));
    let (mut all, mut at) = (Vec::new(), 0);
    loop {
        let (bytes, state) = (bytes[at..].to_vec(), StreamState::Empty);
        let (frames, named, proved) = (0, true, true);
        let mut turn = WaitingStream { remote, bytes, at: 0, frames, named, proved, state };
        while let Some(datagram) = turn.next() {
            all.push(datagram.to_vec());
        }
        at += turn.at;
        if turn.state != StreamState::More {
            return all;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_is_too_long_ends_its_connection() {
        for (length, over) in [(LONGEST, false), (LONGEST + 1, true)] {
            let mut bytes = (length as u16).to_be_bytes().to_vec();
            bytes.resize(2 + length, 0);
            let remote = SocketAddr::from(([127, 0, 0, 1], 4_000));
            let (at, frames, named, proved) = (0, 0, false, false);
            let state = StreamState::Empty;
            let mut waiting = WaitingStream { remote, bytes, at, frames, named, proved, state };
            assert_eq!(waiting.next().is_none(), over, "{length}");
            assert_eq!(waiting.state == StreamState::Over, over, "{length}");
        }
    }
}
