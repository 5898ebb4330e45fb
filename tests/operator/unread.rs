//! Nobody reads what a gateway logs: it serves all the same.

use crate::server::Server;
use crate::trunk::Trunk;
use std::io::{PipeReader, Read};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A thread that hangs for 5 s ends the process.
const WATCHED: Duration = Duration::from_secs(7);
const CALLS_APART: Duration = Duration::from_millis(20);

fn lost(server: &Server) -> u64 {
    let metrics = server.metrics();
    let line = metrics.lines().find_map(|l| l.strip_prefix("webtrunk_log_lines_lost_total "));
    line.and_then(|count| count.trim().parse().ok()).expect("a number")
}

/// Has it log more than anybody keeps, until some of it is lost.
fn floods(server: &Server, trunk: &Trunk) {
    let began = Instant::now();
    while lost(server) == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "it never came to that");
        // As many as its socket has room for.
        (0..100).for_each(|n| trunk.send(&format!("no SIP, and the {n}th of its kind")));
    }
}

/// Reads all that is logged from now on.
fn reads(mut pipe: PipeReader) -> Arc<Mutex<String>> {
    let read = Arc::new(Mutex::new(String::new()));
    let all = read.clone();
    std::thread::spawn(move || {
        let mut buf = [0; 65_536];
        while let Ok(n @ 1..) = pipe.read(&mut buf) {
            all.lock().expect("sound").push_str(&String::from_utf8_lossy(&buf[..n]));
        }
    });
    read
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing_and_what_is_lost_of_it_is_said() {
    let mut server = Server::start("");
    server.kill();
    let pipe = server.start_again_piped();
    let mut trunk = Trunk::new(&server);
    floods(&server, &trunk);
    let (began, mut calls) = (Instant::now(), 0);
    while began.elapsed() < WATCHED {
        trunk.send("no SIP");
        // At a pace: a quick machine would meet the limit of new calls, and then the last port.
        if began.elapsed() >= CALLS_APART * calls {
            trunk.call("9196");
            trunk.hang_up();
            calls += 1;
        }
        assert!(server.get("/livez").starts_with("HTTP/1.1 200"));
    }
    assert_eq!(server.ended(), None);
    let read = reads(pipe);
    let line = || {
        let read = read.lock().expect("sound");
        read.lines().find(|l| l.contains("WT-5010")).map(str::to_owned)
    };
    server.until(|| line().is_some());
    let told = line().expect("it came");
    let count = told.split(" line(s) of the log").next().and_then(|l| l.rsplit(' ').next());
    let count: u64 = count.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{told}"));
    assert!(count > 0 && count <= lost(&server), "{told}");
    // All of it is there again, to the last line.
    server.signal("TERM");
    server.comes_true_of(|server| server.ended().is_some());
    server.until(|| read.lock().expect("sound").trim_end().ends_with("stopped"));
}

#[test]
fn a_process_whose_log_nobody_reads_ends_when_it_is_told_to() {
    let mut server = Server::start("");
    server.kill();
    let pipe = server.start_again_piped();
    floods(&server, &Trunk::new(&server));
    server.signal("TERM");
    let mut end = None;
    server.comes_true_of(|server| {
        end = server.ended();
        end.is_some()
    });
    assert_eq!(end.and_then(|end| end.code()), Some(0));
    drop(pipe);
}
