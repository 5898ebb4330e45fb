//! Events that could not be delivered, kept in a file by a thread of its own: whoever hands one
//! over does not wait for the disk.

use super::{Counts, WebhookEvent};
use crate::errors::Code;
use crate::log_limit::{self, Level, LineClass};
use crate::private;
use serde_json::json;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Longest file, bytes; then it becomes `….1`, in place of the one before it, and a new one begins.
const MAX_FILE: u64 = 32 << 20;

/// The way to the file. The last one dropped waits until everything is written.
#[derive(Clone)]
pub(super) struct DeadLetters(Arc<Inner>);

struct Inner {
    letters: Option<SyncSender<LetterCommand>>,
    thread: Option<JoinHandle<()>>,
    counts: Arc<Counts>,
}

struct Letter {
    why: String,
    event: WebhookEvent,
}

enum LetterCommand {
    Keep(Letter),
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
}

impl DeadLetters {
    /// Letters that may wait for the disk; more are lost, which is counted and logged.
    pub(super) const QUEUE: usize = 4_096;

    /// Starts the thread; the file is made when there is something to write.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(file: PathBuf, counts: Arc<Counts>) -> io::Result<DeadLetters> {
        let (letters, inbox) = sync_channel(DeadLetters::QUEUE);
        let counted = counts.clone();
        let thread = std::thread::Builder::new()
            .name("dead-letters".into())
            .spawn(move || write_all(&file, &inbox, &counted))?;
        Ok(DeadLetters(Arc::new(Inner { letters: Some(letters), thread: Some(thread), counts })))
    }

    /// Hands a letter over.
    pub(super) fn keep(&self, event: WebhookEvent, why: &str) {
        let letter = LetterCommand::Keep(Letter { why: why.to_owned(), event });
        let sent = self.0.letters.as_ref().map(|letters| letters.try_send(letter).is_ok());
        if sent != Some(true) {
            lost(&self.0.counts, "its file is too slow");
        }
    }

    /// Hands letters over, and waits until they are written: for the end of the process.
    pub(super) fn keep_at_the_end(&self, events: Vec<WebhookEvent>, why: &str) {
        let Some(letters) = &self.0.letters else { return };
        for event in events {
            if letters.send(LetterCommand::Keep(Letter { why: why.to_owned(), event })).is_err() {
                lost(&self.0.counts, "nobody writes its file");
            }
        }
        let (written, done) = sync_channel(1);
        if letters.send(LetterCommand::Flush(written)).is_ok() {
            let _ = done.recv();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.letters.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lost(counts: &Counts, why: &str) {
    counts.lost.inc();
    log_limit::tell(Level::Warn, LineClass::new("events lost", Code::WEBHOOK), || {
        format!("an event could neither be delivered nor kept: {why}")
    });
}

fn write_all(file: &Path, inbox: &Receiver<LetterCommand>, counts: &Counts) {
    while let Ok(first) = inbox.recv() {
        let batch = std::iter::once(first).chain(inbox.try_iter().take(DeadLetters::QUEUE));
        for message in batch {
            let letter = match message {
                LetterCommand::Keep(letter) => letter,
                LetterCommand::Flush(written) => {
                    let _ = written.send(());
                    continue;
                }
            };
            let line = json!({ "why": letter.why, "event": letter.event.body() });
            match write(file, &format!("{line}\n")) {
                Ok(()) => drop(counts.dead.inc()),
                Err(e) => lost(counts, &format!("{}: {e}", file.display())),
            }
        }
    }
}

fn write(file: &Path, line: &str) -> io::Result<()> {
    let mut open = private::append(file)?;
    if open.metadata()?.len() + line.len() as u64 > MAX_FILE {
        let mut old = file.as_os_str().to_owned();
        old.push(".1");
        std::fs::rename(file, old)?;
        open = private::append(file)?;
    }
    open.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_bounded_and_its_owners() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("dead.jsonl");
        let line = format!("{}\n", "x".repeat(4 << 20));
        for _ in 0..20 {
            write(&file, &line).expect("written");
        }
        let all: u64 = std::fs::read_dir(folder.path())
            .expect("readable")
            .map(|f| f.expect("a file").metadata().expect("readable"))
            .inspect(|m| assert_eq!(m.mode() & 0o137, 0, "others read it"))
            .map(|m| m.len())
            .sum();
        assert!(all <= 2 * MAX_FILE && all > MAX_FILE / 2, "{all} bytes");
    }
}
