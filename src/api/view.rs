//! What the API shows, as JSON, and the lines of text a terminal shows around a ladder.

use crate::call::{Call, CallPhase, Cdr, Party};
use crate::gateway::Gateway;
use crate::journal::{WallClock, hundredths, to_json, verdict_json};
use crate::media::session::SessionEvent;
use crate::media::{LegId, Statistics};
use crate::recorder::ladder::{Row, RowKind};
use crate::recorder::{CallTrace, TraceEntry, TraceEvent};
use crate::registrar::Binding;
use crate::trunk::{Health, TrunkState};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn mos(cdr: &Cdr) -> Option<f64> {
    cdr.score().map(|m| f64::from((m * 10.0).round()) / 10.0)
}

fn codecs(cdr: &Cdr) -> Vec<&'static str> {
    [&cdr.caller_media, &cdr.callee_media].into_iter().filter_map(|s| s.as_ref()?.codec).collect()
}

/// A call in a list; what only an ended one has is null until then.
fn brief(cdr: &Cdr, state: &str, end: Instant, clock: &WallClock) -> Value {
    let ended = cdr.verdict.as_ref();
    json!({
        "call": cdr.call.to_string(),
        "state": state,
        "from": cdr.from.as_caller(),
        "from_number": cdr.from_number,
        "from_name": cdr.from_name,
        "to": if cdr.number.is_empty() { &cdr.dialled } else { &cdr.number },
        "direction": if cdr.inbound { "inbound" } else { "outbound" },
        "route": cdr.route,
        "with": cdr.answered_by.as_ref().map(Party::as_callee),
        "tried": cdr.tried.iter().map(|t| t.target.as_callee()).collect::<Vec<_>>(),
        "start": clock.format(cdr.start),
        "seconds": end.saturating_duration_since(cdr.start).as_secs(),
        "talked_s": cdr.answered.map(|a| end.saturating_duration_since(a).as_secs()),
        "codecs": codecs(cdr), "mos_estimated": mos(cdr),
        "outcome": ended.map(|_| cdr.outcome()),
        "sip_code": ended.map(|_| cdr.status),
        "code": ended.and_then(|_| cdr.error_code()).map(|code| code.to_string()),
        "verdict": ended.map(|verdict| &verdict.sentence),
    })
}

/// A call that lives.
pub(crate) fn live(call: &Call, now: Instant, clock: &WallClock) -> Value {
    let state = match call.state() {
        _ if call.cdr().answered.is_some() => "talking",
        CallPhase::Opening => "opening",
        CallPhase::Routing if call.cdr().ringing.is_some() => "ringing",
        CallPhase::Routing => "dialling",
        CallPhase::Talking => "talking",
        CallPhase::Over => "ending",
    };
    brief(call.cdr(), state, now, clock)
}

/// Returns a call that has ended, or `None` if its record is not there yet.
pub(crate) fn ended(flight: &CallTrace, clock: &WallClock) -> Option<Value> {
    let cdr = flight.cdr.as_ref()?;
    Some(brief(cdr, "ended", cdr.end.unwrap_or(cdr.start), clock))
}

/// All that is known of a call.
pub(crate) fn detail(
    flight: &CallTrace,
    live_call: Option<&Call>,
    now: Instant,
    clock: &WallClock,
) -> Option<Value> {
    let cdr = flight.cdr.as_deref().or_else(|| live_call.map(|c| c.cdr()))?;
    let mut value = to_json(cdr, clock);
    let summary = match live_call {
        Some(call) => live(call, now, clock),
        None => ended(flight, clock).unwrap_or_default(),
    };
    value["state"] = summary["state"].clone();
    value["seconds"] = summary["seconds"].clone();
    value["mos_estimated"] = summary["mos_estimated"].clone();
    if live_call.is_some() {
        value["end"] = Value::Null;
        value["duration_s"] = summary["seconds"].clone();
        value["billable_s"] = json!(summary["talked_s"].as_u64().unwrap_or(0));
    }
    if let Some(verdict) = &cdr.verdict {
        value["verdict"] = verdict_json(verdict);
    }
    Some(value)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// `call 7f3a91c2   alice → +12065550123   answered, 38.7 s   MOS 4.3 (estimated)`.
pub(crate) fn headline(detail: &Value) -> String {
    let to = [text(&detail["to"], "number"), text(&detail["to"], "dialled")]
        .into_iter()
        .find(|t| !t.is_empty())
        .unwrap_or("?");
    let how = match detail["answer"].as_str() {
        Some(_) => format!("answered, {:.1} s", detail["billable_s"].as_f64().unwrap_or_default()),
        None if text(detail, "state") == "ended" => {
            format!("not answered ({})", detail["sip_code"])
        }
        None => text(detail, "state").to_owned(),
    };
    let mos = detail["mos_estimated"]
        .as_f64()
        .map(|m| format!("   MOS {m:.1} (estimated)"))
        .unwrap_or_default();
    format!("call {}   {} → {to}   {how}{mos}", text(detail, "call"), text(&detail["from"], "user"))
}

/// The verdict under a ladder, with its likely cause and fix.
pub(crate) fn conclusion(detail: &Value) -> String {
    let verdict = &detail["verdict"];
    let Some(sentence) = verdict["sentence"].as_str() else { return String::new() };
    match verdict["code"].as_str() {
        None => format!("\n  ✓ {sentence}\n"),
        Some(code) => {
            format!(
                "\n  {code}  {sentence}\n           Likely: {}\n           Fix:    {}\n",
                text(verdict, "likely"),
                text(verdict, "fix")
            )
        }
    }
}

/// The ladder as data.
pub(crate) fn ladder(detail: &Value, lanes: &[String], rows: &[Row]) -> Value {
    let row = |row: &Row| {
        let at = row.at.as_secs_f64();
        match &row.kind {
            RowKind::Message { lane, sent, summary, repeated, text, rules } => {
                let rules = rules
                    .iter()
                    .map(|r| json!({ "line": r.line, "from": r.from, "why": r.why }))
                    .collect::<Vec<_>>();
                json!({
                    "at_s": at,
                    "kind": "message",
                    "lane": lane,
                    "sent": sent,
                    "summary": summary,
                    "repeated": repeated,
                    "text": text,
                    "rules": rules
                })
            }
            RowKind::Route { route, pattern, why_not } => {
                json!({
                    "at_s": at,
                    "kind": "route",
                    "route": route,
                    "pattern": pattern,
                    "why_not": why_not
                })
            }
            RowKind::Event { text, code } => {
                json!({ "at_s": at, "kind": "event", "text": text, "code": code })
            }
        }
    };
    json!({
        "call": detail["call"],
        "headline": headline(detail),
        "verdict": detail["verdict"],
        "lanes": lanes,
        "rows": rows.iter().map(row).collect::<Vec<_>>()
    })
}

/// When each end's first packet came, since the call began.
fn first_packets(flight: &CallTrace) -> Vec<(LegId, Duration)> {
    let first = |entry: &TraceEntry| match &entry.what {
        TraceEvent::Media(SessionEvent::Flowing { end }) => {
            Some((*end, entry.at.saturating_duration_since(flight.started)))
        }
        _ => None,
    };
    flight.entries.iter().filter_map(first).collect()
}

/// A level as the API counts it: 0 dBov is the loudest, what is quieter is below.
fn dbov(level: u8) -> i16 {
    -i16::from(level)
}

/// Figures second by second, both legs.
pub(crate) fn quality(flight: &CallTrace, cdr: &Cdr) -> Value {
    let (call, starts) = (flight.call, first_packets(flight));
    let leg = |name: &str, s: &Statistics| {
        let start = starts.iter().find(|(end, _)| (*end == cdr.caller_end) == (name == "a"));
        let samples = s.series.iter().map(|s| {
            json!({
                "at_ms": s.at,
                "received": s.received,
                "lost": s.lost,
                "sent": s.sent,
                "jitter_ms": s.jitter,
                "rtt_ms": s.round_trip,
                "reported_loss_percent": s.reported_jitter.map(|_| s.reported_loss),
                "reported_jitter_ms": s.reported_jitter,
                "level_dbov": s.level.map(dbov),
                "played_level_dbov": s.played_level.map(dbov),
                "mos_estimated": s.mos().map(hundredths),
                "reported_mos_estimated": s.reported_mos().map(hundredths),
            })
        });
        json!({
            "leg": name,
            "codec": s.codec,
            "packets_in": s.received,
            "packets_out": s.sent,
            "packets_lost": s.packets_lost(),
            "mos_in_estimated": s.mos.0,
            "mos_out_estimated": s.mos.1,
            "began_ms": start.map(|(_, at)| at.as_millis() as u64),
            "series": samples.collect::<Vec<_>>(),
        })
    };
    let legs = [("a", &cdr.caller_media), ("b", &cdr.callee_media)]
        .into_iter()
        .filter_map(|(name, s)| Some(leg(name, s.as_ref()?)));
    json!({ "call": call.to_string(), "legs": legs.collect::<Vec<_>>() })
}

/// One registration.
pub(crate) fn binding(gateway: &Gateway, user: &str, binding: &Binding, now: Instant) -> Value {
    let flow = gateway.flow(binding.flow);
    json!({
        "user": user, "contact": binding.contact, "remote": flow.map(|f| f.remote.to_string()),
        "user_agent": Some(&binding.user_agent).filter(|agent| !agent.is_empty()),
        "instance": binding.instance.as_ref().map(|i| &i.0),
        "reg_id": binding.instance.as_ref().map(|i| i.1),
        "q": f64::from(binding.q) / 1_000.0,
        "path": binding.path,
        "expires_s": binding.expires.saturating_duration_since(now).as_secs(),
    })
}

/// One trunk.
pub(crate) fn trunk(
    name: &str,
    state: &TrunkState,
    calls: usize,
    gateway: &Gateway,
    (now, clock): (Instant, &WallClock),
) -> Value {
    let why_not = state.usable(now).err();
    let config = gateway.config();
    let trunk = config.trunks.get(name);
    let health = match (state.disabled, state.health) {
        (true, _) => "disabled",
        (_, Health::Unknown) => "unknown",
        (_, Health::Up) => "up",
        (_, Health::Down) => "down",
    };
    let registrations = state
        .registrations
        .iter()
        .map(|r| json!({ "registrar": r.registrar.host_port(), "state": r.to_string() }));
    let past =
        state.past().map(|c| json!({ "at": clock.format(c.at), "state": c.state, "why": c.why }));
    json!({
        "trunk": name,
        "state": health,
        "since_s": state.since.map(|s| now.saturating_duration_since(s).as_secs()),
        "options_ms": state.round_trip.map(|r| r.as_millis() as u64),
        "calls": calls,
        "max_calls": trunk.and_then(|t| t.max_calls),
        "uri": trunk.and_then(|t| t.uri.as_ref()).map(|u| format!("sip:{}", u.address())),
        "context": trunk.and_then(|t| t.context.as_ref()),
        "usable": why_not.is_none(), "why_not": why_not.as_ref().map(|e| &e.1),
        "code": why_not.as_ref().map(|e| e.0.to_string()),
        "last_failure": state.last_failure,
        "probes_missed": state.missed_in_a_row(),
        "registrations": registrations.collect::<Vec<_>>(),
        "history": past.collect::<Vec<_>>(),
        "registered_from": state.bound.as_ref().map(|b| b.remote.to_string()),
    })
}
