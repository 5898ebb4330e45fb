//! Several gateways as one: who the other nodes are, and which users are at them.
//!
//! Each node has a lease in a store and owns what it writes there; what it knows itself it never
//! asks for. Nothing waits for the store: commands go out, answers come in or never do, and a node
//! that cannot reach it serves its own users as before.
//! Not here: the store's protocol, and the connections between nodes.

mod clock;
mod closings;
mod deferred_calls;
mod inquiry;
pub(crate) mod keys;
pub mod lease;
mod lease_watch;
pub(crate) mod location;
pub mod member;
pub(crate) mod other_nodes;
mod ownership;
pub(crate) mod shared_limits;
mod standing;
pub mod store;
mod stored_calls;
pub mod succession;
pub(crate) mod token;
pub(crate) mod work;
mod write_window;

use crate::config::ClusterSettings;
use crate::registrar::{Registrar, Way};
use deferred_calls::LeftNodes;
use keys::ClusterKeys;
use lease::{Census, Lease, LeaseEvent};
use location::Location;
use member::Member;
use ownership::Ownership;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Claim, FoundPointers, Keeping, Process, ShareWish, StoreAnswer, StoreCommand};
use stored_calls::{KnownValue, StoredCalls};
use succession::{
    LostNodes, PeerProbe, ProbeAnswer, SuccessionWork, Surroundings, TOOK, name_of_taken,
};
use token::{EdgeToken, TemporaryGruu};
use work::{AnswerWork, ClusterWork, Moment};
use write_window::WriteRefusals;

/// How long a call waits for the store to say where a user is.
pub(crate) const LOCATE: Duration = Duration::from_millis(50);

/// This node's part of a cluster.
pub struct Cluster {
    keys: ClusterKeys,
    lease: Lease,
    location: Location,
    kept: StoredCalls,
    succession: LostNodes,
    refusals: WriteRefusals,
    /// When this process began.
    began: Instant,
    /// Nodes that are gone, whose calls are left to those who can read them.
    left: LeftNodes,
    ownership: Ownership,
    next: u64,
    mark: String,
    /// Grows whenever the store may have lost what it was told.
    store_state: u64,
}

impl Cluster {
    /// A node that joins now; `epoch` tells it from an earlier process of the same name.
    pub(crate) fn new(now: Instant, settings: &ClusterSettings, epoch: u64) -> Cluster {
        Cluster {
            keys: ClusterKeys::new(settings.key.reveal()),
            lease: Lease::new(now, settings, epoch),
            location: Location::default(),
            kept: StoredCalls::default(),
            succession: LostNodes::new(now),
            refusals: WriteRefusals::default(),
            began: now,
            left: LeftNodes::default(),
            ownership: Ownership::new(now),
            next: 0,
            mark: member::mark_of(&settings.node),
            store_state: 0,
        }
    }

    /// Says in which form this node keeps calls, and which it reads.
    pub(crate) fn say_forms(&mut self, form: u16, reads: &[u16]) {
        self.lease.say_forms(form, reads);
    }

    /// Where the other nodes reach this one.
    pub(crate) fn advertise(&self) -> SocketAddr {
        self.lease.advertise()
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        self.lease.node()
    }

    /// What this node's tags and branches end with, so that others know whose they are.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// This process, as what it claims is marked.
    pub fn mark_of_process(&self) -> String {
        self.process().mark()
    }

    /// The other nodes that may have the call whose tag or branch this is: the node that made it,
    /// if it lives, and those that took calls of it over.
    pub(crate) fn bearers(&self, text: &str) -> &[SocketAddr] {
        self.lease.others().bearers(text)
    }

    /// Whether a node is gone and nobody has gone on with its calls yet, as far as is known.
    pub(crate) fn has_lost(&self, now: Instant) -> bool {
        !self.left.is_empty() || self.succession.has_lost(now)
    }

    /// Whether a tag may be of a call of a lost node that nobody has gone on with yet.
    pub(crate) fn may_be_of_lost(&self, now: Instant, tag: &str) -> bool {
        self.has_lost(now) && member::is_marked(tag) && !tag.ends_with(&self.mark)
    }

    /// The store's clock, milliseconds since 1970, as one node may compare it with what another
    /// says; 0 if it was never heard of.
    pub(crate) fn store_millis(&self, now: Instant) -> u64 {
        self.lease.store_millis(now).map_or(0, |(earliest, latest)| earliest.midpoint(latest))
    }

    /// The process of the node at this address; 0 if it is not there.
    pub(crate) fn epoch_at(&self, at: SocketAddr) -> u64 {
        self.lease.others().iter().find(|m| m.advertise == at).map_or(0, |m| m.epoch)
    }

    /// The other nodes that may have a call of the process at `owner`: that node, if it lives,
    /// which goes on with what was not taken, and those that took its calls over.
    pub(crate) fn owners(&self, owner: Option<SocketAddr>, epoch: u64) -> Vec<SocketAddr> {
        let took = |m: &Member| m.taken.iter().any(|process| process.epoch == epoch);
        let may = |m: &&Member| Some(m.advertise) == owner || took(m);
        let mut all: Vec<SocketAddr> =
            self.lease.others().iter().filter(may).map(|m| m.advertise).collect();
        // One whose lease is not seen may live all the same.
        if all.is_empty() && owner != Some(self.advertise()) {
            all.extend(owner);
        }
        all
    }

    /// Whether this node took the calls of a process over.
    pub(crate) fn took(&self, epoch: u64) -> bool {
        self.succession.taken().iter().any(|process| process.epoch == epoch)
    }

    /// The bindings of `user` have changed.
    pub(crate) fn touch(&mut self, user: &str) {
        self.location.touch(user);
    }

    /// Whether the lease is renewed in a turn at `now`.
    pub(crate) fn renews(&self, now: Instant) -> bool {
        self.lease.renews(now)
    }

    /// Does what is due. `has`: whether an address is this machine's.
    pub(crate) fn turn(
        &mut self,
        at: Moment,
        census: impl FnOnce() -> Census,
        registrar: &Registrar,
        has: &dyn Fn(IpAddr) -> bool,
    ) -> ClusterWork {
        let mut work = ClusterWork::default();
        let former = self.ownership.closed();
        self.lease.say_taken(self.succession.taken(), former);
        self.lease.turn(at, &mut self.next, &self.keys, census, &mut work);
        self.location.expire(at.now);
        self.kept.expire(at.now);
        if !self.is_unsure(at.now) {
            self.kept.sure();
        }
        if self.lease.take_resync() {
            self.store_state += 1;
            self.location.write_all_again();
            self.kept.write_all_again();
            self.succession.store_changed(at.now);
        }
        if self.lease.hears_store(at.now) {
            let commands = &mut work.commands;
            self.ownership.ask_store(at.now, &self.lease, &mut self.next, commands);
        }
        if self.lease.may_write(at.now) {
            let (lease, keys) = (&self.lease, &self.keys);
            let value = |user: &str| {
                let bindings = registrar.bindings(at.now, user);
                location::record(lease, keys, at, user, &bindings)
            };
            let commands = &mut work.commands;
            self.location.write(at.now, &mut self.next, lease.node(), registrar, value, commands);
            self.write_calls(at.now, commands);
            self.succeed(at.now, has, &mut work);
        } else {
            self.succession.postpone(at.now);
        }
        work.probes.extend(self.ownership.ask_others(at.now, &self.lease, &mut self.next));
        work
    }

    fn succeed(&mut self, now: Instant, has: &dyn Fn(IpAddr) -> bool, work: &mut ClusterWork) {
        for (member, seen) in self.lease.take_gone() {
            if !self.is_former(&member.process()) {
                self.left.add(member, seen);
            }
        }
        let may = |member: &Member, seen| self.lease.may_go_on_with(now, member, seen);
        for (member, seen) in self.left.due(now, may) {
            self.succession.lost(now, member, seen);
        }
        for member in self.lease.others().iter() {
            let own = [member.process()];
            for process in member.taken.iter().chain(&member.former).chain(&own) {
                self.succession.settled(process);
                self.left.settled(process);
            }
        }
        let others = || self.lease.others().iter();
        self.left.tell_who_is_back(others, &mut self.next, &mut work.probes);
        let Some(connection) = self.lease.connection() else { return };
        let own = self.lease.process();
        let lease = &self.lease;
        let awaits = |gone: &Member, seen| lease.awaits_others(gone, seen);
        let (at, before) = (lease.advertise(), lease.before());
        let around = Surroundings { own, at, connection, before, has, awaits: &awaits };
        let mut due = SuccessionWork::default();
        self.succession.turn(now, &around, &mut self.next, &mut due);
        work.commands.extend(due.commands);
        work.probes.extend(due.probes);
    }

    /// Takes an answer of the store; one that comes late or twice is none.
    pub(crate) fn answered(&mut self, at: Moment, answer: StoreAnswer) -> AnswerWork {
        let mut work = AnswerWork::default();
        match answer {
            StoreAnswer::Beat { id, answer } => {
                work.events = self.lease.answered(at, &self.keys, id, answer);
            }
            StoreAnswer::Written { id, answer } => {
                work.events.extend(self.refused(at.now, answer.as_ref().err()));
                self.location.written(at.now, id, answer.is_ok());
            }
            StoreAnswer::Kept { id, answer } => {
                work.events.extend(self.refused(at.now, answer.as_ref().err()));
                self.kept.written(at.now, id, answer == Ok(Keeping::Kept));
            }
            StoreAnswer::Claimed { id, answer } => {
                if self.ownership.asked(id) {
                    self.owner_said(at.now, answer, &mut work);
                } else if self.ownership.told(id) {
                    let has = (&self.lease, &mut self.kept);
                    let parted = self.ownership.told_again(at.now, has, id, answer);
                    work.part(parted);
                } else {
                    let lost = self.succession.claimed(at.now, self.lease.node(), id, answer);
                    // By the upgrade of a node that was cut off its next process got them as well.
                    work.deposed = lost;
                    self.keep_taken(at.now);
                }
            }
            StoreAnswer::Taken { id, answer } => {
                let store = self.lease.oldest_millis(at.now);
                work.taken = self.succession.read(at.now, store, id, answer);
            }
            StoreAnswer::Spent { id, answer } => work.spent = Some((id, answer.ok())),
        }
        work
    }

    fn refused(&mut self, now: Instant, why: Option<&String>) -> Option<LeaseEvent> {
        if !self.lease.may_write(now) {
            self.refusals.forget();
            return None;
        }
        self.refusals.heard(now, why.map(String::as_str))
    }

    /// Who has our calls: this node goes on with those that it did not take.
    fn owner_said(&mut self, now: Instant, answer: Result<Claim, String>, work: &mut AnswerWork) {
        if let Ok(Claim::Taken { by, .. }) = &answer {
            self.look_for(now, Process::of_mark(by));
        }
        let has = (&mut self.lease, &mut self.kept);
        work.part(self.ownership.answered(now, has, answer, self.next));
    }

    /// Of a taker that has no lease this process may be the only one that knows: what it took, and
    /// what it had taken, is not lost with it.
    fn look_for(&mut self, now: Instant, taker: Option<Process>) {
        let Some(taker) = taker.filter(|taker| taker.node != self.lease.node()) else { return };
        let others = self.lease.others();
        let lives = others.get(&taker.node).is_some_and(|member| member.epoch == taker.epoch);
        let known = others.met().find(|member| member.node == taker.node);
        if let Some(known) = known.filter(|_| !lives) {
            let taken = vec![self.lease.process()];
            let member = Member { epoch: taker.epoch, taken, former: Vec::new(), ..known.clone() };
            self.succession.lost(now, member, now);
        }
    }

    /// The store is to say whose calls this process took, beside these calls.
    fn keep_taken(&mut self, now: Instant) {
        let names: Vec<String> = self.succession.taken().iter().map(name_of_taken).collect();
        self.kept.put_only(TOOK, &names, now);
    }

    /// A value of a call is to be told to the store, as it was `age` ago; nothing: it is of no use
    /// any more. Returns its number.
    pub(crate) fn keep(
        &mut self,
        now: Instant,
        name: &str,
        value: Option<Arc<[u8]>>,
        age: Duration,
    ) -> u64 {
        let at = now.checked_sub(age).unwrap_or(now);
        self.kept.put(name, value.map(|bytes| KnownValue { bytes, at }))
    }

    /// Writes what is due of calls, if the store takes it from this process.
    fn write_calls(&mut self, now: Instant, commands: &mut Vec<StoreCommand>) {
        let clock = self.lease.store_millis(now).filter(|_| self.ownership.may_write(&self.lease));
        if let Some((writer, (earliest, _))) = self.lease.writer().zip(clock) {
            self.kept.write((now, earliest), &mut self.next, &writer, commands);
        }
    }

    /// A call is over: the store is to forget it, at once.
    pub(crate) fn forget_call(&mut self, now: Instant, call: u64) -> Vec<StoreCommand> {
        let mut commands = Vec::new();
        self.kept.end(&call_name(call));
        if self.lease.may_write(now) {
            self.write_calls(now, &mut commands);
        }
        commands
    }

    /// Whether another node could find a call in the store: this one could not tell it that the
    /// call is over, and what it wrote there has not expired yet.
    pub(crate) fn stores(&self, now: Instant, call: u64) -> bool {
        let lasts = |age| age < store::CALLS + store::LEASE;
        self.lease.view_age(now).is_some_and(lasts) && self.kept.has(&call_name(call))
    }

    /// Which values the store has confirmed since last asked, by name and number, and will not lose
    /// any more. It is not asked while another may have gone on from an earlier one that the store
    /// has lost.
    pub(crate) fn take_confirmed(&mut self, now: Instant) -> Vec<(String, u64)> {
        if self.ownership.may_be_taken(now, &self.lease) {
            return Vec::new();
        }
        self.lease.renewed().into_iter().for_each(|sent| self.kept.settle(now, sent));
        self.kept.take_confirmed()
    }

    /// Whether another node may have taken this one's calls, as far as is known.
    pub(crate) fn is_unsure(&self, now: Instant) -> bool {
        self.ownership.is_unsure(now, &self.lease)
    }

    /// Whether the store was reached once, and is not now.
    pub(crate) fn misses_store(&self, now: Instant) -> bool {
        self.view_age(now).is_some() && !self.lease.hears_store(now)
    }

    /// By when it is known that nobody had taken this node's calls; `None`: it would be known now.
    pub(crate) fn vouched(&mut self, now: Instant) -> Option<Instant> {
        self.ownership.vouched(now, &self.lease)
    }

    /// Another node asks something.
    pub(crate) fn probed_by(&mut self, now: Instant, ask: &PeerProbe) -> Option<ProbeAnswer> {
        let own = self.lease.process();
        let PeerProbe { of, by, took, from } = ask;
        self.lease.told_by(now, &by.node);
        self.told_taken(now, took, *from);
        if self.succession.taken().contains(by) {
            return Some(ProbeAnswer::Deposed);
        }
        let was = of.node == own.node && self.ownership.was(of.epoch) || self.is_former(of);
        if *of == own || was {
            return Some(ProbeAnswer::Lives);
        }
        if of.node != own.node {
            return None;
        }
        // The asker leaves its calls to this process, which may never have seen its lease.
        let is_taken = self.lease.others().iter().any(|member| member.taken.contains(of));
        if !is_taken {
            self.succession.lost(now, self.lease.as_process(of), self.began);
        }
        let learns = self.succession.learns_of(now, of);
        Some(if learns { ProbeAnswer::Learns } else { ProbeAnswer::Succeeded })
    }

    /// A node tells whose calls it has, though the store may have lost that it took them.
    fn told_taken(&mut self, now: Instant, took: &[Process], from: SocketAddr) {
        self.succession.told_taken(now, took);
        took.iter().for_each(|process| self.left.settled(process));
        if took.contains(&self.lease.process()) {
            self.ownership.denied_by(from, &mut self.lease);
        }
    }

    /// Whose calls this process took, as it tells whom it asks.
    pub(crate) fn taken(&self) -> &[Process] {
        self.succession.taken()
    }

    /// What this process was, and is, the latter last: the next one of its node, which gets its
    /// calls, has the store close what it has of them by these names.
    pub(crate) fn former(&self) -> Vec<Process> {
        self.ownership.former_processes().cloned().chain([self.process()]).collect()
    }

    /// Whether this process was that one, and has its calls.
    fn is_former(&self, process: &Process) -> bool {
        self.ownership.former_processes().any(|former| former == process)
    }

    /// This process has these calls of the one before it, which was `former`, the last of these at
    /// last.
    pub(crate) fn follow(&mut self, now: Instant, former: Vec<Process>, calls: &[u64]) {
        let Some(last) = former.last() else { return };
        self.lease.follow(last);
        let names: Vec<String> = calls.iter().map(|call| call_name(*call)).collect();
        self.ownership.follow(now, former, &names);
    }

    /// The process whose place this one takes had these, whatever the store knows of it.
    pub(crate) fn knows_taken(&mut self, taken: Vec<Process>) {
        self.succession.take(taken);
    }

    /// A node has answered a probe.
    pub(crate) fn probe_answered(
        &mut self,
        now: Instant,
        from: SocketAddr,
        number: u64,
        answer: ProbeAnswer,
    ) {
        self.ownership.probed(from, number, answer, &mut self.lease);
        self.succession.probed(now, number, answer);
    }

    /// Nobody answers at a node's address.
    pub(crate) fn node_unreachable(&mut self, now: Instant, at: SocketAddr) {
        self.ownership.unreachable(at);
        self.succession.unreachable(now, at);
    }

    /// This process.
    pub(crate) fn process(&self) -> Process {
        self.lease.process()
    }

    /// When [`turn`](Self::turn) is to be called next.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let all = [
            self.lease.next_timeout(),
            self.location.next_timeout(),
            self.kept.next_timeout(),
            self.succession.next_timeout(),
            self.ownership.next_timeout(),
        ];
        all.into_iter().flatten().min()
    }

    /// Why nobody can be asked for users of other nodes now; `None` if somebody can.
    pub(crate) fn cannot_ask(&self, now: Instant) -> Option<String> {
        self.lease.cannot_ask(now)
    }

    /// Returns a number that changes whenever the store may have lost what it was told.
    pub(crate) fn store_state(&self) -> u64 {
        self.store_state
    }

    /// Ways to the phones of `user` at other nodes that live.
    pub(crate) fn ways(&self, at: Moment, user: &str, found: &FoundPointers) -> Vec<Way> {
        location::ways(&self.lease, &self.keys, at, user, found)
    }

    /// Seals what names `user`'s flow, for requests that come by way of `peer`.
    pub(crate) fn edge_token(&self, binding: &EdgeToken) -> String {
        token::seal(&self.keys, binding)
    }

    /// What a token of this node names.
    pub(crate) fn open_edge_token(&self, text: &str) -> Option<EdgeToken> {
        token::open(&self.keys, text).filter(|t: &EdgeToken| t.node == self.lease.node())
    }

    /// Signs what a response must bring back.
    pub(crate) fn sign(&self, text: &str) -> String {
        self.keys.mac("via", text.as_bytes())
    }

    /// Whether the epoch is this process's: its flows are still what they were.
    pub(crate) fn is_own_epoch(&self, epoch: u64) -> bool {
        self.lease.epoch() == epoch || self.ownership.was(epoch)
    }

    /// This process's epoch.
    pub(crate) fn epoch(&self) -> u64 {
        self.lease.epoch()
    }

    /// Whether one more call may begin by a trunk that has `used` here and may have `limit` at all
    /// nodes together.
    pub(crate) fn has_room(&self, now: Instant, trunk: &str, limit: usize, used: usize) -> bool {
        self.lease.has_room(now, &shared_limits::calls_of(trunk), limit as u64, used as u64)
    }

    /// How many calls of a trunk may begin here in a second, of `limit` at all nodes together.
    pub(crate) fn pace(&self, now: Instant, trunk: &str, limit: u32) -> u32 {
        self.lease.pace(now, trunk, u64::from(limit)).min(u64::from(limit)) as u32
    }

    /// What the next renewal says of it, where so many `wanted` to begin in the last second.
    pub(crate) fn pace_wish(
        &self,
        now: Instant,
        trunk: &str,
        limit: u32,
        wanted: u32,
    ) -> ShareWish {
        self.lease.pace_wish(now, trunk, u64::from(limit), u64::from(wanted))
    }

    /// Whether this node is the one that registers with `trunk`.
    pub(crate) fn registers(&self, trunk: &str) -> bool {
        self.lease.holds(&shared_limits::registration_of(trunk))
    }

    /// The other node that registers with `trunk`.
    pub(crate) fn registers_instead(&self, trunk: &str) -> Option<&str> {
        let does = |m: &&Member| m.registers.iter().any(|name| name == trunk);
        self.lease.members().skip(1).find(does).map(|m| m.node.as_str())
    }

    /// Calls of a user at the other nodes, where it has more than one.
    pub(crate) fn calls_elsewhere(&self, now: Instant, user: &str) -> usize {
        if self.cannot_ask(now).is_some() { 0 } else { self.lease.others().calls(user) }
    }

    /// Where the other nodes are that live.
    pub(crate) fn others(&self) -> impl Iterator<Item = SocketAddr> {
        let own = self.lease.advertise();
        self.lease.members().map(|member| member.advertise).filter(move |at| *at != own)
    }

    /// The user part of a temporary GRUU that every node can read, and nobody else.
    pub(crate) fn temporary_gruu(&self, names: &TemporaryGruu, chance: [u8; 12]) -> Option<String> {
        self.keys.conceal(&postcard::to_allocvec(names).ok()?, chance)
    }

    /// Returns what the user part of a temporary GRUU names, or `None` if another cluster made it.
    pub(crate) fn open_temporary_gruu(&self, text: &str) -> Option<TemporaryGruu> {
        postcard::from_bytes(&self.keys.reveal(text)?).ok()
    }

    /// The nodes as they were last seen, this one included.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.lease.members()
    }

    /// How old that view is; `None` if there never was one.
    pub fn view_age(&self, now: Instant) -> Option<Duration> {
        self.lease.view_age(now)
    }

    /// What is left of the leases as this node knows them; `None` before it has seen any.
    pub(crate) fn lease_left(&self, now: Instant) -> Option<Duration> {
        self.view_age(now).map(|age| store::LEASE.saturating_sub(age))
    }

    /// Where this node stands, in a word.
    pub(crate) fn standing(&self, now: Instant) -> &'static str {
        self.lease.standing(now)
    }

    /// Users whose pointers wait to be written.
    pub fn waiting(&self) -> usize {
        self.location.waiting() + self.kept.waiting()
    }
}

/// What a call is called in the store; its media, with something after it.
fn call_name(call: u64) -> String {
    format!("{call:016x}")
}

/// What the fuzzer has of the store: nothing that is not signed is believed, and nothing that is
/// signed does harm, whichever version wrote it.
#[cfg(any(fuzzing, test))]
pub(crate) fn read_foreign(text: &str) {
    let keys = ClusterKeys::new("the key of a cluster, for fuzzing only");
    assert!(member::read(&keys, "b", text).is_err() && token::open(&keys, text).is_none());
    assert!(keys.reveal(text).is_none());
    let _ = member::read_signed(&keys, text);
    location::read_signed(&keys, text);
}

#[cfg(test)]
mod tests;
