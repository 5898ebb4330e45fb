//! Two calls that a transfer makes one: found, judged, joined, and ended together.

use super::{Gateway, Turn};
use crate::call::context::JoinRequest;
use crate::call::leg::Party;
use crate::call::transfer::Replaces;
use crate::call::{CallId, HangupBy, Output, State};
use crate::codec::Codec;
use crate::config::Refer;
use crate::media::LegId;
use crate::sip::dialog::Dialog;
use crate::sip::status::Refusal;

impl Gateway {
    /// Does what calls asked of each other in this turn.
    pub(super) fn settle_links(&mut self, turn: &mut Turn<'_>) {
        // Each round may bring more; joined calls ask a few times at most.
        for _ in 0..16 {
            let at = turn.out.iter().position(|o| matches!(o, Output::JoinRequest(_)));
            let Some(Output::JoinRequest(linked)) = at.map(|at| turn.out.remove(at)) else {
                return;
            };
            match linked {
                JoinRequest::Join { here, drop_here, there, drop_there, replaces } => {
                    self.join(turn, (here, drop_here), (there, drop_there), &replaces)
                }
                JoinRequest::Port { call, port } => {
                    self.with_call(turn, call, |call, cx| call.link_port(cx, port));
                }
                JoinRequest::Over { call, why, by } => {
                    self.with_call(turn, call, |call, cx| call.other_half_over(cx, by, why));
                }
            }
        }
    }

    fn join(
        &mut self,
        turn: &mut Turn<'_>,
        here: (CallId, Option<LegId>),
        there: (CallId, LegId),
        replaces: &Replaces,
    ) {
        match self.may_join(here, there, replaces) {
            Err(why) => {
                self.with_call(turn, here.0, |call, cx| {
                    call.joined(cx, Err(why.clone()));
                    if here.1.is_none() {
                        call.finish(cx, HangupBy::Us, why);
                    }
                });
            }
            Ok(Plan::Pass { number, replaces }) => {
                let Some(referrer) = here.1 else { return };
                self.with_call(turn, here.0, |call, cx| {
                    call.pass_refer(cx, referrer, &number, Some(&replaces))
                });
            }
            Ok(Plan::Join { codec }) => {
                self.with_call(turn, there.0, |call, cx| {
                    call.link(cx, here.0, codec, Some(there.1), true)
                });
                self.with_call(turn, here.0, |call, cx| {
                    call.link(cx, there.0, codec, here.1, false);
                    call.joined(cx, Ok(there.0));
                });
            }
        }
    }

    /// Only a dialog of the same party may be taken over, and only where two parties talk.
    fn may_join(
        &self,
        here: (CallId, Option<LegId>),
        there: (CallId, LegId),
        replaces: &Replaces,
    ) -> Result<Plan, Refusal> {
        let missing = || Refusal::new(481, "Replaces names no call that goes on here");
        let (a, b) = (
            self.calls.get(here.0).ok_or_else(missing)?,
            self.calls.get(there.0).ok_or_else(missing)?,
        );
        b.dialog_of(there.1).filter(|d| names(d, replaces)).ok_or_else(missing)?;
        if a.state != State::Talking
            || b.state != State::Talking
            || !b.final_response_sent
            || here.0 == there.0
            || a.transferor.is_some()
        {
            return Err(missing());
        }
        if replaces.early_only {
            return Err(Refusal::new(486, "the call to be replaced was answered already"));
        }
        let asking = a.party_of(here.1.unwrap_or(a.caller.end));
        let owner = b.party_of(there.1);
        if !same_party(asking, owner) {
            return Err(Refusal::new(
                403,
                "a call may be replaced by who is in it, and by nobody else",
            ));
        }
        let codecs = a.codec_kept(here.1).zip(b.codec_kept(Some(there.1))).ok_or_else(missing)?;
        if let Some(plan) = self.pass(a, here.1, b, there.1) {
            return Ok(plan);
        }
        let codec = if codecs == (Codec::Opus, Codec::Opus) { Codec::Opus } else { Codec::Pcmu };
        Ok(Plan::Join { codec })
    }

    /// Both parties that stay are behind one trunk that does transfers itself.
    fn pass(
        &self,
        a: &crate::call::Call,
        drop_here: Option<LegId>,
        b: &crate::call::Call,
        drop_there: LegId,
    ) -> Option<Plan> {
        let (kept_a, kept_b) = (a.opposite(drop_here?)?, b.opposite(drop_there)?);
        let (Party::Trunk(one), Party::Trunk(two)) = (a.party_of(kept_a)?, b.party_of(kept_b)?)
        else {
            return None;
        };
        if one != two || self.config.trunks.get(one)?.refer != Refer::Pass {
            return None;
        }
        let dialog = b.dialog_of(kept_b)?;
        let id = &dialog.id;
        // As the trunk sees its own dialog: its tag is the To tag of who it replaces (RFC 3891 §3).
        let replaces = Replaces {
            call_id: id.call_id.clone(),
            to_tag: id.remote_tag.clone(),
            from_tag: id.local_tag.clone(),
            early_only: false,
        };
        Some(Plan::Pass { number: b.number.clone(), replaces })
    }
}

enum Plan {
    Join { codec: Codec },
    Pass { number: String, replaces: Replaces },
}

/// Either side's way of writing the tags: user agents differ in whose view they take.
fn names(dialog: &Dialog, replaces: &Replaces) -> bool {
    let (ours, theirs) = (&dialog.id.local_tag, &dialog.id.remote_tag);
    let trunk_test_secret = replaces.to_tag == *ours && replaces.from_tag == *theirs;
    let crossed = replaces.to_tag == *theirs && replaces.from_tag == *ours;
    dialog.id.call_id == replaces.call_id && (trunk_test_secret || crossed)
}

fn same_party(a: Option<&Party>, b: Option<&Party>) -> bool {
    match (a, b) {
        (Some(Party::User { name: a, .. }), Some(Party::User { name: b, .. })) => a == b,
        (Some(Party::Trunk(a)), Some(Party::Trunk(b))) => a == b,
        _ => false,
    }
}
