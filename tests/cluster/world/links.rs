//! What goes from a node to the store, to phones, to other nodes and to the trunk.

use crate::world::{Delivery, MS, TRUNK, World};
use std::net::SocketAddr;
use std::time::Duration;
use webtrunk::cluster::store::StoreCommand;
use webtrunk::gateway::Input;
use webtrunk::sip::Message;
use webtrunk::sip::parse::{Framing, HeaderName};
use webtrunk::sip::transaction::Hop;

impl World {
    pub(super) fn send_to_store(&mut self, n: usize, command: StoreCommand) {
        let process = self.nodes[n].process;
        if self.store_down || self.nodes[n].store_cut {
            // Refused at once, or never answered.
            if self.below(2) == 0 {
                let answer = command.refused("no connection");
                let after = self.between(100, 400_000);
                let input = Input::Store(answer);
                self.push(after, Delivery::Node { to: n, process, input });
            }
            return;
        }
        if matches!(command, StoreCommand::Spend { .. }) && !self.tokens_late.is_zero() {
            return self.push(self.tokens_late, Delivery::Store { node: n, process, command });
        }
        // A connection keeps its order; a late one overtakes nobody.
        let after = self.store_delay() + self.store_slow / 2;
        let last = self.last.entry((n, 99)).or_insert(self.now);
        let at = (self.now + after).max(*last + Duration::from_micros(1));
        *last = at;
        let after = at - self.now;
        self.push(after, Delivery::Store { node: n, process, command });
    }

    pub(super) fn send(&mut self, n: usize, hop: Hop, bytes: Vec<u8>) {
        match hop {
            Hop::Flow(flow) => {
                let phone = self.phones.iter().position(|p| p.at == Some((n, flow.0)));
                let Some(phone) = phone else { return };
                let attempt = self.phones[phone].attempts;
                let after = self.between(100, 5_000);
                let last = self.last.entry((100 + phone, 1)).or_insert(self.now);
                let at = (self.now + after).max(*last + Duration::from_micros(1));
                *last = at;
                let after = at - self.now;
                self.push(after, Delivery::Phone { phone, attempt, bytes });
            }
            Hop::Node(at) => {
                let to = self.nodes.iter().position(|node| node.address == at);
                let to = to.expect("a node of this world");
                self.send_to_node(n, to, bytes);
            }
            Hop::Udp(to) if to == TRUNK => {
                let message = Message::parse(bytes, Framing::Datagram).expect("it can be read");
                if self.unheard == Some(n) {
                    return;
                }
                if message.is_request() && message.method_token() == "REGISTER" {
                    self.trunk_registers(n, &message);
                }
                self.trunk.push((n, message));
            }
            other => panic!("nothing is sent to {other}"),
        }
    }

    /// The trunk lets a node register.
    pub(super) fn trunk_registers(&mut self, n: usize, register: &Message) {
        let header = |name| register.header(name).unwrap_or_default().to_owned();
        let ok = format!(
            "SIP/2.0 200 OK\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=t\r\nCall-ID: {}\r\nCSeq: {}\r\n\
             Contact: {};expires=60\r\nContent-Length: 0\r\n\r\n",
            header(HeaderName::Via),
            header(HeaderName::From),
            header(HeaderName::To),
            register.call_id(),
            header(HeaderName::CSeq),
            header(HeaderName::Contact),
        );
        let message = Message::parse(ok.into_bytes(), Framing::Datagram).expect("sound");
        let (hop, process) = (Hop::Udp(TRUNK), self.nodes[n].process);
        let input = Input::Received { hop, remote: TRUNK, message };
        self.push(5 * MS, Delivery::Node { to: n, process, input });
    }

    pub(super) fn send_to_node(&mut self, n: usize, to: usize, bytes: Vec<u8>) {
        let message = Message::parse(bytes, Framing::WebSocket).expect("it can be read");
        message.check().unwrap_or_else(|e| panic!("{e}: {message:?}"));
        let first = message.request_uri().to_owned();
        let line = if message.is_request() {
            format!("{} {first}", message.method_token())
        } else {
            format!("{} {:?}", message.status(), message.method())
        };
        self.picture.push(format!("{:?} n{n} to n{to}: {line}", self.now - self.start));
        if self.nodes[n].links.get(&to) == Some(&true) {
            return;
        }
        if self.is_cut(n, to) || self.nodes[to].gateway.is_none() {
            let after = if self.is_cut(n, to) { 2_000 * MS } else { MS };
            return self.break_link(n, to, after);
        }
        self.nodes[n].links.insert(to, false);
        let (hop, process) = (Hop::Node(self.nodes[n].address), self.nodes[to].process);
        let remote = SocketAddr::from(([127, 0, 1, n as u8], 50_000));
        let input = Input::Received { hop, remote, message };
        // TCP keeps the order.
        let after = self.between(100, 10_000);
        let last = self.last.entry((n, to)).or_insert(self.now);
        let at = (self.now + after).max(*last + Duration::from_micros(1));
        *last = at;
        let after = at - self.now;
        self.push(after, Delivery::Node { to, process, input });
    }
}
