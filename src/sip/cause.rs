//! Q.850 causes and SIP statuses (RFC 3326, RFC 3398 §7.2.4.1 and §8.2.6.1, RFC 6432).

use super::message::Message;
use super::parse::HeaderName;
use super::scan::split_outside_quotes;
use super::status::Reason;
use super::uri::{Params, unquote};

/// The Q.850 cause that says what `status` says.
pub(crate) fn cause_of(status: u16) -> u8 {
    match status {
        200..=299 => 16,
        401 | 402 | 403 | 407 | 603 => 21,
        404 | 604 => 1,
        405 => 63,
        406 | 415 | 488 | 606 => 79,
        408 | 504 => 102,
        410 => 22,
        420 | 421 | 500 | 505 | 513 => 127,
        480 => 18,
        481 | 503 => 41,
        482 | 483 => 25,
        484 | 416 => 28,
        486 | 600 => 17,
        487 => 16,
        501 => 79,
        502 => 38,
        _ => 31,
    }
}

/// The status a call that ended with Q.850 `cause` before its answer is refused with.
pub(crate) fn status_of(cause: u8) -> u16 {
    match cause {
        1..=3 => 404,
        17 => 486,
        18 => 408,
        19 | 20 | 31 => 480,
        21 => 403,
        22 => 410,
        25 => 483,
        26 => 404,
        27 => 502,
        28 => 484,
        29 => 501,
        34 | 38 | 41 | 42 | 47 => 503,
        55 | 57 => 403,
        58 | 88 => 503,
        65 | 70 | 79 => 488,
        87 => 403,
        102 => 504,
        111 | 127 => 500,
        _ => 480,
    }
}

/// What Q.850 calls `cause`, for a person.
pub(crate) fn name_of(cause: u8) -> &'static str {
    match cause {
        1 => "Unallocated number",
        16 => "Normal call clearing",
        17 => "User busy",
        18 => "No user responding",
        19 => "No answer from user",
        20 => "Subscriber absent",
        21 => "Call rejected",
        22 => "Number changed",
        25 => "Exchange routing error",
        28 => "Invalid number format",
        31 => "Normal, unspecified",
        34 => "No circuit available",
        38 => "Network out of order",
        41 => "Temporary failure",
        63 => "Service or option not available",
        79 => "Service or option not implemented",
        102 => "Recovery on timer expiry",
        127 => "Interworking, unspecified",
        _ => "Q.850 cause",
    }
}

/// The peer's Reason values (RFC 3326 §2): SIP's cause and text, Q.850's cause.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reasons {
    /// `SIP;cause=`.
    pub sip: Option<u16>,
    /// `Q.850;cause=`, 0 to 127.
    pub q850: Option<u8>,
    /// The first text.
    pub text: Option<String>,
}

/// Reads every Reason of a message; values that are not understood are omitted.
pub fn reasons(message: &Message) -> Reasons {
    let mut found = Reasons::default();
    for value in message.values(HeaderName::Reason) {
        let mut parts = split_outside_quotes(value, b';');
        let protocol = parts.next().unwrap_or_default().trim();
        let rest = value.get(value.find(';').map_or(value.len(), |n| n + 1)..).unwrap_or_default();
        let params = Params::readable(rest);
        let cause = params.get("cause").and_then(|c| c.trim().parse::<u16>().ok());
        match () {
            () if protocol.eq_ignore_ascii_case("SIP") => found.sip = found.sip.or(cause),
            () if protocol.eq_ignore_ascii_case("Q.850") => {
                found.q850 = found.q850.or(cause.and_then(|c| u8::try_from(c & 0x7f).ok()))
            }
            () => continue,
        }
        let text = params
            .get("text")
            .map(|t| unquote(t).chars().filter(|c| !c.is_control()).take(120).collect::<String>());
        found.text = found.text.take().or(text.filter(|t| !t.is_empty()));
    }
    found
}

/// Why a BYE is sent.
pub(crate) fn reason_of(bye: &Message) -> Reason {
    let said = reasons(bye);
    let cause = said.sip.filter(|s| (200..700).contains(s)).unwrap_or(200);
    let text = said.text.unwrap_or_else(|| "normal call clearing".into());
    Reason::new(cause, text).q850(said.q850)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::parse::Framing;

    #[test]
    fn causes_and_statuses_that_both_tables_hold_come_back() {
        for status in [403, 404, 410, 483, 484, 486, 488, 503, 504, 500] {
            assert_eq!(status_of(cause_of(status)), status, "{status} -> {}", cause_of(status));
        }
        assert!((0..=255).all(|c| (400..700).contains(&status_of(c))));
        assert!((100..700).all(|s| (1..128).contains(&cause_of(s))));
    }

    #[test]
    fn every_reason_of_a_message_is_read() {
        let text = "BYE sip:a SIP/2.0\r\nReason: Q.850 ;cause=17 ;text=\"Busy; here\"\r\nReason: X;cause=1, SIP;cause=600;text=\"x\"\r\n\r\n";
        let message = Message::parse(text.as_bytes().to_vec(), Framing::Datagram).expect("sound");
        let expected = Reasons { sip: Some(600), q850: Some(17), text: Some("Busy; here".into()) };
        assert_eq!(reasons(&message), expected);
    }
}
