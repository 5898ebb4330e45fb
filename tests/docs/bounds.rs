//! The page of bounds: src/bounds.toml with the values of the source. A bound that is in one and
//! not in the other fails here, and so does a test that is named and does not exist.

use crate::text_of;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    bound: Vec<Bound>,
    not_a_bound: Vec<Other>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bound {
    group: String,
    /// `file.rs NAME`, below src.
    #[serde(rename = "const")]
    name: Option<String>,
    setting: Option<String>,
    what: String,
    at: String,
    test: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Other {
    #[serde(rename = "const")]
    name: String,
    why: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable").map(|e| e.expect("an entry").path()) {
        if entry.is_dir() && !entry.ends_with("node_modules") {
            rust_files(&entry, out);
        } else if entry.extension().is_some_and(|e| e == "rs") {
            out.push(entry);
        }
    }
}

/// Whether a constant of this name is a bound by its name.
fn is_bound(name: &str) -> bool {
    let ends = ["_LIMIT", "QUEUE", "DEADLINE", "_STALL", "_PER_SOURCE", "_OF_SOURCE"];
    ["MAX_", "MOST", "LONGEST"].iter().any(|start| name.starts_with(start))
        || ends.iter().any(|end| name.ends_with(end))
}

/// Every constant with its value as it is written: `file.rs NAME` to `64 * 1024`.
fn constants() -> BTreeMap<String, String> {
    let src = root().join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut found = BTreeMap::new();
    // Unit tests have constants of their own.
    for file in files.into_iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = text_of(&file);
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let short = file.strip_prefix(&src).expect("within src").display().to_string();
        for line in text.lines().filter(|l| !l.trim_start().starts_with("//")) {
            let Some((_, rest)) = line.split_once("const ") else { continue };
            let Some((name, rest)) = rest.split_once(": ") else { continue };
            let Some((_, value)) = rest.split_once(" = ") else { continue };
            let is_name =
                name.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit());
            if is_name {
                found.insert(format!("{short} {name}"), value.trim_end_matches(';').to_owned());
            }
        }
    }
    found
}

/// `12,000`, `2,097,152`, `10 s`, of a product, a shift or a duration.
fn shown(value: &str) -> String {
    let number = |text: &str| text.trim().replace('_', "").parse::<u64>().ok();
    let product = |text: &str| match text.split_once("<<") {
        Some((a, b)) => Some(number(a)? << number(b)?),
        None => text.split('*').try_fold(1, |all, n| Some(all * number(n)?)),
    };
    let grouped = |n: u64| {
        let digits = n.to_string();
        let mut out = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                out.push(',');
            }
            out.push(digit);
        }
        out
    };
    if let Some((_, rest)) = value.split_once("from_secs(") {
        return format!("{} s", grouped(product(rest.trim_end_matches(')')).expect("a number")));
    }
    product(value).map_or_else(|| panic!("{value} is no number"), grouped)
}

fn table() -> Table {
    toml::from_str(&text_of(root().join("src/bounds.toml"))).expect("as described")
}

/// The whole source, tests among it.
fn sources() -> String {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    rust_files(&root().join("tests"), &mut files);
    files.iter().map(text_of).collect()
}

/// The page.
pub(crate) fn page(made: &str) -> String {
    let (table, values) = (table(), constants());
    let mut out = format!(
        "# Bounds\n\n{made}Whatever one source, connection, user or trunk does, the gateway keeps no more than this, and waits no longer. A source is an IPv4 address, or the /64 of an IPv6 address. The last column names the test that holds the bound.\n"
    );
    let mut groups: Vec<&str> = Vec::new();
    for bound in &table.bound {
        if !groups.contains(&bound.group.as_str()) {
            groups.push(&bound.group);
        }
    }
    let mut group = "";
    for bound in groups.iter().flat_map(|g| table.bound.iter().filter(move |b| b.group == **g)) {
        if bound.group != group {
            group = &bound.group;
            let _ = writeln!(
                out,
                "\n## {group}\n\n| Bound | Value | What happens at it | Test |\n| --- | ---: | --- | --- |"
            );
        }
        let value = match (&bound.name, &bound.setting) {
            (Some(name), None) => {
                shown(values.get(name).unwrap_or_else(|| panic!("{name} is not in the source")))
            }
            (None, Some(setting)) => format!("[`{setting}`](config.md)"),
            _ => panic!("{}: a const or a setting", bound.what),
        };
        let test = bound.test.as_ref().map_or("-".to_owned(), |t| format!("`{t}`"));
        let mut what = bound.what.clone();
        what[..1].make_ascii_uppercase();
        let _ = writeln!(out, "| {what} | {value} | {} | {test} |", bound.at);
    }
    out
}

/// Whatever the table of ASVS names as shown is a test.
#[test]
fn every_requirement_of_asvs_is_shown_by_tests_that_exist() {
    let page = text_of(root().join("src/docs/explanation/asvs.md"));
    let rows: Vec<&str> = page.lines().filter(|l| l.starts_with("| 17.")).collect();
    assert_eq!(rows.len(), 12, "every requirement of the chapter");
    let all = sources();
    for row in rows {
        let shown = row.rsplit(" | ").next().unwrap_or_default();
        let tests: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row}");
        for test in tests {
            assert!(all.contains(&format!("fn {test}(")), "{test} is no test");
        }
    }
}

#[test]
fn every_bound_of_the_source_is_in_the_table_and_every_test_exists() {
    let (table, values) = (table(), constants());
    let named: BTreeSet<&str> = table
        .bound
        .iter()
        .filter_map(|b| b.name.as_deref())
        .chain(table.not_a_bound.iter().map(|o| o.name.as_str()))
        .collect();
    let missing: Vec<&str> = values
        .keys()
        .map(String::as_str)
        .filter(|name| !name.starts_with("cli/") && !named.contains(name))
        .filter(|name| is_bound(name.rsplit(' ').next().unwrap_or_default()))
        .collect();
    assert!(missing.is_empty(), "add these to src/bounds.toml: {missing:#?}");
    let gone: Vec<_> = named.iter().filter(|name| !values.contains_key(**name)).collect();
    assert!(gone.is_empty(), "these are no longer in the source: {gone:#?}");
    assert!(table.not_a_bound.iter().all(|o| !o.why.is_empty()));
    let all = sources();
    for test in table.bound.iter().filter_map(|b| b.test.as_ref()) {
        assert!(all.contains(&format!("fn {test}()")), "there is no test {test}");
    }
    let without: Vec<&str> =
        table.bound.iter().filter(|b| b.test.is_none()).map(|b| b.what.as_str()).collect();
    assert!(without.is_empty(), "no test holds these bounds: {without:#?}");
}

/// What is quoted in this text, in order.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

#[test]
fn the_tests_that_the_scorecard_names_exist_where_it_looks_for_them() {
    let shown = text_of(root().join("interop/hostile/shown.py"));
    let (_, table) = shown.split_once("TESTS = {").expect("the table");
    let (table, _) = table.split_once("\n}").expect("its end");
    let mut within = (String::new(), String::new());
    let mut missing = Vec::new();
    for word in quoted(table) {
        let path = match word {
            "--lib" => root().join("src"),
            _ => root().join("tests").join(word),
        };
        if path.is_dir() {
            let mut files = Vec::new();
            rust_files(&path, &mut files);
            within = (word.to_owned(), files.iter().map(text_of).collect());
            continue;
        }
        let (target, text) = &within;
        let found = match word.strip_suffix("::") {
            Some(module) => text.contains(&format!("mod {module};")),
            None => text.lines().any(|l| l.contains("fn ") && l.contains(word)),
        };
        if !found {
            missing.push(format!("{target}: {word}"));
        }
    }
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}
