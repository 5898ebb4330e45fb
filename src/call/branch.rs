//! One INVITE of ours towards a trunk or a browser, from its media end to its final response.
//!
//! ```text
//!   Opening --opened--> Resolving --address--> Calling --1xx--> Early --200--> Answered
//!      |                   |                     | \--401/407--> Calling (once)   |
//!      |                   |                     v              v                 v
//!      +-------------------+------------> Cancelling -----> Over <----- BYE ------+
//! ```
//! Every give-up of ours ends in CANCEL or BYE; a 200 that comes after it is acknowledged and hung up.

use super::cdr::Tried;
use super::leg::{Leg, Party};
use super::{Call, CallId, CallTimer, Desk, HangupBy, Question, State, translate};
use crate::call::desk::Ticket;
use crate::codec::Codec;
use crate::media::EndId;
use crate::registrar::Binding;
use crate::sip::build::Writer;
use crate::sip::dialog::Dialog;
use crate::sip::digest;
use crate::sip::message::Message;
use crate::sip::parse::{Framing, HeaderName};
use crate::sip::status::{Method, Reject};
use crate::sip::transaction::{ClientId, Hop};
use crate::worker::Command;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

/// Whom a branch tries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BranchTarget {
    Trunk { name: String, number: String },
    User { name: String, contact: String },
}

impl fmt::Display for BranchTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BranchTarget::Trunk { name, .. } => write!(f, "trunk:{name}"),
            BranchTarget::User { name, .. } => write!(f, "user:{name}"),
        }
    }
}

/// Where a branch stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BranchState {
    Opening,
    Resolving,
    Calling,
    Early,
    Answered,
    /// Given up; a final response, or the transaction's end, is awaited.
    Cancelling,
    Over,
}

/// A branch.
pub struct Branch {
    pub id: u16,
    pub target: BranchTarget,
    pub state: BranchState,
    pub leg: Leg,
    pub(super) hops: VecDeque<Hop>,
    pub(super) call_id: String,
    pub(super) cseq: u32,
    pub(super) client: Option<ClientId>,
    /// The INVITE as sent, for CANCEL.
    pub(super) invite: Bytes,
    pub(super) offer: String,
    challenged: bool,
    cancel_when_possible: bool,
    started: Instant,
    /// ACKs by the To tag of the 2xx they answer, sent again when it comes again.
    acks: HashMap<String, Bytes>,
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.target, self.state)
    }
}

impl Branch {
    /// Gives up on it, in the way its state asks for.
    pub fn abandon(&mut self, desk: &mut Desk<'_>, call: CallId, why: &Reject) {
        desk.disarm(call, CallTimer::Silent(self.id));
        match self.state {
            BranchState::Opening | BranchState::Resolving => self.over(),
            BranchState::Calling => {
                // RFC 3261 §9.1: no CANCEL before a provisional response.
                self.cancel_when_possible = true;
                self.state = BranchState::Cancelling;
            }
            BranchState::Early => {
                self.state = BranchState::Cancelling;
                self.cancel(desk, why);
            }
            BranchState::Answered => {
                self.leg.bye(desk, call, why);
                self.over();
            }
            BranchState::Cancelling | BranchState::Over => {}
        }
    }

    /// Nothing more is expected of it or owed to it.
    pub(super) fn over(&mut self) {
        self.state = BranchState::Over;
    }

    /// CANCEL carries the INVITE's own branch, route and numbers (RFC 3261 §9.1).
    fn cancel(&self, desk: &mut Desk<'_>, why: &Reject) {
        let Ok(invite) = Message::parse(self.invite.to_vec(), Framing::WebSocket) else { return };
        let mut cancel = Writer::request(Method::Cancel, invite.request_uri());
        let via = invite.values(HeaderName::Via).next().unwrap_or_default();
        cancel.put(HeaderName::Via, via);
        cancel.put(HeaderName::MaxForwards, 70);
        for name in [HeaderName::From, HeaderName::To, HeaderName::CallId] {
            cancel.put(name, invite.header(name).unwrap_or_default());
        }
        cancel.put(HeaderName::CSeq, format_args!("{} CANCEL", self.cseq));
        cancel.reason(why.status, &why.why);
        let branch = invite.via().and_then(|v| v.branch().map(str::to_owned)).unwrap_or_default();
        desk.request(Method::Cancel, &branch, self.leg.hop, cancel.end());
        if let Some(client) = self.client {
            desk.transactions.cancelled(desk.now, client);
        }
    }

    /// Whether an INVITE of it may still get a response.
    pub fn has_transaction(&self) -> bool {
        self.client.is_some() && self.state != BranchState::Over
    }

    /// Whether it still counts for the current step.
    pub fn is_trying(&self) -> bool {
        matches!(self.state, BranchState::Opening | BranchState::Resolving | BranchState::Calling | BranchState::Early)
    }
}

impl Call {
    fn add_branch(&mut self, desk: &mut Desk<'_>, target: BranchTarget, party: Party, hop: Hop, ip: IpAddr) {
        self.next_branch += 1;
        let id = self.next_branch;
        let leg = Leg::new(desk, party, EndId(id), hop, ip);
        let (kind, local) = (leg.open_kind(desk), leg.negotiation.local.clone());
        let call_id = desk.token();
        let cseq = (desk.random_u64() as u32 >> 8).max(1);
        self.branches.push(Branch {
            id,
            target,
            state: BranchState::Opening,
            leg,
            hops: VecDeque::new(),
            call_id,
            cseq,
            client: None,
            invite: Bytes::new(),
            offer: String::new(),
            challenged: false,
            cancel_when_possible: false,
            started: desk.now,
            acks: HashMap::new(),
        });
        self.open_end(desk, EndId(id), kind, &local);
    }

    /// Tries a trunk.
    pub(super) fn dial_trunk(&mut self, desk: &mut Desk<'_>, name: &str, number: String) {
        let Some(trunk) = desk.config.trunks.get(name) else { return };
        let ip = trunk.uri.host.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let unknown = SocketAddr::new(ip, trunk.uri.port);
        let hop = if trunk.uri.tcp { Hop::Tcp(unknown) } else { Hop::Udp(unknown) };
        let target = BranchTarget::Trunk { name: name.to_owned(), number };
        self.add_branch(desk, target, Party::Trunk(name.to_owned()), hop, ip);
    }

    /// Rings one flow of a user.
    pub(super) fn ring_flow(&mut self, desk: &mut Desk<'_>, user: &str, binding: &Binding) {
        let target = BranchTarget::User { name: user.to_owned(), contact: binding.contact.clone() };
        let party = Party::User { name: user.to_owned(), instance: binding.instance.as_ref().map(|i| i.0.clone()) };
        self.add_branch(desk, target, party, Hop::Flow(binding.flow), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    }

    /// The branch's media end is open: find where to send.
    pub(super) fn branch_opened(&mut self, desk: &mut Desk<'_>, id: u16) {
        let call = self.id;
        let Some(branch) = self.branch_mut(id).filter(|b| b.state == BranchState::Opening) else { return };
        branch.state = BranchState::Resolving;
        match &branch.target {
            BranchTarget::User { .. } => {
                branch.hops.push_back(branch.leg.hop);
                self.try_next_hop(desk, id);
            }
            BranchTarget::Trunk { name, .. } => {
                let Some(uri) = desk.config.trunks.get(name).map(|t| t.uri.clone()) else { return };
                match uri.host.parse::<IpAddr>() {
                    Ok(ip) => self.resolved(desk, id, Ok(vec![SocketAddr::new(ip, uri.port)])),
                    Err(_) => {
                        let ticket = Ticket(desk.random_u64());
                        desk.tickets.insert(ticket, (call, id));
                        desk.out.push(super::Output::Ask(ticket, Question::Resolve { host: uri.host, port: uri.port }));
                    }
                }
            }
        }
    }

    /// The trunk's addresses are known.
    pub fn resolved(&mut self, desk: &mut Desk<'_>, id: u16, addresses: Result<Vec<SocketAddr>, String>) {
        let Some(branch) = self.branch_mut(id).filter(|b| b.state == BranchState::Resolving) else { return };
        let tcp = matches!(branch.leg.hop, Hop::Tcp(_));
        match addresses {
            Ok(list) if !list.is_empty() => {
                branch.hops = list.into_iter().take(8).map(|a| if tcp { Hop::Tcp(a) } else { Hop::Udp(a) }).collect();
                self.try_next_hop(desk, id);
            }
            Ok(_) => self.branch_failed(desk, id, Reject::new(503, "the trunk's host has no address")),
            Err(why) => self.branch_failed(desk, id, Reject::new(503, why)),
        }
    }

    fn try_next_hop(&mut self, desk: &mut Desk<'_>, id: u16) {
        let known = self.a.negotiation.offered_codecs();
        let caller = self.a.party.clone();
        let Some(branch) = self.branch_mut(id) else { return };
        let Some(hop) = branch.hops.pop_front() else {
            return self.branch_failed(desk, id, Reject::new(503, "no address of the trunk answered"));
        };
        branch.leg.hop = hop;
        if let Hop::Udp(to) | Hop::Tcp(to) = hop {
            let ip = desk.local_ip(to.ip());
            branch.leg.negotiation.local.address.set_ip(ip);
        }
        if branch.offer.is_empty() {
            let codecs = translate::offer(desk.config, &caller, &branch.leg.party, &known);
            branch.offer = branch.leg.negotiation.offer(&codecs);
        }
        self.send_invite(desk, id, None);
    }

    /// A response to a branch's INVITE.
    pub fn response(&mut self, desk: &mut Desk<'_>, id: u16, message: &Message) {
        match message.status() {
            100 => self.alive(desk, id),
            101..=199 => self.provisional(desk, id, message),
            200..=299 => self.accepted(desk, id, message),
            401 | 407 => self.challenged(desk, id, message),
            _ => self.refused(desk, id, message),
        }
    }

    fn alive(&mut self, desk: &mut Desk<'_>, id: u16) {
        let call = self.id;
        let Some(branch) = self.branch_mut(id) else { return };
        if branch.state == BranchState::Calling {
            branch.state = BranchState::Early;
        }
        // Even a 100, a sign of life from the next hop only, stops the clock.
        desk.disarm(call, CallTimer::Silent(id));
        if branch.state == BranchState::Cancelling && std::mem::take(&mut branch.cancel_when_possible) {
            branch.cancel(desk, &Reject::new(487, "given up before the answer"));
        }
    }

    fn provisional(&mut self, desk: &mut Desk<'_>, id: u16, message: &Message) {
        self.alive(desk, id);
        if self.state != State::Routing || self.a_final {
            return;
        }
        self.cdr.ringing.get_or_insert(desk.now);
        let early = message.body_of("application/sdp").map(<[u8]>::to_vec);
        let Some(body) = early else { return self.tell_ringing(desk, message.status()) };
        if self.heard.is_some_and(|h| h != id) || self.offerless {
            return self.tell_ringing(desk, 180);
        }
        match self.settle(desk, id, &body).and_then(|()| self.caller_answer(desk, id)) {
            Ok(sdp) => {
                self.heard = Some(id);
                self.provisional_to_caller(desk, 183, Some(&sdp));
            }
            Err(why) => desk.note(crate::observe::Note::EarlyMediaUnusable { call: self.id, why: why.why }),
        }
    }

    /// Takes the callee's SDP and joins its end to the caller's.
    fn settle(&mut self, desk: &mut Desk<'_>, id: u16, body: &[u8]) -> Result<(), Reject> {
        let (call, worker) = (self.id, self.worker);
        let Some(branch) = self.branches.iter_mut().find(|b| b.id == id) else { return Ok(()) };
        let agreed = branch.leg.negotiation.receive_answer(body).map_err(|e| Reject::new(488, format!("the callee's answer: {}", e.why)))?.clone();
        translate::check_media_address(desk.config, &branch.leg, &agreed)?;
        branch.leg.configure(desk, call, worker, &agreed);
        desk.media(worker, Command::Bridge { session: call.0, a: super::CALLER_END, b: branch.leg.end });
        Ok(())
    }

    fn caller_answer(&mut self, desk: &mut Desk<'_>, id: u16) -> Result<String, Reject> {
        let other = self.settled_with(id);
        self.answer_caller_sdp(desk, other)
    }

    /// Who a branch reached, and the codec settled with it.
    pub(super) fn settled_with(&self, id: u16) -> Option<(Party, Codec)> {
        let branch = self.branches.iter().find(|b| b.id == id)?;
        Some((branch.leg.party.clone(), branch.leg.negotiation.agreed()?.codec))
    }

    fn accepted(&mut self, desk: &mut Desk<'_>, id: u16, message: &Message) {
        let call = self.id;
        let Some(branch) = self.branches.iter_mut().find(|b| b.id == id) else { return };
        desk.disarm(call, CallTimer::Silent(id));
        let tag = message.to().and_then(|t| t.tag()).unwrap_or_default().to_owned();
        if let Some(ack) = branch.acks.get(&tag) {
            let (hop, ack) = (branch.leg.hop, ack.clone());
            return desk.send(hop, ack);
        }
        let Some(dialog) = Dialog::uac(message, branch.leg.hop) else { return };
        let (_, via) = desk.via(branch.leg.hop);
        let ack = dialog.request_with(Method::Ack, branch.cseq, &via).end();
        desk.send(branch.leg.hop, ack.clone());
        branch.acks.insert(tag, ack);
        let first = branch.leg.dialog.is_none();
        let wanted = first && matches!(branch.state, BranchState::Calling | BranchState::Early) && self.b.is_none() && self.state == State::Routing;
        if !wanted {
            return self.hang_up_late(desk, id, dialog, first);
        }
        branch.leg.enter(desk, call, dialog);
        branch.state = BranchState::Answered;
        let body = message.body_of("application/sdp").map(<[u8]>::to_vec);
        let settled = match (body, self.heard == Some(id)) {
            (_, true) => Ok(()),
            (Some(body), false) => self.settle(desk, id, &body),
            (None, false) => Err(Reject::new(488, "the callee answered without SDP")),
        };
        match settled {
            Ok(()) => self.answered(desk, id),
            Err(why) => self.branch_failed(desk, id, why),
        }
    }

    /// A 200 nobody waits for any more, or a second fork's: acknowledged already, now hung up.
    fn hang_up_late(&mut self, desk: &mut Desk<'_>, id: u16, mut dialog: Dialog, first: bool) {
        let Some(branch) = self.branch_mut(id) else { return };
        let hop = branch.leg.hop;
        let (via_branch, via) = desk.via(hop);
        let mut bye = dialog.request(Method::Bye, &via);
        bye.reason(200, "answered elsewhere, or given up before the answer");
        desk.request(Method::Bye, &via_branch, hop, bye.end());
        if first {
            branch.over();
            self.close_branch_end(desk, id);
        }
    }

    fn close_branch_end(&mut self, desk: &mut Desk<'_>, id: u16) {
        if self.state != State::Over {
            desk.media(self.worker, Command::CloseEnd { session: self.id.0, end: EndId(id) });
        }
    }

    fn answered(&mut self, desk: &mut Desk<'_>, id: u16) {
        let call = self.id;
        desk.disarm(call, CallTimer::Ring);
        self.b = Some(id);
        let mut lost = Vec::new();
        for other in self.branches.iter_mut().filter(|b| b.id != id && b.is_trying()) {
            other.abandon(desk, call, &Reject::new(200, "Call completed elsewhere"));
            lost.push(other.id);
        }
        lost.into_iter().for_each(|l| self.close_branch_end(desk, l));
        if let Some(branch) = self.branches.iter().find(|b| b.id == id) {
            let ms = desk.now.saturating_duration_since(branch.started).as_millis() as u64;
            self.cdr.tried.push(Tried { target: branch.target.to_string(), status: 200, ms });
            self.cdr.answered_by = Some(branch.target.to_string());
            self.cdr.b_call_id = Some(branch.call_id.clone());
            self.cdr.b_end = Some(branch.leg.end);
        }
        self.answer_caller(desk, Some(id));
    }

    fn challenged(&mut self, desk: &mut Desk<'_>, id: u16, message: &Message) {
        let cnonce = desk.token();
        let Some(branch) = self.branches.iter_mut().find(|b| b.id == id) else { return };
        let trying = matches!(branch.state, BranchState::Calling | BranchState::Early);
        let BranchTarget::Trunk { name, .. } = &branch.target else { return self.refused(desk, id, message) };
        let trunk = desk.config.trunks.get(name);
        // Rule A1: only this trunk's challenge, for its realm, to an INVITE we sent it, once.
        let secret = trunk.and_then(|t| Some((t.username.clone()?, t.password.clone()?, t.realm.clone())));
        let uri = Message::parse(branch.invite.to_vec(), Framing::WebSocket).map(|m| m.request_uri().to_owned());
        let (Some((user, password, realm)), Ok(uri), false, true) = (secret, uri, branch.challenged, trying) else {
            return self.refused(desk, id, message);
        };
        let realm = realm.as_deref();
        match digest::answer(message, realm, &user, password.reveal(), &uri, Method::Invite, &cnonce) {
            Some(credentials) => {
                branch.challenged = true;
                self.send_invite(desk, id, Some(credentials));
            }
            None => self.refused(desk, id, message),
        }
    }

    fn refused(&mut self, desk: &mut Desk<'_>, id: u16, message: &Message) {
        let status = message.status();
        let phrase = message.reason_phrase().to_owned();
        let Some(branch) = self.branch_mut(id) else { return };
        let why = match status {
            401 | 407 => Reject::new(status, format!("{} wants credentials it did not accept, or that are not configured", branch.target)),
            _ => Reject::new(status, format!("{} said {status} {phrase}", branch.target)),
        };
        self.branch_failed(desk, id, why);
    }

    /// The INVITE's transaction timed out, or its transport failed.
    pub fn branch_timeout(&mut self, desk: &mut Desk<'_>, id: u16) {
        let call = self.id;
        let Some(branch) = self.branches.iter_mut().find(|b| b.id == id) else { return };
        match branch.state {
            BranchState::Calling if !branch.hops.is_empty() => {
                branch.challenged = false;
                self.try_next_hop(desk, id);
            }
            BranchState::Early if branch.client.is_some_and(|c| desk.transactions.awaits_final(c)) => {
                // Timer C: alive but never final.
                let why = Reject::new(408, "the callee never answered");
                branch.abandon(desk, call, &why);
                self.step_failed(desk, id, why);
            }
            _ => {
                let target = branch.target.to_string();
                self.branch_failed(desk, id, Reject::new(408, format!("{target} did not respond: is it reachable from here?")));
            }
        }
    }

    pub(super) fn silent_timeout(&mut self, desk: &mut Desk<'_>, id: u16) {
        let call = self.id;
        let Some(branch) = self.branch_mut(id).filter(|b| b.state == BranchState::Calling) else { return };
        let more_hops = !branch.hops.is_empty();
        if more_hops {
            return self.try_next_hop(desk, id);
        }
        let why = Reject::new(408, format!("{} gave no sign of life", branch.target));
        branch.abandon(desk, call, &why);
        self.step_failed(desk, id, why);
    }

    /// A branch ended without an answer: what was tried is noted, then the next trunk, step, or the end.
    pub(super) fn branch_failed(&mut self, desk: &mut Desk<'_>, id: u16, why: Reject) {
        let call = self.id;
        let Some(branch) = self.branches.iter_mut().find(|b| b.id == id) else { return };
        let counts = branch.is_trying() || branch.state == BranchState::Answered;
        let pending = branch.client.is_some_and(|c| desk.transactions.awaits_final(c));
        match branch.state {
            BranchState::Answered => {
                branch.leg.bye(desk, call, &why);
                branch.over();
            }
            // It failed on our side (its media did): the callee must be told to stop ringing.
            _ if pending => branch.abandon(desk, call, &why),
            _ => branch.over(),
        }
        if counts {
            self.step_failed(desk, id, why);
        }
    }

    fn step_failed(&mut self, desk: &mut Desk<'_>, id: u16, why: Reject) {
        let call = self.id;
        desk.disarm(call, CallTimer::Silent(id));
        let Some(branch) = self.branches.iter().find(|b| b.id == id) else { return };
        let ms = desk.now.saturating_duration_since(branch.started).as_millis() as u64;
        let (target, is_trunk) = (branch.target.to_string(), matches!(branch.target, BranchTarget::Trunk { .. }));
        self.cdr.tried.push(Tried { target: target.clone(), status: why.status, ms });
        if self.heard == Some(id) {
            self.heard = None;
        }
        self.close_branch_end(desk, id);
        if self.state == State::Routing {
            desk.note(crate::observe::Note::BranchFailed { call, target, status: why.status, why: why.why.clone() });
            self.after_failure(desk, is_trunk, why);
        }
    }

    fn after_failure(&mut self, desk: &mut Desk<'_>, is_trunk: bool, why: Reject) {
        self.keep_best(why.clone());
        if self.branches.iter().any(Branch::is_trying) {
            return;
        }
        if is_trunk {
            let moves_on = self.route.as_ref().is_some_and(|r| r.moves_on(why.status)) || why.status == 401 || why.status == 407;
            if !moves_on {
                let why = self.refusal.take().unwrap_or(why);
                return self.finish(desk, HangupBy::Callee, translate_refusal(why));
            }
            return self.next_trunk(desk);
        }
        self.next_step(desk);
    }

    /// RFC 3261 §16.7 step 6, briefly: 6xx wins, then what says most to the caller.
    fn keep_best(&mut self, why: Reject) {
        let rank = |s: u16| match s {
            600..=699 => 0,
            486 => 1,
            400..=407 | 409..=479 | 481..=499 => 2,
            480 | 408 => 3,
            _ => 4,
        };
        if self.refusal.as_ref().is_none_or(|best| rank(why.status) < rank(best.status)) {
            self.refusal = Some(why);
        }
    }
}

/// What the caller is told: a trunk's own troubles are not the caller's (503 would stop its client for good).
pub(super) fn translate_refusal(mut why: Reject) -> Reject {
    why.status = match why.status {
        300..=399 => 480,
        401 | 407 => 502,
        408 => 480,
        503 => 500,
        s => s,
    };
    why
}
