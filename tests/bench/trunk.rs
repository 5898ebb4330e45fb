//! What a trunk says in the benches of signalling.

use webtrunk::sip::Message;
use webtrunk::sip::parse::Framing;

/// Request `method` of call `n`; `tag` is what follows the URI of To.
pub(crate) fn request(n: u64, method: &str, tag: &str, cseq: u32, body: &str) -> Message {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let text = format!(
        "{method} sip:1@x SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.10;branch=z9hG4bK{n}{method}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@b>;tag={n}\r\nTo: <sip:1@x>{tag}\r\nCall-ID: {n}@bench\r\n\
         CSeq: {cseq} {method}\r\nContact: <sip:a@127.0.0.10>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Message::parse(text.into_bytes(), Framing::Datagram).expect("sound")
}
