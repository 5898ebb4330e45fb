//! The thread that writes.

use super::super::database::{self, Database};
use super::super::pack::{Packer, unpack};
use super::super::seal::Sealer;
use super::super::{Directory, Home, move_aside};
use super::{
    ALIVE, BATCH, BEAT, BOOT, CheckpointEntry, CheckpointShared, FILE, FIRST_PAUSE, HASTE, HEADER,
    MAX_PAUSE, NamedSlot, Queue, Record, SETTINGS, boot_millis, locked,
};
use crate::boot;
use crate::errors::Code;
use anyhow::Context as _;
use prometheus_client::metrics::counter::Counter;
use rusqlite::params;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// What is written next of a slot.
pub(super) struct Change {
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
pub(super) struct CheckpointWriter {
    home: Home,
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
    /// A writer of `directory` that has opened nothing yet; values are sealed, and are of
    /// `version`.
    pub(super) fn new(
        directory: &Directory,
        sealer: Sealer,
        version: u16,
        failed: Counter,
        shared: Arc<CheckpointShared>,
    ) -> CheckpointWriter {
        CheckpointWriter {
            home: directory.home.clone(),
            path: directory.file(FILE),
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
            shared,
        }
    }

    /// What is in the file; one that cannot be read is moved aside.
    pub(super) fn load(&mut self) -> Vec<CheckpointEntry> {
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
                // These calls continue, though nothing more can be kept of them.
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

    pub(super) fn last_beat(&self) -> Option<Duration> {
        let bytes = std::fs::read(&self.alive).ok()?;
        let (boot, at) = bytes.split_first_chunk::<16>()?;
        let at = Duration::from_millis(u64::from_be_bytes(at.try_into().ok()?));
        boot::uptime().checked_sub(at).filter(|_| *boot == self.boot)
    }

    /// Notes that this process lives. Where that cannot be, its end looks older than it is.
    fn note_life(&mut self) {
        let fresh = || super::super::private().open(&self.alive).ok();
        self.beat = self.beat.take().or_else(fresh);
        let bytes = [&self.boot[..], &boot_millis().to_be_bytes()].concat();
        if let Some(file) = &self.beat {
            let _ = file.write_all_at(&bytes, 0);
        }
    }

    pub(super) fn run(mut self, done: Sender<()>) {
        let mut last = Instant::now();
        loop {
            let (changed, over) = self.wait();
            if self.database.as_ref().is_some_and(|database| !database.is_in_place()) {
                // Somebody took it away: what is written into it is found by nobody.
                (self.database, self.beat, self.retry) = (None, None, Instant::now());
            }
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
            self.rest(last + HASTE, |queue| !queue.over);
            self.rest(last + BATCH, |queue| !queue.over && !queue.hurry);
            last = Instant::now();
        }
    }

    /// Waits until then, as long as nothing else is to be done.
    fn rest(&self, until: Instant, waits: impl Fn(&Queue) -> bool) {
        let Some(rest) = until.checked_duration_since(Instant::now()) else { return };
        let queue = locked(&self.shared.queue);
        let waited = self.shared.wake.wait_timeout_while(queue, rest, |queue| waits(queue));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
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
        let anew = self.database.is_none();
        if anew {
            self.home.put_back()?;
            self.database = Some(Database::open_or_begin(&self.path, &SETTINGS)?.0);
        }
        let Some(database) = &mut self.database else { return Ok(()) };
        let transaction = database.connection.transaction()?;
        {
            if anew {
                // All that is alive is among the changes; the rest ended while it could not be
                // removed.
                transaction.execute("DELETE FROM checkpoint", ())?;
            }
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
    /// not be found if newer ones could not be written.
    fn fail(&mut self, why: &str) {
        self.failed.inc();
        self.database = None;
        // What another process has there is not ours to remove, and nothing of ours.
        let removed = self.home.is_anothers() || remove(&self.path);
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
pub(super) fn record(plain: &[u8], version: u16, boot: &[u8; 16], now: u64) -> Option<Record> {
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

pub(super) fn remove(path: &Path) -> bool {
    database::remove(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::Checkpoints;
    use super::*;
    use crate::state::tests::Scratch;

    fn writer_of(directory: &Directory, boot: [u8; 16]) -> CheckpointWriter {
        let sealer = Sealer::new(directory.key).expect("a key");
        let shared = Checkpoints::in_memory().shared.clone();
        let alive = PathBuf::from("/dev/null");
        let writer = CheckpointWriter::new(directory, sealer, 1, Counter::default(), shared);
        CheckpointWriter { alive, boot, ..writer }
    }

    #[test]
    fn a_value_is_good_for_its_boot_only() {
        let scratch = Scratch::new("boot");
        let directory = Directory::open(&scratch.0).expect("a directory");
        let (checkpoints, _) = Checkpoints::open(&directory, 1, Counter::default());
        checkpoints.slot("old").put(*b"y", Duration::from_secs(60));
        drop(checkpoints);
        // What another boot would find.
        let mut writer = writer_of(&directory, [9; 16]);
        assert_eq!(writer.load()[0].record, Record::Stale(b"y".to_vec()));
    }

    #[test]
    fn what_cannot_be_written_is_tried_ever_slower_within_a_bound() {
        let scratch = Scratch::new("slower");
        let directory = Directory::open(&scratch.0).expect("a directory");
        let mut writer = writer_of(&directory, [0; 16]);
        let pauses: Vec<u64> = (0..10)
            .map(|_| {
                let pause = writer.pause;
                writer.fail("full");
                assert!(writer.retry <= Instant::now() + pause);
                pause.as_secs()
            })
            .collect();
        assert!(pauses.windows(2).all(|p| p[1] >= p[0]) && pauses[0] < pauses[3], "{pauses:?}");
        assert_eq!(pauses.last(), Some(&MAX_PAUSE.as_secs()));
    }
}
