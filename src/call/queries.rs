//! What others may ask of a call.

use super::branch::{Branch, BranchState};
use super::invite_server::CallerInvite;
use super::leg::Leg;
use super::{Call, CallId, CallPhase, CallTimer, Cdr};
use crate::cdr::Party;
use crate::codec::Codec;
use crate::media::LegId;
use crate::sip::dialog::Dialog;
use crate::sip::transaction::{ClientId, Hop};
use crate::timers::Timers;
use std::time::{Duration, Instant};

impl Call {
    /// Whether nothing of it needs to be remembered any longer.
    pub(crate) fn is_done(&self) -> bool {
        self.state == CallPhase::Over
            && !self.uas.is_untold()
            && self.branches.iter().all(|b| b.state == BranchState::Over || !b.has_transaction())
    }

    /// Its number.
    pub fn id(&self) -> CallId {
        self.id
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> CallPhase {
        self.state
    }

    /// The party that is connected: the caller, or after a transfer whoever was handed over.
    pub(crate) fn caller(&self) -> &Leg {
        &self.caller
    }

    /// INVITEs of ours that may still be answered.
    pub(crate) fn open_invites(&self) -> impl Iterator<Item = ClientId> {
        self.all_branches().filter_map(|branch| branch.client)
    }

    /// The INVITE that began it.
    pub(crate) fn uas(&self) -> &CallerInvite {
        &self.uas
    }

    /// Whether a party that handed it over is still there.
    pub(crate) fn has_transferor(&self) -> bool {
        self.transfer.transferor().is_some()
    }

    /// The worker that has its media.
    pub(crate) fn worker(&self) -> usize {
        self.media.worker()
    }

    /// Its record, as far as it goes.
    pub(crate) fn cdr(&self) -> &Cdr {
        &self.cdr
    }

    /// Its record, for what others know of it.
    pub(crate) fn cdr_mut(&mut self) -> &mut Cdr {
        &mut self.cdr
    }

    /// Its record, once nothing more is done with it.
    pub(crate) fn into_cdr(self) -> Cdr {
        self.cdr
    }

    /// The number that is called.
    pub(crate) fn number(&self) -> &str {
        self.route.number()
    }

    /// What both legs speak, if there are two.
    pub(crate) fn codecs(&self) -> Option<(Codec, Codec)> {
        let codec = |leg: &Leg| leg.negotiation.negotiated().map(|a| a.codec);
        let b = self.branches.answered()?;
        Some((codec(&self.caller)?, codec(&b.leg)?))
    }

    /// Trunks with a leg of this call that is trying or talking, sorted.
    pub(crate) fn trunks_in_use(&self) -> Vec<String> {
        if self.state == CallPhase::Over {
            return Vec::new();
        }
        let live = self
            .branches
            .iter()
            .filter(|b| b.is_trying() || self.branches.has_answered(b))
            .map(|b| &b.leg.party);
        let mut names: Vec<String> = live
            .chain([&self.caller.party])
            .filter_map(|p| match p {
                Party::Trunk(name) => Some(name.clone()),
                Party::User { .. } | Party::Number(_) | Party::Internal(_) => None,
            })
            .collect();
        names.sort();
        names
    }

    /// Our tags and Call-IDs it is known by.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        let legs = self.legs().flat_map(Leg::tags);
        legs.chain(self.all_branches().map(|b| &b.call_id)).chain(self.branches.retired())
    }

    /// Every timer it may have armed.
    pub(crate) fn timers(&self) -> Vec<CallTimer> {
        let ends = (0..=self.branches.last_id()).map(LegId);
        let of_leg = ends.flat_map(|e| {
            [
                CallTimer::Ack(e),
                CallTimer::FlowGrace(e),
                CallTimer::Session(e),
                CallTimer::Glare(e),
                CallTimer::Path(e),
                CallTimer::Probe(e),
            ]
        });
        let of_branch = (1..=self.branches.last_id()).map(CallTimer::Silent);
        of_leg.chain(of_branch).chain(CallTimer::OF_CALL).collect()
    }

    /// Its branches, the one that is set aside too.
    fn all_branches(&self) -> impl Iterator<Item = &Branch> {
        self.branches.iter().chain(self.transfer.transferor())
    }

    pub(crate) fn legs(&self) -> impl Iterator<Item = &Leg> {
        std::iter::once(&self.caller).chain(self.all_branches().map(|b| &b.leg))
    }

    pub(super) fn legs_mut(&mut self) -> impl Iterator<Item = &mut Leg> {
        let branches = self.branches.iter_mut().chain(self.transfer.transferor_mut());
        std::iter::once(&mut self.caller).chain(branches.map(|b| &mut b.leg))
    }

    /// The leg of an end.
    pub(crate) fn leg_mut(&mut self, end: LegId) -> Option<&mut Leg> {
        self.legs_mut().find(|l| l.end == end)
    }

    /// Nobody could be heard for `by`: what waits for a peer waits that much longer. The call's own
    /// timers among `timers` have been put off already.
    pub(crate) fn put_off(
        &mut self,
        timers: &mut Timers<(CallId, CallTimer)>,
        now: Instant,
        by: Duration,
    ) {
        let id = self.id;
        self.legs_mut().for_each(|leg| leg.put_off(id, timers, now, by));
        self.uas.put_off(by);
    }

    /// The leg of an end.
    pub(crate) fn leg_of(&self, end: LegId) -> Option<&Leg> {
        self.legs().find(|l| l.end == end)
    }

    /// The trunk a branch tries, and its current hop.
    pub(crate) fn trunk_of_branch(&self, id: u16) -> Option<(String, Hop)> {
        let branch = self.branches.get(id)?;
        match &branch.leg.party {
            Party::Trunk(name) => Some((name.clone(), branch.leg.hop)),
            _ => None,
        }
    }

    /// The branch whose dialog has this Call-ID.
    pub(crate) fn branch_called(&self, call_id: &str) -> Option<&Branch> {
        self.branches.iter().find(|b| b.call_id() == call_id)
    }

    /// Where an end's messages go.
    pub(crate) fn hop_of(&self, end: LegId) -> Option<Hop> {
        self.leg_of(end).map(|l| l.hop)
    }

    /// An end's dialog.
    pub(crate) fn dialog_of(&self, end: LegId) -> Option<&Dialog> {
        self.leg_of(end).and_then(|l| l.dialog.as_ref())
    }

    /// Who is at an end.
    pub(crate) fn party_of(&self, end: LegId) -> Option<&Party> {
        self.leg_of(end).map(|l| &l.party)
    }
}
