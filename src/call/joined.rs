//! Two calls made one: each keeps one party, and their sessions are joined by plain RTP over
//! loopback.
//!
//! No party is renegotiated: neither browsers nor old telephones notice. It works across media
//! workers, for no packet is handed between threads; the price is one more hop on this machine.

use super::branch::{Branch, BranchState, BranchTarget};
use super::context::Followup;
use super::joined_call::JoinedCall;
use super::leg::Leg;
use super::{Call, CallContext, CallId, CallPhase, EndReason, HangupBy};
use crate::cdr::Party;
use crate::codec::Codec;
use crate::media::LegId;
use crate::sdp::Direction;
use crate::sdp::offer_answer::{Negotiated, Remote, TelephoneEvents};
use crate::sip::transaction::Hop;
use crate::worker::OpenKind;
use std::net::{Ipv4Addr, SocketAddr};

impl Call {
    /// The call whose half this one is.
    pub(crate) fn other_half(&self) -> Option<CallId> {
        self.joined.map(|joined| joined.other)
    }

    /// Parts with the leg of `drop`, if any, and opens an inner end towards `other`.
    /// `at_once`: the leg that is set aside is hung up now; otherwise it hears of the transfer first.
    pub(crate) fn open_inner_leg(
        &mut self,
        cx: &mut CallContext<'_>,
        other: CallId,
        codec: Codec,
        drop: Option<LegId>,
        at_once: bool,
    ) {
        if let Some(drop) = drop {
            self.set_aside(cx, drop);
            if at_once {
                self.release_transferor(cx);
            }
        }
        let id = self.branches.next_id();
        let (end, loopback) = (LegId(id), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let leg = Leg::new(cx, Party::Internal(other), end, Hop::Udp(loopback), loopback.ip());
        let local = leg.negotiation.local.clone();
        let mut branch = Branch::new(id, BranchTarget::Joined, leg, cx.now);
        branch.state = BranchState::Answered;
        self.branches.push_answered(branch);
        self.state = CallPhase::Talking;
        self.joined = Some(JoinedCall { other, end, codec, theirs: None, open: false });
        self.media.open(cx, end, OpenKind::Trunk { nat: false }, &local);
    }

    /// Our inner end is open: the other half is told where.
    pub(super) fn inner_leg_opened(&mut self, cx: &mut CallContext<'_>, port: u16) {
        let Some(link) = &mut self.joined else { return };
        link.open = true;
        let other = link.other;
        cx.follow_up(Followup::ConnectOther { call: other, port });
        self.connect_halves(cx);
    }

    /// The other half's inner end is open.
    pub(crate) fn on_other_port(&mut self, cx: &mut CallContext<'_>, port: u16) {
        if let Some(link) = &mut self.joined {
            link.theirs = Some(port);
            self.connect_halves(cx);
        }
    }

    fn connect_halves(&mut self, cx: &mut CallContext<'_>) {
        let (call, worker) = (self.id, self.media.worker());
        let Some(JoinedCall { end, codec, theirs: Some(port), open: true, .. }) = self.joined
        else {
            return;
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
            ptime: 20,
            ptime_asked: false,
            max_ptime: None,
        };
        let Some(leg) = self.leg_of(end) else { return };
        leg.configure(cx, call, worker, &negotiated);
        self.media.bridge(cx, self.caller.end, end);
    }

    /// Tells the other half that this one has ended.
    pub(super) fn unlink(&mut self, cx: &mut CallContext<'_>, why: &EndReason) {
        if let Some(link) = self.joined.take() {
            cx.follow_up(Followup::EndOther { call: link.other, why: why.clone() });
        }
    }

    /// The other half ended: the party there was our callee.
    pub(crate) fn other_half_over(&mut self, cx: &mut CallContext<'_>, mut why: EndReason) {
        self.joined = None;
        if matches!(why.by, HangupBy::Caller | HangupBy::Callee) {
            why.by = HangupBy::Callee;
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
