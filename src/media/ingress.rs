//! Transcoding one direction: packets in order, gaps concealed, frames re-cut to the other side's length.

use crate::codec::{Codec, Decoder, Encoder, MAX_FRAME, PCM_RATE};
use crate::rtp::packet::{Packet, Unwrapper};

/// Packets held back for one that is late.
const WINDOW: usize = 3;
/// Longest gap that is concealed, packets; a longer one is a new start.
const MAX_CONCEAL: u64 = 10;

/// One packet put in order.
struct Held {
    extended: u64,
    packet: Packet,
    bytes: Vec<u8>,
}

/// What comes out of the window.
pub enum Ordered<'a> {
    Packet(Packet, &'a [u8]),
    /// This many packets are missing before the next one.
    Gap(u64),
}

/// A reorder window: packet driven, no timer.
#[derive(Default)]
pub struct Reorder {
    unwrapper: Unwrapper,
    expected: Option<u64>,
    held: Vec<Held>,
    spare: Vec<Vec<u8>>,
}

impl Reorder {
    /// Takes a packet; calls `deliver` for everything that is now in order.
    pub fn push(&mut self, packet: Packet, bytes: &[u8], mut deliver: impl FnMut(Ordered<'_>)) {
        let extended = self.unwrapper.extend(packet.sequence);
        let expected = *self.expected.get_or_insert(extended);
        if extended > expected + 1_000 || extended + 1_000 < expected {
            *self = Reorder { expected: Some(u64::from(packet.sequence) + (1 << 16) + 1), ..Reorder::default() };
            self.unwrapper.extend(packet.sequence);
            return deliver(Ordered::Packet(packet, bytes));
        }
        if extended < expected || self.held.iter().any(|h| h.extended == extended) {
            return;
        }
        if extended == expected {
            self.expected = Some(extended + 1);
            deliver(Ordered::Packet(packet, bytes));
            return self.drain(&mut deliver);
        }
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        let at = self.held.partition_point(|h| h.extended < extended);
        self.held.insert(at, Held { extended, packet, bytes: copy });
        if self.held.len() > WINDOW {
            let next = self.held[0].extended;
            deliver(Ordered::Gap(next - expected));
            self.expected = Some(next);
            self.drain(&mut deliver);
        }
    }

    fn drain(&mut self, deliver: &mut impl FnMut(Ordered<'_>)) {
        while self.held.first().is_some_and(|h| Some(h.extended) == self.expected) {
            let held = self.held.remove(0);
            self.expected = Some(held.extended + 1);
            deliver(Ordered::Packet(held.packet, &held.bytes));
            self.spare.push(held.bytes);
        }
    }
}

/// Samples of one outgoing frame of about `ptime` milliseconds.
fn frame_of(to: Codec, ptime: u32) -> usize {
    let ptime = match (to, ptime) {
        (Codec::Opus, 0..=19) => 10,
        (Codec::Opus, 20..=39) => 20,
        (Codec::Opus, 40..=59) => 40,
        (_, p) => p.clamp(10, 60) / 10 * 10,
    };
    (PCM_RATE * ptime / 1_000) as usize
}

/// PCM from one codec to frames of another.
pub struct Transcoder {
    from: Codec,
    pub to: Codec,
    decoder: Decoder,
    encoder: Encoder,
    /// Samples per outgoing frame.
    frame: usize,
    pcm: [i16; MAX_FRAME],
    pending: Vec<i16>,
    last: Vec<i16>,
    /// Input timestamp expected next, to notice silence suppression.
    expected: Option<u32>,
    gap: u64,
    /// Timestamp units of silence to skip before the next frame, in the outgoing clock.
    skipped: u32,
}

impl Transcoder {
    /// `ptime` in milliseconds of outgoing frames; Opus takes 10, 20, 40 or 60.
    pub fn new(from: Codec, to: Codec, ptime: u32, complexity: u8) -> Transcoder {
        let frame = frame_of(to, ptime);
        Transcoder {
            from,
            to,
            decoder: Decoder::new(from),
            encoder: Encoder::new(to, complexity),
            frame,
            pcm: [0; MAX_FRAME],
            pending: Vec::with_capacity(2 * MAX_FRAME),
            last: Vec::with_capacity(MAX_FRAME),
            expected: None,
            gap: 0,
            skipped: 0,
        }
    }

    /// Whether this transcoder serves the given plan.
    pub fn fits(&self, from: Codec, to: Codec, ptime: u32) -> bool {
        (self.from, self.to) == (from, to) && self.frame == frame_of(to, ptime)
    }

    /// Notes that packets are missing before the next one.
    pub fn note_gap(&mut self, packets: u64) {
        self.gap = packets;
    }

    /// Takes a packet's payload; `emit` gets each outgoing payload with the silence before it
    /// and its own length, both in timestamp units of the outgoing clock.
    pub fn packet(&mut self, timestamp: u32, payload: &[u8], mut emit: impl FnMut(u32, u32, &[u8])) {
        let clock = self.from.clock();
        let gap = std::mem::take(&mut self.gap);
        if let Some(expected) = self.expected {
            let ahead = timestamp.wrapping_sub(expected);
            let ahead_samples = (u64::from(ahead) * u64::from(PCM_RATE) / u64::from(clock)) as usize;
            if ahead < 1 << 31 && ahead_samples > 0 {
                if (1..=MAX_CONCEAL).contains(&gap) {
                    self.conceal(ahead_samples.min(MAX_FRAME), payload, &mut emit);
                } else {
                    // Silence suppression or a long loss: time passes, nothing is sent.
                    self.skip(ahead_samples);
                }
            }
        }
        let Ok(samples) = self.decoder.decode(payload, &mut self.pcm) else { return };
        self.expected = Some(timestamp.wrapping_add(samples as u32 * (clock / PCM_RATE)));
        self.last.clear();
        self.last.extend_from_slice(&self.pcm[..samples]);
        self.pending.extend_from_slice(&self.pcm[..samples]);
        self.flush(&mut emit);
    }

    fn conceal(&mut self, samples: usize, next: &[u8], emit: &mut impl FnMut(u32, u32, &[u8])) {
        // In-band FEC of the next packet holds the last frame of the gap only.
        let with_fec = samples.min(160);
        for (fec, part) in [(false, samples - with_fec), (true, with_fec)] {
            if part > 0 {
                let n = self.decoder.conceal(fec.then_some(next), &self.last, part, &mut self.pcm);
                self.pending.extend_from_slice(&self.pcm[..n]);
            }
        }
        self.flush(emit);
    }

    fn skip(&mut self, samples: usize) {
        self.pending.clear();
        self.skipped = self.skipped.wrapping_add(samples as u32 * (self.to.clock() / PCM_RATE));
    }

    fn flush(&mut self, emit: &mut impl FnMut(u32, u32, &[u8])) {
        let step = self.frame as u32 * (self.to.clock() / PCM_RATE);
        let mut payload = [0u8; 1_000];
        let mut done = 0;
        while self.pending.len() - done >= self.frame {
            let n = self.encoder.encode(&self.pending[done..done + self.frame], &mut payload);
            done += self.frame;
            if n > 0 {
                emit(std::mem::take(&mut self.skipped), step, &payload[..n]);
            }
        }
        self.pending.drain(..done);
    }

    /// The loss the far side reports, percent.
    pub fn expect_loss(&mut self, percent: u8) {
        self.encoder.expect_loss(percent);
    }
}
