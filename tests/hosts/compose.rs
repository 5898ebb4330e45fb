//! `docker-compose.yml` without its engine: what it mounts and publishes fits the configuration,
//! and a call through a network like its own is heard both ways.

use crate::line;
use crate::world::{World, in_namespace, run};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::spawn;
use std::{fs, io};

const COMPOSE: &str = include_str!("../../docker-compose.yml");
const GATEWAY: &str = "10.88.0.2";
const ASTERISK: &str = "10.88.0.3";

/// The lines of a service.
fn service(name: &str) -> Vec<&'static str> {
    let head = format!("  {name}:");
    let lines = COMPOSE.lines().skip_while(|l| *l != head).skip(1);
    let found: Vec<_> = lines.take_while(|l| l.starts_with("    ")).collect();
    assert!(!found.is_empty(), "no service {name}");
    found
}

/// The quoted texts of the lines that hold `key`.
fn quoted(lines: &[&'static str], key: &str) -> Vec<&'static str> {
    let texts = lines.iter().filter(|l| l.trim_start().starts_with(key));
    texts.flat_map(|l| l.split('"').skip(1).step_by(2)).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn address_of(name: &str) -> &'static str {
    let lines = service(name);
    let at = lines.iter().find_map(|l| l.split_once("ipv4_address: ")).expect("an address");
    at.1.trim_end_matches([' ', '}'])
}

#[test]
fn what_the_compose_file_mounts_and_publishes_fits() {
    for mounted in COMPOSE.lines().filter_map(|l| l.trim().strip_prefix("- ./")) {
        let source = mounted.split(':').next().expect("a source");
        assert!(root().join(source).exists(), "{source} is mounted, and does not exist");
    }
    let config = root().join("interop/docker/webtrunk.toml");
    let done = Command::new(env!("CARGO_BIN_EXE_webtrunk"))
        .args(["check-config", "-c"])
        .arg(&config)
        .output()
        .expect("it runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let config = fs::read_to_string(config).expect("readable");
    let port = |key: &str| -> u16 {
        let value = line(&config, key).split('=').nth(1).expect("a value").trim();
        let digits = value.trim_matches('"').rsplit(':').next().expect("a port");
        digits.parse().expect("a port")
    };
    let published = quoted(&service("webtrunk"), "ports:");
    assert_eq!(
        published,
        [format!("{0}:{0}/tcp", port("listen")), format!("{0}:{0}/udp", port("browser_port"))]
    );
    assert_eq!(address_of("webtrunk"), GATEWAY);
    assert!(line(&config, "udp").contains(GATEWAY), "SIP is where the trunks send it");
    for (name, trunk) in [("asterisk", ASTERISK), ("freeswitch", "10.88.0.4")] {
        assert_eq!(address_of(name), trunk);
        assert!(config.contains(&format!("uri = \"sip:{trunk}:")), "{name}");
    }
    // The loopback address of browsers' media is a host's own: a trunk must never get it.
    assert_eq!(line(&config, "public_ip"), "public_ip = \"127.0.0.1\"");
    let media = config.find("[media]").expect("a table");
    assert!(config.find("public_ip").is_some_and(|at| at > media), "it is of [media] alone");
}

/// What the engine does with a published port on the host's loopback: connections and datagrams
/// are carried on from an address of the bridge.
fn publish(port: u16) {
    let inner = SocketAddr::new(GATEWAY.parse().expect("an address"), port);
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
    spawn(move || {
        for outside in listener.incoming().flatten() {
            let Ok(inside) = TcpStream::connect(inner) else { continue };
            for (from, to) in [(&outside, &inside), (&inside, &outside)] {
                let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
                spawn(move || drop(io::copy(&mut from, &mut to)));
            }
        }
    });
    let outside = Arc::new(UdpSocket::bind(("127.0.0.1", port)).expect("a port"));
    spawn(move || {
        let mut known: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut buf = [0; 2_000];
        while let Ok((n, from)) = outside.recv_from(&mut buf) {
            let inside = known.entry(from).or_insert_with(|| {
                let socket = Arc::new(UdpSocket::bind("10.88.0.1:0").expect("a port"));
                socket.connect(inner).expect("set");
                let (inside, outside) = (socket.clone(), outside.clone());
                spawn(move || {
                    let mut buf = [0; 2_000];
                    while let Ok(n) = inside.recv(&mut buf) {
                        let _ = outside.send_to(&buf[..n], from);
                    }
                });
                socket
            });
            let _ = inside.send(&buf[..n]);
        }
    });
}

type Shared<T> = Arc<Mutex<Vec<T>>>;

/// Answers calls as Asterisk does, and echoes what it hears; returns the offers it got, and where
/// media came from.
fn asterisk() -> (Shared<String>, Shared<SocketAddr>) {
    let (offered, heard) = (Shared::default(), Shared::default());
    let media = UdpSocket::bind((ASTERISK, 0)).expect("a port");
    let port = media.local_addr().expect("bound").port();
    let sources = heard.clone();
    spawn(move || {
        let mut buf = [0; 2_000];
        while let Ok((n, from)) = media.recv_from(&mut buf) {
            sources.lock().expect("nobody panics").push(from);
            let _ = media.send_to(&buf[..n], from);
        }
    });
    let sip = UdpSocket::bind((ASTERISK, 5060)).expect("a port");
    let offers = offered.clone();
    spawn(move || {
        let mut buf = [0; 4_000];
        while let Ok((n, from)) = sip.recv_from(&mut buf) {
            let text = String::from_utf8_lossy(&buf[..n]).into_owned();
            if text.starts_with("ACK") || text.starts_with("SIP/2.0") {
                continue;
            }
            let echoed = ["Via:", "From:", "Call-ID:", "CSeq:"].map(|name| line(&text, name));
            let tagged = line(&text, "To:").contains(";tag=");
            let to = format!("{}{}", line(&text, "To:"), if tagged { "" } else { ";tag=a" });
            let sdp = format!(
                "v=0\r\no=- 1 1 IN IP4 {ASTERISK}\r\ns=-\r\nc=IN IP4 {ASTERISK}\r\nt=0 0\r\n\
                 m=audio {port} RTP/AVP 0\r\n"
            );
            let body = if text.starts_with("INVITE") {
                offers.lock().expect("nobody panics").push(text.clone());
                sdp
            } else {
                String::new()
            };
            let answer = format!(
                "SIP/2.0 200 OK\r\n{}\r\n{to}\r\nContact: <sip:{ASTERISK}>\r\n\
                 Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
                echoed.join("\r\n"),
                body.len()
            );
            let _ = sip.send_to(answer.as_bytes(), from);
        }
    });
    (offered, heard)
}

#[test]
fn a_call_through_a_published_port_is_heard_both_ways() {
    in_namespace("compose::a_call_through_a_published_port_is_heard_both_ways", || {
        let world = World::new("");
        world.run("ip addr flush dev g1");
        world.run("ip addr flush dev g2");
        world.run("ip addr add 10.88.0.2/24 dev g1");
        world.run("ip route replace default via 10.88.0.1");
        run("ip addr flush dev p1");
        run("ip addr add 10.88.0.1/24 dev p1");
        run("ip addr add 10.88.0.3/24 dev p1");
        let docker = root().join("interop/docker");
        for file in ["webtrunk.toml", "dialplans/phones.toml", "dialplans/from-asterisk.toml"] {
            fs::copy(docker.join(file), world.folder().join(file)).expect("copied");
        }
        fs::remove_file(world.folder().join("dialplans/default.toml")).expect("removed");
        let (offered, heard) = asterisk();
        let _gateway = world.serve_at(&format!("{GATEWAY}:8088"));
        publish(8088);
        let done = Command::new(env!("CARGO_BIN_EXE_webtrunk"))
            .args(["call", "600", "--as", "alice", "--password", "alice-secret", "--for", "3s"])
            .args(["--ws", "ws://localhost:8088/sip"])
            .output()
            .expect("it runs");
        let said = [done.stdout, done.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(done.status.success() && said.contains("MOS"), "{}\n{said}", done.status);
        let offered = offered.lock().expect("nobody panics");
        assert_eq!(line(&offered[0], "c="), format!("c=IN IP4 {GATEWAY}"), "{}", offered[0]);
        let heard = heard.lock().expect("nobody panics");
        let gateway: IpAddr = GATEWAY.parse().expect("an address");
        assert!(heard.len() > 100 && heard.iter().all(|from| from.ip() == gateway), "{heard:?}");
    });
}

/// The text of a file of `interop`.
fn interop(path: &str) -> String {
    let path = root().join("interop").join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Checks a configuration as the container has it: its environment, and its dialplans.
fn check_config(config: &str, dialplan: &str, environment: &[(&str, &str)]) {
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path();
    fs::create_dir_all(folder.join("dialplans")).expect("a folder");
    fs::write(folder.join("webtrunk.toml"), config).expect("written");
    fs::write(folder.join("dialplans/phones.toml"), dialplan).expect("written");
    let done = Command::new(env!("CARGO_BIN_EXE_webtrunk"))
        .args(["check-config", "-c", "webtrunk.toml"])
        .envs(environment.iter().copied())
        .current_dir(folder)
        .output()
        .expect("it runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The value of `key = "…"` in a configuration.
fn value<'a>(config: &'a str, key: &str) -> &'a str {
    let found = config.lines().find_map(|l| l.trim().strip_prefix(key)?.trim().strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {key}")).trim().trim_matches('"')
}

#[test]
fn the_compose_profile_of_three_nodes_fits() {
    let config = interop("docker/cluster/webtrunk.toml");
    let balancer = interop("docker/cluster/haproxy.cfg");
    let plan = interop("docker/cluster/dialplans/phones.toml");
    let redis = address_of("redis");
    assert_eq!(value(&config, "store"), format!("redis://{redis}:6379"));
    let given = |service: &[&'static str], name: &str| -> &'static str {
        let head = format!("{name}: ");
        let found = service.iter().find_map(|l| l.trim().strip_prefix(&head));
        found.unwrap_or_else(|| panic!("no {name}"))
    };
    let password = quoted(&service("redis"), "command:")[2];
    let mut keys = Vec::new();
    for node in ["a", "b", "c"] {
        let name = format!("node-{node}");
        let lines = service(&name);
        let environment =
            ["NODE", "ADVERTISE", "REDIS_PASSWORD", "CLUSTER_KEY"].map(|k| (k, given(&lines, k)));
        let [(_, own), (_, advertise), (_, login), (_, key)] = environment;
        assert_eq!((own, advertise, login), (node, address_of(&name), password));
        keys.push(key);
        check_config(&config, &plan, &environment);
        let web = config.find("[web]").map(|at| value(&config[at..], "listen")).expect("a port");
        let port = web.rsplit(':').next().expect("a port");
        let server = format!("server {node} {advertise}:{port}");
        assert!(balancer.contains(&server), "HAProxy has no {server}");
    }
    assert!(keys.iter().all(|key| *key == keys[0]), "one key");
    let published = quoted(&service("haproxy"), "ports:");
    let port = published[0].split(':').next().expect("a port");
    assert!(balancer.contains(&format!("bind :{port}")));
    assert!(value(&config, "public_url").ends_with(&format!(":{port}")));
    assert!(line(&config, "trusted_proxies").contains(address_of("haproxy")));
}

#[test]
fn the_kubernetes_manifest_fits_the_gateway() {
    let manifest = interop("kubernetes/webtrunk.yaml");
    // What is below a key of a ConfigMap, as the file that is mounted.
    let file = |name: &str| -> String {
        let head = format!("  {name}: |");
        let lines = manifest.lines().skip_while(|l| *l != head).skip(1);
        let lines = lines.take_while(|l| l.is_empty() || l.starts_with("    "));
        lines.map(|l| format!("{}\n", l.get(4..).unwrap_or_default())).collect()
    };
    let (config, plan) = (file("webtrunk.toml"), file("phones.toml"));
    let environment = [
        ("NODE_NAME", "gke-telephony-default-pool-1a2b3c4d-x9z0"),
        ("NODE_IP", "192.0.2.1"),
        ("REDIS_PASSWORD", "a password"),
        ("CLUSTER_KEY", "a key that is long enough for a cluster"),
    ];
    check_config(&config, &plan, &environment);
    for (name, _) in environment {
        assert!(config.contains(&format!("env = \"{name}\"")), "{name} is of no use");
        assert!(manifest.contains(&format!("- name: {name}\n")), "the pod has no {name}");
    }
    let has = |text: &str| assert!(manifest.contains(text), "no {text}");
    let web = config.find("[web]").map(|at| value(&config[at..], "listen")).expect("a port");
    let web = web.rsplit(':').next().expect("a port");
    let nodes = config.find("[cluster]").map(|at| value(&config[at..], "listen")).expect("a port");
    has(&format!("{{ name: web, containerPort: {web}, protocol: TCP }}"));
    let media = value(&config, "browser_port");
    has(&format!("{{ name: media, containerPort: {media}, protocol: UDP }}"));
    has(&format!("{{ name: nodes, containerPort: {}, protocol: TCP }}", &nodes[1..]));
    has(&format!("httpGet: {{ path: /readyz, port: {web} }}"));
    has(&format!("httpGet: {{ path: /livez, port: {web} }}"));
    has(&format!("targetPort: {web}"));
    has("hostNetwork: true");
    has("kind: DaemonSet");
    let drain = value(&config, "drain_timeout");
    let control = value(&config, "control");
    has(&format!(
        "[\"/webtrunk\", \"drain\", \"--timeout\", \"{drain}\", \"--control\", \"{control}\"]"
    ));
    let minutes: u64 = drain.trim_end_matches('m').parse().expect("minutes");
    let grace: u64 = manifest
        .lines()
        .find_map(|l| l.trim().strip_prefix("terminationGracePeriodSeconds: ")?.parse().ok())
        .expect("a grace");
    assert!(grace > minutes * 60, "the pod is killed while it drains");
    for folder in [control, value(&config, "state_dir")] {
        let parent = Path::new(folder).ancestors().map(|p| p.display().to_string());
        let mounted = |p: String| manifest.contains(&format!("mountPath: {p} }}"));
        assert!(parent.into_iter().any(mounted), "{folder} is on nothing that is mounted");
    }
}
