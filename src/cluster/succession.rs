//! Nodes that are gone, and who goes on with their calls.
//!
//! ```text
//!   lease gone --> waits --> probed --silent--> claims --granted--> takes, a few calls at a time
//!                    ^          |                  |
//!                    +--answers-+------ lives -----+--taken by another--> over
//! ```
//!
//! A lease that is gone says that the store has not heard of a node; only a probe says that nobody
//! else does either. The claim is one step of the store, so exactly one process gets the calls. It
//! waits a moment longer the more it has to do itself, so that mostly one asks; where the calls'
//! address moves with them, whoever has it now is asked first.

use super::lease::SETTLED;
use super::member::Member;
use super::store::{CALLS, CallValue, Claim, Process, StoreCommand};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long a node has to answer a probe.
const PROBE: Duration = Duration::from_secs(1);
/// Until a node that answered, or a store that did not, is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// How much later each next node claims.
const TURN: Duration = Duration::from_millis(400);
/// How long the node that gets the address of the one that is gone has for that.
const FLOATS: Duration = Duration::from_secs(5);
/// How long the calls of a lost node are left to another node that may have taken them, if the
/// store lost that fact and the node has not repeated it. After that their media is gone anyway,
/// and the store forgets them soon.
const AWAITED: Duration = Duration::from_secs(50);
/// How long the store has for an answer.
const ANSWER: Duration = Duration::from_secs(1);
/// Time for a node that took calls to say so by its lease, and for the others to read that.
const TOLD: Duration = Duration::from_millis(2_500);
/// Calls that are read at once, and how long the core has for others after them.
const BATCH: usize = 16;
const PACE: Duration = Duration::from_millis(4);
/// Names that are read of a node's calls.
const MAX_NAMES: usize = 100_000;
/// Nodes that are gone, and processes whose calls were taken, that are remembered.
const MAX_LOST: usize = 64;
pub(crate) const MAX_TAKEN: usize = 16;
/// Processes of whose calls it is known that they are not to be looked for, that are remembered.
const MAX_KNOWN: usize = 256;

/// What divides the name of a call from what the value is of it.
const PART: char = '.';
/// What the name of a process begins with whose calls were taken over: sorted before all calls, so
/// that it is written before them.
pub(super) const TOOK: char = '#';

/// What a process is called in the store by the one that took its calls over. Whoever takes those
/// learns whose they were, though it never saw a lease that says so.
pub(super) fn name_of_taken(process: &Process) -> String {
    format!("{TOOK}{}", process.mark())
}

/// Of the names of a process's calls: whose calls that process had taken, and the others.
fn told_of(names: Vec<String>) -> (Vec<Process>, Vec<String>) {
    let (took, names): (Vec<String>, Vec<String>) =
        names.into_iter().partition(|name| name.starts_with(TOOK));
    (took.iter().filter_map(|name| Process::of_mark(name.get(1..)?)).collect(), names)
}

/// The process in whose name a restarted node claims what its earlier processes left in the store:
/// no other node takes that over, and the node continues from its disk.
pub(crate) fn closed_by(node: &str) -> Process {
    Process { node: node.to_owned(), epoch: 0 }
}

/// What a node is asked by another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Probe {
    /// Names the probe in its answer.
    pub number: u64,
    /// Where the node is asked.
    pub to: SocketAddr,
    /// Whether it is this process.
    pub of: Process,
}

/// What another node asks this one, and tells it with that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PeerProbe {
    /// Whether this is that process, or follows it.
    pub of: Process,
    /// Who asks, and whether this one has its calls.
    pub by: Process,
    /// Whose calls the asker took.
    pub took: Vec<Process>,
    /// Where the asker is.
    pub from: SocketAddr,
}

/// What it answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ProbeAnswer {
    /// It is that process, and has not taken what the asker has.
    Lives,
    /// It is the next process of that node, and goes on with the calls itself.
    Succeeded,
    /// Likewise, and it does not know yet what the one before it had taken.
    Learns,
    /// It took the asker's calls over.
    Deposed,
}

/// Calls of a node that is gone, for whoever makes calls of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TakenCalls {
    /// Whose they were.
    pub of: Process,
    /// The last sign of its life.
    pub seen: Instant,
    /// Its address is here now, so that its peers need not be told anything.
    pub here: bool,
    /// By name: the value, and how old it is.
    pub values: Vec<(String, Duration, CallValue)>,
    /// These were the last.
    pub last: bool,
}

/// What comes of a turn.
#[derive(Default)]
pub(super) struct SuccessionWork {
    /// What the store is asked.
    pub commands: Vec<StoreCommand>,
    /// Nodes to be asked whether they live.
    pub probes: Vec<Probe>,
}

/// What is known at a turn.
pub(super) struct Surroundings<'a> {
    /// This process.
    pub own: Process,
    /// Where the others reach it.
    pub at: SocketAddr,
    /// The connection by which the store told of it.
    pub connection: u64,
    /// Nodes that claim before this one.
    pub before: u32,
    /// Whether an address is this machine's.
    pub has: &'a dyn Fn(IpAddr) -> bool,
    /// Whether another node may have the calls of one that was seen last then, and has not told so
    /// to a store that has lost it.
    pub awaits: &'a dyn Fn(&Member, Instant) -> bool,
}

impl Surroundings<'_> {
    /// A claim of a process's calls.
    fn claim(&self, id: u64, of: &Process, again: bool) -> StoreCommand {
        let (of, by, connection) = (of.clone(), self.own.clone(), self.connection);
        StoreCommand::Claim { id, of, by, connection, again }
    }
}

enum Stage {
    Waits(Instant),
    Probed { number: u64, until: Instant },
    Claims { id: u64, until: Instant },
    Pauses { at: Instant, left: VecDeque<String> },
    Takes { id: u64, until: Instant, left: VecDeque<String> },
}

impl Stage {
    fn due(&self) -> Instant {
        match self {
            Stage::Waits(at) | Stage::Pauses { at, .. } => *at,
            Stage::Probed { until, .. }
            | Stage::Claims { until, .. }
            | Stage::Takes { until, .. } => *until,
        }
    }
}

struct Lost {
    member: Member,
    /// When it was seen to renew last, and missed.
    seen: Instant,
    since: Instant,
    stage: Stage,
    here: bool,
    /// Some of its calls were read.
    read: bool,
    /// The connection to its node broke since it answered last.
    broke: bool,
}

/// The nodes that are gone.
pub(super) struct LostNodes {
    lost: BTreeMap<Process, Lost>,
    /// Whose calls this process took, the newest last.
    taken: Vec<Process>,
    /// Whose calls others took as far as was heard, or had none for this process, and since when
    /// that is known.
    known: BTreeMap<Process, Instant>,
    /// Whose calls this process took, as the store is to be told again: the number of the claim
    /// under way, and when it is made next.
    again: BTreeMap<Process, (Option<u64>, Instant)>,
    quiet_until: Instant,
    /// By when the lease of the node says so that took the calls of the last one.
    told_until: Option<Instant>,
}

impl LostNodes {
    pub(super) fn new(now: Instant) -> LostNodes {
        let (lost, known, again) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        LostNodes { lost, taken: Vec::new(), known, again, quiet_until: now, told_until: None }
    }

    /// The lease of a process is gone.
    pub(super) fn lost(&mut self, now: Instant, member: Member, seen: Instant) {
        let process = member.process();
        let known = self.known.get(&process).is_some_and(|since| now < *since + CALLS);
        if self.lost.len() >= MAX_LOST || self.taken.contains(&process) || known {
            return;
        }
        let stage = Stage::Waits(now);
        let lost = Lost { member, seen, since: now, stage, here: false, read: false, broke: false };
        self.lost.entry(process).or_insert(lost);
    }

    /// What others say they took, or who lives again, is nobody's to take.
    pub(super) fn settled(&mut self, process: &Process) {
        if self.lost.get(process).is_some_and(|lost| !lost.is_ours()) {
            self.lost.remove(process);
        }
    }

    /// Another node has told that it took these, which the store may have lost.
    pub(super) fn told_taken(&mut self, now: Instant, processes: &[Process]) {
        for process in processes.iter().take(MAX_TAKEN) {
            self.settled(process);
            self.know(now, process.clone());
        }
    }

    /// The calls of this process are not to be looked for, while they could be found.
    fn know(&mut self, now: Instant, process: Process) {
        self.known.retain(|_, since| now < *since + CALLS);
        if self.known.len() < MAX_KNOWN {
            self.known.entry(process).or_insert(now);
        }
    }

    /// Whether it is still to be learned what became of a process's calls, and whose it had taken.
    pub(super) fn learns_of(&self, now: Instant, process: &Process) -> bool {
        let learns = |lost: &Lost| !lost.is_ours() && now < lost.since + CALLS;
        self.lost.get(process).is_some_and(learns)
    }

    /// What the store confirmed may be lost: it is told again whose calls this process took, before
    /// anybody else claims them. What is being claimed is claimed once more.
    pub(super) fn store_changed(&mut self, now: Instant) {
        self.quiet_until = now + SETTLED;
        self.again = self.taken.iter().map(|process| (process.clone(), (None, now))).collect();
        for lost in self.lost.values_mut() {
            if matches!(lost.stage, Stage::Probed { .. } | Stage::Claims { .. }) {
                lost.stage = Stage::Waits(now);
            }
        }
    }

    /// The store cannot be asked now.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.quiet_until = self.quiet_until.max(now + AGAIN);
        for (_, due) in self.again.values_mut() {
            *due = (*due).max(now + AGAIN);
        }
    }

    /// Whether nobody has gone on with the calls of some node yet, or it is not known yet who has.
    pub(super) fn has_lost(&self, now: Instant) -> bool {
        !self.lost.is_empty() || self.told_until.is_some_and(|until| now < until)
    }

    /// Whose calls this process took.
    pub(super) fn taken(&self) -> &[Process] {
        &self.taken
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let due = self.lost.values().map(|lost| lost.stage.due()).min();
        let due = due.map(|due| due.max(self.quiet_until));
        due.into_iter().chain(self.again.values().map(|(_, due)| *due)).min()
    }

    pub(super) fn turn(
        &mut self,
        now: Instant,
        around: &Surroundings<'_>,
        next_id: &mut u64,
        work: &mut SuccessionWork,
    ) {
        for (process, (id, due)) in self.again.iter_mut().filter(|(_, (_, due))| *due <= now) {
            *next_id += 1;
            (*id, *due) = (Some(*next_id), now + ANSWER);
            // Those that are still being read are moved, as at first.
            let again = !self.lost.contains_key(process);
            work.commands.push(around.claim(*next_id, process, again));
        }
        if now < self.quiet_until {
            return;
        }
        self.lost.retain(|_, lost| now < lost.since + CALLS);
        for (process, lost) in &mut self.lost {
            if lost.stage.due() <= now {
                *next_id += 1;
                lost.go_on(now, process, around, *next_id, work);
            }
        }
    }

    pub(super) fn probed(&mut self, now: Instant, number: u64, answer: ProbeAnswer) {
        let asked =
            |lost: &&mut Lost| matches!(lost.stage, Stage::Probed { number: n, .. } if n == number);
        let Some(lost) = self.lost.values_mut().find(asked) else { return };
        // Its lease may come back, or it may be gone in earnest by then.
        let follows = matches!(answer, ProbeAnswer::Succeeded | ProbeAnswer::Learns);
        let wait = if follows { FLOATS } else { AGAIN };
        lost.broke = false;
        lost.stage = Stage::Waits(now + wait);
    }

    /// Nobody answers there. The first time it may be that the connection broke, though the node is
    /// there: it is asked once more by another one, which a process that is dead refuses at once.
    pub(super) fn unreachable(&mut self, now: Instant, at: SocketAddr) {
        for lost in self.lost.values_mut().filter(|lost| lost.member.advertise == at) {
            if let Stage::Probed { until, .. } = &mut lost.stage {
                *until = now;
                if !std::mem::replace(&mut lost.broke, true) {
                    lost.stage = Stage::Waits(now);
                }
            }
        }
    }

    /// The store has answered a claim. `node`: this one. Returns the node that has calls of an
    /// earlier process of this one, and which.
    pub(super) fn claimed(
        &mut self,
        now: Instant,
        node: &str,
        id: u64,
        answer: Result<Claim, String>,
    ) -> Option<(String, Vec<String>)> {
        if self.claimed_again(now, id, &answer) {
            return None;
        }
        let asked =
            |l: &(&Process, &mut Lost)| matches!(l.1.stage, Stage::Claims { id: n, .. } if n == id);
        let (process, lost) = self.lost.iter_mut().find(asked)?;
        let process = process.clone();
        match answer {
            Ok(Claim::Granted { names }) => {
                let (told, mut names) = told_of(names);
                names.truncate(MAX_NAMES);
                names.sort();
                let found = !names.is_empty();
                lost.stage = Stage::Pauses { at: now, left: names.into() };
                // What it took itself is ours as well: its owners may come back and ask.
                let mut ours: Vec<Process> =
                    lost.member.taken.iter().cloned().chain(told).collect();
                // Who had nothing there, or whose calls the store has lost, keeps what it has.
                ours.extend(found.then_some(process));
                self.take(ours);
            }
            Ok(Claim::Taken { by, names }) => {
                self.lost.remove(&process);
                self.told_until = Some(now + TOLD);
                let is_own = node == process.node;
                self.know(now, process);
                if is_own && by == closed_by(node).mark() {
                    self.take(told_of(names.unwrap_or_default()).0);
                } else if is_own && !self.taken.iter().any(|taken| taken.mark() == by) {
                    return Some((by.get(16..)?.to_owned(), told_of(names?).1));
                }
            }
            Ok(Claim::Lives) | Err(_) => lost.stage = Stage::Waits(now + AGAIN),
        }
        None
    }

    /// Whether this answers a claim that told the store again what it had been told. Where another
    /// has these calls by now, its lease says so.
    fn claimed_again(&mut self, now: Instant, id: u64, answer: &Result<Claim, String>) -> bool {
        let Some((process, (_, due))) = self.again.iter_mut().find(|(_, (n, _))| *n == Some(id))
        else {
            return false;
        };
        *due = now + AGAIN;
        if matches!(answer, Ok(Claim::Granted { .. } | Claim::Taken { .. })) {
            let process = process.clone();
            self.again.remove(&process);
            if let Ok(Claim::Granted { names }) = answer {
                self.still_there(&process, names);
            }
        }
        true
    }

    /// Of the calls of a process that are being read the store has lost all but these. Where it has
    /// none, and none was read, whoever had them keeps them.
    fn still_there(&mut self, process: &Process, names: &[String]) {
        let Some(lost) = self.lost.get_mut(process) else { return };
        let (Stage::Pauses { left, .. } | Stage::Takes { left, .. }) = &mut lost.stage else {
            return;
        };
        left.retain(|name| names.contains(name));
        if left.is_empty() && !lost.read {
            self.lost.remove(process);
            self.taken.retain(|taken| taken != process);
        }
    }

    /// These processes' calls are this one's.
    pub(super) fn take(&mut self, processes: Vec<Process>) {
        for process in processes {
            self.taken.retain(|taken| *taken != process);
            self.taken.push(process);
        }
        let over = self.taken.len().saturating_sub(MAX_TAKEN);
        self.taken.drain(..over);
    }

    /// Values came of the store.
    pub(super) fn read(
        &mut self,
        now: Instant,
        store: u64,
        id: u64,
        answer: Result<Vec<(String, CallValue)>, String>,
    ) -> Option<TakenCalls> {
        let asked =
            |l: &(&Process, &mut Lost)| matches!(l.1.stage, Stage::Takes { id: n, .. } if n == id);
        let (process, lost) = self.lost.iter_mut().find(asked)?;
        let Stage::Takes { left, .. } = &mut lost.stage else { return None };
        let (mut left, process) = (std::mem::take(left), process.clone());
        let Ok(values) = answer else {
            lost.stage = Stage::Pauses { at: now + AGAIN, left };
            return None;
        };
        batch(&left).into_iter().for_each(|_| drop(left.pop_front()));
        lost.read |= !values.is_empty();
        let age = |value: &CallValue| Duration::from_millis(store.saturating_sub(value.taken));
        let values = values.into_iter().map(|(name, value)| (name, age(&value), value));
        let (seen, here, last) = (lost.seen, lost.here, left.is_empty());
        let taken = TakenCalls { of: process.clone(), seen, here, values: values.collect(), last };
        if last {
            self.lost.remove(&process);
            self.know(now, process);
        } else {
            lost.stage = Stage::Pauses { at: now + PACE, left };
        }
        Some(taken)
    }
}

impl Lost {
    /// Its calls are this process's already.
    fn is_ours(&self) -> bool {
        matches!(self.stage, Stage::Pauses { .. } | Stage::Takes { .. })
    }

    /// Whether it is an earlier process of this node, where this one is now. One of this name at
    /// another machine may live, and has its own address.
    fn was_here(&self, around: &Surroundings<'_>) -> bool {
        self.member.node == around.own.node && self.member.advertise == around.at
    }

    /// When this node may claim: at once where the address is, after the others' turns elsewhere.
    fn may_claim(&mut self, around: &Surroundings<'_>) -> Instant {
        self.here = self.was_here(around) || self.member.address.is_some_and(|ip| (around.has)(ip));
        let floats = if self.member.address.is_some() { FLOATS } else { Duration::ZERO };
        let from = if self.here { self.since } else { self.since + floats + TURN * around.before };
        let awaits = (around.awaits)(&self.member, self.seen);
        if awaits { from.max(self.seen + AWAITED) } else { from }
    }

    fn go_on(
        &mut self,
        now: Instant,
        process: &Process,
        around: &Surroundings<'_>,
        id: u64,
        work: &mut SuccessionWork,
    ) {
        let (from, was_here) = (self.may_claim(around), self.was_here(around));
        match &mut self.stage {
            Stage::Waits(_) if now < from => {
                // The address may come here meanwhile, or somebody tell what it took.
                let step = if self.member.address.is_some() { AGAIN / 5 } else { AGAIN };
                self.stage = Stage::Waits(from.min(now + step));
            }
            // It is this node's earlier process, which cannot answer any more.
            Stage::Waits(_) if was_here => self.claim(now, process, around, id, work),
            Stage::Waits(_) => {
                work.probes.push(Probe {
                    number: id,
                    to: self.member.advertise,
                    of: process.clone(),
                });
                self.stage = Stage::Probed { number: id, until: now + PROBE };
            }
            Stage::Probed { .. } => self.claim(now, process, around, id, work),
            Stage::Claims { .. } => self.stage = Stage::Waits(now + AGAIN),
            Stage::Pauses { left, .. } | Stage::Takes { left, .. } => {
                let left = std::mem::take(left);
                let names = batch(&left);
                let (of, connection) = (process.clone(), around.connection);
                work.commands.push(StoreCommand::Take { id, of, connection, names });
                self.stage = Stage::Takes { id, until: now + ANSWER, left };
            }
        }
    }

    fn claim(
        &mut self,
        now: Instant,
        process: &Process,
        around: &Surroundings<'_>,
        id: u64,
        work: &mut SuccessionWork,
    ) {
        work.commands.push(around.claim(id, process, false));
        self.stage = Stage::Claims { id, until: now + ANSWER };
    }
}

/// The call a value is of.
pub(super) fn call_of(name: &str) -> &str {
    name.split(PART).next().unwrap_or(name)
}

/// The names of the first few calls; all of each.
fn batch(names: &VecDeque<String>) -> Vec<String> {
    let mut calls = 0;
    let mut before = None;
    let whole = names.iter().take_while(|name| {
        let call = call_of(name);
        if before.replace(call) != Some(call) {
            calls += 1;
        }
        calls <= BATCH
    });
    whole.cloned().collect()
}

#[cfg(test)]
mod tests;
