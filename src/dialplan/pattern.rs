//! Number patterns in Asterisk's letters: X 0-9, Z 1-9, N 2-9, `[1-5a]` a set, a last `.` one or
//! more of what can be dialled: digits, `+`, `*` and `#`.

use std::collections::HashSet;
use std::fmt;

#[derive(Clone, PartialEq, Eq, Debug)]
enum PatternPiece {
    Literal(char),
    Range(char, char),
    Set(Vec<(char, char)>),
    /// One or more characters that can be dialled, at the end only.
    Rest,
}

impl PatternPiece {
    fn takes(&self, c: char) -> bool {
        match self {
            PatternPiece::Literal(l) => *l == c,
            PatternPiece::Range(from, to) => (*from..=*to).contains(&c),
            PatternPiece::Set(set) => set.iter().any(|(from, to)| (*from..=*to).contains(&c)),
            PatternPiece::Rest => is_dialled(c),
        }
    }

    /// The characters it takes, as ranges.
    fn ranges(&self) -> Vec<(char, char)> {
        match self {
            PatternPiece::Literal(l) => vec![(*l, *l)],
            PatternPiece::Range(from, to) => vec![(*from, *to)],
            PatternPiece::Set(set) => set.clone(),
            PatternPiece::Rest => vec![('0', '9'), ('+', '+'), ('*', '*'), ('#', '#')],
        }
    }

    /// One character of each kind that it takes and `others` tell apart: what they take changes
    /// only where a range begins or has ended. A range may have a million characters.
    fn kinds<'a>(&self, others: impl Iterator<Item = &'a PatternPiece>) -> Vec<char> {
        let mut kinds: Vec<char> = self.ranges().into_iter().map(|(from, _)| from).collect();
        for (from, to) in others.flat_map(PatternPiece::ranges) {
            let behind = (to..=char::MAX).nth(1);
            kinds.extend([Some(from), behind].into_iter().flatten().filter(|c| self.takes(*c)));
        }
        let mut seen = HashSet::new();
        kinds.retain(|c| seen.insert(*c));
        kinds
    }

    fn describe(&self) -> String {
        match self {
            PatternPiece::Literal(l) => l.to_string(),
            PatternPiece::Range(from, to) => format!("{from}-{to}"),
            PatternPiece::Set(set) => set
                .iter()
                .map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") })
                .collect(),
            PatternPiece::Rest => "a digit, +, * or #".into(),
        }
    }
}

/// Whether a telephone has a key for it, or a number begins with it. Names and what is smuggled
/// behind a number have none: they need a pattern that spells them.
fn is_dialled(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '+' | '*' | '#')
}

/// A compiled pattern.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    text: String,
    pieces: Vec<PatternPiece>,
}

impl Pattern {
    /// Compiles `text`.
    ///
    /// # Errors
    /// A sentence for the author of the dialplan.
    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        let mut pieces = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                'X' => PatternPiece::Range('0', '9'),
                'Z' => PatternPiece::Range('1', '9'),
                'N' => PatternPiece::Range('2', '9'),
                '.' if chars.peek().is_none() => PatternPiece::Rest,
                '.' => return Err("a \".\" may stand only at the end".into()),
                '[' => PatternPiece::Set(set(&mut chars)?),
                ' ' | '(' | ')' => {
                    return Err(format!(
                        "{c:?} cannot match: numbers are compared without separators"
                    ));
                }
                c => PatternPiece::Literal(c),
            });
        }
        if pieces.is_empty() {
            return Err("an empty pattern matches nothing".into());
        }
        Ok(Pattern { text: text.to_owned(), pieces })
    }

    /// Whether the pattern is `number` itself, digit by digit.
    pub(crate) fn spells(&self, number: &str) -> bool {
        let literal = self.pieces.iter().all(|piece| matches!(piece, PatternPiece::Literal(_)));
        literal && self.text == number
    }

    /// Why `number` does not match, or `None` if it does.
    pub(crate) fn mismatch(&self, number: &str) -> Option<String> {
        let chars: Vec<char> = number.chars().collect();
        for (at, piece) in self.pieces.iter().enumerate() {
            match chars.get(at) {
                None => {
                    return Some(format!(
                        "number ends after {} of {} characters",
                        chars.len(),
                        self.pieces.len()
                    ));
                }
                Some(_) if *piece == PatternPiece::Rest => {
                    let other = chars.iter().enumerate().skip(at).find(|(_, c)| !is_dialled(**c));
                    return other.map(|(at, c)| {
                        format!("character {} is {c}, not {}", at + 1, piece.describe())
                    });
                }
                Some(c) if !piece.takes(*c) => {
                    return Some(format!("character {} is {c}, not {}", at + 1, piece.describe()));
                }
                Some(_) => {}
            }
        }
        (chars.len() > self.pieces.len()).then(|| {
            format!("number has {} characters, pattern {}", chars.len(), self.pieces.len())
        })
    }

    /// A number this one takes and none of `others` does; `None` if together they take all of them.
    pub(crate) fn escapes(&self, others: &[&Pattern]) -> Option<String> {
        // One character beyond the longest is as good as any number of them.
        let longest = others.iter().chain([&self]).map(|p| p.pieces.len()).max().unwrap_or(0) + 1;
        let alive = (0..others.len()).collect();
        self.escape(String::new(), alive, others, longest, &mut HashSet::new())
    }

    /// Whether any number is taken by both.
    pub(crate) fn meets(&self, other: &Pattern) -> bool {
        let longest = self.pieces.len().max(other.pieces.len());
        let both = |at: usize| match (self.piece_at(at), other.piece_at(at)) {
            (Some(a), Some(b)) => a.kinds([b].into_iter()).into_iter().any(|c| b.takes(c)),
            (a, b) => a.is_none() && b.is_none(),
        };
        (0..longest).all(both)
    }

    /// Walks on from `number`, which of `others` only those `alive` fit so far.
    fn escape(
        &self,
        number: String,
        alive: Vec<usize>,
        others: &[&Pattern],
        longest: usize,
        seen: &mut HashSet<(usize, Vec<usize>)>,
    ) -> Option<String> {
        let at = number.chars().count();
        if at > longest || !seen.insert((at, alive.clone())) {
            return None;
        }
        if self.mismatch(&number).is_none()
            && alive.iter().all(|n| others[*n].mismatch(&number).is_some())
        {
            return Some(number);
        }
        let piece = self.piece_at(at)?;
        let fits = |c: char| {
            alive
                .iter()
                .copied()
                .filter(|n| others[*n].piece_at(at).is_some_and(|p| p.takes(c)))
                .collect::<Vec<_>>()
        };
        piece
            .kinds(alive.iter().filter_map(|n| others[*n].piece_at(at)))
            .into_iter()
            .find_map(|c| self.escape(format!("{number}{c}"), fits(c), others, longest, seen))
    }

    /// What the character at `at` must be; a "." continues for ever.
    fn piece_at(&self, at: usize) -> Option<&PatternPiece> {
        self.pieces.get(at).or_else(|| self.pieces.last().filter(|p| **p == PatternPiece::Rest))
    }
}

fn set(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Vec<(char, char)>, String> {
    let mut set = Vec::new();
    while let Some(c) = chars.next() {
        if c == ']' {
            return if set.is_empty() {
                Err("an empty [] matches nothing".into())
            } else {
                Ok(set)
            };
        }
        let to = match chars.next_if_eq(&'-') {
            Some(_) => chars
                .next()
                .filter(|t| *t != ']' && *t >= c)
                .ok_or("a range in [] must go upwards")?,
            None => c,
        };
        set.push((c, to));
    }
    Err("a [ is not closed".into())
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect("sound pattern")
    }

    #[test]
    fn letters_sets_and_the_final_dot_match_as_in_asterisk() {
        for (text, yes, no) in [
            ("+1NXXNXXXXXX", "+12065550123", "+11065550123"),
            ("911", "911", "9111"),
            ("+ZX.", "+442", "+44"),
            ("6[1-35]X", "652", "642"),
            (".", "*72#", ""),
            (".", "9196", "sales"),
            ("+ZX.", "+442079460018", "+442079460018;phone-context=x"),
            ("0.", "00900", "0\u{661}\u{662}"),
            ("sales", "sales", "sale"),
        ] {
            assert_eq!(pattern(text).mismatch(yes), None, "{text} {yes}");
            assert!(pattern(text).mismatch(no).is_some(), "{text} {no}");
        }
        assert_eq!(pattern("+1900X").mismatch("+1206").unwrap(), "character 3 is 2, not 9");
        assert!(
            ["", "1.2", "[", "[]", "[9-1]", "(206)"].iter().all(|t| Pattern::parse(t).is_err())
        );
    }

    #[test]
    fn what_others_take_alone_or_together_is_known_with_an_example_of_what_they_leave() {
        let escapes = |narrow: &str, others: &[&str]| {
            let others: Vec<Pattern> = others.iter().map(|t| pattern(t)).collect();
            pattern(narrow).escapes(&others.iter().collect::<Vec<_>>())
        };
        assert_eq!(escapes("+1900NXXXXXX", &["+1NXXNXXXXXX"]), None);
        assert!(
            escapes("+1NXXNXXXXXX", &["+1900NXXXXXX"]).is_some_and(|n| !n.starts_with("+1900"))
        );
        assert_eq!(escapes("911", &["."]), None);
        assert_eq!(escapes("9X.", &["91"]).as_deref().map(|n| n.starts_with('9')), Some(true));
        assert_eq!(escapes("9X", &["9[0-4]", "9[5-9]"]), None, "two take them together");
        assert_eq!(escapes("9X", &["9[0-4]", "9[6-9]"]).as_deref(), Some("95"));
        assert_eq!(escapes("+Z.", &["+[1-5].", "+[6-9]X."]).as_deref(), Some("+60"));
        assert_eq!(escapes(".", &["X.", "X"]).as_deref(), Some("+"));
        assert!(
            escapes("+NXXXXXXXXXXXXX.", &["+2.", "+3XX.", "+[4-8]XXXXXXX"]).is_some(),
            "long ones end too"
        );
        assert_eq!(escapes("[a-y]", &["[a-m]", "[n-x]"]).as_deref(), Some("y"));
    }

    #[test]
    fn a_set_of_all_characters_costs_no_more_than_one_of_two() {
        let set = format!("[{}]", "\u{1}-\u{10ffff}".repeat(5_000));
        let (one, other) = (pattern(&set), pattern("[\u{1}-\u{10fffe}]"));
        assert!(one.meets(&other));
        assert_eq!(one.escapes(&[&other]).as_deref(), Some("\u{10ffff}"));
    }
}
