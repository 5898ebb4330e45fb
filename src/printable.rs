//! Text from outside, made safe for the medium it is printed in: the one place for all of them.
//!
//! A display name or a user part may hold what a terminal obeys (escape sequences, C1 controls),
//! what makes text read otherwise than it is (bidirectional controls, characters without width),
//! or what a spreadsheet runs. Such a character becomes U+FFFD; the text around it stays.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter, Write as _};

/// Characters of a remote text that a log line shows.
const LONGEST_IN_A_LINE: usize = 120;

/// Returns whether `c` does something else than being read: controls, line and paragraph
/// separators, bidirectional controls, characters without width, tags.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{17b4}'
                | '\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

fn replaced<'a>(text: &'a str, keep: impl Fn(char) -> bool) -> Cow<'a, str> {
    let bad = |c: char| is_unsafe(c) && !keep(c);
    if text.contains(bad) {
        text.chars().map(|c| if bad(c) { '\u{fffd}' } else { c }).collect::<String>().into()
    } else {
        text.into()
    }
}

/// One line: nothing in it ends it.
pub fn line(text: &str) -> Cow<'_, str> {
    replaced(text, |_| false)
}

/// Several lines, for a terminal: only line ends and tabs act.
pub fn lines(text: &str) -> Cow<'_, str> {
    replaced(text, |c| matches!(c, '\n' | '\t'))
}

/// A part of a log line, cut if somebody sent a novel.
pub(crate) fn brief(text: &str) -> Brief<'_> {
    Brief(text)
}

/// See [`brief`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Brief<'a>(&'a str);

impl Display for Brief<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let end = self.0.char_indices().nth(LONGEST_IN_A_LINE).map_or(self.0.len(), |(at, _)| at);
        let mut pieces = self.0[..end].split(is_unsafe);
        f.write_str(pieces.next().unwrap_or_default())?;
        pieces.try_for_each(|piece| write!(f, "\u{fffd}{piece}"))
    }
}

/// A cell of a CSV file (RFC 4180). What a spreadsheet would run as a formula begins with an
/// apostrophe; numbers, those of telephones too, stay as they are.
pub fn cell(text: &str) -> String {
    let text = line(text);
    let number = text.strip_prefix(['+', '-']).unwrap_or(&text);
    let formula = text.trim_start().starts_with(['=', '@', '+', '-', '＝', '＠', '＋', '－'])
        && !number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let text = if formula { Cow::from(format!("'{text}")) } else { text };
    if text.contains([',', ';', '"']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into_owned()
    }
}

/// A text or an attribute of HTML and SVG.
pub(crate) fn markup(text: &str) -> String {
    line(text).chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
        out
    })
}

/// JSON as it may stand in a terminal: what JSON itself leaves unescaped of such characters is
/// escaped, so a program still reads the same text.
pub fn json(text: &str) -> Cow<'_, str> {
    let escaped = |c: char| is_unsafe(c) && c != '\n';
    if !text.contains(escaped) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if escaped(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind: escape sequences, C1, bells, bidirectional controls, no width, separators.
    const HOSTILE: [char; 16] = [
        '\u{1b}',
        '\u{7}',
        '\u{8}',
        '\r',
        '\u{7f}',
        '\u{9b}',
        '\u{9d}',
        '\u{202a}',
        '\u{202e}',
        '\u{2066}',
        '\u{2069}',
        '\u{200b}',
        '\u{200d}',
        '\u{feff}',
        '\u{2028}',
        '\u{e0041}',
    ];

    #[test]
    fn no_hostile_character_gets_into_any_medium() {
        let text: String =
            HOSTILE.iter().flat_map(|c| ['a', *c]).chain("<b>&\"'日本 Zoë".chars()).collect();
        let shown = [
            line(&text).into_owned(),
            lines(&text).into_owned(),
            brief(&text).to_string(),
            cell(&text),
            markup(&text),
            json(&serde_json::json!(text).to_string()).into_owned(),
        ];
        for (n, shown) in shown.iter().enumerate() {
            assert!(!shown.contains(is_unsafe), "medium {n}: {shown:?}");
            assert!(shown.contains("日本 Zoë"), "what is only read stays: {shown}");
        }
        assert!(!markup(&text).contains(['<', '"', '\'']));
        let read: String = serde_json::from_str(&shown[5]).expect("it is JSON still");
        assert_eq!(read, text, "a program reads what was sent");
    }

    #[test]
    fn lines_stay_lines_where_there_may_be_several() {
        assert_eq!(lines("a\nb\tc\r"), "a\nb\tc\u{fffd}");
        assert_eq!(line("a\nb"), "a\u{fffd}b");
        assert_eq!(brief(&"x".repeat(500)).to_string().len(), LONGEST_IN_A_LINE);
    }

    #[test]
    fn a_cell_is_no_formula_and_numbers_stay_numbers() {
        for (text, wanted) in [
            ("=cmd()", "'=cmd()"),
            ("@SUM(1)", "'@SUM(1)"),
            ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
            ("-2+3", "'-2+3"),
            ("  =1", "'  =1"),
            ("＝1", "'＝1"),
            ("+12065550123", "+12065550123"),
            ("-1.5", "-1.5"),
            ("a,\"b\"", "\"a,\"\"b\"\"\""),
            ("a;b", "\"a;b\""),
            ("\t=1", "\u{fffd}=1"),
        ] {
            assert_eq!(cell(text), wanted);
        }
    }
}
