//! JSON Schemas of all we read and write: configuration and dialplans from their own shapes, events
//! and records from the tables here, which the tests hold against what is really said.

use super::events::KINDS;
use crate::config::schema::{Dialplan, File, RouteAnswer};
use crate::gateway::logins::Answered;
use schemars::schema_for;
use serde_json::{Map, Value, json};

/// Every schema there is, and what it is of.
pub const NAMES: [(&str, &str); 8] = [
    ("config", "webtrunk.toml"),
    ("dialplan", "a file of dialplans/"),
    ("event", "an event, as the stream and the webhook tell it"),
    ("cdr", "a call's record, as in the file and in call.ended"),
    ("route-request", "what a route's webhook is asked"),
    ("route-answer", "what it answers"),
    ("auth-request", "what the webhook of [auth] is asked"),
    ("auth-answer", "what it answers"),
];

/// Fields: name, type, what it is. A type ends with "?" where the value may be null, "-" where it
/// may be missing.
type Fields = &'static [(&'static str, &'static str, &'static str)];

const FROM: Fields = &[
    ("user", "string", "name of the user, or trunk:NAME"),
    ("shown", "string", "the number it showed"),
    ("ua", "string", "User-Agent"),
];
const TO: Fields =
    &[("dialled", "string", "as it was dialled"), ("number", "string", "normalised")];
const ATTEMPT: Fields = &[
    ("target", "string", "trunk:NAME or user:NAME"),
    ("code", "integer", "final status; 0: given up"),
    ("ms", "integer", "how long it took"),
];
const VERDICT: Fields = &[
    ("code", "string?", "WT-nnnn; null: nothing was wrong"),
    ("side", "string", "whose side it was"),
    ("sentence", "string", "what happened"),
    ("title", "string?", "the code's words"),
    ("likely", "string?", "the likely cause"),
    ("fix", "string?", "what to do"),
];
const LEG: Fields = &[
    ("leg", "string", "a: the caller's, b: the other"),
    ("sip_call_id", "string?", "Call-ID of its dialog"),
    ("codec", "string?", "what was spoken"),
    ("peer_formats", "strings", "what its peer can do"),
    ("packets_in", "integer?", "RTP packets from it"),
    ("packets_out", "integer?", "to it"),
    ("packets_lost", "integer?", "lost on the way to us"),
    ("jitter_ms", "integer?", "of what came (RFC 3550)"),
    ("rtt_ms", "integer?", "round trip"),
    ("loss_reported", "number?", "percent, of what we sent, as its RTCP says"),
    ("mos_in_estimated", "number?", "of what came: an estimate (G.107)"),
    ("mos_out_estimated", "number?", "of what went: an estimate"),
    ("srtp", "string?", "protection profile"),
    ("ice_ms", "integer?", "until ICE was connected"),
    ("dtls_ms", "integer?", "that DTLS took"),
];
const CDR: Fields = &[
    ("v", "integer", "version of this shape: 1"),
    ("call", "string", "the call's id"),
    ("start", "time", "the INVITE came"),
    ("ring", "time?", "it rang"),
    ("answer", "time?", "it was answered"),
    ("end", "time", "it ended"),
    ("duration_s", "number", "from start to end"),
    ("billable_s", "number", "from answer to end, milliseconds kept"),
    ("setup_ms", "integer?", "start to answer"),
    ("pdd_ms", "integer?", "start to ringing"),
    ("direction", "string", "inbound: from a trunk; outbound: from a user"),
    ("context", "string", "dialplan"),
    ("route", "string?", "the route that took it"),
    ("outcome", "string", "success, busy, no_answer, cancelled, refused, server_error"),
    ("sip_code", "integer", "the caller's final status"),
    ("why", "string", "what ended it"),
    ("code", "string?", "WT-nnnn of that"),
    ("verdict", "VERDICT?", "the one sentence"),
    ("hangup_by", "string?", "caller, callee, webtrunk or media"),
    ("answered_by", "string?", "trunk:NAME or user:NAME"),
    ("from", "FROM", "who called"),
    ("to", "TO", "who was called"),
    ("attempts", "ATTEMPT*", "what was tried, in order"),
    ("transfers", "strings", "where it was handed to"),
    ("tags", "tags", "of the route, the token, the webhook"),
    ("media_problem", "string?", "media that could not begin"),
    ("legs", "LEG*", "both sides"),
];

/// What each kind of event tells; `call.ended` tells the record.
const EVENTS: &[(&str, Fields)] = &[
    (
        "call.started",
        &[
            ("call", "string", "its id"),
            ("from", "string", "user or trunk"),
            ("to", "string", "number"),
            ("route", "string", "the route"),
        ],
    ),
    (
        "call.refused",
        &[
            ("call", "string", "its id"),
            ("from", "string", "user or trunk"),
            ("to", "string", "Request-URI"),
            ("sip_code", "integer", "status"),
            ("code", "string", "WT-nnnn"),
            ("why", "string", "sentence"),
        ],
    ),
    ("call.ringing", &[("call", "string", "its id")]),
    (
        "call.answered",
        &[
            ("call", "string", "its id"),
            ("by", "string", "who"),
            ("after_ms", "integer", "since the INVITE"),
            ("codecs", "strings", "both legs'"),
        ],
    ),
    (
        "call.quality",
        &[
            ("call", "string", "its id"),
            ("leg", "string", "a or b"),
            ("codec", "string?", "spoken"),
            ("mos_estimated", "number?", "an estimate (G.107)"),
            ("packets_in", "integer", "so far"),
            ("packets_lost", "integer", "so far"),
            ("packets_out", "integer", "so far"),
            ("jitter_ms", "integer", "now"),
            ("rtt_ms", "integer?", "now"),
            ("sounding", "integer", "packets that held more than silence, so far"),
        ],
    ),
    (
        "call.warning",
        &[
            ("call", "string?", "its id"),
            ("code", "string", "WT-nnnn"),
            ("text", "string", "sentence"),
        ],
    ),
    (
        "registration.added",
        &[
            ("user", "string", "who"),
            ("flows", "integer", "its connections"),
            ("user_agent", "string", "with what"),
        ],
    ),
    ("registration.removed", &[("user", "string", "who"), ("why", "string", "sentence")]),
    (
        "login.refused",
        &[
            ("user", "string", "the name that was tried"),
            ("remote", "string", "from where"),
            ("code", "string", "WT-nnnn"),
            ("why", "string", "sentence"),
        ],
    ),
    (
        "trunk.up",
        &[("trunk", "string", "which"), ("by", "string-", "operator: switched on by hand")],
    ),
    (
        "trunk.down",
        &[
            ("trunk", "string", "which"),
            ("why", "string-", "sentence"),
            ("code", "string-", "WT-nnnn"),
            ("by", "string-", "operator: switched off by hand"),
        ],
    ),
    ("config.reloaded", &[("changes", "string", "what changed")]),
    ("drain.started", &[("calls", "integer", "that go on")]),
    (
        "drain.finished",
        &[
            ("calls", "integer-", "that were left"),
            ("cancelled", "boolean-", "it was ended by hand"),
        ],
    ),
];

fn kind(word: &str) -> Value {
    let named = |name: &str| match name {
        "FROM" => object(FROM),
        "TO" => object(TO),
        "VERDICT" => object(VERDICT),
        "ATTEMPT" => object(ATTEMPT),
        "LEG" => object(LEG),
        "strings" => json!({ "type": "array", "items": { "type": "string" } }),
        "tags" => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        "time" => json!({ "type": "string", "format": "date-time" }),
        plain => json!({ "type": plain }),
    };
    match (word.strip_suffix('*'), word.strip_suffix('?')) {
        (Some(item), _) => json!({ "type": "array", "items": named(item) }),
        (None, Some(item)) => json!({ "anyOf": [named(item), { "type": "null" }] }),
        (None, None) => named(word.trim_end_matches('-')),
    }
}

fn object(fields: Fields) -> Value {
    let described = |(name, word, what): &(&str, &str, &str)| {
        let mut value = kind(word);
        value["description"] = json!(what);
        ((*name).to_owned(), value)
    };
    let properties: Map<String, Value> = fields.iter().map(described).collect();
    let required: Vec<&str> = fields.iter().filter(|f| !f.1.ends_with('-')).map(|f| f.0).collect();
    json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties })
}

fn titled(title: &str, mut schema: Value) -> Value {
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!(title);
    schema
}

/// `{ type, timestamp, data }`.
fn envelope(name: &str, when: &str, data: Value) -> Value {
    json!({
        "type": "object", "description": when, "additionalProperties": false, "required": ["type", "timestamp", "data"],
        "properties": { "type": { "const": name }, "timestamp": { "type": "string", "format": "date-time" }, "data": data },
    })
}

fn event() -> Value {
    let data = |name: &str| {
        EVENTS
            .iter()
            .find(|(n, _)| *n == name)
            .map_or_else(|| object(CDR), |(_, fields)| object(fields))
    };
    json!({ "oneOf": KINDS.iter().map(|(name, when)| envelope(name, when, data(name))).collect::<Vec<_>>() })
}

const CALLER: Fields = &[
    ("user", "string-", "a user's name"),
    ("trunk", "string-", "a trunk's name"),
    ("claims", "strings-", "the user's claims"),
    ("tags", "tags-", "the user's tags"),
];
const ROUTE_REQUEST: Fields = &[
    ("call", "string", "the call's id"),
    ("context", "string", "dialplan"),
    ("number", "string", "normalised"),
    ("dialled", "string", "as it was dialled"),
    ("from", "object", "who calls"),
    ("shown", "string", "the number it shows"),
    ("remote", "string?", "its address"),
    ("user_agent", "string", "with what it calls"),
];
const AUTH_REQUEST: Fields = &[
    ("user", "string", "who wants to log in"),
    ("remote", "string", "from which address"),
    ("user_agent", "string?", "with what"),
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
    use super::*;

    #[test]
    fn every_kind_of_event_has_its_fields_and_every_schema_is_one() {
        let described: Vec<&str> = EVENTS.iter().map(|e| e.0).chain(["call.ended"]).collect();
        assert!(
            KINDS.iter().all(|(kind, _)| described.contains(kind))
                && described.len() == KINDS.len()
        );
        for (name, _) in NAMES {
            let schema = named(name).expect("a schema");
            assert!(jsonschema::meta::is_valid(&schema), "{name}: {schema}");
        }
        assert_eq!(named("nothing"), None);
    }
}
