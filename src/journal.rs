//! Records on disk: a JSON line per call, a row of a database, or both; the lines by the core, the
//! rows by a thread.

pub(crate) mod search;
mod sqlite;

use crate::cdr::Diagnosis;
use crate::cdr::{Cdr, HangupBy, Party};
use crate::errors::Code;
use crate::log_limit::{self, Class, Level};
use crate::media::Statistics;
use crate::private;
use anyhow::Context;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

/// The wall clock at one monotonic moment; records are dated from it, so a stepped clock cannot
/// bend durations.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    at: Instant,
    wall: SystemTime,
}

impl WallClock {
    /// Reads both clocks.
    pub(crate) fn now() -> WallClock {
        WallClock { at: Instant::now(), wall: SystemTime::now() }
    }

    fn wall(&self, at: Instant) -> SystemTime {
        match at.checked_duration_since(self.at) {
            Some(after) => self.wall + after,
            None => self.wall - self.at.duration_since(at),
        }
    }

    /// RFC 3339 with milliseconds, UTC.
    pub(crate) fn format(&self, at: Instant) -> String {
        Timestamp::try_from(self.wall(at)).map(|t| format!("{t:.3}")).unwrap_or_default()
    }

    /// Since 1970, UTC.
    pub(crate) fn since_epoch(&self, at: Instant) -> Duration {
        self.wall(at).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

fn hundredths(score: f32) -> f64 {
    f64::from((score * 100.0).round()) / 100.0
}

/// A verdict with what the registry knows of its code.
pub(crate) fn verdict_json(verdict: &Diagnosis) -> Value {
    let entry = verdict.code.entry();
    json!({
        "code": verdict.code.is_fault().then(|| verdict.code.to_string()), "side": verdict.side.to_string(), "sentence": verdict.sentence,
        "title": entry.map(|e| &e.title), "likely": entry.map(|e| &e.likely), "fix": entry.map(|e| &e.fix),
    })
}

/// The record as it is written (UX: the same object as a `call.ended` event).
pub(crate) fn to_json(cdr: &Cdr, clock: &WallClock) -> Value {
    let end = cdr.end.unwrap_or(cdr.start);
    let seconds = |d: Duration| d.as_millis() as f64 / 1_000.0;
    let ms = |from: Instant, to: Option<Instant>| {
        to.map(|t| t.saturating_duration_since(from).as_millis() as u64)
    };
    let tried: Vec<Value> = cdr
        .tried
        .iter()
        .map(|t| json!({ "target": t.target.as_callee(), "code": t.status.unwrap_or(0), "ms": t.ms }))
        .collect();
    let leg = |name: &str, call_id: Option<&String>, formats: &[String], s: Option<&Statistics>| {
        json!({
            "leg": name, "sip_call_id": call_id, "codec": s.and_then(|s| s.codec), "peer_formats": formats,
            "packets_in": s.map(|s| s.received), "packets_out": s.map(|s| s.sent), "packets_lost": s.and_then(Statistics::packets_lost),
            "jitter_ms": s.and_then(|s| s.jitter).map(|j| j.as_millis() as u64), "rtt_ms": s.and_then(|s| s.round_trip).map(|r| r.as_millis() as u64),
            "loss_reported": s.and_then(|s| s.reported_loss),
            "mos_in_estimated": s.and_then(|s| s.mos.0).map(hundredths), "mos_out_estimated": s.and_then(|s| s.mos.1).map(hundredths),
            "ice_ms": s.and_then(|s| s.ice).map(|t| t.as_millis() as u64), "dtls_ms": s.and_then(|s| s.dtls).map(|t| t.as_millis() as u64),
            "srtp": s.and_then(|s| s.srtp).map(|p| format!("{p:?}")),
        })
    };
    json!({
        "v": 1, "call": cdr.call.to_string(),
        "start": clock.format(cdr.start), "ring": cdr.ringing.map(|t| clock.format(t)),
        "answer": cdr.answered.map(|t| clock.format(t)), "end": clock.format(end),
        "duration_s": seconds(end.saturating_duration_since(cdr.start)),
        "billable_s": cdr.answered.map_or(0.0, |a| seconds(end.saturating_duration_since(a))),
        "setup_ms": ms(cdr.start, cdr.answered), "pdd_ms": ms(cdr.start, cdr.ringing.or(cdr.answered)),
        "direction": if cdr.inbound { "inbound" } else { "outbound" },
        "context": cdr.context, "route": cdr.route, "outcome": cdr.outcome(), "sip_code": cdr.status,
        "why": cdr.why, "code": cdr.code.is_fault().then(|| cdr.code.to_string()), "verdict": cdr.verdict.as_ref().map(verdict_json), "hangup_by": cdr.by.map(HangupBy::as_str), "answered_by": cdr.answered_by.as_ref().map(Party::as_callee),
        "from": { "user": cdr.from.as_caller(), "shown": cdr.from_shown, "ua": cdr.user_agent },
        "to": { "dialled": cdr.dialled, "number": cdr.number },
        "attempts": tried, "transfers": cdr.transfers, "tags": cdr.tags, "media_problem": cdr.media_problem.as_ref().map(ToString::to_string),
        "legs": [leg("a", Some(&cdr.a_call_id), &cdr.formats[0], cdr.a.as_ref()), leg("b", cdr.b_call_id.as_ref(), &cdr.formats[1], cdr.b.as_ref())],
    })
}

/// Where records go. Dropping it waits until everything is on disk.
pub(crate) struct Journal {
    lines: Option<Lines>,
    database: Option<Database>,
    dropped: Box<dyn Fn(&'static str, usize) + Send>,
}

/// Records that may wait for the database.
const QUEUE: usize = 10_000;
/// Records of one transaction.
const BATCH: usize = 512;
/// Lines are on the disk itself at most this much later; a process that is killed loses none of
/// them.
const SYNC: Duration = Duration::from_millis(100);

impl Journal {
    /// Opens a file of lines for appending, a database, or both. `dropped` is told what did not
    /// reach a place.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub(crate) fn open(
        file: Option<&Path>,
        database: Option<&Path>,
        dropped: impl Fn(&'static str, usize) + Clone + Send + 'static,
    ) -> anyhow::Result<Journal> {
        let lines = file
            .map(|path| {
                Lines::open(path)
                    .with_context(|| format!("events.cdr file {} cannot be opened", path.display()))
            })
            .transpose()?;
        let lost = dropped.clone();
        let database = database
            .map(|path| {
                Database::open(path, lost).with_context(|| {
                    format!("events.cdr sqlite {} cannot be opened", path.display())
                })
            })
            .transpose()?;
        Ok(Journal { lines, database, dropped: Box::new(dropped) })
    }

    /// Hands a record over. Its line is the kernel's when this returns; the database's queue, once
    /// full, makes the core wait: nothing is dropped.
    pub(crate) fn record(&mut self, cdr: &Arc<Cdr>, clock: &WallClock) {
        if let Some(lines) = &mut self.lines
            && let Err(e) = lines.write(&format!("{}\n", to_json(cdr, clock)))
        {
            (self.dropped)("file", 1);
            let class = Class::new("call records not written", Code::RECORDS);
            log_limit::tell(Level::Error, class, || {
                format!("a call record cannot be written: {e}")
            });
        }
        if let Some(records) = self.database.as_ref().and_then(|d| d.records.as_ref()) {
            let _ = records.send((cdr.clone(), *clock));
        }
    }
}

/// The file, and the thread that has the disk keep what was written.
struct Lines {
    file: File,
    state: Arc<LinesState>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct LinesState {
    written: AtomicBool,
    over: AtomicBool,
}

impl Lines {
    fn open(path: &Path) -> std::io::Result<Lines> {
        let file = private::append(path)?;
        let (synced, state) = (file.try_clone()?, Arc::new(LinesState::default()));
        let shared = state.clone();
        let thread = std::thread::Builder::new().name("cdr-sync".into()).spawn(move || {
            loop {
                let over = shared.over.load(Ordering::Acquire);
                if shared.written.swap(false, Ordering::AcqRel)
                    && let Err(e) = synced.sync_data()
                {
                    let class = Class::new("call records not kept", Code::RECORDS);
                    let line = || format!("the disk does not keep call records: {e}");
                    log_limit::tell(Level::Error, class, line);
                }
                if over {
                    return;
                }
                // Who has written nothing wakes nobody; who has is not waited for at once.
                std::thread::park();
                if !shared.over.load(Ordering::Acquire) {
                    std::thread::park_timeout(SYNC);
                }
            }
        })?;
        Ok(Lines { file, state, thread: Some(thread) })
    }

    /// Writes a line; once more where the disk is full for a moment. Half a line would spoil the
    /// next one too.
    fn write(&mut self, line: &str) -> std::io::Result<()> {
        let before = self.file.metadata()?.len();
        let mut once = || {
            self.file.write_all(line.as_bytes()).inspect_err(|_| drop(self.file.set_len(before)))
        };
        once().or_else(|_| once())?;
        if !self.state.written.swap(true, Ordering::AcqRel)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Ok(())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// The database, written by a thread of its own: a commit waits for the disk.
struct Database {
    records: Option<SyncSender<(Arc<Cdr>, WallClock)>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Database {
    fn open(
        path: &Path,
        dropped: impl Fn(&'static str, usize) + Send + 'static,
    ) -> anyhow::Result<Database> {
        let mut connection = sqlite::open(path)?;
        let (records, inbox) = sync_channel::<(Arc<Cdr>, WallClock)>(QUEUE);
        let thread = std::thread::Builder::new().name("cdr-sqlite".into()).spawn(move || {
            while let Ok(first) = inbox.recv() {
                let batch = std::iter::once(first)
                    .chain(std::iter::from_fn(|| inbox.try_recv().ok()))
                    .take(BATCH);
                let records: Vec<Value> = batch.map(|(cdr, clock)| to_json(&cdr, &clock)).collect();
                // Somebody else holds it: once more before it is lost.
                if let Err(e) = sqlite::write(&mut connection, &records)
                    .or_else(|_| sqlite::write(&mut connection, &records))
                {
                    dropped("sqlite", records.len());
                    let class = Class::new("batches of call records not written", Code::RECORDS);
                    let n = records.len();
                    log_limit::tell(Level::Error, class, || {
                        format!("{n} call record(s) cannot be written to the database: {e:#}")
                    });
                }
            }
        })?;
        Ok(Database { records: Some(records), thread: Some(thread) })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.records.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
