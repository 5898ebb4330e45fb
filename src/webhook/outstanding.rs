//! Events that are not told yet: what a stop, or the next start, must know of.

use crate::errors::Code;
use crate::state::spool::{Item, MOST, Spool};
use std::collections::BTreeMap;
use std::path::Path;
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
    waiting: Mutex<Waiting>,
    settled: Notify,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// With whether the spool has it.
    items: BTreeMap<u64, (Item, bool)>,
}

impl Outstanding {
    pub(super) fn new(spool: Option<Arc<Spool>>) -> Arc<Outstanding> {
        Arc::new(Outstanding { spool, ..Outstanding::default() })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an earlier process could not tell.
    pub(super) async fn left(self: &Arc<Self>) -> Vec<Item> {
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let Some(spool) = &this.spool else { return Vec::new() };
            let last = spool.waiting(SINK);
            let items = last.and_then(|(n, last)| {
                this.waiting().next = last;
                if n == 0 { Ok(Vec::new()) } else { spool.from(SINK, 0, MOST) }
            });
            let items = items.unwrap_or_else(|e| {
                tracing::warn!(code = %Code::STATE, "events that wait cannot be read: {e:#}");
                Vec::new()
            });
            let kept = items.iter().map(|item| (item.number, (item.clone(), true)));
            this.waiting().items.extend(kept);
            items
        });
        read.await.unwrap_or_default()
    }

    /// An event to be told; returns its number.
    pub(super) fn begin(&self, id: &str, text: &str) -> u64 {
        let mut waiting = self.waiting();
        waiting.next += 1;
        let number = waiting.next;
        let item = Item { number, id: id.to_owned(), text: text.to_owned() };
        waiting.items.insert(number, (item, false));
        number
    }

    /// A try failed: it will take a while, and the process may not live that long.
    pub(super) async fn keep(self: &Arc<Self>, number: u64) {
        let item = self.waiting().items.get(&number).filter(|i| !i.1).map(|i| i.0.clone());
        let (Some(item), Some(spool)) = (item, self.spool.clone()) else { return };
        let kept = tokio::task::spawn_blocking(move || spool.append(SINK, &[item])).await;
        if matches!(kept, Ok(Ok(())))
            && let Some(item) = self.waiting().items.get_mut(&number)
        {
            item.1 = true;
        }
    }

    /// It was told, or is kept elsewhere.
    pub(super) async fn end(self: &Arc<Self>, number: u64) {
        let spooled = self.waiting().items.get(&number).is_some_and(|item| item.1);
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
    /// or else by `bury`.
    pub(super) async fn stop(self: &Arc<Self>, dead: &Path, bury: impl Fn(&str)) {
        let settled = async {
            while !self.waiting().items.is_empty() {
                self.settled.notified().await;
            }
        };
        let _ = tokio::time::timeout(LAST, settled).await;
        let left: Vec<Item> =
            self.waiting().items.values().filter(|i| !i.1).map(|i| i.0.clone()).collect();
        if left.is_empty() {
            return;
        }
        let items = left.clone();
        let kept = match self.spool.clone() {
            Some(spool) => tokio::task::spawn_blocking(move || spool.append(SINK, &items))
                .await
                .is_ok_and(|kept| kept.is_ok()),
            None => false,
        };
        if kept {
            tracing::info!("{} event(s) are told at the next start", left.len());
        } else {
            tracing::warn!(
                code = %Code::WEBHOOK,
                "{} event(s) could not be told before the end and are kept in {}",
                left.len(),
                dead.display()
            );
            left.iter().for_each(|item| bury(&item.text));
        }
    }
}
