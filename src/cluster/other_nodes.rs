//! The other nodes as a renewal of the lease shows them, and what is remembered of those that are
//! gone.

use super::keys::ClusterKeys;
use super::lease::{LeaseEvent, SETTLED};
use super::member::{LeaseFault, MARK, Member, mark_of, read};
use super::store::{CALLS, LEASE, MAX_NODES, Process};
use super::token::short;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Instant;

/// Nodes whose leases cannot be read that are told of.
const MAX_UNREAD: usize = 64;
/// Users with several calls that a node tells of.
pub(crate) const MAX_BUSY: usize = 300;

/// The other nodes.
#[derive(Default)]
pub(super) struct Others {
    view: BTreeMap<String, Member>,
    /// When each of them was seen to renew.
    seen: BTreeMap<String, Instant>,
    /// Processes whose leases are gone, and when they were seen to renew last, since last asked.
    gone: Vec<(Member, Instant)>,
    /// Those that were seen of late, and when, or before the lease of this one ran out while that
    /// is not sure: they may have taken what this node had. A process that another of its node
    /// follows is one of them only while that is not sure.
    met: BTreeMap<Process, (Member, Instant)>,
    /// Nodes that told by themselves whose calls they have, and when they did last.
    told: BTreeMap<String, Instant>,
    /// By the marks that tags and branches of their calls bear.
    marks: BTreeMap<String, Vec<SocketAddr>>,
    /// Nodes that were there when the store was lost, and not yet when it was back, and since when;
    /// of those seen before.
    doubted: BTreeMap<String, Instant>,
    /// Whose leases we cannot read; told once.
    unread: BTreeSet<String>,
    /// Calls of users there, by the user in short.
    busy: HashMap<u64, u32>,
}

impl Others {
    /// Those whose leases live.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.view.values()
    }

    pub(super) fn get(&self, node: &str) -> Option<&Member> {
        self.view.get(node)
    }

    /// The processes that may have taken what this node had; they may be gone, and live all the
    /// same.
    pub(super) fn met(&self) -> impl Iterator<Item = &Member> {
        self.met.values().map(|(member, _)| member)
    }

    /// Whether there are none of those.
    pub(super) fn met_nobody(&self) -> bool {
        self.met.is_empty()
    }

    /// Whether all of them have their leases.
    pub(super) fn are_there(&self) -> bool {
        let is_there = |of: &Process| self.view.get(&of.node).is_some_and(|m| m.epoch == of.epoch);
        self.met.keys().all(is_there)
    }

    /// Whether all of their nodes have leases, though it be as another process.
    pub(super) fn are_nodes_there(&self) -> bool {
        self.met.keys().all(|process| self.view.contains_key(&process.node))
    }

    /// A node tells by itself whose calls it has.
    pub(super) fn told_by(&mut self, now: Instant, node: &str) {
        self.told.retain(|_, at| now < *at + CALLS);
        if self.told.len() < MAX_NODES || self.told.contains_key(node) {
            self.told.insert(node.to_owned(), now);
        }
    }

    /// Whether a node other than `gone` has not said since `since` what it took: it has sent
    /// nothing itself, and no lease of it was seen after those of before `since` had run out.
    pub(super) fn awaits(&self, gone: &str, since: Instant) -> bool {
        let has_told = |node: &str| {
            let of_node =
                |(member, seen): &(Member, Instant)| member.node == node && *seen >= since + LEASE;
            self.told.get(node).is_some_and(|at| *at >= since) || self.met.values().any(of_node)
        };
        self.met().any(|other| other.node != gone && !has_told(&other.node))
    }

    /// The name of the node there.
    pub(super) fn node_at(&self, at: SocketAddr) -> Option<&str> {
        self.met().find(|member| member.advertise == at).map(|member| member.node.as_str())
    }

    /// The node whose lease says that it took what this process had.
    pub(super) fn taker(&self, process: &Process) -> Option<&str> {
        let taker = self.view.values().find(|member| member.taken.contains(process))?;
        Some(&taker.node)
    }

    /// The nodes that may have the call whose tag or branch this is.
    pub(super) fn bearers(&self, text: &str) -> &[SocketAddr] {
        let mark = text.rfind(MARK).and_then(|at| text.get(at..));
        mark.and_then(|mark| self.marks.get(mark)).map_or(&[], Vec::as_slice)
    }

    /// Calls of a user there, where it has more than one.
    pub(super) fn calls(&self, user: &str) -> usize {
        let told = (!self.busy.is_empty()).then(|| self.busy.get(&short(Some(user)))).flatten();
        told.copied().unwrap_or(0) as usize
    }

    /// Processes that are gone since last asked, and when they were seen to renew last.
    pub(super) fn take_gone(&mut self) -> Vec<(Member, Instant)> {
        std::mem::take(&mut self.gone)
    }

    /// A process is gone that had no lease of its own any more.
    pub(super) fn lost(&mut self, member: Member, seen: Instant) {
        self.gone.push((member, seen));
    }

    /// Reads all leases but that of `own`. `sure`: it is known that nobody took what this node had.
    pub(super) fn look(
        &mut self,
        (now, own, sure, lapsed): (Instant, &str, bool, bool),
        leases: &[(String, String)],
        keys: &ClusterKeys,
        events: &mut Vec<LeaseEvent>,
    ) {
        let view = self.read_all(own, leases, keys, events);
        self.tell(now, lapsed, &view, events);
        for (node, member) in &self.view {
            let now_there = view.get(node);
            if now_there.is_none_or(|m| m.epoch != member.epoch) {
                let seen = self.seen.get(node).copied().unwrap_or(now);
                self.gone.push((member.clone(), seen));
            }
        }
        self.seen.retain(|node, _| view.contains_key(node));
        for (node, member) in &view {
            if self.view.get(node).is_none_or(|m| (m.epoch, m.beat) != (member.epoch, member.beat))
            {
                self.seen.insert(node.clone(), now);
            }
        }
        self.view = view;
        self.meet(now, sure);
        self.note_what_they_tell();
    }

    /// Says who came and who went. Where all leases ran out because the store was away (`lapsed`),
    /// the others have a moment to renew theirs before they are said to be gone.
    fn tell(
        &mut self,
        now: Instant,
        lapsed: bool,
        view: &BTreeMap<String, Member>,
        events: &mut Vec<LeaseEvent>,
    ) {
        if lapsed {
            self.doubted.values_mut().for_each(|since| *since = now);
        }
        for node in view.keys().filter(|node| !self.view.contains_key(*node)) {
            if self.doubted.remove(node).is_none() {
                events.push(LeaseEvent::NodeUp { node: node.clone() });
            }
        }
        for node in self.view.keys().filter(|node| !view.contains_key(*node)) {
            if lapsed {
                self.doubted.insert(node.clone(), now);
            } else {
                events.push(LeaseEvent::NodeDown { node: node.clone() });
            }
        }
        self.doubted.retain(|node, since| {
            let lasts = now < *since + SETTLED;
            if !lasts {
                events.push(LeaseEvent::NodeDown { node: node.clone() });
            }
            lasts
        });
    }

    fn read_all(
        &mut self,
        own: &str,
        leases: &[(String, String)],
        keys: &ClusterKeys,
        events: &mut Vec<LeaseEvent>,
    ) -> BTreeMap<String, Member> {
        let mut view = BTreeMap::new();
        for (node, value) in leases.iter().take(MAX_NODES).filter(|(node, _)| node != own) {
            match read(keys, node, value) {
                Ok(member) => {
                    self.unread.remove(node);
                    view.insert(node.clone(), member);
                }
                // A newer version's is left to those who know it.
                Err(LeaseFault::Newer) => {}
                Err(LeaseFault::OtherKey) => {
                    if self.unread.len() < MAX_UNREAD && self.unread.insert(node.clone()) {
                        events.push(LeaseEvent::OtherKey { node: node.clone() });
                    }
                }
            }
        }
        view
    }

    fn meet(&mut self, now: Instant, sure: bool) {
        let view = &self.view;
        if sure {
            let followed = |of: &Process| view.get(&of.node).is_some_and(|m| m.epoch != of.epoch);
            self.met.retain(|process, (_, seen)| now < *seen + CALLS && !followed(process));
        }
        for member in view.values() {
            let process = member.process();
            if self.met.len() < 2 * MAX_NODES || self.met.contains_key(&process) {
                self.met.insert(process, (member.clone(), now));
            }
        }
    }

    fn note_what_they_tell(&mut self) {
        self.marks.clear();
        for member in self.view.values() {
            let of_others = member.taken.iter().map(|taken| &taken.node);
            for node in std::iter::once(&member.node).chain(of_others) {
                let bearers = self.marks.entry(mark_of(node)).or_default();
                if !bearers.contains(&member.advertise) {
                    bearers.push(member.advertise);
                }
            }
        }
        self.busy.clear();
        for (user, calls) in self.view.values().flat_map(|m| m.busy.iter().take(MAX_BUSY)) {
            *self.busy.entry(*user).or_default() += calls;
        }
    }
}
