//! Two namespaces and two links between them: the test is the peer in one, the gateway has two
//! addresses in the other.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_webtrunk");
const INSIDE: &str = "WEBTRUNK_TEST_NAMESPACE";

/// Runs `work` in a network namespace of its own: this test, once more.
pub(crate) fn in_namespace(name: &str, work: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return work();
    }
    let probe = Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).output();
    if !probe.as_ref().is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: network namespaces need root, unshare and ip: {probe:?}");
        return;
    }
    let own = std::env::current_exe().expect("a program");
    let done = Command::new("unshare")
        .args(["--net", "--kill-child"])
        .arg(own)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("it runs");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{}{}", said(&done.stdout), said(&done.stderr));
}

pub(crate) fn run(words: &str) {
    let mut words = words.split(' ');
    let mut command = Command::new(words.next().expect("a program"));
    let done = command.args(words).output().expect("it runs");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Waits until something is so at a gateway that starts.
pub(crate) fn until(ready: impl Fn() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The gateway's namespace, its links and its folder.
pub(crate) struct World {
    holder: Child,
    folder: TempDir,
}

impl World {
    /// `server`: lines of `[server]`.
    pub(crate) fn new(server: &str) -> World {
        run("ip link set lo up");
        let holder = Command::new("unshare").args(["--net", "sleep", "300"]).spawn();
        let holder = holder.expect("a namespace");
        let pid = holder.id();
        // It is another namespace once `unshare` has done its work.
        let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let begun = Instant::now();
        while space(&pid.to_string()) == space("self") {
            assert!(begun.elapsed() < Duration::from_secs(10), "no namespace");
            std::thread::sleep(Duration::from_millis(5));
        }
        for n in [1, 2] {
            let _ = Command::new("ip").args(["link", "del", &format!("p{n}")]).output();
            run(&format!("ip link add p{n} type veth peer name g{n} netns {pid}"));
        }
        let inside = |words: &str| run(&format!("nsenter -t {pid} -n {words}"));
        inside("ip link set lo up");
        for n in [1, 2] {
            inside(&format!("ip addr add 10.9.{n}.1/24 dev g{n}"));
            inside(&format!("ip -6 addr add fd00:9:{n}::1/64 dev g{n} nodad"));
            inside(&format!("ip link set g{n} up"));
            run(&format!("ip link set p{n} up"));
        }
        // The peer has one address; it reaches the gateway's second one by the first.
        run("ip addr add 10.9.1.2/24 dev p1");
        run("ip -6 addr add fd00:9:1::2/64 dev p1 nodad");
        run("ip route replace default via 10.9.1.1");
        run("ip -6 route replace default via fd00:9:1::1");
        inside("ip route replace default via 10.9.1.2");
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("dialplans")).expect("made");
        let config = format!(
            "[server]\ndomain = \"wt.test\"\n{server}[web]\nlisten = \"[::]:8088\"\n\
             [sip]\nudp = \"[::]:5060\"\n[media]\nbrowser_port = 8088\nworkers = 1\ntimeout = \"5m\"\n\
             ports = \"20000-20099\"\n[user.alice]\npassword = \"secret-of-alice\"\n\
             [trunk.pbx]\nuri = \"sip:10.9.1.2:5070\"\n\
             allow = [\"10.9.1.2/32\", \"fd00:9:1::2/128\"]\ncontext = \"default\"\n"
        );
        fs::write(folder.path().join("webtrunk.toml"), config).expect("written");
        let echo = "[[route]]\nname = \"Echo\"\nmatch = \"9196\"\ndo = [{ echo = true }]\n";
        fs::write(folder.path().join("dialplans/default.toml"), echo).expect("written");
        World { holder, folder }
    }

    /// Where its configuration is.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn inside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-n", BINARY]);
        command.current_dir(self.folder()).env("WEBTRUNK_CONTROL", self.folder().join("control"));
        command
    }

    /// The program with these words, in the gateway's namespace and folder.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.inside();
        command.args(words);
        command
    }

    /// Runs a command in the gateway's namespace.
    pub(crate) fn run(&self, words: &str) {
        run(&format!("nsenter -t {} -n {words}", self.holder.id()));
    }

    /// Starts the gateway.
    pub(crate) fn serve(&self) -> Gateway {
        self.serve_at("10.9.1.1:8088")
    }

    /// As [`serve`](Self::serve), with the page at `web`.
    pub(crate) fn serve_at(&self, web: &str) -> Gateway {
        self.serve_as(&["serve", "-c", "webtrunk.toml"], web)
    }

    /// As [`serve_at`](Self::serve_at), by these words.
    pub(crate) fn serve_as(&self, words: &[&str], web: &str) -> Gateway {
        let command = self.command(words);
        let gateway = Gateway::start(command);
        // Each socket is opened in its turn: that one accepts says nothing of the other.
        let control = self.folder().join("control");
        gateway.until(|| TcpStream::connect(web).is_ok() && UnixStream::connect(&control).is_ok());
        gateway
    }

    /// Starts a demo.
    pub(crate) fn demo(&self, more: &[&str]) -> Gateway {
        let mut command = self.inside();
        command.args(["demo"]).args(more);
        let demo = Gateway::start(command);
        demo.until(|| demo.sockets().len() >= 6);
        demo
    }

    /// Starts `webtrunk events`.
    pub(crate) fn events(&self) -> Gateway {
        let control = self.folder().join("control");
        until(|| UnixStream::connect(&control).is_ok());
        let mut command = self.inside();
        command.args(["events"]).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("it starts");
        let lines = child.stdout.take().map(BufReader::new);
        Gateway(child, lines)
    }

    /// A test call to the echo over the page at `host`, from the peer's namespace or the
    /// gateway's own: what it said.
    pub(crate) fn call(&self, host: &str, from_gateway: bool) -> String {
        let mut command = if from_gateway { self.inside() } else { Command::new(BINARY) };
        let done = command
            .args(["call", "9196", "--as", "alice", "--password", "secret-of-alice"])
            .args(["--ws", &format!("ws://{host}:8088/sip"), "--for", "2s"])
            .output()
            .expect("it runs");
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        format!("{}: {}{}", done.status, said(&done.stdout), said(&done.stderr))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A running gateway; ends with its value.
pub(crate) struct Gateway(Child, Option<BufReader<ChildStdout>>);

impl Gateway {
    fn start(mut command: Command) -> Gateway {
        let command = command.stdout(Stdio::null()).stderr(Stdio::inherit());
        Gateway(command.spawn().expect("it starts"), None)
    }

    fn until(&self, ready: impl Fn() -> bool) {
        until(ready);
    }

    /// Sends SIGTERM, and expects a good end.
    pub(crate) fn terminate(&mut self) {
        run(&format!("kill -TERM {}", self.0.id()));
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait().expect("a child") {
                break status;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not take that long");
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "{status}");
    }

    /// The next line that it prints.
    pub(crate) fn next_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.1.as_mut()?.read_line(&mut line);
        read.ok().filter(|n| *n > 0).map(|_| line)
    }

    /// The local addresses of all that is bound in its namespace.
    pub(crate) fn sockets(&self) -> Vec<IpAddr> {
        let mut found = Vec::new();
        for table in ["tcp", "tcp6", "udp", "udp6"] {
            let path = format!("/proc/{}/net/{table}", self.0.id());
            let text = fs::read_to_string(path).unwrap_or_default();
            let places = text.lines().skip(1).filter_map(|l| l.split_whitespace().nth(1));
            found.extend(places.filter_map(|p| address(p.split(':').next()?)));
        }
        found
    }
}

/// An address as the kernel prints it: words in the machine's order.
fn address(hex: &str) -> Option<IpAddr> {
    let words: Vec<[u8; 4]> = (0..hex.len() / 8)
        .map(|n| u32::from_str_radix(hex.get(n * 8..n * 8 + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect::<Option<_>>()?;
    match words.as_slice() {
        [v4] => Some(Ipv4Addr::from(*v4).into()),
        v6 => Some(
            IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(v6.concat()).ok()?)).to_canonical(),
        ),
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
