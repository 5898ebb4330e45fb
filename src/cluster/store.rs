//! What is asked of the store, and what it answers. Each command may be carried out twice.

#![allow(missing_docs, reason = "fields that their types explain")]

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// A lease that is not renewed is gone after this long: the calls of a node that is lost are to be
/// without media for three seconds at most, and one renewal may be missed.
pub const LEASE: Duration = Duration::from_millis(2_500);
/// What a user's pointers are kept for at most: longer than any registration.
pub const POINTERS: Duration = Duration::from_secs(3_700);
/// What a node that is gone had written of its calls is kept for so long after its last renewal.
pub const CALLS: Duration = Duration::from_secs(60);
/// How long it is known who took a node's calls over.
pub const CLAIM: Duration = Duration::from_secs(3_600);
/// The longest value that is read.
pub const MAX_VALUE: usize = 16_384;
/// Most nodes of a cluster, and most values of one user.
pub const MAX_NODES: usize = 64;

/// A command to the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreCommand {
    /// Renews the lease of `node` for [`LEASE`] by `value`, unless another epoch has it, and lists
    /// all leases. A value begins with its epoch, 16 hexadecimal digits. `instead`: what the
    /// process was before another took its calls, whose lease it goes on with. Grants each wish
    /// what of its limit the others do not claim: what is used, and an equal part of the rest.
    /// Before that it removes the leases of `unrenewed` that are still as they are there.
    Beat {
        id: u64,
        node: String,
        epoch: u64,
        instead: Option<u64>,
        value: String,
        unrenewed: Vec<UnrenewedLease>,
        wishes: Vec<ShareWish>,
    },
    /// Writes what users have at a node.
    Write { id: u64, writes: Vec<PointerWrite> },
    /// Writes values of calls of a process, unless another has [claimed](Self::Claim) these.
    /// `anew`: and nothing else is true of them, whatever the store still has. Refused by another
    /// connection than `connection`: the store may have lost what these values belong to.
    Keep { id: u64, owner: Process, connection: u64, anew: bool, writes: Vec<CallWrite> },
    /// Makes `by` the owner of all calls of a process, unless another is already. One that still
    /// has its lease keeps them, unless it asks itself: then nobody else gets them any more.
    /// Refused by another connection than `connection`: the store may have lost who took what
    /// since. `again`: it was told so before; what it may still have of them is of no use, nor what
    /// it would say of which they were.
    Claim { id: u64, of: Process, by: Process, connection: u64, again: bool },
    /// Reads values of calls of a process that were claimed. Likewise refused by another
    /// connection, for there may be none of them any more.
    Take { id: u64, of: Process, connection: u64, names: Vec<String> },
    /// Notes that a token which is good for one login was used, by `mark`, unless another has used
    /// it; forgotten after `lasts`.
    Spend { id: u64, token: u128, mark: u64, lasts: Duration },
}

/// A process of a node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Process {
    /// The name of its node.
    pub node: String,
    /// Tells it from other processes of the node.
    pub epoch: u64,
}

/// A value of a call; `None` removes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallWrite {
    /// The value's name.
    pub name: String,
    /// The value; `None` removes it.
    pub value: Option<CallValue>,
}

/// What is kept of a call. It holds keys: it is sealed on its way to the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallValue {
    /// By the store's clock, milliseconds since 1970: not later than when it was true.
    pub taken: u64,
    /// The snapshot, sealed.
    pub bytes: Arc<[u8]>,
}

/// A lease that was not renewed for so long that it is over, whatever the store's clock says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnrenewedLease {
    /// Whose it is.
    pub node: String,
    /// What it said all the time.
    pub value: String,
}

/// What a node would have of a limit that holds for all nodes together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShareWish {
    /// The limit's name.
    pub name: String,
    /// What all nodes may have together.
    pub limit: u64,
    /// What it has.
    pub used: u64,
}

/// What a node may have of such a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShareGrant {
    /// What the node may have, what it has included.
    pub claim: u64,
    /// What the others have.
    pub others: u64,
}

/// What a node is granted, of what the others have and claim; `nodes` there are.
pub fn grant(wish: &ShareWish, others_used: u64, others_claim: u64, nodes: u64) -> ShareGrant {
    let free = wish.limit.saturating_sub(others_claim).saturating_sub(wish.used);
    ShareGrant { claim: wish.used + free.div_ceil(nodes.max(1)), others: others_used }
}

/// What a user has at a node: one field of the user's entry. `None` removes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PointerWrite {
    /// The user.
    pub user: String,
    /// The node.
    pub node: String,
    /// What the user has there; `None` removes it.
    pub value: Option<String>,
}

/// An answer of the store, or why there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreAnswer {
    Beat {
        id: u64,
        answer: Result<BeatAnswer, String>,
    },
    Written {
        id: u64,
        answer: Result<(), String>,
    },
    Kept {
        id: u64,
        answer: Result<Keeping, String>,
    },
    Claimed {
        id: u64,
        answer: Result<Claim, String>,
    },
    Taken {
        id: u64,
        answer: Result<Vec<(String, CallValue)>, String>,
    },
    /// Whether the token was nobody else's.
    Spent {
        id: u64,
        answer: Result<bool, String>,
    },
}

/// What came of a [`Keep`](StoreCommand::Keep).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keeping {
    Kept,
    /// Another node has these calls.
    Deposed,
}

/// What came of a [`Claim`](StoreCommand::Claim).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// It has its lease.
    Lives,
    /// They are `by`'s: what there is of them, by name.
    Granted { names: Vec<String> },
    /// Another took them before: the process, and what it took; `None`: that is not known any more.
    Taken { by: String, names: Option<Vec<String>> },
}

impl StoreCommand {
    /// The connection to the store by which alone it is carried out, if that matters.
    pub fn only_by(&self) -> Option<u64> {
        match self {
            StoreCommand::Keep { connection, .. }
            | StoreCommand::Claim { connection, .. }
            | StoreCommand::Take { connection, .. } => Some(*connection),
            StoreCommand::Beat { .. } | StoreCommand::Write { .. } | StoreCommand::Spend { .. } => {
                None
            }
        }
    }

    /// The answer of a store that cannot be asked.
    pub fn refused(&self, why: &str) -> StoreAnswer {
        let why = why.to_owned();
        match *self {
            StoreCommand::Beat { id, .. } => StoreAnswer::Beat { id, answer: Err(why) },
            StoreCommand::Write { id, .. } => StoreAnswer::Written { id, answer: Err(why) },
            StoreCommand::Keep { id, .. } => StoreAnswer::Kept { id, answer: Err(why) },
            StoreCommand::Claim { id, .. } => StoreAnswer::Claimed { id, answer: Err(why) },
            StoreCommand::Take { id, .. } => StoreAnswer::Taken { id, answer: Err(why) },
            StoreCommand::Spend { id, .. } => StoreAnswer::Spent { id, answer: Err(why) },
        }
    }
}

impl Process {
    /// As text: what a claim is marked with.
    pub fn mark(&self) -> String {
        format!("{:016x}{}", self.epoch, self.node)
    }

    /// Returns the process that such a text names, or `None` if it names none.
    pub fn of_mark(mark: &str) -> Option<Process> {
        let (epoch, node) = mark.split_at_checked(16)?;
        Some(Process { node: node.to_owned(), epoch: u64::from_str_radix(epoch, 16).ok()? })
    }
}

/// What the store knows of leases.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BeatAnswer {
    /// The lease as it was before; `None` if there was none.
    pub held: Option<String>,
    /// All leases that live, by node, after it.
    pub leases: Vec<(String, String)>,
    /// The store's clock, milliseconds since 1970.
    pub millis: u64,
    /// Which connection to the store it came by: after another, writes may be lost.
    pub connection: u64,
    /// Another process took over what this one had.
    pub deposed: bool,
    /// One for each wish, unless another process has the lease.
    pub grants: Vec<ShareGrant>,
}

/// What was found of a user: by node, the value it wrote.
pub type FoundPointers = Vec<(String, String)>;

/// What was found of several users, by user, or why nothing can be.
pub type LocatedUsers = Result<Vec<(String, FoundPointers)>, String>;

/// Whether a lease with this value may be renewed by `epoch`.
pub fn is_of_epoch(value: &str, epoch: u64) -> bool {
    value.starts_with(&format!("{epoch:016x}"))
}
