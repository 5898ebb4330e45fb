//! What works without a gateway, and what is shipped beside it.

use crate::server::Server;

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

/// The steps that `init` printed are pasted into a shell, as far as they need no peer.
fn expect_steps(peer: &str, printed: &str) {
    let steps: Vec<&str> = printed.lines().filter_map(|l| l.strip_prefix("      ")).collect();
    let typed = |step: &&&str| step.starts_with("read ") || step.contains(" check-config");
    let typed: Vec<&str> = steps.iter().filter(typed).copied().collect();
    let path = std::path::Path::new(env!("CARGO_BIN_EXE_webtrunk")).parent().expect("a folder");
    let mut shell = std::process::Command::new("bash")
        .args(["-ec", &typed.join("\n")])
        .env("PATH", format!("{}:{}", path.display(), std::env::var("PATH").unwrap_or_default()))
        .env_remove("TELNYX_PASSWORD")
        .env_remove("TWILIO_PASSWORD")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("bash");
    let mut keys = shell.stdin.take().expect("piped");
    std::io::Write::write_all(&mut keys, b"the carrier's password\n").expect("typed");
    let done = shell.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("fine."), "{peer}: {typed:?}: {said}");
    let carrier = matches!(peer, "twilio" | "telnyx");
    assert_eq!(typed.len(), if carrier { 2 } else { 1 }, "{peer}: {printed}");
    assert!(steps.iter().any(|step| step.starts_with("webtrunk trunks probe ")), "{printed}");
}

/// A flag that would write a file nobody can read is refused, and so is a country that only has
/// another's emergency numbers.
#[test]
fn init_writes_nothing_from_flags_that_are_wrong() {
    let folder = crate::server::Folder::new("flags");
    let dir = folder.join("made");
    let at = dir.to_str().expect("UTF-8");
    for (flags, code, said) in [
        (["--number", "0301234567"], 2, "E.164"),
        (["--number", "+4532123456"], 1, "no dialplan for \"DK\" yet"),
        (["--host", "a\"b"], 2, "such as 10.0.0.20:5080"),
        (["--domain", "https://calls.example.com"], 2, "no scheme"),
    ] {
        let refused = Server::offline(&[&["init", "--dir", at], &flags[..]].concat());
        assert!(refused.code == code && refused.err.contains(said), "{flags:?}: {refused:?}");
        assert!(!dir.exists(), "{flags:?}");
    }
    let both = ["init", "--dir", at, "--number", "+4532123456", "--country", "DE"];
    assert_eq!(Server::offline(&both).code, 0);
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
    let folder = crate::server::Folder::new("offline");
    let at = folder.to_str().expect("UTF-8");
    for peer in ["asterisk", "freeswitch", "twilio", "telnyx", "generic"] {
        let dir = format!("{at}/{peer}");
        let made = Server::offline(&["init", "--trunk", peer, "--dir", &dir]);
        assert_eq!(made.code, 0, "{made:?}");
        expect_steps(peer, &made.out);
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
    let folder = crate::server::Folder::new("notify");
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

/// By default systemd gives up after five starts in 10 s.
#[test]
fn the_unit_starts_it_again_however_often_it_dies() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let unit = std::fs::read_to_string(file.join("interop/systemd/webtrunk.service"));
    let unit = unit.expect("it is shipped");
    let (first, service) = unit.split_once("[Service]").expect("a section");
    assert!(first.lines().any(|line| line == "StartLimitIntervalSec=0"), "{first}");
    let of = |key: &str| {
        let mut lines = service.lines().filter_map(|line| line.split_once('='));
        lines.find(|(name, _)| *name == key).map(|(_, value)| value)
    };
    assert_eq!((of("Restart"), of("RestartSec")), (Some("on-failure"), Some("100ms")));
    // Longer than it takes the process to find out on its own.
    let seconds = of("WatchdogSec").and_then(|s| s.parse::<u32>().ok()).expect("seconds");
    assert!((10..=60).contains(&seconds), "{seconds}");
    // All their names are in one variable of the environment, which has room for 128 kB.
    let most: usize = of("FileDescriptorStoreMax").and_then(|n| n.parse().ok()).expect("a number");
    let of_pair = "rtp-65535:rtcp-65535:".len();
    assert!(most / 2 * of_pair < 128 << 10, "{most}");
}

#[test]
fn the_manual_names_only_pages_that_it_has() {
    let place = crate::server::Folder::new("manual");
    let said = Server::offline(&["man", "--dir", place.to_str().expect("UTF-8")]);
    assert_eq!(said.code, 0, "{said:?}");
    let pages: std::collections::BTreeMap<String, String> = std::fs::read_dir(&*place)
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
