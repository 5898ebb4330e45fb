//! The core: transactions, registrar and calls as one machine in virtual time.
//!
//! `handle(now, input, out)` and `next_timeout()`; no clock, socket, file or random source of its
//! own.

/// The node's parts, lent to one call; a macro, because the calls themselves stay borrowed
/// meanwhile.
macro_rules! cx {
    ($gateway:expr, $now:expr, $out:expr) => {
        $crate::call::CallContext {
            unix: $gateway.identity.unix
                + $now.saturating_duration_since($gateway.started).as_secs(),
            now: $now,
            config: &$gateway.config,
            identity: &$gateway.identity,
            transactions: &mut $gateway.transactions,
            registrar: &$gateway.registrar,
            timers: &mut $gateway.timers,
            transaction_users: &mut $gateway.transaction_users,
            dialogs: &mut $gateway.dialogs,
            locator: &mut $gateway.locator,
            pending_queries: &mut $gateway.pending_queries,
            flows: &$gateway.flows,
            aliases: &$gateway.aliases,
            trunks: &mut $gateway.trunks,
            own_call_ids: &mut $gateway.own_call_ids,
            trunk_calls: &$gateway.trunk_calls,
            random: &mut $gateway.random,
            out: $out,
        }
    };
}
use cx;

pub mod admission;
pub mod credential;
mod dispatch;
mod flows;
mod invite;
mod joined;
pub mod logins;
pub mod operate;
pub mod originate;
mod out_of_dialog;
mod record;
mod registering;
pub mod token;
mod trunks;

use crate::call::context::{DnsWaiter, Identity, TransactionUser};
use crate::call::{Call, CallContext, CallId, CallTimer, HangupBy, Output};
use crate::config::Config;
use crate::dialplan::{Considered, Route};
use crate::errors::Code;
use crate::event::Event;
use crate::ids::IdMap;
use crate::media::LegId;
use crate::recorder::diagnosis::diagnose;
use crate::recorder::{Recorder, TraceEvent};
use crate::registrar::Registrar;
use crate::resolver::{Answer, Query, Resolver};
use crate::sip::digest::{Algorithm, Authenticator, Secret};
use crate::sip::message::Message;
use crate::sip::salvage::Salvaged;
use crate::sip::status::Refusal;
use crate::sip::transaction::{ClientId, Flow, Hop, ServerId, Transactions};
use crate::timers::Timers;
use crate::trunk::{Pace, Trunks};
use crate::worker::Notice;
use admission::{Admission, FlowState, Transport};
use out_of_dialog::Outside;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use record::heard;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What kind of association a flow is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowKind {
    /// A browser.
    WebSocket,
    /// An accepted TCP connection, which must come from a trunk.
    Tcp,
    /// An accepted TLS connection, likewise.
    Tls,
}

/// What the world tells the core.
#[derive(Debug)]
pub enum Input {
    FlowOpened {
        flow: Flow,
        kind: FlowKind,
        remote: SocketAddr,
    },
    FlowClosed {
        flow: Flow,
    },
    Received {
        hop: Hop,
        remote: SocketAddr,
        message: Message,
    },
    /// A message could not be read; `rest` is what it says of itself all the same.
    Unreadable {
        remote: SocketAddr,
        rest: Salvaged,
        why: String,
    },
    /// Nothing can be sent this way (connection refused, ICMP error).
    Unreachable {
        hop: Hop,
        code: Code,
        why: String,
    },
    Media {
        session: u64,
        notice: Notice,
    },
    /// DNS answered.
    Dns {
        query: Query,
        answer: Answer,
    },
    /// A web application answered with steps, or did not.
    Routed {
        call: CallId,
        answer: Result<Box<Route>, String>,
    },
    /// The keys of tokens were read, or not.
    Keys(Result<Arc<token::Keys>, String>),
    /// A web application said who a user is, that it knows none, or nothing.
    Login {
        name: String,
        answer: Result<Option<Box<logins::Answered>>, String>,
    },
    /// The public addresses as they were found; they count where nobody wrote them down.
    PublicAddresses {
        found: Vec<IpAddr>,
        why: &'static str,
    },
    /// No new calls from now on.
    Drain,
    /// End every call with BYE.
    HangUpAll,
    /// The thread of a media worker died, and all its sessions with it.
    WorkerLost {
        worker: usize,
    },
    Operate(operate::Command),
    /// A call nobody dialled, found fit to begin.
    Originate(Box<originate::PlannedCall>),
    /// Time has passed.
    Tick,
}

/// A WebSocket that has not proved who it is after this long is closed.
const FIRST_AUTHENTICATION: Duration = Duration::from_secs(30);

struct Live {
    call: Call,
    media_closed: bool,
    recorded: bool,
    /// Its handling panicked once.
    lost: bool,
    counted: Vec<String>,
    /// The user whose calls it counts among.
    user: Option<String>,
}

/// The core of a node.
pub struct Gateway {
    config: Arc<Config>,
    identity: Identity,
    transactions: Transactions,
    registrar: Registrar,
    admission: Admission,
    flows: IdMap<Flow, FlowState>,
    /// Boxed, for they are large, and maps move what they hold.
    calls: IdMap<CallId, Box<Live>>,
    servers: IdMap<ServerId, CallId>,
    /// Initial INVITEs by Call-ID, From tag and CSeq (RFC 3261 §8.2.2.2).
    invites: HashMap<String, CallId>,
    transaction_users: IdMap<ClientId, TransactionUser>,
    dialogs: HashMap<String, (CallId, LegId)>,
    locator: Resolver,
    pending_queries: HashMap<Query, Vec<DnsWaiter>>,
    trunks: Trunks,
    /// Listening addresses of trunks, to the connection they offered (RFC 5923).
    aliases: HashMap<(String, SocketAddr), Flow>,
    own_call_ids: HashMap<String, CallId>,
    outside: Outside,
    logins: logins::Logins,
    /// What credentials for test calls are made of.
    trunk_test_secret: Secret,
    live: usize,
    user_calls: HashMap<String, usize>,
    user_pace: HashMap<String, Pace>,
    /// Calls of a user by a route with a limit: when, the oldest first.
    by_route: HashMap<(String, String), VecDeque<Instant>>,
    timers: Timers<(CallId, CallTimer)>,
    unproved: Timers<Flow>,
    trunk_calls: HashMap<String, usize>,
    random: ChaCha20Rng,
    next_worker: usize,
    draining: bool,
    started: Instant,
    dropped: u64,
    refused: u64,
    pub recorder: Recorder,
    /// Calls that are over but not yet forgotten.
    ending: BTreeSet<CallId>,
    /// How many of them have their record written.
    recorded: usize,
    /// Routes that were looked at in this turn, for the recorder.
    routed: Vec<(CallId, Vec<Considered>)>,
    /// Calls something happened to in this turn.
    touched: Vec<CallId>,
}

impl Gateway {
    /// A core for `config`; `seed` is all the chance it will ever have.
    pub fn new(now: Instant, config: Arc<Config>, identity: Identity, seed: [u8; 32]) -> Gateway {
        let mut random = ChaCha20Rng::from_seed(seed);
        let mut key = [0u8; 32];
        random.fill_bytes(&mut key);
        let mut trunk_test_secret = [0u8; 32];
        random.fill_bytes(&mut trunk_test_secret);
        let node = random.next_u32();
        let allowed =
            [(Algorithm::Sha256, config.allow_sha256), (Algorithm::Md5, config.allow_md5)];
        let algorithms: Vec<Algorithm> =
            allowed.into_iter().filter(|(_, on)| *on).map(|(a, _)| a).collect();
        let authenticator = Authenticator::new(&config.domain, node, &key, &algorithms);
        Gateway {
            admission: Admission::new(now, authenticator),
            trunks: Trunks::new(now, &config),
            locator: Resolver::new(config.udp.is_some_and(|a| a.is_ipv6())),
            recorder: Recorder::new(config.recorder),
            logins: logins::Logins::new(now, &config),
            trunk_test_secret: Secret::new(
                trunk_test_secret.iter().map(|b| format!("{b:02x}")).collect::<String>(),
            ),
            config,
            identity,
            transactions: Transactions::default(),
            registrar: Registrar::default(),
            flows: IdMap::default(),
            calls: IdMap::default(),
            servers: IdMap::default(),
            invites: HashMap::new(),
            transaction_users: IdMap::default(),
            dialogs: HashMap::new(),
            pending_queries: HashMap::new(),
            aliases: HashMap::new(),
            own_call_ids: HashMap::new(),
            outside: Outside::default(),
            live: 0,
            user_calls: HashMap::new(),
            user_pace: HashMap::new(),
            by_route: HashMap::new(),
            timers: Timers::default(),
            unproved: Timers::default(),
            trunk_calls: HashMap::new(),
            random,
            next_worker: 0,
            draining: false,
            started: now,
            dropped: 0,
            refused: 0,
            ending: BTreeSet::new(),
            routed: Vec::new(),
            touched: Vec::new(),
            recorded: 0,
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        let (before, heard) = (out.len(), heard(&input));
        self.fire(now, out);
        match input {
            Input::FlowOpened { flow, kind, remote } => {
                self.flow_opened(now, flow, kind, remote, out)
            }
            Input::FlowClosed { flow } => self.flow_closed(now, flow, out),
            Input::Received { hop, remote, message } => {
                self.received(now, hop, remote, message, out)
            }
            Input::Unreadable { remote, rest, why } => self.unreadable(remote, &rest, &why, out),
            Input::Unreachable { hop, code, why } => self.unreachable(now, hop, (code, why), out),
            Input::Media { session, notice } => self.media(now, CallId(session), notice, out),
            Input::Dns { query, answer } => self.dns_answered(now, query, answer, out),
            Input::Routed { call, answer } => {
                drop(self.with_call(now, call, out, |call, cx| call.routed(cx, answer)))
            }
            Input::Keys(answer) => self.keys_answered(now, answer, out),
            Input::Login { name, answer } => self.login_answered(now, name, answer, out),
            Input::PublicAddresses { found, why } => self.public_addresses(found, why, out),
            Input::Drain => {
                self.draining = true;
                out.push(Output::Event(Event::Draining { calls: self.gauges().calls }));
            }
            Input::HangUpAll => {
                for id in self.calls.keys().copied().collect::<Vec<_>>() {
                    let why = Refusal::new(503, "the gateway is shutting down").retry_after(5);
                    self.with_call(now, id, out, |call, cx| call.finish(cx, HangupBy::Us, why));
                }
            }
            Input::WorkerLost { worker } => self.worker_lost(now, worker, out),
            Input::Operate(command) => self.operate(now, command, out),
            Input::Originate(plan) => self.begin_call(now, *plan, out),
            Input::Tick => {}
        }
        self.settle_links(now, out);
        self.sweep(out);
        self.take_down(now, heard, &out[before.min(out.len())..]);
    }

    fn fire(&mut self, now: Instant, out: &mut Vec<Output>) {
        let (mut sends, mut events) = (Vec::new(), Vec::new());
        self.transactions.fire(now, &mut sends, &mut events);
        for send in &sends {
            self.transactions.repeated[Transport::of(send.hop, &self.flows) as usize] += 1;
        }
        out.extend(sends.into_iter().map(Output::Send));
        self.dispatch(now, events, out);
        while let Some(flow) = self.unproved.pop(now) {
            if self.flows.get(&flow).is_some_and(|f| f.user.is_none()) {
                out.push(Output::CloseFlow(flow));
            }
        }
        self.carriers_due(now, out);
        self.logins_due(now, out);
        self.outside_due(now, out);
        for user in self.registrar.due(now) {
            self.registration_changed(now, &user, out);
            out.push(Output::Event(Event::Unregistered {
                user,
                why: crate::event::UnregisterReason::Expired,
            }));
        }
        while let Some((id, timer)) = self.timers.pop(now) {
            self.recorder.add(now, id, TraceEvent::Timer(timer));
            self.with_call(now, id, out, |call, cx| call.fire(cx, timer));
        }
    }

    /// The earliest moment [`handle`](Self::handle) must be called again.
    pub fn next_timeout(&mut self) -> Option<Instant> {
        let own = [
            self.transactions.next_timeout(),
            self.timers.next_timeout(),
            self.unproved.next_timeout(),
        ];
        own.into_iter()
            .chain([
                self.trunks.next_timeout(),
                self.outside.next_timeout(),
                self.logins.next_timeout(),
                self.registrar.next_timeout(),
            ])
            .flatten()
            .min()
    }

    /// Runs `work` on a call with a desk of the node's parts. A bug in it costs this call, not the
    /// node.
    fn with_call<R>(
        &mut self,
        now: Instant,
        id: CallId,
        out: &mut Vec<Output>,
        work: impl FnOnce(&mut Call, &mut CallContext<'_>) -> R,
    ) -> Option<R> {
        let live = self.calls.get_mut(&id)?;
        self.touched.push(id);
        let mut cx = cx!(self, now, out);
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut live.call, &mut cx)));
        let Ok(result) = result else {
            self.lose(now, id, out);
            return None;
        };
        self.recount(id);
        Some(result)
    }

    /// Ends a call whose handling panicked: properly if that still works, else by forgetting it.
    fn lose(&mut self, now: Instant, id: CallId, out: &mut Vec<Output>) {
        out.push(Output::Event(Event::CallPanicked { call: id }));
        let Some(live) = self.calls.get_mut(&id) else { return };
        if std::mem::replace(&mut live.lost, true) {
            out.push(Output::Media {
                worker: live.call.worker,
                command: crate::worker::Command::Close { session: id.0 },
            });
            self.forget(id);
            return;
        }
        let why = Refusal::new(500, "a bug in the gateway ended this call");
        self.with_call(now, id, out, |call, cx| call.finish(cx, HangupBy::Us, why));
    }

    /// Keeps the number of calls per trunk true: legs that are trying or talking count.
    fn recount(&mut self, id: CallId) {
        let Some(live) = self.calls.get_mut(&id) else { return };
        let now_on = live.call.trunks_in_use();
        if now_on == live.counted {
            return;
        }
        for name in &now_on {
            *self.trunk_calls.entry(name.clone()).or_default() += 1;
        }
        let before = std::mem::replace(&mut live.counted, now_on);
        self.release(&before);
    }

    fn release(&mut self, counted: &[String]) {
        for name in counted {
            if let Some(n) = self.trunk_calls.get_mut(name) {
                *n -= 1;
            }
        }
        self.trunk_calls.retain(|_, n| *n > 0);
    }

    fn media(&mut self, now: Instant, id: CallId, notice: Notice, out: &mut Vec<Output>) {
        if let Notice::Closed { statistics } = notice {
            if let Some(live) = self.calls.get_mut(&id) {
                statistics.into_iter().for_each(|(end, s)| live.call.cdr.end_closed(end, s));
                live.media_closed = true;
                self.touched.push(id);
            }
            return;
        }
        if matches!(notice, Notice::Panicked) {
            out.push(Output::Event(Event::MediaPanicked { call: id }));
        }
        self.with_call(now, id, out, |call, cx| call.media(cx, notice));
    }

    fn worker_lost(&mut self, now: Instant, worker: usize, out: &mut Vec<Output>) {
        let of_worker =
            |live: &Live| live.call.worker == worker && live.call.state != crate::call::State::Over;
        let lost: Vec<CallId> =
            self.calls.iter().filter(|(_, live)| of_worker(live)).map(|(id, _)| *id).collect();
        for id in lost {
            self.media(now, id, Notice::Panicked, out);
        }
    }

    /// Records calls that have ended, and forgets them once no transaction of theirs can bring
    /// anything more.
    fn sweep(&mut self, out: &mut Vec<Output>) {
        let mut over = Vec::new();
        out.retain(|o| {
            if let Output::CallOver(id) = o {
                over.push(*id);
                false
            } else {
                true
            }
        });
        for id in over {
            if self.ending.insert(id) {
                self.uncount(id);
            }
        }
        // Only what something happened to can have come to its end: thousands may be waiting for
        // theirs.
        for id in std::mem::take(&mut self.touched) {
            let Some(live) =
                self.calls.get_mut(&id).filter(|l| l.media_closed && self.ending.contains(&id))
            else {
                continue;
            };
            let (first, done) = (!std::mem::replace(&mut live.recorded, true), live.call.is_done());
            self.recorded += usize::from(first);
            // Most calls are forgotten in the same moment; a record is only copied where one is
            // not.
            let cdr = if done {
                self.forget(id).map(|l| l.call.cdr)
            } else {
                first.then(|| live.call.cdr.clone())
            };
            if let Some(mut cdr) = cdr.filter(|_| first) {
                cdr.verdict = Some(diagnose(&cdr));
                out.push(Output::Event(Event::CallEnded(Arc::new(cdr))));
            }
        }
    }

    /// A call that is over counts no longer against anyone's limit.
    fn uncount(&mut self, id: CallId) {
        let Some(live) = self.calls.get_mut(&id) else { return };
        self.live -= 1;
        if let Some(user) = live.user.take()
            && let Some(n) = self.user_calls.get_mut(&user)
        {
            *n -= 1;
            if *n == 0 {
                self.user_calls.remove(&user);
            }
        }
    }

    fn forget(&mut self, id: CallId) -> Option<Box<Live>> {
        if !self.ending.remove(&id) {
            self.uncount(id);
        }
        let live = self.calls.remove(&id)?;
        self.recorded -= usize::from(live.recorded);
        self.servers.remove(&live.call.server);
        self.invites.remove(&invite::invite_key(&live.call.invite));
        for name in live.call.names() {
            self.dialogs.remove(name);
            self.own_call_ids.remove(name);
        }
        live.call.timers().into_iter().for_each(|t| self.timers.clear(&(id, t)));
        self.release(&live.counted);
        Some(live)
    }

    /// What is alive, for `/readyz`, drains and tests.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            calls: self.calls.len() - self.recorded,
            ending: self.recorded,
            transactions: self.transactions.len(),
            timers: self.timers.len(),
            dialogs: self.dialogs.len(),
            bindings: self.registrar.len(),
            flows: self.flows.len(),
            indexed: self.invites.len()
                + self.servers.len()
                + self.transaction_users.len()
                + self.own_call_ids.len()
                + self.user_calls.len()
                + self.live,
            pending_queries: self.pending_queries.len(),
            subscriptions: self.outside.subscriptions(),
            dropped: self.dropped,
            repeated: self.transactions.repeated,
            draining: self.draining,
        }
    }

    /// Calls and transactions as text.
    pub fn snapshot(&self) -> Vec<String> {
        self.calls
            .values()
            .map(|l| l.call.to_string())
            .chain(self.transactions.snapshot())
            .collect()
    }
}

/// Counts of what lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gauges {
    /// Calls without a record yet.
    pub calls: usize,
    /// Recorded calls that wait for a transaction to run out.
    pub ending: usize,
    pub transactions: usize,
    pub timers: usize,
    pub dialogs: usize,
    pub bindings: usize,
    pub flows: usize,
    /// Entries of the tables that lead to calls.
    pub indexed: usize,
    /// Questions to DNS that are open.
    pub pending_queries: usize,
    pub subscriptions: usize,
    pub dropped: u64,
    /// Messages sent once more because nothing came, by transport.
    pub repeated: [u64; 4],
    pub draining: bool,
}

impl Gauges {
    /// Whether no call has left anything behind.
    pub fn is_idle(&self) -> bool {
        self.calls
            + self.ending
            + self.transactions
            + self.timers
            + self.dialogs
            + self.pending_queries
            + self.indexed
            == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::State;
    use crate::config::check::parse_embedded;
    use crate::sip::parse::Framing;

    fn with_two_calls() -> (Gateway, Instant, Vec<CallId>) {
        let config = "[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n[sip]\nudp = \":5060\"\n[trunk.t]\nuri = \"sip:127.0.0.10\"\ncontext = \"in\"\n";
        let plan = "[[route]]\nname = \"e\"\nmatch = \".\"\ndo = [{ echo = true }]\n";
        let (config, _) = parse_embedded(config, &[("in", plan)]).unwrap_or_else(|p| panic!("{p}"));
        let identity = Identity {
            fingerprint: "AB".into(),
            udp_port: 1,
            tcp_port: 1,
            tls_port: 1,
            web_secure: false,
            workers: 1,
            reach: Default::default(),
            unix: 1_700_000_000,
        };
        let now = Instant::now();
        let mut gateway = Gateway::new(now, Arc::new(config), identity, [3; 32]);
        let remote = SocketAddr::from(([127, 0, 0, 10], 5060));
        for n in 0..2 {
            let text = format!(
                "INVITE sip:1@x SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.10;branch=z9hG4bK{n}\r\nFrom: <sip:a@b>;tag={n}\r\nTo: <sip:1@x>\r\n\
                 Call-ID: {n}\r\nCSeq: 1 INVITE\r\nContact: <sip:a@b>\r\nContent-Length: 0\r\n\r\n"
            );
            let message = Message::parse(text.into_bytes(), Framing::Datagram).expect("sound");
            gateway.handle(
                now,
                Input::Received { hop: Hop::Udp(remote), remote, message },
                &mut Vec::new(),
            );
        }
        let ids = gateway.calls.keys().copied().collect();
        (gateway, now, ids)
    }

    #[test]
    fn a_bug_in_one_call_ends_that_call_and_no_other() {
        let (mut gateway, now, ids) = with_two_calls();
        let mut out = Vec::new();
        gateway.with_call(now, ids[0], &mut out, |_, _| panic!("a bug"));
        let refused =
            out.iter().any(|o| matches!(o, Output::Send(t) if t.bytes.starts_with(b"SIP/2.0 500")));
        assert!(refused, "its caller is told");
        assert_eq!(gateway.calls[&ids[0]].call.state, State::Over);
        assert_eq!(gateway.calls[&ids[1]].call.state, State::Opening);
        gateway.with_call(now, ids[0], &mut out, |_, _| panic!("again"));
        assert!(!gateway.calls.contains_key(&ids[0]), "a second one is the end of it");
        assert!(gateway.calls.contains_key(&ids[1]));
    }
}
