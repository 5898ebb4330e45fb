//! Writing descriptions: always ours, line by line, never a copy of what was received.

use super::crypto::Crypto;
use super::description::{AUDIO_LEVEL, Direction, Format, MediaDescription, Setup};
use super::offer_answer::{Ice, LegKind, Local};
use std::fmt::Write as _;

/// What goes into the audio section.
pub(super) struct Audio<'a> {
    /// Formats, in the order of preference.
    pub formats: &'a [Format],
    /// The direction, as its writer sees it.
    pub direction: Direction,
    /// The transport protocol of `m=`.
    pub proto: &'a str,
    /// The `mid`, if it is in a group.
    pub mid: Option<&'a str>,
    /// The DTLS role.
    pub setup: Setup,
    /// RTCP shares the port of RTP.
    pub rtcp_mux: bool,
    /// It says `a=group:BUNDLE`.
    pub bundle: bool,
    /// The packet length in milliseconds, if given.
    pub ptime: Option<u32>,
    /// SDES keys.
    pub crypto: &'a [Crypto],
    /// It asks for VoIP metrics (RFC 3611).
    pub voip_metrics: bool,
    /// The header extension in which the peer may say how loud it is.
    pub audio_level: Option<u8>,
}

/// One section of the description to write.
pub(super) enum Section<'a> {
    Audio(Audio<'a>),
    /// Port 0, with the offer's own words (RFC 3264 §6).
    Refused(&'a MediaDescription),
}

/// Prints a whole description.
pub(super) fn print(
    local: &Local,
    ice: Option<&Ice>,
    version: u64,
    sections: &[Section<'_>],
) -> String {
    let mut out = String::with_capacity(1024);
    let family = if local.address.is_ipv4() { "IP4" } else { "IP6" };
    let ip = local.address.ip();
    let _ =
        write!(out, "v=0\r\no=- {} {version} IN {family} {ip}\r\ns=webtrunk\r\n", local.session_id);
    let _ = write!(out, "c=IN {family} {ip}\r\nt=0 0\r\n");
    if local.side == LegKind::Browser {
        // Everything we have is here at once (RFC 8840 calls it half trickle); what the peer has
        // may come later.
        out.push_str("a=ice-lite\r\na=ice-options:trickle\r\n");
        let mids = sections.iter().filter_map(|s| match s {
            Section::Audio(a) if a.bundle => a.mid,
            _ => None,
        });
        let mids: Vec<&str> = mids.collect();
        if !mids.is_empty() {
            let _ = write!(out, "a=group:BUNDLE {}\r\n", mids.join(" "));
        }
    }
    for section in sections {
        match section {
            Section::Audio(a) => audio(&mut out, local, ice, a),
            Section::Refused(m) => refused(&mut out, m),
        }
    }
    out
}

/// Whether a word of the peer's may be written again as one (RFC 8866 §9).
pub(super) fn is_token(word: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b);
    !word.is_empty() && word.len() <= 64 && word.bytes().all(fits)
}

/// A section that is not used: the offer's own words if they are words, so that it is known again.
fn refused(out: &mut String, m: &MediaDescription) {
    let kind = if is_token(&m.kind) { &m.kind } else { "application" };
    let proto = if m.proto.split('/').all(is_token) { &m.proto } else { "RTP/AVP" };
    let _ = write!(out, "m={kind} 0 {proto}");
    let mut formats = m.fmt.iter().filter(|f| is_token(f)).peekable();
    if formats.peek().is_none() {
        out.push_str(" 0");
    }
    formats.for_each(|f| {
        let _ = write!(out, " {f}");
    });
    out.push_str("\r\n");
    if let Some(mid) = m.mid.as_ref().filter(|mid| is_token(mid)) {
        let _ = write!(out, "a=mid:{mid}\r\n");
    }
}

fn audio(out: &mut String, local: &Local, ice: Option<&Ice>, a: &Audio<'_>) {
    let _ = write!(out, "m=audio {} {}", local.address.port(), a.proto);
    for f in a.formats {
        let _ = write!(out, " {}", f.payload_type);
    }
    out.push_str("\r\n");
    if let Some(mid) = a.mid {
        let _ = write!(out, "a=mid:{mid}\r\n");
    }
    for f in a.formats {
        let channels = if f.channels > 1 { format!("/{}", f.channels) } else { String::new() };
        let _ = write!(out, "a=rtpmap:{} {}/{}{channels}\r\n", f.payload_type, f.name, f.clock);
        if !f.fmtp.is_empty() {
            let _ = write!(out, "a=fmtp:{} {}\r\n", f.payload_type, f.fmtp);
        }
    }
    if let Some(ptime) = a.ptime {
        let _ = write!(out, "a=ptime:{ptime}\r\n");
    }
    let _ = write!(out, "a={}\r\n", a.direction.as_str());
    if a.rtcp_mux {
        out.push_str("a=rtcp-mux\r\n");
    }
    if a.voip_metrics {
        out.push_str("a=rtcp-xr:voip-metrics\r\n");
    }
    if let Some(number) = a.audio_level {
        let _ = write!(out, "a=extmap:{number} {AUDIO_LEVEL}\r\n");
    }
    for crypto in a.crypto {
        let _ = write!(out, "a=crypto:{crypto}\r\n");
    }
    let Some(ice) = ice else { return };
    let setup = match a.setup {
        Setup::Active => "active",
        Setup::Passive => "passive",
        Setup::Actpass => "actpass",
    };
    let _ = write!(out, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", ice.ufrag, ice.pwd);
    let _ = write!(out, "a=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n", local.fingerprint);
    let _ = write!(out, "a=msid:webtrunk audio\r\na=ssrc:{} cname:{}\r\n", local.ssrc, local.cname);
    for (n, address) in std::iter::once(&local.address).chain(&local.more_addresses).enumerate() {
        let (ip, port) = (address.ip(), address.port());
        // RFC 8445 §5.1.2.1: type preference 126 for host, then one step down per address.
        let priority = (126u32 << 24) | ((65_535 - n as u32) << 8) | 255;
        let _ = write!(out, "a=candidate:{} 1 udp {priority} {ip} {port} typ host\r\n", n + 1);
    }
    for (n, address) in std::iter::once(&local.address)
        .chain(&local.more_addresses)
        .filter(|_| local.tcp)
        .enumerate()
    {
        // RFC 6544 §4.2: type preference 90, direction preference 4 for passive: after every UDP
        // candidate.
        let priority = (90u32 << 24) | ((4 << 13 | (8_191 - n as u32)) << 8) | 255;
        let _ = write!(
            out,
            "a=candidate:t{} 1 tcp {priority} {} {} typ host tcptype passive\r\n",
            n + 1,
            address.ip(),
            address.port()
        );
    }
    out.push_str("a=end-of-candidates\r\n");
}
