//! Placing a new call: everything that can refuse it before it costs anything.

use super::registering::TEMPORARY;
use super::turn::Incoming;
use super::turn::RequestSource;
use super::{Gateway, Turn};
use crate::brakes::CROWD;
use crate::call::caller_id::Caller;
use crate::call::context::Output;
use crate::call::invite_server::CallerInvite;
use crate::call::leg::Leg;
use crate::call::route_cursor::RouteCursor;
use crate::call::{CALLER_LEG, Call, CallId, EndReason, HangupBy, MAX_BREADTH};
use crate::cdr::{Cdr, Party, kept};
use crate::cluster::token::TemporaryGruu;
use crate::cluster::token::short;
use crate::config::{Config, User};
use crate::dialplan::{Attempt, Permits, Route};
use crate::errors::Code;
use crate::event::{CallerIdentity, Event};
use crate::flow::account;
use crate::recorder::diagnosis::diagnose;
use crate::registrar::WantedPhone;
use crate::sip::header::delta_seconds;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::Refusal;
use crate::sip::transaction::{Flow, Hop, ServerId};
use crate::sip::uri::{Scheme, Uri};
use rand_core::RngCore;
use std::sync::Arc;
use std::time::Instant;

/// Calls of a user beyond its limit, by routes that are exempt from limits.
const MOST_EMERGENCIES_OF_USER: usize = 4;
/// The same, of a trunk.
const MOST_EMERGENCIES_OF_TRUNK: usize = 20;
/// Visitors of one network have one of so many calls of all, at most.
const CROWD_SHARE: usize = 4;

impl Gateway {
    pub(super) fn invite(
        &mut self,
        turn: &mut Turn<'_>,
        id: ServerId,
        hop: Hop,
        message: Message,
        sender: RequestSource,
    ) {
        let party = self.party_of(turn.now, &sender);
        let incoming = Incoming { id, hop, message: &message };
        if self.replace_own_leg(turn, &incoming, &sender, &party) {
            return;
        }
        let call_id = CallId(self.services.random.next_u64());
        self.recorder.open(
            turn.now,
            call_id,
            &party.to_string(),
            &dialled_user(&message),
            message.call_id(),
        );
        match self.place(turn.now, call_id, &incoming, &sender, &party) {
            Ok((mut call, route)) => {
                let caller = identity_of(&call, &self.config);
                let cdr = call.cdr_mut();
                (cdr.from_number, cdr.from_name) = (caller.number.clone(), caller.name.clone());
                let number = call.number().to_owned();
                turn.push(Output::Event(Event::CallStarted {
                    call: call_id,
                    from: party,
                    caller,
                    number,
                    route,
                }));
                let user = match &call.caller().party {
                    Party::User { name, .. } => Some(name.clone()),
                    _ => None,
                };
                self.calls.insert_received(call, user);
                self.with_call(turn, call_id, |call, cx| call.start(cx));
            }
            Err(why) => {
                let told = self.tells_refusal(turn.now, &sender);
                let record = refused_record(call_id, turn.now, &message, party, &why);
                turn.push(Output::Event(Event::CallRefused {
                    call: call_id,
                    from: record.from.clone(),
                    caller: CallerIdentity::recorded(&record),
                    to: message.request_uri().to_owned(),
                    status: why.status,
                    code: why.code,
                    why: why.why.clone(),
                    told,
                }));
                self.refused += 1;
                if told {
                    self.recorder.ended(call_id, Arc::new(record));
                } else {
                    self.recorder.forget(call_id);
                }
                self.refuse(turn, id, &message, &why);
            }
        }
    }

    /// Whether a refused call is recorded and told: as many as its sender may begin.
    fn tells_refusal(&mut self, now: Instant, sender: &RequestSource) -> bool {
        let (is_trunk, pace) = match sender {
            RequestSource::Trunk(name) => {
                let pace = self.config.trunks.get(name).and_then(|t| t.calls_per_second);
                (true, Some(pace.unwrap_or(self.config.limits.new_calls_per_second)))
            }
            RequestSource::User(..) => {
                (false, self.account_of(sender).and_then(|user| user.calls_per_second))
            }
        };
        self.services.brakes.tells_refusal(now, &sender.name(), is_trunk, pace)
    }

    /// What a user may do: as its login on this flow said, else as it is configured.
    pub(super) fn user(&self, user: &str, flow: Flow) -> Option<Arc<User>> {
        account(&self.services.flows, &self.config, user, Some(flow))
    }

    pub(super) fn account_of(&self, sender: &RequestSource) -> Option<Arc<User>> {
        match sender {
            RequestSource::User(user, flow) => self.user(user, *flow),
            RequestSource::Trunk(_) => None,
        }
    }

    /// Returns the dialplan that the sender's calls begin in.
    ///
    /// # Errors
    /// The refusal of who has none.
    pub(super) fn context_of(
        &self,
        sender: &RequestSource,
        account: Option<&Arc<User>>,
    ) -> Result<String, Refusal> {
        match sender {
            RequestSource::User(..) => {
                let context = account.map(|u| u.context.clone());
                context.ok_or_else(|| {
                    Refusal::new(403, "the user is not configured any more").code(Code::NOT_ALLOWED)
                })
            }
            RequestSource::Trunk(name) => {
                let context = self.config.trunks.get(name).and_then(|t| t.context.clone());
                context.ok_or_else(|| {
                    Refusal::new(403, format!("trunk {name} has no context for incoming calls"))
                        .code(Code::NOT_ALLOWED)
                })
            }
        }
    }

    /// Everything that can refuse a call before it costs anything.
    fn place(
        &mut self,
        now: Instant,
        id: CallId,
        incoming: &Incoming<'_>,
        sender: &RequestSource,
        party: &Party,
    ) -> Result<(Call, String), Refusal> {
        let message = incoming.message;
        let max_forwards = message.max_forwards();
        if max_forwards == 0 {
            return Err(Refusal::new(483, "Max-Forwards is used up: a loop?").code(Code::LOOP));
        }
        if message.contact().is_none() {
            return Err(Refusal::new(400, "an INVITE needs a Contact").code(Code::MALFORMED));
        }
        self.check_merged_request(message)?;
        let uri = Uri::parse(message.request_uri())
            .map_err(|e| Refusal::new(400, e.to_string()).code(Code::MALFORMED))?;
        if uri.scheme == Scheme::Other {
            return Err(Refusal::new(416, "only sip, sips and tel URIs are routed"));
        }
        let replaces = self.replaced(now, message, sender)?;
        let account = self.account_of(sender);
        let context = self.context_of(sender, account.as_ref())?;
        let (dialled, wanted) = self.gruu(now, &uri)?;
        let permits = account.as_ref().map_or(Permits::NONE, |a| &a.permits);
        let verdict = self.config.plan.route(&Attempt {
            context: &context,
            dialled: &dialled,
            unix: self.unix(now),
            permits,
        });
        let mut verdict = verdict
            .ok_or_else(|| Refusal::new(500, format!("context {context} does not exist")))?;
        self.routed.push((id, std::mem::take(&mut verdict.trace)));
        let number = verdict.number.clone();
        // An INVITE that replaces an active call needs no route: that call was admitted already.
        let route = match (&replaces, verdict.decide(&context)) {
            (_, Ok((route, _))) => Some(route),
            (Some(_), Err(_)) => None,
            (None, Err(why)) => return Err(why),
        };
        let ignore = route.as_ref().is_some_and(|r| r.ignore_limits);
        if !ignore && replaces.is_none() {
            self.within_load()?;
        }
        self.within_limits(now, party, account.as_ref(), ignore)?;
        self.within_route(now, account.as_ref(), route.as_ref())?;
        let uas = CallerInvite::new(message.clone(), incoming.id);
        let mut call = self.new_call(now, id, uas, incoming.hop, party.clone());
        call.take_offer(&self.config, &self.services.identity.reach)?;
        call.check_session()?;
        let name = route.as_ref().map_or("Replaces".to_owned(), |r| r.name.clone());
        let cdr = call.cdr_mut();
        cdr.context = context;
        cdr.route = Some(name.clone());
        cdr.dialled = dialled;
        cdr.number.clone_from(&number);
        cdr.tags = account.as_ref().map(|a| a.tags.clone()).unwrap_or_default();
        cdr.tags.extend(route.iter().flat_map(|r| r.tags.clone()));
        let mut cursor = RouteCursor::new(max_forwards - 1, max_breadth_of(message));
        cursor.want_phone(wanted);
        match route {
            Some(route) => cursor.begin(route, number),
            None => cursor.call_number(number),
        }
        call.take_route(cursor, replaces);
        Ok((call, name))
    }

    /// A GRUU of ours becomes its user, and the one phone that is meant (RFC 5627 §6.1).
    fn gruu(&self, now: Instant, uri: &Uri<'_>) -> Result<(String, Option<WantedPhone>), Refusal> {
        let Some(gr) =
            uri.params.get("gr").filter(|_| uri.host.eq_ignore_ascii_case(&self.config.domain))
        else {
            return Ok((uri.number(), None));
        };
        let user = uri.user_unescaped().into_owned();
        if let Some(token) = user.strip_prefix(TEMPORARY) {
            if let Some((user, instance)) = self.services.registrar.temp_gruu(token).cloned() {
                return Ok((user, Some(WantedPhone { instance, registered: None })));
            }
            let named = self.services.cluster.as_ref().and_then(|c| c.open_temporary_gruu(token));
            // A phone that is here has ended it if it has registered by another Call-ID since.
            let ended = |named: &TemporaryGruu| {
                let bindings = self.services.registrar.bindings(now, &named.user);
                let mut own = bindings.iter().filter(|b| b.is_of(&named.instance));
                own.any(|b| short(Some(&b.call_id)) != named.registered)
            };
            let named = named
                .filter(|named| !ended(named))
                .ok_or_else(|| Refusal::new(404, "this temporary GRUU is not valid any more"))?;
            let TemporaryGruu { user, instance, registered } = named;
            return Ok((user, Some(WantedPhone { instance, registered: Some(registered) })));
        }
        let wanted = |gr: &str| WantedPhone { instance: format!("<{gr}>"), registered: None };
        Ok((user, (!gr.is_empty()).then(|| wanted(gr))))
    }

    /// RFC 3261 §8.2.2.2: the same request by two paths; RFC 5393: our own request, come back.
    fn check_merged_request(&self, message: &Message) -> Result<(), Refusal> {
        if self.calls.is_handling(message) {
            return Err(Refusal::new(
                482,
                "this INVITE is already being handled: it came by two paths",
            )
            .code(Code::LOOP));
        }
        if self.services.own_call_ids.contains_key(message.call_id()) {
            return Err(
                Refusal::new(482, "this INVITE is our own, come back: a loop").code(Code::LOOP)
            );
        }
        Ok(())
    }

    /// A route's own brake on what one user spends in an hour.
    ///
    /// # Errors
    /// 503 if it is reached.
    pub(super) fn within_route(
        &mut self,
        now: Instant,
        user: Option<&Arc<User>>,
        route: Option<&Route>,
    ) -> Result<(), Refusal> {
        match (user, route) {
            (Some(user), Some(route)) => self.services.brakes.route(now, user, route),
            _ => Ok(()),
        }
    }

    /// What holds for all visitors of one network together, whose names have no end.
    ///
    /// # Errors
    /// The refusal that names the limit.
    fn within_crowd(&mut self, now: Instant, user: &User) -> Result<(), Refusal> {
        let Some(crowd) = user.crowd() else { return Ok(()) };
        let most = self.config.limits.calls.div_ceil(CROWD_SHARE);
        if self.calls.of_user(&crowd) >= most {
            let why = format!("{crowd} have {most} calls, a part of limits.calls");
            return Err(Refusal::new(503, why).code(Code::LIMIT).retry_after(10));
        }
        let pace = self.config.limits.new_calls_per_second_per_user.saturating_mul(2);
        self.services.brakes.call(now, &crowd, pace)
    }

    /// What holds for every new call.
    ///
    /// # Errors
    /// 503 while it is drained, upgraded or full.
    pub(super) fn within_all(&self) -> Result<(), Refusal> {
        if self.draining {
            return Err(Refusal::new(503, "the gateway is draining: it takes no new calls")
                .code(Code::DRAINING)
                .retry_after(10));
        }
        if self.upgrading {
            return Err(Refusal::new(503, "the gateway is being upgraded")
                .code(Code::DRAINING)
                .retry_after(5));
        }
        let limits = &self.config.limits;
        if self.calls.live() >= limits.calls {
            return Err(Refusal::new(503, format!("limits.calls = {} is reached", limits.calls))
                .code(Code::LIMIT)
                .retry_after(10));
        }
        Ok(())
    }

    /// Counts one more call of this second.
    ///
    /// # Errors
    /// 503 if there were too many.
    pub(super) fn within_pace(&mut self, now: Instant) -> Result<(), Refusal> {
        let limits = &self.config.limits;
        let limit = limits.new_calls_per_second;
        if !self.pace.take(now, Some(limit)) {
            return Err(Refusal::new(
                503,
                format!("limits.new_calls_per_second = {limit} is reached"),
            )
            .code(Code::LIMIT)
            .retry_after(2));
        }
        Ok(())
    }

    /// Checks the limits on calls at one time: of the node, the user and the trunk.
    ///
    /// # Errors
    /// The refusal that names the limit.
    pub(super) fn within_limits(
        &mut self,
        now: Instant,
        party: &Party,
        user: Option<&Arc<User>>,
        ignore: bool,
    ) -> Result<(), Refusal> {
        if ignore {
            return self.within_emergencies(now, party, user);
        }
        self.within_all()?;
        let limits = self.config.limits.clone();
        match party {
            Party::User { name, .. } => {
                let most = user.and_then(|u| u.max_calls).unwrap_or(limits.calls_per_user);
                let all = self.services.cluster.as_ref();
                let elsewhere = all.map_or(0, |cluster| cluster.calls_elsewhere(now, name));
                if self.calls.of_user(name) + elsewhere >= most {
                    return Err(Refusal::new(
                        486,
                        format!(
                            "{name} has its calls: {} = {most} is reached",
                            if user.is_some_and(|u| u.max_calls.is_some()) {
                                "max_calls"
                            } else {
                                "limits.calls_per_user"
                            }
                        ),
                    )
                    .code(Code::LIMIT));
                }
                let pace = user.and_then(|u| u.calls_per_second);
                let pace = pace.unwrap_or(limits.new_calls_per_second_per_user);
                self.services.brakes.call(now, name, pace)?;
                if let Some(user) = user {
                    self.within_crowd(now, user)?;
                }
            }
            Party::Trunk(name) => {
                let trunk = self.config.trunks.get(name);
                let full = |most: &usize| !self.services.trunk_has_room(now, name, *most);
                if let Some(most) = trunk.and_then(|t| t.max_calls).filter(full) {
                    return Err(Refusal::new(503, format!("trunk {name} has its {most} calls"))
                        .code(Code::LIMIT)
                        .retry_after(10));
                }
                let pace = trunk.and_then(|t| t.calls_per_second);
                if !self.services.take_trunk_call(now, name, pace) {
                    return Err(Refusal::new(
                        503,
                        format!(
                            "trunk {name} has made its {} calls of this second",
                            pace.unwrap_or(0)
                        ),
                    )
                    .code(Code::LIMIT)
                    .retry_after(2));
                }
            }
            Party::Number(_) | Party::Internal(_) => {}
        }
        self.within_pace(now)
    }

    /// What holds even for calls by routes that are exempt from limits: nobody may use up the trunk
    /// and the ports with them.
    fn within_emergencies(
        &mut self,
        now: Instant,
        party: &Party,
        user: Option<&Arc<User>>,
    ) -> Result<(), Refusal> {
        let limits = &self.config.limits;
        let (who, has, most) = match party {
            Party::User { name, .. } => {
                let most = user.and_then(|u| u.max_calls).unwrap_or(limits.calls_per_user);
                (name.clone(), self.calls.of_user(name), most + MOST_EMERGENCIES_OF_USER)
            }
            Party::Trunk(name) => {
                let most = self.config.trunks.get(name).and_then(|t| t.max_calls);
                let has = self.services.trunk_calls.of(name.as_str());
                let most = most.unwrap_or(limits.calls) + MOST_EMERGENCIES_OF_TRUNK;
                (format!("trunk {name}"), has, most)
            }
            Party::Number(_) | Party::Internal(_) => return Ok(()),
        };
        if has >= most {
            let why = format!("{who} has {has} calls, more than anybody's emergency needs");
            return Err(Refusal::new(486, why).code(Code::LIMIT));
        }
        if let Some(crowd) = user.and_then(|user| user.crowd()) {
            self.services.brakes.emergency(now, &crowd, CROWD)?;
        }
        self.services.brakes.emergency(now, &who, 1)
    }

    fn party_of(&self, now: Instant, sender: &RequestSource) -> Party {
        match sender {
            RequestSource::User(user, flow) => {
                let bindings = self.services.registrar.bindings(now, user);
                let instance = bindings
                    .into_iter()
                    .find(|b| b.flow == *flow)
                    .and_then(|b| b.instance)
                    .map(|i| i.0);
                Party::User { name: user.clone(), instance }
            }
            RequestSource::Trunk(name) => Party::Trunk(name.clone()),
        }
    }

    pub(super) fn new_call(
        &mut self,
        now: Instant,
        id: CallId,
        uas: CallerInvite,
        hop: Hop,
        party: Party,
    ) -> Call {
        let worker = self.overload.units.take(now);
        let remote = self.remote_of(hop);
        let mut cdr = Cdr::new(id, now, party.clone(), uas.invite());
        cdr.inbound = matches!(party, Party::Trunk(_));
        cdr.remotes[0] = remote.map(|r| r.ip());
        cdr.offered.clone_from(&self.config.public_ips);
        let mut unused = Vec::new();
        let turn = &mut Turn::new(now, &mut unused);
        let mut cx = self.context(turn);
        let ip = remote.map_or(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), |r| r.ip());
        let caller = Leg::new(&mut cx, party, CALLER_LEG, hop, ip);
        Call::new(id, worker, uas, caller, cdr)
    }
}

/// The number of the Request-URI as it was dialled.
fn dialled_user(message: &Message) -> String {
    Uri::parse(message.request_uri())
        .map_or_else(|_| "?".to_owned(), |uri| uri.number().chars().take(80).collect())
}

/// The caller, from the account or the trunk.
fn identity_of(call: &Call, config: &Config) -> CallerIdentity {
    let (number, name) = Caller::recorded(call, config);
    CallerIdentity { number: kept(&number), name: kept(&name) }
}

/// The record of an INVITE that became no call.
fn refused_record(id: CallId, now: Instant, message: &Message, from: Party, why: &Refusal) -> Cdr {
    let inbound = from.trunk().is_some();
    let mut cdr = Cdr::new(id, now, from, message);
    (cdr.inbound, cdr.dialled) = (inbound, dialled_user(message));
    cdr.ended(now, &EndReason::refused(HangupBy::Us, why.clone()));
    cdr.verdict = Some(diagnose(&cdr));
    cdr
}

/// How many branches may be made of an INVITE (RFC 5393 §5.3.3).
fn max_breadth_of(message: &Message) -> u32 {
    let said = message.header(HeaderName::MaxBreadth).and_then(delta_seconds);
    said.unwrap_or(MAX_BREADTH).min(MAX_BREADTH)
}
