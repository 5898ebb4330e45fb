//! What web applications do: begin calls, mint credentials, answer webhooks.

use crate::calls;
use crate::server::Server;
use crate::trunk::Trunk;

/// The user is not registered, so each call ends at once; what counts is who begins one, and how
/// often.
#[test]
fn a_call_nobody_dialled_begins_once_for_each_key_and_says_why_it_may_not() {
    let server = Server::start("");
    let post = |body: &str, key: &str| {
        server.control_with("POST", "/api/v1/calls", &format!("Idempotency-Key: {key}\r\n"), body)
    };
    let call = |answer: &str| {
        answer
            .split("\"call\":\"")
            .nth(1)
            .map(|c| c[..8].to_owned())
            .unwrap_or_else(|| panic!("{answer}"))
    };
    let first =
        call(&post("{\"from\":\"alice\",\"to\":\"9196\",\"tags\":{\"cart\":\"A-1\"}}", "one"));
    assert_eq!(
        call(&post("{\"from\":\"alice\",\"to\":\"9196\"}", "one")),
        first,
        "the same key, the same call"
    );
    assert_ne!(call(&post("{\"from\":\"alice\",\"to\":\"9196\"}", "two")), first);
    let shown = server.control("GET", &format!("/api/v1/calls/{first}"), "");
    assert!(
        shown.contains("nobody is registered for user:alice") && shown.contains("\"cart\":\"A-1\""),
        "{shown}"
    );
    let lost = post("{\"from\":\"alice\",\"to\":\"777\"}", "three");
    assert!(
        lost.contains("404 Not Found")
            && lost.contains("WT-1104")
            && lost.contains("no route for 777"),
        "{lost}"
    );
    assert!(post("{\"from\":\"alice\"}", "four").contains("400 Bad Request"));
    assert_eq!(calls(&server).len(), 2);
}

#[test]
fn credentials_are_minted_for_users_and_visitors_with_turn_beside_them() {
    let secret = "[credentials]\nsecret = \"0123456789abcdef0123\"\nlongest = \"1h\"\nturn = { uris = [\"turn:turn.example:3478\"], secret = \"coturns-own\" }";
    let server = Server::start(secret);
    let made: serde_json::Value = serde_json::from_str(
        &server.run(&["token", "visitor-1", "--context", "in", "--ttl", "5m"]).out,
    )
    .expect("JSON");
    let name = made["username"].as_str().expect("a name");
    assert!(
        name.ends_with(":visitor-1:in")
            && made["password"].as_str().expect("a password").len() > 40,
        "{made}"
    );
    assert_eq!(
        (made["uri"].as_str(), made["ws"].as_str()),
        (Some("sip:visitor-1@wt.test"), Some(format!("ws://wt.test:{}/sip", server.web).as_str()))
    );
    server.edit(
        "webtrunk.toml",
        "[web]",
        "[web]\npublic_url = \"https://calls.example.com/phone/\"",
    );
    assert_eq!(server.run(&["reload"]).code, 0);
    let token = server.run(&["token", "alice"]).out;
    assert!(token.contains("\"ws\": \"wss://calls.example.com/phone/sip\""), "{token}");
    assert_eq!(made["ice_servers"][0]["urls"][0], "turn:turn.example:3478");
    assert!(server.run(&["token", "alice"]).code == 0);
    for (args, why) in [
        (vec!["token", "nobody"], "there is no user \"nobody\""),
        (vec!["token", "v", "--context", "none"], "there is no dialplan \"none\""),
        (vec!["token", "alice", "--ttl", "2h"], "raise credentials.longest"),
        (vec!["token", "a:b", "--context", "in"], "cannot be a name"),
    ] {
        let refused = server.run(&args);
        assert!(refused.code == 1 && refused.err.contains(why), "{refused:?}");
    }
    let shown = server.control("GET", "/api/v1/config", "");
    assert!(!shown.contains("0123456789abcdef0123") && !shown.contains("coturns-own"));
}

#[test]
fn a_web_application_gets_signed_events_and_route_requests() {
    let shop = crate::shop::Shop::open();
    let hook = format!(
        "url = \"http://{}/voice\", secret = \"0123456789abcdef0123\", allow_private = true",
        shop.at
    );
    let server = Server::start_with(
        "",
        &hook,
        "[[route]]\nname = \"Ask\"\nmatch = \"700\"\ndo = [{ webhook = \"http://SHOP/route\", secret = \"0123456789abcdef0123\", allow_private = true, timeout = \"2s\" }, { hangup = 486 }]\n[[route]]\nname = \"Ask inside\"\nmatch = \"701\"\ndo = [{ webhook = \"https://127.0.0.1:1/x\", secret = \"0123456789abcdef0123\" }, { hangup = 486 }]\n",
        &shop,
    );
    let mut trunk = Trunk::new(&server);
    shop.answer_with("{\"do\": [{\"echo\": true}], \"tags\": {\"cart\": \"A-1\"}}");
    trunk.call("700");
    trunk.hang_up();
    server.until(|| shop.got().iter().any(|r| r.contains("call.ended") && r.contains("A-1")));
    let got = shop.got();
    let asked = got.iter().find(|r| r.starts_with("POST /route")).expect("it was asked");
    assert!(
        asked.contains("\"type\":\"call.route\"") && asked.contains("\"number\":\"700\""),
        "{asked}"
    );
    for request in &got {
        let header = |name: &str| {
            request
                .lines()
                .find_map(|l| l.strip_prefix(&format!("{name}: ")))
                .unwrap_or_else(|| panic!("no {name} in {request}"))
                .to_owned()
        };
        let body = request.split_once("\r\n\r\n").expect("a body").1;
        let expected = webtrunk::webhook::signature(
            "0123456789abcdef0123",
            &header("webhook-id"),
            header("webhook-timestamp").parse().expect("seconds"),
            body,
        );
        assert_eq!(header("webhook-signature"), expected);
    }
    let list = || {
        let answer = server.control("GET", "/api/v1/webhooks", "");
        serde_json::from_str::<serde_json::Value>(answer.split_once("\r\n\r\n").expect("a body").1)
            .expect("JSON")
    };
    server.until(|| list()[0]["state"] == "delivered");
    server.counts(&["webtrunk_webhook_delivered_total "]);
    let (id, before) = (list()[0]["id"].as_str().expect("an id").to_owned(), shop.got().len());
    assert!(
        server
            .control("POST", &format!("/api/v1/webhooks/{id}/resend"), "")
            .contains("\"sent\":true")
    );
    server.until(|| shop.got().len() > before);
    assert!(
        shop.got().last().expect("it came").contains(&format!("webhook-id: {id}")),
        "by its own id again"
    );
    assert!(server.control("POST", "/api/v1/webhooks/none/resend", "").contains("404"));
    shop.answer_with("nonsense");
    assert_eq!(trunk.invite("700"), 486, "the next step takes the call");
    assert_eq!(trunk.invite("701"), 486, "a target within this network is refused");
    assert!(
        server.run(&["logs", "--call", "last"]).out.contains("127.0.0.1 is within this network")
    );
    assert!(server.metrics().contains("webtrunk_webhook_failed_total{kind=\"route\"} 1"));
    assert!(server.metrics().contains("webtrunk_webhook_seconds_count{kind=\"event\"}"));
}
