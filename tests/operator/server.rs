//! A served gateway as a process, and a trunk that speaks SIP over UDP to it.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_webtrunk");

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A folder of its own for each caller.
pub(crate) fn folder(name: &str) -> PathBuf {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let folder = std::env::temp_dir().join(format!(
        "webtrunk-{name}-{}-{}",
        std::process::id(),
        MADE.fetch_add(1, Ordering::Relaxed)
    ));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}

fn serve(config: &Path, log: std::fs::File, env: &[(&str, &std::ffi::OsStr)]) -> Child {
    Command::new(BINARY)
        .args(["serve", "--log", "text", "-c"])
        .arg(config)
        .envs(env.iter().copied())
        .stderr(log)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts")
}

pub(crate) struct Server {
    /// The one error that a test provokes.
    wanted_error: Option<&'static str>,
    child: Child,
    /// Who took its place.
    successor: Option<u32>,
    pub folder: PathBuf,
    pub web: u16,
    pub sip: u16,
    metrics: u16,
    /// The trunk's address, known to the configuration.
    pub trunk: SocketAddr,
    socket: Arc<UdpSocket>,
}

impl Server {
    /// Serves a configuration with one trunk on loopback, whose calls get an echo at 9196; `more`
    /// is appended.
    pub(crate) fn start(more: &str) -> Server {
        Server::started(more, "", "", &[], &[])
    }

    /// As [`start`](Self::start), with copies of all SIP to this collector.
    pub(crate) fn start_copying(homer: SocketAddr) -> Server {
        Server::started("", &format!("hep = \"udp:{homer}\"\n"), "", &[], &[])
    }

    /// As [`start`](Self::start), over TLS by an authority of its own, as `localhost`.
    pub(crate) fn start_secure(more: &str) -> Server {
        Server::started(
            more,
            "",
            "",
            &[],
            &[("wt.test", "localhost"), ("[sip]", "tls = \"local\"\n[sip]")],
        )
    }

    /// As [`start`](Self::start), reached by browsers as `http://localhost`.
    pub(crate) fn start_public(more: &str) -> Server {
        let public = "public_url = \"http://localhost\"\n[sip]";
        Server::started(more, "", "", &[], &[("[sip]", public)])
    }

    /// As [`start`](Self::start), with this in the place of that in the configuration.
    pub(crate) fn start_changed(changes: &[(&str, &str)]) -> Server {
        Server::started("", "", "", &[], changes)
    }

    /// As [`start`](Self::start), with a database of records beside the file.
    pub(crate) fn start_with_database() -> Server {
        Server::started(
            "",
            "",
            "",
            &[],
            &[("{ file = \"cdr.jsonl\" }", "{ file = \"cdr.jsonl\", sqlite = \"cdr.db\" }")],
        )
    }

    /// As [`start`](Self::start), as another's far end: media of the two must not be taken for a
    /// loop.
    pub(crate) fn start_far() -> Server {
        Server::started("", "", "", &[], &[("24000-28999", "29000-31999")])
    }

    /// As [`start`](Self::start), with more routes.
    pub(crate) fn start_with_routes(routes: &str) -> Server {
        Server::started("", "", routes, &[], &[])
    }

    /// As [`start`](Self::start), with more routes, logging at the lowest level.
    pub(crate) fn start_tracing(more: &str, routes: &str) -> Server {
        Server::started(more, "", routes, &[("WEBTRUNK_LOG_LEVEL", "trace".as_ref())], &[])
    }

    /// As [`start`](Self::start), with more routes and `silence.wav`, four seconds of nothing.
    pub(crate) fn start_with_silence(routes: &str) -> Server {
        Server::started("", "", routes, &[], &[])
    }

    /// As [`start`](Self::start), with records that go nowhere and more routes.
    pub(crate) fn start_with_a_full_disk(routes: &str) -> Server {
        let mut server =
            Server::started("max_calls = 7\n", "", routes, &[], &[("cdr.jsonl", "/dev/full")]);
        server.wanted_error = Some("WT-5001");
        server
    }

    /// Starts it again, after it was killed.
    pub(crate) fn start_again(&mut self) {
        let log = std::fs::OpenOptions::new().append(true).open(self.folder.join("log"));
        self.child = serve(&self.config(), log.expect("a log"), &[]);
        let ready = || UnixStream::connect(self.socket()).is_ok();
        self.until(ready);
    }

    /// Starts it again with a configuration that it has to wait for, and sends it this signal
    /// meanwhile.
    pub(crate) fn start_again_signalled(&mut self, signal: &str) {
        let config = self.config();
        let text = std::fs::read(&config).expect("a configuration");
        std::fs::remove_file(&config).expect("removed");
        let made = Command::new("mkfifo").arg(&config).status().expect("it runs");
        assert!(made.success());
        let log = std::fs::OpenOptions::new().append(true).open(self.folder.join("log"));
        self.child = serve(&config, log.expect("a log"), &[]);
        // Opens once the other end reads.
        let mut pipe = std::fs::OpenOptions::new().write(true).open(&config).expect("a pipe");
        self.signal(signal);
        std::fs::remove_file(&config)
            .and_then(|()| std::fs::write(&config, &text))
            .expect("written");
        pipe.write_all(&text).expect("it reads");
        drop(pipe);
        let ready = || UnixStream::connect(self.socket()).is_ok();
        self.until(ready);
    }

    /// Starts it again as systemd does: with these two sockets, by these names.
    pub(crate) fn start_again_with(&mut self, [one, other]: [(&str, OwnedFd); 2], notify: &Path) {
        let log = std::fs::OpenOptions::new().append(true).open(self.folder.join("log"));
        let names = format!("{}:{}", one.0, other.0);
        let shell = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; LISTEN_PID=$$ LISTEN_FDS=2 exec \"$0\" \
                     serve --log text -c \"$1\"";
        self.child = Command::new("sh")
            .args(["-c", shell, BINARY])
            .arg(self.config())
            .env("LISTEN_FDNAMES", names)
            .env("NOTIFY_SOCKET", notify)
            .stdin(one.1)
            .stdout(other.1)
            .stderr(log.expect("a log"))
            .spawn()
            .expect("it starts");
        let ready = || UnixStream::connect(self.socket()).is_ok();
        self.until(ready);
    }

    /// Kills it without a word.
    pub(crate) fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("killed");
    }

    /// Has another process take its place, and notes which.
    pub(crate) fn upgrade(&mut self, more: &[&str]) -> Said {
        let said = self.run(&[&["upgrade"][..], more].concat());
        self.note_successor(&said);
        said
    }

    /// Notes which process has taken its place, as `webtrunk upgrade` said it.
    pub(crate) fn note_successor(&mut self, said: &Said) {
        let pid = said.out.split_once("process ").and_then(|(_, rest)| rest.split_once(','));
        self.successor = pid.and_then(|(pid, _)| pid.parse().ok()).or(self.successor);
    }

    /// The process that serves.
    pub(crate) fn pid(&self) -> u32 {
        self.successor.unwrap_or_else(|| self.child.id())
    }

    /// As [`start`](Self::start), telling systemd's socket.
    pub(crate) fn start_notifying(socket: &std::path::Path) -> Server {
        Server::started("", "", "", &[("NOTIFY_SOCKET", socket.as_os_str())], &[])
    }

    /// As [`start`](Self::start), with the events' webhook and more routes; SHOP in them is
    /// `shop`'s address.
    pub(crate) fn start_with(more: &str, webhook: &str, routes: &str, shop: &Shop) -> Server {
        Server::started(
            more,
            &format!("webhook = {{ {webhook} }}\n"),
            &routes.replace("SHOP", &shop.at.to_string()),
            &[],
            &[],
        )
    }

    fn started(
        more: &str,
        events: &str,
        routes: &str,
        env: &[(&str, &std::ffi::OsStr)],
        changes: &[(&str, &str)],
    ) -> Server {
        // A port that was free may be somebody's connection by the time it is bound: then others.
        let tries =
            std::iter::repeat_with(|| Server::try_start(more, events, routes, env, changes))
                .take(5);
        tries.flatten().next().expect("five times a port was taken")
    }

    /// Nothing where a port was taken meanwhile.
    fn try_start(
        more: &str,
        events: &str,
        routes: &str,
        env: &[(&str, &std::ffi::OsStr)],
        changes: &[(&str, &str)],
    ) -> Option<Server> {
        let folder = folder("operator");
        let (web, metrics) = (free_port(), free_port());
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let trunk = socket.local_addr().expect("an address");
        let sip =
            UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("a port").port();
        std::fs::create_dir_all(folder.join("dialplans")).expect("a folder");
        let config = format!(
            "[server]\ndomain = \"wt.test\"\npublic_ip = \"127.0.0.9\"\n[web]\nlisten = \"127.0.0.1:{web}\"\n[sip]\nudp = \"127.0.0.1:{sip}\"\n\
             [media]\nbrowser_port = 0\nworkers = 1\nports = \"24000-28999\"\n[limits]\nnew_calls_per_second = 100\n[events]\ncdr = {{ file = \"cdr.jsonl\" }}\n{events}\
             [api]\ncontrol = \"control.sock\"\n[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n\
             [user.alice]\npassword = \"secret-a\"\ncontext = \"in\"\n[trunk.peer]\nuri = \"sip:{trunk}\"\nallow = [\"127.0.0.1\"]\ncontext = \"in\"\n{more}\n"
        );
        let config = changes.iter().fold(config, |config, (from, to)| config.replace(from, to));
        std::fs::write(folder.join("webtrunk.toml"), config).expect("written");
        std::fs::write(
            folder.join("dialplans/in.toml"),
            format!(
                "[[route]]\nname = \"Echo\"\nmatch = \"9196\"\ndo = [{{ echo = true }}]\n{routes}"
            ),
        )
        .expect("written");
        if routes.contains("silence.wav") {
            let spec = hound::WavSpec {
                channels: 1,
                sample_rate: 8_000,
                bits_per_sample: 16,
                sample_format: hound::SampleFormat::Int,
            };
            let mut file =
                hound::WavWriter::create(folder.join("silence.wav"), spec).expect("a WAV file");
            (0..32_000).for_each(|_| file.write_sample(0i16).expect("written"));
            file.finalize().expect("written");
        }
        let log = std::fs::File::create(folder.join("log")).expect("a log");
        let child = serve(&folder.join("webtrunk.toml"), log, env);
        let server = Server {
            wanted_error: None,
            child,
            successor: None,
            folder,
            web,
            sip,
            metrics,
            trunk,
            socket: Arc::new(socket),
        };
        let mut taken = false;
        server.until(|| {
            taken = server.log().contains("cannot be bound");
            taken || UnixStream::connect(server.socket()).is_ok()
        });
        (!taken).then_some(server)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("webtrunk.toml")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Waits until `wanted` holds.
    pub(crate) fn until(&self, wanted: impl FnMut() -> bool) {
        assert!(self.comes_true(wanted), "it never came true\n{}", self.log());
    }

    fn comes_true(&self, mut wanted: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !wanted() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Runs a command against this gateway.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        let control = self.socket();
        let mut all = args.to_vec();
        if !args.contains(&"--api") {
            all.extend(["--control", control.to_str().expect("UTF-8")]);
        }
        Server::offline(&all)
    }

    /// As [`run`](Self::run), in this environment.
    pub(crate) fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Said {
        let control = self.socket();
        let control = ["--control", control.to_str().expect("UTF-8")];
        Server::offline_with(&[args, &control].concat(), env)
    }

    /// Runs a command that needs none.
    pub(crate) fn offline(args: &[&str]) -> Said {
        Server::offline_with(args, &[])
    }

    pub(crate) fn offline_with(args: &[&str], env: &[(&str, &str)]) -> Said {
        let done = Command::new(BINARY)
            .args(args)
            .envs(env.iter().copied())
            .env_remove("WEBTRUNK_CONTROL")
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Said {
            code: done.status.code().unwrap_or(-1),
            out: text(done.stdout),
            err: text(done.stderr),
        }
    }

    /// Runs a command that reads this from a pipe.
    pub(crate) fn typed(args: &[&str], input: &str) -> Said {
        let mut child = Command::new(BINARY)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        // It may end without having read.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        let done = child.wait_with_output().expect("it ends");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let code = done.status.code().unwrap_or(-1);
        Said { code, out: text(done.stdout), err: text(done.stderr) }
    }

    /// Runs a command in a terminal of its own and presses keys, each once the screen shows this;
    /// the screens before each key, and whether the terminal was left as it was.
    pub(crate) fn in_terminal(&self, command: &str, keys: &[(&str, char)]) -> (Vec<String>, bool) {
        let line = format!(
            "stty rows 30 cols 120; exec {BINARY} {command} --control '{}'",
            self.socket().display()
        );
        let mut child = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script runs");
        let (mut out, mut input) =
            (child.stdout.take().expect("piped"), child.stdin.take().expect("piped"));
        let terminal = Arc::new(Mutex::new(vt100::Parser::new(
            const { NonZero::new(30u16).expect("rows") },
            const { NonZero::new(120u16).expect("columns") },
            0,
        )));
        let shown = terminal.clone();
        let reader = std::thread::spawn(move || {
            let mut buf = [0; 8_192];
            while let Some(n) = out.read(&mut buf).ok().filter(|n| *n > 0) {
                shown.lock().expect("sound").process(&buf[..n]);
            }
        });
        let screen = || terminal.lock().expect("sound").screen().contents();
        let mut screens = Vec::new();
        for (wanted, key) in keys {
            self.until(|| screen().contains(wanted));
            screens.push(screen());
            write!(input, "{key}").and_then(|()| input.flush()).expect("typed");
        }
        let _ = child.wait();
        drop(input);
        reader.join().expect("read");
        let left = !terminal.lock().expect("sound").screen().alternate_screen();
        (screens, left)
    }

    /// What a command prints in a terminal of eighty columns.
    pub(crate) fn in_narrow_terminal(&self, command: &str) -> String {
        let socket = self.socket();
        let line = format!(
            "stty rows 24 cols 80; exec {BINARY} {command} --control '{}'",
            socket.display()
        );
        let done = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::null())
            .output()
            .expect("script runs");
        String::from_utf8(done.stdout).expect("UTF-8").replace('\r', "")
    }

    /// Starts a command that goes on, and collects its lines.
    pub(crate) fn follow(&self, args: &[&str]) -> Follower {
        let mut child = Command::new(BINARY)
            .args(args)
            .arg("--control")
            .arg(self.socket())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let out = child.stdout.take().expect("piped");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        std::thread::spawn(move || {
            BufReader::new(out)
                .lines()
                .map_while(Result::ok)
                .for_each(|l| kept.lock().expect("sound").push(l))
        });
        Follower { child, lines }
    }

    pub(crate) fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.folder.join(file);
        let text = std::fs::read_to_string(&path).expect("it is there");
        assert!(text.contains(from), "{from} is not in {file}");
        std::fs::write(path, text.replacen(from, to, 1)).expect("written");
    }

    pub(crate) fn hang_up_signal(&self) {
        self.signal("HUP");
    }

    /// Sends it this signal.
    pub(crate) fn signal(&self, name: &str) {
        let _ =
            Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
    }

    fn exchange(mut stream: impl Read + Write, request: &str) -> String {
        stream.write_all(request.as_bytes()).expect("sent");
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// GET with more headers, over this connection.
    pub(crate) fn get_with(stream: TcpStream, path: &str, headers: &str) -> String {
        Server::exchange(
            stream,
            &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"),
        )
    }

    /// Bytes of memory that it has now.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("it runs");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    fn request(method: &str, path: &str, token: &str, body: &str) -> String {
        let bearer = if token.is_empty() {
            String::new()
        } else {
            format!("Authorization: Bearer {token}\r\n")
        };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{bearer}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    pub(crate) fn control(&self, method: &str, path: &str, body: &str) -> String {
        Server::exchange(
            UnixStream::connect(self.socket()).expect("it listens"),
            &Server::request(method, path, "", body),
        )
    }

    pub(crate) fn control_with(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> String {
        let request =
            Server::request(method, path, "", body).replacen("\r\n", &format!("\r\n{headers}"), 1);
        Server::exchange(UnixStream::connect(self.socket()).expect("it listens"), &request)
    }

    pub(crate) fn http(&self, method: &str, path: &str, token: &str) -> String {
        Server::exchange(
            TcpStream::connect(("127.0.0.1", self.web)).expect("it listens"),
            &Server::request(method, path, token, ""),
        )
    }

    pub(crate) fn http_with(&self, method: &str, path: &str, token: &str, body: &str) -> String {
        Server::exchange(
            TcpStream::connect(("127.0.0.1", self.web)).expect("it listens"),
            &Server::request(method, path, token, body),
        )
    }

    /// As [`http`](Self::http), with these headers and a body.
    pub(crate) fn web_with(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        let request =
            Server::request(method, path, "", body).replacen("\r\n", &format!("\r\n{headers}"), 1);
        let stream = TcpStream::connect(("127.0.0.1", self.web)).expect("it listens");
        Server::exchange(stream, &request)
    }

    /// As [`web_with`](Self::web_with), over TLS.
    pub(crate) fn https_with(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        let ca = self.folder.join("local-ca/ca.pem");
        let ca = CertificateDer::from_pem_file(ca).expect("an authority");
        let request =
            Server::request(method, path, "", body).replacen("\r\n", &format!("\r\n{headers}"), 1);
        Server::exchange(self.connect_trusting(ca), &request)
    }

    /// A connection to `localhost` over TLS, by whom believes `authority` alone.
    pub(crate) fn connect_trusting(
        &self,
        authority: CertificateDer<'static>,
    ) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
        let stream = TcpStream::connect(("127.0.0.1", self.web)).expect("it listens");
        rustls::StreamOwned::new(tls, stream)
    }

    pub(crate) fn get(&self, path: &str) -> String {
        self.http("GET", path, "")
    }

    /// The head of an answer that goes on.
    pub(crate) fn head(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).expect("it listens");
        stream.write_all(Server::request("GET", path, "", "").as_bytes()).expect("sent");
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
            bytes.extend_from_slice(&byte);
        }
        String::from_utf8(bytes).expect("UTF-8")
    }

    /// The metrics for who accepts this.
    pub(crate) fn metrics_as(&self, accept: &str) -> String {
        let request = Server::request("GET", "/metrics", "", "").replacen(
            "\r\n",
            &format!("\r\nAccept: {accept}\r\n"),
            1,
        );
        let stream = TcpStream::connect(("127.0.0.1", self.metrics)).expect("it listens");
        Server::exchange(stream, &request)
    }

    /// The metrics, as Prometheus asks for them.
    pub(crate) fn metrics(&self) -> String {
        self.metrics_as("application/openmetrics-text")
    }

    /// Waits until each of these is in the metrics.
    pub(crate) fn counts(&self, series: &[&str]) {
        for wanted in series {
            let found =
                self.comes_true(|| self.metrics().lines().any(|line| line.starts_with(wanted)));
            assert!(found, "{wanted} is not in\n{}", self.metrics());
        }
    }

    /// Ends it as systemd would, and waits.
    pub(crate) fn stop(mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let log = self.log();
        if let Some(successor) = self.successor {
            let _ = Command::new("kill").args(["-KILL", &successor.to_string()]).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
        if !std::thread::panicking() {
            let wanted =
                |line: &&str| self.wanted_error.is_none_or(|wanted| !line.contains(wanted));
            assert!(!log.lines().filter(wanted).any(|line| line.contains("ERROR")), "{log}");
        }
    }
}

pub(crate) struct Follower {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Follower {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("sound").clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A web application: it keeps what it is sent, and answers what it is told to.
pub(crate) struct Shop {
    pub at: SocketAddr,
    got: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<String>>,
}

impl Shop {
    pub(crate) fn open() -> Shop {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let (got, answer) =
            (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new("{}".to_owned())));
        let (kept, said) = (got.clone(), answer.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, said) = (kept.clone(), said.clone());
                std::thread::spawn(move || Shop::serve(stream, &kept, &said));
            }
        });
        Shop { at, got, answer }
    }

    fn serve(mut stream: TcpStream, kept: &Mutex<Vec<String>>, said: &Mutex<String>) {
        let (mut bytes, mut buf) = (Vec::new(), [0; 8_192]);
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let length = text
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "))
                .and_then(|n| n.trim().parse::<usize>().ok());
            let length = length.or(text.starts_with("GET ").then_some(0));
            if let (Some((_, body)), Some(length)) = (text.split_once("\r\n\r\n"), length)
                && body.len() >= length
            {
                kept.lock().expect("sound").push(text.clone());
                let answer = said.lock().expect("sound").clone();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}",
                    answer.len()
                );
                bytes.clear();
                continue;
            }
            match stream.read(&mut buf) {
                Ok(n) if n > 0 => bytes.extend_from_slice(&buf[..n]),
                _ => return,
            }
        }
    }

    pub(crate) fn got(&self) -> Vec<String> {
        self.got.lock().expect("sound").clone()
    }

    pub(crate) fn answer_with(&self, text: &str) {
        *self.answer.lock().expect("sound") = text.to_owned();
    }
}

/// What it says of its media; nobody listens there.
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

/// The trunk `peer`: one dialog at a time.
pub(crate) struct Trunk {
    socket: Arc<UdpSocket>,
    sip: SocketAddr,
    pub own: SocketAddr,
    call: String,
    to: String,
    from: String,
}

impl Trunk {
    pub(crate) fn new(server: &Server) -> Trunk {
        server.socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        let sip = SocketAddr::from(([127, 0, 0, 1], server.sip));
        Trunk {
            socket: server.socket.clone(),
            sip,
            own: server.trunk,
            call: String::new(),
            to: String::new(),
            from: String::new(),
        }
    }

    /// Sends an INVITE and waits for nothing.
    pub(crate) fn ring(&mut self, number: &str) {
        self.call = "op-ring".to_owned();
        self.to.clear();
        self.from = format!("<sip:+4930@{}>", self.own);
        self.send(&self.request("INVITE", number, 1, SDP));
    }

    pub(crate) fn send(&self, text: &str) {
        self.socket.send_to(text.as_bytes(), self.sip).expect("sent");
    }

    /// The next message that begins so, or a request of this method; ours to ignore are skipped.
    pub(crate) fn expect(&self, start: &str) -> String {
        let mut buf = [0; 65_536];
        loop {
            let n =
                self.socket.recv(&mut buf).unwrap_or_else(|e| panic!("{start} never came: {e}"));
            let text = String::from_utf8_lossy(&buf[..n]).into_owned();
            if text.starts_with("BYE") {
                self.send(&reply(&text));
            }
            if text.starts_with(start) {
                return text;
            }
        }
    }

    fn request(&self, method: &str, number: &str, cseq: u32, body: &str) -> String {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let branch = format!("z9hG4bK{}{method}{cseq}", self.call);
        format!(
            "{method} sip:{number}@{0} SIP/2.0\r\nVia: SIP/2.0/UDP {1};branch={branch}\r\nMax-Forwards: 70\r\nFrom: {5};tag=f\r\nTo: <sip:{number}@{0}>{2}\r\n\
             Call-ID: {3}\r\nCSeq: {cseq} {method}\r\nContact: <sip:peer@{1}>\r\n{kind}Content-Length: {4}\r\n\r\n{body}",
            self.sip,
            self.own,
            self.to,
            self.call,
            body.len(),
            self.from
        )
    }

    /// Sends an INVITE; its final status.
    pub(crate) fn invite(&mut self, number: &str) -> u16 {
        let from = format!("\"Ada Lovelace\" <sip:+4930@{}>", self.own);
        self.invite_as(number, &from)
    }

    /// Sends an INVITE from somebody; its final status.
    pub(crate) fn invite_as(&mut self, number: &str, from: &str) -> u16 {
        self.from = from.to_owned();
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        self.call = format!("op-{}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        self.to.clear();
        self.send(&self.request("INVITE", number, 1, SDP));
        loop {
            let response = self.expect("SIP/2.0 ");
            let status: u16 =
                response.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
            if status >= 200
                && response.contains(&format!("Call-ID: {}\r\n", self.call))
                && response.contains(" INVITE")
            {
                self.to = response
                    .lines()
                    .find_map(|l| l.strip_prefix("To: ")?.split_once(";tag="))
                    .map(|(_, tag)| format!(";tag={tag}"))
                    .unwrap_or_default();
                let ack = self.request("ACK", number, 1, "");
                // For a refusal the ACK belongs to the INVITE's own transaction.
                self.send(&if status < 300 { ack } else { ack.replacen("ACK1", "INVITE1", 1) });
                return status;
            }
        }
    }

    /// Makes a call with media at this port; the 200.
    pub(crate) fn call_with_media(&mut self, number: &str, port: u16) -> String {
        self.call = "op-media".to_owned();
        self.from = format!("<sip:+4930@{}>", self.own);
        self.send(&self.request("INVITE", number, 1, &sdp(port)));
        let ok = self.expect("SIP/2.0 200");
        let to = ok.lines().find_map(|l| l.strip_prefix("To: ")?.split_once(";tag="));
        self.to = to.map(|(_, tag)| format!(";tag={tag}")).expect("a tag");
        self.send(&self.request("ACK", number, 1, ""));
        ok
    }

    /// Answers the next call, with media at this port; its INVITE.
    pub(crate) fn answer_with_media(&mut self, port: u16) -> String {
        let invite = self.expect("INVITE");
        self.send(&accepted(&invite, self.own, &sdp(port)));
        self.expect("ACK");
        invite
    }

    /// Whether anything has come that is not a question outside all calls whether the trunk lives.
    pub(crate) fn was_told_something(&self) -> bool {
        let mut buf = [0; 65_536];
        self.socket.set_nonblocking(true).expect("set");
        let told =
            std::iter::from_fn(|| self.socket.recv(&mut buf).ok().map(|n| buf[..n].to_vec()))
                .map(|message| String::from_utf8_lossy(&message).into_owned())
                .any(|message| {
                    let to = message.lines().find(|l| l.starts_with("To:"));
                    !message.starts_with("OPTIONS") || to.is_some_and(|to| to.contains(";tag="))
                });
        self.socket.set_nonblocking(false).expect("set");
        told
    }

    pub(crate) fn call(&mut self, number: &str) {
        assert_eq!(self.invite(number), 200);
    }

    /// Sends an INFO with this body.
    pub(crate) fn inform(&mut self, kind: &str, body: &str) {
        let info = self.request("INFO", "x", 2, body).replace("application/sdp", kind);
        self.send(&info);
        self.expect("SIP/2.0 200");
    }

    pub(crate) fn hang_up(&mut self) {
        self.send(&self.request("BYE", "x", 3, ""));
        self.expect("SIP/2.0 200");
    }

    /// Takes the next call from a thread of its own, says nothing in it, and lets the other side
    /// end it.
    pub(crate) fn take_silently(self) -> std::thread::JoinHandle<()> {
        std::thread::spawn(move || {
            let invite = self.expect("INVITE");
            self.send(&accepted(&invite, self.own, SDP));
            self.expect("BYE");
        })
    }

    /// Answers the next OPTIONS from a thread of its own.
    pub(crate) fn answer_options(&self) -> std::thread::JoinHandle<()> {
        let socket = self.socket.clone();
        std::thread::spawn(move || {
            let mut buf = [0; 65_536];
            loop {
                let Ok((n, from)) = socket.recv_from(&mut buf) else { return };
                let text = String::from_utf8_lossy(&buf[..n]).into_owned();
                if text.starts_with("OPTIONS") {
                    socket.send_to(reply(&text).as_bytes(), from).expect("sent");
                    return;
                }
            }
        })
    }
}

/// A description with media at this port.
fn sdp(port: u16) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\n"
    )
}

/// 200 to an INVITE, with this description.
pub(crate) fn accepted(invite: &str, own: SocketAddr, sdp: &str) -> String {
    let to = invite.lines().find(|l| l.starts_with("To:")).expect("a To");
    let head = reply(invite).replace(to, &format!("{to};tag=silent"));
    let body = format!(
        "Contact: <sip:peer@{own}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    head.replace("Content-Length: 0\r\n\r\n", &body)
}

/// 200 to a request.
pub(crate) fn reply(request: &str) -> String {
    let kept = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
    let lines: String = request
        .lines()
        .filter(|l| kept.iter().any(|k| l.starts_with(k)))
        .map(|l| format!("{l}\r\n"))
        .collect();
    format!("SIP/2.0 200 OK\r\n{lines}Content-Length: 0\r\n\r\n")
}
