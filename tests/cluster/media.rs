//! Media as far as its indices go: which node sends which under a call's keys, and from which
//! record another goes on. What is reserved is the process's own reckoning; the packets are
//! counted.

use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use webtrunk::call::CallId;
use webtrunk::rtp::reserve::{LEASE, Reserve};
use webtrunk::rtp::underway::{PutRecord, RecordsUnderway};

/// Between two packets.
const PACKET: Duration = Duration::from_millis(20);
/// Between two records where nothing changes.
const INTERVAL: Duration = Duration::from_secs(10);

/// The stream of a call at a node.
pub(crate) struct Stream {
    reserve: Reserve,
    next: u64,
    /// The last packet was due then.
    at: Instant,
    /// Of the last record, and when the next is due.
    number: u64,
    due: Instant,
    /// Records the store was told of, and the newest number that it has.
    underway: RecordsUnderway,
    stored: u64,
    /// Packets were sent, and those that a record has held back since.
    began: bool,
    held: u64,
}

impl Stream {
    fn new(reserve: Reserve, next: u64, at: Instant, number: u64) -> Stream {
        let (underway, stored) = (RecordsUnderway::default(), 0);
        let (began, held) = (false, 0);
        Stream { reserve, next, at, number, due: at, underway, stored, began, held }
    }
}

/// Indices that were used under a call's keys, without a break, and by whom.
struct Used {
    from: u64,
    to: u64,
    by: (usize, u64),
    /// When it began.
    since: Instant,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Indices {
    used: BTreeMap<CallId, Vec<Used>>,
    /// Processes that died.
    dead: BTreeSet<(usize, u64)>,
    /// When the store lost something last.
    lost: Option<Instant>,
    /// Indices that were used twice: by one that took a call and died, and by another after the
    /// store had lost that it was taken. Nobody could know.
    pub(crate) repeated: u64,
    /// Any may be: something is shown that goes wrong.
    pub(crate) may_repeat: bool,
}

impl Indices {
    fn sent(&mut self, call: CallId, index: u64, by: (usize, u64), now: Instant) {
        let all = self.used.entry(call).or_default();
        let twice = all.iter().find(|used| (used.from..used.to).contains(&index));
        if let Some(before) = twice {
            let forgotten = self.lost.is_some_and(|lost| lost >= before.since)
                && self.dead.contains(&before.by);
            let may = forgotten || self.may_repeat;
            assert!(may, "index {index} of {call} was sent by {:?} and {by:?}", before.by);
            self.repeated += 1;
            return;
        }
        match all.iter_mut().find(|used| used.by == by && used.to == index) {
            Some(used) => used.to += 1,
            None => all.push(Used { from: index, to: index + 1, by, since: now }),
        }
    }

    pub(crate) fn died(&mut self, process: (usize, u64)) {
        self.dead.insert(process);
    }

    pub(crate) fn store_lost(&mut self, now: Instant) {
        self.lost = Some(now);
    }

    /// Calls in which more than one process sent.
    pub(crate) fn gone_on_with(&self) -> usize {
        let several = |used: &&Vec<Used>| used.iter().any(|u| u.by != used[0].by);
        self.used.values().filter(several).count()
    }
}

/// A record of a stream, as another node finds it: its number, and the first index that is theirs.
type Found = (u64, u64);

impl World {
    /// A node sends what was due by now.
    pub(crate) fn send_media(&mut self, n: usize) {
        let (now, by) = (self.now(), (n, self.nodes[n].process));
        let node = &mut self.nodes[n];
        for (call, stream) in &mut node.streams {
            while stream.at + PACKET <= now {
                stream.at += PACKET;
                stream.reserve.expire(node.vouched.map_or(stream.at, |until| until.min(stream.at)));
                if stream.reserve.allows(stream.next) {
                    self.calls.indices.sent(*call, stream.next, by, stream.at);
                    stream.reserve.used(stream.next);
                    stream.next += 1;
                    stream.began = true;
                } else if stream.began {
                    stream.held += 1;
                }
            }
        }
    }

    /// Something changes in every stream of a node that a successor must know.
    pub(crate) fn change_media(&mut self, n: usize) {
        let now = self.now();
        self.nodes[n].streams.values_mut().for_each(|stream| stream.due = now);
    }

    /// Packets that nodes did not send for the sake of an index, after they had sent some.
    pub(crate) fn held_back(&self) -> u64 {
        let streams = self.nodes.iter().flat_map(|node| node.streams.values());
        streams.map(|stream| stream.held).sum()
    }

    /// A node's next process goes on with its media, and tells the store of it under its own name.
    pub(crate) fn records_begin_anew(&mut self, n: usize) {
        let now = self.now();
        for stream in self.nodes[n].streams.values_mut() {
            (stream.underway, stream.stored) = (RecordsUnderway::default(), 0);
            stream.due = now;
        }
    }

    /// The media of a node stood still: what was due meanwhile is not sent.
    pub(crate) fn overslept(&mut self, n: usize) {
        let now = self.now();
        self.nodes[n].streams.values_mut().for_each(|stream| stream.at = now);
    }

    /// A call was answered at a node: it has media from now on.
    pub(crate) fn begin_media(&mut self, n: usize, call: CallId) {
        let now = self.now();
        let new = || Stream::new(Reserve::default(), 1, now, 0);
        self.nodes[n].streams.entry(call).or_insert_with(new);
    }

    /// A node goes on with media from what it found. `None`: it is too old.
    pub(crate) fn resume_media(
        &mut self,
        n: usize,
        call: CallId,
        (age, record): (Duration, &[u8]),
    ) -> Option<()> {
        let (number, until): Found = postcard::from_bytes(record).expect("the value");
        let now = self.now();
        let taken = now.checked_sub(age).filter(|_| age < LEASE)?;
        let stream = Stream::new(Reserve::resume(number, taken, until), until, now, number);
        self.nodes[n].streams.insert(call, stream);
        Some(())
    }

    /// Tells the store of new records, and streams of what it confirmed.
    pub(crate) fn keep_media(&mut self, n: usize, confirmed: &[(String, u64)]) {
        let now = self.now();
        let node = &mut self.nodes[n];
        let Some(gateway) = &mut node.gateway else { return };
        for (call, stream) in &mut node.streams {
            let [_, name] = crate::shell::names(*call);
            for (_, written) in confirmed.iter().filter(|(confirmed, _)| *confirmed == name) {
                stream.stored = stream.stored.max(*written);
            }
            if let Some(number) = stream.underway.confirmed(None, stream.stored) {
                stream.reserve.confirm(number);
                stream.underway.forget(number);
            }
            if now < stream.due && !stream.reserve.is_low() {
                continue;
            }
            stream.due = now + INTERVAL;
            stream.number += 1;
            let until = stream.reserve.record(now, stream.number, stream.next);
            let record: Found = (stream.number, until);
            let bytes = postcard::to_stdvec(&record).expect("a value").into();
            let stored = gateway.keep_in_store(now, &name, Some(bytes), Duration::ZERO);
            stream.underway.put(PutRecord { number: stream.number, disk: None, stored });
        }
    }
}
