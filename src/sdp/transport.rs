//! Where media goes and how it is protected, by a section of the peer's.
//!
//! Profiles are an allow-list. Roles and keys belong to the association, not to the newest
//! description (RFC 8842 §5): what that omits, or asks for anew without need, stays.

use super::crypto::{Crypto, Policy, Sdes};
use super::description::{Fingerprint, MediaDescription, SdpError, Setup};
use super::negotiated::{Ice, Remote};
use super::offer_answer::{LegKind, Negotiation};
use crate::errors::Code;
use std::net::SocketAddr;

/// How the media of a profile is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Protection {
    Plain,
    Sdes,
    Dtls,
}

/// The profiles we know; browsers protect their media by DTLS under each of them (RFC 8829 §5.1.2).
const PROFILES: [(&str, Protection); 10] = [
    ("RTP/AVP", Protection::Plain),
    ("RTP/AVPF", Protection::Plain),
    ("RTP/SAVP", Protection::Sdes),
    ("RTP/SAVPF", Protection::Sdes),
    ("UDP/TLS/RTP/SAVP", Protection::Dtls),
    ("UDP/TLS/RTP/SAVPF", Protection::Dtls),
    ("TCP/TLS/RTP/SAVP", Protection::Dtls),
    ("TCP/TLS/RTP/SAVPF", Protection::Dtls),
    ("TCP/DTLS/RTP/SAVP", Protection::Dtls),
    ("TCP/DTLS/RTP/SAVPF", Protection::Dtls),
];

fn protection(proto: &str) -> Option<Protection> {
    let known = PROFILES.iter().find(|(name, _)| name.eq_ignore_ascii_case(proto));
    known.map(|(_, protection)| *protection)
}

/// Whether media of this profile is protected with keys of the description.
pub(super) fn needs_keys(proto: &str) -> bool {
    protection(proto) == Some(Protection::Sdes)
}

impl Negotiation {
    /// Where media of this section goes; `beside` finds our key for one of the peer's.
    ///
    /// # Errors
    /// What a 488 says: a profile or keys we cannot use.
    pub(super) fn remote(
        &self,
        audio: &MediaDescription,
        beside: impl Fn(&Crypto) -> Option<Crypto>,
    ) -> Result<Remote, SdpError> {
        match (self.local.side, protection(&audio.proto)) {
            (LegKind::Browser, Some(_)) => self.dtls(audio),
            (LegKind::Browser, None) => Err(no_dtls()),
            (LegKind::Trunk, Some(Protection::Plain)) => self.rtp(audio, false, beside),
            (LegKind::Trunk, Some(Protection::Sdes)) => self.rtp(audio, true, beside),
            (LegKind::Trunk, _) => {
                let why = format!("{} is not spoken on this trunk: offer RTP/AVP", audio.proto);
                Err(SdpError::new(302, why))
            }
        }
    }

    fn dtls(&self, audio: &MediaDescription) -> Result<Remote, SdpError> {
        let held = match self.negotiated().map(|n| &n.remote) {
            Some(Remote::Dtls { ice, fingerprints, active, .. }) => {
                Some((ice, fingerprints, *active))
            }
            _ => None,
        };
        let fingerprints: Vec<Fingerprint> = match held {
            Some((_, held, _)) if !audio.has_fingerprint => held.clone(),
            None if !audio.has_fingerprint => return Err(no_dtls()),
            _ => audio.fingerprints.clone(),
        };
        if fingerprints.is_empty() {
            return Err(SdpError::new(
                399,
                "no sha-256 fingerprint: the DTLS certificate could not be checked",
            ));
        }
        if !audio.rtcp_mux {
            return Err(SdpError::new(399, "rtcp-mux is required towards browsers"));
        }
        let ice = match (&audio.ice_ufrag, &audio.ice_pwd) {
            (Some(ufrag), Some(pwd)) => Some(Ice { ufrag: ufrag.clone(), pwd: pwd.clone() }),
            _ => held.map(|(ice, ..)| ice.clone()),
        };
        let ice = ice.ok_or_else(|| {
            SdpError::new(399, "no ICE credentials: media could not be authenticated")
        })?;
        let active = match audio.setup {
            Some(Setup::Passive) => true,
            Some(Setup::Active) => false,
            Some(Setup::Actpass) | None => held
                .filter(|(_, held, _)| fingerprints.iter().any(|f| held.contains(f)))
                .is_some_and(|(.., active)| active),
        };
        let local_ice = self.local.ice.clone().unwrap_or_default();
        Ok(Remote::Dtls { ice, local_ice, fingerprints, active, tls_id: audio.tls_id.clone() })
    }

    fn rtp(
        &self,
        audio: &MediaDescription,
        must: bool,
        beside: impl Fn(&Crypto) -> Option<Crypto>,
    ) -> Result<Remote, SdpError> {
        let sdes = self.sdes(audio, must, beside)?;
        let ip = audio.address.ok_or_else(|| no_address(audio.host.as_deref()))?;
        let rtp = SocketAddr::new(ip, audio.port);
        let separate = audio.rtcp.unwrap_or(SocketAddr::new(ip, audio.port.wrapping_add(1)));
        Ok(Remote::Rtp { rtp, rtcp: if audio.rtcp_mux { rtp } else { separate }, sdes })
    }

    /// The keys of a trunk's media, if there are to be any; `must`: its profile asks for them.
    fn sdes(
        &self,
        audio: &MediaDescription,
        must: bool,
        beside: impl Fn(&Crypto) -> Option<Crypto>,
    ) -> Result<Option<Box<Sdes>>, SdpError> {
        if self.local.srtp == Policy::Off {
            let why = format!(
                "{} is not spoken on this trunk: offer RTP/AVP, or set srtp = \"optional\"",
                audio.proto
            );
            return if must { Err(SdpError::new(302, why)) } else { Ok(None) };
        }
        let held = match self.negotiated().map(|n| &n.remote) {
            Some(Remote::Rtp { sdes: Some(sdes), .. }) => Some(&sdes.theirs),
            _ => None,
        };
        let both = |theirs: &Crypto| {
            Some(Box::new(Sdes { ours: beside(theirs)?.keys, theirs: theirs.keys.clone() }))
        };
        // The key that is in use stays, wherever it stands in a new list.
        let in_use = audio.crypto.iter().filter(|c| Some(&c.keys) == held).find_map(both);
        // Packets without an identifier are shorter, and every peer takes them.
        let bare = || audio.crypto.iter().filter(|c| c.keys.mki.is_empty()).find_map(both);
        match in_use.or_else(bare).or_else(|| audio.crypto.iter().find_map(both)) {
            None if must => Err(SdpError::new(
                399,
                "no a=crypto line of a suite we speak: AEAD_AES_128_GCM, AEAD_AES_256_GCM, \
                 AES_256_CM_HMAC_SHA1_80 or _32, AES_192_CM_HMAC_SHA1_80 or _32, \
                 AES_CM_128_HMAC_SHA1_80 or _32",
            )),
            None if self.local.srtp == Policy::Required => Err(SdpError::new(
                399,
                "this trunk must encrypt its media (srtp = \"required\"), and the peer has no key",
            )),
            sdes => Ok(sdes),
        }
    }
}

fn no_address(host: Option<&str>) -> SdpError {
    match host {
        Some(host) => SdpError::new(
            399,
            format!("the c= line of the SDP names {host:?}, for which DNS has no address"),
        )
        .code(Code::DNS),
        None => SdpError::new(399, "no c= line with an IP address"),
    }
}

fn no_dtls() -> SdpError {
    SdpError::new(302, "a browser must offer DTLS-SRTP (UDP/TLS/RTP/SAVPF with a fingerprint)")
}
