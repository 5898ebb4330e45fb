//! `webtrunk call` and `webtrunk bench`: calls without a browser, and their exit codes.

use crate::calls;
use crate::server::Server;

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
