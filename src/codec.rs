//! Audio codecs: names, clock rates, and samples in and out.
//!
//! Everything on the call path runs at 8 kHz narrowband: libopus encodes and decodes at 8 kHz itself,
//! so there is no resampler between Opus and G.711.

pub mod g711;
pub mod opus;

use std::fmt;

/// Samples a second of every PCM buffer on the call path.
pub const PCM_RATE: u32 = 8_000;
/// Longest packet we decode: 120 ms (Opus's own limit).
pub const MAX_FRAME: usize = 960;

/// A codec we speak.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Codec {
    Opus,
    Pcmu,
    Pcma,
}

impl Codec {
    /// The codec of this rtpmap encoding name and clock rate (RFC 3551, RFC 7587).
    pub fn from_rtpmap(name: &str, clock: u32) -> Option<Codec> {
        Codec::from_name(name).filter(|codec| codec.clock() == clock)
    }

    /// The codec of this name, in any case.
    pub fn from_name(name: &str) -> Option<Codec> {
        Codec::ALL.into_iter().find(|c| c.name().eq_ignore_ascii_case(name))
    }

    /// Every codec, best first.
    pub const ALL: [Codec; 3] = [Codec::Opus, Codec::Pcmu, Codec::Pcma];

    /// Encoding name for a rtpmap.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
        }
    }

    /// The RTP timestamp clock, Hz.
    pub fn clock(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            Codec::Pcmu | Codec::Pcma => 8_000,
        }
    }

    /// The static payload type (RFC 3551), or the one we use for a dynamic one.
    pub fn default_payload_type(self) -> u8 {
        match self {
            Codec::Opus => 111,
            Codec::Pcmu => 0,
            Codec::Pcma => 8,
        }
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

/// Decodes one codec to 8 kHz mono PCM.
pub enum Decoder {
    Opus(opus::Decoder),
    G711(g711::Law),
}

impl Decoder {
    /// A decoder for `codec`.
    pub fn new(codec: Codec) -> Decoder {
        match codec {
            Codec::Opus => Decoder::Opus(opus::Decoder::new()),
            Codec::Pcmu => Decoder::G711(g711::Law::Mu),
            Codec::Pcma => Decoder::G711(g711::Law::A),
        }
    }

    /// Decodes `payload` into `pcm`; returns how many samples.
    ///
    /// # Errors
    /// The payload is not of this codec, or longer than 120 ms.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut [i16; MAX_FRAME]) -> Result<usize, DecodeError> {
        match self {
            Decoder::Opus(decoder) => decoder.decode(payload, pcm),
            Decoder::G711(law) => {
                let out = pcm.get_mut(..payload.len()).ok_or(DecodeError(Codec::Pcmu))?;
                law.decode(payload, out);
                Ok(payload.len())
            }
        }
    }

    /// Fills `samples` of a gap: Opus conceals, with the next packet's in-band FEC where given; G.711 fades.
    pub fn conceal(&mut self, next: Option<&[u8]>, last: &[i16], samples: usize, pcm: &mut [i16; MAX_FRAME]) -> usize {
        let samples = samples.min(MAX_FRAME);
        match self {
            Decoder::Opus(decoder) => decoder.conceal(next, samples, pcm),
            Decoder::G711(_) => {
                // Repeat the last frame, fading: G.711 appendix I's idea without its pitch search.
                for (n, out) in pcm[..samples].iter_mut().enumerate() {
                    let fade = 256 - (n * 160 / samples.max(1)) as i32;
                    *out = last.get(n % last.len().max(1)).map_or(0, |s| (i32::from(*s) * fade / 256) as i16);
                }
                samples
            }
        }
    }
}

/// Encodes 8 kHz mono PCM.
pub enum Encoder {
    Opus(opus::Encoder),
    G711(g711::Law),
}

impl Encoder {
    /// An encoder for `codec`; `complexity` is libopus's 0 to 10.
    pub fn new(codec: Codec, complexity: u8) -> Encoder {
        match codec {
            Codec::Opus => Encoder::Opus(opus::Encoder::new(complexity)),
            Codec::Pcmu => Encoder::G711(g711::Law::Mu),
            Codec::Pcma => Encoder::G711(g711::Law::A),
        }
    }

    /// Encodes one frame; returns the payload's length, 0 where nothing need be sent.
    /// Opus takes frames of 2.5, 5, 10, 20, 40 or 60 ms only.
    pub fn encode(&mut self, pcm: &[i16], payload: &mut [u8]) -> usize {
        match self {
            Encoder::Opus(encoder) => encoder.encode(pcm, payload),
            Encoder::G711(law) => {
                let n = pcm.len().min(payload.len());
                law.encode(&pcm[..n], &mut payload[..n]);
                n
            }
        }
    }

    /// Tells the encoder what the far side loses, 0 to 100 percent.
    pub fn expect_loss(&mut self, percent: u8) {
        if let Encoder::Opus(encoder) = self {
            encoder.expect_loss(percent);
        }
    }
}
