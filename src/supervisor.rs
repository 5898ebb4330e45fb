//! What systemd is notified of, and what it keeps for us: sd_notify(3), and its file descriptor
//! store, in which sockets stay open between a process that died and the next.
//!
//! Without systemd there are no notifications, and nothing is kept.

use crate::handover::sockets::Sockets;
use listenfd::ListenFd;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sendmsg_addr, socket_with,
};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

const PLACE: &str = "NOTIFY_SOCKET";
/// For notifications while it serves: one that nobody reads is lost rather than waited for.
const AT_ONCE: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// Whether somebody receives notifications.
pub fn listens() -> bool {
    std::env::var_os(PLACE).is_some()
}

/// Tells systemd a state, such as `READY=1`.
pub fn tell(state: &str) {
    let _ = send(state, &[], SendFlags::NOSIGNAL);
}

/// Tells systemd that the process lives; by whom nothing may hold up, whatever systemd does.
pub fn tell_alive() {
    let _ = send("WATCHDOG=1", &[], AT_ONCE);
}

/// Has systemd keep a socket under this name, for the next process.
pub(crate) fn keep(name: &str, socket: BorrowedFd<'_>) {
    let _ = send(&format!("FDSTORE=1\nFDNAME={name}"), &[socket], AT_ONCE);
}

/// Has systemd forget the sockets of this name.
pub(crate) fn forget(name: &str) {
    let _ = send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[], AT_ONCE);
}

fn send(state: &str, sockets: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
    let Some(place) = std::env::var_os(PLACE) else { return Ok(()) };
    let to = match place.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(place.as_bytes())?,
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(sockets));
    }
    let text = [IoSlice::new(state.as_bytes())];
    sendmsg_addr(socket, &to, &text, &mut control, flags)?;
    Ok(())
}

/// The sockets that systemd kept of an earlier process (`LISTEN_FDS`). To be asked once, before
/// there is another thread: the environment is cleared.
pub fn kept() -> Sockets {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut given = ListenFd::from_env();
    let sockets = names.split(':').take(given.len()).enumerate().filter_map(|(n, name)| {
        // Again, so that a process started by us does not have it too.
        let tcp = given.take_tcp_listener(n).ok().flatten();
        let socket = match tcp {
            Some(listener) => listener.try_clone().ok().map(OwnedFd::from),
            None => {
                let udp = given.take_udp_socket(n).ok().flatten();
                udp.and_then(|socket| socket.try_clone().ok()).map(OwnedFd::from)
            }
        };
        Some((name.to_owned(), socket?))
    });
    Sockets::new(sockets.collect::<Vec<_>>())
}
