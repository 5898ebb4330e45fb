//! The API described by itself: OpenAPI 3.1, from one table of routes.

use super::events::KINDS;
use axum::Json;
use serde_json::{Map, Value, json};

/// A route: method, path, summary, scope, and its query parameters.
pub type Route = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// Every route there is; a test asks each of them.
pub const ROUTES: &[Route] = &[
    (
        "get",
        "/calls",
        "Calls that go on and calls that are remembered",
        "read",
        &[
            ("state", "live, ended or all"),
            ("user", "a user's name"),
            ("trunk", "a trunk's name"),
            ("number", "part of the number"),
            ("limit", "at most this many, 100 if left out"),
        ],
    ),
    (
        "post",
        "/calls",
        "Connect two parties: `from` is rung first, then `to` is called by its dialplan; Idempotency-Key is honoured for a day",
        "write",
        &[],
    ),
    ("post", "/calls/{id}/dtmf", "Press digits towards one side", "write", &[]),
    (
        "post",
        "/calls/{id}/transfer",
        "Connect one side with another number; the other is let go once it answers",
        "write",
        &[],
    ),
    ("post", "/calls/{id}/hold", "Part the two for a while; both hear a tune", "write", &[]),
    ("delete", "/calls/{id}/hold", "Join them again", "write", &[]),
    (
        "get",
        "/calls/{id}",
        "One call: its record, figures and verdict; id may be shortened, `last` is the newest",
        "read",
        &[],
    ),
    (
        "delete",
        "/calls/{id}",
        "End a call",
        "write",
        &[
            ("code", "the status a caller who still waits is refused with"),
            ("reason", "a sentence for the Reason header"),
        ],
    ),
    (
        "get",
        "/calls/{id}/ladder",
        "What was said, both legs",
        "read",
        &[
            ("format", "json, text, svg or mermaid; else by Accept"),
            ("full", "true: whole messages in the text"),
        ],
    ),
    ("get", "/calls/{id}/quality", "Packets, loss and jitter second by second", "read", &[]),
    ("get", "/calls/{id}/pcap", "The messages as a capture file", "read", &[]),
    (
        "post",
        "/credentials",
        "Credentials for a browser, for a while: {\"user\", \"ttl\", \"context\"}",
        "write",
        &[],
    ),
    ("get", "/registrations", "Who is registered, from where", "read", &[]),
    ("delete", "/registrations/{user}", "Close a user's connections", "admin", &[]),
    ("get", "/trunks", "Trunks, their health and how their calls fare", "read", &[]),
    ("get", "/trunks/{name}", "One trunk", "read", &[]),
    ("post", "/trunks/{name}/probe", "Send OPTIONS and wait for the answer", "admin", &[]),
    ("post", "/trunks/{name}/enable", "Give it calls again", "admin", &[]),
    ("post", "/trunks/{name}/disable", "Give it no calls", "admin", &[]),
    ("get", "/status", "What is alive", "read", &[]),
    ("post", "/drain", "Take no new calls", "admin", &[]),
    ("delete", "/drain", "Take new calls again", "admin", &[]),
    (
        "post",
        "/reload",
        "Read the configuration again; says what changed and what needs a restart",
        "admin",
        &[],
    ),
    ("get", "/config", "The configuration in force, without secrets", "admin", &[]),
    (
        "get",
        "/config/dialplans",
        "The dialplans' files as they are now, with the checker's marks; secrets are masked",
        "admin",
        &[],
    ),
    (
        "post",
        "/config/check",
        "Check the configuration and the dialplans as they are now; nothing is changed",
        "admin",
        &[],
    ),
    ("get", "/dialplan", "Contexts and their routes", "read", &[]),
    (
        "post",
        "/dialplan/test",
        "Which route a number takes and why: {\"number\", \"as\" or \"context\"}",
        "read",
        &[],
    ),
    ("get", "/errors", "Every code, its likely cause and its fix", "read", &[]),
    ("get", "/errors/{code}", "One code", "read", &[]),
    (
        "get",
        "/cdr",
        "Call records of the file, the newest first",
        "read",
        &[
            ("from", "RFC 3339 or its beginning"),
            ("to", "likewise, not included"),
            ("number", "part of the number"),
            ("user", "who called or answered"),
            ("outcome", "success, busy, no_answer, cancelled, refused, server_error"),
            ("limit", "at most this many"),
        ],
    ),
    ("get", "/webhooks", "The newest deliveries of the events' webhook", "read", &[]),
    ("post", "/webhooks/{id}/resend", "Tell an event once more", "write", &[]),
    (
        "get",
        "/events",
        "Server-sent events; Last-Event-ID is honoured",
        "read",
        &[
            ("types", "kinds, separated by commas; call.* is all of calls"),
            ("call", "of one call only"),
        ],
    ),
    ("get", "/schemas", "The names of all JSON Schemas", "read", &[]),
    (
        "get",
        "/schemas/{name}",
        "The JSON Schema of the configuration, of dialplans, events, records, webhooks",
        "read",
        &[],
    ),
    ("get", "/openapi.json", "This document", "read", &[]),
];

/// The document.
pub fn generate() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for (method, path, summary, scope, query) in ROUTES {
        let in_path = path.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}'));
        let parameters: Vec<Value> = in_path.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .chain(query.iter().map(|(name, what)| json!({ "name": name, "in": "query", "description": what, "schema": { "type": "string" } }))).collect();
        let kind = match *path {
            "/events" => "text/event-stream",
            "/calls/{id}/pcap" => "application/vnd.tcpdump.pcap",
            _ => "application/json",
        };
        let mut operation = json!({
            "summary": summary, "parameters": parameters, "security": [{ "bearer": [scope] }],
            "responses": {
                "200": { "description": "fine", "content": { kind: {} } },
                "default": { "description": "why not", "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } } },
            },
        });
        if *path == "/events" {
            let kinds: Vec<String> =
                KINDS.iter().map(|(kind, when)| format!("{kind}: {when}")).collect();
            operation["description"] = json!(format!(
                "Each is {{type, timestamp, data}}, as in a webhook. {}",
                kinds.join("; ")
            ));
        }
        let text = json!({ "type": "string" });
        let body = match *path {
            "/dialplan/test" => {
                Some((["number"], json!({ "number": text, "as": text, "context": text })))
            }
            "/calls" if *method == "post" => Some((
                ["from"],
                json!({ "from": text, "to": text, "context": text, "tags": { "type": "object", "additionalProperties": text } }),
            )),
            "/calls/{id}/dtmf" => Some((
                ["digits"],
                json!({ "digits": text, "side": { "enum": ["caller", "callee"] } }),
            )),
            "/calls/{id}/transfer" => {
                Some((["to"], json!({ "to": text, "side": { "enum": ["caller", "callee"] } })))
            }
            "/credentials" => {
                Some((["user"], json!({ "user": text, "ttl": text, "context": text })))
            }
            _ => None,
        };
        if let Some((required, properties)) = body {
            operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": { "type": "object", "required": required, "properties": properties } } } });
        }
        let entry = paths.entry((*path).to_owned()).or_insert_with(|| json!({}));
        entry[*method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "webtrunk", "version": env!("CARGO_PKG_VERSION"), "description": "Scopes: read looks, write ends calls, admin steers. The control socket needs no token.", "license": { "name": "MIT OR Apache-2.0" } },
        "servers": [{ "url": "/api/v1" }],
        "paths": paths,
        "components": {
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
            "schemas": { "Problem": { "type": "object", "description": "RFC 9457", "properties": {
                "type": { "type": "string" }, "title": { "type": "string" }, "status": { "type": "integer" }, "detail": { "type": "string" },
                "code": { "type": ["string", "null"], "description": "WT-nnnn" }, "fix": { "type": ["string", "null"] },
            } } },
        },
    })
}

/// GET /openapi.json
pub async fn document() -> Json<Value> {
    Json(generate())
}
