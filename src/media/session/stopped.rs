//! Ends whose media stops in mid-call: the call gets an event, and probes whether the peer still
//! lives.

use super::{Session, SessionEvent, Sink};
use crate::media::endpoint::{Endpoint, MediaTransport};
use crate::sdp::Direction;
use std::time::{Duration, Instant};

impl Session {
    /// There is a sign of somebody, or something was settled anew.
    pub(super) fn alive(&mut self, now: Instant) {
        (self.silent_since, self.silence_told) = (now, None);
    }

    /// Something authentic came from the peer of end `at`, RTCP included.
    pub(super) fn sign_of_life(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        self.alive(now);
        self.heard(now, at, sink);
        let end = &mut self.ends[at];
        end.last_sign = Some(now);
        if end.stopped.take().is_some() {
            sink.event(SessionEvent::Resumed { end: end.id });
        }
    }

    /// Nobody listened for `stall`, as the process or its host was stopped: that nothing was heard
    /// meanwhile says nothing of anybody.
    pub fn overslept(&mut self, now: Instant, stall: Duration) {
        let later = |at: Instant| now.min(at + stall);
        self.silent_since = later(self.silent_since);
        self.silence_told = self.silence_told.map(later);
        self.one_way_due = self.one_way_due.map(|at| at + stall);
        for end in &mut self.ends {
            let times =
                [&mut end.last_sign, &mut end.last_received, &mut end.heard, &mut end.stopped];
            times.into_iter().flatten().for_each(|at| *at = later(*at));
            match &mut end.transport {
                MediaTransport::Browser { ice, dtls, .. } => {
                    ice.overslept(now, stall);
                    dtls.overslept(stall);
                }
                MediaTransport::Trunk { latching, .. } => latching.overslept(stall),
            }
        }
    }

    /// What is received next has waited for `stall`, as far as there was room: the rest is not
    /// lost.
    pub(crate) fn unheard(&mut self, stall: Duration) {
        let ends = self.ends.iter_mut().filter_map(|end| end.reception.as_mut());
        ends.for_each(|reception| reception.overslept(stall));
    }

    /// Tells the call of an end that has stopped.
    pub(super) fn fire_stopped(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        let end = &mut self.ends[at];
        if Session::stopped_due(end).is_some_and(|due| now >= due) {
            end.stopped = Some(now);
            sink.event(SessionEvent::Stopped { end: end.id });
        }
    }

    /// When an end is to be reported as stopped; `None` for one that is on hold, or not watched.
    /// One that never sent is given as long as a whole call may be silent.
    pub(super) fn stopped_due(end: &Endpoint) -> Option<Instant> {
        let settings = end.settings.as_ref()?;
        let (watch, last) = (settings.watch, end.last_sign?);
        let stopped = watch.stopped?;
        if settings.negotiated.direction != Direction::SendRecv {
            return None;
        }
        match end.stopped {
            Some(before) => Some(before + watch.again),
            None if end.flowing => Some(last + stopped),
            None => Some(last + watch.silent?.max(stopped)),
        }
    }
}
