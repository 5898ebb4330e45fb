//! Which challenges to requests of ours are answered, and by whose credentials (RFC 3261 §22).

use super::{Gateway, Turn};
use crate::call::challenge::{Challenged, answer};
use crate::call::context::TransactionUser;
use crate::sip::digest::Answering;
use crate::sip::message::Message;
use crate::sip::transaction::ClientId;

/// Whoever waits for a response, and what it has answered so far if that is known.
pub(super) fn opened(user: TransactionUser) -> (TransactionUser, Option<Answering>) {
    match user {
        TransactionUser::Challenged(challenged) => {
            let Challenged { user, answering } = *challenged;
            (user, Some(answering))
        }
        user => (user, None),
    }
}

impl Gateway {
    /// Answers a 401 or 407 to a request towards a trunk. Returns false if it is a refusal that
    /// goes to whoever waits for the response. A branch's INVITE and a REGISTER answer for
    /// themselves, and browsers are never answered.
    pub(super) fn answer_challenge(
        &mut self,
        turn: &mut Turn<'_>,
        client: ClientId,
        user: &TransactionUser,
        answering: Option<Answering>,
        message: &Message,
    ) -> bool {
        if !matches!(message.status(), 401 | 407) {
            return false;
        }
        let (trunk, fresh) = match user {
            TransactionUser::Leg(call, end, asked) => {
                let (end, asked) = (*end, *asked);
                let answered = self.with_call(turn, *call, |call, cx| {
                    call.answer_challenge(cx, end, asked, client, message, answering)
                });
                return answered == Some(true);
            }
            TransactionUser::Goodbye { trunk, realms } => (trunk, Answering::for_realms(realms)),
            TransactionUser::Relay { trunk: Some(trunk), .. }
            | TransactionUser::Trunk { name: trunk, registrar: None, .. } => {
                let realm = self.config.trunks.get(trunk).and_then(|t| t.realm.as_deref());
                (trunk, Answering::for_realm(realm))
            }
            TransactionUser::Branch(..)
            | TransactionUser::Trunk { .. }
            | TransactionUser::Relay { .. }
            | TransactionUser::Subscription(_)
            | TransactionUser::Challenged(_) => return false,
        };
        let answering = answering.unwrap_or(fresh);
        let challenged = Challenged { user: user.clone(), answering };
        let mut cx = self.context(turn);
        answer(&mut cx, client, message, trunk, None, challenged).is_some()
    }
}
