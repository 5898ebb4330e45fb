//! What is conformant, and which test shows it: `interop/CONFORMANCE.md` is written from
//! `tests/conformance/requirements.txt`, and no row may name a test that does not exist.
//! `WEBTRUNK_BLESS=1` writes the table anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable").map(|e| e.expect("an entry").path()) {
        if entry.is_dir() {
            if !["node_modules", "target", "fuzz", "corpus"].iter().any(|n| entry.ends_with(n)) {
                rust_files(&entry, out);
            }
        } else if entry.extension().is_some_and(|e| e == "rs") {
            out.push(entry);
        }
    }
}

/// The functions under `#[test]`, and in `proptest!`, of all sources; the cases of SIPp; those of
/// the browser suite.
fn tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    rust_files(&root().join("tests"), &mut files);
    let mut found = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("readable");
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                marked = true;
            } else if let Some(name) =
                line.trim_start_matches("async ").strip_prefix("fn ").filter(|_| marked)
            {
                found.insert(name.split('(').next().unwrap_or_default().to_owned());
                marked = false;
            }
        }
    }
    let topics = fs::read_dir(root().join("interop/sipp/cases")).expect("the cases of SIPp");
    let topics = topics.map(|topic| topic.expect("an entry").path()).filter(|p| p.is_file());
    for file in topics.chain([root().join("interop/cluster/trunk.py")]) {
        let cases = fs::read_to_string(file).expect("readable");
        found.extend(
            cases
                .split("\ncase(")
                .filter_map(|c| c.trim_start().strip_prefix('"'))
                .filter_map(|c| c.split('"').next())
                .map(str::to_owned),
        );
    }
    for suite in ["chromium/suite.mjs", "chromium/signalling.mjs"] {
        let text = fs::read_to_string(root().join("interop").join(suite)).expect("readable");
        found.extend(
            text.lines()
                .filter_map(|l| l.trim().strip_prefix("test(\""))
                .filter_map(|l| l.split("\", ").next())
                .map(|n| format!("interop: {n}")),
        );
    }
    found
}

struct Row<'a> {
    section: &'a str,
    role: &'a str,
    requirement: &'a str,
    /// Why not, where it is not met.
    no: Option<&'a str>,
    shown_by: Vec<String>,
}

fn row(line: &str) -> Row<'_> {
    let parts: Vec<&str> = line.splitn(4, " | ").collect();
    let [section, role, requirement, shown_by] = parts.as_slice() else {
        panic!("four columns: {line}")
    };
    let no = requirement.strip_prefix("no: ");
    // A browser case's name may hold commas: each begins with its own word.
    let mut names: Vec<String> = Vec::new();
    for piece in shown_by.split(", ") {
        match names.last_mut() {
            Some(last) if last.starts_with("interop: ") && !piece.starts_with("interop: ") => {
                last.push_str(&format!(", {piece}"))
            }
            _ => names.push(piece.to_owned()),
        }
    }
    Row { section, role, requirement: no.unwrap_or(requirement), no, shown_by: names }
}

#[test]
fn every_requirement_names_tests_that_exist_and_the_published_table_is_this_one() {
    let (known, text) = (
        tests(),
        fs::read_to_string(root().join("tests/conformance/requirements.txt")).expect("readable"),
    );
    let (mut table, mut rows, mut refused, mut missing) = (String::new(), 0, 0, Vec::new());
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        if let Some(title) = line.strip_prefix("# ") {
            let _ = write!(
                table,
                "\n## {title}\n\n| § | role | requirement | status | shown by |\n| --- | --- | --- | --- | --- |\n"
            );
            continue;
        }
        let row = row(line);
        rows += 1;
        refused += usize::from(row.no.is_some());
        assert!(
            !row.shown_by.is_empty() && ["UAC", "UAS", "REG", "B2BUA", "both"].contains(&row.role),
            "{line}"
        );
        missing.extend(
            row.shown_by
                .iter()
                .filter(|t| !known.contains(*t))
                .map(|t| format!("{} § {}: {t}", row.requirement, row.section)),
        );
        let status = if row.no.is_some() { "no" } else { "yes" };
        let shown: Vec<String> = row.shown_by.iter().map(|t| format!("`{t}`")).collect();
        let _ = writeln!(
            table,
            "| {} | {} | {} | {status} | {} |",
            row.section,
            row.role,
            row.requirement,
            shown.join(", ")
        );
    }
    assert!(missing.is_empty(), "rows name tests that do not exist:\n{}", missing.join("\n"));
    assert!(rows >= 250, "{rows} rows");
    let head = format!(
        "# Conformance\n\nGenerated by `tests/conformance.rs` from `tests/conformance/requirements.txt`; the test fails where a row names a test that does not exist, \
         or this file differs. {rows} requirements, {} met, {refused} not, each with its reason.\n\nNames with underscores are Rust tests (`cargo test NAME`), with hyphens SIPp cases \
         (`interop/run.sh sipp NAME`), after `interop:` cases with real browsers and Asterisk (`interop/run.sh browser NAME`);\n\
         those of a cluster by `interop/run.sh cluster NAME`.\n",
        rows - refused
    );
    let published = root().join("interop/CONFORMANCE.md");
    let expected = head + &table;
    if std::env::var("WEBTRUNK_BLESS").is_ok() {
        fs::write(&published, &expected).expect("writable");
    }
    assert_eq!(
        fs::read_to_string(&published).unwrap_or_default(),
        expected,
        "WEBTRUNK_BLESS=1 writes it anew"
    );
}
