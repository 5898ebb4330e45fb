//! The book: every file in it is written and checked, every block of commands is run, and the
//! reference is what the program says of itself.

mod bounds;
mod reference;

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_webtrunk");

/// A page as commands: what `serve` and `demo` start keeps running in the background, as in a
/// terminal of its own.
const PROLOGUE: &str = r#"set -eu
webtrunk() {
  case "$1" in
    serve|demo)
      "$BINARY" "$@" 2>served.log &
      for _ in $(seq 200); do
        if "$BINARY" readyz >/dev/null 2>&1; then return 0; fi
        sleep 0.05
      done
      cat served.log >&2; return 1 ;;
    *) "$BINARY" "$@" ;;
  esac
}
"#;

/// Pages with a block of what a command prints, which another test compares with the command.
const PRINTED: [&str; 1] = ["how-to/find-out.md"]; // tests/verdicts: the_trace_in_the_book...

fn book() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/docs")
}

/// Returns the text of a file of this repository, which is there.
fn text_of(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A fenced block: its words and its text.
struct Block {
    words: String,
    text: String,
}

fn blocks(markdown: &str) -> Vec<Block> {
    let (mut found, mut open) = (Vec::new(), None::<Block>);
    for event in Parser::new(markdown) {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(words))) => {
                open = Some(Block { words: words.to_string(), text: String::new() })
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Indented)) => {
                panic!("an indented block is never run: fence it")
            }
            Event::Text(text) => open.iter_mut().for_each(|b| b.text.push_str(&text)),
            Event::End(TagEnd::CodeBlock) => found.extend(open.take()),
            _ => {}
        }
    }
    found
}

/// Pages of the table of contents, as paths below the book.
fn pages() -> Vec<String> {
    let summary = text_of(book().join("SUMMARY.md"));
    let links = Parser::new(&summary).filter_map(|e| {
        if let Event::Start(Tag::Link { dest_url, .. }) = e {
            Some(dest_url.to_string())
        } else {
            None
        }
    });
    links.collect()
}

/// Writes a page's files and runs its commands in order, in a folder of its own.
fn run(page: &str, folder: &Path) -> Result<(), String> {
    let mut script = PROLOGUE.to_owned();
    let mut commands = 0;
    for block in blocks(&text_of(book().join(page))) {
        match block.words.split_once(' ') {
            Some((_, file)) => {
                let path = folder.join(file);
                fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(|e| e.to_string())?;
                fs::write(path, block.text).map_err(|e| e.to_string())?;
            }
            None if block.words == "sh" => {
                commands += 1;
                script.push_str(&block.text);
            }
            None if block.words == "text" && PRINTED.contains(&page) => {}
            None => {
                return Err(format!(
                    "{page}: a block of {:?} is neither a file nor run",
                    block.words
                ));
            }
        }
    }
    if commands == 0 && !folder.join("webtrunk.toml").exists() {
        return Ok(());
    }
    let log = fs::File::create(folder.join("script.log")).map_err(|e| e.to_string())?;
    let mut child = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder)
        .env("BINARY", BINARY)
        .env("WEBTRUNK_CONTROL", folder.join("control.sock"))
        .env_remove("WEBTRUNK_CONFIG")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(|e| e.to_string())?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(|e| e.to_string())?;
    let deadline = Instant::now() + Duration::from_secs(90);
    let done = loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) => break status.success(),
            None if Instant::now() > deadline => break false,
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    // The servers it left in the background are of its process group.
    let _ = Command::new("kill")
        .args(["-KILL", "--", &format!("-{}", child.id())])
        .stderr(Stdio::null())
        .status();
    let _ = child.wait();
    let said = fs::read_to_string(folder.join("script.log")).unwrap_or_default();
    let served = fs::read_to_string(folder.join("served.log")).unwrap_or_default();
    if done && !served.contains("ERROR") {
        Ok(())
    } else {
        Err(format!("{page}:\n{said}\n--- the gateway's log\n{served}"))
    }
}

#[test]
fn every_block_of_the_book_is_run() {
    let mut wrong = Vec::new();
    for page in pages().iter().filter(|p| !p.starts_with("reference/")) {
        let folder = tempfile::tempdir().expect("a folder");
        wrong.extend(run(page, folder.path()).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Links lead to pages, and every page is in the table of contents.
#[test]
fn every_link_leads_somewhere_and_every_page_is_linked() {
    let pages = pages();
    for page in &pages {
        let text = text_of(book().join(page));
        let here = Path::new(page).parent().unwrap_or(Path::new(""));
        for event in Parser::new(&text) {
            let Event::Start(Tag::Link { dest_url, .. }) = event else { continue };
            if dest_url.contains("://") {
                continue;
            }
            let file = dest_url.split('#').next().unwrap_or_default();
            assert!(book().join(here).join(file).exists(), "{page} links to {dest_url}");
        }
    }
    for folder in fs::read_dir(book()).expect("the book").flatten() {
        for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let folder = folder.file_name();
            let name =
                format!("{}/{}", folder.to_string_lossy(), file.file_name().to_string_lossy());
            assert!(pages.contains(&name), "{name} is in no table of contents");
        }
    }
    let listed = |name: &str| pages.iter().any(|p| p == name);
    assert!(["changelog.md", "contributing.md", "support.md"].into_iter().all(listed));
}

/// What the documents say of the source stays true: a file that moves takes its mentions along.
#[test]
fn every_file_the_documents_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let book = pages().into_iter().map(|page| format!("src/docs/{page}"));
    let others = ["README.md", "src/ARCHITECTURE.md", "interop/README.md"].map(str::to_owned);
    let mut named = 0;
    for document in book.chain(others) {
        let text = text_of(root.join(&document));
        for event in Parser::new(&text) {
            let Event::Code(code) = event else { continue };
            let path = ["src/", "tests/", "interop/"].iter().any(|p| code.starts_with(p));
            if path && !code.contains(' ') {
                assert!(root.join(&*code).exists(), "{document} names {code}");
                named += 1;
            }
        }
    }
    assert!(named > 50, "{named} files are named");
}

/// Every text file below `folder` that names commands for people or programs.
fn texts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("web/dist") {
            texts(&path, found);
        } else if path
            .extension()
            .is_some_and(|e| ["rs", "toml", "md", "service"].iter().any(|k| e == *k))
        {
            found.push(path);
        }
    }
}

/// What the book, the README, messages and their fixes call a command is one, with these options.
#[test]
fn every_command_that_is_named_anywhere_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("README.md"), root.join("interop/README.md")];
    texts(&root.join("src"), &mut files);
    texts(&root.join("interop/systemd"), &mut files);
    let mut helps = std::collections::BTreeMap::<String, String>::new();
    let (mut named, mut wrong) = (0, Vec::new());
    for file in files {
        let text = text_of(&file);
        for (at, _) in text.match_indices("`webtrunk ") {
            let said = text[at + 1..].split('`').next().unwrap_or_default();
            let mut words = said.split_whitespace().skip(1).peekable();
            let mut command = Vec::new();
            // The name of a command is one word, or two.
            while let Some(word) =
                words.next_if(|w| w.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
            {
                if word.starts_with('-') || command.len() == 2 {
                    break;
                }
                command.push(word);
            }
            let key = command.join(" ");
            let help = helps.entry(key.clone()).or_insert_with(|| {
                let done = Command::new(BINARY).args(&command).arg("--help").output();
                String::from_utf8_lossy(&done.expect("it runs").stdout).into_owned()
            });
            let options =
                said.split_whitespace().filter(|w| w.starts_with("--") && *w != "--version");
            let unknown =
                options.map(|o| o.trim_end_matches([',', '.', ']'])).find(|o| !help.contains(o));
            if help.is_empty() || unknown.is_some() {
                wrong.push(format!("{}: `{said}` {unknown:?}", file.display()));
            }
            named += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(named > 100, "{named} commands are named");
}
