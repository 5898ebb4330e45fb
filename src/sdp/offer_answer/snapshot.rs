//! What was agreed for a leg, as a value that outlives the process.
//!
//! Not here: what its media brings along, which is all that an exchange settled.

use super::{Ice, LegKind, Local, Negotiated, Negotiation};
use crate::sdp::crypto::{LocalKeys, Policy};
use crate::sdp::payload_types::PayloadTypes;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// A leg's negotiation with no exchange open. The next description of ours counts on from its
/// version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct NegotiationSnapshot {
    side: LegKind,
    address: SocketAddr,
    more_addresses: Vec<SocketAddr>,
    tcp: bool,
    session_id: u64,
    comfort_noise: bool,
    srtp: Policy,
    srtp_keys: LocalKeys,
    playback_rate: Option<u32>,
    version: u64,
    payload_types: PayloadTypes,
    keys_withheld: bool,
}

impl NegotiationSnapshot {
    /// Of a leg of which nothing else is known.
    pub(crate) fn bare(side: LegKind) -> NegotiationSnapshot {
        NegotiationSnapshot {
            side,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            more_addresses: Vec::new(),
            tcp: false,
            session_id: 0,
            comfort_noise: false,
            srtp: Policy::Off,
            srtp_keys: LocalKeys::default(),
            playback_rate: None,
            version: 0,
            payload_types: PayloadTypes::default(),
            keys_withheld: false,
        }
    }
}

/// What media knows of a leg's negotiation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settled {
    /// What was agreed, if it was.
    pub negotiated: Option<Negotiated>,
    /// A browser's: our credentials that count.
    pub ice: Option<Ice>,
    /// Of what we send.
    pub ssrc: u32,
    /// Of RTCP, and `a=ssrc`.
    pub cname: String,
}

impl Negotiation {
    /// The negotiation as a value. An offer of ours that is open is as good as refused.
    pub(crate) fn snapshot(&self) -> NegotiationSnapshot {
        let local = &self.local;
        NegotiationSnapshot {
            side: local.side,
            address: local.address,
            more_addresses: local.more_addresses.clone(),
            tcp: local.tcp,
            session_id: local.session_id,
            comfort_noise: local.comfort_noise,
            srtp: local.srtp,
            srtp_keys: local.srtp_keys.clone(),
            playback_rate: self.playback_rate,
            version: self.version,
            payload_types: self.payload_types.clone(),
            keys_withheld: self.keys_withheld,
        }
    }

    /// The negotiation of a value, with the `fingerprint` of our certificate and what media knows;
    /// without media nothing is agreed.
    pub(crate) fn restore(
        snapshot: NegotiationSnapshot,
        fingerprint: String,
        settled: Option<Settled>,
    ) -> Negotiation {
        let (negotiated, ice, ssrc, cname) = match settled {
            Some(s) => (s.negotiated, s.ice, s.ssrc, s.cname),
            None => (None, None, 0, String::new()),
        };
        let local = Local {
            side: snapshot.side,
            address: snapshot.address,
            more_addresses: snapshot.more_addresses,
            tcp: snapshot.tcp,
            ice,
            fingerprint,
            session_id: snapshot.session_id,
            ssrc,
            cname,
            comfort_noise: snapshot.comfort_noise,
            srtp: snapshot.srtp,
            srtp_keys: snapshot.srtp_keys,
        };
        Negotiation {
            playback_rate: snapshot.playback_rate,
            version: snapshot.version,
            payload_types: snapshot.payload_types,
            keys_withheld: snapshot.keys_withheld,
            negotiated,
            ..Negotiation::new(local)
        }
    }
}
