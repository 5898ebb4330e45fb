//! What the store has of this process's calls by an earlier name of it, closed so that nobody else
//! takes them.
//!
//! They are still its own. It had them closed when another process took its name; or the process
//! before it, whose calls it was given by an upgrade, leaves that to it. A store that is put back
//! may have lost that they were closed, and another node may take what it had of them. So such a
//! store is told again, as it is of claims. Whoever took them in the meantime keeps them. Until the
//! store has answered it is not known whose they are.

use super::inquiry::ASK;
use super::lease::Lease;
use super::ownership::MAX_FORMER;
use super::store::{CALLS, Claim, Process, StoreCommand};
use super::stored_calls::LOST;
use super::succession::closed_by;
use std::time::Instant;

/// What this process was once.
struct Closing {
    of: Process,
    /// What the store may have been told of its calls.
    names: Vec<String>,
    /// It has been another since then.
    since: Instant,
    /// The connection by which the store said last that they are closed, and when.
    said: Option<(u64, Instant)>,
    /// The claim that tells it again, by which connection, and until when.
    asks: Option<(u64, u64, Instant)>,
}

impl Closing {
    /// The store has not said it, or may have lost it, or a node says that it has these calls.
    fn is_pending(&self, lease: &Lease) -> bool {
        let said = self.said.filter(|(by, _)| Some(*by) == lease.connection());
        said.is_none() || lease.others().taker(&self.of).is_some()
    }

    /// The store said it so long before the newest renewal that no failover loses it any more.
    fn is_settled(&self, lease: &Lease) -> bool {
        let renewed = self.said.zip(lease.renewed());
        !self.is_pending(lease) && renewed.is_some_and(|((_, at), renewed)| at + LOST <= renewed)
    }

    /// Whether another node may have these calls. Of a store that is away nobody hears that it has
    /// lost what it had only just said: others may find there what it had, until that expires.
    fn is_unsure(&self, now: Instant, lease: &Lease) -> bool {
        if lease.hears_store(now) {
            self.is_pending(lease)
        } else {
            now < self.since + CALLS && !self.is_settled(lease)
        }
    }
}

/// All of these.
#[derive(Default)]
pub(super) struct Closings(Vec<Closing>);

impl Closings {
    /// This process is another from now on. `connection`: by which the store has said that what it
    /// was is closed, if it has.
    pub(super) fn add(
        &mut self,
        now: Instant,
        of: Process,
        names: Vec<String>,
        connection: Option<u64>,
    ) {
        if self.0.len() == MAX_FORMER {
            self.0.remove(0);
        }
        let said = connection.map(|connection| (connection, now));
        self.0.push(Closing { of, names, since: now, said, asks: None });
    }

    /// What this process was.
    pub(super) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.0.iter().map(|closing| &closing.of)
    }

    /// Those of which the store has said that they are closed.
    pub(super) fn said(&self) -> impl Iterator<Item = &Process> + Clone {
        let said = |closing: &&Closing| closing.said.is_some();
        self.0.iter().filter(said).map(|closing| &closing.of)
    }

    /// Whether another node may have taken any of them.
    pub(super) fn are_unsure(&self, now: Instant, lease: &Lease) -> bool {
        self.0.iter().any(|closing| closing.is_unsure(now, lease))
    }

    /// Whether the store has still to say of any that it is closed.
    pub(super) fn are_pending(&self, lease: &Lease) -> bool {
        self.0.iter().any(|closing| closing.is_pending(lease))
    }

    /// Tells the store what it does not know, or may have lost.
    pub(super) fn tell(
        &mut self,
        now: Instant,
        lease: &Lease,
        next_id: &mut u64,
        commands: &mut Vec<StoreCommand>,
    ) {
        let Some(connection) = lease.connection() else { return };
        for closing in self.0.iter_mut().filter(|closing| closing.is_pending(lease)) {
            if closing.asks.is_some_and(|(_, by, until)| by == connection && now < until) {
                continue;
            }
            *next_id += 1;
            let id = *next_id;
            closing.asks = Some((id, connection, now + ASK));
            let (of, by) = (closing.of.clone(), closing.of.clone());
            commands.push(StoreCommand::Claim { id, of, by, connection, again: true });
        }
    }

    /// Whether the store was told this.
    pub(super) fn told(&self, id: u64) -> bool {
        self.0.iter().any(|closing| closing.asks.is_some_and(|(told, ..)| told == id))
    }

    /// The store has answered. Returns the node that has taken calls of these in the meantime, and
    /// which.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        id: u64,
        answer: Result<Claim, String>,
        lease: &Lease,
    ) -> Option<(String, Vec<String>)> {
        let told = |closing: &Closing| closing.asks.is_some_and(|(told, ..)| told == id);
        let at = self.0.iter().position(told)?;
        let closing = &mut self.0[at];
        let (_, connection, _) = closing.asks?;
        let (by, names) = match answer {
            Ok(Claim::Taken { by, names }) if by != closed_by(lease.node()).mark() => {
                (by.get(16..).unwrap_or_default().to_owned(), names)
            }
            // It was taken from a store that has lost that since, too.
            Ok(Claim::Taken { .. } | Claim::Granted { .. }) => {
                (closing.said, closing.asks) = (Some((connection, now)), None);
                (lease.others().taker(&closing.of)?.to_owned(), None)
            }
            // It is told again in a moment.
            Ok(Claim::Lives) | Err(_) => return None,
        };
        let closing = self.0.remove(at);
        Some((by, names.unwrap_or(closing.names)))
    }
}
