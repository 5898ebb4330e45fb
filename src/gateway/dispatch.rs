//! From a received message to the one who handles it: registrar, call, or a refusal.

use super::challenges::opened;
use super::edge_proxy::is_passed_replacement;
use super::out_of_dialog::is_of_foreign_scheme;
use super::turn::{RequestSource, Screening};
use super::{FlowKind, Gateway, Turn};
use crate::call::CallId;
use crate::call::context::Output;
use crate::call::context::TransactionUser;
use crate::errors::Code;
use crate::event::Event;
use crate::hex::token;
use crate::registrar::MIN_EXPIRES;
use crate::sip::build::MessageWriter;
use crate::sip::cause::reasons;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::salvage::salvage;
use crate::sip::status::{Method, Refusal, SUPPORTED, TRICKLE};
use crate::sip::transaction::{ClientId, Hop, ServerId, TransactionEvent, Transmit};
use std::net::SocketAddr;

impl Gateway {
    pub(super) fn received(
        &mut self,
        turn: &mut Turn<'_>,
        hop: Hop,
        remote: SocketAddr,
        message: Message,
    ) {
        if let Hop::Flow(flow) = hop
            && !self.services.flows.contains_key(&flow)
        {
            return;
        }
        if self.node_probe(turn, hop, &message)
            || self.take_begun(turn, hop, &message)
            || self.pass_through(turn, hop, &message)
        {
            return;
        }
        if !message.is_request() {
            // One that is ours by its branch is never dropped for what else is wrong with it:
            // whoever waits for it decides what it is good for.
            if self.services.transactions.client_of(&message).is_none()
                && let Err(why) = message.check()
            {
                self.dropped += 1;
                if let Some(rest) = salvage(&message.to_bytes()) {
                    self.unreadable(remote, &rest, &why.to_string(), turn.out);
                }
                return;
            }
        } else {
            match self.screen(turn, hop, remote, &message) {
                Screening::Proceed => {}
                Screening::Handled => return,
                Screening::Refuse(why) => {
                    if message.method() != Method::Ack {
                        self.respond_stateless(hop, &message, &why, turn.out);
                    }
                    return;
                }
            }
        }
        self.tell_begun(turn, hop, &message);
        self.give_transaction(turn, hop, message);
    }

    /// Gives a message to the transaction it is of, or begins one.
    pub(super) fn give_transaction(&mut self, turn: &mut Turn<'_>, hop: Hop, message: Message) {
        let (mut sends, mut events) = (Vec::new(), Vec::new());
        self.services.transactions.receive(turn.now, hop, message, &mut sends, &mut events);
        turn.out.extend(sends.into_iter().map(Output::Send));
        self.dispatch(turn, events);
    }

    /// What may not even become a transaction: strangers get silence or a stateless answer.
    fn screen(
        &mut self,
        turn: &mut Turn<'_>,
        hop: Hop,
        remote: SocketAddr,
        message: &Message,
    ) -> Screening {
        let browser = self.kind_of(hop) == Some(FlowKind::WebSocket);
        let node = matches!(hop, Hop::Node(_));
        let stranger = !browser
            && !node
            && self.trunk_of(remote).is_none()
            && !self.is_peer_in_dialog(remote, message);
        if !browser && message.method() == Method::Register && self.accepts_strangers() {
            if let Err(e) = message.check() {
                return Screening::Refuse(Refusal::new(e.status, e.to_string()));
            }
            return if self.services.transactions.knows(message) {
                Screening::Proceed
            } else if let Some(refused) = self.screen_load(turn, hop, remote, message) {
                Screening::Refuse(refused)
            } else {
                self.admit_trunk(turn, hop, remote, message)
            };
        }
        if stranger {
            // A scanner learns nothing, not even that we are here.
            self.dropped += 1;
            turn.push(Output::Event(Event::Dropped {
                why: "SIP from an address of no trunk",
                remote: Some(remote),
            }));
            return Screening::Handled;
        }
        if let Err(e) = message.check() {
            return Screening::Refuse(Refusal::new(e.status, e.to_string()));
        }
        if message.method() == Method::Ack {
            return Screening::Proceed;
        }
        let begins = message.to().is_none_or(|to| to.tag().is_none());
        if let (Hop::Flow(flow), true, Some(server)) =
            (hop, begins, self.services.transactions.suspended(message))
        {
            return self.screen_repeated(turn, (flow, remote), server, message);
        }
        if self.services.transactions.knows(message) {
            return Screening::Proceed;
        }
        if message.method() == Method::Cancel {
            return self.screen_cancel(turn.now, hop, remote, message);
        }
        if message.to().is_some_and(|t| t.tag().is_some()) {
            return self.screen_in_dialog(turn, hop, remote, message);
        }
        if node && (message.method() == Method::Notify || is_passed_replacement(message)) {
            return Screening::Proceed;
        }
        if node {
            return Screening::Refuse(Refusal::new(403, "nodes begin nothing at one another"));
        }
        if let Some(refused) = self.screen_load(turn, hop, remote, message) {
            return Screening::Refuse(refused);
        }
        if !browser {
            if message.method() == Method::Options
                && message.header(HeaderName::Require).is_none()
                && !is_of_foreign_scheme(message)
            {
                // RFC 3261 §8.2.7: a probe is answered and forgotten; sent again, it is answered
                // again.
                let response = self.options_response(message);
                turn.push(Output::Send(Transmit { hop, bytes: response.end() }));
                self.note_probe(hop, message);
                return Screening::Handled;
            }
            return Screening::Proceed;
        }
        let Hop::Flow(flow) = hop else { return Screening::Proceed };
        self.admit(turn, flow, remote, message)
    }

    /// A response without a transaction.
    pub(super) fn respond_stateless(
        &mut self,
        hop: Hop,
        message: &Message,
        why: &Refusal,
        out: &mut Vec<Output>,
    ) {
        if message.header(HeaderName::Via).is_none() {
            return;
        }
        if self.is_unproved(hop) {
            return self.refuse_unproved(hop, message, why, out);
        }
        let tag = token::<8>(&mut self.services.random);
        let response = MessageWriter::refusal(message, why, &tag, &self.config.domain);
        out.push(Output::Send(Transmit { hop, bytes: response.end() }));
    }

    /// The trunk whose allow-list holds `remote`, or that registered from there.
    pub(super) fn trunk_of(&self, remote: SocketAddr) -> Option<String> {
        let ip = remote.ip().to_canonical();
        let listed = self.config.trunks.at(ip).map(|t| t.name.as_str());
        listed.or_else(|| self.services.trunks.bound_from(remote)).map(str::to_owned)
    }

    /// The address at the other end of a hop.
    pub(super) fn remote_of(&self, hop: Hop) -> Option<SocketAddr> {
        match hop {
            Hop::Flow(flow) => self.services.flows.get(&flow).map(|f| f.remote),
            _ => hop.address(),
        }
    }

    /// A trunk known by name only: its address counts while we have a dialog with it.
    fn is_peer_in_dialog(&self, remote: SocketAddr, message: &Message) -> bool {
        if !message.is_request() {
            return true;
        }
        let tag = message.to().and_then(|t| t.tag()).unwrap_or_default();
        self.services.dialogs.get(tag).is_some_and(|(id, end)| {
            self.calls.get(*id).is_some_and(|call| {
                call.hop_of(*end).is_some_and(|h| same_source(h, Hop::Udp(remote), remote))
            })
        })
    }

    pub(super) fn dispatch(&mut self, turn: &mut Turn<'_>, events: Vec<TransactionEvent>) {
        for event in events {
            if let Some(event) = self.awaiting_no_name(turn, event) {
                self.deliver(turn, event);
            }
        }
    }

    /// Hands an event to whom it concerns.
    pub(super) fn deliver(&mut self, turn: &mut Turn<'_>, event: TransactionEvent) {
        match event {
            TransactionEvent::Request { id, hop, message, target } => {
                self.request(turn, id, hop, message, target)
            }
            TransactionEvent::Ack { message, hop } => self.ack(turn, hop, &message),
            TransactionEvent::Response { id, message } => {
                if message.status() >= 200 {
                    self.services.farewells.over(id);
                    self.services.owed_goodbyes.answered(id);
                }
                self.on_response(turn, id, Some(&message))
            }
            TransactionEvent::Timeout { id } => self.on_response(turn, id, None),
            TransactionEvent::Ended { id } => {
                self.services.transaction_users.remove(&id);
                self.services.farewells.over(id);
                if let Some(user) = self.services.owed_goodbyes.unanswered(turn.now, id) {
                    self.pay_user(turn, &user);
                }
            }
            TransactionEvent::LateSuccess { message } => self.late_success(turn, &message),
            TransactionEvent::Stray => self.dropped += 1,
        }
    }

    /// Until it is acknowledged its sender says it again and takes no other INVITE (RFC 3261
    /// §13.2.2.4), so a call that it is of could never be refreshed any more.
    fn late_success(&mut self, turn: &mut Turn<'_>, message: &Message) {
        let ours = message.from().and_then(|from| from.tag());
        match ours.and_then(|tag| self.services.dialogs.get(tag).copied()) {
            Some((id, end)) => {
                self.with_call(turn, id, |call, cx| call.late_success(cx, end, message));
            }
            None => self.dropped += 1,
        }
    }

    /// A response to a request of ours, or none in time: to whoever waits for it.
    fn on_response(&mut self, turn: &mut Turn<'_>, id: ClientId, message: Option<&Message>) {
        let status = message.map_or(408, Message::status);
        let Some(user) = self.services.transaction_users.get(&id).cloned() else { return };
        let (user, answering) = opened(user);
        if let Some(message) = message
            && self.answer_challenge(turn, id, &user, answering, message)
        {
            return;
        }
        match user {
            TransactionUser::Branch(call, branch) => {
                let trunk = self.calls.get(call).and_then(|call| call.trunk_of_branch(branch));
                match message {
                    Some(message) => {
                        // A call that goes through says as much as a probe.
                        if let Some((name, _)) = trunk.filter(|_| status != 503 && status != 408) {
                            self.trunk_lives(turn, &name);
                        }
                        self.with_call(turn, call, |call, cx| {
                            call.on_response(cx, branch, message)
                        });
                    }
                    None => {
                        if let Some((name, hop)) = trunk {
                            self.unresponsive_connection(&name, hop, turn.out);
                        }
                        self.with_call(turn, call, |call, cx| call.on_branch_timeout(cx, branch));
                    }
                }
            }
            TransactionUser::Leg(call, end, asked) => {
                self.with_call(turn, call, |call, cx| {
                    call.on_in_dialog_response(cx, end, asked, id, message)
                });
            }
            TransactionUser::Trunk { name, registrar, hop } => {
                self.on_trunk_response(turn, &name, registrar, hop, message)
            }
            TransactionUser::Relay { number, .. } => self.relayed(turn, number, status),
            TransactionUser::Subscription(number) => self.notify_answered(turn, number, status),
            TransactionUser::Goodbye { .. } | TransactionUser::Challenged(_) => {}
        }
    }

    pub(super) fn refuse(
        &mut self,
        turn: &mut Turn<'_>,
        id: ServerId,
        message: &Message,
        why: &Refusal,
    ) {
        // The ACK may come to another node, which knows by the tag whose it is.
        let tag = self.context(turn).marked_token();
        let mut response = MessageWriter::refusal(message, why, &tag, &self.config.domain);
        match why.status {
            420 => {
                let unknown: Vec<&str> =
                    message.values(HeaderName::Require).filter(|o| !understood(o)).collect();
                response.put(HeaderName::Unsupported, unknown.join(", "));
            }
            423 => response.put(HeaderName::MinExpires, MIN_EXPIRES),
            422 => response.put(HeaderName::MinSe, crate::sip::session_timer::MIN_SE),
            489 => response.put(HeaderName::Allowed, super::out_of_dialog::ALLOW_EVENTS),
            415 => response.put_readable(),
            _ => {}
        }
        self.respond(turn, id, why.status, response);
    }

    pub(super) fn respond(
        &mut self,
        turn: &mut Turn<'_>,
        id: ServerId,
        status: u16,
        response: MessageWriter,
    ) {
        let mut sends = Vec::new();
        self.services.transactions.respond(turn.now, id, status, response.end(), &mut sends);
        turn.out.extend(sends.into_iter().map(Output::Send));
    }

    fn request(
        &mut self,
        turn: &mut Turn<'_>,
        id: ServerId,
        hop: Hop,
        message: Message,
        target: Option<ServerId>,
    ) {
        if let Some(sender) = self.sender(hop) {
            self.services.transactions.charge(id, &sender.name());
        }
        if message.method() == Method::Cancel {
            return self.cancel(turn, id, hop, &message, target);
        }
        if let Some(why) = validate(&message) {
            return self.refuse(turn, id, &message, &why);
        }
        if message.to().is_some_and(|t| t.tag().is_some()) {
            return self.in_dialog(turn, id, hop, &message);
        }
        if message.method() == Method::Register && self.kind_of(hop) != Some(FlowKind::WebSocket) {
            let Some(remote) = self.remote_of(hop).filter(|_| self.accepts_strangers()) else {
                return self.refuse(
                    turn,
                    id,
                    &message,
                    &Refusal::new(
                        405,
                        "no trunk registers here: accepts_registration = true allows it",
                    ),
                );
            };
            return self.register_trunk(turn, id, hop, remote, &message);
        }
        if matches!(hop, Hop::Node(_)) && message.method() == Method::Notify {
            return self.on_unsolicited_notify(turn, id, true, &message);
        }
        if matches!(hop, Hop::Node(_)) && message.method() == Method::Invite {
            return self.replacement_of_node(turn, id, hop, message);
        }
        let Some(sender) = self.sender(hop) else {
            return self.refuse(turn, id, &message, &Refusal::new(403, "unknown sender"));
        };
        if let RequestSource::Trunk(name) = &sender {
            self.note_alias(name, hop, &message);
        }
        match (message.method(), sender) {
            (Method::Register, RequestSource::User(user, flow)) => {
                self.register(turn, id, &message, &user, flow)
            }
            (Method::Invite, _) if self.pass_replacement(turn, id, hop, &message) => {}
            (Method::Invite, sender) => self.invite(turn, id, hop, message, sender),
            (_, sender) => self.out_of_dialog(turn, id, message, sender),
        }
    }

    fn note_probe(&mut self, hop: Hop, message: &Message) {
        if let Some(RequestSource::Trunk(name)) = self.sender(hop) {
            self.note_alias(&name, hop, message);
        }
    }

    pub(super) fn kind_of(&self, hop: Hop) -> Option<FlowKind> {
        match hop {
            Hop::Flow(flow) => self.services.flows.get(&flow).map(|f| f.kind),
            _ => None,
        }
    }

    /// RFC 5923 §5: a trunk that puts `alias` into its Via listens at the address it names there,
    /// and lets us send over this connection what we would send there.
    fn note_alias(&mut self, trunk: &str, hop: Hop, message: &Message) {
        let Hop::Flow(flow) = hop else { return };
        let Some(state) = self.services.flows.get(&flow).filter(|s| s.kind != FlowKind::WebSocket)
        else {
            return;
        };
        let Some(via) = message.via().filter(|v| v.params.has("alias")) else { return };
        let port = via.port.unwrap_or(if state.kind == FlowKind::Tls { 5061 } else { 5060 });
        let offered = (trunk.to_owned(), SocketAddr::new(state.remote.ip(), port));
        self.services.aliases.offer(offered, flow);
    }

    /// Whether nobody known is at the other end of a hop.
    pub(crate) fn is_stranger(&self, hop: Hop) -> bool {
        !matches!(hop, Hop::Node(_) | Hop::Suspended) && self.sender(hop).is_none()
    }

    pub(super) fn sender(&self, hop: Hop) -> Option<RequestSource> {
        match hop {
            Hop::Flow(flow) => {
                let state = self.services.flows.get(&flow)?;
                match state.kind {
                    FlowKind::WebSocket => Some(RequestSource::User(state.user.clone()?, flow)),
                    FlowKind::Tcp | FlowKind::Tls => {
                        self.trunk_of(state.remote).map(RequestSource::Trunk)
                    }
                }
            }
            Hop::Udp(remote) | Hop::UdpFrom(remote, _) | Hop::Tcp(remote) | Hop::Tls(remote, _) => {
                self.trunk_of(remote).map(RequestSource::Trunk)
            }
            Hop::Node(_) | Hop::Suspended => None,
        }
    }

    fn cancel(
        &mut self,
        turn: &mut Turn<'_>,
        id: ServerId,
        hop: Hop,
        message: &Message,
        target: Option<ServerId>,
    ) {
        if target.is_some_and(|target| self.cancel_named(turn, target)) {
            return self.respond(turn, id, 200, MessageWriter::response(message, 200, None));
        }
        let call = target.and_then(|t| self.calls.of_transaction(t));
        let Some(call) = call else {
            return self.refuse(
                turn,
                id,
                message,
                &Refusal::new(481, "there is no INVITE to cancel"),
            );
        };
        if let Hop::Flow(flow) = hop {
            self.take_up(turn, call, crate::call::CALLER_LEG, flow);
        }
        // RFC 3261 §9.2: the 200 carries the same To tag as the INVITE's responses.
        let tag =
            self.calls.get(call).map(|call| call.caller().local_tag.clone()).unwrap_or_default();
        self.respond(turn, id, 200, MessageWriter::response(message, 200, Some(&tag)));
        self.cancel_call(turn, call, message);
    }

    /// The caller gave up.
    pub(super) fn cancel_call(&mut self, turn: &mut Turn<'_>, call: CallId, message: &Message) {
        let said = reasons(message);
        // "Call completed elsewhere" and the like are the caller's to say (RFC 3326).
        let why = said.text.unwrap_or_else(|| "the caller hung up before the answer".into());
        let why = Refusal::new(487, why).q850(said.q850).code(Code::CANCELLED);
        self.with_call(turn, call, |call, cx| call.on_cancel(cx, why));
    }

    fn ack(&mut self, turn: &mut Turn<'_>, hop: Hop, message: &Message) {
        if let Some((call, end)) = self.find_dialog(turn, hop, message) {
            self.with_call(turn, call, |call, cx| call.on_reinvite_ack(cx, end, message));
        }
    }

    fn in_dialog(&mut self, turn: &mut Turn<'_>, id: ServerId, hop: Hop, message: &Message) {
        let past = self.pay_asker(turn, hop, message);
        match (self.find_dialog(turn, hop, message), past) {
            (Some((call, end)), _) => {
                self.with_call(turn, call, |call, cx| call.on_request(cx, end, id, message));
            }
            (None, Some(_)) if message.method() == Method::Bye => {
                self.respond(turn, id, 200, MessageWriter::response(message, 200, None));
            }
            (None, Some(why)) => {
                let why = format!("the call has ended: {why}");
                self.refuse(turn, id, message, &Refusal::new(481, why));
            }
            (None, None) if self.resubscribe(turn, id, hop, message) => {}
            (None, None) => {
                self.refuse(turn, id, message, &Refusal::new(481, "there is no such call"));
            }
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
        // RFC 3261 §21.5.2; a method that is known, and not served, is 405.
        return Some(Refusal::new(501, format!("{} is not known here", message.method_token())));
    }
    if message.method() == Method::Bye {
        // Whoever hangs up has gone: a refusal would leave a call with one end.
        return None;
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
pub(super) fn same_source(expected: Hop, hop: Hop, remote: SocketAddr) -> bool {
    match expected {
        Hop::Flow(_) | Hop::Node(_) | Hop::Suspended => expected == hop,
        Hop::Udp(a) | Hop::UdpFrom(a, _) | Hop::Tcp(a) | Hop::Tls(a, _) => a.ip() == remote.ip(),
    }
}
