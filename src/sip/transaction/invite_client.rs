//! INVITE client transaction (RFC 3261 §17.1.1 with RFC 6026 §7.2).
//!
//! ```text
//!   Calling --1xx--> Proceeding --300-699--> Completed --D--> Terminated
//!      |  \--2xx--> Accepted --M--> Terminated      ^
//!      |B          Proceeding --2xx--> Accepted     |
//!      v                                    300-699 from Calling too
//!   Terminated
//! ```

use super::{Effect, T1, T1X64, TIMER_C, TIMER_D, Timer};
use crate::sip::build::MessageWriter;
use crate::sip::header::Via;
use crate::sip::message::Message;
use crate::sip::parse::{Framing, HeaderName};
use crate::sip::status::Method;
use bytes::Bytes;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum InviteClientState {
    Calling,
    Proceeding,
    Accepted,
    Completed,
}

/// One INVITE of ours.
#[derive(Debug)]
pub(crate) struct InviteClient {
    state: InviteClientState,
    request: Bytes,
    ack: Option<Bytes>,
    reliable: bool,
    interval: Duration,
    cancelled: bool,
}

impl InviteClient {
    /// Sends `request` and enters Calling.
    pub(crate) fn start(request: Bytes, reliable: bool, out: &mut Vec<Effect>) -> InviteClient {
        out.push(Effect::Send(request.clone()));
        if !reliable {
            out.push(Effect::Set(Timer::A, T1));
        }
        out.push(Effect::Set(Timer::B, T1X64));
        InviteClient {
            state: InviteClientState::Calling,
            request,
            ack: None,
            reliable,
            interval: T1,
            cancelled: false,
        }
    }

    /// The request as it was sent.
    pub(crate) fn request(&self) -> Bytes {
        self.request.clone()
    }

    /// Whether no final response has come.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.state, InviteClientState::Calling | InviteClientState::Proceeding)
    }

    /// CANCEL was sent: the final response is awaited for 64*T1, no longer (§9.1).
    pub(crate) fn cancel(&mut self, out: &mut Vec<Effect>) {
        if self.is_pending() {
            self.cancelled = true;
            out.extend([Effect::Clear(Timer::C), Effect::Set(Timer::M, T1X64)]);
        }
    }

    /// A response matched to this transaction.
    pub(crate) fn receive(&mut self, message: Message, out: &mut Vec<Effect>) {
        match (self.state, message.status()) {
            (InviteClientState::Calling | InviteClientState::Proceeding, 100..=199) => {
                if self.state == InviteClientState::Calling {
                    out.extend([Effect::Clear(Timer::A), Effect::Clear(Timer::B)]);
                }
                self.state = InviteClientState::Proceeding;
                if !self.cancelled {
                    out.push(Effect::Set(Timer::C, TIMER_C));
                }
                out.push(Effect::Deliver(message));
            }
            (InviteClientState::Calling | InviteClientState::Proceeding, 200..=299) => {
                self.state = InviteClientState::Accepted;
                out.extend([
                    Effect::Clear(Timer::A),
                    Effect::Clear(Timer::B),
                    Effect::Clear(Timer::C),
                ]);
                out.extend([Effect::Set(Timer::M, T1X64), Effect::Deliver(message)]);
            }
            (InviteClientState::Accepted, 200..=299) => out.push(Effect::Deliver(message)),
            (InviteClientState::Calling | InviteClientState::Proceeding, 300..=699) => {
                let ack = self.ack_for(&message);
                self.state = InviteClientState::Completed;
                self.ack = Some(ack.clone());
                out.extend([
                    Effect::Clear(Timer::A),
                    Effect::Clear(Timer::B),
                    Effect::Clear(Timer::C),
                ]);
                out.extend([Effect::Send(ack), Effect::Deliver(message)]);
                let wait = if self.reliable { Duration::ZERO } else { TIMER_D };
                out.push(Effect::Set(Timer::D, wait));
            }
            (InviteClientState::Completed, 300..=699) => {
                out.extend(self.ack.clone().map(Effect::Send))
            }
            _ => {}
        }
    }

    /// The ACK for a non-2xx: the INVITE's URI, From, Call-ID, top Via and Route; the response's To
    /// (§17.1.1.3).
    fn ack_for(&self, response: &Message) -> Bytes {
        let Ok(invite) = Message::parse(self.request.to_vec(), Framing::WebSocket) else {
            return Bytes::new();
        };
        let mut ack = MessageWriter::request(Method::Ack, invite.request_uri());
        let via = invite.values(HeaderName::Via).next().unwrap_or_default();
        debug_assert!(Via::parse(via).is_ok());
        ack.put(HeaderName::Via, via);
        invite.all(HeaderName::Route).for_each(|r| ack.put(HeaderName::Route, r));
        ack.put(HeaderName::MaxForwards, 70);
        ack.put(HeaderName::From, invite.header(HeaderName::From).unwrap_or_default());
        let to = if response.to().is_some() { response } else { &invite };
        ack.put(HeaderName::To, to.header(HeaderName::To).unwrap_or_default());
        ack.put(HeaderName::CallId, invite.call_id());
        ack.put(HeaderName::CSeq, format_args!("{} ACK", invite.cseq().map_or(0, |c| c.number)));
        ack.end()
    }

    /// A timer fired.
    pub(crate) fn fire(&mut self, timer: Timer, out: &mut Vec<Effect>) {
        match (self.state, timer) {
            (InviteClientState::Calling, Timer::A) => {
                self.interval *= 2;
                out.extend([
                    Effect::Send(self.request.clone()),
                    Effect::Set(Timer::A, self.interval),
                ]);
            }
            (InviteClientState::Calling, Timer::B) => out.extend([Effect::TimedOut, Effect::Done]),
            // The user cancels on this; the transaction stays for the 487 (§16.8).
            (InviteClientState::Proceeding, Timer::C) => {
                out.extend([Effect::TimedOut, Effect::Set(Timer::M, T1X64)])
            }
            (InviteClientState::Calling | InviteClientState::Proceeding, Timer::M) => {
                out.extend([Effect::TimedOut, Effect::Done])
            }
            (_, Timer::M) | (InviteClientState::Completed, Timer::D) => out.push(Effect::Done),
            _ => {}
        }
    }
}
