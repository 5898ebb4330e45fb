//! Durations that must lie within a range.

use super::Check;
use super::schema::Spanned;
use std::time::Duration;

/// A setting of time: its least, its most, and its default; `None`: off.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub least: Duration,
    pub most: Duration,
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
    /// A time within `range`; the default where it is none.
    pub(super) fn time(
        &mut self,
        text: Option<&Spanned<String>>,
        key: &str,
        range: Range,
    ) -> Duration {
        let default = range.default.unwrap_or(range.most);
        let Some(at) = text else { return default };
        let Some(time) = self.duration(text) else { return default };
        if (range.least..=range.most).contains(&time) {
            return time;
        }
        let [least, most] = [range.least, range.most].map(humantime::format_duration);
        self.error(
            at,
            "config::duration",
            format!("{key} = {:?} is not within {least} to {most}", at.as_ref()),
            format!("write a time from \"{least}\" to \"{most}\""),
        );
        default
    }

    /// As [`time`](Self::time), where "off" may stand.
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
