//! A branch as a value that outlives the process: with its dialog, or with what its CANCEL needs.

use super::branch::{Branch, BranchState, BranchTarget};
use super::context::TransactionUser;
use super::leg::Leg;
use super::leg_snapshot::{LegSnapshot, SettledOf, SnapshotTaken};
use super::{CallContext, CallId};
use crate::sip::message::Message;
use crate::sip::parse::Framing;
use crate::sip::status::{Method, Reason};
use crate::sip::transaction::Hop;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// A branch whose peer knows of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct BranchSnapshot {
    /// As [`Branch::id`].
    pub(super) id: u16,
    /// Whom it calls.
    pub(super) target: BranchTarget,
    /// It has answered; else it rings, unless it was given up.
    pub(super) answered: bool,
    /// It was given up, and its end is awaited.
    pub(super) given_up: bool,
    /// A response has come, so that it may be cancelled.
    pub(super) early: bool,
    /// Its leg.
    pub(super) leg: LegSnapshot,
    /// The Call-ID of its INVITE.
    pub(super) call_id: String,
    /// The CSeq of its newest INVITE.
    pub(super) cseq: u32,
    /// The INVITE as it was sent, until it is answered.
    pub(super) invite: Vec<u8>,
    /// How long ago it began.
    pub(super) started: Duration,
    /// How long ago it first rang.
    pub(super) rang: Option<Duration>,
}

impl Branch {
    /// The branch as a value, or `None` while, or once, its peer knows nothing of it.
    pub(super) fn snapshot(&self, taken: SnapshotTaken<'_>) -> Option<BranchSnapshot> {
        let (answered, early) = match self.state {
            BranchState::Opening | BranchState::Resolving | BranchState::Over => return None,
            BranchState::Calling => (false, false),
            BranchState::Cancelling => (false, !self.cancel_when_possible),
            BranchState::Early => (false, true),
            BranchState::Answered => (true, false),
        };
        let ago = |at: Instant| taken.now.saturating_duration_since(at);
        Some(BranchSnapshot {
            id: self.id,
            target: self.target.clone(),
            answered,
            given_up: self.state == BranchState::Cancelling,
            early,
            leg: self.leg.snapshot(taken),
            call_id: self.call_id.clone(),
            cseq: self.cseq,
            invite: if answered { Vec::new() } else { self.invite.to_vec() },
            started: ago(self.started),
            rang: self.rang.map(ago),
        })
    }

    /// The branch of a value of `then`. The INVITE of one that rings is sent once more, as if its
    /// answer had been lost: if the peer has answered in the meantime, it retransmits. One that was
    /// given up is cancelled once more, too.
    pub(super) fn restore(
        cx: &mut CallContext<'_>,
        call: CallId,
        from: BranchSnapshot,
        then: Instant,
        media: Option<SettledOf<'_>>,
    ) -> Branch {
        let at = |ago: Duration| then.checked_sub(ago).unwrap_or(then);
        let leg = Leg::restore(cx, from.leg, then, media);
        let mut branch = Branch::new(from.id, from.target, leg, at(from.started));
        branch.state = match (from.answered, from.early) {
            (true, _) => BranchState::Answered,
            _ if from.given_up => BranchState::Cancelling,
            (false, true) => BranchState::Early,
            (false, false) => BranchState::Calling,
        };
        branch.cancel_when_possible = from.given_up && !from.early;
        branch.call_id = from.call_id;
        branch.cseq = from.cseq;
        branch.rang = from.rang.map(at);
        branch.invite = from.invite.into();
        if !from.answered
            && let Ok(invite) = Message::parse(branch.invite.to_vec(), Framing::WebSocket)
            && let Some(via) = invite.via()
        {
            let via_branch = via.branch().unwrap_or_default();
            let client =
                cx.request(Method::Invite, via_branch, branch.leg.hop, branch.invite.clone());
            let user = TransactionUser::Branch(call, branch.id);
            cx.services.transaction_users.insert(client, user);
            branch.client = Some(client);
            if from.given_up && from.early && branch.leg.hop != Hop::Suspended {
                // A browser that is away is cancelled once it is back.
                branch.cancel(cx, &Reason::new(487, "given up before the answer"));
            }
        }
        branch
    }
}
