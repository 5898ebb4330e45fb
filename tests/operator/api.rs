//! The API is what its own document says: every operation, every status, every answer.

use crate::console;
use crate::phone::Phone;
use crate::plain;
use crate::server::Server;
use crate::shop::Shop;
use crate::trunk::Trunk;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The document, held against what is really answered.
struct Document {
    value: Value,
    /// Operations that were done.
    done: BTreeSet<(String, String)>,
}

impl Document {
    fn of(server: &Server) -> Document {
        let value = serde_json::from_str(&server.run(&["openapi"]).out).expect("JSON");
        Document { value, done: BTreeSet::new() }
    }

    fn operations(&self) -> Vec<(String, String)> {
        let paths = self.value["paths"].as_object().expect("paths");
        let all = paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").keys();
            methods.map(move |method| (method.clone(), path.clone()))
        });
        all.collect()
    }

    /// A schema of the document, whose references lead into it.
    fn validator(&self, schema: &Value) -> jsonschema::Validator {
        let mut whole = schema.clone();
        whole["components"] = self.value["components"].clone();
        jsonschema::draft202012::new(&whole).expect("a schema")
    }

    /// The answer to `method` on `path` is one that is documented; returns its status and body.
    fn check(&mut self, method: &str, path: &str, answer: &str) -> (u16, String) {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
        let status = head.split(' ').nth(1).expect("a status");
        let documented = &self.value["paths"][path][method]["responses"][status];
        assert!(documented.is_object(), "{method} {path}: {status} is not documented\n{answer}");
        let kind = head.lines().find_map(|l| l.strip_prefix("content-type: ")).expect("a type");
        let media = kind.split(';').next().expect("a type");
        let content = &documented["content"][media];
        assert!(content.is_object(), "{method} {path}: {media} is not documented\n{answer}");
        if media.ends_with("json") {
            assert!(content["schema"].is_object(), "{method} {path} has no schema");
            let value: Value = serde_json::from_str(body).expect("JSON");
            let validator = self.validator(&content["schema"]);
            let wrong: Vec<String> = validator
                .iter_errors(&value)
                .map(|e| format!("{}: {e}", e.instance_path()))
                .collect();
            assert!(wrong.is_empty(), "{method} {path} {status}: {wrong:#?}\n{value:#}");
        }
        // Descriptions name their schemas; all else is for people too.
        if !["/openapi", "/schema"].iter().any(|own| path.starts_with(own)) {
            assert_eq!(plain::type_name(body), None, "{method} {path}: {body}");
        }
        let status: u16 = status.parse().expect("a number");
        if status < 300 {
            self.done.insert((method.to_owned(), path.to_owned()));
        }
        (status, body.to_owned())
    }

    /// Does an operation, with what stands for `{…}` in its path.
    fn ask(&mut self, server: &Server, what: (&str, &str), filled: &str, body: &str) -> u16 {
        let (method, path) = what;
        let asked = path.split_once('{').map_or(path.to_owned(), |(before, rest)| {
            let after = rest.split_once('}').map_or("", |(_, after)| after);
            format!("{before}{filled}{after}")
        });
        let asked =
            if asked == path && !filled.is_empty() { format!("{path}{filled}") } else { asked };
        let method_upper = method.to_uppercase();
        let answer = server.control(&method_upper, &format!("/api/v1{asked}"), body);
        self.check(method, path, &answer).0
    }
}

const SETTINGS: &str = "[credentials]\nsecret = \"0123456789abcdef0123\"\n\
    turn = { uris = [\"turn:turn.example:3478\"], secret = \"coturns-own\" }\n";
const ROUTES: &str = "[[route]]\nname = \"Ring\"\nmatch = \"800\"\ndo = [{ ring = [\"user:alice\"], timeout = \"20s\" }]\n\
    [[route]]\nname = \"Busy\"\nmatch = \"801\"\ndo = [{ hangup = 486 }]\n\
    [[route]]\nname = \"Out\"\nmatch = \"802\"\ndo = [{ dial = [\"trunk:peer\"] }]\n";

/// A gateway that had calls of each kind: answered, refused, busy, and an active one.
fn busy_server() -> (Server, Shop, Trunk) {
    let shop = Shop::open();
    let hook = format!(
        "url = \"http://{}/voice\", secret = \"0123456789abcdef0123\", allow_private = true",
        shop.at
    );
    let server = Server::start_with(SETTINGS, &hook, ROUTES, &shop);
    let mut trunk = Trunk::new(&server);
    trunk.call("9196");
    trunk.hang_up();
    assert_eq!(trunk.invite("777"), 404);
    assert_eq!(trunk.invite("801"), 486);
    trunk.call("9196");
    (server, shop, trunk)
}

/// An operation, what stands for `{…}` in its path, its body, and the statuses it may have.
type Step<'a> = ((&'a str, &'a str), &'a str, &'a str, &'a [u16]);

/// What is asked of three calls: one with the echo, one with the trunk, one that has ended.
fn steps_of_calls<'a>(live: &'a str, bridged: &'a str, ended: &'a str) -> Vec<Step<'a>> {
    let digits = "{\"digits\":\"1\",\"side\":\"caller\"}";
    vec![
        (("get", "/calls"), "", "", &[200]),
        (("get", "/calls"), "?limit=1", "", &[200]),
        (("get", "/calls"), "?state=odd", "", &[400]),
        (("get", "/calls/{id}"), live, "", &[200]),
        (("get", "/calls/{id}"), ended, "", &[200]),
        (("get", "/calls/{id}"), "nobody", "", &[404]),
        (("get", "/calls/{id}/ladder"), live, "", &[200]),
        (("get", "/calls/{id}/ladder"), ended, "", &[200]),
        (("get", "/calls/{id}/quality"), live, "", &[200]),
        (("get", "/calls/{id}/quality"), ended, "", &[200]),
        (("get", "/calls/{id}/pcap"), ended, "", &[200]),
        (("get", "/calls/{id}/pcap"), "nobody", "", &[404]),
        (("post", "/calls/{id}/dtmf"), live, digits, &[200]),
        (("post", "/calls/{id}/dtmf"), live, "{", &[400]),
        (("post", "/calls/{id}/dtmf"), live, "[]", &[400]),
        (("get", "/calls/{id}"), "%ff", "", &[400]),
        (("get", "/calls/{id}"), "nobody?node=b", "", &[400]),
        (("post", "/calls/{id}/dtmf"), ended, digits, &[409]),
        (("post", "/calls/{id}/hold"), bridged, "", &[200]),
        (("delete", "/calls/{id}/hold"), bridged, "", &[200]),
        (("post", "/calls/{id}/hold"), "nobody", "", &[404]),
        (
            ("post", "/calls/{id}/transfer"),
            bridged,
            "{\"to\":\"9196\",\"side\":\"caller\"}",
            &[200],
        ),
        (("post", "/calls/{id}/transfer"), ended, "{\"to\":\"9196\"}", &[409]),
        (("delete", "/calls/{id}"), live, "", &[200]),
        (("delete", "/calls/{id}"), ended, "", &[409]),
        (("post", "/calls"), "", "{\"from\":\"alice\",\"to\":\"9196\"}", &[202]),
        (("post", "/calls"), "", "{\"from\":\"alice\",\"to\":\"777\"}", &[404]),
        (("post", "/calls"), "", "{}", &[400]),
        (("post", "/credentials"), "", "{\"user\":\"alice\"}", &[200]),
        (("post", "/credentials"), "", "{\"user\":\"nobody\"}", &[404]),
    ]
}

/// What is asked of the gateway itself.
const STEPS: &[Step<'static>] = &[
    (("get", "/registrations"), "", "", &[200]),
    (("get", "/logins"), "", "", &[200]),
    (("delete", "/registrations/{user}"), "alice", "", &[200]),
    (("delete", "/registrations/{user}"), "nobody", "", &[404]),
    (("get", "/trunks"), "", "", &[200]),
    (("get", "/trunks/{name}"), "peer", "", &[200]),
    (("get", "/trunks/{name}"), "nobody", "", &[404]),
    (("post", "/trunks/{name}/disable"), "peer", "", &[200]),
    (("post", "/trunks/{name}/enable"), "peer", "", &[200]),
    (("post", "/trunks/{name}/probe"), "peer", "", &[200]),
    (("get", "/nodes"), "", "", &[200]),
    (("get", "/status"), "", "", &[200]),
    (("post", "/drain"), "", "", &[200]),
    (("delete", "/drain"), "", "", &[200]),
    (("post", "/reload"), "", "", &[200]),
    (("get", "/config"), "", "", &[200]),
    (("get", "/config/dialplans"), "", "", &[200]),
    (("get", "/config/sources"), "", "", &[200]),
    (("post", "/config/check"), "", "", &[200]),
    (("get", "/dialplan"), "", "", &[200]),
    (("post", "/dialplan/test"), "", "{\"number\":\"9196\",\"as\":\"trunk:peer\"}", &[200]),
    (("post", "/dialplan/test"), "", "{\"number\":\"1\",\"context\":\"in\"}", &[200]),
    (("post", "/dialplan/test"), "", "{", &[400]),
    (("get", "/errors"), "", "", &[200]),
    (("get", "/errors/{code}"), "WT-2107", "", &[200]),
    (("get", "/errors/{code}"), "WT-0001", "", &[404]),
    (("get", "/cdr"), "", "", &[200]),
    (("get", "/cdr"), "?code=x", "", &[400]),
    (("get", "/webhooks"), "", "", &[200]),
    (("post", "/webhooks/{id}/resend"), "nobody", "", &[404]),
    (("get", "/schemas"), "", "", &[200]),
    (("get", "/schemas/{name}"), "cdr", "", &[200]),
    (("get", "/openapi.json"), "", "", &[200]),
];

#[test]
fn every_operation_answers_as_its_schema_says() {
    let (server, _shop, _trunk) = busy_server();
    let mut document = Document::of(&server);
    assert_eq!(document.value["openapi"], "3.1.0");
    let _phone = Phone::register(server.web, "wt.test", "alice", "secret-a");
    // Two calls with media, to the echo and to the trunk: for 20 s, or until they are hung up.
    let _far = Trunk::new(&server).take_silently();
    let call = |number: &str| {
        let args = ["call", number, "--as", "alice", "--password", "secret-a", "--for", "20s"];
        server.follow(&args)
    };
    let talking = [call("9196"), call("802")];
    let of_alice = |number: &str| {
        let args = ["calls", "--user", "alice", "--number", number, "-o", "json"];
        let all: Vec<Value> = serde_json::from_str(&server.run(&args).out).expect("JSON");
        let talks = all.into_iter().find(|c| c["state"] == "talking")?;
        Some(talks["call"].as_str()?.to_owned())
    };
    server.until(|| of_alice("9196").is_some() && of_alice("802").is_some());
    let (live, bridged) = (of_alice("9196").expect("a call"), of_alice("802").expect("a call"));
    let ended: Value =
        serde_json::from_str(&server.run(&["cdr", "tail", "-n", "1", "-o", "json"]).out)
            .expect("JSON");
    let ended = ended[0]["call"].as_str().expect("an id").to_owned();
    let of_calls = steps_of_calls(&live, &bridged, &ended);
    for (what, filled, body, wanted) in of_calls.iter().chain(STEPS) {
        let status = document.ask(&server, *what, filled, body);
        assert!(wanted.contains(&status), "{what:?} {filled} {body}: {status}");
    }
    drop(talking);
    for format in ["text", "svg", "mermaid", "odd"] {
        let path = format!("/api/v1/calls/{ended}/ladder?format={format}");
        document.check("get", "/calls/{id}/ladder", &server.control("GET", &path, ""));
    }
    let delivered = server.control("GET", "/api/v1/webhooks", "");
    let deliveries: Value =
        serde_json::from_str(delivered.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    let id = deliveries[0]["id"].as_str().expect("an event was delivered").to_owned();
    document.ask(&server, ("post", "/webhooks/{id}/resend"), &id, "");
    let password = console::add(&server, "anna", "read");
    let login = format!("{{\"user\":\"anna\",\"password\":\"{password}\"}}");
    for (method, body, status) in
        [("get", "", 200), ("post", login.as_str(), 200), ("post", "{}", 400), ("delete", "", 200)]
    {
        assert_eq!(document.ask(&server, (method, "/session"), "", body), status, "{method}");
    }
    document.check("get", "/events", &server.head("/api/v1/events"));
    for odd in ["?types=call.end", "?types=call.ended&types=trunk.up"] {
        assert_eq!(document.ask(&server, ("get", "/events"), odd, ""), 400, "{odd}");
    }
    assert_eq!(document.ask(&server, ("get", "/logins"), "?limit=many", ""), 400);
    assert_eq!(document.ask(&server, ("get", "/trunks"), "?node=b", ""), 400);
    for path in ["/calls", "/session", "/credentials", "/dialplan/test"] {
        let typed = "Content-Type: text/plain\r\n";
        let answer = server.control_with("POST", &format!("/api/v1{path}"), typed, "{}");
        assert_eq!(document.check("post", path, &answer).0, 415, "{path}");
    }
    let all: BTreeSet<_> = document.operations().into_iter().collect();
    let missing: Vec<_> = all.difference(&document.done).collect();
    assert!(missing.is_empty(), "never seen to succeed: {missing:?}");
    assert!(server.control("GET", "/api/v1/nothing", "").contains("404"));
    assert!(server.control("PUT", "/api/v1/calls", "").contains("405"));
}

#[test]
fn every_operation_requires_a_token_and_documents_it() {
    let server = Server::start("");
    let mut document = Document::of(&server);
    let open = ("post".to_owned(), "/session".to_owned());
    for (method, path) in document.operations().into_iter().filter(|o| *o != open) {
        let asked = path.replace(['{', '}'], "");
        let answer = server.http(&method.to_uppercase(), &format!("/api/v1{asked}"), "");
        let (status, body) = document.check(&method, &path, &answer);
        assert_eq!(status, 401, "{method} {path}: {body}");
    }
}

/// A schema that takes anything, or an answer nobody described, would pass the test above.
#[test]
fn an_answer_that_breaks_its_schema_is_found() {
    let server = Server::start("");
    let document = Document::of(&server);
    for (method, path) in document.operations() {
        let responses = document.value["paths"][&path][&method]["responses"].as_object();
        for (status, response) in responses.expect("responses") {
            let content = response["content"].as_object().expect("content");
            assert!(!content.is_empty(), "{method} {path} {status}");
            for (media, held) in content {
                assert!(held["schema"].is_object(), "{method} {path} {status} {media}: no schema");
                if !media.ends_with("json") {
                    assert_eq!(held["schema"]["type"], "string", "{method} {path} {media}");
                    continue;
                }
                let validator = document.validator(&held["schema"]);
                assert!(!validator.is_valid(&json!(17)), "{method} {path} {status} {media}");
                // What these two hold is a schema and a document of others.
                if !["/schemas/{name}", "/openapi.json"].contains(&path.as_str()) {
                    let odd = [json!({ "odd": 1 }), json!([{ "odd": 1 }])];
                    assert!(!odd.iter().any(|o| validator.is_valid(o)), "{method} {path} {status}");
                }
            }
        }
    }
}

/// Generated clients have functions of these names, with arguments of these kinds.
#[test]
fn operations_have_names_of_their_own_and_parameters_their_kinds() {
    let server = Server::start("");
    let document = Document::of(&server);
    let mut names = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    for (method, path) in document.operations() {
        let operation = &document.value["paths"][&path][&method];
        let name = operation["operationId"].as_str().expect("a name");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
        assert!(names.insert(name.to_owned()), "{name} is twice");
        for parameter in operation["parameters"].as_array().expect("parameters") {
            let word = |key: &str| parameter[key].as_str().expect("a word").to_owned();
            let kind = parameter["schema"]["type"].as_str().expect("a kind").to_owned();
            kinds.insert((word("in"), word("name"), kind));
        }
    }
    for (place, name, kind) in [
        ("path", "id", "string"),
        ("query", "limit", "integer"),
        ("query", "mos_below", "number"),
        ("query", "full", "boolean"),
        ("header", "Idempotency-Key", "string"),
        ("header", "Last-Event-ID", "string"),
    ] {
        let wanted = (place.to_owned(), name.to_owned(), kind.to_owned());
        assert!(kinds.contains(&wanted), "{wanted:?} is not in {kinds:?}");
    }
    // What the document says of them is what is taken.
    for (asked, status) in [
        ("/calls?limit=1&mos_below=3.5&state=ended", "200"),
        ("/calls?limit=0", "400"),
        ("/calls?mos_below=0.5", "400"),
        ("/calls?state=odd", "400"),
    ] {
        let answer = server.control("GET", &format!("/api/v1{asked}"), "");
        assert_eq!(answer.split(' ').nth(1), Some(status), "{asked}: {answer}");
    }
}

#[test]
fn the_files_of_a_dialplan_are_shown_with_their_findings_and_without_secrets() {
    let server = Server::start("");
    server.edit("dialplans/in.toml", "do = [{ echo = true }]", "do = [{ webhook = \"https://x.test/y\", secret = \"a-secret-of-sixteen\" }, { dial = [\"trunk:per\"] }]");
    let mut document = Document::of(&server);
    let answer = server.control("GET", "/api/v1/config/dialplans", "");
    let (_, shown) = document.check("get", "/config/dialplans", &answer);
    assert!(
        shown.contains("did you mean \\\"peer\\\"?")
            && shown.contains("\"line\":4")
            && !shown.contains("a-secret-of-sixteen"),
        "{shown}"
    );
    let answer = server.control("POST", "/api/v1/config/check", "");
    let (_, checked) = document.check("post", "/config/check", &answer);
    assert!(
        checked.contains("\"sound\":false") && checked.contains("dialplan::trunk"),
        "{checked}"
    );
    let config = server.control("GET", "/api/v1/config", "");
    assert!(config.contains("\"password\":\"***\"") && !config.contains("secret-a"), "{config}");
    let refused = server.control("POST", "/api/v1/reload", "");
    assert_eq!(document.check("post", "/reload", &refused).0, 422);
}
