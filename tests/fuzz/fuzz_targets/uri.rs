#![no_main]
use webtrunk::fuzzing::Target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| Target::named("uri").check(bytes));
