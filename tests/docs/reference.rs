//! The reference, made of schemas, registries and the program's own help. `WEBTRUNK_BLESS=1` writes
//! it anew.

use crate::{BINARY, book};
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use webtrunk::api::openapi::{ROUTES, node_query};
use webtrunk::api::{metrics::NodeMetrics, schemas};
use webtrunk::errors::Code;
use webtrunk::event::EventKind;

const MADE: &str = "<!-- Made by tests/docs/reference.rs of what the program says of itself: WEBTRUNK_BLESS=1 cargo test --test docs -->\n\n";

fn run(args: &[&str]) -> String {
    let done = Command::new(BINARY)
        .args(args)
        .env("NO_COLOR", "1")
        .env_remove("WEBTRUNK_CONTROL")
        .output()
        .expect("it runs");
    String::from_utf8(done.stdout).expect("UTF-8")
}

/// A cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|").replace('<', "&lt;")
}

/// `text`, `true or false`, `a list of text`, or the name of the table it is described in.
fn kind(value: &Value, root: &Value) -> String {
    if let Some(name) = value["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        let target = &root["$defs"][name];
        return if target["properties"].is_object() {
            format!("[{name}](#{})", name.to_lowercase())
        } else {
            kind(target, root)
        };
    }
    if let Some(all) = value["anyOf"].as_array() {
        let mut kinds: Vec<String> =
            all.iter().filter(|v| v["type"] != "null").map(|v| kind(v, root)).collect();
        kinds.dedup();
        return kinds.join(" or ");
    }
    if value["properties"].is_object() {
        let inside = value["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, v)| format!("{name} = {}", kind(v, root)));
        return format!("{{ {} }}", inside.collect::<Vec<_>>().join(", "));
    }
    let types: Vec<&str> = match &value["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => {
            many.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect()
        }
        _ => vec!["any"],
    };
    let word = |t: &str| match t {
        "string" => "text".to_owned(),
        "boolean" => "true or false".to_owned(),
        "integer" | "number" => "number".to_owned(),
        "array" => format!("a list of {}", kind(&value["items"], root)),
        "object" => match &value["additionalProperties"] {
            inner if inner.is_object() => format!("by name: {}", kind(inner, root)),
            _ => "a table".to_owned(),
        },
        other => other.to_owned(),
    };
    if let Some(constant) = value["const"].as_str() {
        return format!("`{constant}`");
    }
    types.into_iter().map(word).collect::<Vec<_>>().join(" or ")
}

fn table(out: &mut String, properties: &Map<String, Value>, root: &Value, required: &Value) {
    out.push_str("| key | value | meaning |\n| --- | --- | --- |\n");
    for (name, value) in properties {
        let must = required.as_array().is_some_and(|r| r.iter().any(|n| n == name));
        let described = value["description"].as_str().unwrap_or_default();
        let _ = writeln!(
            out,
            "| `{name}`{} | {} | {} |",
            if must { " *" } else { "" },
            cell(&kind(value, root)),
            cell(described)
        );
    }
    out.push('\n');
}

/// A schema's tables: its own, then those of its parts.
fn described(title: &str, intro: &str, schema: &Value) -> String {
    let mut out = format!("# {title}\n\n{MADE}{intro}\n\n");
    if let Some(properties) = schema["properties"].as_object() {
        table(&mut out, properties, schema, &schema["required"]);
    }
    for (name, part) in schema["$defs"].as_object().into_iter().flatten() {
        if let Some(properties) = part["properties"].as_object() {
            let words = part["description"].as_str().unwrap_or_default().replace('\n', " ");
            let _ = writeln!(out, "## {name}\n\n{words}\n");
            table(&mut out, properties, schema, &part["required"]);
        }
    }
    out
}

fn config() -> String {
    let intro = "`webtrunk.toml`. Keys with a star are required. An unknown key is an error. `webtrunk schema config` prints this as a JSON Schema, for editors: put `#:schema config.json` at the top of the file.";
    described("Configuration", intro, &schemas::named("config").expect("a schema"))
}

fn dialplan() -> String {
    let intro = "A file in `dialplans/`, whose name is that of the context. Keys with a star are required. `webtrunk schema dialplan` prints this as a JSON Schema.";
    described("Dialplans", intro, &schemas::named("dialplan").expect("a schema"))
}

fn cli() -> String {
    let mut out = format!(
        "# Command line\n\n{MADE}Exit codes: 0 success, 1 failed, 2 usage, 3 configuration, 4 no gateway answers, 5 the call failed or nothing was heard, 6 below `--min-mos`.\n\n"
    );
    let top = run(&["--help"]);
    let names: Vec<&str> = top
        .lines()
        .skip_while(|l| !l.starts_with("Commands:"))
        .skip(1)
        .take_while(|l| !l.is_empty())
        .filter_map(|l| l.split_whitespace().next())
        .filter(|n| *n != "help")
        .collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names {
        let help = run(&[name, "--help"]);
        // A fence of text, indented lines and all, as the terminal shows it.
        let _ = writeln!(
            out,
            "## {name}\n\n<pre>{}</pre>\n",
            help.trim_end().replace('&', "&amp;").replace('<', "&lt;")
        );
    }
    out
}

fn api() -> String {
    let mut out = format!(
        "# HTTP API\n\n{MADE}Under `/api/v1` of the web port with a bearer token (`webtrunk api-token NAME`), and of the control socket without one. Errors are `application/problem+json` with `code` and `fix` (RFC 9457). `webtrunk openapi` prints all of it as OpenAPI 3.1, of which clients can be generated: `operation` is what they call it.\n\n| | operation | scope | what |\n| --- | --- | --- | --- |\n"
    );
    for (method, path, operation, summary, scope, query) in ROUTES {
        let node = node_query(method, path);
        let parameters: Vec<String> =
            query.iter().chain(&node).map(|(name, what)| format!("`{name}`: {what}")).collect();
        let more = if parameters.is_empty() {
            String::new()
        } else {
            format!(". {}", parameters.join("; "))
        };
        let _ = writeln!(
            out,
            "| `{} {path}` | {operation} | {scope} | {} |",
            method.to_uppercase(),
            cell(&format!("{summary}{more}"))
        );
    }
    out
}

fn fields(out: &mut String, schema: &Value) {
    if let Some(properties) = schema["properties"].as_object() {
        table(out, properties, schema, &Value::Null);
    }
}

fn events() -> String {
    let mut out = format!(
        "# Events, records, webhooks\n\n{MADE}Every event is `{{\"type\", \"timestamp\", \"data\"}}`, in the stream (`GET /api/v1/events`, `webtrunk events`) and in the webhook of `[events]`. Webhooks are signed by the Standard Webhooks scheme: `webhook-id`, `webhook-timestamp`, `webhook-signature`.\n\n"
    );
    let event = schemas::named("event").expect("a schema");
    for (kind, when) in EventKind::ALL.iter().map(|k| (k.as_str(), k.when())) {
        let _ = writeln!(out, "## {kind}\n\n{when}\n");
        let shape = event["oneOf"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|s| s["properties"]["type"]["const"] == kind)
            .expect("a shape");
        if kind == "call.ended" {
            out.push_str("The record, as below.\n\n");
        } else {
            fields(&mut out, &shape["properties"]["data"]);
        }
    }
    out.push_str("## Records\n\nOne per call, in the file, the database and `call.ended`.\n\n");
    let cdr = schemas::named("cdr").expect("a schema");
    fields(&mut out, &cdr);
    for (name, part) in [
        ("from", &cdr["properties"]["from"]),
        ("to", &cdr["properties"]["to"]),
        ("attempts", &cdr["properties"]["attempts"]["items"]),
        ("legs", &cdr["properties"]["legs"]["items"]),
        ("verdict", &cdr["properties"]["verdict"]["anyOf"][0]),
    ] {
        let _ = writeln!(out, "### {name}\n");
        fields(&mut out, part);
    }
    for (title, name) in [
        ("The request to the webhook of a route", "route-request"),
        ("The request to the webhook of [auth]", "auth-request"),
    ] {
        let _ = writeln!(out, "## {title}\n");
        fields(&mut out, &schemas::named(name).expect("a schema")["properties"]["data"]);
    }
    for (title, name) in [
        ("The answer of the webhook of a route", "route-answer"),
        ("The answer of the webhook of [auth]", "auth-answer"),
    ] {
        let schema = schemas::named(name).expect("a schema");
        let _ = writeln!(out, "## {title}\n");
        table(
            &mut out,
            schema["properties"].as_object().expect("fields"),
            &schema,
            &schema["required"],
        );
        if let Some(grant) = schema["$defs"]["Grant"]["properties"].as_object() {
            out.push_str("### Grant\n\n");
            table(&mut out, grant, &schema, &Value::Null);
        }
    }
    out
}

fn metrics() -> String {
    let mut out = format!(
        "# Metrics\n\n{MADE}Served as OpenMetrics at `[metrics] listen`, path `/metrics`. Labels are bounded: directions, outcomes, codes, methods, and trunks of the configuration.\n\n| metric | type | what |\n| --- | --- | --- |\n"
    );
    let text = NodeMetrics::touched().text();
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, h)| h);
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|r| r.split_once(' '))
        {
            let total = if kind == "counter" { "_total" } else { "" };
            let _ = writeln!(out, "| `{name}{total}` | {kind} | {} |", cell(help));
        }
    }
    out
}

fn errors() -> String {
    let mut out = format!(
        "# Error codes\n\n{MADE}The log, verdicts, errors of the API and the page use the same codes and the same words. `webtrunk explain CODE` prints them.\n\n"
    );
    for (code, entry) in Code::all() {
        let _ = writeln!(
            out,
            "## {code} {}\n\n- Likely: {}\n- Fix: {}\n",
            entry.title, entry.likely, entry.fix
        );
    }
    out
}

#[test]
fn the_reference_is_what_the_program_says_of_itself() {
    let bless = std::env::var_os("WEBTRUNK_BLESS").is_some();
    for (name, text) in [
        ("config", config()),
        ("dialplan", dialplan()),
        ("cli", cli()),
        ("api", api()),
        ("events", events()),
        ("metrics", metrics()),
        ("errors", errors()),
        ("bounds", crate::bounds::page(MADE)),
    ] {
        let path = book().join(format!("reference/{name}.md"));
        if bless {
            fs::write(&path, &text).expect("written");
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == text,
            "reference/{name}.md is not what the program says: WEBTRUNK_BLESS=1 cargo test --test docs writes it"
        );
    }
}
