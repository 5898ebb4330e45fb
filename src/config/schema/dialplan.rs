//! A dialplan file as written.

use super::{SecretText, Spanned, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A file in dialplans/; its name is that of the context. Routes are read from the top; the first
/// that matches takes the call.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "webtrunk dialplan")]
pub(crate) struct Dialplan {
    /// The country whose dialling rules turn numbers into +E.164 before they are matched: "US",
    /// "DE". Default: numbers stay as dialled.
    pub country: Option<Text>,
    /// Opening hours, by name, for the `when` of a route.
    #[serde(default)]
    pub hours: BTreeMap<String, Spanned<Hours>>,
    /// Routes, read from the top.
    #[serde(default)]
    pub route: Vec<Spanned<Route>>,
    /// Numbers with the route expected for them; checked by check-config and at every start.
    #[serde(default)]
    pub case: Vec<Spanned<Case>>,
}

/// One pattern or several.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a text or a list of texts")]
pub(crate) enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    /// As a list.
    pub(crate) fn list(&self) -> &[String] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

/// What happens to the calls that match.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// Its name in logs, traces and records.
    pub name: Text,
    /// Patterns of numbers: X is 0-9, Z 1-9, N 2-9, [1-5] a set, a last "." one or more of 0-9, +,
    /// * and #. A name matches only if it is spelled out.
    #[serde(rename = "match")]
    pub patterns: Spanned<OneOrMany>,
    /// The caller id sent to trunks; {user.did}, {user.name} and {caller} are replaced.
    pub caller_id: Option<Text>,
    /// How long each trunk may ring. Default: "60s".
    pub timeout: Option<Text>,
    /// Failures after which the next trunk is tried: statuses, classes such as "5xx", "silent:6s".
    /// Default: ["408", "5xx", "silent:6s"].
    pub next_on: Option<Vec<Text>>,
    /// Exempt these calls from limits and from a drain, for emergency numbers. A user has at most 4
    /// calls by such routes beyond its limit, and 10 a minute. Default: false.
    #[serde(default)]
    pub ignore_limits: bool,
    /// Follow a callee's 3xx, as if the caller had dialled its number. Default: false.
    #[serde(default)]
    pub redirect: bool,
    /// Countries the number must be in, such as ["US", "CA"]: "+1" also contains Jamaica and 20
    /// more. Default: any.
    #[serde(default)]
    pub region: Vec<Text>,
    /// Dear numbers that a route to a trunk takes all the same: "premium", "shared-cost",
    /// "personal", "satellite". Default: none of them; they are what stolen passwords are used for.
    #[serde(default)]
    pub allow: Vec<Text>,
    /// The name of `hours` in this file, outside which the route does not match. Default: always.
    pub when: Option<Text>,
    /// Claims the caller must have, all of them: "user.international", or a list. Default: none.
    pub require: Option<Spanned<OneOrMany>>,
    /// A limit on the calls of one user by this route, and on its texts to a trunk.
    pub limit: Option<RouteLimit>,
    /// Values written into the call's record.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Steps, in order, until one of them takes the call.
    #[serde(rename = "do")]
    pub steps: Vec<Spanned<Step>>,
}

/// The answer of a web application that is asked for a route; the schema that is published. What
/// comes is read step by step, so that a mistake names its step.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Answer to call.route")]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct RouteAnswer {
    /// Steps, as in a dialplan, except webhooks and files.
    #[serde(rename = "do")]
    pub steps: Vec<Step>,
    /// The caller id sent to trunks.
    pub caller_id: Option<String>,
    /// Values written into the call's record.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// Opening hours in one time zone.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hours {
    /// The time zone, such as "America/Los_Angeles".
    pub tz: String,
    /// Times of the week, such as ["Mon-Fri 08:00-18:00"].
    pub open: Vec<String>,
    /// Days without opening hours, such as ["2026-12-25"].
    #[serde(default)]
    pub closed: Vec<String>,
}

/// A limit on the calls of one user by this route, and on its texts to a trunk.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteLimit {
    /// Calls of one user by this route per hour, and texts that it sends to a trunk.
    pub per_user_per_hour: Spanned<u32>,
}

/// At once, or after a delay.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "true or a delay such as \"5s\"")]
pub(crate) enum Echo {
    /// true: at once.
    Now(bool),
    /// After this delay, at most 10 s.
    After(String),
}

/// One step: exactly one of dial, ring, play, tone, echo, answer, hangup, goto, webhook.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// Call trunks, one after the other: ["trunk:carrier", "trunk:second"].
    pub dial: Option<Vec<Text>>,
    /// Ring users on all their devices: ["user:alice", "did:{number}"].
    pub ring: Option<Vec<Text>>,
    /// Play a WAV file relative to webtrunk.toml, builtin:tune, builtin:chime or builtin:ringback;
    /// as early media if the call is not answered.
    pub play: Option<Text>,
    /// Answer with a tone, 20 to 3400 Hz.
    pub tone: Option<Spanned<u32>>,
    /// Answer with the caller's own voice, at once (true) or after a delay of at most "10s".
    pub echo: Option<Spanned<Echo>>,
    /// Refuse the call with this status, 400 to 699.
    pub hangup: Option<Spanned<u16>>,
    /// Answer the call.
    pub answer: Option<bool>,
    /// Let the routes of another dialplan decide.
    pub goto: Option<Text>,
    /// Ask a web application at this https URL what to do.
    pub webhook: Option<Text>,
    /// With `webhook`: the key of its signature, at least 16 characters.
    pub secret: Option<Spanned<SecretText>>,
    /// With `webhook`: allow a target within this network, and plain http. Default: false.
    #[serde(default)]
    pub allow_private: bool,
    /// With `dial`: the number to send instead of the dialled one.
    pub to: Option<Text>,
    /// How long this step may take. Default: the route's `timeout`; for `webhook` "800ms", at most
    /// "5s".
    pub timeout: Option<Text>,
    /// Run the step only after a ring or dial step that ended so: "timeout", "unregistered",
    /// "busy", "declined", "failed". Default: after any of them; a `hangup` after all but "busy"
    /// and "declined", so that a busy line sounds busy.
    pub on: Option<Spanned<Vec<String>>>,
    /// With `ring`: "together" (the default) or "in-turn", one user after another.
    pub order: Option<Text>,
}

/// A number, and the route expected for it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// The number as dialled.
    pub dial: String,
    /// The time of the call, RFC 3339. Default: noon of a working day.
    pub at: Option<String>,
    /// Claims of the caller.
    #[serde(default)]
    pub claims: Vec<String>,
    /// The route expected. Default: none may match.
    pub route: Option<String>,
    /// The normalised number expected.
    pub number: Option<String>,
}
