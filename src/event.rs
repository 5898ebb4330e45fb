//! What is worth a line: one event is one row of [the table](table), which says its log line, its
//! code, what the API sends of it and what the metrics count. No SIP message, no DTMF digit, no
//! secret.

#![deny(clippy::wildcard_enum_match_arm)]

mod phrases;
mod rows;
mod table;

use crate::cdr::{Cdr, Party};
use crate::errors::Code;
pub(crate) use crate::log_limit::Level;
use crate::printable::brief;
use serde_json::Value;
use std::fmt::{self, Display, Formatter};
pub use table::Event;
use tracing::{debug, error, info, warn};

/// Why a registration ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnregisterReason {
    /// Its connection closed.
    Closed,
    /// It was not refreshed.
    Expired,
    /// It unregistered.
    Asked,
}

impl UnregisterReason {
    /// For a reader.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            UnregisterReason::Closed => "its connection closed",
            UnregisterReason::Expired => "its registration ran out",
            UnregisterReason::Asked => "it asked for it",
        }
    }
}

/// The number and the name of a caller; either may be empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CallerIdentity {
    /// As dialled, or empty.
    pub number: String,
    /// As shown, or empty.
    pub name: String,
}

impl CallerIdentity {
    /// Those of a record.
    pub(crate) fn recorded(cdr: &Cdr) -> CallerIdentity {
        CallerIdentity { number: cdr.from_number.clone(), name: cdr.from_name.clone() }
    }

    /// `alice (+12065550100 "Alice")`: who calls, and what is known of them beyond that.
    fn of(&self, from: &Party) -> NamedCaller<'_> {
        NamedCaller { from: from.to_string(), number: &self.number, name: &self.name }
    }
}

struct NamedCaller<'a> {
    from: String,
    number: &'a str,
    name: &'a str,
}

impl Display for NamedCaller<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", brief(&self.from))?;
        let number = Some(self.number).filter(|n| !n.is_empty() && *n != self.from);
        match (number, self.name) {
            (None, "") => Ok(()),
            (None, name) => write!(f, " (\"{}\")", brief(name)),
            (Some(number), "") => write!(f, " ({})", brief(number)),
            (Some(number), name) => write!(f, " ({} \"{}\")", brief(number), brief(name)),
        }
    }
}

/// Makes the kinds from their names and what each says.
macro_rules! kinds {
    ($( $kind:ident $name:literal $when:literal, )*) => {
        /// What the API and webhooks call an event.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum EventKind { $( #[doc = $when] $kind, )* }

        impl EventKind {
            /// Every kind, in the order of the reference.
            pub const ALL: &[EventKind] = &[$( EventKind::$kind, )*];

            /// Returns its name: `call.started`.
            pub fn as_str(self) -> &'static str {
                match self { $( EventKind::$kind => $name, )* }
            }

            /// Returns when it is sent, as a sentence.
            pub fn when(self) -> &'static str {
                match self { $( EventKind::$kind => $when, )* }
            }
        }
    };
}

kinds! {
    CallStarted "call.started"
        "An INVITE was accepted as a call.",
    CallRefused "call.refused"
        "An INVITE was refused before it became a call.",
    CallRinging "call.ringing"
        "The callee's side is ringing.",
    CallAnswered "call.answered"
        "The call is answered.",
    CallQuality "call.quality"
        "Figures of one leg, every 2.5 to 7.5 s.",
    CallWarning "call.warning"
        "Something is wrong with an active call.",
    CallEnded "call.ended"
        "A call has ended; the data is its record.",
    RegistrationAdded "registration.added"
        "A browser has registered.",
    RegistrationRemoved "registration.removed"
        "A registration has ended.",
    LoginRefused "login.refused"
        "A login was refused: a wrong password, expired credentials, or a locked-out address. Each \
         source is reported once in 10 s; `more` counts its refusals since the last event.",
    FraudBraked "fraud.braked"
        "The brake on toll fraud holds a user; sent once an hour for each user, however many of \
         its calls are refused.",
    TrunkUp "trunk.up"
        "A trunk is up.",
    TrunkDown "trunk.down"
        "A trunk is down or disabled.",
    NodeUp "node.up"
        "Another node of the cluster is there.",
    NodeTakenOver "node.taken_over"
        "This node took over the calls of one that is gone: how many continue, how many have ended.",
    NodeDown "node.down"
        "Another node of the cluster has not renewed its lease.",
    StoreAway "store.away"
        "The store of the cluster cannot be reached.",
    StoreBack "store.back"
        "The store of the cluster is back; everything is written again.",
    ConfigReloaded "config.reloaded"
        "A new configuration is active.",
    AddressesChanged "addresses.changed"
        "The public address has changed; new calls use the new one.",
    DrainStarted "drain.started"
        "New calls are refused from now on.",
    DrainFinished "drain.finished"
        "The last call of a drain has ended, or an operator ended the drain.",
}

/// What the API and webhooks send of an event.
#[derive(Debug)]
pub(crate) enum Data<'a> {
    Json(Value),
    /// A warning of a call: its call, its code and its text.
    Warning,
    /// The record of a call, in the words of the journal.
    Record(&'a Cdr),
}

/// How a registration was lost that nobody ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LostBy {
    Closed,
    Expired,
}

/// What the metrics make of an event.
#[derive(Debug)]
pub(crate) enum Counted<'a> {
    Nothing,
    CallEnded(&'a Cdr),
    CallRefused(Code),
    /// `trunk`: the silent leg is a trunk's, not a browser's.
    OneWay {
        trunk: bool,
    },
    FlowLost(LostBy),
    LoginRefused,
}

/// `call 7f3a91c2 ` before the text of a line about one; at its end with who called whom, which the
/// ladder need not repeat.
struct OfCall<'a>(&'a Event);

impl Display for OfCall<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(call) = self.0.call() else { return Ok(()) };
        write!(f, "call {call} ")?;
        let Event::CallEnded { cdr } = self.0 else { return Ok(()) };
        // Its end is reported in the words of its record.
        let from = cdr.from.as_caller();
        let from = NamedCaller { from, number: &cdr.from_number, name: &cdr.from_name };
        let to = if cdr.number.is_empty() { &cdr.dialled } else { &cdr.number };
        write!(f, "{from} → {}  ", brief(to))
    }
}

impl Event {
    /// Writes its line to the log; nothing is formatted that is not written.
    pub(crate) fn log(&self) {
        let call = OfCall(self);
        let code = Some(self.code()).filter(|c| c.is_fault());
        // The sender cannot be asked, so the line itself has the fix.
        let fix =
            code.filter(|_| matches!(self, Event::LoginRefused { .. } | Event::FraudBraked { .. }));
        let fix = fix.and_then(|c| Some(c.entry()?.fix.as_str()));
        let code = code.map(|c| c.to_string());
        match self.level() {
            Level::Debug => debug!("{call}{self}"),
            Level::Info => info!(code, "{call}{self}"),
            Level::Warn => warn!(code, fix, "{call}{self}"),
            Level::Error => error!(code, "{call}{self}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CallId;

    #[test]
    fn a_silent_user_named_like_a_trunk_is_a_browser() {
        let user = Party::User { name: "trunk-desk".into(), instance: None };
        for (who, trunk) in [(user, false), (Party::Trunk("t1".into()), true)] {
            let event = Event::OneWay { call: CallId(1), who };
            assert!(matches!(event.counted(), Counted::OneWay { trunk: t } if t == trunk));
        }
    }
}
