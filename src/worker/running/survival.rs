//! Sessions that outlive their thread, and their process.

use super::{LiveSession, Running, TrunkSockets, hear};
use crate::datagrams::Inbound;
use crate::datagrams::local::LocalSource;
use crate::media::{LegId, Session};
use crate::worker::kept::KeptSession;
use crate::worker::snapshot::clocks;
use crate::worker::source_addresses::Sources;
use crate::worker::{FrozenSessions, MediaSnapshot, NotResumed, Notice, Restored, TrunkPorts};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// Those of a session's addresses that the kernel would answer from another address of ours than
/// they came to, and that one.
fn sources_of(known: &Sources, addresses: &[(LegId, SocketAddr)]) -> Vec<(SocketAddr, IpAddr)> {
    let exception = |(_, remote): &(_, SocketAddr)| Some((*remote, known.exception(*remote)?));
    addresses.iter().filter_map(exception).collect()
}

impl Running {
    /// Takes a session's snapshot: the next thread continues with it, and who journals it the next
    /// process.
    pub(super) fn checkpoint(&mut self, id: u64) {
        let Some(live) = self.sessions.get_mut(&id) else { return };
        // In this order, so that a stall between the two makes the snapshot look older than it is:
        // nothing is sent beyond its reserve before nobody continues from it any more.
        let clocks = clocks();
        let now = Instant::now();
        let trunks = live.lines.iter();
        let snapshot = Arc::new(MediaSnapshot {
            browser_port: self.browsers.local_addr().map_or(0, |address| address.port()),
            trunks: trunks
                .map(|l| TrunkPorts { end: l.end, port: l.pair.port, local: l.local })
                .collect(),
            sources: sources_of(&self.sources, &live.routes.addresses),
            session: live.session.checkpoint(now, clocks),
        });
        let journalled = live.journalled;
        self.kept.keep(id, KeptSession { snapshot: snapshot.clone(), journalled });
        if journalled {
            (self.tell)(id, Notice::Snapshot(snapshot));
        } else {
            live.session.confirm(snapshot.session.number);
        }
    }

    /// All sessions as they are now, for a successor of the process that continues with their very
    /// next packets, and their trunks' sockets.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(super) fn hand_over(&mut self) -> io::Result<FrozenSessions> {
        let (clocks, now) = (clocks(), Instant::now());
        let browser_port = self.browsers.local_addr()?.port();
        let (mut frozen, known) = (FrozenSessions::default(), &self.sources);
        for (id, live) in &mut self.sessions {
            let sources = sources_of(known, &live.routes.addresses);
            let mut trunks = Vec::new();
            for TrunkSockets { end, pair, local, .. } in &live.lines {
                trunks.push(TrunkPorts { end: *end, port: pair.port, local: *local });
                frozen.pairs.push(pair.try_clone()?);
            }
            let session = live.session.hand_over(now, clocks);
            frozen.sessions.push((*id, MediaSnapshot { browser_port, trunks, sources, session }));
        }
        frozen.streams = self.streams.hand_over()?;
        Ok(frozen)
    }

    /// Reads what arrived while nothing was read: the poll has reported it, and will not again.
    pub(super) fn read_all(&mut self, inbound: &mut Inbound) {
        let lines: Vec<usize> = self.tokens.iter().map(|(token, _)| token).collect();
        lines.into_iter().for_each(|line| self.read_line(line, inbound));
        self.accept();
        self.streams.queue_all();
    }

    /// Goes on with what the thread before had.
    pub(super) fn resume(&mut self) {
        for (id, KeptSession { snapshot, journalled }) in
            self.kept.resume(Instant::now(), &self.tell)
        {
            match snapshot.claim(&self.ports) {
                Ok(pairs) => self.restore(Restored { id, snapshot, pairs, journalled }),
                Err(why) => self.refuse(id, why),
            }
        }
    }

    /// Goes on with a session.
    pub(super) fn restore(&mut self, restored: Restored) {
        let (id, now) = (restored.id, Instant::now());
        // A session's name is its call's: whoever has it ends.
        self.forget(id);
        match catch_unwind(AssertUnwindSafe(|| self.make(now, &restored))) {
            Ok(Ok(session)) => self.insert_restored(now, session, restored),
            Ok(Err(why)) => self.give_up(restored, why),
            Err(_) => self.give_up(restored, NotResumed::Panicked),
        }
    }

    fn make(&self, now: Instant, restored: &Restored) -> Result<Session, NotResumed> {
        if let Some(end) = restored.snapshot.unreached() {
            return Err(NotResumed::NoPorts(end));
        }
        let from = restored.snapshot.session.clone();
        let mut session = Session::restore(from, now, clocks(), &self.identity)?;
        session.limit_complexity(self.load.complexity());
        session.vouch(self.vouched);
        Ok(session)
    }

    /// While a node does not know whether another has its calls, no record is too old to continue
    /// from.
    pub(super) fn vouch(&mut self, now: Instant, until: Option<Instant>) {
        self.vouched = until;
        let all: Vec<u64> = self.sessions.keys().copied().collect();
        all.into_iter().for_each(|id| self.on_session(id, now, |s, _, _| s.vouch(until)));
    }

    fn insert_restored(&mut self, now: Instant, session: Session, restored: Restored) {
        let Restored { id, snapshot, pairs, journalled } = restored;
        let mut live = LiveSession { journalled, ..LiveSession::new(session) };
        for (pair, ports) in pairs.into_iter().zip(&snapshot.trunks) {
            let tokens = hear(self.poll.registry(), &mut self.tokens, (id, ports.end), &pair);
            let source = ports.local.map(|local| LocalSource::new(local, self.ipv6));
            let (end, local) = (ports.end, ports.local);
            live.lines.push(TrunkSockets { end, pair, tokens, source, local });
        }
        self.sessions.insert(id, live);
        let ends: Vec<LegId> = snapshot.session.legs().collect();
        ends.into_iter().for_each(|end| self.refresh_routes(now, id, end));
        for (remote, local) in &snapshot.sources {
            // Another session may have that address by now.
            if self.routes.of(*remote).is_some_and(|(of, _)| of == id) {
                self.sources.learn(now, *remote, *local);
            }
        }
        let age = snapshot.session.age(clocks()).unwrap_or_default();
        (self.tell)(id, Notice::Restored { age });
        if self.frozen {
            self.taken_up.push(id);
        } else {
            self.begin(now, id);
        }
    }

    /// A restored session asks for its first snapshot, which may be what lets it send.
    fn begin(&mut self, now: Instant, id: u64) {
        let journalled = self.sessions.get(&id).is_some_and(|live| live.journalled);
        self.on_session(id, now, |session, now, sink| {
            session.fire(now, sink);
            if !journalled {
                session.keep_at_leisure(now);
            }
        });
    }

    /// Goes on with everything, and with what was taken up meanwhile.
    pub(super) fn thaw(&mut self) {
        self.frozen = false;
        let now = Instant::now();
        std::mem::take(&mut self.taken_up).into_iter().for_each(|id| self.begin(now, id));
    }

    fn give_up(&mut self, restored: Restored, why: NotResumed) {
        restored.pairs.into_iter().for_each(|pair| self.ports.give_back(pair, Instant::now()));
        self.refuse(restored.id, why);
    }

    fn refuse(&self, id: u64, why: NotResumed) {
        (self.tell)(id, Notice::NotRestored(why));
        (self.tell)(id, Notice::Closed { statistics: Vec::new() });
    }
}

impl Drop for Running {
    /// A thread that dies leaves its sessions, its queue and its ports to the next.
    fn drop(&mut self) {
        // One that was ordered to stop has none.
        if let Some(orders) = self.orders.take() {
            self.kept.bury(orders, self.sessions.keys().copied());
        }
        for line in self.sessions.drain().flat_map(|(_, live)| live.lines) {
            self.ports.give_back(line.pair, Instant::now());
        }
    }
}
