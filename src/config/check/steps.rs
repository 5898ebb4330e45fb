//! The steps of a route.

use super::Check;
use super::names::{KnownNames, Names, first_names, suggestion};
use crate::config::problem::ConfigProblem;
use crate::config::schema::Spanned;
use crate::config::{schema, wav};
use crate::dialplan::{DialOrder, NextOn, Outcome, Step, Target};
use std::time::Duration;

/// How long a trunk may say nothing before the next is tried.
const SILENCE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(600);

impl Check {
    pub(super) fn next_on(&mut self, at: &Spanned<String>) -> Option<NextOn> {
        let text = at.as_ref().as_str();
        let parsed = match text {
            "4xx" | "5xx" | "6xx" => text[..1].parse().ok().map(NextOn::Class),
            _ => match text.strip_prefix("silent:") {
                Some(after) => humantime::parse_duration(after)
                    .ok()
                    .filter(|d| SILENCE.contains(d))
                    .map(NextOn::Silent),
                None => text.parse().ok().filter(|s| (300..700).contains(s)).map(NextOn::Status),
            },
        };
        if parsed.is_none() {
            self.error(
                at,
                "dialplan::next_on",
                format!("{text:?} is no reason to try the next trunk"),
                "use a status such as \"408\", a class \"5xx\", or \"silent:6s\"",
            );
        }
        parsed
    }

    /// The steps of a route; one that is only there for an outcome follows something that has one.
    pub(super) fn steps(
        &mut self,
        all: Vec<Spanned<schema::Step>>,
        route: &str,
        names: Option<&Names>,
    ) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for step in all {
            let ends = |s: &Step| matches!(s.inner(), Step::Ring { .. } | Step::Dial { .. });
            let follows = steps.iter().any(ends);
            let on = step.get_ref().on.as_ref();
            let outcomes = on.map(|on| self.outcomes(on, follows));
            let Some(step) = self.step(step, route, names) else { continue };
            steps.push(match outcomes {
                Some(outcomes) => Step::On { outcomes, step: Box::new(step) },
                None => step,
            });
        }
        steps
    }

    fn outcomes(&mut self, on: &Spanned<Vec<String>>, follows: bool) -> Vec<Outcome> {
        let known = Outcome::ALL.map(Outcome::as_str);
        let help = format!("use one or more of {}", known.join(", "));
        if on.as_ref().is_empty() {
            self.error(on, "dialplan::on", "on = [] names nothing: the step never runs", &help);
        }
        if !follows {
            let message = "on needs a step that rings or dials before it";
            let help = "put ring or dial before it, or leave on out";
            self.error(on, "dialplan::on", message, help);
        }
        let mut outcomes = Vec::new();
        for word in on.as_ref() {
            match Outcome::from_word(word) {
                Some(outcome) => outcomes.push(outcome),
                None => {
                    let message = format!("on = {word:?} is no outcome of a ring or dial step");
                    let help = format!("{}{help}", suggestion(word, &known));
                    self.error(on, "dialplan::on", message, help);
                }
            }
        }
        outcomes
    }

    fn step(
        &mut self,
        at: Spanned<schema::Step>,
        route: &str,
        names: Option<&Names>,
    ) -> Option<Step> {
        if verbs(at.get_ref()) != 1 {
            self.error(
                &at,
                "dialplan::step",
                "a step has exactly one verb",
                "one of dial, ring, play, tone, echo, hangup, answer, goto, webhook",
            );
            return None;
        }
        let s = at.into_inner();
        if let Some(to) = &s.to {
            self.template(to, "to", &["{number}"]);
        }
        for at in s.ring.iter().flatten() {
            self.template(at, "ring", &["{number}"]);
        }
        let timeout = self.duration(s.timeout.as_ref());
        if s.webhook.is_none() {
            self.time_within(s.timeout.as_ref(), "timeout", 1..=3_600);
        }
        let order = self.order(s.order.as_ref());
        if let Some(list) = s.dial {
            let trunks = list
                .iter()
                .filter_map(|t| self.named(t, "trunk:", route, names.map(|n| &n.trunks)))
                .collect();
            return Some(Step::Dial { trunks, to: s.to.map(Spanned::into_inner), timeout });
        }
        if let Some(list) = s.ring {
            let targets = list.iter().filter_map(|t| match t.as_ref().strip_prefix("did:") {
                Some(number) => Some(Target::Did(number.to_owned())),
                None => self.named(t, "user:", route, names.map(|n| &n.users)).map(Target::User),
            });
            return Some(Step::Ring { targets: targets.collect(), timeout, order });
        }
        if let Some(context) = s.goto {
            self.gotos.push((self.source.clone(), self.context.clone(), context.clone()));
            return Some(Step::Goto(context.into_inner()));
        }
        if let Some(url) = s.webhook {
            return self.ask(&url, s.secret.as_ref(), s.allow_private, timeout);
        }
        if let Some(play) = s.play {
            self.prompt(&play);
            return Some(Step::Play(play.into_inner()));
        }
        if let Some(hz) = s.tone {
            return Some(self.tone(hz));
        }
        if let Some(echo) = s.echo {
            return self.echo(&echo);
        }
        if let Some(status) = s.hangup {
            return Some(self.hangup(status));
        }
        Some(Step::Answer)
    }

    fn order(&mut self, order: Option<&Spanned<String>>) -> DialOrder {
        match order.map(|at| (at, at.as_ref().as_str())) {
            None | Some((_, "together")) => DialOrder::Together,
            Some((_, "in-turn")) => DialOrder::InTurn,
            Some((at, other)) => {
                let message = format!("order = {other:?} is not known");
                self.error(at, "dialplan::order", message, "use \"together\" or \"in-turn\"");
                DialOrder::Together
            }
        }
    }

    /// The step that asks a web application for the rest.
    fn ask(
        &mut self,
        url: &Spanned<String>,
        secret: Option<&Spanned<schema::SecretText>>,
        allow_private: bool,
        timeout: Option<Duration>,
    ) -> Option<Step> {
        let Some(secret) = secret else {
            self.error(
                url,
                "dialplan::webhook",
                "a webhook needs a secret to sign with",
                "add secret = { env = \"…\" }",
            );
            return None;
        };
        let hook = self.webhook(url, secret, allow_private);
        let timeout = timeout.unwrap_or(Duration::from_millis(800));
        if timeout > Duration::from_secs(5) {
            self.error(
                url,
                "dialplan::webhook",
                "a webhook may take at most 5 s, because the caller waits",
                "the default is \"800ms\"",
            );
        }
        Some(Step::Webhook { hook, timeout })
    }

    fn tone(&mut self, hz: Spanned<u32>) -> Step {
        if !(20..=3_400).contains(hz.as_ref()) {
            self.error(
                &hz,
                "dialplan::tone",
                "a tone must be 20 to 3400 Hz",
                "a telephone line carries no more",
            );
        }
        Step::Tone(hz.into_inner())
    }

    fn echo(&mut self, echo: &Spanned<schema::Echo>) -> Option<Step> {
        let delay = match echo.as_ref() {
            schema::Echo::Now(immediate) => immediate.then_some(Duration::ZERO),
            schema::Echo::After(text) => {
                humantime::parse_duration(text).ok().filter(|d| *d <= Duration::from_secs(10))
            }
        };
        if delay.is_none() {
            self.error(
                echo,
                "dialplan::echo",
                "echo must be true or a delay of at most 10 s",
                "write echo = true or echo = \"5s\"",
            );
        }
        delay.map(Step::Echo)
    }

    fn hangup(&mut self, status: Spanned<u16>) -> Step {
        if !(400..700).contains(status.as_ref()) {
            self.error(
                &status,
                "dialplan::hangup",
                "hangup must be a status from 400 to 699",
                "603 declines, 480 is temporarily unavailable",
            );
        }
        Step::Hangup(status.into_inner())
    }

    fn named(
        &mut self,
        at: &Spanned<String>,
        prefix: &str,
        route: &str,
        known: Option<&KnownNames>,
    ) -> Option<String> {
        let Some(name) = at.as_ref().strip_prefix(prefix) else {
            let message = format!("{:?} is not a {}", at.as_ref(), prefix.trim_end_matches(':'));
            self.error(at, "dialplan::target", message, format!("write \"{prefix}NAME\""));
            return None;
        };
        let known = known?;
        if known.contains(name) {
            return Some(name.to_owned());
        }
        let kind = prefix.trim_end_matches(':');
        let names = known.first();
        let message = format!("route {route:?} names a {kind} that does not exist");
        let problem = ConfigProblem::at(
            &self.source,
            at.span(),
            if kind == "trunk" { "dialplan::trunk" } else { "dialplan::user" },
            message,
        );
        let all = if names.is_empty() {
            format!("there is no [{kind}.…] yet")
        } else {
            format!("known: {}", first_names(&names))
        };
        self.problems.push(
            problem
                .label(format!("no [{kind}] of this name"))
                .help(format!("{}{all}", suggestion(name, &names))),
        );
        None
    }

    fn prompt(&mut self, at: &Spanned<String>) {
        let name = at.as_ref();
        if name.starts_with("builtin:") {
            if !["builtin:tune", "builtin:ringback", "builtin:chime"].contains(&name.as_str()) {
                self.error(
                    at,
                    "dialplan::play",
                    format!("there is no {name:?}"),
                    "builtin:tune, builtin:chime and builtin:ringback exist",
                );
            }
            return;
        }
        match wav::read(&self.folder.join(name)) {
            Ok(samples) => drop(self.prompts.insert(name.clone(), samples)),
            Err(why) => self.error(
                at,
                "dialplan::play",
                format!("{name}: {why}"),
                "paths are relative to the configuration file",
            ),
        }
    }
}

/// How many verbs a step has.
fn verbs(s: &schema::Step) -> usize {
    let verbs = [
        s.dial.is_some(),
        s.ring.is_some(),
        s.play.is_some(),
        s.tone.is_some(),
        s.echo.is_some(),
        s.hangup.is_some(),
        s.answer.is_some(),
        s.goto.is_some(),
        s.webhook.is_some(),
    ];
    verbs.iter().filter(|is_there| **is_there).count()
}
