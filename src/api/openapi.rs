//! The API described by itself: OpenAPI 3.1, from one table of routes.

use super::events::KINDS;
use axum::Json;
use serde_json::{Map, Value, json};

/// A route: method, path, summary, scope, and its query parameters.
pub(crate) type Route = (
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
        "List active and remembered calls",
        "read",
        &[
            ("state", "live, ended or all"),
            ("user", "only calls of this user"),
            ("trunk", "only calls over this trunk"),
            ("number", "only calls whose number contains this"),
            ("limit", "at most this many; default 100"),
        ],
    ),
    (
        "post",
        "/calls",
        "Connect two parties: ring `from` first, then call `to` by its dialplan; an Idempotency-Key is valid for a day",
        "write",
        &[],
    ),
    ("post", "/calls/{id}/dtmf", "Send digits to one side", "write", &[]),
    (
        "post",
        "/calls/{id}/transfer",
        "Connect one side with another number; the other side is released when it answers",
        "write",
        &[],
    ),
    ("post", "/calls/{id}/hold", "Hold the call; both sides hear a tune", "write", &[]),
    ("delete", "/calls/{id}/hold", "Resume a held call", "write", &[]),
    (
        "get",
        "/calls/{id}",
        "Show one call: record, figures, verdict; the id may be shortened, `last` is the newest call",
        "read",
        &[],
    ),
    (
        "delete",
        "/calls/{id}",
        "End a call",
        "write",
        &[
            ("code", "the SIP status for a caller whose call is not answered yet"),
            ("reason", "a sentence for the Reason header"),
        ],
    ),
    (
        "get",
        "/calls/{id}/ladder",
        "Show the messages of both legs, the media and the events",
        "read",
        &[
            ("format", "json, text, svg or mermaid; default: by Accept"),
            ("full", "true: whole messages, for text"),
        ],
    ),
    ("get", "/calls/{id}/quality", "Show packets, loss and jitter of each second", "read", &[]),
    ("get", "/calls/{id}/pcap", "Download the messages as a capture file", "read", &[]),
    (
        "post",
        "/credentials",
        "Make short-lived credentials for a browser: {\"user\", \"ttl\", \"context\"}",
        "write",
        &[],
    ),
    ("get", "/registrations", "List registered users and their addresses", "read", &[]),
    ("delete", "/registrations/{user}", "Close the connections of a user", "admin", &[]),
    ("get", "/trunks", "List trunks: health, success rates, last failure", "read", &[]),
    ("get", "/trunks/{name}", "Show one trunk", "read", &[]),
    ("post", "/trunks/{name}/probe", "Send OPTIONS and wait for the answer", "admin", &[]),
    ("post", "/trunks/{name}/enable", "Use a disabled trunk again", "admin", &[]),
    ("post", "/trunks/{name}/disable", "Stop sending calls to a trunk", "admin", &[]),
    ("get", "/status", "Show counts and the state of the gateway", "read", &[]),
    ("post", "/drain", "Refuse new calls; active ones continue", "admin", &[]),
    ("delete", "/drain", "Accept new calls again", "admin", &[]),
    (
        "post",
        "/reload",
        "Read the configuration again; returns what changed and what needs a restart",
        "admin",
        &[],
    ),
    ("get", "/config", "Show the active configuration, without secrets", "admin", &[]),
    (
        "get",
        "/config/dialplans",
        "Show the dialplan files with the findings of the checker; secrets are masked",
        "admin",
        &[],
    ),
    (
        "post",
        "/config/check",
        "Check the configuration and the dialplans on disk, without using them",
        "admin",
        &[],
    ),
    ("get", "/dialplan", "List contexts and their routes", "read", &[]),
    (
        "post",
        "/dialplan/test",
        "Show which route a number takes, and why: {\"number\", \"as\" or \"context\"}",
        "read",
        &[],
    ),
    ("get", "/errors", "List the codes, with likely cause and fix", "read", &[]),
    ("get", "/errors/{code}", "Show one code", "read", &[]),
    (
        "get",
        "/cdr",
        "List call records, the newest first",
        "read",
        &[
            ("from", "from this time on, RFC 3339 or its beginning"),
            ("to", "before this time"),
            ("number", "only records whose number contains this"),
            ("user", "only records of calls this user made or answered"),
            ("outcome", "success, busy, no_answer, cancelled, refused or server_error"),
            ("limit", "at most this many"),
        ],
    ),
    ("get", "/webhooks", "List the newest deliveries of the webhook for events", "read", &[]),
    ("post", "/webhooks/{id}/resend", "Send an event again", "write", &[]),
    (
        "get",
        "/events",
        "Stream events (server-sent events); honours Last-Event-ID",
        "read",
        &[
            ("types", "only these kinds, separated by commas; call.* is every kind about calls"),
            ("call", "only events of this call"),
        ],
    ),
    ("get", "/schemas", "List the names of the JSON Schemas", "read", &[]),
    (
        "get",
        "/schemas/{name}",
        "Show the JSON Schema of the configuration, dialplans, events, records or webhooks",
        "read",
        &[],
    ),
    ("get", "/openapi.json", "Show this document", "read", &[]),
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
pub(crate) async fn document() -> Json<Value> {
    Json(generate())
}
