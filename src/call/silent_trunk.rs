//! A trunk that dies in mid-call is noticed: when its media stops, or its OPTIONS fail, it is asked
//! within the dialog whether it still knows the call. A browser proves the same by ICE consent.

use super::{Call, CallContext, CallPhase, CallTimer, EndReason, HangupBy, Party};
use crate::errors::Code;
use crate::event::Event;
use crate::media::LegId;
use crate::sdp::Direction;
use crate::sip::status::Refusal;
use std::time::Duration;

/// A party is reported as unheard no sooner than this after the answer: what came before was
/// ringing.
const HEARD_BY: Duration = Duration::from_secs(5);

impl Call {
    /// Nothing comes from this end any more.
    pub(super) fn on_media_stopped(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        if let Some(leg) = self.leg_mut(end) {
            leg.silent = true;
        }
        self.probe_trunk(cx, end);
    }

    /// Nothing has ever come from this end of a call that talks, though the other one sends.
    pub(super) fn on_unheard(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        let talked = self.cdr.answered.map(|at| cx.now.saturating_duration_since(at));
        let judged = talked.is_some_and(|talked| talked >= HEARD_BY) && !self.is_held();
        if self.state != CallPhase::Talking || !judged {
            return;
        }
        let Some(leg) = self.leg_mut(end) else { return };
        if std::mem::replace(&mut leg.unheard, true) {
            return;
        }
        let who = leg.party.clone();
        self.on_media_stopped(cx, end);
        cx.note(Event::OneWay { call: self.id, who });
    }

    /// There has been no sign of either side for `since`.
    pub(super) fn on_no_media(&mut self, cx: &mut CallContext<'_>, since: Duration) {
        let media = &cx.config.media;
        let (held, seconds) = (self.is_held(), since.as_secs());
        let most = if held { media.hold_timeout } else { media.watch.silent };
        if self.state != CallPhase::Talking || most.is_none_or(|most| since < most) {
            return;
        }
        let why = if held {
            format!("on hold, and no sign of either side for {seconds} s")
        } else {
            format!("no media from either side for {seconds} s")
        };
        let why = Refusal::new(480, why).code(Code::MEDIA_STOPPED);
        self.finish(cx, EndReason::refused(HangupBy::Media, why));
    }

    /// The end is heard: whatever was asked of it, it lives.
    pub(super) fn on_media_resumed(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        let call = self.id;
        let Some(leg) = self.leg_mut(end) else { return };
        let is_trunk = matches!(leg.party, Party::Trunk(_));
        if std::mem::take(&mut leg.silent) && is_trunk {
            leg.probe = None;
            cx.disarm(call, CallTimer::Probe(end));
        }
    }

    /// A trunk was found dead: is it, to this call?
    pub(crate) fn on_trunk_down(&mut self, cx: &mut CallContext<'_>, trunk: &str) {
        let of_trunk = |p: &Party| matches!(p, Party::Trunk(name) if name == trunk);
        let ends: Vec<LegId> = self.legs().filter(|l| of_trunk(&l.party)).map(|l| l.end).collect();
        ends.into_iter().for_each(|end| self.probe_trunk(cx, end));
    }

    /// Asks a trunk in an established dialog whether it lives, unless that is being asked.
    fn probe_trunk(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        let talks = end == self.caller.end || self.opposite(end).is_some();
        let asks = self.leg_of(end).is_some_and(|l| {
            matches!(l.party, Party::Trunk(_)) && l.dialog.is_some() && l.probe.is_none()
        });
        if self.state == CallPhase::Over || !talks || !asks {
            return;
        }
        self.probe(cx, end);
        if self.leg_of(end).is_some_and(|l| l.probe.is_some()) {
            cx.arm(self.id, CallTimer::Probe(end), cx.config.media.answer_within);
        }
    }

    /// A trunk answered the probe with `status`, or not in time. Any answer but those that say that
    /// the dialog is gone shows life: many peers do not take OPTIONS within a dialog.
    pub(super) fn trunk_answered_probe(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        status: Option<u16>,
    ) {
        let (call, by) = (self.id, self.hangup_by(end));
        let Some(leg) = self.leg_mut(end) else { return };
        leg.probe = None;
        cx.disarm(call, CallTimer::Probe(end));
        // Media that flows is a better proof than OPTIONS, which some drop; one on hold has none.
        let held = leg.negotiation.negotiated().is_some_and(|n| n.direction != Direction::SendRecv);
        let why = match status {
            Some(status @ (408 | 481)) => {
                format!("{} does not know the call any more ({status})", leg.party)
            }
            None if leg.silent || held => format!(
                "{} went away in mid-call: it sends no media and does not answer OPTIONS within \
                 the dialog",
                leg.party
            ),
            _ => return,
        };
        if !self.on_transferor_gone(cx, end) {
            let status = if status.is_some() { 481 } else { 408 };
            let why = Refusal::new(status, why).code(Code::TRUNK_GONE);
            self.finish(cx, EndReason::refused(by, why));
        }
    }
}
