//! The API's description: OpenAPI 3.1, from one table of routes.

use super::access::cookie_name;
use super::across::AskedFor;
use super::schemas::{kind, responses};
use crate::event::EventKind;
use axum::Json;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

/// A route: method, path, name for clients, summary, scope, and its query parameters.
pub(crate) type ApiRoute =
    (&'static str, &'static str, &'static str, &'static str, &'static str, Parameters);

/// Query parameters: name, and what it is.
type Parameters = &'static [(&'static str, &'static str)];

const CALLS: Parameters = &LISTED;
/// Those of calls without `state`.
const RECORDS: Parameters = LISTED.split_at(1).1;

/// What lists of calls and of records are asked for by.
const LISTED: [(&str, &str); 13] = [
    ("state", "live, ended or all"),
    ("since", "began at this time or later: 2h ago, 09:30 (UTC), RFC 3339 or its beginning"),
    ("until", "began before this time"),
    (
        "number",
        "part of a number of the caller or the callee; spaces, -, /, . and brackets do not matter",
    ),
    ("name", "part of the caller's or a user's name"),
    ("user", "this user called, was tried or answered"),
    ("trunk", "it came from this trunk, or tried it"),
    ("outcome", "success, busy, no_answer, cancelled, refused or server_error"),
    ("code", "WT-nnnn"),
    ("mos_below", "its worst estimated opinion score is below this, 1 to 5"),
    (
        "search",
        "part of a number, name, user, trunk or code, or the beginning of the id; or several \
            words, each of which is",
    ),
    ("limit", "at most this many on a page, 1 to 1000; default 100"),
    (
        "cursor",
        "the next page: follow the Link header (rel=next) of the one before; a page may have \
            fewer than the limit",
    ),
];

/// Every route there is; a test asks each of them.
pub const ROUTES: &[ApiRoute] = &[
    ("get", "/calls", "listCalls", "List active and remembered calls", "read", CALLS),
    (
        "post",
        "/calls",
        "connectCall",
        "Connect two parties: ring `from` first, then call `to` by its dialplan; an \
            Idempotency-Key is valid for a day",
        "write",
        &[],
    ),
    ("post", "/calls/{id}/dtmf", "sendDigits", "Send digits to one side", "write", &[]),
    (
        "post",
        "/calls/{id}/transfer",
        "transferCall",
        "Connect one side with another number; the other side is released when it answers",
        "write",
        &[],
    ),
    ("post", "/calls/{id}/hold", "holdCall", "Hold the call; both sides hear a tune", "write", &[]),
    ("delete", "/calls/{id}/hold", "resumeCall", "Resume a held call", "write", &[]),
    (
        "get",
        "/calls/{id}",
        "getCall",
        "Show one call: record, figures, verdict; the id may be shortened, `last` is the newest \
            call",
        "read",
        &[],
    ),
    (
        "delete",
        "/calls/{id}",
        "endCall",
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
        "getLadder",
        "Show the messages of both legs, the media and the events",
        "read",
        &[
            ("format", "json, text, svg or mermaid; default: by Accept"),
            ("full", "true: whole messages, for text"),
        ],
    ),
    (
        "get",
        "/calls/{id}/quality",
        "getQuality",
        "Show packets, loss and jitter of each second",
        "read",
        &[],
    ),
    (
        "get",
        "/calls/{id}/pcap",
        "getCapture",
        "Download the messages as a capture file",
        "read",
        &[],
    ),
    ("get", "/session", "getSession", "Show who is asking, and what they may do", "read", &[]),
    (
        "post",
        "/session",
        "logIn",
        "Log in by user name and password: a session, kept by a cookie, for the gateway's own page",
        "",
        &[],
    ),
    ("delete", "/session", "logOut", "Log out", "read", &[]),
    (
        "post",
        "/credentials",
        "createCredentials",
        "Make short-lived credentials for a browser: {\"user\", \"ttl\", \"context\"}",
        "write",
        &[],
    ),
    (
        "get",
        "/registrations",
        "listRegistrations",
        "List registered users and their addresses",
        "read",
        &[],
    ),
    (
        "get",
        "/logins",
        "listLogins",
        "List registrations that came and went, and logins that were refused: the newest first",
        "read",
        &[("user", "of this user"), ("limit", "at most this many, 1 to 2500; default 100")],
    ),
    (
        "delete",
        "/registrations/{user}",
        "disconnectUser",
        "Close the connections of a user",
        "admin",
        &[],
    ),
    (
        "get",
        "/trunks",
        "listTrunks",
        "List trunks: health, success rates, last failure",
        "read",
        &[],
    ),
    ("get", "/trunks/{name}", "getTrunk", "Show one trunk", "read", &[]),
    (
        "post",
        "/trunks/{name}/probe",
        "probeTrunk",
        "Send OPTIONS and wait for the answer",
        "admin",
        &[],
    ),
    ("post", "/trunks/{name}/enable", "enableTrunk", "Use a disabled trunk again", "admin", &[]),
    (
        "post",
        "/trunks/{name}/disable",
        "disableTrunk",
        "Stop sending calls to a trunk",
        "admin",
        &[],
    ),
    (
        "get",
        "/nodes",
        "listNodes",
        "List the nodes of the cluster; empty if there is none",
        "read",
        &[],
    ),
    ("get", "/status", "getStatus", "Show counts and the state of the gateway", "read", &[]),
    ("post", "/drain", "drain", "Refuse new calls; active ones continue", "admin", &[]),
    ("delete", "/drain", "cancelDrain", "Accept new calls again", "admin", &[]),
    (
        "post",
        "/reload",
        "reload",
        "Read the configuration again; returns what changed and what needs a restart",
        "admin",
        &[],
    ),
    ("get", "/config", "getConfig", "Show the active configuration, without secrets", "admin", &[]),
    (
        "get",
        "/config/sources",
        "getConfigSources",
        "Show where settings come from, what a reload would change, ports and certificates",
        "admin",
        &[],
    ),
    (
        "get",
        "/config/dialplans",
        "listDialplanFiles",
        "Show the dialplan files with the findings of the checker; secrets are masked",
        "admin",
        &[],
    ),
    (
        "post",
        "/config/check",
        "checkConfig",
        "Check the configuration and the dialplans on disk, without using them",
        "admin",
        &[],
    ),
    ("get", "/dialplan", "listRoutes", "List contexts and their routes", "read", &[]),
    (
        "post",
        "/dialplan/test",
        "testRoute",
        "Show which route a number takes, and why: {\"number\", \"as\" or \"context\"}",
        "read",
        &[],
    ),
    ("get", "/errors", "listErrors", "List the codes, with likely cause and fix", "read", &[]),
    ("get", "/errors/{code}", "getError", "Show one code", "read", &[]),
    ("get", "/cdr", "listRecords", "List call records, the newest first", "read", RECORDS),
    (
        "get",
        "/webhooks",
        "listDeliveries",
        "List the newest deliveries of the webhook for events",
        "read",
        &[],
    ),
    ("post", "/webhooks/{id}/resend", "resendEvent", "Send an event again", "write", &[]),
    (
        "get",
        "/events",
        "streamEvents",
        "Stream events (server-sent events); honours Last-Event-ID",
        "read",
        &[
            ("types", "only these kinds, separated by commas; call.* is every kind about calls"),
            ("call", "only events of this call"),
        ],
    ),
    ("get", "/schemas", "listSchemas", "List the names of the JSON Schemas", "read", &[]),
    (
        "get",
        "/schemas/{name}",
        "getSchema",
        "Show the JSON Schema of the configuration, dialplans, events, records or webhooks",
        "read",
        &[],
    ),
    ("get", "/openapi.json", "getOpenApi", "Show this document", "read", &[]),
];

/// The name of a shape as a component: `CallDetail` of `CALL_DETAIL`.
fn component(shape: &str) -> String {
    let word = |w: &str| {
        let (first, rest) = w.split_at(w.len().min(1));
        first.to_owned() + &rest.to_lowercase()
    };
    shape.split('_').map(word).collect()
}

/// What an answer holds: a component, an array of it, or anything a type may be.
fn held(word: &str) -> Value {
    let named =
        |shape: &str| json!({ "$ref": format!("#/components/schemas/{}", component(shape)) });
    match word.strip_suffix('*') {
        Some(shape) => json!({ "type": "array", "items": named(shape) }),
        None if word.chars().all(|c| c.is_ascii_uppercase() || c == '_') => named(word),
        None => kind(word),
    }
}

/// What is no JSON: text, or the bytes of a file.
fn untyped(media: &str) -> Value {
    match media.starts_with("text/") || media.ends_with("+xml") {
        true => json!({ "type": "string" }),
        false => json!({ "type": "string", "format": "binary" }),
    }
}

/// What a query parameter may be: most are words of the caller's.
fn in_query(path: &str, name: &str) -> Value {
    match name {
        "limit" if path == "/logins" => json!({ "type": "integer", "minimum": 1, "maximum": 2500 }),
        "limit" => json!({ "type": "integer", "minimum": 1, "maximum": 1000 }),
        "mos_below" => json!({ "type": "number", "minimum": 1, "maximum": 5 }),
        "state" => json!({ "type": "string", "enum": ["live", "ended", "all"] }),
        "format" => json!({ "type": "string", "enum": ["json", "text", "svg", "mermaid"] }),
        "full" => json!({ "type": "boolean" }),
        "code" if path == "/calls/{id}" => json!({ "type": "integer" }),
        _ => json!({ "type": "string" }),
    }
}

/// The header that an operation reads besides those of every request.
fn in_header(method: &str, path: &str) -> Option<(&'static str, &'static str)> {
    match (method, path) {
        ("post", "/calls") => Some((
            "Idempotency-Key",
            "a word of your own for this call: asked again within a day, it is the same call",
        )),
        ("get", "/events") => {
            Some(("Last-Event-ID", "the id of the last event you had: those after it come first"))
        }
        _ => None,
    }
}

fn responses(method: &str, path: &str, paged: bool) -> Value {
    let schema = json!({ "$ref": "#/components/schemas/Problem" });
    let problem = json!({ "application/problem+json": { "schema": schema } });
    let mut all = Map::new();
    let Some(answers) = responses::of(method, path) else { return Value::Object(all) };
    let content: Map<String, Value> = answers
        .content
        .iter()
        .map(|(media, word)| {
            let schema = word.map_or_else(|| untyped(media), held);
            ((*media).to_owned(), json!({ "schema": schema }))
        })
        .collect();
    let mut fine = json!({ "description": "done", "content": content });
    if paged {
        fine["headers"] = json!({ "Link": {
            "description": "<?…>; rel=\"next\" leads to the next page; the last has none (RFC 8288)",
            "schema": { "type": "string" }
        } });
    }
    all.insert(answers.status.to_string(), fine);
    let of_nodes: &[u16] = match super::across::asked_for(method, path) {
        Some(_) => &responses::OF_ANOTHER_NODE,
        None => &[],
    };
    // A body that is too long may as well be late.
    let late: &[u16] = if answers.refusals.contains(&413) { &[408] } else { &[] };
    let refusals = [&responses::ALWAYS, answers.refusals, of_nodes, late].concat();
    for status in &refusals {
        let name = StatusCode::from_u16(*status).ok().and_then(|s| s.canonical_reason());
        let description = name.unwrap_or("refused, with the status of SIP");
        all.insert(status.to_string(), json!({ "description": description, "content": problem }));
    }
    Value::Object(all)
}

/// The body of a request: what must be in it, and its properties.
fn request(method: &str, path: &str) -> Option<Value> {
    let text = json!({ "type": "string" });
    let side = json!({ "type": "string", "enum": ["caller", "callee"] });
    let (required, properties): (&[&str], Value) = match path {
        "/dialplan/test" => (&["number"], json!({ "number": text, "as": text, "context": text })),
        "/calls" if method == "post" => (
            &["from"],
            json!({
                "from": text,
                "to": text,
                "context": text,
                "tags": { "type": "object", "additionalProperties": text }
            }),
        ),
        "/calls/{id}/dtmf" => (&["digits"], json!({ "digits": text, "side": side })),
        "/calls/{id}/transfer" => (&["to"], json!({ "to": text, "side": side })),
        "/session" if method == "post" => {
            (&["user", "password"], json!({ "user": text, "password": text }))
        }
        "/credentials" => (&["user"], json!({ "user": text, "ttl": text, "context": text })),
        _ => return None,
    };
    let schema = json!({ "type": "object", "required": required, "properties": properties });
    Some(json!({ "required": true, "content": { "application/json": { "schema": schema } } }))
}

/// The query parameter that names a node of the cluster, for what may be asked of another.
pub fn node_query(method: &str, path: &str) -> Option<(&'static str, &'static str)> {
    let what = match super::across::asked_for(method, path)? {
        AskedFor::List => "of this node of the cluster, or of all; default: the one that is asked",
        AskedFor::OfOne => "at this node of the cluster; default: the one that is asked",
    };
    Some(("node", what))
}

fn operation(&(method, path, name, summary, scope, query): &ApiRoute) -> Value {
    let text = json!({ "type": "string" });
    let in_path = path.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}'));
    let in_path =
        in_path.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": text }));
    let node = node_query(method, path);
    let asked = query.iter().copied().chain(node);
    let asked = asked.map(|(name, what)| ("query", name, what, in_query(path, name)));
    let header = in_header(method, path).map(|(name, what)| ("header", name, what, text.clone()));
    let given = asked.chain(header).map(|(place, name, what, schema)| {
        json!({ "name": name, "in": place, "description": what, "schema": schema })
    });
    let security = match scope {
        "" => json!([]),
        scope => json!([{ "bearer": [scope] }, { "session": [scope] }]),
    };
    let paged = query.iter().any(|(name, _)| *name == "cursor");
    let mut operation = json!({
        "operationId": name,
        "tags": [path.split('/').nth(1)],
        "summary": summary,
        "parameters": in_path.chain(given).collect::<Vec<_>>(),
        "security": security,
        "responses": responses(method, path, paged),
    });
    if path == "/events" {
        let kinds: Vec<String> =
            EventKind::ALL.iter().map(|k| format!("{}: {}", k.as_str(), k.when())).collect();
        operation["description"] = json!(format!(
            "Each is {{type, timestamp, data}}, as in a webhook. {}",
            kinds.join("; ")
        ));
    }
    if let Some(body) = request(method, path) {
        operation["requestBody"] = body;
    }
    operation
}

/// The document.
pub fn generate() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let entry = paths.entry(route.1.to_owned()).or_insert_with(|| json!({}));
        entry[route.0] = operation(route);
    }
    let words = responses::ANSWERS.iter().flat_map(|(.., answers)| answers.content);
    let shapes = words.filter_map(|(_, word)| Some(word.as_ref()?.trim_end_matches('*')));
    let shapes = shapes.filter(|s| s.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
    let mut schemas: Map<String, Value> = shapes.map(|s| (component(s), kind(s))).collect();
    let problem = json!({
        "type": "object",
        "description": "RFC 9457",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "code": { "type": ["string", "null"], "description": "WT-nnnn" },
            "fix": { "type": ["string", "null"] },
        },
    });
    schemas.insert("Problem".to_owned(), problem);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "webtrunk",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Scopes: read looks, write ends calls, admin steers. The control \
                            socket needs no token.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/api/v1" }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": cookie_name(true),
                    "description": "of POST /session, for the gateway's own page; without TLS it \
                                    is named webtrunk",
                },
            },
            "schemas": schemas,
        },
    })
}

/// GET /openapi.json
pub(crate) async fn document() -> Json<Value> {
    Json(generate())
}
