//! Every codec to every other by tone and level, at every packet length; gaps, drift, and G.722
//! beside another implementation.

use crate::lab::*;
use std::time::Duration;
use webtrunk::codec::opus::{self, COMPLEXITY};
use webtrunk::codec::{Codec, Decoder, Encoder, MAX_FRAME, NARROW, WIDE, g722};
use webtrunk::media::Digits;

/// One codec's sender.
struct Mouth {
    codec: Codec,
    encoder: Encoder,
    sample: usize,
    timestamp: u32,
}

impl Mouth {
    fn new(codec: Codec) -> Mouth {
        let rate = codec.bridge_rate(Codec::Opus);
        Mouth { codec, encoder: Encoder::new(codec, rate, COMPLEXITY), sample: 0, timestamp: 1_000 }
    }

    /// The next packet of `ms` of a tone.
    fn speak(&mut self, line: &mut Line, side: usize, hz: f32, ms: u32, lost: bool) {
        let samples = (self.encoder.rate / 1_000 * ms) as usize;
        let mut payload = [0u8; 1_000];
        let n =
            self.encoder.encode(&sine(self.encoder.rate, hz, self.sample, samples), &mut payload);
        line.send(
            side,
            self.codec.default_payload_type(),
            false,
            self.timestamp,
            &payload[..n],
            lost,
        );
        self.sample += samples;
        self.timestamp = self.timestamp.wrapping_add(self.codec.clock() / 1_000 * ms);
        line.pass(Duration::from_millis(u64::from(ms)));
    }
}

fn line(from: Codec, to: Codec, ptime: u32) -> Line {
    Line::changed([from, to].map(|c| (c, Digits::Events)), |_, settings| {
        settings.negotiated.ptime = ptime;
    })
}

#[test]
fn every_codec_reaches_every_other_by_tone_and_level() {
    for from in Codec::ALL {
        for to in Codec::ALL {
            let wide = from.bridge_rate(to) == WIDE;
            for hz in
                if wide { &[400.0, 3_000.0, 6_000.0][..] } else { &[400.0, 1_000.0, 3_000.0][..] }
            {
                let mut line = line(from, to, 20);
                let mut mouth = Mouth::new(from);
                (0..150).for_each(|_| mouth.speak(&mut line, 0, *hz, 20, false));
                let got = line.got(1);
                assert_eq!(got.len(), 150, "{from} to {to}");
                let rate = to.bridge_rate(Codec::Opus);
                let (share, level) = tone(rate, &decode(to, rate, &got)[rate as usize..], *hz);
                // Opus at these rates colours a bare tone above 3 kHz; G.722 codes above 4 kHz with
                // two bits.
                let (least, off) = if *hz < 3_000.0 { (0.95, 1.0) } else { (0.5, 4.0) };
                assert!(
                    share > least && (level - SINE_LEVEL).abs() < off,
                    "{from} to {to} at {hz} Hz: {share:.3}, {:.1} dB",
                    level - SINE_LEVEL
                );
            }
        }
    }
}

#[test]
fn packets_of_every_length_are_cut_anew_and_the_length_may_change_in_a_call() {
    for (from, to) in [
        (Codec::Pcmu, Codec::Opus),
        (Codec::Opus, Codec::Pcma),
        (Codec::G722, Codec::Opus),
        (Codec::Pcma, Codec::G722),
    ] {
        for ptime in [10, 20, 30, 40, 50, 60] {
            let mut line = line(from, to, ptime);
            let mut mouth = Mouth::new(from);
            let mut sent = 0;
            for ms in [20, 10, 40, 60, 20, 60, 10, 40] {
                for _ in 0..20 {
                    mouth.speak(&mut line, 0, 500.0, ms, false);
                    sent += ms;
                }
            }
            let got = line.got(1);
            let frame = match (to, ptime) {
                (Codec::Opus, 30) => 20,
                (Codec::Opus, 50) => 40,
                _ => ptime,
            };
            assert_eq!(got.len() as u32, sent / frame, "{from} to {to}, {ptime} ms");
            let step = to.clock() / 1_000 * frame;
            assert!(
                got.windows(2).all(|w| w[1].0.timestamp.wrapping_sub(w[0].0.timestamp) == step)
            );
            let rate = to.bridge_rate(Codec::Opus);
            let (share, _) = tone(rate, &decode(to, rate, &got)[rate as usize..], 500.0);
            assert!(share > 0.95, "{from} to {to}, {ptime} ms: {share}");
        }
    }
}

#[test]
fn g711_that_is_only_relayed_is_cut_anew_for_a_peer_that_asked_for_another_length() {
    for (asked, lengths) in
        [(Some(30), vec![240; 40]), (Some(20), vec![160; 60]), (None, vec![160; 60])]
    {
        let mut line = line(Codec::Pcma, Codec::Pcma, asked.unwrap_or(20));
        let mut settings = line.settings(1);
        settings.negotiated.ptime = asked.unwrap_or(20);
        settings.negotiated.ptime_asked = asked.is_some();
        line.session.configure(line.now, SIDES[1], settings, &mut line.log);
        let (mut sent, mut heard) = (Vec::new(), Vec::new());
        for n in 0..60u32 {
            let payload: Vec<u8> = (0..160).map(|k| (n * 160 + k) as u8 ^ 0x2a).collect();
            line.send(0, 8, false, n * 160, &payload, false);
            sent.extend(payload);
            line.pass(Duration::from_millis(20));
        }
        let got = line.got(1);
        got.iter().for_each(|(_, payload)| heard.extend_from_slice(payload));
        assert_eq!(
            got.iter().map(|(_, p)| p.len()).collect::<Vec<_>>(),
            lengths,
            "asked for {asked:?}"
        );
        assert_eq!(heard, sent, "not a sample is changed");
        assert!(
            got.windows(2)
                .all(|w| w[1].0.timestamp.wrapping_sub(w[0].0.timestamp) == lengths[0] as u32)
        );
    }
}

#[test]
fn lost_packets_of_a_trunk_are_concealed() {
    for from in [Codec::Pcmu, Codec::G722] {
        let mut line = line(from, Codec::Opus, 20);
        let (mut mouth, mut chance) = (Mouth::new(from), Chance::new(0x10c));
        for n in 0..500 {
            let lost = n % 500 < 490 && chance.below(20) == 0;
            mouth.speak(&mut line, 0, 200.0, 20, lost);
        }
        let got = line.got(1);
        assert!(got.len() >= 497, "{from}: {} frames", got.len());
        let pcm = decode(Codec::Opus, WIDE, &got);
        let (share, level) = tone(WIDE, &pcm[WIDE as usize..], 200.0);
        assert!(
            share > 0.9 && level - SINE_LEVEL > -1.5,
            "{from}: {share:.3} of the tone is left at {level:.1} dB"
        );
    }
}

#[test]
fn an_hour_at_a_drifting_clock_passes_without_a_frame_more_or_less() {
    for ppm in [-200i64, 200] {
        let mut line = line(Codec::Pcma, Codec::Pcmu, 20);
        let mut got = Vec::new();
        for n in 0..180_000u32 {
            line.send(0, 8, false, n * 160, &[0x55; 160], false);
            line.pass(Duration::from_nanos((20_000_000 + 20 * ppm) as u64));
            if n % 1_000 == 999 {
                got.extend(line.got(1).into_iter().map(|(p, _)| p));
            }
        }
        assert_eq!(got.len(), 180_000);
        assert!(
            got.windows(2)
                .all(|w| w[1].timestamp.wrapping_sub(w[0].timestamp) == 160 && !w[1].marker)
        );
    }
}

fn differs<T: PartialEq>(a: &[T], b: &[T]) -> Option<usize> {
    a.iter().zip(b).position(|(a, b)| a != b)
}

/// Made by FFmpeg's G.722 from a signal of triangles, noise, extremes and silence, at 16 kHz.
fn samples(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect()
}

#[test]
fn g722_is_bit_exact_with_another_implementation() {
    let signal = samples(include_bytes!("../corpus/g722/signal.s16le"));
    let encoded: &[u8] = include_bytes!("../corpus/g722/encoded.g722");
    let decoded = samples(include_bytes!("../corpus/g722/decoded.s16le"));
    let mut codes = vec![0u8; signal.len() / 2];
    let n = g722::G722Encoder::new(true).encode(&signal, &mut codes);
    assert_eq!((n, differs(&codes, encoded)), (encoded.len(), None), "encoded");
    let mut pcm = vec![0i16; 2 * codes.len()];
    let n = g722::G722Decoder::new(true).decode(encoded, &mut pcm);
    assert_eq!((n, differs(&pcm, &decoded)), (decoded.len(), None), "decoded");
}

#[test]
fn the_narrow_half_of_g722_is_the_low_half_of_the_wide_one() {
    let mut codes = [0u8; 8_000];
    g722::G722Encoder::new(true).encode(&sine(WIDE, 700.0, 0, 16_000), &mut codes);
    let mut pcm = [0i16; 8_000];
    assert_eq!(g722::G722Decoder::new(false).decode(&codes, &mut pcm), 8_000);
    let (share, level) = tone(NARROW, &pcm[800..], 700.0);
    assert!(share > 0.98 && (level - SINE_LEVEL).abs() < 0.5, "{share} {level}");
}

#[test]
fn the_packet_after_a_lost_one_brings_its_sound_at_both_rates() {
    for rate in [NARROW, WIDE] {
        let frame = rate as usize / 50;
        let mut encoder = Encoder::new(Codec::Opus, rate, COMPLEXITY);
        let (mut fec, mut guessed) = (Vec::new(), Vec::new());
        let mut decoders = [(); 2].map(|()| Decoder::new(Codec::Opus, rate));
        let mut lost = false;
        for n in 0..300 {
            // What is lost is another sound than what was before, which cannot be guessed; a third
            // of it is still the former, for Opus looks ahead.
            let hz = if n % 10 < 5 { 500.0 } else { 1_500.0 };
            let mut payload = [0u8; 1_000];
            let len = encoder.encode(&sine(rate, hz, n * frame, frame), &mut payload);
            let next = &payload[..len];
            for ((decoder, out), with) in
                decoders.iter_mut().zip([&mut fec, &mut guessed]).zip([true, false])
            {
                let mut pcm = [0; MAX_FRAME];
                if lost {
                    let n = decoder.conceal(with.then_some(next), frame, &mut pcm);
                    out.extend_from_slice(&pcm[..n]);
                }
                if n % 10 != 5 {
                    decoder.decode(next, &mut pcm).expect("Opus");
                }
            }
            lost = n % 10 == 5;
        }
        let share = |pcm: &[i16]| tone(rate, &pcm[pcm.len() / 2..], 1_500.0).0;
        assert!(fec.len() == 30 * frame && share(&fec) > 0.25, "{rate}: {}", share(&fec));
        assert!(share(&guessed) < 0.05, "{rate}: {} without", share(&guessed));
    }
}

#[test]
fn opus_keeps_to_the_bits_a_peer_takes() {
    for (rate, most, least, highest) in [
        (NARROW, None, 22_000, 36_000),
        (WIDE, None, 36_000, 54_000),
        (NARROW, Some(12_000), 9_000, 14_000),
        (NARROW, Some(500_000), 22_000, 36_000),
        (WIDE, Some(1), 3_000, 9_000),
    ] {
        let frame = rate as usize / 50;
        let (mut encoder, mut chance, mut bytes) =
            (Encoder::new(Codec::Opus, rate, COMPLEXITY), Chance::new(9), 0);
        encoder.limit_bits(most);
        for n in 0..250 {
            // Something like a voice: a pitch with overtones, and breath.
            let mut pcm = sine(rate, 180.0 + (n % 50) as f32, n * frame, frame);
            for (k, hz) in [(2, 540.0), (3, 1_260.0)] {
                pcm.iter_mut()
                    .zip(sine(rate, hz, n * frame, frame))
                    .for_each(|(a, b)| *a = *a / 2 + b / k);
            }
            pcm.iter_mut().for_each(|s| *s += chance.below(600) as i16 - 300);
            bytes += encoder.encode(&pcm, &mut [0; 1_000]);
        }
        let bits = bytes * 8 / 5;
        assert!(
            (least..highest).contains(&bits),
            "{rate}, at most {most:?}: {bits} of {}",
            opus::bits(rate)
        );
    }
}

#[test]
fn digital_silence_is_not_made_again_and_speech_after_it_is_as_it_was() {
    for (rate, nothing) in [(NARROW, 0), (NARROW, -8), (WIDE, 8)] {
        let frame = rate as usize / 50;
        let (mut encoder, mut decoder) =
            (Encoder::new(Codec::Opus, rate, COMPLEXITY), Decoder::new(Codec::Opus, rate));
        let mut pcm = [0; MAX_FRAME];
        let (mut packets, mut heard) = (Vec::new(), Vec::new());
        for n in 0..1_000usize {
            let silent = (100..900).contains(&n);
            let sound =
                if silent { vec![nothing; frame] } else { sine(rate, 700.0, n * frame, frame) };
            let mut payload = [0u8; 1_000];
            let len = encoder.encode(&sound, &mut payload);
            let samples = decoder.decode(&payload[..len], &mut pcm).expect("Opus");
            heard.extend_from_slice(&pcm[..samples]);
            packets.push(payload[..len].to_vec());
        }
        assert_eq!(heard.len(), 1_000 * frame);
        assert!(
            packets[152..900].windows(2).all(|w| w[0] == w[1]),
            "{rate}: one packet again and again"
        );
        let loudest = heard[200 * frame..900 * frame].iter().map(|s| s.unsigned_abs()).max();
        assert!(loudest.is_some_and(|l| l <= 32), "{rate}: silence of {loudest:?}");
        for spoken in [50..100, 910..1_000] {
            let (share, level) =
                tone(rate, &heard[spoken.start * frame..spoken.end * frame], 700.0);
            assert!(
                share > 0.97 && (level - SINE_LEVEL).abs() < 1.0,
                "{rate}, {spoken:?}: {share:.3}, {level:.1} dBFS"
            );
        }
    }
}
