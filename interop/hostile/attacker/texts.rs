//! SIP as text: what is written here and what is read of answers.

use md5::{Digest, Md5};

/// The value of the first header of this name.
pub(crate) fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().skip(1).take_while(|l| !l.is_empty()).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The status of a response; `None` for a request.
pub(crate) fn status(text: &str) -> Option<u16> {
    text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
}

/// The method of a CSeq.
pub(crate) fn method(text: &str) -> &str {
    header(text, "CSeq").and_then(|c| c.split_whitespace().nth(1)).unwrap_or_default()
}

/// The address of audio that a description names.
pub(crate) fn audio(text: &str) -> Option<std::net::SocketAddr> {
    let line = |start| text.lines().find_map(|l| l.strip_prefix(start));
    let port = line("m=audio ")?.split_whitespace().next()?;
    format!("{}:{port}", line("c=IN IP4 ")?.trim()).parse().ok()
}

/// A description of PCMU at this address.
pub(crate) fn pcmu(at: std::net::SocketAddr) -> String {
    let (ip, port) = (at.ip(), at.port());
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n\
         a=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n"
    )
}

/// The 200 to a request.
pub(crate) fn ok(request: &str, at: std::net::SocketAddr, media: std::net::SocketAddr) -> String {
    let copied: String = request
        .lines()
        .take_while(|l| !l.is_empty())
        .filter(|l| {
            ["Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"].iter().any(|n| l.starts_with(n))
        })
        .map(|l| format!("{l}\r\n"))
        .collect();
    let to = header(request, "To").unwrap_or_default();
    let tag = if to.contains("tag=") { "" } else { ";tag=far" };
    let head = format!("SIP/2.0 200 OK\r\n{copied}To: {to}{tag}\r\nContact: <sip:far@{at}>\r\n");
    if request.starts_with("INVITE") {
        let body = pcmu(media);
        let length = body.len();
        format!("{head}Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{body}")
    } else {
        format!("{head}Content-Length: 0\r\n\r\n")
    }
}

fn hex(input: &str) -> String {
    Md5::digest(input.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

/// The Authorization that answers a challenge (MD5, qop=auth).
pub(crate) fn credentials(
    challenge: &str,
    (user, password): (&str, &str),
    (method, uri): (&str, &str),
    count: u32,
) -> String {
    let part = |name: &str| {
        let after = challenge.split_once(&format!("{name}=\""))?.1;
        Some(after.split_once('"')?.0.to_owned())
    };
    let (realm, nonce) = (part("realm").unwrap_or_default(), part("nonce").unwrap_or_default());
    let (first, second) =
        (hex(&format!("{user}:{realm}:{password}")), hex(&format!("{method}:{uri}")));
    let response = hex(&format!("{first}:{nonce}:{count:08x}:0a4f113b:auth:{second}"));
    format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
         response=\"{response}\", algorithm=MD5, cnonce=\"0a4f113b\", qop=auth, nc={count:08x}"
    )
}
