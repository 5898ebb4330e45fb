//! What tells one server transaction from another (RFC 3261 §17.2.3).

use crate::hex::hex;
use crate::sip::header::{NameAddr, Via};
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::Method;
use std::sync::Arc;

/// What branches begin with of requests that another node of a cluster only passes on: it keeps
/// nothing of them, so the transaction is that of the Via below, whichever way it comes again.
pub(crate) const PASSED_ON: &str = "z9hG4bKwte.";

/// The key of the server transaction a request is of; an ACK's is its INVITE's.
pub(super) fn key_of(request: &Message) -> Arc<str> {
    let method = if request.method() == Method::Ack { "INVITE" } else { request.method_token() };
    request.transaction(|| server_key(request, method).into())
}

/// Longest key kept as it is, bytes: branches and tags are as long as their writer likes.
pub(super) const MAX_KEY: usize = 256;

/// The key kept for `key`: itself, or its digest if it is long.
pub(super) fn bounded(key: String) -> String {
    if key.len() <= MAX_KEY {
        return key;
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    ["h", &hex(digest.as_ref())].concat()
}

/// The key of the server transaction of `method` that a message names.
pub(super) fn server_key(message: &Message, method: &str) -> String {
    bounded(whole_server_key(message, method))
}

/// The Via below that of a node which only passed the request on.
pub(super) fn passed_on(request: &Message) -> Option<Via<'_>> {
    let top = request.via()?.branch()?;
    let below = || request.values(HeaderName::Via).nth(1);
    top.starts_with(PASSED_ON).then(below).flatten().and_then(|via| Via::parse(via).ok())
}

/// Whether a branch begins with the magic cookie. It may have any characters.
fn has_cookie(branch: &str) -> bool {
    branch.get(..7).is_some_and(|first| first.eq_ignore_ascii_case("z9hG4bK"))
}

/// RFC 3261 §17.2.3: branch, sent-by and method; without the magic cookie the RFC 2543 fields.
fn whole_server_key(message: &Message, method: &str) -> String {
    let below = passed_on(message);
    let skipped = usize::from(below.is_some());
    let Some(via) = below.or(message.via()) else { return String::new() };
    match via.branch() {
        Some(branch) if branch.len() > 7 && has_cookie(branch) => {
            let port = via.port.unwrap_or(5060).to_string();
            ["s", branch, " ", &via.host.to_ascii_lowercase(), ":", &port, " ", method].concat()
        }
        _ => {
            let tag =
                |a: Option<NameAddr<'_>>| a.and_then(|a| a.tag()).unwrap_or_default().to_owned();
            let cseq = message.cseq().map_or(0, |c| c.number);
            let via = message.values(HeaderName::Via).nth(skipped).unwrap_or_default();
            // The To tag is omitted: an ACK carries ours, the INVITE none.
            format!(
                "o{} {} {} {cseq} {via} {method}",
                message.request_uri(),
                tag(message.from()),
                message.call_id()
            )
        }
    }
}
