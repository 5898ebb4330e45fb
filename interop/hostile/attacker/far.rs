//! A trunk that answers each call with an echo.

use crate::texts;
use serde_json::{Value, json};
use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

#[derive(clap::Args)]
pub(crate) struct Far {
    /// Where it is; its media is ten ports above
    #[arg(long)]
    at: SocketAddr,
    /// Where all that it hears has to come from
    #[arg(long)]
    gateway: SocketAddr,
}

#[derive(Default)]
struct Counts {
    invites: AtomicU64,
    byes: AtomicU64,
    echoed: AtomicU64,
    strangers: AtomicU64,
}

impl Far {
    pub(crate) fn run(&self) -> anyhow::Result<Value> {
        let counts = Arc::new(Counts::default());
        let media = SocketAddr::new(self.at.ip(), self.at.port() + 10);
        let (gateway, socket) = (self.gateway, UdpSocket::bind(media)?);
        grow(&socket);
        thread::spawn({
            let counts = counts.clone();
            move || echo(&socket, gateway, &counts)
        });
        let (at, socket) = (self.at, UdpSocket::bind(self.at)?);
        grow(&socket);
        thread::spawn({
            let counts = counts.clone();
            move || answer(&socket, (at, media), gateway, &counts)
        });
        std::io::stdin().read_to_end(&mut Vec::new())?;
        let of = |count: &AtomicU64| count.load(Relaxed);
        Ok(json!({
            "invites": of(&counts.invites), "byes": of(&counts.byes),
            "echoed": of(&counts.echoed), "strangers": of(&counts.strangers),
        }))
    }
}

/// Room for what comes while the machine is busy with others.
pub(crate) fn grow(socket: &UdpSocket) {
    let _ = socket2::SockRef::from(socket).set_recv_buffer_size(4 << 20);
}

fn echo(socket: &UdpSocket, gateway: SocketAddr, counts: &Counts) {
    let mut buf = [0; 2_048];
    while let Ok((n, from)) = socket.recv_from(&mut buf) {
        if from.ip() == gateway.ip() {
            counts.echoed.fetch_add(1, Relaxed);
            let _ = socket.send_to(&buf[..n], from);
        } else {
            counts.strangers.fetch_add(1, Relaxed);
        }
    }
}

fn answer(
    socket: &UdpSocket,
    (at, media): (SocketAddr, SocketAddr),
    gateway: SocketAddr,
    counts: &Counts,
) {
    let mut buf = [0; 65_536];
    while let Ok((n, from)) = socket.recv_from(&mut buf) {
        let Ok(text) = std::str::from_utf8(&buf[..n]) else { continue };
        if from.ip() != gateway.ip() {
            counts.strangers.fetch_add(1, Relaxed);
        }
        match text.split(' ').next() {
            Some("INVITE") => counts.invites.fetch_add(1, Relaxed),
            Some("BYE") => counts.byes.fetch_add(1, Relaxed),
            Some("ACK" | "SIP/2.0") | None => continue,
            Some(_) => 0,
        };
        let _ = socket.send_to(texts::ok(text, at, media).as_bytes(), from);
    }
}
