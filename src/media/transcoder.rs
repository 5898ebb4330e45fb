//! One direction of a bridge from packets to PCM frames of the other side's length: decoded, gaps
//! concealed, re-cut.

use super::loudness;
use crate::codec::tones::{Detector, ToneEvent};
use crate::codec::{Codec, Decoder, MAX_FRAME, noise};

/// Longest gap that is concealed, packets; a longer one is a new start.
const MAX_CONCEAL: u64 = 10;
/// Milliseconds of the newest gap that in-band FEC may hold.
const FEC: usize = 20;

/// Milliseconds of one outgoing frame of about `ptime`: Opus has 10, 20, 40 and 60 only.
pub(crate) fn frame_ms(to: Codec, ptime: u32) -> u32 {
    match (to, ptime) {
        (Codec::Opus, 0..=19) => 10,
        (Codec::Opus, 20..=39) => 20,
        (Codec::Opus, 40..=59) => 40,
        (_, p) => p.clamp(10, 60) / 10 * 10,
    }
}

/// What a packet's payload turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    Speech,
    /// The source is silent from here on and will send little (Opus DTX); the level, -dBov.
    Silence(u8),
}

/// Takes what a transcoder makes.
pub(crate) trait Frames {
    /// A frame of PCM, with the silence before it in samples.
    fn frame(&mut self, silence: u32, pcm: &[i16]);
    /// Decoded sound as it came, if its packets do not show how loud it is.
    fn heard(&mut self, pcm: &[i16]);
    /// A digit heard in band.
    fn digit(&mut self, heard: ToneEvent);
}

/// Packets of one codec to PCM frames for another.
pub(crate) struct Transcoder {
    from: Codec,
    to: Codec,
    /// Samples a second of the PCM.
    pub rate: u32,
    decoder: Decoder,
    /// Samples of an outgoing frame.
    frame: usize,
    pcm: [i16; MAX_FRAME],
    pending: Vec<i16>,
    /// Input timestamp expected next, to notice silence suppression.
    expected: Option<u32>,
    gap: u64,
    /// Samples of silence before the next frame.
    skipped: u32,
    /// Listens for digits, which are then not passed on as sound.
    detector: Option<Detector>,
}

impl Transcoder {
    /// `ptime` in milliseconds of outgoing frames; `listen`: digits in band are recognised.
    pub(crate) fn new(from: Codec, to: Codec, ptime: u32, listen: bool) -> Transcoder {
        let rate = from.bridge_rate(to);
        Transcoder {
            from,
            to,
            rate,
            decoder: Decoder::new(from, rate),
            frame: (rate / 1_000 * frame_ms(to, ptime)) as usize,
            pcm: [0; MAX_FRAME],
            pending: Vec::with_capacity(MAX_FRAME),
            expected: None,
            gap: 0,
            skipped: 0,
            detector: listen.then(|| Detector::new(rate)),
        }
    }

    /// Whether this transcoder serves the given plan.
    pub(crate) fn fits(&self, from: Codec, to: Codec, ptime: u32, listen: bool) -> bool {
        let frame = (self.rate / 1_000 * frame_ms(to, ptime)) as usize;
        (self.from, self.to, self.frame, self.detector.is_some()) == (from, to, frame, listen)
    }

    /// The source starts again: nothing is missing before its next packet.
    pub(crate) fn restart(&mut self) {
        (self.expected, self.gap, self.skipped) = (None, 0, 0);
    }

    /// Notes that packets are missing before the next one.
    pub(crate) fn note_gap(&mut self, packets: u64) {
        self.gap = packets;
    }

    /// Takes a packet's payload; `out` gets each frame that is whole.
    pub(crate) fn packet(&mut self, timestamp: u32, payload: &[u8], out: &mut impl Frames) -> Said {
        let (clock, rate) = (u64::from(self.from.clock()), u64::from(self.rate));
        let gap = std::mem::take(&mut self.gap);
        if let Some(expected) = self.expected {
            let ahead = timestamp.wrapping_sub(expected);
            let samples = (u64::from(ahead) * rate / clock) as usize;
            if ahead < 1 << 31 && samples > 0 {
                if (1..=MAX_CONCEAL).contains(&gap) {
                    self.conceal(samples.min(MAX_FRAME), payload, out);
                } else {
                    // Silence suppression or a long loss.
                    self.skip(samples);
                }
            }
        }
        let Ok(samples) = self.decoder.decode(payload, &mut self.pcm) else { return Said::Speech };
        self.expected = Some(timestamp.wrapping_add((samples as u64 * clock / rate) as u32));
        if !loudness::shows(self.from) {
            out.heard(&self.pcm[..samples]);
        }
        // RFC 6716 §2.1.9: a packet of its first byte only (two with a frame count) is
        // discontinuous transmission.
        if self.from == Codec::Opus && payload.len() <= 2 {
            self.skip(samples);
            return Said::Silence(noise::level(&self.pcm[..samples]));
        }
        self.listen(samples, out);
        self.pending.extend_from_slice(&self.pcm[..samples]);
        self.flush(out);
        Said::Speech
    }

    /// Time passes, nothing is sent.
    fn skip(&mut self, samples: usize) {
        self.pending.clear();
        self.skipped = self.skipped.wrapping_add(samples as u32);
    }

    fn listen(&mut self, samples: usize, out: &mut impl Frames) {
        let Some(detector) = &mut self.detector else { return };
        let before = detector.is_tone();
        detector.push(&self.pcm[..samples], |heard| out.digit(heard));
        if before || detector.is_tone() {
            self.pcm[..samples].fill(0);
        }
    }

    fn conceal(&mut self, samples: usize, next: &[u8], out: &mut impl Frames) {
        // In-band FEC of the next packet holds the last frame of the gap only.
        let with_fec = samples.min(self.rate as usize / 1_000 * FEC);
        for (fec, part) in [(false, samples - with_fec), (true, with_fec)] {
            if part > 0 {
                let n = self.decoder.conceal(fec.then_some(next), part, &mut self.pcm);
                self.pending.extend_from_slice(&self.pcm[..n]);
            }
        }
        self.flush(out);
    }

    fn flush(&mut self, out: &mut impl Frames) {
        let mut done = 0;
        while self.pending.len() - done >= self.frame {
            out.frame(std::mem::take(&mut self.skipped), &self.pending[done..done + self.frame]);
            done += self.frame;
        }
        self.pending.drain(..done);
    }
}
