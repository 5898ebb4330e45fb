//! /metrics read strictly, as OpenMetrics 1.0 and the older text format of Prometheus say.

use crate::server::Server;
use crate::trunk::Trunk;
use std::collections::{BTreeMap, BTreeSet};

/// A family of metrics.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: Option<String>,
    unit: Option<String>,
    samples: usize,
}

/// The samples a family of this type may have.
fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind {
        "gauge" => &[""],
        "counter" => &["_total", "_created"],
        "histogram" => &["_bucket", "_count", "_sum", "_created"],
        other => panic!("a type we have not: {other}"),
    }
}

fn is_name(text: &str, colons: bool) -> bool {
    let first = text.chars().next();
    first.is_some_and(|c| !c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':'))
}

/// `{a="b",…}` at the beginning of `text`: the labels, and what follows.
fn labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut found = BTreeMap::new();
    let Some(mut rest) = text.strip_prefix('{') else { return (found, text) };
    while !rest.starts_with('}') {
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("labels: {text}"));
        assert!(is_name(name, false), "a label: {name:?}");
        let mut value_of = String::new();
        let mut chars = value.char_indices();
        let end = loop {
            match chars.next() {
                Some((at, '"')) => break at,
                Some((_, '\\')) => match chars.next() {
                    Some((_, 'n')) => value_of.push('\n'),
                    Some((_, c @ ('"' | '\\'))) => value_of.push(c),
                    odd => panic!("an escape there is not: {odd:?}"),
                },
                Some((_, c)) => value_of.push(c),
                None => panic!("a value without an end: {text}"),
            }
        };
        assert!(found.insert(name.to_owned(), value_of).is_none(), "{name} twice: {text}");
        rest = &value[end + 1..];
        rest = match rest.strip_prefix(',') {
            Some(more) if !more.starts_with('}') => more,
            None if rest.starts_with('}') => rest,
            _ => panic!("labels: {text}"),
        };
    }
    (found, &rest[1..])
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        plain => plain.parse().unwrap_or_else(|_| panic!("no number: {plain:?}")),
    }
}

/// Buckets of one histogram: they grow, and end with +Inf, which is the count.
#[derive(Debug, Default)]
struct Histogram {
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: bool,
}

#[derive(Default)]
struct Reader {
    families: BTreeMap<String, Family>,
    current: String,
    series: BTreeSet<(String, BTreeMap<String, String>)>,
    histograms: BTreeMap<(String, BTreeMap<String, String>), Histogram>,
    /// The older format: counters are named with their suffix, and have no exemplars.
    plain: bool,
}

impl Reader {
    fn family(&mut self, name: &str) -> &mut Family {
        assert!(is_name(name, true), "a name: {name:?}");
        if self.current != name {
            assert!(!self.families.contains_key(name), "{name} is not in one piece, or twice");
            name.clone_into(&mut self.current);
        }
        let family = self.families.entry(name.to_owned()).or_default();
        assert_eq!(family.samples, 0, "{name} is described after its samples");
        family
    }

    fn described(&mut self, line: &str) {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("{line}")).to_owned();
        let (what, name, rest) = (word(), word(), word());
        let family = self.family(&name);
        match what.as_str() {
            "TYPE" => {
                assert!(family.kind.is_empty(), "two types: {line}");
                suffixes(&rest);
                family.kind = rest;
            }
            "HELP" => {
                assert!(family.help.is_none() && !rest.is_empty(), "{line}");
                family.help = Some(rest);
            }
            "UNIT" => {
                assert!(name.ends_with(&format!("_{rest}")), "the name ends with its unit: {line}");
                family.unit = Some(rest);
            }
            odd => panic!("# {odd} is nothing"),
        }
    }

    fn sample(&mut self, line: &str) {
        let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("{line}"));
        let (name, rest) = line.split_at(end);
        let family = self.families.get_mut(&self.current).expect("described first");
        assert!(!family.kind.is_empty() && family.help.is_some(), "not described: {line}");
        let stem = if self.plain && family.kind == "counter" {
            self.current.strip_suffix("_total").unwrap_or_else(|| panic!("a counter: {line}"))
        } else {
            &self.current
        };
        let suffix = name.strip_prefix(stem).unwrap_or_else(|| panic!("whose is it? {line}"));
        assert!(
            suffixes(&family.kind).contains(&suffix),
            "{} has no {suffix}: {line}",
            family.kind
        );
        family.samples += 1;
        let kind = family.kind.clone();
        let (mut labels_of, rest) = labels(rest);
        let rest = rest.strip_prefix(' ').unwrap_or_else(|| panic!("one space: {line}"));
        assert!(self.series.insert((name.to_owned(), labels_of.clone())), "twice: {line}");
        let (value, exemplar) = match rest.split_once(" # ") {
            Some((value, exemplar)) => (value, Some(exemplar)),
            None => (rest, None),
        };
        let value = number(value);
        assert!(kind == "gauge" || value >= 0.0, "{line}");
        if let Some(exemplar) = exemplar {
            assert!(!self.plain && matches!(suffix, "_bucket" | "_total"), "no exemplar: {line}");
            let (labels_of, rest) = labels(exemplar);
            let length: usize = labels_of.iter().map(|(n, v)| n.len() + v.chars().count()).sum();
            assert!(length <= 128, "{line}");
            rest.trim_start().split(' ').for_each(|n| assert!(!number(n).is_nan()));
        }
        if kind == "histogram" {
            let bound = labels_of.remove("le");
            let key = (self.current.clone(), labels_of);
            let histogram = self.histograms.entry(key).or_default();
            match (suffix, bound) {
                ("_bucket", Some(bound)) => histogram.buckets.push((number(&bound), value)),
                ("_count", None) => histogram.count = Some(value),
                ("_sum", None) => histogram.sum = true,
                _ => panic!("{line}"),
            }
        }
    }

    /// Reads an exposition.
    fn read(text: &str, plain: bool) -> Reader {
        let mut reader = Reader { plain, ..Reader::default() };
        let body = match (plain, text.strip_suffix("# EOF\n")) {
            (false, Some(body)) => body,
            (false, None) => panic!("it does not end with # EOF"),
            (true, None) => text,
            (true, Some(_)) => panic!("the older format has no end"),
        };
        assert!(body.ends_with('\n') && !body.contains('\r'));
        for line in body.lines() {
            assert!(!line.is_empty() && line.trim() == line, "a line: {line:?}");
            match line.strip_prefix("# ") {
                Some(described) => reader.described(described),
                None => reader.sample(line),
            }
        }
        for ((name, labels), histogram) in &reader.histograms {
            let grows = histogram.buckets.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1);
            let last = histogram.buckets.last().copied();
            assert!(grows, "{name} {labels:?}: {histogram:?}");
            assert_eq!(last, histogram.count.map(|n| (f64::INFINITY, n)), "{name} {labels:?}");
            assert!(histogram.sum, "{name} {labels:?} has no sum");
        }
        // The older format names a histogram's samples too: they are no family of their own.
        let names: Vec<&String> = reader.families.keys().collect();
        for name in &names {
            for (of, family) in &reader.families {
                let own = suffixes(&family.kind).iter().any(|s| **name == format!("{of}{s}"));
                assert!(*name == of || !own, "{name} is a sample of {of}");
            }
        }
        reader
    }
}

#[test]
fn metrics_are_openmetrics_to_the_letter_in_both_formats() {
    let routes = "[[route]]\nname = \"Busy\"\nmatch = \"801\"\ndo = [{ hangup = 486 }]\n\
                  [[route]]\nname = \"Lost\"\nmatch = \"802\"\ndo = [{ dial = [\"trunk:z-gone\"], timeout = \"2s\" }]\n";
    let server = Server::start_with(
        "[trunk.z-gone]\nuri = \"sip:127.0.0.1:1;transport=tls\"\n",
        "url = \"https://192.0.2.1/x\", secret = \"0123456789abcdef\"",
        routes,
        &crate::shop::Shop::open(),
    );
    let mut trunk = Trunk::new(&server);
    trunk.call("9196");
    trunk.hang_up();
    assert_eq!(trunk.invite("777"), 404);
    assert_eq!(trunk.invite("801"), 486);
    assert!(trunk.invite("802") >= 400);
    let good = ["call", "9196", "--as", "alice", "--password", "secret-a", "--for", "3s"];
    assert_eq!(server.run(&good).code, 0);
    let wrong = ["call", "9196", "--as", "alice", "--password", "wrong", "--for", "1s"];
    assert_ne!(server.run(&wrong).code, 0);
    server.counts(&["webtrunk_calls_total{direction=\"outbound\"", "webtrunk_active_calls 0"]);
    // As Prometheus asks since 2.49, and as it did before there was OpenMetrics.
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for (accept, wanted, is_plain) in [
        (prometheus, "application/openmetrics-text; version=1.0.0; charset=utf-8", false),
        (
            "application/openmetrics-text",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            false,
        ),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8", true),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", true),
    ] {
        let answer = server.metrics_as(accept);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        assert!(head.contains(&format!("content-type: {wanted}")), "{accept}: {head}");
        let read = Reader::read(body, is_plain);
        let silent: Vec<&String> =
            read.families.iter().filter(|(_, f)| f.kind.is_empty()).map(|(n, _)| n).collect();
        assert!(silent.is_empty() && read.families.len() > 40, "{silent:?}");
        let exemplars = body.matches(" # {call=\"").count();
        assert_eq!(exemplars == 0, is_plain, "from a graph to its ladder");
    }
}

#[test]
fn what_is_not_openmetrics_is_found() {
    let fine = "# HELP a_calls Calls.\n# TYPE a_calls counter\na_calls_total{x=\"\\\"\\\\\\n\"} 1\n# EOF\n";
    Reader::read(fine, false);
    for wrong in [
        fine.replace("# EOF\n", ""),
        fine.replace("_total", ""),
        fine.replace("\\n", "\\t"),
        fine.replace("# HELP a_calls Calls.\n", ""),
        fine.replace("# EOF", "a_calls_total{x=\"\\\"\\\\\\n\"} 2\n# EOF"),
        fine.replace("# EOF", "# TYPE a_calls gauge\n# EOF"),
        fine.replace("# TYPE a_calls counter", "# TYPE a_calls counter\n# UNIT a_calls seconds"),
        fine.replace(" 1\n", " one\n"),
        fine.replace(" 1\n", " -1\n"),
        fine.replace(" 1\n", "  1\n"),
    ] {
        assert_ne!(wrong, fine);
        let read = std::panic::catch_unwind(|| Reader::read(&wrong, false));
        assert!(read.is_err(), "{wrong}");
    }
}
