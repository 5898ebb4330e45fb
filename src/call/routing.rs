//! The route's steps, one after the other.

use super::branch::Branch;
use super::failure::translate_refusal;
use super::{Call, CallContext, CallTimer, HangupBy, Output, Party, Question, State};
use crate::dialplan::{Attempt, Order, Outcome, Outcomes, Route, Step, Target};
use crate::errors::Code;
use crate::event::Event;
use crate::media::player::{Source, chime};
use crate::registrar::{Binding, phones};
use crate::sip::parse::HeaderName;
use crate::sip::preferences::Preferences;
use crate::sip::status::Refusal;
use crate::sip::transaction::Hop;
use crate::worker::Command;
use serde_json::json;
use std::time::Duration;

/// How long a step rings unless the dialplan says otherwise.
const RING: Duration = Duration::from_secs(60);
/// Longest an unanswered caller is played to.
const EARLY_PROMPT: Duration = Duration::from_secs(180);
/// `goto` steps in one call.
const MAX_GOTOS: u8 = 8;
/// Widest fork.
const MAX_FORKS: usize = 10;

/// A phone to ring: its user, and its ways, the best first.
pub(crate) type Phone = (String, Vec<Binding>);

impl Call {
    /// Starts the next step, or ends the call with the best refusal seen.
    pub(super) fn next_step(&mut self, cx: &mut CallContext<'_>) {
        cx.disarm(self.id, CallTimer::Ring);
        if self.state == State::Over {
            return;
        }
        let Some((step, number)) = self.steps.pop_front() else {
            let why = self.refusal.take().map(translate_refusal);
            let why = why.unwrap_or_else(|| Refusal::new(480, "the route ended without an answer"));
            return self.route_failed(cx, HangupBy::Us, why);
        };
        if !self.outcomes.admit(&step) {
            let (call, outcomes) = (self.id, self.outcomes.to_string());
            cx.note(Event::StepSkipped { call, step: step.inner().to_string(), outcomes });
            return self.next_step(cx);
        }
        if let Some(number) = number {
            self.number = number;
        }
        if matches!(step.inner(), Step::Dial { .. } | Step::Ring { .. }) {
            self.outcomes = Outcomes::default();
        }
        self.run_step(cx, step);
    }

    fn run_step(&mut self, cx: &mut CallContext<'_>, step: Step) {
        match step {
            Step::On { step, .. } => self.run_step(cx, *step),
            Step::Dial { trunks, to, timeout } => {
                if let Err(why) = self.may_spend(cx) {
                    return self.route_failed(cx, HangupBy::Us, why);
                }
                self.trunks_left = trunks.into();
                self.dial_to = to;
                self.step_timeout = timeout;
                self.next_trunk(cx);
            }
            Step::Ring { targets, timeout, order } => self.ring(cx, &targets, timeout, order),
            Step::Play(name) => self.play(cx, &name),
            Step::Tone(hz) => self.builtin(cx, |session, end| Command::Play {
                session,
                end,
                source: Source::Tone(hz),
            }),
            Step::Echo(delay) => {
                self.builtin(cx, move |session, end| Command::Echo { session, end, delay })
            }
            Step::Answer => {
                self.answer_caller(cx, None);
                self.next_step(cx);
            }
            Step::Goto(context) => self.go_to(cx, &context),
            Step::Webhook { hook, timeout } => {
                self.asking = true;
                let body = self.question(cx);
                cx.out.push(Output::Ask(Question::Route {
                    call: self.id,
                    hook,
                    body,
                    limit: timeout,
                }));
            }
            Step::Hangup(status) => {
                self.hang_up_by_dialplan(cx, status);
            }
        }
    }

    /// The dialplan chooses the status; the reason is why the steps before it led nowhere.
    fn hang_up_by_dialplan(&mut self, cx: &mut CallContext<'_>, status: u16) {
        let by = format!("the dialplan hangs up with {status}");
        let why = match self.refusal.take() {
            Some(before) => Refusal::new(status, format!("{}; {by}", before.why)).code(before.code),
            None => Refusal::new(status, by),
        };
        self.route_failed(cx, HangupBy::Us, why);
    }

    /// What a web application is told of the call.
    fn question(&self, cx: &CallContext<'_>) -> String {
        let from = match &self.caller.party {
            Party::User { name, .. } => {
                json!({ "user": name, "claims": self.caller.permits().claims, "tags": self.caller.account.as_ref().map(|a| &a.tags) })
            }
            party => json!({ "trunk": party.to_string().trim_start_matches("trunk ") }),
        };
        let time = jiff::Timestamp::from_second(cx.unix() as i64)
            .map(|t| t.to_string())
            .unwrap_or_default();
        let data = json!({
            "call": self.id.to_string(), "context": self.cdr.context, "number": self.number, "dialled": self.cdr.dialled, "from": from,
            "shown": self.cdr.from_shown, "remote": self.cdr.remotes[0].map(|r| r.to_string()), "user_agent": self.cdr.user_agent,
        });
        json!({ "type": "call.route", "timestamp": time, "data": data }).to_string()
    }

    /// What it answered: its steps come before what is left of the route; without an answer that
    /// goes on at once.
    pub(crate) fn routed(&mut self, cx: &mut CallContext<'_>, answer: Result<Box<Route>, String>) {
        if !std::mem::take(&mut self.asking) || self.state == State::Over {
            return;
        }
        match answer {
            Ok(answered) => {
                self.cdr.tags.extend(answered.tags);
                if let (Some(route), Some(caller_id)) = (&mut self.route, answered.caller_id) {
                    route.caller_id = Some(caller_id);
                }
                // The answer decides alone; the dialplan's own steps are for when there is none.
                self.steps = answered.steps.into_iter().map(|s| (s, None)).collect();
            }
            Err(why) => cx.note(Event::WebhookFailed { call: self.id, why }),
        }
        self.next_step(cx);
    }

    /// The routes of another context decide, by the number the call has now; what was left of this
    /// one is dropped.
    fn go_to(&mut self, cx: &mut CallContext<'_>, context: &str) {
        self.gotos += 1;
        if self.gotos > MAX_GOTOS {
            return self.route_failed(
                cx,
                HangupBy::Us,
                Refusal::new(482, "goto leads in a circle").code(Code::LOOP),
            );
        }
        let verdict = cx.config.plan.route(&Attempt {
            context,
            dialled: &self.number,
            unix: cx.unix(),
            permits: self.caller.permits(),
        });
        let none = || Err(Refusal::new(500, format!("context {context} does not exist")));
        let (route, number) = match verdict.map_or_else(none, |v| v.decide(context)) {
            Ok(found) => found,
            Err(why) => return self.route_failed(cx, HangupBy::Us, why),
        };
        if let Party::User { name, .. } = &self.caller.party
            && let Err(why) = cx.services.brakes.route(cx.now, name, &route)
        {
            return self.route_failed(cx, HangupBy::Us, why);
        }
        self.number = number;
        self.cdr.tags.extend(route.tags.clone());
        self.cdr.route = Some(route.name.clone());
        self.steps = route.steps.iter().map(|s| (s.clone(), None)).collect();
        self.route = Some(route);
        self.next_step(cx);
    }

    fn step_time(&self, own: Option<Duration>) -> Duration {
        own.or(self.route.as_ref().and_then(|r| r.timeout)).unwrap_or(RING)
    }

    /// Tries the next trunk of the dial step.
    pub(super) fn next_trunk(&mut self, cx: &mut CallContext<'_>) {
        while let Some(name) = self.trunks_left.pop_front() {
            if let Err(why) = self.may_dial(cx, &name) {
                self.outcomes.add(Outcome::Failed);
                self.refusal.get_or_insert_with(|| {
                    Refusal::new(503, format!("trunk {name} is skipped: {}", why.1))
                        .retry_after(10)
                        .code(why.0)
                });
                continue;
            }
            let number = self
                .dial_to
                .as_ref()
                .map_or(self.number.clone(), |to| to.replace("{number}", &self.number));
            let time = self.step_time(self.step_timeout);
            cx.arm(self.id, CallTimer::Ring, time);
            return self.dial_trunk(cx, &name, number);
        }
        self.next_step(cx);
    }

    /// Limits and health: our own refusals, which never count as the trunk's failures.
    fn may_dial(&self, cx: &mut CallContext<'_>, name: &str) -> Result<(), (Code, String)> {
        let Some(trunk) = cx.config.trunks.get(name) else {
            return Err((Code::TRUNK_DISABLED, "it is not configured any more".into()));
        };
        if let Some(Err(why)) = cx.services.trunks.get(name).map(|t| t.usable(cx.now)) {
            return Err(why);
        }
        let limit = trunk.max_calls.unwrap_or(usize::MAX);
        if cx.services.trunk_calls.get(name).copied().unwrap_or(0) >= limit {
            cx.note(Event::TrunkFull { call: self.id, trunk: name.to_owned(), limit });
            return Err((Code::TRUNK_FULL, format!("it has its {limit} calls")));
        }
        if !cx.services.trunks.take_call(cx.now, name, trunk.calls_per_second) {
            return Err((
                Code::TRUNK_FULL,
                format!(
                    "it has had its {} calls of this second",
                    trunk.calls_per_second.unwrap_or(0)
                ),
            ));
        }
        Ok(())
    }

    fn ring(
        &mut self,
        cx: &mut CallContext<'_>,
        targets: &[Target],
        timeout: Option<Duration>,
        order: Order,
    ) {
        let mut together: Vec<(u16, Phone)> = Vec::new();
        self.ring_queue.clear();
        let (invite, mut unwanted) = (self.invite.clone(), false);
        let preferences = Preferences::of(&invite);
        for target in targets {
            let Some(user) = self.user_of(cx, target) else { continue };
            // A caller is not rung on the phone the call comes from.
            let own = |b: &Binding| self.caller.hop == Hop::Flow(b.flow);
            let others =
                cx.services.registrar.bindings(cx.now, &user).into_iter().filter(|b| !own(b));
            let (bindings, refused): (Vec<Binding>, Vec<Binding>) =
                others.partition(|b| preferences.allow(&b.features));
            unwanted |= !refused.is_empty();
            let wanted = phones(bindings, self.wanted_instance.as_deref())
                .into_iter()
                .map(|(q, flows)| (q, (user.clone(), flows)));
            if order == Order::InTurn {
                self.ring_queue.extend(rounds(wanted.collect()));
            } else {
                together.extend(wanted);
            }
        }
        self.ring_queue.extend(rounds(together));
        self.dispose();
        if self.ring_queue.is_empty() {
            let names: Vec<String> = targets.iter().map(Target::to_string).collect();
            let why = if unwanted {
                "the caller wants none of the phones (Accept-Contact, Reject-Contact) of"
            } else {
                "nobody is registered for"
            };
            let why = format!("{why} {}", names.join(", "));
            cx.note(Event::NobodyThere { call: self.id, why: why.clone() });
            self.cdr.nobody_there.get_or_insert_with(|| why.clone());
            self.outcomes.add(Outcome::Unregistered);
            self.refusal.get_or_insert_with(|| Refusal::new(480, why).code(Code::NOT_REGISTERED));
            return self.next_step(cx);
        }
        self.step_timeout = timeout;
        self.next_round(cx);
    }

    fn user_of(&self, cx: &CallContext<'_>, target: &Target) -> Option<String> {
        match target {
            Target::User(name) => Some(name.clone()),
            Target::Did(number) => {
                let number = number.replace("{number}", &self.number);
                cx.config.owner_of(&number).map(|u| u.name.clone())
            }
        }
    }

    /// The caller's wishes about forking (RFC 3841 §9.1), as far as they cost nothing.
    fn dispose(&mut self) {
        let asks = |word: &str| {
            self.invite.values(HeaderName::RequestDisposition).any(|d| d.eq_ignore_ascii_case(word))
        };
        let (no_fork, sequential, parallel) =
            (asks("no-fork"), asks("sequential"), asks("parallel"));
        let all = || self.ring_queue.iter().flatten().cloned();
        let rounds: Vec<Vec<Phone>> = match () {
            () if no_fork => all().take(1).map(|p| vec![p]).collect(),
            () if sequential => all().map(|p| vec![p]).collect(),
            () if parallel => vec![all().collect()],
            () => return,
        };
        self.ring_queue = rounds.into_iter().filter(|r| !r.is_empty()).collect();
    }

    /// Rings the next group of phones, or goes on with the route.
    pub(super) fn next_round(&mut self, cx: &mut CallContext<'_>) {
        let Some(mut round) = self.ring_queue.pop_front() else { return self.next_step(cx) };
        let width = MAX_FORKS.min(self.max_breadth as usize);
        if width == 0 {
            // RFC 5393 §5.3.3.
            return self.route_failed(
                cx,
                HangupBy::Us,
                Refusal::new(440, "Max-Breadth is used up: too many forks on the way here")
                    .code(Code::LOOP),
            );
        }
        if round.len() > width {
            self.ring_queue.push_front(round.split_off(width));
        }
        let time = self.step_time(self.step_timeout);
        cx.arm(self.id, CallTimer::Ring, time);
        let share = (self.max_breadth / round.len() as u32).max(1);
        for (user, flows) in round {
            self.ring_flow(cx, &user, &flows, share);
        }
    }

    pub(super) fn ring_timeout(&mut self, cx: &mut CallContext<'_>) {
        if self.state != State::Routing || self.callee.is_some() {
            return;
        }
        let why = self.out_of_time();
        let call = self.id;
        let mut closed = Vec::new();
        for branch in self.branches.iter_mut().filter(|b| b.is_trying()) {
            branch.abandon(cx, call, &why);
            closed.push(branch.leg.end);
            self.cdr.tried.push(branch.tried(cx.now, 0));
        }
        closed
            .into_iter()
            .for_each(|end| cx.media(self.worker, Command::CloseEnd { session: call.0, end }));
        self.heard = None;
        self.playing = false;
        self.outcomes.add(Outcome::Timeout);
        self.refusal.get_or_insert(why);
        self.next_round(cx);
    }

    /// Why nobody answered when the time was up: it rang, it never did, or a prompt went on.
    fn out_of_time(&self) -> Refusal {
        let (code, why) = match self.cdr.ringing {
            _ if !self.branches.iter().any(Branch::is_trying) => {
                (Code::NOT_AVAILABLE, "the announcement did not come to its end")
            }
            Some(_) => (Code::NO_ANSWER, "nobody answered in time"),
            None => (Code::NOT_AVAILABLE, "nothing rang before the time was up"),
        };
        Refusal::new(480, why).code(code).q850(Some(19))
    }

    /// A far end of our own that answers at once.
    fn builtin(
        &mut self,
        cx: &mut CallContext<'_>,
        command: impl FnOnce(u64, crate::media::LegId) -> Command,
    ) {
        self.answer_caller(cx, None);
        if self.state != State::Over {
            self.state = State::Talking;
            cx.media(self.worker, command(self.id.0, self.caller.end));
            self.transfer_answered(cx);
        }
    }

    fn play(&mut self, cx: &mut CallContext<'_>, name: &str) {
        let source = match name {
            "builtin:tune" => Some(Source::Tune),
            "builtin:chime" => Some(Source::Clip(chime())),
            "builtin:ringback" => Some(Source::Ringback),
            _ => cx.config.prompts.get(name).map(|p| Source::Clip(p.clone())),
        };
        let Some(source) = source else { return self.next_step(cx) };
        if !self.final_response_sent {
            if self.offerless {
                // There is no offer to answer, so nothing can be heard before the call is.
                return self.next_step(cx);
            }
            // A caller whose media never comes up must not wait for the prompt's end for ever.
            cx.arm(self.id, CallTimer::Ring, EARLY_PROMPT);
            match self.answer_caller_sdp(cx, None) {
                Ok(sdp) => self.provisional_to_caller(cx, 183, Some(&sdp)),
                Err(why) => return self.finish(cx, HangupBy::Us, why),
            }
        }
        self.playing = true;
        cx.media(self.worker, Command::Play { session: self.id.0, end: self.caller.end, source });
    }
}

/// Phones of one q ring together, the highest q first (RFC 3261 §16.6 step 5).
fn rounds(mut phones: Vec<(u16, Phone)>) -> Vec<Vec<Phone>> {
    phones.sort_by_key(|(q, _)| std::cmp::Reverse(*q));
    let mut rounds: Vec<(u16, Vec<Phone>)> = Vec::new();
    for (q, phone) in phones {
        match rounds.last_mut() {
            Some((last, round)) if *last == q => round.push(phone),
            _ => rounds.push((q, vec![phone])),
        }
    }
    rounds.into_iter().map(|(_, round)| round).collect()
}
