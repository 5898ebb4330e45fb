//! Processes that are gone whose calls are left to others first: to those that can read them, or to
//! their own node.

use super::member::Member;
use super::store::{CALLS, MAX_NODES, Process};
use super::succession::Probe;
use std::time::Instant;

/// Calls of a process that is gone, while this node may not continue with them.
struct LeftCalls {
    member: Member,
    /// When its lease was seen last.
    seen: Instant,
    /// Its node is back, and was asked.
    told: bool,
}

/// Nodes that are gone, whose calls are left to those who can read them.
#[derive(Default)]
pub(super) struct LeftNodes(Vec<LeftCalls>);

impl LeftNodes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more is gone.
    pub(super) fn add(&mut self, member: Member, seen: Instant) {
        self.0.push(LeftCalls { member, seen, told: false });
    }

    /// Returns those that this node may go on with, and forgets what nobody can go on with any
    /// more.
    pub(super) fn due(
        &mut self,
        now: Instant,
        may_go_on_with: impl Fn(&Member, Instant) -> bool,
    ) -> Vec<(Member, Instant)> {
        let mut due = Vec::new();
        for left in std::mem::take(&mut self.0) {
            if may_go_on_with(&left.member, left.seen) {
                due.push((left.member, left.seen));
            } else if self.0.len() < MAX_NODES && now < left.seen + CALLS {
                self.0.push(left);
            }
        }
        due
    }

    /// Others took these, or they live.
    pub(super) fn settled(&mut self, process: &Process) {
        self.0.retain(|left| left.member.process() != *process);
    }

    /// A node that is back never saw the lease of the process before, whose calls are left to it:
    /// the question tells it of them, while they are not too old to continue with.
    pub(super) fn tell_who_is_back<'a, I: Iterator<Item = &'a Member>>(
        &mut self,
        others: impl Fn() -> I,
        next_id: &mut u64,
        probes: &mut Vec<Probe>,
    ) {
        for left in self.0.iter_mut().filter(|left| !left.told) {
            // Its clock may have been put back, so that its number is lower.
            let is_back = |m: &&Member| m.node == left.member.node && m.epoch != left.member.epoch;
            let Some(back) = others().find(is_back) else { continue };
            left.told = true;
            *next_id += 1;
            let (number, of) = (*next_id, left.member.process());
            probes.push(Probe { number, to: back.advertise, of });
        }
    }
}
