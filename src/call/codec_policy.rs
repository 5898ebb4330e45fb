//! Which codecs each leg is offered and answered with, given what the other can do.
//!
//! The legs negotiate alone; all that crosses is an order of preference. Also here: which media
//! addresses of a peer are acceptable (media rule 6).

use super::{Leg, Party};
use crate::address::{is_private, is_public};
use crate::codec::Codec;
use crate::config::{Config, Prefer};
use crate::errors::Code;
use crate::sdp::offer_answer::{Negotiated, Remote};
use crate::sip::status::Refusal;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

fn allowed(config: &Config, party: &Party) -> Vec<Codec> {
    match party {
        Party::User { .. } => config.media.codecs.clone(),
        Party::Trunk(name) => config.trunks.get(name).map(|t| t.codecs.clone()).unwrap_or_default(),
        Party::Internal(_) => Codec::ALL.to_vec(),
    }
}

fn first(mut codecs: Vec<Codec>, lead: &[Codec]) -> Vec<Codec> {
    codecs.sort_by_key(|c| lead.iter().position(|l| l == c).unwrap_or(usize::MAX));
    codecs
}

fn prefers_passthrough(config: &Config, a: &Party, b: &Party) -> bool {
    [a, b].iter().all(|p| match p {
        Party::Trunk(name) => {
            config.trunks.get(name).is_none_or(|t| t.prefer == Prefer::Passthrough)
        }
        Party::User { .. } | Party::Internal(_) => true,
    })
}

/// The codecs to offer `to`, when `from` has offered `known` (empty where it offered nothing yet).
pub fn offer(config: &Config, from: &Party, to: &Party, known: &[Codec]) -> Vec<Codec> {
    let codecs = allowed(config, to);
    if prefers_passthrough(config, from, to) { first(codecs, known) } else { codecs }
}

/// The codecs to answer `leg` with, best first, once the other side has `settled` on one.
pub fn answer(config: &Config, leg: &Party, other: Option<(&Party, Codec)>) -> Vec<Codec> {
    let codecs = allowed(config, leg);
    match other {
        // Where the other leg is Opus already, or the policy says so, nothing need be transcoded.
        Some((party, codec)) if codec == Codec::Opus || prefers_passthrough(config, leg, party) => {
            first(codecs, &[codec])
        }
        // A trunk leg loses nothing by following; only the browser leg gains from Opus.
        Some((_, codec)) if matches!(leg, Party::Trunk(_)) => first(codecs, &[codec]),
        _ => codecs,
    }
}

/// Samples a second of what `party` hears by the best of `codecs`, those of them it may use;
/// nothing where it hears all that a browser sends, or where that is not known yet.
pub fn playback_rate(config: &Config, party: &Party, codecs: &[Codec]) -> Option<u32> {
    let used: Vec<Codec> =
        allowed(config, party).into_iter().filter(|c| codecs.contains(c)).collect();
    used.iter().map(|c| Codec::Opus.bridge_rate(*c)).max().filter(|_| !used.contains(&Codec::Opus))
}

/// Media rule 6: an address that is ours, or that this trunk has no business naming, is refused.
///
/// # Errors
/// The 488 that says why.
pub fn check_media_address(
    config: &Config,
    leg: &Leg,
    negotiated: &Negotiated,
) -> Result<(), Refusal> {
    check_address(config, leg, negotiated, leg.signalling)
}

fn check_address(
    config: &Config,
    leg: &Leg,
    negotiated: &Negotiated,
    signalling: Option<IpAddr>,
) -> Result<(), Refusal> {
    let Remote::Rtp { rtp, .. } = &negotiated.remote else { return Ok(()) };
    let ip = rtp.ip().to_canonical();
    if ip.is_unspecified() {
        return Ok(());
    }
    let ours = config.tells(ip) || ip.is_loopback();
    let own_ports = (config.media.ports.0..=config.media.ports.1).contains(&rtp.port())
        || rtp.port() == config.media.browser_port;
    let refuse = |why: String| Err(Refusal::new(488, why.clone()).warning(399, why));
    if ours && own_ports {
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
        .or(signalling)
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let known = config
        .trunks
        .get(name)
        .is_some_and(|t| t.media.iter().any(listed) || t.allow.iter().any(listed));
    // Nothing is sent to an address of the peer's own network: its media is awaited.
    let natted = config.trunks.get(name).is_some_and(|t| t.nat_signalling);
    if known
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
