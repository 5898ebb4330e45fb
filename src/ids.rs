//! Numbers we gave out ourselves, and maps by them: no peer chooses a key, so the hash need not
//! resist one.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;

/// A map by id, several times as quick as the standard one.
pub(crate) type IdMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A call of this node; shown as 8 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct CallId(pub u64);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 32)
    }
}
