//! Offer/answer for one leg (RFC 3264, RFC 8829 §5): each leg negotiates alone.
//!
//! ```text
//!             offer()                       receive_offer()
//!   Stable ------------> HaveLocalOffer   Stable ------------> HaveRemoteOffer
//!      ^  receive_answer()  |                ^     answer()       |
//!      +--------------------+                +--------------------+
//! ```
//! Not here: the other leg. What it can do arrives as an ordered list of codecs.

mod snapshot;

use super::crypto::{Crypto, LocalKeys, Policy};
use super::description::{Description, Direction, Format, MediaDescription, SdpError, Setup};
pub use super::negotiated::{Content, EventFormat, Ice, Negotiated, Remote, TelephoneEvents};
use super::payload_types::{PayloadTypes, keep_receiving, received};
use super::print::{Audio, Section, is_token, print};
use super::section::{Chosen, named, no_common, preferred};
use crate::codec::{Codec, opus};
use serde::{Deserialize, Serialize};
pub(crate) use snapshot::NegotiationSnapshot;
pub use snapshot::Settled;
use std::net::SocketAddr;

/// Which world a leg faces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum LegKind {
    /// ICE and DTLS-SRTP.
    Browser,
    /// RTP, or SRTP with keys in SDP.
    Trunk,
}

/// RFC 8829's signaling states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SignalingState {
    Stable,
    HaveLocalOffer,
    HaveRemoteOffer,
}

/// Our end of the leg: what every description of ours says.
#[derive(Clone, Debug)]
pub struct Local {
    /// Which kind.
    pub side: LegKind,
    /// Where media is received.
    pub address: SocketAddr,
    /// Further addresses to offer as candidates (browser side).
    pub more_addresses: Vec<SocketAddr>,
    /// Browsers may come to that port over TCP too (RFC 6544).
    pub tcp: bool,
    /// Ours; none for trunks.
    pub ice: Option<Ice>,
    /// `AB:CD:…` of our certificate.
    pub fingerprint: String,
    /// Of `o=`.
    pub session_id: u64,
    /// Of what we send.
    pub ssrc: u32,
    /// Of RTCP, and `a=ssrc`.
    pub cname: String,
    /// Our offers hold comfort noise; it is agreed to wherever a trunk offers it.
    pub comfort_noise: bool,
    /// Keys in our descriptions (trunk side), and what they are from.
    pub srtp: Policy,
    /// Ours for SDES.
    pub srtp_keys: LocalKeys,
}

/// The state of one leg's negotiation.
#[derive(Clone, Debug)]
pub struct Negotiation {
    /// What is ours in it.
    pub local: Local,
    /// Samples a second of what the other leg's peer can hear; `None` if that is all a browser
    /// sends. It need encode no more: our descriptions ask for that (RFC 7587 §6.1).
    pub playback_rate: Option<u32>,
    state: SignalingState,
    version: u64,
    offered: Vec<Format>,
    payload_types: PayloadTypes,
    /// The peer refused an offer with keys that need not be.
    keys_withheld: bool,
    remote_offer: Option<Description>,
    /// What the peer's newest audio section can do, for the record.
    peer: Vec<String>,
    /// Our answer to the offer kept here, until another one comes or one of ours is answered.
    last_answer: Option<String>,
    /// The text of our last description, so that a repeat of it is known as one (RFC 4028 §7.4).
    last_local_sdp: String,
    negotiated: Option<Negotiated>,
    /// Our credentials before those of an offer that asks for an ICE restart.
    ice_before: Option<Ice>,
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
            payload_types: PayloadTypes::default(),
            keys_withheld: false,
            remote_offer: None,
            peer: Vec::new(),
            last_answer: None,
            last_local_sdp: String::new(),
            negotiated: None,
            ice_before: None,
        }
    }

    /// Where the exchange stands.
    pub(crate) fn state(&self) -> SignalingState {
        self.state
    }

    /// What the last completed exchange settled.
    pub(crate) fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref()
    }

    /// Our offer of `codecs` in this order.
    pub fn offer(&mut self, codecs: &[Codec]) -> String {
        self.state = SignalingState::HaveLocalOffer;
        self.version += 1;
        self.offered = offered_formats(codecs, self.playback_rate(), &mut self.payload_types);
        if self.local.comfort_noise && codecs.iter().any(|c| c.clock() == 8_000) {
            self.offered.push(comfort_noise(13));
        }
        let browser = self.local.side == LegKind::Browser;
        let keyed = self.local.srtp != Policy::Off && !self.keys_withheld;
        let crypto = if keyed { self.local.srtp_keys.offer() } else { Vec::new() };
        let audio = Audio {
            formats: &self.offered,
            direction: Direction::SendRecv,
            proto: match self.local.srtp {
                _ if browser => "UDP/TLS/RTP/SAVPF",
                Policy::Required => "RTP/SAVP",
                // Keys within AVP: a peer that knows them may use them, any other sees plain RTP.
                Policy::Off | Policy::Optional => "RTP/AVP",
            },
            mid: browser.then_some("0"),
            setup: Setup::Actpass,
            rtcp_mux: browser,
            bundle: browser,
            ptime: (!browser).then_some(20),
            crypto: &crypto,
            voip_metrics: false,
            audio_level: self.offered_audio_level(),
        };
        self.last_local_sdp =
            print(&self.local, self.local.ice.as_ref(), self.version, &[Section::Audio(audio)]);
        self.last_local_sdp.clone()
    }

    /// The header extension in which an offer of ours lets a browser say how loud it is: relayed
    /// sound is not decoded, and shows it nowhere else. Once something is agreed its number stays
    /// (RFC 8285 §6), and what the browser left out is not asked for again.
    fn offered_audio_level(&self) -> Option<u8> {
        let number = self.negotiated.as_ref().map_or(Some(1), |agreed| agreed.audio_level);
        number.filter(|_| self.local.side == LegKind::Browser)
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
        if let Some(before) = self.ice_before.take() {
            self.local.ice = Some(before);
        }
    }

    /// Our next offer asks the peer to restart ICE with these credentials of ours (RFC 8839
    /// §4.4.1.1.1); what is agreed stays until the answer.
    pub fn restart_ice(&mut self, fresh: Ice) {
        let before = self.local.ice.replace(fresh);
        self.ice_before = self.ice_before.take().or(before);
    }

    /// Leaves the keys out of our next offers, if they are only wished for. Returns false if they
    /// were not offered, or a call without them is to fail.
    pub(crate) fn withhold_keys(&mut self) -> bool {
        self.local.srtp == Policy::Optional && !std::mem::replace(&mut self.keys_withheld, true)
    }

    /// The peer's answer to our offer.
    ///
    /// # Errors
    /// No audio, no codec of ours, or a transport that differs from what we offered.
    pub fn receive_answer(&mut self, body: &[u8]) -> Result<&Negotiated, SdpError> {
        let answer = self.named_as_offered(Description::parse(body)?);
        // RFC 4568 §5.1.3: the answer repeats the tag of what it chose.
        let beside = |theirs: &Crypto| {
            let offered = self.local.srtp_keys.offer().into_iter();
            offered
                .filter(|_| !self.keys_withheld)
                .find(|o| o.tag == theirs.tag && o.keys.profile() == theirs.keys.profile())
        };
        let Chosen { audio, codec, format, remote, .. } = self.choose(
            &answer,
            |audio| accepted(audio, &self.offered),
            beside,
            "the answer refuses audio",
        )?;
        let noise = audio
            .formats
            .iter()
            .find(|f| f.is_comfort_noise())
            .filter(|_| codec.clock() == 8_000)
            .filter(|_| self.offered.iter().any(Format::is_comfort_noise));
        let mut negotiated = Negotiated {
            codec,
            send: format.payload_type,
            receive: received(&self.offered, &audio.formats),
            events: self.answered_events(audio, codec),
            noise: noise.map(|f| f.payload_type),
            direction: self.direction_of(audio).reversed(),
            remote,
            max_average_bitrate: format.max_average_bitrate(),
            voip_metrics: audio.voip_metrics,
            audio_level: audio.audio_level.filter(|n| Some(*n) == self.offered_audio_level()),
            ptime: audio.ptime.unwrap_or(20).clamp(10, 60),
            ptime_asked: audio.ptime.is_some(),
            max_ptime: audio.max_ptime,
        };
        self.peer = named(audio.formats.iter());
        self.payload_types.note(self.offered.iter());
        self.state = SignalingState::Stable;
        self.last_answer = None;
        self.settle_restart(&mut negotiated);
        Ok(self.settle(negotiated))
    }

    /// An answer whose formats mean what they meant in our offer, if it does not say: some
    /// repeat the numbers alone.
    fn named_as_offered(&self, mut answer: Description) -> Description {
        let formats = answer.media.iter_mut().flat_map(|m| &mut m.formats);
        for format in formats.filter(|f| f.name.is_empty()) {
            let same = |o: &&Format| o.payload_type == format.payload_type;
            if let Some(offered) = self.offered.iter().find(same) {
                format.name.clone_from(&offered.name);
                (format.clock, format.channels) = (offered.clock, offered.channels);
            }
        }
        answer
    }

    /// A peer that answers with the credentials it had did not restart: ours stay too.
    fn settle_restart(&mut self, negotiated: &mut Negotiated) {
        let Some(before) = self.ice_before.take() else { return };
        let held = match self.negotiated.as_ref().map(|n| &n.remote) {
            Some(Remote::Dtls { ice, .. }) => Some(ice),
            _ => None,
        };
        if let Remote::Dtls { ice, local_ice, .. } = &mut negotiated.remote
            && Some(&*ice) == held
        {
            local_ice.clone_from(&before);
            self.local.ice = Some(before);
        }
    }

    /// Notes what was agreed; what was before is still received.
    fn settle(&mut self, mut negotiated: Negotiated) -> &Negotiated {
        if let Some(before) = &self.negotiated {
            keep_receiving(before, &mut negotiated);
        }
        self.negotiated.insert(negotiated)
    }

    /// The events an answer beside `codec` leaves: we send as it numbers them, and receive what
    /// either side named, for some peers send by the numbers of their own answer (RFC 3264 §6.1).
    fn answered_events(&self, audio: &MediaDescription, codec: Codec) -> TelephoneEvents {
        let offered = event_formats(self.offered.iter());
        let mut answered = event_formats(audio.formats.iter());
        answered.retain(|f| offered.iter().any(|o| o.clock == f.clock));
        let send = TelephoneEvents::best(&answered, codec.clock());
        let is_accepted = |o: &EventFormat| answered.iter().any(|f| f.clock == o.clock);
        let mut receive: Vec<EventFormat> = offered.iter().copied().filter(is_accepted).collect();
        for f in answered.iter().chain(offered.iter().filter(|_| !answered.is_empty())) {
            if receive.iter().all(|known| known.payload_type != f.payload_type) {
                receive.push(*f);
            }
        }
        TelephoneEvents { send, receive }
    }

    /// The peer's offer; its audio is checked, nothing is settled yet.
    ///
    /// # Errors
    /// What a 488 says.
    pub fn receive_offer(&mut self, body: &[u8]) -> Result<&MediaDescription, SdpError> {
        let offer = Description::parse(body)?;
        let Chosen { at, audio, .. } = self.choose_offered(&offer, &Codec::ALL)?;
        self.peer = named(audio.formats.iter());
        self.state = SignalingState::HaveRemoteOffer;
        // Sameness is looked at: a version that stays promises nothing.
        self.last_answer.take_if(|_| self.remote_offer.as_ref() != Some(&offer));
        let offer = self.remote_offer.insert(offer);
        Ok(&offer.media[at])
    }

    /// The section of an offer to answer with one of `prefer`.
    fn choose_offered<'a>(
        &self,
        offer: &'a Description,
        prefer: &[Codec],
    ) -> Result<Chosen<'a>, SdpError> {
        let ours = || offered_formats(prefer, None, &mut PayloadTypes::default());
        self.choose(
            offer,
            |audio| preferred(audio, prefer, ours),
            |theirs| self.answering(theirs),
            "the offer has no audio",
        )
    }

    /// The formats of the peer's newest description, its order: `opus/48000`.
    pub(crate) fn peer_formats(&self) -> &[String] {
        &self.peer
    }

    fn offered_audio(&self) -> Option<&MediaDescription> {
        let offer = self.remote_offer.as_ref()?;
        self.choose_offered(offer, &Codec::ALL).ok().map(|chosen| chosen.audio)
    }

    /// Codecs of the offer waiting for an answer, the peer's order.
    pub(crate) fn offered_codecs(&self) -> Vec<Codec> {
        let audio = self.offered_audio();
        let mut codecs: Vec<Codec> =
            audio.iter().flat_map(|m| m.formats.iter().filter_map(Format::codec)).collect();
        codecs.dedup();
        codecs
    }

    /// Whether the waiting offer restarts ICE (RFC 8839 §4.4.1.1.1).
    pub(crate) fn restarts_ice(&self) -> bool {
        let Some(Remote::Dtls { ice, .. }) = self.negotiated.as_ref().map(|a| &a.remote) else {
            return false;
        };
        let offered =
            self.offered_audio().and_then(|m| m.ice_ufrag.as_ref().zip(m.ice_pwd.as_ref()));
        offered.is_some_and(|(ufrag, pwd)| *ufrag != ice.ufrag || *pwd != ice.pwd)
    }

    /// Whether the waiting offer repeats the one already answered (a session refresh).
    pub fn is_refresh(&self) -> bool {
        self.state == SignalingState::HaveRemoteOffer && self.last_answer.is_some()
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
        if let (Some(text), Some(negotiated)) = (&self.last_answer, &self.negotiated) {
            self.state = SignalingState::Stable;
            return Ok((text.clone(), negotiated.clone()));
        }
        let offer = self
            .remote_offer
            .take()
            .ok_or_else(|| SdpError::new(399, "there is no offer to answer"))?;
        let answered = self.answer_to(&offer, prefer, allow);
        self.remote_offer = Some(offer);
        answered
    }

    fn answer_to(
        &mut self,
        offer: &Description,
        prefer: &[Codec],
        allow: Direction,
    ) -> Result<(String, Negotiated), SdpError> {
        let Chosen { at, audio, codec, format, remote } = self.choose_offered(offer, prefer)?;
        let offered = event_formats(audio.formats.iter());
        // Browsers are not offered comfort noise, and so send without a pause: theirs is Opus's
        // own.
        let quiet = self.local.side == LegKind::Trunk && codec.clock() == 8_000;
        let noise =
            audio.formats.iter().find(|f| quiet && f.is_comfort_noise()).map(|f| f.payload_type);
        let negotiated = Negotiated {
            codec,
            send: format.payload_type,
            receive: vec![(format.payload_type, codec)],
            events: TelephoneEvents {
                send: TelephoneEvents::best(&offered, codec.clock()),
                receive: offered.clone(),
            },
            noise,
            direction: self.direction_of(audio).reversed().and(allow),
            remote,
            max_average_bitrate: format.max_average_bitrate(),
            voip_metrics: audio.voip_metrics,
            audio_level: audio.audio_level.filter(|_| self.local.side == LegKind::Browser),
            ptime: audio.ptime.unwrap_or(20).clamp(10, 60),
            ptime_asked: audio.ptime.is_some(),
            max_ptime: audio.max_ptime,
        };
        let mut formats = vec![ours_of(format, codec, self.playback_rate())];
        formats.extend(offered.into_iter().map(telephone_event));
        formats.extend(noise.map(comfort_noise));
        let text = self.print_answer(offer, at, &formats, &negotiated);
        self.payload_types.note(audio.formats.iter());
        self.state = SignalingState::Stable;
        let negotiated = self.settle(negotiated).clone();
        Ok((text, negotiated))
    }

    /// Writes our answer: the section that was chosen, and port 0 for the rest.
    fn print_answer(
        &mut self,
        offer: &Description,
        at: usize,
        formats: &[Format],
        negotiated: &Negotiated,
    ) -> String {
        let m = &offer.media[at];
        let crypto: Vec<Crypto> = match &negotiated.remote {
            Remote::Rtp { sdes: Some(sdes), .. } => {
                let taken = m.crypto.iter().find(|c| c.keys == sdes.theirs);
                let answer = |c: &Crypto| Crypto { keys: sdes.ours.clone(), ..c.clone() };
                taken.map(answer).into_iter().collect()
            }
            _ => Vec::new(),
        };
        let active = matches!(negotiated.remote, Remote::Dtls { active: true, .. });
        let mid = m.mid.as_deref().filter(|mid| is_token(mid));
        let proto = m.proto.to_ascii_uppercase();
        let audio = Audio {
            formats,
            direction: negotiated.direction,
            proto: &proto,
            mid,
            setup: if active { Setup::Active } else { Setup::Passive },
            rtcp_mux: m.rtcp_mux,
            bundle: mid.is_some_and(|mid| offer.bundle.iter().any(|b| b == mid)),
            ptime: (self.local.side == LegKind::Trunk).then_some(negotiated.ptime),
            crypto: &crypto,
            voip_metrics: negotiated.voip_metrics,
            audio_level: negotiated.audio_level,
        };
        let mut sections: Vec<Section<'_>> = offer.media.iter().map(Section::Refused).collect();
        sections[at] = Section::Audio(audio);
        self.version += 1;
        let browser = self.local.side == LegKind::Browser;
        let ice = self.local.ice.as_ref().filter(|_| browser);
        let text = print(&self.local, ice, self.version, &sections);
        self.last_answer = Some(text.clone());
        self.last_local_sdp.clone_from(&text);
        text
    }

    /// Our key beside one that was offered.
    fn answering(&self, theirs: &Crypto) -> Option<Crypto> {
        let keys = self.local.srtp_keys.of(theirs.keys.profile())?;
        Some(Crypto { keys, ..theirs.clone() })
    }

    /// The describer's direction, with the old hold (`c=0.0.0.0`, RFC 3264 §8.4) read as not
    /// receiving; to a browser, whose addresses are its candidates, that line says nothing.
    fn direction_of(&self, audio: &MediaDescription) -> Direction {
        let zero = audio.address.is_some_and(|ip| ip.is_unspecified());
        if zero && self.local.side == LegKind::Trunk {
            audio.direction.and(Direction::SendOnly)
        } else {
            audio.direction
        }
    }
}

fn ours_of(format: &Format, codec: Codec, playback_rate: Option<u32>) -> Format {
    // Browsers use few bits for a low rate by default, too few for FEC: what we send is
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

fn offered_formats(
    codecs: &[Codec],
    playback_rate: Option<u32>,
    numbers: &mut PayloadTypes,
) -> Vec<Format> {
    let mut formats: Vec<Format> = Vec::new();
    for &codec in codecs {
        let template = Format {
            payload_type: numbers.of_codec(codec),
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
    formats.extend(clocks.into_iter().map(|clock| telephone_event(numbers.of_events(clock))));
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

/// The telephone-events among `formats` that can be distinguished and counted.
fn event_formats<'a>(formats: impl Iterator<Item = &'a Format>) -> Vec<EventFormat> {
    let mut events: Vec<EventFormat> = Vec::new();
    for f in formats.filter(|f| f.is_telephone_event() && f.clock > 0) {
        if events.iter().all(|e| e.payload_type != f.payload_type) {
            events.push(EventFormat { payload_type: f.payload_type, clock: f.clock });
        }
    }
    events
}

/// The first format of an answer's section that we offered.
fn accepted<'a>(
    audio: &'a MediaDescription,
    offered: &[Format],
) -> Result<(Codec, &'a Format), SdpError> {
    let ours = |f: &'a Format| {
        let codec = f.codec()?;
        offered.iter().any(|o| o.codec() == Some(codec)).then_some((codec, f))
    };
    audio.formats.iter().find_map(ours).ok_or_else(|| no_common(audio, offered))
}
