//! A served gateway as a process.

use crate::follower::Follower;
use crate::shop::Shop;
use std::io::{PipeReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_webtrunk");

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A folder of its own, which goes when this is dropped.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let made = tempfile::Builder::new().prefix(&format!("webtrunk-{name}-")).tempdir();
        Folder(made.expect("a folder"))
    }
}

impl std::ops::Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        self.0.path()
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}

pub(crate) fn serve(
    config: &Path,
    log: impl Into<Stdio>,
    env: &[(&str, &std::ffi::OsStr)],
) -> Child {
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
    /// The process that replaced it.
    successor: Option<u32>,
    pub folder: Folder,
    pub web: u16,
    pub sip: u16,
    pub(crate) metrics: u16,
    /// The trunk's address, known to the configuration.
    pub trunk: SocketAddr,
    pub(crate) socket: Arc<UdpSocket>,
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

    /// As [`start`](Self::start), with more routes.
    pub(crate) fn start_with_more(more: &str, routes: &str) -> Server {
        Server::started(more, "", routes, &[], &[])
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

    /// Starts it again, with a log at the lowest level by a pipe, which is returned.
    pub(crate) fn start_again_piped(&mut self) -> PipeReader {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let level = [("WEBTRUNK_LOG_LEVEL", "trace".as_ref())];
        self.child = serve(&self.config(), writer, &level);
        let ready = || UnixStream::connect(self.socket()).is_ok();
        self.until(ready);
        reader
    }

    /// Starts it again with files that may be no longer than so many blocks of 512 bytes.
    pub(crate) fn start_again_limited(&mut self, blocks: u32) {
        let log = std::fs::OpenOptions::new().append(true).open(self.folder.join("log"));
        let shell = format!("ulimit -f {blocks}; exec \"$0\" serve --log text -c \"$1\"");
        self.child = Command::new("sh")
            .args(["-c", &shell, BINARY])
            .arg(self.config())
            .stderr(log.expect("a log"))
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let ready = || UnixStream::connect(self.socket()).is_ok();
        self.until(ready);
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("it is ours")
    }

    /// A test provokes errors of this code.
    pub(crate) fn provokes(&mut self, code: &'static str) {
        self.wanted_error = Some(code);
    }

    /// Starts it again with a configuration that it has to wait for, and sends it these signals
    /// meanwhile.
    pub(crate) fn start_again_signalled(&mut self, signals: &[&str]) {
        let config = self.config();
        let text = std::fs::read(&config).expect("a configuration");
        std::fs::remove_file(&config).expect("removed");
        let made = Command::new("mkfifo").arg(&config).status().expect("it runs");
        assert!(made.success());
        let log = std::fs::OpenOptions::new().append(true).open(self.folder.join("log"));
        self.child = serve(&config, log.expect("a log"), &[]);
        // Opens once the other end reads.
        let mut pipe = std::fs::OpenOptions::new().write(true).open(&config).expect("a pipe");
        signals.iter().for_each(|signal| self.signal(signal));
        std::fs::remove_file(&config)
            .and_then(|()| std::fs::write(&config, &text))
            .expect("written");
        pipe.write_all(&text).expect("it reads");
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

    /// As [`start`](Self::start), with the events' webhook.
    pub(crate) fn start_telling(webhook: &str) -> Server {
        Server::started("", &format!("webhook = {{ {webhook} }}\n"), "", &[], &[])
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
        let folder = Folder::new("operator");
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

    /// Waits until this is in the log, which is written a moment later than what it tells of.
    pub(crate) fn logs(&self, text: &str) {
        let logged = self.comes_true(|| self.log().contains(text));
        assert!(logged, "{text} is not logged\n{}", self.log());
    }

    /// Waits until `wanted` holds.
    pub(crate) fn until(&self, wanted: impl FnMut() -> bool) {
        assert!(self.comes_true(wanted), "it never came true\n{}", self.log());
    }

    /// As [`until`](Self::until), of itself.
    pub(crate) fn comes_true_of(&mut self, mut wanted: impl FnMut(&mut Server) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !wanted(self) {
            assert!(Instant::now() < deadline, "it never came true\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn comes_true(&self, mut wanted: impl FnMut() -> bool) -> bool {
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

    /// Starts a command that keeps running, and collects its lines.
    pub(crate) fn follow(&self, args: &[&str]) -> Follower {
        Follower::start(args, &self.socket())
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

    /// Bytes of memory that it has now.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("it runs");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
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
        if !std::thread::panicking() {
            let wanted =
                |line: &&str| self.wanted_error.is_none_or(|wanted| !line.contains(wanted));
            assert!(!log.lines().filter(wanted).any(|line| line.contains("ERROR")), "{log}");
        }
    }
}
