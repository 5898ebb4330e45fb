//! What the core has the thread do.

use super::super::{OpenedSockets, WorkerCommand, WorkerMessage};
use super::{LiveSession, Running, TrunkSockets, hear};
use crate::datagrams::local::LocalSource;
use crate::media::endpoint::EndpointKind;
use crate::media::{LegId, Session};
use crate::sdp::offer_answer::Ice;
use mio::net::TcpStream;
use std::net::IpAddr;
use std::time::{Instant, SystemTime};

impl Running {
    /// Returns true if the thread is to stop.
    pub(super) fn orders(&mut self) -> bool {
        while let Some(order) = self.next_order() {
            if self.take(order) {
                return true;
            }
        }
        false
    }

    /// Returns true if the thread is to stop.
    pub(super) fn take(&mut self, order: WorkerMessage) -> bool {
        match order {
            WorkerMessage::Stop => {
                self.orders = None;
                return true;
            }
            WorkerMessage::Thaw => self.thaw(),
            WorkerMessage::Restore(restored) => self.restore(*restored),
            order if self.frozen => self.postponed.push_back(order),
            order => self.order(order),
        }
        false
    }

    pub(super) fn next_order(&mut self) -> Option<WorkerMessage> {
        let postponed = if self.frozen { None } else { self.postponed.pop_front() };
        postponed.or_else(|| self.orders.as_ref().and_then(|(_, inbox)| inbox.try_recv().ok()))
    }

    pub(super) fn order(&mut self, order: WorkerMessage) {
        match order {
            WorkerMessage::Freeze(tell) => {
                self.frozen = true;
                let _ = tell.send(self.hand_over());
            }
            WorkerMessage::Done(tell) => drop(tell.send(())),
            WorkerMessage::Stream(socket) => {
                let (registry, socket) = (self.poll.registry(), TcpStream::from_std(socket));
                self.streams.open(registry, socket, Instant::now());
            }
            WorkerMessage::Adopt(socket, from) => {
                if socket.set_nonblocking(true).is_ok() {
                    let (registry, socket) = (self.poll.registry(), TcpStream::from_std(socket));
                    self.streams.adopt(registry, (socket, from), Instant::now());
                }
            }
            WorkerMessage::Open { session, end, kind, ssrc, cname, seed } => {
                self.open(session, end, kind, ssrc, &cname, seed)
            }
            WorkerMessage::Command(command) => self.command(Instant::now(), command),
            // Taken before.
            WorkerMessage::Thaw | WorkerMessage::Restore(_) | WorkerMessage::Stop => {}
        }
    }

    pub(super) fn command(&mut self, now: Instant, command: WorkerCommand) {
        match command {
            WorkerCommand::Configure { session, end, settings } => {
                self.on_session(session, now, |s, now, sink| {
                    s.configure(now, end, *settings, sink)
                });
                self.refresh_routes(now, session, end);
            }
            WorkerCommand::Bridge { session, a, b } => {
                self.on_session(session, now, |s, now, _| s.bridge(now, a, b))
            }
            #[cfg(test)]
            WorkerCommand::Panic => panic!("a bug outside any session"),
            WorkerCommand::Unbridge { session, end } => {
                self.on_session(session, now, |s, _, _| s.unbridge(end))
            }
            WorkerCommand::Play { session, end, source } => {
                self.on_session(session, now, |s, now, _| s.play(now, end, source))
            }
            WorkerCommand::Echo { session, end, delay } => {
                self.on_session(session, now, |s, _, _| s.echo(end, delay))
            }
            WorkerCommand::Digit { session, end, event, length } => {
                self.on_session(session, now, |s, _, _| s.digit(end, event, length))
            }
            WorkerCommand::Natted { session, end, signalling } => {
                self.on_session(session, now, |s, _, _| s.mark_behind_nat(end, signalling))
            }
            WorkerCommand::Answered { session, end } => {
                self.on_session(session, now, |s, now, _| s.on_answered(now, end))
            }
            WorkerCommand::Source { session, end, local } => self.source(session, end, local),
            WorkerCommand::OfferIce { session, end, ice } => {
                self.on_session(session, now, |s, _, _| s.offer_ice(end, ice));
                self.refresh_routes(now, session, end);
            }
            WorkerCommand::Journal { session } => {
                if let Some(live) = self.sessions.get_mut(&session) {
                    live.journalled = true;
                }
                self.on_session(session, now, |s, now, _| s.keep(now))
            }
            WorkerCommand::Confirm { session, number } => {
                self.on_session(session, now, |s, _, _| s.confirm(number))
            }
            WorkerCommand::Forgotten { session } => {
                self.on_session(session, now, |s, _, _| s.forgotten())
            }
            WorkerCommand::Vouch { until } => self.vouch(now, until),
            WorkerCommand::Renew { session, end, ice } => self.renew(now, session, end, ice),
            WorkerCommand::Away { session, end, away } => {
                self.on_session(session, now, |s, _, _| s.set_away(end, away))
            }
            WorkerCommand::CloseEnd { session, end } => self.close_end(session, end),
            WorkerCommand::Close { session } => self.close(session),
            // Opened by `Worker::command`, which has the sockets.
            WorkerCommand::Open { .. } => {}
        }
    }

    pub(super) fn open(
        &mut self,
        id: u64,
        end: LegId,
        kind: OpenedSockets,
        ssrc: u32,
        cname: &str,
        seed: u64,
    ) {
        let now = Instant::now();
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let complexity = self.load.complexity();
        let live = self.sessions.entry(id).or_insert_with(|| {
            let mut session = Session::new(now, unix);
            session.limit_complexity(complexity);
            session.keep_at_leisure(now);
            session.vouch(self.vouched);
            LiveSession::new(session)
        });
        let kind = match kind {
            OpenedSockets::Browser { ice } => {
                EndpointKind::Browser { identity: self.identity.clone(), ice }
            }
            OpenedSockets::Trunk { nat, pair } => {
                let tokens = hear(self.poll.registry(), &mut self.tokens, (id, end), &pair);
                live.lines.push(TrunkSockets { end, pair, tokens, source: None, local: None });
                EndpointKind::Trunk { nat }
            }
        };
        live.session.open(end, kind, ssrc, cname, seed);
        self.refresh_routes(now, id, end);
    }

    /// Nothing finds the end any more by what led to the page before.
    pub(super) fn renew(&mut self, now: Instant, id: u64, end: LegId, ice: Ice) {
        let Some(live) = self.sessions.get_mut(&id) else { return };
        let routes = live.routes.take_of(end);
        self.drop_routes(id, routes);
        let kind = EndpointKind::Browser { identity: self.identity.clone(), ice };
        self.on_session(id, now, |s, now, _| s.renew(now, end, kind));
        self.refresh_routes(now, id, end);
    }

    pub(super) fn source(&mut self, id: u64, end: LegId, local: Option<IpAddr>) {
        let lines = self.sessions.get_mut(&id).into_iter().flat_map(|live| &mut live.lines);
        for line in lines.filter(|l| l.end == end) {
            line.source = local.map(|local| LocalSource::new(local, self.ipv6));
            line.local = local;
        }
    }
}
