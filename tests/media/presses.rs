//! A press is a press, however a device numbers its telephone-events.

use crate::lab::*;
use std::time::Duration;
use webtrunk::codec::tones::{Detector, ToneEvent};
use webtrunk::codec::{Codec, NARROW, g711::Law};
use webtrunk::media::session::SessionEvent;
use webtrunk::media::{Clocks, Digits, Session, SessionSnapshot};
use webtrunk::rtp::event::TelephoneEvent;
use webtrunk::sdp::offer_answer::{EventFormat, TelephoneEvents};

/// One packet of a device: milliseconds since the last one, marker, timestamp, key, end, duration.
type Sent = (u64, bool, u32, u8, bool, u16);

/// The ways digits leave: events, INFO, sound.
const WAYS: [Digits; 3] = [Digits::Events, Digits::Signalled, Digits::Tones];

/// The keys that reach the other side as events, tones or INFO.
fn heard(line: &mut Line, way: Digits) -> Vec<u8> {
    let mut detector = Detector::new(NARROW);
    let (mut keys, mut last) = (Vec::new(), None);
    for event in std::mem::take(&mut line.log.events) {
        if let SessionEvent::Digit { event, .. } = event {
            keys.push(event);
        }
    }
    for (packet, payload) in line.got(1) {
        if packet.payload_type == 101 {
            let event = TelephoneEvent::parse(&payload).expect("an event");
            if last.replace(packet.timestamp) != Some(packet.timestamp) {
                assert!(packet.marker, "a new event is marked");
                keys.push(event.event);
            }
        } else if way == Digits::Tones {
            let mut pcm = vec![0; payload.len()];
            Law::Mu.decode(&payload, &mut pcm);
            detector.push(&pcm, |heard| keys.extend(pressed(heard)));
        }
    }
    keys
}

fn pressed(heard: ToneEvent) -> Option<u8> {
    if let ToneEvent::Pressed(key) = heard { Some(key) } else { None }
}

/// Plays what a device sends into every way out; `(sequence, packet)`.
fn every_way(what: &str, packets: &[(u16, Sent)], expected: &[u8]) {
    for way in WAYS {
        let mut line = Line::new([(Codec::Pcmu, Digits::Events), (Codec::Pcmu, way)]);
        for (sequence, (ms, marker, timestamp, event, end, duration)) in packets {
            line.pass(Duration::from_millis(*ms));
            let (end, duration) = (*end, *duration);
            let report = TelephoneEvent { event: *event, end, volume: 10, duration };
            line.arrive(0, 101, *marker, *sequence, *timestamp, &report.to_bytes());
        }
        line.pass(Duration::from_secs(10));
        assert_eq!(heard(&mut line, way), expected, "{what}, to {way:?}");
    }
}

/// As [`every_way`], numbered one after the other.
fn in_order(what: &str, packets: &[Sent], expected: &[u8]) {
    let numbered: Vec<(u16, Sent)> =
        (65_530u16..=u16::MAX).chain(0..).zip(packets.iter().copied()).collect();
    every_way(what, &numbered, expected);
}

/// A press of `frames` of 20 ms by the standard, with three ends.
fn press(event: u8, timestamp: u32, frames: u16) -> Vec<Sent> {
    let held = (1..frames).map(|n| (20, n == 1, timestamp, event, false, n * 160));
    held.chain((0..3).map(|_| (20, false, timestamp, event, true, frames * 160))).collect()
}

/// A press whose every packet has a timestamp of its own.
fn growing(event: u8, timestamp: u32, marked: bool, counts: bool) -> Vec<Sent> {
    let length = |n: u16| if counts { (n + 1) * 160 } else { 160 };
    (0..9u16)
        .map(|n| {
            let marker = n == 0 || marked;
            (20, marker, timestamp + u32::from(n) * 160, event, n >= 6, length(n.min(6)))
        })
        .collect()
}

#[test]
fn timestamps_that_grow_within_a_press_are_one_press() {
    in_order("a growing count", &growing(5, 800, false, true), &[5]);
    in_order("each packet counts for itself", &growing(5, 800, false, false), &[5]);
    in_order("every packet is marked", &growing(5, 800, true, true), &[5]);
    let mut twice = growing(5, 800, false, true);
    twice.push((60, true, 4_000, 5, false, 160));
    twice.extend(growing(5, 4_160, false, true));
    in_order("the same key twice", &twice, &[5, 5]);
}

#[test]
fn ends_repeated_at_new_times_are_one_release() {
    let mut packets = press(7, 800, 5);
    for (n, packet) in packets.iter_mut().rev().take(2).enumerate() {
        packet.2 += 160 * (2 - n as u32);
    }
    in_order("new timestamps of the ends", &packets, &[7]);
    for packet in packets.iter_mut().rev().take(3) {
        packet.1 = true;
    }
    in_order("marked ends", &packets, &[7]);
}

#[test]
fn a_second_press_of_a_key_with_the_timestamp_of_the_first_is_a_second_press() {
    let mut packets = press(3, 800, 5);
    packets.push((60, true, 800, 3, false, 160));
    packets.extend(press(3, 800, 5).into_iter().skip(1));
    in_order("distinguished by the marker", &packets, &[3, 3]);
    packets[7].1 = false;
    in_order("distinguished by the count", &packets, &[3, 3]);
    let mut keys = press(1, 800, 5);
    keys.extend(press(2, 800, 5));
    in_order("one timestamp for every key", &keys, &[1, 2]);
}

#[test]
fn starts_and_ends_may_be_lost() {
    let lost = |from: usize, to: usize, packets: Vec<Sent>| {
        let numbered = packets.into_iter().enumerate();
        let mut late = 0;
        let mut kept = Vec::new();
        for (n, packet) in numbered {
            if (from..to).contains(&n) {
                late += packet.0;
            } else {
                kept.push((
                    n as u16,
                    (
                        packet.0 + std::mem::take(&mut late),
                        packet.1,
                        packet.2,
                        packet.3,
                        packet.4,
                        packet.5,
                    ),
                ));
            }
        }
        kept
    };
    let twice = || {
        let mut packets = press(9, 800, 6);
        packets.push((80, true, 4_000, 9, false, 160));
        packets.extend(press(9, 4_000, 6).into_iter().skip(1));
        packets
    };
    every_way("starts", &lost(0, 4, twice()), &[9, 9]);
    every_way("all but one end", &lost(8, 15, twice()), &[9, 9]);
    every_way("ends", &lost(5, 8, twice()), &[9, 9]);
    every_way("ends of both", &lost(13, 16, twice()), &[9, 9]);
}

#[test]
fn a_packet_that_comes_late_presses_nothing() {
    let mut packets: Vec<(u16, Sent)> =
        press(4, 800, 6).into_iter().enumerate().map(|(n, p)| (n as u16, p)).collect();
    let start = packets[0];
    packets.push((packets[0].0, start.1));
    packets.push(packets[2]);
    every_way("its start and its middle again", &packets, &[4]);
}

#[test]
fn a_source_that_restarts_during_a_press_continues_the_press() {
    for (sequence, timestamp) in [(40_000u16, 800u32), (3, 900_000), (40_000, 900_000)] {
        let mut packets: Vec<(u16, Sent)> =
            press(8, 800, 10).into_iter().enumerate().map(|(n, p)| (n as u16, p)).collect();
        for (n, packet) in packets.iter_mut().enumerate().skip(5) {
            *packet = (sequence.wrapping_add(n as u16), packet.1);
            packet.1.2 = timestamp;
        }
        every_way(&format!("{sequence} {timestamp}"), &packets, &[8]);
    }
}

#[test]
fn a_press_longer_than_its_count_is_one_press() {
    // 9 s at 8000: by segments, by a count that stays at its highest, by one that wraps.
    let long = |of: &dyn Fn(u32) -> (u32, u16)| -> Vec<Sent> {
        (1..=450u32)
            .map(|n| {
                let (timestamp, duration) = of(n * 160);
                (20, n == 1, timestamp, 0, n > 447, duration)
            })
            .collect()
    };
    let segments = |units: u32| {
        let before = (units - 1) / 0xffff * 0xffff;
        (5_000 + before, (units - before) as u16)
    };
    let saturated = |units: u32| (5_000, units.min(0xffff) as u16);
    let wrapped = |units: u32| (5_000, units as u16);
    in_order("segments", &long(&segments), &[0]);
    in_order("saturated", &long(&saturated), &[0]);
    in_order("wrapped", &long(&wrapped), &[0]);
}

#[test]
fn every_accepted_format_of_events_is_heard_in_its_own_clock() {
    // Chromium sends its digits at 8000 beside Opus, whatever else was agreed.
    let formats = [(110, 48_000), (101, 8_000), (113, 16_000)];
    let events = TelephoneEvents {
        send: Some(EventFormat { payload_type: 110, clock: 48_000 }),
        receive: formats.map(|(payload_type, clock)| EventFormat { payload_type, clock }).to_vec(),
    };
    for (payload_type, clock) in formats {
        let ends = [(Codec::Opus, Digits::Events), (Codec::Pcmu, Digits::Signalled)];
        let mut line = Line::changed(ends, |side, settings| {
            if side == 0 {
                settings.negotiated.events = events.clone();
            }
        });
        for n in 1..=10u32 {
            let duration = (clock / 50 * n) as u16;
            let report = TelephoneEvent { event: 6, end: n > 7, volume: 10, duration };
            line.send(0, payload_type, n == 1, 4_000, &report.to_bytes(), false);
            line.pass(Duration::from_millis(20));
        }
        let reported: Vec<SessionEvent> = std::mem::take(&mut line.log.events)
            .into_iter()
            .filter(|e| matches!(e, SessionEvent::Digit { .. }))
            .collect();
        let length = Duration::from_millis(160);
        assert_eq!(reported, [SessionEvent::Digit { end: SIDES[1], event: 6, length }], "{clock}");
    }
}

#[test]
fn a_digit_beside_a_codec_of_another_clock_counts_in_its_own_and_holds_the_stream_together() {
    // Firefox has events at 8000 only; Opus counts in 48000.
    let ends = [(Codec::Pcmu, Digits::Events), (Codec::Opus, Digits::Events)];
    let mut line = Line::changed(ends, |side, settings| {
        if side == 1 {
            settings.negotiated.events = TelephoneEvents::both_ways(101, 8_000);
        }
    });
    let mut out = Vec::new();
    for n in 0..40u32 {
        if n == 10 {
            line.session.digit(SIDES[1], 2, Duration::from_millis(100));
        }
        line.send(0, 0, false, n * 160, &[0x55; 160], false);
        line.pass(Duration::from_millis(20));
        out.extend(line.got(1));
    }
    let events: Vec<&Got> = out.iter().filter(|(p, _)| p.payload_type == 101).collect();
    let last = TelephoneEvent::parse(&events.last().expect("events").1).expect("an event");
    assert_eq!((last.event, last.end, last.duration), (2, true, 800));
    for pair in out.windows(2) {
        let step = pair[1].0.timestamp.wrapping_sub(pair[0].0.timestamp);
        assert!(step <= 48_000 / 4, "{step}");
        assert_eq!(pair[1].0.sequence, pair[0].0.sequence.wrapping_add(1));
    }
    let after = out.iter().rposition(|(p, _)| p.payload_type == 101).expect("events") + 1;
    let passed = out[after].0.timestamp.wrapping_sub(events[0].0.timestamp);
    assert!((4_800..=4_800 + 3 * 1_920).contains(&passed), "{passed}");
}

#[test]
fn a_long_digit_in_a_clock_that_is_not_the_codecs_is_one_event() {
    let ends = [(Codec::Pcmu, Digits::Events), (Codec::Pcmu, Digits::Events)];
    let mut line = Line::changed(ends, |side, settings| {
        if side == 1 {
            settings.negotiated.events = TelephoneEvents::both_ways(110, 48_000);
        }
    });
    line.session.digit(SIDES[1], 2, Duration::from_secs(5));
    line.pass(Duration::from_secs(6));
    let out = line.got(1);
    assert!(out.iter().all(|(p, _)| p.timestamp == out[0].0.timestamp), "one segment");
    let last = TelephoneEvent::parse(&out.last().expect("events").1).expect("an event");
    assert!(last.end && last.duration >= 0xfffe, "{last:?}");
}

/// Another process takes the call after so many packets of a press that is held for 200 ms.
fn handed_over_after(packets: u16, way: Digits) -> Vec<u8> {
    let mut line = Line::new([(Codec::Pcmu, Digits::Events), (Codec::Pcmu, way)]);
    let clocks =
        |line: &Line| Clocks { boot: 7, uptime: Duration::from_secs(1) + (line.now - line.start) };
    for n in 0..14 {
        if n == packets {
            let (now, clocks) = (line.now, clocks(&line));
            let bytes = line.session.hand_over(now, clocks).to_bytes();
            let snapshot = SessionSnapshot::from_bytes(&bytes).expect("whole");
            line.session =
                Session::restore(snapshot, now, clocks, &identities().0).expect("it is fresh");
        }
        line.pass(Duration::from_millis(20));
        // The end comes three times.
        let (end, duration) = (n > 10, 160 * (n.min(10) + 1));
        let report = TelephoneEvent { event: 5, end, volume: 10, duration };
        line.arrive(0, 101, n == 0, 500 + n, 80_000, &report.to_bytes());
    }
    line.pass(Duration::from_secs(2));
    heard(&mut line, way)
}

#[test]
fn a_key_that_is_down_while_another_process_takes_over_is_one_digit() {
    for packets in 0..14 {
        assert_eq!(handed_over_after(packets, Digits::Events), [5], "after {packets} packets");
        // What is signalled is so by the end, of which nobody can tell whether it is the first.
        if packets != 11 {
            assert_eq!(handed_over_after(packets, Digits::Signalled), [5], "after {packets}");
        }
    }
}
