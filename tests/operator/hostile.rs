//! What a peer writes into its headers is read, and never obeyed: not by the terminal of whoever
//! looks, not by a spreadsheet, not by the log.

use super::phone::Phone;
use super::server::Server;
use super::terminal::in_terminal;
use super::trunk::Trunk;
use webtrunk::printable::is_unsafe;

/// A title set, the screen emptied, a C1 control, a right-to-left override, nothing in width.
const ACTS: &str = "%1b]0;owned%07%1b[2J%c2%9b1m\u{202e}gpj\u{2066}%e2%80%ae\u{200b}";

/// No command prints a character that does anything but stand there.
fn expect_safe(what: &str, text: &str) {
    let found = text.chars().find(|c| is_unsafe(*c) && !matches!(c, '\n' | '\t'));
    assert!(found.is_none(), "{what} prints {found:?}: {text:?}");
}

#[test]
fn what_a_peer_writes_moves_no_terminal() {
    let server = Server::start("");
    let follower = server.follow(&["events"]);
    let _phone = Phone::register(server.web, "wt.test", "alice", "secret-a");
    let mut trunk = Trunk::new(&server);
    let from = format!("\"\u{202e}=cmd|'/C calc'!A0\u{200b}\" <sip:=1+{ACTS}@peer.test>");
    assert_eq!(trunk.invite_as("9196", &from), 200);
    trunk.hang_up();
    let number = format!("77{ACTS}");
    assert_eq!(trunk.invite_as(&number, &from), 404);
    let ended = |kind: &str| server.run(&["cdr", "tail"]).out.contains(kind);
    server.until(|| ended("9196"));
    // Until the reader of events is there.
    server.until(|| {
        assert_eq!(trunk.invite_as(&number, &from), 404);
        follower.lines().iter().any(|l| l.contains("call.refused"))
    });
    let json: serde_json::Value =
        serde_json::from_str(&server.run(&["calls", "--all", "-o", "json"]).out).expect("JSON");
    let all = json.as_array().expect("a list");
    assert!(all.len() >= 2, "{json}");
    for call in all.iter().take(3) {
        let id = call["call"].as_str().expect("an id");
        for args in [
            vec!["trace", id],
            vec!["trace", id, "--full"],
            vec!["trace", id, "--mermaid"],
            vec!["trace", id, "-o", "json"],
            vec!["trace", id, "--diff", "1,2"],
            vec!["logs", "--call", id],
        ] {
            let said = server.run(&args);
            assert_eq!(said.code, 0, "{args:?}: {said:?}");
            expect_safe(&args.join(" "), &said.out);
        }
        let svg = server.folder.join("call.svg");
        let path = svg.to_str().expect("UTF-8");
        assert_eq!(server.run(&["trace", id, "--svg", path]).code, 0);
        expect_safe("svg", &std::fs::read_to_string(&svg).expect("written"));
    }
    for args in [
        vec!["calls", "--all"],
        vec!["calls", "--all", "-o", "json"],
        vec!["calls", "--all", "-o", "jsonl"],
        vec!["cdr", "tail"],
        vec!["cdr", "tail", "-o", "json"],
        vec!["cdr", "export"],
        vec!["cdr", "export", "--format", "jsonl"],
        vec!["registrations"],
        vec!["registrations", "-o", "json"],
        vec!["trunks"],
    ] {
        expect_safe(&args.join(" "), &server.run(&args).out);
    }
    assert!(server.run(&["registrations"]).out.contains("Phone 1.0 "), "who is there");
    let csv = server.run(&["cdr", "export"]).out;
    assert!(!csv.lines().any(|l| l.split(',').any(|cell| cell.starts_with("=1"))), "{csv}");
    expect_safe("log", &server.log());
    expect_safe("events", &follower.lines().join("\n"));
    let (screens, _) =
        in_terminal(&server, "top", &[("Calls", '\r'), ("INVITE", 'q'), ("Calls", 'q')]);
    screens.iter().for_each(|screen| expect_safe("top", screen));
}

/// A log of a call at the lowest level, on which its people's secrets are looked for.
#[test]
fn no_log_holds_a_secret_or_a_digit() {
    let server = Server::start_tracing(
        "[credentials]\nsecret = \"a-secret-for-visitors-0123\"\n",
        "[[route]]\nname = \"Peer\"\nmatch = \"123\"\ndo = [{ dial = [\"trunk:peer\"] }]\n",
    );
    let password = ("WEBTRUNK_PASSWORD", "secret-a");
    let said = server.run_with(
        &["call", "9196", "--as", "alice", "--for", "2s", "--dtmf", "7412589630"],
        &[password],
    );
    assert_eq!(said.code, 0, "{said:?}");
    let mut trunk = Trunk::new(&server);
    trunk.call("9196");
    trunk.inform("application/dtmf-relay", "Signal=8\r\nDuration=160\r\n");
    trunk.hang_up();
    trunk.send("BYE x\r\n\r\n");
    server.until(|| server.log().contains("DEBUG malformed message"));
    let log = server.log();
    for secret in
        ["secret-a", "a-secret-for-visitors", "ice-pwd", "inline:", "response=\"", "Signal="]
    {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    for digits in ["7412589630", "7, 4, 1", "Signal=8"] {
        assert!(!log.contains(digits), "{digits} is in the log:\n{log}");
    }
}
