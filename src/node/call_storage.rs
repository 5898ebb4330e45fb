//! Live calls on disk: what changed is put into its checkpoint, and an earlier process's calls are
//! taken up again at the start. Nothing waits for the disk.
//!
//! In a cluster the same values go to the store too, for the node that continues if this one is
//! lost.
//!
//! A call has two checkpoints: its signalling, and its media, which is good for as long as what it
//! reserves lasts. Between its end and the writing of its record, the first holds the record.

use super::checkpoint::{
    CallCheckpoint, MEDIA, age, bound_trunk, encoded, ended, live, media, of_store, read,
    read_trunk, stored_call, stored_names, to_store,
};
use super::farewells;
use crate::boot;
use crate::call::CallId;
use crate::call::call_snapshot::CallSnapshot;
use crate::cdr::Cdr;
use crate::cluster::store::{CALLS, LEASE as HELD};
use crate::cluster::succession::TakenCalls;
use crate::config::{ClusterSettings, Config};
use crate::errors::Code;
use crate::gateway::Gateway;
use crate::handover::HandedCalls;
use crate::ids::IdMap;
use crate::journal::{Journal, WallClock, to_json};
use crate::media::Clocks;
use crate::rtp::reserve::LEASE;
use crate::rtp::underway::{PutRecord, RecordsUnderway};
use crate::state::State;
use crate::state::checkpoints::{CheckpointEntry, Checkpoints, Record, Slot, TRUNK};
use crate::store::{self, TakenCallNames};
use crate::worker::{MediaSnapshot, Notice, QueueFull, Worker, WorkerCommand};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Between two times that changes are put: what changes again meanwhile is put once.
const PAUSE: Duration = Duration::from_millis(50);
/// After which a worker that was too far behind gets a command again.
const AGAIN: Duration = Duration::from_millis(10);
/// How long a call's signalling is worth something: as long as its peers may know of it.
const SIGNALLING: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the start waits for a worker to take all of its calls.
const TAKING: Duration = Duration::from_secs(1);
/// A call's checkpoints.
struct Slots {
    signalling: Slot,
    media: Slot,
    worker: usize,
    /// Its media is asked for.
    journalled: bool,
    /// Its media snapshots of which it is not known whether a successor would find them.
    unconfirmed: RecordsUnderway,
    /// The number of the newest value of its media that the cluster's store has.
    stored: u64,
}

impl Slots {
    fn of(checkpoints: &Checkpoints, id: CallId, worker: usize) -> Slots {
        Slots {
            signalling: checkpoints.slot(&id.to_string()),
            media: checkpoints.slot(&format!("{id}{MEDIA}")),
            worker,
            journalled: false,
            unconfirmed: RecordsUnderway::default(),
            stored: 0,
        }
    }
}

fn put_trunks(checkpoints: &Checkpoints, gateway: &mut Gateway, now: Instant) {
    for (name, bound) in gateway.changed_trunks(now) {
        let slot = checkpoints.slot(&format!("{TRUNK}{name}"));
        match bound {
            Some(bound) => {
                slot.put(bound_trunk((boot::uptime(), unix()), &bound), bound.left());
                checkpoints.hurry();
            }
            None => slot.remove(),
        }
    }
}

fn remove_stored(gateway: &mut Gateway, id: CallId) {
    for name in stored_names(id) {
        gateway.keep_in_store(Instant::now(), &name, None, Duration::ZERO);
    }
}

/// The checkpoints of all calls.
pub(super) struct KeptCalls {
    calls: IdMap<CallId, Slots>,
    /// There is a disk.
    on_disk: bool,
    /// Those with media on its way to the disk.
    unconfirmed: Vec<CallId>,
    put: Instant,
    /// Batches that were on disk when workers last learned of them.
    reported: u64,
    /// When one that was too far behind gets the command again.
    again: Option<Instant>,
    /// A call was answered, which is put at once.
    answered: bool,
    /// Since when there are goodbyes to be put.
    goodbyes: Option<Instant>,
}

/// What an earlier process left of one call.
#[derive(Default)]
struct Left {
    signalling: Option<Record>,
    media: Option<Record>,
}

/// How long the core waits for its workers to continue with the media of calls that were taken
/// over.
const MEDIA_FIRST: Duration = Duration::from_millis(200);

/// A call that is taken up, and its media as far as its worker has taken it.
pub(super) type TakenUp = (Duration, CallSnapshot, Result<Arc<MediaSnapshot>, String>);

/// Time since 1970.
pub(super) fn unix() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl KeptCalls {
    /// None yet.
    pub(super) fn new(on_disk: bool) -> KeptCalls {
        let (calls, unconfirmed) = (IdMap::default(), Vec::new());
        let put = Instant::now();
        let (reported, again, answered, goodbyes) = (0, None, false, None);
        KeptCalls { calls, on_disk, unconfirmed, put, reported, again, answered, goodbyes }
    }

    /// A call was answered: what it is is put in this turn.
    pub(super) fn note_answered(&mut self) {
        self.answered = true;
    }

    /// When [`put`](Self::put) has something to do next.
    pub(super) fn due(&self, gateway: &Gateway) -> Option<Instant> {
        let changes = gateway.has_changed_calls().then_some(self.put + PAUSE);
        let goodbyes = self.goodbyes.map(|since| since + PAUSE);
        changes.into_iter().chain(goodbyes).chain(self.again).min()
    }

    /// Puts what changed into its checkpoints, and tells workers what is on disk.
    pub(super) fn put(
        &mut self,
        checkpoints: &Checkpoints,
        gateway: &mut Gateway,
        workers: &[Worker],
    ) {
        let now = Instant::now();
        put_trunks(checkpoints, gateway, now);
        // Nearly all are answered before they are put.
        let (waits, urgent) = (gateway.has_changed_farewells(), gateway.has_urgent_farewells());
        self.goodbyes = waits.then(|| self.goodbyes.unwrap_or(now));
        if self.goodbyes.take_if(|since| urgent || now >= *since + PAUSE).is_some() {
            farewells::put(checkpoints, gateway);
        }
        if gateway.has_changed_calls() && (self.answered || now >= self.put + PAUSE) {
            (self.put, self.answered) = (now, false);
            for (id, call) in gateway.changed_calls(now) {
                match call {
                    Some(call) => self.put_call((checkpoints, gateway), id, call, workers),
                    // One that is over has its record, or will; one that was lost has none.
                    None if !gateway.knows_call(id) => self.forget(gateway, id),
                    None => {}
                }
            }
        }
        // Nothing is sent before the disk has what was put, in a call that was taken up.
        let (batches, again) = (checkpoints.batches(), self.again.is_some_and(|at| now >= at));
        let stored = self.note_stored(gateway.take_confirmed(now));
        let nothing_left = checkpoints.is_nothing_left();
        if again || stored || batches != self.reported || nothing_left {
            (self.reported, self.again) = (batches, None);
            self.confirm(now, workers, nothing_left);
        }
    }

    /// This process says nothing more: what waits to be put, besides calls, is put at once.
    pub(super) fn put_last(&mut self, checkpoints: &Checkpoints, gateway: &mut Gateway) {
        put_trunks(checkpoints, gateway, Instant::now());
        self.goodbyes = None;
        farewells::put(checkpoints, gateway);
    }

    /// The cluster's store has these values. Whether one is of media that waits.
    fn note_stored(&mut self, confirmed: Vec<(String, u64)>) -> bool {
        let mut any = false;
        for (name, number) in confirmed {
            let Some((id, true)) = stored_call(&name) else { continue };
            if let Some(slots) = self.calls.get_mut(&id) {
                slots.stored = slots.stored.max(number);
                any |= !slots.unconfirmed.is_empty();
            }
        }
        any
    }

    fn put_call(
        &mut self,
        (checkpoints, gateway): (&Checkpoints, &mut Gateway),
        id: CallId,
        call: CallSnapshot,
        workers: &[Worker],
    ) {
        let (worker, settled) = (call.worker(), call.is_settled());
        let slots = self.calls.entry(id).or_insert_with(|| Slots::of(checkpoints, id, worker));
        let bytes = live((boot::uptime(), unix()), &call);
        let [name, _] = stored_names(id);
        gateway.keep_in_store(Instant::now(), &name, Some(to_store(&bytes)), Duration::ZERO);
        slots.signalling.put(bytes, SIGNALLING);
        if settled && !std::mem::replace(&mut slots.journalled, true) {
            // A worker that is too far behind is asked again with the next change.
            let asked =
                workers.get(worker).map(|w| w.command(WorkerCommand::Journal { session: id.0 }));
            slots.journalled = matches!(asked, Some(Ok(_)));
            checkpoints.hurry();
        }
    }

    /// Puts a call's media; one that has ended meanwhile has none.
    pub(super) fn put_media(
        &mut self,
        (checkpoints, gateway): (&Checkpoints, &mut Gateway),
        id: CallId,
        media: &MediaSnapshot,
    ) {
        let Some(slots) = self.calls.get_mut(&id) else { return };
        let bytes = encoded(media);
        let [_, name] = stored_names(id);
        let age = boot::uptime().saturating_sub(media.session.taken.uptime);
        let stored = gateway.keep_in_store(Instant::now(), &name, Some(to_store(&bytes)), age);
        let put = slots.media.put(bytes, LEASE);
        if put == 1 {
            checkpoints.hurry();
        }
        if slots.unconfirmed.is_empty() {
            self.unconfirmed.push(id);
        }
        let (number, disk) = (media.session.number, self.on_disk.then_some(put));
        slots.unconfirmed.put(PutRecord { number, disk, stored });
    }

    /// Tells workers which snapshots a next process would find, or newer ones, or none.
    fn confirm(&mut self, now: Instant, workers: &[Worker], nothing_left: bool) {
        let (calls, again) = (&mut self.calls, &mut self.again);
        self.unconfirmed.retain(|id| {
            let Some(slots) = calls.get_mut(id) else { return false };
            let written = (!nothing_left).then(|| slots.media.written());
            let Some(number) = slots.unconfirmed.confirmed(written, slots.stored) else {
                return !slots.unconfirmed.is_empty();
            };
            let command = WorkerCommand::Confirm { session: id.0, number };
            let reported = workers.get(slots.worker).map(|worker| worker.command(command));
            if matches!(reported, Some(Err(_))) {
                again.get_or_insert(now + AGAIN);
                return true;
            }
            slots.unconfirmed.forget(number);
            !slots.unconfirmed.is_empty()
        });
    }

    /// A call has ended with this record. Returns the checkpoint that holds it until it is written.
    pub(super) fn ended(
        &mut self,
        gateway: &mut Gateway,
        cdr: &Cdr,
        clock: &WallClock,
    ) -> Option<Slot> {
        let Slots { signalling, media, .. } = self.calls.remove(&cdr.call)?;
        remove_stored(gateway, cdr.call);
        let record = to_json(cdr, clock).to_string();
        signalling.put(ended(record), SIGNALLING);
        media.remove();
        Some(signalling)
    }

    /// There is no such call any more, and no record of it.
    pub(super) fn forget(&mut self, gateway: &mut Gateway, id: CallId) {
        if let Some(slots) = self.calls.remove(&id) {
            remove_stored(gateway, id);
            slots.signalling.remove();
            slots.media.remove();
        }
    }

    /// Takes up the calls an earlier process left: their media first, so that it is silent for as
    /// short as can be. Returns them for the core.
    pub(super) fn take_up(
        &mut self,
        checkpoints: &Checkpoints,
        found: Vec<CheckpointEntry>,
        workers: &[Worker],
        journal: Option<&Journal>,
    ) -> Vec<TakenUp> {
        let mut calls: BTreeMap<String, Left> = BTreeMap::new();
        for CheckpointEntry { name, record } in found {
            match name.strip_suffix(MEDIA) {
                Some(call) => calls.entry(call.to_owned()).or_default().media = Some(record),
                None => calls.entry(name).or_default().signalling = Some(record),
            }
        }
        let (mut taken_up, mut unreadable) = (Vec::new(), 0);
        for (name, left) in calls {
            let slots = || (checkpoints.slot(&name), checkpoints.slot(&format!("{name}{MEDIA}")));
            match left.signalling.and_then(read) {
                Some(CallCheckpoint::Foreign { taken, call }) => {
                    let (id, worker) = (call.id(), call.worker());
                    let slots = Slots::of(checkpoints, id, worker);
                    self.calls.insert(id, slots);
                    taken_up.push((age(taken), *call, Err("another version kept it".to_owned())));
                }
                Some(CallCheckpoint::Live { taken, call }) => {
                    let age = age(taken);
                    let (id, worker) = (call.id(), call.worker());
                    let media = media(left.media, call.is_settled());
                    let media = media.and_then(|m| give(workers, worker, id, m));
                    let slots = Slots::of(checkpoints, id, worker);
                    let journalled = media.is_ok();
                    self.calls.insert(id, Slots { journalled, ..slots });
                    taken_up.push((age, *call, media));
                }
                Some(CallCheckpoint::Ended { record }) => {
                    let (signalling, media) = slots();
                    media.remove();
                    match journal {
                        Some(journal) => journal.record_again(name, record, signalling),
                        None => signalling.remove(),
                    }
                }
                None => {
                    unreadable += 1;
                    let (signalling, media) = slots();
                    signalling.remove();
                    media.remove();
                }
            }
        }
        if unreadable > 0 {
            tracing::warn!(
                code = %Code::RESTARTED,
                "{unreadable} call(s) of before the restart cannot be read, and are lost"
            );
        }
        workers.iter().for_each(Worker::wake);
        taken_up
    }

    /// Trunks that were registered with an earlier process still are. Returns how many.
    pub(super) fn restore_trunks(
        &self,
        (checkpoints, gateway): (&Checkpoints, &mut Gateway),
        found: Vec<CheckpointEntry>,
    ) -> usize {
        let now = Instant::now();
        let stays = |CheckpointEntry { name, record }: CheckpointEntry| {
            let trunk = name.strip_prefix(TRUNK).zip(read_trunk(record));
            let stays = trunk.is_some_and(|(trunk, kept)| gateway.restore_trunk(now, trunk, kept));
            if !stays {
                checkpoints.slot(&name).remove();
            }
            stays
        };
        found.into_iter().map(stays).filter(|stays| *stays).count()
    }

    /// Takes up calls of a node that is gone, as far as the store had them: their media first.
    pub(super) fn take_lost(
        &mut self,
        (checkpoints, gateway): (&Checkpoints, &Gateway),
        taken: TakenCalls,
        workers: &[Worker],
    ) -> Vec<TakenUp> {
        let now = Instant::now();
        let mut media: HashMap<CallId, (Duration, Arc<[u8]>)> = HashMap::new();
        let mut calls = Vec::new();
        for (name, age, value) in taken.values {
            match stored_call(&name) {
                Some((id, true)) => drop(media.insert(id, (age, value.bytes))),
                Some((id, false)) if !gateway.has_newer(now, id, age) => {
                    calls.push((id, age, value.bytes));
                }
                _ => {}
            }
        }
        let mut taken_up = Vec::new();
        for (id, age, bytes) in calls {
            let (call, ours) = match of_store(&bytes).and_then(read) {
                Some(CallCheckpoint::Live { call, .. }) => (call, true),
                Some(CallCheckpoint::Foreign { call, .. }) => (call, false),
                Some(CallCheckpoint::Ended { .. }) | None => continue,
            };
            let worker = call.worker();
            let (age_of_media, bytes) = media.remove(&id).unzip();
            let found = bytes.and_then(|bytes| of_store(&bytes));
            let media = if ours {
                self::media(found, call.is_settled())
                    .and_then(|media| moved_here(media, age_of_media.unwrap_or_default()))
                    .and_then(|mut media| {
                        if !taken.here {
                            relocate(workers, worker, &mut media)?;
                        }
                        give(workers, worker, id, media)
                    })
            } else {
                Err("another version kept it".to_owned())
            };
            let slots = Slots::of(checkpoints, id, worker);
            self.calls.insert(id, Slots { journalled: media.is_ok(), ..slots });
            taken_up.push((age, *call, media));
        }
        workers.iter().for_each(Worker::wake);
        taken_up
    }

    /// Goes on with the checkpoints of a process whose place was taken: of the calls it gave, and
    /// of records that wait to be written.
    pub(super) fn take_over(
        &mut self,
        checkpoints: &Checkpoints,
        found: Vec<CheckpointEntry>,
        given: &[TakenUp],
        journal: Option<&Journal>,
    ) {
        for (_, call, media) in given {
            let slots = Slots::of(checkpoints, call.id(), call.worker());
            self.calls.insert(call.id(), Slots { journalled: media.is_ok(), ..slots });
        }
        let given: HashSet<String> = given.iter().map(|(_, c, _)| c.id().to_string()).collect();
        for CheckpointEntry { name, record } in found {
            if given.contains(name.strip_suffix(MEDIA).unwrap_or(&name)) {
                continue;
            }
            let slot = checkpoints.slot(&name);
            match (read(record), journal) {
                (Some(CallCheckpoint::Ended { record }), Some(journal)) => {
                    journal.record_again(name, record, slot);
                }
                // A call that it ended.
                _ => slot.remove(),
            }
        }
    }
}

/// Leaves calls of an earlier process to the nodes that took them over while there was none,
/// without a word and without a record.
pub(super) async fn leave_taken(config: &Config, state: &mut State) {
    let Some(settings) = &config.cluster else { return };
    // The calls are in the store by the name that the node had then.
    let before = state.rename_node(&settings.node);
    if state.found.is_empty() {
        return;
    }
    let node = before.unwrap_or_else(|| settings.node.clone());
    let settings = ClusterSettings { node, ..settings.clone() };
    let died = state.checkpoints.died();
    let asked = store::taken_of_earlier(&settings, &config.domain, state.last_process()).await;
    let found = std::mem::take(&mut state.found);
    let (kept, left) = match asked {
        Ok(taken) => found.into_iter().partition(|entry| !is_taken(entry, &taken, died)),
        // Within its lease nobody could.
        Err(_) if died.is_some_and(|ago| ago < HELD) => (found, Vec::new()),
        Err(e) => {
            tracing::warn!(
                code = %Code::STORE_AWAY,
                "calls from before the restart end: the store cannot say whether another node has \
                 taken them over: {e:#}"
            );
            // Nothing is sent under keys that another may be using.
            found.into_iter().partition(|entry| !entry.name.ends_with(MEDIA))
        }
    };
    left.iter().for_each(|entry| state.checkpoints.slot(&entry.name).remove());
    state.found = kept;
}

/// Whether another node has the call of a checkpoint. What has ended is this node's to record.
fn is_taken(entry: &CheckpointEntry, taken: &TakenCallNames, died: Option<Duration>) -> bool {
    let call = entry.name.strip_suffix(MEDIA).unwrap_or(&entry.name);
    let named = taken.names.iter().any(|name| name.starts_with(call));
    // Names are known for as long as a node that has just died has calls there.
    let all = taken.all && died.is_none_or(|ago| ago >= CALLS);
    let is_over = || matches!(read(entry.record.clone()), Some(CallCheckpoint::Ended { .. }));
    (named || all) && (entry.name.ends_with(MEDIA) || !is_over())
}

/// Has the workers, which are held, take up the media of calls that are taken over.
pub(super) fn resume(
    taken: HandedCalls,
    streams: Vec<TcpStream>,
    workers: &[Worker],
) -> Vec<TakenUp> {
    let age = boot::uptime().saturating_sub(taken.taken);
    let mut sessions: HashMap<u64, MediaSnapshot> = taken.media.into_iter().collect();
    let resumed = taken.calls.into_iter().map(|call| {
        let (id, worker) = (call.id(), call.worker());
        let media = sessions.remove(&id.0).filter(|_| call.is_settled());
        let none = || "it was not yet answered, or was on its way to somebody else".to_owned();
        let media = media.ok_or_else(none).and_then(|media| give(workers, worker, id, media));
        (age, call, media)
    });
    let resumed = resumed.collect();
    // After their sessions, which know what comes.
    for (stream, socket) in taken.streams.into_iter().zip(streams) {
        if let Some(worker) = workers.get(usize::from(stream.worker)) {
            worker.adopt(socket, stream);
        }
    }
    workers.iter().for_each(Worker::wake);
    resumed
}

/// Lets the workers continue with what they took up, at once.
pub(super) fn let_go(workers: &[Worker]) {
    workers.iter().for_each(Worker::thaw);
    // Media first: the core needs the processors for as long again.
    let done: Vec<_> = workers.iter().map(Worker::done).collect();
    for done in done {
        let _ = done.recv_timeout(MEDIA_FIRST);
    }
}

/// The media of a call of another machine, as if it had been taken `age` ago on this one.
fn moved_here(mut media: MediaSnapshot, age: Duration) -> Result<MediaSnapshot, String> {
    let taken = boot::uptime().checked_sub(age).ok_or("this machine was started since")?;
    media.session.taken = Clocks { boot: boot::id(), uptime: taken };
    Ok(media)
}

/// Has the media of a call received at addresses of this node.
fn relocate(workers: &[Worker], worker: usize, media: &mut MediaSnapshot) -> Result<(), String> {
    let worker = workers.get(worker);
    let worker = worker.ok_or("this node has fewer media workers")?;
    worker.relocate(media).map_err(|why| why.to_string())
}

/// Has the worker continue with the media of a call.
fn give(
    workers: &[Worker],
    worker: usize,
    id: CallId,
    media: MediaSnapshot,
) -> Result<Arc<MediaSnapshot>, String> {
    let Some(worker) = workers.get(worker) else {
        return Err("there are fewer media workers now".to_owned());
    };
    let began = Instant::now();
    loop {
        match worker.restore(id.0, media.clone(), true) {
            Ok(None) => return Ok(Arc::new(media)),
            Ok(Some(Notice::NotRestored(why))) => return Err(why.to_string()),
            Ok(Some(_)) => return Err("its media cannot be had".to_owned()),
            Err(QueueFull) if began.elapsed() < TAKING => {
                worker.wake();
                std::thread::yield_now();
            }
            Err(QueueFull) => return Err("the media worker does not keep up".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_another_node_took_are_left_to_it_and_records_that_wait_are_not() {
        let entry = |name: &str, record| CheckpointEntry { name: name.into(), record };
        let live = |name: &str| entry(name, Record::Fresh(b"a call".to_vec()));
        let over = entry("aaaaaaaa", Record::Fresh(ended("{}".into())));
        let named = TakenCallNames { names: vec!["aaaaaaaa00000001.media".into()], all: false };
        let soon = Some(Duration::from_secs(4));
        assert!(is_taken(&live("aaaaaaaa"), &named, soon));
        assert!(is_taken(&live("aaaaaaaa.media"), &named, soon));
        assert!(!is_taken(&live("bbbbbbbb"), &named, soon), "it was never written to the store");
        assert!(!is_taken(&over, &named, soon), "its record is this node's to write");
        let all = TakenCallNames { names: Vec::new(), all: true };
        assert!(
            !is_taken(&live("bbbbbbbb"), &all, soon),
            "what was taken was of an earlier process"
        );
        assert!(is_taken(&live("bbbbbbbb"), &all, Some(CALLS)));
    }
}
