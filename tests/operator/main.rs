//! A real `webtrunk serve`, and everything an operator does with it: every subcommand, route, event
//! and metric.

mod api;
mod certificates;
mod cluster;
mod console;
mod floods;
mod hostile;
mod lists;
mod logins;
mod oidc;
mod openmetrics;
mod phone;
#[path = "../calls/plain.rs"]
mod plain;
mod proxies;
mod records;
mod restart;
mod server;
mod upgrade;

use server::{Server, Trunk};

/// The ids of `webtrunk calls --all -o json`, the newest first.
fn calls(server: &Server) -> Vec<serde_json::Value> {
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
fn homer_gets_every_message_with_its_secrets_masked() {
    let homer = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    homer.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("set");
    let server = Server::start_copying(homer.local_addr().expect("an address"));
    let mut trunk = Trunk::new(&server);
    trunk.call("9196");
    trunk.hang_up();
    let mut buf = [0; 65_536];
    let mut seen = Vec::new();
    while !seen.iter().any(|m: &String| m.contains("SIP/2.0 200 OK") && m.contains("CSeq: 3 BYE")) {
        let n = homer.recv(&mut buf).unwrap_or_else(|e| panic!("{e}: {seen:?}"));
        assert!(buf.starts_with(b"HEP3") && usize::from(u16::from_be_bytes([buf[4], buf[5]])) == n);
        seen.push(String::from_utf8_lossy(&buf[..n]).into_owned());
    }
    for wanted in ["INVITE sip:9196", "SIP/2.0 100 Trying", "ACK sip:", "BYE sip:"] {
        assert!(seen.iter().any(|m| m.contains(wanted)), "{wanted}: {seen:?}");
    }
}

/// What the metrics of two calls, one of them refused, have in them.
const SERIES: [&str; 25] = [
    "webtrunk_build_info{version=",
    "webtrunk_up 1",
    "webtrunk_draining 0",
    "webtrunk_calls_total{direction=\"inbound\",trunk=\"peer\",outcome=\"success\"} 1",
    "webtrunk_calls_refused_total{code=\"WT-1104\"} 1",
    "webtrunk_trunk_up{trunk=\"peer\"} 1",
    "webtrunk_call_duration_seconds_count",
    "webtrunk_trunk_calls{trunk=\"peer\"} 0",
    "webtrunk_sip_requests_total{method=\"INVITE\",transport=\"udp\",direction=\"in\"} 2",
    "webtrunk_sip_responses_total{code=\"404\",direction=\"out\"} 1",
    "webtrunk_recorder_calls 2",
    "webtrunk_media_ports{state=\"free\"}",
    "webtrunk_media_ports{state=\"draining\"}",
    "webtrunk_rtp_reordered_total{leg=\"a\"} 0",
    "webtrunk_rtp_duplicate_total{leg=\"a\"} 0",
    "webtrunk_rtp_late_total{leg=\"a\"} 0",
    "webtrunk_media_silent_calls_total 0",
    "webtrunk_sip_retransmissions_total{transport=\"udp\"}",
    "webtrunk_registrations{transport=\"ws\"} 0",
    "webtrunk_media_tick_late_seconds_bucket{le=\"+Inf\"}",
    "webtrunk_ice_connect_seconds_count",
    "webtrunk_dtls_handshake_seconds_count",
    "# {call=\"",
    "webtrunk_config_last_reload_success_timestamp_seconds",
    "# EOF",
];

#[test]
fn events_come_as_they_happen_and_metrics_count_them() {
    let server = Server::start("");
    let events = server.follow(&["events", "--type", "call.*,trunk.*"]);
    // It listens once something of ours has come back by it.
    server.until(|| {
        server.run(&["trunks", "disable", "peer"]);
        server.run(&["trunks", "enable", "peer"]);
        !events.lines().is_empty()
    });
    let mut trunk = Trunk::new(&server);
    trunk.call("9196");
    trunk.hang_up();
    assert_eq!(trunk.invite("777"), 404);
    // A session is closed a moment after its call, and the record waits for it.
    server.until(|| {
        ["call.refused", "call.ended"]
            .iter()
            .all(|kind| events.lines().iter().any(|l| l.contains(kind)))
    });
    let kinds: Vec<String> = events
        .lines()
        .iter()
        .map(|l| {
            serde_json::from_str::<serde_json::Value>(l).expect("JSON")["type"]
                .as_str()
                .expect("a type")
                .to_owned()
        })
        .collect();
    for wanted in ["call.started", "call.answered", "call.ended", "call.refused"] {
        assert!(kinds.iter().any(|k| k == wanted), "{wanted} is not in {kinds:?}");
    }
    let metrics = server.metrics();
    for wanted in SERIES {
        assert!(metrics.contains(wanted), "{wanted} is not in\n{metrics}");
    }
    // Names and labels only: a sum of seconds may well be 0.000777.
    let series: Vec<&str> = metrics
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.rsplit_once(' '))
        .map(|(series, _)| series)
        .collect();
    for never in ["9196", "777", "127.0.0.1"] {
        assert!(
            !series.iter().any(|s| s.contains(never)),
            "{never} must not be a label\n{metrics}"
        );
    }
}

/// The peer answers and sends nothing, and the disk is full; beside it a call long enough for both
/// sides' reports.
#[test]
fn a_silent_far_end_and_a_full_disk_are_counted() {
    let server = Server::start_with_a_full_disk(
        "[[route]]\nname = \"Out\"\nmatch = \"802\"\ndo = [{ dial = [\"trunk:peer\"] }]\n",
    );
    let far = Trunk::new(&server).take_silently();
    let called = std::thread::scope(|scope| {
        let call = scope.spawn(|| {
            server.run(&["call", "802", "--as", "alice", "--password", "secret-a", "--for", "7s"])
        });
        let long = scope.spawn(|| {
            server.run(&["call", "9196", "--as", "alice", "--password", "secret-a", "--for", "16s"])
        });
        server.counts(&[
            "webtrunk_transcodes{from=\"opus\",to=\"PCMU\"} 1",
            "webtrunk_trunk_calls{trunk=\"peer\"} 1",
            "webtrunk_trunk_calls_limit{trunk=\"peer\"} 7",
            "webtrunk_registrations{transport=\"ws\"} ",
            "webtrunk_flows 2",
        ]);
        assert_eq!(long.join().expect("it ended").code, 0);
        call.join().expect("it ended")
    });
    far.join().expect("it was hung up on");
    assert!(called.out.contains("✓ answered"), "{called:?}");
    server.counts(&[
        "webtrunk_one_way_calls_total{silent_leg=\"trunk\"} 1",
        "webtrunk_call_faults_total{code=\"WT-3011\"} 1",
        "webtrunk_cdr_dropped_total{sink=\"file\"} 0",
        "webtrunk_cdr_waiting{sink=\"file\"} 2",
        "webtrunk_flows 0",
        "webtrunk_post_dial_delay_seconds_count{trunk=\"peer\"} 1",
        "webtrunk_call_setup_seconds_count{trunk=\"peer\"} 1",
        "webtrunk_rtp_jitter_seconds_count{leg=\"a\"} 2",
        // A leg that sent nothing has none.
        "webtrunk_rtp_jitter_seconds_count{leg=\"b\"} 0",
        "webtrunk_rtp_round_trip_seconds_count{leg=\"a\"} 1",
        "webtrunk_recorder_memory_bytes ",
        "webtrunk_sip_transactions ",
        "webtrunk_sip_dropped ",
        "webtrunk_certificate_expiry_timestamp_seconds 0",
        "webtrunk_dtls_failed_total 0",
        "webtrunk_webhook_dead_total 0",
    ]);
}

/// A phone answers, and its media never gets through.
#[test]
fn a_browser_that_never_connects_is_counted() {
    let route = "[[route]]\nname = \"Ring\"\nmatch = \"800\"\ndo = [{ ring = [\"user:alice\"], timeout = \"5s\" }]\n";
    let server = Server::start_with_routes(route);
    let mut phone = phone::Phone::register(server.web, "wt.test", "alice", "secret-a");
    let answering = std::thread::spawn(move || {
        let invite = phone.hear("INVITE");
        phone.answer(&invite);
        let bye = phone.hear("BYE");
        phone.reply(&bye, 200);
        phone
    });
    let mut trunk = Trunk::new(&server);
    trunk.call("800");
    trunk.hang_up();
    drop(answering.join().expect("it was hung up on"));
    server.counts(&["webtrunk_ice_failed_total{reason=\"no_checks\"} 1"]);
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

/// Answered and silent is not fine, whatever the statuses say.
#[test]
fn a_test_call_that_hears_nothing_exits_5() {
    let routes = "[[route]]\nname = \"Mute\"\nmatch = \"700\"\ndo = [{ answer = true }, \
                  { play = \"silence.wav\" }]\n";
    let server = Server::start_with_silence(routes);
    let said = server.run(&[
        "call",
        "700",
        "--as",
        "alice",
        "--password",
        "secret-a",
        "--for",
        "2s",
        "-o",
        "json",
    ]);
    assert_eq!(said.code, 5, "{said:?}");
    let output: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert!(output["sip_code"] == 200 && output["heard"] == false, "{output}");
}

#[test]
fn a_test_call_talks_and_listens_and_its_exit_code_says_how_it_was() {
    let server = Server::start("[credentials]\nsecret = \"0123456789abcdef0123\"");
    let wav = server.folder.join("o.wav");
    let good = server.run(&[
        "call",
        "9196",
        "--for",
        "3s",
        "--dtmf",
        "12",
        "--min-mos",
        "4",
        "--record",
        wav.to_str().expect("UTF-8"),
    ]);
    assert_eq!(good.code, 0, "{good:?}");
    for wanted in [
        "✓ answered",
        "✓ media         opus",
        "✓ hung up       by this side",
        "E-model G.107, estimated",
    ] {
        assert!(good.out.contains(wanted), "{wanted} is not in {good:?}");
    }
    let mut reader = hound::WavReader::open(&wav).expect("a WAV file");
    let samples: Vec<i16> = reader.samples::<i16>().map(|s| s.expect("a sample")).collect();
    let them: Vec<f64> = samples.iter().skip(1).step_by(2).map(|s| f64::from(*s)).collect();
    let middle = &them[them.len() / 2..them.len() / 2 + 4_000];
    let crossings = middle.windows(2).filter(|w| w[0] < 0.0 && w[1] >= 0.0).count();
    assert!((210..=230).contains(&crossings), "440 Hz come back: {crossings} in half a second");
    let bad = server.run(&[
        "call",
        "9196",
        "--for",
        "3s",
        "--loss",
        "25",
        "--min-mos",
        "4",
        "-o",
        "json",
    ]);
    assert_eq!(bad.code, 6, "{bad:?}");
    let output: serde_json::Value = serde_json::from_str(&bad.out).expect("JSON");
    assert!(
        output["mos_out_estimated"].as_f64().expect("a score") < 4.0 && output["sip_code"] == 200,
        "{output}"
    );
    let refused = server.run(&["call", "777"]);
    assert!(
        refused.code == 5 && refused.out.contains("WT-1104") && refused.out.contains("Fix:"),
        "{refused:?}"
    );
    let narrow = server.run(&["call", "9196", "--for", "1s", "--codec", "pcmu", "-o", "json"]);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&narrow.out).expect("JSON")["codec"],
        "PCMU"
    );
    assert!(refused.out.contains("webtrunk trace"), "{refused:?}");
    let wrong = server.run(&["call", "9196", "--as", "alice", "--password", "wrong"]);
    assert!(wrong.code == 5 && wrong.out.contains("wrong user or password"), "{wrong:?}");
    server.counts(&[
        "webtrunk_call_mos_count{leg=\"a\",codec=\"opus\"} 2",
        "webtrunk_ice_connect_seconds_count 3",
        "webtrunk_dtls_handshake_seconds_count 3",
        "webtrunk_login_refused_total ",
        "webtrunk_rtp_packets_total{leg=\"a\",direction=\"in\"} ",
        "webtrunk_rtp_lost_total{leg=\"a\"} ",
    ]);
}

/// Over TLS by the domain's name, with the gateway's own authority trusted and without it.
/// Straight to a trunk, by no dialplan; over a network that is worse than it is; and with a voice
/// whose echo is looked for.
#[test]
fn a_test_call_goes_straight_to_a_trunk_and_hears_its_own_speech() {
    let far = Server::start_far();
    let server = Server::start(&format!(
        "[trunk.far]\nuri = \"sip:127.0.0.1:{}\"\ncodecs = [\"pcmu\"]\n",
        far.sip
    ));
    let said = server.run(&[
        "call",
        "9196",
        "--via",
        "trunk:far",
        "--speech",
        "--for",
        "6s",
        "--jitter",
        "20ms",
        "-o",
        "json",
    ]);
    let output: serde_json::Value =
        serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    assert_eq!((said.code, output["sip_code"].as_u64()), (0, Some(200)), "{output}");
    assert!(
        output["echo_likeness"].as_f64().is_some_and(|l| l > 0.6)
            && output["echo_ms"].as_f64().is_some_and(|ms| (1.0..600.0).contains(&ms)),
        "{output}"
    );
    let all = calls(&server);
    assert!(
        all.iter().any(|c| c["route"] == "straight to far" && c["with"] == "trunk:far"),
        "{all:?}"
    );
    let none = server.run(&["call", "9196", "--via", "trunk:nobody", "--for", "1s"]);
    assert!(none.code != 0 && none.err.contains("@nobody"), "{none:?}");
    let made = Server::offline(&["api-token", "shop", "--scope", "write"]);
    let lines = made.err.split("reload`:").nth(1).expect("the lines to paste").to_owned();
    let server = Server::start(&lines);
    let answer = server.http_with(
        "POST",
        "/api/v1/credentials",
        made.out.trim(),
        "{\"user\":\"x\",\"context\":\"@peer\"}",
    );
    assert!(answer.contains("403 Forbidden"), "not for those who write no dialplans: {answer}");
}

/// Two calls for a second: that it starts its own gateway and far end, calls, and tells their
/// figures.
#[test]
fn a_bench_reports_what_calls_cost_and_where_the_knee_is() {
    let said =
        Server::offline(&["bench", "--calls", "2", "--for", "1s", "--codec", "pcmu", "-o", "json"]);
    let output: serde_json::Value =
        serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    assert_eq!((said.code, output["steps"][0]["calls"].as_u64()), (0, Some(2)), "{output}");
    assert!(output["fine_calls"] == 2 || output["why"].is_string(), "{output}");
    let server = Server::start("");
    let against = Server::offline(&[
        "bench",
        "--calls",
        "1",
        "--for",
        "1s",
        "--against",
        &format!("ws://127.0.0.1:{}/sip", server.web),
        "alice",
        "secret-a",
        "9196",
        "-o",
        "json",
    ]);
    let output: serde_json::Value =
        serde_json::from_str(&against.out).unwrap_or_else(|e| panic!("{e}: {against:?}"));
    assert_eq!(output["steps"][0]["answered"], 1, "{output}");
}

#[test]
fn a_test_call_goes_over_tls_where_the_certificate_is_trusted() {
    let server = Server::start_secure("[credentials]\nsecret = \"0123456789abcdef0123\"");
    let authority = server.folder.join("local-ca/ca.pem");
    let control = server.socket();
    let args = ["call", "9196", "--for", "1s", "--control", control.to_str().expect("UTF-8")];
    let trusted =
        Server::offline_with(&args, &[("SSL_CERT_FILE", authority.to_str().expect("UTF-8"))]);
    assert_eq!(trusted.code, 0, "{trusted:?}");
    let stranger = Server::offline(&args);
    assert!(
        stranger.code == 1 && stranger.err.contains("certificate is not accepted"),
        "{stranger:?}"
    );
}

/// In a terminal of its own, as a person has it.
#[test]
fn top_draws_a_call_and_its_ladder_and_leaves_the_terminal_as_it_was() {
    let server = Server::start("");
    let mut trunk = Trunk::new(&server);
    trunk.call("9196");
    trunk.hang_up();
    let (screens, left) =
        server.in_terminal("top", &[("9196", '\r'), ("INVITE (pcmu)", 'q'), ("Calls", 'q')]);
    for (screen, wanted) in screens.iter().zip(["Trunks", "200 OK (pcmu)", "trunk:peer"]) {
        assert!(screen.contains(wanted), "{wanted} is not in\n{screen}");
    }
    assert!(left, "the terminal is as it was");
    let lost = Server::offline(&["top", "--control", "/nonexistent"]);
    assert_eq!(lost.code, 4, "{lost:?}");
}

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
    let shop = server::Shop::open();
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

/// What `init` wrote for FreeSWITCH into `dir` names this machine, and REFER is executed here.
fn expect_freeswitch_files(dir: &str) {
    let own = webtrunk::config::check::own_address().to_string();
    for (file, place) in [
        ("gateway", format!("<param name=\"proxy\" value=\"{own}:5060\"/>")),
        ("public", format!("expression=\"^{}$\"", own.replace('.', "\\."))),
        ("default", "data=\"sofia/gateway/webtrunk/$1\"".into()),
        ("acl", format!("cidr=\"{own}/32\"")),
    ] {
        let text = std::fs::read_to_string(format!("{dir}/freeswitch-{file}.xml"));
        let text = text.expect("init writes it");
        assert!(text.contains(&place) && !text.contains("10.88"), "{file}: {text}");
    }
    let config = std::fs::read_to_string(format!("{dir}/webtrunk.toml"));
    assert!(config.expect("init writes it").contains("refer   = \"execute\""));
}

/// What `ports` says of a configuration, and the firewall commands it prints.
fn expect_ports(config: &str) {
    let ports = Server::offline(&["ports", "-c", config]).out;
    let words: Vec<Vec<&str>> =
        ports.lines().map(|l| l.split_whitespace().take(2).collect()).collect();
    for wanted in [["tcp", "8088"], ["udp", "20000-29999"], ["udp", "5060"]] {
        assert!(words.contains(&wanted.to_vec()), "{ports}");
    }
    assert!(
        Server::offline(&["ports", "-c", config, "--ufw"])
            .out
            .contains("ufw allow 20000:29999/udp")
    );
    assert!(
        Server::offline(&["ports", "-c", config, "--nft"])
            .out
            .contains("udp dport 20000-29999 accept")
    );
}

#[test]
fn what_needs_no_gateway_works_without_one() {
    let folder = server::folder("offline");
    let at = folder.to_str().expect("UTF-8");
    for peer in ["asterisk", "freeswitch", "twilio", "telnyx", "generic"] {
        let dir = format!("{at}/{peer}");
        let secrets = [("TELNYX_PASSWORD", "x"), ("TWILIO_PASSWORD", "x")];
        let made = Server::offline_with(&["init", "--trunk", peer, "--dir", &dir], &secrets);
        assert_eq!(made.code, 0, "{made:?}");
        let checked = Server::offline_with(
            &["check-config", "-c", &format!("{dir}/webtrunk.toml")],
            &secrets,
        );
        assert_eq!(checked.code, 0, "{peer}: {checked:?}");
        if peer == "freeswitch" {
            expect_freeswitch_files(&dir);
        }
        let again = Server::offline(&["init", "--trunk", peer, "--dir", &dir]);
        assert!(again.code == 1 && again.err.contains("is not overwritten"), "{again:?}");
    }
    let config = format!("{at}/asterisk/webtrunk.toml");
    expect_ports(&config);
    let doctor = Server::offline(&["doctor", "-c", &config]);
    let test =
        |args: &[&str]| Server::offline(&[&["dialplan", "test"], args, &["-c", &config]].concat());
    let routed = test(&["(206) 555-0123", "--as", "user:alice"]);
    for wanted in [
        "+12065550123   (US)",
        "✓ Home",
        "INVITE sip:+12065550123@10.0.0.20:5060",
        "caller id +12065550111",
    ] {
        assert!(routed.out.contains(wanted), "{wanted} is not in {routed:?}");
    }
    let jamaica = test(&["+1 876 555 0123"]);
    assert!(
        jamaica.code == 1
            && jamaica.out.contains("the caller gets 403: it lies in JM, and region allows US, CA"),
        "{jamaica:?}"
    );
    assert!(test(&["911", "--at", "2026-12-25T10:00:00Z"]).out.contains("✓ Emergency"));
    let online = Server::offline(&["check-config", "-c", &config, "--online"]);
    assert!(
        online.out.contains("fine. 1 user, 1 trunk,") && online.out.contains("Opus: libopus"),
        "{online:?}"
    );
    assert!(
        doctor.out.contains("Opus: libopus")
            && doctor.out.contains("trunk asterisk is at 10.0.0.20:5060"),
        "{doctor:?}"
    );
    for shell in ["bash", "zsh", "fish"] {
        assert!(Server::offline(&["completions", shell]).out.contains("webtrunk"));
    }
    assert!(Server::offline(&["man"]).out.contains(".TH webtrunk"));
    let lost = Server::offline(&["calls", "--control", "/nonexistent/control.sock"]);
    assert!(lost.code == 4 && lost.err.contains("start one with `webtrunk serve`"), "{lost:?}");
    let help = Server::offline(&["--help"]).out;
    for command in ["calls", "trace", "trunks", "drain", "reload", "doctor", "init", "explain"] {
        assert!(help.contains(command), "{command}");
    }
}

/// `Type=notify`, and the unit, dashboard and alerts name only what there is.
#[test]
fn systemd_is_notified_and_what_we_ship_for_operators_is_true() {
    let folder = server::folder("notify");
    let path = folder.join("notify.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("set");
    let server = Server::start_notifying(&path);
    let mut buf = [0; 64];
    let said = |buf: &mut [u8; 64]| loop {
        let n = socket.recv(buf).expect("a notification");
        let output = String::from_utf8_lossy(&buf[..n]).into_owned();
        // Notifications of sockets to keep come in between.
        if !output.starts_with("FDSTORE") {
            break output;
        }
    };
    assert_eq!(said(&mut buf), "READY=1");
    server.stop();
    assert_eq!(said(&mut buf), "STOPPING=1");
    let read = |name: &str| {
        std::fs::read_to_string(
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(name),
        )
        .expect("it is shipped")
    };
    let (dashboard, alerts, unit) = (
        read("grafana/webtrunk.json"),
        read("grafana/alerts.yml"),
        read("systemd/webtrunk.service"),
    );
    let exposition = webtrunk::api::metrics::NodeMetrics::touched().text();
    let registered: Vec<&str> = exposition
        .lines()
        .filter_map(|l| l.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, _)| name)
        .collect();
    let all = format!("{dashboard}{alerts}");
    let names = all.match_indices("webtrunk_").map(|(at, _)| {
        all[at..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().expect("a word")
    });
    for name in names {
        let base = ["_bucket", "_sum", "_count", "_total"]
            .iter()
            .fold(name, |n, end| n.strip_suffix(end).unwrap_or(n));
        assert!(registered.contains(&base), "{name} is no metric of ours: {registered:?}");
    }
    for command in unit
        .lines()
        .filter_map(|l| l.split_once("=/usr/bin/webtrunk "))
        .map(|(_, c)| c.split(' ').next().expect("a command"))
    {
        assert_eq!(Server::offline(&[command, "--help"]).code, 0, "{command}");
    }
    assert!(unit.contains("Type=notify"));
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

#[test]
fn the_manual_names_only_pages_that_it_has() {
    let place = server::folder("manual");
    let said = Server::offline(&["man", "--dir", place.to_str().expect("UTF-8")]);
    assert_eq!(said.code, 0, "{said:?}");
    let pages: std::collections::BTreeMap<String, String> = std::fs::read_dir(&place)
        .expect("a folder")
        .map(|e| e.expect("an entry").path())
        .map(|p| {
            let name = p.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(p).expect("readable"))
        })
        .collect();
    assert!(pages.len() > 40 && pages.contains_key("webtrunk-user-add.1"), "{:?}", pages.keys());
    for (page, text) in &pages {
        // As roff has it: webtrunk\-dialplan\-test(1).
        let text = text.replace('\\', "");
        for (at, _) in text.match_indices("(1)") {
            let start = text[..at].rfind(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            let named = &text[start.map_or(0, |s| s + 1)..at];
            assert!(pages.contains_key(&format!("{named}.1")), "{page} names {named}(1)");
        }
    }
}
