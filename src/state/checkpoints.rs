//! Checkpoints: the newest value of each name, on disk a moment after it was put.
//!
//! Nobody waits. A [`Slot`] holds the newest value of its name; one thread writes what changed, in
//! batches. A value that is replaced before it was written is never written, so what waits is
//! bounded by the number of slots, and nothing can overflow.
//!
//! Writing is not synced: the kernel keeps it when the process dies. When the host dies, the file
//! may be older than what was sent under its values, so a value of another boot is never
//! [`Fresh`](Record::Fresh).

use self::writer::CheckpointWriter;
use super::Directory;
use super::database::DatabaseSettings;
use super::seal::Sealer;
use crate::boot;
use crate::errors::Code;
use prometheus_client::metrics::counter::Counter;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

const FILE: &str = "checkpoints.db";
/// Before the names of values that are of trunks rather than of calls.
pub(crate) const TRUNK: &str = "trunk ";
/// Before the names of goodbyes that were not answered.
pub(crate) const FAREWELL: &str = "farewell ";
/// When this process lived last, while it has checkpoints: by the boot, and its clock.
const ALIVE: &str = "alive";
/// Between two times that this is written.
const BEAT: Duration = Duration::from_millis(100);
const SETTINGS: DatabaseSettings = DatabaseSettings {
    schema: "CREATE TABLE IF NOT EXISTS checkpoint (name TEXT PRIMARY KEY, sealed BLOB NOT NULL)",
    synced: false,
    shared: false,
    busy: Duration::from_millis(100),
};
/// Between two commits.
const BATCH: Duration = Duration::from_millis(50);
/// The same in a hurry.
const HASTE: Duration = Duration::from_millis(5);
/// After a failure; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// How long the end waits for the last batch.
const LAST: Duration = Duration::from_secs(2);
/// As much of a boot's name as tells it from another.
const BOOT: usize = 8;
/// Version, boot and deadline before each value.
const HEADER: usize = 2 + BOOT + 8;

/// What an earlier process left under a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// Within its time, and of this boot: nothing can have been done since that it does not cover.
    Fresh(Vec<u8>),
    /// Older than it was good for, or of another boot.
    Stale(Vec<u8>),
    /// Written by a program with another version of records.
    UnknownVersion(u16, Vec<u8>),
}

/// A record with its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointEntry {
    /// One for each call, and its media; and for each trunk that has registered.
    pub name: String,
    /// Sealed.
    pub record: Record,
}

/// The newest value of a name.
#[derive(Default)]
struct Value {
    /// Counts the puts.
    sequence: u64,
    /// `None` once removed.
    bytes: Option<Arc<[u8]>>,
    good_until: u64,
    /// The writer has been notified.
    queued: bool,
}

struct NamedSlot {
    name: String,
    value: Mutex<Value>,
    written: AtomicU64,
    written_until: AtomicU64,
}

struct CheckpointShared {
    slots: Mutex<HashMap<String, Arc<NamedSlot>>>,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Batches that were written, and who waits for the next.
    batches: AtomicU64,
    written: Arc<Notify>,
    /// A next process would find no value at all.
    nothing_left: AtomicBool,
}

#[derive(Default)]
struct Queue {
    changed: Vec<Arc<NamedSlot>>,
    /// What changed is not to wait for more of it.
    hurry: bool,
    over: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Sound after every statement, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn boot_millis() -> u64 {
    boot::uptime().as_millis() as u64
}

/// The checkpoints of this process.
pub struct Checkpoints {
    shared: Arc<CheckpointShared>,
    done: Option<Receiver<()>>,
    died: Option<Duration>,
}

/// The place of one name's value. Dropping it leaves the value where it is.
#[derive(Clone)]
pub struct Slot {
    named: Arc<NamedSlot>,
    shared: Arc<CheckpointShared>,
}

impl Checkpoints {
    /// Values are kept in memory only.
    pub fn in_memory() -> Checkpoints {
        let shared = CheckpointShared {
            slots: Mutex::default(),
            queue: Mutex::new(Queue { over: true, ..Queue::default() }),
            wake: Condvar::new(),
            batches: AtomicU64::new(0),
            written: Arc::default(),
            nothing_left: AtomicBool::new(false),
        };
        Checkpoints { shared: Arc::new(shared), done: None, died: None }
    }

    /// Opens the checkpoints of a directory, and returns what an earlier process left. `version` is
    /// that of the values this program writes and reads; `failed` counts the batches that could not
    /// be written.
    ///
    /// It never fails: what cannot be read is reported and lost, and what cannot be written is
    /// tried again.
    pub fn open(
        directory: &Directory,
        version: u16,
        failed: Counter,
    ) -> (Checkpoints, Vec<CheckpointEntry>) {
        let mut memory = Checkpoints::in_memory();
        let sealer = match Sealer::new(directory.key) {
            Ok(sealer) => sealer,
            Err(e) => {
                tracing::warn!(code = %Code::STATE, "calls are not kept across a restart: {e:#}");
                return (memory, Vec::new());
            }
        };
        let shared = memory.shared.clone();
        let mut writer = CheckpointWriter::new(directory, sealer, version, failed, shared);
        memory.died = writer.last_beat();
        let entries = writer.load();
        for CheckpointEntry { name, record } in &entries {
            let (Record::Fresh(bytes) | Record::Stale(bytes)) = record else { continue };
            locked(&locked_slot(&memory.shared, name).value).bytes = Some(bytes.as_slice().into());
        }
        locked(&memory.shared.queue).over = false;
        let (tell, done) = channel();
        let thread = std::thread::Builder::new().name("checkpoints".into());
        match thread.spawn(move || writer.run(tell)) {
            Ok(_) => memory.done = Some(done),
            Err(e) => {
                tracing::warn!(code = %Code::STATE, "calls are not kept across a restart: {e}");
                locked(&memory.shared.queue).over = true;
            }
        }
        (memory, entries)
    }

    /// How long ago the earlier process was alive; `None` if it left nothing, or in another boot.
    pub(crate) fn died(&self) -> Option<Duration> {
        self.died
    }

    /// How many batches have been written.
    pub fn batches(&self) -> u64 {
        self.shared.batches.load(Ordering::Acquire)
    }

    /// Whether a next process would find no value at all, since what was on disk was taken away:
    /// nothing that is done under a value put before this was asked can contradict what it finds.
    pub(crate) fn is_nothing_left(&self) -> bool {
        self.shared.nothing_left.load(Ordering::SeqCst)
    }

    /// Woken after each batch, and when nothing is left.
    pub fn on_written(&self) -> Arc<Notify> {
        self.shared.written.clone()
    }

    /// Has what was put so far written at once, rather than with what comes next.
    pub fn hurry(&self) {
        locked(&self.shared.queue).hurry = true;
        self.shared.wake.notify_one();
    }

    /// The slot of `name`; of an earlier process's value too.
    pub fn slot(&self, name: &str) -> Slot {
        Slot { named: locked_slot(&self.shared, name), shared: self.shared.clone() }
    }
}

impl Drop for Checkpoints {
    /// Writes what waits, unless the disk hangs.
    fn drop(&mut self) {
        locked(&self.shared.queue).over = true;
        self.shared.wake.notify_all();
        if let Some(done) = &self.done {
            let _ = done.recv_timeout(LAST);
        }
    }
}

fn locked_slot(shared: &CheckpointShared, name: &str) -> Arc<NamedSlot> {
    let mut slots = locked(&shared.slots);
    if let Some(known) = slots.get(name) {
        return known.clone();
    }
    let fresh = Arc::new(NamedSlot {
        name: name.to_owned(),
        value: Mutex::default(),
        written: AtomicU64::new(0),
        written_until: AtomicU64::new(0),
    });
    slots.insert(name.to_owned(), fresh.clone());
    fresh
}

impl Slot {
    /// Puts a value in the place of the last; returns its number, from 1. Nothing waits for it.
    ///
    /// After `good_for` it is no longer [`Fresh`](Record::Fresh), unless it is put again: what the
    /// value reserves must last that long.
    pub fn put(&self, bytes: impl Into<Arc<[u8]>>, good_for: Duration) -> u64 {
        let until = boot_millis().saturating_add(good_for.as_millis() as u64);
        self.change(Some(bytes.into()), until)
    }

    /// Removes the value.
    pub fn remove(&self) {
        self.change(None, 0);
    }

    fn change(&self, bytes: Option<Arc<[u8]>>, good_until: u64) -> u64 {
        let mut value = locked(&self.named.value);
        value.sequence += 1;
        (value.bytes, value.good_until) = (bytes, good_until);
        let (number, was_queued) = (value.sequence, std::mem::replace(&mut value.queued, true));
        drop(value);
        if !was_queued {
            let mut queue = locked(&self.shared.queue);
            if !queue.over {
                queue.changed.push(self.named.clone());
                drop(queue);
                self.shared.wake.notify_one();
            } else {
                drop(queue);
                self.forget_if_removed();
            }
        }
        number
    }

    /// Without a disk nobody else lets go of the name.
    fn forget_if_removed(&self) {
        let mut value = locked(&self.named.value);
        value.queued = false;
        let removed = value.bytes.is_none();
        drop(value);
        if removed {
            locked(&self.shared.slots).remove(&self.named.name);
        }
    }

    /// The number of the newest put that is on disk and still good. 0: a next process would find
    /// nothing fresh under this name, so nothing done now can contradict it.
    pub fn written(&self) -> u64 {
        let number = self.named.written.load(Ordering::Acquire);
        let until = self.named.written_until.load(Ordering::Acquire);
        if number == 0 || boot_millis() > until { 0 } else { number }
    }

    /// The newest value, whether it is on disk or not.
    pub fn newest(&self) -> Option<Arc<[u8]>> {
        locked(&self.named.value).bytes.clone()
    }
}

/// Reads `bytes` as a sealed checkpoint and as what was sealed.
///
/// # Panics
/// If a value is opened that was not sealed here.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_foreign(bytes: &[u8]) {
    let mut sealer = Sealer::new([7; 32]).expect("random bytes");
    assert_eq!(sealer.open("a", bytes), None, "nobody has the key");
    let mut sealed = sealer.seal("a", bytes).expect("the first one");
    assert_eq!(sealer.open("a", &sealed).as_deref(), Some(bytes), "as it was sealed");
    assert_eq!(sealer.open("b", &sealed), None, "it is bound to its name");
    if let Some(last) = sealed.last_mut() {
        *last ^= 1;
    }
    assert_eq!(sealer.open("a", &sealed), None, "it is not intact");
    let _ = writer::record(bytes, 1, &[0; 16], 0);
}

#[cfg(test)]
mod tests;
mod writer;
