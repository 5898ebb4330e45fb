//! The older text format of Prometheus (0.0.4), made of OpenMetrics: counters are named as their
//! samples are, and there are no units, exemplars or end.

use std::collections::HashSet;
use std::fmt::Write as _;

/// The exposition in the older format.
pub(crate) fn plain(open: &str) -> String {
    let counters: HashSet<&str> =
        open.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut out = String::with_capacity(open.len());
    for line in open.lines() {
        let described = line.strip_prefix("# ").and_then(|l| l.split_once(' '));
        let _ = match described {
            Some(("HELP" | "TYPE", rest)) => {
                let word = line.split(' ').nth(1).unwrap_or_default();
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let suffix = if counters.contains(name) { "_total" } else { "" };
                writeln!(out, "# {word} {name}{suffix} {rest}")
            }
            _ if line.starts_with('#') => Ok(()),
            _ => writeln!(out, "{}", line.split(" # {").next().unwrap_or(line)),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_keep_their_suffix_and_what_is_newer_is_left_out() {
        let open = "# HELP a_calls Ended calls.\n# TYPE a_calls counter\na_calls_total{x=\"y\"} 1\n\
                    # HELP a_s Times.\n# TYPE a_s histogram\n# UNIT a_s seconds\n\
                    a_s_bucket{le=\"1.0\"} 1 # {call=\"7f3a\"} 0.5\n# EOF\n";
        let wanted = "# HELP a_calls_total Ended calls.\n# TYPE a_calls_total counter\na_calls_total{x=\"y\"} 1\n\
                      # HELP a_s Times.\n# TYPE a_s histogram\na_s_bucket{le=\"1.0\"} 1\n";
        assert_eq!(plain(open), wanted);
    }
}
