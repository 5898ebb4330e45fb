//! SQLite files that may be full, locked, deleted or corrupt.

use super::move_aside;
use crate::private;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a database is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DatabaseSettings {
    /// The statements that make its tables.
    pub(crate) schema: &'static str,
    /// Whether a commit is on the disk when it returns. Without, it survives the process, but not
    /// the host.
    pub(crate) synced: bool,
    /// Whether other processes may have it open too.
    pub(crate) shared: bool,
    /// How long somebody else's lock is waited for at once.
    pub(crate) busy: Duration,
}

/// An open database, and what its file was when it was opened.
#[derive(Debug)]
pub(crate) struct Database {
    /// The open connection.
    pub(crate) connection: Connection,
    path: PathBuf,
    file: Option<(u64, u64)>,
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|m| (m.dev(), m.ino()))
}

/// The log of a database.
fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// A character of a path within the URI of a database.
fn escaped(character: char) -> String {
    match character {
        '?' | '#' | '%' => format!("%{:02x}", u32::from(character)),
        other => other.into(),
    }
}

/// Whether the file is no database, or no longer one.
pub(crate) fn is_corrupt(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

impl Database {
    /// Opens a database; makes it if there is none.
    ///
    /// # Errors
    /// It cannot be opened, is locked, or is not a database.
    pub(crate) fn open(path: &Path, settings: &DatabaseSettings) -> rusqlite::Result<Database> {
        // SQLite would make it for everybody to read; the files beside it get its rights. What is
        // wrong with the place, SQLite itself says.
        if settings.shared {
            let _ = private::touch(path);
        } else {
            let _ = super::private().open(path);
        }
        let connection = Connection::open(path)?;
        connection.busy_timeout(settings.busy)?;
        if !settings.shared {
            // Before the log is opened: its index is memory of ours then, not a mapped file.
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        }
        // Readers do not wait for the writer.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        let synchronous = if settings.synced { "FULL" } else { "OFF" };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.execute_batch(settings.schema)?;
        Ok(Database { connection, path: path.to_owned(), file: identity(path) })
    }

    /// Opens a database if nothing can be written, not even its log's index. Nobody else may have
    /// it open.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn open_read_only(path: &Path) -> rusqlite::Result<Database> {
        let only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = if log_of(path).exists() {
            // Locks are of files that can be written.
            Connection::open_with_flags_and_vfs(path, only, c"unix-none")?
        } else {
            // Whoever had it last ended well. A log would be made, were this not taken for one that
            // nobody changes.
            let name: String = path.to_string_lossy().chars().map(escaped).collect();
            let uri = format!("file:{name}?immutable=1");
            Connection::open_with_flags(uri, only | OpenFlags::SQLITE_OPEN_URI)?
        };
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        Ok(Database { connection, path: path.to_owned(), file: identity(path) })
    }

    /// As [`open`](Self::open); one that is corrupt is moved aside, and a new one begun. Returns
    /// where it was moved.
    ///
    /// # Errors
    /// It cannot be opened, or is locked.
    pub(crate) fn open_or_begin(
        path: &Path,
        settings: &DatabaseSettings,
    ) -> anyhow::Result<(Database, Option<PathBuf>)> {
        match Database::open(path, settings) {
            Ok(database) => Ok((database, None)),
            Err(e) if is_corrupt(&e) => {
                let aside = move_aside(path)?;
                Ok((Database::open(path, settings)?, Some(aside)))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Whether the file at its path is still the one that was opened.
    pub(crate) fn is_in_place(&self) -> bool {
        self.file.is_some() && identity(&self.path) == self.file
    }
}

/// Removes a database with its log.
///
/// # Errors
/// It is still there.
pub(super) fn remove(path: &Path) -> std::io::Result<()> {
    let gone = |path: &Path| match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    };
    // The database first: a log without one is nothing.
    gone(path)?;
    gone(&log_of(path))
}
