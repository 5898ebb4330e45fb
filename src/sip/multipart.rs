//! Bodies of several parts (RFC 2046 §5.1, RFC 5621): the one that is looked for is found in them.
//!
//! Parts that nobody here reads (ISUP, rs-metadata, and PIDF-LO except towards trunks with
//! `location`) are omitted; whether one may be is its own `handling` to say. The scan is linear and
//! bounded in depth and parts.

use super::uri::Params;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Most parts of one message; what follows is omitted.
const MAX_PARTS: usize = 8;
/// A multipart body, one within it, and one within that.
const MAX_DEPTH: usize = 3;
/// Longest boundary (RFC 2046 §5.1.1).
const MAX_BOUNDARY: usize = 70;
/// Header lines of a part that are looked at.
const MAX_LINES: usize = 16;

/// The types that are read of a description or a report of progress.
pub(crate) const READ: [&str; 2] = ["application/sdp", "message/sipfrag"];

/// One part, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BodyPart {
    /// Its media type without parameters, in lower case.
    pub kind: String,
    /// It says `handling=required` itself, and is no alternative to another.
    pub required: bool,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// The media type of a Content-Type without parameters, in lower case.
pub(crate) fn media_type(content_type: &str) -> String {
    content_type.split([';', ',']).next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a Content-Disposition lets its body be omitted (RFC 3261 §20.11).
pub(crate) fn is_optional(disposition: &str) -> bool {
    handling(disposition).is_some_and(|h| h.eq_ignore_ascii_case("optional"))
}

fn handling(disposition: &str) -> Option<&str> {
    let (_, params) = disposition.split_once(';')?;
    Params::readable(params).get("handling")
}

/// A body of these parts, each with its type, further header lines and bytes, and its Content-Type.
pub(crate) fn mixed<'a>(
    parts: impl Iterator<Item = (&'a str, &'a str, &'a [u8])> + Clone,
) -> (String, Vec<u8>) {
    // Nobody writes a text that holds a digest of itself and of a description with our numbers in
    // it, so nothing has to be searched. It is short: bodies go by datagrams.
    let mut content = digest::Context::new(&digest::SHA256);
    parts.clone().for_each(|(.., bytes)| content.update(bytes));
    let boundary = URL_SAFE_NO_PAD.encode(&content.finish().as_ref()[..7]);
    let mut body = Vec::new();
    for (kind, lines, bytes) in parts {
        let head = format!("--{boundary}\r\nContent-Type: {kind}\r\n{lines}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("multipart/mixed;boundary={boundary}"), body)
}

/// The parts of `body`, those to be preferred first; `None` if it is no multipart body.
pub(crate) fn parts(content_type: &str, body: &[u8]) -> Vec<BodyPart> {
    let mut out = Vec::new();
    read(content_type, body, MAX_DEPTH, true, &mut out);
    out
}

fn read(content_type: &str, body: &[u8], depth: usize, counts: bool, out: &mut Vec<BodyPart>) {
    let kind = media_type(content_type);
    let params = content_type.split_once(';').map(|(_, p)| Params::readable(p));
    let named = params.and_then(|p| p.get("boundary")).unwrap_or_default().as_bytes();
    if depth == 0 || !kind.starts_with("multipart/") {
        return;
    }
    let boundary = if named.is_empty() { first_boundary(body) } else { named };
    if boundary.is_empty() || boundary.len() > MAX_BOUNDARY {
        return;
    }
    let mut sections = split(body, boundary);
    let alternative = kind == "multipart/alternative";
    if alternative {
        // RFC 2046 §5.1.4: the last one that is understood is the best.
        sections.reverse();
    }
    for section in sections {
        if out.len() == MAX_PARTS {
            return;
        }
        let part = RawPart::read(section);
        if part.content_type.to_ascii_lowercase().starts_with("multipart/") {
            read(&part.content_type, part.body, depth - 1, counts && !alternative, out);
            continue;
        }
        let required = handling(&part.disposition)
            .is_some_and(|h| h.eq_ignore_ascii_case("required"))
            && counts
            && !alternative;
        if let Some(bytes) = decode(&part.encoding, part.body) {
            out.push(BodyPart { kind: media_type(&part.content_type), required, bytes });
        }
    }
}

/// The boundary of a body whose type names none: its first line, if that can only be one. Some
/// leave the name out, and others have learnt to do without.
fn first_boundary(body: &[u8]) -> &[u8] {
    let mut lines = body.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.find(|line| !line.is_empty()).unwrap_or_default();
    first.strip_prefix(b"--").unwrap_or_default()
}

/// What stands between the boundaries; preamble and epilogue are omitted.
fn split<'a>(body: &'a [u8], boundary: &[u8]) -> Vec<&'a [u8]> {
    let (mut all, mut begun, mut at) = (Vec::new(), None, 0);
    while at < body.len() {
        let end = memchr::memchr(b'\n', &body[at..]).map_or(body.len(), |n| at + n + 1);
        let line = body[at..end].trim_ascii_end();
        let mark = line.strip_prefix(b"--").and_then(|l| l.strip_prefix(boundary));
        let closes = mark == Some(b"--");
        if closes || mark.is_some_and(<[u8]>::is_empty) {
            if let Some(from) = begun.take() {
                all.push(before_delimiter(&body[from..at]));
            }
            if closes || all.len() == MAX_PARTS {
                return all;
            }
            begun = Some(end);
        }
        at = end;
    }
    // A closing boundary that is missing ends with the body.
    let rest = begun.and_then(|from: usize| body.get(from..));
    all.extend(rest.filter(|rest| !rest.trim_ascii().is_empty()));
    all
}

/// The line end before a boundary is the boundary's.
fn before_delimiter(part: &[u8]) -> &[u8] {
    let part = part.strip_suffix(b"\n").unwrap_or(part);
    part.strip_suffix(b"\r").unwrap_or(part)
}

/// A part's headers, as far as they matter, and what follows them.
#[derive(Default)]
struct RawPart<'a> {
    content_type: String,
    disposition: String,
    encoding: String,
    body: &'a [u8],
}

impl<'a> RawPart<'a> {
    fn read(bytes: &'a [u8]) -> RawPart<'a> {
        let mut section = RawPart { body: &[], ..RawPart::default() };
        let mut lines: Vec<String> = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let end = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |n| at + n + 1);
            let line = String::from_utf8_lossy(bytes[at..end].trim_ascii_end());
            at = end;
            if line.is_empty() {
                section.body = &bytes[at..];
                break;
            }
            let room = lines.len() < MAX_LINES;
            match lines.last_mut() {
                Some(last) if line.starts_with([' ', '\t']) => last.push_str(&line),
                _ if room => lines.push(line.into_owned()),
                _ => {}
            }
        }
        for line in &lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let field = match name.trim().to_ascii_lowercase().as_str() {
                "content-type" | "c" => &mut section.content_type,
                "content-disposition" => &mut section.disposition,
                "content-transfer-encoding" => &mut section.encoding,
                _ => continue,
            };
            value.trim().clone_into(field);
        }
        section
    }
}

/// A part's bytes; `None` if nobody here can decode them.
fn decode(encoding: &str, body: &[u8]) -> Option<Vec<u8>> {
    match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "binary" | "8bit" | "7bit" => Some(body.to_vec()),
        "base64" => {
            let text: Vec<u8> = body.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
            STANDARD.decode(text).ok()
        }
        "quoted-printable" => Some(unquoted(body)),
        _ => None,
    }
}

/// A quoted-printable body as it was (RFC 2045 §6.7); an `=` that quotes nothing stays.
fn unquoted(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        let byte = digit(0).zip(digit(1)).map(|(high, low)| (high * 16 + low) as u8);
        rest = match (after, byte) {
            // A line that is broken for the way only.
            ([b'\r', b'\n', more @ ..] | [b'\n', more @ ..], _) if first == b'=' => more,
            ([_, _, more @ ..], Some(byte)) if first == b'=' => {
                out.push(byte);
                more
            }
            _ => {
                out.push(first);
                after
            }
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(content_type: &str, body: &str) -> Vec<(String, bool, String)> {
        parts(content_type, body.as_bytes())
            .into_iter()
            .map(|p| (p.kind, p.required, String::from_utf8(p.bytes).expect("text")))
            .collect()
    }

    fn part(kind: &str, required: bool, text: &str) -> (String, bool, String) {
        (kind.to_owned(), required, text.to_owned())
    }

    #[test]
    fn parts_are_found_between_preamble_and_epilogue() {
        let body = "a preamble\r\n--b 7 \r\nContent-Type: application/SDP ; x=y\r\n\r\nv=0\r\n\r\n--b 7\r\n\
                    Content-Disposition: signal;\r\n handling=Required\r\nContent-Type: application/isup\r\n\r\nI\r\n--b 7--\r\nepilogue\r\n--b 7\r\n\r\nno\r\n";
        assert_eq!(
            kinds("Multipart/Mixed; boundary=\"b 7\"", body),
            [part("application/sdp", false, "v=0\r\n"), part("application/isup", true, "I")]
        );
    }

    #[test]
    fn what_is_written_is_read_whatever_the_parts_hold() {
        let evil = "x\r\n--webtrunk-0--\r\nwebtrunk-1\r\n--webtrunk-\r\n";
        let parts =
            [("application/sdp", "X: y", "v=0\r\n"), ("application/pidf+xml", "X: y", evil)];
        let (kind, body) = mixed(parts.iter().map(|(k, l, b)| (*k, *l, b.as_bytes())));
        assert_eq!(
            kinds(&kind, &String::from_utf8(body).expect("text")),
            [part("application/sdp", false, "v=0\r\n"), part("application/pidf+xml", false, evil)]
        );
    }

    #[test]
    fn the_last_alternative_comes_first_and_nothing_in_it_is_required() {
        let body = "--x\n\n plain\n--x\nc: text/html\nContent-Disposition: render;handling=required\n\nh\n--x--";
        assert_eq!(
            kinds("multipart/alternative;boundary=x", body),
            [part("text/html", false, "h"), part("", false, " plain")]
        );
    }

    #[test]
    fn nesting_encodings_and_missing_ends_are_borne() {
        let inner = "--i\r\nContent-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\ndj0w\r\nDQo=\r\n--i--";
        let body =
            format!("--o\r\nContent-Type: multipart/related;boundary=i\r\n\r\n{inner}\r\n--o");
        let content_type = "multipart/mixed;boundary=o";
        assert_eq!(kinds(content_type, &body), [part("application/sdp", false, "v=0\r\n")]);
        let unknown = "--o\r\nContent-Transfer-Encoding: x-uue\r\n\r\na\r\n--o--";
        assert_eq!(kinds(content_type, unknown), []);
        // A type that names no boundary, as some write it.
        for bare in
            ["multipart/mixed", "multipart/mixed;boundary=", "multipart/mixed;boundary=\"\""]
        {
            let found = [part("application/sdp", false, "v=0\r\n")];
            assert_eq!(kinds(bare, &format!("\r\n{body}")), found, "{bare}");
            for other in ["", "v=0\r\n", "--", "--\r\n\r\nv=0\r\n"] {
                assert_eq!(kinds(bare, other), [], "{bare} {other:?}");
            }
        }
        let quoted = "--o\r\nContent-Type: application/sdp\r\nContent-Transfer-Encoding: Quoted-Printable\r\n\r\n\
                      v=3D0\r\ns=3Dan =C3=b6 and a =\r\nline=\r\n--o--";
        let read = [part("application/sdp", false, "v=0\r\ns=an \u{f6} and a line=")];
        assert_eq!(kinds(content_type, quoted), read);
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let mut body = "--b3\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b3--".to_owned();
        for n in (0..3).rev() {
            let inner = n + 1;
            body = format!(
                "--b{n}\r\nContent-Type: multipart/mixed;boundary=b{inner}\r\n\r\n{body}\r\n--b{n}--"
            );
        }
        assert_eq!(kinds("multipart/mixed;boundary=b0", &body), [], "four deep");
        let many = "--x\r\nContent-Type: text/plain\r\n\r\na\r\n".repeat(1_000);
        assert_eq!(kinds("multipart/mixed;boundary=x", &many).len(), MAX_PARTS);
    }
}
