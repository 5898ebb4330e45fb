//! What outlives the process: the DTLS certificate, checkpoints of calls, and records
//! that could not be written yet. All of it is in one directory.
//!
//! Nothing here may cost a call, a start or a record: what cannot be kept is reported once, with a
//! code, and tried again.

pub(crate) mod certificate;
pub mod checkpoints;
pub(crate) mod database;
mod pack;
pub(crate) mod seal;
pub mod spool;

use crate::config::check::WITHOUT_STATE;
use crate::errors::Code;
use crate::media::dtls::DtlsIdentity;
use anyhow::Context;
use checkpoints::{CheckpointEntry, Checkpoints, FAREWELL, TRUNK};
use prometheus_client::metrics::counter::Counter;
use rand_core::{OsRng, TryRngCore};
use spool::Spool;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The ports that browsers' media comes to, if the system chose them, by line.
const PORTS: &str = "ports";
/// What the node was called in its cluster.
const NODE: &str = "node";
/// Which process of its cluster the node was last.
const PROCESS: &str = "process";
/// The file of the key that seals everything else.
const KEY: &str = "key";
/// Locked by the process that uses the directory.
const LOCK: &str = "lock";

/// How often, and how far apart, a lock is asked for: a child that another thread has just begun
/// has all files open until it becomes another program.
const TRIES: u32 = 30;
const APART: Duration = Duration::from_millis(10);

/// Locks `file`, which may be about to be let go.
fn lock_soon(file: &File) -> Result<(), TryLockError> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(APART),
            done => return done,
        }
    }
    file.try_lock()
}

/// A state directory that this process has for itself until it is dropped.
#[derive(Debug)]
pub struct Directory {
    home: Home,
    key: [u8; 32],
}

/// The place of a directory, and what it is made again with if somebody takes it away.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    path: PathBuf,
    /// `None` once it is another process's.
    lock: Arc<Mutex<Option<File>>>,
    /// The small files in it, by name.
    files: Arc<Mutex<BTreeMap<&'static str, Vec<u8>>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Sound after every statement, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Opens the file whose lock says whose the directory is.
fn open_lock(folder: &Path) -> anyhow::Result<File> {
    // Where nothing can be written, what is there can still be read.
    let lock = private()
        .open(folder.join(LOCK))
        .or_else(|why| File::open(folder.join(LOCK)).map_err(|_| why));
    let lock = lock.with_context(|| format!("{} cannot be written", folder.display()))?;
    match lock_soon(&lock) {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            anyhow::bail!("another process uses {}", folder.display())
        }
        Err(TryLockError::Error(e)) => {
            Err(e).with_context(|| format!("{} cannot be locked", folder.display()))
        }
    }
}

fn make(folder: &Path) -> anyhow::Result<()> {
    if !folder.exists() {
        DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    Ok(())
}

impl Home {
    /// Whether another process has made a directory there since.
    pub(crate) fn is_anothers(&self) -> bool {
        let own = locked(&self.lock).as_ref().and_then(|lock| lock.metadata().ok());
        let there = self.path.join(LOCK).metadata().ok();
        own.zip(there).is_some_and(|(own, there)| !is_same(&own, &there))
    }

    /// Makes the directory again, with all that is small in it, where it was taken away.
    ///
    /// # Errors
    /// It cannot be made, or is another process's by now.
    pub(crate) fn put_back(&self) -> anyhow::Result<()> {
        let mut lock = locked(&self.lock);
        let own = lock.as_ref().context("it is not this process's any more")?.metadata()?;
        make(&self.path)?;
        let there = self.path.join(LOCK).metadata();
        if !there.is_ok_and(|there| is_same(&own, &there)) {
            *lock = Some(open_lock(&self.path)?);
        }
        for (name, bytes) in &*locked(&self.files) {
            let path = self.path.join(name);
            // Another key or certificate is of calls that are not there.
            if !std::fs::read(&path).is_ok_and(|found| found == *bytes) {
                replace(&path, bytes)?;
            }
        }
        Ok(())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Unless a disk that hangs has it: then the end of the process lets go of it.
        if let Ok(mut lock) = self.home.lock.try_lock() {
            *lock = None;
        }
    }
}

impl Directory {
    /// Opens the directory, and makes it (mode 0700) with its key (0600) if there is none.
    ///
    /// # Errors
    /// It cannot be written and has no key yet, or another process uses it.
    pub fn open(path: &Path) -> anyhow::Result<Directory> {
        make(path)?;
        let lock = Arc::new(Mutex::new(Some(open_lock(path)?)));
        let key = key(path).with_context(|| format!("no key can be kept in {}", path.display()))?;
        let files = Arc::new(Mutex::new(BTreeMap::from([(KEY, key.to_vec())])));
        Ok(Directory { home: Home { path: path.to_owned(), lock, files }, key })
    }

    /// The place of `file` within it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path.join(name)
    }

    /// Keeps a small file of this name in it.
    ///
    /// # Errors
    /// As for any file.
    fn keep(&self, name: &'static str, bytes: &[u8]) -> std::io::Result<()> {
        self.note(name, bytes);
        replace(&self.file(name), bytes)
    }

    /// Notes what a small file of this name holds.
    fn note(&self, name: &'static str, bytes: &[u8]) {
        locked(&self.home.files).insert(name, bytes.to_vec());
    }
}

/// What a process keeps, and what an earlier one left.
pub struct State {
    /// Of calls.
    pub checkpoints: Checkpoints,
    /// Of calls that were alive when the earlier process ended.
    pub found: Vec<CheckpointEntry>,
    /// Of trunks that were registered with it.
    pub trunks: Vec<CheckpointEntry>,
    /// Of goodbyes of its that nobody had answered.
    pub farewells: Vec<CheckpointEntry>,
    /// What could not be delivered yet.
    pub spool: Option<Arc<Spool>>,
    /// Dropped last: what is above writes into it until then.
    pub directory: Option<Arc<Directory>>,
}

impl State {
    /// Opens the state directory. Without one, or if it cannot be used, which is reported,
    /// everything is kept in memory. `failed` counts checkpoints that could not be written.
    pub fn open(path: Option<&Path>, version: u16, failed: Counter) -> State {
        let directory = path.and_then(|path| match Directory::open(path) {
            Ok(directory) => Some(Arc::new(directory)),
            Err(e) => {
                tracing::warn!(code = %Code::STATE, "server.state_dir: {e:#}; {WITHOUT_STATE}");
                None
            }
        });
        let (checkpoints, found) = match &directory {
            Some(directory) => Checkpoints::open(directory, version, failed),
            None => (Checkpoints::in_memory(), Vec::new()),
        };
        let spool = directory.clone().map(|directory| Arc::new(Spool::new(directory)));
        let (trunks, found): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|entry| entry.name.starts_with(TRUNK));
        let (farewells, found) =
            found.into_iter().partition(|entry| entry.name.starts_with(FAREWELL));
        State { checkpoints, found, trunks, farewells, spool, directory }
    }

    /// The ports that the system chose for browsers' media at the start before.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let file = self.directory.as_ref().map(|directory| directory.file(PORTS));
        let text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        text.lines().map_while(|line| line.parse().ok()).collect()
    }

    /// Keeps these ports for the next start, which then has the same.
    pub(crate) fn keep_ports(&self, ports: &[u16]) {
        let Some(directory) = self.directory.as_ref().filter(|_| self.ports() != ports) else {
            return;
        };
        let text: String = ports.iter().map(|port| format!("{port}\n")).collect();
        if let Err(e) = directory.keep(PORTS, text.as_bytes()) {
            tracing::warn!(
                code = %Code::STATE,
                "media.browser_port = 0 is another port after a restart: {e}"
            );
        }
    }

    /// What the node was called in its cluster when this was asked before, from now on `node`.
    pub(crate) fn rename_node(&self, node: &str) -> Option<String> {
        let directory = self.directory.as_ref()?;
        let before = std::fs::read_to_string(directory.file(NODE)).ok();
        if before.as_deref() == Some(node) {
            directory.note(NODE, node.as_bytes());
        } else if let Err(e) = directory.keep(NODE, node.as_bytes()) {
            tracing::warn!(code = %Code::STATE, "the name of the node cannot be kept: {e}");
        }
        before
    }

    /// Which process of its cluster had what was found here, by its epoch; `None` if that was not
    /// kept.
    pub(crate) fn last_process(&self) -> Option<u64> {
        let file = self.directory.as_ref()?.file(PROCESS);
        u64::from_str_radix(&std::fs::read_to_string(file).ok()?, 16).ok()
    }

    /// Keeps which process of its cluster the node is now. Nobody waits for that.
    pub(crate) fn keep_process(&self, epoch: u64) {
        let Some(directory) = self.directory.clone() else { return };
        let keep = move || {
            if let Err(e) = directory.keep(PROCESS, format!("{epoch:016x}").as_bytes()) {
                tracing::warn!(code = %Code::STATE, "the node's process cannot be kept: {e}");
            }
        };
        drop(std::thread::Builder::new().name("process".into()).spawn(keep));
    }

    /// The DTLS certificate: that of the earlier process, if one is kept.
    ///
    /// # Errors
    /// None could be made.
    pub(crate) fn certificate(&self) -> anyhow::Result<DtlsIdentity> {
        match &self.directory {
            Some(directory) => {
                certificate::load(directory, !self.found.is_empty(), SystemTime::now())
            }
            None => DtlsIdentity::generate().context("no DTLS certificate could be made"),
        }
    }
}

impl State {
    /// Shows `pem` from now on, as the other nodes of a cluster do, also after the next start.
    ///
    /// # Errors
    /// It is no certificate with its key.
    pub(crate) fn show(&self, pem: &str) -> anyhow::Result<DtlsIdentity> {
        let identity = DtlsIdentity::from_pem(pem)?;
        if let Some(directory) = &self.directory {
            certificate::show(directory, pem, SystemTime::now());
        }
        Ok(identity)
    }
}

/// Options for a file of ours, which nobody else may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

/// The key of the directory; a new one if there is none, or none of ours.
fn key(folder: &Path) -> anyhow::Result<[u8; 32]> {
    let path = folder.join(KEY);
    let mut found = Vec::new();
    let read = File::open(&path).and_then(|f| f.take(64).read_to_end(&mut found));
    if let (Ok(_), Ok(key)) = (&read, <[u8; 32]>::try_from(found.as_slice())) {
        return Ok(key);
    }
    if path.exists() {
        let aside = move_aside(&path)?;
        tracing::warn!(
            code = %Code::STATE,
            "{} is no key; it was moved to {}, and what it had sealed is lost",
            path.display(),
            aside.display()
        );
    }
    let mut key = [0; 32];
    OsRng.try_fill_bytes(&mut key).context("the system gives no random bytes")?;
    replace(&path, &key)?;
    Ok(key)
}

/// Puts a file in the place of another in one step, for the owner alone, on the disk when this
/// returns.
///
/// # Errors
/// As for any file.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let written = private().open(&fresh).and_then(|mut file| {
        file.set_len(0)?;
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.and_then(|()| std::fs::rename(&fresh, path)).inspect_err(|_| {
        let _ = std::fs::remove_file(&fresh);
    })
}

/// Renames what cannot be read, so that a new one can take its place: `cdr.db` becomes
/// `cdr.db.corrupt-20261127T041500`. Its companions (`-wal`, `-shm`) go with it.
///
/// # Errors
/// It cannot be renamed.
pub(crate) fn move_aside(path: &Path) -> std::io::Result<PathBuf> {
    let named = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let date = jiff::Timestamp::now().strftime(".corrupt-%Y%m%dT%H%M%S").to_string();
    let aside = (0..100)
        .map(|n| if n == 0 { named(&date) } else { named(&format!("{date}-{n}")) })
        .find(|aside| !aside.exists())
        .ok_or_else(|| std::io::Error::other("too many corrupt files"))?;
    std::fs::rename(path, &aside)?;
    for companion in ["-wal", "-shm"] {
        let mut to = aside.clone().into_os_string();
        to.push(companion);
        let _ = std::fs::rename(named(companion), to);
    }
    Ok(aside)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    /// A folder that goes when this does.
    pub(crate) struct Scratch(pub(crate) PathBuf, #[expect(dead_code, reason = "kept")] TempDir);

    impl Scratch {
        pub(crate) fn new(name: &str) -> Scratch {
            let made = tempfile::Builder::new().prefix(&format!("webtrunk-{name}-")).tempdir();
            let folder = made.expect("a folder");
            Scratch(folder.path().to_owned(), folder)
        }
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn what_a_node_was_called_is_known_to_its_next_process() {
        let scratch = Scratch::new("node");
        let path = scratch.0.join("state");
        let called = |node: &str| {
            let state = State::open(Some(&path), 1, Counter::default());
            state.rename_node(node)
        };
        let all: Vec<Option<String>> = ["a", "a", "b", "b"].into_iter().map(called).collect();
        let known = |node: &str| Some(node.to_owned());
        assert_eq!(all, [None, known("a"), known("a"), known("b")]);
        assert_eq!(State::open(None, 1, Counter::default()).rename_node("a"), None);
    }

    #[test]
    fn which_process_a_node_was_last_is_known_to_its_next() {
        let scratch = Scratch::new("process");
        let path = scratch.0.join("state");
        for (before, epoch) in [(None, 0x65aa_0000_0000_0001), (Some(0x65aa_0000_0000_0001), 7)] {
            let state = State::open(Some(&path), 1, Counter::default());
            assert_eq!(state.last_process(), before);
            state.keep_process(epoch);
            // The thread has the directory until it is done.
            while state.last_process() != Some(epoch) {
                std::thread::yield_now();
            }
            let directory = state.directory.clone().expect("it is there");
            drop(state);
            while Arc::strong_count(&directory) > 1 {
                std::thread::yield_now();
            }
        }
        assert_eq!(State::open(None, 1, Counter::default()).last_process(), None);
    }

    #[test]
    fn the_directory_is_private_and_keeps_its_key() {
        let scratch = Scratch::new("directory");
        let path = scratch.0.join("state");
        let first = Directory::open(&path).expect("made");
        assert_eq!((mode(&path), mode(&path.join(KEY))), (0o700, 0o600));
        let why = Directory::open(&path).expect_err("it is in use").to_string();
        assert!(why.contains("another process uses"), "{why}");
        let key = first.key;
        drop(first);
        assert_eq!(Directory::open(&path).expect("again").key, key);
    }

    #[test]
    fn a_key_that_is_none_is_moved_aside() {
        let scratch = Scratch::new("bad-key");
        std::fs::write(scratch.0.join(KEY), "torn").expect("written");
        let directory = Directory::open(&scratch.0).expect("it opens all the same");
        assert_eq!(std::fs::read(scratch.0.join(KEY)).expect("a key"), directory.key);
        let names = std::fs::read_dir(&scratch.0).expect("a folder");
        let aside = |e: &std::fs::DirEntry| e.file_name().to_string_lossy().contains(".corrupt-");
        assert_eq!(names.flatten().filter(aside).count(), 1);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_reported() {
        // Neither may root make anything here.
        let why = Directory::open(Path::new("/proc/self/state")).expect_err("no place");
        assert!(format!("{why:#}").contains("cannot be made"), "{why:#}");
        let file = Scratch::new("file");
        std::fs::write(file.0.join("f"), "").expect("written");
        assert!(Directory::open(&file.0.join("f")).is_err());
    }
}
