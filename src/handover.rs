//! The way between a process and its successor: messages and open sockets over a UNIX socket.
//!
//! The two may be of different versions, so what they say is JSON that may grow, and the one
//! binary message comes after both know that its format is known. `node::upgrade` and
//! `node::take_over` are the two sides.

pub mod sockets;

use crate::call::call_snapshot::CallSnapshot;
use crate::cluster::store::Process;
use crate::gateway::restore::LateRequest;
use crate::transport::WRITE_STALL;
use crate::worker::ports::Pair;
use crate::worker::{HandedStream, MediaSnapshot};
use nix::sys::socket::{MsgFlags, recv};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::oneshot;

/// The protocol of these messages; one of another number is refused.
pub const PROTOCOL: u32 = 1;

/// A frame's first bytes. No request of HTTP begins with nought, and the control socket takes both.
const MAGIC: [u8; 4] = [0, b'w', b't', b'h'];
/// Longest JSON and longest binary part, bytes: 100,000 calls.
const MOST_TEXT: usize = 1 << 20;
const MOST_BYTES: usize = 1 << 29;
/// Most descriptors of a frame, and of one of the system's messages (its `SCM_MAX_FD` is 253).
const MOST_SOCKETS: usize = 1 << 17;
const AT_ONCE: usize = 128;

/// What the two say to each other, in this order.
#[allow(missing_docs, reason = "the fields are named by what they are")]
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum LinkMessage {
    /// The successor is there. `reads`: the formats of calls it can continue with.
    Hello { protocol: u32, version: String, reads: Vec<u16> },
    /// The listening sockets, by name; the binary part is the DTLS certificate with its key.
    /// `node`: what the gateway is called in its cluster, if it is in one.
    Sockets {
        version: String,
        names: Vec<String>,
        #[serde(default)]
        node: Option<String>,
    },
    /// The successor has checked its configuration, and can serve.
    Ready,
    /// All calls, in the binary part; `ports`: of the pairs of media sockets that come with it;
    /// `taken`: the processes of other nodes whose calls are among these, or were; `former`: what
    /// the predecessor was in its cluster, and is, the latter last. The predecessor is stopped, and
    /// continues if nobody takes them.
    Calls {
        draining: bool,
        ports: Vec<u16>,
        #[serde(default)]
        taken: Vec<Process>,
        #[serde(default)]
        former: Vec<Process>,
    },
    /// The successor can read them all.
    Taken,
    /// They are the successor's: the predecessor sends nothing more. The binary part is what came
    /// for them meanwhile.
    Go,
    /// The predecessor has let go of its files.
    Released,
    /// The successor serves.
    Serving,
    /// From either side, instead of anything else.
    Refused { why: String },
    /// An operator wants another binary to run; `None`: the one that is at the place of ours now.
    /// `wait_ms`: how long calls that ring are waited for.
    Upgrade { binary: Option<PathBuf>, wait_ms: u64 },
    /// It runs.
    Upgraded { version: String, pid: u32, calls: usize },
}

impl fmt::Display for LinkMessage {
    /// What it is, for a person who did not expect it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LinkMessage::Hello { .. } => "\"hello\"",
            LinkMessage::Sockets { .. } => "\"here are the sockets\"",
            LinkMessage::Ready => "\"ready\"",
            LinkMessage::Calls { .. } => "\"here are the calls\"",
            LinkMessage::Taken => "\"the calls are taken\"",
            LinkMessage::Go => "\"continue with the calls\"",
            LinkMessage::Released => "\"the files are released\"",
            LinkMessage::Serving => "\"serving\"",
            LinkMessage::Refused { why } => return write!(f, "\"refused: {why}\""),
            LinkMessage::Upgrade { .. } => "\"upgrade\"",
            LinkMessage::Upgraded { .. } => "\"upgraded\"",
        })
    }
}

/// A successor asks the core for all calls.
#[derive(Debug)]
pub struct HandOver {
    /// Where the core answers with what it had.
    pub(crate) tell: oneshot::Sender<io::Result<HandedOver>>,
    /// They are taken: the core answers before it ends. If nothing comes, it continues.
    pub(crate) taken: oneshot::Receiver<oneshot::Sender<Vec<LateRequest>>>,
}

/// All calls of a core and of workers that stand still.
#[derive(Debug)]
pub(crate) struct HandedOver {
    /// The calls.
    pub calls: HandedCalls,
    /// An operator has new calls refused.
    pub draining: bool,
    /// The processes whose calls it took over from other nodes.
    pub taken: Vec<Process>,
    /// What it was in its cluster, and is, the latter last.
    pub former: Vec<Process>,
    /// The sockets of the trunk side.
    pub pairs: Vec<Pair>,
    /// Of browsers' connections, in the order of their calls' [`HandedCalls::streams`].
    pub streams: Vec<OwnedFd>,
}

/// The binary part of [`LinkMessage::Calls`], in a format of [`LinkMessage::Hello`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HandedCalls {
    /// When they were taken, by the clock of the boot.
    pub taken: Duration,
    /// The calls.
    pub calls: Vec<CallSnapshot>,
    /// The media of each call, by its session.
    pub media: Vec<(u64, MediaSnapshot)>,
    /// Browsers' connections for media; their sockets come after those of `ports`.
    pub streams: Vec<HandedStream>,
}

impl HandedCalls {
    /// Since when nobody reads or sends media, by the clock of the boot.
    pub(crate) fn still_since(&self) -> Duration {
        let taken = self.media.iter().map(|(_, media)| media.session.taken.uptime);
        taken.min().unwrap_or(self.taken)
    }
}

/// A message with what comes with it.
#[derive(Debug)]
pub struct LinkFrame {
    /// What was said.
    pub message: LinkMessage,
    /// Its binary part.
    pub bytes: Vec<u8>,
    /// Open sockets, in order.
    pub sockets: Vec<OwnedFd>,
}

/// One end of the way.
pub struct Link(UnixStream);

fn invalid(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why.to_owned())
}

impl Link {
    /// The way over a connected socket.
    ///
    /// # Errors
    /// It cannot be made one that waits.
    pub fn new(stream: UnixStream) -> io::Result<Link> {
        stream.set_nonblocking(false)?;
        Ok(Link(stream))
    }

    /// Another handle of the same end.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn try_clone(&self) -> io::Result<Link> {
        self.0.try_clone().map(Link)
    }

    /// The process at the other end.
    pub fn peer(&self) -> Option<u32> {
        let credentials = rustix::net::sockopt::socket_peercred(&self.0).ok()?;
        u32::try_from(credentials.pid.as_raw_nonzero().get()).ok()
    }

    /// Whether the other end is this process's own user, or root: it gets the keys of all calls, or
    /// has another program run as this user, must be no less.
    pub fn is_trusted(&self) -> bool {
        let own = nix::unistd::geteuid().as_raw();
        rustix::net::sockopt::socket_peercred(&self.0)
            .is_ok_and(|peer| [0, own].contains(&peer.uid.as_raw()))
    }

    /// Sends a message alone.
    ///
    /// # Errors
    /// The other end is gone, or does not read.
    pub fn say(&self, message: &LinkMessage) -> io::Result<()> {
        self.send(message, &[], &[])
    }

    /// Says why it goes no further, to whoever still listens.
    pub fn refuse(&self, why: &str) {
        let _ = self.say(&LinkMessage::Refused { why: why.to_owned() });
    }

    /// Sends a message with bytes and sockets.
    ///
    /// # Errors
    /// As [`say`](Self::say).
    pub fn send(
        &self,
        message: &LinkMessage,
        bytes: &[u8],
        sockets: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut frame = MAGIC.to_vec();
        for length in [text.len(), bytes.len(), sockets.len()] {
            let length = u32::try_from(length).map_err(|_| invalid("too long a message"))?;
            frame.extend_from_slice(&length.to_be_bytes());
        }
        frame.extend_from_slice(&text);
        self.0.set_write_timeout(Some(WRITE_STALL))?;
        let mut stream = &self.0;
        stream.write_all(&frame)?;
        stream.write_all(bytes)?;
        for some in sockets.chunks(AT_ONCE) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(some)) {
                return Err(invalid("too many sockets at once"));
            }
            sendmsg(&self.0, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    /// Receives the next message.
    ///
    /// # Errors
    /// The other end is gone, says nothing for `patience`, or something else than these messages.
    pub fn receive(&self, patience: Duration) -> io::Result<LinkFrame> {
        self.0.set_read_timeout(Some(patience))?;
        let mut stream = &self.0;
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        let (magic, rest) = head.split_at(4);
        let length = |n: usize| {
            let four = rest.get(4 * n..).and_then(|r| r.first_chunk()).copied();
            u32::from_be_bytes(four.unwrap_or_default()) as usize
        };
        let (text, bytes, sockets) = (length(0), length(1), length(2));
        if magic != MAGIC || text > MOST_TEXT || bytes > MOST_BYTES || sockets > MOST_SOCKETS {
            return Err(invalid("this is no handover"));
        }
        let text = self.exactly(text)?;
        let message =
            serde_json::from_slice(&text).map_err(|e| invalid(&format!("not understood: {e}")))?;
        let bytes = self.exactly(bytes)?;
        let sockets = self.sockets(sockets)?;
        Ok(LinkFrame { message, bytes, sockets })
    }

    /// Reads this much, and takes memory only for what has come.
    fn exactly(&self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&self.0).take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() < length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }

    fn sockets(&self, wanted: usize) -> io::Result<Vec<OwnedFd>> {
        let mut sockets = Vec::new();
        while sockets.len() < wanted {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut mark = [0];
            let received = recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut mark)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            let before = sockets.len();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(some) = message {
                    sockets.extend(some);
                }
            }
            if received.bytes == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            // The system omits what this process may not open any more.
            if sockets.len() != (before + AT_ONCE).min(wanted) {
                return Err(io::Error::other("too few descriptors are left for the sockets"));
            }
        }
        Ok(sockets)
    }
}

/// Whether a connection of the control socket, of which something has come, is a [`Link`].
///
/// # Errors
/// Nothing has come yet.
pub(crate) fn is_link(stream: &impl AsRawFd) -> io::Result<bool> {
    let mut first = [0];
    let n = recv(stream.as_raw_fd(), &mut first, MsgFlags::MSG_PEEK)?;
    Ok(n == 1 && first == MAGIC[..1])
}

#[cfg(test)]
mod tests;
