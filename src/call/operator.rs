//! What the API does to a call that goes on: digits, handing a party over, parting the two for a
//! while.

use super::transfer::{Transfer, Watcher};
use super::{Call, Desk, State};
use crate::media::EndId;
use crate::media::player::Source;
use crate::rtp::event::event_of;
use crate::sip::status::Reject;
use crate::worker::Command;
use std::time::Duration;

/// How long a digit of ours is pressed.
const PRESSED: Duration = Duration::from_millis(160);

/// A party of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Caller,
    Callee,
}

impl Call {
    fn end_of(&self, side: Side) -> Option<EndId> {
        match side {
            Side::Caller => Some(self.a.end),
            Side::Callee => self.opposite(self.a.end),
        }
    }

    /// Whether an operator may do something to its two parties now.
    ///
    /// # Errors
    /// 409 with the reason.
    pub fn talks(&self, side: Side) -> Result<EndId, Reject> {
        let end = self.end_of(side).filter(|_| {
            self.state == State::Talking && self.transfer.is_none() && self.link.is_none()
        });
        end.ok_or_else(|| {
            Reject::new(409, "there are no two parties that talk, or a transfer is under way")
        })
    }

    /// Presses digits towards one side, one after the other, in the way it takes them.
    ///
    /// # Errors
    /// Nobody talks, or a character is no digit.
    pub fn press(&mut self, desk: &mut Desk<'_>, side: Side, digits: &str) -> Result<(), Reject> {
        let end = self.talks(side)?;
        let events: Option<Vec<u8>> = digits.chars().map(event_of).collect();
        let events = events
            .filter(|e| !e.is_empty() && e.len() <= 64)
            .ok_or_else(|| Reject::new(400, "digits are 1 to 64 of 0-9, *, # and A-D"))?;
        events.into_iter().for_each(|event| self.send_digit(desk, end, event, PRESSED));
        Ok(())
    }

    /// Connects `side` with a number, as if the other party had asked for it; that one is let go
    /// once it is answered.
    ///
    /// # Errors
    /// Nobody talks, or no route leads there.
    pub fn hand_over(&mut self, desk: &mut Desk<'_>, side: Side, to: &str) -> Result<(), Reject> {
        self.talks(side)?;
        let leaving = self.end_of(if side == Side::Caller { Side::Callee } else { Side::Caller });
        let leaving =
            leaving.ok_or_else(|| Reject::new(409, "there is nobody to hand over from"))?;
        let found = self.route_for(desk, leaving, to)?;
        self.hand_to(desk, Transfer::unwatched(Watcher::nobody(leaving)), found);
        Ok(())
    }

    /// Parts the two, who then hear a tune, or joins them again.
    ///
    /// # Errors
    /// Nobody talks.
    pub fn part(&mut self, desk: &mut Desk<'_>, parted: bool) -> Result<(), Reject> {
        let (a, b) = (self.talks(Side::Caller)?, self.talks(Side::Callee)?);
        if std::mem::replace(&mut self.parted, parted) == parted {
            return Ok(());
        }
        let session = self.id.0;
        if parted {
            [a, b].into_iter().for_each(|end| {
                desk.media(self.worker, Command::Play { session, end, source: Source::Tune })
            });
        } else {
            desk.media(self.worker, Command::Bridge { session, a, b });
        }
        Ok(())
    }
}
