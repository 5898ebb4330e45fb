//! What people read has no names of the program's own types in it: `{:?}` puts them there.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// Types that are called as people call the thing.
const ORDINARY: [&str; 1] = ["WebSocket"];

/// Names of structs, enums and variants of several words, from the sources.
fn type_names() -> &'static HashSet<String> {
    static NAMES: OnceLock<HashSet<String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let mut names = HashSet::new();
        collect(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut names);
        names
    })
}

fn collect(folder: &Path, names: &mut HashSet<String>) {
    for entry in fs::read_dir(folder).expect("the sources").flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "node_modules") {
            collect(&path, names);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            names.extend(text.lines().filter_map(declared));
        }
    }
}

/// The name a line declares: of a type, or of a variant, which begins its line.
fn declared(line: &str) -> Option<String> {
    let line =
        line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
    let line = line.trim_start_matches("pub ");
    let line = ["struct ", "enum "].iter().find_map(|word| line.strip_prefix(word)).unwrap_or(line);
    let name: String = line.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let rest = line[name.len()..].trim_start();
    let declares = rest.is_empty() || rest.starts_with([',', '(', '{', '=', '<', ';']);
    (declares && several_words(&name) && !ORDINARY.contains(&name.as_str())).then_some(name)
}

/// `AeadAes128Gcm`, not `Calling` nor `INVITE`.
fn several_words(name: &str) -> bool {
    let begins = |at: usize| name[at..].starts_with(char::is_uppercase);
    let lower = name.contains(char::is_lowercase);
    begins(0) && lower && name.char_indices().skip(2).any(|(at, _)| begins(at))
}

/// The first name of a type in a text.
pub(crate) fn type_name(text: &str) -> Option<&str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| several_words(word)).find(|word| type_names().contains(*word))
}

#[test]
fn names_of_types_are_found_and_words_are_not() {
    assert_eq!(type_name("caller: DTLS done, AeadAes128Gcm"), Some("AeadAes128Gcm"));
    assert_eq!(type_name("the call is CallPhase::Routing"), Some("CallPhase"));
    assert_eq!(
        type_name("INVITE by JsSIP to PCMU/8000 over WebSocket: FreeSWITCH said CSeq"),
        None
    );
}
