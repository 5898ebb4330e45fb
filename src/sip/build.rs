//! Writing messages from typed fields. Received headers are never copied as lines.
//!
//! A value is written through one sieve that lets no CR, LF, NUL or other control character out,
//! so whatever a caller passes, the number and names of the headers are ours.

use super::cause::{cause_of, name_of};
use super::message::Message;
use super::parse::HeaderName;
use super::status::{ACCEPT, Method, Reason, Refusal, reason_phrase};
use bytes::Bytes;
use std::fmt::{self, Display, Write as _};

/// Encodings of a body that are passed on.
const PASSED_ENCODINGS: usize = 4;

/// A message under construction.
#[derive(Debug)]
pub struct MessageWriter {
    buf: String,
}

struct Sieve<'a>(&'a mut String);

impl fmt::Write for Sieve<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        // Without a jump in it, this is compiled to vector code.
        if s.bytes().fold(false, |bad, b| bad | b.is_ascii_control()) {
            self.0.extend(s.chars().filter(|c| !c.is_control()));
        } else {
            self.0.push_str(s);
        }
        Ok(())
    }
}

impl MessageWriter {
    /// Starts a request.
    pub fn request(method: Method, uri: &str) -> MessageWriter {
        let mut writer = MessageWriter { buf: String::with_capacity(1024) };
        writer.buf.push_str(method.as_str());
        writer.buf.push(' ');
        let _ = Sieve(&mut writer.buf).write_str(&uri.replace(' ', "%20"));
        writer.buf.push_str(" SIP/2.0\r\n");
        writer
    }

    /// Starts a response to `request`: Via, From, To (with `tag` if it has none), Call-ID, CSeq
    /// (RFC 3261 §8.2.6.2).
    pub fn response(request: &Message, status: u16, tag: Option<&str>) -> MessageWriter {
        let mut writer = MessageWriter { buf: String::with_capacity(768) };
        let _ = write!(writer.buf, "SIP/2.0 {status} {}\r\n", reason_phrase(status));
        for via in request.response_vias() {
            writer.put(HeaderName::Via, via);
        }
        for name in [HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq] {
            // What the request lacks cannot be echoed.
            let Some(value) = request.header(name) else { continue };
            match tag {
                Some(tag)
                    if name == HeaderName::To
                        && request.to().is_some_and(|t| t.tag().is_none()) =>
                {
                    writer.put(name, format_args!("{value};tag={tag}"));
                }
                _ => writer.put(name, value),
            }
        }
        if status == 100
            && let Some(timestamp) = request.header(HeaderName::Timestamp)
        {
            writer.put(HeaderName::Timestamp, timestamp);
        }
        writer
    }

    /// The whole response for a refusal: reason, Retry-After, Warning (RFC 3326, RFC 3261 §20.33,
    /// §20.43).
    pub(crate) fn refusal(
        request: &Message,
        reject: &Refusal,
        tag: &str,
        host: &str,
    ) -> MessageWriter {
        let mut writer = MessageWriter::response(request, reject.status, Some(tag));
        writer.reason(&reject.reason());
        if let Some(seconds) = reject.retry_after {
            writer.put(HeaderName::RetryAfter, seconds);
        }
        if let Some((code, text)) = &reject.warning {
            writer.put(HeaderName::Warning, format_args!("{code} {host} {}", quoted(text)));
        }
        if matches!(reject.status, 405 | 501) {
            writer.put(HeaderName::Allow, super::status::ALLOW);
        }
        writer
    }

    /// Why, in SIP's words and in Q.850's (RFC 3326 §2, RFC 6432).
    pub fn reason(&mut self, why: &Reason) {
        self.put(
            HeaderName::Reason,
            format_args!("SIP;cause={};text={}", why.cause, quoted(&why.text)),
        );
        let cause = why.q850.unwrap_or_else(|| cause_of(why.cause));
        self.put(
            HeaderName::Reason,
            format_args!("Q.850;cause={cause};text={}", quoted(name_of(cause))),
        );
    }

    /// Starts the shortest response to `request` that RFC 3261 allows: compact names (§7.3.3) and
    /// no reason phrase.
    pub(crate) fn terse(request: &Message, status: u16, tag: &str) -> MessageWriter {
        let mut writer = MessageWriter { buf: format!("SIP/2.0 {status} \r\n") };
        for via in request.response_vias() {
            writer.line("v:", via);
        }
        for (name, short) in [
            (HeaderName::From, "f:"),
            (HeaderName::To, "t:"),
            (HeaderName::CallId, "i:"),
            (HeaderName::CSeq, "CSeq:"),
        ] {
            let Some(value) = request.header(name) else { continue };
            if name == HeaderName::To && request.to().is_some_and(|t| t.tag().is_none()) {
                writer.line(short, format_args!("{value};tag={tag}"));
            } else {
                writer.line(short, value);
            }
        }
        writer
    }

    /// Starts a copy of a message that is passed on: its first line.
    pub(crate) fn copy_of(message: &Message) -> MessageWriter {
        let mut writer = MessageWriter { buf: String::with_capacity(2_048) };
        let mut out = Sieve(&mut writer.buf);
        let _ = if message.is_request() {
            write!(out, "{} {} SIP/2.0", message.method_token(), message.request_uri())
        } else {
            write!(out, "SIP/2.0 {} {}", message.status(), message.reason_phrase())
        };
        writer.buf.push_str("\r\n");
        writer
    }

    /// Adds a header line of a message that is passed on, by its own name if it has one here.
    pub(crate) fn put_named(&mut self, name: HeaderName, raw: &str, value: &str) {
        if name == HeaderName::Other {
            let _ = Sieve(&mut self.buf).write_str(raw);
            self.line(": ", value);
        } else {
            self.put(name, value);
        }
    }

    /// Ends a copy; the type of the body stands in its header lines.
    pub(crate) fn end_copy(self, body: &[u8]) -> Bytes {
        let mut bytes = self.end_length(body.len()).into_bytes();
        bytes.extend_from_slice(body);
        Bytes::from(bytes)
    }

    fn end_length(mut self, length: usize) -> String {
        self.put(HeaderName::ContentLength, length);
        self.buf.push_str("\r\n");
        self.buf
    }

    /// Adds one header line, without the blank after its name.
    pub(crate) fn put_tight(&mut self, name: HeaderName, value: impl Display) {
        self.buf.push_str(name.as_str());
        self.line(":", value);
    }

    /// Ends a response to a datagram, which says itself where it ends (RFC 3261 §18.3).
    pub(crate) fn end_datagram(mut self) -> Bytes {
        self.buf.push_str("\r\n");
        Bytes::from(self.buf)
    }

    fn line(&mut self, name: &str, value: impl Display) {
        self.buf.push_str(name);
        let _ = write!(Sieve(&mut self.buf), "{value}");
        self.buf.push_str("\r\n");
    }

    /// Adds one header line.
    pub fn put(&mut self, name: HeaderName, value: impl Display) {
        self.buf.push_str(name.as_str());
        self.line(": ", value);
    }

    /// What a body may be where a description is read (RFC 3261 §21.4.13).
    pub(crate) fn put_readable(&mut self) {
        self.put(HeaderName::Accept, ACCEPT);
        self.put(HeaderName::AcceptEncoding, "identity");
    }

    /// Ends the message, without a body.
    pub fn end(self) -> Bytes {
        self.end_with("", &[])
    }

    /// Ends the message with a session description, if there is one.
    pub fn end_described(self, sdp: Option<&str>) -> Bytes {
        match sdp {
            Some(sdp) => self.end_with("application/sdp", sdp.as_bytes()),
            None => self.end(),
        }
    }

    /// Ends the message with the body of another and what says how it is read; `usual` is its type
    /// if nothing does.
    pub(crate) fn end_carrying(mut self, message: &Message, usual: &str) -> Bytes {
        let encodings: Vec<&str> = message.encodings().take(PASSED_ENCODINGS).collect();
        if !encodings.is_empty() && !message.body().is_empty() {
            self.put(HeaderName::ContentEncoding, encodings.join(", "));
        }
        let kind = message.content_type();
        self.end_with(kind.as_deref().unwrap_or(usual), message.body())
    }

    /// Ends the message with `body` of type `kind`.
    pub fn end_with(mut self, kind: &str, body: &[u8]) -> Bytes {
        if !body.is_empty() {
            self.put(HeaderName::ContentType, kind);
        }
        self.end_copy(body)
    }
}

/// A quoted string with `"` and `\` escaped (RFC 3261 §25.1).
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// `"display" <uri>` with the display name omitted if it is empty.
pub fn name_addr(display: &str, uri: &str) -> String {
    let uri: String =
        uri.chars().filter(|c| !c.is_control() && !matches!(c, '<' | '>' | '"' | ' ')).collect();
    if display.is_empty() { format!("<{uri}>") } else { format!("{} <{uri}>", quoted(display)) }
}
