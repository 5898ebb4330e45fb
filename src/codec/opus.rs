//! Opus through libopus at an API rate of 8 or 16 kHz (RFC 6716; the RTP clock stays 48 kHz, RFC
//! 7587).

use super::{Codec, DecodeError, MAX_FRAME, WIDE};
use audiopus::coder::{Decoder as OpusDecoder, Encoder as OpusEncoder};
use audiopus::{Application, Bitrate, Channels, MutSignals, SampleRate, Signal, packet::Packet};
use smallvec::SmallVec;
use std::ops::RangeInclusive;

/// Bits a second of speech of `rate`, 8000 or 16,000 samples a second.
///
/// What matters on a bad network is that libopus finds room for its copy of the frame before
/// (in-band FEC), and it does only from some 28,000 (8 kHz) or 40,000 (16 kHz) on. PESQ at 8 kHz
/// with 0, 3 and 10 % of packets lost: 4.39, 4.24, 4.04 at 32,000 and complexity 1; 4.30, 3.74,
/// 2.92 at 16,000 and 5, for half as much CPU again.
pub fn bits(rate: u32) -> u32 {
    if rate == WIDE { 48_000 } else { 32_000 }
}

/// libopus's complexity if nobody sets it. More is hardly heard: 4.39, 4.29, 4.09 at 5, for twice
/// the CPU.
pub const COMPLEXITY: u8 = 1;
/// The least Opus may be limited to (RFC 7587 §6.1).
const LEAST_BITS: u32 = 6_000;
/// The loss the encoder is configured for, percent. One is enough to have FEC; more takes its bits
/// from the frames that arrive, and is worth nothing by PESQ with up to 30 % lost. A peer that
/// limits our bits may need it to get FEC.
const EXPECTED: RangeInclusive<u8> = 1..=10;

fn sample_rate(rate: u32) -> SampleRate {
    if rate == WIDE { SampleRate::Hz16000 } else { SampleRate::Hz8000 }
}

/// Opus to mono PCM.
pub struct MonoDecoder {
    inner: OpusDecoder,
    /// Samples of 2.5 ms: what libopus conceals in steps of.
    step: usize,
}

impl MonoDecoder {
    /// A fresh decoder to PCM of `rate`.
    pub fn new(rate: u32) -> MonoDecoder {
        // libopus fails here only for arguments it does not know, or without memory.
        let inner =
            OpusDecoder::new(sample_rate(rate), Channels::Mono).expect("a rate it knows, mono");
        MonoDecoder { inner, step: rate as usize / 400 }
    }

    /// Decodes one packet; returns samples.
    ///
    /// # Errors
    /// libopus refuses the packet.
    pub fn decode(
        &mut self,
        payload: &[u8],
        pcm: &mut [i16; MAX_FRAME],
    ) -> Result<usize, DecodeError> {
        let error = DecodeError(Codec::Opus);
        let packet = Packet::try_from(payload).map_err(|_| error)?;
        let out = MutSignals::try_from(&mut pcm[..]).map_err(|_| error)?;
        self.inner.decode(Some(packet), out, false).map_err(|_| error)
    }

    /// Fills a gap of `samples`, from the next packet's in-band FEC if given, else by concealment.
    pub fn conceal(
        &mut self,
        next: Option<&[u8]>,
        samples: usize,
        pcm: &mut [i16; MAX_FRAME],
    ) -> usize {
        let samples = (samples / self.step * self.step).max(self.step);
        let packet = next.and_then(|n| Packet::try_from(n).ok());
        let fec = packet.is_some();
        let Ok(out) = MutSignals::try_from(&mut pcm[..samples]) else { return 0 };
        self.inner.decode(packet, out, fec).unwrap_or(0)
    }
}

/// Mono PCM to Opus.
pub(crate) struct MonoEncoder {
    inner: OpusEncoder,
    rate: u32,
    silence: Silence,
}

/// Loudest sample of digital silence: G.711 A-law has no zero.
const ZERO: u16 = 8;
/// Frames of digital silence until every further one is like the last: libopus's filters and its
/// noise have died away.
const SETTLED: u32 = 50;
/// The longest packet of silence: libopus makes some 8 bytes of it.
const LONGEST_SILENCE: usize = 64;

/// Digital silence, as of a telephone that is muted: once it has lasted, its packet is sent again
/// instead of made again, for an encoder spends half as much on nothing as on speech. A packet
/// stands alone (RFC 6716 §4.2.7.4: the first gain of each is coded independently), so a decoder
/// hears the same nothing.
#[derive(Default)]
struct Silence {
    frames: u32,
    /// The samples and the bytes of the last packet.
    samples: usize,
    packet: SmallVec<[u8; LONGEST_SILENCE]>,
}

impl Silence {
    /// Notes a frame that is to be encoded; the packet to send instead if it is more of the same.
    fn heard(&mut self, pcm: &[i16]) -> Option<&[u8]> {
        let silent = pcm.iter().all(|s| s.unsigned_abs() <= ZERO);
        self.frames =
            if silent && pcm.len() == self.samples { self.frames.saturating_add(1) } else { 0 };
        self.samples = pcm.len();
        (self.frames > SETTLED && !self.packet.is_empty()).then_some(&self.packet)
    }

    /// Notes what was made of it.
    fn made(&mut self, packet: &[u8]) {
        self.packet.clear();
        if self.frames == SETTLED && packet.len() <= LONGEST_SILENCE {
            self.packet.extend_from_slice(packet);
        }
    }
}

impl MonoEncoder {
    /// An encoder for speech at `complexity` 0 to 10 with in-band FEC, of [`bits`] a second.
    pub(crate) fn new(rate: u32, complexity: u8) -> MonoEncoder {
        let mut encoder = OpusEncoder::new(sample_rate(rate), Channels::Mono, Application::Voip)
            .expect("a rate it knows, mono");
        // Each setter fails only on values out of range.
        let set = encoder
            .set_complexity(complexity.min(10))
            .and_then(|()| encoder.set_signal(Signal::Voice))
            .and_then(|()| encoder.set_inband_fec(true));
        debug_assert!(set.is_ok());
        let mut encoder = MonoEncoder { inner: encoder, rate, silence: Silence::default() };
        encoder.limit_bits(None);
        encoder.expect_loss(0);
        encoder
    }

    /// The peer takes `most` bits a second on average, or any number.
    pub(crate) fn limit_bits(&mut self, most: Option<u32>) {
        let ours = bits(self.rate);
        let bits = most.map_or(ours, |most| most.clamp(LEAST_BITS, ours));
        let _ = self.inner.set_bitrate(Bitrate::BitsPerSecond(bits as i32));
    }

    /// Encodes one frame; returns bytes, 0 on a frame length Opus has not.
    pub(crate) fn encode(&mut self, pcm: &[i16], payload: &mut [u8]) -> usize {
        if let Some(packet) = self.silence.heard(pcm)
            && let Some(out) = payload.get_mut(..packet.len())
        {
            out.copy_from_slice(packet);
            return packet.len();
        }
        let n = self.inner.encode(pcm, payload).unwrap_or(0);
        self.silence.made(&payload[..n]);
        n
    }

    /// Sets the loss the encoder protects against, percent.
    pub(crate) fn expect_loss(&mut self, percent: u8) {
        let _ = self.inner.set_packet_loss_perc(percent.clamp(*EXPECTED.start(), *EXPECTED.end()));
    }

    /// Sets the complexity, 0 to 10.
    pub(crate) fn set_complexity(&mut self, complexity: u8) {
        let _ = self.inner.set_complexity(complexity.min(10));
    }
}

/// The library's own name and version, such as `libopus 1.3.1`.
pub fn library_version() -> &'static str {
    audiopus::version()
}
