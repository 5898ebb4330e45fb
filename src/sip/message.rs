//! One received message: its bytes and where everything is in them.

use super::header::{CSeq, NameAddr, Via, comma_list, delta_seconds};
use super::parse::{Field, Framing, HeaderName, Index, ParseError, StartLine};
use super::parts::{AddressAt, CSeqAt, Part, Parts, ViaAt, at};
use super::scan::cut;
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
    /// Where a datagram came from; its response says so (RFC 3261 §18.2.1, RFC 3581 §4).
    source: Option<SocketAddr>,
}

/// What was read: the head as text (lines unfolded), where everything is in it, and the body.
struct Read {
    head: String,
    index: Index,
    body: Vec<u8>,
    parts: OnceLock<Parts>,
    transaction: OnceLock<Arc<str>>,
}

/// Longest tag, branch or Call-ID, bytes (our bound; SECURITY P4).
const MAX_ID: usize = 256;

impl Message {
    /// Reads one datagram or WebSocket frame.
    ///
    /// # Errors
    /// The head cannot be read at all. A defect that still allows an answer is found by
    /// [`check`](Self::check).
    pub fn parse(mut bytes: Vec<u8>, framing: Framing) -> Result<Message, ParseError> {
        let mut index = Index::parse(&mut bytes)?;
        let available = bytes.len() - index.body_start;
        let length = index.body_length(available, framing).unwrap_or_else(|e| {
            index.defect.get_or_insert(e);
            available
        });
        Ok(Message::framed(bytes, index, length))
    }

    /// `bytes` is what `index` was read from, and goes on with `length` bytes of body.
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
    pub fn response_vias(&self) -> impl Iterator<Item = Cow<'_, str>> {
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
            from: self.header(HeaderName::From).map(|v| AddressAt::read(head, v)),
            to: self.header(HeaderName::To).map(|v| AddressAt::read(head, v)),
            contact: self
                .values(HeaderName::Contact)
                .next()
                .filter(|v| *v != "*")
                .map(|v| AddressAt::read(head, v)),
            cseq: self.header(HeaderName::CSeq).map(|v| CSeqAt::read(head, v)),
        })
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
                self.cseq().map_or(Method::Other, |c| Method::from_token(c.method))
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
    pub fn values(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.all(name).flat_map(comma_list)
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

    /// Call-ID; empty where missing.
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

    /// Content-Type as it may be written again: cut, and without control characters.
    pub fn content_type(&self) -> Option<String> {
        Some(
            self.header(HeaderName::ContentType)?
                .chars()
                .filter(|c| !c.is_control())
                .take(80)
                .collect(),
        )
    }

    /// The body if its type is `wanted`, parameters aside.
    pub fn body_of(&self, wanted: &str) -> Option<&[u8]> {
        let kind = self.header(HeaderName::ContentType)?;
        let kind = kind.split(';').next().unwrap_or_default().trim();
        (kind.eq_ignore_ascii_case(wanted) && !self.body().is_empty()).then(|| self.body())
    }

    /// Bytes of head and body.
    pub fn len(&self) -> usize {
        self.read.head.len() + self.read.body.len()
    }

    /// Never: a message has at least its first line.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Head and body as received (folded lines unfolded).
    pub fn parts_of_wire(&self) -> [&[u8]; 2] {
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
        if let Some(defect) = self.read.index.defect {
            return Err(defect);
        }
        let err = |what| Err(ParseError::new(what, 0));
        if let Some(what) = self.repeated() {
            return err(what);
        }
        let (head, parts) = (&self.read.head, self.parts());
        let Some(top) = parts.via else { return err("no Via") };
        let others = self.values(HeaderName::Via).skip(1).map(Via::parse);
        for via in std::iter::once(top.map(|v| v.of(head))).chain(others) {
            if via?.branch().is_some_and(|b| b.len() > MAX_ID) {
                return err("branch longer than 256 bytes");
            }
        }
        for (part, what) in [(parts.from, "no From"), (parts.to, "no To")] {
            let Some(part) = part else { return err(what) };
            let addr = part?.of(head);
            if addr.tag().is_some_and(|t| t.len() > MAX_ID) {
                return err("tag longer than 256 bytes");
            }
        }
        match self.call_id() {
            "" => return err("no Call-ID"),
            id if id.len() > MAX_ID => return err("Call-ID longer than 256 bytes"),
            id if id.contains([' ', '\t']) => return err("white space in Call-ID"),
            _ => {}
        }
        let Some(cseq) = parts.cseq else { return err("no CSeq") };
        let cseq = cseq?.of(head);
        if self.is_request() {
            self.check_request(cseq)?;
        }
        Ok(())
    }

    /// The first header that may stand once and does not.
    fn repeated(&self) -> Option<&'static str> {
        let mut seen = [false; SINGLE.len()];
        self.read.index.fields().iter().find_map(|field| {
            let n = SINGLE.iter().position(|(name, _)| *name == field.name)?;
            std::mem::replace(&mut seen[n], true).then_some(SINGLE[n].1)
        })
    }

    fn check_request(&self, cseq: CSeq<'_>) -> Result<(), ParseError> {
        let err = |what| Err(ParseError::new(what, 0));
        if cseq.method != self.method_token() {
            return err("CSeq method differs from the request's");
        }
        if let Some(value) = self.header(HeaderName::MaxForwards)
            && delta_seconds(value).is_none_or(|n| n > 255)
        {
            return err("Max-Forwards is not 0 to 255");
        }
        if self.request_uri().starts_with('<') {
            return err("Request-URI stands in angle brackets");
        }
        Uri::parse(self.request_uri())?;
        if self.values(HeaderName::Via).count() > 64 {
            return err("more than 64 Via values");
        }
        self.parts().contact.transpose()?;
        for (name, read) in
            [(HeaderName::Contact, 1), (HeaderName::Route, 0), (HeaderName::RecordRoute, 0)]
        {
            for (n, value) in self.values(name).enumerate().skip(read) {
                if n == 32 {
                    return err("more than 32 values in one header");
                }
                if value != "*" {
                    NameAddr::parse(value)?;
                }
            }
        }
        if let Some(date) = self.header(HeaderName::Date)
            && !date.trim_end().ends_with("GMT")
        {
            return err("Date is not in GMT");
        }
        Ok(())
    }
}

const SINGLE: [(HeaderName, &str); 6] = [
    (HeaderName::From, "more than one From"),
    (HeaderName::To, "more than one To"),
    (HeaderName::CallId, "more than one Call-ID"),
    (HeaderName::CSeq, "more than one CSeq"),
    (HeaderName::MaxForwards, "more than one Max-Forwards"),
    (HeaderName::ContentType, "more than one Content-Type"),
];

/// A Via with the packet's source: `rport` gets its value where it was asked for, `received` is
/// added where the sender's own name for itself differs.
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
