//! Non-INVITE client transaction (RFC 3261 §17.1.2).
//!
//! ```text
//!   Trying --1xx--> Proceeding --200-699--> Completed --K--> Terminated
//!     |--200-699--> Completed      F in Trying, Proceeding --> Terminated
//! ```

use super::{Effect, T1, T1X64, T2, T4, Timer};
use crate::sip::message::Message;
use bytes::Bytes;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ClientState {
    Trying,
    Proceeding,
    Completed,
}

/// One non-INVITE request of ours.
#[derive(Debug)]
pub(crate) struct ClientTransaction {
    state: ClientState,
    request: Bytes,
    reliable: bool,
    interval: Duration,
}

impl ClientTransaction {
    /// Sends `request` and enters Trying.
    pub(crate) fn start(
        request: Bytes,
        reliable: bool,
        out: &mut Vec<Effect>,
    ) -> ClientTransaction {
        out.push(Effect::Send(request.clone()));
        if !reliable {
            out.push(Effect::Set(Timer::E, T1));
        }
        out.push(Effect::Set(Timer::F, T1X64));
        ClientTransaction { state: ClientState::Trying, request, reliable, interval: T1 }
    }

    /// The request as it was sent.
    pub(crate) fn request(&self) -> Bytes {
        self.request.clone()
    }

    /// Whether no final response has come.
    pub(crate) fn is_pending(&self) -> bool {
        self.state != ClientState::Completed
    }

    /// A response matched to this transaction.
    pub(crate) fn receive(&mut self, message: Message, out: &mut Vec<Effect>) {
        match (self.state, message.status()) {
            (ClientState::Completed, _) => {}
            (_, 100..=199) => {
                self.state = ClientState::Proceeding;
                out.push(Effect::Deliver(message));
            }
            (_, _) => {
                self.state = ClientState::Completed;
                let wait = if self.reliable { Duration::ZERO } else { T4 };
                out.extend([
                    Effect::Clear(Timer::E),
                    Effect::Clear(Timer::F),
                    Effect::Set(Timer::K, wait),
                ]);
                out.push(Effect::Deliver(message));
            }
        }
    }

    /// A timer fired.
    pub(crate) fn fire(&mut self, timer: Timer, out: &mut Vec<Effect>) {
        match (self.state, timer) {
            (ClientState::Trying | ClientState::Proceeding, Timer::E) => {
                self.interval = if self.state == ClientState::Proceeding {
                    T2
                } else {
                    (self.interval * 2).min(T2)
                };
                out.extend([
                    Effect::Send(self.request.clone()),
                    Effect::Set(Timer::E, self.interval),
                ]);
            }
            (ClientState::Trying | ClientState::Proceeding, Timer::F) => {
                out.extend([Effect::TimedOut, Effect::Done])
            }
            (ClientState::Completed, Timer::K) => out.push(Effect::Done),
            _ => {}
        }
    }
}
