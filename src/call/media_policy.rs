//! Which media addresses of a peer are acceptable (media rule 6).

use super::reach::Reach;
use super::{Leg, Party};
use crate::address::is_private;
use crate::config::Config;
use crate::egress::{EgressPolicy, LOWEST_MEDIA_PORT};
use crate::errors::Code;
use crate::sdp::offer_answer::{Negotiated, Remote};
use crate::sip::status::Refusal;
use std::net::{IpAddr, SocketAddr};

/// What decides: the settings, and what is known of this machine.
#[derive(Clone, Copy)]
pub(super) struct MediaPolicy<'a> {
    /// The settings.
    pub config: &'a Config,
    /// The addresses of this machine.
    pub reach: &'a Reach,
}

impl MediaPolicy<'_> {
    fn is_ours(&self, ip: IpAddr) -> bool {
        self.config.tells(ip) || ip.is_loopback() || self.reach.has(ip)
    }

    /// A port of this gateway that takes no RTP of a trunk: the browsers', SIP's, and the leg's
    /// own pair.
    fn is_own_port(&self, leg: &Leg, port: u16) -> bool {
        let own = leg.negotiation.local.address.port();
        let pair = own != 0 && [own, own.saturating_add(1)].contains(&port);
        let sip = self.config.udp.map(|at| at.port());
        pair || port != 0 && (port == self.config.media.browser_port || Some(port) == sip)
    }

    /// Whether media of a leg goes to another leg of this gateway: a PBX has joined the two, and
    /// sent them past itself. Legs joined in a ring feed each other no more than a leg may send.
    fn is_hairpin(&self, leg: &Leg, to: SocketAddr) -> bool {
        let ip = to.ip().to_canonical();
        let announced = self.config.tells(ip) || ip == leg.negotiation.local.address.ip();
        let (first, last) = self.config.media.ports;
        announced && (first..=last).contains(&to.port())
    }

    /// Whether the trunk of `leg` has any business naming `to`.
    fn admits(&self, leg: &Leg, to: SocketAddr) -> bool {
        let Party::Trunk(name) = &leg.party else { return true };
        let trunk = self.config.trunks.get(name);
        let signalling = leg.hop.address().map(|a| a.ip()).or(leg.signalling);
        // Nothing is sent to an address of the peer's own network: its media is awaited.
        let natted = trunk.is_some_and(|t| t.nat_signalling);
        let policy = EgressPolicy {
            listed: trunk.map_or([&[], &[]], |t| [&t.media[..], &t.allow[..]]),
            signalling,
            private: natted || signalling.is_some_and(is_private),
            loopback: false,
        };
        let ip = to.ip().to_canonical();
        // This machine is nobody's but a peer's that is on it too.
        let foreign = self.is_ours(ip) && signalling.is_none_or(|s| s.to_canonical() != ip);
        self.is_hairpin(leg, to) || policy.admits(ip) && (!foreign || policy.lists(ip))
    }

    /// An address that is the leg's own, or that this trunk has no business naming, is refused.
    ///
    /// # Errors
    /// The 488 that says why.
    pub(super) fn check(&self, leg: &Leg, negotiated: &Negotiated) -> Result<(), Refusal> {
        let Remote::Rtp { rtp, .. } = &negotiated.remote else { return Ok(()) };
        let (ip, port) = (rtp.ip().to_canonical(), rtp.port());
        if ip.is_unspecified() {
            return Ok(());
        }
        let refuse = |why: String| Err(Refusal::new(488, why.clone()).warning(399, why));
        if self.is_ours(ip) && self.is_own_port(leg, port) {
            return refuse(format!("the SDP names our own media address {rtp}: a media loop"));
        }
        if port != 0 && port < LOWEST_MEDIA_PORT {
            return refuse(format!(
                "the SDP names port {port}: media ports below 1024 are refused"
            ));
        }
        if self.admits(leg, *rtp) {
            return Ok(());
        }
        refuse(format!(
            "the SDP names {ip}, which is neither public nor in media = [\"…\"] of {}",
            leg.party
        ))
        .map_err(|why: Refusal| why.code(Code::PRIVATE_MEDIA))
    }

    /// `negotiated`, sending RTCP only where RTP might go: nobody needs a report so much that it
    /// is sent to a host the peer has no business naming.
    pub(super) fn with_checked_rtcp(&self, leg: &Leg, mut negotiated: Negotiated) -> Negotiated {
        if let Remote::Rtp { rtp, rtcp, .. } = &mut negotiated.remote
            && rtcp != rtp
        {
            let (ip, port) = (rtcp.ip().to_canonical(), rtcp.port());
            let own = self.is_ours(ip) && self.is_own_port(leg, port);
            let elsewhere = rtcp.ip() != rtp.ip() && !self.admits(leg, *rtcp);
            if own || elsewhere || port < LOWEST_MEDIA_PORT {
                rtcp.set_port(0);
            }
        }
        negotiated
    }
}
