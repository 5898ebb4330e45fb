//! A ladder drawn: text for a terminal, Mermaid for a ticket, SVG for a page. Nothing remote gets
//! out unescaped.

use super::ladder::{Row, RowKind};
use super::sdp_rules::LineRule;
use crate::printable::{self, markup};
use std::fmt::Write as _;
use std::time::Duration;

/// Characters between two lines of the text ladder.
const WIDTH: usize = 31;

/// The columns from left to right: the caller, us, and everyone else. Lane 0 is the caller's.
fn column(lane: usize) -> usize {
    if lane == 0 { 0 } else { lane + 1 }
}

fn headings(lanes: &[String]) -> Vec<String> {
    let first = lanes.first().cloned().unwrap_or_else(|| "caller".to_owned());
    let others = lanes.iter().skip(1).cloned();
    [first, "webtrunk".to_owned()].into_iter().chain(others).collect()
}

fn clock(at: Duration) -> String {
    format!("{:>8.3}", at.as_secs_f64())
}

/// Text, a row a line; `full` adds every message's text.
pub fn text(lanes: &[String], rows: &[Row], full: bool) -> String {
    let heads = headings(lanes);
    let mut out = String::new();
    let mut line = " ".repeat(10);
    for (n, head) in heads.iter().enumerate() {
        let head: String = head.chars().take(WIDTH - 2).collect();
        let middle = 10 + n * (WIDTH + 1);
        let start = middle.saturating_sub(head.chars().count() / 2).max(if n == 0 {
            4
        } else {
            line.chars().count() + 1
        });
        let pad = start.saturating_sub(line.chars().count());
        if n == 0 {
            line = " ".repeat(start);
        } else {
            line.push_str(&" ".repeat(pad));
        }
        line.push_str(&head);
    }
    let _ = writeln!(out, "{}", line.trim_end());
    let mut routes = rows
        .iter()
        .filter_map(|r| {
            if let RowKind::Route { why_not, .. } = &r.kind {
                Some(why_not.is_some())
            } else {
                None
            }
        })
        .peekable();
    let lost = routes.peek().is_some() && routes.all(|unfit| unfit);
    for row in rows {
        match &row.kind {
            RowKind::Message { lane, sent, summary, repeated, text, rules } => {
                let label = if *repeated { format!("{summary} (again)") } else { summary.clone() };
                let _ = writeln!(
                    out,
                    "{}  {}",
                    clock(row.at),
                    arrow(heads.len(), column(*lane), *sent, &label)
                );
                if full {
                    full_text(&mut out, text, rules);
                    out.push('\n');
                }
            }
            // The dialplan's reasons are read if it is to blame.
            RowKind::Route { route, pattern, why_not } if full || lost => {
                let (mark, why) = why_not
                    .as_ref()
                    .map_or(("✓", String::new()), |why| ("✗", format!(": {why}")));
                let _ = writeln!(out, "{}  ┆ {mark} {route}  {pattern}{why}", clock(row.at));
            }
            RowKind::Route { .. } => {}
            RowKind::Event { text, code } => {
                let code = code.as_ref().map(|c| format!("  {c}")).unwrap_or_default();
                let _ = writeln!(out, "{}  ┆ {text}{code}", clock(row.at));
            }
        }
    }
    printable::lines(&out).into_owned()
}

/// A message's text, with the rule behind each line of a description we made.
fn full_text(out: &mut String, text: &str, rules: &[LineRule]) {
    let mut sent = rules.iter().filter(|r| r.line.is_some()).peekable();
    for line in text.lines() {
        match sent.next_if(|r| r.line.as_deref() == Some(line)) {
            Some(rule) => {
                let from = rule.from.as_ref().map(|f| format!("{f}   ")).unwrap_or_default();
                let _ = writeln!(out, "            {line:<44} ← {from}{}", rule.why);
            }
            None => {
                let _ = writeln!(out, "            {line}");
            }
        }
    }
    for rule in rules.iter().filter(|r| r.line.is_none()) {
        let _ = writeln!(
            out,
            "            ← left out: {}   {}",
            rule.from.as_deref().unwrap_or_default(),
            rule.why
        );
    }
}

/// One line of bars with an arrow between us (column 1) and `column`.
fn arrow(columns: usize, column: usize, sent: bool, label: &str) -> String {
    let (left, right) = (column.min(1), column.max(1));
    let room = (right - left) * (WIDTH + 1) - 1;
    let to_right = (column > 1) == sent;
    let label: String = if label.chars().count() + 6 > room {
        label.chars().take(room.saturating_sub(7)).chain(['…']).collect()
    } else {
        label.to_owned()
    };
    let dashes = room.saturating_sub(label.chars().count() + 3);
    let (before, after) = ("─".repeat(dashes / 2), "─".repeat(dashes - dashes / 2));
    let body = if to_right {
        format!("{before} {label} {after}▶")
    } else {
        format!("◀{before} {label} {after}")
    };
    let mut line = String::new();
    let mut n = 0;
    while n < columns {
        line.push('│');
        if n == left {
            line.push_str(&body);
            n = right;
        } else {
            if n + 1 < columns {
                line.push_str(&" ".repeat(WIDTH));
            }
            n += 1;
        }
    }
    line.trim_end().to_owned()
}

/// Mermaid's sequence diagram.
pub fn mermaid(lanes: &[String], rows: &[Row]) -> String {
    let safe = |text: &str| -> String {
        let text = printable::line(text);
        text.chars()
            .map(|c| if matches!(c, ';' | '#' | ':' | '<' | '>') { ' ' } else { c })
            .collect()
    };
    let mut out = "sequenceDiagram\n".to_owned();
    for (n, head) in headings(lanes).iter().enumerate() {
        let _ = writeln!(out, "  participant p{n} as {}", safe(head));
    }
    for row in rows {
        match &row.kind {
            RowKind::Message { lane, sent, summary, .. } => {
                let (from, to) = if *sent { (1, column(*lane)) } else { (column(*lane), 1) };
                let _ = writeln!(
                    out,
                    "  p{from}->>p{to}: {} ({} s)",
                    safe(summary),
                    clock(row.at).trim()
                );
            }
            RowKind::Route { .. } => {}
            RowKind::Event { text, .. } => {
                let _ = writeln!(out, "  Note over p1: {}", safe(text));
            }
        }
    }
    out
}

/// Units between two lines of the picture, and between two rows.
const GAP: usize = 230;
const STEP: usize = 30;

/// Where a column's line stands.
fn x(column: usize) -> usize {
    90 + 60 + column * GAP
}

/// An SVG of its own, readable in both themes; each message is a group with `data-row`.
pub fn svg(lanes: &[String], rows: &[Row]) -> String {
    let heads = headings(lanes);
    // An event's text may reach beyond the last line; about 7 units a character.
    let longest = rows
        .iter()
        .map(|r| {
            if let RowKind::Event { text, code } = &r.kind {
                text.chars().count() + code.as_ref().map_or(0, |c| c.len() + 1)
            } else {
                0
            }
        })
        .max()
        .unwrap_or(0);
    let width = (x(heads.len().saturating_sub(1)) + 90).max(x(0) + 24 + longest * 7);
    let height =
        70 + rows.iter().filter(|r| !matches!(r.kind, RowKind::Route { .. })).count() * STEP;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"call ladder\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"currentColor\" \
         stroke=\"none\">\n"
    );
    for (n, head) in heads.iter().enumerate() {
        let _ = writeln!(
            out,
            "<text x=\"{0}\" y=\"24\" text-anchor=\"middle\" font-weight=\"600\">{1}</text>\
             <line x1=\"{0}\" y1=\"36\" x2=\"{0}\" y2=\"{height}\" stroke=\"currentColor\" \
             stroke-opacity=\".3\"/>",
            x(n),
            markup(head)
        );
    }
    // The dialplan's reasons are words, and read beside the picture; `n` is the row's place among
    // all.
    let drawn = rows.iter().enumerate().filter(|(_, r)| !matches!(r.kind, RowKind::Route { .. }));
    for (place, (n, row)) in drawn.enumerate() {
        svg_row(&mut out, n, 62 + place * STEP, row);
    }
    out.push_str("</svg>\n");
    out
}

/// The row of number `n` at the height `y`.
fn svg_row(out: &mut String, n: usize, y: usize, row: &Row) {
    let _ = writeln!(
        out,
        "<text x=\"64\" y=\"{}\" text-anchor=\"end\" font-size=\"11\" \
         fill-opacity=\".75\">{}</text>",
        y + 4,
        clock(row.at).trim()
    );
    match &row.kind {
        RowKind::Message { lane, sent, summary, repeated, .. } => {
            let (from, to) =
                if *sent { (x(1), x(column(*lane))) } else { (x(column(*lane)), x(1)) };
            let base = if to > from { to - 8 } else { to + 8 };
            let label =
                markup(&if *repeated { format!("{summary} (again)") } else { summary.clone() });
            let (left, length, middle, top, above, over, under) =
                (from.min(to), from.abs_diff(to), (from + to) / 2, y - 20, y - 6, y - 4, y + 4);
            let _ = writeln!(
                out,
                "<g data-row=\"{n}\"><rect x=\"{left}\" y=\"{top}\" width=\"{length}\" \
                 height=\"{STEP}\" fill-opacity=\"0\"/>\
                 <line x1=\"{from}\" y1=\"{y}\" x2=\"{to}\" y2=\"{y}\" stroke=\"currentColor\"/>\
                 <polygon points=\"{to},{y} {base},{over} {base},{under}\"/>\
                 <text x=\"{middle}\" y=\"{above}\" text-anchor=\"middle\">{label}</text></g>"
            );
        }
        RowKind::Route { .. } => {}
        RowKind::Event { text, code } => {
            let code = code.as_ref().map(|c| format!(" {c}")).unwrap_or_default();
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{}\" font-style=\"italic\" \
                 fill-opacity=\".85\">{}{}</text>",
                x(0) + 8,
                y + 4,
                markup(text),
                markup(&code)
            );
        }
    }
}
