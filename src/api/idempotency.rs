//! What `Idempotency-Key` of POST /calls promises: asked again, the same call.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Calls begun with a key.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    /// The call of each key.
    calls: HashMap<String, String>,
    /// The oldest first.
    order: VecDeque<(Instant, String)>,
}

impl Begun {
    const MOST: usize = 10_000;
    const KEPT: Duration = Duration::from_secs(86_400);

    /// Returns the call that was begun with this key, or `None` if there was none within the last
    /// day.
    pub(crate) fn find(&mut self, now: Instant, key: &str) -> Option<String> {
        let old = |(at, _): &(Instant, String)| now.saturating_duration_since(*at) > Begun::KEPT;
        while self.order.front().is_some_and(old) {
            self.forget_oldest();
        }
        self.calls.get(key).cloned()
    }

    /// Remembers a call by a key that [`find`](Begun::find) does not know.
    pub(crate) fn keep(&mut self, now: Instant, key: String, call: String) {
        if self.order.len() >= Begun::MOST {
            self.forget_oldest();
        }
        self.order.push_back((now, key.clone()));
        self.calls.insert(key, call);
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.calls.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_keys_of_a_day_are_known() {
        let (mut begun, start) = (Begun::default(), Instant::now());
        for n in 0..=Begun::MOST {
            begun.keep(start, format!("key {n}"), format!("call {n}"));
        }
        assert_eq!((begun.order.len(), begun.calls.len()), (Begun::MOST, Begun::MOST));
        assert_eq!(begun.find(start, "key 0"), None, "the oldest made room");
        assert_eq!(begun.find(start, "key 10000").as_deref(), Some("call 10000"));
        assert_eq!(begun.find(start + Begun::KEPT, "key 1").as_deref(), Some("call 1"));
        let later = start + Begun::KEPT + Duration::from_secs(1);
        assert_eq!(begun.find(later, "key 1"), None);
        assert!(begun.order.is_empty() && begun.calls.is_empty());
    }
}
