//! See `dir_fuzz::spiffe_id`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dir_fuzz::spiffe_id(data));
