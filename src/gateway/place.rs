//! Placing a new call: everything that can refuse it before it costs anything.

use super::dispatch::Sender;
use super::{Gateway, Live};
use crate::call::cdr::Cdr;
use crate::call::desk::Output;
use crate::call::leg::{Leg, Party};
use crate::call::{Branch, CALLER_END, Call, CallId, State};
use crate::dialplan::Attempt;
use crate::observe::Note;
use crate::sip::message::Message;
use crate::sip::status::Reject;
use crate::sip::transaction::{Flow, Hop, ServerId};
use crate::sip::uri::{Scheme, Uri};
use rand_core::RngCore;
use std::collections::VecDeque;
use std::time::Instant;

impl Gateway {
    pub(super) fn invite(&mut self, now: Instant, id: ServerId, hop: Hop, message: Message, sender: Sender, out: &mut Vec<Output>) {
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
        let remote = self.remote_of(hop);
        let mut cdr = Cdr::new(id, now, message);
        cdr.inbound = matches!(sender, Sender::Trunk(_));
        cdr.from = from;
        let mut unused = Vec::new();
        let mut desk = super::desk!(self, now, &mut unused);
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
