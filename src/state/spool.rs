//! The spool: what could not be delivered yet, in order, until it is.

use super::Directory;
use super::database::{Database, DatabaseSettings, is_corrupt};
use super::move_aside;
use crate::errors::Code;
use rusqlite::{Connection, params};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const FILE: &str = "spool.db";
const SETTINGS: DatabaseSettings = DatabaseSettings {
    schema: "CREATE TABLE IF NOT EXISTS spool (sink TEXT NOT NULL, number INTEGER NOT NULL, \
             id TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (sink, number))",
    synced: true,
    shared: false,
    busy: Duration::from_millis(100),
};
/// Most items of one sink, some 200 MB of records.
pub(crate) const MOST: usize = 100_000;

/// Something to be delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Item {
    /// Counts the items of its sink; they are delivered in this order.
    pub(crate) number: u64,
    /// What a receiver knows it by if it comes twice.
    pub(crate) id: String,
    /// What is delivered.
    pub(crate) text: String,
}

/// A file of what waits, by sink. It is made when something first has to wait.
pub struct Spool {
    // The directory is ours for as long as the file is open.
    _directory: Arc<Directory>,
    path: PathBuf,
    database: Mutex<Option<Database>>,
}

impl Spool {
    /// The spool of a directory; nothing is opened yet.
    pub(crate) fn new(directory: Arc<Directory>) -> Spool {
        Spool { path: directory.file(FILE), _directory: directory, database: Mutex::default() }
    }

    /// Does something with the database, opened if it is not; one that is corrupt is moved aside.
    fn with<T>(
        &self,
        does: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> anyhow::Result<T> {
        let mut kept = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() {
            let (database, aside) = Database::open_or_begin(&self.path, &SETTINGS)?;
            *kept = Some(database);
            if let Some(aside) = aside {
                self.report_lost(&aside);
            }
        }
        let Some(database) = kept.as_mut() else { anyhow::bail!("it is not open") };
        match does(&mut database.connection) {
            Ok(done) => Ok(done),
            Err(e) => {
                // Opened anew next time: the disk may be another by then.
                *kept = None;
                if is_corrupt(&e) {
                    self.report_lost(&move_aside(&self.path)?);
                }
                Err(e.into())
            }
        }
    }

    fn report_lost(&self, aside: &std::path::Path) {
        tracing::error!(
            code = %Code::RECORDS_LOST,
            "{} cannot be read, and what waited in it is lost; it was moved to {}",
            self.path.display(),
            aside.display()
        );
    }

    /// Keeps items; those whose number is there already stay as they are.
    ///
    /// # Errors
    /// None of them is kept.
    pub(crate) fn append(&self, sink: &str, items: &[Item]) -> anyhow::Result<()> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            {
                let mut insert = transaction
                    .prepare_cached("INSERT OR IGNORE INTO spool VALUES (?1, ?2, ?3, ?4)")?;
                for item in items {
                    insert.execute(params![sink, item.number as i64, item.id, item.text])?;
                }
            }
            transaction.commit()
        })
    }

    /// The oldest items from `number` on.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn from(&self, sink: &str, number: u64, most: usize) -> anyhow::Result<Vec<Item>> {
        self.with(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT number, id, text FROM spool WHERE sink = ?1 AND number >= ?2 \
                 ORDER BY number LIMIT ?3",
            )?;
            let rows = select.query_map(params![sink, number as i64, most as i64], |row| {
                let number = row.get::<_, i64>(0)? as u64;
                Ok(Item { number, id: row.get(1)?, text: row.get(2)? })
            })?;
            rows.collect()
        })
    }

    /// Forgets items that were delivered.
    ///
    /// # Errors
    /// They are still there, and will be found again.
    pub(crate) fn remove(&self, sink: &str, numbers: &[u64]) -> anyhow::Result<()> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            {
                let mut delete = transaction
                    .prepare_cached("DELETE FROM spool WHERE sink = ?1 AND number = ?2")?;
                for number in numbers {
                    delete.execute(params![sink, *number as i64])?;
                }
            }
            transaction.commit()
        })
    }

    /// How many items of a sink wait, and the highest number among them.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn waiting(&self, sink: &str) -> anyhow::Result<(usize, u64)> {
        if !self.path.exists() {
            return Ok((0, 0));
        }
        self.with(|connection| {
            connection.query_row(
                "SELECT count(*), coalesce(max(number), 0) FROM spool WHERE sink = ?1",
                [sink],
                |row| Ok((row.get::<_, i64>(0)? as usize, row.get::<_, i64>(1)? as u64)),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::Scratch;

    fn item(number: u64) -> Item {
        Item { number, id: format!("id{number}"), text: format!("{{\"n\":{number}}}") }
    }

    #[test]
    fn what_waits_is_found_in_order_by_the_next_process() {
        let scratch = Scratch::new("spool");
        let open = || Spool::new(Arc::new(Directory::open(&scratch.0).expect("a directory")));
        let spool = open();
        assert_eq!(spool.waiting("file").expect("none"), (0, 0));
        assert!(!scratch.0.join(FILE).exists(), "nothing waited");
        spool.append("file", &[item(3), item(1)]).expect("kept");
        spool.append("file", &[item(1), item(2)]).expect("kept");
        spool.append("sqlite", &[item(9)]).expect("kept");
        drop(spool);
        let spool = open();
        assert_eq!(spool.waiting("file").expect("three"), (3, 3));
        assert_eq!(spool.from("file", 0, 2).expect("two"), [item(1), item(2)]);
        spool.remove("file", &[1, 2]).expect("removed");
        assert_eq!(spool.from("file", 0, 2).expect("one"), [item(3)]);
        assert_eq!(spool.waiting("sqlite").expect("one"), (1, 9));
    }
}
