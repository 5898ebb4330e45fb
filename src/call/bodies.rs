//! The description in a message that may hold more, or less (RFC 3261 §8.2.3, RFC 5621).

use crate::sip::message::Message;
use crate::sip::multipart::is_optional;
use crate::sip::parse::HeaderName;
use crate::sip::status::Refusal;

/// What is read of parts that are required by who sent them.
const READ: [&str; 2] = ["application/sdp", "message/sipfrag"];

/// The SDP of a request: none where it has no body, or only one that may be left out.
///
/// # Errors
/// 415 where something is required that nobody here reads.
pub(super) fn description(message: &Message) -> Result<Option<&[u8]>, Refusal> {
    if message.body().is_empty() {
        return Ok(None);
    }
    let encoding = message.header(HeaderName::ContentEncoding);
    let plain = |e: &&str| e.is_empty() || e.eq_ignore_ascii_case("identity");
    if let Some(encoding) = encoding.filter(|e| !plain(e)) {
        return Err(Refusal::new(415, format!("a body encoded as {encoding} is not read")));
    }
    let parts = message.body_parts();
    if let Some(part) = parts.iter().find(|p| p.required && !READ.contains(&p.kind.as_str())) {
        let kind = &part.kind;
        return Err(Refusal::new(415, format!("a part of {kind} is required and not read here")));
    }
    let found = message.body_of("application/sdp");
    let optional = message.header(HeaderName::ContentDisposition).is_some_and(is_optional);
    if found.is_some() || optional || !parts.is_empty() {
        return Ok(found);
    }
    match message.media_type() {
        "" => Err(Refusal::new(400, "a body without Content-Type")),
        kind => Err(Refusal::new(415, format!("{kind} is not read: application/sdp is"))),
    }
}
