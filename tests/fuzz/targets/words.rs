//! What a person types where one word is wanted: durations, names, addresses.

#![no_main]

#[path = "../properties/words.rs"]
mod words;

libfuzzer_sys::fuzz_target!(|data: &[u8]| words::check(data));
