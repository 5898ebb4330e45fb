//! A real `webtrunk serve`, and everything an operator does with it: every subcommand, route, event
//! and metric.

mod api;
mod applications;
mod certificates;
mod cluster;
mod console;
mod counted;
mod floods;
mod follower;
mod hostile;
mod lists;
mod logins;
mod oidc;
mod openmetrics;
mod pbx;
mod phone;
#[path = "../calls/plain.rs"]
mod plain;
mod proxies;
mod records;
mod requests;
mod restart;
mod server;
mod shipped;
mod shop;
mod terminal;
mod test_calls;
mod trunk;
mod unread;
mod upgrade;

use server::Server;
use terminal::in_terminal;
use trunk::Trunk;

/// The ids of `webtrunk calls --all -o json`, the newest first.
pub(crate) fn calls(server: &Server) -> Vec<serde_json::Value> {
    let text = server.run(&["calls", "--all", "-o", "json"]).out;
    serde_json::from_str::<serde_json::Value>(&text)
        .expect("JSON")
        .as_array()
        .expect("a list")
        .clone()
}

#[test]
fn a_call_is_listed_while_active_and_explained_when_it_has_ended() {
    let server = Server::start("");
    let mut trunk = Trunk::new(&server);
    assert!(server.run(&["readyz"]).out.starts_with("ok\ncalls left: "));
    assert!(server.run(&["calls"]).err.contains("no active call"));
    trunk.call("9196");
    let live = calls(&server);
    assert_eq!(
        (live.len(), live[0]["state"].as_str(), live[0]["to"].as_str()),
        (1, Some("talking"), Some("9196"))
    );
    let id = live[0]["call"].as_str().expect("an id").to_owned();
    assert!(server.run(&["calls"]).out.contains(&id));
    trunk.hang_up();
    server.until(|| calls(&server)[0]["state"] == "ended");
    let shown = server.run(&["trace", &id[..4]]).out;
    for wanted in [
        "INVITE (pcmu)",
        "100 Trying",
        "200 OK (pcmu)",
        "ACK",
        "BYE",
        "nobody heard trunk:peer",
        "answered",
    ] {
        assert!(shown.contains(wanted), "{wanted} is not in\n{shown}");
    }
    assert!(server.run(&["trace", "--last", "--full"]).out.contains("Call-ID: "));
    assert!(server.run(&["trace", "--last", "--mermaid"]).out.starts_with("sequenceDiagram"));
    let diff = server.run(&["trace", "--last", "--diff", "1,3"]).out;
    assert!(
        diff.starts_with("--- INVITE (pcmu)\n+++ 200 OK (pcmu)")
            && diff.contains("\n- INVITE sip:9196"),
        "{diff}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&server.run(&["trace", "--last", "-o", "json"]).out).expect("JSON");
    assert_eq!(json["rows"][0]["summary"], "INVITE (pcmu)", "{json}");
    let (pcap, svg) = (server.folder.join("call.pcap"), server.folder.join("call.svg"));
    assert_eq!(
        server
            .run(&[
                "trace",
                "--last",
                "--pcap",
                pcap.to_str().expect("UTF-8"),
                "--svg",
                svg.to_str().expect("UTF-8")
            ])
            .code,
        0
    );
    assert!(std::fs::read(&pcap).expect("written").windows(7).any(|w| w == b"INVITE "));
    assert!(std::fs::read_to_string(&svg).expect("written").contains("</svg>"));
    assert!(server.run(&["logs", "--call", "last"]).out.contains("ended by caller"));
    assert!(server.run(&["cdr", "tail"]).out.contains(&id));
    let csv = server.run(&["cdr", "export", "--format", "csv"]).out;
    assert!(
        csv.starts_with("start,call,from,from_number,from_name,to,outcome,sip_code,code,")
            && csv.contains(",trunk:peer,+4930,Ada Lovelace,9196,success,200,WT-3015,"),
        "{csv}"
    );
    assert_eq!(server.run(&["cdr", "export", "--format", "jsonl"]).out.lines().count(), 1);
}

#[test]
fn a_refused_call_says_why_in_one_sentence_with_its_fix() {
    let server = Server::start("");
    let mut trunk = Trunk::new(&server);
    assert_eq!(trunk.invite("777"), 404);
    let shown = server.run(&["trace", "--last"]).out;
    assert!(
        shown.contains("WT-1104  no route for 777 in context in")
            && shown.contains("Fix:    `webtrunk dialplan test"),
        "{shown}"
    );
    assert!(calls(&server)[0]["verdict"].as_str().expect("a verdict").contains("no route"));
    let output = server.run(&["explain", "wt-1104"]).out;
    assert!(output.starts_with("WT-1104  no route"), "{output}");
    assert!(server.run(&["explain"]).out.lines().count() > 50);
    assert_eq!(server.run(&["explain", "WT-0001"]).code, 1);
}

#[test]
fn an_operator_ends_a_call_drains_and_takes_it_back() {
    let server = Server::start("");
    let mut trunk = Trunk::new(&server);
    trunk.call("9196");
    let id = calls(&server)[0]["call"].as_str().expect("an id").to_owned();
    assert!(server.run(&["kick", &id, "--reason", "enough"]).out.contains("is ended"));
    assert!(trunk.expect("BYE").contains("enough"));
    server.until(|| calls(&server)[0]["state"] == "ended");
    assert_eq!(server.run(&["kick", &id]).code, 1, "it has ended already");
    assert!(server.run(&["kick", "zzzz"]).err.contains("there is no call \"zzzz\""));
    assert!(server.run(&["kick", "user:nobody"]).err.contains("there is no registration"));
    trunk.call("9196");
    assert!(server.run(&["drain", "--no-wait"]).out.contains("1 calls left"));
    assert_eq!(server.run(&["readyz"]).code, 1);
    assert!(server.get("/readyz").contains("503"));
    assert_eq!(Trunk::new(&server).invite("9196"), 503);
    assert!(server.run(&["drain", "--cancel"]).out.contains("accepted again"));
    assert_eq!(server.run(&["readyz"]).code, 0);
    trunk.hang_up();
    assert!(server.run(&["drain", "--timeout", "5s"]).out.contains("drained"));
}

#[test]
fn trunks_are_probed_switched_off_and_on() {
    let server = Server::start("");
    let trunk = Trunk::new(&server);
    let answering = trunk.answer_options();
    let probed = server.run(&["trunks", "probe", "peer"]);
    assert!(probed.code == 0 && probed.out.contains("answered OPTIONS in"), "{probed:?}");
    answering.join().expect("it answered");
    server.counts(&["webtrunk_trunk_rtt_seconds{trunk=\"peer\"} "]);
    let table = server.run(&["trunks"]).out;
    assert!(
        table.starts_with("TRUNK") && table.contains("peer") && table.contains("up"),
        "{table}"
    );
    assert!(server.run(&["trunks", "disable", "peer"]).out.contains("peer is disabled"));
    assert!(server.run(&["trunks", "status"]).out.contains("WT-2112"));
    assert!(server.run(&["trunks", "enable", "peer"]).out.contains("peer is up"));
    let missing = server.run(&["trunks", "probe", "nobody"]);
    assert!(
        missing.code == 1 && missing.err.contains("there is no trunk \"nobody\""),
        "{missing:?}"
    );
    assert!(server.run(&["registrations"]).err.contains("nobody is registered"));
}

#[test]
fn a_reload_changes_what_it_can_says_what_it_cannot_and_a_bad_file_changes_nothing() {
    let server = Server::start("");
    let mut trunk = Trunk::new(&server);
    trunk.call("9196");
    assert!(server.run(&["reload"]).out.contains("nothing has changed"));
    server.edit("webtrunk.toml", "[limits]", "[limits]\ncalls_per_user = 9");
    server.edit("webtrunk.toml", "workers = 1", "workers = 2");
    server.edit("dialplans/in.toml", "9196", "9190");
    let output = server.run(&["reload"]).out;
    assert!(
        output.contains("dialplan in changed")
            && output.contains("limits changed")
            && output.contains("unchanged until a restart: media.workers"),
        "{output}"
    );
    assert_eq!(Trunk::new(&server).invite("9196"), 404, "the new dialplan is in force");
    trunk.hang_up();
    server.edit("webtrunk.toml", "calls_per_user = 9", "calls_per_usr = 9");
    let refused = server.run(&["reload"]);
    assert!(
        refused.code == 3
            && refused.err.contains("calls_per_usr")
            && refused.err.contains("did you mean"),
        "{refused:?}"
    );
    assert_eq!(server.run(&["readyz"]).code, 0);
    let mut again = Trunk::new(&server);
    again.call("9190");
    again.hang_up();
    server.edit("webtrunk.toml", "calls_per_usr = 9", "calls_per_user = 8");
    server.hang_up_signal();
    server.until(|| server.log().contains("configuration reloaded: limits changed"));
}

#[test]
fn the_web_door_wants_a_token_and_gives_each_its_scope() {
    let made = Server::offline(&["api-token", "dashboard", "--scope", "read"]);
    let token = made.out.trim().to_owned();
    let lines = made.err.split("reload`:").nth(1).expect("the lines to paste").to_owned();
    let server = Server::start(&lines);
    let web = format!("http://127.0.0.1:{}", server.web);
    let ask = |method: &str, path: &str, token: &str| server.http(method, path, token);
    assert!(ask("GET", "/api/v1/calls", "").contains("401"));
    assert!(ask("GET", "/api/v1/calls", "wrong").contains("401"));
    assert!(ask("GET", "/api/v1/calls", &token).contains("200 OK"));
    for (method, path) in [
        ("POST", "/api/v1/drain"),
        ("DELETE", "/api/v1/calls/abcd"),
        ("GET", "/api/v1/config"),
        ("POST", "/api/v1/trunks/peer/disable"),
    ] {
        let answer = ask(method, path, &token);
        assert!(
            answer.contains("403 Forbidden") && answer.contains("application/problem+json"),
            "{method} {path}: {answer}"
        );
    }
    let far = server.run(&["status-of-nothing"]);
    assert_eq!(far.code, 2, "a typo is a usage error");
    assert_eq!(server.run(&["calls", "--api", &web, "--token", &token]).code, 0);
    assert_eq!(server.run(&["drain", "--api", &web, "--token", &token]).code, 1);
    let dashed = server.run(&["calls", "--api", &web, "--token", "-one-in-64-begins-so"]);
    assert_eq!(dashed.code, 1, "a secret may begin with a dash: {}", dashed.err);
    assert_eq!(server.run(&["calls", "--api", "http://127.0.0.1:1"]).code, 4);
}

/// In a terminal of its own, as a person has it.
#[test]
fn top_draws_a_call_and_its_ladder_and_leaves_the_terminal_as_it_was() {
    let server = Server::start("");
    let mut trunk = Trunk::new(&server);
    trunk.call("9196");
    trunk.hang_up();
    let (screens, left) =
        in_terminal(&server, "top", &[("9196", '\r'), ("INVITE (pcmu)", 'q'), ("Calls", 'q')]);
    for (screen, wanted) in screens.iter().zip(["Trunks", "200 OK (pcmu)", "trunk:peer"]) {
        assert!(screen.contains(wanted), "{wanted} is not in\n{screen}");
    }
    assert!(left, "the terminal is as it was");
    let lost = Server::offline(&["top", "--control", "/nonexistent"]);
    assert_eq!(lost.code, 4, "{lost:?}");
}

#[test]
fn the_socket_is_its_owners_and_a_second_gateway_does_not_take_it() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start("");
    let mode = std::fs::metadata(server.socket()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let second = server.run(&["serve", "-c", server.config().to_str().expect("UTF-8")]);
    assert!(
        second.code == 1 && second.err.contains("cannot be bound")
            || second.err.contains("another gateway listens"),
        "{second:?}"
    );
    let path = server.socket();
    server.stop();
    assert!(!path.exists(), "nothing is left behind");
}
