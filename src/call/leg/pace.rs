//! How much a peer may ask within its dialog, and how much is asked of it.

use super::Leg;
use crate::errors::Code;
use crate::sip::status::Refusal;
use std::time::{Duration, Instant};

/// Requests that a peer makes within its dialog in a second; more are refused.
const MOST_IN_SECOND: u32 = 50;
/// Digits, texts and packages that wait for the peer's answers; no more are passed on.
const MAX_UNANSWERED: usize = 64;

impl Leg {
    /// Counts one more request of its peer's within the dialog.
    ///
    /// # Errors
    /// 503: it has made those of this second.
    pub(in crate::call) fn take_request(&mut self, now: Instant) -> Result<(), Refusal> {
        let taken = self.requests.take_within(now, Duration::from_secs(1), MOST_IN_SECOND);
        taken.map_err(|_| {
            let why = format!(
                "{} has made its {MOST_IN_SECOND} requests of this second within the call",
                self.party
            );
            Refusal::new(503, why).code(Code::LIMIT).retry_after(1)
        })
    }

    /// Whether something more may be passed on to its peer.
    ///
    /// # Errors
    /// 503: it leaves too much unanswered.
    pub(in crate::call) fn takes_more(&self) -> Result<(), Refusal> {
        if self.unanswered < MAX_UNANSWERED {
            return Ok(());
        }
        let why = format!("{} has left {MAX_UNANSWERED} requests unanswered", self.party);
        Err(Refusal::new(503, why).code(Code::LIMIT).retry_after(5))
    }

    /// What was passed on to its peer was answered, or never will be.
    pub(in crate::call) fn answered_one(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// Another page takes its place, which has been asked nothing.
    pub(in crate::call) fn forget_unanswered(&mut self) {
        self.unanswered = 0;
    }
}
