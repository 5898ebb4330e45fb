use super::*;
use crate::state::Directory;
use crate::state::tests::Scratch;
use std::sync::atomic::{AtomicBool, Ordering};

fn record(n: usize) -> Arc<Item> {
    Arc::new(Item { number: 0, id: format!("c{n}"), text: format!("{{\"call\":\"c{n}\"}}") })
}

/// Waits for another thread.
fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
}

/// A destination that fails for as long as the test wants.
#[derive(Clone, Default)]
struct Place {
    fails: Arc<AtomicBool>,
    written: Arc<Mutex<Vec<String>>>,
}

impl RecordSink for Place {
    fn write(&mut self, records: &[Item]) -> anyhow::Result<()> {
        anyhow::ensure!(!self.fails.load(Ordering::SeqCst), "it fails");
        let mut written = self.written.lock().expect("sound");
        written.extend(records.iter().map(|r| r.id.clone()));
        Ok(())
    }
}

impl Place {
    fn failing() -> Place {
        let place = Place::default();
        place.fails.store(true, Ordering::SeqCst);
        place
    }

    fn start(&self, spool: Option<&Arc<Spool>>) -> (Keeper, KeeperCounts) {
        let counts = KeeperCounts::default();
        let (place, sink) = ("a place".to_owned(), self.clone());
        let keeper = Keeper::start("test", place, sink, spool.cloned(), counts.clone());
        (keeper.expect("threads"), counts)
    }

    fn has(&self, records: std::ops::Range<usize>) -> bool {
        let written = self.written.lock().expect("sound");
        written.len() == records.len()
            && records.zip(&*written).all(|(n, id)| *id == format!("c{n}"))
    }
}

fn spool(scratch: &Scratch) -> Arc<Spool> {
    let directory = Directory::open(&scratch.0).expect("a directory");
    Arc::new(Spool::new(Arc::new(directory)))
}

#[test]
fn what_a_place_refuses_is_written_later_in_order_and_once() {
    let scratch = Scratch::new("refused");
    let (spool, place) = (spool(&scratch), Place::failing());
    let (keeper, counts) = place.start(Some(&spool));
    let most = 2 * MEMORY + MEMORY / 2;
    for n in 0..most {
        keeper.take(record(n));
        if n % 1_000 == 0 {
            // As slow as calls end: what memory is too small for goes to the spool meanwhile.
            until("room", || keeper.shared.pending().tail.len() < MEMORY / 2);
        }
    }
    until("all are in the spool", || spool.waiting("test").expect("read").0 == most);
    assert_eq!((counts.waiting.get(), counts.dropped.get()), (most as i64, 0));
    place.fails.store(false, Ordering::SeqCst);
    until("all are written", || place.has(0..most));
    until("nothing waits", || counts.waiting.get() == 0);
    until("the spool is empty", || spool.waiting("test").expect("read").0 == 0);
    keeper.take(record(most));
    until("it continues", || place.has(0..most + 1));
}

#[test]
fn what_waits_at_the_end_is_written_by_the_next_process() {
    let scratch = Scratch::new("restart");
    let place = Place::failing();
    let spooled = spool(&scratch);
    let (keeper, _) = place.start(Some(&spooled));
    (0..700).for_each(|n| keeper.take(record(n)));
    drop(keeper);
    drop(spooled);
    let spooled = spool(&scratch);
    let (keeper, counts) = place.start(Some(&spooled));
    assert_eq!(counts.waiting.get(), 700);
    (700..800).for_each(|n| keeper.take(record(n)));
    place.fails.store(false, Ordering::SeqCst);
    drop(keeper);
    assert!(place.has(0..800), "{:?}", place.written);
    assert_eq!((counts.waiting.get(), counts.dropped.get()), (0, 0));
    assert_eq!(spooled.waiting("test").expect("read").0, 0);
}

#[test]
fn what_there_is_no_room_for_is_counted() {
    let place = Place::failing();
    let (keeper, counts) = place.start(None);
    (0..2 * MEMORY + 30).for_each(|n| keeper.take(record(n)));
    until("it fails", || keeper.shared.pending().failing);
    let dropped = counts.dropped.get();
    assert!((30..=BATCH as u64 + 30).contains(&dropped), "{dropped}");
    drop(keeper);
    assert_eq!(counts.dropped.get() as usize, 2 * MEMORY + 30, "there was no spool");
    assert!(place.has(0..0));
}

/// A file system that hangs holds up its own thread and nobody else.
#[test]
fn a_place_that_hangs_holds_nobody_up() {
    struct Hangs(Receiver<()>);
    impl RecordSink for Hangs {
        fn write(&mut self, _: &[Item]) -> anyhow::Result<()> {
            let _ = self.0.recv();
            Ok(())
        }
    }
    let (let_go, hangs) = channel();
    let scratch = Scratch::new("hangs");
    let (spool, counts) = (spool(&scratch), KeeperCounts::default());
    let keeper = Keeper::start("test", "it".into(), Hangs(hangs), Some(spool.clone()), counts);
    let keeper = keeper.expect("threads");
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    let mut n = 0;
    while began.elapsed() < STUCK + Duration::from_millis(200) {
        let at = Instant::now();
        keeper.take(record(n));
        longest = longest.max(at.elapsed());
        n += 1;
        until("room", || {
            keeper.shared.pending().tail.len() < MEMORY / 2 || began.elapsed() > STUCK
        });
        std::thread::park_timeout(Duration::from_millis(1));
    }
    assert!(longest < Duration::from_millis(250), "{longest:?}");
    until("all are in the spool", || spool.waiting("test").expect("read").0 == n);
    drop(let_go);
    drop(keeper);
}

#[test]
fn so_many_records_wait_for_a_place_and_no_more() {
    let item: Arc<dyn Handed> =
        Arc::new(Item { number: 1, id: String::new(), text: String::new() });
    // All but the last of them are in the spool, as where a place fails for long.
    let mut pending = Pending { between: spool::MOST - 2, ..Pending::default() };
    assert!(pending.push(item.clone(), spool::MOST) && pending.push(item.clone(), spool::MOST));
    assert!(!pending.push(item, spool::MOST), "it is lost");
    assert_eq!((pending.len(), pending.dropped), (spool::MOST, 1));
}
