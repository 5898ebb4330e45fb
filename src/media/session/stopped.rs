//! Ends whose media stops in mid-call: the call is told, and asks whether the peer still lives.

use super::{Session, SessionEvent, Sink};
use crate::media::endpoint::Endpoint;
use crate::sdp::Direction;
use std::time::{Duration, Instant};

/// An end that sent and of which nothing comes for this long has stopped. Senders that pause send
/// RTCP meanwhile, every 5 s on average (RFC 3550 §6.2), and a question too many costs one OPTIONS.
const STOPPED: Duration = Duration::from_secs(5);
/// While it lasts, the call is told again this often: a peer that lived then may have died since.
const AGAIN: Duration = Duration::from_secs(30);

impl Session {
    /// Something authentic came from the peer of end `at`, RTCP included.
    pub(super) fn sign_of_life(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        self.silent_since = now;
        let end = &mut self.ends[at];
        end.last_sign = Some(now);
        if end.stopped.take().is_some() {
            sink.event(SessionEvent::Resumed { end: end.id });
        }
    }

    /// Tells the call of an end that has stopped.
    pub(super) fn fire_stopped(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        let end = &mut self.ends[at];
        if Session::stopped_due(end).is_some_and(|due| now >= due) {
            end.stopped = Some(now);
            sink.event(SessionEvent::Stopped { end: end.id });
        }
    }

    /// When an end is to be reported as stopped; `None` for one that never sent, or is on hold.
    pub(super) fn stopped_due(end: &Endpoint) -> Option<Instant> {
        let direction = end.settings.as_ref()?.negotiated.direction;
        if !end.flowing || direction != Direction::SendRecv {
            return None;
        }
        match end.stopped {
            Some(told) => Some(told + AGAIN),
            None => end.last_sign.map(|sign| sign + STOPPED),
        }
    }
}
