//! What others may ask of a call.

use super::branch::BranchState;
use super::leg::{Leg, Party};
use super::{Call, State};
use crate::media::EndId;
use crate::sip::dialog::Dialog;
use crate::sip::transaction::{Flow, Hop};

impl Call {
    /// Whether nothing of it needs to be remembered any longer.
    pub fn is_done(&self) -> bool {
        self.state == State::Over && self.branches.iter().all(|b| b.state == BranchState::Over || !b.has_transaction())
    }

    /// Trunks with a leg of this call that is trying or talking, sorted.
    pub fn trunks_in_use(&self) -> Vec<String> {
        if self.state == State::Over {
            return Vec::new();
        }
        let live = self.branches.iter().filter(|b| b.is_trying() || Some(b.id) == self.b).map(|b| &b.leg.party);
        let mut names: Vec<String> = live.chain([&self.a.party]).filter_map(|p| match p {
            Party::Trunk(name) => Some(name.clone()),
            Party::User { .. } => None,
        }).collect();
        names.sort();
        names
    }

    fn legs(&self) -> impl Iterator<Item = &Leg> {
        std::iter::once(&self.a).chain(self.branches.iter().map(|b| &b.leg))
    }

    /// Ends whose messages go by `hop`.
    pub fn ends_on(&self, hop: Hop) -> Vec<EndId> {
        self.legs().filter(|l| l.hop == hop && l.dialog.is_some()).map(|l| l.end).collect()
    }

    /// Ends of this user and browser instance whose flow is lost, or among the `replaced`.
    pub fn lost_legs(&self, user: &str, instance: &str, replaced: &[Flow]) -> Vec<EndId> {
        let gone = |l: &Leg| l.flow_lost || matches!(l.hop, Hop::Flow(f) if replaced.contains(&f));
        let same = |l: &&Leg| gone(l) && matches!(&l.party, Party::User { name, instance: Some(i) } if name == user && i == instance);
        self.legs().filter(same).map(|l| l.end).collect()
    }

    fn leg_of(&self, end: EndId) -> Option<&Leg> {
        self.legs().find(|l| l.end == end)
    }

    /// Where an end's messages go.
    pub fn hop_of(&self, end: EndId) -> Option<Hop> {
        self.leg_of(end).map(|l| l.hop)
    }

    /// An end's dialog.
    pub fn dialog_of(&self, end: EndId) -> Option<&Dialog> {
        self.leg_of(end).and_then(|l| l.dialog.as_ref())
    }

    /// Who is at an end.
    pub fn party_of(&self, end: EndId) -> Option<&Party> {
        self.leg_of(end).map(|l| &l.party)
    }
}

