//! One call: our two legs, the branches tried for the second, and the steps of its route.
//!
//! ```text
//!   Opening --media opened--> Routing --answered--> Talking --BYE--> Over
//!                               |  ^ next step          |  ^        (either side)
//!                               v  |                    v  | REFER: the other party is routed anew
//!                             branches: Opening -> Resolving -> Calling -> Early -> Answered
//! ```
//! The call knows neither other calls nor sockets; what it asks of the node it asks through
//! [`CallContext`].

mod bodies;
pub(crate) mod branch;
mod branch_snapshot;
mod branches;
mod call_media;
pub mod call_snapshot;
pub(crate) mod caller_id;
mod cancel;
pub(crate) mod challenge;
pub(crate) mod codec_policy;
pub mod context;
mod dtmf_info;
mod failure;
pub mod farewells;
mod in_dialog;
mod invite;
pub(crate) mod invite_server;
mod joined;
mod joined_call;
pub(crate) mod leg;
mod leg_snapshot;
mod media_path;
mod media_policy;
pub mod operator;
mod outcome;
mod outgoing;
pub mod owed_goodbyes;
mod packages;
mod queries;
pub mod reach;
mod refresh;
pub(crate) mod reinvite;
pub mod relocation;
pub(crate) mod replacement;
mod resumed_route;
pub(crate) mod retries;
pub(crate) mod route_cursor;
mod routing;
pub(crate) mod services;
mod silent_trunk;
mod takeover;
mod testing;
mod texts;
pub(crate) mod third_party;
mod toll_fraud;
pub(crate) mod tombstone;
mod transfer;
pub(crate) mod transfer_state;
mod uac;
mod uas;

pub(crate) use crate::cdr::EndReason;
pub use crate::cdr::{Cdr, HangupBy, NodeChange, Party};
pub use crate::ids::CallId;
pub use crate::media::endpoint::CALLER_LEG;
pub(crate) use branch::Branch;
use branches::Branches;
use call_media::CallMedia;
use context::Followup;
pub use context::{CallContext, CallTimer, Output, Question};
pub(crate) use leg::Leg;
use leg_snapshot::way_back;

use crate::errors::Code;
use crate::event::Event;
use crate::flow::{FlowKind, Transport};
use crate::media::LegId;
use crate::media::session::SessionEvent;
use crate::sip::status::Refusal;
use crate::sip::transaction::Hop;
use crate::worker::Notice;
use invite_server::CallerInvite;
use joined_call::JoinedCall;
use route_cursor::RouteCursor;
use std::fmt;
use std::net::IpAddr;
use std::time::Instant;
use third_party::ThirdPartyCall;
use transfer_state::{Replaces, TransferState};

/// Concurrent branches a request without Max-Breadth may be forked to (RFC 5393 §5.3.3.1).
pub(crate) const MAX_BREADTH: u32 = 60;

/// Where the call stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallPhase {
    /// The caller's media end is being opened.
    Opening,
    /// A step of the route is under way; the caller may have been answered already (`answer`, a
    /// transfer).
    Routing,
    /// Both legs talk, or the caller talks to a built-in far end.
    Talking,
    /// Ended; waiting for media to close.
    Over,
}

/// A call.
pub struct Call {
    id: CallId,
    state: CallPhase,
    /// The party that is connected: the caller, or after a transfer whoever was handed over.
    caller: Leg,
    /// The INVITE that began it.
    uas: CallerInvite,
    branches: Branches,
    route: RouteCursor,
    transfer: TransferState,
    joined: Option<JoinedCall>,
    /// A call nobody dialled, while its first party is rung.
    third_party: Option<ThirdPartyCall>,
    media: CallMedia,
    cdr: Cdr,
    inherited: Inherited,
}

/// What a call has of the process that had it before.
#[derive(Default)]
struct Inherited {
    /// Since when nobody had its media, until that continues.
    silent_since: Option<Instant>,
    /// The node of that process, and the one that took over, if that is another.
    taken_from: Option<NodeChange>,
    /// Since when the step that was under way waits to be taken again.
    step_waits: Option<Instant>,
}

impl Inherited {
    /// What became of the process before, and its code.
    pub(super) fn why_interrupted(&self) -> (String, Code) {
        match &self.taken_from {
            Some(NodeChange { lost, .. }) => (format!("node {lost} was lost"), Code::NODE_LOST),
            None => ("the gateway was restarted".to_owned(), Code::RESTARTED),
        }
    }
}

impl Call {
    /// The call that `uas` began; its media is on this worker.
    pub(crate) fn new(id: CallId, worker: usize, uas: CallerInvite, caller: Leg, cdr: Cdr) -> Call {
        Call {
            id,
            state: CallPhase::Opening,
            caller,
            uas,
            branches: Branches::default(),
            route: RouteCursor::new(70, MAX_BREADTH),
            transfer: TransferState::default(),
            joined: None,
            third_party: None,
            media: CallMedia::new(id, worker),
            cdr,
            inherited: Inherited::default(),
        }
    }

    /// Takes its route, or the dialog whose place it takes.
    pub(crate) fn take_route(
        &mut self,
        route: RouteCursor,
        replaces: Option<(CallId, LegId, Replaces)>,
    ) {
        self.route = route;
        self.transfer.set_replaces(replaces);
    }

    /// Takes the call on: 100 to the caller, its media end opened.
    pub(crate) fn start(&mut self, cx: &mut CallContext<'_>) {
        let trunk = match &self.caller.party {
            Party::Trunk(name) => cx.config.trunks.get(name),
            Party::User { .. } | Party::Number(_) | Party::Internal(_) => None,
        };
        self.uas.begin(cx, trunk.map(|t| t.reliable));
        self.caller.peer.learn(self.uas.invite());
        let (kind, local) = (self.caller.open_kind(cx), self.caller.negotiation.local.clone());
        self.media.open(cx, self.caller.end, kind, &local);
        if let Party::Trunk(name) = &self.caller.party {
            let place = self.media.place(self.caller.end);
            cx.media_behind_nat(place, name, self.caller.hop);
            let place = self.media.place(self.caller.end);
            cx.media_source(place, None, self.caller.hop);
        }
        cx.arm(self.id, CallTimer::MaxDuration, cx.config.limits.max_duration);
    }

    /// The branch called `id`.
    pub(crate) fn branch_mut(&mut self, id: u16) -> Option<&mut Branch> {
        self.branches.get_mut(id)
    }

    /// The leg opposite to `end`, once both talk.
    pub(crate) fn opposite(&self, end: LegId) -> Option<LegId> {
        let b = self.branches.answered()?.leg.end;
        match end {
            end if end == self.caller.end => Some(b),
            end if end == b => Some(self.caller.end),
            _ => None,
        }
    }

    /// Media's news about this call's session.
    pub(crate) fn media(&mut self, cx: &mut CallContext<'_>, notice: Notice) {
        match notice {
            Notice::Opened { end, address, tcp } => self.opened(cx, end, address, tcp),
            Notice::OpenFailed { end, code, why }
                if end == self.caller.end || self.joined.is_some_and(|l| l.end == end) =>
            {
                let why = Refusal::new(503, why).code(code).retry_after(5);
                self.finish(cx, EndReason::refused(HangupBy::Us, why));
            }
            Notice::OpenFailed { end, code, why } => {
                if let Some(id) = self.branches.of_end(end).map(|b| b.id) {
                    let why = Refusal::new(503, why).code(code).retry_after(5);
                    self.branch_failed(cx, id, why);
                }
            }
            Notice::EndClosed { end, statistics } => self.cdr.end_closed(end, *statistics),
            Notice::Media(event) => self.media_event(cx, event),
            Notice::Closed { .. } => {}
            Notice::Panicked => self.finish(
                cx,
                EndReason::refused(
                    HangupBy::Us,
                    Refusal::new(500, "the media session failed").code(Code::MEDIA_BUG),
                ),
            ),
            Notice::NotRestored(why) if self.inherited.silent_since.is_some() => {
                self.cut_off(cx, &why.to_string());
            }
            Notice::NotRestored(why) => self.finish(
                cx,
                EndReason::refused(
                    HangupBy::Us,
                    Refusal::new(500, why.to_string()).code(Code::MEDIA_BUG),
                ),
            ),
            Notice::Restored { .. } => self.media_restored(cx),
            Notice::Snapshot(_) => {}
        }
    }

    fn opened(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        address: std::net::SocketAddr,
        tcp: bool,
    ) {
        if let Some(leg) = self.leg_mut(end) {
            leg.on_media_opened(address, tcp);
        }
        if self.joined.is_some_and(|l| l.end == end) {
            self.inner_leg_opened(cx, address.port());
        } else if end == self.caller.end {
            if self.state == CallPhase::Opening {
                self.state = CallPhase::Routing;
                self.begin(cx);
            }
        } else if let Some(id) = self.branches.of_end(end).map(|b| b.id) {
            self.branch_opened(cx, id);
        }
    }

    /// The first step; or, for an INVITE with Replaces, the answer and the place of the dialog it
    /// names.
    fn begin(&mut self, cx: &mut CallContext<'_>) {
        let Some((there, drop_there, replaces)) = self.transfer.take_replaces() else {
            return self.next_step(cx);
        };
        self.answer_caller(cx, None);
        if self.state != CallPhase::Over {
            self.state = CallPhase::Talking;
            let join =
                context::Join { here: self.id, drop_here: None, there, drop_there, replaces };
            cx.follow_up(Followup::Join(join));
        }
    }

    fn media_event(&mut self, cx: &mut CallContext<'_>, event: SessionEvent) {
        match event {
            SessionEvent::Played { .. } if self.media.take_prompt_end() => self.next_step(cx),
            SessionEvent::DtlsFailed { end, why } => {
                let refusal = Refusal::new(488, why.to_string()).code(why.code());
                self.cdr.media_problem = Some(why);
                if Some(end) == self.callee_end() || end == self.caller.end {
                    self.finish(cx, EndReason::refused(HangupBy::Us, refusal));
                } else if let Some(id) = self.branches.of_end(end).map(|b| b.id) {
                    self.branch_failed(cx, id, refusal);
                }
            }
            SessionEvent::Connected { end, .. } => self.on_media_connected(end),
            SessionEvent::Faded { end, since } => self.on_faded(cx, end, since),
            SessionEvent::Regained { end } => self.on_regained(cx, end),
            // A browser that left its page is waited for, and cannot consent.
            SessionEvent::ConsentLost { end }
                if self.leg_of(end).is_some_and(|leg| leg.page_left) => {}
            SessionEvent::ConsentLost { end } => self.on_consent_lost(cx, end),
            SessionEvent::NoMedia { since } => self.on_no_media(cx, since),
            SessionEvent::Digit { end, event, length } => self.send_digit(cx, end, event, length),
            SessionEvent::Quality { end, figures } => {
                let leg = if end == self.cdr.caller_end { "a" } else { "b" };
                cx.note(Event::Quality { call: self.id, leg, figures: figures.clone() });
                self.cdr.end_closed(end, *figures);
            }
            SessionEvent::Stopped { end } => self.on_media_stopped(cx, end),
            SessionEvent::Resumed { end } | SessionEvent::Flowing { end } => {
                self.on_media_resumed(cx, end);
            }
            SessionEvent::Silent { end } => self.on_unheard(cx, end),
            _ => {}
        }
    }

    fn callee_end(&self) -> Option<LegId> {
        self.opposite(self.caller.end)
    }

    /// Whether some leg is on hold, so that silence is no fault.
    fn is_held(&self) -> bool {
        let full = |l: &Leg| {
            l.is_internal()
                || l.negotiation
                    .negotiated()
                    .is_none_or(|a| a.direction == crate::sdp::Direction::SendRecv)
        };
        // A joined half is silent for as long as its other half is held.
        self.joined.is_some()
            || !full(&self.caller)
            || self.branches.answered().is_some_and(|b| !full(&b.leg))
    }

    /// The caller sent CANCEL.
    pub(crate) fn on_cancel(&mut self, cx: &mut CallContext<'_>, why: Refusal) {
        if !self.uas.is_finished() {
            self.finish(cx, EndReason::refused(HangupBy::Caller, why));
        }
    }

    /// Ends the call: everything open is cancelled, answered or said goodbye to. `why` goes to a
    /// caller who still waits for a final response, and into Reason headers.
    pub(crate) fn finish(&mut self, cx: &mut CallContext<'_>, why: EndReason) {
        if self.state == CallPhase::Over {
            return;
        }
        self.unlink(cx, &why);
        self.release_transferor(cx);
        self.state = CallPhase::Over;
        if !self.uas.is_finished() {
            self.uas.refuse(cx, self.id, &self.caller, &why.refusal());
        } else {
            // A leg that said goodbye itself has no dialog any more, and gets none.
            let wait = self.caller.ack_wait.as_ref();
            let unheard = wait.is_some_and(|wait| Some(wait.server) == self.uas.transaction());
            if unheard {
                self.caller.bye(cx, self.id, &why.reason);
            } else {
                self.caller.hang_up(cx, self.id, &why.reason);
            }
        }
        for branch in self.branches.iter_mut() {
            if branch.is_trying() {
                self.cdr.tried.push(branch.tried(cx.now, Some(487)));
            }
            branch.leg.stop_timers(cx, self.id);
            branch.abandon(cx, self.id, &why.reason);
        }
        self.cdr.ended(cx.now, &why);
        self.media.close(cx);
        for timer in CallTimer::OF_CALL {
            cx.disarm(self.id, timer);
        }
        cx.follow_up(Followup::Over(self.id));
    }

    /// A timer of this call fired.
    pub(crate) fn fire(&mut self, cx: &mut CallContext<'_>, timer: CallTimer) {
        match timer {
            CallTimer::Ring => self.ring_timeout(cx),
            CallTimer::Locate => self.not_located(cx),
            CallTimer::Where => self.ask_where(cx),
            CallTimer::OtherHalf => self.other_half_missing(cx),
            CallTimer::Again => self.take_step_again(cx),
            CallTimer::Silent(branch) => self.silent_timeout(cx, branch),
            CallTimer::MaxDuration => {
                self.finish(
                    cx,
                    EndReason::refused(
                        HangupBy::Us,
                        Refusal::new(480, "the call reached limits.max_duration")
                            .code(Code::TOO_LONG),
                    ),
                );
            }
            CallTimer::Ack(end) => self.retransmit_2xx(cx, end),
            CallTimer::Session(end) => self.session_due(cx, end),
            CallTimer::Glare(end) => self.glare_over(cx, end),
            CallTimer::Reliable => self.on_prack_missing(cx),
            CallTimer::Transferred => self.release_transferor(cx),
            CallTimer::FlowGrace(end) => self.flow_grace_over(cx, end),
            CallTimer::Path(end) => self.path_due(cx, end),
            CallTimer::Probe(end) => self.trunk_answered_probe(cx, end, None),
        }
    }

    fn retransmit_2xx(&mut self, cx: &mut CallContext<'_>, end: LegId) {
        let (now, id) = (cx.now, self.id);
        let Some(wait) = self.leg_mut(end).and_then(|l| l.ack_wait.as_mut()) else { return };
        if now >= wait.deadline {
            let why = Refusal::new(408, "the 200 was never acknowledged (no ACK for 32 s)")
                .code(Code::NO_ACK);
            return self.leg_failed(cx, end, (HangupBy::Us, why));
        }
        wait.interval = (wait.interval * 2).min(crate::sip::transaction::T2);
        let (server, bytes, interval, deadline) =
            (wait.server, wait.bytes.clone(), wait.interval, wait.deadline);
        let transport = self.leg_of(end).map(|leg| Transport::of(leg.hop, &cx.services.flows));
        transport.into_iter().for_each(|t| cx.services.transactions.repeated[t as usize] += 1);
        cx.respond(server, 200, bytes);
        cx.arm(id, CallTimer::Ack(end), interval.min(deadline.saturating_duration_since(now)));
    }

    /// A trunk that registers here came by another connection: its legs whose own is gone go by
    /// that, for it need not listen where it comes from.
    pub(crate) fn follow_trunk(&mut self, trunk: &str, (hop, kind): (Hop, FlowKind)) {
        for leg in self.legs_mut().filter(|leg| leg.may_follow(trunk, kind)) {
            leg.hop = hop;
            leg.dialog.iter_mut().for_each(|dialog| dialog.hop = hop);
        }
    }

    /// Whether it has a leg of this trunk whose connection is gone, and may go by such a one.
    pub(crate) fn may_follow(&self, trunk: &str, kind: FlowKind) -> bool {
        self.legs().any(|leg| leg.may_follow(trunk, kind))
    }

    /// A trunk closed the connection its call came by: from now on we open one to it when we must
    /// speak.
    pub(crate) fn reconnect_trunk(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        (ip, kind): (IpAddr, FlowKind),
    ) {
        let Some(leg) = self.leg_mut(end) else { return };
        let Party::Trunk(name) = &leg.party else { return };
        let Some(trunk) = cx.config.trunks.get(name) else { return };
        leg.hop = way_back(trunk, ip, kind);
        if let Some(dialog) = &mut leg.dialog {
            dialog.hop = leg.hop;
        }
    }
}

/// The snapshot the API and a failing test print.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "call {} {} → {} {:?}",
            self.id,
            self.caller.party,
            self.route.number(),
            self.state
        )?;
        self.branches.iter().try_for_each(|b| write!(f, "; {b}"))
    }
}
