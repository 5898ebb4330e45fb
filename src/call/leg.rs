//! One side of a call: its dialog, its negotiation, its media end.

use super::{CallId, CallTimer, Desk};
use crate::media::EndId;
use crate::media::end::Settings;
use crate::sdp::offer_answer::{Agreed, Ice, Local, Negotiation, Side};
use crate::sip::build::Writer;
use crate::sip::dialog::Dialog;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::{Method, Reject};
use crate::sip::transaction::{Hop, ServerId, T1, T1X64};
use crate::worker::{Command, OpenKind};
use bytes::Bytes;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Who is at the other end of a leg.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Party {
    User { name: String, instance: Option<String> },
    Trunk(String),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::User { name, .. } => f.write_str(name),
            Party::Trunk(name) => write!(f, "trunk {name}"),
        }
    }
}

/// A 2xx of ours that waits for its ACK (RFC 3261 §13.3.1.4).
#[derive(Debug)]
pub struct AckWait {
    pub server: ServerId,
    pub bytes: Bytes,
    pub cseq: u32,
    pub interval: Duration,
    pub deadline: Instant,
    /// The 2xx carried our offer: the ACK brings the answer.
    pub expects_answer: bool,
}

/// A leg.
pub struct Leg {
    pub party: Party,
    pub end: EndId,
    pub hop: Hop,
    pub local_tag: String,
    pub dialog: Option<Dialog>,
    pub negotiation: Negotiation,
    pub ack_wait: Option<AckWait>,
    /// Its WebSocket is gone; nothing can be sent until it is back.
    pub flow_lost: bool,
}

/// What a new leg's descriptions say of us; the port is filled in when media has opened.
pub fn local(desk: &mut Desk<'_>, side: Side, remote_ip: IpAddr) -> Local {
    let ice = (side == Side::Browser).then(|| Ice { ufrag: desk.token()[..8].to_owned(), pwd: desk.token()[..24].to_owned() });
    let ip = match side {
        Side::Browser => desk.config.public_ips.first().copied().unwrap_or(remote_ip),
        Side::Trunk => desk.local_ip(remote_ip),
    };
    let more = desk.config.public_ips.iter().skip(1).map(|ip| SocketAddr::new(*ip, 0));
    Local {
        side,
        address: SocketAddr::new(ip, 0),
        more_addresses: if side == Side::Browser { more.collect() } else { Vec::new() },
        ice,
        fingerprint: desk.identity.fingerprint.clone(),
        // RFC 8829 §5.2.1: 63 random bits.
        session_id: desk.random_u64() >> 2,
        ssrc: desk.random_u64() as u32,
        cname: desk.token()[..16].to_owned(),
    }
}

impl Leg {
    /// A leg without a dialog.
    pub fn new(desk: &mut Desk<'_>, party: Party, end: EndId, hop: Hop, remote_ip: IpAddr) -> Leg {
        let side = if matches!(party, Party::User { .. }) { Side::Browser } else { Side::Trunk };
        let negotiation = Negotiation::new(local(desk, side, remote_ip));
        Leg { party, end, hop, local_tag: desk.token(), dialog: None, negotiation, ack_wait: None, flow_lost: false }
    }

    /// Which world it faces.
    pub fn side(&self) -> Side {
        self.negotiation.local.side
    }

    /// How media opens its end.
    pub fn open_kind(&self, desk: &Desk<'_>) -> OpenKind {
        match &self.party {
            Party::User { .. } => OpenKind::Browser { ice: self.negotiation.local.ice.clone().unwrap_or_default() },
            Party::Trunk(name) => OpenKind::Trunk { nat: desk.config.trunks.get(name).is_some_and(|t| t.nat) },
        }
    }

    /// Media is open at this address; its port goes into our descriptions.
    pub fn opened(&mut self, address: SocketAddr) {
        let local = &mut self.negotiation.local;
        local.address.set_port(address.port());
        local.more_addresses.iter_mut().for_each(|a| a.set_port(address.port()));
    }

    /// Tells media what was agreed.
    pub fn configure(&self, desk: &mut Desk<'_>, call: CallId, worker: usize, agreed: &Agreed) {
        let settings = Settings { agreed: agreed.clone(), complexity: desk.config.media.complexity };
        desk.media(worker, Command::Configure { session: call.0, end: self.end, settings: Box::new(settings) });
    }

    /// Sends a 2xx and keeps it until its ACK comes.
    pub fn accept(&mut self, desk: &mut Desk<'_>, call: CallId, server: ServerId, request: &Message, sdp: &str, expects_answer: bool) {
        let mut response = Writer::response(request, 200, Some(&self.local_tag));
        request.values(HeaderName::RecordRoute).for_each(|r| response.put(HeaderName::RecordRoute, r));
        response.put(HeaderName::Contact, desk.contact(self.hop, "call"));
        response.put(HeaderName::Allow, crate::sip::status::ALLOW);
        let bytes = response.end_with("application/sdp", sdp.as_bytes());
        desk.respond(server, 200, bytes.clone());
        let cseq = request.cseq().map_or(0, |c| c.number);
        self.ack_wait = Some(AckWait { server, bytes, cseq, interval: T1, deadline: desk.now + T1X64, expects_answer });
        desk.arm(call, CallTimer::Ack(self.end), T1);
    }

    /// Says goodbye, where there is a dialog and a way to send.
    pub fn bye(&mut self, desk: &mut Desk<'_>, call: CallId, why: &Reject) {
        desk.disarm(call, CallTimer::Ack(self.end));
        self.ack_wait = None;
        if self.flow_lost {
            return;
        }
        let hop = self.hop;
        let Some(dialog) = &mut self.dialog else { return };
        let (branch, via) = desk.via(hop);
        let mut bye = dialog.request(Method::Bye, &via);
        bye.reason(why.status, &why.why);
        desk.request(Method::Bye, &branch, hop, bye.end());
    }

    /// Remembers its dialog under our tag.
    pub fn enter(&mut self, desk: &mut Desk<'_>, call: CallId, dialog: Dialog) {
        desk.dialogs.insert(dialog.id.local_tag.clone(), (call, self.end));
        self.dialog = Some(dialog);
    }
}
