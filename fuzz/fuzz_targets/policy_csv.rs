//! See `dir_fuzz::policy_csv`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dir_fuzz::policy_csv(data));
