//! Records in a SQLite database: the record as JSON, and beside it what is searched for.

use super::search::Wanted;
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

/// The newest records that are wanted, as JSON, the newest first.
///
/// # Errors
/// The database cannot be read.
pub(super) fn newest(path: &Path, query: &Wanted, most: usize) -> rusqlite::Result<Vec<String>> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(BUSY)?;
    let user = query.user.as_ref().map(|u| format!("user:{u}"));
    let wanted: [(&Option<String>, &str); 5] = [
        (&query.from, "start >= ?"),
        (&query.to, "start < ?"),
        (&query.number, "(instr(number, ?) OR instr(dialled, ?))"),
        (&query.outcome, "outcome = ?"),
        (&user, "? IN ('user:' || caller, answered_by)"),
    ];
    let given =
        || wanted.iter().filter_map(|(value, condition)| Some((value.as_ref()?, *condition)));
    let conditions: Vec<&str> =
        std::iter::once("1").chain(given().map(|(_, condition)| condition)).collect();
    let values = given()
        .flat_map(|(value, condition)| std::iter::repeat_n(value, condition.matches('?').count()));
    let sql = format!(
        "SELECT record FROM cdr WHERE {} ORDER BY start DESC, call DESC LIMIT {most}",
        conditions.join(" AND ")
    );
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| row.get(0))?;
    rows.collect()
}
