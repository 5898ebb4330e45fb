//! What nodes ask of each other when one of them seems to be gone, and what a node keeps to itself
//! while it does not know whether it still has its calls.
//!
//! A node whose lease has run out keeps its media running. But it may have been asleep or cut off,
//! and another may have its calls: until the store or the others have said that nobody has, its
//! BYEs and records wait.

use super::{Gateway, Turn};
use crate::call::{CallId, Output};
use crate::cluster::Cluster;
use crate::cluster::store::Process;
use crate::cluster::succession::{MAX_TAKEN, PeerProbe, Probe, ProbeAnswer};
use crate::event::Event;
use crate::hex::token;
use crate::sip::build::MessageWriter;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::Method;
use crate::sip::transaction::{Hop, Transmit};
use crate::worker::WorkerCommand;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What our branches begin with.
const BRANCH: &str = "z9hG4bKwtp.";
/// The content of a probe: the node it looks for, and its sender. Between nodes only.
const PROBE: &str = "X-Webtrunk-Probe";
/// Whose calls the asker took; and in an answer, that it is still to be learned whose the process
/// before took. Older versions say and read neither.
const TOOK: &str = "X-Webtrunk-Took";
/// What an answer says of that.
const LEARNS: &str = "not known";
/// A BYE waits no longer than this for an answer that does not come: somebody hung up.
const HOLD: Duration = Duration::from_secs(10);
/// How often what waits is looked at, while nothing is known.
const LOOK: Duration = Duration::from_millis(100);
/// What waits at most; the oldest goes without having asked.
const MAX_HELD: usize = 10_000;

/// What waits until it is known whose calls they are.
pub(super) struct HeldOutputs {
    waiting: VecDeque<(Instant, CallId, Output)>,
    /// When it was looked at last.
    looked: Instant,
    /// BYEs that wait, by their text: they are repeated.
    byes: HashSet<bytes::Bytes>,
}

impl HeldOutputs {
    pub(super) fn new(now: Instant) -> HeldOutputs {
        HeldOutputs { waiting: VecDeque::new(), looked: now, byes: HashSet::new() }
    }

    /// Lets go of what may go, and of the oldest beyond what may wait.
    fn let_go(&mut self, goes: impl Fn(Instant, CallId, &Output) -> bool, out: &mut Vec<Output>) {
        let mut over = self.waiting.len().saturating_sub(MAX_HELD);
        for (at, call, output) in std::mem::take(&mut self.waiting) {
            if over > 0 || goes(at, call, &output) {
                over = over.saturating_sub(1);
                out.push(output);
            } else {
                self.waiting.push_back((at, call, output));
            }
        }
    }

    /// What was to be said of these calls is not: they are another's.
    pub(super) fn forget(&mut self, theirs: impl Fn(CallId) -> bool) {
        self.waiting.retain(|(_, call, _)| !theirs(*call));
    }
}

impl Gateway {
    /// Asks a node whether it lives.
    pub(super) fn send_node_probe(&mut self, turn: &mut Turn<'_>, probe: &Probe) {
        let Some(cluster) = &self.services.cluster else { return };
        let (own, at) = (cluster.process(), cluster.advertise());
        let random = &mut self.services.random;
        let mut options = MessageWriter::request(Method::Options, &format!("sip:{}", probe.to));
        let branch = format_args!("SIP/2.0/TLS {at};branch={BRANCH}{}", probe.number);
        options.put(HeaderName::Via, branch);
        options.put(HeaderName::MaxForwards, 1);
        options.put(HeaderName::From, format_args!("<sip:{at}>;tag={}", token::<8>(random)));
        options.put(HeaderName::To, format_args!("<sip:{}>", probe.to));
        options.put(HeaderName::CallId, token::<8>(random));
        options.put(HeaderName::CSeq, "1 OPTIONS");
        let both = format!("{} {}", probe.of.mark(), own.mark());
        options.put_named(HeaderName::Other, PROBE, &both);
        let took: Vec<String> = cluster.taken().iter().map(Process::mark).collect();
        if !took.is_empty() {
            options.put_named(HeaderName::Other, TOOK, &took.join(" "));
        }
        turn.push(Output::Send(Transmit { hop: Hop::Node(probe.to), bytes: options.end() }));
    }

    /// Takes a probe of another node, or the answer to one of ours. False: it is something else.
    pub(super) fn node_probe(&mut self, turn: &mut Turn<'_>, hop: Hop, message: &Message) -> bool {
        let Hop::Node(peer) = hop else { return false };
        if !message.is_request() {
            return self.node_probe_answered(turn.now, peer, message);
        }
        let Some(value) = message.header_named(PROBE) else { return false };
        let process = Process::of_mark;
        let read = value.split_once(' ').and_then(|(of, by)| Some((process(of)?, process(by)?)));
        let took = message.header_named(TOOK).unwrap_or_default().split(' ');
        let took = took.take(MAX_TAKEN).filter_map(process).collect();
        let ask = read.map(|(of, by)| PeerProbe { of, by, took, from: peer });
        let cluster = self.services.cluster.as_mut();
        let answer = ask.zip(cluster).and_then(|(ask, c)| c.probed_by(turn.now, &ask));
        let status = match answer {
            Some(ProbeAnswer::Lives) => 200,
            Some(ProbeAnswer::Succeeded | ProbeAnswer::Learns) => 410,
            Some(ProbeAnswer::Deposed) => 403,
            None => 404,
        };
        let tag = token::<8>(&mut self.services.random);
        let mut response = MessageWriter::response(message, status, Some(&tag));
        if answer == Some(ProbeAnswer::Learns) {
            response.put_named(HeaderName::Other, TOOK, LEARNS);
        }
        turn.push(Output::Send(Transmit { hop, bytes: response.end() }));
        true
    }

    fn node_probe_answered(&mut self, now: Instant, peer: SocketAddr, message: &Message) -> bool {
        let branch = message.via().and_then(|via| via.branch());
        let Some(number) = branch.and_then(|branch| branch.strip_prefix(BRANCH)) else {
            return false;
        };
        let answer = match message.status() {
            200 => ProbeAnswer::Lives,
            410 if message.header_named(TOOK) == Some(LEARNS) => ProbeAnswer::Learns,
            410 => ProbeAnswer::Succeeded,
            403 => ProbeAnswer::Deposed,
            _ => return true,
        };
        if let (Some(cluster), Ok(number)) = (&mut self.services.cluster, number.parse()) {
            cluster.probe_answered(now, peer, number, answer);
        }
        true
    }

    /// Holds back what another node may be about to say, and lets go of what is ours to say. A
    /// record waits in any case until the store has forgotten its call: a node that takes it over
    /// would write another. While the store is away, that is when what it had has expired.
    pub(super) fn hold_back(&mut self, now: Instant, from: usize, out: &mut Vec<Output>) {
        let Some(cluster) = &self.services.cluster else { return };
        let unsure = cluster.is_unsure(now);
        let from = from.min(out.len());
        let ends = |output: &Output| matches!(output, Output::Event(Event::CallEnded { .. }));
        if unsure || out[from..].iter().any(ends) {
            for output in out.split_off(from) {
                self.hold_output(now, unsure, output, out);
            }
        }
        self.let_go(now, unsure, out);
    }

    fn hold_output(&mut self, now: Instant, unsure: bool, output: Output, out: &mut Vec<Output>) {
        let Some(call) = self.waits(&output) else { return out.push(output) };
        let waits = match (&output, &mut self.services.cluster) {
            (Output::Send(send), _) if unsure => {
                if !self.held.byes.insert(send.bytes.clone()) {
                    return;
                }
                true
            }
            (Output::Event(_), Some(cluster)) => {
                out.extend(cluster.forget_call(now, call.0).into_iter().map(Output::Store));
                unsure || cluster.stores(now, call.0)
            }
            _ => false,
        };
        if waits {
            self.held.waiting.push_back((now, call, output));
        } else {
            out.push(output);
        }
    }

    fn let_go(&mut self, now: Instant, unsure: bool, out: &mut Vec<Output>) {
        if self.held.waiting.is_empty() || unsure && now < self.held.looked + LOOK {
            return;
        }
        self.held.looked = now;
        if !unsure {
            self.held.byes.clear();
        }
        let Some(cluster) = &self.services.cluster else { return };
        let goes = |at: Instant, call: CallId, output: &Output| match output {
            Output::Send(_) => !unsure || now >= at + HOLD,
            _ => !unsure && !cluster.stores(now, call.0),
        };
        self.held.let_go(goes, out);
    }

    /// This process ends: what waits until it is known whose it is goes out. Of a record that
    /// another node writes, too, there are two with the call's number; of one that nobody writes
    /// there is none.
    pub fn let_go_of_all(&mut self, out: &mut Vec<Output>) {
        self.held.let_go(|_, _, _| true, out);
    }

    /// Whether something waits until it is known whose it is.
    pub fn keeps_back(&self) -> bool {
        !self.held.waiting.is_empty()
    }

    /// Whether another process may have this one's calls, of which it knows what this one tells it.
    ///
    /// # Errors
    /// This one does not know enough itself, and why.
    pub fn may_hand_over(&self, now: Instant) -> Result<(), String> {
        // The next one would not know whom to ask whether they have taken its calls.
        let unsure = |cluster: &Cluster| cluster.is_unsure(now) || cluster.misses_store(now);
        if self.services.cluster.as_ref().is_some_and(unsure) {
            let why = "it is not known whether another node has taken this one's calls over";
            return Err(format!("{why}: the store does not answer"));
        }
        if self.keeps_back() {
            let why = "calls that have ended are still in the store";
            return Err(format!("{why}, which does not answer: their records wait for it"));
        }
        Ok(())
    }

    /// The processes whose calls this one took over from other nodes.
    pub fn taken_processes(&self) -> Vec<Process> {
        self.services.cluster.as_ref().map_or(Vec::new(), |cluster| cluster.taken().to_vec())
    }

    /// What this process is in its cluster, last, and was before.
    pub fn former_processes(&self) -> Vec<Process> {
        self.services.cluster.as_ref().map_or(Vec::new(), Cluster::former)
    }

    /// This process gets these calls from the one before it at its node, which was `former`.
    pub fn follow(&mut self, now: Instant, former: Vec<Process>, calls: &[CallId]) {
        let calls: Vec<u64> = calls.iter().map(|call| call.0).collect();
        self.services.cluster.iter_mut().for_each(|c| c.follow(now, former.clone(), &calls));
    }

    /// The process before this one had taken over the calls of these.
    pub fn knows_taken(&mut self, taken: Vec<Process>) {
        self.services.cluster.iter_mut().for_each(|cluster| cluster.knows_taken(taken.clone()));
    }

    /// The call of an output that is not to be seen unless the call is ours.
    fn waits(&self, output: &Output) -> Option<CallId> {
        match output {
            Output::Event(Event::CallEnded { cdr }) => Some(cdr.call),
            Output::Send(send) if send.bytes.starts_with(b"BYE ") => {
                let text = std::str::from_utf8(&send.bytes).ok()?;
                let from = text.lines().find_map(|line| line.strip_prefix("From:"))?;
                let tag = from.split_once(";tag=")?.1.split(';').next()?.trim();
                Some(self.services.dialogs.get(tag).map_or(CallId(0), |(call, _)| *call))
            }
            _ => None,
        }
    }

    /// Another node has these calls: they end here without a word and without a record.
    pub(super) fn deposed(&mut self, turn: &mut Turn<'_>, names: &[String]) {
        let call = |name: &String| u64::from_str_radix(name.split('.').next()?, 16).ok();
        let theirs: BTreeSet<CallId> = names.iter().filter_map(call).map(CallId).collect();
        self.held.forget(|call| theirs.contains(&call));
        self.held.byes.clear();
        for id in theirs {
            if let Some(worker) = self.part_with(turn.now, id) {
                let command = WorkerCommand::Close { session: id.0 };
                turn.push(Output::Media { worker, command });
            }
        }
    }

    /// A call goes from here without a word and without a record. Returns the worker that has its
    /// media.
    pub(super) fn part_with(&mut self, now: Instant, id: CallId) -> Option<usize> {
        let worker = self.calls.touch(id)?.call.worker();
        let live = self.calls.remove(id, &mut self.services)?;
        // Whoever has it answers and cancels what is open; here nothing waits for that for ever.
        let transactions = &mut self.services.transactions;
        live.call.uas().transaction().iter().for_each(|t| transactions.forget_server(*t));
        live.call.open_invites().for_each(|client| transactions.cancelled(now, client));
        self.recorder.forget(id);
        let unix = self.services.unix(now);
        self.services.brakes.fraud.ended(id, now, unix);
        Some(worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::transaction::Flow;

    #[test]
    fn what_waits_is_bounded_and_the_oldest_goes() {
        let (now, mut held, mut out) = (Instant::now(), HeldOutputs::new(Instant::now()), vec![]);
        for n in 0..MAX_HELD as u64 + 50 {
            held.waiting.push_back((now, CallId(n), Output::CloseFlow(Flow(n))));
        }
        held.let_go(|_, _, _| false, &mut out);
        assert_eq!((held.waiting.len(), out.len()), (MAX_HELD, 50));
        assert!(matches!(out[49], Output::CloseFlow(Flow(49))));
        held.let_go(|_, call, _| call.0 % 2 == 0, &mut out);
        assert_eq!(held.waiting.len(), MAX_HELD / 2);
    }
}
