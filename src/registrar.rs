//! The registrar: who is reachable over which flow (RFC 3261 §10, RFC 5626, RFC 5627, RFC 3327).
//!
//! A binding lives and dies with its flow; the Contact's host is never dialled. A phone is a user's
//! `+sip.instance`; it may have several flows (`reg-id`), of which one at a time is rung.
//! Not here: authentication, sockets.

use crate::ids::{IdMap, looked_at};
use crate::sip::header::{NameAddr, delta_seconds};
use crate::sip::parse::HeaderName;
use crate::sip::preferences::features_of;
use crate::sip::status::Refusal;
use crate::sip::transaction::{Flow, Hop};
use crate::sip::{Message, Uri};
use crate::timers::Timers;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::time::{Duration, Instant};

/// Shortest registration; a shorter wish gets 423.
pub(crate) const MIN_EXPIRES: u32 = 60;
/// Longest registration granted.
pub(crate) const MAX_EXPIRES: u32 = 3_600;
/// Most bindings of one user.
pub(crate) const MAX_BINDINGS: usize = 10;
/// Seconds a client may be silent (RFC 5626 §4.4.1 Flow-Timer).
pub(crate) const FLOW_TIMER: u32 = 120;
/// Temporary GRUUs of one phone that stay valid: the newest (RFC 5627 §5.4 would keep all; memory
/// is bounded).
const MAX_TEMPORARY: usize = 8;
/// Most proxies between a browser and us.
const MAX_PATH: usize = 8;
/// Characters of a User-Agent that are kept.
const MAX_AGENT: usize = 80;

/// Users whose bindings run out in one turn at most; the others follow in the next turns.
const MOST_DUE: usize = 256;

/// One way to reach a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// The connection it came by.
    pub flow: Flow,
    /// The URI, as given.
    pub contact: String,
    /// `+sip.instance` and `reg-id`, if the client speaks RFC 5626.
    pub instance: Option<(String, u32)>,
    /// Of its REGISTER.
    pub call_id: String,
    /// The CSeq of its REGISTER.
    pub cseq: u32,
    /// When it is forgotten.
    pub expires: Instant,
    /// Preference, 0 to 1000 thousandths.
    pub q: u16,
    /// What the phone says it is: the start of its User-Agent.
    pub user_agent: String,
    /// What the phone says it can do, as a parameter list (RFC 3840 §9).
    pub features: String,
    /// Route values towards it (RFC 3327).
    pub path: Vec<String>,
    /// The newest temporary GRUU's user part.
    pub temp_gruu: Option<String>,
}

impl Binding {
    /// Whether it is of this phone.
    pub(crate) fn is_of(&self, instance: &str) -> bool {
        self.instance.as_ref().is_some_and(|(own, _)| own == instance)
    }
}

/// The one phone of a user that is meant (RFC 5627).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct WantedPhone {
    /// Its `+sip.instance`.
    pub instance: String,
    /// At another node, the Call-ID it must have registered by, in short.
    pub registered: Option<u64>,
}

/// One way to ring a phone: a flow of this node, or another node that has one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Way {
    /// Where its requests are sent.
    pub hop: Hop,
    /// The Contact URI.
    pub contact: String,
    /// `+sip.instance`, if the phone has one.
    pub instance: Option<String>,
    /// When it is forgotten.
    pub expires: Instant,
    /// Preference, 0 to 1000 thousandths.
    pub q: u16,
    /// What the phone says it can do (RFC 3840 §9).
    pub features: String,
    /// Route values towards it.
    pub path: Vec<String>,
    /// At another node: the Call-ID it registered by, in short.
    pub registered: Option<u64>,
}

impl From<Binding> for Way {
    fn from(binding: Binding) -> Way {
        Way {
            hop: Hop::Flow(binding.flow),
            contact: binding.contact,
            instance: binding.instance.map(|(instance, _)| instance),
            expires: binding.expires,
            q: binding.q,
            features: binding.features,
            path: binding.path,
            registered: None,
        }
    }
}

/// What a REGISTER led to.
#[derive(Debug, Default)]
pub(crate) struct Registered {
    /// The user's bindings now.
    pub bindings: Vec<Binding>,
    /// Bindings were added or refreshed.
    pub added: bool,
    /// Bindings were removed.
    pub removed: bool,
    /// Flows whose binding was taken over by the same instance and reg-id.
    pub replaced: Vec<Flow>,
    /// The 200 says `outbound` (RFC 5626 §6).
    pub outbound: bool,
}

/// All bindings by user.
#[derive(Debug, Default)]
pub struct Registrar {
    users: BTreeMap<String, Vec<Binding>>,
    /// How many bindings there are.
    bindings: usize,
    flows: IdMap<Flow, Vec<String>>,
    /// User part of a temporary GRUU, to user and instance.
    temp_gruu: HashMap<String, (String, String)>,
    /// By user, for each instance, the oldest first.
    issued: HashMap<String, HashMap<String, Vec<String>>>,
    /// By user, the first of its bindings to run out.
    timers: Timers<String>,
}

/// What a REGISTER is judged by besides itself.
pub(crate) struct RegisterContext {
    /// The connection it came by.
    pub flow: Flow,
    /// 0 to 255: shortens the granted time by up to a fifth, so that a fleet that registered
    /// together does not come back together.
    pub chance: u8,
    /// Seconds its login is good for; `None`: for ever.
    pub longest: Option<u32>,
    /// A new temporary GRUU's user part, unguessable.
    pub token: String,
}

impl Registrar {
    /// Applies an authenticated REGISTER.
    ///
    /// # Errors
    /// The refusal to send.
    pub(crate) fn register(
        &mut self,
        now: Instant,
        user: &str,
        request: &Message,
        by: &RegisterContext,
    ) -> Result<Registered, Refusal> {
        let flow = by.flow;
        let header_expires = request.header(HeaderName::Expires).and_then(delta_seconds);
        let contacts: Vec<&str> = request.values(HeaderName::Contact).collect();
        let mut done = Registered {
            outbound: request.lists(HeaderName::Supported, "outbound"),
            ..Registered::default()
        };
        if contacts.contains(&"*") {
            if contacts.len() > 1 || header_expires != Some(0) {
                return Err(Refusal::new(400, "Contact * stands alone and with Expires 0"));
            }
            done.removed = self.remove_where(user, |_| true) > 0;
            return Ok(done);
        }
        let mut wanted = Vec::new();
        for value in contacts {
            wanted.push(self.wish(now, user, request, value, header_expires, by)?);
        }
        self.has_room(user, &wanted)?;
        for (mut binding, expires) in wanted {
            let temp_gruu = self.temporary_for(user, &binding, request, &by.token);
            let bindings = self.users.entry(user.to_owned()).or_default();
            let same = |b: &Binding| same_binding(b, &binding);
            done.replaced
                .extend(bindings.iter().filter(|b| same(b) && b.flow != flow).map(|b| b.flow));
            let before = bindings.len();
            bindings.retain(|b| !same(b));
            self.bindings -= before - bindings.len();
            if expires == 0 {
                done.removed = true;
                continue;
            }
            binding.temp_gruu = temp_gruu;
            bindings.push(binding);
            self.bindings += 1;
            let of_flow = self.flows.entry(flow).or_default();
            if !of_flow.iter().any(|u| u == user) {
                of_flow.push(user.to_owned());
            }
            done.added = true;
        }
        if self.users.get(user).is_some_and(Vec::is_empty) {
            self.users.remove(user);
        }
        self.forget_temporary(user);
        self.watch(user);
        done.bindings = self.bindings(now, user);
        Ok(done)
    }

    /// Whether a user may have all it wants: what is refused leaves nothing behind.
    fn has_room(&self, user: &str, wanted: &[(Binding, u32)]) -> Result<(), Refusal> {
        let stays = |b: &&Binding| !wanted.iter().any(|(new, _)| same_binding(b, new));
        let before = self.users.get(user).into_iter().flatten().filter(stays).count();
        let added = wanted.iter().filter(|(_, expires)| *expires > 0).count();
        if added > 0 && before + added > MAX_BINDINGS {
            let why = format!("{user} has {MAX_BINDINGS} registrations already");
            return Err(Refusal::new(403, why));
        }
        Ok(())
    }

    fn wish(
        &self,
        now: Instant,
        user: &str,
        request: &Message,
        value: &str,
        header: Option<u32>,
        by: &RegisterContext,
    ) -> Result<(Binding, u32), Refusal> {
        let contact = NameAddr::parse_lenient(value)
            .map_err(|e| Refusal::new(400, format!("Contact: {e}")))?;
        let asked =
            contact.params.get("expires").and_then(delta_seconds).or(header).unwrap_or(MAX_EXPIRES);
        if asked > 0 && asked < MIN_EXPIRES {
            return Err(Refusal::new(423, format!("registrations last at least {MIN_EXPIRES} s")));
        }
        // No shorter than the least we grant: a login that runs out within a minute is as good as
        // over.
        let longest =
            asked.min(MAX_EXPIRES).min(by.longest.unwrap_or(MAX_EXPIRES).max(MIN_EXPIRES));
        let granted =
            (longest - longest / 5 * u32::from(by.chance) / 255).max(MIN_EXPIRES.min(asked));
        let instance =
            contact.params.get("+sip.instance").filter(|i| !i.is_empty() && i.len() <= 256);
        let reg_id = contact.params.get("reg-id").and_then(|r| r.parse().ok());
        let q = contact
            .params
            .get("q")
            .and_then(|q| q.parse::<f32>().ok())
            .map_or(1000, |q| (q.clamp(0.0, 1.0) * 1000.0) as u16);
        let cseq = request.cseq().map_or(0, |c| c.number);
        // Nothing is sent by what cannot be read, as with Record-Route.
        let path = request.values(HeaderName::Path).filter(|p| NameAddr::parse(p).is_ok());
        let path: Vec<String> = path.take(MAX_PATH + 1).map(str::to_owned).collect();
        if path.len() > MAX_PATH {
            return Err(Refusal::new(400, format!("Path has more than {MAX_PATH} values")));
        }
        let agent = request.header(HeaderName::UserAgent).unwrap_or_default();
        let binding = Binding {
            flow: by.flow,
            contact: contact.uri.text.to_owned(),
            instance: instance.map(|i| (i.to_owned(), reg_id.unwrap_or(1))),
            call_id: request.call_id().to_owned(),
            cseq,
            expires: now + Duration::from_secs(u64::from(granted)),
            q,
            user_agent: agent.chars().take(MAX_AGENT).collect(),
            features: features_of(&contact),
            path,
            temp_gruu: None,
        };
        // RFC 3261 §10.3 step 7: an old request of the same client may not undo a newer one.
        let stale = |b: &&Binding| {
            same_binding(b, &binding)
                && b.call_id == binding.call_id
                && b.cseq >= cseq
                && b.flow == by.flow
        };
        if self.users.get(user).is_some_and(|all| all.iter().find(stale).is_some()) {
            return Err(Refusal::new(500, "REGISTER out of order"));
        }
        Ok((binding, if asked == 0 { 0 } else { granted }))
    }

    /// A new temporary GRUU at each registration of the same Call-ID; another Call-ID ends the old
    /// ones (RFC 5627 §5.4).
    fn temporary_for(
        &mut self,
        user: &str,
        binding: &Binding,
        request: &Message,
        token: &str,
    ) -> Option<String> {
        let (instance, _) =
            binding.instance.as_ref().filter(|_| request.lists(HeaderName::Supported, "gruu"))?;
        let other_call = |b: &Binding| {
            b.instance.as_ref().is_some_and(|i| i.0 == *instance) && b.call_id != binding.call_id
        };
        let restarted = self.users.get(user).is_some_and(|all| all.iter().any(other_call));
        let of_user = self.issued.entry(user.to_owned()).or_default();
        let issued = of_user.entry(instance.clone()).or_default();
        let surplus =
            if restarted { issued.len() } else { (issued.len() + 1).saturating_sub(MAX_TEMPORARY) };
        for old in issued.drain(..surplus) {
            self.temp_gruu.remove(&old);
        }
        issued.push(token.to_owned());
        self.temp_gruu.insert(token.to_owned(), (user.to_owned(), instance.clone()));
        Some(token.to_owned())
    }

    /// The user and instance that a temporary GRUU's user part names.
    pub(crate) fn temp_gruu(&self, user_part: &str) -> Option<&(String, String)> {
        self.temp_gruu.get(user_part)
    }

    /// Users who are registered and come after `name`, or all, by name.
    pub(crate) fn users_after(&self, name: Option<&str>) -> impl Iterator<Item = &str> {
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        let users = self.users.range::<str, _>((from, Bound::Unbounded));
        users.inspect(|_| looked_at()).map(|(name, _)| name.as_str())
    }

    /// The user's living bindings, highest q first.
    pub(crate) fn bindings(&self, now: Instant, user: &str) -> Vec<Binding> {
        let mut bindings: Vec<Binding> = self
            .users
            .get(user)
            .into_iter()
            .flatten()
            .filter(|b| b.expires > now)
            .cloned()
            .collect();
        bindings.sort_by_key(|b| std::cmp::Reverse(b.q));
        bindings
    }

    /// Forgets a dead flow's bindings at once (RFC 5626 §4.2.1); returns the users it served.
    pub(crate) fn flow_closed(&mut self, flow: Flow) -> Vec<String> {
        let users = self.flows.remove(&flow).unwrap_or_default();
        for user in &users {
            self.remove_where(user, |b| b.flow == flow);
        }
        users
    }

    fn remove_where(&mut self, user: &str, dead: impl Fn(&Binding) -> bool) -> usize {
        let Some(bindings) = self.users.get_mut(user) else { return 0 };
        let before = bindings.len();
        bindings.retain(|b| {
            looked_at();
            !dead(b)
        });
        let removed = before - bindings.len();
        self.bindings -= removed;
        if bindings.is_empty() {
            self.users.remove(user);
        }
        self.forget_temporary(user);
        self.watch(user);
        removed
    }

    /// Temporary GRUUs live as long as their phone is registered (RFC 5627 §3.1).
    fn forget_temporary(&mut self, user: &str) {
        let bindings = self.users.get(user).map(Vec::as_slice).unwrap_or_default();
        let alive = |instance: &str| {
            bindings.iter().any(|b| b.instance.as_ref().is_some_and(|i| i.0 == instance))
        };
        let Some(issued) = self.issued.get_mut(user) else { return };
        issued.retain(|instance, tokens| {
            looked_at();
            let alive = alive(instance);
            if !alive {
                tokens.iter().for_each(|token| drop(self.temp_gruu.remove(token)));
            }
            alive
        });
        if issued.is_empty() {
            self.issued.remove(user);
        }
    }

    /// Forgets bindings whose time is over, of so many users at once; returns these.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<String> {
        let mut users = Vec::new();
        for _ in 0..MOST_DUE {
            let Some(user) = self.timers.pop(now) else { break };
            if self.remove_where(&user, |b| b.expires <= now) > 0 {
                users.push(user.clone());
            }
            self.watch(&user);
        }
        users
    }

    /// Nobody could be heard for `by`: all registrations last that much longer.
    pub(crate) fn put_off(&mut self, by: Duration) {
        self.users.values_mut().flatten().for_each(|binding| binding.expires += by);
        self.timers.put_off(by, |_| true);
    }

    /// The earliest end of a registration.
    pub(crate) fn next_timeout(&mut self) -> Option<Instant> {
        self.timers.next_timeout()
    }

    fn watch(&mut self, user: &str) {
        match self.users.get(user).and_then(|all| all.iter().map(|b| b.expires).min()) {
            Some(first) => self.timers.set(user.to_owned(), first),
            None => self.timers.clear(&user.to_owned()),
        }
    }

    /// How many bindings live.
    pub(crate) fn len(&self) -> usize {
        self.bindings
    }
}

/// A user's phones with their q: the ways of one instance are one phone, the newest way first.
/// `wanted`: only the phone with this instance.
pub(crate) fn phones(ways: Vec<Way>, wanted: Option<&str>) -> Vec<(u16, Vec<Way>)> {
    let mut phones: Vec<(u16, Vec<Way>)> = Vec::new();
    for way in ways {
        if wanted.is_some() && way.instance.as_deref() != wanted {
            continue;
        }
        let same =
            |p: &&mut (u16, Vec<Way>)| way.instance.is_some() && p.1[0].instance == way.instance;
        match phones.iter_mut().find(same) {
            Some((_, ways)) => ways.push(way),
            None => phones.push((way.q, vec![way])),
        }
    }
    phones.iter_mut().for_each(|(_, ways)| ways.sort_by_key(|w| std::cmp::Reverse(w.expires)));
    phones
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::parse::Framing;

    fn register(registrar: &mut Registrar, now: Instant, user: &str, expires: u32) -> Registered {
        let text = format!(
            "REGISTER sip:x SIP/2.0\r\nTo: <sip:{user}@x>\r\nCall-ID: {user}\r\nCSeq: {} REGISTER\r\nSupported: gruu\r\n\
             Contact: <sip:{user}@a.invalid>;+sip.instance=\"<urn:uuid:{user}>\";expires={expires}\r\n\r\n",
            if expires == 0 { 2 } else { 1 }
        );
        let message = Message::parse(text.into_bytes(), Framing::WebSocket).expect("sound");
        let token = format!("{user}-{expires}");
        let by = RegisterContext { flow: Flow(1), chance: 0, longest: None, token };
        registrar.register(now, user, &message, &by).expect("it may")
    }

    #[test]
    fn bindings_that_run_out_together_run_out_some_in_each_turn() {
        let now = Instant::now();
        let mut registrar = Registrar::default();
        let users: Vec<String> = (0..600).map(|n| format!("u{n:03}")).collect();
        users.iter().for_each(|user| drop(register(&mut registrar, now, user, 3_600)));
        assert_eq!(registrar.len(), 600);
        let over = now + Duration::from_secs(3_600);
        let mut gone = Vec::new();
        while registrar.next_timeout().is_some_and(|at| at <= over) {
            assert!(registrar.bindings(over, &users[599]).is_empty(), "over is over");
            let some = registrar.due(over);
            assert!(some.len() <= MOST_DUE);
            gone.extend(some);
        }
        assert_eq!((gone, registrar.len()), (users, 0));
        assert!(registrar.temp_gruu.is_empty() && registrar.issued.is_empty());
    }

    #[test]
    fn a_phone_that_unregisters_leaves_no_temporary_gruu() {
        let now = Instant::now();
        let mut registrar = Registrar::default();
        register(&mut registrar, now, "ada", 3_600);
        assert!(registrar.temp_gruu("ada-3600").is_some());
        assert!(register(&mut registrar, now, "ada", 0).removed);
        assert!(registrar.temp_gruu.is_empty() && registrar.issued.is_empty());
        assert_eq!(registrar.len(), 0);
    }

    /// A REGISTER of ada's phones from one number to another.
    fn phones_of_ada(
        registrar: &mut Registrar,
        numbers: std::ops::Range<usize>,
    ) -> Result<Registered, Refusal> {
        let contacts: String = numbers
            .clone()
            .map(|n| format!("Contact: <sip:a@{n}.invalid>;+sip.instance=\"<urn:uuid:{n}>\"\r\n"))
            .collect();
        let text = format!(
            "REGISTER sip:x SIP/2.0\r\nTo: <sip:ada@x>\r\nCall-ID: {numbers:?}\r\n\
             CSeq: 1 REGISTER\r\nSupported: gruu\r\n{contacts}\r\n"
        );
        let message = Message::parse(text.into_bytes(), Framing::WebSocket).expect("sound");
        let token = format!("t{numbers:?}");
        let by = RegisterContext { flow: Flow(1), chance: 0, longest: None, token };
        registrar.register(Instant::now(), "ada", &message, &by)
    }

    #[test]
    fn a_registration_that_is_refused_leaves_nothing_behind() {
        let mut registrar = Registrar::default();
        (0..9).for_each(|n| drop(phones_of_ada(&mut registrar, n..n + 1).expect("it may")));
        assert!(phones_of_ada(&mut registrar, 9..11).is_err(), "all of it, or nothing");
        assert_eq!((registrar.len(), registrar.temp_gruu.len()), (9, 9));
        assert!(phones_of_ada(&mut registrar, 9..10).is_ok());
        for n in 100..1_000 {
            let refused = phones_of_ada(&mut registrar, n..n + 1).err().map(|why| why.status);
            assert_eq!(refused, Some(403));
        }
        assert_eq!((registrar.len(), registrar.temp_gruu.len()), (10, 10));
        assert_eq!(registrar.issued["ada"].len(), 10);
        assert!(phones_of_ada(&mut registrar, 0..2).is_ok(), "two of them again");
    }

    #[test]
    fn a_registration_keeps_the_start_of_the_newest_user_agent() {
        let now = Instant::now();
        let mut registrar = Registrar::default();
        for (cseq, agent, kept) in
            [(1, "Phone 1".to_owned(), 7), (2, "é".repeat(300), MAX_AGENT), (3, String::new(), 0)]
        {
            let text = format!(
                "REGISTER sip:x SIP/2.0\r\nTo: <sip:ada@x>\r\nCall-ID: a\r\nCSeq: {cseq} REGISTER\r\n\
                 User-Agent: {agent}\r\nContact: <sip:ada@a.invalid>\r\n\r\n"
            );
            let message = Message::parse(text.into_bytes(), Framing::WebSocket).expect("sound");
            let by =
                RegisterContext { flow: Flow(1), chance: 0, longest: None, token: String::new() };
            let done = registrar.register(now, "ada", &message, &by).expect("it may");
            assert_eq!(done.bindings[0].user_agent.chars().count(), kept);
            assert!(agent.starts_with(&done.bindings[0].user_agent));
        }
    }

    #[test]
    fn between_a_browser_and_us_are_eight_proxies_at_most() {
        let mut registrar = Registrar::default();
        let mut with = |proxies: usize| {
            let path = vec!["<sip:p;lr>"; proxies].join(", ");
            let text = format!(
                "REGISTER sip:x SIP/2.0\r\nTo: <sip:ada@x>\r\nCall-ID: {proxies}\r\n\
                 CSeq: 1 REGISTER\r\nSupported: path\r\nPath: {path}\r\n\
                 Contact: <sip:ada@a.invalid>;expires=60\r\n\r\n"
            );
            let message = Message::parse(text.into_bytes(), Framing::WebSocket).expect("sound");
            let token = format!("t{proxies}");
            let by = RegisterContext { flow: Flow(1), chance: 0, longest: None, token };
            registrar.register(Instant::now(), "ada", &message, &by).map_err(|why| why.status)
        };
        assert!(with(MAX_PATH).is_ok());
        assert!(matches!(with(MAX_PATH + 1), Err(400)));
    }
}
