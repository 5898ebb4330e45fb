//! The brake on toll fraud: what the calls of one user to trunks may come to in an hour, and where
//! they may go outside business hours.
//!
//! A stolen password is worth what can be called with it before somebody looks. The brake looks at
//! once, whatever leads a call to a trunk: dialling, a transfer, a redirection or a `goto`.

use crate::brakes::Recent;
use crate::config::FraudLimits;
use crate::dialplan::{Route, country_of};
use crate::errors::Code;
use crate::ids::{CallId, IdMap};
use crate::sip::status::Refusal;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a destination that was called in business hours is a usual one.
const USUAL: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Countries remembered of one user.
const MAX_COUNTRIES: usize = 32;
/// Minutes of the window.
const HOUR: u64 = 60;

/// What one user spent.
#[derive(Debug, Default)]
struct Spent {
    /// Calls and seconds talked by minute, the oldest first.
    minutes: VecDeque<(u64, u32, u64)>,
    countries: Vec<Visited>,
    running: Vec<CallId>,
    /// When its brake was last reported.
    reported_at: Option<u64>,
}

/// When a country was last called.
#[derive(Debug)]
struct Visited {
    country: String,
    last: u64,
    /// In business hours.
    in_hours: Option<u64>,
}

/// A call that may cost something.
#[derive(Debug)]
struct RunningCall {
    user: String,
    number: String,
    answered: Option<Instant>,
}

/// Where a call or a text goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DialledNumber<'a> {
    /// The number, in E.164 if it can be read so.
    pub(crate) number: &'a str,
    /// The dialplan names this very number: its author allows it at any hour, so it counts as none
    /// abroad. A page's visitors, who have no past, reach it at night.
    pub(crate) spelled: bool,
}

impl<'a> DialledNumber<'a> {
    /// `number`, as `route` takes it.
    pub(crate) fn of(route: Option<&Route>, number: &'a str) -> DialledNumber<'a> {
        DialledNumber { number, spelled: route.is_some_and(|route| route.spells(number)) }
    }
}

/// A call or a text that is about to go to a trunk.
#[derive(Debug)]
pub(crate) struct Expense<'a> {
    /// Nothing for a text.
    pub(crate) call: Option<CallId>,
    /// Who pays for it.
    pub(crate) user: &'a str,
    /// Where it goes.
    pub(crate) to: DialledNumber<'a>,
    /// Countries that are home to the user, besides those of the settings.
    pub(crate) home: Vec<String>,
    /// Seconds since 1970.
    pub(crate) unix: u64,
}

/// Why a call may not go to a trunk.
#[derive(Debug)]
pub(crate) struct Tripped {
    /// What the caller is sent.
    pub(crate) why: Refusal,
    /// Whether nothing was reported within the hour.
    pub(crate) news: bool,
}

/// The brake of a node.
#[derive(Debug)]
pub(crate) struct FraudBrake {
    users: Recent<String, Spent>,
    running: IdMap<CallId, RunningCall>,
}

impl Default for FraudBrake {
    fn default() -> FraudBrake {
        FraudBrake { users: Recent::new(USUAL), running: IdMap::default() }
    }
}

impl Spent {
    /// Forgets what is older than an hour.
    fn forget(&mut self, minute: u64) {
        while self.minutes.front().is_some_and(|(at, ..)| at + HOUR <= minute) {
            self.minutes.pop_front();
        }
    }

    /// The entry of this minute.
    fn this(&mut self, minute: u64) -> &mut (u64, u32, u64) {
        if self.minutes.back().is_none_or(|(at, ..)| *at != minute) {
            self.minutes.push_back((minute, 0, 0));
        }
        self.minutes.back_mut().expect("just pushed")
    }

    /// Notes that a country is called.
    fn visit(&mut self, country: String, minute: u64, in_hours: bool) {
        let known = self.countries.iter_mut().find(|v| v.country == country);
        let in_hours = in_hours.then_some(minute);
        match known {
            Some(visited) => {
                visited.last = minute;
                visited.in_hours = in_hours.or(visited.in_hours);
            }
            None => {
                if self.countries.len() >= MAX_COUNTRIES
                    && let Some(oldest) =
                        (0..self.countries.len()).min_by_key(|n| self.countries[*n].last)
                {
                    self.countries.swap_remove(oldest);
                }
                self.countries.push(Visited { country, last: minute, in_hours });
            }
        }
    }

    /// The first rule of `limits` that a call to `abroad`, if it is one, breaks: its words, and in
    /// how many minutes it may be tried again.
    fn broken(
        &self,
        (minute, talked): (u64, u64),
        abroad: Option<&str>,
        open: bool,
        limits: &FraudLimits,
    ) -> Option<(String, u64)> {
        let wait = self.minutes.front().map_or(HOUR, |(at, ..)| (at + HOUR).saturating_sub(minute));
        let calls: u64 = self.minutes.iter().map(|(_, calls, _)| u64::from(*calls)).sum();
        if calls >= u64::from(limits.calls_per_hour) {
            return Some((format!("fraud.calls_per_hour = {}", limits.calls_per_hour), wait));
        }
        let ended: u64 = self.minutes.iter().map(|(_, _, seconds)| seconds).sum();
        if ended + talked >= 60 * u64::from(limits.minutes_per_hour) {
            return Some((format!("fraud.minutes_per_hour = {}", limits.minutes_per_hour), wait));
        }
        let abroad = abroad?;
        let recent = |v: &&Visited| v.last + HOUR > minute;
        let visited = self.countries.iter().find(|v| v.country == abroad);
        if visited.filter(recent).is_none()
            && self.countries.iter().filter(recent).count() >= limits.countries_per_hour as usize
        {
            let first = self.countries.iter().filter(recent).map(|v| v.last).min().unwrap_or(0);
            let why = format!(
                "fraud.countries_per_hour = {}, and {abroad} is one more",
                limits.countries_per_hour
            );
            return Some((why, (first + HOUR).saturating_sub(minute)));
        }
        let usual = |at: u64| at + USUAL.as_secs() / 60 > minute;
        if !open && !visited.and_then(|v| v.in_hours).is_some_and(usual) {
            let why =
                format!("fraud.hours are over, and the user has not called {abroad} within them");
            return Some((why, HOUR));
        }
        None
    }
}

impl FraudBrake {
    /// Counts a call that goes to a trunk; once for each number, however many trunks are tried.
    ///
    /// # Errors
    /// A rule of `limits` is broken.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        expense: &Expense<'_>,
        limits: &FraudLimits,
    ) -> Result<(), Tripped> {
        let Expense { call, user, to: DialledNumber { number, spelled }, ref home, unix } =
            *expense;
        let before = call.and_then(|call| self.running.get(&call));
        if before.is_some_and(|r| r.number == number && r.user == user) {
            return Ok(());
        }
        let (minute, open) = (unix / 60, limits.hours.as_ref().is_none_or(|h| h.is_open(unix)));
        let is_home = |country: &String| home.contains(country) || limits.home.contains(country);
        let abroad = country_of(number).filter(|country| !spelled && !is_home(country));
        let spent = self.users.entry(now, user.to_owned());
        spent.forget(minute);
        let talked = |id: &CallId| {
            let since = self.running.get(id).and_then(|r| r.answered)?;
            Some(now.saturating_duration_since(since).as_secs().min(60 * HOUR))
        };
        let talked: u64 = spent.running.iter().filter_map(talked).sum();
        if let Some((rule, wait)) = spent.broken((minute, talked), abroad.as_deref(), open, limits)
        {
            let news = spent.reported_at.is_none_or(|reported_at| reported_at + HOUR <= minute);
            if news {
                spent.reported_at = Some(minute);
            }
            let why = Refusal::new(403, format!("the brake on toll fraud holds {user}: {rule}"))
                .code(Code::FRAUD)
                .retry_after(60 * wait.clamp(1, HOUR) as u32);
            return Err(Tripped { why, news });
        }
        spent.this(minute).1 += 1;
        if let Some(country) = abroad {
            spent.visit(country, minute, open);
        }
        let Some(call) = call else { return Ok(()) };
        if !spent.running.contains(&call) {
            spent.running.push(call);
        }
        let answered = before.and_then(|r| r.answered);
        let running = RunningCall { user: user.to_owned(), number: number.to_owned(), answered };
        if let Some(before) = self.running.insert(call, running)
            && before.user != user
        {
            self.users.entry(now, before.user).running.retain(|id| *id != call);
        }
        Ok(())
    }

    /// A call was answered.
    pub(crate) fn answered(&mut self, call: CallId, at: Instant) {
        if let Some(running) = self.running.get_mut(&call) {
            running.answered.get_or_insert(at);
        }
    }

    /// A call has ended, at `unix` seconds since 1970.
    pub(crate) fn ended(&mut self, call: CallId, now: Instant, unix: u64) {
        let Some(running) = self.running.remove(&call) else { return };
        let talked = running.answered.map_or(0, |at| now.saturating_duration_since(at).as_secs());
        let spent = self.users.entry(now, running.user);
        spent.running.retain(|id| *id != call);
        spent.forget(unix / 60);
        if talked > 0 {
            spent.this(unix / 60).2 += talked.min(60 * HOUR);
        }
    }

    /// Returns how many calls are on its list.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_remembered_by_the_minute_and_by_so_many_countries() {
        let mut spent = Spent::default();
        for minute in 0..10_000 {
            spent.forget(minute);
            spent.this(minute).1 += 1;
            spent.visit(format!("+{minute}"), minute, true);
            assert!(spent.minutes.len() <= HOUR as usize);
            assert!(spent.countries.len() <= MAX_COUNTRIES);
        }
        assert!(spent.countries.iter().any(|v| v.country == "+9999"), "the newest stay");
    }
}
