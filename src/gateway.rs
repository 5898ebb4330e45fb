//! The core: transactions, registrar and calls as one machine in virtual time.
//!
//! `handle(now, input, out)` and `next_timeout()`; no clock, socket, file or random source of its
//! own.

pub(crate) mod admission;
mod call_table;
mod challenges;
mod cluster;
pub mod credential;
mod dialog_owner;
mod dispatch;
mod edge_proxy;
mod farewells;
mod flows;
mod growth;
mod invite;
mod joined;
mod load_shedding;
mod location_queries;
pub mod logins;
mod named_hosts;
mod node_queries;
pub mod operate;
pub mod originate;
mod out_of_dialog;
pub mod overload;
mod record;
mod registering;
pub mod restore;
mod retransmissions;
mod succession;
mod takeover;
mod texts;
mod time_jumps;
pub mod token;
mod trunks;
mod turn;
mod unproved;
mod used_tokens;

use crate::call::context::{NodeIdentity, Seeker, Services};
use crate::call::{Call, CallContext, CallId, EndReason, HangupBy, Output};
use crate::cluster::Cluster;
use crate::cluster::store::{LocatedUsers, StoreAnswer};
use crate::config::Config;
use crate::dialplan::{Considered, Route};
use crate::errors::Code;
use crate::event::Event;
pub use crate::flow::FlowKind;
use crate::flow::Transport;
use crate::media::SessionEvent;
use crate::pace::Pace;
use crate::recorder::diagnosis::diagnose;
use crate::recorder::{Recorder, TraceEvent};
use crate::resolver::{DnsAnswer, DnsQuery};
use crate::sip::digest::{Algorithm, Authenticator, Secret};
use crate::sip::message::Message;
use crate::sip::salvage::Salvaged;
use crate::sip::status::Refusal;
use crate::sip::transaction::{Flow, Hop};
use crate::timers::Timers;
use crate::worker::Notice;
use admission::Admission;
use call_table::CallTable;
use out_of_dialog::OutOfDialog;
use overload::Overload;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use record::recorded_input;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use turn::Turn;

/// What the world tells the core.
#[derive(Debug)]
#[allow(missing_docs, reason = "where from, and what")]
pub enum Input {
    FlowOpened {
        flow: Flow,
        kind: FlowKind,
        remote: SocketAddr,
    },
    FlowClosed {
        flow: Flow,
    },
    /// A browser said that the page behind a WebSocket is closed or reloaded (RFC 6455 §7.4.1:
    /// 1001).
    PageLeft {
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
        query: DnsQuery,
        answer: DnsAnswer,
    },
    /// A web application answered with steps, or did not.
    Routed {
        call: CallId,
        answer: Result<Box<Route>, String>,
    },
    /// The keys of tokens were read, or not.
    Keys(Result<Arc<token::TokenKeys>, String>),
    /// A web application said who a user is, that it knows none, or nothing.
    Login {
        name: String,
        answer: Result<Option<Box<logins::Answered>>, String>,
    },
    /// The store of the cluster answered.
    Store(StoreAnswer),
    /// The store said at which nodes users are, or nothing.
    Located {
        seeker: Seeker,
        ask: u32,
        answer: LocatedUsers,
    },
    /// The public addresses as they were found; they count if none are configured.
    PublicAddresses {
        found: Vec<IpAddr>,
        why: &'static str,
    },
    /// No new calls from now on.
    Drain,
    /// End every call with BYE.
    HangUpAll,
    Operate(operate::OperatorCommand),
    /// A call nobody dialled, found fit to begin.
    Originate(Box<originate::PlannedCall>),
    /// Time has passed.
    Tick,
}

/// A WebSocket that has not proved who it is after this long is closed.
const FIRST_AUTHENTICATION: Duration = Duration::from_secs(30);

/// The core of a node.
pub struct Gateway {
    config: Arc<Config>,
    services: Services,
    calls: CallTable,
    admission: Admission,
    out_of_dialog: OutOfDialog,
    texts: texts::Texts,
    location_queries: location_queries::LocationQueries,
    node_queries: node_queries::NodeQueries,
    retransmissions: retransmissions::BegunRequests,
    named_hosts: named_hosts::NamedHosts,
    logins: logins::Logins,
    used_tokens: used_tokens::UsedTokens,
    /// What credentials for test calls are made of.
    trunk_test_secret: Secret,
    /// Calls of the whole node.
    pace: Pace,
    unproved: Timers<Flow>,
    overload: Overload,
    awaited: Option<(IpAddr, Instant)>,
    proved: Option<IpAddr>,
    draining: bool,
    /// New calls are refused for a moment: another process is about to take over.
    upgrading: bool,
    /// What waits until it is known whether another node has our calls.
    held: succession::HeldOutputs,
    /// What workers last learned about whether another node may have their sessions, and when.
    vouched: (Option<Instant>, Option<Instant>),
    dropped: u64,
    refused: u64,
    /// What is remembered of calls.
    pub recorder: Recorder,
    /// Routes that were looked at in this turn, for the recorder.
    routed: Vec<(CallId, Vec<Considered>)>,
}

impl Gateway {
    /// A core for `config`; `seed` is all the chance it will ever have.
    pub fn new(
        now: Instant,
        config: Arc<Config>,
        identity: NodeIdentity,
        seed: [u8; 32],
    ) -> Gateway {
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
        let overload = Overload::new(now, identity.workers);
        let services = Services::new(now, &config, identity, random);
        Gateway {
            services,
            calls: CallTable::default(),
            admission: Admission::new(now, authenticator),
            out_of_dialog: OutOfDialog::default(),
            texts: texts::Texts::default(),
            location_queries: location_queries::LocationQueries::default(),
            node_queries: node_queries::NodeQueries::default(),
            retransmissions: retransmissions::BegunRequests::default(),
            named_hosts: named_hosts::NamedHosts::default(),
            logins: logins::Logins::new(now, &config),
            used_tokens: used_tokens::UsedTokens::default(),
            trunk_test_secret: Secret::new(
                trunk_test_secret.iter().map(|b| format!("{b:02x}")).collect::<String>(),
            ),
            pace: Pace::default(),
            unproved: Timers::default(),
            overload,
            awaited: None,
            proved: None,
            draining: false,
            upgrading: false,
            held: succession::HeldOutputs::new(now),
            vouched: (None, None),
            dropped: 0,
            refused: 0,
            recorder: Recorder::new(config.recorder),
            routed: Vec::new(),
            config,
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        let turn = &mut Turn::new(now, out);

        self.overload.input(now);
        let (before, received) = (turn.out.len(), recorded_input(&input));
        self.fire(turn);
        let from = match &input {
            Input::Received { remote, .. } | Input::Unreadable { remote, .. } => Some(*remote),
            _ => None,
        };
        self.guarded(turn, from, |gateway, turn| gateway.take(turn, input));
        self.follow_up(turn);
        self.cluster_turn(turn);
        self.sweep(turn.out);
        self.hold_back(turn.now, before, turn.out);
        self.watch_flows(turn.out);
        self.record_turn(turn.now, received, &turn.out[before.min(turn.out.len())..]);
    }

    /// Does what an input asks for. A bug in it costs this input, which may come again and again
    /// from outside, and not the node.
    fn guarded(
        &mut self,
        turn: &mut Turn<'_>,
        from: Option<SocketAddr>,
        work: impl FnOnce(&mut Gateway, &mut Turn<'_>),
    ) {
        if catch_unwind(AssertUnwindSafe(|| work(self, turn))).is_err() {
            turn.push(Output::Event(Event::InputPanicked { from }));
        }
    }

    fn take(&mut self, turn: &mut Turn<'_>, input: Input) {
        match input {
            Input::FlowOpened { flow, kind, remote } => self.flow_opened(turn, flow, kind, remote),
            Input::FlowClosed { flow } => self.flow_closed(turn, flow),
            Input::PageLeft { flow } => self.page_left(flow),
            Input::Received { hop, remote, message } => self.received(turn, hop, remote, message),
            Input::Unreadable { remote, rest, why } => {
                self.unreadable(remote, &rest, &why, turn.out)
            }
            Input::Unreachable { hop, code, why } => self.unreachable(turn, hop, code, why),
            Input::Media { session, notice } => self.media(turn, CallId(session), notice),
            Input::Dns { query, answer } => self.dns_answered(turn, query, answer),
            Input::Routed { call, answer } => {
                self.with_call(turn, call, |call, cx| call.on_route(cx, answer));
            }
            Input::Keys(answer) => self.keys_answered(turn, answer),
            Input::Login { name, answer } => self.login_answered(turn, name, answer),
            Input::Store(answer) => self.store_answered(turn, answer),
            Input::Located { seeker: Seeker::Call(call), ask, answer } => {
                self.with_call(turn, call, |call, cx| call.located(cx, ask, &answer));
            }
            Input::Located { seeker: Seeker::LostBrowsers(call), answer, .. } => {
                self.with_call(turn, call, |call, cx| call.found_elsewhere(cx, &answer));
            }
            Input::Located { seeker: Seeker::OutOfDialog, ask, answer } => {
                self.found_out_of_dialog(turn, ask, &answer)
            }
            Input::PublicAddresses { found, why } => self.public_addresses(found, why, turn.out),
            Input::Drain => {
                self.draining = true;
                turn.push(Output::Event(Event::Draining { calls: self.gauges().calls }));
            }
            Input::HangUpAll => {
                for id in self.calls.iter().map(|call| call.id()).collect::<Vec<_>>() {
                    let why = Refusal::new(503, "the gateway is shutting down").retry_after(5);
                    self.with_call(turn, id, |call, cx| {
                        call.finish(cx, EndReason::refused(HangupBy::Us, why))
                    });
                }
            }
            Input::Operate(command) => self.operate(turn, command),
            Input::Originate(plan) => self.begin_call(turn, *plan),
            Input::Tick => {}
        }
    }

    fn fire(&mut self, turn: &mut Turn<'_>) {
        let (mut sends, mut events) = (Vec::new(), Vec::new());
        self.services.transactions.fire(turn.now, &mut sends, &mut events);
        for send in &sends {
            self.services.transactions.repeated
                [Transport::of(send.hop, &self.services.flows) as usize] += 1;
        }
        turn.out.extend(sends.into_iter().map(Output::Send));
        self.dispatch(turn, events);
        while let Some(flow) = self.unproved.pop(turn.now) {
            if self.services.flows.get(&flow).is_some_and(|f| f.user.is_none()) {
                turn.push(Output::CloseFlow(flow));
            }
        }
        self.trunks_due(turn);
        self.logins_due(turn);
        self.used_tokens_due(turn);
        self.out_of_dialog_due(turn);
        self.location_queries_due(turn);
        self.node_queries_due(turn);
        self.begun_due(turn);
        self.named_hosts_due(turn);
        self.services.owed_goodbyes.expire(turn.now);
        for user in self.services.registrar.due(turn.now) {
            self.registration_changed(turn, &user);
            turn.push(Output::Event(Event::Unregistered {
                user,
                why: crate::event::UnregisterReason::Expired,
            }));
        }
        while let Some((id, timer)) = self.services.timers.pop(turn.now) {
            self.recorder.add(turn.now, id, TraceEvent::Timer(timer));
            self.with_call(turn, id, |call, cx| call.fire(cx, timer));
        }
    }

    /// The earliest moment [`handle`](Self::handle) must be called again.
    pub fn next_timeout(&mut self) -> Option<Instant> {
        let own = [
            self.services.transactions.next_timeout(),
            self.services.timers.next_timeout(),
            self.unproved.next_timeout(),
        ];
        own.into_iter()
            .chain([
                self.services.trunks.next_timeout(),
                self.out_of_dialog.next_timeout(),
                self.location_queries.next_timeout(),
                self.node_queries.next_timeout(),
                self.retransmissions.next_timeout(),
                self.named_hosts.next_timeout(),
                self.logins.next_timeout(),
                self.used_tokens.next_timeout(),
                self.services.registrar.next_timeout(),
                self.services.owed_goodbyes.next_timeout(),
                self.services.cluster.as_ref().and_then(Cluster::next_timeout),
            ])
            .flatten()
            .min()
    }

    /// What a call works with, for what the gateway itself sends.
    fn context<'a>(&'a mut self, turn: &'a mut Turn<'_>) -> CallContext<'a> {
        CallContext::new(turn.now, &self.config, &mut self.services, turn.out)
    }

    /// Runs `work` on a call with the node's parts. A bug in it costs this call, not the
    /// node.
    fn with_call<R>(
        &mut self,
        turn: &mut Turn<'_>,
        id: CallId,
        work: impl FnOnce(&mut Call, &mut CallContext<'_>) -> R,
    ) -> Option<R> {
        let live = self.calls.touch(id)?;
        let mut cx = CallContext::new(turn.now, &self.config, &mut self.services, turn.out);
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut live.call, &mut cx)));
        turn.followups.extend(cx.into_followups());
        let Ok(result) = result else {
            self.lose(turn, id);
            return None;
        };
        self.calls.recount(id, &mut self.services);
        Some(result)
    }

    /// Ends a call whose handling panicked: properly if that still works, else by forgetting it.
    fn lose(&mut self, turn: &mut Turn<'_>, id: CallId) {
        turn.push(Output::Event(Event::CallPanicked { call: id }));
        let Some(live) = self.calls.touch(id) else { return };
        if std::mem::replace(&mut live.lost, true) {
            turn.push(Output::Media {
                worker: live.call.worker(),
                command: crate::worker::WorkerCommand::Close { session: id.0 },
            });
            self.calls.remove(id, &mut self.services);
            let unix = self.services.unix(turn.now);
            self.services.brakes.fraud.ended(id, turn.now, unix);
            return;
        }
        let why = Refusal::new(500, "a bug in the gateway ended this call");
        self.with_call(turn, id, |call, cx| call.finish(cx, EndReason::refused(HangupBy::Us, why)));
    }

    fn media(&mut self, turn: &mut Turn<'_>, id: CallId, notice: Notice) {
        if let Notice::Closed { statistics } = notice {
            if let Some(live) = self.calls.touch(id) {
                statistics.into_iter().for_each(|(end, s)| live.call.cdr_mut().end_closed(end, s));
                live.media_closed = true;
            }
            return;
        }
        if matches!(notice, Notice::Panicked) {
            turn.push(Output::Event(Event::MediaPanicked { call: id }));
        }
        // Figures come again and again, and are kept with the media.
        let figures = matches!(notice, Notice::Media(SessionEvent::Quality { .. }));
        let unchanged = figures && !self.calls.is_changed(id);
        self.with_call(turn, id, |call, cx| call.media(cx, notice));
        if unchanged {
            self.calls.unchanged(id);
        }
    }

    /// Records calls that have ended, and forgets them once no transaction of theirs can bring
    /// anything more.
    fn sweep(&mut self, out: &mut Vec<Output>) {
        // It is sent when its browser is back.
        out.retain(|o| !matches!(o, Output::Send(send) if send.hop == Hop::Suspended));
        let answered = |o: &Output| match o {
            Output::Event(Event::CallAnswered { call, .. }) => Some(*call),
            _ => None,
        };
        for id in out.iter().filter_map(answered) {
            let at = self.calls.get(id).and_then(|call| call.cdr().answered);
            at.into_iter().for_each(|at| self.services.brakes.fraud.answered(id, at));
        }
        for mut cdr in self.calls.sweep(&mut self.services) {
            if let Some(end) = cdr.end {
                let unix = self.services.unix(end);
                self.services.brakes.fraud.ended(cdr.call, end, unix);
            }
            cdr.verdict = Some(diagnose(&cdr));
            out.push(Output::Event(Event::CallEnded { cdr: Arc::new(cdr) }));
        }
    }

    /// What is alive, for `/readyz`, drains and tests.
    pub fn gauges(&self) -> Gauges {
        let (calls, ending) = self.calls.counts();
        Gauges {
            calls,
            ending,
            transactions: self.services.transactions.len(),
            timers: self.services.timers.len(),
            dialogs: self.services.dialogs.len(),
            bindings: self.services.registrar.len(),
            flows: self.services.flows.len(),
            indexed: self.calls.indexed()
                + self.services.transaction_users.len()
                + self.services.own_call_ids.len()
                + self.services.owed_goodbyes.len()
                + self.texts.len()
                + self.location_queries.len()
                + self.node_queries.len()
                + self.used_tokens.open()
                + self.named_hosts.len()
                + self.services.brakes.fraud.running(),
            pending_queries: self.services.pending_queries.len(),
            subscriptions: self.out_of_dialog.subscriptions(),
            remembered: self.admission.remembered() + self.logins.remembered(),
            dropped: self.dropped,
            repeated: self.services.transactions.repeated,
            draining: self.draining,
            calls_left: self.calls_left(),
            overloaded: self.overloaded(),
        }
    }

    /// Calls and transactions as text.
    pub fn snapshot(&self) -> Vec<String> {
        self.calls
            .iter()
            .map(ToString::to_string)
            .chain(self.services.transactions.snapshot())
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
    /// Open SIP transactions.
    pub transactions: usize,
    /// Running timers.
    pub timers: usize,
    /// Dialogs of all calls.
    pub dialogs: usize,
    /// Registered contacts.
    pub bindings: usize,
    /// Open connections.
    pub flows: usize,
    /// Entries of the tables that lead to calls.
    pub indexed: usize,
    /// Questions to DNS that are open.
    pub pending_queries: usize,
    /// To registration, message and dialog events.
    pub subscriptions: usize,
    /// Sources and users about whom something is known: guesses, answers, what they have spent.
    pub remembered: usize,
    /// Requests of strangers without an answer, since the start.
    pub dropped: u64,
    /// Messages sent once more because nothing came, by transport.
    pub repeated: [u64; 4],
    /// No new calls are taken.
    pub draining: bool,
    /// Calls that would be taken now.
    pub calls_left: usize,
    /// Why none would, if it is for overload.
    pub overloaded: Option<overload::Overloaded>,
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
mod tests;
