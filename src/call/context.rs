//! The desk a call works at: what it may use of the node while it handles one input.

use super::media_policy::MediaPolicy;
pub use super::services::{NodeIdentity, Services};
use super::{CallId, EndReason};
use crate::cdr::Party;
use crate::cluster::Cluster;
use crate::cluster::store::StoreCommand;
use crate::cluster::succession::TakenCalls;
use crate::cluster::work::Moment;
use crate::config::{Config, JwtSettings, User};
use crate::event::Event;
use crate::flow::{FlowKind, account};
use crate::hex::token;
use crate::media::LegId;
use crate::resolver::{Destination, Located};
use crate::sip::build::MessageWriter;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::{Method, Refusal};
use crate::sip::transaction::{ClientId, Flow, Hop, ServerId, Transmit};
use crate::sip::uri::UriTransport;
use crate::worker::WorkerCommand;
use bytes::Bytes;
use rand_core::RngCore;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A timer of one call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "named for what is due")]
pub enum CallTimer {
    /// The current step rings or dials for too long.
    Ring,
    /// A trunk gave no sign of life.
    Silent(u16),
    MaxDuration,
    /// A 2xx waits for its ACK.
    Ack(LegId),
    /// A leg's WebSocket is gone.
    FlowGrace(LegId),
    /// A browser is silent, and is to be asked for an ICE restart.
    Path(LegId),
    /// A trunk that fell silent was asked whether it lives, and has not answered.
    Probe(LegId),
    /// A session is to be refreshed, or its peer forgot to (RFC 4028 §10).
    Session(LegId),
    /// Our re-INVITE met the peer's: try again (RFC 3261 §14.1).
    Glare(LegId),
    /// A reliable provisional response waits for its PRACK (RFC 3262 §3).
    Reliable,
    /// The transferor has not hung up.
    Transferred,
    /// The store has not said where users are.
    Locate,
    /// The store is to be asked where browsers of a lost node came back.
    Where,
    /// The call it is joined with was not taken over yet.
    OtherHalf,
    /// Whom the process before rang is waited for no longer.
    Again,
}

impl CallTimer {
    /// Whether it ends something because a peer was not heard. [`Session`](Self::Session) may, too:
    /// that is its leg's to say.
    pub(crate) fn judges(self) -> bool {
        match self {
            CallTimer::Ring
            | CallTimer::Silent(_)
            | CallTimer::FlowGrace(_)
            | CallTimer::Probe(_)
            | CallTimer::Transferred
            | CallTimer::Again
            | CallTimer::Locate => true,
            // A limit is one, and what is owed to a peer has waited for long enough.
            CallTimer::MaxDuration
            | CallTimer::Ack(_)
            | CallTimer::Path(_)
            | CallTimer::Session(_)
            | CallTimer::Glare(_)
            | CallTimer::Reliable
            | CallTimer::Where
            | CallTimer::OtherHalf => false,
        }
    }

    /// Those that do not belong to one leg.
    pub(crate) const OF_CALL: [CallTimer; 8] = [
        CallTimer::Ring,
        CallTimer::MaxDuration,
        CallTimer::Reliable,
        CallTimer::Transferred,
        CallTimer::Locate,
        CallTimer::Where,
        CallTimer::OtherHalf,
        CallTimer::Again,
    ];
}

/// What is asked of the world and answered later.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "what is asked, for whom")]
pub enum Question {
    /// A name's records.
    Dns(crate::resolver::DnsQuery),
    /// The keys of tokens.
    Keys(JwtSettings),
    /// A user's account, from a web application.
    Login { id: u64, name: String, hook: crate::dialplan::Webhook, body: String },
    /// A web application's route for a call, within this time.
    Route { call: CallId, hook: crate::dialplan::Webhook, body: String, limit: Duration },
    /// The nodes at which users are registered, of the store, within this time.
    Locate { seeker: Seeker, ask: u32, users: Vec<String>, limit: Duration },
}

/// What needs to know the nodes of a user.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Seeker {
    /// A call that rings them.
    Call(CallId),
    /// A call of a lost node, whose browsers come back somewhere.
    LostBrowsers(CallId),
    /// What happens outside calls: texts, and who watches registrations.
    OutOfDialog,
}

/// What a request of ours within a dialog was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the methods")]
pub enum InDialogRequest {
    /// A re-INVITE or UPDATE that keeps the session alive.
    Refresh,
    /// Whether the peer still knows the dialog.
    Probe,
    Prack,
    Info,
    Notify,
    /// A transfer handed on to the peer.
    Refer,
}

/// The transaction user of a request of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "who it is, by name or number")]
pub enum TransactionUser {
    /// The INVITE of a branch.
    Branch(CallId, u16),
    /// A request within a leg's dialog.
    Leg(CallId, LegId, InDialogRequest),
    /// A trunk's REGISTER with the registrar of this number, or OPTIONS.
    Trunk { name: String, registrar: Option<usize>, hop: Hop },
    /// A text passed on outside a call, to this trunk or to a user.
    Relay { number: u64, trunk: Option<String> },
    /// The BYE of a leg on a trunk that challenged its INVITE for these realms.
    Goodbye { trunk: String, realms: Vec<String> },
    /// A request that was sent again with credentials.
    Challenged(Box<super::challenge::Challenged>),
    /// A NOTIFY of a subscription.
    Subscription(u64),
}

/// Keeps the leg opposite to the dropped one in each of two calls, and joins them.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    /// The call that asked for it.
    pub here: CallId,
    /// Its leg that is dropped.
    pub drop_here: Option<LegId>,
    /// The other call.
    pub there: CallId,
    /// The leg of the other call that is dropped.
    pub drop_there: LegId,
    /// The dialog that named the other call.
    pub replaces: super::transfer_state::Replaces,
}

/// What a call leaves to be done, once its turn is over, by whoever knows all calls.
#[must_use]
#[derive(Clone, Debug)]
pub(crate) enum Followup {
    /// It is over: it can be forgotten once its media has closed.
    Over(CallId),
    /// It is to be joined with another.
    Join(Join),
    /// It was half of a joined call: this other half ends with it.
    EndOther { call: CallId, of: CallId, why: EndReason },
    /// Somebody has answered it, whom this other half was handed over to while it rang.
    OtherAnswered { call: CallId, of: CallId },
    /// Its inner end is open at this port: the other half sends there.
    ConnectOther { call: CallId, port: u16 },
}

/// What waits for DNS.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "who waits, by name")]
pub enum DnsWaiter {
    Branch(CallId, u16),
    /// A probe or registration of a trunk.
    Trunk(crate::trunk::Due),
    /// Messages whose descriptions name a host.
    Description,
}

/// What the core asks of the shells.
#[derive(Debug)]
#[allow(missing_docs, reason = "named for what is done")]
pub enum Output {
    Send(Transmit),
    CloseFlow(Flow),
    /// A leg goes by this connection of a browser's, or none any more: how soon it must be noticed
    /// that it is dead.
    FlowInCall {
        flow: Flow,
        in_call: bool,
    },
    Media {
        worker: usize,
        command: WorkerCommand,
    },
    Ask(Question),
    Event(Event),
    /// Something for the store of the cluster.
    Store(StoreCommand),
    /// Calls of a node that is gone are this one's: they are to be
    /// [restored](crate::gateway::Gateway::restore).
    TakeUp(Box<TakenCalls>),
    /// The connection of this hop answers nothing: close it, the next request opens another.
    Disconnect(Hop),
}

/// What a call works with while it handles one input.
#[allow(missing_docs, reason = "what it is made of")]
pub struct CallContext<'a> {
    /// The time of this turn.
    pub now: Instant,
    /// Shared and read only, so that what is read from it outlives a change of the services.
    pub config: &'a Config,
    /// What all calls share.
    pub services: &'a mut Services,
    /// Where outputs go.
    pub out: &'a mut Vec<Output>,
    followups: Vec<Followup>,
}

impl<'a> CallContext<'a> {
    /// The context of a turn at `now`.
    pub(crate) fn new(
        now: Instant,
        config: &'a Config,
        services: &'a mut Services,
        out: &'a mut Vec<Output>,
    ) -> CallContext<'a> {
        CallContext { now, config, services, out, followups: Vec::new() }
    }

    /// What is left to be done, in this order, now that the turn is over.
    pub(crate) fn into_followups(self) -> Vec<Followup> {
        self.followups
    }
}

impl CallContext<'_> {
    /// Leaves something to be done once the turn is over.
    pub(super) fn follow_up(&mut self, followup: Followup) {
        self.followups.push(followup);
    }

    /// The account of a user who is reached by `hop`: that of its flow, or the configured one.
    pub(crate) fn account(&self, party: &Party, hop: Hop) -> Option<Arc<User>> {
        let Party::User { name, .. } = party else { return None };
        let flow = if let Hop::Flow(flow) = hop { Some(flow) } else { None };
        account(&self.services.flows, self.config, name, flow)
    }

    /// The time by both clocks.
    pub(crate) fn moment(&self) -> Moment {
        Moment { now: self.now, unix: self.unix() }
    }

    /// The wall clock, seconds since 1970.
    pub(crate) fn unix(&self) -> u64 {
        self.services.unix(self.now)
    }

    /// 64 random bits.
    pub(crate) fn random_u64(&mut self) -> u64 {
        self.services.random.next_u64()
    }

    /// A token of 128 random bits, for tags, branches and Call-IDs.
    pub(crate) fn token(&mut self) -> String {
        token::<16>(&mut self.services.random)
    }

    /// A token that other nodes know to be of this one.
    pub(crate) fn marked_token(&mut self) -> String {
        let mut token = self.token();
        self.services.cluster.iter().for_each(|cluster| token.push_str(cluster.mark()));
        token
    }

    /// Arms a timer of a call.
    pub(crate) fn arm(&mut self, call: CallId, timer: CallTimer, after: Duration) {
        self.services.timers.set((call, timer), self.now + after);
    }

    /// Disarms a timer of a call.
    pub(crate) fn disarm(&mut self, call: CallId, timer: CallTimer) {
        self.services.timers.clear(&(call, timer));
    }

    /// A duration between `from` and `to`, in steps of 10 ms.
    pub(crate) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let steps = (to.saturating_sub(from).as_millis() as u64 / 10).max(1);
        from + Duration::from_millis(self.services.random.next_u64() % steps * 10)
    }

    /// Commands a media worker.
    pub(crate) fn media(&mut self, worker: usize, command: WorkerCommand) {
        self.out.push(Output::Media { worker, command });
    }

    /// Tells the log and the metrics.
    pub(crate) fn note(&mut self, note: Event) {
        self.out.push(Output::Event(note));
    }

    /// Responds through a server transaction.
    pub(crate) fn respond(&mut self, server: ServerId, status: u16, bytes: Bytes) {
        let mut sends = Vec::new();
        self.services.transactions.respond(self.now, server, status, bytes, &mut sends);
        self.out.extend(sends.into_iter().map(Output::Send));
    }

    /// Refuses a request within a dialog.
    pub(crate) fn refuse(&mut self, server: ServerId, request: &Message, why: &Refusal) {
        let response = MessageWriter::refusal(request, why, "", &self.config.domain);
        self.respond(server, why.status, response.end());
    }

    /// As [`refuse`](Self::refuse), with what its status asks for besides (RFC 3261 §21.4, RFC 4028
    /// §6).
    pub(crate) fn refuse_with(&mut self, server: ServerId, request: &Message, why: &Refusal) {
        // RFC 3261 §8.2.6.2: a request without a To tag gets one.
        let tagged = request.to().is_some_and(|to| to.tag().is_some());
        let tag = if tagged { String::new() } else { self.marked_token() };
        let mut response = MessageWriter::refusal(request, why, &tag, &self.config.domain);
        match why.status {
            415 => response.put_readable(),
            422 => response.put(HeaderName::MinSe, crate::sip::session_timer::MIN_SE),
            _ => {}
        }
        self.respond(server, why.status, response.end());
    }

    /// Starts a client transaction.
    pub(crate) fn request(
        &mut self,
        method: Method,
        branch: &str,
        hop: Hop,
        bytes: Bytes,
    ) -> ClientId {
        let mut sends = Vec::new();
        let id =
            self.services.transactions.request(self.now, method, branch, hop, bytes, &mut sends);
        self.out.extend(sends.into_iter().map(Output::Send));
        self.services.farewells.sent(id, method, branch, hop);
        id
    }

    /// Sends outside a transaction (the ACK for a 2xx).
    pub(crate) fn send(&mut self, hop: Hop, bytes: Bytes) {
        self.out.push(Output::Send(Transmit { hop, bytes }));
    }

    /// Sends the last response to a request once more.
    pub(crate) fn answer_again(&mut self, server: ServerId) {
        let mut sends = Vec::new();
        self.services.transactions.answer_again(self.now, server, &mut sends);
        self.out.extend(sends.into_iter().map(Output::Send));
    }

    /// Sends a request whose answer has not come once more, by another hop from now on.
    pub(crate) fn ask_again(&mut self, client: ClientId, hop: Hop) {
        if let Some((_, bytes)) = self.services.transactions.sent(client) {
            self.services.transactions.move_client(client, hop);
            self.send(hop, bytes);
        }
    }

    /// Closes a connection that is of no use any more.
    pub(crate) fn close_flow(&mut self, flow: Flow) {
        self.out.push(Output::CloseFlow(flow));
    }

    /// A new branch and the Via value that carries it, for `hop`.
    pub(crate) fn via(&mut self, hop: Hop) -> (String, String) {
        let branch = ["z9hG4bK", &self.marked_token()].concat();
        let domain = &self.config.domain;
        let via = match self.kind_of(hop) {
            HopKind::WebSocket => format!(
                "SIP/2.0/{} {domain};branch={branch}",
                if self.services.identity.web_secure { "WSS" } else { "WS" }
            ),
            HopKind::Node(at) => format!("SIP/2.0/TLS {at};branch={branch}"),
            HopKind::Server(UriTransport::Udp, to) => [
                "SIP/2.0/UDP ",
                &self.sent_by(hop, to, UriTransport::Udp).to_string(),
                ";rport;branch=",
                &branch,
            ]
            .concat(),
            // RFC 5923 §5: the peer may send its own requests back over our connection.
            HopKind::Server(transport, to) => {
                let name = if transport == UriTransport::Tcp { "TCP" } else { "TLS" };
                format!(
                    "SIP/2.0/{name} {};rport;alias;branch={branch}",
                    self.sent_by(hop, to, transport)
                )
            }
        };
        (branch, via)
    }

    fn kind_of(&self, hop: Hop) -> HopKind {
        match hop {
            Hop::Udp(to) | Hop::UdpFrom(to, _) => HopKind::Server(UriTransport::Udp, to),
            Hop::Tcp(to) => HopKind::Server(UriTransport::Tcp, to),
            Hop::Tls(to, _) => HopKind::Server(UriTransport::Tls, to),
            Hop::Node(_) => HopKind::Node(self.advertised()),
            Hop::Suspended => HopKind::WebSocket,
            Hop::Flow(flow) => match self.services.flows.get(&flow) {
                Some(f) if f.kind == FlowKind::Tcp => HopKind::Server(UriTransport::Tcp, f.remote),
                Some(f) if f.kind == FlowKind::Tls => HopKind::Server(UriTransport::Tls, f.remote),
                _ => HopKind::WebSocket,
            },
        }
    }

    /// Where the other nodes of the cluster reach this one.
    fn advertised(&self) -> SocketAddr {
        let own = self.services.cluster.as_ref().map(Cluster::advertise);
        own.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Which media addresses peers may name.
    pub(super) fn media_policy(&self) -> MediaPolicy<'_> {
        MediaPolicy { config: self.config, reach: &self.services.identity.reach }
    }

    /// The address of a hop's peer, flows included.
    pub(crate) fn remote_ip(&self, hop: Hop) -> Option<IpAddr> {
        match hop {
            Hop::Flow(flow) => self.services.flows.get(&flow).map(|f| f.remote.ip()),
            _ => hop.address().map(|a| a.ip()),
        }
    }

    /// The connection to use instead of opening one, if this trunk offered it (RFC 5923). One over
    /// TLS counts only if its certificate was checked too (§9.3): otherwise we verify by
    /// connecting.
    pub(crate) fn alias_of(&self, trunk: &str, hop: Hop) -> Hop {
        let (to, kind) = match hop {
            Hop::Tcp(to) => (to, FlowKind::Tcp),
            Hop::Tls(to, _) if self.config.sip.client_ca.is_some() => (to, FlowKind::Tls),
            _ => return hop,
        };
        let fits = |f: &Flow| self.services.flows.get(f).is_some_and(|s| s.kind == kind);
        self.services.aliases.get(&(trunk.to_owned(), to)).filter(fits).map_or(hop, Hop::Flow)
    }

    /// Looks a target up as far as the cache goes; what is missing is asked for, and `waiter` hears
    /// of it.
    pub(crate) fn locate(&mut self, target: &Destination, waiter: DnsWaiter) -> Located {
        let random = &mut self.services.random;
        let found = self.services.locator.locate(self.now, target, &mut || random.next_u64());
        if let Located::Waiting(query) = &found {
            let waiting = self.services.pending_queries.entry(query.clone()).or_default();
            if waiting.is_empty() {
                self.out.push(Output::Ask(Question::Dns(query.clone())));
            }
            if !waiting.contains(&waiter) {
                waiting.push(waiter);
            }
        }
        found
    }

    fn sent_by(&self, hop: Hop, to: SocketAddr, transport: UriTransport) -> SocketAddr {
        let port = match transport {
            UriTransport::Udp => self.services.identity.udp_port,
            UriTransport::Tcp => self.services.identity.tcp_port,
            UriTransport::Tls => self.services.identity.tls_port,
        };
        SocketAddr::new(self.local_ip(hop, to.ip()), port)
    }

    /// Our Contact towards `hop`; `user` names the call.
    pub(crate) fn contact(&self, hop: Hop, user: &str) -> String {
        match self.kind_of(hop) {
            HopKind::WebSocket => format!("<sip:{user}@{};transport=ws>", self.config.domain),
            HopKind::Node(at) => format!("<sip:{user}@{at};transport=tls>"),
            HopKind::Server(UriTransport::Udp, to) => {
                ["<sip:", user, "@", &self.sent_by(hop, to, UriTransport::Udp).to_string(), ">"]
                    .concat()
            }
            HopKind::Server(transport, to) => format!(
                "<sip:{user}@{};transport={}>",
                self.sent_by(hop, to, transport),
                transport.as_str()
            ),
        }
    }
}

/// What a hop is, for Via and Contact.
enum HopKind {
    WebSocket,
    Server(UriTransport, SocketAddr),
    /// Another node; where it reaches us.
    Node(SocketAddr),
}
