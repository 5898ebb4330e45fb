//! The layers hold: a module names only modules above its own in lib.rs, and a machine touches
//! neither clock, socket, file nor random source.

mod lines;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use webtrunk::{LAYERS, LAYERS_WITHIN};

/// Upward uses that are argued for: what, and why.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// Modules that are machines: no time, no chance, no world.
const PURE: [&str; 26] = [
    "address",
    "brakes",
    "chance",
    "cluster",
    "egress",
    "errors",
    "hex",
    "recorder",
    "ids",
    "pace",
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
            // What is fetched and what is built is no source of ours.
            if !path.ends_with("node_modules") && !path.ends_with("target") {
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
        .filter(|path| !path.ends_with("tests.rs"))
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
            (module, path, without_tests(&text))
        })
        .collect()
}

/// A source without its items for tests, which may do what machines may not. Their lines are left
/// empty, so that the others keep their numbers.
fn without_tests(text: &str) -> String {
    if text.starts_with("#![cfg(test)]") || text.contains("\n#![cfg(test)]") {
        return String::new();
    }
    let indent = |line: &str| line.len() - line.trim_start().len();
    let (mut kept, mut lines) = (String::new(), text.lines());
    while let Some(line) = lines.next() {
        if !line.trim_start().starts_with("#[cfg(test)]") {
            kept.push_str(line);
        } else {
            let mut open = false;
            for of_item in lines.by_ref() {
                kept.push('\n');
                open |= of_item.ends_with(['{', '(', '[']);
                let ends = of_item.ends_with([';', '}', ',']) && !of_item.trim().starts_with("#[");
                if ends && (!open || indent(of_item) == indent(line)) {
                    break;
                }
            }
        }
        kept.push('\n');
    }
    kept
}

#[test]
fn items_for_tests_are_no_part_of_a_source() {
    let text = "a\n#[cfg(test)]\nuse b;\nc\n#[cfg(test)]\nmod tests {\n    d;\n}\ne {\n    \
                #[cfg(test)]\n    f: g,\n    h\n}\n";
    let kept = without_tests(text);
    assert_eq!(kept.split_whitespace().collect::<Vec<_>>(), ["a", "c", "e", "{", "h", "}"]);
    assert_eq!(kept.lines().count(), text.lines().count());
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
                    wrong.push(format!(
                        "{}:{}: `{module}` uses `{used}`, which is built on top of it; turn the \
                         dependency round",
                        path.display(),
                        n + 1
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The names a text takes from `super::` or `crate::MODULE::`, those in braces included.
fn used_within(module: &str, text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut used = Vec::new();
    for start in ["super::".to_owned(), format!("crate::{module}::")] {
        for (at, _) in code.match_indices(&start) {
            let rest = &code[at + start.len()..];
            let name = |t: &str| {
                t.split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned)
            };
            match rest.strip_prefix('{').and_then(|r| r.split_once("};")) {
                Some((list, _)) => used.extend(list.split(',').filter_map(|n| name(n.trim()))),
                None => used.extend(name(rest)),
            }
        }
    }
    used
}

#[test]
fn no_module_looks_up_within_its_folder() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (folder, layers) in LAYERS_WITHIN {
        let layer_of = |name: &str| layers.iter().position(|l| l.contains(&name));
        let mut seen = 0;
        for (_, path, text) in sources() {
            // What lies in a folder of its own belongs to the module it is a part of.
            if path.parent() != Some(src.join(folder).as_path()) {
                continue;
            }
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let Some(own) = layer_of(&name) else {
                wrong.push(format!("{folder}/{name}.rs has no layer: add it to LAYERS_WITHIN"));
                continue;
            };
            seen += 1;
            for used in used_within(folder, &text) {
                if layer_of(&used).is_some_and(|l| l > own) {
                    wrong.push(format!(
                        "{folder}/{name}.rs uses `{used}`, which is built on top of it"
                    ));
                }
            }
        }
        let listed = layers.iter().map(|l| l.len()).sum::<usize>();
        assert_eq!(seen, listed, "{folder}: LAYERS_WITHIN names modules that do not exist");
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_names_a_module_takes_are_found() {
    let text = "use super::{Call, leg::{Leg, X}, branch};\n// super::nothing\nlet a = crate::call::reach::f(super::uac::g());";
    let used = used_within("call", text);
    for name in ["Call", "leg", "branch", "reach", "uac"] {
        assert!(used.iter().any(|u| u == name), "{name}: {used:?}");
    }
    assert!(!used.iter().any(|u| u == "nothing"));
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

/// What a build costs is what it is made of: each dependency says in a word what it is for.
#[test]
fn every_dependency_has_a_word_why() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let text = fs::read_to_string(file).expect("readable");
    let table = text.split("[dependencies]\n").nth(1).and_then(|t| t.split("\n[").next());
    let lines = table.expect("a table").lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    for line in lines {
        let why = line.rsplit_once(" # ").map(|(_, why)| why.trim()).unwrap_or_default();
        assert!(!why.is_empty() && !why.contains(' '), "{line}");
    }
}

/// The types a line of source defines; associated types belong to their traits.
fn defined(line: &str) -> Option<&str> {
    let indented = line.starts_with(' ');
    let mut words = line.split_whitespace().skip_while(|w| w.starts_with("pub"));
    let kind = words.next()?;
    let named = matches!(kind, "struct" | "enum" | "trait") || kind == "type" && !indented;
    let name = words.next().filter(|_| named)?;
    Some(name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default())
}

/// Only a part of the configuration's schema may be called as the type that is made of it.
#[test]
fn a_type_name_means_one_thing() {
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, path, text) in sources() {
        let path = path.to_string_lossy().into_owned();
        if path.contains("/config/schema") {
            continue;
        }
        for name in text.lines().filter_map(defined) {
            owners.entry(name.to_owned()).or_default().insert(path.clone());
        }
    }
    let twice: Vec<_> = owners.iter().filter(|(_, files)| files.len() > 1).collect();
    assert!(twice.is_empty(), "these are defined in several modules: {twice:#?}");
    assert!(owners.len() > 500, "the definitions are found");
}
