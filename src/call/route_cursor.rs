//! Where a call stands in its route: the steps to come, what is left of the one under way, and what
//! came of those before.
//!
//! The cursor decides nothing about legs or media; it says what to try next. What holds of it:
//! - Trunks and rounds are left only of the step under way: whatever replaces the steps drops them.
//! - Every walk ends: `goto` steps and redirections are counted, and each step is taken once.
//! - The refusal kept is the best seen since the route began (RFC 3261 §16.7 step 6).

use crate::config::User;
use crate::dialplan::{DialOrder, Outcome, Outcomes, Route, Step, Target};
use crate::errors::Code;
use crate::fraud::DialledNumber;
use crate::registrar::{WantedPhone, Way};
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::Refusal;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How long a step rings unless the dialplan says otherwise.
const RING: Duration = Duration::from_secs(60);
/// Most `goto` steps in one call.
const MAX_GOTOS: u8 = 8;
/// Most redirections followed in one call.
const MAX_REDIRECTS: usize = 5;
/// Most phones that ring at once.
const MAX_FORKS: usize = 10;

/// Why a number diverts, if it always does (RFC 5806 §4).
pub(super) const UNCONDITIONAL: &str = "unconditional";
/// Why it diverts otherwise: nobody said.
pub(super) const UNKNOWN: &str = "unknown";

/// A phone to ring: its user, and its ways, the best first.
pub(crate) type RingTarget = (String, Vec<Way>);

/// A ring step, while the store is asked where its users are.
#[derive(Clone, Debug)]
pub(super) struct RingStep {
    /// Whom it rings.
    pub(super) targets: Vec<Target>,
    /// How long it rings; the default of the configuration if `None`.
    pub(super) timeout: Option<Duration>,
    /// At once, or one after the other.
    pub(super) order: DialOrder,
}

/// A step to come, and the number it is for if that is not the call's.
pub(crate) type PlannedStep = (Step, Option<String>);

/// A number that redirected the call, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Diversion {
    /// The number that diverted the call.
    pub(crate) number: String,
    /// Why, as a reason of RFC 5806 or RFC 7544.
    pub(crate) reason: &'static str,
}

/// What [`RouteCursor::next_step`] found.
#[derive(PartialEq, Debug)]
pub(super) enum NextStep {
    /// This step is to be run.
    Run(Step),
    /// This step is not for what came of the one before.
    Skipped { step: Step, outcomes: Outcomes },
    /// Nothing is left: the refusal the caller gets.
    End(Refusal),
}

/// What follows a trunk that failed.
#[derive(PartialEq, Debug)]
pub(super) enum AfterTrunk {
    /// The next trunk of the step.
    Trunk,
    /// Only steps that name this outcome are left.
    Step,
    /// Nothing is left: the refusal the caller gets.
    End(Refusal),
}

/// What [`RouteCursor::next_round`] found.
#[derive(PartialEq, Debug)]
pub(super) enum NextRound {
    /// These phones ring together, each with this share of Max-Breadth.
    Ring { phones: Vec<RingTarget>, share: u32 },
    /// Max-Breadth is used up (RFC 5393 §5.3.3).
    TooBroad,
    /// The step has no phone left.
    Done,
}

/// A call's place in its route.
#[derive(Default)]
pub(crate) struct RouteCursor {
    route: Option<Route>,
    /// The number that is called.
    number: String,
    steps: VecDeque<PlannedStep>,
    /// The step under way.
    current: Option<Step>,
    /// The trunk that is tried of it, if it dials.
    dialling: Option<String>,
    /// What came of the last ring or dial step.
    outcomes: Outcomes,
    /// The best refusal seen so far.
    refusal: Option<Refusal>,
    /// Trunks of the current dial step that were not tried yet.
    trunks_left: VecDeque<String>,
    /// The number to dial, as the step writes it.
    dial_to: Option<String>,
    /// How long the current step may ring, if it has its own limit.
    step_timeout: Option<Duration>,
    /// Groups of phones still to ring in this step.
    rounds: VecDeque<Vec<RingTarget>>,
    /// A web application is asked for the next steps.
    asking: bool,
    /// The store is asked where the users of this ring step are.
    locating: Option<RingStep>,
    /// Questions that the store was asked.
    asked: u32,
    /// `goto` steps taken.
    gotos: u8,
    /// Redirections followed, the oldest first.
    diversions: Vec<Diversion>,
    /// The user whose phone redirected the call last.
    diverted_by: Option<Arc<User>>,
    /// What is dialled is no longer what the route was taken for.
    redirected: bool,
    /// The caller asked for one phone by its GRUU.
    wanted: Option<WantedPhone>,
    max_forwards: u32,
    max_breadth: u32,
}

impl RouteCursor {
    /// A cursor without a route, for requests that may go this far and fork this wide.
    pub(crate) fn new(max_forwards: u32, max_breadth: u32) -> RouteCursor {
        RouteCursor { max_forwards, max_breadth, ..RouteCursor::default() }
    }

    /// Only the phone with this instance is wanted, if one is named (RFC 5627 §6.1).
    pub(crate) fn want_phone(&mut self, wanted: Option<WantedPhone>) {
        self.wanted = wanted;
    }

    /// Calls `number` without a route: a call that replaces another needs none.
    pub(crate) fn call_number(&mut self, number: String) {
        self.number = number;
    }

    /// Begins `route` for `number`; what came of an earlier one is forgotten.
    pub(crate) fn begin(&mut self, route: Route, number: String) {
        self.outcomes = Outcomes::default();
        self.refusal = None;
        self.continue_with(route, number);
    }

    /// As [`begin`](Self::begin), for a call that was forwarded once more.
    pub(super) fn forward(&mut self, route: Route, number: String) {
        self.max_forwards = self.max_forwards.saturating_sub(1);
        self.begin(route, number);
    }

    /// Continues with `route`; the outcome of the steps so far still counts.
    pub(super) fn continue_with(&mut self, route: Route, number: String) {
        self.replace_steps(route.steps.iter().cloned());
        self.number = number;
        self.route = Some(route);
    }

    /// Counts a `goto`.
    ///
    /// # Errors
    /// 482 if there were too many.
    pub(super) fn count_goto(&mut self) -> Result<(), Refusal> {
        self.gotos = self.gotos.saturating_add(1);
        if self.gotos > MAX_GOTOS {
            return Err(Refusal::new(482, "goto leads in a circle").code(Code::LOOP));
        }
        Ok(())
    }

    fn replace_steps(&mut self, steps: impl IntoIterator<Item = Step>) {
        self.redirected = false;
        self.steps = steps.into_iter().map(|step| (step, None)).collect();
        self.drop_step();
    }

    /// Nothing more of the step under way is tried.
    pub(super) fn drop_step(&mut self) {
        self.trunks_left.clear();
        self.rounds.clear();
        self.locating = None;
    }

    /// Takes the next step.
    pub(super) fn next_step(&mut self) -> NextStep {
        let Some((step, number)) = self.steps.pop_front() else {
            let why = self.refusal.take().map(translate_refusal);
            return NextStep::End(
                why.unwrap_or_else(|| Refusal::new(480, "the route ended without an answer")),
            );
        };
        if !self.outcomes.admit(&step) {
            return NextStep::Skipped { step, outcomes: self.outcomes };
        }
        if let Some(number) = number {
            self.number = number;
        }
        if matches!(step.inner(), Step::Dial { .. } | Step::Ring { .. }) {
            self.outcomes = Outcomes::default();
        }
        (self.current, self.dialling) = (Some(step.inner().clone()), None);
        NextStep::Run(step)
    }

    /// Begins a dial step.
    pub(super) fn begin_dial(
        &mut self,
        trunks: Vec<String>,
        to: Option<String>,
        timeout: Option<Duration>,
    ) {
        (self.trunks_left, self.dial_to, self.step_timeout) = (trunks.into(), to, timeout);
    }

    /// Takes the next trunk of the dial step.
    pub(super) fn next_trunk(&mut self) -> Option<String> {
        self.dialling = self.trunks_left.pop_front();
        self.dialling.clone()
    }

    /// The number to dial by a trunk of the dial step.
    pub(super) fn dial_number(&self) -> String {
        self.dial_to
            .as_ref()
            .map_or_else(|| self.number.clone(), |to| to.replace("{number}", &self.number))
    }

    /// A trunk cannot be used now: that is our refusal, which never counts before a callee's.
    pub(super) fn skip_trunk(&mut self, name: &str, code: Code, why: &str) {
        self.on_missed(
            Outcome::Failed,
            Refusal::new(503, format!("trunk {name} is skipped: {why}")).retry_after(10).code(code),
        );
    }

    /// Nobody could be asked, or nobody answered in time: `why` counts if nothing better is known.
    pub(super) fn on_missed(&mut self, outcome: Outcome, why: Refusal) {
        self.outcomes.add(outcome);
        self.refusal.get_or_insert(why);
    }

    /// Somebody refused.
    pub(super) fn on_refused(&mut self, outcome: Outcome, why: Refusal) {
        self.outcomes.add(outcome);
        if self.refusal.as_ref().is_none_or(|best| rank(why.status) < rank(best.status)) {
            self.refusal = Some(why);
        }
    }

    /// What follows the failure of a trunk with `why`, if none of its step still tries.
    pub(super) fn after_trunk(&mut self, why: Refusal) -> AfterTrunk {
        let moves_on = self.route.as_ref().is_some_and(|r| r.moves_on(why.status));
        if moves_on || matches!(why.status, 401 | 407) {
            return AfterTrunk::Trunk;
        }
        // What follows is for the trunks' own failures, unless it names this outcome.
        let outcomes = self.outcomes;
        self.steps.retain(|(step, _)| matches!(step, Step::On { .. }) && outcomes.admit(step));
        if self.steps.is_empty() {
            return AfterTrunk::End(translate_refusal(self.refusal.take().unwrap_or(why)));
        }
        self.trunks_left.clear();
        AfterTrunk::Step
    }

    /// The refusal to give with `status`, which the dialplan chose: its reason is why the steps
    /// before led nowhere.
    pub(super) fn chosen_refusal(&mut self, status: u16) -> Refusal {
        let by = format!("the dialplan hangs up with {status}");
        match self.refusal.take() {
            Some(before) => Refusal::new(status, format!("{}; {by}", before.why)).code(before.code),
            None => Refusal::new(status, by),
        }
    }

    /// The store is asked where the users of a ring step are; returns the question's number.
    pub(super) fn locate(&mut self, step: RingStep) -> u32 {
        self.locating = Some(step);
        self.asked += 1;
        self.asked
    }

    /// The number of the newest question to the store.
    pub(super) fn asked(&self) -> u32 {
        self.asked
    }

    /// The ring step that waits for the answer to this question; it does not any more.
    pub(super) fn take_located(&mut self, ask: u32) -> Option<RingStep> {
        self.locating.take_if(|_| ask == self.asked)
    }

    /// Begins a ring step with these rounds. Returns false if there is nobody to ring.
    pub(super) fn begin_ring(
        &mut self,
        rounds: Vec<Vec<RingTarget>>,
        timeout: Option<Duration>,
        invite: &Message,
    ) -> bool {
        self.rounds = as_wished(rounds, invite).into();
        if self.rounds.is_empty() {
            return false;
        }
        self.step_timeout = timeout;
        true
    }

    /// Takes the next round of the ring step.
    pub(super) fn next_round(&mut self) -> NextRound {
        let Some(mut phones) = self.rounds.pop_front() else { return NextRound::Done };
        let width = MAX_FORKS.min(self.max_breadth as usize);
        if width == 0 {
            return NextRound::TooBroad;
        }
        if phones.len() > width {
            self.rounds.push_front(phones.split_off(width));
        }
        let share = (self.max_breadth / phones.len() as u32).max(1);
        NextRound::Ring { phones, share }
    }

    /// Somebody answered: no other phone of the step is rung.
    pub(super) fn on_answered(&mut self) {
        self.rounds.clear();
    }

    /// A web application is asked what to do.
    pub(super) fn ask(&mut self) {
        self.asking = true;
    }

    /// Whether an answer of a web application is awaited; it is not any more.
    pub(super) fn take_question(&mut self) -> bool {
        std::mem::take(&mut self.asking)
    }

    /// Takes the steps a web application answered with, in place of those left.
    pub(super) fn take_answer(&mut self, answer: Route) {
        if let (Some(route), Some(caller_id)) = (&mut self.route, answer.caller_id) {
            route.caller_id = Some(caller_id);
        }
        // The answer alone decides; the dialplan's own steps run only without one.
        self.replace_steps(answer.steps);
    }

    /// Whether a callee's redirection would be followed.
    pub(super) fn may_redirect(&self) -> bool {
        self.route.as_ref().is_some_and(|r| r.redirect) && self.diversions.len() < MAX_REDIRECTS
    }

    /// A callee redirected the call: `steps` come next, and those left of the route after them.
    pub(super) fn redirect(
        &mut self,
        by: Diversion,
        user: Option<Arc<User>>,
        steps: Vec<PlannedStep>,
    ) {
        self.diversions.push(by);
        (self.diverted_by, self.redirected) = (user.or(self.diverted_by.take()), true);
        self.drop_step();
        steps.into_iter().rev().for_each(|step| self.steps.push_front(step));
    }

    /// Whether a failure with `status` was a redirection that is followed.
    pub(super) fn is_redirected(&self, status: u16) -> bool {
        (300..400).contains(&status) && !self.steps.is_empty()
    }

    /// How long the step under way may ring.
    pub(super) fn step_time(&self) -> Duration {
        self.step_timeout.or(self.route.as_ref().and_then(|r| r.timeout)).unwrap_or(RING)
    }

    /// The number that is called, as the route takes it; none takes that of who replaces another.
    pub(super) fn dialled(&self) -> DialledNumber<'_> {
        DialledNumber::of(self.route.as_ref(), &self.number)
    }

    /// Whether what is dialled is exempt from limits: by the route, unless a callee chose it.
    pub(super) fn is_exempt(&self) -> bool {
        !self.redirected && self.route.as_ref().is_some_and(|r| r.ignore_limits)
    }

    /// The user whose phone redirected the call last, if one has.
    pub(super) fn diverted_by(&self) -> Option<&Arc<User>> {
        self.diverted_by.as_ref()
    }

    /// How long a trunk may be silent before the next is tried.
    pub(super) fn silent_after(&self) -> Option<Duration> {
        self.route.as_ref().and_then(Route::silent_after)
    }

    /// The number that is called.
    pub(crate) fn number(&self) -> &str {
        &self.number
    }

    /// The route's template of the number callees see.
    pub(super) fn caller_id(&self) -> Option<&str> {
        self.route.as_ref()?.caller_id.as_deref()
    }

    /// Redirections followed, the oldest first.
    pub(super) fn diversions(&self) -> &[Diversion] {
        &self.diversions
    }

    /// The instance of the one phone that is wanted.
    pub(super) fn wanted(&self) -> Option<&WantedPhone> {
        self.wanted.as_ref()
    }

    /// Max-Forwards of requests made for the call.
    pub(super) fn max_forwards(&self) -> u32 {
        self.max_forwards
    }

    /// Max-Breadth left for requests made for the call (RFC 5393 §5.3.3).
    pub(super) fn max_breadth(&self) -> u32 {
        self.max_breadth
    }
}

/// RFC 3261 §16.7 step 6, briefly: 6xx wins, then what says most to the caller.
fn rank(status: u16) -> u8 {
    match status {
        600..=699 => 0,
        486 => 1,
        400..=407 | 409..=479 | 481..=499 => 2,
        480 | 408 => 3,
        _ => 4,
    }
}

/// The refusal the caller gets: a trunk's own troubles are not the caller's (503 would stop its
/// client for good).
fn translate_refusal(mut why: Refusal) -> Refusal {
    why.status = match why.status {
        300..=399 => 480,
        401 | 407 => 502,
        408 | 430 => 480,
        // Of ours, with the time after which it may be tried again.
        503 if matches!(why.code, Code::PORTS | Code::WORKER_BEHIND) => 503,
        503 => 500,
        s => s,
    };
    why
}

/// Phones of one q ring together, the highest q first (RFC 3261 §16.6 step 5).
pub(super) fn rounds(mut phones: Vec<(u16, RingTarget)>) -> Vec<Vec<RingTarget>> {
    phones.sort_by_key(|(q, _)| std::cmp::Reverse(*q));
    let mut rounds: Vec<(u16, Vec<RingTarget>)> = Vec::new();
    for (q, phone) in phones {
        match rounds.last_mut() {
            Some((last, round)) if *last == q => round.push(phone),
            _ => rounds.push((q, vec![phone])),
        }
    }
    rounds.into_iter().map(|(_, round)| round).collect()
}

/// The rounds as the caller wishes them forked (RFC 3841 §9.1), as far as that costs nothing.
fn as_wished(rounds: Vec<Vec<RingTarget>>, invite: &Message) -> Vec<Vec<RingTarget>> {
    let asks = |word: &str| {
        invite.values(HeaderName::RequestDisposition).any(|d| d.eq_ignore_ascii_case(word))
    };
    let (no_fork, sequential, parallel) = (asks("no-fork"), asks("sequential"), asks("parallel"));
    if !no_fork && !sequential && !parallel {
        return rounds;
    }
    let all: Vec<RingTarget> = rounds.into_iter().flatten().collect();
    let rounds: Vec<Vec<RingTarget>> = match () {
        () if no_fork => all.into_iter().take(1).map(|p| vec![p]).collect(),
        () if sequential => all.into_iter().map(|p| vec![p]).collect(),
        () => vec![all],
    };
    rounds.into_iter().filter(|r| !r.is_empty()).collect()
}

mod snapshot;
#[cfg(test)]
mod tests;

pub(crate) use snapshot::RouteCursorSnapshot;
