//! What a test says and asks.

use crate::phone::Phone;
use crate::world::configs::{address, config};
use crate::world::{Fault, MS, PHONES, TRUNK, World};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::{Duration, Instant};
use webtrunk::errors::Code;
use webtrunk::gateway::{Gateway, Input};
use webtrunk::media::SessionEvent;
use webtrunk::sip::Message;
use webtrunk::sip::parse::Framing;
use webtrunk::sip::transaction::Hop;
use webtrunk::worker::Notice;

impl World {
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn phones(&self) -> usize {
        self.phones.len()
    }

    pub(crate) fn node_of(&self, phone: usize) -> usize {
        self.phones[phone].at.expect("it is connected").0
    }

    /// The store loses what it has of the call that was taken by the newest name.
    pub(crate) fn lose_last_call(&mut self) {
        self.store.lose_last_call();
    }

    /// A replica takes over that has everything but who took the calls of whom.
    pub(crate) fn lose_claims(&mut self) {
        self.store.lose_claims();
        self.calls.store_lost(self.now);
        self.tell("the store has lost who took what".into());
    }

    pub(crate) fn located(&self) -> usize {
        self.located
    }

    pub(crate) fn operations(&self) -> usize {
        self.store.operations
    }

    /// How often values of calls were written to the store.
    pub(crate) fn kept(&self) -> usize {
        self.store.kept
    }

    pub(crate) fn registered(&self) -> usize {
        self.phones.iter().map(|p| p.registered).sum()
    }

    pub(crate) fn said(&self, node: usize, what: &str) -> bool {
        self.nodes[node].said.iter().any(|s| s.contains(what))
    }

    pub(crate) fn talks(&self, phone: usize) -> bool {
        self.phones[phone].talks()
    }

    pub(crate) fn picture(&self) -> Vec<String> {
        self.picture.clone()
    }

    /// Two phones of one node.
    pub(crate) fn neighbours(&self) -> (usize, usize) {
        self.pair(true)
    }

    /// Two phones of different nodes.
    pub(crate) fn strangers(&self) -> (usize, usize) {
        self.pair(false)
    }

    pub(super) fn pair(&self, same: bool) -> (usize, usize) {
        let all = (0..PHONES).flat_map(|a| (0..PHONES).map(move |b| (a, b)));
        let mut fit = all.filter(|(a, b)| a != b && (self.node_of(*a) == self.node_of(*b)) == same);
        fit.next().expect("there is such a pair")
    }

    /// Everybody registers, two on each node, and pointers are written.
    pub(crate) fn settle(&mut self) {
        for phone in 0..PHONES {
            self.connect(phone, phone % self.size);
        }
        self.run(Duration::from_secs(3));
        for n in 0..self.size {
            let gateway = self.nodes[n].gateway.as_ref().expect("it runs");
            let phones = (0..PHONES).filter(|phone| phone % self.size == n).count();
            assert_eq!(gateway.gauges().bindings, phones);
            assert_eq!(gateway.cluster().expect("one").members().count(), self.size);
        }
    }

    pub(crate) fn register_again(&mut self, phone: usize) {
        let text = self.phones[phone].register();
        self.phone_says(phone, text, Duration::ZERO);
    }

    pub(crate) fn call(&mut self, from: usize, to: usize) {
        let text = self.phones[from].invite(100 + to);
        self.picture.push(format!("u{from} calls u{to}"));
        self.phone_says(from, text, Duration::ZERO);
    }

    pub(crate) fn hang_up(&mut self, phone: usize) {
        for text in self.phones[phone].hang_up() {
            self.phone_says(phone, text, Duration::ZERO);
        }
    }

    /// A phone joins the others of its two newest calls, and leaves.
    pub(crate) fn join(&mut self, phone: usize) {
        let text = self.phones[phone].refer();
        self.phone_says(phone, text, Duration::ZERO);
    }

    /// What a phone would hang up with is sent by another one.
    pub(crate) fn hang_up_by(&mut self, phone: usize, by: usize) {
        for text in self.phones[phone].hang_up() {
            self.phone_says(by, text, Duration::ZERO);
        }
        self.run(Duration::from_secs(1));
    }

    pub(crate) fn hang_up_all(&mut self) {
        // From one side only: both at once is not what is tested.
        for phone in 0..PHONES {
            self.hang_up(phone);
            self.run(300 * MS);
        }
        self.run(Duration::from_secs(2));
    }

    /// A call that must be answered, and ends.
    pub(crate) fn expect_call(&mut self, from: usize, to: usize) {
        self.call(from, to);
        let mut left = 100;
        while self.phones[from].status.is_none() && left > 0 {
            self.run(50 * MS);
            left -= 1;
        }
        let status = self.phones[from].status;
        assert_eq!(status, Some(200), "u{from} to u{to}\n{}", self.story());
        self.run(500 * MS);
        assert!(self.talks(to), "u{to} is in it too");
        self.hang_up(if left % 2 == 0 { from } else { to });
        self.run(500 * MS);
        assert!(!self.talks(from) && !self.talks(to), "it is over on both sides\n{}", self.story());
    }

    /// A call that must be refused: with which status and verdict.
    pub(crate) fn expect_refused(&mut self, from: usize, to: usize) -> (u16, Code) {
        let node = self.node_of(from);
        let before = self.nodes[node].codes.len();
        self.call(from, to);
        let until = self.now + Duration::from_secs(25);
        while self.phones[from].status.is_none() && self.now < until {
            self.run(5 * MS);
        }
        // A record waits until the store has forgotten the call.
        let waits = self.now + 500 * MS;
        while self.nodes[node].codes.len() == before && self.now < waits {
            self.run(MS);
        }
        let status = self.phones[from].status.unwrap_or_else(|| panic!("{}", self.story()));
        (status, *self.nodes[node].codes.last().expect("a record"))
    }

    /// The trunk sends a message to a node.
    pub(crate) fn trunk_says(&mut self, node: usize, text: String) {
        self.trunk_says_to_all(&[node], &text);
    }

    /// The trunk's message comes to each of these nodes at the same moment.
    pub(crate) fn trunk_says_to_all(&mut self, nodes: &[usize], text: &str) {
        nodes.iter().for_each(|node| self.trunk_says_now(*node, text));
        self.run(100 * MS);
    }

    /// These messages of the trunk come to a node one right after the other.
    pub(crate) fn trunk_says_all(&mut self, node: usize, texts: &[String]) {
        texts.iter().for_each(|text| self.trunk_says_now(node, text));
        self.run(100 * MS);
    }

    pub(crate) fn trunk_says_now(&mut self, node: usize, text: &str) {
        let message = Message::parse(text.as_bytes().to_vec(), Framing::Datagram).expect("sound");
        let message = message.with_source(TRUNK);
        self.handle(node, Input::Received { hop: Hop::Udp(TRUNK), remote: TRUNK, message });
    }

    /// A node takes no new calls from now on.
    pub(crate) fn drain(&mut self, node: usize) {
        self.handle(node, Input::Drain);
    }

    /// The final response that the trunk was sent last to the request of this branch, and by which
    /// node.
    pub(crate) fn trunk_answered(&mut self, branch: &str) -> (usize, Message) {
        let fits = |(_, m): &&(usize, Message)| {
            let own = m.via().is_some_and(|via| via.branch() == Some(branch));
            !m.is_request() && m.status() >= 200 && own
        };
        let last = self.trunk.iter().rev().find(fits).cloned();
        last.unwrap_or_else(|| panic!("{branch} was not answered\n{}", self.story()))
    }

    /// What the trunk was sent last that is a `what`, and by which node.
    pub(crate) fn trunk_got(&mut self, what: &str) -> (usize, Message) {
        let fits = |m: &Message| {
            if m.is_request() { m.method_token() == what } else { m.status().to_string() == what }
        };
        let at = self.trunk.iter().rposition(|(_, m)| fits(m));
        let at = at.unwrap_or_else(|| panic!("the trunk never got {what}\n{}", self.story()));
        self.trunk.remove(at)
    }

    /// Takes all requests of a method that the trunk was sent.
    pub(crate) fn trunk_requests(&mut self, method: &str) -> Vec<Message> {
        let is_one = |(_, m): &(usize, Message)| m.is_request() && m.method_token() == method;
        let (taken, rest) = std::mem::take(&mut self.trunk).into_iter().partition(is_one);
        self.trunk = rest;
        let taken: Vec<(usize, Message)> = taken;
        taken.into_iter().map(|(_, message)| message).collect()
    }

    pub(crate) fn dial_at_once(&mut self, phone: usize, number: usize) {
        let text = self.phones[phone].invite(number);
        self.phone_says(phone, text, Duration::ZERO);
    }

    /// How many calls the trunk was sent.
    pub(crate) fn calls_of_trunk(&self) -> usize {
        (0..self.nodes.len()).map(|n| self.calls_of_trunk_by(n)).sum()
    }

    /// How many calls the trunk was sent by a node.
    pub(crate) fn calls_of_trunk_by(&self, node: usize) -> usize {
        let by_it = self.trunk.iter().filter(|(n, _)| *n == node);
        let invites = by_it.filter(|(_, m)| m.method_token() == "INVITE");
        invites.map(|(_, m)| m.call_id().to_owned()).collect::<BTreeSet<_>>().len()
    }

    /// How many of the trunk's calls whose Call-ID begins so were not refused for a limit.
    pub(crate) fn let_in(&self, start: &str) -> usize {
        let finals = self.trunk.iter().filter(|(_, m)| !m.is_request() && m.status() >= 200);
        let fits = finals.filter(|(_, m)| m.status() != 503 && m.call_id().starts_with(start));
        fits.map(|(_, m)| m.call_id().to_owned()).collect::<BTreeSet<_>>().len()
    }

    /// The nodes that registered with the trunk.
    pub(crate) fn nodes_that_registered(&self) -> Vec<usize> {
        let registers = self.trunk.iter().filter(|(_, m)| m.method_token() == "REGISTER");
        registers.map(|(n, _)| *n).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The nodes that register with the trunk, as node `n` sees it.
    pub(crate) fn registers_by(&self, n: usize) -> Vec<usize> {
        let cluster = self.nodes[n].gateway.as_ref().and_then(Gateway::cluster).expect("one");
        let does = cluster.members().filter(|m| m.registers.iter().any(|t| t == "far"));
        does.map(|m| m.node[1..].parse().expect("a number")).collect()
    }

    pub(crate) fn dial(&mut self, phone: usize, number: usize) {
        let text = self.phones[phone].invite(number);
        self.phone_says(phone, text, Duration::ZERO);
        self.run(100 * MS);
    }

    /// A phone's connection is reset, and it comes back to that node.
    pub(crate) fn reconnect_at(&mut self, phone: usize, node: usize) {
        self.roams = false;
        self.fault(Fault::Drop(phone));
        self.connect(phone, node);
        self.roams = true;
        self.run(Duration::from_secs(1));
    }

    /// A phone asks its peer within its call something that is answered.
    pub(crate) fn asks(&mut self, phone: usize) -> Option<u16> {
        for text in self.phones[phone].options() {
            self.phone_says(phone, text, Duration::ZERO);
        }
        self.run(200 * MS);
        self.phones[phone].asked
    }

    /// One more phone of a user, at a node.
    pub(crate) fn add_phone(&mut self, of: usize, node: usize) -> usize {
        let phone = self.phones.len();
        self.phones.push(Phone::of(format!("u{of}"), format!("u{of}-{phone}")));
        self.connect(phone, node);
        self.run(Duration::from_secs(2));
        phone
    }

    /// A phone's connection is reset, and it stays away.
    pub(crate) fn lose_phone(&mut self, phone: usize) {
        self.roams = false;
        self.fault(Fault::Drop(phone));
        self.roams = true;
    }

    /// A phone, to be looked at or told how to behave.
    pub(crate) fn phone(&mut self, phone: usize) -> &mut Phone {
        &mut self.phones[phone]
    }

    /// A phone sends a text.
    pub(crate) fn says(&mut self, phone: usize, text: String) {
        self.phone_says(phone, text, Duration::ZERO);
    }

    /// Whether phones whose connection is gone come back by themselves.
    pub(crate) fn roam(&mut self, roams: bool) {
        self.roams = roams;
    }

    /// A node is killed, and comes back after a while as a newer version, which keeps calls in a
    /// form that the others do not know.
    pub(crate) fn update(&mut self, node: usize, away: Duration) {
        self.fault(Fault::Kill(node));
        self.run(away);
        self.nodes[node].form += 1;
        self.fault(Fault::Start(node));
    }

    /// What the trunk was sent so far is of no interest.
    pub(crate) fn forget_trunk(&mut self) {
        self.trunk.clear();
    }

    pub(crate) fn trunk_heard(&self, status: &str) -> bool {
        self.trunk.iter().any(|(_, m)| !m.is_request() && m.status().to_string() == status)
    }

    /// How many messages of this kind went between nodes.
    pub(crate) fn passed(&self, kind: &str) -> usize {
        let between =
            |line: &&String| line.contains(" to n") && line.contains(&format!(": {kind}"));
        self.picture.iter().filter(between).count()
    }

    /// Whether each node that runs sees so many, itself among them.
    pub(crate) fn all_see(&self, count: usize) -> bool {
        let running = self.nodes.iter().filter_map(|node| node.gateway.as_ref());
        let sees = |g: &Gateway| g.cluster().expect("one").members().count();
        running.map(sees).all(|sees| sees == count)
    }

    /// Another process of a node's name, at another address.
    pub(crate) fn add_twin(&mut self, of: usize) -> usize {
        self.add_node(config(9, &format!("n{of}"), "", false), address(9))
    }

    /// A phone's connection is reset, and it comes back to the same node.
    pub(crate) fn reconnect_there(&mut self, phone: usize) {
        let node = self.node_of(phone);
        self.roams = false;
        self.fault(Fault::Drop(phone));
        self.connect(phone, node);
        self.roams = true;
    }

    /// Re-INVITEs a phone was sent.
    pub(crate) fn moved(&self, phone: usize) -> usize {
        self.phones[phone].moved
    }

    pub(crate) fn last_code(&self, node: usize) -> Code {
        *self.nodes[node].codes.last().expect("a record")
    }

    /// Adds to the story.
    pub(crate) fn tell(&mut self, what: String) {
        self.picture.push(format!("{:?} {what}", self.now - self.start));
    }

    /// Each call has one owner.
    pub(crate) fn expect_one_owner(&self) {
        assert_eq!(self.calls.shared(), [], "one call has one owner\n{}", self.story());
    }

    pub(crate) fn story(&self) -> String {
        let last = self.picture.len().saturating_sub(60);
        self.picture[last..].join("\n")
    }

    /// Nobody talks any more: what still has media hears nothing from then on. A phone that hung up
    /// at a node that had lost the call, or by a connection that was reset, says so by that only.
    pub(crate) fn media_stops(&mut self) {
        let talks = |phone: &Phone| phone.talks();
        assert!(!self.phones.iter().any(talks), "somebody talks\n{}", self.story());
        for n in 0..self.nodes.len() {
            let process = self.nodes[n].process;
            for (session, end) in self.nodes[n].ends.clone() {
                let notice = Notice::Media(SessionEvent::ConsentLost { end });
                self.push_to_node(n, process, Input::Media { session, notice });
            }
        }
        self.run(Duration::from_secs(1));
    }

    /// Everybody hangs up, and nothing is left.
    pub(crate) fn ends_idle(&mut self) {
        self.hang_up_all();
        self.media_stops();
        self.expect_idle();
    }

    /// As [`ends_idle`](Self::ends_idle), after one call, which has one record.
    pub(crate) fn ends_recorded_once(&mut self, step: impl Display) {
        self.ends_idle();
        let ended = (self.calls.records(), self.calls.excused());
        assert_eq!(ended, (1, 0), "step {step}\n{}", self.story());
    }

    pub(crate) fn expect_idle(&mut self) {
        self.run(Duration::from_secs(200));
        self.expect_one_owner();
        // A call that is taken over though it was over is hung up once more, in each of its legs.
        let twice: usize = self.phones.iter().map(|phone| phone.hung_up_twice).sum();
        let late = self.calls.taken_late;
        assert!(twice <= 2 * late, "{twice} were hung up on twice\n{}", self.story());
        assert_eq!(self.calls.without_record(), [], "records are lost\n{}", self.story());
        for (n, node) in self.nodes.iter().enumerate() {
            let Some(gateway) = &node.gateway else { continue };
            let gauges = gateway.gauges();
            assert!(gauges.is_idle(), "node {n}: {gauges:?} {:?}", gateway.snapshot());
            assert!(node.ends.is_empty(), "node {n}: media ends left");
            assert_eq!(gateway.cluster().map_or(0, |c| c.waiting()), 0, "node {n} writes");
        }
    }
}
