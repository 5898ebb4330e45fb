//! The limit on log lines that somebody outside can cause: of each class one in ten seconds, and
//! how many more there were. A flood of requests must not become a flood of lines.

use crate::errors::Code;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// Time within which a line of a class is written once.
pub(crate) const EVERY: Duration = Duration::from_secs(10);
/// Classes that are distinguished by subject; beyond it, by their text only.
const MAX_CLASSES: usize = 1_000;

/// How loud a line is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// What a line is one of.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct LineClass {
    /// In words, as in "1,204 more like this: logins refused".
    pub(crate) what: &'static str,
    /// The error code of the line.
    pub(crate) code: Code,
    /// The subject, if each is to be reported separately: a user, a trunk.
    pub(crate) of: Option<String>,
}

impl LineClass {
    /// A class that is the same whoever causes it.
    pub(crate) fn new(what: &'static str, code: Code) -> LineClass {
        LineClass { what, code, of: None }
    }

    /// A class for each of those who have proved who they are.
    pub(crate) fn of(what: &'static str, code: Code, whom: &str) -> LineClass {
        LineClass { what, code, of: Some(whom.to_owned()) }
    }
}

/// Lines that were held back, in one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HeldBack {
    /// What they have in common.
    pub(crate) class: LineClass,
    /// How many lines were held back.
    pub(crate) lines: u64,
}

#[derive(Debug)]
struct LimitWindow {
    until: Instant,
    held_back: u64,
}

/// Which lines were written lately.
#[derive(Default, Debug)]
pub(crate) struct LogLimit {
    windows: HashMap<LineClass, LimitWindow>,
}

impl LogLimit {
    /// Returns whether a line of this class may be written now; if not, it is counted.
    pub(crate) fn admit(&mut self, now: Instant, class: LineClass) -> bool {
        let class = self.class_with_room(class, |w| w.until > now || w.held_back > 0);
        let next = LimitWindow { until: now + EVERY, held_back: 0 };
        match self.windows.get_mut(&class) {
            // What was held back comes first, in a line of its own.
            Some(window) if window.until > now || window.held_back > 0 => {
                window.held_back += 1;
                false
            }
            Some(window) => {
                *window = next;
                true
            }
            None => {
                self.windows.insert(class, next);
                true
            }
        }
    }

    /// Classes in the table.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.windows.len()
    }

    /// As [`admit`](Self::admit), for callers that do not ask what is due: what is admitted takes
    /// the count of what was held back before it along.
    pub(crate) fn admit_with_count(&mut self, now: Instant, class: LineClass) -> Option<u64> {
        let class = self.class_with_room(class, |w| w.until > now);
        let window = self.windows.entry(class).or_insert(LimitWindow { until: now, held_back: 0 });
        if window.until > now {
            window.held_back += 1;
            return None;
        }
        window.until = now + EVERY;
        Some(std::mem::take(&mut window.held_back))
    }

    /// Makes room for a new class in a full table, by dropping what need not be kept; returns the
    /// class without its subject if there is none.
    fn class_with_room(
        &mut self,
        class: LineClass,
        keep: impl Fn(&LimitWindow) -> bool,
    ) -> LineClass {
        if self.windows.len() < MAX_CLASSES || self.windows.contains_key(&class) {
            return class;
        }
        self.windows.retain(|_, window| keep(window));
        if self.windows.len() < MAX_CLASSES { class } else { LineClass { of: None, ..class } }
    }

    /// Returns what was held back and is due; each is a line of its class.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<HeldBack> {
        let mut tally = Vec::new();
        self.windows.retain(|class, window| {
            if window.until > now {
                return true;
            }
            let lines = std::mem::take(&mut window.held_back);
            window.until = now + EVERY;
            if lines > 0 {
                tally.push(HeldBack { class: class.clone(), lines });
            }
            lines > 0
        });
        tally
    }
}

/// The limit of this process, as its log is.
static LIMIT: LazyLock<Mutex<LogLimit>> = LazyLock::new(Mutex::default);

/// Returns whether a line of this class may be written now.
pub(crate) fn admit(class: LineClass) -> bool {
    LIMIT.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now(), class)
}

/// Writes a line of this class, if one may be written now; nothing is formatted that is not
/// written.
pub(crate) fn tell(level: Level, class: LineClass, line: impl FnOnce() -> String) {
    let code = class.code;
    if admit(class) {
        write(level, code, &line());
    }
}

/// Writes how much was held back, if its time is over.
pub(crate) fn tell_held_back() {
    let due = LIMIT.lock().unwrap_or_else(PoisonError::into_inner).due(Instant::now());
    for HeldBack { class, lines } in due {
        let of = class.of.map(|of| format!(" of {of}")).unwrap_or_default();
        let text = format!("{lines} more in {} s: {}{of}", EVERY.as_secs(), class.what);
        write(if class.code.is_fault() { Level::Warn } else { Level::Info }, class.code, &text);
    }
}

/// Writes a line with its code and the fix that the registry has for it.
fn write(level: Level, code: Code, line: &str) {
    let fix = code.entry().map(|e| e.fix.as_str());
    let code = code.is_fault().then(|| code.to_string());
    match level {
        Level::Debug => tracing::debug!("{line}"),
        Level::Info => info!(code, "{line}"),
        Level::Warn => warn!(code, fix, "{line}"),
        Level::Error => error!(code, fix, "{line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class() -> LineClass {
        LineClass::new("logins refused", Code::LOGIN_REFUSED)
    }

    /// Lines of a flood of `count` in `time`, and how many they account for.
    fn flood(count: u64, time: Duration, class: impl Fn(u64) -> LineClass) -> (u64, u64) {
        let (mut limit, began) = (LogLimit::default(), Instant::now());
        let (mut lines, mut tally) = (0, 0);
        for n in 0..count {
            let now = began + time.mul_f64(n as f64 / count as f64);
            for held in limit.due(now) {
                (lines, tally) = (lines + 1, tally + held.lines);
            }
            if limit.admit(now, class(n)) {
                (lines, tally) = (lines + 1, tally + 1);
            }
            assert!(limit.windows.len() <= MAX_CLASSES + 1);
        }
        for held in limit.due(began + time + EVERY) {
            (lines, tally) = (lines + 1, tally + held.lines);
        }
        assert!(limit.due(began + time + 2 * EVERY).is_empty() && limit.windows.is_empty());
        (lines, tally)
    }

    #[test]
    fn a_flood_is_one_line_in_ten_seconds_and_every_one_is_counted() {
        assert_eq!(flood(60_000, Duration::from_secs(1), |_| class()), (2, 60_000));
        let (lines, tally) = flood(60_000, Duration::from_secs(60), |_| class());
        assert!((6..=8).contains(&lines) && tally == 60_000, "{lines} lines of {tally}");
    }

    #[test]
    fn who_varies_a_name_gets_no_more_lines_than_there_are_classes() {
        let (lines, tally) = flood(60_000, Duration::from_secs(5), |n| {
            LineClass::of("registered", Code::FINE, &n.to_string())
        });
        assert!(lines <= 1_002 && tally == 60_000, "{lines} lines of {tally}");
    }

    #[test]
    fn one_kind_is_not_held_back_by_another() {
        let (mut limit, now) = (LogLimit::default(), Instant::now());
        assert!(limit.admit(now, class()) && !limit.admit(now, class()));
        assert!(limit.admit(now, LineClass::new("logins refused", Code::LOCKED_OUT)));
        assert!(limit.admit(now, LineClass::of("registered", Code::FINE, "alice")));
        assert!(limit.admit(now, LineClass::of("registered", Code::FINE, "bob")));
        let tally = limit.due(now + EVERY);
        assert_eq!(tally, [HeldBack { class: class(), lines: 1 }]);
        assert!(!limit.admit(now + EVERY, class()), "that was its line");
    }
}
