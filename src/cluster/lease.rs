//! A node's lease, and the view of the others that each renewal brings.
//!
//! ```text
//!   Joining --renewed--> Joined --no answer: 2.5 s-> Joined, lease gone --answer--> Joined
//!      |                   |
//!      +--another process of the same name renews--> Refused --its lease is gone--> Joined
//! ```

use super::keys::ClusterKeys;
use super::shares::{NodeCount, Shares};
use super::store::{
    BeatAnswer, CALLS, LEASE, MAX_NODES, MAX_VALUE, Process, ShareWish, StoreCommand, is_of_epoch,
};
use super::token::short;
use super::{ClusterWork, Moment};
use crate::config::ClusterSettings;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// What the mark of a node begins with.
const MARK: &str = "-n";
/// How often a lease is renewed.
const BEAT: Duration = Duration::from_secs(1);
/// A node that was not seen to renew its lease for this long may have missed a renewal.
const MISSED: Duration = Duration::from_millis(1_500);
/// A lease that was not renewed for so long may run out before the next look at it.
const NEARLY: Duration = Duration::from_millis(1_600);
/// How long the store has for it.
const ANSWER: Duration = Duration::from_millis(900);
/// After the store was lost: those who took something say so by their leases first.
pub(super) const SETTLED: Duration = Duration::from_secs(3);
/// How long calls in a form that is not known here are left to nodes that know it, or to the node
/// itself; then they are ended.
const UNREAD: Duration = Duration::from_secs(12);
/// Nodes whose leases cannot be read that are told of.
const MAX_UNREAD: usize = 64;
/// Renewals by another process that show that it lives.
const RENEWALS: u32 = 2;
/// Users with several calls that a node tells of.
pub(crate) const MAX_BUSY: usize = 300;
/// Clocks that differ by more than this are reported.
const SKEW: u64 = 5;

/// How much a node does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NodeLoad {
    /// Calls it has.
    pub calls: usize,
    /// Bindings of its users.
    pub registrations: usize,
    /// New calls it would take now.
    pub calls_left: usize,
    /// It takes no new calls.
    pub draining: bool,
}

/// A node as its lease says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub node: String,
    /// Tells its process from earlier ones.
    pub epoch: u64,
    /// Renewals since it began.
    pub beat: u64,
    /// Where the others reach it.
    pub advertise: SocketAddr,
    /// Of webtrunk.
    pub version: String,
    /// As of its last renewal.
    pub load: NodeLoad,
    /// Trunks it registers with, where one node does.
    #[serde(default)]
    pub registers: Vec<String>,
    /// Users with more than one call there, in short, and how many.
    #[serde(default)]
    pub busy: Vec<(u64, u32)>,
    /// The address that moves to the node that takes its calls over.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// Processes whose calls it took over, the newest last.
    #[serde(default)]
    pub taken: Vec<Process>,
    /// What it is to have in common with the others; 0 if it does not say.
    #[serde(default)]
    pub config: u64,
    /// The form in which it keeps its calls; 0 if it does not say.
    #[serde(default)]
    pub form: u16,
}

impl Member {
    /// Its process.
    pub fn process(&self) -> Process {
        Process { node: self.node.clone(), epoch: self.epoch }
    }

    /// Whether it is configured otherwise than one of this number; other versions may read the same
    /// file otherwise.
    pub fn differs(&self, config: u64) -> bool {
        self.config != 0 && config != 0 && self.config != config && self.is_of_this_version()
    }

    fn is_of_this_version(&self) -> bool {
        self.version == env!("CARGO_PKG_VERSION")
    }
}

/// What a node tells of itself with a renewal.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// How loaded the node is.
    pub load: NodeLoad,
    /// Trunks it registers with.
    pub registers: Vec<String>,
    /// Users with more than one call there, in short, and how many calls each has.
    pub busy: Vec<(u64, u32)>,
    /// What it would have of shared limits.
    pub wishes: Vec<ShareWish>,
    /// What its configuration is known by, without what belongs to its machine alone; 0: not known.
    pub config: u64,
}

/// What the lease has to tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum LeaseEvent {
    NodeUp {
        node: String,
    },
    NodeDown {
        node: String,
    },
    StoreAway {
        why: String,
    },
    StoreBack {
        away: Duration,
    },
    /// Another process has this node's name.
    NameTaken {
        node: String,
        by: String,
    },
    /// The store's clock is so many seconds from ours.
    ClockSkew {
        seconds: u64,
    },
    /// A lease is not signed by our key.
    OtherKey {
        node: String,
    },
    /// Another node went on with the calls of this one, which was away for so long.
    Deposed {
        by: String,
    },
}

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LeaseState {
    Joining,
    Joined,
    Refused,
}

/// The store's clock: what it said between two moments of ours.
#[derive(Clone, Copy, Debug)]
struct StoreClock {
    millis: u64,
    sent: Instant,
    received: Instant,
}

/// A beat under way.
#[derive(Debug)]
struct Waiting {
    id: u64,
    until: Instant,
}

/// This node's lease.
pub(crate) struct Lease {
    own: Member,
    /// The forms of calls that this process goes on with.
    reads: Vec<u16>,
    standing: LeaseState,
    next: Instant,
    waiting: Option<Waiting>,
    /// The last renewal the store confirmed: when it was sent, and by which connection.
    confirmed: Option<(Instant, u64)>,
    sent: Instant,
    away_since: Option<Instant>,
    /// Another process of our name: its epoch, its renewals as last seen, and how often there were
    /// more.
    rival: Option<(u64, u64, u32)>,
    /// The process of our name before this one, and when its lease was first seen.
    before: Option<(Member, Instant)>,
    view: BTreeMap<String, Member>,
    /// When each of them was seen to renew.
    seen: BTreeMap<String, Instant>,
    /// The store's clock less our own, milliseconds: at least, and at most.
    clock: Option<StoreClock>,
    /// Processes whose leases are gone, and when they were seen to renew last, since last asked.
    gone: Vec<(Member, Instant)>,
    /// Another process took over what this one had.
    deposed: bool,
    /// When the last renewal came through after the lease had run out.
    back: Option<Instant>,
    /// Likewise, at a store that may have lost who took what: nothing is sure yet.
    settles: Option<Instant>,
    /// The others that were seen of late, and when, or before the lease ran out while that is not
    /// sure: they may have taken what this node had.
    met: BTreeMap<String, (Member, Instant)>,
    /// The epoch whose lease this process goes on with: what it was before it was deposed.
    instead: Option<u64>,
    /// The others by the marks that tags and branches of their calls bear.
    marks: BTreeMap<String, Vec<SocketAddr>>,
    /// Whose leases we cannot read; told once.
    unread: BTreeSet<String>,
    skewed: bool,
    /// The store's clock less ours, seconds.
    offset: i64,
    resync: bool,
    shares: Shares,
    /// Calls of users at the other nodes, by the user in short.
    busy: HashMap<u64, u32>,
}

impl Lease {
    pub(super) fn new(now: Instant, settings: &ClusterSettings, epoch: u64) -> Lease {
        let own = Member {
            node: settings.node.clone(),
            epoch,
            beat: 0,
            advertise: settings.advertise,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            load: NodeLoad::default(),
            registers: Vec::new(),
            busy: Vec::new(),
            address: settings.address,
            taken: Vec::new(),
            config: 0,
            form: 0,
        };
        Lease {
            own,
            reads: Vec::new(),
            standing: LeaseState::Joining,
            next: now,
            waiting: None,
            confirmed: None,
            sent: now,
            away_since: None,
            rival: None,
            before: None,
            view: BTreeMap::new(),
            seen: BTreeMap::new(),
            clock: None,
            gone: Vec::new(),
            deposed: false,
            back: None,
            settles: None,
            met: BTreeMap::new(),
            instead: None,
            marks: BTreeMap::new(),
            unread: BTreeSet::new(),
            skewed: false,
            offset: 0,
            resync: false,
            shares: Shares::default(),
            busy: HashMap::new(),
        }
    }

    pub(super) fn node(&self) -> &str {
        &self.own.node
    }

    pub(super) fn epoch(&self) -> u64 {
        self.own.epoch
    }

    /// This process.
    pub(super) fn process(&self) -> Process {
        self.own.process()
    }

    /// Goes on as another process: what this one had is another node's.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        self.instead.get_or_insert(self.own.epoch);
        self.own.epoch = self.own.epoch.wrapping_add(1);
        (self.next, self.resync, self.deposed) = (now, true, false);
        // A renewal under way is of the process that was.
        self.waiting = None;
        self.settles = None;
    }

    /// This node as an earlier process of it was.
    pub(super) fn as_process(&self, process: &Process) -> Member {
        Member { epoch: process.epoch, taken: Vec::new(), ..self.own.clone() }
    }

    /// Says in which form this process keeps calls, and which it reads.
    pub(super) fn say_forms(&mut self, form: u16, reads: &[u16]) {
        (self.own.form, self.reads) = (form, reads.to_vec());
    }

    /// Whether this node is to go on with the calls of one that is gone; those it cannot read are
    /// left to others first.
    pub(super) fn may_go_on_with(&self, now: Instant, gone: &Member, seen: Instant) -> bool {
        gone.form == 0 || self.reads.contains(&gone.form) || now >= seen + UNREAD
    }

    /// Says whose calls this process took.
    pub(super) fn say_taken(&mut self, taken: &[Process]) {
        if self.own.taken != taken {
            self.own.taken = taken.to_vec();
        }
    }

    /// The store's clock, milliseconds since 1970: not later than it is, and not earlier. `None`
    /// before it was heard of.
    pub(super) fn store_millis(&self, now: Instant) -> Option<(u64, u64)> {
        let StoreClock { millis, sent, received } = self.clock?;
        let since = |at: Instant| now.saturating_duration_since(at).as_millis() as u64;
        Some((millis + since(received), millis + since(sent)))
    }

    /// Whether the lease may have run out, so that others may have taken what this node has.
    pub(super) fn is_unsure(&self, now: Instant) -> bool {
        let lapsed = self.view_age(now).is_some_and(|age| age >= LEASE);
        let unsure = lapsed && !self.met.is_empty() || self.settles(now);
        unsure && self.standing == LeaseState::Joined
    }

    /// Whether another may take what this node has at any moment, or may have done so.
    pub(super) fn may_be_taken(&self, now: Instant) -> bool {
        let late = self.view_age(now).is_some_and(|age| age >= NEARLY);
        late && !self.met.is_empty() || self.settles(now) || self.deposed
    }

    /// Whether somebody may have taken what this node had, though the store does not know of it.
    pub(super) fn settles(&self, now: Instant) -> bool {
        let away = || self.met.keys().any(|node| !self.view.contains_key(node));
        let settles = |since| now < since + SETTLED || now < since + CALLS && away();
        self.settles.is_some_and(settles)
    }

    /// When the last renewal came through after the lease had run out.
    pub(super) fn back(&self) -> Option<Instant> {
        self.back
    }

    /// The other nodes, those included that are gone, but may live.
    pub(super) fn met(&self) -> impl Iterator<Item = &Member> {
        self.met.values().map(|(member, _)| member)
    }

    /// The node whose lease says that it took what this process had.
    pub(super) fn taker(&self) -> Option<&str> {
        let own = self.process();
        let taker = self.view.values().find(|member| member.taken.contains(&own))?;
        Some(&taker.node)
    }

    /// How many nodes are to take calls over before this one: those that have less to do.
    pub(super) fn before(&self) -> u32 {
        let order = |m: &Member| (m.load.draining, m.load.calls, m.node.clone());
        let own = order(&self.own);
        self.view.values().filter(|m| order(m) < own).count() as u32
    }

    pub(super) fn advertise(&self) -> SocketAddr {
        self.own.advertise
    }

    /// The store's clock, seconds since 1970.
    pub(super) fn store_unix(&self, unix: u64) -> u64 {
        unix.saturating_add_signed(self.offset)
    }

    /// The other nodes that may have the call whose tag or branch this is.
    pub(super) fn bearers(&self, text: &str) -> &[SocketAddr] {
        let mark = text.rfind(MARK).and_then(|at| text.get(at..));
        mark.and_then(|mark| self.marks.get(mark)).map_or(&[], Vec::as_slice)
    }

    fn nodes(&self, now: Instant) -> NodeCount {
        NodeCount { count: 1 + self.view.len() as u64, away: self.away(now).is_some() }
    }

    /// Whether one more may be had of a limit of all nodes of which `used` are had here.
    pub(super) fn has_room(&self, now: Instant, name: &str, limit: u64, used: u64) -> bool {
        self.shares.has_room(name, limit, used, self.nodes(now))
    }

    /// Whether this node is the one that has what one node has.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.shares.holds(name)
    }

    /// Calls of a user at the other nodes, where it has more than one.
    pub(super) fn calls_elsewhere(&self, user: &str) -> usize {
        let told = (!self.busy.is_empty()).then(|| self.busy.get(&short(Some(user)))).flatten();
        told.copied().unwrap_or(0) as usize
    }

    pub(super) fn other(&self, node: &str) -> Option<&Member> {
        self.view.get(node)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.own).chain(self.view.values())
    }

    pub(super) fn view_age(&self, now: Instant) -> Option<Duration> {
        self.confirmed.map(|(at, _)| now.saturating_duration_since(at))
    }

    /// The connection to the store that renewed the lease last.
    pub(super) fn connection(&self) -> Option<u64> {
        self.confirmed.map(|(_, connection)| connection)
    }

    /// Where this node stands, for people.
    pub(super) fn standing(&self, now: Instant) -> &'static str {
        match self.standing {
            LeaseState::Refused => "name taken",
            _ if self.away(now).is_some() => "store away",
            LeaseState::Joining => "joining",
            LeaseState::Joined => "joined",
        }
    }

    /// Whether our lease lives: what we write is read.
    pub(super) fn may_write(&self, now: Instant) -> bool {
        self.standing == LeaseState::Joined && self.away(now).is_none()
    }

    fn away(&self, now: Instant) -> Option<&'static str> {
        match self.view_age(now) {
            None => Some("the store was not reached yet"),
            Some(age) if age >= LEASE || self.away_since.is_some() => {
                Some("the store does not answer")
            }
            Some(_) => None,
        }
    }

    pub(super) fn cannot_ask(&self, now: Instant) -> Option<String> {
        if self.standing == LeaseState::Refused {
            return Some(format!("another process is node {}", self.own.node));
        }
        self.away(now).map(str::to_owned)
    }

    /// Whether everything is to be written again.
    pub(super) fn take_resync(&mut self) -> bool {
        std::mem::take(&mut self.resync)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        // While one is under way, the next is not due.
        Some(self.waiting.as_ref().map_or(self.next, |waiting| waiting.until))
    }

    pub(super) fn renews(&self, now: Instant) -> bool {
        now >= self.next && self.waiting.as_ref().is_none_or(|w| w.until <= now)
    }

    pub(super) fn turn(
        &mut self,
        at: Moment,
        next_id: &mut u64,
        keys: &ClusterKeys,
        census: impl FnOnce() -> Census,
        work: &mut ClusterWork,
    ) {
        if self.waiting.as_ref().is_some_and(|w| w.until <= at.now) {
            self.waiting = None;
            self.failed(at.now, "it does not answer", &mut work.events);
        }
        if self.waiting.is_some() || at.now < self.next {
            return;
        }
        // Where a renewal is missed, the end of the lease is noticed soon after it.
        let late = |seen: &Instant| at.now.saturating_duration_since(*seen) > MISSED;
        let missed = self.away_since.is_none() && self.seen.values().any(late);
        self.next = at.now + if missed { BEAT / 8 } else { BEAT };
        self.sent = at.now;
        self.own.beat += 1;
        let Census { load, registers, busy, wishes, config } = census();
        self.own.config = config;
        (self.own.load, self.own.registers, self.own.busy) = (load, registers, busy);
        self.shares.ask(&wishes);
        *next_id += 1;
        self.waiting = Some(Waiting { id: *next_id, until: at.now + ANSWER });
        let text = serde_json::to_string(&self.own).unwrap_or_default();
        let name = name_of(&self.own.node);
        work.commands.push(StoreCommand::Beat {
            id: *next_id,
            node: self.own.node.clone(),
            epoch: self.own.epoch,
            instead: self.instead,
            value: format!("{:016x}{}", self.own.epoch, keys.seal(&name, &text)),
            wishes,
        });
    }

    fn failed(&mut self, now: Instant, why: &str, events: &mut Vec<LeaseEvent>) {
        if self.away_since.is_none() {
            self.away_since = Some(now);
            events.push(LeaseEvent::StoreAway { why: why.to_owned() });
        }
    }

    pub(super) fn answered(
        &mut self,
        at: Moment,
        keys: &ClusterKeys,
        id: u64,
        answer: Result<BeatAnswer, String>,
    ) -> Vec<LeaseEvent> {
        let mut events = Vec::new();
        if self.waiting.as_ref().is_none_or(|w| w.id != id) {
            return events;
        }
        self.waiting = None;
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                self.failed(at.now, &why, &mut events);
                return events;
            }
        };
        self.look_at_clock(at, answer.millis / 1_000, &mut events);
        self.clock = Some(StoreClock { millis: answer.millis, sent: self.sent, received: at.now });
        self.look_at_own(at.now, &answer, keys, &mut events);
        let before = self.confirmed.replace((self.sent, answer.connection));
        if let Some((sent, connection)) = before {
            self.look_at_gap(at.now, sent, connection != answer.connection);
        }
        if let Some(since) = self.away_since.take() {
            let away = at.now.saturating_duration_since(since);
            events.push(LeaseEvent::StoreBack { away });
        }
        let lost = answer.held.is_none() || before.is_none_or(|(_, c)| c != answer.connection);
        self.resync |= lost && self.standing == LeaseState::Joined;
        self.look_at_others(at.now, &answer, keys, &mut events);
        // A store that has lost who took what is told so by the leases of those who did.
        self.deposed |= answer.deposed || self.taker().is_some();
        self.shares.granted(answer.grants);
        events
    }

    /// Whether the lease may have run out since the renewal before, sent then.
    fn look_at_gap(&mut self, now: Instant, sent: Instant, changed: bool) {
        if now.saturating_duration_since(sent) >= LEASE {
            self.back = Some(now);
            self.settles = changed.then_some(now).or(self.settles);
        }
        if !self.settles(now) {
            self.settles = None;
        }
    }

    /// Processes that are gone since last asked, and when they were seen to renew last.
    pub(super) fn take_gone(&mut self) -> Vec<(Member, Instant)> {
        std::mem::take(&mut self.gone)
    }

    /// Whether another process took over what this one had.
    pub(super) fn is_deposed(&self) -> bool {
        self.deposed
    }

    /// The other nodes as they were last seen.
    pub(super) fn others(&self) -> impl Iterator<Item = &Member> {
        self.view.values()
    }

    fn look_at_clock(&mut self, at: Moment, store: u64, events: &mut Vec<LeaseEvent>) {
        let seconds = store.abs_diff(at.unix);
        self.offset = store as i64 - at.unix as i64;
        let skewed = seconds > SKEW;
        if skewed && !std::mem::replace(&mut self.skewed, skewed) {
            events.push(LeaseEvent::ClockSkew { seconds });
        }
        self.skewed = skewed;
    }

    /// Whether the lease is ours; a rival that renews has our name.
    fn look_at_own(
        &mut self,
        now: Instant,
        answer: &BeatAnswer,
        keys: &ClusterKeys,
        events: &mut Vec<LeaseEvent>,
    ) {
        if answer.held.as_ref().is_some_and(|held| is_of_epoch(held, self.own.epoch)) {
            self.instead = None;
        }
        let ours = |held: &str| {
            is_of_epoch(held, self.own.epoch) || self.instead.is_some_and(|e| is_of_epoch(held, e))
        };
        let rival = answer.held.as_ref().filter(|held| !ours(held)).map(|held| {
            read(keys, &self.own.node, held)
                .unwrap_or_else(|_| Member { node: self.own.node.clone(), ..self.own.clone() })
        });
        let Some(rival) = rival else {
            if let Some((before, seen)) = self.before.take().filter(|_| self.rival.is_some()) {
                self.gone.push((before, seen));
            }
            self.rival = None;
            if self.standing != LeaseState::Joined {
                self.standing = LeaseState::Joined;
                self.resync = true;
            }
            return;
        };
        // One that was killed leaves its lease behind, and maybe a renewal on its way; only one that
        // lives goes on renewing it.
        let by = rival.advertise;
        let seen = self.rival.unwrap_or((rival.epoch, rival.beat, 0));
        let more = u32::from(seen.0 != rival.epoch || seen.1 != rival.beat);
        let renewed = seen.2.saturating_add(more);
        self.rival = Some((rival.epoch, rival.beat, renewed));
        if renewed < RENEWALS {
            self.before.get_or_insert((rival, now));
        } else {
            self.before = None;
        }
        if renewed >= RENEWALS {
            if self.standing != LeaseState::Refused {
                let by = by.to_string();
                events.push(LeaseEvent::NameTaken { node: self.own.node.clone(), by });
            }
            self.standing = LeaseState::Refused;
        } else if self.standing == LeaseState::Joined {
            self.standing = LeaseState::Joining;
        }
    }

    fn look_at_others(
        &mut self,
        now: Instant,
        answer: &BeatAnswer,
        keys: &ClusterKeys,
        events: &mut Vec<LeaseEvent>,
    ) {
        let mut view = BTreeMap::new();
        for (node, value) in answer.leases.iter().take(MAX_NODES) {
            if *node == self.own.node {
                continue;
            }
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
        for node in view.keys().filter(|node| !self.view.contains_key(*node)) {
            events.push(LeaseEvent::NodeUp { node: node.clone() });
        }
        for node in self.view.keys().filter(|node| !view.contains_key(*node)) {
            events.push(LeaseEvent::NodeDown { node: node.clone() });
        }
        for (node, member) in &self.view {
            let now_there = view.get(node);
            if now_there.is_none_or(|m| m.epoch != member.epoch) {
                let seen = self.seen.get(node).copied().unwrap_or(now);
                self.gone.push((member.clone(), seen));
            }
        }
        self.seen.retain(|node, _| view.contains_key(node));
        if self.settles.is_none() {
            self.met.retain(|_, (_, seen)| now < *seen + CALLS);
        }
        for (node, member) in &view {
            if self.met.len() < 2 * MAX_NODES || self.met.contains_key(node) {
                self.met.insert(node.clone(), (member.clone(), now));
            }
        }
        for (node, member) in &view {
            if self.view.get(node).is_none_or(|m| (m.epoch, m.beat) != (member.epoch, member.beat))
            {
                self.seen.insert(node.clone(), now);
            }
        }
        self.marks.clear();
        for member in view.values() {
            let of_others = member.taken.iter().map(|taken| &taken.node);
            for node in std::iter::once(&member.node).chain(of_others) {
                let bearers = self.marks.entry(mark_of(node)).or_default();
                if !bearers.contains(&member.advertise) {
                    bearers.push(member.advertise);
                }
            }
        }
        self.busy.clear();
        for (user, calls) in view.values().flat_map(|m| m.busy.iter().take(MAX_BUSY)) {
            *self.busy.entry(*user).or_default() += calls;
        }
        self.view = view;
    }
}

/// What tags and branches of a node end with.
pub(super) fn mark_of(node: &str) -> String {
    format!("{MARK}{:08x}", short(Some(node)) >> 32)
}

/// Whether a tag or branch ends with what those of a node do.
pub(super) fn is_marked(text: &str) -> bool {
    let mark = text.rfind(MARK).and_then(|at| text.get(at + MARK.len()..));
    mark.is_some_and(|mark| mark.len() == 8 && mark.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// What the record of a node is signed as.
fn name_of(node: &str) -> String {
    format!("node {node}")
}

/// Why a lease is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LeaseFault {
    /// It is not signed by our key, or not as this node's.
    OtherKey,
    /// It is, and what it says is known to newer versions only.
    Newer,
}

/// The lease of a node.
///
/// # Errors
/// It is not believed, or not understood.
pub(crate) fn read(keys: &ClusterKeys, node: &str, value: &str) -> Result<Member, LeaseFault> {
    let sealed = value.split_at_checked(16).filter(|_| value.len() <= MAX_VALUE);
    let (epoch, sealed) = sealed.ok_or(LeaseFault::OtherKey)?;
    let text = keys.open(&name_of(node), sealed).ok_or(LeaseFault::OtherKey)?;
    let member: Member = serde_json::from_str(text).map_err(|_| LeaseFault::Newer)?;
    let sound = member.node == node && u64::from_str_radix(epoch, 16) == Ok(member.epoch);
    sound.then_some(member).ok_or(LeaseFault::OtherKey)
}

/// A lease of node b that says `text`, whoever wrote that.
///
/// # Errors
/// It is not believed, or not understood.
#[cfg(any(fuzzing, test))]
pub(super) fn read_signed(keys: &ClusterKeys, text: &str) -> Result<Member, LeaseFault> {
    read(keys, "b", &format!("{:016x}{}", 7, keys.seal(&name_of("b"), text)))
}
