//! What a node's shell does with calls, as the process does: values of what changed go to the
//! store, and calls of a lost node are made of what comes of it. And the addresses that move.

use crate::media::Indices;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use webtrunk::call::CallId;
use webtrunk::call::call_snapshot::{CallSnapshot, SettledOf};
use webtrunk::call::reach::Routing;
use webtrunk::call::relocation::PortsOf;
use webtrunk::cdr::NodeChange;
use webtrunk::cluster::store::Process;
use webtrunk::cluster::succession::TakenCalls;
use webtrunk::gateway::Input;
use webtrunk::gateway::restore::FoundCall;
use webtrunk::media::LegId;
use webtrunk::sdp::offer_answer::{Negotiated, Remote, Settled};
use webtrunk::worker::{Notice, WorkerCommand};

const MEDIA: &str = ".media";
/// Why there may be no record of a call that its node let go.
const NOT_KNOWN: &str = "the store has lost which calls were taken";

/// Which node has the address of which, as the network sees it.
#[derive(Clone, Default)]
pub(crate) struct Addresses(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

impl Addresses {
    pub(crate) fn of(node: usize) -> IpAddr {
        IpAddr::from([10, 9, 0, node as u8])
    }

    pub(crate) fn give(&self, of: usize, to: usize) {
        self.0.lock().expect("sound").insert(Addresses::of(of), to);
    }

    /// What a node knows of them.
    pub(crate) fn seen_by(&self, node: usize) -> Arc<dyn Routing> {
        Arc::new(Host { all: self.clone(), node })
    }

    pub(crate) fn held_by(&self, node: usize) -> Vec<usize> {
        let all = self.0.lock().expect("sound");
        let of = |ip: &IpAddr| (0..9).find(|n| Addresses::of(*n) == *ip);
        all.iter().filter(|(_, at)| **at == node).filter_map(|(ip, _)| of(ip)).collect()
    }
}

struct Host {
    all: Addresses,
    node: usize,
}

impl Routing for Host {
    fn towards(&self, _: IpAddr) -> Option<IpAddr> {
        None
    }

    fn is_own(&self, _: IpAddr) -> bool {
        false
    }

    fn has(&self, ip: IpAddr) -> bool {
        self.all.0.lock().expect("sound").get(&ip) == Some(&self.node)
    }

    fn candidates(&self) -> Vec<IpAddr> {
        Vec::new()
    }
}

/// Processes, by node and epoch.
type Heirs = BTreeSet<(usize, u64)>;

/// What the world knows of calls and their media.
#[derive(Default)]
pub(crate) struct Calls {
    /// As media was told, by session and end, newest last.
    told: BTreeMap<(u64, LegId), Settled>,
    /// Where each end is received: the node, and the port.
    ports: BTreeMap<(u64, LegId), (usize, u16)>,
    /// Who has which call, as gateways say.
    owners: BTreeMap<CallId, BTreeSet<usize>>,
    /// By which process each call was recorded.
    records: BTreeMap<CallId, Vec<(usize, u64)>>,
    /// How many calls were taken over, and by whom.
    pub(crate) taken: Vec<(usize, CallId)>,
    /// What was read last of a node that was gone, and by whom.
    last_read: Option<(usize, TakenCalls)>,
    /// Those that are over.
    over: BTreeSet<CallId>,
    /// Since when there was something to know of a call but that it lives where it began: that it
    /// is over, or whose it is.
    since: BTreeMap<CallId, Instant>,
    /// By which process each was ended; its record may wait there.
    ended: BTreeMap<CallId, BTreeSet<(usize, u64)>>,
    /// Processes that died.
    dead: BTreeSet<(usize, u64)>,
    /// Of each of those: the processes that know of it and live, if only asleep, and what it had.
    heirs: Vec<(Heirs, Vec<CallId>)>,
    had: BTreeMap<CallId, BTreeSet<usize>>,
    /// When the store lost something last.
    lost_at: Option<Instant>,
    /// Those that were taken over while the one that had ended them could tell nobody.
    blind: BTreeSet<CallId>,
    /// Those that began, and by whom the store was known to have them.
    began: BTreeSet<CallId>,
    stored: BTreeMap<CallId, BTreeSet<(usize, u64)>>,
    /// Those of which there may be no record, and why.
    excused: BTreeMap<CallId, &'static str>,
    /// The indices their media was sent with.
    pub(crate) indices: Indices,
    /// How many were taken over that were over, or ended after they were taken: nobody but a node
    /// that was cut off knew.
    pub(crate) taken_late: usize,
    /// How many were taken over by a node that could not read them, and so could only end them.
    pub(crate) unread: usize,
}

impl Calls {
    pub(crate) fn configured(&mut self, command: &WorkerCommand) {
        let WorkerCommand::Configure { session, end, settings } = command else { return };
        let negotiated = settings.negotiated.clone();
        let ice = match &negotiated.remote {
            Remote::Dtls { local_ice, .. } => Some(local_ice.clone()),
            Remote::Rtp { .. } => None,
        };
        let settled = Settled { negotiated: Some(negotiated), ice, ssrc: 1, cname: "c".into() };
        self.told.insert((*session, *end), settled);
    }

    /// An end is received at this port.
    pub(crate) fn received_at(&mut self, node: usize, end: (u64, LegId), port: u16) {
        self.ports.insert(end, (node, port));
    }

    /// Inner ends of joined calls, with the node that has each, and whether it and the inner end of
    /// another call send to one another there.
    pub(crate) fn inner_ends(&self) -> Vec<(usize, bool)> {
        let inner = |(end, settled): (&(u64, LegId), &Settled)| match &settled.negotiated {
            Some(Negotiated { remote: Remote::Rtp { rtp, .. }, .. }) => {
                (rtp.ip() == Ipv4Addr::LOCALHOST).then_some((*end, rtp.port()))
            }
            _ => None,
        };
        let inner: Vec<((u64, LegId), u16)> = self.told.iter().filter_map(inner).collect();
        let at = |end: &(u64, LegId)| self.ports[end];
        let meets = |end: &(u64, LegId), sends_to: u16| {
            let (node, own) = at(end);
            let other = |(there, back): &((u64, LegId), u16)| {
                at(there) == (node, sends_to) && *back == own && there.0 != end.0
            };
            (node, inner.iter().any(other))
        };
        inner.iter().map(|(end, sends_to)| meets(end, *sends_to)).collect()
    }

    /// One call is one record. A second one is nobody's fault where the store has lost something
    /// since there was something to know, and all who had written one are dead, or could not tell.
    pub(crate) fn recorded(&mut self, call: CallId, by: (usize, u64)) {
        let at = self.records.entry(call).or_default();
        let could_tell = at.iter().any(|before| !self.dead.contains(before));
        let could_tell = could_tell && !self.blind.contains(&call);
        at.push(by);
        let known =
            self.lost_at.is_none_or(|lost| self.since.get(&call).is_some_and(|s| lost < *s));
        let once = at.len() == 1 || !known && !could_tell;
        assert!(once, "one call is one record: {call} by {at:?}");
    }

    /// The store has lost something: it is not known any more what it has. What only it had is
    /// lost: calls that no living process has, or ended.
    pub(crate) fn store_lost(&mut self, now: Instant) {
        self.lost_at = Some(now);
        self.indices.store_lost(now);
        self.stored.clear();
        let lives = |id: &CallId| {
            let ended =
                self.ended.get(id).is_some_and(|by| by.iter().any(|p| !self.dead.contains(p)));
            ended || self.owners.get(id).is_some_and(|nodes| !nodes.is_empty())
        };
        let only_there: Vec<CallId> = self.began.iter().filter(|id| !lives(id)).copied().collect();
        only_there.into_iter().for_each(|id| self.excuse(id, "only the store had it, and lost it"));
    }

    /// A process learns that another has its calls: it lets go of those of these names, and of
    /// their records that waited. `None`: nobody knows any more which, and it lets go of all that
    /// it had told.
    pub(crate) fn lets_go(&mut self, by: (usize, u64), names: Option<&[String]>) {
        let theirs = |id: &CallId| names.is_none_or(|n| n.contains(&crate::shell::names(*id)[0]));
        let mut waited = Vec::new();
        for (id, ended) in self.ended.iter_mut().filter(|(id, _)| theirs(id)) {
            waited.extend(ended.remove(&by).then_some(*id));
        }
        if names.is_none() {
            waited.into_iter().for_each(|id| self.excuse(id, NOT_KNOWN));
        }
    }

    /// There may be no record of a call.
    fn excuse(&mut self, id: CallId, why: &'static str) {
        if !self.records.contains_key(&id) {
            self.excused.entry(id).or_insert(why);
        }
    }

    pub(crate) fn records(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn began(&mut self, id: CallId) {
        self.began.insert(id);
    }

    /// The store has these values of a process's calls.
    pub(crate) fn confirmed(&mut self, node: usize, process: u64, names: &[(String, u64)]) {
        for (name, _) in names.iter().filter(|(name, _)| !name.ends_with(MEDIA)) {
            let Ok(id) = u64::from_str_radix(name, 16) else { continue };
            self.stored.entry(CallId(id)).or_default().insert((node, process));
        }
    }

    /// Calls that began and of which there is no record, though nothing excuses that.
    pub(crate) fn without_record(&self) -> Vec<CallId> {
        let lost =
            |id: &&CallId| !self.records.contains_key(*id) && !self.excused.contains_key(*id);
        self.began.iter().filter(lost).copied().collect()
    }

    /// How many have no record for which there is a reason.
    pub(crate) fn excused(&self) -> usize {
        self.excused.keys().filter(|id| !self.records.contains_key(*id)).count()
    }

    /// A node is killed; it had claimed these calls, too. What only it had is lost with it: calls
    /// of which the store has nothing by it, and records that waited, for its disk is lost as well.
    /// `heirs` know that there was this process: once none of them is left, nobody looks for its
    /// calls.
    pub(crate) fn gone(
        &mut self,
        (node, process): (usize, u64),
        claimed: &[CallId],
        heirs: BTreeSet<(usize, u64)>,
    ) {
        // And those whose places it had taken.
        let all = (1..=process).map(|process| (node, process));
        all.clone().for_each(|process| self.indices.died(process));
        self.dead.extend(all.clone());
        let owned = self.owners.iter().filter(|(_, nodes)| nodes.contains(&node));
        let had: Vec<CallId> = owned.map(|(id, _)| *id).chain(claimed.iter().copied()).collect();
        self.heirs.push((heirs, had.clone()));
        for id in had {
            let stored = self.stored.get(&id).is_some_and(|by| by.contains(&(node, process)));
            if !stored {
                self.excuse(id, "its node died before the store had it");
            }
        }
        let ended = self.ended.iter().filter(|(_, by)| by.contains(&(node, process)));
        let waited: Vec<CallId> = ended.map(|(id, _)| *id).collect();
        waited.into_iter().for_each(|id| self.excuse(id, "its node died while its record waited"));
        self.owners.values_mut().for_each(|nodes| {
            nodes.remove(&node);
        });
        let mut nobodys = Vec::new();
        self.heirs.retain_mut(|(heirs, had)| {
            heirs.retain(|(of, number)| *of != node || *number > process);
            nobodys.extend(heirs.is_empty().then(|| had.clone()));
            !heirs.is_empty()
        });
        for id in nobodys.into_iter().flatten() {
            if self.owners.get(&id).is_none_or(BTreeSet::is_empty) {
                self.excuse(id, "all who knew of its node died before they looked");
            }
        }
    }

    /// Calls that several nodes have.
    pub(crate) fn shared(&self) -> Vec<CallId> {
        self.owners.iter().filter(|(_, nodes)| nodes.len() > 1).map(|(id, _)| *id).collect()
    }
}

/// What a call is called in the store, and its media.
pub(crate) fn names(id: CallId) -> [String; 2] {
    [format!("{:016x}", id.0), format!("{:016x}{MEDIA}", id.0)]
}

impl World {
    /// Tells the store what changed at a node.
    pub(crate) fn keep(&mut self, n: usize) {
        let now = self.now();
        let deposed = std::mem::take(&mut self.nodes[n].deposed_now);
        let lets_go = deposed && std::mem::take(&mut self.nodes[n].names_unknown);
        let by = (n, self.nodes[n].process);
        let form = self.nodes[n].form.to_be_bytes();
        let Some(gateway) = &mut self.nodes[n].gateway else { return };
        let confirmed = gateway.take_confirmed(now);
        self.calls.confirmed(n, self.nodes[n].process, &confirmed);
        self.keep_media(n, &confirmed);
        let Some(gateway) = &mut self.nodes[n].gateway else { return };
        let (mut gone, mut answered) = (Vec::new(), Vec::new());
        for (id, call) in gateway.changed_calls(now) {
            let [signalling, media] = names(id);
            let owners = self.calls.owners.entry(id).or_default();
            match call {
                Some(call) => {
                    owners.insert(n);
                    self.calls.had.entry(id).or_default().insert(n);
                    let bytes = postcard::to_stdvec(&call).expect("a value");
                    let bytes = [&form[..], &bytes].concat().into();
                    gateway.keep_in_store(now, &signalling, Some(bytes), Duration::ZERO);
                    if call.is_settled() {
                        answered.push(id);
                    }
                }
                None => {
                    owners.remove(&n);
                    // Who hangs up at a node that is cut off from everybody is heard after 10 s.
                    self.calls.taken_late += usize::from(!owners.is_empty() && !deposed);
                    if owners.is_empty() {
                        self.calls.over.insert(id);
                        if lets_go {
                            self.calls.excuse(id, NOT_KNOWN);
                        }
                    }
                    if !deposed {
                        self.calls.ended.entry(id).or_default().insert(by);
                    }
                    self.calls.since.entry(id).or_insert(now);
                    gone.push(id);
                    gateway.keep_in_store(now, &signalling, None, Duration::ZERO);
                    gateway.keep_in_store(now, &media, None, Duration::ZERO);
                }
            }
        }
        gone.into_iter().for_each(|id| self.tell(format!("n{n} has {id} no more")));
        answered.into_iter().for_each(|id| self.begin_media(n, id));
        self.keep_media(n, &[]);
        let (mut out, due) = (Vec::new(), self.nodes[n].kept_at != Some(now));
        self.nodes[n].kept_at = Some(now);
        if due && let Some(gateway) = &mut self.nodes[n].gateway {
            gateway.handle(now, Input::Tick, &mut out);
            out.into_iter().for_each(|output| self.perform(n, output));
        }
    }

    /// What a node read of one that was gone is read once more, as old as it is by now.
    pub(crate) fn read_again(&mut self, older: Duration) {
        let (n, mut taken) = self.calls.last_read.clone().expect("something was read");
        taken.values.iter_mut().for_each(|(_, age, _)| *age += older);
        self.take_up(n, taken);
    }

    /// A process goes on with what the one before it at its node gave it: its calls, whose calls it
    /// had taken, and what it was.
    pub(crate) fn go_on(
        &mut self,
        n: usize,
        calls: Vec<CallSnapshot>,
        (taken, former): (Vec<Process>, Vec<Process>),
    ) {
        let (now, process) = (self.now(), self.nodes[n].process);
        let mut out = Vec::new();
        let gateway = self.nodes[n].gateway.as_mut().expect("it was started");
        gateway.knows_taken(taken);
        gateway.follow(now, former, &calls.iter().map(CallSnapshot::id).collect::<Vec<_>>());
        let mut restored = Vec::new();
        for call in calls {
            let id = call.id();
            let told = self.calls.told.iter().filter(|((session, _), _)| *session == id.0);
            let known: BTreeMap<LegId, Settled> =
                told.map(|((_, end), settled)| (*end, settled.clone())).collect();
            let settled = |end| known.get(&end).cloned();
            let media = Ok(&settled as SettledOf<'_>);
            let found = FoundCall {
                call,
                age: Duration::ZERO,
                silent_since: now,
                media,
                from: None,
                ports: None,
            };
            gateway.restore(now, found, &mut out);
            restored.push(id);
        }
        out.into_iter().for_each(|output| self.perform(n, output));
        for id in restored {
            let notice = Notice::Restored { age: Duration::ZERO };
            self.push_to_node(n, process, Input::Media { session: id.0, notice });
        }
        self.keep(n);
    }

    /// A node goes on with calls of one that is gone.
    pub(crate) fn take_up(&mut self, n: usize, taken: TakenCalls) {
        let now = self.now();
        self.calls.last_read = Some((n, taken.clone()));
        let (lost, by) = (taken.of.node.clone(), format!("n{n}"));
        let media: BTreeMap<&str, (Duration, &[u8])> = taken
            .values
            .iter()
            .filter(|(name, ..)| name.ends_with(MEDIA))
            .map(|(name, age, value)| (name.as_str(), (*age, &value.bytes[..])))
            .collect();
        for (of, age, value) in &taken.values {
            if of.ends_with(MEDIA) {
                continue;
            }
            let (form, bytes) = value.bytes.split_first_chunk::<2>().expect("its form");
            let is_read = u16::from_be_bytes(*form) <= self.nodes[n].form;
            let call: CallSnapshot = postcard::from_bytes(bytes).expect("the value");
            let id = call.id();
            let known = self.nodes[n].gateway.as_ref().is_none_or(|g| g.has_newer(now, id, *age));
            if known {
                continue;
            }
            self.calls.taken.push((n, id));
            // It may end it at once, and is one that knows of it all the same.
            self.calls.had.entry(id).or_default().insert(n);
            self.calls.since.entry(id).or_insert(now);
            self.calls.taken_late += usize::from(self.calls.over.contains(&id));
            let knows = self.calls.records.get(&id).into_iter().flatten();
            if knows.clone().next().is_some() && knows.clone().all(|r| self.cannot_tell(r.0, n)) {
                self.calls.blind.insert(id);
            }
            self.tell(format!("n{n} takes {id} of {}", taken.of.mark()));
            let told = self.calls.told.iter().filter(|((session, _), _)| *session == id.0);
            let known: BTreeMap<LegId, Settled> =
                told.map(|((_, end), settled)| (*end, settled.clone())).collect();
            let settled = |end| known.get(&end).cloned();
            self.calls.unread += usize::from(!is_read);
            let record = media.get(names(id)[1].as_str());
            let record = record.filter(|_| is_read && call.is_settled());
            let goes_on = record.is_some_and(|r| self.resume_media(n, id, *r).is_some());
            let ends = known.keys().map(|end| {
                let kept = self.calls.ports.get(&(id.0, *end)).map(|(_, port)| *port);
                let port = if taken.here { kept.unwrap_or(0) } else { self.free_port() };
                (*end, port)
            });
            let ends: BTreeMap<LegId, u16> = ends.collect();
            let port = |end: LegId| ends.get(&end).copied();
            let found = FoundCall {
                call,
                age: *age,
                silent_since: taken.seen,
                media: if goes_on { Ok(&settled as SettledOf<'_>) } else { Err("lost".into()) },
                from: Some(NodeChange { lost: lost.clone(), by: by.clone() }),
                ports: (!taken.here).then_some(&port as PortsOf<'_>),
            };
            let (mut out, process) = (Vec::new(), self.nodes[n].process);
            if goes_on {
                // A worker ends what it had by that name.
                self.nodes[n].ends.retain(|(session, _)| *session != id.0);
                for (end, port) in &ends {
                    self.nodes[n].ends.insert((id.0, *end));
                    self.calls.received_at(n, (id.0, *end), *port);
                }
            }
            let Some(gateway) = &mut self.nodes[n].gateway else { return };
            gateway.restore(now, found, &mut out);
            out.into_iter().for_each(|output| self.perform(n, output));
            if goes_on {
                let notice = Notice::Restored { age: *age };
                let input = Input::Media { session: id.0, notice };
                self.push_to_node(n, process, input);
            }
        }
    }
}
