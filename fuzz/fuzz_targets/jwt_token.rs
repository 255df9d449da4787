//! See `dir_fuzz::jwt_token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dir_fuzz::jwt_token(data));
