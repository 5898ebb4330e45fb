//! Commands to a worker, and its answers.

use super::snapshot::{MediaSnapshot, NotResumed};
use crate::errors::Code;
use crate::media::player::PlaySource;
use crate::media::session::SessionEvent;
use crate::media::{EndpointSettings, LegId, Statistics};
use crate::sdp::offer_answer::Ice;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How an end is opened.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the variant's own words")]
pub enum OpenKind {
    Browser { ice: Ice },
    Trunk { nat: bool },
}

/// What a call asks of its session. `session` is the call's number.
#[derive(Debug)]
#[allow(missing_docs, reason = "of which session, and of which end of it")]
pub enum WorkerCommand {
    Open {
        session: u64,
        end: LegId,
        kind: OpenKind,
        ssrc: u32,
        cname: String,
        seed: u64,
    },
    Configure {
        session: u64,
        end: LegId,
        settings: Box<EndpointSettings>,
    },
    Bridge {
        session: u64,
        a: LegId,
        b: LegId,
    },
    /// Nothing goes to this end, and nothing of it anywhere.
    Unbridge {
        session: u64,
        end: LegId,
    },
    Play {
        session: u64,
        end: LegId,
        source: PlaySource,
    },
    Echo {
        session: u64,
        end: LegId,
        delay: Duration,
    },
    Digit {
        session: u64,
        end: LegId,
        event: u8,
        length: Duration,
    },
    /// A trunk's peer is behind NAT, and its media may come from there.
    Natted {
        session: u64,
        end: LegId,
        signalling: IpAddr,
    },
    /// A trunk's peer has answered, or was answered.
    Answered {
        session: u64,
        end: LegId,
    },
    /// What a trunk's end sends leaves by this address of ours; `None`: the kernel's choice.
    Source {
        session: u64,
        end: LegId,
        local: Option<IpAddr>,
    },
    /// A browser is asked to restart ICE with these credentials of ours, and may use them from now
    /// on.
    OfferIce {
        session: u64,
        end: LegId,
        ice: Ice,
    },
    /// Another page of a browser's is there, with these ICE credentials of ours towards it; the
    /// end stays where it is.
    Renew {
        session: u64,
        end: LegId,
        ice: Ice,
    },
    /// A browser's page is away for a while, or is back: its peer hears faint noise in the
    /// meantime.
    Away {
        session: u64,
        end: LegId,
        away: bool,
    },
    CloseEnd {
        session: u64,
        end: LegId,
    },
    Close {
        session: u64,
    },
    /// The session's snapshots are reported from now on, the first at once: a process that comes
    /// after this one continues with the newest it finds.
    Journal {
        session: u64,
    },
    /// The snapshot of this number is on record, so no older one will be found.
    Confirm {
        session: u64,
        number: u64,
    },
    /// No snapshot of the session is on record any more.
    Forgotten {
        session: u64,
    },
    /// Nobody had taken over a session of this process by then, as far as is known; `None`: it
    /// would be known at once. A record that was too old by then holds nothing back any more.
    Vouch {
        until: Option<Instant>,
    },
    /// A bug outside any session.
    #[cfg(test)]
    Panic,
}

/// A worker's queue is full.
#[derive(Clone, Copy, Debug)]
pub struct QueueFull;

/// What a session tells its call.
#[derive(Debug)]
#[allow(missing_docs, reason = "of which end, and what its type says")]
pub enum Notice {
    /// The end's own address; only the port is meaningful.
    /// `tcp`: browsers may come to that port over TCP too.
    Opened {
        end: LegId,
        address: SocketAddr,
        tcp: bool,
    },
    OpenFailed {
        end: LegId,
        code: Code,
        why: String,
    },
    Media(SessionEvent),
    EndClosed {
        end: LegId,
        statistics: Box<Statistics>,
    },
    Closed {
        statistics: Vec<(LegId, Statistics)>,
    },
    Panicked,
    /// What another process would continue with, after [`Command::Journal`]. To be kept, and
    /// [confirmed](Command::Confirm) by `session.number`.
    Snapshot(Arc<MediaSnapshot>),
    /// The session continues, from a snapshot of this age.
    Restored {
        age: Duration,
    },
    NotRestored(NotResumed),
}
