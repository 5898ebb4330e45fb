//! Opus through libopus at an API rate of 8 or 16 kHz (RFC 6716; the RTP clock stays 48 kHz, RFC 7587).

use super::{Codec, DecodeError, MAX_FRAME, WIDE};
use audiopus::coder::{Decoder as OpusDecoder, Encoder as OpusEncoder};
use audiopus::{Application, Bitrate, Channels, MutSignals, SampleRate, Signal, packet::Packet};

fn sample_rate(rate: u32) -> SampleRate {
    if rate == WIDE { SampleRate::Hz16000 } else { SampleRate::Hz8000 }
}

/// Opus to mono PCM.
pub struct Decoder {
    inner: OpusDecoder,
    /// Samples of 2.5 ms: what libopus conceals in steps of.
    step: usize,
}

impl Decoder {
    /// A fresh decoder to PCM of `rate`.
    pub fn new(rate: u32) -> Decoder {
        // libopus fails here only for arguments it does not know, or without memory.
        let inner = OpusDecoder::new(sample_rate(rate), Channels::Mono).expect("a rate it knows, mono");
        Decoder { inner, step: rate as usize / 400 }
    }

    /// Decodes one packet; returns samples.
    ///
    /// # Errors
    /// libopus refuses the packet.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut [i16; MAX_FRAME]) -> Result<usize, DecodeError> {
        let error = DecodeError(Codec::Opus);
        let packet = Packet::try_from(payload).map_err(|_| error)?;
        let out = MutSignals::try_from(&mut pcm[..]).map_err(|_| error)?;
        self.inner.decode(Some(packet), out, false).map_err(|_| error)
    }

    /// Fills a gap of `samples`, from the next packet's in-band FEC if given, else by concealment.
    pub fn conceal(&mut self, next: Option<&[u8]>, samples: usize, pcm: &mut [i16; MAX_FRAME]) -> usize {
        let samples = (samples / self.step * self.step).max(self.step);
        let packet = next.and_then(|n| Packet::try_from(n).ok());
        let fec = packet.is_some();
        let Ok(out) = MutSignals::try_from(&mut pcm[..samples]) else { return 0 };
        self.inner.decode(packet, out, fec).unwrap_or(0)
    }
}

/// Mono PCM to Opus.
pub struct Encoder(OpusEncoder);

impl Encoder {
    /// An encoder for speech at `complexity` 0 to 10 with in-band FEC: 16 kbit/s narrowband, 24 wideband
    /// (RFC 7587 §3.1.1: speech is best at 8 to 12, and 16 to 20; FEC needs its share).
    pub fn new(rate: u32, complexity: u8) -> Encoder {
        let mut encoder =
            OpusEncoder::new(sample_rate(rate), Channels::Mono, Application::Voip).expect("a rate it knows, mono");
        let bits = if rate == WIDE { 24_000 } else { 16_000 };
        // Each setter fails only on values out of range.
        let set = encoder
            .set_complexity(complexity.min(10))
            .and_then(|()| encoder.set_bitrate(Bitrate::BitsPerSecond(bits)))
            .and_then(|()| encoder.set_signal(Signal::Voice))
            .and_then(|()| encoder.set_inband_fec(true))
            .and_then(|()| encoder.set_packet_loss_perc(5));
        debug_assert!(set.is_ok());
        Encoder(encoder)
    }

    /// Encodes one frame; returns bytes, 0 on a frame length Opus has not.
    pub fn encode(&mut self, pcm: &[i16], payload: &mut [u8]) -> usize {
        self.0.encode(pcm, payload).unwrap_or(0)
    }

    /// Sets the loss the encoder protects against, percent.
    pub fn expect_loss(&mut self, percent: u8) {
        let _ = self.0.set_packet_loss_perc(percent.min(30));
    }

    /// Sets the complexity, 0 to 10.
    pub fn set_complexity(&mut self, complexity: u8) {
        let _ = self.0.set_complexity(complexity.min(10));
    }
}

/// The library's own name and version, such as `libopus 1.3.1`.
pub fn library_version() -> &'static str {
    audiopus::version()
}
