//! Calls that outlive the process: their values, for whoever keeps them, and calls from values.

use super::{Gateway, Turn};
use crate::call::call_snapshot::{CallSnapshot, Resumption, SettledOf};
use crate::call::{Call, CallId, Output};
use crate::cdr::Party;
use std::time::{Duration, Instant};

/// A call of an earlier process.
pub struct FoundCall<'a> {
    /// Its signalling.
    pub call: CallSnapshot,
    /// How long ago the value was taken.
    pub age: Duration,
    /// Since when nobody had its media.
    pub silent_since: Instant,
    /// Its media, if its worker goes on with it; else why it cannot.
    pub media: Result<SettledOf<'a>, String>,
}

impl Gateway {
    /// Has [`changed_calls`](Self::changed_calls) tell of calls from now on.
    pub fn keep_calls(&mut self) {
        self.calls.keep();
    }

    /// Whether [`changed_calls`](Self::changed_calls) has something to tell.
    pub(crate) fn has_changed_calls(&self) -> bool {
        self.calls.has_changed()
    }

    /// Whether there is such a call.
    pub(crate) fn knows_call(&self, id: CallId) -> bool {
        self.calls.get(id).is_some()
    }

    /// Returns the calls that changed since the last time, as values; `None` for one that is over.
    pub fn changed_calls(&mut self, now: Instant) -> Vec<(CallId, Option<CallSnapshot>)> {
        let changed = self.calls.take_changed();
        let timers = &self.services.timers;
        let value = |id: CallId| {
            let left = |timer| timers.left(&(id, timer), now);
            let call = self.calls.get(id).and_then(|call| call.snapshot(&self.config, now, left));
            (id, call)
        };
        changed.into_iter().map(value).collect()
    }

    /// Takes a call of an earlier process up again, or ends it for everybody in it.
    pub fn restore(&mut self, now: Instant, found: FoundCall<'_>, out: &mut Vec<Output>) {
        let turn = &mut Turn::new(now, out);
        let (id, before) = (found.call.id(), turn.out.len());
        let settled = found.call.is_settled();
        let with = Resumption {
            age: found.age,
            silent_since: found.silent_since,
            media: found.media.as_ref().ok().copied(),
        };
        let mut cx = self.context(turn);
        let Some(call) = Call::restore(&mut cx, found.call, &with) else { return };
        self.remember(&call);
        let user = match &call.cdr().from {
            Party::User { name, .. } => Some(name.clone()),
            Party::Trunk(_) | Party::Number(_) | Party::Internal(_) => None,
        };
        self.calls.insert_received(call, user);
        self.with_call(turn, id, |call, cx| match found.media {
            Ok(_) if settled => {}
            Ok(_) => call.cut_off(cx, "it was not yet answered, or was being handed over"),
            Err(why) => call.cut_off(cx, &why),
        });
        self.follow_up(turn);
        self.sweep(turn.out);
        self.take_down(now, None, &turn.out[before.min(turn.out.len())..]);
    }

    /// The recorder knows it by its parties' Call-IDs.
    fn remember(&mut self, call: &Call) {
        let cdr = call.cdr();
        let from = cdr.from.to_string();
        self.recorder.open(cdr.start, call.id(), &from, &cdr.dialled, &cdr.a_call_id);
        cdr.b_call_id.iter().for_each(|name| self.recorder.name(call.id(), name));
    }
}
