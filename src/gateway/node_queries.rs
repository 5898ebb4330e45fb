//! Requests that other nodes are asked about, since nothing in them says which node has what they
//! are of: a CANCEL, an INVITE that began at another node, whatever is of a call of a lost node.
//!
//! ```text
//!   asked --a node has it--> its answer goes on, and nothing is kept
//!     |---all say that they have not, and no node is lost--> 481, or it is served here
//!     |---1 s--> asked once more, unless it is here meanwhile
//!     +---5 s--> a CANCEL gets 481, what would begin is served here, the rest is left unanswered
//! ```
//!
//! The deadline is the time after which another node has gone on with the calls of one that was
//! lost.

use super::edge_proxy::{ForeignHop, Passing};
use super::turn::RequestSource;
use super::{Gateway, Turn};
use crate::cluster::token::short;
use crate::sip::message::Message;
use crate::sip::status::{Method, Refusal};
use crate::sip::transaction::Hop;
use crate::tally::Tally;
use crate::timers::Timers;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Requests that are asked about at once; those of one user, and of one trunk.
const MAX_ASKED: usize = 1_000;
const MOST_OF_USER: usize = 20;
const MOST_OF_TRUNK: usize = 400;
/// How long the others are asked.
const LONGEST: Duration = Duration::from_secs(5);
/// How often.
const AGAIN: Duration = Duration::from_secs(1);

/// A request by what its answers bring back: where it came from, its branch, its method.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct AskedKey {
    origin: ForeignHop,
    of: u64,
    method: Method,
}

impl AskedKey {
    /// The key of what came by `origin`; `of` is short for its branch.
    pub(super) fn new(origin: ForeignHop, of: u64, method: Method) -> AskedKey {
        AskedKey { origin, of, method }
    }

    fn of(hop: Hop, message: &Message) -> Option<AskedKey> {
        let via = message.via()?;
        Some(AskedKey::new(ForeignHop::of(hop)?, short(Some(via.branch()?)), message.method()))
    }
}

/// What becomes of a request that no node has anything of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum IfNobody {
    /// It is refused.
    Refuse,
    /// It begins here.
    Serve,
}

struct AskedRequest {
    hop: Hop,
    message: Message,
    sender: RequestSource,
    /// Nodes that have not answered.
    silent: BTreeSet<SocketAddr>,
    then: IfNobody,
    until: Instant,
}

/// The requests that are asked about.
#[derive(Default)]
pub(super) struct NodeQueries {
    open: HashMap<AskedKey, AskedRequest>,
    timers: Timers<AskedKey>,
    /// How many are of each sender.
    of_sender: Tally<String>,
    /// The deadline of the one that is being asked about once more.
    again: Option<(AskedKey, Instant)>,
}

impl NodeQueries {
    /// Returns how many requests are open.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether nothing more can be asked about.
    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= MAX_ASKED
    }

    /// The earliest deadline.
    pub(super) fn next_timeout(&mut self) -> Option<Instant> {
        self.timers.next_timeout()
    }

    /// Notes that nodes are asked. A request that comes again has the time it had.
    fn note(&mut self, now: Instant, key: AskedKey, asked: AskedRequest) -> bool {
        let known = self.open.get(&key).map(|asked| asked.until);
        if known.is_none() && (self.is_full() || !self.has_place(&asked.sender)) {
            return false;
        }
        let before = self.again.filter(|(again, _)| *again == key).map(|(_, until)| until);
        let until = known.or(before).unwrap_or(asked.until);
        self.timers.set(key, until.min(now + AGAIN));
        self.of_sender.add(asked.sender.name());
        if let Some(before) = self.open.insert(key, AskedRequest { until, ..asked }) {
            self.of_sender.remove(&before.sender.name());
        }
        true
    }

    /// Whether a sender has its share to use: one more makes nobody else's fail.
    fn has_place(&self, sender: &RequestSource) -> bool {
        let most = match sender {
            RequestSource::User(..) => MOST_OF_USER,
            RequestSource::Trunk(_) => MOST_OF_TRUNK,
        };
        self.of_sender.of(&sender.name()) < most
    }

    fn remove(&mut self, key: &AskedKey) -> Option<AskedRequest> {
        let asked = self.open.remove(key)?;
        self.timers.clear(key);
        self.of_sender.remove(&asked.sender.name());
        Some(asked)
    }

    /// A node has not what a request is of. Returns true if that is so of all that were asked.
    fn has_not(&mut self, key: &AskedKey, node: SocketAddr) -> bool {
        self.open.get_mut(key).is_some_and(|asked| {
            asked.silent.remove(&node);
            asked.silent.is_empty()
        })
    }
}

impl Gateway {
    /// Notes that nodes are asked about a request. Returns false if there is no room: then nobody
    /// is to say that it has nothing.
    pub(super) fn note_asked(
        &mut self,
        now: Instant,
        hop: Hop,
        message: &Message,
        nodes: &[(SocketAddr, String)],
        then: IfNobody,
    ) -> bool {
        let (Some(key), Some(sender)) = (AskedKey::of(hop, message), self.sender(hop)) else {
            return false;
        };
        let silent = nodes.iter().map(|(node, _)| *node).collect();
        let (message, until) = (message.clone(), now + LONGEST);
        let asked = AskedRequest { hop, message, sender, silent, then, until };
        self.node_queries.note(now, key, asked)
    }

    /// Nobody was asked after all.
    pub(super) fn forget_asked(&mut self, hop: Hop, message: &Message) {
        AskedKey::of(hop, message).and_then(|key| self.node_queries.remove(&key));
    }

    /// A node answered. `has`: what it says of whether it has what a request is of. Returns true if
    /// that is all it says.
    pub(super) fn node_told(
        &mut self,
        turn: &mut Turn<'_>,
        key: AskedKey,
        node: SocketAddr,
        has: Option<&str>,
    ) -> bool {
        if has == Some("no") {
            let lost =
                self.services.cluster.as_ref().is_some_and(|cluster| cluster.has_lost(turn.now));
            if self.node_queries.has_not(&key, node) && !lost {
                self.nobody_has(turn, &key);
            }
        } else {
            self.node_queries.remove(&key);
        }
        has.is_some()
    }

    /// No node has what a request is of.
    fn nobody_has(&mut self, turn: &mut Turn<'_>, key: &AskedKey) {
        let Some(AskedRequest { hop, message, then, .. }) = self.node_queries.remove(key) else {
            return;
        };
        match then {
            IfNobody::Serve => {
                self.retransmissions.forget(&message);
                self.received_before(turn, hop, message);
            }
            IfNobody::Refuse => {
                let none = match message.method() {
                    Method::Cancel => "there is no INVITE to cancel",
                    _ => "there is no such call",
                };
                self.respond_stateless(hop, &message, &Refusal::new(481, none), turn.out);
            }
        }
    }

    /// Asks once more, and gives up what nobody has answered.
    pub(super) fn node_queries_due(&mut self, turn: &mut Turn<'_>) {
        while let Some(key) = self.node_queries.timers.pop(turn.now) {
            let Some(asked) = self.node_queries.open.get(&key) else { continue };
            let (until, then) = (asked.until, asked.then);
            if self.is_here(&asked.message) || turn.now < until {
                let Some(AskedRequest { hop, message, .. }) = self.node_queries.remove(&key) else {
                    continue;
                };
                self.node_queries.again = Some((key, until));
                self.received_before(turn, hop, message);
                self.node_queries.again = None;
            } else if then == IfNobody::Serve || key.method == Method::Cancel {
                self.nobody_has(turn, &key);
            } else {
                self.node_queries.remove(&key);
            }
        }
    }

    /// Whether this node has what a request is of: it took the call over meanwhile.
    fn is_here(&self, message: &Message) -> bool {
        let transactions = &self.services.transactions;
        let cancels = message.method() == Method::Cancel;
        transactions.knows(message)
            || cancels && transactions.cancelled_by(message).is_some()
            || message
                .to()
                .and_then(|to| to.tag())
                .is_some_and(|tag| self.services.dialogs.contains_key(tag))
    }

    /// What came before is taken as if it came now.
    fn received_before(&mut self, turn: &mut Turn<'_>, hop: Hop, message: Message) {
        if let Some(remote) = self.remote_of(hop) {
            self.received(turn, hop, remote, message);
        }
    }

    /// An INVITE or a text of a trunk that began at another node has come here: that one answers
    /// it. Returns false if it did not, or may not have.
    pub(super) fn pass_again(&mut self, turn: &mut Turn<'_>, hop: Hop, message: &Message) -> bool {
        let (Some(cluster), false) = (&self.services.cluster, self.node_queries.is_full()) else {
            return false;
        };
        let Some(by) = self.retransmissions.elsewhere(turn.now, message) else { return false };
        if self.services.transactions.knows(message) {
            return false;
        }
        let nodes = cluster.bearers(by).to_vec();
        if nodes.is_empty() && !cluster.has_lost(turn.now) {
            return false;
        }
        let Some(nodes) = self.named_to(turn, hop, &nodes) else { return false };
        let tell = self.note_asked(turn.now, hop, message, &nodes, IfNobody::Serve);
        // Whoever cannot be asked now is asked when it comes again.
        let _ = self.send_to_all(turn, Passing::whether(hop, tell), message, nodes);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::parse::Framing;

    fn asked(now: Instant, nodes: u8) -> AskedRequest {
        let text = "CANCEL sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n";
        let message = Message::parse(text.into(), Framing::Datagram).expect("sound");
        let node = |n| SocketAddr::from(([192, 0, 2, n], 5071));
        AskedRequest {
            hop: Hop::Udp(node(99)),
            message,
            sender: RequestSource::Trunk("one".to_owned()),
            silent: (0..nodes).map(node).collect(),
            then: IfNobody::Refuse,
            until: now + LONGEST,
        }
    }

    fn key(of: u64) -> AskedKey {
        AskedKey::new(ForeignHop::Flow(1), of, Method::Cancel)
    }

    #[test]
    fn so_many_requests_are_asked_about_at_once_and_the_next_is_passed_on_unnoticed() {
        let (now, mut nodes) = (Instant::now(), NodeQueries::default());
        let of = |name: &str, n: u64| {
            let sender = RequestSource::Trunk(name.to_owned());
            (key(n), AskedRequest { sender, ..asked(now, 1) })
        };
        let mut note = |name: &str, n: u64| {
            let (key, asked) = of(name, n);
            nodes.note(now, key, asked)
        };
        // One sender has its share, and no more.
        let taken = (0..MAX_ASKED as u64).filter(|n| note("one", *n)).count();
        assert_eq!(taken, MOST_OF_TRUNK);
        assert!(note("one", 7), "it is known");
        let others = ["two", "three"].into_iter().zip([2_000, 3_000]);
        let more = others.flat_map(|(name, from)| (from..from + 1_000).map(move |n| (name, n)));
        assert_eq!(more.filter(|(name, n)| note(name, *n)).count(), MAX_ASKED - MOST_OF_TRUNK);
        assert!(!note("four", 9_999));
        assert!(nodes.has_not(&key(7), SocketAddr::from(([192, 0, 2, 0], 5071))));
        assert!(nodes.remove(&key(7)).is_some() && nodes.remove(&key(7)).is_none());
        let (ada, flow) = ("ada".to_owned(), crate::sip::transaction::Flow(1));
        let sender = RequestSource::User(ada, flow);
        assert!(nodes.note(now, key(9_999), AskedRequest { sender, ..asked(now, 1) }));
        (0..MAX_ASKED as u64 * 10).for_each(|n| drop(nodes.remove(&key(n))));
        assert!(nodes.open.is_empty() && nodes.of_sender.is_empty());
    }

    #[test]
    fn a_user_asks_about_so_much_and_others_about_theirs() {
        let (now, mut nodes) = (Instant::now(), NodeQueries::default());
        let mut note = |name: &str, n: u64| {
            let sender = RequestSource::User(name.to_owned(), crate::sip::transaction::Flow(n));
            nodes.note(now, key(n), AskedRequest { sender, ..asked(now, 1) })
        };
        assert_eq!((0..100).filter(|n| note("ada", *n)).count(), MOST_OF_USER);
        assert!(note("bob", 1_000));
    }

    #[test]
    fn what_comes_again_has_the_time_it_had() {
        let (now, mut nodes) = (Instant::now(), NodeQueries::default());
        assert!(nodes.note(now, key(1), asked(now, 2)));
        let later = now + LONGEST - Duration::from_millis(300);
        assert!(nodes.note(later, key(1), asked(later, 2)));
        assert_eq!(nodes.next_timeout(), Some(now + LONGEST));
        // Likewise if it is asked about once more.
        let until = nodes.remove(&key(1)).expect("it is open").until;
        nodes.again = Some((key(1), until));
        assert!(nodes.note(later, key(1), asked(later, 2)));
        assert_eq!(nodes.next_timeout(), Some(now + LONGEST));
    }
}
