//! Records in a file: one JSON object a line.

use super::keeper::RecordSink;
use crate::errors::Code;
use crate::log_limit::{self, Level, LineClass};
use crate::private;
use crate::state::spool::Item;
use anyhow::Context;
use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Lines are on the disk itself at most this much later; a process that is killed loses none of
/// them.
const SYNC: Duration = Duration::from_millis(100);
/// How much of the end of a file is read for what an earlier process wrote last.
const TAIL: u64 = 4 << 20;

/// A file that may be renamed, deleted or full.
pub(super) struct LinesFile {
    path: PathBuf,
    open: Option<OpenFile>,
    /// What an earlier process wrote, by id: it may have ended before the spool learned of it.
    before: HashSet<String>,
}

struct OpenFile {
    file: File,
    identity: (u64, u64),
    synced: Instant,
    unsynced: bool,
}

fn identity(of: &std::fs::Metadata) -> (u64, u64) {
    (of.dev(), of.ino())
}

impl LinesFile {
    pub(super) fn new(path: &Path) -> LinesFile {
        let before = last_ids(path).unwrap_or_default();
        LinesFile { path: path.to_owned(), open: None, before }
    }

    /// The file at the path: another one once it was renamed or deleted.
    fn file(&mut self) -> anyhow::Result<&mut OpenFile> {
        let there = self.path.metadata().ok().map(|m| identity(&m));
        let open = self.open.take().filter(|open| Some(open.identity) == there);
        let open = match open {
            Some(open) => open,
            None => OpenFile::new(&self.path)
                .with_context(|| format!("{} cannot be opened", self.path.display()))?,
        };
        Ok(self.open.insert(open))
    }

    fn sync(&mut self) -> std::io::Result<()> {
        let Some(open) = self.open.as_mut().filter(|o| o.unsynced) else { return Ok(()) };
        open.unsynced = false;
        open.synced = Instant::now();
        // A pipe or a device has nothing to sync.
        open.file.sync_data().or_else(|e| match e.kind() {
            std::io::ErrorKind::InvalidInput => Ok(()),
            _ => Err(e),
        })
    }
}

impl OpenFile {
    fn new(path: &Path) -> std::io::Result<OpenFile> {
        let mut file = private::append_and_read(path)?;
        let found = file.metadata()?;
        if found.is_file() && found.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            // Half a line of a host that died would spoil the next one too.
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(OpenFile { file, identity: identity(&found), synced: Instant::now(), unsynced: false })
    }
}

impl RecordSink for LinesFile {
    fn write(&mut self, records: &[Item]) -> anyhow::Result<()> {
        let fresh: Vec<&Item> = records.iter().filter(|r| !self.before.contains(&r.id)).collect();
        let open = self.file()?;
        let text = fresh.iter().fold(String::new(), |text, r| text + &r.text + "\n");
        let length = open.file.metadata()?.len();
        if let Err(e) = open.file.write_all(text.as_bytes()) {
            // Half a line would spoil the next one too.
            let _ = open.file.set_len(length);
            self.open = None;
            return Err(e.into());
        }
        open.unsynced = true;
        if open.synced.elapsed() >= SYNC {
            self.sync()?;
        }
        Ok(())
    }

    fn rest(&mut self) {
        if let Err(e) = self.sync() {
            let class = LineClass::new("call records not kept", Code::RECORDS);
            log_limit::tell(Level::Warn, class, || {
                format!("the disk does not keep {}: {e}", self.path.display())
            });
        }
    }

    fn reopen(&mut self) {
        let _ = self.sync();
        self.open = None;
        // The new file is there at once: a log rotator may wait for it.
        let _ = self.file();
    }
}

/// The ids of the last records of a file.
fn last_ids(path: &Path) -> std::io::Result<HashSet<String>> {
    // A pipe has nothing to read back, and would be waited for.
    if !path.metadata()?.is_file() {
        return Ok(HashSet::new());
    }
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let id = |line: &[u8]| {
        let record: serde_json::Value = serde_json::from_slice(line).ok()?;
        Some(record["call"].as_str()?.to_owned())
    };
    Ok(bytes.split(|b| *b == b'\n').filter_map(id).collect())
}
