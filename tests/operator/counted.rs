//! What leaves a gateway: HEP, events and metrics.

use crate::server::Server;
use crate::trunk::Trunk;

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
    let mut phone = crate::phone::Phone::register(server.web, "wt.test", "alice", "secret-a");
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
