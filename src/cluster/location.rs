//! Which users are at this node, told to the store; and which are at others, read from it.
//!
//! A user's entry has one field for each node, which holds all that the user has there. So a write
//! is the whole truth of its node, whichever was lost or came twice before it, and however often a
//! user registers meanwhile, one write is due.

use super::keys::ClusterKeys;
use super::lease::Lease;
use super::store::{FoundPointers, MAX_NODES, MAX_VALUE, PointerWrite, StoreCommand};
use super::token::{self, EdgeToken, short};
use super::work::Moment;
use super::write_window::WriteWindow;
use crate::registrar::{Binding, MAX_BINDINGS, Registrar, Way};
use crate::sip::transaction::Hop;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Users of one write.
const BATCH: usize = 32;
/// Users whose write waits; beyond them everything is written again.
const MAX_DIRTY: usize = 10_000;
/// The longest Contact and list of features that is told to others.
const MAX_TEXT: usize = 1_024;

/// What a user has at a node.
#[derive(Serialize, Deserialize)]
struct PointerRecord {
    epoch: u64,
    pointers: Vec<Pointer>,
}

/// One binding at another node.
#[derive(Serialize, Deserialize)]
struct Pointer {
    contact: String,
    instance: Option<String>,
    reg_id: u32,
    q: u16,
    features: String,
    /// Route values beyond the node.
    path: Vec<String>,
    /// Names the flow at the node.
    token: String,
    /// By the store's clock, seconds since 1970.
    expires: u64,
    /// The Call-ID it registered by, in short.
    #[serde(default)]
    registered: u64,
}

/// What is to be written.
#[derive(Default)]
pub(super) struct Location {
    dirty: BTreeSet<String>,
    /// Everything is written again: after this user. `Some(None)`: from the first on.
    again: Option<Option<String>>,
    writes: WriteWindow<String>,
}

impl Location {
    pub(super) fn touch(&mut self, user: &str) {
        if self.dirty.len() >= MAX_DIRTY && !self.dirty.contains(user) {
            return self.write_all_again();
        }
        self.dirty.insert(user.to_owned());
    }

    pub(super) fn write_all_again(&mut self) {
        self.again = Some(None);
        self.writes.end_pause();
    }

    pub(super) fn waiting(&self) -> usize {
        self.dirty.len() + self.writes.items()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.writes.next_timeout()
    }

    /// What was not answered in time is written again.
    pub(super) fn expire(&mut self, now: Instant) {
        self.writes.late(now).into_iter().for_each(|id| self.written(now, id, false));
    }

    pub(super) fn written(&mut self, now: Instant, id: u64, done: bool) {
        let Some(users) = self.writes.take(id) else { return };
        if !done {
            users.iter().for_each(|user| self.touch(user));
            self.writes.failed(now);
        }
    }

    /// Writes what is due, as far as the window goes.
    pub(super) fn write(
        &mut self,
        now: Instant,
        next_id: &mut u64,
        node: &str,
        registrar: &Registrar,
        value: impl Fn(&str) -> Option<String>,
        commands: &mut Vec<StoreCommand>,
    ) {
        while self.writes.has_room() {
            // A user is in one write at a time, so that no older one comes after a newer.
            let mut users: Vec<String> = self
                .dirty
                .iter()
                .filter(|user| !self.writes.has(user))
                .take(BATCH)
                .cloned()
                .collect();
            for user in &users {
                self.dirty.remove(user);
            }
            let room = BATCH - users.len();
            if let Some(after) = self.again.take_if(|_| room > 0) {
                let more = registrar.users_after(after.as_deref()).take(room);
                let more: Vec<String> = more.map(str::to_owned).collect();
                self.again = (more.len() == room).then(|| more.last().cloned());
                for user in more {
                    if self.writes.has(&user) {
                        self.dirty.insert(user);
                    } else if !users.contains(&user) {
                        users.push(user);
                    }
                }
            }
            if users.is_empty() {
                return;
            }
            *next_id += 1;
            let write = |user: &String| PointerWrite {
                user: user.clone(),
                node: node.to_owned(),
                value: value(user),
            };
            commands.push(StoreCommand::Write {
                id: *next_id,
                writes: users.iter().map(write).collect(),
            });
            self.writes.begin(now, *next_id, users);
        }
    }
}

/// The token that names the flow of a binding.
pub(super) fn token(lease: &Lease, user: &str, binding: &Binding) -> EdgeToken {
    EdgeToken {
        node: lease.node().to_owned(),
        epoch: lease.epoch(),
        flow: binding.flow.0,
        user: user.to_owned(),
        instance: short(binding.instance.as_ref().map(|i| i.0.as_str())),
        owner: None,
        owner_epoch: 0,
    }
}

/// What a user has here, as others may read it; `None` if it has nothing.
pub(super) fn record(
    lease: &Lease,
    keys: &ClusterKeys,
    at: Moment,
    user: &str,
    bindings: &[Binding],
) -> Option<String> {
    let fits = |b: &&Binding| b.contact.len() <= MAX_TEXT && b.features.len() <= MAX_TEXT;
    let pointer = |b: &Binding| Pointer {
        contact: b.contact.clone(),
        instance: b.instance.as_ref().map(|i| i.0.clone()),
        reg_id: b.instance.as_ref().map_or(0, |i| i.1),
        q: b.q,
        features: b.features.clone(),
        path: b.path.clone(),
        token: token::seal(keys, &token(lease, user, b)),
        registered: short(Some(&b.call_id)),
        expires: lease.store_unix(at.unix) + b.expires.saturating_duration_since(at.now).as_secs(),
    };
    let pointers: Vec<Pointer> = bindings.iter().filter(fits).map(pointer).collect();
    let record = PointerRecord { epoch: lease.epoch(), pointers };
    let text = serde_json::to_string(&record).ok().filter(|t| t.len() < MAX_VALUE - 64)?;
    (!record.pointers.is_empty()).then(|| keys.seal(&name_of(lease.node(), user), &text))
}

/// What the record of a user at a node is signed as.
fn name_of(node: &str, user: &str) -> String {
    format!("user {node} {user}")
}

/// The ways that were found for a user, at other nodes that live.
pub(super) fn ways(
    lease: &Lease,
    keys: &ClusterKeys,
    at: Moment,
    user: &str,
    found: &FoundPointers,
) -> Vec<Way> {
    let mut ways = Vec::new();
    for (node, value) in found.iter().take(MAX_NODES).filter(|(_, v)| v.len() <= MAX_VALUE) {
        let Some(member) = lease.others().get(node) else { continue };
        // One that a newer version wrote otherwise is left to those who know it.
        let record = open(keys, node, user, value);
        let Some(record) = record.filter(|r| r.epoch == member.epoch) else { continue };
        let now = lease.store_unix(at.unix);
        let living = record.pointers.into_iter().filter(|p| p.expires > now);
        ways.extend(living.take(MAX_BINDINGS).map(|p| {
            let route = format!("<sip:{}@{};transport=tls;lr>", p.token, member.advertise);
            Way {
                hop: Hop::Node(member.advertise),
                contact: p.contact,
                instance: p.instance,
                expires: at.now + Duration::from_secs((p.expires - now).min(3_600)),
                q: p.q,
                features: p.features,
                path: std::iter::once(route).chain(p.path).collect(),
                registered: Some(p.registered),
            }
        }));
    }
    ways.sort_by_key(|way| std::cmp::Reverse(way.q));
    ways
}

/// The record of a user at a node, if it is signed and understood.
fn open(keys: &ClusterKeys, node: &str, user: &str, value: &str) -> Option<PointerRecord> {
    serde_json::from_str(keys.open(&name_of(node, user), value)?).ok()
}

/// A record of a user that says `text`, whoever wrote that.
#[cfg(any(fuzzing, test))]
pub(super) fn read_signed(keys: &ClusterKeys, text: &str) {
    assert!(open(keys, "b", "bob", text).is_none(), "it is not signed");
    let _ = open(keys, "b", "bob", &keys.seal(&name_of("b", "bob"), text));
}
