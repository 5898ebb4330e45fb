//! JSON Schemas of all we read and write: configuration and dialplans from their own shapes, events
//! and records from the tables here, which the tests hold against what is really said.

mod config;
pub(crate) mod responses;

use crate::config::schema::{Dialplan, File, RouteAnswer};
use crate::event::EventKind;
use crate::gateway::logins::Answered;
use schemars::schema_for;
use serde_json::{Map, Value, json};

/// Every schema there is, and what it is of.
pub const NAMES: [(&str, &str); 8] = [
    ("config", "webtrunk.toml"),
    ("dialplan", "a file of dialplans/"),
    ("event", "an event, as in the stream and the webhook"),
    ("cdr", "the record of a call, as in the file and in call.ended"),
    ("route-request", "the request to the webhook of a route"),
    ("route-answer", "its answer"),
    ("auth-request", "the request to the webhook of [auth]"),
    ("auth-answer", "its answer"),
];

/// Fields: name, type, what it is. A type ends with "*" for an array of it, "#" for an object of it
/// by name, "?" if the value may be null, "-" if it may be missing, in this order.
type Fields = &'static [(&'static str, &'static str, &'static str)];

const FROM: Fields = &[
    ("user", "string", "name of the user, or trunk:NAME"),
    ("number", "string", "its number: of its account, or as its trunk asserts it"),
    ("name", "string", "its display name; may be empty"),
    ("shown", "string", "the caller id it presented"),
    ("ua", "string", "its User-Agent"),
];
const TO: Fields = &[
    ("dialled", "string", "the number as dialled"),
    ("number", "string", "the number in +E.164, or as dialled"),
];
const ATTEMPT: Fields = &[
    ("target", "string", "trunk:NAME or user:NAME"),
    ("code", "integer", "the final SIP status; 0: given up"),
    ("ms", "integer", "how long it took, ms"),
];
const INTERRUPTION: Fields = &[
    ("at", "time", "since when nobody had the call's media"),
    ("gap_ms", "integer", "for how long, ms"),
    ("lost_node", "string?", "the node that was lost, or null if the gateway was started again"),
    ("by_node", "string?", "the node that took the call over"),
];
const VERDICT: Fields = &[
    ("code", "string?", "WT-nnnn, or null if nothing was wrong"),
    ("side", "string", "the side it was on"),
    ("sentence", "string", "what happened"),
    ("title", "string?", "the title of the code"),
    ("likely", "string?", "the likely cause"),
    ("fix", "string?", "what to do"),
];
const LEG: Fields = &[
    ("leg", "string", "a: the caller, b: the callee"),
    ("sip_call_id", "string?", "the Call-ID of its dialog"),
    ("codec", "string?", "the codec"),
    ("peer_formats", "strings", "the formats its peer offers"),
    ("packets_in", "integer?", "RTP packets received"),
    ("packets_out", "integer?", "RTP packets sent"),
    ("packets_lost", "integer?", "RTP packets lost on the way to the gateway"),
    ("jitter_ms", "integer?", "interarrival jitter of the packets received, ms (RFC 3550)"),
    ("rtt_ms", "integer?", "round trip, ms"),
    ("loss_reported", "number?", "percent of the packets sent that its RTCP reports lost"),
    ("jitter_reported_ms", "integer?", "jitter of the packets sent that its RTCP reports, ms"),
    (
        "mos_in_estimated",
        "number?",
        "estimated opinion score of the packets received, 1 to 4.5 (G.107)",
    ),
    ("mos_out_estimated", "number?", "estimated opinion score of the packets sent, 1 to 4.5"),
    ("srtp", "string?", "the SRTP profile"),
    ("ice_ms", "integer?", "time until ICE was connected, ms"),
    ("dtls_ms", "integer?", "time DTLS took, ms"),
];
const CDR: Fields = &[
    ("v", "integer", "the version of this format: 1"),
    ("call", "string", "the id of the call"),
    ("start", "time", "when the INVITE arrived"),
    ("ring", "time?", "when it rang"),
    ("answer", "time?", "when it was answered"),
    ("end", "time", "when it ended"),
    ("duration_s", "number", "start to end, seconds"),
    ("billable_s", "number", "answer to end, seconds with milliseconds"),
    ("setup_ms", "integer?", "start to answer, ms"),
    ("pdd_ms", "integer?", "start to ringing, ms"),
    ("direction", "string", "inbound: from a trunk; outbound: from a user"),
    ("context", "string", "the dialplan"),
    ("route", "string?", "the route that took it"),
    ("outcome", "string", "success, busy, no_answer, cancelled, refused, server_error"),
    ("sip_code", "integer", "the final SIP status the caller received"),
    ("why", "string", "what ended it"),
    ("code", "string?", "the code of the verdict, or else of what ended it, WT-nnnn"),
    ("verdict", "VERDICT?", "the diagnosis"),
    ("hangup_by", "string?", "caller, callee, webtrunk or media"),
    ("answered_by", "string?", "trunk:NAME or user:NAME"),
    ("from", "FROM", "the caller"),
    ("to", "TO", "the callee"),
    ("attempts", "ATTEMPT*", "targets tried, in order"),
    ("transfers", "strings", "targets of transfers"),
    (
        "interruptions",
        "INTERRUPTION*",
        "restarts of the gateway, and losses of its node, that the call outlived",
    ),
    ("tags", "tags", "tags of the route, the token and the webhook"),
    ("media_problem", "string?", "why media could not begin"),
    ("legs", "LEG*", "the legs"),
];

/// What each kind of event tells; `call.ended` tells the record.
const EVENTS: &[(&str, Fields)] = &[
    (
        "call.started",
        &[
            ("call", "string", "the id of the call"),
            ("from", "string", "user or trunk"),
            ("from_number", "string", "the number of the caller"),
            ("from_name", "string", "the display name of the caller; may be empty"),
            ("to", "string", "the number"),
            ("route", "string", "the route"),
        ],
    ),
    (
        "call.refused",
        &[
            ("call", "string", "the id of the call"),
            ("from", "string", "user or trunk"),
            ("from_number", "string", "the number of the caller"),
            ("from_name", "string", "the display name of the caller; may be empty"),
            ("to", "string", "Request-URI"),
            ("sip_code", "integer", "the SIP status"),
            ("code", "string", "WT-nnnn"),
            ("why", "string", "the reason as text"),
        ],
    ),
    ("call.ringing", &[("call", "string", "the id of the call")]),
    (
        "call.answered",
        &[
            ("call", "string", "the id of the call"),
            ("by", "string", "trunk:NAME or user:NAME"),
            ("after_ms", "integer", "time since the INVITE, ms"),
            ("codecs", "strings", "the codecs of both legs"),
        ],
    ),
    (
        "call.quality",
        &[
            ("call", "string", "the id of the call"),
            ("leg", "string", "a or b"),
            ("codec", "string?", "the codec"),
            ("mos_estimated", "number?", "estimated opinion score, 1 to 4.5 (G.107)"),
            ("packets_in", "integer", "RTP packets received so far"),
            ("packets_lost", "integer?", "RTP packets lost so far"),
            ("packets_out", "integer", "RTP packets sent so far"),
            ("jitter_ms", "integer?", "jitter now, ms"),
            ("rtt_ms", "integer?", "round trip now, ms"),
            ("sounding", "integer", "packets so far that were not silent"),
        ],
    ),
    (
        "call.warning",
        &[
            ("call", "string?", "the id of the call"),
            ("code", "string", "WT-nnnn"),
            ("text", "string", "the reason as text"),
        ],
    ),
    (
        "registration.added",
        &[
            ("user", "string", "the user"),
            ("flows", "integer", "its connections now"),
            ("user_agent", "string", "its User-Agent"),
        ],
    ),
    (
        "registration.removed",
        &[("user", "string", "the user"), ("why", "string", "the reason as text")],
    ),
    (
        "login.refused",
        &[
            ("user", "string", "the user name that was tried"),
            ("remote", "string", "the address it came from"),
            ("code", "string", "WT-nnnn"),
            ("why", "string", "the reason as text"),
            ("more", "integer", "refusals of this source since the last event about it"),
        ],
    ),
    (
        "fraud.braked",
        &[
            ("user", "string", "whom it holds"),
            ("code", "string", "WT-1113"),
            ("why", "string", "which of its limits was reached"),
        ],
    ),
    (
        "trunk.up",
        &[("trunk", "string", "the trunk"), ("by", "string-", "\"operator\" if enabled by hand")],
    ),
    (
        "trunk.down",
        &[
            ("trunk", "string", "the trunk"),
            ("why", "string-", "the reason as text"),
            ("code", "string-", "WT-nnnn"),
            ("by", "string-", "\"operator\" if disabled by hand"),
        ],
    ),
    ("node.up", &[("node", "string", "the node")]),
    (
        "node.taken_over",
        &[
            ("node", "string", "the node that is gone"),
            ("calls", "integer", "calls that continue here"),
            ("ended", "integer", "calls that could not continue"),
        ],
    ),
    ("node.down", &[("node", "string", "the node")]),
    ("store.away", &[("why", "string", "the reason as text")]),
    ("store.back", &[("away_s", "integer", "for how long it was away, seconds")]),
    ("config.reloaded", &[("changes", "string", "what changed")]),
    (
        "addresses.changed",
        &[
            ("before", "strings", "the public addresses until now"),
            ("now", "strings", "the public addresses of new calls"),
            ("found_by", "string", "\"STUN\" or \"the default route\""),
        ],
    ),
    ("drain.started", &[("calls", "integer", "active calls")]),
    (
        "drain.finished",
        &[
            ("calls", "integer-", "calls that are left"),
            ("cancelled", "boolean-", "true if an operator ended the drain"),
        ],
    ),
];

/// The shapes that a type may name.
fn shape(name: &str) -> Option<Value> {
    let events = [("FROM", FROM), ("TO", TO), ("ATTEMPT", ATTEMPT), ("VERDICT", VERDICT)];
    let all = events.iter().chain(&[("LEG", LEG), ("INTERRUPTION", INTERRUPTION)]);
    let all = all.chain(responses::SHAPES).chain(config::SHAPES);
    let own = all.into_iter().find(|(n, _)| *n == name)?.1;
    let base = responses::EXTENDED.iter().find(|(n, _)| *n == name).map_or(&[][..], |(_, f)| f);
    let base = base.iter().filter(|(name, ..)| !own.iter().any(|(n, ..)| n == name));
    Some(object_of(own.iter().chain(base)))
}

/// The schema of a type as [`Fields`] write it.
pub(crate) fn kind(word: &str) -> Value {
    let word = word.trim_end_matches('-');
    if let Some(item) = word.strip_suffix('?') {
        return json!({ "anyOf": [kind(item), { "type": "null" }] });
    }
    if let Some(item) = word.strip_suffix('*') {
        return json!({ "type": "array", "items": kind(item) });
    }
    if let Some(item) = word.strip_suffix('#') {
        return json!({ "type": "object", "additionalProperties": kind(item) });
    }
    match word {
        "strings" => json!({ "type": "array", "items": { "type": "string" } }),
        "integers" => json!({ "type": "array", "items": { "type": "integer" } }),
        "tags" => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        "time" => json!({ "type": "string", "format": "date-time" }),
        name => shape(name).unwrap_or_else(|| json!({ "type": name })),
    }
}

fn object(fields: Fields) -> Value {
    object_of(fields.iter())
}

fn object_of<'a>(
    fields: impl Iterator<Item = &'a (&'static str, &'static str, &'static str)> + Clone,
) -> Value {
    let described = |(name, word, what): &(&str, &str, &str)| {
        let mut value = kind(word);
        value["description"] = json!(what);
        ((*name).to_owned(), value)
    };
    let properties: Map<String, Value> = fields.clone().map(described).collect();
    let required: Vec<&str> = fields.filter(|f| !f.1.ends_with('-')).map(|f| f.0).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties
    })
}

fn titled(title: &str, mut schema: Value) -> Value {
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!(title);
    schema
}

/// `{ type, timestamp, data }`.
fn envelope(name: &str, when: &str, data: Value) -> Value {
    json!({
        "type": "object",
        "description": when,
        "additionalProperties": false,
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": { "const": name },
            "timestamp": { "type": "string", "format": "date-time" },
            "data": data
        },
    })
}

fn event() -> Value {
    let data = |name: &str| {
        EVENTS
            .iter()
            .find(|(n, _)| *n == name)
            .map_or_else(|| object(CDR), |(_, fields)| object(fields))
    };
    let kinds = EventKind::ALL.iter().map(|k| envelope(k.as_str(), k.when(), data(k.as_str())));
    json!({ "oneOf": kinds.collect::<Vec<_>>() })
}

const CALLER: Fields = &[
    ("user", "string-", "the name of the user"),
    ("trunk", "string-", "the name of the trunk"),
    ("claims", "strings-", "claims of the user"),
    ("tags", "tags-", "tags of the user"),
];
const ROUTE_REQUEST: Fields = &[
    ("call", "string", "the id of the call"),
    ("context", "string", "the dialplan"),
    ("number", "string", "the number in +E.164, or as dialled"),
    ("dialled", "string", "the number as dialled"),
    ("from", "object", "the caller"),
    ("shown", "string", "the caller id it presents"),
    ("remote", "string?", "the address of the caller"),
    ("user_agent", "string", "the User-Agent of the caller"),
];
const AUTH_REQUEST: Fields = &[
    ("user", "string", "the user name of the login"),
    ("remote", "string", "the address it comes from"),
    ("user_agent", "string?", "its User-Agent"),
];

/// The schema called `name`.
pub fn named(name: &str) -> Option<Value> {
    let title = NAMES.iter().find(|(n, _)| *n == name)?.1;
    Some(match name {
        "config" => schema_for!(File).to_value(),
        "dialplan" => schema_for!(Dialplan).to_value(),
        "route-answer" => schema_for!(RouteAnswer).to_value(),
        "auth-answer" => schema_for!(Answered).to_value(),
        "event" => titled(title, event()),
        "cdr" => titled(title, object(CDR)),
        "auth-request" => titled(title, envelope("auth.user", title, object(AUTH_REQUEST))),
        _ => {
            let mut data = object(ROUTE_REQUEST);
            data["properties"]["from"] = object(CALLER);
            titled(title, envelope("call.route", title, data))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::openapi::ROUTES;
    use super::*;

    #[test]
    fn every_kind_of_event_has_its_fields_and_every_schema_is_one() {
        let described: Vec<&str> = EVENTS.iter().map(|e| e.0).chain(["call.ended"]).collect();
        assert!(
            EventKind::ALL.iter().all(|kind| described.contains(&kind.as_str()))
                && described.len() == EventKind::ALL.len()
        );
        for (name, _) in NAMES {
            let schema = named(name).expect("a schema");
            assert!(jsonschema::meta::is_valid(&schema), "{name}: {schema}");
        }
        assert_eq!(named("nothing"), None);
    }

    #[test]
    fn every_operation_has_its_answers_and_every_type_is_known() {
        let operations: Vec<_> = ROUTES.iter().map(|(method, path, ..)| (*method, *path)).collect();
        let answered: Vec<_> =
            responses::ANSWERS.iter().map(|(method, path, _)| (*method, *path)).collect();
        assert_eq!(answered, operations, "one table for each route, in its order");
        let names: std::collections::BTreeSet<_> =
            ROUTES.iter().map(|(_, _, name, ..)| name).collect();
        assert_eq!(names.len(), ROUTES.len(), "no two have one name");
        let shapes = responses::SHAPES.iter().chain(config::SHAPES);
        let words = shapes.flat_map(|(_, fields)| fields.iter().map(|f| f.1));
        let content = responses::ANSWERS.iter().flat_map(|(.., a)| a.content);
        for word in words.chain(content.filter_map(|(_, shape)| *shape)) {
            let schema = kind(word);
            assert!(jsonschema::meta::is_valid(&schema), "{word}: {schema}");
        }
    }
}
