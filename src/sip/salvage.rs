//! What a message that cannot be read still says of itself: which call it is of, and its start.
//!
//! For the story of that call only; nothing is answered or decided by it.

/// Longest texts that are kept.
const LONGEST: usize = 200;

/// The readable rest of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Salvaged {
    /// The Call-ID.
    pub call_id: String,
    /// The first line.
    pub start_line: String,
}

/// Finds the Call-ID of what should have been a message.
pub(crate) fn salvage(bytes: &[u8]) -> Option<Salvaged> {
    let head = &bytes[..bytes.len().min(16_384)];
    let mut lines = head.split(|b| *b == b'\n').skip_while(|l| l.trim_ascii().is_empty());
    let start_line = text(lines.next()?);
    let call_id = lines.take_while(|line| !line.trim_ascii().is_empty()).find_map(|line| {
        let colon = line.iter().position(|b| *b == b':')?;
        let name = line[..colon].trim_ascii();
        let named = name.eq_ignore_ascii_case(b"call-id") || name.eq_ignore_ascii_case(b"i");
        named.then(|| text(&line[colon + 1..]))
    })?;
    (!call_id.is_empty()).then_some(Salvaged { call_id, start_line })
}

fn text(bytes: &[u8]) -> String {
    let bytes = bytes.trim_ascii();
    String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_id_is_found_in_what_cannot_be_read() {
        let found = |bytes: &[u8]| salvage(bytes).map(|s| (s.start_line, s.call_id));
        assert_eq!(
            found(b"\r\nSIP/2.0 200 \xe9\r\nno colon\r\ncall-id : a@b\r\n\r\ni: body"),
            Some(("SIP/2.0 200 \u{fffd}".to_owned(), "a@b".to_owned()))
        );
        assert_eq!(found(b"BYE x\ni:c\n"), Some(("BYE x".to_owned(), "c".to_owned())));
        for none in [&b""[..], b"\r\n\r\n", b"BYE x\r\n\r\nCall-ID: in-the-body", b"Call-ID: x"] {
            assert_eq!(found(none), None, "{}", String::from_utf8_lossy(none));
        }
    }

    #[test]
    fn what_is_kept_of_it_is_cut() {
        let long = "x".repeat(LONGEST + 100);
        let rest = salvage(format!("BYE {long}\r\nCall-ID: {long}\r\n").as_bytes());
        let rest = rest.expect("it says whose it is");
        assert_eq!((rest.start_line.len(), rest.call_id.len()), (LONGEST, LONGEST));
    }
}
