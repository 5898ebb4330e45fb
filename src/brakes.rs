//! How often one user and one source may do what reaches others: counters in windows of time, in
//! tables that forget.

use crate::address::network_of;
use crate::config::{Limits, User};
use crate::dialplan::Route;
use crate::errors::Code;
use crate::fraud::FraudBrake;
use crate::pace::Pace;
use crate::sip::status::Refusal;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// Entries of one table; beyond them those that were not asked for longest go.
const MAX_REMEMBERED: usize = 20_000;
/// Requests of a user in a second that are passed on to the node that has its call.
const MOST_PASSED_ON: u32 = 50;
/// The same of a trunk: of all its calls, most messages come to a node that has them not.
const MOST_PASSED_ON_OF_TRUNK: u32 = 2_000;
/// Calls in a minute that one user or trunk makes by routes that are exempt from limits.
const MOST_EMERGENCY: u32 = 10;
/// All visitors of one network together have so many times what one user has.
pub(crate) const CROWD: u32 = 10;
/// Registrations of one user in a minute, each of which others are told of.
const MOST_REGISTERED: u32 = 120;
/// Times in a minute that trunks say what waits for one user, whose phones and nodes all hear it.
const MOST_SUMMARIES: u32 = 60;
/// Refused calls of one user in a minute that are remembered and told, unless it may begin more;
/// the rest is counted only.
const MOST_REFUSALS_TOLD: u32 = 30;
/// The same of a trunk, whose callers are many.
const MOST_REFUSALS_TOLD_OF_TRUNK: u32 = 600;
/// Requests of one trunk in a second that the other nodes are told of as begun: it fills neither
/// their table nor the way to them.
const MOST_BEGUN_OF_TRUNK: u32 = 1_000;

/// A table that forgets entries nobody has asked for within `life`, and the least recently used one
/// when it is full. Each step costs the same, however many entries there are.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    life: Duration,
    since: Option<Instant>,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V: Default> Recent<K, V> {
    /// An empty table.
    pub(crate) fn new(life: Duration) -> Recent<K, V> {
        Recent { life, since: None, young: HashMap::new(), old: HashMap::new() }
    }

    /// Returns the entry of `key`, which is made if there is none.
    pub(crate) fn entry(&mut self, now: Instant, key: K) -> &mut V {
        let aged = |since: Instant| now.saturating_duration_since(since) >= self.life;
        if self.since.is_none_or(aged) || self.young.len() >= MAX_REMEMBERED / 2 {
            self.old = std::mem::take(&mut self.young);
            self.since = Some(now);
        }
        let known = self.old.remove(&key);
        self.young.entry(key).or_insert_with(|| known.unwrap_or_default())
    }

    /// Returns how many entries there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// Where a text comes from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Source {
    Address(IpAddr),
    Trunk(String),
}

/// The brakes of a node.
#[derive(Debug)]
pub struct Brakes {
    /// New calls of a user in this second.
    calls: Recent<String, Pace>,
    /// Calls of a user by a route with a limit: when, the oldest first.
    by_route: Recent<(String, String), VecDeque<Instant>>,
    /// Calls by routes exempt from limits, of a user or trunk in this minute.
    emergencies: Recent<String, Pace>,
    /// Texts of a user in this minute.
    texts: Recent<String, Pace>,
    /// Texts of a source in this minute.
    texts_of_source: Recent<Source, Pace>,
    /// Requests of a user that were passed on in this second.
    passed_on: Recent<String, Pace>,
    /// Registrations of a user in this minute.
    registrations: Recent<String, Pace>,
    /// What was said in this minute to wait for a user.
    summaries: Recent<String, Pace>,
    /// Refused calls of a user or trunk that were told in this minute.
    refusals: Recent<String, Pace>,
    /// Requests of a trunk that others were told of in this second.
    begun: Recent<String, Pace>,
    /// What calls to trunks come to.
    pub(crate) fraud: FraudBrake,
}

impl Default for Brakes {
    fn default() -> Brakes {
        Brakes {
            calls: Recent::new(SECOND),
            by_route: Recent::new(HOUR),
            emergencies: Recent::new(MINUTE),
            texts: Recent::new(MINUTE),
            texts_of_source: Recent::new(MINUTE),
            passed_on: Recent::new(SECOND),
            registrations: Recent::new(MINUTE),
            summaries: Recent::new(MINUTE),
            refusals: Recent::new(MINUTE),
            begun: Recent::new(SECOND),
            fraud: FraudBrake::default(),
        }
    }
}

impl Brakes {
    /// Counts one more request of a user, or of a trunk, that another node has to serve.
    ///
    /// # Errors
    /// 503: those of this second were passed on.
    pub(crate) fn passed_on(
        &mut self,
        now: Instant,
        who: &str,
        is_trunk: bool,
    ) -> Result<(), Refusal> {
        let most = if is_trunk { MOST_PASSED_ON_OF_TRUNK } else { MOST_PASSED_ON };
        let window = self.passed_on.entry(now, who.to_owned());
        window.take_within(now, SECOND, most).map_err(|_| {
            Refusal::new(503, format!("{who} has sent its {most} requests of this second"))
                .code(Code::LIMIT)
                .retry_after(2)
        })
    }

    /// Counts one more registration of `user`.
    ///
    /// # Errors
    /// 503: those of this minute were made.
    pub(crate) fn registration(&mut self, now: Instant, user: &str) -> Result<(), Refusal> {
        let window = self.registrations.entry(now, user.to_owned());
        window.take_within(now, MINUTE, MOST_REGISTERED).map_err(|wait| {
            let why = format!("{user} has registered {MOST_REGISTERED} times in this minute");
            spent(why, wait)
        })
    }

    /// Counts one more word of a trunk's on what waits for `user`.
    ///
    /// # Errors
    /// 503: enough was said in this minute.
    pub(crate) fn summary(&mut self, now: Instant, user: &str) -> Result<(), Refusal> {
        let window = self.summaries.entry(now, user.to_owned());
        window.take_within(now, MINUTE, MOST_SUMMARIES).map_err(|wait| {
            let why = format!("{user} was told {MOST_SUMMARIES} times in this minute what waits");
            spent(why, wait)
        })
    }

    /// Whether one more refused call of `who` is told: whoever repeats what is refused must not
    /// fill what others look at. `pace` is the calls in a second that it may begin, if it has a
    /// pace of its own.
    pub(crate) fn tells_refusal(
        &mut self,
        now: Instant,
        who: &str,
        is_trunk: bool,
        pace: Option<u32>,
    ) -> bool {
        let most = if is_trunk { MOST_REFUSALS_TOLD_OF_TRUNK } else { MOST_REFUSALS_TOLD };
        let most = most.max(pace.unwrap_or(0).saturating_mul(60));
        self.refusals.entry(now, who.to_owned()).take_within(now, MINUTE, most).is_ok()
    }

    /// Whether the other nodes are told of one more request that a trunk has begun.
    pub(crate) fn tells_begun(&mut self, now: Instant, trunk: &str) -> bool {
        let window = self.begun.entry(now, trunk.to_owned());
        window.take(now, Some(MOST_BEGUN_OF_TRUNK))
    }

    /// Counts one more call of `user`, who may begin `most` in a second.
    ///
    /// # Errors
    /// 503: those were made.
    pub(crate) fn call(&mut self, now: Instant, user: &str, most: u32) -> Result<(), Refusal> {
        self.calls.entry(now, user.to_owned()).take_within(now, SECOND, most).map_err(|_| {
            Refusal::new(503, format!("{user} has made its {most} calls of this second"))
                .code(Code::LIMIT)
                .retry_after(2)
        })
    }

    /// Counts one more call of `who`, which is so many, by a route that is exempt from limits.
    ///
    /// # Errors
    /// 503: nobody has so many emergencies.
    pub(crate) fn emergency(&mut self, now: Instant, who: &str, many: u32) -> Result<(), Refusal> {
        let most = many * MOST_EMERGENCY;
        let window = self.emergencies.entry(now, who.to_owned());
        window.take_within(now, MINUTE, most).map_err(|wait| {
            let why = format!("{who} has made {most} emergency calls in this minute");
            spent(why, wait)
        })
    }

    /// Counts one more call of `user` by `route`, if that has a limit.
    ///
    /// # Errors
    /// 503: the calls of this hour were made.
    pub(crate) fn route(
        &mut self,
        now: Instant,
        user: &User,
        route: &Route,
    ) -> Result<(), Refusal> {
        let Some(most) = route.per_user_per_hour else { return Ok(()) };
        if let Some(crowd) = user.crowd() {
            self.route_of(now, &crowd, route, most.saturating_mul(CROWD))?;
        }
        self.route_of(now, &user.name, route, most)
    }

    fn route_of(
        &mut self,
        now: Instant,
        user: &str,
        route: &Route,
        most: u32,
    ) -> Result<(), Refusal> {
        let calls = self.by_route.entry(now, (route.name.clone(), user.to_owned()));
        while calls.front().is_some_and(|at| now.saturating_duration_since(*at) >= HOUR) {
            calls.pop_front();
        }
        if calls.len() >= most as usize {
            let end = calls.front().map_or(now, |first| *first + HOUR);
            let why =
                format!("{user} has made its {most} calls of this hour by route {:?}", route.name);
            return Err(spent(why, end.saturating_duration_since(now)));
        }
        calls.push_back(now);
        Ok(())
    }

    /// Counts one more text of `user`, if it is one's, from `source`.
    ///
    /// # Errors
    /// 503: the texts of this minute were sent.
    pub(crate) fn text(
        &mut self,
        now: Instant,
        user: Option<&str>,
        source: Source,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        let refused = |who: &str, key: &str, most: u32, wait: Duration| {
            let why = format!("{who} has sent its texts of this minute: limits.{key} = {most}");
            Err(spent(why, wait))
        };
        let most = limits.texts_per_minute;
        if let Some(user) = user
            && let Err(wait) = self.texts.entry(now, user.to_owned()).take_within(now, MINUTE, most)
        {
            return refused(user, "texts_per_minute", most, wait);
        }
        let most = limits.texts_per_minute_of_source;
        let who = match &source {
            Source::Address(ip) => network_of(*ip).to_string(),
            Source::Trunk(name) => format!("trunk {name}"),
        };
        let source = match source {
            Source::Address(ip) => Source::Address(network_of(ip)),
            trunk @ Source::Trunk(_) => trunk,
        };
        match self.texts_of_source.entry(now, source).take_within(now, MINUTE, most) {
            Ok(()) => Ok(()),
            Err(wait) => refused(&who, "texts_per_minute_of_source", most, wait),
        }
    }
}

/// The refusal of what was used up, for so long.
fn spent(why: String, wait: Duration) -> Refusal {
    Refusal::new(503, why).code(Code::LIMIT).retry_after(wait.as_secs() as u32 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_or_trunk_passes_no_more_on_than_the_bound() {
        let (now, mut brakes) = (Instant::now(), Brakes::default());
        let mut passed = |who: &str, is_trunk| {
            (0..3_000).filter(|_| brakes.passed_on(now, who, is_trunk).is_ok()).count()
        };
        assert_eq!(passed("ada", false), MOST_PASSED_ON as usize);
        assert_eq!(passed("trunk:far", true), MOST_PASSED_ON_OF_TRUNK as usize);
        assert!(brakes.passed_on(now, "bob", false).is_ok());
        assert!(brakes.passed_on(now + SECOND, "ada", false).is_ok());
    }

    #[test]
    fn a_user_registers_so_often_and_so_many_refusals_are_told() {
        let (now, mut brakes) = (Instant::now(), Brakes::default());
        let registered = (0..500).filter(|_| brakes.registration(now, "ada").is_ok()).count();
        assert_eq!(registered, MOST_REGISTERED as usize);
        assert!(brakes.registration(now, "bob").is_ok());
        assert!(brakes.registration(now + MINUTE, "ada").is_ok());
        let mut told = |who: &str, is_trunk| {
            (0..1_000).filter(|_| brakes.tells_refusal(now, who, is_trunk, None)).count()
        };
        assert_eq!(told("ada", false), MOST_REFUSALS_TOLD as usize);
        assert_eq!(told("trunk t", true), MOST_REFUSALS_TOLD_OF_TRUNK as usize);
        assert_eq!(told("bob", false), MOST_REFUSALS_TOLD as usize);
        // Who may begin more is told of more.
        let told = (0..1_000).filter(|_| brakes.tells_refusal(now, "dialler", false, Some(10)));
        assert_eq!(told.count(), 600);
    }

    #[test]
    fn of_what_a_trunk_begins_others_are_told_so_much() {
        let (now, mut brakes) = (Instant::now(), Brakes::default());
        let mut told =
            |trunk: &str, now| (0..3_000).filter(|_| brakes.tells_begun(now, trunk)).count() as u32;
        assert_eq!([told("one", now), told("two", now)], [MOST_BEGUN_OF_TRUNK; 2]);
        assert_eq!(told("one", now + SECOND), MOST_BEGUN_OF_TRUNK);
    }

    #[test]
    fn a_table_of_counters_is_bounded_and_the_busy_ones_stay() {
        let (start, mut table) = (Instant::now(), Recent::<u32, u32>::new(MINUTE));
        for n in 0..10 * MAX_REMEMBERED as u32 {
            *table.entry(start, n) += 1;
            *table.entry(start, u32::MAX) += 1;
            assert!(table.len() <= MAX_REMEMBERED);
        }
        assert_eq!(*table.entry(start, u32::MAX), 10 * MAX_REMEMBERED as u32);
        table.entry(start + MINUTE, 7);
        table.entry(start + 2 * MINUTE, 8);
        assert!(table.len() <= 2, "what nobody asked for is forgotten");
    }
}
