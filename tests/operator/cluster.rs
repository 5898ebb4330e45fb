//! Two gateways and a store that speaks as much of the Redis protocol as they need: lists of all
//! nodes, and what `doctor` finds.

use crate::server::Server;
use crate::trunk::Trunk;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// A store: leases, without their end, and what users have.
#[derive(Default)]
struct Held {
    leases: BTreeMap<String, Vec<u8>>,
    users: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// What else there is.
    strings: BTreeMap<String, Vec<u8>>,
    /// It takes no writes beside leases, as one does that is full.
    refuses: bool,
    /// Seconds its clock is ahead.
    ahead: u64,
}

struct StoreStub {
    at: SocketAddr,
    held: Arc<Mutex<Held>>,
}

const PREFIX: &str = "webtrunk:wt.test:node:";

fn bulk(out: &mut Vec<u8>, value: Option<&[u8]>) {
    let Some(value) = value else { return out.extend(b"$-1\r\n") };
    out.extend(format!("${}\r\n", value.len()).bytes());
    out.extend(value);
    out.extend(b"\r\n");
}

impl Held {
    fn lists(&self, out: &mut Vec<u8>) {
        out.extend(format!("*{}\r\n", 2 * self.leases.len()).bytes());
        for (node, lease) in &self.leases {
            bulk(out, Some(node.as_bytes()));
            bulk(out, Some(lease));
        }
    }

    fn millis(&self) -> u128 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        now.as_millis() + u128::from(self.ahead) * 1_000
    }

    /// `EVAL`: a renewal of a lease, or the end of one. Nobody looks for calls here.
    fn eval(&mut self, args: &[Vec<u8>], out: &mut Vec<u8>) {
        let text = |n: usize| String::from_utf8_lossy(&args[n]).into_owned();
        let node = text(3).trim_start_matches(PREFIX).to_owned();
        if text(3).contains(":calls:") {
            return out.extend(b":1\r\n");
        }
        if text(2) == "1" {
            self.leases.remove(&node);
            return out.extend(b":1\r\n");
        }
        let held = self.leases.get(&node).cloned();
        if held.as_ref().is_none_or(|held| held.starts_with(&args[6])) {
            self.leases.insert(node, args[7].clone());
        }
        out.extend(b"*5\r\n");
        bulk(out, Some(held.as_deref().unwrap_or_default()));
        self.lists(out);
        out.extend(format!(":{}\r\n:0\r\n", self.millis()).bytes());
        // Leases stay until somebody gives them back, whoever says that they are over.
        let over: usize = text(13).parse().expect("a number");
        let wishes = args[14 + 2 * over..].chunks(3);
        let wishes: Vec<String> = wishes.map(|w| String::from_utf8_lossy(&w[1]).into()).collect();
        out.extend(format!("*{}\r\n", 2 * wishes.len()).bytes());
        wishes.iter().for_each(|limit| out.extend(format!(":{limit}\r\n:0\r\n").bytes()));
    }

    fn carry_out(&mut self, args: &[Vec<u8>], out: &mut Vec<u8>) {
        let text = |n: usize| String::from_utf8_lossy(&args[n]).into_owned();
        match text(0).to_ascii_uppercase().as_str() {
            "EVAL" => self.eval(args, out),
            "TIME" => {
                let seconds = (self.millis() / 1_000).to_string();
                out.extend(b"*2\r\n");
                bulk(out, Some(seconds.as_bytes()));
                bulk(out, Some(b"0"));
            }
            "SMEMBERS" => {
                out.extend(format!("*{}\r\n", self.leases.len()).bytes());
                self.leases.keys().for_each(|node| bulk(out, Some(node.as_bytes())));
            }
            "GET" => {
                let lease = self.leases.get(text(1).trim_start_matches(PREFIX));
                bulk(out, lease.or_else(|| self.strings.get(&text(1))).map(Vec::as_slice));
            }
            "SETNX" => {
                self.strings.entry(text(1)).or_insert_with(|| args[2].clone());
                out.extend(b":1\r\n");
            }
            "HSET" if self.refuses => out.extend(b"-OOM command not allowed\r\n"),
            "HSET" => {
                let user = self.users.entry(text(1)).or_default();
                user.insert(text(2), args[3].clone());
                out.extend(b":1\r\n");
            }
            "HDEL" => {
                self.users.entry(text(1)).or_default().remove(&text(2));
                out.extend(b":1\r\n");
            }
            "HGETALL" => {
                let fields = self.users.entry(text(1)).or_default();
                out.extend(format!("*{}\r\n", 2 * fields.len()).bytes());
                for (node, value) in fields {
                    bulk(out, Some(node.as_bytes()));
                    bulk(out, Some(value));
                }
            }
            "PEXPIRE" => out.extend(b":1\r\n"),
            _ => out.extend(b"+OK\r\n"),
        }
    }
}

/// One command; `None` at the end of the connection.
fn command(stream: &mut BufReader<TcpStream>) -> Option<Vec<Vec<u8>>> {
    let mut number = |mark: char| -> Option<usize> {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        line.trim_end().strip_prefix(mark)?.parse().ok()
    };
    let count = number('*')?;
    let mut args = Vec::new();
    for _ in 0..count {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let length: usize = line.trim_end().strip_prefix('$')?.parse().ok()?;
        let mut bytes = vec![0; length + 2];
        stream.read_exact(&mut bytes).ok()?;
        bytes.truncate(length);
        args.push(bytes);
    }
    Some(args)
}

impl StoreStub {
    fn start() -> StoreStub {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("bound");
        let held: Arc<Mutex<Held>> = Arc::default();
        let served = held.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let held = served.clone();
                std::thread::spawn(move || {
                    let mut writer = stream.try_clone().expect("a socket");
                    let mut reader = BufReader::new(stream);
                    while let Some(args) = command(&mut reader) {
                        let mut out = Vec::new();
                        held.lock().expect("nobody panics").carry_out(&args, &mut out);
                        if writer.write_all(&out).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        StoreStub { at, held }
    }

    /// A node of this name, at a port of its own.
    fn node(&self, name: &str, key: &str) -> Server {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
        let more = format!(
            "[cluster]\nnode = \"{name}\"\nstore = \"redis://{}\"\nkey = \"{key}\"\nlisten = \"{port}\"\n",
            self.at
        );
        Server::start(&more)
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        change(&mut self.held.lock().expect("nobody panics"));
    }
}

const KEY: &str = "the key of the cluster, long enough";

fn list(server: &Server, args: &[&str]) -> Vec<Value> {
    let said = server.run(&[args, &["-o", "json"]].concat());
    assert_eq!(said.code, 0, "{said:?}");
    serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:?}"))
}

/// Two nodes that know one another.
fn joined(store: &StoreStub) -> (Server, Server) {
    let (a, b) = (store.node("a", KEY), store.node("b", KEY));
    for server in [&a, &b] {
        server.until(|| {
            list(server, &["nodes"]).iter().filter(|n| n["state"] == "joined").count() == 2
        });
    }
    (a, b)
}

#[test]
fn lists_are_of_one_node_or_of_all_and_name_who_does_not_answer() {
    let store = StoreStub::start();
    let (a, mut b) = joined(&store);
    assert!(!a.log().contains("WT-4001"), "the store was there: {}", a.log());
    let mut trunk = Trunk::new(&b);
    trunk.call("9196");
    let calls = |node: &[&str]| list(&a, &[&["calls"], node].concat());
    let own = calls(&[]);
    assert_eq!(own.len(), 0, "its own: {own:?}");
    assert_eq!(calls(&["--node", "a"]).len(), 0);
    assert_eq!(calls(&["--node", "b"]).len(), 1);
    let all = calls(&["--node", "all"]);
    assert_eq!((all.len(), &all[0]["node"]), (1, &Value::from("b")));
    let trunks = list(&a, &["trunks", "--node", "all"]);
    let nodes: Vec<&str> = trunks.iter().filter_map(|t| t["node"].as_str()).collect();
    assert_eq!(nodes, ["a", "b"]);
    assert_eq!(trunks[1]["calls"], 1, "{trunks:?}");
    assert_eq!(list(&a, &["registrations", "--node", "all"]).len(), 0);
    let table = a.run(&["calls", "--node", "all"]);
    assert!(table.out.lines().next().is_some_and(|head| head.contains("NODE")), "{table:?}");
    let odd = a.run(&["calls", "--node", "x"]);
    assert!(odd.code != 0 && odd.err.contains("there is no node \"x\""), "{odd:?}");
    let odd = a.control("GET", "/api/v1/calls?node=all&outcome=fine", "");
    assert!(odd.starts_with("HTTP/1.1 400"), "{odd}");
    trunk.hang_up();
    // It is gone, and its lease is not.
    b.kill();
    let said = a.run(&["trunks", "--node", "all"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("did not answer: b"), "{said:?}");
    let said = a.run(&["trunks", "--node", "b"]);
    assert!(said.code != 0 && said.err.contains("node b does not answer"), "{said:?}");
}

#[test]
fn an_upgrade_does_not_rename_a_node() {
    let store = StoreStub::start();
    let (mut a, _b) = joined(&store);
    a.edit("webtrunk.toml", "node = \"a\"", "node = \"c\"");
    let said = a.upgrade(&[]);
    assert!(said.code != 0 && said.err.contains("is node a"), "{said:?}");
    a.edit("webtrunk.toml", "node = \"c\"", "node = \"a\"");
    let said = a.upgrade(&[]);
    assert_eq!(said.code, 0, "{said:?}\n{}", a.log());
    a.until(|| list(&a, &["nodes"]).iter().filter(|n| n["state"] == "joined").count() == 2);
}

#[test]
fn requests_for_one_call_or_node_work_from_another_node() {
    let store = StoreStub::start();
    let (a, b) = joined(&store);
    let mut trunk = Trunk::new(&b);
    trunk.call("9196");
    let call = list(&a, &["calls", "--node", "b"])[0]["call"].as_str().expect("an id").to_owned();
    let get = |path: &str| a.control("GET", &format!("/api/v1{path}"), "");
    for path in [&format!("/calls/{call}"), &format!("/calls/{call}/ladder")] {
        assert!(get(path).starts_with("HTTP/1.1 404"), "it is not here: {path}");
        assert!(get(&format!("{path}?node=b")).starts_with("HTTP/1.1 200"), "{path}");
    }
    let text = a.control_with(
        "GET",
        &format!("/api/v1/calls/{call}/ladder?node=b"),
        "Accept: text/plain\r\n",
        "",
    );
    assert!(text.contains("INVITE") && !text.contains("\"rows\""), "as it was asked for: {text}");
    let post = |path: &str, body: &str| a.control("POST", &format!("/api/v1{path}"), body);
    let digits = |body: &str| post(&format!("/calls/{call}/dtmf?node=b"), body);
    let sent = digits("{\"digits\":\"1\",\"side\":\"caller\"}");
    assert!(sent.starts_with("HTTP/1.1 200"), "{sent}");
    let odd = digits("{");
    assert!(odd.starts_with("HTTP/1.1 400") && odd.contains("EOF"), "{odd}");
    for path in [format!("/calls/{call}/hold"), format!("/calls/{call}/transfer")] {
        let (alone, there) = (post(&path, "{}"), post(&format!("{path}?node=b"), "{}"));
        assert!(alone.contains("there is no call") || alone.contains("missing"), "{alone}");
        assert!(!there.contains("there is no call"), "{path}: {there}");
    }
    let odd = get(&format!("/calls/{call}?node=all"));
    assert!(odd.starts_with("HTTP/1.1 400") && odd.contains("of one node"), "{odd}");
    assert!(
        get("/config?node=b").starts_with("HTTP/1.1 200"),
        "its own: {}",
        get("/config?node=b")
    );
    let draining =
        || -> Vec<bool> { list(&a, &["nodes"]).iter().map(|n| n["draining"] == true).collect() };
    let said = a.run(&["drain", "--node", "b", "--no-wait"]);
    assert!(said.code == 0 && said.out.contains("1 calls left"), "{said:?}");
    a.until(|| draining() == [false, true]);
    let said = a.run(&["drain", "--node", "b", "--cancel"]);
    assert_eq!(said.code, 0, "{said:?}");
    a.until(|| draining() == [false, false]);
    assert!(list(&a, &["nodes"])[1]["config_differs"] == true, "their trunks differ");
    let ended = a.control("DELETE", &format!("/api/v1/calls/{call}?node=b"), "");
    assert!(ended.starts_with("HTTP/1.1 200"), "{ended}");
    let said = a.run(&["drain", "--node", "x"]);
    assert!(said.code != 0 && said.err.contains("there is no node \"x\""), "{said:?}");
}

#[test]
fn a_gateway_alone_has_no_nodes_to_list() {
    let server = Server::start("");
    let said = server.run(&["calls", "--node", "all"]);
    assert!(said.code != 0 && said.err.contains("no node of a cluster"), "{said:?}");
}

#[test]
fn doctor_finds_each_mistake_of_a_cluster() {
    let store = StoreStub::start();
    let (a, mut b) = joined(&store);
    let config = a.config();
    let doctor = || a.run(&["doctor", "-c", config.to_str().expect("UTF-8")]);
    let finds = |what: &str| {
        let said = doctor();
        assert!(said.out.contains(what), "{what} is not in\n{}{}", said.out, said.err);
    };
    finds("the cluster's store answers, and its clock is this machine's");
    // Their trunks are at ports of their own.
    finds("node b has another configuration than this file");
    let alike = a.folder.join("alike.toml");
    let texts = [&b, &a].map(|of| std::fs::read_to_string(of.config()).expect("readable"));
    let [of_b, of_a] = texts.each_ref().map(|text| text.split_once("[cluster]").expect("one"));
    std::fs::write(&alike, format!("{}[cluster]{}", of_b.0, of_a.1)).expect("written");
    let said = a.run(&["doctor", "-c", alike.to_str().expect("UTF-8")]);
    assert!(said.out.contains("node b is reached at"), "{said:?}");
    assert!(said.out.contains("node a has another configuration"), "not read yet: {said:?}");
    store.change(|held| held.ahead = 30);
    // It compares seconds, and one may end between two looks at a clock.
    a.until(|| doctor().out.contains("this machine's clock is 30 s from the store's"));
    store.change(|held| held.ahead = 0);
    store.change(|held| held.refuses = true);
    finds("the cluster's store refuses what a node writes: \"OOM\": command not allowed");
    store.change(|held| held.refuses = false);
    let stranger = store.node("c", "the key of another cluster, just as long");
    let has = || store.held.lock().expect("nobody panics").leases.contains_key("c");
    stranger.until(has);
    finds("node c has another key");
    b.kill();
    finds("node b cannot be reached at");
    drop(stranger);
    let away = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let text = std::fs::read_to_string(&config).expect("readable");
    let other = a.folder.join("away.toml");
    std::fs::write(&other, text.replace(&store.at.to_string(), &away.to_string()))
        .expect("written");
    let said = a.run(&["doctor", "-c", other.to_str().expect("UTF-8")]);
    assert!(said.code != 0 && said.out.contains("the cluster's store: "), "{said:?}");
}
