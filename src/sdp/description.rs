//! A session description as we need it.

use super::crypto::Crypto;
use super::read::read;
use crate::codec::Codec;
use crate::errors::Code;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// Longest description without what is no sound, bytes.
pub(crate) const MAX_SDP: usize = 32 * 1024;
/// Most lines of such.
pub(crate) const MAX_LINES: usize = 512;
/// Most lines in all: a meeting page's videos have a hundred each.
pub(crate) const MAX_ALL_LINES: usize = 8_192;
/// Most media descriptions: a meeting page has one for each who may speak.
pub(crate) const MAX_MEDIA: usize = 64;
/// Most payload formats of a media description; the rest are ignored.
pub(crate) const MAX_FORMATS: usize = 64;
/// Candidates read per media description; the rest are ignored.
pub(crate) const MAX_CANDIDATES: usize = 20;

/// The header extension of a sender's audio level (RFC 6464 §4).
pub(super) const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

/// A description we cannot use, with the Warning code a 488 carries (RFC 3261 §20.43).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{why}")]
pub struct SdpError {
    /// The code of the Warning header (RFC 3261 §20.43).
    pub warning: u16,
    /// Its text.
    pub why: String,
    /// What it is, if more is known than that nothing was agreed.
    pub code: Option<Code>,
}

impl SdpError {
    pub(crate) fn new(warning: u16, why: impl Into<String>) -> SdpError {
        SdpError { warning, why: why.into(), code: None }
    }

    /// This error, known as `code`.
    pub(crate) fn code(self, code: Code) -> SdpError {
        SdpError { code: Some(code), ..self }
    }
}

/// Which way media may flow, from the describer's point of view (RFC 8866 §6.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// Both.
    SendRecv,
    /// The writer only sends.
    SendOnly,
    /// The writer only receives.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// From the two halves.
    pub(crate) fn new(send: bool, recv: bool) -> Direction {
        match (send, recv) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }
    /// Whether the describer sends.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }
    /// Whether the describer receives.
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
    /// The same flow seen from the other end.
    pub fn reversed(self) -> Direction {
        Direction::new(self.receives(), self.sends())
    }
    /// What both allow.
    pub fn and(self, other: Direction) -> Direction {
        Direction::new(self.sends() && other.sends(), self.receives() && other.receives())
    }
    /// The attribute's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }
    pub(super) fn from_token(text: &str) -> Option<Direction> {
        [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
            .into_iter()
            .find(|d| d.as_str().eq_ignore_ascii_case(text))
    }
}

/// The DTLS setup attribute (RFC 4145, RFC 5763).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setup {
    /// Sends the ClientHello.
    Active,
    /// Waits for it.
    Passive,
    /// Either; of offers.
    Actpass,
}

/// One payload format of a media description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Format {
    /// 0 to 127.
    pub payload_type: u8,
    /// Of `a=rtpmap`, or RFC 3551's.
    pub name: String,
    /// Clock rate, Hz.
    pub clock: u32,
    /// Channels; 1 if the rtpmap does not say.
    pub channels: u8,
    /// Parameters, or empty.
    pub fmtp: String,
}

impl Format {
    /// Our codec for this format.
    pub fn codec(&self) -> Option<Codec> {
        // Quirk: some write G.722 with the rate of its sound; its clock is 8000 (RFC 3551 §4.5.2).
        let wide = self.clock == 16_000 && self.name.eq_ignore_ascii_case("G722");
        // Opus without its two is Opus too; of the others we speak mono.
        Codec::from_rtpmap(&self.name, if wide { 8_000 } else { self.clock })
            .filter(|codec| *codec == Codec::Opus || self.channels == 1)
    }
    /// The bits a second the describer takes at most on average (Opus's `maxaveragebitrate`, RFC
    /// 7587 §6.1).
    pub(crate) fn max_average_bitrate(&self) -> Option<u32> {
        let values = self.fmtp.split(';').filter_map(|p| p.trim().split_once('='));
        values
            .filter(|(name, _)| name.eq_ignore_ascii_case("maxaveragebitrate"))
            .find_map(|(_, v)| v.trim().parse().ok())
    }
    /// Whether this is RFC 4733 telephone-event.
    pub fn is_telephone_event(&self) -> bool {
        self.name.eq_ignore_ascii_case("telephone-event")
    }
    /// Whether this is comfort noise (RFC 3389) for codecs with a clock of 8000.
    pub(crate) fn is_comfort_noise(&self) -> bool {
        self.name.eq_ignore_ascii_case("CN") && self.clock == 8_000
    }
}

/// A sha-256 fingerprint of the peer's certificate (RFC 8122).
pub type Fingerprint = [u8; 32];

/// One m= section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediaDescription {
    /// `audio`, `video` and so on.
    pub kind: String,
    /// It is the kind that is used here.
    pub is_audio: bool,
    /// 0 if it is refused, or cannot be read.
    pub port: u16,
    /// Offered within its bundle and nowhere else: port 0 refuses nothing (RFC 9143 §6).
    pub bundle_only: bool,
    /// The transport profile.
    pub proto: String,
    /// The fmt list as written, for the echo in a refused section.
    pub fmt: Vec<String>,
    /// In the writer's order.
    pub formats: Vec<Format>,
    /// Its own `c=`, or the session's.
    pub address: Option<IpAddr>,
    /// The host that stands there in place of an address.
    pub host: Option<String>,
    /// Its own, or the session's.
    pub direction: Direction,
    /// Names it in a bundle.
    pub mid: Option<String>,
    /// Its own, or the session's.
    pub ice_ufrag: Option<String>,
    /// Its own, or the session's.
    pub ice_pwd: Option<String>,
    /// Its own, or the session's.
    pub fingerprints: Vec<Fingerprint>,
    /// Whether any fingerprint line stood here, even one of a hash we do not take.
    pub has_fingerprint: bool,
    /// DTLS role.
    pub setup: Option<Setup>,
    /// The DTLS association's name (RFC 8842 §4).
    pub tls_id: Option<String>,
    /// RTCP comes to the port of RTP.
    pub rtcp_mux: bool,
    /// Where it goes otherwise, if not to the port above.
    pub rtcp: Option<SocketAddr>,
    /// Milliseconds a packet is to last, by `ptime` and `maxptime`.
    pub ptime: Option<u32>,
    /// Milliseconds of the longest packet that is accepted.
    pub max_ptime: Option<u32>,
    /// RTCP XR's VoIP metrics are wanted.
    pub voip_metrics: bool,
    /// The header extension in which its writer says how loud it is (RFC 6464), 1 to 14.
    pub audio_level: Option<u8>,
    /// SRTP keys of suites we speak, the describer's order.
    pub crypto: Vec<Crypto>,
    /// UDP candidates with an address; names and TCP are ignored.
    pub candidates: Vec<SocketAddr>,
}

/// A whole description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// `o=` session id and version.
    pub session_id: String,
    /// Of `o=`.
    pub version: String,
    /// In order.
    pub media: Vec<MediaDescription>,
    /// Mids of the first BUNDLE group.
    pub bundle: Vec<String>,
}

impl Description {
    /// Reads a description.
    ///
    /// # Errors
    /// Over the limits, not SDP, or holding NUL or a lone CR.
    pub fn parse(body: &[u8]) -> Result<Description, SdpError> {
        read(body)
    }

    /// The audio sections that are not refused, with their places.
    pub fn audio(&self) -> impl Iterator<Item = (usize, &MediaDescription)> {
        let bundled = |m: &MediaDescription| {
            m.bundle_only && m.mid.as_ref().is_some_and(|mid| self.bundle.contains(mid))
        };
        let media = self.media.iter().enumerate();
        media.filter(move |(_, m)| m.is_audio && (m.port != 0 || bundled(m)))
    }
}
