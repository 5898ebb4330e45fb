//! A cursor as a value that outlives the process.
//!
//! The step under way is kept as it is taken again: of a dial step, the trunk that was tried and
//! those after it.

use super::{Diversion, PlannedStep, RouteCursor, UNCONDITIONAL, UNKNOWN};
use crate::config::Config;
use crate::dialplan::{NextOn, Outcomes, Pattern, Route, Step};
use crate::errors::Code;
use crate::registrar::WantedPhone;
use crate::sip::status::Refusal;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is kept of the cursor of an answered call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct RouteCursorSnapshot {
    number: String,
    gotos: u8,
    /// Numbers that redirected the call, and whether unconditionally.
    diversions: Vec<(String, bool)>,
    max_forwards: u32,
    max_breadth: u32,
    /// Of a caller who was answered and talks to nobody yet: what is left of its route.
    left: Option<Box<RouteLeft>>,
}

/// What is left of a route.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct RouteLeft {
    /// The step under way, and those after it.
    steps: Vec<PlannedStep>,
    outcomes: Outcomes,
    /// The status of the best refusal so far, why, and its code.
    refusal: Option<(u16, String, u16)>,
    rules: RouteRules,
    redirected: bool,
    /// The user whose phone redirected the call last.
    diverted_by: Option<String>,
    wanted: Option<WantedPhone>,
}

/// What of a route counts while its steps are taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct RouteRules {
    name: String,
    caller_id: Option<String>,
    timeout: Option<Duration>,
    next_on: Vec<NextOn>,
    ignore_limits: bool,
    redirect: bool,
    /// Its author wrote this number down.
    spells: bool,
}

impl RouteRules {
    fn of(route: &Route, number: &str) -> RouteRules {
        RouteRules {
            name: route.name.clone(),
            caller_id: route.caller_id.clone(),
            timeout: route.timeout,
            next_on: route.next_on.clone(),
            ignore_limits: route.ignore_limits,
            redirect: route.redirect,
            spells: route.spells(number),
        }
    }

    fn restore(self, number: &str) -> Route {
        let spelled = self.spells.then(|| Pattern::parse(number).ok()).flatten();
        Route {
            patterns: spelled.into_iter().collect(),
            caller_id: self.caller_id,
            timeout: self.timeout,
            next_on: self.next_on,
            ignore_limits: self.ignore_limits,
            redirect: self.redirect,
            ..Route::of_steps(self.name, Vec::new())
        }
    }
}

impl RouteCursor {
    /// The cursor of an answered call as a value; `under_way`: its route is still being taken.
    pub(crate) fn snapshot(&self, under_way: bool) -> RouteCursorSnapshot {
        let diversions = self.diversions.iter();
        RouteCursorSnapshot {
            number: self.number.clone(),
            gotos: self.gotos,
            diversions: diversions.map(|d| (d.number.clone(), d.reason == UNCONDITIONAL)).collect(),
            max_forwards: self.max_forwards,
            max_breadth: self.max_breadth,
            left: under_way.then(|| self.left()).flatten().map(Box::new),
        }
    }

    fn left(&self) -> Option<RouteLeft> {
        let again = self.again().map(|step| (step, None));
        let refusal = self.refusal.as_ref();
        Some(RouteLeft {
            steps: again.into_iter().chain(self.steps.iter().cloned()).collect(),
            outcomes: self.outcomes,
            refusal: refusal.map(|why| (why.status, why.why.clone(), why.code.0)),
            rules: RouteRules::of(self.route.as_ref()?, &self.number),
            redirected: self.redirected,
            diverted_by: self.diverted_by.as_ref().map(|user| user.name.clone()),
            wanted: self.wanted.clone(),
        })
    }

    /// The step under way, as it is taken again.
    fn again(&self) -> Option<Step> {
        Some(match self.current.clone()? {
            Step::Dial { to, timeout, .. } => {
                let trunks = self.dialling.iter().chain(&self.trunks_left).cloned().collect();
                Step::Dial { trunks, to, timeout }
            }
            step => step,
        })
    }

    /// The cursor of a value: what bounds a call's walk continues counting, and the next step is
    /// the one that was under way.
    pub(crate) fn restore(snapshot: RouteCursorSnapshot, config: &Config) -> RouteCursor {
        let diversion = |(number, unconditional): (String, bool)| Diversion {
            number,
            reason: if unconditional { UNCONDITIONAL } else { UNKNOWN },
        };
        let number = snapshot.number;
        let mut cursor = RouteCursor {
            gotos: snapshot.gotos,
            diversions: snapshot.diversions.into_iter().map(diversion).collect(),
            ..RouteCursor::new(snapshot.max_forwards, snapshot.max_breadth)
        };
        if let Some(left) = snapshot.left {
            let refusal = left.refusal.filter(|(status, ..)| (300..=699).contains(status));
            cursor.refusal =
                refusal.map(|(status, why, code)| Refusal::new(status, why).code(Code(code)));
            cursor.route = Some(left.rules.restore(&number));
            (cursor.steps, cursor.outcomes) = (left.steps.into(), left.outcomes);
            (cursor.redirected, cursor.wanted) = (left.redirected, left.wanted);
            cursor.diverted_by = left.diverted_by.and_then(|name| config.users.get(&name).cloned());
        }
        RouteCursor { number, ..cursor }
    }

    /// The step that comes next.
    pub(crate) fn upcoming(&self) -> Option<&Step> {
        self.steps.front().map(|(step, _)| step.inner())
    }
}
