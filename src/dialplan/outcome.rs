//! What came of a ring or dial step, and which steps are there for it.

use super::Step;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why nobody answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// It rang, and nobody answered in time.
    Timeout,
    /// Nobody could be rung: not registered, or the connection was gone.
    Unregistered,
    /// 486 or 600.
    Busy,
    /// The person said no: 603, 607, 403.
    Declined,
    /// Anything else.
    Failed,
}

impl Outcome {
    /// All of them.
    pub(crate) const ALL: [Outcome; 5] = [
        Outcome::Timeout,
        Outcome::Unregistered,
        Outcome::Busy,
        Outcome::Declined,
        Outcome::Failed,
    ];

    /// Its word in a dialplan.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Outcome::Timeout => "timeout",
            Outcome::Unregistered => "unregistered",
            Outcome::Busy => "busy",
            Outcome::Declined => "declined",
            Outcome::Failed => "failed",
        }
    }

    /// The one with this word.
    pub(crate) fn from_word(word: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|o| o.as_str() == word)
    }

    /// What a final status of who was called says.
    pub(crate) fn of_status(status: u16) -> Outcome {
        match status {
            486 | 600 => Outcome::Busy,
            403 | 603 | 607 | 608 => Outcome::Declined,
            // 480 is what phones say that rang long enough, or are not to be disturbed.
            408 | 480 | 487 => Outcome::Timeout,
            430 => Outcome::Unregistered,
            _ => Outcome::Failed,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The outcomes of one step: of several phones each may have had its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcomes(u8);

impl Outcomes {
    /// One more.
    pub(crate) fn add(&mut self, outcome: Outcome) {
        self.0 |= 1 << outcome as u8;
    }

    /// Whether this one is among them.
    pub(crate) fn has(self, outcome: Outcome) -> bool {
        self.0 & (1 << outcome as u8) != 0
    }

    /// Whether a step is there for them. One that names outcomes runs for those, and only once
    /// there are any. Of the others a hangup leaves alone what the person called said: busy stays
    /// busy, and no stays no.
    pub(crate) fn admit(self, step: &Step) -> bool {
        match step {
            Step::On { outcomes, .. } => outcomes.iter().any(|o| self.has(*o)),
            Step::Hangup(_) => !self.has(Outcome::Busy) && !self.has(Outcome::Declined),
            _ => true,
        }
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> =
            Outcome::ALL.into_iter().filter(|o| self.has(*o)).map(Outcome::as_str).collect();
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_runs_for_its_outcomes_and_a_hangup_not_over_a_persons_word() {
        let on = |outcomes: &[Outcome]| Step::On {
            outcomes: outcomes.to_vec(),
            step: Box::new(Step::Hangup(480)),
        };
        let none = Outcomes::default();
        assert!(none.admit(&Step::Hangup(480)) && !none.admit(&on(&Outcome::ALL)));
        for outcome in Outcome::ALL {
            let mut one = Outcomes::default();
            one.add(outcome);
            assert_eq!(Outcome::from_word(outcome.as_str()), Some(outcome));
            assert!(one.admit(&on(&[outcome])) && one.admit(&Step::Answer));
            assert_eq!(one.admit(&on(&[Outcome::Busy])), outcome == Outcome::Busy);
            let said = matches!(outcome, Outcome::Busy | Outcome::Declined);
            assert_eq!(one.admit(&Step::Hangup(480)), !said, "{outcome}");
            assert_eq!(one.to_string(), outcome.as_str());
        }
        assert_eq!(Outcome::from_word("sometimes"), None);
    }
}
