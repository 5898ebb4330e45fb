//! A page that was reloaded takes its call up again: an INVITE with Replaces (RFC 3891), of the
//! account whose leg it names, puts a dialog and a browser of its own in the place of the leg's.
//!
//! What holds of it:
//! - The leg stays who it is to the rest of the call: the other side is not renegotiated, and what
//!   is played to it continues.
//! - Nothing of the leg changes unless the INVITE is accepted.
//! - A dialog that was replaced stands for its leg in a later Replaces, and for nothing else: the
//!   page may have been gone again before it learned of the newer one.

use super::bodies::description;
use super::leg::{Acceptance, Leg, local};
use super::reinvite::not_acceptable;
use super::retries::Retries;
use super::transfer_state::Replaces;
use super::{Call, CallContext, CallPhase};
use crate::cdr::Party;
use crate::codec::Codec;
use crate::event::Event;
use crate::media::LegId;
use crate::sdp::Direction;
use crate::sdp::offer_answer::{LegKind, Local, Negotiated, Negotiation};
use crate::sip::capabilities::Capabilities;
use crate::sip::dialog::{Dialog, DialogId};
use crate::sip::message::Message;
use crate::sip::session_timer::Granted;
use crate::sip::status::{Reason, Refusal};
use crate::sip::transaction::{Hop, ServerId};
use crate::worker::WorkerCommand;

/// Dialogs a leg had before that may still be named.
const MAX_FORMER: usize = 4;

/// An INVITE that is to take the place of a leg's dialog.
pub(crate) struct Replacement<'a> {
    /// Its transaction.
    pub(crate) server: ServerId,
    /// Where it came from.
    pub(crate) hop: Hop,
    /// The INVITE.
    pub(crate) invite: &'a Message,
    /// The dialog it names.
    pub(crate) replaces: &'a Replaces,
    /// Who sent it: the account of the leg.
    pub(crate) party: Party,
}

/// What is agreed with the new page.
struct Renewed {
    negotiation: Negotiation,
    /// What its offer and our answer settled; `None` if the 200 brings our offer.
    negotiated: Option<Negotiated>,
    sdp: String,
    granted: Option<Granted>,
    dialog: Dialog,
}

/// Either side's way of writing the tags: user agents differ in whose view they take.
pub(crate) fn names(id: &DialogId, replaces: &Replaces) -> bool {
    let (ours, theirs) = (&id.local_tag, &id.remote_tag);
    let straight = replaces.to_tag == *ours && replaces.from_tag == *theirs;
    let crossed = replaces.to_tag == *theirs && replaces.from_tag == *ours;
    id.call_id == replaces.call_id && (straight || crossed)
}

impl Leg {
    /// Whether its dialog, or one that it replaced, is meant.
    pub(crate) fn is_named_by(&self, replaces: &Replaces) -> bool {
        let current = self.dialog.iter().map(|dialog| &dialog.id);
        current.chain(&self.former).any(|id| names(id, replaces))
    }

    /// What our descriptions say to another page: the same address and stream, ICE of its own.
    fn local_anew(&self, cx: &mut CallContext<'_>, hop: Hop) -> Local {
        let before = &self.negotiation.local;
        let fresh = local(cx, LegKind::Browser, hop, before.address.ip());
        Local {
            address: before.address,
            more_addresses: before.more_addresses.clone(),
            tcp: before.tcp,
            ssrc: before.ssrc,
            cname: before.cname.clone(),
            ..fresh
        }
    }

    /// Answers the offer of another page, or offers if it made none; the leg stays as it is.
    fn describe_anew(
        &self,
        cx: &CallContext<'_>,
        invite: &Message,
        codecs: &[Codec],
        local: Local,
    ) -> Result<(Negotiation, Option<Negotiated>, String), Refusal> {
        let mut negotiation = Negotiation::new(local);
        negotiation.playback_rate = self.negotiation.playback_rate;
        let Some(body) = description(invite)? else {
            let sdp = negotiation.offer(codecs);
            return Ok((negotiation, None, sdp));
        };
        negotiation.receive_offer(body).map_err(not_acceptable)?;
        let answer = negotiation.answer(codecs, Direction::SendRecv);
        let (sdp, negotiated) = answer.map_err(not_acceptable)?;
        cx.media_policy().check(self, &negotiated)?;
        Ok((negotiation, Some(negotiated), sdp))
    }

    /// Leaves its dialog, which still stands for it if a Replaces names it. Its page gets a BYE, if
    /// it is still there.
    fn leave_dialog(&mut self, cx: &mut CallContext<'_>, call: super::CallId) {
        self.bye(cx, call, &Reason::new(200, "the call continues in another page"));
        if self.former.len() == MAX_FORMER {
            let oldest = self.former.remove(0);
            cx.services.dialogs.remove(&oldest.local_tag);
        }
        self.former.extend(self.dialog.take().map(|dialog| dialog.id));
    }

    /// Is another page's from now on, of which nothing is known but its INVITE.
    fn become_page(&mut self, cx: &mut CallContext<'_>, party: Party, hop: Hop, invite: &Message) {
        self.account = cx.account(&party, hop);
        self.party = party;
        (self.hop, self.signalling) = (hop, cx.remote_ip(hop));
        (self.flow_lost, self.page_left, self.successor, self.probe) = (false, false, None, None);
        (self.silent, self.unheard) = (false, false);
        self.peer = Capabilities::default();
        self.peer.learn(invite);
        self.session_ends = None;
        self.retries = Retries::default();
        self.owns_call_id = false;
        // Whoever subscribed to the transfer is gone.
        self.to_tell.clear();
        self.notifying = false;
        self.last_ack = None;
        self.forget_unanswered();
        self.first_client = cx.services.transactions.next_client();
    }
}

impl Call {
    /// An INVITE of the leg's own account takes its place.
    pub(crate) fn replace(&mut self, cx: &mut CallContext<'_>, end: LegId, by: Replacement<'_>) {
        match self.judge_replacement(cx, end, &by) {
            Ok(renewed) => self.take_replacement(cx, end, by, renewed),
            Err(why) => cx.refuse_with(by.server, by.invite, &why),
        }
    }

    /// Whether the leg of `end` is in a dialog that another may replace (RFC 3891 §3).
    fn may_be_replaced(&self, end: LegId, replaces: &Replaces) -> Result<(), Refusal> {
        if self.state == CallPhase::Over {
            return Err(Refusal::new(603, "the call to be replaced has ended"));
        }
        if self.transfer.transferor().is_some_and(|transferor| transferor.leg.end == end) {
            return Err(Refusal::new(491, "the call is being handed over").retry_after(2));
        }
        // Early dialogs are the initiator's to replace, and none is replaced here: a page that is
        // back while it rings is rung by its registration.
        let talks = if end == self.caller.end {
            self.uas.is_finished()
        } else {
            self.opposite(self.caller.end) == Some(end)
        };
        if !talks {
            return Err(Refusal::new(481, "the call to be replaced was not answered"));
        }
        if replaces.early_only {
            return Err(Refusal::new(486, "the call to be replaced was answered already"));
        }
        Ok(())
    }

    fn judge_replacement(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        by: &Replacement<'_>,
    ) -> Result<Renewed, Refusal> {
        let gone = || Refusal::new(481, "Replaces names no active call");
        self.may_be_replaced(end, by.replaces)?;
        let codecs = self.codecs_for(cx, end);
        let leg = self.leg_of(end).filter(|leg| leg.dialog.is_some()).ok_or_else(gone)?;
        let granted = self.grant(cx, leg, by.invite)?;
        let local = leg.local_anew(cx, by.hop);
        let (negotiation, negotiated, sdp) = leg.describe_anew(cx, by.invite, &codecs, local)?;
        let first = (cx.random_u64() as u32 >> 8).max(1);
        let dialog = Dialog::uas(by.invite, &cx.marked_token(), by.hop, first)
            .ok_or_else(|| Refusal::new(400, "an INVITE needs a Contact"))?;
        Ok(Renewed { negotiation, negotiated, sdp, granted, dialog })
    }

    fn take_replacement(
        &mut self,
        cx: &mut CallContext<'_>,
        end: LegId,
        by: Replacement<'_>,
        renewed: Renewed,
    ) {
        let (call, worker) = (self.id, self.media.worker());
        let Replacement { server, hop, invite, party, .. } = by;
        let Renewed { negotiation, negotiated, sdp, granted, dialog } = renewed;
        if let Some(branch) = self.branches.of_end_mut(end) {
            // What came before its answer is as past as that.
            branch.early_dialogs.clear();
        }
        let Some(leg) = self.leg_mut(end) else { return };
        leg.leave_dialog(cx, call);
        leg.become_page(cx, party, hop, invite);
        leg.negotiation = negotiation;
        leg.local_tag.clone_from(&dialog.id.local_tag);
        leg.enter(cx, call, dialog);
        let ice = leg.negotiation.local.ice.clone().unwrap_or_default();
        cx.media(worker, WorkerCommand::Renew { session: call.0, end, ice });
        if let Some(negotiated) = &negotiated {
            leg.configure(cx, call, worker, negotiated);
        }
        let with = Acceptance { sdp: Some(&sdp), expects_answer: negotiated.is_none(), granted };
        leg.accept(cx, call, server, invite, with);
        let who = leg.party.clone();
        let remote = cx.remote_ip(hop);
        self.cdr.remotes[usize::from(end != self.cdr.caller_end)] = remote;
        cx.note(Event::PageReplaced { call, who });
    }
}
