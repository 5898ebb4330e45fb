//! The process is killed in mid-call and started again: peers keep hearing each other, and are sent
//! nothing.

use crate::server::Server;
use crate::trunk::{Trunk, reply};
use serde_json::Value;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A peer's media: it says a tone, and counts what it hears.
pub(crate) struct Voice {
    socket: Arc<UdpSocket>,
    heard: Arc<AtomicU32>,
    /// Packets whose number does not follow the last one's.
    jumps: Arc<AtomicU32>,
    /// The longest time between two packets, milliseconds.
    gap: Arc<AtomicU32>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Voice {
    pub(crate) fn new() -> Voice {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
        Voice {
            socket: Arc::new(socket),
            heard: Arc::default(),
            jumps: Arc::default(),
            gap: Arc::default(),
            over: Arc::default(),
            thread: None,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.socket.local_addr().expect("bound").port()
    }

    /// Speaks to `to` from now on.
    pub(crate) fn speak(&mut self, to: SocketAddr) {
        let (socket, heard) = (self.socket.clone(), self.heard.clone());
        let (jumps, gap, over) = (self.jumps.clone(), self.gap.clone(), self.over.clone());
        self.thread = Some(std::thread::spawn(move || {
            let mut buf = [0; 2_048];
            let begun = Instant::now();
            let mut last: Option<(u16, Instant)> = None;
            for n in 0u16.. {
                // A packet each 20 ms, as telephones send them.
                let due = begun + Duration::from_millis(20) * u32::from(n);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let mut packet = [0x80u8; 172];
                packet[1] = 0;
                packet[2..4].copy_from_slice(&n.to_be_bytes());
                packet[4..8].copy_from_slice(&(u32::from(n) * 160).to_be_bytes());
                packet[12..].iter_mut().enumerate().for_each(|(at, sample)| {
                    *sample = if at % 8 < 4 { 0x90 } else { 0x10 };
                });
                // Nobody may be there for a while.
                let _ = socket.send_to(&packet, to);
                if socket.recv(&mut buf).is_ok_and(|n| n > 12 && buf[1] & 0x7f == 0) {
                    heard.fetch_add(1, Ordering::Relaxed);
                    let (number, now) = (u16::from_be_bytes([buf[2], buf[3]]), Instant::now());
                    if let Some((before, at)) = last.replace((number, now)) {
                        jumps.fetch_add(
                            u32::from(number != before.wrapping_add(1)),
                            Ordering::Relaxed,
                        );
                        gap.fetch_max(now.duration_since(at).as_millis() as u32, Ordering::Relaxed);
                    }
                }
            }
        }));
    }

    /// How often a number did not follow the last one's, and the longest time without a packet.
    pub(crate) fn breaks(&self) -> (u32, Duration) {
        let gap = Duration::from_millis(self.gap.load(Ordering::Relaxed).into());
        (self.jumps.load(Ordering::Relaxed), gap)
    }

    /// Waits until so much more was heard.
    pub(crate) fn hears(&self, server: &Server, packets: u32) {
        let before = self.heard.load(Ordering::Relaxed);
        server.until(|| self.heard.load(Ordering::Relaxed) >= before + packets);
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// Where a description says media goes.
pub(crate) fn media_of(message: &str) -> SocketAddr {
    let port = message.split_once("m=audio ").and_then(|(_, rest)| rest.split_once(' '));
    let port = port.and_then(|(port, _)| port.parse().ok()).expect("a port");
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// How many bytes are kept of the one call there is; the process is dead.
fn kept(server: &Server) -> i64 {
    let copy = server.folder.join("copy.db");
    for companion in ["", "-wal"] {
        let file = server.folder.join(format!("state/checkpoints.db{companion}"));
        std::fs::copy(file, format!("{}{companion}", copy.display())).expect("a copy");
    }
    let database = rusqlite::Connection::open(copy).expect("it opens");
    let length = "SELECT SUM(LENGTH(sealed)) FROM checkpoint";
    database.query_row(length, (), |row| row.get(0)).expect("a number")
}

/// The one record there is, of a call that outlived one restart.
pub(crate) fn the_record(server: &Server) -> Value {
    the_record_after(server, 1)
}

/// As [`the_record`], after so many.
pub(crate) fn the_record_after(server: &Server, restarts: usize) -> Value {
    let file = server.folder.join("cdr.jsonl");
    let lines = || std::fs::read_to_string(&file).unwrap_or_default();
    server.until(|| !lines().is_empty());
    let records: Vec<Value> =
        lines().lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let [record] = &*records else { panic!("one call is one record: {records:#?}") };
    let gaps: Vec<u64> = record["interruptions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|i| i["gap_ms"].as_u64())
        .collect();
    assert!(gaps.len() == restarts && gaps.iter().all(|gap| *gap < 20_000), "{record:#}");
    assert_eq!((&record["outcome"], &record["code"]), (&"success".into(), &Value::Null));
    assert_eq!(record["verdict"]["side"], "nobody", "{record:#}");
    record.clone()
}

#[test]
fn a_trunks_call_continues_after_the_process_was_killed() {
    let mut server = Server::start("");
    let (mut trunk, mut voice) = (Trunk::new(&server), Voice::new());
    let ok = trunk.call_with_media("9196", voice.port());
    voice.speak(media_of(&ok));
    voice.hears(&server, 100);
    server.kill();
    server.start_again();
    voice.hears(&server, 100);
    assert!(!trunk.got_a_message(), "{}", server.log());
    server.logs("gateway restarted");
    trunk.hang_up();
    the_record(&server);
}

#[test]
fn a_browsers_call_continues_after_the_process_was_killed() {
    let route = "[[route]]\nname = \"Out\"\nmatch = \"700\"\ndo = [{ dial = [\"trunk:peer\"] }]\n";
    let mut server = Server::start_with_routes(route);
    let (mut trunk, mut voice) = (Trunk::new(&server), Voice::new());
    let socket = server.socket();
    let phone = std::thread::spawn(move || {
        let control = socket.to_str().expect("UTF-8");
        let login = ["--as", "alice", "--password", "secret-a"];
        let more = ["--for", "12s", "--control", control];
        Server::offline(&[&["call", "700"][..], &login, &more].concat())
    });
    let invite = trunk.answer_with_media(voice.port());
    voice.speak(media_of(&invite));
    voice.hears(&server, 150);
    server.kill();
    let kept = kept(&server);
    assert!((500..=2_048).contains(&kept), "{kept} bytes");
    server.start_again();
    voice.hears(&server, 150);
    assert!(!trunk.got_a_message(), "{}", server.log());
    trunk.expect("BYE");
    let said = phone.join().expect("it ran");
    assert_eq!(said.code, 0, "{said:?}\n{}", server.log());
    let record = the_record(&server);
    assert_eq!(record["hangup_by"], "caller");
}

/// A route of the dialplan that answers and then dials.
const ANSWERED: &str = "[[route]]\nname = \"Answered\"\nmatch = \"701\"\n\
    do = [{ answer = true }, { dial = [\"trunk:peer\"], to = \"+4940\" }]\n";

/// A response of a callee to a request.
fn response(request: &str, status: &str) -> String {
    let to = request.lines().find(|l| l.starts_with("To:")).expect("a To");
    reply(request).replace("200 OK", status).replace(to, &format!("{to};tag=silent"))
}

#[test]
fn a_caller_who_was_answered_is_connected_after_the_process_was_killed() {
    let mut server = Server::start_with_routes(ANSWERED);
    let (mut trunk, mut caller, mut callee) = (Trunk::new(&server), Voice::new(), Voice::new());
    let ok = trunk.call_with_media("701", caller.port());
    caller.speak(media_of(&ok));
    let rang = trunk.expect("INVITE");
    trunk.send(&response(&rang, "180 Ringing"));
    caller.hears(&server, 50);
    server.kill();
    server.start_again();
    let cancel = trunk.expect("CANCEL");
    trunk.send(&reply(&cancel));
    trunk.send(&response(&rang, "487 Request Terminated"));
    caller.hears(&server, 20);
    let again = trunk.answer_with_media(callee.port());
    let call_id = |m: &str| m.lines().find(|l| l.starts_with("Call-ID:")).map(str::to_owned);
    assert_ne!(call_id(&again), call_id(&rang));
    callee.speak(media_of(&again));
    caller.hears(&server, 150);
    callee.hears(&server, 150);
    trunk.hang_up();
    trunk.expect("BYE");
    let record = the_record(&server);
    assert_eq!(record["attempts"].as_array().map(Vec::len), Some(2), "{record:#}");
    server.logs("takes the step");
}

/// How many goodbyes are on disk, if that can be seen while it is written.
fn farewells(server: &Server) -> Option<i64> {
    let copy = server.folder.join("farewells.db");
    for companion in ["", "-wal"] {
        let file = server.folder.join(format!("state/checkpoints.db{companion}"));
        std::fs::copy(file, format!("{}{companion}", copy.display())).ok()?;
    }
    let database = rusqlite::Connection::open(copy).ok()?;
    let count = "SELECT COUNT(*) FROM checkpoint WHERE name LIKE 'farewell %'";
    database.query_row(count, (), |row| row.get(0)).ok()
}

#[test]
fn a_bye_that_was_not_answered_is_sent_by_the_next_process() {
    let mut server = Server::start_with_routes(ANSWERED);
    let (mut trunk, mut voice) = (Trunk::new(&server), Voice::new());
    let ok = trunk.call_with_media("701", voice.port());
    voice.speak(media_of(&ok));
    trunk.answer_with_media(voice.port());
    voice.hears(&server, 20);
    // Its 200 comes before the other leg's BYE, which is not read.
    trunk.hang_up();
    server.until(|| farewells(&server) == Some(1));
    server.kill();
    assert!(trunk.got_a_message(), "the BYE");
    server.start_again();
    trunk.expect("BYE");
    server.until(|| farewells(&server) == Some(0));
    // The first process had recorded the call, and the next one did not continue it.
    let records = std::fs::read_to_string(server.folder.join("cdr.jsonl")).expect("a record");
    assert_eq!(records.lines().count(), 1, "{records}");
}

#[test]
fn a_process_that_was_stopped_blames_nobody_for_the_silence() {
    let server = Server::start_changed(&[("workers = 1", "workers = 1\nstopped_after = \"1s\"")]);
    let (mut trunk, mut voice) = (Trunk::new(&server), Voice::new());
    let ok = trunk.call_with_media("9196", voice.port());
    voice.speak(media_of(&ok));
    voice.hears(&server, 100);
    server.signal("STOP");
    // It speaks on meanwhile, for longer than it may be silent.
    std::thread::sleep(Duration::from_secs(3));
    server.signal("CONT");
    voice.hears(&server, 100);
    assert!(!trunk.got_a_message(), "{}", server.log());
    trunk.hang_up();
    server.until(|| server.folder.join("cdr.jsonl").exists());
}

/// A supervisor takes an end by SIGHUP for its operator's wish, and starts nothing again.
#[test]
fn a_reload_that_is_asked_for_while_it_starts_does_not_end_it() {
    let mut server = Server::start("");
    server.kill();
    server.edit("webtrunk.toml", "context = \"in\"", "context = \"in\"\ndisplay_name = \"A\"");
    // So does what means nothing, but would end a process that has not said so.
    server.start_again_signalled(&["HUP", "USR1", "USR2"]);
    // And it is done once it is up.
    server.until(|| server.log().contains("reloaded"));
}

/// Who is stopped while it starts has nothing to drain, and ends as if it had never been started.
#[test]
fn a_gateway_that_is_stopped_while_it_starts_ends_well() {
    let mut server = Server::start("");
    server.kill();
    server.start_again_signalled(&["TERM"]);
    let mut end = None;
    server.comes_true_of(|server| {
        end = server.ended();
        end.is_some()
    });
    assert_eq!(end.and_then(|end| end.code()), Some(0), "{}", server.log());
    server.logs("stopped");
}

/// As a limit of the service, or a quota: no place, but no reason to end.
#[test]
fn files_that_may_not_grow_cost_no_call() {
    let mut server = Server::start("");
    server.kill();
    server.provokes("WT-5001");
    server.start_again_limited(128);
    let mut trunk = Trunk::new(&server);
    server.until(|| {
        trunk.call("9196");
        trunk.hang_up();
        let log = server.log();
        log.contains("WT-5003") && log.contains("WT-5001")
    });
    assert!(server.get("/livez").starts_with("HTTP/1.1 200"));
    assert_eq!(server.ended(), None, "{}", server.log());
}

/// A pipe that takes nothing more, in the place of the file of records.
fn full_pipe(server: &Server) -> std::fs::File {
    let path = server.folder.join("cdr.jsonl");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("it runs");
    assert!(made.success());
    let mut pipe = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)
        .expect("a pipe");
    while pipe.write(&[0; 4_096]).is_ok_and(|n| n > 0) {}
    pipe
}

/// As with a disk and a web application that hang: the end waits for each of them, within a bound,
/// and is longer than a thread may be silent. That is no bug.
#[test]
fn a_gateway_that_has_to_wait_at_its_end_ends_well() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = silent.local_addr().expect("bound");
    let hook = format!(
        "url = \"http://{at}/\", secret = \"a-secret-of-some-length\", \
         allow_private = true"
    );
    let mut server = Server::start_telling(&hook);
    let pipe = full_pipe(&server);
    let mut trunk = Trunk::new(&server);
    trunk.call("9196");
    trunk.hang_up();
    server.signal("TERM");
    let mut end = None;
    server.comes_true_of(|server| {
        end = server.ended();
        end.is_some()
    });
    assert_eq!(end.and_then(|end| end.code()), Some(0), "{}", server.log());
    drop((pipe, silent));
}
