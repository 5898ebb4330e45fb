//! Several gateways as one: who the other nodes are, and which users are at them.
//!
//! Each node has a lease in a store and owns what it writes there; what it knows itself it never
//! asks for. Nothing waits for the store: commands go out, answers come in or never do, and a node
//! that cannot reach it serves its own users as before.
//! Not here: the store's protocol, and the connections between nodes.

mod keeping;
pub(crate) mod keys;
pub mod lease;
pub(crate) mod location;
pub(crate) mod shares;
pub mod store;
pub mod succession;
pub(crate) mod token;

use crate::config::ClusterSettings;
use crate::registrar::{Registrar, Way};
use keeping::StoredCalls;
use keys::ClusterKeys;
use lease::{Census, Lease, LeaseEvent, Member};
use location::Location;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{CallValue, Claim, FoundPointers, Keeping, Process, StoreAnswer, StoreCommand};
use succession::{
    LostNodes, Probe, ProbeAnswer, SuccessionWork, Surroundings, TOOK, TakenCalls, name_of_taken,
};
use token::EdgeToken;

/// How long a call waits for the store to say where a user is.
pub(crate) const LOCATE: Duration = Duration::from_millis(50);

/// How often the others are asked whether they took this node's calls, while the store is away.
const ASK: Duration = Duration::from_secs(1);
/// The number of no claim: the next is sent later.
const NOT_ASKED: u64 = 0;
/// How long their answers count.
const ANSWERED: Duration = Duration::from_millis(2_500);
/// Processes this one was before it was deposed, that are remembered.
const MAX_FORMER: usize = 16;

/// What is asked of the cluster at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The time of this turn.
    pub now: Instant,
    /// The wall clock, seconds since 1970.
    pub unix: u64,
}

/// Calls of a process that is gone, while this node may not continue with them.
struct LeftCalls {
    member: Member,
    /// When its lease was seen last.
    seen: Instant,
    /// Its node is back, and was asked.
    told: bool,
}

/// This node's part of a cluster.
pub struct Cluster {
    keys: ClusterKeys,
    lease: Lease,
    location: Location,
    kept: StoredCalls,
    succession: LostNodes,
    /// When this process began.
    began: Instant,
    /// Nodes that are gone, whose calls are left to those who can read them.
    left: Vec<LeftCalls>,
    /// When each of the others said that it did not take this node's calls, and who was asked what
    /// when.
    cleared: BTreeMap<SocketAddr, Instant>,
    /// Likewise, but only by the process that was asked: what the one before it did, the next process
    /// of a node does not know. Packets are vouched for by these alone.
    vouchers: BTreeMap<SocketAddr, Instant>,
    asked: Option<Instant>,
    /// Who said that it took the calls of the process of this epoch, which is this one or was.
    denied: Option<(u64, SocketAddr)>,
    /// The numbers of the probes that ask so.
    asking: Range<u64>,
    /// By when it is known that nobody had taken this node's calls.
    sure: Instant,
    /// This process was these before another node took their calls.
    former: Vec<u64>,
    /// The claim that asks who has our calls.
    asks_owner: Option<(u64, Instant)>,
    next: u64,
    mark: String,
    /// Grows whenever the store may have lost what it was told.
    store_state: u64,
}

/// What the calls of a trunk are counted by in the store.
pub(crate) fn calls_of(trunk: &str) -> String {
    format!("calls {trunk}")
}

/// What the registration with a trunk is called there.
pub(crate) fn registration_of(trunk: &str) -> String {
    format!("registration {trunk}")
}

/// Whom a temporary GRUU names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct TemporaryGruu {
    /// The user.
    pub user: String,
    /// The phone's `+sip.instance`.
    pub instance: String,
    /// Of the Call-ID the phone registered by: another one ends it (RFC 5627 §5.4).
    pub registered: u64,
}

/// What [`Cluster::turn`] leaves to its user.
#[derive(Debug, Default)]
pub(crate) struct ClusterWork {
    /// What the store is asked.
    pub commands: Vec<StoreCommand>,
    /// What became of leases.
    pub events: Vec<LeaseEvent>,
    /// Nodes to be asked whether they live.
    pub probes: Vec<Probe>,
}

/// What an answer of the store leaves to its user.
#[derive(Debug, Default)]
pub(crate) struct AnswerWork {
    /// What became of leases.
    pub events: Vec<LeaseEvent>,
    /// Calls of a node that is gone, to be gone on with.
    pub taken: Option<TakenCalls>,
    /// Values of these names are another node's now.
    pub deposed: Option<(String, Vec<String>)>,
    /// A question for a token: its number, and whether the token is ours, if that is known.
    pub spent: Option<(u64, Option<bool>)>,
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
            began: now,
            left: Vec::new(),
            cleared: BTreeMap::new(),
            vouchers: BTreeMap::new(),
            asked: None,
            denied: None,
            asking: 0..0,
            sure: now,
            former: Vec::new(),
            asks_owner: None,
            next: 0,
            mark: lease::mark_of(&settings.node),
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

    /// The other nodes that may have the call whose tag or branch this is: the node that made it, if
    /// it lives, and those that took calls of it over.
    pub(crate) fn bearers(&self, text: &str) -> &[SocketAddr] {
        self.lease.bearers(text)
    }

    /// Whether a node is gone and nobody has gone on with its calls yet, as far as is known.
    pub(crate) fn has_lost(&self, now: Instant) -> bool {
        !self.left.is_empty() || self.succession.has_lost(now)
    }

    /// Whether a tag may be of a call of a lost node that nobody has gone on with yet.
    pub(crate) fn may_be_of_lost(&self, now: Instant, tag: &str) -> bool {
        self.has_lost(now) && lease::is_marked(tag) && !tag.ends_with(&self.mark)
    }

    /// The store's clock, milliseconds since 1970, as one node may compare it with what another
    /// says; 0 if it was never heard of.
    pub(crate) fn store_millis(&self, now: Instant) -> u64 {
        self.lease.store_millis(now).map_or(0, |(earliest, latest)| earliest.midpoint(latest))
    }

    /// The process of the node at this address; 0 if it is not there.
    pub(crate) fn epoch_at(&self, at: SocketAddr) -> u64 {
        self.lease.others().find(|m| m.advertise == at).map_or(0, |m| m.epoch)
    }

    /// The other nodes that may have a call of the process at `owner`: that node, if it lives, which
    /// goes on with what was not taken, and those that took its calls over.
    pub(crate) fn owners(&self, owner: Option<SocketAddr>, epoch: u64) -> Vec<SocketAddr> {
        let took = |m: &Member| m.taken.iter().any(|process| process.epoch == epoch);
        let may = |m: &&Member| Some(m.advertise) == owner || took(m);
        let mut all: Vec<SocketAddr> =
            self.lease.others().filter(may).map(|m| m.advertise).collect();
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
        self.lease.say_taken(self.succession.taken());
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
        if self.lease.may_write(at.now) {
            let (lease, keys) = (&self.lease, &self.keys);
            let value = |user: &str| {
                let bindings = registrar.bindings(at.now, user);
                location::record(lease, keys, at, user, &bindings)
            };
            let commands = &mut work.commands;
            self.location.write(at.now, &mut self.next, lease.node(), registrar, value, commands);
            if !self.lease.is_deposed() {
                self.kept.write(at.now, &mut self.next, &self.lease.process(), commands);
            }
            self.succeed(at.now, has, &mut work);
        } else {
            self.succession.postpone(at.now);
        }
        self.ask_others(at.now, &mut work);
        work
    }

    fn succeed(&mut self, now: Instant, has: &dyn Fn(IpAddr) -> bool, work: &mut ClusterWork) {
        let mut gone = std::mem::take(&mut self.left);
        let fresh = self.lease.take_gone().into_iter();
        gone.extend(fresh.map(|(member, seen)| LeftCalls { member, seen, told: false }));
        for left in gone {
            if self.lease.may_go_on_with(now, &left.member, left.seen) {
                self.succession.lost(now, left.member, left.seen);
            } else if self.left.len() < store::MAX_NODES && now < left.seen + store::CALLS {
                self.left.push(left);
            }
        }
        for member in self.lease.others() {
            for process in member.taken.iter().chain([&member.process()]) {
                self.succession.settled(process);
                self.left.retain(|left| left.member.process() != *process);
            }
        }
        self.tell_who_is_back(work);
        let Some(connection) = self.lease.connection() else { return };
        let own = self.lease.process();
        if self.lease.is_deposed() && self.asks_owner.is_none_or(|(_, until)| until <= now) {
            self.next += 1;
            self.asks_owner = Some((self.next, now + ASK));
            let (id, of, by) = (self.next, own.clone(), own.clone());
            work.commands.push(StoreCommand::Claim { id, of, by, connection });
        }
        let around = Surroundings { own, connection, before: self.lease.before(), has };
        let mut due = SuccessionWork::default();
        self.succession.turn(now, &around, &mut self.next, &mut due);
        work.commands.extend(due.commands);
        work.probes.extend(due.probes);
    }

    /// A node that is back never saw the lease of the process before, whose calls are left to it:
    /// the question tells it of them, while they are not too old to continue with.
    fn tell_who_is_back(&mut self, work: &mut ClusterWork) {
        for left in self.left.iter_mut().filter(|left| !left.told) {
            let is_later = |m: &&Member| m.node == left.member.node && m.epoch > left.member.epoch;
            let Some(back) = self.lease.others().find(is_later) else { continue };
            left.told = true;
            self.next += 1;
            let (number, of) = (self.next, left.member.process());
            work.probes.push(Probe { number, to: back.advertise, of });
        }
    }

    /// While the store is away, the others know whether they took this node's calls.
    fn ask_others(&mut self, now: Instant, work: &mut ClusterWork) {
        if !self.lease.is_unsure(now) {
            self.asked = None;
            return;
        }
        if self.asked.is_some_and(|at| now < at + ASK) {
            return;
        }
        self.asked = Some(now);
        self.asking.start = self.next + 1;
        for other in self.lease.met() {
            self.next += 1;
            let probe = Probe { number: self.next, to: other.advertise, of: other.process() };
            work.probes.push(probe);
        }
        self.asking.end = self.next + 1;
    }

    /// Takes an answer of the store; one that comes late or twice is none.
    pub(crate) fn answered(&mut self, at: Moment, answer: StoreAnswer) -> AnswerWork {
        let mut work = AnswerWork::default();
        match answer {
            StoreAnswer::Beat { id, answer } => {
                work.events = self.lease.answered(at, &self.keys, id, answer);
            }
            StoreAnswer::Written { id, answer } => self.location.written(id, answer.is_ok()),
            StoreAnswer::Kept { id, answer } => {
                self.kept.written(id, answer == Ok(Keeping::Kept));
            }
            StoreAnswer::Claimed { id, answer } => {
                if self.asks_owner.is_some_and(|(asked, _)| asked == id) {
                    self.owner_said(at.now, answer, &mut work);
                } else {
                    self.succession.claimed(at.now, id, answer);
                    self.keep_taken(at.now);
                }
            }
            StoreAnswer::Taken { id, answer } => {
                let store = self.lease.store_millis(at.now).map_or(0, |(_, latest)| latest);
                work.taken = self.succession.read(at.now, store, id, answer);
            }
            StoreAnswer::Spent { id, answer } => work.spent = Some((id, answer.ok())),
        }
        work
    }

    /// Who has our calls: this node goes on with those that it did not take.
    fn owner_said(&mut self, now: Instant, answer: Result<Claim, String>, work: &mut AnswerWork) {
        self.asks_owner = None;
        // Who claims them once the store has lost that they were taken finds nothing: who has them says
        // so by its lease, or when it is asked.
        let found_none = |names: &Option<Vec<String>>| names.as_ref().is_some_and(Vec::is_empty);
        let (by, names) = match (answer, self.taker()) {
            (Ok(Claim::Taken { names, .. }), Some(taker)) if found_none(&names) => (taker, None),
            (Ok(Claim::Taken { names, .. }), None)
                if found_none(&names) && self.lease.settles(now) && !self.is_cleared(now) =>
            {
                self.asks_owner = Some((NOT_ASKED, now + ASK / 4));
                return;
            }
            (Ok(Claim::Taken { by, names }), _) => {
                (by.get(16..).unwrap_or_default().to_owned(), names)
            }
            // The store has lost who took them, or it is too long ago.
            (Ok(Claim::Granted { .. }), taker) => {
                (taker.unwrap_or_else(|| self.lease.node().to_owned()), None)
            }
            (Ok(Claim::Lives) | Err(_), _) => return,
        };
        // What it knows no more: whoever took them found what it had been told by then.
        let back = self.lease.back().unwrap_or(now);
        let names = names.unwrap_or_else(|| self.kept.told_before(back));
        self.kept.forget(&names);
        if self.former.len() == MAX_FORMER {
            self.former.remove(0);
        }
        self.former.push(self.lease.epoch());
        self.lease.begin_anew(now);
        work.events.push(LeaseEvent::Deposed { by: by.clone() });
        work.deposed = Some((by, names));
    }

    /// The node that says that it took this process's calls.
    fn taker(&self) -> Option<String> {
        let denied = self.denied.filter(|(epoch, _)| *epoch == self.lease.epoch());
        let denier = |at| self.lease.met().find(|m| m.advertise == at).map(|m| m.node.clone());
        let told = self.lease.taker().map(str::to_owned);
        told.or_else(|| denied.and_then(|(_, at)| denier(at)))
    }

    /// Whether all others have said lately that they did not take this node's calls.
    fn is_cleared(&self, now: Instant) -> bool {
        let cleared = |at: &SocketAddr| self.cleared.get(at).is_some_and(|at| now < *at + ANSWERED);
        self.lease.met().all(|other| cleared(&other.advertise))
    }

    /// The store is to say whose calls this process took, beside these calls.
    fn keep_taken(&mut self, now: Instant) {
        let Some((earliest, _)) = self.lease.store_millis(now) else { return };
        let names: Vec<String> = self.succession.taken().iter().map(name_of_taken).collect();
        self.kept.put_only(TOOK, &names, earliest);
    }

    /// A value of a call is to be told to the store, as it was `age` ago; nothing: it is of no use
    /// any more. Returns its number; `None` if it cannot be told.
    pub(crate) fn keep(
        &mut self,
        now: Instant,
        name: &str,
        value: Option<Arc<[u8]>>,
        age: Duration,
    ) -> Option<u64> {
        let (earliest, _) = self.lease.store_millis(now)?;
        let taken = earliest.saturating_sub(age.as_millis() as u64);
        Some(self.kept.put(name, value.map(|bytes| CallValue { taken, bytes })))
    }

    /// A call is over: the store is to forget it, at once.
    pub(crate) fn forget_call(&mut self, now: Instant, call: u64) -> Vec<StoreCommand> {
        let mut commands = Vec::new();
        self.kept.end(&call_name(call));
        if self.lease.may_write(now) && !self.lease.is_deposed() {
            self.kept.write(now, &mut self.next, &self.lease.process(), &mut commands);
        }
        commands
    }

    /// Whether another node could find a call in the store: this one could not tell it that the call
    /// is over, and what it wrote there has not expired yet.
    pub(crate) fn stores(&self, now: Instant, call: u64) -> bool {
        let lasts = |age| age < store::CALLS + store::LEASE;
        self.lease.view_age(now).is_some_and(lasts) && self.kept.has(&call_name(call))
    }

    /// Which values the store has confirmed since last asked, by name and number. It is not asked
    /// while another may have gone on from an earlier one that the store has lost.
    pub(crate) fn take_confirmed(&mut self, now: Instant) -> Vec<(String, u64)> {
        match self.lease.may_be_taken(now) {
            true => Vec::new(),
            false => self.kept.take_confirmed(),
        }
    }

    /// Whether another node may have taken this one's calls, as far as is known.
    pub(crate) fn is_unsure(&self, now: Instant) -> bool {
        self.lease.is_deposed() || self.lease.is_unsure(now) && !self.is_cleared(now)
    }

    /// By when it is known that nobody had taken this node's calls; `None`: it would be known now.
    pub(crate) fn vouched(&mut self, now: Instant) -> Option<Instant> {
        if !self.lease.may_be_taken(now) {
            self.sure = now;
            return None;
        }
        let cleared = |member: &Member| self.vouchers.get(&member.advertise).copied();
        let all: Option<Vec<Instant>> = self.lease.met().map(cleared).collect();
        let cleared = all.and_then(|all| all.into_iter().min());
        self.sure = self.sure.max(cleared.unwrap_or(self.sure));
        Some(self.sure)
    }

    /// Another node asks whether this is the process `of`, and whether it took what `by` has.
    pub(crate) fn probed_by(
        &mut self,
        now: Instant,
        of: &Process,
        by: &Process,
    ) -> Option<ProbeAnswer> {
        let own = self.lease.process();
        if self.succession.taken().contains(by) {
            return Some(ProbeAnswer::Deposed);
        }
        let same = *of == own || of.node == own.node && self.former.contains(&of.epoch);
        if same {
            return Some(ProbeAnswer::Lives);
        }
        if of.node != own.node {
            return None;
        }
        // The asker leaves its calls to this process, which may never have seen its lease.
        if of.epoch < own.epoch {
            self.succession.lost(now, self.lease.as_process(of), self.began);
        }
        Some(ProbeAnswer::Succeeded)
    }

    /// A node has answered a probe.
    pub(crate) fn probe_answered(
        &mut self,
        now: Instant,
        from: SocketAddr,
        number: u64,
        answer: ProbeAnswer,
    ) {
        match answer {
            // It was so when it was asked, not when this came.
            ProbeAnswer::Lives | ProbeAnswer::Succeeded if self.asking.contains(&number) => {
                let now = self.asked.unwrap_or(now);
                note(&mut self.cleared, from, now);
                if answer == ProbeAnswer::Lives {
                    note(&mut self.vouchers, from, now);
                }
            }
            ProbeAnswer::Lives | ProbeAnswer::Succeeded => {}
            ProbeAnswer::Deposed => {
                self.cleared.remove(&from);
                self.denied = Some((self.lease.epoch(), from));
            }
        }
        self.succession.probed(now, number, answer);
    }

    /// Nobody answers at a node's address.
    pub(crate) fn node_unreachable(&mut self, now: Instant, at: SocketAddr) {
        self.cleared.remove(&at);
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
            self.asked.map(|at| at + ASK),
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
        self.lease.epoch() == epoch || self.former.contains(&epoch)
    }

    /// This process's epoch.
    pub(crate) fn epoch(&self) -> u64 {
        self.lease.epoch()
    }

    /// Whether one more call may begin by a trunk that has `used` here and may have `limit` at all
    /// nodes together.
    pub(crate) fn has_room(&self, now: Instant, trunk: &str, limit: usize, used: usize) -> bool {
        self.lease.has_room(now, &calls_of(trunk), limit as u64, used as u64)
    }

    /// What a node gets of `limit` a second.
    pub(crate) fn part(&self, limit: u32) -> u32 {
        limit.div_ceil(self.lease.members().count().max(1) as u32)
    }

    /// Whether this node is the one that registers with `trunk`.
    pub(crate) fn registers(&self, trunk: &str) -> bool {
        self.lease.holds(&registration_of(trunk))
    }

    /// The other node that registers with `trunk`.
    pub(crate) fn registers_instead(&self, trunk: &str) -> Option<&str> {
        let does = |m: &&Member| m.registers.iter().any(|name| name == trunk);
        self.lease.members().skip(1).find(does).map(|m| m.node.as_str())
    }

    /// Calls of a user at the other nodes, where it has more than one.
    pub(crate) fn calls_elsewhere(&self, now: Instant, user: &str) -> usize {
        if self.cannot_ask(now).is_some() { 0 } else { self.lease.calls_elsewhere(user) }
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

    /// What such a user part names, if it is of this cluster.
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

/// A node answered at that time; so many are known and no more.
fn note(times: &mut BTreeMap<SocketAddr, Instant>, from: SocketAddr, at: Instant) {
    if times.len() < store::MAX_NODES || times.contains_key(&from) {
        times.insert(from, at);
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
    assert!(lease::read(&keys, "b", text).is_err() && token::open(&keys, text).is_none());
    assert!(keys.reveal(text).is_none());
    let _ = lease::read_signed(&keys, text);
    location::read_signed(&keys, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StoreSettings;
    use crate::registrar::RegisterContext;
    use crate::sip::Message;
    use crate::sip::digest::Secret;
    use crate::sip::parse::Framing;
    use crate::sip::transaction::Flow;
    use store::{BeatAnswer, PointerWrite};

    const UNIX: u64 = 1_700_000_000;

    fn settings(node: &str, key: &str) -> ClusterSettings {
        let store = StoreSettings {
            urls: vec!["redis://127.0.0.1".into()],
            sentinel: None,
            username: None,
            password: None,
            ca: None,
        };
        let port = u16::from(node.as_bytes()[0]);
        ClusterSettings {
            node: node.into(),
            store,
            key: Secret::new(key),
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            advertise: SocketAddr::from(([127, 0, 0, 1], port)),
            address: None,
        }
    }

    const KEY: &str = "the key of the cluster, long enough";

    fn register(registrar: &mut Registrar, now: Instant, user: &str, contact: &str) {
        let text = format!(
            "REGISTER sip:x SIP/2.0\r\nTo: <sip:{user}@x>\r\nCall-ID: {user}\r\nCSeq: 1 REGISTER\r\n\
             Contact: <sip:{contact}@a.invalid>;+sip.instance=\"<urn:uuid:{user}>\"\r\n\r\n"
        );
        let message = Message::parse(text.into_bytes(), Framing::WebSocket).expect("sound");
        let by = RegisterContext { flow: Flow(1), chance: 0, longest: None, token: user.into() };
        registrar.register(now, user, &message, &by).expect("it may");
    }

    /// A node that has its lease, and the value of that.
    fn joined(now: Instant, node: &str, epoch: u64, registrar: &Registrar) -> (Cluster, String) {
        let mut cluster = Cluster::new(now, &settings(node, KEY), epoch);
        let value = beat(&mut cluster, now, registrar, None, Vec::new());
        (cluster, value)
    }

    /// A renewal that the store confirms: what it wrote.
    fn beat(
        cluster: &mut Cluster,
        now: Instant,
        registrar: &Registrar,
        held: Option<String>,
        leases: Vec<(String, String)>,
    ) -> String {
        let at = Moment { now, unix: UNIX };
        let work = cluster.turn(at, Census::default, registrar, &|_| false);
        let beat = work.commands.into_iter().find_map(|command| match command {
            StoreCommand::Beat { id, value, .. } => Some((id, value)),
            _ => None,
        });
        let (id, value) = beat.expect("it is due");
        let answer = BeatAnswer {
            held,
            leases,
            millis: UNIX * 1_000,
            connection: 1,
            deposed: false,
            grants: Vec::new(),
        };
        cluster.answered(at, StoreAnswer::Beat { id, answer: Ok(answer) });
        value
    }

    fn writes(
        cluster: &mut Cluster,
        now: Instant,
        registrar: &Registrar,
    ) -> Vec<(u64, Vec<PointerWrite>)> {
        let at = Moment { now, unix: UNIX };
        let work = cluster.turn(at, Census::default, registrar, &|_| false);
        let writes = work.commands.into_iter().filter_map(|command| match command {
            StoreCommand::Write { id, writes } => Some((id, writes)),
            _ => None,
        });
        writes.collect()
    }

    #[test]
    fn beyond_the_bound_of_waiting_users_everything_is_written_again() {
        let (now, mut registrar) = (Instant::now(), Registrar::default());
        (0..300).for_each(|n| register(&mut registrar, now, &format!("u{n:03}"), "c"));
        let (mut cluster, _) = joined(now, "a", 1, &registrar);
        for n in 0..20_000 {
            cluster.touch(&format!("nobody{n}"));
        }
        assert!(cluster.waiting() <= 10_000, "{}", cluster.waiting());
        let (mut written, mut open) = (std::collections::BTreeSet::new(), Vec::new());
        loop {
            open.extend(writes(&mut cluster, now, &registrar));
            assert!(open.len() <= 4, "the window");
            let Some((id, writes)) = open.pop() else { break };
            assert!(writes.len() <= 32);
            written.extend(writes.into_iter().filter(|w| w.value.is_some()).map(|w| w.user));
            let at = Moment { now, unix: UNIX };
            cluster.answered(at, StoreAnswer::Written { id, answer: Ok(()) });
        }
        assert_eq!((written.len(), cluster.waiting()), (300, 0));
    }

    #[test]
    fn a_write_that_fails_or_is_never_answered_is_written_again_and_no_answer_counts_twice() {
        let (now, mut registrar) = (Instant::now(), Registrar::default());
        let (mut cluster, _) = joined(now, "a", 1, &registrar);
        register(&mut registrar, now, "ada", "c");
        cluster.touch("ada");
        let at = Moment { now, unix: UNIX };
        let (first, _) = writes(&mut cluster, now, &registrar).remove(0);
        cluster.touch("ada");
        assert!(writes(&mut cluster, now, &registrar).is_empty(), "one write of a user at a time");
        cluster.answered(at, StoreAnswer::Written { id: first, answer: Err("gone".into()) });
        let (second, _) = writes(&mut cluster, now, &registrar).remove(0);
        cluster.answered(at, StoreAnswer::Written { id: first, answer: Ok(()) });
        assert_eq!(cluster.waiting(), 1, "an old answer is none");
        let later = now + Duration::from_millis(999);
        assert!(writes(&mut cluster, later, &registrar).is_empty());
        cluster.answered(at, StoreAnswer::Written { id: second, answer: Ok(()) });
        assert_eq!(cluster.waiting(), 0);
    }

    #[test]
    fn what_a_node_tells_of_busy_users_is_bounded() {
        let (now, registrar) = (Instant::now(), Registrar::default());
        let busy: Vec<(u64, u32)> =
            (0..400).map(|n| (token::short(Some(&format!("u{n}"))), 2)).collect();
        let newer = include_str!("../tests/fuzz/seeds/store/newer");
        let busy = serde_json::to_string(&busy).expect("JSON");
        let text = newer.replacen('{', &format!("{{\"busy\":{busy},"), 1);
        let lease = format!("{:016x}{}", 7, ClusterKeys::new(KEY).seal("node b", &text));
        assert!(lease.len() < store::MAX_VALUE, "all of it is read");
        let (mut here, mine) = joined(now, "a", 1, &registrar);
        let second = Duration::from_secs(1);
        beat(&mut here, now + second, &registrar, Some(mine), vec![("b".into(), lease)]);
        let calls = |n: usize| here.calls_elsewhere(now + second, &format!("u{n}"));
        assert_eq!((calls(0), calls(lease::MAX_BUSY - 1), calls(lease::MAX_BUSY)), (2, 2, 0));
    }

    #[test]
    fn what_a_newer_version_wrote_is_read_as_far_as_it_is_known_and_left_where_it_is_not() {
        let newer = include_str!("../tests/fuzz/seeds/store/newer");
        let keys = ClusterKeys::new(KEY);
        let (now, mut registrar) = (Instant::now(), Registrar::default());
        let lease = |text: &str| format!("{:016x}{}", 7, keys.seal("node b", text));
        let (mut here, mine) = joined(now, "a", 1, &registrar);
        let second = Duration::from_secs(1);
        let known = vec![("b".to_owned(), lease(newer))];
        let mine = beat(&mut here, now + second, &registrar, Some(mine), known);
        let other = here.members().find(|m| m.node == "b").expect("its lease is read");
        assert_eq!(other.version, "9.0.0");
        // Of a version after that nothing is understood: it is no node for this one, and no stranger.
        let at = Moment { now: now + 2 * second, unix: UNIX };
        let work = here.turn(at, Census::default, &registrar, &|_| false);
        let id = work.commands.iter().find_map(|c| match c {
            StoreCommand::Beat { id, .. } => Some(*id),
            _ => None,
        });
        let answer = BeatAnswer {
            held: Some(mine),
            leases: vec![("b".to_owned(), lease("{\"format\":2}"))],
            millis: UNIX * 1_000,
            connection: 1,
            deposed: false,
            grants: Vec::new(),
        };
        let id = id.expect("it is due");
        let told = here.answered(at, StoreAnswer::Beat { id, answer: Ok(answer) });
        assert_eq!(told.events, [LeaseEvent::NodeDown { node: "b".into() }]);
        // What a user has there is left as it is: a node writes its own field and no other.
        register(&mut registrar, now, "ada", "c");
        here.touch("ada");
        let record = keys.seal("user b ada", "{\"format\":2}");
        let found = vec![("b".to_owned(), record)];
        assert!(here.ways(Moment { now, unix: UNIX }, "ada", &found).is_empty());
        let written = writes(&mut here, now + 2 * second, &registrar);
        let fields = written.iter().flat_map(|(_, writes)| writes);
        assert!(fields.into_iter().all(|w| w.node == "a"));
    }

    #[test]
    fn what_a_node_was_before_it_lost_its_calls_is_bounded() {
        let (mut now, registrar) = (Instant::now(), Registrar::default());
        let (mut here, mine) = joined(now, "a", 1, &registrar);
        for _ in 0..MAX_FORMER + 3 {
            now += Duration::from_secs(1);
            let at = Moment { now, unix: UNIX };
            let work = here.turn(at, Census::default, &registrar, &|_| false);
            let beat = work.commands.into_iter().find_map(|command| match command {
                StoreCommand::Beat { id, .. } => Some(id),
                _ => None,
            });
            let id = beat.expect("it is due");
            let answer = BeatAnswer {
                // One that was deposed renews nothing.
                held: Some(mine.clone()),
                leases: Vec::new(),
                millis: UNIX * 1_000,
                connection: 1,
                deposed: true,
                grants: Vec::new(),
            };
            here.answered(at, StoreAnswer::Beat { id, answer: Ok(answer) });
            let work = here.turn(at, Census::default, &registrar, &|_| false);
            let claim = work.commands.iter().find_map(|command| match command {
                StoreCommand::Claim { id, .. } => Some(*id),
                _ => None,
            });
            let id = claim.expect("it asks who has its calls");
            let taken = Claim::Taken { by: format!("{:016x}b", 7), names: Some(Vec::new()) };
            let work = here.answered(at, StoreAnswer::Claimed { id, answer: Ok(taken) });
            assert_eq!(work.deposed, Some(("b".to_owned(), Vec::new())));
        }
        assert_eq!(here.former.len(), MAX_FORMER);
    }

    #[test]
    fn what_is_read_of_the_store_is_bounded_and_signed() {
        let (now, mut registrar) = (Instant::now(), Registrar::default());
        register(&mut registrar, now, "ada", "short");
        let (mut there, lease) = joined(now, "b", 7, &registrar);
        let written = writes(&mut there, now, &registrar).remove(0).1;
        let value = |user: &str| {
            let write = written.iter().find(|w| w.user == user);
            write.and_then(|w| w.value.clone())
        };
        let own = Registrar::default();
        let (mut here, mine) = joined(now, "a", 1, &own);
        let (other, strange) = {
            let mut other = Cluster::new(now, &settings("c", "another key of another cluster"), 3);
            let value = beat(&mut other, now, &own, None, Vec::new());
            (other, value)
        };
        drop(other);
        let mut leases = vec![
            ("b".to_owned(), lease.clone()),
            ("d".to_owned(), lease.clone()),
            ("c".to_owned(), strange),
            ("e".to_owned(), "garbage".to_owned()),
            ("f".to_owned(), format!("{lease}{}", " ".repeat(20_000))),
        ];
        leases.extend((0..200).map(|n| (format!("x{n}"), "garbage".to_owned())));
        beat(&mut here, now + Duration::from_secs(1), &own, Some(mine), leases);
        let nodes: Vec<&str> = here.members().map(|m| m.node.as_str()).collect();
        assert_eq!(nodes, ["a", "b"], "a lease counts as its own node's, whole and signed");
        let at = Moment { now, unix: UNIX };
        let found = |node: &str, value: String| vec![(node.to_owned(), value)];
        let ada = value("ada").expect("she is there");
        assert_eq!(here.ways(at, "ada", &found("b", ada.clone())).len(), 1);
        assert!(here.ways(at, "eve", &found("b", ada.clone())).is_empty(), "of another user");
        assert!(here.ways(at, "ada", &found("c", ada.clone())).is_empty(), "of another node");
        assert!(here.ways(at, "ada", &found("b", ada[1..].to_owned())).is_empty());
        let long = format!("{ada}{}", " ".repeat(20_000));
        assert!(here.ways(at, "ada", &found("b", long)).is_empty());
        let much: FoundPointers = (0..100).map(|_| ("b".to_owned(), ada.clone())).collect();
        assert_eq!(here.ways(at, "ada", &much).len(), 64);
        let over = Moment { now, unix: UNIX + 3_601 };
        assert!(here.ways(over, "ada", &found("b", ada)).is_empty(), "it has run out");
    }
}
