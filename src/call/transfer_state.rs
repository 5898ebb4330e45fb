//! A transfer of a call: its transferor, which progress was reported, and whose leg is set aside
//! meanwhile.
//!
//! What holds of it:
//! - One transfer is under way at a time.
//! - One leg is set aside at a time; it may stay for a while after its transfer has succeeded.
//! - A subscriber gets each status once, and nothing after the end (RFC 3515 §2.4.4).

use super::CallId;
use super::branch::Branch;
use crate::config::User;
use crate::media::LegId;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::Refusal;
use crate::sip::uri::Params;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// How long who handed a call over may take to hang up.
pub(super) const LEAVE: Duration = Duration::from_secs(5);

/// The subscriber to a transfer's progress (RFC 3515 §2.4.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReferSubscription {
    /// The leg whose peer sent the REFER.
    pub(super) end: LegId,
    /// CSeq of the REFER, named if a dialog has seen more than one (§2.4.6).
    pub(super) id: Option<u32>,
    /// False if the REFER said `Refer-Sub: false` (RFC 4488).
    pub(super) wanted: bool,
}

impl ReferSubscription {
    /// Nobody is notified; `end` is who leaves.
    pub(super) fn nobody(end: LegId) -> ReferSubscription {
        ReferSubscription { end, id: None, wanted: false }
    }
}

/// A transfer under way.
pub(super) struct Transfer {
    subscription: ReferSubscription,
    /// A trunk does it; we only tell.
    passed: bool,
    /// The caller hands over, and the other party stands in its place meanwhile.
    by_caller: bool,
    /// The status reported last; 0 for none.
    last_notified: u16,
}

impl Transfer {
    /// One we execute.
    pub(super) fn new(subscription: ReferSubscription) -> Transfer {
        Transfer { subscription, passed: false, by_caller: false, last_notified: 0 }
    }

    /// One that a trunk executes.
    pub(super) fn passed(subscription: ReferSubscription) -> Transfer {
        Transfer { passed: true, ..Transfer::new(subscription) }
    }

    /// The same; it is the caller who hands over, or not.
    pub(super) fn of_caller(self, by_caller: bool) -> Transfer {
        Transfer { by_caller, ..self }
    }

    /// The transferor.
    pub(super) fn by(&self) -> LegId {
        self.subscription.end
    }
}

/// A transfer under way as a value that outlives the process, so that it can be taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct TransferSnapshot {
    end: LegId,
    id: Option<u32>,
    wanted: bool,
    by_caller: bool,
    last_notified: u16,
}

/// A dialog as a Replaces header names it (RFC 3891 §6.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Replaces {
    /// The Call-ID.
    pub(crate) call_id: String,
    /// The `to-tag`: ours, unless its sender takes our side.
    pub(crate) to_tag: String,
    /// The `from-tag`: the peer's, unless its sender takes our side.
    pub(crate) from_tag: String,
    /// Only a dialog that is early may be replaced.
    pub(crate) early_only: bool,
}

impl Replaces {
    /// The dialog that an INVITE is to replace, if it names one.
    ///
    /// # Errors
    /// 400: it cannot be read.
    pub(crate) fn of(invite: &Message) -> Result<Option<Replaces>, Refusal> {
        // An empty one names nothing, and asks for nothing.
        let mut values = invite.all(HeaderName::Replaces).filter(|v| !v.is_empty());
        let Some(value) = values.next() else { return Ok(None) };
        let replaces = Replaces::parse(value).filter(|_| values.next().is_none());
        replaces.map(Some).ok_or_else(|| Refusal::new(400, "Replaces cannot be read"))
    }

    /// Reads a header value, or the unescaped one of a URI.
    pub(crate) fn parse(text: &str) -> Option<Replaces> {
        let (call_id, params) = text.split_once(';')?;
        let params = Params::parse(params).ok()?;
        Some(Replaces {
            call_id: call_id.trim().to_owned(),
            to_tag: params.get("to-tag")?.to_owned(),
            from_tag: params.get("from-tag")?.to_owned(),
            early_only: params.has("early-only"),
        })
    }
}

/// A call's transfers.
#[derive(Default)]
pub(crate) struct TransferState {
    current: Option<Transfer>,
    /// The branch whose party handed the call over and has not hung up.
    transferor: Option<Branch>,
    /// The user a transfer was made for.
    referred_by: Option<Arc<User>>,
    /// The number the party handed over is known by.
    presented_number: Option<String>,
    /// The dialog this call takes the place of (RFC 3891).
    replaces: Option<(CallId, LegId, Replaces)>,
}

impl TransferState {
    /// The call is made for `user`, and its caller is known by this number.
    pub(crate) fn on_behalf_of(&mut self, user: Option<Arc<User>>, number: Option<String>) {
        (self.referred_by, self.presented_number) = (user, number);
    }

    /// The call takes the place of this dialog.
    pub(crate) fn set_replaces(&mut self, replaces: Option<(CallId, LegId, Replaces)>) {
        self.replaces = replaces;
    }

    /// Takes the dialog whose place the call takes.
    pub(super) fn take_replaces(&mut self) -> Option<(CallId, LegId, Replaces)> {
        self.replaces.take()
    }

    /// Whether a transfer is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.current.is_some()
    }

    /// Whether a transfer is under way that we execute.
    pub(super) fn is_ours(&self) -> bool {
        self.current.as_ref().is_some_and(|transfer| !transfer.passed)
    }

    /// The transfer under way as a value, if we execute it.
    pub(super) fn snapshot(&self) -> Option<TransferSnapshot> {
        let transfer = self.current.as_ref().filter(|transfer| !transfer.passed)?;
        let ReferSubscription { end, id, wanted } = transfer.subscription;
        let (by_caller, last_notified) = (transfer.by_caller, transfer.last_notified);
        Some(TransferSnapshot { end, id, wanted, by_caller, last_notified })
    }

    /// The transfer of a value, and whose leg is set aside, unless that has left.
    pub(super) fn resume(&mut self, from: Option<TransferSnapshot>, transferor: Option<Branch>) {
        self.current =
            from.map(|TransferSnapshot { end, id, wanted, by_caller, last_notified }| Transfer {
                subscription: ReferSubscription { end, id, wanted },
                passed: false,
                by_caller,
                last_notified,
            });
        self.transferor = transferor;
    }

    /// Begins a transfer.
    pub(super) fn begin(&mut self, transfer: Transfer) {
        debug_assert!(self.current.is_none());
        self.current = Some(transfer);
    }

    /// Whether it was the caller who hands over.
    pub(super) fn note_caller(&mut self, by_caller: bool) {
        self.current.iter_mut().for_each(|transfer| transfer.by_caller = by_caller);
    }

    /// Ends the transfer. Returns true if it was the caller who handed over.
    pub(super) fn end(&mut self) -> bool {
        self.current.take().is_some_and(|t| t.by_caller)
    }

    /// Whether a trunk at `end` executes the transfer.
    pub(super) fn is_executed_by(&self, end: LegId) -> bool {
        self.current.as_ref().is_some_and(|t| t.passed && t.subscription.end != end)
    }

    /// Returns who must be notified that the transfer has come to `status`.
    pub(super) fn progress(&mut self, status: u16) -> Option<ReferSubscription> {
        let transfer = self.current.as_mut()?;
        if !transfer.subscription.wanted
            || std::mem::replace(&mut transfer.last_notified, status) == status
        {
            return None;
        }
        Some(transfer.subscription)
    }

    /// Puts a leg aside, for a transfer by `user`. `presented_number` is given if it was the
    /// caller's: the other party is known by it.
    pub(super) fn set_aside(
        &mut self,
        transferor: Branch,
        user: Option<Arc<User>>,
        presented_number: Option<String>,
    ) {
        debug_assert!(self.transferor.is_none());
        self.referred_by = user;
        if presented_number.is_some() {
            self.presented_number = presented_number;
        }
        self.transferor = Some(transferor);
    }

    /// The transferor's branch, which is set aside.
    pub(crate) fn transferor(&self) -> Option<&Branch> {
        self.transferor.as_ref()
    }

    /// The transferor's branch, which is set aside.
    pub(super) fn transferor_mut(&mut self) -> Option<&mut Branch> {
        self.transferor.as_mut()
    }

    /// Takes the branch that is set aside, for good: it has left, or is let go.
    pub(super) fn take_transferor(&mut self) -> Option<Branch> {
        self.transferor.take()
    }

    /// As [`take_transferor`](Self::take_transferor), if its leg has this end.
    pub(super) fn take_transferor_at(&mut self, end: LegId) -> Option<Branch> {
        self.transferor.take_if(|b| b.leg.end == end)
    }

    /// Takes the branch that is set aside, whose party continues with the call: all are who they
    /// were.
    pub(super) fn bring_back(&mut self) -> Option<Branch> {
        let transferor = self.transferor.take()?;
        self.presented_number = None;
        Some(transferor)
    }

    /// The user on whose word requests are made now (RFC 3892).
    pub(super) fn referred_by(&self) -> Option<&Arc<User>> {
        self.referred_by.as_ref()
    }

    /// The number the caller is known by, if it is not its own.
    pub(super) fn presented_number(&self) -> Option<&str> {
        self.presented_number.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::branch::BranchState;
    use super::super::testing::CallBench;
    use super::*;

    fn subscription(wanted: bool) -> ReferSubscription {
        ReferSubscription { end: LegId(0), id: None, wanted }
    }

    #[test]
    fn a_status_is_notified_once_and_nothing_after_the_end() {
        let mut state = TransferState::default();
        assert_eq!(state.progress(100), None, "there is no transfer");
        state.begin(Transfer::new(subscription(true)));
        let last_notified = [100, 180, 180, 200].map(|status| state.progress(status).is_some());
        assert_eq!(last_notified, [true, true, false, true]);
        assert!(!state.end());
        assert_eq!((state.progress(200), state.is_under_way()), (None, false));
        state.begin(Transfer::new(subscription(false)));
        assert_eq!(state.progress(100), None, "Refer-Sub: false");
    }

    #[test]
    fn a_trunk_executes_what_was_passed_to_it_and_the_referrer_does_not() {
        let mut state = TransferState::default();
        state.begin(Transfer::passed(subscription(true)));
        assert!(state.is_executed_by(LegId(1)) && !state.is_executed_by(LegId(0)));
        state.end();
        state.begin(Transfer::new(subscription(true)));
        assert!(!state.is_executed_by(LegId(1)));
    }

    #[test]
    fn who_is_parked_leaves_or_comes_back() {
        let (mut bench, mut state) = (CallBench::new(), TransferState::default());
        let mut answered = || bench.branch(1, BranchState::Answered);
        state.set_aside(answered(), None, Some("100".into()));
        assert!(state.take_transferor_at(LegId(2)).is_none(), "another leg");
        assert!(state.take_transferor_at(LegId(1)).is_some());
        assert_eq!(state.presented_number(), Some("100"), "the other party is still who it became");
        state.set_aside(answered(), None, None);
        assert_eq!(state.presented_number(), Some("100"));
        assert!(state.bring_back().is_some() && state.bring_back().is_none());
        assert_eq!(state.presented_number(), None, "each is again who it was");
    }

    #[test]
    fn replaces_is_read() {
        let replaces = Replaces::parse("a@b;from-tag=1;to-tag=2;early-only").expect("sound");
        let Replaces { call_id, to_tag, from_tag, early_only } = replaces;
        assert_eq!((&*call_id, &*to_tag, &*from_tag, early_only), ("a@b", "2", "1", true));
        assert_eq!(Replaces::parse("a@b;from-tag=1"), None);
    }
}
