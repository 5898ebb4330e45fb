//! What the machine puts out, carried out: messages to sockets, commands to workers, questions.

use super::core::Core;
use crate::call::CallId;
use crate::call::context::{Output, Question};
use crate::config::Webhook;
use crate::config::check::steps_of;
use crate::datagrams::local::LocalSource;
use crate::errors::Code;
use crate::event::Event;
use crate::gateway::Input;
use crate::gateway::logins::{ASK_LIMIT, Answered};
use crate::log_limit::{self, Level, LineClass};
use crate::sip::transaction::Hop;
use crate::state::checkpoints::Slot;
use crate::transport::nodes;
use crate::transport::tcp::Secure;
use crate::transport::{CONNECTION_QUEUE, for_socket, tcp};
use crate::webhook::{Hook, keys};
use crate::worker::{Notice, QueueFull, WorkerCommand};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::sync::mpsc;

impl Core {
    pub(super) fn perform_all(&mut self, out: &mut Vec<Output>) {
        // What a worker says at once is an input again.
        while !out.is_empty() {
            let mut notices = Vec::new();
            out.drain(..).for_each(|output| notices.extend(self.perform(output)));
            for (session, notice) in notices {
                self.gateway.handle(Instant::now(), Input::Media { session, notice }, out);
            }
        }
    }

    pub(super) fn perform(&mut self, output: Output) -> Option<(u64, Notice)> {
        match output {
            Output::Send(transmit) => self.send(transmit.hop, transmit.bytes),
            // Dropping the sender ends the connection's task once what waits is written.
            Output::CloseFlow(flow) => drop(self.flows.remove(&flow)),
            Output::FlowInCall { flow, in_call } => {
                self.flows.get(&flow).map(|task| task.in_call.send_replace(in_call));
            }
            Output::Media { worker, command } => return self.command_worker(worker, command),
            Output::Ask(Question::Dns(query)) => {
                let (inbox, dns) = (self.inbox.clone(), self.dns.clone());
                tokio::spawn(async move {
                    let answer = dns.ask(&query).await;
                    inbox.input(Input::Dns { query, answer }).await;
                });
            }
            Output::Ask(Question::Keys(settings)) => {
                let inbox = self.inbox.clone();
                tokio::spawn(
                    async move { inbox.input(Input::Keys(keys::read(&settings).await)).await },
                );
            }
            Output::Ask(Question::Login { id, name, hook, body }) => {
                self.ask_login(id, name, &hook, body)
            }
            Output::Ask(Question::Route { call, hook, body, limit }) => {
                self.ask_route(call, hook, body, limit)
            }
            Output::Ask(Question::Locate { seeker, ask, users, .. }) => {
                self.links.iter().for_each(|links| links.store.locate(seeker, ask, users.clone()))
            }
            Output::Store(command) => {
                self.links.iter().for_each(|links| links.store.command(command.clone()))
            }
            Output::TakeUp(taken) => self.take_lost(*taken),
            Output::Disconnect(Hop::Flow(flow)) => drop(self.flows.remove(&flow)),
            Output::Disconnect(hop) => drop(self.connections.remove(&hop)),
            Output::Event(note) => self.tell_event(note),
        }
        None
    }

    /// Gives a worker a command; what it says at once is returned.
    pub(super) fn command_worker(
        &mut self,
        worker: usize,
        command: WorkerCommand,
    ) -> Option<(u64, Notice)> {
        let opens = if let WorkerCommand::Open { session, end, .. } = &command {
            Some((*session, *end))
        } else {
            None
        };
        match self.workers.get(worker).map(|w| w.command(command))? {
            Ok(notice) => opens.map(|(session, _)| session).zip(notice),
            Err(QueueFull) => {
                let class = LineClass::new("commands to a media worker lost", Code::WORKER_BEHIND);
                let line = || format!("media worker {worker} does not keep up");
                log_limit::tell(Level::Error, class, line);
                let (code, why) = (Code::WORKER_BEHIND, "the media worker does not keep up".into());
                opens.map(|(session, end)| (session, Notice::OpenFailed { end, code, why }))
            }
        }
    }

    pub(super) fn tell_event(&mut self, note: Event) {
        if note.class().is_none_or(log_limit::admit) {
            note.log();
        }
        let now = Instant::now();
        // The record first: whoever receives the event may look for it.
        if let Event::CallEnded { cdr } = &note {
            let kept = self.kept.ended(&mut self.gateway, cdr, &self.clock);
            if kept.is_some() {
                // A process that dies now must not leave the call to be continued, and recorded
                // once more.
                self.state.checkpoints.hurry();
            }
            match (&self.journal, kept) {
                (Some(journal), kept) => journal.record(cdr, &self.clock, kept),
                (None, kept) => kept.iter().for_each(Slot::remove),
            }
        }
        if matches!(note, Event::CallAnswered { .. }) {
            self.kept.note_answered();
        }
        if let (Event::CallEnded { cdr }, Some(telemetry)) = (&note, &self.telemetry) {
            telemetry.tell(cdr, &self.clock);
        }
        self.metrics.count(&note, now);
        self.feed.tell(note, now, &self.clock);
    }

    /// The target of these settings; kept, for its connections and its circuit breaker.
    fn hook(&mut self, settings: &Webhook) -> Result<Arc<Hook>, String> {
        if let Some(known) = self.hooks.get(&settings.url).filter(|h| h.settings() == settings) {
            return Ok(known.clone());
        }
        let hook = Hook::new(settings, self.metrics.webhook_counts.clone())
            .map(Arc::new)
            .map_err(|e| format!("webhooks cannot be sent: {e:#}"))?;
        self.hooks.insert(settings.url.clone(), hook.clone());
        Ok(hook)
    }

    pub(super) fn ask_login(&mut self, id: u64, name: String, settings: &Webhook, body: String) {
        let (inbox, hook) = (self.inbox.clone(), self.hook(settings));
        tokio::spawn(async move {
            let answer = match hook {
                Ok(hook) => hook.ask_user(&format!("auth_{id:016x}"), &body, ASK_LIMIT).await,
                Err(why) => Err(why),
            };
            let read = |text: String| {
                serde_json::from_str::<Answered>(&text)
                    .map(Box::new)
                    .map_err(|e| format!("its answer cannot be read: {e}"))
            };
            let answer = answer.and_then(|text| text.map(read).transpose());
            inbox.input(Input::Login { name, answer }).await;
        });
    }

    pub(super) fn ask_route(
        &mut self,
        call: CallId,
        settings: Webhook,
        body: String,
        limit: Duration,
    ) {
        let hook = self.hook(&settings);
        let (inbox, config) = (self.inbox.clone(), self.gateway.config().clone());
        // The call waits, so an answer comes whatever happens.
        tokio::spawn(async move {
            let answer = match hook {
                Ok(hook) => hook.ask(&format!("route_{call}"), &body, limit).await,
                Err(why) => Err(why),
            };
            let answer = answer.and_then(|text| steps_of(&text, &config)).map(Box::new);
            inbox.input(Input::Routed { call, answer }).await;
        });
    }

    pub(super) fn send(&mut self, hop: Hop, bytes: Bytes) {
        self.metrics.messages.sent(&bytes, self.gateway.transport(hop));
        if let Some(hep) = &mut self.hep {
            let to = hop.address().or_else(|| {
                if let Hop::Flow(flow) = hop {
                    self.gateway.flow(flow).map(|f| f.remote)
                } else {
                    None
                }
            });
            if let Some(to) = to {
                hep.sent(Instant::now(), to, self.gateway.is_stranger(hop), &bytes);
            }
        }
        match hop {
            // A full socket buffer loses the datagram, as the network might; the transaction
            // repeats it.
            Hop::Udp(to) => {
                if let Some(socket) = &self.udp {
                    let _ = socket.try_send_to(&bytes, for_socket(self.udp_is_ipv6, to));
                }
            }
            Hop::UdpFrom(to, local) => {
                if let Some(socket) = &self.udp {
                    let (source, ipv6) =
                        (LocalSource::new(local, self.udp_is_ipv6), self.udp_is_ipv6);
                    let _ = socket.try_io(Interest::WRITABLE, || {
                        source.send(socket, &bytes, for_socket(ipv6, to))
                    });
                }
            }
            Hop::Flow(flow) => {
                // A peer that does not read loses its connection, and nobody else is held up.
                if self.flows.get(&flow).is_some_and(|f| f.send.try_send(bytes).is_err()) {
                    self.flows.remove(&flow);
                }
            }
            Hop::Tcp(to) => self.send_connected(hop, to, None, bytes),
            Hop::Node(to) => self.send_to_node(to, bytes),
            // The gateway keeps those.
            Hop::Suspended => {}
            Hop::Tls(to, number) => {
                let secure = self.tls_trunks.get(&number).cloned();
                self.send_connected(hop, to, secure, bytes);
            }
        }
    }

    pub(super) fn send_to_node(&mut self, to: SocketAddr, bytes: Bytes) {
        let (hop, Some(links)) = (Hop::Node(to), &self.links) else { return };
        if self.connections.get(&hop).is_some_and(mpsc::Sender::is_closed) {
            self.connections.remove(&hop);
        }
        let connection = self.connections.entry(hop).or_insert_with(|| {
            let (send, outbox) = nodes::outbox();
            nodes::connect(to, links.tls.clone(), outbox, self.inbox.clone());
            send
        });
        if connection.try_send(bytes).is_err() {
            self.connections.remove(&hop);
        }
    }

    pub(super) fn send_connected(
        &mut self,
        hop: Hop,
        to: SocketAddr,
        secure: Option<Secure>,
        bytes: Bytes,
    ) {
        let inbox = &self.inbox;
        if self.connections.get(&hop).is_some_and(mpsc::Sender::is_closed) {
            self.connections.remove(&hop);
        }
        let connection = self.connections.entry(hop).or_insert_with(|| {
            let (send, outbox) = mpsc::channel(CONNECTION_QUEUE);
            tcp::connect(hop, to, secure, outbox, inbox.clone());
            send
        });
        if connection.try_send(bytes).is_err() {
            self.connections.remove(&hop);
        }
    }
}
