//! Events and records match their published schemas, and written records are found again.

use crate::phone::Phone;
use crate::server::Server;
use crate::shop::Shop;
use crate::trunk::Trunk;
use serde_json::Value;

fn schema(name: &str) -> jsonschema::Validator {
    let text = Server::offline(&["schema", name]).out;
    jsonschema::draft202012::new(&serde_json::from_str(&text).expect("JSON")).expect("a schema")
}

/// Every one of these fits; there are some.
fn all_fit(schema: &jsonschema::Validator, values: &[Value]) {
    assert!(!values.is_empty());
    for value in values {
        let wrong: Vec<String> =
            schema.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(wrong.is_empty(), "{wrong:#?}\n{value:#}");
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect()
}

#[test]
fn events_requests_and_records_match_the_published_schemas() {
    let shop = Shop::open();
    let hook = format!(
        "url = \"http://{}/voice\", secret = \"0123456789abcdef0123\", allow_private = true",
        shop.at
    );
    let route = "[[route]]\nname = \"Ask\"\nmatch = \"700\"\ndo = [{ webhook = \"http://SHOP/route\", secret = \"0123456789abcdef0123\", allow_private = true, timeout = \"2s\" }, { hangup = 486 }]\n\
                 [[route]]\nname = \"Gone\"\nmatch = \"702\"\ndo = [{ dial = [\"trunk:peer\"], timeout = \"1s\" }]\n";
    let server = Server::start_with("", &hook, route, &shop);
    let events = server.follow(&["events"]);
    server.until(|| {
        server.run(&["trunks", "disable", "peer"]);
        server.run(&["trunks", "enable", "peer"]);
        events.lines().iter().any(|l| l.contains("trunk.down"))
    });
    let mut trunk = Trunk::new(&server);
    trunk.call("9196");
    trunk.hang_up();
    assert_eq!(trunk.invite("777"), 404);
    shop.answer_with("{\"do\": [{\"echo\": true}], \"caller_id\": \"+12065550100\", \"tags\": {\"cart\": \"A-1\"}}");
    trunk.call("700");
    trunk.hang_up();
    let wrong =
        server.run(&["call", "9196", "--as", "alice", "--password", "wrong", "--for", "1s"]);
    assert_ne!(wrong.code, 0);
    assert_eq!(
        server
            .run(&["call", "9196", "--as", "alice", "--password", "secret-a", "--for", "4s"])
            .code,
        0
    );
    server.run(&["drain", "--timeout", "1s"]);
    server.run(&["drain", "--cancel"]);
    server.run(&["reload"]);
    server.until(|| events.lines().iter().any(|l| l.contains("config.reloaded")));
    let streamed = lines(&events.lines().join("\n"));
    for kind in [
        "call.started",
        "call.refused",
        "call.answered",
        "call.ended",
        "login.refused",
        "trunk.up",
        "trunk.down",
        "drain.started",
        "drain.finished",
        "config.reloaded",
    ] {
        assert!(streamed.iter().any(|e| e["type"] == kind), "{kind} was not sent");
    }
    all_fit(&schema("event"), &streamed);
    all_fit(
        &schema("cdr"),
        &lines(&std::fs::read_to_string(server.folder.join("cdr.jsonl")).expect("records")),
    );
    let asked: Vec<Value> = shop
        .got()
        .iter()
        .filter(|r| r.starts_with("POST /route"))
        .map(|r| serde_json::from_str(r.split_once("\r\n\r\n").expect("a body").1).expect("JSON"))
        .collect();
    all_fit(&schema("route-request"), &asked);
    all_fit(
        &schema("route-answer"),
        &[serde_json::json!({ "do": [{ "echo": true }], "tags": { "a": "b" } })],
    );
    assert!(
        !schema("route-answer").is_valid(&serde_json::json!({ "do": [{ "eko": true }] })),
        "a schema that accepts anything proves nothing"
    );
}

/// What the test above does not bring about: a phone that rings and leaves, a trunk that fails.
#[test]
fn every_kind_of_event_is_sent_by_a_served_gateway() {
    let route = "[[route]]\nname = \"Ring\"\nmatch = \"800\"\ndo = [{ ring = [\"user:alice\"], timeout = \"5s\" }]\n\
                 [[route]]\nname = \"Lost\"\nmatch = \"801\"\ndo = [{ dial = [\"trunk:z-gone\"], timeout = \"2s\" }]\n";
    let server = Server::start_with(
        "[trunk.z-gone]\nuri = \"sip:127.0.0.1:1;transport=tls\"\n",
        "url = \"https://192.0.2.1/x\", secret = \"0123456789abcdef\"",
        route,
        &Shop::open(),
    );
    let events = server.follow(&["events"]);
    server.until(|| {
        server.run(&["trunks", "disable", "peer"]);
        server.run(&["trunks", "enable", "peer"]);
        events.lines().iter().any(|l| l.contains("trunk.down"))
    });
    let mut phone = Phone::register(server.web, "wt.test", "alice", "secret-a");
    let mut trunk = Trunk::new(&server);
    let ringing = std::thread::spawn(move || {
        let invite = phone.hear("INVITE");
        phone.reply(&invite, 180);
        phone.reply(&invite, 486);
        phone
    });
    assert_eq!(trunk.invite("800"), 486);
    drop(ringing.join().expect("it rang"));
    assert!(trunk.invite("801") >= 400);
    for kind in [
        "registration.added",
        "call.ringing",
        "call.warning",
        "registration.removed",
        "call.ended",
        "trunk.up",
    ] {
        server.until(|| events.lines().iter().any(|l| l.contains(&format!("\"type\":\"{kind}\""))));
    }
    all_fit(&schema("event"), &lines(&events.lines().join("\n")));
    server.counts(&["webtrunk_flow_lost_total{reason=\"closed\"} 1"]);
}

#[test]
fn configurations_match_their_schema_and_a_typo_does_not() {
    let toml = |text: &str| {
        serde_json::to_value(toml::from_str::<toml::Table>(text).expect("TOML")).expect("JSON")
    };
    let pages = ["README.md", "src/docs/reference/example.md"];
    let blocks: Vec<Value> = pages
        .into_iter()
        .map(|page| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(page))
        .map(|page| std::fs::read_to_string(page).expect("the page"))
        .flat_map(|text| {
            let blocks = text.split("```toml").skip(1).filter_map(|b| b.split_once('\n'));
            blocks.map(|(_, b)| toml(b.split("```").next().expect("it ends"))).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(blocks.len(), 5, "the examples");
    let (config, dialplan) = (schema("config"), schema("dialplan"));
    let (settings, plans): (Vec<Value>, Vec<Value>) =
        blocks.into_iter().partition(|b| b.get("route").is_none());
    all_fit(&config, &settings);
    all_fit(&dialplan, &plans);
    assert!(!config.is_valid(&toml("[server]\ndomian = \"x\"\n")));
    assert!(!dialplan.is_valid(&toml("[[route]]\nname = \"A\"\nmatch = 5\ndo = []\n")));
    let listed = Server::offline(&["schema"]).out;
    assert!(listed.contains("route-request") && listed.lines().count() == 9);
    let wrong = Server::offline(&["schema", "confg"]);
    assert!(wrong.code == 1 && wrong.err.contains("known: config, dialplan"));
}

#[test]
fn records_are_found_in_the_database_and_survive_a_kill() {
    let mut server = Server::start_with_database();
    let events = server.follow(&["events", "--type", "call.ended,trunk.*"]);
    server.until(|| {
        server.run(&["trunks", "disable", "peer"]);
        server.run(&["trunks", "enable", "peer"]);
        !events.lines().is_empty()
    });
    let mut trunk = Trunk::new(&server);
    for _ in 0..3 {
        trunk.call("9196");
        trunk.hang_up();
    }
    server.until(|| {
        server.control("GET", "/api/v1/cdr?number=9196", "").matches("\"call\"").count() == 3
    });
    for (query, found) in [
        ("", 3),
        ("?limit=2", 2),
        ("?outcome=success", 3),
        ("?outcome=busy", 0),
        ("?number=91", 3),
        ("?user=trunk:peer", 3),
        ("?user=alice", 0),
        ("?from=2020&to=2021", 0),
        ("?from=2020", 3),
        ("?number=9'%20OR%20'1'='1", 0),
    ] {
        let answer = server.control("GET", &format!("/api/v1/cdr{query}"), "");
        assert_eq!(answer.matches("\"call\":").count(), found, "{query}: {answer}");
    }
    let seen = events.lines().iter().filter(|l| l.contains("call.ended")).count();
    trunk.call("9196");
    trunk.hang_up();
    server.until(|| events.lines().iter().filter(|l| l.contains("call.ended")).count() > seen);
    server.kill();
    let in_file =
        lines(&std::fs::read_to_string(server.folder.join("cdr.jsonl")).expect("records"));
    let database = rusqlite::Connection::open(server.folder.join("cdr.db")).expect("a database");
    let in_database: Vec<String> = database
        .prepare("SELECT record FROM cdr ORDER BY start")
        .and_then(|mut s| s.query_map([], |r| r.get(0))?.collect())
        .expect("records");
    assert_eq!(in_file.len(), 4);
    assert_eq!(
        in_file,
        in_database
            .iter()
            .map(|r| serde_json::from_str::<Value>(r).expect("JSON"))
            .collect::<Vec<_>>()
    );
}
