//! Which earlier routes can take a route's numbers: those whose patterns begin alike.
//!
//! Two patterns that share a number begin with the same digits, as far as both are digits. So a
//! route is compared with the few that are filed under a beginning of its own, or under a longer
//! one, and a plan of ten thousand numbers takes ten times as long as one of a thousand.

use crate::dialplan::Pattern;
use std::collections::{BTreeMap, BTreeSet};

/// Routes by the digits their patterns begin with.
#[derive(Default)]
pub(super) struct Rivals(BTreeMap<String, Vec<usize>>);

impl Rivals {
    /// Route number `route` has this pattern.
    pub(super) fn file(&mut self, pattern: &Pattern, route: usize) {
        let routes = self.0.entry(beginning(pattern)).or_default();
        if routes.last() != Some(&route) {
            routes.push(route);
        }
    }

    /// The routes that may share a number with `pattern`, in order.
    pub(super) fn of(&self, pattern: &Pattern) -> BTreeSet<usize> {
        let own = beginning(pattern);
        let shorter = (0..own.len()).filter_map(|n| self.0.get(own.get(..n)?));
        let longer = self.0.range(own.clone()..).take_while(|(b, _)| b.starts_with(&own));
        shorter.chain(longer.map(|(_, routes)| routes)).flatten().copied().collect()
    }
}

/// What a pattern begins with before its first letter, set or dot.
fn beginning(pattern: &Pattern) -> String {
    let text = pattern.to_string();
    text.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '+' | '*' | '#')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_patterns_that_begin_alike_are_rivals() {
        let texts = ["+1555X.", "+1556", "911", ".", "+1NXX", "[2-3]00", "+15"];
        let patterns = texts.map(|t| Pattern::parse(t).expect("sound"));
        let mut rivals = Rivals::default();
        patterns.iter().enumerate().for_each(|(n, p)| rivals.file(p, n));
        for (pattern, found) in patterns.iter().zip(&texts) {
            let of = rivals.of(pattern);
            for (n, other) in patterns.iter().enumerate() {
                assert!(!other.meets(pattern) || of.contains(&n), "{found} and {other}");
            }
        }
        assert_eq!(rivals.of(&patterns[2]).into_iter().collect::<Vec<_>>(), [2, 3, 5]);
    }
}
