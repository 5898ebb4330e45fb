//! Watches the core and the media workers from a thread of its own. A process that hangs
//! while it looks alive is worse than one that ends: a supervisor starts the latter again.

use crate::worker::heartbeat::Pulse;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A thread that has not begun a round for this long hangs.
const STILL: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// If a look comes this late, the whole process was suspended (stopped, or its host
/// was): then nobody in it is to blame.
const LATE: Duration = Duration::from_secs(2);

/// What is watched, by name.
pub(super) type Watched = Vec<(String, Arc<Pulse>)>;

/// What the system says of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ThreadState {
    /// It has a processor, or waits for one.
    wants_to_run: bool,
    /// How long it had one, since its start.
    ran: Duration,
}

/// One thread, and for how long it got no processor.
struct WatchedThread {
    name: String,
    pulse: Arc<Pulse>,
    beat: Instant,
    number: Option<i32>,
    ran: Duration,
    /// Since its last beat it waited that long to be run.
    starved: Duration,
}

impl WatchedThread {
    /// Notes what it did in `elapsed`, the time since the last look.
    fn look(&mut self, elapsed: Duration, state: impl Fn(i32) -> Option<ThreadState>) {
        let last = self.pulse.last();
        if last != self.beat {
            (self.beat, self.starved) = (last, Duration::ZERO);
        }
        let before = std::mem::replace(&mut self.number, self.pulse.thread());
        let Some(state) = self.number.and_then(state) else { return };
        let ran = state.ran.saturating_sub(std::mem::replace(&mut self.ran, state.ran));
        if state.wants_to_run && before == self.number {
            self.starved += elapsed.saturating_sub(ran);
        }
    }
}

/// Judges pulses; it has no clock.
struct PulseWatch {
    watched: Vec<WatchedThread>,
    looked: Instant,
    /// Silence before this moment is not counted.
    since: Instant,
}

impl PulseWatch {
    fn new(watched: Watched, now: Instant) -> PulseWatch {
        let thread = |(name, pulse): (String, Arc<Pulse>)| {
            let (ran, starved) = (Duration::ZERO, Duration::ZERO);
            WatchedThread { name, beat: pulse.last(), pulse, number: None, ran, starved }
        };
        PulseWatch { watched: watched.into_iter().map(thread).collect(), looked: now, since: now }
    }

    /// The name of a thread that hangs, if one does. One that gets no processor does not: others
    /// have them all.
    fn look(&mut self, now: Instant, state: impl Fn(i32) -> Option<ThreadState>) -> Option<&str> {
        let elapsed = now.saturating_duration_since(self.looked);
        if elapsed > LATE {
            self.since = now;
        }
        self.looked = now;
        let since = self.since;
        self.watched.iter_mut().for_each(|thread| thread.look(elapsed, &state));
        let hangs = |thread: &&WatchedThread| {
            let silent = now.saturating_duration_since(thread.pulse.last().max(since));
            silent.saturating_sub(thread.starved) >= STILL
        };
        self.watched.iter().find(hangs).map(|thread| thread.name.as_str())
    }
}

/// The system's unit of processor time, the same on all machines: hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// What the system says of a thread of this process, by its number.
fn state_of(thread: i32) -> Option<ThreadState> {
    parse_state(&std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).ok()?)
}

/// Reads proc_pid_stat(5).
fn parse_state(stat: &str) -> Option<ThreadState> {
    // A name may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u32>().ok();
    let ran = TICK * ticks(11)?.saturating_add(ticks(12)?);
    Some(ThreadState { wants_to_run: fields.first() == Some(&"R"), ran })
}

/// The watching thread; it ends with this.
pub struct Watchdog(Arc<AtomicBool>);

impl Watchdog {
    /// Starts watching. `alive` is called at each look that finds nobody still, `still` once with
    /// the name of the thread that is.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(
        watched: Watched,
        alive: impl Fn() + Send + 'static,
        still: impl FnOnce(&str) + Send + 'static,
    ) -> std::io::Result<Watchdog> {
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        std::thread::Builder::new().name("watchdog".into()).spawn(move || {
            let mut watch = PulseWatch::new(watched, Instant::now());
            while !end.load(Ordering::Relaxed) {
                std::thread::park_timeout(LOOK);
                match watch.look(Instant::now(), state_of) {
                    None => alive(),
                    Some(name) => return still(name),
                }
            }
        })?;
        Ok(Watchdog(ended))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> (PulseWatch, Arc<Pulse>, Arc<Pulse>, Instant) {
        let now = Instant::now();
        let (core, media) = (Arc::new(Pulse::new(now)), Arc::new(Pulse::new(now)));
        let watched = vec![("core".into(), core.clone()), ("media-0".into(), media.clone())];
        (PulseWatch::new(watched, now), core, media, now)
    }

    /// As where the system tells nothing.
    const UNKNOWN: fn(i32) -> Option<ThreadState> = |_| None;

    #[test]
    fn a_thread_that_stands_still_for_five_seconds_is_named() {
        let (mut watch, core, _media, start) = world();
        for n in 1..10 {
            let now = start + LOOK * n;
            core.beat(now);
            assert_eq!(watch.look(now, UNKNOWN), None, "{n}");
        }
        core.beat(start + STILL);
        assert_eq!(watch.look(start + STILL, UNKNOWN), Some("media-0"));
    }

    #[test]
    fn a_process_that_was_stopped_is_given_its_time_anew() {
        let (mut watch, core, media, start) = world();
        let back = start + Duration::from_secs(60);
        assert_eq!(watch.look(back, UNKNOWN), None, "everybody was silent, this thread too");
        for n in 1..9 {
            core.beat(back + LOOK * n);
            assert_eq!(watch.look(back + LOOK * n, UNKNOWN), None);
        }
        media.beat(back + LOOK * 9);
        core.beat(back + STILL);
        assert_eq!(watch.look(back + STILL, UNKNOWN), None);
    }

    /// After how many looks a thread is named that does not beat and runs for this part of the
    /// time.
    fn named_after(wants_to_run: bool, share: f64) -> Option<u32> {
        let (mut watch, core, media, start) = world();
        core.beat(start);
        (1..=1_200).find(|n| {
            let now = start + LOOK * *n;
            media.beat(now);
            let ran = (LOOK * *n).mul_f64(share);
            watch.look(now, |_| Some(ThreadState { wants_to_run, ran })).is_some()
        })
    }

    #[test]
    fn a_thread_that_others_keep_from_running_does_not_hang() {
        let looks = STILL.as_millis() as u32 / LOOK.as_millis() as u32;
        assert_eq!(named_after(false, 0.0), Some(looks), "it waits for something else");
        assert_eq!(named_after(true, 1.0), Some(looks), "it turns in a circle");
        assert!(named_after(true, 0.1).is_some_and(|n| n > 8 * looks), "in time of its own");
        assert_eq!(named_after(true, 0.0), None);
    }

    #[test]
    fn the_system_tells_what_a_thread_does() {
        let stat = "7 (a) R (b) S 1 7 7 0 -1 4194304 100 0 0 0 150 27 0 0 20 0 9 0 5 1 2";
        let state = parse_state(stat).expect("a line");
        let ran = Duration::from_millis(1_770);
        assert_eq!(state, ThreadState { wants_to_run: false, ran });
        assert_eq!(parse_state("7 (a"), None);
        let own = Pulse::new(Instant::now());
        assert_eq!(own.thread(), None);
        own.beat(Instant::now());
        let own = own.thread().and_then(state_of).expect("this thread");
        assert!(own.wants_to_run, "it reads this");
    }
}
