//! Records found again, page by page: in the database, or read from the end of the file.
//!
//! Records are in the order of their end in the file, and of their beginning in the database. A
//! page looks at a bounded number of them; one that few fit is short, and leads on to the next.

use super::sqlite;
use crate::cdr::search::{CallFilter, Facts};
use anyhow::Context;
use jiff::Timestamp;
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Records one page looks at.
const LOOKED_AT: usize = 20_000;
/// Bytes of the record file read at once.
const BLOCK: u64 = 1 << 18;

/// Where records are searched.
#[derive(Clone, Debug)]
pub(crate) enum RecordPlace {
    Lines(PathBuf),
    Database(PathBuf),
}

/// Which records are wanted, how many, and from where on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Search {
    /// Which calls are wanted.
    pub wanted: CallFilter,
    /// Calls that began then or later, since 1970.
    pub since: Option<Duration>,
    /// Calls that began before this, since 1970.
    pub until: Option<Duration>,
    /// Most records of a page.
    pub limit: usize,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// A page of records, the newest first, and where the next begins.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// The records, as they were written.
    pub records: Vec<Value>,
    /// Where the next page begins; `None` if this is the last.
    pub next: Option<String>,
    /// How many were looked at.
    pub looked_at: usize,
}

impl Page {
    /// Takes a record on, or returns that there is no room: the next page has something on it.
    fn is_full(&mut self, record: Value, limit: usize) -> bool {
        let full = self.records.len() >= limit;
        if !full {
            self.records.push(record);
        }
        full
    }

    /// Remembers that what was taken on ends `at` this place, and returns whether enough was looked
    /// at. Past a full page it continues, to know whether there is another.
    fn ends_at(&mut self, at: impl std::fmt::Display, limit: usize) -> bool {
        let enough = self.looked_at >= LOOKED_AT;
        if self.next.is_none() && (enough || self.records.len() >= limit) {
            self.next = Some(at.to_string());
        }
        enough
    }
}

/// The cursor does not belong here: it was made for another file.
#[derive(Debug)]
pub(crate) struct BadCursor;

impl std::fmt::Display for BadCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the cursor does not belong to this record file")
    }
}

impl std::error::Error for BadCursor {}

impl Search {
    /// How a time since 1970 is written in a record.
    fn written(at: Duration) -> Option<String> {
        let at = Timestamp::UNIX_EPOCH.checked_add(at).ok()?;
        Some(format!("{at:.3}"))
    }

    fn fits(&self, record: &Value, since: Option<&str>, until: Option<&str>) -> bool {
        let start = record["start"].as_str().unwrap_or_default();
        since.is_none_or(|since| start >= since)
            && until.is_none_or(|until| start < until)
            && self.wanted.fits(&Facts::of_record(record))
    }
}

/// The lines of a file from a place in it backwards, block by block: it may be larger than the
/// memory.
struct Backwards {
    file: File,
    /// Where what is buffered begins in the file.
    begin: u64,
    /// From a beginning of a line, or of the block, to the last newline that was not taken.
    buffered: Vec<u8>,
}

impl Backwards {
    fn new(path: &Path, end: Option<u64>) -> anyhow::Result<Backwards> {
        let mut file = File::open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        let begin = end.unwrap_or(length);
        if begin > length {
            return Err(BadCursor.into());
        }
        Ok(Backwards { file, begin, buffered: Vec::new() })
    }

    /// The line before, and where it begins.
    fn next(&mut self) -> std::io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            // Without the newline it ends with.
            let whole = self.buffered.strip_suffix(b"\n").unwrap_or(&self.buffered).len();
            let newline = memchr::memrchr(b'\n', &self.buffered[..whole]);
            if newline.is_some() || self.begin == 0 {
                let start = newline.map_or(0, |at| at + 1);
                if self.buffered.is_empty() {
                    return Ok(None);
                }
                let line = self.buffered[start..whole].to_vec();
                self.buffered.truncate(start);
                return Ok(Some((self.begin + start as u64, line)));
            }
            if self.buffered.len() as u64 > 8 * BLOCK {
                return Err(std::io::Error::other("a line longer than two megabytes"));
            }
            let begin = self.begin.saturating_sub(BLOCK);
            let mut block = vec![0; (self.begin - begin) as usize];
            self.file.seek(SeekFrom::Start(begin))?;
            self.file.read_exact(&mut block)?;
            block.append(&mut self.buffered);
            (self.begin, self.buffered) = (begin, block);
        }
    }
}

fn of_lines(path: &Path, search: &Search) -> anyhow::Result<Page> {
    let end = search.cursor.as_ref().map(|c| c.parse().map_err(|_| BadCursor)).transpose()?;
    let mut lines = Backwards::new(path, end)?;
    let since = search.since.and_then(Search::written);
    let until = search.until.and_then(Search::written);
    let mut page = Page::default();
    while let Some((at, line)) = lines.next()? {
        page.looked_at += 1;
        if let Ok(record) = serde_json::from_slice::<Value>(&line) {
            // What was written before ended before, and began earlier still.
            let end = record["end"].as_str();
            if let (Some(end), Some(since)) = (end, since.as_deref())
                && end < since
            {
                break;
            }
            if search.fits(&record, since.as_deref(), until.as_deref())
                && page.is_full(record, search.limit)
            {
                return Ok(page);
            }
        }
        if page.ends_at(at, search.limit) {
            return Ok(page);
        }
    }
    page.next = None;
    Ok(page)
}

fn of_database(path: &Path, search: &Search) -> anyhow::Result<Page> {
    let after = search.cursor.as_ref().map(|c| c.split_once('_').ok_or(BadCursor)).transpose()?;
    let since = search.since.and_then(Search::written);
    let until = search.until.and_then(Search::written);
    let bounds = sqlite::Bounds {
        since: since.as_deref(),
        until: until.as_deref(),
        outcome: search.wanted.outcome.as_deref(),
        after,
    };
    let (mut page, mut more) = (Page::default(), false);
    sqlite::walk(path, &bounds, |start, call, text| {
        page.looked_at += 1;
        let record: Value = serde_json::from_str(text)?;
        more = search.wanted.fits(&Facts::of_record(&record)) && page.is_full(record, search.limit)
            || page.ends_at(format_args!("{start}_{call}"), search.limit);
        Ok(!more)
    })?;
    page.next = page.next.filter(|_| more);
    Ok(page)
}

/// A page of the records that are wanted, the newest first.
///
/// # Errors
/// [`BadCursor`], or they cannot be read.
pub(crate) fn page(place: &RecordPlace, search: &Search) -> anyhow::Result<Page> {
    let (RecordPlace::Lines(path) | RecordPlace::Database(path)) = place;
    // It is made when the first record is written.
    if matches!(path.try_exists(), Ok(false)) {
        return Ok(Page::default());
    }
    let (path, found) = match place {
        RecordPlace::Lines(path) => (path, of_lines(path, search)),
        RecordPlace::Database(path) => (path, of_database(path, search)),
    };
    found.with_context(|| format!("{} cannot be read", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::keeper::RecordSink;
    use super::*;
    use crate::state::spool::Item;
    use std::io::Write;
    use tempfile::TempDir;

    const RECORDS: usize = 30_000;

    fn item(record: &Value) -> Item {
        let id = record["call"].as_str().unwrap_or_default().to_owned();
        Item { number: 0, id, text: record.to_string() }
    }

    /// A file and a database of the same records: one in a thousand was busy.
    fn places(folder: &TempDir) -> [RecordPlace; 2] {
        let (lines, database) = (folder.path().join("jsonl"), folder.path().join("db"));
        let records: Vec<Value> = (0..RECORDS)
            .map(|n| {
                let (day, minute, second) = (1 + n / 3_600, n / 60 % 60, n % 60);
                let start = format!("2026-11-{day:02}T00:{minute:02}:{second:02}.000Z");
                let from = serde_json::json!({
                    "user": "alice", "number": format!("+1206{n:07}"), "name": "Ada",
                    "pad": "x".repeat(150),
                });
                serde_json::json!({
                    "call": format!("{n:08x}"), "start": start, "end": start,
                    "outcome": if n % 1_000 == 0 { "busy" } else { "success" },
                    "from": from,
                })
            })
            .collect();
        let mut file = std::io::BufWriter::new(File::create(&lines).expect("a file"));
        records.iter().for_each(|r| writeln!(file, "{r}").expect("written"));
        drop(file);
        let items: Vec<Item> = records.iter().map(item).collect();
        sqlite::Rows::new(&database).write(&items).expect("written");
        [RecordPlace::Lines(lines), RecordPlace::Database(database)]
    }

    /// All that is found, page after page, and how many records were looked at.
    fn all(place: &RecordPlace, mut search: Search) -> (Vec<usize>, usize) {
        let (mut calls, mut looked_at) = (Vec::new(), 0);
        loop {
            let found = page(place, &search).expect("read");
            assert!(found.records.len() <= search.limit && found.looked_at <= LOOKED_AT);
            let number = |r: &Value| usize::from_str_radix(r["call"].as_str()?, 16).ok();
            calls.extend(found.records.iter().filter_map(number));
            looked_at += found.looked_at;
            search.cursor = found.next;
            if search.cursor.is_none() {
                return (calls, looked_at);
            }
        }
    }

    #[test]
    fn every_record_is_on_one_page_and_a_page_costs_what_it_shows() {
        let folder = tempfile::tempdir().expect("a folder");
        let places = places(&folder);
        for place in &places {
            let search = Search { limit: 1_000, ..Search::default() };
            let newest = page(place, &search).expect("read");
            assert_eq!((newest.records.len(), newest.looked_at), (1_000, 1_001), "and one more");
            let (calls, looked_at) = all(place, search);
            assert_eq!(calls, (0..RECORDS).rev().collect::<Vec<_>>(), "all, in order, none twice");
            assert_eq!(looked_at, RECORDS + RECORDS / 1_000 - 1, "one more a page");
        }
    }

    #[test]
    fn before_the_first_record_there_are_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let base = folder.path().join("none");
        for place in [RecordPlace::Lines(base.clone()), RecordPlace::Database(base)] {
            let found = page(&place, &Search { limit: 10, ..Search::default() }).expect("read");
            assert!(found.records.is_empty() && found.next.is_none());
        }
    }

    #[test]
    fn records_are_found_by_what_they_are_and_by_when() {
        let folder = tempfile::tempdir().expect("a folder");
        let places = places(&folder);
        let busy = CallFilter { outcome: Some("busy".into()), ..CallFilter::default() };
        let number = CallFilter { number: Some("0012345".into()), ..CallFilter::default() };
        let at = |text: &str| {
            let at: Timestamp = text.parse().expect("a time");
            Duration::try_from(at.as_duration()).ok()
        };
        for place in &places {
            let found = |search: Search| all(place, search);
            let (calls, _) = found(Search { wanted: busy.clone(), limit: 7, ..Search::default() });
            assert_eq!(calls, (0..RECORDS / 1_000).rev().map(|n| n * 1_000).collect::<Vec<_>>());
            let (calls, _) =
                found(Search { wanted: number.clone(), limit: 7, ..Search::default() });
            assert_eq!(calls, [12_345]);
            let (since, until) = (at("2026-11-08T00:00:00Z"), at("2026-11-08T00:01:00Z"));
            let (calls, looked_at) =
                found(Search { since, until, limit: 100, ..Search::default() });
            assert_eq!(calls, (7 * 3_600..7 * 3_600 + 60).rev().collect::<Vec<_>>());
            assert!(looked_at < 5_000, "what is older is not looked at: {looked_at}");
        }
        let lost = Search { cursor: Some("99999999999".into()), limit: 1, ..Search::default() };
        let odd = Search { cursor: Some("x".into()), limit: 1, ..Search::default() };
        for search in [lost, odd] {
            let refused = page(&places[0], &search).expect_err("no such place");
            assert!(refused.downcast_ref::<BadCursor>().is_some(), "{refused:#}");
        }
    }
}
