//! Challenges to requests of ours other than a branch's INVITE and a REGISTER, which know their own
//! (RFC 3261 §22). Only a trunk's are answered, on the way to that trunk, and within a dialog only
//! for realms that challenged its INVITE: a callee behind a trunk learns nothing.

use super::context::{InDialogRequest, TransactionUser};
use super::leg::Leg;
use super::{Call, CallContext, CallPhase, Party};
use crate::media::LegId;
use crate::sip::digest::Answering;
use crate::sip::message::Message;
use crate::sip::parse::{Framing, HeaderName};
use crate::sip::resubmit::resubmit;
use crate::sip::status::Reason;
use crate::sip::transaction::ClientId;

/// A request of ours that was challenged once, and continues under the same user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Challenged {
    /// The transaction user of the request that is sent again.
    pub user: TransactionUser,
    /// The credentials it is sent with.
    pub answering: Answering,
}

/// Returns the credentials of the INVITE of `client`, which the ACK to its answer repeats (RFC 3261
/// §13.2.2.4); empty if `leg` was not challenged.
pub(super) fn repeated(
    cx: &CallContext<'_>,
    client: Option<ClientId>,
    leg: &Leg,
) -> Vec<(HeaderName, String)> {
    let sent = client
        .filter(|_| !leg.proved_realms.is_empty())
        .and_then(|client| cx.services.transactions.sent(client))
        .and_then(|(_, bytes)| Message::parse(bytes.to_vec(), Framing::WebSocket).ok());
    let Some(sent) = sent else { return Vec::new() };
    let proves = |name| matches!(name, HeaderName::Authorization | HeaderName::ProxyAuthorization);
    sent.headers()
        .filter(|(name, ..)| proves(*name))
        .map(|(name, _, value)| (name, value.to_owned()))
        .collect()
}

/// The request of `client` again, with an answer to `challenge` by what is configured of `trunk`;
/// its transaction and CSeq. `None` if the challenge is not to be answered.
pub(crate) fn answer(
    cx: &mut CallContext<'_>,
    client: ClientId,
    challenge: &Message,
    trunk: &str,
    cseq: Option<u32>,
    challenged: Challenged,
) -> Option<(ClientId, u32)> {
    let Challenged { user, mut answering } = challenged;
    let trunk = cx.config.trunks.get(trunk)?;
    let (name, password) = (trunk.username.as_ref()?, trunk.password.as_ref()?);
    let (hop, bytes) = cx.services.transactions.sent(client)?;
    let sent = Message::parse(bytes.to_vec(), Framing::WebSocket).ok()?;
    if !answering.take(challenge) {
        return None;
    }
    let (method, uri, cnonce) = (sent.method(), sent.request_uri(), cx.token());
    let credentials = answering.credentials(name, password.reveal(), uri, method, &cnonce);
    let cseq = cseq.unwrap_or(sent.cseq()?.number + 1);
    let (branch, via) = cx.via(hop);
    let again = resubmit(&bytes, &via, cseq, &credentials)?;
    let next = cx.request(method, &branch, hop, again);
    cx.services.transaction_users.remove(&client);
    let user = TransactionUser::Challenged(Box::new(Challenged { user, answering }));
    cx.services.transaction_users.insert(next, user);
    Some((next, cseq))
}

impl Call {
    /// Answers a challenge to a request within the dialog of `end`. Returns false if it is a
    /// refusal.
    pub(crate) fn answer_challenge(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        asked: InDialogRequest,
        client: ClientId,
        message: &Message,
        answering: Option<Answering>,
    ) -> bool {
        let (call, over) = (self.id, self.state == CallPhase::Over);
        let Some(leg) = self.leg_of(end).filter(|_| !over) else { return false };
        let Party::Trunk(trunk) = leg.party.clone() else { return false };
        let answering = answering.unwrap_or_else(|| Answering::for_realms(&leg.proved_realms));
        let user = TransactionUser::Leg(call, end, asked);
        let Some(cseq) = self.next_cseq(cx, end, client) else { return false };
        let challenged = Challenged { user, answering };
        let Some((next, cseq)) = answer(cx, client, message, &trunk, Some(cseq), challenged) else {
            return false;
        };
        self.took_cseq(cx, end, next, cseq);
        if let Some(leg) = self.leg_mut(end)
            && let Some(open) = leg.open.as_mut().filter(|o| o.client == client)
        {
            (open.client, open.cseq) = (next, cseq);
        }
        true
    }

    /// The CSeq that follows in the dialog the request of `client` was of.
    fn next_cseq(&self, cx: &CallContext<'_>, end: LegId, client: ClientId) -> Option<u32> {
        let (_, bytes) = cx.services.transactions.sent(client)?;
        let sent = Message::parse(bytes.to_vec(), Framing::WebSocket).ok()?;
        let tag = sent.to()?.tag().unwrap_or_default();
        let own = self.dialog_of(end).filter(|d| d.id.remote_tag == tag);
        let early = || {
            let branch = self.branches.of_end(end)?;
            branch.early_dialogs.iter().map(|f| &f.dialog).find(|d| d.id.remote_tag == tag)
        };
        Some(own.or_else(early)?.local_cseq + 1)
    }

    /// The dialog's next request has this CSeq.
    fn took_cseq(&mut self, cx: &CallContext<'_>, end: LegId, client: ClientId, cseq: u32) {
        let sent = cx.services.transactions.sent(client);
        let Some(sent) =
            sent.and_then(|(_, b)| Message::parse(b.to_vec(), Framing::WebSocket).ok())
        else {
            return;
        };
        let tag = sent.to().and_then(|t| t.tag()).unwrap_or_default();
        if let Some(branch) = self.branches.of_end_mut(end)
            && let Some(early) = branch.early_dialog_mut(tag)
        {
            early.dialog.local_cseq = cseq;
        }
        if let Some(dialog) = self.leg_mut(end).and_then(|l| l.dialog.as_mut())
            && dialog.id.remote_tag == tag
        {
            dialog.local_cseq = cseq;
        }
    }
}

impl Leg {
    /// Sends a BYE; of the responses to it only a trunk's challenge matters.
    pub(super) fn say_goodbye(
        &self,
        cx: &mut CallContext<'_>,
        mut bye: crate::sip::MessageWriter,
        branch: &str,
        why: &Reason,
    ) -> ClientId {
        bye.reason(why);
        let client = cx.request(crate::sip::Method::Bye, branch, self.hop, bye.end());
        if let Party::Trunk(trunk) = &self.party
            && !self.proved_realms.is_empty()
        {
            let user = TransactionUser::Goodbye {
                trunk: trunk.clone(),
                realms: self.proved_realms.clone(),
            };
            cx.services.transaction_users.insert(client, user);
        }
        client
    }
}
