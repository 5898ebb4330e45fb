//! The flight recorder: what happened to each call, kept in memory while it runs and for a while
//! after.
//!
//! Always on, bounded in calls and in bytes. The text of all a call's messages is one piece of
//! memory: what a message was made of goes back to the allocator while it is warm, and a call that
//! is forgotten later gives back two pieces instead of hundreds that lie cold (kept by reference,
//! they made a call a quarter dearer). A message is made readable, and secrets in it are masked,
//! when somebody reads it.
//! Not here: counting packets (`media`), writing records (`journal`).

pub(crate) mod diagnosis;
pub mod draw;
pub mod ladder;
pub mod mask;
pub(crate) mod sdp_rules;

use crate::call::{CallId, CallTimer, Cdr};
pub(crate) use crate::config::RecorderLimits as Limits;
use crate::dialplan::Considered;
use crate::errors::Code;
use crate::event::Event;
use crate::ids::{CallKey, IdMap, before};
use crate::media::session::SessionEvent;
use crate::sip::message::Message;
use crate::sip::transaction::Hop;
use mask::start_line;
use smallvec::SmallVec;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

/// Entries a call begins with that are kept whatever follows; and how many follow at most.
const HEAD: usize = 64;
const TAIL: usize = 192;
/// Call-IDs that took the place of a leg's, and are known at a time.
const MAX_SUCCESSORS: usize = 8;
/// Entries of a usual call.
const USUAL: usize = 24;
/// Bytes of text a call begins with room for.
const USUAL_TEXT: usize = 12_288;

/// A part of a call's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextSpan {
    start: usize,
    length: usize,
}

/// What happened; [`CallTrace::text`] reads the pieces.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "what its type says")]
pub enum TraceEvent {
    /// A SIP message; `lane` is its peer, `sent`: by us. Its start line alone if messages are not
    /// to be kept (`whole`).
    Message {
        lane: usize,
        sent: bool,
        whole: bool,
        text: TextSpan,
    },
    /// Something the log says too.
    Said {
        code: Code,
        text: TextSpan,
    },
    Media(SessionEvent),
    /// A timer of the call ran out.
    Timer(CallTimer),
    /// The routes that were looked at when it was placed.
    Routed(Vec<Considered>),
}

impl TraceEvent {
    fn piece(&mut self) -> Option<&mut TextSpan> {
        match self {
            TraceEvent::Message { text, .. } | TraceEvent::Said { text, .. } => Some(text),
            TraceEvent::Media(_) | TraceEvent::Timer(_) | TraceEvent::Routed(_) => None,
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct TraceEntry {
    /// By the node's clock.
    pub at: Instant,
    /// A message, event or figure.
    pub what: TraceEvent,
}

/// Somebody a call exchanged messages with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Participant {
    /// Where messages go to and come from.
    pub hop: Hop,
    /// `browser alice` or a trunk's name.
    pub name: String,
}

/// One call.
#[derive(Clone, Debug)]
pub struct CallTrace {
    /// Its name everywhere.
    pub call: CallId,
    /// By the node's clock.
    pub started: Instant,
    /// As in the log: the caller and the number called.
    pub from: String,
    /// Who was called.
    pub to: String,
    /// In order of their first message.
    pub lanes: Vec<Participant>,
    /// The oldest first.
    pub entries: VecDeque<TraceEntry>,
    /// Entries omitted after the first ones.
    pub skipped: usize,
    /// Of a call that has ended.
    pub cdr: Option<Arc<Cdr>>,
    text: Vec<u8>,
    /// Bytes of it that belong to entries omitted.
    unused: usize,
    bytes: usize,
    /// The SIP Call-IDs of its legs, and the lane each is drawn in.
    names: SmallVec<[(Arc<str>, Option<usize>); 2]>,
    /// Those of them that took the place of others, the oldest first.
    successors: VecDeque<Arc<str>>,
}

impl CallTrace {
    fn new(call: CallId, now: Instant, from: &str, to: &str) -> CallTrace {
        CallTrace {
            call,
            started: now,
            from: from.to_owned(),
            to: to.to_owned(),
            lanes: Vec::new(),
            entries: VecDeque::with_capacity(USUAL),
            skipped: 0,
            cdr: None,
            text: Vec::with_capacity(USUAL_TEXT),
            unused: 0,
            bytes: 256,
            names: SmallVec::new(),
            successors: VecDeque::new(),
        }
    }

    fn add_lane(&mut self, hop: Hop, name: String) -> usize {
        // The same peer on a new connection stays where it was. The first lane is the caller's own:
        // a trunk that is called back has another.
        match self.lanes.iter().skip(1).position(|l| l.name == name).map(|at| at + 1) {
            Some(at) => {
                self.lanes[at].hop = hop;
                at
            }
            None => {
                self.lanes.push(Participant { hop, name });
                self.lanes.len() - 1
            }
        }
    }

    /// The text of an entry.
    pub(crate) fn text(&self, piece: TextSpan) -> &[u8] {
        self.text.get(piece.start..piece.start + piece.length).unwrap_or_default()
    }

    /// Takes down a text.
    fn write(&mut self, parts: &[&[u8]]) -> TextSpan {
        let start = self.text.len();
        parts.iter().for_each(|part| self.text.extend_from_slice(part));
        TextSpan { start, length: self.text.len() - start }
    }

    /// Adds an entry; returns by how many bytes the call has grown.
    fn push(&mut self, at: Instant, mut what: TraceEvent) -> isize {
        let before = self.bytes as isize;
        self.bytes += weight(&mut what);
        self.entries.push_back(TraceEntry { at, what });
        if self.entries.len() > HEAD + TAIL {
            self.skipped += 1;
            if let Some(mut entry) = self.entries.remove(HEAD) {
                self.bytes -= weight(&mut entry.what).min(self.bytes);
                self.unused += entry.what.piece().map_or(0, |p| p.length);
            }
            if self.unused > USUAL_TEXT && 2 * self.unused > self.text.len() {
                self.compact();
            }
        }
        self.bytes as isize - before
    }

    /// Writes the text anew without what was omitted.
    fn compact(&mut self) {
        let room = self.text.len() - self.unused + USUAL_TEXT;
        let old = std::mem::replace(&mut self.text, Vec::with_capacity(room));
        for piece in self.entries.iter_mut().filter_map(|e| e.what.piece()) {
            let start = self.text.len();
            self.text.extend_from_slice(&old[piece.start..piece.start + piece.length]);
            piece.start = start;
        }
        self.unused = 0;
    }
}

fn weight(what: &mut TraceEvent) -> usize {
    let more = match what {
        TraceEvent::Routed(all) => all
            .iter()
            .map(|c| {
                72 + c.route.len() + c.pattern.len() + c.why_not.as_ref().map_or(0, String::len)
            })
            .sum(),
        TraceEvent::Media(_) => 64,
        what => what.piece().map_or(0, |p| p.length),
    };
    size_of::<TraceEntry>() + more
}

/// All calls that are remembered.
#[derive(Default)]
pub struct Recorder {
    limits: Limits,
    flights: IdMap<CallId, CallTrace>,
    /// SIP Call-IDs of their legs.
    names: HashMap<Arc<str>, CallId, foldhash::fast::RandomState>,
    /// Those that have ended, the oldest first.
    ended: VecDeque<CallId>,
    /// All by number, and those that have ended by when they began: nobody who looks for one walks
    /// through all.
    by_id: BTreeSet<CallId>,
    by_start: BTreeSet<CallKey>,
    ended_by_start: BTreeSet<CallKey>,
    bytes: usize,
}

impl Recorder {
    /// An empty one.
    pub(crate) fn new(limits: Limits) -> Recorder {
        Recorder { limits, ..Recorder::default() }
    }

    /// Keeps to other limits from now on.
    pub(crate) fn limit(&mut self, limits: Limits) {
        self.limits = limits;
        self.shrink();
    }

    /// A call begins, or is refused; `sip_call_id` is that of its INVITE. Nothing is kept if no
    /// calls are to be kept.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        call: CallId,
        from: &str,
        to: &str,
        sip_call_id: &str,
    ) {
        if self.limits.calls == 0 {
            return;
        }
        self.flights.insert(call, CallTrace::new(call, now, from, to));
        self.by_id.insert(call);
        self.by_start.insert((now, call));
        self.name(call, sip_call_id);
    }

    /// A leg of `call` has this SIP Call-ID.
    pub(crate) fn name(&mut self, call: CallId, sip_call_id: &str) {
        let Some(flight) = self.flights.get_mut(&call) else { return };
        let name: Arc<str> = sip_call_id.into();
        if self.names.insert(name.clone(), call) != Some(call) {
            flight.names.push((name, None));
        }
    }

    /// The leg with the Call-ID `before` may have another one from now on, which is drawn where it
    /// was.
    pub(crate) fn succeed(&mut self, call: CallId, before: &str, sip_call_id: &str) {
        if self.call_of(sip_call_id).is_some() {
            return;
        }
        let lane = self.lane(call, before);
        let Some(flight) = self.flights.get_mut(&call) else { return };
        let name: Arc<str> = sip_call_id.into();
        self.names.insert(name.clone(), call);
        flight.names.push((name.clone(), lane));
        flight.successors.push_back(name);
        if flight.successors.len() > MAX_SUCCESSORS
            && let Some(gone) = flight.successors.pop_front()
        {
            flight.names.retain(|(name, _)| *name != gone);
            self.names.remove(&gone);
        }
    }

    /// The call a SIP Call-ID belongs to.
    pub(crate) fn call_of(&self, sip_call_id: &str) -> Option<CallId> {
        self.names.get(sip_call_id).copied()
    }

    /// The lane of a leg of `call`, by its SIP Call-ID, once it has exchanged messages. Two trunks
    /// at one address are two legs, so each has a lane of its own.
    pub(crate) fn lane(&self, call: CallId, sip_call_id: &str) -> Option<usize> {
        let names = &self.flights.get(&call)?.names;
        names.iter().find(|(name, _)| **name == *sip_call_id)?.1
    }

    /// Names the peer of that leg. Returns its lane, or `None` for a call that is not kept.
    pub(crate) fn add_lane(
        &mut self,
        call: CallId,
        sip_call_id: &str,
        hop: Hop,
        name: String,
    ) -> Option<usize> {
        let flight = self.flights.get_mut(&call)?;
        let lane = flight.add_lane(hop, name);
        if let Some(leg) = flight.names.iter_mut().find(|(name, _)| **name == *sip_call_id) {
            leg.1 = Some(lane);
        }
        Some(lane)
    }

    /// A message of `call` came in over `lane`.
    pub(crate) fn received(&mut self, now: Instant, call: CallId, lane: usize, message: &Message) {
        let whole = self.limits.messages;
        self.record(now, call, |flight| {
            let text = if whole {
                flight.write(&message.parts_of_wire())
            } else {
                flight.write(&[start_line(message).as_bytes()])
            };
            TraceEvent::Message { lane, sent: false, whole, text }
        });
    }

    /// A message of `call` went out over `lane`.
    pub(crate) fn sent(&mut self, now: Instant, call: CallId, lane: usize, bytes: &[u8]) {
        let whole = self.limits.messages;
        let kept =
            if whole { bytes } else { bytes.split(|b| *b == b'\r').next().unwrap_or_default() };
        self.record(now, call, |flight| TraceEvent::Message {
            lane,
            sent: true,
            whole,
            text: flight.write(&[kept]),
        });
    }

    /// A log line about `call`.
    pub(crate) fn record_event(&mut self, now: Instant, call: CallId, note: &Event) {
        self.record(now, call, |flight| {
            let start = flight.text.len();
            // A Vec takes all that is written to it.
            let _ = write!(flight.text, "{note}");
            TraceEvent::Said {
                code: note.code(),
                text: TextSpan { start, length: flight.text.len() - start },
            }
        });
    }

    /// Adds what has no text.
    pub(crate) fn add(&mut self, now: Instant, call: CallId, what: TraceEvent) {
        self.record(now, call, |_| what);
    }

    fn record(
        &mut self,
        now: Instant,
        call: CallId,
        what: impl FnOnce(&mut CallTrace) -> TraceEvent,
    ) {
        let Some(flight) = self.flights.get_mut(&call) else { return };
        let what = what(flight);
        let grown = flight.push(now, what);
        self.bytes = self.bytes.saturating_add_signed(grown);
        self.shrink();
    }

    /// The call is over, and this is its record.
    pub(crate) fn ended(&mut self, call: CallId, cdr: Arc<Cdr>) {
        let Some(flight) = self.flights.get_mut(&call) else { return };
        if flight.cdr.replace(cdr).is_none() {
            flight.text.shrink_to_fit();
            self.ended.push_back(call);
            self.ended_by_start.insert((flight.started, call));
        }
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.ended.len() > self.limits.calls
            || (self.bytes > self.limits.memory && !self.ended.is_empty())
        {
            if let Some(oldest) = self.ended.pop_front() {
                self.remove(oldest);
            }
        }
    }

    /// A call that has not ended is no call of this process any more.
    pub(crate) fn forget(&mut self, call: CallId) {
        if self.flights.get(&call).is_some_and(|flight| flight.cdr.is_none()) {
            self.remove(call);
        }
    }

    fn remove(&mut self, call: CallId) {
        let Some(flight) = self.flights.remove(&call) else { return };
        self.bytes = self.bytes.saturating_sub(flight.bytes);
        self.by_id.remove(&call);
        self.by_start.remove(&(flight.started, call));
        self.ended_by_start.remove(&(flight.started, call));
        for (name, _) in flight.names {
            self.names.remove(&name);
        }
    }

    /// A call by its number.
    pub fn get(&self, call: CallId) -> Option<&CallTrace> {
        self.flights.get(&call)
    }

    /// The call whose number, as shown, begins with `text`; the newest if several do. `last` is the
    /// newest of all that are kept.
    pub fn find(&self, text: &str) -> Option<&CallTrace> {
        if text == "last" {
            return self.flights.get(&self.by_start.last()?.1);
        }
        let known = self.by_id.range(CallId::beginning_with(text)?);
        known.filter_map(|id| self.flights.get(id)).max_by_key(|f| f.started)
    }

    /// The calls that have ended and began before `key`, or all of them, the newest first.
    pub(crate) fn ended_before(&self, key: Option<CallKey>) -> impl Iterator<Item = &CallTrace> {
        let older = self.ended_by_start.range(before(key)).rev();
        older.filter_map(|(_, id)| self.flights.get(id))
    }

    /// Calls kept, and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.flights.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn note(changes: String) -> Event {
        Event::Reloaded { changes }
    }

    fn cdr(call: CallId, now: Instant) -> Arc<Cdr> {
        let invite = "INVITE sip:1@x SIP/2.0\r\nCall-ID: c\r\n\r\n";
        let invite =
            Message::parse(invite.as_bytes().to_vec(), crate::sip::parse::Framing::WebSocket)
                .expect("sound");
        Arc::new(Cdr::new(call, now, crate::cdr::Party::Number("a".into()), &invite))
    }

    #[test]
    fn a_call_without_end_and_a_million_calls_take_bounded_memory() {
        let now = Instant::now();
        let mut recorder = Recorder::new(Limits { calls: 10, memory: 1 << 20, messages: true });
        let hop = Hop::Udp(SocketAddr::from(([192, 0, 2, 1], 5060)));
        let message = [b'x'; 1_000];
        for n in 0..10_000u64 {
            let call = CallId(n << 32);
            recorder.open(now, call, "alice", "+1", &format!("id-{n}"));
            let lane = recorder.add_lane(call, "id", hop, "t1".into()).expect("the call is kept");
            recorder.sent(now, call, lane, &message);
            recorder.ended(call, cdr(call, now));
        }
        assert_eq!(recorder.size().0, 10);
        assert_eq!(recorder.names.len(), 10);
        let call = CallId(77 << 32);
        recorder.open(now, call, "alice", "+1", "long");
        let lane = recorder.add_lane(call, "id", hop, "t1".into()).expect("the call is kept");
        (0..5_000).for_each(|_| recorder.sent(now, call, lane, &message));
        let flight = recorder.get(call).expect("a live call is never forgotten");
        assert_eq!((flight.entries.len(), flight.skipped), (HEAD + TAIL, 5_000 - HEAD - TAIL));
        assert!(recorder.size().1 < 600_000, "{:?}", recorder.size());
    }

    #[test]
    fn a_leg_that_is_taken_up_again_and_again_stays_in_its_lane_and_its_last_names_are_known() {
        let (now, call) = (Instant::now(), CallId(1));
        let mut recorder = Recorder::new(Limits { calls: 10, memory: 1 << 20, messages: true });
        let hop = Hop::Udp(SocketAddr::from(([192, 0, 2, 1], 5060)));
        recorder.open(now, call, "alice", "+1", "page-0");
        let lane = recorder.add_lane(call, "page-0", hop, "browser alice".into());
        for n in 1..1_000 {
            recorder.succeed(call, &format!("page-{}", n - 1), &format!("page-{n}"));
            assert_eq!(recorder.lane(call, &format!("page-{n}")), lane, "{n}");
        }
        assert_eq!(recorder.names.len(), 1 + MAX_SUCCESSORS);
        assert_eq!((recorder.call_of("page-0"), recorder.call_of("page-1")), (Some(call), None));
    }

    #[test]
    fn the_memory_limit_forgets_the_oldest_and_no_call_that_lives() {
        let now = Instant::now();
        let mut recorder = Recorder::new(Limits { calls: 1_000, memory: 100_000, messages: true });
        for n in 0..200u64 {
            let call = CallId(n << 32);
            recorder.open(now, call, "a", "b", &n.to_string());
            (0..10).for_each(|_| recorder.record_event(now, call, &note("y".repeat(500))));
            if n > 0 {
                recorder.ended(call, cdr(call, now));
            }
        }
        assert!(recorder.size().1 <= 110_000, "{:?}", recorder.size());
        assert!(
            recorder.get(CallId(0)).is_some()
                && recorder.get(CallId(1 << 32)).is_none()
                && recorder.get(CallId(199 << 32)).is_some()
        );
    }

    #[test]
    fn a_call_that_is_anothers_leaves_nothing_behind_and_may_come_back() {
        let (now, call) = (Instant::now(), CallId(7));
        let mut recorder = Recorder::new(Limits { calls: 10, memory: 1 << 20, messages: true });
        for _ in 0..3 {
            recorder.open(now, call, "a", "b", "id");
            recorder.record_event(now, call, &note("y".into()));
            recorder.forget(call);
            assert_eq!((recorder.size(), recorder.names.len()), ((0, 0), 0));
            assert!(recorder.by_id.is_empty() && recorder.by_start.is_empty());
        }
        recorder.open(now, call, "a", "b", "id");
        recorder.ended(call, cdr(call, now));
        recorder.forget(call);
        assert_eq!(recorder.size().0, 1, "what has ended here is remembered");
    }

    #[test]
    fn content_can_be_left_out() {
        let (now, call) = (Instant::now(), CallId(5 << 32));
        let mut recorder = Recorder::new(Limits { messages: false, ..Limits::default() });
        recorder.open(now, call, "a", "b", "id");
        let lane = recorder
            .add_lane(call, "id", Hop::Udp(SocketAddr::from(([192, 0, 2, 1], 5060))), "t1".into())
            .expect("the call is kept");
        recorder.sent(now, call, lane, b"BYE sip:x SIP/2.0\r\nSubject: secret\r\n\r\n");
        let flight = recorder.find("last").expect("it is there");
        let TraceEvent::Message { whole: false, text, .. } = flight.entries[0].what else {
            panic!("its first line only")
        };
        assert_eq!(flight.text(text), b"BYE sip:x SIP/2.0");
    }
}
