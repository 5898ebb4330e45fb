//! One received message: its bytes and where everything is in them.

use super::header::{CSeq, NameAddr, Via, comma_list, delta_seconds};
use super::multipart::{BodyPart, parts};
use super::parse::{Field, Framing, HeaderName, Ignored, Index, ParseError, StartLine, head_end};
use super::parts::{AddressAt, CSeqAt, Part, Parts, ViaAt, at};
use super::scan::{TOKEN, cut};
use super::status::Method;
use super::uri::Uri;
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

/// A framed message; cheap to clone. Header values are read on demand.
#[derive(Clone)]
pub struct Message {
    read: Arc<Read>,
    /// Where a datagram came from; its response echoes that (RFC 3261 §18.2.1, RFC 3581 §4).
    source: Option<SocketAddr>,
}

/// What was read: the head as text (lines unfolded), where everything is in it, and the body.
struct Read {
    head: String,
    index: Index,
    body: Vec<u8>,
    parts: OnceLock<Parts>,
    transaction: OnceLock<Arc<str>>,
    body_parts: OnceLock<Vec<BodyPart>>,
}

/// The type of a text that names none.
pub(crate) const TEXT: &str = "text/plain";
/// Longest Content-Type passed on, characters: a boundary alone has up to 70.
const MAX_CONTENT_TYPE: usize = 256;
/// Most Via values of a request.
const MAX_VIAS: usize = 64;
/// Most Contact values of a REGISTER.
const MAX_CONTACTS: usize = 32;

impl Message {
    /// Reads one datagram or WebSocket frame.
    ///
    /// # Errors
    /// The head cannot be read at all. A defect that still allows an answer is found by
    /// [`check`](Self::check).
    pub fn parse(mut bytes: Vec<u8>, framing: Framing) -> Result<Message, ParseError> {
        // RFC 3261 §7.5: CRLFs before the start line are looked past.
        let lead = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(0);
        bytes.drain(..lead);
        let ends = head_end(&bytes, 0).is_some();
        if !ends {
            // A packet that ends within its head is answered as far as it goes.
            bytes.extend_from_slice(b"\r\n\r\n");
        }
        let mut index = Index::parse(&mut bytes)?;
        if !ends {
            let error = ParseError::new("no blank line ends the head", index.body_start);
            index.body_defect.get_or_insert(error);
        }
        let available = bytes.len() - index.body_start;
        let length = index.body_length(available, framing).unwrap_or_else(|e| {
            index.body_defect.get_or_insert(e);
            // An incomplete body is dropped.
            if matches!(index.start, StartLine::Response { .. }) { 0 } else { available }
        });
        Ok(Message::framed(bytes, index, length))
    }

    /// `bytes` is what `index` was read from, and continues with `length` bytes of body.
    pub(crate) fn framed(mut bytes: Vec<u8>, index: Index, length: usize) -> Message {
        let mut body = bytes.split_off(index.body_start);
        body.truncate(length);
        // `Index::parse` has checked that the head is UTF-8; another head reads as an empty one.
        let head = String::from_utf8(bytes).unwrap_or_default();
        Message {
            read: Arc::new(Read {
                head,
                index,
                body,
                parts: OnceLock::new(),
                transaction: OnceLock::new(),
                body_parts: OnceLock::new(),
            }),
            source: None,
        }
    }

    /// Notes the datagram's source.
    pub fn with_source(mut self, source: SocketAddr) -> Message {
        self.source = Some(source);
        self
    }

    /// The Via values of a response: the top one with `received` and `rport` filled in.
    pub(crate) fn response_vias(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let top = self.source.zip(self.via());
        self.values(HeaderName::Via).enumerate().map(move |(n, text)| match &top {
            Some((source, via)) if n == 0 => Cow::Owned(received(text, via, *source)),
            _ => Cow::Borrowed(text),
        })
    }

    fn text(&self, span: super::parse::Span) -> &str {
        at(&self.read.head, span)
    }

    fn parts(&self) -> &Parts {
        let head = self.read.head.as_str();
        self.read.parts.get_or_init(|| Parts {
            via: self.values(HeaderName::Via).next().map(|v| ViaAt::read(head, v)),
            from: self.header(HeaderName::From).map(|v| AddressAt::read_tagged(head, v)),
            to: self.header(HeaderName::To).map(|v| AddressAt::read_tagged(head, v)),
            contact: self.first_contact(),
            cseq: self.header(HeaderName::CSeq).map(|v| CSeqAt::read(head, v)),
        })
    }

    /// The first Contact that can be read; the first one's error if none can.
    fn first_contact(&self) -> Part<AddressAt> {
        let mut failed = None;
        for value in self.values(HeaderName::Contact).filter(|v| *v != "*") {
            match AddressAt::read(&self.read.head, value) {
                Ok(found) => return Some(Ok(found)),
                Err(e) => failed = failed.or(Some(Err(e))),
            }
        }
        failed
    }

    /// The key of the server transaction a request belongs to, made once by the transaction layer.
    pub(super) fn transaction(&self, make: impl FnOnce() -> Arc<str>) -> Arc<str> {
        self.read.transaction.get_or_init(make).clone()
    }

    fn address(&self, part: &Part<AddressAt>) -> Option<NameAddr<'_>> {
        part.and_then(Result::ok).map(|a| a.of(&self.read.head))
    }

    /// Whether this is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.read.index.start, StartLine::Request { .. })
    }

    /// The request method; for a response the CSeq's method.
    pub fn method(&self) -> Method {
        match self.read.index.start {
            StartLine::Request { method, .. } => method,
            StartLine::Response { .. } => {
                // Some write it small, who mean what we sent.
                self.cseq().map_or(Method::Other, |c| Method::from_any_case(c.method))
            }
        }
    }

    /// The method as written; empty for a response.
    pub fn method_token(&self) -> &str {
        match self.read.index.start {
            StartLine::Request { token, .. } => self.text(token),
            StartLine::Response { .. } => "",
        }
    }

    /// The Request-URI as written; empty for a response.
    pub fn request_uri(&self) -> &str {
        match self.read.index.start {
            StartLine::Request { uri, .. } => self.text(uri),
            StartLine::Response { .. } => "",
        }
    }

    /// The status code; 0 for a request.
    pub fn status(&self) -> u16 {
        match self.read.index.start {
            StartLine::Response { status, .. } => status,
            StartLine::Request { .. } => 0,
        }
    }

    /// The reason phrase of a response.
    pub fn reason_phrase(&self) -> &str {
        match self.read.index.start {
            StartLine::Response { reason, .. } => self.text(reason),
            StartLine::Request { .. } => "",
        }
    }

    /// All header lines in order: identity, name as written, value.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, &str, &str)> {
        self.read.index.fields().iter().map(|f| (f.name, self.text(f.raw_name), self.text(f.value)))
    }

    /// The value of the first line that is written with this name, in whatever case; `None` if
    /// there is none.
    pub(crate) fn header_named(&self, written: &str) -> Option<&str> {
        let mut lines = self.headers().filter(|(_, raw, _)| raw.eq_ignore_ascii_case(written));
        lines.next().map(|(_, _, value)| value)
    }

    /// The values of every line called `name`.
    pub fn all(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.read
            .index
            .fields()
            .iter()
            .filter(move |f: &&Field| f.name == name)
            .map(|f| self.text(f.value))
    }

    /// The first line called `name`.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.all(name).next()
    }

    /// Comma-separated values over all lines called `name`.
    pub(crate) fn values(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.all(name).flat_map(comma_list).take(MAX_READ)
    }

    /// Whether a comma list such as Supported holds `token`.
    pub fn lists(&self, name: HeaderName, token: &str) -> bool {
        self.values(name).any(|v| v.eq_ignore_ascii_case(token))
    }

    /// The topmost Via.
    pub fn via(&self) -> Option<Via<'_>> {
        self.parts().via.and_then(Result::ok).map(|v| v.of(&self.read.head))
    }

    /// From.
    pub fn from(&self) -> Option<NameAddr<'_>> {
        self.address(&self.parts().from)
    }

    /// To.
    pub fn to(&self) -> Option<NameAddr<'_>> {
        self.address(&self.parts().to)
    }

    /// The first Contact, `*` excepted.
    pub fn contact(&self) -> Option<NameAddr<'_>> {
        self.address(&self.parts().contact)
    }

    /// Call-ID; empty if missing.
    pub fn call_id(&self) -> &str {
        self.header(HeaderName::CallId).unwrap_or_default()
    }

    /// CSeq.
    pub fn cseq(&self) -> Option<CSeq<'_>> {
        self.parts().cseq.and_then(Result::ok).map(|c| c.of(&self.read.head))
    }

    /// Max-Forwards; missing is 70, more than 70 is 70 (RFC 3261 §8.1.1.6, §16.3).
    pub fn max_forwards(&self) -> u32 {
        self.header(HeaderName::MaxForwards).and_then(delta_seconds).map_or(70, |n| n.min(70))
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.read.body
    }

    /// This message with another body.
    pub(crate) fn with_body(&self, body: &[u8]) -> Option<Message> {
        let length = |line: &&str| {
            let name = line.split(':').next().unwrap_or_default().trim();
            !name.eq_ignore_ascii_case("Content-Length") && !name.eq_ignore_ascii_case("l")
        };
        let mut lines: Vec<&str> = self.read.head.trim_end().split("\r\n").filter(length).collect();
        let length = format!("Content-Length: {}\r\n\r\n", body.len());
        lines.push(&length);
        let bytes = [lines.join("\r\n").as_bytes(), body].concat();
        let message = Message::parse(bytes, Framing::Datagram).ok()?;
        Some(Message { source: self.source, ..message })
    }

    /// Content-Type as it may be written again: cut, and without control characters.
    pub(crate) fn content_type(&self) -> Option<String> {
        Some(
            self.content_type_line()?
                .chars()
                .filter(|c| !c.is_control())
                .take(MAX_CONTENT_TYPE)
                .collect(),
        )
    }

    /// What the body is encoded by; what is no name of an encoding says nothing.
    pub(crate) fn encodings(&self) -> impl Iterator<Item = &str> {
        let all = self.values(HeaderName::ContentEncoding);
        all.filter(|e| !e.eq_ignore_ascii_case("identity") && TOKEN.holds(e.as_bytes()))
    }

    /// The body if its type is `wanted`, parameters aside, or the part of it that is
    /// (RFC 5621). A description without a Content-Type is known by its first line.
    pub fn body_of(&self, wanted: &str) -> Option<&[u8]> {
        let bytes = match self.media_type() {
            "" if wanted == "application/sdp" && self.body().starts_with(b"v=0") => self.body(),
            kind if kind.eq_ignore_ascii_case(wanted) => self.body(),
            _ => {
                let part = self.body_parts().iter().find(|p| p.kind == wanted)?;
                part.bytes.as_slice()
            }
        };
        Some(bytes).filter(|b| !b.is_empty())
    }

    /// The type of the body without parameters; empty if it has none that can be read.
    pub(crate) fn media_type(&self) -> &str {
        let kind = self.content_type_line().unwrap_or_default();
        kind.split([';', ',']).next().unwrap_or_default().trim()
    }

    /// The first Content-Type that is one.
    fn content_type_line(&self) -> Option<&str> {
        self.all(HeaderName::ContentType).find(|v| v.contains('/'))
    }

    /// The parts of a multipart body, those to be preferred first; none of another body.
    pub(crate) fn body_parts(&self) -> &[BodyPart] {
        self.read.body_parts.get_or_init(|| {
            self.content_type_line().map(|kind| parts(kind, self.body())).unwrap_or_default()
        })
    }

    /// The type of the first part that its sender requires to be read, and that is not in `read`.
    pub(crate) fn unread_part(&self, read: &[&str]) -> Option<&str> {
        let unread = |p: &&BodyPart| p.required && !read.contains(&p.kind.as_str());
        self.body_parts().iter().find(unread).map(|p| p.kind.as_str())
    }

    /// Head and body as received (folded lines unfolded).
    pub(crate) fn parts_of_wire(&self) -> [&[u8]; 2] {
        [self.read.head.as_bytes(), &self.read.body]
    }

    /// The whole message, likewise.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.parts_of_wire().concat()
    }

    /// Checks what every message must have (RFC 3261 §8.1.1, §8.2, §18.3).
    ///
    /// # Errors
    /// The first defect, with the status a request is refused with.
    pub fn check(&self) -> Result<(), ParseError> {
        let index = &self.read.index;
        if let Some(defect) = index.defect.or(index.body_defect.filter(|_| !self.ends_something()))
        {
            return Err(defect);
        }
        let err = |what| Err(ParseError::new(what, 0));
        if let Some(what) = self.repeated() {
            return err(what);
        }
        let parts = self.parts();
        for (missing, what) in [
            (parts.via.map(Result::err), "no Via"),
            (parts.from.map(Result::err), "no From"),
            (parts.to.map(Result::err), "no To"),
            (parts.cseq.map(Result::err), "no CSeq"),
        ] {
            match missing {
                None => return err(what),
                Some(Some(e)) => return Err(e),
                Some(None) => {}
            }
        }
        match self.call_id() {
            "" => return err("no Call-ID"),
            id if id.contains([' ', '\t']) => return err("white space in Call-ID"),
            _ => {}
        }
        if self.is_request() { self.check_request() } else { Ok(()) }
    }

    /// Whether this ends a call, an attempt or a transaction. Its sender has gone, and gets no
    /// refusal, so nothing decides but what says which it ends.
    pub(crate) fn ends_something(&self) -> bool {
        self.is_request() && matches!(self.method(), Method::Bye | Method::Cancel | Method::Ack)
    }

    /// The first header that may stand once and stands again with another value.
    fn repeated(&self) -> Option<&'static str> {
        let mut seen: [Option<&str>; SINGLE.len()] = [None; SINGLE.len()];
        self.read.index.fields().iter().find_map(|field| {
            let n = SINGLE.iter().position(|(name, _)| *name == field.name)?;
            let value = self.text(field.value);
            let earlier = seen[n].replace(value)?;
            (earlier != value).then_some(SINGLE[n].1)
        })
    }

    /// What a request needs beyond what every message does, and nothing else (RFC 3261 §8.2.2).
    fn check_request(&self) -> Result<(), ParseError> {
        let err = |what| Err(ParseError::new(what, 0));
        if self.cseq().is_some_and(|c| !c.method.eq_ignore_ascii_case(self.method_token())) {
            return err("CSeq method differs from the request's");
        }
        if self.values(HeaderName::Via).nth(MAX_VIAS).is_some() {
            return err("more than 64 Via values");
        }
        if self.ends_something() {
            return Ok(());
        }
        if self.request_uri().starts_with('<') {
            return err("Request-URI stands in angle brackets");
        }
        Uri::parse(self.request_uri())?;
        for name in LISTS {
            if self.values(name).nth(MAX_VALUES).is_some() {
                return Err(ParseError::status("more than 64 values in one header", 0, 513));
            }
        }
        match self.method() {
            // What a dialog, or a binding, is made of.
            Method::Invite | Method::Subscribe => drop(self.parts().contact.transpose()?),
            Method::Register => {
                if self.values(HeaderName::Contact).nth(MAX_CONTACTS).is_some() {
                    return err("more than 32 Contact values");
                }
                for value in self.values(HeaderName::Contact).filter(|v| *v != "*") {
                    NameAddr::parse_lenient(value)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Lines that were omitted, or read otherwise than they were written.
    pub(crate) fn ignored(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.read.index.ignored.iter().map(|i: &Ignored| (i.what, self.text(i.line)))
    }
}

/// Most values of a list that is obeyed or kept.
const MAX_VALUES: usize = 64;
const LISTS: [HeaderName; 2] = [HeaderName::Require, HeaderName::RecordRoute];
/// Values of any list that are looked at.
const MAX_READ: usize = 256;

const SINGLE: [(HeaderName, &str); 5] = [
    (HeaderName::From, "more than one From"),
    (HeaderName::To, "more than one To"),
    (HeaderName::CallId, "more than one Call-ID"),
    (HeaderName::CSeq, "more than one CSeq"),
    (HeaderName::MaxForwards, "more than one Max-Forwards"),
];

/// A Via with the packet's source: `rport` gets its value if it was asked for, `received` is added
/// if the sender's own name for itself differs.
fn received(text: &str, via: &Via<'_>, source: SocketAddr) -> String {
    let head = cut(text, b';').map_or(text, |(head, _)| head).trim_ascii_end();
    let mut out = String::with_capacity(text.len() + 64);
    out.push_str(head);
    let asked = via.params.iter().any(|(n, v)| n.eq_ignore_ascii_case("rport") && v.is_none());
    let ours =
        |n: &str| n.eq_ignore_ascii_case("received") || (asked && n.eq_ignore_ascii_case("rport"));
    let kept = |(n, _): &(&str, Option<&str>)| !ours(n);
    for (name, value) in via.params.iter().filter(kept) {
        out.push(';');
        out.push_str(name);
        if let Some(value) = value {
            out.push('=');
            out.push_str(value);
        }
    }
    if asked {
        let _ = write!(out, ";rport={}", source.port());
    }
    if asked || via.host.parse() != Ok(source.ip()) {
        let _ = write!(out, ";received={}", source.ip());
    }
    out
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The start line: enough for a log and a ladder.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_request() {
            write!(f, "{} {}", self.method_token(), self.request_uri())
        } else {
            write!(f, "{} {} ({})", self.status(), self.reason_phrase(), self.method())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_passed_on_cut_and_without_controls() {
        let text = format!(
            "MESSAGE sip:a@b SIP/2.0\r\nContent-Type: text/plain;x=\t{}\r\n\r\nhello",
            "y".repeat(400)
        );
        let message = Message::parse(text.into_bytes(), Framing::Datagram).expect("read");
        let kind = message.content_type().expect("it has one");
        assert_eq!(kind.chars().count(), MAX_CONTENT_TYPE);
        assert!(!kind.contains(char::is_control) && kind.starts_with("text/plain;x=y"));
    }
}
