//! Non-INVITE server transaction (RFC 3261 §17.2.2, RFC 4320).
//!
//! ```text
//!   Trying --200-699--> Completed --J--> Terminated
//! ```
//! Proceeding is never entered: RFC 4320 §4.1 leaves only a late 100, and we answer at once.

use super::{Effect, T1X64, Timer};
use bytes::Bytes;
use std::time::Duration;

/// One non-INVITE request received.
#[derive(Debug)]
pub(crate) struct ServerTransaction {
    response: Option<Bytes>,
}

impl ServerTransaction {
    /// Enters Trying.
    pub(crate) fn start() -> ServerTransaction {
        ServerTransaction { response: None }
    }

    /// The user responds; only the first final response counts.
    pub(crate) fn respond(
        &mut self,
        status: u16,
        bytes: Bytes,
        reliable: bool,
        out: &mut Vec<Effect>,
    ) {
        // RFC 4320 §4.2: a 408 to a non-INVITE is useless by the time it arrives.
        if status < 200 || self.response.is_some() {
            return;
        }
        self.response = Some(bytes.clone());
        let wait = if reliable { Duration::ZERO } else { T1X64 };
        out.extend([Effect::Send(bytes), Effect::Set(Timer::J, wait)]);
    }

    /// The request came again. Always taken.
    pub(crate) fn receive_again(&mut self, out: &mut Vec<Effect>) -> bool {
        out.extend(self.response.clone().map(Effect::Send));
        true
    }

    /// A timer fired.
    pub(crate) fn fire(&mut self, timer: Timer, out: &mut Vec<Effect>) {
        if timer == Timer::J {
            out.push(Effect::Done);
        }
    }
}
