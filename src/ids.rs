//! Numbers we gave out ourselves, and maps by them: no peer chooses a key, so the hash need not
//! resist one.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::ops::{Bound, RangeInclusive};
use std::time::Instant;

/// A map by id, several times as quick as the standard one.
pub(crate) type IdMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A call of this node; shown as 8 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct CallId(pub u64);

/// The place of a call among others: when it began, and its number.
pub(crate) type CallKey = (Instant, CallId);

/// The range of what began before `key`, or of everything.
pub(crate) fn before(key: Option<CallKey>) -> (Bound<CallKey>, Bound<CallKey>) {
    (Bound::Unbounded, key.map_or(Bound::Unbounded, Bound::Excluded))
}

/// Notes that an entry of a table was looked at, for tests that nothing looks at all for one.
#[inline]
pub(crate) fn looked_at() {
    #[cfg(test)]
    LOOKED_AT.set(LOOKED_AT.get() + 1);
}

#[cfg(test)]
thread_local! {
    /// Entries this thread has looked at.
    pub(crate) static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl CallId {
    /// The calls that are shown with this beginning, of at least four digits.
    pub(crate) fn beginning_with(text: &str) -> Option<RangeInclusive<CallId>> {
        let digits = text.len();
        if !(4..=8).contains(&digits) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let shift = 64 - 4 * digits;
        let first = u64::from_str_radix(text, 16).ok()? << shift;
        Some(CallId(first)..=CallId(first | ((1 << shift) - 1)))
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 32)
    }
}
