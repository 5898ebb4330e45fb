//! Webhooks: events told to a web application, and routes asked of one.
//!
//! Signed by the Standard Webhooks scheme. Events are told at least once, in order of their trying:
//! five tries over an hour, then a file keeps them. A route is asked once, quickly; whoever does
//! not answer is passed over, and one that fails again and again is not asked for a while. Targets
//! within this network are refused unless allowed.

pub(crate) mod client;
pub(crate) mod keys;

use crate::api::events::LoggedEvent;
use crate::config::Webhook;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::Failure;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use reqwest::Client;
use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Semaphore, mpsc};

/// Events that may wait; beyond it the newest are written to the dead-letter file at once.
const QUEUE: usize = 10_000;
/// Deliveries at once.
const PARALLEL: usize = 16;
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
    pub delivered: Counter,
    /// By what they were for.
    pub failed: Family<Kind, Counter>,
    pub dead: Counter,
    pub took: Family<Kind, Histogram, fn() -> Histogram>,
}

/// What a webhook is for: `event`, `route` or `auth`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct Kind {
    kind: &'static str,
}

/// An event is told.
pub(crate) const EVENT: Kind = Kind { kind: "event" };
/// A route is asked for.
pub(crate) const ROUTE: Kind = Kind { kind: "route" };
/// A user is asked for.
pub(crate) const AUTH: Kind = Kind { kind: "auth" };

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
        kind: Kind,
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

    /// Asks who a user is; nothing where the target answers 401, 403 or 404: it knows no such user.
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
        kind: Kind,
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
    pub id: String,
    pub event: Arc<LoggedEvent>,
    pub began: SystemTime,
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
    dead: PathBuf,
    counts: Arc<Counts>,
}

impl Outbox {
    /// Hands an event over; what finds no room is kept in the file.
    pub(crate) fn tell(&self, event: &Arc<LoggedEvent>) {
        if event.kind != "call.quality" && self.events.try_send(event.clone()).is_err() {
            bury(&self.dead, &event.body().to_string(), "too many events wait", &self.counts);
        }
    }
}

impl Outbox {
    /// The newest deliveries, the newest first.
    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// Tells an event once more; false where it is not remembered.
    pub(crate) fn again(&self, id: &str) -> bool {
        let found = self.deliveries().into_iter().find(|d| d.id == id);
        found.iter().for_each(|d| self.tell(&d.event));
        found.is_some()
    }
}

fn bury(file: &PathBuf, body: &str, why: &str, counts: &Counts) {
    counts.dead.inc();
    let line = serde_json::json!({ "why": why, "event": serde_json::from_str::<serde_json::Value>(body).unwrap_or_default() });
    let written = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .and_then(|mut f| writeln!(f, "{line}"));
    if let Err(e) = written {
        tracing::warn!(
            code = "WT-5002",
            "an event could not be told and could not be kept in {}: {e}",
            file.display()
        );
    }
}

/// Starts telling `hook` events; `salt` makes their ids this process's own. Dead letters go to
/// `dead`.
pub(crate) fn start(
    hook: Arc<Hook>,
    dead: PathBuf,
    salt: u64,
) -> (Outbox, tokio::task::JoinHandle<()>) {
    let (events, mut inbox) = mpsc::channel::<Arc<LoggedEvent>>(QUEUE);
    let log = Log::default();
    let outbox =
        Outbox { events, log: log.clone(), dead: dead.clone(), counts: hook.counts.clone() };
    let task = tokio::spawn(async move {
        let room = Arc::new(Semaphore::new(PARALLEL));
        while let Some(event) = inbox.recv().await {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let (hook, dead, log) = (hook.clone(), dead.clone(), log.clone());
            let id = format!("msg_{salt:016x}{:08x}", event.id);
            remember(&log, &id, &event);
            tokio::spawn(async move {
                let body = event.body().to_string();
                let first = hook.post(EVENT, &id, &body, EVENT_TIMEOUT).await;
                note(&log, &id, 1, first.is_ok().then_some(&first));
                // A slow target must not keep the others' first tries waiting.
                drop(permit);
                let told = deliver(&hook, &id, &body, first, &dead, &log).await;
                note(&log, &id, 0, Some(&told));
            });
        }
    });
    (outbox, task)
}

/// A new line in the log; one that is told again keeps its id, so that its receiver can tell.
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

async fn deliver(
    hook: &Hook,
    id: &str,
    body: &str,
    first: Result<String, Failure>,
    dead: &PathBuf,
    log: &Log,
) -> Result<String, Failure> {
    let mut tried = first;
    for pause in PAUSES {
        let Err(why) = &tried else { break };
        hook.counts.failed.get_or_create(&EVENT).inc();
        tracing::info!("webhook {id} is tried again in {} s: {why}", pause.as_secs());
        tokio::time::sleep(pause).await;
        tried = hook.post(EVENT, id, body, EVENT_TIMEOUT).await;
        note(log, id, 1, None);
    }
    match &tried {
        Ok(_) => {
            hook.counts.delivered.inc();
        }
        Err(why) => {
            tracing::warn!(
                code = "WT-5002",
                "webhook {id} could not be told in an hour and is kept in {}: {why}",
                dead.display()
            );
            bury(dead, body, &why.why, &hook.counts);
        }
    }
    tried
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    #[test]
    fn signatures_are_the_standards() {
        let (secret, id) =
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek");
        assert_eq!(
            signature(secret, id, 1_614_265_330, "{\"test\": 2432232314}"),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    /// An hour of tries in virtual time, then the file.
    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_told_in_an_hour_is_kept() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let settings = Webhook {
            url: "http://127.0.0.1:1/x".into(),
            secret: crate::sip::digest::Secret::new("0123456789abcdef"),
            allow_private: true,
        };
        let counts = Arc::new(Counts::default());
        let hook = Hook::new(&settings, counts.clone()).expect("a client");
        let dead = std::env::temp_dir().join(format!("webtrunk-dead-{}.jsonl", std::process::id()));
        let _ = std::fs::remove_file(&dead);
        let began = tokio::time::Instant::now();
        let first = hook.post(EVENT, "msg_1", "{\"type\":\"call.ended\"}", EVENT_TIMEOUT).await;
        let told =
            deliver(&hook, "msg_1", "{\"type\":\"call.ended\"}", first, &dead, &Log::default())
                .await;
        assert!(told.is_err());
        assert!(
            (Duration::from_secs(3_500)..Duration::from_secs(3_700)).contains(&began.elapsed()),
            "{:?}",
            began.elapsed()
        );
        let kept = std::fs::read_to_string(&dead).expect("it is kept");
        assert!(
            kept.lines().count() == 1 && kept.contains("call.ended") && kept.contains("refused"),
            "{kept}"
        );
        assert_eq!((counts.failed.get_or_create(&EVENT).get(), counts.dead.get()), (4, 1));
        let _ = std::fs::remove_file(&dead);
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_fails_again_and_again_is_left_alone_for_a_while() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let settings = Webhook {
            url: "http://127.0.0.1:1/x".into(),
            secret: crate::sip::digest::Secret::new("0123456789abcdef"),
            allow_private: true,
        };
        let hook = Hook::new(&settings, Arc::default()).expect("a client");
        for _ in 0..BREAKS_AFTER {
            assert!(
                hook.ask("route_1", "{}", Duration::from_millis(800))
                    .await
                    .expect_err("nobody is there")
                    .contains("refused")
            );
        }
        assert!(
            hook.ask("route_1", "{}", Duration::from_millis(800))
                .await
                .expect_err("it is broken")
                .contains("not asked for 30 s")
        );
    }
}
