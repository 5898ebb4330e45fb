//! The dialplan files: routes, steps, cases.

use super::Check;
use super::names::{Names, first_names, suggestion};
use super::rivals::Rivals;
use super::text::text_of;
use crate::config::problem::{ConfigProblem, SourceFile};
use crate::config::schema;
use crate::config::schema::Spanned;
use crate::dialplan::{
    Attempt, Context, Hours, Pattern, Permits, Plan, Route, Step, Tariff, default_next_on,
    is_country, region,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A working day's noon in Europe and morning in America: when cases without a time are asked.
const NOON: u64 = 1_763_654_400;
/// Returns those of `rivals` that take every number of `pattern` whenever `route` could apply;
/// empty if some number is left.
fn takers(rivals: &[(usize, &Route)], route: &Route, pattern: &Pattern) -> Vec<usize> {
    // One that is open whenever this one is takes its numbers at any time: several share the
    // numbers.
    let open: Vec<&(usize, &Route)> = rivals
        .iter()
        .filter(|(_, r)| Hours::cover(&[r.when.as_ref()], route.when.as_ref()))
        .collect();
    let patterns = |r: &Route| r.patterns.clone();
    let alone = open
        .iter()
        .find(|(_, r)| pattern.escapes(&patterns(r).iter().collect::<Vec<_>>()).is_none());
    if let Some((n, _)) = alone {
        return vec![*n];
    }
    let together: Vec<Pattern> = open.iter().flat_map(|(_, r)| patterns(r)).collect();
    if !together.is_empty() && pattern.escapes(&together.iter().collect::<Vec<_>>()).is_none() {
        return open
            .iter()
            .filter(|(_, r)| r.patterns.iter().any(|p| p.meets(pattern)))
            .map(|(n, _)| *n)
            .collect();
    }
    // One that takes all its numbers does so while it is open: several share the week.
    let wide: Vec<&(usize, &Route)> = rivals
        .iter()
        .filter(|(_, r)| pattern.escapes(&patterns(r).iter().collect::<Vec<_>>()).is_none())
        .collect();
    let hours: Vec<Option<&Hours>> = wide.iter().map(|(_, r)| r.when.as_ref()).collect();
    if !wide.is_empty() && Hours::cover(&hours, route.when.as_ref()) {
        wide.iter().map(|(n, _)| *n).collect()
    } else {
        Vec::new()
    }
}

/// The dialplans of a folder, by name. What begins with a dot is an editor's, or a file system's.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    let is_hidden = |f: &Path| f.file_name().is_some_and(|n| n.as_encoded_bytes()[0] == b'.');
    files.retain(|f| f.extension().is_some_and(|e| e == "toml") && !is_hidden(f));
    files.sort();
    files
}

/// The contexts on a circle of gotos: what is left when those that lead nowhere further, and those
/// nothing leads to, are taken away again and again.
fn circle_of<'a>(gotos: impl Iterator<Item = (&'a str, &'a String)>) -> BTreeSet<&'a str> {
    let mut edges: BTreeSet<(&str, &str)> = gotos.map(|(a, b)| (a, b.as_str())).collect();
    loop {
        let (from, to): (BTreeSet<&str>, BTreeSet<&str>) = edges.iter().copied().unzip();
        let before = edges.len();
        edges.retain(|(a, b)| to.contains(a) && from.contains(b));
        if edges.len() == before {
            return from;
        }
    }
}

impl Check {
    pub(super) fn dialplans(&mut self, names: Option<&Names>) -> Plan {
        let mut plan = Plan::default();
        if let Some(embedded) = self.embedded.clone() {
            for (name, text) in embedded {
                plan.extend(self.dialplan(&name, &format!("built-in {name}.toml"), &text, names));
            }
            return plan;
        }
        for path in files(&self.folder.join("dialplans")) {
            let name =
                path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            match text_of(&path) {
                Ok(text) => {
                    plan.extend(self.dialplan(&name, &path.display().to_string(), &text, names))
                }
                Err(why) => self.problems.push(
                    ConfigProblem::plain("dialplan::read", why)
                        .help("every file of dialplans/ that ends in .toml is one of a dialplan"),
                ),
            }
        }
        plan
    }

    pub(super) fn dialplan(
        &mut self,
        name: &str,
        file: &str,
        text: &str,
        names: Option<&Names>,
    ) -> Option<Context> {
        self.source = SourceFile { name: file.to_owned(), text: text.into() };
        name.clone_into(&mut self.context);
        let parsed: schema::Dialplan = self.read(text)?;
        self.common.add(name, text);
        let country = parsed.country.and_then(|at| {
            if is_country(at.as_ref()) {
                return Some(at.into_inner());
            }
            self.error(
                &at,
                "dialplan::country",
                format!("{:?} is not a country", at.as_ref()),
                "use a two-letter code such as \"US\" or \"DE\"",
            );
            None
        });
        let hours: BTreeMap<String, Hours> = parsed
            .hours
            .into_iter()
            .filter_map(|(name, at)| Some((name.clone(), self.hours(&name, at)?)))
            .collect();
        let mut context = Context { name: name.to_owned(), country, routes: Vec::new() };
        let (mut places, mut rivals) = (Vec::new(), Rivals::default());
        for at in parsed.route {
            let span = at.get_ref().patterns.span();
            if let Some(route) = self.route(at.into_inner(), names, &hours) {
                self.reachable(&context.routes, &places, &rivals, &route, span.clone());
                self.toll_fraud(&route, span.clone());
                places.push(span);
                route.patterns.iter().for_each(|p| rivals.file(p, context.routes.len()));
                context.routes.push(route);
            }
        }
        self.emergency(&context, file);
        self.cases(&context, parsed.case);
        Some(context)
    }

    pub(super) fn hours(&mut self, name: &str, at: Spanned<schema::Hours>) -> Option<Hours> {
        let h = at.get_ref();
        let Ok(zone) = jiff::tz::TimeZone::get(&h.tz) else {
            let message = format!("{:?} is not a time zone", h.tz);
            self.error(
                &at,
                "dialplan::hours",
                message,
                "use a name such as \"America/Los_Angeles\" or \"Europe/Berlin\"",
            );
            return None;
        };
        match Hours::new(name, zone, &h.open, &h.closed) {
            Ok(hours) => Some(hours),
            Err(why) => {
                self.error(
                    &at,
                    "dialplan::hours",
                    why,
                    "write open = [\"Mon-Fri 08:00-18:00\"], closed = [\"2026-12-25\"]",
                );
                None
            }
        }
    }

    /// +1 is 25 countries, some of them dear: the classic hole.
    fn toll_fraud(&mut self, route: &Route, span: Range<usize>) {
        let dials = route.steps.iter().any(|s| matches!(s.inner(), Step::Dial { .. }));
        let wide = |p: &Pattern| {
            let text = p.to_string();
            text.starts_with("+1")
                && text.chars().skip(2).take(3).any(|c| matches!(c, 'N' | 'X' | 'Z' | '.'))
        };
        if dials && route.regions.is_empty() && route.patterns.iter().any(wide) {
            let message = format!(
                "route {:?} also matches Jamaica, the Dominican Republic and twenty more \
                    countries, which +1 contains",
                route.name
            );
            let problem = ConfigProblem::at(&self.source, span, "dialplan::region", message);
            self.problems.push(problem.help("add region = [\"US\", \"CA\"]").warning());
        }
    }

    /// A dialplan that reaches the telephone network must reach help, without a prefix (Kari's
    /// Law).
    fn emergency(&mut self, context: &Context, file: &str) {
        let dials = context
            .routes
            .iter()
            .any(|r| r.steps.iter().any(|s| matches!(s.inner(), Step::Dial { .. })));
        let help = match context.country.as_deref() {
            Some("US" | "CA") => "911",
            Some("GB") => "999",
            Some("DE" | "FR" | "IT" | "ES" | "NL" | "AT" | "PL" | "SE" | "DK" | "BE" | "CH") => {
                "112"
            }
            _ => return,
        };
        let reached = || {
            Plan::from_iter([context.clone()])
                .route(&Attempt {
                    context: &context.name,
                    dialled: help,
                    unix: NOON,
                    permits: Permits::NONE,
                })
                .is_some_and(|v| v.route.is_some())
        };
        if dials && !reached() {
            let message = format!(
                "{file}: no route matches {help}, although this dialplan reaches the telephone \
                    network"
            );
            let help = format!(
                "add a route for \"{help}\" with ignore_limits = true; your carrier must know \
                 the address"
            );
            let problem = ConfigProblem::plain("dialplan::emergency", message);
            self.problems.push(problem.help(help).warning());
        }
    }

    /// Every `goto` leads somewhere, and none back to itself; known once all files are read.
    pub(super) fn check_gotos(&mut self, plan: &Plan) {
        let gotos = std::mem::take(&mut self.gotos);
        let circle = circle_of(gotos.iter().map(|(_, from, to)| (from.as_str(), to.as_ref())));
        for (source, from, at) in &gotos {
            let to = at.as_ref();
            let place =
                |message: String| ConfigProblem::at(source, at.span(), "dialplan::goto", message);
            let problem = if plan.context(to).is_none() && from != to {
                let names: Vec<&str> = plan.written().map(|c| c.name.as_str()).collect();
                let known = first_names(&names);
                let help = format!(
                    "{}contexts are the files in dialplans/: {known}",
                    suggestion(to, &names)
                );
                place(format!("there is no dialplan context {to:?}")).help(help)
            } else if from == to {
                place(format!("this goto leads to its own context, {to:?}: the same route again"))
                    .help("name another context, or write the steps here")
            } else if circle.contains(from.as_str()) && circle.contains(to.as_str()) {
                place(format!("the gotos of {from:?} and {to:?} may lead in a circle"))
                    .help("let one of them end in dial, ring or hangup for these numbers")
                    .warning()
            } else {
                continue;
            };
            self.problems.push(problem);
        }
    }

    /// Says where routes further up, alone or together, leave nothing to this one.
    fn reachable(
        &mut self,
        earlier: &[Route],
        places: &[Range<usize>],
        rivals: &Rivals,
        route: &Route,
        span: Range<usize>,
    ) {
        // Whom these let through for the number's country or the caller's claims, this one lets
        // through too.
        let no_stricter = |e: &Route| {
            let countries = e.regions.is_empty()
                || (!route.regions.is_empty()
                    && route.regions.iter().all(|r| e.regions.contains(r)));
            let tariffs = !e.reaches_trunks() || route.allow.iter().all(|t| e.allow.contains(t));
            countries && tariffs && e.requires.iter().all(|r| route.requires.contains(r))
        };
        for pattern in &route.patterns {
            let alike = rivals.of(pattern);
            self.compared += alike.len() as u64;
            let rivals: Vec<(usize, &Route)> = alike
                .into_iter()
                .filter_map(|n| Some((n, earlier.get(n)?)))
                .filter(|(_, e)| no_stricter(e))
                .collect();
            let takers = takers(&rivals, route, pattern);
            let Some(first) = takers.first() else { continue };
            let names: Vec<String> =
                takers.iter().map(|n| format!("{:?}", earlier[*n].name)).collect();
            let (all, take) =
                (names.join(" and "), if names.len() == 1 { "takes" } else { "together take" });
            let message = format!(
                "route {:?} can never be reached for {pattern}: {all} {take} these calls first",
                route.name
            );
            let problem =
                ConfigProblem::at(&self.source, span.clone(), "dialplan::unreachable", message)
                    .label("never tried");
            let problem = problem
                .also(places[*first].clone(), format!("{} takes these calls first", names[0]));
            self.problems.push(
                problem.help("routes are read from the top; move the narrower one up").warning(),
            );
        }
    }

    fn cases(&mut self, context: &Context, cases: Vec<Spanned<schema::Case>>) {
        let plan = Plan::from_iter([context.clone()]);
        for at in cases {
            let case = at.get_ref();
            let unix = match case.at.as_deref().map(str::parse::<jiff::Timestamp>) {
                None => NOON,
                Some(Ok(at)) => at.as_second() as u64,
                Some(Err(e)) => {
                    let message = format!("at: {e}");
                    self.error(
                        &at,
                        "dialplan::case",
                        message,
                        "write at = \"2026-12-25T10:00:00Z\"",
                    );
                    continue;
                }
            };
            let permits = Permits { claims: case.claims.clone(), ..Permits::default() };
            let Some(verdict) = plan.route(&Attempt {
                context: &context.name,
                dialled: &case.dial,
                unix,
                permits: &permits,
            }) else {
                continue;
            };
            let found = verdict.route.map(|r| r.name);
            if found != case.route {
                let say = |r: &Option<String>| {
                    r.as_ref().map_or("no route".to_owned(), |r| format!("{r:?}"))
                };
                let message = format!(
                    "{:?} takes {}, the case expects {}",
                    case.dial,
                    say(&found),
                    say(&case.route)
                );
                self.error(
                    &at,
                    "dialplan::case",
                    message,
                    "correct the route or the case; routes are read from the top",
                );
            }
            if let Some(number) = case.number.as_ref().filter(|n| **n != verdict.number) {
                let message = format!(
                    "{:?} becomes {}, the case expects {number}",
                    case.dial, verdict.number
                );
                self.error(
                    &at,
                    "dialplan::case",
                    message,
                    "`country` decides how a number without + is read",
                );
            }
        }
    }

    fn route(
        &mut self,
        r: schema::Route,
        names: Option<&Names>,
        hours: &BTreeMap<String, Hours>,
    ) -> Option<Route> {
        let patterns = self.patterns(&r.patterns, r.patterns.as_ref().list());
        if let Some(at) = &r.caller_id {
            self.template(at, "caller_id", &["{user.did}", "{user.name}", "{caller}"]);
        }
        let requires = r.require.as_ref().map(|at| self.requires(at)).unwrap_or_default();
        let next_on = match &r.next_on {
            None => default_next_on(),
            Some(list) => list.iter().filter_map(|at| self.next_on(at)).collect(),
        };
        let regions = r.region.iter().filter_map(|at| self.country(at)).collect();
        let allow = r.allow.iter().filter_map(|at| self.tariff(at)).collect();
        let when = r.when.as_ref().and_then(|at| self.hours_called(at, hours));
        if r.steps.is_empty() {
            self.error(
                &r.name,
                "dialplan::do",
                format!("route {:?} does nothing", r.name.as_ref()),
                "add do = [{ dial = [\"trunk:…\"] }]",
            );
        }
        self.time_within(r.timeout.as_ref(), "timeout", 1..=3_600);
        let hourly = r.limit.as_ref().map(|l| &l.per_user_per_hour);
        self.within(hourly, "per_user_per_hour", 1..=1_000_000);
        Some(Route {
            timeout: self.duration(r.timeout.as_ref()),
            steps: self.steps(r.steps, r.name.as_ref(), names),
            name: r.name.into_inner(),
            patterns,
            caller_id: r.caller_id.map(Spanned::into_inner),
            next_on,
            ignore_limits: r.ignore_limits,
            redirect: r.redirect,
            regions,
            allow,
            when,
            requires,
            per_user_per_hour: r.limit.map(|l| l.per_user_per_hour.into_inner()),
            tags: r.tags,
        })
    }

    fn country(&mut self, at: &Spanned<String>) -> Option<rlibphonenumber::Region> {
        let found = region(at.as_ref());
        if found.is_none() {
            self.error(
                at,
                "dialplan::region",
                format!("{:?} is not a country", at.as_ref()),
                "use two-letter codes such as \"US\" or \"CA\"",
            );
        }
        found
    }

    fn hours_called(
        &mut self,
        at: &Spanned<String>,
        hours: &BTreeMap<String, Hours>,
    ) -> Option<Hours> {
        let name = at.as_ref();
        let found = hours.get(name).cloned();
        if found.is_none() {
            let known: Vec<&str> = hours.keys().map(String::as_str).collect();
            let help = format!(
                "{}write hours.{name} = {{ tz = \"Europe/Berlin\", open = \
                 [\"Mon-Fri 08:00-18:00\"] }} at the top",
                suggestion(name, &known)
            );
            let message = format!("there are no hours {name:?} in this file");
            self.error(at, "dialplan::hours", message, help);
        }
        found
    }

    fn tariff(&mut self, at: &Spanned<String>) -> Option<Tariff> {
        let found = Tariff::from_word(at.as_ref());
        if found.is_none() {
            let known = Tariff::ALL.map(Tariff::as_str);
            let help = format!("{}known: {}", suggestion(at.as_ref(), &known), known.join(", "));
            self.error(
                at,
                "dialplan::allow",
                format!("allow: {:?} is no tariff", at.as_ref()),
                help,
            );
        }
        found
    }

    /// A text holds no names in braces but these.
    pub(super) fn template(&mut self, at: &Spanned<String>, key: &str, known: &[&str]) {
        let mut rest = at.as_ref().as_str();
        while let Some(start) = rest.find('{') {
            let name = rest[start..].find('}').map_or(&rest[start..], |n| &rest[start..=start + n]);
            if !known.contains(&name) {
                let message = format!("{key}: {name} is not filled in by anything");
                let help = format!("{}known: {}", suggestion(name, known), known.join(", "));
                self.error(at, "dialplan::template", message, help);
            }
            rest = &rest[start + name.len()..];
        }
    }

    /// The patterns of a list that stands at `at`.
    pub(super) fn patterns<T>(&mut self, at: &Spanned<T>, list: &[String]) -> Vec<Pattern> {
        let mut patterns = Vec::new();
        for text in list {
            match Pattern::parse(text) {
                Ok(pattern) => patterns.push(pattern),
                Err(why) => self.error(
                    at,
                    "dialplan::pattern",
                    format!("pattern {text:?}: {why}"),
                    "X is 0-9, Z is 1-9, N is 2-9, a last . is one or more of 0-9, +, * and #",
                ),
            }
        }
        patterns
    }

    /// `user.CLAIM`, or several.
    fn requires(&mut self, at: &Spanned<schema::OneOrMany>) -> Vec<String> {
        let mut claims = Vec::new();
        for text in at.as_ref().list() {
            match text.strip_prefix("user.").filter(|c| !c.is_empty()) {
                Some(claim) => claims.push(claim.to_owned()),
                None => self.error(
                    at,
                    "dialplan::require",
                    format!("require = {text:?} names no claim"),
                    "write require = \"user.international\", and claims = [\"international\"] \
                     under [user.…]",
                ),
            }
        }
        claims
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often routes are compared in a plan of `n` numbers, each a route of its own.
    fn compared(n: usize) -> u64 {
        let routes: String = (0..n)
            .map(|n| {
                format!(
                    "[[route]]\nname = \"r{n}\"\nmatch = \"+1206{n:07}\"\ndo = [{{ hangup = 603 }}]\n"
                )
            })
            .collect();
        let rest = "[[route]]\nname = \"rest\"\nmatch = \".\"\ndo = [{ hangup = 603 }]\n";
        let mut check = Check::new(PathBuf::from("."));
        let context = check.dialplan("plan", "plan.toml", &format!("{routes}{rest}"), None);
        assert_eq!(context.map(|c| c.routes.len()), Some(n + 1));
        assert!(check.problems.is_empty());
        check.compared
    }

    #[test]
    fn ten_times_the_routes_are_ten_times_the_comparisons() {
        let (one, ten) = (compared(200), compared(2_000));
        assert!(ten <= 11 * one && one <= 400, "{one} and {ten}");
    }

    #[test]
    fn gotos_that_come_back_are_a_circle_and_those_that_pass_through_are_none() {
        let edges = [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("x", "d")];
        let edges = edges.map(|(a, b)| (a, b.to_owned()));
        let found = circle_of(edges.iter().map(|(a, b)| (*a, b)));
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["b", "c"]);
    }
}
