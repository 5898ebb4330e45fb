//! Two calls that a transfer makes one: found, judged, joined, and ended together.

use super::{Gateway, Turn};
use crate::call::context::{Followup, Join};
use crate::call::transfer_state::Replaces;
use crate::call::{Call, CallId, CallPhase, EndReason, HangupBy};
use crate::cdr::Party;
use crate::codec::Codec;
use crate::config::Refer;
use crate::media::LegId;
use crate::sip::status::Refusal;

/// Most that comes of one thing that a call asks of another in a turn.
const MOST_ASKED: usize = 16;

impl Gateway {
    /// Does what calls have left to be done in this turn.
    pub(super) fn follow_up(&mut self, turn: &mut Turn<'_>) {
        let (mut asked, most) = (0, MOST_ASKED * turn.followups.len());
        while let Some(followup) = turn.followups.pop_front() {
            if let Followup::Over(call) = followup {
                self.no_longer_young(call);
                self.calls.over(call);
                continue;
            }
            // Each may bring more; joined calls ask a few times at most.
            asked += 1;
            if asked > most {
                continue;
            }
            match followup {
                Followup::Over(_) => {}
                Followup::Join(join) => self.join(turn, &join),
                Followup::ConnectOther { call, port } => {
                    self.with_call(turn, call, |call, cx| call.on_other_port(cx, port));
                }
                Followup::EndOther { call, of, why } => {
                    self.with_call(turn, call, |call, cx| call.other_half_over(cx, of, why));
                }
                Followup::OtherAnswered { call, of } => {
                    self.with_call(turn, call, |call, cx| call.other_half_answered(cx, of));
                }
            }
        }
    }

    /// A call of a lost node was taken over. If it is half of a joined call it meets the other
    /// half, or waits for it.
    pub(super) fn reunite(&mut self, turn: &mut Turn<'_>, id: CallId) {
        let Some(other) = self.calls.get(id).and_then(Call::other_half) else { return };
        let there = self
            .calls
            .get(other)
            .map(|there| there.state() != CallPhase::Over && there.other_half() == Some(id));
        match there {
            None => drop(self.with_call(turn, id, |call, cx| call.await_other_half(cx))),
            Some(false) => drop(self.with_call(turn, id, |call, cx| call.other_half_missing(cx))),
            Some(true) => [id, other].into_iter().for_each(|half| {
                self.with_call(turn, half, |call, cx| call.meet_other_half(cx));
            }),
        }
    }

    fn join(&mut self, turn: &mut Turn<'_>, join: &Join) {
        let Join { here, drop_here, there, drop_there, .. } = *join;
        match self.may_join(join) {
            Err(why) => {
                self.with_call(turn, here, |call, cx| {
                    call.on_joined(cx, Err(why.clone()));
                    if drop_here.is_none() {
                        call.finish(cx, EndReason::refused(HangupBy::Us, why));
                    }
                });
            }
            Ok(JoinPlan::Pass { number, replaces }) => {
                let Some(referrer) = drop_here else { return };
                self.with_call(turn, here, |call, cx| {
                    call.pass_refer(cx, referrer, &number, Some(&replaces))
                });
            }
            Ok(JoinPlan::HandOver { codec, number }) => {
                let Some(referrer) = drop_here else { return };
                self.with_call(turn, there, |call, cx| call.take_caller(cx, here, codec));
                self.with_call(turn, here, |call, cx| {
                    call.hand_to_ringing(cx, there, codec, (referrer, number));
                });
            }
            Ok(JoinPlan::Join { codec }) => {
                self.with_call(turn, there, |call, cx| {
                    call.open_inner_leg(cx, here, codec, Some(drop_there), true)
                });
                self.with_call(turn, here, |call, cx| {
                    call.open_inner_leg(cx, there, codec, drop_here, false);
                    call.on_joined(cx, Ok(there));
                });
            }
        }
    }

    /// Only a dialog of the same party may be taken over, and only if two parties talk, or somebody
    /// is rung for that party.
    fn may_join(&self, join: &Join) -> Result<JoinPlan, Refusal> {
        let Join { here, drop_here, there, drop_there, ref replaces } = *join;
        let missing = || Refusal::new(481, "Replaces names no active call");
        let (a, b) =
            (self.calls.get(here).ok_or_else(missing)?, self.calls.get(there).ok_or_else(missing)?);
        b.leg_of(drop_there).filter(|leg| leg.is_named_by(replaces)).ok_or_else(missing)?;
        let rings = drop_here.is_some() && b.rings_for(drop_there);
        let talks = b.state() == CallPhase::Talking && b.uas().is_finished();
        if a.state() != CallPhase::Talking || a.has_transferor() || here == there {
            return Err(missing());
        }
        if !talks && !rings {
            return Err(missing());
        }
        if replaces.early_only && b.uas().is_finished() {
            return Err(Refusal::new(486, "the call to be replaced was answered already"));
        }
        let asking = a.party_of(drop_here.unwrap_or(a.caller().end));
        let owner = b.party_of(drop_there);
        if !same_party(asking, owner) {
            return Err(Refusal::new(
                403,
                "a call may be replaced by who is in it, and by nobody else",
            ));
        }
        if rings {
            let codec = match a.codec_kept(drop_here).ok_or_else(missing)? {
                Codec::Opus => Codec::Opus,
                _ => Codec::Pcmu,
            };
            return Ok(JoinPlan::HandOver { codec, number: b.number().to_owned() });
        }
        let codecs =
            a.codec_kept(drop_here).zip(b.codec_kept(Some(drop_there))).ok_or_else(missing)?;
        if let Some(plan) = self.pass(a, drop_here, b, drop_there) {
            return Ok(plan);
        }
        let codec = if codecs == (Codec::Opus, Codec::Opus) { Codec::Opus } else { Codec::Pcmu };
        Ok(JoinPlan::Join { codec })
    }

    /// Both parties that stay are behind one trunk that does transfers itself.
    fn pass(
        &self,
        a: &Call,
        drop_here: Option<LegId>,
        b: &Call,
        drop_there: LegId,
    ) -> Option<JoinPlan> {
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
        Some(JoinPlan::Pass { number: b.number().to_owned(), replaces })
    }
}

enum JoinPlan {
    Join {
        codec: Codec,
    },
    /// Nobody has answered the other call yet: the transferee hears it ring.
    HandOver {
        codec: Codec,
        number: String,
    },
    Pass {
        number: String,
        replaces: Replaces,
    },
}

fn same_party(a: Option<&Party>, b: Option<&Party>) -> bool {
    match (a, b) {
        (Some(Party::User { name: a, .. }), Some(Party::User { name: b, .. })) => a == b,
        (Some(Party::Trunk(a)), Some(Party::Trunk(b))) => a == b,
        _ => false,
    }
}
