//! What the store is asked for outside calls: where those are whom a text goes to, and what those
//! have at other nodes who watch their own registration.
//!
//! A text waits as long as a call does. Watchers are looked after now and then: what happens at
//! another node, its end included, reaches them within [`LOOK`] and a sixth.

use super::texts::SoughtText;
use super::{Gateway, Turn};
use crate::call::context::Seeker;
use crate::call::{Output, Question};
use crate::cluster::LOCATE;
use crate::cluster::store::LocatedUsers;
use crate::registrar::Way;
use crate::timers::Timers;
use rand_core::RngCore;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How often it is looked after what a watched user has at other nodes.
const LOOK: Duration = Duration::from_secs(30);
/// Questions that are open at once; what comes beyond them is answered as if the store were away.
const MAX_OPEN: usize = 1_000;

/// What waits for an answer.
enum Sought {
    Text(Box<SoughtText>),
    Watchers(String),
}

/// The questions that are open, and what watchers last received.
#[derive(Default)]
pub(super) struct LocationQueries {
    open: HashMap<u32, Sought>,
    timers: Timers<u32>,
    next: u32,
    /// Watched users who are asked for now: once, however often somebody begins to watch.
    asked: HashSet<String>,
    /// By watched user, its phones at other nodes as last found.
    phones: HashMap<String, Vec<Way>>,
    looks: Timers<String>,
}

impl LocationQueries {
    /// Returns how many questions are open and users looked after.
    pub(super) fn len(&self) -> usize {
        self.open.len() + self.phones.len() + self.looks.len()
    }

    fn is_full(&self) -> bool {
        self.open.len() >= MAX_OPEN
    }

    /// The earliest deadline.
    pub(super) fn next_timeout(&mut self) -> Option<std::time::Instant> {
        self.timers.next_timeout().into_iter().chain(self.looks.next_timeout()).min()
    }

    /// A watched user's phones at other nodes.
    pub(super) fn phones(&self, user: &str) -> &[Way] {
        self.phones.get(user).map_or(&[], Vec::as_slice)
    }

    /// Nobody watches the user any more.
    pub(super) fn forget(&mut self, user: &str) {
        self.phones.remove(user);
        self.looks.clear(&user.to_owned());
    }
}

impl Gateway {
    /// Returns why the store cannot be asked where users are, or `None` if it can.
    pub(super) fn cannot_locate(&self, turn: &Turn<'_>) -> Option<String> {
        let cluster = self.services.cluster.as_ref()?;
        let full = || "too many questions wait for the store".to_owned();
        let full = self.location_queries.is_full().then(full);
        cluster.cannot_ask(turn.now).or(full)
    }

    /// A text continues once it is known where `users` are, or that it is not.
    pub(super) fn seek_for_text(
        &mut self,
        turn: &mut Turn<'_>,
        text: SoughtText,
        users: Vec<String>,
    ) {
        self.seek(turn, Sought::Text(Box::new(text)), users);
    }

    fn seek(&mut self, turn: &mut Turn<'_>, waiting: Sought, users: Vec<String>) {
        let elsewhere = &mut self.location_queries;
        elsewhere.next = elsewhere.next.wrapping_add(1);
        let (ask, limit, seeker) = (elsewhere.next, LOCATE, Seeker::OutOfDialog);
        elsewhere.open.insert(ask, waiting);
        elsewhere.timers.set(ask, turn.now + LOCATE);
        turn.push(Output::Ask(Question::Locate { seeker, ask, users, limit }));
    }

    /// The store answered question `ask`, or cannot; an unexpected answer is ignored.
    pub(super) fn found_out_of_dialog(
        &mut self,
        turn: &mut Turn<'_>,
        ask: u32,
        found: &LocatedUsers,
    ) {
        let Some(waiting) = self.location_queries.open.remove(&ask) else { return };
        self.location_queries.timers.clear(&ask);
        match waiting {
            Sought::Text(text) => self.text_found(turn, *text, found),
            Sought::Watchers(user) => {
                self.location_queries.asked.remove(&user);
                self.watched_found(turn, &user, found)
            }
        }
    }

    /// Gives questions up that were not answered in time, and looks after who is watched.
    pub(super) fn location_queries_due(&mut self, turn: &mut Turn<'_>) {
        while let Some(ask) = self.location_queries.timers.pop(turn.now) {
            let why = format!("the store did not answer within {} ms", LOCATE.as_millis());
            self.found_out_of_dialog(turn, ask, &Err(why));
        }
        while let Some(user) = self.location_queries.looks.pop(turn.now) {
            self.look_after(turn, &user);
        }
    }

    /// Asks what a watched user has at other nodes, and will again.
    pub(super) fn look_after(&mut self, turn: &mut Turn<'_>, user: &str) {
        if self.services.cluster.is_none() {
            return;
        }
        // Those who began to watch together are not asked for together for ever.
        let more = LOOK / 6 * (self.services.random.next_u32() % 256) / 256;
        self.location_queries.looks.set(user.to_owned(), turn.now + LOOK + more);
        if self.cannot_locate(turn).is_none() && self.location_queries.asked.insert(user.to_owned())
        {
            self.seek(turn, Sought::Watchers(user.to_owned()), vec![user.to_owned()]);
        }
    }

    fn watched_found(&mut self, turn: &mut Turn<'_>, user: &str, found: &LocatedUsers) {
        // While the store is away, what was known counts.
        let Some((_, found)) = found.iter().flatten().find(|(name, _)| name == user) else {
            return;
        };
        if !self.watches_registration(user) {
            return;
        }
        let at = self.moment(turn.now);
        let Some(cluster) = &self.services.cluster else { return };
        let ways = cluster.ways(at, user, found);
        let seen = |ways: &[Way]| -> Vec<(String, Option<String>)> {
            ways.iter().map(|way| (way.contact.clone(), way.instance.clone())).collect()
        };
        let changed = seen(&ways) != seen(self.location_queries.phones(user));
        self.location_queries.phones.insert(user.to_owned(), ways);
        if changed {
            self.tell_watchers(turn, user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_questions_are_open_and_no_more() {
        let mut elsewhere = LocationQueries::default();
        for n in 0..MAX_OPEN as u32 {
            assert!(!elsewhere.is_full());
            elsewhere.open.insert(n, Sought::Watchers(format!("u{n}")));
        }
        assert!(elsewhere.is_full());
    }
}
