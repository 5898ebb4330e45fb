//! What was read past in a message, for whoever looks at it later: nothing of this decides.

use super::header::{CSeq, NameAddr, comma_list, delta_seconds};
use super::message::Message;
use super::multipart::READ;
use super::parse::HeaderName;
use super::status::Method;

/// Most remarks on one message.
const MAX_REMARKS: usize = 8;
/// Characters of a line that are named.
const SHOWN: usize = 40;

/// Headers that are used however they are written.
const NEEDED: [HeaderName; 2] = [HeaderName::From, HeaderName::To];

/// One sentence for each thing of `message` that could not be read.
pub fn remarks(message: &Message) -> Vec<String> {
    let mut all: Vec<String> = message
        .ignored()
        .map(|(what, line)| if line.is_empty() { what.into() } else { quoting(what, line) })
        .collect();
    for (name, raw, value) in message.headers() {
        match unreadable(name, value) {
            Some(what) if NEEDED.contains(&name) => {
                all.push(format!("{raw} is read as far as it goes: {what}"));
            }
            Some(what) => all.push(format!("{raw} is read past: {what}")),
            None => {}
        }
    }
    // A request is refused for it; a response or an ACK has no answer that could report it.
    if (!message.is_request() || message.method() == Method::Ack)
        && let Some(kind) = message.unread_part(&READ)
    {
        all.push(format!("a part of {kind} is left out, which its sender requires to be read"));
    }
    if let Err(e) = message.check() {
        all.push(e.what.to_owned());
    }
    all.dedup();
    all.truncate(MAX_REMARKS);
    all
}

/// A remark on a line, with the name it begins with and nothing of its value, which may be secret.
fn quoting(what: &str, line: &str) -> String {
    let name: String = line.split([':', ' ', '\t']).next().unwrap_or_default().trim().into();
    let name: String = name.chars().take(SHOWN).collect();
    format!("a line is left out ({name:?}…): {what}")
}

/// Why a header's value says nothing to us; `None` if it does, or is not looked at.
fn unreadable(name: HeaderName, value: &str) -> Option<&'static str> {
    use HeaderName as H;
    match name {
        H::From | H::To => NameAddr::parse(value).err().map(|e| e.what),
        H::Contact
        | H::Route
        | H::RecordRoute
        | H::Path
        | H::ServiceRoute
        | H::PAssertedIdentity
        | H::PPreferredIdentity
        | H::Diversion
        | H::HistoryInfo
        | H::RemotePartyId
        | H::ReferTo
        | H::ReferredBy => comma_list(value)
            .filter(|v| *v != "*")
            .find_map(|v| NameAddr::parse(v).err())
            .map(|e| e.what),
        H::Expires
        | H::MinExpires
        | H::RetryAfter
        | H::SessionExpires
        | H::MinSe
        | H::MaxForwards
        | H::MaxBreadth => {
            delta_seconds(value).is_none().then_some("it does not begin with a number")
        }
        H::RSeq => value.trim().parse::<u32>().is_err().then_some("it is not a number"),
        H::RAck => {
            let cseq = value.split_once(' ').map(|(_, rest)| CSeq::parse(rest.trim_start()));
            (!matches!(cseq, Some(Ok(_)))).then_some("it is not a number and a CSeq")
        }
        H::ContentType => {
            (!value.contains('/') && !value.is_empty()).then_some("it names no media type")
        }
        H::Date => (!value.ends_with("GMT")).then_some("it is not in GMT"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::parse::Framing;

    #[test]
    fn a_skipped_header_is_noted_without_its_value() {
        let text = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
                    To: <sip:x>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nsecret without colon\r\n\
                    Retry-After: soon\r\nContact: <nonsense>, <sip:a@b>\r\nDate: Thu, 26 Nov 2026 10:00:00 +0100\r\n\r\n";
        let message = Message::parse(text.into(), Framing::Datagram).expect("read");
        message.check().expect("nothing of it decides");
        assert_eq!(message.contact().map(|c| c.uri.text), Some("sip:a@b"));
        assert_eq!(
            remarks(&message),
            [
                "a line is left out (\"secret\"…): header line has no colon",
                "Retry-After is read past: it does not begin with a number",
                "Contact is read past: URI has no scheme",
                "Date is read past: it is not in GMT",
            ]
        );
    }

    #[test]
    fn of_what_is_left_out_the_first_is_remembered_and_reported() {
        let odd: String = (0..40).map(|n| format!("odd{n} without colon\r\n")).collect();
        let text = format!("OPTIONS sip:a@b SIP/2.0\r\n{odd}\r\n");
        let message = Message::parse(text.into_bytes(), Framing::Datagram).expect("read");
        assert_eq!(message.ignored().count(), 16);
        assert_eq!(remarks(&message).len(), MAX_REMARKS);
    }
}
