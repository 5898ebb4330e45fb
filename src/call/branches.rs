//! The branches of a call, and the one that answered.
//!
//! What holds of them:
//! - A branch's id, which is its leg's too, is never given again.
//! - At most one has answered, and it is among them until it is taken out.
//! - What peers may still name a leg by that has left is kept until the call is forgotten.

use super::branch::Branch;
use super::{CallContext, CallId};
use crate::media::LegId;
use crate::sip::status::Reason;

/// A call's branches.
#[derive(Default)]
pub(crate) struct Branches {
    list: Vec<Branch>,
    /// The one that answered.
    answered: Option<u16>,
    /// The newest id.
    last_id: u16,
    /// Tags and Call-IDs of legs that have left.
    retired: Vec<String>,
}

impl Branches {
    /// None of them; the newest id, and what legs that have left were named by, as they were.
    pub(super) fn restore(last_id: u16, retired: Vec<String>) -> Branches {
        Branches { last_id, retired, ..Branches::default() }
    }

    /// The id of the next branch.
    pub(super) fn next_id(&mut self) -> u16 {
        self.last_id += 1;
        self.last_id
    }

    /// Passes over so many ids, which others may have been given.
    pub(super) fn skip_ids(&mut self, many: u16) {
        self.last_id = self.last_id.saturating_add(many);
    }

    /// The newest id; 0 if there never was a branch.
    pub(super) fn last_id(&self) -> u16 {
        self.last_id
    }

    /// Adds a branch with an id of [`next_id`](Self::next_id).
    pub(super) fn push(&mut self, branch: Branch) {
        debug_assert!(branch.id <= self.last_id && self.get(branch.id).is_none());
        self.list.push(branch);
    }

    /// Adds the branch that answered.
    pub(super) fn push_answered(&mut self, branch: Branch) {
        self.answered = Some(branch.id);
        self.push(branch);
    }

    /// The branch called `id`.
    pub(super) fn get(&self, id: u16) -> Option<&Branch> {
        self.list.iter().find(|b| b.id == id)
    }

    /// The branch called `id`.
    pub(super) fn get_mut(&mut self, id: u16) -> Option<&mut Branch> {
        self.list.iter_mut().find(|b| b.id == id)
    }

    /// The branch whose leg has this end.
    pub(super) fn of_end(&self, end: LegId) -> Option<&Branch> {
        self.list.iter().find(|b| b.leg.end == end)
    }

    /// The branch whose leg has this end.
    pub(super) fn of_end_mut(&mut self, end: LegId) -> Option<&mut Branch> {
        self.list.iter_mut().find(|b| b.leg.end == end)
    }

    /// All of them, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Branch> {
        self.list.iter()
    }

    /// All of them, the oldest first.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Branch> {
        self.list.iter_mut()
    }

    /// The one that answered.
    pub(super) fn answered(&self) -> Option<&Branch> {
        self.get(self.answered?)
    }

    /// Whether `branch` is the one that answered.
    pub(super) fn has_answered(&self, branch: &Branch) -> bool {
        self.answered == Some(branch.id)
    }

    /// This branch has answered.
    pub(super) fn set_answered(&mut self, id: u16) {
        debug_assert!(self.get(id).is_some());
        self.answered = Some(id);
    }

    /// Takes out the one that answered.
    pub(super) fn take_answered(&mut self) -> Option<Branch> {
        let id = self.answered.take()?;
        let at = self.list.iter().position(|b| b.id == id)?;
        Some(self.list.remove(at))
    }

    /// Whether one may still answer.
    pub(super) fn is_any_trying(&self) -> bool {
        self.list.iter().any(Branch::is_trying)
    }

    /// Gives up on all that may still answer, but `kept`; returns them.
    pub(super) fn abandon_trying(
        &mut self,
        cx: &mut CallContext<'_>,
        call: CallId,
        kept: Option<u16>,
        why: &Reason,
    ) -> Vec<&Branch> {
        let gives_up = |b: &&mut Branch| Some(b.id) != kept && b.is_trying();
        let mut given_up = Vec::new();
        for branch in self.list.iter_mut().filter(gives_up) {
            branch.abandon(cx, call, why);
            given_up.push(&*branch);
        }
        given_up
    }

    /// A leg has left; peers may still name it by these.
    pub(super) fn retire(&mut self, names: impl IntoIterator<Item = String>) {
        self.retired.extend(names);
    }

    /// What legs that have left were named by.
    pub(super) fn retired(&self) -> impl Iterator<Item = &String> {
        self.retired.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::branch::BranchState;
    use super::super::testing::{CALL, CallBench};
    use super::*;

    fn add(bench: &mut CallBench, branches: &mut Branches, state: BranchState) -> u16 {
        let id = branches.next_id();
        branches.push(bench.branch(id, state));
        id
    }

    #[test]
    fn an_id_is_never_given_again() {
        let (mut bench, mut branches) = (CallBench::new(), Branches::default());
        let first = add(&mut bench, &mut branches, BranchState::Early);
        branches.set_answered(first);
        assert_eq!(branches.take_answered().map(|b| b.id), Some(first));
        assert_ne!(add(&mut bench, &mut branches, BranchState::Early), first);
        assert!(branches.answered().is_none() && branches.get(first).is_none());
        assert!(branches.of_end(LegId(first)).is_none());
    }

    #[test]
    fn all_but_the_one_that_answered_are_given_up() {
        let (mut bench, mut branches) = (CallBench::new(), Branches::default());
        let kept = add(&mut bench, &mut branches, BranchState::Calling);
        let rings = add(&mut bench, &mut branches, BranchState::Calling);
        add(&mut bench, &mut branches, BranchState::Over);
        let why = Reason::new(487, "");
        let lost = branches.abandon_trying(&mut bench.cx(), CALL, Some(kept), &why);
        assert_eq!(lost.iter().map(|b| b.id).collect::<Vec<_>>(), [rings]);
        assert!(branches.is_any_trying(), "the one that is kept");
        assert_eq!(branches.get(rings).map(|b| b.state), Some(BranchState::Cancelling));
        branches.abandon_trying(&mut bench.cx(), CALL, None, &why);
        assert!(!branches.is_any_trying());
    }

    #[test]
    fn a_branch_that_comes_back_is_the_one_that_answered() {
        let (mut bench, mut branches) = (CallBench::new(), Branches::default());
        let id = add(&mut bench, &mut branches, BranchState::Answered);
        branches.set_answered(id);
        let answered = branches.take_answered().expect("it answered");
        assert!(branches.answered().is_none());
        branches.push_answered(answered);
        assert!(branches.answered().is_some_and(|b| branches.has_answered(b) && b.id == id));
    }
}
