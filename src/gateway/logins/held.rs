//! Requests that wait for an answer from elsewhere before it is known whose they are.

use super::TokenId;
use crate::address::network_of;
use crate::sip::message::Message;
use crate::sip::transaction::Flow;
use crate::tally::Tally;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Requests that wait for an answer; any more get 503 with Retry-After.
pub(super) const MAX_HELD: usize = 1_000;
/// Those of one source: a stranger with names nobody has keeps nobody else waiting.
pub(super) const MAX_HELD_OF_SOURCE: usize = 200;

/// What is waited for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Awaited {
    Keys,
    User(String),
    /// Whether a token was used at another node.
    Token(TokenId),
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct HeldRequest {
    /// The connection it came by.
    pub(super) flow: Flow,
    /// Where that comes from.
    pub(super) remote: SocketAddr,
    /// The request as it came.
    pub(super) message: Message,
}

/// The requests that wait, by what for.
#[derive(Debug, Default)]
pub(super) struct HeldRequests {
    by_answer: HashMap<Awaited, Vec<HeldRequest>>,
    of_source: Tally<IpAddr>,
    count: usize,
}

impl HeldRequests {
    /// Keeps a request. Returns whether it is the first that waits for this, or `None` if there is
    /// no room for it.
    pub(super) fn keep(&mut self, awaited: Awaited, held: HeldRequest) -> Option<bool> {
        let source = network_of(held.remote.ip());
        if self.count >= MAX_HELD || self.of_source.of(&source) >= MAX_HELD_OF_SOURCE {
            return None;
        }
        self.count += 1;
        self.of_source.add(source);
        let waiting = self.by_answer.entry(awaited).or_default();
        waiting.push(held);
        Some(waiting.len() == 1)
    }

    /// Takes those that waited for an answer.
    pub(super) fn take(&mut self, awaited: &Awaited) -> Vec<HeldRequest> {
        let taken = self.by_answer.remove(awaited).unwrap_or_default();
        self.count -= taken.len();
        for held in &taken {
            self.of_source.remove(&network_of(held.remote.ip()));
        }
        taken
    }

    /// Returns how many wait.
    pub(super) fn len(&self) -> usize {
        self.count
    }
}
