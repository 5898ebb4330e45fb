//! The description in a message that may hold more, or less (RFC 3261 §8.2.3, RFC 5621).

use crate::sip::message::Message;
use crate::sip::multipart::{READ, is_optional};
use crate::sip::parse::HeaderName;
use crate::sip::status::Refusal;

/// The refusal of a request with a required part whose type is not in `read`.
///
/// A response, or an ACK, cannot be refused: what of it is read counts, whatever else it holds.
///
/// # Errors
/// 415.
pub(super) fn check_parts(message: &Message, read: &[&str]) -> Result<(), Refusal> {
    message.unread_part(read).map_or(Ok(()), |kind| {
        Err(Refusal::new(415, format!("a part of {kind} is required and not read here")))
    })
}

/// Returns the SDP of a request, or `None` if it has no body, or only one that may be omitted.
///
/// # Errors
/// 415 if something is required that nobody here reads.
pub(super) fn description(message: &Message) -> Result<Option<&[u8]>, Refusal> {
    if message.body().is_empty() {
        return Ok(None);
    }
    if let Some(encoding) = message.encodings().next() {
        return Err(Refusal::new(415, format!("a body encoded as {encoding} is not read")));
    }
    check_parts(message, &READ)?;
    let found = message.body_of("application/sdp");
    let optional = message.header(HeaderName::ContentDisposition).is_some_and(is_optional);
    if found.is_some() || optional || !message.body_parts().is_empty() {
        return Ok(found);
    }
    match message.media_type() {
        "" => Err(Refusal::new(400, "a body without Content-Type")),
        kind => Err(Refusal::new(415, format!("{kind} is not read: application/sdp is"))),
    }
}
