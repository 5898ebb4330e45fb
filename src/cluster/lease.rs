//! A node's lease, and the view of the others that each renewal brings.
//!
//! A lease that the store did not renew for 2.5 s may be gone: others may have taken what the node
//! has. It goes on, and asks.
//! Not here: whether another process has the node's name, see [`LeaseStanding`].

use super::clock::StoreClock;
use super::keys::ClusterKeys;
use super::lease_watch::LeaseWatch;
use super::member::{Member, NodeLoad, name_of};
use super::other_nodes::Others;
use super::shared_limits::{NodeCount, Shares, pace_of};
use super::standing::LeaseStanding;
use super::store::{BeatAnswer, CALLS, LEASE, Process, ShareWish, StoreCommand};
use super::stored_calls::Writer;
use super::work::{ClusterWork, Moment};
use crate::config::ClusterSettings;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How often a lease is renewed.
const BEAT: Duration = Duration::from_secs(1);
/// A lease that was not renewed for so long may run out before the next look at it.
const NEARLY: Duration = Duration::from_millis(1_600);
/// How long the store has for it.
const ANSWER: Duration = Duration::from_millis(900);
/// After the store was lost: those who took something say so by their leases first.
pub(super) const SETTLED: Duration = Duration::from_secs(3);
/// How long calls in a form that is not known here are left to nodes that know it, or to the node
/// itself; then they are ended.
const UNREAD: Duration = Duration::from_secs(12);

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
    standing: LeaseStanding,
    next: Instant,
    waiting: Option<Waiting>,
    /// The last renewal the store confirmed: when it was sent, and by which connection.
    confirmed: Option<(Instant, u64)>,
    sent: Instant,
    away_since: Option<Instant>,
    others: Others,
    watch: LeaseWatch,
    clock: StoreClock,
    /// Another process took over what this one had.
    deposed: bool,
    /// When the last renewal came through after the lease had run out.
    back: Option<Instant>,
    /// Likewise, at a store that may have lost who took what: nothing is sure yet.
    settles: Option<Instant>,
    /// When another connection renewed the lease than before: the store may have lost who took
    /// what.
    changed: Option<Instant>,
    resync: bool,
    shares: Shares,
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
            former: Vec::new(),
            config: 0,
            form: 0,
        };
        Lease {
            own,
            reads: Vec::new(),
            standing: LeaseStanding::new(),
            next: now,
            waiting: None,
            confirmed: None,
            sent: now,
            away_since: None,
            others: Others::default(),
            watch: LeaseWatch::default(),
            clock: StoreClock::default(),
            deposed: false,
            back: None,
            settles: None,
            changed: None,
            resync: false,
            shares: Shares::default(),
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
        self.standing.begin_anew(self.own.epoch);
        self.own.epoch = self.own.epoch.wrapping_add(1);
        (self.next, self.resync) = (now, true);
        self.deposed = false;
        // A renewal under way is of the process that was.
        self.waiting = None;
        self.settles = None;
    }

    /// Goes on with the lease of the process before, which was this one.
    pub(super) fn follow(&mut self, before: &Process) {
        self.standing.follow(before.epoch);
    }

    /// This node as an earlier process of it was.
    pub(super) fn as_process(&self, process: &Process) -> Member {
        let (taken, former) = (Vec::new(), Vec::new());
        Member { epoch: process.epoch, taken, former, ..self.own.clone() }
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

    /// Says whose calls this process took, and what it was before.
    pub(super) fn say_taken<'a>(
        &mut self,
        taken: &[Process],
        former: impl Iterator<Item = &'a Process> + Clone,
    ) {
        if self.own.taken != taken {
            self.own.taken = taken.to_vec();
        }
        if !former.clone().eq(&self.own.former) {
            self.own.former = former.cloned().collect();
        }
    }

    /// The store's clock, milliseconds since 1970: not later than it is, and not earlier. `None`
    /// before it was heard of.
    pub(super) fn store_millis(&self, now: Instant) -> Option<(u64, u64)> {
        self.clock.millis(now)
    }

    /// By which the age of a value counts that another wrote: it is not younger.
    pub(super) fn oldest_millis(&self, now: Instant) -> u64 {
        self.clock.oldest(now)
    }

    /// Whether the lease may have run out, so that others may have taken what this node has.
    pub(super) fn is_unsure(&self, now: Instant) -> bool {
        let lapsed = self.view_age(now).is_some_and(|age| age >= LEASE);
        let unsure = lapsed && !self.others.met_nobody() || self.settles(now);
        unsure && self.standing.is_joined() || self.standing.is_displaced()
    }

    /// Whether another may take what this node has at any moment, or may have done so.
    pub(super) fn may_be_taken(&self, now: Instant) -> bool {
        let late = self.view_age(now).is_some_and(|age| age >= NEARLY);
        // Packets have their reserve, which lasts for longer than the next process of a node takes
        // to say what the one before it took.
        let settles = self.settles_until(now, Others::are_nodes_there);
        late && !self.others.met_nobody() || settles || self.deposed || self.standing.is_displaced()
    }

    /// Whether somebody may have taken what this node had, though the store does not know of it.
    pub(super) fn settles(&self, now: Instant) -> bool {
        self.settles_until(now, Others::are_there)
    }

    fn settles_until(&self, now: Instant, are_there: fn(&Others) -> bool) -> bool {
        let settles =
            |since| now < since + SETTLED || now < since + CALLS && !are_there(&self.others);
        self.settles.is_some_and(settles)
    }

    /// Another node says that it has what this process had.
    pub(super) fn say_deposed(&mut self) {
        self.deposed = true;
    }

    /// When the last renewal came through after the lease had run out.
    pub(super) fn back(&self) -> Option<Instant> {
        self.back
    }

    /// The node whose lease says that it took what this process had.
    pub(super) fn taker(&self) -> Option<&str> {
        self.others.taker(&self.own.process())
    }

    /// A node has said whose calls it took over; to say nothing of any is an answer too.
    pub(super) fn told_by(&mut self, now: Instant, node: &str) {
        self.others.told_by(now, node);
    }

    /// Whether another node may have taken the calls of `gone`, last seen at `seen`, in a way that
    /// the store has lost: that node has said nothing of them since, neither by its lease nor by a
    /// question.
    pub(super) fn awaits_others(&self, gone: &Member, seen: Instant) -> bool {
        self.changed.is_some_and(|at| seen < at && self.others.awaits(&gone.node, at))
    }

    /// The other nodes.
    pub(super) fn others(&self) -> &Others {
        &self.others
    }

    /// Processes that are gone since last asked, and when they were seen to renew last.
    pub(super) fn take_gone(&mut self) -> Vec<(Member, Instant)> {
        self.others.take_gone()
    }

    /// How many nodes are to take calls over before this one: those that have less to do.
    pub(super) fn before(&self) -> u32 {
        let order = |m: &Member| (m.load.draining, m.load.calls, m.node.clone());
        let own = order(&self.own);
        self.others.iter().filter(|m| order(m) < own).count() as u32
    }

    pub(super) fn advertise(&self) -> SocketAddr {
        self.own.advertise
    }

    /// The store's clock, seconds since 1970.
    pub(super) fn store_unix(&self, unix: u64) -> u64 {
        self.clock.unix(unix)
    }

    fn nodes(&self, now: Instant) -> NodeCount {
        NodeCount { count: 1 + self.others.iter().count() as u64, away: self.away(now).is_some() }
    }

    /// Whether one more may be had of a limit of all nodes of which `used` are had here.
    pub(super) fn has_room(&self, now: Instant, name: &str, limit: u64, used: u64) -> bool {
        self.shares.has_room(name, limit, used, self.nodes(now))
    }

    /// How many calls of a trunk that may have `limit` a second at all nodes may begin here.
    pub(super) fn pace(&self, now: Instant, trunk: &str, limit: u64) -> u64 {
        let lapsed = self.view_age(now).is_none_or(|age| age >= LEASE);
        self.shares.pace(&pace_of(trunk), limit, self.nodes(now).count, lapsed)
    }

    /// What the next renewal says of it, where so many `wanted` to begin in the last second.
    pub(super) fn pace_wish(
        &self,
        now: Instant,
        trunk: &str,
        limit: u64,
        wanted: u64,
    ) -> ShareWish {
        let may = self.pace(now, trunk, limit);
        Shares::pace_wish(trunk, limit, self.nodes(now).count, may, wanted)
    }

    /// Whether this node is the one that has what one node has.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.shares.holds(name)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.own).chain(self.others.iter())
    }

    pub(super) fn view_age(&self, now: Instant) -> Option<Duration> {
        self.confirmed.map(|(at, _)| now.saturating_duration_since(at))
    }

    /// As whom calls are written; `None`: they are another's, or there is no lease.
    pub(super) fn writer(&self) -> Option<Writer> {
        let connection = self.connection().filter(|_| !self.deposed)?;
        Some(Writer { owner: self.process(), connection })
    }

    /// When the last renewal was sent that the store confirmed.
    pub(super) fn renewed(&self) -> Option<Instant> {
        self.confirmed.map(|(sent, _)| sent)
    }

    /// The connection to the store that renewed the lease last.
    pub(super) fn connection(&self) -> Option<u64> {
        self.confirmed.map(|(_, connection)| connection)
    }

    /// Where this node stands, for people.
    pub(super) fn standing(&self, now: Instant) -> &'static str {
        match &self.standing {
            standing if standing.is_refused() => "name taken",
            _ if self.away(now).is_some() => "store away",
            standing if standing.is_joined() => "joined",
            _ => "joining",
        }
    }

    /// Whether the store answers, whatever it says.
    pub(super) fn hears_store(&self, now: Instant) -> bool {
        self.away(now).is_none()
    }

    /// Whether our lease lives: what we write is read.
    pub(super) fn may_write(&self, now: Instant) -> bool {
        self.standing.is_joined() && self.away(now).is_none()
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
        if self.standing.is_refused() {
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
        let missed = self.away_since.is_none() && self.watch.may_be_late(at.now);
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
            instead: self.standing.instead(),
            value: format!("{:016x}{}", self.own.epoch, keys.seal(&name, &text)),
            unrenewed: self.watch.unrenewed(),
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
        let skew = self.clock.compare(at.unix, answer.millis / 1_000);
        events.extend(skew.map(|seconds| LeaseEvent::ClockSkew { seconds }));
        self.clock.said(at.now, self.sent, answer.millis);
        let times = (self.sent, at.now);
        self.watch.look(times, answer.connection, &self.own.process(), &answer.leases);
        let displaced = self.standing.is_displaced();
        let held = (answer.held.as_deref(), keys);
        let news = self.standing.look(at.now, &self.own, held, &mut events);
        self.resync |= news.joined;
        news.gone.into_iter().for_each(|(before, seen)| self.others.lost(before, seen));
        let before = self.confirmed.replace((self.sent, answer.connection));
        if let Some((sent, connection)) = before {
            let lapsed = displaced || at.now.saturating_duration_since(sent) >= LEASE;
            self.look_at_gap(at.now, lapsed, connection != answer.connection);
        }
        if let Some(since) = self.away_since.take() {
            let away = at.now.saturating_duration_since(since);
            events.push(LeaseEvent::StoreBack { away });
        }
        if before.is_some_and(|(_, connection)| connection != answer.connection) {
            self.changed = Some(at.now);
        }
        let lost = answer.held.is_none() || before.is_none_or(|(_, c)| c != answer.connection);
        self.resync |= lost && self.standing.is_joined();
        let lapsed = before.is_some_and(|(sent, _)| at.now >= sent + LEASE);
        let look = (at.now, self.own.node.as_str(), self.settles.is_none(), lapsed);
        self.others.look(look, &answer.leases, keys, &mut events);
        // A store that has lost who took what is told so by the leases of those who did.
        self.deposed |= answer.deposed || self.taker().is_some();
        self.shares.granted(answer.grants);
        events
    }

    /// `lapsed`: the lease may have run out since the renewal before.
    fn look_at_gap(&mut self, now: Instant, lapsed: bool, changed: bool) {
        if lapsed {
            self.back = Some(now);
            self.settles = changed.then_some(now).or(self.settles);
        }
        if !self.settles(now) {
            self.settles = None;
        }
    }

    /// Whether another process of this name has the lease that this one had.
    pub(super) fn is_displaced(&self) -> bool {
        self.standing.is_displaced()
    }

    /// Whether another process took over what this one had.
    pub(super) fn is_deposed(&self) -> bool {
        self.deposed
    }
}
