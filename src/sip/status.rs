//! Methods, reason phrases and refusals (RFC 3261 §21).

use crate::errors::Code;
use std::fmt;

/// A request method; unknown ones keep their text in the message itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the methods' names")]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Register,
    Options,
    Info,
    Prack,
    Update,
    Message,
    Subscribe,
    Notify,
    Refer,
    Publish,
    Other,
}

impl Method {
    /// All that have a name.
    pub(crate) const ALL: [Method; 14] = [
        Method::Invite,
        Method::Ack,
        Method::Bye,
        Method::Cancel,
        Method::Register,
        Method::Options,
        Method::Info,
        Method::Prack,
        Method::Update,
        Method::Message,
        Method::Subscribe,
        Method::Notify,
        Method::Refer,
        Method::Publish,
    ];

    /// The method named by `text`; names are case-sensitive (RFC 3261 §7.1).
    pub fn from_token(text: &str) -> Method {
        match text {
            "INVITE" => Method::Invite,
            "ACK" => Method::Ack,
            "BYE" => Method::Bye,
            "CANCEL" => Method::Cancel,
            "REGISTER" => Method::Register,
            "OPTIONS" => Method::Options,
            "INFO" => Method::Info,
            "PRACK" => Method::Prack,
            "UPDATE" => Method::Update,
            "MESSAGE" => Method::Message,
            "SUBSCRIBE" => Method::Subscribe,
            "NOTIFY" => Method::Notify,
            "REFER" => Method::Refer,
            "PUBLISH" => Method::Publish,
            _ => Method::Other,
        }
    }

    /// As [`from_token`](Self::from_token), in any case.
    pub(crate) fn from_any_case(text: &str) -> Method {
        match Method::from_token(text) {
            Method::Other => Method::from_token(&text.to_ascii_uppercase()),
            known => known,
        }
    }

    /// The method's name on the wire; `Other` has none of its own.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Register => "REGISTER",
            Method::Options => "OPTIONS",
            Method::Info => "INFO",
            Method::Prack => "PRACK",
            Method::Update => "UPDATE",
            Method::Message => "MESSAGE",
            Method::Subscribe => "SUBSCRIBE",
            Method::Notify => "NOTIFY",
            Method::Refer => "REFER",
            Method::Publish => "PUBLISH",
            Method::Other => "UNKNOWN",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The methods we serve, for `Allow`.
pub(crate) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, REFER, \
    NOTIFY, MESSAGE, SUBSCRIBE, REGISTER";

/// The extensions we serve, for `Supported` and `Require`.
pub(crate) const SUPPORTED: &str = "100rel, timer, replaces, norefersub, gruu, outbound, path";

/// The bodies read where a description is expected, for `Accept`.
pub const ACCEPT: &str =
    "application/sdp, multipart/mixed, multipart/alternative, multipart/related";

/// The option tag, and the Info package, of candidates sent one by one (RFC 8840): served where ICE
/// ends.
pub(crate) const TRICKLE: &str = "trickle-ice";

/// The reason phrase of a status (RFC 3261 §21 and later registrations).
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        430 => "Flow Failed",
        433 => "Anonymity Disallowed",
        436 => "Bad Identity-Info",
        439 => "First Hop Lacks Outbound Support",
        440 => "Max-Breadth Exceeded",
        469 => "Bad Info Package",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        555 => "Push Notification Service Not Supported",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        _ => match status / 100 {
            1 => "Progress",
            2 => "Success",
            3 => "Redirected",
            4 => "Request Failed",
            5 => "Server Failed",
            _ => "Declined",
        },
    }
}

/// Why something ends, as a Reason header says it (RFC 3326).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason {
    /// A SIP status; 200 for what is no failure.
    pub(crate) cause: u16,
    /// A Q.850 cause; otherwise the status is mapped (RFC 3398).
    pub(crate) q850: Option<u8>,
    /// A sentence for a person.
    pub(crate) text: String,
}

impl Reason {
    /// The reason with this SIP status.
    pub(crate) fn new(cause: u16, text: impl Into<String>) -> Reason {
        Reason { cause, q850: None, text: text.into() }
    }

    /// Carries a peer's Q.850 cause.
    pub(crate) fn q850(mut self, cause: Option<u8>) -> Reason {
        self.q850 = cause;
        self
    }
}

/// A refusal: always becomes a response, with its cause in a Reason header (RFC 3326).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// 300 to 699.
    pub status: u16,
    /// A sentence for a person: what was wrong and, if we know it, the fix.
    pub why: String,
    /// Seconds for Retry-After.
    pub retry_after: Option<u32>,
    /// Text of a Warning header (RFC 3261 §20.43), code 399 or an SDP code 3xx.
    pub warning: Option<(u16, String)>,
    /// The peer's own Q.850 cause, carried across; otherwise the status is mapped (RFC 3398).
    pub q850: Option<u8>,
    /// What it is in the registry of errors; [`Code::FINE`] if its status says it all.
    pub code: Code,
}

impl Refusal {
    /// A refusal with `status` and a sentence saying why.
    pub fn new(status: u16, why: impl Into<String>) -> Refusal {
        debug_assert!((300..=699).contains(&status), "{status} refuses nothing");
        Refusal {
            status,
            why: why.into(),
            retry_after: None,
            warning: None,
            q850: None,
            code: Code::FINE,
        }
    }

    /// Adds Retry-After, in seconds.
    pub(crate) fn retry_after(mut self, seconds: u32) -> Refusal {
        self.retry_after = Some(seconds);
        self
    }

    /// What its Reason header says.
    pub fn reason(&self) -> Reason {
        Reason { cause: self.status, q850: self.q850, text: self.why.clone() }
    }

    /// Names what it is in the registry of errors.
    pub(crate) fn code(mut self, code: Code) -> Refusal {
        self.code = code;
        self
    }

    /// Carries a peer's Q.850 cause.
    pub(crate) fn q850(mut self, cause: Option<u8>) -> Refusal {
        self.q850 = cause;
        self
    }

    /// Adds a Warning with `code`.
    pub(crate) fn warning(mut self, code: u16, text: impl Into<String>) -> Refusal {
        self.warning = Some((code, text.into()));
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, reason_phrase(self.status), self.why)
    }
}
