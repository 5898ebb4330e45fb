//! What payload types mean, for as long as a session lasts (RFC 3264 §8.3.2).

use super::description::Format;
use super::negotiated::{Content, EventFormat, Negotiated};
use crate::codec::Codec;
use serde::{Deserialize, Serialize};

/// Dynamic payload types (RFC 3551 §6), the ones nobody prefers last.
const DYNAMIC: std::ops::RangeInclusive<u8> = 96..=127;

/// Numbers that have a meaning already.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct PayloadTypes(Vec<(u8, Content)>);

impl PayloadTypes {
    /// Notes what a description of either side means by its numbers; the newest counts.
    pub(super) fn note<'a>(&mut self, formats: impl Iterator<Item = &'a Format>) {
        for format in formats {
            let event = || format.is_telephone_event().then_some(Content::Event(format.clock));
            let Some(content) = format.codec().map(Content::Audio).or_else(event) else { continue };
            self.0.retain(|(pt, known)| *pt != format.payload_type && *known != content);
            self.0.push((format.payload_type, content));
        }
    }

    /// The number of this content: the one it has, `default` if that is free, else any.
    fn number(&mut self, content: Content, default: u8) -> u8 {
        if let Some((pt, _)) = self.0.iter().find(|(_, known)| *known == content) {
            return *pt;
        }
        let is_free = |pt: &u8| self.0.iter().all(|(known, _)| known != pt);
        let free = Some(default).filter(is_free).or_else(|| DYNAMIC.rev().find(is_free));
        let pt = free.unwrap_or(default);
        self.0.push((pt, content));
        pt
    }

    /// The number of a codec in our next offer.
    pub(super) fn of_codec(&mut self, codec: Codec) -> u8 {
        self.number(Content::Audio(codec), codec.default_payload_type())
    }

    /// The telephone-events of this clock in our next offer.
    pub(super) fn of_events(&mut self, clock: u32) -> EventFormat {
        let default = if clock == 8_000 { 101 } else { 110 };
        EventFormat { payload_type: self.number(Content::Event(clock), default), clock }
    }
}

/// What the peer may send by the numbers of our offer and of its answer: ours if it accepted them,
/// then its own, for some peers send by those, then what else we offered.
pub(super) fn received(offered: &[Format], answered: &[Format]) -> Vec<(u8, Codec)> {
    let numbers = |formats: &[Format]| -> Vec<(u8, Codec)> {
        formats.iter().filter_map(|f| Some((f.payload_type, f.codec()?))).collect()
    };
    let (ours, theirs) = (numbers(offered), numbers(answered));
    let (accepted, others): (Vec<_>, Vec<_>) =
        ours.iter().partition(|(_, codec)| theirs.iter().any(|(_, c)| c == codec));
    let theirs = theirs.iter().filter(|(_, codec)| ours.iter().any(|(_, c)| c == codec));
    let mut all: Vec<(u8, Codec)> = Vec::new();
    for (pt, codec) in accepted.into_iter().chain(theirs.copied()).chain(others) {
        if all.iter().all(|(known, _)| *known != pt) {
            all.push((pt, codec));
        }
    }
    all
}

/// Adds what was agreed `before`, by numbers that are free: until the peer knows the new agreement
/// it sends by the old one.
pub(super) fn keep_receiving(before: &Negotiated, now: &mut Negotiated) {
    for (pt, codec) in &before.receive {
        if now.content(*pt).is_none() {
            now.receive.push((*pt, *codec));
        }
    }
    for format in &before.events.receive {
        if now.content(format.payload_type).is_none() {
            now.events.receive.push(*format);
        }
    }
}
