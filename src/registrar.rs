//! The registrar: who is reachable over which flow (RFC 3261 §10, RFC 5626).
//!
//! A binding lives and dies with its flow; the Contact's host is never dialled.
//! Not here: authentication, sockets.

use crate::sip::header::{NameAddr, delta_seconds};
use crate::sip::parse::HeaderName;
use crate::sip::status::Reject;
use crate::sip::transaction::Flow;
use crate::sip::{Message, Uri};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Shortest registration; a shorter wish gets 423.
pub const MIN_EXPIRES: u32 = 60;
/// Longest registration granted.
pub const MAX_EXPIRES: u32 = 3_600;
/// Most bindings of one user.
pub const MAX_BINDINGS: usize = 10;
/// Seconds a client may be silent (RFC 5626 §4.4.1 Flow-Timer).
pub const FLOW_TIMER: u32 = 120;

/// One way to reach a user.
#[derive(Clone, Debug)]
pub struct Binding {
    pub flow: Flow,
    pub contact: String,
    /// `+sip.instance` and `reg-id`, where the client speaks RFC 5626.
    pub instance: Option<(String, u32)>,
    pub call_id: String,
    pub cseq: u32,
    pub expires: Instant,
    pub q: u16,
}

/// What a REGISTER led to.
#[derive(Debug, Default)]
pub struct Registered {
    /// The user's bindings now.
    pub bindings: Vec<Binding>,
    /// Bindings this request added, refreshed or removed.
    pub added: bool,
    pub removed: bool,
    /// Flows whose binding was taken over by the same instance and reg-id.
    pub replaced: Vec<Flow>,
    pub outbound: bool,
}

/// All bindings by user.
#[derive(Debug, Default)]
pub struct Registrar {
    users: HashMap<String, Vec<Binding>>,
    flows: HashMap<Flow, Vec<String>>,
}

impl Registrar {
    /// Applies an authenticated REGISTER. `chance` (0 to 255) shortens the granted time by up to a fifth,
    /// so that a fleet that registered together does not come back together.
    ///
    /// # Errors
    /// The refusal to send.
    pub fn register(&mut self, now: Instant, user: &str, flow: Flow, request: &Message, chance: u8) -> Result<Registered, Reject> {
        self.expire(now);
        let header_expires = request.header(HeaderName::Expires).and_then(delta_seconds);
        let contacts: Vec<&str> = request.values(HeaderName::Contact).collect();
        let cseq = request.cseq().map_or(0, |c| c.number);
        let mut done = Registered { outbound: request.lists(HeaderName::Supported, "outbound"), ..Registered::default() };
        if contacts.contains(&"*") {
            if contacts.len() > 1 || header_expires != Some(0) {
                return Err(Reject::new(400, "Contact * stands alone and with Expires 0"));
            }
            done.removed = self.remove_where(user, |_| true) > 0;
            return Ok(done);
        }
        let mut wanted = Vec::new();
        for value in contacts {
            wanted.push(self.wish(now, user, flow, request, value, header_expires, chance, cseq)?);
        }
        for (binding, expires) in wanted {
            let bindings = self.users.entry(user.to_owned()).or_default();
            let same = |b: &Binding| same_binding(b, &binding);
            done.replaced.extend(bindings.iter().filter(|b| same(b) && b.flow != flow).map(|b| b.flow));
            bindings.retain(|b| !same(b));
            if expires == 0 {
                done.removed = true;
                continue;
            }
            if bindings.len() >= MAX_BINDINGS {
                return Err(Reject::new(403, format!("{user} has {MAX_BINDINGS} registrations already")));
            }
            bindings.push(binding);
            let of_flow = self.flows.entry(flow).or_default();
            if !of_flow.iter().any(|u| u == user) {
                of_flow.push(user.to_owned());
            }
            done.added = true;
        }
        done.bindings = self.bindings(now, user);
        Ok(done)
    }

    #[allow(clippy::too_many_arguments)]
    fn wish(
        &self, now: Instant, user: &str, flow: Flow, request: &Message, value: &str, header: Option<u32>, chance: u8, cseq: u32,
    ) -> Result<(Binding, u32), Reject> {
        let contact = NameAddr::parse(value).map_err(|e| Reject::new(400, format!("Contact: {e}")))?;
        let asked = contact.params.get("expires").and_then(delta_seconds).or(header).unwrap_or(MAX_EXPIRES);
        if asked > 0 && asked < MIN_EXPIRES {
            return Err(Reject::new(423, format!("registrations last at least {MIN_EXPIRES} s")));
        }
        let longest = asked.min(MAX_EXPIRES);
        let granted = (longest - longest / 5 * u32::from(chance) / 255).max(MIN_EXPIRES.min(asked));
        let instance = contact.params.get("+sip.instance").filter(|i| !i.is_empty());
        let reg_id = contact.params.get("reg-id").and_then(|r| r.parse().ok());
        let q = contact.params.get("q").and_then(|q| q.parse::<f32>().ok()).map_or(1000, |q| (q.clamp(0.0, 1.0) * 1000.0) as u16);
        let binding = Binding {
            flow,
            contact: contact.uri.text.to_owned(),
            instance: instance.map(|i| (i.to_owned(), reg_id.unwrap_or(1))),
            call_id: request.call_id().to_owned(),
            cseq,
            expires: now + Duration::from_secs(u64::from(granted)),
            q,
        };
        // RFC 3261 §10.3 step 7: an old request of the same client may not undo a newer one.
        let stale = |b: &&Binding| same_binding(b, &binding) && b.call_id == binding.call_id && b.cseq >= cseq && b.flow == flow;
        if self.users.get(user).is_some_and(|all| all.iter().find(stale).is_some()) {
            return Err(Reject::new(500, "REGISTER out of order"));
        }
        Ok((binding, if asked == 0 { 0 } else { granted }))
    }

    /// The user's living bindings, highest q first.
    pub fn bindings(&self, now: Instant, user: &str) -> Vec<Binding> {
        let mut bindings: Vec<Binding> =
            self.users.get(user).into_iter().flatten().filter(|b| b.expires > now).cloned().collect();
        bindings.sort_by_key(|b| std::cmp::Reverse(b.q));
        bindings
    }

    /// Forgets a dead flow's bindings at once (RFC 5626 §4.2.1); returns the users it served.
    pub fn flow_closed(&mut self, flow: Flow) -> Vec<String> {
        let users = self.flows.remove(&flow).unwrap_or_default();
        for user in &users {
            self.remove_where(user, |b| b.flow == flow);
        }
        users
    }

    fn remove_where(&mut self, user: &str, dead: impl Fn(&Binding) -> bool) -> usize {
        let Some(bindings) = self.users.get_mut(user) else { return 0 };
        let before = bindings.len();
        bindings.retain(|b| !dead(b));
        let removed = before - bindings.len();
        if bindings.is_empty() {
            self.users.remove(user);
        }
        removed
    }

    /// Forgets bindings whose time is over.
    pub fn expire(&mut self, now: Instant) {
        self.users.retain(|_, bindings| {
            bindings.retain(|b| b.expires > now);
            !bindings.is_empty()
        });
    }

    /// How many bindings live.
    pub fn len(&self) -> usize {
        self.users.values().map(Vec::len).sum()
    }

    /// Whether nobody is registered.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

fn same_binding(a: &Binding, b: &Binding) -> bool {
    match (&a.instance, &b.instance) {
        (Some(a), Some(b)) => a == b,
        (None, None) => match (Uri::parse(&a.contact), Uri::parse(&b.contact)) {
            (Ok(a), Ok(b)) => a.same_address(&b),
            _ => false,
        },
        _ => false,
    }
}
