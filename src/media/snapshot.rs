//! A session as a value: what a successor of the process needs so that the peers notice nothing.
//!
//! The browser sees the same ICE credentials, port, keys and SSRC, and DTLS is not spoken again;
//! the trunk sees the same ports, SSRC and a stream that goes forward. What only lasts a moment is
//! omitted: a jitter buffer, a digit on its way, an echo's delay line.
//!
//! A snapshot holds keys. Whoever stores one seals it.

use super::endpoint::{Dropped, EndpointSettings, LegId};
use super::latching::LatchingSnapshot;
use super::series::{Sample, Totals};
use crate::rtp::report::{RemoteReport, SequenceStats};
use crate::rtp::reserve::LEASE;
use crate::rtp::srtp::{MasterKey, ReceivedState, Reserved, SrtpHold};
use crate::sdp::crypto::{CryptoKeys, Sdes};
use crate::sdp::description::Fingerprint;
use crate::sdp::offer_answer::{Ice, Remote, Settled};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// The format of [`SessionSnapshot::to_bytes`]; one of another version cannot be read.
const VERSION: u8 = 3;

/// Clocks that a successor of the process can read too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Clocks {
    /// The name of this boot of the host.
    pub boot: u128,
    /// Time since it, by a clock that nobody sets.
    pub uptime: Duration,
}

/// Why a session cannot be continued.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "in its error's text")]
pub enum NotRestored {
    #[error("its record is {} s old: more may have been sent since than was \
        reserved", age.as_secs())]
    Expired { age: Duration },
    #[error("its record is from before the system started")]
    OtherBoot,
    #[error("its record reserves nothing to send with for end {}", end.0)]
    NoReserve { end: LegId },
    #[error("its record contradicts itself: {0}")]
    Unsound(&'static str),
}

/// Bytes that hold no snapshot.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    /// Written by another version.
    #[error("a media record of version {0}, which this version does not know")]
    Version(u8),
    /// By the text of the library.
    #[error("no media record: {0}")]
    Malformed(#[from] postcard::Error),
    /// More than any session needs.
    #[error("something follows the media record")]
    TooLong,
}

/// A moment, in milliseconds after the snapshot was taken; most are before.
pub(super) type Offset = i64;

/// A session, as of when it was taken.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SessionSnapshot {
    /// Counts the snapshots of a session, for [`Session::confirm`](super::Session::confirm).
    pub number: u64,
    /// When.
    pub taken: Clocks,
    /// NTP time of when it was taken.
    pub(super) ntp: u64,
    /// The ends.
    pub(super) legs: Vec<MediaLegSnapshot>,
}

/// One end.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct MediaLegSnapshot {
    /// Its name within the session.
    pub id: LegId,
    /// Our CNAME.
    pub cname: String,
    /// How its peer is reached.
    pub transport: TransportSnapshot,
    /// Without SDES keys, which are the transport's.
    pub settings: Option<EndpointSettings>,
    /// The numbering of what is sent.
    pub outbound: StreamSnapshot,
    /// What it hears.
    pub join: JoinSnapshot,
    /// What the record counts.
    pub counters: Counters,
    /// The call knows that media can flow.
    pub connected: bool,
    /// Media has come since it was settled.
    pub flowing: bool,
    /// When the last RTP packet came.
    pub last_received: Option<Offset>,
    /// The last sign of its peer.
    pub last_sign: Option<Offset>,
    /// As [`Endpoint::path_times`](super::endpoint::Endpoint::path_times).
    pub path_times: [Option<Offset>; 3],
}

/// How its peer is reached.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum TransportSnapshot {
    Browser {
        ice: IceSnapshot,
        /// The handshake is over; else one is to come, for first keys or others.
        secured: bool,
        /// The fingerprint of the certificate its peer showed last.
        shown: Option<Fingerprint>,
        srtp: Option<SrtpSnapshot>,
    },
    Trunk {
        rtp: Option<SocketAddr>,
        rtcp: Option<SocketAddr>,
        latching: LatchingSnapshot,
        srtp: Option<SrtpSnapshot>,
    },
}

/// The ICE agent of a browser's end.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct IceSnapshot {
    /// Our credentials, the newest first.
    pub local: Vec<Ice>,
    /// The browser's credentials.
    pub remote: Option<Ice>,
    /// Addresses that were validated, and when each was last.
    pub validated: Vec<(SocketAddr, Offset)>,
    /// Where media is sent.
    pub selected: Option<SocketAddr>,
    /// The address the browser nominated.
    pub nominated: Option<SocketAddr>,
    /// When something authentic came last.
    pub heard: Option<Offset>,
    /// When the last check came.
    pub last_check: Option<Offset>,
}

/// Keys of both directions, and how far each has come.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct SrtpSnapshot {
    /// The key of what is sent.
    pub send: MasterKey,
    /// Nothing: no packet may be sent under that key.
    pub reserved: Option<Reserved>,
    /// What holds back a successor that continues with the very next indices; `None` if these were
    /// reserved ahead.
    pub held: Option<SrtpHold>,
    /// The key of what is received.
    pub receive: MasterKey,
    /// The indices that were received.
    pub received: ReceivedState,
    /// The peer's key's identifier, and ours (trunk's ends).
    pub mki: [Vec<u8>; 2],
}

/// The numbering of what we send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct StreamSnapshot {
    /// Our SSRC.
    pub ssrc: u32,
    /// A successor's first packet.
    pub next: u16,
    /// The stream's timestamp when the snapshot was taken.
    pub timestamp: u32,
    /// A packet has been sent.
    pub begun: bool,
    /// Packets that were sent, modulo 2^32.
    pub packets: u32,
    /// Octets of payload that were sent, modulo 2^32.
    pub octets: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum JoinSnapshot {
    Nothing,
    Bridge(LegId),
    Echo(Duration),
    Play(Sound, usize),
}

/// What is played. A clip is not kept: a successor reports it as played to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Sound {
    Tone(u32),
    Tune,
    Ringback,
    Silence,
    Clip,
}

/// What the record of the call counts.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Counters {
    /// RTP packets that were received.
    pub received: u64,
    /// Packets that did not come once, and in order.
    pub disorder: SequenceStats,
    /// Packets that were not used, by reason.
    pub dropped: Dropped,
    /// Authentic ICE checks that came.
    pub checks: u64,
    /// RTCP packets that came from its peer.
    pub reports: u64,
    /// Packets that held more than digital silence.
    pub non_silent_packets: u64,
    /// Where RTP came from that was not to come from there.
    pub unexpected_source: Option<SocketAddr>,
    /// The newest payload type that was not agreed on.
    pub unexpected_payload_type: Option<u8>,
    /// What its peer's RTCP reports say.
    pub feedback: Option<RemoteReport>,
    /// When the series began, the figures then counted, and its samples.
    pub series: Option<(Offset, Totals, Vec<Sample>)>,
}

impl SessionSnapshot {
    /// Its ends.
    pub fn legs(&self) -> impl Iterator<Item = LegId> {
        self.legs.iter().map(|leg| leg.id)
    }

    /// Its browsers' ends.
    pub fn browsers(&self) -> impl Iterator<Item = LegId> {
        let browser =
            |leg: &&MediaLegSnapshot| matches!(leg.transport, TransportSnapshot::Browser { .. });
        self.legs.iter().filter(browser).map(|leg| leg.id)
    }

    /// What it knows of an end's negotiation.
    pub(crate) fn settled(&self, end: LegId) -> Option<Settled> {
        let leg = self.legs.iter().find(|leg| leg.id == end)?;
        let mut negotiated = leg.settings.as_ref().map(|s| s.negotiated.clone());
        let mut ice = None;
        match (negotiated.as_mut().map(|n| &mut n.remote), &leg.transport) {
            (Some(Remote::Dtls { local_ice, .. }), _) => ice = Some(local_ice.clone()),
            (Some(Remote::Rtp { sdes, .. }), TransportSnapshot::Trunk { srtp: Some(srtp), .. }) => {
                let [theirs, ours] = srtp.mki.clone();
                *sdes = Some(Box::new(Sdes {
                    ours: CryptoKeys { master: srtp.send.clone(), mki: ours },
                    theirs: CryptoKeys { master: srtp.receive.clone(), mki: theirs },
                }));
            }
            _ => {}
        }
        Some(Settled { negotiated, ice, ssrc: leg.outbound.ssrc, cname: leg.cname.clone() })
    }

    /// How long ago it was taken.
    ///
    /// # Errors
    /// The system was started since.
    pub fn age(&self, clocks: Clocks) -> Result<Duration, NotRestored> {
        let age = clocks.uptime.checked_sub(self.taken.uptime);
        age.filter(|_| clocks.boot == self.taken.boot).ok_or(NotRestored::OtherBoot)
    }

    /// Whether a successor may send under its keys. The wall clock has no say: it may be set.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self, clocks: Clocks) -> Result<Duration, NotRestored> {
        let age = self.age(clocks)?;
        let keyed = self.legs.iter().filter_map(|leg| Some((leg.id, leg.transport.srtp()?)));
        for (end, srtp) in keyed {
            if age >= LEASE {
                return Err(NotRestored::Expired { age });
            }
            if srtp.reserved.is_none() {
                return Err(NotRestored::NoReserve { end });
            }
        }
        Ok(age)
    }

    /// Nothing may be sent under its keys: they are known to somebody who continued with them.
    pub fn without_reserve(&mut self) {
        self.legs.iter_mut().filter_map(|leg| leg.transport.srtp_mut()).for_each(|srtp| {
            (srtp.reserved, srtp.held) = (None, None);
        });
    }

    /// As bytes, unsealed; wiped when dropped.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let bytes = postcard::to_extend(self, vec![VERSION]);
        debug_assert!(bytes.is_ok());
        Zeroizing::new(bytes.unwrap_or_default())
    }

    /// From bytes of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// They are something else, or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<SessionSnapshot, Unreadable> {
        let (version, bytes) =
            bytes.split_first().ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        if *version != VERSION {
            return Err(Unreadable::Version(*version));
        }
        match postcard::take_from_bytes(bytes)? {
            (snapshot, []) => Ok(snapshot),
            _ => Err(Unreadable::TooLong),
        }
    }
}

impl TransportSnapshot {
    fn srtp_mut(&mut self) -> Option<&mut SrtpSnapshot> {
        match self {
            TransportSnapshot::Browser { srtp, .. } | TransportSnapshot::Trunk { srtp, .. } => {
                srtp.as_mut()
            }
        }
    }

    pub(super) fn srtp(&self) -> Option<&SrtpSnapshot> {
        match self {
            TransportSnapshot::Browser { srtp, .. } | TransportSnapshot::Trunk { srtp, .. } => {
                srtp.as_ref()
            }
        }
    }
}

/// Milliseconds from `taken` to `at`.
pub(super) fn offset(taken: Instant, at: Instant) -> Offset {
    let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    match at.checked_duration_since(taken) {
        Some(after) => millis(after),
        None => -millis(taken.saturating_duration_since(at)),
    }
}

/// The moments of a snapshot that is continued.
#[derive(Clone, Copy)]
pub(super) struct Resumed {
    /// When the successor continues.
    pub now: Instant,
    /// When the snapshot was taken.
    pub taken: Instant,
}

impl Resumed {
    pub(super) fn new(now: Instant, age: Duration) -> Resumed {
        Resumed { now, taken: now.checked_sub(age).unwrap_or(now) }
    }

    /// How old the snapshot is: what happened in this time is not known.
    pub(super) fn age(&self) -> Duration {
        self.now.saturating_duration_since(self.taken)
    }

    /// When that was; now, if no clock reaches back so far.
    pub(super) fn at(&self, offset: Offset) -> Instant {
        let far = Duration::from_millis(offset.unsigned_abs());
        let at = if offset < 0 { self.taken.checked_sub(far) } else { self.taken.checked_add(far) };
        at.unwrap_or(self.now)
    }
}
