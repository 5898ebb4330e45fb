//! Webhooks: events sent to a web application, and routes asked of one.
//!
//! Signed by the Standard Webhooks scheme. Events are delivered at least once, in the order of the
//! attempts: five tries over an hour, then a file keeps them. What waits is bounded in each place.
//! A route is asked once, quickly; whoever does not answer is passed over, and one that fails again
//! and again is not asked for a while. Targets within this network are refused unless allowed.

pub(crate) mod client;
mod dead_letters;
pub(crate) mod keys;
mod outstanding;

use crate::api::events::LoggedEvent;
use crate::config::Webhook;
use crate::errors::Code;
use crate::log_limit::{self, Level, LineClass};
use crate::printable::brief;
use crate::state::spool::Spool;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::Failure;
use dead_letters::DeadLetters;
use outstanding::Outstanding;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use reqwest::Client;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

/// Events that may wait; beyond it the newest are written to the dead-letter file at once.
const QUEUE: usize = 10_000;
/// Deliveries at once.
const PARALLEL: usize = 16;
/// Events that wait to be sent again; more become dead letters after their first try.
const MAX_WAITING: usize = 1_000;
/// Between tries: an hour in all.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(5),
    Duration::from_secs(60),
    Duration::from_secs(600),
    Duration::from_secs(2_900),
];
const EVENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Failures in a row before routes are not asked for a while.
const BREAKS_AFTER: u32 = 5;
const BROKEN: Duration = Duration::from_secs(30);

/// Counts for the metrics.
#[derive(Debug)]
pub struct Counts {
    /// Answered by 2xx.
    pub delivered: Counter,
    /// By what they were for.
    pub failed: Family<WebhookKind, Counter>,
    /// Given up.
    pub dead: Counter,
    /// Neither delivered nor kept.
    pub lost: Counter,
    /// Seconds until the answer.
    pub took: Family<WebhookKind, Histogram, fn() -> Histogram>,
}

/// What a webhook is for: `event`, `route` or `auth`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct WebhookKind {
    kind: &'static str,
}

/// An event is sent.
pub(crate) const EVENT: WebhookKind = WebhookKind { kind: "event" };
/// A route is asked for.
pub(crate) const ROUTE: WebhookKind = WebhookKind { kind: "route" };
/// A user is asked for.
pub(crate) const AUTH: WebhookKind = WebhookKind { kind: "auth" };

impl Default for Counts {
    fn default() -> Counts {
        let took = Family::new_with_constructor(
            (|| Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 2.0, 5.0, 10.0]))
                as fn() -> Histogram,
        );
        Counts {
            delivered: Counter::default(),
            failed: Family::default(),
            dead: Counter::default(),
            lost: Counter::default(),
            took,
        }
    }
}

/// `v1,` and the base64 of HMAC-SHA256 over id, time and body (Standard Webhooks).
pub fn signature(secret: &str, id: &str, timestamp: u64, body: &str) -> String {
    // `whsec_` secrets are base64, as the libraries of the scheme make them; others are taken as
    // they are.
    let key = secret
        .strip_prefix("whsec_")
        .and_then(|k| STANDARD.decode(k).ok())
        .unwrap_or_else(|| secret.as_bytes().to_vec());
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &key),
        format!("{id}.{timestamp}.{body}").as_bytes(),
    );
    format!("v1,{}", STANDARD.encode(tag))
}

/// One target.
pub(crate) struct Hook {
    settings: Webhook,
    client: Client,
    /// Deliveries, counted for the metrics.
    pub counts: Arc<Counts>,
    failures: AtomicU32,
    broken_until: std::sync::Mutex<Option<Instant>>,
}

impl Hook {
    /// A target; no connection is made yet.
    ///
    /// # Errors
    /// The TLS roots cannot be read.
    pub(crate) fn new(settings: &Webhook, counts: Arc<Counts>) -> anyhow::Result<Hook> {
        Ok(Hook {
            settings: settings.clone(),
            client: client::client(settings.allow_private)?,
            counts,
            failures: AtomicU32::new(0),
            broken_until: Default::default(),
        })
    }

    /// What it was made of.
    pub(crate) fn settings(&self) -> &Webhook {
        &self.settings
    }

    async fn post(
        &self,
        kind: WebhookKind,
        id: &str,
        body: &str,
        limit: Duration,
    ) -> Result<String, Failure> {
        let began = Instant::now();
        let answer = self.post_untimed(id, body, limit).await;
        self.counts.took.get_or_create(&kind).observe(began.elapsed().as_secs_f64());
        answer
    }

    async fn post_untimed(&self, id: &str, body: &str, limit: Duration) -> Result<String, Failure> {
        let url = client::allowed(&self.settings.url, self.settings.allow_private)?;
        let unix =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = self
            .client
            .post(url)
            .timeout(limit)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", unix.to_string())
            .header("webhook-signature", signature(self.settings.secret.reveal(), id, unix, body))
            .body(body.to_owned());
        client::send(request).await
    }

    /// Asks who a user is. Returns `None` if the target answers 401, 403 or 404: it knows no such
    /// user.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn ask_user(
        &self,
        id: &str,
        body: &str,
        limit: Duration,
    ) -> Result<Option<String>, String> {
        let unknown = |f: &Failure| f.status.is_some_and(|s| matches!(s.as_u16(), 401 | 403 | 404));
        self.ask_by(AUTH, id, body, limit, unknown)
            .await
            .map_or_else(|f| if unknown(&f) { Ok(None) } else { Err(f.why) }, |text| Ok(Some(text)))
    }

    /// Asks for a route; fails at once while the target is known to be broken.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn ask(
        &self,
        id: &str,
        body: &str,
        limit: Duration,
    ) -> Result<String, String> {
        self.ask_by(ROUTE, id, body, limit, |_| false).await.map_err(|f| f.why)
    }

    /// As [`ask`](Self::ask); what `is_answer` is no sign of a broken target.
    async fn ask_by(
        &self,
        kind: WebhookKind,
        id: &str,
        body: &str,
        limit: Duration,
        is_answer: impl Fn(&Failure) -> bool,
    ) -> Result<String, Failure> {
        let broken = |s: &Hook| {
            s.broken_until
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .filter(|until| *until > Instant::now())
        };
        if broken(self).is_some() {
            return Err(Failure {
                status: None,
                why: format!(
                    "it has failed {BREAKS_AFTER} times in a row, and is not asked for {} s",
                    BROKEN.as_secs()
                ),
            });
        }
        let asked = self.post(kind, id, body, limit).await;
        match &asked {
            Ok(_) => self.failures.store(0, Ordering::Relaxed),
            Err(failure) if is_answer(failure) => self.failures.store(0, Ordering::Relaxed),
            Err(_) => {
                self.counts.failed.get_or_create(&kind).inc();
                if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= BREAKS_AFTER {
                    self.failures.store(0, Ordering::Relaxed);
                    *self.broken_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                        Some(Instant::now() + BROKEN);
                }
            }
        }
        asked
    }
}

/// One event on its way to the web application, or what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// Names it to the receiver, which may get it twice.
    pub id: String,
    /// The event.
    pub event: Arc<LoggedEvent>,
    /// When it was first tried.
    pub began: SystemTime,
    /// How often it was tried.
    pub tries: u32,
    /// Nothing while it is tried; then whether it arrived, or why not.
    pub outcome: Option<Result<(), String>>,
}

/// The newest deliveries, the oldest first.
type Log = Arc<Mutex<VecDeque<Delivery>>>;

/// Deliveries that are remembered.
const REMEMBERED: usize = 200;

/// Notes what a try came to: `tries` more, and the outcome once there is one.
fn note(log: &Log, id: &str, tries: u32, outcome: Option<&Result<String, Failure>>) {
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(delivery) = log.iter_mut().rev().find(|d| d.id == id) {
        delivery.tries += tries;
        delivery.outcome = outcome.map(|o| o.as_ref().map(|_| ()).map_err(|f| f.why.clone()));
    }
}

/// Where events are handed over.
#[derive(Clone)]
pub(crate) struct Outbox {
    events: mpsc::Sender<Arc<LoggedEvent>>,
    log: Log,
    dead: DeadLetters,
}

impl Outbox {
    /// Hands an event over; what finds no room is kept in the file. Neither waits for anything.
    pub(crate) fn tell(&self, event: &Arc<LoggedEvent>) {
        if event.kind != crate::event::EventKind::CallQuality
            && self.events.try_send(event.clone()).is_err()
        {
            self.dead.keep(WebhookEvent::Event(event.clone()), "too many events wait");
        }
    }

    /// The newest deliveries, the newest first.
    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// Sends an event once more; false if it is not remembered.
    pub(crate) fn again(&self, id: &str) -> bool {
        let found = self.deliveries().into_iter().find(|d| d.id == id);
        found.iter().for_each(|d| self.tell(&d.event));
        found.is_some()
    }
}

/// What is sent: an event, or the text of one that an earlier process left.
#[derive(Clone)]
enum WebhookEvent {
    Event(Arc<LoggedEvent>),
    Text(Arc<str>),
}

impl WebhookEvent {
    fn text(&self) -> String {
        match self {
            WebhookEvent::Event(event) => event.body().to_string(),
            WebhookEvent::Text(text) => text.to_string(),
        }
    }

    fn body(&self) -> serde_json::Value {
        match self {
            WebhookEvent::Event(event) => event.body(),
            WebhookEvent::Text(text) => serde_json::from_str(text).unwrap_or_default(),
        }
    }
}

/// What deliveries have in common: it tells events one by one, several at once.
#[derive(Clone)]
struct Teller {
    hook: Arc<Hook>,
    dead: DeadLetters,
    log: Log,
    outstanding: Arc<Outstanding>,
    /// Places for events that are sent again later.
    waiting: Arc<Semaphore>,
}

/// The task that tells events.
pub(crate) struct Telling {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Telling {
    /// Tells what waits, for a moment; the rest is kept for the next start.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// Starts telling `hook` events, first those an earlier process left in `spool`; `salt` makes their
/// ids this process's own. Dead letters go to `dead`.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn start(
    hook: Arc<Hook>,
    dead: PathBuf,
    salt: u64,
    spool: Option<Arc<Spool>>,
) -> std::io::Result<(Outbox, Telling)> {
    let (events, inbox) = mpsc::channel::<Arc<LoggedEvent>>(QUEUE);
    let (stop, stopped) = oneshot::channel();
    let log = Log::default();
    let dead = DeadLetters::start(dead, hook.counts.clone())?;
    let outbox = Outbox { events, log: log.clone(), dead: dead.clone() };
    let (outstanding, waiting) = (Outstanding::new(spool), Arc::new(Semaphore::new(MAX_WAITING)));
    let teller = Teller { hook, dead, log, outstanding, waiting };
    let task = tokio::spawn(teller.run(inbox, salt, stopped));
    Ok((outbox, Telling { stop, task }))
}

impl Teller {
    async fn run(
        self,
        mut inbox: mpsc::Receiver<Arc<LoggedEvent>>,
        salt: u64,
        mut stopped: oneshot::Receiver<()>,
    ) {
        let room = Arc::new(Semaphore::new(PARALLEL));
        // What is under way ends with this.
        let mut under_way = JoinSet::new();
        for (number, id, event) in self.outstanding.left().await {
            let (teller, room) = (self.clone(), room.clone());
            under_way.spawn(async move {
                let permit = room.acquire_owned().await.ok();
                teller.deliver(number, id, event, permit).await;
            });
        }
        let begin = |event: Arc<LoggedEvent>| {
            let id = format!("msg_{salt:016x}{:08x}", event.id);
            remember(&self.log, &id, &event);
            let event = WebhookEvent::Event(event);
            (self.outstanding.begin(&id, &event), id, event)
        };
        loop {
            let permit = tokio::select! {
                permit = room.clone().acquire_owned() => permit.ok(),
                _ = &mut stopped => break,
            };
            let event = tokio::select! {
                event = inbox.recv() => event,
                _ = &mut stopped => break,
            };
            let Some(event) = event else { break };
            let (number, id, event) = begin(event);
            let teller = self.clone();
            under_way.spawn(async move { teller.deliver(number, id, event, permit).await });
            while under_way.try_join_next().is_some() {}
        }
        inbox.close();
        while let Ok(event) = inbox.try_recv() {
            let (number, id, event) = begin(event);
            let (teller, room) = (self.clone(), room.clone());
            under_way.spawn(async move {
                let permit = room.acquire_owned().await.ok();
                teller.deliver(number, id, event, permit).await;
            });
        }
        self.outstanding.stop(&self.dead).await;
        under_way.shutdown().await;
    }

    async fn deliver(
        &self,
        number: u64,
        id: String,
        event: WebhookEvent,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let first = self.tell(&id, &event).await;
        // A slow target must not keep the others' first tries waiting.
        drop(permit);
        let result = self.insist(number, &id, &event, first).await;
        note(&self.log, &id, 0, Some(&result));
        self.outstanding.end(number).await;
    }

    /// One try. The event is made JSON for each: between them it is kept as it is, which is small.
    async fn tell(&self, id: &str, event: &WebhookEvent) -> Result<String, Failure> {
        let result = self.hook.post(EVENT, id, &event.text(), EVENT_TIMEOUT).await;
        note(&self.log, id, 1, result.is_ok().then_some(&result));
        if result.is_err() {
            self.hook.counts.failed.get_or_create(&EVENT).inc();
        }
        result
    }

    /// The tries after the first, and the file after the last.
    async fn insist(
        &self,
        number: u64,
        id: &str,
        event: &WebhookEvent,
        first: Result<String, Failure>,
    ) -> Result<String, Failure> {
        let mut result = first;
        let place = if result.is_err() { self.waiting.try_acquire().ok() } else { None };
        if result.is_err() && place.is_none() {
            self.dead.keep(event.clone(), "too many events wait to be sent again");
            return result;
        }
        if result.is_err() {
            // It will take a while, and the process may not live that long.
            self.outstanding.keep(number).await;
        }
        for pause in PAUSES {
            let Err(why) = &result else { break };
            let class = LineClass::new("events that could not be delivered", Code::FINE);
            log_limit::tell(Level::Info, class, || {
                format!("webhook {id} is tried again in {} s: {}", pause.as_secs(), brief(&why.why))
            });
            tokio::time::sleep(pause).await;
            result = self.tell(id, event).await;
        }
        match &result {
            Ok(_) => drop(self.hook.counts.delivered.inc()),
            Err(why) => {
                let class = LineClass::new("events kept as dead letters", Code::WEBHOOK);
                log_limit::tell(Level::Warn, class, || {
                    format!("webhook {id} could not be delivered in an hour: {}", brief(&why.why))
                });
                self.dead.keep(event.clone(), &why.why);
            }
        }
        result
    }
}

/// A new line in the log; one that is sent again keeps its id, so that its receiver recognises it.
fn remember(log: &Log, id: &str, event: &Arc<LoggedEvent>) {
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    log.retain(|d| d.id != id);
    if log.len() == REMEMBERED {
        log.pop_front();
    }
    log.push_back(Delivery {
        id: id.to_owned(),
        event: event.clone(),
        began: SystemTime::now(),
        tries: 0,
        outcome: None,
    });
}

#[cfg(test)]
mod tests;
