//! What a head may hold that it should not, and that no step needs: bytes that are not UTF-8, and
//! control characters where only people read.
//!
//! Devices write Latin-1 into display names, Subject and Server, and a reason phrase may hold
//! anything. Such bytes never decide over a message (RFC 3261 §8.2.2); they are made text here,
//! before anything is looked for in the head. Not here: lines that stay unreadable (`sip::parse`).

use super::parse::MAX_MESSAGE;

/// Makes `buf[..head]` UTF-8: a byte that is not is taken for ISO 8859-1, which is what devices
/// mean by it. Returns where the head ends then, and whether anything was changed.
pub(super) fn to_utf8(buf: &mut Vec<u8>, head: usize) -> (usize, bool) {
    if std::str::from_utf8(&buf[..head]).is_ok() {
        return (head, false);
    }
    let mut text = String::with_capacity(head + head / 4);
    for chunk in buf[..head].utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|&b| latin1(b)));
    }
    if text.len() > MAX_MESSAGE {
        // Spans are 16-bit: a head that would outgrow them keeps its length.
        text.clear();
        for chunk in buf[..head].utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| '?'));
        }
    }
    let end = text.len();
    buf.splice(..head, text.into_bytes());
    (end, true)
}

/// The character of a byte beyond ASCII; the C1 controls are excluded.
fn latin1(b: u8) -> char {
    if b < 0xa0 { char::REPLACEMENT_CHARACTER } else { char::from(b) }
}

/// Whether `b` may not stand in a line.
fn is_control(b: u8) -> bool {
    (b < 0x20 && !matches!(b, b'\t' | b'\r' | b'\n')) || b == 0x7f
}

/// Puts `?` for control characters within quoted strings, and anywhere in a reason phrase: both
/// are read by people only. Returns whether there were any. Others stay, and cost the header they
/// stand in.
pub(super) fn cover_controls(head: &mut [u8]) -> bool {
    if !head.iter().fold(false, |bad, &b| bad | is_control(b)) {
        return false;
    }
    let mut covered = false;
    let response = head.get(..8).is_some_and(|v| v.eq_ignore_ascii_case(b"SIP/2.0 "));
    for (n, line) in head.split_mut(|b| *b == b'\n').enumerate() {
        let (mut quoted, mut escaped) = (n == 0 && response, false);
        for b in line {
            match *b {
                _ if is_control(*b) && quoted => {
                    (*b, escaped, covered) = (b'?', false, true);
                }
                _ if escaped => escaped = false,
                b'\\' => escaped = quoted,
                b'"' if n > 0 => quoted = !quoted,
                _ => {}
            }
        }
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latin1_becomes_text_and_utf8_stays() {
        let mut bytes = b"Subject: K\xf6ln\r\nX: \xc3\xb6\r\n\r\nbody \xff".to_vec();
        let head = bytes.len() - 6;
        let (end, changed) = to_utf8(&mut bytes, head);
        assert!(changed);
        assert_eq!(std::str::from_utf8(&bytes[..end]), Ok("Subject: Köln\r\nX: ö\r\n\r\n"));
        assert_eq!(&bytes[end..], b"body \xff");
    }

    #[test]
    fn a_head_that_would_outgrow_its_spans_keeps_its_length() {
        let mut bytes = vec![0xe9u8; 60_000];
        assert_eq!(to_utf8(&mut bytes, 60_000), (60_000, true));
        assert!(bytes.iter().all(|b| *b == b'?'));
    }

    #[test]
    fn control_characters_are_covered_only_where_people_read() {
        let mut head = b"SIP/2.0 200 O\x01K\r\nTo: \"a\x07\\\x08\" <sip:x\x02>\r\n\r\n".to_vec();
        assert!(cover_controls(&mut head));
        assert_eq!(head, b"SIP/2.0 200 O?K\r\nTo: \"a?\\?\" <sip:x\x02>\r\n\r\n");
    }
}
