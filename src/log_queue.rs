//! Log lines on their way to standard error. A thread of its own writes them, so that a reader that
//! stands still (a journal that hangs, a pager) holds up nobody else. What does not fit is lost,
//! and counted; the reader learns how much it was once it is back.

use crate::errors::Code;
use crate::printable;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of lines that wait.
const MAX_WAITING: usize = 4 << 20;
/// As many more for errors: where much is logged, what ends a process is not to be missing.
const MAX_ERRORS: usize = 256 << 10;
/// Nobody waits for a reader that has taken nothing for so long.
const STANDS: Duration = Duration::from_millis(500);
/// How long the end of the process, and a panic, wait until all is written.
const AT_EXIT: Duration = Duration::from_secs(2);
const AT_PANIC: Duration = Duration::from_millis(200);
/// Between two tries where the reader has asked not to be waited for.
const AGAIN: Duration = Duration::from_millis(20);

/// Lines that never reached the reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct LostLines {
    count: u64,
    /// From the first of them until all that waited was written.
    within: Duration,
}

#[derive(Default)]
struct WaitingLines {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Since when the thread writes one of them.
    writing: Option<Instant>,
    /// Lines that were lost, since the start.
    lost: u64,
    /// Those of them that the reader does not know of yet, and since when there are some.
    untold: u64,
    since: Option<Instant>,
}

impl WaitingLines {
    fn lose(&mut self, now: Instant) {
        self.lost += 1;
        self.untold += 1;
        self.since.get_or_insert(now);
    }

    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.writing.is_none()
    }

    /// Whether there is no use in waiting.
    fn stands(&self) -> bool {
        self.writing.is_some_and(|since| since.elapsed() >= STANDS)
    }
}

/// Lines, and the thread that writes them.
#[derive(Default)]
pub struct LogQueue {
    waiting: Mutex<WaitingLines>,
    wake: Condvar,
    idle: Condvar,
}

impl LogQueue {
    /// Begins to write to `output`. `tell` reports what was lost, once all that waited is written.
    ///
    /// # Errors
    /// The system gives no thread.
    fn start(
        output: impl Write + Send + 'static,
        tell: impl Fn(LostLines) + Send + 'static,
    ) -> io::Result<Arc<LogQueue>> {
        let queue = Arc::new(LogQueue::default());
        let own = queue.clone();
        let thread = std::thread::Builder::new().name("log".into());
        thread.spawn(move || own.run(output, tell))?;
        Ok(queue)
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingLines> {
        // Sound after every statement, so a panic elsewhere does not spoil it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line, with its end, or counts it as lost. Nothing waits for it.
    pub fn push(&self, line: &[u8], is_error: bool) {
        let most = if is_error { MAX_WAITING + MAX_ERRORS } else { MAX_WAITING };
        let mut waiting = self.waiting();
        if waiting.bytes + line.len() > most {
            return waiting.lose(Instant::now());
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line.into());
        drop(waiting);
        self.wake.notify_one();
    }

    /// Waits until all is written, for so long at most, and not at all for a reader that stands
    /// still.
    pub fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut waiting = self.waiting();
        while !waiting.is_idle() && !waiting.stands() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.idle.wait_timeout(waiting, left.min(STANDS));
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many lines were lost since the start.
    pub fn lost(&self) -> u64 {
        self.waiting().lost
    }

    fn run(&self, mut output: impl Write, tell: impl Fn(LostLines)) {
        loop {
            let written = write_whole(&mut output, &self.next());
            if let Some(lost) = self.wrote(written.is_ok()) {
                tell(lost);
            }
        }
    }

    /// The next line, once there is one.
    fn next(&self) -> Box<[u8]> {
        let mut waiting = self.waiting();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes -= line.len();
                waiting.writing = Some(Instant::now());
                return line;
            }
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A line was written, or could not be. Returns what is to be told now.
    fn wrote(&self, written: bool) -> Option<LostLines> {
        let mut waiting = self.waiting();
        waiting.writing = None;
        if !written {
            waiting.lose(Instant::now());
        }
        if !waiting.lines.is_empty() {
            return None;
        }
        self.idle.notify_all();
        // Somebody who is gone is told nothing.
        let since = waiting.since.filter(|_| written)?;
        waiting.since = None;
        let count = std::mem::take(&mut waiting.untold);
        Some(LostLines { count, within: since.elapsed() })
    }
}

/// Writes all of it, also where the other end has made the pipe one that does not wait.
fn write_whole(output: &mut impl Write, line: &[u8]) -> io::Result<()> {
    let mut rest = line;
    while !rest.is_empty() {
        match output.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(AGAIN),
            Err(e) => return Err(e),
        }
    }
    output.flush()
}

/// The queue of this process, if it has one.
static QUEUE: OnceLock<Arc<LogQueue>> = OnceLock::new();

fn tell_lost(LostLines { count, within }: LostLines) {
    tracing::warn!(
        code = %Code::LOG_LOST,
        "{count} line(s) of the log are lost: nobody read them for {:.1} s",
        within.as_secs_f32()
    );
}

fn note_panic(queue: &LogQueue, panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let mut text = format!("thread '{}' {panic}\n", thread.name().unwrap_or("<unnamed>"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        text.push_str(&format!("{backtrace}\n"));
    }
    queue.push(printable::lines(&text).as_bytes(), true);
    // A second one would be the end of the process.
    queue.flush(AT_PANIC);
}

/// Gives this process a queue to standard error, through which panics are reported, too. To be
/// asked once.
///
/// # Errors
/// The system gives no thread or no descriptor.
pub fn install() -> io::Result<Arc<LogQueue>> {
    // Not by the handle that everybody shares: who writes holds it.
    let output = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let queue = LogQueue::start(output, tell_lost)?;
    let of_panics = queue.clone();
    std::panic::set_hook(Box::new(move |panic| note_panic(&of_panics, panic)));
    let _ = QUEUE.set(queue.clone());
    Ok(queue)
}

/// The queue that was installed.
pub fn installed() -> Option<&'static LogQueue> {
    QUEUE.get().map(Arc::as_ref)
}

/// Before the process ends: what waits is written, unless the reader stands still.
pub fn flush() {
    if let Some(queue) = installed() {
        queue.flush(AT_EXIT);
    }
}

/// How many lines were lost since the start.
pub(crate) fn lost() -> u64 {
    installed().map_or(0, LogQueue::lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

    /// A reader that takes a line whenever it is asked to.
    struct Reader(SyncSender<Vec<u8>>);

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Made = (Arc<LogQueue>, Receiver<Vec<u8>>, Receiver<LostLines>);

    fn queue() -> Made {
        let (reader, lines) = sync_channel(0);
        let (tell, told) = channel();
        let tell = move |lost| tell.send(lost).expect("somebody listens");
        (LogQueue::start(Reader(reader), tell).expect("a thread"), lines, told)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn lines_that_wait_for_a_reader_are_bounded_and_what_was_lost_is_told_once() {
        let (queue, lines, told) = queue();
        let line = [b'x'; 1 << 10];
        let fit = MAX_WAITING / line.len();
        // One more is with the thread, or not yet.
        (0..fit + 101).for_each(|_| queue.push(&line, false));
        let lost = queue.lost();
        assert!((100..=101).contains(&lost), "{lost}");
        queue.push(b"the end", true);
        assert_eq!(queue.lost(), lost, "there is room for an error");
        let began = Instant::now();
        queue.flush(LONG);
        assert!(began.elapsed() < LONG / 2, "a reader that stands still is not waited for");
        let read = std::iter::from_fn(|| lines.recv_timeout(LONG).ok());
        let read: Vec<Vec<u8>> = read.take(fit + 102 - lost as usize).collect();
        assert_eq!(read.last().map(Vec::as_slice), Some(&b"the end"[..]));
        assert!(read.iter().rev().skip(1).all(|read| *read == line));
        assert_eq!(told.recv_timeout(LONG).map(|lost| lost.count), Ok(lost));
        queue.push(b"again", false);
        assert_eq!(lines.recv_timeout(LONG).as_deref(), Ok(&b"again"[..]));
        queue.flush(LONG);
        assert!(told.try_recv().is_err(), "it was told");
    }

    #[test]
    fn nobody_waits_for_a_reader_that_is_gone_and_it_is_told_nothing() {
        let (queue, lines, told) = queue();
        drop(lines);
        (0..3).for_each(|_| queue.push(b"a line", true));
        queue.flush(LONG);
        assert_eq!(queue.lost(), 3);
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn all_is_written_before_the_process_ends() {
        let (queue, lines, _told) = queue();
        (0u8..100).for_each(|n| queue.push(&[n], false));
        let reads = move || lines.iter().take(100).flatten().collect::<Vec<u8>>();
        let reader = std::thread::spawn(reads);
        queue.flush(LONG);
        assert_eq!(reader.join().expect("it read"), (0..100).collect::<Vec<u8>>());
    }
}
