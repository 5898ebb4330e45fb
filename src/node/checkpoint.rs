//! What a checkpoint of a call holds, as bytes.

use super::RECORDS;
use super::call_storage::unix;
use crate::boot;
use crate::call::CallId;
use crate::call::call_snapshot::CallSnapshot;
use crate::call::farewells::FarewellSnapshot;
use crate::call::tombstone::Tombstone;
use crate::state::checkpoints::Record;
use crate::trunk::TrunkBindingSnapshot;
use crate::worker::MediaSnapshot;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// After the name of a call: its media.
pub(super) const MEDIA: &str = ".media";

/// The form of what every version reads of a call: what follows it is this version's.
pub(super) const FORM: u8 = 1;

/// What every version reads of the first checkpoint of a call.
#[derive(Serialize, Deserialize)]
pub(super) enum Stable {
    /// It ended with this record.
    Ended { record: String },
    /// `taken`: by the clock of the boot, and since 1970. The call follows.
    Live { taken: (Duration, Duration), stone: Box<Tombstone> },
}

/// What the first checkpoint of a call holds.
pub(super) enum CallCheckpoint {
    Live {
        taken: (Duration, Duration),
        call: Box<CallSnapshot>,
    },
    /// Another version wrote it: it can only be ended.
    Foreign {
        taken: (Duration, Duration),
        call: Box<CallSnapshot>,
    },
    /// It ended with this record.
    Ended {
        record: String,
    },
}

/// The first checkpoint of a call that was taken then.
pub(super) fn live(taken: (Duration, Duration), call: &CallSnapshot) -> Vec<u8> {
    let stone = Box::new(Tombstone::from(call));
    let mut bytes = encoded(&(FORM, Stable::Live { taken, stone }));
    bytes.extend_from_slice(&encoded(call));
    bytes
}

/// The first checkpoint of a call that has ended.
pub(super) fn ended(record: String) -> Vec<u8> {
    encoded(&(FORM, Stable::Ended { record }))
}

/// What a call is called in the cluster's store, and its media.
pub(super) fn stored_names(id: CallId) -> [String; 2] {
    [format!("{:016x}", id.0), format!("{:016x}{MEDIA}", id.0)]
}

/// A value as the cluster's store has it: other nodes may run another version.
pub(super) fn to_store(value: &[u8]) -> Arc<[u8]> {
    [&RECORDS.to_be_bytes()[..], value].concat().into()
}

/// What [`to_store`] made at some node, just now.
pub(super) fn of_store(stored: &[u8]) -> Option<Record> {
    let (version, value) = stored.split_first_chunk::<2>()?;
    Some(match (u16::from_be_bytes(*version), value.to_vec()) {
        (RECORDS, value) => Record::Fresh(value),
        (version, value) => Record::UnknownVersion(version, value),
    })
}

/// Returns the call that a key of the cluster's store belongs to, and whether the key holds its
/// media.
pub(super) fn stored_call(name: &str) -> Option<(CallId, bool)> {
    let (id, media) = name.strip_suffix(MEDIA).map_or((name, false), |id| (id, true));
    Some((CallId(u64::from_str_radix(id, 16).ok()?), media))
}

pub(super) fn encoded(value: &impl Serialize) -> Vec<u8> {
    let bytes = postcard::to_stdvec(value);
    debug_assert!(bytes.is_ok());
    bytes.unwrap_or_default()
}

/// The form of the registration of a trunk.
const TRUNK_FORM: u8 = 2;

/// The checkpoint of a trunk's registration that was taken then.
pub(super) fn bound_trunk(taken: (Duration, Duration), bound: &TrunkBindingSnapshot) -> Vec<u8> {
    encoded(&(TRUNK_FORM, taken, bound))
}

/// A trunk's registration, and how long ago it was so. Every version reads it.
pub(super) fn read_trunk(record: Record) -> Option<(TrunkBindingSnapshot, Duration)> {
    let (bytes, same_boot) = match record {
        Record::Fresh(bytes) => (bytes, true),
        // Perhaps of another boot, whose clock says nothing now.
        Record::Stale(bytes) | Record::UnknownVersion(_, bytes) => (bytes, false),
    };
    let (form, (uptime, wall), bound): (u8, (Duration, Duration), TrunkBindingSnapshot) =
        postcard::from_bytes(&bytes).ok()?;
    let age = match same_boot {
        true => boot::uptime().saturating_sub(uptime),
        false => unix().saturating_sub(wall),
    };
    (form == TRUNK_FORM).then_some((bound, age))
}

/// The forms of goodbyes: of one that was sent, and of one that a browser is owed.
const SENT_FORM: u8 = 4;
const OWED_FORM: u8 = 5;

/// The checkpoint of a goodbye that was taken then.
pub(super) fn farewell(taken: (Duration, Duration), farewell: &FarewellSnapshot) -> Vec<u8> {
    match farewell {
        FarewellSnapshot::Sent(sent) => encoded(&(SENT_FORM, taken, sent)),
        FarewellSnapshot::Owed(owed) => encoded(&(OWED_FORM, taken, owed)),
    }
}

/// A goodbye, and how long ago it was open. Every version reads those it knows.
pub(super) fn read_farewell(record: Record) -> Option<(FarewellSnapshot, Duration)> {
    let (Record::Fresh(bytes) | Record::Stale(bytes) | Record::UnknownVersion(_, bytes)) = record;
    let (form, taken): (u8, (Duration, Duration)) = postcard::from_bytes(&bytes).ok()?;
    let farewell = match form {
        SENT_FORM => FarewellSnapshot::Sent(read_value(&bytes)?),
        OWED_FORM => FarewellSnapshot::Owed(read_value(&bytes)?),
        _ => return None,
    };
    Some((farewell, age(taken)))
}

/// What follows the form and the moment.
fn read_value<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (_, _, value): (u8, (Duration, Duration), T) = postcard::from_bytes(bytes).ok()?;
    Some(value)
}

/// How long ago a checkpoint was taken.
pub(super) fn age((uptime, wall): (Duration, Duration)) -> Duration {
    // The clock of the boot may have begun anew.
    boot::uptime().checked_sub(uptime).unwrap_or_else(|| unix().saturating_sub(wall))
}

/// What a first checkpoint holds, as far as this version can read it.
pub(super) fn read(record: Record) -> Option<CallCheckpoint> {
    let (bytes, ours) = match record {
        Record::Fresh(bytes) | Record::Stale(bytes) => (bytes, true),
        Record::UnknownVersion(_, bytes) => (bytes, false),
    };
    match postcard::take_from_bytes::<(u8, Stable)>(&bytes).ok()? {
        ((FORM, Stable::Ended { record }), _) => Some(CallCheckpoint::Ended { record }),
        ((FORM, Stable::Live { taken, stone }), rest) => {
            let call = ours.then(|| postcard::from_bytes(rest).ok()).flatten();
            Some(match call {
                Some(call) => CallCheckpoint::Live { taken, call: Box::new(call) },
                None => CallCheckpoint::Foreign { taken, call: Box::new((*stone).into()) },
            })
        }
        _ => None,
    }
}

/// The media of a call, if it may be continued.
///
/// # Errors
/// Why it cannot be continued with.
pub(super) fn media(record: Option<Record>, settled: bool) -> Result<MediaSnapshot, String> {
    let record = record.filter(|_| settled);
    match record {
        Some(Record::Fresh(bytes)) => {
            postcard::from_bytes(&bytes).map_err(|_| "its media cannot be read".to_owned())
        }
        // Under keys that may have been used beyond what is known, nothing is ever sent.
        Some(Record::Stale(_)) => Err("it was away for too long".to_owned()),
        Some(Record::UnknownVersion(..)) => Err("another version kept its media".to_owned()),
        None => Err("it was not yet answered, or was on its way to somebody else".to_owned()),
    }
}
