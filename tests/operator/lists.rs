//! Calls found again, in every list: by number, by name, by when and by what became of them.

use crate::server::Server;
use crate::terminal::in_narrow_terminal;
use crate::trunk::Trunk;
use serde_json::Value;

/// The items of a page, and the query of the next.
fn page(server: &Server, path: &str) -> (Vec<Value>, Option<String>) {
    let answer = server.control("GET", &format!("/api/v1{path}"), "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    let link = head.lines().find_map(|l| l.strip_prefix("link: <")?.split_once(">; rel=\"next\""));
    (serde_json::from_str(body).expect("JSON"), link.map(|(query, _)| query.to_owned()))
}

/// Two calls that were answered, one that was refused, and an active one.
fn with_calls() -> (Server, Trunk) {
    let server = Server::start_with_database();
    let mut trunk = Trunk::new(&server);
    for _ in 0..2 {
        trunk.call("9196");
        trunk.hang_up();
    }
    assert_eq!(trunk.invite("777"), 404);
    trunk.call("9196");
    server.until(|| page(&server, "/cdr").0.len() == 2);
    (server, trunk)
}

#[test]
fn calls_and_records_are_found_by_number_name_time_and_outcome() {
    let (server, mut trunk) = with_calls();
    for (query, calls, records) in [
        ("", 4, 2),
        ("number=919", 3, 2),
        ("number=%2B49%2030", 4, 2),
        ("number=(77)", 1, 0),
        ("number=12065550100", 0, 0),
        ("name=lovelace", 4, 2),
        ("name=grace", 0, 0),
        ("user=alice", 0, 0),
        ("trunk=peer", 4, 2),
        ("trunk=other", 0, 0),
        ("outcome=success", 2, 2),
        ("outcome=busy", 0, 0),
        ("outcome=refused", 1, 0),
        ("code=wt-1104", 1, 0),
        ("code=WT-3015", 2, 2),
        ("since=1h", 4, 2),
        ("since=2020-01-01&until=2021", 0, 0),
        ("until=1h", 0, 0),
        ("since=2020&outcome=success&number=4930", 2, 2),
        ("search=ada", 4, 2),
        ("search=777", 1, 0),
        ("search=9'%20OR%20'1'='1", 0, 0),
    ] {
        assert_eq!(page(&server, &format!("/calls?{query}")).0.len(), calls, "calls: {query}");
        assert_eq!(page(&server, &format!("/cdr?{query}")).0.len(), records, "records: {query}");
    }
    for odd in [
        "since=yesterday",
        "outcome=fine",
        "code=oops",
        "limit=0",
        "nummer=1",
        "cursor=x",
        "limit=-1",
    ] {
        for path in ["calls", "cdr"] {
            let answer = server.control("GET", &format!("/api/v1/{path}?{odd}"), "");
            assert!(answer.starts_with("HTTP/1.1 400"), "{path} {odd}: {answer}");
        }
    }
    let listed = |args: &[&str]| server.run(args).out.lines().count().saturating_sub(1);
    assert_eq!(listed(&["calls"]), 1);
    assert_eq!(listed(&["calls", "--all"]), 4);
    assert_eq!(listed(&["calls", "--number", "919"]), 1);
    assert_eq!(listed(&["calls", "--outcome", "success", "--since", "1h"]), 2);
    assert_eq!(listed(&["calls", "--code", "WT-1104", "--name", "Ada"]), 1);
    assert_eq!(listed(&["calls", "--all", "--until", "1h"]), 0);
    assert_eq!(listed(&["cdr", "export", "--number", "+4930", "--since", "1h"]), 2);
    assert_eq!(listed(&["cdr", "export", "--code", "WT-1104"]), 0);
    assert_eq!(listed(&["cdr", "tail", "--name", "ada"]), 2);
    let log = server.log();
    let ended = "trunk:peer (+4930 \"Ada Lovelace\") → 9196  ended by caller";
    assert!(log.contains(ended), "{log}");
    assert!(log.contains("trunk peer (+4930 \"Ada Lovelace\") → 9196  route"), "{log}");
    assert!(log.contains("(+4930 \"Ada Lovelace\") → sip:777"), "{log}");
    trunk.hang_up();
}

#[test]
fn a_list_is_whole_page_by_page_or_says_what_it_leaves_out() {
    let (server, mut trunk) = with_calls();
    for (path, all) in [("/calls?trunk=peer&limit=1", 4), ("/cdr?limit=1&number=9196", 2)] {
        let (mut ids, mut next) = (Vec::new(), Some(path.to_owned()));
        while let Some(path) = next.take() {
            let (items, link) = page(&server, &path);
            assert!(items.len() <= 1, "{items:?}");
            ids.extend(items.iter().map(|c| c["call"].as_str().expect("an id").to_owned()));
            let base = path.split('?').next().expect("a path");
            next = link.map(|query| format!("{base}{query}"));
        }
        let distinct: std::collections::BTreeSet<&String> = ids.iter().collect();
        assert_eq!((ids.len(), distinct.len()), (all, all), "{path}: {ids:?}");
    }
    let cut = server.run(&["calls", "--all", "-n", "2"]);
    assert_eq!(cut.out.lines().count(), 3, "{cut:?}");
    assert!(cut.err.contains("the newest 2; there are more"), "{cut:?}");
    let whole = server.run(&["calls", "--all", "-n", "4"]);
    assert!(whole.err.is_empty() && whole.out.lines().count() == 5, "{whole:?}");
    trunk.hang_up();
}

/// As an operator has it: nothing wraps in a terminal of eighty columns.
#[test]
fn a_list_of_calls_fits_eighty_columns() {
    let (server, mut trunk) = with_calls();
    for command in ["calls --all", "cdr tail", "trunks"] {
        let shown = in_narrow_terminal(&server, command);
        assert!(!shown.is_empty());
        for line in shown.lines() {
            assert!(line.chars().count() <= 80, "{command}: {line:?}");
        }
    }
    let shown = in_narrow_terminal(&server, "calls --all");
    assert!(
        shown.contains("START UTC") && shown.contains("+4930 Ada") && shown.contains("WT-1104"),
        "{shown}"
    );
    trunk.hang_up();
}
