//! Calls of this node, told to the store, so that another node goes on with them.
//!
//! As with a checkpoint on disk, only the newest value of a name is written: one that is replaced
//! while it waits never is, so what waits is bounded by the calls. A store that is new or back gets
//! everything again.

use super::store::{CallValue, CallWrite, Process, StoreCommand};
use super::write_window::WriteWindow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Values of one write.
const BATCH: usize = 64;
/// What a failover may lose though it was confirmed: so long a primary takes writes that no replica
/// hears (`min-replicas-max-lag 2`, which Redis reckons in whole seconds, once a second).
pub(super) const LOST: Duration = Duration::from_secs(4);

/// Whose values are written, and by which connection: by another, the store may have lost what they
/// belong to.
pub(super) struct Writer {
    /// The process that has the calls.
    pub owner: Process,
    /// The connection that renewed its lease last.
    pub connection: u64,
}

/// What is known of a call, and by this node's time when it was true.
#[derive(Clone, Debug)]
pub(super) struct KnownValue {
    /// The snapshot.
    pub bytes: Arc<[u8]>,
    /// When that was.
    pub at: Instant,
}

impl KnownValue {
    /// As the store is told: it was true then by its clock, which says `store` now.
    fn stamped(&self, now: Instant, store: u64) -> CallValue {
        let age = now.saturating_duration_since(self.at).as_millis() as u64;
        CallValue { taken: store.saturating_sub(age), bytes: self.bytes.clone() }
    }
}

/// The newest value of a name.
struct StoredValue {
    value: Option<KnownValue>,
    /// Counts its changes.
    number: u64,
    /// It is in a write under way.
    busy: bool,
    /// When the store was told of it first.
    told: Option<Instant>,
    /// The newest number that the store confirmed; 0: none yet.
    newest: u64,
    /// One that may be lost still, and when it was confirmed.
    settles: Option<(u64, Instant)>,
}

/// What is to be written.
#[derive(Default)]
pub(super) struct StoredCalls {
    all: BTreeMap<String, StoredValue>,
    dirty: BTreeSet<String>,
    /// Names in writes under way, with their numbers.
    writes: WriteWindow<(String, u64)>,
    /// Names that were removed since it was last certain who has these calls, and when the store
    /// first heard of the removal.
    ended: Vec<(String, Instant)>,
    /// The store may hold outdated values: the next write replaces all of them. Below: its number.
    anew: bool,
    writes_anew: Option<u64>,
    /// Names of which the store has a value, and the newest such value's number, since last asked.
    confirmed: BTreeMap<String, u64>,
    /// Names of which a confirmed value may be lost still, and when that was, oldest first: each
    /// once.
    settling: VecDeque<(Instant, String)>,
}

impl StoredCalls {
    /// The newest value of a name; nothing: it is of no use any more. Returns the value's number; 0
    /// if the store need not be told.
    pub(super) fn put(&mut self, name: &str, value: Option<KnownValue>) -> u64 {
        let unknown = |kept: &StoredValue| kept.told.is_none() && !kept.busy;
        if value.is_none() && self.all.get(name).is_none_or(unknown) {
            self.all.remove(name);
            self.dirty.remove(name);
            return 0;
        }
        let new = || StoredValue {
            value: None,
            number: 0,
            busy: false,
            told: None,
            newest: 0,
            settles: None,
        };
        let kept = self.all.entry(name.to_owned()).or_insert_with(new);
        (kept.value, kept.number) = (value, kept.number + 1);
        self.dirty.insert(name.to_owned());
        kept.number
    }

    pub(super) fn write_all_again(&mut self) {
        self.dirty.extend(self.all.keys().cloned());
        self.all.values_mut().for_each(|kept| kept.settles = None);
        self.settling.clear();
        self.anew = true;
        self.writes.end_pause();
    }

    /// Values that wait or are on their way.
    pub(super) fn waiting(&self) -> usize {
        self.dirty.len() + self.writes.items()
    }

    /// Which values the store has confirmed since the last time, by their numbers.
    pub(super) fn take_confirmed(&mut self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.confirmed).into_iter().collect()
    }

    /// The store has taken a renewal that was sent at `renewed`. What it confirmed long enough
    /// before that, no failover loses any more.
    pub(super) fn settle(&mut self, now: Instant, renewed: Instant) {
        while let Some((at, _)) = self.settling.front()
            && *at + LOST <= renewed
        {
            let Some((at, name)) = self.settling.pop_front() else { return };
            let Some(kept) = self.all.get_mut(&name) else { continue };
            let Some((number, _)) = kept.settles.take_if(|(_, since)| *since == at) else {
                continue;
            };
            if kept.newest > number {
                kept.settles = Some((kept.newest, now));
                self.settling.push_back((now, name.clone()));
            }
            self.confirmed.insert(name, number);
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.writes.next_timeout()
    }

    /// What was not answered in time is written again.
    pub(super) fn expire(&mut self, now: Instant) {
        self.writes.late(now).into_iter().for_each(|id| self.written(now, id, false));
    }

    pub(super) fn written(&mut self, now: Instant, id: u64, done: bool) {
        let Some(names) = self.writes.take(id) else { return };
        if self.writes_anew.take_if(|anew| *anew == id).is_some() && !done {
            // What was written after it may be gone with it.
            self.write_all_again();
        }
        for (name, number) in names {
            let Some(kept) = self.all.get_mut(&name) else { continue };
            kept.busy = false;
            if !done {
                self.dirty.insert(name);
                continue;
            }
            if kept.value.is_none() && kept.number == number {
                self.confirmed.remove(&name);
                self.ended.extend(kept.told.map(|told| (name.clone(), told)));
                self.all.remove(&name);
                continue;
            }
            // Before the first there is none of this process that a failover could bring back.
            if std::mem::replace(&mut kept.newest, number) == 0 {
                self.confirmed.insert(name, number);
            } else if kept.settles.is_none() {
                kept.settles = Some((number, now));
                self.settling.push_back((now, name));
            }
        }
        if !done {
            self.writes.failed(now);
        }
    }

    /// Writes what is due, as far as the window goes. `store`: what the store's clock says, or
    /// less.
    pub(super) fn write(
        &mut self,
        (now, store): (Instant, u64),
        next_id: &mut u64,
        writer: &Writer,
        commands: &mut Vec<StoreCommand>,
    ) {
        while self.writes.has_room() {
            // A name is in one write at a time, so that no older value comes after a newer.
            let free = |name: &&String| self.all.get(*name).is_none_or(|kept| !kept.busy);
            let names: Vec<String> = self.dirty.iter().filter(free).take(BATCH).cloned().collect();
            if names.is_empty() && !self.anew {
                return;
            }
            let (mut writes, mut numbers) = (Vec::new(), Vec::new());
            for name in names {
                self.dirty.remove(&name);
                let Some(kept) = self.all.get_mut(&name) else { continue };
                kept.busy = true;
                kept.told.get_or_insert(now);
                numbers.push((name.clone(), kept.number));
                let value = kept.value.as_ref().map(|value| value.stamped(now, store));
                writes.push(CallWrite { name, value });
            }
            *next_id += 1;
            let anew = std::mem::take(&mut self.anew);
            if anew {
                self.writes_anew = Some(*next_id);
            }
            let (id, owner, connection) = (*next_id, writer.owner.clone(), writer.connection);
            commands.push(StoreCommand::Keep { id, owner, connection, anew, writes });
            self.writes.begin(now, *next_id, numbers);
        }
    }

    /// A call is over: all of its names are removed.
    pub(super) fn end(&mut self, call: &str) {
        let of = self.all.range(call.to_owned()..).take_while(|(name, _)| name.starts_with(call));
        let names: Vec<String> = of.map(|(name, _)| name.clone()).collect();
        for name in names {
            if self.all.get(&name).is_some_and(|kept| kept.told.is_none()) {
                self.all.remove(&name);
                self.dirty.remove(&name);
            } else {
                self.put(&name, None);
            }
        }
    }

    /// Keeps an empty value of each of these names, and of no other that begins with `start`.
    pub(super) fn put_only(&mut self, start: char, names: &[String], at: Instant) {
        let of = self.all.range(start.to_string()..).take_while(|(n, _)| n.starts_with(start));
        let others = of.filter(|(name, kept)| kept.value.is_some() && !names.contains(name));
        let others: Vec<String> = others.map(|(name, _)| name.clone()).collect();
        for name in &others {
            self.put(name, None);
        }
        for name in names {
            if self.all.get(name).is_none_or(|kept| kept.value.is_none()) {
                self.put(name, Some(KnownValue { bytes: [].into(), at }));
            }
        }
    }

    /// Whether the store was told of a call, and did not confirm that it has forgotten it.
    pub(super) fn has(&self, call: &str) -> bool {
        let mut of =
            self.all.range(call.to_owned()..).take_while(|(name, _)| name.starts_with(call));
        of.any(|(_, kept)| kept.told.is_some())
    }

    /// Names of which the store was told before that.
    pub(super) fn told_before(&self, at: Instant) -> Vec<String> {
        let told = self.all.iter().filter(|(_, kept)| kept.told.is_some_and(|told| told < at));
        let ended = self.ended.iter().filter(|(_, told)| *told < at).map(|(name, _)| name);
        told.map(|(name, _)| name).chain(ended).cloned().collect()
    }

    /// All names of which it was told.
    pub(super) fn told(&self) -> Vec<String> {
        let told = self.all.iter().filter(|(_, kept)| kept.told.is_some());
        told.map(|(name, _)| name.clone()).collect()
    }

    /// What the store was told by now is of no use to anybody: it is told anew, if it is at all.
    pub(super) fn closed(&mut self) {
        self.all.retain(|_, kept| kept.busy || kept.value.is_some());
        self.all.values_mut().for_each(|kept| kept.told = None);
        let all = &self.all;
        self.dirty.retain(|name| all.contains_key(name));
        self.ended.clear();
    }

    /// Nobody has these calls but this process.
    pub(super) fn sure(&mut self) {
        self.ended.clear();
    }

    /// Forgets these: another node has them. What the store was told of them is removed.
    pub(super) fn forget(&mut self, names: &[String]) {
        for name in names {
            self.put(name, None);
            self.confirmed.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::write_window::{ANSWER, MAX_WRITES};
    use super::*;
    use std::sync::LazyLock;

    const MS: Duration = Duration::from_millis(1);

    fn writer() -> Writer {
        Writer { owner: Process { node: "a".into(), epoch: 1 }, connection: 1 }
    }

    fn value(n: u8) -> Option<KnownValue> {
        Some(KnownValue { bytes: vec![n].into(), at: *START })
    }

    /// The store's clock says a second.
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    const STORE: u64 = 1_000;

    fn writes(kept: &mut StoredCalls, now: Instant, id: &mut u64) -> Vec<(u64, Vec<CallWrite>)> {
        let mut commands = Vec::new();
        kept.write((now, STORE), id, &writer(), &mut commands);
        let write = |command| match command {
            StoreCommand::Keep { id, writes, .. } => (id, writes),
            other => panic!("{other:?}"),
        };
        commands.into_iter().map(write).collect()
    }

    #[test]
    fn names_that_begin_alike_are_those_that_were_given_and_written_before_all_others() {
        let (now, mut id, mut kept) = (Instant::now(), 0, StoredCalls::default());
        kept.put("0a", value(1));
        kept.put_only('#', &["#x".into(), "#y".into()], now);
        let name = |w: &CallWrite| (w.name.clone(), w.value.is_some());
        let (first, written) = writes(&mut kept, now, &mut id).remove(0);
        let written: Vec<_> = written.iter().map(name).collect();
        assert_eq!(written, [("#x".into(), true), ("#y".into(), true), ("0a".into(), true)]);
        kept.written(now, first, true);
        kept.put_only('#', &["#y".into(), "#z".into()], now);
        let (_, written) = writes(&mut kept, now, &mut id).remove(0);
        let written: Vec<_> = written.iter().map(name).collect();
        assert_eq!(written, [("#x".into(), false), ("#z".into(), true)]);
    }

    #[test]
    fn a_value_that_is_replaced_while_it_waits_is_never_written_and_a_removed_one_is_forgotten() {
        let (now, mut id, mut kept) = (*START + 40 * MS, 0, StoredCalls::default());
        for n in 0..100 {
            kept.put("x", value(n));
        }
        let first = writes(&mut kept, now, &mut id);
        assert_eq!(first.len(), 1);
        // It was true 40 ms ago.
        let value = Some(CallValue { taken: STORE - 40, bytes: [99].into() });
        assert_eq!(first[0].1, [CallWrite { name: "x".into(), value }]);
        kept.put("x", None);
        assert!(writes(&mut kept, now, &mut id).is_empty(), "one write of a name at a time");
        kept.written(now, first[0].0, true);
        assert_eq!(kept.take_confirmed(), [("x".to_owned(), 100)]);
        let last = writes(&mut kept, now, &mut id);
        let late = now + ANSWER;
        kept.expire(late);
        assert_eq!(kept.waiting(), 1, "not answered, so written again");
        kept.written(late, last[0].0, true);
        assert!(writes(&mut kept, late, &mut id).is_empty(), "in a moment");
        let again = kept.next_timeout().expect("it is due");
        assert!(again > late && again < late + ANSWER);
        kept.expire(again);
        let last = writes(&mut kept, again, &mut id);
        kept.written(again, last[0].0, true);
        assert_eq!((kept.waiting(), kept.all.len(), kept.next_timeout()), (0, 0, None));
    }

    #[test]
    fn a_value_that_replaces_another_counts_once_no_failover_can_bring_that_back() {
        let (start, mut id, mut kept) = (Instant::now(), 0, StoredCalls::default());
        let mut write = |kept: &mut StoredCalls, now: Instant, n: u8| {
            kept.put("x", value(n));
            for (write, _) in writes(kept, now, &mut id) {
                kept.written(now, write, true);
            }
        };
        let at = |ms| start + Duration::from_millis(ms);
        write(&mut kept, start, 1);
        assert_eq!(kept.take_confirmed(), [("x".to_owned(), 1)], "there is none before it");
        for ms in [100, 200, 300] {
            write(&mut kept, at(ms), 2);
        }
        kept.settle(at(4_099), at(4_099));
        assert_eq!(kept.take_confirmed(), []);
        kept.settle(at(4_500), at(4_100));
        assert_eq!(kept.take_confirmed(), [("x".to_owned(), 2)]);
        // The last of those that came meanwhile follows.
        kept.settle(at(8_499), at(8_499));
        assert_eq!(kept.take_confirmed(), []);
        kept.settle(at(8_500), at(8_500));
        assert_eq!(kept.take_confirmed(), [("x".to_owned(), 4)]);
        // What the store may have lost is confirmed anew.
        write(&mut kept, at(9_000), 5);
        kept.write_all_again();
        kept.settle(at(20_000), at(20_000));
        assert_eq!((kept.take_confirmed(), kept.settling.len()), (vec![], 0));
    }

    #[test]
    fn five_thousand_calls_are_written_in_bounded_batches() {
        let (now, mut id, mut kept) = (Instant::now(), 0, StoredCalls::default());
        for n in 0..5_000 {
            kept.put(&n.to_string(), value(0));
        }
        let mut written = 0;
        loop {
            let due = writes(&mut kept, now, &mut id);
            assert!(due.len() <= MAX_WRITES);
            if due.is_empty() {
                break;
            }
            for (id, writes) in due {
                assert!(writes.len() <= BATCH);
                written += writes.len();
                kept.written(now, id, true);
            }
        }
        assert_eq!((written, kept.take_confirmed().len(), kept.waiting()), (5_000, 5_000, 0));
    }
}
