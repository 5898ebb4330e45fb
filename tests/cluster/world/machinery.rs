//! One event after the other: timers, arrivals, and what a node does about them.

use crate::store::StoreModel;
use crate::world::{Delivery, World};
use std::net::SocketAddr;
use std::time::Duration;
use webtrunk::call::context::Output;
use webtrunk::call::{CallId, Question};
use webtrunk::cluster::store::{Claim, LocatedUsers, StoreAnswer, StoreCommand};
use webtrunk::event::Event;
use webtrunk::gateway::Input;
use webtrunk::sip::Message;
use webtrunk::sip::parse::Framing;
use webtrunk::sip::transaction::{Flow, Hop};
use webtrunk::worker::{Notice, WorkerCommand};

impl World {
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let awake = self.nodes.iter_mut().enumerate().filter(|(_, node)| node.paused.is_none());
            let timer = awake
                .filter_map(|(n, node)| Some((node.gateway.as_mut()?.next_timeout()?, n)))
                .min();
            let arrival = self.queue.keys().next().copied();
            let due = timer.map(|(at, _)| at).into_iter().chain(arrival.map(|(at, _)| at)).min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            match (arrival, timer) {
                (Some(key), timer) if timer.is_none_or(|(at, _)| key.0 <= at) => {
                    let delivery = self.queue.remove(&key).expect("it is the first");
                    self.deliver(delivery);
                }
                (_, Some((_, n))) => self.handle(n, Input::Tick),
                (_, None) => unreachable!("one of them is due"),
            }
        }
        self.now = end;
    }

    pub(super) fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Node { to, process, input } => {
                if self.nodes[to].process != process || self.nodes[to].gateway.is_none() {
                    return;
                }
                if let Input::Unreachable { hop: Hop::Node(at), .. } = &input {
                    let broken = self.nodes.iter().position(|n| n.address == *at);
                    if let Some(broken) = broken {
                        self.nodes[to].links.remove(&broken);
                    }
                }
                self.handle(to, input);
            }
            Delivery::Store { node, process, command } => self.at_store(node, process, command),
            Delivery::Phone { phone, attempt, bytes } => {
                if self.phones[phone].attempts != attempt {
                    return;
                }
                let message = Message::parse(bytes, Framing::WebSocket).expect("it can be read");
                message.check().unwrap_or_else(|e| panic!("{e}: {message:?}"));
                let reaction = self.phones[phone].takes(&message);
                reaction.now.into_iter().for_each(|t| self.phone_says(phone, t, Duration::ZERO));
                for text in reaction.later {
                    let after = self.between(50_000, 600_000);
                    self.phone_says(phone, text, after);
                }
            }
            Delivery::FromPhone { phone, attempt, text } => {
                let Some((node, flow)) = self.phones[phone].at else { return };
                let answers = text.starts_with("SIP/2.0 200") && text.contains("INVITE\r\n");
                if self.phones[phone].attempts != attempt
                    || answers && self.phones[phone].gave_up(&text)
                {
                    return;
                }
                let message = Message::parse(text.into_bytes(), Framing::WebSocket).expect("sound");
                let remote = SocketAddr::from(([127, 0, 0, 20], 40_000));
                self.handle(node, Input::Received { hop: Hop::Flow(Flow(flow)), remote, message });
            }
            Delivery::Address { of, process } => {
                let next = (1..self.size).map(|n| (of + n) % self.size);
                let alive = |n: &usize| self.nodes[*n].gateway.is_some();
                if self.nodes[of].process == process
                    && self.nodes[of].gateway.is_none()
                    && let Some(to) = next.clone().find(alive)
                {
                    self.addresses.give(of, to);
                }
            }
            Delivery::HandOver { node, process, until } => self.hand_over(node, process, until),
            Delivery::Connect { phone, attempt } => {
                if self.phones[phone].attempts == attempt {
                    let node = self.below(self.size as u64) as usize;
                    self.connect(phone, node);
                }
            }
        }
    }

    pub(super) fn phone_says(&mut self, phone: usize, text: String, after: Duration) {
        let attempt = self.phones[phone].attempts;
        let after = after + self.between(100, 5_000);
        // A WebSocket keeps the order.
        let last = self.last.entry((100 + phone, 0)).or_insert(self.now);
        let at = (self.now + after).max(*last + Duration::from_micros(1));
        *last = at;
        let after = at - self.now;
        self.push(after, Delivery::FromPhone { phone, attempt, text });
    }

    pub(super) fn at_store(&mut self, node: usize, process: u64, command: StoreCommand) {
        if self.store_down || self.nodes[node].store_cut {
            return;
        }
        if let StoreCommand::Claim { of, by, .. } = &command
            && of != by
        {
            self.claims.push(node);
            if self.held_claims.0 > 0 {
                self.held_claims.1.push((node, process, command));
                if self.held_claims.1.len() == self.held_claims.0 {
                    let (_, held) = std::mem::take(&mut self.held_claims);
                    held.into_iter().for_each(|(n, p, c)| self.carried_out(n, p, c));
                }
                return;
            }
        }
        self.carried_out(node, process, command);
    }

    pub(super) fn carried_out(&mut self, node: usize, process: u64, command: StoreCommand) {
        let asks_for_own = matches!(&command, StoreCommand::Claim { of, by, .. } if of == by);
        let answer = self.answer_of_store(node, command);
        if asks_for_own && let StoreAnswer::Claimed { answer: Ok(claim), .. } = &answer {
            self.nodes[node].owner_said = match claim {
                Claim::Taken { by, names } => Some((by[16..].to_owned(), names.clone())),
                Claim::Granted { .. } | Claim::Lives => None,
            };
        }
        let copies = 1 + usize::from(self.below(10) == 0);
        let copies = if self.nodes[node].store_mute { 0 } else { copies };
        for _ in 0..copies {
            let after = self.store_delay() + self.store_slow / 2;
            let input = Input::Store(answer.clone());
            self.push(after, Delivery::Node { to: node, process, input });
        }
    }

    /// What the primary that a node has makes of a command.
    fn answer_of_store(&mut self, node: usize, command: StoreCommand) -> StoreAnswer {
        let (now, unix) = (self.now, self.unix());
        if self.parted.as_ref().is_some_and(|parted| parted.refuses(node, now)) {
            return command.refused("NOREPLICAS Not enough good replicas to write.");
        }
        let generation = self.store_of(node).generation;
        let of = &mut self.nodes[node];
        if of.generation != generation {
            of.generation = generation;
            of.connection += 1;
        }
        let connection = of.connection;
        self.store_of(node).carry_out(now, unix, connection, command)
    }

    /// The primary that a node has.
    fn store_of(&mut self, node: usize) -> &mut StoreModel {
        match &mut self.parted {
            Some(parted) if parted.alone == node => &mut parted.store,
            _ => &mut self.store,
        }
    }

    /// Mostly quick, sometimes late: later ones overtake.
    pub(super) fn store_delay(&mut self) -> Duration {
        if self.below(20) == 0 { self.between(1_000, 200_000) } else { self.between(200, 3_000) }
    }

    pub(super) fn handle(&mut self, n: usize, input: Input) {
        let mut out = Vec::new();
        if let Some(waiting) = &mut self.nodes[n].paused {
            return waiting.push(input);
        }
        self.send_media(n);
        let Some(gateway) = &mut self.nodes[n].gateway else { return };
        gateway.handle(self.now, input, &mut out);
        for output in out {
            self.perform(n, output);
        }
        self.keep(n);
    }

    pub(crate) fn push_to_node(&mut self, to: usize, process: u64, input: Input) {
        self.push(Duration::ZERO, Delivery::Node { to, process, input });
    }

    pub(crate) fn perform(&mut self, n: usize, output: Output) {
        let process = self.nodes[n].process;
        match output {
            Output::Send(t) => self.send(n, t.hop, t.bytes.to_vec()),
            Output::Media { command, .. } => {
                if let Some((session, notice)) = self.media(n, &command) {
                    let input = Input::Media { session, notice };
                    self.push(Duration::ZERO, Delivery::Node { to: n, process, input });
                }
            }
            Output::Store(command) => self.send_to_store(n, command),
            Output::TakeUp(taken) => self.take_up(n, *taken),
            Output::Ask(Question::Locate { seeker, ask, users, .. }) => {
                self.located += 1;
                self.last_asked = users.len();
                if self.locate_unanswered || self.nodes[n].store_mute {
                    return;
                }
                let late = std::mem::take(&mut self.locate_late);
                let answer: LocatedUsers = if self.store_down || self.nodes[n].store_cut {
                    Err("the store is away".into())
                } else {
                    let store = self.store_of(n);
                    Ok(users.iter().map(|u| (u.clone(), store.find(u))).collect())
                };
                for _ in 0..1 + usize::from(self.below(10) == 0) {
                    let after = self.between(200, 20_000) + late + self.store_slow;
                    let input = Input::Located { seeker, ask, answer: answer.clone() };
                    self.push(after, Delivery::Node { to: n, process, input });
                }
            }
            Output::Event(event) => self.note(n, &event),
            Output::CloseFlow(flow) => {
                let phone = self.phones.iter().position(|p| p.at == Some((n, flow.0)));
                if let Some(phone) = phone {
                    self.phone_gone(phone);
                    self.push(
                        Duration::ZERO,
                        Delivery::Node { to: n, process, input: Input::FlowClosed { flow } },
                    );
                }
            }
            Output::Ask(_) | Output::Disconnect(_) | Output::FlowInCall { .. } => {}
        }
    }

    pub(super) fn note(&mut self, n: usize, event: &Event) {
        if let Event::NodeDeposed { by } = event {
            self.nodes[n].deposed_now = true;
            // What it lets go of is known if the store says so of the node that has it.
            let said = self.nodes[n].owner_said.take().filter(|(owner, _)| owner == by);
            let names = said.and_then(|(_, names)| names);
            self.nodes[n].names_unknown = names.is_none();
            self.calls.lets_go((n, self.nodes[n].process), names.as_deref());
        }
        let text = format!("{event:?}");
        if let Event::CallStarted { call, .. } = event {
            self.calls.began(*call);
        }
        if let Event::CallEnded { cdr } = event {
            let verdict = cdr.verdict.as_ref().expect("a verdict");
            self.nodes[n].codes.push(verdict.code);
            let at = self.now - self.start;
            self.picture
                .push(format!("{at:?} n{n}: {} {} {}", cdr.call, verdict.code, verdict.sentence));
            self.calls.recorded(cdr.call, (n, self.nodes[n].process));
        } else if !text.contains("uality") {
            let line: String = text.chars().take(160).collect();
            self.picture.push(format!("{:?} n{n}: {line}", self.now - self.start));
        }
        self.nodes[n].said.push(text);
    }

    pub(super) fn media(&mut self, n: usize, command: &WorkerCommand) -> Option<(u64, Notice)> {
        self.calls.configured(command);
        match command {
            WorkerCommand::Vouch { until } => self.nodes[n].vouched = *until,
            WorkerCommand::Close { session } => {
                self.nodes[n].streams.remove(&CallId(*session));
            }
            _ => {}
        }
        let ends = &mut self.nodes[n].ends;
        match command {
            WorkerCommand::Open { session, end, .. } => {
                ends.insert((*session, *end));
                let port = self.free_port();
                self.calls.received_at(n, (*session, *end), port);
                let address = SocketAddr::from(([0, 0, 0, 0], port));
                Some((*session, Notice::Opened { end: *end, address, tcp: false }))
            }
            WorkerCommand::CloseEnd { session, end } => {
                ends.remove(&(*session, *end));
                Some((*session, Notice::EndClosed { end: *end, statistics: Box::default() }))
            }
            WorkerCommand::Close { session } => {
                ends.retain(|e| e.0 != *session);
                Some((*session, Notice::Closed { statistics: Vec::new() }))
            }
            _ => None,
        }
    }

    /// A port that no other end has had of late.
    pub(crate) fn free_port(&mut self) -> u16 {
        self.ports = self.ports.wrapping_add(2).max(20_000);
        self.ports
    }
}
