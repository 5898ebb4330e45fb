//! Snapshots of a session for a successor of its process, and a session from one.
//!
//! A session whose snapshots are kept says when it wants another: when something changed that a
//! successor must know, every few seconds, and long before what it reserved is used up.

use super::{Session, SessionEvent, Sink};
use crate::media::dtls::{DtlsIdentity, Handshake};
use crate::media::endpoint::{AudioSource, Endpoint, MediaTransport, SdesSrtp, Srtp};
use crate::media::feedback::PeerFeedback;
use crate::media::ice::IceLiteAgent;
use crate::media::latching::Latching;
use crate::media::outbound_stream::OutboundStream;
use crate::media::player::{PlaySource, Player};
use crate::media::series::Series;
use crate::media::snapshot::{
    Clocks, Counters, JoinSnapshot, MediaLegSnapshot, NotRestored, Resumed, SessionSnapshot, Sound,
    SrtpSnapshot, TransportSnapshot, offset,
};
use crate::pace::Pace;
use crate::rtp::reserve::RESERVE;
use crate::rtp::srtp::{Protect, Reserved, Unprotect};
use crate::sdp::crypto::{CryptoKeys, Sdes};
use crate::sdp::offer_answer::{Remote, TelephoneEvents};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two snapshots if nothing changes: half a lease.
const INTERVAL: Duration = Duration::from_secs(10);
/// Between two if there is no hurry.
const LEISURE: Duration = Duration::from_secs(1);
/// Snapshots in a second because something changed: a peer may change where it is with every
/// packet, and each snapshot is written. What changes after that waits.
const MOST_CHANGES: u32 = 20;

/// A session's snapshots are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionJournal {
    /// Of the next snapshot.
    number: u64,
    /// When one is asked for.
    due: Instant,
    /// Something changed, so one is asked for at once, or no earlier than then.
    changed: bool,
    not_before: Option<Instant>,
    /// What changed in this second, and until when more of that waits.
    changes: Pace,
    rests: Option<Instant>,
    /// A reserve runs low: one is asked for at once, and once a snapshot.
    low: bool,
    asked: bool,
}

impl SessionJournal {
    /// The snapshot of this number is asked for at `due`.
    fn new(number: u64, due: Instant) -> SessionJournal {
        SessionJournal {
            number,
            due,
            changed: false,
            not_before: None,
            changes: Pace::default(),
            rests: None,
            low: false,
            asked: false,
        }
    }

    /// When a snapshot is asked for; `None`: at once.
    fn due(&self) -> Option<Instant> {
        if self.low {
            return None;
        }
        if self.changed {
            let earliest = self.not_before.into_iter().chain(self.rests).max();
            return earliest.map(|earliest| self.due.min(earliest));
        }
        Some(self.due)
    }
}

/// How the next snapshot reserves indices.
#[derive(Clone, Copy)]
enum Reserving {
    Ahead {
        now: Instant,
        number: u64,
    },
    /// Nothing is sent after it.
    Nothing {
        now: Instant,
    },
}

impl Session {
    /// Snapshots are kept from now on: [`SessionEvent::Checkpoint`] asks for each.
    pub fn keep(&mut self, now: Instant) {
        let journal = self.journal.get_or_insert(SessionJournal::new(1, now));
        (journal.changed, journal.not_before) = (true, None);
    }

    /// The same for a successor within this process. Its threads die of bugs only, so what changes
    /// waits for a second, and short calls cost nothing.
    pub fn keep_at_leisure(&mut self, now: Instant) {
        let journal = self.journal.get_or_insert(SessionJournal::new(1, now + LEISURE));
        (journal.changed, journal.not_before) = (true, Some(now + LEISURE));
    }

    /// Something changed that a successor must know.
    pub(crate) fn mark_changed(&mut self) {
        self.journal.iter_mut().for_each(|journal| journal.changed = true);
    }

    /// An end has sent: another reserve may be wanted.
    pub(super) fn note_reserve(&mut self, at: usize) {
        if let Some(journal) = &mut self.journal
            && !journal.asked
            && self.ends[at].transport.srtp().is_some_and(|srtp| srtp.protect.is_low())
        {
            (journal.low, journal.asked) = (true, true);
        }
    }

    pub(super) fn fire_journal(&mut self, now: Instant, sink: &mut impl Sink) {
        let Some(journal) = &mut self.journal else { return };
        for srtp in self.ends.iter_mut().filter_map(|end| end.transport.srtp()) {
            srtp.protect.expire(self.vouched.map_or(now, |until| until.min(now)));
        }
        if journal.due().is_none_or(|due| now >= due) {
            let often = journal.changed && !journal.changes.take(now, Some(MOST_CHANGES));
            journal.rests = often.then(|| now + LEISURE);
            (journal.due, journal.changed, journal.low) = (now + INTERVAL, false, false);
            journal.not_before = journal.not_before.map(|_| now + LEISURE);
            sink.event(SessionEvent::Checkpoint);
        }
    }

    /// When [`fire_journal`](Self::fire_journal) is next due.
    pub(super) fn journal_due(&self) -> Option<Instant> {
        let journal = self.journal.as_ref()?;
        let lease = |end: &Endpoint| end.transport.sealing().and_then(|p| p.lease_ends());
        // What is over later than that is known is over when more is known.
        let lease = |end: &Endpoint| {
            lease(end).filter(|over| self.vouched.is_none_or(|until| *over <= until))
        };
        let due = journal.due().unwrap_or(self.started);
        self.ends.iter().filter_map(lease).chain([due]).min()
    }

    /// A snapshot to be kept. It reserves what a successor that finds it will send with, so nothing
    /// beyond that is sent until a newer one is [confirmed](Self::confirm), or this one is too old
    /// to continue from.
    pub fn checkpoint(&mut self, now: Instant, clocks: Clocks) -> SessionSnapshot {
        let journal = self.journal.get_or_insert(SessionJournal::new(1, now + INTERVAL));
        let number = journal.number;
        (journal.number, journal.asked) = (number.saturating_add(1), false);
        self.snapshot(now, clocks, Reserving::Ahead { now, number })
    }

    /// A snapshot for a successor that continues at once, with the very next packet: nothing more
    /// may be sent here, unless it is certain that the successor never sends.
    pub fn hand_over(&mut self, now: Instant, clocks: Clocks) -> SessionSnapshot {
        self.snapshot(now, clocks, Reserving::Nothing { now })
    }

    /// A successor finds the snapshot of this number or a newer one: older ones hold nothing back
    /// any more.
    pub fn confirm(&mut self, number: u64) {
        for srtp in self.ends.iter_mut().filter_map(|end| end.transport.srtp()) {
            srtp.protect.confirm(number);
        }
    }

    /// Nobody had taken this session over by then, as far as is known; `None`: it would be known at
    /// once. Beyond that, no snapshot is too old to continue from: somebody may have done so
    /// before.
    pub fn vouch(&mut self, until: Option<Instant>) {
        self.vouched = until;
    }

    /// A successor finds no snapshot: none holds anything back.
    pub fn forgotten(&mut self) {
        self.confirm(u64::MAX);
    }

    fn snapshot(&mut self, now: Instant, taken: Clocks, reserving: Reserving) -> SessionSnapshot {
        let number = match reserving {
            Reserving::Ahead { number, .. } => number,
            Reserving::Nothing { .. } => self.journal.as_ref().map_or(0, |journal| journal.number),
        };
        let ntp = self.ntp(now);
        let legs = self.ends.iter_mut().map(|end| end.snapshot(now, reserving)).collect();
        SessionSnapshot { number, taken, ntp, legs }
    }

    /// Goes on from a snapshot. It sends under its keys once a snapshot of its own is
    /// [confirmed](Self::confirm): until then the next process could find the old one again. One
    /// that was [handed over](Self::hand_over) sends at once, within what is reserved already.
    ///
    /// # Errors
    /// See [`NotRestored`]: nothing may be sent under its keys.
    pub fn restore(
        from: SessionSnapshot,
        now: Instant,
        clocks: Clocks,
        identity: &Arc<DtlsIdentity>,
    ) -> Result<Session, NotRestored> {
        let age = from.check(clocks)?;
        sound(&from)?;
        let first = from.first_checkpoint();
        let times = Resumed::new(now, age);
        let passed = (age.as_nanos() << 32) / 1_000_000_000;
        let ends = from.legs.into_iter().map(|leg| leg.resume(times, from.number, identity));
        let mut session = Session {
            ends: ends.collect(),
            started: now,
            ntp: from.ntp.wrapping_add(passed as u64),
            silent_since: now,
            silence_told: None,
            one_way_due: None,
            one_way_again: super::ONE_WAY,
            complexity: super::COMPLEXITY,
            journal: None,
            vouched: None,
            inherited: now.checked_sub(age),
        };
        session.journal = Some(SessionJournal::new(from.number.saturating_add(1), now + first));
        for at in 0..session.ends.len() {
            let first = session.ends[at].report_interval();
            session.ends[at].next_report = session.ends[at].settings.is_some().then(|| now + first);
            session.plan(at);
        }
        Ok(session)
    }
}

/// The bounds of each leg, and the error if one breaks them.
type Invariant<'a> = (&'static str, &'a dyn Fn(&MediaLegSnapshot) -> bool);

/// Whether what a snapshot says can be.
fn sound(from: &SessionSnapshot) -> Result<(), NotRestored> {
    let all = |holds: &dyn Fn(&MediaLegSnapshot) -> bool| from.legs.iter().all(holds);
    let settled = |leg: &MediaLegSnapshot, holds: &dyn Fn(&Remote, &TelephoneEvents) -> bool| {
        let agreed = leg.settings.as_ref().map(|s| &s.negotiated);
        agreed.is_none_or(|n| holds(&n.remote, &n.events))
    };
    let rules: [Invariant<'_>; 5] = [
        ("two ends of one name", &|leg| from.legs().filter(|id| *id == leg.id).count() == 1),
        ("an end joined to none", &|leg| match leg.join {
            JoinSnapshot::Bridge(peer) => from.legs().any(|id| id == peer),
            _ => true,
        }),
        ("no ICE credentials", &|leg| match &leg.transport {
            TransportSnapshot::Browser { ice, .. } => !ice.local.is_empty(),
            TransportSnapshot::Trunk { .. } => true,
        }),
        ("a transport of another kind", &|leg| {
            settled(leg, &|remote, _| {
                matches!(
                    (&leg.transport, remote),
                    (TransportSnapshot::Browser { .. }, Remote::Dtls { .. })
                        | (TransportSnapshot::Trunk { .. }, Remote::Rtp { sdes: None, .. })
                )
            })
        }),
        ("events without a clock", &|leg| {
            settled(leg, &|_, events| {
                events.send.iter().chain(&events.receive).all(|format| format.clock > 0)
            })
        }),
    ];
    match rules.into_iter().find(|(_, holds)| !all(holds)) {
        Some((why, _)) => Err(NotRestored::Unsound(why)),
        None => Ok(()),
    }
}

impl SessionSnapshot {
    /// When a session made of it asks for its first checkpoint: at once, unless what was reserved
    /// may be sent before it. A thousand sessions taken over at once ask one by one.
    fn first_checkpoint(&self) -> Duration {
        let handed =
            |leg: &MediaLegSnapshot| leg.transport.srtp().is_some_and(|s| s.held.is_some());
        let ssrc = self.legs.first().map_or(0, |leg| leg.outbound.ssrc());
        if self.legs.iter().any(handed) {
            LEISURE / 2 + LEISURE * (ssrc % 256) / 256
        } else {
            Duration::ZERO
        }
    }
}

impl Srtp {
    fn snapshot(&mut self, reserving: Reserving, sequence: u16) -> SrtpSnapshot {
        let (reserved, held) = match reserving {
            Reserving::Ahead { now, number } => (self.protect.reserve(now, number, sequence), None),
            Reserving::Nothing { now } => {
                let (reserved, held) = self.protect.hand_over(now, sequence);
                (reserved, Some(held))
            }
        };
        SrtpSnapshot {
            send: self.protect.master().clone(),
            reserved: Some(reserved),
            held,
            receive: self.unprotect.master().clone(),
            received: self.unprotect.received(),
            mki: Default::default(),
        }
    }

    /// `number` and `taken`: of the snapshot, which the next process could find too.
    fn resume(from: SrtpSnapshot, number: u64, taken: Instant) -> Srtp {
        let reserved = from.reserved.unwrap_or(Reserved { rtp: u64::MAX, rtcp: u32::MAX });
        Srtp {
            profile: from.receive.profile(),
            protect: match from.held {
                Some(held) => Protect::take_over(from.send, reserved, held, taken),
                None => Protect::resume(from.send, reserved, number, taken),
            },
            unprotect: Unprotect::resume(from.receive, &from.received),
        }
    }
}

impl Endpoint {
    fn snapshot(&mut self, taken: Instant, reserving: Reserving) -> MediaLegSnapshot {
        let at = |at: Option<Instant>| at.map(|at| offset(taken, at));
        let sequence = self.outbound.next();
        let transport = self.transport.snapshot(taken, reserving, sequence);
        let next = match (transport.srtp().and_then(|srtp| srtp.reserved), reserving) {
            (Some(reserved), _) => reserved.rtp as u16,
            (None, Reserving::Ahead { .. }) => sequence.wrapping_add(RESERVE as u16),
            (None, Reserving::Nothing { .. }) => sequence,
        };
        let clock = self.clock();
        let mut settings = self.settings.clone();
        if let Some(Remote::Rtp { sdes, .. }) = settings.as_mut().map(|s| &mut s.negotiated.remote)
        {
            *sdes = None;
        }
        MediaLegSnapshot {
            id: self.id,
            cname: self.cname.clone(),
            transport,
            settings,
            outbound: self.outbound.snapshot(taken, clock, next),
            join: (&self.join).into(),
            counters: self.counters(taken),
            connected: self.connected,
            flowing: self.flowing,
            last_received: at(self.last_received),
            last_sign: at(self.last_sign),
            path_times: self.path_times.map(at),
        }
    }

    fn counters(&self, taken: Instant) -> Counters {
        let outline = self.series.outline();
        Counters {
            received: self.received,
            disorder: self.disorder(),
            dropped: self.dropped,
            checks: self.checks,
            reports: self.reports,
            non_silent_packets: self.non_silent_packets,
            unexpected_source: self.unexpected_source,
            unexpected_payload_type: self.unexpected_payload_type,
            feedback: self.feedback.newest().copied(),
            series: outline.map(|(began, before, few)| (offset(taken, began), before, few)),
        }
    }
}

impl MediaTransport {
    fn snapshot(
        &mut self,
        taken: Instant,
        reserving: Reserving,
        sequence: u16,
    ) -> TransportSnapshot {
        match self {
            MediaTransport::Browser { ice, dtls, srtp, .. } => TransportSnapshot::Browser {
                ice: ice.snapshot(taken),
                secured: dtls.is_done(),
                shown: dtls.peer_fingerprint(),
                srtp: srtp.as_mut().map(|srtp| srtp.snapshot(reserving, sequence)),
            },
            MediaTransport::Trunk { rtp, rtcp, latching, sdes } => TransportSnapshot::Trunk {
                rtp: *rtp,
                rtcp: *rtcp,
                latching: latching.snapshot(taken),
                srtp: sdes.as_mut().map(|sdes| SrtpSnapshot {
                    mki: [sdes.keys.theirs.mki.clone(), sdes.keys.ours.mki.clone()],
                    ..sdes.srtp.snapshot(reserving, sequence)
                }),
            },
        }
    }
}

impl From<&AudioSource> for JoinSnapshot {
    fn from(join: &AudioSource) -> JoinSnapshot {
        match join {
            AudioSource::Nothing => JoinSnapshot::Nothing,
            AudioSource::Bridge(peer) => JoinSnapshot::Bridge(*peer),
            AudioSource::Echo { delay, .. } => JoinSnapshot::Echo(*delay),
            AudioSource::Play { player, .. } => {
                let (source, at) = player.position();
                let sound = match source {
                    PlaySource::Tone(hz) => Sound::Tone(*hz),
                    PlaySource::Tune => Sound::Tune,
                    PlaySource::Ringback => Sound::Ringback,
                    PlaySource::Silence => Sound::Silence,
                    PlaySource::Clip(_) => Sound::Clip,
                };
                JoinSnapshot::Play(sound, at)
            }
        }
    }
}

impl JoinSnapshot {
    fn resume(self, now: Instant) -> AudioSource {
        match self {
            JoinSnapshot::Nothing => AudioSource::Nothing,
            JoinSnapshot::Bridge(peer) => AudioSource::Bridge(peer),
            JoinSnapshot::Echo(delay) => AudioSource::Echo { delay, line: Default::default() },
            JoinSnapshot::Play(sound, at) => {
                let source = match sound {
                    Sound::Tone(hz) => PlaySource::Tone(hz),
                    Sound::Tune => PlaySource::Tune,
                    Sound::Ringback => PlaySource::Ringback,
                    Sound::Silence => PlaySource::Silence,
                    Sound::Clip => PlaySource::Clip(Arc::new([])),
                };
                AudioSource::Play { player: Player::resume(source, at), next: now }
            }
        }
    }
}

impl MediaLegSnapshot {
    fn resume(self, times: Resumed, number: u64, identity: &Arc<DtlsIdentity>) -> Endpoint {
        let at = |offset: Option<i64>| offset.map(|offset| times.at(offset));
        let clock = self.settings.as_ref().map_or(8_000, |s| s.negotiated.codec.clock());
        let mut settings = self.settings;
        let transport = match self.transport {
            TransportSnapshot::Browser { ice, secured, shown, srtp } => {
                let fingerprints = match settings.as_ref().map(|s| &s.negotiated.remote) {
                    Some(Remote::Dtls { fingerprints, .. }) => fingerprints.clone(),
                    _ => Vec::new(),
                };
                let start = if secured { Handshake::finished } else { Handshake::new };
                MediaTransport::Browser {
                    ice: Box::new(IceLiteAgent::resume(ice, times)),
                    dtls: Box::new(start(identity.clone(), fingerprints).has_shown(shown)),
                    srtp: srtp.map(|srtp| Box::new(Srtp::resume(srtp, number, times.taken))),
                    // Packets under keys before these are as good as lost.
                    before: None,
                }
            }
            TransportSnapshot::Trunk { rtp, rtcp, latching, srtp } => {
                let sdes = srtp.map(|srtp| SdesSrtp::resume(srtp, number, times.taken));
                if let Some(Remote::Rtp { sdes: agreed, .. }) =
                    settings.as_mut().map(|s| &mut s.negotiated.remote)
                {
                    *agreed = sdes.as_ref().map(|sdes| Box::new(sdes.keys.clone()));
                }
                MediaTransport::Trunk {
                    rtp,
                    rtcp,
                    latching: Latching::resume(latching, times),
                    sdes,
                }
            }
        };
        let outbound = OutboundStream::resume(self.outbound, times, clock);
        let seed = u64::from(outbound.sent.ssrc) << 32 | u64::from(outbound.next());
        let counters = self.counters;
        let mut end = Endpoint::new(self.id, transport, outbound, self.cname, seed);
        end.settings = settings;
        end.join = self.join.resume(times.now);
        end.received = counters.received;
        end.disorder_before = counters.disorder;
        end.dropped = counters.dropped;
        end.checks = counters.checks;
        end.reports = counters.reports;
        end.non_silent_packets = counters.non_silent_packets;
        end.unexpected_source = counters.unexpected_source;
        end.unexpected_payload_type = counters.unexpected_payload_type;
        end.feedback = PeerFeedback::resume(counters.feedback, end.outbound.next());
        if let Some((began, before, outline)) = counters.series {
            end.series = Series::resume(times.now, times.at(began), before, outline);
        }
        (end.connected, end.flowing) = (self.connected, self.flowing);
        end.last_received = at(self.last_received);
        // That nothing was heard meanwhile is nobody's fault.
        end.last_sign = self.last_sign.map(|_| times.now);
        end.path_times = self.path_times.map(at);
        if let MediaTransport::Browser { ice, .. } = &end.transport {
            end.heard = ice.last_check().map(|_| times.now);
        }
        end
    }
}

impl SdesSrtp {
    fn resume(mut from: SrtpSnapshot, number: u64, taken: Instant) -> Box<SdesSrtp> {
        let [theirs, ours] = std::mem::take(&mut from.mki);
        let keys = Sdes {
            ours: CryptoKeys { master: from.send.clone(), mki: ours },
            theirs: CryptoKeys { master: from.receive.clone(), mki: theirs },
        };
        let mut srtp = Srtp::resume(from, number, taken);
        srtp.unprotect = srtp.unprotect.with_mki(&keys.theirs.mki);
        Box::new(SdesSrtp { keys, srtp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::endpoint::Port;
    use std::net::SocketAddr;

    #[derive(Default)]
    struct Asked(usize);

    impl Sink for Asked {
        fn send(&mut self, _: Port, _: SocketAddr, _: &[u8]) {}
        fn event(&mut self, event: SessionEvent) {
            self.0 += usize::from(event == SessionEvent::Checkpoint);
        }
    }

    #[test]
    fn what_changes_with_every_packet_is_kept_at_a_pace() {
        let (start, mut asked) = (Instant::now(), Asked::default());
        let mut session = Session::new(start, Duration::ZERO);
        session.keep(start);
        let mut changes = |from: u64, until: u64| {
            for ms in from..until {
                session.mark_changed();
                session.fire(start + Duration::from_millis(ms), &mut asked);
            }
            std::mem::take(&mut asked.0)
        };
        assert_eq!(changes(0, 15), 15, "at once");
        assert!((6..=8).contains(&changes(15, 1_000)), "then they wait");
        assert!((20..=44).contains(&changes(1_000, 3_000)));
    }
}
