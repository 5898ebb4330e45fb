//! The server side of the INVITE that began a call: what was said to it, and what may be said next
//! (RFC 3261 §13.3, RFC 3262).
//!
//! What holds of it:
//! - Nothing is sent after the final response.
//! - One reliable response is open at a time. What comes after it waits for its PRACK, and so does
//!   the 200 while one that carries SDP is open or waits (RFC 3262 §3).
//! - A refusal that its caller could not hear, as its flow was lost, waits until it is back.
//! - An exchange of descriptions that is done is not repeated in the 200 (RFC 3261 §13.2.1).

use super::leg::{AckWait, Leg};
use super::{CallContext, CallId, CallTimer};
use crate::config::Reliable as Policy;
use crate::errors::Code;
use crate::sip::build::MessageWriter;
use crate::sip::dialog::Dialog;
use crate::sip::header::NameAddr;
use crate::sip::message::Message;
use crate::sip::parse::{Framing, HeaderName};
use crate::sip::session_timer::{MIN_SE, TooBrief, grant};
use crate::sip::status::{ALLOW, Method, Refusal};
use crate::sip::transaction::{Hop, ServerId, T1, T1X64, TransactionEvent};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most provisional responses that wait for the PRACK of another.
const MAX_WAITING: usize = 8;

/// A reliable provisional response without its PRACK.
struct Unacknowledged {
    rseq: u32,
    status: u16,
    bytes: Bytes,
    has_sdp: bool,
    interval: Duration,
    deadline: Instant,
}

/// What a 200 describes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SdpRole {
    /// Our offer: the INVITE had none.
    Offer,
    /// The answer to the caller's offer.
    Answer,
    /// Nothing: the exchange was done in a reliable response and its PRACK.
    Settled,
}

/// What is kept of an INVITE: its caller, and what a response to it echoes.
const KEPT: [HeaderName; 14] = [
    HeaderName::Via,
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::Contact,
    HeaderName::RecordRoute,
    HeaderName::PAssertedIdentity,
    HeaderName::PPreferredIdentity,
    HeaderName::RemotePartyId,
    HeaderName::Privacy,
    HeaderName::Diversion,
    HeaderName::HistoryInfo,
    HeaderName::Supported,
];
/// What of it only a response needs.
const UNTIL_FINISHED: [HeaderName; 3] =
    [HeaderName::Via, HeaderName::RecordRoute, HeaderName::Supported];

/// The server side of an INVITE as a value that outlives the process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct InviteSnapshot {
    /// The INVITE, with the headers that are still needed.
    pub(super) invite: String,
    /// The INVITE carried no offer: the 2xx brings ours.
    pub(super) offerless: bool,
    /// Its final response has been sent.
    pub(super) finished: bool,
    /// The 2xx that waits for its ACK.
    pub(super) unacknowledged: Option<Vec<u8>>,
}

impl InviteSnapshot {
    /// Takes the 2xx that waits for its ACK.
    pub(super) fn take_unacknowledged(&mut self) -> Option<Vec<u8>> {
        self.unacknowledged.as_mut().map(std::mem::take)
    }
}

/// The INVITE that began a call, and its transaction.
pub(crate) struct CallerInvite {
    invite: Message,
    /// `None` for an INVITE nobody sent.
    transaction: Option<ServerId>,
    /// The INVITE brought no description.
    offerless: bool,
    /// The final response was sent.
    finished: bool,
    policy: Option<Policy>,
    /// RSeq of the last reliable response; 0 if there was none.
    last_rseq: u32,
    open: Option<Unacknowledged>,
    waiting: VecDeque<(u16, Option<String>)>,
    /// The 200 waits for a PRACK: the branch that answered, if one did.
    deferred: Option<Option<u16>>,
    /// Our offer went out in a reliable response: its PRACK brings the answer.
    offered: bool,
    /// The exchange of descriptions is done.
    settled: bool,
    /// It was refused while its caller was away, who is not told yet.
    untold: bool,
}

impl CallerInvite {
    /// The server side of an INVITE that was received.
    pub(crate) fn new(invite: Message, transaction: ServerId) -> CallerInvite {
        CallerInvite {
            invite,
            transaction: Some(transaction),
            offerless: false,
            finished: false,
            policy: None,
            last_rseq: 0,
            open: None,
            waiting: VecDeque::new(),
            deferred: None,
            offered: false,
            settled: false,
            untold: false,
        }
    }

    /// The server side of an INVITE nobody sent: nothing can be said to it.
    pub(crate) fn of_nobody(invite: Message) -> CallerInvite {
        CallerInvite { transaction: None, finished: true, ..CallerInvite::new(invite, ServerId(0)) }
    }

    /// The server side as a value; what was only said provisionally is not kept. `unacknowledged`:
    /// a final response that waits for its ACK.
    pub(super) fn snapshot(&self, unacknowledged: Option<&Bytes>) -> InviteSnapshot {
        let mut text = MessageWriter::request(Method::Invite, self.invite.request_uri());
        let open = !self.finished || unacknowledged.is_some();
        let needed = |name: &&HeaderName| open || !UNTIL_FINISHED.contains(name);
        for name in KEPT.iter().filter(needed) {
            self.invite.all(*name).for_each(|value| text.put(*name, value));
        }
        InviteSnapshot {
            invite: String::from_utf8_lossy(&text.end()).into_owned(),
            offerless: self.offerless,
            finished: self.finished,
            unacknowledged: unacknowledged.map(|bytes| bytes.to_vec()),
        }
    }

    /// The server side of a value: one without a final response waits for it again, to be sent by
    /// `hop`. `None` if the INVITE cannot be read.
    pub(super) fn restore(
        cx: &mut CallContext<'_>,
        from: InviteSnapshot,
        hop: Hop,
    ) -> Option<CallerInvite> {
        let invite = Message::parse(from.invite.into_bytes(), Framing::WebSocket).ok()?;
        let mut events = Vec::new();
        if !from.finished || from.unacknowledged.is_some() {
            let copy = invite.clone();
            cx.services.transactions.receive(cx.now, hop, copy, &mut Vec::new(), &mut events);
        }
        let transaction = events.into_iter().find_map(|event| match event {
            TransactionEvent::Request { id, .. } => Some(id),
            _ => None,
        });
        Some(CallerInvite {
            transaction,
            offerless: from.offerless,
            finished: from.finished || transaction.is_none(),
            ..CallerInvite::new(invite, ServerId(0))
        })
    }

    /// Goes on repeating the 2xx of a value to `caller` until its ACK comes: whoever sent the
    /// INVITE may not have heard it.
    pub(super) fn accept_again(
        &self,
        cx: &mut CallContext<'_>,
        call: CallId,
        caller: &mut Leg,
        bytes: Vec<u8>,
    ) {
        let Some(server) = self.transaction else { return };
        let (bytes, cseq) = (Bytes::from(bytes), self.invite.cseq().map_or(0, |c| c.number));
        cx.respond(server, 200, bytes.clone());
        let (interval, deadline) = (T1, cx.now + T1X64);
        caller.ack_wait =
            Some(AckWait { server, bytes, cseq, interval, deadline, expects_answer: false });
        cx.arm(call, CallTimer::Ack(caller.end), T1);
    }

    /// The INVITE.
    pub(crate) fn invite(&self) -> &Message {
        &self.invite
    }

    /// Its transaction; `None` if nobody sent it.
    pub(crate) fn transaction(&self) -> Option<ServerId> {
        self.transaction
    }

    /// Whether the final response was sent.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// The INVITE brought no description.
    pub(super) fn note_offerless(&mut self) {
        self.offerless = true;
    }

    /// Whether the INVITE brought no description.
    pub(super) fn is_offerless(&self) -> bool {
        self.offerless
    }

    /// Says 100; a trunk's `policy` decides about reliable responses from now on.
    pub(super) fn begin(&mut self, cx: &mut CallContext<'_>, policy: Option<Policy>) {
        self.policy = policy;
        let trying = MessageWriter::response(&self.invite, 100, None).end();
        self.respond(cx, 100, trying);
    }

    /// Whether the INVITE lets, or makes, us respond reliably.
    fn takes_reliable(&self) -> bool {
        self.invite.lists(HeaderName::Require, "100rel")
            || (self.policy != Some(Policy::Off)
                && self.invite.lists(HeaderName::Supported, "100rel"))
    }

    /// Whether the caller can hear anything before the answer: its offer is there, or it may be
    /// given one.
    pub(super) fn takes_early_media(&self) -> bool {
        !self.offerless || self.finished || self.takes_reliable()
    }

    /// Enters the dialog of the INVITE, if that was not done.
    pub(super) fn enter_dialog(&self, cx: &mut CallContext<'_>, call: CallId, caller: &mut Leg) {
        if caller.dialog.is_none() {
            let first = (cx.random_u64() as u32 >> 8).max(1);
            if let Some(dialog) = Dialog::uas(&self.invite, &caller.local_tag, caller.hop, first) {
                caller.enter(cx, call, dialog);
            }
        }
    }

    /// Sends a provisional response to `caller`, reliably if it must be, or if it carries SDP and
    /// may be; or keeps it until the one that is open is acknowledged.
    pub(super) fn provisional(
        &mut self,
        cx: &mut CallContext<'_>,
        call: CallId,
        caller: &mut Leg,
        (status, sdp): (u16, Option<&str>),
    ) {
        if self.finished {
            return;
        }
        self.enter_dialog(cx, call, caller);
        let required = self.invite.lists(HeaderName::Require, "100rel");
        // If it is a matter of choice, what carries SDP is worth a PRACK.
        let reliably = required || (sdp.is_some() && self.takes_reliable());
        if reliably && self.open.is_some() {
            let same = self.waiting.back().is_some_and(|(s, _)| *s == status && sdp.is_none());
            if !same && self.waiting.len() < MAX_WAITING {
                self.waiting.push_back((status, sdp.map(str::to_owned)));
            }
            return;
        }
        let mut response = MessageWriter::response(&self.invite, status, Some(&caller.local_tag));
        self.invite
            .values(HeaderName::RecordRoute)
            .filter(|r| NameAddr::parse(r).is_ok())
            .for_each(|r| response.put(HeaderName::RecordRoute, r));
        response.put(HeaderName::Contact, cx.contact(caller.hop, "call"));
        response.put(HeaderName::Allow, ALLOW);
        caller.invite_packages(&mut response);
        if reliably {
            let rseq = self.next_rseq(cx);
            response.put(HeaderName::Require, "100rel");
            response.put(HeaderName::RSeq, rseq);
        }
        let bytes = response.end_described(sdp);
        self.respond(cx, status, bytes.clone());
        if reliably {
            let deadline = cx.now + T1X64;
            let (rseq, has_sdp, interval) = (self.last_rseq, sdp.is_some(), T1);
            self.open = Some(Unacknowledged { rseq, status, bytes, has_sdp, interval, deadline });
            cx.arm(call, CallTimer::Reliable, T1);
        }
    }

    fn respond(&self, cx: &mut CallContext<'_>, status: u16, bytes: Bytes) {
        if let Some(transaction) = self.transaction {
            cx.respond(transaction, status, bytes);
        }
    }

    fn next_rseq(&mut self, cx: &mut CallContext<'_>) -> u32 {
        self.last_rseq = match self.last_rseq {
            // RFC 3262 §3: the first is chosen below 2^31.
            0 => (cx.random_u64() as u32 >> 2).max(1),
            last => last + 1,
        };
        self.last_rseq
    }

    /// The PRACK of a reliable response did not come in time: the response is sent again.
    ///
    /// # Errors
    /// 504 once it was repeated for 32 s: the call has failed (RFC 3262 §3).
    pub(super) fn reliable_timeout(
        &mut self,
        cx: &mut CallContext<'_>,
        call: CallId,
    ) -> Result<(), Refusal> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if cx.now >= open.deadline {
            self.open = None;
            let why = "a reliable provisional response was never acknowledged (no PRACK for 32 s)";
            return Err(Refusal::new(504, why).code(Code::NO_PRACK));
        }
        open.interval *= 2;
        let (status, bytes, interval) = (open.status, open.bytes.clone(), open.interval);
        let left = open.deadline.saturating_duration_since(cx.now);
        self.respond(cx, status, bytes);
        cx.arm(call, CallTimer::Reliable, interval.min(left));
        Ok(())
    }

    /// Nobody could be heard for `by`: a PRACK is waited for that much longer.
    pub(super) fn put_off(&mut self, by: Duration) {
        self.open.iter_mut().for_each(|open| open.deadline += by);
    }

    /// Whether a PRACK is for the reliable response that is open.
    pub(super) fn awaits(&self, prack: &Message) -> bool {
        let cseq = self.invite.cseq().map_or(0, |c| c.number);
        let acknowledged = rack(prack);
        acknowledged.is_some() && acknowledged == self.open.as_ref().map(|o| (o.rseq, cseq))
    }

    /// The reliable response that was open is acknowledged.
    pub(super) fn on_ack(&mut self, cx: &mut CallContext<'_>, call: CallId) {
        self.settled |= self.open.take().is_some_and(|o| o.has_sdp);
        cx.disarm(call, CallTimer::Reliable);
    }

    /// Takes what waited for a PRACK.
    pub(super) fn take_waiting(&mut self) -> Option<(u16, Option<String>)> {
        self.waiting.pop_front()
    }

    /// Our offer goes out in a reliable response: its PRACK brings the answer.
    pub(super) fn note_offered(&mut self) {
        self.offered = true;
    }

    /// Whether a PRACK must bring the answer to our offer; asked once.
    pub(super) fn take_offered(&mut self) -> bool {
        std::mem::take(&mut self.offered)
    }

    /// The exchange of descriptions is done.
    pub(super) fn note_settled(&mut self) {
        self.settled = true;
    }

    fn may_answer(&self) -> bool {
        self.open.as_ref().is_none_or(|o| !o.has_sdp)
            && self.waiting.iter().all(|(_, sdp)| sdp.is_none())
    }

    /// What the 200 describes, or `None` if it must wait for a PRACK: `answered_by` is then kept.
    pub(super) fn may_accept(&mut self, answered_by: Option<u16>) -> Option<SdpRole> {
        if !self.may_answer() {
            self.deferred = Some(answered_by);
            return None;
        }
        Some(match (self.settled, self.offerless) {
            (true, _) => SdpRole::Settled,
            (false, true) => SdpRole::Offer,
            (false, false) => SdpRole::Answer,
        })
    }

    /// Takes the answer that waited for a PRACK, if none is open any more.
    pub(super) fn take_deferred(&mut self) -> Option<Option<u16>> {
        if self.may_answer() { self.deferred.take() } else { None }
    }

    /// The final response is sent: nothing else is.
    pub(super) fn finish(&mut self, cx: &mut CallContext<'_>, call: CallId) {
        self.finished = true;
        (self.open, self.deferred) = (None, None);
        self.waiting.clear();
        cx.disarm(call, CallTimer::Reliable);
    }

    /// Sends the refusal `why` to `caller`.
    pub(super) fn refuse(
        &mut self,
        cx: &mut CallContext<'_>,
        call: CallId,
        caller: &Leg,
        why: &Refusal,
    ) {
        self.finish(cx, call);
        let mut response =
            MessageWriter::refusal(&self.invite, why, &caller.local_tag, &cx.config.domain);
        match why.status {
            415 => response.put_readable(),
            422 => response.put(HeaderName::MinSe, MIN_SE),
            _ => {}
        }
        response.put(HeaderName::Supported, caller.supported());
        self.respond(cx, why.status, response.end());
        if caller.flow_lost && self.transaction.is_some() {
            self.untold = true;
            cx.arm(call, CallTimer::FlowGrace(caller.end), T1X64);
        }
    }

    /// Whether a caller that is away has still to be told of the refusal.
    pub(super) fn is_untold(&self) -> bool {
        self.untold
    }

    /// The caller did not come back for the refusal.
    pub(super) fn give_up_telling(&mut self) {
        self.untold = false;
    }

    /// Whether the INVITE's session timer can be granted; asked before anything is spent on it.
    ///
    /// # Errors
    /// 422 (RFC 4028 §9).
    pub(super) fn check_session(&self) -> Result<(), Refusal> {
        grant(&self.invite, None, false).map(drop).map_err(|TooBrief| {
            Refusal::new(422, format!("sessions last at least {MIN_SE} s here"))
        })
    }

    /// The caller's flow is gone: a transaction that waits for its answer outlives it.
    pub(super) fn suspend(&self, cx: &mut CallContext<'_>, nowhere: Hop) {
        if let Some(waiting) = self.transaction.filter(|_| !self.finished) {
            cx.services.transactions.move_server(waiting, nowhere);
        }
    }

    /// The caller is reached by `hop` now: the last response is repeated there.
    pub(super) fn move_to(&mut self, cx: &mut CallContext<'_>, hop: Hop) {
        let untold = std::mem::take(&mut self.untold);
        if let Some(waiting) = self.transaction.filter(|_| !self.finished || untold) {
            cx.services.transactions.move_server(waiting, hop);
            cx.answer_again(waiting);
        }
    }
}

/// RAck: RSeq and CSeq of what is acknowledged, if it was an INVITE's (RFC 3262 §7.2).
fn rack(message: &Message) -> Option<(u32, u32)> {
    let mut parts = message.header(HeaderName::RAck)?.split_ascii_whitespace();
    let numbers = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let is_invite = parts.next()?.eq_ignore_ascii_case("INVITE");
    (is_invite && parts.next().is_none()).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CALL, CallBench, hop, request};
    use super::*;

    /// An INVITE that came in with these headers, the caller, and the bench.
    fn received(headers: &str) -> (CallBench, CallerInvite, Leg) {
        let mut bench = CallBench::new();
        let invite = request("INVITE", 7, headers);
        let transaction = bench.receive(&invite);
        let caller = bench.leg();
        (bench, CallerInvite::new(invite, transaction), caller)
    }

    fn says(
        bench: &mut CallBench,
        uas: &mut CallerInvite,
        caller: &mut Leg,
        what: (u16, Option<&str>),
    ) {
        uas.provisional(&mut bench.cx(), CALL, caller, what);
    }

    fn prack(rseq: u32) -> Message {
        request("PRACK", 8, &format!("RAck: {rseq} 7 INVITE\r\n"))
    }

    #[test]
    fn one_reliable_response_is_open_at_a_time() {
        let (mut bench, mut uas, mut caller) = received("Require: 100rel\r\n");
        says(&mut bench, &mut uas, &mut caller, (180, None));
        says(&mut bench, &mut uas, &mut caller, (183, Some("v=0")));
        says(&mut bench, &mut uas, &mut caller, (180, None));
        says(&mut bench, &mut uas, &mut caller, (180, None));
        let sent = bench.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        let rseq = uas.last_rseq;
        assert!(sent[0].contains(&format!("RSeq: {rseq}\r\n")));
        assert!(!uas.awaits(&prack(rseq + 1)), "of another response");
        assert!(!uas.awaits(&request("PRACK", 8, &format!("RAck: {rseq} 7 INVITE 1\r\n"))));
        assert!(uas.awaits(&prack(rseq)));
        uas.on_ack(&mut bench.cx(), CALL);
        assert!(!uas.awaits(&prack(rseq)), "acknowledged once");
        let waited: Vec<u16> = std::iter::from_fn(|| uas.take_waiting()).map(|w| w.0).collect();
        assert_eq!(waited, [183, 180], "the same twice in a row is one");
    }

    #[test]
    fn few_responses_wait_for_a_prack_that_does_not_come() {
        let (mut bench, mut uas, mut caller) = received("Require: 100rel\r\n");
        for _ in 0..=2 * MAX_WAITING {
            says(&mut bench, &mut uas, &mut caller, (183, Some("v=0")));
        }
        assert_eq!(std::iter::from_fn(|| uas.take_waiting()).count(), MAX_WAITING);
    }

    #[test]
    fn the_answer_waits_for_the_prack_of_a_description() {
        let (mut bench, mut uas, mut caller) = received("Supported: 100rel\r\n");
        says(&mut bench, &mut uas, &mut caller, (180, None));
        assert!(!bench.sent()[0].contains("RSeq"), "what carries nothing needs no PRACK");
        says(&mut bench, &mut uas, &mut caller, (183, Some("v=0")));
        assert_eq!(uas.may_accept(Some(3)), None);
        assert_eq!(uas.take_deferred(), None, "the PRACK is not there");
        uas.on_ack(&mut bench.cx(), CALL);
        assert_eq!(uas.take_deferred(), Some(Some(3)));
        assert_eq!(uas.may_accept(Some(3)), Some(SdpRole::Settled), "it was in the 183");
    }

    #[test]
    fn the_200_describes_what_is_still_to_be_described() {
        let (_, mut uas, _) = received("");
        assert_eq!(uas.may_accept(None), Some(SdpRole::Answer));
        uas.note_offerless();
        assert_eq!(uas.may_accept(None), Some(SdpRole::Offer));
        assert!(!uas.takes_early_media(), "there is nothing to answer, and no reliable response");
        uas.note_offered();
        assert!(uas.take_offered() && !uas.take_offered(), "one PRACK brings the answer");
        uas.note_settled();
        assert_eq!(uas.may_accept(None), Some(SdpRole::Settled));
    }

    #[test]
    fn a_reliable_response_is_repeated_for_32_s() {
        let (mut bench, mut uas, mut caller) = received("Require: 100rel\r\n");
        says(&mut bench, &mut uas, &mut caller, (180, None));
        let (mut wait, mut copies) = (T1, bench.sent().len());
        let begun = bench.now;
        let why = loop {
            bench.wait(wait);
            if let Err(why) = uas.reliable_timeout(&mut bench.cx(), CALL) {
                break why;
            }
            copies += bench.sent().len();
            wait = (wait * 2).min((begun + T1X64).saturating_duration_since(bench.now));
        };
        assert_eq!((why.status, why.code, bench.now - begun), (504, Code::NO_PRACK, T1X64));
        assert_eq!(copies, 7);
    }

    #[test]
    fn nothing_is_said_after_the_final_response() {
        let (mut bench, mut uas, mut caller) = received("Require: 100rel\r\n");
        says(&mut bench, &mut uas, &mut caller, (180, None));
        uas.refuse(&mut bench.cx(), CALL, &caller, &Refusal::new(486, "busy"));
        assert_eq!(bench.sent().len(), 2);
        says(&mut bench, &mut uas, &mut caller, (180, None));
        assert!(uas.reliable_timeout(&mut bench.cx(), CALL).is_ok());
        uas.move_to(&mut bench.cx(), hop());
        assert_eq!((bench.sent(), uas.is_finished()), (Vec::new(), true));
    }

    #[test]
    fn nothing_is_said_to_an_invite_nobody_sent() {
        let mut bench = CallBench::new();
        let mut uas = CallerInvite::of_nobody(request("INVITE", 1, ""));
        let mut caller = bench.leg();
        says(&mut bench, &mut uas, &mut caller, (180, None));
        uas.move_to(&mut bench.cx(), hop());
        assert_eq!((bench.sent(), uas.is_finished()), (Vec::new(), true));
    }
}
