//! A request of ours, sent once more with credentials (RFC 3261 §8.1.3.5, §22.2).

use super::build::MessageWriter;
use super::message::Message;
use super::parse::{Framing, HeaderName};
use bytes::Bytes;

/// The request `sent` with another Via and CSeq number, and with these credentials instead of those
/// it had. `None` if `sent` is no request.
pub(crate) fn resubmit(
    sent: &[u8],
    via: &str,
    cseq: u32,
    credentials: &[(HeaderName, String)],
) -> Option<Bytes> {
    use HeaderName as H;
    let sent = Message::parse(sent.to_vec(), Framing::WebSocket).ok()?;
    if !sent.is_request() {
        return None;
    }
    let mut request = MessageWriter::request(sent.method(), sent.request_uri());
    for (name, _, value) in sent.headers() {
        match name {
            H::Via => request.put(name, via),
            H::CSeq => request.put(name, format_args!("{cseq} {}", sent.method())),
            H::Authorization | H::ProxyAuthorization | H::ContentType | H::ContentLength => {}
            _ => request.put(name, value),
        }
    }
    credentials.iter().for_each(|(name, value)| request.put(*name, value));
    let kind = sent.header(H::ContentType).unwrap_or_default();
    Some(request.end_with(kind, sent.body()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_via_cseq_and_credentials_stays() {
        let sent = b"MESSAGE sip:1@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
                     From: <sip:a@b>;tag=1\r\nTo: <sip:1@b>\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n\
                     Authorization: Digest old\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi";
        let credentials = [
            (HeaderName::ProxyAuthorization, "Digest proxy".to_owned()),
            (HeaderName::Authorization, "Digest new".to_owned()),
        ];
        let again =
            resubmit(sent, "SIP/2.0/UDP a;branch=z9hG4bK2", 2, &credentials).expect("a request");
        let expected = String::from_utf8_lossy(sent)
            .replace("z9hG4bK1", "z9hG4bK2")
            .replace("1 MESSAGE", "2 MESSAGE")
            .replace("Authorization: Digest old\r\n", "")
            .replace(
                "Content-Type",
                "Proxy-Authorization: Digest proxy\r\nAuthorization: Digest new\r\nContent-Type",
            );
        assert_eq!(std::str::from_utf8(&again), Ok(expected.as_str()));
        assert!(resubmit(b"SIP/2.0 200 OK\r\n\r\n", "", 1, &[]).is_none());
    }
}
