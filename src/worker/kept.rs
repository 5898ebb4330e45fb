//! What outlives a worker's thread: its socket, its queue, and the last snapshot of each session. A
//! thread that died of a bug is replaced by one that continues with them.

use super::{MediaSnapshot, Notice, WorkerMessage};
use crate::ids::IdMap;
use std::net::{TcpListener, UdpSocket};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A thread that dies this soon after it continued with sessions may have died of one, so the next
/// one continues with none.
const TOO_SOON: Duration = Duration::from_secs(10);

/// A session's last snapshot.
pub(super) struct KeptSession {
    /// The snapshot.
    pub snapshot: Arc<MediaSnapshot>,
    /// Its snapshots are reported to its call, too.
    pub journalled: bool,
}

/// A thread's queue of orders, both ends.
pub(super) type Orders = (SyncSender<WorkerMessage>, Receiver<WorkerMessage>);

#[derive(Default)]
struct KeptState {
    browsers: Option<UdpSocket>,
    /// The same port over TCP.
    listener: Option<TcpListener>,
    orders: Option<Orders>,
    sessions: IdMap<u64, KeptSession>,
    /// Sessions the dead thread had no snapshot of.
    lost: Vec<u64>,
    /// When a thread last continued with sessions.
    resumed: Option<Instant>,
}

/// What a worker's next thread continues with.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<KeptState>>);

impl Kept {
    fn state(&self) -> MutexGuard<'_, KeptState> {
        // The state is sound after every statement, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The browsers' socket of the thread before, if there was one.
    pub(crate) fn browsers(&self) -> Option<UdpSocket> {
        self.state().browsers.as_ref().and_then(|socket| socket.try_clone().ok())
    }

    /// Keeps the browsers' port open beyond the thread.
    pub(crate) fn keep_browsers(&self, socket: &UdpSocket) {
        self.state().browsers = socket.try_clone().ok();
    }

    /// The browsers' listener of the thread before, if there was one.
    pub(crate) fn listener(&self) -> Option<TcpListener> {
        self.state().listener.as_ref().and_then(|listener| listener.try_clone().ok())
    }

    /// Keeps the browsers' port over TCP open beyond the thread.
    pub(crate) fn keep_listener(&self, listener: &TcpListener) {
        self.state().listener = listener.try_clone().ok();
    }

    /// The queue of the thread before, with what waits in it.
    pub(super) fn orders(&self) -> Option<Orders> {
        self.state().orders.take()
    }

    /// A session's newest snapshot.
    pub(super) fn keep(&self, id: u64, session: KeptSession) {
        self.state().sessions.insert(id, session);
    }

    /// A session has ended.
    pub(super) fn forget(&self, id: u64) {
        self.state().sessions.remove(&id);
    }

    /// A thread dies: what it had goes to the next.
    pub(super) fn bury(&self, orders: Orders, sessions: impl Iterator<Item = u64>) {
        let mut state = self.state();
        state.orders = Some(orders);
        let without = |id: &u64| !state.sessions.contains_key(id);
        state.lost = sessions.filter(without).collect();
    }

    /// The sessions of a dead thread that continue, for the thread that starts now; for the others
    /// it is reported that they have ended.
    pub(super) fn resume(
        &self,
        now: Instant,
        tell: &dyn Fn(u64, Notice),
    ) -> Vec<(u64, KeptSession)> {
        let mut state = self.state();
        let mut lost = std::mem::take(&mut state.lost);
        let mut sessions: Vec<_> = state.sessions.drain().collect();
        let before = state.resumed.filter(|at| now.saturating_duration_since(*at) < TOO_SOON);
        let too_soon = before.is_some();
        if !sessions.is_empty() {
            state.resumed = Some(now);
        }
        drop(state);
        if too_soon {
            lost.extend(sessions.drain(..).map(|(id, _)| id));
        }
        for id in lost {
            tell(id, Notice::Panicked);
            tell(id, Notice::Closed { statistics: Vec::new() });
        }
        sessions
    }
}
