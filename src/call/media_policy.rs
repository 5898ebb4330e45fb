//! Which media addresses of a peer are acceptable (media rule 6).

use super::{Leg, Party};
use crate::address::{is_private, is_public};
use crate::config::Config;
use crate::errors::Code;
use crate::sdp::offer_answer::{Negotiated, Remote};
use crate::sip::status::Refusal;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

fn is_ours(config: &Config, address: &SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    config.tells(ip) || ip.is_loopback()
}

/// Whether media of a leg goes to another leg of this gateway: a PBX has joined the two, and sent
/// them past itself. Legs joined in a ring feed each other no more than a leg may send.
fn is_hairpin(config: &Config, leg: &Leg, negotiated: &Negotiated) -> bool {
    let Remote::Rtp { rtp, .. } = &negotiated.remote else { return false };
    let ip = rtp.ip().to_canonical();
    let announced = config.tells(ip) || ip == leg.negotiation.local.address.ip();
    announced && (config.media.ports.0..=config.media.ports.1).contains(&rtp.port())
}

/// An address that is the leg's own, or that this trunk has no business naming, is refused.
///
/// # Errors
/// The 488 that says why.
pub(super) fn check_media_address(
    config: &Config,
    leg: &Leg,
    negotiated: &Negotiated,
) -> Result<(), Refusal> {
    let Remote::Rtp { rtp, .. } = &negotiated.remote else { return Ok(()) };
    let ip = rtp.ip().to_canonical();
    if ip.is_unspecified() {
        return Ok(());
    }
    let own = leg.negotiation.local.address.port();
    // Its RTCP port, and the one of all browsers, take no RTP of a trunk.
    let pair = own != 0 && [own, own.saturating_add(1)].contains(&rtp.port());
    let browsers = rtp.port() != 0 && rtp.port() == config.media.browser_port;
    let refuse = |why: String| Err(Refusal::new(488, why.clone()).warning(399, why));
    if (pair || browsers) && is_ours(config, rtp) {
        return refuse(format!("the SDP names our own media address {rtp}: a media loop"));
    }
    if rtp.port() != 0 && rtp.port() < 1_024 {
        return refuse(format!(
            "the SDP names port {}: media ports below 1024 are refused",
            rtp.port()
        ));
    }
    let Party::Trunk(name) = &leg.party else { return Ok(()) };
    let listed = |net: &IpNet| net.contains(&ip);
    let signalling = leg
        .hop
        .address()
        .map(|a| a.ip())
        .or(leg.signalling)
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let known = config
        .trunks
        .get(name)
        .is_some_and(|t| t.media.iter().any(listed) || t.allow.iter().any(listed));
    // Nothing is sent to an address of the peer's own network: its media is awaited.
    let natted = config.trunks.get(name).is_some_and(|t| t.nat_signalling);
    if known
        || is_hairpin(config, leg, negotiated)
        || ip == signalling.to_canonical()
        || is_public(ip)
        || (is_private(ip) && (is_private(signalling) || natted))
    {
        return Ok(());
    }
    refuse(format!(
        "the SDP names {ip}, which is neither public nor in media = [\"…\"] of trunk {name}"
    ))
    .map_err(|why: Refusal| why.code(Code::PRIVATE_MEDIA))
}
