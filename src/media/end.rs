//! One end of a session: its transport, what was agreed for it, and its two streams.

use super::dtls::{Handshake, Identity};
use super::egress::Egress;
use super::ice::Responder;
use super::ingress::{Reorder, Transcoder};
use super::player::Player;
use crate::rtp::report::{Feedback, Reception};
use crate::rtp::srtp::{Profile, Protect, Unprotect};
use crate::sdp::offer_answer::{Agreed, Ice, Remote};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An end within its session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct EndId(pub u16);

/// The socket a packet came by or goes by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Port {
    /// The worker's one port for all browsers.
    Browser,
    Rtp(EndId),
    Rtcp(EndId),
}

/// How an end reaches its peer.
pub enum Kind {
    Browser { identity: Arc<Identity>, ice: Ice },
    /// `nat`: learn the peer's port, within its announced address only.
    Trunk { nat: bool },
}

/// What an exchange settled, with what media alone needs.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    pub agreed: Agreed,
    /// libopus complexity for frames we encode towards this end.
    pub complexity: u8,
    /// Its peer takes digits by signalling: they are told to the call, not sent.
    pub digits: bool,
}

/// A telephone-event that is being received, for those who want digits by signalling.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pressed {
    pub timestamp: u32,
    pub event: u8,
    pub duration: u16,
    pub told: bool,
}

/// Keys of a browser's finished handshake.
pub(super) struct Srtp {
    pub profile: Profile,
    pub protect: Protect,
    pub unprotect: Unprotect,
}

pub(super) enum Transport {
    Browser { ice: Box<Responder>, dtls: Box<Handshake>, srtp: Option<Box<Srtp>> },
    Trunk { rtp: Option<SocketAddr>, rtcp: Option<SocketAddr>, learning: Learning },
}

/// Address learning on a trunk end (media rule 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Learning {
    /// The default: the announced address and nothing else.
    Strict,
    /// From within the announced IP; `run` packets in a row came from `from`.
    Open { from: Option<SocketAddr>, ssrc: u32, sequence: u16, run: u8 },
    Locked,
}

/// Packets in a row that settle a learned address; at most 5 by the rule.
const LEARN_AFTER: u8 = 3;

impl Learning {
    /// Takes a packet from `from` while `announced` is where media goes. True: `from` is the address now.
    pub fn observe(&mut self, announced: SocketAddr, from: SocketAddr, ssrc: u32, sequence: u16) -> bool {
        let Learning::Open { from: candidate, ssrc: last_ssrc, sequence: last, run } = self else { return false };
        if from.ip() != announced.ip() {
            return false;
        }
        if from == announced {
            *self = Learning::Locked;
            return false;
        }
        let rising = (sequence.wrapping_sub(*last) as i16) > 0;
        *run = if *candidate == Some(from) && *last_ssrc == ssrc && rising { *run + 1 } else { 1 };
        (*candidate, *last_ssrc, *last) = (Some(from), ssrc, sequence);
        if *run >= LEARN_AFTER {
            *self = Learning::Locked;
            return true;
        }
        false
    }
}

/// What an end is joined to.
#[derive(Debug)]
pub(super) enum Join {
    Nothing,
    Bridge(EndId),
    Echo { delay: Duration, line: VecDeque<(Instant, Vec<u8>)> },
    /// `timestamp` is the next frame's, while frames follow each other.
    Play { player: Player, next: Instant, timestamp: Option<u32> },
}

/// Packets an echo line holds at most: 10 s of 20 ms.
pub(super) const ECHO_LINE: usize = 500;

/// A digit being sent as telephone-events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digit {
    pub event: u8,
    pub started: Option<Started>,
    pub length: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Started {
    pub at: Instant,
    pub timestamp: u32,
    pub ends_sent: u8,
    pub next: Instant,
}

/// What one end saw, for the CDR.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    pub codec: Option<&'static str>,
    pub received: u64,
    pub lost: u64,
    pub sent: u32,
    pub jitter: Duration,
    pub round_trip: Option<Duration>,
    /// Loss the peer reports of what we send, 0 to 1.
    pub reported_loss: Option<f32>,
    pub srtp: Option<Profile>,
    pub dropped: Dropped,
}

/// Packets not used, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub unknown_source: u64,
    pub bad_tag: u64,
    pub replayed: u64,
    pub malformed: u64,
    pub unknown_payload: u64,
    pub not_expected: u64,
}

/// How packets of one end get to the other.
pub(super) enum Path {
    Relay,
    Transcode(Box<(Reorder, Transcoder, Option<u32>)>),
}

/// One end.
pub struct End {
    pub id: EndId,
    pub(super) transport: Transport,
    pub(super) settings: Option<Settings>,
    pub(super) egress: Egress,
    pub(super) reception: Option<Reception>,
    pub(super) feedback: Option<Feedback>,
    pub(super) join: Join,
    pub(super) path: Path,
    pub(super) digits: VecDeque<Digit>,
    pub(super) pressed: Option<Pressed>,
    pub(super) dropped: Dropped,
    pub(super) received: u64,
    pub(super) lost_before: u64,
    pub(super) next_report: Option<Instant>,
    pub(super) flowing: bool,
    pub(super) connected: bool,
    /// Start of the event being passed on: its input timestamp and the one it left with.
    pub(super) event: Option<(u32, u32)>,
    pub(super) cname: String,
}

impl End {
    /// Where RTP of this end goes, once known and allowed.
    pub(super) fn rtp_target(&self) -> Option<SocketAddr> {
        match &self.transport {
            Transport::Browser { ice, srtp: Some(_), .. } => ice.selected(),
            Transport::Browser { .. } => None,
            Transport::Trunk { rtp, .. } => rtp.filter(|a| a.port() != 0 && !a.ip().is_unspecified()),
        }
    }

    /// Whether what was agreed lets us send.
    pub(super) fn may_send(&self) -> bool {
        self.settings.as_ref().is_some_and(|s| s.agreed.direction.sends())
    }

    /// Takes new settings; the transport's part of them too.
    pub(super) fn configure(&mut self, now: Instant, settings: Settings, send: &mut impl FnMut(&[u8])) {
        match (&mut self.transport, &settings.agreed.remote) {
            (Transport::Browser { ice, dtls, .. }, Remote::Dtls { ice: remote, local_ice, fingerprints, active }) => {
                ice.set(local_ice, remote);
                dtls.expect(fingerprints);
                if *active && ice.selected().is_some() {
                    dtls.start(now, send);
                }
            }
            (Transport::Trunk { rtp, rtcp, learning }, Remote::Rtp { rtp: new_rtp, rtcp: new_rtcp }) => {
                // Only signalling moves or unlocks a trunk's address.
                if self.settings.as_ref().map(|s| &s.agreed.remote) != Some(&settings.agreed.remote) {
                    (*rtp, *rtcp) = (Some(*new_rtp), Some(*new_rtcp));
                    if *learning != Learning::Strict {
                        *learning = Learning::Open { from: None, ssrc: 0, sequence: 0, run: 0 };
                    }
                }
            }
            _ => {}
        }
        self.settings = Some(settings);
    }

    /// The end's figures so far.
    pub fn statistics(&self) -> Statistics {
        let codec = self.settings.as_ref().map(|s| s.agreed.codec);
        let clock = codec.map_or(8_000, |c| c.clock());
        Statistics {
            codec: codec.map(|c| c.name()),
            received: self.received,
            lost: self.lost_before + self.reception.map_or(0, |r| r.lost()),
            sent: self.egress.sent.packets,
            jitter: self.reception.map_or(Duration::ZERO, |r| r.jitter(clock)),
            round_trip: self.feedback.and_then(|f| f.round_trip),
            reported_loss: self.feedback.map(|f| f.fraction_lost),
            srtp: match &self.transport {
                Transport::Browser { srtp, .. } => srtp.as_ref().map(|s| s.profile),
                Transport::Trunk { .. } => None,
            },
            dropped: self.dropped,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.statistics();
        write!(f, "end {} {} in {} out {} lost {}", self.id.0, s.codec.unwrap_or("-"), s.received, s.sent, s.lost)
    }
}
