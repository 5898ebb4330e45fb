//! INVITE server transaction (RFC 3261 §17.2.1 with RFC 6026 §7.1).
//!
//! ```text
//!   Proceeding --2xx--> Accepted --L--> Terminated
//!       |--300-699--> Completed --ACK--> Confirmed --I--> Terminated
//!                         |--H--> Terminated
//! ```

use super::{Effect, T1, T1X64, T2, T4, Timer};
use bytes::Bytes;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum InviteServerState {
    Proceeding,
    Accepted,
    Completed,
    Confirmed,
}

/// One INVITE received.
#[derive(Debug)]
pub(crate) struct InviteServer {
    state: InviteServerState,
    last: Option<Bytes>,
    interval: Duration,
}

impl InviteServer {
    /// Enters Proceeding; the user sends the 100.
    pub(crate) fn start() -> InviteServer {
        InviteServer { state: InviteServerState::Proceeding, last: None, interval: T1 }
    }

    /// The user responds.
    pub(crate) fn respond(
        &mut self,
        status: u16,
        bytes: Bytes,
        reliable: bool,
        out: &mut Vec<Effect>,
    ) {
        match (self.state, status) {
            (InviteServerState::Proceeding, 100..=199) => {
                self.last = Some(bytes.clone());
                out.push(Effect::Send(bytes));
            }
            (InviteServerState::Proceeding, 200..=299) => {
                self.state = InviteServerState::Accepted;
                self.last = None;
                out.extend([Effect::Send(bytes), Effect::Set(Timer::L, T1X64)]);
            }
            (InviteServerState::Accepted, 200..=299) => out.push(Effect::Send(bytes)),
            (InviteServerState::Proceeding, 300..=699) => {
                self.state = InviteServerState::Completed;
                self.last = Some(bytes.clone());
                out.extend([Effect::Send(bytes), Effect::Set(Timer::H, T1X64)]);
                if !reliable {
                    out.push(Effect::Set(Timer::G, T1));
                }
            }
            _ => {}
        }
    }

    /// The INVITE came again. Always taken.
    pub(crate) fn receive_again(&mut self, out: &mut Vec<Effect>) -> bool {
        // RFC 6026 §7.1: in Accepted a retransmitted INVITE is absorbed without a response.
        if matches!(self.state, InviteServerState::Proceeding | InviteServerState::Completed) {
            out.extend(self.last.clone().map(Effect::Send));
        }
        true
    }

    /// An ACK with this branch. Not taken in Accepted: it belongs to the 2xx, so to the user.
    pub(crate) fn receive_ack(&mut self, out: &mut Vec<Effect>) -> bool {
        if self.state == InviteServerState::Completed {
            self.state = InviteServerState::Confirmed;
            out.extend([
                Effect::Clear(Timer::G),
                Effect::Clear(Timer::H),
                Effect::Set(Timer::I, T4),
            ]);
        }
        self.state != InviteServerState::Accepted
    }

    /// A timer fired.
    pub(crate) fn fire(&mut self, timer: Timer, out: &mut Vec<Effect>) {
        match (self.state, timer) {
            (InviteServerState::Completed, Timer::G) => {
                self.interval = (self.interval * 2).min(T2);
                out.extend(self.last.clone().map(Effect::Send));
                out.push(Effect::Set(Timer::G, self.interval));
            }
            (_, Timer::H | Timer::I | Timer::L) => out.push(Effect::Done),
            _ => {}
        }
    }
}
