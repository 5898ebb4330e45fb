//! The cluster's part of each turn: what is due goes to the store, and what it found is reported.

use super::{Gateway, Turn};
use crate::call::Output;
use crate::cluster::Cluster;
use crate::cluster::lease::{Census, LeaseEvent};
use crate::cluster::member::NodeLoad;
use crate::cluster::other_nodes::MAX_BUSY;
use crate::cluster::shared_limits::{MAX_SHARES, calls_of, registration_of};
use crate::cluster::store::{ShareWish, StoreAnswer};
use crate::cluster::token::short;
use crate::cluster::work::{AnswerWork, Moment};
use crate::event::Event;
use crate::worker::WorkerCommand;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often workers learn how long they may continue, while that is not certain.
const VOUCH: Duration = Duration::from_secs(1);

impl Gateway {
    /// The time by both clocks.
    pub(super) fn moment(&self, now: Instant) -> Moment {
        Moment { now, unix: self.services.unix_of_start(now) }
    }

    /// Does what is due towards the store and the other nodes.
    pub(super) fn cluster_turn(&mut self, turn: &mut Turn<'_>) {
        let at = self.moment(turn.now);
        let Some(cluster) = &self.services.cluster else { return };
        let census = cluster.renews(turn.now).then(|| self.census(turn.now));
        let Some(cluster) = &mut self.services.cluster else { return };
        let census = || census.unwrap_or_default();
        let reach = &self.services.identity.reach;
        let work = cluster.turn(at, census, &self.services.registrar, &|ip| reach.has(ip));
        let vouched = cluster.vouched(turn.now);
        self.vouch(turn, vouched);
        turn.out.extend(work.commands.into_iter().map(Output::Store));
        turn.out.extend(work.events.into_iter().map(|event| Output::Event(event_of(event))));
        work.probes.iter().for_each(|probe| self.send_node_probe(turn, probe));
    }

    /// Has media go no further than another node would begin, unless none has it.
    fn vouch(&mut self, turn: &mut Turn<'_>, until: Option<Instant>) {
        // Repeated, since the queue of a worker may be full.
        let again = self.vouched.1.is_none_or(|at| turn.now >= at + VOUCH);
        if self.vouched.0 == until && (until.is_none() || !again) {
            return;
        }
        self.vouched = (until, Some(turn.now));
        for worker in 0..self.services.identity.workers {
            turn.push(Output::Media { worker, command: WorkerCommand::Vouch { until } });
        }
    }

    /// What this node reports with each renewal of its lease.
    fn census(&self, now: Instant) -> Census {
        let mut census = Census {
            load: NodeLoad {
                calls: self.calls.counts().0,
                registrations: self.services.registrar.len(),
                calls_left: self.calls_left(),
                draining: self.draining,
            },
            busy: self
                .calls
                .busy(MAX_BUSY)
                .map(|(user, n)| (short(Some(user)), n as u32))
                .collect(),
            config: self.config.common,
            ..Census::default()
        };
        for trunk in self.config.trunks.shared().take(MAX_SHARES / 2) {
            let used = self.calls_of(&trunk.name) as u64;
            let calls = trunk.max_calls.map(|limit| (calls_of(&trunk.name), limit as u64, used));
            // Its holder asks like all others: a grant is its own until its lease ends.
            let most = u64::from(!self.leaves_registration(now, &trunk.name));
            let one = trunk.register_once.then(|| (registration_of(&trunk.name), most, 0));
            census.wishes.extend(
                calls.into_iter().chain(one).map(|(name, limit, used)| ShareWish {
                    name,
                    limit,
                    used,
                }),
            );
            if trunk.register_once && self.registers(&trunk.name) {
                census.registers.push(trunk.name.clone());
            }
        }
        self.add_paces(now, &mut census.wishes);
        census
    }

    /// What trunks may begin in a second comes last: who finds no place has its equal part.
    fn add_paces(&self, now: Instant, wishes: &mut Vec<ShareWish>) {
        let Some(cluster) = &self.services.cluster else { return };
        let paced = self.config.trunks.paced();
        let paced = paced.filter_map(|trunk| Some((&trunk.name, trunk.calls_per_second?)));
        for (trunk, limit) in paced.take(MAX_SHARES.saturating_sub(wishes.len())) {
            let wanted = self.services.trunks.wanted_calls(now, trunk);
            wishes.push(cluster.pace_wish(now, trunk, limit, wanted));
        }
    }

    /// Whether another node is to register with a trunk of which one node does: this one takes no
    /// new calls, or does not reach it.
    fn leaves_registration(&self, now: Instant, trunk: &str) -> bool {
        let registrations = self.services.trunks.get(trunk).map(|trunk| &trunk.registrations);
        self.draining || registrations.into_iter().flatten().any(|r| r.gives_way(now))
    }

    /// Whether this node is to register with a trunk of which one node does.
    pub(super) fn registers(&self, trunk: &str) -> bool {
        self.services.cluster.as_ref().is_none_or(|cluster| cluster.registers(trunk))
    }

    pub(super) fn store_answered(&mut self, turn: &mut Turn<'_>, answer: StoreAnswer) {
        let at = self.moment(turn.now);
        let Some(cluster) = &mut self.services.cluster else { return };
        let AnswerWork { events, taken, deposed, spent } = cluster.answered(at, answer);
        turn.out.extend(events.into_iter().map(|event| Output::Event(event_of(event))));
        if let Some((_, names)) = deposed {
            self.deposed(turn, &names);
        }
        if let Some(taken) = taken {
            turn.push(Output::TakeUp(Box::new(taken)));
        }
        if let Some((id, answer)) = spent {
            self.token_spent(turn, id, answer);
        }
    }

    /// A call's value is to be written to the store, as it was `age` ago; `None`: it is of no use
    /// any more. Returns its number; `None` if there is no cluster.
    pub fn keep_in_store(
        &mut self,
        now: Instant,
        name: &str,
        value: Option<Arc<[u8]>>,
        age: Duration,
    ) -> Option<u64> {
        Some(self.services.cluster.as_mut()?.keep(now, name, value, age))
    }

    /// Which values the store has confirmed since last asked, by name and number.
    pub fn take_confirmed(&mut self, now: Instant) -> Vec<(String, u64)> {
        self.services.cluster.as_mut().map(|c| c.take_confirmed(now)).unwrap_or_default()
    }

    /// The cluster this node is part of, if it is.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.services.cluster.as_ref()
    }
}

fn event_of(event: LeaseEvent) -> Event {
    match event {
        LeaseEvent::NodeUp { node } => Event::NodeUp { node },
        LeaseEvent::NodeDown { node } => Event::NodeDown { node },
        LeaseEvent::StoreAway { why } => Event::StoreAway { why },
        LeaseEvent::StoreBack { away } => Event::StoreBack { away },
        LeaseEvent::NameTaken { node, by } => Event::NodeNameTaken { node, by },
        LeaseEvent::ClockSkew { seconds } => Event::ClockSkew { seconds },
        LeaseEvent::OtherKey { node } => Event::OtherClusterKey { node },
        LeaseEvent::Deposed { by } => Event::NodeDeposed { by },
    }
}
