//! A process that gives its place and its calls to the next one of its node.

use crate::world::{Delivery, PHONES, World};
use std::time::{Duration, Instant};

/// How long an upgrade waits for calls that ring, and how often it looks.
const WAIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

impl World {
    /// An operator upgrades a node. New calls are refused there until that is done, or is not.
    pub(super) fn begin_upgrade(&mut self, n: usize) {
        let (node, until) = (&mut self.nodes[n], self.now + WAIT);
        let Some(gateway) = &mut node.gateway else { return };
        if !std::mem::replace(&mut node.upgrading, true) {
            let process = node.process;
            gateway.refuse_for_upgrade(true);
            self.push(Duration::ZERO, Delivery::HandOver { node: n, process, until });
        }
    }

    /// A node gives its calls to its next process, once none rings and no record waits, or it has
    /// waited long enough for that; unless it does not know whether they are its own.
    pub(super) fn hand_over(&mut self, n: usize, process: u64, until: Instant) {
        let (now, node) = (self.now, &mut self.nodes[n]);
        let Some(gateway) = node.gateway.as_mut().filter(|_| node.process == process) else {
            return;
        };
        let waits = gateway.unsettled() > 0 || gateway.keeps_back();
        if node.paused.is_some() || waits && now < until {
            return self.push(LOOK, Delivery::HandOver { node: n, process, until });
        }
        match gateway.may_hand_over(now) {
            Ok(()) => self.upgrade(n),
            Err(why) => {
                gateway.refuse_for_upgrade(false);
                node.upgrading = false;
                self.tell(format!("n{n} is not upgraded: {why}"));
            }
        }
    }

    /// A node's process gives its place to another, with its calls; its connections end.
    pub(crate) fn upgrade(&mut self, n: usize) {
        self.upgrades += 1;
        self.tell(format!("n{n} is upgraded"));
        self.send_media(n);
        let gateway = self.nodes[n].gateway.take().expect("it runs");
        let given = gateway.all_calls(self.now, Vec::new());
        let known = (gateway.taken_processes(), gateway.former_processes());
        self.nodes[n].links.clear();
        self.links_end(n);
        for phone in 0..PHONES {
            if self.phones[phone].at.is_some_and(|(node, _)| node == n) {
                self.phone_gone(phone);
            }
        }
        self.begin_process(n);
        self.records_begin_anew(n);
        self.go_on(n, given, known);
    }
}
