//! One turn of the core: the moment an input is handled at, and what comes of it.

use crate::call::Output;
use crate::call::context::Followup;
use crate::sip::message::Message;
use crate::sip::status::Refusal;
use crate::sip::transaction::{Flow, Hop, ServerId};
use std::collections::VecDeque;
use std::time::Instant;

/// What every step of a turn is given: time, where outputs go, and what is left to be done.
pub(super) struct Turn<'a> {
    /// The time of this turn.
    pub(super) now: Instant,
    /// Where outputs go.
    pub(super) out: &'a mut Vec<Output>,
    /// What calls have left to be done.
    pub(super) followups: VecDeque<Followup>,
}

impl<'a> Turn<'a> {
    /// The turn at `now`, whose outputs go to `out`.
    pub(super) fn new(now: Instant, out: &'a mut Vec<Output>) -> Turn<'a> {
        Turn { now, out, followups: VecDeque::new() }
    }

    /// Adds an output.
    pub(super) fn push(&mut self, output: Output) {
        self.out.push(output);
    }
}

/// The source of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RequestSource {
    User(String, Flow),
    Trunk(String),
}

impl RequestSource {
    /// What its texts are counted by.
    pub(super) fn name(&self) -> String {
        match self {
            RequestSource::User(user, _) => user.clone(),
            RequestSource::Trunk(name) => format!("trunk {name}"),
        }
    }
}

/// What was decided of a request before it becomes a transaction.
#[must_use]
pub(super) enum Screening {
    /// It becomes one.
    Proceed,
    /// It was answered, waits for an answer of somebody else, or gets silence.
    Handled,
    /// It is refused without a state.
    Refuse(Refusal),
}

/// A request, the transaction it began, and where it came from.
pub(super) struct Incoming<'a> {
    /// Its transaction.
    pub(super) id: ServerId,
    /// Where it came from.
    pub(super) hop: Hop,
    /// The request.
    pub(super) message: &'a Message,
}
