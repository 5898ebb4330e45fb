//! The number in a URI's user part: what is dialled, without its parameters.
//!
//! A `sip:` user that is a telephone number carries the parameters of a `tel:` URI (RFC 3966
//! §5.1.1, RFC 3261 §19.1.6): number portability (RFC 4694), trunk groups (RFC 4904), `cpc`,
//! `isup-oli`, `ext`. They are parameters, never digits.

use super::scan::cut;
use super::uri::{Params, Uri, unescape};

impl Uri<'_> {
    /// The number, or name, this URI is for: what precedes the first `;` of its user part, without
    /// visual separators if it is a number, and global if a `phone-context` makes it so.
    pub(crate) fn number(&self) -> String {
        let user = self.user.unwrap_or_default();
        let (name, params) = cut(user, b';').unwrap_or((user, ""));
        let name = unescape(name);
        let Some(number) = dialable(&name) else { return name.into_owned() };
        let own = Params::checked(params).get("phone-context");
        let context = own.or(self.params.get("phone-context"));
        let local = number.bytes().all(|b| b.is_ascii_digit());
        match context.filter(|_| local).and_then(prefix) {
            Some(prefix) => prefix + &number,
            None => number,
        }
    }
}

/// `text` without visual separators (RFC 3966 §5.1.1), if it is a number.
fn dialable(text: &str) -> Option<String> {
    let number: String = text
        .chars()
        .filter(|c| !matches!(c, '-' | '.' | '(' | ')' | ' ' | '\t' | '\u{a0}'))
        .collect();
    let digits = number.strip_prefix('+').unwrap_or(&number);
    let sound = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'*' | b'#'));
    (sound && digits.bytes().any(|b| b.is_ascii_digit())).then_some(number)
}

/// The global prefix a phone-context is, if it is no domain.
fn prefix(context: &str) -> Option<String> {
    let prefix = dialable(&unescape(context))?;
    let digits = prefix.strip_prefix('+')?;
    digits.bytes().all(|b| b.is_ascii_digit()).then_some(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_number_are_no_part_of_it() {
        for (uri, expected) in [
            ("sip:+12065550100;npdi;rn=+12065550199@x", "+12065550100"),
            ("sip:+12065550100;ext=42@x;user=phone", "+12065550100"),
            ("sip:+12065550100;tgrp=a;trunk-context=b.example@x", "+12065550100"),
            ("sip:+12065550100;isup-oli=0;cpc=ordinary@x", "+12065550100"),
            ("sip:+1-206-555.0100@x", "+12065550100"),
            ("sip:(206)555-0100@x", "2065550100"),
            ("sip:%2B1206%20555-0100%3Bext@x", "+1206 555-0100;ext"),
            ("sip:%2B12065550100;x=%3B@x", "+12065550100"),
            ("sip:5550100;phone-context=+1206@x", "+12065550100"),
            ("sip:5550100;PHONE-CONTEXT=%2B1-206@x", "+12065550100"),
            ("sip:5550100;phone-context=pbx.example@x", "5550100"),
            ("sip:5550100@x;phone-context=+1206;user=phone", "+12065550100"),
            ("sip:+5550100;phone-context=+1206@x", "+5550100"),
            ("sip:*72;phone-context=+1206@x", "*72"),
            ("tel:555-0100;phone-context=+1-206", "+12065550100"),
            ("tel:+1-206-555-0100;ext=7", "+12065550100"),
            ("sip:john.doe@x", "john.doe"),
            ("sip:bob;ob@x", "bob"),
            ("sip:a-1@x", "a-1"),
            ("sip:911@x", "911"),
            ("sip:x", ""),
        ] {
            assert_eq!(Uri::parse(uri).expect(uri).number(), expected, "{uri}");
        }
        assert_eq!(Uri::opaque("sip:+1 206 555 0100@x").number(), "+12065550100");
    }
}
