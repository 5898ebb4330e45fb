//! Keeps records until the place they go to has taken them: in memory, and in the spool if that is
//! not enough or the place fails. Whoever hands a record over waits for nothing.
//!
//! Records are numbered as they are handed over, and written in that order. In memory are the
//! oldest and the newest; those between them, once there are too many, only in the spool.

use crate::errors::Code;
use crate::state::spool::{self, Item, Spool};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Records of each end that may be in memory, some 10 MB.
const MEMORY: usize = 5_000;
/// Records written at once.
const BATCH: usize = 512;
/// Between two tries of a place that fails, or of a spool that does.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1_000 });
/// A place that has not answered for this long fails.
const STUCK: Duration = Duration::from_secs(2);
/// How long the end waits for a place that hangs.
const LAST: Duration = Duration::from_secs(5);

/// Where records go. One thread calls it, and may be held up by it for as long as it likes.
pub(super) trait RecordSink: Send + 'static {
    /// Writes records, or none of them. One that was written before, by its id, is not doubled.
    fn write(&mut self, records: &[Item]) -> anyhow::Result<()>;

    /// Nothing more is to be written for now.
    fn rest(&mut self) {}

    /// The file may be another one now.
    fn reopen(&mut self) {}
}

/// A record that has been handed over.
pub(super) trait Handed: Send + Sync + 'static {
    /// What a receiver knows it by.
    fn id(&self) -> String;
    fn text(&self) -> String;
}

/// What is counted of a place.
#[derive(Clone, Default)]
pub(super) struct KeeperCounts {
    /// Records that wait to be written.
    pub(super) waiting: Gauge,
    /// Records that were given up.
    pub(super) dropped: Counter,
}

/// A record in memory. What keeps it elsewhere goes with the last of these.
#[derive(Clone)]
struct KeptRecord {
    number: u64,
    handed: Arc<dyn Handed>,
    spooled: bool,
}

impl KeptRecord {
    fn item(&self) -> Item {
        Item { number: self.number, id: self.handed.id(), text: self.handed.text() }
    }
}

/// What an earlier process, or this one, left in the spool.
impl Handed for Item {
    fn id(&self) -> String {
        self.id.clone()
    }
    fn text(&self) -> String {
        self.text.clone()
    }
}

#[derive(Default)]
struct Pending {
    next: u64,
    /// With the writer.
    in_hand: Vec<KeptRecord>,
    front: VecDeque<KeptRecord>,
    /// Only in the spool, between `front` and `tail`.
    between: usize,
    tail: VecDeque<KeptRecord>,
    failing: bool,
    /// Since when the writer has had what is in hand.
    since: Option<Instant>,
    /// The last that was written.
    done: u64,
    /// Dropped since it was last said.
    dropped: usize,
    reopen: bool,
    over: bool,
    /// The writer writes nothing more: what is left is spooled or lost.
    last: bool,
}

impl Pending {
    fn len(&self) -> usize {
        self.in_hand.len() + self.front.len() + self.between + self.tail.len()
    }

    fn push(&mut self, handed: Arc<dyn Handed>, bound: usize) -> bool {
        self.next += 1;
        let kept = KeptRecord { number: self.next, handed, spooled: false };
        let straight = self.between == 0 && self.tail.is_empty() && self.front.len() < MEMORY;
        if straight {
            self.front.push_back(kept);
        } else if self.tail.len() < MEMORY && self.len() < bound {
            self.tail.push_back(kept);
        } else {
            self.dropped += 1;
            return false;
        }
        true
    }

    fn in_memory(&self) -> impl Iterator<Item = &KeptRecord> {
        self.in_hand.iter().chain(&self.front).chain(&self.tail)
    }

    /// What belongs in the spool: everything while the place fails, else what memory is too small
    /// for.
    fn to_spool(&self) -> Vec<KeptRecord> {
        let all = self.failing || self.last;
        let from = if all { 0 } else { self.in_hand.len() + self.front.len() };
        self.in_memory().skip(from).filter(|k| !k.spooled).take(BATCH).cloned().collect()
    }

    /// Marks what was spooled; returns the numbers that were written meanwhile.
    fn spooled(&mut self, numbers: &[u64]) -> Vec<u64> {
        let is_among = |k: &KeptRecord| numbers.binary_search(&k.number).is_ok();
        let mut gone = numbers.to_vec();
        for kept in self.in_hand.iter_mut().chain(&mut self.front).chain(&mut self.tail) {
            if is_among(kept) {
                kept.spooled = true;
                gone.retain(|n| *n != kept.number);
            }
        }
        while self.tail.front().is_some_and(|k| k.spooled) {
            self.tail.pop_front();
            self.between += 1;
        }
        gone
    }
}

/// How far the writing has come, for who looks for what was just handed over.
#[derive(Default)]
pub(crate) struct Progress {
    handed: AtomicU64,
    written: AtomicU64,
}

impl Progress {
    /// Waits until what has been handed over is written, for `limit` at most: a place that fails
    /// is not waited for.
    pub(crate) fn catch_up(&self, limit: Duration) {
        let (until, began) = (self.handed.load(Ordering::Acquire), Instant::now());
        while self.written.load(Ordering::Acquire) < until && began.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

struct KeeperShared {
    progress: Arc<Progress>,
    name: &'static str,
    place: String,
    pending: Mutex<Pending>,
    /// Of the writer, and of the spooler.
    wake: Condvar,
    wake_spooler: Condvar,
    spool: Option<Arc<Spool>>,
    counts: KeeperCounts,
}

impl KeeperShared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Sound after every statement, so a panic elsewhere does not spoil it.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, why: &dyn Display) {
        tracing::warn!(
            code = %Code::RECORDS,
            "call records cannot be written to {}; they are kept, and written as soon as they can \
             be: {why}",
            self.place
        );
    }

    fn wait<'a>(
        &self,
        pending: MutexGuard<'a, Pending>,
        at_most: Option<Duration>,
        idle: impl FnMut(&mut Pending) -> bool,
    ) -> MutexGuard<'a, Pending> {
        match at_most {
            Some(limit) => {
                let waited = self.wake.wait_timeout_while(pending, limit, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.wake.wait_while(pending, idle).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// The records of one place. Dropping it writes what waits, or spools it.
pub(super) struct Keeper {
    shared: Arc<KeeperShared>,
    writer: Receiver<()>,
    spooler: Option<Receiver<()>>,
}

impl Keeper {
    /// Starts writing to `sink`; `name` is its label, `place` what a person knows it by.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(
        name: &'static str,
        place: String,
        sink: impl RecordSink,
        spool: Option<Arc<Spool>>,
        counts: KeeperCounts,
    ) -> anyhow::Result<Keeper> {
        let mut pending = Pending::default();
        if let Some(spool) = &spool {
            match spool.waiting(name) {
                Ok((waiting, last)) => (pending.between, pending.next) = (waiting, last),
                Err(e) => tracing::warn!(
                    code = %Code::STATE,
                    "records that waited for {place} cannot be read: {e:#}"
                ),
            }
        }
        if pending.between > 0 {
            tracing::info!("{} call record(s) still wait for {place}", pending.between);
        }
        counts.waiting.set(pending.between as i64);
        let pending = Mutex::new(pending);
        let (wake, wake_spooler) = (Condvar::new(), Condvar::new());
        let progress = Arc::default();
        let shared =
            KeeperShared { progress, name, place, pending, wake, wake_spooler, spool, counts };
        let shared = Arc::new(shared);
        let (finished, writer) = channel();
        let of_writer = shared.clone();
        std::thread::Builder::new().name(format!("cdr-{name}")).spawn(move || {
            write(&of_writer, sink);
            // Whoever waits for this may open the directory again.
            drop(of_writer);
            let _ = finished.send(());
        })?;
        let mut spooler = None;
        if let Some(spool) = shared.spool.clone() {
            let (finished, over) = channel();
            let shared = shared.clone();
            std::thread::Builder::new().name(format!("spool-{name}")).spawn(move || {
                keep(&shared, &spool);
                drop((shared, spool));
                let _ = finished.send(());
            })?;
            spooler = Some(over);
        }
        Ok(Keeper { shared, writer, spooler })
    }

    /// Hands a record over.
    pub(super) fn take(&self, handed: Arc<dyn Handed>) {
        let bound = if self.shared.spool.is_some() { spool::MOST } else { 2 * MEMORY };
        let mut pending = self.shared.pending();
        let first = pending.dropped == 0;
        if !pending.push(handed, bound) {
            self.shared.counts.dropped.inc();
            if first {
                tracing::error!(
                    code = %Code::RECORDS_LOST,
                    "call records for {} are lost from now on: {} wait, and there is no more room",
                    self.shared.place,
                    pending.len()
                );
            }
            return;
        }
        let stuck = pending.since.is_some_and(|since| since.elapsed() >= STUCK);
        let stuck = stuck && !std::mem::replace(&mut pending.failing, true);
        self.shared.progress.handed.store(pending.next, Ordering::Release);
        let spools = pending.failing || !pending.tail.is_empty();
        drop(pending);
        if stuck {
            self.shared.report(&"it does not answer");
        }
        self.shared.counts.waiting.inc();
        self.shared.wake.notify_one();
        if spools {
            self.shared.wake_spooler.notify_one();
        }
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        self.shared.progress.clone()
    }

    /// Has the place look whether its file is another one now.
    pub(super) fn reopen(&self) {
        self.shared.pending().reopen = true;
        self.shared.wake.notify_one();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.pending().over = true;
        self.shared.wake.notify_all();
        let _ = self.writer.recv_timeout(LAST);
        // What the writer has left, or hangs over.
        self.shared.pending().last = true;
        self.shared.wake_spooler.notify_all();
        if let Some(spooler) = &self.spooler {
            let _ = spooler.recv_timeout(LAST);
        }
        let pending = self.shared.pending();
        let lost = pending.in_memory().filter(|k| !k.spooled).count() + pending.dropped;
        if lost > 0 {
            self.shared.counts.dropped.inc_by((lost - pending.dropped) as u64);
            tracing::error!(
                code = %Code::RECORDS_LOST,
                "{lost} call record(s) for {} are lost",
                self.shared.place
            );
        }
    }
}

/// Writes until it is over and nothing more can be written.
fn write(shared: &KeeperShared, mut sink: impl RecordSink) {
    loop {
        let Some(batch) = next(shared, &mut sink) else { return };
        if batch.is_empty() {
            continue;
        }
        let items: Vec<Item> = batch.iter().map(KeptRecord::item).collect();
        let written = sink.write(&items);
        let mut pending = shared.pending();
        let batch = std::mem::take(&mut pending.in_hand);
        pending.since = None;
        match written {
            Ok(()) => {
                pending.done = items.last().map_or(pending.done, |item| item.number);
                shared.progress.written.store(pending.done, Ordering::Release);
                let recovered = std::mem::take(&mut pending.failing);
                let lost = std::mem::take(&mut pending.dropped);
                drop(pending);
                written_now(shared, &batch, recovered, lost);
            }
            Err(e) => {
                batch.into_iter().rev().for_each(|kept| pending.front.push_front(kept));
                let first = !std::mem::replace(&mut pending.failing, true);
                if first {
                    shared.report(&format_args!("{e:#}"));
                }
                shared.wake_spooler.notify_one();
                if pending.over {
                    return;
                }
                drop(shared.wait(pending, Some(PAUSE), |p| !p.over));
            }
        }
    }
}

fn written_now(shared: &KeeperShared, batch: &[KeptRecord], recovered: bool, lost: usize) {
    shared.counts.waiting.dec_by(batch.len() as i64);
    if recovered {
        tracing::info!("call records are written to {} again", shared.place);
    }
    if lost > 0 {
        tracing::error!(
            code = %Code::RECORDS_LOST,
            "{lost} call record(s) for {} were lost",
            shared.place
        );
    }
    let numbers: Vec<u64> = batch.iter().filter(|k| k.spooled).map(|k| k.number).collect();
    if let (Some(spool), false) = (&shared.spool, numbers.is_empty())
        && let Err(e) = spool.remove(shared.name, &numbers)
    {
        // They will be found again, and known by their ids.
        tracing::debug!("records that were written stay in the spool: {e:#}");
    }
}

/// The next batch, now in hand; empty: look again. `None`: it is over.
fn next(shared: &KeeperShared, sink: &mut impl RecordSink) -> Option<Vec<KeptRecord>> {
    let empty = |p: &mut Pending| p.front.is_empty() && p.between == 0 && p.tail.is_empty();
    let mut pending = shared.pending();
    if empty(&mut pending) && !pending.over && !pending.reopen {
        drop(pending);
        sink.rest();
        pending = shared.wait(shared.pending(), None, |p| empty(p) && !p.over && !p.reopen);
    }
    if std::mem::take(&mut pending.reopen) {
        sink.reopen();
    }
    if pending.front.is_empty() && pending.between > 0 {
        let (waiting, done) = (pending.between, pending.done);
        drop(pending);
        return load(shared, waiting, done);
    }
    if pending.front.is_empty() {
        pending.front = std::mem::take(&mut pending.tail);
    }
    if pending.front.is_empty() && pending.over {
        drop(pending);
        sink.rest();
        return None;
    }
    let n = pending.front.len().min(BATCH);
    pending.in_hand = pending.front.drain(..n).collect();
    pending.since = Some(Instant::now());
    Some(pending.in_hand.clone())
}

/// Takes the oldest of the spool into memory.
fn load(shared: &KeeperShared, waiting: usize, done: u64) -> Option<Vec<KeptRecord>> {
    let Some(spool) = &shared.spool else { return Some(Vec::new()) };
    let found = spool.from(shared.name, done + 1, BATCH.min(waiting));
    let mut pending = shared.pending();
    match found {
        Ok(items) if items.is_empty() => {
            // What was there is gone with its file, which was reported.
            shared.counts.dropped.inc_by(pending.between as u64);
            shared.counts.waiting.dec_by(pending.between as i64);
            pending.between = 0;
        }
        Ok(items) => {
            pending.between = pending.between.saturating_sub(items.len());
            let kept = |item: Item| KeptRecord {
                number: item.number,
                handed: Arc::new(item),
                spooled: true,
            };
            pending.front.extend(items.into_iter().map(kept));
        }
        Err(e) => {
            tracing::debug!("the spool cannot be read: {e:#}");
            if pending.over {
                return None;
            }
            drop(shared.wait(pending, Some(PAUSE), |p| !p.over));
        }
    }
    Some(Vec::new())
}

/// Spools what should not be in memory only, until it is over and the writer has given up.
fn keep(shared: &KeeperShared, spool: &Spool) {
    let mut reported = false;
    loop {
        let idle = |p: &mut Pending| p.to_spool().is_empty() && !p.last;
        let pending = shared.wake_spooler.wait_while(shared.pending(), idle);
        let pending = pending.unwrap_or_else(PoisonError::into_inner);
        let (batch, over) = (pending.to_spool(), pending.last);
        drop(pending);
        if batch.is_empty() && over {
            return;
        }
        let items: Vec<Item> = batch.iter().map(KeptRecord::item).collect();
        match spool.append(shared.name, &items) {
            Ok(()) => {
                reported = false;
                let numbers: Vec<u64> = batch.iter().map(|k| k.number).collect();
                let gone = shared.pending().spooled(&numbers);
                if !gone.is_empty() {
                    let _ = spool.remove(shared.name, &gone);
                }
            }
            Err(e) => {
                if !std::mem::replace(&mut reported, true) {
                    tracing::warn!(
                        code = %Code::STATE,
                        "call records that wait for {} are in memory only: {e:#}",
                        shared.place
                    );
                }
                if over {
                    return;
                }
                let waited =
                    shared.wake_spooler.wait_timeout_while(shared.pending(), PAUSE, |p| !p.last);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
            }
        }
    }
}

#[cfg(test)]
mod tests;
