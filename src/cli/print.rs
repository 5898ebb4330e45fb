//! What goes to the terminal: a table for people, JSON for programs. Everything printed passes
//! here, and nothing from outside gets through that a terminal would obey.
#![allow(clippy::print_stderr, reason = "the one place for it")]

use serde_json::Value;
use std::io::{IsTerminal, Write};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};
use webtrunk::log_queue;
use webtrunk::printable;

/// How a list is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum OutputFormat {
    #[default]
    Table,
    Json,
    Jsonl,
}

/// A column: its heading, and what it shows of an item.
pub(crate) struct Column {
    name: &'static str,
    show: Box<dyn Fn(&Value) -> String>,
    /// The narrowest it may be made in a narrow terminal.
    least: Option<usize>,
    /// Left out of a narrow terminal; those of 1 before those of 2.
    rank: Option<u8>,
}

impl Column {
    /// A column that is always there, and whole.
    pub(crate) fn new(name: &'static str, show: impl Fn(&Value) -> String + 'static) -> Column {
        Column { name, show: Box::new(show), least: None, rank: None }
    }

    /// In a narrow terminal it may be cut to this width.
    pub(crate) fn cut_to(self, least: usize) -> Column {
        Column { least: Some(least), ..self }
    }

    /// A narrow terminal may do without it; lower ranks first.
    pub(crate) fn optional(self, rank: u8) -> Column {
        Column { rank: Some(rank), ..self }
    }
}

/// Prints a list; `empty` is printed if there is nothing.
pub(crate) fn list(items: &Value, output: OutputFormat, columns: &[Column], empty: &str) {
    let none = Vec::new();
    let all = items.as_array().unwrap_or(&none);
    match output {
        OutputFormat::Json => object(items),
        OutputFormat::Jsonl => all.iter().for_each(|item| json(&item.to_string())),
        OutputFormat::Table if all.is_empty() => note(empty),
        OutputFormat::Table => line(&table(all, columns, terminal().map(|(columns, _)| columns))),
    }
}

/// Columns and rows of the terminal that is written to; `None` for a file or a pipe.
pub(crate) fn terminal() -> Option<(usize, usize)> {
    let out = std::io::stdout();
    out.is_terminal().then(|| {
        let size = rustix::termios::tcgetwinsize(&out).ok().filter(|size| size.ws_col > 0);
        size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
    })
}

/// What a list says of the items it leaves out.
pub(crate) fn cut(most: Option<usize>) -> String {
    format!("the newest {}; there are more: narrow the list, or raise --limit", most.unwrap_or(0))
}

/// Columns apart by two spaces, no lines: what `cut` and eyes both like. A terminal gets no line
/// longer than its `width`: columns are omitted, then cut.
pub(crate) fn table(items: &[Value], columns: &[Column], width: Option<usize>) -> String {
    let shown = |column: &Column| -> Vec<String> {
        let cells = items.iter().map(|item| (column.show)(item));
        std::iter::once(column.name.to_owned()).chain(cells).collect()
    };
    let mut all: Vec<(&Column, Vec<String>)> = columns.iter().map(|c| (c, shown(c))).collect();
    let mut widths = vec![0; all.len()];
    if let Some(width) = width {
        let least = |(column, cells): &(&Column, Vec<String>)| {
            natural(cells).min(column.least.unwrap_or(usize::MAX))
        };
        while total(all.iter().map(least)) > width
            && let Some(first) = all.iter().filter_map(|(c, _)| c.rank).min()
        {
            all.retain(|(c, _)| c.rank != Some(first));
        }
        widths = all.iter().map(|(_, cells)| natural(cells)).collect();
        // What is too much goes from the last column first.
        for (at, item) in all.iter().enumerate().rev() {
            let too_much = total(widths.iter().copied()).saturating_sub(width);
            widths[at] -= too_much.min(widths[at] - least(item));
        }
    } else {
        widths = all.iter().map(|(_, cells)| natural(cells)).collect();
    }
    let line = |row: usize| {
        let cells = all.iter().zip(&widths).map(|((_, cells), width)| fitted(&cells[row], *width));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    (0..=items.len()).map(line).collect::<Vec<_>>().join("\n")
}

fn natural(cells: &[String]) -> usize {
    cells.iter().map(|c| c.width()).max().unwrap_or(0)
}

/// Of a line of columns so wide.
fn total(widths: impl ExactSizeIterator<Item = usize>) -> usize {
    let gaps = 2 * widths.len().saturating_sub(1);
    widths.sum::<usize>() + gaps
}

/// A text of exactly this width: filled up, or cut with an ellipsis.
fn fitted(text: &str, width: usize) -> String {
    let mut out = String::new();
    let cut = text.width() > width;
    let room = width - usize::from(cut && width > 0);
    for c in text.chars() {
        if out.width() + c.width().unwrap_or(0) > room {
            break;
        }
        out.push(c);
    }
    if cut && width > 0 {
        out.push('…');
    }
    let missing = width.saturating_sub(out.width());
    out + &" ".repeat(missing)
}

/// A text that others wrote, without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    printable::line(text).into_owned()
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
    standard_error(&format!("{}\n", printable::lines(text)));
}

/// As [`note`], in place of the note before it.
pub(crate) fn progress(text: &str) {
    standard_error(&format!("\r\x1b[K{}", printable::line(text)));
}

/// Problems with a file, drawn with its lines; they may be in colours.
pub(crate) fn problems(problems: &webtrunk::config::Problems) {
    standard_error(&problems.to_string());
}

/// In order with the lines of the log.
fn standard_error(text: &str) {
    match log_queue::installed() {
        Some(queue) => queue.push(text.as_bytes(), true),
        None => eprint!("{text}"),
    }
}

/// A text of an item, or a dash.
pub(crate) fn text(item: &Value, key: &str) -> String {
    match &item[key] {
        Value::String(text) if !text.is_empty() => printable(text),
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn columns() -> Vec<Column> {
        vec![
            Column::new("CALL", |c| text(c, "call")),
            Column::new("FROM", |c| text(c, "from")).cut_to(6),
            Column::new("CODECS", |c| text(c, "codecs")).optional(1),
            Column::new("WHAT", |c| text(c, "what")).cut_to(8),
        ]
    }

    #[test]
    fn a_table_fits_the_terminal_and_a_pipe_gets_all_of_it() {
        let items = [
            json!({
                "call": "7f3a91c2", "from": "Ada Lovelace", "codecs": "opus",
                "what": "WT-1310 nobody is registered",
            }),
            json!({ "call": "aaaaaaaa", "from": "渡辺", "codecs": "pcmu", "what": "fine" }),
        ];
        let whole = table(&items, &columns(), None);
        assert!(whole.contains("7f3a91c2  Ada Lovelace  opus    WT-1310 nobody is registered"));
        for width in [28, 40, 60, 200] {
            let fitted = table(&items, &columns(), Some(width));
            for line in fitted.lines() {
                assert!(line.width() <= width, "{width}: {line:?}");
            }
            assert!(fitted.contains("7f3a91c2") && fitted.contains("WT-1310"), "{fitted}");
            assert_eq!(fitted.contains("CODECS"), width >= 40, "{width}\n{fitted}");
        }
        assert!(table(&items, &columns(), Some(28)).contains("Ada Lov…  WT-1310…"));
    }

    #[test]
    fn what_others_wrote_does_not_reach_the_terminal_as_a_command() {
        assert_eq!(text(&json!({ "name": "a\u{1b}[2Jb" }), "name"), "a\u{fffd}[2Jb");
    }
}
