//! Packets through `media::Session`, one core: relayed and transcoded, with the allocations of each
//! counted. A plain report rather than criterion: the allocation counter must see nothing but the
//! session.

// A global allocator that counts cannot be written without it.
#![allow(unsafe_code)]

#[path = "../media/agreed.rs"]
mod agreed;

use agreed::agreed;
use prometheus_client::metrics::counter::Counter;
use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use webtrunk::codec::opus::COMPLEXITY;
use webtrunk::codec::{Codec, Encoder, NARROW};
use webtrunk::media::endpoint::EndpointKind;
use webtrunk::media::session::SessionEvent;
use webtrunk::media::{Clocks, EndpointSettings, LegId, Port, Session, Sink};
use webtrunk::rtp::packet::write_header;
use webtrunk::rtp::srtp::{Profile, Protect};
use webtrunk::sdp::crypto::{CryptoKeys, LONGEST, Sdes};
use webtrunk::sdp::offer_answer::Remote;
use webtrunk::state::Directory;
use webtrunk::state::checkpoints::Checkpoints;

struct Counting;
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed to the system allocator unchanged; the counter touches no memory of
// the caller's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

#[derive(Default)]
struct Count(u64);

impl Sink for Count {
    fn send(&mut self, _: Port, _: SocketAddr, datagram: &[u8]) {
        self.0 += u64::from(!datagram.is_empty());
    }
    fn event(&mut self, _: SessionEvent) {}
}

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, n], 4_000))
}

fn settings(codec: Codec, n: u8) -> EndpointSettings {
    let remote = Remote::Rtp { rtp: addr(n), rtcp: addr(n), sdes: None };
    agreed(codec, remote, COMPLEXITY)
}

/// Seconds of one thread's CPU time are close to wall time here: nothing blocks.
fn run(name: &str, from: Codec, to: Codec, packets: u32) {
    let now = Instant::now();
    let mut session = Session::new(now, Duration::from_secs(1));
    let mut sink = Count::default();
    for (n, codec) in [(1u16, from), (2, to)] {
        session.open(LegId(n), EndpointKind::Trunk { nat: false }, u32::from(n), "c", 1);
        session.configure(now, LegId(n), settings(codec, n as u8), &mut sink);
    }
    session.bridge(now, LegId(1), LegId(2));
    let mut encoder = Encoder::new(from, NARROW, COMPLEXITY);
    let frames: Vec<Vec<u8>> = (0..250usize)
        .map(|f| {
            let pcm: Vec<i16> =
                (0..160).map(|s| (6_000.0 * ((f * 160 + s) as f32 * 0.3).sin()) as i16).collect();
            let mut payload = [0; 400];
            let n = encoder.encode(&pcm, &mut payload);
            payload[..n].to_vec()
        })
        .collect();
    let mut datagram = [0u8; 500];
    let mut feed = |session: &mut Session, sink: &mut Count, n: u32| {
        let payload = &frames[n as usize % frames.len()];
        let step = from.clock() / 50;
        write_header(
            datagram.first_chunk_mut().expect("room"),
            false,
            from.default_payload_type(),
            n as u16,
            n * step,
            9,
        );
        datagram[12..12 + payload.len()].copy_from_slice(payload);
        // In their own time: an end passes on what a call needs, and no more.
        session.receive(
            now + Duration::from_millis(20) * n,
            Port::Rtp(LegId(1)),
            LegId(1),
            addr(1),
            &mut datagram[..12 + payload.len()],
            sink,
        );
    };
    (0..500).for_each(|n| feed(&mut session, &mut sink, n));
    sink.0 = 0;
    let (before, start) = (ALLOCATIONS.load(Ordering::Relaxed), Instant::now());
    (500..500 + packets).for_each(|n| feed(&mut session, &mut sink, n));
    let (elapsed, allocated) = (start.elapsed(), ALLOCATIONS.load(Ordering::Relaxed) - before);
    let each = elapsed / packets;
    let rate = f64::from(packets) / elapsed.as_secs_f64();
    println!(
        "{name:<34} {each:>10.2?} a packet {rate:>12.0} packets/s a core {:>8.4} allocations a packet",
        allocated as f64 / f64::from(packets)
    );
    assert!(sink.0 >= u64::from(packets) - 5, "packets were lost");
    if from == to {
        assert_eq!(allocated, 0, "the relay path allocates");
    }
}

/// A call with keys on both legs: what a snapshot of it costs, and how large it is.
fn checkpoint(rounds: u32) {
    let now = Instant::now();
    let mut session = Session::new(now, Duration::from_secs(1));
    let mut sink = Count::default();
    let keys = |of| CryptoKeys::new(Profile::AeadAes128Gcm, &[of; LONGEST]);
    for n in [1u8, 2] {
        let id = LegId(n.into());
        session.open(id, EndpointKind::Trunk { nat: false }, n.into(), "0123456789abcdef", 1);
        let mut settings = settings(Codec::Pcmu, n);
        if let Remote::Rtp { sdes, .. } = &mut settings.negotiated.remote {
            *sdes = Some(Box::new(Sdes { ours: keys(n), theirs: keys(n + 2) }));
        }
        session.configure(now, id, settings, &mut sink);
    }
    session.bridge(now, LegId(1), LegId(2));
    let mut peers = [1u8, 2].map(|n| {
        let theirs = keys(n + 2);
        Protect::new(Profile::AeadAes128Gcm, theirs.key(), theirs.salt())
    });
    let began = cpu();
    for n in 0..6_000u16 {
        let at = now + Duration::from_millis(20) * u32::from(n);
        session.fire(at, &mut sink);
        for (side, peer) in [1u8, 2].into_iter().zip(&mut peers) {
            let mut datagram = [0x55u8; 200];
            let head = datagram.first_chunk_mut().expect("room");
            write_header(head, false, 0, n, u32::from(n) * 160, 9);
            let len = peer.rtp(&mut datagram, 172).expect("room");
            let id = LegId(side.into());
            session.receive(at, Port::Rtp(id), id, addr(side), &mut datagram[..len], &mut sink);
        }
    }
    // Without what the kernel takes for a packet, which is more.
    let call_second = (cpu() - began) / 120;
    let at = now + Duration::from_secs(120);
    let clocks = Clocks { boot: 1, uptime: Duration::from_secs(1) };
    let (mut bytes, start) = (0, Instant::now());
    for _ in 0..rounds {
        let snapshot = session.checkpoint(at, clocks);
        session.confirm(snapshot.number);
        bytes = std::hint::black_box(snapshot.to_bytes()).len();
    }
    let each = start.elapsed() / rounds;
    println!("{:<34} {each:>10.2?} a snapshot {bytes:>8} bytes", "snapshot of two legs with keys");
    let (each, kept) = written(rounds, || {
        let snapshot = session.checkpoint(at, clocks);
        session.confirm(snapshot.number);
        snapshot.to_bytes().to_vec()
    });
    let share = 100.0 * each.as_secs_f64() / BETWEEN / call_second.as_secs_f64();
    println!(
        "{:<34} {each:>10.2?} of CPU each {kept:>6} bytes on disk, {share:.2} % of a call-second \
         ({call_second:.2?})",
        "the same packed, sealed and written"
    );
    assert!(kept < 1_100, "a call has 2 kB with its signalling");
}

/// Seconds between two snapshots of a session in which nothing changes.
const BETWEEN: f64 = 10.0;

/// CPU of this process, all threads.
fn cpu() -> Duration {
    let clock = nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID;
    nix::time::clock_gettime(clock).expect("a clock").into()
}

/// What it costs until so many snapshots, of 1,000 calls in turn, are on disk, each; and the bytes
/// there of one.
fn written(rounds: u32, mut snapshot: impl FnMut() -> Vec<u8>) -> (Duration, usize) {
    const CALLS: u32 = 1_000;
    let folder = tempfile::tempdir().expect("a folder");
    let directory = Directory::open(folder.path()).expect("a directory");
    let (checkpoints, _) = Checkpoints::open(&directory, 1, Counter::default());
    let began = cpu();
    let slots: Vec<_> = (0..CALLS).map(|n| checkpoints.slot(&format!("{n:08x}.media"))).collect();
    for n in 0..rounds {
        let slot = &slots[(n % CALLS) as usize];
        let number = slot.put(snapshot(), Duration::from_secs(60));
        // None is replaced before it was written.
        while (n + 1) % CALLS == 0 && slot.written() < number {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    drop(checkpoints);
    let each = (cpu() - began) / rounds;
    let database =
        rusqlite::Connection::open(folder.path().join("checkpoints.db")).expect("it opens");
    let length = "SELECT CAST(AVG(LENGTH(sealed)) AS INTEGER) FROM checkpoint";
    let kept: i64 = database.query_row(length, (), |row| row.get(0)).expect("a number");
    (each, kept as usize)
}

fn main() {
    // `cargo test` builds benches too and runs them with --test; measuring is for `cargo bench`.
    let packets = if std::env::args().any(|a| a == "--bench") { 1 } else { 50 };
    run("relay PCMU to PCMU", Codec::Pcmu, Codec::Pcmu, 2_000_000 / packets);
    run("relay Opus to Opus", Codec::Opus, Codec::Opus, 2_000_000 / packets);
    run("transcode PCMU to PCMA", Codec::Pcmu, Codec::Pcma, 500_000 / packets);
    run("transcode Opus to PCMU (decode)", Codec::Opus, Codec::Pcmu, 50_000 / packets);
    run("transcode PCMU to Opus (encode)", Codec::Pcmu, Codec::Opus, 50_000 / packets);
    checkpoint(50_000 / packets);
}
