//! The core's task: what arrives goes into the machine, and what comes out of it is carried out.

use super::call_storage::KeptCalls;
use super::workers::Starter;
use crate::api::events::Feed;
use crate::api::metrics::NodeMetrics;
use crate::call::CallId;
use crate::call::context::Output;
use crate::datagrams::local::KernelRoutes;
use crate::datagrams::{self, BATCH, Inbound};
use crate::errors::Code;
use crate::gateway::overload::{NewWork, Overloaded, QueueKind};
use crate::gateway::{Gateway, Gauges, Input};
use crate::handover::HandOver;
use crate::ids::IdMap;
use crate::journal::{Journal, WallClock};
use crate::log_limit::{self, Level, LineClass};
use crate::sip::transaction::{Flow, Hop, TrunkNumber};
use crate::state::State;
use crate::store::Store;
use crate::telemetry::Exporter;
use crate::transport::dns::Dns;
use crate::transport::hep::Hep;
use crate::transport::nodes::NodeTls;
use crate::transport::tcp::Secure;
use crate::transport::{Arrival, FlowTask, Inbox, Queued, Reloaded, WorkTurn, udp};
use crate::web::{AwaitedAddresses, WebPort};
use crate::webhook::Hook;
use crate::worker::heartbeat::{BEAT, CATCH_UP, Pulse, STALL, StallWatch};
use crate::worker::load::thread_time;
use crate::worker::{Notice, Worker};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

/// Most arrivals of one turn.
const TURN: usize = 64;
/// Timers fire at most this often: a thousand transactions a second that end one by one must not
/// each wake us.
const TIMER_SLACK: Duration = Duration::from_millis(20);

/// Shorter pauses of the process are normal on a busy host.
const LOGGED_FROM: Duration = Duration::from_secs(2);

/// A wall clock that is off by this much was set; less is normal adjustment.
const CLOCK_SET: Duration = Duration::from_secs(1);

/// Timers of media that fire this late on average: something takes the processor from calls.
const HARMED: Duration = Duration::from_millis(5);

/// Until the socket has a datagram; for ever if there is none.
async fn readable(socket: Option<&UdpSocket>) {
    match socket {
        Some(socket) => drop(socket.readable().await),
        None => std::future::pending().await,
    }
}

/// Lets the other tasks run if there is more to take already: a sender that never pauses must not
/// keep the thread from the connections' tasks. On a small machine they share it, and a login
/// takes several turns of theirs.
async fn give_way(more: bool) {
    if more {
        tokio::task::yield_now().await;
    }
}

/// The core's task: the machine, and what its outputs need.
pub(super) struct Core {
    /// The machine.
    pub(super) gateway: Gateway,
    /// What others give it.
    pub(super) inbox: Inbox,
    /// The media threads.
    pub(super) workers: Vec<Worker>,
    /// Starts a media thread in the place of one that died.
    pub(super) starter: Starter,
    /// Watched by the supervisor.
    pub(super) pulse: Arc<Pulse>,
    /// The UDP socket of SIP.
    pub(super) udp: Option<Arc<UdpSocket>>,
    /// That socket takes IPv6 addresses.
    pub(super) udp_is_ipv6: bool,
    /// What the kernel would choose to answer from.
    pub(super) routes: KernelRoutes,
    /// Connections that were accepted.
    pub(super) flows: IdMap<Flow, FlowTask>,
    /// Connections that were opened, by where they lead.
    pub(super) connections: HashMap<Hop, mpsc::Sender<Bytes>>,
    /// How TLS connections to each trunk are secured.
    pub(super) tls_trunks: HashMap<TrunkNumber, Secure>,
    /// Asks DNS.
    pub(super) dns: Dns,
    /// The store and the other nodes, if there is a cluster.
    pub(super) links: Option<ClusterLinks>,
    /// Where records are written.
    pub(super) journal: Option<Journal>,
    /// Held for as long as the core runs: no other process may have the directory meanwhile.
    pub(super) state: State,
    /// Live calls, on disk if there is such a directory.
    pub(super) kept: KeptCalls,
    /// Which process of the cluster this is, as it is kept.
    pub(super) process: Option<u64>,
    /// Calls that continue and that ended, of nodes whose calls are being taken.
    pub(super) taking: HashMap<String, (usize, usize)>,
    /// Turns moments into times of day.
    pub(super) clock: WallClock,
    /// The events that clients listen to.
    pub(super) feed: Arc<Feed>,
    /// The metrics.
    pub(super) metrics: Arc<NodeMetrics>,
    /// No drain waits for its last call.
    pub(super) drained: bool,
    /// Web applications that are asked for routes, by URL.
    pub(super) hooks: HashMap<String, Arc<Hook>>,
    /// Where messages are mirrored (HEP).
    pub(super) hep: Option<Hep>,
    /// Where traces go (OTLP).
    pub(super) telemetry: Option<Exporter>,
    /// The newest gauges.
    pub(super) tell_gauges: watch::Sender<Gauges>,
    /// Datagrams that were no SIP, since the start.
    pub(super) malformed: u64,
    /// Since when the UDP socket has never been empty.
    pub(super) standing: Option<Instant>,
    /// What was shed of overload, for the log.
    pub(super) shed: ReportedRefusals,
    /// The web port.
    pub(super) web: Arc<WebPort>,
    /// Addresses from which a browser is expected back.
    pub(super) awaited: Arc<AwaitedAddresses>,
    /// A successor of the process wants the calls.
    pub(super) asked: Option<HandOver>,
}

/// How the core's task ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CoreEnd {
    /// Nobody can tell it anything any more.
    Stopped,
    /// Another process has the calls.
    HandedOver,
}

/// What leads to the rest of a cluster.
#[derive(Clone)]
pub(super) struct ClusterLinks {
    /// The store.
    pub(super) store: Store,
    /// What proves this node to the others.
    pub(super) tls: NodeTls,
}

/// What begins a turn.
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
enum First {
    Arrival(Queued),
    Datagrams,
    Timer,
    /// Checkpoints are on disk.
    Written,
}

/// The requests refused for overload at the last report, and when that was.
#[derive(Default)]
pub(super) struct ReportedRefusals {
    at: Option<Instant>,
    of: [u64; NewWork::NAMES.len()],
}

impl Core {
    /// Runs until nobody can tell it anything any more.
    pub(super) async fn run(mut self, mut arrivals: mpsc::Receiver<Queued>) -> CoreEnd {
        let mut out = Vec::new();
        let socket = self.udp.clone();
        let mut sleep = Box::pin(sleep_until(Instant::now().into()));
        let (mut ticked, mut patient_since) = (Instant::now(), None::<Instant>);
        let mut looked = Instant::now();
        let written = self.state.checkpoints.on_written();
        let (mut watch, mut excused) = (StallWatch::new(Instant::now()), false);
        loop {
            let began = Instant::now();
            let stood_still = watch.runs(began);
            self.pulse.beat(began);
            self.look_around(began, &mut looked);
            let due = self.due(ticked, &mut patient_since).min(looked + BEAT);
            if sleep.deadline() != due.into() {
                sleep.as_mut().reset(due.into());
            }
            watch.rests_until(due);
            let first = tokio::select! {
                biased;
                arrival = arrivals.recv() => match arrival {
                    Some(arrival) => First::Arrival(arrival),
                    None => return CoreEnd::Stopped,
                },
                () = readable(socket.as_deref()) => First::Datagrams,
                () = &mut sleep => First::Timer,
                () = written.notified() => First::Written,
            };
            let woken = Instant::now();
            let stall = stood_still + watch.runs(woken);
            // Once: a core that is always late has timers, too.
            excused = stall >= STALL && !excused;
            if excused {
                self.overslept(woken, stall);
                if matches!(first, First::Timer) {
                    // Arrivals are taken first from now on, and connections are read by other
                    // tasks.
                    watch.rests_until(woken + CATCH_UP);
                    tokio::time::sleep(CATCH_UP).await;
                    continue;
                }
            }
            self.gateway.turn_began(woken);
            let spent = thread_time();
            match first {
                First::Arrival(arrival) => self.take_queued(arrival, arrivals.len(), &mut out),
                First::Datagrams | First::Written => {}
                First::Timer => {
                    ticked = woken;
                    self.workers.iter().for_each(Worker::wake_for_all);
                    self.take(Arrival::Input(Input::Tick), &mut out);
                }
            }
            self.take_waiting(TURN, &mut arrivals, &mut out);
            if let Some(asked) = self.asked.take()
                && self.hand_over(asked, &mut arrivals).await
            {
                return CoreEnd::HandedOver;
            }
            self.take_datagrams(socket.as_deref(), &mut out);
            self.keep_process();
            self.kept.put(&self.state.checkpoints, &mut self.gateway, &self.workers);
            self.workers.iter().for_each(Worker::wake);
            let worked = thread_time().saturating_sub(spent);
            self.gateway.turn_ended(Instant::now(), worked);
            let gauges = self.gateway.gauges();
            self.watch_drain(&gauges);
            self.tell_gauges.send_if_modified(|old| std::mem::replace(old, gauges) != gauges);
            give_way(self.standing.is_some() || !arrivals.is_empty()).await;
        }
    }

    /// This process says nothing more, and the next one finds what is to be said again.
    pub(super) fn put_last(&mut self) {
        self.kept.put_last(&self.state.checkpoints, &mut self.gateway);
    }

    /// Looks after what nobody tells of, once a second.
    fn look_around(&mut self, now: Instant, looked: &mut Instant) {
        if now.saturating_duration_since(*looked) >= BEAT {
            *looked = now;
            log_limit::tell_held_back();
            self.replace_dead_workers();
            self.look_at_load(now);
            self.look_at_clock(now);
        }
    }

    /// Nobody was heard for `stall`, and nobody is judged by it.
    fn overslept(&mut self, now: Instant, stall: Duration) {
        self.gateway.overslept(now, stall);
        if stall < LOGGED_FROM {
            return;
        }
        let seconds = stall.as_secs_f32();
        let class = LineClass::new("stalls of the process", Code::STALLED);
        log_limit::tell(Level::Warn, class, || {
            format!(
                "the process was suspended for {seconds:.1} s: calls continue if their peers allow \
                 it"
            )
        });
    }

    /// When it has something to do at the latest, though nothing comes.
    fn due(&mut self, ticked: Instant, patient_since: &mut Option<Instant>) -> Instant {
        // A worker learns that much later at most that a session is over.
        let patient = self.workers.iter().any(Worker::is_patient);
        *patient_since = patient_since.or_else(|| Some(Instant::now())).filter(|_| patient);
        let timers = self.gateway.next_timeout().map(|due| due.max(ticked + TIMER_SLACK));
        let patience = patient_since.map(|since| since + TIMER_SLACK);
        let all = [timers, patience, self.kept.due(&self.gateway)];
        // The beat comes sooner than that.
        all.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + 2 * BEAT)
    }

    /// Starts a worker again whose thread has died; it continues with its calls.
    fn replace_dead_workers(&mut self) {
        for n in 0..self.workers.len() {
            if !self.workers[n].is_dead() {
                continue;
            }
            match self.starter.start(n) {
                Ok(worker) => self.workers[n] = worker,
                Err(e) => {
                    tracing::error!(code = %Code::WORKER_DIED, "media worker {n} died: {e:#}");
                    continue;
                }
            }
            tracing::error!(
                code = %Code::WORKER_DIED,
                "media worker {n} died and was started again"
            );
        }
    }

    /// Tells the gateway how its workers do, and the log what was refused.
    fn look_at_load(&mut self, now: Instant) {
        let mut harmed =
            matches!(self.gateway.overloaded(), Some(Overloaded::Core | Overloaded::Queue));
        for (n, load) in self.starter.loads().enumerate() {
            harmed |= load.late >= HARMED;
            self.gateway.worker_load(now, n, load);
        }
        self.web.handshakes.judge(harmed);
        let (shed, reported) = (self.gateway.shed(), &mut self.shed);
        if shed == reported.of || reported.at.is_some_and(|at| now < at + log_limit::EVERY) {
            return;
        }
        let [calls, logins, texts] = std::array::from_fn(|n| shed[n] - reported.of[n]);
        (reported.at, reported.of) = (Some(now), shed);
        let class = LineClass::new("requests refused for overload", Code::OVERLOADED);
        let why = self.gateway.overloaded().map_or("it is over now", Overloaded::as_str);
        log_limit::tell(Level::Warn, class, || {
            format!("overload: {calls} calls, {logins} logins and {texts} texts refused: {why}")
        });
    }

    /// Goes by the wall clock as it was set.
    fn look_at_clock(&mut self, now: Instant) {
        let clock = WallClock::now();
        let apart = clock.apart(&self.clock);
        if apart < CLOCK_SET {
            return;
        }
        self.clock = clock;
        self.gateway.set_clock(now, clock.since_epoch(now).as_secs());
        tracing::info!("the wall clock was set by {} s", apart.as_secs());
    }

    fn watch_drain(&mut self, gauges: &Gauges) {
        let drained = !gauges.draining || gauges.calls == 0;
        if !std::mem::replace(&mut self.drained, drained) && drained && gauges.draining {
            self.feed.drained(gauges, Instant::now(), &self.clock);
        }
    }

    fn take_datagrams(&mut self, socket: Option<&UdpSocket>, out: &mut Vec<Output>) {
        // The kernel's headers point at their buffers, so these stay on the thread while the task
        // may not.
        thread_local! {
            static INBOUND: RefCell<Inbound> = RefCell::new(Inbound::new(datagrams::ANY));
        }
        let Some(socket) = socket else { return };
        INBOUND.with_borrow_mut(|inbound| {
            let count = udp::receive(socket, inbound);
            let now = Instant::now();
            self.standing = (count == BATCH).then(|| self.standing.unwrap_or(now));
            let waited =
                self.standing.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
            self.gateway.waited(now, QueueKind::Datagrams, waited, count);
            for n in 0..count {
                let local = inbound.local(n);
                let Some((datagram, remote)) = inbound.datagram(n) else { continue };
                let local =
                    local.and_then(|to| self.routes.exception(Instant::now(), remote.ip(), to));
                if let Some(arrival) = udp::arrival(datagram, remote, local) {
                    self.take(arrival, out);
                }
            }
        });
    }

    /// Takes what is already there in the same turn, so many at most; gauges are published once.
    pub(super) fn take_waiting(
        &mut self,
        most: usize,
        arrivals: &mut mpsc::Receiver<Queued>,
        out: &mut Vec<Output>,
    ) {
        for _ in 0..most {
            let Ok(arrival) = arrivals.try_recv() else { break };
            self.take_queued(arrival, arrivals.len(), out);
        }
    }

    pub(super) fn take_queued(&mut self, queued: Queued, backlog: usize, out: &mut Vec<Output>) {
        let now = Instant::now();
        let waited = now.saturating_duration_since(queued.since);
        self.gateway.waited(now, QueueKind::Arrivals, waited, backlog);
        self.take(queued.arrival, out);
    }

    fn take(&mut self, arrival: Arrival, out: &mut Vec<Output>) {
        let input = match arrival {
            Arrival::Input(Input::Media { session, notice: Notice::Snapshot(media) }) => {
                let checkpoints = &self.state.checkpoints;
                let places = (checkpoints, &mut self.gateway);
                return self.kept.put_media(places, CallId(session), &media);
            }
            Arrival::Input(input) => input,
            Arrival::Work(work) => {
                work.0(
                    &mut self.gateway,
                    &mut WorkTurn { now: Instant::now(), clock: &self.clock, out },
                );
                return self.perform_all(out);
            }
            Arrival::Reload(reloaded) => {
                let Reloaded { revised, tls } = *reloaded;
                let tls = tls.map(|tls| std::mem::replace(&mut self.tls_trunks, tls));
                self.journal.iter().for_each(Journal::reopen);
                let replaced = self.gateway.reload(Instant::now(), revised, out);
                self.metrics.reloaded(self.clock.since_epoch(Instant::now()));
                // What was in force may be large: forgetting it takes as long as making it.
                tokio::task::spawn_blocking(move || drop((replaced, tls)));
                return self.perform_all(out);
            }
            Arrival::HandOver(asked) => {
                self.asked = Some(asked);
                return;
            }
            Arrival::Flow { flow, kind, remote, task } => {
                self.flows.insert(flow, task);
                Input::FlowOpened { flow, kind, remote }
            }
            Arrival::Disconnected { hop } => {
                // Unless another was opened in its place already.
                if self.connections.get(&hop).is_some_and(mpsc::Sender::is_closed) {
                    self.connections.remove(&hop);
                }
                return;
            }
            Arrival::Malformed { remote, why, rest } => {
                self.malformed += 1;
                tracing::debug!("malformed message from {remote}: {why}");
                let Some(rest) = rest else { return };
                Input::Unreadable { remote, rest, why: why.to_string() }
            }
        };
        if let Input::FlowClosed { flow } = &input {
            self.flows.remove(flow);
        }
        if let Input::Received { hop, remote, message, .. } = &input {
            self.metrics.messages.received(message, self.gateway.transport(*hop));
            if let Some(hep) = &mut self.hep {
                hep.received(Instant::now(), *remote, self.gateway.is_stranger(*hop), message);
            }
        }
        self.gateway.handle(Instant::now(), input, out);
        if let Some((address, until)) = self.gateway.take_awaited() {
            self.awaited.expect(address, until);
        }
        if let Some(address) = self.gateway.take_proved() {
            self.web.proved.prove(Instant::now(), address);
        }
        self.perform_all(out);
    }
}
