//! The driver: sends every call's packets on time, takes what comes out, and notes when.

use crate::peers::Wired;
use crate::speech::Speech;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use webtrunk::rtp::Packet;
use webtrunk::rtp::packet::{DatagramKind, HEADER, write_header};

const TICK: Duration = Duration::from_millis(20);
/// Packets at the start of a call whose delay is not counted: handshakes and first decoders are
/// another matter.
const SETTLING: usize = 25;
/// Every so many packets the browser decrypts one: that what comes is sound, without the driver's
/// core for all.
const CHECKED: usize = 20;

/// What is sent through a peer.
#[derive(Clone)]
pub(crate) struct Load {
    pub name: &'static str,
    pub calls: usize,
    pub transcoded: bool,
    browser: Vec<Vec<u8>>,
    /// What a browser sends whom asks for no more than the telephone hears, where that is asked.
    asked: Option<Vec<Vec<u8>>>,
    trunk: Vec<Vec<u8>>,
}

impl Load {
    pub(crate) fn relayed(calls: usize, speech: &Speech) -> Load {
        Load {
            name: "relayed, PCMU",
            calls,
            transcoded: false,
            browser: speech.pcmu.clone(),
            asked: None,
            trunk: speech.pcmu.clone(),
        }
    }

    pub(crate) fn transcoded(calls: usize, speech: &Speech) -> Load {
        Load {
            name: "transcoded, Opus to PCMU and back",
            calls,
            transcoded: true,
            browser: speech.opus.clone(),
            asked: None,
            trunk: speech.pcmu.clone(),
        }
    }

    /// Browsers send each peer what its descriptions ask for.
    pub(crate) fn asked(calls: usize, speech: &Speech) -> Load {
        Load {
            name: "transcoded, Opus as each peer asks for it",
            asked: Some(speech.asked.clone()),
            ..Load::transcoded(calls, speech)
        }
    }

    /// As `peer` gets it: of the two ours asks.
    pub(crate) fn through(&self, peer: &str) -> Load {
        let asked = self.asked.as_ref().filter(|_| peer == crate::peers::OURS);
        Load { browser: asked.unwrap_or(&self.browser).clone(), ..self.clone() }
    }

    /// The same with another number of calls.
    pub(crate) fn of(&self, calls: usize) -> Load {
        Load { calls, ..self.clone() }
    }

    /// How long the speech is.
    pub(crate) fn length(&self) -> Duration {
        TICK * self.trunk.len() as u32
    }

    /// The payload type and the timestamp's step of what the browser sends.
    pub(crate) fn browser_format(&self) -> (u8, u32) {
        if self.transcoded { (111, 960) } else { (0, 160) }
    }
}

/// What came of a run.
#[derive(Default)]
pub(crate) struct Outcome {
    pub sent: usize,
    pub received: usize,
    /// Added delay of each packet, sorted, by the second it was sent in.
    pub delays: Vec<Vec<Duration>>,
    /// Packets the browser decrypted to check them.
    pub checked: usize,
}

impl Outcome {
    /// The delay that `share` of all packets stay below.
    pub(crate) fn delay(&self, share: f64) -> Duration {
        let mut all = self.delays.concat();
        all.sort();
        below(&all, share)
    }

    /// The same of each second alone, the middle one of them: without those in which the machine
    /// was suspended.
    pub(crate) fn delay_of_a_second(&self, share: f64) -> Duration {
        let mut seconds: Vec<Duration> =
            self.delays.iter().filter(|s| !s.is_empty()).map(|s| below(s, share)).collect();
        seconds.sort();
        below(&seconds, 0.5)
    }
}

/// The value that `share` of sorted ones stay below.
fn below(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// One direction of one call: to the trunk, to the browser.
struct Stream {
    sent: Vec<Instant>,
    /// Timestamp of the first packet that came out, and the step from one to the next.
    first: Option<u32>,
    step: u32,
    received: usize,
}

impl Stream {
    fn new(step: u32) -> Stream {
        Stream { sent: Vec::new(), first: None, step, received: 0 }
    }

    fn arrived(&mut self, now: Instant, datagram: &[u8], delays: &mut Vec<Vec<Duration>>) {
        let Some(packet) = Packet::parse(datagram, true) else { return };
        let first = *self.first.get_or_insert(packet.timestamp);
        let at = (packet.timestamp.wrapping_sub(first) / self.step) as usize;
        self.received += 1;
        if let Some(sent) = self.sent.get(at).filter(|_| at >= SETTLING) {
            let second = at * TICK.as_millis() as usize / 1_000;
            if delays.len() <= second {
                delays.resize(second + 1, Vec::new());
            }
            delays[second].push(now.saturating_duration_since(*sent));
        }
    }
}

/// The driver: what is sent and when, and how the output is counted.
pub(crate) trait Driver {
    /// It is time for the next packets of call `n`.
    fn send(&mut self, n: usize, call: &mut Wired);
    /// RTP came to a call's browser, or its trunk.
    fn heard(&mut self, n: usize, call: &mut Wired, browser: bool, datagram: &mut [u8]);
}

/// Has `driver` send each call's packets every 20 ms for `time`, and waits for the last ones.
pub(crate) fn drive(calls: &mut [Wired], time: Duration, driver: &mut impl Driver) {
    let mut poll = Poll::new().expect("a poll");
    for (n, call) in calls.iter().enumerate() {
        for (side, socket) in [&call.browser, &call.trunk].into_iter().enumerate() {
            let token = Token(n * 2 + side);
            poll.registry()
                .register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)
                .expect("registered");
        }
    }
    let mut events = Events::with_capacity(1_024);
    let total = (time.as_millis() / TICK.as_millis()) as usize * calls.len();
    let start = Instant::now() + Duration::from_millis(5);
    let gap = TICK / calls.len() as u32;
    let mut next = 0;
    let end = start + time + Duration::from_millis(300);
    loop {
        let now = Instant::now();
        // Calls are spread over the 20 ms, as they are in life.
        while next < total && now >= start + gap * next as u32 {
            let n = next % calls.len();
            driver.send(n, &mut calls[n]);
            next += 1;
        }
        if now >= end {
            break;
        }
        // Never asleep: to wake a driver that sleeps on another core is charged to whoever sends to
        // it, and costs a virtual machine more than the packet does. Browsers and trunks do not
        // sleep on the peer's own machine.
        poll.poll(&mut events, Some(Duration::ZERO)).expect("polled");
        // The kernel may have put off what was sent to a thread of its own, which is to have this
        // core then.
        std::thread::yield_now();
        for event in &events {
            let Token(token) = event.token();
            let (n, browser) = (token / 2, token.is_multiple_of(2));
            let call = &mut calls[n];
            let mut buf = [0u8; 2_048];
            while let Ok(len) = if browser { &call.browser } else { &call.trunk }.recv(&mut buf) {
                if DatagramKind::of(&buf[..len]) == DatagramKind::Rtp {
                    driver.heard(n, call, browser, &mut buf[..len]);
                }
            }
        }
    }
}

/// Measures a load: counts, delays.
struct Measuring<'a> {
    load: &'a Load,
    streams: Vec<[Stream; 2]>,
    outcome: Outcome,
}

impl Driver for Measuring<'_> {
    fn send(&mut self, n: usize, call: &mut Wired) {
        call.send_some(self.load, true, true);
        let at = Instant::now();
        self.streams[n].iter_mut().for_each(|s| s.sent.push(at));
        self.outcome.sent += 2;
    }

    fn heard(&mut self, n: usize, call: &mut Wired, browser: bool, datagram: &mut [u8]) {
        let stream = &mut self.streams[n][usize::from(browser)];
        stream.arrived(Instant::now(), datagram, &mut self.outcome.delays);
        if browser
            && stream.received.is_multiple_of(CHECKED)
            && let Some(unprotect) = &mut call.unprotect
        {
            unprotect.rtp(datagram).expect("what the browser gets is sound");
            self.outcome.checked += 1;
        }
    }
}

/// Sends `load` through the wired calls for `time`.
pub(crate) fn run(load: &Load, calls: &mut [Wired], time: Duration) -> Outcome {
    let (_, step) = load.browser_format();
    let streams = calls.iter().map(|_| [Stream::new(160), Stream::new(step)]).collect();
    let mut measuring = Measuring { load, streams, outcome: Outcome::default() };
    drive(calls, time, &mut measuring);
    let Measuring { streams, mut outcome, .. } = measuring;
    outcome.received = streams.iter().flatten().map(|s| s.received).sum();
    outcome.delays.iter_mut().for_each(|second| second.sort());
    outcome
}

impl Wired {
    /// The next packet of the browser, and of the trunk, each unless the network loses it.
    pub(crate) fn send_some(&mut self, load: &Load, browser: bool, trunk: bool) {
        let (tick, (pt, step)) = (self.ticks, load.browser_format());
        self.ticks += 1;
        let mut buf = [0u8; 2_048];
        let numbers = |step: u32| {
            ((tick as u16).wrapping_add(1_000), (tick as u32).wrapping_mul(step) + 90_000)
        };
        let mut packet = |payload: &[u8], pt: u8, step: u32, ssrc: u32| {
            let (sequence, timestamp) = numbers(step);
            write_header(
                buf.first_chunk_mut::<HEADER>().expect("room"),
                tick == 0,
                pt,
                sequence,
                timestamp,
                ssrc,
            );
            buf[HEADER..HEADER + payload.len()].copy_from_slice(payload);
            (buf, HEADER + payload.len())
        };
        if trunk {
            let (plain, len) = packet(&load.trunk[tick % load.trunk.len()], 0, 160, 0xbeef);
            let _ = self.trunk.send(&plain[..len]);
        }
        if browser {
            let (mut sealed, len) =
                packet(&load.browser[tick % load.browser.len()], pt, step, 0xcafe);
            let len = self.protect.rtp(&mut sealed, len).expect("protected");
            let _ = self.browser.send(&sealed[..len]);
        }
    }
}

/// The driver alone: the same packets from socket to socket, with nobody between.
pub(crate) fn floor(load: &Load, time: Duration) -> Outcome {
    let mut calls: Vec<Wired> = (0..load.calls).map(|_| crate::peers::looped()).collect();
    let direct = Load { transcoded: false, browser: load.trunk.clone(), ..load.clone() };
    run(&direct, &mut calls, time)
}

/// A socket on loopback that waits for nobody.
pub(crate) fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_nonblocking(true).expect("non-blocking");
    socket
}
