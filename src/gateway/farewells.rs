//! Goodbyes that were not answered: those of an earlier process are sent again, or are the end of
//! the call they belong to; those that browsers are owed are paid when these are back.

use super::edge_proxy::{PassedFor, passed_for};
use super::{Gateway, Turn};
use crate::call::context::TransactionUser;
use crate::call::farewells::{FarewellSnapshot, SentFarewell};
use crate::call::owed_goodbyes::OwedGoodbye;
use crate::call::{CallId, Output};
use crate::media::LegId;
use crate::registrar::Binding;
use crate::sip::cause::reason_of;
use crate::sip::dialog::{DialogId, HopSnapshot};
use crate::sip::message::Message;
use crate::sip::parse::Framing;
use crate::sip::status::Method;
use crate::sip::transaction::{ClientId, Hop, T1X64};
use crate::sip::uri::same_contact;
use bytes::Bytes;
use std::time::{Duration, Instant};

/// Before the tag by which a goodbye is owed, in its name.
const OWED: &str = "OWED ";

/// The trunk whose challenge to a goodbye is answered, and for which realms.
fn proved(user: &TransactionUser) -> Option<(String, Vec<String>)> {
    match user {
        TransactionUser::Goodbye { trunk, realms } => Some((trunk.clone(), realms.clone())),
        TransactionUser::Challenged(challenged) => proved(&challenged.user),
        _ => None,
    }
}

impl Gateway {
    /// Whether [`changed_farewells`](Self::changed_farewells) has something to tell.
    pub(crate) fn has_changed_farewells(&self) -> bool {
        self.services.farewells.has_changed() || self.services.owed_goodbyes.has_changed()
    }

    /// Whether it tells of one that nobody is about to answer.
    pub(crate) fn has_urgent_farewells(&self) -> bool {
        self.services.owed_goodbyes.is_urgent()
    }

    /// Returns the goodbyes that were sent since the last time and not answered, or that are owed,
    /// as values; `None` for one that is not needed any more.
    pub fn changed_farewells(&mut self, now: Instant) -> Vec<(String, Option<FarewellSnapshot>)> {
        let sent = self.services.farewells.take_changed();
        let owed = self.services.owed_goodbyes.take_changed(now);
        let sent = sent.into_iter().map(|(name, client)| {
            let value = client.and_then(|client| self.sent_farewell(client));
            (name, value.map(FarewellSnapshot::Sent))
        });
        let owed = owed
            .into_iter()
            .map(|(tag, value)| (format!("{OWED}{tag}"), value.map(FarewellSnapshot::Owed)));
        sent.chain(owed).collect()
    }

    fn sent_farewell(&self, client: ClientId) -> Option<SentFarewell> {
        let (hop, bytes) = self.services.transactions.sent(client)?;
        let user = self.services.transaction_users.get(&client);
        let (named, realms) = user.and_then(proved).unzip();
        let trunk = named.or_else(|| match hop {
            Hop::Tls(_, number) => self.config.trunks.numbered(number).map(|t| t.name.clone()),
            _ => None,
        });
        let (hop, realms) = (HopSnapshot::of(hop), realms.unwrap_or_default());
        Some(SentFarewell { hop, trunk, realms, bytes: bytes.to_vec() })
    }

    /// An earlier process sent this `age` ago, and had no answer, or owed it then. Returns whether
    /// it was sent again, as it was, or is owed still, and
    /// [`changed_farewells`](Self::changed_farewells) tells of its end.
    pub fn say_farewell(
        &mut self,
        now: Instant,
        (value, age): (FarewellSnapshot, Duration),
        out: &mut Vec<Output>,
    ) -> bool {
        let turn = &mut Turn::new(now, out);
        let before = turn.out.len();
        let goes_on = match value {
            FarewellSnapshot::Sent(sent) => self.say_sent(turn, sent, age),
            FarewellSnapshot::Owed(owed) => {
                let owed = owed.restore(age);
                owed.is_some_and(|(owed, left)| self.owe_again(turn, owed, left))
            }
        };
        self.follow_up(turn);
        self.sweep(turn.out);
        self.record_turn(now, None, &turn.out[before.min(turn.out.len())..]);
        goes_on
    }

    fn say_sent(&mut self, turn: &mut Turn<'_>, sent: SentFarewell, age: Duration) -> bool {
        let SentFarewell { hop, trunk, realms, bytes } = sent;
        let Ok(message) = Message::parse(bytes, Framing::WebSocket) else { return false };
        let number = trunk.as_ref().and_then(|name| self.config.trunks.get(name)).map(|t| t.number);
        let (hop, method) = (hop.restore(number), message.method());
        let ends = matches!(method, Method::Bye | Method::Cancel);
        if age >= T1X64 || hop == Hop::Suspended || !ends {
            return false;
        }
        let tags = || {
            let (from, to) = (message.from()?, message.to()?);
            Some((from.tag()?.to_owned(), to.tag().unwrap_or_default().to_owned()))
        };
        let tags = tags().filter(|_| method == Method::Bye);
        match tags.and_then(|(own, peers)| self.talks_again(&own, &peers)) {
            Some((call, end)) => {
                let why = reason_of(&message);
                self.with_call(turn, call, |call, cx| call.was_left(cx, end, why));
                false
            }
            None => self.say_again(turn, hop, &message, (trunk, realms)),
        }
    }

    /// A browser was owed this by an earlier process, and is still.
    fn owe_again(&mut self, turn: &mut Turn<'_>, owed: OwedGoodbye, left: Duration) -> bool {
        let DialogId { local_tag, remote_tag, .. } = owed.dialog.id.clone();
        if let Some((call, end)) = self.talks_again(&local_tag, &remote_tag) {
            self.with_call(turn, call, |call, cx| call.was_left(cx, end, owed.why));
            return false;
        }
        if self.services.owed_goodbyes.has(&local_tag) {
            // Its call was restored to be ended, and owes it by itself.
            return false;
        }
        self.services.owed_goodbyes.owe(owed, turn.now + left, None);
        self.services.owed_goodbyes.note_taken(&local_tag);
        true
    }

    /// The call that continues although a BYE was said in the dialog with these tags.
    fn talks_again(&self, own: &str, peers: &str) -> Option<(CallId, LegId)> {
        let (call, end) = *self.services.dialogs.get(own)?;
        let talks = self.calls.get(call).filter(|call| call.talks_in(end, (own, peers)));
        talks.map(|_| (call, end))
    }

    fn say_again(
        &mut self,
        turn: &mut Turn<'_>,
        hop: Hop,
        message: &Message,
        (trunk, realms): (Option<String>, Vec<String>),
    ) -> bool {
        let branch = message.via().and_then(|via| via.branch().map(str::to_owned));
        let Some(branch) = branch else { return false };
        let method = message.method();
        if self.services.transactions.has_client(method, &branch) {
            // Its call was restored to be ended, and has said so.
            return false;
        }
        let bytes: Bytes = message.to_bytes().to_vec().into();
        let client = self.context(turn).request(method, &branch, hop, bytes);
        self.services.farewells.note_taken(client);
        if let Some(trunk) = trunk.filter(|_| !realms.is_empty()) {
            let user = TransactionUser::Goodbye { trunk, realms };
            self.services.transaction_users.insert(client, user);
        }
        true
    }

    /// A browser is back: it gets the goodbyes that it missed.
    pub(super) fn pay_browser(&mut self, turn: &mut Turn<'_>, user: &str, binding: &Binding) {
        let hop = Hop::Flow(binding.flow);
        for owed in self.services.owed_goodbyes.of_user(user, hop) {
            let own = match (&owed.to.instance, &binding.instance) {
                (Some(own), Some((instance, _))) => own == instance,
                (None, None) => same_contact(&owed.dialog.remote_target, &binding.contact),
                _ => false,
            };
            if own && self.is_account(turn.now, binding.flow, user, &owed.to.place) {
                self.pay(turn, owed, hop, None);
            }
        }
    }

    /// What was said to browsers of this user was not answered: those that are back get it.
    pub(super) fn pay_user(&mut self, turn: &mut Turn<'_>, user: &str) {
        for binding in self.services.registrar.bindings(turn.now, user) {
            self.pay_browser(turn, user, &binding);
        }
    }

    /// Somebody asks for something in a dialog whose end it has not heard of: it does now. Returns
    /// why that ended.
    pub(super) fn pay_asker(
        &mut self,
        turn: &mut Turn<'_>,
        hop: Hop,
        message: &Message,
    ) -> Option<String> {
        let owed = self.services.owed_goodbyes.named_by(message)?;
        let (owed, why) = (owed.clone(), owed.why.text.clone());
        let route = match hop {
            Hop::Flow(flow) if self.is_account(turn.now, flow, &owed.to.user, &owed.to.place) => {
                None
            }
            Hop::Node(_) => match passed_for(message)? {
                PassedFor::User { route, .. } => Some(route),
                PassedFor::Trunk(_) => return None,
            },
            _ => return None,
        };
        let tag = &owed.dialog.id.local_tag;
        if message.method() == Method::Bye {
            // They cross, and both know.
            self.services.owed_goodbyes.forget(tag);
        } else if !self.services.owed_goodbyes.was_said_by(tag, hop) {
            self.pay(turn, owed, hop, route.as_deref());
        }
        Some(why)
    }

    fn pay(&mut self, turn: &mut Turn<'_>, owed: OwedGoodbye, hop: Hop, route: Option<&str>) {
        let OwedGoodbye { mut dialog, why, .. } = owed;
        dialog.hop = hop;
        route.iter().for_each(|route| dialog.route_set = vec![(*route).to_owned()]);
        let mut cx = self.context(turn);
        let (branch, via) = cx.via(hop);
        let mut bye = dialog.request(Method::Bye, &via);
        bye.reason(&why);
        let client = cx.request(Method::Bye, &branch, hop, bye.end());
        cx.services.owed_goodbyes.said(&dialog, client, hop);
    }
}
