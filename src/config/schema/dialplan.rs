//! A dialplan file as written.

use super::{SecretText, Spanned, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A file of dialplans/, named for its context. Routes are read from the top; the first that
/// matches takes the call.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "webtrunk dialplan")]
pub struct Dialplan {
    /// Numbers become +E.164 by this country's rules before they are matched: "US", "DE".
    pub country: Option<Text>,
    /// Times a route may be bound to by `when`, by name.
    #[serde(default)]
    pub hours: BTreeMap<String, Spanned<Hours>>,
    /// Routes, from the top.
    #[serde(default)]
    pub route: Vec<Spanned<Route>>,
    /// What is expected of them; run by check-config and at every start.
    #[serde(default)]
    pub case: Vec<Spanned<Case>>,
}

/// One pattern or several.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a text or a list of texts")]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    /// As a list.
    pub fn list(&self) -> &[String] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

/// What to do with the calls that match.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name in logs, traces and records.
    pub name: Text,
    /// Patterns of numbers: X is 0-9, Z 1-9, N 2-9, [1-5] a set, a last "." one or more of
    /// anything.
    #[serde(rename = "match")]
    pub patterns: Spanned<OneOrMany>,
    /// Caller id towards trunks; {user.did}, {user.name} and {caller} are filled in.
    pub caller_id: Option<String>,
    /// How long a trunk may ring; "60s" where left out.
    pub timeout: Option<Text>,
    /// When the next trunk is tried: statuses, classes such as "5xx", "silent:6s". ["408", "5xx",
    /// "silent:6s"] where left out.
    pub next_on: Option<Vec<Text>>,
    /// Limits, and a drain, do not stop these calls: emergencies.
    #[serde(default)]
    pub ignore_limits: bool,
    /// A callee's 3xx is routed as if the caller had dialled it.
    #[serde(default)]
    pub redirect: bool,
    /// Countries the number must lie in: "+1" also holds Jamaica and 20 more.
    #[serde(default)]
    pub region: Vec<Text>,
    /// One of the `hours` of this file: outside them it is no route.
    pub when: Option<Text>,
    /// What the caller must have among its `claims`: "user.international", or several.
    pub require: Option<Spanned<OneOrMany>>,
    /// A brake on what one user spends.
    pub limit: Option<RouteLimit>,
    /// Put into the call's record.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Steps, in order.
    #[serde(rename = "do")]
    pub steps: Vec<Spanned<Step>>,
}

/// What a web application answers that is asked for a route.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Answer to call.route")]
pub struct RouteAnswer {
    /// Steps, as in a dialplan; without webhooks, and without files.
    #[serde(rename = "do")]
    pub steps: Vec<Step>,
    /// Caller id towards trunks.
    pub caller_id: Option<String>,
    /// Put into the call's record.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// Times of the week, in one place.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// Such as "America/Los_Angeles".
    pub tz: String,
    /// Such as ["Mon-Fri 08:00-18:00"].
    pub open: Vec<String>,
    /// Days it is closed nevertheless, such as ["2026-12-25"].
    #[serde(default)]
    pub closed: Vec<String>,
}

/// A brake on what one user spends.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteLimit {
    /// Calls of one user by this route within an hour.
    pub per_user_per_hour: Spanned<u32>,
}

/// At once, or after a delay.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "true or a delay such as \"5s\"")]
pub enum Echo {
    /// true: at once.
    Now(bool),
    /// After this, 10 s at most.
    After(String),
}

/// One step: exactly one of dial, ring, play, tone, echo, answer, hangup, goto, webhook.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Trunks one after the other: ["trunk:carrier", "trunk:second"].
    pub dial: Option<Vec<Text>>,
    /// Users on all their phones: ["user:alice", "did:{number}"].
    pub ring: Option<Vec<Text>>,
    /// A WAV file relative to webtrunk.toml, builtin:tune, builtin:chime or builtin:ringback; early
    /// media unless answered.
    pub play: Option<Text>,
    /// A tone in Hz, 20 to 3400; answers.
    pub tone: Option<Spanned<u32>>,
    /// The caller's own voice, at once (true) or after a delay; answers.
    pub echo: Option<Spanned<Echo>>,
    /// Refuse with this status, 400 to 699.
    pub hangup: Option<Spanned<u16>>,
    /// Answer now.
    pub answer: Option<bool>,
    /// The routes of another dialplan decide.
    pub goto: Option<Text>,
    /// A web application decides: an https URL.
    pub webhook: Option<Text>,
    /// What the webhook's signature is made with.
    pub secret: Option<Spanned<SecretText>>,
    /// The webhook may be within this network, and by http.
    #[serde(default)]
    pub allow_private: bool,
    /// With `dial`: the number sent instead.
    pub to: Option<String>,
    /// How long this step may take.
    pub timeout: Option<Text>,
    /// With `ring`: "together" (the default) or "in-turn".
    pub order: Option<Text>,
}

/// A number, and the route expected for it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// As somebody dials it.
    pub dial: String,
    /// When, RFC 3339; noon of a working day where left out.
    pub at: Option<String>,
    /// Claims of who dials.
    #[serde(default)]
    pub claims: Vec<String>,
    /// Route expected; left out: none may match.
    pub route: Option<String>,
    /// Normalised number expected.
    pub number: Option<String>,
}
