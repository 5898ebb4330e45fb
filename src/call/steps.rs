//! The route's steps, one after the other, and what the caller is told on the way.

use super::branch::translate_refusal;
use super::leg::Party;
use super::{CALLER_END, Call, CallTimer, Desk, HangupBy, State, translate};
use crate::codec::Codec;
use crate::dialplan::{Step, Target};
use crate::media::player::{Source, chime};
use crate::observe::Note;
use crate::sdp::Direction;
use crate::sip::build::Writer;
use crate::sip::dialog::Dialog;
use crate::sip::parse::HeaderName;
use crate::sip::status::Reject;
use crate::worker::Command;
use std::time::Duration;

/// How long a step rings unless the dialplan says otherwise.
const RING: Duration = Duration::from_secs(60);
/// Longest an unanswered caller is played to.
const EARLY_PROMPT: Duration = Duration::from_secs(180);
/// Widest fork.
const MAX_FORKS: usize = 10;

impl Call {
    /// Starts the next step, or ends the call with the best refusal seen.
    pub(super) fn next_step(&mut self, desk: &mut Desk<'_>) {
        desk.disarm(self.id, CallTimer::Ring);
        if self.state == State::Over {
            return;
        }
        let Some(step) = self.steps.pop_front() else {
            let why = self.refusal.take().map(translate_refusal);
            let why = why.unwrap_or_else(|| Reject::new(480, "the route ended without an answer"));
            return self.finish(desk, HangupBy::Us, why);
        };
        match step {
            Step::Dial { trunks, to, timeout } => {
                self.trunks_left = trunks.into();
                self.dial_to = to;
                self.step_timeout = timeout;
                self.next_trunk(desk);
            }
            Step::Ring { targets, timeout } => self.ring(desk, &targets, timeout),
            Step::Play(name) => self.play(desk, &name),
            Step::Tone(hz) => self.builtin(desk, |session, end| Command::Play { session, end, source: Source::Tone(hz) }),
            Step::Echo(delay) => self.builtin(desk, move |session, end| Command::Echo { session, end, delay }),
            Step::Answer => {
                self.answer_caller(desk, None);
                self.next_step(desk);
            }
            Step::Hangup(status) => {
                let by = format!("the dialplan hangs up with {status}");
                self.finish(desk, HangupBy::Us, Reject::new(status, by));
            }
        }
    }

    fn step_time(&self, own: Option<Duration>) -> Duration {
        own.or(self.route.as_ref().and_then(|r| r.timeout)).unwrap_or(RING)
    }

    /// Tries the next trunk of the dial step.
    pub(super) fn next_trunk(&mut self, desk: &mut Desk<'_>) {
        while let Some(name) = self.trunks_left.pop_front() {
            let limit = desk.config.trunks.get(&name).and_then(|t| t.max_calls).unwrap_or(usize::MAX);
            if desk.trunk_calls.get(&name).copied().unwrap_or(0) >= limit {
                desk.note(Note::TrunkFull { call: self.id, trunk: name.clone(), limit });
                self.refusal.get_or_insert_with(|| Reject::new(503, format!("trunk {name} has its {limit} calls")).retry_after(10));
                continue;
            }
            let number = self.dial_to.as_ref().map_or(self.number.clone(), |to| to.replace("{number}", &self.number));
            let time = self.step_time(self.step_timeout);
            desk.arm(self.id, CallTimer::Ring, time);
            return self.dial_trunk(desk, &name, number);
        }
        self.next_step(desk);
    }

    fn ring(&mut self, desk: &mut Desk<'_>, targets: &[Target], timeout: Option<Duration>) {
        let mut flows = Vec::new();
        for target in targets {
            let user = match target {
                Target::User(name) => Some(name.clone()),
                Target::Did(number) => {
                    let number = number.replace("{number}", &self.number);
                    desk.config.users.values().find(|u| u.did.as_deref() == Some(number.as_str())).map(|u| u.name.clone())
                }
            };
            let Some(user) = user else { continue };
            // A caller is not rung on the phone the call comes from.
            let own = |b: &crate::registrar::Binding| self.a.hop == crate::sip::transaction::Hop::Flow(b.flow);
            flows.extend(desk.registrar.bindings(desk.now, &user).into_iter().filter(|b| !own(b)).map(|b| (user.clone(), b)));
        }
        if flows.is_empty() {
            let names: Vec<String> = targets.iter().map(Target::to_string).collect();
            self.refusal.get_or_insert_with(|| Reject::new(480, format!("nobody is registered for {}", names.join(", "))));
            return self.next_step(desk);
        }
        let time = self.step_time(timeout);
        desk.arm(self.id, CallTimer::Ring, time);
        for (user, binding) in flows.iter().take(MAX_FORKS) {
            self.ring_flow(desk, user, binding);
        }
    }

    pub(super) fn ring_timeout(&mut self, desk: &mut Desk<'_>) {
        if self.state != State::Routing || self.b.is_some() {
            return;
        }
        let why = Reject::new(480, "nobody answered in time");
        let call = self.id;
        let mut closed = Vec::new();
        for branch in self.branches.iter_mut().filter(|b| b.is_trying()) {
            branch.abandon(desk, call, &why);
            closed.push(branch.leg.end);
            self.cdr.tried.push(super::cdr::Tried { target: branch.target.to_string(), status: 0, ms: 0 });
        }
        closed.into_iter().for_each(|end| desk.media(self.worker, Command::CloseEnd { session: call.0, end }));
        self.heard = None;
        self.playing = false;
        self.refusal.get_or_insert(why);
        self.next_step(desk);
    }

    /// A far end of our own that answers at once.
    fn builtin(&mut self, desk: &mut Desk<'_>, command: impl FnOnce(u64, crate::media::EndId) -> Command) {
        self.answer_caller(desk, None);
        if self.state != State::Over {
            self.state = State::Talking;
            desk.media(self.worker, command(self.id.0, CALLER_END));
        }
    }

    fn play(&mut self, desk: &mut Desk<'_>, name: &str) {
        let source = match name {
            "builtin:tune" => Some(Source::Tune),
            "builtin:chime" => Some(Source::Clip(chime())),
            "builtin:ringback" => Some(Source::Ringback),
            _ => desk.config.prompts.get(name).map(|p| Source::Clip(p.clone())),
        };
        let Some(source) = source else { return self.next_step(desk) };
        if !self.a_final {
            if self.offerless {
                // There is no offer to answer, so nothing can be heard before the call is.
                return self.next_step(desk);
            }
            // A caller whose media never comes up must not wait for the prompt's end for ever.
            desk.arm(self.id, CallTimer::Ring, EARLY_PROMPT);
            match self.answer_caller_sdp(desk, None) {
                Ok(sdp) => self.provisional_to_caller(desk, 183, Some(&sdp)),
                Err(why) => return self.finish(desk, HangupBy::Us, why),
            }
        }
        self.playing = true;
        desk.media(self.worker, Command::Play { session: self.id.0, end: CALLER_END, source });
    }

    /// Passes a ringing indication on.
    pub(super) fn tell_ringing(&mut self, desk: &mut Desk<'_>, status: u16) {
        let status = if status == 183 { 180 } else { status };
        self.provisional_to_caller(desk, status, None);
    }

    pub(super) fn provisional_to_caller(&mut self, desk: &mut Desk<'_>, status: u16, sdp: Option<&str>) {
        self.enter_caller_dialog(desk);
        let mut response = Writer::response(&self.invite, status, Some(&self.a.local_tag));
        self.invite.values(HeaderName::RecordRoute).for_each(|r| response.put(HeaderName::RecordRoute, r));
        response.put(HeaderName::Contact, desk.contact(self.a.hop, "call"));
        let bytes = match sdp {
            Some(sdp) => response.end_with("application/sdp", sdp.as_bytes()),
            None => response.end(),
        };
        desk.respond(self.server, status, bytes);
    }

    fn enter_caller_dialog(&mut self, desk: &mut Desk<'_>) {
        if self.a.dialog.is_none() {
            let first = (desk.random_u64() as u32 >> 8).max(1);
            if let Some(dialog) = Dialog::uas(&self.invite, &self.a.local_tag, self.a.hop, first) {
                self.a.enter(desk, self.id, dialog);
            }
        }
    }

    /// The answer to the caller's offer; given once, the same on every later response.
    pub(super) fn answer_caller_sdp(&mut self, desk: &mut Desk<'_>, other: Option<(Party, Codec)>) -> Result<String, Reject> {
        let other = other.as_ref().map(|(p, c)| (p, *c));
        let codecs = translate::answer(desk.config, &self.a.party, other);
        let (sdp, agreed) =
            self.a.negotiation.answer(&codecs, Direction::SendRecv).map_err(|e| Reject::new(488, e.why.clone()).warning(e.warning, e.why))?;
        self.a.configure(desk, self.id, self.worker, &agreed);
        Ok(sdp)
    }

    /// 200 to the caller: with the answer, or with our offer where the INVITE had none.
    pub(super) fn answer_caller(&mut self, desk: &mut Desk<'_>, branch: Option<u16>) {
        if branch.is_some() {
            self.state = State::Talking;
        }
        if self.a_final {
            return;
        }
        let other = branch.and_then(|id| self.settled_with(id));
        let sdp = if self.offerless {
            let codecs = translate::answer(desk.config, &self.a.party, other.as_ref().map(|(p, c)| (p, *c)));
            Ok(self.a.negotiation.offer(&codecs))
        } else {
            self.answer_caller_sdp(desk, other)
        };
        let sdp = match sdp {
            Ok(sdp) => sdp,
            Err(why) => return self.finish(desk, HangupBy::Us, why),
        };
        self.enter_caller_dialog(desk);
        self.a_final = true;
        let (invite, server, call) = (self.invite.clone(), self.server, self.id);
        let expects_answer = self.offerless;
        self.a.accept(desk, call, server, &invite, &sdp, expects_answer);
        self.cdr.answered = Some(desk.now);
        let by = self.cdr.answered_by.clone().unwrap_or_else(|| "a built-in far end".into());
        let codec = |l: &super::Leg| l.negotiation.agreed().map_or("?", |a| a.codec.name());
        let b = self.b.and_then(|id| self.branches.iter().find(|b| b.id == id)).map_or("-", |b| codec(&b.leg));
        let after = desk.now.saturating_duration_since(self.cdr.start);
        desk.note(Note::CallAnswered { call, by, after, codecs: (codec(&self.a), b) });
    }
}
