//! See `dir_fuzz::wire_walk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dir_fuzz::wire_walk(data));
