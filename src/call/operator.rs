//! What the API does to a call that continues: digits, handing a party over, parting the two for a
//! while.

use super::transfer_state::{ReferSubscription, Transfer};
use super::{Call, CallContext, CallPhase};
use crate::media::LegId;
use crate::rtp::event::event_of;
use crate::sip::status::Refusal;
use std::time::Duration;

/// How long a digit of ours is pressed.
const PRESSED: Duration = Duration::from_millis(160);

/// A party of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PartyRole {
    /// Who called.
    Caller,
    /// Who was called.
    Callee,
}

impl Call {
    fn end_of(&self, side: PartyRole) -> Option<LegId> {
        match side {
            PartyRole::Caller => Some(self.caller.end),
            PartyRole::Callee => self.opposite(self.caller.end),
        }
    }

    /// Whether an operator may do something to its two parties now.
    ///
    /// # Errors
    /// 409 with the reason.
    pub(crate) fn talks(&self, side: PartyRole) -> Result<LegId, Refusal> {
        let end = self.end_of(side).filter(|_| {
            self.state == CallPhase::Talking
                && !self.transfer.is_under_way()
                && self.joined.is_none()
        });
        end.ok_or_else(|| {
            Refusal::new(409, "there are no two parties that talk, or a transfer is under way")
        })
    }

    /// Presses digits towards one side, one after the other, in the way it takes them.
    ///
    /// # Errors
    /// Nobody talks, or a character is no digit.
    pub(crate) fn press(
        &mut self,
        cx: &mut CallContext<'_>,
        side: PartyRole,
        digits: &str,
    ) -> Result<(), Refusal> {
        let end = self.talks(side)?;
        let events: Option<Vec<u8>> = digits.chars().map(event_of).collect();
        let events = events
            .filter(|e| !e.is_empty() && e.len() <= 64)
            .ok_or_else(|| Refusal::new(400, "digits are 1 to 64 of 0-9, *, # and A-D"))?;
        events.into_iter().for_each(|event| self.send_digit(cx, end, event, PRESSED));
        Ok(())
    }

    /// Connects `side` with a number, as if the other party had asked for it; that one is let go
    /// once it is answered.
    ///
    /// # Errors
    /// Nobody talks, or no route leads there.
    pub(crate) fn hand_over(
        &mut self,
        cx: &mut CallContext<'_>,
        side: PartyRole,
        to: &str,
    ) -> Result<(), Refusal> {
        self.talks(side)?;
        let leaving = self.end_of(if side == PartyRole::Caller {
            PartyRole::Callee
        } else {
            PartyRole::Caller
        });
        let leaving =
            leaving.ok_or_else(|| Refusal::new(409, "there is nobody to hand over from"))?;
        let (context, route, number) = self.route_for(cx, leaving, to)?;
        let transfer = Transfer::new(ReferSubscription::nobody(leaving));
        self.hand_to(cx, transfer, context, route, number);
        Ok(())
    }

    /// Separates the two, who then hear a tune, or joins them again.
    ///
    /// # Errors
    /// Nobody talks.
    pub(crate) fn separate(
        &mut self,
        cx: &mut CallContext<'_>,
        apart: bool,
    ) -> Result<(), Refusal> {
        let (a, b) = (self.talks(PartyRole::Caller)?, self.talks(PartyRole::Callee)?);
        self.media.hold(cx, (a, b), apart);
        Ok(())
    }
}
