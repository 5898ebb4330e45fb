//! Passwords that are guessed first: a warning, for a telephone bill hangs on them.
//!
//! Not here: how good a password is otherwise; `init` and `webtrunk user` make random ones.

use super::Check;
use crate::config::schema;

/// A password of fewer characters is guessed.
const SHORT: usize = 8;
/// Digits alone are as few as this many characters of all kinds.
const SHORT_DIGITS: usize = 14;
/// Different characters of the least varied password.
const VARIED: usize = 4;
/// Characters round a word that do not make it another.
const ROUND_A_WORD: usize = 6;

/// Words that lists of passwords begin with; what follows them is guessed with them.
const WORDS: [&str; 26] = [
    "abc", "access", "admin", "asterisk", "baseball", "changeme", "default", "demo", "dragon",
    "football", "guest", "iloveyou", "letmein", "login", "master", "monkey", "pass", "password",
    "phone", "qwerty", "root", "secret", "sip", "test", "webtrunk", "welcome",
];
/// Rows that hands run along.
const ROWS: [&str; 6] = [
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn",
    "1q2w3e4r5t6y7u8i9o0p",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
];

impl Check {
    /// Warns of a password that is guessed, wherever it is written.
    pub(super) fn password_of(&mut self, name: &str, user: &schema::User, password: &str) {
        let numbers = user.did.iter().chain(&user.numbers).map(|n| n.as_ref().as_str());
        let Some(why) = weakness(password, name, numbers) else { return };
        let message = format!("the password of user {name} is weak: it {why}");
        let help = "make one: `openssl rand -base64 18`; it guards your telephone bill";
        self.warn(user.password.span(), "config::password", message, help);
    }
}

/// Why `password` is one of the first that are tried for this user.
fn weakness<'a>(
    password: &str,
    name: &str,
    mut numbers: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let length = password.chars().count();
    let lower = password.to_lowercase();
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let (word, own) = (stem(&lower), digits(&lower));
    let mut different: Vec<char> = lower.chars().collect();
    different.sort_unstable();
    different.dedup();
    let all_digits = own.len() == length;
    let is_word = |known: &str| {
        !known.is_empty() && word == known && length - word.chars().count() <= ROUND_A_WORD
    };
    let of_number = |number: &str| all_digits && digits(number).ends_with(&own);
    let along = |row: &&str| {
        let back: String = row.chars().rev().collect();
        row.contains(&lower) || back.contains(&lower)
    };
    Some(match length {
        0 => return None,
        n if n < SHORT => format!("has {n} characters"),
        _ if is_word(&stem(&name.to_lowercase())) => {
            "is the user's name, or hardly more".to_owned()
        }
        _ if numbers.any(of_number) => "is the user's number".to_owned(),
        _ if WORDS.iter().any(|known| is_word(known)) || ROWS.iter().any(along) => {
            "is one of the first that are guessed".to_owned()
        }
        _ if different.len() < VARIED => "repeats a few characters".to_owned(),
        n if all_digits && n < SHORT_DIGITS => format!("is {n} digits and nothing else"),
        _ => return None,
    })
}

/// A word without what people put round it, and with letters for the digits that stand for them.
fn stem(text: &str) -> String {
    let word = text.trim_matches(|c: char| !c.is_alphabetic() && !matches!(c, '@' | '$'));
    let plain = |c| match c {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        c => c,
    };
    word.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_guessed_first_is_told_and_what_is_not_is_not() {
        let numbers = ["+12065550123"];
        let why = |password: &str| weakness(password, "alice", numbers.into_iter());
        for weak in [
            "short",
            "1234567",
            "Password",
            "password1",
            "P@ssw0rd!",
            "passw0rd2026",
            "12345678",
            "0123456789",
            "87654321",
            "11111111",
            "abababab",
            "alice123",
            "Alice2026!",
            "qwertyui",
            "QWERTZUIOP",
            "1q2w3e4r",
            "1qaz2wsx",
            "letmein1",
            "Welcome1",
            "changeme",
            "secret99",
            "admin123",
            "2065550123",
            "12065550123",
            "abcdefgh",
            "zyxwvuts",
            "test1234",
            "webtrunk",
            "20261128",
        ] {
            assert!(why(weak).is_some(), "{weak}");
        }
        for good in [
            "",
            "long enough",
            "correct horse",
            "secret-of-alice",
            "0123456789ab",
            "wJ8x-2kQ0aPz",
            "malice-in-wonderland",
            "k7PzQ2mN",
            "493012345678901",
            "\u{65e5}\u{672c}\u{8a9e}-telephone",
        ] {
            assert_eq!(why(good), None, "{good}");
        }
        assert_eq!(weakness("4711-4711-47-abc", "4711", [].into_iter()), None);
    }
}
