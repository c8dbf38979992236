//! Fuzzes the property in `properties/words.rs`.

#![no_main]

#[path = "../properties/words.rs"]
mod words;

libfuzzer_sys::fuzz_target!(|data: &[u8]| words::check(data));
