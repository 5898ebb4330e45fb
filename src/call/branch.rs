//! One INVITE of ours towards a trunk or a browser, from its media end to its final response.
//!
//! ```text
//!   Opening --opened--> Resolving --address--> Calling --1xx--> Early --200--> Answered
//!      |                   |                     | \--401/407--> Calling (once)   |
//!      |                   |                     v              v                 v
//!      +-------------------+------------> Cancelling -----> Over <----- BYE ------+
//! ```
//! Every give-up of ours ends in CANCEL or BYE; a 200 that comes after it is acknowledged and hung
//! up. A proxy beyond us may fork: each To tag is an early dialog of its own ([`EarlyDialog`]).

use super::leg::Leg;
use super::retries::Retries;
use crate::cdr::Tried;
use crate::pace::Pace;
use crate::registrar::Way;
use crate::sip::capabilities::Capabilities;
use crate::sip::dialog::Dialog;
use crate::sip::digest::Answering;
use crate::sip::transaction::{ClientId, Hop};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Instant;

/// Whom a branch tries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum BranchTarget {
    Trunk {
        name: String,
        number: String,
    },
    /// `path`: Route values towards it (RFC 3327).
    User {
        name: String,
        contact: String,
        path: Vec<String>,
    },
    /// The other half of two joined calls.
    Joined,
}

impl fmt::Display for BranchTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BranchTarget::Trunk { name, .. } => write!(f, "trunk:{name}"),
            BranchTarget::User { name, .. } => write!(f, "user:{name}"),
            BranchTarget::Joined => f.write_str("another call"),
        }
    }
}

/// Where a branch stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BranchState {
    Opening,
    Resolving,
    Calling,
    Early,
    Answered,
    /// Given up; a final response, or the transaction's end, is awaited.
    Cancelling,
    Over,
}

/// An early dialog of a branch (RFC 3261 §12.1, §13.2.2.4).
pub(crate) struct EarlyDialog {
    /// Its dialog.
    pub dialog: Dialog,
    /// The last reliable provisional response taken (RFC 3262 §4).
    pub rseq: Option<u32>,
    /// How many were taken, up to [`MAX_RELIABLE`].
    pub reliable: u8,
    /// The SDP it gave last.
    pub body: Option<Vec<u8>>,
    /// What the peer of this dialog can do.
    pub peer: Capabilities,
}

/// Most early dialogs of one INVITE.
pub(crate) const MAX_EARLY_DIALOGS: usize = 16;
/// Most reliable provisional responses of one early dialog that are acknowledged.
pub(crate) const MAX_RELIABLE: u8 = 100;

/// A branch.
pub(crate) struct Branch {
    /// Names the branch within its call; also the number of its media endpoint.
    pub id: u16,
    /// Whom it calls.
    pub target: BranchTarget,
    /// How far it has come.
    pub state: BranchState,
    /// Its leg.
    pub leg: Leg,
    /// Hops that have not been tried.
    pub(super) hops: VecDeque<Hop>,
    /// How many hops there were, to share the time between them.
    pub(super) hops_found: u32,
    /// The Call-ID of its INVITE.
    pub(super) call_id: String,
    /// The CSeq of its newest INVITE.
    pub(super) cseq: u32,
    /// The transaction of its newest INVITE.
    pub(super) client: Option<ClientId>,
    /// The INVITE as sent, for CANCEL.
    pub(super) invite: Bytes,
    /// The description its INVITE offers; empty for a delayed offer.
    pub(super) offer: String,
    /// The answer we gave to a delayed offer: in the PRACK, or in the ACK.
    pub(super) late_answer: Option<String>,
    /// Credentials for the peer's challenges.
    pub(super) answering: Answering,
    /// Seconds of the session timer asked for after a 422 (RFC 4028 §7.4).
    pub(super) session_wish: Option<u32>,
    /// How often each of its refusals was answered by another INVITE.
    pub(super) retries: Retries,
    /// It was moved to TCP for its length once already.
    pub(super) moved_to_tcp: bool,
    /// It is to be cancelled once a provisional response has come (RFC 3261 §9.1).
    pub(super) cancel_when_possible: bool,
    /// When it began.
    pub(super) started: Instant,
    /// When it first rang.
    pub(super) rang: Option<Instant>,
    /// The newest INVITE had a final response other than 2xx.
    pub(super) refused: bool,
    /// Its provisional responses in this second that were told.
    pub(super) told: Pace,
    /// Early dialogs, one per To tag; at most [`MAX_EARLY_DIALOGS`].
    pub(super) early_dialogs: Vec<EarlyDialog>,
    /// ACKs by the To tag of the 2xx they answer, sent again when it comes again.
    pub(super) acks: HashMap<String, Bytes>,
    /// Other ways to the same phone, tried when this one is dead (RFC 5626 §5.3).
    pub(super) alternates: Vec<Way>,
    /// The Max-Breadth of its INVITE (RFC 5393 §5.3.3).
    pub(super) breadth: u32,
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.target, self.state)
    }
}

impl Branch {
    /// A branch whose media end is being opened.
    pub(super) fn new(id: u16, target: BranchTarget, leg: Leg, now: Instant) -> Branch {
        Branch {
            id,
            target,
            state: BranchState::Opening,
            leg,
            hops: VecDeque::new(),
            hops_found: 1,
            call_id: String::new(),
            cseq: 0,
            client: None,
            invite: Bytes::new(),
            offer: String::new(),
            late_answer: None,
            answering: Answering::default(),
            session_wish: None,
            retries: Retries::default(),
            moved_to_tcp: false,
            cancel_when_possible: false,
            started: now,
            rang: None,
            refused: false,
            told: Pace::default(),
            early_dialogs: Vec::new(),
            acks: HashMap::new(),
            alternates: Vec::new(),
            breadth: 1,
        }
    }

    /// The Call-ID of its dialog.
    pub(crate) fn call_id(&self) -> &str {
        &self.call_id
    }

    /// What peers know it by.
    pub(super) fn names(&self) -> Vec<String> {
        self.leg.tags().chain([&self.call_id]).cloned().collect()
    }

    /// What became of it, for the record; no `status` if it was given up.
    pub(super) fn tried(&self, now: Instant, status: Option<u16>) -> Tried {
        let since = |at: Instant| at.saturating_duration_since(self.started);
        Tried {
            target: self.leg.party.clone(),
            status,
            ms: since(now).as_millis() as u64,
            rang: self.rang.map(since),
            refused: self.refused,
        }
    }

    /// Nothing more is expected of it or owed to it.
    pub(super) fn over(&mut self) {
        self.state = BranchState::Over;
    }

    /// Whether an INVITE of it may still get a response.
    pub(crate) fn has_transaction(&self) -> bool {
        self.client.is_some() && self.state != BranchState::Over
    }

    /// Whether it still counts for the current step.
    pub(crate) fn is_trying(&self) -> bool {
        matches!(
            self.state,
            BranchState::Opening
                | BranchState::Resolving
                | BranchState::Calling
                | BranchState::Early
        )
    }

    /// The early dialog with this To tag.
    pub(super) fn early_dialog_mut(&mut self, tag: &str) -> Option<&mut EarlyDialog> {
        self.early_dialogs.iter_mut().find(|f| f.dialog.id.remote_tag == tag)
    }
}
