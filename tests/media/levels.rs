//! How loud each end is, second by second: measured by tone and level, or as its sender says (RFC
//! 6464).

use crate::lab::*;
use std::time::Duration;
use webtrunk::codec::{Codec, Encoder};
use webtrunk::media::player::PlaySource;
use webtrunk::media::{Clocks, Digits, Port, Session, SessionSnapshot};
use webtrunk::sdp::Direction;

const FRAME: Duration = Duration::from_millis(20);
/// Packets of five seconds.
const FIVE: u32 = 250;
/// An Opus packet whose first byte says 20 ms, and nothing more of interest.
const OPUS: [u8; 3] = [0xfc, 0xff, 0xfe];

/// What one side says: a tone of some level.
struct Voice {
    codec: Codec,
    encoder: Encoder,
    packets: u32,
}

impl Voice {
    fn new(codec: Codec) -> Voice {
        let rate = codec.bridge_rate(Codec::Opus);
        Voice { codec, encoder: Encoder::new(codec, rate, 5), packets: 0 }
    }

    /// The next packet, of a tone `quieter` dB below that of the lab; `None`: of silence.
    fn say(&mut self, line: &mut Line, side: usize, quieter: Option<f32>) {
        let rate = self.encoder.rate;
        let frame = (rate / 50) as usize;
        let gain = quieter.map_or(0.0, |db| 10f32.powf(-db / 20.0));
        let loud = sine(rate, 500.0, self.packets as usize * frame, frame);
        let pcm: Vec<i16> = loud.iter().map(|s| (f32::from(*s) * gain) as i16).collect();
        let mut payload = [0; 1_000];
        let n = self.encoder.encode(&pcm, &mut payload);
        let timestamp = self.packets * (self.codec.clock() / 50);
        line.send(side, self.codec.default_payload_type(), false, timestamp, &payload[..n], false);
        self.packets += 1;
    }
}

/// The level of each whole second of a side, dBov.
fn levels(session: &Session, side: usize) -> Vec<Option<f64>> {
    let figures = session.ends()[side].statistics();
    figures.series.iter().map(|s| s.level.map(|level| -f64::from(level))).collect()
}

fn near(heard: &[Option<f64>], level: f64) -> bool {
    !heard.is_empty() && heard.iter().all(|l| l.is_some_and(|l| (l - level).abs() <= 1.0))
}

fn silent(heard: &[Option<f64>]) -> bool {
    !heard.is_empty() && heard.iter().all(|l| l.is_some_and(|l| l <= -60.0))
}

#[test]
fn both_sides_are_as_loud_as_their_tone_relayed_and_transcoded() {
    for (one, other) in [
        (Codec::Pcmu, Codec::Pcmu),
        (Codec::Pcma, Codec::Pcma),
        (Codec::L16, Codec::L16),
        (Codec::Pcmu, Codec::Pcma),
        (Codec::Opus, Codec::Pcma),
        (Codec::Opus, Codec::G722),
        (Codec::G722, Codec::Pcmu),
    ] {
        let mut line = Line::new([one, other].map(|codec| (codec, Digits::Events)));
        let mut voices = [Voice::new(one), Voice::new(other)];
        // The second side is 20 dB quieter; then nobody speaks.
        for n in 0..2 * FIVE {
            let speaking = n < FIVE;
            for (side, quieter) in [0.0, 20.0].into_iter().enumerate() {
                voices[side].say(&mut line, side, speaking.then_some(quieter));
            }
            line.pass(FRAME);
        }
        for (side, level) in [SINE_LEVEL, SINE_LEVEL - 20.0].into_iter().enumerate() {
            let heard = levels(&line.session, side);
            assert!(heard.len() >= 9, "{one} and {other}: {heard:?}");
            let (tone, silence) = (&heard[1..4], &heard[6..]);
            assert!(near(tone, level), "{one} and {other}, side {side} at {level}: {tone:?}");
            assert!(silent(silence), "{one} and {other}, side {side}: {silence:?}");
        }
    }
}

#[test]
fn what_is_played_has_its_level_and_what_passes_through_has_none_of_its_own() {
    for codec in [Codec::Pcmu, Codec::Opus] {
        let mut line = Line::new([(codec, Digits::Events); 2]);
        let mut voice = Voice::new(codec);
        let mut second = |line: &mut Line| {
            for _ in 0..FIVE {
                voice.say(line, 1, Some(0.0));
                line.pass(FRAME);
            }
            let figures = line.session.ends()[1].statistics();
            figures.series.last().expect("samples").played_level
        };
        assert_eq!(second(&mut line), None, "{codec}: the other side is connected to it");
        line.session.play(line.now, SIDES[1], PlaySource::Tone(1_000));
        let level = second(&mut line);
        // A sine of -10 dBFS.
        assert!(level.is_some_and(|level| (12..=14).contains(&level)), "{codec}: {level:?}");
        line.session.play(line.now, SIDES[1], PlaySource::Silence);
        assert_eq!(second(&mut line), Some(127), "{codec}: silence that is played");
    }
}

#[test]
fn audio_that_is_not_decoded_or_comes_from_a_held_leg_is_not_measured() {
    let mut line = Line::new([(Codec::Opus, Digits::Events); 2]);
    let mut voice = Voice::new(Codec::Opus);
    for _ in 0..FIVE {
        voice.say(&mut line, 0, Some(0.0));
        line.pass(FRAME);
    }
    let heard = levels(&line.session, 0);
    assert!(heard.len() >= 4 && heard.iter().all(Option::is_none), "relayed Opus: {heard:?}");

    let mut line = Line::new([(Codec::Pcmu, Digits::Events); 2]);
    let mut held = line.settings(0);
    held.negotiated.direction = Direction::SendOnly;
    line.session.configure(line.now, SIDES[0], held, &mut line.log);
    let mut voice = Voice::new(Codec::Pcmu);
    for _ in 0..FIVE {
        voice.say(&mut line, 0, Some(0.0));
        line.pass(FRAME);
    }
    let heard = levels(&line.session, 0);
    assert!(heard.len() >= 4 && heard.iter().all(Option::is_none), "held: {heard:?}");
}

#[test]
fn comfort_noise_has_the_level_in_its_packet() {
    let mut line = Line::changed([(Codec::Pcmu, Digits::Events); 2], |_, settings| {
        settings.negotiated.noise = Some(13)
    });
    let mut voice = Voice::new(Codec::Pcmu);
    voice.say(&mut line, 0, None);
    for n in 1..40 {
        line.pass(FRAME * 10);
        line.send(0, 13, false, n * 1_600, &[68], false);
    }
    let heard = levels(&line.session, 0);
    assert!(heard.len() >= 5 && near(&heard, -68.0), "{heard:?}");
}

impl Call {
    /// A packet of the browser's with its level in header extension 3, and one of another number
    /// before it.
    fn browser_says(&mut self, level: u8, n: u32) {
        let extension = [0xbe, 0xde, 0, 2, 0x10, 9, 0, 0x30, 0x80 | level, 0, 0, 0];
        let body = [&extension[..], &OPUS].concat();
        let mut datagram = rtp(111, false, (self.sequence, n * 960, 77), &body, 32);
        datagram[0] |= 0x10;
        self.sequence = self.sequence.wrapping_add(1);
        let keys = self.keys.as_mut().expect("secured");
        let len = keys.protect.rtp(&mut datagram, 12 + body.len()).expect("room");
        let datagram = &mut datagram[..len];
        self.session.receive(
            self.now,
            Port::Browser,
            BROWSER,
            self.browser,
            datagram,
            &mut self.log,
        );
        self.pass(FRAME);
    }
}

/// A browser and a trunk of Opus; the browser is to say its level in this header extension.
fn relayed(audio_level: Option<u8>) -> Call {
    let mut call = Call::connected(Codec::Opus, Codec::Opus);
    let mut agreed = settings(Codec::Opus, dtls_remote());
    agreed.negotiated.audio_level = audio_level;
    call.session.configure(call.now, BROWSER, agreed, &mut call.log);
    call
}

#[test]
fn a_browser_with_relayed_opus_reports_its_own_level_and_the_trunk_gets_no_extension() {
    let mut call = relayed(Some(3));
    (0..FIVE).for_each(|n| call.browser_says(30, n));
    (FIVE..2 * FIVE).for_each(|n| call.browser_says(127, n));
    let heard = levels(&call.session, 0);
    assert!(near(&heard[1..4], -30.0), "{heard:?}");
    assert!(heard.len() >= 9 && silent(&heard[6..]), "{heard:?}");
    let got = call.trunk_gets();
    assert_eq!(got.len() as u32, 2 * FIVE);
    for (_, packet, payload) in got {
        assert_eq!((packet.header_len, &payload[..]), (12, &OPUS[..]), "what was said stays here");
    }
    // Nothing was agreed, or another number: nobody knows what stands there.
    for other in [None, Some(2), Some(4)] {
        let mut call = relayed(other);
        (0..FIVE).for_each(|n| call.browser_says(30, n));
        let heard = levels(&call.session, 0);
        assert!(heard.len() >= 4 && heard.iter().all(Option::is_none), "{other:?}: {heard:?}");
    }
}

#[test]
fn the_next_process_knows_how_loud_it_was() {
    let mut line = Line::new([(Codec::Pcmu, Digits::Events); 2]);
    let mut voice = Voice::new(Codec::Pcmu);
    for _ in 0..FIVE {
        voice.say(&mut line, 0, Some(0.0));
        line.pass(FRAME);
    }
    let clocks = Clocks { boot: 1, uptime: Duration::from_secs(60) };
    let bytes = line.session.checkpoint(line.now, clocks).to_bytes();
    let snapshot = SessionSnapshot::from_bytes(&bytes).expect("ours");
    let next = Session::restore(snapshot, line.now, clocks, &identities().0).expect("fresh");
    let before = levels(&line.session, 0);
    assert!(before.len() >= 4 && near(&before, SINE_LEVEL), "{before:?}");
    assert_eq!(levels(&next, 0), before);
}
