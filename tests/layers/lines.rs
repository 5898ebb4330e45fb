//! What a formatter does not hold: it leaves comments, macros and what contains a long literal as
//! they are.

use super::files;
use std::fs;
use std::path::{Path, PathBuf};

const WIDEST: usize = 100;
/// What a line beyond that may have around its literals: a row of a table, or a test vector.
const AROUND_LITERALS: usize = 50;

/// Every Rust file here, with its text.
fn all() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["src", "tests", "interop"] {
        files(&root.join(folder), &mut paths);
    }
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("readable");
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// How many columns of each line are neither indentation nor the text of a literal.
fn around_literals(text: &str) -> Vec<usize> {
    let mut widths = Vec::new();
    // What ends the literal that is open.
    let mut open: Option<String> = None;
    for line in text.lines() {
        let (mut width, mut rest) = (0, line.trim_start());
        while let Some(next) = rest.chars().next() {
            let raw = rest.strip_prefix('r').map(|r| r.trim_start_matches('#'));
            let raw = raw.filter(|r| r.starts_with('"')).map(|r| rest.len() - r.len() - 1);
            let (taken, counts) = match &open {
                Some(end) if rest.starts_with(end.as_str()) => {
                    (open.take().map_or(0, |e| e.len()), true)
                }
                Some(end) if end == "\"" && next == '\\' => {
                    (1 + rest[1..].chars().next().map_or(0, char::len_utf8), false)
                }
                Some(_) => (next.len_utf8(), false),
                None if rest.starts_with("//") => (rest.len(), true),
                None if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") => (3, true),
                None if next == '"' => {
                    open = Some("\"".to_owned());
                    (1, true)
                }
                None if raw.is_some() => {
                    let hashes = raw.unwrap_or_default();
                    open = Some(format!("\"{}", "#".repeat(hashes)));
                    (hashes + 2, true)
                }
                None => (next.len_utf8(), true),
            };
            width += if counts { rest[..taken].chars().count() } else { 0 };
            rest = &rest[taken..];
        }
        widths.push(width);
    }
    widths
}

#[test]
fn a_line_is_measured_without_its_literals() {
    let text = "    a(\"b\\\"c\", 'd')\n// \"e\"\n\"f \\\n   g\";\nr#\"h \" i\"# + j\n'\"' + k\n";
    assert_eq!(around_literals(text), [10, 6, 1, 2, 9, 7]);
}

#[test]
fn no_line_is_too_long_but_for_its_literals() {
    let mut wrong = Vec::new();
    for (path, text) in all() {
        let widths = around_literals(&text);
        for (n, (line, around)) in text.lines().zip(widths).enumerate() {
            if line.chars().count() > WIDEST && around > AROUND_LITERALS {
                wrong.push(format!("{}:{}", path.display(), n + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "more than {WIDEST} columns:\n{}", wrong.join("\n"));
}

/// A test's folders go with it, also if it fails: `tempfile` makes them.
#[test]
fn no_test_makes_a_temporary_folder_that_stays() {
    // The program's own: its control socket, and the gateways that `webtrunk bench` starts.
    let own = ["src/api/socket.rs", "src/cli/call/bench.rs"];
    let by_hand = concat!("temp_dir", "()");
    let found: Vec<PathBuf> = all()
        .into_iter()
        .filter(|(path, text)| text.contains(by_hand) && !own.iter().any(|o| path.ends_with(o)))
        .map(|(path, _)| path)
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}
