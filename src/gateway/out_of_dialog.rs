//! Requests outside calls: OPTIONS, and subscriptions to one's own registration and voice mail (RFC
//! 6665, RFC 3680, RFC 3842). Texts are in `texts`.

use super::turn::RequestSource;
use super::{Gateway, Turn};
use crate::call::context::TransactionUser;
use crate::hex::token;
use crate::ids::IdMap;
use crate::registrar::Way;
use crate::sip::build::MessageWriter;
use crate::sip::dialog::Dialog;
use crate::sip::header::delta_seconds;
use crate::sip::message::Message;
use crate::sip::parse::HeaderName;
use crate::sip::status::{ACCEPT, ALLOW, Method, Refusal, SUPPORTED};
use crate::sip::transaction::{Flow, Hop, ServerId};
use crate::sip::uri::{Params, Scheme, Uri, escape_user};
use crate::timers::Timers;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Event packages served (RFC 6665 §7.2).
const PACKAGES: [&str; 2] = ["reg", "message-summary"];
/// The same, for Allow-Events.
pub(super) const ALLOW_EVENTS: &str = "reg, message-summary";
const SUBSCRIPTION: u32 = 3_600;
const SHORTEST: u32 = 60;
const MAX_SUBSCRIPTIONS: usize = 20;
/// NOTIFYs of one subscription that wait for their answers; what changes meanwhile is told by the
/// next.
const MAX_NOTIFIES: usize = 4;

struct Subscription {
    user: String,
    package: &'static str,
    /// The `id` of its Event header.
    id: Option<String>,
    dialog: Dialog,
    hop: Hop,
    expires: Instant,
    version: u32,
    /// NOTIFYs that are not answered yet.
    open: usize,
    /// Something has changed since the last of them.
    behind: bool,
}

/// Everything outside calls that takes more than one message.
#[derive(Default)]
pub(super) struct OutOfDialog {
    subscriptions: HashMap<u64, Subscription>,
    by_tag: HashMap<String, u64>,
    /// Those of each user, and those on each connection.
    by_user: BTreeSet<(String, u64)>,
    by_flow: BTreeSet<(Flow, u64)>,
    timers: Timers<u64>,
    next: u64,
    /// `message-summary` bodies by user, as the user's PBX sent them.
    summaries: HashMap<String, String>,
}

impl OutOfDialog {
    /// Subscriptions that live.
    pub(super) fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    /// The earliest deadline.
    pub(super) fn next_timeout(&mut self) -> Option<Instant> {
        self.timers.next_timeout()
    }

    /// Nobody could be heard for `by`: subscriptions last that much longer.
    pub(super) fn put_off(&mut self, by: Duration) {
        self.subscriptions.values_mut().for_each(|subscription| subscription.expires += by);
        self.timers.put_off(by, |_| true);
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The subscriptions on a connection.
    fn on_flow(&self, flow: Flow) -> Vec<u64> {
        self.by_flow.range((flow, 0)..=(flow, u64::MAX)).map(|(_, n)| *n).collect()
    }

    /// The subscriptions of a user.
    fn of_user(&self, user: &str) -> impl Iterator<Item = (u64, &Subscription)> {
        let own = (user.to_owned(), 0)..=(user.to_owned(), u64::MAX);
        self.by_user.range(own).filter_map(|(_, n)| Some((*n, self.subscriptions.get(n)?)))
    }
}

/// Whether the Request-URI has a scheme that nothing here understands (RFC 3261 §8.2.2.1).
pub(super) fn is_of_foreign_scheme(message: &Message) -> bool {
    Uri::parse(message.request_uri()).is_ok_and(|uri| uri.scheme == Scheme::Other)
}

impl Gateway {
    pub(super) fn out_of_dialog(
        &mut self,
        turn: &mut Turn<'_>,
        id: ServerId,
        message: Message,
        sender: RequestSource,
    ) {
        let refusal = match (message.method(), &sender) {
            _ if is_of_foreign_scheme(&message) => {
                Refusal::new(416, "only sip, sips and tel URIs are served")
            }
            (Method::Options, _) => return self.options(turn, id, &message),
            (Method::Message, _) => return self.text(turn, id, message, sender),
            (Method::Subscribe, RequestSource::User(user, flow)) => {
                let (user, flow) = (user.clone(), *flow);
                return self.subscribe(turn, id, flow, &message, &user);
            }
            (Method::Notify, RequestSource::Trunk(_)) => {
                return self.on_unsolicited_notify(turn, id, false, &message);
            }
            (Method::Bye | Method::Info | Method::Update | Method::Prack, _) => {
                Refusal::new(481, "there is no such call")
            }
            (Method::Notify, _) => Refusal::new(481, "there is no such subscription"),
            (Method::Subscribe, _) => Refusal::new(403, "only users subscribe here"),
            (Method::Refer, _) => Refusal::new(403, "REFER is taken within a call only"),
            (Method::Publish, _) => Refusal::new(489, "nothing is published here"),
            _ => Refusal::new(405, format!("{} is not served here", message.method_token())),
        };
        self.refuse(turn, id, &message, &refusal);
    }

    fn options(&mut self, turn: &mut Turn<'_>, id: ServerId, message: &Message) {
        let response = self.options_response(message);
        self.respond(turn, id, 200, response);
    }

    pub(super) fn options_response(&mut self, message: &Message) -> MessageWriter {
        let tag = token::<8>(&mut self.services.random);
        let mut response = MessageWriter::response(message, 200, Some(&tag));
        response.put(HeaderName::Allow, ALLOW);
        response.put(HeaderName::Accept, ACCEPT);
        response.put(HeaderName::Supported, SUPPORTED);
        response.put(HeaderName::Allowed, ALLOW_EVENTS);
        response
    }

    // ---- subscriptions

    fn subscribe(
        &mut self,
        turn: &mut Turn<'_>,
        id: ServerId,
        flow: Flow,
        message: &Message,
        user: &str,
    ) {
        let hop = Hop::Flow(flow);
        let (package, event_id, expires) = match self.judge_subscription(message, user) {
            Ok(wish) => wish,
            Err(why) => return self.refuse(turn, id, message, &why),
        };
        let mut cx = self.context(turn);
        let (tag, first) = (cx.token(), (cx.random_u64() as u32 >> 8).max(1));
        let Some(dialog) = Dialog::uas(message, &tag, hop, first) else {
            return self.refuse(
                turn,
                id,
                message,
                &Refusal::new(400, "a SUBSCRIBE needs a Contact"),
            );
        };
        let number = self.out_of_dialog.number();
        self.out_of_dialog.by_tag.insert(tag, number);
        self.out_of_dialog.by_user.insert((user.to_owned(), number));
        self.out_of_dialog.by_flow.insert((flow, number));
        let subscription = Subscription {
            user: user.to_owned(),
            package,
            id: event_id,
            dialog,
            hop,
            expires: turn.now,
            version: 0,
            open: 0,
            behind: false,
        };
        self.out_of_dialog.subscriptions.insert(number, subscription);
        self.extend(turn, id, number, message, expires);
    }

    fn judge_subscription(
        &self,
        message: &Message,
        user: &str,
    ) -> Result<(&'static str, Option<String>, u32), Refusal> {
        let event = message.header(HeaderName::Event).unwrap_or_default();
        let (name, params) = event.split_once(';').unwrap_or((event, ""));
        let package = PACKAGES.into_iter().find(|p| p.eq_ignore_ascii_case(name.trim()));
        let package = package.ok_or_else(|| {
            Refusal::new(489, format!("the event package {:?} is not served", name.trim()))
        })?;
        let own = Uri::parse(message.request_uri()).is_ok_and(|u| u.user_unescaped() == user);
        if !own {
            return Err(Refusal::new(403, format!("{user} may watch only itself")));
        }
        if self.out_of_dialog.of_user(user).count() >= MAX_SUBSCRIPTIONS {
            return Err(Refusal::new(
                403,
                format!("{user} has {MAX_SUBSCRIPTIONS} subscriptions already"),
            ));
        }
        let event_id = Params::readable(params).get("id").map(str::to_owned);
        Ok((package, event_id, lifetime(message)?))
    }

    /// The 200 and the NOTIFY that follows at once (RFC 6665 §4.2.1.2).
    fn extend(
        &mut self,
        turn: &mut Turn<'_>,
        id: ServerId,
        number: u64,
        message: &Message,
        expires: u32,
    ) {
        let Some(subscription) = self.out_of_dialog.subscriptions.get_mut(&number) else { return };
        subscription.expires = turn.now + Duration::from_secs(u64::from(expires));
        self.out_of_dialog.timers.set(number, subscription.expires);
        let (hop, tag) = (subscription.hop, subscription.dialog.id.local_tag.clone());
        let cx = self.context(turn);
        let mut response = MessageWriter::response(message, 200, Some(&tag));
        response.put(HeaderName::Contact, cx.contact(hop, "watch"));
        response.put(HeaderName::Expires, expires);
        self.respond(turn, id, 200, response);
        if expires == 0 {
            return self.end_subscription(turn, number, Some("timeout"));
        }
        let watched = self.out_of_dialog.subscriptions.get(&number).filter(|s| s.package == "reg");
        if let Some(user) = watched.map(|s| s.user.clone()) {
            self.look_after(turn, &user);
        }
        self.notify(turn, number, None);
    }

    /// Whether a message belongs to a subscription, and came by its flow.
    pub(super) fn is_subscription(&self, hop: Hop, message: &Message) -> bool {
        let tag = message.to().and_then(|t| t.tag()).unwrap_or_default();
        let found = self
            .out_of_dialog
            .by_tag
            .get(tag)
            .and_then(|n| self.out_of_dialog.subscriptions.get(n));
        found.is_some_and(|s| s.dialog.matches(message) && s.hop == hop)
    }

    /// SUBSCRIBE within a subscription's dialog. Returns false if the tag names none.
    pub(super) fn resubscribe(
        &mut self,
        turn: &mut Turn<'_>,
        id: ServerId,
        hop: Hop,
        message: &Message,
    ) -> bool {
        let tag = message.to().and_then(|t| t.tag()).unwrap_or_default();
        let Some(number) = self.out_of_dialog.by_tag.get(tag).copied() else { return false };
        let Some(subscription) = self
            .out_of_dialog
            .subscriptions
            .get_mut(&number)
            .filter(|s| s.dialog.matches(message) && s.hop == hop)
        else {
            return false;
        };
        if subscription.dialog.accept(message).is_err() {
            self.refuse(
                turn,
                id,
                message,
                &Refusal::new(500, "CSeq is lower than one already seen"),
            );
            return true;
        }
        if message.method() != Method::Subscribe {
            self.refuse(turn, id, message, &Refusal::new(405, "a subscription takes SUBSCRIBE"));
            return true;
        }
        match lifetime(message) {
            Ok(expires) => self.extend(turn, id, number, message, expires),
            Err(why) => self.refuse(turn, id, message, &why),
        }
        true
    }

    fn notify(&mut self, turn: &mut Turn<'_>, number: u64, ending: Option<&str>) {
        let Some(subscription) = self.out_of_dialog.subscriptions.get_mut(&number) else { return };
        subscription.behind = subscription.open >= MAX_NOTIFIES && ending.is_none();
        if subscription.behind {
            return;
        }
        let (user, package, version) =
            (subscription.user.clone(), subscription.package, subscription.version);
        let (kind, body) = match package {
            "reg" => ("application/reginfo+xml", self.reginfo(turn.now, &user, version)),
            _ => {
                let none = || {
                    format!(
                        "Messages-Waiting: no\r\nMessage-Account: sip:{}@{}\r\n",
                        escape_user(&user),
                        self.config.domain
                    )
                };
                (
                    "application/simple-message-summary",
                    self.out_of_dialog.summaries.get(&user).cloned().unwrap_or_else(none),
                )
            }
        };
        let mut subscription =
            self.out_of_dialog.subscriptions.remove(&number).expect("looked up above");
        subscription.version += 1;
        subscription.open += 1;
        let mut cx = self.context(turn);
        let (branch, via) = cx.via(subscription.hop);
        let mut notify = subscription.dialog.request(Method::Notify, &via);
        notify.put(HeaderName::Contact, cx.contact(subscription.hop, "watch"));
        match &subscription.id {
            Some(id) => notify.put(HeaderName::Event, format_args!("{package};id={id}")),
            None => notify.put(HeaderName::Event, package),
        }
        let left = subscription.expires.saturating_duration_since(cx.now).as_secs();
        match ending {
            Some(reason) => notify
                .put(HeaderName::SubscriptionState, format_args!("terminated;reason={reason}")),
            None => {
                notify.put(HeaderName::SubscriptionState, format_args!("active;expires={left}"))
            }
        }
        let client = cx.request(
            Method::Notify,
            &branch,
            subscription.hop,
            notify.end_with(kind, body.as_bytes()),
        );
        cx.services.transaction_users.insert(client, TransactionUser::Subscription(number));
        self.out_of_dialog.subscriptions.insert(number, subscription);
    }

    /// RFC 3680 §5: the full state of one address-of-record.
    fn reginfo(&self, now: Instant, user: &str, version: u32) -> String {
        let bindings = self.services.registrar.bindings(now, user);
        let escape = |text: &str| {
            text.replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&quot;")
        };
        let aor = escape(&format!("sip:{}@{}", escape_user(user), self.config.domain));
        let elsewhere = self.location_queries.phones(user).iter().filter(|way| way.expires > now);
        let elsewhere: Vec<&Way> = elsewhere.collect();
        let none = bindings.is_empty() && elsewhere.is_empty();
        let state = if none { "terminated" } else { "active" };
        let mut xml = format!(
            "<?xml version=\"1.0\"?>\r\n<reginfo xmlns=\"urn:ietf:params:xml:ns:reginfo\" \
             version=\"{version}\" state=\"full\">\r\n\
             <registration aor=\"{aor}\" id=\"r\" state=\"{state}\">\r\n"
        );
        for (n, binding) in bindings.iter().enumerate() {
            let left = binding.expires.saturating_duration_since(now).as_secs();
            let _ = write!(
                xml,
                "<contact id=\"c{n}\" state=\"active\" event=\"registered\" expires=\"{left}\" \
                    callid=\"{}\" cseq=\"{}\"><uri>{}</uri></contact>\r\n",
                escape(&binding.call_id),
                binding.cseq,
                escape(&binding.contact)
            );
        }
        for (n, way) in elsewhere.iter().enumerate() {
            let left = way.expires.saturating_duration_since(now).as_secs();
            let _ = write!(
                xml,
                "<contact id=\"n{n}\" state=\"active\" event=\"registered\" \
                    expires=\"{left}\"><uri>{}</uri></contact>\r\n",
                escape(&way.contact)
            );
        }
        xml.push_str("</registration>\r\n</reginfo>\r\n");
        xml
    }

    /// A NOTIFY was answered, or never.
    pub(super) fn notify_answered(&mut self, turn: &mut Turn<'_>, number: u64, status: u16) {
        let Some(subscription) = self.out_of_dialog.subscriptions.get_mut(&number) else { return };
        if status < 200 {
            return;
        }
        subscription.open = subscription.open.saturating_sub(1);
        let behind = subscription.behind;
        // RFC 6665 §4.2.2: a subscriber that does not know it, or does not answer, has none.
        if matches!(status, 404 | 405 | 408 | 410 | 416 | 480 | 481 | 484 | 485 | 489 | 501 | 604) {
            self.end_subscription(turn, number, None);
        } else if behind {
            self.notify(turn, number, None);
        }
    }

    /// A connection is gone: nobody hears what is subscribed to over it (RFC 6665 §4.2.2).
    pub(super) fn end_subscriptions_on(&mut self, turn: &mut Turn<'_>, flow: Flow) {
        for number in self.out_of_dialog.on_flow(flow) {
            self.end_subscription(turn, number, None);
        }
    }

    fn end_subscription(&mut self, turn: &mut Turn<'_>, number: u64, reason: Option<&str>) {
        if let Some(reason) = reason {
            self.notify(turn, number, Some(reason));
        }
        self.out_of_dialog.timers.clear(&number);
        if let Some(subscription) = self.out_of_dialog.subscriptions.remove(&number) {
            self.out_of_dialog.by_tag.remove(&subscription.dialog.id.local_tag);
            self.out_of_dialog.by_user.remove(&(subscription.user.clone(), number));
            if let Hop::Flow(flow) = subscription.hop {
                self.out_of_dialog.by_flow.remove(&(flow, number));
            }
            if !self.watches_registration(&subscription.user) {
                self.location_queries.forget(&subscription.user);
            }
        }
    }

    /// Whether somebody watches the registration of `user`.
    pub(super) fn watches_registration(&self, user: &str) -> bool {
        self.out_of_dialog.of_user(user).any(|(_, s)| s.package == "reg")
    }

    /// Tells who watches the registration of `user` what it is now.
    pub(super) fn tell_watchers(&mut self, turn: &mut Turn<'_>, user: &str) {
        let watching = self.out_of_dialog.of_user(user).filter(|(_, s)| s.package == "reg");
        let watching: Vec<u64> = watching.map(|(n, _)| n).collect();
        watching.into_iter().for_each(|n| self.notify(turn, n, None));
    }

    pub(super) fn out_of_dialog_due(&mut self, turn: &mut Turn<'_>) {
        while let Some(number) = self.out_of_dialog.timers.pop(turn.now) {
            self.end_subscription(turn, number, Some("timeout"));
        }
    }

    /// A user's bindings changed: its subscribers are notified, and subscriptions over dead flows
    /// end.
    pub(super) fn registration_changed(&mut self, turn: &mut Turn<'_>, user: &str) {
        self.services.cluster.iter_mut().for_each(|cluster| cluster.touch(user));
        let alive =
            |hop: Hop, flows: &IdMap<_, _>| matches!(hop, Hop::Flow(f) if flows.contains_key(&f));
        let mine: Vec<(u64, bool, bool)> = self
            .out_of_dialog
            .of_user(user)
            .map(|(n, s)| (n, alive(s.hop, &self.services.flows), s.package == "reg"))
            .collect();
        for (number, alive, reg) in mine {
            match (alive, reg) {
                (false, _) => self.end_subscription(turn, number, None),
                (true, true) => self.notify(turn, number, None),
                (true, false) => {}
            }
        }
    }

    /// A trunk reports waiting messages without a subscription (RFC 3842 as PBXs do it), or another
    /// node passes on such a report: it goes to subscribers here and at the other nodes.
    pub(super) fn on_unsolicited_notify(
        &mut self,
        turn: &mut Turn<'_>,
        id: ServerId,
        from_node: bool,
        message: &Message,
    ) {
        let summary = message
            .header(HeaderName::Event)
            .and_then(|e| e.split(';').next())
            .is_some_and(|e| e.trim().eq_ignore_ascii_case("message-summary"));
        let body = message
            .body_of("application/simple-message-summary")
            .filter(|_| summary)
            .and_then(|b| std::str::from_utf8(b).ok());
        let dialled = Uri::parse(message.request_uri()).map(|u| u.number()).unwrap_or_default();
        let user = self.config.user_called(&dialled).map(|u| u.name.clone());
        let (Some(body), Some(user)) = (body.filter(|b| b.len() <= 2_048), user) else {
            let status = if summary { 404 } else { 489 };
            return self.refuse(
                turn,
                id,
                message,
                &Refusal::new(status, "only message-summary of a user of ours is taken"),
            );
        };
        if !from_node && let Err(why) = self.services.brakes.summary(turn.now, &user) {
            return self.refuse(turn, id, message, &why);
        }
        let clean: String =
            body.chars().filter(|c| !c.is_control() || matches!(c, '\r' | '\n' | '\t')).collect();
        if !from_node {
            self.pass_summary_on(turn, message.request_uri(), &clean);
        }
        self.out_of_dialog.summaries.insert(user.clone(), clean);
        let tag = token::<8>(&mut self.services.random);
        self.respond(turn, id, 200, MessageWriter::response(message, 200, Some(&tag)));
        let watching: Vec<u64> = self
            .out_of_dialog
            .of_user(&user)
            .filter(|(_, s)| s.package == "message-summary")
            .map(|(n, _)| n)
            .collect();
        watching.into_iter().for_each(|n| self.notify(turn, n, None));
    }
}

impl Gateway {
    /// Sends a user's waiting messages to every other node: subscribers may come there later.
    fn pass_summary_on(&mut self, turn: &mut Turn<'_>, uri: &str, summary: &str) {
        let Some(cluster) = &self.services.cluster else { return };
        let others: Vec<Hop> = cluster.others().map(Hop::Node).collect();
        for hop in others {
            let mut cx = self.context(turn);
            let (branch, via) = cx.via(hop);
            let own = format!("sip:{}", cx.config.domain);
            let mut notify = MessageWriter::request(Method::Notify, uri);
            notify.put(HeaderName::Via, via);
            notify.put(HeaderName::MaxForwards, 1);
            notify.put(HeaderName::From, format_args!("<{own}>;tag={}", cx.token()));
            notify.put(HeaderName::To, format_args!("<{uri}>"));
            notify.put(HeaderName::CallId, cx.token());
            notify.put(HeaderName::CSeq, "1 NOTIFY");
            notify.put(HeaderName::Event, "message-summary");
            notify.put(HeaderName::SubscriptionState, "active");
            notify.put(HeaderName::Contact, cx.contact(hop, "watch"));
            let bytes = notify.end_with("application/simple-message-summary", summary.as_bytes());
            cx.request(Method::Notify, &branch, hop, bytes);
        }
    }
}

fn lifetime(message: &Message) -> Result<u32, Refusal> {
    let asked = message.header(HeaderName::Expires).and_then(delta_seconds).unwrap_or(SUBSCRIPTION);
    if asked > 0 && asked < SHORTEST {
        return Err(Refusal::new(423, format!("subscriptions last at least {SHORTEST} s")));
    }
    Ok(asked.min(SUBSCRIPTION))
}
