//! Admission by what is left: beyond a bound new work is refused early and cheaply, so that what
//! was let in continues as if nothing had happened (RFC 6357).
//!
//! Three things are looked at. The core's processor time: what was let in may take a share of it,
//! and the rest is for refusing; a refusal costs a twentieth of a call. The core's queues: none
//! stands for longer than a bound. The media workers: each has a number of calls left,
//! by its load and by what its calls cost.

pub(super) mod units;

use crate::expiring::Expiring;
use std::time::{Duration, Instant};
pub(super) use units::Units;

/// The share of the core's time that goes to what was let in.
const RATED: f32 = 0.7;
/// The share while a queue is late. Never nothing: if refusing alone is too much for the core, the
/// queue stands however much is refused, and somebody must get through.
const LATE_SHARE: f32 = 0.1;
/// What a late queue lets in, it lets in this much at once.
const GRAIN: f32 = 0.01;
/// Time that may be spent in advance of the share, and time that may be owed: one long turn is
/// not overload.
const BURST: f32 = 0.2;
const DEBT: f32 = 0.1;
/// A queue is late once inputs have waited this long in it, for this long without a break.
const LATE: Duration = Duration::from_millis(100);
/// A late queue is fine again once an input has waited less than this.
const CALM: Duration = Duration::from_millis(50);
/// Inputs that must wait at once for that: one alone waits for the processor, not for others.
const BACKLOG: usize = 16;
/// What was said of a queue is believed for this long.
const FRESH: Duration = Duration::from_secs(1);
/// Refused calls that are remembered with their messages, in a second; the rest is counted only.
const MOST_RECORDED: u32 = 5;
/// Users whose browsers are waited for.
const MAX_EXPECTED: usize = 10_000;

/// Why new work is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overloaded {
    /// What was let in takes its share of the core's time.
    Core,
    /// Inputs wait too long for the core.
    Queue,
    /// No media worker has a call left.
    Media,
}

impl Overloaded {
    /// For a reader.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Overloaded::Core => "signalling takes all the time it may take",
            Overloaded::Queue => "signalling falls behind",
            Overloaded::Media => "the media workers have no call left",
        }
    }
}

/// What the core reads from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueueKind {
    /// Connections, workers, the API.
    Arrivals,
    /// The UDP socket.
    Datagrams,
}

/// What is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NewWork {
    Call,
    Login,
    Text,
}

impl NewWork {
    /// For a label of a metric, in the order of [`Shed`].
    pub(crate) const NAMES: [&str; 3] = ["call", "login", "text"];
}

/// Requests refused for overload since the start, by [`NewWork`].
pub(crate) type Shed = [u64; NewWork::NAMES.len()];

/// One queue's delay, as CoDel judges it: a burst is fine, a standing queue is not.
#[derive(Clone, Copy, Debug, Default)]
struct Delay {
    since: Option<Instant>,
    said: Option<Instant>,
    late: bool,
}

impl Delay {
    fn waited(&mut self, now: Instant, waited: Duration, backlog: usize) {
        self.said = Some(now);
        self.late &= waited >= CALM && backlog >= BACKLOG;
        if waited < LATE || backlog < BACKLOG {
            self.since = None;
            return;
        }
        let since = *self.since.get_or_insert(now);
        self.late |= now.saturating_duration_since(since) >= LATE;
    }

    fn is_late(&self, now: Instant) -> bool {
        self.late && self.said.is_some_and(|said| now.saturating_duration_since(said) < FRESH)
    }
}

/// A turn of the core: when it began, and how much of it went to refusals, which are charged to
/// nobody.
#[derive(Clone, Copy, Debug)]
struct CoreTurn {
    began: Instant,
    /// When the input that is being handled was taken.
    mark: Instant,
    refusing: bool,
    refused: Duration,
}

impl CoreTurn {
    fn new(now: Instant) -> CoreTurn {
        CoreTurn { began: now, mark: now, refusing: false, refused: Duration::ZERO }
    }

    fn next(&mut self, now: Instant) {
        let took = now.saturating_duration_since(std::mem::replace(&mut self.mark, now));
        if std::mem::take(&mut self.refusing) {
            self.refused += took;
        }
    }

    /// The part of it that is charged, 0 to 1.
    fn charged(&self) -> f32 {
        let all = self.mark.saturating_duration_since(self.began).as_secs_f32();
        if all > 0.0 { 1.0 - (self.refused.as_secs_f32() / all).min(1.0) } else { 1.0 }
    }
}

/// The judge.
#[derive(Debug)]
pub(super) struct Overload {
    /// Seconds of work that may be let in now; negative: owed.
    credit: f32,
    now: Instant,
    turn: CoreTurn,
    queues: [Delay; 2],
    /// What each kind of work costs.
    pub(super) units: Units,
    shed: Shed,
    recorded: (Instant, u32),
    /// Users whose calls lost their connection, and until when they are waited for.
    expected: Expiring<String, ()>,
}

impl Overload {
    /// All is left.
    pub(super) fn new(now: Instant, workers: usize) -> Overload {
        Overload {
            credit: BURST,
            now,
            turn: CoreTurn::new(now),
            queues: [Delay::default(); 2],
            units: Units::new(workers),
            shed: Shed::default(),
            recorded: (now, 0),
            expected: Expiring::new(MAX_EXPECTED),
        }
    }

    /// A turn of the core begins.
    pub(super) fn turn_began(&mut self, now: Instant) {
        self.earn(now);
        self.turn = CoreTurn::new(now);
    }

    /// It has ended, and took `worked` of a processor: the core waits for what comes.
    pub(super) fn turn_ended(&mut self, now: Instant, worked: Duration) {
        self.input(now);
        let charged = worked.as_secs_f32() * self.turn.charged();
        self.credit = (self.credit - charged).max(-DEBT);
    }

    /// The next input is taken.
    pub(super) fn input(&mut self, now: Instant) {
        self.earn(now);
        self.turn.next(now);
    }

    fn earn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.now);
        let share = if self.is_late() { LATE_SHARE } else { RATED };
        self.credit = (self.credit + share * passed.as_secs_f32()).min(BURST);
        self.now = self.now.max(now);
    }

    /// An input has waited in a queue, in which so many still wait.
    pub(super) fn waited(
        &mut self,
        now: Instant,
        queue: QueueKind,
        waited: Duration,
        backlog: usize,
    ) {
        self.earn(now);
        let queue = &mut self.queues[queue as usize];
        let before = queue.late;
        queue.waited(now, waited, backlog);
        // A core that fell behind catches up first: earlier savings admit nothing now.
        if queue.late && !before {
            self.credit = self.credit.min(0.0);
        }
    }

    /// Why new work of any kind is refused now, if it is.
    pub(super) fn of_core(&self) -> Option<Overloaded> {
        match self.is_late() {
            true => (self.credit < GRAIN).then_some(Overloaded::Queue),
            false => (self.credit < 0.0).then_some(Overloaded::Core),
        }
    }

    fn is_late(&self) -> bool {
        self.queues.iter().any(|queue| queue.is_late(self.now))
    }

    /// Why a new call is refused now, if it is.
    pub(super) fn of_calls(&self) -> Option<Overloaded> {
        self.of_core().or_else(|| (self.units.left() == 0).then_some(Overloaded::Media))
    }

    /// One more request is refused.
    pub(super) fn refused(&mut self, what: NewWork) {
        self.turn.refusing = true;
        self.shed[what as usize] += 1;
    }

    /// How many were.
    pub(super) fn shed(&self) -> Shed {
        self.shed
    }

    /// Whether the next refused call is remembered with its messages.
    pub(super) fn may_record(&mut self, now: Instant) -> bool {
        let (since, count) = &mut self.recorded;
        if now.saturating_duration_since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= MOST_RECORDED
    }

    /// A user's calls have lost their connection, and wait for it until then.
    pub(super) fn expect(&mut self, now: Instant, user: String, until: Instant) {
        if self.expected.has_room(now) {
            self.expected.insert(now, user, (), until);
        }
    }

    /// Whether a user's calls wait for it.
    pub(super) fn expects(&self, now: Instant, user: &str) -> bool {
        self.expected.get(now, user).is_some()
    }
}

/// A core in virtual time, with costs as they were measured, and more and more asked of it.
#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// What a call costs the core: its INVITE, and each of its later messages.
    const INVITE: Duration = Duration::from_micros(100);
    const LATER: Duration = Duration::from_micros(50);
    const MESSAGES: u64 = 4;
    /// What a refusal costs.
    const REFUSAL: Duration = Duration::from_micros(10);
    /// What a machine can do at most: calls in a second, were all its time spent on them.
    const MOST: u32 = 3_333;
    const TURN: usize = 64;
    /// Seconds until all is as it will be.
    const SETTLE: u64 = 5;

    #[derive(Clone, Copy)]
    enum QueuedJob {
        Invite,
        /// So many messages of that call are to come.
        Later(u64),
    }

    #[derive(Debug, Default)]
    struct Result {
        /// Calls a second that had all their messages handled.
        goodput: f32,
        /// How long messages of calls waited, the worst in a hundred.
        waited: Duration,
        refused: u32,
    }

    /// The core under `offered` new calls a second, for so many seconds; the first ones do not
    /// count.
    fn run(overload: &mut Overload, start: Instant, offered: u32, seconds: u64) -> Result {
        let between = Duration::from_secs(1) / offered;
        let (mut now, end) = (start, start + Duration::from_secs(seconds));
        let (mut invites, mut later) = (start, VecDeque::<(Instant, u64)>::new());
        let (mut done, mut waits, mut result) = (0u32, Vec::new(), Result::default());
        while now < end {
            // What has arrived by now, in order; else the core waits for the next.
            overload.turn_began(now);
            let (began, mut turn) = (now, 0);
            while turn < TURN {
                let next = later.front().map_or(invites, |(at, _)| (*at).min(invites));
                if next > now {
                    break;
                }
                let job = match later.front() {
                    Some((at, left)) if *at == next => QueuedJob::Later(*left),
                    _ => QueuedJob::Invite,
                };
                overload.waited(now, QueueKind::Arrivals, now - next, BACKLOG);
                overload.input(now);
                turn += 1;
                match job {
                    QueuedJob::Invite => {
                        invites += between;
                        if overload.of_calls().is_some() {
                            overload.refused(NewWork::Call);
                            result.refused += 1;
                            now += REFUSAL;
                        } else {
                            now += INVITE;
                            later.push_back((now + Duration::from_millis(500), MESSAGES));
                        }
                    }
                    QueuedJob::Later(left) => {
                        later.pop_front();
                        let settled = next > start + Duration::from_secs(SETTLE);
                        waits.extend(settled.then(|| now - next));
                        now += LATER;
                        match left {
                            1 => done += u32::from(settled),
                            _ => later.push_back((now + Duration::from_millis(500), left - 1)),
                        }
                    }
                }
            }
            overload.turn_ended(now, now - began);
            if turn < TURN {
                let next = later.front().map_or(invites, |(at, _)| (*at).min(invites));
                now = now.max(next);
            }
        }
        waits.sort_unstable();
        result.goodput = done as f32 / (seconds - SETTLE) as f32;
        result.waited = waits.get(waits.len() * 99 / 100).copied().unwrap_or_default();
        result
    }

    fn fresh() -> (Overload, Instant) {
        let now = Instant::now();
        (Overload::new(now, 1), now)
    }

    #[test]
    fn ten_times_the_capacity_leaves_the_goodput_as_it_was() {
        let goodput = |offered: u32| {
            let (mut overload, now) = fresh();
            run(&mut overload, now, offered, 15)
        };
        let rated = (MOST as f32 * RATED) as u32;
        let calm = goodput(rated * 9 / 10);
        assert_eq!(calm.refused, 0, "nothing is refused below what is rated");
        let capacity = [1.0, 1.2, 1.5, 2.0]
            .map(|times| goodput((rated as f32 * times) as u32).goodput)
            .into_iter()
            .fold(calm.goodput, f32::max);
        assert!(capacity > 0.9 * rated as f32, "{capacity} of {rated}");
        let flood = goodput(10 * rated);
        let ratio = flood.goodput / capacity;
        assert!(ratio >= 0.95, "{ratio}: {flood:?}, {capacity}");
        assert!(flood.waited < Duration::from_millis(20), "calls in progress: {:?}", flood.waited);
    }

    #[test]
    fn who_is_expected_back_is_bounded() {
        let (mut overload, now) = fresh();
        let soon = now + Duration::from_secs(30);
        for n in 0..2 * MAX_EXPECTED {
            overload.expect(now, n.to_string(), soon);
        }
        assert_eq!(overload.expected.len(), MAX_EXPECTED);
        assert!(overload.expects(now, "0") && !overload.expects(soon, "0"));
        overload.expect(soon, "late".into(), soon + Duration::from_secs(30));
        assert!(overload.expected.len() == 1 && overload.expects(soon, "late"));
    }

    #[test]
    fn it_is_over_in_a_second_once_the_flood_is() {
        let (mut overload, now) = fresh();
        run(&mut overload, now, 20_000, 10);
        let after = run(&mut overload, now + Duration::from_secs(11), 500, 6);
        assert_eq!(after.refused, 0, "{after:?}");
    }

    #[test]
    fn a_queue_of_refusals_alone_counts_as_overload() {
        // A hundred thousand refusals in a second are all the time there is.
        let (mut overload, now) = fresh();
        let flood = run(&mut overload, now, 80_000, 10);
        assert!(flood.goodput > 0.0 && flood.waited < 3 * LATE, "{flood:?}");
    }

    #[test]
    fn a_burst_is_not_overload_and_a_standing_queue_is() {
        let (mut overload, start) = fresh();
        let at = |ms| start + Duration::from_millis(ms);
        let waited = |overload: &mut Overload, ms: u64, waited: u64| {
            overload.waited(at(ms), QueueKind::Arrivals, Duration::from_millis(waited), BACKLOG);
            overload.input(at(ms));
            overload.of_core()
        };
        assert_eq!(waited(&mut overload, 0, 150), None);
        assert_eq!(waited(&mut overload, 90, 150), None);
        assert_eq!(waited(&mut overload, 95, 20), None, "it was a burst");
        assert_eq!(waited(&mut overload, 100, 110), None);
        assert_eq!(waited(&mut overload, 200, 110), Some(Overloaded::Queue));
        assert_eq!(waited(&mut overload, 210, 80), Some(Overloaded::Queue), "until it is calm");
        assert_eq!(waited(&mut overload, 220, 40), None);
        // Nothing is heard of a queue that is empty.
        waited(&mut overload, 300, 200);
        assert_eq!(waited(&mut overload, 400, 200), Some(Overloaded::Queue));
        overload.input(at(400) + FRESH);
        assert_eq!(overload.of_core(), None);
        // However long it stands, something is let in.
        for ms in (3_000..5_000).step_by(100) {
            waited(&mut overload, ms, 200);
        }
        overload.input(at(5_000));
        assert_eq!((overload.is_late(), overload.of_core()), (true, None));
        // A few that wait long wait for the processor.
        for ms in [6_000, 6_200, 6_400] {
            let few = BACKLOG - 1;
            overload.waited(at(ms), QueueKind::Arrivals, Duration::from_millis(300), few);
            overload.input(at(ms));
            assert_eq!(overload.of_core(), None);
        }
    }

    #[test]
    fn one_long_turn_is_not_overload_and_idle_time_is_not_work() {
        let (mut overload, mut now) = fresh();
        for _ in 0..100 {
            overload.turn_began(now);
            overload.input(now);
            now += Duration::from_millis(5);
            overload.turn_ended(now, Duration::from_millis(5));
            now += Duration::from_millis(5);
            assert_eq!(overload.of_core(), None);
        }
        overload.turn_began(now);
        now += Duration::from_secs(4);
        overload.turn_ended(now, Duration::from_millis(10));
        assert_eq!(overload.of_core(), None, "others had the processor");
        overload.turn_began(now);
        now += Duration::from_secs(4);
        overload.turn_ended(now, Duration::from_secs(4));
        assert_eq!(overload.of_core(), Some(Overloaded::Core));
        overload.input(now + Duration::from_millis(200));
        assert_eq!(overload.of_core(), None, "what is owed is bounded");
    }
}
