//! Goodbyes that browsers have still to get: of a call that ended while its browser was away, or
//! whose BYE went by a connection that was dead. Each is paid when its browser is back.
//!
//! What holds of them:
//! - A browser owes nobody anything: one that stays away is forgotten after 64*T1.
//! - One that was answered is never said again, and none is said twice by one connection.
//! - They outlive the process: to the page its call goes on until it hears otherwise.

use crate::ids::IdMap;
use crate::sip::dialog::{Dialog, DialogSnapshot};
use crate::sip::message::Message;
use crate::sip::status::Reason;
use crate::sip::transaction::{ClientId, Hop};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Most that are owed at once; beyond it the oldest is forgotten.
const MAX_OWED: usize = 20_000;

/// Whose a leg was: a browser of this account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct LegOwner {
    /// The user.
    pub(crate) user: String,
    /// Its `+sip.instance`, if it has one; else it is known by its Contact.
    pub(crate) instance: Option<String>,
    /// The dialplan and the number of its account, which several people of one name may not share.
    pub(crate) place: Option<(String, Option<String>)>,
}

/// A BYE that a browser has still to get.
#[derive(Clone, Debug)]
pub(crate) struct OwedGoodbye {
    /// Who gets it.
    pub(crate) to: LegOwner,
    /// The dialog it ends.
    pub(crate) dialog: Dialog,
    /// Why.
    pub(crate) why: Reason,
}

/// A BYE that a browser has still to get, as a value that outlives the process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OwedSnapshot {
    to: LegOwner,
    dialog: DialogSnapshot,
    /// The status, the Q.850 cause and the text of the reason.
    why: (u16, Option<u8>, String),
    /// How long it is still owed.
    pub(crate) left: Duration,
}

impl OwedSnapshot {
    /// It, and how long it is still owed, `age` later; `None` if it is not any more. Its dialog has
    /// no number that was used before.
    pub(crate) fn restore(self, age: Duration) -> Option<(OwedGoodbye, Duration)> {
        /// More requests than were made in the dialog since the value was taken.
        const UNKNOWN: u32 = 100;
        let left = self.left.checked_sub(age).filter(|left| !left.is_zero())?;
        let mut dialog = Dialog::restore(self.dialog, None);
        dialog.local_cseq += UNKNOWN;
        let (cause, q850, text) = self.why;
        let why = Reason::new(cause, text).q850(q850);
        Some((OwedGoodbye { to: self.to, dialog, why }, left))
    }
}

struct Entry {
    owed: OwedGoodbye,
    until: Instant,
    /// It was said, and may be answered: its request, and where that went.
    said: Option<(ClientId, Hop)>,
    /// Its value was asked for.
    taken: bool,
}

impl Entry {
    fn was_said_by(&self, hop: Hop) -> bool {
        self.said.is_some_and(|(_, by)| by == hop)
    }
}

/// All that are owed, by our tag.
#[derive(Default)]
pub(crate) struct OwedGoodbyes {
    /// Somebody asks for them.
    kept: bool,
    entries: HashMap<String, Entry>,
    ends: BTreeSet<(Instant, String)>,
    by_user: BTreeSet<(String, String)>,
    by_client: IdMap<ClientId, String>,
    /// Those whose value nobody has asked for.
    fresh: BTreeSet<String>,
    /// Tags of those whose value was asked for, and is not needed any more.
    gone: Vec<String>,
}

impl OwedGoodbyes {
    /// Somebody asks for them from now on.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }

    /// A browser has to get this by then. `said`: it was sent just now, and may be answered.
    pub(crate) fn owe(&mut self, owed: OwedGoodbye, until: Instant, said: Option<(ClientId, Hop)>) {
        let tag = owed.dialog.id.local_tag.clone();
        let taken = self.take_out(&tag).is_some_and(|before| before.taken);
        if self.entries.len() >= MAX_OWED
            && let Some((_, oldest)) = self.ends.first().cloned()
        {
            self.forget(&oldest);
        }
        self.ends.insert((until, tag.clone()));
        self.by_user.insert((owed.to.user.clone(), tag.clone()));
        said.iter().for_each(|(client, _)| drop(self.by_client.insert(*client, tag.clone())));
        if self.kept {
            self.fresh.insert(tag.clone());
        }
        self.entries.insert(tag, Entry { owed, until, said, taken });
    }

    /// The next process finds its value already.
    pub(crate) fn note_taken(&mut self, tag: &str) {
        self.fresh.remove(tag);
        self.entries.get_mut(tag).into_iter().for_each(|entry| entry.taken = true);
    }

    /// The one that ends the dialog a message names.
    pub(crate) fn named_by(&self, message: &Message) -> Option<&OwedGoodbye> {
        let to = message.to()?;
        let owed = &self.entries.get(to.tag()?)?.owed;
        owed.dialog.matches(message).then_some(owed)
    }

    /// Whether one ends a dialog with this tag of ours.
    pub(crate) fn has(&self, tag: &str) -> bool {
        self.entries.contains_key(tag)
    }

    /// What this user is owed, but what was just said by this hop.
    pub(crate) fn of_user(&self, user: &str, hop: Hop) -> Vec<OwedGoodbye> {
        let tags = self.by_user.range((user.to_owned(), String::new())..);
        let tags = tags.take_while(|(of, _)| of == user).map(|(_, tag)| tag);
        let entries = tags.filter_map(|tag| self.entries.get(tag));
        let open = entries.filter(|entry| !entry.was_said_by(hop));
        open.map(|entry| entry.owed.clone()).collect()
    }

    /// Whether the one with this tag of ours was just said by this hop.
    pub(crate) fn was_said_by(&self, tag: &str, hop: Hop) -> bool {
        self.entries.get(tag).is_some_and(|entry| entry.was_said_by(hop))
    }

    /// It was said in `dialog`.
    pub(crate) fn said(&mut self, dialog: &Dialog, client: ClientId, hop: Hop) {
        let tag = &dialog.id.local_tag;
        let Some(entry) = self.entries.get_mut(tag) else { return };
        if let Some((before, _)) = entry.said.replace((client, hop)) {
            self.by_client.remove(&before);
        }
        entry.owed.dialog.local_cseq = dialog.local_cseq;
        self.by_client.insert(client, tag.clone());
    }

    /// A request of ours was answered: if it was one of these, its browser knows.
    pub(crate) fn answered(&mut self, client: ClientId) {
        if let Some(tag) = self.by_client.get(&client).cloned() {
            self.forget(&tag);
        }
    }

    /// A request of ours gets no answer any more. Returns the user who is owed it all the same.
    pub(crate) fn unanswered(&mut self, now: Instant, client: ClientId) -> Option<String> {
        let tag = self.by_client.remove(&client)?;
        let entry = self.entries.get_mut(&tag)?;
        entry.said = None;
        (now < entry.until).then(|| entry.owed.to.user.clone())
    }

    /// It is not owed any more.
    pub(crate) fn forget(&mut self, tag: &str) {
        if self.take_out(tag).is_some_and(|entry| entry.taken) {
            self.gone.push(tag.to_owned());
        }
    }

    fn take_out(&mut self, tag: &str) -> Option<Entry> {
        let entry = self.entries.remove(tag)?;
        self.ends.remove(&(entry.until, tag.to_owned()));
        self.by_user.remove(&(entry.owed.to.user.clone(), tag.to_owned()));
        entry.said.iter().for_each(|(client, _)| drop(self.by_client.remove(client)));
        self.fresh.remove(tag);
        Some(entry)
    }

    /// Forgets those whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((_, tag)) = self.ends.first().filter(|(until, _)| *until <= now).cloned() {
            self.forget(&tag);
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// Whether [`take_changed`](Self::take_changed) has something to tell.
    pub(crate) fn has_changed(&self) -> bool {
        !self.fresh.is_empty() || !self.gone.is_empty()
    }

    /// Whether it tells of one that nobody is about to answer.
    pub(crate) fn is_urgent(&self) -> bool {
        let waits = |tag: &String| self.entries.get(tag).is_some_and(|e| e.said.is_none());
        self.fresh.iter().any(waits)
    }

    /// The tags of those that changed since the last time, and their values, if they are owed.
    pub(crate) fn take_changed(&mut self, now: Instant) -> Vec<(String, Option<OwedSnapshot>)> {
        let mut changed: Vec<_> =
            std::mem::take(&mut self.gone).into_iter().map(|tag| (tag, None)).collect();
        for tag in std::mem::take(&mut self.fresh) {
            let Some(entry) = self.entries.get_mut(&tag) else { continue };
            entry.taken = true;
            let Reason { cause, q850, text } = entry.owed.why.clone();
            let value = OwedSnapshot {
                to: entry.owed.to.clone(),
                dialog: entry.owed.dialog.snapshot(),
                why: (cause, q850, text),
                left: entry.until.saturating_duration_since(now),
            };
            changed.push((tag, Some(value)));
        }
        changed
    }

    /// How many are owed.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{hop, request};
    use super::*;

    fn owed(tag: &str) -> OwedGoodbye {
        let dialog = Dialog::uas(&request("INVITE", 7, ""), tag, hop(), 5).expect("a dialog");
        let to = LegOwner { user: "alice".into(), instance: None, place: None };
        OwedGoodbye { to, dialog, why: Reason::new(200, "over") }
    }

    #[test]
    fn what_is_answered_before_anybody_asks_is_never_told() {
        let (now, mut all) = (Instant::now(), OwedGoodbyes::default());
        let until = now + Duration::from_secs(32);
        all.owe(owed("a"), until, None);
        assert!(!all.has_changed(), "nobody asks");
        all.keep();
        all.owe(owed("b"), until, Some((ClientId(1), hop())));
        assert!(all.has_changed() && !all.is_urgent(), "it is about to be answered");
        all.answered(ClientId(1));
        assert!(!all.has_changed() && all.len() == 1);
        all.owe(owed("c"), until, Some((ClientId(2), hop())));
        assert_eq!(all.unanswered(now, ClientId(2)), Some("alice".into()));
        assert!(all.is_urgent());
        let told = all.take_changed(now);
        let left = told[0].1.as_ref().map(|value| value.left);
        assert_eq!((told.len(), &*told[0].0, left), (1, "c", Some(Duration::from_secs(32))));
        all.expire(until);
        assert_eq!((all.take_changed(until).len(), all.len()), (1, 0), "the one that was told");
        assert!(all.ends.is_empty() && all.by_user.is_empty() && all.by_client.is_empty());
    }

    #[test]
    fn the_oldest_makes_room() {
        let (now, mut all) = (Instant::now(), OwedGoodbyes::default());
        for n in 0..=MAX_OWED as u64 {
            all.owe(owed(&n.to_string()), now + Duration::from_millis(n), None);
        }
        assert_eq!((all.len(), all.has("0"), all.has("1")), (MAX_OWED, false, true));
    }

    #[test]
    fn what_is_left_of_its_time_decides_whether_a_value_counts() {
        let (now, mut all) = (Instant::now(), OwedGoodbyes::default());
        all.keep();
        all.owe(owed("a"), now + Duration::from_secs(32), None);
        let value = all.take_changed(now).remove(0).1.expect("a value");
        let (again, left) = value.clone().restore(Duration::from_secs(30)).expect("it counts");
        assert_eq!((left, again.why), (Duration::from_secs(2), Reason::new(200, "over")));
        assert!(again.dialog.local_cseq > 5, "no number is used twice");
        assert!(value.restore(Duration::from_secs(32)).is_none());
    }
}
