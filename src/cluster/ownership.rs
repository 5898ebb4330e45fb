//! Whether the calls of this process are still its own, as far as it can know.
//!
//! Once its lease has run out another node may have taken them. The store says so as soon as it is
//! asked, unless it has lost that; whoever has them says so too, by its lease or when it is asked.
//! A process that was deposed goes on with the rest of its calls as another one. So does one whose
//! name another process has: it has no lease, so that anybody may take what it told the store,
//! until it has had that closed.

use super::closings::Closings;
use super::inquiry::{ASK, Inquiry};
use super::lease::Lease;
use super::store::{Claim, LEASE, Process, StoreCommand};
use super::stored_calls::StoredCalls;
use super::succession::{Probe, ProbeAnswer, closed_by};
use std::net::SocketAddr;
use std::time::Instant;

/// The number of no claim: the next is sent later.
const NOT_ASKED: u64 = 0;
/// Processes this one was before it was deposed, that are remembered.
pub(super) const MAX_FORMER: usize = 16;

/// A process's claim of its own calls.
struct OwnClaim {
    id: u64,
    /// By which the store is asked, and until when.
    connection: u64,
    until: Instant,
}

/// What is known of who has this process's calls.
pub(super) struct Ownership {
    /// What the others say of that.
    inquiry: Inquiry,
    /// By when it is known that nobody had taken them.
    sure: Instant,
    /// This process was these before another node took their calls.
    pub(super) former: Vec<u64>,
    /// The claim that asks who has our calls.
    asks: Option<OwnClaim>,
    /// Since when a node says that it has them, and the store that it found none.
    doubts: Option<Instant>,
    /// This process has asked that its calls be closed, of which the store had not said that they
    /// were claimed: if it says so since, that may be why.
    closed: bool,
    /// What it had closed when it was another.
    closings: Closings,
}

impl Ownership {
    pub(super) fn new(now: Instant) -> Ownership {
        Ownership {
            inquiry: Inquiry::default(),
            sure: now,
            former: Vec::new(),
            asks: None,
            doubts: None,
            closed: false,
            closings: Closings::default(),
        }
    }

    /// Whether this process was that one, before another node took its calls.
    pub(super) fn was(&self, epoch: u64) -> bool {
        self.former.contains(&epoch)
    }

    /// Whether another node may have taken this one's calls, as far as is known.
    pub(super) fn is_unsure(&self, now: Instant, lease: &Lease) -> bool {
        let unsettled = lease.is_deposed() || lease.is_displaced();
        unsettled
            || self.closings.are_unsure(now, lease)
            || lease.is_unsure(now) && !self.is_cleared(now, lease)
    }

    /// Whether all others have said lately that they did not take this node's calls.
    fn is_cleared(&self, now: Instant, lease: &Lease) -> bool {
        self.inquiry.is_cleared(now, lease.others().met())
    }

    /// Whether another may take what this process has at any moment, or may have done so.
    pub(super) fn may_be_taken(&self, now: Instant, lease: &Lease) -> bool {
        lease.may_be_taken(now) || self.closings.are_unsure(now, lease)
    }

    /// By when it is known that nobody had taken this node's calls; `None`: it would be known now.
    pub(super) fn vouched(&mut self, now: Instant, lease: &Lease) -> Option<Instant> {
        if !self.may_be_taken(now, lease) {
            self.sure = now;
            return None;
        }
        // Who has this one's name is nobody who could be asked, and nobody is asked of what this
        // one was before.
        let knows_all = lease.is_displaced() || self.closings.are_unsure(now, lease);
        let asked = (!knows_all).then(|| lease.others().met());
        let vouched = asked.and_then(|met| self.inquiry.vouched(met));
        self.sure = self.sure.max(vouched.unwrap_or(self.sure));
        Some(self.sure)
    }

    /// Asks the store who has this process's calls, if somebody else has, and tells it what is
    /// closed.
    pub(super) fn ask_store(
        &mut self,
        now: Instant,
        lease: &Lease,
        next_id: &mut u64,
        commands: &mut Vec<StoreCommand>,
    ) {
        self.closings.tell(now, lease, next_id, commands);
        let asks = lease.is_deposed() || lease.is_displaced();
        let due = asks && self.asks.as_ref().is_none_or(|asked| asked.until <= now);
        let Some(connection) = lease.connection().filter(|_| due) else { return };
        *next_id += 1;
        let id = *next_id;
        self.asks = Some(OwnClaim { id, connection, until: now + ASK });
        self.closed |= !lease.is_deposed();
        let (of, by) = (lease.process(), lease.process());
        commands.push(StoreCommand::Claim { id, of, by, connection, again: false });
    }

    /// While the store is away, the others know whether they took this node's calls.
    pub(super) fn ask_others(
        &mut self,
        now: Instant,
        lease: &Lease,
        next_id: &mut u64,
    ) -> Vec<Probe> {
        let mut probes = Vec::new();
        match lease.is_unsure(now) {
            true => self.inquiry.ask(now, lease.others().met(), next_id, &mut probes),
            false => self.inquiry.rest(),
        }
        probes
    }

    /// Whether the store was asked this.
    pub(super) fn asked(&self, id: u64) -> bool {
        self.asks.as_ref().is_some_and(|asked| asked.id == id)
    }

    /// The store has said who took calls of ours. This process continues with the rest under a new
    /// epoch, whose numbers begin after `next`. Returns the node that took calls, and their names.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        (lease, kept): (&mut Lease, &mut StoredCalls),
        answer: Result<Claim, String>,
        next: u64,
    ) -> Option<(String, Vec<String>)> {
        let asked = self.asks.take()?;
        let parted = self.judged(now, lease, kept, answer)?;
        match &parted {
            Some((_, names)) => kept.forget(names),
            None => {
                let connection = Some(asked.connection);
                self.closings.add(now, lease.process(), kept.told(), connection);
            }
        }
        kept.closed();
        if self.former.len() == MAX_FORMER {
            self.former.remove(0);
        }
        self.former.push(lease.epoch());
        lease.begin_anew(now);
        (self.inquiry, self.doubts) = (Inquiry::from(next + 1), None);
        self.closed = false;
        parted
    }

    /// What comes of such an answer: `None` if it is to be asked once more; else who took calls and
    /// their names, if anybody did.
    fn judged(
        &mut self,
        now: Instant,
        lease: &Lease,
        kept: &StoredCalls,
        answer: Result<Claim, String>,
    ) -> Option<Option<(String, Vec<String>)>> {
        let taker = self.taker(lease);
        // What it knows no more: whoever took them found what it had been told by then.
        let all = || kept.told_before(lease.back().unwrap_or(now));
        // Who has this one's name is not asked.
        let cleared = !lease.is_displaced() && self.is_cleared(now, lease);
        let unsettled = lease.settles(now) && !cleared;
        let lost = lease.is_deposed() && !self.closed || self.inquiry.denied().is_some();
        match (answer, taker) {
            // A process that began on another machine had them closed. It has none of them, unless
            // it has lost that somebody took them.
            (Ok(Claim::Taken { by, .. }), taker) if by == closed_by(lease.node()).mark() => {
                self.nobody_took(now, taker, all, unsettled)
            }
            (Ok(Claim::Granted { .. }), taker) if taker.is_some() || !lost => {
                self.nobody_took(now, taker, all, unsettled)
            }
            // The store has lost who took them, or it is too long ago.
            (Ok(Claim::Granted { .. }), _) => Some(Some((lease.node().to_owned(), all()))),
            // Who claims them once the store has lost that they were taken finds nothing: who has
            // them says so by its lease, or when it is asked.
            (Ok(Claim::Taken { by, names: Some(names) }), taker) if names.is_empty() => {
                let by = Process::of_mark(&by).map(|process| process.node).unwrap_or_default();
                // What it says by its lease may be older than what the store says of it.
                let doubts =
                    taker.as_ref() == Some(&by) && now < *self.doubts.get_or_insert(now) + LEASE;
                if doubts || taker.is_none() && unsettled {
                    return self.asks_soon(now);
                }
                Some(Some(taker.map_or((by, Vec::new()), |taker| (taker, all()))))
            }
            (Ok(Claim::Taken { by, names }), _) => {
                let by = by.get(16..).unwrap_or_default().to_owned();
                Some(Some((by, names.unwrap_or_else(all))))
            }
            (Ok(Claim::Lives) | Err(_), _) => None,
        }
    }

    /// By the store nobody took this process's calls, and nobody does any more. Whoever says that
    /// it has them had them before the store lost that.
    fn nobody_took(
        &mut self,
        now: Instant,
        taker: Option<String>,
        all: impl FnOnce() -> Vec<String>,
        unsettled: bool,
    ) -> Option<Option<(String, Vec<String>)>> {
        match taker {
            Some(taker) => Some(Some((taker, all()))),
            None if unsettled => self.asks_soon(now),
            None => Some(None),
        }
    }

    /// The store is asked once more in a moment.
    fn asks_soon<T>(&mut self, now: Instant) -> Option<T> {
        self.asks = Some(OwnClaim { id: NOT_ASKED, connection: 0, until: now + ASK / 4 });
        None
    }

    /// Whether the store was told this of what was closed.
    pub(super) fn told(&self, id: u64) -> bool {
        self.closings.told(id)
    }

    /// The store has answered that. Returns the node that has taken calls in the meantime, and
    /// their names.
    pub(super) fn told_again(
        &mut self,
        now: Instant,
        (lease, kept): (&Lease, &mut StoredCalls),
        id: u64,
        answer: Result<Claim, String>,
    ) -> Option<(String, Vec<String>)> {
        let parted = self.closings.answered(now, id, answer, lease)?;
        kept.forget(&parted.1);
        Some(parted)
    }

    /// Whether the store may be told of calls: it has them by no other name, under which somebody
    /// else could take them.
    pub(super) fn may_write(&self, lease: &Lease) -> bool {
        !self.closings.are_pending(lease)
    }

    /// What this process was, and whose calls it has still.
    pub(super) fn former_processes(&self) -> impl Iterator<Item = &Process> {
        self.closings.processes()
    }

    /// Those by whose names nobody finds calls any more.
    pub(super) fn closed(&self) -> impl Iterator<Item = &Process> + Clone {
        self.closings.said()
    }

    /// It has calls of these names from the one before it, which was these.
    pub(super) fn follow(&mut self, now: Instant, former: Vec<Process>, names: &[String]) {
        for of in former {
            self.closings.add(now, of, names.to_vec(), None);
        }
        // What that one knew of the others may be as old.
        self.sure = now.checked_sub(LEASE).unwrap_or(now);
    }

    /// The node that says that it took this process's calls.
    fn taker(&self, lease: &Lease) -> Option<String> {
        let told = lease.taker().map(str::to_owned);
        told.or_else(|| lease.others().node_at(self.inquiry.denied()?).map(str::to_owned))
    }

    /// The node there says that it has them.
    pub(super) fn denied_by(&mut self, from: SocketAddr, lease: &mut Lease) {
        self.inquiry.deny(from);
        lease.say_deposed();
    }

    /// A node has answered a probe.
    pub(super) fn probed(
        &mut self,
        from: SocketAddr,
        number: u64,
        answer: ProbeAnswer,
        lease: &mut Lease,
    ) {
        self.inquiry.answered(from, number, answer);
        if self.inquiry.denied().is_some() {
            lease.say_deposed();
        }
    }

    /// Nobody answers there.
    pub(super) fn unreachable(&mut self, at: SocketAddr) {
        self.inquiry.unreachable(at);
    }

    /// When the others are to be asked next.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.inquiry.next_timeout()
    }
}
