//! Audio codecs: names, clock rates, and samples in and out.
//!
//! A bridge runs at the rate of its narrower side: 8 kHz wherever G.711 is, 16 kHz between Opus and
//! G.722. libopus and G.722 encode and decode at either rate themselves, so there is no resampler
//! on the call path.

pub(crate) mod concealment;
pub mod g711;
pub mod g722;
pub(crate) mod l16;
pub mod noise;
pub mod opus;
pub mod tones;

use concealment::Concealment;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Samples a second of narrowband PCM.
pub const NARROW: u32 = 8_000;
/// Samples a second of wideband PCM.
pub const WIDE: u32 = 16_000;
/// Samples of the longest packet we decode: 120 ms (Opus's own limit) of wideband.
pub const MAX_FRAME: usize = 1_920;

/// A codec we speak.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Codec {
    /// RFC 6716, 7587.
    Opus,
    /// At 16 kHz, with a clock of 8 (RFC 3551 §4.5.2).
    G722,
    /// G.711 mu-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// Linear, 16 bits, 8 kHz.
    L16,
}

impl Codec {
    /// The codec of this rtpmap encoding name and clock rate (RFC 3551, RFC 7587).
    pub(crate) fn from_rtpmap(name: &str, clock: u32) -> Option<Codec> {
        Codec::from_name(name).filter(|codec| codec.clock() == clock)
    }

    /// The codec of this name, in any case.
    pub fn from_name(name: &str) -> Option<Codec> {
        Codec::ALL.into_iter().find(|c| c.name().eq_ignore_ascii_case(name))
    }

    /// Every codec, best first; uncompressed last, for what it takes of a network.
    pub const ALL: [Codec; 5] = [Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma, Codec::L16];

    /// What browsers speak, best first (RFC 7874 §3, and G.722).
    pub const BROWSERS: [Codec; 4] = [Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma];

    /// Encoding name for a rtpmap.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::G722 => "G722",
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
            Codec::L16 => "L16",
        }
    }

    /// The RTP timestamp clock, Hz. G.722's is half its rate, by an old mistake that stays (RFC
    /// 3551 §4.5.2).
    pub fn clock(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            Codec::G722 | Codec::Pcmu | Codec::Pcma | Codec::L16 => 8_000,
        }
    }

    /// The channels its rtpmap names: Opus's are two whatever is sent (RFC 7587 §7).
    pub fn channels(self) -> u8 {
        if self == Codec::Opus { 2 } else { 1 }
    }

    /// The static payload type (RFC 3551), or the one we use for a dynamic one.
    pub fn default_payload_type(self) -> u8 {
        match self {
            Codec::Opus => 111,
            Codec::G722 => 9,
            Codec::Pcmu => 0,
            Codec::Pcma => 8,
            Codec::L16 => 97,
        }
    }

    /// The PCM rate of a bridge between this codec and `other`.
    pub fn bridge_rate(self, other: Codec) -> u32 {
        let wide = |c| matches!(c, Codec::Opus | Codec::G722);
        if wide(self) && wide(other) { WIDE } else { NARROW }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A packet that could not be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0} packet could not be decoded")]
pub struct DecodeError(pub Codec);

enum Decoding {
    Opus(opus::MonoDecoder),
    G711(g711::Law),
    G722(Box<g722::G722Decoder>),
    L16,
}

/// Decodes one codec to mono PCM, and fills gaps in it.
pub struct Decoder {
    codec: Codec,
    decoding: Decoding,
    /// Opus conceals losses itself.
    concealment: Option<Concealment>,
}

impl Decoder {
    /// A decoder for `codec` to PCM of `rate`, 8000 or 16,000 samples a second; G.711 and L16 have
    /// 8000 only.
    pub fn new(codec: Codec, rate: u32) -> Decoder {
        let decoding = match codec {
            Codec::Opus => Decoding::Opus(opus::MonoDecoder::new(rate)),
            Codec::Pcmu => Decoding::G711(g711::Law::Mu),
            Codec::Pcma => Decoding::G711(g711::Law::A),
            Codec::G722 => Decoding::G722(Box::new(g722::G722Decoder::new(rate == WIDE))),
            Codec::L16 => Decoding::L16,
        };
        Decoder {
            codec,
            decoding,
            concealment: (codec != Codec::Opus).then(|| Concealment::new(rate)),
        }
    }

    /// Decodes `payload` into `pcm`; returns how many samples.
    ///
    /// # Errors
    /// The payload is not of this codec, or longer than 120 ms.
    pub fn decode(
        &mut self,
        payload: &[u8],
        pcm: &mut [i16; MAX_FRAME],
    ) -> Result<usize, DecodeError> {
        let samples = match &mut self.decoding {
            Decoding::Opus(decoder) => return decoder.decode(payload, pcm),
            // 120 ms: two bytes a sample of L16, one of the others.
            Decoding::L16 if payload.len() <= MAX_FRAME => l16::decode(payload, pcm),
            Decoding::G711(law) if payload.len() <= MAX_FRAME / 2 => {
                law.decode(payload, pcm);
                payload.len()
            }
            Decoding::G722(decoder) if payload.len() <= MAX_FRAME / 2 => {
                decoder.decode(payload, pcm)
            }
            _ => return Err(DecodeError(self.codec)),
        };
        if let Some(concealment) = &mut self.concealment {
            concealment.heard(&mut pcm[..samples]);
        }
        Ok(samples)
    }

    /// Fills `samples` of a gap, at most [`MAX_FRAME`]: Opus from the next packet's in-band FEC if
    /// given, else by its own concealment, the others after G.711 appendix I. Returns how many were
    /// filled.
    pub fn conceal(
        &mut self,
        next: Option<&[u8]>,
        samples: usize,
        pcm: &mut [i16; MAX_FRAME],
    ) -> usize {
        let samples = samples.min(MAX_FRAME);
        match (&mut self.decoding, &mut self.concealment) {
            (Decoding::Opus(decoder), _) => decoder.conceal(next, samples, pcm),
            (_, Some(concealment)) => {
                concealment.fill(&mut pcm[..samples]);
                samples
            }
            (_, None) => 0,
        }
    }
}

enum Encoding {
    Opus(opus::MonoEncoder),
    G711(g711::Law),
    G722(Box<g722::G722Encoder>),
    L16,
}

/// Encodes mono PCM.
pub struct Encoder {
    /// What it makes.
    pub codec: Codec,
    /// Samples a second it takes.
    pub rate: u32,
    encoding: Encoding,
}

impl Encoder {
    /// An encoder for `codec` from PCM of `rate`, 8000 or 16,000 samples a second; G.711 and L16
    /// have 8000 only. `complexity` is libopus's 0 to 10.
    pub fn new(codec: Codec, rate: u32, complexity: u8) -> Encoder {
        let encoding = match codec {
            Codec::Opus => Encoding::Opus(opus::MonoEncoder::new(rate, complexity)),
            Codec::Pcmu => Encoding::G711(g711::Law::Mu),
            Codec::Pcma => Encoding::G711(g711::Law::A),
            Codec::G722 => Encoding::G722(Box::new(g722::G722Encoder::new(rate == WIDE))),
            Codec::L16 => Encoding::L16,
        };
        Encoder { codec, rate, encoding }
    }

    /// How long `samples` are in units of the codec's RTP clock.
    pub(crate) fn units(&self, samples: usize) -> u32 {
        (samples as u64 * u64::from(self.codec.clock()) / u64::from(self.rate)) as u32
    }

    /// Encodes one frame; returns the payload's length, 0 if nothing need be sent. Opus takes
    /// frames of 2.5, 5, 10, 20, 40 or 60 ms only.
    pub fn encode(&mut self, pcm: &[i16], payload: &mut [u8]) -> usize {
        match &mut self.encoding {
            Encoding::Opus(encoder) => encoder.encode(pcm, payload),
            Encoding::G711(law) => {
                law.encode(pcm, payload);
                pcm.len().min(payload.len())
            }
            Encoding::G722(encoder) => encoder.encode(pcm, payload),
            Encoding::L16 => l16::encode(pcm, payload),
        }
    }

    /// The peer takes `most` bits a second on average, or any number; for Opus only.
    pub fn limit_bits(&mut self, most: Option<u32>) {
        if let Encoding::Opus(encoder) = &mut self.encoding {
            encoder.limit_bits(most);
        }
    }

    /// Tells the encoder what the far side loses, 0 to 100 percent.
    pub(crate) fn expect_loss(&mut self, percent: u8) {
        if let Encoding::Opus(encoder) = &mut self.encoding {
            encoder.expect_loss(percent);
        }
    }

    /// Sets libopus's complexity, 0 to 10.
    pub(crate) fn set_complexity(&mut self, complexity: u8) {
        if let Encoding::Opus(encoder) = &mut self.encoding {
            encoder.set_complexity(complexity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_of_more_than_120_ms_is_not_decoded() {
        let mut pcm = [0; MAX_FRAME];
        for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::L16] {
            let whole = if codec == Codec::L16 { MAX_FRAME } else { MAX_FRAME / 2 };
            let mut decoder = Decoder::new(codec, if codec == Codec::G722 { WIDE } else { NARROW });
            assert!(decoder.decode(&vec![0; whole], &mut pcm).is_ok(), "{codec:?}");
            assert!(decoder.decode(&vec![0; whole + 2], &mut pcm).is_err(), "{codec:?}");
        }
    }
}
