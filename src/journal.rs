//! Records on disk: one JSON line per call, written and synced by a thread of its own.

use crate::call::cdr::{Cdr, HangupBy};
use crate::media::Statistics;
use crate::recorder::verdict::Verdict;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

/// The wall clock at one monotonic moment; records are dated from it, so a stepped clock cannot bend durations.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    at: Instant,
    wall: SystemTime,
}

impl WallClock {
    /// Reads both clocks.
    pub fn now() -> WallClock {
        WallClock { at: Instant::now(), wall: SystemTime::now() }
    }

    fn wall(&self, at: Instant) -> SystemTime {
        match at.checked_duration_since(self.at) {
            Some(after) => self.wall + after,
            None => self.wall - self.at.duration_since(at),
        }
    }

    /// RFC 3339 with milliseconds, UTC.
    pub fn format(&self, at: Instant) -> String {
        Timestamp::try_from(self.wall(at)).map(|t| format!("{t:.3}")).unwrap_or_default()
    }

    /// Since 1970, UTC.
    pub fn since_epoch(&self, at: Instant) -> Duration {
        self.wall(at).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

fn hundredths(score: f32) -> f64 {
    f64::from((score * 100.0).round()) / 100.0
}

/// A verdict with what the registry knows of its code.
pub fn verdict_json(verdict: &Verdict) -> Value {
    let entry = verdict.code.entry();
    json!({
        "code": verdict.code.is_fault().then(|| verdict.code.to_string()), "side": verdict.side.to_string(), "sentence": verdict.sentence,
        "title": entry.map(|e| &e.title), "likely": entry.map(|e| &e.likely), "fix": entry.map(|e| &e.fix),
    })
}

/// The record as it is written (UX: the same object as a `call.ended` event).
pub fn to_json(cdr: &Cdr, clock: &WallClock) -> Value {
    let end = cdr.end.unwrap_or(cdr.start);
    let seconds = |d: Duration| d.as_millis() as f64 / 1_000.0;
    let ms = |from: Instant, to: Option<Instant>| to.map(|t| t.saturating_duration_since(from).as_millis() as u64);
    let tried: Vec<Value> = cdr.tried.iter().map(|t| json!({ "target": t.target, "code": t.status, "ms": t.ms })).collect();
    let leg = |name: &str, call_id: Option<&String>, formats: &[String], s: Option<&Statistics>| {
        json!({
            "leg": name, "sip_call_id": call_id, "codec": s.and_then(|s| s.codec), "peer_formats": formats,
            "packets_in": s.map(|s| s.received), "packets_out": s.map(|s| s.sent), "packets_lost": s.map(|s| s.lost),
            "jitter_ms": s.map(|s| s.jitter.as_millis() as u64), "rtt_ms": s.and_then(|s| s.round_trip).map(|r| r.as_millis() as u64),
            "loss_reported": s.and_then(|s| s.reported_loss),
            "mos_in_estimated": s.and_then(|s| s.mos.0).map(hundredths), "mos_out_estimated": s.and_then(|s| s.mos.1).map(hundredths),
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
        "why": cdr.why, "code": cdr.code.is_fault().then(|| cdr.code.to_string()), "verdict": cdr.verdict.as_ref().map(verdict_json), "hangup_by": cdr.by.map(HangupBy::as_str), "answered_by": cdr.answered_by,
        "from": { "user": cdr.from, "shown": cdr.from_shown, "ua": cdr.user_agent },
        "to": { "dialled": cdr.dialled, "number": cdr.number },
        "attempts": tried, "transfers": cdr.transfers, "tags": cdr.tags, "media_problem": cdr.media_problem,
        "legs": [leg("a", Some(&cdr.a_call_id), &cdr.formats[0], cdr.a.as_ref()), leg("b", cdr.b_call_id.as_ref(), &cdr.formats[1], cdr.b.as_ref())],
    })
}

/// The way to the writing thread. Dropping it waits until everything is on disk.
pub struct Journal {
    lines: Option<SyncSender<String>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Journal {
    /// Opens `path` for appending.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> std::io::Result<Journal> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let (lines, inbox) = sync_channel(10_000);
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || write(file, &inbox))?;
        Ok(Journal { lines: Some(lines), thread: Some(thread) })
    }

    /// Hands a record over; it is never dropped: a full queue makes the core wait for the disk.
    pub fn record(&self, cdr: &Cdr, clock: &WallClock) {
        if let Some(lines) = &self.lines {
            let _ = lines.send(to_json(cdr, clock).to_string());
        }
    }
}

fn write(mut file: std::fs::File, inbox: &Receiver<String>) {
    while let Ok(first) = inbox.recv() {
        let mut batch = first + "\n";
        while let Ok(line) = inbox.try_recv() {
            batch += &line;
            batch.push('\n');
        }
        if let Err(e) = file.write_all(batch.as_bytes()).and_then(|()| file.sync_data()) {
            tracing::error!(code = "WT-5001", "call records cannot be written: {e}");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.lines.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
