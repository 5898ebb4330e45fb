use super::*;
use serde_json::json;

fn config(more: &str) -> Config {
    let text = format!("[server]\ndomain = \"calls.test\"\npublic_ip = \"192.0.2.7\"\n{more}");
    let read = webtrunk::config::check::parse_embedded(&text, &[]);
    read.unwrap_or_else(|problems| panic!("{problems}")).0
}

fn node(name: &str, lease: Result<(&str, &str, u64), UnreadLease>) -> SurveyedNode {
    let lease = lease.map(|(at, version, config)| {
        let load = json!({ "calls": 0, "registrations": 0, "calls_left": 1, "draining": false });
        serde_json::from_value(json!({
            "node": name, "epoch": 1, "beat": 1, "advertise": at, "version": version,
            "load": load, "config": config,
        }))
        .expect("a member")
    });
    SurveyedNode { name: name.to_owned(), lease, unreachable: None }
}

#[test]
fn a_node_is_judged_by_its_lease() {
    let more = "[cluster]\nnode = \"a\"\nstore = \"redis://127.0.0.1\"\n\
                key = \"the key of the cluster, long enough\"\nadvertise = \"192.0.2.7:5071\"\n";
    let settings = config(more).cluster.expect("a cluster");
    let (own, other) = ("192.0.2.7:5071", "192.0.2.8:5071");
    let version = env!("CARGO_PKG_VERSION");
    for (node, wanted) in [
        (node("a", Ok((own, version, 7))), "node a is reached at 192.0.2.7:5071"),
        (node("a", Ok((other, version, 7))), "another machine, at 192.0.2.8:5071, is node a too"),
        (node("b", Ok((other, "0.0.1", 8))), "node b runs version 0.0.1"),
        (node("b", Ok((other, version, 0))), "node b is reached at 192.0.2.8:5071"),
        (node("b", Ok((other, version, 8))), "node b has another configuration than this file"),
        (node("b", Err(UnreadLease::OtherKey)), "node b has another key"),
        (
            node("b", Err(UnreadLease::Newer)),
            "node b is of a version that this one does not understand",
        ),
    ] {
        assert_eq!(surveyed(&settings, 7, &node).what, wanted);
    }
}

fn is_good(finding: &Finding) -> bool {
    finding.grade == Grade::Good
}

fn expect(finding: &Finding, code: &str, what: &str, fix: &str) {
    assert!(finding.grade != Grade::Good && finding.code == code, "{finding:?}");
    assert!(finding.what.contains(what) && finding.fix.contains(fix), "{finding:?}");
}

#[test]
fn what_the_kernel_allows_is_compared_with_what_is_needed() {
    let rmem = "doctor::rmem_max";
    expect(&receive_buffer("212992\n"), rmem, "212992", "sysctl -w net.core.rmem_max=4194304");
    assert!(is_good(&receive_buffer("8388608\n")) && is_good(&receive_buffer("")));
    let limits = |n: u32| format!("Max open files            {n}      4096     files\n");
    expect(&files(&limits(1_024)), "doctor::files", "1024 open files", "LimitNOFILE");
    assert!(is_good(&files(&limits(1_048_576))));
    let ports = outgoing_ports("32768\t60999\n", (30_000, 39_999));
    let reserve = "ip_local_reserved_ports=30000-39999";
    expect(&ports, "doctor::outgoing_ports", "32768-60999", reserve);
    assert!(is_good(&outgoing_ports("32768\t60999\n", (20_000, 29_999))));
}

/// Debian's defaults harm only busy gateways: `doctor` is content there.
#[test]
fn the_settings_of_a_fresh_system_are_no_fault() {
    let found = [
        receive_buffer("212992\n"),
        outgoing_ports("32768\t60999\n", (30_000, 39_999)),
        clock(Some("yes")),
    ];
    assert_eq!(found.map(|f| f.grade), [Grade::Warning, Grade::Warning, Grade::Good]);
    let said = receive_buffer("212992\n").to_string();
    assert!(said.starts_with("  warn doctor::rmem_max  net.core.rmem_max is 212992"), "{said}");
    assert_eq!(files("Max open files 1024 1024 files").grade, Grade::Fault);
}

#[test]
fn each_kind_of_address_has_a_sentence_and_a_fix_of_its_own() {
    let ips = |text: &str| -> Vec<IpAddr> {
        text.split(' ').map(|ip| ip.parse().expect("an address")).collect()
    };
    let code = "doctor::address";
    for (at, own, said, fix) in [
        ("127.0.0.1", true, "programs of this machine only", "people reach this machine"),
        ("10.1.2.3", true, "right for people and trunks of that network", "some are elsewhere"),
        ("fd00::1", true, "right for people and trunks of that network", "some are elsewhere"),
        ("10.1.2.3", false, "that this machine has not", "`ip address`, or forward"),
    ] {
        let found = offered(&ips(at), own);
        expect(&found, code, said, fix);
        assert_eq!(found.grade, Grade::Warning, "a LAN, or a page of this machine, may be meant");
    }
    assert!(is_good(&offered(&ips("203.0.113.5"), true)));
    assert!(is_good(&offered(&ips("10.1.2.3 203.0.113.5"), false)));
    let seen = |ours: &str| seen_at("s", ips("203.0.113.5")[0], &ips(ours));
    assert!(is_good(&seen("203.0.113.5")));
    let wrong = seen("198.51.100.9");
    expect(&wrong, "doctor::nat", "offered 198.51.100.9", "public_ip = \"203.0.113.5\"");
    assert_eq!((wrong.grade, seen("10.1.2.3").grade), (Grade::Fault, Grade::Warning));
}

#[test]
fn dns_answers_for_a_trunk_are_reported_by_kind() {
    let hop = webtrunk::sip::transaction::Hop::Udp("192.0.2.7:5080".parse().expect("one"));
    let found = servers("t", "srv.example", &TrunkServers::Found(vec![hop]));
    assert!(is_good(&found) && found.what.ends_with("srv.example is 192.0.2.7:5080"));
    let code = "doctor::dns";
    let nothing = TrunkServers::Nothing("x has no address we can reach".into());
    expect(&servers("t", "x", &nothing), code, "trunk t: x has no address", "SRV records");
    let silent = TrunkServers::NoAnswer("x was not resolved within 2 s".into());
    expect(&servers("t", "x", &silent), code, "within 2 s", "/etc/resolv.conf");
}

#[test]
fn the_clock_is_looked_at() {
    expect(&clock(Some("no")), "doctor::clock", "not synchronised", "set-ntp true");
    assert!(is_good(&clock(Some("yes"))));
}

#[test]
fn a_certificate_is_valid_and_for_us() {
    let left = |days: i64| certificate("web.tls", Path::new("x.pem"), Some(days * 86_400));
    expect(&left(-3), "doctor::certificate", "expired 3 days ago", "renew");
    expect(&left(5), "doctor::certificate", "expires in 5 days", "renew");
    assert!(is_good(&left(60)));
    let none = certificate("web.tls", Path::new("x.pem"), None);
    expect(&none, "doctor::certificate", "not a certificate", "PEM");
    let named = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        names_of("web.tls", &names, &config(""))
    };
    let code = "doctor::certificate";
    expect(&named(&["other.test"]), code, "other.test, not for calls.test", "calls.test");
    assert!(is_good(&named(&["*.test"])) && is_good(&named(&["192.0.2.7"])));
}

#[test]
fn a_media_port_already_in_use_is_reported() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let config = config("[media]\nbind = \"127.0.0.1\"\n");
    let finding = bindable(&config, "udp", port, "media of browsers");
    expect(&finding, "doctor::port", "cannot be bound (media of browsers)", "ss -lp");
    drop(taken);
    let free = bindable(&config, "udp", port, "media of browsers");
    assert!(is_good(&free) && free.what.contains(&format!("ufw allow {port}/udp")), "{free:?}");
}

#[test]
fn secrets_that_anybody_may_read_are_named() {
    let scratch = tempfile::tempdir().expect("a folder");
    let [file, key] = ["webtrunk.toml", "cluster.key"].map(|name| scratch.path().join(name));
    let set = |path: &Path, mode: u32| {
        std::fs::write(path, "x").expect("written");
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, mode).expect("its mode");
    };
    let found = |modes: [u32; 2]| {
        set(&file, modes[0]);
        set(&key, modes[1]);
        secrets(&file, [key.as_path()].into_iter())
    };
    assert!(found([0o640, 0o600]).iter().all(is_good));
    let open = found([0o640, 0o644]);
    assert_eq!((open.len(), open[0].grade), (1, Grade::Warning));
    expect(&open[0], "doctor::secrets", "cluster.key", "chmod o= ");
    assert_eq!(found([0o644, 0o604]).len(), 2);
}
