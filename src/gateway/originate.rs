//! Calls a web application asks for: everything that can refuse one before anybody is rung.

use super::{Gateway, Turn};
use crate::call::CallId;
use crate::call::context::Output;
use crate::call::invite_server::CallerInvite;
use crate::call::third_party::ThirdPartyCall;
use crate::cdr::Party;
use crate::config::User;
use crate::dialplan::{Attempt, DialOrder, Permits, Route, Step, Target};
use crate::errors::Code;
use crate::event::{CallerIdentity, Event};
use crate::hex::token;
use crate::sip::message::Message;
use crate::sip::parse::Framing;
use crate::sip::status::Refusal;
use crate::sip::transaction::Hop;
use crate::sip::uri::escape_user;
use rand_core::RngCore;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the first party is rung.
const RING_FIRST: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OriginateRequest {
    /// A user, who is rung on all its phones; or a number, which needs a context.
    pub from: String,
    /// The other party, as a number that is dialled.
    pub to: String,
    /// The dialplan of numbers; a user has its own.
    pub context: Option<String>,
    /// Returned in events and the record.
    pub tags: BTreeMap<String, String>,
}

/// A call that was found fit to begin.
#[derive(Debug)]
pub struct PlannedCall {
    /// Its name everywhere.
    pub call: CallId,
    from: String,
    party: Party,
    user: Option<Arc<User>>,
    context: String,
    dialled: String,
    number: String,
    first: Route,
    second: Route,
    tags: BTreeMap<String, String>,
}

impl Gateway {
    /// Looks whether a call may begin, and by which routes.
    ///
    /// # Errors
    /// The refusal a caller would get.
    pub fn plan_call(
        &mut self,
        now: Instant,
        wish: &OriginateRequest,
    ) -> Result<PlannedCall, Refusal> {
        let name = wish.from.strip_prefix("user:").unwrap_or(&wish.from);
        let user = self.registered(now, name).or_else(|| self.config.users.get(name).cloned());
        let context = user.as_ref().map(|u| u.context.clone()).or_else(|| wish.context.clone());
        let context = context.ok_or_else(|| {
            Refusal::new(404, format!("{name} is no user, and numbers need a context"))
                .code(Code::NO_ROUTE)
        })?;
        let permits = user.as_ref().map_or(Permits::NONE, |u| &u.permits).clone();
        let (second, number) = self.routed(now, &context, &wish.to, &permits)?;
        let first = match &user {
            Some(user) => ring(&user.name),
            None => self.routed(now, &context, name, &permits)?.0,
        };
        if !second.ignore_limits {
            self.within_load()?;
        }
        // The account counts, not where it came from.
        let party = match &user {
            Some(user) => Party::User { name: user.name.clone(), instance: None },
            None => Party::Number(name.to_owned()),
        };
        self.within_limits(now, &party, user.as_ref(), user.is_some() && second.ignore_limits)?;
        self.within_route(now, user.as_ref(), Some(&second))?;
        let tags = user
            .as_ref()
            .map(|u| u.tags.clone())
            .unwrap_or_default()
            .into_iter()
            .chain(wish.tags.clone())
            .collect();
        Ok(PlannedCall {
            call: CallId(self.services.random.next_u64()),
            from: name.to_owned(),
            party,
            user,
            context,
            dialled: wish.to.clone(),
            number,
            first,
            second,
            tags,
        })
    }

    /// The account of somebody who is registered and not (only) configured.
    fn registered(&self, now: Instant, name: &str) -> Option<Arc<User>> {
        self.services
            .registrar
            .bindings(now, name)
            .iter()
            .find_map(|b| self.services.flows.get(&b.flow)?.account.clone())
    }

    fn routed(
        &self,
        now: Instant,
        context: &str,
        dialled: &str,
        permits: &Permits,
    ) -> Result<(Route, String), Refusal> {
        let verdict =
            self.config.plan.route(&Attempt { context, dialled, unix: self.unix(now), permits });
        let verdict = verdict.filter(|_| !context.starts_with('@')).ok_or_else(|| {
            Refusal::new(404, format!("context {context} does not exist")).code(Code::NO_ROUTE)
        })?;
        verdict.decide(context)
    }

    /// Begins it.
    pub(super) fn begin_call(&mut self, turn: &mut Turn<'_>, plan: PlannedCall) {
        let call_id = plan.call;
        let invite = self.as_if_dialled(&plan);
        self.recorder.open(turn.now, call_id, &plan.from, &plan.number, invite.call_id());
        let hop = Hop::Udp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let (party, uas) = (Party::Internal(call_id), CallerInvite::of_nobody(invite));
        let mut call = self.new_call(turn.now, call_id, uas, hop, party);
        let cdr = call.cdr_mut();
        cdr.from = plan.party.clone();
        cdr.context = plan.context;
        cdr.route = Some(plan.second.name.clone());
        cdr.dialled = plan.dialled;
        cdr.number.clone_from(&plan.number);
        cdr.tags = plan.tags;
        let account = plan.user.as_deref();
        cdr.from_number = account.and_then(|u| u.did.clone()).unwrap_or_else(|| plan.from.clone());
        cdr.from_name = account.and_then(|u| u.display_name.clone()).unwrap_or_default();
        let route = plan.second.name.clone();
        let connecting =
            ThirdPartyCall { route: Box::new(plan.second), number: plan.number.clone() };
        call.ring_first((plan.first, plan.from.clone()), plan.user.clone(), connecting);
        turn.push(Output::Event(Event::CallStarted {
            call: call_id,
            from: plan.party,
            caller: CallerIdentity::recorded(call.cdr()),
            number: plan.number,
            route,
        }));
        let user = plan.user.map(|u| u.name.clone());
        self.calls.insert(call, user);
        self.with_call(turn, call_id, |call, cx| call.originate(cx));
    }

    /// The INVITE such a call would have begun with: from the number, to the first party.
    fn as_if_dialled(&mut self, plan: &PlannedCall) -> Message {
        let (domain, token) = (self.config.domain.clone(), token::<16>(&mut self.services.random));
        let (to, from) = (escape_user(&plan.from), escape_user(&plan.number));
        let text = format!(
            "INVITE sip:{to}@{domain} SIP/2.0\r\nVia: SIP/2.0/UDP 0.0.0.0;branch=z9hG4bK{token}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{from}@{domain}>;tag={token}\r\n\
             To: <sip:{to}@{domain}>\r\nCall-ID: {token}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:{from}@{domain}>\r\nUser-Agent: webtrunk API\r\nContent-Length: 0\r\n\r\n"
        );
        Message::parse(text.into_bytes(), Framing::Datagram)
            .unwrap_or_else(|e| unreachable!("what we write we can read: {e}"))
    }
}

/// The user, on all its phones.
fn ring(user: &str) -> Route {
    let step = Step::Ring {
        targets: vec![Target::User(user.to_owned())],
        timeout: Some(RING_FIRST),
        order: DialOrder::Together,
    };
    Route::of_steps(format!("first {user}"), vec![step])
}
