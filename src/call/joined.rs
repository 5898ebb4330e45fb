//! Two calls made one: each keeps one party, and their sessions are joined by plain RTP over
//! loopback.
//!
//! Nobody need have answered the second: its caller leaves what rings to the party of the first,
//! which hears it ring through the inner ends, and gets its own call back if it rings in vain.
//!
//! ```text
//!   here:  transferee === inner          there:  inner === rings (or its early media)
//!          referrer parked                       caller: 487, gone
//!      answered there: NOTIFY 200, the referrer leaves     refused there: NOTIFY 4xx, as before
//! ```
//! No party is renegotiated: neither browsers nor old telephones notice. It works across media
//! workers, for no packet is handed between threads; the price is one more hop on this machine.
//!
//! A node that takes the calls over takes each half separately: the inner ends have other ports
//! there, and tell each other once both are back.

use super::branch::{Branch, BranchState, BranchTarget};
use super::context::Followup;
use super::joined_call::JoinedCall;
use super::leg::Leg;
use super::{Call, CallContext, CallId, CallPhase, CallTimer, EndReason, HangupBy};
use crate::cdr::Party;
use crate::codec::Codec;
use crate::event::Event;
use crate::media::LegId;
use crate::sdp::Direction;
use crate::sdp::offer_answer::{Negotiated, Remote, TelephoneEvents};
use crate::sip::status::{Reason, Refusal};
use crate::sip::transaction::Hop;
use crate::worker::OpenKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How long half of a joined call of a lost node waits for the other: a node's calls are read a few
/// at a time.
const HALF: Duration = Duration::from_secs(10);
/// The reason sent to whoever hands a ringing call over.
const HANDED_OVER: &str = "the call was handed over while it rang";

impl Call {
    /// The call whose half this one is.
    pub(crate) fn other_half(&self) -> Option<CallId> {
        self.joined.map(|joined| joined.other)
    }

    /// Parts with the leg of `drop`, if any, and opens an inner end towards `other`. `at_once`: the
    /// leg that is set aside is hung up now; otherwise it hears of the transfer first.
    pub(crate) fn open_inner_leg(
        &mut self,
        cx: &mut CallContext<'_>,
        other: CallId,
        codec: Codec,
        drop: Option<LegId>,
        at_once: bool,
    ) {
        if let Some(drop) = drop {
            let by_caller = self.set_aside(cx, drop);
            self.transfer.note_caller(by_caller);
            if at_once {
                self.release_transferor(cx);
            }
        }
        let (id, leg) = self.inner_leg(cx, other, codec);
        let mut branch = Branch::new(id, BranchTarget::Joined, leg, cx.now);
        branch.state = BranchState::Answered;
        self.branches.push_answered(branch);
        self.state = CallPhase::Talking;
    }

    /// Opens an inner end towards `other`: the number of its branch, if it becomes one, and its
    /// leg.
    fn inner_leg(&mut self, cx: &mut CallContext<'_>, other: CallId, codec: Codec) -> (u16, Leg) {
        let id = self.branches.next_id();
        let (end, loopback) = (LegId(id), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let leg = Leg::new(cx, Party::Internal(other), end, Hop::Udp(loopback), loopback.ip());
        self.joined = Some(JoinedCall { other, end, codec, theirs: None, open: false });
        self.media.open(cx, end, OpenKind::Trunk { nat: false }, &leg.negotiation.local);
        (id, leg)
    }

    /// Whether somebody is rung for the caller, at this end, who may hand that over.
    pub(crate) fn rings_for(&self, end: LegId) -> bool {
        self.state == CallPhase::Routing
            && end == self.caller.end
            && self.cdr.ringing.is_some()
            && self.branches.is_any_trying()
            && !self.media.plays_prompt()
            && self.joined.is_none()
            && !self.transfer.is_under_way()
            && self.transfer.transferor().is_none()
    }

    /// The caller leaves what rings for it to the party that stays in `other`, which hears it ring
    /// from now on. What is dialled next is still dialled in the name of who has left.
    pub(crate) fn take_caller(&mut self, cx: &mut CallContext<'_>, other: CallId, codec: Codec) {
        let (_, inner) = self.inner_leg(cx, other, codec);
        let mut gone = std::mem::replace(&mut self.caller, inner);
        if self.uas.is_finished() {
            gone.hang_up(cx, self.id, &Reason::new(200, HANDED_OVER));
        } else {
            gone.stop_timers(cx, self.id);
            self.uas.refuse(cx, self.id, &gone, &Refusal::new(487, HANDED_OVER));
        }
        if self.transfer.referred_by().is_none() {
            self.transfer.on_behalf_of(gone.account.clone(), gone.number());
        }
        self.branches.retire(gone.tags().cloned());
        self.media.unbridge(cx, gone.end);
        self.media.close_end(cx, gone.end);
        self.media.forget_listener();
    }

    /// Parts with the referrer, and leaves its other party with what rings in `other`, where
    /// `number` is called. Once somebody answers there the referrer is done; until then it may get
    /// its party back.
    pub(crate) fn hand_to_ringing(
        &mut self,
        cx: &mut CallContext<'_>,
        other: CallId,
        codec: Codec,
        (referrer, number): (LegId, String),
    ) {
        if let Some(by) = self.leg_of(referrer).map(|leg| leg.party.clone()) {
            cx.note(Event::Transferring { call: self.id, by, to: number.clone() });
        }
        self.cdr.transfers.push(number);
        self.media.forget_hold();
        self.open_inner_leg(cx, other, codec, Some(referrer), false);
        self.transfer_progress(cx, 180);
    }

    /// Whether it was handed over to what rings in its other half, and nobody has answered there.
    pub(super) fn awaits_other_half(&self) -> bool {
        let inner = self.branches.answered().map(|branch| branch.leg.end);
        self.transfer.is_ours() && self.joined.is_some_and(|joined| Some(joined.end) == inner)
    }

    /// Somebody answered in the other half.
    pub(crate) fn other_half_answered(&mut self, cx: &mut CallContext<'_>, other: CallId) {
        if self.other_half() == Some(other) && self.awaits_other_half() {
            self.transfer_answered(cx);
        }
    }

    /// Tells the other half, if that was handed over to what rang here, that somebody has answered.
    pub(super) fn tell_other_half(&self, cx: &mut CallContext<'_>) {
        if let Some(joined) = self.joined.filter(|joined| joined.end == self.caller.end) {
            cx.follow_up(Followup::OtherAnswered { call: joined.other, of: self.id });
        }
    }

    /// Gives up an inner end towards what rang in vain.
    pub(super) fn part_with_other_half(&mut self, cx: &mut CallContext<'_>) {
        self.joined = None;
        if let Some(inner) = self.branches.take_answered() {
            self.media.unbridge(cx, inner.leg.end);
            self.media.close_end(cx, inner.leg.end);
            self.branches.retire(inner.names());
        }
    }

    /// Our inner end is open: the other half learns its address.
    pub(super) fn inner_leg_opened(&mut self, cx: &mut CallContext<'_>, port: u16) {
        let Some(link) = &mut self.joined else { return };
        link.open = true;
        let other = link.other;
        cx.follow_up(Followup::ConnectOther { call: other, port });
        self.connect_halves(cx);
    }

    /// The other half's inner end is open, or was moved there.
    pub(crate) fn on_other_port(&mut self, cx: &mut CallContext<'_>, port: u16) {
        let Some(link) = &mut self.joined else { return };
        match link.theirs.replace(port) {
            None => self.connect_halves(cx),
            Some(_) => drop(self.aim_inner_end(cx)),
        }
    }

    /// Half of a joined call of a lost node is here before the other half.
    pub(crate) fn await_other_half(&mut self, cx: &mut CallContext<'_>) {
        cx.arm(self.id, CallTimer::OtherHalf, HALF);
    }

    /// The other half was taken over, too: it needs the new address of our inner leg.
    pub(crate) fn meet_other_half(&mut self, cx: &mut CallContext<'_>) {
        cx.disarm(self.id, CallTimer::OtherHalf);
        let Some(JoinedCall { other, end, .. }) = self.joined else { return };
        let Some(port) = self.leg_of(end).map(|leg| leg.negotiation.local.address.port()) else {
            return;
        };
        cx.follow_up(Followup::ConnectOther { call: other, port });
    }

    /// Nobody has taken the other half over, or it could not continue.
    pub(crate) fn other_half_missing(&mut self, cx: &mut CallContext<'_>) {
        self.cut_off(cx, "the call it was joined with could not continue");
    }

    fn connect_halves(&mut self, cx: &mut CallContext<'_>) {
        let Some(end) = self.aim_inner_end(cx) else { return };
        if end != self.caller.end {
            return self.media.bridge(cx, self.caller.end, end);
        }
        // The target here keeps ringing, for the party behind the inner leg.
        match self.callee_end().or(self.media.early_branch().map(LegId)) {
            Some(there) => self.media.bridge(cx, end, there),
            None if self.state != CallPhase::Routing || self.media.plays_prompt() => {}
            None => self.media.ringback(cx, end),
        }
    }

    /// Has the inner end send to that of the other half, once both are open. Returns it.
    fn aim_inner_end(&mut self, cx: &mut CallContext<'_>) -> Option<LegId> {
        let (call, worker) = (self.id, self.media.worker());
        let Some(JoinedCall { end, codec, theirs: Some(port), open: true, .. }) = self.joined
        else {
            return None;
        };
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let pt = codec.default_payload_type();
        let negotiated = Negotiated {
            codec,
            send: pt,
            receive: vec![(pt, codec)],
            events: TelephoneEvents::both_ways(101, codec.clock()),
            noise: None,
            direction: Direction::SendRecv,
            remote: Remote::Rtp {
                rtp: address(port),
                rtcp: address(port.wrapping_add(1)),
                sdes: None,
            },
            max_average_bitrate: None,
            voip_metrics: false,
            audio_level: None,
            ptime: 20,
            ptime_asked: false,
            max_ptime: None,
        };
        self.leg_of(end)?.configure(cx, call, worker, &negotiated);
        Some(end)
    }

    /// Tells the other half that this one has ended.
    pub(super) fn unlink(&mut self, cx: &mut CallContext<'_>, why: &EndReason) {
        if let Some(link) = self.joined.take() {
            let (call, of, why) = (link.other, self.id, why.clone());
            cx.follow_up(Followup::EndOther { call, of, why });
        }
    }

    /// The other half ended: whoever was there was our callee, or has taken our caller's place.
    /// What only rang there has rung in vain, and who handed the call over gets it back.
    pub(crate) fn other_half_over(
        &mut self,
        cx: &mut CallContext<'_>,
        other: CallId,
        mut why: EndReason,
    ) {
        let Some(joined) = self.joined.filter(|joined| joined.other == other) else { return };
        if self.awaits_other_half() {
            return self.transfer_failed(cx, why.refusal());
        }
        self.joined = None;
        if matches!(why.by, HangupBy::Caller | HangupBy::Callee) {
            let called = joined.end == self.caller.end;
            why.by = if called { HangupBy::Caller } else { HangupBy::Callee };
        }
        self.finish(cx, why);
    }

    /// The codec the party that stays after `drop` leaves speaks.
    pub(crate) fn codec_kept(&self, drop: Option<LegId>) -> Option<Codec> {
        let kept = match drop {
            Some(drop) => self.opposite(drop)?,
            None => self.caller.end,
        };
        self.leg_of(kept)?.negotiation.negotiated().map(|a| a.codec)
    }
}
