//! Events: what the log says, as data. Server-sent, with a memory for those who reconnect.

use super::{Answer, Api, Problem};
use crate::address::network_of;
use crate::event::Event;
use crate::gateway::Gauges;
use crate::journal::{WallClock, to_json};
use crate::log_limit::{Class, LogLimit};
use crate::webhook::Outbox;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;
use tokio_stream::Stream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

/// Events kept for those who come back.
const KEPT: usize = 1_000;
/// A reader this far behind misses some, and is told how many.
const BEHIND: usize = 4_096;

/// One event.
#[derive(Debug)]
pub(crate) struct LoggedEvent {
    /// Rises by one; begins anew with the process.
    pub id: u64,
    pub kind: &'static str,
    at: Instant,
    clock: WallClock,
    data: Data,
}

/// What an event tells. It is made JSON when somebody reads it: most are read by nobody.
#[derive(Debug)]
enum Data {
    Event(Event),
    /// A login refused, and how many more of its source since the last that was told.
    Refused {
        note: Event,
        more: u64,
    },
    Drained {
        calls: usize,
    },
}

impl LoggedEvent {
    /// `{ type, timestamp, data }`, as in a webhook.
    pub(crate) fn body(&self) -> Value {
        let data = match &self.data {
            Data::Event(note) => data_of(note, &self.clock),
            Data::Refused { note, more } => {
                let mut data = data_of(note, &self.clock);
                data["more"] = json!(more);
                data
            }
            Data::Drained { calls } => json!({ "calls": calls }),
        };
        json!({ "type": self.kind, "timestamp": self.clock.format(self.at), "data": data })
    }

    /// One that says little.
    #[cfg(test)]
    pub(crate) fn for_test(id: u64) -> LoggedEvent {
        let data = Data::Drained { calls: 0 };
        LoggedEvent {
            id,
            kind: "drain.finished",
            at: Instant::now(),
            clock: WallClock::now(),
            data,
        }
    }

    /// The call it is about.
    pub(crate) fn call(&self) -> Option<String> {
        match &self.data {
            Data::Event(note) => note.call().map(|call| call.to_string()),
            Data::Refused { .. } | Data::Drained { .. } => None,
        }
    }
}

/// Every kind there is, and when it is said.
pub const KINDS: [(&str, &str); 17] = [
    ("call.started", "An INVITE was accepted as a call."),
    ("call.refused", "An INVITE was refused before it became a call."),
    ("call.ringing", "The callee's side is ringing."),
    ("call.answered", "The call is answered."),
    ("call.quality", "Figures of one leg, every 2.5 to 7.5 s."),
    ("call.warning", "Something is wrong with an active call."),
    ("call.ended", "A call has ended; the data is its record."),
    ("registration.added", "A browser has registered."),
    ("registration.removed", "A registration has ended."),
    (
        "login.refused",
        "A login was refused: a wrong password, expired credentials, or a locked-out address. Each \
         source is told of once in 10 s; `more` counts its refusals since the last event.",
    ),
    (
        "fraud.braked",
        "The brake on toll fraud holds a user; told once an hour for each user, however many of its \
         calls are refused.",
    ),
    ("trunk.up", "A trunk is up."),
    ("trunk.down", "A trunk is down or disabled."),
    ("config.reloaded", "A new configuration is active."),
    ("addresses.changed", "The public address has changed; new calls use the new one."),
    ("drain.started", "New calls are refused from now on."),
    ("drain.finished", "The last call of a drain has ended, or an operator ended the drain."),
];

/// Where events go.
pub(crate) struct Feed {
    kept: Mutex<(u64, VecDeque<Arc<LoggedEvent>>)>,
    live: broadcast::Sender<Arc<LoggedEvent>>,
    outbox: OnceLock<Outbox>,
    /// Guesses are told once in ten seconds for each source: who guesses must not fill what is
    /// kept, or a web application's queue.
    refusals: Mutex<LogLimit>,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed {
            kept: Mutex::default(),
            live: broadcast::channel(BEHIND).0,
            outbox: OnceLock::new(),
            refusals: Mutex::default(),
        }
    }
}

impl Feed {
    /// Tells what a note says, if it is news.
    pub(crate) fn tell(&self, note: Event, now: Instant, clock: &WallClock) {
        // Only who listens wants figures every few seconds.
        if matches!(note, Event::Quality { .. }) && self.live.receiver_count() == 0 {
            return;
        }
        if let Event::LoginRefused { remote, code, .. } = &note {
            let class = Class::of("logins refused", *code, &network_of(remote.ip()).to_string());
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(more) = refusals.admit_with_count(now, class) else { return };
            return self.push("login.refused", Data::Refused { note, more }, now, clock);
        }
        if let Some(kind) = kind_of(&note) {
            self.push(kind, Data::Event(note), now, clock);
        }
    }

    /// The last call of a drain has ended.
    pub(crate) fn drained(&self, gauges: &Gauges, now: Instant, clock: &WallClock) {
        self.push("drain.finished", Data::Drained { calls: gauges.calls }, now, clock);
    }

    fn push(&self, kind: &'static str, data: Data, now: Instant, clock: &WallClock) {
        debug_assert!(
            KINDS.iter().any(|k| k.0 == kind),
            "{kind} is not among the kinds that are told of"
        );
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0 += 1;
        let event = Arc::new(LoggedEvent { id: kept.0, kind, at: now, clock: *clock, data });
        if kind != "call.quality" {
            if kept.1.len() == KEPT {
                kept.1.pop_front();
            }
            kept.1.push_back(event.clone());
        }
        if let Some(outbox) = self.outbox.get() {
            outbox.tell(&event);
        }
        let _ = self.live.send(event);
    }

    /// The web application's outbox, where there is one.
    pub(crate) fn outbox(&self) -> Option<&Outbox> {
        self.outbox.get()
    }

    /// Tells a web application from now on.
    pub(crate) fn tell_too(&self, outbox: Outbox) {
        let _ = self.outbox.set(outbox);
    }

    /// What was said after `id`, and the way to what will be.
    fn from(
        &self,
        id: Option<u64>,
    ) -> (Vec<Arc<LoggedEvent>>, broadcast::Receiver<Arc<LoggedEvent>>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = kept.1.iter().filter(|e| id.is_some_and(|id| e.id > id)).cloned().collect();
        (missed, self.live.subscribe())
    }
}

/// The kind of event a note is; nothing for what is for the log alone.
fn kind_of(note: &Event) -> Option<&'static str> {
    Some(match note {
        Event::CallStarted { .. } => "call.started",
        Event::CallRefused { .. } => "call.refused",
        Event::CallRinging { .. } => "call.ringing",
        Event::CallAnswered { .. } => "call.answered",
        Event::Quality { .. } => "call.quality",
        Event::CallEnded(_) => "call.ended",
        Event::BranchFailed { .. }
        | Event::TransferFailed { .. }
        | Event::TrunkFull { .. }
        | Event::OneWay { .. }
        | Event::WebhookFailed { .. }
        | Event::MediaPanicked { .. }
        | Event::CallPanicked { .. } => "call.warning",
        Event::Registered { .. } => "registration.added",
        Event::Unregistered { .. } => "registration.removed",
        Event::LoginRefused { .. } => "login.refused",
        Event::FraudBraked { .. } => "fraud.braked",
        Event::TrunkUp { .. } | Event::TrunkSwitched { enabled: true, .. } => "trunk.up",
        Event::TrunkDown { .. } | Event::TrunkSwitched { enabled: false, .. } => "trunk.down",
        Event::Reloaded { .. } => "config.reloaded",
        Event::AddressesChanged { .. } => "addresses.changed",
        Event::Draining { .. } => "drain.started",
        Event::DrainEnded => "drain.finished",
        _ => return None,
    })
}

fn data_of(note: &Event, clock: &WallClock) -> Value {
    let code = note.code().to_string();
    match note {
        Event::CallStarted { call, from, caller, number, route } => {
            json!({
                "call": call.to_string(),
                "from": from,
                "from_number": caller.number,
                "from_name": caller.name,
                "to": number,
                "route": route
            })
        }
        Event::CallRefused { call, from, caller, to, status, why, .. } => {
            json!({
                "call": call.to_string(),
                "from": from,
                "from_number": caller.number,
                "from_name": caller.name,
                "to": to,
                "sip_code": status,
                "code": code,
                "why": why
            })
        }
        Event::CallRinging { call } => json!({ "call": call.to_string() }),
        Event::CallAnswered { call, by, after, codecs } => {
            json!({
                "call": call.to_string(),
                "by": by,
                "after_ms": after.as_millis() as u64,
                "codecs": [codecs.0, codecs.1]
            })
        }
        Event::Quality { call, leg, figures } => json!({
            "call": call.to_string(),
            "leg": leg,
            "codec": figures.codec,
            "mos_estimated": figures.mos.0,
            "packets_in": figures.received,
            "packets_lost": figures.packets_lost(),
            "packets_out": figures.sent,
            "jitter_ms": figures.jitter.map(|j| j.as_millis() as u64),
            "rtt_ms": figures.round_trip.map(|r| r.as_millis() as u64),
            "sounding": figures.non_silent_packets,
        }),
        Event::CallEnded(cdr) => to_json(cdr, clock),
        Event::Registered { user, flows, user_agent } => {
            json!({ "user": user, "flows": flows, "user_agent": user_agent })
        }
        Event::Unregistered { user, why } => json!({ "user": user, "why": why.as_str() }),
        Event::LoginRefused { user, remote, why, .. } => {
            json!({ "user": user, "remote": remote.to_string(), "code": code, "why": why })
        }
        Event::FraudBraked { user, why } => json!({ "user": user, "code": code, "why": why }),
        Event::TrunkUp { trunk, .. } => json!({ "trunk": trunk }),
        Event::TrunkDown { trunk, why } => json!({ "trunk": trunk, "why": why, "code": code }),
        Event::TrunkSwitched { trunk, .. } => json!({ "trunk": trunk, "by": "operator" }),
        Event::Reloaded { changes } => json!({ "changes": changes }),
        Event::AddressesChanged { before, now, why } => {
            json!({ "before": before, "now": now, "found_by": why })
        }
        Event::Draining { calls } => json!({ "calls": calls }),
        Event::DrainEnded => json!({ "cancelled": true }),
        warning => {
            json!({
                "call": warning.call().map(|c| c.to_string()),
                "code": code,
                "text": warning.to_string()
            })
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Wanted {
    /// Kinds, separated by commas; `call.*` is all of calls.
    pub types: Option<String>,
    pub call: Option<String>,
}

impl Wanted {
    fn wants(&self, event: &LoggedEvent) -> bool {
        let kind = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => event.kind.starts_with(start),
            None => event.kind == pattern,
        };
        let of_call = |id: &str| event.call().is_some_and(|c| c.starts_with(id));
        self.types.as_deref().is_none_or(|types| types.split(',').any(|t| kind(t.trim())))
            && self.call.as_deref().is_none_or(of_call)
    }
}

/// GET /events
pub(crate) async fn stream(
    State(api): State<Api>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>> {
    let last = match headers
        .get("last-event-id")
        .map(|v| v.to_str().ok().and_then(|v| v.trim().parse().ok()))
    {
        Some(None) => {
            return Err(Problem::new(
                axum::http::StatusCode::BAD_REQUEST,
                "Last-Event-ID is not a number of ours",
            ));
        }
        last => last.flatten(),
    };
    let (missed, live) = api.feed.from(last);
    let live = BroadcastStream::new(live).map(|next| next.ok());
    let all = tokio_stream::iter(missed.into_iter().map(Some)).chain(live);
    let events = all.filter_map(move |event| match event {
        Some(event) => wanted.wants(&event).then(|| {
            Ok(sse::Event::default()
                .id(event.id.to_string())
                .event(event.kind)
                .data(event.body().to_string()))
        }),
        // It read too slowly: what it missed is in the calls' records.
        None => Some(Ok(sse::Event::default().comment("some events were missed"))),
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_fill_neither_the_memory_nor_the_feed() {
        let (feed, clock, now) = (Feed::default(), WallClock::now(), Instant::now());
        let guess = |n: u32, at: u64| {
            let remote = std::net::SocketAddr::from(([198, 51, (n >> 8) as u8, n as u8], 5060));
            let (user, code) = ("x".to_owned(), crate::errors::Code::LOCKED_OUT);
            let note = Event::LoginRefused { user, remote, code, why: String::new() };
            feed.tell(note, now + Duration::from_secs(at), &clock);
        };
        (0..60_000).for_each(|n| guess(n % 3, 0));
        guess(0, 11);
        let told = feed.from(Some(0)).0;
        let more: Vec<_> = told.iter().map(|e| e.body()["data"]["more"].as_u64()).collect();
        assert_eq!(more, [Some(0), Some(0), Some(0), Some(19_999)]);
        // A thousand sources are told apart, further ones are one.
        (0..30_000).for_each(|n| guess(n, 30));
        assert!(feed.refusals.lock().expect("no panic").len() <= 1_001);
        assert!(feed.from(Some(0)).0.len() <= KEPT);
    }

    #[test]
    fn who_comes_back_gets_what_it_missed_and_nothing_twice() {
        let (feed, clock, now) = (Feed::default(), WallClock::now(), Instant::now());
        for n in 0..1_500 {
            feed.tell(Event::TrunkUp { trunk: format!("t{n}"), after: None }, now, &clock);
        }
        assert!(feed.from(None).0.is_empty(), "a new reader wants what comes");
        let missed = feed.from(Some(1_490)).0;
        assert_eq!(
            missed.iter().map(|e| e.id).collect::<Vec<_>>(),
            (1_491..=1_500).collect::<Vec<_>>()
        );
        assert_eq!(feed.from(Some(0)).0.len(), KEPT);
        let wanted = Wanted { types: Some("call.*, trunk.up".into()), call: None };
        assert!(
            wanted.wants(&missed[0])
                && !Wanted { types: Some("call.ended".into()), call: None }.wants(&missed[0])
        );
    }
}
