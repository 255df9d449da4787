//! See `dir_fuzz::certificate_leaf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dir_fuzz::certificate_leaf(data));
