//! What lists look like: a table for people, JSON for programs.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;
use std::io::Write;

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
        Output::Json => line(&serde_json::to_string_pretty(items).unwrap_or_default()),
        Output::Jsonl => all.iter().for_each(|item| line(&item.to_string())),
        Output::Table if all.is_empty() => eprintln!("{empty}"),
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
    line(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// A line of output; a reader that has gone away (`| head`) is no error.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
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
