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
        format!("{} {} SIP/2.0", shown(message.method_token()), shown(message.request_uri()))
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
        _ => value.to_owned(),
    }
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
    let lines = text.lines().map(|line| {
        if kind.starts_with("application/dtmf") || many {
            match line.split_once(['=', ':']) {
                Some((name, _))
                    if ["signal", "digit", "d"]
                        .iter()
                        .any(|n| name.trim().eq_ignore_ascii_case(n)) =>
                {
                    return format!("{name}=*");
                }
                Some(_) => {}
                None if many => {}
                None => return "*".to_owned(),
            }
        }
        if kind.starts_with("application/sdp") || many || kind.is_empty() {
            if let Some(password) = line.strip_prefix("a=ice-pwd:") {
                return format!("a=ice-pwd:*** ({} characters)", password.len());
            }
            if let Some((head, _)) =
                line.split_once("inline:").filter(|_| line.starts_with("a=crypto:"))
            {
                return format!("{}inline:***", shown(head));
            }
        }
        shown(line)
    });
    lines.collect::<Vec<_>>().join("\n")
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
}
