//! Maps by numbers we gave out ourselves: no peer chooses a key, so the hash need not resist one.

use std::collections::HashMap;

/// A map by id, several times as quick as the standard one.
pub type IdMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
