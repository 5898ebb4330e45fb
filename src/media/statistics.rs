//! What one end of a call saw of its media: what its record keeps.

use super::series::Sample;
use crate::rtp::srtp::Profile;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What one end saw, for the CDR.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// What comes from it; none before the first packet.
    pub codec: Option<&'static str>,
    /// RTP packets that were received.
    pub received: u64,
    /// When the last of them came, or when the peer was last let speak again.
    pub last_received: Option<Instant>,
    /// Packets that did not come, by their numbers.
    pub lost: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Packets that came too late to be heard.
    pub late: u64,
    /// Packets that came before.
    pub duplicate: u64,
    /// RTP packets that were sent, modulo 2^32.
    pub sent: u32,
    /// Interarrival jitter (RFC 3550 §6.4.1); `None` if no sound came.
    pub jitter: Option<Duration>,
    /// Round trip by RTCP.
    pub round_trip: Option<Duration>,
    /// Loss the peer reports of what we send, 0 to 1.
    pub reported_loss: Option<f32>,
    /// Jitter the peer reports of what we send.
    pub reported_jitter: Option<Duration>,
    /// Of the keys in use.
    pub srtp: Option<Profile>,
    /// From a browser's description to its selected address.
    pub ice: Option<Duration>,
    /// How long the handshake took.
    pub dtls: Option<Duration>,
    /// What was not used, by why.
    pub dropped: Dropped,
    /// It is a browser's end.
    pub browser: bool,
    /// ICE checks of its peer that were answered.
    pub checks: u64,
    /// RTCP packets that came from its peer.
    pub reports: u64,
    /// Where a trunk's RTP is expected from, and where else some came from.
    pub announced: Option<SocketAddr>,
    /// Where media came from that was not to come from there.
    pub unexpected_source: Option<SocketAddr>,
    /// Packets that held more than digital silence.
    pub non_silent_packets: u64,
    /// The newest payload type nobody agreed to.
    pub unexpected_payload_type: Option<u8>,
    /// What was agreed lets the peer send.
    pub may_speak: bool,
    /// What was agreed lets the peer be sent to.
    pub may_hear: bool,
    /// What came and went second by second.
    pub series: Vec<Sample>,
    /// Estimated opinion scores of what the peer says to us and of what it hears from us, 1 to 4.41
    /// (G.107).
    pub mos: (Option<f32>, Option<f32>),
}

/// A party that may speak and sends nothing for so long at the end of a call has stopped.
const FELL_SILENT: Duration = Duration::from_secs(10);

impl Statistics {
    /// How long nothing had come when the call was `over`, if the peer had stopped sending and was
    /// not on hold; `None` if it had not, or was never heard.
    pub fn fell_silent(&self, over: Option<Instant>) -> Option<Duration> {
        let silent = over?.saturating_duration_since(self.last_received?);
        (self.may_speak && silent >= FELL_SILENT).then_some(silent)
    }

    /// Packets that did not come, of those that should have; `None` if none came.
    pub fn packets_lost(&self) -> Option<u64> {
        (self.received > 0).then_some(self.lost)
    }
}

/// Packets not used, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// From an address that was not agreed to.
    pub unknown_source: u64,
    /// Of somebody without the key.
    pub bad_tag: u64,
    /// It came before.
    pub replayed: u64,
    /// Neither RTP nor RTCP.
    pub malformed: u64,
    /// Of no format agreed to.
    pub unknown_payload: u64,
    /// On hold, before the handshake, or beyond its rate.
    pub not_expected: u64,
    /// More than any call needs.
    pub excess: u64,
}
