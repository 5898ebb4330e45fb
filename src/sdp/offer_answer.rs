//! Offer/answer for one leg (RFC 3264, RFC 8829 §5): each leg negotiates alone.
//!
//! ```text
//!             offer()                       receive_offer()
//!   Stable ------------> HaveLocalOffer   Stable ------------> HaveRemoteOffer
//!      ^  receive_answer()  |                ^     answer()       |
//!      +--------------------+                +--------------------+
//! ```
//! Not here: the other leg. What it can do arrives as an ordered list of codecs.

use super::crypto::{Crypto, LocalKeys, Policy, Sdes};
use super::description::{Description, Direction, Format, MediaDescription, SdpError, Setup};
pub use super::negotiated::{Content, EventFormat, Events, Ice, Negotiated, Remote};
use super::print::{Audio, Section, print};
use crate::codec::{Codec, opus};
use std::net::SocketAddr;

/// Which world a leg faces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LegKind {
    Browser,
    Trunk,
}

/// RFC 8829's signaling states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignalingState {
    Stable,
    HaveLocalOffer,
    HaveRemoteOffer,
}

/// Our end of the leg: what every description of ours says.
#[derive(Clone, Debug)]
pub struct Local {
    pub side: LegKind,
    pub address: SocketAddr,
    /// Further addresses to offer as candidates (browser side).
    pub more_addresses: Vec<SocketAddr>,
    /// Browsers may come to that port over TCP too (RFC 6544).
    pub tcp: bool,
    pub ice: Option<Ice>,
    /// `AB:CD:…` of our certificate.
    pub fingerprint: String,
    pub session_id: u64,
    pub ssrc: u32,
    pub cname: String,
    /// Our offers hold comfort noise; it is agreed to wherever a trunk offers it.
    pub comfort_noise: bool,
    /// Keys in our descriptions (trunk side), and what they are from.
    pub srtp: Policy,
    pub srtp_keys: LocalKeys,
}

/// The state of one leg's negotiation.
#[derive(Clone, Debug)]
pub struct Negotiation {
    pub local: Local,
    /// Samples a second of what the other leg's peer can hear; nothing where that is all a browser
    /// sends. It need encode no more: our descriptions say so (RFC 7587 §6.1).
    pub playback_rate: Option<u32>,
    state: SignalingState,
    version: u64,
    offered: Vec<Format>,
    remote_offer: Option<Description>,
    /// What the peer's newest audio section can do, for the record.
    peer: Vec<String>,
    /// The last answer we gave, and the `o=` version of the offer it answered.
    last_answer: Option<(String, String, String)>,
    /// The text of our last description, so that a repeat of it is known as one (RFC 4028 §7.4).
    last_local_sdp: String,
    negotiated: Option<Negotiated>,
}

impl Negotiation {
    /// A leg with nothing agreed.
    pub fn new(local: Local) -> Negotiation {
        Negotiation {
            local,
            playback_rate: None,
            state: SignalingState::Stable,
            version: 0,
            offered: Vec::new(),
            remote_offer: None,
            peer: Vec::new(),
            last_answer: None,
            last_local_sdp: String::new(),
            negotiated: None,
        }
    }

    /// Where the exchange stands.
    pub fn state(&self) -> SignalingState {
        self.state
    }

    /// What the last completed exchange settled.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref()
    }

    /// Our offer of `codecs` in this order.
    pub fn offer(&mut self, codecs: &[Codec]) -> String {
        self.state = SignalingState::HaveLocalOffer;
        self.version += 1;
        self.offered = offered_formats(codecs, self.playback_rate());
        if self.local.comfort_noise && codecs.iter().any(|c| c.clock() == 8_000) {
            self.offered.push(comfort_noise(13));
        }
        let browser = self.local.side == LegKind::Browser;
        let crypto =
            if self.local.srtp == Policy::Off { Vec::new() } else { self.local.srtp_keys.offer() };
        let audio = Audio {
            formats: &self.offered,
            direction: Direction::SendRecv,
            proto: match self.local.srtp {
                _ if browser => "UDP/TLS/RTP/SAVPF",
                Policy::Required => "RTP/SAVP",
                // Keys within AVP: who knows them may use them, any other peer sees plain RTP.
                Policy::Off | Policy::Optional => "RTP/AVP",
            },
            mid: browser.then_some("0"),
            setup: Setup::Actpass,
            rtcp_mux: browser,
            bundle: browser,
            ptime: (!browser).then_some(20),
            crypto: &crypto,
            voip_metrics: false,
        };
        self.last_local_sdp =
            print(&self.local, self.local.ice.as_ref(), self.version, &[Section::Audio(audio)]);
        self.last_local_sdp.clone()
    }

    fn playback_rate(&self) -> Option<u32> {
        self.playback_rate.filter(|_| self.local.side == LegKind::Browser)
    }

    /// Our offer once more, in mid call: the agreed codec leads, and an unchanged text keeps its
    /// version.
    pub fn reoffer(&mut self, codecs: &[Codec]) -> String {
        let mut codecs = codecs.to_vec();
        let current = self.negotiated.as_ref().map(|a| a.codec);
        codecs.sort_by_key(|c| Some(*c) != current);
        let (before, version) = (self.last_local_sdp.clone(), self.version);
        self.version = version.saturating_sub(1);
        if self.offer(&codecs) != before {
            self.version = version;
            return self.offer(&codecs);
        }
        before
    }

    /// The peer refused our offer, or it cannot be sent: what was agreed stays (RFC 3261 §14.1).
    pub fn withdraw_offer(&mut self) {
        if self.state == SignalingState::HaveLocalOffer {
            self.state = SignalingState::Stable;
        }
    }

    /// The peer's answer to our offer.
    ///
    /// # Errors
    /// No audio, no codec of ours, or a transport that differs from what we offered.
    pub fn receive_answer(&mut self, body: &[u8]) -> Result<&Negotiated, SdpError> {
        let answer = Description::parse(body)?;
        let (_, audio) =
            answer.audio().ok_or_else(|| SdpError::new(304, "the answer refuses audio"))?;
        let ours = |f: &&Format| {
            f.codec().is_some() && self.offered.iter().any(|o| o.codec() == f.codec())
        };
        let first = audio.formats.iter().find(ours);
        let first = first.ok_or_else(|| SdpError::new(305, no_common(audio, &self.offered)))?;
        let codec = first.codec().expect("filtered by codec");
        let events = self.answered_events(audio, codec);
        let mut receive: Vec<(u8, Codec)> =
            self.offered.iter().filter_map(|f| Some((f.payload_type, f.codec()?))).collect();
        receive.extend(
            audio.formats.iter().filter(ours).filter_map(|f| Some((f.payload_type, f.codec()?))),
        );
        receive.dedup();
        let noise = audio
            .formats
            .iter()
            .find(|f| f.is_comfort_noise())
            .filter(|_| self.offered.iter().any(Format::is_comfort_noise));
        let negotiated =
            Negotiated {
                codec,
                send: first.payload_type,
                receive,
                events,
                noise: noise.filter(|_| codec.clock() == 8_000).map(|f| f.payload_type),
                direction: hold_aware(audio).reversed(),
                // Our offer said actpass: an answer without setup is active (RFC 5763 §5).
                remote: self.remote(audio, audio.setup == Some(Setup::Passive), |theirs| {
                    // RFC 4568 §5.1.3: the answer repeats the tag of what it chose.
                    self.local.srtp_keys.offer().into_iter().find(|ours| {
                        ours.tag == theirs.tag && ours.keys.profile == theirs.keys.profile
                    })
                })?,
                max_average_bitrate: first.max_average_bitrate(),
                voip_metrics: audio.voip_metrics,
                ptime: audio.ptime.unwrap_or(20).clamp(10, 60),
                ptime_asked: audio.ptime.is_some(),
            };
        self.peer = named(audio.formats.iter());
        self.state = SignalingState::Stable;
        Ok(self.negotiated.insert(negotiated))
    }

    /// The events an answer beside `codec` leaves: we send as it numbers them, and receive what
    /// either side named, for some peers send by the numbers of their own answer (RFC 3264 §6.1).
    fn answered_events(&self, audio: &MediaDescription, codec: Codec) -> Events {
        let offered = event_formats(self.offered.iter());
        let mut answered = event_formats(audio.formats.iter());
        answered.retain(|f| offered.iter().any(|o| o.clock == f.clock));
        let send = Events::best(&answered, codec.clock());
        let is_accepted = |o: &EventFormat| answered.iter().any(|f| f.clock == o.clock);
        let mut receive: Vec<EventFormat> = offered.iter().copied().filter(is_accepted).collect();
        for f in answered.iter().chain(offered.iter().filter(|_| !answered.is_empty())) {
            if receive.iter().all(|known| known.payload_type != f.payload_type) {
                receive.push(*f);
            }
        }
        Events { send, receive }
    }

    /// The peer's offer; its audio is checked, nothing is settled yet.
    ///
    /// # Errors
    /// What a 488 says.
    pub fn receive_offer(&mut self, body: &[u8]) -> Result<&MediaDescription, SdpError> {
        let offer = Description::parse(body)?;
        let (n, audio) =
            offer.audio().ok_or_else(|| SdpError::new(304, "the offer has no audio"))?;
        if !audio.formats.iter().any(|f| f.codec().is_some()) {
            return Err(SdpError::new(305, no_common(audio, &offered_formats(&Codec::ALL, None))));
        }
        self.remote(audio, false, |theirs| self.answering(theirs))?;
        self.state = SignalingState::HaveRemoteOffer;
        self.peer = named(offer.media[n].formats.iter());
        let offer = self.remote_offer.insert(offer);
        Ok(&offer.media[n])
    }

    /// The formats of the peer's newest description, its order: `opus/48000`.
    pub fn peer_formats(&self) -> &[String] {
        &self.peer
    }

    /// Codecs of the offer waiting for an answer, the peer's order.
    pub fn offered_codecs(&self) -> Vec<Codec> {
        let audio = self.remote_offer.as_ref().and_then(Description::audio);
        let mut codecs: Vec<Codec> =
            audio.iter().flat_map(|(_, m)| m.formats.iter().filter_map(Format::codec)).collect();
        codecs.dedup();
        codecs
    }

    /// Whether the waiting offer restarts ICE (RFC 8839 §4.4.1.1.1).
    pub fn restarts_ice(&self) -> bool {
        let offered = self
            .remote_offer
            .as_ref()
            .and_then(Description::audio)
            .and_then(|(_, m)| m.ice_ufrag.clone());
        match self.negotiated.as_ref().map(|a| &a.remote) {
            Some(Remote::Dtls { ice, .. }) => offered.is_some_and(|u| u != ice.ufrag),
            _ => false,
        }
    }

    /// Whether the waiting offer repeats the one already answered (a session refresh).
    pub fn is_refresh(&self) -> bool {
        let offer = self.remote_offer.as_ref();
        offer
            .zip(self.last_answer.as_ref())
            .is_some_and(|(o, (id, version, _))| o.session_id == *id && o.version == *version)
    }

    /// Answers the waiting offer with the first of `prefer` it holds; `allow` limits our direction.
    ///
    /// # Errors
    /// No codec of `prefer` was offered, or there is no offer waiting.
    pub fn answer(
        &mut self,
        prefer: &[Codec],
        allow: Direction,
    ) -> Result<(String, Negotiated), SdpError> {
        let offer = self
            .remote_offer
            .clone()
            .ok_or_else(|| SdpError::new(399, "there is no offer to answer"))?;
        if self.is_refresh()
            && let (Some((_, _, text)), Some(negotiated)) = (&self.last_answer, &self.negotiated)
        {
            self.state = SignalingState::Stable;
            return Ok((text.clone(), negotiated.clone()));
        }
        let (at, audio) =
            offer.audio().ok_or_else(|| SdpError::new(304, "the offer has no audio"))?;
        let find =
            |c: &Codec| audio.formats.iter().find(|f| f.codec() == Some(*c)).map(|f| (*c, f));
        let (codec, format) = prefer
            .iter()
            .find_map(find)
            .ok_or_else(|| SdpError::new(305, no_common(audio, &offered_formats(prefer, None))))?;
        let offered = event_formats(audio.formats.iter());
        let events =
            Events { send: Events::best(&offered, codec.clock()), receive: offered.clone() };
        // Browsers are told nothing of comfort noise, and so send without a pause: theirs is Opus's
        // own.
        let quiet = self.local.side == LegKind::Trunk && codec.clock() == 8_000;
        let noise =
            audio.formats.iter().find(|f| quiet && f.is_comfort_noise()).map(|f| f.payload_type);
        let active = audio.setup == Some(Setup::Passive);
        let direction = hold_aware(audio).reversed().and(allow);
        let negotiated = Negotiated {
            codec,
            send: format.payload_type,
            receive: vec![(format.payload_type, codec)],
            events,
            noise,
            direction,
            remote: self.remote(audio, active, |theirs| self.answering(theirs))?,
            max_average_bitrate: format.max_average_bitrate(),
            voip_metrics: audio.voip_metrics,
            ptime: audio.ptime.unwrap_or(20).clamp(10, 60),
            ptime_asked: audio.ptime.is_some(),
        };
        let mut formats = vec![ours_of(format, codec, self.playback_rate())];
        formats.extend(offered.into_iter().map(telephone_event));
        formats.extend(noise.map(comfort_noise));
        let crypto: Vec<Crypto> = match &negotiated.remote {
            Remote::Rtp { sdes: Some(sdes), .. } => {
                let taken = audio.crypto.iter().find(|c| c.keys == sdes.theirs).map(|c| c.tag);
                taken.map(|tag| Crypto { tag, keys: sdes.ours.clone() }).into_iter().collect()
            }
            _ => Vec::new(),
        };
        let sections: Vec<Section<'_>> = offer
            .media
            .iter()
            .enumerate()
            .map(|(n, m)| {
                if n != at {
                    return Section::Refused(m);
                }
                let mid = m.mid.as_deref();
                Section::Audio(Audio {
                    formats: &formats,
                    direction,
                    proto: &m.proto,
                    mid,
                    setup: if active { Setup::Active } else { Setup::Passive },
                    rtcp_mux: m.rtcp_mux,
                    bundle: mid.is_some_and(|mid| offer.bundle.iter().any(|b| b == mid)),
                    ptime: (self.local.side == LegKind::Trunk).then_some(negotiated.ptime),
                    crypto: &crypto,
                    voip_metrics: negotiated.voip_metrics,
                })
            })
            .collect();
        self.version += 1;
        let text = print(
            &self.local,
            self.local.ice.as_ref().filter(|_| audio.is_dtls()),
            self.version,
            &sections,
        );
        self.last_answer = Some((offer.session_id.clone(), offer.version.clone(), text.clone()));
        self.last_local_sdp.clone_from(&text);
        self.state = SignalingState::Stable;
        self.negotiated = Some(negotiated.clone());
        Ok((text, negotiated))
    }

    /// Drops a waiting offer after it was refused; what was agreed stays (RFC 3261 §14.2).
    pub fn reject_offer(&mut self) {
        self.state = SignalingState::Stable;
        self.remote_offer = None;
    }

    /// Our key beside one that was offered.
    fn answering(&self, theirs: &Crypto) -> Option<Crypto> {
        self.local.srtp_keys.of(theirs.keys.profile).map(|keys| Crypto { tag: theirs.tag, keys })
    }

    /// Where media goes; `beside` finds our key for one of the peer's.
    fn remote(
        &self,
        audio: &MediaDescription,
        active: bool,
        beside: impl Fn(&Crypto) -> Option<Crypto>,
    ) -> Result<Remote, SdpError> {
        if self.local.side == LegKind::Browser {
            if !audio.is_dtls() {
                return Err(SdpError::new(
                    302,
                    "a browser must offer DTLS-SRTP (UDP/TLS/RTP/SAVPF with a fingerprint)",
                ));
            }
            if audio.fingerprints.is_empty() {
                return Err(SdpError::new(
                    399,
                    "no sha-256 fingerprint: the DTLS certificate could not be checked",
                ));
            }
            if !audio.rtcp_mux {
                return Err(SdpError::new(399, "rtcp-mux is required towards browsers"));
            }
            let (Some(ufrag), Some(pwd)) = (audio.ice_ufrag.clone(), audio.ice_pwd.clone()) else {
                return Err(SdpError::new(
                    399,
                    "no ICE credentials: media could not be authenticated",
                ));
            };
            let local_ice = self.local.ice.clone().unwrap_or_default();
            return Ok(Remote::Dtls {
                ice: Ice { ufrag, pwd },
                local_ice,
                fingerprints: audio.fingerprints.clone(),
                active,
            });
        }
        let sdes = self.sdes(audio, beside)?;
        let ip =
            audio.address.ok_or_else(|| SdpError::new(399, "no c= line with an IP address"))?;
        let rtp = SocketAddr::new(ip, audio.port);
        let separate = audio.rtcp.unwrap_or(SocketAddr::new(ip, audio.port.wrapping_add(1)));
        Ok(Remote::Rtp { rtp, rtcp: if audio.rtcp_mux { rtp } else { separate }, sdes })
    }

    /// The keys of a trunk's media, where there are to be any.
    fn sdes(
        &self,
        audio: &MediaDescription,
        beside: impl Fn(&Crypto) -> Option<Crypto>,
    ) -> Result<Option<Box<Sdes>>, SdpError> {
        let must = audio.proto.contains("SAVP");
        if audio.is_dtls() {
            return Err(SdpError::new(
                302,
                format!("{} is not spoken on this trunk: offer RTP/AVP", audio.proto),
            ));
        }
        if self.local.srtp == Policy::Off {
            let refused = || {
                SdpError::new(
                    302,
                    format!(
                        "{} is not spoken on this trunk: offer RTP/AVP, or set srtp = \"optional\"",
                        audio.proto
                    ),
                )
            };
            return if must { Err(refused()) } else { Ok(None) };
        }
        let both = |theirs: &Crypto| {
            Some(Box::new(Sdes { ours: beside(theirs)?.keys, theirs: theirs.keys.clone() }))
        };
        match audio.crypto.iter().find_map(both) {
            None if must => Err(SdpError::new(
                399,
                "no a=crypto line of a suite we speak: AEAD_AES_128_GCM, AEAD_AES_256_GCM, AES_CM_128_HMAC_SHA1_80 or _32",
            )),
            None if self.local.srtp == Policy::Required => Err(SdpError::new(
                399,
                "this trunk must encrypt its media (srtp = \"required\"), and the peer has no key",
            )),
            sdes => Ok(sdes),
        }
    }
}

/// The describer's direction, with the old hold (`c=0.0.0.0`, RFC 3264 §8.4) read as not receiving.
fn hold_aware(audio: &MediaDescription) -> Direction {
    match audio.address {
        Some(ip) if ip.is_unspecified() && !audio.is_dtls() => {
            audio.direction.and(Direction::SendOnly)
        }
        _ => audio.direction,
    }
}

fn ours_of(format: &Format, codec: Codec, playback_rate: Option<u32>) -> Format {
    // Browsers take few bits for a low rate where nothing is said, too few for FEC: what we send is
    // asked for.
    let playback = playback_rate
        .map(|rate| format!(";maxplaybackrate={rate};maxaveragebitrate={}", opus::bits(rate)));
    let fmtp = if codec == Codec::Opus {
        format!("minptime=10;useinbandfec=1{}", playback.unwrap_or_default())
    } else {
        String::new()
    };
    Format {
        payload_type: format.payload_type,
        name: codec.name().into(),
        clock: codec.clock(),
        channels: codec.channels(),
        fmtp,
    }
}

fn comfort_noise(payload_type: u8) -> Format {
    Format { payload_type, name: "CN".into(), clock: 8_000, channels: 1, fmtp: String::new() }
}

fn offered_formats(codecs: &[Codec], playback_rate: Option<u32>) -> Vec<Format> {
    let mut formats: Vec<Format> = Vec::new();
    for &codec in codecs {
        let template = Format {
            payload_type: codec.default_payload_type(),
            name: String::new(),
            clock: 0,
            channels: 1,
            fmtp: String::new(),
        };
        formats.push(ours_of(&template, codec, playback_rate));
    }
    let mut clocks: Vec<u32> = codecs.iter().map(|c| c.clock()).collect();
    clocks.dedup();
    clocks.sort_unstable();
    clocks.dedup();
    formats.extend(clocks.into_iter().map(|clock| {
        telephone_event(EventFormat { payload_type: if clock == 8_000 { 101 } else { 110 }, clock })
    }));
    formats
}

fn telephone_event(format: EventFormat) -> Format {
    Format {
        payload_type: format.payload_type,
        name: "telephone-event".into(),
        clock: format.clock,
        channels: 1,
        fmtp: "0-16".into(),
    }
}

/// The telephone-events among `formats` that can be told apart and counted.
fn event_formats<'a>(formats: impl Iterator<Item = &'a Format>) -> Vec<EventFormat> {
    let mut events: Vec<EventFormat> = Vec::new();
    for f in formats.filter(|f| f.is_telephone_event() && f.clock > 0) {
        if events.iter().all(|e| e.payload_type != f.payload_type) {
            events.push(EventFormat { payload_type: f.payload_type, clock: f.clock });
        }
    }
    events
}

/// Formats by name and clock.
fn named<'a>(formats: impl Iterator<Item = &'a Format>) -> Vec<String> {
    formats.map(|f| format!("{}/{}", f.name, f.clock)).collect()
}

fn no_common(audio: &MediaDescription, ours: &[Format]) -> String {
    let names = |f: &[Format]| {
        named(f.iter().filter(|f| !f.is_telephone_event() && !f.is_comfort_noise())).join(", ")
    };
    format!(
        "no common audio codec: the peer has {}, this leg has {}",
        names(&audio.formats),
        names(ours)
    )
}
