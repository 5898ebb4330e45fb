//! Names a dialplan may use, and how they are listed for somebody who used another.

use crate::config::{TrunkTable, Users, schema};
use std::collections::BTreeSet;

/// Most names of one kind that are listed.
const LISTED: usize = 20;
/// Most names that are searched for what was meant: each mistake costs a comparison with all.
const COMPARED: usize = 2_000;

/// The users and trunks there are.
pub(super) struct Names {
    /// The users.
    pub(super) users: KnownNames,
    /// The trunks.
    pub(super) trunks: KnownNames,
}

/// The names of one kind: of a file that is being read, or of a configuration in force, of which
/// nothing is copied.
pub(super) enum KnownNames {
    Read(BTreeSet<String>),
    Users(Users),
    Trunks(TrunkTable),
}

impl Names {
    pub(super) fn of(file: &schema::File) -> Names {
        Names {
            users: KnownNames::Read(file.user.keys().cloned().collect()),
            trunks: KnownNames::Read(file.trunk.keys().cloned().collect()),
        }
    }
}

impl KnownNames {
    pub(super) fn contains(&self, name: &str) -> bool {
        match self {
            KnownNames::Read(names) => names.contains(name),
            KnownNames::Users(users) => users.contains_key(name),
            KnownNames::Trunks(trunks) => trunks.contains_key(name),
        }
    }

    /// The first names, as many as are compared with one that was not found.
    pub(super) fn first(&self) -> Vec<&str> {
        match self {
            KnownNames::Read(names) => names.iter().take(COMPARED).map(String::as_str).collect(),
            KnownNames::Users(users) => users.keys().take(COMPARED).map(String::as_str).collect(),
            KnownNames::Trunks(trunks) => {
                trunks.keys().take(COMPARED).map(String::as_str).collect()
            }
        }
    }
}

/// What was probably meant: at most two slips away, and not a wholly different word.
pub(super) fn suggestion(name: &str, known: &[&str]) -> String {
    let slips = |k: &&&str| strsim::osa_distance(k, name);
    let best = known
        .iter()
        .take(COMPARED)
        .min_by_key(slips)
        .filter(|k| slips(k) <= 2 && slips(k) < name.len().max(2) - 1);
    best.map(|b| format!("did you mean {b:?}? ")).unwrap_or_default()
}

/// Names with commas; of many the first.
pub(super) fn first_names(names: &[&str]) -> String {
    let first = names.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    if names.len() > LISTED { format!("{first}, …") } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_among_many_names_is_compared_with_some_and_lists_few() {
        let all: BTreeSet<String> = (0..100_000).map(|n| format!("u{n:06}")).collect();
        let known = KnownNames::Read(all);
        assert!(known.contains("u099999") && !known.contains("u1"));
        let first = known.first();
        assert_eq!(first.len(), COMPARED);
        assert_eq!(suggestion("u00000", &first), "did you mean \"u000000\"? ");
        assert_eq!(first_names(&first).split(", ").count(), LISTED + 1);
        assert_eq!(first_names(&["a", "b"]), "a, b");
    }
}
