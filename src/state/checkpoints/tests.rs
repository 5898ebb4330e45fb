use super::*;
use crate::state::pack::tests::noise;
use crate::state::tests::Scratch;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const LONG: Duration = Duration::from_secs(60);
/// In the environment of a test that runs in a process of its own.
const CHILD: &str = "WEBTRUNK_STATE_CHILD";

fn open(folder: &Path) -> (Checkpoints, Vec<CheckpointEntry>, Counter) {
    let (directory, failed) = (Directory::open(folder).expect("a directory"), Counter::default());
    let (checkpoints, mut entries) = Checkpoints::open(&directory, 1, failed.clone());
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    (checkpoints, entries, failed)
}

/// Waits for another thread.
fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
}

fn fresh(name: &str, bytes: &[u8]) -> CheckpointEntry {
    CheckpointEntry { name: name.into(), record: Record::Fresh(bytes.to_vec()) }
}

/// Runs a test of this module again in a process with these limits of the shell.
fn in_child(test: &str, limits: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let exe = std::env::current_exe().expect("a test");
    let test = format!("state::checkpoints::tests::{test}");
    let child = Command::new("sh")
        .args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")])
        .arg(exe)
        .args([&test, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("a shell");
    let printed = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && printed.contains("1 passed"), "{child:?}");
    false
}

#[tokio::test]
async fn who_waits_for_a_value_to_be_written_is_woken() {
    let scratch = Scratch::new("woken");
    let (checkpoints, ..) = open(&scratch.0);
    let (slot, written) = (checkpoints.slot("a"), checkpoints.on_written());
    for n in 1..=3 {
        let before = checkpoints.batches();
        assert_eq!(slot.put(*b"value", LONG), n);
        while slot.written() < n {
            let woken = tokio::time::timeout(Duration::from_secs(20), written.notified());
            woken.await.expect("a notification");
        }
        assert!(checkpoints.batches() > before);
    }
}

#[test]
fn the_newest_values_are_found_by_the_next_process() {
    let scratch = Scratch::new("newest");
    let (checkpoints, entries, _) = open(&scratch.0);
    assert_eq!(entries, []);
    let (a, b) = (checkpoints.slot("a"), checkpoints.slot("b"));
    assert_eq!(a.written(), 0);
    let first = a.put(*b"one", LONG);
    until("it is written", || a.written() == first);
    a.put(*b"two", LONG);
    b.put(*b"short", LONG);
    b.remove();
    checkpoints.slot("c").put(*b"three", LONG);
    drop(checkpoints);
    let (checkpoints, entries, failed) = open(&scratch.0);
    assert_eq!(entries, [fresh("a", b"two"), fresh("c", b"three")]);
    assert_eq!(checkpoints.slot("c").newest().as_deref(), Some(&b"three"[..]));
    checkpoints.slot("a").remove();
    drop(checkpoints);
    assert_eq!(open(&scratch.0).1, [fresh("c", b"three")]);
    assert_eq!(failed.get(), 0);
    let mode =
        |file: &str| scratch.0.join(file).metadata().expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(FILE), 0o600);
}

#[test]
fn a_process_that_is_killed_has_left_what_was_written() {
    const FOLDER: &str = "WEBTRUNK_STATE_FOLDER";
    if let Some(folder) = std::env::var_os(FOLDER) {
        let (checkpoints, _, _) = open(Path::new(&folder));
        let slots: Vec<Slot> = (0..500).map(|n| checkpoints.slot(&format!("{n}"))).collect();
        let last = slots.iter().map(|s| s.put(vec![7; 1_500], LONG)).max();
        until("all are written", || slots.iter().all(|s| Some(s.written()) == last));
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).expect("killed");
    }
    let scratch = Scratch::new("killed");
    let test = "a_process_that_is_killed_has_left_what_was_written";
    let child = Command::new(std::env::current_exe().expect("a test"))
        .args([&format!("state::checkpoints::tests::{test}"), "--exact"])
        .env(FOLDER, &scratch.0)
        .output()
        .expect("it ran");
    assert!(!child.status.success());
    let (_, entries, failed) = open(&scratch.0);
    assert_eq!((entries.len(), failed.get()), (500, 0));
    assert!(entries.iter().all(|e| e.record == Record::Fresh(vec![7; 1_500])));
}

#[test]
fn a_value_is_good_for_its_time_only() {
    let scratch = Scratch::new("stale");
    let (checkpoints, _, _) = open(&scratch.0);
    let slot = checkpoints.slot("old");
    slot.put(*b"x", Duration::ZERO);
    drop(checkpoints);
    until("its time is over", || slot.written() == 0);
    let (checkpoints, entries, _) = open(&scratch.0);
    assert_eq!(entries[0].record, Record::Stale(b"x".to_vec()));
    drop(checkpoints);
}

#[test]
fn a_value_of_another_version_is_reported_as_such() {
    let scratch = Scratch::new("version");
    let directory = Directory::open(&scratch.0).expect("a directory");
    let (newer, _) = Checkpoints::open(&directory, 2, Counter::default());
    newer.slot("a").put(*b"x", LONG);
    drop(newer);
    let (_older, entries) = Checkpoints::open(&directory, 1, Counter::default());
    assert_eq!(
        entries,
        [CheckpointEntry { name: "a".into(), record: Record::UnknownVersion(2, b"x".to_vec()) }]
    );
}

#[test]
fn files_that_cannot_be_read_cost_checkpoints_only() {
    type Damage = (&'static str, fn(&Path));
    let damage: [Damage; 4] = [
        ("foreign", |f| std::fs::write(f.join(FILE), "not ours".repeat(900)).expect("written")),
        ("truncated", |f| {
            let file = std::fs::OpenOptions::new().write(true).open(f.join(FILE)).expect("it");
            file.set_len(5_000).expect("truncated");
        }),
        ("overwritten", |f| {
            let mut bytes = std::fs::read(f.join(FILE)).expect("it");
            bytes[4_096..].fill(0xa5);
            std::fs::write(f.join(FILE), bytes).expect("written");
        }),
        ("key", |f| std::fs::write(f.join("key"), [1; 32]).expect("written")),
    ];
    for (name, damage) in damage {
        let scratch = Scratch::new(&format!("damage-{name}"));
        let (checkpoints, _, _) = open(&scratch.0);
        for n in 0..100 {
            checkpoints.slot(&format!("{n}")).put(noise(n, 900), LONG);
        }
        drop(checkpoints);
        damage(&scratch.0);
        let (checkpoints, entries, _) = open(&scratch.0);
        assert_eq!(entries, [], "{name}");
        checkpoints.slot("new").put(*b"x", LONG);
        drop(checkpoints);
        assert_eq!(open(&scratch.0).1, [fresh("new", b"x")], "{name}");
    }
}

#[test]
fn a_torn_log_keeps_what_was_committed_before() {
    let scratch = Scratch::new("torn");
    let (checkpoints, _, _) = open(&scratch.0);
    let slot = checkpoints.slot("a");
    let first = slot.put(*b"first", LONG);
    until("it is written", || slot.written() == first);
    let (db, wal) = (scratch.0.join(FILE), scratch.0.join(format!("{FILE}-wal")));
    let before = wal.metadata().expect("a log").len();
    let second = slot.put(noise(2, 20_000), LONG);
    until("it is written", || slot.written() == second);
    let copy = Scratch::new("torn-copy");
    for file in ["key", "lock"] {
        std::fs::copy(scratch.0.join(file), copy.0.join(file)).expect("copied");
    }
    std::fs::copy(db, copy.0.join(FILE)).expect("copied");
    let log = std::fs::read(wal).expect("a log");
    for end in [before as usize + 1, log.len() - 1] {
        std::fs::write(copy.0.join(format!("{FILE}-wal")), &log[..end]).expect("written");
        assert_eq!(open(&copy.0).1, [fresh("a", b"first")], "{end}");
    }
}

#[test]
fn a_full_disk_costs_checkpoints_until_there_is_room() {
    if !in_child(
        "a_full_disk_costs_checkpoints_until_there_is_room",
        "trap '' XFSZ; ulimit -S -f 400",
    ) {
        return;
    }
    let scratch = Scratch::new("full");
    let (directory, failed) =
        (Directory::open(&scratch.0).expect("a directory"), Counter::default());
    let (checkpoints, _) = Checkpoints::open(&directory, 1, failed.clone());
    let slots: Vec<Slot> = (0..300).map(|n| checkpoints.slot(&format!("{n}"))).collect();
    let first = slots[0].put(*b"small", LONG);
    until("it fits", || slots[0].written() == first);
    for slot in &slots {
        slot.put(noise(3, 2_000), LONG);
    }
    until("it is full", || failed.get() > 0);
    until("nothing old is left to be found", || slots[0].written() == 0);
    assert!(!scratch.0.join(FILE).exists() || failed.get() > 1);
    let (_, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_FSIZE).expect("a limit");
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_FSIZE, hard, hard)
        .expect("no limit");
    until("all are written again", || slots.iter().all(|s| s.written() > 0));
    drop((checkpoints, directory));
    let entries = open(&scratch.0).1;
    assert_eq!(entries.len(), 300);
    assert!(entries.iter().all(|e| e.record == Record::Fresh(noise(3, 2_000))));
}

/// Whether a process may have a view of the file system of its own here.
fn may_mount() -> bool {
    let tried = Command::new("unshare").args(["--map-root-user", "--mount", "true"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

fn mount(options: &str, folder: &Path) {
    let mut command = Command::new("mount");
    match options {
        "bind" => command.arg("--bind").arg(folder),
        options => command.args(["-o", &format!("remount,bind,nosuid,nodev,{options}")]),
    };
    let done = command.arg(folder).output().expect("mount");
    assert!(done.status.success(), "{done:?}");
}

/// As a file system is on which its host has found errors.
#[test]
fn a_read_only_directory_is_read_and_written_again_once_it_can_be() {
    let own = "exec unshare --map-root-user --mount \"$0\" \"$@\"";
    let test = "a_read_only_directory_is_read_and_written_again_once_it_can_be";
    if std::env::var_os(CHILD).is_none() && !may_mount() {
        eprintln!("skipped: this host lets nobody mount");
        return;
    }
    if !in_child(test, own) {
        return;
    }
    for killed in [false, true] {
        let scratch = Scratch::new("read-only");
        let folder = scratch.0.join("odd #1%20?");
        std::fs::create_dir_all(&folder).expect("a folder");
        let (checkpoints, ..) = open(&scratch.0);
        let slot = checkpoints.slot("a");
        let first = slot.put(*b"first", LONG);
        until("it is written", || slot.written() >= first);
        if !killed {
            drop((checkpoints, slot));
        }
        // What a process that is killed leaves has its log beside it.
        for file in std::fs::read_dir(&scratch.0).expect("readable").flatten() {
            if file.path().is_file() {
                std::fs::copy(file.path(), folder.join(file.file_name())).expect("a copy");
            }
        }
        assert_eq!(folder.join(format!("{FILE}-wal")).exists(), killed);
        is_read_and_written_later(&folder);
    }
}

fn is_read_and_written_later(folder: &Path) {
    mount("bind", folder);
    mount("ro", folder);
    assert!(std::fs::write(folder.join("other"), "").is_err(), "it is read-only");
    for _ in 0..2 {
        let (checkpoints, found, failed) = open(folder);
        assert_eq!(found, [fresh("a", b"first")], "its calls continue");
        let slot = checkpoints.slot("a");
        slot.put(*b"second", LONG);
        until("it is tried", || failed.get() > 0);
        assert!(slot.written() == 0 && !checkpoints.is_nothing_left(), "the old one can be found");
    }
    let directory = Directory::open(folder).expect("a directory");
    let (checkpoints, _) = Checkpoints::open(&directory, 1, Counter::default());
    let slot = checkpoints.slot("a");
    let second = slot.put(*b"second", LONG);
    mount("rw", folder);
    until("it is written", || slot.written() >= second);
    drop((checkpoints, slot, directory));
    assert_eq!(open(folder).1, [fresh("a", b"second")]);
}

/// The process may not enter it: it starts and serves all the same, and keeps nothing.
#[test]
fn a_directory_of_another_user_costs_checkpoints_only() {
    let own = "exec setpriv --bounding-set=-dac_override,-dac_read_search \"$0\" \"$@\"";
    let test = "a_directory_of_another_user_costs_checkpoints_only";
    let root = nix::unistd::geteuid().is_root();
    if root && !in_child(test, own) {
        return;
    }
    let scratch = Scratch::new("another");
    let theirs = scratch.0.join("theirs");
    std::fs::create_dir_all(&theirs).expect("a folder");
    let mode = |mode| std::fs::set_permissions(&theirs, std::fs::Permissions::from_mode(mode));
    mode(0o700).expect("closed to others");
    if !root || std::os::unix::fs::chown(&theirs, Some(65_534), None).is_err() {
        mode(0o000).expect("closed to everybody");
    }
    let state = crate::state::State::open(Some(&theirs), 1, Counter::default());
    assert!(state.directory.is_none() && state.found.is_empty());
    let slot = state.checkpoints.slot("a");
    slot.put(*b"value", LONG);
    assert_eq!((slot.newest().as_deref(), slot.written()), (Some(&b"value"[..]), 0));
}

#[test]
fn a_directory_that_is_taken_away_under_the_process_is_made_again() {
    type Theft = (&'static str, fn(&Path));
    let thefts: [Theft; 4] = [
        ("removed", |f| std::fs::remove_dir_all(f).expect("removed")),
        ("moved", |f| std::fs::rename(f, f.with_extension("moved")).expect("moved")),
        ("emptied", |f| {
            std::fs::remove_dir_all(f).expect("removed");
            std::fs::create_dir(f).expect("made");
        }),
        ("without its database", |f| std::fs::remove_file(f.join(FILE)).expect("removed")),
    ];
    for (name, theft) in thefts {
        let scratch = Scratch::new(&format!("theft-{}", name.replace(' ', "-")));
        let folder = scratch.0.join("state");
        let directory = Directory::open(&folder).expect("a directory");
        let (checkpoints, _) = Checkpoints::open(&directory, 1, Counter::default());
        let (quiet, busy) = (checkpoints.slot("quiet"), checkpoints.slot("busy"));
        let (one, two) = (quiet.put(*b"a", LONG), busy.put(*b"b", LONG));
        until("both are written", || quiet.written() == one && busy.written() == two);
        let batches = checkpoints.batches();
        theft(&folder);
        // Without anything that changes, too.
        until("it is noticed", || checkpoints.batches() > batches);
        until("all is there", || quiet.written() == one && folder.join(FILE).exists());
        let three = busy.put(*b"c", LONG);
        until("it is written", || busy.written() == three);
        let why = Directory::open(&folder).expect_err("it is in use").to_string();
        assert!(why.contains("another process uses"), "{name}: {why}");
        drop((checkpoints, directory));
        let mut entries = open(&folder).1;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(entries, [fresh("busy", b"c"), fresh("quiet", b"a")], "{name}");
    }
}

#[test]
fn a_directory_that_another_process_has_made_anew_is_left_to_it() {
    let scratch = Scratch::new("left");
    let folder = scratch.0.join("state");
    let directory = Directory::open(&folder).expect("a directory");
    let failed = Counter::default();
    let (checkpoints, _) = Checkpoints::open(&directory, 1, failed.clone());
    let slot = checkpoints.slot("ours");
    let number = slot.put(*b"a", LONG);
    until("it is written", || slot.written() == number);
    std::fs::rename(&folder, scratch.0.join("moved")).expect("moved");
    let (theirs, _, _) = match Directory::open(&folder) {
        Ok(directory) => {
            let (checkpoints, found) = Checkpoints::open(&directory, 1, Counter::default());
            (checkpoints, found, directory)
        }
        // It was noticed, and made again, before.
        Err(_) => return,
    };
    until("it is noticed", || failed.get() > 0);
    until("what was written there no longer counts", || slot.written() == 0);
    drop(theirs);
}

/// A call that ended while its checkpoint could not be removed would have another record.
#[test]
fn what_was_removed_while_nothing_could_be_written_is_gone_once_it_can() {
    let scratch = Scratch::new("stale");
    let (checkpoints, _, _) = open(&scratch.0);
    checkpoints.slot("over").put(*b"a", LONG);
    checkpoints.slot("live").put(*b"b", LONG);
    drop(checkpoints);
    let before = std::fs::read(scratch.0.join(FILE)).expect("a database");
    let directory = Directory::open(&scratch.0).expect("a directory");
    let (checkpoints, found) = Checkpoints::open(&directory, 1, Counter::default());
    assert_eq!(found.len(), 2);
    checkpoints.slot("live").put(*b"c", LONG);
    checkpoints.slot("over").remove();
    until("it is removed", || locked(&checkpoints.shared.slots).len() == 1);
    // As it is on a disk to which nothing could be written meanwhile.
    let batches = checkpoints.batches();
    let copy = scratch.0.join("copy");
    std::fs::write(&copy, before)
        .and_then(|()| std::fs::rename(copy, scratch.0.join(FILE)))
        .expect("replaced");
    until("it is noticed", || checkpoints.batches() > batches);
    drop((checkpoints, directory));
    assert_eq!(open(&scratch.0).1, [fresh("live", b"c")]);
}

#[test]
fn without_a_disk_values_are_in_memory_and_nothing_is_on_disk() {
    let checkpoints = Checkpoints::in_memory();
    let slot = checkpoints.slot("a");
    slot.put(*b"x", LONG);
    assert_eq!((slot.written(), slot.newest().as_deref()), (0, Some(&b"x"[..])));
    slot.remove();
    assert_eq!(checkpoints.slot("a").newest(), None);
    assert!(locked(&checkpoints.shared.slots).len() == 1, "the one just asked for");
}
