//! What is known of each trunk beyond its configuration: health, registrations both ways, its pace.
//!
//! Not here: sending. The gateway sends what these machines ask for and brings back what came of
//! it.

pub(crate) mod binding;
pub(crate) mod registration;

use crate::config::{Config, Trunk};
use crate::errors::Code;
use crate::ids::looked_at;
use crate::pace::{Demand, Pace};
use crate::sip::transaction::{Flow, Hop};
use crate::timers::Timers;
pub(crate) use binding::TrunkBinding;
pub use binding::TrunkBindingSnapshot;
use registration::Registration;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound as Limit;
use std::time::{Duration, Instant};

/// Probes missed before a trunk is down, and answered before it is up again.
const MISSES: u32 = 3;
const RECOVERIES: u32 = 2;
/// While down, it is probed at least this often.
const DOWN_PROBE: Duration = Duration::from_secs(10);

/// Changes of a trunk's health that are remembered.
const MOST_CHANGES: usize = 20;

/// Whether a trunk takes calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Health {
    /// Never heard of since the start: tried.
    #[default]
    Unknown,
    Up,
    Down,
}

/// A change of a trunk's health, as it is remembered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PastChange {
    /// When it changed.
    pub at: Instant,
    /// `up`, `down`, `disabled` or `enabled`.
    pub state: &'static str,
    /// Why, as text, if it went down.
    pub why: Option<String>,
}

/// One trunk.
#[derive(Debug, Default)]
pub(crate) struct TrunkState {
    /// Whether it answers.
    pub health: Health,
    /// Since when that is known.
    pub since: Option<Instant>,
    /// An operator has switched it off.
    pub disabled: bool,
    misses: u32,
    answers: u32,
    /// Timeouts in a row on one connection.
    unresponsive_connection: u32,
    /// Why the last probe or call failed, as text.
    pub last_failure: Option<String>,
    /// The oldest first.
    past: VecDeque<PastChange>,
    /// How long the last probe took.
    pub round_trip: Option<Duration>,
    probe_sent: Option<Instant>,
    /// Probes that were answered or missed, since the start.
    pub probes_ended: u64,
    next_probe: Option<Instant>,
    /// A 503 with Retry-After: nothing is sent before this.
    pub paused_until: Option<Instant>,
    /// Its registrars.
    pub registrations: Vec<Registration>,
    /// Changed by [`Trunks::bind`] and [`Trunks::unbind`] alone.
    pub bound: Option<TrunkBinding>,
    pace: Pace,
    demand: Demand,
}

/// A change worth a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum TrunkChange {
    Up { was_down_for: Option<Duration> },
    Down { why: String },
}

impl TrunkState {
    /// A trunk nothing is known of; its first probe and registrations are due at once.
    fn new(now: Instant, trunk: &Trunk) -> TrunkState {
        TrunkState {
            next_probe: trunk.probe.map(|_| now),
            registrations: trunk
                .registrars
                .iter()
                .map(|r| Registration::new(now, r.clone(), trunk.register_expires))
                .collect(),
            ..TrunkState::default()
        }
    }

    /// A probe, or a call's request, was answered.
    pub(crate) fn on_request_answered(&mut self, now: Instant) -> Option<TrunkChange> {
        self.misses = 0;
        self.unresponsive_connection = 0;
        if let Some(sent) = self.probe_sent.take() {
            self.round_trip = Some(now.saturating_duration_since(sent));
            self.probes_ended += 1;
        }
        self.answers += 1;
        let needed = if self.health == Health::Down { RECOVERIES } else { 1 };
        if self.health == Health::Up || self.answers < needed {
            return None;
        }
        let since = self.since.replace(now).filter(|_| self.health == Health::Down);
        self.health = Health::Up;
        self.remember(now, "up", None);
        Some(TrunkChange::Up { was_down_for: since.map(|s| now.saturating_duration_since(s)) })
    }

    /// A probe was not answered, or answered with a sign of sickness.
    pub(crate) fn on_probe_missed(&mut self, now: Instant, why: String) -> Option<TrunkChange> {
        self.answers = 0;
        self.misses += 1;
        self.probes_ended += 1;
        self.probe_sent = None;
        self.last_failure = Some(why.clone());
        if self.health == Health::Down || self.misses < MISSES {
            return None;
        }
        self.health = Health::Down;
        self.since = Some(now);
        self.remember(now, "down", Some(why.clone()));
        Some(TrunkChange::Down { why })
    }

    /// An operator switches it off, or on again. False: it is so already.
    pub(crate) fn switch(&mut self, now: Instant, enabled: bool) -> bool {
        let changed = std::mem::replace(&mut self.disabled, !enabled) == enabled;
        if changed {
            self.remember(now, if enabled { "enabled" } else { "disabled" }, None);
        }
        changed
    }

    fn remember(&mut self, at: Instant, state: &'static str, why: Option<String>) {
        if self.past.len() == MOST_CHANGES {
            self.past.pop_front();
        }
        self.past.push_back(PastChange { at, state, why });
    }

    /// How its health has changed, the newest first.
    pub(crate) fn past(&self) -> impl Iterator<Item = &PastChange> {
        self.past.iter().rev()
    }

    /// A request over a connection timed out; true when the connection must be taken for wedged.
    pub(crate) fn timed_out(&mut self) -> bool {
        self.unresponsive_connection += 1;
        self.unresponsive_connection >= 2 && {
            self.unresponsive_connection = 0;
            true
        }
    }

    /// A probe goes out now.
    pub(crate) fn probing(&mut self, now: Instant, interval: Option<Duration>) {
        self.probe_sent = Some(now);
        let own = if self.health == Health::Down {
            interval.map(|i| i.min(DOWN_PROBE))
        } else {
            interval
        };
        self.next_probe = own.map(|i| now + i);
    }

    /// A probe is due now.
    pub(crate) fn probe_now(&mut self, now: Instant) {
        self.next_probe = Some(now);
    }

    /// Probes missed in a row.
    pub(crate) fn missed_in_a_row(&self) -> u32 {
        self.misses
    }

    /// The first moment that something of it falls due.
    fn next_timeout(&self) -> Option<Instant> {
        let registrations = self.registrations.iter().filter_map(Registration::next_timeout);
        registrations.chain(self.next_probe).chain(self.bound.as_ref().map(|b| b.expires)).min()
    }

    /// Whether calls may be sent to it now, or why not.
    ///
    /// # Errors
    /// Why not, with its code.
    pub(crate) fn usable(&self, now: Instant) -> Result<(), (Code, String)> {
        if self.disabled {
            return Err((Code::TRUNK_DISABLED, "an operator has disabled it".to_owned()));
        }
        if self.health == Health::Down {
            return Err((
                Code::TRUNK_DOWN,
                format!(
                    "it is down: {}",
                    self.last_failure.as_deref().unwrap_or("no answer to OPTIONS")
                ),
            ));
        }
        match self.paused_until.filter(|until| *until > now) {
            Some(until) => Err((
                Code::TRUNK_FAILED,
                format!(
                    "it asked for {} s of rest",
                    until.saturating_duration_since(now).as_secs().max(1)
                ),
            )),
            None => Ok(()),
        }
    }
}

/// What falls due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Due {
    /// OPTIONS to the trunk of this name.
    Probe(String),
    /// REGISTER at the trunk's registrar of this number.
    Register(String, usize),
}

/// All trunks.
///
/// Invariant: what falls due of a trunk is in `timers`, or its name in `touched`. So nothing here
/// walks all trunks for one.
#[derive(Debug, Default)]
pub struct Trunks {
    states: BTreeMap<String, TrunkState>,
    /// By name: the first of what falls due.
    timers: Timers<String>,
    /// Trunks that may have changed since their timers were set.
    touched: Vec<String>,
    /// Trunks that registered, by where they came from, and by connection.
    bound_at: HashMap<SocketAddr, BTreeSet<String>>,
    bound_on: HashMap<Flow, BTreeSet<String>>,
    /// Trunks whose registration has changed since somebody asked.
    rebound: BTreeSet<String>,
    /// What a reload has changed and is not done yet, and since when.
    revisions: VecDeque<Revision>,
    revised: Option<Instant>,
    /// Public addresses that are set for single trunks, by where these were last sought.
    public_ips: HashMap<IpAddr, IpAddr>,
}

/// Addresses of trunks remembered; when full, the table starts over.
const REMEMBERED: usize = 1_024;
/// Trunks of which something falls due in one turn at most; the others follow in the next turns.
const MOST_DUE: usize = 64;
/// Trunks that a reload changes in one turn at most.
const MOST_REVISED: usize = 256;

/// What a reload does to one trunk's state.
#[derive(Debug)]
pub(crate) enum Revision {
    Gone(String),
    New(String, Box<TrunkState>),
    /// What is known of it is kept, but for this.
    Kept {
        name: String,
        registrations: Option<Vec<Registration>>,
        probe: bool,
    },
}

impl Revision {
    /// What leads from the trunks of one configuration to those of the next; a trunk that stays
    /// where it was is not among it.
    pub(crate) fn between(now: Instant, before: &Config, after: &Config) -> Vec<Revision> {
        let gone = before.trunks.keys().filter(|name| !after.trunks.contains_key(*name));
        let mut revisions: Vec<Revision> = gone.cloned().map(Revision::Gone).collect();
        revisions.extend(after.trunks.values().filter_map(|trunk| {
            let Some(old) = before.trunks.get(&trunk.name) else {
                let state = Box::new(TrunkState::new(now, trunk));
                return Some(Revision::New(trunk.name.clone(), state));
            };
            let moved = old.registrars != trunk.registrars;
            let revised = moved || old.probe.is_some() != trunk.probe.is_some();
            revised.then(|| Revision::Kept {
                name: trunk.name.clone(),
                registrations: moved.then(|| TrunkState::new(now, trunk).registrations),
                probe: trunk.probe.is_some(),
            })
        }));
        revisions
    }
}

impl Trunks {
    /// The trunks of `config`; the first probes and registrations are due at once.
    pub(crate) fn new(now: Instant, config: &Config) -> Trunks {
        let state = |t: &Trunk| (t.name.clone(), TrunkState::new(now, t));
        Trunks {
            states: config.trunks.values().map(state).collect(),
            touched: config.trunks.keys().cloned().collect(),
            ..Trunks::default()
        }
    }

    /// Another configuration: its `revisions` are carried out over the next turns, some in each.
    pub(crate) fn revise(&mut self, now: Instant, revisions: Vec<Revision>) {
        self.public_ips.clear();
        self.revisions.extend(revisions);
        self.revised = Some(now);
    }

    fn carry_out_revisions(&mut self, now: Instant) {
        for _ in 0..MOST_REVISED {
            match self.revisions.pop_front() {
                None => break,
                Some(Revision::Gone(name)) => {
                    self.unbind(&name);
                    self.timers.clear(&name);
                    self.states.remove(&name);
                }
                Some(Revision::New(name, state)) => {
                    self.touched.push(name.clone());
                    self.states.insert(name, *state);
                }
                Some(Revision::Kept { name, registrations, probe }) => {
                    let Some(state) = self.get_mut(&name) else { continue };
                    state.registrations =
                        registrations.unwrap_or_else(|| std::mem::take(&mut state.registrations));
                    state.next_probe = if probe { state.next_probe.or(Some(now)) } else { None };
                }
            }
        }
    }

    /// One trunk's state.
    pub(crate) fn get(&self, name: &str) -> Option<&TrunkState> {
        self.states.get(name)
    }

    /// One trunk's state, to change.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut TrunkState> {
        let state = self.states.get_mut(name)?;
        self.touched.push(name.to_owned());
        Some(state)
    }

    /// Those after `name`, or all, by name.
    pub(crate) fn after(&self, name: Option<&str>) -> impl Iterator<Item = (&String, &TrunkState)> {
        let from = name.map_or(Limit::Unbounded, Limit::Excluded);
        self.states.range::<str, _>((from, Limit::Unbounded)).inspect(|_| looked_at())
    }

    /// Whether one more call to or from this trunk may begin in this second.
    pub(crate) fn take_call(&mut self, now: Instant, name: &str, limit: Option<u32>) -> bool {
        self.states.get_mut(name).is_none_or(|t| {
            t.demand.note(now);
            t.pace.take(now, limit)
        })
    }

    /// How many calls to or from this trunk were to begin in the last second, those included that
    /// were too many.
    pub(crate) fn wanted_calls(&self, now: Instant, name: &str) -> u32 {
        self.states.get(name).map_or(0, |t| t.demand.of_last_second(now))
    }

    /// What falls due at `now`; each is returned once, the caller acts on it.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Due> {
        self.carry_out_revisions(now);
        self.watch_touched();
        let mut due = Vec::new();
        for _ in 0..MOST_DUE {
            let Some(name) = self.timers.pop(now) else { break };
            looked_at();
            let Some(state) = self.states.get_mut(&name) else { continue };
            if state.next_probe.is_some_and(|at| at <= now) {
                state.next_probe = None;
                due.push(Due::Probe(name.clone()));
            }
            for (n, registration) in state.registrations.iter_mut().enumerate() {
                if registration.is_due(now) {
                    due.push(Due::Register(name.clone(), n));
                }
            }
            if state.bound.as_ref().is_some_and(|b| b.expires <= now) {
                self.unbind(&name);
            }
            self.touched.push(name);
        }
        due
    }

    /// The earliest moment something falls due.
    pub(crate) fn next_timeout(&mut self) -> Option<Instant> {
        self.watch_touched();
        let revised = self.revised.filter(|_| !self.revisions.is_empty());
        self.timers.next_timeout().into_iter().chain(revised).min()
    }

    /// Nobody could be heard for `by`: trunks that registered here are kept that much longer.
    pub(crate) fn put_off(&mut self, by: Duration) {
        for (name, state) in &mut self.states {
            if let Some(bound) = &mut state.bound {
                bound.expires += by;
                self.touched.push(name.clone());
                self.rebound.insert(name.clone());
            }
        }
    }

    fn watch_touched(&mut self) {
        for name in std::mem::take(&mut self.touched) {
            looked_at();
            match self.states.get(&name).and_then(TrunkState::next_timeout) {
                Some(at) => self.timers.set(name, at),
                None => self.timers.clear(&name),
            }
        }
    }

    /// The public address that is set for the trunk that was last reached at `remote`.
    pub(crate) fn public_ip_at(&self, remote: IpAddr) -> Option<IpAddr> {
        self.public_ips.get(&remote).copied()
    }

    /// A trunk with a public address of its own is at `remote`, as DNS has it.
    pub(crate) fn remember_public_ip(&mut self, remote: IpAddr, ip: IpAddr) {
        if self.public_ips.len() >= REMEMBERED && !self.public_ips.contains_key(&remote) {
            self.public_ips.clear();
        }
        self.public_ips.insert(remote, ip);
    }

    /// A trunk has registered; returns whether it had not before.
    pub(crate) fn bind(&mut self, name: &str, bound: TrunkBinding) -> bool {
        let first = !self.unbind(name);
        let Some(state) = self.get_mut(name) else { return false };
        let (remote, hop) = (bound.remote, bound.hop);
        state.bound = Some(bound);
        self.rebound.insert(name.to_owned());
        self.bound_at.entry(remote).or_default().insert(name.to_owned());
        if let Hop::Flow(flow) = hop {
            self.bound_on.entry(flow).or_default().insert(name.to_owned());
        }
        first
    }

    /// A trunk's registration is over; returns whether there was one.
    pub(crate) fn unbind(&mut self, name: &str) -> bool {
        let Some(bound) = self.get_mut(name).and_then(|t| t.bound.take()) else { return false };
        forget(&mut self.bound_at, &bound.remote, name);
        if let Hop::Flow(flow) = bound.hop {
            forget(&mut self.bound_on, &flow, name);
        }
        self.rebound.insert(name.to_owned());
        true
    }

    /// Trunks that have registered, or whose registration is over, since the last time.
    pub(crate) fn take_rebound(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.rebound)
    }

    /// The trunks that registered over this connection.
    pub(crate) fn bound_on(&self, flow: Flow) -> Vec<String> {
        self.bound_on.get(&flow).into_iter().flatten().cloned().collect()
    }

    /// The trunk that registered from `remote`.
    pub(crate) fn bound_from(&self, remote: SocketAddr) -> Option<&str> {
        self.bound_at.get(&remote)?.first().map(String::as_str)
    }
}

fn forget<K: Hash + Eq>(index: &mut HashMap<K, BTreeSet<String>>, key: &K, name: &str) {
    let Some(names) = index.get_mut(key) else { return };
    names.remove(name);
    if names.is_empty() {
        index.remove(key);
    }
}

impl fmt::Display for TrunkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.health)?;
        self.registrations.iter().try_for_each(|r| write!(f, "; {r}"))
    }
}

#[cfg(test)]
mod tests;
