//! Watches the core and the media workers from a thread of its own. A process that hangs
//! while it looks alive is worse than one that ends: a supervisor starts the latter again.

use crate::worker::pulse::Pulse;
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

/// Judges pulses; it has no clock.
struct PulseWatch {
    watched: Watched,
    looked: Instant,
    /// Silence before this moment is not counted.
    since: Instant,
}

impl PulseWatch {
    fn new(watched: Watched, now: Instant) -> PulseWatch {
        PulseWatch { watched, looked: now, since: now }
    }

    /// The name of a thread that hangs, if one does.
    fn look(&mut self, now: Instant) -> Option<&str> {
        if now.saturating_duration_since(self.looked) > LATE {
            self.since = now;
        }
        self.looked = now;
        let still =
            |pulse: &Pulse| now.saturating_duration_since(pulse.last().max(self.since)) >= STILL;
        self.watched.iter().find(|(_, pulse)| still(pulse)).map(|(name, _)| name.as_str())
    }
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
                match watch.look(Instant::now()) {
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

    #[test]
    fn a_thread_that_stands_still_for_five_seconds_is_named() {
        let (mut watch, core, _media, start) = world();
        for n in 1..10 {
            let now = start + LOOK * n;
            core.beat(now);
            assert_eq!(watch.look(now), None, "{n}");
        }
        core.beat(start + STILL);
        assert_eq!(watch.look(start + STILL), Some("media-0"));
    }

    #[test]
    fn a_process_that_was_stopped_is_given_its_time_anew() {
        let (mut watch, core, media, start) = world();
        let back = start + Duration::from_secs(60);
        assert_eq!(watch.look(back), None, "everybody was silent, this thread too");
        for n in 1..9 {
            core.beat(back + LOOK * n);
            assert_eq!(watch.look(back + LOOK * n), None);
        }
        media.beat(back + LOOK * 9);
        core.beat(back + STILL);
        assert_eq!(watch.look(back + STILL), None);
    }
}
