//! Numbers that cost their caller more than a call, and pay somebody for being called: what a
//! stolen password is worth. Known by the types of the number metadata.

use rlibphonenumber::{PhoneNumber, PhoneNumberType, Region};
use std::fmt;

/// The fewest digits of a number that can be dear.
const SHORTEST: usize = 5;

/// What makes a number dear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tariff {
    /// Premium rate: 900 in North America, 0900 in Germany, +979.
    Premium,
    /// Shared cost, of which the one called has its part: 0180 in Germany, +808.
    SharedCost,
    /// Personal numbers, which are billed like mobile ones or more: 070 in Britain, +878.
    Personal,
    /// Satellites and other networks of no country: +870, +881, +882, +883.
    Satellite,
}

impl Tariff {
    /// All of them.
    pub(crate) const ALL: [Tariff; 4] =
        [Tariff::Premium, Tariff::SharedCost, Tariff::Personal, Tariff::Satellite];

    /// Its word in a dialplan.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Tariff::Premium => "premium",
            Tariff::SharedCost => "shared-cost",
            Tariff::Personal => "personal",
            Tariff::Satellite => "satellite",
        }
    }

    /// The one with this word.
    pub(crate) fn from_word(word: &str) -> Option<Tariff> {
        Tariff::ALL.into_iter().find(|t| t.as_str() == word)
    }

    /// Returns what makes `number` dear, or `None` if it is like any other. `country` is how one
    /// without `+` is read.
    ///
    /// Carriers drop digits beyond the end of a number, and dial what follows an international
    /// prefix, so both are looked through.
    pub(crate) fn of(number: &str, country: Option<&str>) -> Option<Tariff> {
        let region = country.and_then(|c| c.parse::<Region>().ok());
        let digits = number.trim_start_matches('+');
        let abroad = digits.strip_prefix("00").or_else(|| digits.strip_prefix("011"));
        let abroad = abroad.map(|rest| format!("+{}", rest.trim_start_matches('0')));
        Tariff::read(number, region).or_else(|| Tariff::read(&abroad?, None))
    }

    /// By the longest beginning of `text` that is a number.
    fn read(text: &str, region: Option<Region>) -> Option<Tariff> {
        if !text.chars().all(|c| c.is_ascii_digit() || c == '+') || text.len() < SHORTEST {
            return None;
        }
        let parse = |text: &str| PhoneNumber::parse(text, region).ok();
        let valid = |text: &str| parse(text).filter(PhoneNumber::is_valid);
        let longest = text.len().min(24);
        let number = (SHORTEST..=longest).rev().find_map(|end| valid(&text[..end]));
        Tariff::typed(&number.or_else(|| parse(&text[..longest]))?)
    }

    fn typed(number: &PhoneNumber) -> Option<Tariff> {
        match (number.get_type(), number.country_code) {
            (_, 979) | (PhoneNumberType::PremiumRate, _) => Some(Tariff::Premium),
            (_, 808) | (PhoneNumberType::SharedCost, _) => Some(Tariff::SharedCost),
            (_, 878) | (PhoneNumberType::PersonalNumber, _) => Some(Tariff::Personal),
            (_, 870 | 881 | 882 | 883) => Some(Tariff::Satellite),
            _ => None,
        }
    }
}

impl fmt::Display for Tariff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dear_numbers_are_known_however_they_are_dialled() {
        let mut wrong = Vec::new();
        for (number, country, expected) in [
            ("+19005550123", Some("US"), Some(Tariff::Premium)),
            ("+19005550123", None, Some(Tariff::Premium)),
            ("+499001123456", None, Some(Tariff::Premium)),
            ("+448712345678", None, Some(Tariff::Premium)),
            ("+979123456789", None, Some(Tariff::Premium)),
            ("+491801234567", None, Some(Tariff::SharedCost)),
            ("+80812345678", None, Some(Tariff::SharedCost)),
            ("+447012345678", None, Some(Tariff::Personal)),
            ("+878101234567890", None, Some(Tariff::Personal)),
            ("+881612345678", None, Some(Tariff::Satellite)),
            ("+870773123456", None, Some(Tariff::Satellite)),
            ("+883510001234567", None, Some(Tariff::Satellite)),
            // Too long: the carrier drops what is too much.
            ("+1900555012399", None, Some(Tariff::Premium)),
            ("1900555012399", Some("US"), Some(Tariff::Premium)),
            ("+19005550123000000000000000000000", None, Some(Tariff::Premium)),
            // Behind a prefix that the dialplan did not read.
            ("0019005550123", None, Some(Tariff::Premium)),
            ("+01119005550123", None, Some(Tariff::Premium)),
            ("+0019005550123", Some("US"), Some(Tariff::Premium)),
            // Like any other.
            ("+12065550123", None, None),
            ("+18005550123", None, None),
            ("+4915123456789", None, None),
            ("+442079460018", None, None),
            ("+80012345678", None, None),
            ("911", Some("US"), None),
            ("9001", Some("US"), None),
            ("+44", None, None),
            ("*72", Some("US"), None),
            ("sales-office", Some("US"), None),
            ("", None, None),
        ] {
            wrong.extend((Tariff::of(number, country) != expected).then_some((number, expected)));
        }
        assert_eq!(wrong, []);
        for tariff in Tariff::ALL {
            assert_eq!(Tariff::from_word(tariff.as_str()), Some(tariff));
        }
    }
}
