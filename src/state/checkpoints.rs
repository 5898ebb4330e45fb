//! Checkpoints: the newest value of each name, on disk a moment after it was put.
//!
//! Nobody waits. A [`Slot`] holds the newest value of its name; one thread writes what changed, in
//! batches. A value that is replaced before it was written is never written, so what waits is
//! bounded by the number of slots, and nothing can overflow.
//!
//! Writing is not synced: the kernel keeps it when the process dies. When the host dies, the file
//! may be older than what was sent under its values, so a value of another boot is never
//! [`Fresh`](Record::Fresh).

use super::database::{self, Database, DatabaseSettings};
use super::pack::{Packer, unpack};
use super::seal::Sealer;
use super::{Directory, move_aside};
use crate::boot;
use crate::errors::Code;
use anyhow::Context as _;
use prometheus_client::metrics::counter::Counter;
use rusqlite::params;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

const FILE: &str = "checkpoints.db";
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
    /// One for each call, and its media.
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
    /// The writer has been told of it.
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
        let path = directory.file(FILE);
        let mut memory = Checkpoints::in_memory();
        let sealer = match Sealer::new(directory.key) {
            Ok(sealer) => sealer,
            Err(e) => {
                tracing::warn!(code = %Code::STATE, "calls are not kept across a restart: {e:#}");
                return (memory, Vec::new());
            }
        };
        let mut writer = CheckpointWriter {
            path,
            alive: directory.file(ALIVE),
            beat: None,
            sealer,
            packer: Packer::new(),
            version,
            boot: boot::id().to_be_bytes(),
            database: None,
            failed,
            failing: false,
            pause: FIRST_PAUSE,
            retry: Instant::now(),
            shared: memory.shared.clone(),
        };
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

    /// How long ago the earlier process was alive; `None` where it left nothing, or in another boot.
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
        let (number, told) = (value.sequence, std::mem::replace(&mut value.queued, true));
        drop(value);
        if !told {
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

/// What is written next of a slot.
struct Change {
    named: Arc<NamedSlot>,
    sequence: u64,
    bytes: Option<Arc<[u8]>>,
    good_until: u64,
}

impl Change {
    fn of(named: Arc<NamedSlot>) -> Change {
        let mut value = locked(&named.value);
        value.queued = false;
        let (sequence, good_until) = (value.sequence, value.good_until);
        let bytes = value.bytes.clone();
        drop(value);
        Change { named, sequence, bytes, good_until }
    }
}

/// The thread that writes.
struct CheckpointWriter {
    path: PathBuf,
    alive: PathBuf,
    beat: Option<File>,
    sealer: Sealer,
    packer: Packer,
    version: u16,
    boot: [u8; 16],
    /// `None` after a failure, until it is tried again.
    database: Option<Database>,
    failed: Counter,
    failing: bool,
    pause: Duration,
    retry: Instant,
    shared: Arc<CheckpointShared>,
}

impl CheckpointWriter {
    /// What is in the file; one that cannot be read is moved aside.
    fn load(&mut self) -> Vec<CheckpointEntry> {
        let read = Database::open_or_begin(&self.path, &SETTINGS).and_then(|(database, aside)| {
            self.database = Some(database);
            match (aside, self.read()) {
                (None, Ok(entries)) => Ok((entries, None)),
                (Some(aside), _) => Ok((Vec::new(), Some(aside))),
                (None, Err(e)) if database::is_corrupt(&e) => {
                    self.database = None;
                    let aside = move_aside(&self.path)?;
                    self.database = Some(Database::open(&self.path, &SETTINGS)?);
                    Ok((Vec::new(), Some(aside)))
                }
                (None, Err(e)) => Err(e.into()),
            }
        });
        match read {
            Ok((entries, aside)) => {
                if let Some(aside) = aside {
                    tracing::warn!(
                        code = %Code::STATE,
                        "{} cannot be read, so no call is restored; it was moved to {}",
                        self.path.display(),
                        aside.display()
                    );
                }
                entries
            }
            Err(e) => {
                // These calls go on, though nothing more can be kept of them.
                let found = Database::open_read_only(&self.path);
                let entries = found.and_then(|database| self.entries(&database));
                self.fail(&format!("{e:#}"));
                entries.map(|(entries, _)| entries).unwrap_or_default()
            }
        }
    }

    /// What can be opened, and the names of the rest.
    fn entries(
        &mut self,
        database: &Database,
    ) -> rusqlite::Result<(Vec<CheckpointEntry>, Vec<String>)> {
        let mut statement = database.connection.prepare("SELECT name, sealed FROM checkpoint")?;
        let rows: Vec<(String, Vec<u8>)> = statement
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let now = boot_millis();
        let (mut entries, mut lost) = (Vec::new(), Vec::new());
        for (name, sealed) in rows {
            let plain = self.sealer.open(&name, &sealed);
            match plain.and_then(|plain| record(&plain, self.version, &self.boot, now)) {
                Some(record) => entries.push(CheckpointEntry { name, record }),
                None => lost.push(name),
            }
        }
        Ok((entries, lost))
    }

    fn read(&mut self) -> rusqlite::Result<Vec<CheckpointEntry>> {
        let Some(database) = self.database.take() else { return Ok(Vec::new()) };
        let read = self.entries(&database);
        let database = self.database.insert(database);
        let (entries, lost) = read?;
        if !lost.is_empty() {
            tracing::warn!(
                code = %Code::STATE,
                "{} checkpoint(s) in {} are not intact or sealed under another key, and are lost",
                lost.len(),
                self.path.display()
            );
            let mut delete =
                database.connection.prepare("DELETE FROM checkpoint WHERE name = ?1")?;
            for name in lost {
                delete.execute([name])?;
            }
        }
        Ok(entries)
    }

    fn last_beat(&self) -> Option<Duration> {
        let bytes = std::fs::read(&self.alive).ok()?;
        let (boot, at) = bytes.split_first_chunk::<16>()?;
        let at = Duration::from_millis(u64::from_be_bytes(at.try_into().ok()?));
        boot::uptime().checked_sub(at).filter(|_| *boot == self.boot)
    }

    /// Notes that this process lives. Where that cannot be, its end looks older than it is.
    fn note_life(&mut self) {
        let fresh = || super::private().open(&self.alive).ok();
        self.beat = self.beat.take().or_else(fresh);
        let bytes = [&self.boot[..], &boot_millis().to_be_bytes()].concat();
        if let Some(file) = &self.beat {
            let _ = file.write_all_at(&bytes, 0);
        }
    }

    fn run(mut self, done: Sender<()>) {
        let mut last = Instant::now();
        loop {
            let (changed, over) = self.wait();
            self.note_life();
            let failing = self.database.is_none();
            if failing && Instant::now() >= self.retry {
                // Everything that is alive: what was written before is gone.
                let all = locked(&self.shared.slots).values().cloned().collect();
                self.write(all);
            } else if failing {
                changed.into_iter().for_each(|named| self.leave(Change::of(named)));
            } else if !changed.is_empty() {
                self.write(changed);
            }
            if over {
                drop(self.database.take());
                let _ = done.send(());
                return;
            }
            // A batch, rather than a commit for each.
            let since = last.elapsed();
            if let Some(rest) = BATCH.checked_sub(since) {
                let queue = locked(&self.shared.queue);
                let waits = |q: &mut Queue| !q.over && !q.hurry;
                let wait = self.shared.wake.wait_timeout_while(queue, rest, waits);
                drop(wait.unwrap_or_else(PoisonError::into_inner));
            }
            last = Instant::now();
        }
    }

    /// Waits until something has changed, a retry is due, or it is over.
    fn wait(&self) -> (Vec<Arc<NamedSlot>>, bool) {
        let beats = !locked(&self.shared.slots).is_empty();
        let queue = locked(&self.shared.queue);
        let idle = |q: &mut Queue| q.changed.is_empty() && !q.over;
        let mut queue = if self.database.is_some() && beats {
            let waited = self.shared.wake.wait_timeout_while(queue, BEAT, idle);
            waited.unwrap_or_else(PoisonError::into_inner).0
        } else if self.database.is_some() {
            self.shared.wake.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner)
        } else {
            let rest = self.retry.saturating_duration_since(Instant::now());
            let waited = self.shared.wake.wait_timeout_while(queue, rest, idle);
            waited.unwrap_or_else(PoisonError::into_inner).0
        };
        queue.hurry = false;
        (std::mem::take(&mut queue.changed), queue.over)
    }

    fn write(&mut self, changed: Vec<Arc<NamedSlot>>) {
        // Before the values are taken: what is put after this was asked about is not among them.
        self.shared.nothing_left.store(false, Ordering::SeqCst);
        let changes: Vec<Change> = changed.into_iter().map(Change::of).collect();
        match self.commit(&changes) {
            Ok(()) => {
                for change in changes {
                    let on_disk = if change.bytes.is_some() { change.sequence } else { 0 };
                    change.named.written_until.store(change.good_until, Ordering::Release);
                    change.named.written.store(on_disk, Ordering::Release);
                    self.leave(change);
                }
                self.shared.batches.fetch_add(1, Ordering::AcqRel);
                self.shared.written.notify_one();
                self.pause = FIRST_PAUSE;
                if std::mem::take(&mut self.failing) {
                    tracing::info!("checkpoints of calls can be written again");
                }
            }
            Err(e) => {
                self.fail(&format!("{e:#}"));
                changes.into_iter().for_each(|change| self.leave(change));
            }
        }
    }

    /// Lets go of a name whose value was removed, unless it has a new one.
    fn leave(&self, change: Change) {
        if change.bytes.is_none() {
            let mut slots = locked(&self.shared.slots);
            if locked(&change.named.value).sequence == change.sequence {
                slots.remove(&change.named.name);
            }
        }
    }

    fn commit(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        if self.database.is_none() {
            self.database = Some(Database::open_or_begin(&self.path, &SETTINGS)?.0);
        }
        let Some(database) = &mut self.database else { return Ok(()) };
        let transaction = database.connection.transaction()?;
        {
            let mut put =
                transaction.prepare_cached("INSERT OR REPLACE INTO checkpoint VALUES (?1, ?2)")?;
            let mut delete =
                transaction.prepare_cached("DELETE FROM checkpoint WHERE name = ?1")?;
            for change in changes {
                let name = &change.named.name;
                let Some(bytes) = &change.bytes else {
                    delete.execute([name])?;
                    continue;
                };
                let packed = self.packer.pack(bytes).context("it cannot be packed")?;
                let mut plain = Vec::with_capacity(HEADER + packed.len());
                plain.extend_from_slice(&self.version.to_be_bytes());
                plain.extend_from_slice(&self.boot[..BOOT]);
                plain.extend_from_slice(&change.good_until.to_be_bytes());
                plain.extend_from_slice(&packed);
                let sealed = self.sealer.seal(name, &plain);
                put.execute(params![name, sealed.context("nothing more can be sealed")?])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Reports the first failure of a row of them, and takes away what is on disk: old values must
    /// not be found where newer ones could not be written.
    fn fail(&mut self, why: &str) {
        self.failed.inc();
        self.database = None;
        let removed = remove(&self.path);
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(
                code = %Code::STATE,
                "checkpoints of calls cannot be written, so a restart would end these calls: {why}"
            );
        }
        if removed {
            for named in locked(&self.shared.slots).values() {
                named.written.store(0, Ordering::Release);
            }
            self.shared.nothing_left.store(true, Ordering::SeqCst);
            self.shared.written.notify_one();
        }
        self.retry = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(MAX_PAUSE);
    }
}

/// What a value holds that `version` of this boot wrote, or another.
fn record(plain: &[u8], version: u16, boot: &[u8; 16], now: u64) -> Option<Record> {
    let (written, rest) = plain.split_first_chunk::<2>()?;
    let (by, rest) = rest.split_first_chunk::<BOOT>()?;
    let (until, packed) = rest.split_first_chunk::<8>()?;
    let written = u16::from_be_bytes(*written);
    let fresh = by[..] == boot[..BOOT] && now <= u64::from_be_bytes(*until);
    let bytes = unpack(packed)?;
    Some(match (written == version, fresh) {
        (false, _) => Record::UnknownVersion(written, bytes),
        (true, true) => Record::Fresh(bytes),
        (true, false) => Record::Stale(bytes),
    })
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
    let _ = record(bytes, 1, &[0; 16], 0);
}

fn remove(path: &Path) -> bool {
    database::remove(path).is_ok()
}

#[cfg(test)]
mod tests;
