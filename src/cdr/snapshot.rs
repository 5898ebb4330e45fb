//! The record of a call that continues, as a value that outlives the process.

use super::{Cdr, Interruption, NodeChange, Party, Tried};
use crate::errors::Code;
use crate::ids::CallId;
use crate::media::endpoint::CALLER_LEG;
use crate::media::{LegId, dtls};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The record of a call that continues, as a value that outlives the process. Times are how long
/// ago something was; what media counted begins anew with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct CdrSnapshot {
    /// How long ago the INVITE came.
    pub started: Duration,
    /// How long ago it first rang.
    pub ringing: Option<Duration>,
    /// How long ago it was answered.
    pub answered: Option<Duration>,
    /// As [`Cdr::call`].
    pub call: CallId,
    /// As [`Cdr::inbound`].
    pub inbound: bool,
    /// As [`Cdr::context`].
    pub context: String,
    /// As [`Cdr::route`].
    pub route: Option<String>,
    /// As [`Cdr::from`].
    pub from: Party,
    /// As [`Cdr::from_number`].
    pub from_number: String,
    /// As [`Cdr::from_name`].
    pub from_name: String,
    /// As [`Cdr::from_shown`].
    pub from_shown: String,
    /// As [`Cdr::user_agent`].
    pub user_agent: String,
    /// As [`Cdr::dialled`].
    pub dialled: String,
    /// As [`Cdr::number`].
    pub number: String,
    /// As [`Cdr::tried`].
    pub tried: Vec<Tried>,
    /// As [`Cdr::answered_by`].
    pub answered_by: Option<Party>,
    /// As [`Cdr::caller_call_id`].
    pub caller_call_id: String,
    /// As [`Cdr::callee_call_id`].
    pub callee_call_id: Option<String>,
    /// As [`Cdr::callee_end`].
    pub callee_end: Option<LegId>,
    /// As [`Cdr::caller_end`].
    pub caller_end: LegId,
    /// As [`Cdr::formats`].
    pub formats: [Vec<String>; 2],
    /// As [`Cdr::media_problem`].
    pub media_problem: Option<dtls::Failed>,
    /// As [`Cdr::remotes`].
    pub remotes: [Option<IpAddr>; 2],
    /// As [`Cdr::offered`].
    pub offered: Vec<IpAddr>,
    /// As [`Cdr::digits_refused`].
    pub digits_refused: [u32; 2],
    /// As [`Cdr::nobody_there`].
    pub nobody_there: Option<String>,
    /// As [`Cdr::unreadable`].
    pub unreadable: Option<String>,
    /// As [`Cdr::tags`].
    pub tags: BTreeMap<String, String>,
    /// As [`Cdr::transfers`].
    pub transfers: Vec<String>,
    /// How long ago each began, and how long it lasted.
    pub interruptions: Vec<(Duration, Duration, Option<NodeChange>)>,
}

impl CdrSnapshot {
    /// Of a call of which nothing else is known.
    pub(crate) fn bare(call: CallId, from: Party) -> CdrSnapshot {
        CdrSnapshot {
            started: Duration::ZERO,
            ringing: None,
            answered: None,
            call,
            inbound: false,
            context: String::new(),
            route: None,
            from,
            from_number: String::new(),
            from_name: String::new(),
            from_shown: String::new(),
            user_agent: String::new(),
            dialled: String::new(),
            number: String::new(),
            tried: Vec::new(),
            answered_by: None,
            caller_call_id: String::new(),
            callee_call_id: None,
            callee_end: None,
            caller_end: CALLER_LEG,
            formats: Default::default(),
            media_problem: None,
            remotes: [None; 2],
            offered: Vec::new(),
            digits_refused: [0; 2],
            nobody_there: None,
            unreadable: None,
            tags: BTreeMap::new(),
            transfers: Vec::new(),
            interruptions: Vec::new(),
        }
    }
}

impl Cdr {
    /// The record as a value at `now`.
    pub(crate) fn snapshot(&self, now: Instant) -> CdrSnapshot {
        let ago = |at: Instant| now.saturating_duration_since(at);
        CdrSnapshot {
            started: ago(self.start),
            ringing: self.ringing.map(ago),
            answered: self.answered.map(ago),
            call: self.call,
            inbound: self.inbound,
            context: self.context.clone(),
            route: self.route.clone(),
            from: self.from.clone(),
            from_number: self.from_number.clone(),
            from_name: self.from_name.clone(),
            from_shown: self.from_shown.clone(),
            user_agent: self.user_agent.clone(),
            dialled: self.dialled.clone(),
            number: self.number.clone(),
            tried: self.tried.clone(),
            answered_by: self.answered_by.clone(),
            caller_call_id: self.caller_call_id.clone(),
            callee_call_id: self.callee_call_id.clone(),
            callee_end: self.callee_end,
            caller_end: self.caller_end,
            formats: self.formats.clone(),
            media_problem: self.media_problem.clone(),
            remotes: self.remotes,
            offered: self.offered.clone(),
            digits_refused: self.digits_refused,
            nobody_there: self.nobody_there.as_ref().map(|(_, why)| why.clone()),
            unreadable: self.unreadable.clone(),
            tags: self.tags.clone(),
            transfers: self.transfers.clone(),
            interruptions: self
                .interruptions
                .iter()
                .map(|i| (ago(i.at), i.gap, i.node.clone()))
                .collect(),
        }
    }

    /// The record of a value. What was longer ago than `now` can tell began with this clock.
    pub(crate) fn restore(snapshot: CdrSnapshot, now: Instant) -> Cdr {
        let at = |ago: Duration| now.checked_sub(ago).unwrap_or(now);
        Cdr {
            start: at(snapshot.started),
            ringing: snapshot.ringing.map(at),
            answered: snapshot.answered.map(at),
            end: None,
            status: 0,
            code: Code::FINE,
            why: String::new(),
            by: None,
            caller_media: None,
            callee_media: None,
            verdict: None,
            call: snapshot.call,
            inbound: snapshot.inbound,
            context: snapshot.context,
            route: snapshot.route,
            from: snapshot.from,
            from_number: snapshot.from_number,
            from_name: snapshot.from_name,
            from_shown: snapshot.from_shown,
            user_agent: snapshot.user_agent,
            dialled: snapshot.dialled,
            number: snapshot.number,
            tried: snapshot.tried,
            answered_by: snapshot.answered_by,
            caller_call_id: snapshot.caller_call_id,
            callee_call_id: snapshot.callee_call_id,
            callee_end: snapshot.callee_end,
            caller_end: snapshot.caller_end,
            formats: snapshot.formats,
            media_problem: snapshot.media_problem,
            remotes: snapshot.remotes,
            offered: snapshot.offered,
            digits_refused: snapshot.digits_refused,
            nobody_there: snapshot.nobody_there.map(|why| (Code::NOT_REGISTERED, why)),
            unreadable: snapshot.unreadable,
            tags: snapshot.tags,
            transfers: snapshot.transfers,
            transfer_failed: None,
            interruptions: snapshot
                .interruptions
                .into_iter()
                .map(|(ago, gap, node)| Interruption { at: at(ago), gap, node })
                .collect(),
        }
    }
}
