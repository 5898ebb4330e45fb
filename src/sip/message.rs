//! One received message: its bytes and where everything is in them.

use super::header::{CSeq, NameAddr, Via, comma_list, delta_seconds};
use super::parse::{Field, Framing, HeaderName, Index, ParseError, StartLine};
use super::status::Method;
use super::uri::Uri;
use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// A framed message; cheap to clone. Header values are read on demand.
#[derive(Clone)]
pub struct Message {
    bytes: Bytes,
    index: Arc<Index>,
    body_end: usize,
    /// Where a datagram came from; its response says so (RFC 3261 §18.2.1, RFC 3581 §4).
    source: Option<SocketAddr>,
}

/// Longest tag, branch or Call-ID, bytes (our bound; SECURITY P4).
const MAX_ID: usize = 256;

impl Message {
    /// Reads one datagram or WebSocket frame.
    ///
    /// # Errors
    /// The head cannot be read at all. A defect that still allows an answer is found by [`check`](Self::check).
    pub fn parse(mut bytes: Vec<u8>, framing: Framing) -> Result<Message, ParseError> {
        let mut index = Index::parse(&mut bytes)?;
        let available = bytes.len() - index.body_start;
        let length = index.body_length(available, framing).unwrap_or_else(|e| {
            index.defect.get_or_insert(e);
            available
        });
        Ok(Message::framed(bytes, index, length))
    }

    pub(crate) fn framed(bytes: Vec<u8>, index: Index, body: usize) -> Message {
        let body_end = (index.body_start + body).min(bytes.len());
        Message { bytes: Bytes::from(bytes), index: Arc::new(index), body_end, source: None }
    }

    /// Notes the datagram's source.
    pub fn with_source(mut self, source: SocketAddr) -> Message {
        self.source = Some(source);
        self
    }

    /// The Via values of a response: the top one with `received` and `rport` filled in.
    pub fn response_vias(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let source = self.source;
        self.values(HeaderName::Via).enumerate().map(move |(n, via)| match source {
            Some(source) if n == 0 => Cow::Owned(received(via, source)),
            _ => Cow::Borrowed(via),
        })
    }

    fn text(&self, span: super::parse::Span) -> &str {
        // `Index::parse` has checked that the head is UTF-8 and spans lie on ASCII delimiters.
        std::str::from_utf8(span.of(&self.bytes)).unwrap_or_default()
    }

    /// Whether this is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.index.start, StartLine::Request { .. })
    }

    /// The request method; for a response the CSeq's method.
    pub fn method(&self) -> Method {
        match self.index.start {
            StartLine::Request { method, .. } => method,
            StartLine::Response { .. } => self.cseq().map_or(Method::Other, |c| Method::from_token(c.method)),
        }
    }

    /// The method as written; empty for a response.
    pub fn method_token(&self) -> &str {
        match self.index.start {
            StartLine::Request { token, .. } => self.text(token),
            StartLine::Response { .. } => "",
        }
    }

    /// The Request-URI as written; empty for a response.
    pub fn request_uri(&self) -> &str {
        match self.index.start {
            StartLine::Request { uri, .. } => self.text(uri),
            StartLine::Response { .. } => "",
        }
    }

    /// The status code; 0 for a request.
    pub fn status(&self) -> u16 {
        match self.index.start {
            StartLine::Response { status, .. } => status,
            StartLine::Request { .. } => 0,
        }
    }

    /// The reason phrase of a response.
    pub fn reason_phrase(&self) -> &str {
        match self.index.start {
            StartLine::Response { reason, .. } => self.text(reason),
            StartLine::Request { .. } => "",
        }
    }

    /// All header lines in order: identity, name as written, value.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, &str, &str)> {
        self.index.fields().iter().map(|f| (f.name, self.text(f.raw_name), self.text(f.value)))
    }

    /// The values of every line called `name`.
    pub fn all(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.index.fields().iter().filter(move |f: &&Field| f.name == name).map(|f| self.text(f.value))
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
        self.values(HeaderName::Via).next().and_then(|v| Via::parse(v).ok())
    }

    /// From.
    pub fn from(&self) -> Option<NameAddr<'_>> {
        NameAddr::parse(self.header(HeaderName::From)?).ok()
    }

    /// To.
    pub fn to(&self) -> Option<NameAddr<'_>> {
        NameAddr::parse(self.header(HeaderName::To)?).ok()
    }

    /// The first Contact, `*` excepted.
    pub fn contact(&self) -> Option<NameAddr<'_>> {
        NameAddr::parse(self.values(HeaderName::Contact).next()?).ok()
    }

    /// Call-ID; empty where missing.
    pub fn call_id(&self) -> &str {
        self.header(HeaderName::CallId).unwrap_or_default()
    }

    /// CSeq.
    pub fn cseq(&self) -> Option<CSeq<'_>> {
        CSeq::parse(self.header(HeaderName::CSeq)?).ok()
    }

    /// Max-Forwards; missing is 70, more than 70 is 70 (RFC 3261 §8.1.1.6, §16.3).
    pub fn max_forwards(&self) -> u32 {
        self.header(HeaderName::MaxForwards).and_then(delta_seconds).map_or(70, |n| n.min(70))
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.index.body_start..self.body_end).unwrap_or_default()
    }

    /// Content-Type as it may be written again: cut, and without control characters.
    pub fn content_type(&self) -> Option<String> {
        Some(self.header(HeaderName::ContentType)?.chars().filter(|c| !c.is_control()).take(80).collect())
    }

    /// The body if its type is `wanted`, parameters aside.
    pub fn body_of(&self, wanted: &str) -> Option<&[u8]> {
        let kind = self.header(HeaderName::ContentType)?;
        let kind = kind.split(';').next().unwrap_or_default().trim();
        (kind.eq_ignore_ascii_case(wanted) && !self.body().is_empty()).then(|| self.body())
    }

    /// The whole message as received (folded lines unfolded).
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.body_end]
    }

    /// Checks what every message must have (RFC 3261 §8.1.1, §8.2, §18.3).
    ///
    /// # Errors
    /// The first defect, with the status a request is refused with.
    pub fn check(&self) -> Result<(), ParseError> {
        if let Some(defect) = self.index.defect {
            return Err(defect);
        }
        let err = |what| Err(ParseError::new(what, 0));
        for (name, what) in SINGLE {
            if self.all(name).count() > 1 {
                return err(what);
            }
        }
        for value in self.values(HeaderName::Via) {
            let via = Via::parse(value)?;
            if via.branch().is_some_and(|b| b.len() > MAX_ID) {
                return err("branch longer than 256 bytes");
            }
        }
        if self.via().is_none() {
            return err("no Via");
        }
        for (name, what) in [(HeaderName::From, "no From"), (HeaderName::To, "no To")] {
            let Some(value) = self.header(name) else { return err(what) };
            let addr = NameAddr::parse(value)?;
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
        let Some(cseq) = self.header(HeaderName::CSeq) else { return err("no CSeq") };
        let cseq = CSeq::parse(cseq)?;
        if self.is_request() {
            self.check_request(cseq)?;
        }
        Ok(())
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
        for name in [HeaderName::Contact, HeaderName::Route, HeaderName::RecordRoute] {
            for (n, value) in self.values(name).enumerate() {
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

/// A Via with the packet's source: `rport` gets its value where it was asked for, `received` is added
/// where the sender's own name for itself differs.
fn received(via: &str, source: SocketAddr) -> String {
    let Ok(parsed) = Via::parse(via) else { return via.to_owned() };
    let asked = parsed.params.iter().any(|(n, v)| n.eq_ignore_ascii_case("rport") && v.is_none());
    let kept = |(n, _): &(&str, Option<&str>)| !n.eq_ignore_ascii_case("received") && !(asked && n.eq_ignore_ascii_case("rport"));
    let head = via.split(';').next().unwrap_or_default().trim_end();
    let mut out = head.to_owned();
    for (name, value) in parsed.params.iter().filter(kept) {
        out.push(';');
        out.push_str(name);
        if let Some(value) = value {
            out.push('=');
            out.push_str(value);
        }
    }
    if asked {
        out.push_str(&format!(";rport={}", source.port()));
    }
    if asked || parsed.host.parse() != Ok(source.ip()) {
        out.push_str(&format!(";received={}", source.ip()));
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
