//! From a received message to the one who handles it: registrar, call, or a refusal.

use super::admission::{Admitted, claimed_user};
use super::{FlowKind, Gateway, Live};
use crate::call::cdr::Cdr;
use crate::call::desk::Output;
use crate::call::leg::{Leg, Party};
use crate::call::{Branch, CALLER_END, Call, CallId, Desk, State};
use crate::dialplan::Attempt;
use crate::media::EndId;
use crate::observe::Note;
use crate::registrar::{FLOW_TIMER, MIN_EXPIRES};
use crate::sip::build::Writer;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::{ALLOW, Method, Reject};
use crate::sip::transaction::{Event, Flow, Hop, ServerId, Transmit};
use crate::sip::uri::{Scheme, Uri};
use rand_core::RngCore;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

/// Who sent a request.
#[derive(Clone, Debug, PartialEq)]
enum Sender {
    User(String, Flow),
    Trunk(String),
}

impl Gateway {
    pub(super) fn received(&mut self, now: Instant, hop: Hop, remote: SocketAddr, message: Message, out: &mut Vec<Output>) {
        if let Hop::Flow(flow) = hop
            && !self.flows.contains_key(&flow)
        {
            return;
        }
        if !message.is_request() {
            if message.check().is_err() {
                self.dropped += 1;
                return;
            }
        } else if let Some(why) = self.turn_away(now, hop, remote, &message, out) {
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
    fn turn_away(&mut self, now: Instant, hop: Hop, remote: SocketAddr, message: &Message, out: &mut Vec<Output>) -> Option<Reject> {
        let browser = matches!(hop, Hop::Flow(f) if self.flows.get(&f).is_some_and(|s| s.kind == FlowKind::WebSocket));
        if !browser && self.trunk_of(remote).is_none() && !self.is_peer_in_dialog(remote, message) {
            // A scanner learns nothing, not even that we are here.
            self.dropped += 1;
            out.push(Output::Note(Note::Dropped { why: "SIP from an address of no trunk", remote: Some(remote) }));
            return Some(Reject::new(0, ""));
        }
        if let Err(e) = message.check() {
            return Some(Reject::new(e.status, e.to_string()));
        }
        if self.transactions.knows(message) || matches!(message.method(), Method::Ack | Method::Cancel) {
            return None;
        }
        let in_dialog = message.to().is_some_and(|t| t.tag().is_some());
        if in_dialog || !browser {
            return None;
        }
        let Hop::Flow(flow) = hop else { return None };
        self.admit(now, flow, remote, message, out)
    }

    /// Proves the sender of an initial request on a WebSocket to be a user of ours.
    fn admit(&mut self, now: Instant, flow: Flow, remote: SocketAddr, message: &Message, out: &mut Vec<Output>) -> Option<Reject> {
        let claimed = message.from().map(|f| f.uri.user_unescaped().into_owned()).unwrap_or_default();
        let proved = self.flows.get(&flow).and_then(|f| f.user.clone());
        if message.method() != Method::Register && proved.as_deref() == Some(claimed.as_str()) {
            return None;
        }
        match self.admission.judge(now, &self.config, remote.ip(), message) {
            Admitted::User(user) if user == claimed => {
                if let Some(state) = self.flows.get_mut(&flow) {
                    state.user = Some(user);
                }
                None
            }
            Admitted::User(user) => Some(Reject::new(403, format!("{user} may not speak for another user"))),
            Admitted::Refused(why) => {
                out.push(Output::Note(Note::LoginRefused { user: claimed_user(message), remote }));
                Some(why)
            }
            Admitted::Challenge { stale } => {
                let random = self.random.next_u64();
                let mut response = Writer::response(message, 401, Some(&format!("{random:016x}")));
                for value in self.admission.challenges(now, random, stale) {
                    response.put(HeaderName::WwwAuthenticate, value);
                }
                out.push(Output::Send(Transmit { hop: Hop::Flow(flow), bytes: response.end() }));
                Some(Reject::new(0, ""))
            }
        }
    }

    /// A response without a transaction. Status 0 stands for silence.
    fn respond_stateless(&mut self, hop: Hop, message: &Message, why: &Reject, out: &mut Vec<Output>) {
        if why.status == 0 || message.via().is_none() {
            return;
        }
        let tag = format!("{:016x}", self.random.next_u64());
        let response = Writer::refusal(message, why, &tag, &self.config.domain);
        out.push(Output::Send(Transmit { hop, bytes: response.end() }));
    }

    /// The trunk whose allow-list holds `remote`.
    fn trunk_of(&self, remote: SocketAddr) -> Option<String> {
        let ip = remote.ip().to_canonical();
        self.config.trunks.values().find(|t| t.allow.iter().any(|n| n.contains(&ip))).map(|t| t.name.clone())
    }

    /// A trunk known by name only: its address counts while we have a dialog with it.
    fn is_peer_in_dialog(&self, remote: SocketAddr, message: &Message) -> bool {
        if !message.is_request() {
            return true;
        }
        let tag = message.to().and_then(|t| t.tag()).unwrap_or_default();
        self.dialogs.get(tag).is_some_and(|(id, end)| {
            self.calls.get(id).is_some_and(|l| l.call.hop_of(*end).is_some_and(|h| same_source(h, Hop::Udp(remote), remote)))
        })
    }

    pub(super) fn dispatch(&mut self, now: Instant, events: Vec<Event>, out: &mut Vec<Output>) {
        for event in events {
            match event {
                Event::Request { id, hop, message, target } => self.request(now, id, hop, message, target, out),
                Event::Ack { message, hop } => self.ack(now, hop, &message, out),
                Event::Response { id, message } => {
                    if let Some((call, branch)) = self.clients.get(&id).copied() {
                        self.with_call(now, call, out, |call, desk| call.response(desk, branch, &message));
                    }
                }
                Event::Timeout { id } => {
                    if let Some((call, branch)) = self.clients.get(&id).copied() {
                        self.with_call(now, call, out, |call, desk| call.branch_timeout(desk, branch));
                    }
                }
                Event::Stray { .. } => self.dropped += 1,
            }
        }
    }

    fn refuse(&mut self, now: Instant, id: ServerId, message: &Message, why: &Reject, out: &mut Vec<Output>) {
        let tag = format!("{:032x}", u128::from(self.random.next_u64()) << 64 | u128::from(self.random.next_u64()));
        let mut response = Writer::refusal(message, why, &tag, &self.config.domain);
        match why.status {
            420 => {
                let unknown: Vec<&str> = message.values(HeaderName::Require).filter(|o| !understood(o)).collect();
                response.put(HeaderName::Unsupported, unknown.join(", "));
            }
            423 => response.put(HeaderName::MinExpires, MIN_EXPIRES),
            415 => response.put(HeaderName::Accept, "application/sdp"),
            _ => {}
        }
        let mut sends = Vec::new();
        self.transactions.respond(now, id, why.status, response.end(), &mut sends);
        out.extend(sends.into_iter().map(Output::Send));
    }

    fn respond(&mut self, now: Instant, id: ServerId, status: u16, response: Writer, out: &mut Vec<Output>) {
        let mut sends = Vec::new();
        self.transactions.respond(now, id, status, response.end(), &mut sends);
        out.extend(sends.into_iter().map(Output::Send));
    }

    fn request(&mut self, now: Instant, id: ServerId, hop: Hop, message: Message, target: Option<ServerId>, out: &mut Vec<Output>) {
        if message.method() == Method::Cancel {
            return self.cancel(now, id, &message, target, out);
        }
        if let Some(why) = unfit(&message) {
            return self.refuse(now, id, &message, &why, out);
        }
        if message.to().is_some_and(|t| t.tag().is_some()) {
            return self.in_dialog(now, id, hop, &message, out);
        }
        let Some(sender) = self.sender(hop) else {
            return self.refuse(now, id, &message, &Reject::new(403, "unknown sender"), out);
        };
        match (message.method(), sender) {
            (Method::Register, Sender::User(user, flow)) => self.register(now, id, &message, &user, flow, out),
            (Method::Invite, sender) => self.invite(now, id, hop, message, sender, out),
            (Method::Options, _) => {
                let tag = format!("{:016x}", self.random.next_u64());
                let mut response = Writer::response(&message, 200, Some(&tag));
                response.put(HeaderName::Allow, ALLOW);
                response.put(HeaderName::Accept, "application/sdp");
                response.put(HeaderName::Supported, "outbound");
                self.respond(now, id, 200, response, out);
            }
            (Method::Bye | Method::Info | Method::Update | Method::Prack, _) => {
                self.refuse(now, id, &message, &Reject::new(481, "there is no such call"), out);
            }
            _ => {
                let why = Reject::new(405, format!("{} is not served here", message.method_token()));
                self.refuse(now, id, &message, &why, out);
            }
        }
    }

    fn sender(&self, hop: Hop) -> Option<Sender> {
        match hop {
            Hop::Flow(flow) => {
                let state = self.flows.get(&flow)?;
                match state.kind {
                    FlowKind::WebSocket => Some(Sender::User(state.user.clone()?, flow)),
                    FlowKind::Tcp => self.trunk_of(state.remote).map(Sender::Trunk),
                }
            }
            Hop::Udp(remote) | Hop::Tcp(remote) => self.trunk_of(remote).map(Sender::Trunk),
        }
    }

    fn cancel(&mut self, now: Instant, id: ServerId, message: &Message, target: Option<ServerId>, out: &mut Vec<Output>) {
        let call = target.and_then(|t| self.servers.get(&t).copied());
        let Some(call) = call else {
            return self.refuse(now, id, message, &Reject::new(481, "there is no INVITE to cancel"), out);
        };
        // RFC 3261 §9.2: the 200 carries the same To tag as the INVITE's responses.
        let tag = self.calls.get(&call).map(|l| l.call.a.local_tag.clone()).unwrap_or_default();
        self.respond(now, id, 200, Writer::response(message, 200, Some(&tag)), out);
        self.with_call(now, call, out, |call, desk| call.cancelled(desk));
    }

    fn ack(&mut self, now: Instant, hop: Hop, message: &Message, out: &mut Vec<Output>) {
        if let Some((call, end)) = self.find_dialog(hop, message) {
            self.with_call(now, call, out, |call, desk| call.acknowledged(desk, end, message));
        }
    }

    /// The dialog a message belongs to, if it came the way that dialog's messages come.
    fn find_dialog(&self, hop: Hop, message: &Message) -> Option<(CallId, EndId)> {
        let tag = message.to()?.tag()?.to_owned();
        let (call, end) = *self.dialogs.get(&tag)?;
        let live = &self.calls.get(&call)?.call;
        let dialog = live.dialog_of(end)?;
        let remote = match hop {
            Hop::Flow(f) => self.flows.get(&f)?.remote,
            Hop::Udp(a) | Hop::Tcp(a) => a,
        };
        let same_trunk = match live.party_of(end) {
            Some(Party::Trunk(name)) => self.trunk_of(remote).as_deref() == Some(name.as_str()),
            _ => false,
        };
        (dialog.matches(message) && (same_source(dialog.hop, hop, remote) || same_trunk)).then_some((call, end))
    }

    fn in_dialog(&mut self, now: Instant, id: ServerId, hop: Hop, message: &Message, out: &mut Vec<Output>) {
        match self.find_dialog(hop, message) {
            Some((call, end)) => {
                self.with_call(now, call, out, |call, desk| call.request(desk, end, id, message));
            }
            None => self.refuse(now, id, message, &Reject::new(481, "there is no such call"), out),
        }
    }

    fn register(&mut self, now: Instant, id: ServerId, message: &Message, user: &str, flow: Flow, out: &mut Vec<Output>) {
        let chance = self.random.next_u32() as u8;
        // RFC 3261 §10.3 step 4: the address-of-record is in To, and must be the user's own.
        let own = message.to().is_some_and(|t| t.uri.user_unescaped() == user);
        let done = if own {
            self.registrar.register(now, user, flow, message, chance)
        } else {
            Err(Reject::new(403, format!("{user} may register only itself")))
        };
        let done = match done {
            Ok(done) => done,
            Err(why) => return self.refuse(now, id, message, &why, out),
        };
        let tag = format!("{:016x}", self.random.next_u64());
        let mut response = Writer::response(message, 200, Some(&tag));
        for binding in &done.bindings {
            let left = binding.expires.saturating_duration_since(now).as_secs();
            let mut value = format!("<{}>;expires={left}", binding.contact);
            if let Some((instance, reg_id)) = &binding.instance {
                value.push_str(&format!(";+sip.instance=\"{instance}\";reg-id={reg_id}"));
            }
            response.put(HeaderName::Contact, value);
        }
        if done.outbound && done.added {
            response.put(HeaderName::Require, "outbound");
            response.put(HeaderName::FlowTimer, FLOW_TIMER);
        }
        self.respond(now, id, 200, response, out);
        for old in done.replaced {
            // RFC 5626 §4.2.1: the same instance and reg-id replaces the flow at once.
            out.push(Output::CloseFlow(old));
        }
        if done.added {
            let user_agent = message.header(HeaderName::UserAgent).unwrap_or_default().to_owned();
            out.push(Output::Note(Note::Registered { user: user.to_owned(), flows: done.bindings.len(), user_agent }));
            let instances: Vec<String> = done.bindings.iter().filter(|b| b.flow == flow).filter_map(|b| Some(b.instance.clone()?.0)).collect();
            instances.iter().for_each(|i| self.flow_resumed(now, user, i, flow, out));
        } else if done.removed {
            out.push(Output::Note(Note::Unregistered { user: user.to_owned(), why: "it asked for it" }));
        }
    }

    fn invite(&mut self, now: Instant, id: ServerId, hop: Hop, message: Message, sender: Sender, out: &mut Vec<Output>) {
        let from = match &sender {
            Sender::User(user, _) => user.clone(),
            Sender::Trunk(name) => format!("trunk {name}"),
        };
        match self.place(now, id, hop, &message, sender) {
            Ok((call, route)) => {
                let call_id = call.id;
                let note = Note::CallStarted { call: call_id, from, number: call.number.clone(), route };
                out.push(Output::Note(note));
                self.servers.insert(id, call_id);
                self.calls.insert(call_id, Live { call, media_closed: false, recorded: false, lost: false, counted: Vec::new() });
                self.with_call(now, call_id, out, |call, desk| call.start(desk));
            }
            Err(why) => {
                let to = message.request_uri().to_owned();
                out.push(Output::Note(Note::CallRefused { from, to, status: why.status, why: why.why.clone() }));
                self.refuse(now, id, &message, &why, out);
            }
        }
    }

    fn context_of(&self, sender: &Sender) -> Result<String, Reject> {
        match sender {
            Sender::User(user, _) => {
                let context = self.config.users.get(user).map(|u| u.context.clone());
                context.ok_or_else(|| Reject::new(403, "the user is not configured any more"))
            }
            Sender::Trunk(name) => {
                let context = self.config.trunks.get(name).and_then(|t| t.context.clone());
                context.ok_or_else(|| Reject::new(403, format!("trunk {name} has no context for incoming calls")))
            }
        }
    }

    /// Everything that can refuse a call before it costs anything.
    fn place(&mut self, now: Instant, server: ServerId, hop: Hop, message: &Message, sender: Sender) -> Result<(Call, String), Reject> {
        let max_forwards = message.max_forwards();
        if max_forwards == 0 {
            return Err(Reject::new(483, "Max-Forwards is used up: a loop?"));
        }
        if message.contact().is_none() {
            return Err(Reject::new(400, "an INVITE needs a Contact"));
        }
        self.merged(message)?;
        let uri = Uri::parse(message.request_uri()).map_err(|e| Reject::new(400, e.to_string()))?;
        if uri.scheme == Scheme::Other {
            return Err(Reject::new(416, "only sip, sips and tel URIs are routed"));
        }
        let context = self.context_of(&sender)?;
        let dialled = uri.user_unescaped().into_owned();
        let verdict = self.config.plan.route(&Attempt { context: &context, dialled: &dialled });
        let verdict = verdict.ok_or_else(|| Reject::new(500, format!("context {context} does not exist")))?;
        let route = verdict.route.ok_or_else(|| Reject::new(404, format!("no route for {} in context {context}", verdict.number)))?;
        self.within_limits(now, &sender, route.ignore_limits)?;
        let id = CallId(self.random.next_u64());
        let worker = self.next_worker % self.identity.workers.max(1);
        self.next_worker += 1;
        let mut call = self.new_call(now, id, server, hop, message, &sender, worker);
        call.take_offer(&self.config)?;
        call.cdr.context = context;
        call.cdr.route = Some(route.name.clone());
        call.cdr.dialled = dialled;
        call.cdr.number = verdict.number.clone();
        call.number = verdict.number;
        call.max_forwards = max_forwards - 1;
        call.steps = VecDeque::from(route.steps.clone());
        let name = route.name.clone();
        call.route = Some(route);
        Ok((call, name))
    }

    /// RFC 3261 §8.2.2.2: the same request by two paths.
    fn merged(&self, message: &Message) -> Result<(), Reject> {
        let key = |m: &Message| (m.call_id().to_owned(), m.from().and_then(|f| f.tag().map(str::to_owned)), m.cseq().map(|c| c.number));
        let ours = key(message);
        if self.calls.values().any(|l| l.call.state != State::Over && key(&l.call.invite) == ours) {
            return Err(Reject::new(482, "this INVITE is already being handled: it came by two paths"));
        }
        Ok(())
    }

    fn within_limits(&mut self, now: Instant, sender: &Sender, ignore: bool) -> Result<(), Reject> {
        if ignore {
            return Ok(());
        }
        let limits = &self.config.limits;
        if self.draining {
            return Err(Reject::new(503, "the gateway is draining: it takes no new calls").retry_after(10));
        }
        let live = self.calls.values().filter(|l| l.call.state != State::Over);
        if live.clone().count() >= limits.calls {
            return Err(Reject::new(503, format!("limits.calls = {} is reached", limits.calls)).retry_after(10));
        }
        if let Sender::User(user, _) = sender {
            let own = live.filter(|l| matches!(&l.call.a.party, Party::User { name, .. } if name == user)).count();
            if own >= limits.calls_per_user {
                return Err(Reject::new(486, format!("limits.calls_per_user = {} is reached", limits.calls_per_user)));
            }
        }
        let limit = limits.new_calls_per_second;
        if !self.admission.take_call(now, limit) {
            return Err(Reject::new(503, format!("limits.new_calls_per_second = {limit} is reached")).retry_after(2));
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn new_call(&mut self, now: Instant, id: CallId, server: ServerId, hop: Hop, message: &Message, sender: &Sender, worker: usize) -> Call {
        let instance = |flow: Flow, user: &str| {
            let bindings = self.registrar.bindings(now, user);
            bindings.into_iter().find(|b| b.flow == flow).and_then(|b| b.instance).map(|i| i.0)
        };
        let (party, from) = match sender {
            Sender::User(user, flow) => (Party::User { name: user.clone(), instance: instance(*flow, user) }, user.clone()),
            Sender::Trunk(name) => (Party::Trunk(name.clone()), format!("trunk:{name}")),
        };
        let remote = match hop {
            Hop::Flow(flow) => self.flows.get(&flow).map(|f| f.remote),
            Hop::Udp(a) | Hop::Tcp(a) => Some(a),
        };
        let shown = message.from().map(|f| f.uri.user_unescaped().into_owned()).unwrap_or_default();
        let cdr = Cdr {
            call: id,
            start: now,
            ringing: None,
            answered: None,
            end: None,
            inbound: matches!(sender, Sender::Trunk(_)),
            context: String::new(),
            route: None,
            from,
            from_shown: shown,
            user_agent: message.header(HeaderName::UserAgent).unwrap_or_default().chars().take(80).collect(),
            dialled: String::new(),
            number: String::new(),
            status: 0,
            why: String::new(),
            by: None,
            tried: Vec::new(),
            answered_by: None,
            a_call_id: message.call_id().to_owned(),
            b_call_id: None,
            b_end: None,
            a: None,
            b: None,
            media_problem: None,
        };
        let mut desk = Desk {
            now,
            config: &self.config,
            identity: &self.identity,
            transactions: &mut self.transactions,
            registrar: &self.registrar,
            timers: &mut self.timers,
            clients: &mut self.clients,
            dialogs: &mut self.dialogs,
            tickets: &mut self.tickets,
            trunk_calls: &self.trunk_calls,
            random: &mut self.random,
            out: &mut Vec::new(),
        };
        let ip = remote.map_or(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), |r| r.ip());
        let a = Leg::new(&mut desk, party, CALLER_END, hop, ip);
        Call {
            id,
            state: State::Opening,
            a,
            invite: message.clone(),
            server,
            a_final: false,
            offerless: false,
            branches: Vec::<Branch>::new(),
            b: None,
            heard: None,
            next_branch: 0,
            steps: VecDeque::new(),
            route: None,
            number: String::new(),
            trunks_left: VecDeque::new(),
            dial_to: None,
            step_timeout: None,
            playing: false,
            refusal: None,
            worker,
            max_forwards: 70,
            cdr,
        }
    }
}

/// Extensions we understand when a peer requires them.
fn understood(option: &str) -> bool {
    ["outbound"].iter().any(|o| o.eq_ignore_ascii_case(option))
}

/// Refusals that need no state (RFC 3261 §8.2.1 to §8.2.3).
fn unfit(message: &Message) -> Option<Reject> {
    if message.method() == Method::Other {
        return Some(Reject::new(405, format!("{} is not served here", message.method_token())));
    }
    let missing: Vec<&str> = message.values(HeaderName::Require).filter(|o| !understood(o)).collect();
    if !missing.is_empty() {
        return Some(Reject::new(420, format!("{} is required but not spoken here", missing.join(", "))));
    }
    None
}

/// Whether a message on `hop` came from where `expected` goes.
fn same_source(expected: Hop, hop: Hop, remote: SocketAddr) -> bool {
    match expected {
        Hop::Flow(_) => expected == hop,
        Hop::Udp(a) | Hop::Tcp(a) => a.ip() == remote.ip(),
    }
}

impl Call {
    /// Whether nothing of it needs to be remembered any longer.
    pub fn is_done(&self) -> bool {
        self.state == State::Over && self.branches.iter().all(|b| b.state == crate::call::branch::BranchState::Over || !b.has_transaction())
    }

    /// Trunks with a leg of this call that is trying or talking, sorted.
    pub fn trunks_in_use(&self) -> Vec<String> {
        if self.state == State::Over {
            return Vec::new();
        }
        let live = self.branches.iter().filter(|b| b.is_trying() || Some(b.id) == self.b).map(|b| &b.leg.party);
        let mut names: Vec<String> = live.chain([&self.a.party]).filter_map(|p| match p {
            Party::Trunk(name) => Some(name.clone()),
            Party::User { .. } => None,
        }).collect();
        names.sort();
        names
    }

    fn legs(&self) -> impl Iterator<Item = &Leg> {
        std::iter::once(&self.a).chain(self.branches.iter().map(|b| &b.leg))
    }

    /// Ends whose messages go by `hop`.
    pub fn ends_on(&self, hop: Hop) -> Vec<EndId> {
        self.legs().filter(|l| l.hop == hop && l.dialog.is_some()).map(|l| l.end).collect()
    }

    /// Ends of this user and browser instance that wait for it to come back.
    pub fn lost_legs(&self, user: &str, instance: &str) -> Vec<EndId> {
        let same = |l: &&Leg| l.flow_lost && matches!(&l.party, Party::User { name, instance: Some(i) } if name == user && i == instance);
        self.legs().filter(same).map(|l| l.end).collect()
    }

    fn leg_of(&self, end: EndId) -> Option<&Leg> {
        self.legs().find(|l| l.end == end)
    }

    /// Where an end's messages go.
    pub fn hop_of(&self, end: EndId) -> Option<Hop> {
        self.leg_of(end).map(|l| l.hop)
    }

    /// An end's dialog.
    pub fn dialog_of(&self, end: EndId) -> Option<&crate::sip::dialog::Dialog> {
        self.leg_of(end).and_then(|l| l.dialog.as_ref())
    }

    /// Who is at an end.
    pub fn party_of(&self, end: EndId) -> Option<&Party> {
        self.leg_of(end).map(|l| &l.party)
    }
}

