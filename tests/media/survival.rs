//! A session outlives its process: killed at any moment, and resumed from what was written.

use crate::lab::*;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use webtrunk::codec::Codec;
use webtrunk::media::dtls::Handshake;
use webtrunk::media::session::SessionEvent;
use webtrunk::media::snapshot::Unreadable;
use webtrunk::media::{Clocks, NotRestored, Port, Session, SessionSnapshot};
use webtrunk::rtp::packet::DatagramKind;
use webtrunk::rtp::reserve::{LEASE, RESERVE};
use webtrunk::rtp::srtp::{Profile, Protect, Unprotect};
use webtrunk::sdp::Direction;
use webtrunk::sdp::crypto::{CryptoKeys, LONGEST, Sdes};
use webtrunk::sdp::offer_answer::Remote;

const FRAME: Duration = Duration::from_millis(20);
const PROFILE: Profile = Profile::AeadAes128Gcm;

fn keys(of: u8) -> CryptoKeys {
    CryptoKeys::new(PROFILE, &[of; LONGEST])
}

fn keyed_remote() -> Remote {
    let (last, port) = TRUNK_ADDRESS;
    let sdes = Some(Box::new(Sdes { ours: keys(1), theirs: keys(2) }));
    Remote::Rtp { rtp: addr(last, port), rtcp: addr(last, port + 1), sdes }
}

/// How snapshots get to the disk.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Disk {
    /// Written that much later, and confirmed as much later again.
    Sound(Duration),
    /// Nothing can be written.
    Full,
}

/// One packet of a side: its sequence number, timestamp, payload.
type Heard = (u16, u32, Vec<u8>);

/// A call whose both legs are protected, the disk its snapshots are on, and all that was ever sent.
struct World {
    call: Call,
    start: Instant,
    trunk: (Protect, Unprotect),
    trunk_sequence: u16,
    frame: Duration,
    disk: Disk,
    written: Option<Vec<u8>>,
    /// Snapshots on their way: when each is written, and its number.
    writing: VecDeque<(Instant, u64, Vec<u8>)>,
    confirming: VecDeque<(Instant, u64)>,
    /// What was heard since it was last asked for, by the browser and by the trunk.
    heard: [Vec<Heard>; 2],
    /// (key, SSRC, index) of every packet, SRTCP beside SRTP.
    used: HashSet<(u8, u32, u64)>,
    highest: HashMap<(u8, u32), u64>,
    last: [Option<(u16, u32)>; 2],
    longest_jump: u16,
    events: Vec<SessionEvent>,
    largest: usize,
}

impl World {
    fn new(seed: u64) -> World {
        let mut call = Call::seeded(Codec::Pcmu, Codec::Pcmu, false, [seed; 2]);
        call.check(call.browser, true);
        call.secure();
        call.log = Log::default();
        let keyed = settings(Codec::Pcmu, keyed_remote());
        call.session.configure(call.now, TRUNK, keyed, &mut call.log);
        call.session.keep(call.now);
        let (ours, theirs) = (keys(1), keys(2));
        World {
            start: call.now,
            trunk: (
                Protect::new(PROFILE, theirs.key(), theirs.salt()),
                Unprotect::new(PROFILE, ours.key(), ours.salt()),
            ),
            call,
            trunk_sequence: 64_000,
            frame: FRAME,
            disk: Disk::Sound(Duration::from_millis(5)),
            written: None,
            writing: VecDeque::new(),
            confirming: VecDeque::new(),
            heard: Default::default(),
            used: HashSet::new(),
            highest: HashMap::new(),
            last: [None; 2],
            longest_jump: 0,
            events: Vec::new(),
            largest: 0,
        }
    }

    fn clocks(&self) -> Clocks {
        let passed = self.call.now - self.start;
        Clocks { boot: 7, uptime: Duration::from_secs(500) + passed }
    }

    /// What has reached the disk by now.
    fn write(&mut self) {
        while self.writing.front().is_some_and(|(at, ..)| self.call.now >= *at) {
            let (at, number, bytes) = self.writing.pop_front().expect("looked at");
            self.written = Some(bytes);
            if let Disk::Sound(delay) = self.disk {
                self.confirming.push_back((at + delay, number));
            }
        }
    }

    /// A packet that was sent: its index is new under its key.
    fn note(&mut self, key: u8, ssrc: u32, index: u64) {
        assert!(self.used.insert((key, ssrc, index)), "{key}, {ssrc:x}, {index} is used twice");
    }

    /// Looks at what was sent, and keeps what is to be kept.
    fn collect(&mut self) {
        self.write();
        while self.confirming.front().is_some_and(|(at, _)| self.call.now >= *at) {
            let (_, number) = self.confirming.pop_front().expect("looked at");
            self.call.session.confirm(number);
        }
        for (port, _, datagram) in std::mem::take(&mut self.call.log.sent) {
            self.sent(port, datagram);
        }
        for event in std::mem::take(&mut self.call.log.events) {
            if event == SessionEvent::Checkpoint {
                let snapshot = self.call.session.checkpoint(self.call.now, self.clocks());
                let bytes = snapshot.to_bytes().to_vec();
                self.largest = self.largest.max(bytes.len());
                if let Disk::Sound(delay) = self.disk {
                    self.writing.push_back((self.call.now + delay, snapshot.number, bytes));
                }
            } else if !matches!(event, SessionEvent::Quality { .. }) {
                self.events.push(event);
            }
        }
    }

    fn sent(&mut self, port: Port, mut datagram: Vec<u8>) {
        let (side, key) = if port == Port::Browser { (0, 0) } else { (1, 1) };
        let open = match side {
            0 => &mut self.call.keys.as_mut().expect("secured").unprotect,
            _ => &mut self.trunk.1,
        };
        match DatagramKind::of(&datagram) {
            DatagramKind::Rtp => {
                let len = open.rtp(&mut datagram).expect("the receiver takes every packet");
                let packet = webtrunk::rtp::Packet::parse(&datagram[..len], true).expect("RTP");
                let highest = self
                    .highest
                    .entry((key, packet.ssrc))
                    .or_insert_with(|| packet.sequence.into());
                let delta = packet.sequence.wrapping_sub(*highest as u16) as i16;
                let index = highest.checked_add_signed(i64::from(delta)).expect("forward");
                *highest = index.max(*highest);
                self.note(key, packet.ssrc, index);
                if let Some((sequence, timestamp)) = self.last[side] {
                    let jump = packet.sequence.wrapping_sub(sequence);
                    assert!(0 < jump && jump < 3_000, "{sequence} and then {}", packet.sequence);
                    self.longest_jump = self.longest_jump.max(jump);
                    let passed = packet.timestamp.wrapping_sub(timestamp) as i32;
                    assert!(passed > 0, "timestamps go forward, not by {passed}");
                }
                self.last[side] = Some((packet.sequence, packet.timestamp));
                let payload = datagram[12..len].to_vec();
                self.heard[side].push((packet.sequence, packet.timestamp, payload));
            }
            DatagramKind::Rtcp => {
                let word = *datagram.last_chunk::<4>().expect("an index");
                let ssrc = u32::from_be_bytes(*datagram[4..].first_chunk().expect("an SSRC"));
                open.rtcp(&mut datagram).expect("the receiver takes every report");
                self.note(key + 10, ssrc, u32::from_be_bytes(word).into());
            }
            _ => {}
        }
    }

    /// Time passes, and both sides speak.
    fn step(&mut self, chance: &mut Chance) {
        self.call.pass(self.frame);
        self.collect();
        let units = self.frame.as_millis() as u32 * 8;
        let n = u32::from(self.call.sequence);
        let payload = vec![0x31; units as usize];
        if chance.below(20) > 0 {
            self.call.browser_sends(0, n * units, &payload);
        } else {
            let _ = self.call.sealed(0, n * units, &payload);
        }
        let sealed = self.trunk_packet(units);
        if chance.below(20) > 0 {
            self.trunk_sends(sealed);
        }
        if n.is_multiple_of(100) {
            self.call.check(self.call.browser, false);
        }
        self.collect();
    }

    fn trunk_packet(&mut self, units: u32) -> Vec<u8> {
        let sequence = self.trunk_sequence;
        self.trunk_sequence = sequence.wrapping_add(1);
        let payload = vec![0x41; units as usize];
        let mut buf = rtp(0, false, (sequence, u32::from(sequence) * units, 88), &payload, 16);
        let len = self.trunk.0.rtp(&mut buf, 12 + payload.len()).expect("room");
        buf.truncate(len);
        buf
    }

    fn trunk_sends(&mut self, mut datagram: Vec<u8>) {
        let from: SocketAddr = addr(TRUNK_ADDRESS.0, TRUNK_ADDRESS.1);
        let call = &mut self.call;
        let port = Port::Rtp(TRUNK);
        call.session.receive(call.now, port, TRUNK, from, &mut datagram, &mut call.log);
    }

    fn run(&mut self, time: Duration, chance: &mut Chance) {
        let end = self.call.now + time;
        while self.call.now < end {
            self.step(chance);
        }
    }

    /// The process is killed; its peers continue, and after `down` another one is there.
    fn kill(&mut self, down: Duration) -> Result<(), NotRestored> {
        self.write();
        self.writing.clear();
        self.confirming.clear();
        self.call.log = Log::default();
        let missed = (down.as_millis() / self.frame.as_millis()) as u32;
        let units = self.frame.as_millis() as u32 * 8;
        for _ in 0..missed {
            let _ = self.call.sealed(0, 0, &[0x31; 80]);
            let _ = self.trunk_packet(units);
        }
        self.call.now += down;
        let bytes = self.written.as_ref().expect("it was written");
        let snapshot = SessionSnapshot::from_bytes(bytes).expect("as it was written");
        let identity = &identities().0;
        self.call.session = Session::restore(snapshot, self.call.now, self.clocks(), identity)?;
        Ok(())
    }

    /// What each side has heard since the last time.
    fn hear(&mut self) -> [usize; 2] {
        std::mem::take(&mut self.heard).map(|heard| heard.len())
    }
}

#[test]
fn twenty_kills_and_a_rollover_repeat_no_index_and_both_sides_still_hear() {
    let mut chance = Chance::new(31);
    // The streams begin just below the middle, so that they roll over within the test.
    let mut world = World::new(0x7ff0);
    world.run(Duration::from_secs(2), &mut chance);
    for n in 0..20 {
        world.run(Duration::from_millis(500 + chance.below(30_000)), &mut chance);
        world.hear();
        world.events.clear();
        let down = Duration::from_millis(40 + chance.below(2_000));
        world.kill(down).unwrap_or_else(|why| panic!("kill {n}: {why}"));
        world.run(Duration::from_secs(1), &mut chance);
        let heard = world.hear();
        assert!(heard.iter().all(|h| *h > 38), "kill {n}: {heard:?} of 50 in the first second");
        assert_eq!(world.events, vec![], "kill {n}: its call gets no event");
        world.run(Duration::from_secs(15), &mut chance);
    }
    let cycles = world.highest.values().max().expect("some") >> 16;
    assert!(cycles >= 1, "rolled over");
    assert!(u64::from(world.longest_jump) <= RESERVE + 10, "{}", world.longest_jump);
    assert!(world.used.len() > 50_000, "{}", world.used.len());
    assert!(world.largest < 1_200, "{} bytes", world.largest);
}

/// What is on disk says nothing of the checks that came after it was written.
#[test]
fn killed_again_and_again_it_takes_no_browser_for_gone() {
    let mut chance = Chance::new(8);
    let mut world = World::new(9);
    world.run(Duration::from_secs(3), &mut chance);
    for n in 0..60 {
        world.kill(Duration::from_millis(100)).expect("young enough");
        world.hear();
        world.events.clear();
        world.run(Duration::from_millis(1_000 + chance.below(700)), &mut chance);
        let heard = world.hear();
        assert!(heard.iter().all(|h| *h > 38), "kill {n}: {heard:?} in a second");
        assert_eq!(world.events, vec![], "kill {n}: its call gets no event");
    }
}

#[test]
fn killed_again_before_anything_is_written_it_repeats_nothing() {
    let mut chance = Chance::new(5);
    for delay in [0, 5, 50, 500] {
        let mut world = World::new(77);
        world.disk = Disk::Sound(Duration::from_millis(delay));
        world.run(Duration::from_secs(3), &mut chance);
        for _ in 0..15 {
            world.kill(Duration::from_millis(20)).expect("young enough");
            world.run(Duration::from_millis(chance.below(700)), &mut chance);
        }
    }
}

#[test]
fn a_disk_that_is_full_costs_no_packet_and_a_record_that_may_be_overrun_is_refused() {
    for frame in [10, 20] {
        for life in 0..40 {
            let mut chance = Chance::new(900 + life);
            let mut world = World::new(3);
            world.frame = Duration::from_millis(frame);
            world.run(Duration::from_secs(8), &mut chance);
            world.disk = Disk::Full;
            world.hear();
            let time = Duration::from_secs(life + 1);
            world.run(time, &mut chance);
            let all = time.as_millis() as usize / frame as usize;
            let heard = world.hear();
            assert!(
                heard.iter().all(|h| *h > all * 88 / 100),
                "{frame} ms, {life}: {heard:?} of {all}"
            );
            match world.kill(Duration::from_millis(100)) {
                // What it would repeat is found by the world.
                Ok(()) => {
                    world.disk = Disk::Sound(Duration::ZERO);
                    world.run(Duration::from_secs(5), &mut chance);
                    assert!(world.hear().iter().all(|h| *h > 100));
                }
                Err(why) => assert!(matches!(why, NotRestored::Expired { age } if age >= LEASE)),
            }
        }
    }
}

#[test]
fn a_stream_that_outruns_its_reserve_waits_until_no_successor_can_use_the_record() {
    for seconds in [11, 13, 16, 19, 30] {
        let mut chance = Chance::new(seconds);
        let mut world = World::new(3);
        // Twice as many packets as the first reserve is made for.
        world.frame = Duration::from_millis(10);
        world.run(Duration::from_millis(500), &mut chance);
        world.disk = Disk::Full;
        world.run(Duration::from_secs(seconds), &mut chance);
        let heard = world.hear().into_iter().max().expect("two");
        let most = if seconds < 20 { RESERVE as usize } else { 2_400 };
        assert!(heard <= most, "{heard} in {seconds} s");
        match world.kill(Duration::from_millis(50)) {
            Ok(()) => {
                world.disk = Disk::Sound(Duration::from_millis(5));
                world.run(Duration::from_secs(5), &mut chance);
                assert!(world.hear().iter().all(|h| *h > 300));
            }
            Err(why) => assert!(seconds >= 19, "{why}"),
        }
    }
}

/// Another machine continues from the record while this one lives on, cut off from everybody.
#[test]
fn a_session_of_which_it_is_not_known_who_has_it_stops_where_its_successor_began() {
    for cut in [1, 4, 9] {
        let mut chance = Chance::new(cut);
        let mut world = World::new(3);
        world.run(Duration::from_secs(11), &mut chance);
        world.run(Duration::from_secs(cut), &mut chance);
        world.disk = Disk::Full;
        world.call.session.vouch(Some(world.call.now));
        world.hear();
        let taken = Clocks { uptime: world.clocks().uptime + Duration::from_secs(5), boot: 7 };
        world.run(Duration::from_secs(10), &mut chance);
        assert!(world.hear().iter().all(|h| *h > 440), "it continues within its reserve");
        world.run(Duration::from_secs(60), &mut chance);
        let written = world.written.take().expect("it was written");
        let snapshot = SessionSnapshot::from_bytes(&written).expect("as it was written");
        let now = world.call.now;
        let next = Session::restore(snapshot, now, taken, &identities().0);
        world.call.session = next.expect("young enough");
        world.disk = Disk::Sound(Duration::from_millis(5));
        world.last = [None; 2];
        world.hear();
        world.run(Duration::from_secs(30), &mut chance);
        assert!(world.hear().iter().all(|h| *h > 1_000), "the successor is heard");
    }
}

#[test]
fn a_session_that_no_other_node_had_continues_once_that_is_known() {
    let mut chance = Chance::new(5);
    let mut world = World::new(3);
    world.run(Duration::from_secs(12), &mut chance);
    world.disk = Disk::Full;
    world.call.session.vouch(Some(world.call.now));
    world.run(Duration::from_secs(60), &mut chance);
    world.hear();
    world.run(Duration::from_secs(5), &mut chance);
    assert_eq!(world.hear(), [0, 0], "its reserve is used up");
    world.call.session.vouch(None);
    world.run(Duration::from_secs(5), &mut chance);
    assert!(world.hear().iter().all(|h| *h > 200));
}

#[test]
fn a_session_that_waited_for_the_disk_longer_than_a_lease_is_kept_again_once_it_can_be() {
    let mut chance = Chance::new(8);
    let mut world = World::new(3);
    world.run(Duration::from_secs(2), &mut chance);
    world.disk = Disk::Full;
    world.run(Duration::from_secs(60), &mut chance);
    world.disk = Disk::Sound(Duration::from_millis(5));
    world.run(Duration::from_secs(15), &mut chance);
    world.kill(Duration::from_millis(300)).expect("written again");
    world.run(Duration::from_secs(2), &mut chance);
    assert!(world.hear().iter().all(|h| *h > 80));
}

#[test]
fn a_record_from_before_the_lease_from_another_boot_or_without_a_reserve_sends_nothing() {
    let mut world = World::new(1);
    world.run(Duration::from_secs(2), &mut Chance::new(1));
    let bytes = world.written.clone().expect("written");
    let identity = &identities().0;
    let read = || SessionSnapshot::from_bytes(&bytes).expect("sound");
    let (now, clocks) = (world.call.now, world.clocks());
    let restore = |snapshot, clocks| Session::restore(snapshot, now, clocks, identity).err();
    assert_eq!(restore(read(), clocks), None);
    let later = Clocks { uptime: clocks.uptime + LEASE, ..clocks };
    assert!(matches!(restore(read(), later), Some(NotRestored::Expired { .. })));
    let booted = Clocks { uptime: Duration::from_secs(3), ..clocks };
    assert_eq!(restore(read(), booted), Some(NotRestored::OtherBoot));
    let booted = Clocks { boot: 8, ..clocks };
    assert_eq!(restore(read(), booted), Some(NotRestored::OtherBoot));
    let mut unreserved = read();
    unreserved.without_reserve();
    assert_eq!(restore(unreserved, clocks), Some(NotRestored::NoReserve { end: BROWSER }));
}

#[test]
fn handed_over_at_any_moment_a_call_sounds_as_if_nothing_had_happened() {
    for seed in 0..60 {
        // The same life twice, once with a new process in the middle.
        let lives = [false, true].map(|handed| {
            let mut chance = Chance::new(4_000 + seed);
            let mut world = World::new(seed * 977);
            world.disk = Disk::Sound(Duration::ZERO);
            let at = chance.below(400);
            let held = chance.below(400);
            for n in 0..400 {
                if n == held || n == held + 30 {
                    let mut changed = settings(Codec::Pcmu, keyed_remote());
                    if n == held {
                        changed.negotiated.direction = Direction::SendOnly;
                    }
                    let call = &mut world.call;
                    call.session.configure(call.now, TRUNK, changed, &mut call.log);
                }
                if handed && n == at {
                    let (now, clocks) = (world.call.now, world.clocks());
                    let bytes = world.call.session.hand_over(now, clocks).to_bytes();
                    let snapshot = SessionSnapshot::from_bytes(&bytes).expect("whole");
                    world.call.session =
                        Session::restore(snapshot, now, clocks, &identities().0).expect("fresh");
                }
                world.step(&mut chance);
            }
            world
        });
        let [before, after] = &lives;
        for side in 0..2 {
            let payloads = |world: &World| -> Vec<Vec<u8>> {
                world.heard[side].iter().map(|(_, _, p)| p.clone()).collect()
            };
            let (one, other) = (payloads(before), payloads(after));
            assert_eq!(one.len(), other.len(), "{seed}: none waits, and none is sent twice");
            assert!(one == other, "{seed}: what is heard is the same");
        }
        let figures = |world: &World| {
            let ends = world.call.session.ends();
            ends.iter().map(|e| (e.figures().received, e.figures().checks)).collect::<Vec<_>>()
        };
        assert_eq!(figures(before), figures(after), "{seed}: the record counts on");
    }
}

#[test]
fn packets_of_the_time_between_record_and_restart_cannot_be_replayed_behind_a_newer_one() {
    let mut world = World::new(9);
    let mut chance = Chance::new(9);
    world.run(Duration::from_secs(2), &mut chance);
    let recorded: Vec<Vec<u8>> = (0..40)
        .map(|_| {
            world.call.pass(FRAME);
            let sealed = world.trunk_packet(160);
            world.trunk_sends(sealed.clone());
            sealed
        })
        .collect();
    world.collect();
    world.kill(Duration::from_millis(100)).expect("written");
    world.run(Duration::from_millis(200), &mut chance);
    let before = world.call.session.ends()[1].figures();
    recorded.into_iter().for_each(|packet| world.trunk_sends(packet));
    let after = world.call.session.ends()[1].figures();
    assert_eq!(before.received, after.received);
    assert_eq!(after.dropped.replayed, before.dropped.replayed + 40);
}

#[test]
fn dtls_after_the_restart_gets_no_answer_and_ends_nothing() {
    let mut world = World::new(2);
    let mut chance = Chance::new(2);
    world.run(Duration::from_secs(2), &mut chance);
    world.kill(Duration::from_millis(100)).expect("written");
    world.run(Duration::from_millis(100), &mut chance);
    world.events.clear();
    let (ours, theirs) = identities();
    let mut hello = Vec::new();
    let mut client = Handshake::new(theirs.clone(), vec![fingerprint(ours)]);
    client.start(world.call.now, &mut |d| hello.push(d.to_vec()));
    // An alert in clear, and one nobody can read any more.
    hello.push(vec![21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 1, 0]);
    hello.push([&[21u8, 254, 253, 0, 1, 0, 0, 0, 0, 0, 9, 0, 26][..], &[7; 26]].concat());
    world.call.log.sent.clear();
    for mut datagram in hello {
        let call = &mut world.call;
        let (port, from) = (Port::Browser, call.browser);
        call.session.receive(call.now, port, BROWSER, from, &mut datagram, &mut call.log);
    }
    assert!(world.call.log.sent.is_empty() && world.call.log.events.is_empty());
    world.hear();
    world.run(Duration::from_secs(16), &mut chance);
    assert!(world.hear().iter().all(|h| *h > 600));
    assert_eq!(world.events, vec![]);
}

#[test]
fn torn_bent_and_foreign_bytes_are_refused_and_panic_nothing() {
    let mut world = World::new(4);
    let mut chance = Chance::new(4);
    world.run(Duration::from_secs(12), &mut chance);
    let bytes = world.written.clone().expect("written");
    assert!(SessionSnapshot::from_bytes(&bytes).is_ok());
    for len in 0..bytes.len() {
        assert!(SessionSnapshot::from_bytes(&bytes[..len]).is_err(), "torn at {len}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(SessionSnapshot::from_bytes(&longer), Err(Unreadable::TooLong));
    assert_eq!(SessionSnapshot::from_bytes(&[99, 1, 2]), Err(Unreadable::Version(99)));
    let (mut read, mut restored) = (0, 0);
    for _ in 0..20_000 {
        let mut bent = bytes.clone();
        for _ in 0..1 + chance.below(3) {
            let at = 1 + chance.below(bent.len() as u64 - 1) as usize;
            bent[at] = chance.below(256) as u8;
        }
        let Ok(snapshot) = SessionSnapshot::from_bytes(&bent) else { continue };
        read += 1;
        let (now, clocks) = (world.call.now, world.clocks());
        let Ok(session) = Session::restore(snapshot, now, clocks, &identities().0) else {
            continue;
        };
        restored += 1;
        live_a_little(session, now, clocks);
    }
    assert!(read > 1_000 && restored > 100, "{read} read, {restored} restored: it tests something");
    for _ in 0..2_000 {
        let foreign: Vec<u8> = [1]
            .into_iter()
            .chain((0..chance.below(900)).map(|_| chance.below(256) as u8))
            .collect();
        let _ = SessionSnapshot::from_bytes(&foreign);
    }
}

/// Whatever a session was made from, it does not panic.
fn live_a_little(mut session: Session, start: Instant, clocks: Clocks) {
    let (mut log, mut now) = (Log::default(), start);
    for n in 0..50u32 {
        now += FRAME;
        session.fire(now, &mut log);
        let mut datagram = rtp(0, false, (n as u16, n * 160, 88), &[0x41; 160], 0);
        let from = addr(TRUNK_ADDRESS.0, TRUNK_ADDRESS.1);
        session.receive(now, Port::Rtp(TRUNK), TRUNK, from, &mut datagram, &mut log);
        session.digit(TRUNK, 5, Duration::from_millis(100));
    }
    let _ = session.checkpoint(now, clocks);
}
