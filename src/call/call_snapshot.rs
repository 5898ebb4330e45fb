//! A call as a value that outlives the process, and a call from one.
//!
//! One in which two parties talk, or one talks to a far end of ours, continues; so does one whose
//! caller was answered and is being connected. Any other is ended: the value also has what its
//! peers must receive.

use super::branch_snapshot::BranchSnapshot;
use super::branches::Branches;
use super::call_media::CallMedia;
use super::invite_server::{CallerInvite, InviteSnapshot};
use super::joined_call::JoinedCall;
use super::leg::{AckWait, Leg};
use super::leg_snapshot::LegSnapshot;
pub use super::leg_snapshot::SettledOf;
pub(crate) use super::leg_snapshot::SnapshotTaken;
use super::relocation::PortsOf;
use super::route_cursor::{RouteCursor, RouteCursorSnapshot};
use super::transfer_state::{LEAVE, TransferSnapshot, TransferState};
use super::{
    Branch, Call, CallContext, CallId, CallPhase, CallTimer, EndReason, HangupBy, Inherited,
};
use crate::cdr::{Cdr, CdrSnapshot, Interruption, NodeChange, Party};
use crate::errors::Code;
use crate::event::Event;
use crate::media::LegId;
use crate::sip::session_timer::Refresher;
use crate::sip::status::{Reason, Refusal};
use crate::sip::transaction::Hop;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// What waits in sockets when a process starts has been read after this.
const READ: Duration = Duration::from_secs(1);

/// What another process can do with a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Resumability {
    /// It continues.
    Settled,
    /// It continues as it was before it was handed over.
    Transferring,
    /// It continues with the step of its route that was under way: its caller was answered.
    Connecting,
    /// It is ended: it rings, or is being joined.
    Unsettled,
}

/// A call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CallSnapshot {
    /// Names the call.
    pub(super) id: CallId,
    /// The number of the worker that has its media.
    pub(super) worker: u16,
    standing: Resumability,
    /// The leg of the party that is connected.
    pub(super) caller: LegSnapshot,
    /// The INVITE that began it.
    pub(super) uas: InviteSnapshot,
    /// Those whose peers know of them; first the one that answered.
    pub(super) branches: Vec<BranchSnapshot>,
    /// A branch has answered.
    pub(super) answered: bool,
    /// The transferor, and how far the transfer has got.
    pub(super) transferor: Option<BranchSnapshot>,
    /// The transfer that is under way.
    pub(super) transfer: Option<TransferSnapshot>,
    /// The inner end, if it is half of a joined call.
    pub(super) joined: Option<JoinedCall>,
    /// The number of the newest branch.
    pub(super) last_branch: u16,
    /// Keys of dialogs that are over.
    pub(super) retired: Vec<String>,
    /// How far its route has been taken.
    pub(super) route: RouteCursorSnapshot,
    /// The number of the caller that callees are shown.
    pub(super) presented_number: Option<String>,
    /// The Referred-By value that the next INVITE carries.
    pub(super) referred_by: Option<String>,
    /// An operator holds the parties apart.
    pub(super) held_by_operator: bool,
    /// How long the call may still last.
    pub(super) left: Option<Duration>,
    /// When each leg's session is to be refreshed, or is over.
    pub(super) sessions: Vec<(u16, Duration)>,
    /// The record so far.
    pub(super) cdr: CdrSnapshot,
}

impl CallSnapshot {
    /// A call of which no more is known than it takes to end it.
    pub(super) fn to_be_ended(
        id: CallId,
        caller: LegSnapshot,
        uas: InviteSnapshot,
        branches: Vec<BranchSnapshot>,
        cdr: CdrSnapshot,
    ) -> CallSnapshot {
        CallSnapshot {
            id,
            worker: 0,
            standing: Resumability::Unsettled,
            caller,
            uas,
            answered: branches.first().is_some_and(|branch| branch.answered),
            last_branch: branches.iter().map(|branch| branch.id).max().unwrap_or(0),
            branches,
            transferor: None,
            transfer: None,
            joined: None,
            retired: Vec::new(),
            route: RouteCursor::default().snapshot(false),
            presented_number: None,
            referred_by: None,
            held_by_operator: false,
            left: None,
            sessions: Vec::new(),
            cdr,
        }
    }

    /// Its number.
    pub fn id(&self) -> CallId {
        self.id
    }

    /// The worker that has its media.
    pub(crate) fn worker(&self) -> usize {
        usize::from(self.worker)
    }

    /// Whether it can continue; else it is to be ended.
    pub fn is_settled(&self) -> bool {
        self.standing != Resumability::Unsettled
    }

    /// Whether it continues as it was before it was handed over.
    pub(crate) fn is_transferring(&self) -> bool {
        self.standing == Resumability::Transferring
    }

    /// Whether it continues with a step of its route.
    pub(crate) fn is_connecting(&self) -> bool {
        self.standing == Resumability::Connecting
    }
}

/// What a call is restored with.
pub(crate) struct Resumption<'a> {
    /// How long ago the value was taken.
    pub(crate) age: Duration,
    /// Since when nobody had its media.
    pub(crate) silent_since: Instant,
    /// Its media, if that continues.
    pub(crate) media: Option<SettledOf<'a>>,
    /// The node it was taken from.
    pub(crate) from: Option<NodeChange>,
    /// Where its media is received, if not where it was.
    pub(crate) ports: Option<PortsOf<'a>>,
}

impl Call {
    /// What another process could do with it. Settled is what stands where it could stand for an
    /// hour: nothing is routed or being joined, and a trunk that transfers it does so on its own.
    fn standing(&self) -> Resumability {
        let waits = self.caller.ack_wait.as_ref();
        let first = |wait: &&AckWait| Some(wait.server) == self.uas.transaction();
        let answer_comes = waits.filter(first).is_some_and(|wait| wait.expects_answer);
        let back = self.awaits_other_half();
        let joined = back || self.joined.is_none_or(|joined| joined.is_up());
        if !self.uas.is_finished() || answer_comes || !joined || self.third_party.is_some() {
            return Resumability::Unsettled;
        }
        match (self.transfer.is_ours(), self.transfer.transferor()) {
            (true, Some(_)) if back || self.joined.is_none() => Resumability::Transferring,
            (false, _) if self.state == CallPhase::Talking && !self.branches.is_any_trying() => {
                Resumability::Settled
            }
            (_, None) if self.state == CallPhase::Routing && self.joined.is_none() => {
                Resumability::Connecting
            }
            _ => Resumability::Unsettled,
        }
    }

    /// Whether another process could only end it.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.state != CallPhase::Over && self.standing() != Resumability::Settled
    }

    /// The call as a value; `None` once it is over. `timer`: how long until one fires.
    pub(crate) fn snapshot(
        &self,
        taken: SnapshotTaken<'_>,
        timer: impl Fn(CallTimer) -> Option<Duration>,
    ) -> Option<CallSnapshot> {
        if self.state == CallPhase::Over {
            return None;
        }
        let branches = self
            .branches
            .answered()
            .into_iter()
            .chain(self.branches.iter().filter(|b| !self.branches.has_answered(b)));
        let wait = self.caller.ack_wait.as_ref();
        let unacknowledged = wait.filter(|wait| Some(wait.server) == self.uas.transaction());
        let session = |leg: &Leg| Some((leg.end.0, timer(CallTimer::Session(leg.end))?));
        let standing = self.standing();
        Some(CallSnapshot {
            id: self.id,
            worker: self.media.worker() as u16,
            standing,
            caller: self.caller.snapshot(taken),
            uas: self.uas.snapshot(unacknowledged.map(|wait| &wait.bytes)),
            branches: branches.filter_map(|b| b.snapshot(taken)).collect(),
            answered: self.branches.answered().is_some(),
            transferor: self.transfer.transferor().and_then(|b| b.snapshot(taken)),
            transfer: self.transfer.snapshot(),
            joined: self.joined,
            last_branch: self.branches.last_id(),
            retired: self.branches.retired().cloned().collect(),
            route: self.route.snapshot(standing == Resumability::Connecting),
            presented_number: self.transfer.presented_number().map(str::to_owned),
            referred_by: self.transfer.referred_by().map(|user| user.name.clone()),
            held_by_operator: self.media.is_held_by_operator(),
            left: timer(CallTimer::MaxDuration),
            sessions: self.legs().filter_map(session).collect(),
            cdr: self.cdr.snapshot(taken.now),
        })
    }

    /// The call of a value. One that cannot continue is to be [ended](Self::cut_off).
    pub(crate) fn restore(
        cx: &mut CallContext<'_>,
        mut from: CallSnapshot,
        with: &Resumption<'_>,
    ) -> Option<Call> {
        let (id, media) = (from.id, with.media);
        let then = cx.now.checked_sub(with.age).unwrap_or(cx.now);
        let mut caller = Leg::restore(cx, from.caller, then, media);
        let unacknowledged = from.uas.take_unacknowledged();
        let uas = CallerInvite::restore(cx, from.uas, caller.hop)?;
        let mut branches = Branches::restore(from.last_branch, from.retired);
        for (n, branch) in from.branches.into_iter().enumerate() {
            let branch = Branch::restore(cx, id, branch, then, media);
            if n == 0 && from.answered {
                branches.push_answered(branch);
            } else {
                branches.push(branch);
            }
        }
        let mut transfer = TransferState::default();
        let user = from.referred_by.and_then(|name| cx.config.users.get(&name).cloned());
        transfer.on_behalf_of(user, from.presented_number);
        let transferor = from.transferor.map(|t| Branch::restore(cx, id, t, then, media));
        if transferor.is_some() && from.transfer.is_none() {
            // It knows, and hangs up itself or is hung up.
            cx.arm(id, CallTimer::Transferred, LEAVE);
        }
        transfer.resume(from.transfer, transferor);
        if let Some(accepted) = unacknowledged {
            uas.accept_again(cx, id, &mut caller, accepted);
        }
        let state = match from.standing {
            Resumability::Settled => CallPhase::Talking,
            Resumability::Transferring | Resumability::Connecting | Resumability::Unsettled => {
                CallPhase::Routing
            }
        };
        let mut call = Call {
            id,
            state,
            caller,
            uas,
            branches,
            route: RouteCursor::restore(from.route, cx.config),
            transfer,
            joined: from.joined,
            third_party: None,
            media: CallMedia::restore(id, usize::from(from.worker), from.held_by_operator),
            cdr: Cdr::restore(from.cdr, then),
            inherited: Inherited {
                silent_since: Some(with.silent_since),
                taken_from: with.from.clone(),
                step_waits: None,
            },
        };
        if let Some(ports) = with.ports {
            call.relocate(cx, ports);
        }
        call.enter(cx);
        let timers = from.sessions.into_iter();
        let timers = timers.map(|(end, left)| (CallTimer::Session(LegId(end)), left));
        let longest = from.left.map(|left| (CallTimer::MaxDuration, left));
        for (timer, left) in timers.chain(longest) {
            cx.services.timers.set((id, timer), then + left);
        }
        call.excuse_peers(cx, cx.now.saturating_duration_since(with.silent_since));
        Some(call)
    }

    /// Nobody was there for `away`: a refresh that came meanwhile is repeated at intervals that
    /// double. One of ours that was not answered yet is owed again.
    fn excuse_peers(&mut self, cx: &mut CallContext<'_>, away: Duration) {
        let (id, now, by) = (self.id, cx.now, 2 * away + away.min(READ));
        let timers = &mut cx.services.timers;
        for leg in self.legs_mut() {
            let timer = (id, CallTimer::Session(leg.end));
            let ends = timers.deadline(&timer).zip(leg.session_ends);
            let asked = ends.is_some_and(|(at, ends)| at >= ends);
            leg.put_session_off(id, timers, by);
            if asked && leg.session.is_some_and(|session| session.refresher == Refresher::Us) {
                timers.set(timer, now);
            }
        }
    }

    /// All that leads to it leads to it again, and who is away is waited for.
    fn enter(&self, cx: &mut CallContext<'_>) {
        let id = self.id;
        for leg in self.legs() {
            if leg.dialog.is_some() {
                for tag in leg.tags() {
                    cx.services.dialogs.insert(tag.clone(), (id, leg.end));
                }
            }
            if leg.flow_lost {
                cx.arm(id, CallTimer::FlowGrace(leg.end), leg.grace_left(cx.config, cx.now));
            }
        }
        for branch in self.branches.iter() {
            cx.services.own_call_ids.insert(branch.call_id().to_owned(), id);
        }
    }

    /// The users of legs whose flow is lost.
    pub(crate) fn lost_users(&self) -> Vec<String> {
        let user = |leg: &Leg| match &leg.party {
            Party::User { name, .. } if leg.flow_lost => Some(name.clone()),
            _ => None,
        };
        self.legs().filter_map(user).collect()
    }

    /// Whether it has a leg that no way leads to any more: its trunk is not configured now, and
    /// nothing is said over TLS to whom nothing vouches for.
    pub(crate) fn has_lost_trunk(&self) -> bool {
        let lost = |leg: &Leg| matches!(leg.party, Party::Trunk(_)) && leg.hop == Hop::Suspended;
        self.legs().any(lost)
    }

    /// Ends a call that cannot continue in this process.
    pub(crate) fn cut_off(&mut self, cx: &mut CallContext<'_>, why: &str) {
        let (what, code) = self.inherited.why_interrupted();
        let why = Refusal::new(503, format!("{what}: {why}")).code(code).retry_after(1);
        self.finish(cx, EndReason::refused(HangupBy::Us, why));
    }

    /// The process was started again in the middle of a transfer: the target is cancelled, and the
    /// call continues as it was before.
    pub(crate) fn take_transfer_back(&mut self, cx: &mut CallContext<'_>) {
        let why = Refusal::new(503, "the gateway was restarted").code(Code::RESTARTED);
        let given_up = Reason::new(503, why.why.clone());
        for branch in self.branches.abandon_trying(cx, self.id, None, &given_up) {
            self.media.close_end(cx, branch.leg.end);
        }
        self.transfer_failed(cx, why);
    }

    /// Its media continues.
    pub(super) fn media_restored(&mut self, cx: &mut CallContext<'_>) {
        let Some(since) = self.inherited.silent_since.take() else { return };
        let gap = cx.now.saturating_duration_since(since);
        let node = self.inherited.taken_from.clone();
        self.cdr.interruptions.push(Interruption { at: since, gap, node: node.clone() });
        cx.note(Event::CallInterrupted { call: self.id, gap, node });
        self.take_step_again(cx);
    }
}
