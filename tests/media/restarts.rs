//! A source that starts again is followed at once, relayed and transcoded; and packets of Opus have
//! the length their receiver asked for.

use crate::lab::*;
use std::time::Duration;
use webtrunk::codec::{Codec, Encoder, NARROW};
use webtrunk::media::{Digits, Port};

const FRAME: Duration = Duration::from_millis(20);

/// Where a source is: sequence number, timestamp, SSRC.
type At = (u16, u32, u32);

fn speak(line: &mut Line, at: &mut At, payload: &[u8]) {
    let mut datagram = rtp(0, false, *at, payload, 0);
    let (port, id) = (Port::Rtp(SIDES[0]), SIDES[0]);
    line.session.receive(line.now, port, id, addr(40, 6_000), &mut datagram, &mut line.log);
    (at.0, at.1) = (at.0.wrapping_add(1), at.1.wrapping_add(160));
    line.pass(FRAME);
}

fn is_one_stream(what: &str, got: &[Got], clock: u32) {
    for pair in got.windows(2) {
        let (old, new) = (pair[0].0, pair[1].0);
        assert_eq!(new.ssrc, old.ssrc, "{what}");
        assert_eq!(new.sequence, old.sequence.wrapping_add(1), "{what}");
        let step = new.timestamp.wrapping_sub(old.timestamp) as i32;
        assert!((0 < step) && step <= (clock / 10) as i32, "{what}: a step of {step}");
    }
}

/// What a source does, and where it continues.
type Jump = (&'static str, fn(At) -> At);

#[test]
fn a_source_that_restarts_in_any_way_is_heard_at_once_and_leaves_as_one_stream() {
    let begin: At = (1_000, 50_000, 7);
    // From packet 40 on: another sequence number, timestamp or SSRC.
    let jumps: [Jump; 11] = [
        ("sequence far back", |a| (3, a.1, a.2)),
        ("sequence a little back", |a| (a.0 - 30, a.1, a.2)),
        ("sequence back by hundreds", |a| (a.0 - 500, a.1, a.2)),
        ("sequence ahead by hundreds", |a| (a.0 + 500, a.1, a.2)),
        ("sequence far ahead", |a| (a.0 + 30_000, a.1, a.2)),
        ("timestamp back", |a| (a.0, 17, a.2)),
        ("timestamp a little back", |a| (a.0, a.1 - 1_600, a.2)),
        ("timestamp ahead", |a| (a.0, a.1 + 0x4000_0000, a.2)),
        ("SSRC", |a| (a.0, a.1, 99)),
        ("SSRC and sequence", |a| (9, a.1, 99)),
        ("all of it", |_| (9, 17, 99)),
    ];
    for to in [Codec::Pcmu, Codec::Opus, Codec::Pcma] {
        for (name, jump) in jumps {
            let what = format!("{name}, to {to}");
            let mut line = Line::new([(Codec::Pcmu, Digits::Events), (to, Digits::Events)]);
            let mut at = begin;
            for n in 0..100 {
                if n == 40 {
                    at = jump(at);
                }
                speak(&mut line, &mut at, &[0x55; 160]);
            }
            let got = line.got(1);
            is_one_stream(&what, &got, to.clock());
            assert!(got.len() >= 98, "{what}: {} of 100", got.len());
            let passed = got[got.len() - 1].0.timestamp.wrapping_sub(got[0].0.timestamp);
            let expected = to.clock() / 50 * 99;
            assert!(passed.abs_diff(expected) <= to.clock() / 10, "{what}: {passed}");
            let figures = line.session.ends()[0].figures();
            assert!(figures.lost <= 1, "{what}: {} lost", figures.lost);
        }
    }
}

#[test]
fn a_source_may_start_again_and_again() {
    for to in [Codec::Pcmu, Codec::Opus] {
        let mut line = Line::new([(Codec::Pcmu, Digits::Events), (to, Digits::Events)]);
        let mut chance = Chance::new(15);
        let mut random = || (chance.below(1 << 16) as u16, chance.below(1 << 32) as u32, 5);
        for _ in 0..200 {
            let mut at = random();
            (0..5).for_each(|_| speak(&mut line, &mut at, &[0x55; 160]));
        }
        let got = line.got(1);
        is_one_stream(&format!("to {to}"), &got, to.clock());
        assert!(got.len() > 990, "{}", got.len());
    }
}

#[test]
fn a_network_that_loses_repeats_and_reorders_restarts_nothing() {
    let mut line = Line::new([(Codec::Pcmu, Digits::Events); 2]);
    let mut at: At = (65_500, u32::MAX - 8_000, 7);
    for n in 0..300u32 {
        let now = at;
        match n % 10 {
            // Lost; repeated; late by two.
            3 => {
                (at.0, at.1) = (at.0.wrapping_add(1), at.1.wrapping_add(160));
                line.pass(FRAME);
            }
            5 => {
                speak(&mut line, &mut at, &[0x55; 160]);
                speak(&mut line, &mut { now }, &[0x55; 160]);
            }
            7 => {
                let mut late = at;
                (at.0, at.1) = (at.0.wrapping_add(1), at.1.wrapping_add(160));
                speak(&mut line, &mut at, &[0x55; 160]);
                speak(&mut line, &mut late, &[0x55; 160]);
            }
            8 => {}
            _ => speak(&mut line, &mut at, &[0x55; 160]),
        }
    }
    let got = line.got(1);
    assert_eq!(got.iter().filter(|(p, _)| p.marker).count(), 1, "one stream, never begun anew");
    let figures = line.session.ends()[0].figures();
    assert_eq!((figures.duplicate, figures.reordered), (30, 30));
}

/// An Opus packet of this many milliseconds.
fn opus(ms: u32, n: u32) -> Vec<u8> {
    let mut encoder = Encoder::new(Codec::Opus, NARROW, 0);
    let mut payload = [0u8; 1_000];
    let samples = (NARROW / 1_000 * ms) as usize;
    let pcm = sine(NARROW, 500.0, n as usize * samples, samples);
    let len = encoder.encode(&pcm, &mut payload);
    payload[..len].to_vec()
}

#[test]
fn opus_has_the_length_its_receiver_asked_for_also_where_it_would_be_relayed() {
    // What is sent, asked for and taken at most, and what goes out.
    for (sent, asked, most, out) in [
        (20, None, None, 20),
        (20, Some(20), None, 20),
        (20, Some(40), None, 40),
        (20, Some(60), Some(60), 60),
        (60, None, Some(60), 60),
        (60, None, Some(40), 20),
        (60, Some(20), None, 20),
        (40, Some(60), None, 60),
        (60, None, None, 60),
    ] {
        let ends = [(Codec::Opus, Digits::Events); 2];
        let mut line = Line::changed(ends, |side, settings| {
            if side == 1 {
                settings.negotiated.ptime = asked.unwrap_or(20);
                settings.negotiated.ptime_asked = asked.is_some();
                settings.negotiated.max_ptime = most;
            }
        });
        for n in 0..60u32 {
            line.send(0, 111, false, n * sent * 48, &opus(sent, n), false);
            line.pass(Duration::from_millis(u64::from(sent)));
        }
        let got = line.got(1);
        let what = format!("{sent} ms, {asked:?} asked, {most:?} at most");
        assert_eq!(got.len() as u32, 60 * sent / out, "{what}");
        for pair in got.windows(2) {
            let step = pair[1].0.timestamp.wrapping_sub(pair[0].0.timestamp);
            assert_eq!(step, out * 48, "{what}");
        }
    }
}
