//! What the fuzz targets call: every parser that reads bytes from outside, behind one signature,
//! with a bound of its time. Compiled under `cargo fuzz` and in tests; part of no binary.
//!
//! `tests/fuzz` has a target of each name in [`TARGETS`]; the tests below run each of them over its
//! seeds and some thousand mutations of them.

mod signalling;
mod web;
mod wire;

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// A parser, and how long it may take.
#[derive(Clone, Copy)]
pub struct FuzzTarget {
    /// Its name, and that of its file in `tests/fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Reads `bytes`; panics if something does not hold.
    pub run: fn(&[u8]),
    /// Microseconds of processor time that a kilobyte may take.
    pub micros_per_kilobyte: u32,
}

const fn target(name: &'static str, micros_per_kilobyte: u32, run: fn(&[u8])) -> FuzzTarget {
    FuzzTarget { name, run, micros_per_kilobyte }
}

/// All of them.
pub const TARGETS: &[FuzzTarget] = &[
    target("sip", 2_000, signalling::sip),
    target("address", 1_000, signalling::address),
    target("via", 1_000, signalling::via),
    target("headers", 2_000, signalling::headers),
    target("digest", 2_000, signalling::digest),
    target("multipart", 2_000, signalling::multipart),
    target("uri", 1_000, signalling::uri),
    target("sdp", 4_000, signalling::sdp),
    target("crypto", 1_000, signalling::crypto),
    target("stun", 2_000, wire::stun),
    target("rtp", 2_000, wire::rtp),
    target("rtcp", 1_000, wire::rtcp),
    target("event", 500, wire::event),
    target("framing", 500, wire::framing),
    target("dtls", 20_000, wire::dtls),
    target("snapshot", 20_000, wire::snapshot),
    target("websocket", 4_000, web::websocket),
    target("pattern", 4_000, web::pattern),
    target("config", 20_000, web::config),
    target("token", 10_000, web::token),
    target("grant", 10_000, web::grant),
    target("api", 4_000, web::api),
    target("checkpoint", 1_000, web::checkpoint),
    target("store", 4_000, web::store),
];

/// What any input may take, however short: sanitizers, first allocations, a key derivation.
const FIXED: Duration = Duration::from_millis(20);

/// Processor time of this thread: what else the machine does is not counted.
fn time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

impl FuzzTarget {
    /// The one of this name.
    ///
    /// # Panics
    /// If there are none.
    pub fn named(name: &str) -> FuzzTarget {
        *TARGETS.iter().find(|t| t.name == name).expect("a target of that name")
    }

    /// Runs it once, or again if it seemed slow: a cache may have been cold.
    ///
    /// # Panics
    /// If something does not hold, or it took longer than its bound three times.
    pub fn check(self, bytes: &[u8]) {
        let kilobytes = u32::try_from(bytes.len().div_ceil(1024)).expect("a short input");
        let bound = FIXED + Duration::from_micros(self.micros_per_kilobyte.into()) * kilobytes;
        let mut took = Duration::ZERO;
        for _ in 0..3 {
            let begin = time();
            (self.run)(bytes);
            took = time().saturating_sub(begin);
            if took <= bound * SLOWER {
                return;
            }
        }
        panic!("{}: {} bytes took {took:?}, more than {bound:?}", self.name, bytes.len());
    }
}

/// Unoptimized tests are slower.
const SLOWER: u32 = if cfg!(fuzzing) { 1 } else { 10 };

#[cfg(test)]
mod tests;
