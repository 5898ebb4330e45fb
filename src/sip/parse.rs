//! The wire parser: one pass over a message's head, spans into the caller's buffer; it allocates
//! only beyond 32 lines.
//!
//! RFC 3261 §7 and §25; limits as in our security catalogue (P4). A line nobody needs never
//! decides: if it cannot be read it is omitted, and [`Index::ignored`] records it (§8.2.2). The
//! same pass frames streams (`sip::stream`), so framing and parsing cannot disagree about where a
//! message ends. Not here: the meaning of header values (`sip::header`), mandatory headers
//! (`Message::check`).

use super::repair::{cover_controls, to_utf8};
use super::scan::{TOKEN, has_control};
use super::status::Method;
use smallvec::SmallVec;
use std::fmt;

/// Longest message we read, bytes. Spans are 16-bit because of it.
pub(crate) const MAX_MESSAGE: usize = 65_535;
/// Longest start line, bytes.
pub const MAX_START_LINE: usize = 2_048;
/// Longest header line after unfolding, bytes.
pub const MAX_HEADER_LINE: usize = 8_192;
/// Most header lines of names known here that are kept, and most of others; what is needed and
/// stands beyond them refuses the message, the rest is omitted.
pub const MAX_HEADERS: usize = 128;
/// Most lines that are remembered as omitted.
const MAX_IGNORED: usize = 16;
/// Header lines that cost no allocation: nearly every message has fewer.
const USUAL_HEADERS: usize = 32;

/// Malformed input: what, and at which byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct ParseError {
    /// What is wrong.
    pub what: &'static str,
    /// The byte where it was seen.
    pub at: usize,
    /// The status a request with this defect is answered with.
    pub status: u16,
}

impl ParseError {
    pub(crate) const fn new(what: &'static str, at: usize) -> ParseError {
        ParseError { what, at, status: 400 }
    }
    pub(crate) const fn status(what: &'static str, at: usize, status: u16) -> ParseError {
        ParseError { what, at, status }
    }
}

macro_rules! header_names {
    ($($variant:ident = $name:literal $(/ $compact:literal)?),* $(,)?) => {
        /// A header's identity; unknown headers are `Other` and keep their name in the message.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the names of the headers")]
        pub enum HeaderName { $($variant),*, Other }

        impl HeaderName {
            /// The full name on the wire.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(HeaderName::$variant => $name),*, HeaderName::Other => "X-Unknown" }
            }

            /// The header called `name`, long or compact form, any case (RFC 3261 §7.3.1, §7.3.3).
            pub(crate) fn from_token(name: &[u8]) -> HeaderName {
                match (name.len(), name.first().map_or(0, u8::to_ascii_lowercase)) {
                    $((len, first) if len == $name.len()
                        && first == $name.as_bytes()[0].to_ascii_lowercase()
                        && name.eq_ignore_ascii_case($name.as_bytes()) => HeaderName::$variant,)*
                    $($((1, $compact) => HeaderName::$variant,)?)*
                    _ => HeaderName::Other,
                }
            }
        }
    };
}

impl HeaderName {
    /// Whether no message can be framed, matched or served if this one cannot be read.
    fn is_needed(self) -> bool {
        use HeaderName::{CSeq, CallId, ContentLength, From, Require, To, Via};
        matches!(self, Via | From | To | CallId | CSeq | ContentLength | Require)
    }
}

header_names! {
    Via = "Via" / b'v', From = "From" / b'f', To = "To" / b't', CallId = "Call-ID" / b'i',
    CSeq = "CSeq", Contact = "Contact" / b'm', MaxForwards = "Max-Forwards",
    ContentLength = "Content-Length" / b'l', ContentType = "Content-Type" / b'c',
    ContentEncoding = "Content-Encoding" / b'e', Route = "Route", RecordRoute = "Record-Route",
    Expires = "Expires", Authorization = "Authorization",
    ProxyAuthorization = "Proxy-Authorization", WwwAuthenticate = "WWW-Authenticate",
    ProxyAuthenticate = "Proxy-Authenticate", Require = "Require", ProxyRequire = "Proxy-Require",
    Supported = "Supported" / b'k', Unsupported = "Unsupported", Allow = "Allow",
    UserAgent = "User-Agent", Server = "Server", Reason = "Reason", RetryAfter = "Retry-After",
    Warning = "Warning", MinExpires = "Min-Expires", Accept = "Accept", Subject = "Subject" / b's',
    Date = "Date", AcceptEncoding = "Accept-Encoding", Timestamp = "Timestamp", Path = "Path",
    SessionExpires = "Session-Expires" / b'x', MinSe = "Min-SE", ReferTo = "Refer-To" / b'r',
    ReferredBy = "Referred-By" / b'b', Replaces = "Replaces", Event = "Event" / b'o',
    Allowed = "Allow-Events" / b'u', FlowTimer = "Flow-Timer",
    PAssertedIdentity = "P-Asserted-Identity", Privacy = "Privacy", RSeq = "RSeq", RAck = "RAck",
    Identity = "Identity" / b'y', ErrorInfo = "Error-Info", Organization = "Organization",
    ContentDisposition = "Content-Disposition", MimeVersion = "MIME-Version",
    Diversion = "Diversion", HistoryInfo = "History-Info", RemotePartyId = "Remote-Party-ID",
    PPreferredIdentity = "P-Preferred-Identity", ServiceRoute = "Service-Route",
    MaxBreadth = "Max-Breadth", RecvInfo = "Recv-Info", InfoPackage = "Info-Package",
    ReferSub = "Refer-Sub", SubscriptionState = "Subscription-State",
    RequestDisposition = "Request-Disposition" / b'd', AcceptContact = "Accept-Contact" / b'a',
    RejectContact = "Reject-Contact" / b'j', TargetDialog = "Target-Dialog",
    InReplyTo = "In-Reply-To", SipEtag = "SIP-ETag", SipIfMatch = "SIP-If-Match",
    Geolocation = "Geolocation",
}

/// A byte range of the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// The first byte.
    pub start: u16,
    /// The byte after the last.
    pub end: u16,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Span {
        Span { start: start as u16, end: end as u16 }
    }
    /// The bytes this span names.
    pub(crate) fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// One header line.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// By its long or short name.
    pub name: HeaderName,
    /// As written.
    pub raw_name: Span,
    /// Without the spaces around it.
    pub value: Span,
}

/// The start line's parts.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the parts of RFC 3261 §7")]
pub enum StartLine {
    Request { method: Method, token: Span, uri: Span },
    Response { status: u16, reason: Span },
}

/// How the transport delimits messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// UDP: the datagram's end bounds the body; a shorter Content-Length cuts it.
    Datagram,
    /// TCP, TLS: Content-Length is mandatory (RFC 3261 §20.14).
    Stream,
    /// One message a WebSocket frame (RFC 7118 §5); Content-Length may be absent.
    WebSocket,
}

/// A line that was omitted, or read otherwise than it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ignored {
    /// What is wrong.
    pub what: &'static str,
    /// The line; empty if it is no single one.
    pub line: Span,
}

/// Where everything is in a message.
#[derive(Clone, Debug)]
pub struct Index {
    /// Request or status line.
    pub start: StartLine,
    fields: SmallVec<[Field; USUAL_HEADERS]>,
    /// Fields whose name is known here.
    known: usize,
    /// What was omitted, the first [`MAX_IGNORED`] of it.
    pub ignored: Vec<Ignored>,
    /// First byte of the body.
    pub body_start: usize,
    /// Value of Content-Length if present and sound.
    pub content_length: Option<usize>,
    /// Some Content-Length cannot be believed: on a stream nobody knows where the message ends.
    length_broken: bool,
    /// The first defect that still allowed the head to be read, so that a 400 can be addressed.
    pub defect: Option<ParseError>,
    /// The first defect of the body, or of what says how long it is.
    pub body_defect: Option<ParseError>,
}

impl Index {
    /// The header lines in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Reads the head of `buf`; folded lines are unfolded in place (CRLF becomes SP SP), and what
    /// is not UTF-8 is made so.
    ///
    /// # Errors
    /// The start line cannot be read, or no blank line ends the head: nothing can be answered.
    pub fn parse(buf: &mut Vec<u8>) -> Result<Index, ParseError> {
        if buf.len() > MAX_MESSAGE {
            return Err(ParseError::status("message longer than 65535 bytes", MAX_MESSAGE, 513));
        }
        let Some((head_end, folded)) = find_end(buf, 0) else {
            return Err(ParseError::new("no blank line ends the head", buf.len()));
        };
        if folded {
            unfold(&mut buf[..head_end]);
        }
        let (head_end, recoded) = to_utf8(buf, head_end);
        let covered = cover_controls(&mut buf[..head_end]);
        let head = &buf[..head_end];
        let (line_end, at) = line(head, 0);
        let (start, defect) = start_line(head, line_end)?;
        let mut index = Index {
            start,
            fields: SmallVec::new(),
            known: 0,
            ignored: Vec::new(),
            body_start: head_end,
            content_length: None,
            length_broken: false,
            defect,
            body_defect: None,
        };
        for (seen, what) in [
            (recoded, "bytes that are not UTF-8 are read as ISO 8859-1"),
            (covered, "control characters are read as question marks"),
        ] {
            if seen {
                index.ignore(what, Span::default());
            }
        }
        index.read_lines(head, at);
        Ok(index)
    }

    /// The body's length by a head whose start line cannot be read, if its lines still frame it.
    pub(super) fn length_of(head: &[u8]) -> Option<usize> {
        let mut index = Index {
            start: StartLine::Response { status: 0, reason: Span::default() },
            fields: SmallVec::new(),
            known: 0,
            ignored: Vec::new(),
            body_start: head.len(),
            content_length: None,
            length_broken: false,
            defect: None,
            body_defect: None,
        };
        index.read_lines(head, line(head, 0).1);
        index.content_length.filter(|_| index.defect.or(index.body_defect).is_none())
    }

    fn read_lines(&mut self, head: &[u8], mut at: usize) {
        while at < head.len() {
            let (end, next) = line(head, at);
            if end == at {
                break;
            }
            match field(head, at, end) {
                Ok(found) => self.keep(head, at, end, found),
                Err(e) if names_length(&head[at..end]) => self.break_length(e),
                Err(e) if decides(&head[at..end]) => note(&mut self.defect, e),
                Err(e) => self.ignore(e.what, Span::new(at, end)),
            }
            at = next;
        }
    }

    fn keep(&mut self, head: &[u8], at: usize, end: usize, found: Field) {
        let known = found.name != HeaderName::Other;
        let kept = if known { self.known } else { self.fields.len() - self.known };
        if kept == MAX_HEADERS {
            if found.name.is_needed() {
                let error = ParseError::status("more than 128 header lines", at, 513);
                return note(&mut self.defect, error);
            }
            return self.ignore("one header line of too many", Span::new(at, end));
        }
        self.known += usize::from(known);
        self.fields.push(found);
        if found.name == HeaderName::ContentLength {
            match content_length(found.value.of(head), at, self.content_length) {
                Ok(n) => self.content_length = Some(n),
                Err(e) => self.break_length(e),
            }
        }
    }

    fn break_length(&mut self, error: ParseError) {
        note(&mut self.body_defect, error);
        self.length_broken = true;
    }

    fn ignore(&mut self, what: &'static str, line: Span) {
        if self.ignored.len() < MAX_IGNORED {
            self.ignored.push(Ignored { what, line });
        }
    }

    /// The body's length, given how many bytes follow the head.
    ///
    /// # Errors
    /// Content-Length is missing on a stream, or claims more than there is.
    pub(crate) fn body_length(
        &self,
        available: usize,
        framing: Framing,
    ) -> Result<usize, ParseError> {
        if self.length_broken && framing == Framing::Stream {
            let unknown = ParseError::new("no usable Content-Length", 0);
            return Err(self.body_defect.unwrap_or(unknown));
        }
        match (self.content_length, framing) {
            // What follows the body is discarded (RFC 3261 §18.3): it is never read as a message. A
            // WebSocket frame is a message-oriented transport's packet like a datagram (RFC 7118).
            (Some(n), Framing::Datagram | Framing::WebSocket) if n <= available => Ok(n),
            (Some(n), Framing::Stream) => Ok(n),
            (Some(_), _) => {
                Err(ParseError::new("Content-Length does not match the body", self.body_start))
            }
            (None, Framing::Stream) => {
                Err(ParseError::new("no Content-Length on a stream", self.body_start))
            }
            (None, _) => Ok(available),
        }
    }
}

fn note(defect: &mut Option<ParseError>, error: ParseError) {
    defect.get_or_insert(error);
}

/// The offset just past the blank line that ends the head, searching from `from`.
pub(crate) fn head_end(buf: &[u8], from: usize) -> Option<usize> {
    find_end(buf, from).map(|(end, _)| end)
}

/// The same, and whether some line before it is folded.
fn find_end(buf: &[u8], from: usize) -> Option<(usize, bool)> {
    let (mut at, mut folded) = (from, false);
    while let Some(lf) = memchr::memchr(b'\n', &buf[at..]) {
        let next = at + lf + 1;
        match buf.get(next..) {
            Some([b'\r', b'\n', ..]) => return Some((next + 2, folded)),
            Some([b'\n', ..]) => return Some((next + 1, folded)),
            Some(rest) => {
                folded |= matches!(rest, [b' ' | b'\t', ..]);
                at = next;
            }
            None => return None,
        }
    }
    None
}

fn unfold(head: &mut [u8]) {
    let mut at = 0;
    while let Some(lf) = memchr::memchr(b'\n', &head[at..]).map(|n| n + at) {
        if matches!(head.get(lf + 1), Some(b' ' | b'\t')) && lf + 1 < head.len() {
            head[lf] = b' ';
            if lf > 0 && head[lf - 1] == b'\r' {
                head[lf - 1] = b' ';
            }
        }
        at = lf + 1;
    }
}

/// End of the line at `at` without its CR LF, and the start of the next one.
fn line(head: &[u8], at: usize) -> (usize, usize) {
    let lf = memchr::memchr(b'\n', &head[at..]).map_or(head.len(), |n| n + at);
    let end = if lf > at && head[lf - 1] == b'\r' { lf - 1 } else { lf };
    (end, (lf + 1).min(head.len()))
}

/// Whether a line that cannot be read may be one that frames or identifies its message. Characters
/// that no name holds are looked past: what was to be taken for a Content-Length by somebody is not
/// omitted.
fn decides(line: &[u8]) -> bool {
    let colon = memchr::memchr(b':', line);
    let mut name: SmallVec<[u8; 32]> = SmallVec::new();
    let written = line[..colon.unwrap_or(line.len())].iter().copied();
    name.extend(written.filter(|b| TOKEN.has(*b)).take(32));
    (colon.is_some() && HeaderName::from_token(&name).is_needed()) || names_length(line)
}

/// Whether a line that cannot be read may be somebody's Content-Length.
fn names_length(line: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    let colon = memchr::memchr(b':', line);
    let before = &line[..colon.unwrap_or(line.len())];
    let mut written = before.iter().copied().filter(|b| TOKEN.has(*b));
    let start: SmallVec<[u8; 32]> = written.by_ref().take(NAME.len()).collect();
    start.eq_ignore_ascii_case(NAME)
        || (colon.is_some() && start.eq_ignore_ascii_case(b"l") && written.next().is_none())
}

fn start_line(head: &[u8], end: usize) -> Result<(StartLine, Option<ParseError>), ParseError> {
    let text = &head[..end];
    if let Some(control) = text.iter().position(u8::is_ascii_control) {
        return Err(ParseError::new("control character in the start line", control));
    }
    let first =
        memchr::memchr(b' ', text).ok_or(ParseError::new("start line has no space", end))?;
    if text[..first].eq_ignore_ascii_case(b"SIP/2.0") {
        return status_line(text, first, end).map(|start| (start, None));
    }
    if first == 0 || !TOKEN.holds(&text[..first]) {
        return Err(ParseError::new("method is not a token", 0));
    }
    let last = memchr::memrchr(b' ', text)
        .filter(|&l| l > first)
        .ok_or(ParseError::new("request line has no version", end))?;
    let method = Method::from_token(std::str::from_utf8(&text[..first]).unwrap_or_default());
    let uri = &text[first + 1..last];
    let version = &text[last + 1..];
    let mut defect = (end > MAX_START_LINE)
        .then(|| ParseError::status("start line longer than 2048 bytes", end, 414));
    if version.len() < 7 || !version[..4].eq_ignore_ascii_case(b"SIP/") {
        if version.is_empty() && text.len() > 8 {
            note(&mut defect, ParseError::new("white space after the version", end));
        } else {
            return Err(ParseError::new("request line does not end in SIP/2.0", last));
        }
    } else if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        note(&mut defect, ParseError::status("only SIP/2.0 is spoken here", last, 505));
    } else if uri.is_empty() || uri.contains(&b' ') {
        note(&mut defect, ParseError::new("white space in the Request-URI", first));
    }
    let start =
        StartLine::Request { method, token: Span::new(0, first), uri: Span::new(first + 1, last) };
    Ok((start, defect))
}

/// A status line; what stands after the code is for people, and never decides.
fn status_line(text: &[u8], first: usize, end: usize) -> Result<StartLine, ParseError> {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let at = text[first..].iter().position(|b| !blank(b)).map_or(end, |n| n + first);
    let code = text.get(at..at + 3).ok_or(ParseError::new("status line has no code", end))?;
    let sound = code.iter().all(u8::is_ascii_digit) && text.get(at + 3).is_none_or(blank);
    let status = code
        .iter()
        .fold(0u16, |n, &b| n.wrapping_mul(10).wrapping_add(u16::from(b.wrapping_sub(b'0'))));
    if !sound || !(100..700).contains(&status) {
        return Err(ParseError::new("status code is not 100 to 699", first));
    }
    Ok(StartLine::Response { status, reason: Span::new((at + 4).min(end), end) })
}

fn field(head: &[u8], at: usize, end: usize) -> Result<Field, ParseError> {
    let text = &head[at..end];
    if text.len() > MAX_HEADER_LINE {
        return Err(ParseError::status("header line longer than 8192 bytes", at, 513));
    }
    let colon =
        memchr::memchr(b':', text).ok_or(ParseError::new("header line has no colon", at))?;
    let name_end =
        text[..colon].iter().rposition(|b| !matches!(b, b' ' | b'\t')).map_or(0, |n| n + 1);
    if name_end == 0 || !TOKEN.holds(&text[..name_end]) {
        return Err(ParseError::new("header name is not a token", at));
    }
    let value = &text[colon + 1..];
    if has_control(value) {
        let bad =
            value.iter().position(|&b| b.is_ascii_control() && b != b'\t').unwrap_or_default();
        return Err(ParseError::new("control character in a header", at + colon + 1 + bad));
    }
    let lead = value.iter().position(|b| !matches!(b, b' ' | b'\t')).unwrap_or(value.len());
    let trail = value.iter().rposition(|b| !matches!(b, b' ' | b'\t')).map_or(lead, |n| n + 1);
    let base = at + colon + 1;
    Ok(Field {
        name: HeaderName::from_token(&text[..name_end]),
        raw_name: Span::new(at, at + name_end),
        value: Span::new(base + lead, base + trail),
    })
}

fn content_length(value: &[u8], at: usize, earlier: Option<usize>) -> Result<usize, ParseError> {
    if value.is_empty() || value.len() > 10 || !value.iter().all(u8::is_ascii_digit) {
        return Err(ParseError::new("Content-Length is not a number", at));
    }
    let n = value.iter().fold(0u64, |n, &b| n * 10 + u64::from(b - b'0'));
    match earlier {
        Some(e) if e as u64 != n => Err(ParseError::new("two Content-Lengths disagree", at)),
        _ if n > MAX_MESSAGE as u64 => {
            Err(ParseError::status("Content-Length over 65535", at, 513))
        }
        _ => Ok(n as usize),
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
