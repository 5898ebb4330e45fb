//! What fails, and what comes of it.

use crate::world::{Delivery, Fault, MS, NodeState, PHONES, World};
use std::net::SocketAddr;
use std::time::Duration;
use webtrunk::errors::Code;
use webtrunk::gateway::{FlowKind, Gateway, Input};
use webtrunk::sip::transaction::{Flow, Hop};

/// Whether it is on its way to a node, by the link from the node at `from`.
fn goes_by_link(delivery: &Delivery, node: usize, from: SocketAddr) -> bool {
    match delivery {
        Delivery::Node { to, input: Input::Received { hop, .. }, .. } => {
            *to == node && *hop == Hop::Node(from)
        }
        _ => false,
    }
}

impl World {
    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains(&(from.min(to), from.max(to))) || self.one_way.contains(&(from, to))
    }

    /// Whether a node can tell another nothing, neither by the store nor by itself.
    pub(crate) fn cannot_tell(&self, from: usize, to: usize) -> bool {
        let node = &self.nodes[from];
        let away = node.gateway.is_none() || node.paused.is_some();
        away || from != to && node.store_cut && self.is_cut(from, to)
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.picture.push(format!("{:?} {fault:?}", self.now - self.start));
        match fault {
            Fault::Cut(a, b) => self.cut(a, b),
            Fault::Heal(a, b) => self.heal(a, b),
            Fault::CutOneWay(from, to) => {
                self.one_way.insert((from, to));
                self.lose(from, to);
            }
            Fault::CutStore(n) => self.nodes[n].store_cut = true,
            Fault::HealStore(n) => {
                let mute = std::mem::take(&mut self.nodes[n].store_mute);
                if std::mem::take(&mut self.nodes[n].store_cut) || mute {
                    self.nodes[n].connection += 1;
                }
            }
            Fault::StoreMute(n) => self.nodes[n].store_mute = true,
            Fault::StoreDown => self.store_down = true,
            Fault::StoreUp => {
                self.locate_unanswered = false;
                if std::mem::take(&mut self.store_down) {
                    self.store.generation += 1;
                }
            }
            Fault::StoreEmpty => {
                self.store.forget();
                self.calls.store_lost(self.now);
            }
            Fault::StoreFailsOver => {
                self.store.fail_over();
                self.calls.store_lost(self.now);
            }
            Fault::StoreSlow(by) => self.store_slow = by,
            Fault::StoreOfBefore(back, clock) => {
                self.store.restore(self.now, back, clock);
                self.calls.store_lost(self.now);
            }
            Fault::StoreParts { alone, needs } => self.part_store(alone, needs),
            Fault::StoreMeets => self.parted = None,
            Fault::StoreClock(by) => self.set_store_clock(by),
            Fault::NodeClock(n, ahead) => self.nodes[n].clock = ahead,
            Fault::LocateUnanswered => self.locate_unanswered = true,
            Fault::Kill(n) => self.kill(n),
            Fault::Start(n) => {
                if self.nodes[n].gateway.is_none() {
                    self.start_node(n);
                }
            }
            Fault::Drop(phone) => self.drop_phone(phone),
            Fault::Pause(n) => {
                if self.nodes[n].paused.is_none() {
                    self.send_media(n);
                }
                if self.nodes[n].gateway.is_some() {
                    self.nodes[n].paused.get_or_insert_default();
                }
            }
            Fault::Wake(n) => {
                if self.nodes[n].paused.is_some() {
                    self.overslept(n);
                }
                for input in self.nodes[n].paused.take().into_iter().flatten() {
                    self.handle(n, input);
                }
            }
            Fault::Upgrade(n) => self.begin_upgrade(n),
        }
    }

    /// Two nodes lose each other, and what is under way between them.
    fn cut(&mut self, a: usize, b: usize) {
        self.cuts.insert((a.min(b), a.max(b)));
        self.lose(a, b);
        self.lose(b, a);
    }

    /// What is under way from one node to another is lost. The connection stands for a while.
    fn lose(&mut self, from: usize, to: usize) {
        let at = self.nodes[from].address;
        let lost = |d: &Delivery| goes_by_link(d, to, at);
        self.queue.retain(|_, d| !lost(d));
        if let Some(broken) = self.nodes[from].links.get_mut(&to) {
            *broken = true;
            let after = self.between(1_000_000, 20_000_000);
            self.break_link(from, to, after);
        }
    }

    fn heal(&mut self, a: usize, b: usize) {
        self.cuts.remove(&(a.min(b), a.max(b)));
        for way in [(a, b), (b, a)] {
            self.one_way.remove(&way);
        }
        for (from, to) in [(a, b), (b, a)] {
            if self.nodes[from].links.get(&to) == Some(&true) {
                self.break_link(from, to, Duration::ZERO);
            }
        }
    }

    /// A node's process ends as it should, though its calls are not over.
    pub(crate) fn stop(&mut self, n: usize) {
        let mut out = Vec::new();
        self.nodes[n].gateway.as_mut().expect("it runs").let_go_of_all(&mut out);
        out.into_iter().for_each(|output| self.perform(n, output));
        self.fault(Fault::Kill(n));
    }

    /// A connection from one node to another is found to be broken after a while.
    pub(super) fn break_link(&mut self, from: usize, to: usize, after: Duration) {
        let (hop, process) = (Hop::Node(self.nodes[to].address), self.nodes[from].process);
        // What was to be found later is found now.
        let same = |d: &Delivery| match d {
            Delivery::Node { to: n, input: Input::Unreachable { hop: h, .. }, .. } => {
                *n == from && *h == hop
            }
            _ => false,
        };
        self.queue.retain(|_, d| !same(d));
        let input = Input::Unreachable { hop, code: Code::NODE_AWAY, why: "cut".into() };
        self.push(after, Delivery::Node { to: from, process, input });
    }

    pub(super) fn kill(&mut self, n: usize) {
        if self.nodes[n].paused.is_none() {
            self.send_media(n);
        }
        let mark =
            self.nodes[n].gateway.as_ref().map(|g| g.cluster().expect("one").mark_of_process());
        let claimed = mark.as_ref().map_or(Vec::new(), |mark| self.store.claimed_by(mark));
        let knows = |node: &NodeState| {
            let cluster = node.gateway.as_ref().and_then(Gateway::cluster);
            let mut members = cluster.into_iter().flat_map(|cluster| cluster.members());
            members.any(|member| Some(member.process().mark()) == mark)
        };
        let others =
            self.nodes.iter().enumerate().filter(|(other, node)| *other != n && knows(node));
        let heirs = others.map(|(other, node)| (other, node.process)).collect();
        let node = &mut self.nodes[n];
        if node.gateway.take().is_none() {
            return;
        }
        node.links.clear();
        node.ends.clear();
        node.streams.clear();
        (node.paused, node.vouched) = (None, None);
        self.calls.gone((n, self.nodes[n].process), &claimed, heirs);
        if self.floats {
            for of in self.addresses.held_by(n) {
                let (after, process) = (self.between(300_000, 3_000_000), self.nodes[of].process);
                self.push(after, Delivery::Address { of, process });
            }
        }
        // Its connections are reset, and its browsers look for another node.
        self.links_end(n);
        for phone in 0..PHONES {
            if self.phones[phone].at.is_some_and(|(node, _)| node == n) {
                self.phone_gone(phone);
            }
        }
    }

    /// The connections of others to a node are reset.
    pub(super) fn links_end(&mut self, n: usize) {
        for other in (0..self.nodes.len()).filter(|o| *o != n) {
            if self.nodes[other].links.contains_key(&n) && !self.is_cut(n, other) {
                self.break_link(other, n, MS);
            }
        }
    }

    pub(super) fn drop_phone(&mut self, phone: usize) {
        let Some((node, flow)) = self.phones[phone].at else { return };
        self.handle(node, Input::FlowClosed { flow: Flow(flow) });
        self.phone_gone(phone);
    }

    pub(super) fn phone_gone(&mut self, phone: usize) {
        self.phones[phone].at = None;
        self.phones[phone].attempts += 1;
        if self.roams {
            let attempt = self.phones[phone].attempts;
            let after = self.between(100_000, 1_500_000);
            self.push(after, Delivery::Connect { phone, attempt });
        }
    }

    pub(super) fn connect(&mut self, phone: usize, node: usize) {
        if self.nodes[node].gateway.is_none() {
            return self.phone_gone(phone);
        }
        self.connect_silently(phone, node);
        self.register_again(phone);
    }

    /// A phone has a connection to a node, and says nothing.
    pub(crate) fn connect_silently(&mut self, phone: usize, node: usize) {
        self.next += 1;
        let flow = self.next;
        self.phones[phone].attempts += 1;
        self.phones[phone].at = Some((node, flow));
        self.picture.push(format!("{:?} u{phone} at n{node}", self.now - self.start));
        let remote = SocketAddr::from(([127, 0, 0, 20], 40_000));
        self.handle(
            node,
            Input::FlowOpened { flow: Flow(flow), kind: FlowKind::WebSocket, remote },
        );
    }

    /// Lets things fail at random, and people call one another.
    pub(crate) fn stir(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let step = self.between(50_000, 1_500_000);
            self.run(step);
            let (n, phone) =
                (self.below(self.size as u64) as usize, self.below(PHONES as u64) as usize);
            let other = (n + 1 + self.below(self.size as u64 - 1) as usize) % self.size;
            match self.below(27) {
                0 | 1 => self.fault(Fault::Cut(n, other)),
                2 | 3 => self.fault(Fault::Heal(n, other)),
                4 => self.fault(Fault::CutStore(n)),
                5 | 6 => self.fault(Fault::HealStore(n)),
                7 => self.fault(Fault::StoreDown),
                8 | 9 => self.fault(Fault::StoreUp),
                10 => self.fault(Fault::StoreFailsOver),
                11 => self.fault(Fault::StoreEmpty),
                12 => self.fault(Fault::Kill(n)),
                13..=15 => self.fault(Fault::Start(n)),
                16 => self.fault(Fault::Drop(phone)),
                17 => self.fault(Fault::LocateUnanswered),
                18 => self.hang_up(phone),
                24 => self.fault(Fault::Pause(n)),
                25 | 26 => self.fault(Fault::Wake(n)),
                _ => {
                    let to = (phone + 1 + self.below(PHONES as u64 - 1) as usize) % PHONES;
                    if self.phones[phone].at.is_some() {
                        self.call(phone, to);
                    }
                }
            }
        }
    }

    /// The last faults: everything works again from now on.
    pub(crate) fn heal_all(&mut self) {
        // Whoever began a second process by mistake has seen that, and stops it.
        (self.size..self.nodes.len()).for_each(|twin| self.fault(Fault::Kill(twin)));
        for n in 0..self.size {
            self.fault(Fault::Wake(n));
            self.fault(Fault::Start(n));
            self.fault(Fault::HealStore(n));
            (0..n).for_each(|other| self.fault(Fault::Heal(n, other)));
        }
        self.fault(Fault::StoreSlow(Duration::ZERO));
        self.fault(Fault::StoreMeets);
        self.fault(Fault::StoreUp);
    }
}
