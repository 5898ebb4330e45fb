//! Answers to a datagram whose sender nobody has proved: never longer than what came, so that no
//! victim named as its source gets more than the attacker spends.

use super::{Gateway, Turn};
use crate::call::Output;
use crate::event::Event;
use crate::hex::token;
use crate::sip::build::MessageWriter;
use crate::sip::digest::Fresh;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::Refusal;
use crate::sip::transaction::{Hop, Transmit};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

impl Gateway {
    /// Whether `hop` is a datagram's, from an address that is no trunk's.
    pub(super) fn is_unproved(&self, hop: Hop) -> bool {
        hop.is_udp() && hop.address().is_some_and(|remote| self.trunk_of(remote).is_none())
    }

    /// A 401, `challenge` or the shortest there is, or silence.
    pub(super) fn challenge_unproved(
        &mut self,
        turn: &mut Turn<'_>,
        hop: Hop,
        message: &Message,
        fresh: Fresh,
        challenge: Bytes,
    ) {
        let came = message.to_bytes().len();
        if challenge.len() <= came {
            return turn.push(Output::Send(Transmit { hop, bytes: challenge }));
        }
        let tag = URL_SAFE_NO_PAD.encode((fresh.random as u32).to_be_bytes());
        let mut short = MessageWriter::terse(message, 401, &tag);
        let value = self.admission.short_challenge(turn.now, fresh);
        short.put_tight(HeaderName::WwwAuthenticate, value);
        self.send_within(hop, came, short.end_datagram(), turn.out);
    }

    /// A refusal, without what explains it, or silence.
    pub(super) fn refuse_unproved(
        &mut self,
        hop: Hop,
        message: &Message,
        why: &Refusal,
        out: &mut Vec<Output>,
    ) {
        let came = message.to_bytes().len();
        let tag = token::<8>(&mut self.services.random);
        let full = MessageWriter::refusal(message, why, &tag, &self.config.domain).end();
        if full.len() <= came {
            return out.push(Output::Send(Transmit { hop, bytes: full }));
        }
        let mut short = MessageWriter::terse(message, why.status, &tag);
        if let Some(seconds) = why.retry_after {
            short.put(HeaderName::RetryAfter, seconds);
        }
        self.send_within(hop, came, short.end_datagram(), out);
    }

    fn send_within(&mut self, hop: Hop, came: usize, bytes: Bytes, out: &mut Vec<Output>) {
        if bytes.len() <= came {
            return out.push(Output::Send(Transmit { hop, bytes }));
        }
        self.dropped += 1;
        out.push(Output::Event(Event::Dropped {
            why: "a REGISTER over UDP from a stranger that is shorter than its answer",
            remote: hop.address(),
        }));
    }
}
