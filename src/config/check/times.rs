//! Durations that must lie within a range.

use super::Check;
use super::schema::Spanned;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A setting of time: its least, its most, and its default; `None`: off.
#[derive(Clone, Copy)]
pub(super) struct Range {
    /// The shortest that is accepted.
    pub least: Duration,
    /// The longest that is accepted.
    pub most: Duration,
    /// What holds if the setting is missing; `None`: off.
    pub default: Option<Duration>,
}

const fn range(least: u64, most: u64, default: Option<u64>) -> Range {
    let default = match default {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => None,
    };
    Range { least: Duration::from_secs(least), most: Duration::from_secs(most), default }
}

pub(super) const TIMEOUT: Range = range(5, 3_600, Some(30));
pub(super) const HOLD: Range = range(30, 86_400, None);
pub(super) const ASK_EVERY: Range = range(5, 3_600, Some(30));
pub(super) const SESSION_IDLE: Range = range(60, 30 * 86_400, Some(3_600));
pub(super) const SESSION_LONGEST: Range = range(60, 30 * 86_400, Some(12 * 3_600));
pub(super) const ANSWER: Range = range(1, 32, Some(8));
const STOPPED_AFTER: Range = range(1, 300, Some(5));

impl Check {
    /// A time within `range`; the default if it is missing or invalid.
    pub(super) fn time(
        &mut self,
        text: Option<&Spanned<String>>,
        key: &str,
        range: Range,
    ) -> Duration {
        let default = range.default.unwrap_or(range.most);
        let Some(at) = text else { return default };
        let Some(time) = self.duration(text) else { return default };
        if self.is_within(at, key, time, range.least..=range.most) { time } else { default }
    }

    /// A time within these seconds; one that cannot be read is reported by whoever takes it.
    pub(super) fn time_within(
        &mut self,
        at: Option<&Spanned<String>>,
        key: &str,
        range: RangeInclusive<u64>,
    ) {
        let Some(at) = at else { return };
        let Ok(time) = humantime::parse_duration(at.as_ref()) else { return };
        let [least, most] = [*range.start(), *range.end()].map(Duration::from_secs);
        self.is_within(at, key, time, least..=most);
    }

    /// Whether `time`, written at `at`, lies within its range; reported if it does not.
    fn is_within(
        &mut self,
        at: &Spanned<String>,
        key: &str,
        time: Duration,
        range: RangeInclusive<Duration>,
    ) -> bool {
        if range.contains(&time) {
            return true;
        }
        let [least, most] = [*range.start(), *range.end()].map(humantime::format_duration);
        let message = format!("{key} = {:?} is out of range", at.as_ref());
        self.error(at, "config::range", message, format!("use \"{least}\" to \"{most}\""));
        false
    }

    /// As [`time`](Self::time), but "off" is allowed.
    pub(super) fn time_or_off(
        &mut self,
        text: Option<&Spanned<String>>,
        key: &str,
        range: Range,
    ) -> Option<Duration> {
        match text {
            None => range.default,
            Some(at) if at.as_ref() == "off" => None,
            Some(_) => Some(self.time(text, key, range)),
        }
    }

    /// When a trunk's media has stopped.
    pub(super) fn stopped_after(
        &mut self,
        text: Option<&Spanned<String>>,
        key: &str,
    ) -> Option<Duration> {
        self.time_or_off(text, key, STOPPED_AFTER)
    }
}
