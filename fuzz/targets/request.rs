//! See `inferscope::load::fuzzing`, which owns what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| inferscope::load::fuzzing::request(input));
