//! Opus through libopus at an API rate of 8 kHz (RFC 6716; the RTP clock stays 48 kHz, RFC 7587).

use super::{Codec, DecodeError, MAX_FRAME};
use audiopus::coder::{Decoder as OpusDecoder, Encoder as OpusEncoder};
use audiopus::{Application, Bitrate, Channels, MutSignals, SampleRate, Signal, packet::Packet};

/// Opus to 8 kHz mono.
pub struct Decoder(OpusDecoder);

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}

impl Decoder {
    /// A fresh decoder.
    pub fn new() -> Decoder {
        // libopus fails here only for arguments it does not know, or without memory.
        Decoder(OpusDecoder::new(SampleRate::Hz8000, Channels::Mono).expect("8 kHz mono is valid"))
    }

    /// Decodes one packet; returns samples.
    ///
    /// # Errors
    /// libopus refuses the packet.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut [i16; MAX_FRAME]) -> Result<usize, DecodeError> {
        let error = DecodeError(Codec::Opus);
        let packet = Packet::try_from(payload).map_err(|_| error)?;
        let out = MutSignals::try_from(&mut pcm[..]).map_err(|_| error)?;
        self.0.decode(Some(packet), out, false).map_err(|_| error)
    }

    /// Fills a gap of `samples`, from the next packet's in-band FEC if given, else by concealment.
    pub fn conceal(&mut self, next: Option<&[u8]>, samples: usize, pcm: &mut [i16; MAX_FRAME]) -> usize {
        // libopus conceals in steps of 2.5 ms.
        let samples = (samples / 20 * 20).max(20);
        let packet = next.and_then(|n| Packet::try_from(n).ok());
        let fec = packet.is_some();
        let Ok(out) = MutSignals::try_from(&mut pcm[..samples]) else { return 0 };
        self.0.decode(packet, out, fec).unwrap_or(0)
    }
}

/// 8 kHz mono to Opus.
pub struct Encoder(OpusEncoder);

impl Encoder {
    /// An encoder for telephone speech at `complexity` 0 to 10: 16 kbit/s with in-band FEC.
    pub fn new(complexity: u8) -> Encoder {
        let mut encoder =
            OpusEncoder::new(SampleRate::Hz8000, Channels::Mono, Application::Voip).expect("8 kHz mono is valid");
        // Each setter fails only on values out of range.
        let set = encoder
            .set_complexity(complexity.min(10))
            .and_then(|()| encoder.set_bitrate(Bitrate::BitsPerSecond(16_000)))
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
}
