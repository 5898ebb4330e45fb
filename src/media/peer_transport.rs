//! How the peer of an end is reached, and the keys of that way.

use super::dtls::{DtlsKeys, Handshake};
use super::endpoint::{EndpointKind, LegId, Port};
use super::ice::IceLiteAgent;
use super::latching::Latching;
use crate::rtp::srtp::{Profile, Protect, SrtpError, Unprotect};
use crate::sdp::crypto::Sdes;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Packets under the keys of an association that was replaced are taken for so long: the peer
/// changes its own once our last flight has reached it.
pub(super) const OVERLAP: Duration = Duration::from_secs(5);

/// What opens a packet.
pub(super) type Opener = fn(&mut Unprotect, &mut [u8]) -> Result<usize, SrtpError>;

/// Opens a packet that came under the keys there are, or for a while under those before.
///
/// # Errors
/// No key opens it.
pub(super) fn open(
    now: Instant,
    srtp: &mut Srtp,
    before: &mut Option<(Box<Srtp>, Instant)>,
    packet: &mut [u8],
    opens: Opener,
) -> Result<usize, SrtpError> {
    if before.as_ref().is_some_and(|(_, until)| now >= *until) {
        *before = None;
    }
    let Some((before, _)) = before else { return opens(&mut srtp.unprotect, packet) };
    let mut copy = packet.to_vec();
    match opens(&mut srtp.unprotect, packet) {
        Err(why @ SrtpError::BadTag) => {
            let len = opens(&mut before.unprotect, &mut copy).map_err(|_| why)?;
            packet.copy_from_slice(&copy);
            Ok(len)
        }
        opened => opened,
    }
}

impl MediaTransport {
    /// DTLS gave keys: they serve from now on, and those before for a while.
    pub(super) fn on_keys(&mut self, now: Instant, keys: DtlsKeys) {
        if let MediaTransport::Browser { srtp, before, .. } = self {
            let DtlsKeys { profile, protect, unprotect } = keys;
            let old = srtp.replace(Box::new(Srtp { profile, protect, unprotect }));
            *before = old.map(|old| (old, now + OVERLAP));
        }
    }
}

/// Keys of a browser's finished handshake.
pub(super) struct Srtp {
    /// The protection profile that was agreed.
    pub profile: Profile,
    /// What encrypts.
    pub protect: Protect,
    /// What decrypts.
    pub unprotect: Unprotect,
}

pub(super) enum MediaTransport {
    Browser {
        ice: Box<IceLiteAgent>,
        dtls: Box<Handshake>,
        srtp: Option<Box<Srtp>>,
        /// The keys before those, and until when packets may still come under them.
        before: Option<(Box<Srtp>, Instant)>,
    },
    Trunk {
        rtp: Option<SocketAddr>,
        rtcp: Option<SocketAddr>,
        latching: Latching,
        sdes: Option<Box<SdesSrtp>>,
    },
}

/// Whether an address from a description can be sent to.
pub(super) fn is_usable(address: &SocketAddr) -> bool {
    address.port() != 0 && !address.ip().is_unspecified()
}

/// A trunk's keys by signalling, and what they protect with.
pub(super) struct SdesSrtp {
    /// The keys, as they were signalled.
    pub keys: Sdes,
    /// What protects with them.
    pub srtp: Srtp,
}

impl SdesSrtp {
    /// Contexts for `keys`; a direction whose key stays continues with its counters.
    pub(super) fn renew(old: Option<Box<SdesSrtp>>, keys: &Sdes) -> Box<SdesSrtp> {
        let (ours, theirs) = (&keys.ours, &keys.theirs);
        let (mut protect, mut unprotect) = (Protect::of(ours.master.clone()), None);
        if let Some(old) = old {
            let before = old.srtp.protect;
            protect = if old.keys.ours == *ours { before } else { protect.after(&before) };
            unprotect = (old.keys.theirs == *theirs).then_some(old.srtp.unprotect);
        }
        let srtp = Srtp {
            profile: theirs.profile(),
            protect,
            unprotect: unprotect
                .unwrap_or_else(|| Unprotect::of(theirs.master.clone()).with_mki(&theirs.mki)),
        };
        Box::new(SdesSrtp { keys: keys.clone(), srtp })
    }
}

impl MediaTransport {
    /// The way to a peer nothing has come from.
    pub(super) fn new(kind: EndpointKind) -> MediaTransport {
        match kind {
            EndpointKind::Browser { identity, ice } => MediaTransport::Browser {
                ice: Box::new(IceLiteAgent::new(ice)),
                dtls: Box::new(Handshake::new(identity, Vec::new())),
                srtp: None,
                before: None,
            },
            EndpointKind::Trunk { nat } => MediaTransport::Trunk {
                rtp: None,
                rtcp: None,
                latching: Latching::new(nat),
                sdes: None,
            },
        }
    }

    /// The socket of its RTP.
    pub(super) fn port(&self, id: LegId) -> Port {
        match self {
            MediaTransport::Browser { .. } => Port::Browser,
            MediaTransport::Trunk { .. } => Port::Rtp(id),
        }
    }

    /// A packet was sent to its peer.
    pub(super) fn on_sent(&mut self) {
        if let MediaTransport::Trunk { latching, .. } = self {
            latching.on_sent();
        }
    }

    /// What is protected with keys on its way out.
    pub(super) fn sealing(&self) -> Option<&Protect> {
        match self {
            MediaTransport::Browser { srtp, .. } => srtp.as_ref().map(|srtp| &srtp.protect),
            MediaTransport::Trunk { sdes, .. } => sdes.as_ref().map(|keyed| &keyed.srtp.protect),
        }
    }

    /// What its packets are protected with: a browser's once DTLS is done, a trunk's if keys were
    /// exchanged.
    pub(super) fn srtp(&mut self) -> Option<&mut Srtp> {
        match self {
            MediaTransport::Browser { srtp, .. } => srtp.as_deref_mut(),
            MediaTransport::Trunk { sdes, .. } => sdes.as_mut().map(|keyed| &mut keyed.srtp),
        }
    }
}
