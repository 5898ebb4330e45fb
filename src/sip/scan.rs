//! Reading text quickly: characters by class, from a table, and cuts at a byte, by `memchr`.
//!
//! The grammar is RFC 3261 §25.1. Every value of every message comes through here, most of them
//! several times, so nothing in this file looks at a character with a chain of comparisons.

/// A set of characters: one bit of [`CLASSES`].
#[derive(Clone, Copy)]
pub(crate) struct ByteClass(u8);

/// `token`.
pub(crate) const TOKEN: ByteClass = ByteClass(1);
/// A host name's characters (and `_`, which the field uses).
pub(crate) const HOST: ByteClass = ByteClass(2);
/// What no URI holds: control characters, space, `<`, `>`, `"`.
pub(crate) const NOT_URI: ByteClass = ByteClass(4);

const CLASSES: [u8; 256] = {
    let mut classes = [0u8; 256];
    let mut n = 0;
    while n < 256 {
        let b = n as u8;
        let alphanumeric = b.is_ascii_alphanumeric();
        let token = alphanumeric
            || matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        let host = alphanumeric || matches!(b, b'-' | b'.' | b'_');
        let not_uri = b <= 0x20 || b == 0x7f || matches!(b, b'<' | b'>' | b'"');
        classes[n] = token as u8 | (host as u8) << 1 | (not_uri as u8) << 2;
        n += 1;
    }
    classes
};

impl ByteClass {
    /// Whether `b` is one of these.
    pub(crate) fn has(self, b: u8) -> bool {
        CLASSES[b as usize] & self.0 != 0
    }

    /// Whether all of `text` is; true of an empty one.
    pub(crate) fn holds(self, text: &[u8]) -> bool {
        text.iter().fold(self.0, |all, &b| all & CLASSES[b as usize]) != 0
    }

    /// Where the first of these stands in `text`.
    pub(crate) fn find(self, text: &[u8]) -> Option<usize> {
        text.iter().position(|&b| self.has(b))
    }
}

/// Whether a control character stands in `text`, tabs aside. Written so that it is compiled to
/// vector code.
pub(crate) fn has_control(text: &[u8]) -> bool {
    text.iter().fold(false, |bad, &b| bad | ((b < 0x20) & (b != b'\t')) | (b == 0x7f))
}

/// `text` before and after the first `at`, which is ASCII.
pub(crate) fn cut(text: &str, at: u8) -> Option<(&str, &str)> {
    debug_assert!(at.is_ascii());
    let bytes = text.as_bytes();
    // Below a vector's length the plain loop is quicker, and most values are.
    let n = if bytes.len() < 24 {
        bytes.iter().position(|&b| b == at)?
    } else {
        memchr::memchr(at, bytes)?
    };
    Some((&text[..n], &text[n + 1..]))
}

/// White space within a line: what separates words in a header's value.
fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

/// `text` before and after the first space or tab.
pub(crate) fn cut_blank(text: &str) -> Option<(&str, &str)> {
    let n = text.bytes().position(is_blank)?;
    Some((&text[..n], &text[n + 1..]))
}

/// Where `wanted` stands outside quoted strings.
///
/// # Errors
/// A quoted string does not end.
pub(crate) fn find_outside_quotes(text: &str, wanted: u8) -> Result<Option<usize>, ()> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(n) = memchr::memchr2(wanted, b'"', &bytes[from..]) {
        if bytes[from + n] == wanted {
            return Ok(Some(from + n));
        }
        from = quoted_end(bytes, from + n).ok_or(())?;
    }
    Ok(None)
}

/// Just past the quoted string that begins at `open`.
fn quoted_end(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    while let Some(n) = memchr::memchr2(b'"', b'\\', bytes.get(at..)?) {
        if bytes[at + n] == b'"' {
            return Some(at + n + 1);
        }
        at += n + 2;
    }
    None
}

/// Splits at `separator` outside quotes and angle brackets.
pub(super) fn split_outside_quotes(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let current = rest?;
        match piece_end(current.as_bytes(), separator) {
            Some(n) => {
                rest = Some(&current[n + 1..]);
                Some(&current[..n])
            }
            None => {
                rest = None;
                Some(current)
            }
        }
    })
}

/// Where the first separator outside quotes and angle brackets stands.
fn piece_end(bytes: &[u8], separator: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr3(separator, b'"', b'<', bytes.get(at..)?)?;
        match bytes[at] {
            b'"' => at = quoted_end(bytes, at)?,
            b'<' => at = angle_end(bytes, at)?,
            _ => return Some(at),
        }
    }
}

/// Just past the bracket that closes the one at `open`; quoted strings within are stepped over.
fn angle_end(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        at += memchr::memchr2(b'>', b'"', bytes.get(at..)?)?;
        match bytes[at] {
            b'"' => at = quoted_end(bytes, at)?,
            _ => return Some(at + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same, character by character: what the fast one must agree with.
    fn plainly(text: &str, separator: u8) -> Vec<&str> {
        let (mut quoted, mut escaped, mut angle) = (false, false, false);
        let (mut pieces, mut from) = (Vec::new(), 0);
        for (n, b) in text.bytes().enumerate() {
            match b {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b'<' if !quoted => angle = true,
                b'>' if !quoted => angle = false,
                _ if b == separator && !quoted && !angle => {
                    pieces.push(&text[from..n]);
                    from = n + 1;
                }
                _ => {}
            }
        }
        pieces.push(&text[from..]);
        pieces
    }

    proptest! {
        #[test]
        fn pieces_are_those_of_the_plain_reading(text in "[ab,;<>\"\\\\ é]{0,40}") {
            let pieces: Vec<_> = split_outside_quotes(&text, b',').collect();
            prop_assert_eq!(pieces, plainly(&text, b','));
        }

        #[test]
        fn control_characters_are_found(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            let plain = text.iter().any(|&b| (b < 0x20 && b != b'\t') || b == 0x7f);
            prop_assert_eq!(has_control(&text), plain);
        }
    }

    #[test]
    fn quotes_hide_what_is_looked_for() {
        assert_eq!(find_outside_quotes("\"a<\\\"<\" <sip:x>", b'<'), Ok(Some(8)));
        assert_eq!(find_outside_quotes("\"a<", b'<'), Err(()));
        assert_eq!(find_outside_quotes("sip:x", b'<'), Ok(None));
    }
}
