//! Trunks between calls: OPTIONS probes, our registrations with them, DNS answers, connections that
//! are wedged.

use super::{Gateway, Turn};
use crate::call::context::{DnsWaiter, TransactionUser};
use crate::call::{CallId, Output};
use crate::config::Trunk;
use crate::event::Event;
use crate::resolver::{Destination, DnsAnswer, DnsQuery, Located};
use crate::sip::build::MessageWriter;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::{ALLOW, Method};
use crate::sip::transaction::Hop;
use crate::sip::uri::{escape_user, host_of};
use crate::trunk::registration::NextRegistration;
use crate::trunk::{Due, TrunkChange};
use rand_core::RngCore;
use std::time::Instant;

impl Gateway {
    pub(super) fn trunks_due(&mut self, turn: &mut Turn<'_>) {
        for due in self.services.trunks.due(turn.now) {
            self.trunk_work(turn, due);
        }
    }

    /// A probe or registration, from its first look-up on.
    pub(super) fn trunk_work(&mut self, turn: &mut Turn<'_>, due: Due) {
        let (name, registrar) = match &due {
            Due::Probe(name) => (name.clone(), None),
            Due::Register(name, n) => (name.clone(), Some(*n)),
        };
        let Some(trunk) = self.config.trunks.get(&name).cloned() else { return };
        if let Some(n) = registrar
            && trunk.register_once
            && !self.registers(&name)
        {
            return self.leave_registration(turn.now, &name, n);
        }
        let uri = match registrar {
            Some(n) => self
                .services
                .trunks
                .get(&name)
                .and_then(|t| t.registrations.get(n))
                .map(|r| r.registrar.clone()),
            None => trunk.uri.clone(),
        };
        let bound = self
            .services
            .trunks
            .get(&name)
            .and_then(|t| t.bound.as_ref())
            .map(|b| b.hop)
            .filter(|_| registrar.is_none());
        let found = match (bound, uri) {
            (Some(hop), _) => Located::Ready(vec![hop]),
            (None, Some(uri)) => {
                let target = Destination::of(&uri, &trunk);
                self.context(turn).locate(&target, DnsWaiter::Trunk(due.clone()))
            }
            // It has not registered: nothing to probe yet.
            (None, None) => return self.rearm_probe(turn.now, &trunk),
        };
        match (found, registrar) {
            (Located::Waiting(_), _) => {}
            (Located::Ready(hops), None) => self.send_probe(turn, &trunk, hops[0]),
            (Located::Ready(hops), Some(n)) => self.send_register(turn, &trunk, n, hops[0]),
            (Located::Failed(why), None) => {
                self.rearm_probe(turn.now, &trunk);
                self.probe_missed(turn, &name, why);
            }
            (Located::Failed(why), Some(n)) => self.registration_failed(turn, &name, n, why),
        }
    }

    /// Another node registers with this trunk, or none may yet.
    fn leave_registration(&mut self, now: Instant, name: &str, n: usize) {
        let cluster = self.services.cluster.as_ref();
        let by = cluster.and_then(|cluster| cluster.registers_instead(name));
        let why =
            by.map_or("no node registers yet".to_owned(), |by| format!("node {by} registers"));
        let trunk = self.services.trunks.get_mut(name);
        if let Some(registration) = trunk.and_then(|t| t.registrations.get_mut(n)) {
            registration.leave(now, why);
        }
    }

    fn rearm_probe(&mut self, now: Instant, trunk: &Trunk) {
        if let Some(state) = self.services.trunks.get_mut(&trunk.name) {
            state.probing(now, trunk.probe);
        }
    }

    fn send_probe(&mut self, turn: &mut Turn<'_>, trunk: &Trunk, hop: Hop) {
        self.rearm_probe(turn.now, trunk);
        let mut cx = self.context(turn);
        let hop = cx.hop_of_trunk(&trunk.name, hop);
        let hop = cx.alias_of(&trunk.name, hop);
        let (branch, via) = cx.via(hop);
        let host = trunk.uri.as_ref().map_or(cx.config.domain.clone(), |u| u.address());
        let own =
            cx.remote_ip(hop).map_or(cx.config.domain.clone(), |ip| host_of(cx.local_ip(hop, ip)));
        let mut options = MessageWriter::request(Method::Options, &format!("sip:{host}"));
        options.put(HeaderName::Via, via);
        options.put(HeaderName::MaxForwards, 70);
        options.put(HeaderName::From, format_args!("<sip:webtrunk@{own}>;tag={}", cx.token()));
        options.put(HeaderName::To, format_args!("<sip:{host}>"));
        options.put(HeaderName::CallId, cx.token());
        options.put(HeaderName::CSeq, "1 OPTIONS");
        options.put(HeaderName::Contact, cx.contact(hop, "webtrunk"));
        options.put(HeaderName::Accept, "application/sdp");
        options.put(HeaderName::UserAgent, concat!("webtrunk/", env!("CARGO_PKG_VERSION")));
        let client = cx.request(Method::Options, &branch, hop, options.end());
        cx.services.transaction_users.insert(
            client,
            TransactionUser::Trunk { name: trunk.name.clone(), registrar: None, hop },
        );
    }

    fn send_register(&mut self, turn: &mut Turn<'_>, trunk: &Trunk, n: usize, hop: Hop) {
        let (Some(user), Some(password)) = (&trunk.username, &trunk.password) else { return };
        let mut cx = self.context(turn);
        let hop = cx.hop_of_trunk(&trunk.name, hop);
        let (branch, via) = cx.via(hop);
        let (tag, cnonce, fresh) = (cx.token(), cx.token(), cx.token());
        let contact = contact_for(&cx, trunk, hop);
        let Some(registration) =
            cx.services.trunks.get_mut(&trunk.name).and_then(|t| t.registrations.get_mut(n))
        else {
            return;
        };
        if registration.call_id.is_empty() {
            registration.call_id = fresh;
            registration.answering =
                crate::sip::digest::Answering::for_realm(trunk.realm.as_deref());
        }
        let uri = format!(
            "{}:{}",
            if registration.registrar.secure { "sips" } else { "sip" },
            registration.registrar.address()
        );
        let (cseq, expires) = registration.sending();
        let own_domain = trunk
            .identity
            .from_domain
            .clone()
            .unwrap_or_else(|| registration.registrar.host_port());
        let aor = format!("<sip:{}@{own_domain}>", escape_user(user));
        let mut request = MessageWriter::request(Method::Register, &uri);
        request.put(HeaderName::Via, via);
        request.put(HeaderName::MaxForwards, 70);
        request.put(HeaderName::From, format_args!("{aor};tag={tag}"));
        request.put(HeaderName::To, &aor);
        request.put(HeaderName::CallId, &registration.call_id);
        request.put(HeaderName::CSeq, format_args!("{cseq} REGISTER"));
        request.put(HeaderName::Contact, format_args!("{contact};expires={expires}"));
        request.put(HeaderName::Expires, expires);
        request.put(HeaderName::Supported, "path");
        request.put(HeaderName::Allow, ALLOW);
        request.put(HeaderName::UserAgent, concat!("webtrunk/", env!("CARGO_PKG_VERSION")));
        for (name, value) in registration.answering.credentials(
            user,
            password.reveal(),
            &uri,
            Method::Register,
            &cnonce,
        ) {
            request.put(name, value);
        }
        let client = cx.request(Method::Register, &branch, hop, request.end());
        cx.services.transaction_users.insert(
            client,
            TransactionUser::Trunk { name: trunk.name.clone(), registrar: Some(n), hop },
        );
    }

    /// A response, or none, to a probe or registration.
    pub(super) fn on_trunk_response(
        &mut self,
        turn: &mut Turn<'_>,
        name: &str,
        registrar: Option<usize>,
        hop: Hop,
        message: Option<&Message>,
    ) {
        match message {
            Some(_) => self.services.locator.alive(hop),
            None => {
                self.services.locator.failed(turn.now, hop);
                self.unresponsive_connection(name, hop, turn.out);
            }
        }
        match (registrar, message) {
            (None, Some(message)) if message.status() < 200 => {}
            // Any answer shows life, a 404 or 405 too; 408 and 503 are what a proxy says of a dead
            // server.
            (None, Some(message)) if matches!(message.status(), 408 | 503) => {
                self.probe_missed(turn, name, format!("OPTIONS is answered {}", message.status()));
            }
            (None, Some(_)) => self.trunk_lives(turn, name),
            (None, None) => self.probe_missed(
                turn,
                name,
                format!("no answer to OPTIONS ({hop}): is it open from here?"),
            ),
            (Some(n), Some(message)) => self.registration_answered(turn, name, n, hop, message),
            (Some(n), None) => {
                self.registration_failed(turn, name, n, format!("no answer to REGISTER ({hop})"))
            }
        }
    }

    /// A trunk answered something.
    pub(super) fn trunk_lives(&mut self, turn: &mut Turn<'_>, name: &str) {
        if let Some(TrunkChange::Up { was_down_for }) =
            self.services.trunks.get_mut(name).and_then(|t| t.on_request_answered(turn.now))
        {
            turn.push(Output::Event(Event::TrunkUp {
                trunk: name.to_owned(),
                after: was_down_for,
            }));
        }
    }

    fn probe_missed(&mut self, turn: &mut Turn<'_>, name: &str, why: String) {
        if let Some(TrunkChange::Down { why }) =
            self.services.trunks.get_mut(name).and_then(|t| t.on_probe_missed(turn.now, why))
        {
            turn.push(Output::Event(Event::TrunkDown { trunk: name.to_owned(), why }));
            self.ask_calls_of(turn, name);
        }
    }

    /// A trunk that comes by itself is here by this connection: those of these calls whose own
    /// connection is gone go by it.
    pub(super) fn trunk_came_by(
        &mut self,
        turn: &mut Turn<'_>,
        (name, hop): (&str, Hop),
        calls: impl IntoIterator<Item = CallId>,
    ) {
        let comes = self.config.trunks.get(name).is_some_and(|trunk| trunk.uri.is_none());
        let Some(kind) = self.kind_of(hop).filter(|_| comes) else { return };
        for id in calls {
            if self.calls.get(id).is_some_and(|call| call.may_follow(name, kind)) {
                self.with_call(turn, id, |call, _| call.follow_trunk(name, (hop, kind)));
            }
        }
    }

    /// A trunk went down: its calls may be gone with it.
    fn ask_calls_of(&mut self, turn: &mut Turn<'_>, name: &str) {
        for id in self.calls.of_trunk(name) {
            self.with_call(turn, id, |call, cx| call.on_trunk_down(cx, name));
        }
    }

    /// Requests over a connection time out although it stands: it is given up, the next request
    /// opens another.
    pub(super) fn unresponsive_connection(&mut self, name: &str, hop: Hop, out: &mut Vec<Output>) {
        if hop.is_udp() || !self.services.trunks.get_mut(name).is_some_and(|t| t.timed_out()) {
            return;
        }
        out.push(Output::Event(Event::Wedged { trunk: name.to_owned(), hop: hop.to_string() }));
        out.push(Output::Disconnect(hop));
    }

    fn registration_answered(
        &mut self,
        turn: &mut Turn<'_>,
        name: &str,
        n: usize,
        hop: Hop,
        message: &Message,
    ) {
        let chance = self.services.random.next_u32() as u8;
        let Some(trunk) = self.config.trunks.get(name).cloned() else { return };
        let contact = contact_for(&self.context(turn), &trunk, hop);
        let contact = contact.trim_start_matches('<').trim_end_matches('>').to_owned();
        let Some(registration) =
            self.services.trunks.get_mut(name).and_then(|t| t.registrations.get_mut(n))
        else {
            return;
        };
        let host = registration.registrar.host.clone();
        match registration.answered(turn.now, message, &contact, chance) {
            NextRegistration::Nothing => {}
            NextRegistration::Again => self.send_register(turn, &trunk, n, hop),
            NextRegistration::Registered { expires, first: true } => {
                turn.push(Output::Event(Event::TrunkRegistered {
                    trunk: name.to_owned(),
                    registrar: host,
                    expires,
                }));
            }
            NextRegistration::Registered { .. } => {}
            NextRegistration::Failed { why, again_in } => {
                turn.push(Output::Event(Event::TrunkNotRegistered {
                    trunk: name.to_owned(),
                    why,
                    again_in,
                }))
            }
        }
    }

    fn registration_failed(&mut self, turn: &mut Turn<'_>, name: &str, n: usize, why: String) {
        let chance = self.services.random.next_u32() as u8;
        let failed = self
            .services
            .trunks
            .get_mut(name)
            .and_then(|t| t.registrations.get_mut(n))
            .map(|r| r.on_failure(turn.now, why, chance));
        if let Some(NextRegistration::Failed { why, again_in }) = failed {
            turn.push(Output::Event(Event::TrunkNotRegistered {
                trunk: name.to_owned(),
                why,
                again_in,
            }));
        }
    }

    /// DNS answered: everyone who waits for the name continues.
    pub(super) fn dns_answered(&mut self, turn: &mut Turn<'_>, query: DnsQuery, answer: DnsAnswer) {
        let waiting = self.services.pending_queries.remove(&query).unwrap_or_default();
        self.services.locator.answered(turn.now, query, answer);
        for waiter in waiting {
            match waiter {
                DnsWaiter::Branch(call, branch) => {
                    self.with_call(turn, call, |call, cx| call.locate(cx, branch));
                }
                DnsWaiter::Trunk(due) => self.trunk_work(turn, due),
                DnsWaiter::Description => self.release_named(turn),
            }
        }
    }
}

/// What we register: our username at the address the carrier reaches us at.
fn contact_for(cx: &crate::call::CallContext<'_>, trunk: &Trunk, hop: Hop) -> String {
    cx.contact(hop, &escape_user(trunk.username.as_deref().unwrap_or("webtrunk")))
}
