//! Texts outside calls (RFC 3428): they go where a call of the same sender would go, and no
//! further.

use super::turn::RequestSource;
use super::{Gateway, Turn};
use crate::brakes::Source;
use crate::call::context::TransactionUser;
use crate::cluster::store::LocatedUsers;
use crate::config::{Trunk, User};
use crate::dialplan::{Attempt, Outcome, Outcomes, Permits, Route, Step, Target};
use crate::errors::Code;
use crate::fraud::DialledNumber;
use crate::hex::token;
use crate::registrar::{Way, phones};
use crate::sip::build::{MessageWriter, name_addr};
use crate::sip::message::{Message, TEXT};
use crate::sip::parse::HeaderName;
use crate::sip::status::{Method, Refusal, reason_phrase};
use crate::sip::transaction::{Hop, ServerId};
use crate::sip::uri::{Uri, escape_user};
use std::collections::HashMap;
use std::time::Instant;

/// RFC 3428 §8: a text over UDP stays below this.
const MAX_TEXT: usize = 1_300;
/// Texts on their way of one sender.
const MAX_OF_SENDER: usize = 20;
/// Bytes of all texts on their way, each copy counted; and of those of one sender.
const MAX_BYTES: usize = 16 * 1_024 * 1_024;
const MAX_BYTES_OF_SENDER: usize = 2 * 1_024 * 1_024;
/// `goto` steps that a text follows.
const MAX_GOTOS: usize = 8;
/// Phones that one text goes to.
const MAX_COPIES: usize = 10;

/// A text on its way.
struct Relay {
    server: ServerId,
    request: Message,
    sender: String,
    /// What it and its copies take.
    bytes: usize,
    /// Copies without a final response.
    open: usize,
    best: Option<u16>,
}

/// What a sender has on its way.
#[derive(Clone, Copy, Default)]
struct SenderShare {
    texts: usize,
    bytes: usize,
}

/// The texts on their way.
#[derive(Default)]
pub(super) struct Texts {
    relays: HashMap<u64, Relay>,
    of_sender: HashMap<String, SenderShare>,
    bytes: usize,
    next: u64,
}

impl Texts {
    /// Returns how many are on their way.
    pub(super) fn len(&self) -> usize {
        self.relays.len()
    }

    /// Whether `sender` may have one more on its way, of this size.
    fn admits(&self, sender: &str, bytes: usize) -> Result<(), Refusal> {
        let full = |why: String| Err(Refusal::new(503, why).code(Code::LIMIT).retry_after(10));
        let own = self.of_sender.get(sender).copied().unwrap_or_default();
        if own.texts >= MAX_OF_SENDER {
            return full(format!("{MAX_OF_SENDER} texts of {sender} wait for their answers"));
        }
        if own.bytes + bytes > MAX_BYTES_OF_SENDER {
            return full(format!("texts of {sender} that are too long wait for their answers"));
        }
        if self.bytes + bytes > MAX_BYTES {
            return full("too many texts are on their way".to_owned());
        }
        Ok(())
    }

    /// One more of `sender` is on its way.
    fn count(&mut self, sender: &str, bytes: usize) {
        let own = self.of_sender.entry(sender.to_owned()).or_default();
        own.texts += 1;
        own.bytes += bytes;
        self.bytes += bytes;
    }

    fn uncount(&mut self, sender: &str, bytes: usize) {
        self.bytes -= bytes;
        if let Some(own) = self.of_sender.get_mut(sender) {
            own.texts -= 1;
            own.bytes -= bytes;
            if own.texts == 0 {
                self.of_sender.remove(sender);
            }
        }
    }

    fn insert(&mut self, relay: Relay) -> u64 {
        self.next += 1;
        self.count(&relay.sender, relay.bytes);
        self.relays.insert(self.next, relay);
        self.next
    }

    fn remove(&mut self, number: u64) -> Option<Relay> {
        let relay = self.relays.remove(&number)?;
        self.uncount(&relay.sender, relay.bytes);
        Some(relay)
    }
}

struct TextTarget {
    hop: Hop,
    uri: String,
    to: String,
    path: Vec<String>,
    /// The trunk it goes to, if it goes to no user.
    trunk: Option<String>,
}

/// A text whose route is known, and not yet who is reached by it.
pub(super) struct SoughtText {
    id: ServerId,
    message: Message,
    sender: RequestSource,
    route: Route,
    number: String,
}

/// The recipients of a text.
enum TextReach {
    Targets(Vec<TextTarget>),
    /// Nobody here, and where these are the store is to be asked.
    Unknown(Vec<String>),
}

/// Why a ring step reaches nobody; `found` says why it is not known.
fn nobody_for(targets: &[Target], found: Option<&LocatedUsers>) -> Refusal {
    let names: Vec<String> = targets.iter().map(Target::to_string).collect();
    let names = names.join(", ");
    match found {
        Some(Err(unknown)) => {
            let why = format!("nobody is registered at this node for {names}, and {unknown}");
            Refusal::new(480, why).code(Code::STORE_AWAY)
        }
        _ => Refusal::new(480, format!("nobody is registered for {names}"))
            .code(Code::NOT_REGISTERED),
    }
}

/// The sender of a text: the name shown, the user part, and the number that trunks are shown.
struct From {
    display: String,
    name: String,
    did: Option<String>,
}

impl Gateway {
    pub(super) fn text(
        &mut self,
        turn: &mut Turn<'_>,
        id: ServerId,
        message: Message,
        sender: RequestSource,
    ) {
        match self.text_admitted(turn, &message, &sender) {
            Ok((route, number)) => {
                let text = SoughtText { id, message, sender, route, number };
                self.text_on(turn, text, None);
            }
            Err(why) => self.refuse(turn, id, &message, &why),
        }
    }

    /// A text that waited for the store continues.
    pub(super) fn text_found(
        &mut self,
        turn: &mut Turn<'_>,
        text: SoughtText,
        found: &LocatedUsers,
    ) {
        self.texts.uncount(&text.sender.name(), text.message.body().len());
        self.text_on(turn, text, Some(found));
    }

    /// Sends a text to those it is for, or asks first where they are; `found` says what came of
    /// that.
    fn text_on(&mut self, turn: &mut Turn<'_>, text: SoughtText, found: Option<&LocatedUsers>) {
        let (id, account) = (text.id, self.account_of(&text.sender));
        let targets = match self.targets_of(turn, &text, account.as_deref(), found) {
            Ok(TextReach::Targets(targets)) => targets,
            Ok(TextReach::Unknown(users)) => return self.seek_text(turn, text, users),
            Err(why) => return self.refuse(turn, id, &text.message, &why),
        };
        let SoughtText { message, sender, .. } = text;
        let Some(from) = self.text_from(&message, &sender) else { return };
        let sender = sender.name();
        let bytes = message.to_bytes().len() * (1 + targets.len());
        if let Err(why) = self.texts.admits(&sender, bytes) {
            return self.refuse(turn, id, &message, &why);
        }
        let open = targets.len();
        let relay = Relay { server: id, request: message.clone(), sender, bytes, open, best: None };
        let number = self.texts.insert(relay);
        for target in targets {
            self.send_text(turn, number, &message, &from, target);
        }
    }

    fn seek_text(&mut self, turn: &mut Turn<'_>, text: SoughtText, users: Vec<String>) {
        if let Some(why) = self.cannot_locate(turn) {
            return self.text_on(turn, text, Some(&Err(why)));
        }
        let (sender, bytes) = (text.sender.name(), text.message.body().len());
        if let Err(why) = self.texts.admits(&sender, bytes) {
            return self.refuse(turn, text.id, &text.message, &why);
        }
        self.texts.count(&sender, bytes);
        self.seek_for_text(turn, text, users);
    }

    fn text_from(&self, message: &Message, sender: &RequestSource) -> Option<From> {
        match sender {
            RequestSource::User(user, flow) => self.user(user, *flow).map(|u| From {
                display: u.display_name.clone().unwrap_or_default(),
                name: u.name.clone(),
                did: u.did.clone(),
            }),
            RequestSource::Trunk(_) => message.from().map(|f| From {
                display: f.display_name().into_owned(),
                name: f.uri.number(),
                did: None,
            }),
        }
    }

    fn send_text(
        &mut self,
        turn: &mut Turn<'_>,
        number: u64,
        message: &Message,
        from: &From,
        target: TextTarget,
    ) {
        let mut cx = self.context(turn);
        let (branch, via) = cx.via(target.hop);
        let mut text = MessageWriter::request(Method::Message, &target.uri);
        let shown = from.did.as_ref().filter(|_| target.trunk.is_some()).unwrap_or(&from.name);
        text.put(HeaderName::Via, via);
        target.path.iter().for_each(|p| text.put(HeaderName::Route, p));
        text.put(HeaderName::MaxForwards, message.max_forwards().saturating_sub(1));
        let from =
            name_addr(&from.display, &format!("sip:{}@{}", escape_user(shown), cx.config.domain));
        text.put(HeaderName::From, format_args!("{from};tag={}", cx.token()));
        text.put(HeaderName::To, format_args!("<{}>", target.to));
        text.put(HeaderName::CallId, cx.token());
        text.put(HeaderName::CSeq, "1 MESSAGE");
        let bytes = text.end_carrying(message, TEXT);
        let client = cx.request(Method::Message, &branch, target.hop, bytes);
        let user = TransactionUser::Relay { number, trunk: target.trunk };
        cx.services.transaction_users.insert(client, user);
    }

    /// The route of a text: everything that can refuse it before it costs anything.
    fn text_admitted(
        &mut self,
        turn: &mut Turn<'_>,
        message: &Message,
        sender: &RequestSource,
    ) -> Result<(Route, String), Refusal> {
        if message.max_forwards() == 0 {
            return Err(Refusal::new(483, "Max-Forwards is used up: a loop?").code(Code::LOOP));
        }
        let uri =
            Uri::parse(message.request_uri()).map_err(|e| Refusal::new(400, e.to_string()))?;
        let (user, source) = match sender {
            RequestSource::User(name, flow) => {
                let flow = self.services.flows.get(flow);
                let flow = flow.ok_or_else(|| Refusal::new(403, "its connection is closed"))?;
                (Some(name.as_str()), Source::Address(flow.remote.ip()))
            }
            RequestSource::Trunk(name) => (None, Source::Trunk(name.clone())),
        };
        self.context(turn).may_text(user, source, message.body().len())?;
        if let RequestSource::Trunk(name) = sender
            && !self.config.trunks.get(name).is_some_and(|t| t.messages)
        {
            let why = format!("trunk {name} sends no texts: messages = true allows them");
            return Err(Refusal::new(405, why));
        }
        self.text_route(turn.now, sender, &uri.number())
    }

    /// The route a call to `dialled` would take, whatever gotos lead there.
    fn text_route(
        &self,
        now: Instant,
        sender: &RequestSource,
        dialled: &str,
    ) -> Result<(Route, String), Refusal> {
        let account = self.account_of(sender);
        let permits = account.as_ref().map_or(Permits::NONE, |a| &a.permits);
        let mut context = self.context_of(sender, account.as_ref())?;
        let mut number = dialled.to_owned();
        for _ in 0..=MAX_GOTOS {
            let attempt =
                Attempt { context: &context, dialled: &number, unix: self.unix(now), permits };
            let verdict =
                self.config.plan.route(&attempt).ok_or_else(|| {
                    Refusal::new(500, format!("context {context} does not exist"))
                })?;
            let (route, reached) = verdict.decide(&context)?;
            let Some(Step::Goto(next)) = route.steps.first() else { return Ok((route, reached)) };
            (context, number) = (next.clone(), reached);
        }
        Err(Refusal::new(482, "goto leads in a circle").code(Code::LOOP))
    }

    /// The first step of a route that somebody is reached by decides, as for a call.
    fn targets_of(
        &mut self,
        turn: &mut Turn<'_>,
        text: &SoughtText,
        account: Option<&User>,
        found: Option<&LocatedUsers>,
    ) -> Result<TextReach, Refusal> {
        let SoughtText { message, route, number, .. } = text;
        let (now, mut outcomes) = (turn.now, Outcomes::default());
        let mut nobody = None;
        for step in &route.steps {
            if !outcomes.admit(step) {
                continue;
            }
            match step.inner() {
                Step::Ring { targets, .. } => {
                    let phones = self.phones_for_text(now, targets, number, found);
                    if !phones.is_empty() {
                        return Ok(TextReach::Targets(phones));
                    }
                    if found.is_none() && self.services.cluster.is_some() {
                        return Ok(TextReach::Unknown(self.rung_elsewhere(now, route, number)));
                    }
                    outcomes.add(Outcome::Unregistered);
                    nobody.get_or_insert(nobody_for(targets, found));
                }
                Step::Dial { trunks, to, .. } => {
                    let config = self.config.clone();
                    let mut trunks = trunks.iter().filter_map(|name| config.trunks.get(name));
                    let trunk = trunks.find(|t| t.messages).ok_or_else(|| {
                        Refusal::new(
                            405,
                            "no trunk of this route takes texts: messages = true allows them",
                        )
                    })?;
                    if let Some(account) = account {
                        self.services.brakes.route(now, account, route)?;
                        self.context(turn).may_spend(
                            None,
                            account,
                            DialledNumber::of(Some(route), number),
                        )?;
                    }
                    let number = to
                        .as_ref()
                        .map_or_else(|| number.to_owned(), |to| to.replace("{number}", number));
                    let target = self.text_by_trunk(now, trunk, &number, message)?;
                    return Ok(TextReach::Targets(vec![target]));
                }
                Step::Hangup(status) => {
                    let why = format!("the dialplan refuses it with {status}");
                    return Err(nobody.unwrap_or_else(|| Refusal::new(*status, why)));
                }
                // What they would say of a call is not known for a text.
                Step::Webhook { .. } | Step::Goto(_) => break,
                Step::Play(_) | Step::Tone(_) | Step::Echo(_) | Step::Answer | Step::On { .. } => {}
            }
        }
        let none = || Refusal::new(405, format!("route {:?} takes no texts", route.name));
        Err(nobody.unwrap_or_else(none))
    }

    /// The user a ring step means.
    fn user_of_target(&self, target: &Target, number: &str) -> Option<String> {
        match target {
            Target::User(name) => Some(name.clone()),
            Target::Did(did) => {
                self.config.users.owner_of(&did.replace("{number}", number)).map(|u| u.name.clone())
            }
        }
    }

    /// Those a route rings who have nothing at this node.
    fn rung_elsewhere(&self, now: Instant, route: &Route, number: &str) -> Vec<String> {
        let rung = route.steps.iter().filter_map(|step| match step.inner() {
            Step::Ring { targets, .. } => Some(targets),
            _ => None,
        });
        let users = rung.flatten().filter_map(|target| self.user_of_target(target, number));
        let none = |user: &String| self.services.registrar.bindings(now, user).is_empty();
        users.filter(none).take(MAX_COPIES).collect()
    }

    /// The phones of those whom a ring step rings: those at this node, else those at others.
    fn phones_for_text(
        &self,
        now: Instant,
        targets: &[Target],
        number: &str,
        elsewhere: Option<&LocatedUsers>,
    ) -> Vec<TextTarget> {
        let elsewhere = elsewhere.and_then(|found| found.as_ref().ok());
        let mut found = Vec::new();
        for user in targets.iter().filter_map(|target| self.user_of_target(target, number)) {
            let to = format!("sip:{}@{}", escape_user(&user), self.config.domain);
            let bindings = self.services.registrar.bindings(now, &user);
            let mut ways: Vec<Way> = bindings.into_iter().map(Way::from).collect();
            let there = elsewhere.and_then(|found| found.iter().find(|(name, _)| *name == user));
            if let (true, Some((_, found)), Some(cluster)) =
                (ways.is_empty(), there, &self.services.cluster)
            {
                ways = cluster.ways(self.moment(now), &user, found);
            }
            let ways = phones(ways, None).into_iter().filter_map(|(_, w)| w.into_iter().next());
            found.extend(ways.map(|way| TextTarget {
                hop: way.hop,
                uri: way.contact,
                to: to.clone(),
                path: way.path,
                trunk: None,
            }));
        }
        found.truncate(MAX_COPIES);
        found
    }

    fn text_by_trunk(
        &self,
        now: Instant,
        trunk: &Trunk,
        number: &str,
        message: &Message,
    ) -> Result<TextTarget, Refusal> {
        let bound =
            self.services.trunks.get(&trunk.name).and_then(|t| t.bound.as_ref()).map(|b| b.hop);
        let host = trunk.uri.as_ref().map_or(self.config.domain.clone(), |u| u.address());
        let located = trunk.uri.as_ref().map(|uri| {
            self.services.locator.locate(
                now,
                &crate::resolver::Destination::of(uri, trunk),
                &mut || 0,
            )
        });
        let hop = match (bound, located) {
            (Some(hop), _) => hop,
            (None, Some(crate::resolver::Located::Ready(hops))) => hops[0],
            // A text does not wait for DNS: probes and calls keep the name known.
            _ => {
                return Err(Refusal::new(
                    480,
                    format!("trunk {} has no address at the moment", trunk.name),
                )
                .retry_after(5));
            }
        };
        if hop.is_udp() && message.body().len() > MAX_TEXT {
            return Err(Refusal::new(513, format!("a text over UDP has at most {MAX_TEXT} bytes")));
        }
        let uri = format!("sip:{}@{host}", escape_user(number));
        Ok(TextTarget {
            hop,
            to: uri.clone(),
            uri,
            path: Vec::new(),
            trunk: Some(trunk.name.clone()),
        })
    }

    /// A copy of a text was answered, or never: the sender hears of the first success, else of the
    /// best failure.
    pub(super) fn relayed(&mut self, turn: &mut Turn<'_>, number: u64, status: u16) {
        if status < 200 {
            return;
        }
        let Some(relay) = self.texts.relays.get_mut(&number) else { return };
        relay.open -= 1;
        relay.best = Some(relay.best.map_or(status, |best| best.min(status)));
        if status < 300 || relay.open == 0 {
            let Some(relay) = self.texts.remove(number) else { return };
            let status = match relay.best.unwrap_or(480) {
                200..=299 => 200,
                // RFC 4320 §4.2, and a trunk's own troubles.
                401 | 407 | 408 | 430 | 503 => 480,
                other => other,
            };
            let tag = token::<8>(&mut self.services.random);
            let response = if status == 200 {
                MessageWriter::response(&relay.request, 200, Some(&tag))
            } else {
                MessageWriter::refusal(
                    &relay.request,
                    &Refusal::new(status, reason_phrase(status)),
                    &tag,
                    &self.config.domain,
                )
            };
            self.respond(turn, relay.server, status, response);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_all_texts_on_their_way_are_bounded() {
        let texts = Texts { bytes: MAX_BYTES - 10, ..Texts::default() };
        assert!(texts.admits("alice", 10).is_ok());
        let why = texts.admits("alice", 11).expect_err("one more");
        assert_eq!((why.status, why.code), (503, Code::LIMIT));
    }

    #[test]
    fn one_senders_long_texts_leave_room_for_those_of_others() {
        let (mut texts, long) = (Texts::default(), 11 * 64 * 1_024);
        let mut sent = 0;
        while texts.admits("alice", long).is_ok() {
            texts.count("alice", long);
            sent += 1;
        }
        assert_eq!(sent, MAX_BYTES_OF_SENDER / long);
        assert!(texts.admits("bob", long).is_ok() && texts.bytes < MAX_BYTES / 4);
        (0..sent).for_each(|_| texts.uncount("alice", long));
        assert!(texts.of_sender.is_empty() && texts.bytes == 0);
    }
}
