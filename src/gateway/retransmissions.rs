//! INVITEs and texts of trunks that began at some node, so that one which comes again to another is
//! not begun twice (RFC 3261 §17.2.3, §8.2.2.2).
//!
//! A trunk that gets no 100 in time sends its INVITE once more, and a balancer may hand that to
//! another node. So whoever begins something of a trunk's tells the others at once, or together
//! with what else begins in the same moment, which is long before the sender repeats it; nobody
//! waits for that, and the store is not asked. A node that knows of it asks whoever began it
//! (`node_queries`), and serves it itself if that one has nothing of it: a proxy tries another node
//! after the refusal of the first one. If both began it, neither having heard of the other in time,
//! the later one gives way.

use super::call_table::invite_key;
use super::edge_proxy::own_hop_off;
use super::turn::RequestSource;
use super::{Gateway, Turn};
use crate::call::{EndReason, HangupBy, Output};
use crate::cluster::token::short;
use crate::errors::Code;
use crate::hex::token;
use crate::sip::build::MessageWriter;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::{Method, Refusal};
use crate::sip::transaction::{Hop, T1X64, Transactions, Transmit};
use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is known to have begun.
const MAX_BEGUN: usize = 100_000;
/// How long what begins after something that was told waits, to be told with what else begins.
const TOGETHER: Duration = Duration::from_millis(20);
/// How much one message tells of: what a line of a header can say.
const MOST_TOLD: usize = 128;
/// What a message says of it: request, transaction, when, and the mark of the node; then request,
/// transaction, when of each further one. Between nodes only.
const BEGUN: &str = "X-Webtrunk-Begun";

/// Where a request began.
enum BegunAt {
    /// Here; the string leads to its call.
    Here(String),
    /// At the node of this mark.
    Elsewhere(Arc<str>),
}

/// A request that began something.
struct BegunRequest {
    at: BegunAt,
    /// Its transaction, in short: one that comes again has the same.
    transaction: u64,
    /// When it began, by the store's clock: milliseconds since 1970.
    since: u64,
    until: Instant,
}

/// What a node says to another of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ToldBegun {
    request: u64,
    transaction: u64,
    since: u64,
}

/// The requests that began something, by what makes them one request, in short.
#[derive(Default)]
pub(super) struct BegunRequests {
    known: HashMap<u64, BegunRequest>,
    ends: VecDeque<(Instant, u64)>,
    /// What began here and the others were not told of yet, and when they were told something last.
    untold: Vec<ToldBegun>,
    told: Option<Instant>,
}

/// What makes it one request, whichever way it comes.
fn request_of(message: &Message) -> u64 {
    short(Some(&format!("{} {}", message.method_token(), invite_key(message))))
}

/// Whether it begins something that must not begin twice.
fn begins(message: &Message) -> bool {
    matches!(message.method(), Method::Invite | Method::Message)
        && message.to().is_some_and(|to| to.tag().is_none())
}

impl BegunRequests {
    fn note(&mut self, now: Instant, request: u64, begun: BegunRequest) {
        while let Some((until, oldest)) = self.ends.front().copied()
            && (until <= now || self.ends.len() >= MAX_BEGUN)
        {
            self.ends.pop_front();
            if self.known.get(&oldest).is_some_and(|begun| begun.until == until) {
                self.known.remove(&oldest);
            }
        }
        self.ends.push_back((begun.until, request));
        self.known.insert(request, begun);
    }

    /// Returns the mark of the other node that this began at, if it did.
    pub(super) fn elsewhere(&self, now: Instant, message: &Message) -> Option<&str> {
        let begun = begins(message).then(|| self.known.get(&request_of(message)))??;
        match &begun.at {
            BegunAt::Elsewhere(mark) if now < begun.until => Some(mark),
            _ => None,
        }
    }

    /// The node that this began at has nothing of it.
    pub(super) fn forget(&mut self, message: &Message) {
        self.known.remove(&request_of(message));
    }

    /// When the others are to be told what they were not told yet.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let told = self.told.filter(|_| !self.untold.is_empty())?;
        Some(told + TOGETHER)
    }

    /// Takes what the others are to be told now.
    fn take_untold(&mut self, now: Instant) -> Option<Vec<ToldBegun>> {
        let waits = self.told.is_some_and(|told| now < told + TOGETHER);
        if self.untold.is_empty() || waits && self.untold.len() < MOST_TOLD {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl ToldBegun {
    /// Reads the mark of a node, and what began there.
    fn read_all(text: &str) -> Option<(Arc<str>, Vec<ToldBegun>)> {
        let mut words = text.split(' ');
        let first = ToldBegun::read(words.next()?, &mut words)?;
        let (mark, mut all) = (words.next()?.into(), vec![first]);
        while let Some(word) = words.next() {
            all.push(ToldBegun::read(word, &mut words)?);
        }
        Some((mark, all))
    }

    fn read<'a>(word: &str, more: &mut impl Iterator<Item = &'a str>) -> Option<ToldBegun> {
        let number = |word: &str| u64::from_str_radix(word, 16).ok();
        let request = number(word)?;
        Some(ToldBegun {
            request,
            transaction: number(more.next()?)?,
            since: number(more.next()?)?,
        })
    }

    /// What is said of all of these. The mark follows the first, and whoever knows of one only
    /// reads that.
    fn text_of(all: &[ToldBegun], mark: &str) -> String {
        let (mut text, mut mark) = (String::new(), Some(mark));
        for ToldBegun { request, transaction, since } in all {
            let space = if text.is_empty() { "" } else { " " };
            let _ = write!(text, "{space}{request:016x} {transaction:016x} {since:x}");
            if let Some(mark) = mark.take() {
                let _ = write!(text, " {mark}");
            }
        }
        text
    }
}

impl Gateway {
    /// Tells the other nodes of a request of a trunk that is about to begin something here.
    pub(super) fn tell_begun(&mut self, turn: &mut Turn<'_>, hop: Hop, message: &Message) {
        let Some(cluster) = &self.services.cluster else { return };
        if !begins(message) || matches!(hop, Hop::Node(_)) {
            return;
        }
        let Some(RequestSource::Trunk(trunk)) = self.sender(hop) else { return };
        if cluster.others().next().is_none()
            || self.services.transactions.knows(message)
            || !self.services.brakes.tells_begun(turn.now, &trunk)
        {
            return;
        }
        let told = ToldBegun {
            request: request_of(message),
            transaction: Transactions::short_key(message),
            since: cluster.store_millis(turn.now),
        };
        let ToldBegun { request, transaction, since } = told;
        let at = BegunAt::Here(invite_key(message));
        let begun = BegunRequest { at, transaction, since, until: turn.now + T1X64 };
        self.retransmissions.note(turn.now, request, begun);
        self.retransmissions.untold.push(told);
        self.begun_due(turn);
    }

    /// Tells the other nodes what is due of what began here.
    pub(super) fn begun_due(&mut self, turn: &mut Turn<'_>) {
        let Some(cluster) = &self.services.cluster else { return };
        let Some(untold) = self.retransmissions.take_untold(turn.now) else { return };
        let text = ToldBegun::text_of(&untold, cluster.mark());
        let others: Vec<SocketAddr> = cluster.others().collect();
        others.into_iter().for_each(|to| self.send_begun(turn, to, &text));
    }

    fn send_begun(&mut self, turn: &mut Turn<'_>, to: SocketAddr, told: &str) {
        let Some(cluster) = &self.services.cluster else { return };
        let at = cluster.advertise();
        let random = &mut self.services.random;
        let mut options = MessageWriter::request(Method::Options, &format!("sip:{to}"));
        let branch = token::<8>(random);
        options.put(HeaderName::Via, format_args!("SIP/2.0/TLS {at};branch=z9hG4bK{branch}"));
        options.put(HeaderName::MaxForwards, 1);
        options.put(HeaderName::From, format_args!("<sip:{at}>;tag={}", token::<8>(random)));
        options.put(HeaderName::To, format_args!("<sip:{to}>"));
        options.put(HeaderName::CallId, token::<8>(random));
        options.put(HeaderName::CSeq, "1 OPTIONS");
        options.put_named(HeaderName::Other, BEGUN, told);
        turn.push(Output::Send(Transmit { hop: Hop::Node(to), bytes: options.end() }));
    }

    /// Takes what another node tells of what it began; that is not answered. Returns false for
    /// anything else.
    pub(super) fn take_begun(&mut self, turn: &mut Turn<'_>, hop: Hop, message: &Message) -> bool {
        if !matches!(hop, Hop::Node(_)) || message.method() != Method::Options {
            return false;
        }
        let Some(value) = message.header_named(BEGUN).filter(|_| message.is_request()) else {
            return false;
        };
        let Some((mark, told)) = ToldBegun::read_all(value) else { return true };
        told.into_iter().for_each(|told| self.take_told(turn, &mark, told));
        true
    }

    /// Something began at the node of this mark.
    fn take_told(&mut self, turn: &mut Turn<'_>, mark: &Arc<str>, told: ToldBegun) {
        let ToldBegun { request, transaction, since: then } = told;
        if let Some(BegunRequest { at: BegunAt::Here(key), transaction: own, since, .. }) =
            self.retransmissions.known.get(&request)
        {
            let key = key.clone();
            let own = ToldBegun { request, transaction: *own, since: *since };
            // What came here before and is over says nothing of what began there since: a sender
            // that was refused here tries the next node, by another transaction.
            let over = own.transaction != transaction && self.calls.begun_by(&key).is_none();
            if !over && !self.yields(turn, &key, (own, told), mark) {
                return;
            }
        }
        let (at, until) = (BegunAt::Elsewhere(mark.clone()), turn.now + T1X64);
        self.retransmissions.note(
            turn.now,
            request,
            BegunRequest { at, transaction, since: then, until },
        );
    }

    /// Something began here, and at the node of this mark: the one that began later gives way.
    /// Returns whether that is this one.
    fn yields(
        &mut self,
        turn: &mut Turn<'_>,
        key: &str,
        (own, told): (ToldBegun, ToldBegun),
        mark: &str,
    ) -> bool {
        let here = self.services.cluster.as_ref().map_or("", |cluster| cluster.mark());
        if (own.since, here) < (told.since, mark) {
            // The others may have heard of the later one last, and would ask there.
            self.retransmissions.untold.push(own);
            self.begun_due(turn);
            return false;
        }
        self.yield_call(turn, key, own.transaction == told.transaction)
    }

    /// Another node began this call before: it ends here. Its caller hears nothing of that if it
    /// sent one INVITE, and 482 if it sent two. Returns false if the call was answered, or is none.
    fn yield_call(&mut self, turn: &mut Turn<'_>, key: &str, same: bool) -> bool {
        let early = self.calls.begun_by(key).filter(|call| !call.uas().is_finished());
        let Some((id, transaction)) = early.map(|call| (call.id(), call.uas().transaction()))
        else {
            return false;
        };
        if same {
            transaction.iter().for_each(|t| self.services.transactions.forget_server(*t));
        }
        let why = "another node has this call: its INVITE came to both";
        let why = Refusal::new(482, why).code(Code::LOOP);
        let end = EndReason::refused(HangupBy::Us, why);
        self.with_call(turn, id, |call, cx| call.finish(cx, end));
        true
    }

    /// A request that another node passed on because it began here: it is answered as whenever it
    /// comes again, by the way it came first. Whatever it was that is over has nothing of it.
    pub(super) fn take_again(&mut self, turn: &mut Turn<'_>, hop: Hop, message: &Message) -> bool {
        let known = own_hop_off(message).filter(|again| self.services.transactions.knows(again));
        if let Some(again) = known {
            self.tell_asker(turn, hop, message, true);
            self.give_transaction(turn, hop, again);
        } else if message.method() == Method::Invite && self.calls.is_handling(message) {
            let why = "this INVITE is already being handled: it came by two paths";
            let why = Refusal::new(482, why).code(Code::LOOP);
            self.respond_stateless(hop, message, &why, turn.out);
        } else {
            self.has_not(turn, hop, message);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::parse::MAX_HEADER_LINE;

    fn begun(now: Instant) -> BegunRequest {
        let at = BegunAt::Elsewhere("-n1".into());
        BegunRequest { at, transaction: 1, since: 1, until: now + T1X64 }
    }

    #[test]
    fn so_much_that_began_is_known_for_32_s_and_no_more() {
        let (now, mut requests) = (Instant::now(), BegunRequests::default());
        for n in 0..MAX_BEGUN as u64 + 50 {
            requests.note(now, n, begun(now));
        }
        assert_eq!((requests.known.len(), requests.ends.len()), (MAX_BEGUN, MAX_BEGUN));
        assert!(!requests.known.contains_key(&49) && requests.known.contains_key(&50));
        // What is told again lasts longer, and is not forgotten with its first time.
        let later = now + Duration::from_secs(20);
        requests.note(later, 50, begun(later));
        let over = now + T1X64;
        requests.note(over, u64::MAX, begun(over));
        assert_eq!((requests.known.len(), requests.ends.len()), (2, 2));
        assert!(requests.known.contains_key(&50));
    }

    fn told(request: u64) -> ToldBegun {
        ToldBegun { request, transaction: u64::MAX, since: 1_795_000_000_000 }
    }

    #[test]
    fn what_begins_alone_is_told_at_once_and_what_begins_together_with_one_message() {
        let (mut now, mut requests) = (Instant::now(), BegunRequests::default());
        let mut messages = Vec::new();
        for n in 0..1_000 {
            requests.untold.push(told(n));
            messages.extend(requests.take_untold(now).map(|told| told.len()));
        }
        assert_eq!(messages[..2], [1, MOST_TOLD], "the first at once, then as many as fit");
        assert_eq!(requests.next_timeout(), Some(now + TOGETHER));
        now += TOGETHER;
        messages.extend(requests.take_untold(now).map(|told| told.len()));
        assert_eq!(messages.iter().sum::<usize>(), 1_000, "and the rest soon");
        assert!(messages.iter().all(|told| *told <= MOST_TOLD), "{messages:?}");
        assert_eq!((requests.next_timeout(), requests.take_untold(now)), (None, None));
        // Whatever begins later alone waits for nothing.
        requests.untold.push(told(0));
        assert!(requests.take_untold(now + TOGETHER).is_some());
    }

    #[test]
    fn what_a_node_tells_is_read_as_it_was_written() {
        let all: Vec<ToldBegun> = (0..MOST_TOLD as u64).map(told).collect();
        for count in [1, 2, MOST_TOLD] {
            let text = ToldBegun::text_of(&all[..count], "-nabc");
            let (mark, read) = ToldBegun::read_all(&text).expect("sound");
            assert_eq!((&*mark, &read[..]), ("-nabc", &all[..count]));
            // A version that knows of one only read so many words.
            assert_eq!(text.split(' ').nth(3), Some("-nabc"));
            assert!(BEGUN.len() + text.len() + 4 < MAX_HEADER_LINE, "it is one line");
        }
        for broken in ["", "7", "7 8 9", "x 8 9 m", "7 8 9 m 1", "7 8 9 m 1 2 x"] {
            assert!(ToldBegun::read_all(broken).is_none(), "{broken}");
        }
    }
}
