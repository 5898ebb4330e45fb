//! What others may ask of a call.

use super::branch::BranchState;
use super::leg::{Leg, Party};
use super::{Call, CallTimer, State};
use crate::codec::Codec;
use crate::media::LegId;
use crate::sip::dialog::Dialog;
use crate::sip::transaction::Hop;

impl Call {
    /// Whether nothing of it needs to be remembered any longer.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Over
            && self.branches.iter().all(|b| b.state == BranchState::Over || !b.has_transaction())
    }

    /// What both legs speak, where two do.
    pub(crate) fn codecs(&self) -> Option<(Codec, Codec)> {
        let codec = |leg: &Leg| leg.negotiation.negotiated().map(|a| a.codec);
        let b = self.callee.and_then(|id| self.branches.iter().find(|b| b.id == id))?;
        Some((codec(&self.caller)?, codec(&b.leg)?))
    }

    /// Trunks with a leg of this call that is trying or talking, sorted.
    pub(crate) fn trunks_in_use(&self) -> Vec<String> {
        if self.state == State::Over {
            return Vec::new();
        }
        let live = self
            .branches
            .iter()
            .filter(|b| b.is_trying() || Some(b.id) == self.callee)
            .map(|b| &b.leg.party);
        let mut names: Vec<String> = live
            .chain([&self.caller.party])
            .filter_map(|p| match p {
                Party::Trunk(name) => Some(name.clone()),
                Party::User { .. } | Party::Internal(_) => None,
            })
            .collect();
        names.sort();
        names
    }

    /// Our tags and Call-IDs it is known by.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        let legs = self.legs().map(|l| &l.local_tag);
        legs.chain(self.branches.iter().chain(&self.transferor).map(|b| &b.call_id))
            .chain(&self.retired_dialog_keys)
    }

    /// Every timer it may have armed.
    pub(crate) fn timers(&self) -> Vec<CallTimer> {
        let ends = (0..=self.next_branch).map(LegId);
        let of_leg = ends.flat_map(|e| {
            [
                CallTimer::Ack(e),
                CallTimer::FlowGrace(e),
                CallTimer::Session(e),
                CallTimer::Glare(e),
                CallTimer::Probe(e),
            ]
        });
        let of_branch = (1..=self.next_branch).map(CallTimer::Silent);
        of_leg.chain(of_branch).chain(CallTimer::OF_CALL).collect()
    }

    pub(crate) fn legs(&self) -> impl Iterator<Item = &Leg> {
        std::iter::once(&self.caller)
            .chain(self.branches.iter().chain(&self.transferor).map(|b| &b.leg))
    }

    /// The leg of an end.
    pub(crate) fn leg_mut(&mut self, end: LegId) -> Option<&mut Leg> {
        let legs = std::iter::once(&mut self.caller)
            .chain(self.branches.iter_mut().chain(&mut self.transferor).map(|b| &mut b.leg));
        legs.into_iter().find(|l| l.end == end)
    }

    /// The leg of an end.
    pub(crate) fn leg_of(&self, end: LegId) -> Option<&Leg> {
        self.legs().find(|l| l.end == end)
    }

    /// The trunk a branch tries, and its current hop.
    pub(crate) fn trunk_of_branch(&self, id: u16) -> Option<(String, Hop)> {
        let branch = self.branches.iter().find(|b| b.id == id)?;
        match &branch.leg.party {
            Party::Trunk(name) => Some((name.clone(), branch.leg.hop)),
            _ => None,
        }
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
