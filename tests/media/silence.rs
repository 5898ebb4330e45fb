//! Silence: comfort noise and DTX either way, streams without a pause, and a timeline that does not
//! drift.

use crate::lab::*;
use std::time::Duration;
use webtrunk::codec::{Codec, Encoder, NARROW, noise};
use webtrunk::media::Digits;

const FRAME: Duration = Duration::from_millis(20);
/// Comfort noise at -50 dBov.
const HISS: [u8; 1] = [50];

fn line(codecs: [Codec; 2], noise: [bool; 2], continuous: bool) -> Line {
    Line::changed(codecs.map(|c| (c, Digits::Events)), |side, settings| {
        settings.negotiated.noise = noise[side].then_some(13);
        settings.continuous = continuous;
    })
}

/// Every packet follows the one before in number, and in time without a hole or a jump back of over
/// `slack` units.
fn assert_contiguous(got: &[Got], step: u32, slack: u32) {
    for pair in got.windows(2) {
        let (a, b) = (pair[0].0, pair[1].0);
        assert_eq!(b.sequence, a.sequence.wrapping_add(1));
        let ahead = b.timestamp.wrapping_sub(a.timestamp);
        assert!(ahead >= step && ahead <= step + slack, "{ahead} units after {a:?}");
    }
}

#[test]
fn a_trunks_comfort_noise_is_heard_as_noise_of_its_level() {
    for (to, step) in [(Codec::Opus, 960), (Codec::Pcmu, 160), (Codec::Pcma, 160)] {
        let mut line = line([Codec::Pcmu, to], [true, false], false);
        let mut got = Vec::new();
        for n in 0..10 {
            line.send(0, 0, false, n * 160, &[0x30; 160], false);
            line.pass(FRAME);
        }
        line.got(1);
        for n in 0..5 {
            line.send(0, 13, false, 1_600 + n * 3_200, &HISS, false);
            line.pass(FRAME * 20);
            got.extend(line.got(1));
        }
        assert!((95..=101).contains(&got.len()), "{to}: {} frames in two seconds", got.len());
        assert_contiguous(&got, step, 0);
        let level = noise::level(&decode(to, NARROW, &got)[4_000..]);
        assert!((47..=54).contains(&level), "{to}: -{level} dBov");
        line.send(0, 0, true, 1_600 + 16_000, &[0x30; 160], false);
        line.pass(FRAME);
        let spoken = line.got(1);
        assert_eq!(spoken.len(), 1, "{to}: noise ends where speech begins");
        assert_contiguous(&[got.last().expect("some").clone(), spoken[0].clone()], step, step);
    }
}

#[test]
fn a_browsers_dtx_becomes_noise_or_comfort_noise_at_a_trunk() {
    for offered in [false, true] {
        let mut line = line([Codec::Opus, Codec::Pcmu], [false, offered], false);
        let mut encoder = Encoder::new(Codec::Opus, NARROW, 0);
        let mut payload = [0; 400];
        let mut got = Vec::new();
        for n in 0..20 {
            let length = encoder.encode(&sine(NARROW, 300.0, n * 160, 160), &mut payload);
            line.send(0, 111, false, n as u32 * 960, &payload[..length], false);
            line.pass(FRAME);
        }
        line.got(1);
        // Opus DTX: a packet of its first byte only, each 400 ms.
        for n in 0..5u32 {
            line.send(0, 111, false, 20 * 960 + n * 19_200, &[0x08], false);
            line.pass(FRAME * 20);
            got.extend(line.got(1));
        }
        let noise = got.iter().filter(|(p, _)| p.payload_type == 13).count();
        if offered {
            assert_eq!(noise, 5, "one description for each of the browser's");
            assert_eq!(got.len(), 5, "and nothing else");
        } else {
            assert!(noise == 0 && (96..=101).contains(&got.len()), "{}", got.len());
            assert_contiguous(&got, 160, 160);
        }
    }
}

#[test]
fn noise_is_passed_on_where_both_know_it() {
    let mut line = line([Codec::Pcmu, Codec::Pcmu], [true, true], false);
    line.send(0, 0, false, 0, &[0x30; 160], false);
    line.send(0, 13, false, 160, &[61, 100, 200], false);
    line.pass(Duration::from_secs(1));
    let got = line.got(1);
    assert_eq!(got.len(), 2);
    assert_eq!((got[1].0.payload_type, &got[1].1[..]), (13, &[61, 100, 200][..]));
}

#[test]
fn noise_ends_with_the_silence_it_replaced() {
    for stop in 0..4 {
        let mut line = line([Codec::Pcmu, Codec::Pcmu], [true, false], false);
        line.send(0, 0, false, 0, &[0x30; 160], false);
        line.send(0, 13, false, 160, &HISS, false);
        line.pass(Duration::from_millis(500));
        assert!(line.got(1).len() > 20);
        match stop {
            0 => line.session.unbridge(SIDES[1]),
            1 => line.session.unbridge(SIDES[0]),
            2 => drop(line.session.close_end(SIDES[0])),
            _ => line.session.echo(SIDES[1], Duration::ZERO),
        }
        line.pass(Duration::from_millis(500));
        assert!(line.got(1).is_empty(), "{stop}");
    }
}

#[test]
fn a_trunk_that_needs_a_stream_gets_one_whatever_the_source_does() {
    for from in [Codec::Pcmu, Codec::Pcma] {
        let mut line = line([from, Codec::Pcmu], [false, false], true);
        let pt = from.default_payload_type();
        let mut got = Vec::new();
        let mut timestamp = 0u32;
        // Speaks for a second, is away for three without a word, ten times over.
        for _ in 0..10 {
            for _ in 0..50 {
                line.send(0, pt, false, timestamp, &[0x30; 160], false);
                line.pass(FRAME);
                got.extend(line.got(1));
                timestamp += 160;
            }
            line.pass(Duration::from_secs(3));
            got.extend(line.got(1));
            timestamp += 24_000;
        }
        // 200 ms pass before an absence is noticed.
        let frames = 10 * (50 + 150 - 8);
        assert!((frames - 10..=frames + 10).contains(&(got.len() as i32)), "{from}: {}", got.len());
        assert_contiguous(&got, 160, 2_000);
        let lasted = got.last().expect("some").0.timestamp.wrapping_sub(got[0].0.timestamp);
        assert!((319_000..=320_500).contains(&lasted), "{from}: {lasted} units in 40 s");
    }
}

#[test]
fn a_call_of_talk_and_silence_stays_on_time_though_its_packets_do_not() {
    let mut line = line([Codec::Pcmu, Codec::Opus], [true, false], false);
    let mut chance = Chance::new(77);
    let (mut got, mut due, mut timestamp) = (Vec::new(), line.now, 0u32);
    for _ in 0..120 {
        for n in 0..100 + chance.below(100) {
            // Up to 15 ms late.
            let at = due + Duration::from_micros(chance.below(15_000));
            line.pass(at.saturating_duration_since(line.now));
            line.send(0, 0, n == 0, timestamp, &[0x30; 160], false);
            timestamp = timestamp.wrapping_add(160);
            due += FRAME;
        }
        line.pass(due.saturating_duration_since(line.now));
        line.send(0, 13, false, timestamp, &HISS, false);
        let silence = 20 + chance.below(150) as u32;
        timestamp = timestamp.wrapping_add(silence * 160);
        due += FRAME * silence;
        got.extend(line.got(1));
    }
    assert_contiguous(&got, 960, 1_920);
    let lasted = got.last().expect("some").0.timestamp.wrapping_sub(got[0].0.timestamp);
    let passed = line.now.saturating_duration_since(line.start).as_micros() as u64 * 48 / 1_000;
    let ahead = i64::from(lasted) - passed as i64;
    assert!(ahead.abs() < 4_800, "{} ms ahead after {} s", ahead / 48, passed / 48_000);
}
