//! The desk a call works at: what it may use of the node while it handles one input.

use super::CallId;
use crate::config::Config;
use crate::media::EndId;
use crate::observe::Note;
use crate::registrar::Registrar;
use crate::sip::build::Writer;
use crate::sip::message::Message;
use crate::sip::status::{Method, Reject};
use crate::sip::transaction::{ClientId, Flow, Hop, ServerId, Transactions, Transmit};
use crate::timers::Timers;
use crate::worker::Command;
use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// A timer of one call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CallTimer {
    /// The current step rings or dials for too long.
    Ring,
    /// A trunk gave no sign of life.
    Silent(u16),
    MaxDuration,
    /// A 2xx waits for its ACK.
    Ack(EndId),
    /// A leg's WebSocket is gone.
    FlowGrace(EndId),
}

impl CallTimer {
    /// Those that do not belong to one leg.
    pub const OF_CALL: [CallTimer; 2] = [CallTimer::Ring, CallTimer::MaxDuration];
}

/// What is asked of the world and answered later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The addresses of a host (RFC 3263's last step; NAPTR and SRV are not asked yet).
    Resolve { host: String, port: u16 },
}

/// The number of a question; answers bring it back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub u64);

/// What the core asks of the shells.
#[derive(Debug)]
pub enum Output {
    Send(Transmit),
    CloseFlow(Flow),
    Media { worker: usize, command: Command },
    Ask(Ticket, Question),
    Note(Note),
    /// For the gateway itself: the call can be forgotten once its media has closed.
    CallOver(CallId),
}

/// The node as a call sees it.
pub struct Desk<'a> {
    pub now: Instant,
    pub config: &'a Config,
    pub identity: &'a Identity,
    pub transactions: &'a mut Transactions,
    pub registrar: &'a Registrar,
    pub timers: &'a mut Timers<(CallId, CallTimer)>,
    pub clients: &'a mut HashMap<ClientId, (CallId, u16)>,
    /// Local tag of every dialog, to its call and end.
    pub dialogs: &'a mut HashMap<String, (CallId, EndId)>,
    pub tickets: &'a mut HashMap<Ticket, (CallId, u16)>,
    pub trunk_calls: &'a HashMap<String, usize>,
    pub random: &'a mut ChaCha20Rng,
    pub out: &'a mut Vec<Output>,
}

/// What the node is called and where it can be reached.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `AB:CD:…` of the DTLS certificate.
    pub fingerprint: String,
    /// Port of our UDP and TCP SIP listeners.
    pub udp_port: u16,
    pub tcp_port: u16,
    pub web_secure: bool,
    pub workers: usize,
}

impl Desk<'_> {
    /// 64 random bits.
    pub fn random_u64(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// A token of 128 random bits, for tags, branches and Call-IDs.
    pub fn token(&mut self) -> String {
        format!("{:016x}{:016x}", self.random.next_u64(), self.random.next_u64())
    }

    /// Arms a timer of a call.
    pub fn arm(&mut self, call: CallId, timer: CallTimer, after: Duration) {
        self.timers.set((call, timer), self.now + after);
    }

    /// Disarms a timer of a call.
    pub fn disarm(&mut self, call: CallId, timer: CallTimer) {
        self.timers.clear(&(call, timer));
    }

    /// Commands a media worker.
    pub fn media(&mut self, worker: usize, command: Command) {
        self.out.push(Output::Media { worker, command });
    }

    /// Tells the log and the metrics.
    pub fn note(&mut self, note: Note) {
        self.out.push(Output::Note(note));
    }

    /// Responds through a server transaction.
    pub fn respond(&mut self, server: ServerId, status: u16, bytes: Bytes) {
        let mut sends = Vec::new();
        self.transactions.respond(self.now, server, status, bytes, &mut sends);
        self.out.extend(sends.into_iter().map(Output::Send));
    }

    /// Refuses a request within a dialog.
    pub fn refuse(&mut self, server: ServerId, request: &Message, why: &Reject) {
        let response = Writer::refusal(request, why, "", &self.config.domain);
        self.respond(server, why.status, response.end());
    }

    /// Starts a client transaction.
    pub fn request(&mut self, method: Method, branch: &str, hop: Hop, bytes: Bytes) -> ClientId {
        let mut sends = Vec::new();
        let id = self.transactions.request(self.now, method, branch, hop, bytes, &mut sends);
        self.out.extend(sends.into_iter().map(Output::Send));
        id
    }

    /// Sends outside a transaction (the ACK for a 2xx).
    pub fn send(&mut self, hop: Hop, bytes: Bytes) {
        self.out.push(Output::Send(Transmit { hop, bytes }));
    }

    /// Our address as a peer at `remote` reaches it.
    pub fn local_ip(&self, remote: IpAddr) -> IpAddr {
        if remote.is_loopback() {
            return IpAddr::V4(Ipv4Addr::LOCALHOST);
        }
        let same_family = self.config.public_ips.iter().find(|ip| ip.is_ipv4() == remote.is_ipv4() && !ip.is_loopback());
        same_family.or(self.config.public_ips.first()).copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// A new branch and the Via value that carries it, for `hop`.
    pub fn via(&mut self, hop: Hop) -> (String, String) {
        let branch = format!("z9hG4bK{}", self.token());
        let via = match hop {
            Hop::Flow(_) => {
                let transport = if self.identity.web_secure { "WSS" } else { "WS" };
                format!("SIP/2.0/{transport} {};branch={branch}", self.config.domain)
            }
            Hop::Udp(to) => format!("SIP/2.0/UDP {};rport;branch={branch}", self.sent_by(to, self.identity.udp_port)),
            Hop::Tcp(to) => format!("SIP/2.0/TCP {};rport;branch={branch}", self.sent_by(to, self.identity.tcp_port)),
        };
        (branch, via)
    }

    fn sent_by(&self, to: SocketAddr, port: u16) -> SocketAddr {
        SocketAddr::new(self.local_ip(to.ip()), port)
    }

    /// Our Contact towards `hop`; `user` names the call.
    pub fn contact(&self, hop: Hop, user: &str) -> String {
        match hop {
            Hop::Flow(_) => format!("<sip:{user}@{};transport=ws>", self.config.domain),
            Hop::Udp(to) => format!("<sip:{user}@{}>", self.sent_by(to, self.identity.udp_port)),
            Hop::Tcp(to) => format!("<sip:{user}@{};transport=tcp>", self.sent_by(to, self.identity.tcp_port)),
        }
    }
}
