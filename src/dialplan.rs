//! Dialplans: one attempt in, a verdict and the trace of routes considered out. Pure.
//!
//! Routes are read from the top; the first whose pattern matches the normalised number takes the
//! call. Not here: files and their errors (`config`), who is registered, which trunk is up.

pub(crate) mod hours;
pub(crate) mod outcome;
pub(crate) mod pattern;
pub(crate) mod tariff;

pub(crate) use hours::Hours;
pub(crate) use outcome::{Outcome, Outcomes};
pub(crate) use pattern::Pattern;
pub(crate) use tariff::Tariff;

use crate::errors::Code;
use crate::sip::digest::Secret;
use crate::sip::status::Refusal;
use rlibphonenumber::{NumberLengthType, PhoneNumber, PhoneNumberFormat, Region};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What to do with a call, in order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Step {
    /// Trunks one after the other; `to` replaces the number sent.
    Dial {
        /// By name, the first first.
        trunks: Vec<String>,
        /// The number sent; the dialled one if `None`.
        to: Option<String>,
        /// Of each attempt.
        timeout: Option<Duration>,
    },
    /// Users, on all their phones; `did:{number}` is the number's owner.
    Ring {
        /// Who rings.
        targets: Vec<Target>,
        /// Of all together.
        timeout: Option<Duration>,
        /// Together, or one after the other.
        order: DialOrder,
    },
    /// A WAV file, or `builtin:tune`; early media unless the call was answered.
    Play(String),
    /// A tone in Hz; answers.
    Tone(u32),
    /// What the caller says, back after this delay; answers.
    Echo(Duration),
    /// And play nothing: for steps after it.
    Answer,
    /// With this status.
    Hangup(u16),
    /// The routes of another context decide from here.
    Goto(String),
    /// A web application decides; if it does not in time, the next step does.
    Webhook {
        /// Where to ask.
        hook: Webhook,
        /// Until the next step is taken.
        timeout: Duration,
    },
    /// A step that is there only for these outcomes of the ring or dial step before it.
    On {
        /// Of the step before.
        outcomes: Vec<Outcome>,
        /// What is done then.
        step: Box<Step>,
    },
}

impl Step {
    /// The step itself, whenever it runs.
    pub fn inner(&self) -> &Step {
        if let Step::On { step, .. } = self { step } else { self }
    }
}

/// Where a webhook goes, and what its signature is made with.
///
/// As a value it holds the secret. Whoever stores one seals it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Webhook {
    /// `https`, or `http` to a loopback address.
    pub url: String,
    /// Signs each request.
    #[serde(with = "revealed")]
    pub secret: Secret,
    /// Targets within this network are allowed.
    pub allow_private: bool,
}

impl Webhook {
    /// The target without path and query, which may hold a secret.
    pub(crate) fn host(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.rsplit_once('@').map_or(authority, |(_, host)| host)
    }
}

/// A secret within a value that is sealed.
mod revealed {
    use crate::sip::digest::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    /// The secret as it is.
    ///
    /// # Errors
    /// Those of what it is written to.
    pub(super) fn serialize<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.reveal())
    }

    /// The secret of a value.
    ///
    /// # Errors
    /// Those of what it is read from.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        String::deserialize(from).map(Secret::new)
    }
}

/// How several targets ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DialOrder {
    /// At once.
    Together,
    /// One after the other; each has the step's timeout.
    InTurn,
}

/// Whom `ring` rings.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Target {
    /// All devices of this user.
    User(String),
    /// The user whose `did` is this number; `{number}` stands for the number called.
    Did(String),
}

/// When the next trunk is tried.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NextOn {
    /// This status.
    Status(u16),
    /// `5xx`: a whole class.
    Class(u16),
    /// No provisional response in this time.
    Silent(Duration),
}

/// One route.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// For logs and records.
    pub name: String,
    /// Any of them.
    pub patterns: Vec<Pattern>,
    /// A template of the number shown.
    pub caller_id: Option<String>,
    /// How long it rings if a step does not say.
    pub timeout: Option<Duration>,
    /// After which the next trunk is tried.
    pub next_on: Vec<NextOn>,
    /// An emergency: limits do not apply, except a cap.
    pub ignore_limits: bool,
    /// A callee's 3xx is followed, through the caller's own dialplan.
    pub redirect: bool,
    /// Countries the number must lie in; empty: any.
    pub regions: Vec<Region>,
    /// Dear numbers that may be called all the same.
    pub allow: Vec<Tariff>,
    /// It is a route only then.
    pub when: Option<Hours>,
    /// Claims the caller must have, all of them.
    pub requires: Vec<String>,
    /// Calls of one user by this route within an hour.
    pub per_user_per_hour: Option<u32>,
    /// Put into the call's record.
    pub tags: BTreeMap<String, String>,
    /// In order.
    pub steps: Vec<Step>,
}

/// The default of `next_on`: never after the person said no.
pub(crate) fn default_next_on() -> Vec<NextOn> {
    vec![NextOn::Status(408), NextOn::Class(5), NextOn::Silent(Duration::from_secs(6))]
}

impl Route {
    /// Whether its author wrote `number` down, and not only a pattern that takes it.
    pub(crate) fn spells(&self, number: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.spells(number))
    }

    /// A route for every number that runs `steps` by the default rules.
    pub fn of_steps(name: impl Into<String>, steps: Vec<Step>) -> Route {
        Route {
            name: name.into(),
            patterns: Vec::new(),
            caller_id: None,
            timeout: None,
            next_on: default_next_on(),
            ignore_limits: false,
            redirect: false,
            regions: Vec::new(),
            allow: Vec::new(),
            when: None,
            requires: Vec::new(),
            per_user_per_hour: None,
            tags: BTreeMap::new(),
            steps,
        }
    }

    /// Whether a final `status` from one trunk lets the next one be tried.
    pub(crate) fn moves_on(&self, status: u16) -> bool {
        self.next_on.iter().any(|n| match n {
            NextOn::Status(s) => *s == status,
            NextOn::Class(c) => *c == status / 100,
            NextOn::Silent(_) => false,
        })
    }

    /// Why the number's country keeps it from this route.
    fn abroad(&self, number: &str) -> Option<String> {
        if self.regions.is_empty() {
            return None;
        }
        let allowed = self.regions.iter().map(|r| r.to_string()).collect::<Vec<_>>().join(", ");
        match region_of(number) {
            Some(region) if self.regions.contains(&region) => None,
            Some(region) => Some(format!("it lies in {region}, and region allows {allowed}")),
            None => {
                Some(format!("it lies in no country that is known, and region allows {allowed}"))
            }
        }
    }

    /// Whether its calls may go to a trunk: by a step, or as a web application answers.
    pub(crate) fn reaches_trunks(&self) -> bool {
        let trunk = |s: &Step| matches!(s.inner(), Step::Dial { .. } | Step::Webhook { .. });
        self.steps.iter().any(trunk)
    }

    /// Why what the number costs keeps it from this route.
    fn dear(&self, number: &str, country: Option<&str>) -> Option<String> {
        if !self.reaches_trunks() {
            return None;
        }
        let tariff = Tariff::of(number, country).filter(|t| !self.allow.contains(t))?;
        Some(format!("it is a {tariff} number, and the route lacks allow = [\"{tariff}\"]"))
    }

    /// Why it is no route at this moment.
    fn closed(&self, unix: u64) -> Option<String> {
        self.when
            .as_ref()
            .filter(|h| !h.is_open(unix))
            .map(|h| format!("hours.{} are over", h.name))
    }

    /// The first claim the caller lacks.
    fn lacking(&self, permits: &Permits) -> Option<String> {
        let missing = self.requires.iter().find(|r| !permits.claims.contains(r))?;
        Some(format!("it is for those with the claim {missing:?}"))
    }

    /// How long a trunk may stay silent before the next is tried.
    pub(crate) fn silent_after(&self) -> Option<Duration> {
        self.next_on.iter().find_map(|n| match n {
            NextOn::Silent(d) => Some(*d),
            _ => None,
        })
    }
}

/// One context: a file of routes.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Context {
    /// The file's name.
    pub name: String,
    /// Two letters, of ISO 3166: how numbers without `+` are read.
    pub country: Option<String>,
    /// In order.
    pub routes: Vec<Route>,
}

/// What a caller may do beyond its dialplan, and what not in spite of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Permits {
    /// What a route's `require` may ask for.
    pub claims: Vec<String>,
    /// The only numbers that may be called; empty: any.
    pub callees: Vec<Pattern>,
}

impl Permits {
    /// Of those who have none and need none.
    pub(crate) const NONE: &'static Permits = &Permits { claims: Vec::new(), callees: Vec::new() };
}

/// A call to be routed.
#[derive(Clone, PartialEq, Debug)]
pub struct Attempt<'a> {
    /// The dialplan's context.
    pub context: &'a str,
    /// As it was sent.
    pub dialled: &'a str,
    /// When, seconds since 1970.
    pub unix: u64,
    /// What the caller may do beyond the dialplan.
    pub permits: &'a Permits,
}

/// One route that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Considered {
    /// By name.
    pub route: String,
    /// The one looked at.
    pub pattern: String,
    /// Why not, or `None` if it matched.
    pub why_not: Option<String>,
}

/// The outcome for one attempt.
#[derive(Clone, PartialEq, Debug)]
pub struct RoutingVerdict {
    /// The normalised number.
    pub number: String,
    /// The route that matched.
    pub route: Option<Route>,
    /// All that were looked at.
    pub trace: Vec<Considered>,
    /// A pattern matched, but the number, or who calls it, is not allowed by it.
    pub barred: Option<(Code, String)>,
}

impl RoutingVerdict {
    /// The route and the number, or the refusal its caller gets.
    ///
    /// # Errors
    /// 403 if something barred it, else 404.
    pub(crate) fn decide(self, context: &str) -> Result<(Route, String), Refusal> {
        let number = self.number;
        match (self.route, self.barred) {
            (Some(route), _) => Ok((route, number)),
            (None, Some((code, why))) => {
                Err(Refusal::new(403, format!("{number} may not be called: {why}")).code(code))
            }
            (None, None) => {
                Err(Refusal::new(404, format!("no route for {number} in context {context}"))
                    .code(Code::NO_ROUTE))
            }
        }
    }
}

/// All contexts, by name.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    contexts: BTreeMap<String, Context>,
}

impl Extend<Context> for Plan {
    fn extend<T: IntoIterator<Item = Context>>(&mut self, contexts: T) {
        self.contexts.extend(contexts.into_iter().map(|c| (c.name.clone(), c)));
    }
}

impl FromIterator<Context> for Plan {
    fn from_iter<T: IntoIterator<Item = Context>>(contexts: T) -> Plan {
        let mut plan = Plan::default();
        plan.extend(contexts);
        plan
    }
}

impl Context {
    /// The context `@NAME`, which sends everything to one trunk: test calls use it.
    pub(crate) fn direct_to_trunk(trunk: &str) -> Context {
        let steps = vec![Step::Dial { trunks: vec![trunk.to_owned()], to: None, timeout: None }];
        let mut route = Route::of_steps(format!("straight to {trunk}"), steps);
        route.patterns = Pattern::parse(".").into_iter().collect();
        route.allow = Tariff::ALL.to_vec();
        Context { name: format!("@{trunk}"), country: None, routes: vec![route] }
    }
}

impl Plan {
    /// The contexts somebody wrote.
    pub fn written(&self) -> impl Iterator<Item = &Context> {
        self.contexts.values().filter(|c| !c.name.starts_with('@'))
    }

    /// The context called `name`.
    pub(crate) fn context(&self, name: &str) -> Option<&Context> {
        self.contexts.get(name)
    }

    /// Whether a number may be one that a route takes beyond all limits, as emergency calls are;
    /// cheaper than to route it.
    pub(crate) fn may_ignore_limits(&self, context: &str, dialled: &str) -> bool {
        let Some(context) = self.context(context) else { return false };
        let patterns =
            || context.routes.iter().filter(|route| route.ignore_limits).flat_map(|r| &r.patterns);
        let matches = |number: &str| patterns().any(|p| p.mismatch(number).is_none());
        patterns().next().is_some()
            && (matches(&normalise(dialled, None))
                || matches(&normalise(dialled, context.country.as_deref())))
    }

    /// Routes an attempt; `None` if the context does not exist.
    pub fn route(&self, attempt: &Attempt<'_>) -> Option<RoutingVerdict> {
        let context = self.context(attempt.context)?;
        let number = normalise(attempt.dialled, context.country.as_deref());
        let callees = &attempt.permits.callees;
        if !callees.is_empty() && callees.iter().all(|p| p.mismatch(&number).is_some()) {
            let why = "the caller's account allows other numbers only".to_owned();
            return Some(RoutingVerdict {
                number,
                route: None,
                trace: Vec::new(),
                barred: Some((Code::NOT_PERMITTED, why)),
            });
        }
        let (mut trace, mut barred) = (Vec::new(), None);
        for route in &context.routes {
            for pattern in &route.patterns {
                let fits = pattern.mismatch(&number);
                let abroad = || route.abroad(&number).map(|why| (Code::REGION, why));
                let lacking =
                    || route.lacking(attempt.permits).map(|why| (Code::NOT_PERMITTED, why));
                let dear = || {
                    let why = route.dear(&number, context.country.as_deref());
                    why.map(|why| (Code::DEAR, why))
                };
                let bar =
                    if fits.is_none() { abroad().or_else(lacking).or_else(dear) } else { None };
                if let Some(bar) = &bar {
                    barred.get_or_insert_with(|| bar.clone());
                }
                let why_not = fits.or(bar.map(|b| b.1)).or_else(|| route.closed(attempt.unix));
                let found = why_not.is_none();
                trace.push(Considered {
                    route: route.name.clone(),
                    pattern: pattern.to_string(),
                    why_not,
                });
                if found {
                    return Some(RoutingVerdict {
                        number,
                        route: Some(route.clone()),
                        trace,
                        barred: None,
                    });
                }
            }
        }
        Some(RoutingVerdict { number, route: None, trace, barred })
    }
}

/// Brings a dialled text to E.164 if `country` makes it a possible number; short codes and names
/// stay.
pub(crate) fn normalise(dialled: &str, country: Option<&str>) -> String {
    let text = dialled.trim();
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let is_number =
        digits > 0 && text.chars().all(|c| c.is_ascii_digit() || "+ -().\u{a0}/".contains(c));
    if !is_number {
        return text.to_owned();
    }
    let bare: String = text.chars().filter(|c| c.is_ascii_digit() || *c == '+').collect();
    let Some(region) = country.and_then(|c| c.parse::<Region>().ok()) else { return bare };
    match PhoneNumber::parse(text, Some(region)) {
        Ok(number) if number.is_possible_with_reason() == Ok(NumberLengthType::IsPossible) => {
            number.format_as(PhoneNumberFormat::E164).into_owned()
        }
        _ => bare,
    }
}

/// The country an E.164 number lies in.
pub fn region_of(number: &str) -> Option<Region> {
    PhoneNumber::parse(number, None).ok()?.get_region_code()
}

/// The country of an E.164 number, or `+CC` if its numbering plan does not tell. `None` for what is
/// no such number.
pub(crate) fn country_of(number: &str) -> Option<String> {
    let number = PhoneNumber::parse(number, None).ok()?;
    let region = number.get_region_code().map(|region| region.to_string());
    Some(region.unwrap_or_else(|| format!("+{}", number.country_code)))
}

/// The country of a two-letter code.
pub(crate) fn region(code: &str) -> Option<Region> {
    code.parse::<Region>().ok().filter(|_| code != "ZZ")
}

/// Whether `code` is a country the number metadata knows.
pub(crate) fn is_country(code: &str) -> bool {
    // The metadata's own word for "unknown" parses too.
    region(code).is_some()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::User(user) => write!(f, "user:{user}"),
            Target::Did(number) => write!(f, "did:{number}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Dial { trunks, to, .. } => {
                let names: Vec<String> = trunks.iter().map(|t| format!("trunk:{t}")).collect();
                write!(f, "dial  {}", names.join(", then "))?;
                to.iter().try_for_each(|to| write!(f, " to {to}"))
            }
            Step::Ring { targets, timeout, order } => {
                let names: Vec<String> = targets.iter().map(Target::to_string).collect();
                write!(
                    f,
                    "ring  {}",
                    names.join(if *order == DialOrder::Together { " and " } else { ", then " })
                )?;
                timeout
                    .iter()
                    .try_for_each(|t| write!(f, " for {}", humantime::format_duration(*t)))
            }
            Step::Play(file) => write!(f, "play  {file}"),
            Step::Tone(hz) => write!(f, "tone  {hz} Hz"),
            Step::Echo(delay) if delay.is_zero() => write!(f, "echo"),
            Step::Echo(delay) => write!(f, "echo  after {}", humantime::format_duration(*delay)),
            Step::Answer => write!(f, "answer"),
            Step::Goto(context) => write!(f, "goto  {context}"),
            Step::Webhook { hook, timeout } => {
                write!(f, "webhook {}, for {} ms at most", hook.host(), timeout.as_millis())
            }
            Step::On { outcomes, step } => {
                let words: Vec<&str> = outcomes.iter().map(|o| o.as_str()).collect();
                write!(f, "{step}  (on {})", words.join(", "))
            }
            Step::Hangup(status) => {
                write!(f, "hangup {status} {}", crate::sip::status::reason_phrase(*status))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_e164_and_short_codes_stay() {
        for (dialled, country, expected) in [
            ("(206) 555-0123", Some("US"), "+12065550123"),
            ("011 44 20 7946 0018", Some("US"), "+442079460018"),
            ("+44 20 7946 0018", None, "+442079460018"),
            ("0151 23456789", Some("DE"), "+4915123456789"),
            ("911", Some("US"), "911"),
            ("9196", Some("US"), "9196"),
            ("sales", Some("US"), "sales"),
            ("*72", Some("US"), "*72"),
            ("", Some("US"), ""),
        ] {
            assert_eq!(normalise(dialled, country), expected, "{dialled}");
        }
    }

    #[test]
    fn the_default_rules_never_move_on_when_the_person_said_no() {
        let route = Route::of_steps("x", Vec::new());
        assert!([408, 500, 503, 504].iter().all(|s| route.moves_on(*s)));
        assert!(![404, 480, 486, 487, 488, 600, 603].iter().any(|s| route.moves_on(*s)));
    }
}
