#![no_main]
//! See `tests/support/fuzz.rs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| bytes::fuzz::check_in(data));
