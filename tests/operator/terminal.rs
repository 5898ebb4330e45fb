//! Commands in a terminal of their own.

use crate::server::{BINARY, Server};
use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// Runs a command in a terminal of its own and presses keys, each once the screen shows this;
/// the screens before each key, and whether the terminal was left as it was.
pub(crate) fn in_terminal(
    server: &Server,
    command: &str,
    keys: &[(&str, char)],
) -> (Vec<String>, bool) {
    let line = format!(
        "stty rows 30 cols 120; exec {BINARY} {command} --control '{}'",
        server.socket().display()
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
        server.until(|| screen().contains(wanted));
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
pub(crate) fn in_narrow_terminal(server: &Server, command: &str) -> String {
    let socket = server.socket();
    let line =
        format!("stty rows 24 cols 80; exec {BINARY} {command} --control '{}'", socket.display());
    let done = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .expect("script runs");
    String::from_utf8(done.stdout).expect("UTF-8").replace('\r', "")
}
