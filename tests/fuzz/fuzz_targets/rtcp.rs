//! Compound RTCP.
#![no_main]
use libfuzzer_sys::fuzz_target;
use std::time::Instant;
use webtrunk::rtp::report::{ReceiverStats, read};

fuzz_target!(|bytes: &[u8]| {
    let mut reception = ReceiverStats::new(1);
    let _ = read(Instant::now(), 1 << 40, bytes, 7, Some(&mut reception));
});
