//! What a negotiation settles for a leg, with what media alone needs.

use crate::sdp::offer_answer::Negotiated;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How digits reach an end's peer, and come from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Digits {
    /// telephone-events in RTP (RFC 4733).
    Events,
    /// By signalling: they are reported to the call.
    Signalled,
    /// As sound.
    Tones,
}

/// What an exchange settled, with what media alone needs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EndpointSettings {
    /// What was agreed.
    pub negotiated: Negotiated,
    /// libopus complexity for frames we encode towards this end.
    pub complexity: u8,
    /// How digits go to it.
    pub digits: Digits,
    /// Its peer needs packets without a pause: when its source has stopped, faint noise is sent.
    pub continuous: bool,
    /// When silence is reported.
    pub watch: MediaWatch,
}

/// How long silence lasts before it is reported to the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MediaWatch {
    /// Silence of an end that has sent; `None`: never. Senders that pause send RTCP meanwhile,
    /// every 5 s on average (RFC 3550 §6.2), and a question too many costs one OPTIONS.
    pub stopped: Option<Duration>,
    /// While that lasts, the time until it is reported again: a peer that lived then may have died
    /// since.
    pub again: Duration,
    /// Silence of all ends, and of an end that never sent; `None`: never.
    pub silent: Option<Duration>,
}

impl Default for MediaWatch {
    fn default() -> MediaWatch {
        let (stopped, again) = (Duration::from_secs(5), Duration::from_secs(30));
        MediaWatch { stopped: Some(stopped), again, silent: Some(again) }
    }
}

impl EndpointSettings {
    /// How a digit gets to the peer: as sound if it knows no events.
    pub(crate) fn sends_digits(&self) -> Digits {
        if self.digits == Digits::Events && self.negotiated.events.send.is_none() {
            Digits::Tones
        } else {
            self.digits
        }
    }
}
