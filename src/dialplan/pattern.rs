//! Number patterns in Asterisk's letters: X 0-9, Z 1-9, N 2-9, `[1-5a]` a set, a last `.` one or more of anything.

use std::fmt;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Literal(char),
    Range(char, char),
    Set(Vec<(char, char)>),
    /// One or more of anything, at the end only.
    Rest,
}

impl Piece {
    fn takes(&self, c: char) -> bool {
        match self {
            Piece::Literal(l) => *l == c,
            Piece::Range(from, to) => (*from..=*to).contains(&c),
            Piece::Set(set) => set.iter().any(|(from, to)| (*from..=*to).contains(&c)),
            Piece::Rest => true,
        }
    }

    fn describe(&self) -> String {
        match self {
            Piece::Literal(l) => l.to_string(),
            Piece::Range(from, to) => format!("{from}-{to}"),
            Piece::Set(set) => set.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") }).collect(),
            Piece::Rest => "anything".into(),
        }
    }
}

/// A compiled pattern.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

impl Pattern {
    /// Compiles `text`.
    ///
    /// # Errors
    /// A sentence for the author of the dialplan.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let mut pieces = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                'X' => Piece::Range('0', '9'),
                'Z' => Piece::Range('1', '9'),
                'N' => Piece::Range('2', '9'),
                '.' if chars.peek().is_none() => Piece::Rest,
                '.' => return Err("a \".\" may stand only at the end".into()),
                '[' => Piece::Set(set(&mut chars)?),
                ' ' | '(' | ')' => return Err(format!("{c:?} cannot match: numbers are compared without separators")),
                c => Piece::Literal(c),
            });
        }
        if pieces.is_empty() {
            return Err("an empty pattern matches nothing".into());
        }
        Ok(Pattern { text: text.to_owned(), pieces })
    }

    /// Why `number` does not match, or nothing where it does.
    pub fn mismatch(&self, number: &str) -> Option<String> {
        let chars: Vec<char> = number.chars().collect();
        for (at, piece) in self.pieces.iter().enumerate() {
            match chars.get(at) {
                None => return Some(format!("number ends after {} of {} characters", chars.len(), self.pieces.len())),
                Some(_) if *piece == Piece::Rest => return None,
                Some(c) if !piece.takes(*c) => {
                    return Some(format!("character {} is {c}, not {}", at + 1, piece.describe()));
                }
                Some(_) => {}
            }
        }
        (chars.len() > self.pieces.len()).then(|| format!("number has {} characters, pattern {}", chars.len(), self.pieces.len()))
    }

    /// Whether every number `other` takes is taken by this one too.
    pub fn covers(&self, other: &Pattern) -> bool {
        for (at, mine) in self.pieces.iter().enumerate() {
            match (mine, other.pieces.get(at)) {
                (Piece::Rest, Some(_)) => return true,
                (_, None | Some(Piece::Rest)) => return false,
                (mine, Some(theirs)) if !covers(mine, theirs) => return false,
                _ => {}
            }
        }
        self.pieces.len() == other.pieces.len()
    }
}

fn covers(mine: &Piece, theirs: &Piece) -> bool {
    let ranges: Vec<(char, char)> = match theirs {
        Piece::Literal(c) => vec![(*c, *c)],
        Piece::Range(a, b) => vec![(*a, *b)],
        Piece::Set(set) => set.clone(),
        Piece::Rest => return *mine == Piece::Rest,
    };
    ranges.iter().all(|(a, b)| (*a..=*b).all(|c| mine.takes(c)))
}

fn set(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Vec<(char, char)>, String> {
    let mut set = Vec::new();
    while let Some(c) = chars.next() {
        if c == ']' {
            return if set.is_empty() { Err("an empty [] matches nothing".into()) } else { Ok(set) };
        }
        let to = match chars.next_if_eq(&'-') {
            Some(_) => chars.next().filter(|t| *t != ']' && *t >= c).ok_or("a range in [] must go upwards")?,
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
            (".", "sales", ""),
            ("sales", "sales", "sale"),
        ] {
            assert_eq!(pattern(text).mismatch(yes), None, "{text} {yes}");
            assert!(pattern(text).mismatch(no).is_some(), "{text} {no}");
        }
        assert_eq!(pattern("+1900X").mismatch("+1206").unwrap(), "character 3 is 2, not 9");
        assert!(["", "1.2", "[", "[]", "[9-1]", "(206)"].iter().all(|t| Pattern::parse(t).is_err()));
    }

    #[test]
    fn a_wider_pattern_covers_a_narrower_one() {
        assert!(pattern("+1NXXNXXXXXX").covers(&pattern("+1900NXXXXXX")));
        assert!(!pattern("+1900NXXXXXX").covers(&pattern("+1NXXNXXXXXX")));
        assert!(pattern(".").covers(&pattern("911")) && !pattern("9X.").covers(&pattern("91")));
    }
}
