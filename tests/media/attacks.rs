//! Attacks in bulk: bleed and injection, hellos that race, junk and replays.

use crate::lab::*;
use std::net::SocketAddr;
use std::time::Duration;
use webtrunk::codec::Codec;
use webtrunk::media::endpoint::EndpointKind;
use webtrunk::media::session::SessionEvent;
use webtrunk::media::{Digits, Port};
use webtrunk::sdp::offer_answer::Remote;

const FRAME: Duration = Duration::from_millis(20);

fn frame(sequence: u16, ssrc: u32, payload: u8) -> Vec<u8> {
    rtp(0, false, (sequence, u32::from(sequence) * 160, ssrc), &[payload; 160], 0)
}

#[test]
fn l8_two_hundred_calls_under_a_spray_bleed_nothing_and_take_nothing_in() {
    let mut chance = Chance::new(0x18);
    for call in 0..200 {
        let mut line = Line::new([(Codec::Pcmu, Digits::Events); 2]);
        let nat = call % 2 == 1;
        if nat {
            // The first side is behind NAT: a port within its address is learned once.
            line.reopen(0, EndpointKind::Trunk { nat: true });
        }
        let (announced, moved) = (addr(40, 6_000), addr(40, 6_777));
        let mine = if nat { moved } else { announced };
        let mut heard = 0;
        for n in 0..200u16 {
            let spray = |from: SocketAddr, line: &mut Line| {
                line.session.receive(
                    line.now,
                    Port::Rtp(SIDES[0]),
                    SIDES[0],
                    from,
                    &mut frame(n.wrapping_mul(7), 666, 0x66),
                    &mut line.log,
                );
            };
            // Strangers all the time; from the peer's own address, other ports, once the real one
            // is known.
            spray(addr(66, 1_024 + chance.below(60_000) as u16), &mut line);
            if n > 10 {
                spray(
                    SocketAddr::new(announced.ip(), 10_000 + chance.below(50_000) as u16),
                    &mut line,
                );
            }
            line.session.receive(
                line.now,
                Port::Rtp(SIDES[0]),
                SIDES[0],
                mine,
                &mut frame(n, 900, 0x31),
                &mut line.log,
            );
            line.send(1, 0, false, u32::from(n) * 160, &[0x32; 160], false);
            line.pass(FRAME);
            for (port, to, datagram) in std::mem::take(&mut line.log.sent) {
                assert!(
                    to.ip() == announced.ip() || to.ip() == addr(41, 0).ip(),
                    "call {call}: sent to {to}"
                );
                assert!(to != announced || !nat || n < 3, "call {call}: a learned address is kept");
                if port == Port::Rtp(SIDES[1]) {
                    assert!(
                        datagram[12..].iter().all(|b| *b == 0x31),
                        "call {call}: a stranger was heard"
                    );
                    heard += 1;
                }
            }
        }
        // Three packets in a row settle a learned port.
        assert_eq!(heard, if nat { 198 } else { 200 }, "call {call}");
    }
}

#[test]
fn l9_a_thousand_setups_finish_though_strangers_race_them_with_hellos() {
    let hello: &[u8] = include_bytes!("../corpus/dtls/01_chromium156_clienthello_frag1.bin");
    let rest: &[u8] = include_bytes!("../corpus/dtls/02_chromium156_clienthello_frag2.bin");
    for call in 0..1_000u16 {
        let mut call_of = Call::new(Codec::Opus, Codec::Pcmu, false);
        let race = |call_of: &mut Call| {
            for n in 0..3 {
                for part in [hello, rest] {
                    let from = addr(66, 2_000 + call % 30_000 + n);
                    call_of.session.receive(
                        call_of.now,
                        Port::Browser,
                        BROWSER,
                        from,
                        &mut part.to_vec(),
                        &mut call_of.log,
                    );
                }
            }
            assert!(
                call_of.log.sent.iter().all(|(_, to, _)| to.ip() != addr(66, 0).ip()),
                "call {call}: a stranger was answered"
            );
        };
        race(&mut call_of);
        call_of.check(call_of.browser, true);
        race(&mut call_of);
        call_of.secure();
        race(&mut call_of);
        assert!(
            !call_of.log.events.iter().any(|e| matches!(e, SessionEvent::DtlsFailed { .. })),
            "call {call}"
        );
    }
}

#[test]
fn l10_junk_and_replays_cost_no_frame_of_fifty_calls() {
    let mut chance = Chance::new(0x10);
    for call in 0..50 {
        let mut line = Call::connected(Codec::Pcmu, Codec::Pcmu);
        let (mut sent, mut got): (Vec<Vec<u8>>, Vec<u8>) = (Vec::new(), Vec::new());
        for n in 0..200u32 {
            let good = line.sealed(0, n * 160, &[n as u8; 160]);
            sent.push(good.clone());
            let mut datagrams = vec![good];
            // Junk with a header that fits, and packets that were there before.
            let mut junk = sent[chance.below(sent.len() as u64) as usize].clone();
            let at = 2 + chance.below(junk.len() as u64 - 2) as usize;
            junk[at] ^= 1 + chance.below(255) as u8;
            datagrams.push(junk);
            datagrams.push(sent[chance.below(sent.len() as u64) as usize].clone());
            for mut datagram in datagrams {
                line.session.receive(
                    line.now,
                    Port::Browser,
                    BROWSER,
                    line.browser,
                    &mut datagram,
                    &mut line.log,
                );
            }
            line.pass(FRAME);
            got.extend(line.trunk_gets().iter().map(|(_, _, payload)| payload[0]));
        }
        let wanted: Vec<u8> = (0..200u32).map(|n| n as u8).collect();
        assert_eq!(got, wanted, "call {call}");
        let dropped = line.session.ends()[0].statistics().dropped;
        assert!(
            dropped.replayed >= 150
                && dropped.bad_tag + dropped.replayed + dropped.malformed >= 400,
            "call {call}: {dropped:?}"
        );
    }
}

#[test]
fn whatever_authentic_packets_hold_nothing_panics_and_no_more_comes_out_than_time_has_room_for() {
    let mut chance = Chance::new(0xba5e);
    for from in Codec::ALL {
        for (to, digits) in [
            (Codec::Opus, Digits::Events),
            (Codec::Pcmu, Digits::Tones),
            (Codec::G722, Digits::Signalled),
        ] {
            let mut line =
                Line::changed([(from, Digits::Tones), (to, digits)], |side, settings| {
                    settings.negotiated.noise = Some(13);
                    settings.continuous = side == 1;
                });
            let (audio, events) =
                (from.default_payload_type(), if from == Codec::Opus { 110 } else { 101 });
            let (mut sequence, mut timestamp) = (0u16, 0u32);
            for _ in 0..3_000 {
                let payload: Vec<u8> =
                    (0..chance.below(400)).map(|_| chance.below(256) as u8).collect();
                let payload_type = [audio, audio, events, 13, 77][chance.below(5) as usize];
                sequence = sequence
                    .wrapping_add([0, 1, 1, 1, 2, 9, 2_000, 65_000][chance.below(8) as usize]);
                timestamp = timestamp.wrapping_add(
                    [0, 160, 160, 960, 0xffff, 1 << 31, u32::MAX - 100][chance.below(7) as usize],
                );
                line.arrive(0, payload_type, chance.below(2) == 0, sequence, timestamp, &payload);
                line.pass(Duration::from_millis(chance.below(30)));
            }
            line.pass(Duration::from_secs(30));
            let passed = line.now.saturating_duration_since(line.start).as_millis() as usize;
            let packets = line.got(1).len();
            // A packet of G.711 holds what 2.5 of ours do, and concealment and digits add their
            // own.
            assert!(
                packets < 3_000 * 12 + passed / 10,
                "{from} to {to}: {packets} packets in {passed} ms"
            );
        }
    }
}

/// A PBX behind NAT announces an address of its own network; its media comes from where its
/// signalling does, and only from there, and only for 3 s.
#[test]
fn a_peer_behind_nat_is_heard_from_its_signallings_address_and_no_other() {
    let outside = addr(77, 30_000);
    let inner = SocketAddr::from(([192, 168, 7, 5], 6_000));
    let begin = || {
        let mut line = Line::new([(Codec::Pcmu, Digits::Events); 2]);
        line.session.close_end(SIDES[0]);
        line.session.open(SIDES[0], EndpointKind::Trunk { nat: true }, 7, "us", 78);
        line.session.mark_behind_nat(SIDES[0], outside.ip());
        let mut settings = line.settings[0].clone();
        settings.negotiated.remote = Remote::Rtp { rtp: inner, rtcp: inner, sdes: None };
        line.session.configure(line.now, SIDES[0], settings.clone(), &mut line.log);
        line.session.bridge(line.now, SIDES[0], SIDES[1]);
        (line, settings)
    };
    let from = |line: &mut Line, from: SocketAddr, n: u16| {
        let (now, side) = (line.now, SIDES[0]);
        let mut packet = frame(n, 900, 0x31);
        line.session.receive(now, Port::Rtp(side), side, from, &mut packet, &mut line.log);
        line.send(1, 0, false, u32::from(n) * 160, &[0x32; 160], false);
        line.pass(FRAME);
    };
    let sent_to = |line: &mut Line| -> Vec<SocketAddr> {
        let sent = std::mem::take(&mut line.log.sent).into_iter();
        sent.filter(|(port, ..)| *port == Port::Rtp(SIDES[0])).map(|(_, to, _)| to).collect()
    };
    // Nothing is sent into somebody's inner network; a stranger is not heard.
    let (mut line, settings) = begin();
    (0..50).for_each(|n| from(&mut line, addr(66, 30_000), n));
    assert!(sent_to(&mut line).is_empty(), "nobody is proved yet");
    (0..50).for_each(|n| from(&mut line, outside, n));
    assert!(sent_to(&mut line).iter().all(|to| *to == outside), "it is where media came from");
    // It is locked: not even another port of the same address moves it.
    let neighbour = SocketAddr::new(outside.ip(), 40_000);
    (50..100).for_each(|n| from(&mut line, neighbour, n));
    let sent = sent_to(&mut line);
    assert!(sent.len() > 40 && sent.iter().all(|to| *to == outside), "{sent:?}");
    // The same description again does not unlock it; another one does.
    line.session.configure(line.now, SIDES[0], settings.clone(), &mut line.log);
    (100..110).for_each(|n| from(&mut line, neighbour, n));
    assert!(sent_to(&mut line).iter().all(|to| *to == outside));
    let mut moved = settings;
    let other = SocketAddr::new(inner.ip(), 6_100);
    moved.negotiated.remote = Remote::Rtp { rtp: other, rtcp: other, sdes: None };
    line.session.configure(line.now, SIDES[0], moved, &mut line.log);
    (110..120).for_each(|n| from(&mut line, neighbour, n));
    assert!(sent_to(&mut line).ends_with(&[neighbour]));
    // After 3 s nobody is learned.
    let (mut line, _) = begin();
    line.pass(std::time::Duration::from_secs(3));
    (0..50).for_each(|n| from(&mut line, outside, n));
    assert!(sent_to(&mut line).is_empty());
    // Unless the answer comes later than its description did.
    line.session.on_answered(line.now, SIDES[0]);
    (50..60).for_each(|n| from(&mut line, outside, n));
    assert!(sent_to(&mut line).ends_with(&[outside]));
    // The announced address wins.
    let (mut line, _) = begin();
    from(&mut line, inner, 0);
    (1..50).for_each(|n| from(&mut line, outside, n));
    assert!(sent_to(&mut line).iter().all(|to| *to == inner));
}

/// A side with `nat = true`, its announced address, and all that was sent to it.
struct Behind {
    line: Line,
    announced: SocketAddr,
}

impl Behind {
    fn new() -> Behind {
        let mut line = Line::new([(Codec::Pcmu, Digits::Events); 2]);
        line.reopen(0, EndpointKind::Trunk { nat: true });
        Behind { line, announced: addr(40, 6_000) }
    }

    /// A packet comes from there, if from anywhere, and one goes; where it goes.
    fn round(&mut self, from: Option<SocketAddr>, n: u16) -> Vec<SocketAddr> {
        let line = &mut self.line;
        if let Some(from) = from {
            let (now, side) = (line.now, SIDES[0]);
            let mut packet = frame(n, u32::from(from.port()), 0x31);
            line.session.receive(now, Port::Rtp(side), side, from, &mut packet, &mut line.log);
        }
        line.send(1, 0, false, u32::from(n) * 160, &[0x32; 160], false);
        line.pass(FRAME);
        let sent = std::mem::take(&mut line.log.sent).into_iter();
        sent.filter(|(port, ..)| matches!(port, Port::Rtp(s) | Port::Rtcp(s) if *s == SIDES[0]))
            .map(|(_, to, _)| to)
            .collect()
    }
}

#[test]
fn an_announced_address_that_never_sends_gets_five_packets_of_a_side_behind_nat() {
    let mut side = Behind::new();
    let sent: usize = (0..2_000).map(|n| side.round(None, n).len()).sum();
    assert_eq!(sent, 5, "RTP and RTCP in 40 s");
    // A side that is not behind NAT needs no proof.
    let mut line = Line::new([(Codec::Pcmu, Digits::Events); 2]);
    for n in 0..100u32 {
        line.send(1, 0, false, n * 160, &[0x32; 160], false);
        line.pass(FRAME);
    }
    let sent = line.log.sent.iter().filter(|(port, ..)| *port == Port::Rtp(SIDES[0])).count();
    assert!(sent >= 100, "{sent}");
    // A listener that sends no sound has reports to prove itself by.
    let mut side = Behind::new();
    (0..10).for_each(|n| drop(side.round(None, n)));
    let reports = SocketAddr::new(side.announced.ip(), side.announced.port() + 1);
    let mut report = vec![0x80, 201, 0, 1, 0, 0, 0, 9];
    let (now, port) = (side.line.now, Port::Rtcp(SIDES[0]));
    let (session, log) = (&mut side.line.session, &mut side.line.log);
    session.receive(now, port, SIDES[0], reports, &mut report, log);
    let sent: usize = (10..60).map(|n| side.round(None, n).len()).sum();
    assert!(sent >= 50, "{sent}");
}

#[test]
fn the_announced_port_wins_over_whoever_sent_first_from_its_address() {
    let mut side = Behind::new();
    let (announced, thief) = (side.announced, addr(40, 6_777));
    let stolen: Vec<SocketAddr> = (0..20).flat_map(|n| side.round(Some(thief), n)).collect();
    assert!(stolen.ends_with(&[thief]), "a port within the address may be learned");
    assert!(side.round(Some(announced), 0).ends_with(&[announced]), "with its first packet");
    for n in 1..200 {
        assert!(!side.round(Some(announced), n).contains(&thief), "{n}");
        assert!(!side.round(Some(thief), 20 + n).contains(&thief), "{n}");
    }
}

#[test]
fn nothing_is_learned_after_three_seconds() {
    let other = addr(40, 6_777);
    for (waited, learned) in [(2_900, true), (3_000, false)] {
        let mut side = Behind::new();
        side.line.pass(Duration::from_millis(waited));
        let sent: Vec<SocketAddr> = (0..4).flat_map(|n| side.round(Some(other), n)).collect();
        assert_eq!(sent.contains(&other), learned, "after {waited} ms: {sent:?}");
        // Many send nothing before the answer.
        let mut side = Behind::new();
        side.line.pass(Duration::from_secs(20));
        side.line.session.on_answered(side.line.now, SIDES[0]);
        side.line.pass(Duration::from_millis(waited));
        let sent: Vec<SocketAddr> = (0..4).flat_map(|n| side.round(Some(other), n)).collect();
        assert_eq!(sent.contains(&other), learned, "{waited} ms after the answer: {sent:?}");
    }
}

#[test]
fn a_flood_of_authentic_packets_is_passed_on_as_a_calls_worth() {
    let mut call = Call::connected(Codec::Pcmu, Codec::Pcmu);
    let mut passed = 0;
    for n in 0..15_000u32 {
        call.now += Duration::from_micros(67);
        call.browser_sends(0, n * 160, &[0x55; 160]);
        passed += call.trunk_gets().len();
    }
    assert!((400..700).contains(&passed), "{passed}");
    // A second later the same browser is heard as before.
    call.now += Duration::from_secs(1);
    call.browser_sends(0, 15_001 * 160, &[0x55; 160]);
    assert_eq!(call.trunk_gets().len(), 1);
}
