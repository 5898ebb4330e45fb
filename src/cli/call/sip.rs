//! The SIP of the test phone: `rsip` composes and reads it, so that the phone does not share the
//! parser of the gateway that it tests.

use anyhow::{Context, anyhow};
use rsip::headers::auth::Algorithm;
use rsip::headers::{ToTypedHeader, UntypedHeader, typed};
use rsip::message::HeadersExt;
use rsip::services::DigestGenerator;
use rsip::{Header, Headers, Method, SipMessage, Uri, Version};

/// A message of the gateway.
pub(super) struct ReceivedMessage {
    message: SipMessage,
    /// The reason phrase as sent; `rsip` keeps the standard one of the status.
    phrase: String,
}

impl ReceivedMessage {
    /// Reads one WebSocket frame.
    ///
    /// # Errors
    /// If `rsip` cannot read it.
    pub(super) fn parse(text: &str) -> anyhow::Result<ReceivedMessage> {
        let message = SipMessage::try_from(text.as_bytes())
            .map_err(|e| anyhow!("the gateway sent a message that cannot be read: {e}"))?;
        let phrase = text.lines().next().unwrap_or_default().splitn(3, ' ').nth(2);
        Ok(ReceivedMessage { phrase: phrase.unwrap_or_default().to_owned(), message })
    }

    fn headers(&self) -> &Headers {
        match &self.message {
            SipMessage::Request(request) => &request.headers,
            SipMessage::Response(response) => &response.headers,
        }
    }

    /// The method of a request; `None` for a response.
    pub(super) fn method(&self) -> Option<Method> {
        match &self.message {
            SipMessage::Request(request) => Some(request.method),
            SipMessage::Response(_) => None,
        }
    }

    /// The status of a response, 0 for a request.
    pub(super) fn status(&self) -> u16 {
        match &self.message {
            SipMessage::Request(_) => 0,
            SipMessage::Response(response) => response.status_code.code(),
        }
    }

    /// Whether it answers the request of this number and method.
    pub(super) fn answers(&self, method: Method, number: u32) -> bool {
        let cseq = self.message.cseq_header().ok().and_then(|c| c.typed().ok());
        self.method().is_none() && cseq.is_some_and(|c| c.method == method && c.seq == number)
    }

    /// The body, if it is SDP.
    pub(super) fn sdp(&self) -> Option<String> {
        let is_sdp = |h: &Header| match h {
            Header::ContentType(t) => t.value().eq_ignore_ascii_case("application/sdp"),
            _ => false,
        };
        let body = self.message.body();
        (self.headers().iter().any(is_sdp) && !body.is_empty())
            .then(|| String::from_utf8_lossy(body).into_owned())
    }

    /// To as it came, for the requests of its dialog.
    pub(super) fn to(&self) -> Option<String> {
        self.message.to_header().ok().map(|h| h.value().to_owned())
    }

    /// The URI in Contact, for the requests of its dialog.
    pub(super) fn contact(&self) -> Option<String> {
        let contact = self.message.contact_header().ok()?.value();
        let within = contact.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        within.map(|(uri, _)| uri.to_owned())
    }

    /// The sentence in a Reason header, else the reason phrase.
    pub(super) fn reason(&self) -> String {
        let text = self.headers().iter().find_map(|h| match h {
            Header::Other(name, value) if name.eq_ignore_ascii_case("Reason") => {
                value.split_once("text=\"").and_then(|(_, t)| t.split_once('"')).map(|(t, _)| t)
            }
            _ => None,
        });
        text.map_or_else(|| self.phrase.clone(), str::to_owned)
    }

    /// A 200 to this request.
    pub(super) fn ok(&self) -> String {
        let mut headers = self.echoed(|h| {
            matches!(
                h,
                Header::Via(_)
                    | Header::From(_)
                    | Header::To(_)
                    | Header::CallId(_)
                    | Header::CSeq(_)
            )
        });
        headers.push(Header::ContentLength(0.into()));
        let (status_code, version) = (200.into(), Version::V2);
        rsip::Response { status_code, version, headers, body: Vec::new() }.to_string()
    }

    /// ACK of this refusal: the INVITE's own Via and numbers (RFC 3261 §17.1.1.3).
    ///
    /// # Errors
    /// If `uri` cannot be read.
    pub(super) fn ack(&self, uri: &str, number: u32) -> anyhow::Result<String> {
        let mut headers = self.echoed(|h| {
            matches!(h, Header::Via(_) | Header::From(_) | Header::To(_) | Header::CallId(_))
        });
        headers.push(Header::MaxForwards(70.into()));
        headers.push(Header::CSeq(format!("{number} ACK").into()));
        request(Method::Ack, uri, headers, None)
    }

    /// The headers that `wanted` names.
    fn echoed(&self, wanted: fn(&Header) -> bool) -> Headers {
        self.headers().iter().filter(|h| wanted(h)).cloned().collect::<Vec<_>>().into()
    }

    /// What answers this challenge; `None` if it holds none that this phone knows.
    pub(super) fn credentials(
        &self,
        method: Method,
        (user, password): (&str, &str),
        uri: &str,
        cnonce: &str,
    ) -> Option<Header> {
        let digest = |challenge| digest(challenge, method, (user, password), uri, cnonce);
        self.headers().iter().find_map(|h| match h {
            Header::WwwAuthenticate(c) => {
                digest(c.value()).map(|value| Header::Authorization(value.into()))
            }
            Header::ProxyAuthenticate(c) => {
                digest(c.value()).map(|value| Header::ProxyAuthorization(value.into()))
            }
            _ => None,
        })
    }
}

/// The digest of a request to `uri` (RFC 8760). `rsip` knows SHA-256 by a spelling of its own.
fn digest(
    challenge: &str,
    method: Method,
    (user, password): (&str, &str),
    uri: &str,
    cnonce: &str,
) -> Option<String> {
    let spelt = challenge.replace("SHA-256", "SHA256");
    let challenge =
        typed::WwwAuthenticate::try_from(rsip::headers::untyped::WwwAuthenticate::new(spelt))
            .ok()?;
    let algorithm = challenge.algorithm.unwrap_or(Algorithm::Md5);
    let target = Uri::try_from(uri).ok()?;
    let qop = challenge
        .qop
        .as_ref()
        .map(|_| rsip::headers::auth::AuthQop::Auth { cnonce: cnonce.to_owned(), nc: 1 });
    let response = DigestGenerator {
        username: user,
        password,
        nonce: &challenge.nonce,
        uri: &target,
        realm: &challenge.realm,
        method: &method,
        qop: qop.as_ref(),
        algorithm,
    }
    .compute();
    let name = algorithm.to_string().replace("SHA256", "SHA-256");
    let escaped = user.replace('\\', "\\\\").replace('"', "\\\"");
    let mut value = format!(
        "Digest username=\"{escaped}\", realm=\"{}\", nonce=\"{}\", uri=\"{target}\", \
         response=\"{response}\", algorithm={name}",
        challenge.realm, challenge.nonce
    );
    if qop.is_some() {
        value.push_str(&format!(", qop=auth, nc=00000001, cnonce=\"{cnonce}\""));
    }
    if let Some(opaque) = &challenge.opaque {
        value.push_str(&format!(", opaque=\"{opaque}\""));
    }
    Some(value)
}

/// A request as text; with SDP if there is some.
///
/// # Errors
/// If `uri` cannot be read.
pub(super) fn request(
    method: Method,
    uri: &str,
    mut headers: Headers,
    sdp: Option<String>,
) -> anyhow::Result<String> {
    let uri = Uri::try_from(uri).map_err(|e| anyhow!("{e}")).context("not an address to call")?;
    let body = sdp.unwrap_or_default().into_bytes();
    if !body.is_empty() {
        headers.push(Header::ContentType("application/sdp".into()));
    }
    let length = u32::try_from(body.len())?;
    headers.push(Header::ContentLength(length.into()));
    Ok(rsip::Request { method, uri, version: Version::V2, headers, body }.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: &str = "SIP/2.0 401 Prove it\r\nVia: SIP/2.0/WS x;branch=z9hG4bK1\r\n\
        From: <sip:alice@example.org>;tag=a\r\nTo: <sip:bob@example.org>;tag=b\r\nCall-ID: 1\r\n\
        CSeq: 1 INVITE\r\nWWW-Authenticate: Digest realm=\"example.org\", nonce=\"n0nce\", \
        algorithm=SHA-256, qop=\"auth\", opaque=\"o\"\r\nReason: SIP;cause=401;text=\"no login\"\r\n\
        Content-Length: 0\r\n\r\n";

    #[test]
    fn a_challenge_by_sha_256_is_answered() {
        let challenge = ReceivedMessage::parse(CHALLENGE).expect("readable");
        assert_eq!(challenge.status(), 401);
        assert!(challenge.answers(Method::Invite, 1) && !challenge.answers(Method::Invite, 2));
        assert_eq!(challenge.reason(), "no login");
        let answer =
            challenge.credentials(Method::Invite, ("alice", "pa\"ss"), "sip:bob@example.org", "c");
        let Some(Header::Authorization(value)) = answer else { panic!("{answer:?}") };
        assert_eq!(
            value.value(),
            "Digest username=\"alice\", realm=\"example.org\", nonce=\"n0nce\", \
             uri=\"sip:bob@example.org\", response=\"7d4d868736f34d945ff78051584162e83ebf0c223c41a00546277cfa40db48f2\", algorithm=SHA-256, qop=auth, \
             nc=00000001, cnonce=\"c\", opaque=\"o\""
        );
    }

    #[test]
    fn the_ack_of_a_refusal_has_the_invites_own_numbers() {
        let refusal = ReceivedMessage::parse(CHALLENGE).expect("readable");
        let ack = refusal.ack("sip:bob@example.org", 1).expect("an address");
        assert!(ack.starts_with("ACK sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/WS x;"), "{ack}");
        assert!(ack.contains("\r\nTo: <sip:bob@example.org>;tag=b\r\n"), "{ack}");
        assert!(ack.contains("\r\nCSeq: 1 ACK\r\n") && ack.ends_with("\r\n\r\n"), "{ack}");
    }

    #[test]
    fn a_body_is_sdp_only_if_it_says_so() {
        let with = |kind: &str| {
            let text = CHALLENGE.replace("Content-Length: 0\r\n\r\n", "");
            let text = format!("{text}Content-Type: {kind}\r\nContent-Length: 3\r\n\r\nv=0");
            ReceivedMessage::parse(&text).expect("readable").sdp()
        };
        assert_eq!(with("application/sdp").as_deref(), Some("v=0"));
        assert_eq!(with("text/plain"), None);
    }
}
