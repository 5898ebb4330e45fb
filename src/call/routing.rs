//! The route's steps, one after the other.

use super::route_cursor::{NextRound, NextStep, RingStep, rounds};
use super::{
    Call, CallContext, CallPhase, CallTimer, EndReason, HangupBy, Output, Party, Question,
};
use crate::call::context::Seeker;
use crate::cluster::LOCATE;
use crate::cluster::store::LocatedUsers;
use crate::dialplan::{Attempt, DialOrder, Outcome, Route, Step, Target};
use crate::errors::Code;
use crate::event::Event;
use crate::media::player::{PlaySource, chime};
use crate::registrar::{Binding, WantedPhone, Way, phones};
use crate::sip::preferences::Preferences;
use crate::sip::status::Refusal;
use crate::sip::transaction::Hop;
use crate::worker::WorkerCommand;
use serde_json::json;
use std::time::Duration;

/// Longest an unanswered caller is played to.
const EARLY_PROMPT: Duration = Duration::from_secs(180);
/// Most users of one step that the store is asked for.
const MAX_LOCATED: usize = 10;

/// What a user has at this node, of the phone that is meant if one is.
fn here(cx: &CallContext<'_>, user: &str, wanted: Option<&WantedPhone>) -> Vec<Binding> {
    let mut bindings = cx.services.registrar.bindings(cx.now, user);
    bindings.retain(|b| wanted.is_none_or(|wanted| b.is_of(&wanted.instance)));
    bindings
}

/// The ways to a user: those of this node, else those at others.
fn ways(
    cx: &CallContext<'_>,
    user: &str,
    wanted: Option<&WantedPhone>,
    found: &LocatedUsers,
) -> Vec<Way> {
    let here = here(cx, user, wanted);
    if !here.is_empty() {
        return here.into_iter().map(Way::from).collect();
    }
    let found = found.iter().flatten().find(|(name, _)| name == user);
    let Some((cluster, (_, found))) = cx.services.cluster.as_ref().zip(found) else {
        return Vec::new();
    };
    let mut ways = cluster.ways(cx.moment(), user, found);
    let registered = wanted.and_then(|wanted| wanted.registered);
    ways.retain(|way| registered.is_none() || way.registered == registered);
    ways
}

impl Call {
    /// Starts the next step, or ends the call with the best refusal seen.
    pub(super) fn next_step(&mut self, cx: &mut CallContext<'_>) {
        cx.disarm(self.id, CallTimer::Ring);
        if self.state == CallPhase::Over {
            return;
        }
        match self.route.next_step() {
            NextStep::Run(step) => self.run_step(cx, step),
            NextStep::Skipped { step, outcomes } => {
                let (call, step) = (self.id, step.inner().to_string());
                cx.note(Event::StepSkipped { call, step, outcomes: outcomes.to_string() });
                self.next_step(cx);
            }
            NextStep::End(why) => self.route_failed(cx, HangupBy::Us, why),
        }
    }

    fn run_step(&mut self, cx: &mut CallContext<'_>, step: Step) {
        match step {
            Step::On { step, .. } => self.run_step(cx, *step),
            Step::Dial { trunks, to, timeout } => {
                if let Err(why) = self.may_spend(cx) {
                    return self.route_failed(cx, HangupBy::Us, why);
                }
                self.route.begin_dial(trunks, to, timeout);
                self.next_trunk(cx);
            }
            Step::Ring { targets, timeout, order } => {
                self.ring(cx, RingStep { targets, timeout, order })
            }
            Step::Play(name) => self.play(cx, &name),
            Step::Tone(hz) => self.builtin(cx, |session, end| WorkerCommand::Play {
                session,
                end,
                source: PlaySource::Tone(hz),
            }),
            Step::Echo(delay) => {
                self.builtin(cx, move |session, end| WorkerCommand::Echo { session, end, delay })
            }
            Step::Answer => {
                self.answer_caller(cx, None);
                self.next_step(cx);
            }
            Step::Goto(context) => self.go_to(cx, &context),
            Step::Webhook { hook, timeout } => {
                self.route.ask();
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
        let why = self.route.chosen_refusal(status);
        self.route_failed(cx, HangupBy::Us, why);
    }

    /// What a web application receives about the call.
    fn question(&self, cx: &CallContext<'_>) -> String {
        let from = match &self.caller.party {
            Party::User { name, .. } => {
                let tags = self.caller.account.as_ref().map(|a| &a.tags);
                json!({ "user": name, "claims": self.caller.permits().claims, "tags": tags })
            }
            Party::Trunk(name) => json!({ "trunk": name }),
            party @ (Party::Number(_) | Party::Internal(_)) => {
                json!({ "trunk": party.to_string() })
            }
        };
        let time = jiff::Timestamp::from_second(cx.unix() as i64)
            .map(|t| t.to_string())
            .unwrap_or_default();
        let data = json!({
            "call": self.id.to_string(),
            "context": self.cdr.context,
            "number": self.number(),
            "dialled": self.cdr.dialled,
            "from": from,
            "shown": self.cdr.from_shown,
            "remote": self.cdr.remotes[0].map(|r| r.to_string()),
            "user_agent": self.cdr.user_agent,
        });
        json!({ "type": "call.route", "timestamp": time, "data": data }).to_string()
    }

    /// What it answered: its steps come before what is left of the route; without an answer that
    /// continues at once.
    pub(crate) fn on_route(
        &mut self,
        cx: &mut CallContext<'_>,
        answer: Result<Box<Route>, String>,
    ) {
        if !self.route.take_question() || self.state == CallPhase::Over {
            return;
        }
        match answer {
            Ok(answered) => {
                self.cdr.tags.extend(answered.tags.clone());
                self.route.take_answer(*answered);
            }
            Err(why) => cx.note(Event::WebhookFailed { call: self.id, why }),
        }
        self.next_step(cx);
    }

    /// The routes of another context decide, by the number the call has now; what was left of this
    /// one is dropped.
    fn go_to(&mut self, cx: &mut CallContext<'_>, context: &str) {
        if let Err(why) = self.route.count_goto() {
            return self.route_failed(cx, HangupBy::Us, why);
        }
        let verdict = cx.config.plan.route(&Attempt {
            context,
            dialled: self.number(),
            unix: cx.unix(),
            permits: self.caller.permits(),
        });
        let none = || Err(Refusal::new(500, format!("context {context} does not exist")));
        let (route, number) = match verdict.map_or_else(none, |v| v.decide(context)) {
            Ok(found) => found,
            Err(why) => return self.route_failed(cx, HangupBy::Us, why),
        };
        if let Some(user) = &self.caller.account
            && let Err(why) = cx.services.brakes.route(cx.now, user, &route)
        {
            return self.route_failed(cx, HangupBy::Us, why);
        }
        self.cdr.tags.extend(route.tags.clone());
        self.cdr.route = Some(route.name.clone());
        self.route.continue_with(route, number);
        self.next_step(cx);
    }

    /// Tries the next trunk of the dial step.
    pub(super) fn next_trunk(&mut self, cx: &mut CallContext<'_>) {
        while let Some(name) = self.route.next_trunk() {
            if let Err((code, why)) = self.may_dial(cx, &name) {
                self.route.skip_trunk(&name, code, &why);
                continue;
            }
            cx.arm(self.id, CallTimer::Ring, self.route.step_time());
            return self.dial_trunk(cx, &name, self.route.dial_number());
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
        let full = |limit: &usize| !cx.services.trunk_has_room(cx.now, name, *limit);
        if let Some(limit) = trunk.max_calls.filter(full) {
            cx.note(Event::TrunkFull { call: self.id, trunk: name.to_owned(), limit });
            return Err((Code::TRUNK_FULL, format!("it has its {limit} calls")));
        }
        if !cx.services.take_trunk_call(cx.now, name, trunk.calls_per_second) {
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

    fn ring(&mut self, cx: &mut CallContext<'_>, step: RingStep) {
        let elsewhere = self.users_elsewhere(cx, &step.targets);
        if elsewhere.is_empty() {
            return self.ring_found(cx, step, &Ok(Vec::new()));
        }
        if let Some(why) = cx.services.cluster.as_ref().and_then(|c| c.cannot_ask(cx.now)) {
            return self.ring_found(cx, step, &Err(why));
        }
        let ask = self.route.locate(step);
        cx.arm(self.id, CallTimer::Locate, LOCATE);
        let (seeker, users, limit) = (Seeker::Call(self.id), elsewhere, LOCATE);
        cx.out.push(Output::Ask(Question::Locate { seeker, ask, users, limit }));
    }

    /// Those a step rings who have nothing at this node, if there are others.
    fn users_elsewhere(&self, cx: &CallContext<'_>, targets: &[Target]) -> Vec<String> {
        if cx.services.cluster.is_none() {
            return Vec::new();
        }
        let users = targets.iter().filter_map(|target| self.user_of(cx, target));
        let none = |user: &String| here(cx, user, self.route.wanted()).is_empty();
        users.filter(none).take(MAX_LOCATED).collect()
    }

    /// The store answered question `ask`, or cannot; an unexpected answer is ignored.
    pub(crate) fn located(&mut self, cx: &mut CallContext<'_>, ask: u32, found: &LocatedUsers) {
        let Some(step) = self.route.take_located(ask) else { return };
        cx.disarm(self.id, CallTimer::Locate);
        if self.state == CallPhase::Routing {
            self.ring_found(cx, step, found);
        }
    }

    /// It said nothing in time.
    pub(super) fn not_located(&mut self, cx: &mut CallContext<'_>) {
        let why = format!("the store did not answer within {} ms", LOCATE.as_millis());
        self.located(cx, self.route.asked(), &Err(why));
    }

    fn ring_found(&mut self, cx: &mut CallContext<'_>, step: RingStep, found: &LocatedUsers) {
        let RingStep { targets, timeout, order } = step;
        let (mut in_turn, mut together) = (Vec::new(), Vec::new());
        let (invite, mut unwanted) = (self.uas.invite().clone(), false);
        let preferences = Preferences::of(&invite);
        for target in &targets {
            let Some(user) = self.user_of(cx, target) else { continue };
            // A caller is not rung on the phone the call comes from.
            let here = |way: &Way| matches!(way.hop, Hop::Flow(_));
            let own = |way: &Way| here(way) && self.caller.hop == way.hop;
            let others =
                ways(cx, &user, self.route.wanted(), found).into_iter().filter(|way| !own(way));
            let (wanted, refused): (Vec<Way>, Vec<Way>) =
                others.partition(|way| preferences.allow(&way.features));
            unwanted |= !refused.is_empty();
            let instance = self.route.wanted().map(|wanted| wanted.instance.as_str());
            let wanted =
                phones(wanted, instance).into_iter().map(|(q, ways)| (q, (user.clone(), ways)));
            if order == DialOrder::InTurn {
                in_turn.extend(rounds(wanted.collect()));
            } else {
                together.extend(wanted);
            }
        }
        in_turn.extend(rounds(together));
        if !self.route.begin_ring(in_turn, timeout, &invite) {
            let names: Vec<String> = targets.iter().map(Target::to_string).collect();
            return self.nobody_there(cx, &names.join(", "), unwanted, found.as_ref().err());
        }
        self.next_round(cx);
    }

    /// Nobody can be rung; `unknown` says why it is not known whether there is somebody.
    fn nobody_there(
        &mut self,
        cx: &mut CallContext<'_>,
        names: &str,
        unwanted: bool,
        unknown: Option<&String>,
    ) {
        let (code, why) = match unknown {
            _ if unwanted => (
                Code::NOT_REGISTERED,
                format!(
                    "the caller wants none of the phones (Accept-Contact, Reject-Contact) of \
                        {names}"
                ),
            ),
            Some(why) => (
                Code::STORE_AWAY,
                format!("nobody is registered at this node for {names}, and {why}"),
            ),
            None => (Code::NOT_REGISTERED, format!("nobody is registered for {names}")),
        };
        cx.note(Event::NobodyThere { call: self.id, code, why: why.clone() });
        self.cdr.nobody_there.get_or_insert_with(|| (code, why.clone()));
        self.route.on_missed(Outcome::Unregistered, Refusal::new(480, why).code(code));
        self.next_step(cx);
    }

    fn user_of(&self, cx: &CallContext<'_>, target: &Target) -> Option<String> {
        match target {
            Target::User(name) => Some(name.clone()),
            Target::Did(number) => {
                let number = number.replace("{number}", self.number());
                cx.config.users.owner_of(&number).map(|u| u.name.clone())
            }
        }
    }

    /// Rings the next group of phones, or continues with the route.
    pub(super) fn next_round(&mut self, cx: &mut CallContext<'_>) {
        match self.route.next_round() {
            NextRound::Ring { phones, share } => {
                cx.arm(self.id, CallTimer::Ring, self.route.step_time());
                for (user, ways) in phones {
                    self.ring_phone(cx, &user, &ways, share);
                }
            }
            NextRound::TooBroad => {
                let why = "Max-Breadth is used up: too many forks on the way here";
                self.route_failed(cx, HangupBy::Us, Refusal::new(440, why).code(Code::LOOP));
            }
            NextRound::Done => self.next_step(cx),
        }
    }

    pub(super) fn ring_timeout(&mut self, cx: &mut CallContext<'_>) {
        if self.state != CallPhase::Routing || self.branches.answered().is_some() {
            return;
        }
        let why = self.out_of_time();
        let call = self.id;
        for branch in self.branches.abandon_trying(cx, call, None, &why.reason()) {
            self.media.close_end(cx, branch.leg.end);
            self.cdr.tried.push(branch.tried(cx.now, None));
        }
        self.media.step_over();
        self.route.on_missed(Outcome::Timeout, why);
        self.next_round(cx);
    }

    /// Why nobody answered when the time was up: it rang, it never did, or a prompt continued.
    fn out_of_time(&self) -> Refusal {
        let (code, why) = match self.cdr.ringing {
            _ if !self.branches.is_any_trying() => {
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
        command: impl FnOnce(u64, crate::media::LegId) -> WorkerCommand,
    ) {
        self.answer_caller(cx, None);
        if self.state != CallPhase::Over {
            self.state = CallPhase::Talking;
            self.media.far_end(cx, self.caller.end, command);
            self.transfer_answered(cx);
        }
    }

    fn play(&mut self, cx: &mut CallContext<'_>, name: &str) {
        let source = match name {
            "builtin:tune" => Some(PlaySource::Tune),
            "builtin:chime" => Some(PlaySource::Clip(chime())),
            "builtin:ringback" => Some(PlaySource::Ringback),
            _ => cx.config.prompts.get(name).map(|p| PlaySource::Clip(p.clone())),
        };
        let Some(source) = source else { return self.next_step(cx) };
        if !self.uas.is_finished() {
            if self.uas.is_offerless() {
                // There is no offer to answer, so nothing can be heard before the call is.
                return self.next_step(cx);
            }
            // A caller whose media never comes up must not wait for the prompt's end for ever.
            cx.arm(self.id, CallTimer::Ring, EARLY_PROMPT);
            match self.answer_caller_sdp(cx, None) {
                Ok(sdp) => self.provisional_to_caller(cx, 183, Some(&sdp)),
                Err(why) => return self.finish(cx, EndReason::refused(HangupBy::Us, why)),
            }
        }
        self.media.prompt(cx, self.caller.end, source);
    }
}
