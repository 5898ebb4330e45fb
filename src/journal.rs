//! Records on disk: a JSON line per call, a row of a database, or both, each written by a thread of
//! its own.

pub(crate) mod keeper;
mod lines;
pub(crate) mod search;
mod sqlite;

use self::keeper::{Handed, Keeper, KeeperCounts, Progress};
use self::lines::LinesFile;
use self::sqlite::Rows;
use crate::api::metrics::NodeMetrics;
use crate::cdr::Diagnosis;
use crate::cdr::{Cdr, HangupBy, Party};
use crate::media::Statistics;
use crate::state::checkpoints::Slot;
use crate::state::spool::Spool;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
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

    /// How far apart this and another reading are, which is how far the clock was set between them.
    pub(crate) fn apart(&self, other: &WallClock) -> Duration {
        let (own, theirs) = (self.wall(other.at), other.wall);
        own.duration_since(theirs).unwrap_or_else(|later| later.duration())
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

    /// The moment this long after 1970, UTC; `None` if this machine's clock does not reach.
    pub(crate) fn instant(&self, since_epoch: Duration) -> Option<Instant> {
        let own = self.wall.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        match since_epoch.checked_sub(own) {
            Some(later) => self.at.checked_add(later),
            None => self.at.checked_sub(own - since_epoch),
        }
    }

    /// Since 1970, UTC.
    pub(crate) fn since_epoch(&self, at: Instant) -> Duration {
        self.wall(at).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

/// A figure with two digits behind the point.
pub(crate) fn hundredths(figure: f32) -> f64 {
    f64::from((figure * 100.0).round()) / 100.0
}

/// A verdict with what the registry knows of its code.
pub(crate) fn verdict_json(verdict: &Diagnosis) -> Value {
    let entry = verdict.code.entry();
    json!({
        "code": verdict.code.is_fault().then(|| verdict.code.to_string()),
        "side": verdict.side.to_string(),
        "sentence": verdict.sentence,
        "title": entry.map(|e| &e.title),
        "likely": entry.map(|e| &e.likely),
        "fix": entry.map(|e| &e.fix),
    })
}

/// The record as it is written (the same object as a `call.ended` event).
pub(crate) fn to_json(cdr: &Cdr, clock: &WallClock) -> Value {
    let end = cdr.end.unwrap_or(cdr.start);
    let seconds = |d: Duration| d.as_millis() as f64 / 1_000.0;
    let ms = |from: Instant, to: Option<Instant>| {
        to.map(|t| t.saturating_duration_since(from).as_millis() as u64)
    };
    let tried: Vec<Value> = cdr
        .tried
        .iter()
        .map(|t| {
            let code = t.status.unwrap_or(0);
            json!({ "target": t.target.as_callee(), "code": code, "ms": t.ms })
        })
        .collect();
    let interruptions: Vec<Value> = cdr
        .interruptions
        .iter()
        .map(|i| {
            json!({
                "at": clock.format(i.at), "gap_ms": i.gap.as_millis() as u64,
                "lost_node": i.node.as_ref().map(|n| &n.lost),
                "by_node": i.node.as_ref().map(|n| &n.by),
            })
        })
        .collect();
    let callers = leg_json("a", Some(&cdr.caller_call_id), &cdr.formats[0], &cdr.caller_media);
    let callees = leg_json("b", cdr.callee_call_id.as_ref(), &cdr.formats[1], &cdr.callee_media);
    json!({
        "v": 1, "call": cdr.call.to_string(),
        "start": clock.format(cdr.start), "ring": cdr.ringing.map(|t| clock.format(t)),
        "answer": cdr.answered.map(|t| clock.format(t)), "end": clock.format(end),
        "duration_s": seconds(end.saturating_duration_since(cdr.start)),
        "billable_s": cdr.answered.map_or(0.0, |a| seconds(end.saturating_duration_since(a))),
        "setup_ms": ms(cdr.start, cdr.answered),
        "pdd_ms": ms(cdr.start, cdr.ringing.or(cdr.answered)),
        "direction": if cdr.inbound { "inbound" } else { "outbound" },
        "context": cdr.context, "route": cdr.route, "outcome": cdr.outcome(),
        "sip_code": cdr.status, "why": cdr.why,
        "code": cdr.error_code().map(|code| code.to_string()),
        "verdict": cdr.verdict.as_ref().map(verdict_json),
        "hangup_by": cdr.by.map(HangupBy::as_str),
        "answered_by": cdr.answered_by.as_ref().map(Party::as_callee),
        "from": {
            "user": cdr.from.as_caller(), "number": cdr.from_number, "name": cdr.from_name,
            "shown": cdr.from_shown, "ua": cdr.user_agent,
        },
        "to": { "dialled": cdr.dialled, "number": cdr.number },
        "attempts": tried, "transfers": cdr.transfers, "interruptions": interruptions,
        "tags": cdr.tags,
        "media_problem": cdr.media_problem.as_ref().map(ToString::to_string),
        "legs": [callers, callees],
    })
}

/// One leg of a record.
fn leg_json(
    name: &str,
    call_id: Option<&String>,
    formats: &[String],
    media: &Option<Statistics>,
) -> Value {
    let s = media.as_ref();
    let ms = |d: Duration| d.as_millis() as u64;
    json!({
        "leg": name, "sip_call_id": call_id,
        "codec": s.and_then(|s| s.codec), "peer_formats": formats,
        "packets_in": s.map(|s| s.received), "packets_out": s.map(|s| s.sent),
        "packets_lost": s.and_then(Statistics::packets_lost),
        "jitter_ms": s.and_then(|s| s.jitter).map(ms),
        "rtt_ms": s.and_then(|s| s.round_trip).map(ms),
        "loss_reported": s.and_then(|s| s.reported_loss).map(|share| hundredths(100.0 * share)),
        "jitter_reported_ms": s.and_then(|s| s.reported_jitter).map(ms),
        "mos_in_estimated": s.and_then(|s| s.mos.0).map(hundredths),
        "mos_out_estimated": s.and_then(|s| s.mos.1).map(hundredths),
        "ice_ms": s.and_then(|s| s.ice).map(ms), "dtls_ms": s.and_then(|s| s.dtls).map(ms),
        "srtp": s.and_then(|s| s.srtp).map(|p| p.to_string()),
    })
}

/// Where records go. Dropping it waits until everything is on disk, or spooled.
pub(crate) struct Journal {
    places: Vec<Keeper>,
}

/// A record on its way. The checkpoint of its call goes with it, once it is written or spooled
/// everywhere.
struct QueuedRecord {
    cdr: Arc<Cdr>,
    clock: WallClock,
    until_written: Option<Slot>,
}

impl Handed for QueuedRecord {
    fn id(&self) -> String {
        self.cdr.call.to_string()
    }
    fn text(&self) -> String {
        to_json(&self.cdr, &self.clock).to_string()
    }
}

/// A record that an earlier process left.
struct LeftRecord {
    call: String,
    text: String,
    until_written: Slot,
}

impl Handed for LeftRecord {
    fn id(&self) -> String {
        self.call.clone()
    }
    fn text(&self) -> String {
        self.text.clone()
    }
}

impl Drop for LeftRecord {
    fn drop(&mut self) {
        self.until_written.remove();
    }
}

impl Drop for QueuedRecord {
    fn drop(&mut self) {
        self.until_written.iter().for_each(Slot::remove);
    }
}

impl Journal {
    /// Begins to write to a file of lines, a database, or both. What cannot be written is kept, in
    /// `spool` if there is one, and written as soon as it can be.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn open(
        file: Option<&Path>,
        database: Option<&Path>,
        spool: Option<&Arc<Spool>>,
        metrics: &NodeMetrics,
    ) -> anyhow::Result<Journal> {
        let mut places = Vec::new();
        let counts = |sink: &'static str| {
            let label = vec![("sink", sink.to_owned())];
            KeeperCounts {
                waiting: metrics.cdr_waiting.get_or_create(&label).clone(),
                dropped: metrics.cdr_dropped.get_or_create(&label).clone(),
            }
        };
        if let Some(path) = file {
            let (place, sink) = (path.display().to_string(), LinesFile::new(path));
            places.push(Keeper::start("file", place, sink, spool.cloned(), counts("file"))?);
        }
        if let Some(path) = database {
            let (place, sink) = (path.display().to_string(), Rows::new(path));
            places.push(Keeper::start("sqlite", place, sink, spool.cloned(), counts("sqlite"))?);
        }
        Ok(Journal { places })
    }

    /// Hands a record over; nothing waits for it. `until_written` is removed once every place has
    /// it, or the spool.
    pub(crate) fn record(&self, cdr: &Arc<Cdr>, clock: &WallClock, until_written: Option<Slot>) {
        let record = Arc::new(QueuedRecord { cdr: cdr.clone(), clock: *clock, until_written });
        self.places.iter().for_each(|place| place.take(record.clone()));
    }

    /// Hands over a record that an earlier process did not get to write, as its text.
    pub(crate) fn record_again(&self, call: String, text: String, until_written: Slot) {
        let record = Arc::new(LeftRecord { call, text, until_written });
        self.places.iter().for_each(|place| place.take(record.clone()));
    }

    /// How far the place has come where records are searched: the database, if there is one.
    pub(crate) fn progress(&self) -> Option<Arc<Progress>> {
        self.places.last().map(Keeper::progress)
    }

    /// Opens the files anew: they may have been renamed.
    pub(crate) fn reopen(&self) {
        self.places.iter().for_each(Keeper::reopen);
    }
}

#[cfg(test)]
mod tests;
