//! From a received message to the one who handles it: registrar, call, or a refusal.

use super::{FlowKind, Gateway};
use crate::call::CallId;
use crate::call::context::Output;
use crate::call::context::TransactionUser;
use crate::call::leg::Party;
use crate::errors::Code;
use crate::event::Event;
use crate::hex::token;
use crate::media::LegId;
use crate::registrar::MIN_EXPIRES;
use crate::sip::build::Writer;
use crate::sip::cause::reasons;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::salvage::salvage;
use crate::sip::status::{Method, Refusal, SUPPORTED, TRICKLE};
use crate::sip::transaction::{ClientId, Flow, Hop, ServerId, TransactionEvent, Transmit};
use std::net::SocketAddr;
use std::time::Instant;

/// Most connections remembered as offered.
const MAX_ALIASES: usize = 4_096;

/// Who sent a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Sender {
    User(String, Flow),
    Trunk(String),
}

impl Gateway {
    pub(super) fn received(
        &mut self,
        now: Instant,
        hop: Hop,
        remote: SocketAddr,
        message: Message,
        out: &mut Vec<Output>,
    ) {
        if let Hop::Flow(flow) = hop
            && !self.flows.contains_key(&flow)
        {
            return;
        }
        if !message.is_request() {
            if let Err(why) = message.check() {
                self.dropped += 1;
                if let Some(rest) = salvage(&message.to_bytes()) {
                    self.unreadable(remote, &rest, &why.to_string(), out);
                }
                return;
            }
        } else if let Some(why) = self.screen(now, hop, remote, &message, out) {
            if message.method() != Method::Ack {
                self.respond_stateless(hop, &message, &why, out);
            }
            return;
        }
        let (mut sends, mut events) = (Vec::new(), Vec::new());
        self.transactions.receive(now, hop, message, &mut sends, &mut events);
        out.extend(sends.into_iter().map(Output::Send));
        self.dispatch(now, events, out);
    }

    /// What may not even become a transaction: strangers get silence or a stateless answer.
    fn screen(
        &mut self,
        now: Instant,
        hop: Hop,
        remote: SocketAddr,
        message: &Message,
        out: &mut Vec<Output>,
    ) -> Option<Refusal> {
        let browser = matches!(hop, Hop::Flow(f) if self.flows.get(&f).is_some_and(|s| s.kind == FlowKind::WebSocket));
        let stranger =
            !browser && self.trunk_of(remote).is_none() && !self.is_peer_in_dialog(remote, message);
        if !browser && message.method() == Method::Register && self.accepts_strangers() {
            if let Err(e) = message.check() {
                return Some(Refusal::new(e.status, e.to_string()));
            }
            return if self.transactions.knows(message) {
                None
            } else {
                self.admit_trunk(now, hop, remote, message, out)
            };
        }
        if stranger {
            // A scanner learns nothing, not even that we are here.
            self.dropped += 1;
            out.push(Output::Event(Event::Dropped {
                why: "SIP from an address of no trunk",
                remote: Some(remote),
            }));
            return Some(Refusal::new(0, ""));
        }
        if let Err(e) = message.check() {
            return Some(Refusal::new(e.status, e.to_string()));
        }
        if self.transactions.knows(message)
            || matches!(message.method(), Method::Ack | Method::Cancel)
        {
            return None;
        }
        let in_dialog = message.to().is_some_and(|t| t.tag().is_some());
        if in_dialog {
            return None;
        }
        if !browser {
            if message.method() == Method::Options && message.header(HeaderName::Require).is_none()
            {
                // RFC 3261 §8.2.7: a probe is answered and forgotten; sent again, it is answered
                // again.
                let response = self.options_response(message);
                out.push(Output::Send(Transmit { hop, bytes: response.end() }));
                self.note_probe(hop, message);
                return Some(Refusal::new(0, ""));
            }
            return None;
        }
        let Hop::Flow(flow) = hop else { return None };
        self.admit(now, flow, remote, message, out)
    }

    /// A response without a transaction. Status 0 stands for silence.
    pub(super) fn respond_stateless(
        &mut self,
        hop: Hop,
        message: &Message,
        why: &Refusal,
        out: &mut Vec<Output>,
    ) {
        if why.status == 0 || message.via().is_none() {
            return;
        }
        let tag = token::<8>(&mut self.random);
        let response = Writer::refusal(message, why, &tag, &self.config.domain);
        out.push(Output::Send(Transmit { hop, bytes: response.end() }));
    }

    /// The trunk whose allow-list holds `remote`, or that registered from there.
    pub(super) fn trunk_of(&self, remote: SocketAddr) -> Option<String> {
        let ip = remote.ip().to_canonical();
        let listed = self
            .config
            .trunks
            .values()
            .find(|t| t.allow.iter().any(|n| n.contains(&ip)))
            .map(|t| t.name.as_str());
        listed.or_else(|| self.trunks.bound_from(remote)).map(str::to_owned)
    }

    /// The address at the other end of a hop.
    pub(super) fn remote_of(&self, hop: Hop) -> Option<SocketAddr> {
        match hop {
            Hop::Flow(flow) => self.flows.get(&flow).map(|f| f.remote),
            _ => hop.address(),
        }
    }

    /// A trunk known by name only: its address counts while we have a dialog with it.
    fn is_peer_in_dialog(&self, remote: SocketAddr, message: &Message) -> bool {
        if !message.is_request() {
            return true;
        }
        let tag = message.to().and_then(|t| t.tag()).unwrap_or_default();
        self.dialogs.get(tag).is_some_and(|(id, end)| {
            self.calls.get(id).is_some_and(|l| {
                l.call.hop_of(*end).is_some_and(|h| same_source(h, Hop::Udp(remote), remote))
            })
        })
    }

    pub(super) fn dispatch(
        &mut self,
        now: Instant,
        events: Vec<TransactionEvent>,
        out: &mut Vec<Output>,
    ) {
        for event in events {
            match event {
                TransactionEvent::Request { id, hop, message, target } => {
                    self.request(now, id, hop, message, target, out)
                }
                TransactionEvent::Ack { message, hop } => self.ack(now, hop, &message, out),
                TransactionEvent::Response { id, message } => {
                    self.on_response(now, id, Some(&message), out)
                }
                TransactionEvent::Timeout { id } => self.on_response(now, id, None, out),
                TransactionEvent::Ended { id } => drop(self.transaction_users.remove(&id)),
                TransactionEvent::Stray { .. } => self.dropped += 1,
            }
        }
    }

    /// A response to a request of ours, or none in time: to whoever waits for it.
    fn on_response(
        &mut self,
        now: Instant,
        id: ClientId,
        message: Option<&Message>,
        out: &mut Vec<Output>,
    ) {
        let status = message.map_or(408, Message::status);
        match self.transaction_users.get(&id).cloned() {
            Some(TransactionUser::Branch(call, branch)) => {
                let trunk = self.calls.get(&call).and_then(|l| l.call.trunk_of_branch(branch));
                match message {
                    Some(message) => {
                        // A call that goes through says as much as a probe.
                        if let Some((name, _)) = trunk.filter(|_| status != 503 && status != 408) {
                            self.trunk_lives(now, &name, out);
                        }
                        self.with_call(now, call, out, |call, cx| {
                            call.response(cx, branch, message)
                        });
                    }
                    None => {
                        if let Some((name, hop)) = trunk {
                            self.unresponsive_connection(&name, hop, out);
                        }
                        self.with_call(now, call, out, |call, cx| call.branch_timeout(cx, branch));
                    }
                }
            }
            Some(TransactionUser::Leg(call, end, asked)) => drop(self.with_call(
                now,
                call,
                out,
                |call, cx| call.asked(cx, end, asked, id, message),
            )),
            Some(TransactionUser::Trunk { name, registrar, hop }) => {
                self.carrier_answered(now, &name, registrar, hop, message, out)
            }
            Some(TransactionUser::Relay(number)) => self.relayed(now, number, status, out),
            Some(TransactionUser::Subscription(number)) => {
                self.notify_answered(now, number, status, out)
            }
            None => {}
        }
    }

    pub(super) fn refuse(
        &mut self,
        now: Instant,
        id: ServerId,
        message: &Message,
        why: &Refusal,
        out: &mut Vec<Output>,
    ) {
        let tag = token::<16>(&mut self.random);
        let mut response = Writer::refusal(message, why, &tag, &self.config.domain);
        match why.status {
            420 => {
                let unknown: Vec<&str> =
                    message.values(HeaderName::Require).filter(|o| !understood(o)).collect();
                response.put(HeaderName::Unsupported, unknown.join(", "));
            }
            423 => response.put(HeaderName::MinExpires, MIN_EXPIRES),
            422 => response.put(HeaderName::MinSe, crate::sip::session_timer::MIN_SE),
            489 => response.put(HeaderName::Allowed, super::out_of_dialog::ALLOW_EVENTS),
            415 => response.put(HeaderName::Accept, "application/sdp"),
            _ => {}
        }
        self.respond(now, id, why.status, response, out);
    }

    pub(super) fn respond(
        &mut self,
        now: Instant,
        id: ServerId,
        status: u16,
        response: Writer,
        out: &mut Vec<Output>,
    ) {
        let mut sends = Vec::new();
        self.transactions.respond(now, id, status, response.end(), &mut sends);
        out.extend(sends.into_iter().map(Output::Send));
    }

    fn request(
        &mut self,
        now: Instant,
        id: ServerId,
        hop: Hop,
        message: Message,
        target: Option<ServerId>,
        out: &mut Vec<Output>,
    ) {
        if message.method() == Method::Cancel {
            return self.cancel(now, id, &message, target, out);
        }
        if let Some(why) = validate(&message) {
            return self.refuse(now, id, &message, &why, out);
        }
        if message.to().is_some_and(|t| t.tag().is_some()) {
            return self.in_dialog(now, id, hop, &message, out);
        }
        if message.method() == Method::Register && self.kind_of(hop) != Some(FlowKind::WebSocket) {
            let Some(remote) = self.remote_of(hop).filter(|_| self.accepts_strangers()) else {
                return self.refuse(
                    now,
                    id,
                    &message,
                    &Refusal::new(
                        405,
                        "no trunk registers here: accepts_registration = true allows it",
                    ),
                    out,
                );
            };
            return self.register_trunk(now, id, hop, remote, &message, out);
        }
        let Some(sender) = self.sender(hop) else {
            return self.refuse(now, id, &message, &Refusal::new(403, "unknown sender"), out);
        };
        if let Sender::Trunk(name) = &sender {
            self.note_alias(name, hop, &message);
        }
        match (message.method(), sender) {
            (Method::Register, Sender::User(user, flow)) => {
                self.register(now, id, &message, &user, flow, out)
            }
            (Method::Invite, sender) => self.invite(now, id, hop, message, sender, out),
            (_, sender) => self.outside(now, id, message, sender, out),
        }
    }

    fn note_probe(&mut self, hop: Hop, message: &Message) {
        if let Some(Sender::Trunk(name)) = self.sender(hop) {
            self.note_alias(&name, hop, message);
        }
    }

    fn kind_of(&self, hop: Hop) -> Option<FlowKind> {
        match hop {
            Hop::Flow(flow) => self.flows.get(&flow).map(|f| f.kind),
            _ => None,
        }
    }

    /// RFC 5923 §5: a trunk that puts `alias` into its Via listens at the address it names there,
    /// and lets us send over this connection what we would send there.
    fn note_alias(&mut self, trunk: &str, hop: Hop, message: &Message) {
        let Hop::Flow(flow) = hop else { return };
        let Some(state) = self.flows.get(&flow).filter(|s| s.kind != FlowKind::WebSocket) else {
            return;
        };
        let Some(via) = message.via().filter(|v| v.params.has("alias")) else { return };
        let port = via.port.unwrap_or(if state.kind == FlowKind::Tls { 5061 } else { 5060 });
        if self.aliases.len() < MAX_ALIASES {
            self.aliases.insert((trunk.to_owned(), SocketAddr::new(state.remote.ip(), port)), flow);
        }
    }

    fn sender(&self, hop: Hop) -> Option<Sender> {
        match hop {
            Hop::Flow(flow) => {
                let state = self.flows.get(&flow)?;
                match state.kind {
                    FlowKind::WebSocket => Some(Sender::User(state.user.clone()?, flow)),
                    FlowKind::Tcp | FlowKind::Tls => self.trunk_of(state.remote).map(Sender::Trunk),
                }
            }
            Hop::Udp(remote) | Hop::UdpFrom(remote, _) | Hop::Tcp(remote) | Hop::Tls(remote, _) => {
                self.trunk_of(remote).map(Sender::Trunk)
            }
        }
    }

    fn cancel(
        &mut self,
        now: Instant,
        id: ServerId,
        message: &Message,
        target: Option<ServerId>,
        out: &mut Vec<Output>,
    ) {
        let call = target.and_then(|t| self.servers.get(&t).copied());
        let Some(call) = call else {
            return self.refuse(
                now,
                id,
                message,
                &Refusal::new(481, "there is no INVITE to cancel"),
                out,
            );
        };
        // RFC 3261 §9.2: the 200 carries the same To tag as the INVITE's responses.
        let tag =
            self.calls.get(&call).map(|l| l.call.caller.local_tag.clone()).unwrap_or_default();
        self.respond(now, id, 200, Writer::response(message, 200, Some(&tag)), out);
        let said = reasons(message);
        // "Call completed elsewhere" and the like are the caller's to say (RFC 3326).
        let why = said.text.unwrap_or_else(|| "the caller hung up before the answer".into());
        let why = Refusal::new(487, why).q850(said.q850).code(Code::CANCELLED);
        self.with_call(now, call, out, |call, cx| call.cancelled(cx, why));
    }

    fn ack(&mut self, now: Instant, hop: Hop, message: &Message, out: &mut Vec<Output>) {
        if let Some((call, end)) = self.find_dialog(hop, message) {
            self.with_call(now, call, out, |call, cx| call.acknowledged(cx, end, message));
        }
    }

    /// The dialog a message belongs to, if it came the way that dialog's messages come.
    fn find_dialog(&self, hop: Hop, message: &Message) -> Option<(CallId, LegId)> {
        let tag = message.to()?.tag()?.to_owned();
        let (call, end) = *self.dialogs.get(&tag)?;
        let live = &self.calls.get(&call)?.call;
        let dialog = live.dialog_for(end, message)?;
        let remote = self.remote_of(hop)?;
        let same_trunk = match live.party_of(end) {
            Some(Party::Trunk(name)) => self.trunk_of(remote).as_deref() == Some(name.as_str()),
            _ => false,
        };
        (same_source(dialog.hop, hop, remote) || same_trunk).then_some((call, end))
    }

    fn in_dialog(
        &mut self,
        now: Instant,
        id: ServerId,
        hop: Hop,
        message: &Message,
        out: &mut Vec<Output>,
    ) {
        match self.find_dialog(hop, message) {
            Some((call, end)) => {
                self.with_call(now, call, out, |call, cx| call.request(cx, end, id, message));
            }
            None if self.resubscribe(now, id, hop, message, out) => {}
            None => self.refuse(now, id, message, &Refusal::new(481, "there is no such call"), out),
        }
    }
}

/// Extensions we understand when a peer requires them.
fn understood(option: &str) -> bool {
    SUPPORTED.split(", ").chain([TRICKLE]).any(|o| o.eq_ignore_ascii_case(option))
}

/// Refusals that need no state (RFC 3261 §8.2.1 to §8.2.3).
fn validate(message: &Message) -> Option<Refusal> {
    if message.method() == Method::Other {
        return Some(Refusal::new(405, format!("{} is not served here", message.method_token())));
    }
    let missing: Vec<&str> =
        message.values(HeaderName::Require).filter(|o| !understood(o)).collect();
    if !missing.is_empty() {
        return Some(Refusal::new(
            420,
            format!("{} is required but not spoken here", missing.join(", ")),
        ));
    }
    None
}

/// Whether a message on `hop` came from where `expected` goes.
fn same_source(expected: Hop, hop: Hop, remote: SocketAddr) -> bool {
    match expected {
        Hop::Flow(_) => expected == hop,
        Hop::Udp(a) | Hop::UdpFrom(a, _) | Hop::Tcp(a) | Hop::Tls(a, _) => a.ip() == remote.ip(),
    }
}
