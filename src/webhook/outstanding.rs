//! Events that are not delivered yet: what a stop, or the next start, must know of.

use super::WebhookEvent;
use super::dead_letters::DeadLetters;
use crate::errors::Code;
use crate::log_limit::{self, Level, LineClass};
use crate::state::spool::{Item, MOST, Spool};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Their label in the spool.
const SINK: &str = "webhook";
/// How long a stop waits for the tries that are under way.
const LAST: Duration = Duration::from_secs(3);

/// Numbered in the order they came.
#[derive(Default)]
pub(super) struct Outstanding {
    spool: Option<Arc<Spool>>,
    waiting: Mutex<WaitingEvents>,
    settled: Notify,
}

#[derive(Default)]
struct WaitingEvents {
    next: u64,
    items: BTreeMap<u64, OutstandingEvent>,
}

struct OutstandingEvent {
    id: String,
    event: WebhookEvent,
    /// Whether the spool has it.
    spooled: bool,
}

impl OutstandingEvent {
    /// Its text is made only for the spool: the event itself is small.
    fn item(&self, number: u64) -> Item {
        Item { number, id: self.id.clone(), text: self.event.text() }
    }
}

impl Outstanding {
    pub(super) fn new(spool: Option<Arc<Spool>>) -> Arc<Outstanding> {
        Arc::new(Outstanding { spool, ..Outstanding::default() })
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingEvents> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an earlier process could not tell.
    pub(super) async fn left(self: &Arc<Self>) -> Vec<(u64, String, WebhookEvent)> {
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let Some(spool) = &this.spool else { return Vec::new() };
            let last = spool.waiting(SINK);
            let items = last.and_then(|(n, last)| {
                this.waiting().next = last;
                if n == 0 { Ok(Vec::new()) } else { spool.from(SINK, 0, MOST) }
            });
            let items = items.unwrap_or_else(|e| {
                log_limit::tell(
                    Level::Warn,
                    LineClass::new("events not read", Code::STATE),
                    || format!("events that wait cannot be read: {e:#}"),
                );
                Vec::new()
            });
            let left: Vec<_> = items
                .into_iter()
                .map(|i| (i.number, i.id, WebhookEvent::Text(i.text.into())))
                .collect();
            let kept = left.iter().map(|(number, id, event)| {
                (*number, OutstandingEvent { id: id.clone(), event: event.clone(), spooled: true })
            });
            this.waiting().items.extend(kept);
            left
        });
        read.await.unwrap_or_default()
    }

    /// Adds an event to be sent; returns its number.
    pub(super) fn begin(&self, id: &str, event: &WebhookEvent) -> u64 {
        let mut waiting = self.waiting();
        waiting.next += 1;
        let number = waiting.next;
        let entry = OutstandingEvent { id: id.to_owned(), event: event.clone(), spooled: false };
        waiting.items.insert(number, entry);
        number
    }

    /// A try failed: it will take a while, and the process may not live that long.
    pub(super) async fn keep(self: &Arc<Self>, number: u64) {
        let Some(spool) = self.spool.clone() else { return };
        let item = self.waiting().items.get(&number).filter(|i| !i.spooled).map(|i| i.item(number));
        let Some(item) = item else { return };
        let kept = tokio::task::spawn_blocking(move || spool.append(SINK, &[item])).await;
        if matches!(kept, Ok(Ok(())))
            && let Some(item) = self.waiting().items.get_mut(&number)
        {
            item.spooled = true;
        }
    }

    /// It was delivered, or is kept elsewhere.
    pub(super) async fn end(self: &Arc<Self>, number: u64) {
        let spooled = self.waiting().items.get(&number).is_some_and(|item| item.spooled);
        if let (true, Some(spool)) = (spooled, self.spool.clone()) {
            let _ = tokio::task::spawn_blocking(move || spool.remove(SINK, &[number])).await;
        }
        // Only now: a stop waits for the spool too.
        let mut waiting = self.waiting();
        waiting.items.remove(&number);
        if waiting.items.is_empty() {
            self.settled.notify_one();
        }
    }

    /// Waits a moment for what is under way, and keeps the rest for the next start: in the spool,
    /// or else as dead letters.
    pub(super) async fn stop(self: &Arc<Self>, dead: &DeadLetters) {
        let settled = async {
            while !self.waiting().items.is_empty() {
                self.settled.notified().await;
            }
        };
        let _ = tokio::time::timeout(LAST, settled).await;
        let (spool, dead, this) = (self.spool.clone(), dead.clone(), self.clone());
        let kept = tokio::task::spawn_blocking(move || {
            let (items, events): (Vec<Item>, Vec<WebhookEvent>) = {
                let waiting = this.waiting();
                let left = waiting.items.iter().filter(|(_, entry)| !entry.spooled);
                left.map(|(number, entry)| (entry.item(*number), entry.event.clone())).unzip()
            };
            let n = events.len();
            let spooled = n == 0 || spool.is_some_and(|spool| spool.append(SINK, &items).is_ok());
            if spooled && n > 0 {
                tracing::info!("{n} event(s) are sent at the next start");
            } else if !spooled {
                let class = LineClass::new("events kept as dead letters at the end", Code::WEBHOOK);
                log_limit::tell(Level::Warn, class, || {
                    format!(
                        "{n} event(s) could not be delivered before the end: they are dead letters"
                    )
                });
            }
            dead.keep_at_the_end(if spooled { Vec::new() } else { events }, "the gateway stopped");
        });
        let _ = kept.await;
    }
}
