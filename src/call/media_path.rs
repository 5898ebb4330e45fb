//! A browser whose media is not heard any more: its address has changed, or its network is gone.
//!
//! It keeps its addresses until somebody asks for an ICE restart, which JsSIP and SIP.js leave to
//! the page. So it is asked from here, within its leg, by any flow of its account that is there.
//! Certificate and keys stay, and so do the credentials in use until the new ones work; where media
//! goes is decided by what comes, as ever.

use super::leg::PendingOffer;
use super::leg::RefreshKind;
use super::{Call, CallContext, CallPhase, CallTimer, HangupBy, Leg};
use crate::cdr::Party;
use crate::config::Config;
use crate::errors::Code;
use crate::media::LegId;
use crate::sdp::offer_answer::{Ice, Remote, SignalingState};
use crate::sip::status::{Method, Refusal};
use crate::worker::WorkerCommand;
use std::time::{Duration, Instant};

/// A browser that has been silent for so long is asked, though its WebSocket is where it was: what
/// a bad network loses, and a NAT that binds anew, mends itself sooner.
const OVERDUE: Duration = Duration::from_secs(5);
/// A browser that falls silent so soon after its WebSocket was opened has moved: it is asked at
/// once.
const JUST_MOVED: Duration = Duration::from_secs(10);
/// How long a browser has to be heard after it was asked.
const SETTLED: Duration = Duration::from_secs(4);
/// A process that slept reads what came meanwhile before it believes that nothing did.
const BELIEVED: Duration = Duration::from_millis(500);
/// How soon it is looked again whether an exchange that is under way is over.
const BUSY: Duration = Duration::from_millis(500);
/// A browser that came back without consent has this long to give it anew.
const RENEWED: Duration = Duration::from_secs(10);
/// Times a browser is asked per flow that it comes by.
const MOST_RESTARTS: u8 = 3;

/// What is known of the way a browser's media takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct MediaPath {
    /// Its media has come at some time.
    pub(super) connected: bool,
    /// Since when nothing authentic has come, neither checks nor media.
    silent_since: Option<Instant>,
    consent_lost: bool,
    /// Since when its flow is lost, and when it came by another.
    pub(super) flow_lost_at: Option<Instant>,
    moved: Option<Instant>,
    /// How often it was asked for a restart since, and when last.
    asked: u8,
    asked_at: Option<Instant>,
    /// The credentials it was asked with, until it has answered with new ones of its own.
    offered: Option<Ice>,
}

impl MediaPath {
    /// Nothing came since then, for nobody listened.
    pub(super) fn missed(&mut self, since: Instant) {
        self.silent_since.get_or_insert(since);
    }

    /// Nobody could be heard for `by`. A browser whose checks nobody answered for that long may
    /// have given its connection up, as if it had moved.
    pub(super) fn put_off(&mut self, now: Instant, by: Duration) {
        let later = |at: &mut Instant| *at = now.min(*at + by);
        let times = [&mut self.silent_since, &mut self.flow_lost_at, &mut self.asked_at];
        times.into_iter().flatten().for_each(later);
        if by >= OVERDUE && self.connected && self.flow_lost_at.is_none() {
            self.moved = Some(now);
        }
    }

    /// Whether nothing authentic comes.
    pub(super) fn is_silent(&self) -> bool {
        self.silent_since.is_some()
    }
}

impl Leg {
    /// How long it is still waited for, now that its flow is lost: for longer while its media is
    /// alive; once that is gone too, from then on. Never longer in all than with media.
    pub(super) fn grace_left(&self, config: &Config, now: Instant) -> Duration {
        let (short, long) = (config.sip.flow_grace, config.sip.flow_grace_media);
        let lost = self.path.flow_lost_at.unwrap_or(now);
        let ends = match self.path.silent_since {
            None if self.path.connected => lost + long,
            None => lost + short,
            Some(silent) => (lost.max(silent) + short).min(lost + long),
        };
        ends.saturating_duration_since(now)
    }

    /// Whether it may be sent an offer now.
    pub(super) fn is_between_exchanges(&self) -> bool {
        self.open.is_none()
            && self.ack_wait.is_none()
            && self.negotiation.state() == SignalingState::Stable
    }
}

impl Call {
    /// A browser's media has found its way.
    pub(super) fn on_media_connected(&mut self, end: LegId) {
        if let Some(leg) = self.leg_mut(end) {
            leg.path.connected = true;
        }
    }

    /// Nothing comes from a browser any more.
    pub(super) fn on_faded(&mut self, cx: &mut CallContext<'_>, end: LegId, since: Duration) {
        let (call, now) = (self.id, cx.now);
        let Some(leg) = self.leg_mut(end) else { return };
        leg.path.silent_since = Some(now.checked_sub(since).unwrap_or(now));
        if leg.flow_lost {
            return self.await_back(cx, end);
        }
        if leg.successor.is_some() {
            // So it has moved, and need not be waited for where it was.
            return cx.arm(call, CallTimer::FlowGrace(end), BELIEVED);
        }
        let moved = leg.path.moved.is_some_and(|at| now < at + JUST_MOVED);
        let wait = if moved { Duration::ZERO } else { OVERDUE.saturating_sub(since) };
        cx.arm(call, CallTimer::Path(end), wait.max(BELIEVED));
    }

    /// A browser is heard again.
    pub(super) fn on_regained(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        cx.disarm(self.id, CallTimer::Path(end));
        let Some(leg) = self.leg_mut(end) else { return };
        let path = &mut leg.path;
        (path.silent_since, path.consent_lost) = (None, false);
        (path.asked, path.asked_at) = (0, None);
        if leg.flow_lost {
            self.await_back(cx, end);
        }
    }

    /// Waits for the browser of an end whose flow is lost, for as long as it is worth it now.
    pub(super) fn await_back(&self, cx: &mut CallContext<'_>, end: LegId) {
        let rings = self.branches.of_end(end).is_some_and(super::Branch::is_trying);
        // A page that was left is waited for as long as was said then: its media went with it.
        if let Some(leg) = self.leg_of(end).filter(|leg| !rings && !leg.page_left) {
            let left = leg.grace_left(cx.config, cx.now);
            cx.arm(self.id, CallTimer::FlowGrace(end), left);
        }
    }

    /// The browser of an end has come by a new flow: what is missed of its media is asked for
    /// there.
    pub(super) fn on_new_flow(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        let now = cx.now;
        let Some(leg) = self.leg_mut(end) else { return };
        let path = &mut leg.path;
        (path.flow_lost_at, path.moved) = (None, Some(now));
        (path.asked, path.asked_at) = (0, None);
        if path.is_silent() {
            self.restart_ice(cx, end);
        }
    }

    /// A browser has given no consent for so long that nothing may be sent to it. It may still come
    /// back, or be on its way.
    pub(super) fn on_consent_lost(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        let talks = end == self.caller.end || self.opposite(end).is_some();
        let Some(leg) = self.leg_mut(end).filter(|_| talks) else { return };
        leg.path.consent_lost = true;
        if leg.flow_lost {
            // It is neither heard nor sent to: the longer wait is for one whose media goes on.
            leg.path.silent_since.get_or_insert(cx.now);
            self.await_back(cx, end);
        } else {
            self.path_due(cx, end);
        }
    }

    /// A browser that is there by signalling, and not by media, is asked for a restart, or given
    /// up.
    pub(super) fn path_due(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        let Some(leg) = self.leg_of(end).filter(|l| !l.flow_lost) else { return };
        let tried = leg.path.asked_at.max(leg.path.moved);
        if leg.path.consent_lost && tried.is_none_or(|at| cx.now >= at + RENEWED) {
            let why = "the browser has been unreachable for 30 s (ICE consent lost)";
            let why = Refusal::new(480, why).code(Code::BROWSER_GONE);
            return self.leg_failed(cx, end, (HangupBy::Media, why));
        }
        let (lost, silent) = (leg.path.consent_lost, leg.path.is_silent());
        if lost {
            cx.arm(self.id, CallTimer::Path(end), BUSY);
        }
        if silent {
            self.restart_ice(cx, end);
        }
    }

    /// Asks the browser of an end for an ICE restart (RFC 8445 §2.4, RFC 8839 §4.4.1.1.1), unless
    /// something else is being settled; then once it is.
    fn restart_ice(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        let call = self.id;
        let answered = end != self.caller.end || self.uas.is_finished();
        let fresh = Ice { ufrag: cx.token()[..8].to_owned(), pwd: cx.token()[..24].to_owned() };
        let worker = self.media.worker();
        let over = self.state == CallPhase::Over;
        let Some(leg) = self.leg_mut(end).filter(|_| answered && !over) else { return };
        if !leg.has_browser_media() || leg.flow_lost {
            return;
        }
        if !leg.is_between_exchanges() {
            return cx.arm(call, CallTimer::Path(end), BUSY);
        }
        // What has become of the last one decides; consent bounds it.
        cx.arm(call, CallTimer::Path(end), SETTLED);
        if leg.path.asked >= MOST_RESTARTS {
            return;
        }
        leg.path.asked += 1;
        leg.path.asked_at = Some(cx.now);
        // Credentials that were offered and not answered are offered again: the browser may have
        // taken them, and its answer have been lost.
        let ice = leg.path.offered.get_or_insert(fresh).clone();
        leg.negotiation.restart_ice(ice.clone());
        cx.media(worker, WorkerCommand::OfferIce { session: call.0, end, ice });
        self.refresh(cx, end, RefreshKind::RestartIce);
        if let Some(leg) = self.leg_mut(end).filter(|l| l.open.is_none()) {
            leg.negotiation.withdraw_offer();
        }
    }

    /// An exchange with `end` has ended with what its peer sends to now.
    pub(super) fn restart_answered(&mut self, end: LegId) {
        let Some(leg) = self.leg_mut(end) else { return };
        let agreed = match leg.negotiation.negotiated().map(|n| &n.remote) {
            Some(Remote::Dtls { local_ice, .. }) => Some(local_ice),
            _ => None,
        };
        leg.path.offered.take_if(|offered| Some(&*offered) == agreed);
    }

    /// A browser does not know the dialog in which it was asked for a restart, or does not answer.
    /// A page that was loaded anew may still come for its call: its consent decides.
    pub(super) fn restart_refused(&mut self, end: LegId) {
        if let Some(leg) = self.leg_mut(end) {
            leg.path.asked = MOST_RESTARTS;
        }
    }
}

impl Leg {
    fn has_browser_media(&self) -> bool {
        let agreed = self.negotiation.negotiated().map(|n| &n.remote);
        matches!(self.party, Party::User { .. })
            && self.dialog.is_some()
            && matches!(agreed, Some(Remote::Dtls { .. }))
    }
}

impl PendingOffer {
    /// Whether it asks for an ICE restart.
    pub(super) fn restarts_ice(&self) -> bool {
        self.method == Method::Invite && self.kind == RefreshKind::RestartIce
    }
}
