//! Events: what the log says, as data. Server-sent, with a memory for those who reconnect.

use super::{Answer, Api, Problem};
use crate::address::network_of;
use crate::event::{Data, Event, Kind};
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
    pub kind: Kind,
    at: Instant,
    clock: WallClock,
    data: Told,
}

/// What an event tells. It is made JSON when somebody reads it: most are read by nobody.
#[derive(Debug)]
enum Told {
    Event(Event),
    /// A login refused, and how many more of its source since the last that was told.
    Refused {
        event: Event,
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
            Told::Event(event) => self.data_of(event),
            Told::Refused { event, more } => {
                let mut data = self.data_of(event);
                data["more"] = json!(more);
                data
            }
            Told::Drained { calls } => json!({ "calls": calls }),
        };
        json!({ "type": self.kind.as_str(), "timestamp": self.clock.format(self.at), "data": data })
    }

    fn data_of(&self, event: &Event) -> Value {
        match event.data() {
            Some(Data::Json(data)) => data,
            Some(Data::Record(cdr)) => to_json(cdr, &self.clock),
            Some(Data::Warning) => json!({
                "call": self.call(),
                "code": event.code().to_string(),
                "text": event.to_string()
            }),
            None => Value::Null,
        }
    }

    /// One that says little.
    #[cfg(test)]
    pub(crate) fn for_test(id: u64) -> LoggedEvent {
        let data = Told::Drained { calls: 0 };
        LoggedEvent {
            id,
            kind: Kind::DrainFinished,
            at: Instant::now(),
            clock: WallClock::now(),
            data,
        }
    }

    /// The call it is about.
    pub(crate) fn call(&self) -> Option<String> {
        match &self.data {
            Told::Event(event) => event.call().map(|call| call.to_string()),
            Told::Refused { .. } | Told::Drained { .. } => None,
        }
    }
}

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
    /// Tells of an event, if it is news.
    pub(crate) fn tell(&self, event: Event, now: Instant, clock: &WallClock) {
        let Some(kind) = event.kind() else { return };
        // Only who listens wants figures every few seconds.
        if kind == Kind::CallQuality && self.live.receiver_count() == 0 {
            return;
        }
        let told = match &event {
            Event::LoginRefused { remote, code, .. } => {
                let network = network_of(remote.ip()).to_string();
                let class = Class::of("logins refused", *code, &network);
                let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(more) = refusals.admit_with_count(now, class) else { return };
                Told::Refused { event, more }
            }
            _ => Told::Event(event),
        };
        self.push(kind, told, now, clock);
    }

    /// The last call of a drain has ended.
    pub(crate) fn drained(&self, gauges: &Gauges, now: Instant, clock: &WallClock) {
        self.push(Kind::DrainFinished, Told::Drained { calls: gauges.calls }, now, clock);
    }

    fn push(&self, kind: Kind, data: Told, now: Instant, clock: &WallClock) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0 += 1;
        let event = Arc::new(LoggedEvent { id: kept.0, kind, at: now, clock: *clock, data });
        if kind != Kind::CallQuality {
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
            Some(start) => event.kind.as_str().starts_with(start),
            None => event.kind.as_str() == pattern,
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
                .event(event.kind.as_str())
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
