//! Goodbyes of an earlier process that were not answered: sent again, or the end of the call they
//! belong to.

use super::{Gateway, Turn};
use crate::call::context::TransactionUser;
use crate::call::farewells::FarewellSnapshot;
use crate::call::{CallId, Output};
use crate::media::LegId;
use crate::sip::dialog::HopSnapshot;
use crate::sip::message::Message;
use crate::sip::parse::Framing;
use crate::sip::status::Method;
use crate::sip::transaction::{Hop, T1X64};
use bytes::Bytes;
use std::time::{Duration, Instant};

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
        self.services.farewells.has_changed()
    }

    /// Returns the goodbyes that were sent since the last time and not answered, as values; `None`
    /// for one that is not needed any more.
    pub fn changed_farewells(&mut self) -> Vec<(String, Option<FarewellSnapshot>)> {
        let changed = self.services.farewells.take_changed();
        let (transactions, config) = (&self.services.transactions, &self.config);
        let users = &self.services.transaction_users;
        let value = |client| {
            let (hop, bytes) = transactions.sent(client)?;
            let (proved, realms) = users.get(&client).and_then(proved).unzip();
            let trunk = proved.or_else(|| match hop {
                Hop::Tls(_, number) => config.trunks.numbered(number).map(|t| t.name.clone()),
                _ => None,
            });
            let (hop, realms) = (HopSnapshot::of(hop), realms.unwrap_or_default());
            Some(FarewellSnapshot { hop, trunk, realms, bytes: bytes.to_vec() })
        };
        changed.into_iter().map(|(name, client)| (name, client.and_then(value))).collect()
    }

    /// An earlier process sent this `age` ago, and had no answer. Returns whether it was sent
    /// again, as it was, and [`changed_farewells`](Self::changed_farewells) tells of its end.
    pub fn say_farewell(
        &mut self,
        now: Instant,
        (value, age): (FarewellSnapshot, Duration),
        out: &mut Vec<Output>,
    ) -> bool {
        let FarewellSnapshot { hop, trunk, realms, bytes } = value;
        let Ok(message) = Message::parse(bytes, Framing::WebSocket) else { return false };
        let number = trunk.as_ref().and_then(|name| self.config.trunks.get(name)).map(|t| t.number);
        let (hop, method) = (hop.restore(number), message.method());
        let ends = matches!(method, Method::Bye | Method::Cancel);
        if age >= T1X64 || hop == Hop::Suspended || !ends {
            return false;
        }
        let turn = &mut Turn::new(now, out);
        let before = turn.out.len();
        let again = match self.talks_again(&message) {
            Some((call, end)) => {
                self.with_call(turn, call, |call, cx| call.was_left(cx, end, &message));
                false
            }
            None => self.say_again(turn, hop, &message, (trunk, realms)),
        };
        self.follow_up(turn);
        self.sweep(turn.out);
        self.record_turn(now, None, &turn.out[before.min(turn.out.len())..]);
        again
    }

    /// The call that continues although a BYE of it was sent.
    fn talks_again(&self, bye: &Message) -> Option<(CallId, LegId)> {
        let from = bye.from().filter(|_| bye.method() == Method::Bye)?;
        let (call, end) = *self.services.dialogs.get(from.tag()?)?;
        self.calls.get(call).filter(|call| call.talks_in(end, bye)).map(|_| (call, end))
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
}
