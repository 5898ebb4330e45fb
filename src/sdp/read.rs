//! Reading descriptions: what is used is read as leniently as is unambiguous; what is not used
//! decides nothing.
//!
//! Only bounds, a NUL or a lone CR, and text that is no description at all are refused. A section
//! whose `m=` line makes no sense is a section still, with port 0, so that an answer has as many
//! as its offer (RFC 3264 §6).

use super::crypto::{self, Crypto};
use super::description::{
    AUDIO_LEVEL, Description, Direction, Fingerprint, Format, MAX_ALL_LINES, MAX_CANDIDATES,
    MAX_FORMATS, MAX_LINES, MAX_MEDIA, MAX_SDP, MediaDescription, SdpError, Setup,
};
use super::transport;
use crate::sip::parse::MAX_MESSAGE;
use std::net::{IpAddr, SocketAddr};

fn refused(why: impl Into<String>) -> SdpError {
    SdpError::new(399, why)
}

/// One line: its letter and its value.
type RawLine<'a> = (u8, &'a str);

/// The lines of a session or of a section.
#[derive(Clone, Copy)]
struct SectionLines<'a>(&'a [RawLine<'a>]);

impl<'a> SectionLines<'a> {
    fn of(self, letter: u8) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(l, _)| *l == letter).map(|(_, value)| *value)
    }

    /// Names and values of the attributes.
    fn attributes(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.of(b'a').map(|a| {
            let (name, value) = a.split_once(':').unwrap_or((a, ""));
            (name.trim(), value.trim())
        })
    }

    fn all(self, name: &str) -> impl Iterator<Item = &'a str> {
        self.attributes().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    fn first(self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }

    fn address(self) -> Option<IpAddr> {
        self.of(b'c').find_map(|c| {
            let address = c.split_ascii_whitespace().nth(2)?;
            // Some put brackets round IPv6, as in a URI.
            address.split('/').next()?.trim_matches(['[', ']']).parse().ok()
        })
    }

    /// The host of a `c=` line that has no address.
    fn host(self) -> Option<&'a str> {
        self.of(b'c').find_map(|c| c.split_ascii_whitespace().nth(2)?.split('/').next())
    }

    fn direction(self) -> Option<Direction> {
        self.attributes().find_map(|(name, _)| Direction::from_token(name))
    }
}

/// Reads a description.
///
/// # Errors
/// Over the limits, no description, or holding a NUL or a lone CR.
pub(super) fn read(body: &[u8]) -> Result<Description, SdpError> {
    if body.len() > MAX_MESSAGE {
        return Err(refused("the SDP is longer than 64 KiB"));
    }
    // Text nobody needs may be of any character set (`a=charset`).
    let text = String::from_utf8_lossy(body);
    let lines = lines(text.trim_start_matches('\u{feff}'))?;
    let end = lines.iter().position(|(l, _)| *l == b'm').unwrap_or(lines.len());
    let (session, sections) = lines.split_at(end);
    let session = SectionLines(session);
    let sections: Vec<&[RawLine<'_>]> = sections.chunk_by(|_, (next, _)| *next != b'm').collect();
    if sections.len() > MAX_MEDIA {
        return Err(refused("the SDP has more than 64 media descriptions"));
    }
    within_bounds(session, &sections)?;
    let (session_id, version) = origin(session.of(b'o').next().unwrap_or_default());
    let group = session.all("group").find_map(|g| g.strip_prefix("BUNDLE")).unwrap_or_default();
    let mut description = Description {
        session_id,
        version,
        media: sections.into_iter().map(|s| section(SectionLines(s), session)).collect(),
        bundle: group.split_whitespace().map(str::to_owned).collect(),
    };
    share_transport(&mut description);
    Ok(description)
}

/// What is used is short: the session's lines and those of sound. A page's videos have a hundred
/// lines each, of which hardly any is looked at.
fn within_bounds(session: SectionLines<'_>, sections: &[&[RawLine<'_>]]) -> Result<(), SdpError> {
    let is_sound = |s: &&&[RawLine<'_>]| {
        s.first().is_some_and(|(_, m)| m.get(..5).is_some_and(|k| k.eq_ignore_ascii_case("audio")))
    };
    let sound = sections.iter().filter(is_sound).flat_map(|s| s.iter());
    let (mut count, mut bytes) = (0, 0);
    for (_, value) in session.0.iter().chain(sound) {
        (count, bytes) = (count + 1, bytes + value.len() + 4);
    }
    if bytes > MAX_SDP {
        return Err(refused("the SDP is longer than 32 KiB, videos aside"));
    }
    if count > MAX_LINES {
        return Err(refused("the SDP has more than 512 lines, videos aside"));
    }
    Ok(())
}

fn lines(text: &str) -> Result<Vec<RawLine<'_>>, SdpError> {
    let lines: Vec<&str> = text
        .split('\n')
        .map(|l| l.strip_suffix('\r').unwrap_or(l))
        .filter(|l| !l.trim().is_empty())
        .collect();
    if lines.len() > MAX_ALL_LINES {
        return Err(refused("the SDP has more than 8192 lines"));
    }
    if lines.iter().any(|l| memchr::memchr2(b'\0', b'\r', l.as_bytes()).is_some()) {
        return Err(refused("the SDP holds a NUL or a lone CR"));
    }
    let lines: Vec<RawLine<'_>> = lines
        .into_iter()
        .filter_map(|line| match line.as_bytes() {
            [letter, b'=', ..] => Some((*letter, line[2..].trim())),
            _ => None,
        })
        .collect();
    if lines.first() != Some(&(b'v', "0")) {
        return Err(refused("the SDP does not begin with v=0"));
    }
    Ok(lines)
}

/// Session id and version of an `o=` line, whose user may hold spaces, or be missing.
fn origin(line: &str) -> (String, String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [.., id, version, _, _, _] => ((*id).to_owned(), (*version).to_owned()),
        _ => (line.to_owned(), String::new()),
    }
}

/// Longest name of a DTLS association (RFC 8842 §4).
const MAX_TLS_ID: usize = 255;
/// Characters of a host that are kept.
const MAX_HOST: usize = 64;

fn section(own: SectionLines<'_>, session: SectionLines<'_>) -> MediaDescription {
    let mut words = own.of(b'm').next().unwrap_or_default().split_ascii_whitespace();
    let kind = words.next().unwrap_or_default().to_owned();
    // A number of ports may follow (RFC 8866 §5.14): the first is meant.
    let port = words.next().and_then(|p| p.split('/').next()?.parse().ok()).unwrap_or(0);
    let proto = words.next().unwrap_or_default().to_owned();
    let fmt: Vec<String> = words.take(MAX_FORMATS).map(str::to_owned).collect();
    let either = |name: &str| own.first(name).or_else(|| session.first(name));
    let address = own.address().or_else(|| session.address());
    let prints = if own.first("fingerprint").is_some() { own } else { session };
    let (ptime, max_ptime) = packet_times(own);
    let is_audio = kind.eq_ignore_ascii_case("audio");
    let crypto = keys(&proto, own, session);
    MediaDescription {
        formats: if is_audio { formats(&fmt, own) } else { Vec::new() },
        is_audio,
        kind,
        port,
        bundle_only: own.first("bundle-only").is_some(),
        proto,
        fmt,
        host: address.is_none().then(|| own.host().or(session.host()).map(cut_host)).flatten(),
        address,
        direction: own.direction().or(session.direction()).unwrap_or(Direction::SendRecv),
        mid: own.first("mid").map(str::to_owned),
        ice_ufrag: either("ice-ufrag").map(str::to_owned),
        ice_pwd: either("ice-pwd").map(str::to_owned),
        fingerprints: prints.all("fingerprint").filter_map(fingerprint).collect(),
        has_fingerprint: prints.first("fingerprint").is_some(),
        setup: either("setup").and_then(setup),
        tls_id: either("tls-id").filter(|id| id.len() <= MAX_TLS_ID).map(str::to_owned),
        rtcp_mux: own.first("rtcp-mux").is_some(),
        rtcp: own.first("rtcp").and_then(|r| rtcp(r, address)),
        voip_metrics: own
            .all("rtcp-xr")
            .chain(session.all("rtcp-xr"))
            .any(|v| v.split_whitespace().any(|w| w.starts_with("voip-metrics"))),
        audio_level: own.all("extmap").chain(session.all("extmap")).find_map(audio_level),
        crypto,
        ptime,
        max_ptime,
        candidates: own.all("candidate").take(MAX_CANDIDATES).filter_map(candidate).collect(),
    }
}

/// The number of an `a=extmap` line (RFC 8285 §5) of the audio level, if its writer may send it;
/// more than 14 is no number of a one-byte header.
fn audio_level(value: &str) -> Option<u8> {
    let mut words = value.split_ascii_whitespace();
    let (number, direction) =
        words.next().map(|word| word.split_once('/').unwrap_or((word, "")))?;
    let sends = Direction::from_token(direction).is_none_or(Direction::sends);
    let number = number.parse::<u8>().ok().filter(|number| (1..=14).contains(number))?;
    (words.next()? == AUDIO_LEVEL && sends).then_some(number)
}

/// As much of a host as is ever said.
fn cut_host(host: &str) -> String {
    host.chars().take(MAX_HOST).collect()
}

/// The keys of a section. Quirk: some old phones write them once, before the first section, where
/// RFC 4568 §5 has none. A profile that is nothing without keys can mean no others, so they count
/// for it if it has no line of its own; plain RTP is what `RTP/AVP` says, whatever stands there.
fn keys(proto: &str, own: SectionLines<'_>, session: SectionLines<'_>) -> Vec<Crypto> {
    let bare = own.first("crypto").is_none();
    let lines = if bare && transport::needs_keys(proto) { session } else { own };
    lines.all("crypto").take(crypto::MOST).filter_map(Crypto::read).collect()
}

/// What belongs to the transport stands in the first section of a bundle only, if others are
/// offered in it and nowhere else (RFC 9143 §7.1.3, RFC 8859).
fn share_transport(description: &mut Description) {
    let Some(first) = description.bundle.first() else { return };
    let tagged = description.media.iter().find(|m| m.mid.as_ref() == Some(first)).cloned();
    let Some(tagged) = tagged else { return };
    let bundle = &description.bundle;
    let is_bundled =
        |m: &&mut MediaDescription| m.mid.as_ref().is_some_and(|mid| bundle.contains(mid));
    for m in description.media.iter_mut().filter(is_bundled).filter(|m| m.bundle_only) {
        if m.ice_ufrag.is_none() {
            (m.ice_ufrag, m.ice_pwd) = (tagged.ice_ufrag.clone(), tagged.ice_pwd.clone());
        }
        if !m.has_fingerprint {
            m.has_fingerprint = tagged.has_fingerprint;
            m.fingerprints.clone_from(&tagged.fingerprints);
        }
        m.setup = m.setup.or(tagged.setup);
        m.rtcp_mux |= tagged.rtcp_mux;
    }
}

fn setup(value: &str) -> Option<Setup> {
    let known =
        [("active", Setup::Active), ("passive", Setup::Passive), ("actpass", Setup::Actpass)];
    known.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(value)).map(|(_, setup)| setup)
}

/// Milliseconds a packet is to last, no more than `maxptime`; and that.
fn packet_times(own: SectionLines<'_>) -> (Option<u32>, Option<u32>) {
    let ms = |name: &str| {
        let whole = own.first(name)?.split('.').next()?;
        whole.parse::<u32>().ok().filter(|ms| *ms > 0)
    };
    let (wanted, most) = (ms("ptime"), ms("maxptime"));
    // A peer that takes less than we send by default has asked for that.
    let wanted = wanted.or(most.filter(|most| *most < 20));
    (wanted.map(|wanted| wanted.min(most.unwrap_or(wanted))), most)
}

fn formats(fmt: &[String], own: SectionLines<'_>) -> Vec<Format> {
    let mut formats: Vec<Format> = Vec::new();
    for payload_type in fmt.iter().filter_map(|f| f.parse::<u8>().ok()).filter(|pt| *pt < 128) {
        if formats.iter().all(|f| f.payload_type != payload_type) {
            formats.push(format(payload_type, own));
        }
    }
    formats
}

fn format(payload_type: u8, own: SectionLines<'_>) -> Format {
    let value_of = |name: &str| {
        own.all(name).find_map(|v| {
            let (number, rest) = v.split_once(char::is_whitespace)?;
            (number.parse() == Ok(payload_type)).then(|| rest.trim())
        })
    };
    let written = value_of("rtpmap");
    // No RFC has it so, but every device that names 101 and says no more means digits.
    let known = match payload_type {
        101 if written.is_none() => "telephone-event/8000",
        _ => static_rtpmap(payload_type),
    };
    let (name, clock, channels) =
        written.and_then(rtpmap).or_else(|| rtpmap(known)).unwrap_or_default();
    let fmtp = value_of("fmtp").unwrap_or_default().to_owned();
    Format { payload_type, name, clock, channels, fmtp }
}

/// Name, clock and channels; 0 channels if they cannot be read.
fn rtpmap(map: &str) -> Option<(String, u32, u8)> {
    let mut parts = map.split('/').map(str::trim);
    let name = parts.next().filter(|n| !n.is_empty())?.to_owned();
    let clock = parts.next()?.parse().ok()?;
    // A slash with nothing behind it says nothing.
    let channels = parts.next().filter(|c| !c.is_empty());
    let channels = channels.map_or(Some(1), |c| c.parse().ok()).unwrap_or(0);
    Some((name, clock, channels))
}

/// What a payload type means without a rtpmap (RFC 3551 §6).
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
    let (hash, hex) = value.split_once(char::is_whitespace)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_cut() {
        let name = format!("{}.example", "a".repeat(MAX_HOST));
        let sdp = format!("v=0\r\nc=IN IP4 {name}\r\nm=audio 4 RTP/AVP 0\r\n");
        let read = read(sdp.as_bytes()).expect("a description");
        assert_eq!(read.media[0].host.as_deref(), Some(&name[..MAX_HOST]));
        let known = sdp.replace(&name, "192.0.2.1");
        let read = super::read(known.as_bytes()).expect("a description");
        assert_eq!((read.media[0].host.as_deref(), read.media[0].address.is_some()), (None, true));
    }
}
