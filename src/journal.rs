//! Records on disk: a JSON line per call, a row of a database, or both; written and synced by threads of their own.

pub mod search;
mod sqlite;

use anyhow::Context;
use crate::call::cdr::{Cdr, HangupBy};
use crate::media::Statistics;
use crate::recorder::verdict::Verdict;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
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
        "why": cdr.why, "code": cdr.code.is_fault().then(|| cdr.code.to_string()), "verdict": cdr.verdict.as_ref().map(verdict_json), "hangup_by": cdr.by.map(HangupBy::as_str), "answered_by": cdr.answered_by,
        "from": { "user": cdr.from, "shown": cdr.from_shown, "ua": cdr.user_agent },
        "to": { "dialled": cdr.dialled, "number": cdr.number },
        "attempts": tried, "transfers": cdr.transfers, "tags": cdr.tags, "media_problem": cdr.media_problem,
        "legs": [leg("a", Some(&cdr.a_call_id), &cdr.formats[0], cdr.a.as_ref()), leg("b", cdr.b_call_id.as_ref(), &cdr.formats[1], cdr.b.as_ref())],
    })
}

/// The way to the writing threads, one for each place. Dropping it waits until everything is on disk.
pub struct Journal {
    places: Vec<Writer>,
}

struct Writer {
    records: Option<SyncSender<(Arc<Cdr>, WallClock)>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Records that may wait for one place.
const QUEUE: usize = 10_000;
/// Records of one transaction, or one write.
const BATCH: usize = 512;

impl Journal {
    /// Opens a file of lines for appending, a database, or both. `dropped` is told what did not reach a place.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn open(file: Option<&Path>, database: Option<&Path>, dropped: impl Fn(&'static str, usize) + Clone + Send + 'static) -> anyhow::Result<Journal> {
        let mut places = Vec::new();
        if let Some(path) = file {
            let mut file = OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("events.cdr file {} cannot be opened", path.display()))?;
            places.push(Writer::start("file", dropped.clone(), move |records| {
                let (lines, before) = (records.iter().map(|r| format!("{r}\n")).collect::<String>(), file.metadata()?.len());
                // Half a line would spoil the next one too.
                if let Err(e) = file.write_all(lines.as_bytes()) {
                    file.set_len(before)?;
                    return Err(e.into());
                }
                Ok(file.sync_data()?)
            })?);
        }
        if let Some(path) = database {
            let mut connection = sqlite::open(path).with_context(|| format!("events.cdr sqlite {} cannot be opened", path.display()))?;
            places.push(Writer::start("sqlite", dropped, move |records| Ok(sqlite::write(&mut connection, records)?))?);
        }
        Ok(Journal { places })
    }

    /// Hands a record over; it is never dropped: a full queue makes the core wait for the disk.
    pub fn record(&self, cdr: &Arc<Cdr>, clock: &WallClock) {
        for records in self.places.iter().filter_map(|w| w.records.as_ref()) {
            let _ = records.send((cdr.clone(), *clock));
        }
    }
}

impl Writer {
    fn start(place: &'static str, dropped: impl Fn(&'static str, usize) + Send + 'static, mut write: impl FnMut(&[Value]) -> anyhow::Result<()> + Send + 'static) -> std::io::Result<Writer> {
        let (records, inbox) = sync_channel::<(Arc<Cdr>, WallClock)>(QUEUE);
        let thread = std::thread::Builder::new().name(format!("cdr-{place}")).spawn(move || {
            while let Ok(first) = inbox.recv() {
                let batch = std::iter::once(first).chain(std::iter::from_fn(|| inbox.try_recv().ok())).take(BATCH);
                // Made readable here: the core has calls to see to.
                let records: Vec<Value> = batch.map(|(cdr, clock)| to_json(&cdr, &clock)).collect();
                // A disk that is full for a moment, a database somebody else holds: once more before it is lost.
                if let Err(e) = write(&records).or_else(|_| write(&records)) {
                    dropped(place, records.len());
                    tracing::error!(code = "WT-5001", "{} call record(s) cannot be written to {place}: {e:#}", records.len());
                }
            }
        })?;
        Ok(Writer { records: Some(records), thread: Some(thread) })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.places.iter_mut().for_each(|w| drop(w.records.take()));
        for thread in self.places.iter_mut().filter_map(|w| w.thread.take()) {
            let _ = thread.join();
        }
    }
}
