//! One turn of the core: the moment an input is handled at, and what comes of it.

use crate::call::Output;
use crate::sip::message::Message;
use crate::sip::transaction::{Flow, Hop, ServerId};
use std::time::Instant;

/// What every step of a turn is given: time, and where outputs go.
pub(super) struct Turn<'a> {
    pub(super) now: Instant,
    pub(super) out: &'a mut Vec<Output>,
}

impl Turn<'_> {
    /// Adds an output.
    pub(super) fn push(&mut self, output: Output) {
        self.out.push(output);
    }
}

/// Who sent a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Sender {
    User(String, Flow),
    Trunk(String),
}

/// A request, the transaction it began, and where it came from.
pub(super) struct Incoming<'a> {
    pub(super) id: ServerId,
    pub(super) hop: Hop,
    pub(super) message: &'a Message,
}
