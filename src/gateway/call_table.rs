//! The calls of a node, and what leads to each: the INVITE that began it, by transaction and by
//! what it says, the user and trunks it counts for, and the flows and users of its legs.
//!
//! Invariants:
//! - A call is in the table from [`CallTable::insert`] to [`CallTable::remove`], and every index
//!   that leads to it is filled and emptied there.
//! - A call that is over counts for nobody's limit; it stays until its media has closed and no
//!   transaction of its can bring anything more.

use crate::call::leg::Leg;
use crate::call::services::Services;
use crate::call::{Call, CallId, CallPhase, Cdr};
use crate::cdr::Party;
use crate::ids::{CallKey, IdMap, before, looked_at};
use crate::sip::header::NameAddr;
use crate::sip::message::Message;
use crate::sip::transaction::{Flow, Hop, ServerId};
use crate::tally::Tally;
use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash};
use std::time::Instant;

/// A call, and how far its end has come.
pub(super) struct LiveCall {
    /// The call.
    pub(super) call: Call,
    /// Its worker has closed its media.
    pub(super) media_closed: bool,
    /// Its record has been written.
    pub(super) recorded: bool,
    /// Its handling panicked once.
    pub(super) lost: bool,
    /// Since when it is this process's.
    pub(super) since: Instant,
    /// The trunks whose calls it counts among.
    counted: Vec<String>,
    /// The user whose calls it counts among, and the visitors of its network if it is one.
    users: Vec<String>,
    /// Where its legs are filed, in their order.
    places: Vec<LegPlace>,
}

/// Where a leg is found: by the flow its messages go by, and by whose it is.
#[derive(PartialEq, Eq, Debug)]
struct LegPlace {
    flow: Option<Flow>,
    user: Option<String>,
}

impl LegPlace {
    fn flow_of(leg: &Leg) -> Option<Flow> {
        if let Hop::Flow(flow) = leg.hop { Some(flow) } else { None }
    }

    fn user_of(leg: &Leg) -> Option<&str> {
        if let Party::User { name, .. } = &leg.party { Some(name) } else { None }
    }

    fn is_of(&self, leg: &Leg) -> bool {
        self.flow == LegPlace::flow_of(leg) && self.user.as_deref() == LegPlace::user_of(leg)
    }

    fn of(leg: &Leg) -> LegPlace {
        LegPlace { flow: LegPlace::flow_of(leg), user: LegPlace::user_of(leg).map(str::to_owned) }
    }
}

/// The calls of a node.
#[derive(Default)]
pub(super) struct CallTable {
    /// Boxed, for they are large, and maps move what they hold.
    calls: IdMap<CallId, Box<LiveCall>>,
    /// Those without a record, by when they began.
    by_start: BTreeSet<CallKey>,
    by_transaction: IdMap<ServerId, CallId>,
    /// Initial INVITEs by Call-ID, From tag and CSeq (RFC 3261 §8.2.2.2).
    by_invite: HashMap<String, CallId>,
    /// Those with a leg on a flow, with a leg of a user, and that count among a trunk's.
    by_flow: IdMap<Flow, BTreeSet<CallId>>,
    by_party: HashMap<String, BTreeSet<CallId>>,
    by_trunk: HashMap<String, BTreeSet<CallId>>,
    /// Calls each user has.
    per_user: Tally<String>,
    /// Calls that are not over.
    live: usize,
    /// Calls that are over but not yet forgotten.
    ending: BTreeSet<CallId>,
    /// How many of them have their record written.
    recorded: usize,
    /// Calls something happened to in this turn.
    touched: Vec<CallId>,
    /// Flows that calls began or ceased to go by since they were last asked for.
    refiled: Vec<Flow>,
    /// Likewise since they were last asked for, if somebody keeps calls.
    changed: Option<BTreeSet<CallId>>,
}

impl CallTable {
    /// Takes a call in, which counts for `user` from now on.
    pub(super) fn insert(&mut self, call: Call, user: Option<String>) {
        self.live += 1;
        let crowd = call.caller().account.as_ref().and_then(|account| account.crowd());
        let users: Vec<String> = user.into_iter().chain(crowd).collect();
        users.iter().for_each(|user| self.per_user.add(user.clone()));
        let id = call.id();
        self.note_change(id);
        self.by_start.insert((call.cdr().start, id));
        let live = LiveCall {
            since: call.cdr().start,
            call,
            media_closed: false,
            recorded: false,
            lost: false,
            counted: Vec::new(),
            users,
            places: Vec::new(),
        };
        self.calls.insert(id, Box::new(live));
        self.file(id);
    }

    /// As [`insert`](Self::insert), and the INVITE that began the call leads to it.
    pub(super) fn insert_received(&mut self, call: Call, user: Option<String>) {
        let transaction = call.uas().transaction();
        transaction.and_then(|t| self.by_transaction.insert(t, call.id()));
        self.by_invite.insert(invite_key(call.uas().invite()), call.id());
        self.insert(call, user);
    }

    /// Returns the call of this number.
    pub(super) fn get(&self, id: CallId) -> Option<&Call> {
        self.calls.get(&id).map(|l| &l.call)
    }

    /// Since when a call is this process's, if it is.
    pub(super) fn since(&self, id: CallId) -> Option<Instant> {
        self.calls.get(&id).map(|live| live.since)
    }

    /// Returns the call of this number while it has no record yet.
    pub(super) fn unrecorded(&self, id: CallId) -> Option<&Call> {
        self.calls.get(&id).filter(|l| !l.recorded).map(|l| &l.call)
    }

    /// Returns the calls without a record that began before `key`, or all, the newest first.
    pub(super) fn unrecorded_before(&self, key: Option<CallKey>) -> impl Iterator<Item = &Call> {
        self.by_start.range(before(key)).rev().filter_map(|(_, id)| self.get(*id))
    }

    /// Returns when the oldest call without a record began.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.by_start.first().map(|(start, _)| *start)
    }

    /// Returns the calls that have no record yet.
    pub(super) fn all_unrecorded(&self) -> impl Iterator<Item = &Call> {
        self.calls.values().inspect(|_| looked_at()).filter(|l| !l.recorded).map(|l| &l.call)
    }

    /// Returns every call.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Call> {
        self.calls.values().inspect(|_| looked_at()).map(|l| &l.call)
    }

    /// Does something to every call that neither ends it nor is kept of it.
    pub(super) fn for_each_mut(&mut self, mut work: impl FnMut(&mut Call)) {
        self.calls.values_mut().for_each(|live| work(&mut live.call));
    }

    /// Returns a call to do something to, with how far its end has come: whether it has come to its
    /// end is looked at when the turn is over.
    pub(super) fn touch(&mut self, id: CallId) -> Option<&mut LiveCall> {
        if self.calls.contains_key(&id) {
            self.touched.push(id);
            self.note_change(id);
        }
        self.calls.get_mut(&id).map(|live| &mut **live)
    }

    fn note_change(&mut self, id: CallId) {
        if let Some(changed) = &mut self.changed {
            changed.insert(id);
        }
    }

    /// Notes which calls change from now on.
    pub(super) fn keep(&mut self) {
        self.changed.get_or_insert_default();
    }

    /// Whether this call has changed.
    pub(super) fn is_changed(&self, id: CallId) -> bool {
        self.changed.as_ref().is_some_and(|changed| changed.contains(&id))
    }

    /// Whether it is sure that this call has not changed.
    pub(super) fn is_known_unchanged(&self, id: CallId) -> bool {
        self.changed.as_ref().is_some_and(|changed| !changed.contains(&id))
    }

    /// What happened to this call changed nothing that is kept of it.
    pub(super) fn unchanged(&mut self, id: CallId) {
        if let Some(changed) = &mut self.changed {
            changed.remove(&id);
        }
    }

    /// Whether a call has changed.
    pub(super) fn has_changed(&self) -> bool {
        self.changed.as_ref().is_some_and(|changed| !changed.is_empty())
    }

    /// Takes the calls that have changed.
    pub(super) fn take_changed(&mut self) -> BTreeSet<CallId> {
        self.changed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Returns the call whose INVITE is this transaction.
    pub(super) fn of_transaction(&self, id: ServerId) -> Option<CallId> {
        self.by_transaction.get(&id).copied()
    }

    /// Whether this INVITE began a call that continues: it came by another path before.
    pub(super) fn is_handling(&self, invite: &Message) -> bool {
        self.begun_by(&invite_key(invite)).is_some()
    }

    /// Returns the call that continues of an [`invite_key`].
    pub(super) fn begun_by(&self, key: &str) -> Option<&Call> {
        let call = self.by_invite.get(key).and_then(|id| self.get(*id));
        call.filter(|call| call.state() != CallPhase::Over)
    }

    /// Returns the calls that count among a trunk's.
    pub(super) fn of_trunk(&self, trunk: &str) -> Vec<CallId> {
        let calls = self.by_trunk.get(trunk).into_iter().flatten();
        calls.inspect(|_| looked_at()).copied().collect()
    }

    /// Returns the calls with a leg on this flow.
    pub(super) fn on_flow(&self, flow: Flow) -> impl Iterator<Item = &Call> {
        let calls = self.by_flow.get(&flow).into_iter().flatten();
        calls.inspect(|_| looked_at()).filter_map(|id| self.get(*id))
    }

    /// Takes the flows that calls began or ceased to go by, and whether some do now.
    pub(super) fn take_refiled(&mut self) -> Vec<(Flow, bool)> {
        let mut flows = std::mem::take(&mut self.refiled);
        flows.sort_unstable();
        flows.dedup();
        flows.into_iter().map(|flow| (flow, self.by_flow.contains_key(&flow))).collect()
    }

    /// Returns the calls with a leg of this user.
    pub(super) fn with_user(&self, user: &str) -> impl Iterator<Item = &Call> {
        let calls = self.by_party.get(user).into_iter().flatten();
        calls.inspect(|_| looked_at()).filter_map(|id| self.get(*id))
    }

    /// Returns how many calls a user has.
    pub(super) fn of_user(&self, user: &str) -> usize {
        self.per_user.of(user)
    }

    /// Users with more than one call, at most so many.
    pub(super) fn busy(&self, most: usize) -> impl Iterator<Item = (&str, usize)> {
        let several = self.per_user.iter().filter(|(_, calls)| *calls > 1).take(most);
        several.map(|(user, calls)| (user.as_str(), calls))
    }

    /// Returns how many calls are not over.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Returns how many calls are without a record, and how many have one but are not forgotten.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.calls.len() - self.recorded, self.recorded)
    }

    /// Returns how many entries lead to calls, for tests that nothing is left.
    pub(super) fn indexed(&self) -> usize {
        self.by_invite.len()
            + self.by_transaction.len()
            + self.by_start.len()
            + self.by_flow.len()
            + self.by_party.len()
            + self.by_trunk.len()
            + self.per_user.len()
            + self.live
    }

    /// Keeps what leads to a call true, now that something has happened to it: where its legs are,
    /// and the number of calls per trunk, where legs that are trying or talking count.
    pub(super) fn recount(&mut self, id: CallId, services: &mut Services) {
        self.file(id);
        let Some(live) = self.calls.get_mut(&id) else { return };
        let now_on = live.call.trunks_in_use();
        if now_on == live.counted {
            return;
        }
        now_on.iter().for_each(|name| services.trunk_calls.add(name.clone()));
        let before = std::mem::replace(&mut live.counted, now_on);
        before.iter().for_each(|name| unfile(&mut self.by_trunk, name, id));
        for name in &live.counted {
            self.by_trunk.entry(name.clone()).or_default().insert(id);
        }
        before.iter().for_each(|name| services.trunk_calls.remove(name.as_str()));
    }

    /// Files a call under its legs as they are now; most often they are as they were.
    fn file(&mut self, id: CallId) {
        let Some(live) = self.calls.get_mut(&id) else { return };
        let mut filed = live.places.iter();
        let same = live.call.legs().all(|leg| filed.next().is_some_and(|place| place.is_of(leg)));
        if same && filed.next().is_none() {
            return;
        }
        let places = live.call.legs().map(LegPlace::of).collect();
        for place in std::mem::replace(&mut live.places, places) {
            self.refiled.extend(place.flow);
            place.flow.iter().for_each(|flow| unfile(&mut self.by_flow, flow, id));
            place.user.iter().for_each(|user| unfile(&mut self.by_party, user, id));
        }
        for place in &live.places {
            if let Some(flow) = place.flow {
                self.refiled.push(flow);
                self.by_flow.entry(flow).or_default().insert(id);
            }
            if let Some(user) = &place.user {
                self.by_party.entry(user.clone()).or_default().insert(id);
            }
        }
    }

    /// A call is over: it counts no longer against anyone's limit.
    pub(super) fn over(&mut self, id: CallId) {
        if self.ending.insert(id) {
            self.uncount(id);
        }
    }

    fn uncount(&mut self, id: CallId) {
        let Some(live) = self.calls.get_mut(&id) else { return };
        self.live -= 1;
        std::mem::take(&mut live.users).iter().for_each(|user| self.per_user.remove(user.as_str()));
    }

    /// Forgets the calls that can bring nothing more, and returns the records of those whose end
    /// this turn saw.
    pub(super) fn sweep(&mut self, services: &mut Services) -> Vec<Cdr> {
        let mut ended = Vec::new();
        // Only what something happened to can have come to its end: thousands may be waiting for
        // theirs.
        for id in std::mem::take(&mut self.touched) {
            let Some(live) =
                self.calls.get_mut(&id).filter(|l| l.media_closed && self.ending.contains(&id))
            else {
                continue;
            };
            let (first, done) = (!std::mem::replace(&mut live.recorded, true), live.call.is_done());
            self.recorded += usize::from(first);
            self.by_start.remove(&(live.call.cdr().start, id));
            // Most calls are forgotten in the same moment; a record is only copied if one is not.
            let cdr = if done {
                self.remove(id, services).map(|l| l.call.into_cdr())
            } else {
                first.then(|| live.call.cdr().clone())
            };
            ended.extend(cdr.filter(|_| first));
        }
        ended
    }

    /// Removes a call and all that leads to it.
    pub(super) fn remove(&mut self, id: CallId, services: &mut Services) -> Option<Box<LiveCall>> {
        if !self.ending.remove(&id) {
            self.uncount(id);
        }
        let live = self.calls.remove(&id)?;
        self.by_start.remove(&(live.call.cdr().start, id));
        self.recorded -= usize::from(live.recorded);
        live.call.uas().transaction().map(|t| self.by_transaction.remove(&t));
        self.by_invite.remove(&invite_key(live.call.uas().invite()));
        for name in live.call.names() {
            services.dialogs.remove(name);
            services.own_call_ids.remove(name);
        }
        live.call.timers().into_iter().for_each(|t| services.timers.clear(&(id, t)));
        for place in &live.places {
            self.refiled.extend(place.flow);
            place.flow.iter().for_each(|flow| unfile(&mut self.by_flow, flow, id));
            place.user.iter().for_each(|user| unfile(&mut self.by_party, user, id));
        }
        live.counted.iter().for_each(|name| unfile(&mut self.by_trunk, name, id));
        live.counted.iter().for_each(|name| services.trunk_calls.remove(name.as_str()));
        Some(live)
    }
}

/// Takes a call out of an index.
fn unfile<K, Q, S>(index: &mut HashMap<K, BTreeSet<CallId>, S>, key: &Q, id: CallId)
where
    K: Hash + Eq + Borrow<Q>,
    Q: Hash + Eq + ?Sized,
    S: BuildHasher,
{
    let Some(calls) = index.get_mut(key) else { return };
    calls.remove(&id);
    if calls.is_empty() {
        index.remove(key);
    }
}

/// What makes an INVITE the same request by another path: Call-ID, From tag, CSeq.
pub(super) fn invite_key(message: &Message) -> String {
    let from = message.from();
    let tag = from.as_ref().and_then(NameAddr::tag).unwrap_or_default();
    [message.call_id(), " ", tag, " ", &message.cseq().map_or(0, |c| c.number).to_string()].concat()
}
