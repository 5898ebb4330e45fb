//! Browsers of which nothing authentic comes any more: their network has changed, or is gone.

use super::{Session, SessionEvent, Sink};
use crate::media::endpoint::{Endpoint, MediaTransport};
use std::time::{Duration, Instant};

/// One that was sending media is missed after this long: packets come every 20 ms, those of silence
/// every 400 ms.
const SENDING: Duration = Duration::from_secs(1);
/// One that sends nothing, on hold or without a microphone, still checks its consent, every 6 s at
/// most (RFC 7675 §5.1).
const CHECKING: Duration = Duration::from_secs(7);

impl Endpoint {
    /// When a browser is missed; `None` for one that is, or that has not come yet.
    pub(super) fn fade_due(&self) -> Option<Instant> {
        let last = self.heard.filter(|_| self.connected && !self.faded)?;
        let sends = self.last_received.is_some_and(|at| at + SENDING > last);
        Some(last + if sends { SENDING } else { CHECKING })
    }
}

impl Session {
    /// Something authentic came from the browser of end `at`.
    pub(super) fn heard(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        let end = &mut self.ends[at];
        let MediaTransport::Browser { ice, .. } = &end.transport else { return };
        end.heard = Some(now);
        // Without consent it is not there, whatever comes.
        if end.faded && !ice.is_lapsed() {
            end.faded = false;
            sink.event(SessionEvent::Regained { end: end.id });
        }
    }

    /// Tells the call of a browser that is missed.
    pub(super) fn fire_faded(&mut self, now: Instant, at: usize, sink: &mut impl Sink) {
        let end = &mut self.ends[at];
        if end.fade_due().is_some_and(|due| now >= due) {
            end.faded = true;
            let since = end.heard.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
            sink.event(SessionEvent::Faded { end: end.id, since });
        }
    }
}
