//! See `dir_fuzz::bundle_jwks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dir_fuzz::bundle_jwks(data));
