//! The SDP of the test phone: the `sdp` crate composes and reads it, so that the phone does not
//! share the parser of the gateway that it tests.

use anyhow::anyhow;
use sdp::description::common::{Address, Attribute, ConnectionInformation};
use sdp::description::media::{MediaName, RangedPort};
use sdp::description::session::{Origin, TimeDescription};
use sdp::{MediaDescription, SessionDescription};
use std::io::Cursor;
use std::net::SocketAddr;

/// What an offer says of this phone.
pub(super) struct Offered<'a> {
    /// The address and port of its media.
    pub(super) address: SocketAddr,
    /// The SSRC of what it sends.
    pub(super) ssrc: u32,
    /// Its ICE user fragment.
    pub(super) ufrag: &'a str,
    /// Its ICE password.
    pub(super) password: &'a str,
    /// By SHA-256, in upper-case hexadecimal with colons.
    pub(super) fingerprint: &'a str,
    /// In the order of preference.
    pub(super) formats: Vec<SdpFormat>,
}

/// A payload type and its rtpmap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SdpFormat {
    /// 0 to 127.
    pub(super) payload_type: u8,
    /// The encoding's name.
    pub(super) name: String,
    /// In hertz.
    pub(super) clock: u32,
    /// Channels of the rtpmap, 1 or 2.
    pub(super) channels: u16,
}

/// What an answer says of the gateway.
#[derive(Debug)]
pub(super) struct SdpAnswer {
    /// Its formats, in the order of preference.
    pub(super) formats: Vec<SdpFormat>,
    /// Host candidates over UDP, in their order.
    pub(super) candidates: Vec<SocketAddr>,
    /// Its ICE user fragment.
    pub(super) ufrag: Option<String>,
    /// Its ICE password.
    pub(super) password: Option<String>,
    /// Certificates by SHA-256.
    pub(super) fingerprints: Vec<[u8; 32]>,
}

impl Offered<'_> {
    pub(super) fn compose(self) -> String {
        let (ip, port) = (self.address.ip(), self.address.port());
        let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
        let connection = ConnectionInformation {
            network_type: "IN".into(),
            address_type: family.into(),
            address: Some(Address { address: ip.to_string(), ttl: None, range: None }),
        };
        let media_name = MediaName {
            media: "audio".into(),
            port: RangedPort { value: isize::try_from(port).unwrap_or_default(), range: None },
            protos: ["UDP", "TLS", "RTP", "SAVPF"].map(str::to_owned).to_vec(),
            formats: Vec::new(),
        };
        let empty = MediaDescription {
            media_name,
            connection_information: Some(connection),
            ..MediaDescription::default()
        };
        let audio = empty
            .with_ice_credentials(self.ufrag.into(), self.password.into())
            .with_fingerprint("sha-256".into(), self.fingerprint.into())
            .with_value_attribute("setup".into(), "actpass".into())
            .with_value_attribute("mid".into(), "0".into())
            .with_property_attribute("sendrecv".into())
            .with_property_attribute("rtcp-mux".into())
            .with_value_attribute("ssrc".into(), format!("{} cname:webtrunk-call", self.ssrc))
            .with_candidate(format!("1 1 udp 2130706431 {ip} {port} typ host"));
        let audio = self.formats.into_iter().fold(audio, |audio, f| {
            // One channel is not written.
            let channels = if f.channels > 1 { f.channels } else { 0 };
            audio.with_codec(f.payload_type, f.name, f.clock, channels, String::new())
        });
        let origin = Origin {
            username: "-".into(),
            session_id: self.ssrc.into(),
            session_version: 2,
            network_type: "IN".into(),
            address_type: family.into(),
            unicast_address: ip.to_string(),
        };
        SessionDescription {
            origin,
            session_name: "-".into(),
            time_descriptions: vec![TimeDescription::default()],
            attributes: vec![Attribute::new("group".into(), Some("BUNDLE 0".into()))],
            ..SessionDescription::default()
        }
        .with_media(audio)
        .marshal()
    }
}

impl SdpAnswer {
    /// Reads the audio section of an answer.
    ///
    /// # Errors
    /// If the crate cannot read it, or it has no audio.
    pub(super) fn parse(text: &str) -> anyhow::Result<SdpAnswer> {
        let answer = SessionDescription::unmarshal(&mut Cursor::new(text))
            .map_err(|e| anyhow!("the gateway's SDP cannot be read: {e}"))?;
        let is_audio =
            |m: &&MediaDescription| m.media_name.media == "audio" && m.media_name.port.value != 0;
        let audio = answer.media_descriptions.iter().find(is_audio);
        let audio = audio.ok_or_else(|| anyhow!("the answer refuses audio"))?;
        let own = |key: &str| audio.attribute(key).flatten().map(str::to_owned);
        let all = |key: &'static str| {
            let of_session = answer.attributes.iter();
            let all = audio.attributes.iter().chain(of_session).filter(move |a| a.key == key);
            all.filter_map(|a| a.value.as_deref())
        };
        let formats = audio.media_name.formats.iter();
        Ok(SdpAnswer {
            formats: formats.filter_map(|f| format(f, all("rtpmap"))).collect(),
            candidates: all("candidate").filter_map(candidate).collect(),
            ufrag: own("ice-ufrag"),
            password: own("ice-pwd"),
            fingerprints: all("fingerprint").filter_map(fingerprint).collect(),
        })
    }
}

/// The format of a payload type by its rtpmap; the static types of RFC 3551 need none.
fn format<'a>(payload_type: &str, mut maps: impl Iterator<Item = &'a str>) -> Option<SdpFormat> {
    let map = maps.find_map(|m| m.split_once(' ').filter(|(pt, _)| *pt == payload_type));
    let payload_type: u8 = payload_type.parse().ok()?;
    let map = match (map, payload_type) {
        (Some((_, map)), _) => map,
        (None, 0) => "PCMU/8000",
        (None, 8) => "PCMA/8000",
        (None, 9) => "G722/8000",
        _ => return None,
    };
    let mut parts = map.trim().split('/');
    Some(SdpFormat {
        payload_type,
        name: parts.next()?.to_owned(),
        clock: parts.next()?.parse().ok()?,
        channels: parts.next().map_or(Some(1), |c| c.parse().ok())?,
    })
}

fn candidate(value: &str) -> Option<SocketAddr> {
    let words: Vec<&str> = value.split_ascii_whitespace().collect();
    let is_host = words.get(2)?.eq_ignore_ascii_case("udp") && words.get(7) == Some(&"host");
    let address = SocketAddr::new(words.get(4)?.parse().ok()?, words.get(5)?.parse().ok()?);
    is_host.then_some(address)
}

fn fingerprint(value: &str) -> Option<[u8; 32]> {
    let (algorithm, digits) = value.split_once(' ')?;
    let bytes: Option<Vec<u8>> =
        digits.trim().split(':').map(|d| u8::from_str_radix(d, 16).ok()).collect();
    bytes?.try_into().ok().filter(|_| algorithm.eq_ignore_ascii_case("sha-256"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opus() -> SdpFormat {
        SdpFormat { payload_type: 111, name: "opus".into(), clock: 48_000, channels: 2 }
    }

    #[test]
    fn what_is_composed_is_read_again() {
        let fingerprint = ["AB"; 32].join(":");
        let text = Offered {
            address: "127.0.0.1:4000".parse().expect("an address"),
            ssrc: 7,
            ufrag: "u",
            password: "p",
            fingerprint: &fingerprint,
            formats: vec![opus()],
        }
        .compose();
        assert!(text.starts_with("v=0\r\no=- 7 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"), "{text}");
        assert!(text.contains("\r\nm=audio 4000 UDP/TLS/RTP/SAVPF 111\r\n"), "{text}");
        assert!(text.contains("\r\na=rtpmap:111 opus/48000/2\r\n"), "{text}");
        let read = SdpAnswer::parse(&text).expect("readable");
        assert_eq!(read.formats, [opus()]);
        assert_eq!(read.candidates, [SocketAddr::from(([127, 0, 0, 1], 4000))]);
        assert_eq!((read.ufrag.as_deref(), read.password.as_deref()), (Some("u"), Some("p")));
        assert_eq!(read.fingerprints, [[0xAB; 32]]);
    }

    #[test]
    fn an_answer_with_port_0_refuses_audio() {
        let text = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n";
        let why = SdpAnswer::parse(text).expect_err("refused").to_string();
        assert_eq!(why, "the answer refuses audio");
    }
}
