//! What a call sounds like: the speech through a transcoding peer with packets lost on the way to
//! it, both ways, written as WAV files for an objective measure (`interop/rtpengine/quality.py`).

use crate::drive::{Driver, Load, drive};
use crate::peers::{Peer, Wired};
use std::path::Path;
use webtrunk::chance::Chance;
use webtrunk::codec::g711::Law;
use webtrunk::codec::{MAX_FRAME, NARROW, opus};
use webtrunk::rtp::Packet;

/// Packets lost of a hundred, in the runs.
const LOSSES: [u64; 3] = [0, 3, 10];
/// Samples of a 20 ms frame.
const FRAME: usize = 160;

/// One direction's packets as they came, by timestamp.
type Track = Vec<(u32, Vec<u8>)>;

/// Runs the speech once at each loss before the peer, and at each loss behind it, and leaves
/// `PEER-DIRECTION-LOSS.wav` in `folder`; `spoken` is what a browser says that knows of so much
/// loss.
pub(crate) fn record(
    peer: &mut dyn Peer,
    spoken: impl Fn(u8) -> Load,
    suffix: &str,
    folder: &Path,
) {
    let runs = LOSSES
        .into_iter()
        .map(|loss| (loss, 0))
        .chain(LOSSES.into_iter().filter(|l| *l > 0).map(|loss| (0, loss)));
    for (n, (before, behind)) in runs.enumerate() {
        let load = &spoken(before as u8).through(peer.name());
        let mut calls = [peer.call(900 + n, load)];
        let mut recording = Recording {
            load,
            before,
            behind,
            chance: Chance::new(0x9e37_79b9_7f4a_7c15),
            trunk: Track::new(),
            browser: Track::new(),
        };
        drive(&mut calls, load.length(), &mut recording);
        let path = |direction: &str, loss| {
            folder.join(format!("{}-{direction}-{loss}{suffix}.wav", peer.name()))
        };
        if behind == 0 {
            write(&path("to-trunk", before), &phone(recording.trunk));
            write(&path("to-browser", before), &page(recording.browser));
        } else {
            write(&path("at-browser", behind), &page(recording.browser));
        }
    }
}

/// Sends the speech both ways and keeps what comes out; every packet is lost with the same chance
/// in every run.
struct Recording<'a> {
    load: &'a Load,
    /// Packets lost of a hundred on the way to the peer, and from it to the browser.
    before: u64,
    behind: u64,
    chance: Chance,
    trunk: Track,
    browser: Track,
}

impl Recording<'_> {
    fn loses(&mut self, share: u64) -> bool {
        self.chance.below(100) < share
    }
}

impl Driver for Recording<'_> {
    fn send(&mut self, _: usize, call: &mut Wired) {
        // What begins a call arrives: the clocks of both ends are read from it.
        let begins = call.ticks < 5;
        let (browser, trunk) =
            (begins || !self.loses(self.before), begins || !self.loses(self.before));
        call.send_some(self.load, browser, trunk);
    }

    fn heard(&mut self, _: usize, call: &mut Wired, browser: bool, datagram: &mut [u8]) {
        let plain = match &mut call.unprotect {
            Some(unprotect) if browser => unprotect.rtp(datagram).ok(),
            _ => Some(datagram.len()),
        };
        let Some(datagram) = plain.and_then(|len| datagram.get(..len)) else { return };
        if let Some(packet) = Packet::parse(datagram, true) {
            if browser && self.browser.len() >= 5 && self.loses(self.behind) {
                return;
            }
            let track = if browser { &mut self.browser } else { &mut self.trunk };
            track.push((packet.timestamp, packet.payload(datagram).to_vec()));
        }
    }
}

/// A telephone: G.711, and where a frame is missing the last one again, softer each time.
fn phone(track: Track) -> Vec<i16> {
    let (mut pcm, mut last) = (Vec::new(), [0i16; FRAME]);
    for (at, payload) in in_order(track, 1) {
        while pcm.len() + FRAME / 2 < at {
            last.iter_mut().for_each(|s| *s /= 2);
            pcm.extend(last);
        }
        let mut frame = vec![0i16; payload.len()];
        Law::Mu.decode(&payload, &mut frame);
        if let Ok(whole) = <[i16; FRAME]>::try_from(frame.as_slice()) {
            last = whole;
        }
        pcm.extend(frame);
    }
    pcm
}

/// A page: Opus, what is missing taken from the next packet's redundancy or concealed.
fn page(track: Track) -> Vec<i16> {
    let (mut pcm, mut decoder) = (Vec::new(), opus::MonoDecoder::new(NARROW));
    let mut buf = [0i16; MAX_FRAME];
    for (at, payload) in in_order(track, 6) {
        while pcm.len() + FRAME / 2 < at {
            let next = (pcm.len() + FRAME + FRAME / 2 >= at).then_some(payload.as_slice());
            let n = decoder.conceal(next, FRAME, &mut buf).max(1);
            pcm.extend(&buf[..n]);
        }
        let n = decoder.decode(&payload, &mut buf).unwrap_or(0);
        pcm.extend(&buf[..n]);
    }
    pcm
}

/// Packets by the sample they begin at; `clock` is how many timestamps a sample has.
fn in_order(track: Track, clock: u32) -> Vec<(usize, Vec<u8>)> {
    let Some(first) = track.first().map(|(at, _)| *at) else { return Vec::new() };
    let mut placed: Vec<(usize, Vec<u8>)> =
        track.into_iter().map(|(at, p)| ((at.wrapping_sub(first) / clock) as usize, p)).collect();
    placed.sort_by_key(|(at, _)| *at);
    placed.dedup_by_key(|(at, _)| *at);
    placed
}

fn write(path: &Path, pcm: &[i16]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).expect("a file");
    pcm.iter().for_each(|s| writer.write_sample(*s).expect("written"));
    writer.finalize().expect("written");
}
