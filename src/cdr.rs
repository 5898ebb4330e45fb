//! One record per call, whatever way it ended.

pub mod search;

pub(crate) use self::snapshot::CdrSnapshot;
use crate::errors::Code;
use crate::ids::CallId;
use crate::media::endpoint::CALLER_LEG;
use crate::media::{LegId, Statistics, dtls};
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::{Reason, Refusal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Whose side the cause is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Blame {
    /// Nothing went wrong: talked, busy, declined, cancelled.
    #[default]
    Nobody,
    /// Their device, network or number.
    Caller,
    /// Their device, network or number.
    Callee,
    /// This gateway: its configuration, its limits.
    Gateway,
    /// Between us and a peer.
    Network,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Blame::Nobody => "nobody",
            Blame::Caller => "caller",
            Blame::Callee => "callee",
            Blame::Gateway => "gateway",
            Blame::Network => "network",
        })
    }
}

/// The diagnosis of a call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Diagnosis {
    /// What it is, with its likely cause and fix.
    pub code: Code,
    /// Where to look first.
    pub side: Blame,
    /// For people.
    pub sentence: String,
}

impl Diagnosis {
    /// A diagnosis of these parts.
    pub(crate) fn new(code: Code, side: Blame, sentence: impl Into<String>) -> Diagnosis {
        Diagnosis { code, side, sentence: sentence.into() }
    }
}

/// Who ended the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HangupBy {
    /// By BYE or CANCEL.
    Caller,
    /// By BYE or a refusal.
    Callee,
    /// A limit, a drain, a refusal of ours.
    Us,
    /// Media died.
    Media,
}

impl HangupBy {
    /// The word in the record.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            HangupBy::Caller => "caller",
            HangupBy::Callee => "callee",
            HangupBy::Us => "webtrunk",
            HangupBy::Media => "media",
        }
    }
}

/// Who calls, is tried, or is at the other end of a leg. `Display` is for sentences; records have
/// their own words.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Party {
    /// Somebody who logs in here.
    User {
        /// As in the registrar.
        name: String,
        /// Its `+sip.instance`.
        instance: Option<String>,
    },
    /// By name.
    Trunk(String),
    /// The first party of a call the API began, a number of no user.
    Number(String),
    /// The other half of two joined calls.
    Internal(CallId),
}

impl Party {
    /// Returns how a record writes who called: `alice`, `trunk:carrier`.
    pub fn as_caller(&self) -> String {
        match self {
            Party::User { name, .. } | Party::Number(name) => name.clone(),
            Party::Trunk(name) => format!("trunk:{name}"),
            Party::Internal(_) => "another call".to_owned(),
        }
    }

    /// Returns how a record writes who was called: `user:alice`, `trunk:carrier`.
    pub fn as_callee(&self) -> String {
        match self {
            Party::User { name, .. } => format!("user:{name}"),
            Party::Trunk(_) | Party::Number(_) | Party::Internal(_) => self.as_caller(),
        }
    }

    /// Returns the name of the trunk it is, or `None` for any other party.
    pub(crate) fn trunk(&self) -> Option<&str> {
        match self {
            Party::Trunk(name) => Some(name),
            Party::User { .. } | Party::Number(_) | Party::Internal(_) => None,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::User { name, .. } | Party::Number(name) => f.write_str(name),
            Party::Trunk(name) => write!(f, "trunk {name}"),
            Party::Internal(call) => write!(f, "call {call}"),
        }
    }
}

/// One try at a trunk or a user's flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tried {
    /// Whom it was sent to.
    pub target: Party,
    /// Final status, 200 to 699; `None` if it was given up.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// How long until it rang; `None` if it did not.
    pub rang: Option<Duration>,
    /// The status is its own word, and not ours for its silence.
    pub refused: bool,
}

impl Tried {
    /// Whether the network did its part, whatever the people called did (RFC 6076 §4.6, NER of
    /// ITU-T E.425): answered, busy, declined or no such number by the peer's own word, or it rang
    /// until somebody gave up.
    pub fn is_effective(&self) -> bool {
        match self.status {
            Some(200) => true,
            Some(404 | 408 | 410 | 480 | 484 | 486 | 487 | 600 | 603 | 604) if self.refused => true,
            None | Some(408 | 480 | 487) => self.rang.is_some(),
            _ => false,
        }
    }
}

/// Why a call ended: who ended it, and the reason that is reported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct EndReason {
    /// Who ended it.
    pub(crate) by: HangupBy,
    /// The error code; [`Code::NONE`] if nothing failed.
    pub(crate) code: Code,
    /// What the Reason header says.
    pub(crate) reason: Reason,
    /// What a caller who still waits is sent, if it says more than the reason.
    refusal: Option<Refusal>,
}

impl EndReason {
    /// A side said why it leaves.
    pub(crate) fn said(by: HangupBy, reason: Reason) -> EndReason {
        EndReason { by, code: Code::FINE, reason, refusal: None }
    }

    /// It ends as calls do.
    pub(crate) fn normal(by: HangupBy, text: &str) -> EndReason {
        EndReason::said(by, Reason::new(200, text))
    }

    /// It cannot continue, or never began.
    pub(crate) fn refused(by: HangupBy, refusal: Refusal) -> EndReason {
        EndReason { by, code: refusal.code, reason: refusal.reason(), refusal: Some(refusal) }
    }

    /// What a caller who still waits for a final response is sent.
    pub(crate) fn refusal(&self) -> Refusal {
        self.refusal.clone().unwrap_or_else(|| {
            let Reason { cause, q850, text } = self.reason.clone();
            let status = if (300..700).contains(&cause) { cause } else { 480 };
            Refusal::new(status, text).q850(q850).code(self.code)
        })
    }
}

/// A node that was lost, and the one that continued with its calls.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeChange {
    /// Whose calls they were.
    pub lost: String,
    /// The node that took them over.
    pub by: String,
}

/// A time in which nobody had the call's media, because the gateway was started again, or its node
/// was lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interruption {
    /// When media came again.
    pub at: Instant,
    /// How long there was no media.
    pub gap: Duration,
    /// If another node continued with the call.
    pub node: Option<NodeChange>,
}

impl Interruption {
    /// What happened, for people.
    pub fn sentence(&self) -> String {
        Interruption::describe(self.node.as_ref(), self.gap)
    }

    /// What happened, for people: which node was lost, and how long there was no media.
    pub(crate) fn describe(node: Option<&NodeChange>, gap: Duration) -> String {
        let gap = gap.as_secs_f32();
        match node {
            Some(NodeChange { lost, by }) => {
                let lost = if lost == by {
                    format!("node {lost} was started again")
                } else {
                    format!("node {lost} was lost; node {by} took the call over")
                };
                format!("{lost}; {gap:.1} s without media")
            }
            None => format!("gateway restarted; {gap:.1} s without media"),
        }
    }
}

/// As much of a remote text as a record keeps.
pub(crate) fn kept(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The record, in monotonic time; the shell adds the wall clock.
#[derive(Clone, Debug)]
pub struct Cdr {
    /// Its name everywhere.
    pub call: CallId,
    /// When its INVITE came.
    pub start: Instant,
    /// The first 180 or 183 from anybody.
    pub ringing: Option<Instant>,
    /// The first 200.
    pub answered: Option<Instant>,
    /// The last of both legs.
    pub end: Option<Instant>,
    /// From a trunk.
    pub inbound: bool,
    /// The dialplan's.
    pub context: String,
    /// The last one taken.
    pub route: Option<String>,
    /// Who called.
    pub from: Party,
    /// The caller's number, as its account or its trunk has it.
    pub from_number: String,
    /// The caller's name, as the callee is shown it.
    pub from_name: String,
    /// The number it claims in From.
    pub from_shown: String,
    /// The caller's.
    pub user_agent: String,
    /// As it was sent.
    pub dialled: String,
    /// After normalisation; in E.164 if it could be.
    pub number: String,
    /// The last status that the caller was sent.
    pub status: u16,
    /// What ended it, by the registry of errors.
    pub code: Code,
    /// Why it ended.
    pub why: String,
    /// Who ended it.
    pub by: Option<HangupBy>,
    /// In order.
    pub tried: Vec<Tried>,
    /// The one that talked.
    pub answered_by: Option<Party>,
    /// Call-ID of the caller's leg.
    pub caller_call_id: String,
    /// Call-ID of the callee's leg.
    pub callee_call_id: Option<String>,
    /// The callee's media endpoint.
    pub callee_end: Option<LegId>,
    /// The caller's end of the media session.
    pub caller_end: LegId,
    /// The caller's media.
    pub caller_media: Option<Statistics>,
    /// The callee's media.
    pub callee_media: Option<Statistics>,
    /// What each leg's peer can do, as it said when the call was answered: `opus/48000`.
    pub formats: [Vec<String>; 2],
    /// Why the keys of a browser leg were never agreed on.
    pub media_problem: Option<dtls::Failed>,
    /// Where the SIP of the caller and of who answered came from, and the addresses browsers were
    /// offered.
    pub remotes: [Option<IpAddr>; 2],
    /// Media addresses in the caller's offer.
    pub offered: Vec<IpAddr>,
    /// Digits sent by INFO that the caller's, the callee's side refused.
    pub digits_refused: [u32; 2],
    /// A `ring` step that found nobody registered, as text.
    pub nobody_there: Option<(Code, String)>,
    /// The first message of a peer that could not be used, as text.
    pub unreadable: Option<String>,
    /// Said once the call is over.
    pub verdict: Option<Diagnosis>,
    /// The route's.
    pub tags: BTreeMap<String, String>,
    /// Where the call was handed to, in order.
    pub transfers: Vec<String>,
    /// Why the last of them failed, as text; it is not known after a restart.
    pub transfer_failed: Option<String>,
    /// Starts of the gateway that it outlived.
    pub interruptions: Vec<Interruption>,
}

impl Cdr {
    /// The record of a call of `from` that begins with `invite`.
    pub(crate) fn new(call: CallId, now: Instant, from: Party, invite: &Message) -> Cdr {
        Cdr {
            call,
            start: now,
            ringing: None,
            answered: None,
            end: None,
            inbound: false,
            context: String::new(),
            route: None,
            from,
            from_number: invite.from().map(|f| kept(&f.uri.number())).unwrap_or_default(),
            from_name: invite.from().map(|f| kept(&f.display_name())).unwrap_or_default(),
            from_shown: invite.from().map(|f| f.uri.number()).unwrap_or_default(),
            user_agent: kept(invite.header(HeaderName::UserAgent).unwrap_or_default()),
            dialled: String::new(),
            number: String::new(),
            status: 0,
            code: Code::FINE,
            why: String::new(),
            by: None,
            tried: Vec::new(),
            answered_by: None,
            caller_call_id: invite.call_id().to_owned(),
            callee_call_id: None,
            callee_end: None,
            caller_end: CALLER_LEG,
            caller_media: None,
            callee_media: None,
            formats: Default::default(),
            media_problem: None,
            remotes: [None; 2],
            offered: Vec::new(),
            digits_refused: [0; 2],
            nobody_there: None,
            unreadable: None,
            verdict: None,
            tags: BTreeMap::new(),
            transfers: Vec::new(),
            transfer_failed: None,
            interruptions: Vec::new(),
        }
    }

    /// The call is over; its first end counts.
    pub(crate) fn ended(&mut self, now: Instant, why: &EndReason) {
        if self.end.is_none() {
            self.end = Some(now);
            self.by = Some(why.by);
            // An answered call was a success whatever ended it.
            self.status = if self.answered.is_some() { 200 } else { why.reason.cause };
            self.code = why.code;
            self.why.clone_from(&why.reason.text);
        }
    }

    /// Media gave an end's figures.
    pub(crate) fn end_closed(&mut self, end: LegId, statistics: Statistics) {
        if end == self.caller_end {
            self.caller_media = Some(statistics);
        } else if self.callee_end == Some(end) {
            self.callee_media = Some(statistics);
        }
    }

    /// How long people talked; `None` if it was not answered, or continues.
    pub(crate) fn talked(&self) -> Option<Duration> {
        self.answered.zip(self.end).map(|(answered, end)| end.saturating_duration_since(answered))
    }

    /// The estimated score of the call: the worst of what its parties heard of each other. There is
    /// none if one of two was not heard at all, or was not any more when it ended.
    pub fn score(&self) -> Option<f32> {
        let legs = || [&self.caller_media, &self.callee_media].into_iter().flatten();
        let unheard = |s: &Statistics| s.mos.0.is_none() || s.fell_silent(self.end).is_some();
        if legs().count() > 1 && legs().any(unheard) {
            return None;
        }
        legs().flat_map(|s| [s.mos.0, s.mos.1]).flatten().min_by(f32::total_cmp)
    }

    /// Its verdict, if that is a fault.
    pub(crate) fn fault(&self) -> Option<&Diagnosis> {
        self.verdict.as_ref().filter(|verdict| verdict.code.is_fault())
    }

    /// Its code: of its verdict, or else of what ended it; `None` if nothing was wrong.
    pub(crate) fn error_code(&self) -> Option<Code> {
        let code = self.fault().map_or(self.code, |verdict| verdict.code);
        code.is_fault().then_some(code)
    }

    /// The trunk the call came from or went to, the one that answered before those that were tried.
    pub(crate) fn trunk(&self) -> Option<&str> {
        self.answered_by
            .as_ref()
            .and_then(Party::trunk)
            .or_else(|| self.from.trunk())
            .or_else(|| self.tried.last()?.target.trunk())
    }

    /// `success`, `client_error`, `server_error`: roughly which side is to blame.
    pub fn outcome(&self) -> &'static str {
        match self.status {
            200 => "success",
            487 => "cancelled",
            486 | 600 => "busy",
            408 | 480 => "no_answer",
            500..=599 => "server_error",
            _ => "refused",
        }
    }
}

mod snapshot;
#[cfg(test)]
mod tests;
