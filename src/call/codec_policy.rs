//! Which codecs each leg is offered and answered with, given what the other can do.
//!
//! The legs negotiate alone; all that crosses is an order of preference.

use super::Party;
use crate::codec::Codec;
use crate::config::{Config, Prefer};

fn allowed(config: &Config, party: &Party) -> Vec<Codec> {
    match party {
        Party::User { .. } => config.media.codecs.clone(),
        Party::Trunk(name) => config.trunks.get(name).map(|t| t.codecs.clone()).unwrap_or_default(),
        Party::Number(_) | Party::Internal(_) => Codec::ALL.to_vec(),
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
        Party::User { .. } | Party::Number(_) | Party::Internal(_) => true,
    })
}

/// The codecs to offer `to`, when `from` has offered `known` (empty if it offered nothing yet).
pub(crate) fn offer(config: &Config, from: &Party, to: &Party, known: &[Codec]) -> Vec<Codec> {
    let codecs = allowed(config, to);
    if prefers_passthrough(config, from, to) { first(codecs, known) } else { codecs }
}

/// The codecs to answer `leg` with, best first, once the other side has `settled` on one.
pub(crate) fn answer(config: &Config, leg: &Party, other: Option<(&Party, Codec)>) -> Vec<Codec> {
    let codecs = allowed(config, leg);
    match other {
        // Where the other leg is Opus already, or the policy forbids it, nothing need be
        // transcoded.
        Some((party, codec)) if codec == Codec::Opus || prefers_passthrough(config, leg, party) => {
            first(codecs, &[codec])
        }
        // A trunk leg loses nothing by following; only the browser leg gains from Opus.
        Some((_, codec)) if matches!(leg, Party::Trunk(_)) => first(codecs, &[codec]),
        _ => codecs,
    }
}

/// Samples a second of what `party` hears by the best of `codecs`, those of them it may use; `None`
/// if it hears all that a browser sends, or if that is not known yet.
pub(crate) fn playback_rate(config: &Config, party: &Party, codecs: &[Codec]) -> Option<u32> {
    let used: Vec<Codec> =
        allowed(config, party).into_iter().filter(|c| codecs.contains(c)).collect();
    used.iter().map(|c| Codec::Opus.bridge_rate(*c)).max().filter(|_| !used.contains(&Codec::Opus))
}
