//! A model of the store: what each command does, and which of what it confirmed it may forget.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use webtrunk::call::CallId;
use webtrunk::cluster::store::{
    BeatAnswer, CALLS, CLAIM, CallValue, CallWrite, Claim, FoundPointers, Keeping, LEASE,
    PointerWrite, Process, ShareGrant, ShareWish, StoreAnswer, StoreCommand, UnrenewedLease, grant,
    is_of_epoch,
};

/// Between two snapshots that it makes of what it holds, and how many it keeps.
const SNAPSHOT: Duration = Duration::from_secs(7);
const SNAPSHOTS: usize = 8;

/// What it holds.
#[derive(Clone, Default)]
struct Held {
    leases: BTreeMap<String, (String, Instant)>,
    users: BTreeMap<String, BTreeMap<String, String>>,
    /// Of each limit, what each node claims and has.
    shares: BTreeMap<String, BTreeMap<String, (u64, u64)>>,
    calls: BTreeMap<Process, CallsHeld>,
    /// By token, who used it.
    tokens: BTreeMap<u128, (u64, Instant)>,
}

impl Held {
    fn grant(&mut self, node: &str, wish: &ShareWish) -> ShareGrant {
        let (leases, shares) = (&self.leases, self.shares.entry(wish.name.clone()).or_default());
        shares.retain(|node, _| leases.contains_key(node));
        let others = shares.iter().filter(|(other, _)| *other != node);
        let (used, claims) =
            others.fold((0, 0), |(used, claims), (_, (claim, of))| (used + of, claims + claim));
        let grant = grant(wish, used, claims, leases.len() as u64);
        shares.insert(node.to_owned(), (grant.claim, wish.used));
        grant
    }

    /// Forgets what has lasted for as long as it does.
    fn expire(&mut self, now: Instant) {
        self.leases.retain(|_, (_, until)| *until > now);
        self.tokens.retain(|_, (_, until)| *until > now);
        self.calls.retain(|_, calls| calls.until.is_none_or(|until| until > now));
        for calls in self.calls.values_mut() {
            if calls.readable.is_some_and(|until| until <= now) {
                calls.values.clear();
            }
        }
    }

    /// Everything lasts for so much longer, or less long.
    fn lasts(&mut self, millis: i64) {
        let by = Duration::from_millis(millis.unsigned_abs());
        let shift = |at: &mut Instant| {
            let shorter = at.checked_sub(by).unwrap_or(*at);
            *at = if millis < 0 { shorter } else { *at + by };
        };
        self.leases.values_mut().for_each(|(_, until)| shift(until));
        self.tokens.values_mut().for_each(|(_, until)| shift(until));
        let calls = self.calls.values_mut();
        calls.flat_map(|c| [&mut c.readable, &mut c.until]).flatten().for_each(shift);
    }
}

/// What is held of a process's calls.
#[derive(Clone, Default)]
struct CallsHeld {
    values: BTreeMap<String, CallValue>,
    /// Who claimed them, and by when what was there is forgotten.
    by: Option<Process>,
    readable: Option<Instant>,
    until: Option<Instant>,
    /// There were none when they were claimed.
    none: bool,
}

#[derive(Clone, Default)]
pub(crate) struct StoreModel {
    held: Held,
    /// What a replica has: it is behind.
    replica: Held,
    replicated: Option<Instant>,
    /// Snapshots of what it held, the newest last, and what its clock was ahead by then.
    snapshots: VecDeque<(Instant, Held, i64)>,
    /// What its clock is ahead by, milliseconds.
    ahead: i64,
    /// Grows with each failover: who was connected is connected anew.
    pub(crate) generation: u64,
    /// Operations as the store counts them, leases aside.
    pub(crate) operations: usize,
    /// Writes of values of calls.
    pub(crate) kept: usize,
    /// Limits that a node asked for at most.
    pub(crate) most_wishes: usize,
}

impl StoreModel {
    pub(crate) fn carry_out(
        &mut self,
        now: Instant,
        unix: u64,
        connection: u64,
        command: StoreCommand,
    ) -> StoreAnswer {
        let due = |at: Instant| now.saturating_duration_since(at) >= Duration::from_millis(500);
        if self.replicated.is_none_or(due) {
            self.replica = self.held.clone();
            self.replicated = Some(now);
        }
        if self.snapshots.back().is_none_or(|(at, ..)| now >= *at + SNAPSHOT) {
            let over = self.snapshots.len().saturating_sub(SNAPSHOTS - 1);
            self.snapshots.drain(..over);
            self.snapshots.push_back((now, self.held.clone(), self.ahead));
        }
        self.held.expire(now);
        match command {
            StoreCommand::Beat { id, node, epoch, instead, value, unrenewed, wishes } => {
                for UnrenewedLease { node, value } in unrenewed {
                    let same = |(of, _): &(String, Instant)| *of == value;
                    if self.held.leases.get(&node).is_some_and(same) {
                        self.held.leases.remove(&node);
                    }
                }
                self.most_wishes = self.most_wishes.max(wishes.len());
                let own = Process { node: node.clone(), epoch };
                let mut calls = self.held.calls.get_mut(&own);
                let deposed = calls.as_ref().is_some_and(|calls| calls.by.is_some());
                let held = self.held.leases.get(&node).map(|(value, _)| value.clone());
                let may = |held: &String| {
                    is_of_epoch(held, epoch) || instead.is_some_and(|e| is_of_epoch(held, e))
                };
                let mut grants = Vec::new();
                if !deposed && held.as_ref().is_none_or(may) {
                    calls.iter_mut().for_each(|calls| calls.until = Some(now + CALLS));
                    self.held.leases.insert(node.clone(), (value, now + LEASE));
                    grants = wishes.iter().map(|wish| self.held.grant(&node, wish)).collect();
                }
                let leases = self.held.leases.iter();
                let leases = leases.map(|(n, (v, _))| (n.clone(), v.clone())).collect();
                let millis = (unix * 1_000).saturating_add_signed(self.ahead);
                let answer = BeatAnswer { held, leases, millis, connection, deposed, grants };
                StoreAnswer::Beat { id, answer: Ok(answer) }
            }
            StoreCommand::Write { id, writes } => {
                for PointerWrite { user, node, value } in writes {
                    let fields = self.held.users.entry(user).or_default();
                    match value {
                        Some(value) => {
                            self.operations += 2;
                            fields.insert(node, value);
                        }
                        None => {
                            self.operations += 1;
                            fields.remove(&node);
                        }
                    }
                }
                StoreAnswer::Written { id, answer: Ok(()) }
            }
            StoreCommand::Spend { id, token, mark, lasts } => {
                let (by, _) = self.held.tokens.entry(token).or_insert((mark, now + lasts));
                StoreAnswer::Spent { id, answer: Ok(*by == mark) }
            }
            calls => self.of_calls(now, connection, calls),
        }
    }

    /// Carries out what is about calls.
    fn of_calls(&mut self, now: Instant, connection: u64, command: StoreCommand) -> StoreAnswer {
        if command.only_by().is_some_and(|by| by != connection) {
            return command.refused("the connection is another");
        }
        match command {
            StoreCommand::Keep { id, owner, anew, writes, .. } => {
                self.kept += 1;
                let calls = self.held.calls.entry(owner).or_default();
                if calls.by.is_some() {
                    return StoreAnswer::Kept { id, answer: Ok(Keeping::Deposed) };
                }
                if writes.iter().any(|write| write.value.is_some()) {
                    calls.until = Some(now + CALLS);
                }
                if anew {
                    calls.values.clear();
                }
                for CallWrite { name, value } in writes {
                    match value {
                        Some(value) => drop(calls.values.insert(name, value)),
                        None => drop(calls.values.remove(&name)),
                    }
                }
                StoreAnswer::Kept { id, answer: Ok(Keeping::Kept) }
            }
            StoreCommand::Claim { id, of, by, again, .. } => {
                let lease = self.held.leases.get(&of.node).filter(|(_, until)| *until > now);
                let lives = lease.is_some_and(|(value, _)| is_of_epoch(value, of.epoch));
                let lives = lives && of != by;
                let calls = self.held.calls.entry(of).or_default();
                let names: Vec<String> = calls.values.keys().cloned().collect();
                let known = calls.none || !names.is_empty();
                let answer = match &calls.by {
                    Some(owner) if *owner != by => {
                        Claim::Taken { by: owner.mark(), names: known.then_some(names) }
                    }
                    Some(_) => Claim::Granted { names },
                    None if lives => Claim::Lives,
                    None => {
                        let lasts = if again { CLAIM - CALLS } else { CLAIM };
                        (calls.by, calls.until) = (Some(by), Some(now + lasts));
                        calls.readable = Some(now + CALLS);
                        calls.none = names.is_empty() && !again;
                        if again {
                            calls.values.clear();
                        }
                        Claim::Granted { names: if again { Vec::new() } else { names } }
                    }
                };
                StoreAnswer::Claimed { id, answer: Ok(answer) }
            }
            StoreCommand::Take { id, of, names, .. } => {
                let claimed = self.held.calls.get(&of).filter(|calls| calls.by.is_some());
                let values = claimed.map(|calls| &calls.values);
                let value = |name: String| Some((name.clone(), values?.get(&name)?.clone()));
                let values = names.into_iter().filter_map(value).collect();
                StoreAnswer::Taken { id, answer: Ok(values) }
            }
            StoreCommand::Beat { .. } | StoreCommand::Write { .. } | StoreCommand::Spend { .. } => {
                unreachable!("it is not")
            }
        }
    }

    pub(crate) fn find(&self, user: &str) -> FoundPointers {
        let fields = self.held.users.get(user).into_iter().flatten();
        fields.map(|(node, value)| (node.clone(), value.clone())).collect()
    }

    /// Calls that a process claimed of others.
    pub(crate) fn claimed_by(&self, mark: &str) -> Vec<CallId> {
        let by = |calls: &&CallsHeld| calls.by.as_ref().is_some_and(|by| by.mark() == mark);
        let names = self.held.calls.values().filter(by).flat_map(|calls| calls.values.keys());
        names.filter_map(|name| u64::from_str_radix(name, 16).ok()).map(CallId).collect()
    }

    /// It loses what it has of the call whose name is the last.
    pub(crate) fn lose_last_call(&mut self) {
        let names = self.held.calls.values().flat_map(|calls| calls.values.keys());
        let last = names.filter_map(|name| name.split('.').next()).max().map(str::to_owned);
        let last = last.expect("there is a call");
        for calls in self.held.calls.values_mut() {
            calls.values.retain(|name, _| !name.starts_with(&last));
        }
    }

    /// It loses who took the calls of whom, and still has these.
    pub(crate) fn lose_claims(&mut self) {
        for calls in self.held.calls.values_mut() {
            (calls.by, calls.readable, calls.none) = (None, None, false);
        }
        self.replica = self.held.clone();
        self.generation += 1;
    }

    /// A replica takes over: what was confirmed since it last heard is lost.
    pub(crate) fn fail_over(&mut self) {
        self.held = self.replica.clone();
        self.generation += 1;
    }

    /// Its clock is set: what expires then does so by that clock.
    pub(crate) fn set_clock(&mut self, now: Instant, by: i64) {
        self.ahead += by;
        let all = self.snapshots.iter_mut().map(|(_, held, _)| held);
        for held in all.chain([&mut self.held, &mut self.replica]) {
            held.expire(now);
            held.lasts(-by);
        }
    }

    /// It is started again with what it held a while ago: the newest snapshot but so many. `clock`:
    /// and its clock goes on from then, as that of a machine that is put back as a whole.
    pub(crate) fn restore(&mut self, now: Instant, back: usize, clock: bool) {
        let at = self.snapshots.len().saturating_sub(1 + back);
        let Some((taken, held, ahead)) = self.snapshots.get(at).cloned() else { return };
        // A process that begins knows no snapshot but the one it began with.
        self.snapshots.clear();
        (self.held, self.replica) = (held.clone(), held);
        self.generation += 1;
        if clock {
            let since = now.saturating_duration_since(taken).as_millis() as i64;
            // What it held lasts for as long as it did then.
            let by = ahead - self.ahead - since;
            self.ahead += by;
            [&mut self.held, &mut self.replica].into_iter().for_each(|held| held.lasts(-by));
        }
    }

    /// It is started again without its data.
    pub(crate) fn forget(&mut self) {
        (self.held, self.replica) = (Held::default(), Held::default());
        self.snapshots.clear();
        self.generation += 1;
    }
}
