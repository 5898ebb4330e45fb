//! The least a user-space media plane does: take a datagram, look up where it goes, send it. No
//! keys, no RTP.

use super::{FLOOR, Own, Peer, Wired, at};
use crate::drive::{self, Load};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use webtrunk::rtp::srtp::{Profile, Protect};

const BROWSERS: Token = Token(usize::MAX);

/// A call as it was asked for: its browser, and its trunk with our socket for it.
struct Asked {
    browser: SocketAddr,
    trunk: SocketAddr,
    socket: UdpSocket,
}

/// The child: `browser-port trunk-port` in, `browser-port trunk-port` of its own out.
pub(crate) fn serve() {
    let browsers = drive::socket();
    let port = browsers.local_addr().expect("bound").port();
    let (calls, inbox) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let line = line.expect("a line");
            let mut ports = line.split(' ').map(at);
            let (browser, trunk) = (ports.next().expect("two"), ports.next().expect("two"));
            let socket = drive::socket();
            println!("{port} {}", socket.local_addr().expect("bound").port());
            calls.send(Asked { browser, trunk, socket }).expect("taken");
        }
        std::process::exit(0);
    });
    relay(&browsers, &inbox);
}

fn relay(browsers: &UdpSocket, inbox: &mpsc::Receiver<Asked>) {
    let mut poll = Poll::new().expect("a poll");
    let watch = |poll: &Poll, socket: &UdpSocket, token| {
        poll.registry()
            .register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)
            .expect("registered");
    };
    watch(&poll, browsers, BROWSERS);
    let (mut lines, mut by_browser) = (Vec::new(), HashMap::new());
    let mut events = Events::with_capacity(1_024);
    let mut buf = [0u8; 2_048];
    loop {
        poll.poll(&mut events, Some(std::time::Duration::from_millis(20))).expect("polled");
        for asked in inbox.try_iter() {
            watch(&poll, &asked.socket, Token(lines.len()));
            by_browser.insert(asked.browser, lines.len());
            lines.push(asked);
        }
        for event in &events {
            if event.token() == BROWSERS {
                while let Ok((len, from)) = browsers.recv_from(&mut buf) {
                    if let Some(line) = by_browser.get(&from).map(|n| &lines[*n]) {
                        let _ = line.socket.send_to(&buf[..len], line.trunk);
                    }
                }
            } else if let Some(line) = lines.get(event.token().0) {
                while let Ok((len, _)) = line.socket.recv_from(&mut buf) {
                    let _ = browsers.send_to(&buf[..len], line.browser);
                }
            }
        }
    }
}

/// The child in the driver's hands.
pub(crate) struct Floor(Own);

impl Floor {
    pub(crate) fn start() -> Floor {
        Floor(Own::start(FLOOR))
    }
}

impl Peer for Floor {
    fn name(&self) -> &'static str {
        super::FLOOR_NAME
    }

    fn pid(&self) -> u32 {
        self.0.pid()
    }

    fn call(&mut self, _: usize, _: &Load) -> Wired {
        let (browser, trunk) = (drive::socket(), drive::socket());
        let port = |socket: &UdpSocket| socket.local_addr().expect("bound").port();
        let words = self.0.ask(&format!("{} {}", port(&browser), port(&trunk)));
        browser.connect(at(&words[0])).expect("connected");
        trunk.connect(at(&words[1])).expect("connected");
        Wired {
            browser,
            trunk,
            protect: Protect::new(Profile::AeadAes128Gcm, &[7; 16], &[7; 12]),
            ticks: 0,
            unprotect: None,
        }
    }
}
