//! Digits from any way to any other, under burst loss: none lost, none doubled.

use crate::lab::*;
use std::time::Duration;
use webtrunk::codec::tones::{self, Detector, ToneEvent};
use webtrunk::codec::{Codec, Encoder, NARROW, g711::Law};
use webtrunk::media::Digits;
use webtrunk::media::session::SessionEvent;
use webtrunk::rtp::event::TelephoneEvent;

const FRAME: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    /// telephone-events beside G.711, and beside Opus.
    Event8,
    Event48,
    Info,
    Tone,
}

const WAYS: [Way; 4] = [Way::Event8, Way::Event48, Way::Info, Way::Tone];

impl Way {
    fn end(self) -> (Codec, Digits) {
        match self {
            Way::Event8 => (Codec::Pcmu, Digits::Events),
            Way::Event48 => (Codec::Opus, Digits::Events),
            Way::Info => (Codec::Pcmu, Digits::Signalled),
            Way::Tone => (Codec::Pcmu, Digits::Tones),
        }
    }
    /// Of audio and of events.
    fn payload_types(self) -> (u8, u8) {
        if self == Way::Event48 { (111, 110) } else { (0, 101) }
    }
    fn clock(self) -> u32 {
        self.end().0.clock()
    }
}

/// Loss in bursts of one to five packets, three in ten on average.
struct Bursts {
    chance: Chance,
    bad: u64,
    good: u64,
}

impl Bursts {
    fn new(seed: u64) -> Bursts {
        Bursts { chance: Chance::new(seed), bad: 0, good: 3 }
    }
    fn lose(&mut self) -> bool {
        if self.good > 0 {
            self.good -= 1;
            return false;
        }
        if self.bad == 0 {
            self.bad = 1 + self.chance.below(5);
        }
        self.bad -= 1;
        if self.bad == 0 {
            self.good = 3 + self.chance.below(9);
        }
        true
    }
}

/// The far side's ear: what it makes of what it gets.
struct Ear {
    way: Way,
    digits: Vec<u8>,
    /// Timestamps of events it knows.
    last: Option<u32>,
    detector: Detector,
    audio: Option<u32>,
}

impl Ear {
    fn new(way: Way) -> Ear {
        Ear { way, digits: Vec::new(), last: None, detector: Detector::new(NARROW), audio: None }
    }

    fn hear(&mut self, line: &mut Line, loss: &mut Bursts) {
        for event in std::mem::take(&mut line.log.events) {
            if let SessionEvent::Digit { event, .. } = event {
                self.digits.push(event);
            }
        }
        for (packet, payload) in line.got(1) {
            if self.way == Way::Tone {
                self.listen(packet.timestamp, &payload);
            } else if packet.payload_type == self.way.payload_types().1 && !loss.lose() {
                let event = TelephoneEvent::parse(&payload).expect("an event");
                let newer = self.last.is_none_or(|last| {
                    packet.timestamp != last && packet.timestamp.wrapping_sub(last) < 1 << 31
                });
                if newer {
                    self.last = Some(packet.timestamp);
                    self.digits.push(event.event);
                }
            }
        }
    }

    fn listen(&mut self, timestamp: u32, payload: &[u8]) {
        let missing = self.audio.map_or(0, |at| timestamp.wrapping_sub(at)).min(8_000);
        self.audio = Some(timestamp.wrapping_add(payload.len() as u32));
        let mut pcm = vec![0i16; missing as usize + payload.len()];
        Law::Mu.decode(payload, &mut pcm[missing as usize..]);
        self.detector.push(&pcm, |heard| {
            if let ToneEvent::Pressed(digit) = heard {
                self.digits.push(digit);
            }
        });
    }
}

/// The near side's finger.
struct Finger {
    way: Way,
    timestamp: u32,
    silence: Vec<u8>,
}

impl Finger {
    fn new(way: Way) -> Finger {
        let mut payload = [0u8; 400];
        let n = Encoder::new(way.end().0, NARROW, 0).encode(&[0; 160], &mut payload);
        Finger { way, timestamp: 5_000, silence: payload[..n].to_vec() }
    }

    /// Presses for `frames`, then pauses.
    fn press(
        &mut self,
        line: &mut Line,
        ear: &mut Ear,
        digit: u8,
        frames: u32,
        pause: u32,
        loss: &mut [Bursts; 2],
    ) {
        let step = self.way.clock() / 50;
        let begin = self.timestamp;
        if self.way == Way::Info {
            line.session.digit(SIDES[1], digit, FRAME * frames);
        }
        for n in 0..frames + pause {
            let (audio, events) = self.way.payload_types();
            let event = matches!(self.way, Way::Event8 | Way::Event48) && n < frames + 2;
            if event {
                let end = n + 1 >= frames;
                let duration = ((n + 1).min(frames) * step).min(0xffff) as u16;
                let report = TelephoneEvent { event: digit, end, volume: 10, duration };
                let lost = loss[0].lose();
                line.send(0, events, n == 0, begin, &report.to_bytes(), lost);
            } else if self.way == Way::Tone && n < frames {
                let mut pcm = [0i16; 160];
                tones::make(digit, n as usize * 160, NARROW, &mut pcm);
                let mut payload = [0u8; 160];
                Law::Mu.encode(&pcm, &mut payload);
                line.send(0, audio, false, self.timestamp, &payload, false);
            } else {
                let lost = self.way != Way::Tone && loss[0].lose();
                line.send(0, audio, false, self.timestamp, &self.silence, lost);
            }
            self.timestamp = self.timestamp.wrapping_add(step);
            line.pass(FRAME);
            ear.hear(line, &mut loss[1]);
        }
    }
}

fn cell(from: Way, to: Way, count: u32) {
    let mut line = Line::new([from.end(), to.end()]);
    let (mut finger, mut ear) = (Finger::new(from), Ear::new(to));
    let mut loss = [Bursts::new(0x1234), Bursts::new(0x9876)];
    let mut chance = Chance::new(0xd161 + count as u64);
    let mut pressed = Vec::new();
    for _ in 0..count {
        let digit = chance.below(16) as u8;
        pressed.push(digit);
        let (frames, pause) = (5 + chance.below(8) as u32, 7 + chance.below(6) as u32);
        finger.press(&mut line, &mut ear, digit, frames, pause, &mut loss);
    }
    for _ in 0..50 {
        line.pass(FRAME);
        ear.hear(&mut line, &mut loss[1]);
    }
    let differs = pressed.iter().zip(&ear.digits).position(|(a, b)| a != b);
    assert!(
        ear.digits == pressed,
        "{from:?} to {to:?}: {} of {}, first difference at {differs:?}",
        ear.digits.len(),
        pressed.len()
    );
}

#[test]
fn ten_thousand_digits_under_burst_loss_get_through_every_cell_without_sound() {
    for from in [Way::Event8, Way::Event48, Way::Info] {
        for to in [Way::Event8, Way::Event48, Way::Info] {
            if (from, to) != (Way::Info, Way::Info) {
                cell(from, to, 10_000);
            }
        }
    }
}

#[test]
fn digits_get_through_every_cell_with_sound() {
    for from in WAYS {
        for to in WAYS {
            if from == Way::Tone || to == Way::Tone {
                cell(from, to, 600);
            }
        }
    }
}

#[test]
fn a_long_press_is_one_press_in_any_clock() {
    // Five seconds at 48 kHz do not fit a duration of 16 bits: both sides say it in segments (RFC
    // 4733 §2.5.1.3).
    let mut line = Line::new([Way::Event48.end(), Way::Event8.end()]);
    let mut out = Vec::new();
    for n in 0..250u32 {
        let units = (n + 1) * 960;
        let (segment, duration) = (units / 0x1_0000, units - units / 0x1_0000 * 0xffff);
        let report = TelephoneEvent {
            event: 4,
            end: n == 249,
            volume: 10,
            duration: duration.min(0xffff) as u16,
        };
        line.send(0, 110, n == 0, segment * 0xffff, &report.to_bytes(), false);
        line.pass(FRAME);
        out.extend(line.got(1));
    }
    line.pass(Duration::from_secs(1));
    out.extend(line.got(1));
    let last = TelephoneEvent::parse(&out.last().expect("events").1).expect("an event");
    assert!(out.iter().all(|(p, _)| p.timestamp == out[0].0.timestamp), "one press");
    assert!(last.end && (39_000..=40_200).contains(&last.duration), "{last:?}");

    let mut line = Line::new([Way::Event8.end(), Way::Event48.end()]);
    line.session.digit(SIDES[1], 9, Duration::from_secs(5));
    line.pass(Duration::from_secs(6));
    let out = line.got(1);
    let starts: Vec<u32> =
        out.iter().map(|(p, _)| p.timestamp.wrapping_sub(out[0].0.timestamp)).collect();
    assert!(starts.is_sorted() && starts.iter().all(|s| s % 0xffff == 0));
    assert_eq!(out.iter().filter(|(p, _)| p.marker).count(), 1);
    let last = TelephoneEvent::parse(&out.last().expect("events").1).expect("an event");
    let lasted = starts.last().expect("some") + u32::from(last.duration);
    assert!(last.end && lasted == 240_000, "{lasted}");
    assert_eq!(out.iter().filter(|(_, p)| p[1] & 0x80 != 0).count(), 3, "three ends");
}

#[test]
fn a_peer_without_events_hears_digits_as_tones() {
    let mut line = Line::new([Way::Event48.end(), Way::Event8.end()]);
    let mut settings = line.settings(1);
    settings.negotiated.events = Default::default();
    line.session.configure(line.now, SIDES[1], settings, &mut line.log);
    line.session.digit(SIDES[1], 7, Duration::from_millis(100));
    line.pass(Duration::from_millis(300));
    let mut ear = Ear::new(Way::Tone);
    ear.hear(&mut line, &mut Bursts::new(1));
    assert_eq!(ear.digits, [7]);
}

#[test]
fn sound_stops_while_a_digit_is_sent_and_resumes_without_a_jump_back() {
    let mut line = Line::new([Way::Event8.end(), Way::Event8.end()]);
    let (mut out, mut n) = (Vec::new(), 0);
    let mut speak = |line: &mut Line, frames: u32| {
        let mut got = Vec::new();
        for _ in 0..frames {
            line.send(0, 0, false, n * 160, &[0x55; 160], false);
            n += 1;
            line.pass(FRAME);
            got.extend(line.got(1));
        }
        got
    };
    out.extend(speak(&mut line, 10));
    line.session.digit(SIDES[1], 3, Duration::from_millis(100));
    out.extend(speak(&mut line, 30));
    let kinds: Vec<u8> = out.iter().map(|(p, _)| p.payload_type).collect();
    let (first, last) =
        (kinds.iter().position(|k| *k == 101), kinds.iter().rposition(|k| *k == 101));
    let (first, last) = (first.expect("a digit"), last.expect("a digit"));
    assert!(kinds[first..=last].iter().all(|k| *k == 101), "nothing in between: {kinds:?}");
    for pair in out.windows(2) {
        assert_eq!(pair[1].0.sequence, pair[0].0.sequence.wrapping_add(1));
        assert!(pair[1].0.timestamp.wrapping_sub(pair[0].0.timestamp) < 8_000);
    }
    assert!(out[last + 1].0.marker, "what follows a digit begins anew");
}

#[test]
fn a_flood_of_events_is_bounded() {
    let mut line = Line::new([Way::Event8.end(), Way::Event8.end()]);
    for n in 0..10_000u32 {
        let report = TelephoneEvent { event: (n % 16) as u8, end: true, volume: 10, duration: 800 };
        line.send(0, 101, true, n * 160, &report.to_bytes(), false);
    }
    line.pass(Duration::from_secs(600));
    assert!(line.got(1).len() < 64 * 10, "64 digits wait at most");
}

#[test]
fn a_flood_of_events_is_signalled_as_a_persons_digits() {
    let mut line = Line::new([Way::Event8.end(), Way::Info.end()]);
    let mut signalled = 0;
    for second in 1..=3u32 {
        for n in 0..2_000u32 {
            let event = (n % 16) as u8;
            let report = TelephoneEvent { event, end: true, volume: 10, duration: 800 };
            line.send(0, 101, true, (second * 10_000 + n) * 160, &report.to_bytes(), false);
        }
        line.pass(Duration::from_secs(1));
        let events = std::mem::take(&mut line.log.events);
        signalled += events.iter().filter(|e| matches!(e, SessionEvent::Digit { .. })).count();
        assert_eq!(signalled, 50 * second as usize);
    }
}

fn wav_files(folder: &std::path::Path, out: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of speech") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            wav_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "wav") {
            out.push(path);
        }
    }
}

#[test]
#[ignore = "needs an hour of speech: WEBTRUNK_SPEECH names a folder of 8 kHz WAV files, as `make test` has it"]
fn no_digit_is_heard_in_an_hour_of_speech() {
    let folder = std::env::var_os("WEBTRUNK_SPEECH").expect("WEBTRUNK_SPEECH names a folder");
    let mut files = Vec::new();
    wav_files(folder.as_ref(), &mut files);
    let mut samples = 0;
    let mut taken = Vec::new();
    for file in files {
        let pcm: Vec<i16> = hound::WavReader::open(&file)
            .expect("a WAV file")
            .into_samples()
            .map(|s| s.expect("a sample"))
            .collect();
        samples += pcm.len();
        let mut detector = Detector::new(NARROW);
        detector.push(&pcm, |heard| taken.push((file.clone(), heard)));
    }
    let minutes = samples / 8_000 / 60;
    assert!(minutes >= 60, "only {minutes} minutes of speech");
    assert!(taken.is_empty(), "in {minutes} minutes: {taken:?}");
}

#[test]
fn a_digit_lasts_six_seconds_at_most() {
    let mut line = Line::new([Way::Event8.end(), Way::Event8.end()]);
    line.session.digit(SIDES[1], 9, Duration::from_secs(60));
    line.pass(Duration::from_secs(10));
    let out = line.got(1);
    assert!(out.iter().all(|(p, _)| p.timestamp == out[0].0.timestamp), "one press");
    let last = TelephoneEvent::parse(&out.last().expect("events").1).expect("an event");
    assert!(last.end && last.duration == 48_000, "{last:?}");
}
