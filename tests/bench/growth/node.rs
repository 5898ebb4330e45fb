//! Whole nodes over real sockets: what a peer notices.

use super::core::{PLAN, trunk_text, user_text};
use super::{Figure, middle, timed};
use nix::sys::resource::{UsageWho, getrusage};
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use webtrunk::config;
use webtrunk::node::{Control, Node, Origin};

const SERVER: &str = "[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n[web]\nlisten = \"127.0.0.1:0\"\n[sip]\nudp = \"127.0.0.1:0\"\n\
     [media]\nbrowser_port = 0\nworkers = 8\nports = \"10000-60000\"\n[limits]\nnew_calls_per_second = 100000\ncalls = 20000\n\
     [trunk.t]\nuri = \"sip:127.0.0.10\"\ncontext = \"in\"\n";

/// A node served from files of its own, the runtime it runs on, and who asks it.
struct Served {
    folder: TempDir,
    runtime: Runtime,
    node: Node,
    udp: SocketAddr,
}

impl Served {
    fn start(rest: &str) -> Served {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path();
        std::fs::create_dir_all(folder.join("dialplans")).expect("a folder");
        std::fs::write(folder.join("dialplans/in.toml"), PLAN).expect("written");
        write(folder, rest);
        let runtime = Runtime::new().expect("a runtime");
        let (config, _) =
            config::load(&folder.join("webtrunk.toml")).unwrap_or_else(|p| panic!("{p}"));
        let origin = Origin {
            file: Some(folder.join("webtrunk.toml")),
            control: Control::Wanted(Some(folder.join("control"))),
            ..Origin::default()
        };
        let node = runtime.block_on(Node::start_from(config, origin)).expect("it starts");
        let udp = node.udp.expect("a port");
        Served { folder: scratch, runtime, node, udp }
    }

    /// What a local client is answered, and how long that took.
    fn get(&self, path: &str) -> (Duration, String) {
        timed(|| {
            let mut socket =
                UnixStream::connect(self.folder.path().join("control")).expect("it is there");
            write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .expect("sent");
            let mut answer = String::new();
            socket.read_to_string(&mut answer).expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            answer
        })
    }

    fn stop(self) {
        self.runtime.block_on(self.node.stop());
    }
}

fn write(folder: &Path, rest: &str) {
    std::fs::write(folder.join("webtrunk.toml"), format!("{SERVER}{rest}")).expect("written");
}

/// The longest that an OPTIONS waits for its answer while `work` runs.
fn longest_wait<T>(udp: SocketAddr, work: impl FnOnce() -> T) -> (Duration, T) {
    let over = Arc::new(AtomicBool::new(false));
    let (seen, ready) = (over.clone(), Arc::new(AtomicUsize::new(0)));
    let begun = ready.clone();
    let prober = thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.10:0").expect("a socket");
        let own = socket.local_addr().expect("bound");
        socket.set_read_timeout(Some(Duration::from_secs(120))).expect("set");
        let (mut longest, mut n, mut buf) = (Duration::ZERO, 0u32, [0; 2_048]);
        while !seen.load(Ordering::Relaxed) {
            n += 1;
            let text = format!(
                "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKp{n}\r\nMax-Forwards: 70\r\nFrom: <sip:p@x>;tag=p\r\nTo: <sip:x>\r\n\
                 Call-ID: p{n}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            );
            let began = Instant::now();
            socket.send_to(text.as_bytes(), udp).expect("sent");
            socket.recv(&mut buf).expect("an answer");
            // What waits before the work begins is the start's.
            let waited = if n > 100 { began.elapsed() } else { Duration::ZERO };
            longest = longest.max(waited);
            begun.store(n as usize, Ordering::Relaxed);
            thread::sleep(Duration::from_micros(500));
        }
        longest
    });
    while ready.load(Ordering::Relaxed) < 100 {
        thread::sleep(Duration::from_millis(1));
    }
    let done = work();
    thread::sleep(Duration::from_millis(200));
    over.store(true, Ordering::Relaxed);
    (prober.join().expect("no panic"), done)
}

/// A reload that changes nothing, and one that changes half of all: their time, and the stop.
fn reloads(served: &Served, what: [&'static str; 4], other: &str) -> Vec<Figure> {
    let reload = || {
        timed(|| {
            served.runtime.block_on(served.node.reload()).unwrap_or_else(|why| panic!("{why}"))
        })
    };
    let (wait, (time, _)) = longest_wait(served.udp, reload);
    write(served.folder.path(), other);
    let (other_wait, (other_time, changes)) = longest_wait(served.udp, reload);
    assert!(!changes.changed.is_empty());
    vec![
        Figure::all(what[0], time),
        Figure::stop(what[1], wait),
        Figure::all(what[2], other_time),
        Figure::stop(what[3], other_wait),
    ]
}

/// Reload with `n` users.
pub(super) fn users(n: usize) -> Vec<Figure> {
    let served = Served::start(&user_text(n));
    let other = user_text(n).replace("1\"\ncontext", "1\"\nmax_calls = 2\ncontext");
    let what = [
        "reload, no user changed",
        "longest stop during it",
        "reload, a tenth of the users changed",
        "longest stop during it",
    ];
    let figures = reloads(&served, what, &other);
    served.stop();
    figures
}

/// Memory of this process, bytes.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("it is there");
    let pages: u64 = text.split(' ').nth(1).and_then(|p| p.parse().ok()).expect("a number");
    pages * 4_096
}

/// Start and reload with `n` trunks.
pub(super) fn trunks(n: usize) -> Vec<Figure> {
    let before = memory();
    let (time, served) = timed(|| Served::start(&trunk_text(n)));
    let mut figures = vec![
        Figure::all("start", time),
        Figure::memory("memory after the start", memory().saturating_sub(before)),
    ];
    thread::sleep(Duration::from_secs(1));
    let what = [
        "reload, no trunk changed",
        "longest stop during it",
        "reload, all trunks replaced by others",
        "longest stop during it",
    ];
    figures.extend(reloads(&served, what, &trunk_text(n).replace("[trunk.r", "[trunk.s")));
    served.stop();
    figures
}

/// CPU of this process so far.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("usage is readable");
    let time =
        |t: nix::sys::time::TimeVal| Duration::new(t.tv_sec() as u64, t.tv_usec() as u32 * 1_000);
    time(usage.user_time()) + time(usage.system_time())
}

/// One event to `n` who listen; reading it is in the figure.
pub(super) fn listeners(n: usize) -> Vec<Figure> {
    const EVENTS: usize = 100;
    let served = Served::start("");
    let heard = Arc::new(AtomicUsize::new(0));
    let path = served.folder.path().join("control");
    for _ in 0..n {
        let (heard, path) = (heard.clone(), path.clone());
        served.runtime.spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut socket = tokio::net::UnixStream::connect(path).await.expect("it is there");
            let ask = b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n";
            socket.write_all(ask).await.expect("sent");
            let mut buf = [0; 4_096];
            while let Ok(read) = socket.read(&mut buf).await
                && read > 0
            {
                let text = String::from_utf8_lossy(&buf[..read]);
                heard.fetch_add(
                    text.matches("\nevent: ").count() + text.matches("HTTP/1.1 200").count(),
                    Ordering::Relaxed,
                );
            }
        });
    }
    let until = |wanted: usize| {
        while heard.load(Ordering::Relaxed) < wanted {
            thread::sleep(Duration::from_millis(1));
        }
    };
    until(n);
    let before = cpu();
    for event in 0..EVENTS {
        let way = if event % 2 == 0 { "disable" } else { "enable" };
        let mut socket = UnixStream::connect(&path).expect("it is there");
        write!(
            socket,
            "POST /api/v1/trunks/t/{way} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .expect("sent");
        let _ = socket.read_to_end(&mut Vec::new());
        until(n + n * (event + 1));
    }
    let each = (cpu() - before) / EVENTS as u32;
    served.stop();
    vec![Figure::all("CPU of one event", each)]
}

/// What the API answers with `n` calls that live, and how long the core is busy with it.
pub(super) fn live_calls(n: usize) -> Vec<Figure> {
    let served = Served::start("");
    let socket = UdpSocket::bind("127.0.0.10:5060").expect("a socket");
    let mut buf = [0; 4_096];
    let (mut held, mut asked) = (0, 0);
    while held < n {
        asked += 1;
        if call(&socket, served.udp, asked, &mut buf) {
            held += 1;
        } else {
            // The workers take so many new calls in a second.
            thread::sleep(Duration::from_millis(100));
        }
    }
    let mut figures = Vec::new();
    for (path, what, stop) in [
        ("/api/v1/calls?state=live", "a page of 100 calls", "longest stop during it"),
        (
            "/api/v1/calls?state=live&user=nobody",
            "a search that finds none",
            "longest stop during it",
        ),
        ("/api/v1/status", "the status", "longest stop during it"),
    ] {
        let (wait, time) =
            longest_wait(served.udp, || middle((0..21).map(|_| served.get(path).0).collect()));
        figures.extend([Figure::one(what, time), Figure::stop(stop, wait)]);
    }
    served.stop();
    figures
}

/// A call of the trunk to the echo, up to its ACK; whether it was taken.
fn call(socket: &UdpSocket, udp: SocketAddr, n: usize, buf: &mut [u8]) -> bool {
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.10\r\ns=-\r\nc=IN IP4 127.0.0.10\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let says = |method: &str, tag: &str, body: &str| {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "{method} sip:1@x SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.10:5060;branch=z9hG4bK{n}{method}\r\nMax-Forwards: 70\r\nFrom: <sip:a@b>;tag={n}\r\nTo: <sip:1@x>{tag}\r\n\
             Call-ID: {n}@bench\r\nCSeq: 1 {method}\r\nContact: <sip:a@127.0.0.10>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.send_to(text.as_bytes(), udp).expect("sent");
    };
    says("INVITE", "", sdp);
    loop {
        let read = socket.recv(buf).expect("an answer");
        let text = String::from_utf8_lossy(&buf[..read]).into_owned();
        let own = text.contains(&format!("Call-ID: {n}@bench\r\n"));
        if own && text.starts_with("SIP/2.0 200") {
            let to = text.lines().find(|l| l.starts_with("To:")).expect("a To");
            let tag = to.split(";tag=").nth(1).expect("a tag");
            says("ACK", &format!(";tag={tag}"), "");
            return true;
        }
        if own && text.starts_with("SIP/2.0 503") {
            return false;
        }
        assert!(!own || text.starts_with("SIP/2.0 1"), "{text}");
    }
}
