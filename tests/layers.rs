//! The layers hold: a module names only modules above its own in lib.rs, and a machine touches
//! neither clock, socket, file nor random source.

use std::fs;
use std::path::{Path, PathBuf};
use webtrunk::LAYERS;

/// Upward uses that are argued for: what, and why.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// Modules that are machines: no time, no chance, no world.
const PURE: [&str; 24] = [
    "address",
    "brakes",
    "chance",
    "egress",
    "errors",
    "hex",
    "recorder",
    "ids",
    "timers",
    "codec",
    "rtp",
    "sdp",
    "sip",
    "dialplan",
    "media",
    "flow",
    "fraud",
    "resolver",
    "registrar",
    "trunk",
    "cdr",
    "call",
    "gateway",
    "event",
];
const BANNED: [&str; 12] = [
    "Instant::now",
    "SystemTime",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "tokio::",
    "std::fs",
    "File::",
    "OsRng",
    "thread::",
    "rand::",
    "std::env",
];

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if !path.ends_with("node_modules") {
                files(&path, out);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files(&src, &mut paths);
    paths
        .into_iter()
        .map(|path| {
            let inner = path.strip_prefix(&src).expect("within src");
            let module = inner
                .components()
                .next()
                .expect("a name")
                .as_os_str()
                .to_string_lossy()
                .trim_end_matches(".rs")
                .to_owned();
            let text = fs::read_to_string(&path).expect("readable");
            // Unit tests may do what machines may not.
            let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            (module, path, text)
        })
        .collect()
}

fn group_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|g| g.contains(&module))
}

#[test]
fn no_module_looks_up() {
    let mut wrong = Vec::new();
    for (module, path, text) in sources() {
        let Some(own) = group_of(&module) else { continue };
        for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//"))
        {
            for used in line.match_indices("crate::").filter_map(|(at, _)| {
                line[at + 7..].split(|c: char| !c.is_alphanumeric() && c != '_').next()
            }) {
                let excused = EXCEPTIONS.iter().any(|(m, u, _)| *m == module && *u == used);
                if group_of(used).is_some_and(|g| g > own) && !excused {
                    wrong.push(format!("{}:{}: `{module}` uses `{used}`, which is built on top of it; turn the dependency round", path.display(), n + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn machines_touch_neither_clock_nor_world() {
    let mut wrong = Vec::new();
    for (module, path, text) in sources().into_iter().filter(|(m, ..)| PURE.contains(&m.as_str())) {
        for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//"))
        {
            for banned in BANNED.iter().filter(|b| line.contains(**b)) {
                wrong.push(format!(
                    "{}:{}: `{module}` is a machine and names `{banned}`; take it as an argument",
                    path.display(),
                    n + 1
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_module_has_its_layer_and_no_unsafe_is_written() {
    for (module, path, text) in sources() {
        let known =
            group_of(&module).is_some() || matches!(module.as_str(), "lib" | "main" | "cli");
        assert!(known, "{} has no layer: add it to LAYERS in src/lib.rs", path.display());
        assert!(!text.contains("unsafe "), "{} writes unsafe", path.display());
    }
}
