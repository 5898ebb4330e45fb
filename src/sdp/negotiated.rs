//! What an exchange settled for one leg: codecs, digits, and where media goes.

use super::crypto::Sdes;
use super::description::{Direction, Fingerprint};
use crate::codec::Codec;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// ICE credentials.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Ice {
    /// 4 to 256 characters.
    pub ufrag: String,
    /// 22 to 256 characters.
    pub pwd: String,
}

/// Where RTP goes and how it is protected.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Remote {
    /// RTP, protected if keys were exchanged. `rtcp` is `rtp` if both share a port (RFC 5761). A
    /// trunk: addresses, and keys if media is encrypted.
    #[allow(missing_docs, reason = "said above")]
    Rtp { rtp: SocketAddr, rtcp: SocketAddr, sdes: Option<Box<Sdes>> },
    /// ICE and DTLS-SRTP; `active`: we send the ClientHello.
    Dtls {
        /// The peer's.
        ice: Ice,
        /// Ours.
        local_ice: Ice,
        /// One of them is its certificate's.
        fingerprints: Vec<Fingerprint>,
        /// We send the ClientHello.
        active: bool,
        /// The peer's name for the association; another one asks for another (RFC 8842 §5.5).
        tls_id: Option<String>,
    },
}

/// One payload type of telephone-events (RFC 4733), which have a clock of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventFormat {
    /// 0 to 127.
    pub payload_type: u8,
    /// Clock rate of its timestamps, Hz.
    pub clock: u32,
}

/// telephone-events as agreed, each direction on its own.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TelephoneEvents {
    /// What our digits go out as; `None` if the peer knows none.
    pub send: Option<EventFormat>,
    /// All the peer may send: which one it takes for a codec is its own choice.
    pub receive: Vec<EventFormat>,
}

impl TelephoneEvents {
    /// One format, both ways.
    pub fn both_ways(payload_type: u8, clock: u32) -> TelephoneEvents {
        let format = EventFormat { payload_type, clock };
        TelephoneEvents { send: Some(format), receive: vec![format] }
    }

    /// The one of `formats` to send beside a codec of `clock`: of that clock (RFC 4733 §2.1), else
    /// of 8000, which every peer that has digits at all knows, else any.
    pub(super) fn best(formats: &[EventFormat], clock: u32) -> Option<EventFormat> {
        let of = |clock| formats.iter().find(|f| f.clock == clock);
        of(clock).or_else(|| of(8_000)).or(formats.first()).copied()
    }
}

/// What one exchange settled for this leg.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Negotiated {
    /// The codec we send, and its payload type.
    pub codec: Codec,
    /// Payload type of what we send.
    pub send: u8,
    /// Payload types the peer may send.
    pub receive: Vec<(u8, Codec)>,
    /// Payload types of digits, both ways.
    pub events: TelephoneEvents,
    /// Payload type of comfort noise (RFC 3389), both ways.
    pub noise: Option<u8>,
    /// Ours: whether we send, whether we receive.
    pub direction: Direction,
    /// Where media goes, and how it is protected.
    pub remote: Remote,
    /// Bits a second the peer takes at most on average, if it says (Opus).
    pub max_average_bitrate: Option<u32>,
    /// The peer wants RTCP XR's VoIP metrics (RFC 3611 §5.1).
    pub voip_metrics: bool,
    /// The header extension in which the peer says how loud it is, if it does (RFC 6464).
    pub audio_level: Option<u8>,
    /// Milliseconds per packet we send, 10 to 60, and whether the peer asked for that.
    pub ptime: u32,
    /// The peer asked for the length of packets.
    pub ptime_asked: bool,
    /// Milliseconds of the longest packet the peer takes, if it says.
    pub max_ptime: Option<u32>,
}

/// What the packets of a payload type hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Content {
    /// Sound.
    Audio(Codec),
    /// Telephone-events, whose durations count in this clock.
    Event(u32),
    /// Comfort noise (RFC 3389).
    Noise,
}

impl Negotiated {
    /// What the peer's packets of this payload type hold; `None` if it was not agreed.
    pub fn content(&self, payload_type: u8) -> Option<Content> {
        let audio = || {
            let mut codecs = self.receive.iter();
            codecs.find(|(pt, _)| *pt == payload_type).map(|(_, codec)| Content::Audio(*codec))
        };
        let event = || {
            let mut formats = self.events.receive.iter();
            formats.find(|f| f.payload_type == payload_type).map(|f| Content::Event(f.clock))
        };
        let noise = || self.noise.filter(|pt| *pt == payload_type).map(|_| Content::Noise);
        audio().or_else(event).or_else(noise)
    }
}
