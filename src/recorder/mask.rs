//! A message as a person may read it: without credentials, keys and digits.

use crate::printable;
use crate::sip::message::Message;
use crate::sip::parse::{Framing, HeaderName};

/// The text of a message, its lines ended by `\n`; what is secret in it is `***`.
pub(crate) fn readable(bytes: &[u8]) -> String {
    let Ok(message) = Message::parse(bytes.to_vec(), Framing::WebSocket) else {
        return format!("({} bytes that cannot be read as SIP)", bytes.len());
    };
    readable_message(&message)
}

/// As [`readable`].
pub fn readable_message(message: &Message) -> String {
    let mut out = start_line(message);
    for (name, raw, value) in message.headers() {
        out.push('\n');
        out.push_str(&shown(raw));
        out.push_str(": ");
        out.push_str(&shown(&masked(name, value)));
    }
    let body = body_of(message);
    if !body.is_empty() {
        out.push_str("\n\n");
        out.push_str(&body);
    }
    out
}

/// A readable text as a message again: its lines ended as SIP's are, its length its own, for
/// masking changed it.
pub fn wire(text: &str) -> String {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let body: String = body.lines().map(|l| format!("{l}\r\n")).collect();
    let head = head
        .lines()
        .filter(|l| !l.to_ascii_lowercase().starts_with("content-length:") && !l.starts_with("l:"));
    let head: String = head.map(|l| format!("{l}\r\n")).collect();
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// The first line as it was on the wire.
pub(crate) fn start_line(message: &Message) -> String {
    if message.is_request() {
        let uri = without_passwords(message.request_uri());
        format!("{} {} SIP/2.0", shown(message.method_token()), shown(&uri))
    } else {
        format!("SIP/2.0 {} {}", message.status(), shown(message.reason_phrase()))
    }
}

/// A remote text, safe to print.
pub(crate) fn shown(text: &str) -> String {
    printable::line(text).into_owned()
}

fn masked(name: HeaderName, value: &str) -> String {
    match name {
        HeaderName::Authorization | HeaderName::ProxyAuthorization => {
            // User name and realm stay, the response is removed; Bearer tokens are removed
            // entirely.
            let scheme = value.split_ascii_whitespace().next().unwrap_or_default();
            if !scheme.eq_ignore_ascii_case("digest") {
                return format!("{scheme} ***");
            }
            let keep = |part: &&str| {
                let name =
                    part.trim().split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
                matches!(name.as_str(), "realm" | "uri" | "algorithm" | "username" | "qop")
            };
            let rest = value.trim_start()[scheme.len()..].split(',').collect::<Vec<_>>();
            let kept: Vec<&str> = rest.iter().copied().filter(keep).map(str::trim).collect();
            format!("Digest {}, response=***", kept.join(", "))
        }
        _ => without_passwords(value),
    }
}

/// A text whose SIP URIs have no passwords in them (RFC 3261 §19.1.1 has them before the host).
fn without_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(':') {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        rest = after;
        let scheme = before[..at].to_ascii_lowercase();
        if !scheme.ends_with("sip") && !scheme.ends_with("sips") {
            continue;
        }
        let end = after.find(['@', '>', ';', '?', ',', ' ', '"']).unwrap_or(after.len());
        let secret = after[..end].find(':').filter(|_| after[end..].starts_with('@'));
        if let Some(colon) = secret {
            out.push_str(&after[..=colon]);
            out.push_str("***");
            rest = &after[end..];
        }
    }
    out.push_str(rest);
    out
}

fn body_of(message: &Message) -> String {
    let kind = message.content_type().unwrap_or_default().to_ascii_lowercase();
    readable_body(&kind, message.body())
}

/// A body of this type; what is secret in it is `***`. In one of several parts every line is
/// looked at as any of them might be meant.
pub(crate) fn readable_body(kind: &str, body: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(body) else {
        return format!("({} bytes)", body.len());
    };
    let many = kind.starts_with("multipart/");
    let digits = DIGITS.iter().any(|known| kind.starts_with(known));
    let described = kind.starts_with("application/sdp") || kind.is_empty();
    let mut encoded = EncodedPart::default();
    let lines = text.lines().map(|line| {
        if many && encoded.holds(line) {
            return "***".to_owned();
        }
        let digit = if digits || many { masked_digit(line, many) } else { None };
        let description = || (described || many).then(|| masked_line(line)).flatten();
        digit.or_else(description).unwrap_or_else(|| shown(line))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Types of bodies that carry digits.
const DIGITS: [&str; 2] = ["application/dtmf", "application/vnd.nortelnetworks.digits"];

/// A line with a digit; `None` if it has none. One of several parts may be something else.
fn masked_digit(line: &str, many: bool) -> Option<String> {
    match line.split_once(['=', ':']) {
        Some((name, _)) => {
            let of_digit =
                ["signal", "digit", "d"].iter().any(|n| name.trim().eq_ignore_ascii_case(n));
            of_digit.then(|| format!("{}=*", shown(name)))
        }
        // `16` is the longest that is one alone.
        None if many => (1..=2).contains(&line.trim().len()).then(|| "*".to_owned()),
        None => Some("*".to_owned()),
    }
}

/// A line of a description with a key or a password, read as leniently as it is by who uses it;
/// `None` if it has none.
fn masked_line(line: &str) -> Option<String> {
    let (letter, value) = line.split_once('=')?;
    let (name, value) = value.split_once(':').unwrap_or((value, ""));
    match (letter.trim(), name.trim().to_ascii_lowercase().as_str()) {
        ("a", "ice-pwd") => Some(format!("a=ice-pwd:*** ({} characters)", value.trim().len())),
        ("a", "crypto") => {
            let mut words = value.split_ascii_whitespace();
            let (tag, suite) = (words.next().unwrap_or("?"), words.next().unwrap_or("?"));
            Some(format!("a=crypto:{} {} inline:***", shown(tag), shown(suite)))
        }
        ("a", "key-mgmt") => Some("a=key-mgmt:***".to_owned()),
        ("k", _) if name.trim() != "prompt" => Some("k=***".to_owned()),
        _ => None,
    }
}

/// Whether the lines that come are of a part that is written otherwise than it reads.
#[derive(Default)]
struct EncodedPart {
    named: bool,
    begun: bool,
}

impl EncodedPart {
    /// Whether `line` is one of them.
    fn holds(&mut self, line: &str) -> bool {
        let lower = line.trim().to_ascii_lowercase();
        if line.starts_with("--") {
            *self = EncodedPart::default();
        } else if let (false, Some(how)) =
            (self.begun, lower.strip_prefix("content-transfer-encoding"))
        {
            self.named = how.contains("base64") || how.contains("quoted-printable");
        } else if self.named && lower.is_empty() {
            self.begun = true;
        } else {
            return self.begun;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        let text = "INVITE sip:1@x SIP/2.0\r\nAuthorization: Digest username=\"bob\", realm=\"r\", nonce=\"n\", uri=\"sip:x\", response=\"deadbeef\", cnonce=\"cc\"\r\n\
                    Proxy-Authorization: Bearer eyJhbGciOi\r\nX-Note: a\r\nContent-Type: application/sdp\r\n\r\n\
                    v=0\r\na=ice-pwd:verysecretpassword\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\na=x\r\n";
        let shown = readable(text.as_bytes());
        for secret in ["deadbeef", "eyJhbGciOi", "verysecret", "WVNfX19", "\"n\"", "cc"] {
            assert!(!shown.contains(secret), "{secret} in\n{shown}");
        }
        for kept in ["username=\"bob\"", "AES_CM_128_HMAC_SHA1_80", "X-Note: a", "a=x"] {
            assert!(shown.contains(kept), "{kept} not in\n{shown}");
        }
    }

    #[test]
    fn digits_are_masked_and_control_characters_made_visible() {
        let info = "INFO sip:1@x SIP/2.0\r\nSubject: \u{7}bell\r\nContent-Type: application/dtmf-relay\r\nContent-Length: 24\r\n\r\nSignal=4\r\nDuration=160\r\n";
        let shown = readable(info.as_bytes());
        assert!(shown.contains("Signal=*") && !shown.contains("Signal=4"), "{shown}");
        assert!(!shown.contains('\u{7}'));
        assert!(readable(b"\xff\xfe").contains("cannot be read"));
    }

    #[test]
    fn a_secret_is_one_however_its_line_is_written() {
        for (kind, body) in [
            ("application/sdp", "v=0\r\na=ICE-PWD:hidden-9\r\n"),
            ("application/sdp", "v=0\r\na= ice-pwd : hidden-9\r\n"),
            ("", "v=0\r\na=Crypto:1 AES_CM_128_HMAC_SHA1_80 INLINE:hidden-9\r\n"),
            (
                "application/sdp;x=y",
                "v=0\r\na=crypto:1  X\tinline:hidden-9;inline:hidden-9|1:4\r\n",
            ),
            ("application/sdp", "v=0\r\na=key-mgmt:mikey hidden-9\r\n"),
            ("application/sdp", "v=0\r\nk=clear:hidden-9\r\n"),
            ("application/vnd.nortelnetworks.digits", "p=Digit-Collection\r\nd=9\r\n"),
            ("application/dtmf-relay", "SIGNAL : 9\r\nDuration=160\r\n"),
            ("application/dtmf", "9"),
            (
                "multipart/mixed;boundary=b",
                "--b\r\nContent-Type: application/dtmf\r\n\r\n9\r\n--b--\r\n",
            ),
            (
                "multipart/mixed;boundary=b",
                "--b\r\nContent-Transfer-Encoding : Base64\r\nc: application/sdp\r\n\r\n\
                 aGlkZGVuLTk=hidden-9\r\n\r\nhidden-9\r\n--b\r\n\r\nplain\r\n--b--\r\n",
            ),
            (
                "multipart/mixed;boundary=b",
                "--b\r\ncontent-transfer-encoding:quoted-printable\r\n\r\na=3Dcrypto:1 X inline:hidden-9\r\n--b--",
            ),
        ] {
            let shown = readable_body(kind, body.as_bytes());
            assert!(!shown.contains('9') && shown.contains('*'), "{kind}:\n{shown}");
            assert!(!body.contains("plain") || shown.contains("plain"), "{shown}");
        }
        let plain = "v=0\r\nk=prompt\r\na=rtpmap:0 PCMU/8000\r\n";
        assert_eq!(
            readable_body("application/sdp", plain.as_bytes()),
            plain.replace('\r', "").trim()
        );
    }

    #[test]
    fn a_password_within_a_uri_is_not_shown() {
        for (text, shown) in [
            ("<sip:alice:hidden@x>;tag=a:b", "<sip:alice:***@x>;tag=a:b"),
            (
                "\"a: b\" <SIPS:a:hidden@[::1]:5061>, <sip:b:@y>",
                "\"a: b\" <SIPS:a:***@[::1]:5061>, <sip:b:***@y>",
            ),
            ("<sip:alice@x:5060>", "<sip:alice@x:5060>"),
            ("sip:x:5060;a=b@c", "sip:x:5060;a=b@c"),
            ("a:b@c", "a:b@c"),
            ("sip:", "sip:"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
        let text = "OPTIONS sip:a:hidden@x SIP/2.0\r\nFrom: <sip:b:hidden@y>\r\n\r\n";
        assert!(!readable(text.as_bytes()).contains("hidden"));
    }
}
