//! Where a trunk's media goes and comes from (media rule 5): the announced address, unless the
//! trunk is known to be behind NAT.
//!
//! Behind NAT an address may be learned from packets, within 3 s of a description or of the answer:
//! another port of the announced IP, or the IP of signalling if that is allowed. An announced
//! address that has not sent anything itself gets 5 packets at most, and one that sends wins, then
//! and later.

use super::snapshot::{Offset, Resumed, offset};
use crate::address::is_public;
use crate::rtp::packet::Packet;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long after a description, or the answer, an address may be learned.
const WINDOW: Duration = Duration::from_secs(3);
/// Packets in a row that settle a learned address; at most 5 by the rule.
const LEARN_AFTER: u8 = 3;
/// Packets an announced address gets that has sent nothing.
const UNPROVED: u8 = 5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LatchState {
    /// The default: the announced address and nothing else.
    Strict,
    /// `run` packets in a row came from `from`.
    Open { from: Option<SocketAddr>, ssrc: u32, sequence: u16, run: u8 },
    /// Media came from the announced address, or another one was learned.
    Locked,
}

const OPEN: LatchState = LatchState::Open { from: None, ssrc: 0, sequence: 0, run: 0 };

/// Address learning of one trunk end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Latching {
    state: LatchState,
    announced: Option<SocketAddr>,
    /// Where a peer behind NAT may send from too.
    signalling: Option<IpAddr>,
    /// Nothing is learned after this.
    until: Option<Instant>,
    /// Packets the announced address may still get; `None`: it has proved itself, or need not.
    left: Option<u8>,
}

/// What a successor keeps of it; packets counted toward another address are not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct LatchingSnapshot {
    state: StateSnapshot,
    announced: Option<SocketAddr>,
    signalling: Option<IpAddr>,
    until: Option<Offset>,
    left: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum StateSnapshot {
    Strict,
    Open,
    Locked,
}

impl Latching {
    /// `nat`: a port within the announced IP may be learned.
    pub(super) fn new(nat: bool) -> Latching {
        let state = if nat { OPEN } else { LatchState::Strict };
        Latching { state, announced: None, signalling: None, until: None, left: None }
    }

    /// The peer's media may come from where its signalling does, too.
    pub(super) fn behind_nat(&mut self, signalling: IpAddr) {
        self.signalling = Some(signalling.to_canonical());
        if self.state == LatchState::Strict {
            self.state = OPEN;
        }
    }

    /// A description names `announced`.
    pub(super) fn on_description(&mut self, now: Instant, announced: SocketAddr) {
        self.announced = Some(announced);
        if self.state == LatchState::Strict {
            return;
        }
        self.state = OPEN;
        self.until = Some(now + WINDOW);
        let ip = announced.ip().to_canonical();
        // Nothing is sent into somebody's inner network before something came.
        let inner = self.signalling.is_some_and(|s| ip != s && !is_public(ip));
        self.left = Some(if inner { 0 } else { UNPROVED });
    }

    /// Nobody could be heard for `stall`: what came meanwhile is still to be read.
    pub(super) fn overslept(&mut self, stall: Duration) {
        self.until = self.until.map(|at| at + stall);
    }

    /// The dialog is answered: many send nothing before.
    pub(super) fn on_answer(&mut self, now: Instant) {
        if matches!(self.state, LatchState::Open { .. }) {
            self.until = Some(now + WINDOW);
        }
    }

    /// Whether media from `from` is looked at, while media goes to `target`.
    pub(super) fn admits(&self, now: Instant, target: SocketAddr, from: SocketAddr) -> bool {
        if from == target || self.is_announced(from) {
            return true;
        }
        let near = self.announced.is_some_and(|a| a.ip() == from.ip())
            || self.signalling == Some(from.ip());
        let open = matches!(self.state, LatchState::Open { .. });
        open && near && self.until.is_some_and(|until| now < until)
    }

    /// A packet came from where media goes, or from the announced address: that is settled.
    pub(super) fn confirm(&mut self) {
        if !matches!(self.state, LatchState::Strict) {
            self.state = LatchState::Locked;
        }
        self.left = None;
    }

    /// Takes a packet from `from`, which is admitted and not where media goes. Returns whether it
    /// is now.
    pub(super) fn observe(&mut self, from: SocketAddr, packet: &Packet) -> bool {
        if self.is_announced(from) {
            self.confirm();
            return true;
        }
        let LatchState::Open { from: candidate, ssrc, sequence, run } = &mut self.state else {
            return false;
        };
        let rising = (packet.sequence.wrapping_sub(*sequence) as i16) > 0;
        let next = *candidate == Some(from) && *ssrc == packet.ssrc && rising;
        *run = if next { *run + 1 } else { 1 };
        (*candidate, *ssrc, *sequence) = (Some(from), packet.ssrc, packet.sequence);
        let learned = *run >= LEARN_AFTER;
        if learned {
            self.state = LatchState::Locked;
            self.left = None;
        }
        learned
    }

    /// The announced peer has sent something that teaches no address, such as RTCP.
    pub(super) fn prove(&mut self) {
        self.left = None;
    }

    /// Whether the announced address may get a packet more.
    pub(super) fn may_send(&self) -> bool {
        self.left != Some(0)
    }

    /// A packet was sent.
    pub(super) fn on_sent(&mut self) {
        self.left = self.left.map(|left| left.saturating_sub(1));
    }

    pub(super) fn snapshot(&self, taken: Instant) -> LatchingSnapshot {
        LatchingSnapshot {
            state: match self.state {
                LatchState::Strict => StateSnapshot::Strict,
                LatchState::Open { .. } => StateSnapshot::Open,
                LatchState::Locked => StateSnapshot::Locked,
            },
            announced: self.announced,
            signalling: self.signalling,
            until: self.until.map(|until| offset(taken, until)),
            left: self.left,
        }
    }

    pub(super) fn resume(from: LatchingSnapshot, times: Resumed) -> Latching {
        Latching {
            state: match from.state {
                StateSnapshot::Strict => LatchState::Strict,
                StateSnapshot::Open => OPEN,
                StateSnapshot::Locked => LatchState::Locked,
            },
            announced: from.announced,
            signalling: from.signalling,
            until: from.until.map(|until| times.at(until)),
            left: from.left,
        }
    }

    fn is_announced(&self, from: SocketAddr) -> bool {
        self.announced == Some(from)
    }
}
