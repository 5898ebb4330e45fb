//! One end of a session: its transport, what was agreed for it, and its two streams.

use super::budget::PacketBudget;
use super::continuity::Continuity;
use super::dtls::DtlsIdentity;
pub use super::endpoint_settings::{Digits, EndpointSettings, MediaWatch};
use super::feedback::PeerFeedback;
use super::inbound_event::InboundEvent;
use super::loudness::Loudness;
use super::outbound_stream::OutboundStream;
pub(super) use super::peer_transport::{MediaTransport, SdesSrtp, Srtp, is_usable, open};
use super::player::Player;
use super::reorder::Reorder;
use super::series::{Levels, Series, Totals};
pub use super::statistics::{Dropped, Statistics};
use super::transcoder::Transcoder;
use crate::chance::Chance;
use crate::codec::noise::Noise;
use crate::codec::opus::COMPLEXITY;
use crate::codec::{Encoder, NARROW};
use crate::pace::Pace;
use crate::rtp::packet::{Packet, time_of};
use crate::rtp::quality::{ENOUGH, Impairment};
use crate::rtp::report::{ReceiverStats, SequenceStats};
use crate::sdp::offer_answer::{Content, Ice, Remote};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An end within its session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct LegId(pub u16);

/// The first caller's end of the media session.
pub const CALLER_LEG: LegId = LegId(0);

/// The socket a packet came by or goes by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Port {
    /// The worker's one port for all browsers.
    Browser,
    /// A trunk's for RTP.
    Rtp(LegId),
    /// A trunk's for RTCP.
    Rtcp(LegId),
}

/// How an end reaches its peer.
pub enum EndpointKind {
    /// Found by its ICE checks.
    Browser {
        /// Our certificate.
        identity: Arc<DtlsIdentity>,
        /// Ours.
        ice: Ice,
    },
    /// `nat`: learn the peer's port, within its announced address only.
    Trunk {
        /// Its packets may come from another port than it said.
        nat: bool,
    },
}

/// What an end hears while its source is silent.
#[derive(Clone, Debug)]
pub(super) struct ComfortNoise {
    /// The noise.
    pub noise: Noise,
    /// When its next packet is sent.
    pub due: Instant,
    /// A packet of it has been sent.
    pub begun: bool,
}

/// What an end is joined to.
#[derive(Debug)]
pub(super) enum AudioSource {
    Nothing,
    Bridge(LegId),
    Echo { delay: Duration, line: VecDeque<(Instant, Vec<u8>)> },
    Play { player: Player, next: Instant },
}

/// Mean interval of our RTCP reports.
const REPORT: Duration = Duration::from_secs(5);
/// Packets an echo line holds at most: 10 s of 20 ms.
pub(super) const ECHO_LINE: usize = 500;

/// A digit on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutboundEvent {
    /// The event, 0 to 16 (RFC 4733 §3.2).
    pub event: u8,
    /// How long it lasts; `None` while its key is held.
    pub length: Option<Duration>,
    /// How far it has come; `None` until its first packet.
    pub started: Option<Started>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Started {
    /// When it began.
    pub at: Instant,
    /// When its next packet is sent.
    pub next: Instant,
    /// The timestamp of the event's current segment.
    pub timestamp: u32,
    /// Length of its earlier segments, timestamp units.
    pub earlier: u32,
    /// Packets that said it is over, up to 3, or frames of the pause after a tone.
    pub after: u8,
}

/// How packets of one end get to the other.
pub(super) enum Path {
    Relay,
    Transcode(Box<Transcoding>),
}

pub(super) struct Transcoding {
    /// Puts packets in order.
    pub reorder: Reorder,
    /// Decodes and re-cuts.
    pub transcoder: Transcoder,
    /// The next frame's timestamp on the way out, by the source's time.
    pub next: Option<u32>,
}

impl Transcoding {
    /// What follows is not of the sound before it.
    pub(super) fn restart(&mut self) {
        self.reorder = Reorder::default();
        self.transcoder.restart();
        self.next = None;
    }
}

/// One end.
pub struct Endpoint {
    /// Its name within the session.
    pub id: LegId,
    /// How its peer is reached.
    pub(super) transport: MediaTransport,
    /// What was agreed; `None` until it is.
    pub(super) settings: Option<EndpointSettings>,
    /// The numbering of what is sent.
    pub(super) outbound: OutboundStream,
    /// The one encoder of all we make ourselves for this end, so that its peer's decoder sees one
    /// stream.
    pub(super) encoder: Option<Encoder>,
    /// What the encoder may spend at most, for the load of its worker.
    pub(super) complexity: u8,
    /// Comfort noise, while its source is silent.
    pub(super) comfort_noise: Option<ComfortNoise>,
    /// Its source is away, and is expected back: faint noise is sent while nothing comes of it.
    pub(super) source_away: bool,
    /// What is received, by its numbers; `None` before the first packet.
    pub(super) reception: Option<ReceiverStats>,
    /// What its peer's RTCP reports say.
    pub(super) feedback: PeerFeedback,
    /// What it hears.
    pub(super) join: AudioSource,
    /// How its packets get to the other end.
    pub(super) path: Path,
    /// Digits that are being sent, or wait.
    pub(super) digits: VecDeque<OutboundEvent>,
    /// Digits of this second that its call was asked to signal.
    pub(super) signalled: Pace,
    /// Whether its source continues, and how often it has started again.
    pub(super) continuity: Option<Continuity>,
    /// How often its source has started again.
    pub(super) restarts: u32,
    /// The key its peer holds, or held last.
    pub(super) inbound_event: Option<InboundEvent>,
    /// Packets that were not used, by reason.
    pub(super) dropped: Dropped,
    /// How many packets it may still send in this second.
    pub(super) budget: PacketBudget,
    /// RTP packets that were received.
    pub(super) received: u64,
    /// When the last of them came.
    pub(super) last_received: Option<Instant>,
    /// The last sign of its peer, RTCP included, or when what is agreed was settled anew.
    pub(super) last_sign: Option<Instant>,
    /// A browser: when something authentic came last, ICE checks included.
    pub(super) heard: Option<Instant>,
    /// It was reported to the call that nothing comes.
    pub(super) faded: bool,
    /// When its stop was last reported to the call; `None` while it sends.
    pub(super) stopped: Option<Instant>,
    /// The order of the sources before this one.
    pub(super) disorder_before: SequenceStats,
    /// When its next RTCP report is due.
    pub(super) next_report: Option<Instant>,
    /// Spreads our reports.
    pub(super) chance: Chance,
    /// Media has come since it was settled.
    pub(super) flowing: bool,
    /// Authentic ICE checks that came.
    pub(super) checks: u64,
    /// RTCP packets that came from its peer.
    pub(super) reports: u64,
    /// Where RTP came from that was not to come from there.
    pub(super) unexpected_source: Option<SocketAddr>,
    /// Packets that held more than digital silence.
    pub(super) non_silent_packets: u64,
    /// The newest payload type that was not agreed on.
    pub(super) unexpected_payload_type: Option<u8>,
    /// How loud what comes is, since the last sample.
    pub(super) loudness: Loudness,
    /// How loud what is played to it is, since the last sample.
    pub(super) played: Loudness,
    /// Its figures, second by second.
    pub(super) series: Series,
    /// The call knows that media can flow.
    pub(super) connected: bool,
    /// When its first description was applied, ICE first selected an address, and DTLS gave keys.
    pub(super) path_times: [Option<Instant>; 3],
    /// Our CNAME (RFC 3550 §6.5.1).
    pub(super) cname: String,
}

impl Endpoint {
    /// One of which nothing has come and nothing is agreed; `seed` spreads its reports.
    pub(super) fn new(
        id: LegId,
        transport: MediaTransport,
        outbound: OutboundStream,
        cname: String,
        seed: u64,
    ) -> Endpoint {
        Endpoint {
            id,
            transport,
            settings: None,
            outbound,
            encoder: None,
            complexity: COMPLEXITY,
            comfort_noise: None,
            source_away: false,
            reception: None,
            feedback: PeerFeedback::default(),
            join: AudioSource::Nothing,
            path: Path::Relay,
            digits: Default::default(),
            signalled: Pace::default(),
            continuity: None,
            restarts: 0,
            inbound_event: None,
            dropped: Dropped::default(),
            budget: PacketBudget::default(),
            received: 0,
            disorder_before: SequenceStats::default(),
            next_report: None,
            chance: Chance::new(seed),
            flowing: false,
            checks: 0,
            reports: 0,
            unexpected_source: None,
            non_silent_packets: 0,
            unexpected_payload_type: None,
            last_received: None,
            last_sign: None,
            heard: None,
            faded: false,
            stopped: None,
            loudness: Loudness::default(),
            played: Loudness::default(),
            series: Series::default(),
            connected: false,
            path_times: [None; 3],
            cname,
        }
    }

    /// Another page of its peer's is there, reached by `transport`. What it hears, and how that is
    /// numbered, continues; what came of the one before says nothing of this one.
    pub(super) fn renew(&mut self, now: Instant, transport: MediaTransport) {
        self.transport = transport;
        self.settings = None;
        (self.connected, self.flowing) = (false, false);
        self.feedback = PeerFeedback::default();
        (self.stopped, self.last_sign) = (None, Some(now));
    }

    /// The clock of what it is sent, Hz.
    pub(super) fn clock(&self) -> u32 {
        self.settings.as_ref().map_or(8_000, |s| s.negotiated.codec.clock())
    }

    /// Where RTP of this end goes, once known and allowed.
    pub(super) fn rtp_target(&self) -> Option<SocketAddr> {
        match &self.transport {
            MediaTransport::Browser { ice, srtp: Some(_), .. } => ice.selected(),
            MediaTransport::Browser { .. } => None,
            MediaTransport::Trunk { rtp, latching, .. } => {
                rtp.filter(is_usable).filter(|_| latching.may_send())
            }
        }
    }

    /// Whether a digit is on its way out in the media stream: nothing else is meanwhile.
    pub(super) fn is_dialling(&self) -> bool {
        !self.digits.is_empty()
    }

    /// Limits what the encoder may spend, libopus's complexity.
    pub(super) fn limit_complexity(&mut self, complexity: u8) {
        self.complexity = complexity;
        if let (Some(encoder), Some(settings)) = (&mut self.encoder, &self.settings) {
            encoder.set_complexity(settings.complexity.min(complexity));
        }
    }

    /// The encoder for what is agreed; of `rate` if that matters.
    pub(super) fn encoder(&mut self, rate: Option<u32>) -> Option<&mut Encoder> {
        let settings = self.settings.as_ref()?;
        let codec = settings.negotiated.codec;
        let fits = |e: &Encoder| e.codec == codec && rate.is_none_or(|r| e.rate == r);
        if !self.encoder.as_ref().is_some_and(fits) {
            let mut encoder = Encoder::new(
                codec,
                rate.unwrap_or(NARROW),
                settings.complexity.min(self.complexity),
            );
            encoder.limit_bits(settings.negotiated.max_average_bitrate);
            self.encoder = Some(encoder);
        }
        self.encoder.as_mut()
    }

    /// Follows the source of what comes in: one that starts again has statistics of its own, and
    /// what follows it begins anew.
    pub(super) fn follow(&mut self, now: Instant, packet: &Packet, content: Content) {
        let codec = match content {
            Content::Audio(codec) => Some(codec),
            Content::Event(_) | Content::Noise => None,
        };
        if self.continuity.as_mut().is_some_and(|c| c.continues(now, packet, codec)) {
            return;
        }
        let first = self.continuity.replace(Continuity::new(now, packet, codec)).is_none();
        let disorder = self.reception.map(|r| r.disorder()).unwrap_or_default();
        self.disorder_before = self.disorder_before + disorder;
        let mut reception = match &self.reception {
            Some(before) => ReceiverStats::after(before, packet.ssrc),
            None => ReceiverStats::new(packet.ssrc),
        };
        reception.pause(self.settings.as_ref().is_some_and(|s| !s.negotiated.direction.receives()));
        self.reception = Some(reception);
        if first {
            return;
        }
        self.restarts = self.restarts.wrapping_add(1);
        if let Path::Transcode(path) = &mut self.path {
            path.restart();
        }
    }

    /// Whether what was agreed lets us send.
    pub(super) fn may_send(&self) -> bool {
        self.settings.as_ref().is_some_and(|s| s.negotiated.direction.sends())
    }

    /// Whether something can go out now. What cannot is given no number: its peer would count it as
    /// lost, and SRTP could not follow a long gap (RFC 3711 §3.3.1).
    pub(super) fn reaches_peer(&self) -> bool {
        self.peer_address().is_some()
    }

    /// Where what goes out now is sent to.
    pub(super) fn peer_address(&self) -> Option<SocketAddr> {
        if self.may_send() { self.rtp_target() } else { None }
    }

    /// What tells this end's packets, while its source continues, from those of any other.
    pub(super) fn origin(&self) -> u64 {
        u64::from(self.id.0) << 32 | u64::from(self.restarts)
    }

    /// Takes new settings; the transport's part of them too.
    pub(super) fn configure(
        &mut self,
        now: Instant,
        settings: EndpointSettings,
        send: &mut impl FnMut(&[u8]),
    ) {
        self.path_times[0].get_or_insert(now);
        match (&mut self.transport, &settings.negotiated.remote) {
            (
                MediaTransport::Browser { ice, dtls, .. },
                Remote::Dtls { ice: remote, local_ice, fingerprints, active, tls_id },
            ) => {
                ice.set(local_ice, remote);
                let other = match self.settings.as_ref().map(|s| &s.negotiated.remote) {
                    Some(Remote::Dtls { active: role, tls_id: name, .. }) => {
                        role != active || name != tls_id
                    }
                    _ => false,
                };
                dtls.describe(fingerprints, *active, other);
                if *active && ice.selected().is_some() {
                    dtls.start(now, send);
                }
            }
            (
                MediaTransport::Trunk { rtp, rtcp, latching, sdes },
                Remote::Rtp { rtp: new_rtp, rtcp: new_rtcp, sdes: keys },
            ) => {
                // Only signalling moves or unlocks a trunk's address.
                let moved = self.settings.as_ref().map(|s| &s.negotiated.remote)
                    != Some(&settings.negotiated.remote);
                if moved {
                    (*rtp, *rtcp) = (Some(*new_rtp), Some(*new_rtcp));
                    *sdes = keys.as_ref().map(|keys| SdesSrtp::renew(sdes.take(), keys));
                    latching.on_description(now, *new_rtp);
                }
            }
            _ => {}
        }
        if let Some(encoder) = &mut self.encoder {
            encoder.limit_bits(settings.negotiated.max_average_bitrate);
        }
        let received = |s: &EndpointSettings| s.negotiated.direction.receives();
        if let Some(reception) = &mut self.reception {
            reception.pause(!received(&settings));
        }
        if received(&settings) && self.settings.as_ref().is_some_and(|old| !received(old)) {
            // A hold is no silence.
            self.last_received = self.last_received.map(|_| now);
        }
        self.settings = Some(settings);
    }

    /// Until the next report: half to one and a half times 5 s, so that calls that began together
    /// do not report together (RFC 3550 §6.3.1).
    pub(super) fn report_interval(&mut self) -> Duration {
        REPORT / 2 + REPORT.mul_f32(self.chance.share())
    }

    /// What the network did to what the peer sends; nothing before it has sent enough.
    pub(super) fn inbound_impairment(&self) -> Option<Impairment> {
        let reception = self.reception.as_ref().filter(|_| self.received >= ENOUGH)?;
        let codec = self.settings.as_ref()?.negotiated.codec;
        let lost = self.disorder().lost;
        Some(Impairment {
            loss: lost as f32 / (lost + self.received) as f32,
            burst_ratio: reception.burst_ratio(),
            jitter: reception.jitter(codec.clock()),
            round_trip: self.feedback.newest().and_then(|f| f.round_trip).unwrap_or_default(),
        })
    }

    /// As [`heard`](Self::heard) for what we send, by the peer's reports.
    fn spoken(&self) -> Option<Impairment> {
        let feedback = self.feedback.newest()?;
        let codec = self.settings.as_ref()?.negotiated.codec;
        if u64::from(self.outbound.sent.packets) < ENOUGH {
            return None;
        }
        Some(Impairment {
            loss: feedback.total_lost as f32 / self.outbound.sent.packets as f32,
            burst_ratio: 1.0,
            jitter: time_of(feedback.jitter, codec.clock()),
            round_trip: feedback.round_trip.unwrap_or_default(),
        })
    }

    /// Notes the last second's figures, once a second.
    pub(super) fn take_sample(&mut self, now: Instant) {
        if !self.series.is_due(now) {
            return;
        }
        let clock = self.clock();
        let feedback = self.feedback.newest();
        let totals = Totals {
            received: self.received,
            lost: self.disorder().lost,
            sent: self.outbound.sent.packets,
            jitter: self.reception.map_or(Duration::ZERO, |r| r.jitter(clock)),
            round_trip: feedback.and_then(|f| f.round_trip).unwrap_or_default(),
            reported_loss: feedback.map_or(0, |f| (f.fraction_lost * 100.0) as u8),
            reported_jitter: feedback.map(|f| time_of(f.jitter, clock)),
        };
        let levels = Levels { came: self.loudness.take(), played: self.played.take() };
        self.series.take(now, totals, levels);
    }

    /// The end's figures so far, and how they came about.
    pub fn statistics(&self) -> Statistics {
        Statistics { series: self.series.samples().to_vec(), ..self.figures() }
    }

    pub(super) fn disorder(&self) -> SequenceStats {
        self.disorder_before + self.reception.map(|r| r.disorder()).unwrap_or_default()
    }

    /// The end's figures so far.
    pub fn figures(&self) -> Statistics {
        let codec = self.settings.as_ref().map(|s| s.negotiated.codec);
        let clock = codec.map_or(8_000, |c| c.clock());
        let [described, connected, secured] = self.path_times;
        let disorder = self.disorder();
        let between = |from: Option<Instant>, to: Option<Instant>| {
            from.zip(to).map(|(from, to)| to.saturating_duration_since(from))
        };
        Statistics {
            codec: codec.map(|c| c.name()),
            received: self.received,
            last_received: self.last_received,
            lost: disorder.lost,
            reordered: disorder.reordered,
            late: disorder.late,
            // What SRTP has seen already never gets as far as the statistics.
            duplicate: disorder.duplicate + self.dropped.replayed,
            sent: self.outbound.sent.packets,
            jitter: self.reception.map(|r| r.jitter(clock)),
            round_trip: self.feedback.newest().and_then(|f| f.round_trip),
            reported_loss: self.feedback.newest().map(|f| f.fraction_lost),
            reported_jitter: self.feedback.newest().map(|f| time_of(f.jitter, clock)),
            srtp: match &self.transport {
                MediaTransport::Browser { srtp, .. } => srtp.as_ref().map(|s| s.profile),
                MediaTransport::Trunk { sdes, .. } => sdes.as_ref().map(|s| s.srtp.profile),
            },
            // Our own description may be answered by checks before the peer's arrives.
            ice: between(described.or(connected), connected),
            dtls: between(connected, secured),
            dropped: self.dropped,
            browser: matches!(self.transport, MediaTransport::Browser { .. }),
            checks: self.checks,
            reports: self.reports,
            announced: match &self.transport {
                MediaTransport::Trunk { rtp, .. } => *rtp,
                MediaTransport::Browser { .. } => None,
            },
            unexpected_source: self.unexpected_source,
            non_silent_packets: self.non_silent_packets,
            unexpected_payload_type: self.unexpected_payload_type,
            may_speak: self.settings.as_ref().is_some_and(|s| s.negotiated.direction.receives()),
            may_hear: self.settings.as_ref().is_some_and(|s| s.negotiated.direction.sends()),
            series: Vec::new(),
            mos: (self.inbound_impairment().map(|i| i.mos()), self.spoken().map(|i| i.mos())),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.figures();
        write!(
            f,
            "end {} {} in {} out {} lost {}",
            self.id.0,
            s.codec.unwrap_or("-"),
            s.received,
            s.sent,
            s.lost
        )
    }
}
