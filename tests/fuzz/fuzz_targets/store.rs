#![no_main]
use webtrunk::fuzzing::FuzzTarget;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| FuzzTarget::named("store").check(bytes));
