//! Files and databases that are full, locked, renamed, deleted and corrupt.

use super::keeper::RecordSink;
use super::*;
use crate::state::Directory;
use crate::state::spool::Item;
use crate::state::tests::Scratch;
use rusqlite::Connection;
use std::path::PathBuf;
use std::process::Command;

const CHILD: &str = "WEBTRUNK_JOURNAL_CHILD";

/// Waits for another thread.
fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
}

/// A record of about 500 bytes.
fn record(n: usize) -> Arc<Item> {
    let pad = "x".repeat(450);
    let text =
        json!({ "call": format!("c{n}"), "start": format!("2026-11-27T{n:06}"), "pad": pad });
    Arc::new(Item { number: 0, id: format!("c{n}"), text: text.to_string() })
}

fn spool(folder: &Path) -> Arc<Spool> {
    Arc::new(Spool::new(Arc::new(Directory::open(folder).expect("a directory"))))
}

fn start(sink: impl RecordSink, spool: Option<&Arc<Spool>>) -> (Keeper, KeeperCounts) {
    let counts = KeeperCounts::default();
    let keeper = Keeper::start("test", "it".into(), sink, spool.cloned(), counts.clone());
    (keeper.expect("threads"), counts)
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let call = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        record["call"].as_str().expect("a call").to_owned()
    };
    text.lines().map(call).collect()
}

fn rows(path: &Path) -> usize {
    let connection = Connection::open(path).expect("a database");
    let count = connection.query_row("SELECT count(*) FROM cdr", [], |row| row.get::<_, i64>(0));
    count.unwrap_or(0) as usize
}

fn calls(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("c{n}")).collect()
}

fn corrupt_files(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).expect("a folder").flatten().map(|e| e.path());
    let mut found: Vec<PathBuf> =
        files.filter(|p| p.to_string_lossy().contains(".corrupt-")).collect();
    found.retain(|p| !p.to_string_lossy().ends_with("-wal"));
    found.retain(|p| !p.to_string_lossy().ends_with("-shm"));
    found
}

#[test]
fn a_full_disk_costs_no_record() {
    let test = "journal::tests::a_full_disk_costs_no_record";
    if std::env::var_os(CHILD).is_none() {
        // Files of this process may be no longer than that, as on a disk that is full.
        let child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -S -f 200; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().expect("a test"))
            .args([test, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .expect("a shell");
        let printed = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && printed.contains("1 passed"), "{child:?}");
        return;
    }
    let scratch = Scratch::new("full-journal");
    let (file, db) = (scratch.0.join("cdr.jsonl"), scratch.0.join("cdr.db"));
    let (in_lines, counts) = start(LinesFile::new(&file), None);
    let (in_rows, of_rows) = start(Rows::new(&db), None);
    for n in 0..1_000 {
        in_lines.take(record(n));
        in_rows.take(record(n));
        // One at a time at first, so that the disk is full in the middle of it.
        until("written, or full", || n > 400 || counts.waiting.get() == 0 || n > 180);
    }
    until("the file waits", || counts.waiting.get() > 0);
    until("the database waits", || of_rows.waiting.get() > 0);
    assert!(lines(&file).len() < 1_000, "whole lines only");
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("a limit");
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).expect("room");
    until("all are written", || counts.waiting.get() == 0 && of_rows.waiting.get() == 0);
    assert_eq!(lines(&file), calls(0..1_000));
    drop(in_rows);
    assert_eq!(rows(&db), 1_000);
    assert_eq!((counts.dropped.get(), of_rows.dropped.get()), (0, 0));
}

#[test]
fn a_device_that_is_always_full_leaves_records_in_the_spool() {
    let scratch = Scratch::new("dev-full");
    let (kept, counts) = start(LinesFile::new(Path::new("/dev/full")), Some(&spool(&scratch.0)));
    (0..10).for_each(|n| kept.take(record(n)));
    drop(kept);
    assert_eq!((counts.waiting.get(), counts.dropped.get()), (10, 0));
    let file = scratch.0.join("cdr.jsonl");
    let spooled = spool(&scratch.0);
    let (kept, _) = start(LinesFile::new(&file), Some(&spooled));
    drop(kept);
    assert_eq!(lines(&file), calls(0..10));
    assert_eq!(spooled.waiting("test").expect("read").0, 0);
}

#[test]
fn a_file_that_is_renamed_or_deleted_is_begun_again() {
    let scratch = Scratch::new("renamed");
    let (file, old) = (scratch.0.join("cdr.jsonl"), scratch.0.join("cdr.jsonl.1"));
    let (kept, counts) = start(LinesFile::new(&file), None);
    let take = |n: usize| {
        kept.take(record(n));
        until("written", || counts.waiting.get() == 0);
    };
    take(0);
    std::fs::rename(&file, &old).expect("renamed");
    take(1);
    assert_eq!((lines(&old), lines(&file)), (calls(0..1), calls(1..2)));
    std::fs::remove_file(&file).expect("deleted");
    take(2);
    assert_eq!(lines(&file), calls(2..3));
    // As logrotate with `copytruncate`.
    std::fs::File::create(&file).expect("truncated");
    take(3);
    assert_eq!(lines(&file), calls(3..4));
    // As at SIGHUP: the new file is there before the next record.
    std::fs::rename(&file, &old).expect("renamed");
    kept.reopen();
    until("it is there", || file.exists());
}

#[test]
fn half_a_line_of_a_host_that_died_spoils_no_other() {
    let scratch = Scratch::new("half");
    let file = scratch.0.join("cdr.jsonl");
    std::fs::write(&file, "{\"call\":\"c0\"}\n{\"call\":\"c1\",\"st").expect("written");
    let (kept, _) = start(LinesFile::new(&file), None);
    kept.take(record(2));
    drop(kept);
    let text = std::fs::read_to_string(&file).expect("read");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[2].contains("\"c2\"")), (3, true), "{text}");
}

/// A process that was killed after it wrote, and before it updated the spool.
#[test]
fn what_was_written_is_not_doubled_by_the_next_process() {
    let scratch = Scratch::new("doubled");
    let (file, db) = (scratch.0.join("cdr.jsonl"), scratch.0.join("cdr.db"));
    let items: Vec<Item> =
        (0..4).map(|n| Item { number: n as u64 + 1, ..(*record(n)).clone() }).collect();
    LinesFile::new(&file).write(&items[..2]).expect("written");
    Rows::new(&db).write(&items[..2]).expect("written");
    let spool = spool(&scratch.0);
    spool.append("test", &items).expect("spooled");
    drop(start(LinesFile::new(&file), Some(&spool)));
    assert_eq!(lines(&file), calls(0..4));
    spool.append("test", &items).expect("spooled");
    drop(start(Rows::new(&db), Some(&spool)));
    assert_eq!(rows(&db), 4);
}

#[test]
fn a_locked_database_holds_nobody_up_and_costs_no_record() {
    let scratch = Scratch::new("locked");
    let db = scratch.0.join("cdr.db");
    drop(start(Rows::new(&db), None).0);
    Rows::new(&db).write(&[]).expect("made");
    let other = Connection::open(&db).expect("a database");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let spooled = spool(&scratch.0);
    let (kept, counts) = start(Rows::new(&db), Some(&spooled));
    let mut longest = Duration::ZERO;
    for n in 0..2_000 {
        let at = Instant::now();
        kept.take(record(n));
        longest = longest.max(at.elapsed());
    }
    assert!(longest < Duration::from_millis(250), "{longest:?}");
    until("all are in the spool", || spooled.waiting("test").expect("read").0 == 2_000);
    other.execute_batch("ROLLBACK").expect("free");
    until("all are written", || counts.waiting.get() == 0);
    drop(kept);
    assert_eq!((rows(&db), counts.dropped.get()), (2_000, 0));
}

#[test]
fn a_corrupt_database_is_moved_aside_at_the_start_and_in_use() {
    let scratch = Scratch::new("corrupt");
    let db = scratch.0.join("cdr.db");
    std::fs::write(&db, "no database at all".repeat(1_000)).expect("written");
    let (kept, counts) = start(Rows::new(&db), None);
    (0..100).for_each(|n| kept.take(record(n)));
    until("written", || counts.waiting.get() == 0);
    assert_eq!((rows(&db), corrupt_files(&scratch.0).len()), (100, 1));
    let other = Connection::open(&db).expect("a database");
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("all in one file");
    drop(other);
    let length = db.metadata().expect("a file").len() as usize;
    // In place: it is the same file still.
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::OpenOptions::new().write(true).open(&db).expect("it");
    file.write_all_at(&vec![0xa5; length], 0).expect("overwritten");
    (100..200).for_each(|n| kept.take(record(n)));
    until("written", || counts.waiting.get() == 0);
    drop(kept);
    assert_eq!((rows(&db), corrupt_files(&scratch.0).len()), (100, 2));
    assert_eq!(counts.dropped.get(), 0);
}

#[test]
fn a_database_that_is_deleted_is_begun_again() {
    let scratch = Scratch::new("deleted");
    let db = scratch.0.join("cdr.db");
    let (kept, counts) = start(Rows::new(&db), None);
    kept.take(record(0));
    until("written", || counts.waiting.get() == 0);
    for file in ["cdr.db", "cdr.db-wal", "cdr.db-shm"] {
        std::fs::remove_file(scratch.0.join(file)).expect("deleted");
    }
    kept.take(record(1));
    until("written", || counts.waiting.get() == 0);
    drop(kept);
    assert_eq!(rows(&db), 1);
}

/// Neither a folder that is not there yet, nor one that may not be written, costs a start.
#[test]
fn a_place_that_cannot_be_opened_yet_costs_no_record() {
    let scratch = Scratch::new("not-yet");
    let folder = scratch.0.join("later");
    let (in_lines, counts) = start(LinesFile::new(&folder.join("cdr.jsonl")), None);
    let (in_rows, of_rows) = start(Rows::new(&folder.join("cdr.db")), None);
    in_lines.take(record(0));
    in_rows.take(record(0));
    until("they wait", || counts.waiting.get() + of_rows.waiting.get() == 2);
    std::fs::create_dir(&folder).expect("a folder");
    until("written", || counts.waiting.get() + of_rows.waiting.get() == 0);
    drop((in_lines, in_rows));
    assert_eq!((lines(&folder.join("cdr.jsonl")).len(), rows(&folder.join("cdr.db"))), (1, 1));
}
