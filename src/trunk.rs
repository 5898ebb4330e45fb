//! What is known of each trunk beyond its configuration: health, registrations both ways, its pace.
//!
//! Not here: sending. The gateway sends what these machines ask for and brings back what came of
//! it.

pub(crate) mod registration;

use crate::config::{Config, Trunk};
use crate::errors::Code;
use crate::pace::Pace;
use crate::sip::transaction::Hop;
use registration::Registration;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Probes missed before a trunk is down, and answered before it is up again.
const MISSES: u32 = 3;
const RECOVERIES: u32 = 2;
/// While down, it is probed at least this often.
const DOWN_PROBE: Duration = Duration::from_secs(10);

/// Whether a trunk takes calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Health {
    /// Never heard of since the start: tried.
    #[default]
    Unknown,
    Up,
    Down,
}

/// Where a trunk registered from, until when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bound {
    pub hop: Hop,
    pub remote: SocketAddr,
    pub contact: String,
    pub expires: Instant,
}

/// One trunk.
#[derive(Debug, Default)]
pub(crate) struct TrunkState {
    pub health: Health,
    pub since: Option<Instant>,
    /// An operator has switched it off.
    pub disabled: bool,
    misses: u32,
    answers: u32,
    /// Timeouts in a row on one connection.
    unresponsive_connection: u32,
    pub last_failure: Option<String>,
    pub round_trip: Option<Duration>,
    probe_sent: Option<Instant>,
    /// Probes that were answered or missed.
    pub probes_ended: u64,
    next_probe: Option<Instant>,
    /// A 503 with Retry-After: nothing is sent before this.
    pub paused_until: Option<Instant>,
    pub registrations: Vec<Registration>,
    pub bound: Option<Bound>,
    pace: Pace,
}

/// A change worth a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
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
    pub(crate) fn answered(&mut self, now: Instant) -> Option<Change> {
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
        Some(Change::Up { was_down_for: since.map(|s| now.saturating_duration_since(s)) })
    }

    /// A probe was not answered, or answered with a sign of sickness.
    pub(crate) fn missed(&mut self, now: Instant, why: String) -> Option<Change> {
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
        Some(Change::Down { why })
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

    /// Whether calls may be sent to it now, or why not.
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
    Probe(String),
    Register(String, usize),
}

/// All trunks.
#[derive(Debug, Default)]
pub struct Trunks {
    states: BTreeMap<String, TrunkState>,
    /// Public addresses that are set for single trunks, by where these were last sought.
    public_ips: HashMap<IpAddr, IpAddr>,
}

/// Addresses of trunks remembered; when full, the table starts over.
const REMEMBERED: usize = 1_024;

impl Trunks {
    /// The trunks of `config`; the first probes and registrations are due at once.
    pub(crate) fn new(now: Instant, config: &Config) -> Trunks {
        Trunks {
            states: config
                .trunks
                .values()
                .map(|t| (t.name.clone(), TrunkState::new(now, t)))
                .collect(),
            public_ips: HashMap::new(),
        }
    }

    /// The trunks of another configuration: who stays where it was keeps what is known of it.
    pub(crate) fn reload(&mut self, now: Instant, config: &Config) {
        let mut before = std::mem::take(&mut self.states);
        self.public_ips.clear();
        for trunk in config.trunks.values() {
            let fresh = TrunkState::new(now, trunk);
            let state = match before.remove(&trunk.name) {
                Some(mut kept) => {
                    let same = kept
                        .registrations
                        .iter()
                        .map(|r| &r.registrar)
                        .eq(fresh.registrations.iter().map(|r| &r.registrar));
                    if !same {
                        kept.registrations = fresh.registrations;
                    }
                    kept.next_probe =
                        if trunk.probe.is_some() { kept.next_probe.or(Some(now)) } else { None };
                    kept
                }
                None => fresh,
            };
            self.states.insert(trunk.name.clone(), state);
        }
    }

    /// One trunk's state.
    pub(crate) fn get(&self, name: &str) -> Option<&TrunkState> {
        self.states.get(name)
    }

    /// One trunk's state, to change.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut TrunkState> {
        self.states.get_mut(name)
    }

    /// All, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &TrunkState)> {
        self.states.iter()
    }

    /// Whether one more call to or from this trunk may begin in this second.
    pub(crate) fn take_call(&mut self, now: Instant, name: &str, limit: Option<u32>) -> bool {
        self.states.get_mut(name).is_none_or(|t| t.pace.take(now, limit))
    }

    /// What falls due at `now`; each is said once, the caller acts on it.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        for (name, state) in &mut self.states {
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
                state.bound = None;
            }
        }
        due
    }

    /// The earliest moment something falls due.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let of = |s: &TrunkState| {
            let registrations = s.registrations.iter().filter_map(Registration::next_timeout);
            registrations.chain(s.next_probe).chain(s.bound.as_ref().map(|b| b.expires)).min()
        };
        self.states.values().filter_map(of).min()
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

    /// The trunk that registered from `remote`.
    pub(crate) fn bound_from(&self, remote: SocketAddr) -> Option<&str> {
        let same = |s: &TrunkState| s.bound.as_ref().is_some_and(|b| b.remote == remote);
        self.states.iter().find(|(_, s)| same(s)).map(|(name, _)| name.as_str())
    }
}

impl fmt::Display for TrunkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.health)?;
        self.registrations.iter().try_for_each(|r| write!(f, "; {r}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_misses_take_it_out_and_two_answers_bring_it_back() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut trunk = TrunkState::default();
        assert_eq!(trunk.answered(at(0)), Some(Change::Up { was_down_for: None }));
        for n in 1..3 {
            assert_eq!(trunk.missed(at(n), "silence".into()), None);
        }
        trunk.answered(at(3));
        assert!(
            (4..6).all(|n| trunk.missed(at(n), "silence".into()).is_none()),
            "counting began again"
        );
        assert_eq!(
            trunk.missed(at(6), "silence".into()),
            Some(Change::Down { why: "silence".into() })
        );
        assert!(trunk.usable(at(6)).is_err());
        assert_eq!(trunk.missed(at(7), "silence".into()), None, "said once");
        assert_eq!(trunk.answered(at(8)), None, "one answer is no recovery");
        assert_eq!(
            trunk.answered(at(9)),
            Some(Change::Up { was_down_for: Some(Duration::from_secs(3)) })
        );
        assert!(trunk.usable(at(9)).is_ok());
    }

    #[test]
    fn the_pace_is_kept_by_the_second() {
        let now = Instant::now();
        let mut pace = Pace::default();
        assert_eq!((0..5).filter(|_| pace.take(now, Some(2))).count(), 2);
        assert!(pace.take(now + Duration::from_secs(1), Some(2)));
        assert!((0..1_000).all(|_| pace.take(now, None)));
    }
}
