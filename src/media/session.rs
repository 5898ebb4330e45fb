//! A media session: ends and the packets between them, as one machine in virtual time.
//!
//! Media rules held here (each with a negative test in tests/media):
//! 1. From an address not validated by an authentic STUN check only STUN is looked at; and SRTP, if
//!    it is authentic and fresh, is asked back by a check of ours.
//! 2. The SRTP tag is checked before any state changes.
//! 3. No packet from an unverified source ends a call, gets an answer, or moves an address.
//! 4. The DTLS fingerprint is always checked, in both roles.
//! 5. A trunk's address comes from signalling; `nat` learns a port within the same IP, or within
//!    the IP of signalling if that is allowed for the trunk, for 3 s, and locks; RTCP never
//!    teaches. The announced address wins, and gets 5 packets before it has sent anything.

mod comfort_noise;
mod digits;
mod due;
mod fading;
mod forward;
mod journal;
mod receive;
mod stopped;

use super::dtls;
use super::endpoint::{
    AudioSource, Digits, Endpoint, EndpointKind, EndpointSettings, LegId, MediaTransport, Path,
    Port, Statistics, Transcoding,
};
use super::outbound_stream::OutboundStream;
use super::player::{PlaySource, Player};
use super::reorder::Reorder;
use super::transcoder::{Transcoder, frame_ms};
use crate::codec::Codec;
use crate::rtp::srtp::Profile;
use crate::sdp::offer_answer::Ice;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// What the session tells the call.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "of which end, and what its type says")]
pub enum SessionEvent {
    /// ICE selected an address for the first time.
    Connected { end: LegId, address: SocketAddr },
    /// DTLS finished: SRTP keys are in place.
    Secured { end: LegId, profile: Profile },
    /// DTLS ended without keys.
    DtlsFailed { end: LegId, why: dtls::Failed },
    /// The first media packet came from this end's peer.
    Flowing { end: LegId },
    /// Nothing has ever come from this end, RTCP included, though the other one has sent for 5 s.
    /// Reported again after 5 s more, 10, 20, ….
    Silent { end: LegId },
    /// Nothing has come from this end for so long as is set, RTCP included, though it is not on
    /// hold. Reported again for as long as that lasts.
    Stopped { end: LegId },
    /// An end that had stopped is heard again.
    Resumed { end: LegId },
    /// A digit for this end, whose peer takes digits by signalling.
    Digit { end: LegId, event: u8, length: Duration },
    /// What was played has ended.
    Played { end: LegId },
    /// The browser has not confirmed consent for 30 s.
    ConsentLost { end: LegId },
    /// Nothing authentic comes from a browser, neither checks nor media, for so long.
    Faded { end: LegId, since: Duration },
    /// A browser that had faded is heard again.
    Regained { end: LegId },
    /// An end's figures, every few seconds.
    Quality { end: LegId, figures: Box<Statistics> },
    /// There has been no sign of any end for so long as is set and a multiple of it, RTCP and
    /// authentic ICE checks included.
    NoMedia { since: Duration },
    /// What a successor must know has changed, or more must be reserved: [`Session::checkpoint`] is
    /// to be called, and what it gives to be kept.
    Checkpoint,
}

/// Where a session's packets and events go. Packets are borrowed: nothing is allocated for them.
pub trait Sink {
    /// Sends a datagram.
    fn send(&mut self, port: Port, to: SocketAddr, datagram: &[u8]);
    /// Tells the call.
    fn event(&mut self, event: SessionEvent);
}

/// An end that says nothing for this long after the other began is reported.
const ONE_WAY: Duration = Duration::from_secs(5);
/// One frame of our own audio.
const TICK: Duration = Duration::from_millis(20);
/// libopus's highest complexity: no limit.
pub(crate) const COMPLEXITY: u8 = 10;
/// Longest datagram we build.
const MAX_DATAGRAM: usize = 1_500;
/// Seconds from 1900 to 1970 (RFC 3550 §4).
const NTP_EPOCH: u64 = 2_208_988_800;

/// When the frame after one due at `due` is: after a stall time is skipped rather than sent as a
/// burst.
fn following(now: Instant, due: Instant, frame: Duration) -> Instant {
    if now > due + 5 * frame { now + frame } else { due + frame }
}

/// A session.
pub struct Session {
    ends: Vec<Endpoint>,
    started: Instant,
    /// NTP time of `started`; only differences matter to peers.
    ntp: u64,
    silent_since: Instant,
    /// When that was last reported to the call.
    silence_told: Option<Instant>,
    /// When it is looked whether the end joined to one that sends is heard too, and how long after
    /// that again.
    one_way_due: Option<Instant>,
    one_way_again: Duration,
    complexity: u8,
    /// Snapshots are kept for a successor of this process.
    journal: Option<journal::SessionJournal>,
    /// By when it is known that no other process continues with it; `None`: it would be known.
    vouched: Option<Instant>,
    /// Until when another process had it.
    inherited: Option<Instant>,
}

impl Session {
    /// An empty session; `unix` is the wall clock of `now`, for RTCP.
    pub fn new(now: Instant, unix: Duration) -> Session {
        let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
        let ntp = ((unix.as_secs() + NTP_EPOCH) << 32) | fraction;
        Session {
            ends: Vec::new(),
            started: now,
            ntp,
            silent_since: now,
            silence_told: None,
            one_way_due: None,
            one_way_again: ONE_WAY,
            complexity: COMPLEXITY,
            journal: None,
            vouched: None,
            inherited: None,
        }
    }

    /// Limits what encoders may spend, libopus's complexity; a busy worker asks for less.
    pub(crate) fn limit_complexity(&mut self, complexity: u8) {
        self.complexity = complexity;
        self.ends.iter_mut().for_each(|end| end.limit_complexity(complexity));
    }

    fn ntp(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.started);
        self.ntp.wrapping_add(((elapsed.as_nanos() << 32) / 1_000_000_000) as u64)
    }

    fn index(&self, id: LegId) -> Option<usize> {
        self.ends.iter().position(|e| e.id == id)
    }

    /// Adds an end; `seed` numbers its stream.
    pub fn open(&mut self, id: LegId, kind: EndpointKind, ssrc: u32, cname: &str, seed: u64) {
        let transport = MediaTransport::new(kind);
        let outbound = OutboundStream::new(ssrc, seed as u16, (seed >> 16) as u32);
        let end = Endpoint::new(id, transport, outbound, cname.to_owned(), seed);
        self.ends.push(Endpoint { complexity: self.complexity, ..end });
        self.mark_changed();
    }

    /// Has another page of a browser's, with ICE and keys of its own, in the place of the one
    /// before. What the end is joined to stays, and so does what is played to it.
    pub fn renew(&mut self, now: Instant, id: LegId, kind: EndpointKind) {
        let Some(at) = self.index(id) else { return };
        self.ends[at].renew(now, MediaTransport::new(kind));
        self.set_away(id, false);
        self.mark_changed();
    }

    /// A trunk's peer is behind NAT: within 3 s of an exchange of descriptions, or of the answer,
    /// its media may come from `signalling` too, and stays there. The announced address wins while
    /// it sends.
    pub fn mark_behind_nat(&mut self, id: LegId, signalling: IpAddr) {
        let Some(at) = self.index(id) else { return };
        if let MediaTransport::Trunk { latching, .. } = &mut self.ends[at].transport {
            latching.behind_nat(signalling);
        }
    }

    /// A trunk's peer has answered, or was answered: what it sends from shows now.
    pub fn on_answered(&mut self, now: Instant, id: LegId) {
        let Some(at) = self.index(id) else { return };
        if let MediaTransport::Trunk { latching, .. } = &mut self.ends[at].transport {
            latching.on_answer(now);
        }
    }

    /// Removes an end; returns its figures.
    pub fn close_end(&mut self, id: LegId) -> Option<Statistics> {
        let at = self.index(id)?;
        let end = self.ends.remove(at);
        self.mark_changed();
        for other in &mut self.ends {
            if matches!(other.join, AudioSource::Bridge(peer) if peer == id) {
                (other.join, other.comfort_noise) = (AudioSource::Nothing, None);
            }
        }
        Some(end.statistics())
    }

    /// The ends, for snapshots.
    pub fn ends(&self) -> &[Endpoint] {
        &self.ends
    }

    /// Applies what an exchange settled for an end.
    pub fn configure(
        &mut self,
        now: Instant,
        id: LegId,
        settings: EndpointSettings,
        sink: &mut impl Sink,
    ) {
        let Some(at) = self.index(id) else { return };
        let target = self.ends[at].rtp_target().or(self.selected(at));
        self.ends[at].configure(now, settings, &mut |bytes| {
            if let Some(to) = target {
                sink.send(Port::Browser, to, bytes);
            }
        });
        let first = self.ends[at].report_interval();
        self.ends[at].next_report.get_or_insert(now + first);
        self.alive(now);
        (self.ends[at].last_sign, self.ends[at].stopped) = (Some(now), None);
        self.mark_changed();
        (0..self.ends.len()).for_each(|n| self.plan(n));
    }

    fn selected(&self, at: usize) -> Option<SocketAddr> {
        match &self.ends[at].transport {
            MediaTransport::Browser { ice, .. } => ice.selected(),
            MediaTransport::Trunk { .. } => None,
        }
    }

    /// Joins two ends, both ways.
    pub fn bridge(&mut self, now: Instant, a: LegId, b: LegId) {
        for (from, to) in [(a, b), (b, a)] {
            self.join(from, AudioSource::Bridge(to));
        }
        self.watch_silence(now);
        (0..self.ends.len()).for_each(|n| self.plan(n));
    }

    /// Leaves an end alone: nothing is sent to it, and nothing of it goes anywhere.
    pub fn unbridge(&mut self, id: LegId) {
        self.mark_changed();
        for end in &mut self.ends {
            if end.id == id || matches!(end.join, AudioSource::Bridge(peer) if peer == id) {
                (end.join, end.comfort_noise) = (AudioSource::Nothing, None);
            }
        }
    }

    /// Joins an end to what it hears from now on; what filled its source's silence is over.
    fn join(&mut self, id: LegId, join: AudioSource) {
        self.mark_changed();
        if let Some(at) = self.index(id) {
            (self.ends[at].join, self.ends[at].comfort_noise) = (join, None);
            self.ends[at].source_away = false;
            self.ends[at].outbound.restart_mapping();
        }
    }

    /// Sends what an end says back to it, later by `delay`.
    pub fn echo(&mut self, id: LegId, delay: Duration) {
        self.join(id, AudioSource::Echo { delay, line: Default::default() });
    }

    /// Plays to an end.
    pub fn play(&mut self, now: Instant, id: LegId, source: PlaySource) {
        self.join(id, AudioSource::Play { player: Player::new(source), next: now });
    }

    /// Plans how packets of end `at` reach its peer: relayed if the codecs agree, else transcoded.
    fn plan(&mut self, at: usize) {
        if let Some(mine) = &self.ends[at].settings {
            self.plan_from(at, mine.negotiated.codec, None);
        }
    }

    /// As [`plan`](Self::plan), for the codec the peer really sends: it may switch within its
    /// description, and back; the other leg hears no jump. `ms` is the length of what it sends, if
    /// that is known.
    fn plan_from(&mut self, at: usize, from: Codec, ms: Option<u32>) {
        let AudioSource::Bridge(peer) = self.ends[at].join else { return };
        let Some(theirs) = self.index(peer).and_then(|p| self.ends[p].settings.as_ref()) else {
            return;
        };
        let mine = self.ends[at].settings.as_ref().map(|s| s.digits);
        // Digits that a peer sends as tones are recognised for one that takes them otherwise.
        let listen = mine == Some(Digits::Tones) && theirs.sends_digits() != Digits::Tones;
        let wanted = &theirs.negotiated;
        let (to, ptime) = (wanted.codec, wanted.ptime);
        let fits = match &self.ends[at].path {
            Path::Transcode(t) => t.transcoder.fits(from, to, ptime, listen),
            _ => false,
        };
        // Packets of another length than the peer asked for are cut anew, and from then on all are.
        let is_cut = matches!(to, Codec::Pcmu | Codec::Pcma | Codec::Opus);
        let unfit = |ms: u32| {
            (wanted.ptime_asked && ms != frame_ms(to, ptime))
                || wanted.max_ptime.is_some_and(|most| ms > most)
        };
        let limited = wanted.ptime_asked || wanted.max_ptime.is_some();
        let recut = is_cut && limited && (fits || ms.is_some_and(unfit));
        let relay = from == to && !listen && !recut;
        let same = if relay { matches!(self.ends[at].path, Path::Relay) } else { fits };
        if same {
            return;
        }
        self.ends[at].path = if relay {
            Path::Relay
        } else {
            let transcoder = Transcoder::new(from, to, ptime, listen);
            Path::Transcode(Box::new(Transcoding {
                reorder: Reorder::default(),
                transcoder,
                next: None,
            }))
        };
    }

    /// A browser is asked to restart ICE with these credentials of ours.
    pub fn offer_ice(&mut self, id: LegId, restart: Ice) {
        let Some(at) = self.index(id) else { return };
        if let MediaTransport::Browser { ice, .. } = &mut self.ends[at].transport {
            ice.offer(restart);
        }
    }

    /// Whether media of an end comes from `address` at this time.
    pub(crate) fn holds(&self, now: Instant, id: LegId, address: SocketAddr) -> bool {
        match self.index(id).map(|at| &self.ends[at].transport) {
            Some(MediaTransport::Browser { ice, .. }) => ice.holds(now, address),
            _ => false,
        }
    }

    /// What leads to an end, for the worker's demultiplexer.
    pub(crate) fn routes(&self, id: LegId) -> LegRoutes {
        let Some(end) = self.index(id).map(|at| &self.ends[at]) else {
            return LegRoutes::default();
        };
        let MediaTransport::Browser { ice, .. } = &end.transport else {
            return LegRoutes::default();
        };
        LegRoutes {
            ufrags: ice.ufrags().map(str::to_owned).collect(),
            addresses: ice.addresses().collect(),
            ssrc: self.ssrc_heard(id),
        }
    }

    /// The source of what is heard of an end.
    pub(crate) fn ssrc_heard(&self, id: LegId) -> Option<u32> {
        let end = self.index(id).map(|at| &self.ends[at])?;
        end.reception.as_ref().map(|reception| reception.ssrc)
    }
}

/// What leads to an end.
#[derive(Debug, Default)]
pub(crate) struct LegRoutes {
    /// Its ICE user fragments.
    pub ufrags: Vec<String>,
    /// Validated ones, and the one that is asked.
    pub addresses: Vec<SocketAddr>,
    /// The SSRC of what comes from it.
    pub ssrc: Option<u32>,
}

/// A time in units of `clock`, as timestamps count it.
fn units_of(time: Duration, clock: u32) -> u32 {
    (time.as_micros() as u64 * u64::from(clock) / 1_000_000) as u32
}
