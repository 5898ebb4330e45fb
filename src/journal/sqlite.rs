//! Records in a SQLite database: the record as JSON, and beside it what is searched for.

use crate::private;
use rusqlite::{Connection, OpenFlags, params, params_from_iter};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Others may read meanwhile; a reader that holds the file this long is given up on.
const BUSY: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS cdr (
    call TEXT NOT NULL, start TEXT NOT NULL, direction TEXT, caller TEXT, number TEXT, dialled TEXT, answered_by TEXT,
    outcome TEXT, sip_code INTEGER, code TEXT, billable_s REAL, record TEXT NOT NULL, PRIMARY KEY (start, call)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cdr_caller ON cdr (caller, start);
CREATE INDEX IF NOT EXISTS cdr_number ON cdr (number, start);
";

/// Opens the database for writing; makes it where there is none.
///
/// # Errors
/// It cannot be opened, or is something else.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    // SQLite would make it for everybody to read; the files beside it get its rights. What is wrong
    // with the place, SQLite itself says.
    let _ = private::touch(path);
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    // Readers do not wait for the writer; a commit is on the disk when it returns.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

/// Writes records in one transaction; one that is there already stays as it is.
///
/// # Errors
/// None of them was written.
pub(super) fn write(connection: &mut Connection, records: &[Value]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction.prepare_cached(
            "INSERT OR IGNORE INTO cdr VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?;
        for r in records {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            insert.execute(params![
                text(&r["call"]).unwrap_or_default(),
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
                r.to_string(),
            ])?;
        }
    }
    transaction.commit()
}

/// Which records are walked through.
pub(super) struct Bounds<'a> {
    /// As times are written in records.
    pub(super) since: Option<&'a str>,
    pub(super) until: Option<&'a str>,
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
