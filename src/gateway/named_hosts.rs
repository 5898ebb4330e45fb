//! Descriptions of trunks that name a host in place of an address: their messages wait for DNS, and
//! continue with the address. So nothing behind this ever sees a name, and an address that was
//! found is held to the policy of one that was written.
//!
//! Invariants:
//! - Messages of one dialog keep their order: what comes after one that waits waits behind it.
//! - Nothing waits longer than [`LONGEST`]; then the message continues as it came, and is refused
//!   for having no address.

use super::{FlowKind, Gateway, Turn};
use crate::call::context::{DnsWaiter, TransactionUser};
use crate::call::{Output, Question};
use crate::cdr::Party;
use crate::errors::Code;
use crate::resolver::DnsQuery;
use crate::sdp::named_hosts::{named_hosts, with_addresses};
use crate::sip::build::MessageWriter;
use crate::sip::message::Message;
use crate::sip::status::{Method, Refusal};
use crate::sip::transaction::{ClientId, Hop, ServerId, TransactionEvent};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long a message waits: as long as nobody who dials notices.
const LONGEST: Duration = Duration::from_secs(2);
/// Messages that wait, of all trunks and of one; further ones continue as they came.
const MOST: usize = 256;
const MOST_OF_TRUNK: usize = 32;

/// Whose a message is, and where it came from.
struct MessageSource {
    trunk: String,
    ip: Option<IpAddr>,
}

struct AwaitingName {
    until: Instant,
    source: MessageSource,
    call_id: String,
    event: TransactionEvent,
}

impl AwaitingName {
    /// Whether it is the request of this transaction.
    fn is_of(&self, target: ServerId) -> bool {
        match &self.event {
            TransactionEvent::Request { id, .. } => *id == target,
            _ => false,
        }
    }
}

/// The messages that wait, in the order they came.
#[derive(Default)]
pub(super) struct NamedHosts {
    held: Vec<AwaitingName>,
}

impl NamedHosts {
    /// Returns how many wait.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// The earliest deadline.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.held.iter().map(|held| held.until).min()
    }

    /// The last message that `event` must not overtake.
    fn before(&self, event: &TransactionEvent) -> Option<&AwaitingName> {
        if self.held.is_empty() {
            return None;
        }
        let client = client_of(event);
        let call_id = message_of(event).map(Message::call_id);
        self.held.iter().rev().find(|held| match client {
            Some(_) if call_id.is_none() => client_of(&held.event) == client,
            _ => call_id == Some(held.call_id.as_str()),
        })
    }

    fn has_place(&self, trunk: &str) -> bool {
        let of_trunk = || self.held.iter().filter(|h| h.source.trunk == trunk).count();
        self.held.len() < MOST && of_trunk() < MOST_OF_TRUNK
    }
}

fn message_of(event: &TransactionEvent) -> Option<&Message> {
    match event {
        TransactionEvent::Request { target: Some(_), .. } => None,
        TransactionEvent::Request { message, .. }
        | TransactionEvent::Ack { message, .. }
        | TransactionEvent::Response { message, .. } => Some(message),
        TransactionEvent::Timeout { .. }
        | TransactionEvent::Ended { .. }
        | TransactionEvent::LateSuccess { .. }
        | TransactionEvent::Stray => None,
    }
}

fn client_of(event: &TransactionEvent) -> Option<ClientId> {
    match event {
        TransactionEvent::Response { id, .. }
        | TransactionEvent::Timeout { id }
        | TransactionEvent::Ended { id } => Some(*id),
        _ => None,
    }
}

/// Returns the names in a message's description; empty if ICE decides where media goes.
fn names_of(message: &Message) -> Vec<&str> {
    match message.body_of("application/sdp") {
        Some(sdp) if memchr::memmem::find(sdp, b"a=ice-ufrag").is_none() => named_hosts(sdp),
        _ => Vec::new(),
    }
}

impl Gateway {
    /// Returns the event if it may continue now, with addresses instead of its names.
    pub(super) fn awaiting_no_name(
        &mut self,
        turn: &mut Turn<'_>,
        event: TransactionEvent,
    ) -> Option<TransactionEvent> {
        if let Some(before) = self.named_hosts.before(&event)
            && self.named_hosts.has_place(&before.source.trunk)
        {
            let source = MessageSource { trunk: before.source.trunk.clone(), ip: before.source.ip };
            let (until, call_id) = (before.until, before.call_id.clone());
            self.named_hosts.held.push(AwaitingName { until, source, call_id, event });
            return None;
        }
        let Some(message) = message_of(&event) else { return Some(event) };
        if message.body().is_empty() || names_of(message).is_empty() {
            return Some(event);
        }
        let Some(source) = self.trunk_that_sent(&event) else { return Some(event) };
        let unknown = self.unknown_names(turn.now, message);
        if unknown.is_empty() || !self.named_hosts.has_place(&source.trunk) {
            return Some(self.with_known_names(turn.now, &source, event));
        }
        for query in unknown {
            let waiting = self.services.pending_queries.entry(query.clone()).or_default();
            if waiting.is_empty() {
                turn.out.push(Output::Ask(Question::Dns(query)));
            }
            if !waiting.contains(&DnsWaiter::Description) {
                waiting.push(DnsWaiter::Description);
            }
        }
        if let TransactionEvent::Request { id, message, .. } = &event
            && message.method() == Method::Invite
        {
            self.respond(turn, *id, 100, MessageWriter::response(message, 100, None));
        }
        let (until, call_id) = (turn.now + LONGEST, message.call_id().to_owned());
        self.named_hosts.held.push(AwaitingName { until, source, call_id, event });
        None
    }

    /// Lets go what waits for nothing any more.
    pub(super) fn release_named(&mut self, turn: &mut Turn<'_>) {
        let mut kept: Vec<AwaitingName> = Vec::new();
        for held in std::mem::take(&mut self.named_hosts.held) {
            let behind = kept.iter().any(|before| before.call_id == held.call_id);
            let waits = held.until > turn.now
                && message_of(&held.event)
                    .is_some_and(|m| !self.unknown_names(turn.now, m).is_empty());
            if behind || waits {
                kept.push(held);
                continue;
            }
            let event = self.with_known_names(turn.now, &held.source, held.event);
            self.deliver(turn, event);
        }
        kept.append(&mut self.named_hosts.held);
        self.named_hosts.held = kept;
    }

    /// Gives up what has waited long enough.
    pub(super) fn named_hosts_due(&mut self, turn: &mut Turn<'_>) {
        if self.named_hosts.next_timeout().is_some_and(|at| at <= turn.now) {
            self.release_named(turn);
        }
    }

    /// A request that waits is cancelled: it is answered, and nothing comes of it.
    pub(super) fn cancel_named(&mut self, turn: &mut Turn<'_>, target: ServerId) -> bool {
        let held = &mut self.named_hosts.held;
        let Some(at) = held.iter().position(|h| h.is_of(target)) else { return false };
        if let TransactionEvent::Request { id, message, .. } = held.remove(at).event {
            let why = Refusal::new(487, "the caller hung up before the answer");
            self.refuse(turn, id, &message, &why.code(Code::CANCELLED));
        }
        true
    }

    /// The trunk whose request waits, if it is this one.
    pub(super) fn trunk_of_named(&self, target: ServerId) -> Option<&str> {
        let held = self.named_hosts.held.iter().find(|h| h.is_of(target));
        held.map(|held| held.source.trunk.as_str())
    }

    /// The trunk a message came from; only a trunk's names are looked up.
    fn trunk_that_sent(&self, event: &TransactionEvent) -> Option<MessageSource> {
        let client = match event {
            TransactionEvent::Request { hop, message, .. }
            | TransactionEvent::Ack { hop, message } => {
                return self.trunk_at(*hop).or_else(|| self.trunk_of_dialog(*hop, message));
            }
            _ => client_of(event)?,
        };
        let mut user = self.services.transaction_users.get(&client)?;
        while let TransactionUser::Challenged(challenged) = user {
            user = &challenged.user;
        }
        match user {
            TransactionUser::Branch(call, branch) => {
                let (trunk, hop) = self.calls.get(*call)?.trunk_of_branch(*branch)?;
                Some(MessageSource { trunk, ip: self.remote_of(hop).map(|a| a.ip()) })
            }
            TransactionUser::Leg(call, end, _) => {
                let leg = self.calls.get(*call)?.leg_of(*end)?;
                let Party::Trunk(trunk) = &leg.party else { return None };
                Some(MessageSource {
                    trunk: trunk.clone(),
                    ip: self.remote_of(leg.hop).map(|a| a.ip()),
                })
            }
            _ => None,
        }
    }

    /// A trunk known by name only, of which a call is.
    fn trunk_of_dialog(&self, hop: Hop, message: &Message) -> Option<MessageSource> {
        let (call, end) = self.services.dialogs.get(message.to()?.tag()?)?;
        let leg = self.calls.get(*call)?.leg_of(*end)?;
        let Party::Trunk(trunk) = &leg.party else { return None };
        Some(MessageSource { trunk: trunk.clone(), ip: self.remote_of(hop).map(|a| a.ip()) })
    }

    fn trunk_at(&self, hop: Hop) -> Option<MessageSource> {
        if matches!(hop, Hop::Node(_)) || self.kind_of(hop) == Some(FlowKind::WebSocket) {
            return None;
        }
        let remote = self.remote_of(hop)?;
        Some(MessageSource { trunk: self.trunk_of(remote)?, ip: Some(remote.ip()) })
    }

    fn unknown_names(&self, now: Instant, message: &Message) -> Vec<DnsQuery> {
        let known = |name: &str| self.services.locator.known(now, name).err();
        names_of(message).into_iter().filter_map(known).collect()
    }

    /// The event with an address for each name that has one: the one its sender signals from, else
    /// one of that family.
    fn with_known_names(
        &self,
        now: Instant,
        source: &MessageSource,
        event: TransactionEvent,
    ) -> TransactionEvent {
        let best = |name: &str| {
            let ips = self.services.locator.known(now, name).ok()?;
            let from = source.ip.map(|ip| ip.to_canonical());
            let rank = |ip: &&IpAddr| match from {
                Some(from) if **ip == from => 0,
                Some(from) if ip.is_ipv4() == from.is_ipv4() => 1,
                _ => 2,
            };
            ips.iter().min_by_key(rank).map(|ip| (name.to_owned(), *ip))
        };
        let resolved = |message: Message| {
            let found: Vec<_> = names_of(&message).into_iter().filter_map(best).collect();
            let changed = (!found.is_empty())
                .then(|| message.with_body(&with_addresses(message.body(), &found)));
            changed.flatten().unwrap_or(message)
        };
        match event {
            TransactionEvent::Request { id, hop, message, target } => {
                TransactionEvent::Request { id, hop, message: resolved(message), target }
            }
            TransactionEvent::Ack { hop, message } => {
                TransactionEvent::Ack { hop, message: resolved(message) }
            }
            TransactionEvent::Response { id, message } => {
                TransactionEvent::Response { id, message: resolved(message) }
            }
            event => event,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_messages_wait_for_names_whoever_sends_them() {
        let mut hosts = NamedHosts::default();
        let until = Instant::now() + LONGEST;
        for n in 0..MOST {
            let source = MessageSource { trunk: format!("t{}", n / MOST_OF_TRUNK), ip: None };
            assert!(hosts.has_place(&source.trunk), "{n}");
            let event = TransactionEvent::Stray;
            hosts.held.push(AwaitingName { until, source, call_id: n.to_string(), event });
        }
        assert!(!hosts.has_place("t0") && !hosts.has_place("another"));
        assert_eq!((hosts.len(), hosts.next_timeout()), (MOST, Some(until)));
    }
}
