//! One record per call, whatever way it ended.

use crate::errors::Code;
use crate::ids::CallId;
use crate::media::endpoint::CALLER_LEG;
use crate::media::{LegId, Statistics};
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::{Reason, Refusal};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Whose side the cause is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Blame {
    #[default]
    Nobody,
    Caller,
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

/// What is said of a call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Diagnosis {
    pub code: Code,
    pub side: Blame,
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
    Caller,
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

/// One try at a trunk or a user's flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tried {
    pub target: String,
    /// Final status, 0 where it was given up.
    pub status: u16,
    pub ms: u64,
}

/// The trunk a party such as `trunk:carrier` is.
pub fn trunk_of(party: &str) -> Option<&str> {
    party.strip_prefix("trunk:")
}

/// Why a call ended: who ended it, and what is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct EndReason {
    pub(crate) by: HangupBy,
    pub(crate) code: Code,
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

    /// It cannot go on, or never began.
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

/// The record, in monotonic time; the shell adds the wall clock.
#[derive(Clone, Debug)]
pub struct Cdr {
    pub call: CallId,
    pub start: Instant,
    pub ringing: Option<Instant>,
    pub answered: Option<Instant>,
    pub end: Option<Instant>,
    pub inbound: bool,
    pub context: String,
    pub route: Option<String>,
    pub from: String,
    pub from_shown: String,
    pub user_agent: String,
    pub dialled: String,
    pub number: String,
    pub status: u16,
    /// What ended it, by the registry of errors.
    pub code: Code,
    pub why: String,
    pub by: Option<HangupBy>,
    pub tried: Vec<Tried>,
    pub answered_by: Option<String>,
    pub a_call_id: String,
    pub b_call_id: Option<String>,
    pub b_end: Option<LegId>,
    /// The caller's end of the media session.
    pub a_end: LegId,
    pub a: Option<Statistics>,
    pub b: Option<Statistics>,
    /// What each leg's peer can do, as it said when the call was answered: `opus/48000`.
    pub formats: [Vec<String>; 2],
    pub media_problem: Option<String>,
    /// Where the SIP of the caller and of who answered came from, and the addresses browsers were
    /// offered.
    pub remotes: [Option<IpAddr>; 2],
    pub offered: Vec<IpAddr>,
    /// Digits sent by INFO that the caller's, the callee's side refused.
    pub digits_refused: [u32; 2],
    /// A `ring` step that found nobody registered, in words.
    pub nobody_there: Option<String>,
    /// The first message of a peer that could not be used, in words.
    pub unreadable: Option<String>,
    /// Said once the call is over.
    pub verdict: Option<Diagnosis>,
    /// The route's.
    pub tags: BTreeMap<String, String>,
    /// Where the call was handed to, in order.
    pub transfers: Vec<String>,
}

impl Cdr {
    /// The record of a call that begins with `invite`.
    pub(crate) fn new(call: CallId, now: Instant, invite: &Message) -> Cdr {
        Cdr {
            call,
            start: now,
            ringing: None,
            answered: None,
            end: None,
            inbound: false,
            context: String::new(),
            route: None,
            from: String::new(),
            from_shown: invite.from().map(|f| f.uri.number()).unwrap_or_default(),
            user_agent: invite
                .header(HeaderName::UserAgent)
                .unwrap_or_default()
                .chars()
                .take(80)
                .collect(),
            dialled: String::new(),
            number: String::new(),
            status: 0,
            code: Code::FINE,
            why: String::new(),
            by: None,
            tried: Vec::new(),
            answered_by: None,
            a_call_id: invite.call_id().to_owned(),
            b_call_id: None,
            b_end: None,
            a_end: CALLER_LEG,
            a: None,
            b: None,
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
        if end == self.a_end {
            self.a = Some(statistics);
        } else if self.b_end == Some(end) {
            self.b = Some(statistics);
        }
    }

    /// How long people talked; nothing where it was not answered, or goes on.
    pub(crate) fn talked(&self) -> Option<Duration> {
        self.answered.zip(self.end).map(|(answered, end)| end.saturating_duration_since(answered))
    }

    /// Its verdict, where that is a fault.
    pub(crate) fn fault(&self) -> Option<&Diagnosis> {
        self.verdict.as_ref().filter(|verdict| verdict.code.is_fault())
    }

    /// The trunk the call came from or went to, the one that answered before those that were tried.
    pub(crate) fn trunk(&self) -> Option<&str> {
        self.answered_by
            .as_deref()
            .and_then(trunk_of)
            .or_else(|| trunk_of(&self.from))
            .or_else(|| trunk_of(&self.tried.last()?.target))
    }

    /// `success`, `client_error`, `server_error`: who is to blame, coarsely.
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
