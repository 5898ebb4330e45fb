//! Events: what the log says, as data. Server-sent, with a memory for those who reconnect.

use super::access::Standing;
use super::calls::Asked;
use super::{ApiResult, ApiState, Problem};
use crate::address::network_of;
use crate::event::{Data, Event, EventKind};
use crate::gateway::Gauges;
use crate::journal::{WallClock, to_json};
use crate::log_limit::{LineClass, LogLimit};
use crate::webhook::Outbox;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Events kept for those who come back.
const KEPT: usize = 1_000;
/// Logins and registrations kept besides, so that calls do not push them out; and those refused,
/// so that who guesses pushes out nothing but other guesses.
const LOGINS_KEPT: usize = 2_000;
const REFUSALS_KEPT: usize = 500;
/// A reader this far behind misses some events, and learns how many.
const BEHIND: usize = 4_096;
/// An idle connection gets a comment this often, so that it is not taken for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One event.
#[derive(Debug)]
pub(crate) struct LoggedEvent {
    /// Rises by one; begins anew with the process.
    pub id: u64,
    /// What happened.
    pub kind: EventKind,
    at: Instant,
    clock: WallClock,
    data: FeedItem,
    /// As it is sent to everybody who listens: written once, when the first does.
    frame: OnceLock<Bytes>,
}

/// What an event tells. It is made JSON when somebody reads it: most are read by nobody.
#[derive(Debug)]
enum FeedItem {
    Event(Event),
    /// A login refused, and how many more came from its source since the last one reported.
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
            FeedItem::Event(event) => self.data_of(event),
            FeedItem::Refused { event, more } => {
                let mut data = self.data_of(event);
                data["more"] = json!(more);
                data
            }
            FeedItem::Drained { calls } => json!({ "calls": calls }),
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

    fn event(&self) -> Option<&Event> {
        match &self.data {
            FeedItem::Event(event) | FeedItem::Refused { event, .. } => Some(event),
            FeedItem::Drained { .. } => None,
        }
    }

    /// A login or a registration as the API lists it: with its fix.
    fn login(&self) -> Value {
        let body = self.body();
        let data = &body["data"];
        let entry = self.event().and_then(|event| event.code().entry());
        json!({
            "at": body["timestamp"],
            "type": self.kind.as_str(),
            "user": data["user"],
            "remote": data["remote"],
            "user_agent": data["user_agent"],
            "why": data["why"],
            "code": data["code"],
            "fix": entry.map(|e| e.fix.as_str()),
            "more": data["more"],
        })
    }

    /// As it is sent to those who listen (HTML §9.2.6).
    fn frame(&self) -> Bytes {
        let write = || {
            format!("id: {}\nevent: {}\ndata: {}\n\n", self.id, self.kind.as_str(), self.body())
                .into()
        };
        self.frame.get_or_init(write).clone()
    }

    /// One that says little.
    #[cfg(test)]
    pub(crate) fn for_test(id: u64) -> LoggedEvent {
        let data = FeedItem::Drained { calls: 0 };
        LoggedEvent {
            id,
            kind: EventKind::DrainFinished,
            at: Instant::now(),
            clock: WallClock::now(),
            data,
            frame: OnceLock::new(),
        }
    }

    /// The call it is about.
    pub(crate) fn call(&self) -> Option<String> {
        match &self.data {
            FeedItem::Event(event) => event.call().map(|call| call.to_string()),
            FeedItem::Refused { .. } | FeedItem::Drained { .. } => None,
        }
    }
}

/// Where events go.
pub(crate) struct Feed {
    kept: Mutex<(u64, VecDeque<Arc<LoggedEvent>>)>,
    /// Registrations that came and went, and logins that were refused.
    logins: Mutex<[VecDeque<Arc<LoggedEvent>>; 2]>,
    live: broadcast::Sender<Arc<LoggedEvent>>,
    outbox: OnceLock<Outbox>,
    /// Guesses are reported once in ten seconds for each source: whoever guesses must not fill what
    /// is kept, or a web application's queue.
    refusals: Mutex<LogLimit>,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed {
            kept: Mutex::default(),
            logins: Mutex::default(),
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
        if matches!(event, Event::CallRefused { told: false, .. }) {
            return;
        }
        // Only who listens wants figures every few seconds.
        if kind == EventKind::CallQuality && self.live.receiver_count() == 0 {
            return;
        }
        let item = if let Event::LoginRefused { remote, code, .. } = &event {
            let network = network_of(remote.ip()).to_string();
            let class = LineClass::of("logins refused", *code, &network);
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(more) = refusals.admit_with_count(now, class) else { return };
            FeedItem::Refused { event, more }
        } else {
            FeedItem::Event(event)
        };
        self.push(kind, item, now, clock);
    }

    /// The last call of a drain has ended.
    pub(crate) fn drained(&self, gauges: &Gauges, now: Instant, clock: &WallClock) {
        self.push(EventKind::DrainFinished, FeedItem::Drained { calls: gauges.calls }, now, clock);
    }

    fn push(&self, kind: EventKind, data: FeedItem, now: Instant, clock: &WallClock) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0 += 1;
        let (id, clock, frame) = (kept.0, *clock, OnceLock::new());
        let event = Arc::new(LoggedEvent { id, kind, at: now, clock, data, frame });
        if kind != EventKind::CallQuality {
            if kept.1.len() == KEPT {
                kept.1.pop_front();
            }
            kept.1.push_back(event.clone());
        }
        self.keep_login(&event);
        if let Some(outbox) = self.outbox.get() {
            outbox.tell(&event);
        }
        let _ = self.live.send(event);
    }

    fn keep_login(&self, event: &Arc<LoggedEvent>) {
        let (which, most) = match event.kind {
            EventKind::RegistrationAdded | EventKind::RegistrationRemoved => (0, LOGINS_KEPT),
            EventKind::LoginRefused => (1, REFUSALS_KEPT),
            _ => return,
        };
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        if logins[which].len() == most {
            logins[which].pop_front();
        }
        logins[which].push_back(event.clone());
    }

    /// What became of registrations and logins, of `user` if one is named: the newest first, at
    /// most `most`.
    pub(crate) fn logins(&self, user: Option<&str>, most: usize) -> Vec<Value> {
        let mut all: Vec<_> = {
            let logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
            logins.iter().flatten().cloned().collect()
        };
        all.sort_unstable_by_key(|event| std::cmp::Reverse(event.id));
        let listed = all.iter().map(|event| event.login());
        let of = |login: &Value| user.is_none_or(|user| login["user"].as_str() == Some(user));
        listed.filter(of).take(most).collect()
    }

    /// The web application's outbox, if there is one.
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
pub(crate) struct EventFilter {
    /// Kinds, separated by commas; `call.*` is all of calls.
    pub types: Option<String>,
    /// The id of the only call whose events are wanted.
    pub call: Option<String>,
}

impl EventFilter {
    fn wants(&self, event: &LoggedEvent) -> bool {
        let of_call = |id: &str| event.call().is_some_and(|c| c.starts_with(id));
        self.types.as_deref().is_none_or(|types| patterns(types).any(|p| fits(event.kind, p)))
            && self.call.as_deref().is_none_or(of_call)
    }

    /// The first of the kinds that no event is of: whoever wrote it would wait for ever.
    fn unknown(&self) -> Option<&str> {
        let known = |pattern: &str| EventKind::ALL.iter().any(|kind| fits(*kind, pattern));
        patterns(self.types.as_deref()?).find(|pattern| !known(pattern))
    }
}

fn patterns(types: &str) -> impl Iterator<Item = &str> {
    types.split(',').map(str::trim)
}

fn fits(kind: EventKind, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => kind.as_str().starts_with(start),
        None => kind.as_str() == pattern,
    }
}

/// One who listens.
struct Listener {
    missed: std::vec::IntoIter<Arc<LoggedEvent>>,
    live: broadcast::Receiver<Arc<LoggedEvent>>,
    wanted: EventFilter,
}

impl Listener {
    /// What it is sent next; nothing once there will be no more.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(event) = self.missed.by_ref().find(|event| self.wanted.wants(event)) {
            return Some(event.frame());
        }
        let quiet_until = tokio::time::Instant::now() + KEEP_ALIVE;
        loop {
            match tokio::time::timeout_at(quiet_until, self.live.recv()).await {
                Ok(Ok(event)) if self.wanted.wants(&event) => return Some(event.frame()),
                Ok(Ok(_)) => {}
                // It read too slowly: what it missed is in the calls' records.
                Ok(Err(RecvError::Lagged(_))) => {
                    return Some(Bytes::from_static(b": some events were missed\n\n"));
                }
                Ok(Err(RecvError::Closed)) => return None,
                Err(_) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }
}

/// GET /events
pub(crate) async fn stream(
    State(api): State<ApiState>,
    Extension(standing): Extension<Standing>,
    wanted: Asked<EventFilter>,
    headers: HeaderMap,
) -> ApiResult<impl IntoResponse> {
    let Query(wanted) = wanted.map_err(|e| Problem::of_query(&e))?;
    if let Some(odd) = wanted.unknown() {
        let why = format!("types={odd} is no kind of event");
        return Err(Problem::new(axum::http::StatusCode::BAD_REQUEST, why)
            .fix("`webtrunk schema event` lists them; call.* is every kind about calls"));
    }
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
    let listener = Listener { missed: missed.into_iter(), live, wanted };
    let frames = unfold(listener, |mut listener| async {
        let frame = listener.next().await?;
        Some((Ok::<_, Infallible>(frame), listener))
    });
    // Whoever was let in may lose that; so long a request would outlive it.
    let lost = async move { api.access.lost(&standing).await };
    let frames = frames.take_until(Box::pin(lost));
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(frames)))
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
        let replayed = feed.from(Some(0)).0;
        let more: Vec<_> = replayed.iter().map(|e| e.body()["data"]["more"].as_u64()).collect();
        assert_eq!(more, [Some(0), Some(0), Some(0), Some(19_999)]);
        // A thousand sources are distinguished; any more count as one.
        (0..30_000).for_each(|n| guess(n, 30));
        assert!(feed.refusals.lock().expect("no panic").len() <= 1_001);
        assert!(feed.from(Some(0)).0.len() <= KEPT);
    }

    #[test]
    fn guesses_push_no_registration_out_of_the_log_of_logins() {
        let (feed, clock, now) = (Feed::default(), WallClock::now(), Instant::now());
        let (user, user_agent) = ("ada".to_owned(), "a phone".to_owned());
        feed.tell(Event::Registered { user, flows: 1, user_agent }, now, &clock);
        for n in 0..3_000u32 {
            let remote = std::net::SocketAddr::from(([10, (n >> 8) as u8, n as u8, 1], 5060));
            let (user, code) = (format!("u{n}"), crate::errors::Code::LOGIN_REFUSED);
            let guess = Event::LoginRefused { user, remote, code, why: "wrong".to_owned() };
            feed.tell(guess, now, &clock);
            feed.tell(Event::TrunkUp { trunk: format!("t{n}"), after: None }, now, &clock);
        }
        let all = feed.logins(None, usize::MAX);
        assert_eq!(all.len(), REFUSALS_KEPT + 1);
        assert_eq!(all[0]["code"], "WT-1001");
        assert!(all[0]["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{}", all[0]);
        let [ada] = &feed.logins(Some("ada"), 10)[..] else { panic!("one of ada's") };
        assert_eq!(ada["type"], "registration.added");
        assert_eq!(feed.logins(None, 7).len(), 7);
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
        let wanted = EventFilter { types: Some("call.*, trunk.up".into()), call: None };
        assert!(
            wanted.wants(&missed[0])
                && !EventFilter { types: Some("call.ended".into()), call: None }.wants(&missed[0])
        );
    }

    #[tokio::test]
    async fn an_event_is_written_once_however_many_listen() {
        let (feed, clock, now) = (Feed::default(), WallClock::now(), Instant::now());
        let mut listeners: Vec<Listener> = (0..1_000)
            .map(|_| {
                let (missed, live) = feed.from(None);
                Listener { missed: missed.into_iter(), live, wanted: EventFilter::default() }
            })
            .collect();
        feed.tell(Event::TrunkUp { trunk: "t".into(), after: None }, now, &clock);
        let first = listeners[0].next().await.expect("an event");
        let text = std::str::from_utf8(&first).expect("text");
        assert!(text.starts_with("id: 1\nevent: trunk.up\ndata: {"), "{text}");
        assert!(text.ends_with("}\n\n"), "{text}");
        for listener in &mut listeners[1..] {
            let frame = listener.next().await.expect("the same");
            assert_eq!(frame.as_ptr(), first.as_ptr(), "the same bytes, not a copy of them");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_listens_hears_that_the_connection_lives_and_that_it_missed_something() {
        let (feed, clock, now) = (Feed::default(), WallClock::now(), Instant::now());
        let (missed, live) = feed.from(None);
        let wanted = EventFilter { types: Some("call.*".into()), call: None };
        let mut listener = Listener { missed: missed.into_iter(), live, wanted };
        feed.tell(Event::TrunkUp { trunk: "t".into(), after: None }, now, &clock);
        let began = tokio::time::Instant::now();
        assert_eq!(listener.next().await.as_deref(), Some(&b":\n\n"[..]));
        assert_eq!(began.elapsed().as_secs(), KEEP_ALIVE.as_secs());
        for _ in 0..=BEHIND {
            feed.tell(Event::TrunkUp { trunk: "t".into(), after: None }, now, &clock);
        }
        let said = listener.next().await.expect("a comment");
        assert_eq!(&said[..], b": some events were missed\n\n");
        drop(feed);
        assert_eq!(listener.next().await, None);
    }
}
