//! One call: our two legs, the branches tried for the second, and the steps of its route.
//!
//! ```text
//!   Opening --media opened--> Routing --answered--> Talking --BYE--> Over
//!                               |  ^ next step          (either side)
//!                               v  |
//!                             branches: Opening -> Resolving -> Calling -> Early -> Answered
//! ```
//! The call knows neither other calls nor sockets; what it asks of the node it asks through [`Desk`].

pub mod branch;
pub mod cdr;
pub mod desk;
mod invite;
pub mod leg;
mod queries;
pub mod reinvite;
pub mod steps;
pub mod translate;

pub use branch::{Branch, BranchTarget};
pub use cdr::{Cdr, HangupBy};
pub use desk::{CallTimer, Desk, Output, Question};
pub use leg::{AckWait, Leg, Party};

use crate::dialplan::{Route, Step};
use crate::media::EndId;
use crate::media::session::Event as MediaEvent;
use crate::sip::build::Writer;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::{Method, Reject};
use crate::sip::transaction::{Hop, ServerId};
use crate::worker::{Command, Notice};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// A call of this node; shown as 8 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CallId(pub u64);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 32)
    }
}

/// The caller's end of the media session.
pub const CALLER_END: EndId = EndId(0);

/// Where the call stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The caller's media end is being opened.
    Opening,
    /// A step of the route is under way; the caller may have been answered already (`answer`).
    Routing,
    /// Both legs talk, or the caller talks to a built-in far end.
    Talking,
    /// Ended; waiting for media to close.
    Over,
}

/// A call.
pub struct Call {
    pub id: CallId,
    pub state: State,
    pub a: Leg,
    /// The INVITE that began it, and its transaction.
    pub invite: Message,
    pub server: ServerId,
    /// Final response to the caller's INVITE was sent.
    pub a_final: bool,
    pub offerless: bool,
    pub branches: Vec<Branch>,
    /// The branch that answered.
    pub b: Option<u16>,
    /// The branch whose early media the caller hears.
    pub heard: Option<u16>,
    pub next_branch: u16,
    pub steps: VecDeque<Step>,
    pub route: Option<Route>,
    pub number: String,
    /// Trunks of the current dial step not yet tried, and the number to send.
    pub trunks_left: VecDeque<String>,
    pub dial_to: Option<String>,
    pub step_timeout: Option<Duration>,
    /// A prompt or tone is what the caller hears.
    pub playing: bool,
    /// The best refusal seen so far (RFC 3261 §16.7 step 6).
    pub refusal: Option<Reject>,
    pub worker: usize,
    pub max_forwards: u32,
    pub cdr: Cdr,
}

impl Call {
    /// Takes the call on: 100 to the caller, its media end opened.
    pub fn start(&mut self, desk: &mut Desk<'_>) {
        let trying = Writer::response(&self.invite, 100, None).end();
        desk.respond(self.server, 100, trying);
        let (kind, local) = (self.a.open_kind(desk), self.a.negotiation.local.clone());
        self.open_end(desk, CALLER_END, kind, &local);
        desk.arm(self.id, CallTimer::MaxDuration, desk.config.limits.max_duration);
    }

    /// Opens a media end; its SSRC and CNAME are those its description names.
    pub(crate) fn open_end(&self, desk: &mut Desk<'_>, end: EndId, kind: crate::worker::OpenKind, local: &crate::sdp::Local) {
        let seed = desk.random_u64();
        let (ssrc, cname) = (local.ssrc, local.cname.clone());
        desk.media(self.worker, Command::Open { session: self.id.0, end, kind, ssrc, cname, seed });
    }

    /// The leg of an end.
    pub fn leg_mut(&mut self, end: EndId) -> Option<&mut Leg> {
        if end == CALLER_END {
            return Some(&mut self.a);
        }
        self.branches.iter_mut().find(|b| b.leg.end == end).map(|b| &mut b.leg)
    }

    /// The branch called `id`.
    pub fn branch_mut(&mut self, id: u16) -> Option<&mut Branch> {
        self.branches.iter_mut().find(|b| b.id == id)
    }

    /// The leg opposite to `end`, once both talk.
    pub fn opposite(&self, end: EndId) -> Option<EndId> {
        let b = self.b.and_then(|id| self.branches.iter().find(|b| b.id == id)).map(|b| b.leg.end)?;
        Some(if end == CALLER_END { b } else { CALLER_END })
    }

    /// Media's news about this call's session.
    pub fn media(&mut self, desk: &mut Desk<'_>, notice: Notice) {
        match notice {
            Notice::Opened { end, address } => self.opened(desk, end, address),
            Notice::OpenFailed { end, why } if end == CALLER_END => {
                self.finish(desk, HangupBy::Us, Reject::new(503, why).retry_after(5));
            }
            Notice::OpenFailed { end, why } => {
                if let Some(id) = self.branches.iter().find(|b| b.leg.end == end).map(|b| b.id) {
                    self.branch_failed(desk, id, Reject::new(503, why));
                }
            }
            Notice::EndClosed { end, statistics } => self.cdr.end_closed(end, statistics),
            Notice::Media(event) => self.media_event(desk, event),
            Notice::Closed { .. } => {}
            Notice::Panicked => self.finish(desk, HangupBy::Us, Reject::new(500, "the media session failed")),
        }
    }

    fn opened(&mut self, desk: &mut Desk<'_>, end: EndId, address: std::net::SocketAddr) {
        if let Some(leg) = self.leg_mut(end) {
            leg.opened(address);
        }
        if end == CALLER_END {
            if self.state == State::Opening {
                self.state = State::Routing;
                self.next_step(desk);
            }
        } else if let Some(id) = self.branches.iter().find(|b| b.leg.end == end).map(|b| b.id) {
            self.branch_opened(desk, id);
        }
    }

    fn media_event(&mut self, desk: &mut Desk<'_>, event: MediaEvent) {
        match event {
            MediaEvent::Played { .. } if self.playing => {
                self.playing = false;
                self.next_step(desk);
            }
            MediaEvent::DtlsFailed { end, why } => {
                self.cdr.media_problem = Some(why.clone());
                if Some(end) == self.b_end() || end == CALLER_END {
                    self.finish(desk, HangupBy::Us, Reject::new(488, why));
                } else if let Some(id) = self.branches.iter().find(|b| b.leg.end == end).map(|b| b.id) {
                    self.branch_failed(desk, id, Reject::new(488, why));
                }
            }
            MediaEvent::ConsentLost { end } if Some(end) == self.b_end() || end == CALLER_END => {
                self.finish(desk, HangupBy::Media, Reject::new(480, "the browser has been unreachable for 30 s (ICE consent lost)"));
            }
            MediaEvent::NoMedia if self.state == State::Talking && !self.is_held() => {
                self.finish(desk, HangupBy::Media, Reject::new(480, "no media from either side for 30 s"));
            }
            _ => {}
        }
    }

    fn b_end(&self) -> Option<EndId> {
        self.opposite(CALLER_END)
    }

    /// Whether some leg is on hold, so that silence is no fault.
    fn is_held(&self) -> bool {
        let full = |l: &Leg| l.negotiation.agreed().is_none_or(|a| a.direction == crate::sdp::Direction::SendRecv);
        !full(&self.a) || self.branches.iter().any(|b| Some(b.id) == self.b && !full(&b.leg))
    }

    /// The caller sent CANCEL.
    pub fn cancelled(&mut self, desk: &mut Desk<'_>) {
        if !self.a_final {
            self.finish(desk, HangupBy::Caller, Reject::new(487, "the caller hung up before the answer"));
        }
    }

    /// Ends the call: everything open is cancelled, answered or said goodbye to. `why` goes to a
    /// caller who still waits for a final response, and into Reason headers.
    pub fn finish(&mut self, desk: &mut Desk<'_>, by: HangupBy, why: Reject) {
        if self.state == State::Over {
            return;
        }
        self.state = State::Over;
        if !self.a_final {
            self.refuse_caller(desk, &why);
        } else if by != HangupBy::Caller {
            self.a.bye(desk, self.id, &why);
        }
        let answered = self.b;
        for branch in &mut self.branches {
            let hung_up_itself = by == HangupBy::Callee && Some(branch.id) == answered;
            if hung_up_itself {
                branch.over(); // the callee said goodbye itself
            } else {
                branch.abandon(desk, self.id, &why);
            }
        }
        self.cdr.ended(desk.now, by, &why);
        desk.media(self.worker, Command::Close { session: self.id.0 });
        for timer in CallTimer::OF_CALL {
            desk.disarm(self.id, timer);
        }
        desk.disarm(self.id, CallTimer::Ack(CALLER_END));
        self.branches.iter().for_each(|b| desk.disarm(self.id, CallTimer::Ack(b.leg.end)));
        desk.out.push(Output::CallOver(self.id));
    }

    fn refuse_caller(&mut self, desk: &mut Desk<'_>, why: &Reject) {
        self.a_final = true;
        let host = desk.config.domain.clone();
        let mut response = Writer::refusal(&self.invite, why, &self.a.local_tag, &host);
        if why.status == 415 {
            response.put(HeaderName::Accept, "application/sdp");
        }
        desk.respond(self.server, why.status, response.end());
    }

    /// A timer of this call fired.
    pub fn fire(&mut self, desk: &mut Desk<'_>, timer: CallTimer) {
        match timer {
            CallTimer::Ring => self.ring_timeout(desk),
            CallTimer::Silent(branch) => self.silent_timeout(desk, branch),
            CallTimer::MaxDuration => {
                self.finish(desk, HangupBy::Us, Reject::new(480, "the call reached limits.max_duration"));
            }
            CallTimer::Ack(end) => self.retransmit_2xx(desk, end),
            CallTimer::FlowGrace(end) => {
                if self.leg_mut(end).is_some_and(|l| l.flow_lost) {
                    let by = if end == CALLER_END { HangupBy::Caller } else { HangupBy::Callee };
                    self.finish(desk, by, Reject::new(480, "the browser's connection was lost and did not come back"));
                }
            }
        }
    }

    fn retransmit_2xx(&mut self, desk: &mut Desk<'_>, end: EndId) {
        let (now, id) = (desk.now, self.id);
        let Some(wait) = self.leg_mut(end).and_then(|l| l.ack_wait.as_mut()) else { return };
        if now >= wait.deadline {
            let why = Reject::new(408, "the 200 was never acknowledged (no ACK for 32 s)");
            return self.finish(desk, HangupBy::Us, why);
        }
        wait.interval = (wait.interval * 2).min(crate::sip::transaction::T2);
        let (server, bytes, interval, deadline) = (wait.server, wait.bytes.clone(), wait.interval, wait.deadline);
        desk.respond(server, 200, bytes);
        desk.arm(id, CallTimer::Ack(end), interval.min(deadline.saturating_duration_since(now)));
    }

    /// A request within one of the call's dialogs.
    pub fn request(&mut self, desk: &mut Desk<'_>, end: EndId, server: ServerId, message: &Message) {
        let method = message.method();
        let Some(leg) = self.leg_mut(end) else { return };
        let Some(dialog) = &mut leg.dialog else { return };
        if dialog.accept(message).is_err() {
            return desk.refuse(server, message, &Reject::new(500, "CSeq is lower than one already seen"));
        }
        match method {
            Method::Bye => self.bye_received(desk, end, server, message),
            Method::Invite => self.reinvite(desk, end, server, message),
            Method::Info => self.info(desk, end, server, message),
            Method::Options => {
                let mut response = Writer::response(message, 200, None);
                response.put(HeaderName::Allow, crate::sip::status::ALLOW);
                response.put(HeaderName::Accept, "application/sdp");
                desk.respond(server, 200, response.end());
            }
            _ => desk.refuse(server, message, &Reject::new(405, format!("{} is not served in a call yet", message.method_token()))),
        }
    }

    fn bye_received(&mut self, desk: &mut Desk<'_>, end: EndId, server: ServerId, message: &Message) {
        desk.respond(server, 200, Writer::response(message, 200, None).end());
        let by = if end == CALLER_END { HangupBy::Caller } else { HangupBy::Callee };
        if end != CALLER_END && self.opposite(CALLER_END) != Some(end) {
            // A branch that lost the race says goodbye after our BYE crossed it.
            return;
        }
        if end == CALLER_END && !self.a_final {
            // RFC 3261 §15.1.2: a BYE on an early dialog also ends the pending INVITE.
            return self.finish(desk, by, Reject::new(487, "the caller hung up before the answer"));
        }
        self.finish(desk, by, Reject::new(200, "normal call clearing"));
    }

    /// DTMF by INFO (`application/dtmf-relay`), as JsSIP sends it: passed on as telephone-event.
    fn info(&mut self, desk: &mut Desk<'_>, end: EndId, server: ServerId, message: &Message) {
        let Some(body) = message.body_of("application/dtmf-relay") else {
            return desk.refuse(server, message, &Reject::new(415, "INFO is taken for application/dtmf-relay only"));
        };
        let text = String::from_utf8_lossy(body);
        let value = |name: &str| {
            text.lines().filter_map(|l| l.split_once('=')).find(|(n, _)| n.trim().eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned())
        };
        let digit = value("Signal").and_then(|s| s.chars().next()).and_then(crate::rtp::event::event_of);
        let Some(event) = digit else {
            return desk.refuse(server, message, &Reject::new(400, "no Signal=digit in the INFO body"));
        };
        let length = value("Duration").and_then(|d| d.parse().ok()).unwrap_or(160u64).clamp(40, 6_000);
        desk.respond(server, 200, Writer::response(message, 200, None).end());
        if let Some(to) = self.opposite(end) {
            desk.media(self.worker, Command::Digit { session: self.id.0, end: to, event, length: Duration::from_millis(length) });
        }
    }

    /// Flow changes: lost (the leg waits for it), or back under a new number.
    pub fn flow_changed(&mut self, desk: &mut Desk<'_>, end: EndId, grace: Option<Duration>) {
        match grace {
            Some(grace) => desk.arm(self.id, CallTimer::FlowGrace(end), grace),
            None => desk.disarm(self.id, CallTimer::FlowGrace(end)),
        }
    }

    /// A trunk closed the connection its call came by: from now on we open one to it when we must speak.
    pub fn reconnect_trunk(&mut self, desk: &mut Desk<'_>, end: EndId, remote: std::net::SocketAddr) {
        let Some(leg) = self.leg_mut(end) else { return };
        let port = match &leg.party {
            Party::Trunk(name) => desk.config.trunks.get(name).map_or(5060, |t| t.uri.port),
            Party::User { .. } => return,
        };
        leg.hop = Hop::Tcp(std::net::SocketAddr::new(remote.ip(), port));
        if let Some(dialog) = &mut leg.dialog {
            dialog.hop = leg.hop;
        }
    }
}

/// The snapshot the API and a failing test print.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} {} → {} {:?}", self.id, self.a.party, self.number, self.state)?;
        self.branches.iter().try_for_each(|b| write!(f, "; {b}"))
    }
}
