//! A session description as we need it, read through the `sdp` crate after a tolerant pre-pass.
//!
//! The pre-pass mends what trunks get wrong and the crate refuses: missing `s=` or `t=`, session
//! lines out of order, spaces in the `o=` user. Static payload types without rtpmap are filled in
//! (RFC 3551).

use super::crypto::{self, Crypto};
use crate::codec::Codec;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

/// Longest description, bytes.
pub const MAX_SDP: usize = 32 * 1024;
/// Most lines.
pub const MAX_LINES: usize = 512;
/// Most media descriptions.
pub const MAX_MEDIA: usize = 8;
/// Candidates read per media description; the rest are ignored (SECURITY M10).
pub const MAX_CANDIDATES: usize = 20;

/// A description we cannot use, with the Warning code a 488 carries (RFC 3261 §20.43).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{why}")]
pub struct SdpError {
    pub warning: u16,
    pub why: String,
}

impl SdpError {
    pub(crate) fn new(warning: u16, why: impl Into<String>) -> SdpError {
        SdpError { warning, why: why.into() }
    }
}

/// Which way media may flow, from the describer's point of view (RFC 8866 §6.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    /// From the two halves.
    pub fn new(send: bool, recv: bool) -> Direction {
        match (send, recv) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }
    /// Whether the describer sends.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }
    /// Whether the describer receives.
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
    /// The same flow seen from the other end.
    pub fn reversed(self) -> Direction {
        Direction::new(self.receives(), self.sends())
    }
    /// What both allow.
    pub fn and(self, other: Direction) -> Direction {
        Direction::new(self.sends() && other.sends(), self.receives() && other.receives())
    }
    /// The attribute's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }
    fn from_token(text: &str) -> Option<Direction> {
        [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
            .into_iter()
            .find(|d| d.as_str() == text)
    }
}

/// The DTLS setup attribute (RFC 4145, RFC 5763).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setup {
    Active,
    Passive,
    Actpass,
}

/// One payload format of a media description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Format {
    pub payload_type: u8,
    pub name: String,
    pub clock: u32,
    /// 1 where the rtpmap does not say.
    pub channels: u8,
    pub fmtp: String,
}

impl Format {
    /// Our codec for this format.
    pub fn codec(&self) -> Option<Codec> {
        // Opus without its two is Opus too; of the others we speak mono.
        Codec::from_rtpmap(&self.name, self.clock)
            .filter(|codec| *codec == Codec::Opus || self.channels == 1)
    }
    /// The bits a second the describer takes at most on average (Opus's `maxaveragebitrate`, RFC
    /// 7587 §6.1).
    pub fn max_average_bitrate(&self) -> Option<u32> {
        let values = self.fmtp.split(';').filter_map(|p| p.trim().split_once('='));
        values
            .filter(|(name, _)| name.eq_ignore_ascii_case("maxaveragebitrate"))
            .find_map(|(_, v)| v.trim().parse().ok())
    }
    /// Whether this is RFC 4733 telephone-event.
    pub fn is_telephone_event(&self) -> bool {
        self.name.eq_ignore_ascii_case("telephone-event")
    }
    /// Whether this is comfort noise (RFC 3389) for codecs with a clock of 8000.
    pub fn is_comfort_noise(&self) -> bool {
        self.name.eq_ignore_ascii_case("CN") && self.clock == 8_000
    }
}

/// A sha-256 fingerprint of the peer's certificate (RFC 8122).
pub type Fingerprint = [u8; 32];

/// One m= section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediaDescription {
    pub kind: String,
    pub port: u16,
    pub proto: String,
    /// The fmt list as written, for the echo in a refused section.
    pub fmt: Vec<String>,
    pub formats: Vec<Format>,
    pub address: Option<IpAddr>,
    pub direction: Direction,
    pub mid: Option<String>,
    pub ice_ufrag: Option<String>,
    pub ice_pwd: Option<String>,
    pub fingerprints: Vec<Fingerprint>,
    /// Whether any fingerprint line stood here, even one of a hash we do not take.
    pub has_fingerprint: bool,
    pub setup: Option<Setup>,
    pub rtcp_mux: bool,
    pub rtcp: Option<SocketAddr>,
    pub ptime: Option<u32>,
    /// RTCP XR's VoIP metrics are wanted.
    pub voip_metrics: bool,
    /// SRTP keys of suites we speak, the describer's order.
    pub crypto: Vec<Crypto>,
    /// UDP candidates with an address; names and TCP are ignored.
    pub candidates: Vec<SocketAddr>,
}

impl MediaDescription {
    /// Whether this speaks DTLS-SRTP.
    pub fn is_dtls(&self) -> bool {
        self.has_fingerprint || self.proto.starts_with("UDP/TLS/")
    }
}

/// A whole description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// `o=` session id and version.
    pub session_id: String,
    pub version: String,
    pub media: Vec<MediaDescription>,
    /// Mids of the first BUNDLE group.
    pub bundle: Vec<String>,
}

impl Description {
    /// Reads a description.
    ///
    /// # Errors
    /// Over the limits, not SDP, or holding NUL or a lone CR.
    pub fn parse(body: &[u8]) -> Result<Description, SdpError> {
        let text = mend(body)?;
        let bad =
            |e: &dyn std::fmt::Display| SdpError::new(399, format!("the SDP cannot be read: {e}"));
        let parsed = sdp::SessionDescription::unmarshal(&mut std::io::Cursor::new(text.as_bytes()))
            .map_err(|e| bad(&e))?;
        if parsed.media_descriptions.len() > MAX_MEDIA {
            return Err(SdpError::new(399, "more than 8 media descriptions"));
        }
        let session = Attributes(&parsed.attributes);
        let address = connection(parsed.connection_information.as_ref());
        let media = parsed
            .media_descriptions
            .iter()
            .map(|m| media(m, &session, address))
            .collect::<Result<_, _>>()?;
        let bundle =
            session.all("group").find_map(|g| g.strip_prefix("BUNDLE")).unwrap_or_default();
        Ok(Description {
            session_id: parsed.origin.session_id.to_string(),
            version: parsed.origin.session_version.to_string(),
            media,
            bundle: bundle.split_whitespace().map(str::to_owned).collect(),
        })
    }

    /// The first audio section that is not refused.
    pub fn audio(&self) -> Option<(usize, &MediaDescription)> {
        self.media.iter().enumerate().find(|(_, m)| m.kind == "audio" && m.port != 0)
    }
}

fn mend(body: &[u8]) -> Result<Cow<'_, str>, SdpError> {
    if body.len() > MAX_SDP {
        return Err(SdpError::new(399, "the SDP is longer than 32 KiB"));
    }
    let text = std::str::from_utf8(body).map_err(|_| SdpError::new(399, "the SDP is not UTF-8"))?;
    let lines: SmallVec<[&str; 64]> = text
        .split('\n')
        .map(|l| l.strip_suffix('\r').unwrap_or(l))
        .filter(|l| !l.is_empty())
        .collect();
    if lines.len() > MAX_LINES {
        return Err(SdpError::new(399, "the SDP has more than 512 lines"));
    }
    if lines.iter().any(|l| memchr::memchr2(b'\0', b'\r', l.as_bytes()).is_some()) {
        return Err(SdpError::new(399, "the SDP holds a NUL or a lone CR"));
    }
    if lines.first() != Some(&"v=0") {
        return Err(SdpError::new(399, "the SDP does not begin with v=0"));
    }
    let split = lines.iter().position(|l| l.starts_with("m=")).unwrap_or(lines.len());
    let (session, sections) = lines.split_at(split);
    if is_sound(text, session, sections) {
        Ok(Cow::Borrowed(text))
    } else {
        rewritten(text.len(), session, sections).map(Cow::Owned)
    }
}

/// The lines of a session and of a section, in the order RFC 8866 §5 asks for.
const SESSION: [&str; 14] =
    ["v=", "o=", "s=", "i=", "u=", "e=", "p=", "c=", "b=", "t=", "r=", "z=", "k=", "a="];
const SECTION: [&str; 6] = ["m=", "i=", "c=", "b=", "k=", "a="];

/// Whether the crate takes it as it stands: nearly all that comes.
fn is_sound(text: &str, session: &[&str], sections: &[&str]) -> bool {
    let places = |lines: &[&str], order: &[&str]| {
        lines
            .iter()
            .map(|l| order.iter().position(|kind| l.starts_with(kind)))
            .collect::<SmallVec<[Option<usize>; 64]>>()
    };
    let of_session = places(session, &SESSION);
    let once = |kind: &str| session.iter().filter(|l| l.starts_with(kind)).count() == 1;
    // Every line ended by CR LF, and none empty.
    text.len() == session.iter().chain(sections).map(|l| l.len() + 2).sum::<usize>()
        && of_session.is_sorted()
        && !of_session.contains(&None)
        && ["v=", "o=", "s=", "t="].into_iter().all(once)
        && session.iter().filter(|l| l.starts_with("c=")).count() < 2
        && session.iter().find(|l| l.starts_with("o=")).is_some_and(|l| is_plain_origin(l))
        && sections
            .chunk_by(|_, next| !next.starts_with("m="))
            .map(|section| places(section, &SECTION))
            .all(|s| s.is_sorted() && !s.contains(&None))
}

/// Six words, and numbers the crate can hold.
fn is_plain_origin(line: &str) -> bool {
    let number = |n: &str| n.len() <= 18 && n.bytes().all(|b| b.is_ascii_digit());
    let mut words = line[2..].split(' ');
    let six: [Option<&str>; 7] = std::array::from_fn(|_| words.next());
    matches!(six, [Some(_), Some(id), Some(version), Some(_), Some(_), Some(_), None] if number(id) && number(version))
        && !six.contains(&Some(""))
}

fn rewritten(length: usize, session: &[&str], sections: &[&str]) -> Result<String, SdpError> {
    let mut out = String::with_capacity(length + 16);
    for kind in SESSION {
        let mut any = false;
        for line in session.iter().filter(|l| l.starts_with(kind)) {
            if matches!(kind, "v=" | "o=" | "s=" | "c=") && any {
                continue;
            }
            any = true;
            push(
                &mut out,
                &if kind == "o=" { Cow::Owned(origin(line)) } else { Cow::Borrowed(*line) },
            );
        }
        match kind {
            "o=" if !any => return Err(SdpError::new(399, "the SDP has no o= line")),
            "s=" if !any => push(&mut out, "s=-"),
            "t=" if !any => push(&mut out, "t=0 0"),
            _ => {}
        }
    }
    for section in sections.chunk_by(|_, next| !next.starts_with("m=")) {
        for kind in SECTION {
            section.iter().filter(|l| l.starts_with(kind)).for_each(|l| push(&mut out, l));
        }
    }
    Ok(out)
}

fn push(out: &mut String, line: &str) {
    out.push_str(line);
    out.push_str("\r\n");
}

/// `o=` with spaces in the user joined, and numbers too large for the crate cut to their last
/// digits.
fn origin(line: &str) -> String {
    let words: Vec<&str> = line[2..].split_whitespace().collect();
    let [user @ .., id, version, net, kind, address] = words.as_slice() else {
        return line.to_owned();
    };
    let number =
        |n: &str| n.chars().rev().take(18).collect::<String>().chars().rev().collect::<String>();
    let user = if user.is_empty() { "-".to_owned() } else { user.join("_") };
    format!("o={user} {} {} {net} {kind} {address}", number(id), number(version))
}

struct Attributes<'a>(&'a [sdp::description::common::Attribute]);

impl<'a> Attributes<'a> {
    fn all(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |a| a.key == key).map(|a| a.value.as_deref().unwrap_or_default())
    }
    fn get(&self, key: &str) -> Option<&'a str> {
        self.all(key).next()
    }
}

fn connection(c: Option<&sdp::description::common::ConnectionInformation>) -> Option<IpAddr> {
    c.and_then(|c| c.address.as_ref()).and_then(|a| a.address.parse().ok())
}

fn media(
    m: &sdp::description::media::MediaDescription,
    session: &Attributes<'_>,
    address: Option<IpAddr>,
) -> Result<MediaDescription, SdpError> {
    let own = Attributes(&m.attributes);
    let either = |key: &str| own.get(key).or_else(|| session.get(key)).map(str::to_owned);
    let direction = |a: &Attributes<'_>| a.0.iter().find_map(|a| Direction::from_token(&a.key));
    let address = connection(m.connection_information.as_ref()).or(address);
    let prints = if own.get("fingerprint").is_some() { &own } else { session };
    let fmt = &m.media_name.formats;
    let port = u16::try_from(m.media_name.port.value)
        .map_err(|_| SdpError::new(399, "the media port is not 0 to 65535"))?;
    Ok(MediaDescription {
        kind: m.media_name.media.clone(),
        port,
        proto: m.media_name.protos.join("/"),
        formats: if m.media_name.media == "audio" { formats(fmt, &own)? } else { Vec::new() },
        fmt: fmt.clone(),
        address,
        direction: direction(&own).or_else(|| direction(session)).unwrap_or(Direction::SendRecv),
        mid: own.get("mid").map(str::to_owned),
        ice_ufrag: either("ice-ufrag"),
        ice_pwd: either("ice-pwd"),
        fingerprints: prints.all("fingerprint").filter_map(fingerprint).collect(),
        has_fingerprint: prints.get("fingerprint").is_some(),
        setup: either("setup").and_then(|s| match s.as_str() {
            "active" => Some(Setup::Active),
            "passive" => Some(Setup::Passive),
            "actpass" => Some(Setup::Actpass),
            _ => None,
        }),
        rtcp_mux: own.get("rtcp-mux").is_some(),
        rtcp: own.get("rtcp").and_then(|r| rtcp(r, address)),
        voip_metrics: own
            .all("rtcp-xr")
            .chain(session.all("rtcp-xr"))
            .any(|v| v.split_whitespace().any(|w| w.starts_with("voip-metrics"))),
        crypto: own.all("crypto").take(crypto::MOST).filter_map(Crypto::read).collect(),
        ptime: own.get("ptime").and_then(|p| p.trim().parse().ok()),
        candidates: own.all("candidate").take(MAX_CANDIDATES).filter_map(candidate).collect(),
    })
}

fn formats(fmt: &[String], own: &Attributes<'_>) -> Result<Vec<Format>, SdpError> {
    if fmt.len() > 64 {
        return Err(SdpError::new(399, "more than 64 payload types in one m= line"));
    }
    let value_of = |key: &str, pt: u8| {
        own.all(key).find_map(|v| {
            let (n, rest) = v.split_once(' ')?;
            (n.parse() == Ok(pt)).then(|| rest.trim().to_owned())
        })
    };
    let one = |text: &String| {
        let payload_type = text.parse::<u8>().ok().filter(|&pt| pt < 128);
        let payload_type = payload_type
            .ok_or_else(|| SdpError::new(399, format!("payload type {text:?} is not 0 to 127")))?;
        let map = value_of("rtpmap", payload_type)
            .unwrap_or_else(|| static_rtpmap(payload_type).to_owned());
        let mut parts = map.split('/');
        let name = parts.next().unwrap_or_default().to_owned();
        let clock = parts.next().and_then(|c| c.trim().parse().ok()).unwrap_or(0);
        let channels = parts.next().map_or(Some(1), |c| c.trim().parse().ok()).unwrap_or(0);
        Ok(Format {
            payload_type,
            name,
            clock,
            channels,
            fmtp: value_of("fmtp", payload_type).unwrap_or_default(),
        })
    };
    fmt.iter().map(one).collect()
}

fn static_rtpmap(payload_type: u8) -> &'static str {
    match payload_type {
        0 => "PCMU/8000",
        3 => "GSM/8000",
        4 => "G723/8000",
        8 => "PCMA/8000",
        9 => "G722/8000",
        13 => "CN/8000",
        18 => "G729/8000",
        _ => "",
    }
}

fn fingerprint(value: &str) -> Option<Fingerprint> {
    let (hash, hex) = value.split_once(' ')?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let bytes: Vec<u8> =
        hex.trim().split(':').map(|b| u8::from_str_radix(b, 16).ok()).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

fn rtcp(value: &str, address: Option<IpAddr>) -> Option<SocketAddr> {
    let mut words = value.split_whitespace();
    let port = words.next()?.parse().ok()?;
    let named = words.nth(2).and_then(|a| a.parse().ok());
    Some(SocketAddr::new(named.or(address)?, port))
}

fn candidate(value: &str) -> Option<SocketAddr> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let [_, component, transport, _, address, port, ..] = words.as_slice() else { return None };
    if *component != "1" || !transport.eq_ignore_ascii_case("udp") {
        return None;
    }
    Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?))
}
