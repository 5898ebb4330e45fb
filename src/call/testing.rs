//! What a unit test of the parts of a call works with: a node's services without a node.

#![cfg(test)]

use super::branch::{Branch, BranchState, BranchTarget};
use super::leg::Leg;
use super::leg_snapshot::SnapshotTaken;
use super::services::{NodeIdentity, Services};
use super::{CALLER_LEG, CallContext, CallId, Output};
use crate::cdr::Party;
use crate::config::Config;
use crate::config::check::parse_embedded;
use crate::media::LegId;
use crate::sip::message::Message;
use crate::sip::parse::Framing;
use crate::sip::transaction::{Hop, ServerId, TransactionEvent};
use crate::worker::WorkerCommand;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const CONFIG: &str = "[server]\ndomain = \"x\"\npublic_ip = \"127.0.0.1\"\n\
    [sip]\nudp = \":5060\"\n[trunk.peer]\nuri = \"sip:127.0.0.10\"\n";

/// The call of the test.
pub(super) const CALL: CallId = CallId(1);

/// Services, a clock, and what was sent.
pub(super) struct CallBench {
    pub(super) now: Instant,
    config: Config,
    services: Services,
    out: Vec<Output>,
}

impl CallBench {
    /// A node with one trunk, `peer`.
    pub(super) fn new() -> CallBench {
        let identity = NodeIdentity::without_a_host();
        let now = Instant::now();
        let (config, _) = parse_embedded(CONFIG, &[]).unwrap_or_else(|p| panic!("{p}"));
        let services = Services::new(now, &config, identity, ChaCha20Rng::from_seed([7; 32]));
        CallBench { now, config, services, out: Vec::new() }
    }

    /// The context of a turn at the present time.
    pub(super) fn cx(&mut self) -> CallContext<'_> {
        CallContext::new(self.now, &self.config, &mut self.services, &mut self.out)
    }

    /// What a leg is written down with now.
    pub(super) fn taken(&self) -> SnapshotTaken<'_> {
        SnapshotTaken { now: self.now, config: &self.config, flows: &self.services.flows }
    }

    /// Lets time pass.
    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// What was sent since the last call, as text.
    pub(super) fn sent(&mut self) -> Vec<String> {
        let sends = self.out.drain(..).filter_map(|o| match o {
            Output::Send(t) => Some(String::from_utf8_lossy(&t.bytes).into_owned()),
            _ => None,
        });
        sends.collect()
    }

    /// Receives a request from the test's peer; its transaction.
    pub(super) fn receive(&mut self, message: &Message) -> ServerId {
        let (mut sends, mut events) = (Vec::new(), Vec::new());
        let transactions = &mut self.services.transactions;
        transactions.receive(self.now, hop(), message.clone(), &mut sends, &mut events);
        match events.first() {
            Some(TransactionEvent::Request { id, .. }) => *id,
            other => panic!("no request: {other:?}"),
        }
    }

    /// Returns the commands media workers got since the last call.
    pub(super) fn commands(&mut self) -> Vec<WorkerCommand> {
        let commands = self.out.drain(..).filter_map(|o| match o {
            Output::Media { command, .. } => Some(command),
            _ => None,
        });
        commands.collect()
    }

    /// A branch towards the test's peer, in this state.
    pub(super) fn branch(&mut self, id: u16, state: BranchState) -> Branch {
        let ip = hop().address().expect("an address").ip();
        let party = Party::Trunk("peer".into());
        let leg = Leg::new(&mut self.cx(), party, LegId(id), hop(), ip);
        let target = BranchTarget::Trunk { name: "peer".into(), number: "1".into() };
        let mut branch = Branch::new(id, target, leg, self.now);
        branch.state = state;
        branch
    }

    /// A leg towards the test's peer.
    pub(super) fn leg(&mut self) -> Leg {
        let ip = hop().address().expect("an address").ip();
        Leg::new(&mut self.cx(), Party::Trunk("peer".into()), CALLER_LEG, hop(), ip)
    }
}

/// Where the test's peer is.
pub(super) fn hop() -> Hop {
    Hop::Udp(SocketAddr::from(([127, 0, 0, 10], 5060)))
}

/// A request of the test's peer, with these headers besides those every one has.
pub(super) fn request(method: &str, cseq: u32, headers: &str) -> Message {
    let text = format!(
        "{method} sip:1@x SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.10;branch=z9hG4bK{cseq}\r\n\
         From: <sip:a@b>;tag=a\r\nTo: <sip:1@x>\r\nCall-ID: c\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sip:a@127.0.0.10>\r\n{headers}Content-Length: 0\r\n\r\n"
    );
    Message::parse(text.into_bytes(), Framing::Datagram).expect("a message")
}

/// A response of the test's peer to an INVITE of ours, with these headers besides those every one
/// has; it names its own Contact unless they do.
pub(super) fn response(status: u16, headers: &str) -> Message {
    let contact = if headers.contains("Contact:") { "" } else { "Contact: <sip:1@127.0.0.10>\r\n" };
    let text = format!(
        "SIP/2.0 {status} x\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\n\
         From: <sip:us@x>;tag=us\r\nTo: <sip:1@x>;tag=callee\r\nCall-ID: c\r\n\
         CSeq: 1 INVITE\r\n{contact}{headers}Content-Length: 0\r\n\r\n"
    );
    Message::parse(text.into_bytes(), Framing::Datagram).expect("a message")
}
