//! Records in a SQLite database: the record as JSON, and beside it what is searched for.

use super::keeper::RecordSink;
use crate::errors::Code;
use crate::log_limit::{self, Level, LineClass};
use crate::state::database::{Database, DatabaseSettings, is_corrupt};
use crate::state::move_aside;
use crate::state::spool::Item;
use rusqlite::{Connection, OpenFlags, params, params_from_iter};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a reader waits for a writer that holds the file.
const BUSY: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS cdr (
    call TEXT NOT NULL, start TEXT NOT NULL, direction TEXT, caller TEXT, number TEXT, dialled TEXT, answered_by TEXT,
    outcome TEXT, sip_code INTEGER, code TEXT, billable_s REAL, record TEXT NOT NULL, PRIMARY KEY (start, call)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cdr_caller ON cdr (caller, start);
CREATE INDEX IF NOT EXISTS cdr_number ON cdr (number, start);
";

const SETTINGS: DatabaseSettings = DatabaseSettings {
    schema: SCHEMA,
    synced: true,
    shared: true,
    // Not for long: the thread must see that it is over. It tries again.
    busy: Duration::from_secs(1),
};

/// A database that may be full, locked, deleted or corrupt.
pub(super) struct Rows {
    path: PathBuf,
    database: Option<Database>,
}

impl Rows {
    pub(super) fn new(path: &Path) -> Rows {
        Rows { path: path.to_owned(), database: None }
    }

    fn database(&mut self) -> anyhow::Result<&mut Database> {
        // One that was renamed or deleted would take records where nobody looks for them.
        let database = match self.database.take().filter(Database::is_in_place) {
            Some(database) => database,
            None => {
                let (database, aside) = Database::open_or_begin(&self.path, &SETTINGS)?;
                if let Some(aside) = aside {
                    self.report_corrupt(&aside);
                }
                database
            }
        };
        Ok(self.database.insert(database))
    }

    fn report_corrupt(&self, aside: &Path) {
        let class = LineClass::new("databases moved aside", Code::RECORDS_CORRUPT);
        log_limit::tell(Level::Warn, class, || {
            let (path, aside) = (self.path.display(), aside.display());
            format!("{path} is corrupt; it was moved to {aside}, and records go to a new one")
        });
    }
}

impl RecordSink for Rows {
    fn write(&mut self, records: &[Item]) -> anyhow::Result<()> {
        let mut written = insert(&mut self.database()?.connection, records);
        if written.as_ref().is_err_and(is_corrupt) {
            self.database = None;
            let aside = move_aside(&self.path)?;
            self.report_corrupt(&aside);
            written = insert(&mut self.database()?.connection, records);
        }
        if written.is_err() {
            self.database = None;
        }
        written?;
        // Deleted while it was written into.
        anyhow::ensure!(
            self.database.as_ref().is_some_and(Database::is_in_place),
            "{} was taken away",
            self.path.display()
        );
        Ok(())
    }

    fn reopen(&mut self) {
        self.database = None;
    }
}

/// Writes records in one transaction; one that is there already stays as it is.
fn insert(connection: &mut Connection, records: &[Item]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction.prepare_cached(
            "INSERT OR IGNORE INTO cdr VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?;
        for item in records {
            let r: Value = serde_json::from_str(&item.text).unwrap_or_default();
            let text = |value: &Value| value.as_str().map(str::to_owned);
            insert.execute(params![
                item.id,
                text(&r["start"]).unwrap_or_default(),
                text(&r["direction"]),
                text(&r["from"]["user"]),
                text(&r["to"]["number"]),
                text(&r["to"]["dialled"]),
                text(&r["answered_by"]),
                text(&r["outcome"]),
                r["sip_code"].as_i64(),
                text(&r["code"]),
                r["billable_s"].as_f64(),
                item.text,
            ])?;
        }
    }
    transaction.commit()
}

/// Which records are walked through.
pub(super) struct Bounds<'a> {
    /// As times are written in records.
    pub(super) since: Option<&'a str>,
    /// Records that began before this.
    pub(super) until: Option<&'a str>,
    /// How the call ended, as in the record.
    pub(super) outcome: Option<&'a str>,
    /// Only what comes after this beginning and call.
    pub(super) after: Option<(&'a str, &'a str)>,
}

/// Hands over records, each with its beginning and call, the newest first, until `each` has enough.
///
/// # Errors
/// The database cannot be read.
pub(super) fn walk(
    path: &Path,
    bounds: &Bounds<'_>,
    mut each: impl FnMut(&str, &str, &str) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(BUSY)?;
    let (mut conditions, mut values) = (vec!["1"], Vec::new());
    let given = [
        ("start >= ?", bounds.since),
        ("start < ?", bounds.until),
        ("outcome = ?", bounds.outcome),
    ];
    for (condition, value) in given {
        if let Some(value) = value {
            conditions.push(condition);
            values.push(value);
        }
    }
    if let Some((start, call)) = bounds.after {
        conditions.push("(start, call) < (?, ?)");
        values.extend([start, call]);
    }
    let sql = format!(
        "SELECT start, call, record FROM cdr WHERE {} ORDER BY start DESC, call DESC",
        conditions.join(" AND ")
    );
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        let text = |at: usize| Ok::<_, anyhow::Error>(row.get_ref(at)?.as_str()?);
        if !each(text(0)?, text(1)?, text(2)?)? {
            break;
        }
    }
    Ok(())
}
