//! The transaction layer: four machines (RFC 3261 §17, RFC 6026, RFC 4320) behind one table.
//!
//! Requests and responses go in, `TransactionEvent`s for the transaction user and bytes to send
//! come out. Not here: dialogs, the 2xx's retransmission and its ACK (the user owns them,
//! §13.3.1.4).

pub(crate) mod client;
pub(crate) mod invite_client;
pub(crate) mod invite_server;
mod key;
pub(crate) mod server;

pub use super::hop::{Flow, Hop, TrunkNumber};
use super::message::Message;
use super::status::Method;
use crate::ids::{IdMap, looked_at};
use crate::tally::Tally;
use crate::timers::Timers;
use bytes::Bytes;
pub(crate) use key::PASSED_ON;
use key::{key_of, passed_on, server_key};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Round-trip estimate (RFC 3261 §17.1.1.1).
pub(crate) const T1: Duration = Duration::from_millis(500);
/// Longest retransmit interval of non-INVITE requests and INVITE responses.
pub(crate) const T2: Duration = Duration::from_secs(4);
/// Longest a message stays in the network.
pub(crate) const T4: Duration = Duration::from_secs(5);
/// 64*T1: timers B, F, H, J, L, M.
pub(crate) const T1X64: Duration = Duration::from_secs(32);
/// Timer D over UDP.
pub(crate) const TIMER_D: Duration = Duration::from_secs(32);
/// A client INVITE that has a provisional response but no final one (timer C, §16.6 step 11).
pub(crate) const TIMER_C: Duration = Duration::from_secs(181);

/// The RFC's timer letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Timer {
    A,
    B,
    C,
    D,
    E,
    F,
    G,
    H,
    I,
    J,
    K,
    L,
    M,
}

const TIMERS: [Timer; 13] = [
    Timer::A,
    Timer::B,
    Timer::C,
    Timer::D,
    Timer::E,
    Timer::F,
    Timer::G,
    Timer::H,
    Timer::I,
    Timer::J,
    Timer::K,
    Timer::L,
    Timer::M,
];

/// What a machine asks of the layer.
#[derive(Debug)]
pub(crate) enum Effect {
    Send(Bytes),
    Set(Timer, Duration),
    Clear(Timer),
    /// Give this response to the transaction user.
    Deliver(Message),
    TimedOut,
    /// The machine is in Terminated: forget it.
    Done,
}

/// A client transaction of ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ClientId(pub u64);
/// A server transaction of ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ServerId(pub u64);

/// What the transaction user learns.
#[derive(Debug)]
pub(crate) enum TransactionEvent {
    /// A new request. For CANCEL, `target` is the INVITE it is for.
    Request { id: ServerId, hop: Hop, message: Message, target: Option<ServerId> },
    /// An ACK that belongs to a 2xx.
    Ack { hop: Hop, message: Message },
    /// A response; a 2xx to INVITE comes once per retransmission and per fork (RFC 6026 §7.2).
    Response { id: ClientId, message: Message },
    /// No final response in time (timers B, C, F).
    Timeout { id: ClientId },
    /// A client transaction is forgotten: nothing more comes of it.
    Ended { id: ClientId },
    /// A 2xx to an INVITE whose transaction is over, or was never ours.
    LateSuccess { message: Message },
    /// Another response that belongs to no transaction.
    Stray,
}

/// Something to put on the wire.
#[derive(Debug, Clone)]
pub struct Transmit {
    /// Where it goes.
    pub hop: Hop,
    /// The message.
    pub bytes: Bytes,
}

enum Machine {
    InviteClient(invite_client::InviteClient),
    Client(client::ClientTransaction),
    InviteServer(invite_server::InviteServer),
    Server(server::ServerTransaction),
}

impl Machine {
    fn is_client(&self) -> bool {
        matches!(self, Machine::InviteClient(_) | Machine::Client(_))
    }
}

struct TransactionEntry {
    machine: Machine,
    hop: Hop,
    key: Arc<str>,
    /// A request that came to another node by datagrams, and from there to this one.
    lossy: bool,
    /// The timers that may be armed, a bit each, in the order of their letters.
    timers: u16,
    /// Among whose requests it counts.
    sender: Option<Arc<str>>,
}

/// Bound on live transactions; beyond it new requests are dropped and counted by the caller.
const MAX_TRANSACTIONS: usize = 200_000;
/// Of these one user has no more: whoever acknowledges none of its refusals keeps each for 32 s.
pub(crate) const MAX_OF_USER: usize = 20_000;
/// Whatever a sender has, there is this part of it left for others: nobody fills the table alone,
/// and who has little always finds room.
const OF_WHAT_IS_FREE: usize = 3;

/// All transactions of a node.
#[derive(Default)]
pub struct Transactions {
    entries: IdMap<u64, TransactionEntry>,
    /// Those by each hop, in the order they began.
    by_hop: HashMap<Hop, BTreeSet<u64>>,
    keys: HashMap<Arc<str>, u64>,
    /// Requests of each sender.
    by_sender: Tally<Arc<str>>,
    timers: Timers<(u64, Timer)>,
    next: u64,
    /// Messages sent once more because nothing came, by transport; kept by the user of this layer,
    /// who knows it.
    pub repeated: [u64; 4],
}

impl Transactions {
    /// Starts a client transaction; `bytes` is the whole request and its top branch is `branch`.
    pub(crate) fn request(
        &mut self,
        now: Instant,
        method: Method,
        branch: &str,
        hop: Hop,
        bytes: Bytes,
        out: &mut Vec<Transmit>,
    ) -> ClientId {
        let reliable = hop.is_reliable();
        let mut effects = Vec::new();
        let machine = match method {
            Method::Invite => Machine::InviteClient(invite_client::InviteClient::start(
                bytes,
                reliable,
                &mut effects,
            )),
            _ => Machine::Client(client::ClientTransaction::start(bytes, reliable, &mut effects)),
        };
        let key = ["c", branch, " ", method.as_str()].concat();
        let id = self.insert(key.into(), machine, hop, false);
        self.apply(now, id, effects, out, &mut Vec::new());
        ClientId(id)
    }

    /// No client transaction that was begun before this one is begun has so high a number.
    pub(crate) fn next_client(&self) -> ClientId {
        ClientId(self.next)
    }

    fn insert(&mut self, key: Arc<str>, machine: Machine, hop: Hop, lossy: bool) -> u64 {
        let id = self.next;
        self.next += 1;
        self.keys.insert(key.clone(), id);
        let (timers, sender) = (0, None);
        self.entries.insert(id, TransactionEntry { machine, hop, key, lossy, timers, sender });
        self.by_hop.entry(hop).or_default().insert(id);
        id
    }

    /// Whether `sender` may begin one more request, if it may have `most`.
    pub(crate) fn has_room_for(&self, sender: &str, most: usize) -> bool {
        let free = MAX_TRANSACTIONS.saturating_sub(self.entries.len());
        self.by_sender.of(sender) < most.min(OF_WHAT_IS_FREE * free)
    }

    /// A request counts among those of `sender` for as long as it lives.
    pub(crate) fn charge(&mut self, id: ServerId, sender: &str) {
        let Some(entry) = self.entries.get_mut(&id.0).filter(|e| e.sender.is_none()) else {
            return;
        };
        let known = self.by_sender.key(sender).cloned();
        let sender: Arc<str> = known.unwrap_or_else(|| sender.into());
        self.by_sender.add(sender.clone());
        entry.sender = Some(sender);
    }

    /// Sends a response through a server transaction. A 2xx to INVITE may be passed again and
    /// again.
    pub(crate) fn respond(
        &mut self,
        now: Instant,
        id: ServerId,
        status: u16,
        bytes: Bytes,
        out: &mut Vec<Transmit>,
    ) {
        let Some(entry) = self.entries.get_mut(&id.0) else { return };
        let (reliable, mut effects) = (entry.hop.is_reliable() && !entry.lossy, Vec::new());
        match &mut entry.machine {
            Machine::InviteServer(machine) => {
                machine.respond(status, bytes, reliable, &mut effects)
            }
            Machine::Server(machine) => machine.respond(status, bytes, reliable, &mut effects),
            Machine::InviteClient(_) | Machine::Client(_) => {}
        }
        self.apply(now, id.0, effects, out, &mut Vec::new());
    }

    /// A request of ours as it was sent, and where to.
    pub(crate) fn sent(&self, id: ClientId) -> Option<(Hop, Bytes)> {
        let entry = self.entries.get(&id.0)?;
        let request = match &entry.machine {
            Machine::InviteClient(machine) => machine.request(),
            Machine::Client(machine) => machine.request(),
            Machine::InviteServer(_) | Machine::Server(_) => return None,
        };
        Some((entry.hop, request))
    }

    /// Takes a message from the wire.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        hop: Hop,
        message: Message,
        out: &mut Vec<Transmit>,
        events: &mut Vec<TransactionEvent>,
    ) {
        if message.is_request() {
            self.receive_request(now, hop, message, out, events);
        } else {
            self.receive_response(now, message, out, events);
        }
    }

    /// The client transaction a response belongs to (RFC 3261 §17.1.3): by the branch of its top
    /// Via and the method of its CSeq. A branch is of one transaction, its CANCEL aside, so it
    /// suffices if the CSeq cannot be read.
    pub(crate) fn client_of(&self, response: &Message) -> Option<ClientId> {
        let via = response.via()?;
        let branch = via.branch()?;
        let find = |method: Method| {
            let key = ["c", branch, " ", method.as_str()].concat();
            self.keys.get(key.as_str()).copied().map(ClientId)
        };
        match response.cseq() {
            Some(_) => find(response.method()),
            None => Method::ALL.into_iter().find_map(find),
        }
    }

    /// Whether this branch of ours is that of a request that lives.
    pub(crate) fn has_client(&self, method: Method, branch: &str) -> bool {
        self.keys.contains_key(["c", branch, " ", method.as_str()].concat().as_str())
    }

    fn receive_response(
        &mut self,
        now: Instant,
        message: Message,
        out: &mut Vec<Transmit>,
        events: &mut Vec<TransactionEvent>,
    ) {
        let Some(ClientId(id)) = self.client_of(&message) else {
            let late = (200..300).contains(&message.status()) && message.method() == Method::Invite;
            events.push(match late {
                true => TransactionEvent::LateSuccess { message },
                false => TransactionEvent::Stray,
            });
            return;
        };
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let mut effects = Vec::new();
        match &mut entry.machine {
            Machine::InviteClient(machine) => machine.receive(message, &mut effects),
            Machine::Client(machine) => machine.receive(message, &mut effects),
            _ => {}
        }
        self.apply(now, id, effects, out, events);
    }

    fn receive_request(
        &mut self,
        now: Instant,
        hop: Hop,
        message: Message,
        out: &mut Vec<Transmit>,
        events: &mut Vec<TransactionEvent>,
    ) {
        let method = message.method();
        let key = key_of(&message);
        if let Some(&id) = self.keys.get(&key) {
            let mut effects = Vec::new();
            let entry = self.entries.get_mut(&id).expect("keys and entries are changed together");
            let taken = match &mut entry.machine {
                Machine::InviteServer(m) if method == Method::Ack => m.receive_ack(&mut effects),
                Machine::InviteServer(m) => m.receive_again(&mut effects),
                Machine::Server(m) => m.receive_again(&mut effects),
                _ => false,
            };
            self.apply(now, id, effects, out, events);
            if !taken {
                events.push(TransactionEvent::Ack { hop, message });
            }
            return;
        }
        if method == Method::Ack {
            events.push(TransactionEvent::Ack { hop, message });
            return;
        }
        if self.entries.len() >= MAX_TRANSACTIONS {
            return;
        }
        let target = (method == Method::Cancel).then(|| self.cancelled_by(&message)).flatten();
        let machine = match method {
            Method::Invite => Machine::InviteServer(invite_server::InviteServer::start()),
            _ => Machine::Server(server::ServerTransaction::start()),
        };
        let lossy =
            passed_on(&message).is_some_and(|via| via.transport.eq_ignore_ascii_case("UDP"));
        let id = self.insert(key, machine, hop, lossy);
        events.push(TransactionEvent::Request { id: ServerId(id), hop, message, target });
    }

    /// Whether a request belongs to a transaction already known, so that admission may let it pass.
    pub(crate) fn knows(&self, message: &Message) -> bool {
        self.keys.contains_key(&key_of(message))
    }

    /// The transaction that a request repeats, if its flow was lost: nobody would hear the answer.
    pub(crate) fn suspended(&self, message: &Message) -> Option<ServerId> {
        let id = self.keys.get(&key_of(message)).copied()?;
        let entry = self.entries.get(&id).filter(|entry| entry.hop == Hop::Suspended);
        entry.map(|_| ServerId(id))
    }

    /// What tells the transaction of a request from others, in short.
    pub(crate) fn short_key(message: &Message) -> u64 {
        let key = key_of(message);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
        let (first, _) = digest.as_ref().split_at(8);
        u64::from_be_bytes(first.try_into().unwrap_or_default())
    }

    /// Returns the INVITE a CANCEL means, by the branch they share (RFC 3261 §9.2).
    pub(crate) fn cancelled_by(&self, cancel: &Message) -> Option<ServerId> {
        self.keys.get(server_key(cancel, "INVITE").as_str()).copied().map(ServerId)
    }

    /// The peer of a request of ours is reached by another flow from now on, or by none.
    pub(crate) fn move_client(&mut self, id: ClientId, hop: Hop) {
        self.move_to(id.0, hop);
    }

    /// The sender of a request is reached by another flow from now on, or by none.
    pub(crate) fn move_server(&mut self, id: ServerId, hop: Hop) {
        self.move_to(id.0, hop);
    }

    fn move_to(&mut self, id: u64, hop: Hop) {
        if let Some(entry) = self.entries.get_mut(&id) {
            leave(&mut self.by_hop, entry.hop, id);
            entry.hop = hop;
            self.by_hop.entry(hop).or_default().insert(id);
        }
    }

    /// Sends the last response to a request once more, as if the request had come again.
    pub(crate) fn answer_again(&mut self, now: Instant, id: ServerId, out: &mut Vec<Transmit>) {
        let mut effects = Vec::new();
        match self.entries.get_mut(&id.0).map(|e| &mut e.machine) {
            Some(Machine::InviteServer(m)) => drop(m.receive_again(&mut effects)),
            Some(Machine::Server(m)) => drop(m.receive_again(&mut effects)),
            _ => {}
        }
        self.apply(now, id.0, effects, out, &mut Vec::new());
    }

    /// A flow or connection died: its client transactions fail at once (§17.1.4), its server ones
    /// end.
    pub(crate) fn hop_failed(&mut self, hop: Hop, events: &mut Vec<TransactionEvent>) {
        for id in self.by_hop.get(&hop).cloned().unwrap_or_default() {
            looked_at();
            let pending = match &self.entries[&id].machine {
                Machine::InviteClient(m) => m.is_pending(),
                Machine::Client(m) => m.is_pending(),
                _ => false,
            };
            if pending {
                events.push(TransactionEvent::Timeout { id: ClientId(id) });
            }
            self.remove(id, events);
        }
    }

    /// The transaction user of this request is gone: it gets no response.
    pub(crate) fn forget_server(&mut self, id: ServerId) {
        if self.entries.get(&id.0).is_some_and(|e| !e.machine.is_client()) {
            self.remove(id.0, &mut Vec::new());
        }
    }

    /// Whether this INVITE of ours still waits for a final response.
    pub(crate) fn awaits_final(&self, id: ClientId) -> bool {
        match self.entries.get(&id.0).map(|e| &e.machine) {
            Some(Machine::InviteClient(m)) => m.is_pending(),
            _ => false,
        }
    }

    /// CANCEL was sent for this INVITE: its final response is awaited for 64*T1, no longer (§9.1).
    pub(crate) fn cancelled(&mut self, now: Instant, id: ClientId) {
        let Some(Machine::InviteClient(machine)) =
            self.entries.get_mut(&id.0).map(|e| &mut e.machine)
        else {
            return;
        };
        let mut effects = Vec::new();
        machine.cancel(&mut effects);
        self.apply(now, id.0, effects, &mut Vec::new(), &mut Vec::new());
    }

    /// Fires the timers due at `now`.
    pub(crate) fn fire(
        &mut self,
        now: Instant,
        out: &mut Vec<Transmit>,
        events: &mut Vec<TransactionEvent>,
    ) {
        while let Some((id, timer)) = self.timers.pop(now) {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let mut effects = Vec::new();
            match &mut entry.machine {
                Machine::InviteClient(m) => m.fire(timer, &mut effects),
                Machine::Client(m) => m.fire(timer, &mut effects),
                Machine::InviteServer(m) => m.fire(timer, &mut effects),
                Machine::Server(m) => m.fire(timer, &mut effects),
            }
            self.apply(now, id, effects, out, events);
        }
    }

    /// Nobody could be heard for `by`: what waits for a peer waits that much longer. What is
    /// repeated is repeated, once for all times that were missed.
    pub(crate) fn put_off(&mut self, by: Duration) {
        let repeats = |timer| matches!(timer, Timer::A | Timer::E | Timer::G);
        self.timers.put_off(by, |(_, timer)| !repeats(*timer));
    }

    fn apply(
        &mut self,
        now: Instant,
        id: u64,
        effects: Vec<Effect>,
        out: &mut Vec<Transmit>,
        events: &mut Vec<TransactionEvent>,
    ) {
        for effect in effects {
            match effect {
                Effect::Send(bytes) => {
                    if let Some(entry) = self.entries.get(&id) {
                        out.push(Transmit { hop: entry.hop, bytes });
                    }
                }
                Effect::Set(timer, after) => {
                    if let Some(entry) = self.entries.get_mut(&id) {
                        entry.timers |= 1 << timer as u16;
                        self.timers.set((id, timer), now + after);
                    }
                }
                Effect::Clear(timer) => self.timers.clear(&(id, timer)),
                Effect::Deliver(message) => {
                    events.push(TransactionEvent::Response { id: ClientId(id), message })
                }
                Effect::TimedOut => events.push(TransactionEvent::Timeout { id: ClientId(id) }),
                Effect::Done => self.remove(id, events),
            }
        }
    }

    fn remove(&mut self, id: u64, events: &mut Vec<TransactionEvent>) {
        if let Some(entry) = self.entries.remove(&id) {
            self.keys.remove(&entry.key);
            leave(&mut self.by_hop, entry.hop, id);
            if let Some(sender) = &entry.sender {
                self.by_sender.remove(sender);
            }
            if entry.machine.is_client() {
                events.push(TransactionEvent::Ended { id: ClientId(id) });
            }
            let armed = TIMERS.iter().filter(|t| entry.timers & 1 << **t as u16 != 0);
            armed.for_each(|t| self.timers.clear(&(id, *t)));
        }
    }

    /// The earliest deadline of any timer.
    pub(crate) fn next_timeout(&mut self) -> Option<Instant> {
        self.timers.next_timeout()
    }

    /// The living transactions as text.
    pub(crate) fn snapshot(&self) -> Vec<String> {
        let kind = |m: &Machine| match m {
            Machine::InviteClient(m) => format!("{m:?}"),
            Machine::Client(m) => format!("{m:?}"),
            Machine::InviteServer(m) => format!("{m:?}"),
            Machine::Server(m) => format!("{m:?}"),
        };
        self.entries
            .values()
            .map(|e| format!("{} by {}: {}", e.key, e.hop, kind(&e.machine)))
            .collect()
    }

    /// How many transactions live.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

fn leave(by_hop: &mut HashMap<Hop, BTreeSet<u64>>, hop: Hop, id: u64) {
    if let Some(ids) = by_hop.get_mut(&hop) {
        ids.remove(&id);
        if ids.is_empty() {
            by_hop.remove(&hop);
        }
    }
}

#[cfg(test)]
mod tests;
