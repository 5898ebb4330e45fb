//! Goodbyes on disk: those that wait for their answers, for the process after this one.

use super::call_storage::unix;
use super::checkpoint::{farewell as bytes_of, read_farewell};
use crate::boot;
use crate::call::Output;
use crate::gateway::Gateway;
use crate::sip::transaction::T1X64;
use crate::state::checkpoints::{CheckpointEntry, Checkpoints, FAREWELL};
use std::time::Instant;

/// Puts the goodbyes that wait for their answers.
pub(super) fn put(checkpoints: &Checkpoints, gateway: &mut Gateway) {
    if gateway.has_urgent_farewells() {
        checkpoints.hurry();
    }
    for (name, farewell) in gateway.changed_farewells(Instant::now()) {
        let slot = checkpoints.slot(&format!("{FAREWELL}{name}"));
        match farewell {
            Some(farewell) => {
                slot.put(bytes_of((boot::uptime(), unix()), &farewell), T1X64);
            }
            None => slot.remove(),
        }
    }
}

/// Says goodbyes of an earlier process again that nobody had answered.
pub(super) fn say_again(
    (checkpoints, gateway): (&Checkpoints, &mut Gateway),
    found: Vec<CheckpointEntry>,
    out: &mut Vec<Output>,
) {
    let now = Instant::now();
    for CheckpointEntry { name, record } in found {
        let said =
            read_farewell(record).is_some_and(|farewell| gateway.say_farewell(now, farewell, out));
        if !said {
            checkpoints.slot(&name).remove();
        }
    }
}
