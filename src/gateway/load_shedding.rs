//! What is refused when too little is left: new calls, logins and texts, before they cost anything.
//! Never what belongs to a call in progress, nor an emergency call, nor who is logged in.

use super::overload::{NewWork, Overloaded, QueueKind, Shed};
use super::turn::RequestSource;
use super::{Gateway, Turn};
use crate::call::CallId;
use crate::errors::Code;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::{Method, Refusal};
use crate::sip::transaction::{Hop, MAX_OF_USER};
use crate::sip::uri::Uri;
use crate::worker::load::WorkerLoad;
use rand_core::RngCore;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// When who was refused is to come back, seconds: at random, so that they do not all come at once.
const AGAIN: std::ops::Range<u32> = 5..31;

impl Gateway {
    /// The core begins a turn.
    pub fn turn_began(&mut self, now: Instant) {
        self.overload.turn_began(now);
    }

    /// The core's turn has ended, and all that came of it is done; it took `worked` of a processor.
    pub fn turn_ended(&mut self, now: Instant, worked: Duration) {
        self.overload.turn_ended(now, worked);
    }

    /// The next input has waited so long for the core, and so many wait behind it.
    pub fn waited(&mut self, now: Instant, queue: QueueKind, waited: Duration, backlog: usize) {
        self.overload.waited(now, queue, waited, backlog);
    }

    /// What a media worker did in its last second.
    pub(crate) fn worker_load(&mut self, now: Instant, worker: usize, load: WorkerLoad) {
        self.overload.units.report(now, worker, load);
    }

    /// Calls that would be taken now, one after the other.
    pub fn calls_left(&self) -> usize {
        let limit = self.config.limits.calls.saturating_sub(self.calls.live());
        match self.overload.of_calls() {
            None if !self.draining && !self.upgrading => self.overload.units.left().min(limit),
            _ => 0,
        }
    }

    /// Why new calls are refused now, if it is for overload.
    pub fn overloaded(&self) -> Option<Overloaded> {
        self.overload.of_calls()
    }

    /// Requests refused for overload since the start: calls, logins, texts.
    pub(crate) fn shed(&self) -> Shed {
        self.overload.shed()
    }

    /// Whether enough is left for a new call.
    ///
    /// # Errors
    /// The refusal of it.
    pub(super) fn within_load(&mut self) -> Result<(), Refusal> {
        let Some(why) = self.overload.of_calls() else { return Ok(()) };
        self.overload.refused(NewWork::Call);
        Err(self.overload_refusal(why))
    }

    fn overload_refusal(&mut self, why: Overloaded) -> Refusal {
        let spread = AGAIN.end - AGAIN.start;
        let again = AGAIN.start + self.services.random.next_u32() % spread;
        Refusal::new(503, format!("the gateway is overloaded: {}", why.as_str()))
            .code(Code::OVERLOADED)
            .retry_after(again)
    }

    /// The refusal of a request whose sender has its share of all that is under way: it
    /// acknowledges nothing, or asks faster than it hears. Who hangs up needs no share.
    pub(super) fn screen_share(&self, hop: Hop, message: &Message) -> Option<Refusal> {
        let sender = self.sender(hop).filter(|_| message.method() != Method::Bye)?;
        let most = if let RequestSource::User(..) = sender { MAX_OF_USER } else { usize::MAX };
        let name = sender.name();
        if self.services.transactions.has_room_for(&name, most) {
            return None;
        }
        let why = format!("too many requests of {name} are under way, or not acknowledged");
        Some(Refusal::new(503, why).code(Code::LIMIT).retry_after(AGAIN.end))
    }

    /// The refusal of a request that would begin something new, if too little is left for it.
    pub(super) fn screen_load(
        &mut self,
        turn: &Turn<'_>,
        hop: Hop,
        remote: SocketAddr,
        message: &Message,
    ) -> Option<Refusal> {
        if let Some(refused) = self.screen_share(hop, message) {
            return Some(refused);
        }
        let (what, why) = match message.method() {
            Method::Invite => (NewWork::Call, self.overload.of_calls()?),
            Method::Register => (NewWork::Login, self.overload.of_core()?),
            Method::Message => (NewWork::Text, self.overload.of_core()?),
            _ => return None,
        };
        let goes_on = match what {
            NewWork::Call => self.takes_a_place(message) || self.is_emergency(hop, message),
            NewWork::Login => self.is_logged_in(turn.now, hop, remote, message),
            NewWork::Text => false,
        };
        // A few are refused as any call is: with a record, a ladder and a verdict.
        let known = what == NewWork::Call && self.sender(hop).is_some();
        if goes_on || known && self.overload.may_record(turn.now) {
            return None;
        }
        self.overload.refused(what);
        Some(self.overload_refusal(why))
    }

    /// Whether an INVITE takes the place of a leg of a call (RFC 3891): a transfer.
    fn takes_a_place(&self, invite: &Message) -> bool {
        let tags = invite.header(HeaderName::Replaces).into_iter().flat_map(|v| v.split(';'));
        let mut tags = tags.filter_map(|p| p.trim().split_once("-tag=")).map(|(_, tag)| tag);
        tags.any(|tag| self.services.dialogs.contains_key(tag))
    }

    /// Whether its route may take calls beyond all limits.
    fn is_emergency(&self, hop: Hop, invite: &Message) -> bool {
        let Some(sender) = self.sender(hop) else { return false };
        let account = self.account_of(&sender);
        let context = self.context_of(&sender, account.as_ref());
        let uri = Uri::parse(invite.request_uri());
        context.ok().zip(uri.ok()).is_some_and(|(context, uri)| {
            self.config.plan.may_ignore_limits(&context, &uri.number())
        })
    }

    /// Whether a REGISTER is of somebody who is logged in already, or whose calls wait for it.
    fn is_logged_in(&self, now: Instant, hop: Hop, remote: SocketAddr, register: &Message) -> bool {
        let Hop::Flow(flow) = hop else { return self.services.trunks.bound_from(remote).is_some() };
        self.identity_of(now, flow).is_some()
            || self.services.trunks.bound_from(remote).is_some()
            || register
                .from()
                .is_some_and(|f| self.overload.expects(now, f.uri.user_unescaped().as_ref()))
    }

    /// A browser's connection was lost while it had calls.
    pub(super) fn expect_back(&mut self, now: Instant, who: Option<(String, IpAddr)>) {
        let Some((user, remote)) = who else { return };
        let until = now + self.config.sip.flow_grace;
        self.overload.expect(now, user, until);
        self.awaited = Some((remote, until));
    }

    /// The peer whose last input kept us busy: its address, and until when.
    pub(crate) fn take_awaited(&mut self) -> Option<(IpAddr, Instant)> {
        self.awaited.take()
    }

    /// Where a user has registered from by the last input.
    pub(crate) fn take_proved(&mut self) -> Option<IpAddr> {
        self.proved.take()
    }

    /// A call that is over no longer counts as one that may still be answered.
    pub(super) fn no_longer_young(&mut self, id: CallId) {
        if let Some(call) = self.calls.get(id) {
            self.overload.units.ended(call.worker(), call.cdr().start);
        }
    }
}
