//! What goes to the terminal: a table for people, JSON for programs. Everything printed passes
//! here, and nothing from outside gets through that a terminal would obey.
#![allow(clippy::print_stderr, reason = "the one place for it")]

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;
use std::io::Write;
use webtrunk::printable;

/// How a list is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum Output {
    #[default]
    Table,
    Json,
    Jsonl,
}

/// A column: its heading, and what it shows of an item.
pub(crate) type Column = (&'static str, fn(&Value) -> String);

/// Prints a list; `empty` teaches where there is nothing.
pub(crate) fn list(items: &Value, output: Output, columns: &[Column], empty: &str) {
    let none = Vec::new();
    let all = items.as_array().unwrap_or(&none);
    match output {
        Output::Json => object(items),
        Output::Jsonl => all.iter().for_each(|item| json(&item.to_string())),
        Output::Table if all.is_empty() => note(empty),
        Output::Table => line(&table(all, columns)),
    }
}

/// Columns apart by two spaces, no lines: what `cut` and eyes both like.
pub(crate) fn table(items: &[Value], columns: &[Column]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(name, _)| *name));
    for item in items {
        table.add_row(columns.iter().map(|(_, show)| show(item)));
    }
    let text = table.to_string();
    text.lines()
        .map(|l| l.trim_end().strip_prefix(' ').unwrap_or(l.trim_end()))
        .collect::<Vec<_>>()
        .join("\n")
}

/// One object, as JSON.
pub(crate) fn object(value: &Value) {
    json(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// JSON, as a line or as several.
pub(crate) fn json(text: &str) {
    raw(&format!("{}\n", printable::json(text)));
}

/// A line of output, or several.
pub(crate) fn line(text: &str) {
    raw(&format!("{}\n", printable::lines(text)));
}

/// Empties the screen.
pub(crate) fn clear() {
    raw("\x1b[2J\x1b[H");
}

/// What our own programs made for a terminal. A reader that has gone away (`| head`) is no error.
fn raw(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// A line for the person, not for a program that reads the output.
pub(crate) fn note(text: &str) {
    eprintln!("{}", printable::lines(text));
}

/// As [`note`], in place of the note before it.
pub(crate) fn progress(text: &str) {
    eprint!("\r\x1b[K{}", printable::line(text));
}

/// Problems with a file, drawn with its lines; they may be in colours.
pub(crate) fn problems(problems: &webtrunk::config::Problems) {
    eprint!("{problems}");
}

/// A text of an item, or a dash.
pub(crate) fn text(item: &Value, key: &str) -> String {
    match &item[key] {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        _ => "-".to_owned(),
    }
}

/// `0:07`, `12:04`, `1:02:33`.
pub(crate) fn clock(seconds: u64) -> String {
    let (h, m, s) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}
